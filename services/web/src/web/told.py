"""What an alarm says in the language spoken: the messages of its code, filled with its values.

In English its own words go first, which the owner may have written into a rule.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sunmesh.messages import Alarm, Value

from . import text, words
from .text import DEFAULT, N_, gettext

WRITTEN = re.compile(r"(-?\d+)(\.\d+)?( [^\d\s]{1,5})?")
"""A number with its unit, as services write it into an alarm."""


class Own(NamedTuple):
    """The words that the portal has for a code."""

    title: str
    text: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """An alarm in words."""

    title: str
    text: str
    advice: str


CODES: Mapping[str, Own] = {
    "battery_asleep": Own(
        N_("battery management sleeps"),
        advice=N_("Set its sleep time longer, or off, if it sleeps in use."),
    ),
    "battery_cold": Own(
        N_("too cold to be charged"),
        advice=N_("Warm the room before the sun charges it."),
    ),
    "battery_fault": Own(
        N_("battery fault: %(texts)s"),
        advice=N_(
            "It may have cut the battery off: look at cells and temperatures before you "
            "reset anything."
        ),
    ),
    "battery_hot": Own(
        N_("battery is hot"),
        advice=N_("Reduce charge and load, and let air to the battery."),
    ),
    "battery_voltage_high": Own(
        N_("battery voltage too high"),
        advice=N_("Lower the bulk and float voltages, and look at the battery management."),
    ),
    "battery_voltage_low": Own(
        N_("battery voltage low"),
        advice=N_("Reduce the load, or let the grid charge."),
    ),
    "battery_warning": Own(
        N_("battery warning: %(texts)s"),
        advice=N_("Reduce the load, or the charge, and look at the cells."),
    ),
    "broker_dropped": Own(
        N_("the broker dropped messages"),
        advice=N_("Look which service was away, and at max_queued_messages in mosquitto.conf."),
    ),
    "broker_lost": Own(
        N_("the broker was away"),
        advice=N_("Look why it stopped: its log, the disk, the power."),
    ),
    "backup_failed": Own(
        N_("the nightly backup failed"),
        advice=N_("Look at the recorder's log and at the disk of the backups."),
    ),
    "backup_old": Own(
        N_("the newest backup is old"),
        advice=N_("Look whether the recorder runs and where the backups go."),
    ),
    "cell_high": Own(
        N_("a cell is nearly full"),
        advice=N_("Lower the charging voltage."),
    ),
    "cell_low": Own(
        N_("a cell is nearly empty"),
        advice=N_("Reduce the load or charge from the grid."),
    ),
    "cell_spread": Own(
        N_("cells drift apart"),
        advice=N_(
            "Let it charge to the top and balance; if one cell stays behind, look at its "
            "connections."
        ),
    ),
    "channel_failed": Own(
        N_("%(targets)s cannot be reached"),
        advice=N_("Look at the key, the network, and the provider's page."),
        text=N_("Notifications do not arrive: %(reason)s"),
    ),
    "clock_differs": Own(
        N_("two clocks disagree"),
        advice=N_("Let both machines set their clocks over the network."),
    ),
    "command_failed": Own(
        N_("did not take a setting"),
        advice=N_("Try it again; if it stays so, set it at the device."),
        text=N_("%(setting)s should become %(wanted)s."),
    ),
    "device_clock": Own(
        N_("the device's clock is wrong"),
        advice=N_("Set it by hand."),
    ),
    "device_lost": Own(
        N_("cannot be read"),
        advice=N_("Look at its power, its cable and its adapter."),
    ),
    "disk_full": Own(
        N_("a disk is nearly full"),
        advice=N_("Delete what is not needed, or shorten how long samples are kept."),
    ),
    "feedback_mismatch": Own(
        N_("the contactor does not follow"),
        advice=N_("Look at the contactor before the grid is opened again."),
    ),
    "flash_full": Own(
        N_("the gateway's memory is nearly full"),
        advice=N_("Restart the gateway or call its maker: with a full flash it does not start."),
    ),
    "grid_absent": Own(
        N_("no grid behind the relay"),
        advice=N_(
            "Look at the breakers, the contactor and the street, and save power: only the sun "
            "charges the battery."
        ),
    ),
    "grid_lost": Own(
        N_("no grid"),
        advice=N_("Look at the breakers, and ask a neighbour whether the street is dark."),
    ),
    "grid-missing": Own(
        N_("the grid was asked for and does not come"),
        advice=N_(
            "Look at the relay, the breakers and the street: nothing else protects the battery."
        ),
    ),
    "heat_sink_hot": Own(
        N_("inverter is hot"),
        advice=N_("Reduce the load, clean its fans, and let air to it."),
    ),
    "identity_wrong": Own(
        N_("another device answers"),
        advice=N_("Two plugs are exchanged, or the device was replaced."),
    ),
    "inverter_fault": Own(
        N_("inverter fault: %(texts)s"),
        advice=N_(
            "Loads may be without power: read its display, reduce the load, call your installer."
        ),
    ),
    "inverter_warning": Own(
        N_("inverter warning: %(texts)s"),
        advice=N_("Look at the inverter and at its display."),
    ),
    "lease_expired": Own(
        N_("the relay fell back to the grid"),
        advice=N_("Look whether the controller runs."),
    ),
    "line_noisy": Own(
        N_("the line is noisy"),
        advice=N_("Look at plugs and earth, and keep the cable away from power lines."),
    ),
    "output_off": Own(
        N_("no output, the house is dark"),
        advice=N_(
            "Look at its display; if the battery is empty, let the grid or a generator charge it."
        ),
    ),
    "output_unavailable": Own(
        N_("the relay cannot be switched"),
        advice=N_("Look at its cable and at the service's log."),
    ),
    "panel_day_low": Own(
        N_("made less than its neighbours"),
        advice=N_("Look for shade or dirt; if it stays so, the panel or its inverter is failing."),
    ),
    "panel_missing": Own(
        N_("the panel is missing"),
        advice=N_("It may be dead: look at its plug, and have it replaced."),
    ),
    "panel_weak": Own(
        N_("gives less than its neighbours"),
        advice=N_("Look for shade, dirt, or a fault of the panel or its inverter."),
    ),
    "pv_dark": Own(
        N_("no panel gives power by day"),
        advice=N_("Look at the breaker of the roof; snow does the same."),
    ),
    "relay_without_effect": Own(
        N_("the relay switches without effect"),
        advice=N_("Look at the contactor, its coil and its fuse, and at the breakers."),
    ),
    "sample_old": Own(
        N_("nothing new"),
        advice=N_("Its collector hangs or was killed: look at its log and start it again."),
    ),
    "sample_stale": Own(
        N_("nothing new by day"),
        advice=N_("Look whether the gateway has power and network."),
    ),
    "second_recorder": Own(
        N_("two recorders are at work"),
        advice=N_("Stop one of them."),
    ),
    "service_lost": Own(
        N_("the service does not run"),
        advice=N_("Look at its log and start it again."),
    ),
    "soc_low": Own(
        N_("charge is low"),
        advice=N_("Reduce the load, or let the grid charge, if no sun is to come."),
    ),
    "spool_failed": Own(
        N_("the recorder's store on disk fails"),
        advice=N_("Look at the disk."),
    ),
    "spool_filling": Own(
        N_("the recorder's store fills up"),
        advice=N_("Look why the database is away."),
    ),
    "spool_full": Own(
        N_("the recorder's store is full, samples are lost"),
        advice=N_("Bring the database back."),
    ),
    "string_dark": Own(
        N_("a string of panels gives nothing"),
        advice=N_("Look at its breaker, its fuse and its plugs; do not unplug it under load."),
        text=N_("String %(string)s gives %(watts)s, another gives %(best)s."),
    ),
    "sum_differs": Own(
        N_("inverters and meter disagree"),
        advice=N_("One of them does not report, or the meter's clamp has slipped."),
        text=N_("Inverters %(sum)s, meter %(meter)s."),
    ),
    "switches_spent": Own(
        N_("the relay was switched often"),
        advice=N_("Look which rule switches it."),
    ),
    "test": Own(
        N_("a test of the notifications"),
        advice=N_("If you can read this, alarms reach you."),
        text=N_("%(by)s asked for it. Nothing is wrong."),
    ),
    "writes_spent": Own(
        N_("a setting is written often"),
        advice=N_("Look which rule or which person changes it so often."),
        text=N_("%(setting)s: %(today)s of %(budget)s today."),
    ),
    "yield_low": Own(
        N_("much less sun than usual, or a fault"),
        advice=N_("After a dark day this is nothing; after a bright one look at every string."),
        text=N_("%(day)s: %(kwh)s, usual are %(reference)s."),
    ),
}
"""The same words as those that reach phones."""


def tell(alarm: Alarm, device: str, code: str) -> Told:
    """``alarm`` in the language spoken."""
    own = CODES.get(code)
    if own is None or text.language() == DEFAULT:
        return as_sent(alarm)
    values = {key: written(key, each) for key, each in alarm.data.items()}
    values["device"] = words.title(device)
    title = _fill(own.title, values)
    if not title:
        return as_sent(alarm)
    # an English sentence is no help to who has words of his own for the code
    return Told(
        _capital(title),
        _fill(own.text, values),
        _fill(own.advice, values) or alarm.advice,
    )


def as_sent(alarm: Alarm) -> Told:
    """The words that came with it; they may begin with a device's name."""
    return Told(_capital(alarm.title), _capital(alarm.text), alarm.advice)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def stored(device: str, code: str, title: str, text: str = "") -> Told:
    """An alarm of the history; its values are not kept, so what needs them stays English."""
    return tell(Alarm("", "raised", "info", title, text, ""), device, code)


def name(code: str) -> str:
    """What an alarm is called when nothing is known but its code."""
    own = CODES.get(code)
    if own is None or text.language() == DEFAULT or "%(" in own.title:
        return words.code(code)
    return gettext(own.title)


def written(key: str, value: Value) -> str:
    """One value that an alarm brings, as people here write it."""
    if not isinstance(value, str):
        return words.value(key, value)
    found = WRITTEN.fullmatch(value)
    if found is None:
        return value
    point = found[2] or ""
    return text.number(float(found[1] + point), max(0, len(point) - 1)) + (found[3] or "")


def _fill(message: str, values: Mapping[str, str]) -> str:
    """The message with its values; empty where the alarm lacks one of them."""
    if not message:
        return ""
    said = gettext(message)
    try:
        return said % values if "%(" in said else said
    except KeyError:
        return ""
