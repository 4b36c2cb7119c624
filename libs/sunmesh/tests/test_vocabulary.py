from pathlib import Path

import pytest
from sunmesh.vocabulary import SECTIONS, UNITS, VOCABULARY, Kind, markdown, quantity, unit_of

ROOT = Path(__file__).parents[3]

FIXED_BY_THE_CONTRACT = """
grid_voltage_v grid_frequency_hz ac_output_voltage_v ac_output_frequency_hz
ac_output_apparent_power_va ac_output_power_w load_percent bus_voltage_v battery_voltage_v
battery_charge_current_a battery_discharge_current_a battery_soc_percent heat_sink_temperature_c
pv_current_a pv_voltage_v pv_power_w pv2_current_a pv2_voltage_v pv2_power_w battery_voltage_scc_v
battery_power_w device_mode device_status_bits warnings pv_energy_total_kwh load_energy_total_kwh
output_source_priority charger_source_priority battery_type bulk_voltage_v float_voltage_v
cut_off_voltage_v recharge_voltage_v redischarge_voltage_v max_charge_current_a
max_ac_charge_current_a input_range output_frequency_hz buzzer_enabled battery_current_a
remaining_capacity_ah cell_voltage_v cell_voltage_max_v cell_voltage_min_v cell_voltage_spread_v
battery_temperature_c charge_mosfet_on discharge_mosfet_on balancing_cells cycles faults
grid_current_a grid_power_w grid_apparent_power_va grid_reactive_power_var grid_power_factor
grid_import_energy_kwh grid_export_energy_kwh grid_total_energy_kwh charge_current_a
load_current_a charge_today_ah load_today_ah regulator_state solar_voltage_v device_clock_offset_s
load_power_w grid_net_energy_kwh temperature_c relay_position relay_feedback relay_reason
lease_remaining_s switch_count grid_power_l1_w
"""


@pytest.mark.parametrize("name", FIXED_BY_THE_CONTRACT.split())
def test_a_name_of_the_contract_stands_in_the_table(name):
    assert quantity(name).name == name


def test_every_name_stands_once():
    rows = [row.name for section in SECTIONS.values() for row in section]
    assert len(rows) == len(set(rows)) == len(VOCABULARY)


def test_the_unit_is_the_suffix():
    for row in VOCABULARY.values():
        if row.kind is not Kind.STATE and row.unit:
            suffix = next(suffix for suffix, unit in UNITS.items() if unit == row.unit)
            assert row.name.endswith(suffix), row.name
        assert row.meaning


def test_what_is_named_charge_or_import_is_never_negative():
    for row in VOCABULARY.values():
        flow = row.kind is not Kind.STATE and row.name.endswith(
            ("charge_current_a", "import_energy_kwh", "export_energy_kwh")
        )
        if flow:
            assert row.sign == "≥ 0", row.name


def test_an_element_of_a_list_is_found_by_its_list():
    assert quantity("cell_voltage_v/7").kind is Kind.LIST


def test_an_unknown_name_is_an_error():
    with pytest.raises(KeyError):
        quantity("battery_volts")


@pytest.mark.parametrize(
    ("name", "unit"),
    [("pv_power_w", "W"), ("x_kwh", "kWh"), ("x_var", "var"), ("irradiance_w_m2", "W/m²")],
)
def test_unit_of_a_name(name, unit):
    assert unit_of(name) == unit


def test_the_document_is_the_table():
    assert (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8") == markdown(), (
        "make it again: .venv/bin/python -m sunmesh.vocabulary > docs/telemetry.md"
    )
