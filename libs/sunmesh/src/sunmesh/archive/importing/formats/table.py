"""Any table of text: a mapping says which column is what."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from ....vocabulary import VOCABULARY, Kind
from .. import files, times, units
from ..columns import Extractor
from ..mapping import Column, Mapping, TimeColumn, target
from ..records import Format, Head, ImportRefusedError, Options, Record, Refused, Role

FIRST = 200
"""Lines from which the form of the times is told."""


def looks(start: Head) -> bool:
    """Whether it is text with at least two columns."""
    if start.is_binary or files.is_dump(start):
        return False
    return any(line.count(each) for line in start.lines[:3] for each in files.SEPARATORS)


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The records of all files, one after the other."""
    if options.mapping is None or not options.mapping.column:
        from . import looks_like  # the formats know this one

        other = looks_like(paths[0])
        raise ImportRefusedError(
            f"{paths[0]}: this looks like {other.title} ({other.name})"
            if other is not None and other is not FORMAT
            else "a CSV file needs a mapping: --mapping FILE, or --column NAME=device.quantity; "
            "--guess proposes one"
        )
    for place, path in enumerate(paths):
        for record in read_one(path, options, options.mapping):
            yield place, record


def read_one(
    path: Path, options: Options, mapping: Mapping, once: bool = False
) -> Iterator[Record]:
    """The records of one file under ``mapping``; ``once`` as in :class:`times.LocalTimes`."""
    found = files.layout(
        path, mapping.separator, mapping.decimal, mapping.header, mapping.skip, mapping.encoding
    )
    targets = []
    for column in mapping.column:
        index = _index(path, found, column.name)
        shown = found.header[index] if found.header else ""
        targets.append(
            (index, target(column, options.devices.get("device"), units.in_header(shown)[1]))
        )
    columns = mapping.time.column
    stands = [
        _index(path, found, name) for name in (columns if isinstance(columns, list) else [columns])
    ]
    read_time = _time_parser(path, found, mapping, stands, options.zone, once)
    extractor = Extractor(targets, options.site_zone)
    for line, cells in files.rows(path, found, mapping.encoding):
        try:
            ms = read_time(" ".join(cells[index] for index in stands))
        except IndexError:
            yield Refused(line, "has too few columns")
            continue
        except (ValueError, OverflowError) as err:
            yield Refused(line, str(err))
            continue
        yield from extractor.records(line, ms, cells, found.decimal)


def _time_parser(
    path: Path,
    found: files.Layout,
    mapping: Mapping,
    stands: list[int],
    default: ZoneInfo,
    once: bool,
) -> times.Parser:
    zone = ZoneInfo(mapping.time.zone) if mapping.time.zone else default
    form = mapping.time.format
    if form == "auto":
        some = [
            " ".join(cells[index] for index in stands)
            for _line, cells in islice(files.rows(path, found, mapping.encoding), FIRST)
            if len(cells) > max(stands)
        ]
        try:
            form = times.form_of(some)
        except ValueError as err:
            raise ImportRefusedError(f"{path}: time column: {err}") from err
    return times.parser(form, times.LocalTimes(zone, once))


def _index(path: Path, found: files.Layout, name: str | int) -> int:
    if isinstance(name, int):
        return name - 1
    if found.header is None:
        raise ImportRefusedError(f"{path}: has no header; give columns by number, from 1")
    if name in found.header:
        return found.header.index(name)
    plain = [units.in_header(each)[0] for each in found.header]
    if name in plain:
        return plain.index(name)
    folded = [each.casefold() for each in plain]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    raise ImportRefusedError(
        f"{path}: has no column {name!r}; it has {', '.join(each for each in found.header if each)}"
    )


# -- guessing --------------------------------------------------------------------------------------

TIME_NAMES = re.compile(r"time|date|datum|zeit|uhr|ora\b|data\b|stamp|fecha|heure", re.IGNORECASE)
CLOCK = re.compile(r"\s*\d{1,2}:\d\d(:\d\d)?\s*")
WORDS: tuple[tuple[str, str], ...] = (
    (r"battery.*soc|soc|state.?of.?charge|battery.*(level|percent)", "battery_soc_percent"),
    (r"batt.*(volt|spann|tension)", "battery_voltage_v"),
    (r"batt.*temp", "battery_temperature_c/1"),
    (r"batt.*(current|amp|strom)", "battery_current_a"),
    (r"batt.*(power|leist)", "battery_power_w"),
    (r"(pv|solar|panel).*(volt|spann|tension)", "pv_voltage_v"),
    (r"(pv|solar|panel).*(current|amp|strom)", "pv_current_a"),
    (r"(pv|solar|panel|produ|generat|yield).*(energy|total|kwh|lifetime)", "pv_energy_total_kwh"),
    (r"(pv|solar|panel|produ|generat)", "pv_power_w"),
    (r"(export|feed.?in|einspeis).*(energy|total|kwh)", "grid_export_energy_kwh"),
    (r"(import|bezug|purchas).*(energy|total|kwh)", "grid_import_energy_kwh"),
    (r"(grid|mains|netz|rete).*(volt|spann|tension)", "grid_voltage_v"),
    (r"(grid|mains|netz|rete).*(freq)", "grid_frequency_hz"),
    (r"(grid|mains|netz|rete|meter)", "grid_power_w"),
    (r"(load|consum|house|home|verbrauch|consumo).*(energy|total|kwh)", "load_energy_total_kwh"),
    (r"(load|consum|house|home|verbrauch|consumo)", "load_power_w"),
    (r"out(side|door).*temp|aussen", "outdoor_temperature_c"),
    (r"temp", "temperature_c"),
    (r"freq", "grid_frequency_hz"),
)
FLOW_WORDS: tuple[tuple[str, str], ...] = (
    (r"(batt).*(dis|ent)", "battery_discharge"),
    (r"(batt).*(charg|lad)", "battery_charge"),
    (r"(export|feed.?in|einspeis)", "grid_export"),
    (r"(import|bezug|purchas|grid)", "grid_import"),
    (r"(load|consum|house|home|verbrauch|consumo)", "load"),
    (r"(pv|solar|panel|produ|generat|yield)", "pv"),
)


def quantity_for(name: str, unit: str | None) -> str | None:
    """The quantity that a column of that name and unit might be."""
    plain = re.sub(r"[\s/_.-]+", "_", name.strip().casefold())
    if plain in VOCABULARY:
        return plain if VOCABULARY[plain].kind is not Kind.LIST else f"{plain}/1"
    for pattern, quantity in WORDS:
        if re.search(pattern, name, re.IGNORECASE):
            wanted = VOCABULARY[quantity.partition("/")[0]].unit
            if unit is None or _fits(unit, wanted):
                return quantity
    return None


def flow_for(name: str) -> str | None:
    """The flow that a column of that name might be."""
    return next(
        (flow for pattern, flow in FLOW_WORDS if re.search(pattern, name, re.IGNORECASE)), None
    )


def _fits(unit: str, wanted: str) -> bool:
    try:
        units.conversion(unit, wanted)
    except ValueError:
        return False
    return True


def guess(paths: list[Path], options: Options) -> Mapping:
    """A mapping that might fit the first file.

    Raises:
        ImportRefusedError: no column with times.
    """
    path = paths[0]
    found = files.layout(path)
    some = [cells for _line, cells in islice(files.rows(path, found), FIRST)]
    names: list[str | int] = (
        list(found.header) if found.header else list(range(1, len(some[0]) + 1 if some else 1))
    )
    time = _guess_time(path, names, some)
    taken = set(time.column if isinstance(time.column, list) else [time.column])
    days = _is_daily(some, names, time)
    device = options.devices.get("device", "inverter")
    columns = []
    for name in names:
        if name in taken or isinstance(name, int):
            continue
        plain, unit = units.in_header(name)
        if days and unit in ("kWh", "Wh", None) and (flow := flow_for(plain)):
            columns.append(Column(name, flow=flow, period="day", unit=None if unit else "kWh"))
        elif quantity := quantity_for(plain, unit):
            columns.append(Column(name, to=f"{device}.{quantity}"))
    return Mapping(
        columns,
        time,
        found.separator,
        "," if found.decimal == "," else ".",
        header=found.header is not None,
    )


def _guess_time(path: Path, names: list[str | int], some: list[list[str]]) -> TimeColumn:
    likely = sorted(range(len(names)), key=lambda index: not TIME_NAMES.search(str(names[index])))
    pairs = [
        [index, index + 1]
        for index in range(len(names) - 1)
        if some and all(CLOCK.fullmatch(row[index + 1]) for row in some if index + 1 < len(row))
    ]
    for stands in pairs + [[index] for index in likely]:
        cells = [" ".join(row[index] for index in stands) for row in some if len(row) > stands[-1]]
        try:
            form = times.form_of(cells)
        except ValueError:
            continue
        column = [names[index] for index in stands]
        return TimeColumn(column if len(column) > 1 else column[0], form)
    raise ImportRefusedError(f"{path}: no column holds times in a form that is known")


def _is_daily(some: list[list[str]], names: list[str | int], time: TimeColumn) -> bool:
    """Whether there is one line a day."""
    if isinstance(time.column, list) or len(some) < 2:
        return False
    index = names.index(time.column)
    read = times.parser(time.format, times.LocalTimes(ZoneInfo("UTC")))
    try:
        first, second = (read(row[index]) for row in some[:2])
    except (ValueError, IndexError):
        return False
    return abs(second - first) >= 20 * times.HOUR_MS


DEVICE = Role("device", "", "")


FORMAT = Format("csv", "a CSV file", looks, read, guess, (DEVICE,))
