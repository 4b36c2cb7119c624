"""The stretches of time that *History* and *Money* show, and how they stand in an address. Pure.

``2026`` is a year, ``2026-11`` a month, ``2026-11-21`` a day, ``2026-06-01..2026-08-15`` any range
of days with both ends, ``total`` all that is booked.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from sunmesh.database.days import next_month

from . import text
from .text import _

Kind = Literal["day", "month", "year", "total", "range"]
Step = Literal["day", "month", "year"]

OLDEST = date(2000, 1, 1)
NEVER = date(9990, 1, 1)
"""The calendar ends soon after, and a period has one behind it."""
MOST_DAYS = 62
"""A free range is drawn by the day up to this length, else by the month."""
MOST_MONTHS = 37
LONGEST = timedelta(days=366 * 60)


class PeriodError(ValueError):
    """The address names no period; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Period:
    """Local days from ``first`` to the one before ``end``."""

    kind: Kind
    first: date
    end: date

    @property
    def name(self) -> str:
        """As it stands in an address."""
        match self.kind:
            case "day":
                return self.first.isoformat()
            case "month":
                return f"{self.first:%Y-%m}"
            case "year":
                return f"{self.first:%Y}"
            case "total":
                return "total"
        return f"{self.first.isoformat()}..{self.last.isoformat()}"

    @property
    def last(self) -> date:
        """Its last day."""
        return self.end - timedelta(days=1)

    @property
    def title(self) -> str:
        """For people."""
        match self.kind:
            case "day":
                return text.day(self.first)
            case "month":
                return text.month(self.first)
            case "year":
                return f"{self.first.year}"
            case "total":
                return _("Since the beginning")
        return _(
            "%(first)s to %(last)s",
            first=text.day(self.first, "medium"),
            last=text.day(self.last, "medium"),
        )

    @property
    def step(self) -> Step:
        """What one bar of it is."""
        days = (self.end - self.first).days
        match self.kind:
            case "month":
                return "day"
            case "year":
                return "month"
            case "total":
                return "year" if days > 366 * 2 else "month"
        if days <= MOST_DAYS:
            return "day"
        return "month" if days <= MOST_MONTHS * 31 else "year"

    def holds(self, day: date) -> bool:
        """Whether that day lies in it."""
        return self.first <= day < self.end

    def parts(self) -> Iterator["Period"]:
        """Its bars, in order; months and years at its ends are whole ones."""
        at = self.first
        while at < self.end:
            match self.step:
                case "day":
                    part = day_of(at)
                case "month":
                    part = month_of(at)
                case _:
                    part = year_of(at)
            yield part
            at = part.end

    def clipped(self, other: "Period") -> "Period":
        """The days of ``other`` that lie in this one."""
        return Period(other.kind, max(self.first, other.first), min(self.end, other.end))

    def moved(self, years: int) -> "Period | None":
        """The same in another year; None for all the time."""
        try:
            match self.kind:
                case "month":
                    return month_of(self.first.replace(year=self.first.year + years))
                case "year":
                    return year_of(date(self.first.year + years, 1, 1))
                case "day" | "range":
                    first = _same(self.first, years)
                    return Period(self.kind, first, first + (self.end - self.first))
        except (ValueError, OverflowError):
            return None
        return None

    def before(self) -> "Period | None":
        """The one just before, of the same length or kind."""
        try:
            match self.kind:
                case "month":
                    return month_of(self.first - timedelta(days=1))
                case "year":
                    return year_of(self.first - timedelta(days=1))
                case "day" | "range":
                    return Period(self.kind, self.first - (self.end - self.first), self.first)
        except (ValueError, OverflowError):
            return None
        return None

    def after(self) -> "Period | None":
        """The one just after it."""
        match self.kind:
            case "month":
                return month_of(self.end)
            case "year":
                return year_of(self.end)
            case "day" | "range":
                return Period(self.kind, self.end, self.end + (self.end - self.first))
        return None


def _same(day: date, years: int) -> date:
    year = day.year + years
    try:
        return day.replace(year=year)
    except ValueError:  # 29 February
        return date(year, 3, 1)


def day_of(day: date) -> Period:
    """That day alone."""
    return Period("day", day, day + timedelta(days=1))


def month_of(day: date) -> Period:
    """The month that ``day`` is in."""
    first = day.replace(day=1)
    return Period("month", first, next_month(first))


def year_of(day: date) -> Period:
    """The year that ``day`` is in."""
    return Period("year", date(day.year, 1, 1), date(day.year + 1, 1, 1))


def parse(name: str, today: date, span: tuple[date, date]) -> Period:
    """What an address names.

    Args:
        name: of the period.
        today: the site's date; later than that is nothing.
        span: first day in the books, and the day after the last.

    Raises:
        PeriodError: it names none.
    """
    if name == "total":
        return Period("total", span[0], max(span[1], span[0] + timedelta(days=1)))
    shown = name[:40]
    found = re.fullmatch(r"(\d{4})(?:-(\d{2}))?", name, re.ASCII)
    if found:
        year, number = int(found[1]), int(found[2] or 1)
        if not OLDEST.year <= year < NEVER.year or not 1 <= number <= 12:
            raise PeriodError(_("The calendar of this house has no %(name)s.", name=shown))
        made = month_of(date(year, number, 1)) if found[2] else None
        period = made or Period("year", date(year, 1, 1), date(year + 1, 1, 1))
    else:
        found = re.fullmatch(r"([\d-]{10})(?:\.\.([\d-]{10}))?", name, re.ASCII)
        if not found:
            raise PeriodError(
                _("“%(name)s” is no day, month, year or range; write it as 2026-11.", name=shown)
            )
        period = between(found[1], found[2] or found[1])
    if period.first > today:
        raise PeriodError(_("%(period)s has not begun yet.", period=period.title))
    return period


def between(first: str, last: str) -> Period:
    """The days from ``first`` to ``last``, both ISO dates and both in it.

    Raises:
        PeriodError: a date that does not exist, an end before its beginning, or too long.
    """
    days = []
    for each in (first, last):
        try:
            day = date.fromisoformat(each)
        except ValueError:
            raise PeriodError(_("The calendar has no %(day)s.", day=each[:20])) from None
        if not OLDEST <= day < NEVER:
            raise PeriodError(_("The calendar of this house has no %(name)s.", name=each[:20]))
        days.append(day)
    if days[1] < days[0]:
        raise PeriodError(
            _("%(last)s is before %(first)s: exchange them.", first=first[:20], last=last[:20])
        )
    if days[1] - days[0] > LONGEST:
        raise PeriodError(_("No house has so many years in its books."))
    if days[0] == days[1]:
        return day_of(days[0])
    return Period("range", days[0], days[1] + timedelta(days=1))
