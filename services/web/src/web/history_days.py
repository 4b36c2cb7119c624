"""The energy books by the day, all of them in memory: ten years of eight flows are 700 kB.

Months, years, records and maps are sums of these days, so that no page waits for the database. The
last days are read again every 20 s; all of it when somebody corrected or imported something, and
every ten minutes.
"""

import math
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo

from sqlalchemy import Connection
from sunmesh.database.energy import Figures, Sum, bounds
from sunmesh.database.sql import packed
from sunmesh.database.tables import FLAGS, FLOWS

from .queries import HistoryError

RECENT_TTL_S = 20.0
WHOLE_TTL_S = 600.0
RECENT_DAYS = 40
"""Late samples and a device that comes back are booked again within these."""
UNKNOWN = math.nan
DAY_S = 86_400


@dataclass(slots=True)
class Column:
    """A flow, one item for each day from :attr:`Days.first` on; NaN where nothing is known."""

    wh: "array[float]" = field(default_factory=lambda: array("d"))
    covered_s: "array[float]" = field(default_factory=lambda: array("d"))
    flags: dict[str, "array[float]"] = field(default_factory=dict)
    """Energy by flag, of those flags that occur."""


@dataclass(frozen=True, slots=True)
class Days:
    """Every booked day.

    Attributes:
        first: the day of the first items.
        count: of days, the last one is the last booked of any flow.
        columns: by flow; only flows of which something is booked.
        zone: the site's.
        until: first moment that is not booked yet [ms]; None where the books are empty.
    """

    first: date
    count: int
    columns: dict[str, Column]
    zone: tzinfo
    until: int | None = None

    @property
    def end(self) -> date:
        """The day after the last one."""
        return self.first + timedelta(days=self.count)

    def __bool__(self) -> bool:
        """Whether anything is booked."""
        return self.count > 0

    def slot(self, first: date, end: date) -> tuple[int, int]:
        """Where [first, end) lies in the columns."""
        low = min(max((first - self.first).days, 0), self.count)
        return low, min(max((end - self.first).days, low), self.count)

    def values(self, flow: str, first: date, end: date) -> Sequence[float]:
        """Energy of a flow on each day of [first, end) that is in the books [Wh]; NaN = unknown."""
        column = self.columns.get(flow)
        low, high = self.slot(first, end)
        return column.wh[low:high] if column else array("d", [UNKNOWN]) * (high - low)

    def known(self, flow: str) -> Iterator[tuple[date, float, float]]:
        """(day, Wh, covered share) of each day of which something is known."""
        column = self.columns.get(flow)
        if column is None:
            return
        first = self.first.toordinal()
        for index, wh in enumerate(column.wh):
            if wh == wh:
                share = column.covered_s[index] / DAY_S  # a day of 23 hours has 96 %
                yield date.fromordinal(first + index), wh, min(1.0, share)

    def figures(self, first: date, end: date) -> Figures:
        """What [first, end) comes to, as far as the books are."""
        low, high = self.slot(first, end)
        flows: dict[str, Sum] = {}
        for flow in FLOWS:
            column = self.columns.get(flow)
            if column is None:
                continue
            known = [wh for wh in column.wh[low:high] if wh == wh]
            if not known:
                continue
            by_flag = {
                flag: total
                for flag, whs in column.flags.items()
                if (total := math.fsum(whs[low:high]))
            }
            flows[flow] = Sum(math.fsum(known), sum(column.covered_s[low:high]), by_flag)
        return Figures(first, end, self.elapsed_s(first, end), flows)

    def elapsed_s(self, first: date, end: date) -> float:
        """Length of [first, end) from the first booked day to what is booked [s]."""
        if not self.count:
            return 0.0
        start = bounds(max(first, self.first), self.zone)[0]
        stop = bounds(end, self.zone)[0]
        if self.until is not None:
            stop = min(stop, self.until)
        return max(0, stop - start) / 1000


EMPTY = Column()


class DayBook:
    """Keeps :class:`Days` fresh.

    Args:
        reading: gives a connection that cannot write; raises HistoryError.
        zone: the site's.
        now: a clock that only runs forward [s].
    """

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[Connection]],
        zone: tzinfo,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet."""
        self._reading = reading
        self._zone = zone
        self._now = now
        self._lock = threading.Lock()
        self._days: Days | None = None
        self._whole_at = self._recent_at = -math.inf
        self._edits: tuple[int, ...] = ()
        self.reads = 0
        """How often all of it was read."""

    def days(self) -> Days:
        """Every booked day, as of a few seconds ago.

        Raises:
            HistoryError: the database cannot be read.
        """
        with self._lock:
            now = self._now()
            if self._days is not None and now - self._recent_at < RECENT_TTL_S:
                return self._days
            with self._reading() as connection:
                edits = _edits(connection)
                whole = (
                    self._days is None
                    or edits != self._edits
                    or now - self._whole_at >= WHOLE_TTL_S
                )
                since = None if whole or self._days is None else self._days.end
                self._days = _read(
                    connection,
                    self._zone,
                    self._days if since else None,
                    since - timedelta(days=RECENT_DAYS) if since else None,
                )
            self._edits, self._recent_at = edits, now
            if whole:
                self._whole_at = now
                self.reads += 1
            return self._days

    def forget(self) -> None:
        """Read all of it again at the next question: somebody has changed the books."""
        with self._lock:
            self._recent_at = self._whole_at = -math.inf


def _edits(connection: Connection) -> tuple[int, ...]:
    """What tells that a correction was made or taken back."""
    row = connection.exec_driver_sql(
        "SELECT COALESCE(MAX(id), 0), COUNT(undone) FROM energy_edit"
    ).one()
    return tuple(int(number) for number in row)


def _read(connection: Connection, zone: tzinfo, old: Days | None, since: date | None) -> Days:
    """The days from ``since`` on, put behind those of ``old`` before it; all without."""
    sqlite = connection.dialect.name == "sqlite"
    day = "CAST(julianday(day) - 1721424.5 AS INTEGER)" if sqlite else "TO_DAYS(day) - 365"
    columns = (day, "wh", "covered_s", *(f"{flag}_wh" for flag in FLAGS))
    tail = f" AND day >= '{since.isoformat()}'" if since else ""
    found = {
        flow: rows
        for flow in FLOWS
        if (rows := packed(connection, columns, f"FROM energy_day WHERE flow = '{flow}'{tail}"))
    }
    kept = old.slot(old.first, since)[1] if old and since else 0
    if not found and not kept:
        return Days(date(2000, 1, 1), 0, {}, zone)
    first = (
        old.first
        if old and kept
        else date.fromordinal(int(min(rows[0][0] for rows in found.values())))
    )
    last = max((int(rows[-1][0]) for rows in found.values()), default=0)
    count = max(kept, last - first.toordinal() + 1)
    made: dict[str, Column] = {}
    for flow in FLOWS:
        rows = found.get(flow, [])
        before = old.columns.get(flow) if old else None
        if before is None and not rows:
            continue
        column = _column(rows, first.toordinal(), kept, count, before)
        if any(wh == wh for wh in column.wh):
            made[flow] = column
    newest = [
        int(ts)
        for flow in made
        if (
            ts := connection.exec_driver_sql(
                f"SELECT MAX(ts) FROM energy WHERE flow = '{flow}'"  # noqa: S608 - our own word
            ).scalar()
        )
        is not None
    ]
    return Days(first, count, made, zone, max(newest) + 300_000 if newest else None)


def _column(
    rows: Sequence[tuple[float, ...]], first: int, kept: int, count: int, before: Column | None
) -> Column:
    """One flow: ``kept`` days of ``before``, then ``rows``."""
    blank = array("d", [UNKNOWN])
    zero = array("d", [0.0])
    wh = before.wh[:kept] if before else blank * kept
    covered = before.covered_s[:kept] if before else zero * kept
    wh, covered = wh + blank * (count - kept), covered + zero * (count - kept)
    flags: dict[str, array[float]] = {}
    for place, flag in enumerate(FLAGS, start=3):
        old = before.flags.get(flag) if before else None
        if old is None and not any(row[place] for row in rows):
            continue
        flags[flag] = (old[:kept] if old else zero * kept) + zero * (count - kept)
    begin = bisect_left(rows, (first + kept,))
    for row in rows[begin:]:
        at = int(row[0]) - first
        wh[at], covered[at] = row[1], row[2]
        for place, flag in enumerate(FLAGS, start=3):
            if row[place]:
                flags[flag][at] = row[place]
    return Column(wh, covered, flags)


__all__ = ["Column", "DayBook", "Days", "HistoryError"]
