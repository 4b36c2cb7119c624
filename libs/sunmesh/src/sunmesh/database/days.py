"""The site's own days: from local midnight to local midnight, 23 to 25 hours. Pure."""

from datetime import date, datetime, timedelta, tzinfo


def midnight(day: date, zone: tzinfo) -> int:
    """When a local day begins [ms UTC]: the first time where midnight comes twice.

    Where the clocks skip midnight, it is the moment of the change.
    """
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def local_day(ms: int, zone: tzinfo) -> date:
    """The site's day that ``ms`` falls into."""
    return datetime.fromtimestamp(ms / 1000, zone).date()


def bounds(day: date, zone: tzinfo) -> tuple[int, int]:
    """When a local day begins, and when the next [ms]."""
    return midnight(day, zone), midnight(day + timedelta(days=1), zone)


def next_month(day: date) -> date:
    """The first day of the month after."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def days_between(start: int, end: int, zone: tzinfo) -> list[tuple[date, int, int]]:
    """Every local day that [start, end) touches, with its bounds [ms]."""
    found: list[tuple[date, int, int]] = []
    day = local_day(start, zone)
    while True:
        begun, ended = bounds(day, zone)
        if begun >= end:
            return found
        if ended > start:
            found.append((day, begun, ended))
        day += timedelta(days=1)
