"""What several devices are together. Pure: samples in, a reading out.

Powers, currents and energies add up, voltages and frequencies are averaged, of temperatures the
highest counts, of limits the strictest, and the state of charge is weighted by capacity. While a
member is missing, what adds up is marked ``partial``: a smaller total never passes for the whole.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from sunmesh.messages import Value
from sunmesh.vocabulary import VOCABULARY, Kind, Quantity

PARTIAL = "partial"
"""Quality of a sum that lacks a member."""

Values = Mapping[str, Value]
Rule = Callable[[Sequence[float]], float]

BY_UNIT: Mapping[str, Rule] = {
    "W": sum,
    "VA": sum,
    "var": sum,
    "A": sum,
    "kWh": sum,
    "kvarh": sum,
    "Ah": sum,
    "V": fmean,
    "Hz": fmean,
    "%": fmean,
    "°": fmean,
    "W/m²": fmean,
    "°C": max,
    "": fmean,
}
"""How numbers of a unit join; other units (times) say nothing of a group and are left out."""

BY_NAME: Mapping[str, Rule] = {
    "cell_voltage_max_v": max,
    "cell_voltage_min_v": min,
    "cycles": max,
    "switch_count": sum,
}
"""Where the unit would mislead."""

SPREAD = "cell_voltage_spread_v"
SOC = "battery_soc_percent"
CODES = frozenset({"warnings", "faults"})
EVERY = frozenset({"charge_mosfet_on", "discharge_mosfet_on"})
ANY = frozenset({"charging", "settings_changed"})


def combine(
    members: Mapping[str, Values | None], capacity_ah: Mapping[str, float]
) -> tuple[dict[str, Value], dict[str, str]]:
    """The group's values and their quality.

    Args:
        members: each member's values by vocabulary name; None = the member is missing.
        capacity_ah: weight of each member's state of charge; empty = all alike.

    Returns:
        Values by vocabulary name, None where no member knows it; ``partial`` for sums and the
        state of charge that lack a member.
    """
    names = dict.fromkeys(name for values in members.values() for name in values or ())
    values: dict[str, Value] = {}
    quality: dict[str, str] = {}
    for name in names:
        row = VOCABULARY.get(name)
        if row is None or row.kind is Kind.LIST:
            continue
        if row.kind is Kind.STATE:
            values[name] = _state(name, members)
            continue
        rule = BY_NAME.get(name) or _limit(name) or BY_UNIT.get(row.unit)
        if rule is None:
            continue
        known = {
            member: float(value)
            for member, has in members.items()
            if isinstance(value := (has or {}).get(name), int | float)
            and not isinstance(value, bool)
        }
        if not known:
            values[name] = None
        elif name == SOC:
            values[name] = round(_weighted(known, capacity_ah), 2)
        else:
            values[name] = _rounded(rule(list(known.values())), row)
        if known and len(known) < _expected(name, members) and (rule is sum or name == SOC):
            quality[name] = PARTIAL
    _spread(values)
    return values, quality


def _expected(name: str, members: Mapping[str, Values | None]) -> int:
    """How many members should know ``name``: those that have it, and those that are missing."""
    return sum(has is None or name in has for has in members.values())


def _weighted(known: Mapping[str, float], capacity_ah: Mapping[str, float]) -> float:
    weights = {member: capacity_ah.get(member, 1.0) for member in known}
    return sum(known[member] * weights[member] for member in known) / sum(weights.values())


def _limit(name: str) -> Rule | None:
    """The strictest of limits: the lowest maximum, the highest minimum."""
    if name.startswith("max_") and not name.endswith("temperature_c"):
        return min
    return max if name.startswith("min_") else None


def _state(name: str, members: Mapping[str, Values | None]) -> Value:
    """Codes of all with the member's name before them; a word where all agree, else ``mixed``."""
    present = {member: has[name] for member, has in members.items() if has and name in has}
    if name in CODES:
        return [
            f"{member}:{code}"
            for member, codes in present.items()
            for code in (codes if isinstance(codes, list) else [])
        ]
    words = [value for value in present.values() if value is not None]
    if not words:
        return None
    if name in EVERY:
        return all(words)
    if name in ANY:
        return any(words)
    return words[0] if all(word == words[0] for word in words) else "mixed"


def _spread(values: dict[str, Value]) -> None:
    """Between the highest and the lowest cell of all packs."""
    high, low = values.get("cell_voltage_max_v"), values.get("cell_voltage_min_v")
    if SPREAD in values:
        both = isinstance(high, float) and isinstance(low, float)
        values[SPREAD] = round(high - low, 4) if both else None  # type: ignore[operator]


def _rounded(value: float, row: Quantity) -> float:
    """Without the digits that adding binary fractions leaves behind."""
    return round(value, 6 if row.kind is Kind.COUNTER else 4)
