"""What the books say of a battery: throughput, cycles, measured capacity, energy not taken. Pure.

**Measured capacity.** From the end of being full (charger at absorb or float, or 100 % shown, or a
voltage that only a full battery has) down to the lowest state of charge before it is full again,
and back: what went through in between, divided by the part of the scale that it took. The scale is
the battery's own, so a short sweep measures mostly the battery's opinion; a deep one measures the
battery. Sweeps of less than 40 % are left out, and each has a confidence.

**Curtailed energy.** While the battery is full the panels give only what is asked of them. What
they could have given is guessed from the best of the last days at that time, scaled by the light
where it is measured (or by a clear sky's, for the season), else by how today's last hour before the
battery was full compares with the best. It is an estimate and says so.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bookkeeper.books import Bucket
from bookkeeper.integrate import BUCKET_MS, Curve, Reading, bucket_of

FULL_STAGES = frozenset({"absorb", "absorption", "float", "equalise", "true"})
"""Values of ``charge_stage``, ``regulator_state`` or ``float_charging`` that mean full."""
FULL_PERCENT = 99.5
LEFT_PERCENT = 97.0
"""A battery that was full by its state of charge is so until it shows less than this."""
FULL_FOR_MS = 600_000
"""A voltage says full when it has lasted so long: a gust of sun lifts it, too."""
HOLD_MS = 900_000
"""A state of charge or voltage is believed for so long when nothing newer comes."""
MIN_SPAN_PERCENT = 40.0
SURE_SPAN_PERCENT = 80.0
"""A sweep this deep has full confidence, if power is known all the way."""
MIN_COVERED = 0.95
DAY_MS = 86_400_000
BEST_OF_DAYS = 10
COMPARED = 12
"""Buckets before the battery was full that today's sky is judged by."""
MIN_COMPARED_WH = 20.0
"""Less sun than this in that hour says nothing of the sky."""
SKY_MS = 12 * 3_600_000
"""Nor does that of yesterday, when the battery has been full ever since."""
MIN_LIGHT_W_M2 = 50.0
MIN_SHARE = 0.1
"""Less than this share of what was expected is within what an estimate can be wrong by."""

Span = tuple[int, int]


def throughput(charge_wh: float | None, discharge_wh: float | None) -> float | None:
    """Energy through the battery, in and out added [Wh]; None when neither is known."""
    if charge_wh is None and discharge_wh is None:
        return None
    return (charge_wh or 0.0) + (discharge_wh or 0.0)


def full_cycles(discharge_wh: float | None, usable_wh: float | None) -> float | None:
    """Equivalent full cycles: energy taken out by what fits in; None when not knowable."""
    if discharge_wh is None or not usable_wh or usable_wh <= 0:
        return None
    return max(0.0, discharge_wh) / usable_wh


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in order of time, those that touch joined."""
    found: list[Span] = []
    for low, high in sorted(span for span in spans if span[0] < span[1]):
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


def full_spans(
    end: int,
    stages: Sequence[tuple[int, str]] = (),
    soc: Sequence[Reading] = (),
    voltage: Sequence[Reading] = (),
    full_voltage_v: float | None = None,
    full_stages: Collection[str] = FULL_STAGES,
) -> list[Span]:
    """When the battery was full.

    Args:
        end: what is known ends here [ms UTC]; a stage lasts until the next one, or to here.
        stages: (ms UTC, charger's stage) at each change, in order of time.
        soc: (ms UTC, state of charge [%]) in order of time.
        voltage: (ms UTC, V) in order of time.
        full_voltage_v: lasting voltage that only a full battery has; None = not used.
        full_stages: stages that mean full.
    """
    spans: list[Span] = []
    for (low, stage), (high, _) in pairwise([*stages, (end, "")]):
        if stage.lower() in full_stages:
            spans.append((low, min(high, end)))
    full = False
    for (low, percent), (high, _) in pairwise([*soc, (end, 0.0)]):
        full = percent >= FULL_PERCENT or (full and percent >= LEFT_PERCENT)
        if full:
            spans.append((low, min(high, low + HOLD_MS, end)))
    if full_voltage_v is not None:
        high_spans = [
            (low, min(high, low + HOLD_MS, end))
            for (low, volts), (high, _) in pairwise([*voltage, (end, 0.0)])
            if volts >= full_voltage_v
        ]
        spans += [span for span in merged(high_spans) if span[1] - span[0] >= FULL_FOR_MS]
    return merged(spans)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A battery going from full to low (``discharge``), or from low to full (``charge``)."""

    started: int
    ended: int
    direction: str
    from_percent: float
    to_percent: float
    ah: float | None
    """Charge that went through, in the sweep's direction; None when no current is known."""
    wh: float
    capacity_ah: float | None
    capacity_wh: float
    confidence: float
    """0 to 1: how much of the scale it took and how much of it was measured."""


def _net(above: Curve, below: Curve, low: int, high: int) -> tuple[float, float]:
    """Discharge less charge of a stretch, and the share of it that is known."""
    out, seconds = above.between(low, high)
    into, _ = below.between(low, high)
    return out - into, seconds * 1000 / (high - low)


def sweeps(
    full: Sequence[Span],
    soc: Sequence[Reading],
    power: Sequence[Reading],
    current: Sequence[Reading] = (),
) -> list[Sweep]:
    """Every sweep from full to low and back to full, deep enough to measure.

    Args:
        full: when the battery was full, in order of time (``full_spans``).
        soc: (ms UTC, state of charge [%]) in order of time.
        power: (ms UTC, battery power [W], + = discharge).
        current: (ms UTC, battery current [A], + = discharge); none = no Ah.
    """
    watts = Curve(power), Curve(power, -1)
    amperes = (Curve(current), Curve(current, -1)) if current else None
    times = [ts for ts, _ in soc]
    found: list[Sweep] = []

    def measure(low: int, high: int, begin: float, finish: float) -> None:
        span = abs(begin - finish)
        if span < MIN_SPAN_PERCENT or low >= high:
            return
        sign = 1 if begin > finish else -1
        wh, share = _net(*watts, low, high)
        if share < MIN_COVERED or wh * sign <= 0:
            return
        wh *= sign / share
        ah = None
        if amperes:
            charge, known = _net(*amperes, low, high)
            if known >= MIN_COVERED and charge * sign > 0:
                ah = charge * sign / known
        found.append(
            Sweep(
                low,
                high,
                "discharge" if sign > 0 else "charge",
                begin,
                finish,
                ah,
                wh,
                None if ah is None else ah * 100 / span,
                wh * 100 / span,
                round(min(1.0, span / SURE_SPAN_PERCENT) * min(1.0, share), 3),
            )
        )

    for (_, low), (high, _) in pairwise([*full, (2**62, 2**62)]):
        inside = soc[bisect_left(times, low) : bisect_left(times, high)]
        if not inside:
            continue
        turn, lowest = min(inside, key=lambda reading: (reading[1], -reading[0]))
        measure(low, turn, 100.0, lowest)
        if high < 2**62:
            measure(turn, high, lowest, 100.0)
    return found


def expected(
    pv: Mapping[int, float],
    ts: int,
    light: Mapping[int, float] | None = None,
    days: int = BEST_OF_DAYS,
) -> float | None:
    """What the panels can be expected to give in the bucket ``ts`` under a sky like the best [Wh].

    Args:
        pv: Wh by bucket of the days before.
        ts: the bucket.
        light: irradiance or a clear sky's [W/m²] by bucket: what each day gave is scaled by it.
        days: how many days are looked through.

    Returns:
        Wh; None when no day before says anything.
    """
    best: float | None = None
    now = light.get(ts) if light else None
    for day in range(1, days + 1):
        then = ts - day * DAY_MS
        wh = pv.get(then)
        if wh is None:
            continue
        if light and now is not None:
            before = light.get(then, 0.0)
            if before < MIN_LIGHT_W_M2:
                continue
            wh *= now / before
        best = wh if best is None else max(best, wh)
    return best


def curtailed(
    pv: Mapping[int, float],
    full: Sequence[Span],
    start: int,
    end: int,
    *,
    irradiance: Mapping[int, float] | None = None,
    clear_sky: Mapping[int, float] | None = None,
    days: int = BEST_OF_DAYS,
) -> list[Bucket]:
    """Energy the panels could have given while the battery was full, for [start, end).

    A bucket depends on the same time of the ``days`` before it and on the hour before the battery
    was full (where no irradiance is measured: no sun in that hour, no guess). Only buckets that
    were full all the time, and lost more than a tenth, have a row.

    Args:
        pv: Wh by bucket, from ``days`` before ``start`` on.
        full: when the battery was full, in order of time; from a day before ``start`` on.
        start: first bucket [ms UTC].
        end: end of the last bucket.
        irradiance: mean [W/m²] on the panels by bucket, where it is measured.
        clear_sky: the same under a clear sky; used where ``irradiance`` says nothing.
        days: how many days before are looked through.
    """
    found = []
    lows = [low for low, _ in full]
    skies: dict[int, float] = {}
    for ts in range(start, end, BUCKET_MS):
        index = bisect_right(lows, ts) - 1
        actual = pv.get(ts)
        if index < 0 or full[index][1] < ts + BUCKET_MS or actual is None:
            continue
        if irradiance is not None and ts in irradiance:
            guess = expected(pv, ts, irradiance, days)
        else:
            guess = expected(pv, ts, clear_sky, days)
            if guess is not None:
                low = bucket_of(full[index][0])
                if ts - low > SKY_MS:
                    continue
                if low not in skies:
                    skies[low] = _sky(pv, low, clear_sky, days)
                guess *= skies[low]
        if guess is not None and guess - actual > MIN_SHARE * guess:
            found.append(
                Bucket("curtailed", ts, guess - actual, "expected", "estimated", BUCKET_MS / 1000)
            )
    return found


def _sky(
    pv: Mapping[int, float], full_since: int, light: Mapping[int, float] | None, days: int
) -> float:
    """How the last hour before the battery was full compares with the best days, 0 to 1.

    0 when there was no sun to compare: then nobody knows.
    """
    had = could = 0.0
    for ts in range(full_since - COMPARED * BUCKET_MS, full_since, BUCKET_MS):
        wh, best = pv.get(ts), expected(pv, ts, light, days)
        if wh is not None and best is not None:
            had += wh
            could += best
    return min(1.0, had / could) if could >= MIN_COMPARED_WH else 0.0
