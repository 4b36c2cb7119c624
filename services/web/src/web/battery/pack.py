"""A battery as it is now: its cells, their spread, temperatures, limits. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sunmesh.messages import Value

from .. import words
from ..house import BATTERY_PRESENT_V, Device
from ..live import State
from ..plot import axis
from ..text import N_, _, ngettext, number
from .profile import BatteryProfile

TOP_PERCENT = 97.0
BOTTOM_PERCENT = 20.0
REST_SHARE = 0.02
"""A current below that share of the capacity (in A per Ah) is rest."""
REST_A = 2.0
"""The same where the capacity is not known."""
SAME_BATTERY = 0.15
"""Two devices look at one battery when their voltages are no further apart than that share."""
LEAST_SPAN_V = 0.05
"""Bars of cells show at least that much, so that two millivolts do not look like a fault."""

Where = Literal["top", "bottom", "rest", "working"]
Level = Literal["good", "info", "warning"]

USUAL_MV: Mapping[Where, tuple[float, float]] = {
    "rest": (15, 40),
    "working": (25, 60),
    "top": (60, 150),
    "bottom": (100, 250),
}
"""Spread up to which cells agree, and from which on somebody should look, by where it is."""

PLACES: Mapping[Where, str] = {
    "rest": N_("at rest"),
    "working": N_("at work"),
    "top": N_("nearly full"),
    "bottom": N_("nearly empty"),
}

MILLIVOLTS = "-mv"
"""Differences are written in mV."""
HINTS = ("battery_soc_percent", "battery_power_w", "battery_current_a")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. ``width``: of its bar, 0 to 100; ``balance``: marks in words."""

    number: int
    volts: float | None
    text: str
    width: str
    is_high: bool = False
    is_low: bool = False
    is_balancing: bool = False


@dataclass(frozen=True, slots=True)
class Reach:
    """A quantity between the limits of its management.

    Attributes:
        now: in words.
        limits: in words: where it warns and where it switches off.
        marks: where ``now`` is, 0 to 100.
        warn: where the warning zones begin and end, 0 to 100.
        level: ``warning`` where it is beyond a warning.
    """

    label: str
    now: str
    limits: Sequence[str]
    marks: Sequence[str]
    warn: tuple[str, str]
    level: Level


@dataclass(frozen=True, slots=True)
class Switch:
    """A transistor of the management: whether it lets current pass."""

    label: str
    text: str
    level: Level


@dataclass(frozen=True, slots=True)
class Pack:
    """One battery, or one of several, as its device tells it."""

    name: str
    title: str
    subtitle: str
    look: str
    seen: str
    soc: float | None
    soc_text: str
    level: str
    amperes: float | None
    state: Literal["charging", "discharging", "resting", ""]
    volts_text: str
    amperes_text: str
    watts_text: str
    cells: Sequence[Cell]
    scale: tuple[str, str]
    lowest: str
    highest: str
    mean: str
    spread: str
    spread_mv: float | None
    verdict: str
    verdict_level: Level
    headline: str
    temperatures: Sequence[tuple[str, str]]
    switches: Sequence[Switch]
    reaches: Sequence[Reach]
    facts: Sequence[tuple[str, str]]
    quality: Mapping[str, str]


def number_of(values: Mapping[str, Value], name: str) -> float | None:
    """A value that is a number; None otherwise."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def list_of(values: Mapping[str, Value], name: str) -> list[float | None]:
    """A value that is a list of numbers; what is none in it is None."""
    value = values.get(name)
    if not isinstance(value, list):
        return []
    return [
        float(item) if isinstance(item, int | float) and not isinstance(item, bool) else None
        for item in value
    ]


def packs(devices: Sequence[Device]) -> list[Device]:
    """The devices that are a battery: managements, groups of them; else whoever sees one."""
    seen = [d for d in devices if d.values and "battery_voltage_v" in d.values]
    groups = [d for d in seen if d.family == "group"]
    own = [d for d in seen if d.family == "bms" or "cell_voltage_v" in d.values]
    unheard = [d for d in devices if d.family == "bms" and not d.values]
    if groups or own or unheard:
        return [*groups, *(d for d in own if d not in groups), *unheard]
    rest = [
        d
        for d in seen
        if (number_of(d.values, "battery_voltage_v") or 0.0) >= BATTERY_PRESENT_V
        and any(hint in d.values for hint in (*HINTS, "battery_charge_current_a"))
    ]
    return rest[:1]


def beside(pack: Device, devices: Sequence[Device]) -> list[Device]:
    """Other devices that tell a state of charge of the same battery: by its voltage."""
    mine = number_of(pack.values, "battery_voltage_v")
    found = []
    for device in devices:
        theirs = number_of(device.values, "battery_voltage_v")
        if device.name == pack.name or number_of(device.values, "battery_soc_percent") is None:
            continue
        if mine is None or theirs is None or abs(mine - theirs) <= SAME_BATTERY * mine:
            found.append(device)
    return found


def where(soc: float | None, amperes: float | None, capacity_ah: float | None) -> Where:
    """In which state a battery is, for the judgement of its spread."""
    if soc is not None and soc >= TOP_PERCENT:
        return "top"
    if soc is not None and soc <= BOTTOM_PERCENT:
        return "bottom"
    least = REST_SHARE * capacity_ah if capacity_ah else REST_A
    return "rest" if amperes is not None and abs(amperes) <= least else "working"


def current(values: Mapping[str, Value]) -> float | None:
    """The battery's current, + = discharging."""
    amperes = number_of(values, "battery_current_a")
    if amperes is not None:
        return amperes
    charge = number_of(values, "battery_charge_current_a")
    discharge = number_of(values, "battery_discharge_current_a")
    return None if charge is None or discharge is None else discharge - charge


def power(values: Mapping[str, Value]) -> float | None:
    """The battery's power, + = discharging."""
    watts = number_of(values, "battery_power_w")
    if watts is not None:
        return watts
    volts, amperes = number_of(values, "battery_voltage_v"), current(values)
    return None if volts is None or amperes is None else volts * amperes


def millivolts(value: float | None) -> str:
    """A difference of cells in words."""
    return words.NONE if value is None else f"{number(value, 0)}{words.HARD}mV"


def _volts(value: float | None, digits: int = 3) -> str:
    return words.NONE if value is None else f"{number(value, digits)}{words.HARD}V"


def rated_ah(device: Device, state: State, profile: BatteryProfile) -> float | None:
    """The charge that the pack is meant to hold: by the owner, else by its management."""
    if profile.capacity_ah:
        return profile.capacity_ah
    memory = state.devices.get(device.name)
    if memory is None:
        return None
    for source in (
        memory.info.nameplate if memory.info else {},
        memory.settings.values if memory.settings else {},
    ):
        for name in ("rated_capacity_ah", "battery_capacity_ah"):
            found = number_of(source, name)
            if found:
                return found
    return None


def pack(
    device: Device, state: State, look: str, seen: str, profile: BatteryProfile | None = None
) -> Pack:
    """One battery in words.

    Args:
        device: its device.
        state: for its identity and its limits.
        look: ``fresh``, ``late``, ``lost`` or ``asleep``.
        seen: how old its values are, in words.
        profile: what the owner says of it.
    """
    profile = profile or BatteryProfile()
    memory = state.devices.get(device.name)
    info = memory.info if memory else None
    limits = memory.settings.values if memory and memory.settings else {}
    values = {} if look in ("lost", "asleep") else device.values
    soc = number_of(values, "battery_soc_percent")
    amperes, watts = current(values), power(values)
    volts = list_of(values, "cell_voltage_v")
    known = [v for v in volts if v is not None]
    spread_mv = (max(known) - min(known)) * 1000 if len(known) > 1 else None
    if spread_mv is None and (told := number_of(values, "cell_voltage_spread_v")) is not None:
        spread_mv = told * 1000
    capacity = rated_ah(device, state, profile)
    warns = number_of(limits, "cell_difference_warning_v")
    place = where(soc, amperes, capacity)
    verdict, level = _verdict(spread_mv, place, None if warns is None else warns * 1000)
    direction = _direction(watts, amperes)
    subtitle = " ".join(text for text in ((info.manufacturer, info.model) if info else ()) if text)
    return Pack(
        name=device.name,
        title=words.title(device.name),
        subtitle=subtitle or device.family,
        look=look,
        seen=seen,
        soc=soc,
        soc_text=words.NONE if soc is None else number(soc, 0 if soc == int(soc) else 1),
        level="0" if soc is None else f"{min(100.0, max(0.0, soc)):.1f}",
        amperes=amperes,
        state=direction,
        volts_text=words.value("battery_voltage_v", number_of(values, "battery_voltage_v")),
        amperes_text=words.value("battery_current_a", None if amperes is None else abs(amperes)),
        watts_text=words.power(None if watts is None else abs(watts)),
        cells=cells(volts, _balancing(values)),
        scale=_scale(known),
        lowest=_volts(min(known, default=None)),
        highest=_volts(max(known, default=None)),
        mean=_volts(sum(known) / len(known) if known else None),
        spread=millivolts(spread_mv),
        spread_mv=spread_mv,
        verdict=verdict,
        verdict_level=level,
        headline=_headline(soc, direction, watts, len(known), spread_mv),
        temperatures=_temperatures(values),
        switches=_switches(values),
        reaches=reaches(values, limits, profile),
        facts=_facts(values, capacity),
        quality=device.quality,
    )


def _direction(
    watts: float | None, amperes: float | None
) -> Literal["charging", "discharging", "resting", ""]:
    value = watts if watts is not None else amperes
    if value is None:
        return ""
    least = 10.0 if watts is not None else 0.2
    if abs(value) < least:
        return "resting"
    return "discharging" if value > 0 else "charging"


def _headline(
    soc: float | None, direction: str, watts: float | None, cell_count: int, spread: float | None
) -> str:
    """One sentence on charge, one on cells."""
    said = {"charge": words.NONE if soc is None else number(soc, 0)}
    said["power"] = words.power(None if watts is None else abs(watts))
    if soc is None:
        first = _("The state of charge is not known now.")
    elif direction == "charging":
        first = _("%(charge)s %% full, charging with %(power)s.", **said)
    elif direction == "discharging":
        first = _("%(charge)s %% full, giving %(power)s.", **said)
    else:
        first = _("%(charge)s %% full.", **said)
    if cell_count < 2 or spread is None:
        return first
    second = ngettext(
        "%(num)d cell within %(spread)s.",
        "%(num)d cells within %(spread)s.",
        cell_count,
        spread=millivolts(spread),
    )
    return f"{first} {second}"


def _verdict(spread: float | None, place: Where, warns_mv: float | None) -> tuple[str, Level]:
    """What a spread means where it is."""
    if spread is None:
        return "", "info"
    if warns_mv is not None and spread >= warns_mv:
        return _("The cells are further apart than their management allows."), "warning"
    usual, much = USUAL_MV[place]
    if spread <= usual:
        return {
            "rest": _("The cells agree at rest."),
            "working": _("The cells agree under load."),
            "top": _("The cells agree even when nearly full."),
            "bottom": _("The cells agree even when nearly empty."),
        }[place], "good"
    if spread <= much:
        return {
            "rest": _("A little apart for a battery at rest; watch it."),
            "working": _("A little apart under load; what counts is how they are at rest."),
            "top": _("Apart as cells often are when nearly full; balancing works on it."),
            "bottom": _("Apart as cells often are when nearly empty."),
        }[place], "info"
    return {
        "rest": _("Far apart at rest: a cell is weak, or balancing does not keep up."),
        "working": _("Far apart under load: look at the weakest cell and its connections."),
        "top": _("Far apart when nearly full: one cell ends the charging early. Let it balance."),
        "bottom": _("Far apart when nearly empty: the weakest cell decides how much there is."),
    }[place], "warning"


def _balancing(values: Mapping[str, Value]) -> set[int]:
    listed = values.get("balancing_cells")
    if not isinstance(listed, list):
        return set()
    found = set()
    for item in listed:
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        if is_number or (isinstance(item, str) and item.isdecimal()):
            found.add(int(item or 0))
    return found


def cells(volts: Sequence[float | None], balancing: Collection[int] = ()) -> list[Cell]:
    """Bars of the cells, on a scale that shows millivolts and does not make much of them."""
    known = [v for v in volts if v is not None]
    if not known:
        return []
    scale = axis(known, least=LEAST_SPAN_V)
    high, low = max(known), min(known)
    return [
        Cell(
            index,
            value,
            _volts(value),
            "0" if value is None else f"{4 + 96 * scale.share(value):.1f}",
            value is not None and value == high and high > low,
            value is not None and value == low and high > low,
            index in balancing,
        )
        for index, value in enumerate(volts, 1)
    ]


def _scale(known: Sequence[float]) -> tuple[str, str]:
    if not known:
        return "", ""
    scale = axis(known, least=LEAST_SPAN_V)
    return _volts(scale.low, 2), _volts(scale.high, 2)


def _temperatures(values: Mapping[str, Value]) -> list[tuple[str, str]]:
    found = [
        (_("Sensor %(number)s", number=index), words.value("battery_temperature_c", value))
        for index, value in enumerate(list_of(values, "battery_temperature_c"), 1)
    ]
    for name in ("mosfet_temperature_c", "board_temperature_c"):
        if number_of(values, name) is not None:
            found.append((words.label(name), words.value(name, values[name])))
    return found


def _switches(values: Mapping[str, Value]) -> list[Switch]:
    found = []
    for name, label in (
        ("charge_mosfet_on", _("Charging")),
        ("discharge_mosfet_on", _("Discharging")),
    ):
        value = values.get(name)
        if isinstance(value, bool):
            text = _("allowed") if value else _("blocked by the battery")
            found.append(Switch(label, text, "good" if value else "warning"))
    return found


def _facts(values: Mapping[str, Value], capacity: float | None) -> list[tuple[str, str]]:
    found = []
    left = number_of(values, "remaining_capacity_ah")
    if left is not None and capacity:
        found.append(
            (
                _("Charge left"),
                _(
                    "%(left)s of %(rated)s Ah",
                    left=number(left, 0),
                    rated=number(capacity, 0),
                ),
            )
        )
    elif capacity:
        found.append((_("Rated charge"), f"{number(capacity, 0)}{words.HARD}Ah"))
    cycles = number_of(values, "cycles")
    if cycles is not None:
        found.append((_("Cycles, as it counts them"), number(cycles, 0)))
    return found


RANGES: Sequence[tuple[str, str, str, Sequence[str]]] = (
    (N_("Cell voltage"), "cell_voltage", "_v", ("cell_voltage_v",)),
    (N_("Battery voltage"), "battery_voltage", "_v", ("battery_voltage_v",)),
    (N_("Charging current"), "charge_current", "_a", ("-current",)),
    (N_("Discharging current"), "discharge_current", "_a", ("+current",)),
    (
        N_("Temperature while charging"),
        "charge_temperature",
        "_c",
        ("-temperature",),
    ),
    (
        N_("Temperature while discharging"),
        "discharge_temperature",
        "_c",
        ("+temperature",),
    ),
    (N_("State of charge"), "soc", "_percent", ("battery_soc_percent",)),
    (N_("Between cells"), "cell_difference", "_v", ("cell_voltage_spread_v",)),
)
"""What managements limit: name, beginning and unit of the settings, where the value is."""


def reaches(
    values: Mapping[str, Value], limits: Mapping[str, Value], profile: BatteryProfile
) -> list[Reach]:
    """Each quantity that the management (or the maker, by ``[battery]``) limits."""
    limits = _with_profile(limits, profile)
    found = []
    for label, stem, unit, sources in RANGES:

        def limit(side: str, kind: str, stem: str = stem, unit: str = unit) -> float | None:
            named = number_of(limits, f"{stem}_{side}_{kind}{unit}")
            if named is None and side == "high":
                named = number_of(limits, f"{stem}_{kind}{unit}")
            return named

        low, high = limit("low", "limit"), limit("high", "limit")
        low_warn, high_warn = limit("low", "warning"), limit("high", "warning")
        if low is None and high is None and low_warn is None and high_warn is None:
            continue
        bottom = min((v for v in (low, low_warn) if v is not None), default=0.0)
        top = max((v for v in (high, high_warn) if v is not None), default=bottom + 1)
        if top <= bottom:
            continue
        now = _readings(values, sources[0])

        def share(value: float, bottom: float = bottom, top: float = top) -> str:
            return f"{min(100.0, max(0.0, (value - bottom) / (top - bottom) * 100)):.1f}"

        is_bad = any(
            (low_warn is not None and value < low_warn)
            or (high_warn is not None and value > high_warn)
            or (low is not None and value <= low and low < (high or low + 1))
            or (high is not None and value > high)
            for value in now
        ) and not (stem == "soc" and low_warn is None)
        name = MILLIVOLTS if stem == "cell_difference" else _unit_name(stem, unit)
        found.append(
            Reach(
                _(label),
                _range_text(name, now),
                _limit_texts(name, low, low_warn, high_warn, high),
                [share(value) for value in now],
                (
                    share(low_warn) if low_warn is not None else "0",
                    share(high_warn) if high_warn is not None else "100",
                ),
                "warning" if is_bad else "good",
            )
        )
    return found


def _with_profile(limits: Mapping[str, Value], profile: BatteryProfile) -> dict[str, Value]:
    own: dict[str, Value] = {
        name: value
        for name, value in (
            ("cell_voltage_low_limit_v", profile.cell_low_v),
            ("cell_voltage_high_limit_v", profile.cell_high_v),
            ("charge_current_limit_a", profile.charge_max_a),
            ("discharge_current_limit_a", profile.discharge_max_a),
        )
        if value is not None
    }
    return own | dict(limits)


def _unit_name(stem: str, unit: str) -> str:
    """A quantity's name by which values of this range are written."""
    if stem == "cell_voltage":
        return "cell_voltage_v"
    return f"x{unit}"


def _readings(values: Mapping[str, Value], source: str) -> list[float]:
    """Lowest and highest of what ``source`` reads now."""
    if source.endswith("current"):
        amperes = current(values)
        if amperes is None:
            return []
        return [max(0.0, amperes if source[0] == "+" else -amperes)]
    if source.endswith("temperature"):
        amperes = current(values)
        known = [v for v in list_of(values, "battery_temperature_c") if v is not None]
        is_mine = amperes is not None and (amperes > 0) == (source[0] == "+")
        return sorted({min(known), max(known)}) if known and is_mine else []
    if source == "cell_voltage_v":
        known = [v for v in list_of(values, source) if v is not None]
        return sorted({min(known), max(known)}) if known else []
    one = number_of(values, source)
    return [] if one is None else [one]


def _range_text(name: str, now: Sequence[float]) -> str:
    if not now:
        return words.NONE
    if len(now) == 1:
        return _told(name, now[0])
    return _("%(low)s to %(high)s", low=_told(name, now[0]), high=_told(name, now[1]))


def _told(name: str, value: float) -> str:
    return millivolts(value * 1000) if name == MILLIVOLTS else words.value(name, value)


def _limit_texts(
    name: str,
    low: float | None,
    low_warn: float | None,
    high_warn: float | None,
    high: float | None,
) -> list[str]:
    """Where it warns, and where it switches off."""

    def told(value: float) -> str:
        return _told(name, value)

    found = []
    if low_warn is not None and high_warn is not None:
        found.append(
            _("warns below %(low)s and above %(high)s", low=told(low_warn), high=told(high_warn))
        )
    elif high_warn is not None:
        found.append(_("warns above %(high)s", high=told(high_warn)))
    elif low_warn is not None:
        found.append(_("warns below %(low)s", low=told(low_warn)))
    if low is not None and high is not None:
        found.append(_("off below %(low)s and above %(high)s", low=told(low), high=told(high)))
    elif high is not None:
        found.append(_("off above %(high)s", high=told(high)))
    elif low is not None:
        found.append(_("off below %(low)s", low=told(low)))
    return found
