"""``probe`` and ``record``: every known register once, to see a controller and to keep its answers.

A PL has no serial number: nothing needs to be blanked.
"""

from typing import Any

from sunmesh import clock
from sunmesh.errors import FrameError

from . import codec, tables
from .codec import EEPROM, RAM
from .config import Pl80Device
from .service import Pl80
from .transport import Link, port_of

LIVE = sorted({at for row in codec.ROWS for at in row.needs} | {46, 47})


def survey(config: Pl80Device) -> dict[str, Any]:
    """Who is on the port, and what it measures.

    Raises:
        TransportError: nobody answers, or the port cannot be opened.
        FrameError: what answers is no PLI.
    """
    link = Link(port_of(config, "collector-pl80 probe"), config.baud)
    source = Pl80(config, link)
    try:
        info = source.open()
        values = source.poll().values
    finally:
        link.close()
    return {
        "protocol": info.protocol,
        "model": info.model,
        "nameplate": info.nameplate,
        "values": values,
    }


def record(config: Pl80Device, model: str) -> list[dict[str, Any]]:
    """One capture record for each register: what was asked, and what came, damaged or not.

    Raises:
        TransportError: nobody answers, or the port cannot be opened.
        FrameError: what answers is no PLI.
    """
    link = Link(port_of(config, "collector-pl80 record"), config.baud)
    try:
        info = Pl80(config, link).open()
        taken = clock.iso(clock.now())[:10]
        about = {
            "origin": "real",
            "model": model or info.model,
            "firmware": None,
            "source": f"recorded {taken} by collector-pl80 record",
            "note": "",
        }
        asked = [
            (codec.LOOPBACK, 0),
            *((RAM, address) for address in LIVE),
            *((EEPROM, address) for address in range(14, tables.END)),
        ]
        return [_record(link, command, address) | about for command, address in asked]
    finally:
        link.close()


def _record(link: Link, command: int, address: int) -> dict[str, Any]:
    """One exchange as it went, with what it decodes to, if to anything."""
    result = overheard(codec.request(command, address), link.exchange(command, address))
    if "error" in result:
        result["damage"] = result.pop("error")
    return result


def overheard(sent: bytes, raw: bytes) -> dict[str, Any]:
    """The record of an exchange, also of the running collector; ``error`` where it says nothing."""
    result: dict[str, Any] = {"tx": list(sent), "rx": list(raw)}
    try:
        codec.value(raw, sent)
    except FrameError as err:
        result["error"] = err.kind
    return result
