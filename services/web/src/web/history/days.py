"""The energy books by the day, all of them in memory: ten years of eight flows are 700 kB.

Months, years, records and maps are sums of these days, so that no page waits for the database. The
last days are read again every 20 s; all of it when somebody corrected or imported something, and
every ten minutes.
"""

import math
import threading
import time
from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo
from typing import Any, TypeVar, cast

from sqlalchemy import Connection
from sunmesh.database.days import bounds
from sunmesh.database.energy import Figures, Sum
from sunmesh.database.sql import packed
from sunmesh.database.tables import FLAGS, FLOWS

from ..queries import HistoryError

RECENT_TTL_S = 20.0
WHOLE_TTL_S = 600.0
RECENT_DAYS = 40
"""Late samples and a device that comes back are booked again within these."""
MOST_REMEMBERED = 100
"""Periods of which something is remembered."""
SHORT_DAYS = 31
"""What is no longer is summed up again."""
UNKNOWN = math.nan
DAY_S = 86_400

T = TypeVar("T")


@dataclass(slots=True)
class Column:
    """A flow, one item for each day from :attr:`Days.first` on; NaN where nothing is known."""

    wh: "array[float]" = field(default_factory=lambda: array("d"))
    covered_s: "array[float]" = field(default_factory=lambda: array("d"))
    flags: dict[str, "array[float]"] = field(default_factory=dict)
    """Energy by flag, of those flags that occur."""

    def bytes(self) -> tuple[object, ...]:
        """All of it, to be compared: an array with NaN equals none, not even itself."""
        flags = [(flag, whs.tobytes()) for flag, whs in sorted(self.flags.items())]
        return self.wh.tobytes(), self.covered_s.tobytes(), *flags


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
    _memory: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def remembered(self, key: Hashable, work: Callable[[], T]) -> T:
        """What ``work`` makes of these days: done once, as they never change."""
        try:
            return cast("T", self._memory[key])
        except KeyError:
            made = work()
        if len(self._memory) >= MOST_REMEMBERED:
            self._memory.clear()
        self._memory[key] = made
        return made

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

    def known(self, flow: str, first: date, end: date) -> Iterator[tuple[date, float, float]]:
        """(day, Wh, covered share) of each day of [first, end) of which something is known."""
        column = self.columns.get(flow)
        if column is None:
            return
        low, high = self.slot(first, end)
        number = self.first.toordinal() + low
        for wh, covered_s in zip(column.wh[low:high], column.covered_s[low:high], strict=True):
            if wh == wh:
                share = covered_s / DAY_S  # a day of 23 hours has 96 %
                yield date.fromordinal(number), wh, share if share < 1.0 else 1.0
            number += 1

    def figures(self, first: date, end: date) -> Figures:
        """What [first, end) comes to, as far as the books are."""
        if (end - first).days <= SHORT_DAYS:
            return self._figures(first, end)
        return self.remembered(("figures", first, end), lambda: self._figures(first, end))

    def _figures(self, first: date, end: date) -> Figures:
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
                found = _read(
                    connection,
                    self._zone,
                    self._days if since else None,
                    since - timedelta(days=RECENT_DAYS) if since else None,
                )
            if self._days is None or not _is_same(found, self._days):
                self._days = found  # else what is remembered of them stays
            self._edits, self._recent_at = edits, now
            if whole:
                self._whole_at = now
                self.reads += 1
            return self._days

    def forget(self) -> None:
        """Read all of it again at the next question: somebody has changed the books."""
        with self._lock:
            self._recent_at = self._whole_at = -math.inf


def _is_same(one: Days, other: Days) -> bool:
    """Whether two readings of the books found the same; an unknown day equals another."""
    if one.columns.keys() != other.columns.keys():
        return False
    return (one.first, one.count, one.until) == (other.first, other.count, other.until) and all(
        mine.bytes() == other.columns[flow].bytes() for flow, mine in one.columns.items()
    )


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
    kept = old.slot(old.first, since)[1] if old and since else 0
    found: dict[str, tuple[int, Column]] = {}
    for flow in FLOWS:  # one after the other: ten years of all as rows would be 8 MB
        rows = packed(connection, columns, f"FROM energy_day WHERE flow = '{flow}'{tail}")
        if rows:
            begun = int(rows[0][0])
            found[flow] = begun, _column(rows, begun, int(rows[-1][0]) - begun + 1)
    if not found and not kept:
        return Days(date(2000, 1, 1), 0, {}, zone)
    first = (
        old.first
        if old and kept
        else date.fromordinal(min(begun for begun, _column in found.values()))
    )
    origin = first.toordinal()
    ends = [begun + len(column.wh) - origin for begun, column in found.values()]
    count = max(kept, *ends) if ends else kept
    made: dict[str, Column] = {}
    for flow in FLOWS:
        before = old.columns.get(flow) if old else None
        if before is None and flow not in found:
            continue
        begun, column = found.get(flow, (origin + kept, EMPTY))
        column = _joined(before, kept, column, begun - origin, count)
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


def _column(rows: Sequence[tuple[float, ...]], first: int, count: int) -> Column:
    """One flow from the day ``first`` on."""
    wh, covered = array("d", [UNKNOWN]) * count, array("d", [0.0]) * count
    flags: dict[str, array[float]] = {}
    for row in rows:
        at = int(row[0]) - first
        wh[at], covered[at] = row[1], row[2]
        for place, flag in enumerate(FLAGS, start=3):
            if row[place]:
                if flag not in flags:
                    flags[flag] = array("d", [0.0]) * count
                flags[flag][at] = row[place]
    return Column(wh, covered, flags)


def _joined(before: Column | None, kept: int, new: Column, start: int, count: int) -> Column:
    """``kept`` days of ``before``, then ``new`` from its place on: ``count`` in all."""

    def put(
        old: "array[float] | None", fresh: "array[float] | None", blank: float
    ) -> "array[float]":
        made = array("d", [blank]) * count
        if old:
            made[: min(kept, len(old))] = old[:kept]
        if fresh:
            skipped = max(0, kept - start)
            made[start + skipped : start + len(fresh)] = fresh[skipped:]
        return made

    flags = {
        flag: put(before.flags.get(flag) if before else None, new.flags.get(flag), 0.0)
        for flag in FLAGS
        if flag in new.flags or (before and flag in before.flags)
    }
    return Column(
        put(before.wh if before else None, new.wh, UNKNOWN),
        put(before.covered_s if before else None, new.covered_s, 0.0),
        flags,
    )


__all__ = ["Column", "DayBook", "Days", "HistoryError"]
