"""Bytes of a PLI in, values by vocabulary name out. Pure: no port, no clock, no log.

The frame and the receive rules are drawn in ``docs/protocols/pl80.md``; what an address means
stands in :mod:`collector_pl80.tables`. An answer carries no checksum: what can be refused here is
refused, the rest is left to :mod:`collector_pl80.transport`, which believes no single answer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sunmesh.errors import FrameError

from . import tables
from .tables import Row, Scale, Values

RAM, EEPROM, LOOPBACK = 0x14, 0x48, 0xBB
"""The only commands that the collector sends; each changes nothing."""

WRITES = (0x98, 0xCA, 0x57)
"""RAM and EEPROM write, button push: known to ``decode`` and the emulator, never sent."""

OK = 200
LOOPED = 128

STATUS = {
    5: "no or corrupt communication with the controller",
    129: "time-out between adaptor and controller",
    130: "check byte wrong in what the adaptor received",
    131: "command unknown to the adaptor",
    132: "status 132, which the maker does not explain",
    133: "the controller did not answer the adaptor: cable, or controller off",
    134: "faulty answer from the controller",
    135: "status 135, which the maker does not explain",
    136: "status 136, which the maker does not explain",
}
"""One-byte answers."""

NO_CONTROLLER = 133


def request(command: int, address: int = 0) -> bytes:
    """A request; its check byte is the complement of the command and covers nothing else."""
    return bytes([command, address, 0, 255 - command])


def value(raw: bytes, sent: bytes) -> int:
    """The byte that ``raw`` answers to the read, or the loopback, ``sent``.

    Raises:
        FrameError: ``truncated``, ``echo``, ``exception`` (a status byte), or ``foreign``.
    """
    if not raw:
        raise FrameError("truncated", "no byte of an answer")
    if raw.startswith(sent):
        raise FrameError("echo", f"{sent.hex()} came back itself: transmit is wired to receive")
    if sent[0] == LOOPBACK:
        if raw == bytes([LOOPED]):
            return LOOPED
    elif raw == bytes([OK]):
        raise FrameError("truncated", "c8 announces a byte that did not come")
    elif raw[0] == OK and len(raw) == 2:
        return raw[1]
    if len(raw) == 1 and raw[0] in STATUS:
        raise FrameError("exception", f"status {raw[0]}: {STATUS[raw[0]]}")
    raise FrameError("foreign", f"{raw.hex()} is no answer to {sent.hex()}")


def values(rows: Iterable[Row], ram: Mapping[int, int], scale: Scale) -> Values:
    """What ``rows`` make of ``ram``; a row whose bytes are missing is left out."""
    return {row.name: row.law(ram, scale) for row in rows if all(at in ram for at in row.needs)}


def complete(rows: Iterable[Row], ram: Mapping[int, int], scale: Scale) -> Values:
    """The same with every name, None where bytes are missing."""
    rows = tuple(rows)
    return dict.fromkeys(row.name for row in rows) | values(rows, ram, scale)


def impossible(found: Values, scale: Scale) -> dict[str, str]:
    """Those of ``found`` that no working controller reports, each with the reason."""
    result = {}
    volts, soc = found.get("battery_voltage_v"), found.get("battery_soc_percent")
    if isinstance(volts, float) and scale.system_v:
        low, high = round(0.6 * scale.system_v, 1), 1.5 * scale.system_v
        if not low <= volts <= high:
            result["battery_voltage_v"] = f"{volts} V on a {scale.system_v} V battery"
    if isinstance(soc, int) and soc > 127:
        result["battery_soc_percent"] = f"state of charge {soc} %"
    if "device_clock" in found and found["device_clock"] is None:
        result["device_clock"] = "the clock shows no time of day"
    if "battery_rating_voltage_v" in found and found["battery_rating_voltage_v"] is None:
        result["battery_rating_voltage_v"] = "register 93 names no battery voltage"
    return result


# --- decode --------------------------------------------------------------------------------------

ROWS = (*tables.IDENTITY, *tables.LIVE, *tables.CLOCK, *tables.SLOW, *tables.SETTINGS)


def decode(record: Mapping[str, Any]) -> dict[str, Any]:
    """One exchange ``{"tx", "rx"}`` or one image ``{"ram", "eeprom"}`` → ``{"values": {...}}``.

    ``system_v`` and ``model``, at the top or under ``context``, say what bytes are worth, unless an
    image holds the registers 93 and 0, which do. ``guessed`` names what stands on a guess.

    Raises:
        FrameError: of :func:`value`; ``crc`` (wrong check byte in ``tx``), ``implausible``,
            ``shape`` (not such a record, or nothing says what its bytes are worth).
    """
    context = record.get("context") or {}
    if not isinstance(context, dict):
        raise FrameError("shape", "context must be an object")
    known = {**context, **record}
    model, system = known.get("model"), known.get("system_v")
    if model not in (None, *tables.STEPS_A) or system not in (None, *tables.SYSTEM_V):
        raise FrameError("shape", f"model {model!r} or system_v {system!r} is none")
    if "ram" in record or "eeprom" in record:
        return _image(record, model, system)
    sent, raw = _bytes(record, "tx"), _bytes(record, "rx")
    return _exchange(sent, raw, tables.scale(model, system), model)


def _exchange(sent: bytes, raw: bytes, scale: Scale, model: str | None) -> dict[str, Any]:
    if len(sent) != 4:
        raise FrameError("shape", "a request has four bytes")
    command, address = sent[0], sent[1]
    if len(raw) == 1 and raw[0] in STATUS:
        raise FrameError("exception", f"status {raw[0]}: {STATUS[raw[0]]}")
    if sent[3] != 255 - command:
        raise FrameError("crc", f"the check byte of {sent.hex()} must be {255 - command}")
    if command in WRITES:
        if raw:
            raise FrameError("foreign", f"{raw.hex()} in answer to a write, which has none")
        return {"values": {}}
    if command not in (RAM, EEPROM, LOOPBACK):
        raise FrameError("unsupported", f"command {command} is none of a PLI")
    byte = value(raw, sent)
    if command == LOOPBACK:
        return {"values": {}, "loopback": True}
    if command == EEPROM:
        if address == tables.POINTER:
            return {"values": {}, "day_start": _day_starts(byte)}
        if not 14 <= address <= 44:
            return {"values": {}, "byte": byte}
        address += tables.SETTINGS_OFFSET
    rows = [row for row in (*ROWS, *tables.SOLAR) if row.needs == (address,)]
    found = _possible(values(rows, {address: byte}, scale), scale)
    missing = [name for name, number in found.items() if number is None]
    if missing:
        raise FrameError("shape", f"{missing[0]} needs model or system_v beside tx and rx")
    answer: dict[str, Any] = {"values": found}
    if not rows:
        answer["byte"] = byte
    return answer | _guessed(found, model)


def _image(record: Mapping[str, Any], model: str | None, system: int | None) -> dict[str, Any]:
    ram, eeprom = _registers(record, "ram"), _registers(record, "eeprom")
    ram = {at + tables.SETTINGS_OFFSET: b for at, b in eeprom.items() if 14 <= at <= 44} | ram
    if tables.VERSION in ram:
        model = tables.model(ram[tables.VERSION])
    if tables.SYSTEM in ram:
        system = tables.system_v(ram[tables.SYSTEM])
    scale = tables.scale(model, system)
    found = _possible(values(ROWS, ram, scale), scale)
    if tables.POINTER in eeprom and len(eeprom) > tables.DAY_BYTES:
        try:
            found |= tables.history(eeprom, scale)
        except KeyError as err:
            raise FrameError("truncated", f"byte {err} of the history is missing") from err
        except ValueError as err:
            raise FrameError("implausible", str(err)) from err
    return {"values": found} | _guessed(found, model)


def _possible(found: Values, scale: Scale) -> Values:
    for reason in impossible(found, scale).values():
        raise FrameError("implausible", reason)
    return found


def _guessed(found: Values, model: str | None) -> dict[str, Any]:
    names = guesses(model)
    present = [name for name in names if name in found]
    return {"guessed": present} if present else {}


def guesses(model: str | None) -> list[str]:
    """Names whose scale no paper gives for ``model``."""
    if model not in tables.GUESSED:
        return []
    return [
        "charge_internal_current_a",
        "load_internal_current_a",
        "charge_current_a",
        "load_current_a",
        "charge_power_w",
    ]


def _day_starts(pointer: int) -> dict[str, int]:
    try:
        return {str(day): tables.day_start(pointer, day) for day in range(1, tables.DAYS + 1)}
    except ValueError as err:
        raise FrameError("implausible", str(err)) from err


def _bytes(record: Mapping[str, Any], name: str) -> bytes:
    found = record.get(name)
    if isinstance(found, list) and all(type(byte) is int and 0 <= byte <= 255 for byte in found):
        return bytes(found)
    raise FrameError("shape", f"{name} must be a list of bytes, 0 to 255")


def _registers(record: Mapping[str, Any], name: str) -> dict[int, int]:
    found = record.get(name, {})
    try:
        registers = {int(at): byte for at, byte in found.items()}
    except (AttributeError, ValueError) as err:
        raise FrameError("shape", f"{name} must be an object of address and byte") from err
    for at, byte in registers.items():
        if type(byte) is not int or not (0 <= at <= 255 and 0 <= byte <= 255):
            raise FrameError("shape", f"{name} {at}: {byte!r} is no byte")
    return registers
