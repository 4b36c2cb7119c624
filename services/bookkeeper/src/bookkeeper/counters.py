"""What an energy counter's readings say. Pure: readings in, rises out.

A counter can do more than rise. Readings are cut into runs wherever one does not follow from the
one before (a fall beyond the resolution, or a rise faster than the nameplate allows), and then each
run is judged by what comes around it:

- it goes on where an earlier run ended: what lay between was a dip (or a spike) and never was;
- it has fewer than three readings: suspect, and no energy until two more confirm it;
- it begins near 0: a reset, and what it shows was counted since;
- it begins as far above 0 as the run before ended below a limit of the counter: a wrap;
- anything else: another device, or nonsense that stayed. A new epoch, no energy over the change.

A verdict depends on readings nearby only: see ``anchor_before`` and ``anchor_after``.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import NamedTuple

from bookkeeper.integrate import GAP_PERIODS, MARGIN, Reading, gaps, ordered, period_ms

NORMAL = "normal"
RECOVERED = "recovered"
"""Over a gap longer than three sample periods."""
RESET = "reset"
"""Only what was counted since the reset; what came before it is not known."""
WRAP = "wrap"
EPOCH = "epoch"
"""Nothing is known of the energy between these two readings."""

HEADROOM = 1.2
"""A device may exceed its nameplate by so much."""
CONFIRMED = 3
"""So many readings that follow from each other are believed."""
STRAYS = 2
"""So many are not, when the reading after them contradicts them."""
MEMORY_MS = 1_800_000
"""A counter that shows something else for longer than this does not come back: it has changed."""
ZERO_MS = 16 * 3_600_000
"""But one that shows 0 (a device that sleeps at night) may come back after so long."""
LUMP_MS = 300_000
"""Some devices refresh a counter only so often: a rise may have come about since its last step."""
LONGEST_PERIOD_MS = 3_600_000
RESET_MS = 3_600_000
"""After a reset a counter can show what was counted since, but no more than of so long."""
DAY_MS = 86_400_000
WRAP_MS = 3_600_000
"""A limit nobody told us is only believed across a pause no longer than this."""
WRAPS_KWH = (
    *(10.0**digits for digits in range(4, 9)),
    *(2.0**bits * step for bits in (16, 24, 32) for step in (1.0, 0.1, 0.01, 0.001)),
)
"""Where counters start again at 0: so many decimal digits, so many bits of so many kWh."""
DEPTH = 50
"""So many runs are looked through for one that goes on."""


class Rise(NamedTuple):
    """What a counter counted from one time to another."""

    start: int
    end: int
    wh: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a counter can do."""

    max_power_w: float
    """Nameplate: it cannot rise faster, with 20 % to spare."""
    resolution_kwh: float = 0.1
    """Smallest step; falls up to this are ignored."""
    wraps_at_kwh: tuple[float, ...] = ()
    """Where it starts again at 0, if known; the usual limits are recognised without."""
    daily: bool = False
    """Starts at 0 every day, by the device's own clock."""

    @property
    def slack(self) -> float:
        """What counts as no difference [kWh]."""
        return self.resolution_kwh * 1.001 + 1e-6

    @property
    def rate(self) -> float:
        """Most it can rise in a millisecond [kWh]."""
        return self.max_power_w * HEADROOM / 3.6e9

    def follows(self, ts: int, kwh: float, later: int, higher: float) -> bool:
        """Whether the second reading can come after the first."""
        return -self.slack <= higher - kwh <= self.rate * (later - ts) + self.slack


@dataclass(slots=True)
class Run:
    """Readings that follow from each other, as ranges of indices (last one included)."""

    parts: list[tuple[int, int]]
    zero: bool
    """Nothing but 0."""
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = sum(last - first + 1 for first, last in self.parts)

    @property
    def first(self) -> int:
        """Index of the first reading."""
        return self.parts[0][0]

    @property
    def last(self) -> int:
        """Index of the last reading."""
        return self.parts[-1][1]

    @property
    def believed(self) -> bool:
        """Whether there are enough readings."""
        return self.count >= CONFIRMED

    def tail(self, strays: int) -> int | None:
        """Index of the last reading but ``strays``; None when there are not so many."""
        for first, last in reversed(self.parts):
            if last - strays >= first:
                return last - strays
            strays -= last - first + 1
        return None

    def cut_tail(self, index: int) -> None:
        """Forget the readings after ``index``."""
        while self.parts[-1][0] > index:
            self.parts.pop()
        self.parts[-1] = (self.parts[-1][0], index)

    def join(self, other: "Run", skip: int) -> None:
        """Go on with the readings of another, but for its first ones."""
        first, last = other.parts[0]
        self.parts += [(first + skip, last), *other.parts[1:]]
        self.zero = self.zero and other.zero
        self.count = sum(last - first + 1 for first, last in self.parts)


class Track:
    """One counter's readings, cut into runs."""

    def __init__(self, readings: Sequence[Reading], rules: Rules) -> None:
        self.rules = rules
        self.times, self.values = ordered(readings)
        if self.values and min(self.values) < 0:
            self.times, self.values = ordered([r for r in readings if r[1] >= 0])
        self.runs = list(self._runs())

    def _runs(self) -> Iterator[Run]:
        times, values, rules = self.times, self.values, self.rules
        low, high, rate = -rules.slack, rules.slack, rules.rate
        steps = zip(map(sub, values[1:], values), map(sub, times[1:], times), strict=False)
        breaks = [
            index
            for index, (step, pause) in enumerate(steps, 1)
            if not low <= step <= rate * pause + high and not self._lump(index)
        ]
        for first, end in zip([0, *breaks], [*breaks, len(times)], strict=True):
            if first < end:
                yield Run([(first, end - 1)], max(values[first:end]) == 0.0)

    def _lump(self, index: int) -> bool:
        """Whether the rise to ``index`` can have come about since the counter last moved."""
        times, values = self.times, self.values
        shown = index - 1
        while (
            shown > 0
            and values[shown - 1] == values[index - 1]
            and times[index - 1] - times[shown - 1] <= LUMP_MS
        ):
            shown -= 1
        return self.rules.follows(times[shown], values[shown], times[index], values[index])

    def _joins(self, before: Run, run: Run) -> tuple[int, int] | None:
        """Where ``before`` ends and how many readings of ``run`` to skip, if it goes on there."""
        times, values, follows = self.times, self.values, self.rules.follows

        def fits(left: int, right: int) -> bool:
            return follows(times[left], values[left], times[right], values[right])

        if fits(before.last, run.first):
            return before.last, 0
        if values[run.first] >= values[before.last] or run.zero:
            return None
        if values[run.first] > self.rules.slack:
            for strays in range(1, STRAYS + 1):
                tail = before.tail(strays)
                if tail is not None and fits(tail, run.first):
                    return tail, 0
        first, last = run.parts[0]
        for skip in range(1, min(STRAYS, last - first) + 1):
            if fits(before.last, first + skip):
                return before.last, skip
        return None

    def epochs(self) -> list[Run]:
        """The runs that stand, dips and suspects removed."""
        times = self.times
        stack: list[Run] = []
        for raw in self.runs:
            run = Run(list(raw.parts), raw.zero)
            for depth in range(1, min(len(stack), DEPTH) + 1):
                before = stack[-depth]
                joint = self._joins(before, run)
                if joint:
                    del stack[len(stack) - depth + 1 :]
                    before.cut_tail(joint[0])
                    before.join(run, joint[1])
                    break
                pause = times[run.first] - times[stack[-depth].first]
                if before.believed and pause > (ZERO_MS if before.zero else MEMORY_MS):
                    stack.append(run)
                    break
            else:
                stack.append(run)
        return [run for run in stack if run.believed] or stack[:1]

    def rises(self) -> list[Rise]:
        """What was counted, in order of time, without overlaps."""
        found: list[Rise] = []
        paused = bytearray(len(self.times))
        for index in gaps(self.times, LONGEST_PERIOD_MS):
            paused[index] = 1
        before: Run | None = None
        for run in self.epochs():
            if before is not None:
                found.append(self._change(before.last, run.first))
            self._within(run, paused, found)
            before = run
        return found

    def _pause(self, left: int, right: int) -> bool:
        """Whether a gap lies between two readings."""
        period = period_ms(self.times, left, LONGEST_PERIOD_MS)
        return self.times[right] - self.times[left] > GAP_PERIODS * period

    def _change(self, left: int, right: int) -> Rise:
        """From the end of an epoch to the begin of the next."""
        rules = self.rules
        start, end = self.times[left], self.times[right]
        old, new = self.values[left], self.values[right]
        pause = end - start
        if new >= old:
            return Rise(start, end, 0.0, EPOCH)
        most = rules.rate * pause + rules.slack
        limits = rules.wraps_at_kwh
        if pause <= WRAP_MS and not rules.daily:
            limits += WRAPS_KWH
        for limit in limits:
            if old < limit + rules.slack and limit - old + new <= most:
                return Rise(start, end, max(0.0, limit - old + new) * 1000, WRAP)
        longest = DAY_MS if rules.daily else RESET_MS
        if new <= rules.rate * min(pause, longest) + rules.slack:
            return Rise(start, end, new * 1000, RESET)
        return Rise(start, end, 0.0, EPOCH)

    def _within(self, run: Run, paused: bytearray, found: list[Rise]) -> None:
        """What one run counted: only what is above the highest of the half hour before."""
        times: list[int] = []
        values: list[float] = []
        after_pause = bytearray()
        before: int | None = None
        for first, end in run.parts:
            joint = before is not None and self._pause(before, first)
            times += self.times[first : end + 1]
            values += self.values[first : end + 1]
            after_pause.append(joint)
            after_pause += paused[first:end]
            before = end
        level, level_at, flat = values[0], 0, times[0]
        last = flat
        for index, (ts, value, pause) in enumerate(zip(times, values, after_pause, strict=True)):
            if level_at < index - 1 and last - times[level_at] > MEMORY_MS:
                since = bisect_left(times, last - MEMORY_MS, 0, index)
                level = max(values[since:index])
                level_at = index - 1 - values[since:index][::-1].index(level)
            if value > level or pause:
                if flat < last:
                    found.append(Rise(flat, last, 0.0, NORMAL))
                wh = (value - level) * 1000 if value > level else 0.0
                found.append(Rise(last, ts, wh, RECOVERED if pause else NORMAL))
                flat = ts
            if value >= level:
                level, level_at = value, index
            last = ts
        if flat < last:
            found.append(Rise(flat, last, 0.0, NORMAL))

    def anchor_before(self, ts: int) -> int | None:
        """A time before ``ts`` up to which no reading from ``ts`` on has a say.

        And what was counted after it does not depend on readings before those given here. There
        a run is so long that nothing can make it a dip any more.

        Returns:
            ms UTC; None when these readings do not reach back far enough to tell.
        """
        times, values = self.times, self.values
        if not times:
            return None
        begin = bisect_left(times, times[0] + LUMP_MS)
        latest = bisect_left(times, ts) - 1
        for run in reversed(self.runs):
            first = max(run.first, begin)
            last = min(run.last, latest) - MARGIN
            if last - first <= MARGIN:
                continue
            span = times[last] - times[first]
            if span >= ZERO_MS or (span >= MEMORY_MS and max(values[first : last + 1]) > 0):
                return times[last]
        return None

    def anchor_after(self, ts: int) -> int | None:
        """A time from ``ts`` on after which no reading before ``ts`` has a say.

        And what was counted before it does not depend on readings after those given here.
        """
        times, values = self.times, self.values
        earliest = bisect_left(times, ts + LUMP_MS)
        for run in self.runs:
            first, last = max(run.first, earliest), run.last - MARGIN
            if last - first <= MARGIN:
                continue
            sure = max(first + MARGIN + 1, bisect_left(times, times[first] + MEMORY_MS))
            if sure <= last and max(values[first : sure + 1]) == 0.0:
                moved = next((i for i in range(sure, last + 1) if values[i]), last + 1)
                sure = min(moved, max(sure, bisect_left(times, times[first] + ZERO_MS)))
            if sure <= last:
                return times[sure]
        return None


def rises(readings: Sequence[Reading], rules: Rules) -> list[Rise]:
    """What a counter counted, in order of time, without overlaps.

    Args:
        readings: (ms UTC, kWh) in any order; a replay changes nothing.
        rules: what this counter can do; ``daily`` for one that starts again each day.
    """
    return Track(readings, rules).rises()
