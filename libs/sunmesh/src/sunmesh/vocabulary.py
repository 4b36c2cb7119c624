"""The vocabulary: every quantity that a sample or a settings message may carry.

The unit is the name's suffix. Signs follow one rule: what feeds the house is positive, so
``battery_power_w`` + = discharging, ``grid_power_w`` + = taken from the grid, and
pv + grid + battery = load + losses. Everything named charge, discharge, import or export is never
negative. A device that counts the other way is turned in its codec.

``python -m sunmesh.vocabulary`` prints ``docs/telemetry.md``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a quantity behaves, and so how it is stored and summed."""

    GAUGE = "gauge"
    """A number that goes up and down; averaged."""
    COUNTER = "counter"
    """A number that only rises while all is well; differences are taken."""
    STATE = "state"
    """A word, a truth, or a list of codes; stored when it changes."""
    LIST = "list"
    """A list of numbers; element n is stored as the series ``name/n``, counted from 1."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity.

    Attributes:
        name: its key in messages; ends in its unit.
        unit: as people read it; empty for words, counts and ratios.
        kind: how it behaves.
        sign: what plus means, or ``≥ 0``; empty where there is nothing to say.
        meaning: in one line.
    """

    name: str
    unit: str
    kind: Kind
    sign: str
    meaning: str


G, C, S, L = Kind.GAUGE, Kind.COUNTER, Kind.STATE, Kind.LIST
POSITIVE = "≥ 0"

UNITS = {
    "_kwh": "kWh",
    "_ah": "Ah",
    "_va": "VA",
    "_var": "var",
    "_kvarh": "kvarh",
    "_deg": "°",
    "_hz": "Hz",
    "_percent": "%",
    "_w_m2": "W/m²",
    "_w": "W",
    "_v": "V",
    "_a": "A",
    "_c": "°C",
    "_s": "s",
    "_min": "min",
    "_days": "d",
    "_kib": "KiB",
    "_hours": "h",
}
"""Suffix of a name → its unit."""


def unit_of(name: str) -> str:
    """The unit that a name's suffix says; empty when it says none."""
    for suffix, unit in UNITS.items():
        if name.endswith(suffix):
            return unit
    return ""


def spoken(name: str) -> str:
    """A quantity as people call it, without its unit: ``bulk_voltage_v`` is the bulk voltage."""
    suffix = next((suffix for suffix in UNITS if name.endswith(suffix)), "")
    return name.removesuffix(suffix).replace("_", " ")


def _rows(kind: Kind, sign: str, rows: Iterable[tuple[str, str]]) -> list[Quantity]:
    return [Quantity(name, unit_of(name), kind, sign, meaning) for name, meaning in rows]


def _phases(names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """A quantity of a three-phase device for each phase: ``_l1`` stands before the unit."""
    result = []
    for name, meaning in names:
        for phase in ("l1", "l2", "l3"):
            unit = next((suffix for suffix in UNITS if name.endswith(suffix)), "")
            base = name.removesuffix(unit)
            result.append((f"{base}_{phase}{unit}", f"{meaning}, phase {phase[1]}"))
    return result


def _levels(names: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """The two limits of a BMS for each name, unit and meaning: it warns, and it switches off."""
    return [
        (f"{name}_{level}_{unit}", f"{meaning} at which it {does}")
        for name, unit, meaning in names
        for level, does in (("warning", "warns"), ("limit", "switches off"))
    ]


SECTIONS: dict[str, list[Quantity]] = {
    "Photovoltaics": [
        *_rows(
            G,
            POSITIVE,
            [
                ("pv_power_w", "power of the panels; of the first input on a two-input inverter"),
                ("pv_voltage_v", "voltage of the first PV input"),
                ("pv_current_a", "current of the first PV input, panel side or battery side"),
                ("pv2_power_w", "power of the second PV input"),
                ("pv2_voltage_v", "voltage of the second PV input"),
                ("pv2_current_a", "current of the second PV input"),
                ("pv3_power_w", "power of the third PV input"),
                ("pv3_voltage_v", "voltage of the third PV input"),
                ("pv3_current_a", "current of the third PV input"),
                ("pv_total_power_w", "power of all PV inputs together"),
                ("solar_voltage_v", "panel voltage at a charge controller"),
            ],
        ),
        *_rows(C, POSITIVE, [("pv_energy_total_kwh", "energy of the panels since installation")]),
    ],
    "Battery": [
        *_rows(
            G,
            "+ = discharging",
            [
                ("battery_power_w", "power out of the battery"),
                ("battery_current_a", "current out of the battery"),
            ],
        ),
        *_rows(
            G,
            POSITIVE,
            [
                ("battery_voltage_v", "voltage at the battery's terminals"),
                ("battery_voltage_scc_v", "battery voltage as the solar charger measures it"),
                ("battery_voltage_scc2_v", "battery voltage at the second solar charger"),
                ("battery_voltage_scc3_v", "battery voltage at the third solar charger"),
                ("battery_charge_current_a", "current into the battery"),
                ("battery_discharge_current_a", "current out of the battery"),
                ("battery_soc_percent", "state of charge as the device reports it, uncorrected"),
                ("charge_current_a", "charging current of a charge controller"),
                ("load_current_a", "current to the loads of a charge controller"),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("battery_charge_energy_total_kwh", "energy into the battery since installation"),
                ("battery_discharge_energy_total_kwh", "energy out of it since installation"),
            ],
        ),
    ],
    "House and inverter": [
        *_rows(
            G,
            POSITIVE,
            [
                ("load_power_w", "power that the house draws"),
                ("ac_output_voltage_v", "voltage of the inverter's output"),
                ("ac_output_frequency_hz", "frequency of the inverter's output"),
                ("ac_output_apparent_power_va", "apparent power of the output"),
                ("ac_output_power_w", "active power of the output"),
                ("load_percent", "load of the inverter, the larger of W and VA"),
                ("bus_voltage_v", "voltage of the internal DC bus"),
                ("inverter_loss_power_w", "what the inverter itself draws"),
            ],
        ),
        *_rows(
            G,
            "",
            [("heat_sink_temperature_c", "temperature of the heat sink")],
        ),
        *_rows(C, POSITIVE, [("load_energy_total_kwh", "energy to the loads since installation")]),
        *_rows(
            S,
            "",
            [
                (
                    "device_mode",
                    "power_on, standby, line, battery, fault, power_saving, shutdown, charging, "
                    "bypass, eco, hybrid; a microinverter: producing, standby",
                ),
                ("device_status_bits", "status bits as sent, leftmost first"),
                ("warnings", "codes of the active warnings and faults"),
                ("fault_code", "fault code of the device; 0 or none = no fault"),
            ],
        ),
    ],
    "Grid": [
        *_rows(G, "+ = import", [("grid_power_w", "power taken from the grid")]),
        *_rows(
            G,
            POSITIVE,
            [
                ("grid_voltage_v", "voltage of the grid; 0 = no grid"),
                ("grid_frequency_hz", "frequency of the grid"),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("grid_import_energy_kwh", "energy taken from the grid, lifetime"),
                ("grid_export_energy_kwh", "energy given to the grid, lifetime"),
            ],
        ),
        *_rows(
            G,
            "",
            [
                ("grid_current_a", "current of the grid"),
                ("grid_apparent_power_va", "apparent power"),
                ("grid_reactive_power_var", "reactive power"),
                ("grid_power_factor", "power factor; negative on export, on most meters"),
                ("grid_phase_angle_deg", "angle between voltage and current, 0 to 360"),
                ("grid_total_demand_w", "mean power, import plus export, of the demand interval"),
                ("grid_total_demand_max_w", "its highest since the meter's reset"),
                ("grid_import_demand_w", "mean power taken from the grid in the demand interval"),
                ("grid_import_demand_max_w", "its highest since the meter's reset"),
                ("grid_export_demand_w", "mean power given to the grid in the demand interval"),
                ("grid_export_demand_max_w", "its highest since the meter's reset"),
                ("grid_current_demand_a", "mean current of the demand interval"),
                ("grid_current_demand_max_a", "its highest since the meter's reset"),
                *_phases(
                    [
                        ("grid_voltage_v", "voltage of the grid"),
                        ("grid_current_a", "current of the grid"),
                        ("grid_power_w", "power taken from the grid, + = import"),
                        ("grid_apparent_power_va", "apparent power"),
                        ("grid_reactive_power_var", "reactive power"),
                        ("grid_power_factor", "power factor"),
                    ]
                ),
            ],
        ),
        *_rows(
            C,
            "",
            [
                ("grid_total_energy_kwh", "import plus export, as the meter counts it"),
                ("grid_net_energy_kwh", "import less export; can fall"),
                ("grid_total_reactive_energy_kvarh", "reactive energy, as the meter counts it"),
                *_phases([("grid_total_energy_kwh", "import plus export, as the meter counts it")]),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("grid_import_reactive_energy_kvarh", "reactive energy taken, lifetime"),
                ("grid_export_reactive_energy_kvarh", "reactive energy given, lifetime"),
                *_phases(
                    [
                        ("grid_import_energy_kwh", "energy taken from the grid, lifetime"),
                        ("grid_export_energy_kwh", "energy given to the grid, lifetime"),
                    ]
                ),
            ],
        ),
        *_rows(
            G,
            POSITIVE,
            _phases(
                [
                    ("pv_power_w", "power of the panels, as a meter in their feed has it"),
                    ("load_power_w", "power that the house draws"),
                ]
            ),
        ),
        *_rows(
            S,
            "",
            [
                (
                    "measurement_mode",
                    "what a meter's total counts: import, import_plus_export, import_minus_export",
                )
            ],
        ),
    ],
    "Inverter settings": [
        *_rows(
            S,
            "",
            [
                ("output_source_priority", "who feeds the house first: USB, SUB or SBU"),
                (
                    "charger_source_priority",
                    "who charges: utility_first, solar_first, solar_and_utility, solar_only",
                ),
                ("battery_type", "agm, flooded, user, or a maker's lithium profile"),
                ("input_range", "appliance or ups"),
                ("buzzer_enabled", "the buzzer sounds"),
            ],
        ),
        *_rows(
            G,
            POSITIVE,
            [
                ("bulk_voltage_v", "constant charging voltage"),
                ("float_voltage_v", "floating voltage"),
                ("cut_off_voltage_v", "the inverter switches off below it"),
                ("recharge_voltage_v", "back to the grid below it"),
                ("redischarge_voltage_v", "back to the battery above it; 0 = when full"),
                ("max_charge_current_a", "limit of the charging current, all sources"),
                ("max_ac_charge_current_a", "limit of the charging current from the grid"),
                ("output_frequency_hz", "frequency that the output is set to"),
            ],
        ),
    ],
    "Inverter details (Axpert)": [
        *_rows(
            G,
            POSITIVE,
            [
                ("grid_export_power_w", "power that the inverter gives to the grid"),
                ("fan_voltage_offset_v", "calibration of the fan"),
                ("ac_charge_current_a", "charging current from the grid"),
                ("ac_charge_power_w", "charging power from the grid"),
                ("scc_charge_power_w", "power of the solar charger into the battery"),
                ("charge_average_current_a", "mean charging current, as the device smooths it"),
                ("sync_frequency_hz", "frequency that the inverter synchronises to"),
                ("fan_speed_percent", "speed of the fan"),
                ("parallel_charge_current_a", "charging current of all parallel units"),
                ("parallel_output_apparent_power_va", "apparent power of all parallel units"),
                ("parallel_output_power_w", "active power of all parallel units"),
                ("parallel_load_percent", "load of all parallel units together"),
                ("absorb_time_s", "time in the absorb stage"),
                ("float_time_s", "time in the float stage"),
                ("equalisation_elapsed_hours", "since the last equalisation"),
            ],
        ),
        *_rows(
            G,
            "",
            [
                ("mppt1_temperature_c", "temperature of the first solar charger"),
                ("mppt2_temperature_c", "temperature of the second solar charger"),
                ("scc_temperature_c", "temperature of the solar charger's switches"),
                ("inverter_temperature_c", "temperature of the inverter's switches"),
                ("battery_side_temperature_c", "temperature of the battery side's switches"),
                ("transformer_temperature_c", "temperature of the transformer"),
                ("max_temperature_c", "the highest of the device's temperatures"),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("pv_energy_year_kwh", "energy of the panels in the year that was asked for"),
                ("pv_energy_month_kwh", "energy of the panels in the month that was asked for"),
                ("pv_energy_day_kwh", "energy of the panels on the day that was asked for"),
                ("load_energy_year_kwh", "energy to the loads in the year that was asked for"),
                ("load_energy_month_kwh", "energy to the loads in the month that was asked for"),
                ("load_energy_day_kwh", "energy to the loads on the day that was asked for"),
            ],
        ),
        *_rows(
            S,
            "",
            [
                ("pv_current_side", "where pv_current_a is measured: panel or battery"),
                ("settings_changed", "somebody changed a setting since it was last asked"),
                ("load_on", "the output feeds the loads"),
                ("charging", "the battery is being charged"),
                ("scc_charging", "the sun charges the battery"),
                ("scc2_charging", "the second solar charger works"),
                ("scc3_charging", "the third solar charger works"),
                ("ac_charging", "the grid charges the battery"),
                ("float_charging", "the charger holds the float voltage"),
                ("solar_feed_to_grid", "surplus is given to the grid"),
                ("device_status2_bits", "more status bits as sent, leftmost first"),
                ("device_warning_bits", "warning bits as sent, leftmost first"),
                ("scc_status_bits", "status bits of the second and third solar charger"),
                ("parallel_status_bits", "status bits of a parallel unit"),
                ("parallel_unit_exists", "the unit is part of a parallel group"),
                ("parallel_role", "new, slave or master"),
                ("parallel_id", "number in the parallel group"),
                ("parallel_warning", "warning digits of the parallel group"),
                ("eeprom_version", "version of the settings memory"),
                ("country_code", "country that the device is set to, by its maker's list"),
                ("extra_fields", "fields of an answer that no paper explains, as sent"),
                ("mppt1_status", "first solar charger: abnormal, not_charging or charging"),
                ("mppt2_status", "second solar charger: abnormal, not_charging or charging"),
                ("battery_direction", "none, charge or discharge"),
                ("dc_ac_direction", "none, ac_dc or dc_ac"),
                ("line_direction", "none, input or output"),
                ("charge_stage", "none, bulk, absorb or float"),
                ("scc_ok", "the solar charger communicates"),
                ("scc_allowed", "the solar charger may charge"),
                ("fan_locked", "a fan is blocked"),
                ("protocol", "dialect that the device speaks"),
                ("serial", "serial number"),
                ("model", "model name"),
                ("general_model", "the maker's number of the model"),
                ("firmware", "version of the main firmware"),
                ("firmware_slave1", "version of the first slave's firmware"),
                ("firmware_slave2", "version of the second slave's firmware"),
                ("device_clock", "the device's own date and time, local"),
            ],
        ),
    ],
    "Inverter nameplate": [
        *_rows(
            G,
            POSITIVE,
            [
                ("grid_rating_voltage_v", "rated grid voltage"),
                ("grid_rating_current_a", "rated grid current"),
                ("ac_output_rating_voltage_v", "rated output voltage"),
                ("ac_output_rating_frequency_hz", "rated output frequency"),
                ("ac_output_rating_current_a", "rated output current"),
                ("ac_output_rating_apparent_power_va", "rated apparent power"),
                ("ac_output_rating_power_w", "rated active power"),
                ("battery_rating_voltage_v", "rated battery voltage: 12, 24 or 48"),
                ("parallel_max_units", "how many units may run in parallel"),
                ("mppt_strings", "number of PV inputs"),
            ],
        ),
        *_rows(
            L,
            "",
            [
                ("max_charge_current_choices_a", "values that max_charge_current_a may take"),
                ("max_ac_charge_current_choices_a", "the same for max_ac_charge_current_a"),
                ("max_solar_charge_current_choices_a", "the same for the solar charger alone"),
            ],
        ),
        *_rows(
            S,
            "",
            [
                ("machine_type", "grid_tie, off_grid, hybrid, off_grid_2_trackers ..."),
                ("topology", "transformerless or transformer"),
            ],
        ),
    ],
    "More inverter settings": [
        *_rows(
            G,
            POSITIVE,
            [
                ("output_voltage_v", "voltage that the output is set to"),
                ("max_discharge_current_a", "limit of the discharging current; 0 = none"),
                ("max_charge_range_a", "highest charging current that may be chosen"),
                ("max_cv_charge_time_min", "limit of the time at constant voltage; 0 = automatic"),
                ("equalisation_time_min", "duration of an equalisation"),
                ("equalisation_period_days", "time between two equalisations"),
                ("equalisation_max_current_a", "limit of the current while equalising"),
                ("equalisation_voltage_v", "voltage of an equalisation"),
                ("equalisation_timeout_min", "an equalisation that is not done by then is ended"),
            ],
        ),
        *_rows(
            S,
            "",
            [
                ("output_mode", "single, parallel, phase_1_of_3 ..."),
                ("pv_ok_condition", "PV counts as there when any_unit or all_units have it"),
                ("pv_power_balance", "PV is limited to charge_current or to charge_and_load"),
                ("operation_logic", "auto, online or eco"),
                ("solar_power_priority", "battery_load_utility or load_battery_utility"),
                ("overload_bypass_enabled", "an overload goes over to the grid"),
                ("solar_feed_to_grid_enabled", "surplus may go to the grid"),
                ("power_saving_enabled", "the output switches off without a load"),
                ("lcd_escape_enabled", "the display returns to its first page after a minute"),
                ("data_log_popup_enabled", "the display shows the data log by itself"),
                ("overload_restart_enabled", "starts again after an overload"),
                ("over_temperature_restart_enabled", "starts again after over temperature"),
                ("backlight_enabled", "the display is lit"),
                ("primary_source_alarm_enabled", "beeps when the first source is lost"),
                ("fault_record_enabled", "faults are kept in the device"),
                ("other_flags_enabled", "letters of flags that no paper explains"),
                ("equalisation_enabled", "the battery is equalised at times"),
                ("equalisation_active", "the battery is being equalised"),
            ],
        ),
    ],
    "Battery management": [
        *_rows(
            G,
            POSITIVE,
            [
                ("remaining_capacity_ah", "charge left in the pack"),
                ("cell_voltage_max_v", "highest cell"),
                ("cell_voltage_min_v", "lowest cell"),
                ("cell_voltage_spread_v", "highest less lowest cell"),
            ],
        ),
        *_rows(
            L,
            "",
            [
                ("cell_voltage_v", "each cell"),
                ("battery_temperature_c", "each sensor in the pack"),
            ],
        ),
        *_rows(C, POSITIVE, [("cycles", "charging cycles that the BMS counted")]),
        *_rows(
            S,
            "",
            [
                ("charge_mosfet_on", "the BMS lets current in"),
                ("discharge_mosfet_on", "the BMS lets current out"),
                ("balancing_cells", "numbers of the cells being balanced"),
                ("faults", "codes of the active faults"),
            ],
        ),
    ],
    "Battery management details (Daly)": [
        *_rows(
            G,
            POSITIVE,
            [
                ("battery_soc_corrected_percent", "state of charge after the owner's correction"),
                ("battery_gather_voltage_v", "second voltage of a Daly; most boards have none"),
                ("bms_heartbeat", "counts up at each answer, 0 to 255"),
            ],
        ),
        *_rows(
            G,
            "",
            [
                ("battery_temperature_max_c", "the warmest sensor in the pack"),
                ("battery_temperature_min_c", "the coldest sensor in the pack"),
                ("mosfet_temperature_c", "temperature of the BMS's switches"),
                ("board_temperature_c", "temperature of the BMS's board"),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("charge_total_ah", "charge into the pack since it was made"),
                ("discharge_total_ah", "charge out of the pack since it was made"),
            ],
        ),
        *_rows(
            S,
            "",
            [
                ("battery_cells", "number of cells in series"),
                ("battery_temperature_sensors", "number of sensors in the pack"),
                ("cell_voltage_max_number", "which cell is the highest, from 1"),
                ("cell_voltage_min_number", "which cell is the lowest, from 1"),
                ("battery_temperature_max_number", "which sensor is the warmest, from 1"),
                ("battery_temperature_min_number", "which sensor is the coldest, from 1"),
                ("charger_connected", "a charger is seen; often false even while charging"),
                ("load_connected", "a load is seen; often false even while discharging"),
                ("digital_io_on", "inputs DI1 to DI4 and outputs DO1 to DO4 that are on"),
                ("balancing_active", "some cell is being balanced"),
                ("balancing_bits", "balancing bits as sent, in hex"),
                ("battery_code", "name of the pack, as its maker wrote it into the BMS"),
                ("hardware", "version of the hardware"),
                ("firmware_index", "the maker's index of the firmware"),
                ("production_date", "when the pack was made"),
                ("bms_boards", "number of boards of the BMS"),
                ("bms_mode_code", "working mode as the BMS numbers it"),
                ("battery_type_code", "cell chemistry as the BMS numbers it"),
            ],
        ),
    ],
    "Battery management settings": [
        *_rows(
            G,
            POSITIVE,
            [
                ("rated_capacity_ah", "capacity that the BMS is set to"),
                ("nominal_cell_voltage_v", "cell voltage that the BMS is set to"),
                ("balance_start_voltage_v", "cells are balanced above it"),
                ("balance_difference_v", "and when they are that far apart"),
                ("cell_difference_warning_v", "warning when cells are that far apart"),
                ("cell_difference_limit_v", "switches off when cells are that far apart"),
                ("temperature_difference_warning_c", "warning when sensors are that far apart"),
                ("temperature_difference_limit_c", "switches off when sensors are that far apart"),
                ("short_circuit_current_a", "current that counts as a short circuit"),
                *_levels(
                    [
                        ("cell_voltage_high", "v", "cell voltage"),
                        ("cell_voltage_low", "v", "low cell voltage"),
                        ("battery_voltage_high", "v", "pack voltage"),
                        ("battery_voltage_low", "v", "low pack voltage"),
                        ("charge_current", "a", "charging current"),
                        ("discharge_current", "a", "discharging current"),
                        ("soc_high", "percent", "state of charge"),
                        ("soc_low", "percent", "low state of charge"),
                    ]
                ),
            ],
        ),
        *_rows(
            G,
            "",
            _levels(
                [
                    ("charge_temperature_high", "c", "temperature while charging"),
                    ("charge_temperature_low", "c", "low temperature while charging"),
                    ("discharge_temperature_high", "c", "temperature while discharging"),
                    ("discharge_temperature_low", "c", "low temperature while discharging"),
                ]
            ),
        ),
    ],
    "Charge controller": [
        *_rows(
            C,
            POSITIVE,
            [
                ("charge_today_ah", "charge into the battery since the controller's midnight"),
                ("load_today_ah", "charge to the loads since the controller's midnight"),
            ],
        ),
        *_rows(
            S,
            "",
            [
                ("regulator_state", "boost, equalise, absorption or float"),
                ("outputs_active", "what the charge controller switches on"),
                ("day_counters_state", "running; restarted or cleared before their midnight"),
                ("guessed_scales", "quantities whose scale no paper gives for this model"),
                ("battery_program", "number of the charging program"),
            ],
        ),
        *_rows(G, "+ = device ahead", [("device_clock_offset_s", "device's clock less ours")]),
        *_rows(
            G,
            POSITIVE,
            [
                ("charge_internal_current_a", "charging current through the controller itself"),
                ("charge_external_current_a", "charging current at an external shunt"),
                ("load_internal_current_a", "load current through the controller itself"),
                ("load_external_current_a", "load current at an external shunt"),
                ("charge_power_w", "battery voltage times charging current"),
                ("charge_yesterday_ah", "charge_today_ah before the controller's last midnight"),
                ("load_yesterday_ah", "load_today_ah before the controller's last midnight"),
                ("battery_voltage_max_today_v", "highest since the controller's midnight"),
                ("battery_voltage_min_today_v", "lowest since the controller's midnight"),
                ("float_reached_hours", "time of day when float was reached; 0 = not today"),
                ("since_boost_days", "since the last boost"),
                ("since_equalisation_days", "since the last equalisation"),
                ("battery_capacity_ah", "capacity that the controller was told"),
                ("generator_start_voltage_v", "the generator starts below it"),
                ("generator_stop_voltage_v", "the generator stops above it"),
                ("generator_start_soc_percent", "the generator starts below it"),
                ("generator_stop_soc_percent", "the generator stops above it"),
                ("load_disconnect_voltage_v", "the loads are cut off below it"),
                ("load_reconnect_voltage_v", "the loads come back above it"),
                ("load_disconnect_delay_min", "the voltage must be low for so long"),
                ("boost_period_days", "time between two boosts"),
                ("boost_voltage_v", "voltage of a boost"),
                ("absorption_voltage_v", "voltage of the absorption"),
                ("absorption_time_min", "duration of the absorption"),
            ],
        ),
        *_rows(
            L,
            POSITIVE,
            [
                ("history_charge_ah", "charge into the battery, element 1 = yesterday"),
                ("history_load_ah", "charge to the loads, element 1 = yesterday"),
                ("history_battery_voltage_max_v", "highest of the day, element 1 = yesterday"),
                ("history_battery_voltage_min_v", "lowest of the day, element 1 = yesterday"),
                ("history_soc_percent", "state of charge, element 1 = yesterday"),
                ("history_float_hours", "time of day when float was reached, 1 = yesterday"),
            ],
        ),
    ],
    "Gateway and microinverters (PVS)": [
        *_rows(
            G,
            POSITIVE,
            [
                ("pv_dc_power_w", "power of the panel in front of a microinverter"),
                ("ac_output_current_a", "current of a microinverter's output"),
                ("battery_soc_customer_percent", "state of charge above the reserve"),
                ("battery_soh_percent", "state of health as the device reports it"),
                ("battery_charge_power_limit_w", "what may go into the battery now"),
                ("battery_discharge_power_limit_w", "what may come out of the battery now"),
                ("backup_remaining_min", "how long the battery would last"),
                ("load_voltage_l1_v", "voltage on the house's side of a switch, phase 1"),
                ("load_voltage_l2_v", "voltage on the house's side of a switch, phase 2"),
                ("supply_voltage_v", "voltage of a device's own supply"),
                ("uptime_s", "since the device started"),
                ("cpu_load", "load average of the device"),
                ("cpu_used_percent", "load of the device's processor"),
                ("memory_used_kib", "memory of the device in use"),
                ("memory_used_percent", "memory of the device in use"),
                ("flash_available_kib", "free flash memory of the device; full, it stops for good"),
                ("flash_used_percent", "flash memory of the device in use"),
                ("flash_wear_percent", "wear of the device's flash memory"),
                ("scan_time_s", "how long the gateway needs to ask its devices"),
                ("unsent_events", "what the gateway has not reported to its maker yet"),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("forward_energy_kwh", "what a meter counted forwards, lifetime"),
                ("backward_energy_kwh", "what it counted backwards, lifetime"),
                ("gateway_errors", "errors that the gateway counted"),
                ("gateway_comm_errors", "devices that did not answer the gateway, counted by it"),
                ("gateway_skipped_scans", "rounds that the gateway left out, counted by it"),
            ],
        ),
        *_rows(
            C, "", [("battery_net_energy_kwh", "energy out of the battery less into it; can fall")]
        ),
        *_rows(
            S,
            "",
            [
                ("meter_role", "what a meter measures: production, grid or consumption"),
                ("operating_mode", "what the owner asks of the battery, in the maker's words"),
                ("transfer_switch_state", "closed = on the grid"),
                ("pv_disconnect_state", "closed = the panels feed"),
                ("transfer_switch_code", "the same as the gateway numbers it"),
                ("firmware_build", "number that says which protocol a gateway speaks"),
            ],
        ),
    ],
    "Relay": [
        *_rows(
            S,
            "",
            [
                ("relay_position", "grid_connected or grid_open"),
                ("relay_feedback", "position that the feedback contact proves"),
                ("relay_reason", "why the relay stands where it stands"),
                ("relay_manual_until", "end of the manual override; empty without one"),
            ],
        ),
        *_rows(G, POSITIVE, [("lease_remaining_s", "until the relay falls to its safe state")]),
        *_rows(C, POSITIVE, [("switch_count", "switchings since installation")]),
    ],
    "Group": [
        *_rows(S, "", [("members_missing", "members of a group that say nothing now")]),
    ],
    "Surroundings": [
        *_rows(
            G,
            "",
            [
                ("temperature_c", "temperature of a sensor"),
                ("outdoor_temperature_c", "temperature of the air outside"),
            ],
        ),
        *_rows(G, POSITIVE, [("resolution_bits", "resolution of a sensor; 12 = 1/16 °C")]),
        *_rows(G, POSITIVE, [("irradiance_w_m2", "irradiance on the panels")]),
    ],
}
"""The table, as people read it: by part of the house."""

VOCABULARY: dict[str, Quantity] = {row.name: row for rows in SECTIONS.values() for row in rows}
"""The same by name."""


def quantity(name: str) -> Quantity:
    """The quantity of that name; ``name/2`` is element 2 of the list ``name``.

    Raises:
        KeyError: the vocabulary has no such name.
    """
    return VOCABULARY[name.partition("/")[0]]


def markdown() -> str:
    """``docs/telemetry.md``."""
    lines = [
        "# Telemetry",
        "",
        "Every quantity that a sample or a settings message may carry. Made from",
        "`libs/sunmesh/src/sunmesh/vocabulary.py` by `python -m sunmesh.vocabulary`; do not edit.",
        "",
        "One rule for signs: **what feeds the house is positive**, so",
        "pv + grid + battery = load + losses.",
        "",
        "Kinds: `gauge` goes up and down; `counter` only rises; `state` is a word, a truth or a",
        "list of codes; `list` is a list of numbers, stored as `name/1`, `name/2`, …",
    ]
    for title, rows in SECTIONS.items():
        lines += ["", f"## {title}", "", "| name | unit | kind | sign | meaning |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| `{row.name}` | {row.unit} | {row.kind} | {row.sign} | {row.meaning} |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
