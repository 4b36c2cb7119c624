"""The headline of *Now*: what the house does, in one to three short sentences. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from . import words

SMALL_W = 30.0
"""Less than this is measuring noise, not a flow."""
FAR = timedelta(hours=36)
"""Further ahead a clock time says nothing."""
DARK_W = 20.0
UNSEEN_SHARE = 0.1
"""While the battery is unknown, a larger part of the load without a source is named nobody's."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A device that tells nothing now, why, and since when; ``never``: it was never heard of."""

    name: str
    why: Literal["silent", "offline", "mismatch", "sleeping", "never"] = "silent"
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the sentence is made from. Powers in W with the vocabulary's signs, None = unknown.

    Attributes:
        now: in the site's time zone.
        devices: how many devices are known or configured.
        broker: whether the broker answers.
        lost: devices without present values.
        has_pv: the house has panels; likewise the others.
        grid_present: the grid has voltage.
        grid_gone_since: the last time it had; None when not known.
        full_at: when the battery is full at this power.
        empty_at: when it is down to its reserve at this power.
        reserve: state of charge that counts as empty [%].
        sunrise: the next one; None without coordinates.
        sunset: the next one.
        mode: of the inverter.
    """

    now: datetime
    devices: int = 1
    broker: bool = True
    lost: Sequence[Lost] = ()
    has_pv: bool = True
    has_battery: bool = True
    has_grid: bool = True
    pv_w: float | None = None
    load_w: float | None = None
    battery_w: float | None = None
    battery_v: float | None = None
    soc: float | None = None
    grid_w: float | None = None
    grid_present: bool | None = None
    grid_gone_since: datetime | None = None
    full_at: datetime | None = None
    empty_at: datetime | None = None
    reserve: float = 10.0
    sunrise: datetime | None = None
    sunset: datetime | None = None
    mode: str | None = None


def headline(state: Situation) -> str:
    """The headline."""
    if state.devices == 0:
        return (
            "No device yet." if state.broker else "No contact with the devices: the broker is away."
        )
    lost = _lost(state)
    if len(state.lost) >= state.devices:
        return lost if state.broker else f"{lost} The broker is away."
    parts = [_power(state), _battery(state), _grid(state), lost]
    return " ".join(part for part in parts if part) or "Waiting for the first values."


def _lost(state: Situation) -> str:
    """Who says nothing, since when."""
    awake = [one for one in state.lost if one.why != "sleeping"]
    if state.lost and not awake:
        return f"{_names(state.lost)} {'sleeps' if len(state.lost) == 1 else 'sleep'}."
    if not awake:
        return ""
    mismatch = [one for one in awake if one.why == "mismatch"]
    if mismatch:
        return f"Another device answers in place of {_names(mismatch, capital=False)}."
    never = [one for one in awake if one.why == "never"]
    if len(never) == len(awake):
        return f"No data from {_names(awake, capital=False)} yet."
    silent = [one for one in awake if one.why != "never"]
    since = max((one.since for one in silent if one.since), default=None)
    text = f"No data from {_names(silent, capital=False)}"
    return f"{text} since {words.clock(since, state.now)}." if since else f"{text}."


def _names(lost: Sequence[Lost], *, capital: bool = True) -> str:
    names = [f"the {one.name}" for one in lost]
    if len(names) > 2:
        names = [*names[:1], f"{len(names) - 1} other devices"]
    text = " and ".join(names)
    return text[:1].upper() + text[1:] if capital else text


def _power(state: Situation) -> str:
    """Who feeds the house."""
    if state.mode == "fault":
        return "The inverter reports a fault."
    if state.mode == "shutdown":
        return "The inverter is switched off."
    pv, load, battery, grid = state.pv_w, state.load_w, state.battery_w, state.grid_w
    if load is None:
        return "" if pv is None else f"The sun gives {words.power(pv)}."
    discharge = max(battery or 0.0, 0.0)
    charge = max(-(battery or 0.0), 0.0)
    imported, exported = max(grid or 0.0, 0.0), max(-(grid or 0.0), 0.0)
    from_sun = min(pv or 0.0, load)
    from_battery = min(discharge, load - from_sun)
    from_grid = min(imported, load - from_sun - from_battery)
    unseen = load - from_sun - from_battery - from_grid
    if battery is None and load >= DARK_W and unseen > UNSEEN_SHARE * load:
        return f"The house draws {words.power(load)}."  # somebody feeds it who says nothing now
    if load < DARK_W:
        if charge > SMALL_W and (pv or 0.0) > SMALL_W:
            return "The house draws next to nothing; the sun charges the battery."
        return "The house draws next to nothing."
    sun, store, net = (
        part if part > max(SMALL_W, 0.03 * load) else 0.0
        for part in (from_sun, from_battery, from_grid)
    )
    if sun and not store and not net:
        if exported > SMALL_W:
            return f"Sun covers everything and gives {words.power(exported)} to the grid."
        return "Sun covers everything."
    if net and imported - from_grid > SMALL_W and charge > SMALL_W:
        who = "Sun and grid carry" if sun else "The grid carries"
        what = "charge" if sun else "charges"
        return f"{who} the house and {what} the battery."
    if sun and store and net:
        first, second = round(100 * sun / load), round(100 * store / load)
        rest = 100 - first - second  # so that the three make a whole
        return (
            f"Sun covers {words.percent(first / 100)}, battery {words.percent(second / 100)}, "
            f"grid {words.percent(rest / 100)}."
        )
    if sun and store:
        return f"Sun covers {words.percent(sun / load)}, the battery the rest."
    if sun and net:
        return f"Sun covers {words.percent(sun / load)}, the grid the rest."
    if store and net:
        return f"Battery and grid share the house, {words.percent(store / load)} from the battery."
    if store:
        return "The house runs on its battery."
    if net:
        return "The house runs on the grid."
    return f"The house draws {words.power(load)}."


def _battery(state: Situation) -> str:
    """How full, and where that is going."""
    if not state.has_battery:
        return ""
    power = state.battery_w
    if state.soc is None:
        if state.battery_v is None:
            return ""
        return f"Battery {words.value('battery_voltage_v', state.battery_v)}."
    level = f"Battery {words.percent(state.soc / 100)}"
    if power is None:
        return f"{level}."
    if state.soc >= 99.5 and power < SMALL_W:
        return "Battery full."
    if power < -SMALL_W:
        return f"{level}, {_filling(state)}."
    if power <= SMALL_W:
        return f"{level}."
    if state.soc <= state.reserve:
        return f"{level}, below its reserve."
    text = f"{level}{_emptying(state)}"
    night = state.sunrise is not None and (state.sunset is None or state.sunrise < state.sunset)
    if night and state.sunrise is not None and state.has_pv and (state.pv_w or 0.0) < DARK_W:
        text += f"; sun from {state.sunrise:%H:%M}"
    return f"{text}."


def _filling(state: Situation) -> str:
    full = state.full_at
    if full is None:
        return "charging"
    by_sun = (state.pv_w or 0.0) > SMALL_W and (state.grid_w or 0.0) < SMALL_W
    if by_sun and state.sunset is not None and state.sunset.date() == state.now.date():
        if full > state.sunset:
            return "charging, not full before sunset"
    elif full - state.now > FAR:
        return "charging slowly"
    return f"full about {words.clock(_round(full), state.now)}"


def _emptying(state: Situation) -> str:
    empty = state.empty_at
    if empty is None:
        return ""
    left = empty - state.now
    if left > FAR:
        return f", at this load for {words.duration(left)}"
    return f", at this load until {words.clock(_round(empty), state.now)}"


def _round(moment: datetime) -> datetime:
    """To ten minutes: more would be a promise."""
    minutes = (moment.minute + 5) // 10 * 10
    return moment.replace(minute=0, second=0, microsecond=0) + timedelta(minutes=minutes)


def _grid(state: Situation) -> str:
    """Only when it is missing."""
    if not state.has_grid or state.grid_present is not False:
        return ""
    since = state.grid_gone_since
    if since is None:
        return "No grid."
    days = (state.now.date() - since.date()).days
    if days >= 2:
        return f"No grid for {days}{words.HARD}days."
    return f"No grid since {words.clock(since, state.now)}."
