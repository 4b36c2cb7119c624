"""VoltronicAxpertSolarMonitorBMS: tables QPIGS, QPIRI, QMOD, BMS, SDM230 with ``var1`` … ``varN``.

As a dump of mysqldump, or one CSV file a table, called like it. Two of its corrections are undone:
the BMS' state of charge and what remains of its capacity were stored as 0.936842 x raw + 6.315789
percent, and its current was + = charging.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
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

SOC_FACTOR = 0.936842106
SOC_OFFSET = 6.3157894
CAPACITY_AH = 280
"""What it took the pack's capacity for."""

MODES = {
    "P": "power_on",
    "S": "standby",
    "L": "line",
    "B": "battery",
    "F": "fault",
    "H": "power_saving",
}
OUTPUT_PRIORITIES = {"0": "USB", "1": "SUB", "2": "SBU"}
CHARGER_PRIORITIES = {
    "0": "utility_first",
    "1": "solar_first",
    "2": "solar_and_utility",
    "3": "solar_only",
}
BATTERY_TYPES = {"0": "agm", "1": "flooded", "2": "user"}
INPUT_RANGES = {"0": "appliance", "1": "ups"}

Cells = Sequence[str | None]
"""``var1`` first."""
Values = dict[str, Value]

QPIGS = (
    "grid_voltage_v",
    "grid_frequency_hz",
    "ac_output_voltage_v",
    "ac_output_frequency_hz",
    "ac_output_apparent_power_va",
    "ac_output_power_w",
    "load_percent",
    "bus_voltage_v",
    "battery_voltage_v",
    "battery_charge_current_a",
    "battery_soc_percent",
    "heat_sink_temperature_c",
    "pv_current_a",
    "pv_voltage_v",
    "battery_voltage_scc_v",
    "battery_discharge_current_a",
)
QPIRI: dict[int, str] = {
    9: "recharge_voltage_v",
    10: "cut_off_voltage_v",
    11: "bulk_voltage_v",
    12: "float_voltage_v",
    14: "max_ac_charge_current_a",
    15: "max_charge_current_a",
    23: "redischarge_voltage_v",
}
QPIRI_WORDS: dict[int, tuple[str, dict[str, str]]] = {
    13: ("battery_type", BATTERY_TYPES),
    16: ("input_range", INPUT_RANGES),
    17: ("output_source_priority", OUTPUT_PRIORITIES),
    18: ("charger_source_priority", CHARGER_PRIORITIES),
}
BMS: dict[int, str] = {
    1: "battery_voltage_v",
    2: "battery_gather_voltage_v",
    5: "cell_voltage_max_v",
    7: "cell_voltage_min_v",
    9: "battery_temperature_max_c",
    11: "battery_temperature_min_c",
    16: "bms_heartbeat",
    23: "cycles",
    40: "battery_temperature_c/1",
    **{24 + cell: f"cell_voltage_v/{cell + 1}" for cell in range(16)},
}
BMS_TRUTHS = {
    14: "charge_mosfet_on",
    15: "discharge_mosfet_on",
    20: "charger_connected",
    21: "load_connected",
}
SDM230: dict[int, str] = {
    1: "grid_apparent_power_va",
    2: "grid_power_factor",
    3: "grid_current_a",
    4: "grid_export_energy_kwh",
    5: "grid_frequency_hz",
    6: "grid_import_energy_kwh",
    7: "grid_phase_angle_deg",
    8: "grid_power_w",
    9: "grid_export_reactive_energy_kvarh",
    10: "grid_import_reactive_energy_kvarh",
    11: "grid_reactive_power_var",
    12: "grid_total_energy_kwh",
    13: "grid_voltage_v",
}


def _number(cells: Cells, var: int) -> float | None:
    cell = cells[var - 1] if var <= len(cells) else None
    return None if cell is None else files.number(cell)


def _numbers(cells: Cells, names: dict[int, str]) -> Values:
    found = {name: _number(cells, var) for var, name in names.items()}
    return {name: value for name, value in found.items() if value is not None}


def _qpigs(cells: Cells) -> Values:
    values: Values = dict(_numbers(cells, dict(enumerate(QPIGS, 1))))
    volts, amps = _number(cells, 14), _number(cells, 13)
    if volts is not None and amps is not None:
        values["pv_power_w"] = round(volts * amps, 1)
    battery = _number(cells, 9)
    charge, discharge = _number(cells, 10), _number(cells, 16)
    if battery is not None and charge is not None and discharge is not None:
        values["battery_power_w"] = round(battery * (discharge - charge), 1)
    return values


def _qmod(cells: Cells) -> Values:
    letter = (cells[0] or "").strip()
    if letter not in MODES:
        raise ValueError(f"{letter!r} is no mode")
    return {"device_mode": MODES[letter]}


def _qpiri(cells: Cells) -> Values:
    values: Values = dict(_numbers(cells, QPIRI))
    for var, (name, words) in QPIRI_WORDS.items():
        code = _number(cells, var)
        if code is not None:
            values[name] = words.get(f"{code:g}", f"{code:g}")
    return values


def raw_percent(stored: float) -> float:
    """The percentage that the BMS sent for what was stored."""
    return round((stored - SOC_OFFSET) / SOC_FACTOR, 1) + 0.0


def _bms(cells: Cells) -> Values:
    values: Values = dict(_numbers(cells, BMS))
    amps, soc, left = (_number(cells, var) for var in (3, 4, 17))
    volts = _number(cells, 1)
    if amps is not None:
        values["battery_current_a"] = -amps + 0.0
        if volts is not None:
            values["battery_power_w"] = round(-amps * volts, 1) + 0.0
    if soc is not None:
        values["battery_soc_percent"] = raw_percent(soc)
    if left is not None:
        share = (left * 100 / CAPACITY_AH - SOC_OFFSET) / SOC_FACTOR
        values["remaining_capacity_ah"] = round(share * CAPACITY_AH / 100, 2) + 0.0
    highest, lowest = _number(cells, 5), _number(cells, 7)
    if highest is not None and lowest is not None:
        values["cell_voltage_spread_v"] = round(highest - lowest, 3)
    for var, name in BMS_TRUTHS.items():
        truth = _number(cells, var)
        if truth is not None:
            values[name] = truth != 0
    return values


def _sdm230(cells: Cells) -> Values:
    return dict(_numbers(cells, SDM230))


TABLES: dict[str, tuple[str, Callable[[Cells], Values]]] = {
    "QPIGS": ("inverter", _qpigs),
    "QMOD": ("inverter", _qmod),
    "QPIRI": ("inverter", _qpiri),
    "BMS": ("battery", _bms),
    "SDM230": ("meter", _sdm230),
}
"""Whose each table is, and what it says. Q1 is not understood, QPIWS' bits differ by model."""
LEFT_OUT = ("Q1", "QPIWS")
WIDTHS = {16: "QPIGS", 1: "QMOD", 26: "QPIRI", 49: "BMS", 13: "SDM230"}
"""Columns of each table, for a file without header whose name does not tell."""


def looks(start: Head) -> bool:
    """Whether it is a dump with such tables, or one of them."""
    if start.is_binary:
        return False
    if files.is_dump(start):
        return bool(re.search(r"[`\"](QPIGS|QPIRI|QMOD|BMS|SDM230)[`\"]", start.text)) and bool(
            re.search(r"\bvar1\b", start.text)
        )
    first = start.lines[0] if start.lines else ""
    cells = re.split(r"[,;\t]", first.replace('"', ""))
    return cells[:2] == ["created", "var1"] or (
        _table_of(start.path) is not None and bool(re.match(r"\d{4}-\d\d-\d\d \d\d:", cells[0]))
    )


def _table_of(path: Path) -> str | None:
    names = re.split(r"[^A-Za-z0-9]+", path.name.upper())
    return next((name for name in (*TABLES, *LEFT_OUT) if name in names), None)


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The records of all tables."""
    for place, path in enumerate(paths):
        reader = _dump if files.is_dump(files.head(path)) else _csv
        for record in reader(path, options):
            yield place, record


def _dump(path: Path, options: Options) -> Iterator[Record]:
    clocks: dict[str, times.Parser] = {}
    said: set[str] = set()
    for row in files.dump(path):
        if row.table not in TABLES:
            continue
        if row.table not in clocks:
            local = times.LocalTimes(UTC if row.is_utc else options.zone)
            clocks[row.table] = times.parser("iso", local)
        cells = dict(zip(row.columns, row.cells, strict=False)) if row.columns else None
        if cells is not None and "created" in cells:
            count = sum(name.startswith("var") for name in cells)
            found = [cells.get(f"var{n}") for n in range(1, count + 1)]
            created = cells["created"]
        elif row.table in said:
            continue
        else:
            said.add(row.table)
            yield Refused(row.line, f"{row.table}: the dump does not name its columns")
            continue
        yield _record(row.line, row.table, created or "", found, clocks[row.table], options)


def _csv(path: Path, options: Options) -> Iterator[Record]:
    layout = files.layout(path, decimal=".")
    first = next((cells for _line, cells in files.rows(path, layout)), [])
    table = _table_of(path) or WIDTHS.get(len(first) - 1)
    if table is None:
        raise ImportRefusedError(
            f"{path}: which table is this? Call it like it, for example QPIGS.csv"
        )
    if table in LEFT_OUT:
        raise ImportRefusedError(f"{path}: {table} is not taken; QPIGS, QPIRI, QMOD, BMS, SDM230")
    read_time = times.parser("iso", times.LocalTimes(options.zone))
    for line, cells in files.rows(path, layout):
        some = [None if cell in ("", "\\N", "NULL") else cell for cell in cells]
        yield _record(line, table, some[0] or "", some[1:], read_time, options)


def _record(
    line: int, table: str, created: str, cells: Cells, read_time: times.Parser, options: Options
) -> Record:
    role, spread = TABLES[table]
    try:
        ms = read_time(created)
        values = spread(cells)
    except (ValueError, IndexError) as err:
        return Refused(line, f"{table}: {err}")
    make = Settings if table == "QPIRI" else Row
    return make(line, ms, options.devices[role], values)


FORMAT = Format(
    "axpert-bms",
    "tables of VoltronicAxpertSolarMonitorBMS",
    looks,
    read,
    roles=(
        Role("inverter", "axpert", "inverter"),
        Role("battery", "bms", "battery"),
        Role("meter", "meter", "grid-meter"),
    ),
)
