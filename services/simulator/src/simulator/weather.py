"""Clouds and air temperature as seeded functions of time: no state, any moment in any order."""

import math
from dataclasses import dataclass

from .noise import smooth

DAY_S = 86_400
_WEATHER, _LUMPS, _PUFFS, _EDGES, _WARMTH = 101, 102, 103, 104, 105


@dataclass(frozen=True, slots=True)
class Sky:
    """What the air does at one moment.

    Attributes:
        cover: 0 = no cloud before the sun, 1 = overcast.
        temperature_c: outdoors, in the shade.
    """

    cover: float
    temperature_c: float

    def beam_part(self) -> float:
        """Share of the clear sky's beam that comes through."""
        return math.sqrt(1.0 - self.cover) * (1.0 - self.cover)

    def diffuse_part(self) -> float:
        """The diffuse light against a clear sky's: clouds scatter, thick ones swallow again."""
        return 1.0 + 5.4 * self.cover - 4.4 * self.cover * self.cover


def cover(seed: int, t: float) -> float:
    """Cloud cover before the sun, 0 to 1.

    The kind of day changes within about 30 hours; under it wander lumps of half an hour, puffs of
    five minutes and edges of 40 s, which is what makes a PV curve of broken clouds look as it does.
    """
    kind = smooth(seed, _WEATHER, t, 30 * 3600.0)
    # Two thirds of days mostly clear, the rest mixed or grey.
    mean = min(1.0, max(0.0, (kind - 0.38) * 2.1))
    if mean <= 0.0:
        return 0.04 * smooth(seed, _LUMPS, t, 1800.0)
    lumps = smooth(seed, _LUMPS, t, 1800.0)
    puffs = smooth(seed, _PUFFS, t, 300.0)
    edges = smooth(seed, _EDGES, t, 40.0)
    field = 0.5 * lumps + 0.35 * puffs + 0.15 * edges  # around 0.5
    # Broken clouds are on or off, not half: a steep threshold that moves with the kind of day.
    cloud = 1.0 / (1.0 + math.exp(-18.0 * (field - (0.92 - 0.84 * mean))))
    return min(1.0, cloud * (0.55 + 0.4 * mean))


def temperature_c(seed: int, t: float, latitude: float, longitude: float) -> float:
    """Outdoor temperature [°C]: season, hour by the sun, and three-day swings."""
    days = t / DAY_S
    season = math.cos((days % 365.2425 - 200.0) / 365.2425 * 2.0 * math.pi)  # warmest in late July
    if latitude < 0.0:
        season = -season
    span = min(14.0, abs(latitude) * 0.22)
    mean = 27.0 - abs(latitude) * 0.28
    hour = (days + longitude / 360.0) % 1.0 * 24.0
    daily = math.cos((hour - 15.0) / 24.0 * 2.0 * math.pi)
    swing = smooth(seed, _WARMTH, t, 3.0 * DAY_S) - 0.5
    return mean + span * season + 4.5 * daily + 7.0 * swing


def sky(seed: int, t: float, latitude: float, longitude: float) -> Sky:
    """The sky at ``t``."""
    return Sky(cover(seed, t), temperature_c(seed, t, latitude, longitude))
