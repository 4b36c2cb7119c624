"""The headline of *Now*: what the house does, in one to three short sentences. Pure.

Each sentence is one message of the catalogues: no language builds them from the same parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from . import text, words
from .text import _, ngettext

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
    """The headline, in the language spoken."""
    if state.devices == 0:
        if state.broker:
            return _("No device yet.")
        return _("No contact with the devices: the broker is away.")
    lost = _lost(state)
    if len(state.lost) >= state.devices:
        return lost if state.broker else f"{lost} {_('The broker is away.')}"
    parts = [_power(state), _battery(state), _grid(state), lost]
    return " ".join(part for part in parts if part) or _("Waiting for the first values.")


# -- who says nothing ------------------------------------------------------------------------------


def _lost(state: Situation) -> str:
    """Who says nothing, since when."""
    awake = [one for one in state.lost if one.why != "sleeping"]
    if state.lost and not awake:
        return _sleepers(state.lost)
    mismatch = [one for one in awake if one.why == "mismatch"]
    if mismatch:
        return _strangers(mismatch)
    if not awake:
        return ""
    never = [one for one in awake if one.why == "never"]
    if len(never) == len(awake):
        return _unheard(never)
    silent = [one for one in awake if one.why != "never"]
    since = max((one.since for one in silent if one.since), default=None)
    return _silent(silent, words.clock(since, state.now) if since else "")


def _sleepers(lost: Sequence[Lost]) -> str:
    name, count = lost[0].name, len(lost)
    if count == 1:
        return _("The %(name)s sleeps.", name=name)
    if count == 2:
        return _("The %(name)s and the %(other)s sleep.", name=name, other=lost[1].name)
    return ngettext(
        "The %(name)s and %(num)d other device sleep.",
        "The %(name)s and %(num)d other devices sleep.",
        count - 1,
        name=name,
    )


def _strangers(lost: Sequence[Lost]) -> str:
    name, count = lost[0].name, len(lost)
    if count == 1:
        return _("Another device answers in place of the %(name)s.", name=name)
    if count == 2:
        return _(
            "Other devices answer in place of the %(name)s and the %(other)s.",
            name=name,
            other=lost[1].name,
        )
    return ngettext(
        "Other devices answer in place of the %(name)s and %(num)d other device.",
        "Other devices answer in place of the %(name)s and %(num)d other devices.",
        count - 1,
        name=name,
    )


def _unheard(lost: Sequence[Lost]) -> str:
    name, count = lost[0].name, len(lost)
    if count == 1:
        return _("No data from the %(name)s yet.", name=name)
    if count == 2:
        return _("No data from the %(name)s and the %(other)s yet.", name=name, other=lost[1].name)
    return ngettext(
        "No data from the %(name)s and %(num)d other device yet.",
        "No data from the %(name)s and %(num)d other devices yet.",
        count - 1,
        name=name,
    )


def _silent(lost: Sequence[Lost], since: str) -> str:
    name, count = lost[0].name, len(lost)
    if count == 1:
        if not since:
            return _("No data from the %(name)s.", name=name)
        return _("No data from the %(name)s since %(when)s.", name=name, when=since)
    if count == 2:
        other = lost[1].name
        if not since:
            return _("No data from the %(name)s and the %(other)s.", name=name, other=other)
        return _(
            "No data from the %(name)s and the %(other)s since %(when)s.",
            name=name,
            other=other,
            when=since,
        )
    if not since:
        return ngettext(
            "No data from the %(name)s and %(num)d other device.",
            "No data from the %(name)s and %(num)d other devices.",
            count - 1,
            name=name,
        )
    return ngettext(
        "No data from the %(name)s and %(num)d other device since %(when)s.",
        "No data from the %(name)s and %(num)d other devices since %(when)s.",
        count - 1,
        name=name,
        when=since,
    )


# -- who feeds the house ---------------------------------------------------------------------------


def _power(state: Situation) -> str:
    """Who feeds the house."""
    if state.mode == "fault":
        return _("The inverter reports a fault.")
    if state.mode == "shutdown":
        return _("The inverter is switched off.")
    pv, load, battery, grid = state.pv_w, state.load_w, state.battery_w, state.grid_w
    if load is None:
        return "" if pv is None else _("The sun gives %(watts)s.", watts=words.power(pv))
    discharge = max(battery or 0.0, 0.0)
    charge = max(-(battery or 0.0), 0.0)
    imported, exported = max(grid or 0.0, 0.0), max(-(grid or 0.0), 0.0)
    from_sun = min(pv or 0.0, load)
    from_battery = min(discharge, load - from_sun)
    from_grid = min(imported, load - from_sun - from_battery)
    unseen = load - from_sun - from_battery - from_grid
    draws = _("The house draws %(watts)s.", watts=words.power(load))
    if battery is None and load >= DARK_W and unseen > UNSEEN_SHARE * load:
        return draws  # somebody feeds it who says nothing now
    if load < DARK_W:
        return _idle(pv or 0.0, charge, exported)
    sun, store, net = (
        part if part > max(SMALL_W, 0.03 * load) else 0.0
        for part in (from_sun, from_battery, from_grid)
    )
    if sun and not store and not net:
        if exported > SMALL_W:
            return _(
                "Sun covers everything and gives %(watts)s to the grid.",
                watts=words.power(exported),
            )
        return _("Sun covers everything.")
    if net and imported - from_grid > SMALL_W and charge > SMALL_W:
        if sun:
            return _("Sun and grid carry the house and charge the battery.")
        return _("The grid carries the house and charges the battery.")
    if sun and store and net:
        first, second = round(100 * sun / load), round(100 * store / load)
        rest = 100 - first - second  # so that the three make a whole
        return _(
            "Sun covers %(sun)s, battery %(battery)s, grid %(grid)s.",
            sun=text.percent(first / 100),
            battery=text.percent(second / 100),
            grid=text.percent(rest / 100),
        )
    if sun and store:
        return _("Sun covers %(share)s, the battery the rest.", share=text.percent(sun / load))
    if sun and net:
        return _("Sun covers %(share)s, the grid the rest.", share=text.percent(sun / load))
    if store and net:
        return _(
            "Battery and grid share the house, %(share)s from the battery.",
            share=text.percent(store / load),
        )
    if store:
        if exported > SMALL_W:
            return _(
                "The battery carries the house and gives %(watts)s to the grid.",
                watts=words.power(exported),
            )
        return _("The house runs on its battery.")
    if net:
        return _("The house runs on the grid.")
    return draws


def _idle(pv: float, charge: float, exported: float) -> str:
    """A house that draws next to nothing, and where its sun goes."""
    if pv > SMALL_W and exported > SMALL_W:
        if charge > SMALL_W:
            return _(
                "The house draws next to nothing; the sun charges the battery and gives "
                "%(watts)s to the grid.",
                watts=words.power(exported),
            )
        return _(
            "The house draws next to nothing; the sun gives %(watts)s to the grid.",
            watts=words.power(exported),
        )
    if pv > SMALL_W and charge > SMALL_W:
        return _("The house draws next to nothing; the sun charges the battery.")
    return _("The house draws next to nothing.")


# -- how full, and where that is going -------------------------------------------------------------


def _battery(state: Situation) -> str:
    """How full, and where that is going."""
    if not state.has_battery:
        return ""
    power = state.battery_w
    if state.soc is None:
        if state.battery_v is None:
            return ""
        volts = words.value("battery_voltage_v", state.battery_v)
        return _("Battery %(level)s.", level=volts)
    level = text.percent(state.soc / 100)
    if power is None:
        return _("Battery %(level)s.", level=level)
    if state.soc >= 99.5 and power < SMALL_W:
        return _("Battery full.")
    if power < -SMALL_W:
        return _filling(state, level)
    if power <= SMALL_W:
        return _("Battery %(level)s.", level=level)
    if state.soc <= state.reserve:
        return _("Battery %(level)s, below its reserve.", level=level)
    return _emptying(state, level, _sunrise(state))


def _filling(state: Situation, level: str) -> str:
    full = state.full_at
    if full is None:
        return _("Battery %(level)s, charging.", level=level)
    by_sun = (state.pv_w or 0.0) > SMALL_W and (state.grid_w or 0.0) < SMALL_W
    if by_sun and state.sunset is not None and state.sunset.date() == state.now.date():
        if full > state.sunset:
            return _("Battery %(level)s, charging, not full before sunset.", level=level)
    elif full - state.now > FAR:
        return _("Battery %(level)s, charging slowly.", level=level)
    when = words.clock(_round(full), state.now)
    return _("Battery %(level)s, full about %(when)s.", level=level, when=when)


def _sunrise(state: Situation) -> str:
    """When the sun comes, by night and where there are panels; else empty."""
    if state.sunrise is None or not state.has_pv or (state.pv_w or 0.0) >= DARK_W:
        return ""
    if state.sunset is not None and state.sunset < state.sunrise:
        return ""  # it is day, only dark
    return text.clock(state.sunrise)


def _emptying(state: Situation, level: str, sun: str) -> str:
    empty = state.empty_at
    if empty is None:
        if sun:
            return _("Battery %(level)s; sun from %(sun)s.", level=level, sun=sun)
        return _("Battery %(level)s.", level=level)
    left = empty - state.now
    if left > FAR:
        span = words.duration(left)
        if sun:
            return _(
                "Battery %(level)s, at this load for %(span)s; sun from %(sun)s.",
                level=level,
                span=span,
                sun=sun,
            )
        return _("Battery %(level)s, at this load for %(span)s.", level=level, span=span)
    when = words.clock(_round(empty), state.now)
    if sun:
        return _(
            "Battery %(level)s, at this load until %(when)s; sun from %(sun)s.",
            level=level,
            when=when,
            sun=sun,
        )
    return _("Battery %(level)s, at this load until %(when)s.", level=level, when=when)


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
        return _("No grid.")
    gone = (state.now.date() - since.date()).days
    if gone >= 2:
        return _("No grid for %(span)s.", span=words.days(gone))
    return _("No grid since %(when)s.", when=words.clock(since, state.now))
