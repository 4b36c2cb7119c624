"""``probe`` and ``record``: what is on a port, and every read once to keep what it said."""

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from sunmesh import clock
from sunmesh.errors import FrameError, TransportError

from . import codec, frames, tables
from .config import MeterDevice
from .tables import Block
from .transport import Link, NoAnswer, bus_of

LINES: tuple[tuple[int, Literal["N", "E", "O"]], ...] = (
    (9600, "N"),
    (2400, "N"),
    (9600, "E"),
    (2400, "E"),
)
"""Speed and parity in the order in which they are tried: as delivered first."""

HELLO = Block(tables.FREQUENCY, 2)
"""What every SDM answers."""

HOLDING = (
    *(Block(at, 2, tables.READ_HOLDING) for at in (0x000C, 0x0012, 0x0014, 0x001C, 0x0056, 0xF930)),
    tables.MODE,
    tables.SERIAL,
    tables.VERSION,
)


def scan(config: MeterDevice, addresses: Sequence[int], *, lines: bool) -> dict[str, Any]:
    """Who answers on the port.

    Args:
        config: of the port; its model is not used.
        addresses: that are asked.
        lines: try other speeds and parities where nobody answers.

    Raises:
        TransportError: the port cannot be opened, or nobody answers.
    """
    tries = [(config.baud, config.parity)]
    if lines and "://" not in (config.port or ""):
        tries += [line for line in LINES if line not in tries]
    for baud, parity in tries:
        line = msgspec.structs.replace(config, baud=baud, parity=parity)
        bus = bus_of(line, "collector-meter probe")
        found = [meter for at in addresses if (meter := _look(Link(bus, at)))]
        if found:
            return {"port": config.port, "baud": baud, "parity": parity, "meters": found}
    tried = ", ".join(f"{baud} 8{parity}1" for baud, parity in tries)
    raise TransportError(f"{config.port}: nobody answers at {tried}")


def _look(link: Link) -> dict[str, Any] | None:
    """What answers at the link's address; None for silence."""
    link.open()
    try:
        try:
            pair = link.read(HELLO)
        except NoAnswer:
            return None
        except FrameError as err:
            return {"address": link.unit, "error": err.kind, "detail": err.detail}
        result: dict[str, Any] = {"address": link.unit}
        try:
            result["word_order"] = codec.word_order(*pair)
        except FrameError as err:
            return result | {"error": err.kind, "detail": err.detail}
        result["serial"] = _serial(link)
        result["phases"] = _phases(link, result["word_order"])
        result["values"] = _values(link, result["phases"], result["word_order"])
        return result
    finally:
        link.close()


def _serial(link: Link) -> str | None:
    try:
        return codec.serial_of(link.read(tables.SERIAL))
    except (FrameError, NoAnswer):
        return None


def _phases(link: Link, order: codec.WordOrder) -> int | None:
    """3 where an SDM630 shows its average voltage, which single-phase meters read as zero."""
    try:
        registers = codec.numbered(0x002A, link.read(Block(0x002A, 2)))
        value = codec.decode(tables.MODELS["SDM630"], registers, order)["grid_voltage_v"]
    except (FrameError, NoAnswer):
        return None
    return 3 if value else 1


def _values(link: Link, phases: int | None, order: codec.WordOrder) -> dict[str, float]:
    """What it measures now, as far as its number of phases says which meter it may be."""
    model = tables.MODELS["SDM630" if phases == 3 else "SDM230"]
    values: dict[str, float] = {}
    for block in model.fast:
        try:
            registers = codec.numbered(block.address, link.read(block))
            values |= codec.decode(model, registers, order)
        except (FrameError, NoAnswer):
            continue
    return values


def record(config: MeterDevice) -> list[dict[str, Any]]:
    """One capture record for each read of the model; the serial number blanked.

    Raises:
        TransportError: nobody answers, or the port cannot be opened.
    """
    model = tables.MODELS[config.model]
    link = Link(bus_of(config, "collector-meter record"), config.address)
    source = f"recorded {clock.iso(clock.now())[:10]} by collector-meter record"
    records = []
    link.open()
    try:
        link.bus.exchange(link.unit, HELLO)  # nobody there: say so at once
        for block in (*model.fast, *model.slow, *HOLDING):
            try:
                request, raw = link.bus.exchange(link.unit, block)
            except NoAnswer:
                continue
            if link.protocol == frames.Tcp.name:  # as the meter itself would have sent it
                request, raw = _as_rtu(request), _as_rtu(raw)
            records.append(capture(config, request, raw) | {"source": source})
    finally:
        link.close()
    return records


def overheard(config: MeterDevice, request: bytes, raw: bytes) -> dict[str, Any]:
    """The record of an answer that the running collector got; ``error`` where it says nothing."""
    if urlsplit(config.port or "").scheme == "tcp":
        request, raw = _as_rtu(request), _as_rtu(raw) if raw else raw
    result = {**capture(config, request, raw), "role": config.role, "invert": config.invert}
    try:
        frames.Rtu().registers(request, raw)
    except FrameError as err:
        if err.kind != "exception":
            result["error"] = err.kind
    return result


def _as_rtu(frame: bytes) -> bytes:
    """A frame of Modbus TCP without its header and with a checksum."""
    return frame[6:] + frames.crc(frame[6:])


def capture(config: MeterDevice, request: bytes, raw: bytes) -> dict[str, Any]:
    """The record of one answer, as far as it says what was on the wire."""
    result: dict[str, Any] = {
        "model": config.model,
        "firmware": None,
        "request": request.hex(" "),
        "reply": raw.hex(" "),
        "note": "",
    }
    if request[1:4] == bytes([3, 0xFC, 0x00]) and len(raw) > 5:
        shown = [f"{byte:02x}" for byte in raw]
        shown[3:] = ["xx"] * (len(raw) - 3)
        result |= {"reply": " ".join(shown), "note": "serial number and checksum blanked"}
    return result
