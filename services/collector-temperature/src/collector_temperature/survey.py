"""``probe`` and ``record``: every sensor of a bus once, to see them and to keep what they said."""

from pathlib import Path
from typing import Any

from sunmesh import clock
from sunmesh.errors import FrameError, TransportError

from . import codec
from .transport import Bus


def survey(root: Path) -> list[dict[str, Any]]:
    """Each sensor on the bus with what it says, or why it says nothing.

    Raises:
        TransportError: there is no bus.
    """
    bus = Bus(root)
    found: list[dict[str, Any]] = []
    for rom in bus.sensors():
        record: dict[str, Any] = {"rom": rom, "model": codec.model(rom)}
        try:
            pad = codec.read(bus.read(rom))
            record |= {"temperature_c": pad.celsius, "resolution_bits": pad.resolution_bits}
        except FrameError as err:
            record |= {"error": err.kind, "detail": err.detail}
        except TransportError as err:
            record |= {"error": "no_answer", "detail": str(err)}
        found.append(record)
    return found


def record(root: Path, model: str) -> list[dict[str, Any]]:
    """One capture record for each sensor, the number in its ROM blanked.

    Raises:
        TransportError: there is no bus, or a sensor left it.
    """
    bus = Bus(root)
    taken = clock.iso(clock.now())[:10]
    return [
        {
            "origin": "real-anonymised",
            "model": model or codec.model(rom),
            "firmware": None,
            "source": f"recorded {taken} by collector-temperature record",
            **_blanked(rom, bus.read(rom)),
        }
        for rom in bus.sensors()
    ]


def _blanked(rom: str, text: str) -> dict[str, str]:
    return {
        "note": "the number in the sensor's ROM is blanked",
        "device": rom[:3] + "x" * 12,
        "text": text,
    }


def overheard(rom: str, text: str) -> dict[str, str]:
    """The record of a text that the running collector read; ``error`` where it says nothing."""
    result = {"origin": "real-anonymised", **_blanked(rom, text)}
    try:
        codec.read(text)
    except FrameError as err:
        result["error"] = err.kind
    return result
