"""The energy of a flow in buckets of five minutes. Pure: readings in, buckets out.

For each device and each moment the best source that knows it counts: the lifetime counter, else the
day counter, else the integral of power. A fine counter is taken at its word, and what it counted
lies between its two readings. A coarse one (Axpert counts whole kWh) cannot say what a bucket had,
but between two of its steps it has counted exactly: there the integral of power shapes the buckets
and the counter fixes their sum, if the two agree; if they do not, the power stands alone.

What a counter rose over a gap is spread over the gap and ``recovered``: the sum is right, the
buckets are a guess. What nobody counted is not booked.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bookkeeper.counters import EPOCH, HEADROOM, NORMAL, RECOVERED, RESET, Rise, Rules, Track
from bookkeeper.integrate import BUCKET_MS, MARGIN, MS_PER_H, Curve, Reading, bucket_of, ordered

COARSE_KWH = 0.02
"""A counter with larger steps cannot tell one bucket from the next."""
LUMP_MS = 900_000
"""A fine counter's rise belongs to the time since its last step, but to no more than this."""
EVEN_MS = 120_000
"""Within less than this it does not matter how the power went."""
STRETCH_MS = 6 * 3_600_000
"""And a coarse one's; pauses do not count."""
AGREE = 0.15
"""Between two steps of a coarse counter power may differ from it by so much of its rise."""
FROZEN_W = 50.0
"""A fine counter that stands still while so much flows is stuck, or 0 for "not supported"."""
FROZEN_STEPS = 5
"""And so many of its steps were due."""
FULL = 0.9
"""Power that covers so much of a stretch knows it all."""
ESTIMATED_MS = 3_600_000
"""Steps of a coarse counter farther apart than this are ``estimated`` where no power is known."""

FLAGS = ("measured", "integrated", "recovered", "estimated")
"""From the strongest to the weakest; the weakest of its parts is a bucket's flag."""
_MEASURED, _INTEGRATED, _RECOVERED, _ESTIMATED = range(4)
SOURCES = ("lifetime", "day_counter", "power")
_LIFETIME, _DAY_COUNTER, _POWER = range(3)
SLOTS = 288


@dataclass(frozen=True, slots=True)
class Counter:
    """The readings of one energy counter."""

    readings: Sequence[Reading]
    """(ms UTC, kWh) in any order."""
    max_power_w: float
    """Nameplate of what it counts: it cannot rise faster."""
    resolution_kwh: float = 0.1
    """Smallest step it shows."""
    wraps_at_kwh: tuple[float, ...] = ()
    """Where it starts again at 0, if known; the usual limits are recognised anyway."""

    @property
    def coarse(self) -> bool:
        """Whether its steps are too large to tell one bucket from the next."""
        return self.resolution_kwh > COARSE_KWH

    def track(self, *, daily: bool) -> Track:
        """Its readings, cut into runs."""
        rules = Rules(self.max_power_w, self.resolution_kwh, self.wraps_at_kwh, daily)
        return Track(self.readings, rules)


@dataclass(frozen=True, slots=True)
class Power:
    """The readings of one power."""

    readings: Sequence[Reading]
    """(ms UTC, W) in any order."""
    sign: int = 1
    """+1: what is above zero feeds the flow; -1: what is below does."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What one device says of one flow; the order is the order of trust."""

    lifetime: Counter | None = None
    day: Counter | None = None
    power: Power | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Energy of one flow in five minutes."""

    flow: str
    ts: int
    """Start [ms UTC]."""
    wh: float
    source: str
    """``lifetime``, ``day_counter``, ``power`` or ``balance``; ``expected`` for ``curtailed``."""
    flag: str
    """``measured``, ``integrated``, ``recovered`` or ``estimated``."""
    covered_s: float
    """Seconds of which the energy is known."""


@dataclass(frozen=True, slots=True)
class Rebooked:
    """What the books of a stretch of time now are: all rows in it are replaced by these."""

    start: int
    end: int
    buckets: list[Bucket]


Shape = Sequence[float]
"""Weight of each 5-minute slot of a UTC day (288), for energy whose time is not known."""

Load = Callable[[int, int, int], Sequence[Feed]]
"""``load(start, end, more)``: every feed of the flow with its readings in [start, end) and, of each
series, the last ``more`` readings before and the first ``more`` readings from ``end`` on."""


class _Ledger:
    """One device's part in the buckets of [start, end)."""

    def __init__(self, start: int, end: int, shape: Shape | None) -> None:
        self.start, self.end, self.shape = start, end, shape
        count = (end - start) // BUCKET_MS
        self.wh = [0.0] * count
        self.rank = bytearray(count)
        self.known = [[0.0] * count for _ in SOURCES]  # ms by source
        self.unknown = bytearray(count)  # source + 1 of energy whose time nobody covered
        self.spans: list[list[int]] = []  # what is taken
        self.open: list[tuple[int, int]] | None = None  # what may be taken; None = everything

    def holes(self) -> list[tuple[int, int]]:
        """What no source has taken yet."""
        at, found = self.start, []
        for low, high in sorted(self.spans):
            if low > at:
                found.append((at, min(low, self.end)))
            at = max(at, high)
            if at >= self.end:
                break
        if at < self.end:
            found.append((at, self.end))
        return found

    def add(self, low: int, high: int, wh: float, rank: int, source: int) -> None:
        """Take [low, high), its energy spread evenly, or by the shape when it is recovered."""
        if self.open is None:
            self._put(low, high, wh, rank, source)
            return
        span = high - low
        index = max(0, bisect_left(self.open, (low, low)) - 1)
        for begin, end in self.open[index:]:
            if begin >= high:
                break
            left, right = max(low, begin), min(high, end)
            if left < right:
                self._put(left, right, wh * (right - left) / span, rank, source)

    def _put(self, low: int, high: int, wh: float, rank: int, source: int) -> None:
        start = self.start
        if high <= start or low >= self.end:
            return
        if self.spans and self.spans[-1][0] <= low <= self.spans[-1][1]:
            if high > self.spans[-1][1]:
                self.spans[-1][1] = high
        else:
            self.spans.append([low, high])
        index = (low - start) // BUCKET_MS
        if low >= start and high <= start + (index + 1) * BUCKET_MS:
            self.wh[index] += wh
            self.known[source][index] += high - low
            if self.rank[index] < rank:
                self.rank[index] = rank
            return
        shape = self.shape if rank >= _RECOVERED else None
        for begin, end, part in _spread(low, high, wh, shape):
            index = (begin - start) // BUCKET_MS
            if 0 <= index < len(self.wh):
                self.wh[index] += part
                self.known[source][index] += end - begin
                if self.rank[index] < rank:
                    self.rank[index] = rank

    def add_unknown(self, low: int, high: int, wh: float, source: int) -> None:
        """Energy of [low, high) that is not all there was: recovered, and covers nothing."""
        for begin, _, part in _spread(low, high, wh, self.shape):
            index = (begin - self.start) // BUCKET_MS
            if 0 <= index < len(self.wh):
                self.wh[index] += part
                self.rank[index] = max(self.rank[index], _RECOVERED)
                self.unknown[index] = source + 1
        if low < self.end and high > self.start:
            self.spans.append([low, high])

    def add_power(self, curve: Curve) -> None:
        """What no counter has taken goes to the integral of power."""
        for low, high in self.holes():
            for begin, _, wh, seconds in curve.by_bucket(low, high):
                if seconds > 0:
                    index = (begin - self.start) // BUCKET_MS
                    self.wh[index] += wh
                    self.known[_POWER][index] += seconds * 1000
                    self.rank[index] = max(self.rank[index], _INTEGRATED)

    def source(self, index: int) -> int:
        """The source that knows most of a bucket."""
        known = [by[index] for by in self.known]
        most = max(known)
        return known.index(most) if most > 0 else self.unknown[index] - 1


def _cuts(low: int, high: int) -> list[int]:
    return [low, *range(bucket_of(low) + BUCKET_MS, high, BUCKET_MS), high]


def _weights(cuts: Sequence[int], shape: Shape) -> list[float]:
    """Weight of each piece between two cuts."""
    return [(end - at) * shape[at // BUCKET_MS % SLOTS] for at, end in pairwise(cuts)]


def _spread(
    low: int, high: int, wh: float, shape: Shape | None
) -> Iterable[tuple[int, int, float]]:
    """Pieces of [low, high) cut at the bucket borders, and their energy."""
    cuts = _cuts(low, high)
    weights: list[float] = [end - begin for begin, end in pairwise(cuts)]
    if shape is not None:
        shaped = _weights(cuts, shape)
        if sum(shaped) > 0:
            weights = shaped
    each = wh / sum(weights)
    return [
        (begin, end, weight * each)
        for (begin, end), weight in zip(pairwise(cuts), weights, strict=True)
    ]


class _Entry:
    """One counter's rises on their way into a ledger."""

    def __init__(self, ledger: _Ledger, counter: Counter, curve: Curve | None, source: int) -> None:
        self.ledger, self.curve, self.source = ledger, curve, source
        self.counter = counter

    def book(self, rises: Sequence[Rise]) -> None:
        """Book all rises that touch the ledger's time."""
        if self.counter.coarse:
            self._coarse(rises)
        else:
            self._fine(rises)

    def _power(self, low: int, high: int) -> tuple[float, float]:
        """Energy [Wh] that the power has in [low, high), and the share of it that it covers."""
        if self.curve is None:
            return 0.0, 0.0
        energy, seconds = self.curve.between(low, high)
        return energy, seconds * 1000 / (high - low)

    def _change(self, rise: Rise) -> None:
        """The end of an epoch."""
        low, high, wh, verdict = rise
        if verdict == EPOCH:
            return
        if verdict != RESET:
            rank = _MEASURED if high - low <= LUMP_MS else _RECOVERED
            self.ledger.add(low, high, wh, rank, self.source)
        elif self._power(low, high)[1] < FULL:  # what came before the reset nobody knows
            self.ledger.add_unknown(low, high, wh, self.source)

    def _fine(self, rises: Sequence[Rise]) -> None:
        add, source, curve = self.ledger.add, self.source, self.curve
        before, after = self.ledger.start - 2 * LUMP_MS, self.ledger.end + 2 * LUMP_MS
        flat: int | None = None  # since when the counter has stood still
        for rise in rises:
            low, high, wh, verdict = rise
            if high <= before:
                flat = low if verdict == NORMAL and wh == 0.0 else None
                continue
            if low >= after:
                break
            if verdict == NORMAL:
                if wh == 0.0:
                    flat = low
                    continue
                if flat is not None:
                    low = max(flat, high - LUMP_MS)
                    self._still(flat, low)
                    flat = None
                across = low // BUCKET_MS != (high - 1) // BUCKET_MS
                if curve is not None and across and high - low > EVEN_MS:
                    energy, share = self._power(low, high)
                    if energy > 0 and share >= FULL:
                        self._shaped(curve, low, high, wh, _MEASURED)
                        continue
                add(low, high, wh, _MEASURED, source)
                continue
            if flat is not None:
                self._still(flat, low)
                flat = None
            if verdict == RECOVERED:
                self._gap(low, high, wh)
            else:
                self._change(rise)
        if flat is not None:
            self._still(flat, min(after, rises[-1].end))

    def _still(self, low: int, high: int) -> None:
        """A counter that does not move: nothing flowed, unless power says it is stuck."""
        if self.curve is None:
            if low < high:
                self.ledger.add(low, high, 0.0, _MEASURED, self.source)
            return
        due_wh = FROZEN_STEPS * self.counter.resolution_kwh * 1000
        at = low
        while at < high:
            to = min(high, at - at % LUMP_MS + LUMP_MS)
            energy, _ = self._power(at, to)
            if energy <= due_wh or energy <= FROZEN_W * (to - at) / MS_PER_H:
                self.ledger.add(at, to, 0.0, _MEASURED, self.source)
            at = to

    def _gap(self, low: int, high: int, wh: float) -> None:
        """A rise over a pause of a fine counter."""
        energy, share = self._power(low, high)
        if self.curve is not None and energy > 0 and share >= FULL:
            self._shaped(self.curve, low, high, wh, _RECOVERED)
        elif self.curve is None or share == 0 or not self._filled(self.curve, low, high, wh):
            self.ledger.add(low, high, wh, _RECOVERED, self.source)

    def _shaped(self, curve: Curve, low: int, high: int, wh: float, rank: int) -> None:
        """Spread over a stretch as its power says.

        Args:
            curve: power, known nearly everywhere, and not 0 everywhere.
            low: begin of the stretch.
            high: its end.
            wh: what the counter counted in it.
            rank: flag of the little of which no power is known: it gets the mean.
        """
        holes = curve.holes(low, high)
        energy, _ = curve.between(low, high)
        mean = wh / (high - low)
        factor = (wh - mean * sum(end - begin for begin, end in holes)) / energy
        at = low
        for hole, end in [*holes, (high, high)]:
            self._along(curve, at, hole, factor, _MEASURED, self.source)
            if hole < end:
                self.ledger.add(hole, end, mean * (end - hole), rank, self.source)
            at = end

    def _along(
        self, curve: Curve, low: int, high: int, factor: float, rank: int, source: int
    ) -> None:
        """Take a stretch without holes as the power says, times a factor."""
        for begin, end, wh, _ in curve.by_bucket(low, high):
            self.ledger.add(begin, end, wh * factor, rank, source)

    def _filled(self, curve: Curve, low: int, high: int, wh: float) -> bool:
        """Power where it is known, the rest of what the counter counted where it is not.

        Returns:
            False, and nothing is booked, if the rest is more than there can have been.
        """
        holes = curve.holes(low, high)
        energy, _ = curve.between(low, high)
        rest = max(0.0, wh - energy)
        hours = sum(end - begin for begin, end in holes) / MS_PER_H
        if rest > self.counter.max_power_w * HEADROOM * hours + self.counter.resolution_kwh * 1000:
            return False
        factor = min(1.0, wh / energy) if energy > 0 else 1.0
        at = low
        for (hole, end), share in zip(
            [*holes, (high, high)], [*_shares(holes, rest, self.ledger.shape), 0.0], strict=True
        ):
            self._along(curve, at, hole, factor, _INTEGRATED, _POWER)
            if hole < end:
                self.ledger.add(hole, end, share, _RECOVERED, self.source)
            at = end
        return True

    def _coarse(self, rises: Sequence[Rise]) -> None:
        """Cut at steps; between two of them, pauses or not, the counter is exact.

        But for the sample in which it stepped: where power gives the shape, the first step of an
        hour is cut at, so that this weighs little.
        """
        stretch: list[Rise] = []
        clean, quiet, hour = False, 0, -1
        for rise in rises:
            if rise.verdict not in (NORMAL, RECOVERED):
                self._stretch(stretch, clean=False)
                self._change(rise)
                stretch, clean, quiet = [], False, 0
                continue
            stretch.append(rise)
            if rise.verdict == NORMAL:
                quiet += rise.end - rise.start
                if rise.wh > 0 and (self.curve is None or rise.end // MS_PER_H != hour):
                    self._stretch(stretch, clean=clean and quiet <= STRETCH_MS)
                    stretch, clean, quiet = [], True, 0
                if rise.wh > 0:
                    hour = rise.end // MS_PER_H
        self._stretch(stretch, clean=False)

    def _stretch(self, stretch: Sequence[Rise], *, clean: bool) -> None:
        """Book from one step to the next (clean), or what there is of such a stretch."""
        if not stretch:
            return
        low, high = stretch[0].start, stretch[-1].end
        if high <= self.ledger.start or low >= self.ledger.end:
            return
        if not clean or not self._closed(stretch, low, high):
            self._open(stretch)

    def _closed(self, stretch: Sequence[Rise], low: int, high: int) -> bool:
        """Book from one step to the next; False if power and counter contradict each other."""
        energy, share = self._power(low, high)
        wh = sum(rise.wh for rise in stretch)
        if self.curve is None or share == 0:
            rank = _ESTIMATED if high - low > ESTIMATED_MS else _MEASURED
            if any(rise.verdict == RECOVERED for rise in stretch):
                rank = _RECOVERED
            self.ledger.add(low, high, wh, rank, self.source)
            return True
        if share < FULL:
            return energy * (1 - AGREE) <= wh and self._filled(self.curve, low, high, wh)
        if energy <= 0 or abs(wh * share - energy) > AGREE * wh:
            return False
        self._shaped(self.curve, low, high, wh, _RECOVERED)
        return True

    def _open(self, stretch: Sequence[Rise]) -> None:
        """Book what does not begin or end with a step, or took too long.

        Power stands alone where there is any; only what the counter saw pass over a pause of both
        is added.
        """
        add, source, curve = self.ledger.add, self.source, self.curve
        flat, high = stretch[0].start, stretch[-1].end
        for rise in stretch:
            if rise.verdict == RECOVERED:
                if curve is None and flat < rise.start:
                    add(flat, rise.start, 0.0, _ESTIMATED, source)
                flat = rise.end
                _, share = self._power(rise.start, rise.end)
                if curve is None or (share == 0 and rise.wh > 0):
                    add(rise.start, rise.end, rise.wh, _RECOVERED, source)
                elif share < FULL and rise.wh > 0:
                    self._filled(curve, rise.start, rise.end, rise.wh)
            elif rise.wh > 0 or rise.end == high:
                since = max(flat, rise.end - STRETCH_MS)
                if curve is None and flat < since:
                    add(flat, since, 0.0, _MEASURED, source)
                if curve is None or (rise.wh > 0 and self._power(since, rise.end)[1] == 0):
                    add(since, rise.end, rise.wh, _ESTIMATED, source)
                flat = rise.end


def _shares(holes: Sequence[tuple[int, int]], wh: float, shape: Shape | None) -> list[float]:
    """What each of several stretches gets of an energy."""
    weights: list[float] = [end - begin for begin, end in holes]
    if shape is not None:
        shaped = [sum(_weights(_cuts(begin, end), shape)) for begin, end in holes]
        if sum(shaped) > 0:
            weights = shaped
    whole = sum(weights)
    return [wh * weight / whole for weight in weights] if whole else []


def _enter(feed: Feed, start: int, end: int, shape: Shape | None) -> _Ledger:
    """One device's part in the buckets."""
    ledger = _Ledger(start, end, shape)
    curve = Curve(feed.power.readings, feed.power.sign) if feed.power else None
    for counter, source in ((feed.lifetime, _LIFETIME), (feed.day, _DAY_COUNTER)):
        if counter is None:
            continue
        rises = counter.track(daily=source == _DAY_COUNTER).rises()
        if rises:
            _Entry(ledger, counter, curve, source).book(rises)
            ledger.open = ledger.holes()
    if curve is not None:
        ledger.add_power(curve)
    return ledger


def book(
    flow: str, feeds: Sequence[Feed], start: int, end: int, shape: Shape | None = None
) -> list[Bucket]:
    """The buckets of [start, end), both at bucket borders; absent where nothing is known.

    Args:
        flow: name that goes into the buckets.
        feeds: what each device knows; several are added, the weakest flag wins, and a bucket is
            covered as far as the least covered of them.
        start: first bucket [ms UTC].
        end: end of the last bucket.
        shape: weights for recovered energy; None = evenly.
    """
    ledgers = [_enter(feed, start, end, shape) for feed in feeds]
    found = []
    for index, ts in enumerate(range(start, end, BUCKET_MS)):
        wh, rank, source, covered, known = 0.0, -1, 0, float(BUCKET_MS), False
        for ledger in ledgers:
            here = sum(by[index] for by in ledger.known)
            covered = min(covered, here)
            if here > 0 or ledger.rank[index]:
                known = True
                wh += ledger.wh[index]
                if ledger.rank[index] > rank:
                    rank, source = ledger.rank[index], ledger.source(index)
        if known:
            found.append(Bucket(flow, ts, wh, SOURCES[source], FLAGS[rank], covered / 1000))
    return found


def _walk(rises: Sequence[Rise], ts: int, coarse: bool) -> int | None:
    """Where the stretch that holds ``ts`` begins at the earliest; None before the first rise."""
    left = STRETCH_MS if coarse else 2 * LUMP_MS
    for rise in reversed(rises[: bisect_left(rises, ts, key=lambda rise: rise.start)]):
        if rise.verdict == NORMAL:
            span = min(ts, rise.end) - rise.start
            if span > left:
                return min(ts, rise.end) - left
            left -= max(0, span)
        elif rise.end < ts and (not coarse or rise.verdict != RECOVERED):
            return rise.end
    return None


def _walk_on(rises: Sequence[Rise], ts: int, coarse: bool) -> int | None:
    """Where the stretch that holds ``ts`` ends at the latest; None after the last rise."""
    left = STRETCH_MS if coarse else 2 * LUMP_MS
    for rise in rises[bisect_right(rises, ts, key=lambda rise: rise.end) :]:
        if rise.verdict == NORMAL:
            span = rise.end - max(ts, rise.start)
            if span > left:
                return max(ts, rise.start) + left
            left -= span
        elif rise.start > ts and (not coarse or rise.verdict != RECOVERED):
            return rise.start
    return None


class _View:
    """The readings of all feeds around a time, and whether they are enough."""

    def __init__(self, feeds: Sequence[Feed], start: int, end: int, more: int) -> None:
        self.start, self.end, self.more = start, end, more
        self.powers = [ordered(feed.power.readings)[0] for feed in feeds if feed.power]
        self.counters = [
            (track, track.rises(), counter.coarse)
            for feed in feeds
            for counter, daily in ((feed.lifetime, False), (feed.day, True))
            if counter is not None
            for track in (counter.track(daily=daily),)
        ]

    def all_before(self, times: Sequence[int]) -> bool:
        """Whether a series has no readings before these."""
        return bisect_left(times, self.start) < self.more

    def all_after(self, times: Sequence[int]) -> bool:
        """Whether a series has no readings after these."""
        return len(times) - bisect_left(times, self.end) < self.more

    def reach_back(self) -> int | None:
        """First bucket that what was touched may change; None when more readings are needed."""
        low = self.start
        for times in self.powers:
            index = bisect_left(times, self.start) - MARGIN
            if index < 0 and not self.all_before(times):
                return None
            low = min(low, times[max(0, index)] if times else low)
        reach = low
        for track, rises, coarse in self.counters:
            anchor = track.anchor_before(low)
            begin = None if anchor is None else _walk(rises, anchor, coarse)
            if begin is None:
                if not self.all_before(track.times):
                    return None
                begin = min(low, track.times[0]) if track.times else low
            reach = min(reach, begin)
        return bucket_of(reach)

    def reach_on(self) -> int | None:
        """End of the last bucket that may change; None when more readings are needed."""
        high = self.end
        for times in self.powers:
            index = bisect_left(times, self.end) + MARGIN
            if index >= len(times) and not self.all_after(times):
                return None
            high = max(high, times[min(index, len(times) - 1)] if times else high)
        reach = high
        for track, rises, coarse in self.counters:
            anchor = track.anchor_after(high)
            finish = None if anchor is None else _walk_on(rises, anchor, coarse)
            if finish is None:
                if not self.all_after(track.times):
                    return None
                finish = max(high, track.times[-1]) if track.times else high
            reach = max(reach, finish)
        return bucket_of(reach + BUCKET_MS - 1)

    def settles_from(self, start: int) -> bool:
        """Whether the buckets from ``start`` on are the same whatever came before."""
        low = start
        for track, rises, coarse in self.counters:
            if self.all_before(track.times):
                low = min(low, track.times[0]) if track.times else low
                continue
            begin = _walk(rises, start, coarse)
            anchor = None if begin is None else track.anchor_before(begin)
            if anchor is None:
                return False
            low = min(low, anchor)
        return all(
            self.all_before(times) or bisect_left(times, low) >= MARGIN for times in self.powers
        )

    def settles_to(self, end: int) -> bool:
        """Whether the buckets up to ``end`` are the same whatever comes after."""
        high = end
        for track, rises, coarse in self.counters:
            if self.all_after(track.times):
                high = max(high, track.times[-1]) if track.times else high
                continue
            finish = _walk_on(rises, end, coarse)
            anchor = None if finish is None else track.anchor_after(finish)
            if anchor is None:
                return False
            high = max(high, anchor)
        return all(
            self.all_after(times) or len(times) - bisect_left(times, high) >= MARGIN
            for times in self.powers
        )


FIRST_LOOK = 256
"""Readings on either side to begin with; four times as many whenever they are not enough."""


def rebook(flow: str, load: Load, start: int, end: int, shape: Shape | None = None) -> Rebooked:
    """Books of everything that readings in [start, end) may have changed.

    Asks ``load`` for as many neighbouring readings as it takes to be sure: booking piece by piece
    in any order comes to the same as booking everything at once. Mostly that is half an hour on
    either side, and six hours for a coarse counter; after a long pause it is the pause.

    Args:
        flow: name that goes into the buckets.
        load: gets the readings.
        start: first time that was touched [ms UTC].
        end: end of what was touched.
        shape: weights for recovered energy.
    """
    start, end = bucket_of(start), bucket_of(end + BUCKET_MS - 1)
    more = FIRST_LOOK
    while True:
        feeds = load(start, end, more)
        view = _View(feeds, start, end, more)
        low, high = view.reach_back(), view.reach_on()
        if (
            low is not None
            and high is not None
            and view.settles_from(low)
            and view.settles_to(high)
        ):
            return Rebooked(low, high, book(flow, feeds, low, high, shape))
        more *= 4


def balance(
    flow: str,
    gains: Sequence[Mapping[int, Bucket]],
    uses: Sequence[Mapping[int, Bucket]],
    start: int,
    end: int,
) -> list[Bucket]:
    """A flow nobody measures: what came in less what went elsewhere, never below 0.

    Only where every flow has a bucket; ``estimated``, and covered as far as the least covered.

    Args:
        flow: name that goes into the buckets.
        gains: buckets by start of what comes in.
        uses: buckets by start of what goes elsewhere.
        start: first bucket [ms UTC].
        end: end of the last bucket.
    """
    found = []
    for ts in range(start, end, BUCKET_MS):
        ins = [side.get(ts) for side in gains]
        outs = [side.get(ts) for side in uses]
        known = [bucket for bucket in (*ins, *outs) if bucket is not None]
        if not known or len(known) < len(ins) + len(outs):
            continue
        wh = sum(b.wh for b in ins if b) - sum(b.wh for b in outs if b)
        covered = min(bucket.covered_s for bucket in known)
        found.append(Bucket(flow, ts, max(0.0, wh), "balance", "estimated", covered))
    return found
