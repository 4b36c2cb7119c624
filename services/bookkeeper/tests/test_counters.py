"""What owners told of their counters, case by case; numbers by hand."""

import pytest
from bookkeeper.counters import EPOCH, NORMAL, RECOVERED, RESET, WRAP, Rules, rises

T0 = 1_774_728_000_000
MINUTE = 60_000
FINE = Rules(max_power_w=5000, resolution_kwh=0.01)
DAILY = Rules(max_power_w=5000, resolution_kwh=0.01, daily=True)


def at(*values, start=0, step=1):
    """Readings once a minute; None = nothing came."""
    return [
        (T0 + (start + index * step) * MINUTE, value)
        for index, value in enumerate(values)
        if value is not None
    ]


def wh(readings, rules=FINE):
    return pytest.approx(sum(rise.wh for rise in rises(readings, rules)), abs=0.01)


def verdicts(readings, rules=FINE):
    return {rise.verdict for rise in rises(readings, rules)}


def only(readings, verdict, rules=FINE):
    (found,) = [rise for rise in rises(readings, rules) if rise.verdict == verdict]
    return found


def test_a_counter_that_rises_is_taken_at_its_word():
    readings = at(10.0, 10.02, 10.02, 10.05)
    found = rises(readings, FINE)
    assert [(rise.start - T0, rise.end - T0, round(rise.wh)) for rise in found] == [
        (0, MINUTE, 20),
        (MINUTE, 2 * MINUTE, 0),
        (2 * MINUTE, 3 * MINUTE, 30),
    ]
    assert verdicts(readings) == {NORMAL}


def test_no_reading_and_one_reading_say_nothing():
    assert rises([], FINE) == []
    assert rises(at(10.0), FINE) == []


def test_what_is_no_number_is_no_reading():
    readings = at(10.0, float("nan"), 10.02, float("inf"), 10.03, -3.0, 10.04)
    assert wh(readings) == 40


def test_a_fall_within_the_resolution_is_ignored():
    assert wh(at(10.00, 10.02, 10.01, 10.02, 10.01, 10.02, 10.03)) == 30


def test_a_dip_loses_and_invents_nothing():
    """wills106/homeassistant-solax-modbus#2252: 0 instead of unavailable, twice."""
    readings = at(35.58, 35.60, 35.61, 0.0, 35.62, 35.63, 35.64, 0.0, 0.0, 0.0, 0.0, 35.66, 35.67)
    assert wh(readings) == 90
    assert verdicts(readings) <= {NORMAL, RECOVERED}


def test_old_low_totals_after_a_reboot_are_not_believed():
    """SpanPanel/span#87: recovery from the first, old totals was counted."""
    readings = at(812.30, 812.34, 812.36, None, None, 790.0, 790.0, 790.0, 790.0, 812.40, 812.42)
    assert wh(readings) == 120


def test_a_device_that_shows_0_all_night_goes_on_in_the_morning():
    readings = at(812.30, 812.32, 812.34, *[0.0] * 600, 812.34, 812.36, 812.38)
    assert wh(readings) == 80
    assert only(readings, RECOVERED).wh == pytest.approx(0)


def test_one_spike_is_nothing():
    assert wh(at(10.0, 10.02, 10.04, 500.0, 10.06, 10.08, 10.10)) == 100
    assert wh(at(10.0, 10.02, 10.04, 500.0, 501.0, 10.06, 10.08)) == 80


def test_a_plausible_spike_after_a_pause_is_taken_back():
    readings = at(10.0, 10.02, 10.04) + at(12.9, 10.30, 10.32, 10.34, start=120)
    assert wh(readings) == 340


def test_a_reset_keeps_what_was_counted_before_and_after():
    readings = at(812.30, 812.32, 812.34, 0.02, 0.04, 0.07)
    assert wh(readings) == 40 + 20 + 50
    reset = only(readings, RESET)
    assert (reset.start, reset.end) == (T0 + 2 * MINUTE, T0 + 3 * MINUTE)


def test_a_reset_is_not_believed_before_two_more_readings():
    assert wh(at(812.30, 812.32, 812.34, 0.02)) == 40
    assert wh(at(812.30, 812.32, 812.34, 0.02, 0.04)) == 40
    assert wh(at(812.30, 812.32, 812.34, 0.02, 0.04, 0.06)) == 100


def test_the_whole_counter_is_never_booked_after_a_restart():
    """home-assistant/core#55901 and #115065: 0 at reboot, then everything at once."""
    readings = at(0.0, 300.0, 300.02, 300.04)
    assert wh(readings) == 40
    assert wh(at(300.0, 300.02, 300.04, 0.0, 0.0, 300.05, 300.07, 300.09)) == 90


def test_an_impossible_rise_is_a_new_epoch_once_it_is_confirmed():
    """5 kW make 100 Wh in a minute with 20 % to spare, and 10 Wh of a step."""
    assert wh(at(10.0, 10.0, 10.0, 10.10, 10.20, 10.30)) == 300
    assert wh(at(10.0, 10.0, 10.0, 11.0, 11.0, 11.0)) == 0
    assert only(at(10.0, 10.0, 10.0, 11.0, 11.0, 11.0), EPOCH).wh == 0


def test_a_counter_that_is_refreshed_every_five_minutes_may_rise_by_as_much():
    assert wh(at(*[10.0] * 7, 10.5, 10.5, 10.5)) == 500
    assert wh(at(*[10.0] * 7, 11.0, 11.0, 11.0)) == 0


def test_another_device_brings_no_energy():
    for other in (5000.0, 300.0):
        readings = at(812.30, 812.32, 812.34, other, other + 0.02, other + 0.04)
        assert wh(readings) == 80
        assert only(readings, EPOCH).wh == 0


@pytest.mark.parametrize(
    ("limit", "step"),
    [(100_000.0, 0.1), (10_000.0, 0.01), (1_000_000.0, 0.01), (65_536.0, 1.0), (655.36, 0.01)],
)
def test_a_counter_that_wraps_goes_on(limit, step):
    rules = Rules(5000, step)
    readings = at(
        limit - 4 * step, limit - 3 * step, limit - 2 * step, limit - step, 0.0, step, 2 * step
    )
    assert wh(readings, rules) == 6 * step * 1000
    assert only(readings, WRAP, rules).wh == pytest.approx(step * 1000, abs=0.01)


def test_a_limit_of_ones_own_is_believed_over_a_pause():
    rules = Rules(5000, 0.01, wraps_at_kwh=(777.0,))
    readings = at(776.0, 776.02, 776.04) + at(2.0, 2.02, 2.04, start=600)
    assert only(readings, WRAP, rules).wh == pytest.approx(2960)


def test_a_month_of_absence_is_recovered_as_a_whole():
    """home-assistant/frontend#28177: back after a month, -1400 kWh."""
    month = 30 * 24 * 60
    readings = at(1000.0, 1000.02, 1000.04) + at(1400.04, 1400.06, 1400.08, start=month)
    assert wh(readings) == 400_080
    found = only(readings, RECOVERED)
    assert (found.start, found.end) == (T0 + 2 * MINUTE, T0 + month * MINUTE)
    back = at(1400.0, 1400.02, 1400.04) + at(2.0, 2.02, 2.04, start=month)
    assert wh(back) == 40 + 2000 + 40  # reset while away: what it shows was counted since


def test_fifty_minutes_of_outage_are_recovered_by_the_counter():
    readings = at(10.0, 10.02, 10.04) + at(10.40, 10.42, 10.44, start=52)
    assert only(readings, RECOVERED).wh == pytest.approx(360)


def test_a_replay_changes_nothing():
    readings = at(10.0, 10.02, 10.04, 10.06, 10.08)
    again = [*readings, readings[1], readings[0], readings[3], *reversed(readings)]
    assert rises(again, FINE) == rises(readings, FINE)
    late = [readings[4], readings[0], readings[2], readings[1], readings[3]]
    assert rises(late, FINE) == rises(readings, FINE)


def test_accumulators_that_go_backwards_bring_nothing():
    """emoncms/emoncms#1137."""
    readings = at(*[round(100 - index * 0.05, 2) for index in range(100)])
    assert sum(rise.wh for rise in rises(readings, FINE)) == 0


def test_a_sum_that_falls_at_dusk_brings_nothing():
    """tbnobody/OpenDTU#1770: inverters switch off one by one."""
    readings = at(*[12.30] * 5, *[8.10] * 40, *[4.00] * 40, *[0.0] * 300)
    assert sum(rise.wh for rise in rises(readings, DAILY)) == 0


def test_a_day_counter_starts_again_at_midnight_and_goes_on():
    readings = at(12.26, 12.28, 12.30, 0.0, 0.02, 0.04)
    assert wh(readings, DAILY) == 40 + 0 + 40


def test_yesterdays_value_at_dawn_is_no_energy():
    """hultenvp/solis-sensor#92, esphome/issues#3612."""
    dusk = at(12.28, 12.30, 12.30)
    dawn = at(*[12.30] * 5, 0.0, 0.02, 0.04, start=14 * 60)
    assert wh(dusk + dawn, DAILY) == 20 + 40
    with_zeros = dusk + at(*[0.0] * 800, start=3) + dawn
    assert wh(with_zeros, DAILY) == 20 + 40
    counted_at_night = dusk + at(*[0.0] * 100, 0.02, *[0.04] * 735, start=3)
    dawn = at(*[12.30] * 5, 0.06, 0.08, 0.10, start=14 * 60)
    assert wh(counted_at_night + dawn, DAILY) == 20 + 40 + 60


def test_a_day_counter_that_nobody_reset_goes_on():
    """tbnobody/OpenDTU#1822, Hypfer/deye-microinverter-cloud-free#1."""
    readings = at(12.26, 12.28, 12.30) + at(12.30, 12.32, 12.34, start=14 * 60)
    assert wh(readings, DAILY) == 80


def test_a_day_counter_back_to_0_after_a_cloud_counts_on():
    """lumapu/ahoy#773."""
    readings = at(5.26, 5.28, 5.30, 0.0, 0.02, 0.04, 0.06)
    assert wh(readings, DAILY) == 40 + 60


def test_a_day_counter_after_a_night_without_readings_is_never_too_much():
    readings = at(3.0, 3.02, 3.04) + at(1.50, 1.52, 1.54, start=15 * 60)
    assert wh(readings, DAILY) == 40 + 1500 + 40
    higher = at(3.0, 3.02, 3.04) + at(8.0, 8.02, 8.04, start=26 * 60)
    assert wh(higher, DAILY) == 40 + 4960 + 40
