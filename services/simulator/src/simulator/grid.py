"""The public grid at the meter: there or not, and how it wanders. Functions of time alone."""

import math
from dataclasses import dataclass
from functools import lru_cache

from .noise import smooth, uniform

DAY_S = 86_400
_VOLTAGE, _FREQUENCY, _FLICKER = 211, 212, 213
_OUTAGE, _OUTAGE_START, _OUTAGE_LENGTH = 201, 202, 203


@dataclass(frozen=True, slots=True)
class Grid:
    """Voltage [V] and frequency [Hz]; both 0 during an outage."""

    voltage_v: float
    frequency_hz: float

    @property
    def is_present(self) -> bool:
        """Whether an inverter may use it."""
        return self.voltage_v > 0.0


OUTAGE = Grid(0.0, 0.0)


@lru_cache(maxsize=8)
def _outage(seed: int, day: int, outages_a_day: float) -> tuple[float, float]:
    """When the outage of ``day`` begins and ends, in its seconds; (0, 0) for a day without."""
    if uniform(seed, _OUTAGE, day) >= outages_a_day:
        return (0.0, 0.0)
    start = uniform(seed, _OUTAGE_START, day) * DAY_S
    return (start, start + 240.0 + 5460.0 * uniform(seed, _OUTAGE_LENGTH, day) ** 3)


def is_out(seed: int, t: float, outages_a_day: float) -> bool:
    """Whether one of the seeded outages runs: at most one a day, 4 to 95 minutes long."""
    day, second = divmod(t, DAY_S)
    for back in (0, 1):  # yesterday's may reach into today
        start, end = _outage(seed, int(day) - back, outages_a_day)
        if start <= second + back * DAY_S < end:
            return True
    return False


def at(seed: int, t: float, outages_a_day: float, nominal_v: float, nominal_hz: float) -> Grid:
    """The grid at ``t``: a little high at night, a little low in the evening, never still."""
    if is_out(seed, t, outages_a_day):
        return OUTAGE
    evening = math.cos((t / DAY_S % 1.0 - 0.79) * 2.0 * math.pi)
    share = (
        0.013 * (smooth(seed, _VOLTAGE, t, 900.0) - 0.5)
        + 0.006 * (smooth(seed, _FLICKER, t, 7.0) - 0.5)
        - 0.007 * evening
    )
    drift_hz = 0.08 * (smooth(seed, _FREQUENCY, t, 60.0) - 0.5)
    return Grid(nominal_v * (1.0 + share), nominal_hz + drift_hz)
