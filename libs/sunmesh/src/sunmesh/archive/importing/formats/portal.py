"""photovoltaic-monitoring: its MySQL tables with a row a minute, as a dump or as CSV.

The key is the local time ``YYYYMMDDHHMM``, so that of the repeated hour of autumn it kept the first
run. Of its views, ``vw_inverter_power`` is taken with its watts; its watt-hours are rounded to
whole ones a minute, and sums of them are not worth taking.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ....messages import Value
from .. import files, times
from ..records import (
    Format,
    Head,
    ImportRefusedError,
    Options,
    Record,
    Refused,
    Role,
    Row,
    Settings,
)
from .axpertbms import (
    BATTERY_TYPES,
    CHARGER_PRIORITIES,
    INPUT_RANGES,
    MODES,
    OUTPUT_PRIORITIES,
)

Cells = Mapping[str, str | None]
Values = dict[str, Value]

DATA = {
    "grid_voltage": "grid_voltage_v",
    "grid_frequency": "grid_frequency_hz",
    "ac_output_voltage": "ac_output_voltage_v",
    "ac_output_frequency": "ac_output_frequency_hz",
    "ac_output_apparent_power": "ac_output_apparent_power_va",
    "ac_output_active_power": "ac_output_power_w",
    "output_load_percent": "load_percent",
    "bus_voltage": "bus_voltage_v",
    "battery_capacity": "battery_soc_percent",
    "battery_charging_current": "battery_charge_current_a",
    "battery_discharge_current": "battery_discharge_current_a",
    "battery_voltage": "battery_voltage_v",
    "battery_voltage_scc": "battery_voltage_scc_v",
    "heatsink_temperature": "heat_sink_temperature_c",
    "pv_current": "pv_current_a",
    "pv_voltage": "pv_voltage_v",
}
SETTINGS = {
    "BatteryReChargeVoltage": "recharge_voltage_v",
    "BatteryUnderVoltage": "cut_off_voltage_v",
    "BatteryBulkVoltage": "bulk_voltage_v",
    "BatteryFloatVoltage": "float_voltage_v",
    "MaxACChargingCurrent": "max_ac_charge_current_a",
    "MaxChargingCurrent": "max_charge_current_a",
    "BatteryReDischargeVoltage": "redischarge_voltage_v",
}
SETTING_WORDS = {
    "BatteryType": ("battery_type", BATTERY_TYPES),
    "InputVoltageRange": ("input_range", INPUT_RANGES),
    "OutputSourcePriority": ("output_source_priority", OUTPUT_PRIORITIES),
    "ChargerSourcePriority": ("charger_source_priority", CHARGER_PRIORITIES),
}
FLAGS = {
    "a_buzzer": "buzzer_enabled",
    "b_overloadbypass": "overload_bypass_enabled",
    "j_powersaving": "power_saving_enabled",
    "k_displaydefaultpage": "lcd_escape_enabled",
    "u_overloadrestart": "overload_restart_enabled",
    "v_overtemprestart": "over_temperature_restart_enabled",
    "x_backlighton": "backlight_enabled",
    "y_alarmprimarysource": "primary_source_alarm_enabled",
    "z_faultcoderecord": "fault_record_enabled",
}
TRUTHS = {"1": True, "E": True, "0": False, "D": False}
VIEW = {"consumo_watt": "ac_output_power_w", "produzione_pv_watt": "pv_power_w"}
SENSOR_FAULTS = (85.0, -127.0, 0.0)
"""A DS18B20 after power-on and without its wire, and the table's default."""


def _some(cells: Cells, names: Mapping[str, str]) -> Values:
    values: Values = {}
    for column, name in names.items():
        cell = cells.get(column)
        number = None if cell is None else files.number(cell)
        if number is not None:
            values[name] = number
    return values


def _data(cells: Cells) -> Iterator[tuple[str, Values]]:
    values = _some(cells, DATA)
    volts, amps = values.get("pv_voltage_v"), values.get("pv_current_a")
    if isinstance(volts, float) and isinstance(amps, float):
        values["pv_power_w"] = round(volts * amps, 1)
    battery = values.get("battery_voltage_v")
    charge = values.get("battery_charge_current_a")
    discharge = values.get("battery_discharge_current_a")
    if isinstance(battery, float) and isinstance(charge, float) and isinstance(discharge, float):
        values["battery_power_w"] = round(battery * (discharge - charge), 1)
    letter = (cells.get("status_code") or "").strip()
    if letter in (*MODES, "G"):  # G = its own word for a battery that the sun helps
        values["device_mode"] = "battery" if letter == "G" else MODES[letter]
    yield "inverter", values
    diodes = _some(cells, {"diode_junction_temp": "temperature_c"})
    if diodes and diodes["temperature_c"] not in SENSOR_FAULTS:
        yield "diodes", diodes


def _view(cells: Cells) -> Iterator[tuple[str, Values]]:
    values = _some(cells, VIEW)
    flows = _some(cells, {"produzione_batt_watt": "out", "accumulo_batt_watt": "in"})
    out, into = flows.get("out"), flows.get("in")
    if isinstance(out, float) and isinstance(into, float):
        values["battery_power_w"] = out - into
    yield "inverter", values


def _settings(cells: Cells) -> Iterator[tuple[str, Values]]:
    values = _some(cells, SETTINGS)
    for column, (name, words) in SETTING_WORDS.items():
        code = (cells.get(column) or "").strip()
        if code:
            values[name] = words.get(code, code)
    yield "inverter", values


def _flags(cells: Cells) -> Iterator[tuple[str, Values]]:
    found = {name: TRUTHS.get((cells.get(column) or "").strip()) for column, name in FLAGS.items()}
    yield "inverter", {name: truth for name, truth in found.items() if truth is not None}


def _weather(cells: Cells) -> Iterator[tuple[str, Values]]:
    yield "weather", _some(cells, {"temperature": "outdoor_temperature_c"})


Spread = Callable[[Cells], Iterator[tuple[str, Values]]]
TABLES: dict[str, tuple[str, Spread]] = {
    "inverter_data": ("ac_output_active_power", _data),
    "vw_inverter_power": ("consumo_watt", _view),
    "inverter_settings": ("BatteryBulkVoltage", _settings),
    "inverter_flags": ("a_buzzer", _flags),
    "weather_data": ("weather_id", _weather),
}
"""A column that tells each table, and what its rows say."""
OF_SETTINGS = ("inverter_settings", "inverter_flags")


def looks(start: Head) -> bool:
    """Whether it is a dump with such tables, or one of them as CSV."""
    if start.is_binary:
        return False
    if files.is_dump(start):
        return bool(re.search(r"[`\"]?(inverter_data|inverter_settings)[`\"]?", start.text))
    return bool(start.lines) and _table_of(re.split(r"[,;\t]", start.lines[0])) is not None


def _table_of(header: list[str]) -> str | None:
    names = {name.strip(' "') for name in header}
    if "timestamp" not in names:
        return None
    return next((table for table, (column, _spread) in TABLES.items() if column in names), None)


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The records of all tables."""
    for place, path in enumerate(paths):
        for record in _records(path, options):
            yield place, record


def _records(path: Path, options: Options) -> Iterator[Record]:
    clocks = {table: times.LocalTimes(options.zone, once=True) for table in TABLES}
    for line, table, cells in _rows(path):
        stamp = (cells.get("timestamp") or "").strip()
        form = "iso" if table == "weather_data" else "compact"
        try:
            ms = times.parser(form, clocks[table])(stamp)
            found = list(TABLES[table][1](cells))
        except ValueError as err:
            yield Refused(line, f"{table}: {err}")
            continue
        make = Settings if table in OF_SETTINGS else Row
        for role, values in found:
            if values:
                yield make(line, ms, options.devices[role], values)


def _rows(path: Path) -> Iterator[tuple[int, str, Cells]]:
    if files.is_dump(files.head(path)):
        for row in files.dump(path):
            if row.table in TABLES:
                yield row.line, row.table, dict(zip(row.columns, row.cells, strict=False))
        return
    layout = files.layout(path, header=True)
    header = list(layout.header or ())
    table = _table_of(header)
    if table is None:
        raise ImportRefusedError(f"{path}: none of {', '.join(TABLES)}")
    for line, cells in files.rows(path, layout):
        if layout.decimal == ",":
            cells = [cell.replace(",", ".") for cell in cells]
        yield line, table, dict(zip(header, cells, strict=False))


FORMAT = Format(
    "pv-portal",
    "tables of photovoltaic-monitoring",
    looks,
    read,
    roles=(
        Role("inverter", "axpert", "inverter"),
        Role("diodes", "temperature", "diodes"),
        Role("weather", "", "weather"),
    ),
)
