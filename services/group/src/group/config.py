"""The part of ``site.toml`` that is a group's: ``[devices.NAME]`` with ``family = "group"``."""

import msgspec
from sunmesh.config import Site
from sunmesh.errors import ConfigError


class GroupDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group.

    Attributes:
        members: names of the devices that it consists of.
        capacity_ah: capacity of each pack, for the weighted state of charge; equal without it [Ah].
        interval_s: how often the group speaks [s].
        max_age_s: a member whose sample is older is missing [s].
    """

    members: tuple[str, ...]
    capacity_ah: dict[str, float] = {}
    interval_s: float = 5.0
    max_age_s: float = 30.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if len(self.members) < 2 or len(set(self.members)) < len(self.members):
            raise ValueError("members must name two different devices or more")
        if self.interval_s < 1:
            raise ValueError(f"interval_s must be 1 or more, got {self.interval_s:g}")
        if self.max_age_s < self.interval_s:
            raise ValueError(f"max_age_s must be interval_s or more, got {self.max_age_s:g}")
        for name, capacity in self.capacity_ah.items():
            if name not in self.members or capacity <= 0:
                raise ValueError(f"capacity_ah must be above 0 and of a member, got {name}")
        if self.capacity_ah and len(self.capacity_ah) < len(self.members):
            raise ValueError("capacity_ah must name every member or none")


def groups_of(site: Site) -> dict[str, GroupDevice]:
    """The site's groups.

    Raises:
        ConfigError: a setting is wrong, or a member is no device of the site. A device behind a
            gateway (``roof-1234`` behind ``roof``) is taken on trust.
    """
    groups = site.devices_of("group", GroupDevice)
    for name, group in groups.items():
        for member in group.members:
            gateway = any(member.startswith(f"{device}-") for device in site.devices)
            if member not in site.devices and not gateway:
                raise ConfigError(f"{site.path}: devices.{name}.members: no device is {member}")
            if member in groups:
                raise ConfigError(f"{site.path}: devices.{name}.members: {member} is a group")
    return groups
