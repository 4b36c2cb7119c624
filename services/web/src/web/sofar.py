"""What *Now* compares with: yesterday up to this time of day, and what the panels could give.

Read from the energy books by their index, some hundred rows at most.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, select
from sunmesh.database.tables import BUCKET_MS, energy

from .energy import FLOWS, POINTS
from .stack import Point

DAY_MS = 86_400_000
FULL_PERCENT = 99.5
LEFT_PERCENT = 97.0
"""A battery that was full is so until it shows less than this."""
BEST_OF_DAYS = 10
COMPARED_MS = 3_600_000
"""So long before the battery was full today's sky is judged by."""
SKY_MS = 4 * 3_600_000
"""And so long that holds: afterwards nobody knows whether clouds have come."""
MIN_COMPARED_WH = 20.0
MIN_SHARE = 0.1
MIN_W = 100.0
"""Less than this is no surplus that anybody could use."""


def booked(connection: Connection, start: int, end: int) -> dict[str, float]:
    """What the books have of [start, end), by the flows of :mod:`web.energy` [kWh]."""
    table = energy.c
    rows = connection.execute(
        select(table.flow, func.sum(table.wh))
        .where(table.flow.in_(list(FLOWS.values())), table.ts >= start, table.ts < end)
        .group_by(table.flow)
    )
    names = {name: flow for flow, name in FLOWS.items()}
    return {names[row[0]]: float(row[1]) / 1000 for row in rows}


def summed(points: Sequence[Point], end: int) -> dict[str, float]:
    """The same from a day's points, where there are no books."""
    found: dict[str, float] = {}
    for flow, (part, sign) in POINTS.items():
        known = [
            max(0.0, sign * watts) * point.covered_s
            for point in points
            if point.ms < end and (watts := getattr(point, part)) is not None
        ]
        if known:
            found[flow] = sum(known) / 3_600_000
    return found


def full_since(points: Sequence[Point]) -> int | None:
    """Since when the battery is full [ms]; None when it is not."""
    since: int | None = None
    for point in points:
        if point.soc is None:
            continue
        if point.soc >= FULL_PERCENT:
            since = since or point.ms
        elif point.soc < LEFT_PERCENT:
            since = None
    return since


def best_days(connection: Connection, start: int, end: int) -> dict[int, float]:
    """Energy of the panels by bucket, at this time of day, of the last days [Wh].

    Keys are the buckets of [start, end) today; each has the best of the days before.
    """
    found: dict[int, float] = {}
    for day in range(1, BEST_OF_DAYS + 1):
        back = day * DAY_MS
        rows = connection.execute(
            select(energy.c.ts, energy.c.wh).where(
                energy.c.flow == "pv", energy.c.ts >= start - back, energy.c.ts < end - back
            )
        )
        for ts, wh in rows:
            at = int(ts) + back
            found[at] = max(found.get(at, 0.0), float(wh))
    return found


def could_give(best: Mapping[int, float], points: Sequence[Point], now: int) -> float | None:
    """What the panels could give now, while the battery is full [W].

    The best of the last days at this time, scaled by how today's hour before the battery was full
    compares with the best. None where it is not full, or where nothing can be compared.
    """
    since = full_since(points)
    if since is None or now - since > SKY_MS:
        return None
    low = since // BUCKET_MS * BUCKET_MS
    could = sum(wh for ts, wh in best.items() if low - COMPARED_MS <= ts < low)
    if could < MIN_COMPARED_WH:
        return None
    had = sum(
        point.pv * point.covered_s / 3600
        for point in points
        if point.pv is not None and low - COMPARED_MS <= point.ms < low
    )
    top = best.get(now // BUCKET_MS * BUCKET_MS)
    if top is None:
        return None
    return top * 3_600_000 / BUCKET_MS * min(1.0, had / could)


def surplus(could_w: float | None, pv_w: float | None, grid_w: float | None) -> float | None:
    """What the panels could give besides what they give [W]; None where nothing is left over."""
    if could_w is None or pv_w is None or (grid_w or 0.0) < -MIN_W:
        return None  # what goes to the grid is not curtailed
    left = could_w - pv_w
    return left if left >= max(MIN_W, MIN_SHARE * could_w) else None
