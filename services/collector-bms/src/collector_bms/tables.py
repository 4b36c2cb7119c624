"""What the answers of a Daly BMS mean, as data: fields, registers, alarm bits, limits.

Nothing here runs except the small parsers that a row names. ``docs/protocols/bms.md`` says
where each table comes from; ``tests/captures/daly.json`` holds at least one real answer for every
table except those marked NOT SEEN ON HARDWARE.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sunmesh.messages import Scalar, Value

Parse = Callable[[int], Value]
Values = dict[str, Value]

CURRENT_ZERO = 30000
"""The raw value of no current; one step is 0.1 A."""
CELL_MV = range(500, 5001)
"""A cell outside of it is no cell."""
MAX_CELLS, MAX_SENSORS = 48, 21
"""Sixteen frames of three cells, three frames of seven sensors."""
MAX_TEMPERATURE_C = 150


def plain(raw: int) -> Value:
    """The number as it came."""
    return raw


def scaled(divisor: int) -> Parse:
    """A whole number in units of 1 / ``divisor``."""
    return lambda raw: raw / divisor


tenths, thousandths = scaled(10), scaled(1000)


def cell(raw: int) -> Value:
    """The voltage of a cell [V]."""
    if raw not in CELL_MV:
        raise ValueError(f"a cell of {raw} mV")
    return raw / 1000


def temperature(raw: int) -> Value:
    """Degrees; None for 0 and 255, which is how an open sensor reads."""
    if raw in (0, 255):
        return None
    if raw - 40 > MAX_TEMPERATURE_C:
        raise ValueError(f"a temperature of {raw - 40} °C")
    return raw - 40


def offset_40(raw: int) -> Value:
    """Degrees of a limit, which may well be -40."""
    return raw - 40


def number(raw: int) -> Value:
    """Which cell or sensor, counted from 1."""
    if not 1 <= raw <= MAX_CELLS:
        raise ValueError(f"a cell or sensor number of {raw}")
    return raw


def truth(raw: int) -> Value:
    """On or off, sent as 1 or 0."""
    if raw > 1:
        raise ValueError(f"{raw} where 0 or 1 belongs")
    return raw == 1


def percent(raw: int) -> Value:
    """Tenths of a percent, 0 to 100 %."""
    if raw > 1000:
        raise ValueError(f"{raw / 10} %")
    return raw / 10


def word(*words: str) -> Parse:
    """A code as a word."""

    def parse(raw: int) -> Value:
        if raw >= len(words):
            raise ValueError(f"{raw} is none of {', '.join(words)}")
        return words[raw]

    return parse


direction = word("none", "charge", "discharge")


def io_bits(raw: int) -> Value:
    """Names of the inputs and outputs that are on."""
    names = ("DI1", "DI2", "DI3", "DI4", "DO1", "DO2", "DO3", "DO4")
    return list[Scalar](name for bit, name in enumerate(names) if raw >> bit & 1)


@dataclass(frozen=True, slots=True)
class Field:
    """A number in the eight data bytes of an A5 frame.

    Attributes:
        name: of the quantity.
        at: its first byte.
        size: how many bytes, high byte first.
        parse: raw number → value; ValueError for what cannot be.
    """

    name: str
    at: int
    size: int
    parse: Parse = plain


# --- A5: the documented set ----------------------------------------------------------------------
# Daly "UART/485 communications protocol" V1.0 (2019-06) and V1.2 (2020-12), reads 0x90 to 0x98.
# 0x90, 0x95 to 0x98 are more than rows of fields, see codec.

STATUS: Mapping[int, tuple[Field, ...]] = {
    0x91: (
        Field("cell_voltage_max_v", 0, 2, cell),
        Field("cell_voltage_max_number", 2, 1, number),
        Field("cell_voltage_min_v", 3, 2, cell),
        Field("cell_voltage_min_number", 5, 1, number),
    ),
    0x92: (
        Field("battery_temperature_max_c", 0, 1, temperature),
        Field("battery_temperature_max_number", 1, 1),
        Field("battery_temperature_min_c", 2, 1, temperature),
        Field("battery_temperature_min_number", 3, 1),
    ),
    0x93: (
        Field("battery_direction", 0, 1, direction),
        Field("charge_mosfet_on", 1, 1, truth),
        Field("discharge_mosfet_on", 2, 1, truth),
        Field("bms_heartbeat", 3, 1),
        Field("remaining_capacity_ah", 4, 4, thousandths),
    ),
    0x94: (
        Field("battery_cells", 0, 1),
        Field("battery_temperature_sensors", 1, 1),
        Field("charger_connected", 2, 1, truth),
        Field("load_connected", 3, 1, truth),
        Field("digital_io_on", 4, 1, io_bits),
        Field("cycles", 5, 2),
    ),
}
"""Bytes that no row names are left-overs of earlier answers on many boards, and never read."""

# Not in the maker's paper; from DalyBMSInterface, Daly2MQTT, the Venus driver and a CAN log.
# Captures exist of 0x50, 0x53 and 0x5F; the others are NOT SEEN ON HARDWARE.

_LEVELS = ("warning", "limit")


def _limits(names: tuple[str, ...], unit: str, size: int, parse: Parse) -> tuple[Field, ...]:
    """Level 1 (warning) and level 2 (limit) of each name in turn."""
    pairs = [(name, level) for name in names for level in _LEVELS]
    return tuple(
        Field(f"{name}_{level}_{unit}", index * size, size, parse)
        for index, (name, level) in enumerate(pairs)
    )


def _signed_current(raw: int) -> Value:
    """Amperes of a limit, whichever side of zero it is written on."""
    return abs(raw - CURRENT_ZERO) / 10


CONFIGURATION: Mapping[int, tuple[Field, ...]] = {
    0x50: (
        Field("rated_capacity_ah", 0, 4, thousandths),
        Field("nominal_cell_voltage_v", 4, 4, thousandths),
    ),
    0x51: (Field("bms_boards", 0, 1),),
    0x52: (Field("charge_total_ah", 0, 4), Field("discharge_total_ah", 4, 4)),
    0x53: (Field("bms_mode_code", 0, 1), Field("battery_type_code", 1, 1)),
    0x59: _limits(("cell_voltage_high", "cell_voltage_low"), "v", 2, thousandths),
    0x5A: _limits(("battery_voltage_high", "battery_voltage_low"), "v", 2, tenths),
    0x5B: _limits(("charge_current", "discharge_current"), "a", 2, _signed_current),
    0x5C: _limits(
        (
            "charge_temperature_high",
            "charge_temperature_low",
            "discharge_temperature_high",
            "discharge_temperature_low",
        ),
        "c",
        1,
        offset_40,
    ),
    0x5D: _limits(("soc_high", "soc_low"), "percent", 2, tenths),
    0x5E: (
        Field("cell_difference_warning_v", 0, 2, thousandths),
        Field("cell_difference_limit_v", 2, 2, thousandths),
        Field("temperature_difference_warning_c", 4, 1),
        Field("temperature_difference_limit_c", 5, 1),
    ),
    0x5F: (
        Field("balance_start_voltage_v", 0, 2, thousandths),
        Field("balance_difference_v", 2, 2, thousandths),
    ),
    0x60: (Field("short_circuit_current_a", 0, 2),),
}

TEXTS: Mapping[int, tuple[str, int]] = {
    0x57: ("battery_code", 5),
    0x62: ("firmware", 2),
    0x63: ("hardware", 2),
}
"""Answers of a number and seven characters a frame: name, frames. NOT SEEN ON HARDWARE."""

# --- Alarm bits of 0x98 --------------------------------------------------------------------------
# The Chinese column of V1.0 and V1.2 agree; the English column of V1.0 mislabels byte 0, bits 1-3.

_LEVEL_NAMES = (
    "cell_voltage_high",
    "cell_voltage_low",
    "battery_voltage_high",
    "battery_voltage_low",
    "charge_temperature_high",
    "charge_temperature_low",
    "discharge_temperature_high",
    "discharge_temperature_low",
    "charge_over_current",
    "discharge_over_current",
    "soc_high",
    "soc_low",
    "cell_difference",
    "temperature_difference",
)
WARNING_SUFFIX = "_warning"
ALARM_BITS: Mapping[tuple[int, int], str] = {
    **{
        (index // 4, index % 4 * 2 + level): name + ("" if level else WARNING_SUFFIX)
        for index, name in enumerate(_LEVEL_NAMES)
        for level in (0, 1)
    },
    (4, 0): "charge_mosfet_hot",
    (4, 1): "discharge_mosfet_hot",
    (4, 2): "charge_mosfet_sensor",
    (4, 3): "discharge_mosfet_sensor",
    (4, 4): "charge_mosfet_stuck",
    (4, 5): "discharge_mosfet_stuck",
    (4, 6): "charge_mosfet_open",
    (4, 7): "discharge_mosfet_open",
    (5, 0): "afe_chip",
    (5, 1): "cell_sampling_lost",
    (5, 2): "cell_sensor",
    (5, 3): "eeprom",
    (5, 4): "clock",
    (5, 5): "precharge_failed",
    (5, 6): "communication",
    (5, 7): "internal_communication",
    (6, 0): "current_module",
    (6, 1): "voltage_module",
    (6, 2): "short_circuit",
    (6, 3): "charging_forbidden",
    (6, 4): "switched_off",
}
"""(byte, bit) → code. Level 1 ends in ``_warning``; the others are faults."""

NO_ALARM = frozenset({"soc_high", "soc_high_warning", "soc_low_warning"})
"""A full battery is none, and the bands of the charge are services/watch's."""

SWAPPED = {
    "charge_over_current": "discharge_over_current",
    "discharge_over_current": "charge_over_current",
    "charge_over_current_warning": "discharge_over_current_warning",
    "discharge_over_current_warning": "charge_over_current_warning",
}
"""A board that counts its current the other way has these the other way, too (Venus issue 378)."""

# --- 0x81: registers of the newer boards ---------------------------------------------------------
# patagonaa/esphome-daly-hkms-bms and the Venus driver for the "100 balance" boards.
# Reads are NOT SEEN ON HARDWARE: no published byte of an answer was found.

CELLS_AT, TEMPERATURES_AT = 0x00, 0x30
CELLS_IN_REGISTERS, SENSORS_IN_REGISTERS = 48, 8
BALANCE_AT, FLAGS_AT = 0x4F, 0x6D
BALANCE_COUNT, FLAGS_COUNT = 3, 7

REGISTERS: Mapping[int, tuple[str, Parse]] = {
    0x3C: ("battery_cells", plain),
    0x3D: ("battery_temperature_sensors", plain),
    0x3E: ("cell_voltage_max_v", cell),
    0x3F: ("cell_voltage_max_number", number),
    0x40: ("cell_voltage_min_v", cell),
    0x41: ("cell_voltage_min_number", number),
    0x43: ("battery_temperature_max_c", temperature),
    0x44: ("battery_temperature_max_number", plain),
    0x45: ("battery_temperature_min_c", temperature),
    0x46: ("battery_temperature_min_number", plain),
    0x48: ("battery_direction", direction),
    0x4B: ("remaining_capacity_ah", tenths),
    0x4C: ("cycles", plain),
    0x4D: ("balancing_active", lambda raw: raw > 0),
    0x52: ("charge_mosfet_on", truth),
    0x53: ("discharge_mosfet_on", truth),
    0x5A: ("mosfet_temperature_c", temperature),
    0x5B: ("board_temperature_c", temperature),
}
VOLTAGE_AT, CURRENT_AT, SOC_AT = 0x38, 0x39, 0x3A

REGISTERS_32: Mapping[int, tuple[str, Parse]] = {
    0x109: ("rated_capacity_ah", thousandths),
    0x10D: ("charge_total_ah", thousandths),
    0x10F: ("discharge_total_ah", thousandths),
}
"""Two registers each, high word first."""

DATE_AT = 0x129
REGISTER_TEXTS: Mapping[int, tuple[str, int]] = {
    0x178: ("hardware", 7),
    0x17F: ("firmware", 7),
    0x18D: ("serial", 14),
    0x19B: ("battery_code", 16),
}
"""First register → name and number of registers, two characters each."""

FLAG_LEVELS: Mapping[tuple[int, int], str] = {
    (0, 0): "cell_voltage_high",
    (0, 3): "cell_voltage_low",
    (1, 0): "cell_difference",
    (1, 3): "charge_temperature_high",
    (2, 0): "charge_temperature_low",
    (2, 3): "discharge_temperature_high",
    (3, 0): "discharge_temperature_low",
    (3, 3): "temperature_difference",
    (4, 0): "battery_voltage_high",
    (4, 3): "battery_voltage_low",
    (5, 0): "charge_over_current",
    (5, 3): "discharge_over_current",
    (6, 0): "soc_low",
    (6, 3): "soh_low",
    (7, 0): "mosfet_hot",
    (7, 3): "thermal_runaway",
}
"""(byte, first of three bits) → code; level 1 is a warning, 2 and more a fault.

Byte 0 is the low byte of register 0x6D, byte 1 its high byte, and so on.
"""

FLAG_BITS: Mapping[tuple[int, int], str] = {
    (0, 7): "smart_charger_connection",
    (1, 7): "smart_load_connection",
    (2, 6): "charge_mosfet_hot",
    (2, 7): "charge_mosfet_sensor",
    (3, 6): "discharge_mosfet_hot",
    (3, 7): "discharge_mosfet_sensor",
    (4, 6): "short_circuit",
    (5, 6): "charging_forbidden",
    (5, 7): "discharging_forbidden",
    (6, 7): "parallel_communication",
    (11, 0): "afe_chip",
    (11, 1): "afe_communication",
    (11, 2): "cell_sampling_lost",
    (11, 3): "voltage_module",
    (11, 4): "cell_sensor",
    (11, 5): "battery_voltage_module",
    (11, 6): "current_module",
    (11, 7): "temperature_module",
    (12, 0): "temperature_sensor",
    (12, 1): "eeprom",
    (12, 2): "flash",
    (12, 3): "clock",
    (12, 4): "charge_mosfet",
    (12, 5): "discharge_mosfet",
    (12, 6): "precharge_mosfet",
    (12, 7): "precharge_failed",
    (13, 7): "heating",
}
"""(byte, bit) → code of a fault."""

FAULT_TEXTS: Mapping[str, str] = {
    "cell_voltage_high": "A cell's voltage is too high",
    "cell_voltage_low": "A cell's voltage is too low",
    "battery_voltage_high": "Pack voltage too high",
    "battery_voltage_low": "Pack voltage too low",
    "charge_temperature_high": "Too hot to charge",
    "charge_temperature_low": "Too cold to charge",
    "discharge_temperature_high": "Too hot to discharge",
    "discharge_temperature_low": "Too cold to discharge",
    "charge_over_current": "Charging current too high",
    "discharge_over_current": "Discharging current too high",
    "soc_high": "State of charge too high",
    "soc_low": "State of charge too low",
    "soh_low": "State of health too low",
    "cell_difference": "Cells are too far apart",
    "temperature_difference": "Temperatures are too far apart",
    "mosfet_hot": "MOSFETs too hot",
    "thermal_runaway": "Thermal runaway",
    "charge_mosfet_hot": "Charge MOSFET too hot",
    "discharge_mosfet_hot": "Discharge MOSFET too hot",
    "charge_mosfet_sensor": "Temperature sensor of the charge MOSFET faulty",
    "discharge_mosfet_sensor": "Temperature sensor of the discharge MOSFET faulty",
    "charge_mosfet_stuck": "Charge MOSFET does not switch off",
    "discharge_mosfet_stuck": "Discharge MOSFET does not switch off",
    "charge_mosfet_open": "Charge MOSFET does not switch on",
    "discharge_mosfet_open": "Discharge MOSFET does not switch on",
    "charge_mosfet": "Charge MOSFET faulty",
    "discharge_mosfet": "Discharge MOSFET faulty",
    "precharge_mosfet": "Precharge MOSFET faulty",
    "afe_chip": "Measuring chip faulty",
    "afe_communication": "Measuring chip does not answer",
    "cell_sampling_lost": "Cell voltages are not measured",
    "cell_sensor": "A wire to a cell is broken",
    "temperature_sensor": "A wire to a temperature sensor is broken",
    "temperature_module": "Temperatures are not measured",
    "eeprom": "Settings memory (EEPROM) faulty",
    "flash": "Flash memory faulty",
    "clock": "Clock faulty",
    "precharge_failed": "Precharging failed",
    "communication": "Communication with the outside faulty",
    "internal_communication": "Communication inside the BMS faulty",
    "parallel_communication": "Communication between parallel packs faulty",
    "current_module": "Current is not measured",
    "voltage_module": "Voltages are not measured",
    "battery_voltage_module": "Pack voltage is not measured",
    "short_circuit": "Short circuit",
    "charging_forbidden": "Voltage so low that charging is forbidden",
    "discharging_forbidden": "Voltage so high that discharging is forbidden",
    "switched_off": "Switched off by software or remote",
    "smart_charger_connection": "Charger does not answer",
    "smart_load_connection": "Load does not answer",
    "heating": "Heating faulty",
}
"""Every code that ``faults`` can hold, except ``reserved_B_N`` for a bit without a name."""


def fault_text(code: str) -> str:
    """What a code of ``faults`` or ``warnings`` means, for people."""
    base = code.removesuffix(WARNING_SUFFIX)
    text = FAULT_TEXTS.get(base, f"Alarm bit {base.removeprefix('reserved_')}, without a name")
    return text + (" (first warning)" if base != code else "")
