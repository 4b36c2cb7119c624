"""How high the sun stands: good to a quarter of a degree, which is enough to call it day. Pure.

The low-precision formulas of the Astronomical Almanac for the sun's place, without refraction.
"""

import math


def elevation_deg(t: float, latitude: float, longitude: float) -> float:
    """The sun's height above the horizon.

    Args:
        t: seconds since 1970, UTC.
        latitude: north is positive [deg].
        longitude: east is positive [deg].
    """
    days = t / 86_400.0 + 2440587.5 - 2451545.0  # since noon of 2000-01-01
    anomaly = math.radians((357.528 + 0.9856003 * days) % 360.0)
    mean = (280.460 + 0.9856474 * days) % 360.0
    ecliptic = math.radians(mean + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
    tilt = math.radians(23.439 - 4e-7 * days)
    declination = math.asin(math.sin(tilt) * math.sin(ecliptic))
    ascension = math.atan2(math.cos(tilt) * math.sin(ecliptic), math.cos(ecliptic))
    sidereal = math.radians((280.46062 + 360.98564737 * days + longitude) % 360.0)
    hour = sidereal - ascension
    north = math.radians(latitude)
    height = math.sin(north) * math.sin(declination)
    height += math.cos(north) * math.cos(declination) * math.cos(hour)
    return math.degrees(math.asin(max(-1.0, min(1.0, height))))
