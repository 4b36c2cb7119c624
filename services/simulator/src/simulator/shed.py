"""The garden shed: a lead battery, one panel, a charge controller, lamps and a pump. A world apart.

Nothing of it takes part in the house's balance. The battery is a voltage that rises with its
charge behind a resistance that grows while it is charged towards full, which is what makes a lead
battery reach its boost voltage long before it is full. A model, not a measurement.

The controller counts its day from midnight to midnight of its own clock, which nobody sets when
summer time begins or ends; the owner puts it right a day and a half later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from .noise import smooth
from .pv import WARMING_K_PER_W_M2, WIRING_AND_DIRT

DAY_S = 86_400
SYSTEM_V = 24
CAPACITY_AH = 120.0
EMPTY_V, RISE_V = 23.0, 2.8
"""Voltage at rest without charge, and how much higher it is when full [V]."""
DISCHARGE_OHM, CHARGE_OHM, FULL_OHM = 0.03, 0.05, 1.2
CHARGE_EFFICIENCY = 0.92
BOOST_V, ABSORPTION_V, FLOAT_V = 29.0, 28.6, 27.4
REBOOST_V = 25.4
ABSORPTION_S = 2 * 3600.0
DISCONNECT_V, RECONNECT_V = 23.6, 25.2
PANEL_A = 6.2
"""What the panel gives into any voltage below its own: the controller is a switch."""
CURRENT_PER_K = 0.0005
DRIFT_S = 25 * 60.0
SET_RIGHT_S = 1.5 * DAY_S
"""So long after a change of summer time the owner sets the clock."""
START_W_M2 = 8.0
_LAMP = 601


@dataclass(slots=True)
class Shed:
    """The shed at one moment.

    Attributes:
        charge_ah: what the battery holds.
        stage: of the controller: boost, absorption or float.
        absorbed_s: how long the absorption has lasted.
        load_off: the controller has switched the loads off, the battery being low.
        day: number of the controller's day; its counters begin anew with it.
        charge_today_ah, load_today_ah: counted since then.
        charge_yesterday_ah, load_yesterday_ah: of the day before; None = not known.
        max_v, min_v: extremes of the day.
        float_at_hours: when float was reached in it; 0 = not yet.
    """

    charge_ah: float = 0.8 * CAPACITY_AH
    stage: str = "boost"
    absorbed_s: float = 0.0
    load_off: bool = False
    day: int = -1
    charge_today_ah: float = 0.0
    load_today_ah: float = 0.0
    charge_yesterday_ah: float | None = None
    load_yesterday_ah: float | None = None
    max_v: float = 0.0
    min_v: float = 0.0
    float_at_hours: float = 0.0

    def step(
        self,
        t: float,
        dt: float,
        *,
        seed: int,
        irradiance_w_m2: float,
        air_c: float,
        local_s: Callable[[float], float],
        drifts: bool,
    ) -> dict[str, Any]:
        """Let ``dt`` seconds pass around ``t``; returns what there is, by vocabulary name.

        Args:
            t: the moment in the middle [s since 1970].
            dt: length of the step [s].
            seed: of the world.
            irradiance_w_m2: on the panel.
            air_c: outdoors.
            local_s: a moment's seconds since 1970 in local time.
            drifts: the clock is ahead for no reason.
        """
        hours = dt / 3600.0
        local = local_s(t)
        soc = self.charge_ah / CAPACITY_AH
        rest_v = EMPTY_V + RISE_V * soc
        load_a = 0.0 if self.load_off else _load_w(seed, t, local % DAY_S) / rest_v
        offered_a = _panel_a(irradiance_w_m2, air_c)
        target_v = {"boost": BOOST_V, "absorption": ABSORPTION_V, "float": FLOAT_V}[self.stage]
        ohm = CHARGE_OHM + FULL_OHM * soc**8
        charge_a = max(0.0, min(offered_a, load_a + (target_v - rest_v) / ohm))
        net_a = charge_a - load_a
        volts = rest_v + net_a * (ohm if net_a > 0.0 else DISCHARGE_OHM)
        self.charge_ah += net_a * hours * (CHARGE_EFFICIENCY if net_a > 0.0 else 1.0)
        self.charge_ah = min(CAPACITY_AH, max(0.0, self.charge_ah))
        self._regulate(volts, dt)

        offset_s = clock_offset_s(t, local_s, drifts)
        self._count(local + offset_s, volts, charge_a * hours, load_a * hours)
        return {
            "battery_voltage_v": volts,
            "battery_soc_percent": 100.0 * self.charge_ah / CAPACITY_AH,
            "charge_current_a": charge_a,
            "load_current_a": load_a,
            "regulator_state": self.stage,
            "load_disconnected": self.load_off,
            "charge_today_ah": self.charge_today_ah,
            "load_today_ah": self.load_today_ah,
            "charge_yesterday_ah": self.charge_yesterday_ah,
            "load_yesterday_ah": self.load_yesterday_ah,
            "battery_voltage_max_today_v": self.max_v,
            "battery_voltage_min_today_v": self.min_v,
            "float_reached_hours": self.float_at_hours,
            "pl80_clock_offset_s": offset_s,
            "device_clock_s": (local + offset_s) % DAY_S,
        }

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restored` needs; plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Shed":
        """The shed that :meth:`state` was taken of.

        Raises:
            TypeError: it is no state of a shed.
        """
        return cls(**state)

    def _regulate(self, volts: float, dt: float) -> None:
        if self.stage == "boost":
            if volts >= BOOST_V - 0.05:
                self.stage, self.absorbed_s = "absorption", 0.0
        elif self.stage == "absorption":
            if volts >= ABSORPTION_V - 0.2:
                self.absorbed_s += dt
            if self.absorbed_s >= ABSORPTION_S:
                self.stage = "float"
            elif volts < REBOOST_V:
                self.stage = "boost"
        elif volts < REBOOST_V:
            self.stage = "boost"
        self.load_off = volts < (RECONNECT_V if self.load_off else DISCONNECT_V)

    def _count(self, clock_s: float, volts: float, charge_ah: float, load_ah: float) -> None:
        day, second = divmod(clock_s, DAY_S)
        if int(day) > self.day:
            if self.day >= 0:
                self.charge_yesterday_ah, self.load_yesterday_ah = (
                    self.charge_today_ah,
                    self.load_today_ah,
                )
            self.day = int(day)
            self.stage = "boost"  # each morning begins with it
            self.charge_today_ah = self.load_today_ah = self.float_at_hours = 0.0
            self.max_v = self.min_v = volts
        self.charge_today_ah += charge_ah
        self.load_today_ah += load_ah
        self.max_v, self.min_v = max(self.max_v, volts), min(self.min_v, volts)
        if self.stage == "float" and not self.float_at_hours:
            self.float_at_hours = second / 3600.0


def clock_offset_s(t: float, local_s: Callable[[float], float], drifts: bool) -> float:
    """How far the controller's clock is ahead of the local time at ``t`` [s]."""
    before = local_s(t - SET_RIGHT_S) - (t - SET_RIGHT_S)
    return before - (local_s(t) - t) + (DRIFT_S if drifts else 0.0)


def local_clock(zone: ZoneInfo) -> Callable[[float], float]:
    """A function from a moment to its seconds since 1970 in local time."""
    kept: dict[int, float] = {}

    def at(t: float) -> float:
        quarter = int(t // 900)  # clocks change on a quarter of an hour, everywhere
        offset = kept.get(quarter)
        if offset is None:
            if len(kept) > 64:
                kept.clear()
            moment = datetime.fromtimestamp(quarter * 900, UTC).astimezone(zone)
            delta = moment.utcoffset()
            offset = kept[quarter] = delta.total_seconds() if delta is not None else 0.0
        return t + offset

    return at


def _panel_a(irradiance_w_m2: float, air_c: float) -> float:
    """Current of the panel into the battery."""
    if irradiance_w_m2 < START_W_M2:
        return 0.0
    above_25 = air_c + WARMING_K_PER_W_M2 * irradiance_w_m2 - 25.0
    warm = 1.0 + CURRENT_PER_K * above_25
    return PANEL_A * irradiance_w_m2 / 1000.0 * warm * WIRING_AND_DIRT


def _load_w(seed: int, t: float, second: float) -> float:
    """A camera with its radio, a pump in the morning and in the evening, lamps until ten."""
    watts = 7.0
    if 7.2 * 3600 <= second < 8.4 * 3600 or 17.5 * 3600 <= second < 18.3 * 3600:
        watts += 62.0
    if 18.0 * 3600 <= second < 22.0 * 3600:
        watts += 24.0
    return watts * (0.97 + 0.06 * smooth(seed, _LAMP, t, 20.0))
