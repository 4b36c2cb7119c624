"""Which stored series feed which flow: the library's rules, applied to what the database holds."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sunmesh.house import EnergySection, Flow, FlowFeed, Roles, flows, roles

from .books import SLOTS, Shape

RATING = "ac_output_rating_power_w"
DAYLIGHT_H = 15.0
"""Recovered sun is spread over so many hours around the sun's noon."""


@dataclass(frozen=True, slots=True)
class Known:
    """A device, as the database knows it.

    Attributes:
        names: its quantities; a list's elements under the list's name.
        family: as its collector says.
        through: the gateway that it is read through.
        rating_w: its rated power.
    """

    names: frozenset[str]
    family: str = ""
    through: str = ""
    rating_w: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """What feeds each flow in this house.

    Attributes:
        flows: those that it has.
        ids: number of each stored series by (device, name).
        roles: which devices stand for battery and grid.
        configured: devices that ``site.toml`` names; what others measured once is over when their
            last sample is.
        missing: series that the configuration names and the database does not have (yet).
    """

    flows: Mapping[str, Flow]
    ids: Mapping[tuple[str, str], int]
    roles: Roles = field(default_factory=Roles)
    configured: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()

    def series_of(self, feed: FlowFeed) -> list[tuple[str, str]]:
        """The feed's series that are stored."""
        names = (feed.lifetime, feed.day, *feed.power)
        return [(feed.device, name) for name in names if (feed.device, name) in self.ids]

    def all_series(self) -> list[int]:
        """Number of each series that any flow is fed by."""
        return sorted(
            {
                self.ids[pair]
                for flow in self.flows.values()
                for feed in flow.feeds
                for pair in self.series_of(feed)
            }
        )


def build(
    series: Iterable[tuple[int, str, str]],
    infos: Iterable[tuple[str, str | None]],
    section: EnergySection,
    devices: Mapping[str, Mapping[str, Any]],
) -> Model:
    """The house as configuration and database have it.

    Args:
        series: (id, device, name) of every stored series.
        infos: (device, JSON of its info) of every device.
        section: ``[energy]``.
        devices: ``[devices.NAME]`` of the configuration.
    """
    ids: dict[tuple[str, str], int] = {}
    names: dict[str, set[str]] = {}
    for number, device, name in series:
        ids[device, name] = number
        names.setdefault(device, set()).add(name.partition("/")[0])
    known = {device: _info(text) for device, text in infos}
    families = {device: str(table.get("family", "")) for device, table in devices.items()}
    families |= {d: info["family"] for d, info in known.items() if info.get("family")}
    groups = {device for device, family in families.items() if family == "group"}
    ratings = {
        device: float(rating)
        for device, info in known.items()
        if isinstance(rating := info.get("nameplate", {}).get(RATING), int | float) and rating > 0
    }
    through = {
        device: str(info["through"]) for device, info in known.items() if info.get("through")
    }
    for device in names:
        if device not in devices and device not in through:
            owners = [owner for owner in devices if device.startswith(f"{owner}-")]
            if owners:
                through[device] = max(owners, key=len)
    found = flows(names, section, groups, ratings, through)
    missing = [
        f"{feed.device}.{name}"
        for flow in found.values()
        for feed in flow.feeds
        for name in (feed.lifetime, feed.day, *feed.power)
        if name and (feed.device, name) not in ids
    ]
    return Model(
        found,
        ids,
        roles(names, section.left_out, groups, through),
        frozenset(devices),
        tuple(dict.fromkeys(missing)),
    )


def _info(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def describe(model: Model) -> list[str]:
    """What feeds each flow, and why, in lines for people."""
    lines = []
    for flow, how in model.flows.items():
        lines.append(f"{flow}: {how.why}")
        if how.balance:
            continue
        for feed in how.feeds:
            for what, name in (("lifetime counter", feed.lifetime), ("day counter", feed.day)):
                if name:
                    lines.append(f"    {what:<17} {feed.device}.{name}{_there(model, feed, name)}")
            if feed.power:
                joint = " × " if feed.product else " + "
                power = joint.join(
                    f"{feed.device}.{name}{_there(model, feed, name)}" for name in feed.power
                )
                side = " where it is below 0" if feed.sign < 0 else ""
                lines.append(f"    {'power':<17} {power}{side}")
        lines.append(f"    at most {how.max_power_w:.0f} W")
    return lines or ["nothing feeds the books yet: no device measures power or energy"]


def _there(model: Model, feed: FlowFeed, name: str) -> str:
    return "" if (feed.device, name) in model.ids else " (not stored yet)"


def shape_of(flow: str, longitude: float | None, offset_h: float) -> Shape | None:
    """When in a UTC day energy of which only the sum is known probably flowed.

    Sun shines around the sun's noon; everything else is spread evenly. It depends on nothing but
    the place, so that booking twice comes to the same.

    Args:
        flow: of the energy.
        longitude: of the site, east is positive [deg].
        offset_h: of the site's winter time from UTC, where the longitude is not known [h].
    """
    if flow not in ("pv", "curtailed"):
        return None
    noon_h = 12 - (offset_h if longitude is None else longitude / 15)
    weights = []
    for slot in range(SLOTS):
        away_h = (slot * 24 / SLOTS - noon_h + 12) % 24 - 12
        inside = abs(away_h) < DAYLIGHT_H / 2
        weights.append(math.cos(math.pi * away_h / DAYLIGHT_H) if inside else 0.0)
    return weights
