"""SunPower-PVS6-Supervisor: its CSV files, its Google sheet as CSV, and its archive of answers.

Powers are in kW, energies lifetime kWh; net = taken from the grid, negative on export. Of the
archive both kinds of answer are read, DeviceList and variables, with the time that the gateway
itself gives; of each microinverter and of the gateway the same quantities as in the CSV files.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ....clock import epoch_ms
from ....messages import Value
from ....topics import NAME
from .. import files, times
from ..records import Format, Head, ImportRefusedError, Options, Record, Refused, Role, Row

Values = dict[str, Value]
KILO = 1000.0
NOISE_W = 50.0
"""A production below zero by less than this is the noise of a transformer, and zero."""

SITE = {
    "lifetimepvproduction": ("pv_energy_total_kwh", 1.0),
    "lifetimesiteconsumption": ("load_energy_total_kwh", 1.0),
    "lifetimenet": ("grid_net_energy_kwh", 1.0),
    "currentpvproduction": ("pv_power_w", KILO),
    "currentconsumption": ("load_power_w", KILO),
    "currentnetpower": ("grid_power_w", KILO),
    "netpower": ("grid_power_w", KILO),
}
PANEL = {
    "currentpvproduction": ("pv_power_w", KILO),
    "power": ("pv_power_w", KILO),
    "lifetimepvproduction": ("pv_energy_total_kwh", 1.0),
    "lifetimeenergy": ("pv_energy_total_kwh", 1.0),
    "totalenergy": ("pv_energy_total_kwh", 1.0),
    "voltage": ("ac_output_voltage_v", 1.0),
    "current": ("ac_output_current_a", 1.0),
    "temperature": ("heat_sink_temperature_c", 1.0),
    "frequency": ("grid_frequency_hz", 1.0),
}
LIVE = {
    "pv_en": ("pv_energy_total_kwh", 1.0),
    "site_load_en": ("load_energy_total_kwh", 1.0),
    "net_en": ("grid_net_energy_kwh", 1.0),
    "pv_p": ("pv_power_w", KILO),
    "site_load_p": ("load_power_w", KILO),
    "net_p": ("grid_power_w", KILO),
}
VARS = {
    "p3phsumKw": ("pv_power_w", KILO),
    "ltea3phsumKwh": ("pv_energy_total_kwh", 1.0),
    "vln3phavgV": ("ac_output_voltage_v", 1.0),
    "i3phsumA": ("ac_output_current_a", 1.0),
    "tHtsnkDegc": ("heat_sink_temperature_c", 1.0),
    "freqHz": ("grid_frequency_hz", 1.0),
}
LISTED = {
    "p_3phsum_kw": ("pv_power_w", KILO),
    "ltea_3phsum_kwh": ("pv_energy_total_kwh", 1.0),
    "vln_3phavg_v": ("ac_output_voltage_v", 1.0),
    "i_3phsum_a": ("ac_output_current_a", 1.0),
    "t_htsnk_degc": ("heat_sink_temperature_c", 1.0),
    "freq_hz": ("grid_frequency_hz", 1.0),
}
ZERO_MEANS_NOTHING = ("ac_output_voltage_v", "grid_frequency_hz")
ENERGIES = ("pv_energy_total_kwh", "load_energy_total_kwh")
"""A lifetime counter that reads 0 was missing in the answer."""
ARCHIVED = re.compile(r"(\d{8})_(\d{6})\.json")


def looks(start: Head) -> bool:
    """Whether it is one of its files."""
    if start.is_binary:
        return False
    if start.text.lstrip().startswith("{"):
        return "/sys/livedata/" in start.text or (
            '"devices"' in start.text and "DEVICE_TYPE" in start.text
        )
    return bool(start.lines) and _kind(re.split(r"[,;\t]", start.lines[0])) is not None


def _plain(name: str) -> str:
    """A column's name without unit, blanks and case."""
    return re.sub(r"[^a-z]", "", re.sub(r"\(.*?\)", "", name.lower()))


def _kind(header: list[str]) -> str | None:
    names = [_plain(name) for name in header]
    if not names or names[0] != "timestamp":
        return None
    if "serialnumber" in names:
        return "inverters"
    return "overview" if any(name in SITE for name in names) else None


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The records of all files."""
    for place, path in enumerate(paths):
        is_json = files.head(path).text.lstrip().startswith("{")
        for record in _answer(path, options) if is_json else _csv(path, options):
            yield place, record


def panel_name(serial: str, gateway: str) -> str:
    """A microinverter's name in the mesh, as its collector would call it by default."""
    end = re.sub(r"[^a-z0-9]", "", serial.lower())[-5:]
    name = f"{gateway}-{end}"
    return name if NAME.fullmatch(name) else f"panel-{end}"


def _number(value: object, name: str, factor: float) -> float | None:
    text = "" if value is None else str(value)
    number = files.number(text)
    if number is None or not math.isfinite(number):
        return None
    if name in ENERGIES and number == 0:
        return None
    if name in ZERO_MEANS_NOTHING and number == 0:
        return None
    number = round(number * factor, 6)
    if name in ("pv_power_w", "load_power_w") and -NOISE_W < number < 0:
        return 0.0
    return number


def _values(cells: Mapping[str, object], names: Mapping[str, tuple[str, float]]) -> Values:
    values: Values = {}
    for key, (name, factor) in names.items():
        number = _number(cells.get(key), name, factor)
        if number is not None:
            values[name] = number
    return values


def _csv(path: Path, options: Options) -> Iterator[Record]:
    layout = files.layout(path, header=True)
    header = list(layout.header or ())
    kind = _kind(header)
    if kind is None:
        raise ImportRefusedError(f"{path}: neither overview.csv nor inverters.csv nor the sheet")
    names = [_plain(name) for name in header]
    local = times.LocalTimes(options.zone)
    read_time: times.Parser | None = None
    gateway = options.devices["gateway"]
    for line, cells in files.rows(path, layout):
        if layout.decimal == ",":
            cells = [cells[0], *(cell.replace(",", ".") for cell in cells[1:])]
        row: dict[str, object] = dict(zip(names, cells, strict=False))
        try:
            if read_time is None:
                read_time = times.parser(times.form_of([cells[0]]), local)
            ms = read_time(cells[0])
            values = _values(row, PANEL if kind == "inverters" else SITE)
        except ValueError as err:
            yield Refused(line, str(err))
            continue
        device = gateway
        if kind == "inverters":
            serial = str(row.get("serialnumber", "")).strip()
            if not serial:
                yield Refused(line, "names no microinverter")
                continue
            device = panel_name(serial, gateway)
        if values:
            yield Row(line, ms, device, values)


def _answer(path: Path, options: Options) -> Iterator[Record]:
    with files.text(path) as file:
        try:
            body: Any = json.load(file)
        except ValueError as err:
            yield Refused(1, f"is no JSON ({err})")
            return
    fallback = ARCHIVED.search(path.name)
    ms = None
    if fallback:
        local = times.LocalTimes(options.zone)
        ms = times.parser("compact", local)(fallback[1] + fallback[2])
    gateway = options.devices["gateway"]
    found = body.get("devices") if isinstance(body, dict) else None
    records = (
        _listed(found, gateway, ms) if isinstance(found, list) else _variables(body, gateway, ms)
    )
    for record in records:
        if isinstance(record, Row) and not record.values:
            continue
        yield record


def _listed(devices: list[Any], gateway: str, ms: int | None) -> Iterator[Record]:
    for number, each in enumerate(devices, 1):
        if not isinstance(each, dict):
            continue
        own = _comma_time(each.get("DATATIME")) or ms
        if own is None:
            yield Refused(number, "carries no time, nor does the file's name")
        elif each.get("DEVICE_TYPE") == "Inverter":
            name = panel_name(str(each.get("SERIAL", number)), gateway)
            values = _values(each, LISTED)
            if each.get("STATE") == "error":
                values.pop("pv_power_w", None)
            yield Row(number, own, name, values)
        elif each.get("TYPE") == "PVS5-METER-P" and each.get("DEVICE_TYPE") == "Power Meter":
            names = {k: v for k, v in LISTED.items() if k == "p_3phsum_kw"}
            names["net_ltea_3phsum_kwh"] = ("pv_energy_total_kwh", 1.0)
            yield Row(number, own, gateway, _values(each, names))
        elif each.get("TYPE") == "PVS5-METER-C" and each.get("SUBTYPE") != (
            "GROSS_CONSUMPTION_LINESIDE"
        ):
            names = {
                "p_3phsum_kw": ("grid_power_w", KILO),
                "net_ltea_3phsum_kwh": ("grid_net_energy_kwh", 1.0),
            }
            yield Row(number, own, gateway, _values(each, names))


def _comma_time(value: object) -> int | None:
    """A DeviceList's ``2025,09,30,15,50,00``, UTC."""
    try:
        numbers = [int(part) for part in str(value).split(",")]
        return epoch_ms(datetime(*numbers, tzinfo=UTC))  # type: ignore[arg-type,misc]
    except (ValueError, TypeError):
        return None


def _variables(body: Mapping[str, Any], gateway: str, ms: int | None) -> Iterator[Record]:
    live = {
        key.removeprefix("/sys/livedata/"): value
        for key, value in body.items()
        if key.startswith("/sys/livedata/")
    }
    seconds = files.number(str(live.get("time", "")))
    own = round(seconds * 1000) if seconds else ms
    if own is None:
        yield Refused(1, "carries no time, nor does its name")
        return
    yield Row(1, own, gateway, _values(live, LIVE))
    index = 0
    while f"/sys/devices/inverter/{index}/sn" in body:
        start = f"/sys/devices/inverter/{index}/"
        cells = {key.removeprefix(start): v for key, v in body.items() if key.startswith(start)}
        measured = str(cells.get("msmtEps", ""))
        try:
            when = times.parser("iso", times.LocalTimes(UTC))(measured)
        except ValueError:
            when = own
        yield Row(index + 2, when, panel_name(str(cells["sn"]), gateway), _values(cells, VARS))
        index += 1


FORMAT = Format(
    "pvs6",
    "files of SunPower-PVS6-Supervisor",
    looks,
    read,
    roles=(Role("gateway", "pvs6", "solar"),),
)
