"""Local days and hours of a site, and what a day's sums say. Pure.

Times are ms UTC; a zone only decides where a day begins. A day has 23, 24 or 25 hours (23.5 or
24.5 on Lord Howe Island), and begins at any multiple of a quarter of an hour of UTC.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000


def midnight(day: date, zone: ZoneInfo) -> int:
    """When the local ``day`` begins [ms UTC]; the first time where midnight comes twice.

    Where the clocks skip midnight, it is the moment of the change.
    """
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000


def day_of(ts: int, zone: ZoneInfo) -> date:
    """The local day that holds ``ts`` [ms UTC]."""
    return datetime.fromtimestamp(ts / 1000, zone).date()


def bounds(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Start and end (not included) of a local day [ms UTC]."""
    return midnight(day, zone), midnight(day + timedelta(days=1), zone)


def days_between(start: int, end: int, zone: ZoneInfo) -> list[tuple[date, int, int]]:
    """Every local day that [start, end) touches: (day, its start, its end)."""
    found: list[tuple[date, int, int]] = []
    day = day_of(start, zone) - timedelta(days=1)
    while True:
        low, high = bounds(day, zone)
        if low >= end:
            return found
        if high > max(start, low):
            found.append((day, low, high))
        day += timedelta(days=1)


def hours_of(day: date, zone: ZoneInfo) -> list[tuple[int, int]]:
    """The hours of a local day (start, end) [ms UTC]; together they are exactly the day.

    They follow the wall clock: cut where it shows a full hour, so the hour of a 30-minute clock
    change is half an hour or an hour and a half long.
    """
    start, end = bounds(day, zone)
    cuts = [start]
    at = start
    while at < end:
        at += HOUR_MS // 4
        wall = datetime.fromtimestamp(at / 1000, zone)
        if wall.minute == 0 and at < end:
            cuts.append(at)
    return list(zip(cuts, [*cuts[1:], end], strict=True))


def total(buckets: Mapping[int, float], start: int, end: int) -> float | None:
    """Sum of the values whose time is in [start, end); None when there is none."""
    inside = [value for ts, value in buckets.items() if start <= ts < end]
    return sum(inside) if inside else None


Sums = Mapping[str, float]
"""Wh by flow; a flow of which nothing is known is absent."""

GAINS = ("pv", "grid_import", "generator", "battery_discharge")
USES = ("load", "grid_export", "battery_charge")


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole))


def self_consumption(sums: Sums) -> float | None:
    """Share of the PV energy that was used in the house, 0 to 1; None when not knowable.

    A house without a grid sells nothing: give it ``grid_export`` 0.
    """
    pv, export = sums.get("pv"), sums.get("grid_export")
    if pv is None or export is None or pv <= 0:
        return None
    return _share(pv - export, pv)


def autarky(sums: Sums) -> float | None:
    """Share of the load that did not come from grid or generator, 0 to 1; None when not knowable.

    What charges a battery from the grid counts as bought, at the time it was bought.
    """
    load, bought = sums.get("load"), sums.get("grid_import")
    if load is None or bought is None or load <= 0:
        return None
    return _share(load - bought - sums.get("generator", 0.0), load)


def losses(sums: Sums, absent: frozenset[str] = frozenset()) -> float | None:
    """Energy that went in and did not come out: inverter, cables, battery [Wh].

    Args:
        sums: Wh by flow.
        absent: flows this house does not have; any other that lacks makes the answer unknowable.

    Returns:
        Wh, never below 0; None when a flow is not known.
    """
    wanted = {*GAINS, *USES} - absent
    if "generator" not in sums:
        wanted.discard("generator")
    if any(flow not in sums for flow in wanted):
        return None
    gain = sum(sums.get(flow, 0.0) for flow in GAINS)
    use = sum(sums.get(flow, 0.0) for flow in USES)
    return max(0.0, gain - use)
