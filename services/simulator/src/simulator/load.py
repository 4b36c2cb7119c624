"""What the house uses: base, fridge, heat pump, and appliances drawn by seed and weekday.

A function of time and air temperature: the plan of a day depends on the seed and the day's number
only, so any moment can be asked for in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from .noise import smooth, uniform

DAY_S = 86_400
_BASE, _FRIDGE, _FLICKER, _PLAN = 301, 302, 303, 304


@dataclass(frozen=True, slots=True)
class Appliance:
    """Something that is switched on now and then.

    Attributes:
        power_w: while it heats or turns.
        minutes: how long a use lasts, give or take a third.
        hours: local hours at which a use may begin: (from, to).
        workday: chance of a use on a Monday to Friday.
        weekend: chance of a use on a Saturday or Sunday.
        duty: share of the use that it draws its power (a washing machine heats a third of it).
    """

    power_w: float
    minutes: float
    hours: tuple[float, float]
    workday: float
    weekend: float
    duty: float = 1.0


APPLIANCES = (
    Appliance(2000, 3, (6.3, 7.5), 0.95, 0.2),  # kettle
    Appliance(2000, 3, (8.5, 10.5), 0.3, 0.9),
    Appliance(2000, 3, (16.0, 21.5), 0.6, 0.8),
    Appliance(850, 5, (6.5, 8.0), 0.8, 0.5),  # toaster
    Appliance(1300, 2, (6.5, 9.5), 0.9, 0.9),  # coffee
    Appliance(1300, 2, (13.0, 15.0), 0.5, 0.9),
    Appliance(1800, 25, (12.0, 12.8), 0.45, 0.9, 0.7),  # hob
    Appliance(1900, 35, (18.6, 19.8), 0.9, 0.8, 0.7),
    Appliance(2400, 45, (17.8, 19.0), 0.25, 0.5, 0.6),  # oven
    Appliance(2100, 95, (9.0, 14.0), 0.35, 0.75, 0.28),  # washing machine
    Appliance(1900, 80, (20.0, 21.5), 0.7, 0.8, 0.35),  # dishwasher
    Appliance(1100, 25, (9.0, 17.0), 0.15, 0.6),  # vacuum cleaner
    Appliance(1500, 110, (10.5, 14.0), 0.85, 0.9, 0.9),  # boiler, meant for the sun
    Appliance(700, 160, (9.0, 11.0), 0.5, 0.2),  # pump and workshop
    Appliance(110, 200, (18.5, 20.0), 0.95, 0.95),  # television
    Appliance(160, 420, (8.5, 9.5), 0.8, 0.3),  # desk
    Appliance(220, 260, (17.2, 19.0), 1.0, 1.0),  # lamps
)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of an appliance on one day: seconds since local midnight, power, duty."""

    start_s: float
    end_s: float
    power_w: float
    duty: float


def day_plan(seed: int, day: int) -> tuple[Use, ...]:
    """Every use of the local day ``day`` (days since 1970-01-01), by start."""
    weekend = (day + 3) % 7 >= 5  # day 0 was a Thursday
    uses = []
    for index, thing in enumerate(APPLIANCES):
        chance = thing.weekend if weekend else thing.workday
        if uniform(seed, _PLAN, day, index, 0) >= chance:
            continue
        early, late = thing.hours
        start = 3600.0 * (early + (late - early) * uniform(seed, _PLAN, day, index, 1))
        length = 60.0 * thing.minutes * (0.67 + 0.66 * uniform(seed, _PLAN, day, index, 2))
        uses.append(Use(start, min(start + length, DAY_S), thing.power_w, thing.duty))
    return tuple(sorted(uses, key=lambda use: use.start_s))


HEAT_PUMP_W = 900.0
HEAT_PUMP_CYCLE_S = 1500.0


def heat_pump_w(t: float, air_c: float) -> float:
    """What heating and cooling draw: the compressor runs a share of each cycle [W]."""
    wanted = 40.0 * max(0.0, 14.0 - air_c) + 85.0 * max(0.0, air_c - 24.0)
    if t % HEAT_PUMP_CYCLE_S < HEAT_PUMP_CYCLE_S * min(1.0, wanted / HEAT_PUMP_W):
        return HEAT_PUMP_W
    return 0.0


def load_curve(seed: int, zone: ZoneInfo) -> Callable[[float, float], float]:
    """A function from time [s since 1970] and outdoor temperature [°C] to the load [W]."""
    plan = lru_cache(maxsize=4)(lambda day: day_plan(seed, day))

    @lru_cache(maxsize=8)
    def offset_s(quarter: int) -> float:
        # Clocks change on a quarter of an hour, everywhere.
        moment = datetime.fromtimestamp(quarter * 900, zone)
        delta = moment.utcoffset()
        return delta.total_seconds() if delta is not None else 0.0

    def at(t: float, air_c: float) -> float:
        local = t + offset_s(int(t // 900))
        day, second = divmod(local, DAY_S)
        watts = 130.0 + 60.0 * smooth(seed, _BASE, t, 900.0) + heat_pump_w(t, air_c)
        if (t + 300.0 * smooth(seed, _FRIDGE, t, 7200.0)) % 2700.0 < 950.0:
            watts += 85.0
        for use in plan(int(day)):
            if use.start_s > second:
                break
            if second < use.end_s:
                # Thermostats: on and off with a period of 4 minutes.
                if use.duty < 1.0 and (second - use.start_s) % 240.0 >= use.duty * 240.0:
                    watts += 0.04 * use.power_w
                else:
                    watts += use.power_w
        return watts * (0.98 + 0.04 * smooth(seed, _FLICKER, t, 4.0))

    return at
