"""``probe`` and ``record``: every query once, to see what a device is and to keep what it said."""

import re
from typing import Any

from sunmesh import clock
from sunmesh.errors import FrameError, TransportError

from . import codec
from .config import AxpertDevice
from .service import DIALECTS, Axpert
from .transport import Link, port_of

QUERIES = {
    "PI30": (
        *("QPI", "QID", "QSID", "QVFW", "QVFW2", "QVFW3", "QMN", "QGMN", "QPIGS", "QPIGS2"),
        *("QPIRI", "QMOD", "QPIWS", "QFLAG", "QDI", "QMCHGCR", "QMUCHGCR", "QOPM", "QT"),
        *("QET", "QLT", "QBEQI", "QPGS0", "Q1"),
    ),
    "PI18": (
        *("^P005PI", "^P005ID", "^P006VFW", "^P004T", "^P005GS", "^P007PIRI", "^P006MOD"),
        *("^P005FWS", "^P007FLAG", "^P005DI", "^P009MCHGCR", "^P010MUCHGCR", "^P005ET"),
    ),
}
SILENT_IN_A_ROW = 2
"""After so many queries without any answer the device is gone."""

SECRETS = {
    "QID": re.compile(rb"[0-9A-Za-z]+"),
    "QSID": re.compile(rb"[0-9A-Za-z]+"),
    "^P005ID": re.compile(rb"[0-9A-Za-z]+"),
    "QPGS0": re.compile(rb"[0-9A-Za-z]{10,}"),
}
"""Answers that hold a serial number, and what it looks like there."""


def survey(config: AxpertDevice) -> dict[str, Any]:
    """Who is on the port, and what each query answers: values, or why there are none.

    Raises:
        TransportError: nobody answers, or the port cannot be opened.
    """
    link = Link(port_of(config, "collector-axpert probe"))
    try:
        info = Axpert(config, link).open()
        answers: dict[str, Any] = {}
        for command, raw in _exchange_all(link, info.protocol or ""):
            try:
                answers[command] = codec.decode(command, raw)
            except FrameError as err:
                answers[command] = {"error": err.kind, "detail": err.detail}
    finally:
        link.close()
    return {
        "protocol": info.protocol,
        "model": info.model,
        "serial": info.serial,
        "firmware": info.firmware,
        "answers": answers,
    }


def record(config: AxpertDevice, model: str) -> list[dict[str, Any]]:
    """One capture record for each query, serial numbers blanked.

    Blanked bytes, and the checksum over them, are ``xx`` in ``hex``: such a record shows the
    shape and cannot be mistaken for an answer that a device sent.

    Raises:
        TransportError: nobody answers, or the port cannot be opened.
    """
    link = Link(port_of(config, "collector-axpert record"))
    try:
        info = Axpert(config, link).open()
        taken = clock.iso(clock.now())[:10]
        source = f"recorded {taken} by collector-axpert record, firmware {info.firmware}"
        return [
            capture(command, raw) | {"model": model or info.model, "source": source}
            for command, raw in _exchange_all(link, info.protocol or "")
        ]
    finally:
        link.close()


def capture(command: str, raw: bytes) -> dict[str, Any]:
    """The record of one answer, as far as it says what was on the wire."""
    result: dict[str, Any] = {"command": command, "hex": raw.hex()}
    try:
        codec.unframe(raw, command)
        result["crc"] = "ok"
    except FrameError as err:
        result["crc"] = err.kind
    if command in SECRETS and result["crc"] != "nak":
        return result | _blanked(raw, command, whole=result["crc"] != "ok")
    return result


def overheard(command: str, raw: bytes) -> dict[str, Any]:
    """The record of an answer that the running collector got; ``error`` where it says nothing."""
    result = capture(command, raw)
    try:
        codec.decode(command, raw)
    except FrameError as err:
        if err.kind not in ("nak", "unsupported"):
            result["error"] = err.kind
    return result


def _blanked(raw: bytes, command: str, *, whole: bool) -> dict[str, Any]:
    """``hex`` with ``xx`` for serial number and checksum; for all of it where it is damaged."""
    start = 5 if command.startswith("^") else 1  # ^Dnnn, or the bracket
    end = len(raw.rstrip(b"\0\r\n")) - 2
    hidden = set(range(len(raw)) if whole else (end, end + 1))
    for match in SECRETS[command].finditer(raw, start, end):
        hidden.update(range(*match.span()))
    return {
        "hex": "".join("xx" if at in hidden else f"{byte:02x}" for at, byte in enumerate(raw)),
        "blanked": "serial number and checksum",
    }


def _exchange_all(link: Link, dialect: str) -> list[tuple[str, bytes]]:
    """What each query of the dialect was answered, damaged or not."""
    result: list[tuple[str, bytes]] = []
    silent = 0
    for command in QUERIES[DIALECTS[dialect].name]:
        try:
            result.append((command, link.exchange(command)))
            silent = 0
        except TransportError:
            silent += 1
            if silent >= SILENT_IN_A_ROW:
                raise
            link.flush()
    return result
