"""Registers of an SDM in, values by vocabulary name out. Pure: no port, no clock, no log.

Frames are :mod:`collector_meter.frames`' business; what registers mean stands in
:mod:`collector_meter.tables`. What cannot be a measurement raises
:class:`~sunmesh.errors.FrameError` of kind ``implausible`` and yields no value at all.
"""

import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Literal

from sunmesh.errors import FrameError
from sunmesh.messages import Value

from . import tables
from .tables import Model

Values = dict[str, Value]
WordOrder = Literal["high_first", "low_first"]
Role = Literal["grid", "pv", "load"]

_PHASE = re.compile(r"_l[123](?=_|$)")
_POWER = re.compile(r"grid_power(_l[123])?_w")
_SIGNED = re.compile(r"grid_(reactive_power|power)(_l[123])?_(w|var)|grid_power_factor(_l[123])?")

BACKWARDS_W = -50.0
"""Panels and loads never feed backwards by more; standby of a PV inverter at night is less."""


def float_of(high: int, low: int) -> float:
    """The float in two registers, as the shortest decimal that is this float and no other.

    Raises:
        FrameError: ``implausible``: NaN or infinite.
    """
    raw = struct.pack(">HH", high, low)
    value: float = struct.unpack(">f", raw)[0]
    if not math.isfinite(value):
        raise FrameError("implausible", f"the float {raw.hex()} is no number")
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack(">f", short) == raw:
            return short + 0.0  # without the sign of a zero
    return value + 0.0


def decode(
    model: Model, registers: Mapping[int, int], order: WordOrder = "high_first"
) -> dict[str, float]:
    """The values whose two registers are both in ``registers``.

    Args:
        model: whose table is used.
        registers: address → 16 bits, of input registers.
        order: which of the two comes first.

    Raises:
        FrameError: ``implausible``: outside of what the quantity can be.
    """
    values = {}
    for address, name in model.registers.items():
        if address in registers and address + 1 in registers:
            pair = registers[address], registers[address + 1]
            value = float_of(*(pair if order == "high_first" else pair[::-1]))
            check(name, value)
            values[name] = value
    return values


def check(name: str, value: float) -> None:
    """Whether a meter can mean ``value`` by ``name``.

    Raises:
        FrameError: ``implausible``.
    """
    plain = _PHASE.sub("", name)
    for ending, least, most in tables.POSSIBLE:
        if plain.endswith(ending):
            if not least <= value <= most:
                raise FrameError("implausible", f"{name} = {value:g}; it is {least:g} to {most:g}")
            return


def word_order(high: int, low: int) -> WordOrder:
    """The order of registers in which these two are a grid's frequency.

    Raises:
        FrameError: ``implausible``: in neither.
    """
    for order, pair in (("high_first", (high, low)), ("low_first", (low, high))):
        try:
            check("grid_frequency_hz", float_of(*pair))
        except FrameError:
            continue
        return order  # type: ignore[return-value]
    raise FrameError(
        "implausible",
        f"unknown word order: registers {high:04x} {low:04x} are no frequency in either",
    )


def numbered(start: int, registers: Sequence[int]) -> dict[int, int]:
    """``registers`` of a read that began at ``start``, by address."""
    return {start + offset: value for offset, value in enumerate(registers)}


def serial_of(registers: Sequence[int]) -> str | None:
    """The serial number in :data:`tables.SERIAL`; None for an empty one."""
    number = registers[0] << 16 | registers[1]
    return None if number in (0, 0xFFFF_FFFF) else str(number)


def holding(start: int, registers: Sequence[int]) -> dict[str, float]:
    """Settings by the hexadecimal address: pairs as floats, a single register as it is."""
    if len(registers) % 2:
        return {f"0x{start + n:04x}": word for n, word in enumerate(registers)}
    pairs = range(0, len(registers), 2)
    return {f"0x{start + n:04x}": float_of(*registers[n : n + 2]) for n in pairs}


def as_role(values: Mapping[str, float], role: Role, *, invert: bool) -> Values:
    """``values`` of the meter's terminals, told of what it stands for in the house.

    Args:
        values: by the names of the grid's meter, + = import.
        role: ``grid`` keeps them. ``pv`` and ``load`` rename power and the import counter to what
            they measure; direction means nothing there, so the other counters are left out.
        invert: in and out are exchanged at the terminals.
    """
    turned = {_turned(name): _negated(name, v) for name, v in values.items()} if invert else values
    if role == "grid":
        return dict(turned)
    result: Values = {}
    for name, value in turned.items():
        if _POWER.fullmatch(name):
            result[name.replace("grid", role, 1)] = max(0.0, value)
        elif name == "grid_import_energy_kwh":
            result[f"{role}_energy_total_kwh"] = value
        elif "energy" not in name and "demand" not in name:
            result[name] = value
    return result


def names_as_role(names: Sequence[str], role: Role) -> list[str]:
    """What :func:`as_role` makes of ``names``."""
    return list(as_role(dict.fromkeys(names, 0.0), role, invert=False))


def suspects(model: Model, values: Mapping[str, float], role: Role, *, invert: bool) -> set[str]:
    """Names, as :func:`as_role` gives them, whose value this meter should not see.

    More current than its terminals carry, and power that flows backwards out of a load or into
    panels: then the terminals are exchanged, and ``invert`` is missing.
    """
    result = set()
    for name, value in values.items():
        plain = _PHASE.sub("", name)
        phases = 1 if plain != name or model.name != "SDM630" else 3
        if plain == "grid_current_a" and value > 1.2 * model.max_current_a * phases:
            result.add(name)
        elif _POWER.fullmatch(name):
            forward = -value if invert else value
            if abs(value) > 1.2 * model.max_current_a * 300.0 * phases or (
                role != "grid" and forward < BACKWARDS_W
            ):
                result.add(name.replace("grid", role, 1))
    return result


def _turned(name: str) -> str:
    """What ``name`` is called once in and out are exchanged."""
    if "_import_" in name:
        return name.replace("_import_", "_export_")
    return name.replace("_export_", "_import_")


def _negated(name: str, value: float) -> float:
    return -value + 0.0 if _SIGNED.fullmatch(name) else value
