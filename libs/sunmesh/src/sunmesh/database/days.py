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


def days_between(start: int, end: int, zone: tzinfo) -> list[tuple[int, int]]:
    """Beginning and end of every local day that [start, end) touches [ms]."""
    day = local_day(start, zone)
    found: list[tuple[int, int]] = []
    while (begun := midnight(day, zone)) < end:
        day += timedelta(days=1)
        if (ended := midnight(day, zone)) > start:
            found.append((begun, ended))
    return found
