"""What a PL keeps at which address, and what a byte there means. Data, and laws of one line.

Addresses and laws: "PLI.Info 2.16" (Plasmatronics, 2016); "PL Reference Manual 6.4.0" (2020) for
what the counters do at midnight. No capture of a real controller is public: the examples of that
paper prove the laws that they show, everything else is NOT SEEN ON HARDWARE.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sunmesh.messages import Scalar, Value

Values = dict[str, Value]
Bytes = Mapping[int, int]
"""Address → byte."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What a byte is worth on one controller; None where that is not known.

    Attributes:
        system_v: nominal battery voltage [V].
        charge_step_a: internal charging current by bit [A].
        load_step_a: internal load current by bit [A].
    """

    system_v: int | None = None
    charge_step_a: float | None = None
    load_step_a: float | None = None


# --- Identity ------------------------------------------------------------------------------------

MODELS = ((0, 127, "PL20"), (128, 191, "PL40"), (192, 210, "PL60"), (215, 255, "PL80"))
"""First and last version byte of a model; 211 to 214 belong to none."""

STEPS_A: Mapping[str, tuple[float, float]] = {
    "PL20": (0.1, 0.1),
    "PL40": (0.2, 0.1),
    "PL60": (0.4, 0.2),
    "PL80": (0.4, 0.2),  # A GUESS: no paper has it, but 255 bits then cover its 80 A and 50 A
}
"""Charge and load current by bit [A]; registers 213 and 217."""

GUESSED = frozenset({"PL80"})
"""Models whose current steps no paper gives."""

SYSTEM_V = (12, 24, 32, 36, 48)
"""Battery voltages, by the low nibble of register 93."""

VERSION, HOUR, MINUTE, SECOND, SYSTEM, CAPACITY = 0, 48, 47, 46, 93, 94


def model(raw: int) -> str:
    """The model that a version byte names; ``unknown`` for those of none."""
    return next((name for first, last, name in MODELS if first <= raw <= last), "unknown")


def scale(model: str | None, system_v: int | None) -> Scale:
    """The scale of that model on that battery."""
    charge, load = STEPS_A.get(model or "", (None, None))
    return Scale(system_v, charge, load)


def system_v(raw: int) -> int | None:
    """Nominal battery voltage from register 93; None for a nibble that means none [V]."""
    return SYSTEM_V[raw & 15] if raw & 15 < len(SYSTEM_V) else None


# --- Laws ----------------------------------------------------------------------------------------


def volts(raw: int, scale: Scale) -> Value:
    """A battery voltage: 0.1 V by bit on a 12 V base."""
    return None if scale.system_v is None else round(raw * scale.system_v / 120, 2)


def capacity_ah(raw: int) -> int:
    """Battery capacity: steps of 20 Ah up to 1000 Ah, of 100 Ah beyond."""
    return 20 * raw if raw <= 50 else 1000 + 100 * (raw - 50)


def amperes(raw: int, step: float | None) -> Value:
    """An internal current."""
    return None if step is None else round(raw * step, 2)


def external(ram: Bytes, address: int, present: int, coarse: int) -> Value:
    """A current at an external shunt; None where register 207 knows of no shunt."""
    if not ram[207] & present:
        return None
    return float(ram[address]) if ram[207] & coarse else round(ram[address] / 10, 1)


def charge_external(ram: Bytes, scale: Scale) -> Value:
    """Charging current at the external shunt."""
    return external(ram, 205, 4, 1)


def load_external(ram: Bytes, scale: Scale) -> Value:
    """Load current at the external shunt."""
    return external(ram, 206, 8, 2)


def charge_total(ram: Bytes, scale: Scale) -> Value:
    """Charging current, internal and external."""
    return plus(amperes(ram[213], scale.charge_step_a), charge_external(ram, scale))


def load_total(ram: Bytes, scale: Scale) -> Value:
    """Load current, internal and external."""
    return plus(amperes(ram[217], scale.load_step_a), load_external(ram, scale))


def plus(internal: Value, outside: Value) -> Value:
    """Internal and external current; without a shunt the internal alone."""
    if not isinstance(internal, float):
        return None
    return round(internal + outside, 2) if isinstance(outside, float) else internal


def charge_power(ram: Bytes, scale: Scale) -> Value:
    """Battery voltage times charging current: the controller itself knows no watts."""
    u, i = volts(ram[50], scale), charge_total(ram, scale)
    return round(u * i, 1) if isinstance(u, float) and isinstance(i, float) else None


def counted_ah(*low: int) -> Callable[[Bytes, Scale], Value]:
    """The sum of 16-bit counters, each at ``low`` and the address above it [Ah]."""
    return lambda ram, scale: sum(ram[at] + 256 * ram[at + 1] for at in low)


def clock_text(ram: Bytes, scale: Scale) -> Value:
    """Time of day: tenths of an hour, and where they were read minutes and seconds, too."""
    hour, minute, second = ram[HOUR], ram.get(MINUTE), ram.get(SECOND)
    if hour > 239 or (minute or 0) > 5 or (second or 0) > 29:
        return None
    total = hour * 6 + (minute or 0)
    text = f"{total // 60:02d}:{total % 60:02d}"
    return text if minute is None or second is None else f"{text}:{second * 2:02d}"


def clock_s(ram: Bytes) -> int | None:
    """The same in seconds since midnight; None when it is no time."""
    text = clock_text(ram, Scale())
    if not isinstance(text, str):
        return None
    hours, minutes, *seconds = (int(part) for part in text.split(":"))
    return hours * 3600 + minutes * 60 + sum(seconds)


STATES = ("boost", "equalise", "absorption", "float")
"""Low two bits of register 101."""

OUTPUTS = (
    (128, "pwm"),
    (64, "charge"),
    (32, "shunt"),
    (16, "alarm"),
    (8, "second_battery"),
    (4, "event"),
    (2, "generator"),
    (1, "load_disconnected"),
)
"""Bits of register 115."""


def outputs(raw: int) -> Value:
    """What the controller switches on."""
    return list[Scalar](name for bit, name in OUTPUTS if raw & bit)


# --- Registers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity: its name, the RAM addresses it needs, and the law from those."""

    name: str
    needs: tuple[int, ...]
    law: Callable[[Bytes, Scale], Value]


def _volts(name: str, address: int) -> Row:
    return Row(name, (address,), lambda ram, scale: volts(ram[address], scale))


def _times(name: str, address: int, factor: float = 1) -> Row:
    """A plain count, or one in other units: ``factor`` of ours make one of the device's."""
    return Row(name, (address,), lambda ram, scale: round(ram[address] * factor, 1))


IDENTITY = (
    Row("model", (VERSION,), lambda ram, scale: model(ram[VERSION])),
    Row("battery_rating_voltage_v", (SYSTEM,), lambda ram, scale: system_v(ram[SYSTEM])),
    Row("battery_capacity_ah", (CAPACITY,), lambda ram, scale: capacity_ah(ram[CAPACITY])),
)
LIVE = (
    _volts("battery_voltage_v", 50),
    _times("battery_soc_percent", 181),  # up to 127: it falls to 100 with the first Ah out
    Row("regulator_state", (101,), lambda ram, scale: STATES[ram[101] & 3]),
    Row("outputs_active", (115,), lambda ram, scale: outputs(ram[115])),
    Row("charge_internal_current_a", (213,), lambda ram, s: amperes(ram[213], s.charge_step_a)),
    Row("load_internal_current_a", (217,), lambda ram, s: amperes(ram[217], s.load_step_a)),
    Row("charge_external_current_a", (205, 207), charge_external),
    Row("load_external_current_a", (206, 207), load_external),
    Row("charge_current_a", (213, 205, 207), charge_total),
    Row("load_current_a", (217, 206, 207), load_total),
    Row("charge_power_w", (50, 213, 205, 207), charge_power),
    Row("charge_today_ah", (188, 189, 193, 194), counted_ah(188, 193)),
    Row("load_today_ah", (198, 199, 203, 204), counted_ah(198, 203)),
)
"""Read in every round."""

CLOCK = (Row("device_clock", (HOUR,), clock_text),)
"""Read in every round, too, in an order of its own."""

SLOW = (
    _volts("battery_voltage_max_today_v", 182),
    _volts("battery_voltage_min_today_v", 183),
    _times("float_reached_hours", 184, 0.1),
    _times("since_boost_days", 63),
    _times("since_equalisation_days", 95),
)
"""Part of every sample, read with the settings."""


def _generator(name: str, address: int, is_soc: bool) -> Row:
    """A threshold of the generator: volts, or percent in the modes 1, 2, 5 and 6."""

    def law(ram: Bytes, scale: Scale) -> Value:
        if (ram[88] >> 4 in (1, 2, 5, 6)) != is_soc:
            return None
        return ram[address] if is_soc else volts(ram[address], scale)

    return Row(name, (address, 88), law)


SETTINGS = (
    _generator("generator_start_voltage_v", 64, is_soc=False),
    _generator("generator_stop_voltage_v", 65, is_soc=False),
    _generator("generator_start_soc_percent", 64, is_soc=True),
    _generator("generator_stop_soc_percent", 65, is_soc=True),
    _volts("load_disconnect_voltage_v", 69),
    _volts("load_reconnect_voltage_v", 70),
    _times("load_disconnect_delay_min", 71),
    _times("boost_period_days", 73),
    _times("absorption_time_min", 74, 6),
    _times("equalisation_period_days", 82),
    _volts("absorption_voltage_v", 84),
    _volts("equalisation_voltage_v", 85),
    _volts("float_voltage_v", 86),
    _volts("boost_voltage_v", 87),
    Row("battery_program", (SYSTEM,), lambda ram, scale: ram[SYSTEM] >> 4),
)
"""Settings whose unit the paper makes clear; RAM 64 to 94 is the copy of EEPROM 14 to 44."""

SETTINGS_OFFSET = 50
"""RAM address less EEPROM address of a setting."""

SOLAR = (Row("solar_voltage_v", (53,), lambda ram, scale: ram[53] * 0.5),)
"""Never read by the collector: the byte is stale unless the charge input was opened just before."""


# --- History -------------------------------------------------------------------------------------

POINTER = 45
DAYS = 30
DAY_BYTES = 7
FIRST, END = 46, 256
"""EEPROM 46 to 255 holds 30 records of 7 bytes in a ring; byte 45 names the newest."""


def day_start(pointer: int, day: int) -> int:
    """EEPROM address of the record of ``day`` days ago, 1 = yesterday.

    Raises:
        ValueError: ``pointer`` is not 0 to 29, or ``day`` not 1 to 30.
    """
    if not 0 <= pointer < DAYS or not 1 <= day <= DAYS:
        raise ValueError(f"pointer {pointer} or day {day} is none")
    return FIRST + (pointer - day + 1) % DAYS * DAY_BYTES


def history(eeprom: Bytes, scale: Scale) -> Values:
    """The days that the controller remembers, newest first: element 1 is yesterday.

    Raises:
        ValueError: the pointer is none.
        KeyError: a byte is missing.
    """
    starts = [day_start(eeprom[POINTER], day) for day in range(1, DAYS + 1)]
    days = [[eeprom[start + n] for n in range(DAY_BYTES)] for start in starts]
    return {
        "history_battery_voltage_max_v": [_scalar(volts(day[0], scale)) for day in days],
        "history_battery_voltage_min_v": [_scalar(volts(day[1], scale)) for day in days],
        "history_float_hours": [round(day[2] / 10, 1) for day in days],
        "history_soc_percent": [day[3] for day in days],
        "history_charge_ah": [day[4] + 256 * (day[6] & 15) for day in days],
        "history_load_ah": [day[5] + 256 * (day[6] >> 4) for day in days],
    }


def _scalar(value: Value) -> Scalar:
    return None if isinstance(value, list) else value
