"""The axis of time of charts: marks at full hours, days or months of the site's clock. Pure."""

from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from . import text

QUARTER_S = 900
HOURS = (1, 2, 3, 6, 12)
MOST = 9
"""So many marks at most; a narrow screen takes every second one."""


def offsets(start: int, end: int, zone: tzinfo) -> list[list[int]]:
    """From when on which offset of the zone holds, as pairs of seconds.

    Args:
        start: of the axis [ms].
        end: of the axis [ms].
        zone: the site's.
    """
    found: list[list[int]] = []
    days = (end - start) / 86_400_000
    step = 86_400 if days > 100 else 3600 if days > 5 else QUARTER_S
    for second in range(start // 1000, end // 1000 + 1, step):
        moment = datetime.fromtimestamp(second, zone)
        offset = round((moment.utcoffset() or timedelta()).total_seconds())
        if not found or found[-1][1] != offset:
            found.append([second, offset])
    return found


def ticks(start: int, end: int, zone: tzinfo) -> list[list[Any]]:
    """Marks of the axis: pairs of second and text."""
    hours = (end - start) / 3_600_000
    if hours > 26:
        return _days(start, end, zone, hours / 24)
    every = next((step for step in HOURS if hours / step <= MOST), HOURS[-1])
    found: list[list[Any]] = []
    for second in range(-(-start // 900_000) * QUARTER_S, end // 1000 + 1, QUARTER_S):
        moment = datetime.fromtimestamp(second, zone)
        if moment.minute == 0 and moment.hour % every == 0:
            last = second * 1000 == end and moment.hour == 0
            form = "24" if last else f"{moment:%H}" if hours > 20 else f"{moment:%H:%M}"
            if not found or found[-1][1] != form:  # an hour that comes twice is marked once
                found.append([second, form])
    return found


def _days(start: int, end: int, zone: tzinfo, days: float) -> list[list[Any]]:
    if days > 400:
        months = max(1, round(days / 30 / MOST))
        form, every = "yMMM", 0
    elif days > 80:
        months, form, every = 1, "MMM", 0
    else:
        months, form, every = 0, "MMMd" if days > 7 else "EEEd", max(1, round(days / MOST))
    found: list[list[Any]] = []
    day = datetime.fromtimestamp(start / 1000, zone).date()
    first = day
    while True:
        begin = datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
        if begin * 1000 > end:
            return found
        fits = (
            (day - first).days % every == 0
            if every
            else day.day == 1 and (day.year * 12 + day.month - 1) % months == 0
        )
        if fits and begin * 1000 >= start:
            found.append([round(begin), text.day(date(day.year, day.month, day.day), form)])
        day += timedelta(days=1)


def axis(start: int, end: int, zone: tzinfo) -> dict[str, Any]:
    """``from``, ``to``, ``offsets`` and ``ticks`` of a chart of [start, end) [ms]."""
    return {
        "from": start // 1000,
        "to": end // 1000,
        "offsets": offsets(start, end, zone),
        "ticks": ticks(start, end, zone),
    }
