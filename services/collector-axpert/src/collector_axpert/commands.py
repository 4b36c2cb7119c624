"""What may be set: from a wish by vocabulary name to the bytes of one command. Pure.

A table, and the only way to a set command. What is not here is never sent: factory reset (PF),
wiping counters (RTEY, RTDL), test mode (ATE), battery type (PBT, it moves every charging voltage).
Ranges are those of 48 V units unless the table says more; the lists of amperes come from the
device itself (QMCHGCR, QMUCHGCR). ``docs/protocols/axpert.md``, section 5.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sunmesh.errors import RefusedError
from sunmesh.messages import Value

from . import codec, tables


class Risk(StrEnum):
    """What a wrong value can do."""

    NORMAL = "normal"
    """Moves energy to another place."""
    HIGH = "high"
    """Can harm a battery or a load; needs a switch of its own in the configuration."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that may be written.

    Attributes:
        name: as it is read back.
        risk: see :class:`Risk`.
        command: a value that the checks let through → the command without checksum.
        words: the words it takes; empty for numbers.
        low, high: the range of a number, inclusive.
        steps: battery rating [V] → the only numbers it takes.
        choices: the name under which the device lists the numbers it takes.
    """

    name: str
    risk: Risk
    command: Callable[[Value], str]
    words: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    steps: Mapping[int, tuple[float, ...]] | None = None
    choices: str = ""


def _coded(template: str, codes: Mapping[str, str]) -> Callable[[Value], str]:
    """A word as its code in ``template``."""
    by_word = {word: code for code, word in codes.items()}
    return lambda value: template.format(by_word[str(value)])


def _flag(letter: str) -> Callable[[Value], str]:
    return lambda value: f"P{'E' if value else 'D'}{letter}"


def _volts(prefix: str) -> Callable[[Value], str]:
    return lambda value: f"{prefix}{float(str(value)):04.1f}"


def _charge(value: Value) -> str:
    """Up to 99 A the form that every unit knows; above, the one with a unit number."""
    amperes = int(float(str(value)))
    return f"MCHGC{amperes:03d}" if amperes < 100 else f"MNCHGC0{amperes:03d}"


def _charge_ac(value: Value) -> str:
    """Unit 0 and two digits; three above 99 A."""
    return f"MUCHGC0{int(float(str(value))):02d}"


def _half_volts(low: int, high: int) -> tuple[float, ...]:
    return tuple(half / 2 for half in range(2 * low, 2 * high + 1))


RECHARGE_V = {
    12: (11, 11.3, 11.5, 11.8, 12, 12.3, 12.5, 12.8),
    24: _half_volts(22, 25) + (25.5,),
    48: tuple(float(volts) for volts in range(44, 52)),
}
REDISCHARGE_V = {
    12: (0, 12, 12.3, 12.5, 12.8, 13, 13.3, 13.5, 13.8, 14, 14.3, 14.5),
    24: (0.0, *_half_volts(24, 29)),
    48: (0.0, *(float(volts) for volts in range(48, 59))),
}
YES_NO = (True, False)

PI30 = (
    Setting(
        "output_source_priority",
        Risk.NORMAL,
        _coded("POP0{}", tables.OUTPUT_PRIORITIES),
        words=tuple(tables.OUTPUT_PRIORITIES.values()),
    ),
    Setting(
        "charger_source_priority",
        Risk.NORMAL,
        _coded("PCP0{}", tables.CHARGER_PRIORITIES),
        words=tuple(tables.CHARGER_PRIORITIES.values()),
    ),
    Setting(
        "input_range",
        Risk.NORMAL,
        _coded("PGR0{}", tables.INPUT_RANGES),
        words=tuple(tables.INPUT_RANGES.values()),
    ),
    Setting("recharge_voltage_v", Risk.NORMAL, _volts("PBCV"), steps=RECHARGE_V),
    Setting("redischarge_voltage_v", Risk.NORMAL, _volts("PBDV"), steps=REDISCHARGE_V),
    Setting("max_charge_current_a", Risk.NORMAL, _charge, choices="max_charge_current_choices_a"),
    Setting(
        "max_ac_charge_current_a",
        Risk.NORMAL,
        _charge_ac,
        choices="max_ac_charge_current_choices_a",
    ),
    Setting("buzzer_enabled", Risk.NORMAL, _flag("a"), words=YES_NO),
    Setting("lcd_escape_enabled", Risk.NORMAL, _flag("k"), words=YES_NO),
    Setting("backlight_enabled", Risk.NORMAL, _flag("x"), words=YES_NO),
    Setting("primary_source_alarm_enabled", Risk.NORMAL, _flag("y"), words=YES_NO),
    Setting("cut_off_voltage_v", Risk.HIGH, _volts("PSDV"), low=40.0, high=48.0),
    Setting("bulk_voltage_v", Risk.HIGH, _volts("PCVV"), low=48.0, high=58.4),
    Setting("float_voltage_v", Risk.HIGH, _volts("PBFT"), low=48.0, high=58.4),
)
"""What may be set on a PI30 device."""

PI18 = (
    Setting(
        "output_source_priority",
        Risk.NORMAL,
        _coded("^S007POP{}", tables.PI18_OUTPUT_PRIORITIES),
        words=tuple(tables.PI18_OUTPUT_PRIORITIES.values()),
    ),
    Setting(
        "charger_source_priority",
        Risk.NORMAL,
        _coded("^S009PCP0,{}", tables.PI18_CHARGER_PRIORITIES),
        words=tuple(tables.PI18_CHARGER_PRIORITIES.values()),
    ),
    Setting(
        "input_range",
        Risk.NORMAL,
        _coded("^S007PGR{}", tables.INPUT_RANGES),
        words=tuple(tables.INPUT_RANGES.values()),
    ),
    Setting(
        "max_charge_current_a",
        Risk.NORMAL,
        lambda value: f"^S013MCHGC0,{int(float(str(value))):03d}",
        choices="max_charge_current_choices_a",
    ),
    Setting(
        "max_ac_charge_current_a",
        Risk.NORMAL,
        lambda value: f"^S014MUCHGC0,{int(float(str(value))):03d}",
        choices="max_ac_charge_current_choices_a",
    ),
)
"""What may be set on a PI18 device."""

SETTABLE = {"PI30": PI30, "PI18": PI18}


def build(
    dialect: str,
    name: str,
    value: Value,
    nameplate: Mapping[str, Value],
    allowed: Collection[Risk] = (Risk.NORMAL,),
) -> bytes:
    """The request that sets ``name`` to ``value``.

    Args:
        dialect: ``PI30`` or ``PI18``.
        name: of the setting.
        value: a word, a truth or a number.
        nameplate: what the device said of itself: battery rating and lists of amperes.
        allowed: the risks that the owner takes.

    Raises:
        RefusedError: with the reason; nothing may be sent.
    """
    row = next((row for row in SETTABLE[dialect] if row.name == name), None)
    if row is None:
        raise RefusedError(f"{name} cannot be set")
    if row.risk not in allowed:
        raise RefusedError(f"{name} is of {row.risk} risk, which the configuration does not allow")
    rating = nameplate.get("battery_rating_voltage_v")
    if row.words:
        _in(name, value, row.words)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"{name} is a number, not {value!r}")
    elif row.steps:
        _in(name, value, row.steps.get(int(rating) if isinstance(rating, int | float) else 0, ()))
    elif row.choices:
        choices = nameplate.get(row.choices)
        _in(name, value, choices if isinstance(choices, list) else ())
    elif row.low is not None and row.high is not None:
        if rating != 48:
            raise RefusedError(f"the range of {name} is known for 48 V batteries only")
        if not row.low <= value <= row.high:
            raise RefusedError(f"{name} must be {row.low:g} to {row.high:g}, not {value:g}")
    return codec.request(row.command(value))


def _in(name: str, value: Value, known: Collection[Value]) -> None:
    if not any(
        value == item and isinstance(value, bool) == isinstance(item, bool) for item in known
    ):
        listed = ", ".join(str(item) for item in known) or "not known of this device"
        raise RefusedError(f"{name}: {value!r} is not among: {listed}")
