"""What microinverters say about one another: who is silent in daylight, whose panel is weak.

A gateway calls every inverter ``error`` in the dark, and a dead one just the same; only the others
tell which it is.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from .codec import Device

DAYLIGHT = 0.15
"""While the others give more than this part of their rating, silence is a fault."""

ENOUGH_KWH = 1.0
"""What the median must have made today before panels are compared."""

LEAST = 3
"""Fewer inverters are not compared."""

RELIEF = 0.05
"""A weak panel is no longer weak this much above the limit."""

CREEP_KWH = 0.02


class Fleet:
    """The microinverters of one gateway through the day. Without a clock; times come with readings.

    Args:
        rating_w: of one inverter.
        weak_below: a panel with less than this part of the median's energy is weak; 0 = never.
        limits_energy: whether a counter that runs faster than the rating is suspect.
    """

    def __init__(self, rating_w: float, weak_below: float, *, limits_energy: bool = True) -> None:
        """At the beginning of a day."""
        self._rating_w = rating_w
        self._weak_below = weak_below
        self._limits_energy = limits_energy
        self._start: dict[str, float] = {}
        self._is_new_day = True
        self._weak: dict[str, float] = {}
        self._last: dict[str, tuple[datetime, float]] = {}

    def is_daylight(self, inverters: Collection[Device]) -> bool:
        """Whether those that report give more than a dark sky could."""
        powers = [each.values.get("pv_power_w") for each in inverters if each.is_fresh]
        known = [power for power in powers if isinstance(power, float)]
        return bool(known) and median(known) > DAYLIGHT * self._rating_w

    def suspects(self, device: Device) -> dict[str, str]:
        """Quality of a fresh inverter's energy: it must not fall, nor outrun the rating."""
        energy = device.values.get("pv_energy_total_kwh")
        if not isinstance(energy, float) or device.ts is None:
            return {}
        before = self._last.get(device.serial)
        if before is not None and device.ts <= before[0]:
            return {}
        self._last[device.serial] = device.ts, energy
        if before is None:
            return {}
        gain = energy - before[1]
        hours = (device.ts - before[0]).total_seconds() / 3600.0
        most = 1.2 * self._rating_w / 1000.0 * hours + CREEP_KWH
        if gain >= 0 and (gain <= most or not self._limits_energy):
            return {}
        self._start.pop(device.serial, None)  # not to be compared today
        return {"pv_energy_total_kwh": "suspect"}

    def weak(self, energies: Mapping[str, float]) -> dict[str, float]:
        """Weak panels and what part of the median they made; call it with every round.

        Args:
            energies: lifetime energy of the inverters that report, by serial number [kWh].
        """
        if not energies:
            self._is_new_day = True  # night
            return self._weak
        if self._is_new_day:
            self._start, self._is_new_day = dict(energies), False
        gains = {
            serial: energy - self._start[serial]
            for serial, energy in energies.items()
            if serial in self._start
        }
        if self._weak_below and len(gains) >= LEAST and (middle := median(gains.values())) > 0:
            for serial, gain in gains.items() if middle >= ENOUGH_KWH else ():
                limit = self._weak_below + (RELIEF if serial in self._weak else 0.0)
                if gain < limit * middle:
                    self._weak[serial] = gain / middle
                else:
                    self._weak.pop(serial, None)
        return self._weak


def median(values: Iterable[float]) -> float:
    """The middle of at least one value; the lower of two. ``statistics`` would cost a MiB."""
    ranked = sorted(values)
    return ranked[(len(ranked) - 1) // 2]
