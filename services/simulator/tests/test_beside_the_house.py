"""What is no part of the house: the annex with its own balance, the shed, the sensors."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from simulator.annex import PANELS
from simulator.config import House
from simulator.faults import Calendar, Fault
from simulator.shed import CAPACITY_AH, clock_offset_s, local_clock
from simulator.world import World

DAY = 86_400.0
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
JUNE = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
SUMMER_TIME_ENDS = datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp()
HOUSE = House()


def of(device, values):
    own = f"{device}."
    return {name.removeprefix(own): v for name, v in values.items() if name.startswith(own)}


@pytest.mark.parametrize("start", [NOVEMBER, JUNE])
def test_the_property_as_a_whole_balances(start):
    """House and annex summed: pv + grid + battery = load + losses."""
    outage = Fault("grid_outage", 10 * 3600.0, 7200.0)
    world = World(HOUSE, start, calendar=Calendar(start, (outage,)))
    before = of("roof", world.step(300.0))
    made = used = net = 0.0
    while world.time < start + 3 * DAY:
        v = world.step(300.0)
        roof = of("roof", v)
        came = v["pv_total_power_w"] + roof["pv_power_w"] + v["battery_power_w"]
        came += v["grid_power_w"] + roof["grid_power_w"]
        went = v["load_power_w"] + roof["load_power_w"] + v["inverter_loss_power_w"]
        assert came == pytest.approx(went, abs=1e-6)
        made += roof["pv_power_w"] * 300.0 / 3.6e6
        used += roof["load_power_w"] * 300.0 / 3.6e6
        net += roof["grid_power_w"] * 300.0 / 3.6e6
    assert roof["pv_energy_total_kwh"] - before["pv_energy_total_kwh"] == pytest.approx(made)
    assert roof["load_energy_total_kwh"] - before["load_energy_total_kwh"] == pytest.approx(used)
    assert roof["grid_net_energy_kwh"] - before["grid_net_energy_kwh"] == pytest.approx(net)
    assert made > 10.0
    assert used > 10.0


def test_the_microinverters_are_what_the_roof_makes_and_follow_the_light():
    world = World(HOUSE, JUNE)
    seen = []
    while world.time < JUNE + DAY:
        roof = of("roof", world.step(300.0))
        assert len(roof["microinverter_power_w"]) == PANELS
        assert sum(roof["microinverter_power_w"]) == pytest.approx(roof["pv_power_w"])
        assert sum(roof["microinverter_energy_kwh"]) == pytest.approx(roof["pv_energy_total_kwh"])
        seen.append((roof["irradiance_w_m2"], roof["pv_power_w"]))
    assert {power > 0.0 for light, power in seen if light > 100.0} == {True}
    assert {power for light, power in seen if light < 5.0} == {0.0}


def test_one_panel_is_weak_and_no_other():
    weak = Fault("weak_panel", 0.0, DAY, "roof", panel=3)
    noon = JUNE + 11 * 3600.0
    powers = []
    for faults in ((), (weak,)):
        world = World(HOUSE, noon, calendar=Calendar(noon, faults))
        powers.append(of("roof", world.step(1.0))["microinverter_power_w"])
    healthy, ill = powers
    assert ill[2] < 0.6 * healthy[2]
    assert ill[:2] + ill[3:] == healthy[:2] + healthy[3:]


def test_microinverters_do_not_feed_a_dead_line():
    noon = JUNE + 11 * 3600.0
    world = World(HOUSE, noon, calendar=Calendar(noon, (Fault("grid_outage", 0.0, 600.0),)))
    roof = of("roof", world.step(1.0))
    assert roof["pv_power_w"] == roof["load_power_w"] == roof["grid_power_w"] == 0.0


def test_the_shed_lives_through_a_winter_by_itself():
    world = World(HOUSE, NOVEMBER)
    stages, lowest, highest, off = set(), 99.0, 0.0, 0
    charges = []
    while world.time < NOVEMBER + 110 * DAY:
        shed = of("shed", world.step(900.0))
        stages.add(shed["regulator_state"])
        lowest = min(lowest, shed["battery_voltage_v"])
        highest = max(highest, shed["battery_voltage_v"])
        off += shed["load_disconnected"]
        charges.append(world.shed.charge_ah)
        assert shed["charge_current_a"] >= 0.0
        assert shed["battery_voltage_min_today_v"] <= shed["battery_voltage_v"] + 1e-9
        assert shed["battery_voltage_v"] <= shed["battery_voltage_max_today_v"] + 1e-9
    assert stages == {"boost", "absorption", "float"}
    assert 21.5 < lowest < 25.0
    assert 28.5 < highest < 29.5
    assert max(charges) > 0.95 * CAPACITY_AH
    assert 0.4 * CAPACITY_AH > min(charges) > 0.02 * CAPACITY_AH
    assert off < 0.2 * len(charges)


def test_the_shed_counts_its_day_from_midnight_to_midnight():
    world = World(HOUSE, NOVEMBER - DAY)
    counted = 0.0
    days = []
    before = of("shed", world.step(60.0))
    while world.time < NOVEMBER + 2 * DAY:
        now = of("shed", world.step(60.0))
        if now["load_today_ah"] < before["load_today_ah"]:
            days.append((round(now["device_clock_s"]), before["load_today_ah"], counted))
            assert now["load_yesterday_ah"] == before["load_today_ah"]
            counted = 0.0
        counted += now["load_current_a"] / 60.0
        before = now
    assert len(days) == 3
    for at, shown, summed in days:
        assert 0 <= at <= 60
        assert shown == pytest.approx(summed, rel=0.02) or at == days[0][0]


def test_nobody_tells_the_shed_that_summer_time_has_ended():
    local = local_clock(ZoneInfo("Europe/Rome"))
    hours = [clock_offset_s(SUMMER_TIME_ENDS + h * 3600.0, local, False) for h in (-1, 1, 35, 37)]
    assert hours == [0.0, 3600.0, 3600.0, 0.0]
    assert clock_offset_s(JUNE, local, True) == 1500.0
    spring = datetime(2026, 3, 29, 2, tzinfo=UTC).timestamp()
    assert clock_offset_s(spring, local, False) == -3600.0


def test_the_attic_is_warmer_than_the_air_by_day_and_lags():
    world = World(HOUSE, JUNE)
    gaps = {}
    while world.time < JUNE + DAY:
        v = world.step(300.0)
        gaps[round(world.time - JUNE) // 3600] = (
            v["attic_temperature_c"] - v["outdoor_temperature_c"]
        )
    assert gaps[13] > 8.0
    assert abs(gaps[3]) < 4.0


def test_annex_and_shed_go_on_where_they_were():
    world = World(HOUSE, NOVEMBER)
    world.advance(NOVEMBER + DAY, 300.0)
    state = json.loads(json.dumps(world.state()))
    resumed = World(HOUSE, NOVEMBER)
    resumed.restore(state)
    assert resumed.step(60.0) == world.step(60.0)
    for part, change in (("annex", {"panel_kwh": [1.0]}), ("shed", {"what": 1}), ("shed", None)):
        broken = state | {part: state[part] | change if change else None}
        with pytest.raises(ValueError, match=r"panels|TypeError"):
            World(HOUSE, NOVEMBER).restore(broken)
