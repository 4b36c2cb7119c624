import pytest
from sunmesh.house import roles
from web.house import Device, balance, combine, grid_estimate

NOW = 1_790_000_000_000


def axpert(name: str = "inverter", ms: int = NOW, **values) -> Device:
    usual = {
        "grid_voltage_v": 230.0,
        "ac_output_power_w": 400,
        "battery_voltage_v": 52.0,
        "battery_charge_current_a": 0,
        "battery_discharge_current_a": 0,
        "battery_soc_percent": 80,
        "pv_power_w": 0,
        "device_mode": "battery",
    }
    return Device(name, "axpert", ms, usual | values, state="online")


def test_freshness_follows_the_period() -> None:
    device = axpert()
    assert device.freshness(NOW + 9_900) == "fresh"
    assert device.freshness(NOW + 10_000) == "late"
    assert device.freshness(NOW + 24_900) == "late"
    assert device.freshness(NOW + 25_000) == "lost"
    assert device.freshness(NOW - 60_000) == "fresh", "a device's clock may be ahead"
    assert Device("x").freshness(NOW) == "lost"
    for state in ("offline", "identity_mismatch"):
        assert Device("x", ms=NOW, state=state).freshness(NOW) == "lost"


def test_an_axpert_alone_gives_a_house() -> None:
    house = combine([axpert(pv_power_w=1000, battery_charge_current_a=10)], NOW)
    assert house.has_pv
    assert house.has_battery
    assert house.has_grid
    assert house.has_load
    assert (house.pv_w, house.load_w, house.battery_w) == (1000, 400, -520)
    assert (house.battery_v, house.battery_a, house.soc) == (52.0, -10, 80)
    assert house.grid_estimated
    assert house.grid_w == 0
    assert house.grid_present is True
    assert house.loss_w == pytest.approx(80)
    assert not house.disagrees


def test_battery_power_of_the_device_goes_before_volts_times_amperes() -> None:
    house = combine([axpert(battery_power_w=333, battery_discharge_current_a=9)], NOW)
    assert house.battery_w == 333


def test_grid_is_estimated_only_where_the_inverter_may_take_it() -> None:
    assert combine([axpert(device_mode="line")], NOW).grid_w == 400
    assert combine([axpert(device_mode="line", battery_charge_current_a=10)], NOW).grid_w == 920
    assert combine([axpert(device_mode="battery")], NOW).grid_w == 0
    gone = combine([axpert(device_mode="line", grid_voltage_v=0.0)], NOW)
    assert gone.grid_present is False
    assert gone.grid_w == 0
    assert combine([axpert(device_mode="line", ac_output_power_w=None)], NOW).grid_w is None
    assert combine([axpert(device_mode="line", pv_power_w=None)], NOW).grid_w is None
    assert grid_estimate(100, None, None, None) == 100
    assert grid_estimate(100, 300, 0, "line") == 0


def test_a_meter_goes_before_the_estimate_and_can_disagree() -> None:
    meter = Device("meter", "meter", NOW, {"grid_power_w": -250.0, "grid_voltage_v": 231.0})
    house = combine([axpert(pv_power_w=1000, ac_output_power_w=400), meter], NOW)
    assert house.grid_w == -250
    assert not house.grid_estimated
    assert house.residual_w == pytest.approx(350 - (75 + 80))
    assert house.disagrees
    late = Device("meter", "meter", NOW - 61_000, meter.values, period_s=30)
    assert not combine([axpert(pv_power_w=1000), late], NOW).disagrees, "too far apart in time"


def test_own_use_is_no_disagreement() -> None:
    assert balance(1000, 900) == (100, None)
    assert balance(400, 340) == (60, None)
    loss, residual = balance(1000, 600)
    assert loss == pytest.approx(155)
    assert residual == pytest.approx(245)
    assert balance(900, 1000) == (0.0, 100), "more out than in"
    assert balance(980, 1000) == (0.0, None), "within the meters' tolerance"
    assert balance(1000, 900, own_use_w=30) == (30, 70)


def test_old_values_are_no_values() -> None:
    house = combine([axpert(ms=NOW - 60_000, pv_power_w=1000)], NOW)
    assert house.has_pv
    assert house.pv_w is None
    assert house.load_w is None
    assert house.soc is None
    assert house.grid_w is None
    assert house.loss_w is None
    stale = Device("i", "axpert", NOW, {"pv_power_w": 5}, {"pv_power_w": "stale"}, "online")
    assert combine([stale], NOW).pv_w is None


def test_nothing_is_counted_twice() -> None:
    gateway = {"pv_power_w", "load_power_w", "grid_power_w"}
    panel = {"pv_power_w", "pv_voltage_v"}
    chosen = roles({"gateway": gateway, "panel-1": panel, "panel-2": panel})
    assert chosen.pv == (("gateway", "pv_power_w"),)
    assert chosen.load == (("gateway", "load_power_w"),)
    assert roles({"panel-1": panel, "panel-2": panel}).pv == (
        ("panel-1", "pv_power_w"),
        ("panel-2", "pv_power_w"),
    )
    beside = roles({"gateway": gateway, "inverter": {"ac_output_power_w", "pv_power_w"}})
    assert beside.load == (("gateway", "load_power_w"), ("inverter", "ac_output_power_w"))
    assert roles({"gateway": gateway, "panel-1": panel}, left_out=("gateway",)).load == ()
    pack = {"battery_power_w", "battery_soc_percent", "battery_voltage_v", "cell_voltage_v"}
    inverter = {"battery_power_w", "battery_soc_percent", "battery_voltage_v", "ac_output_power_w"}
    chosen = roles({"inverter": inverter, "pack": pack})
    assert chosen.battery == (("pack", "battery_power_w"),)
    assert chosen.soc == ("pack", "battery_soc_percent")
    assert chosen.battery_voltage == ("pack", "battery_voltage_v")
    pair = roles({"a": inverter, "b": inverter})
    assert pair.battery == (("a", "battery_power_w"), ("b", "battery_power_w"))
    assert pair.load == (("a", "ac_output_power_w"), ("b", "ac_output_power_w"))


def test_two_inputs_are_two_strings_and_one_sum() -> None:
    house = combine([axpert(pv_power_w=700, pv2_power_w=500)], NOW)
    assert [source.watts for source in house.strings] == [700, 500]
    assert house.pv_w == 1200


def test_no_battery_is_absent_not_zero() -> None:
    house = combine([axpert(battery_voltage_v=0.2, device_mode="line")], NOW)
    assert not house.has_battery
    assert house.soc is None
    assert house.battery_w is None
    assert house.grid_w == 400


def test_an_empty_house() -> None:
    house = combine([], NOW)
    assert not any((house.has_pv, house.has_battery, house.has_grid, house.has_load))
