"""Which quantities of which devices make up the house. Pure; shared by portal and bookkeeper.

Signs as in the vocabulary: what feeds the house is positive, so that
pv + grid + battery = load + losses. ``[energy]`` of ``site.toml`` says what differs in a house.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from .vocabulary import VOCABULARY

PV_INPUTS = ("pv_power_w", "pv2_power_w", "pv3_power_w")
CHARGER_POWER = "charge_power_w"
"""What a charge controller puts into the battery: its panels, for want of a better figure."""
BATTERY_CURRENTS = ("battery_charge_current_a", "battery_discharge_current_a")

LIFETIME = {
    "pv": "pv_energy_total_kwh",
    "load": "load_energy_total_kwh",
    "grid_import": "grid_import_energy_kwh",
    "grid_export": "grid_export_energy_kwh",
    "battery_charge": "battery_charge_energy_total_kwh",
    "battery_discharge": "battery_discharge_energy_total_kwh",
}
"""Flow → the lifetime counter that knows it best."""

DAILY = {"pv": "pv_energy_day_kwh", "load": "load_energy_day_kwh"}
"""Flow → a counter of the device's own day."""

FLOWS = (
    *("pv", "load", "grid_import", "grid_export"),
    *("battery_charge", "battery_discharge", "generator"),
)
OUTWARD = frozenset({"grid_export", "battery_charge"})
"""Flows that a power with a sign feeds where it is negative."""
FASTEST_W = 50_000.0
"""A flow of a house is not larger, where nothing says how large it is."""
OVER_RATING = 3.0
"""Panels and starting motors can be that much over an inverter's rating."""


# --- What the configuration says ------------------------------------------------------------------


class FlowSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[energy.pv]`` and so on: what a flow is fed by instead of what would be picked.

    Attributes:
        lifetime: lifetime counters, as ``"device.quantity"``.
        day: counters that begin at 0 each day by the device's own clock.
        power: powers; one with a sign feeds import and discharge where it is above zero, export
            and charge where it is below. Several of one device are added.
        balance: nobody measures it; it is what the other flows leave over.
        max_power_w: it cannot be larger [W]: a counter that rises faster is not believed.
        resolution_kwh: smallest step of its counters; found out by itself without [kWh].
        wraps_at_kwh: where its counters start again at 0; the usual limits are known [kWh].
    """

    lifetime: tuple[str, ...] = ()
    day: tuple[str, ...] = ()
    power: tuple[str, ...] = ()
    balance: bool = False
    max_power_w: float | None = None
    resolution_kwh: float | None = None
    wraps_at_kwh: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        for key in ("lifetime", "day", "power"):
            for each in getattr(self, key):
                device, dot, name = each.partition(".")
                if not (device and dot and name):
                    raise ValueError(f'{key} must name "device.quantity", got {each!r}')
                if name in VOCABULARY and (VOCABULARY[name].unit == "W") != (key == "power"):
                    unit = VOCABULARY[name].unit or "no unit"
                    raise ValueError(f"{key} must not name {name}, which is in {unit}")
        if self.balance and (self.lifetime or self.day or self.power):
            raise ValueError("balance must stand alone: the flow is measured or it is not")
        if self.max_power_w is not None and self.max_power_w <= 0:
            raise ValueError(f"max_power_w must be above 0, got {self.max_power_w:g}")
        if self.resolution_kwh is not None and not 0 < self.resolution_kwh <= 100:
            raise ValueError(f"resolution_kwh must be above 0, got {self.resolution_kwh:g}")
        if any(limit <= 0 for limit in self.wraps_at_kwh):
            raise ValueError("wraps_at_kwh must be above 0")


class EnergySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[energy]``: the house as the energy books see it.

    Attributes:
        left_out: devices that measure what others already count; shown, but not summed.
        battery: device whose state of charge and voltage tell of the battery; picked without.
        battery_kwh: usable energy of the battery, for equivalent cycles [kWh].
        pv: what feeds this flow, if not what would be picked; likewise the others.
    """

    left_out: tuple[str, ...] = ()
    battery: str | None = None
    battery_kwh: float | None = None
    pv: FlowSection | None = None
    load: FlowSection | None = None
    grid_import: FlowSection | None = None
    grid_export: FlowSection | None = None
    battery_charge: FlowSection | None = None
    battery_discharge: FlowSection | None = None
    generator: FlowSection | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.battery_kwh is not None and not 0 < self.battery_kwh <= 10_000:
            raise ValueError(f"battery_kwh must be above 0, got {self.battery_kwh:g}")


# --- Roles ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Roles:
    """Which quantities make up the house: pairs of (device, name), each summed.

    Attributes:
        pv: panels; one entry for each input that can be told apart.
        load: what the house draws.
        battery: power out of the battery; empty where only currents are known.
        battery_parts: (device) of inverters that give voltage and two currents instead.
        soc: the state of charge to believe.
        battery_voltage: the voltage to show.
        grid: measured grid power.
        grid_voltage: where the presence of the grid is seen.
        mode: the inverters' mode.
    """

    pv: tuple[tuple[str, str], ...] = ()
    load: tuple[tuple[str, str], ...] = ()
    battery: tuple[tuple[str, str], ...] = ()
    battery_parts: tuple[str, ...] = ()
    soc: tuple[str, str] | None = None
    battery_voltage: tuple[str, str] | None = None
    grid: tuple[tuple[str, str], ...] = ()
    grid_voltage: tuple[str, str] | None = None
    mode: tuple[tuple[str, str], ...] = ()


def roles(
    names: Mapping[str, Collection[str]],
    left_out: Collection[str] = (),
    groups: Collection[str] = (),
    through: Mapping[str, str] | None = None,
) -> Roles:
    """Pick the quantities that describe the house; nothing is counted twice.

    A gateway that knows both sun and house stands for its microinverters; a battery's own
    management is believed before an inverter; a meter before a balance. What several devices
    measure of one kind is added up. A group's members are added, not the group; but its state of
    charge is believed before theirs. A charge controller's panels count where no others do.

    Args:
        names: the quantities of each device.
        left_out: devices that measure what others already count.
        groups: devices that stand for several others.
        through: gateway of each device that is read through one; its panels count there.
    """
    through = through or {}
    everything = {device: has for device, has in names.items() if device not in left_out}
    names = {device: has for device, has in everything.items() if device not in groups}

    def first(name: str, *, prefer: str, battery: bool = False) -> tuple[str, str] | None:
        having = [device for device, has in names.items() if name in has]
        having.sort(key=lambda device: prefer not in names[device])
        if battery:
            having[:0] = [d for d, has in everything.items() if d in groups and name in has]
        return (having[0], name) if having else None

    gateways = [d for d, has in names.items() if "pv_power_w" in has and "load_power_w" in has]
    inverters = [d for d, has in names.items() if "ac_output_power_w" in has]
    pv_devices = [
        device
        for device, has in names.items()
        if any(name in has for name in PV_INPUTS)
        and (not gateways or device in gateways or device in inverters)
        and "pv_power_w" not in names.get(through.get(device, ""), ())
    ]
    pv = [(d, name) for d in pv_devices for name in PV_INPUTS if name in names[d]]
    chargers = [(d, CHARGER_POWER) for d, has in names.items() if CHARGER_POWER in has]
    loads = [
        (device, "load_power_w" if "load_power_w" in has else "ac_output_power_w")
        for device, has in names.items()
        if "load_power_w" in has or device in inverters
    ]
    packs = [d for d, has in names.items() if "battery_power_w" in has and "cell_voltage_v" in has]
    others = [d for d, has in names.items() if "battery_power_w" in has]
    currents = [
        device
        for device, has in names.items()
        if {"battery_voltage_v", *BATTERY_CURRENTS} <= set(has)
    ]
    battery = tuple((device, "battery_power_w") for device in packs or others)
    return Roles(
        pv=tuple(pv or chargers),
        load=tuple(loads),
        battery=battery,
        battery_parts=() if battery else tuple(currents),
        soc=first("battery_soc_percent", prefer="cell_voltage_v", battery=True),
        battery_voltage=first("battery_voltage_v", prefer="cell_voltage_v", battery=True),
        grid=tuple((d, "grid_power_w") for d, has in names.items() if "grid_power_w" in has),
        grid_voltage=first("grid_voltage_v", prefer="ac_output_power_w"),
        mode=tuple((d, "device_mode") for d in inverters if "device_mode" in names[d]),
    )


# --- Flows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlowFeed:
    """What one device says of one flow, in the order of trust.

    Attributes:
        device: its name.
        lifetime: its lifetime counter; empty when it has none.
        day: its counter of the day.
        power: its powers, added up; or, with ``product``, a voltage and a current, multiplied.
        sign: -1 where what is below zero feeds the flow.
        product: whether ``power`` is to be multiplied.
    """

    device: str
    lifetime: str = ""
    day: str = ""
    power: tuple[str, ...] = ()
    sign: int = 1
    product: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """How a flow is known.

    Attributes:
        feeds: what is added up.
        balance: nobody measures it; it is what the others leave over.
        max_power_w: of one feed [W].
        resolution_kwh: of the counters; None = to be found out [kWh].
        wraps_at_kwh: where they start again at 0 [kWh].
        why: the reason, for people.
    """

    feeds: tuple[FlowFeed, ...] = ()
    balance: bool = False
    max_power_w: float = FASTEST_W
    resolution_kwh: float | None = None
    wraps_at_kwh: tuple[float, ...] = ()
    why: str = ""


def flows(
    names: Mapping[str, Collection[str]],
    section: EnergySection | None = None,
    groups: Collection[str] = (),
    ratings_w: Mapping[str, float] | None = None,
    through: Mapping[str, str] | None = None,
) -> dict[str, Flow]:
    """What feeds each flow of the energy books; flows that this house does not have are absent.

    Args:
        names: the quantities of each device.
        section: what the configuration says of it.
        groups: devices that stand for several others.
        ratings_w: rated power of devices that say it.
        through: gateway of each device that is read through one.
    """
    section = section or EnergySection()
    chosen = roles(names, section.left_out, groups, through)
    ratings = ratings_w or {}
    found: dict[str, Flow] = {}
    for flow in FLOWS:
        own: FlowSection | None = getattr(section, flow)
        if own is not None:
            if own.lifetime or own.day or own.power or own.balance:
                found[flow] = _configured(flow, own)
            continue
        feeds, why = _picked(flow, chosen, names)
        if feeds:
            known = [ratings[feed.device] for feed in feeds if feed.device in ratings]
            inverter = flow in ("pv", "load") and len(known) == len(feeds)
            most = OVER_RATING * max(known) if inverter else FASTEST_W
            found[flow] = Flow(feeds, max_power_w=most, why=why)
    if (
        section.grid_import is None
        and "grid_import" not in found
        and chosen.grid_voltage is not None
        and "load" in found
    ):
        found["grid_import"] = Flow(
            balance=True, why="no meter: what the house draws and neither sun nor battery gives"
        )
    return {flow: found[flow] for flow in FLOWS if flow in found}


def _picked(
    flow: str, chosen: Roles, names: Mapping[str, Collection[str]]
) -> tuple[tuple[FlowFeed, ...], str]:
    """The feeds of a flow by default, and why these."""
    pairs, why = {
        "pv": (chosen.pv, "devices with panels"),
        "load": (chosen.load, "devices that feed the house"),
        "grid_import": (chosen.grid, "meters of the grid"),
        "grid_export": (chosen.grid, "meters of the grid"),
        "battery_charge": (chosen.battery, "the battery's own management, else the inverter"),
        "battery_discharge": (chosen.battery, "the battery's own management, else the inverter"),
        "generator": ((), ""),
    }[flow]
    feeds = []
    for device in dict.fromkeys(device for device, _ in pairs):
        power = tuple(name for owner, name in pairs if owner == device)
        has = names[device]
        lifetime, day = LIFETIME.get(flow, ""), DAILY.get(flow, "")
        feeds.append(
            FlowFeed(
                device,
                lifetime if lifetime in has else "",
                day if day in has else "",
                power,
                -1 if flow in OUTWARD else 1,
            )
        )
    if flow.startswith("battery_") and not feeds:
        current = BATTERY_CURRENTS[flow == "battery_discharge"]
        lifetime = LIFETIME[flow]
        feeds = [
            FlowFeed(
                device,
                lifetime if lifetime in names[device] else "",
                power=("battery_voltage_v", current),
                product=True,
            )
            for device in chosen.battery_parts
        ]
        why = "voltage times current of the inverter"
    return tuple(feeds), why


def _configured(flow: str, own: FlowSection) -> Flow:
    """A flow as ``[energy.FLOW]`` says it."""
    wanted: dict[str, dict[str, list[str]]] = {}
    for key in ("lifetime", "day", "power"):
        for each in getattr(own, key):
            device, _, name = each.partition(".")
            wanted.setdefault(device, {}).setdefault(key, []).append(name)
    feeds: list[FlowFeed] = []
    for device, mine in wanted.items():
        powers = tuple(mine.get("power", ()))
        signed = any(VOCABULARY[n].sign.startswith("+") for n in powers if n in VOCABULARY)
        counters = [*_columns(mine.get("lifetime", ()), mine.get("day", ()))] or [("", "")]
        for at, (lifetime, day) in enumerate(counters):
            feeds.append(
                FlowFeed(
                    device,
                    lifetime,
                    day,
                    powers if at == 0 else (),
                    -1 if signed and flow in OUTWARD else 1,
                )
            )
    return Flow(
        tuple(feeds),
        own.balance,
        own.max_power_w or FASTEST_W,
        own.resolution_kwh,
        own.wraps_at_kwh,
        f"as [energy.{flow}] says",
    )


def _columns(lifetime: Collection[str], day: Collection[str]) -> list[tuple[str, str]]:
    """Counters of one device, one feed for each; a day counter stands in for its neighbour."""
    longest = max(len(lifetime), len(day))
    first = [*lifetime, *[""] * (longest - len(lifetime))]
    second = [*day, *[""] * (longest - len(day))]
    return list(zip(first, second, strict=True))
