"""What pages about devices share: how a device looks, and how old its values are, in words."""

from datetime import tzinfo
from typing import Literal

from . import words
from .house import Device, Freshness
from .text import _, clock, day

Look = Freshness | Literal["asleep"]

BROKEN = frozenset({"offline", "identity_mismatch", "refusing"})


def look(device: Device, now_ms: int) -> Look:
    """``fresh``, ``late``, ``lost``; one that sleeps is ``asleep``, not lost."""
    freshness = device.freshness(now_ms)
    if device.state == "sleeping" and freshness != "fresh":
        return "asleep"
    return freshness


def last_read(device: Device) -> int | None:
    """When a device was last read: the last sample of one that is offline only says so [ms]."""
    if device.ms is None:
        return device.since if device.state in BROKEN else None
    if device.state in BROKEN and device.since is not None:
        return min(device.ms, device.since)
    return device.ms


def moment(ms: int, now_ms: int, zone: tzinfo) -> str:
    """A time of today as the clock shows it, else with its date."""
    then, now = words.local(ms, zone), words.local(now_ms, zone)
    if then.date() == now.date():
        return clock(then)
    return _("%(date)s, %(time)s", date=day(then.date(), "MMMd"), time=clock(then))


def seen(device: Device, now_ms: int, zone: tzinfo) -> str:
    """How old what it says is: ``3 s ago``, ``last seen 14:02``, ``sleeps``, ``never seen``."""
    state = look(device, now_ms)
    if state == "asleep":
        return _("sleeps")
    if device.ms is None:
        return _("never seen")
    if state == "lost":
        return _("last seen %(when)s", when=moment(last_read(device) or device.ms, now_ms, zone))
    return _("%(age)s ago", age=words.age((now_ms - device.ms) / 1000))
