"""Energy as the integral of power. Pure: samples in, Wh out.

Trapezoids between neighbouring samples, never over a gap: a pause longer than three sample periods
is unknown and adds nothing. The sample period is the median of the seven intervals around a place,
so it follows a device whose interval changes, and depends on nothing farther away than that.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from operator import lt, sub

Reading = tuple[int, float]
"""Time [ms UTC] and value."""

BUCKET_MS = 300_000
GAP_PERIODS = 3
"""A pause longer than so many sample periods is a gap."""
MAX_PERIOD_MS = 600_000
"""Slower samples of power say nothing of the energy between them."""
NEIGHBOURS = 3
"""The period is the median of an interval and so many on either side."""
MARGIN = NEIGHBOURS + 2
"""Readings on either side of a place on which its integral depends."""
MS_PER_H = 3_600_000


def bucket_of(ts: int) -> int:
    """Start of the 5-minute bucket that holds ``ts`` [ms UTC]."""
    return ts - ts % BUCKET_MS


def ordered(readings: Sequence[Reading]) -> tuple[list[int], list[float]]:
    """Times and values, rising in time, each time once, numbers only.

    Of two readings with one time the first that came counts: a replay changes nothing.
    """
    times = [ts for ts, _ in readings]
    values = [value for _, value in readings]
    if all(map(lt, times, times[1:])) and all(map(isfinite, values)):
        return times, values
    first: dict[int, float] = {}
    for ts, value in readings:
        if isfinite(value):
            first.setdefault(ts, value)
    times = sorted(first)
    return times, [first[ts] for ts in times]


def period_ms(times: Sequence[int], index: int, longest: int = MAX_PERIOD_MS) -> int:
    """Sample period around the interval from ``times[index]`` to the next [ms]."""
    low = max(0, index - NEIGHBOURS)
    around = times[low : index + NEIGHBOURS + 2]
    intervals = sorted(after - before for before, after in pairwise(around))
    return min(longest, intervals[(len(intervals) - 1) // 2])


def gaps(times: Sequence[int], longest: int = MAX_PERIOD_MS) -> list[int]:
    """Indices of the intervals (from ``times[i]`` to the next) that are gaps."""
    intervals = list(map(sub, times[1:], times))
    if not intervals:
        return []
    surely = GAP_PERIODS * min(longest, min(intervals))
    return [
        index
        for index, interval in enumerate(intervals)
        if interval > surely and interval > GAP_PERIODS * period_ms(times, index, longest)
    ]


class Curve:
    """The positive (or negative) part of a power over time, ready to be integrated.

    Args:
        readings: (ms UTC, power [W]) in any order.
        sign: +1 integrates what is above zero, -1 what is below (and counts it positive).
    """

    def __init__(self, readings: Sequence[Reading], sign: int = 1) -> None:
        source, values = ordered(readings)
        self.samples = source
        pauses = {source[index] for index in gaps(source)}
        times: list[float] = []
        powers: list[float] = []
        energy: list[float] = []  # W·ms up to each point
        known: list[float] = []  # ms up to each point
        self._pauses: list[float] = []  # where a gap begins, rising
        total = covered = 0.0
        before_t, before_p = 0, 0.0
        for now_t, value in zip(source, values, strict=True):
            now_p = value * sign
            if times:
                if before_t in pauses:
                    self._pauses.append(before_t)
                    times.append(before_t)  # nothing runs from here ...
                    powers.append(0.0)
                    energy.append(total)
                    known.append(covered)
                else:
                    span = now_t - before_t
                    if before_p >= 0.0 <= now_p:
                        total += (before_p + now_p) * span / 2
                    elif before_p > 0.0 or now_p > 0.0:  # through zero on the way
                        zero = span * before_p / (before_p - now_p)
                        above = before_p * zero if before_p > 0 else now_p * (span - zero)
                        total += above / 2
                        times.append(before_t + zero)
                        powers.append(0.0)
                        energy.append(total if before_p > 0 else total - above / 2)
                        known.append(covered + zero)
                    covered += span
            times.append(now_t)
            powers.append(now_p if now_p > 0.0 else 0.0)
            energy.append(total)
            known.append(covered)
            before_t, before_p = now_t, now_p
        self._times, self._powers, self._energy, self._known = times, powers, energy, known

    def _up_to(self, ts: float) -> tuple[float, float]:
        """W·ms and ms from the first sample to ``ts``."""
        index = bisect_right(self._times, ts) - 1
        if index < 0:
            return 0.0, 0.0
        energy, known = self._energy[index], self._known[index]
        at = self._times[index]
        if at == ts or index + 1 == len(self._times):
            return energy, known
        run = self._known[index + 1] - known
        if run == 0.0:
            return energy, known
        passed = ts - at
        power = self._powers[index]
        slope = (self._powers[index + 1] - power) / run
        return energy + passed * (power + slope * passed / 2), known + passed

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Energy [Wh] and covered time [s] from ``start`` to ``end`` [ms UTC]."""
        energy_0, known_0 = self._up_to(start)
        energy_1, known_1 = self._up_to(end)
        return (energy_1 - energy_0) / MS_PER_H, (known_1 - known_0) / 1000

    def by_bucket(self, start: int, end: int) -> Iterator[tuple[int, int, float, float]]:
        """(from, to, Wh, covered s) of each piece of [start, end) cut at the bucket borders."""
        at, (energy, known) = start, self._up_to(start)
        while at < end:
            to = min(end, at - at % BUCKET_MS + BUCKET_MS)
            energy_1, known_1 = self._up_to(to)
            yield at, to, (energy_1 - energy) / MS_PER_H, (known_1 - known) / 1000
            at, energy, known = to, energy_1, known_1

    def holes(self, start: int, end: int) -> list[tuple[int, int]]:
        """The stretches of [start, end) that no two samples cover."""
        samples = self.samples
        if len(samples) < 2:
            return [(start, end)] if start < end else []
        found = [(start, min(end, samples[0]))]
        index = max(0, bisect_right(self._pauses, start) - 1)
        for pause in self._pauses[index:]:
            if pause >= end:
                break
            after = samples[bisect_right(samples, pause)]
            found.append((max(start, int(pause)), min(end, after)))
        found.append((max(start, samples[-1]), end))
        return [(low, high) for low, high in found if low < high]


@dataclass(frozen=True, slots=True)
class Part:
    """What the power of one bucket adds up to."""

    ts: int
    positive_wh: float
    negative_wh: float
    """Counted positive, too."""
    covered_s: float


def integrate(readings: Sequence[Reading]) -> list[Part]:
    """Energy of each 5-minute bucket of which something is known, both signs apart.

    Args:
        readings: (ms UTC, power [W]); order and repetition do not matter.
    """
    above, below = Curve(readings), Curve(readings, -1)
    if not above.samples:
        return []
    start, end = bucket_of(above.samples[0]), bucket_of(above.samples[-1]) + BUCKET_MS
    return [
        Part(ts, positive, negative, covered)
        for (ts, _, positive, covered), (_, _, negative, _) in zip(
            above.by_bucket(start, end), below.by_bucket(start, end), strict=True
        )
        if covered > 0
    ]
