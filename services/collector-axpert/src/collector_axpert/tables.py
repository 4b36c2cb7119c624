"""What the answers of an Axpert mean, as data: fields, words, flags, warning bits.

Nothing here runs except the small parsers that a :class:`Field` names. ``docs/protocols/axpert.md``
says where each table comes from; ``tests/captures/axpert.json`` holds at least one real answer
for every table except those marked NOT SEEN ON HARDWARE.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sunmesh.messages import Value

Parse = Callable[[str], Value]
Values = dict[str, Value]

NUMBER = re.compile(r"[0-9]{1,8}(\.[0-9]{1,3})?")
NOT_AVAILABLE = re.compile(r"-[-.]*|")
"""``-``, ``--``, ``---.-`` and the empty token of PI18: the device has no such value."""

MAX_TEMPERATURE_C = 120
"""1 to 3 kVA models send the raw A/D count of the sensor, 300 to 700, instead of degrees."""


def number(text: str) -> Value:
    """A plain number, with or without decimals; nothing that Python alone would take for one."""
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number")
    return float(text) if "." in text else int(text)


def scaled(divisor: int) -> Parse:
    """A whole number in units of 1 / ``divisor``."""

    def parse(text: str) -> Value:
        if not (text.isascii() and text.isdecimal()):
            raise ValueError(f"{text!r} is not a whole number")
        return int(text) / divisor

    return parse


tenths = scaled(10)
thousandths = scaled(1000)


def temperature(text: str) -> Value:
    """Degrees; None where the device sends its raw sensor count."""
    value = number(text)
    assert isinstance(value, int | float)  # noqa: S101 - what number() returns
    return value if value <= MAX_TEMPERATURE_C else None


def word(words: Mapping[str, str]) -> Parse:
    """A code as a word; a code that the table lacks is kept as it came."""

    def parse(text: str) -> Value:
        if not re.fullmatch(r"[0-9A-Z]{1,2}", text):
            raise ValueError(f"{text!r} is not a code")
        return words.get(text, text)

    return parse


def yes(text: str) -> Value:
    """``1`` or ``01`` as True, ``0`` or ``00`` as False."""
    if text not in {"0", "1", "00", "01"}:
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return text.endswith("1")


def no(text: str) -> Value:
    """``0`` as True, ``1`` as False."""
    return not yes(text)


def matching(pattern: str) -> Parse:
    """The text itself, or the first group, where the whole of it matches."""

    def parse(text: str) -> Value:
        match = re.fullmatch(pattern, text)
        if not match:
            raise ValueError(f"{text!r} does not look like {pattern}")
        return match[match.re.groups and 1]

    return parse


def bits(count: int) -> Parse:
    """A string of ``count`` zeros and ones, kept as it is."""
    return matching(rf"[01]{{{count}}}")


def long_serial(text: str) -> Value:
    """QSID and PI18 ID: two digits say how many of the following twenty are the serial number."""
    if not re.fullmatch(r"[0-9]{22}", text) or not 1 <= int(text[:2]) <= 20:
        raise ValueError(f"{text!r} is not a length and 20 digits")
    return text[2 : 2 + int(text[:2])]


def clock(text: str) -> Value:
    """The device's own clock: local time without a zone."""
    if not re.fullmatch(r"[0-9]{14}", text):
        raise ValueError(f"{text!r} is not YYYYMMDDHHMMSS")
    return datetime.strptime(text, "%Y%m%d%H%M%S").isoformat()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an answer. ``name=None``: counted and checked, but not handed on."""

    name: str | None
    parse: Parse = number


# --- Words ---------------------------------------------------------------------------------------

MODES = {
    "P": "power_on",
    "S": "standby",
    "L": "line",
    "B": "battery",
    "F": "fault",
    "H": "power_saving",
    "D": "shutdown",
    "C": "charging",
    "Y": "bypass",
    "E": "eco",
}
BATTERY_TYPES = {
    "0": "agm",
    "1": "flooded",
    "2": "user",
    "3": "pylontech",
    "4": "shinheung",
    "5": "weco",
    "6": "soltaro",
    "7": "bak",
    "8": "lib",
    "9": "lic",
}
INPUT_RANGES = {"0": "appliance", "1": "ups"}
OUTPUT_PRIORITIES = {"0": "USB", "1": "SUB", "2": "SBU"}
CHARGER_PRIORITIES = {
    "0": "utility_first",
    "1": "solar_first",
    "2": "solar_and_utility",
    "3": "solar_only",
}
MACHINE_TYPES = {
    "00": "grid_tie",
    "01": "off_grid",
    "10": "hybrid",
    "11": "off_grid_2_trackers",
    "20": "off_grid_3_trackers",
}
TOPOLOGIES = {"0": "transformerless", "1": "transformer"}
OUTPUT_MODES = {
    "0": "single",
    "1": "parallel",
    "2": "phase_1_of_3",
    "3": "phase_2_of_3",
    "4": "phase_3_of_3",
    "5": "phase_1_of_2",
    "6": "phase_2_of_2_120_deg",
    "7": "phase_2_of_2_180_deg",
}
PV_OK = {"0": "any_unit", "1": "all_units"}
PV_BALANCE = {"0": "charge_current", "1": "charge_and_load"}
OPERATION_LOGICS = {"0": "auto", "1": "online", "2": "eco"}
PARALLEL_ROLES = {"00": "new", "01": "slave", "02": "master"}
CHARGE_STAGES = {"10": "none", "11": "bulk", "12": "absorb", "13": "float"}

FLAGS = {
    "a": "buzzer_enabled",
    "b": "overload_bypass_enabled",
    "d": "solar_feed_to_grid_enabled",
    "j": "power_saving_enabled",
    "k": "lcd_escape_enabled",
    "l": "data_log_popup_enabled",
    "u": "overload_restart_enabled",
    "v": "over_temperature_restart_enabled",
    "x": "backlight_enabled",
    "y": "primary_source_alarm_enabled",
    "z": "fault_record_enabled",
}
"""Letters of QFLAG, PE and PD."""


def mode(text: str) -> Value:
    """One letter as a word; a letter that nobody has seen yet as it came."""
    if not re.fullmatch(r"[A-Z]", text):
        raise ValueError(f"{text!r} is not a letter")
    return MODES.get(text, text)


# --- PI30 ----------------------------------------------------------------------------------------
# HS/MS/MSX paper 2014-08-22 (17 fields of QPIGS, 25 of QPIRI), PI30 customer paper 2015-09-24,
# PI30MAX paper 2021-02-17; section 3 of docs/protocols/axpert.md.

QPI = (Field("protocol", matching(r"PI[0-9]{2}")),)
QID = (Field("serial", matching(r"[0-9A-Za-z]{8,20}")),)
QSID = (Field("serial", long_serial),)
QVFW = (Field("firmware", matching(r"VERFW[0-9]?: ?([0-9A-F]{5}\.[0-9A-F]{2})")),)
QMN = (Field("model", matching(r"[!-~]{3,24}")),)
QGMN = (Field("general_model", matching(r"[0-9]{3}")),)

QPIGS = (
    Field("grid_voltage_v"),
    Field("grid_frequency_hz"),
    Field("ac_output_voltage_v"),
    Field("ac_output_frequency_hz"),
    Field("ac_output_apparent_power_va"),
    Field("ac_output_power_w"),
    Field("load_percent"),
    Field("bus_voltage_v"),
    Field("battery_voltage_v"),
    Field("battery_charge_current_a"),
    Field("battery_soc_percent"),
    Field("heat_sink_temperature_c", temperature),
    Field("pv_current_a"),
    Field("pv_voltage_v"),
    Field("battery_voltage_scc_v"),
    Field("battery_discharge_current_a"),
    Field("device_status_bits", bits(8)),
    Field("fan_voltage_offset_v", scaled(100)),
    Field("eeprom_version", matching(r"[0-9]{2}")),
    Field("pv_power_w"),
    Field("device_status2_bits", bits(3)),
    Field("solar_feed_to_grid", yes),
    Field("country_code", matching(r"[0-9]{2}")),
    Field("grid_export_power_w"),
)

QPIGS2_MAX = (Field("pv2_current_a"), Field("pv2_voltage_v"), Field("pv2_power_w"))
QPIGS2_DUO = (  # NOT SEEN ON HARDWARE
    Field("pv2_current_a"),
    Field("pv2_voltage_v"),
    Field("battery_voltage_scc2_v"),
    Field("pv2_power_w"),
    Field("scc_status_bits", bits(8)),
    Field("ac_charge_current_a"),
    Field("ac_charge_power_w"),
    Field("pv3_current_a"),
    Field("pv3_voltage_v"),
    Field("battery_voltage_scc3_v"),
    Field("pv3_power_w"),
    Field("pv_total_power_w"),
)

QPIRI = (
    Field("grid_rating_voltage_v"),
    Field("grid_rating_current_a"),
    Field("ac_output_rating_voltage_v"),
    Field("ac_output_rating_frequency_hz"),
    Field("ac_output_rating_current_a"),
    Field("ac_output_rating_apparent_power_va"),
    Field("ac_output_rating_power_w"),
    Field("battery_rating_voltage_v"),
    Field("recharge_voltage_v"),
    Field("cut_off_voltage_v"),
    Field("bulk_voltage_v"),
    Field("float_voltage_v"),
    Field("battery_type", word(BATTERY_TYPES)),
    Field("max_ac_charge_current_a"),
    Field("max_charge_current_a"),
    Field("input_range", word(INPUT_RANGES)),
    Field("output_source_priority", word(OUTPUT_PRIORITIES)),
    Field("charger_source_priority", word(CHARGER_PRIORITIES)),
    Field("parallel_max_units"),
    Field("machine_type", word(MACHINE_TYPES)),
    Field("topology", word(TOPOLOGIES)),
    Field("output_mode", word(OUTPUT_MODES)),
    Field("redischarge_voltage_v"),
    Field("pv_ok_condition", word(PV_OK)),
    Field("pv_power_balance", word(PV_BALANCE)),
    Field("max_cv_charge_time_min"),
    Field("operation_logic", word(OPERATION_LOGICS)),
    Field("max_discharge_current_a"),
)

QDI = (
    Field("ac_output_voltage_v"),
    Field("ac_output_frequency_hz"),
    Field("max_ac_charge_current_a"),
    Field("cut_off_voltage_v"),
    Field("float_voltage_v"),  # before bulk: the other way round than in QPIRI
    Field("bulk_voltage_v"),
    Field("recharge_voltage_v"),
    Field("max_charge_current_a"),
    Field("input_range", word(INPUT_RANGES)),
    Field("output_source_priority", word(OUTPUT_PRIORITIES)),
    Field("charger_source_priority", word(CHARGER_PRIORITIES)),
    Field("battery_type", word(BATTERY_TYPES)),
    Field("buzzer_enabled", no),
    Field("power_saving_enabled", yes),
    Field("overload_restart_enabled", yes),
    Field("over_temperature_restart_enabled", yes),
    Field("backlight_enabled", yes),
    Field("primary_source_alarm_enabled", yes),
    Field("fault_record_enabled", yes),
    Field("overload_bypass_enabled", yes),
    Field("lcd_escape_enabled", yes),
    Field("output_mode", word(OUTPUT_MODES)),
    Field("redischarge_voltage_v"),
    Field("pv_ok_condition", word(PV_OK)),
    Field("pv_power_balance", word(PV_BALANCE)),
    Field("max_cv_charge_time_min"),
    Field("max_discharge_current_a"),
)

QMOD = (Field("device_mode", mode),)
QOPM = (Field("output_mode", word({f"0{code}": mode for code, mode in OUTPUT_MODES.items()})),)
QT = (Field("device_clock", clock),)

QBEQI = (
    Field("equalisation_enabled", yes),
    Field("equalisation_time_min"),
    Field("equalisation_period_days"),
    Field("equalisation_max_current_a"),
    Field(None),
    Field("equalisation_voltage_v"),
    Field(None),
    Field("equalisation_timeout_min"),
    Field("equalisation_active", yes),
    Field("equalisation_elapsed_hours"),
)

QPGS = (
    Field("parallel_unit_exists", yes),
    Field("serial", matching(r"[0-9A-Za-z]{8,20}")),
    Field("device_mode", mode),
    Field("fault_code"),
    Field("grid_voltage_v"),
    Field("grid_frequency_hz"),
    Field("ac_output_voltage_v"),
    Field("ac_output_frequency_hz"),
    Field("ac_output_apparent_power_va"),
    Field("ac_output_power_w"),
    Field("load_percent"),
    Field("battery_voltage_v"),
    Field("battery_charge_current_a"),
    Field("battery_soc_percent"),
    Field("pv_voltage_v"),
    Field("parallel_charge_current_a"),
    Field("parallel_output_apparent_power_va"),
    Field("parallel_output_power_w"),
    Field("parallel_load_percent"),
    Field("parallel_status_bits", bits(8)),
    Field("output_mode", word(OUTPUT_MODES)),
    Field("charger_source_priority", word(CHARGER_PRIORITIES)),
    Field("max_charge_current_a"),
    Field("max_charge_range_a"),
    Field("max_ac_charge_current_a"),
    Field("pv_current_a"),
    Field("battery_discharge_current_a"),
    Field("pv2_voltage_v"),
    Field("pv2_current_a"),
)

Q1 = (  # undocumented; notes of forums.aeva.asn.au topic 4332
    Field("absorb_time_s"),
    Field("float_time_s"),
    Field("scc_ok", yes),
    Field("scc_allowed", yes),
    Field("charge_average_current_a"),
    Field("scc_temperature_c", temperature),
    Field("inverter_temperature_c", temperature),
    Field("battery_side_temperature_c", temperature),
    Field("transformer_temperature_c", temperature),
    Field("parallel_role", word(PARALLEL_ROLES)),
    Field("fan_locked", yes),
    Field(None),
    Field("fan_speed_percent"),
    Field("scc_charge_power_w"),
    Field("parallel_warning", matching(r"[0-9]{4}")),
    Field("sync_frequency_hz"),
    Field("charge_stage", word(CHARGE_STAGES)),
)

# --- PI18 ----------------------------------------------------------------------------------------
# InfiniSolar V paper 2017-09-26; section 4 of docs/protocols/axpert.md. Other codes than PI30 for
# the same settings, and other places: redischarge comes before cut-off here.

PI18_MODES = {
    "00": "power_on",
    "01": "standby",
    "02": "bypass",
    "03": "battery",
    "04": "fault",
    "05": "hybrid",
}
PI18_OUTPUT_PRIORITIES = {"0": "SUB", "1": "SBU"}
PI18_CHARGER_PRIORITIES = {"0": "solar_first", "1": "solar_and_utility", "2": "solar_only"}
PI18_MACHINE_TYPES = {"0": "off_grid", "1": "grid_tie"}
PI18_SOLAR_PRIORITIES = {"0": "battery_load_utility", "1": "load_battery_utility"}
MPPT_STATES = {"0": "abnormal", "1": "not_charging", "2": "charging"}
BATTERY_DIRECTIONS = {"0": "none", "1": "charge", "2": "discharge"}
DC_AC_DIRECTIONS = {"0": "none", "1": "ac_dc", "2": "dc_ac"}
LINE_DIRECTIONS = {"0": "none", "1": "input", "2": "output"}

PI18_PI = (Field("protocol", word({"18": "PI18"})),)
PI18_ID = (Field("serial", long_serial),)
PI18_VFW = (
    Field("firmware", matching(r"[0-9]{5}")),
    Field("firmware_slave1", matching(r"[0-9]{5}")),
    Field("firmware_slave2", matching(r"[0-9]{5}")),
)  # NOT SEEN ON HARDWARE
PI18_T = (Field("device_clock", clock),)  # NOT SEEN ON HARDWARE
PI18_MOD = (Field("device_mode", word(PI18_MODES)),)

PI18_GS = (
    Field("grid_voltage_v", tenths),
    Field("grid_frequency_hz", tenths),
    Field("ac_output_voltage_v", tenths),
    Field("ac_output_frequency_hz", tenths),
    Field("ac_output_apparent_power_va"),
    Field("ac_output_power_w"),
    Field("load_percent"),
    Field("battery_voltage_v", tenths),
    Field("battery_voltage_scc_v", tenths),
    Field("battery_voltage_scc2_v", tenths),
    Field("battery_discharge_current_a"),
    Field("battery_charge_current_a"),
    Field("battery_soc_percent"),
    Field("heat_sink_temperature_c", temperature),
    Field("mppt1_temperature_c", temperature),
    Field("mppt2_temperature_c", temperature),
    Field("pv_power_w"),
    Field("pv2_power_w"),
    Field("pv_voltage_v", tenths),
    Field("pv2_voltage_v", tenths),
    Field("settings_changed", yes),
    Field("mppt1_status", word(MPPT_STATES)),
    Field("mppt2_status", word(MPPT_STATES)),
    Field("load_on", yes),
    Field("battery_direction", word(BATTERY_DIRECTIONS)),
    Field("dc_ac_direction", word(DC_AC_DIRECTIONS)),
    Field("line_direction", word(LINE_DIRECTIONS)),
    Field("parallel_id"),
)

PI18_PIRI = (
    Field("grid_rating_voltage_v", tenths),
    Field("grid_rating_current_a", tenths),
    Field("ac_output_rating_voltage_v", tenths),
    Field("ac_output_rating_frequency_hz", tenths),
    Field("ac_output_rating_current_a", tenths),
    Field("ac_output_rating_apparent_power_va"),
    Field("ac_output_rating_power_w"),
    Field("battery_rating_voltage_v", tenths),
    Field("recharge_voltage_v", tenths),
    Field("redischarge_voltage_v", tenths),
    Field("cut_off_voltage_v", tenths),
    Field("bulk_voltage_v", tenths),
    Field("float_voltage_v", tenths),
    Field("battery_type", word(BATTERY_TYPES)),
    Field("max_ac_charge_current_a"),
    Field("max_charge_current_a"),
    Field("input_range", word(INPUT_RANGES)),
    Field("output_source_priority", word(PI18_OUTPUT_PRIORITIES)),
    Field("charger_source_priority", word(PI18_CHARGER_PRIORITIES)),
    Field("parallel_max_units"),
    Field("machine_type", word(PI18_MACHINE_TYPES)),
    Field("topology", word(TOPOLOGIES)),
    Field("output_mode", word(OUTPUT_MODES)),
    Field("solar_power_priority", word(PI18_SOLAR_PRIORITIES)),
    Field("mppt_strings"),
)

PI18_FLAG = (
    Field("buzzer_enabled", yes),
    Field("overload_bypass_enabled", yes),
    Field("lcd_escape_enabled", yes),
    Field("overload_restart_enabled", yes),
    Field("over_temperature_restart_enabled", yes),
    Field("backlight_enabled", yes),
    Field("primary_source_alarm_enabled", yes),
    Field("fault_record_enabled", yes),
)

PI18_DI = (  # NOT SEEN ON HARDWARE
    Field("ac_output_voltage_v", tenths),
    Field("ac_output_frequency_hz", tenths),
    Field("input_range", word(INPUT_RANGES)),
    Field("cut_off_voltage_v", tenths),
    Field("float_voltage_v", tenths),
    Field("bulk_voltage_v", tenths),
    Field("recharge_voltage_v", tenths),
    Field("redischarge_voltage_v", tenths),
    Field("max_charge_current_a"),
    Field("max_ac_charge_current_a"),
    Field("battery_type", word(BATTERY_TYPES)),
    Field("output_source_priority", word(PI18_OUTPUT_PRIORITIES)),
    Field("charger_source_priority", word(PI18_CHARGER_PRIORITIES)),
    Field("solar_power_priority", word(PI18_SOLAR_PRIORITIES)),
    Field("machine_type", word(PI18_MACHINE_TYPES)),
    Field("output_mode", word(OUTPUT_MODES)),
    Field("buzzer_enabled", yes),
    Field("overload_restart_enabled", yes),
    Field("over_temperature_restart_enabled", yes),
    Field("backlight_enabled", yes),
    Field("primary_source_alarm_enabled", yes),
    Field("fault_record_enabled", yes),
    Field("overload_bypass_enabled", yes),
    Field("lcd_escape_enabled", yes),
)

PI18_PGS = (  # NOT SEEN ON HARDWARE
    Field("parallel_unit_exists", yes),
    Field("device_mode", word(PI18_MODES | {code[1]: mode for code, mode in PI18_MODES.items()})),
    Field("fault_code"),
    Field("grid_voltage_v", tenths),
    Field("grid_frequency_hz", tenths),
    Field("ac_output_voltage_v", tenths),
    Field("ac_output_frequency_hz", tenths),
    Field("ac_output_apparent_power_va"),
    Field("ac_output_power_w"),
    Field("parallel_output_apparent_power_va"),
    Field("parallel_output_power_w"),
    Field("load_percent"),
    Field("parallel_load_percent"),
    Field("battery_voltage_v", tenths),
    Field("battery_discharge_current_a"),
    Field("battery_charge_current_a"),
    Field("parallel_charge_current_a"),
    Field("battery_soc_percent"),
    Field("pv_power_w"),
    Field("pv2_power_w"),
    Field("pv_voltage_v", tenths),
    Field("pv2_voltage_v", tenths),
    Field("mppt1_status", word(MPPT_STATES)),
    Field("mppt2_status", word(MPPT_STATES)),
    Field("load_on", yes),
    Field("battery_direction", word(BATTERY_DIRECTIONS)),
    Field("dc_ac_direction", word(DC_AC_DIRECTIONS)),
    Field("line_direction", word(LINE_DIRECTIONS)),
    Field("max_temperature_c", temperature),
)

# --- Warnings and faults -------------------------------------------------------------------------

WARNING_TEXTS = {
    "pv_loss": "No PV power (normal every night)",
    "inverter_fault": "Inverter fault",
    "bus_over": "DC bus voltage too high",
    "bus_under": "DC bus voltage too low",
    "bus_soft_fail": "DC bus did not start up",
    "line_fail": "No usable grid at the input",
    "output_short": "Output short-circuited",
    "inverter_voltage_low": "Output voltage too low",
    "inverter_voltage_high": "Output voltage too high",
    "over_temperature": "Inverter too hot",
    "fan_locked": "A fan is blocked",
    "battery_voltage_high": "Battery voltage too high",
    "battery_low": "Battery low",
    "battery_under_shutdown": "Battery under its cut-off voltage; the inverter switched off",
    "battery_derating": "Power reduced by a low battery",
    "overload": "Overload",
    "eeprom_fault": "Settings memory (EEPROM) faulty",
    "inverter_over_current": "Inverter over current",
    "inverter_soft_fail": "Inverter did not start up",
    "self_test_fail": "Self test failed",
    "output_dc_voltage_over": "DC voltage on the AC output",
    "battery_open": "No battery connected",
    "current_sensor_fail": "Current sensor faulty",
    "battery_short": "Battery short-circuited",
    "power_limit": "Power limited",
    "pv_voltage_high": "PV voltage too high",
    "mppt_overload_fault": "Solar charger overloaded",
    "mppt_overload_warning": "Solar charger near its limit",
    "battery_too_low_to_charge": "Battery too low for the solar charger",
    "pv2_voltage_high": "PV voltage too high, input 2",
    "mppt2_overload_fault": "Solar charger 2 overloaded",
    "mppt2_overload_warning": "Solar charger 2 near its limit",
    "scc2_battery_too_low_to_charge": "Battery too low for solar charger 2",
    "pv3_voltage_high": "PV voltage too high, input 3",
    "mppt3_overload_fault": "Solar charger 3 overloaded",
    "mppt3_overload_warning": "Solar charger 3 near its limit",
    "scc3_battery_too_low_to_charge": "Battery too low for solar charger 3",
    "dc_dc_over_current": "DC/DC converter over current",
    "battery_weak": "Battery weak",
    "low_pv_energy": "Little PV energy",
    "high_ac_input": "Grid voltage too high while the DC bus started",
    "battery_equalisation": "Battery is being equalised",
}
"""Every code that ``warnings`` can hold, except ``reserved_N`` for a bit without a name."""

NO_ALARM = frozenset({"pv_loss", "low_pv_energy", "line_fail", "battery_equalisation"})
"""Warnings of what is usual: the night, the grid that a relay took away, an equalisation."""

ADVICE = {
    "overload": "Switch something off: an inverter that is overloaded for long stops.",
    "over_temperature": "Reduce the load and let air to the inverter.",
    "fan_locked": "Clean the fans, or have them replaced, before the inverter gets too hot.",
    "battery_low": "Reduce the load, or let the grid or a generator charge.",
    "battery_under_shutdown": "Charge the battery; the inverter starts again by itself.",
    "battery_derating": "Reduce the load: the battery is nearly empty.",
    "battery_voltage_high": "Lower the charging voltages, and look at the cells.",
    "battery_too_low_to_charge": "Charge the battery from the grid or a charger first.",
    "battery_weak": "Look at the battery and at its cables.",
    "pv_voltage_high": "Too many panels in series for a cold day: ask your installer.",
    "eeprom_fault": "Its settings may be lost at the next start: call your installer.",
}
"""What an owner can do about a warning."""

FAULT_TEXTS = {
    1: "Fan locked",
    2: "Over temperature",
    3: "Battery voltage too high",
    4: "Battery voltage too low",
    5: "Output short-circuited, or over temperature",
    6: "Output voltage too high",
    7: "Overload for too long",
    8: "DC bus voltage too high",
    9: "DC bus did not start up",
    10: "PV over current",
    11: "PV voltage too high",
    12: "DC/DC converter over current",
    13: "Battery discharge over current",
    51: "Over current",
    52: "DC bus voltage too low",
    53: "Inverter did not start up",
    54: "Self test failed",
    55: "DC voltage in the AC output",
    56: "No battery connected",
    57: "Current sensor faulty",
    58: "Output voltage too low",
    59: "PV voltage too high",
    60: "Power fed back into the inverter",
    71: "Firmware versions of the parallel units differ",
    72: "Parallel units do not share the current",
    80: "CAN bus between parallel units faulty",
    81: "Host of the parallel group lost",
    82: "Synchronisation of the parallel group lost",
    83: "Battery voltages of parallel units differ",
    84: "Grid inputs of parallel units differ",
    85: "Output currents of parallel units unbalanced",
    86: "Output modes of parallel units differ",
}
"""Numbers of ``fault_code``."""


@dataclass(frozen=True, slots=True)
class WarningTable:
    """How one generation of devices uses the characters of QPIWS.

    Attributes:
        bits: position → code. Positions without a code are reserved.
        faults: codes that are faults whenever they are set.
        digits: the positions that hold the two decimal digits of the fault code, if any.
    """

    bits: Mapping[int, str]
    faults: frozenset[str]
    digits: tuple[int, ...] = ()


EITHER = frozenset({"over_temperature", "fan_locked", "battery_voltage_high", "overload"})
"""Faults while ``inverter_fault`` is set, warnings otherwise."""

_FAULTS = frozenset(
    {
        "inverter_fault",
        "bus_over",
        "bus_under",
        "bus_soft_fail",
        "inverter_voltage_low",
        "inverter_voltage_high",
        "inverter_over_current",
        "inverter_soft_fail",
        "self_test_fail",
        "output_dc_voltage_over",
        "battery_open",
        "current_sensor_fail",
        "battery_short",
    }
)
_COMMON = {
    1: "inverter_fault",
    2: "bus_over",
    3: "bus_under",
    4: "bus_soft_fail",
    5: "line_fail",
    6: "output_short",
    7: "inverter_voltage_low",
    8: "inverter_voltage_high",
    9: "over_temperature",
    10: "fan_locked",
    11: "battery_voltage_high",
    12: "battery_low",
    14: "battery_under_shutdown",
    15: "battery_derating",
    16: "overload",
    17: "eeprom_fault",
    18: "inverter_over_current",
    19: "inverter_soft_fail",
    20: "self_test_fail",
    21: "output_dc_voltage_over",
    22: "battery_open",
    23: "current_sensor_fail",
}
_SOLAR = {
    24: "battery_short",
    25: "power_limit",
    26: "pv_voltage_high",
    27: "mppt_overload_fault",
    28: "mppt_overload_warning",
    29: "battery_too_low_to_charge",
}
_DUO = {
    30: "pv2_voltage_high",
    31: "mppt2_overload_fault",
    32: "mppt2_overload_warning",
    33: "scc2_battery_too_low_to_charge",
    34: "pv3_voltage_high",
    35: "mppt3_overload_fault",
    36: "mppt3_overload_warning",
    37: "scc3_battery_too_low_to_charge",
}
_KING = {
    0: "pv_loss",
    30: "dc_dc_over_current",
    33: "low_pv_energy",
    34: "high_ac_input",
    35: "battery_equalisation",
}
_MAX = {0: "pv_loss", 31: "battery_weak", 35: "battery_equalisation"}
_MAX24 = {0: "pv_loss", 35: "battery_equalisation"}
_KING_FAULTS = {"output_short", "mppt_overload_fault", "dc_dc_over_current"}

WARNING_TABLES = {
    "HS": WarningTable(_COMMON | _SOLAR, _FAULTS | {"eeprom_fault"}),
    "DUO": WarningTable(_COMMON | _SOLAR | _DUO, _FAULTS | {"eeprom_fault"}),
    "KING": WarningTable(_COMMON | _SOLAR | _KING, _FAULTS | _KING_FAULTS, (31, 32)),
    "MAX": WarningTable(_COMMON | _MAX, _FAULTS | {"output_short"}, (32, 33)),
    "MAX24": WarningTable(_COMMON | _MAX24, _FAULTS | {"output_short"}, (31, 32)),
}
"""Tables of QPIWS by generation. MAX24 is a MAX for 24 V batteries."""

WARNINGS_BY_LENGTH = {32: "HS", 36: "MAX", 38: "DUO"}
"""What the length alone says; King sends 36 like MAX and is known by its QPIRI."""

POSSIBLE = (
    ("grid_voltage_v", "grid_rating_voltage_v", 1.5),
    ("ac_output_voltage_v", "ac_output_rating_voltage_v", 1.5),
    ("ac_output_power_w", "ac_output_rating_power_w", 3.0),
    ("ac_output_apparent_power_va", "ac_output_rating_apparent_power_va", 3.0),
    ("battery_voltage_v", "battery_rating_voltage_v", 1.5),
    ("pv_power_w", "ac_output_rating_power_w", 3.0),
    ("pv2_power_w", "ac_output_rating_power_w", 3.0),
)
"""What the nameplate makes possible: a value above factor times its rating is suspect."""

PI18_WARNINGS = (
    "line_fail",
    "output_short",
    "over_temperature",
    "fan_locked",
    "battery_voltage_high",
    "battery_low",
    "battery_under_shutdown",
    "overload",
    "eeprom_fault",
    "power_limit",
    "pv_voltage_high",
    "pv2_voltage_high",
    "mppt_overload_warning",
    "mppt2_overload_warning",
    "battery_too_low_to_charge",
    "scc2_battery_too_low_to_charge",
)
"""Flags of FWS after the fault code; a seventeenth was seen and has no name."""


def warning_text(code: str) -> str:
    """What a code of ``warnings`` means, for people."""
    known = WARNING_TEXTS.get(code)
    return (
        known or f"Warning bit {code.removeprefix('reserved_')}, which the maker does not explain"
    )


def fault_text(code: int) -> str:
    """What a ``fault_code`` means, for people."""
    return FAULT_TEXTS.get(code, f"Fault code {code}")
