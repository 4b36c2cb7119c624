"""Home Assistant's long-term statistics: its SQLite file, or CSV of the two tables.

A mapping says what each statistic is: a column's name is the ``statistic_id``. To a flow: what the
hour added to ``sum``. To a counter: ``state`` at the end of the hour. To anything else: ``mean``,
in the middle of its hour. Needs schema 23 or newer (2022.2) for SQLite; times are UTC.
"""

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from ....vocabulary import VOCABULARY, Kind
from .. import files, times, units
from ..columns import Extractor
from ..mapping import Column, Target, target
from ..mapping import Mapping as ColumnMapping
from ..records import Format, Head, ImportRefusedError, Options, Record, Refused
from . import table

HOUR = times.HOUR_MS
META = {"statistic_id", "unit_of_measurement"}
DATA = {"metadata_id", "sum", "state", "mean"}


@dataclass(frozen=True, slots=True)
class Statistic:
    """A row of ``statistics_meta``."""

    name: str
    unit: str | None
    has_sum: bool


def looks(start: Head) -> bool:
    """Whether it is an SQLite file with statistics, or one of the tables as CSV."""
    if start.data.startswith(b"SQLite format 3\0"):
        try:
            with closing(_open(start.path)) as opened:
                opened.execute("SELECT statistic_id FROM statistics_meta LIMIT 1")
        except (sqlite3.Error, ImportRefusedError):
            return False
        return True
    names = {name.strip(' "') for name in (start.lines[0] if start.lines else "").split(",")}
    return not start.is_binary and (
        names >= META or names >= DATA or {"statistic_id", "sum"} <= names
    )


def _open(path: Path) -> sqlite3.Connection:
    """The file, read only; also from a folder where SQLite cannot write the files that WAL wants.

    Raises:
        ImportRefusedError: it cannot be read.
    """
    address = path.absolute().as_uri()
    for how in ("mode=ro", "immutable=1"):
        try:
            opened = sqlite3.connect(f"{address}?{how}", uri=True)
            opened.execute("SELECT name FROM sqlite_master LIMIT 1")
        except sqlite3.Error as err:
            reason = err
        else:
            return opened
    raise ImportRefusedError(f"{path}: cannot be read ({reason})") from reason


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The records of all mapped statistics."""
    if options.mapping is None or not options.mapping.column:
        raise ImportRefusedError(
            "statistics need a mapping: --mapping FILE, or --column sensor.name=device.quantity "
            "or =flow:pv; --guess proposes one"
        )
    found = statistics(paths)
    names = {each.name: key for key, each in found.items()}
    takers: dict[str, _Taker] = {}
    for column in options.mapping.column:
        name = str(column.name)
        if name not in names:
            raise ImportRefusedError(
                f"there is no statistic {name!r}; --guess lists those there are"
            )
        statistic = found[names[name]]
        unit = units.known(statistic.unit or "") if statistic.unit else None
        goal = target(column, options.devices.get("device"), unit)
        takers[names[name]] = _Taker(goal, options)
    for place, path in enumerate(paths):
        for line, row in _rows(path, set(takers)):
            taker = takers.get(_key(row))
            if taker is not None:
                for record in taker(line, row):
                    yield place, record


def statistics(paths: list[Path]) -> dict[str, Statistic]:
    """What there is, by the key that rows of ``statistics`` have.

    Raises:
        ImportRefusedError: no file holds ``statistics_meta``.
    """
    found: dict[str, Statistic] = {}
    for path in paths:
        if _is_sqlite(path):
            with closing(_open(path)) as opened:
                for row in opened.execute(
                    "SELECT id, statistic_id, unit_of_measurement, has_sum FROM statistics_meta"
                ):
                    found[str(row[0])] = Statistic(row[1], row[2], bool(row[3]))
            continue
        layout = files.layout(path, header=True)
        header = set(layout.header or ())
        if "statistic_id" not in header:
            continue
        for _line, row in _cells(path, layout):
            unit = row.get("unit_of_measurement") or None
            has_sum = str(row.get("has_sum", row.get("sum", ""))).lower() not in ("", "0", "false")
            key = row["statistic_id"] if "sum" in header else row.get("id", "")
            found.setdefault(str(key), Statistic(str(row["statistic_id"]), unit, has_sum))
    if not found:
        raise ImportRefusedError("none of the files holds statistics_meta; give it, too")
    return found


def _is_sqlite(path: Path) -> bool:
    return files.head(path).data.startswith(b"SQLite format 3\0")


def _key(row: Mapping[str, Any]) -> str:
    found = row.get("metadata_id")
    return str(row.get("statistic_id") if found is None else found)


def _rows(path: Path, wanted: set[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if _is_sqlite(path):
        with closing(_open(path)) as opened:
            opened.row_factory = sqlite3.Row
            columns = {row["name"] for row in opened.execute("PRAGMA table_info(statistics)")}
            start = "start_ts" if "start_ts" in columns else "start"
            for key in sorted(wanted):
                order = f"SELECT * FROM statistics WHERE metadata_id = ? ORDER BY {start}"  # noqa: S608
                for row in opened.execute(order, (key,)):
                    yield row["id"], dict(row)
        return
    layout = files.layout(path, header=True)
    if "sum" in (layout.header or ()):
        yield from _cells(path, layout)


def _cells(path: Path, layout: files.Layout) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, cells in files.rows(path, layout):
        row = dict(zip(layout.header or (), cells, strict=False))
        yield line, {name: cell for name, cell in row.items() if cell not in ("", "NULL", "\\N")}


class _Taker:
    """Makes records of one statistic's hours."""

    def __init__(self, goal: Target, options: Options) -> None:
        self._goal = goal
        self._extractor = Extractor([(0, goal)], options.site_zone)
        self._is_first = True
        self._iso = times.parser("iso", times.LocalTimes(UTC))
        counter = goal.quantity is not None and goal.quantity.kind is Kind.COUNTER
        self._value = goal.column.value or (
            "sum" if goal.quantity is None else "state" if counter else "mean"
        )
        self._at = HOUR // 2 if self._value == "mean" else HOUR

    def __call__(self, line: int, row: Mapping[str, Any]) -> Iterator[Record]:
        try:
            ms = self._start(row)
            number = None if row.get(self._value) is None else float(row[self._value])
        except ValueError as err:
            yield Refused(line, str(err))
            return
        if number is None or not math.isfinite(number):
            return
        if self._goal.quantity is not None:
            yield from self._extractor.records(line, ms + self._at, [number])
            return
        # The first hour's sum has none before it: what came before is not ours to guess.
        wh = self._goal.number(number)
        yield from self._extractor.total(line, ms + HOUR, self._goal, wh)

    def _start(self, row: Mapping[str, Any]) -> int:
        stamp = row.get("start_ts")
        if stamp is not None:
            return round(float(stamp) * 1000)
        return self._iso(str(row.get("start", "")))


def guess(paths: list[Path], options: Options) -> ColumnMapping:
    """A mapping that might fit: energies to flows, the rest to quantities of one device."""
    device = options.devices.get("device") or "home-assistant"
    columns = []
    for each in sorted(statistics(paths).values(), key=lambda each: each.name):
        unit = units.known(each.unit or "") if each.unit else None
        plain = each.name.partition(".")[2].replace("_", " ") or each.name
        if each.has_sum and unit in ("kWh", "Wh", "MWh"):
            if flow := table.flow_for(plain):
                columns.append(Column(each.name, flow=flow))
        elif (quantity := table.quantity_for(plain, unit)) and not _counts(quantity):
            columns.append(Column(each.name, to=f"{device}.{quantity}"))
    return ColumnMapping(columns)


def _counts(name: str) -> bool:
    return VOCABULARY[name.partition("/")[0]].kind is Kind.COUNTER


FORMAT = Format(
    "home-assistant", "statistics of Home Assistant", looks, read, guess, (table.DEVICE,)
)
