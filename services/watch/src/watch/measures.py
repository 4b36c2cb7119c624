"""What rules measure: each a function from the facts to a number for each device. Pure.

A quantity of the vocabulary is its own measure. The others stand in :data:`MEASURES`, with what
their texts may name. A value of None = not known now: nothing is raised, and nothing is cleared.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING

from sunmesh.messages import Value
from sunmesh.vocabulary import VOCABULARY, spoken, unit_of

from .facts import OWN_TIME, Device, Facts

if TYPE_CHECKING:
    from .rules import Rule

GRID_V = 90.0
"""Less is no grid, as inverters see it."""
SURE_GRID_V = 170.0
"""A meter that sees more sees the grid."""
WATCH, BROKER, PLANT = "watch", "broker", "plant"
"""Alarms of this machine, of the broker and of all panels stand under these names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A measure of one device, now.

    Attributes:
        device: of which.
        value: the number or the word; None = not known.
        data: what the text may name, for people.
        limit: where it differs from the rule's.
        why: it is not known.
    """

    device: str
    value: Value
    data: Mapping[str, Value] = field(default_factory=dict)
    limit: float | None = None
    why: str = ""


Measure = Callable[[Facts, "Rule", float], Iterable[Finding]]


# --- How numbers are written ----------------------------------------------------------------------


def number(value: object) -> float | None:
    """``value`` if it is a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def shown(value: Value, unit: str) -> str:
    """A number with its unit, as people write it."""
    amount = number(value)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if amount is None:
        return "unknown" if value is None else str(value)
    if unit == "s":
        return duration(amount)
    if unit == "V" and abs(amount) < 1 and amount:
        return f"{amount * 1000:.0f} mV"
    if unit == "W" and abs(amount) >= 10_000:
        return f"{amount / 1000:.1f} kW"
    digits = 3 if unit == "V" and abs(amount) < 10 else 1
    text = f"{round(amount, digits) + 0.0:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {unit}".strip()


def duration(seconds: float) -> str:
    """A length of time, roughly."""
    seconds = round(seconds) + 0.0 if abs(seconds) < 120 else seconds
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} days"


# --- Quantities -----------------------------------------------------------------------------------


def quantity(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """A quantity of the vocabulary; of a list the number that is nearest to the limit."""
    for device in rule.subjects(facts):
        if rule.measure not in device.values:
            continue
        if not device.is_fresh(at):
            yield Finding(device.name, None, why="it cannot be read")
            continue
        value = device.values.get(rule.measure)
        data: dict[str, Value] = {}
        if isinstance(value, list) and rule.is_numeric:
            amounts = [amount for item in value if (amount := number(item)) is not None]
            value = (max(amounts) if rule.rises else min(amounts)) if amounts else None
        yield Finding(device.name, value, data)


# --- The watch's own ------------------------------------------------------------------------------


def sample_age(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """How long a device that is said to be there has been silent [s]."""
    for device in rule.subjects(facts):
        if not facts.is_settled(at):
            yield Finding(device.name, None, why="it is too soon after a start")
            continue
        if device.state not in ("online", ""):
            yield Finding(device.name, 0.0)  # its collector says so itself
            continue
        age_s = device.age_s(at)
        if age_s is None:
            if device.name not in facts.configured:
                continue
            age_s = at - facts.started_at
        if device.state == "online" and device.family not in OWN_TIME:
            # who has just come back owes its first sample since then
            age_s = min(age_s, at - device.state_at)
        limit = max(rule.limit or 0.0, rule.periods * device.poll_s)
        yield Finding(device.name, age_s, {"service": device.service}, limit)


def in_state(state: str) -> Measure:
    """How long a device has been in a state [s]."""

    def measure(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
        for device in rule.subjects(facts):
            if device.state:
                is_so = device.state == state
                for_s = at - device.state_at if is_so else 0.0
                yield Finding(device.name, for_s, {"reason": device.reason})

    return measure


def service_down(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """How long a service has been away [s]."""
    for name, service in facts.services.items():
        if name == WATCH or not rule.is_wanted(name):
            continue
        yield Finding(name, 0.0 if service.lost_at is None else at - service.lost_at)


def broker_away(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """How long the broker was away, told for a while after its return [s]."""
    yield Finding(BROKER, facts.away_s)


def clock_offset(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """How far the time of new samples is from the clock here [s]."""
    for device in rule.subjects(facts):
        if device.offset_s is not None:
            yield Finding(device.name, device.offset_s if device.is_fresh(at) else None)


def line_errors(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """Damaged answers in a hundred rounds, of several answers each; 100 at most [%]."""
    for device in rule.subjects(facts):
        if device.damaged is not None:
            damaged, rounds = device.damaged
            data: dict[str, Value] = {"damaged": damaged, "rounds": rounds}
            yield Finding(device.name, min(100.0 * damaged / rounds, 100.0), data)


def failed_commands(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """Commands of the last hour that were not done."""
    for name in {**facts.devices, **facts.failures}:
        if not rule.is_wanted(name):
            continue
        failures = facts.failures.get(name)
        if not failures:
            yield Finding(name, 0)
            continue
        last = max(failures.values(), key=lambda failure: failure.at)
        words = {"failed": "it failed", "reverted": "it was changed back"}
        stage = words.get(last.stage, "the device kept another value")
        detail = last.detail.rstrip(".")
        data: dict[str, Value] = {
            "setting": spoken(last.setting),
            "wanted": f"{last.wanted} {unit_of(last.setting)}".strip(),
            "stage": stage,
            "detail": f"{detail[:1].upper()}{detail[1:]}." if detail else "",
            "by": last.by,
        }
        yield Finding(name, len(failures), data)


def writes(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """What a day's writes have used up of their budget, of the setting written most [%]."""
    for device in rule.subjects(facts):
        if not device.writes:
            continue
        setting, (today, budget) = max(
            device.writes.items(), key=lambda item: item[1][0] / item[1][1]
        )
        data: dict[str, Value] = {
            "setting": spoken(setting),
            "today": today,
            "budget": budget,
        }
        yield Finding(device.name, 100.0 * today / budget, data)


def disks(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """The fullest disk [%]."""
    if not facts.disks:
        return
    disk = max(facts.disks, key=lambda each: each.used_percent)
    free = f"{disk.free_bytes / 1e9:.1f} GB"
    yield Finding(WATCH, disk.used_percent, {"folder": disk.folder, "free": free})


def relay_effect(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """1 while what a relay says and what an inverter measures contradict each other."""
    inverters = [
        (device.name, volts)
        for device in facts.of_family(("axpert",))
        if device.is_fresh(at)
        and (volts := number(device.values.get("grid_voltage_v"))) is not None
    ]
    meters = [
        (device.name, volts)
        for device in facts.of_family(("meter",))
        if device.is_fresh(at)
        and (volts := number(device.values.get("grid_voltage_v"))) is not None
    ]
    for relay in rule.subjects(facts):
        if relay.family != "relay":
            continue
        position = relay.values.get("relay_position")
        if not relay.is_fresh(at) or not isinstance(position, str) or not inverters:
            yield Finding(relay.name, None, why="relay or inverter cannot be read")
            continue
        wrong: tuple[str, float] | None = None
        elsewhere = ""
        if position == "grid_open":
            wrong = next((each for each in inverters if each[1] >= SURE_GRID_V), None)
        else:
            seen = next((each for each in meters if each[1] >= SURE_GRID_V), None)
            if seen is not None:
                wrong = next((each for each in inverters if each[1] < GRID_V), None)
                elsewhere = f", while {seen[0]} has {shown(seen[1], 'V')}"
        said = "the grid is open" if position == "grid_open" else "the grid is connected"
        data: dict[str, Value] = {"position": said, "elsewhere": elsewhere}
        if wrong is not None:
            data |= {"inverter": wrong[0], "volts": shown(wrong[1], "V")}
        yield Finding(relay.name, int(wrong is not None), data)


def string_share(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """What the weakest string gives of the strongest, of those that have given power [%]."""
    for device in rule.subjects(facts):
        known = facts.strings.get(device.name, [])
        if len(known) < 2:
            continue
        powers = {
            key: watts for key in known if (watts := number(device.values.get(key))) is not None
        }
        if not device.is_fresh(at) or len(powers) < len(known):
            yield Finding(device.name, None, why="it cannot be read")
            continue
        best, worst = max(powers.values()), min(powers, key=lambda key: powers[key])
        if best < rule.least:
            yield Finding(device.name, None, why="too little sun to compare")
            continue
        place = worst.removeprefix("pv").removesuffix("_power_w") or "1"
        data: dict[str, Value] = {
            "string": place,
            "watts": shown(powers[worst], "W"),
            "best": shown(best, "W"),
        }
        yield Finding(device.name, 100.0 * powers[worst] / best, data)


def _gateways(facts: Facts, rule: "Rule") -> Iterator[tuple[Device, list[Device]]]:
    """Gateways with their microinverters; meters behind them are none."""
    for device in rule.subjects(facts):
        members = [
            each
            for each in facts.behind(device.name)
            if "meter_role" not in each.values and each.values
        ]
        if len(members) >= 2:
            yield device, members


def fleet_power(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """What the microinverters of a gateway give together [W]; the dark ones count as 0."""
    for gateway, members in _gateways(facts, rule):
        if not gateway.is_fresh(at):
            yield Finding(gateway.name, None, why="the gateway cannot be read")
            continue
        powers = [number(each.values.get("pv_power_w")) or 0.0 for each in members]
        yield Finding(gateway.name, sum(powers), {"count": len(members)})


def sum_difference(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """How far the sum of the microinverters is from their meter's power [%]."""
    for gateway, members in _gateways(facts, rule):
        meter = next(
            (
                each
                for each in facts.behind(gateway.name)
                if each.values.get("meter_role") == "production"
            ),
            gateway,
        )
        measured = number(meter.values.get("pv_power_w"))
        powers = [number(each.values.get("pv_power_w")) for each in members]
        known = [watts for watts in powers if watts is not None]
        if measured is None or len(known) < len(powers) or not meter.is_fresh(at):
            yield Finding(gateway.name, None, why="not all of them can be read")
            continue
        if abs(measured) < rule.least:
            yield Finding(gateway.name, None, why="too little power to compare")
            continue
        data: dict[str, Value] = {
            "sum": shown(sum(known), "W"),
            "meter": shown(measured, "W"),
            "count": len(known),
        }
        yield Finding(gateway.name, 100.0 * (sum(known) - measured) / measured, data)


# --- Whole days -----------------------------------------------------------------------------------


def _yesterday(facts: Facts) -> str:
    return (date.fromisoformat(facts.days.today) - timedelta(days=1)).isoformat()


def _peers(facts: Facts, rule: "Rule") -> Iterator[tuple[Device, list[Device]]]:
    """Each microinverter with all of its gateway's."""
    for device in rule.subjects(facts):
        if device.through is not None and device.name in facts.days.panels:
            yield device, [d for d in facts.behind(device.through) if d.name in facts.days.panels]


def reference_kwh(energies: Sequence[float]) -> float:
    """What a panel of that day should have made: the median of its peers [kWh]."""
    return median(energies)


def panel_day(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """M1: yesterday's energy of a microinverter, of the median of its peers [%]."""
    days = facts.days
    if days.why_not:
        return
    day = _yesterday(facts)
    for device, family in _peers(facts, rule):
        others = [
            kwh
            for peer in family
            if peer is not device and (kwh := days.panels[peer.name].get(day)) is not None
        ]
        own = days.panels[device.name].get(day)
        if own is None or len(others) < 2:
            yield Finding(device.name, None, why="not enough is known of that day")
            continue
        reference = reference_kwh(others)
        if reference < rule.least:
            yield Finding(device.name, None, why="that day was too dark to compare")
            continue
        data: dict[str, Value] = {
            "day": day,
            "kwh": shown(own, "kWh"),
            "reference": shown(reference, "kWh"),
        }
        yield Finding(device.name, 100.0 * own / reference, data)


def panel_missing(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """M2: days since a microinverter made anything, while its peers did."""
    days = facts.days
    if days.why_not:
        return
    day = _yesterday(facts)
    first = (date.fromisoformat(days.today) - timedelta(days=rule.days)).isoformat()
    for device, family in _peers(facts, rule):
        known = {d: kwh for d, kwh in days.panels[device.name].items() if first <= d <= day}
        alive = [d for d, kwh in known.items() if kwh > 0.0]
        others = [
            kwh
            for peer in family
            if peer is not device and (kwh := days.panels[peer.name].get(day, 0.0)) > 0.0
        ]
        reference = reference_kwh(others) if others else 0.0
        if not alive:
            continue  # taken down long ago, or never seen
        if reference < rule.least:
            yield Finding(device.name, None, why="that day was too dark to compare")
            continue
        last = max(alive)
        gone = (date.fromisoformat(day) - date.fromisoformat(last)).days
        data: dict[str, Value] = {
            "day": day,
            "last": last,
            "reference": shown(reference, "kWh"),
        }
        yield Finding(device.name, gone, data)


def yield_percent(facts: Facts, rule: "Rule", at: float) -> Iterator[Finding]:
    """M5: yesterday's energy of the plant, of the mean of the days before it [%]."""
    days = facts.days
    if days.why_not:
        return
    day = date.fromisoformat(_yesterday(facts))
    before = [
        kwh
        for n in range(1, rule.days + 1)
        if (kwh := days.plant.get((day - timedelta(days=n)).isoformat())) is not None
    ]
    own = days.plant.get(day.isoformat())
    if own is None or len(before) < rule.enough:
        known = f"{len(before)} of the {rule.days} days before are known"
        yield Finding(PLANT, None, why=f"not enough data: {known}")
        return
    mean = sum(before) / len(before)
    if mean < rule.least:
        yield Finding(PLANT, None, why="the days before were too dark to compare")
        return
    data: dict[str, Value] = {
        "day": day.isoformat(),
        "kwh": shown(own, "kWh"),
        "known": len(before),
        "reference": shown(mean, "kWh"),
    }
    yield Finding(PLANT, 100.0 * own / mean, data)


@dataclass(frozen=True, slots=True)
class Kind:
    """A measure of the watch's own: how it is found, its unit, and what its text may name."""

    find: Measure
    unit: str
    fields: tuple[str, ...] = ()
    by_days: bool = False


MEASURES: Mapping[str, Kind] = {
    "sample_age_s": Kind(sample_age, "s", ("service",)),
    "sleeping_s": Kind(in_state("sleeping"), "s", ("reason",)),
    "mismatch_s": Kind(in_state("identity_mismatch"), "s", ("reason",)),
    "offline_s": Kind(in_state("offline"), "s", ("reason",)),
    "service_down_s": Kind(service_down, "s"),
    "broker_away_s": Kind(broker_away, "s"),
    "clock_offset_s": Kind(clock_offset, "s"),
    "line_errors_percent": Kind(line_errors, "%", ("damaged", "rounds")),
    "failed_commands": Kind(failed_commands, "", ("setting", "wanted", "stage", "detail", "by")),
    "writes_percent": Kind(writes, "%", ("setting", "today", "budget")),
    "disk_used_percent": Kind(disks, "%", ("folder", "free")),
    "relay_effect": Kind(relay_effect, "", ("position", "inverter", "volts", "elsewhere")),
    "string_share_percent": Kind(string_share, "%", ("string", "watts", "best")),
    "fleet_power_w": Kind(fleet_power, "W", ("count",)),
    "sum_difference_percent": Kind(sum_difference, "%", ("sum", "meter", "count")),
    "panel_day_percent": Kind(panel_day, "%", ("day", "kwh", "reference"), by_days=True),
    "panel_missing_days": Kind(panel_missing, "days", ("day", "last", "reference"), by_days=True),
    "yield_percent": Kind(yield_percent, "%", ("day", "kwh", "known", "reference"), by_days=True),
}


def kind_of(measure: str) -> Kind | None:
    """What a measure is; None when there is none of that name."""
    if measure in MEASURES:
        return MEASURES[measure]
    row = VOCABULARY.get(measure)
    return None if row is None else Kind(quantity, row.unit)
