import random

import pytest
from bookkeeper.integrate import BUCKET_MS, Curve, gaps, integrate, period_ms
from hypothesis import given, settings
from hypothesis import strategies as st

T0 = 1_774_728_000_000
MINUTE = 60_000


def at(*powers, step=MINUTE, start=0):
    return [
        (T0 + start + index * step, power)
        for index, power in enumerate(powers)
        if power is not None
    ]


def test_a_constant_power_fills_its_buckets():
    parts = integrate(at(*[1200.0] * 11))
    assert [
        (part.ts - T0, part.positive_wh, part.negative_wh, part.covered_s) for part in parts
    ] == [
        (0, pytest.approx(100), 0, 300),
        (BUCKET_MS, pytest.approx(100), 0, 300),
    ]


def test_a_ramp_is_cut_exactly_at_the_border():
    """0 to 1200 W in ten minutes: 25 Wh in the first half, 75 Wh in the second."""
    parts = integrate([(T0, 0.0), (T0 + 2 * BUCKET_MS, 1200.0)])
    assert [part.positive_wh for part in parts] == [pytest.approx(25), pytest.approx(75)]


def test_both_signs_are_apart_where_the_power_goes_through_zero():
    """+600 to -600 W in four minutes: two triangles of 2 min x 600 W / 2 = 10 Wh."""
    (part,) = integrate([(T0, 600.0), (T0 + 4 * MINUTE, -600.0)])
    assert (part.positive_wh, part.negative_wh) == (pytest.approx(10), pytest.approx(10))
    assert part.covered_s == 240


def test_nothing_runs_over_a_gap():
    """emoncms/emoncms#1795: 50 min outage, 2400 W after it, 2.6 kWh invented."""
    parts = integrate(at(*[600.0] * 6) + at(*[2400.0] * 6, start=55 * MINUTE))
    assert sum(part.positive_wh for part in parts) == pytest.approx(50 + 200)
    assert sum(part.covered_s for part in parts) == 600


def test_three_periods_are_no_gap_and_more_are():
    steady = [T0 + index * MINUTE for index in range(10)]
    assert gaps([*steady, steady[-1] + 3 * MINUTE]) == []
    assert gaps([*steady, steady[-1] + 3 * MINUTE + 1]) == [9]


def test_the_period_follows_the_device():
    times = [T0 + index * 5000 for index in range(20)]
    times += [times[-1] + (index + 1) * 300_000 for index in range(20)]
    assert gaps(times) == []
    assert period_ms(times, 3) == 5000
    assert period_ms(times, 30) == 300_000


def test_samples_an_hour_apart_say_nothing_of_the_time_between():
    assert integrate(at(*[1000.0] * 24, step=3_600_000)) == []


def test_one_sample_and_none_are_nothing():
    assert integrate([]) == []
    assert integrate(at(500.0)) == []
    assert Curve([]).between(T0, T0 + 1000) == (0.0, 0.0)
    assert Curve([]).holes(0, 10) == [(0, 10)]


def test_holes_are_what_no_two_samples_cover():
    curve = Curve(at(*[600.0] * 6) + at(*[600.0] * 6, start=30 * MINUTE))
    assert curve.holes(T0 - MINUTE, T0 + 40 * MINUTE) == [
        (T0 - MINUTE, T0),
        (T0 + 5 * MINUTE, T0 + 30 * MINUTE),
        (T0 + 35 * MINUTE, T0 + 40 * MINUTE),
    ]
    assert curve.holes(T0 + 6 * MINUTE, T0 + 7 * MINUTE) == [(T0 + 6 * MINUTE, T0 + 7 * MINUTE)]
    assert curve.holes(T0 + MINUTE, T0 + 2 * MINUTE) == []


powers = st.lists(
    st.one_of(st.none(), st.floats(-5000, 5000, allow_nan=False)), min_size=2, max_size=60
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(powers, st.randoms(use_true_random=False))
def test_parts_add_up_and_neither_order_nor_repetition_matters(values, draw):
    readings = at(*values)
    parts = integrate(readings)
    shuffled = readings + draw.sample(readings, len(readings) // 2)
    tail = shuffled[len(readings) :]
    head = shuffled[: len(readings)]
    random.Random(1).shuffle(head)
    assert integrate(head + tail) == parts
    above, below = Curve(readings), Curve(readings, -1)
    if not parts:
        return
    low, high = readings[0][0], readings[-1][0]
    positive, covered = above.between(low, high)
    assert sum(part.positive_wh for part in parts) == pytest.approx(positive)
    assert sum(part.negative_wh for part in parts) == pytest.approx(below.between(low, high)[0])
    assert sum(part.covered_s for part in parts) == pytest.approx(covered)
    holes = sum(end - begin for begin, end in above.holes(low, high))
    assert covered * 1000 + holes == pytest.approx(high - low)
    signed = sum(
        (a + b) / 2 * (t1 - t0) / 3_600_000
        for index, ((t0, a), (t1, b)) in enumerate(zip(readings, readings[1:], strict=False))
        if index not in set(gaps([ts for ts, _ in readings]))
    )
    assert sum(part.positive_wh - part.negative_wh for part in parts) == pytest.approx(
        signed, abs=1e-6
    )
