"""History, read from the database that the recorder writes. SQL stands here and in ``accounts``.

Read-only by connection, not by good will. No query touches more than the range it is asked for:
``sample`` is clustered by (series_id, ts), and a day is thinned out inside the database.
"""

import json
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Date,
    Double,
    Engine,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    case,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool
from sunmesh.database.days import bounds
from sunmesh.database.sql import PACKED_BYTES, driver_options, packed
from sunmesh.database.tables import DIRTY_MS
from sunmesh.errors import SunmeshError
from sunmesh.house import Roles, roles

from . import energy, stack
from .day import past as day_past
from .day.past import Happened
from .energy import Books
from .stack import Bucket, Curve, Point
from .text import _

log = logging.getLogger(__name__)

WIDTH_MS = 180_000
"""A day is drawn in stretches of this length: 480 of them, 500 on the day of 25 hours."""
MINUTE_MS = 60_000
GAP_PERIODS = 3
"""A pause of more sample periods than this is a gap: nothing is known in it."""
TIMEOUT_S = 3
SERIES_TTL_S = 30.0
TODAY_TTL_S = 20.0
PAST_TTL_S = 600.0
REREAD_S = 900.0
"""Late samples (a recorder that caught up) are seen after this long at the latest."""
KEPT_DAYS = 3
OUTAGE_DAYS = 14
"""How far back the last moment with grid is looked for."""
HOUR_MS = 3_600_000
LEVELS = (("minute", MINUTE_MS, WIDTH_MS), ("hour", HOUR_MS, HOUR_MS))
"""Rollups, the length of their rows and what a day is drawn in from them [ms]."""

metadata = MetaData()

series_table = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String(32)),
    Column("name", String(80)),
    Column("unit", String(16)),
    Column("kind", String(8)),
)
device_table = Table(
    "device",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("info", Text),
)
sample = Table(
    "sample",
    metadata,
    Column("series_id", Integer, primary_key=True),
    Column("ts", BigInteger, primary_key=True),
    Column("value", Double),
)
day_table = Table(
    "day",
    metadata,
    Column("series_id", Integer, primary_key=True),
    Column("ts", BigInteger, primary_key=True),
)
state = Table(
    "state",
    metadata,
    Column("series_id", Integer, primary_key=True),
    Column("ts", BigInteger, primary_key=True),
    Column("value", String(255)),
)


energy_table = Table(
    "energy",
    metadata,
    Column("flow", String(20), primary_key=True),
    Column("ts", BigInteger, primary_key=True),
)
energy_day = Table(
    "energy_day",
    metadata,
    Column("flow", String(20), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("wh", Double),
    *(Column(f"{flag}_wh", Double) for flag in energy.FLAGS),
)
BUCKET_MS = 300_000
alarm_table = Table(
    "alarm",
    metadata,
    Column("device", String(32), primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("id", String(64)),
    Column("state", String(8)),
    Column("severity", String(8)),
    Column("title", String(160)),
    Column("text", Text),
    Column("ts", BigInteger, primary_key=True),
    Column("value", Double),
)
ack_table = Table(
    "acknowledgement",
    metadata,
    Column("device", String(32), primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("by_whom", String(64), primary_key=True),
    Column("ts", BigInteger),
)
SEVERITIES = ("info", "warning", "critical")
MOST_CHANGES = 2000


class HistoryError(SunmeshError):
    """The database cannot be read; the text says why and what to look at."""


@dataclass(frozen=True, slots=True)
class Day:
    """One local day of the house.

    Attributes:
        date: local.
        start: first millisecond.
        end: first millisecond of the next day.
        points: thinned out, gaps as empty points.
        books: energies.
        roles: which series it was made of.
        width_ms: length of a stretch; an hour where minutes are not kept any more.
    """

    date: date
    start: int
    end: int
    points: Sequence[Point] = ()
    books: Books = field(default_factory=Books)
    roles: Roles = field(default_factory=Roles)
    width_ms: int = WIDTH_MS


@dataclass(frozen=True, slots=True)
class Rolled:
    """From where a day is read: rows of ``level`` up to ``until`` [ms], samples from there on.

    Empty ``level``: samples only.
    """

    level: str = ""
    length_ms: int = 0
    width_ms: int = WIDTH_MS
    until: int = 0


@dataclass(frozen=True, slots=True)
class Switching:
    """A relay that has taken a position."""

    ms: int
    position: str
    reason: str


@dataclass(frozen=True, slots=True)
class PastAlarm:
    """One life of an alarm, from raised to cleared.

    Attributes:
        severity: the worst that it had.
        title, text: as it was raised last.
        end: None = it was not cleared, as far as the recorder knows.
        by, acked: who has seen it first, and when [ms]; empty and None = nobody.
    """

    device: str
    code: str
    id: str
    severity: str
    title: str
    text: str
    start: int
    end: int | None
    value: float | None = None
    by: str = ""
    acked: int | None = None


@dataclass(slots=True)
class _Kept:
    """A day in memory, and how far each of its series was read."""

    day: Day
    curves: dict[int, Curve]
    read_at: float
    full_at: float
    own: Books
    """The day's energies without the energy books."""
    booked_at: float


def explain(url_text: str, err: Exception) -> str:
    """Why a database cannot be read, and what to look at, without a password."""
    url = make_url(url_text)
    sqlite = url.get_backend_name() == "sqlite"
    where = url.database if sqlite else f"{url.host}:{url.port or 3306}/{url.database}"
    text = str(getattr(err, "orig", None) or err)
    if "no such table" in text or "1146" in text:
        return _(
            "the database %(name)s has no tables yet; the recorder makes them when it starts",
            name=where,
        )
    if "unable to open" in text:
        return _(
            "there is no database %(name)s yet; the recorder makes it when it starts", name=where
        )
    if "1045" in text or "1044" in text:
        return _("the database %(name)s refuses the portal's user; look at [database]", name=where)
    if "2003" in text or "2013" in text or "2006" in text:
        return _("the database %(name)s does not answer; is it running?", name=where)
    return _("the database %(name)s cannot be read: %(why)s", name=where, why=text.splitlines()[0])


class History:
    """Questions about the past.

    Args:
        url: SQLAlchemy URL of the recorder's database.
        zone: the site's, which decides where a day begins.
        left_out: devices that measure what others already count.
    """

    def __init__(self, url: str, zone: tzinfo, left_out: Collection[str] = ()) -> None:
        """Nothing connects before the first question."""
        self.zone = zone
        self._left_out = left_out
        self._url = url
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._series: dict[tuple[str, str], int] = {}
        self._stand: tuple[set[str], dict[str, str]] = (set(), {})
        self._series_at = float("-inf")
        self._days: OrderedDict[date, _Kept] = OrderedDict()
        self._rollups: bool | None = None
        self.reads = 0
        """Whole days read so far."""

    # -- connection ------------------------------------------------------------------------------

    def _connect(self) -> Engine:
        if self._engine is None:
            url = make_url(self._url)
            options: dict[str, Any] = {
                "poolclass": QueuePool,
                "pool_size": 1,
                "max_overflow": 4,
                "pool_timeout": TIMEOUT_S,
                "pool_recycle": 300,
            }
            if url.get_backend_name() == "sqlite":
                path = Path(url.database or "")

                def open_file() -> sqlite3.Connection:
                    connection = sqlite3.connect(
                        f"file:{quote(str(path))}?mode=ro",
                        uri=True,
                        timeout=TIMEOUT_S,
                        check_same_thread=False,
                    )
                    # The system caches the file; a second cache would only cost memory.
                    connection.execute("PRAGMA cache_size = -256")
                    return connection

                self._engine = create_engine("sqlite://", creator=open_file, **options)
            else:
                self._engine = create_engine(
                    url,
                    pool_pre_ping=True,
                    isolation_level="AUTOCOMMIT",
                    connect_args={
                        "connect_timeout": TIMEOUT_S,
                        "read_timeout": 30,
                        "write_timeout": TIMEOUT_S,
                        **driver_options(url),
                    },
                    **options,
                )

                @event.listens_for(self._engine, "connect")
                def read_only(connection: Any, _record: Any) -> None:  # noqa: ANN401
                    with connection.cursor() as cursor:
                        cursor.execute("SET SESSION TRANSACTION READ ONLY")
                        cursor.execute(f"SET SESSION group_concat_max_len = {PACKED_BYTES}")

        return self._engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that cannot write.

        Raises:
            HistoryError: no database, or not the recorder's.
        """
        try:
            with self._connect().connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError, RuntimeError) as err:
            raise HistoryError(explain(self._url, err)) from err

    def _rows(self, query: Select[*tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
        """Run one query.

        Raises:
            HistoryError: no database, or not the recorder's.
        """
        with self.reading() as connection:
            return connection.execute(query).fetchall()

    def close(self) -> None:
        """Give back the connections."""
        if self._engine is not None:
            self._engine.dispose()

    def forget(self) -> None:
        """The energy books were changed: read the days again that are kept."""
        with self._lock:
            for kept in self._days.values():
                kept.booked_at = float("-inf")

    # -- small questions --------------------------------------------------------------------------

    def series(self) -> dict[tuple[str, str], int]:
        """Number of each series by (device, name)."""
        # None yet means a recorder that has just begun: that is not worth remembering.
        if not self._series or time.monotonic() - self._series_at > SERIES_TTL_S:
            rows = self._rows(
                select(series_table.c.device, series_table.c.name, series_table.c.id).order_by(
                    series_table.c.id
                )
            )
            self._series = {(row[0], row[1]): int(row[2]) for row in rows}
            self._stand = self._standing()
            self._series_at = time.monotonic()
        return self._series

    def roles(self) -> Roles:
        """Which series make up the house."""
        names: dict[str, set[str]] = {}
        for device, name in self.series():
            names.setdefault(device, set()).add(name.partition("/")[0])
        return roles(names, self._left_out, *self._stand)

    def _standing(self) -> tuple[set[str], dict[str, str]]:
        """Which devices are groups, and through which gateway others are read."""
        try:
            rows = self._rows(select(device_table.c.name, device_table.c.info))
        except HistoryError:
            return set(), {}
        groups: set[str] = set()
        through: dict[str, str] = {}
        for name, text in rows:
            try:
                info = json.loads(text or "{}")
            except ValueError:
                continue
            if info.get("family") == "group":
                groups.add(name)
            if info.get("through"):
                through[name] = str(info["through"])
        return groups, through

    def _house_ids(self) -> list[int]:
        known, chosen = self.series(), self.roles()
        pairs = {*chosen.pv, *chosen.load, *chosen.battery, *chosen.grid}
        if chosen.soc:
            pairs.add(chosen.soc)
        return [known[pair] for pair in pairs if pair in known]

    def neighbours(self, day: date) -> tuple[date | None, date | None]:
        """The nearest days before and after of which anything is known: in one question."""
        start, end = bounds(day, self.zone)
        ids = self._house_ids()
        tables = [sample, *(table for table in (day_table,) if self._has_rollups())]
        found: list[list[int]] = [[], []]
        if ids:
            mine = [(table.name, number) for table in tables for number in ids]
            before = [
                f"(SELECT MAX(ts) FROM `{name}` WHERE series_id = {number:d} AND ts < {start:d})"  # noqa: S608
                for name, number in mine
            ]
            after = [
                f"(SELECT MIN(ts) FROM `{name}` WHERE series_id = {number:d} AND ts >= {end:d})"  # noqa: S608
                for name, number in mine
            ]
            with self.reading() as connection:
                query = f"SELECT {', '.join([*before, *after])}"
                row = connection.exec_driver_sql(query).one()
            known = [None if ts is None else int(ts) for ts in row]
            found[0] = [ts for ts in known[: len(before)] if ts is not None]
            found[1] = [ts for ts in known[len(before) :] if ts is not None]
        return (
            self._local_date(max(found[0])) if found[0] else None,
            self._local_date(min(found[1])) if found[1] else None,
        )

    def _has_rollups(self) -> bool:
        """Whether the recorder keeps days of each series."""
        if self._rollups is None:
            try:
                self._rows(select(day_table.c.ts).limit(1))
                self._rollups = True
            except HistoryError:
                self._rollups = False
        return self._rollups

    def _local_date(self, ms: int) -> date:
        return datetime.fromtimestamp(ms / 1000, self.zone).date()

    def last_above(self, pair: tuple[str, str], limit: float, before: int) -> int | None:
        """The last time that a series was at or above ``limit``, day by day back, at most 14."""
        number = self.series().get(pair)
        if number is None:
            return None
        end = before
        for _day in range(OUTAGE_DAYS):
            start = end - 24 * HOUR_MS
            rows = self._rows(
                select(func.max(sample.c.ts)).where(
                    sample.c.series_id == number,
                    sample.c.ts >= start,
                    sample.c.ts < end,
                    sample.c.value >= limit,
                )
            )
            if rows and rows[0][0] is not None:
                return int(rows[0][0])
            end = start
        return None

    # -- a day ------------------------------------------------------------------------------------

    def day(self, day: date) -> Day:
        """One local day, from memory where that is young enough.

        Raises:
            HistoryError: the database cannot be read.
        """
        with self._lock:
            now = time.monotonic()
            kept = self._days.get(day)
            today = datetime.now(self.zone).date()
            ttl = TODAY_TTL_S if day >= today else PAST_TTL_S
            if kept is not None and now - kept.read_at < ttl:
                self._days.move_to_end(day)
                if now - kept.booked_at >= TODAY_TTL_S:  # somebody may have corrected it
                    kept.day = self._with_booked(kept.day, kept.own)
                    kept.booked_at = now
                return kept.day
            if kept is not None and (day < today or now - kept.full_at > REREAD_S):
                kept = None
            fresh = self._read(day, kept)
            self.reads += kept is None
            if day < today:
                fresh.curves.clear()  # only today is added to
            self._days[day] = fresh
            self._days.move_to_end(day)
            while len(self._days) > KEPT_DAYS:
                self._days.popitem(last=False)
            return fresh.day

    def _read(self, day: date, kept: _Kept | None) -> _Kept:
        """Read a day whole, or only what is new since ``kept``."""
        start, end = bounds(day, self.zone)
        known, chosen = self.series(), self.roles()
        pairs = [*chosen.pv, *chosen.load, *chosen.battery, *chosen.grid]
        pairs += [pair for pair in (chosen.soc, chosen.grid_voltage) if pair]
        for device in chosen.battery_parts:
            pairs += [
                (device, "battery_voltage_v"),
                (device, "battery_charge_current_a"),
                (device, "battery_discharge_current_a"),
            ]
        owners = {device for device, _ in pairs}
        totals = [(d, name) for d in owners for name in energy.COUNTERS.values()]
        curves: dict[int, Curve] = {}
        periods: dict[str, float] = {}
        rolled = self._rolled(start, end)
        for pair in dict.fromkeys([*pairs, *totals]):
            if pair not in known:
                continue
            number = known[pair]
            old = kept.curves.get(number) if kept else None
            if old is not None and old.buckets and not rolled.level:
                curves[number] = self._extend(number, old, end)
                continue
            whole = self._rows_of(number, start, rolled) if rolled.level else []
            if rolled.until >= end:
                if whole:
                    curves[number] = Curve(whole, rolled.length_ms)
                continue
            if pair[0] not in periods:
                # The series of one device are sampled together.
                periods[pair[0]] = self._period_ms(number, max(start, rolled.until), end)
            gap = round(GAP_PERIODS * periods[pair[0]] * 1.1) or 3 * WIDTH_MS
            begin = max(start, rolled.until - gap) if rolled.level else start
            buckets = whole + [
                bucket
                for bucket in self._buckets(number, begin, end, gap)
                if bucket.start >= rolled.until
            ]
            if buckets:
                curves[number] = Curve(buckets, max(gap, rolled.length_ms))
        by_pair = {pair: curves[known[pair]] for pair in pairs if known.get(pair) in curves}
        modes = self._modes(chosen, start, end)
        points = stack.points(chosen, by_pair, modes, rolled.width_ms)
        counters = {
            pair: energy.counted(curves[known[pair]].buckets, self._just_before(known[pair], start))
            for pair in totals
            if known.get(pair) in curves
        }
        own = energy.books(chosen, by_pair, points, counters)
        made = Day(day, start, end, points, own, chosen, rolled.width_ms)
        now = time.monotonic()
        full_at = kept.full_at if kept else now
        return _Kept(self._with_booked(made, own), curves, now, full_at, own, now)

    def _rolled(self, start: int, end: int) -> Rolled:
        """The finest rollup that still reaches back to ``start``, and how far it has come."""
        try:
            with self.reading() as connection:
                horizons = {
                    str(level): int(ts)
                    for level, ts in connection.exec_driver_sql("SELECT level, ts FROM horizon")
                }
                due = connection.exec_driver_sql(
                    "SELECT MIN(ts) FROM dirty WHERE consumer = 'rollup'"  # noqa: S608 - numbers
                    f" AND ts >= {start - DIRTY_MS:d} AND ts < {end:d}"
                ).scalar()
        except HistoryError:
            return Rolled()  # tables of an older recorder
        for level, length, width in LEVELS:
            if horizons.get(level, 0) <= start:
                until = end if due is None else max(start, int(due))
                samples = horizons.get("sample", 0)
                if samples > until:  # what was marked late, of a time whose samples are deleted
                    until = min(samples, end)
                return Rolled(
                    level, length, width, until if until >= end else until - until % width
                )
        return Rolled()

    def _rows_of(self, number: int, start: int, rolled: Rolled) -> list[Bucket]:
        """One series in stretches, made of its rollup."""
        width, length = rolled.width_ms, rolled.length_ms
        first = start - start % width
        # A day of a zone that is half an hour off has its first hour in part.
        source = (
            f"FROM (SELECT FLOOR(ts / {width}) AS stretch,"  # noqa: S608 - numbers, our own table
            " COALESCE(SUM(mean * covered_ms) / NULLIF(SUM(covered_ms), 0), AVG(mean)) AS middle,"
            " SUM(CASE WHEN mean > 0 THEN mean * covered_ms ELSE 0 END) AS above,"
            " SUM(CASE WHEN mean < 0 THEN -mean * covered_ms ELSE 0 END) AS below,"
            " SUM(covered_ms) AS covered, MIN(ts) AS begun,"
            # What is sampled every five minutes has one row in five, which reaches over all five.
            f" MAX(ts + CASE WHEN covered_ms > {length} THEN covered_ms ELSE {length} END) AS ended"
            f" FROM `{rolled.level}` WHERE series_id = {number:d}"
            f" AND ts >= {first} AND ts < {rolled.until}"
            " GROUP BY 1) AS stretches"
        )
        columns = ("stretch", "middle", "above", "below", "covered", "begun", "ended")
        try:
            with self.reading() as connection:
                if connection.dialect.name == "sqlite":
                    source = source.replace("FLOOR(ts", "(ts")
                rows = packed(connection, columns, source)
        except SQLAlchemyError as err:
            raise HistoryError(explain(self._url, err)) from err
        return [
            Bucket(int(row[0]) * width, row[1], row[2], row[3], row[4], int(row[5]), int(row[6]))
            for row in rows
        ]

    def _with_booked(self, made: Day, own: Books) -> Day:
        """The day with what the energy books say of it."""
        booked = self._booked(made.date, made.start, made.end)
        return replace(made, books=energy.with_booked(own, booked, made.points))

    def _booked(self, day: date, start: int, end: int) -> dict[str, energy.Booked]:
        """What the energy books say of a day; nothing where there is no bookkeeper."""
        flags = list(energy.FLAGS)
        table, buckets = energy_day, energy_table
        try:
            sums = self._rows(
                select(table.c.flow, table.c.wh, *(table.c[f"{flag}_wh"] for flag in flags)).where(
                    table.c.day == day
                )
            )
            if not sums:
                return {}
            ends = self._rows(
                select(buckets.c.flow, func.max(buckets.c.ts))
                .where(
                    buckets.c.flow.in_([row[0] for row in sums]),
                    buckets.c.ts >= start,
                    buckets.c.ts < end,
                )
                .group_by(buckets.c.flow)
            )
        except HistoryError:
            return {}  # tables of an older recorder
        until = {row[0]: int(row[1]) + BUCKET_MS for row in ends}
        return {
            row[0]: energy.Booked(
                float(row[1]),
                {flag: float(wh) for flag, wh in zip(flags, row[2:], strict=True) if wh},
                until[row[0]],
            )
            for row in sums
            if row[0] in until
        }

    def _extend(self, number: int, old: Curve, end: int) -> Curve:
        """``old`` with what came since: its last two stretches are read again."""
        cut = old.buckets[max(0, len(old.buckets) - 2)].start
        kept = [bucket for bucket in old.buckets if bucket.start < cut]
        fresh = self._buckets(number, max(cut - old.gap_ms, 0), end, old.gap_ms)
        return replace(old, buckets=[*kept, *(b for b in fresh if b.start >= cut)])

    def _period_ms(self, number: int, start: int, end: int) -> float:
        """Usual pause between two samples of that day, seen at its beginning and at its end."""
        pauses: list[float] = []
        for order in (sample.c.ts.asc(), sample.c.ts.desc()):
            rows = self._rows(
                select(sample.c.ts)
                .where(sample.c.series_id == number, sample.c.ts >= start, sample.c.ts < end)
                .order_by(order)
                .limit(30)
            )
            times = sorted(int(row[0]) for row in rows)
            steps = [after - before for before, after in zip(times, times[1:])]  # noqa: B905
            if steps:
                pauses.append(sorted(steps)[len(steps) // 2])
        return max(pauses, default=0.0)

    def _buckets(self, number: int, start: int, end: int, gap: int) -> list[Bucket]:
        """One series in stretches, with trapezoids that never reach over ``gap``."""
        before = func.lag(sample.c.ts).over(order_by=sample.c.ts)
        reading = func.lag(sample.c.value).over(order_by=sample.c.ts)
        inner = (
            select(
                sample.c.ts.label("ts"),
                sample.c.value.label("value"),
                (sample.c.ts - before).label("pause"),
                ((sample.c.value + reading) / 2).label("middle"),
            )
            .where(sample.c.series_id == number, sample.c.ts >= start, sample.c.ts < end)
            .subquery()
        )
        known = inner.c.pause <= gap
        area = inner.c.pause * inner.c.middle
        stretch = (inner.c.ts // WIDTH_MS).label("stretch")
        rows = self._rows(
            select(
                stretch,
                func.avg(inner.c.value),
                func.sum(case((known & (inner.c.middle > 0), area), else_=0)),
                func.sum(case((known & (inner.c.middle < 0), -area), else_=0)),
                func.sum(case((known, inner.c.pause), else_=0)),
                func.min(inner.c.ts),
                func.max(inner.c.ts),
            )
            .group_by(stretch)
            .order_by(stretch)
        )
        return [
            Bucket(
                int(row[0]) * WIDTH_MS,
                float(row[1]),
                float(row[2]),
                float(row[3]),
                float(row[4]),
                int(row[5]),
                int(row[6]),
            )
            for row in rows
        ]

    def _just_before(self, number: int, start: int) -> float | None:
        """The last reading in the hour before ``start``."""
        try:
            with self.reading() as connection:
                minute = connection.exec_driver_sql(
                    f"SELECT `last` FROM `minute` WHERE series_id = {number:d}"  # noqa: S608 - numbers
                    f" AND ts < {start:d} AND ts >= {start - HOUR_MS:d} ORDER BY ts DESC LIMIT 1"
                ).scalar()
            if minute is not None:
                return float(minute)
        except HistoryError:
            pass  # tables of an older recorder
        rows = self._rows(
            select(sample.c.value)
            .where(
                sample.c.series_id == number,
                sample.c.ts < start,
                sample.c.ts >= start - HOUR_MS,
            )
            .order_by(sample.c.ts.desc())
            .limit(1)
        )
        return float(rows[0][0]) if rows else None

    def _modes(self, chosen: Roles, start: int, end: int) -> list[tuple[int, str]]:
        """The inverter's modes over a day, beginning with the one it came in with."""
        if not chosen.mode or chosen.grid:
            return []
        number = self.series().get(chosen.mode[0])
        if number is None:
            return []
        mine = state.c.series_id == number
        earlier = self._rows(
            select(state.c.ts, state.c.value)
            .where(mine, state.c.ts < start)
            .order_by(state.c.ts.desc())
            .limit(1)
        )
        rows = self._rows(
            select(state.c.ts, state.c.value)
            .where(mine, state.c.ts >= start, state.c.ts < end)
            .order_by(state.c.ts)
        )
        return [(int(row[0]), str(row[1])) for row in (*earlier, *rows)]

    def recorded(self, days: Sequence[date]) -> list[bool]:
        """Of which days anything is known of the house: in one question.

        Raises:
            HistoryError: the database cannot be read.
        """
        ids = ", ".join(str(number) for number in self._house_ids())
        if not ids or not days:
            return [False] * len(days)
        tables = [sample, *(table for table in (day_table,) if self._has_rollups())]
        asked = [
            " OR ".join(
                f"EXISTS (SELECT 1 FROM `{table.name}` WHERE series_id IN ({ids})"  # noqa: S608
                f" AND ts >= {start:d} AND ts < {end:d})"
                for table in tables
            )
            for start, end in (bounds(day, self.zone) for day in days)
        ]
        with self.reading() as connection:
            row = connection.exec_driver_sql(f"SELECT {', '.join(asked)}").one()
        return [bool(each) for each in row]

    def happened(self, start: int, end: int) -> Happened:
        """Alarms, commands, modes of inverters and positions of relays in [start, end).

        Nothing of tables that an older recorder does not have.

        Raises:
            HistoryError: the database cannot be read.
        """
        known = self.series()
        modes = [pair for pair in self.roles().mode if pair in known]
        relays = [device for device, name in known if name == day_past.POSITION]
        pairs = [
            *modes,
            *((device, day_past.POSITION) for device in relays),
            *((device, day_past.REASON) for device in relays),
        ]
        series = {known[pair]: pair for pair in pairs if pair in known}
        with self.reading() as connection:
            stood, cut = day_past.turns(connection, series, start, end)
        found = Happened(
            modes=day_past.in_order(day_past.changes(stood[pair]) for pair in modes),
            positions=day_past.in_order(
                day_past.changes(
                    stood[device, day_past.POSITION], stood.get((device, day_past.REASON), ())
                )
                for device in relays
            ),
            is_cut=cut,
        )
        with suppress(HistoryError), self.reading() as connection:
            alarms, cut = day_past.alarms(connection, start, end)
            found = replace(found, alarms=alarms, is_cut=found.is_cut or cut)
        with suppress(HistoryError), self.reading() as connection:
            switched = [turn.ms for turn in found.positions]
            commands, cut = day_past.commands(connection, start, end, switched)
            found = replace(found, commands=commands, is_cut=found.is_cut or cut)
        return found

    # -- what a relay did --------------------------------------------------------------------------

    def switchings(self, device: str, most: int = 20) -> list[Switching]:
        """The last positions of a relay, the newest first, each with the reason it gave.

        Raises:
            HistoryError: the database cannot be read.
        """
        known = self.series()
        number = known.get((device, "relay_position"))
        if number is None:
            return []
        rows = self._rows(
            select(state.c.ts, state.c.value)
            .where(state.c.series_id == number)
            .order_by(state.c.ts.desc())
            .limit(most)
        )
        if not rows:
            return []
        reasons: list[tuple[int, str]] = []
        why = known.get((device, "relay_reason"))
        if why is not None:
            # A reason may change while the relay stands, so there may be many between two rows.
            for row in rows:
                found = self._rows(
                    select(state.c.ts, state.c.value)
                    .where(state.c.series_id == why, state.c.ts <= int(row[0]))
                    .order_by(state.c.ts.desc())
                    .limit(1)
                )
                reasons += [(int(row[0]), str(one[1])) for one in found]
        told = dict(reasons)
        return [Switching(int(row[0]), str(row[1]), told.get(int(row[0]), "")) for row in rows]

    # -- alarms ------------------------------------------------------------------------------------

    def past_alarms(self, device: str = "", skip: int = 0, most: int = 20) -> list[PastAlarm]:
        """Alarms as they were announced, the ones that changed last first.

        Args:
            device: only of this one; empty = of all.
            skip: so many newer ones.
            most: no more than that.

        Raises:
            HistoryError: the database cannot be read.
        """
        column = alarm_table.c
        keys = self._newest_alarms(device, skip + most)[skip:]
        if not keys:
            return []
        changes = self._rows(
            select(
                *(column.device, column.code, column.id, column.state, column.severity),
                *(column.title, column.text, column.ts, column.value),
            )
            .where(column.id.in_({key[2] for key in keys}))
            .order_by(column.ts)
            .limit(MOST_CHANGES)
        )
        by_key: dict[tuple[str, str, str], list[Sequence[Any]]] = {key: [] for key in keys}
        for row in changes:
            by_key.get((row[0], row[1], row[2]), []).append(row)
        seen = self.acknowledged({key[2] for key in keys})
        made = []
        for key, rows in by_key.items():
            if not rows:
                continue
            told = next((row for row in reversed(rows) if row[3] == "raised"), rows[-1])
            by, acked = seen.get(key, ("", None))
            made.append(
                PastAlarm(
                    *key,
                    severity=max((str(row[4]) for row in rows), key=_rank),
                    title=str(told[5]),
                    text=str(told[6]),
                    start=int(rows[0][7]),
                    end=int(rows[-1][7]) if rows[-1][3] == "cleared" else None,
                    value=told[8],
                    by=by,
                    acked=acked,
                )
            )
        return made

    def _newest_alarms(self, device: str, count: int) -> list[tuple[str, str, str]]:
        """Device, code and id of so many alarms.

        Few rows sorted by their end are cheaper than all of them grouped by what they are.
        """
        column = alarm_table.c
        wanted = select(column.device, column.code, column.id).order_by(
            column.ts.desc(), column.device, column.code
        )
        if device:
            wanted = wanted.where(column.device == device)
        rows = 4 * count
        while True:
            found = self._rows(wanted.limit(rows))
            keys = list(dict.fromkeys((str(row[0]), str(row[1]), str(row[2])) for row in found))
            if len(keys) >= count or len(found) < rows:
                return keys[:count]
            rows *= 4

    def acknowledged(self, ids: Collection[str]) -> dict[tuple[str, str, str], tuple[str, int]]:
        """Who has seen which alarm first, and when [ms]; by device, code and id.

        Raises:
            HistoryError: the database cannot be read.
        """
        column = ack_table.c
        found: dict[tuple[str, str, str], tuple[str, int]] = {}
        rows = self._rows(
            select(column.device, column.code, column.id, column.by_whom, column.ts)
            .where(column.id.in_(list(ids)))
            .order_by(column.ts)
        )
        for row in rows:
            found.setdefault((row[0], row[1], row[2]), (str(row[3]), int(row[4])))
        return found

    def alarming_devices(self) -> list[str]:
        """Whoever has raised an alarm.

        Raises:
            HistoryError: the database cannot be read.
        """
        rows = self._rows(select(alarm_table.c.device).distinct().order_by(alarm_table.c.device))
        return [str(row[0]) for row in rows]

    # -- what the headline needs -------------------------------------------------------------------

    def capacity_kwh(self, today: date) -> float | None:
        """The battery's energy as the last three days show it."""
        days = []
        for back in range(3):
            with suppress(HistoryError):
                days.append(self.day(today - timedelta(days=back)).points)
        return energy.learn_capacity(days)


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0
