"""The calendar of faults: what goes wrong in the house, when, and for how long.

A fault starts ``start_s`` after the calendar's origin (the moment the live house starts; history
ends there), so negative starts lie in the history. The world publishes the names of the running
ones under ``faults``: ``kind``, or ``kind:device`` for those that concern one device. Kinds of
:data:`ON_THE_LINE` and :data:`IN_THE_DEVICE` change nothing in the world; the named device's
emulator acts on them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

IN_THE_WORLD = {
    "grid_outage": "the grid is gone",
    "cloud_burst": "a black cloud before the sun",
    "storm": "days without sun, colder by six degrees",
    "pv_string_lost": "a string gives nothing; device: pv1 or pv2",
    "cell_weak": "a cell's connection has four times its resistance; cell: 1 = first",
    "overload": "somebody welds: the house wants more than the inverter is rated for",
    "weak_panel": "a panel of the annex gives little; device: its gateway; panel: 1 = first",
    "clock_drift": "the charge controller's clock is ahead; device: the controller",
    "counter_reset": "the meter begins to count at zero, as a new one does; device: the meter",
}
ON_THE_LINE = {
    "silent": "the device's emulator does not answer",
    "noisy_line": "the device's emulator damages some of its frames",
}
IN_THE_DEVICE = {
    "asleep": "the battery management sleeps",
    "swapped": "two plugs are exchanged: a device of another serial number answers",
}
KINDS = IN_THE_WORLD | ON_THE_LINE | IN_THE_DEVICE
STRINGS = ("pv1", "pv2")
NAMELESS = ("grid_outage", "cloud_burst", "storm", "cell_weak", "overload")
"""Kinds that concern the house as a whole."""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the calendar.

    Attributes:
        kind: one of :data:`KINDS`.
        start_s: after the calendar's origin; may be negative [s].
        duration_s: how long it lasts [s].
        device: which device or string, where the kind needs one.
        every_s: it comes again after that long; 0 = once [s].
        cell: for ``cell_weak``: which cell, 1 = first.
        panel: for ``weak_panel``: which panel, 1 = first.
    """

    kind: str
    start_s: float
    duration_s: float
    device: str = ""
    every_s: float = 0.0
    cell: int = 7
    panel: int = 7

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.duration_s <= 0.0:
            raise ValueError(f"duration_s must be above 0, got {self.duration_s}")
        if self.every_s and self.every_s < self.duration_s:
            raise ValueError("every_s must be 0 or longer than duration_s")
        if self.kind == "pv_string_lost" and self.device not in STRINGS:
            raise ValueError(f"device must be one of {', '.join(STRINGS)} for pv_string_lost")
        if self.kind not in NAMELESS and not self.device:
            raise ValueError(f"device must name the device for {self.kind}")
        for name in ("cell", "panel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or above, got {getattr(self, name)}")

    @property
    def name(self) -> str:
        """As the world shows it."""
        return f"{self.kind}:{self.device}" if self.device else self.kind

    def is_active(self, since_origin_s: float) -> bool:
        """Whether it runs that long after the calendar's origin."""
        after = since_origin_s - self.start_s
        if after < 0.0:
            return False
        if self.every_s:
            after %= self.every_s
        return after < self.duration_s


@dataclass(frozen=True, slots=True)
class Calendar:
    """Faults and the moment their starts count from [s since 1970]."""

    origin: float = 0.0
    faults: tuple[Fault, ...] = ()

    def active(self, t: float) -> tuple[Fault, ...]:
        """The faults that run at ``t``."""
        since = t - self.origin
        return tuple(fault for fault in self.faults if fault.is_active(since))


def names(faults: Iterable[Fault]) -> list[str]:
    """What the world publishes for them."""
    return [fault.name for fault in faults]


DEFAULT = (
    # Behind us: what the history shows.
    Fault("counter_reset", -23 * DAY - 4 * HOUR, HOUR, "meter"),
    Fault("weak_panel", -21 * DAY, 4 * DAY, "roof"),
    Fault("grid_outage", -19 * DAY - 3 * HOUR, 2.6 * HOUR),
    Fault("asleep", -15 * DAY - 9 * HOUR, 80 * MINUTE, "battery"),
    Fault("pv_string_lost", -12 * DAY, 1.2 * DAY, "pv2"),
    Fault("silent", -8 * DAY - 5 * HOUR, 50 * MINUTE, "inverter"),
    Fault("swapped", -6 * DAY - 3 * HOUR, 25 * MINUTE, "inverter"),
    Fault("overload", -5 * DAY - 2 * HOUR, 4 * MINUTE),
    Fault("clock_drift", -4 * DAY, 1.5 * DAY, "shed"),
    Fault("grid_outage", -2 * DAY - 7 * HOUR, 35 * MINUTE),
    # Before us: nothing in the first six minutes, then something now and then.
    Fault("cloud_burst", 6 * MINUTE, 2 * MINUTE, every_s=97 * MINUTE),
    Fault("noisy_line", 11 * MINUTE, 3 * MINUTE, "inverter", every_s=3 * HOUR),
    Fault("grid_outage", 20 * MINUTE, 4 * MINUTE, every_s=5 * HOUR),
    Fault("silent", 32 * MINUTE, 4 * MINUTE, "inverter", every_s=4 * HOUR),
    Fault("asleep", 39 * MINUTE, 2 * MINUTE, "battery", every_s=6 * HOUR),
    Fault("overload", 45 * MINUTE, 0.7 * MINUTE, every_s=7 * HOUR),
    Fault("noisy_line", 49 * MINUTE, 4 * MINUTE, "attic", every_s=5 * HOUR),
    Fault("swapped", 54 * MINUTE, 2 * MINUTE, "inverter", every_s=9 * HOUR),
    Fault("pv_string_lost", 60 * MINUTE, 20 * MINUTE, "pv1", every_s=26 * HOUR),
    Fault("clock_drift", 80 * MINUTE, 30 * MINUTE, "shed", every_s=17 * HOUR),
    Fault("cell_weak", 90 * MINUTE, 60 * MINUTE, every_s=31 * HOUR),
    Fault("weak_panel", 3 * HOUR, 20 * HOUR, "roof", every_s=47 * HOUR),
    Fault("counter_reset", 4 * HOUR, MINUTE, "meter", every_s=100 * HOUR),
)
"""The demo's calendar: it does not frighten a newcomer in the first minutes."""
