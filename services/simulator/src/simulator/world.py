"""The world: one house, moved forward step by step, every watt accounted for.

Sun, weather, grid and load are functions of seed and time: any moment can be reached in any order.
What a house integrates (cell charge, temperatures, counters, the inverter's stage) is a state:
build ``World(house, start)``, call :meth:`World.step`, or put a saved state back with
:meth:`World.restore`. The same house, start and sequence of steps give the same numbers on every
machine. Steps of 1 to 300 s are meant; each is seen at its middle, powers are means over it.

Signs are the mesh's: what feeds the house is positive. At every step
``pv_total_power_w + grid_power_w + battery_power_w = load_power_w + inverter_loss_power_w``, and
what the battery gives at its terminals is what its cells lose less the heat in them.

The inverter's way to the grid may be cut by a relay (:attr:`World.relay_open`), behind the meter.
While it is, ``inverter.grid_voltage_v`` and ``inverter.grid_frequency_hz`` say what it sees.

What is no part of the house has keys with the name of the device that measures it in front:
``shed.battery_voltage_v``, ``roof.pv_power_w``. The annex under that roof has a balance of its own,
``roof.pv_power_w + roof.grid_power_w = roof.load_power_w``; summed with the house's it is the
property's. The shed belongs to neither.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sunmesh import clock

from . import battery, grid, inverter, load, pv, sun, weather
from .annex import PLANE, Annex, annex_load
from .config import House
from .faults import Calendar, Fault, names
from .noise import smooth, uniform
from .shed import Shed, local_clock

STATE_VERSION = 2
DAY_S = 86_400
INSTALLED = 1_735_689_600.0
"""The house was finished on 2025-01-01: lifetime counters start near zero there [s since 1970]."""
USUAL_A_DAY_KWH = {
    "pv_energy_total_kwh": 17.0,
    "load_energy_total_kwh": 14.0,
    "grid_import_energy_kwh": 1.2,
    "grid_export_energy_kwh": 0.0,
    "battery_charge_energy_total_kwh": 8.0,
    "battery_discharge_energy_total_kwh": 7.6,
}
"""What a house like this gathers a day, for counters of a world that starts without a past."""
_OUTPUT, _START = 501, 502
ROOM_MEAN_C, ROOM_FOLLOWS = 16.0, 0.35
ATTIC_K_PER_W_M2, ATTIC_LAG_S = 0.022, 5400.0
METER_COUNTERS = ("grid_import_energy_kwh", "grid_export_energy_kwh")
"""What the meter counts, and begins anew when it is replaced."""
ROOF, SHED = "roof", "shed"
"""Devices that measure what is no part of the house."""
STORM_LIGHT = 0.12
"""What a storm leaves of an overcast sky's light."""
INVERTER = "inverter"
_BEHIND_OPEN_RELAY = {
    "grid_voltage_v": grid.OUTAGE.voltage_v,
    "grid_frequency_hz": grid.OUTAGE.frequency_hz,
}

Values = dict[str, Any]


class World:
    """The house at one moment.

    Attributes:
        house: what it is built of.
        time: the moment [s since 1970].
        settings: of the inverter.
        pack: the battery.
        calendar: what goes wrong, and when.
        values: the last step's world by vocabulary names; see :meth:`step`.
        counters: lifetime energies [kWh].
        battery_loss_wh: heat in the battery since this object was made [Wh].
        annex: the building under the second roof.
        shed: in the garden.
        relay_open: the inverter is cut off the grid.
    """

    def __init__(
        self,
        house: House,
        start: float,
        *,
        settings: inverter.Settings | None = None,
        calendar: Calendar | None = None,
    ) -> None:
        """A house as it may have been at ``start``: charge and counters follow from the seed."""
        self.house = house
        self.time = start
        self.settings = settings or inverter.Settings()
        self.calendar = calendar or Calendar()
        day = int(start // DAY_S)
        cells = battery.build(house.seed, house.cells, house.battery_capacity_ah, house.weak_cell)
        self.pack = battery.Pack(cells, 0.45 + 0.25 * uniform(house.seed, _START, day))
        self.memory = inverter.Memory()
        days = max(0.0, (start - INSTALLED) / DAY_S)
        self.counters = {name: days * usual for name, usual in USUAL_A_DAY_KWH.items()}
        self.battery_loss_wh = 0.0
        self.annex = Annex.after(days, house.seed)
        self.shed = Shed()
        self.relay_open = False
        self._meter_base = dict.fromkeys(METER_COUNTERS, 0.0)
        self._resets: set[float] = set()
        self._sun_at = sun.sun_path(house.latitude, house.longitude)
        self._load_at = load.load_curve(house.seed, house.zone)
        self._annex_load_at = annex_load(house.seed, lambda seed: load.load_curve(seed, house.zone))
        self._local_s = local_clock(house.zone)
        self._planes = tuple(array.plane for array in house.strings)
        air = weather.temperature_c(house.seed, start, house.latitude, house.longitude)
        self._battery_c = _room_c(air) + 1.5
        self._heat_sink_c = _room_c(air) + 8.0
        self._attic_c = air + 2.0
        self.values: Values = {}

    def step(self, dt: float) -> Values:
        """Move ``dt`` seconds forward; returns the world over that time, dated at its end."""
        house = self.house
        t = self.time + dt / 2.0
        running = self.calendar.active(t)
        kinds = {fault.kind for fault in running}
        lost = {fault.device for fault in running if fault.kind == "pv_string_lost"}
        weak = next((fault.cell for fault in running if fault.kind == "cell_weak"), 0)
        self.pack.weaken(weak - 1 if weak else None)

        # What is there.
        sky = weather.sky(house.seed, t, house.latitude, house.longitude)
        if "cloud_burst" in kinds:
            sky = weather.Sky(0.97, sky.temperature_c - 2.0)
        if "storm" in kinds:
            sky = weather.Sky(1.0, sky.temperature_c - 6.0)
        towards = self._sun_at(t)
        beam, diffuse = sun.clear_sky(towards[2])
        beam, diffuse = beam * sky.beam_part(), diffuse * sky.diffuse_part()
        if "storm" in kinds:
            diffuse *= STORM_LIGHT
        light = [sun.on_plane(beam, diffuse, towards, plane) for plane in self._planes]
        offers = [
            pv.DARK if name in lost else pv.offer(array, watts, sky.temperature_c)
            for name, array, watts in zip(("pv1", "pv2"), house.strings, light, strict=True)
        ]
        supply = (
            grid.OUTAGE
            if "grid_outage" in kinds
            else grid.at(house.seed, t, house.outages_a_day, house.grid_v, house.grid_hz)
        )
        feed = grid.OUTAGE if self.relay_open else supply
        wanted = self._load_at(t, sky.temperature_c) * house.load_factor
        wanted = min(wanted, inverter.RATED_W * 1.2)  # beyond, it would trip at once
        if "overload" in kinds:
            wanted = max(wanted, inverter.RATED_W * 1.13)

        # What the inverter makes of it.
        before_v = self.values.get("battery_voltage_v", self.pack.open_v)
        inverter.choose_source(self.memory, self.settings, self.pack, before_v, feed.is_present, dt)
        offered = offers[0].power_w + offers[1].power_w
        wish = inverter.decide(
            self.memory,
            self.settings,
            self.pack,
            pv_w=offered,
            load_w=wanted,
            grid_present=feed.is_present,
            may_charge=self._battery_c > 0.0,
            dt=dt,
        )
        current = self.pack.current_for(wish.battery_w, dt)
        if current > 0.0:
            current = min(current, self.pack.discharge_limit_a(dt))
        flow = self.pack.step(current, dt)
        loads = wish.load_w
        short = wish.battery_w - flow.power_w
        if short > 50.0:  # an almost empty pack cannot give it: the output sags
            loads = max(0.0, loads - short)
        losses = wish.pv_w + wish.grid_w + flow.power_w - loads
        inverter.advance_stage(self.memory, self.settings, flow.voltage_v, flow.current_a, dt)

        # What it leaves behind.
        self.time += dt
        horizontal = max(0.0, beam * towards[2]) + diffuse
        self._warm(sky.temperature_c, horizontal, losses, flow.loss_w, dt)
        self.battery_loss_wh += flow.loss_w * dt / 3600.0
        kwh = dt / 3_600_000.0
        count = self.counters
        count["pv_energy_total_kwh"] += wish.pv_w * kwh
        count["load_energy_total_kwh"] += loads * kwh
        count["grid_import_energy_kwh"] += max(0.0, wish.grid_w) * kwh
        count["grid_export_energy_kwh"] += max(0.0, -wish.grid_w) * kwh
        count["battery_charge_energy_total_kwh"] += max(0.0, -flow.power_w) * kwh
        count["battery_discharge_energy_total_kwh"] += max(0.0, flow.power_w) * kwh
        self._replace_meter(running)

        part = wish.pv_w / offered if offered > 0.0 else 0.0
        pv1_w, pv2_w = (offer.power_w * part for offer in offers)
        pv1_v, pv1_a = offers[0].at(pv1_w)
        pv2_v, pv2_a = offers[1].at(pv2_w)
        output_v, output_hz = self._output(wish.mode, feed, t)
        cell_v = list(flow.cell_v)
        self.values = {
            "pv_power_w": pv1_w,
            "pv_voltage_v": pv1_v,
            "pv_current_a": pv1_a,
            "pv2_power_w": pv2_w,
            "pv2_voltage_v": pv2_v,
            "pv2_current_a": pv2_a,
            "pv_total_power_w": wish.pv_w,
            "pv_available_power_w": offered,
            "battery_voltage_v": flow.voltage_v,
            "battery_current_a": flow.current_a,
            "battery_power_w": flow.power_w,
            "battery_charge_current_a": max(0.0, -flow.current_a),
            "battery_discharge_current_a": max(0.0, flow.current_a),
            "battery_soc_percent": self.pack.soc_percent,
            "remaining_capacity_ah": self.pack.remaining_ah,
            "cell_voltage_v": cell_v,
            "balancing_cells": [index + 1 for index in flow.balancing],
            "battery_temperature_c": [self._battery_c, self._battery_c + 0.7],
            "battery_loss_power_w": flow.loss_w,
            "charge_stage": self.memory.stage,
            "load_power_w": loads,
            "ac_output_power_w": loads,
            "ac_output_apparent_power_va": math.hypot(loads, 0.18 * loads + 40.0)
            if output_v
            else 0.0,
            "ac_output_voltage_v": output_v,
            "ac_output_frequency_hz": output_hz,
            "load_percent": 100.0 * loads / inverter.RATED_W,
            "inverter_loss_power_w": losses,
            "bus_voltage_v": 0.0 if wish.mode == "standby" else 365.0 + 0.006 * wish.pv_w,
            "grid_voltage_v": supply.voltage_v,
            "grid_frequency_hz": supply.frequency_hz,
            **(_of(INVERTER, _BEHIND_OPEN_RELAY) if self.relay_open else {}),
            "grid_power_w": wish.grid_w,
            "heat_sink_temperature_c": self._heat_sink_c,
            "outdoor_temperature_c": sky.temperature_c,
            "room_temperature_c": _room_c(sky.temperature_c),
            "attic_temperature_c": self._attic_c,
            "irradiance_w_m2": horizontal,
            "cloud_cover": sky.cover,
            "device_mode": wish.mode,
            **count,
            **{name: count[name] - base for name, base in self._meter_base.items()},
            **_of(
                ROOF,
                self.annex.step(
                    dt,
                    seed=house.seed,
                    irradiance_w_m2=sun.on_plane(beam, diffuse, towards, PLANE),
                    air_c=sky.temperature_c,
                    load_w=self._annex_load_at(t, sky.temperature_c),
                    grid_v=supply.voltage_v,
                    weak=next((fault.panel for fault in running if fault.kind == "weak_panel"), 0),
                ),
            ),
            **_of(
                SHED,
                self.shed.step(
                    t,
                    dt,
                    seed=house.seed,
                    irradiance_w_m2=light[0],
                    air_c=sky.temperature_c,
                    local_s=self._local_s,
                    drifts="clock_drift" in kinds,
                ),
            ),
            "faults": names(running),
        }
        return self.values

    def advance(self, to: float, dt: float) -> None:
        """Step by ``dt`` seconds (the last step shorter) until ``to``."""
        while self.time < to:
            self.step(min(dt, to - self.time))

    def snapshot(self) -> Values:
        """The world as it is published: its time and the last step's values, rounded to read."""
        return {"ts": iso(self.time), **{k: _rounded(k, v) for k, v in self.values.items()}}

    def state(self) -> Values:
        """Everything that :meth:`restore` needs to go on without a seam; plain JSON."""
        return {
            "v": STATE_VERSION,
            "seed": self.house.seed,
            "ts": iso(self.time),
            "time": self.time,
            "charge_ah": self.pack.charge_ah,
            "battery_temperature_c": self._battery_c,
            "heat_sink_temperature_c": self._heat_sink_c,
            "battery_voltage_v": self.values.get("battery_voltage_v"),
            "memory": {name: getattr(self.memory, name) for name in inverter.Memory.__slots__},
            "settings": {
                name: getattr(self.settings, name) for name in inverter.Settings.__slots__
            },
            "counters": self.counters,
            "meter_base": self._meter_base,
            "attic_temperature_c": self._attic_c,
            "annex": self.annex.state(),
            "shed": self.shed.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state` was taken.

        Raises:
            ValueError: it is no state of this house (other seed, other version, keys missing).
        """
        try:
            if state["v"] != STATE_VERSION:
                raise ValueError(f"version {state['v']}, not {STATE_VERSION}")
            if state["seed"] != self.house.seed:
                raise ValueError(f"seed {state['seed']}, not {self.house.seed}")
            counters = {name: float(state["counters"][name]) for name in self.counters}
            memory = inverter.Memory(**state["memory"])
            settings = inverter.Settings(**state["settings"])
            meter_base = {name: float(state["meter_base"][name]) for name in METER_COUNTERS}
            annex, shed = Annex.restored(state["annex"]), Shed.restored(state["shed"])
            attic_c = float(state["attic_temperature_c"])
            self.pack.restore(state["charge_ah"])
            self.time = float(state["time"])
            self._battery_c = float(state["battery_temperature_c"])
            self._heat_sink_c = float(state["heat_sink_temperature_c"])
        except (KeyError, TypeError) as err:
            raise ValueError(f"{type(err).__name__}: {err}") from err
        self.counters, self.memory, self.settings = counters, memory, settings
        self._meter_base, self._attic_c = meter_base, attic_c
        self.annex, self.shed = annex, shed
        voltage = state.get("battery_voltage_v")
        self.values = {} if voltage is None else {"battery_voltage_v": float(voltage)}

    def _replace_meter(self, running: Iterable[Fault]) -> None:
        """Once for each ``counter_reset``, when it begins."""
        now = {fault.start_s for fault in running if fault.kind == "counter_reset"}
        if now - self._resets:
            self._meter_base = {name: self.counters[name] for name in METER_COUNTERS}
        self._resets = now

    def _warm(
        self, air_c: float, light_w_m2: float, inverter_w: float, battery_w: float, dt: float
    ) -> None:
        room = _room_c(air_c)
        attic = air_c + 1.0 + ATTIC_K_PER_W_M2 * light_w_m2
        self._attic_c = attic + (self._attic_c - attic) * math.exp(-dt / ATTIC_LAG_S)
        sink = room + 5.0 + 0.085 * max(0.0, inverter_w)
        self._heat_sink_c = sink + (self._heat_sink_c - sink) * math.exp(-dt / 900.0)
        pack = room + 0.5 + 0.05 * battery_w
        self._battery_c = pack + (self._battery_c - pack) * math.exp(-dt / 21_600.0)

    def _output(self, mode: str, supply: grid.Grid, t: float) -> tuple[float, float]:
        """Voltage and frequency of the output: the grid's on line, the inverter's own else."""
        if mode == "standby":
            return (0.0, 0.0)
        if mode == "line":
            return (supply.voltage_v, supply.frequency_hz)
        wobble = smooth(self.house.seed, _OUTPUT, t, 11.0) - 0.5
        return (self.house.grid_v + 0.6 * wobble, self.house.grid_hz)


def iso(t: float) -> str:
    """``t`` [s since 1970] as messages write it."""
    return clock.iso(clock.from_ms(round(t * 1000)))


def seconds(moment: datetime) -> float:
    """A moment as the world counts it [s since 1970]."""
    return moment.timestamp()


def _of(device: str, values: Values) -> Values:
    """``values`` under the name of the device that measures them."""
    return {f"{device}.{name}": value for name, value in values.items()}


def _room_c(air_c: float) -> float:
    """The cellar where battery and inverter hang follows the weather from afar [°C]."""
    return ROOM_MEAN_C + ROOM_FOLLOWS * (air_c - 12.0)


def _rounded(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    digits = 6 if name.endswith("_kwh") else 3
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, list):
        return [round(item, 4) if isinstance(item, float) else item for item in value]
    return value
