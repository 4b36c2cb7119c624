"""A day's curves stacked: where the house's power came from, where the sun's power went. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sunmesh.house import Roles

from .house import grid_estimate


@dataclass(frozen=True, slots=True)
class Bucket:
    """One stretch of one series.

    Attributes:
        start: of the stretch [ms].
        mean: of the samples in it.
        positive: integral where the curve is above zero, by trapezoids [value · ms].
        negative: integral where it is below, as a positive number.
        covered: how much of the stretch the trapezoids cover [ms].
        first: time of the first sample in it [ms].
        last: time of the last one.
    """

    start: int
    mean: float
    positive: float
    negative: float
    covered: float
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Curve:
    """One series over a day; ``gap_ms`` is the pause from which on nothing is known."""

    buckets: Sequence[Bucket]
    gap_ms: int


@dataclass(frozen=True, slots=True)
class Point:
    """The house in one stretch of the day [W, %]; all None = a gap begins here."""

    ms: int
    pv: float | None = None
    load: float | None = None
    battery: float | None = None
    grid: float | None = None
    soc: float | None = None
    covered_s: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything is known."""
        return any(v is not None for v in (self.pv, self.load, self.battery, self.soc))


@dataclass(frozen=True, slots=True)
class Share:
    """One stretch split up [W]. Upper half: what fed the house; lower half: where the sun went.

    ``unmeasured`` is what the house drew and no meter saw come in; ``own_use`` is what the sun gave
    and nobody saw arrive: conversion and the inverter itself.
    """

    sun_to_house: float
    battery_to_house: float
    grid_to_house: float
    unmeasured: float
    sun_to_battery: float
    sun_to_grid: float
    own_use: float


def fill(curve: Curve, width_ms: int) -> dict[int, float]:
    """Means by start of stretch; short pauses inside the curve are bridged by a straight line.

    A stretch stays empty where the samples around it are further apart than the curve's gap.
    """
    result: dict[int, float] = {}
    before: Bucket | None = None
    for bucket in curve.buckets:
        if before is not None and bucket.first - before.last <= curve.gap_ms:
            steps = (bucket.start - before.start) // width_ms
            for step in range(1, steps):
                share = step / steps
                result[before.start + step * width_ms] = (
                    before.mean * (1 - share) + bucket.mean * share
                )
        result[bucket.start] = bucket.mean
        before = bucket
    if before is not None:  # which may reach over stretches that have no bucket of their own
        for start in range(before.start + width_ms, before.last - width_ms + 1, width_ms):
            result[start] = before.mean
    return result


def _sum(parts: Sequence[dict[int, float]], start: int, *, every: bool = True) -> float | None:
    """The parts of one stretch added; None when one (``every``) or all are missing."""
    known = [part[start] for part in parts if start in part]
    if not known or (every and len(known) < len(parts)):
        return None
    return sum(known)


def points(
    roles: Roles,
    curves: dict[tuple[str, str], Curve],
    modes: Sequence[tuple[int, str]],
    width_ms: int,
) -> list[Point]:
    """The day of the whole house; a gap is one empty point, so that charts draw it as one.

    Args:
        roles: which curves make up the house.
        curves: by (device, name); those that have no sample in the day may be missing.
        modes: (ms, mode) of the inverter, rising, each valid until the next.
        width_ms: of the stretches.
    """
    filled = {pair: fill(curve, width_ms) for pair, curve in curves.items()}

    def of(pairs: Iterable[tuple[str, str]]) -> list[dict[int, float]]:
        return [filled.get(pair, {}) for pair in pairs]

    pv, load, battery, grid = of(roles.pv), of(roles.load), of(roles.battery), of(roles.grid)
    soc = filled.get(roles.soc, {}) if roles.soc else {}
    volts = filled.get(roles.grid_voltage, {}) if roles.grid_voltage else {}
    parts = [
        tuple(
            filled.get((device, name), {})
            for name in (
                "battery_voltage_v",
                "battery_charge_current_a",
                "battery_discharge_current_a",
            )
        )
        for device in roles.battery_parts
    ]
    covered: dict[int, float] = {}
    for pair in (*roles.load, *roles.pv) or roles.battery:
        if pair in curves:
            for bucket in curves[pair].buckets:
                covered[bucket.start] = max(covered.get(bucket.start, 0.0), bucket.covered / 1000)
            break
    starts = sorted({start for values in filled.values() for start in values})
    result: list[Point] = []
    position, mode = 0, None
    for start in starts:
        while position < len(modes) and modes[position][0] < start + width_ms:
            mode = modes[position][1]
            position += 1
        battery_w = _sum(battery, start)
        if parts and all(start in part for triple in parts for part in triple):
            battery_w = sum(v[start] * (out[start] - into[start]) for v, into, out in parts)
        pv_w, load_w = _sum(pv, start), _sum(load, start)
        grid_w = _sum(grid, start)
        if not roles.grid and roles.grid_voltage and roles.load:
            absent = start in volts and volts[start] < 20
            grid_w = 0.0 if absent else grid_estimate(load_w, pv_w, battery_w, mode)
        point = Point(
            start,
            pv_w,
            load_w,
            battery_w,
            grid_w if load_w is not None or roles.grid else None,
            soc.get(start),
            covered.get(start, 0.0),
        )
        if not point.known:
            continue
        if result and start - result[-1].ms > width_ms:
            result.append(Point(result[-1].ms + width_ms))
        result.append(point)
    return result


def split(point: Point) -> Share | None:
    """Who fed whom in one stretch: the sun feeds the house first, then the battery, then the grid.

    Returns:
        None where the house or the sun is not known.
    """
    if point.load is None and point.pv is None:
        return None
    pv, load = max(point.pv or 0.0, 0.0), max(point.load or 0.0, 0.0)
    battery, grid = point.battery or 0.0, point.grid or 0.0
    sun_to_house = min(pv, load)
    left = load - sun_to_house
    battery_to_house = min(max(battery, 0.0), left)
    left -= battery_to_house
    grid_to_house = min(max(grid, 0.0), left)
    spare = pv - sun_to_house
    sun_to_battery = min(max(-battery, 0.0), spare)
    spare -= sun_to_battery
    sun_to_grid = min(max(-grid, 0.0), spare)
    return Share(
        sun_to_house,
        battery_to_house,
        grid_to_house,
        left - grid_to_house,
        sun_to_battery,
        sun_to_grid,
        spare - sun_to_grid,
    )


@dataclass(frozen=True, slots=True)
class Stack:
    """The day as the chart draws it: for each time one edge of each area, from the middle outwards.

    ``up`` are sums for sun, battery, grid, unmeasured; ``down`` for house, battery, grid, own use,
    as negative numbers. None = gap.
    """

    ms: list[int]
    up: list[list[float | None]]
    down: list[list[float | None]]
    soc: list[float | None]


def stack(day: Sequence[Point]) -> Stack:
    """``day`` stacked; values are rounded to whole watts."""
    up: list[list[float | None]] = [[], [], [], []]
    down: list[list[float | None]] = [[], [], [], []]
    for point in day:
        share = split(point)
        if share is None:
            for edge in (*up, *down):
                edge.append(None)
            continue
        height = 0.0
        for edge, part in zip(
            up,
            (
                share.sun_to_house,
                share.battery_to_house,
                share.grid_to_house,
                share.unmeasured,
            ),
            strict=True,
        ):
            height += part
            edge.append(round(height))
        depth = 0.0
        for edge, part in zip(
            down,
            (share.sun_to_house, share.sun_to_battery, share.sun_to_grid, share.own_use),
            strict=True,
        ):
            depth -= part
            edge.append(round(depth) or 0)
    return Stack(
        [point.ms for point in day],
        up,
        down,
        [None if point.soc is None else round(point.soc, 1) for point in day],
    )
