"""Owners' cases, from readings to buckets; numbers by hand."""

import pytest
from bookkeeper.books import Bucket, Counter, Feed, Power, balance, book, rebook
from bookkeeper.integrate import BUCKET_MS

T0 = 1_774_728_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def minutes(first, last, value):
    """A reading a minute; ``value`` is a number or a function of the minute."""
    get = value if callable(value) else lambda _: value
    return [(T0 + minute * MINUTE, get(minute)) for minute in range(first, last)]


def fine(readings, **more):
    return Counter(readings, 5000, 0.01, **more)


def booked(*feeds, hours=1, flow="load", shape=None):
    return book(flow, feeds, T0, T0 + hours * HOUR, shape)


def wh(buckets):
    return pytest.approx(sum(bucket.wh for bucket in buckets), abs=1e-3)


def flags(buckets):
    return {bucket.flag for bucket in buckets}


def kw_counter(minute):
    """1.2 kW: 20 Wh a minute."""
    return round(10 + minute * 0.02, 2)


def test_the_lifetime_counter_comes_first():
    feed = Feed(
        lifetime=fine(minutes(0, 61, kw_counter)),
        day=fine(minutes(0, 61, lambda minute: minute * 0.05)),
        power=Power(minutes(0, 61, 1000.0)),
    )
    buckets = booked(feed)
    assert len(buckets) == 12
    assert {(b.source, b.flag, b.covered_s) for b in buckets} == {("lifetime", "measured", 300)}
    assert [b.wh for b in buckets] == [pytest.approx(100)] * 12


def test_then_the_day_counter_and_then_power():
    feed = Feed(
        lifetime=fine(minutes(0, 21, kw_counter)),
        day=fine(minutes(10, 41, lambda minute: round(minute * 0.01, 2))),
        power=Power(minutes(30, 61, 300.0)),
    )
    buckets = booked(feed)
    assert [b.source for b in buckets] == ["lifetime"] * 4 + ["day_counter"] * 4 + ["power"] * 4
    assert [b.flag for b in buckets] == ["measured"] * 8 + ["integrated"] * 4
    assert [round(b.wh) for b in buckets] == [100] * 4 + [50] * 4 + [25] * 4


def test_what_nobody_knows_has_no_bucket():
    assert booked(Feed(power=Power([]))) == []
    assert booked(Feed()) == []
    assert booked() == []
    buckets = booked(Feed(power=Power(minutes(0, 8, 600.0) + minutes(47, 61, 600.0))))
    assert [b.ts - T0 for b in buckets] == [m * MINUTE for m in (0, 5, 45, 50, 55)]
    assert [b.covered_s for b in buckets] == [300, 120, 180, 300, 300]


def test_fifty_minutes_of_outage_without_a_counter_are_not_booked():
    """emoncms/emoncms#1795: the first sample after it is 2400 W, and 2.6 kWh were invented."""
    power = minutes(0, 6, 120.0) + minutes(55, 61, 2400.0)
    buckets = booked(Feed(power=Power(power)))
    assert wh(buckets) == 10 + 200
    assert flags(buckets) == {"integrated"}


def test_fifty_minutes_of_outage_are_recovered_from_the_counter():
    """2.6 kWh were counted meanwhile: they belong to the gap, not to its first bucket."""
    counter = minutes(0, 6, 10.0) + minutes(55, 61, 12.6)
    power = minutes(0, 6, 0.0) + minutes(55, 61, 0.0)
    buckets = booked(Feed(fine(counter), power=Power(power)))
    assert wh(buckets) == 2600
    assert [b.flag for b in buckets] == ["measured", *["recovered"] * 10, "measured"]
    assert [b.wh for b in buckets[1:11]] == [pytest.approx(260)] * 10


def test_recovered_energy_follows_the_shape_of_a_day():
    shape = [0.0] * 288
    slot = (T0 + 30 * MINUTE) // BUCKET_MS % 288
    shape[slot], shape[slot + 1] = 1.0, 3.0
    counter = minutes(0, 6, 10.0) + minutes(55, 61, 12.6)
    buckets = booked(Feed(fine(counter)), shape=shape)
    assert {(b.ts - T0) // MINUTE: round(b.wh) for b in buckets if b.wh > 0} == {30: 650, 35: 1950}
    nothing = booked(Feed(fine(counter)), shape=[0.0] * 288)
    assert wh(nothing) == 2600


def test_a_pause_of_the_counter_is_no_gap_when_power_is_known():
    counter = minutes(0, 11, 10.0) + minutes(40, 61, 11.0)
    power = minutes(0, 61, lambda minute: 2000.0 if 10 <= minute < 40 else 0.0)
    buckets = booked(Feed(fine(counter), power=Power(power)))
    assert wh(buckets) == 1000
    assert flags(buckets) == {"measured"}


def test_an_export_that_never_was():
    """wills106/homeassistant-solax-modbus#2252: 0 instead of unavailable, 71.2 kWh of export."""
    counter = minutes(0, 61, lambda minute: 0.0 if minute in (20, 21, 40) else 35.6)
    assert wh(booked(Feed(fine(counter)))) == 0


def test_a_month_of_absence():
    """home-assistant/frontend#28177: -1400 kWh. Here 300 kWh in 30 days, all of it marked."""
    month = 30 * 24 * 60
    counter = minutes(0, 60, 1000.0) + minutes(month, month + 60, 1300.0)
    buckets = book("pv", [Feed(fine(counter))], T0, T0 + month * MINUTE + HOUR)
    assert wh(buckets) == 300_000
    assert {b.flag for b in buckets if b.wh > 0} == {"recovered"}
    assert max(b.wh for b in buckets) < 35
    assert min(b.wh for b in buckets) >= 0


def test_yesterdays_value_at_dawn():
    """hultenvp/solis-sensor#92: yesterday's total for some minutes at sunrise."""
    day = minutes(0, 60, 12.3) + minutes(700, 710, 12.3)
    day += minutes(710, 780, lambda minute: round((minute - 710) * 0.02, 2))
    buckets = book("pv", [Feed(day=fine(day))], T0, T0 + 13 * HOUR)
    assert wh(buckets) == 69 * 20
    assert {b.source for b in buckets} == {"day_counter"}


def test_a_sum_of_day_yields_that_falls_at_dusk():
    """tbnobody/OpenDTU#1770."""
    falls = minutes(0, 20, 12.3) + minutes(20, 60, 8.1) + minutes(60, 100, 4.0)
    assert wh(book("pv", [Feed(day=fine(falls))], T0, T0 + 2 * HOUR)) == 0


def test_what_was_lost_with_a_reset_is_said():
    """The minute in which it was reset has what was counted since, and is marked."""
    counter = minutes(0, 31, kw_counter) + minutes(31, 61, lambda m: round((m - 31) * 0.02, 2))
    buckets = booked(Feed(fine(counter)))
    assert wh(buckets) == 600 + 580
    (marked,) = [b for b in buckets if b.flag != "measured"]
    assert (marked.ts - T0) // MINUTE == 30
    assert (marked.flag, marked.covered_s) == ("recovered", 240)


def test_power_knows_what_was_lost_with_a_reset():
    counter = minutes(0, 31, kw_counter) + minutes(31, 61, lambda m: round((m - 31) * 0.02, 2))
    buckets = booked(Feed(fine(counter), power=Power(minutes(0, 62, 1200.0))))
    assert wh(buckets) == 1200
    assert flags(buckets) == {"measured", "integrated"}


def test_a_frozen_counter_does_not_hide_the_power():
    buckets = booked(Feed(fine(minutes(0, 61, 0.0)), power=Power(minutes(0, 62, 1200.0))))
    assert wh(buckets) == 1200
    assert flags(buckets) == {"integrated"}
    standby = booked(Feed(fine(minutes(0, 61, 812.0)), power=Power(minutes(0, 62, 20.0))))
    assert wh(standby) == 0


def step_counter(power_w, first=0.0):
    """A counter that shows whole kWh, as Axpert's QET does."""
    return lambda minute: float(int(first + power_w * minute / 60_000 + 1e-9))


def test_power_shapes_what_a_coarse_counter_fixes():
    """Power reads 5 % too low; between two steps the counter is exact."""
    counter = Counter(minutes(0, 601, step_counter(1200)), 5000, 1.0)
    power = Power(minutes(0, 601, 1140.0))
    buckets = book("load", [Feed(counter, power=power)], T0, T0 + 10 * HOUR)
    fixed = [b for b in buckets if b.source == "lifetime"]
    assert len(fixed) > 90
    assert {b.flag for b in fixed} <= {"measured", "integrated"}
    assert [b.wh for b in fixed if b.flag == "measured"] == [pytest.approx(100, abs=2)] * len(
        [b for b in fixed if b.flag == "measured"]
    )
    assert {round(b.wh) for b in buckets if b.source == "power"} == {95}


def test_a_coarse_counter_that_contradicts_power_is_not_believed():
    counter = Counter(minutes(0, 601, step_counter(2400)), 5000, 1.0)
    buckets = book(
        "load", [Feed(counter, power=Power(minutes(0, 601, 1200.0)))], T0, T0 + 10 * HOUR
    )
    assert flags(buckets) == {"integrated"}
    assert wh(buckets) == 12_000


def test_a_coarse_counter_recovers_what_an_outage_hid():
    """50 min at 1.2 kW are 1 kWh, found although the counter shows whole ones only."""
    counter = [
        r for r in minutes(0, 601, step_counter(1200)) if not 300 < (r[0] - T0) / MINUTE < 350
    ]
    power = [(ts, 1200.0) for ts, _ in counter]
    buckets = book(
        "load", [Feed(Counter(counter, 5000, 1.0), power=Power(power))], T0, T0 + 10 * HOUR
    )
    assert sum(b.wh for b in buckets) == pytest.approx(12_000, rel=0.01)
    gap = [b for b in buckets if b.flag == "recovered"]
    assert len(gap) == 10
    assert [b.wh for b in gap] == [pytest.approx(100, abs=5)] * 10


def test_a_coarse_counter_alone_spreads_its_steps():
    counter = Counter(minutes(0, 601, step_counter(500)), 5000, 1.0)
    buckets = book("load", [Feed(counter)], T0, T0 + 10 * HOUR)
    assert wh(buckets) == 5000
    steady = [b for b in buckets if T0 + 2 * HOUR <= b.ts < T0 + 10 * HOUR]
    assert [b.wh for b in steady] == [pytest.approx(500 / 12, abs=0.5)] * 96
    assert {b.flag for b in steady} == {"estimated"}


def test_export_and_import_come_from_one_power():
    power = minutes(0, 61, lambda minute: 600.0 if minute < 30 else -1200.0)
    bought = booked(Feed(power=Power(power, 1)), flow="grid_import")
    sold = booked(Feed(power=Power(power, -1)), flow="grid_export")
    assert sum(b.wh for b in bought) == pytest.approx(300, abs=10)
    assert sum(b.wh for b in sold) == pytest.approx(600, abs=10)
    assert all(b.wh >= 0 for b in [*bought, *sold])


def test_two_devices_are_added_and_the_weaker_flag_wins():
    both = booked(Feed(fine(minutes(0, 61, kw_counter))), Feed(power=Power(minutes(0, 41, 600.0))))
    assert [round(b.wh) for b in both] == [150] * 8 + [100] * 4
    assert [b.flag for b in both] == ["integrated"] * 8 + ["measured"] * 4
    assert [b.covered_s for b in both] == [300] * 8 + [0] * 4


def test_days_are_cut_anywhere():
    """The clocks go forward at 01:00 UTC; the buckets do not care."""
    buckets = book("load", [Feed(fine(minutes(0, 601, kw_counter)))], T0, T0 + 10 * HOUR)
    assert [round(b.wh) for b in buckets] == [100] * 120


def bucket(flow, minute, energy, covered=300.0):
    return {
        T0 + minute * MINUTE: Bucket(
            flow, T0 + minute * MINUTE, energy, "power", "integrated", covered
        )
    }


def test_a_balance_needs_every_side():
    pv = bucket("pv", 0, 100) | bucket("pv", 5, 100) | bucket("pv", 10, 10)
    bought = bucket("grid_import", 0, 20, 240.0) | bucket("grid_import", 10, 0)
    sold = (
        bucket("grid_export", 0, 50) | bucket("grid_export", 5, 50) | bucket("grid_export", 10, 30)
    )
    rows = balance("load", [pv, bought], [sold], T0, T0 + HOUR)
    assert rows == [
        Bucket("load", T0, 70, "balance", "estimated", 240.0),
        Bucket("load", T0 + 10 * MINUTE, 0.0, "balance", "estimated", 300.0),
    ]
    assert balance("load", [], [], T0, T0 + HOUR) == []


def test_a_late_sample_books_little_again():
    """Minutes for 24 h; one late sample touches an hour or so on either side, not the day."""
    counter, power = minutes(0, 1440, kw_counter), minutes(0, 1440, 1200.0)

    def load(start, end, more):
        low, high = (start - T0) // MINUTE - more, (end - T0) // MINUTE + more
        return [Feed(fine(counter[max(0, low) : high]), power=Power(power[max(0, low) : high]))]

    done = rebook("load", load, T0 + 12 * HOUR, T0 + 12 * HOUR + 1)
    assert T0 + 10 * HOUR < done.start <= T0 + 12 * HOUR
    assert T0 + 12 * HOUR < done.end < T0 + 14 * HOUR
    assert [b.ts for b in done.buckets] == list(range(done.start, done.end, BUCKET_MS))


def test_rebooking_where_there_is_nothing_is_nothing():
    done = rebook("load", lambda *_: [], T0, T0 + MINUTE)
    assert (done.start, done.end, done.buckets) == (T0, T0 + BUCKET_MS, [])
    done = rebook("load", lambda *_: [Feed(fine([]), fine([]), Power([]))], T0, T0 + MINUTE)
    assert done.buckets == []
