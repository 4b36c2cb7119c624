"""Records of the energy books: best and darkest days, the longest time without the grid. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from operator import itemgetter

from .. import text, words
from ..periods import Period, month_of
from ..text import N_, _, ngettext
from .days import Days

COVERED = 0.95
"""A day that is known for less of it holds no record of being low."""
ALONE_WH = 50.0
"""So little from the grid is what a meter makes up by itself, in a day."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line: what, how much, when; ``days`` names the first and the last day of it."""

    key: str
    what: str
    amount: str
    when: str
    first: date
    last: date

    @property
    def is_day(self) -> bool:
        """Whether it is of a single day."""
        return self.first == self.last


SAID = {
    "sunniest": N_("Sunniest day"),
    "month": N_("Sunniest month"),
    "darkest": N_("Darkest day"),
    "most": N_("Most used in a day"),
    "least": N_("Least used in a day"),
    "alone": N_("Longest without the grid"),
    "alone_all": N_("Days without the grid"),
    "bought": N_("Most bought in a day"),
    "sold": N_("Most given to the grid"),
    "stored": N_("Most out of the battery"),
    "curtailed": N_("Most sun not taken"),
}
"""What each is about, in the order in which they are told."""

Row = tuple[date, float, float]
"""A day, its energy [Wh], the share of it that is known."""


@dataclass(frozen=True, slots=True)
class Found:
    """A record before it is said: ``amount`` in Wh or days, ``of`` so many known days."""

    amount: float
    first: date
    last: date
    of: int = 0


def records(days: Days, period: Period) -> list[Record]:
    """The records of a period, as far as the house has what they are about.

    Today counts for what is high, not for what is low: it is not over.
    """
    found: dict[str, Found] = days.remembered(
        ("records", period.first, period.end), lambda: _find(days, period)
    )
    return [_record(key, found[key]) for key in SAID if key in found]


def _record(key: str, found: Found) -> Record:
    first, last = found.first, found.last
    amount, when = words.energy(found.amount / 1000), text.day(first, "medium")
    if key == "month":
        when = month_of(first).title
    elif key in ("alone", "alone_all"):
        amount = ngettext("%(num)d day", "%(num)d days", int(found.amount))
    if key == "alone_all":
        when = ngettext("of %(num)d known day", "of %(num)d known days", found.of)
    elif key == "alone" and first != last:
        when = _("%(first)s to %(last)s", first=when, last=text.day(last, "medium"))
    return Record(key, _(SAID[key]), amount, when, first, last)


def _find(days: Days, period: Period) -> dict[str, Found]:
    """All of them, in no language."""
    found: dict[str, Found] = {}
    open_day = days.end - timedelta(days=1)

    def of(flow: str) -> list[Row]:
        return list(days.known(flow, period.first, period.end))

    def day(key: str, rows: list[Row], *, low: bool = False) -> None:
        rows = [
            row
            for row in rows
            if (row[2] >= COVERED and row[0] != open_day if low else row[1] >= ALONE_WH)
        ]
        if len(rows) < 2:
            return
        pick: Callable[..., Row] = min if low else max
        when, wh, _share = pick(rows, key=itemgetter(1))
        found[key] = Found(wh, when, when)

    sun, load, bought = of("pv"), of("load"), of("grid_import")
    day("sunniest", sun)
    day("darkest", sun, low=True)
    day("most", load)
    day("least", load, low=True)
    day("bought", bought)
    day("sold", of("grid_export"))
    day("stored", of("battery_discharge"))
    day("curtailed", of("curtailed"))
    return found | _best_month(days, period) | _alone(bought, load)


def _best_month(days: Days, period: Period) -> dict[str, Found]:
    best: tuple[float, Period] | None = None
    count = 0
    month = month_of(max(period.first, days.first))
    while month.first < min(period.end, days.end):
        values = [wh for wh in days.values("pv", month.first, month.end) if wh == wh]
        if values:
            count += 1
            whole = math.fsum(values)
            if best is None or whole > best[0]:
                best = (whole, month)
        month = month_of(month.end)
    if best is None or count < 2:
        return {}
    return {"month": Found(best[0], best[1].first, best[1].last)}


def _alone(bought: list[Row], load: list[Row]) -> dict[str, Found]:
    """The longest run of whole days in which the house lived without the grid."""
    lived = {day for day, wh, _share in load if wh > ALONE_WH}
    runs: list[tuple[date, date]] = []
    without = 0
    for day, wh, share in bought:
        if wh > ALONE_WH or share < COVERED or day not in lived:
            continue
        without += 1
        if runs and runs[-1][1] == day - timedelta(days=1):
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    if not runs:
        return {}
    first, last = max(runs, key=lambda run: run[1] - run[0])
    found = {"alone": Found((last - first).days + 1, first, last)}
    if len(bought) > without:
        found["alone_all"] = Found(without, bought[0][0], bought[-1][0], len(bought))
    return found
