"""What each device family would report of the world: its quantities, at its resolution.

Pure functions from a world's values to what devices say by vocabulary name. History is written with
them, and the soak test compares with them what was stored; the live house goes the honest way,
through emulator and collector. A test sees that both ways say the same.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sunmesh.messages import Scalar, Value
from sunmesh.poll import Condition

Values = dict[str, Value]
World = Mapping[str, Any]
Said = dict[str, Values]
"""Device → what it says; several where one is read through another."""


@dataclass(frozen=True, slots=True)
class Family:
    """How the devices of a family look.

    Attributes:
        read: world and name of the device → what it and those behind it say.
        fine_s: the least pause between two samples of the newest days of history [s].
        coarse_s: the same of older days [s].
        away: world and name → (status, reason) while it cannot be read.
        alarms: world and name → its alarms by code.
        live_only: what nobody but the device itself can know: its own clock's ticks, memories.
    """

    read: Callable[[World, str], Said]
    fine_s: float
    coarse_s: float
    away: Callable[[World, str], tuple[str, str] | None] = field(default=lambda *_: None)
    alarms: Callable[[World, str], dict[str, Condition]] = field(default=lambda *_: {})
    live_only: frozenset[str] = frozenset()


def away(family: str, world: World, name: str) -> tuple[str, str] | None:
    """Why device ``name`` of ``family`` cannot be read now: (status, reason); None = it can."""
    faults = world["faults"]
    if f"silent:{name}" in faults:
        return ("offline", "no answer within 2 s")
    if f"swapped:{name}" in faults:
        return ("identity_mismatch", "another serial number answers than the configured one")
    return FAMILIES[family].away(world, name)


# --- Axpert -------------------------------------------------------------------------------------

RATED_W = 8000.0
NO_GRID_V = 90.0
WARNING_BITS = 36


def axpert(world: World) -> Values:
    """An Axpert MAX at PI30: fields of QPIGS, QPIGS2, QMOD, QPIWS, QET and QLT.

    Battery currents are whole amperes and their product with the voltage is all that the inverter
    knows of battery power; panel currents have tenths, energies are counted in Wh.
    """
    volts = round(world["battery_voltage_v"], 2)
    charge = round(world["battery_charge_current_a"])
    discharge = round(world["battery_discharge_current_a"])
    pv1_w, pv2_w = round(world["pv_power_w"]), round(world["pv2_power_w"])
    load_on = world["ac_output_voltage_v"] > 0.0
    charging = world["battery_charge_current_a"] >= 0.5
    by_sun = charging and world["pv_power_w"] + world["pv2_power_w"] > 5.0
    by_grid = charging and world["grid_power_w"] > 0.0
    warnings = [code for code, _, is_set in AXPERT_WARNINGS if is_set(world)]
    raised = {bit for code, bit, _ in AXPERT_WARNINGS if code in warnings}
    return {
        "grid_voltage_v": round(_behind_relay(world, "grid_voltage_v"), 1),
        "grid_frequency_hz": round(_behind_relay(world, "grid_frequency_hz"), 1),
        "ac_output_voltage_v": round(world["ac_output_voltage_v"], 1),
        "ac_output_frequency_hz": round(world["ac_output_frequency_hz"], 1),
        "ac_output_apparent_power_va": round(world["ac_output_apparent_power_va"]),
        "ac_output_power_w": round(world["ac_output_power_w"]),
        "load_percent": _load_percent(world),
        "bus_voltage_v": round(world["bus_voltage_v"]),
        "battery_voltage_v": volts,
        "battery_voltage_scc_v": 0.0,
        "battery_charge_current_a": charge,
        "battery_discharge_current_a": discharge,
        "battery_power_w": round((discharge - charge) * volts, 1) + 0.0,
        "battery_soc_percent": round(world["battery_soc_percent"]),
        "heat_sink_temperature_c": round(world["heat_sink_temperature_c"]),
        "pv_current_a": round(world["pv_current_a"], 1),
        "pv_voltage_v": round(world["pv_voltage_v"], 1),
        "pv_power_w": pv1_w,
        "pv_current_side": "panel",
        "pv2_current_a": round(world["pv2_current_a"], 1),
        "pv2_voltage_v": round(world["pv2_voltage_v"], 1),
        "pv2_power_w": pv2_w,
        "pv_total_power_w": pv1_w + pv2_w,
        "device_mode": world["device_mode"],
        "device_status_bits": f"000{load_on:d}0{charging:d}{by_sun:d}{by_grid:d}",
        "device_status2_bits": "010",
        "load_on": load_on,
        "charging": charging,
        "scc_charging": by_sun,
        "ac_charging": by_grid,
        "float_charging": False,
        "settings_changed": False,
        "fan_voltage_offset_v": 0.0,
        "eeprom_version": "00",
        "warnings": list[Scalar](warnings),
        "faults": [],
        "fault_code": 0,
        "device_warning_bits": "".join("01"[bit in raised] for bit in range(WARNING_BITS)),
        "pv_energy_total_kwh": _wh(world["pv_energy_total_kwh"]),
        "load_energy_total_kwh": _wh(world["load_energy_total_kwh"]),
    }


def _behind_relay(world: World, name: str) -> float:
    """What the inverter sees of the grid, which a relay may keep from it."""
    return float(world.get(f"inverter.{name}", world[name]))


def _load_percent(world: World) -> int:
    """The higher share of the rated watts and volt-amperes, which are the same number."""
    most = max(world["ac_output_power_w"], world["ac_output_apparent_power_va"])
    return int(round(100.0 * most / RATED_W, 0))


AXPERT_WARNINGS: tuple[tuple[str, int, Callable[[World], bool]], ...] = (
    ("pv_loss", 0, lambda world: world["pv_power_w"] + world["pv2_power_w"] < 5.0),
    ("line_fail", 5, lambda world: _behind_relay(world, "grid_voltage_v") < NO_GRID_V),
    ("battery_low", 12, lambda world: world["battery_voltage_v"] < 46.5),
    ("overload", 16, lambda world: _load_percent(world) > 105),
)
"""Codes of QPIWS with their bits, in their order, and when the world gives reason for each."""


def _wh(energy_kwh: float) -> float:
    """A lifetime counter in whole Wh."""
    return round(energy_kwh * 1000.0) / 1000.0


# --- Daly ---------------------------------------------------------------------------------------

STANDSTILL_A = 0.5
BMS_WARNINGS: tuple[tuple[str, Callable[[float, float, float], bool]], ...] = (
    ("cell_voltage_high_warning", lambda high, low, soc: high > 3.55),
    ("cell_voltage_high", lambda high, low, soc: high > 3.65),
    ("cell_voltage_low_warning", lambda high, low, soc: low < 2.90),
    ("cell_voltage_low", lambda high, low, soc: low < 2.50),
    ("soc_low_warning", lambda high, low, soc: soc < 20.0),
    ("soc_low", lambda high, low, soc: soc < 5.0),
    ("cell_difference_warning", lambda high, low, soc: high - low > 0.3),
    ("cell_difference", lambda high, low, soc: high - low > 0.8),
)
"""Codes of 0x98 in the order of its bits: highest cell, lowest cell [V], charge [%] → whether."""


def bms(world: World) -> Values:
    """A Daly board over A5: tenths of volts and amperes, millivolts of cells, whole degrees."""
    volts = round(world["battery_voltage_v"] * 10) / 10
    amperes = round(world["battery_current_a"] * 10) / 10 + 0.0
    cells_mv = [round(cell * 1000) for cell in world["cell_voltage_v"]]
    high, low = max(cells_mv), min(cells_mv)
    degrees = [round(celsius) for celsius in world["battery_temperature_c"]]
    soc = world["battery_soc_percent"]
    codes = [code for code, holds in BMS_WARNINGS if holds(high / 1000, low / 1000, soc)]
    balancing = world["balancing_cells"]
    bits = sum(1 << (cell - 1) for cell in balancing).to_bytes(6, "little")
    moves = abs(world["battery_current_a"]) >= STANDSTILL_A
    return {
        "battery_voltage_v": volts,
        "battery_current_a": amperes,
        "battery_power_w": round(volts * amperes, 1) + 0.0,
        "battery_soc_percent": round(soc * 10) / 10,
        "remaining_capacity_ah": round(world["remaining_capacity_ah"] * 1000) / 1000,
        "battery_direction": "none" if not moves else "discharge" if amperes > 0 else "charge",
        "charge_mosfet_on": True,
        "discharge_mosfet_on": True,
        "cell_voltage_v": [millivolts / 1000 for millivolts in cells_mv],
        "cell_voltage_max_v": high / 1000,
        "cell_voltage_max_number": cells_mv.index(high) + 1,
        "cell_voltage_min_v": low / 1000,
        "cell_voltage_min_number": cells_mv.index(low) + 1,
        "cell_voltage_spread_v": round((high - low) / 1000, 3),
        "battery_temperature_c": list[Scalar](degrees),
        "battery_temperature_max_c": max(degrees),
        "battery_temperature_min_c": min(degrees),
        "balancing_active": bool(balancing),
        "balancing_bits": bits.hex(),
        "balancing_cells": list[Scalar](balancing),
        "cycles": 41,
        "warnings": list[Scalar](codes),
        "faults": list[Scalar](code for code in codes if not code.endswith("_warning")),
        "fault_code": 0,
        "charger_connected": False,
        "load_connected": False,
        "digital_io_on": ["DI2"],
        "bms_heartbeat": None,
        "charge_total_ah": 8123,
        "discharge_total_ah": 7988,
    }


def _bms_away(world: World, name: str) -> tuple[str, str] | None:
    if f"asleep:{name}" in world["faults"]:
        return ("sleeping", "our own request comes back, as from a sleeping board")
    return None


# --- SDM230 -------------------------------------------------------------------------------------

METER_LIVES_FROM_V = 80.0


def meter(world: World) -> Values:
    """An SDM230 at the house's entry: every value a 32-bit float."""
    volts, watts = world["grid_voltage_v"], world["grid_power_w"]
    into, out = world["grid_import_energy_kwh"], world["grid_export_energy_kwh"]
    reactive = 0.12 * watts - 9.0  # a house is a little inductive, the meter's supply capacitive
    apparent = math.hypot(watts, reactive)
    values = {
        "grid_voltage_v": volts,
        "grid_current_a": apparent / volts,
        "grid_power_w": watts,
        "grid_apparent_power_va": apparent,
        "grid_reactive_power_var": reactive,
        "grid_power_factor": watts / apparent if apparent else 1.0,
        "grid_phase_angle_deg": math.degrees(math.atan2(reactive, watts)) % 360.0,
        "grid_frequency_hz": world["grid_frequency_hz"],
        "grid_import_energy_kwh": into,
        "grid_export_energy_kwh": out,
        "grid_import_reactive_energy_kvarh": 0.11 * into,
        "grid_export_reactive_energy_kvarh": 0.04 * into,
        "grid_total_demand_w": abs(watts),
        "grid_total_demand_max_w": max(6000.0, abs(watts)),
        "grid_import_demand_w": max(0.0, watts),
        "grid_import_demand_max_w": max(6000.0, watts),
        "grid_export_demand_w": max(0.0, -watts),
        "grid_export_demand_max_w": max(2500.0, -watts),
        "grid_total_energy_kwh": into + out,
        "grid_total_reactive_energy_kvarh": 0.15 * into,
    }
    return {name: _float32(value) for name, value in values.items()}


def _meter_away(world: World, name: str) -> tuple[str, str] | None:
    if world["grid_voltage_v"] < METER_LIVES_FROM_V:
        return ("offline", "no answer from address 1: it lives on the line that it measures")
    return None


_FLOAT = struct.Struct(">f")


def _float32(value: float) -> float:
    """``value`` as 32 bits hold it, in the shortest decimal that is this float and no other."""
    raw = _FLOAT.pack(value)
    whole: float = _FLOAT.unpack(raw)[0]
    for digits in range(6, 10):
        short = float(f"{whole:.{digits}g}")
        if _FLOAT.pack(short) == raw:
            return short + 0.0
    return whole + 0.0


# --- PL20 ---------------------------------------------------------------------------------------

PL_STEP_A = 0.1
PL_VOLTS = 0.2
CLOCK_LIMIT_S = 15 * 60.0


def pl80(world: World, name: str) -> Values:
    """A PL20 on 24 V with its own panel and loads: bytes of 0.2 V and 0.1 A, whole Ah."""

    def of(quantity: str) -> Any:  # noqa: ANN401 - JSON
        return world[f"{name}.{quantity}"]

    def volts(quantity: str) -> float:
        return round(round(float(of(quantity)) / PL_VOLTS) * PL_VOLTS, 2)

    charge, load = (
        round(round(of(quantity) / PL_STEP_A) * PL_STEP_A, 2)
        for quantity in ("charge_current_a", "load_current_a")
    )
    battery_v = volts("battery_voltage_v")
    outputs = ["charge"] if of("charge_current_a") >= 1.0 else []
    outputs += ["load_disconnected"] if of("load_disconnected") else []
    seconds = int(of("device_clock_s") // 2 * 2)
    minutes = seconds // 60
    return {
        "battery_voltage_v": battery_v,
        "battery_soc_percent": round(of("battery_soc_percent")),
        "regulator_state": of("regulator_state"),
        "outputs_active": list[Scalar](outputs),
        "charge_internal_current_a": charge,
        "load_internal_current_a": load,
        "charge_external_current_a": None,
        "load_external_current_a": None,
        "charge_current_a": charge,
        "load_current_a": load,
        "charge_power_w": round(battery_v * charge, 1),
        "charge_today_ah": int(of("charge_today_ah")),
        "load_today_ah": int(of("load_today_ah")),
        "device_clock": f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds % 60:02d}",
        "device_clock_offset_s": round(of("pl80_clock_offset_s")),
        "day_counters_state": "running",
        "charge_yesterday_ah": _whole(of("charge_yesterday_ah")),
        "load_yesterday_ah": _whole(of("load_yesterday_ah")),
        "battery_voltage_max_today_v": volts("battery_voltage_max_today_v"),
        "battery_voltage_min_today_v": volts("battery_voltage_min_today_v"),
        "float_reached_hours": round(of("float_reached_hours"), 1),
        "since_boost_days": 0,
        "since_equalisation_days": 0,
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _pl80_alarms(world: World, name: str) -> dict[str, Condition]:
    offset = world[f"{name}.pl80_clock_offset_s"]
    if abs(offset) <= CLOCK_LIMIT_S:
        return {}
    way = "ahead" if offset > 0 else "behind"
    text = (
        f"The controller's clock is {abs(offset) / 60:.0f} min {way}. The counts of a day begin "
        "and end at the wrong hour. Set it by hand."
    )
    title = "The clock of the charge controller is wrong"
    return {"device_clock": Condition("warning", title, text, round(offset))}


# --- DS18B20 ------------------------------------------------------------------------------------

SENSORS = {"attic": "attic_temperature_c", "battery-room": "room_temperature_c"}
"""Device → what of the world it measures; others measure the air outside."""


def temperature(world: World, name: str) -> Values:
    """A DS18B20: sixteenths of a degree."""
    return {"temperature_c": round(world[SENSORS.get(name, "outdoor_temperature_c")] * 16) / 16}


# --- PVS6 ---------------------------------------------------------------------------------------

PANELS = 18
DARK_W = 3.0
"""A microinverter that gives less sleeps."""
PANEL_AC_V = 243.1


def pvs6(world: World, name: str) -> Said:
    """A PVS6 of the older protocol, and its microinverters while they are awake: tenths of watts.

    The gateway tells of production and net meter, which the demo does not publish as devices.
    """

    def of(quantity: str) -> Any:  # noqa: ANN401 - JSON
        return world[f"{name}.{quantity}"]

    pv_w = _tenth(sum(of("microinverter_power_w")))
    grid_w = _tenth(of("grid_power_w"))
    pv_kwh, net_kwh = (
        round(sum(of("microinverter_energy_kwh")), 4),
        round(of("grid_import_energy_kwh") - of("grid_export_energy_kwh"), 4),
    )
    said: Said = {
        name: {
            "pv_power_w": pv_w,
            "load_power_w": round(max(0.0, pv_w + grid_w), 4),
            "grid_power_w": grid_w,
            "pv_energy_total_kwh": pv_kwh,
            "load_energy_total_kwh": round(pv_kwh + net_kwh, 4),
            "grid_net_energy_kwh": net_kwh,
            "uptime_s": None,
            "cpu_load": 0.33,
            "memory_used_kib": 86920.0,
            "flash_available_kib": 58953.0,
            "scan_time_s": 1.0,
            "unsent_events": 2487.0,
            "gateway_errors": 0.0,
            "gateway_comm_errors": 400.0,
            "gateway_skipped_scans": 0.0,
            "device_clock_offset_s": 0.0,
        }
    }
    sink_c = of("heat_sink_temperature_c")
    volts = 55.0 - 0.02 * sink_c
    each = zip(of("microinverter_power_w"), of("microinverter_energy_kwh"), strict=True)
    for number, (watts, energy_kwh) in enumerate(each, 1):
        if of("pv_power_w") <= 0.0:
            break
        dc_w = watts / 0.965
        said[member(name, number)] = {
            "pv_power_w": _tenth(watts),
            "pv_energy_total_kwh": round(energy_kwh, 4),
            "pv_dc_power_w": _tenth(dc_w),
            "pv_voltage_v": round(volts, 2),
            "pv_current_a": round(dc_w / volts, 2),
            "ac_output_voltage_v": PANEL_AC_V,
            "ac_output_current_a": round(watts / PANEL_AC_V, 2),
            "grid_frequency_hz": round(world["grid_frequency_hz"], 2),
            "heat_sink_temperature_c": float(round(sink_c)),
            "device_mode": "producing" if watts >= 0.05 else "standby",
        }
    return said


def _pvs6_away(world: World, name: str) -> tuple[str, str] | None:
    if world["grid_voltage_v"] <= 0.0:
        return ("offline", "no answer: a gateway lives on the grid")
    return None


def member(gateway: str, number: int) -> str:
    """What the demo calls a microinverter behind ``gateway``, 1 = first."""
    return f"{gateway}-{number}"


def _tenth(watts: float) -> float:
    """A power that is sent as kilowatts with four decimals."""
    return round(round(watts / 1000.0, 4) * 1000.0, 4) + 0.0


# ------------------------------------------------------------------------------------------------


def _single(read: Callable[[World], Values]) -> Callable[[World, str], Said]:
    return lambda world, name: {name: read(world)}


FAMILIES: dict[str, Family] = {
    "axpert": Family(_single(axpert), 60.0, 300.0),
    "bms": Family(
        _single(bms), 120.0, 600.0, away=_bms_away, live_only=frozenset({"bms_heartbeat"})
    ),
    "meter": Family(_single(meter), 120.0, 600.0, away=_meter_away),
    "pl80": Family(
        lambda world, name: {name: pl80(world, name)},
        300.0,
        900.0,
        alarms=_pl80_alarms,
        live_only=frozenset(
            {"device_clock", "day_counters_state", "charge_yesterday_ah", "load_yesterday_ah"}
        ),
    ),
    "pvs6": Family(pvs6, 300.0, 900.0, away=_pvs6_away, live_only=frozenset({"uptime_s"})),
    "temperature": Family(lambda world, name: {name: temperature(world, name)}, 300.0, 900.0),
}
"""What history knows how to write; families without an entry have no history."""
