"""Samples, rollups and energies out of the database as CSV or JSON lines, as a stream.

Read by the page: no transaction is open for long, so that the recorder and the retention are not
held up, and memory stays small however much there is.
"""

import csv
import fnmatch
import gzip
import heapq
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, tzinfo
from io import TextIOWrapper
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from sqlalchemy import Connection, Engine, select

from .. import clock
from ..database import tables
from ..database.sql import engine
from ..errors import SunmeshError
from ..vocabulary import Kind

Level = Literal["raw", "minute", "hour", "day", "energy"]
Form = Literal["csv", "jsonl"]
LEVELS: tuple[Level, ...] = get_args(Level)
FORMS: tuple[Form, ...] = get_args(Form)

PAGE = 10_000
NARROW_PAGE = 2000
"""Rows a series of a wide table, where all series are open at once."""
ROLLUP = ("min", "max", "mean", "last")


class ExportError(SunmeshError):
    """What was asked for is not there."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series to export."""

    id: int
    device: str
    name: str
    unit: str
    kind: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What to export.

    Attributes:
        level: raw values, a rollup, or the energy books.
        form: of the file.
        start: first moment [ms].
        end: first moment after it [ms].
        devices: only those; empty = all.
        series: only ``device.quantity`` or ``quantity`` of these, with * and ?; empty = all.
        flows: only those of the books; empty = all.
        wide: one column a series.
        zone: of the times; None = UTC, with a Z.
        site: its name, for the first line of JSON.
    """

    level: Level = "raw"
    form: Form = "csv"
    start: int = 0
    end: int = tables.MAX_TS
    devices: Sequence[str] = ()
    series: Sequence[str] = ()
    flows: Sequence[str] = ()
    wide: bool = False
    zone: tzinfo | None = None
    site: str = "home"


Progress = Callable[[int], None]
Line = tuple[int, Any]


def export(url: str, wish: Wish, out: TextIO, progress: Progress = lambda rows: None) -> int:
    """Write what ``wish`` names; returns how many lines of data.

    Raises:
        ExportError: no series or flow is called so.
        SQLAlchemyError: the database does not answer.
    """
    opened = engine(url, read_only=True, patient=True)
    try:
        write = _Writer(wish, out, progress)
        if wish.level == "energy":
            _energies(opened, wish, write)
        elif wish.wide:
            _wide(opened, wish, write)
        else:
            _long(opened, wish, write)
        return write.rows
    finally:
        opened.dispose()


@contextmanager
def target(name: str) -> Iterator[TextIO]:
    """The file to write to, whole or not at all; ``-`` is standard output; .gz is compressed.

    Raises:
        ExportError: it cannot be written.
    """
    if name == "-":
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            # Who reads has enough. Python would complain again when it flushes at exit.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    path = Path(name)
    part = path.with_name(path.name + ".part")
    try:
        with _open(part, path.suffix == ".gz") as out:
            yield out
        part.replace(path)
    except OSError as err:
        part.unlink(missing_ok=True)
        raise ExportError(f"{path}: cannot be written ({err.strerror or err})") from err
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _open(path: Path, compressed: bool) -> TextIO:
    if compressed:
        return TextIOWrapper(gzip.open(path, "wb", 6), encoding="utf-8", newline="")
    return path.open("w", encoding="utf-8", newline="")


class _Writer:
    """Lines in the wished form."""

    def __init__(self, wish: Wish, out: TextIO, progress: Progress) -> None:
        self.rows = 0
        self._wish = wish
        self._out = out
        self._csv = csv.writer(out, lineterminator="\n")
        self._progress = progress

    def header(self, names: Sequence[str]) -> None:
        """The first line."""
        if self._wish.form == "csv":
            self._csv.writerow(names)
            return
        first = {"sunmesh": "export", "v": 1, "level": self._wish.level, "site": self._wish.site}
        self._out.write(json.dumps(first, separators=(",", ":")) + "\n")

    def row(self, ms: int, names: Sequence[str], cells: Sequence[Any]) -> None:
        """One line; in JSON without what is empty."""
        when = self._time(ms)
        if self._wish.form == "csv":
            self._csv.writerow([when, *("" if cell is None else cell for cell in cells)])
        else:
            line = {"time": when}
            line.update(
                (key, cell) for key, cell in zip(names, cells, strict=True) if cell is not None
            )
            self._out.write(
                json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
            )
        self.rows += 1
        if self.rows % PAGE == 0:
            self._progress(self.rows)

    def _time(self, ms: int) -> str:
        moment = clock.from_ms(ms)
        if self._wish.zone is None or self._wish.zone is UTC:
            return clock.iso(moment)
        return moment.astimezone(self._wish.zone).isoformat(timespec="milliseconds")


# -- which -----------------------------------------------------------------------------------------


def _chosen(connection: Connection, wish: Wish) -> list[Series]:
    """The wished series by device and name, elements of lists by number.

    Raises:
        ExportError: a device or series that there is none of.
    """
    everything = [Series(*row) for row in connection.execute(select(tables.series))]
    known = {each.device for each in everything}
    for device in wish.devices:
        if device not in known:
            raise ExportError(
                f"there is nothing of a device {device}; there are {', '.join(sorted(known))}"
            )
    found = [each for each in everything if not wish.devices or each.device in wish.devices]
    for pattern in wish.series:
        if not any(_matches(each, pattern) for each in found):
            raise ExportError(f"no series is called {pattern}")
    if wish.series:
        found = [each for each in found if any(_matches(each, p) for p in wish.series)]
    return sorted(found, key=_order)


def _order(each: Series) -> tuple[str, str, int]:
    base, _, element = each.name.partition("/")
    return each.device, base, int(element) if element.isdecimal() else 0


def _matches(each: Series, pattern: str) -> bool:
    names = (each.name, each.name.partition("/")[0])
    if "." in pattern:
        names = (f"{each.device}.{names[0]}", f"{each.device}.{names[1]}")
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


# -- rows ------------------------------------------------------------------------------------------


def _pages(opened: Engine, wish: Wish, each: Series, page: int) -> Iterator[Line]:
    """Time and value (of a rollup, all its figures) of one series, rising in time."""
    if wish.level == "raw":
        table = tables.state if each.kind == Kind.STATE else tables.sample
        columns = [table.c.ts, table.c.value]
    else:
        table = tables.metadata.tables[wish.level]
        columns = [table.c.ts, *(table.c[name] for name in ROLLUP), table.c.covered_ms]
    start = wish.start
    while True:
        with opened.connect() as connection:
            rows = connection.execute(
                select(*columns)
                .where(table.c.series_id == each.id, table.c.ts >= start, table.c.ts < wish.end)
                .order_by(table.c.ts)
                .limit(page)
            ).all()
        for row in rows:
            yield row[0], row[1] if wish.level == "raw" else row[1:]
        if len(rows) < page:
            return
        start = rows[-1][0] + 1


def _long(opened: Engine, wish: Wish, write: _Writer) -> None:
    with opened.connect() as connection:
        chosen = _chosen(connection, wish)
    head = ("device", "quantity", "unit")
    if wish.level == "raw":
        names: tuple[str, ...] = (*head, "value")
    else:
        names = (*head, *ROLLUP, "covered_s")
    write.header(("time", *names))
    for each in chosen:
        if wish.level != "raw" and each.kind == Kind.STATE:
            continue
        label = (each.device, each.name, each.unit)
        for ms, value in _pages(opened, wish, each, PAGE):
            if wish.level == "raw":
                write.row(ms, names, (*label, value))
            else:
                write.row(ms, names, (*label, *value[:-1], value[-1] / 1000))


def _wide(opened: Engine, wish: Wish, write: _Writer) -> None:
    """One line a moment, one column a series; of a rollup its mean."""
    if wish.form == "jsonl":
        raise ExportError("--wide is for CSV")
    with opened.connect() as connection:
        chosen = _chosen(connection, wish)
    if wish.level != "raw":
        chosen = [each for each in chosen if each.kind != Kind.STATE]
    mean = "" if wish.level == "raw" else f" mean of the {wish.level}"
    names = [f"{each.device}.{each.name} [{each.unit}]{mean}" for each in chosen]
    write.header(("time", *names))
    which = 0 if wish.level == "raw" else ROLLUP.index("mean")

    def column(index: int, each: Series) -> Iterator[tuple[int, int, Any]]:
        for ms, value in _pages(opened, wish, each, NARROW_PAGE):
            yield ms, index, value if wish.level == "raw" else value[which]

    merged = heapq.merge(*(column(index, each) for index, each in enumerate(chosen)))
    for ms, group in groupby(merged, key=itemgetter(0)):
        cells: list[Any] = [None] * len(chosen)
        for _ms, index, value in group:
            cells[index] = value
        write.row(ms, names, cells)


def _energies(opened: Engine, wish: Wish, write: _Writer) -> None:
    for flow in wish.flows:
        if flow not in tables.FLOWS:
            raise ExportError(f"{flow!r} is no flow; flows are {', '.join(tables.FLOWS)}")
    flows = [flow for flow in tables.FLOWS if not wish.flows or flow in wish.flows]
    if wish.wide:
        if wish.form == "jsonl":
            raise ExportError("--wide is for CSV")
        names = [f"flow {flow} [Wh]" for flow in flows]
        write.header(("time", *names))

        def column(index: int, flow: str) -> Iterator[tuple[int, int, float]]:
            for ms, row in _buckets(opened, wish, flow):
                yield ms, index, row[0]

        merged = heapq.merge(*(column(index, flow) for index, flow in enumerate(flows)))
        for ms, group in groupby(merged, key=itemgetter(0)):
            cells: list[Any] = [None] * len(flows)
            for _ms, index, wh in group:
                cells[index] = wh
            write.row(ms, names, cells)
        return
    heads = ("flow", "Wh", "source", "flag", "covered_s")
    write.header(("time", *heads))
    keys = heads if wish.form == "csv" else ("flow", "wh", "source", "flag", "covered_s")
    for flow in flows:
        for ms, row in _buckets(opened, wish, flow):
            write.row(ms, keys, (flow, *row))


def _buckets(opened: Engine, wish: Wish, flow: str) -> Iterator[Line]:
    table = tables.energy
    start = wish.start
    while True:
        with opened.connect() as connection:
            rows = connection.execute(
                select(table.c.ts, table.c.wh, table.c.source, table.c.flag, table.c.covered_s)
                .where(table.c.flow == flow, table.c.ts >= start, table.c.ts < wish.end)
                .order_by(table.c.ts)
                .limit(PAGE)
            ).all()
        for row in rows:
            yield row[0], tuple(row[1:])
        if len(rows) < PAGE:
            return
        start = rows[-1][0] + 1
