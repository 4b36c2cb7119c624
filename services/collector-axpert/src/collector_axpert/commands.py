"""What may be set: from a wish by vocabulary name to one command of the device. Pure.

A table, and the only way to a set command. What is not here is never sent: wiping counters (RTEY,
RTDL), test mode (ATE), output voltage and frequency, amperes that the device does not list (patched
firmware gives some of them other meanings). ``docs/protocols/axpert.md``, section 5.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard

from sunmesh.commands.rules import text
from sunmesh.errors import RefusedError
from sunmesh.messages import Range, Value

from . import tables

Risk = Literal["normal", "high", "danger"]
Current = Mapping[str, Value]
"""Settings as the device has them."""

RESET = "factory_reset"
DEFAULTS = "defaults"
"""The one value of :data:`RESET`."""

USER = "user"
"""The battery type that lets charging voltages be set."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that may be written.

    Attributes:
        name: as it is read back.
        command: a value that the range lets through, and the settings as they are → the command
            without checksum.
        risk: ``high`` can harm a battery or a load, ``danger`` changes every charging voltage or
            overcharges on purpose; both need the name in ``allow`` of the configuration.
        words: the words it takes; empty for numbers.
        low, high, step: the range of a number, inclusive, of a 48 V device.
        steps: battery rating [V] → the only numbers it takes.
        choices: the name under which the device lists the numbers it takes.
        unit: of the number.
        of_user_battery: only a battery of type ``user`` lets it be changed.
    """

    name: str
    command: Callable[[Value, Current], str]
    risk: Risk = "normal"
    words: tuple[str | bool, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float = 0.1
    steps: Mapping[int, tuple[float, ...]] | None = None
    choices: str = ""
    unit: str = ""
    of_user_battery: bool = False


def _number(value: Value) -> float:
    return float(str(value))


def _coded(template: str, codes: Mapping[str, str]) -> Callable[[Value, Current], str]:
    """A word as its code in ``template``."""
    by_word = {word: code for code, word in codes.items()}
    return lambda value, _: template.format(by_word[str(value)])


def _flag(letter: str) -> Callable[[Value, Current], str]:
    return lambda value, _: f"P{'E' if value else 'D'}{letter}"


def _yes(prefix: str) -> Callable[[Value, Current], str]:
    return lambda value, _: f"{prefix}{int(value is True)}"


def _volts(prefix: str) -> Callable[[Value, Current], str]:
    """Always one decimal."""
    return lambda value, _: f"{prefix}{_number(value):04.1f}"


def _whole(prefix: str) -> Callable[[Value, Current], str]:
    """Always three digits."""
    return lambda value, _: f"{prefix}{_number(value):03.0f}"


def _charge(value: Value, _: Current) -> str:
    """Up to 99 A the form that every unit knows; above, the one with a unit number."""
    amperes = int(_number(value))
    return f"MCHGC{amperes:03d}" if amperes < 100 else f"MNCHGC0{amperes:03d}"


def _charge_ac(value: Value, _: Current) -> str:
    """Unit 0 and two digits; three above 99 A."""
    return f"MUCHGC0{int(_number(value)):02d}"


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


def _voltage(
    name: str, command: Callable[[Value, Current], str], low: float, high: float
) -> Setting:
    """A voltage that a lithium battery may not survive."""
    return Setting(name, command, "high", low=low, high=high, unit="V", of_user_battery=True)


PI30 = (
    Setting(
        "output_source_priority",
        _coded("POP0{}", tables.OUTPUT_PRIORITIES),
        words=tuple(tables.OUTPUT_PRIORITIES.values()),
    ),
    Setting(
        "charger_source_priority",
        _coded("PCP0{}", tables.CHARGER_PRIORITIES),
        words=tuple(tables.CHARGER_PRIORITIES.values()),
    ),
    Setting(
        "input_range",
        _coded("PGR0{}", tables.INPUT_RANGES),
        words=tuple(tables.INPUT_RANGES.values()),
    ),
    Setting("recharge_voltage_v", _volts("PBCV"), steps=RECHARGE_V, unit="V"),
    Setting("redischarge_voltage_v", _volts("PBDV"), steps=REDISCHARGE_V, unit="V"),
    Setting("max_charge_current_a", _charge, choices="max_charge_current_choices_a", unit="A"),
    Setting(
        "max_ac_charge_current_a",
        _charge_ac,
        choices="max_ac_charge_current_choices_a",
        unit="A",
    ),
    Setting("buzzer_enabled", _flag("a"), words=YES_NO),
    Setting("lcd_escape_enabled", _flag("k"), words=YES_NO),
    Setting("backlight_enabled", _flag("x"), words=YES_NO),
    Setting("primary_source_alarm_enabled", _flag("y"), words=YES_NO),
    _voltage("cut_off_voltage_v", _volts("PSDV"), 40.0, 48.0),
    _voltage("bulk_voltage_v", _volts("PCVV"), 48.0, 58.4),
    _voltage("float_voltage_v", _volts("PBFT"), 48.0, 58.4),
    Setting(
        "battery_type",
        _coded("PBT0{}", tables.BATTERY_TYPES),
        "danger",
        words=tuple(tables.BATTERY_TYPES.values()),
    ),
    Setting("equalisation_enabled", _yes("PBEQE"), "danger", words=YES_NO),
    Setting("equalisation_active", _yes("PBEQA"), "danger", words=YES_NO),
    Setting(
        "equalisation_voltage_v",
        lambda value, _: f"PBEQV{_number(value):05.2f}",
        "danger",
        low=48.0,
        high=61.0,
        step=0.01,
        unit="V",
    ),
    Setting(
        "equalisation_time_min",
        _whole("PBEQT"),
        "danger",
        low=5,
        high=900,
        step=5,
        unit="min",
    ),
    Setting(
        "equalisation_timeout_min",
        _whole("PBEQOT"),
        "danger",
        low=5,
        high=900,
        step=5,
        unit="min",
    ),
    Setting(
        "equalisation_period_days",
        _whole("PBEQP"),
        "danger",
        low=0,
        high=90,
        step=1,
        unit="d",
    ),
    Setting(RESET, lambda value, _: "PF", "danger", words=(DEFAULTS,)),
)
"""What may be set on a PI30 device."""


def _s(payload: str) -> str:
    """A set command of PI18: its length counts payload, checksum and CR."""
    return f"^S{len(payload) + 3:03d}{payload}"


def _pi18(payload: Callable[[Value, Current], str]) -> Callable[[Value, Current], str]:
    return lambda value, current: _s(payload(value, current))


def _tenths(value: Value) -> str:
    return f"{round(_number(value) * 10):03d}"


def _both(prefix: str, first: str, second: str, name: str) -> Callable[[Value, Current], str]:
    """Two voltages go in one command: ``name`` changes, the other stays as it is."""

    def command(value: Value, current: Current) -> str:
        values = {**current, name: value}
        if values.get(first) is None or values.get(second) is None:
            other = second if name == first else first
            raise RefusedError(f"{other} of the device is not known, and is sent with {name}")
        return _s(f"{prefix}{_tenths(values[first])},{_tenths(values[second])}")

    return command


PI18 = (
    Setting(
        "output_source_priority",
        _pi18(_coded("POP{}", tables.PI18_OUTPUT_PRIORITIES)),
        words=tuple(tables.PI18_OUTPUT_PRIORITIES.values()),
    ),
    Setting(
        "charger_source_priority",
        _pi18(_coded("PCP0,{}", tables.PI18_CHARGER_PRIORITIES)),
        words=tuple(tables.PI18_CHARGER_PRIORITIES.values()),
    ),
    Setting(
        "input_range",
        _pi18(_coded("PGR{}", tables.INPUT_RANGES)),
        words=tuple(tables.INPUT_RANGES.values()),
    ),
    Setting(
        "recharge_voltage_v",
        _both("BUCD", "recharge_voltage_v", "redischarge_voltage_v", "recharge_voltage_v"),
        steps={48: RECHARGE_V[48]},
        unit="V",
    ),
    Setting(
        "redischarge_voltage_v",
        _both("BUCD", "recharge_voltage_v", "redischarge_voltage_v", "redischarge_voltage_v"),
        steps={48: REDISCHARGE_V[48]},
        unit="V",
    ),
    Setting(
        "max_charge_current_a",
        _pi18(_whole("MCHGC0,")),
        choices="max_charge_current_choices_a",
        unit="A",
    ),
    Setting(
        "max_ac_charge_current_a",
        _pi18(_whole("MUCHGC0,")),
        choices="max_ac_charge_current_choices_a",
        unit="A",
    ),
    Setting("buzzer_enabled", _pi18(_flag("A")), words=YES_NO),
    Setting("lcd_escape_enabled", _pi18(_flag("C")), words=YES_NO),
    Setting("backlight_enabled", _pi18(_flag("F")), words=YES_NO),
    Setting("primary_source_alarm_enabled", _pi18(_flag("G")), words=YES_NO),
    _voltage(
        "cut_off_voltage_v", lambda value, _: _s(f"PSDV{_tenths(value)}"), low=40.0, high=48.0
    ),
    _voltage(
        "bulk_voltage_v",
        _both("MCHGV", "bulk_voltage_v", "float_voltage_v", "bulk_voltage_v"),
        low=48.0,
        high=58.4,
    ),
    _voltage(
        "float_voltage_v",
        _both("MCHGV", "bulk_voltage_v", "float_voltage_v", "float_voltage_v"),
        low=48.0,
        high=58.4,
    ),
    Setting(
        "battery_type",
        _pi18(_coded("PBT{}", dict(list(tables.BATTERY_TYPES.items())[:3]))),
        "danger",
        words=tuple(tables.BATTERY_TYPES.values())[:3],
    ),
    Setting(RESET, lambda value, _: _s("PF"), "danger", words=(DEFAULTS,)),
)
"""What may be set on a PI18 device."""

SETTABLE = {"PI30": PI30, "PI18": PI18}

RISKY = tuple(dict.fromkeys(row.name for row in (*PI30, *PI18) if row.risk != "normal"))
"""What needs the owner's word in ``allow``."""

NAMES = tuple(dict.fromkeys(row.name for row in (*PI30, *PI18)))

Limits = Mapping[str, tuple[float, float]]


def ranges(
    dialect: str, nameplate: Current, allow: Collection[str] = (), limits: Limits | None = None
) -> dict[str, Range]:
    """What may be set on this device, and to what.

    Args:
        dialect: ``PI30`` or ``PI18``.
        nameplate: what the device said of itself: battery rating and lists of amperes.
        allow: names of high risk that the owner's configuration lists.
        limits: what the owner allows of a number, narrower than what the device takes.
    """
    found = {}
    for row in SETTABLE[dialect]:
        if row.risk != "normal" and row.name not in allow:
            continue
        takes = _range(row, nameplate, (limits or {}).get(row.name))
        if takes is not None:
            found[row.name] = takes
    return found


def _range(row: Setting, nameplate: Current, limit: tuple[float, float] | None) -> Range | None:
    """What ``row`` takes; None where this device has not said it."""
    rating = nameplate.get("battery_rating_voltage_v")
    numbers: list[float] = []
    if row.words:
        return Range(choices=[*row.words], risk=row.risk)
    if row.steps:
        numbers = [*row.steps.get(int(rating) if isinstance(rating, int | float) else 0, ())]
    elif row.choices:
        listed = nameplate.get(row.choices)
        numbers = [each for each in listed if _is_number(each)] if isinstance(listed, list) else []
    elif row.low is not None and row.high is not None and rating == 48:
        low, high = row.low, row.high
        if limit:
            low, high = max(low, limit[0]), min(high, limit[1])
        return Range(low=low, high=high, step=row.step, unit=row.unit, risk=row.risk)
    if limit:
        numbers = [each for each in numbers if limit[0] <= each <= limit[1]]
    return Range(choices=[*numbers], unit=row.unit, risk=row.risk) if numbers else None


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def why_not(dialect: str, name: str, allow: Collection[str]) -> str:
    """Why :func:`ranges` lacks ``name``."""
    row = next((row for row in SETTABLE.get(dialect, ()) if row.name == name), None)
    if row is None:
        return f"{text(name)} cannot be set"
    if row.risk != "normal" and name not in allow:
        return f"{name} is of {row.risk} risk: it must stand in allow of the configuration"
    if row.low is not None:
        return f"what {name} takes is known for 48 V batteries only"
    return f"{name}: what this device takes is not known"


def permit(dialect: str, name: str, current: Current) -> None:
    """See that a device that is set as ``current`` can take ``name``.

    Raises:
        RefusedError: its battery type fixes the voltage.
    """
    row = _row(dialect, name)
    kind = current.get("battery_type")
    if row.of_user_battery and kind is not None and kind != USER:
        raise RefusedError(
            f"battery_type is {text(kind)}, which fixes {name}; only user lets it be"
        )


def build(dialect: str, name: str, value: Value, current: Current) -> str:
    """The command that sets ``name``, without checksum; its range was checked.

    Raises:
        RefusedError: another voltage goes in the same command and is not known.
    """
    return _row(dialect, name).command(value, current)


def _row(dialect: str, name: str) -> Setting:
    return next(row for row in SETTABLE[dialect] if row.name == name)
