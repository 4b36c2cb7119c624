"""The energy books in the database: bookings, corrections with undo, and the figures of a period.

What bookkeeper, ``sunmesh import`` and the portal all do to the books, each function on a
connection inside of the caller's transaction: buckets, their days and the audit trail change
together or not at all. Two who write the same day at once wait for each other on a server (rows are
locked by the day; on a deadlock one of them is told to try again) and on SQLite.

A bucket that an edit or an import covers keeps what the books themselves say in ``booked_*``, so a
later booking neither undoes a correction nor is lost by it.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Date, Engine, func, insert, select, union_all, update
from sqlalchemy.exc import OperationalError

from .. import clock
from ..errors import SunmeshError
from .days import bounds, days_between, next_month
from .tables import (
    BUCKET_MS,
    DEVICE_LENGTH,
    FLAGS,
    FLOWS,
    TEXT_LENGTH,
    energy,
    energy_change,
    energy_day,
    energy_edit,
)

SOURCES = (
    *("lifetime", "day_counter", "power", "balance", "expected"),
    *("edit", "import"),
)
"""Where a bucket's energy comes from; the first five are the books' own."""

ALIKE_WH = 1e-6
"""Two energies closer than that are one: sums of floats differ by their order."""
HOUR_MS = 3_600_000
MANY_MS = 31 * 86_400_000
"""So much of an edit is worked on at a time."""
ROWS = 2000
"""Rows in one INSERT: under 300 kB, below the smallest max_allowed_packet."""
DEADLOCKS = (1205, 1213, 1020)
"""A server gave this one up for another that wrote the same day: try again."""
BY_LENGTH = 2 * DEVICE_LENGTH

LOADED_MS = 31 * 86_400_000
LONGEST_BYTES = 15_000_000
"""A month of buckets as JSON is 1 MB, a day of readings every second 3; a packet may be 16."""
_LONG = "sunmesh-long-concat"
_AS_JSON = (
    "'[', ts, ',', wh, ',\"', source, '\",\"', flag, '\",', covered_s, ',', "
    + ", ',', ".join(
        f"COALESCE({name}, 'null')"
        if name in ("edit_id", "booked_wh", "booked_covered_s")
        else f"COALESCE(CONCAT('\"', {name}, '\"'), 'null')"
        for name in ("edit_id", "booked_wh", "booked_source", "booked_flag", "booked_covered_s")
    )
    + ", ']'"
)
_loaded = msgspec.json.Decoder(
    list[
        tuple[
            int, float, str, str, int, int | None, float | None, str | None, str | None, int | None
        ]
    ]
)

_loaded_days = msgspec.json.Decoder(
    list[tuple[date, float, int, float, float, float, float, float, float]]
)

Flow = str
Kind = Literal["edit", "import"]
T = TypeVar("T")


class EnergyError(SunmeshError):
    """What was asked of the books cannot be; the text says why."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The energy of a flow in five minutes, as the books themselves have it.

    Attributes:
        ts: start [ms].
        wh: energy [Wh], never negative.
        source: one of :data:`SOURCES`.
        flag: ``measured``, ``integrated``, ``recovered`` or ``estimated``.
        covered_s: for how much of it that is known [s].
    """

    ts: int
    wh: float
    source: str
    flag: str
    covered_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """What a stretch of a flow is to add up to.

    Attributes:
        flow: one of the tables' FLOWS.
        start: first moment, at the border of a bucket [ms].
        end: first moment after it [ms].
        wh: energy of the whole stretch [Wh]; spread over its buckets in proportion to what they
            have, evenly where they have nothing.
    """

    flow: str
    start: int
    end: int
    wh: float


class _Row(NamedTuple):
    """A row of ``energy``, in its order."""

    flow: str
    ts: int
    wh: float
    source: str
    flag: str
    covered_s: int
    edit_id: int | None = None
    booked_wh: float | None = None
    booked_source: str | None = None
    booked_flag: str | None = None
    booked_covered_s: int | None = None


def transact(engine: Engine, work: Callable[[Connection], T], tries: int = 5) -> T:
    """Do ``work`` in a transaction; once more where the server broke a deadlock with it.

    Raises:
        EnergyError: what ``work`` raises; nothing was changed then.
        SQLAlchemyError: the database does not answer.
    """
    for left in reversed(range(tries)):
        try:
            with engine.begin() as connection:
                return work(connection)
        except OperationalError as err:
            code = getattr(err.orig, "args", (0,))[0]
            if not left or code not in DEADLOCKS:
                raise
    raise AssertionError("tries is 1 or more")


# --- Booking ------------------------------------------------------------------------------------


def book(
    connection: Connection,
    zone: tzinfo,
    flow: Flow,
    start: int,
    end: int,
    buckets: Iterable[Bucket],
) -> int:
    """Make the books say of [start, end) just what ``buckets`` say; nothing else in it is known.

    Args:
        connection: in a transaction.
        zone: the site's.
        flow: one of the tables' FLOWS.
        start: at the border of a bucket [ms].
        end: likewise, first moment after the stretch.
        buckets: at most one for each five minutes.

    Returns:
        How many rows changed; what was so already is not written again.

    Raises:
        EnergyError: a bucket that is none.
    """
    _check_stretch(flow, start, end)
    fresh: dict[int, _Row] = {}
    for bucket in buckets:
        if not start <= bucket.ts < end or bucket.ts % BUCKET_MS:
            raise EnergyError(f"{flow}: {bucket.ts} is no bucket of {start} to {end}")
        if not math.isfinite(bucket.wh) or bucket.wh < 0:
            raise EnergyError(f"{flow} at {bucket.ts}: {bucket.wh} is no energy")
        if bucket.source not in SOURCES or bucket.flag not in FLAGS:
            raise EnergyError(f"{flow} at {bucket.ts}: {bucket.source}, {bucket.flag}")
        fresh[bucket.ts] = _Row(
            flow, bucket.ts, bucket.wh, bucket.source, bucket.flag, round(bucket.covered_s)
        )
    if start >= end:
        return 0
    days = days_between(start, end, zone)
    rows = _load(connection, flow, days[0][1], days[-1][2])
    put: list[_Row] = []
    gone: list[int] = []
    for ts in sorted({*fresh, *(ts for ts in rows if start <= ts < end)}):
        old, new = rows.get(ts), fresh.get(ts)
        if old is not None and old.edit_id is not None:
            new = old._replace(
                booked_wh=new.wh if new else None,
                booked_source=new.source if new else None,
                booked_flag=new.flag if new else None,
                booked_covered_s=new.covered_s if new else None,
            )
        if new is None:
            gone.append(ts)
            del rows[ts]
        elif old is None or not _alike(old, new):
            put.append(new)
            rows[ts] = new
    _delete(connection, flow, gone)
    _put(connection, put)
    _sum(connection, flow, _touched(days, (*gone, *(row.ts for row in put))), rows)
    return len(put) + len(gone)


def buckets(connection: Connection, flow: Flow, start: int, end: int) -> list[Bucket]:
    """What the books themselves say of [start, end), under edits, too; rising in time."""
    _check_stretch(flow, start, end)
    found = []
    for row in _load(connection, flow, start, end, lock=False).values():
        if row.edit_id is None:
            found.append(Bucket(row.ts, row.wh, row.source, row.flag, row.covered_s))
        elif row.booked_wh is not None:
            source, flag = row.booked_source or "power", row.booked_flag or "estimated"
            found.append(Bucket(row.ts, row.booked_wh, source, flag, row.booked_covered_s or 0))
    return sorted(found, key=lambda bucket: bucket.ts)


def _alike(old: _Row, new: _Row) -> bool:
    """Whether they say the same, but for the last bits of a sum."""
    if (old.booked_wh is None) != (new.booked_wh is None):
        return False
    if abs(old.wh - new.wh) > ALIKE_WH or (
        old.booked_wh is not None
        and new.booked_wh is not None
        and abs(old.booked_wh - new.booked_wh) > ALIKE_WH
    ):
        return False
    return old._replace(wh=0.0, booked_wh=None) == new._replace(wh=0.0, booked_wh=None)


# --- Corrections --------------------------------------------------------------------------------


def edit(
    connection: Connection,
    zone: tzinfo,
    changes: Sequence[Change],
    *,
    by: str,
    reason: str,
    kind: Kind = "edit",
    document: Mapping[str, Any] | None = None,
    now: int | None = None,
) -> int | None:
    """Correct the books, so that day, month and year follow; :func:`undo` takes it back.

    Every bucket of a stretch is covered by the edit from then on, also those with nothing in them:
    samples that come late do not move a total that somebody has set.

    Args:
        connection: in a transaction.
        zone: the site's.
        changes: what each stretch is to add up to; none may overlap another of its flow.
        by: who asks for it.
        reason: why.
        kind: ``import`` flags the buckets so, and leaves out what the books say already.
        document: more about it: a file's name, its sha256.
        now: the time of the edit [ms].

    Returns:
        The edit's number; None when an import changes nothing.

    Raises:
        EnergyError: a flow, stretch or energy that cannot be, nobody, or no reason.
    """
    now = clock.epoch_ms(clock.now()) if now is None else now
    by, reason = by.strip(), reason.strip()
    if not by or len(by) > BY_LENGTH:
        raise EnergyError(f"say who it is in 1 to {BY_LENGTH} characters")
    if not reason or len(reason) > TEXT_LENGTH:
        raise EnergyError(f"give a reason of 1 to {TEXT_LENGTH} characters")
    if not changes:
        if kind == "import":
            return None
        raise EnergyError("nothing to change")
    ordered = _checked(changes, now)
    number: int | None = None
    for flow, group in groupby(ordered, key=lambda change: change.flow):
        for batch in _batches(list(group), zone):
            days = days_between(batch[0].start, batch[-1].end, zone)
            rows = _load(connection, flow, days[0][1], days[-1][2])
            wanted = [change for change in batch if kind == "edit" or not _says(rows, change)]
            if not wanted:
                continue
            if number is None:
                number = _open(connection, kind, now, by, reason, document or {})
            _apply(connection, number, kind, rows, wanted)
            changed = [
                day for day in days if any(c.start < day[2] and day[1] < c.end for c in wanted)
            ]
            _sum(connection, flow, changed, rows)
    return number


class Difference(NamedTuple):
    """What an import would do to a day of a flow [Wh]; ``old_wh`` None where nothing is known."""

    flow: str
    day: date
    old_wh: float | None
    new_wh: float


def difference(
    connection: Connection, zone: tzinfo, changes: Sequence[Change], now: int | None = None
) -> list[Difference]:
    """What ``changes`` as an import would change, day by day; days that stay are left out.

    Raises:
        EnergyError: as :func:`edit` would.
    """
    ordered = _checked(changes, clock.epoch_ms(clock.now()) if now is None else now)
    found: list[Difference] = []
    for flow, group in groupby(ordered, key=lambda change: change.flow):
        for batch in _batches(list(group), zone):
            days = days_between(batch[0].start, batch[-1].end, zone)
            rows = _load(connection, flow, days[0][1], days[-1][2], lock=False)
            before = dict(rows)
            for change in batch:
                if not _says(rows, change):
                    for ts, wh in _spread(rows, change):
                        rows[ts] = _Row(flow, ts, wh, "import", "imported", BUCKET_MS // 1000)
            for day, start, end in days:
                span = range(start, end, BUCKET_MS)
                old = [before[ts].wh for ts in span if ts in before]
                new = [rows[ts].wh for ts in span if ts in rows]
                if len(old) != len(new) or abs(sum(old) - sum(new)) > _tolerance(sum(new)):
                    found.append(Difference(flow, day, sum(old) if old else None, sum(new)))
    return found


def undo(
    connection: Connection, zone: tzinfo, edit_id: int, by: str, now: int | None = None
) -> int:
    """Take an edit or an import back: its buckets say again what the books themselves say by now.

    Where it had corrected an older edit, that one holds again.

    Returns:
        How many buckets it covered.

    Raises:
        EnergyError: no such edit, undone already, or a later one covers a part of it.
    """
    now = clock.epoch_ms(clock.now()) if now is None else now
    by = by.strip()
    if not by or len(by) > BY_LENGTH:
        raise EnergyError(f"say who it is in 1 to {BY_LENGTH} characters")
    head = connection.execute(
        select(energy_edit).where(energy_edit.c.id == edit_id).with_for_update()
    ).one_or_none()
    if head is None:
        raise EnergyError(f"there is no edit {edit_id}")
    if head.undone is not None:
        when = clock.iso(clock.from_ms(head.undone))
        raise EnergyError(f"edit {edit_id} was undone by {head.undone_by} at {when}")
    change = energy_change
    spans = connection.execute(
        select(change.c.flow, func.min(change.c.ts), func.max(change.c.ts))
        .where(change.c.edit_id == edit_id)
        .group_by(change.c.flow)
    ).all()
    done = 0
    for flow, first, last in spans:
        for days in _pieces(days_between(first, last + BUCKET_MS, zone)):
            start, end = days[0][1], days[-1][2]
            olds = connection.execute(
                select(change)
                .where(change.c.edit_id == edit_id, change.c.flow == flow)
                .where(change.c.ts >= start, change.c.ts < end)
            ).all()
            if olds:
                done += _restore(connection, edit_id, flow, days, olds)
    connection.execute(
        update(energy_edit).where(energy_edit.c.id == edit_id).values(undone=now, undone_by=by)
    )
    return done


def _restore(
    connection: Connection,
    edit_id: int,
    flow: str,
    days: list[tuple[date, int, int]],
    olds: Sequence[Any],
) -> int:
    rows = _load(connection, flow, days[0][1], days[-1][2])
    others = {row.edit_id for old in olds if (row := rows.get(old.ts)) and row.edit_id != edit_id}
    if others:
        raise EnergyError(_covered_by(connection, edit_id, others))
    put: list[_Row] = []
    gone: list[int] = []
    for old in olds:
        row = rows.get(old.ts)
        if row is None:
            continue  # somebody emptied the table; there is nothing to restore
        if old.old_edit_id is not None:
            row = row._replace(
                wh=old.old_wh,
                source=old.old_source,
                flag=old.old_flag,
                covered_s=old.old_covered_s,
                edit_id=old.old_edit_id,
            )
        elif row.booked_wh is None:
            gone.append(row.ts)
            del rows[row.ts]
            continue
        else:
            row = _Row(
                flow,
                row.ts,
                row.booked_wh,
                row.booked_source or "power",
                row.booked_flag or "estimated",
                row.booked_covered_s or 0,
            )
        rows[row.ts] = row
        put.append(row)
    _delete(connection, flow, gone)
    _put(connection, put)
    _sum(connection, flow, _touched(days, [old.ts for old in olds]), rows)
    return len(olds)


def _covered_by(connection: Connection, edit_id: int, others: Iterable[int | None]) -> str:
    """Which edit has to be undone before."""
    known = [number for number in others if number is not None]
    if not known:
        return f"edit {edit_id}: its buckets were changed by something else since"
    later = connection.execute(
        select(energy_edit).where(energy_edit.c.id == max(known))
    ).one_or_none()
    if later is None:
        return f"edit {edit_id}: edit {max(known)} covers a part of it"
    when = clock.iso(clock.from_ms(later.created))
    return (
        f"edit {edit_id} is covered by the later {later.kind} {later.id} "
        f"({later.by_whom}, {when}: {later.reason}); undo that one first"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What an edit did to one flow.

    Attributes:
        flow: which.
        start: its first moment [ms].
        end: first moment after it [ms].
        buckets: how many it changed.
        old_wh: what they added up to before; None where nothing was known.
        new_wh: what they add up to since.
    """

    flow: str
    start: int
    end: int
    buckets: int
    old_wh: float | None
    new_wh: float


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry of the audit trail; times in ms."""

    id: int
    kind: str
    created: int
    by: str
    reason: str
    undone: int | None
    undone_by: str | None
    document: Mapping[str, Any]
    parts: Sequence[Part]


def edits(connection: Connection, limit: int = 50, before: int | None = None) -> list[Edit]:
    """The newest edits and imports first: who, when, why, what was and what is.

    Args:
        connection: read-only will do.
        limit: how many at most.
        before: only those with a smaller number, for the next page.
    """
    query = select(energy_edit).order_by(energy_edit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(energy_edit.c.id < before)
    heads = connection.execute(query).all()
    change = energy_change
    parts: dict[int, list[Part]] = {head.id: [] for head in heads}
    for row in connection.execute(
        select(
            change.c.edit_id,
            change.c.flow,
            func.min(change.c.ts),
            func.max(change.c.ts),
            func.count(),
            func.sum(change.c.old_wh),
            func.sum(change.c.new_wh),
        )
        .where(change.c.edit_id.in_(parts))
        .group_by(change.c.edit_id, change.c.flow)
        .order_by(change.c.edit_id, change.c.flow)
    ):
        first, last = int(row[2]), int(row[3])
        parts[row[0]].append(Part(row[1], first, last + BUCKET_MS, row[4], row[5], row[6]))
    return [
        Edit(
            head.id,
            head.kind,
            head.created,
            head.by_whom,
            head.reason,
            head.undone,
            head.undone_by,
            json.loads(head.document),
            parts[head.id],
        )
        for head in heads
    ]


def _checked(changes: Iterable[Change], now: int) -> list[Change]:
    """``changes`` by flow and time.

    Raises:
        EnergyError: one of them cannot be, or two overlap.
    """
    ordered = sorted(changes, key=lambda change: (change.flow, change.start))
    before: Change | None = None
    for change in ordered:
        _check_stretch(change.flow, change.start, change.end)
        if change.start == change.end:
            raise EnergyError(f"{change.flow}: the stretch at {_when(change.start)} is empty")
        if not math.isfinite(change.wh) or change.wh < 0:
            raise EnergyError(f"{change.flow} at {_when(change.start)}: {change.wh:g} Wh")
        if change.end > now + BUCKET_MS:
            raise EnergyError(f"{change.flow}: {_when(change.end)} is in the future")
        if before is not None and before.flow == change.flow and before.end > change.start:
            raise EnergyError(f"{change.flow}: two stretches overlap at {_when(change.start)}")
        before = change
    return ordered


def _check_stretch(flow: str, start: int, end: int) -> None:
    if flow not in FLOWS:
        raise EnergyError(f"{flow!r} is no flow; flows are {', '.join(FLOWS)}")
    if start % BUCKET_MS or end % BUCKET_MS:
        raise EnergyError(f"{flow}: a stretch begins and ends at a full five minutes")
    if end < start:
        raise EnergyError(f"{flow}: {_when(end)} is before {_when(start)}")


def _when(ms: int) -> str:
    return clock.iso(clock.from_ms(ms))


def _says(rows: Mapping[int, _Row], change: Change) -> bool:
    """Whether the books say so already."""
    known = [rows[ts].wh for ts in range(change.start, change.end, BUCKET_MS) if ts in rows]
    return bool(known) and abs(sum(known) - change.wh) <= _tolerance(change.wh)


def _tolerance(wh: float) -> float:
    """Sums of spread energies come back to this much [Wh]."""
    return 0.001 + 1e-9 * abs(wh)


def _spread(rows: Mapping[int, _Row], change: Change) -> list[tuple[int, float]]:
    """(ts, Wh) of each bucket of the stretch."""
    span = range(change.start, change.end, BUCKET_MS)
    known = [rows[ts].wh if ts in rows else 0.0 for ts in span]
    whole = sum(known)
    if whole > ALIKE_WH:
        return [(ts, wh * change.wh / whole) for ts, wh in zip(span, known, strict=True)]
    return [(ts, change.wh / len(span)) for ts in span]


def _open(
    connection: Connection,
    kind: Kind,
    now: int,
    by: str,
    reason: str,
    document: Mapping[str, Any],
) -> int:
    made = connection.execute(
        insert(energy_edit).values(
            kind=kind, created=now, by_whom=by, reason=reason, document=json.dumps(document)
        )
    )
    key = made.inserted_primary_key
    if key is None:
        raise EnergyError("the database gave the edit no number")
    return int(key[0])


def _apply(
    connection: Connection,
    number: int,
    kind: Kind,
    rows: dict[int, _Row],
    changes: Iterable[Change],
) -> None:
    """Put ``changes`` into ``rows`` and into the tables."""
    flag = "edited" if kind == "edit" else "imported"
    put: list[_Row] = []
    trail: list[str] = []
    for change in changes:
        for ts, wh in _spread(rows, change):
            old = rows.get(ts)
            row = _Row(change.flow, ts, wh, kind, flag, BUCKET_MS // 1000, number)
            if old is not None and old.edit_id is not None:
                row = _Row(*row[:7], *old[7:])
            elif old is not None:
                row = _Row(*row[:7], *old[2:6])
            rows[ts] = row
            put.append(row)
            before = old[2:7] if old is not None else (None,) * 5
            trail.append(_tuple((number, change.flow, ts, wh, *before)))
    _put(connection, put)
    names = "edit_id, flow, ts, new_wh, old_wh, old_source, old_flag, old_covered_s, old_edit_id"
    for some in _chunks(trail, ROWS):
        connection.exec_driver_sql(
            f"INSERT INTO energy_change ({names}) VALUES {','.join(some)}"  # noqa: S608 - no text
        )


def allow_long_texts(connection: Connection) -> None:
    """Let a server join as many rows into one text as anybody here asks for."""
    if connection.dialect.name != "sqlite" and not connection.info.get(_LONG):
        connection.exec_driver_sql(f"SET SESSION group_concat_max_len = {LONGEST_BYTES}")
        connection.info[_LONG] = True


# --- Rows ---------------------------------------------------------------------------------------


def _load(
    connection: Connection, flow: str, start: int, end: int, *, lock: bool = True
) -> dict[int, _Row]:
    """The rows of [start, end), locked until the transaction ends."""
    if connection.dialect.name == "sqlite":
        query = select(energy).where(energy.c.flow == flow, energy.c.ts >= start, energy.c.ts < end)
        return {row[1]: _Row(*row) for row in connection.execute(query)}
    # As text that the server joins: PyMySQL takes twenty times as long to make rows of it.
    allow_long_texts(connection)
    found: dict[int, _Row] = {}
    locked = " FOR UPDATE" if lock else ""
    for begin in range(start, end, LOADED_MS):
        after = min(begin + LOADED_MS, end)
        text = connection.exec_driver_sql(
            f"SELECT CONCAT('[', GROUP_CONCAT({_AS_JSON}), ']') FROM energy"  # noqa: S608 - ours
            f" WHERE flow = '{flow}' AND ts >= {begin:d} AND ts < {after:d}{locked}"
        ).scalar()
        for row in _loaded.decode(text or "[]"):
            found[row[0]] = _Row(flow, *row)
    return found


def _put(connection: Connection, rows: Sequence[_Row]) -> None:
    """Insert or replace."""
    names = _Row._fields
    if connection.dialect.name == "sqlite":
        moved = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
        tail = f"ON CONFLICT (flow, ts) DO UPDATE SET {moved}"
    else:
        moved = ", ".join(f"{name} = VALUES({name})" for name in names[2:])
        tail = f"ON DUPLICATE KEY UPDATE {moved}"
    for some in _chunks(rows, ROWS):
        values = ",".join(map(_values, some))
        connection.exec_driver_sql(
            f"INSERT INTO energy ({', '.join(names)}) VALUES {values} {tail}"  # noqa: S608
        )


def _delete(connection: Connection, flow: str, times: Sequence[int]) -> None:
    for some in _chunks(times, ROWS):
        connection.execute(
            energy.delete().where(energy.c.flow == flow, energy.c.ts.in_(list(some)))
        )


def _values(row: _Row) -> str:
    """A row of ``energy`` as SQL. Most have no edit; a year has 700 000."""
    if row.edit_id is not None:
        return _tuple(row)
    flow, ts, wh, source, flag, covered_s = row[:6]
    text = repr(wh) if wh.__class__ is float else f"{wh:d}"
    mark = "" if "e" in text else "e0"
    return f"('{flow}',{ts},{text}{mark},'{source}','{flag}',{covered_s},NULL,NULL,NULL,NULL,NULL)"


def _tuple(row: Iterable[object]) -> str:
    """A row as SQL: numbers, NULL and words of this module, so there is nothing to escape."""
    return f"({','.join(map(_literal, row))})"


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if value.__class__ is float:
        text = repr(value)
        return text if "e" in text else f"{text}e0"
    if isinstance(value, str):
        if not value.isidentifier():
            raise EnergyError(f"{value!r} is no word of the books")
        return f"'{value}'"
    if isinstance(value, int | float):
        return repr(value)
    raise EnergyError(f"{value!r} is nothing that the books hold")


def _sum(
    connection: Connection,
    flow: str,
    days: Sequence[tuple[date, int, int]],
    rows: Mapping[int, _Row],
) -> None:
    """Bring ``energy_day`` up to date; ``rows`` hold every bucket of these days."""
    names = [column.name for column in energy_day.columns]
    put: list[str] = []
    gone: list[date] = []
    for day, start, end in days:
        mine = [rows[ts] for ts in range(start, end, BUCKET_MS) if ts in rows]
        if not mine:
            gone.append(day)
            continue
        shares = dict.fromkeys(FLAGS, 0.0)
        for row in mine:
            shares[row.flag] += row.wh
        sums = (math.fsum(row.wh for row in mine), sum(row.covered_s for row in mine))
        numbers = ",".join(map(_literal, (*sums, *shares.values())))
        put.append(f"('{flow}','{day.isoformat()}',{numbers})")
    if gone:
        connection.execute(
            energy_day.delete().where(energy_day.c.flow == flow, energy_day.c.day.in_(gone))
        )
    if connection.dialect.name == "sqlite":
        moved = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
        tail = f"ON CONFLICT (flow, day) DO UPDATE SET {moved}"
    else:
        moved = ", ".join(f"{name} = VALUES({name})" for name in names[2:])
        tail = f"ON DUPLICATE KEY UPDATE {moved}"
    for some in _chunks(put, ROWS):
        connection.exec_driver_sql(
            f"INSERT INTO energy_day ({', '.join(names)}) VALUES {','.join(some)} {tail}"  # noqa: S608
        )


def _touched(
    days: Sequence[tuple[date, int, int]], times: Iterable[int]
) -> list[tuple[date, int, int]]:
    """Those of ``days`` in which one of ``times`` lies."""
    ordered = sorted(times)
    found, at = [], 0
    for day in days:
        while at < len(ordered) and ordered[at] < day[1]:
            at += 1
        if at < len(ordered) and ordered[at] < day[2]:
            found.append(day)
    return found


def _batches(changes: Sequence[Change], zone: tzinfo) -> Iterator[list[Change]]:
    """Changes of one flow, some weeks at a time, cut where a local day ends.

    So no day is summed from a part of its rows, and ten years of an import are not in memory.
    """
    batch: list[Change] = []
    edge = 0
    for change in changes:
        if batch and change.start >= edge and change.start - batch[0].start > MANY_MS:
            yield batch
            batch = []
        batch.append(change)
        edge = max(edge, days_between(change.end - 1, change.end, zone)[0][2])
    if batch:
        yield batch


def _pieces(days: list[tuple[date, int, int]]) -> Iterator[list[tuple[date, int, int]]]:
    """The days, a month at a time."""
    for at in range(0, len(days), 31):
        yield days[at : at + 31]


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some


# --- Figures ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sum:
    """One flow over a period.

    Attributes:
        wh: its energy [Wh].
        covered_s: of how much of the period that is known [s].
        by_flag: the same energy by how far it can be trusted; only what there is.
    """

    wh: float
    covered_s: float
    by_flag: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a period comes to.

    Attributes:
        first: its first local day.
        end: the first local day after it.
        elapsed_s: length of it so far, from the first day that anything is booked of [s].
        flows: only those of which something is known.
    """

    first: date
    end: date
    elapsed_s: float
    flows: Mapping[str, Sum] = field(default_factory=dict)

    def wh(self, flow: str) -> float | None:
        """Energy of a flow; None when not known."""
        found = self.flows.get(flow)
        return None if found is None else found.wh

    def covered(self, flow: str) -> float | None:
        """Share of the time of which a flow is known, 0 to 1."""
        found = self.flows.get(flow)
        if found is None or self.elapsed_s <= 0:
            return None
        return min(1.0, found.covered_s / self.elapsed_s)

    @property
    def self_consumption(self) -> float | None:
        """Share of the sun's energy that stayed in the house, 0 to 1; None when not known."""
        pv, away = self.wh("pv"), self.wh("grid_export")
        if pv is None or away is None or pv <= 0:
            return None
        return min(1.0, max(0.0, 1 - away / pv))

    @property
    def autarky(self) -> float | None:
        """Share of the load that came neither from grid nor generator, 0 to 1."""
        load, bought = self.wh("load"), self.wh("grid_import")
        if load is None or bought is None or load <= 0:
            return None
        return min(1.0, max(0.0, 1 - (bought + (self.wh("generator") or 0.0)) / load))

    @property
    def losses_wh(self) -> float | None:
        """What went in and did not come out again, at the inverter and on the way [Wh].

        None when the house or the sun is not known; can be negative where meters disagree.
        """
        if self.wh("load") is None or (self.wh("pv") is None and self.wh("grid_import") is None):
            return None
        gained = ("pv", "grid_import", "battery_discharge", "generator")
        used = ("load", "grid_export", "battery_charge")
        return sum(self.wh(flow) or 0.0 for flow in gained) - sum(
            self.wh(flow) or 0.0 for flow in used
        )


PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")


def period(text: str) -> tuple[date, date]:
    """First day and first day after a day, a month or a year, as ``2026-11-21`` names them.

    Raises:
        EnergyError: it names none.
    """
    found = PERIOD.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        year, month, day = (int(part) if part else None for part in found.groups())
        if year is None or month is None:
            return date(year or 0, 1, 1), date((year or 0) + 1, 1, 1)
        if day is None:
            first = date(year, month, 1)
            return first, next_month(first)
        return date(year, month, day), date(year, month, day) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise EnergyError(f"{text!r} is no day, month or year; write 2026-11-21") from None


SPANS = union_all(
    *(
        select(
            func.min(energy_day.c.day, type_=Date), func.max(energy_day.c.day, type_=Date)
        ).where(energy_day.c.flow == flow)
        for flow in FLOWS
    )
)
"""Each the two ends of an index; MIN over all would read the table."""


def span(connection: Connection) -> tuple[date, date] | None:
    """The first day that anything is booked of, and the day after the last; None = empty books."""
    found = [
        _date(value) for row in connection.execute(SPANS) for value in row if value is not None
    ]
    return (min(found), max(found) + timedelta(days=1)) if found else None


def figures(
    connection: Connection, zone: tzinfo, first: date, end: date, now: int | None = None
) -> Figures:
    """What [first, end) comes to: sums of days, so a year costs some hundred rows.

    Args:
        connection: read-only will do.
        zone: the site's.
        first: local day.
        end: first local day after the period.
        now: the part after it has not elapsed yet [ms].
    """
    return _fold(connection, zone, [(first, end)], now)[0]


def table(
    connection: Connection,
    zone: tzinfo,
    first: date,
    end: date,
    by: Literal["day", "month", "year"],
    now: int | None = None,
) -> list[Figures]:
    """The same for each day, month or year of [first, end), in one read."""
    return _fold(connection, zone, list(_steps(first, end, by)), now)


def hours(
    connection: Connection, zone: tzinfo, day: date, now: int | None = None
) -> list[tuple[str, Figures]]:
    """A local day by the hours of the clock on the wall: (``13:00``, what it comes to).

    On the day of 25 hours one hour comes twice; together they are exactly the day.
    """
    now = clock.epoch_ms(clock.now()) if now is None else now
    start, end = bounds(day, zone)
    cuts = [start]
    for at in range(start + HOUR_MS // 4, end, HOUR_MS // 4):
        if datetime.fromtimestamp(at / 1000, zone).minute == 0:
            cuts.append(at)
    sums: list[dict[str, dict[str, float]]] = [{} for _ in cuts]
    covered: list[dict[str, float]] = [{} for _ in cuts]
    table = energy
    for flow in FLOWS:
        for ts, wh, flag, seconds in connection.execute(
            select(table.c.ts, table.c.wh, table.c.flag, table.c.covered_s).where(
                table.c.flow == flow, table.c.ts >= start, table.c.ts < end
            )
        ):
            at = bisect_right(cuts, ts) - 1
            mine = sums[at].setdefault(flow, {})
            mine[flag] = mine.get(flag, 0.0) + wh
            covered[at][flow] = covered[at].get(flow, 0.0) + seconds
    found: list[tuple[str, Figures]] = []
    for at, (low, high) in enumerate(zip(cuts, [*cuts[1:], end], strict=True)):
        flows = {
            flow: Sum(sum(by.values()), covered[at][flow], by) for flow, by in sums[at].items()
        }
        elapsed_s = max(0, min(high, now) - low) / 1000
        label = f"{datetime.fromtimestamp(low / 1000, zone):%H:%M}"
        found.append((label, Figures(day, day + timedelta(days=1), elapsed_s, flows)))
    return found


def _steps(first: date, end: date, by: str) -> Iterator[tuple[date, date]]:
    while first < end:
        match by:
            case "day":
                after = first + timedelta(days=1)
            case "month":
                after = next_month(first)
            case _:
                after = date(first.year + 1, 1, 1)
        yield first, min(after, end)
        first = after


def _fold(
    connection: Connection, zone: tzinfo, steps: Sequence[tuple[date, date]], now: int | None
) -> list[Figures]:
    if not steps:
        return []
    now = clock.epoch_ms(clock.now()) if now is None else now
    whole = span(connection)
    day, flags = energy_day.c.day, [energy_day.c[f"{flag}_wh"] for flag in FLAGS]
    columns = [energy_day.c.wh, energy_day.c.covered_s, *flags]
    inside = (day >= steps[0][0], day < steps[-1][1])
    sums: list[dict[str, list[float]]] = [{} for _ in steps]
    if len(steps) == 1:
        for flow, *numbers in connection.execute(
            select(energy_day.c.flow, *map(func.sum, columns))
            .where(*inside)
            .group_by(energy_day.c.flow)
        ):
            sums[0][flow] = [float(number) for number in numbers]
    else:
        place = {
            step[0] + timedelta(days=offset): index
            for index, step in enumerate(steps)
            for offset in range((step[1] - step[0]).days)
        }
        for flow, at, *numbers in _days(connection, steps[0][0], steps[-1][1]):
            mine = sums[place[at]].setdefault(flow, [0.0] * len(numbers))
            for index, number in enumerate(numbers):
                mine[index] += number
    return [
        Figures(
            first,
            end,
            _elapsed_s(zone, first, end, whole, now),
            {
                flow: Sum(
                    found[flow][0],
                    found[flow][1],
                    {flag: wh for flag, wh in zip(FLAGS, found[flow][2:], strict=True) if wh},
                )
                for flow in FLOWS
                if flow in found
            },
        )
        for (first, end), found in zip(steps, sums, strict=True)
    ]


def _days(connection: Connection, first: date, end: date) -> Iterable[Sequence[Any]]:
    """(flow, day, Wh, covered s, Wh by flag) of every day of [first, end) that has any."""
    names = [column.name for column in energy_day.columns]
    if connection.dialect.name == "sqlite":
        day = energy_day.c.day
        return connection.execute(select(energy_day).where(day >= first, day < end)).all()
    allow_long_texts(connection)
    numbers = ", ',', ".join(names[2:])
    found: list[Sequence[Any]] = []
    for flow in FLOWS:
        text = connection.exec_driver_sql(
            f"SELECT CONCAT('[', GROUP_CONCAT('[\"', day, '\",', {numbers}, ']'), ']')"  # noqa: S608
            f" FROM energy_day WHERE flow = '{flow}' AND day >= '{first}' AND day < '{end}'"
        ).scalar()
        found += [(flow, *row) for row in _loaded_days.decode(text or "[]")]
    return found


def _elapsed_s(
    zone: tzinfo, first: date, end: date, whole: tuple[date, date] | None, now: int
) -> float:
    if whole is None:
        return 0.0
    start = bounds(max(first, whole[0]), zone)[0]
    return max(0, min(bounds(end, zone)[0], now) - start) / 1000


def _date(value: date | str) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)
