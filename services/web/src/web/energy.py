"""A day's energies and what is learned from them. Pure."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sunmesh.house import Roles

from .stack import Bucket, Curve, Point
from .text import N_, _, gettext, percent

MS_PER_HOUR = 3_600_000
How = Literal["counter", "summed", "estimated", "booked"]

COUNTERS = {
    "pv": "pv_energy_total_kwh",
    "load": "load_energy_total_kwh",
    "grid_in": "grid_import_energy_kwh",
    "grid_out": "grid_export_energy_kwh",
    "battery_in": "battery_charge_energy_total_kwh",
    "battery_out": "battery_discharge_energy_total_kwh",
}
"""Flow of the day → the lifetime counter that knows it best."""

FLOWS = {
    "pv": "pv",
    "load": "load",
    "grid_in": "grid_import",
    "grid_out": "grid_export",
    "battery_in": "battery_charge",
    "battery_out": "battery_discharge",
}
"""Flow of the day → its name in the energy books."""

POINTS: dict[str, tuple[str, float]] = {
    "pv": ("pv", 1),
    "load": ("load", 1),
    "grid_in": ("grid", 1),
    "grid_out": ("grid", -1),
    "battery_in": ("battery", -1),
    "battery_out": ("battery", 1),
}
"""Flow of the day → where it is in the points, and which side of zero it takes."""

NOTES: dict[str, str] = {
    "counter": N_("by the device's own counter"),
    "summed": N_("summed from power"),
    "estimated": N_("estimated from the balance"),
}
FLAGS = {
    "measured": NOTES["counter"],
    "integrated": NOTES["summed"],
    "recovered": N_("recovered after a gap"),
    "estimated": N_("estimated"),
    "edited": N_("corrected by hand"),
    "imported": N_("imported"),
}
"""How far the books trust a part of an energy, in words."""
WORTH_SAYING = 0.005

FASTEST_KW = 50.0
"""A lifetime counter that rises faster than that belongs to another device, or was set."""
FORGIVEN_KWH = 0.2
LEARN_PERCENT = 15.0
"""So much must have gone out of the battery before its size is guessed from it."""


@dataclass(frozen=True, slots=True)
class Books:
    """Energies of a day [kWh]; None = not known. ``how`` says where each comes from.

    ``flags`` holds what the energy books say of each that is from them [Wh], ``until`` how far they
    are [ms]; from there on power is summed.
    """

    pv: float | None = None
    load: float | None = None
    grid_in: float | None = None
    grid_out: float | None = None
    battery_in: float | None = None
    battery_out: float | None = None
    how: Mapping[str, How] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    until: int | None = None

    @property
    def autarky(self) -> float | None:
        """Share of the house's energy that did not come from the grid, 0 to 1."""
        if self.load is None or self.load <= 0 or self.grid_in is None:
            return None
        return min(1.0, max(0.0, 1 - self.grid_in / self.load))

    @property
    def own_share(self) -> float | None:
        """Share of the sun that stayed in the house, 0 to 1."""
        if self.pv is None or self.pv <= 0.005 or self.grid_out is None:
            return None
        return min(1.0, max(0.0, 1 - self.grid_out / self.pv))

    def note(self, flow: str) -> str:
        """Where an energy comes from, in words; empty when it is not known."""
        if self.how.get(flow) != "booked":
            note = NOTES.get(self.how.get(flow, ""), "")
            return gettext(note) if note else ""
        parts = self.flags.get(flow, {})
        whole = sum(parts.values())
        said = sorted(
            ((wh / whole, flag) for flag, wh in parts.items() if wh >= WORTH_SAYING * whole > 0),
            reverse=True,
        ) or [(1.0, "measured")]
        if len(said) == 1:
            only = FLAGS[said[0][1]]
            return gettext(only)
        if {flag for _share, flag in said} == {"measured", "integrated"}:
            return _("by counter and from power")
        odd = [
            (share, FLAGS[flag]) for share, flag in said if flag not in ("measured", "integrated")
        ]
        return ", ".join(f"{percent(share)} {gettext(name)}" for share, name in odd)

    def is_estimate(self, flow: str) -> bool:
        """Whether most of it is not measured."""
        if self.how.get(flow) != "booked":
            return self.how.get(flow) == "estimated"
        parts = self.flags.get(flow, {})
        return parts.get("estimated", 0.0) > sum(parts.values()) / 2


@dataclass(frozen=True, slots=True)
class Booked:
    """What the energy books say of a day.

    Attributes:
        wh: energy [Wh].
        flags: the same by how far it can be trusted.
        until: first moment that is not booked yet [ms].
    """

    wh: float
    flags: Mapping[str, float]
    until: int


def with_booked(made: Books, booked: Mapping[str, Booked], day: Sequence[Point]) -> Books:
    """``made``, but with what the energy books say where they say something.

    Args:
        made: from counters and power.
        booked: by the books' own names.
        day: points of the house; what is not booked yet is summed from them.
    """
    values: dict[str, Any] = {}
    how = dict(made.how)
    flags: dict[str, Mapping[str, float]] = {}
    for flow, name in FLOWS.items():
        values[flow] = getattr(made, flow)
        found = booked.get(name)
        if found is None:
            continue
        part, sign = POINTS[flow]
        rest = sum(
            max(0.0, sign * watts) * point.covered_s / 3600
            for point in day
            if point.ms >= found.until and (watts := getattr(point, part)) is not None
        )
        values[flow] = (found.wh + rest) / 1000
        how[flow] = "booked"
        flags[flow] = found.flags
    until = max((found.until for found in booked.values()), default=None)
    return Books(**values, how=how, flags=flags, until=until)


def counted(buckets: Sequence[Bucket], before: float | None) -> float | None:
    """What a lifetime counter rose by.

    Args:
        buckets: of the day; only their means are used.
        before: its reading just before the day.

    Returns:
        None where it never moved in steps finer than 1 kWh: then power sums know better. A step
        that was set back, or ahead by more than a house can do, adds nothing.
    """
    readings = [(bucket.first, bucket.mean) for bucket in buckets]
    if before is not None and buckets:
        readings.insert(0, (buckets[0].first - MS_PER_HOUR, before))
    if len(readings) < 2 or all(float(reading).is_integer() for _, reading in readings):
        return None
    total = 0.0
    for (begun, reading), (ended, after) in itertools.pairwise(readings):
        most = FASTEST_KW * (ended - begun) / MS_PER_HOUR + FORGIVEN_KWH
        if 0 < after - reading <= most:
            total += after - reading
    return total


def books(
    roles: Roles,
    curves: Mapping[tuple[str, str], Curve],
    day: Sequence[Point],
    counters: Mapping[tuple[str, str], float | None],
) -> Books:
    """The energies of a day: from lifetime counters where they exist, else from power.

    Power is summed by trapezoids. They never reach over a gap of more than three sample periods:
    the query that made ``curves`` left those out.

    Args:
        roles: which series make up the house.
        curves: of the day, by (device, name).
        day: the same as points of the whole house, for what is derived.
        counters: rise of each lifetime counter by (device, name) [kWh].
    """
    values: dict[str, Any] = {}
    how: dict[str, How] = {}

    def total(pairs: Iterable[tuple[str, str]], *, negative: bool = False) -> float | None:
        found = [curves[pair] for pair in pairs if pair in curves]
        if not found:
            return None
        return (
            sum(b.negative if negative else b.positive for curve in found for b in curve.buckets)
            / MS_PER_HOUR
            / 1000
        )

    def derived(part: str, sign: float) -> float | None:
        known = [
            max(0.0, sign * watts) * point.covered_s
            for point in day
            if (watts := getattr(point, part)) is not None
        ]
        return sum(known) / 3_600_000 if known else None

    flows: tuple[tuple[str, Sequence[tuple[str, str]], str, float], ...] = (
        ("pv", roles.pv, "pv", 1),
        ("load", roles.load, "load", 1),
        ("grid_in", roles.grid, "grid", 1),
        ("grid_out", roles.grid, "grid", -1),
        ("battery_in", roles.battery, "battery", -1),
        ("battery_out", roles.battery, "battery", 1),
    )
    for flow, pairs, part, sign in flows:
        owners = {device for device, _ in pairs}
        rises = [counters.get((device, COUNTERS[flow])) for device in owners]
        if owners and all(rise is not None for rise in rises):
            values[flow] = sum(rise for rise in rises if rise is not None)
            how[flow] = "counter"
        elif pairs:
            values[flow] = total(pairs, negative=sign < 0)
            how[flow] = "summed"
        elif flow != "grid_out":
            values[flow] = derived(part, sign)
            how[flow] = "estimated"
        if values.get(flow) is None:
            how.pop(flow, None)
    return Books(**values, how=how)


def learn_capacity(days: Iterable[Sequence[Point]]) -> float | None:
    """The battery's usable energy [kWh], from what it gave while its state of charge fell.

    Args:
        days: points of the last days; gaps end a stretch.

    Returns:
        None before it has given at least 15 % at once and together.
    """
    given_wh, fallen = 0.0, 0.0
    for day in days:
        start: float | None = None
        run_wh, level = 0.0, 0.0
        for point in (*day, Point(0)):
            if point.battery is not None and point.soc is not None and point.battery > 20:
                if start is None:
                    start, run_wh = point.soc, 0.0
                else:
                    run_wh += point.battery * point.covered_s / 3600
                level = point.soc
                continue
            if start is not None and start - level >= 5:
                given_wh += run_wh
                fallen += start - level
            start = None
    if fallen < LEARN_PERCENT or given_wh <= 0:
        return None
    return given_wh / fallen * 100 / 1000
