"""How values are written for people: numbers with units, names, codes, times. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

from sunmesh.messages import Value
from sunmesh.vocabulary import UNITS, VOCABULARY, unit_of

NONE = "–"
"""Written where a value is not known; never a zero."""
MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
HARD = "\N{NO-BREAK SPACE}"

LABELS = {
    "ac_output_apparent_power_va": "Output, apparent power",
    "ac_output_frequency_hz": "Output frequency",
    "ac_output_power_w": "Output power",
    "ac_output_voltage_v": "Output voltage",
    "battery_charge_current_a": "Battery, charging current",
    "battery_charge_energy_total_kwh": "Battery, charged in total",
    "battery_current_a": "Battery current",
    "battery_discharge_current_a": "Battery, discharging current",
    "battery_discharge_energy_total_kwh": "Battery, discharged in total",
    "battery_power_w": "Battery power",
    "battery_soc_percent": "State of charge",
    "battery_temperature_c": "Battery temperature",
    "battery_type": "Battery type",
    "battery_voltage_scc_v": "Battery voltage at the solar charger",
    "battery_voltage_v": "Battery voltage",
    "bulk_voltage_v": "Bulk charging voltage",
    "bus_voltage_v": "Internal DC bus",
    "buzzer_enabled": "Buzzer",
    "cell_voltage_max_v": "Highest cell",
    "cell_voltage_min_v": "Lowest cell",
    "cell_voltage_spread_v": "Cell spread",
    "cell_voltage_v": "Cells",
    "charger_source_priority": "Charging takes from",
    "cut_off_voltage_v": "Switches off below",
    "device_mode": "Mode",
    "device_status_bits": "Status bits",
    "fault_code": "Fault",
    "faults": "Faults",
    "float_voltage_v": "Float voltage",
    "grid_export_energy_kwh": "Given to the grid in total",
    "grid_frequency_hz": "Grid frequency",
    "grid_import_energy_kwh": "Taken from the grid in total",
    "grid_power_w": "Grid power",
    "grid_voltage_v": "Grid voltage",
    "heat_sink_temperature_c": "Heat sink",
    "input_range": "Accepted grid range",
    "inverter_loss_power_w": "Inverter's own use",
    "load_energy_total_kwh": "Used by the house in total",
    "lease_remaining_s": "Lease ends in",
    "load_percent": "Inverter load",
    "load_power_w": "House",
    "max_ac_charge_current_a": "Charging limit from the grid",
    "max_charge_current_a": "Charging limit",
    "output_frequency_hz": "Output set to",
    "output_source_priority": "The house takes from",
    "pv_energy_total_kwh": "Sun, in total",
    "pv_power_w": "Panels, power",
    "pv_voltage_v": "Panels, voltage",
    "pv_current_a": "Panels, current",
    "pv2_power_w": "Panels 2, power",
    "pv2_voltage_v": "Panels 2, voltage",
    "pv2_current_a": "Panels 2, current",
    "recharge_voltage_v": "Back to the grid below",
    "redischarge_voltage_v": "Back to the battery above",
    "relay_feedback": "Proved by its contact",
    "relay_manual_until": "By hand until",
    "relay_position": "Transfer relay",
    "relay_reason": "Why it stands so",
    "switch_count": "Switchings",
    "warnings": "Warnings",
}
"""Plain-language names; what is missing here is made from the vocabulary's own name."""

ACRONYMS = {
    "ac": "AC",
    "bms": "BMS",
    "cpu": "CPU",
    "dc": "DC",
    "cv": "constant-voltage",
    "eeprom": "EEPROM",
    "lcd": "LCD",
    "mppt": "MPPT",
    "pv": "PV",
    "pv2": "PV 2",
    "pv3": "PV 3",
    "scc": "solar charger",
    "soc": "state of charge",
}

CHOICES = {
    "device_mode": {
        "power_on": "starting",
        "standby": "standby",
        "line": "on the grid",
        "battery": "on battery and sun",
        "fault": "fault",
        "power_saving": "power saving",
        "shutdown": "switched off",
        "charging": "charging",
        "bypass": "bypass: grid straight to the house",
        "eco": "eco",
        "hybrid": "grid and sun together",
    },
    "output_source_priority": {
        "USB": "grid, then sun, then battery (USB)",
        "SUB": "sun, then grid, then battery (SUB)",
        "SBU": "sun, then battery, then grid (SBU)",
    },
    "charger_source_priority": {
        "utility_first": "the grid first",
        "solar_first": "the sun first",
        "solar_and_utility": "sun and grid",
        "solar_only": "the sun only",
    },
    "input_range": {
        "appliance": "wide (appliances)",
        "ups": "narrow (UPS)",
    },
    "relay_position": {
        "grid_connected": "grid connected",
        "grid_open": "grid disconnected",
    },
    "relay_feedback": {
        "grid_connected": "grid connected",
        "grid_open": "grid disconnected",
    },
    "relay_reason": {
        "startup": "the relay service has just started",
        "leased": "the controller asked for it and keeps asking",
        "asked": "the controller asked for it",
        "lease_expired": "nobody renewed the lease: the controller is silent",
        "manual": "set by hand",
        "manual_ended": "the time set by hand is over",
        "broker_lost": "the broker is lost",
        "unreadable_request": "a request could not be read",
        "fault": "a fault: somebody has to look",
        "no_output": "the output cannot be driven",
        "stopping": "the relay service stopped",
    },
}

WARNINGS = {
    "pv_loss": "no sun on the panels (normal at night)",
    "inverter_fault": "inverter fault",
    "bus_over": "internal DC voltage too high",
    "bus_under": "internal DC voltage too low",
    "bus_soft_fail": "internal DC voltage did not build up",
    "line_fail": "no usable grid",
    "output_short": "short circuit at the output",
    "inverter_voltage_low": "output voltage too low",
    "inverter_voltage_high": "output voltage too high",
    "over_temperature": "too hot: check fans and air",
    "fan_locked": "a fan is blocked",
    "battery_voltage_high": "battery voltage too high",
    "battery_low": "battery low",
    "battery_under_shutdown": "battery below the cut-off voltage, output off",
    "battery_derating": "power reduced because the battery is low",
    "overload": "overload: switch something off",
    "eeprom_fault": "settings memory faulty",
    "inverter_over_current": "inverter current too high",
    "inverter_soft_fail": "inverter did not start",
    "self_test_fail": "self test failed",
    "output_dc_voltage_over": "DC voltage on the AC output",
    "battery_open": "no battery connected",
    "current_sensor_fail": "current sensor faulty",
    "battery_short": "short circuit at the battery",
    "power_limit": "power limited",
    "pv_voltage_high": "panel voltage too high",
    "mppt_overload_fault": "solar charger overloaded",
    "mppt_overload_warning": "solar charger near its limit",
    "battery_too_low_to_charge": "battery too low for the solar charger",
    "battery_weak": "battery weak",
    "battery_equalisation": "battery is being equalised",
    "low_pv_energy": "little sun",
}
"""Warnings that owners ask about; other codes are spelt out as they are."""

QUIET_WARNINGS = frozenset({"pv_loss", "low_pv_energy", "battery_equalisation"})
"""Every night, every winter, every month: said, but nothing to act on."""

DIGITS = {
    "_kwh": 2,
    "_ah": 1,
    "_hz": 2,
    "_percent": 0,
    "_va": 0,
    "_var": 0,
    "_w_m2": 0,
    "_w": 0,
    "_v": 1,
    "_a": 1,
    "_c": 1,
    "_s": 0,
    "_min": 0,
    "_days": 0,
    "_hours": 1,
}


def number(value: float, digits: int) -> str:
    """``value`` with that many digits, a true minus sign, thousands apart, and no "−0"."""
    text = f"{abs(value):,.{digits}f}".replace(",", NARROW)
    return (MINUS if value < 0 and text.strip("0.") else "") + text


def power(watts: float | None) -> str:
    """``834 W``; from 1 kW on ``1.23 kW``."""
    if watts is None:
        return NONE
    if abs(round(watts)) < 1000:
        return f"{number(watts, 0)}{HARD}W"
    return f"{number(watts / 1000, 2)}{HARD}kW"


def energy(kwh: float | None) -> str:
    """``6.14 kWh``, ``123.4 kWh``."""
    if kwh is None:
        return NONE
    return f"{number(kwh, 2 if abs(kwh) < 99.995 else 1)}{HARD}kWh"


def percent(share: float | None) -> str:
    """A share of 1 as ``82 %``."""
    return NONE if share is None else f"{number(share * 100, 0)}{HARD}%"


def clock(moment: datetime, now: datetime) -> str:
    """``14:02`` today; with the day's name this week, else with the date. Both in one zone."""
    text = f"{moment:%H:%M}"
    days = (now.date() - moment.date()).days
    if days == 0:
        return text
    if days == 1:
        return f"yesterday {text}"
    if days == -1:
        return f"tomorrow {text}"
    if 1 < days < 7:
        return f"{moment:%A} {text}"
    return f"{moment.day} {moment:%b} {text}" if days < 300 else f"{moment:%Y-%m-%d} {text}"


def local(ms: int, zone: tzinfo) -> datetime:
    """Milliseconds since 1970 as a moment in ``zone``."""
    return datetime.fromtimestamp(ms / 1000, zone)


def duration(span: timedelta) -> str:
    """``40 min``, ``5 h 20 min``, ``14 h``, ``3 days``."""
    minutes = max(0, round(span.total_seconds() / 60))
    if minutes < 60:
        return f"{minutes}{HARD}min"
    hours, rest = divmod(minutes, 60)
    if hours < 10:
        rest = rest // 5 * 5
        return f"{hours}{HARD}h" + (f"{HARD}{rest}{HARD}min" if rest else "")
    if hours < 48:
        return f"{round(minutes / 60)}{HARD}h"
    return f"{round(minutes / 1440)}{HARD}days"


def age(seconds: float) -> str:
    """How long ago: ``3 s``, ``4 min``, ``2 h``, ``3 days``."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f}{HARD}s"
    if seconds < 5400:
        return f"{seconds / 60:.0f}{HARD}min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f}{HARD}h"
    return f"{seconds / 86_400:.0f}{HARD}days"


def title(name: str) -> str:
    """A device's or a site's name as a heading: ``grid-meter`` → ``Grid meter``."""
    text = name.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]


def label(name: str) -> str:
    """The plain-language name of a quantity."""
    if name in LABELS:
        return LABELS[name]
    for suffix in (*UNITS, "_enabled"):
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return title(" ".join(ACRONYMS.get(word, word) for word in name.split("_")))


def meaning(name: str) -> str:
    """What the vocabulary says of a quantity; empty for a name it does not have."""
    row = VOCABULARY.get(name)
    return row.meaning if row else ""


def code(text: str) -> str:
    """A warning or fault code in words: ``battery_low_alarm`` → ``battery low alarm``."""
    if text in WARNINGS:
        return WARNINGS[text]
    words = text.replace("-", "_").lower().split("_")
    return " ".join(ACRONYMS.get(word, word) for word in words if word)


def _scalar(name: str, value: Value, digits: int | None = None) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        if digits is None:
            suffix = next((suffix for suffix in DIGITS if name.endswith(suffix)), "")
            digits = DIGITS.get(suffix, 0 if float(value).is_integer() else 2)
        return number(value, digits)
    if isinstance(value, str):
        return CHOICES.get(name, {}).get(value, code(value) if value.islower() else value)
    return NONE


def _digits(name: str, values: Sequence[Value]) -> int | None:
    """Cell voltages and temperatures need more or fewer digits than their unit's usual."""
    if name.startswith("cell_voltage"):
        return 3
    if name.endswith("_soc_percent") and any(
        isinstance(value, float) and not value.is_integer() for value in values
    ):
        return 1
    return None


def value(name: str, reading: Value) -> str:
    """One value as a person reads it, with its unit."""
    if name.endswith("_w") and isinstance(reading, int | float):
        return power(reading)
    if name.endswith("_kwh") and isinstance(reading, int | float):
        return energy(reading)
    if name == "redischarge_voltage_v" and reading == 0 and reading is not False:
        return "when the battery is full"
    unit = unit_of(name)
    if isinstance(reading, list):
        if not reading:
            return "none"
        digits = _digits(name, reading)
        texts = [
            code(item) if isinstance(item, str) else _scalar(name, item, digits) for item in reading
        ]
        separator = ", " if any(isinstance(item, str) for item in reading) else f"{HARD}· "
        return separator.join(texts) + (f"{HARD}{unit}" if unit else "")
    text = _scalar(name, reading, _digits(name, [reading]))
    return f"{text}{HARD}{unit}" if unit and reading is not None else text
