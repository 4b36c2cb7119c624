# ruff: noqa: S608 - nothing but names and numbers of our own is put into these statements
"""The past of a series, read from where it costs least: days, a curve, the newest value.

A curve comes from samples, minutes, hours or days, whichever are just fine enough for its width,
and is thinned out inside the database. Where nothing is known there is no point: a reader that
draws a line breaks it where :attr:`Point.joined` is false.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import Connection

from .sql import packed
from .tables import DIRTY_MS

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

RAW_MS = 2 * DAY_MS
"""Samples themselves are read for no longer stretch than that."""

PERIODS = 3
"""Samples further apart than so many of their usual pauses are not joined."""

LEVELS = (("minute", MINUTE_MS), ("hour", HOUR_MS), ("day", DAY_MS))


class Day(NamedTuple):
    """A local day of a series; ``ts`` is its beginning [ms]."""

    ts: int
    min: float
    max: float
    mean: float
    last: float
    covered_ms: int


class Point(NamedTuple):
    """A part of a curve: ``ts`` is its beginning [ms], ``joined`` whether the line comes to it."""

    ts: int
    min: float
    max: float
    mean: float
    joined: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """What :func:`curve` found: the table that it is from, and how long each point lasts [ms].

    ``step_ms`` is 0 where the points are samples.
    """

    level: str
    step_ms: int
    points: list[Point]


class Latest(NamedTuple):
    """The newest of a series: a number or a text, both None when it was not readable at ``ts``."""

    series_id: int
    ts: int
    value: float | None
    text: str | None
    quality: str | None


def by_day(connection: Connection, series_id: int, start: int, end: int) -> list[Day]:
    """The local days that begin in [start, end); days of which nothing is known are missing."""
    columns = ("`min`", "`max`", "mean", "`last`", "covered_ms")
    where = f"series_id = {int(series_id)} AND ts >= {int(start)} AND ts < {int(end)}"
    return [
        Day(int(ts), low, high, mean, last, int(covered_ms))
        for ts, low, high, mean, last, covered_ms in packed(
            connection, (_ms(connection), *columns), f"FROM `day` WHERE {where}"
        )
    ]


def latest(connection: Connection, series_ids: Sequence[int]) -> dict[int, Latest]:
    """The newest value of each of those series that has any."""
    ids = ", ".join(str(int(number)) for number in series_ids) or "NULL"
    return {
        row[0]: Latest(*row)
        for row in connection.exec_driver_sql(
            f"SELECT series_id, {_ms(connection)}, value, text, quality FROM latest"
            f" WHERE series_id IN ({ids})"
        )
    }


def curve(connection: Connection, series_id: int, start: int, end: int, points: int) -> Curve:
    """A series in [start, end) in about ``points`` steps, two for each at most.

    Args:
        connection: to the database.
        series_id: which.
        start: first moment [ms].
        end: the moment after the last [ms].
        points: how many there is room for; a picture's width in pixels.

    Returns:
        The finest level that needs no more points than that, or its thinned-out samples. What the
        rollups have not come to yet, the last minutes, is added from the samples.
    """
    series_id, start, end = int(series_id), int(start), int(end)
    width = max(1, -(-(end - start) // max(1, points)))
    horizons = {
        str(level): int(ts)
        for level, ts in connection.exec_driver_sql("SELECT level, ts FROM horizon")
    }
    level, length = _level(horizons, start, end, width)
    if level == "sample":
        return _samples(connection, series_id, start, end, points, width)
    step = max(length, -(-width // length) * length)
    origin = start - start % length if level != "day" else start
    where = f"series_id = {series_id} AND ts >= {origin} AND ts < {end}"
    columns = (_ms(connection), "`min`", "`max`", "mean")
    source = f"FROM `{level}` WHERE {where}"
    if step > length:
        columns = ("begun", "low", "high", "middle")
        source = (
            f"FROM (SELECT {_bucket(connection, origin, step)} AS begun, MIN(`min`) AS low,"
            " MAX(`max`) AS high, COALESCE(SUM(mean * covered_ms) / NULLIF(SUM(covered_ms), 0),"
            " SUM(mean * samples) / NULLIF(SUM(samples), 0), AVG(mean)) AS middle"
            f" {source} GROUP BY 1) AS steps"
        )
    rows = packed(connection, columns, source)
    if level == "minute":
        newest = max(origin, end - DAY_MS, horizons.get("sample", 0))
        rows = _renewed(connection, series_id, rows, (origin, newest, end), step)
    # a local day has 23 to 25 hours
    near = step + HOUR_MS if level == "day" else step
    return Curve(
        level,
        step,
        _joined(rows, near),
    )


def _level(horizons: Mapping[str, int], start: int, end: int, width: int) -> tuple[str, int]:
    """The coarsest level that is fine enough, if it still reaches back to ``start``."""
    fitting = [level for level in LEVELS if level[1] <= width]
    if not fitting and end - start <= RAW_MS and horizons.get("sample", 0) <= start:
        return "sample", 0
    name, length = fitting[-1] if fitting else LEVELS[0]
    if name == "minute" and horizons.get("minute", 0) > start:
        return LEVELS[1]
    return name, length


def _samples(
    connection: Connection, series_id: int, start: int, end: int, points: int, width: int
) -> Curve:
    """From the samples: themselves while they are few, else their minutes and less."""
    where = f"FROM sample WHERE series_id = {series_id} AND ts >= {start} AND ts < {end}"
    few = f"{where} ORDER BY ts LIMIT {2 * points + 1}"
    rows = packed(connection, ("ts", "value"), f"FROM (SELECT ts, value {few}) AS few")
    if len(rows) <= 2 * points:
        return Curve("sample", 0, _joined([(ts, value, value, value) for ts, value in rows], 0))
    rows = packed(connection, *_thinned(connection, start, width, where))
    return Curve("sample", width, _joined(rows, width))


def _thinned(
    connection: Connection, start: int, step: int, where: str
) -> tuple[tuple[str, ...], str]:
    """Columns and source of samples in steps."""
    return ("begun", "low", "high", "middle"), (
        f"FROM (SELECT {_bucket(connection, start, step)} AS begun, MIN(value) AS low,"
        f" MAX(value) AS high, AVG(value) AS middle {where} GROUP BY 1) AS steps"
    )


def _joined(rows: Sequence[tuple[float, ...]], near: int) -> list[Point]:
    """Points; the line is broken where a pause is longer than ``near`` and than is usual here."""
    times = [int(row[0]) for row in rows]
    pauses = [b - a for a, b in pairwise(times)]
    usual = sorted(pauses)[len(pauses) // 2] if pauses else 0
    limit = PERIODS * usual if usual > near else near
    joined = [False, *(pause <= limit for pause in pauses)]
    return [
        Point(ts, low, high, mean, holds)
        for ts, (_ts, low, high, mean), holds in zip(times, rows, joined, strict=False)
    ]


def _renewed(
    connection: Connection,
    series_id: int,
    rows: list[tuple[float, ...]],
    times: tuple[int, int, int],
    step: int,
) -> list[tuple[float, ...]]:
    """With what the rollups have not come to yet, from at most one day of samples."""
    origin, newest, end = times
    due = connection.exec_driver_sql(
        "SELECT MIN(ts) FROM dirty WHERE consumer = 'rollup'"
        f" AND ts >= {newest - DIRTY_MS} AND ts < {end}"
    ).scalar()
    if due is None:
        return rows
    start = max(int(due), newest)
    start -= (start - origin) % step
    where = f"FROM sample WHERE series_id = {series_id} AND ts >= {start} AND ts < {end}"
    newer = packed(connection, *_thinned(connection, start, step, where))
    return [row for row in rows if row[0] < start] + newer


def _ms(connection: Connection) -> str:
    """The time as a whole number: a server's DECIMAL would become a Decimal."""
    return "ts" if connection.dialect.name == "sqlite" else "CAST(ts AS SIGNED)"


def _bucket(connection: Connection, start: int, step: int) -> str:
    """The beginning of the step that a time lies in."""
    divide = "/" if connection.dialect.name == "sqlite" else "DIV"
    return f"({_ms(connection)} - {start}) {divide} {step} * {step} + {start}"
