"""PhotovoltaicProductionMonitor: a plant's daily rows, CSV or JSON.

The yield of each day goes into the books. Of a day that was entered again the last row counts, as
its own rule was. All rows are taken, where it took the first of a file.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ....clock import epoch_ms
from .. import files
from ..columns import day_of
from ..records import Energy, Format, Head, ImportRefusedError, Options, Record, Refused

YIELD, DAY = "yield_kwh", "read_date"
MARKS = (YIELD, "total_yield_kwh", "specific_energy_kwh_per_kwp", "peak_ac_power_kw")


def looks(start: Head) -> bool:
    """Whether its columns stand in it."""
    return not start.is_binary and YIELD in start.text and any(m in start.text for m in MARKS[1:])


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """One energy a day."""
    for place, path in enumerate(paths):
        is_json = files.head(path).text.lstrip().startswith(("[", "{"))
        last: dict[date, tuple[int, float]] = {}
        for line, row in _json(path) if is_json else _csv(path):
            try:
                found = _day(row)
            except (ValueError, TypeError) as err:
                yield place, Refused(line, str(err))
                continue
            if found is None:
                continue
            day, kwh = found
            if day in last and last[day][1] != kwh:
                yield place, Refused(last[day][0], f"{day} was entered again in line {line}")
            last[day] = (line, kwh)
        for day, (line, kwh) in sorted(last.items()):
            noon = epoch_ms(datetime(day.year, day.month, day.day, 12, tzinfo=options.zone))
            yield place, Energy(line, "pv", *day_of(noon, options.zone), kwh * 1000)


def _day(row: Mapping[str, Any]) -> tuple[date, float] | None:
    """A row's day and yield [kWh]; None for a row that was withdrawn."""
    if str(row.get("is_valid", "")).strip().lower() in ("false", "f", "0"):
        return None
    text = str(row.get(DAY) or "").strip()
    if not text:
        raise ValueError(f"has no {DAY}")
    kwh = files.number(str(row.get(YIELD) if row.get(YIELD) is not None else ""))
    if kwh is None:
        raise ValueError(f"has no {YIELD}")
    if kwh < 0:
        raise ValueError(f"{YIELD} is negative")
    return datetime.fromisoformat(text[:10]).date(), kwh


def _csv(path: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    layout = files.layout(path, header=True)
    names = layout.header or ()
    if YIELD not in names or DAY not in names:
        raise ImportRefusedError(f"{path}: needs the columns {YIELD} and {DAY}")
    for line, cells in files.rows(path, layout):
        if layout.decimal == ",":
            cells = [cell.replace(",", ".") for cell in cells]
        yield line, dict(zip(names, cells, strict=False))


def _json(path: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    with files.text(path) as file:
        try:
            found = json.load(file)
        except ValueError as err:
            raise ImportRefusedError(f"{path}: {err}") from err
    rows = found if isinstance(found, list) else found.get("data", [found])
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield number, row


FORMAT = Format("plant-data", "daily rows of PhotovoltaicProductionMonitor", looks, read)
