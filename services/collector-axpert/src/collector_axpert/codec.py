"""Bytes of an Axpert in, values by vocabulary name out. Pure: no port, no clock, no log.

The frame, the checksum and the receive rules are drawn in ``docs/protocols/axpert.md``; what the
fields mean stands in :mod:`collector_axpert.tables`. Whatever is damaged, foreign or not
understood raises :class:`~sunmesh.errors.FrameError` and yields no value at all.
"""

import re
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sunmesh.errors import FrameError
from sunmesh.messages import Scalar, Value

from . import tables
from .tables import Field, Values

LIMIT = 512
"""No answer is longer [bytes]; what is longer is not an answer."""

STEPPED = b"(\r\n"
"""A checksum byte that would equal one of these is sent one higher. 0x00 stays 0x00."""


# --- Frames --------------------------------------------------------------------------------------


def crc(data: bytes) -> bytes:
    """The two checksum bytes over ``data`` as an Axpert wants them: CRC-16/XMODEM, stepped."""
    plain = crc_hqx(data, 0).to_bytes(2, "big")
    return bytes(byte + 1 if byte in STEPPED else byte for byte in plain)


def request(command: str) -> bytes:
    """``command`` (``QPIGS``, ``^P005GS``, ``POP02``) as it goes over the wire."""
    data = command.encode("ascii")
    return data + crc(data) + b"\r"


def reply(data: str) -> bytes:
    """``data`` as a PI30 device sends it; the emulator's half of :func:`request`."""
    return request(f"({data}")


def reply_pi18(data: str) -> bytes:
    """``data`` as a PI18 device sends it: its length counts data, checksum and CR."""
    return request(f"^D{len(data) + 3:03d}{data}")


def unframe(raw: bytes, command: str) -> str:
    """The data inside the last whole frame of ``raw``; ``ACK`` for an acknowledgement.

    Bytes before the frame (the tail of an earlier answer, stray LF or NUL) and after it (the NUL
    padding of USB reports) are dropped. LF may stand for CR: a port that somebody left cooked.

    Args:
        raw: what came after the request, up to its CR where there was one.
        command: the request that is outstanding; tells an echo from an answer.

    Raises:
        FrameError: ``truncated``, ``echo``, ``crc``, ``nak``, or ``shape`` (too long, or a
            frame of the other dialect).
    """
    if len(raw) > LIMIT:
        raise FrameError("shape", f"{len(raw)} bytes; no answer is longer than {LIMIT}")
    caret = command.startswith("^")
    for start in range(len(raw) - 1, -1, -1):
        if raw[start] in b"(^":
            found = _caret_frame(raw, start) if raw[start] == 0x5E else _frame(raw, start)
            if found == "NAK":
                raise FrameError("nak", f"the device refuses {command}")
            if found is not None:
                if (raw[start] == 0x5E) != caret:
                    raise FrameError("shape", f"{command} was answered in the other dialect")
                return found
    text = raw.strip(b"\0\r\n")
    if not text:
        raise FrameError("truncated", "no byte of an answer")
    if text.startswith(command.encode("ascii", "replace")):
        raise FrameError("echo", f"{command} came back itself: transmit is wired to receive")
    if not raw.rstrip(b"\0").endswith((b"\r", b"\n")):
        raise FrameError("truncated", f"no end of frame in {raw.hex()}")
    if text[0] not in b"(^" and _checked(text):
        raise FrameError("echo", f"a request, not an answer: {raw.hex()}")
    raise FrameError("crc", f"no frame with a right checksum in {raw.hex()}")


def _checked(body: bytes) -> bool:
    """Whether ``body`` ends in its checksum, stepped or, as some firmware sends it, plain."""
    data, sent = body[:-2], body[-2:]
    return len(data) > 0 and sent in (crc(data), crc_hqx(data, 0).to_bytes(2, "big"))


def _frame(raw: bytes, start: int) -> str | None:
    """Data of the ``(`` frame that begins at ``start``; None where none with a right CRC ends."""
    for end in range(start + 1, len(raw)):
        if raw[end] in b"\r\n":
            body = raw[start:end]
            if body == b"(NAK":  # the papers show it without a checksum
                return "NAK"
            if _checked(body):
                return body[1:-2].decode("latin-1")
    return None


def is_complete(raw: bytes, command: str) -> bool:
    """Whether ``raw`` ends an answer to ``command``: at its CR, or for ``^D`` at its length.

    The length counts because one firmware sends a plain CR as checksum byte.
    """
    if b"\r" not in raw:
        return False
    if command.startswith("^") and raw[:2] == b"^D" and raw[2:5].isdigit():
        return len(raw) >= 5 + int(raw[2:5])
    return True


def is_revo(raw: bytes) -> bool:
    """Whether ``raw`` answers QALL as only a SOROTEC REVO does: 19 fields, additive checksum."""
    body = raw.rstrip(b"\0\r\n")
    return body.count(b" ") >= 15 and body[-1] == (sum(body[:-1]) + 1) % 256


def _caret_frame(raw: bytes, start: int) -> str | None:
    """Data of the ``^D`` frame at ``start``, read by its length; ACK, NAK for ``^1``, ``^0``."""
    kind, length = raw[start + 1 : start + 2], raw[start + 2 : start + 5]
    if kind in (b"0", b"1"):
        end = start + 4
    elif kind == b"D" and length.isdigit():
        end = start + 4 + int(length)
    else:
        return None
    body = raw[start:end]
    if raw[end : end + 1] not in (b"\r", b"\n") or not _checked(body):
        return None
    return body[5:-2].decode("latin-1") if kind == b"D" else {b"0": "NAK", b"1": "ACK"}[kind]


# --- Layouts -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layout:
    """One form of one answer.

    Attributes:
        fields: in the order of the answer; what newer firmware adds at its end is kept as it came.
        least: an answer with fewer fields has another shape.
        most: an answer with more has, too.
        fits: what else tells this form from another one of the same command.
        separator: between fields.
        derive: what follows from the fields; gets the values and the fields as sent.
    """

    fields: tuple[Field, ...]
    least: int
    most: int
    fits: Callable[[list[str]], bool] = lambda tokens: True
    separator: str = " "
    derive: Callable[[Values, list[str]], Values] = lambda values, tokens: {}


def _status(values: Values, tokens: list[str]) -> Values:
    """What QPIGS says between the lines: truths from its bits, PV side and power, battery power.

    The PV current is the charger's, on the battery's side, where it is sent without decimals, and
    the panels' where it has one; that held in every capture with sun.
    """
    bits, more = _bits(values, "device_status_bits"), values.get("device_status2_bits")
    side = "panel" if "." in tokens[12] else "battery"
    result: Values = {
        "settings_changed": bits[1] == "1",
        "load_on": bits[3] == "1",
        "charging": bits[5] == "1",
        "scc_charging": bits[6] == "1",
        "ac_charging": bits[7] == "1",
        "float_charging": more[0] == "1" if isinstance(more, str) else None,
        "pv_current_side": side,
        **_battery(values),
    }
    if "pv_power_w" not in values:  # 17 fields, firmware of 2014
        volts = values["pv_voltage_v"]
        if side == "battery":
            volts = values["battery_voltage_scc_v"] or values["battery_voltage_v"]
        result["pv_power_w"] = _product(values["pv_current_a"], volts)
    return result


def _bits(values: Values, name: str) -> str:
    """Status bits, without which an answer has no shape."""
    bits = values[name]
    if not isinstance(bits, str):
        raise ValueError(f"no {name}")
    return bits


def _battery(values: Values) -> Values:
    """Power out of the battery from the two currents, which the device counts without a sign."""
    charge, discharge = values["battery_charge_current_a"], values["battery_discharge_current_a"]
    if not isinstance(charge, int | float) or not isinstance(discharge, int | float):
        return {"battery_power_w": None}
    return {"battery_power_w": _product(discharge - charge, values["battery_voltage_v"])}


def _product(amperes: Value, volts: Value) -> Value:
    """Watts; None where a factor is missing."""
    if not isinstance(amperes, int | float) or not isinstance(volts, int | float):
        return None
    return round(amperes * volts, 1) + 0.0  # + 0.0 turns -0.0 into 0.0


def _pi18_status(values: Values, tokens: list[str]) -> Values:
    """Battery power, and the PV currents that GS does not send."""
    result = _battery(values)
    for n in ("", "2"):
        watts, volts = values[f"pv{n}_power_w"], values[f"pv{n}_voltage_v"]
        amperes: Value = None
        if isinstance(watts, int | float) and isinstance(volts, int | float):
            amperes = round(watts / volts, 2) if volts > 0 else 0.0 if watts == 0 else None
        result[f"pv{n}_current_a"] = amperes
    return result | {"pv_current_side": "panel"}


def _output(values: Values, tokens: list[str]) -> Values:
    """The rated output is what the settings ``F`` and ``V`` choose."""
    return {
        "output_voltage_v": values["ac_output_rating_voltage_v"],
        "output_frequency_hz": values["ac_output_rating_frequency_hz"],
    }


def _duo(values: Values, tokens: list[str]) -> Values:
    """Which of the second and third solar charger work."""
    bits = _bits(values, "scc_status_bits")
    return {"scc2_charging": bits[0] == "1", "scc3_charging": bits[1] == "1"}


def _one(fields: tuple[Field, ...]) -> tuple[Layout, ...]:
    """An answer that is one word."""
    return (Layout(fields, 1, 1),)


def _energy(name: str) -> tuple[Layout, ...]:
    """An energy counter: eight digits of Wh."""
    return (Layout((Field(name, tables.thousandths),), 1, 1, lambda t: len(t[0]) in (8, 9)),)


def _pi18(
    fields: tuple[Field, ...],
    most: int | None = None,
    derive: Callable[[Values, list[str]], Values] = lambda values, tokens: {},
) -> tuple[Layout, ...]:
    return (Layout(fields, len(fields), most or len(fields) + 4, separator=",", derive=derive),)


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "QPI": _one(tables.QPI),
    "QID": _one(tables.QID),
    "QSID": _one(tables.QSID),
    "QVFW": (Layout(tables.QVFW, 1, 1, separator="\n"),),  # a blank may follow its colon
    "QVFW2": (Layout(tables.QVFW, 1, 1, separator="\n"),),
    "QVFW3": (Layout(tables.QVFW, 1, 1, separator="\n"),),
    "QVFW4": (Layout(tables.QVFW, 1, 1, separator="\n"),),
    "QMN": _one(tables.QMN),
    "QGMN": _one(tables.QGMN),
    "QPIGS": (Layout(tables.QPIGS, 17, 40, derive=_status),),
    "QPIGS2": (
        Layout(tables.QPIGS2_MAX, 3, 3),
        Layout(tables.QPIGS2_DUO, 12, 12, derive=_duo),
    ),
    "QPIRI": (
        # Some firmware has other things from field 26 on: volts, amperes, volts.
        Layout(tables.QPIRI[:25], 26, 40, lambda t: "." in t[25], derive=_output),
        Layout(tables.QPIRI, 25, 40, derive=_output),
    ),
    "QDI": (Layout(tables.QDI, 25, 40),),
    "QMOD": _one(tables.QMOD),
    "QOPM": _one(tables.QOPM),
    "QT": _one(tables.QT),
    "QBEQI": (Layout(tables.QBEQI, 10, 16),),
    "QPGS": (Layout(tables.QPGS, 27, 40),),
    "Q1": (Layout(tables.Q1, 17, 40),),
    "QET": _energy("pv_energy_total_kwh"),
    "QEY": _energy("pv_energy_year_kwh"),
    "QEM": _energy("pv_energy_month_kwh"),
    "QED": _energy("pv_energy_day_kwh"),
    "QLT": _energy("load_energy_total_kwh"),
    "QLY": _energy("load_energy_year_kwh"),
    "QLM": _energy("load_energy_month_kwh"),
    "QLD": _energy("load_energy_day_kwh"),
    "^P005PI": _pi18(tables.PI18_PI, 1),
    "^P005ID": _pi18(tables.PI18_ID, 1),
    "^P006VFW": _pi18(tables.PI18_VFW),
    "^P004T": _pi18(tables.PI18_T, 1),
    "^P006MOD": _pi18(tables.PI18_MOD, 1),
    "^P005GS": _pi18(tables.PI18_GS, derive=_pi18_status),
    "^P007PIRI": _pi18(tables.PI18_PIRI, derive=_output),
    "^P007FLAG": _pi18(tables.PI18_FLAG),
    "^P005DI": _pi18(tables.PI18_DI),
    "^P007PGS": _pi18(tables.PI18_PGS, derive=_pi18_status),
    # The paper says kWh; totals of real units make sense in Wh only.
    "^P005ET": _energy("pv_energy_total_kwh"),
    "^P009EY": _energy("pv_energy_year_kwh"),
    "^P011EM": _energy("pv_energy_month_kwh"),
    "^P013ED": _energy("pv_energy_day_kwh"),
}
"""Forms of each answer; the first that fits counts."""

NUMBERED = {
    "QPGS": 1,
    "QEY": 4,
    "QEM": 6,
    "QED": 8,
    "QLY": 4,
    "QLM": 6,
    "QLD": 8,
    "^P007PGS": 1,
    "^P009EY": 4,
    "^P011EM": 6,
    "^P013ED": 8,
}
"""Commands that end in so many digits, a unit number or a date, which their table key lacks."""


def _flags(data: str) -> Values:
    """QFLAG: ``E`` and the letters that are on, ``D`` and those that are off."""
    on, found, off = data[1:].partition("D")
    letters = on + off
    if data[:1] != "E" or not found or not (letters.isascii() and letters.isalpha()):
        raise ValueError("neither E nor D starts its lists")
    if letters != letters.lower() or len(set(letters)) != len(letters):
        raise ValueError("a flag is named twice, or is no small letter")
    values: Values = {tables.FLAGS[x]: x in on for x in letters if x in tables.FLAGS}
    unknown = [x for x in on if x not in tables.FLAGS]
    return values | {"other_flags_enabled": list[Scalar](unknown)}


def warnings(characters: str, by_length: Mapping[int, str] = tables.WARNINGS_BY_LENGTH) -> Values:
    """QPIWS: codes of the warnings and, among them, of the faults.

    Args:
        characters: 0 or 1 each; where the generation has a fault code, its digits.
        by_length: how many characters → a name of ``tables.WARNING_TABLES``.

    Raises:
        ValueError: not a warning string.
    """
    if not 32 <= len(characters) <= 38 or not (characters.isascii() and characters.isdecimal()):
        raise ValueError("warnings are 32 to 38 digits")
    known = tables.WARNING_TABLES[by_length.get(len(characters), "HS")]
    codes = [
        known.bits.get(position, f"reserved_{position}")
        for position, character in enumerate(characters)
        if character == "1" and position not in known.digits
    ]
    values = _warning_values(codes, known.faults) | {"device_warning_bits": characters}
    if known.digits and known.digits[-1] < len(characters):
        values["fault_code"] = int("".join(characters[position] for position in known.digits))
    return values


def _warning_values(codes: Iterable[str], faults: frozenset[str]) -> Values:
    codes = list(codes)
    if "inverter_fault" in codes:
        faults |= tables.EITHER
    return {
        "warnings": list[Scalar](codes),
        "faults": list[Scalar](code for code in codes if code in faults),
    }


def _pi18_warnings(data: str) -> Values:
    """FWS: a fault code, then flags."""
    code, *flags = data.split(",")
    if not (code.isascii() and code.isdecimal() and len(code) == 2 and 16 <= len(flags) <= 18):
        raise ValueError("not a fault code and 16 flags")
    names = [*tables.PI18_WARNINGS, "reserved_16", "reserved_17"]
    codes = [name for name, flag in zip(names, flags, strict=False) if tables.yes(flag)]
    return _warning_values(codes, frozenset()) | {"fault_code": int(code)}


def _choices(name: str) -> Callable[[str], Values]:
    """A list of amperes that a setting may take."""

    def read(data: str) -> Values:
        values = [tables.number(token) for token in data.replace(",", " ").split()]
        if not values or not all(isinstance(value, int) for value in values):
            raise ValueError("not a list of amperes")
        return {name: list[Scalar](int(str(value)) for value in values)}

    return read


READERS: dict[str, Callable[[str], Values]] = {
    "QFLAG": _flags,
    "QMCHGCR": _choices("max_charge_current_choices_a"),
    "QMUCHGCR": _choices("max_ac_charge_current_choices_a"),
    "QMSCHGCR": _choices("max_solar_charge_current_choices_a"),
    "QPIWS": warnings,
    "^P005FWS": _pi18_warnings,
    "^P009MCHGCR": _choices("max_charge_current_choices_a"),
    "^P010MUCHGCR": _choices("max_ac_charge_current_choices_a"),
}
"""Answers that are not a row of fields."""

FOREIGN: Mapping[str, Callable[[list[str]], str]] = {
    "QPIGS": lambda t: "PI16" if len(t) == 22 and len(t[21]) == 10 and t[21][0].isalpha() else "",
    "QPIGS2": lambda t: "PI41" if len(t) == 11 else "",
    "QPIWS": lambda t: "PI16" if len(t[0]) == 128 else "",
}
"""Same command, another dialect: these are known, and refused rather than guessed at."""

SET_COMMANDS = (
    r"(POP|PCP|PPCP|PGR|PBT|PBCV|PBDV|PSDV|PCVV|PBFT|MCHGC|MNCHGC|MUCHGC|MSCHGC|F|V|POPM|POPLG|PPVOKC"
    r"|PSPB|PBEQE|PBEQT|PBEQP|PBEQV|PBEQOT|PBEQA|PCVT|PCST|DAT|PBATCD|PBATMAXDISC)[0-9.]+"
    r"|(P[ED][a-z]+)+|PF"
    r"|\^S[0-9]{3}((POP|PCP|PGR|PBT|POPM|PSP|PSDV|MCHGC|MUCHGC|MCHGV|BUCD|LON|F|V|ACCT|ACLT|DAT)[0-9,]+"
    r"|P[ED][A-I]|PF)"
)
"""Commands whose answer is ACK or NAK. Not what may be sent: that is in ``commands``."""


def is_set_command(command: str) -> bool:
    """Whether ``command`` is answered by ACK or NAK."""
    if key_of(command) in LAYOUTS or command in READERS:
        return False
    return re.fullmatch(SET_COMMANDS, command) is not None  # compiled by who sets, not by who polls


# --- Decoding ------------------------------------------------------------------------------------


def key_of(command: str) -> str:
    """The table key of a command."""
    letters = command.rstrip("0123456789")
    return letters if NUMBERED.get(letters) == len(command) - len(letters) else command


def decode(
    command: str, raw: bytes, warning_tables: Mapping[int, str] = tables.WARNINGS_BY_LENGTH
) -> Values:
    """What ``raw`` says in answer to ``command``, by vocabulary name; ``{"ack": True}`` for ACK.

    Args:
        command: as sent, without checksum and CR.
        raw: the answer, as it came.
        warning_tables: ``by_length`` of :func:`warnings`.

    Raises:
        FrameError: all values of a frame or none: a damaged one yields nothing.
    """
    key = key_of(command)
    sets = is_set_command(command)
    if not sets and key not in LAYOUTS and key not in READERS:
        raise FrameError("unsupported", f"{command} is not a command of PI30 or PI18")
    data = unframe(raw, command)
    if sets:
        if data != "ACK":
            raise FrameError("shape", f"{command} wants ACK or NAK, not {data!r}")
        return {"ack": True}
    foreign = FOREIGN[key](data.split()) if key in FOREIGN and data else ""
    if foreign:
        raise FrameError("unsupported", f"{command} in the layout of {foreign}, which is not read")
    try:
        if key == "QPIWS":
            return warnings(data, warning_tables)
        return READERS[key](data) if key in READERS else _read(LAYOUTS[key], data)
    except ValueError as err:
        raise FrameError("shape", f"{command}: {err}, in {data!r}") from err


def _read(layouts: tuple[Layout, ...], data: str) -> Values:
    """``data`` by the first layout that fits it."""
    for layout in layouts:
        tokens = data.split(layout.separator)
        if tokens[-1] == "" and layout.separator == " ":
            tokens.pop()  # QPIGS2 of a MAX ends with a blank
        if layout.least <= len(tokens) <= layout.most and layout.fits(tokens):
            values: Values = {}
            for field, token in zip(layout.fields, tokens, strict=False):
                missing = tables.NOT_AVAILABLE.fullmatch(token)
                value = None if missing else field.parse(token)
                if field.name:
                    values[field.name] = value
            if extra := tokens[len(layout.fields) :]:
                values["extra_fields"] = list[Scalar](extra)
            return values | layout.derive(values, tokens)
    raise ValueError(f"{len(data.split(layouts[0].separator))} fields")
