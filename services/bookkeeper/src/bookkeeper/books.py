"""The energy of a flow in buckets of five minutes. Pure: readings in, buckets out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bookkeeper.integrate import BUCKET_MS, Curve, Reading, bucket_of


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


def book(
    flow: str, feeds: Sequence[Feed], start: int, end: int, shape: Shape | None = None
) -> list[Bucket]:
    """The buckets of [start, end), both at bucket borders; absent where nothing is known.

    Args:
        flow: name that goes into the buckets.
        feeds: what each device knows; several are added.
        start: first bucket [ms UTC].
        end: end of the last bucket.
        shape: weights for recovered energy; None = evenly.
    """
    found = []
    for ts in range(start, end, BUCKET_MS):
        wh = covered = 0.0
        for feed in feeds:
            if feed.power:
                more, seconds = Curve(feed.power.readings, feed.power.sign).between(
                    ts, ts + BUCKET_MS
                )
                wh, covered = wh + more, seconds
        if covered:
            found.append(Bucket(flow, ts, wh, "power", "integrated", covered))
    return found


def rebook(flow: str, load: Load, start: int, end: int, shape: Shape | None = None) -> Rebooked:
    """Books of everything that readings in [start, end) may have changed.

    Asks ``load`` for as many neighbouring readings as it takes to be sure: booking piece by piece
    in any order comes to the same as booking everything at once.

    Args:
        flow: name that goes into the buckets.
        load: gets the readings.
        start: first time that was touched [ms UTC].
        end: end of what was touched.
        shape: weights for recovered energy.
    """
    low, high = bucket_of(start), bucket_of(end + BUCKET_MS - 1)
    return Rebooked(low, high, book(flow, load(low, high, 5), low, high, shape))


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
