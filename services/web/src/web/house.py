"""The house as one whole, put together from what its devices say. Pure.

Signs as in the vocabulary: what feeds the house is positive, so that
pv + grid + battery = load + losses.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sunmesh.house import roles
from sunmesh.messages import Value

from .text import _

Freshness = Literal["fresh", "late", "lost"]

GRID_PRESENT_V = 60.0
"""Below it there is no grid, whatever hums on the line."""
BATTERY_PRESENT_V = 5.0
"""Inverters without a battery report some tenths of a volt."""
OWN_USE_W = 75.0
OWN_USE_SHARE = 0.08
"""What an inverter may draw itself: idle, and of what passes through. More is a disagreement."""
RESIDUAL_SHARE = 0.05
RESIDUAL_MIN_W = 60.0
"""Meters disagree from this share of the throughput on, and never for less than this."""
APART_S = 20.0
"""Samples further apart, and than two periods, are not balanced against each other."""
OFF_GRID_MODES = frozenset({"battery", "standby", "power_saving", "fault", "shutdown"})
"""Modes in which an inverter takes nothing from the grid."""


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of one device now.

    Attributes:
        name: as the owner calls it.
        family: ``axpert``, ``bms``, ...; empty when nobody said.
        ms: time of its last sample; None when there was none.
        values: of that sample.
        quality: exceptions of that sample.
        state: as its collector reports it; empty when it has not.
        since: of that state, ms.
        reason: for that state.
        period_s: between two samples.
        configured: whether the configuration names it.
        behind: the device that it is read through, such as a microinverter's gateway.
    """

    name: str
    family: str = ""
    ms: int | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    quality: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    since: int | None = None
    reason: str = ""
    period_s: float = 5.0
    configured: bool = True
    behind: str = ""

    def freshness(self, now_ms: int) -> Freshness:
        """Green below 2 sample periods, amber below 5, red from then on or when offline."""
        if self.ms is None or self.state in ("offline", "identity_mismatch"):
            return "lost"
        age_s = (now_ms - self.ms) / 1000
        if age_s < 2 * self.period_s:
            return "fresh"
        return "late" if age_s < 5 * self.period_s else "lost"

    @property
    def service(self) -> str:
        """The service that reads it."""
        return f"collector-{self.family}" if self.family else _("its collector")


@dataclass(frozen=True, slots=True)
class Source:
    """One power that can be told apart, with the device that says it."""

    device: str
    name: str
    watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Powers in W, None = not known now. ``has_*``: whether such a thing exists here at all."""

    has_pv: bool = False
    has_battery: bool = False
    has_grid: bool = False
    has_load: bool = False
    strings: tuple[Source, ...] = ()
    pv_w: float | None = None
    load_w: float | None = None
    battery_w: float | None = None
    battery_v: float | None = None
    battery_a: float | None = None
    soc: float | None = None
    soc_source: str = ""
    grid_w: float | None = None
    grid_estimated: bool = False
    grid_v: float | None = None
    grid_present: bool | None = None
    mode: str | None = None
    loss_w: float | None = None
    residual_w: float | None = None

    @property
    def disagrees(self) -> bool:
        """Whether the meters contradict each other by more than 5 %."""
        return self.residual_w is not None


def total(parts: Iterable[float | None]) -> float | None:
    """The sum; None when a part is unknown or there is none."""
    known = list(parts)
    if not known or any(part is None for part in known):
        return None
    return sum(part for part in known if part is not None)


def grid_estimate(
    load_w: float | None, pv_w: float | None, battery_w: float | None, mode: str | None
) -> float | None:
    """What the grid must give where no meter measures it: what sun and battery do not.

    Args:
        load_w: the house.
        pv_w: the sun; None where there are no panels counts as nothing.
        battery_w: out of the battery, + = discharging.
        mode: of the inverter; in battery mode it takes nothing.
    """
    if mode in OFF_GRID_MODES:
        return 0.0
    if load_w is None:
        return None
    return max(0.0, load_w - (pv_w or 0.0) - (battery_w or 0.0))


def balance(
    inputs_w: float, outputs_w: float, own_use_w: float | None = None
) -> tuple[float, float | None]:
    """Split what goes in but not out into the inverter's own use and a disagreement of meters.

    Args:
        inputs_w: sun, discharge and import together.
        outputs_w: house, charge and export together.
        own_use_w: where the inverter tells it.

    Returns:
        (own use, disagreement or None when it is below 5 %) [W].
    """
    difference = inputs_w - outputs_w
    throughput = max(inputs_w, outputs_w)
    if own_use_w is None:
        own_use_w = min(max(difference, 0.0), OWN_USE_W + OWN_USE_SHARE * throughput)
    residual = abs(difference - own_use_w)
    if residual > max(RESIDUAL_SHARE * throughput, RESIDUAL_MIN_W):
        return own_use_w, residual
    return own_use_w, None


def combine(devices: Iterable[Device], now_ms: int, left_out: Collection[str] = ()) -> House:
    """The house now. What a lost device said last is not used: an old value is no value."""
    known = {device.name: device for device in devices if device.values}
    groups = {name for name, device in known.items() if device.family == "group"}
    names = {name: device.values.keys() for name, device in known.items()}
    chosen = roles(names, left_out, groups)
    live = {n for n, device in known.items() if device.freshness(now_ms) != "lost"}

    def read(pair: tuple[str, str] | None) -> float | None:
        if pair is None or pair[0] not in live:
            return None
        device, name = known[pair[0]], pair[1]
        reading = device.values.get(name)
        if isinstance(reading, bool) or not isinstance(reading, int | float):
            return None
        return None if device.quality.get(name) == "stale" else float(reading)

    def currents(device: str) -> float | None:
        charge = read((device, "battery_charge_current_a"))
        discharge = read((device, "battery_discharge_current_a"))
        return None if charge is None or discharge is None else discharge - charge

    def part(device: str) -> float | None:
        volts, amperes = read((device, "battery_voltage_v")), currents(device)
        return None if volts is None or amperes is None else volts * amperes

    strings = tuple(Source(device, name, read((device, name))) for device, name in chosen.pv)
    pv_w = total(source.watts for source in strings)
    load_w = total(read(pair) for pair in chosen.load)
    battery_v = read(chosen.battery_voltage)
    battery_w = total(
        [read(pair) for pair in chosen.battery]
        if chosen.battery
        else [part(device) for device in chosen.battery_parts]
    )
    grid_v = read(chosen.grid_voltage)
    mode = next(
        (
            str(known[device].values[name])
            for device, name in chosen.mode
            if device in live and isinstance(known[device].values[name], str)
        ),
        None,
    )
    has_battery = chosen.battery_voltage is not None and not (
        battery_v is not None and battery_v < BATTERY_PRESENT_V
    )
    if not has_battery:
        battery_w = None
    estimated = not chosen.grid and chosen.grid_voltage is not None and bool(chosen.load)
    grid_present = None if grid_v is None else grid_v >= GRID_PRESENT_V
    grid_w = total(read(pair) for pair in chosen.grid)
    if estimated:
        grid_w = 0.0 if grid_present is False else grid_estimate(load_w, pv_w, battery_w, mode)
        if any(source.watts is None for source in strings) or (has_battery and battery_w is None):
            grid_w = grid_w if grid_w == 0 else None

    loss_w, residual_w = None, None
    sides = [
        *((pv_w,) if strings else ()),
        *((battery_w,) if has_battery else ()),
        *((grid_w,) if chosen.grid or estimated else ()),
    ]
    used = {device for device, _ in (*chosen.pv, *chosen.load, *chosen.battery, *chosen.grid)}
    times = [ms for name in used if (ms := known[name].ms) is not None]
    longest_s = max((2 * known[name].period_s for name in used), default=0.0)
    together = bool(times) and max(times) - min(times) <= 1000 * max(APART_S, longest_s)
    if load_w is not None and sides and together and all(side is not None for side in sides):
        given = sum(side for side in sides if side is not None and side > 0)
        taken = load_w - sum(side for side in sides if side is not None and side < 0)
        own = total([read((d, "inverter_loss_power_w")) for d, _ in chosen.load])
        loss_w, residual_w = balance(given, taken, own)
        if estimated and grid_w:
            # The grid was made to fit, so nothing is left to tell a loss by.
            loss_w, residual_w = own, None

    shunt = chosen.battery_voltage[0] if chosen.battery_voltage else ""
    amperes = read((shunt, "battery_current_a"))
    if amperes is None:
        amperes = currents(shunt)
    return House(
        has_pv=bool(strings),
        has_battery=has_battery,
        has_grid=bool(chosen.grid) or chosen.grid_voltage is not None,
        has_load=bool(chosen.load),
        strings=strings,
        pv_w=pv_w,
        load_w=load_w,
        battery_w=battery_w,
        battery_v=battery_v if has_battery else None,
        battery_a=amperes if has_battery else None,
        soc=read(chosen.soc) if has_battery else None,
        soc_source=chosen.soc[0] if chosen.soc else "",
        grid_w=grid_w,
        grid_estimated=estimated,
        grid_v=grid_v,
        grid_present=grid_present,
        mode=mode,
        loss_w=loss_w,
        residual_w=residual_w,
    )
