"""The world: every watt is accounted for, at each step and over weeks."""

import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import demo, inverter
from simulator.battery import energy_at
from simulator.config import House
from simulator.devices import axpert
from simulator.faults import Calendar, Fault
from simulator.state import world_at
from simulator.world import USUAL_A_DAY_KWH, World, seconds
from sunmesh import clock
from sunmesh.vocabulary import VOCABULARY

DAY = 86_400.0
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
JUNE = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
NOON = 11 * 3600.0
HOUSE = House()


def balance(values) -> float:
    """What comes in less what goes out [W]; 0 in a world that is right."""
    return (
        values["pv_total_power_w"]
        + values["grid_power_w"]
        + values["battery_power_w"]
        - values["load_power_w"]
        - values["inverter_loss_power_w"]
    )


@pytest.mark.parametrize(
    ("start", "days", "step", "options"),
    [
        (NOVEMBER, 15, 60.0, {}),
        (JUNE, 21, 300.0, {}),
        (NOVEMBER, 21, 300.0, {"output_source_priority": "USB"}),
        (NOVEMBER, 14, 300.0, {"charger_source_priority": "utility_first"}),
        (
            NOVEMBER,
            14,
            300.0,
            {
                "output_source_priority": "SUB",
                "charger_source_priority": "solar_and_utility",
            },
        ),
    ],
)
def test_energy_is_conserved_over_weeks(start, days, step, options):
    world = World(HOUSE, start, settings=inverter.Settings(**options))
    stored = world.pack.stored_wh
    before = dict(world.counters)
    battery_wh = losses_wh = 0.0
    while world.time < start + days * DAY:
        values = world.step(step)
        assert abs(balance(values)) < 1e-6
        battery_wh += values["battery_power_w"] * step / 3600.0
        losses_wh += values["inverter_loss_power_w"] * step / 3600.0
    gathered = {name: world.counters[name] - before[name] for name in before}

    # The cells: what left at the terminals and what became heat is missing inside. What is inside
    # comes from charge and curve (energy_at), not from the flows.
    change = world.pack.stored_wh - stored
    assert change == pytest.approx(-battery_wh - world.battery_loss_wh, abs=1e-3)
    inside = sum(
        capacity * energy_at(charge / capacity)
        for charge, capacity in zip(world.pack.charge_ah, world.pack.cells.capacity_ah, strict=True)
    )
    assert world.pack.stored_wh == pytest.approx(inside)

    # The house: all that came in went out, into heat, or is in the cells.
    came_in = gathered["pv_energy_total_kwh"] + gathered["grid_import_energy_kwh"]
    went_out = gathered["load_energy_total_kwh"] + gathered["grid_export_energy_kwh"]
    lost = (losses_wh + world.battery_loss_wh) / 1000.0
    assert came_in == pytest.approx(went_out + lost + change / 1000.0, rel=1e-9)
    assert gathered["load_energy_total_kwh"] > 10.0 * days


def test_the_same_house_gives_the_same_numbers():
    first, second = World(HOUSE, NOVEMBER), World(HOUSE, NOVEMBER)
    for _ in range(400):
        assert first.step(120.0) == second.step(120.0)
    other = World(House(seed=8), NOVEMBER)
    other.advance(first.time, 120.0)
    assert other.values != first.values


def test_a_saved_house_goes_on_without_a_seam():
    whole = World(HOUSE, NOVEMBER)
    whole.advance(NOVEMBER + DAY, 60.0)
    part = World(HOUSE, NOVEMBER)
    part.advance(NOVEMBER + DAY / 2, 60.0)
    state = json.loads(json.dumps(part.state()))
    resumed = World(HOUSE, NOVEMBER + 99.0)
    resumed.restore(state)
    resumed.advance(NOVEMBER + DAY, 60.0)
    assert resumed.values == whole.values
    assert resumed.state() == whole.state()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 1}, "version"),
        ({"seed": 8}, "seed"),
        ({"charge_ah": [1.0]}, "cells"),
        ({"counters": {}}, "KeyError"),
        ({"memory": {"what": 1}}, "TypeError"),
        ({"charge_ah": None}, "TypeError"),
    ],
)
def test_a_foreign_state_is_refused(change, reason):
    world = World(HOUSE, NOVEMBER)
    before = world.state()
    with pytest.raises(ValueError, match=reason):
        world.restore(before | change)
    assert world.state() == before


CHOICES = st.builds(
    inverter.Settings,
    output_source_priority=st.sampled_from(inverter.OUTPUT_PRIORITIES),
    charger_source_priority=st.sampled_from(inverter.CHARGER_PRIORITIES),
    bulk_voltage_v=st.floats(52.0, 60.0),
    float_voltage_v=st.floats(50.0, 56.0),
    cut_off_voltage_v=st.floats(40.0, 48.0),
    recharge_voltage_v=st.floats(44.0, 51.0),
    redischarge_voltage_v=st.one_of(st.just(0.0), st.floats(48.0, 58.0)),
    max_charge_current_a=st.floats(0.0, 200.0),
    max_ac_charge_current_a=st.floats(0.0, 100.0),
)
FAULTS = st.lists(
    st.builds(
        Fault,
        st.sampled_from(
            ["grid_outage", "cloud_burst", "storm", "cell_weak", "overload", "pv_string_lost"]
        ),
        st.floats(0.0, DAY),
        st.floats(60.0, DAY),
        st.just("pv2"),
    ),
    max_size=3,
)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(NOVEMBER, NOVEMBER + 300 * DAY),
    CHOICES,
    FAULTS,
    st.sampled_from([1.0, 10.0, 60.0, 300.0]),
    st.floats(0.0, 4.0),
)
def test_no_setting_and_no_fault_makes_an_impossible_house(
    seed, start, options, faults, step, factor
):
    house = House(seed=seed, load_factor=factor)
    world = World(house, start, settings=options, calendar=Calendar(start, tuple(faults)))
    before = dict(world.counters)
    for _ in range(120):
        v = world.step(step)
        assert abs(balance(v)) < 1e-6
        assert 0.0 <= v["battery_soc_percent"] <= 100.0
        assert sum(v["cell_voltage_v"]) == pytest.approx(v["battery_voltage_v"], abs=1e-9)
        assert min(v["cell_voltage_v"]) > 1.4
        assert max(v["cell_voltage_v"]) < 3.75
        assert v["battery_power_w"] == pytest.approx(
            v["battery_voltage_v"] * v["battery_current_a"], abs=1e-6
        )
        assert v["pv_total_power_w"] <= v["pv_available_power_w"] + 1e-6
        assert v["pv_power_w"] + v["pv2_power_w"] == pytest.approx(v["pv_total_power_w"], abs=1e-6)
        assert v["battery_charge_current_a"] <= options.max_charge_current_a + 0.5
        for name in ("pv_power_w", "pv2_power_w", "load_power_w", "grid_power_w"):
            assert v[name] >= 0.0
        assert v["inverter_loss_power_w"] >= 0.0
        if v["grid_voltage_v"] == 0.0:
            assert v["grid_power_w"] == 0.0
            assert v["device_mode"] in ("battery", "standby")
        assert all(world.counters[name] >= before[name] for name in before)
        before = dict(world.counters)


def test_the_snapshot_is_json_in_vocabulary_names():
    world = World(HOUSE, NOVEMBER + NOON)
    world.step(1.0)
    snapshot = world.snapshot()
    assert json.loads(json.dumps(snapshot, allow_nan=False)) == snapshot
    assert seconds(datetime.fromisoformat(snapshot["ts"])) == NOVEMBER + NOON + 1
    assert "-0.0" not in json.dumps(snapshot)
    own = {"ts", "pv_available_power_w", "battery_loss_power_w", "charge_stage"}
    own |= {"room_temperature_c", "attic_temperature_c", "cloud_cover"}
    house = {name for name in snapshot if "." not in name}
    assert house - own <= set(VOCABULARY)
    assert {name.partition(".")[0] for name in set(snapshot) - house} == {"roof", "shed"}
    assert set(USUAL_A_DAY_KWH) <= set(snapshot)


def test_counters_of_a_new_meter_begin_at_zero_and_the_house_s_own_go_on():
    reset = Fault("counter_reset", 600.0, 60.0, "meter", every_s=7200.0)
    world = World(
        HOUSE,
        NOVEMBER,
        settings=inverter.Settings(output_source_priority="USB"),
        calendar=Calendar(NOVEMBER, (reset,)),
    )
    shown = [world.step(60.0)["grid_import_energy_kwh"] for _ in range(300)]
    falls = [number for number, (a, b) in enumerate(pairwise(shown), 1) if b < a]
    assert falls == [10, 130, 250]
    assert shown[10] == 0.0
    assert world.counters["grid_import_energy_kwh"] > 100.0
    resumed = World(HOUSE, NOVEMBER)
    resumed.restore(json.loads(json.dumps(world.state())))
    assert resumed.step(60.0)["grid_import_energy_kwh"] == pytest.approx(shown[-1], abs=0.1)


def test_a_full_battery_curtails_and_rests_at_float():
    world = World(HOUSE, JUNE)
    curtailed = 0
    top = 0.0
    while world.time < JUNE + 5 * DAY:
        v = world.step(60.0)
        top = max(top, v["battery_voltage_v"])
        if v["charge_stage"] == "float" and v["pv_available_power_w"] > 3000.0:
            curtailed += v["pv_total_power_w"] < 0.9 * v["pv_available_power_w"]
            assert v["battery_voltage_v"] > 53.0
            assert v["pv_voltage_v"] > 280.0
    assert curtailed > 300
    assert 56.2 < top < 56.45  # constant voltage, not above it


def test_constant_current_then_constant_voltage():
    limited = inverter.Settings(max_charge_current_a=40.0, recharge_voltage_v=44.0)
    world = World(HOUSE, JUNE, settings=limited)
    rows = []
    while world.time < JUNE + 2 * DAY:
        rows.append(world.step(60.0))
    assert max(r["battery_charge_current_a"] for r in rows) == pytest.approx(40.0, abs=0.3)
    absorb = [r for r in rows if r["charge_stage"] == "absorb"]
    assert absorb
    assert absorb[-1]["battery_charge_current_a"] < 15.0


def test_sbu_goes_to_the_grid_when_low_and_back_when_charged():
    world = World(House(load_factor=1.6), NOVEMBER)
    modes = []
    while world.time < NOVEMBER + 20 * DAY:
        v = world.step(300.0)
        modes.append(v["device_mode"])
        if v["device_mode"] == "line" and v["grid_voltage_v"] > 0.0 and v["pv_power_w"] == 0.0:
            assert v["grid_power_w"] >= v["load_power_w"]
    changes = sum(a != b for a, b in pairwise(modes))
    assert "line" in modes
    assert "battery" in modes
    assert 2 <= changes <= 4 * 20


def test_an_outage_with_an_empty_battery_cuts_the_house_off_and_it_comes_back():
    outage = Calendar(NOVEMBER, (Fault("grid_outage", 0.0, 3 * DAY),))
    house = House(battery_capacity_ah=60.0, load_factor=2.0)
    world = World(house, NOVEMBER, calendar=outage)
    seen = set()
    while world.time < NOVEMBER + 3 * DAY:
        v = world.step(60.0)
        seen.add(v["device_mode"])
        if v["device_mode"] == "standby":
            assert v["load_power_w"] == v["ac_output_voltage_v"] == 0.0
    assert seen == {"battery", "standby"}
    world.advance(world.time + 600.0, 60.0)
    assert world.values["load_power_w"] > 0.0


def test_usb_takes_the_grid_and_sub_the_sun_first():
    noon = JUNE + NOON
    by = {}
    for priority in ("USB", "SUB"):
        options = inverter.Settings(output_source_priority=priority)
        world = World(House(outages_a_day=0.0), noon, settings=options)
        world.advance(noon + 3600.0, 60.0)
        by[priority] = world.values
    assert by["USB"]["grid_power_w"] >= by["USB"]["load_power_w"]
    assert by["SUB"]["grid_power_w"] == pytest.approx(inverter.IDLE_W)
    assert by["SUB"]["device_mode"] == by["USB"]["device_mode"] == "line"


def test_faults_reach_the_world():
    noon = JUNE + NOON

    def world_with(*faults: Fault) -> dict:
        world = World(HOUSE, noon, calendar=Calendar(noon, faults))
        world.advance(noon + 120.0, 10.0)
        return world.values

    plain = world_with()
    lost = world_with(Fault("pv_string_lost", 0.0, 600.0, "pv2"))
    assert lost["pv2_power_w"] == lost["pv2_voltage_v"] == 0.0
    assert lost["pv_power_w"] > 0.0
    assert lost["faults"] == ["pv_string_lost:pv2"]
    cloud = world_with(Fault("cloud_burst", 0.0, 600.0))
    assert cloud["irradiance_w_m2"] < 0.6 * plain["irradiance_w_m2"]
    storm = world_with(Fault("storm", 0.0, 600.0))
    assert storm["pv_available_power_w"] < 0.2 * plain["pv_available_power_w"]
    assert storm["outdoor_temperature_c"] < plain["outdoor_temperature_c"] - 5.0
    assert world_with(Fault("overload", 0.0, 600.0))["load_percent"] > 110.0
    assert world_with(Fault("grid_outage", 0.0, 600.0))["grid_voltage_v"] == 0.0
    weak = world_with(Fault("cell_weak", 0.0, 600.0, cell=3))
    spread = weak["cell_voltage_v"][2] - plain["cell_voltage_v"][2]
    assert abs(spread) > 2 * abs(weak["cell_voltage_v"][9] - plain["cell_voltage_v"][9])
    silent = world_with(Fault("silent", 0.0, 600.0, "inverter"))
    assert silent.pop("faults") == ["silent:inverter"]
    assert silent == {k: v for k, v in plain.items() if k != "faults"}


def test_an_open_relay_keeps_the_grid_from_the_inverter_and_not_from_the_meter():
    world = World(HOUSE, JUNE, settings=inverter.Settings(output_source_priority="USB"))
    world.step(60.0)
    assert world.values["device_mode"] == "line"
    assert world.values["grid_power_w"] > 0.0
    told = axpert(world.snapshot())
    assert told["grid_voltage_v"] > 200.0
    world.relay_open = True
    world.step(60.0)
    assert world.values["grid_voltage_v"] > 200.0
    assert world.values["grid_power_w"] == 0.0
    assert world.values["device_mode"] == "battery"
    assert abs(balance(world.values)) < 1e-6
    told = axpert(world.snapshot())
    assert told["grid_voltage_v"] == told["grid_frequency_hz"] == 0.0
    assert "line_fail" in told["warnings"]
    world.relay_open = False
    world.step(60.0)
    assert world.values["device_mode"] == "line"


def test_a_storm_empties_the_demo_s_battery_and_the_next_sun_fills_it():
    """As `demo --storm` has it, with the relay as the rules would set it."""
    origin = clock.parse(demo.STORM_START).timestamp()
    house = House(battery_capacity_ah=demo.STORM_BATTERY_AH)
    calendar = Calendar(origin, (Fault("storm", 9000.0, 18000.0),))
    world = world_at(house, calendar, origin, None)
    world.advance(origin + 9000.0, 60.0)
    assert world.values["battery_voltage_v"] > 51.8, "the rules let the grid go before it"
    world.relay_open = True
    while world.values.get("battery_voltage_v", 99.0) > 51.2:
        world.step(60.0)
        assert world.time < origin + 9000.0 + 18000.0, "before the storm is over"
    assert "storm" in world.values["faults"]
    world.relay_open = False
    world.settings = inverter.Settings(output_source_priority="USB")
    while world.values["battery_voltage_v"] < 53.5:
        world.step(60.0)
        assert world.time < origin + 11 * 3600.0, "on the same day"
    assert world.time > origin + 9000.0 + 18000.0, "when the storm is over"


def test_the_weak_cell_is_the_first_to_be_low():
    world = World(House(weak_cell=7, load_factor=2.5), NOVEMBER)
    world.settings = inverter.Settings(recharge_voltage_v=49.0)
    lowest = min(
        (world.step(300.0)["cell_voltage_v"] for _ in range(288 * 6)), key=lambda cells: min(cells)
    )
    assert lowest.index(min(lowest)) == 6


def test_a_frozen_battery_is_not_charged():
    world = World(
        House(latitude=69.0, longitude=20.0), datetime(2027, 3, 1, 11, tzinfo=UTC).timestamp()
    )
    world._battery_c = -3.0
    world.step(1.0)
    assert world.values["battery_charge_current_a"] == 0.0
