import pytest
from group.codec import combine
from hypothesis import given
from hypothesis import strategies as st

A = {
    "battery_power_w": 300.0,
    "battery_voltage_v": 52.0,
    "battery_soc_percent": 80.0,
    "battery_temperature_c": [20.0, 21.0],
    "heat_sink_temperature_c": 40.0,
    "cell_voltage_max_v": 3.35,
    "cell_voltage_min_v": 3.30,
    "cell_voltage_spread_v": 0.05,
    "max_charge_current_a": 100,
    "cycles": 12,
    "pv_energy_total_kwh": 100.5,
    "charge_mosfet_on": True,
    "faults": ["cell_high"],
    "device_mode": "battery",
}
B = A | {
    "battery_power_w": -100.0,
    "battery_voltage_v": 52.2,
    "battery_soc_percent": 40.0,
    "heat_sink_temperature_c": 45.0,
    "cell_voltage_max_v": 3.40,
    "cell_voltage_min_v": 3.32,
    "max_charge_current_a": 60,
    "cycles": 15,
    "pv_energy_total_kwh": 50.25,
    "charge_mosfet_on": False,
    "faults": [],
    "device_mode": "line",
}


def test_a_group_joins_each_quantity_in_its_own_way():
    values, quality = combine({"a": A, "b": B}, {"a": 300.0, "b": 100.0})
    assert values == {
        "battery_power_w": 200.0,
        "battery_voltage_v": 52.1,
        "battery_soc_percent": 70.0,
        "heat_sink_temperature_c": 45.0,
        "cell_voltage_max_v": 3.4,
        "cell_voltage_min_v": 3.3,
        "cell_voltage_spread_v": 0.1,
        "max_charge_current_a": 60,
        "cycles": 15,
        "pv_energy_total_kwh": 150.75,
        "charge_mosfet_on": False,
        "faults": ["a:cell_high"],
        "device_mode": "mixed",
    }
    assert quality == {}


def test_without_capacities_all_packs_weigh_alike():
    values, _ = combine({"a": A, "b": B}, {})
    assert values["battery_soc_percent"] == 60.0


def test_a_missing_member_marks_every_sum_and_no_mean():
    values, quality = combine({"a": A, "b": None}, {})
    assert values["battery_power_w"] == 300.0
    assert set(quality) == {"battery_power_w", "pv_energy_total_kwh", "battery_soc_percent"}
    assert set(quality.values()) == {"partial"}


def test_a_value_that_one_member_cannot_read_makes_the_sum_partial():
    values, quality = combine({"a": A, "b": B | {"battery_power_w": None}}, {})
    assert values["battery_power_w"] == 300.0
    assert quality == {"battery_power_w": "partial"}


def test_what_only_one_member_has_is_no_partial_sum():
    values, quality = combine({"inverter": {"pv_power_w": 5.0}, "bms": {"cycles": 1}}, {})
    assert values == {"pv_power_w": 5.0, "cycles": 1.0}
    assert quality == {}


def test_nobody_knows():
    assert combine({"a": {"pv_power_w": None}, "b": None}, {}) == ({"pv_power_w": None}, {})


@given(st.lists(st.none() | st.floats(0, 10_000), min_size=2, max_size=6))
def test_a_total_is_whole_or_marked(powers):
    members = {
        str(n): None if power is None else {"pv_power_w": power} for n, power in enumerate(powers)
    }
    values, quality = combine(members, {})
    known = [power for power in powers if power is not None]
    if known:
        assert values["pv_power_w"] == pytest.approx(sum(known), abs=1e-3)
        assert ("pv_power_w" in quality) == (len(known) < len(powers))
