from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from bookkeeper.days import (
    autarky,
    bounds,
    day_of,
    days_between,
    hours_of,
    losses,
    self_consumption,
    total,
)
from hypothesis import given, settings
from hypothesis import strategies as st

ROME = ZoneInfo("Europe/Rome")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
KOLKATA = ZoneInfo("Asia/Kolkata")
NEPAL = ZoneInfo("Asia/Kathmandu")
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("zone", "day", "hours", "parts"),
    [
        (ROME, date(2026, 3, 29), 23, 23),
        (ROME, date(2026, 10, 25), 25, 25),
        (ROME, date(2026, 7, 1), 24, 24),
        (NEW_YORK, date(2026, 3, 8), 23, 23),
        (NEW_YORK, date(2026, 11, 1), 25, 25),
        (LORD_HOWE, date(2026, 4, 5), 24.5, 24),  # 30 minutes; autumn is in April
        (LORD_HOWE, date(2026, 10, 4), 23.5, 23),  # 02:00 is skipped: an hour and a half
        (KOLKATA, date(2026, 3, 29), 24, 24),
        (NEPAL, date(2026, 3, 29), 24, 24),
    ],
)
def test_days_are_as_long_as_they_are(zone, day, hours, parts):
    start, end = bounds(day, zone)
    assert (end - start) / HOUR == hours
    cut = hours_of(day, zone)
    assert len(cut) == parts
    assert cut[0][0] == start
    assert cut[-1][1] == end
    assert all(left[1] == right[0] for left, right in zip(cut, cut[1:], strict=False))


def test_a_day_begins_at_the_sites_midnight():
    start, _ = bounds(date(2026, 3, 29), KOLKATA)
    assert start == int(datetime(2026, 3, 28, 18, 30, tzinfo=UTC).timestamp() * 1000)
    assert day_of(start, KOLKATA) == date(2026, 3, 29)
    assert day_of(start - 1, KOLKATA) == date(2026, 3, 28)


def test_where_the_clock_skips_midnight_the_day_begins_at_the_change():
    """Cairo goes from 00:00 to 01:00 on the last Friday of April."""
    cairo = ZoneInfo("Africa/Cairo")
    start, end = bounds(date(2026, 4, 24), cairo)
    assert (end - start) / HOUR == 23
    assert bounds(date(2026, 4, 23), cairo)[1] == start
    assert day_of(start, cairo) == date(2026, 4, 24)
    assert day_of(start - 1, cairo) == date(2026, 4, 23)


def test_days_between_are_those_that_are_touched():
    start, end = bounds(date(2026, 3, 29), ROME)
    assert days_between(start, end, ROME) == [(date(2026, 3, 29), start, end)]
    assert [day for day, _, _ in days_between(start - 1, end + 1, ROME)] == [
        date(2026, 3, 28),
        date(2026, 3, 29),
        date(2026, 3, 30),
    ]
    assert days_between(start, start, ROME) == []


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.sampled_from((ROME, NEW_YORK, LORD_HOWE, KOLKATA, NEPAL)),
    st.sampled_from(
        [date(2026, *day) for day in ((3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1), (7, 1))]
    ),
    st.integers(-1, 1),
    st.integers(0, 1000),
)
def test_the_day_is_the_sum_of_its_hours_and_the_days_are_the_whole(zone, day, offset, seed):
    day += timedelta(days=offset)
    first, _ = bounds(day - timedelta(days=1), zone)
    _, last = bounds(day + timedelta(days=1), zone)
    buckets = {ts: float((ts // 300_000 * 7919 + seed) % 401) for ts in range(first, last, 300_000)}
    start, end = bounds(day, zone)
    hours = [total(buckets, low, high) for low, high in hours_of(day, zone)]
    assert sum(hours) == total(buckets, start, end)
    days = days_between(first, last, zone)
    assert len(days) == 3
    assert sum(total(buckets, low, high) for _, low, high in days) == sum(buckets.values())


def test_a_sum_of_nothing_is_not_known():
    assert total({}, 0, 10) is None
    assert total({5: 2.0, 10: 4.0}, 0, 10) == 2.0


DAY = {
    "pv": 20_000.0,
    "load": 12_000.0,
    "grid_import": 3000.0,
    "grid_export": 9000.0,
    "battery_charge": 6000.0,
    "battery_discharge": 5000.0,
}


def test_shares_of_a_day_by_hand():
    assert self_consumption(DAY) == pytest.approx(0.55)
    assert autarky(DAY) == pytest.approx(0.75)
    assert losses(DAY) == pytest.approx(1000)


def test_what_is_not_known_gives_no_share():
    for flow in ("pv", "grid_export"):
        assert self_consumption({k: v for k, v in DAY.items() if k != flow}) is None
    for flow in ("load", "grid_import"):
        assert autarky({k: v for k, v in DAY.items() if k != flow}) is None
    for flow in DAY:
        assert losses({k: v for k, v in DAY.items() if k != flow}) is None
    assert self_consumption(DAY | {"pv": 0.0}) is None
    assert autarky(DAY | {"load": 0.0}) is None


def test_a_house_without_a_grid_has_losses_too():
    island = {k: v for k, v in DAY.items() if not k.startswith("grid")} | {"generator": 100.0}
    assert losses(island, frozenset({"grid_import", "grid_export"})) == pytest.approx(7100)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.fixed_dictionaries({flow: st.floats(0, 1e6) for flow in DAY}))
def test_shares_stay_within_0_and_1(sums):
    for share in (self_consumption(sums), autarky(sums)):
        assert share is None or 0 <= share <= 1
    assert losses(sums) >= 0
