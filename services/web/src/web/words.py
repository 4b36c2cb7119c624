"""How values are written for people in the language spoken: numbers, units, names, codes, times.

Pure but for that language, which :mod:`web.text` knows.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

from sunmesh.messages import Value
from sunmesh.vocabulary import UNITS, VOCABULARY, unit_of

from . import text
from .text import N_, _, ngettext

NONE = text.NONE
"""Written where a value is not known; never a zero."""
MINUS = "\N{MINUS SIGN}"
HARD = "\N{NO-BREAK SPACE}"

FLOW_NAMES = {
    "pv": N_("Sun"),
    "load": N_("House"),
    "grid_import": N_("From the grid"),
    "grid_export": N_("To the grid"),
    "battery_charge": N_("Into the battery"),
    "battery_discharge": N_("Out of the battery"),
    "generator": N_("Generator"),
    "curtailed": N_("Sun not taken"),
}
"""The flows of the energy books."""

LABELS = {
    "absorb_time_s": N_("Time in absorption"),
    "absorption_time_min": N_("Absorption, duration"),
    "absorption_voltage_v": N_("Absorption, voltage"),
    "ac_charge_current_a": N_("Charging current from the grid"),
    "ac_charge_power_w": N_("Charging power from the grid"),
    "ac_charging": N_("The grid charges"),
    "ac_output_apparent_power_va": N_("Output, apparent power"),
    "ac_output_current_a": N_("Output current"),
    "ac_output_frequency_hz": N_("Output frequency"),
    "ac_output_power_w": N_("Output power"),
    "ac_output_rating_apparent_power_va": N_("Rated apparent power"),
    "ac_output_rating_current_a": N_("Rated output current"),
    "ac_output_rating_frequency_hz": N_("Rated output frequency"),
    "ac_output_rating_power_w": N_("Rated power"),
    "ac_output_rating_voltage_v": N_("Rated output voltage"),
    "ac_output_voltage_v": N_("Output voltage"),
    "backlight_enabled": N_("Display lit"),
    "backup_remaining_min": N_("Battery lasts for"),
    "backward_energy_kwh": N_("Counted backwards"),
    "balance_difference_v": N_("Balancing from a difference of"),
    "balance_start_voltage_v": N_("Balancing starts above"),
    "balancing_active": N_("Balancing"),
    "balancing_bits": N_("Balancing bits"),
    "balancing_cells": N_("Cells being balanced"),
    "battery_capacity_ah": N_("Battery capacity"),
    "battery_cells": N_("Number of cells"),
    "battery_charge_current_a": N_("Battery, charging current"),
    "battery_charge_energy_total_kwh": N_("Battery, charged in total"),
    "battery_charge_power_limit_w": N_("Battery takes at most"),
    "battery_code": N_("Name of the pack"),
    "battery_current_a": N_("Battery current"),
    "battery_direction": N_("Battery, direction"),
    "battery_discharge_current_a": N_("Battery, discharging current"),
    "battery_discharge_energy_total_kwh": N_("Battery, discharged in total"),
    "battery_discharge_power_limit_w": N_("Battery gives at most"),
    "battery_gather_voltage_v": N_("Battery, second voltage"),
    "battery_net_energy_kwh": N_("Battery, given less taken"),
    "battery_power_w": N_("Battery power"),
    "battery_program": N_("Charging program"),
    "battery_rating_voltage_v": N_("Rated battery voltage"),
    "battery_side_temperature_c": N_("Battery side temperature"),
    "battery_soc_corrected_percent": N_("State of charge, corrected"),
    "battery_soc_customer_percent": N_("State of charge above the reserve"),
    "battery_soc_percent": N_("State of charge"),
    "battery_soh_percent": N_("State of health"),
    "battery_temperature_c": N_("Battery temperature"),
    "battery_temperature_max_c": N_("Battery, warmest sensor"),
    "battery_temperature_max_number": N_("Which sensor is warmest"),
    "battery_temperature_min_c": N_("Battery, coldest sensor"),
    "battery_temperature_min_number": N_("Which sensor is coldest"),
    "battery_temperature_sensors": N_("Number of temperature sensors"),
    "battery_type": N_("Battery type"),
    "battery_type_code": N_("Cell chemistry number"),
    "battery_voltage_high_limit_v": N_("Battery too high, switches off at"),
    "battery_voltage_high_warning_v": N_("Battery too high, warns at"),
    "battery_voltage_low_limit_v": N_("Battery too low, switches off at"),
    "battery_voltage_low_warning_v": N_("Battery too low, warns at"),
    "battery_voltage_max_today_v": N_("Highest battery voltage today"),
    "battery_voltage_min_today_v": N_("Lowest battery voltage today"),
    "battery_voltage_scc2_v": N_("Battery voltage at the second solar charger"),
    "battery_voltage_scc3_v": N_("Battery voltage at the third solar charger"),
    "battery_voltage_scc_v": N_("Battery voltage at the solar charger"),
    "battery_voltage_v": N_("Battery voltage"),
    "bms_boards": N_("Boards of the BMS"),
    "bms_heartbeat": N_("BMS heartbeat"),
    "bms_mode_code": N_("BMS mode number"),
    "board_temperature_c": N_("BMS board, temperature"),
    "boost_period_days": N_("Boost, every"),
    "boost_voltage_v": N_("Boost, voltage"),
    "bulk_voltage_v": N_("Bulk charging voltage"),
    "bus_voltage_v": N_("Internal DC bus"),
    "buzzer_enabled": N_("Buzzer"),
    "cell_difference_limit_v": N_("Cell difference, switches off at"),
    "cell_difference_warning_v": N_("Cell difference, warns at"),
    "cell_voltage_high_limit_v": N_("Cell too high, switches off at"),
    "cell_voltage_high_warning_v": N_("Cell too high, warns at"),
    "cell_voltage_low_limit_v": N_("Cell too low, switches off at"),
    "cell_voltage_low_warning_v": N_("Cell too low, warns at"),
    "cell_voltage_max_number": N_("Which cell is highest"),
    "cell_voltage_max_v": N_("Highest cell"),
    "cell_voltage_min_number": N_("Which cell is lowest"),
    "cell_voltage_min_v": N_("Lowest cell"),
    "cell_voltage_spread_v": N_("Cell spread"),
    "cell_voltage_v": N_("Cells"),
    "charge_average_current_a": N_("Mean charging current"),
    "charge_current_a": N_("Charging current"),
    "charge_current_limit_a": N_("Charging current, switches off at"),
    "charge_current_warning_a": N_("Charging current, warns at"),
    "charge_external_current_a": N_("Charging current, external shunt"),
    "charge_internal_current_a": N_("Charging current, internal"),
    "charge_mosfet_on": N_("Charging allowed by the BMS"),
    "charge_power_w": N_("Charging power"),
    "charge_stage": N_("Charging stage"),
    "charge_temperature_high_limit_c": N_("Hot while charging, switches off at"),
    "charge_temperature_high_warning_c": N_("Hot while charging, warns at"),
    "charge_temperature_low_limit_c": N_("Cold while charging, switches off at"),
    "charge_temperature_low_warning_c": N_("Cold while charging, warns at"),
    "charge_today_ah": N_("Charged today"),
    "charge_total_ah": N_("Charged in total"),
    "charge_yesterday_ah": N_("Charged yesterday"),
    "charger_connected": N_("Charger seen"),
    "charger_source_priority": N_("Charging takes from"),
    "charging": N_("Charging"),
    "country_code": N_("Country setting"),
    "cpu_load": N_("CPU load"),
    "cpu_used_percent": N_("CPU used"),
    "cut_off_voltage_v": N_("Switches off below"),
    "cycles": N_("Charging cycles"),
    "data_log_popup_enabled": N_("Display shows its log by itself"),
    "day_counters_state": N_("Counters of the day"),
    "dc_ac_direction": N_("Conversion, direction"),
    "device_clock": N_("The device's clock"),
    "device_clock_offset_s": N_("The device's clock is ahead by"),
    "device_mode": N_("Mode"),
    "device_status2_bits": N_("More status bits"),
    "device_status_bits": N_("Status bits"),
    "device_warning_bits": N_("Warning bits"),
    "digital_io_on": N_("Inputs and outputs that are on"),
    "discharge_current_limit_a": N_("Discharging current, switches off at"),
    "discharge_current_warning_a": N_("Discharging current, warns at"),
    "discharge_mosfet_on": N_("Discharging allowed by the BMS"),
    "discharge_temperature_high_limit_c": N_("Hot while discharging, switches off at"),
    "discharge_temperature_high_warning_c": N_("Hot while discharging, warns at"),
    "discharge_temperature_low_limit_c": N_("Cold while discharging, switches off at"),
    "discharge_temperature_low_warning_c": N_("Cold while discharging, warns at"),
    "discharge_total_ah": N_("Discharged in total"),
    "eeprom_version": N_("Version of the settings memory"),
    "equalisation_active": N_("Equalising now"),
    "equalisation_elapsed_hours": N_("Since the last equalisation"),
    "equalisation_enabled": N_("Equalisation"),
    "equalisation_max_current_a": N_("Equalisation, current limit"),
    "equalisation_period_days": N_("Equalisation, every"),
    "equalisation_time_min": N_("Equalisation, duration"),
    "equalisation_timeout_min": N_("Equalisation, ends after"),
    "equalisation_voltage_v": N_("Equalisation, voltage"),
    "extra_fields": N_("Unexplained fields"),
    "fan_locked": N_("Fan blocked"),
    "fan_speed_percent": N_("Fan speed"),
    "fan_voltage_offset_v": N_("Fan calibration"),
    "fault_code": N_("Fault"),
    "fault_record_enabled": N_("Keeps faults in memory"),
    "faults": N_("Faults"),
    "firmware": N_("Firmware"),
    "firmware_build": N_("Firmware build"),
    "firmware_index": N_("Maker's firmware index"),
    "firmware_slave1": N_("Firmware of the first slave"),
    "firmware_slave2": N_("Firmware of the second slave"),
    "flash_available_kib": N_("Flash memory free"),
    "flash_used_percent": N_("Flash memory used"),
    "flash_wear_percent": N_("Flash memory worn"),
    "float_charging": N_("Float charging"),
    "float_reached_hours": N_("Float reached at"),
    "float_time_s": N_("Time in float"),
    "float_voltage_v": N_("Float voltage"),
    "forward_energy_kwh": N_("Counted forwards"),
    "gateway_comm_errors": N_("Devices that did not answer"),
    "gateway_errors": N_("Gateway errors"),
    "gateway_skipped_scans": N_("Rounds left out"),
    "general_model": N_("Maker's model number"),
    "generator_start_soc_percent": N_("Generator starts below"),
    "generator_start_voltage_v": N_("Generator starts below"),
    "generator_stop_soc_percent": N_("Generator stops above"),
    "generator_stop_voltage_v": N_("Generator stops above"),
    "grid_apparent_power_va": N_("Grid, apparent power"),
    "grid_current_a": N_("Grid current"),
    "grid_current_demand_a": N_("Grid, mean current"),
    "grid_current_demand_max_a": N_("Grid, highest mean current"),
    "grid_export_demand_max_w": N_("To the grid, highest mean power"),
    "grid_export_demand_w": N_("To the grid, mean power"),
    "grid_export_energy_kwh": N_("Given to the grid in total"),
    "grid_export_power_w": N_("Power given to the grid"),
    "grid_export_reactive_energy_kvarh": N_("Reactive energy given in total"),
    "grid_frequency_hz": N_("Grid frequency"),
    "grid_import_demand_max_w": N_("From the grid, highest mean power"),
    "grid_import_demand_w": N_("From the grid, mean power"),
    "grid_import_energy_kwh": N_("Taken from the grid in total"),
    "grid_import_reactive_energy_kvarh": N_("Reactive energy taken in total"),
    "grid_net_energy_kwh": N_("Grid, taken less given"),
    "grid_phase_angle_deg": N_("Grid phase angle"),
    "grid_power_factor": N_("Grid power factor"),
    "grid_power_w": N_("Grid power"),
    "grid_rating_current_a": N_("Rated grid current"),
    "grid_rating_voltage_v": N_("Rated grid voltage"),
    "grid_reactive_power_var": N_("Grid, reactive power"),
    "grid_total_demand_max_w": N_("Grid, highest mean power"),
    "grid_total_demand_w": N_("Grid, mean power"),
    "grid_total_energy_kwh": N_("Grid, both ways in total"),
    "grid_total_reactive_energy_kvarh": N_("Grid, reactive energy in total"),
    "grid_voltage_v": N_("Grid voltage"),
    "guessed_scales": N_("Quantities of uncertain scale"),
    "hardware": N_("Hardware"),
    "heat_sink_temperature_c": N_("Heat sink"),
    "history_battery_voltage_max_v": N_("Highest battery voltage, last days"),
    "history_battery_voltage_min_v": N_("Lowest battery voltage, last days"),
    "history_charge_ah": N_("Charged, last days"),
    "history_float_hours": N_("Float reached at, last days"),
    "history_load_ah": N_("Given to the loads, last days"),
    "history_soc_percent": N_("State of charge, last days"),
    "input_range": N_("Accepted grid range"),
    "inverter_loss_power_w": N_("Inverter's own use"),
    "inverter_temperature_c": N_("Inverter temperature"),
    "irradiance_w_m2": N_("Irradiance"),
    "lcd_escape_enabled": N_("Display returns to its first page"),
    "lease_remaining_s": N_("Lease ends in"),
    "line_direction": N_("Grid, direction"),
    "load_connected": N_("Load seen"),
    "load_current_a": N_("Current to the loads"),
    "load_disconnect_delay_min": N_("Loads cut off after"),
    "load_disconnect_voltage_v": N_("Loads cut off below"),
    "load_energy_day_kwh": N_("House, this day"),
    "load_energy_month_kwh": N_("House, this month"),
    "load_energy_total_kwh": N_("Used by the house in total"),
    "load_energy_year_kwh": N_("House, this year"),
    "load_external_current_a": N_("Load current, external shunt"),
    "load_internal_current_a": N_("Load current, internal"),
    "load_on": N_("Output on"),
    "load_percent": N_("Inverter load"),
    "load_power_w": N_("House"),
    "load_reconnect_voltage_v": N_("Loads back above"),
    "load_today_ah": N_("Given to the loads today"),
    "load_voltage_v": N_("House, voltage"),
    "load_yesterday_ah": N_("Given to the loads yesterday"),
    "machine_type": N_("Kind of machine"),
    "max_ac_charge_current_a": N_("Charging limit from the grid"),
    "max_ac_charge_current_choices_a": N_("Charging limits from the grid on offer"),
    "max_charge_current_a": N_("Charging limit"),
    "max_charge_current_choices_a": N_("Charging limits on offer"),
    "max_charge_range_a": N_("Highest charging limit"),
    "max_cv_charge_time_min": N_("Longest time at constant voltage"),
    "max_discharge_current_a": N_("Discharging limit"),
    "max_solar_charge_current_choices_a": N_("Charging limits from the sun on offer"),
    "max_temperature_c": N_("Highest temperature"),
    "measurement_mode": N_("What the total counts"),
    "members_missing": N_("Members that say nothing"),
    "memory_used_kib": N_("Memory used"),
    "memory_used_percent": N_("Memory used, share"),
    "meter_role": N_("What the meter measures"),
    "model": N_("Model"),
    "mosfet_temperature_c": N_("BMS switches, temperature"),
    "mppt1_status": N_("Solar charger state"),
    "mppt1_temperature_c": N_("Solar charger temperature"),
    "mppt2_status": N_("Second solar charger state"),
    "mppt2_temperature_c": N_("Second solar charger temperature"),
    "mppt_strings": N_("Panel inputs"),
    "nominal_cell_voltage_v": N_("Nominal cell voltage"),
    "operating_mode": N_("Operating mode"),
    "operation_logic": N_("Operation logic"),
    "other_flags_enabled": N_("Unexplained flags"),
    "outdoor_temperature_c": N_("Outside temperature"),
    "output_frequency_hz": N_("Output set to"),
    "output_mode": N_("Output mode"),
    "output_source_priority": N_("The house takes from"),
    "output_voltage_v": N_("Output voltage set to"),
    "outputs_active": N_("What it switches on"),
    "over_temperature_restart_enabled": N_("Starts again after heat"),
    "overload_bypass_enabled": N_("On overload, over to the grid"),
    "overload_restart_enabled": N_("Starts again after overload"),
    "parallel_charge_current_a": N_("All units, charging current"),
    "parallel_id": N_("Number in the parallel group"),
    "parallel_load_percent": N_("All units, load"),
    "parallel_max_units": N_("Units in parallel, at most"),
    "parallel_output_apparent_power_va": N_("All units, apparent power"),
    "parallel_output_power_w": N_("All units, power"),
    "parallel_role": N_("Role in the parallel group"),
    "parallel_status_bits": N_("Status bits of the parallel unit"),
    "parallel_unit_exists": N_("Part of a parallel group"),
    "parallel_warning": N_("Warning of the parallel group"),
    "power_saving_enabled": N_("Power saving without load"),
    "primary_source_alarm_enabled": N_("Beeps when the first source is lost"),
    "production_date": N_("Made on"),
    "protocol": N_("Protocol"),
    "pv2_current_a": N_("Panels 2, current"),
    "pv2_power_w": N_("Panels 2, power"),
    "pv2_voltage_v": N_("Panels 2, voltage"),
    "pv3_current_a": N_("Panels 3, current"),
    "pv3_power_w": N_("Panels 3, power"),
    "pv3_voltage_v": N_("Panels 3, voltage"),
    "pv_current_a": N_("Panels, current"),
    "pv_current_side": N_("Where the panels' current is measured"),
    "pv_dc_power_w": N_("Panel, DC power"),
    "pv_disconnect_state": N_("Panels' switch"),
    "pv_energy_day_kwh": N_("Sun, this day"),
    "pv_energy_month_kwh": N_("Sun, this month"),
    "pv_energy_total_kwh": N_("Sun, in total"),
    "pv_energy_year_kwh": N_("Sun, this year"),
    "pv_ok_condition": N_("When panels count as present"),
    "pv_power_balance": N_("What limits the panels"),
    "pv_power_w": N_("Panels, power"),
    "pv_total_power_w": N_("All panels, power"),
    "pv_voltage_v": N_("Panels, voltage"),
    "rated_capacity_ah": N_("Rated capacity"),
    "recharge_voltage_v": N_("Back to the grid below"),
    "redischarge_voltage_v": N_("Back to the battery above"),
    "regulator_state": N_("Charging stage"),
    "relay_feedback": N_("Proved by its contact"),
    "relay_manual_until": N_("By hand until"),
    "relay_position": N_("Transfer relay"),
    "relay_reason": N_("Why it stands so"),
    "remaining_capacity_ah": N_("Charge left"),
    "resolution_bits": N_("Resolution"),
    "scan_time_s": N_("Time to ask all devices"),
    "scc2_charging": N_("Second solar charger works"),
    "scc3_charging": N_("Third solar charger works"),
    "scc_allowed": N_("Solar charger may charge"),
    "scc_charge_power_w": N_("Charging power from the sun"),
    "scc_charging": N_("The sun charges"),
    "scc_ok": N_("Solar charger answers"),
    "scc_status_bits": N_("Status bits of the solar chargers"),
    "scc_temperature_c": N_("Solar charger temperature"),
    "serial": N_("Serial number"),
    "settings_changed": N_("A setting was changed"),
    "short_circuit_current_a": N_("Short circuit from"),
    "since_boost_days": N_("Since the last boost"),
    "since_equalisation_days": N_("Since the last equalisation"),
    "soc_high_limit_percent": N_("State of charge high, switches off at"),
    "soc_high_warning_percent": N_("State of charge high, warns at"),
    "soc_low_limit_percent": N_("State of charge low, switches off at"),
    "soc_low_warning_percent": N_("State of charge low, warns at"),
    "solar_feed_to_grid": N_("Surplus goes to the grid"),
    "solar_feed_to_grid_enabled": N_("Surplus may go to the grid"),
    "solar_power_priority": N_("The sun goes first to"),
    "solar_voltage_v": N_("Panels, voltage at the charge controller"),
    "supply_voltage_v": N_("Supply voltage"),
    "switch_count": N_("Switchings"),
    "sync_frequency_hz": N_("Synchronised frequency"),
    "temperature_c": N_("Temperature"),
    "temperature_difference_limit_c": N_("Temperature difference, switches off at"),
    "temperature_difference_warning_c": N_("Temperature difference, warns at"),
    "topology": N_("Topology"),
    "transfer_switch_code": N_("Transfer switch number"),
    "transfer_switch_state": N_("Transfer switch"),
    "transformer_temperature_c": N_("Transformer temperature"),
    "unsent_events": N_("Reports not sent yet"),
    "uptime_s": N_("Running for"),
    "warnings": N_("Warnings"),
}
"""Plain-language names; what is missing here is made from the vocabulary's own name."""

ACRONYMS = {
    "ac": "AC",
    "bms": "BMS",
    "cpu": "CPU",
    "dc": "DC",
    "cv": "constant-voltage",
    "eeprom": "EEPROM",
    "lcd": "LCD",
    "mppt": "MPPT",
    "pv": "PV",
    "pv2": "PV 2",
    "pv3": "PV 3",
    "scc": "solar charger",
    "soc": "state of charge",
}

CHOICES = {
    "device_mode": {
        "power_on": N_("starting"),
        "standby": N_("standby"),
        "producing": N_("producing"),
        "line": N_("on the grid"),
        "battery": N_("on battery and sun"),
        "fault": N_("fault"),
        "power_saving": N_("power saving"),
        "shutdown": N_("switched off"),
        "charging": N_("charging"),
        "bypass": N_("bypass: grid straight to the house"),
        "eco": N_("eco"),
        "hybrid": N_("grid and sun together"),
    },
    "output_source_priority": {
        "USB": N_("grid, then sun, then battery (USB)"),
        "SUB": N_("sun, then grid, then battery (SUB)"),
        "SBU": N_("sun, then battery, then grid (SBU)"),
    },
    "charger_source_priority": {
        "utility_first": N_("the grid first"),
        "solar_first": N_("the sun first"),
        "solar_and_utility": N_("sun and grid"),
        "solar_only": N_("the sun only"),
    },
    "input_range": {
        "appliance": N_("wide (appliances)"),
        "ups": N_("narrow (UPS)"),
    },
    "charge_stage": {
        "none": N_("not charging"),
        "bulk": N_("bulk charging"),
        "absorb": N_("absorption"),
        "float": N_("float"),
    },
    "regulator_state": {
        "boost": N_("boost"),
        "equalise": N_("equalisation"),
        "absorption": N_("absorption"),
        "float": N_("float"),
    },
    "battery_direction": {
        "none": N_("resting"),
        "charge": N_("charging"),
        "discharge": N_("discharging"),
    },
    "mppt1_status": {
        "abnormal": N_("abnormal"),
        "not_charging": N_("not charging"),
        "charging": N_("charging"),
    },
    "mppt2_status": {
        "abnormal": N_("abnormal"),
        "not_charging": N_("not charging"),
        "charging": N_("charging"),
    },
    "meter_role": {
        "production": N_("the sun"),
        "grid": N_("the grid"),
        "consumption": N_("the house"),
    },
    "transfer_switch_state": {"closed": N_("closed: on the grid"), "open": N_("open")},
    "pv_disconnect_state": {"closed": N_("closed: the panels feed"), "open": N_("open")},
    "relay_position": {
        "grid_connected": N_("grid connected"),
        "grid_open": N_("grid disconnected"),
    },
    "relay_feedback": {
        "grid_connected": N_("grid connected"),
        "grid_open": N_("grid disconnected"),
    },
    "relay_reason": {
        "startup": N_("the relay service has just started"),
        "leased": N_("the controller asked for it and keeps asking"),
        "asked": N_("the controller asked for it"),
        "lease_expired": N_("nobody renewed the lease: the controller is silent"),
        "manual": N_("set by hand"),
        "manual_ended": N_("the time set by hand is over"),
        "broker_lost": N_("the broker is lost"),
        "unreadable_request": N_("a request could not be read"),
        "fault": N_("a fault: somebody has to look"),
        "no_output": N_("the output cannot be driven"),
        "stopping": N_("the relay service stopped"),
    },
}

WARNINGS = {
    "pv_loss": N_("no sun on the panels (normal at night)"),
    "inverter_fault": N_("inverter fault"),
    "bus_over": N_("internal DC voltage too high"),
    "bus_under": N_("internal DC voltage too low"),
    "bus_soft_fail": N_("internal DC voltage did not build up"),
    "line_fail": N_("no usable grid"),
    "output_short": N_("short circuit at the output"),
    "inverter_voltage_low": N_("output voltage too low"),
    "inverter_voltage_high": N_("output voltage too high"),
    "over_temperature": N_("too hot: check fans and air"),
    "fan_locked": N_("a fan is blocked"),
    "battery_voltage_high": N_("battery voltage too high"),
    "battery_low": N_("battery low"),
    "battery_under_shutdown": N_("battery below the cut-off voltage, output off"),
    "battery_derating": N_("power reduced because the battery is low"),
    "overload": N_("overload: switch something off"),
    "eeprom_fault": N_("settings memory faulty"),
    "inverter_over_current": N_("inverter current too high"),
    "inverter_soft_fail": N_("inverter did not start"),
    "self_test_fail": N_("self test failed"),
    "output_dc_voltage_over": N_("DC voltage on the AC output"),
    "battery_open": N_("no battery connected"),
    "current_sensor_fail": N_("current sensor faulty"),
    "battery_short": N_("short circuit at the battery"),
    "power_limit": N_("power limited"),
    "pv_voltage_high": N_("panel voltage too high"),
    "mppt_overload_fault": N_("solar charger overloaded"),
    "mppt_overload_warning": N_("solar charger near its limit"),
    "battery_too_low_to_charge": N_("battery too low for the solar charger"),
    "battery_weak": N_("battery weak"),
    "battery_equalisation": N_("battery is being equalised"),
    "low_pv_energy": N_("little sun"),
}
"""Warnings that owners ask about; other codes are spelt out as they are."""

QUIET_WARNINGS = frozenset({"pv_loss", "low_pv_energy", "battery_equalisation"})
"""Every night, every winter, every month: said, but nothing to act on."""

DIGITS = {
    "_kwh": 2,
    "_ah": 1,
    "_hz": 2,
    "_percent": 0,
    "_va": 0,
    "_var": 0,
    "_w_m2": 0,
    "_w": 0,
    "_v": 1,
    "_a": 1,
    "_c": 1,
    "_s": 0,
    "_min": 0,
    "_days": 0,
    "_hours": 1,
}


PHASE = re.compile(r"_l([123])(?=_|$)")


def power(watts: float | None) -> str:
    """``834 W``; from 1 kW on ``1.23 kW``."""
    if watts is None:
        return NONE
    if abs(round(watts)) < 1000:
        return f"{text.number(watts, 0)}{HARD}W"
    return f"{text.number(watts / 1000, 2)}{HARD}kW"


def energy(kwh: float | None) -> str:
    """``6.14 kWh``, ``123.4 kWh``."""
    if kwh is None:
        return NONE
    return f"{text.number(kwh, 2 if abs(kwh) < 99.995 else 1)}{HARD}kWh"


def sentence(words: str) -> str:
    """``words`` with a capital and an end; whoever wrote them as part of one has neither."""
    if not words:
        return ""
    return f"{words[:1].upper()}{words[1:]}" + ("" if words[-1] in ".!?:…" else ".")


# -- times -----------------------------------------------------------------------------------------


def clock(moment: datetime, now: datetime) -> str:
    """``14:02`` today; with the day's name this week, else with the date. Both in one zone."""
    time = text.clock(moment)
    days = (now.date() - moment.date()).days
    if days == 0:
        return time
    if days == 1:
        return _("yesterday %(time)s", time=time)
    if days == -1:
        return _("tomorrow %(time)s", time=time)
    if 1 < days < 7:
        return _("%(weekday)s %(time)s", weekday=text.weekday(moment.date()), time=time)
    form = "MMMd" if -300 < days < 300 else "medium"
    return _("%(date)s, %(time)s", date=text.day(moment.date(), form), time=time)


def local(ms: int, zone: tzinfo) -> datetime:
    """Milliseconds since 1970 as a moment in ``zone``."""
    return datetime.fromtimestamp(ms / 1000, zone)


def days(count: int) -> str:
    """``3 days``."""
    return ngettext("%(num)d day", "%(num)d days", count).replace(" ", HARD)


def duration(span: timedelta) -> str:
    """``40 min``, ``5 h 20 min``, ``14 h``, ``3 days``."""
    minutes = max(0, round(span.total_seconds() / 60))
    if minutes < 60:
        return f"{minutes}{HARD}min"
    hours, rest = divmod(minutes, 60)
    if hours < 10:
        rest = rest // 5 * 5
        return f"{hours}{HARD}h" + (f"{HARD}{rest}{HARD}min" if rest else "")
    if hours < 48:
        return f"{round(minutes / 60)}{HARD}h"
    return days(round(minutes / 1440))


def age(seconds: float) -> str:
    """How long ago: ``3 s``, ``4 min``, ``2 h``, ``3 days``."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f}{HARD}s"
    if seconds < 5400:
        return f"{seconds / 60:.0f}{HARD}min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f}{HARD}h"
    return days(round(seconds / 86_400))


# -- names -----------------------------------------------------------------------------------------


def title(name: str) -> str:
    """A device's or a site's name as a heading: ``grid-meter`` → ``Grid meter``."""
    words = name.replace("-", " ").replace("_", " ")
    return words[:1].upper() + words[1:]


def named(name: str) -> str:
    """A device's name inside of a sentence: ``grid-meter`` → ``grid meter``."""
    return name.replace("-", " ").replace("_", " ")


def label(name: str) -> str:
    """The plain-language name of a quantity."""
    if name in LABELS:
        return _(LABELS[name])
    phase = PHASE.search(name)
    if phase is not None:
        whole = label(PHASE.sub("", name))
        return _("%(quantity)s, phase %(num)s", quantity=whole, num=phase[1])
    for suffix in (*UNITS, "_enabled"):
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return title(" ".join(ACRONYMS.get(word, word) for word in name.split("_")))


def meaning(name: str) -> str:
    """What the vocabulary says of a quantity; empty for a name it does not have."""
    row = VOCABULARY.get(name)
    return _(row.meaning) if row and row.meaning else ""


def code(word: str) -> str:
    """A warning or fault code in words: ``battery_low_alarm`` → ``battery low alarm``."""
    if word in WARNINGS:
        return _(WARNINGS[word])
    words = word.replace("-", "_").lower().split("_")
    return " ".join(ACRONYMS.get(each, each) for each in words if each)


# -- values ----------------------------------------------------------------------------------------


def _scalar(name: str, value: Value, digits: int | None = None) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, int | float):
        if digits is None:
            suffix = next((suffix for suffix in DIGITS if name.endswith(suffix)), "")
            digits = DIGITS.get(suffix, 0 if float(value).is_integer() else 2)
        return text.number(value, digits)
    if isinstance(value, str):
        if value in CHOICES.get(name, {}):
            return _(CHOICES[name][value])
        return code(value) if value.islower() else value
    return NONE


def _digits(name: str, values: Sequence[Value]) -> int | None:
    """Cell voltages and temperatures need more or fewer digits than their unit's usual."""
    if name.startswith("cell_voltage"):
        return 3
    if name.endswith("_soc_percent") and any(
        isinstance(value, float) and not value.is_integer() for value in values
    ):
        return 1
    return None


def value(name: str, reading: Value) -> str:
    """One value as a person reads it, with its unit."""
    if name.endswith("_w") and isinstance(reading, int | float):
        return power(reading)
    if name.endswith("_kwh") and isinstance(reading, int | float):
        return energy(reading)
    if name == "redischarge_voltage_v" and reading == 0 and reading is not False:
        return _("when the battery is full")
    unit = unit_of(name)
    if isinstance(reading, list):
        if not reading:
            return _("none")
        digits = _digits(name, reading)
        texts = [
            code(item) if isinstance(item, str) else _scalar(name, item, digits) for item in reading
        ]
        separator = ", " if any(isinstance(item, str) for item in reading) else f"{HARD}· "
        return separator.join(texts) + (f"{HARD}{unit}" if unit else "")
    shown = _scalar(name, reading, _digits(name, [reading]))
    return f"{shown}{HARD}{unit}" if unit and reading is not None else shown
