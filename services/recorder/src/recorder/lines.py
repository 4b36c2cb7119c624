"""The line through the samples of a series, cut into minutes; pure.

Minutes without a sample have no row of their own: the row before them tells of them too, up to the
next quarter of an hour, which begins a row again. So rows are no more than samples, but for one a
quarter of an hour, and the mean of each times what it covers is the integral.

Two samples are joined when they are at most three periods apart, and never over
:data:`MAX_PAUSE_MS`. The period at a pause is the second smallest of the two pauses before it and
the two after it; a pause over :data:`MAX_PAUSE_MS` ends the look in that direction, and what is not
known does not count against joining. So one late reading, one extra reading and the borders of an
outage do not matter, a new polling interval holds from its second pause on, and the answer depends
on nothing but the samples around.
"""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice
from operator import add, mul, sub

MINUTE_MS = 60_000

QUARTER_MS = 15 * MINUTE_MS
"""No row tells of more; a whole quarter of an hour, beginning with it."""

MAX_PAUSE_MS = 15 * MINUTE_MS
"""Samples further apart are never joined, however seldom a device is asked."""

PERIODS = 3
"""How many periods a pause may last."""

ENOUGH = 3
"""So many samples on a side say all that matters about the pauses there."""

LIMIT = 1e100
"""Numbers beyond it are no readings, and their sums would overflow: they are in no rollup."""


Bucket = tuple[int, float, float, float, float, int, int]
"""A row of a rollup: ts, min, max, mean, last, covered_ms, samples."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Samples of one series: times, rising [ms from ``start``], and values."""

    start: int
    times: list[float]
    values: list[float]

    @classmethod
    def sort(cls, start: int, times: list[float], values: list[float]) -> "Curve":
        """Samples that may come in any order."""
        if sorted(times) != times:
            pairs = sorted(zip(times, values, strict=True))
            times, values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return cls(start, times, values)

    def count(self, start: int, end: int) -> int:
        """How many samples lie in [start, end)."""
        first = bisect_left(self.times, start - self.start)
        return bisect_left(self.times, end - self.start, first) - first


def joined(pauses: list[float]) -> list[bool]:
    """Which pauses the line runs through; ``pauses`` follow each other."""
    if not pauses:
        return []
    sure = min(MAX_PAUSE_MS, PERIODS * min(pauses))
    if max(pauses) <= sure:
        return [True] * len(pauses)
    return [pause <= sure or _is_joined(pauses, at) for at, pause in enumerate(pauses)]


def _is_joined(pauses: list[float], at: int) -> bool:
    pause = pauses[at]
    if pause > MAX_PAUSE_MS:
        return False
    around: list[float] = []
    for side in (pauses[at - 1 :: -1][:2] if at else [], pauses[at + 1 : at + 3]):
        for near in side:
            if near > MAX_PAUSE_MS:
                break
            around.append(near)
    around.sort()
    return len(around) < 2 or pause <= PERIODS * around[1]


def minutes(curve: Curve, start: int, end: int) -> list[Bucket]:
    """The minutes in [start, end) that hold a sample or a part of the line.

    A row tells of its minute and of those after it that have no row; see the module.

    Args:
        curve: the samples there, and as many around as tell which are joined.
        start: a whole minute [ms].
        end: another one.
    """
    times, values = curve.times, curve.values
    pauses = list(map(sub, islice(times, 1, None), times))
    holds = joined(pauses)
    # twice the area under each part of the line, and how long that is
    areas = list(map(mul, map(add, values, islice(values, 1, None)), pauses))
    if not all(holds):
        areas = [area if hold else 0.0 for area, hold in zip(areas, holds, strict=True)]
        pauses = [pause if hold else 0.0 for pause, hold in zip(pauses, holds, strict=True)]
    found: list[Bucket] = []
    count = len(times)
    begin, end = start - curve.start, end - curve.start
    at = bisect_left(times, begin)
    right = _on(curve, holds, at, begin)
    edge = begin
    while edge < end:
        ts, first, left = edge, at, right
        edge = ts + MINUTE_MS
        at = bisect_left(times, edge, first)
        if first == at:
            edge = min(end, ts + QUARTER_MS - (curve.start + ts) % QUARTER_MS)
            if at < count:
                edge = min(edge, int(times[at] - (times[at] - begin) % MINUTE_MS))
            right = _on(curve, holds, at, edge) if at < count else None
            if left is not None and right is not None:
                _run(found, curve.start + ts, edge - ts, (left, right), is_first=ts == begin)
            continue
        right = _on(curve, holds, at, edge) if at < count else None
        inside = values[first:at]
        last = inside[-1]
        area, covered = sum(areas[first : at - 1]), sum(pauses[first : at - 1])
        if left is not None:
            part = times[first] - ts
            area += (left + inside[0]) * part
            covered += part
        if right is not None:
            part = edge - times[at - 1]
            area += (last + right) * part
            covered += part
        mean = area / 2 / covered if covered else sum(inside) / (at - first)
        row = (curve.start + ts, min(inside), max(inside), mean, last, int(covered), at - first)
        found.append(row)
    return found


def _run(
    found: list[Bucket], ts: int, length: int, ends: tuple[float, float], *, is_first: bool
) -> None:
    """Minutes without a sample, through which the line runs: a part of the row before, or a row."""
    middle = (ends[0] + ends[1]) / 2
    if is_first or not ts % QUARTER_MS:
        found.append((ts, min(ends), max(ends), middle, ends[1], length, 0))
        return
    begun, low, high, mean, last, covered, samples = found[-1]
    whole = covered + length
    mean += (middle - mean) * length / whole
    if not samples:
        low, high, last = min(low, *ends), max(high, *ends), ends[1]
    found[-1] = (begun, low, high, mean, last, whole, samples)


def _on(curve: Curve, holds: list[bool], at: int, time: int) -> float | None:
    """What the line into the sample number ``at`` says at ``time``; None where there is none."""
    times, values = curve.times, curve.values
    if not 0 < at < len(times) or not holds[at - 1]:
        return None
    begun, value = times[at - 1], values[at - 1]
    return value + (values[at] - value) * (time - begun) / (times[at] - begun)
