"""``[simulator]`` of ``site.toml``: how the house is built and what goes wrong in it."""

from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from sunmesh import config

from .faults import DEFAULT, Fault
from .pv import Array

LATITUDE, LONGITUDE = 43.46, 11.88
"""Where the house stands when the site does not say: Arezzo, Tuscany."""
TIME_ZONE = "Europe/Rome"
MODULES = (10, 8)
"""Modules of the two strings: 4.1 and 3.3 kW."""


class SimulatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[simulator]``.

    Attributes:
        seed: another seed, another weather and another family.
        state_file: where the house is kept between runs; relative to the configuration's folder.
        pv1_modules: modules of 410 W in the first string, facing south at 30°.
        pv2_modules: modules of 410 W in the second string, facing west at 20°.
        battery_capacity_ah: of the pack's 16 cells [Ah].
        weak_cell: the worn one, 1 = first, 0 = none.
        outages_a_day: chance of a grid outage on a day.
        load_factor: makes the family thrifty or wasteful.
        inverter: name of the device whose settings the house follows.
        relay_file: what the grid's relay writes (``grid-relay`` with ``by = "file"``): while it
            holds ``1`` the inverter is cut off the grid; empty = no relay. Seen from the
            configuration's folder.
        default_faults: whether the demo's calendar runs.
        faults: entries of the owner's own calendar, ``[[simulator.faults]]``.
    """

    seed: int = 7
    state_file: str = "simulator-state.json"
    pv1_modules: int = MODULES[0]
    pv2_modules: int = MODULES[1]
    battery_capacity_ah: float = 280.0
    weak_cell: int = 7
    outages_a_day: float = 0.06
    load_factor: float = 1.0
    inverter: str = "inverter"
    relay_file: str = ""
    default_faults: bool = True
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        for name in ("pv1_modules", "pv2_modules"):
            if not 0 <= getattr(self, name) <= 20:
                raise ValueError(f"{name} must be 0 to 20, got {getattr(self, name)}")
        if not 10.0 <= self.battery_capacity_ah <= 2000.0:
            raise ValueError(
                f"battery_capacity_ah must be 10 to 2000, got {self.battery_capacity_ah}"
            )
        if not 0 <= self.weak_cell <= 16:
            raise ValueError(f"weak_cell must be 0 to 16, got {self.weak_cell}")
        if not 0.0 <= self.outages_a_day <= 1.0:
            raise ValueError(f"outages_a_day must be 0 to 1, got {self.outages_a_day}")
        if not 0.0 <= self.load_factor <= 10.0:
            raise ValueError(f"load_factor must be 0 to 10, got {self.load_factor}")

    @property
    def calendar(self) -> tuple[Fault, ...]:
        """Every fault that may happen."""
        return (DEFAULT if self.default_faults else ()) + self.faults


class House(msgspec.Struct, frozen=True):
    """Everything that a :class:`~simulator.world.World` is built from, place included.

    Attributes:
        seed: of weather, load and grid.
        latitude: north is positive [deg].
        longitude: east is positive [deg].
        time_zone: by which people live.
        strings: the two PV strings.
        battery_capacity_ah: of each cell [Ah].
        weak_cell: the worn one, 1 = first, 0 = none.
        outages_a_day: chance of a grid outage on a day.
        load_factor: multiplies the load curve.
        cells: in series.
        grid_v: nominal voltage [V].
        grid_hz: nominal frequency [Hz].
    """

    seed: int = 7
    latitude: float = LATITUDE
    longitude: float = LONGITUDE
    time_zone: str = TIME_ZONE
    strings: tuple[Array, Array] = (
        Array(MODULES[0], 180.0, 30.0),
        Array(MODULES[1], 265.0, 20.0),
    )
    battery_capacity_ah: float = 280.0
    weak_cell: int = 7
    outages_a_day: float = 0.06
    load_factor: float = 1.0
    cells: int = 16
    grid_v: float = 230.0
    grid_hz: float = 50.0

    @property
    def zone(self) -> ZoneInfo:
        """The time zone itself."""
        return ZoneInfo(self.time_zone)


def house(site: config.Site, own: SimulatorConfig) -> House:
    """The house that the configuration describes."""
    south = 180.0 if (site.site.latitude or LATITUDE) >= 0.0 else 0.0
    west = 265.0 if south else 275.0
    return House(
        seed=own.seed,
        latitude=LATITUDE if site.site.latitude is None else site.site.latitude,
        longitude=LONGITUDE if site.site.longitude is None else site.site.longitude,
        time_zone=site.site.time_zone,
        strings=(Array(own.pv1_modules, south, 30.0), Array(own.pv2_modules, west, 20.0)),
        battery_capacity_ah=own.battery_capacity_ah,
        weak_cell=own.weak_cell,
        outages_a_day=own.outages_a_day,
        load_factor=own.load_factor,
    )


def state_path(site: config.Site, own: SimulatorConfig) -> Path:
    """Where the state file lies."""
    return site.path.parent / own.state_file


def relay_path(site: config.Site, own: SimulatorConfig) -> Path | None:
    """What the relay writes; None without a relay."""
    return site.path.parent / own.relay_file if own.relay_file else None
