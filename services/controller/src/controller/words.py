"""Rules read aloud: what a condition, a step, a rule says in a sentence. Pure."""

from collections.abc import Sequence
from functools import lru_cache

from sunmesh.messages import Value

from .rules import OPEN, Condition, Group, Plan, Rule, Source, Step

UNITS = {
    "v": "V",
    "a": "A",
    "w": "W",
    "va": "VA",
    "hz": "Hz",
    "percent": "%",
    "c": "°C",
    "kwh": "kWh",
    "ah": "Ah",
    "s": "s",
}
TESTS = {
    "at_least": "is {} or more",
    "above": "is above {}",
    "at_most": "is {} or less",
    "below": "is below {}",
    "is": "is {}",
    "is_not": "is not {}",
}


def quantity(source: Source) -> str:
    """``battery voltage`` of ``inverter.battery_voltage_v``."""
    words = source.name.split("_")
    if words[-1] in UNITS and len(words) > 1:
        words.pop()
    return " ".join(words)


def amount(source: Source, value: Value | tuple[str, ...]) -> str:
    """A value with its unit."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        unit = UNITS.get(source.name.rpartition("_")[2], "")
        return f"{value:.6g} {unit}".strip()
    if isinstance(value, list | tuple):
        return " or ".join(str(item) for item in value)
    return str(value)


def condition(item: Condition) -> str:
    """``the battery voltage of inverter is 51.2 V or less``."""
    source = item.source
    if isinstance(item.against, Source):
        against = f"its {quantity(item.against)}"
    else:
        against = amount(source, item.against)
    each = "every " if item.every else "the "
    kind = " set" if source.kind == "setting" else ""
    named = f"{each}{quantity(source)} of {source.device}"
    return f"{named} {TESTS[item.test].format(against).replace('is', f'is{kind}', 1)}"


@lru_cache(512)
def group(item: Group) -> str:
    """Conditions with their samples."""
    text = _and([condition(c) for c in item.conditions])
    match item.kind:
        case "now":
            return text
        case "mean":
            return f"{text} as the mean of {item.window} minutes"
    return f"{text} in {item.least} of {item.window} minutes"


def step(item: Step) -> str:
    """What is done, and when it is only done sometimes."""
    if item.setting is None:
        text = (
            "disconnects the grid by the relay"
            if item.position == OPEN
            else "connects the grid by the relay"
        )
    elif item.base is not None:
        way = "lowers" if item.by < 0 else "raises"
        same = item.base == item.setting
        size = amount(item.setting, abs(item.by))
        target = f"the {quantity(item.setting)}"
        text = (
            f"{way} {target} by {size}"
            if same
            else f"sets {target} {size} {'below' if item.by < 0 else 'above'} the "
            f"{quantity(item.base)} of before"
        )
        text += f", not below {amount(item.setting, item.floor)}"
    else:
        text = f"sets the {quantity(item.setting)} to {amount(item.setting, item.value)}"
    if item.given:
        text += f" (where {_and([condition(c) for c in item.given])})"
    return text


def rule(item: Rule, minute_s: float = 60.0) -> str:
    """A rule as a paragraph."""
    kind = "protection" if item.protects else "comfort"
    parts = [f"{item.says}."]
    hours = ""
    if item.hours:
        hours = f" between {item.hours[0]:%H:%M} and {item.hours[1]:%H:%M} local time"
    parts.append(f"When {_and([group(g) for g in item.when])}{hours}, it")
    parts[-1] += f" {_and([step(s) for s in item.steps])}."
    late = ", and with its hours in any case" if item.ends_with_hours else ""
    parts.append(f"It is over when {_and([group(g) for g in item.until])}{late}.")
    if item.temporary:
        when = "when it is over, " if item.restores else ""
        parts.append(
            f"What was set before is put back {when}when it is switched off, or after a crash."
        )
    limits = (
        f"It lasts {item.min_on_min:g} minutes and rests {item.min_off_min:g} at least, acts again "
        f"after {item.again_min:g}, and {item.most_switches_day} times a day at most "
        f"({kind}, priority {item.priority}, {item.mode})."
    )
    parts.append(limits)
    if item.positions:
        parts.append("Where it cannot see, the grid is connected.")
    else:
        parts.append("Where it cannot see, settings stay as they are.")
    if minute_s != 60.0:
        parts.append(f"(A minute lasts {minute_s:g} s here.)")
    return " ".join(parts)


def plan(item: Plan) -> list[str]:
    """All rules, in the order in which they are evaluated, and what is left out."""
    lines: list[str] = []
    for each in item.rules:
        lines += [f"{each.name}", f"    {rule(each, item.config.minute_s)}", ""]
    for name, why in sorted(item.left_out.items()):
        lines += [f"{name}", f"    left out: {why}", ""]
    return lines[:-1]


def settings(values: dict[str, Value]) -> str:
    """``inverter.a = 1, inverter.b = x``."""
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _and(texts: Sequence[str]) -> str:
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"
