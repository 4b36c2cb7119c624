"""What the energy books come to in money and CO₂: the tariffs in the database, bills of periods.

A bill is counted from the books' five minutes where the hour matters to the price, from their days
where it does not. Months that are over are kept in ``cost_month``; a stamp of the books' sums and
of the tariffs says whether they still hold, so that a correction of the books, a late import and
another tariff change every month that they touch, and no other.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, delete, extract, func, insert, select

from .. import clock
from ..errors import SunmeshError
from .days import local_day, midnight, next_month
from .energy import allow_long_texts, span
from .sql import packed
from .tables import cost_month, energy_day
from .tables import tariff as tariff_table
from .tariff import FLOWS, Bill, Dated, Stretch, Tariff, Used, bill, of_day, stretches, total

VERSION = 1
"""Of the counting; another one makes kept months anew."""

HOUR_MS = 3_600_000
OLDEST = date(2000, 1, 1)
MOST_TARIFFS = 500
BANDED = {"load": "buy", "grid_import": "buy", "grid_export": "sell"}
"""Flows whose hour may matter, and the prices that say whether it does."""

_decode = msgspec.json.Decoder(Tariff).decode
_bill = msgspec.json.Decoder(Bill).decode


class TariffError(SunmeshError):
    """A tariff cannot be as it was given; the text says why."""


# -- tariffs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A tariff as it is kept, and who wrote it."""

    first: date
    tariff: Tariff
    created: int
    by: str


def entries(connection: Connection) -> list[Entry]:
    """All tariffs, the earliest first."""
    rows = connection.execute(select(tariff_table).order_by(tariff_table.c.first)).all()
    return [Entry(row.first, _decode(row.document), row.created, row.by_whom) for row in rows]


def tariffs(connection: Connection) -> list[Dated]:
    """The same, as the counting wants them."""
    return [Dated(entry.first, entry.tariff) for entry in entries(connection)]


def save(
    connection: Connection,
    first: date,
    tariff: Tariff,
    by: str,
    *,
    instead_of: date | None = None,
    now: int | None = None,
) -> None:
    """Keep a tariff that holds from the local day ``first`` on.

    Args:
        connection: in a transaction.
        first: that day.
        tariff: the prices.
        by: who says so.
        instead_of: the first day of the tariff that this one replaces; None = it is another one.
        now: the time of the change [ms].

    Raises:
        TariffError: another tariff begins on that day, or the one to be replaced has gone.
    """
    if not OLDEST <= first <= date(2099, 12, 31):
        raise TariffError(f"a tariff begins between {OLDEST} and 2099-12-31, not on {first}")
    there = set(connection.execute(select(tariff_table.c.first)).scalars())
    if instead_of is not None and instead_of not in there:
        raise TariffError(f"there is no tariff from {instead_of} on any more")
    if first in there and first != instead_of:
        raise TariffError(f"another tariff begins on {first} already")
    if instead_of is None and len(there) >= MOST_TARIFFS:
        raise TariffError(f"there are {MOST_TARIFFS} tariffs already")
    if instead_of is not None:
        connection.execute(delete(tariff_table).where(tariff_table.c.first == instead_of))
    connection.execute(
        insert(tariff_table).values(
            first=first,
            created=clock.epoch_ms(clock.now()) if now is None else now,
            by_whom=by,
            document=msgspec.json.encode(tariff).decode(),
        )
    )


def remove(connection: Connection, first: date) -> bool:
    """Forget the tariff that begins on that day; whether there was one."""
    done = connection.execute(delete(tariff_table).where(tariff_table.c.first == first))
    return done.rowcount > 0


# -- bills -----------------------------------------------------------------------------------------


def day_bills(
    connection: Connection, zone: tzinfo, known: Sequence[Dated], first: date, end: date
) -> dict[date, Bill]:
    """What each local day of [first, end) comes to, as far as the books reach.

    Args:
        connection: read-only will do.
        zone: the site's.
        known: the tariffs, the earliest first.
        first: local day.
        end: the day after the last.
    """
    whole = span(connection)
    if whole is None:
        return {}
    first, end = max(first, whole[0]), min(end, whole[1])
    if first >= end:
        return {}
    sums: dict[date, dict[str, tuple[float, float]]] = {}
    table = energy_day.c
    for row in connection.execute(
        select(table.flow, table.day, table.wh, table.covered_s).where(
            table.flow.in_(FLOWS), table.day >= first, table.day < end
        )
    ):
        sums.setdefault(row.day, {})[row.flow] = (row.wh, row.covered_s)
    books = _Buckets(connection, zone, _banded(known, first, end))
    found: dict[date, Bill] = {}
    for number in range((end - first).days):
        day = first + timedelta(days=number)
        tariff, mine = of_day(known, day), sums.get(day, {})
        covered = {flow: seconds for flow, (_wh, seconds) in mine.items()}
        if tariff is None or tariff.is_flat:
            parts = [Stretch(0, 0, -1, -1)]
            wh = {flow: [energy] for flow, (energy, _s) in mine.items()}
        else:
            parts = stretches(tariff, zone, day)
            wh = {
                flow: books.of(flow, parts)
                if flow in BANDED and getattr(tariff, BANDED[flow]).bands
                else _all_in_one(energy, len(parts))
                for flow, (energy, _s) in mine.items()
            }
        found[day] = bill(tariff, parts, Used(wh, covered), day)
    return found


def _all_in_one(wh: float, count: int) -> list[float]:
    """Energy whose hour does not matter to its price."""
    return [wh, *[0.0] * (count - 1)]


def _banded(known: Sequence[Dated], first: date, end: date) -> dict[str, tuple[date, date]]:
    """Flows of which five minutes are needed, and of which days."""
    wanted: dict[str, tuple[date, date]] = {}
    for number, (begins, tariff) in enumerate(known):
        after = known[number + 1].first if number + 1 < len(known) else end
        start, stop = max(begins, first), min(after, end)
        if start >= stop:
            continue
        for flow, side in BANDED.items():
            if getattr(tariff, side).bands:
                low, high = wanted.get(flow, (start, stop))
                wanted[flow] = (min(low, start), max(high, stop))
    return wanted


class _Buckets:
    """The five minutes of some flows, in memory."""

    def __init__(
        self, connection: Connection, zone: tzinfo, wanted: Mapping[str, tuple[date, date]]
    ) -> None:
        self._times: dict[str, list[float]] = {}
        self._wh: dict[str, list[float]] = {}
        for flow, (first, end) in wanted.items():
            rows = _rows(connection, flow, midnight(first, zone), midnight(end, zone))
            self._times[flow] = [row[0] for row in rows]
            self._wh[flow] = [row[1] for row in rows]

    def of(self, flow: str, parts: Iterable[Stretch]) -> list[float]:
        """Energy of each part of a day [Wh]."""
        times, wh = self._times[flow], self._wh[flow]
        return [
            sum(wh[bisect_left(times, part.start) : bisect_left(times, part.end)]) for part in parts
        ]


def _rows(connection: Connection, flow: str, start: int, end: int) -> list[tuple[float, ...]]:
    """(ts, Wh, covered s) of the buckets of a flow in [start, end)."""
    if flow not in FLOWS:
        raise TariffError(f"{flow!r} costs nothing")
    allow_long_texts(connection)
    return packed(
        connection,
        ("ts", "wh", "covered_s"),
        f"FROM energy WHERE flow = '{flow}' AND ts >= {start:d} AND ts < {end:d}",  # noqa: S608
    )


def hour_bills(
    connection: Connection,
    zone: tzinfo,
    known: Sequence[Dated],
    day: date,
) -> list[tuple[int, Bill]]:
    """A local day by the hours of the clock on the wall: when each begins [ms], what it comes to.

    Args:
        connection: read-only will do.
        zone: the site's.
        known: the tariffs, the earliest first.
        day: local.
    """
    start, end = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    tariff = of_day(known, day)
    parts = [Stretch(start, end, -1, -1)] if tariff is None else stretches(tariff, zone, day)
    rows = {flow: _rows(connection, flow, start, end) for flow in FLOWS}
    found: list[tuple[int, Bill]] = []
    for begins in range(start, end, HOUR_MS):
        ends = min(begins + HOUR_MS, end)
        mine = [
            part._replace(start=max(part.start, begins), end=min(part.end, ends))
            for part in parts
            if part.start < ends and begins < part.end
        ]
        wh: dict[str, list[float]] = {}
        covered: dict[str, float] = {}
        for flow, all_rows in rows.items():
            inside = [row for row in all_rows if begins <= row[0] < ends]
            if inside:
                covered[flow] = sum(row[2] for row in inside)
                wh[flow] = [
                    sum(row[1] for row in inside if part.start <= row[0] < part.end)
                    for part in mine
                ]
        share = (ends - begins) / (end - start)
        found.append((begins, bill(tariff, mine, Used(wh, covered), day, share)))
    return found


# -- months ----------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A month's bill, and what it was made of."""

    stamp: str
    bill: Bill


@dataclass(frozen=True, slots=True)
class Months:
    """Bills by month, and those that the database does not have yet, for :func:`keep`."""

    bills: dict[date, Bill] = field(default_factory=dict)
    fresh: dict[date, Kept] = field(default_factory=dict)


def month_bills(
    connection: Connection,
    zone: tzinfo,
    known: Sequence[Dated],
    first: date,
    end: date,
    memory: MutableMapping[date, Kept],
    now: int | None = None,
) -> Months:
    """What each month of [first, end) comes to, as far as the books reach; by its first day.

    Args:
        connection: read-only will do.
        zone: the site's.
        known: the tariffs, the earliest first.
        first: a day of the first month.
        end: the day after the last; months are always whole ones.
        memory: of the caller, for all that was made or read before.
        now: months that are over by then are worth keeping [ms].
    """
    found = Months()
    whole = span(connection)
    if whole is None:
        return found
    today = local_day(clock.epoch_ms(clock.now()) if now is None else now, zone)
    end = min(next_month(end - timedelta(days=1)), whole[1])
    first = max(first.replace(day=1), whole[0])
    stamps = _stamps(connection, zone, known, first, end)
    for month, kept in _kept(connection, stamps, memory).items():
        memory[month] = kept
    for month, stamp in sorted(stamps.items()):
        remembered = memory.get(month)
        if remembered is None or remembered.stamp != stamp:
            days = day_bills(connection, zone, known, month, next_month(month))
            memory[month] = remembered = Kept(stamp, total(days.values()))
            if next_month(month) <= today:
                found.fresh[month] = remembered
        found.bills[month] = remembered.bill
    return found


def keep(connection: Connection, fresh: Mapping[date, Kept]) -> None:
    """Keep what :func:`month_bills` made; in a transaction."""
    connection.execute(delete(cost_month).where(cost_month.c.month.in_(list(fresh))))
    connection.execute(
        insert(cost_month),
        [
            {
                "month": month,
                "stamp": kept.stamp,
                "document": msgspec.json.encode(kept.bill).decode(),
            }
            for month, kept in fresh.items()
        ],
    )


def _kept(
    connection: Connection, stamps: Mapping[date, str], memory: Mapping[date, Kept]
) -> dict[date, Kept]:
    """Months that the database has as they would be made now, and the memory has not."""
    wanted = [
        month
        for month, stamp in stamps.items()
        if month not in memory or memory[month].stamp != stamp
    ]
    if not wanted:
        return {}
    rows = connection.execute(
        select(cost_month).where(
            cost_month.c.month >= min(wanted), cost_month.c.month <= max(wanted)
        )
    ).all()
    return {
        row.month: Kept(row.stamp, _bill(row.document))
        for row in rows
        if stamps.get(row.month) == row.stamp
    }


def _stamps(
    connection: Connection, zone: tzinfo, known: Sequence[Dated], first: date, end: date
) -> dict[date, str]:
    """A mark of all that a month's bill is made of, for each month of [first, end)."""
    if first >= end:
        return {}
    table = energy_day.c
    year, month = extract("year", table.day), extract("month", table.day)
    numbers = (table.wh, table.covered_s, table.edited_wh, table.imported_wh, table.recovered_wh)
    sums: dict[date, list[str]] = {}
    for row in connection.execute(
        select(
            year,
            month,
            table.flow,
            func.count(),
            *map(func.sum, numbers),
        )
        .where(table.flow.in_(FLOWS), table.day >= first.replace(day=1), table.day < end)
        .group_by(table.flow, year, month)
        .order_by(table.flow, year, month)
    ):
        at = date(int(row[0]), int(row[1]), 1)
        texts = [str(row[2]), str(row[3]), *(f"{float(number):.4f}" for number in row[4:])]
        sums.setdefault(at, []).append(" ".join(texts))
    texts_of = [
        (begins, f"{begins} {msgspec.json.encode(tariff).decode()}") for begins, tariff in known
    ]
    found: dict[date, str] = {}
    at = first.replace(day=1)
    while at < end:
        after = next_month(at)
        held = [text for begins, text in texts_of if begins <= at][-1:]
        held += [text for begins, text in texts_of if at < begins < after]
        reach = f"{max(first, at)} {min(end, after)}"
        parts = [str(VERSION), str(zone), reach, *held, *sums.get(at, [])]
        found[at] = hashlib.blake2b("\n".join(parts).encode(), digest_size=20).hexdigest()
        at = after
    return found
