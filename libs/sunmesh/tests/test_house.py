"""Which series make up the house, and what feeds each flow of the books."""

from pathlib import Path

import pytest
from sunmesh import config
from sunmesh.errors import ConfigError
from sunmesh.house import FASTEST_W, EnergySection, FlowFeed, flows, roles

AXPERT = {
    *("pv_power_w", "pv2_power_w", "pv_energy_total_kwh", "pv_energy_day_kwh"),
    *("ac_output_power_w", "load_energy_total_kwh", "grid_voltage_v", "device_mode"),
    *("battery_voltage_v", "battery_charge_current_a", "battery_discharge_current_a"),
    "battery_soc_percent",
}
BMS = {"battery_power_w", "battery_voltage_v", "cell_voltage_v", "battery_soc_percent"}
METER = {"grid_power_w", "grid_import_energy_kwh", "grid_export_energy_kwh", "grid_voltage_v"}


def section(tmp_path: Path, text: str) -> EnergySection:
    file = tmp_path / "site.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(file).section("energy", EnergySection)


def test_a_house_with_everything() -> None:
    found = flows({"inverter": AXPERT, "battery": BMS, "meter": METER})
    assert found["pv"].feeds == (
        FlowFeed(
            "inverter", "pv_energy_total_kwh", "pv_energy_day_kwh", ("pv_power_w", "pv2_power_w")
        ),
    )
    assert found["load"].feeds == (
        FlowFeed("inverter", "load_energy_total_kwh", "", ("ac_output_power_w",)),
    )
    assert found["grid_import"].feeds == (
        FlowFeed("meter", "grid_import_energy_kwh", "", ("grid_power_w",)),
    )
    assert found["grid_export"].feeds == (
        FlowFeed("meter", "grid_export_energy_kwh", "", ("grid_power_w",), -1),
    )
    assert found["battery_charge"].feeds == (FlowFeed("battery", "", "", ("battery_power_w",), -1),)
    assert found["battery_discharge"].feeds == (FlowFeed("battery", power=("battery_power_w",)),)
    assert "generator" not in found


def test_an_inverter_alone_multiplies_and_balances() -> None:
    found = flows({"inverter": AXPERT}, ratings_w={"inverter": 5000.0})
    assert found["battery_charge"].feeds == (
        FlowFeed("inverter", power=("battery_voltage_v", "battery_charge_current_a"), product=True),
    )
    assert found["grid_import"].balance
    assert "grid_export" not in found
    assert found["pv"].max_power_w == 15000
    assert found["battery_charge"].max_power_w == FASTEST_W


def test_a_house_without_a_grid_has_no_grid_in_its_books() -> None:
    names = {"inverter": AXPERT - {"grid_voltage_v"}}
    assert {"grid_import", "grid_export"}.isdisjoint(flows(names))


def test_meters_of_panels_and_house_count_themselves() -> None:
    names = {
        "roof": {"pv_power_w", "pv_energy_total_kwh", "grid_voltage_v"},
        "house": {"load_power_w", "load_energy_total_kwh", "grid_voltage_v"},
        "meter": METER,
    }
    found = flows(names)
    assert [feed.device for feed in found["pv"].feeds] == ["roof"]
    assert [feed.device for feed in found["load"].feeds] == ["house"]


def test_microinverters_are_counted_at_their_gateway() -> None:
    names = {
        "roof": {"pv_power_w", "load_power_w", "pv_energy_total_kwh", "grid_power_w"},
        "roof-1": {"pv_power_w", "pv_energy_total_kwh"},
        "roof-2": {"pv_power_w", "pv_energy_total_kwh"},
    }
    assert [feed.device for feed in flows(names)["pv"].feeds] == ["roof"]
    del names["roof"]
    names["roof"] = {"pv_power_w", "pv_energy_total_kwh"}  # no meter of the house
    behind = {"roof-1": "roof", "roof-2": "roof"}
    assert [feed.device for feed in flows(names, through=behind)["pv"].feeds] == ["roof"]


def test_members_are_added_and_not_their_group() -> None:
    names = {"packs": BMS - {"cell_voltage_v"}, "bms-1": BMS, "bms-2": BMS}
    chosen = roles(names, groups={"packs"})
    assert chosen.battery == (("bms-1", "battery_power_w"), ("bms-2", "battery_power_w"))
    assert chosen.soc == ("packs", "battery_soc_percent")
    inverters = {"pair": AXPERT, "left": AXPERT, "right": AXPERT}
    found = flows(inverters, groups={"pair"})
    assert [feed.device for feed in found["load"].feeds] == ["left", "right"]


def test_a_charge_controller_counts_where_no_other_panels_do() -> None:
    controller = {"battery_voltage_v", "charge_current_a", "charge_power_w"}
    assert flows({"shed": controller})["pv"].feeds == (FlowFeed("shed", power=("charge_power_w",)),)
    found = flows({"shed": controller, "inverter": AXPERT})
    assert [feed.device for feed in found["pv"].feeds] == ["inverter"]


def test_what_the_owner_says_goes_before(tmp_path: Path) -> None:
    own = section(
        tmp_path,
        """
        [energy]
        left_out = ["inverter"]
        [energy.pv]
        lifetime = ["roof.pv_energy_total_kwh", "barn.pv_energy_total_kwh"]
        power = ["roof.pv_power_w"]
        max_power_w = 8000
        [energy.grid_export]
        power = ["meter.grid_power_w"]
        [energy.generator]
        power = ["diesel.load_power_w"]
        [energy.grid_import]
        """,
    )
    found = flows({"inverter": AXPERT, "meter": METER, "battery": BMS}, own)
    assert found["pv"].feeds == (
        FlowFeed("roof", "pv_energy_total_kwh", "", ("pv_power_w",)),
        FlowFeed("barn", "pv_energy_total_kwh"),
    )
    assert found["pv"].max_power_w == 8000
    assert found["grid_export"].feeds == (FlowFeed("meter", power=("grid_power_w",), sign=-1),)
    assert found["generator"].feeds == (FlowFeed("diesel", power=("load_power_w",)),)
    assert "grid_import" not in found, "an empty table takes the flow away"
    assert "load" not in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[energy.pv]\npower = ["pv_power_w"]', 'energy.pv.power: must name "device.quantity"'),
        ('[energy.pv]\npower = ["a.pv_energy_total_kwh"]', "energy.pv.power: must not name"),
        ('[energy.pv]\nlifetime = ["a.pv_power_w"]', "energy.pv.lifetime: must not name"),
        ("[energy.pv]\nmax_power_w = 0", "energy.pv.max_power_w: must be above 0"),
        ('[energy.pv]\nbalance = true\npower = ["a.pv_power_w"]', "energy.pv.balance: must stand"),
        ("[energy.sun]\n", "energy.sun: is not known"),
        ("[energy]\nbattery_kwh = -1", "energy.battery_kwh: must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(tmp_path, text)
    assert says in str(caught.value)
