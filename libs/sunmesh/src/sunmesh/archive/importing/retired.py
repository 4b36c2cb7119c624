"""Rollups of imported samples whose raw rows have been deleted by age: taken back by hand here.

The recorder makes minutes anew from samples, hours from minutes, days from hours, but not before
the ``horizon``, where samples may be gone: there, less would be made of less. Undoing an import
must, and knows which stretches were wholly its own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from typing import NamedTuple

from sqlalchemy import Connection, Table, delete, insert, select

from ...database import tables
from ...database.days import days_between
from .times import HOUR_MS

MINUTE_MS = 60_000
STRETCH_MS = tables.DIRTY_MS
REACH_MS = 15 * MINUTE_MS
"""No line between two samples is longer, and no row of minutes without a sample."""
MARGIN_MS = 3 * REACH_MS
"""That far after the horizon the recorder does not make minutes anew."""


class Figures(NamedTuple):
    """A row of a rollup, without its series."""

    ts: int
    min: float
    max: float
    mean: float
    last: float
    covered_ms: int
    samples: int


def together(rows: Sequence[Figures], ts: int) -> Figures:
    """Rows of one level as one of the next; samples count before what a line says."""
    own = [row for row in rows if row.samples] or list(rows)
    covered = sum(row.covered_ms for row in rows)
    samples = sum(row.samples for row in rows)
    if covered:
        mean = sum(row.mean * row.covered_ms for row in rows) / covered
    else:
        mean = sum(row.mean * row.samples for row in rows) / max(1, samples)
    return Figures(
        ts,
        min(row.min for row in own),
        max(row.max for row in own),
        mean,
        max(own).last,
        covered,
        samples,
    )


def horizons(connection: Connection) -> dict[str, int]:
    """Up to when rows of each level may have been deleted by age [ms]."""
    return {row.level: int(row.ts) for row in connection.execute(select(tables.horizon))}


def forget(
    connection: Connection, number: int, times: Iterable[int], horizon: int, zone: tzinfo
) -> None:
    """Take samples of a series out of its rollups, as far as the recorder no longer does.

    Args:
        connection: in the transaction that deletes the samples.
        number: of the series.
        times: of the samples [ms], rising.
        horizon: of raw samples [ms].
        zone: the site's, for its days.
    """
    old = [ts for ts in times if ts < horizon + MARGIN_MS]
    if not old:
        return
    for start, end in _runs(sorted({ts - ts % STRETCH_MS for ts in old})):
        _clear_minutes(connection, number, start, end)
    hours = Counter(ts - ts % HOUR_MS for ts in old)
    for hour, count in hours.items():
        minutes = _rows(connection, tables.minute, number, hour, hour + HOUR_MS)
        _replace(connection, tables.hour, number, hour, minutes, count)
    for _day, begin, end in days_between(old[0], old[-1] + 1, zone):
        first, last = begin + -begin % HOUR_MS, end - end % HOUR_MS
        parts = [
            *_rows(connection, tables.minute, number, begin, first),
            *_rows(connection, tables.hour, number, first, last),
            *_rows(connection, tables.minute, number, last, end),
        ]
        count = sum(begin <= ts < end for ts in old)
        _replace(connection, tables.day, number, begin, parts, count)


def _runs(stretches: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stretches that follow each other as one."""
    start = end = stretches[0]
    for stretch in stretches:
        if stretch > end:
            yield start, end
            start = stretch
        end = stretch + STRETCH_MS
    yield start, end


def _clear_minutes(connection: Connection, number: int, start: int, end: int) -> None:
    """The minutes of [start, end), and those of the lines that led there."""
    for row in reversed(_rows(connection, tables.minute, number, start - REACH_MS, start)):
        if row.samples or row.ts + row.covered_ms < start:
            break
        start = row.ts
    for row in _rows(connection, tables.minute, number, end, end + REACH_MS):
        if row.samples or row.ts != end:
            break
        end = row.ts + row.covered_ms
    table = tables.minute
    connection.execute(
        delete(table).where(table.c.series_id == number, table.c.ts >= start, table.c.ts < end)
    )


def _rows(connection: Connection, table: Table, number: int, start: int, end: int) -> list[Figures]:
    if start >= end:
        return []
    columns = [table.c[name] for name in Figures._fields]
    found = connection.execute(
        select(*columns)
        .where(table.c.series_id == number, table.c.ts >= start, table.c.ts < end)
        .order_by(table.c.ts)
    )
    return [Figures(*row) for row in found]


def _replace(
    connection: Connection,
    table: Table,
    number: int,
    ts: int,
    rows: Sequence[Figures],
    imported: int,
) -> None:
    """The row at ``ts`` made of ``rows``; without any it goes, if it was of the import alone."""
    mine = (table.c.series_id == number, table.c.ts == ts)
    if not rows:
        connection.execute(delete(table).where(*mine, table.c.samples <= imported))
        return
    connection.execute(delete(table).where(*mine))
    connection.execute(insert(table).values(series_id=number, **together(rows, ts)._asdict()))
