"""What each device family would report of the world: its quantities, at its resolution.

Pure functions from a world's values to a sample's values by vocabulary name. History is written
with them; the live house goes the honest way, through emulator and collector.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sunmesh.messages import Value

Values = dict[str, Value]


def axpert(world: Mapping[str, Any]) -> Values:
    """An Axpert MAX at PI30: fields of QPIGS, QPIGS2, QMOD, QPIWS, QET and QLT.

    Battery currents are whole amperes and their product with the voltage is all that the inverter
    knows of battery power; panel currents have tenths, energies are counted in Wh.
    """
    volts = round(world["battery_voltage_v"], 2)
    charge = round(world["battery_charge_current_a"])
    discharge = round(world["battery_discharge_current_a"])
    return {
        "grid_voltage_v": round(world["grid_voltage_v"], 1),
        "grid_frequency_hz": round(world["grid_frequency_hz"], 1),
        "ac_output_voltage_v": round(world["ac_output_voltage_v"], 1),
        "ac_output_frequency_hz": round(world["ac_output_frequency_hz"], 1),
        "ac_output_apparent_power_va": round(world["ac_output_apparent_power_va"]),
        "ac_output_power_w": round(world["ac_output_power_w"]),
        "load_percent": round(world["load_percent"]),
        "bus_voltage_v": round(world["bus_voltage_v"]),
        "battery_voltage_v": volts,
        "battery_charge_current_a": charge,
        "battery_discharge_current_a": discharge,
        "battery_power_w": round((discharge - charge) * volts, 1) + 0.0,
        "battery_soc_percent": round(world["battery_soc_percent"]),
        "heat_sink_temperature_c": round(world["heat_sink_temperature_c"]),
        "pv_current_a": round(world["pv_current_a"], 1),
        "pv_voltage_v": round(world["pv_voltage_v"], 1),
        "pv_power_w": round(world["pv_power_w"]),
        "pv2_current_a": round(world["pv2_current_a"], 1),
        "pv2_voltage_v": round(world["pv2_voltage_v"], 1),
        "pv2_power_w": round(world["pv2_power_w"]),
        "device_mode": world["device_mode"],
        "warnings": _axpert_warnings(world),
        "faults": [],
        "pv_energy_total_kwh": _wh(world["pv_energy_total_kwh"]),
        "load_energy_total_kwh": _wh(world["load_energy_total_kwh"]),
    }


def _axpert_warnings(world: Mapping[str, Any]) -> Value:
    return [code for code, is_set in AXPERT_WARNINGS if is_set(world)]


AXPERT_WARNINGS: tuple[tuple[str, Callable[[Mapping[str, Any]], bool]], ...] = (
    ("pv_loss", lambda world: world["pv_power_w"] + world["pv2_power_w"] < 5.0),
    ("line_fail", lambda world: world["grid_voltage_v"] < 90.0),
    ("battery_low", lambda world: world["battery_voltage_v"] < 46.5),
    ("overload", lambda world: world["load_percent"] > 105.0),
)
"""Codes of QPIWS in the order of its bits, and when the world gives reason for each."""


def _wh(energy_kwh: float) -> float:
    """A lifetime counter in whole Wh, cut as a counter cuts."""
    return int(energy_kwh * 1000.0) / 1000.0


FAMILIES: dict[str, Callable[[Mapping[str, Any]], Values]] = {"axpert": axpert}
"""What history knows how to write; families without an entry have no history."""
