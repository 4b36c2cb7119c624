"""PV strings: what light and warmth give at the inverter's input, and how a curtailed string looks.

Panel data are those of a usual 410 W half-cell module (IEC 61215 ratings as data sheets print
them): 31.2 V and 13.1 A at maximum power, 37.3 V open, -0.35 %/K power, -0.27 %/K voltage.
"""

import math
from dataclasses import dataclass

from .sun import Vector, normal

MODULE_POWER_W = 410.0
MODULE_MPP_V = 31.2
MODULE_OPEN_V = 37.3
POWER_PER_K = -0.0035
VOLTAGE_PER_K = -0.0027
WARMING_K_PER_W_M2 = 0.030
"""A panel on a roof is about 30 K warmer than the air in full sun."""
WIRING_AND_DIRT = 0.96
START_W_M2 = 8.0
"""Under this light an MPPT does not start."""


@dataclass(frozen=True, slots=True)
class Array:
    """One string: ``modules`` in series, facing ``azimuth_deg`` (south 180) at ``tilt_deg``."""

    modules: int
    azimuth_deg: float
    tilt_deg: float

    @property
    def plane(self) -> Vector:
        """The normal of the modules."""
        return normal(self.azimuth_deg, self.tilt_deg)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a string could give now: power [W] and voltage [V] at its maximum, open voltage [V]."""

    power_w: float
    mpp_v: float
    open_v: float

    def at(self, power_w: float) -> tuple[float, float]:
        """Voltage and current when ``power_w`` is taken: curtailed means closer to open voltage."""
        if self.power_w <= 0.0:
            return (self.open_v, 0.0)
        part = min(1.0, max(0.0, power_w / self.power_w))
        # Right of the maximum the curve falls steeply: most of the way up in voltage happens
        # while only the last third of the power is given away.
        voltage = self.mpp_v + (self.open_v - self.mpp_v) * (1.0 - part) ** 0.6
        return (voltage, power_w / voltage if voltage > 0.0 else 0.0)


DARK = Offer(0.0, 0.0, 0.0)


def offer(array: Array, irradiance_w_m2: float, air_c: float) -> Offer:
    """What ``array`` could give under that light on its plane."""
    if irradiance_w_m2 < START_W_M2:
        # A string wakes with a few volts in the twilight; none at night.
        return Offer(0.0, 0.0, 0.6 * array.modules * irradiance_w_m2)
    above_25 = air_c + WARMING_K_PER_W_M2 * irradiance_w_m2 - 25.0
    light = irradiance_w_m2 / 1000.0
    dim = 1.0 + 0.035 * math.log(light)  # voltage falls with the logarithm of the light
    volt = (1.0 + VOLTAGE_PER_K * above_25) * dim * array.modules
    power = MODULE_POWER_W * array.modules * light * (1.0 + POWER_PER_K * above_25)
    return Offer(max(0.0, power * WIRING_AND_DIRT), MODULE_MPP_V * volt, MODULE_OPEN_V * volt)
