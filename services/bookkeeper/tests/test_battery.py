import pytest
from bookkeeper.battery import (
    curtailed,
    expected,
    full_cycles,
    full_spans,
    sweeps,
    throughput,
)

T0 = 1_774_742_400_000  # 2026-03-29 00:00 UTC
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BUCKET = 5 * MINUTE


def series(*pieces):
    """(minutes, from, to) after each other, a reading a minute."""
    found, ts = [], T0
    for minutes, begin, finish in pieces:
        for minute in range(minutes):
            found.append((ts, begin + (finish - begin) * minute / minutes))
            ts += MINUTE
    return [*found, (ts, pieces[-1][2])]


SOC = series((60, 100, 100), (480, 100, 20), (480, 20, 100), (60, 100, 100))
POWER = series((60, 0, 0), (480, 500, 500), (480, -550, -550), (60, 0, 0))
CURRENT = series((60, 0, 0), (480, 10, 10), (480, -10.5, -10.5), (60, 0, 0))


def test_throughput_and_cycles_by_hand():
    assert throughput(6000, 5000) == 11_000
    assert throughput(None, 5000) == 5000
    assert throughput(None, None) is None
    assert full_cycles(5000, 10_000) == 0.5
    assert full_cycles(5000, None) is None
    assert full_cycles(5000, 0) is None
    assert full_cycles(None, 10_000) is None


def test_a_sweep_down_and_back_measures_the_capacity():
    """8 h at 500 W are 4 kWh for 80 %: 5 kWh; 80 Ah for 80 %: 100 Ah."""
    full = full_spans(SOC[-1][0], soc=SOC)
    assert len(full) == 2
    down, back = sweeps(full, SOC, POWER, CURRENT)
    assert (down.direction, down.from_percent, down.to_percent) == ("discharge", 100, 20)
    assert down.capacity_wh == pytest.approx(5000, rel=0.05)
    assert down.capacity_ah == pytest.approx(100, rel=0.05)
    assert (back.direction, back.from_percent, back.to_percent) == ("charge", 20, 100)
    assert back.capacity_wh == pytest.approx(5500, rel=0.05)
    assert back.started == down.ended
    assert down.confidence == pytest.approx(1.0, abs=0.02)


def test_a_sweep_that_goes_on_is_measured_down_only():
    soc = SOC[:700]
    (down,) = sweeps(full_spans(soc[-1][0], soc=soc), soc, POWER[:700])
    assert down.direction == "discharge"
    assert down.ah is None
    assert down.capacity_ah is None


def test_a_shallow_sweep_measures_nothing_and_a_middling_one_is_less_sure():
    shallow = series((60, 100, 100), (480, 100, 70), (480, 70, 100), (30, 100, 100))
    assert sweeps(full_spans(shallow[-1][0], soc=shallow), shallow, POWER) == []
    half = series((60, 100, 100), (480, 100, 50), (480, 50, 100), (30, 100, 100))
    down, _ = sweeps(full_spans(half[-1][0], soc=half), half, POWER)
    assert 0.55 < down.confidence < 0.7


def test_a_sweep_with_a_hole_in_its_power_measures_nothing():
    power = [reading for reading in POWER if not T0 + 3 * HOUR < reading[0] < T0 + 5 * HOUR]
    assert [s.direction for s in sweeps(full_spans(SOC[-1][0], soc=SOC), SOC, power)] == ["charge"]


def test_full_by_stage_by_charge_and_by_voltage():
    end = T0 + 10 * HOUR
    stages = [
        (T0, "bulk"),
        (T0 + HOUR, "absorb"),
        (T0 + 2 * HOUR, "float"),
        (T0 + 3 * HOUR, "none"),
    ]
    assert full_spans(end, stages) == [(T0 + HOUR, T0 + 3 * HOUR)]
    assert full_spans(end, [(T0, "float")]) == [(T0, end)]
    soc = [(T0, 98.0), (T0 + MINUTE, 100.0), (T0 + 2 * MINUTE, 98.0), (T0 + 3 * MINUTE, 96.0)]
    assert full_spans(end, soc=soc) == [(T0 + MINUTE, T0 + 3 * MINUTE)]
    volts = series((30, 52, 52), (5, 57, 57), (30, 52, 52), (20, 57, 57), (30, 52, 52))
    assert full_spans(end, voltage=volts, full_voltage_v=56.5) == [
        (T0 + 65 * MINUTE, T0 + 85 * MINUTE)
    ]
    assert full_spans(end, voltage=volts) == []


def sun(day, factor, hours=range(6, 18)):
    return {
        T0 + day * DAY + hour * HOUR + slot * BUCKET: 100.0 * factor
        for hour in hours
        for slot in range(12)
    }


def test_what_is_expected_is_the_best_of_the_last_days():
    pv = sun(0, 0.6) | sun(1, 1.0) | sun(2, 0.8)
    noon = T0 + 3 * DAY + 12 * HOUR
    assert expected(pv, noon) == 100
    assert expected(pv, noon, days=1) == 80
    assert expected({}, noon) is None


def test_light_scales_what_is_expected():
    pv = sun(0, 1.0)
    noon = T0 + DAY + 12 * HOUR
    light = {noon: 400.0, noon - DAY: 800.0}
    assert expected(pv, noon, light) == 50
    assert expected(pv, noon, {noon: 400.0, noon - DAY: 10.0}) is None


def test_a_full_battery_loses_what_the_best_day_gave():
    """Full from noon on: 60 Wh a bucket less than the 100 of the day before, six hours long."""
    pv = sun(0, 1.0) | sun(1, 1.0, range(6, 12)) | sun(1, 0.4, range(12, 18))
    full = [(T0 + DAY + 12 * HOUR, T0 + 2 * DAY)]
    rows = curtailed(pv, full, T0 + DAY, T0 + 2 * DAY)
    assert sum(row.wh for row in rows) == pytest.approx(60 * 72)
    assert {(row.flow, row.source, row.flag) for row in rows} == {
        ("curtailed", "expected", "estimated")
    }
    assert min(row.ts for row in rows) == full[0][0]


def test_clouds_are_not_curtailment():
    """Half the sun before the battery was full, and half of it after."""
    pv = sun(0, 1.0) | sun(1, 0.5)
    full = [(T0 + DAY + 12 * HOUR, T0 + 2 * DAY)]
    assert curtailed(pv, full, T0 + DAY, T0 + 2 * DAY) == []


def test_measured_light_is_believed():
    pv = sun(0, 1.0) | sun(1, 0.5)
    full = [(T0 + DAY + 12 * HOUR, T0 + 2 * DAY)]
    bright = {ts: 800.0 for ts in sun(0, 1.0) | sun(1, 1.0)}
    rows = curtailed(pv, full, T0 + DAY, T0 + 2 * DAY, irradiance=bright)
    assert sum(row.wh for row in rows) == pytest.approx(50 * 72)


def test_without_sun_before_it_was_full_nobody_knows():
    pv = sun(0, 1.0) | sun(1, 0.4)
    assert curtailed(pv, [(T0 + DAY, T0 + 2 * DAY)], T0 + DAY, T0 + 2 * DAY) == []


def test_a_battery_that_is_not_full_loses_nothing():
    pv = sun(0, 1.0) | sun(1, 0.4)
    assert curtailed(pv, [], T0 + DAY, T0 + 2 * DAY) == []
