"""Records of the energy books: best and darkest days, the longest time without the grid. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from . import text, words
from .history_days import Days
from .history_periods import Period, month_of
from .text import _, ngettext

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


def records(days: Days, period: Period) -> list[Record]:
    """The records of a period, as far as the house has what they are about.

    Today counts for what is high, not for what is low: it is not over.
    """
    found: list[Record] = []
    open_day = days.end - timedelta(days=1)

    def of(flow: str) -> list[tuple[date, float, float]]:
        return [row for row in days.known(flow) if period.first <= row[0] < period.end]

    def day(key: str, what: str, rows: list[tuple[date, float, float]], *, low: bool) -> None:
        rows = [
            row
            for row in rows
            if (row[2] >= COVERED and row[0] != open_day if low else row[1] >= ALONE_WH)
        ]
        if len(rows) < 2:
            return
        pick: Callable[..., tuple[date, float, float]] = min if low else max
        when, wh, _share = pick(rows, key=lambda row: row[1])
        found.append(
            Record(key, what, words.energy(wh / 1000), text.day(when, "medium"), when, when)
        )

    sun, load, bought = of("pv"), of("load"), of("grid_import")
    day("sunniest", _("Sunniest day"), sun, low=False)
    found += _best_month(days, period)
    day("darkest", _("Darkest day"), sun, low=True)
    day("most", _("Most used in a day"), load, low=False)
    day("least", _("Least used in a day"), load, low=True)
    found += _alone(bought, load)
    day("bought", _("Most bought in a day"), bought, low=False)
    day("sold", _("Most given to the grid"), of("grid_export"), low=False)
    day("stored", _("Most out of the battery"), of("battery_discharge"), low=False)
    day("curtailed", _("Most sun not taken"), of("curtailed"), low=False)
    return found


def _best_month(days: Days, period: Period) -> list[Record]:
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
        return []
    made = best[1]
    amount = words.energy(best[0] / 1000)
    return [Record("month", _("Sunniest month"), amount, made.title, made.first, made.last)]


def _alone(
    bought: list[tuple[date, float, float]], load: list[tuple[date, float, float]]
) -> list[Record]:
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
        return []
    first, last = max(runs, key=lambda run: run[1] - run[0])
    length = (last - first).days + 1
    when = (
        text.day(first, "medium")
        if first == last
        else _(
            "%(first)s to %(last)s",
            first=text.day(first, "medium"),
            last=text.day(last, "medium"),
        )
    )
    amount = ngettext("%(num)d day", "%(num)d days", length)
    made = [Record("alone", _("Longest without the grid"), amount, when, first, last)]
    if len(bought) > without:
        whole = ngettext("%(num)d day", "%(num)d days", without)
        when = ngettext("of %(num)d known day", "of %(num)d known days", len(bought))
        made.append(
            Record(
                "alone_all", _("Days without the grid"), whole, when, bought[0][0], bought[-1][0]
            )
        )
    return made
