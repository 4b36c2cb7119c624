"""Corrections of the energy books: what somebody wishes, what it would do, what is there now.

A correction covers a stretch of one flow at the borders of its five minutes. It sets what the
stretch adds up to, leaves it out, or spreads what it has evenly over it; the library's ``edit``
does it, and its ``undo`` takes it back.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from itertools import groupby
from typing import Literal

from sqlalchemy import Connection, select
from sunmesh.database.days import bounds
from sunmesh.database.energy import Change, difference
from sunmesh.database.tables import BUCKET_MS, FLOWS, TEXT_LENGTH, energy

from .. import text, words
from ..energy import FLAGS
from ..periods import Period, month_of, year_of
from ..text import N_, _
from .days import Days

Deed = Literal["set", "zero", "spread"]
DEEDS: Mapping[str, str] = {
    "set": N_("Set to"),
    "zero": N_("Leave out"),
    "spread": N_("Spread evenly"),
}
LONGEST_MS = 31 * 25 * 3_600_000
LONGEST_SPREAD_MS = 7 * 25 * 3_600_000
MOST_KW = 1000.0
"""No house moves more: a typing error."""


class RepairError(ValueError):
    """What was asked of the books cannot be; the text is for people."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Five minutes of a flow as the books have them now."""

    ts: int
    wh: float
    flag: str
    covered_s: int
    edit_id: int | None
    booked_wh: float | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to be so.

    Attributes:
        flow: one of the books'.
        start, end: of the stretch, at borders of buckets [ms].
        deed: what is to be done with it.
        wh: what it is to add up to, where that is asked for [Wh].
    """

    flow: str
    start: int
    end: int
    deed: Deed
    wh: float | None = None


def moment(day: date, clock: str, zone: tzinfo, *, is_end: bool = False) -> int:
    """A time of the site's clock on ``day`` [ms].

    ``24:00`` is the end of the day, and so is ``00:00`` as an end. Where a time comes twice because
    clocks go back, a beginning means the first and an end the second, unless its offset is written
    behind it: ``02:30+02:00``.

    Raises:
        RepairError: no such time, or not at a full five minutes.
    """
    begun, ended = bounds(day, zone)
    if clock == "24:00" or (is_end and clock == "00:00"):
        return ended
    try:
        made = datetime.fromisoformat(f"{day.isoformat()}T{clock.replace(' ', '+')}")
    except ValueError:
        raise RepairError(_("“%(time)s” is no time; write it as 14:05.", time=clock[:20])) from None
    if made.tzinfo is None:
        made = made.replace(tzinfo=zone, fold=1 if is_end else 0)
    ms = round(made.timestamp() * 1000)
    if ms % BUCKET_MS:
        raise RepairError(
            _("The books know five minutes at a time: 14:05, not %(time)s.", time=clock)
        )
    if not begun <= ms <= ended:
        raise RepairError(_("%(time)s is not in that day.", time=clock[:20]))
    return ms


def wish(flow: str, first: int, last: int, deed: str, kwh: str, now: int) -> Wish:
    """What a form asks for.

    Raises:
        RepairError: what cannot be, and why.
    """
    if flow not in FLOWS:
        raise RepairError(_("The books have no flow “%(flow)s”.", flow=flow[:20]))
    if deed not in DEEDS:
        raise RepairError(_("Say what is to be done: set, leave out or spread."))
    if last <= first:
        raise RepairError(_("The stretch ends before it begins."))
    if last - first > (LONGEST_SPREAD_MS if deed == "spread" else LONGEST_MS):
        raise RepairError(_("That is too long for one correction: at most 31 days, spread over 7."))
    if last > now + BUCKET_MS:
        raise RepairError(_("What has not happened yet cannot be corrected."))
    wh: float | None = None
    if deed == "set":
        number = text.typed(kwh)
        if number is None:
            raise RepairError(_("Say how many kWh the stretch is to have."))
        if number < 0:
            raise RepairError(_("An energy is 0 or more."))
        wh = 1000 * number
        if wh > MOST_KW * 1000 * (last - first) / 3_600_000:
            raise RepairError(_("So much no house moves in that time: is it in kWh?"))
    return Wish(
        flow, first, last, "set" if deed == "set" else "zero" if deed == "zero" else "spread", wh
    )


def stretch(connection: Connection, flow: str, start: int, end: int) -> list[Bucket]:
    """What the books have in [start, end) now, rising in time."""
    table = energy.c
    rows = connection.execute(
        select(table.ts, table.wh, table.flag, table.covered_s, table.edit_id, table.booked_wh)
        .where(table.flow == flow, table.ts >= start, table.ts < end)
        .order_by(table.ts)
    )
    return [
        Bucket(int(row[0]), float(row[1]), str(row[2]), int(row[3]), row[4], row[5]) for row in rows
    ]


def changes(asked: Wish, now: Sequence[Bucket]) -> list[Change]:
    """The wish as the library's ``edit`` takes it; ``now`` are the buckets of its stretch.

    Raises:
        RepairError: there is nothing to spread.
    """
    if asked.deed == "set" and asked.wh is not None:
        return [Change(asked.flow, asked.start, asked.end, asked.wh)]
    if asked.deed == "zero":
        return [Change(asked.flow, asked.start, asked.end, 0.0)]
    whole = math.fsum(bucket.wh for bucket in now)
    if not now or whole <= 0:
        raise RepairError(_("There is no energy in this stretch that could be spread."))
    starts = range(asked.start, asked.end, BUCKET_MS)
    return [Change(asked.flow, ts, ts + BUCKET_MS, whole / len(starts)) for ts in starts]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a correction does to one stretch of time [Wh]; None = nothing known before."""

    label: str
    old: float | None
    new: float

    @property
    def before(self) -> str:
        """In words."""
        return words.NONE if self.old is None else words.energy(self.old / 1000)

    @property
    def after(self) -> str:
        """In words."""
        return words.energy(self.new / 1000)

    @property
    def change(self) -> str:
        """By how much, with its sign."""
        by = (self.new - (self.old or 0.0)) / 1000
        return f"+{words.energy(by)}" if by > 0 else words.energy(by)


def effects(
    connection: Connection,
    zone: tzinfo,
    asked: Wish,
    now: Sequence[Bucket],
    days: Days,
) -> list[Effect]:
    """What the wish would do: to its stretch, its days, their months and years.

    Raises:
        RepairError: it cannot be done.
        EnergyError: likewise, as the library says it.
    """
    made = changes(asked, now)
    old = math.fsum(bucket.wh for bucket in now) if now else None
    new = math.fsum(change.wh for change in made)
    found = [Effect(_("This stretch"), old, new)]
    changed = difference(connection, zone, made)
    for row in changed[:3]:
        found.append(Effect(text.day(row.day, "medium"), row.old_wh, row.new_wh))
    if len(changed) > 3:
        more = changed[3:]
        olds = [row.old_wh for row in more if row.old_wh is not None]
        found.append(
            Effect(
                text.ngettext("%(num)d more day", "%(num)d more days", len(more)),
                math.fsum(olds) if olds else None,
                math.fsum(row.new_wh for row in more),
            )
        )
    by_day = {row.day: row.new_wh - (row.old_wh or 0.0) for row in changed}
    for of in (month_of, year_of):
        for period, group in groupby(sorted(by_day), key=of):
            found.append(_sum_effect(days, asked.flow, period, [by_day[day] for day in group]))
    return found


def _sum_effect(days: Days, flow: str, period: Period, by: Sequence[float]) -> Effect:
    old = days.figures(period.first, period.end).wh(flow)
    return Effect(period.title, old, (old or 0.0) + math.fsum(by))


# -- the day as a picture --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of the clock: ``start`` and ``end`` as the form takes them."""

    label: str
    start: str
    end: str
    kwh: str
    flags: str
    known: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Stick:
    """One bucket in the picture; places in percent."""

    x: str
    width: str
    y: str
    height: str
    flag: str


@dataclass(frozen=True, slots=True)
class DayBooks:
    """A day of a flow.

    Attributes:
        sticks: its buckets.
        levels: (y, text) of the lines behind them, as a power.
        hours: the same by the hour.
        names: (x, text) under the picture.
        selected: x and width of the chosen stretch, empty without.
        total: of the day.
        flags: that occur.
        odd: the day has not 24 hours.
    """

    sticks: Sequence[Stick]
    levels: Sequence[tuple[str, str]]
    hours: Sequence[Hour]
    names: Sequence[tuple[str, str]]
    selected: tuple[str, str]
    total: str
    flags: Sequence[tuple[str, str]]
    odd: bool


def clock_of(ms: int, zone: tzinfo, *, is_end: bool = False) -> str:
    """A time as the form takes it, with its offset where it comes twice."""
    local = datetime.fromtimestamp(ms / 1000, zone)
    plain = f"{local:%H:%M}"
    twin = local.replace(fold=1 - local.fold)
    if twin.utcoffset() != local.utcoffset():
        return local.strftime("%H:%M") + local.isoformat()[-6:]
    return "24:00" if is_end and plain == "00:00" else plain


def day_books(
    day: date, zone: tzinfo, rows: Sequence[Bucket], chosen: tuple[int, int] | None
) -> DayBooks:
    """A day of a flow to be looked at."""
    begun, ended = bounds(day, zone)
    whole = ended - begun
    watts = max((row.wh for row in rows), default=0.0) * 3_600_000 / BUCKET_MS
    top = max(500.0, math.ceil(watts / 500) * 500.0)
    width = f"{100 * BUCKET_MS / whole:.4f}%"
    sticks = []
    for row in rows:
        share = 100 * row.wh * 3_600_000 / BUCKET_MS / top
        high = max(share, 0.8) if row.wh > 0 else 0.5
        sticks.append(
            Stick(
                f"{100 * (row.ts - begun) / whole:.4f}%",
                width,
                f"{100 - high:.2f}%",
                f"{high:.2f}%",
                row.flag,
            )
        )
    selected = ("", "")
    if chosen is not None:
        low, high_end = max(chosen[0], begun), min(chosen[1], ended)
        if high_end > low:
            selected = (
                f"{100 * (low - begun) / whole:.4f}%",
                f"{100 * (high_end - low) / whole:.4f}%",
            )
    hours = _hours(begun, ended, zone, rows, chosen)
    names = [
        (f"{100 * (ms - begun) / whole:.3f}%", f"{datetime.fromtimestamp(ms / 1000, zone):%H}")
        for ms in range(begun, ended, 3 * 3_600_000)
    ]
    used = dict.fromkeys(row.flag for row in rows)
    return DayBooks(
        sticks,
        [("0%", words.power(top)), ("50%", words.power(top / 2)), ("100%", "0")],
        hours,
        names,
        selected,
        words.energy(math.fsum(row.wh for row in rows) / 1000) if rows else words.NONE,
        [(flag, _(FLAGS[flag])) for flag in used],
        whole != 24 * 3_600_000,
    )


def _hours(
    begun: int,
    ended: int,
    zone: tzinfo,
    rows: Sequence[Bucket],
    chosen: tuple[int, int] | None,
) -> list[Hour]:
    found = []
    for start in range(begun, ended, 3_600_000):
        end = min(start + 3_600_000, ended)
        mine = [row for row in rows if start <= row.ts < end]
        flags = dict.fromkeys(row.flag for row in mine)
        covered = sum(row.covered_s for row in mine) * 1000 / (end - start)
        first, last = clock_of(start, zone), clock_of(end, zone, is_end=True)
        found.append(
            Hour(
                f"{first}–{last}",
                first,
                last,
                words.energy(math.fsum(row.wh for row in mine) / 1000) if mine else words.NONE,
                ", ".join(_(FLAGS[flag]) for flag in flags),
                text.percent(min(1.0, covered)) if mine else words.NONE,
                chosen is not None and chosen[0] <= start and end <= chosen[1],
            )
        )
    return found


def reason(said: str) -> str:
    """Why somebody corrects.

    Raises:
        RepairError: nothing said, or too much.
    """
    said = said.strip()
    if not said:
        raise RepairError(_("Say why: whoever looks at the books later will ask."))
    if len(said) > TEXT_LENGTH:
        raise RepairError(_("Say it in %(num)s characters.", num=TEXT_LENGTH))
    return said


def next_day(day: date, by: int) -> date | None:
    """The day beside; None beyond the calendar."""
    try:
        return day + timedelta(days=by)
    except OverflowError:
        return None
