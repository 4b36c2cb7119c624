"""The calendar of faults: what goes wrong in the house, when, and for how long.

A fault starts ``start_s`` after the calendar's origin (the moment the live house starts; history
ends there), so negative starts lie in the history. The world publishes the names of the running
ones under ``faults``: ``kind``, or ``kind:device`` for those that concern one device. Kinds of
:data:`ON_THE_LINE` change nothing in the world; the named device's emulator acts on them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

IN_THE_WORLD = {
    "grid_outage": "the grid is gone",
    "cloud_burst": "a black cloud before the sun",
    "pv_string_lost": "a string gives nothing; device: pv1 or pv2",
    "cell_weak": "a cell's connection has four times its resistance; cell: 1 = first",
    "overload": "somebody welds: the house wants more than the inverter is rated for",
}
ON_THE_LINE = {
    "silent": "the device's emulator does not answer",
    "noisy_line": "the device's emulator damages some of its frames",
}
KINDS = IN_THE_WORLD | ON_THE_LINE
STRINGS = ("pv1", "pv2")
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
    """

    kind: str
    start_s: float
    duration_s: float
    device: str = ""
    every_s: float = 0.0
    cell: int = 7

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
        if self.kind in ON_THE_LINE and not self.device:
            raise ValueError(f"device must name the device for {self.kind}")
        if self.cell < 1:
            raise ValueError(f"cell must be 1 or above, got {self.cell}")

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
    Fault("grid_outage", -19 * DAY - 3 * HOUR, 2.6 * HOUR),
    Fault("pv_string_lost", -12 * DAY, 1.2 * DAY, "pv2"),
    Fault("silent", -8 * DAY - 5 * HOUR, 50 * MINUTE, "inverter"),
    Fault("overload", -5 * DAY - 2 * HOUR, 4 * MINUTE),
    Fault("grid_outage", -2 * DAY - 7 * HOUR, 35 * MINUTE),
    # Before us: nothing in the first six minutes, then something now and then.
    Fault("cloud_burst", 6 * MINUTE, 2 * MINUTE, every_s=97 * MINUTE),
    Fault("noisy_line", 11 * MINUTE, 3 * MINUTE, "inverter", every_s=3 * HOUR),
    Fault("grid_outage", 20 * MINUTE, 4 * MINUTE, every_s=5 * HOUR),
    Fault("silent", 32 * MINUTE, 1.5 * MINUTE, "inverter", every_s=4 * HOUR),
    Fault("overload", 45 * MINUTE, 0.7 * MINUTE, every_s=7 * HOUR),
    Fault("pv_string_lost", 60 * MINUTE, 20 * MINUTE, "pv1", every_s=26 * HOUR),
    Fault("cell_weak", 90 * MINUTE, 60 * MINUTE, every_s=31 * HOUR),
)
"""The demo's calendar: it does not frighten a newcomer in the first minutes."""
