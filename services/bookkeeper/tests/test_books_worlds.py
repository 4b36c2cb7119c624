"""Generated houses: what the books say against what the world did."""

import math
import random
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from bookkeeper import books
from bookkeeper.books import Bucket, Counter, Feed, Power, book, rebook
from bookkeeper.integrate import BUCKET_MS, Reading
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sunmesh.database.days import bounds

T0 = 1_774_728_000_000  # 2026-03-28 20:00 UTC: the night in which Europe's clocks go forward
MINUTE = 60_000
HOUR = 60 * MINUTE
NAMEPLATE_W = 5000.0


class House:
    """A power that changes once a minute, linearly in between, and its exact energy."""

    def __init__(self, seed: int, hours: int) -> None:
        draw = random.Random(seed)
        self.end = T0 + hours * HOUR
        self.powers = []
        level = 0.0
        for minute in range(hours * 60 + 1):
            if minute % draw.choice((20, 30, 90)) == 0:
                level = draw.choice((0.0, 0.0, 60.0, 300.0, 1200.0, 3000.0, 4800.0))
            self.powers.append(max(0.0, level * draw.uniform(0.9, 1.1)) if level else 0.0)
        self.sums = [0.0]
        for before, after in zip(self.powers, self.powers[1:], strict=False):
            self.sums.append(self.sums[-1] + (before + after) / 120)

    def power(self, ts: int) -> float:
        index, rest = divmod(ts - T0, MINUTE)
        if not rest:
            return self.powers[index]
        return self.powers[index] + (self.powers[index + 1] - self.powers[index]) * rest / MINUTE

    def energy(self, ts: int) -> float:
        """Wh since T0."""
        index, rest = divmod(ts - T0, MINUTE)
        if not rest:
            return self.sums[index]
        mean = (self.powers[index] + self.power(ts)) / 2
        return self.sums[index] + mean * rest / 3_600_000


def shown(kwh: float, resolution: float) -> float:
    return round(int(kwh / resolution + 1e-9) * resolution, 6)


@dataclass
class Story:
    """What befell one counter."""

    seed: int
    hours: int = 12
    period_s: int = 60
    resolution: float = 0.01
    events: list[tuple[str, int, int]] = field(default_factory=list)  # kind, minute, minutes
    power: bool = True

    def readings(self, house: House) -> tuple[list[Reading], list[Reading]]:
        draw = random.Random(self.seed + 1)
        silent = [(T0 + m * MINUTE, T0 + (m + n) * MINUTE) for k, m, n in self.events if k == "gap"]
        counter, powers = [], []
        offset = 0.0  # kWh that the counter shows beyond the truth
        base = 812.34
        resets = sorted((T0 + m * MINUTE, k) for k, m, _ in self.events if k in ("reset", "swap"))
        dips = [
            (T0 + m * MINUTE, T0 + (m + min(n, 25)) * MINUTE, k)
            for k, m, n in self.events
            if k in ("dip", "old", "spike") and m + n < self.hours * 60 - 10
        ]
        ts = T0
        while ts < house.end:
            at = ts + draw.randrange(0, self.period_s * 200)
            ts += self.period_s * 1000
            if at >= house.end or any(low <= at < high for low, high in silent):
                continue
            kwh = base + house.energy(at) / 1000
            while resets and resets[0][0] <= at:
                since, kind = resets.pop(0)
                offset = (
                    -(base + house.energy(max(since, T0)) / 1000)
                    if kind == "reset"
                    else offset + draw.choice((-400.0 if kwh + offset > 800 else 70.0, 5000.0))
                )
            value = shown(max(0.0, kwh + offset), self.resolution)
            for low, high, kind in dips:
                if low <= at < high:
                    value = {"dip": 0.0, "old": value * 0.5, "spike": value + 300.0}[kind]
            counter.append((at, value))
            powers.append((at, house.power(at)))
        return counter, powers if self.power else []

    def feed(self, house: House) -> Feed:
        counter, powers = self.readings(house)
        return Feed(
            lifetime=Counter(counter, NAMEPLATE_W, self.resolution),
            power=Power(powers) if self.power else None,
        )


generated = settings(
    derandomize=True, max_examples=30, deadline=None, suppress_health_check=list(HealthCheck)
)
KINDS = ("gap", "reset", "swap", "dip", "old", "spike")
stories = st.builds(
    Story,
    seed=st.integers(0, 10_000),
    hours=st.sampled_from((6, 12, 24)),
    period_s=st.sampled_from((30, 60, 300)),
    resolution=st.sampled_from((0.001, 0.01, 0.1, 1.0)),
    events=st.lists(
        st.tuples(
            st.sampled_from(KINDS), st.integers(20, 1400), st.sampled_from((1, 3, 20, 50, 400))
        ),
        max_size=4,
    ),
    power=st.booleans(),
)


def cut(readings, start, end, more):
    times = [ts for ts, _ in readings]
    return readings[max(0, bisect_left(times, start) - more) : bisect_left(times, end) + more]


def loader(feed):
    def load(start, end, more):
        return [
            replace(
                feed,
                lifetime=feed.lifetime
                and replace(feed.lifetime, readings=cut(feed.lifetime.readings, start, end, more)),
                day=feed.day
                and replace(feed.day, readings=cut(feed.day.readings, start, end, more)),
                power=feed.power
                and replace(feed.power, readings=cut(feed.power.readings, start, end, more)),
            )
        ]

    return load


def span(house: House) -> tuple[int, int]:
    return T0 - T0 % BUCKET_MS, house.end + BUCKET_MS - house.end % BUCKET_MS


def store(rows: dict[int, Bucket], done) -> None:
    for ts in range(done.start, done.end, BUCKET_MS):
        rows.pop(ts, None)
    rows.update({bucket.ts: bucket for bucket in done.buckets})


def same(left: dict[int, Bucket], right: dict[int, Bucket]) -> None:
    assert left.keys() == right.keys()
    for ts, a in left.items():
        b = right[ts]
        assert (a.source, a.flag) == (b.source, b.flag), (ts, a, b)
        assert a.wh == pytest.approx(b.wh, abs=1e-5), (a, b)
        assert a.covered_s == pytest.approx(b.covered_s, abs=1e-3), (a, b)


@pytest.fixture(autouse=True)
def short_sight(monkeypatch):
    """Begin with few readings around a place, so that asking for more is tried, too."""
    monkeypatch.setattr(books, "FIRST_LOOK", 8)


def stretches(buckets):
    """Runs of neighbouring buckets that are known all through and carry no warning."""
    run: list[Bucket] = []
    for bucket in buckets:
        sure = bucket.flag in ("measured", "integrated") and bucket.covered_s > 299.9
        if run and (not sure or run[-1].ts + BUCKET_MS != bucket.ts):
            yield run
            run = []
        if sure:
            run.append(bucket)
    if run:
        yield run


@settings(generated, max_examples=80)
@given(stories)
def test_the_sum_is_the_truth_or_it_is_marked(story):
    """Two steps of the counter (or 50 Wh), and 3 % (6 % with a reading in five minutes)."""
    house = House(story.seed, story.hours)
    start, end = span(house)
    buckets = book("pv", [story.feed(house)], start, end)
    assert all(bucket.wh >= 0 for bucket in buckets)
    assert all(0 <= bucket.covered_s <= 300 for bucket in buckets)
    steps = 2 * max(25.0, story.resolution * 1000)
    share = 0.06 if story.period_s == 300 else 0.03

    def truth(low, high):
        return house.energy(min(high, house.end)) - house.energy(max(low, T0))

    for run in stretches(buckets):
        true = truth(run[0].ts, run[-1].ts + BUCKET_MS)
        assert sum(bucket.wh for bucket in run) == pytest.approx(true, abs=steps + share * true)
    true = truth(start, end)
    # Nothing is ever invented, marked or not.
    assert sum(bucket.wh for bucket in buckets) <= true * (1 + share) + steps


class Roof:
    """Panels with devices that sleep at night, each with its own idea of a counter."""

    def __init__(self, draw: random.Random) -> None:
        self.days = draw.choice((2, 3))
        self.resolution = draw.choice((0.001, 0.01, 0.1))
        self.sleep = draw.choice(("zero", "silent", "awake"))
        self.late_reset = draw.random() < 0.5  # yesterday's value for ten minutes at dawn
        self.never_resets = draw.random() < 0.2
        self.clock_ms = draw.choice((0, 0, 40, -90)) * MINUTE
        self.start = T0 // 86_400_000 * 86_400_000
        self.end = self.start + self.days * 86_400_000
        period = draw.choice((1, 5))
        minutes = range(self.days * 1440 + 1)
        power = [
            max(0.0, 3000 * math.sin((minute % 1440 - 360) / 720 * math.pi))
            * draw.choice((1, 1, 1, 0.2))
            for minute in minutes
        ]
        total = [0.0]
        for before, after in pairwise(power):
            total.append(total[-1] + (before + after) / 120)
        self.wh = total[-1]
        self.lifetime: list[Reading] = []
        self.day: list[Reading] = []
        self.power: list[Reading] = []
        zero, day_seen, dawn = 0.0, None, None
        for minute in minutes[:-1:period]:
            ts = self.start + minute * MINUTE
            if draw.random() < 0.01:
                continue
            if power[minute] <= 0 and self.sleep != "awake":
                dawn = None
                if self.sleep == "zero":
                    for series in (self.lifetime, self.day, self.power):
                        series.append((ts, 0.0))
                continue
            dawn = minute if dawn is None else dawn
            day = (ts + self.clock_ms) // 86_400_000
            day_seen = day if day_seen is None else day_seen
            late = self.late_reset and self.sleep != "awake" and minute - dawn < 10
            if day != day_seen and not late and not self.never_resets:
                day_seen, zero = day, total[minute]
            self.lifetime.append((ts, shown(500 + total[minute] / 1000, self.resolution)))
            self.day.append((ts, shown((total[minute] - zero) / 1000, self.resolution)))
            self.power.append((ts, power[minute]))

    def feed(self, draw: random.Random) -> Feed:
        kind = draw.choice(("lifetime", "day", "both"))
        return Feed(
            Counter(self.lifetime, 5000, self.resolution) if kind != "day" else None,
            Counter(self.day, 5000, self.resolution) if kind != "lifetime" else None,
            Power(self.power) if draw.random() < 0.5 else None,
        )


@settings(generated, max_examples=12)
@given(st.integers(0, 10_000))
def test_nights_add_and_lose_nothing(seed):
    draw = random.Random(seed)
    roof = Roof(draw)
    feed = roof.feed(draw)
    buckets = book("pv", [feed], roof.start, roof.end)
    # A day counter loses one step each time it starts again.
    steps = (2 + roof.days) * max(25.0, roof.resolution * 1000)
    assert sum(bucket.wh for bucket in buckets) == pytest.approx(
        roof.wh, abs=steps + 0.03 * roof.wh
    )
    rows: dict[int, Bucket] = {}
    pieces = list(range(roof.start, roof.end, 24 * BUCKET_MS))
    draw.shuffle(pieces)
    for low in pieces:
        store(rows, rebook("pv", loader(feed), low, low + 24 * BUCKET_MS))
    same(
        {ts: row for ts, row in rows.items() if roof.start <= ts < roof.end},
        {bucket.ts: bucket for bucket in buckets},
    )


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Rome", date(2026, 3, 29)),
        ("Europe/Rome", date(2026, 10, 25)),
        ("America/New_York", date(2026, 3, 8)),
        ("America/New_York", date(2026, 11, 1)),
        ("Australia/Lord_Howe", date(2026, 4, 5)),
        ("Australia/Lord_Howe", date(2026, 10, 4)),
        ("Asia/Kolkata", date(2026, 3, 29)),
    ],
)
def test_a_day_of_any_length_has_the_truth(zone, day):
    start, end = bounds(day, ZoneInfo(zone))
    readings = [
        (ts, 900 + (ts - start + HOUR) / HOUR * 1.2)
        for ts in range(start - HOUR, end + HOUR, MINUTE)
    ]
    feed = Feed(Counter(readings, 5000, 0.001))
    rows = {b.ts: b.wh for b in book("load", [feed], start - HOUR, end + HOUR)}
    whole = sum(wh for ts, wh in rows.items() if start <= ts < end)
    assert whole == pytest.approx((end - start) / HOUR * 1200)


@generated
@given(stories, st.randoms(use_true_random=False))
def test_pieces_in_any_order_are_the_whole(story, draw):
    house = House(story.seed, story.hours)
    feed = story.feed(house)
    start, end = span(house)
    whole = {bucket.ts: bucket for bucket in book("pv", [feed], start, end)}
    rows: dict[int, Bucket] = {}
    pieces = list(range(start, end, 6 * BUCKET_MS))
    draw.shuffle(pieces)
    for low in pieces:
        store(rows, rebook("pv", loader(feed), low, min(end, low + 6 * BUCKET_MS)))
    same({ts: row for ts, row in rows.items() if start <= ts < end}, whole)


@settings(generated, max_examples=15)
@given(stories, st.randoms(use_true_random=False))
def test_readings_that_come_bit_by_bit_and_late_are_the_whole(story, draw):
    house = House(story.seed, story.hours)
    feed = story.feed(house)
    start, end = span(house)
    whole = {bucket.ts: bucket for bucket in book("pv", [feed], start, end)}
    rows: dict[int, Bucket] = {}
    parcels = []  # (delivery, touched, counter readings, power readings)
    for low in range(start, end, 3 * BUCKET_MS):
        high = low + 3 * BUCKET_MS
        late = draw.choice((0, 0, 0, 0, 5, 40))
        for kind in (0, 1):
            source = (
                feed.lifetime.readings if kind == 0 else feed.power.readings if feed.power else []
            )
            some = [r for r in source if low <= r[0] < high]
            if some:
                parcels.append((low + late * BUCKET_MS, draw.random(), kind, low, high, some))
    known: tuple[list[Reading], list[Reading]] = ([], [])
    for _, _, kind, low, high, some in sorted(parcels, key=lambda parcel: parcel[:2]):
        known[kind].extend(some)
        known[kind].sort()
        now = Feed(
            lifetime=replace(feed.lifetime, readings=list(known[0])),
            power=Power(list(known[1])) if feed.power else None,
        )
        store(rows, rebook("pv", loader(now), low, high))
    same(rows, whole)
