# ruff: noqa: S608 - nothing but numbers of our own is put into these statements
"""Minutes, hours and days of every series, made again where ``dirty`` says that samples came.

A stretch of five minutes is seen to once it is over. Its minutes are made from the samples
(:mod:`recorder.lines`), the hours from the minutes, the days from the hours, and all of it is
committed together with the deletion of its mark: whoever is killed, what is left to do stays
marked, and doing it twice changes nothing.

The lines between samples are drawn here and not by window functions, which cost MariaDB and SQLite
ten times as much; a server packs the samples of a series into one text, which costs this process a
twentieth of their rows. Hours and days are sums that the database makes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import groupby
from operator import itemgetter

import msgspec
from sqlalchemy import Connection, Engine
from sunmesh import clock
from sunmesh.database.days import days_between
from sunmesh.database.tables import DIRTY_MS

from .lines import ENOUGH, LIMIT, MAX_PAUSE_MS, MINUTE_MS, QUARTER_MS, Bucket, Curve, minutes

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000

REACHES = (MINUTE_MS, 5 * MINUTE_MS, 3 * MAX_PAUSE_MS)
"""How far around a stretch is looked; a series takes the first that shows enough samples."""

KEPT_MS = 2 * REACHES[-1]
"""Samples that near to a stretch that is not seen to yet must not be deleted."""

GRACE_S = 30.0
"""A stretch rests that long before it is seen to; most of what was late is there by then [s]."""

SERIES = 200
"""Series in one transaction."""

PACKED = 50
"""Series in one answer; with some thousand samples each it is a megabyte or two."""

SAMPLES = 40_000
MINUTES = 16_000
"""Samples read and minutes made for one transaction, about: its stretches are fitted to that."""

MOST_STRETCHES = 288
"""Stretches in one transaction: a day."""

HOLE_MS = HOUR_MS
"""Marks that near to each other are seen to together, with what lies between them."""

ROWS = 1000
"""Rows in one INSERT."""

COLUMNS = ("min", "max", "mean", "last", "covered_ms", "samples")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of time, and the marks in it with their versions."""

    start: int
    end: int
    marks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Made:
    """The minutes of one series in [start, end)."""

    number: int
    start: int
    end: int
    minutes: list[Bucket]


@dataclass(slots=True)
class Totals:
    """What was done since the start."""

    stretches: int = 0
    chunks: int = 0
    samples: int = 0
    longest_s: float = 0.0


def now_ms() -> int:
    """The present moment [ms]."""
    return clock.epoch_ms(clock.now())


class Rollup:
    """Keeps the tables ``minute``, ``hour`` and ``day``.

    Args:
        engine: writes, and reads what is committed (``committed=True``).
        zone: the site's; its midnights begin days.
        reader: reads; on SQLite another one than ``engine``, with ``read_only=True``, so that the
            file is not locked meanwhile.
        grace_s: how long after its end a stretch is seen to [s].
        step_ms: stretches of so long are seen to together, where a card is to be spared [ms].
        now: the clock, for tests.
    """

    def __init__(
        self,
        engine: Engine,
        zone: tzinfo,
        *,
        reader: Engine | None = None,
        grace_s: float = GRACE_S,
        step_ms: int = DIRTY_MS,
        now: Callable[[], int] = now_ms,
    ) -> None:
        """Nothing is asked yet."""
        self._engine = engine
        self._reader = reader or engine
        self._zone = zone
        self._grace_ms = round(grace_s * 1000)
        self._step_ms = max(DIRTY_MS, step_ms - step_ms % DIRTY_MS)
        self._now = now
        self._sqlite = engine.dialect.name == "sqlite"
        self._texts = msgspec.json.Decoder(list[float])
        self._most = 2
        self.totals = Totals()

    def run(self, stop: threading.Event) -> int:
        """See to all that is due, the newest first; how many stretches that were.

        Raises:
            SQLAlchemyError: the database is away; what is not done stays marked.
        """
        done = 0
        while not stop.is_set() and (seen := self.step()):
            done += seen
        return done

    def step(self) -> int:
        """See to one chunk; how many stretches it had."""
        with self._reader.connect() as reader:
            chunk = self._next(reader)
            if chunk is None:
                return 0
            ids = [row[0] for row in reader.exec_driver_sql("SELECT id FROM series ORDER BY id")]
        before = self.totals.samples
        rows = 0
        groups = [ids[at : at + SERIES] for at in range(0, len(ids), SERIES)] or [[]]
        for group in groups:
            with self._reader.connect() as reader:
                raw_from, minutes_from = self._horizons(reader)
                made = list(self._make(reader, group, chunk, raw_from))
            rows = max(rows, sum(len(each.minutes) for each in made))
            began = time.monotonic()
            with self._engine.begin() as connection:
                self._put(connection, made, chunk, raw_from, minutes_from)
                if group is groups[-1]:
                    self._forget(connection, chunk)
            self.totals.longest_s = max(self.totals.longest_s, time.monotonic() - began)
        self.totals.stretches += len(chunk.marks)
        self.totals.chunks += 1
        length = (chunk.end - chunk.start) // DIRTY_MS
        read = max(1, (self.totals.samples - before) // len(groups))
        fitting = min(SAMPLES * length // read, MINUTES * length // max(1, rows))
        self._most = max(1, min(fitting, MOST_STRETCHES, 2 * self._most))
        return len(chunk.marks)

    def waiting(self) -> int:
        """How many stretches are marked, the one that is not over included."""
        with self._reader.connect() as reader:
            return int(
                reader.exec_driver_sql(
                    "SELECT COUNT(*) FROM dirty WHERE consumer = 'rollup'"
                ).scalar_one()
            )

    def adapt(self, stop: threading.Event) -> int:
        """Make all days again if they begin at the midnights of another zone; how many they are."""
        with self._reader.connect() as reader:
            begun = reader.exec_driver_sql(
                "SELECT ts FROM `day` WHERE series_id = (SELECT MIN(series_id) FROM `day`)"
            ).scalars()
            if all(days_between(int(ts), int(ts) + 1, self._zone)[0][1] == int(ts) for ts in begun):
                return 0
            oldest, newest = reader.exec_driver_sql("SELECT MIN(ts), MAX(ts) FROM `day`").one()
            ids = [row[0] for row in reader.exec_driver_sql("SELECT id FROM series ORDER BY id")]
        log.info("the site's midnights have moved: all days are made again")
        days = days_between(int(oldest), int(newest) + 25 * HOUR_MS, self._zone)
        for _, start, end in days:
            for at in range(0, len(ids), SERIES):
                if stop.is_set():
                    return 0
                with self._engine.begin() as connection:
                    part = ids[at : at + SERIES]
                    self._clear(connection, "day", part, start, end)
                    connection.exec_driver_sql(self._day(part, start, end))
        return len(days)

    # -- what is due -------------------------------------------------------------------------------

    def _closed(self) -> int:
        """The end of the last stretch that is over."""
        ms = self._now() - self._grace_ms
        return ms - ms % self._step_ms

    def _next(self, reader: Connection) -> Chunk | None:
        marks = [
            (int(ts), int(version))
            for ts, version in reader.exec_driver_sql(
                "SELECT ts, version FROM dirty WHERE consumer = 'rollup'"
                f" AND ts < {self._closed()} ORDER BY ts DESC LIMIT {self._most}"
            )
        ]
        if not marks:
            return None
        newest = marks[0][0]
        run = [marks[0]]
        for mark in marks[1:]:
            if run[-1][0] - mark[0] > HOLE_MS or newest - mark[0] >= self._most * DIRTY_MS:
                break
            run.append(mark)
        return Chunk(run[-1][0], newest + DIRTY_MS, tuple(run))

    @staticmethod
    def _forget(connection: Connection, chunk: Chunk) -> None:
        """Take the marks away, but not those that were made again since."""
        for ts, version in chunk.marks:
            connection.exec_driver_sql(
                f"DELETE FROM dirty WHERE consumer = 'rollup' AND ts = {ts} AND version = {version}"
            )

    @staticmethod
    def _horizons(reader: Connection) -> tuple[int, int]:
        """From when on all samples are there that tell a minute, and from when on all minutes."""
        found = {
            str(level): int(ts)
            for level, ts in reader.exec_driver_sql("SELECT level, ts FROM horizon")
        }
        return found.get("sample", -REACHES[-1]) + REACHES[-1], found.get("minute", 0)

    # -- reading -----------------------------------------------------------------------------------

    def _make(
        self, reader: Connection, ids: Sequence[int], chunk: Chunk, raw_from: int
    ) -> Iterator[Made]:
        """The minutes that the chunk's samples have a part in."""
        rest: list[int] = list(ids)
        closed = max(self._closed(), chunk.end)
        for reach in REACHES:
            asked, rest = rest, []
            begin, end = chunk.start - reach, chunk.end + reach
            if reach == REACHES[-1]:
                begin, end = begin - begin % QUARTER_MS, end + -end % QUARTER_MS
            end = min(end, closed)
            for at in range(0, len(asked), PACKED):
                part = asked[at : at + PACKED]
                curves = self._read(reader, part, begin - reach, end + reach)
                idle: list[int] = []
                for number in part:
                    curve = curves.get(number)
                    if curve is None or not curve.count(chunk.start, chunk.end):
                        idle.append(number)
                    elif reach == REACHES[-1] or self._tells(curve, chunk, reach, closed):
                        self.totals.samples += curve.count(chunk.start, chunk.end)
                        yield Made(number, begin, end, minutes(curve, begin, end))
                    else:
                        rest.append(number)
                if reach == REACHES[0]:
                    idle = self._emptied(reader, idle, chunk) if chunk.end > raw_from else []
                if reach == REACHES[-1]:
                    for number in idle:
                        curve = curves.get(number, Curve(begin, [], []))
                        yield Made(number, begin, end, minutes(curve, begin, end))
                else:
                    rest += idle

    def _tells(self, curve: Curve, chunk: Chunk, reach: int, closed: int) -> bool:
        """Whether so many samples around the chunk say all about the lines near its borders.

        Rows must begin at those, too. What lies behind ``closed`` is marked, and seen to later
        with what it changes here.
        """
        start, end = chunk.start - reach, chunk.end + reach
        spans = [(start - reach, start), (start, chunk.start)]
        if end <= closed:
            spans.append((chunk.end, end))
        else:
            end = closed
        if end + reach <= self._now():
            spans.append((end, end + reach))
        borders = (ts for ts in (start, end) if ts < closed and ts % QUARTER_MS)
        return all(curve.count(*span) >= ENOUGH for span in spans) and all(
            curve.count(ts, ts + MINUTE_MS) for ts in borders
        )

    def _read(
        self, reader: Connection, ids: Sequence[int], start: int, end: int
    ) -> dict[int, Curve]:
        """The samples of each series in [start, end), without what is no reading."""
        where = (
            f"FROM sample WHERE series_id IN ({_list(ids)}) AND ts >= {start} AND ts < {end}"
            f" AND value > -{LIMIT!r} AND value < {LIMIT!r}"
        )
        curves: dict[int, Curve] = {}
        if self._sqlite:
            rows = reader.exec_driver_sql(
                f"SELECT series_id, ts - {start}, value {where} ORDER BY series_id, ts"
            ).fetchall()
            for number, group in groupby(rows, itemgetter(0)):
                _ids, times, values = zip(*group, strict=True)
                curves[number] = Curve(start, list(times), list(values))
            return curves
        for number, count, text in reader.exec_driver_sql(
            f"SELECT series_id, COUNT(*), GROUP_CONCAT(CAST(ts AS SIGNED) - {start}, ',', value)"
            f" {where} GROUP BY series_id"
        ):
            try:
                numbers = self._texts.decode(f"[{text}]")
            except msgspec.DecodeError:
                numbers = []
            if len(numbers) != 2 * count:
                raise ValueError(f"series {number}: the server cut its {count} samples off")
            curves[number] = Curve.sort(start, numbers[::2], numbers[1::2])
        return curves

    def _emptied(self, reader: Connection, ids: Sequence[int], chunk: Chunk) -> list[int]:
        """Series that have minutes there, but no samples any more: those were deleted."""
        return [
            row[0]
            for row in reader.exec_driver_sql(
                f"SELECT series_id FROM `minute` WHERE series_id IN ({_list(ids)})"
                f" AND ts >= {chunk.start} AND ts < {chunk.end} AND samples > 0 GROUP BY series_id"
            )
        ]

    # -- writing -----------------------------------------------------------------------------------

    def _put(
        self,
        connection: Connection,
        made: Sequence[Made],
        chunk: Chunk,
        raw_from: int,
        minutes_from: int,
    ) -> None:
        if not made:
            return
        ids = sorted(each.number for each in made)
        for start, end in sorted({(each.start, each.end) for each in made}):
            part = [each.number for each in made if (each.start, each.end) == (start, end)]
            self._clear(connection, "minute", part, max(start, raw_from), end)
        self._insert(connection, made)
        first = min(each.start for each in made)
        last = max(each.end for each in made)
        first, last = first - first % HOUR_MS, last + -last % HOUR_MS
        self._clear(connection, "hour", ids, max(first, minutes_from), last)
        connection.exec_driver_sql(self._hours(ids, first, last))
        for _, start, end in days_between(first, last, self._zone):
            # with borders inside of hours a day needs minutes, and those do not last
            if start >= minutes_from or not (start % HOUR_MS or end % HOUR_MS):
                self._clear(connection, "day", ids, start, end)
            connection.exec_driver_sql(self._day(ids, start, end))

    @staticmethod
    def _clear(
        connection: Connection, table: str, ids: Iterable[int], start: int, end: int
    ) -> None:
        """Delete what is made again."""
        if start < end:
            connection.exec_driver_sql(
                f"DELETE FROM `{table}` WHERE series_id IN ({_list(ids)})"
                f" AND ts >= {start} AND ts < {end}"
            )

    def _insert(self, connection: Connection, made: Iterable[Made]) -> None:
        rows = [(each.number, *bucket) for each in made for bucket in each.minutes]
        if self._sqlite:
            if rows:
                connection.exec_driver_sql(
                    self._into("minute", "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"), rows
                )
            return
        for at in range(0, len(rows), ROWS):
            # the exponent makes the number a DOUBLE from the start, to the last bit
            text = ",".join(
                [
                    f"({number},{ts},{low!r},{high!r},{mean!r},{last!r},{covered},{samples})"
                    for number, ts, low, high, mean, last, covered, samples in rows[at : at + ROWS]
                ]
            )
            connection.exec_driver_sql(self._into("minute", f"VALUES {text}"))

    def _into(self, table: str, query: str) -> str:
        """Insert what ``query`` gives; what stands already stays if it was made of more.

        Such a row stands there only where samples may have been deleted by age; elsewhere it was
        cleared before. Of a row of minutes only its own counts: the others may have rows by now.
        """
        names = ", ".join(f"`{name}`" for name in ("series_id", "ts", *COLUMNS))
        head = f"INSERT INTO `{table}` ({names}) {query}"
        old = f"`{table}`."
        rest = "%" if self._sqlite else "MOD"
        own = f"(CAST({{}} AS SIGNED) - 1) {rest} {MINUTE_MS}" if table == "minute" else "{}"
        if self._sqlite:
            moved = ", ".join(f"`{name}` = excluded.`{name}`" for name in COLUMNS)
            return (
                f"{head} ON CONFLICT (series_id, ts) DO UPDATE SET {moved}"
                f" WHERE excluded.samples > {old}samples OR excluded.samples = {old}samples"
                f" AND {own.format('excluded.covered_ms')} >= {own.format(f'{old}covered_ms')}"
            )
        more = (
            f"VALUES(samples) > {old}samples OR VALUES(samples) = {old}samples"
            f" AND {own.format('VALUES(covered_ms)')} >= {own.format(f'{old}covered_ms')}"
        )
        # assignments run from left to right: what the guard reads moves last, samples at the end
        moved = ", ".join(
            f"{old}`{name}` = IF({more}, VALUES(`{name}`), {old}`{name}`)" for name in COLUMNS[:-1]
        )
        return (
            f"{head} ON DUPLICATE KEY UPDATE {moved},"
            f" {old}samples = GREATEST({old}samples, VALUES(samples))"
        )

    @staticmethod
    def _together(source: str, ts: str) -> str:
        """Rollups into larger ones; samples count before what a line says."""
        own = "CASE WHEN samples > 0 THEN {} END".format
        return (
            f"SELECT series_id AS s, {ts} AS ts,"
            f" COALESCE(MIN({own('`min`')}), MIN(`min`)) AS `min`,"
            f" COALESCE(MAX({own('`max`')}), MAX(`max`)) AS `max`,"
            " COALESCE(SUM(mean * covered_ms) / NULLIF(SUM(covered_ms), 0),"
            " SUM(mean * samples) / SUM(samples)) AS mean,"
            f" COALESCE(MAX({own('ts')}), MAX(ts)) AS t,"
            " SUM(covered_ms) AS covered_ms, SUM(samples) AS samples"
            f" FROM {source} GROUP BY 1, 2"
        )

    def _hours(self, ids: Sequence[int], start: int, end: int) -> str:
        """Make the hours in [start, end) from the minutes."""
        source = f"`minute` WHERE series_id IN ({_list(ids)}) AND ts >= {start} AND ts < {end}"
        hour = (
            f"ts / {HOUR_MS} * {HOUR_MS}"
            if self._sqlite
            else f"CAST(ts AS SIGNED) DIV {HOUR_MS} * {HOUR_MS}"
        )
        return self._into(
            "hour",
            "SELECT g.s, g.ts, g.`min`, g.`max`, g.mean, m.`last`, g.covered_ms, g.samples"
            f" FROM ({self._together(source, hour)}) AS g"
            " JOIN `minute` AS m ON m.series_id = g.s AND m.ts = g.t WHERE 1 = 1",
        )

    def _day(self, ids: Sequence[int], start: int, end: int) -> str:
        """Make the day in [start, end) from its hours, and from minutes where it cuts one."""
        first, last = start + -start % HOUR_MS, end - end % HOUR_MS
        parts = [("hour", first, last), ("minute", start, first), ("minute", last, end)]
        columns = "series_id, ts, `min`, `max`, mean, `last`, covered_ms, samples"
        source = " UNION ALL ".join(
            f"SELECT {columns} FROM `{table}`"
            f" WHERE series_id IN ({_list(ids)}) AND ts >= {begin} AND ts < {stop}"
            for table, begin, stop in parts
            if begin < stop
        )
        return self._into(
            "day",
            f"WITH part AS ({source})"
            f" SELECT g.s, {start}, g.`min`, g.`max`, g.mean, p.`last`, g.covered_ms, g.samples"
            f" FROM ({self._together('part', str(start))}) AS g"
            " JOIN part AS p ON p.series_id = g.s AND p.ts = g.t WHERE 1 = 1",
        )


def _list(ids: Iterable[int]) -> str:
    return ", ".join(map(str, ids)) or "NULL"
