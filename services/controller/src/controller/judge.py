"""What one rule sees: whether it begins, is over, and what it would do. Pure."""

from dataclasses import dataclass, field

from sunmesh.messages import Scalar, Value

from . import words
from .rules import UPWARD, Condition, Group, Rule, Source, Step, in_hours
from .state import View

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule sees.

    Attributes:
        saw: newest values, and how often its conditions held.
        holds: all of ``when`` holds, in its hours.
        is_over: all of ``until`` holds, or its hours are over and it ends with them.
        blind: what it cannot see, in words; empty = it sees all.
        blind_s: how old the oldest of that is [s].
        blind_device: whose that is.
        waits: the first thing of ``when`` that does not hold, in words.
        settings: what it would set, in its order.
    """

    saw: dict[str, Value] = field(default_factory=dict)
    holds: bool = False
    is_over: bool = False
    blind: str = ""
    blind_s: float = 0.0
    blind_device: str = ""
    waits: str = ""
    settings: dict[Source, Value] = field(default_factory=dict)


def judge(rule: Rule, view: View, *, is_active: bool) -> Verdict:
    """Look at everything that ``rule`` looks at; whether it is over only while it lasts."""
    saw: dict[str, Value] = {}
    blind, blind_s, blind_device = "", 0.0, ""
    for source in rule.sources:
        value, age_s, limit_s = _newest(source, view)
        saw[str(source)] = _told(source, value, rule)
        if value is None or not -limit_s <= age_s <= limit_s:
            if not blind:
                blind = _missing(source, age_s, limit_s, view)
                blind_device = source.device
            blind_s = max(blind_s, age_s)
    waits: Group | None = None
    for place, group in enumerate(rule.when, 1):
        if group.kind == "count":
            held = counted(group, view)
            saw[f"when {place}"] = f"{held} of {group.window}, needs {group.least}"
            is_short = held < group.least
        else:
            is_short = not blind and not is_met(group, view)
        waits = waits or (group if is_short else None)
    if blind:
        return Verdict(saw, blind=blind, blind_s=blind_s, blind_device=blind_device)
    hours = in_hours(rule.hours, view.now, view.zone)
    text = "" if waits is None else f"waits until {words.group(waits)}"
    if waits is None and not hours:
        text = f"only between {rule.hours[0]:%H:%M} and {rule.hours[1]:%H:%M}" if rule.hours else ""
    return Verdict(
        saw,
        holds=waits is None and hours,
        is_over=is_active
        and (
            (rule.ends_with_hours and not hours) or all(is_met(group, view) for group in rule.until)
        ),
        waits=text,
        settings=wishes(rule.steps, view) if waits is None else {},
    )


def wishes(steps: tuple[Step, ...], view: View) -> dict[Source, Value]:
    """What the steps set now, in their order."""
    found: dict[Source, Value] = {}
    for step in steps:
        if step.setting is None or not all(holds_now(c, view) for c in step.given):
            continue
        if step.base is None:
            found[step.setting] = step.value
            continue
        base, now = _setting(step.base, view), _setting(step.setting, view)
        if not isinstance(base, int | float) or not isinstance(now, int | float):
            continue
        value = round(max(base + step.by, step.floor), 1)
        # what moves down never moves up: below its floor it stays
        if (step.by < 0) == (value < now):
            found[step.setting] = value
    return found


def is_met(group: Group, view: View) -> bool:
    """Whether a group holds now."""
    match group.kind:
        case "now":
            return all(holds_now(c, view) for c in group.conditions)
        case "mean":
            return all(_mean_holds(c, group, view) for c in group.conditions)
    return counted(group, view) >= group.least


def counted(group: Group, view: View) -> int:
    """In how many of its minutes a group held; an unknown minute is one in which it did not."""
    history = view.history
    end = history.minute(view.now_ms)
    memo = history.memo.setdefault(id(group), {})  # the groups of a plan live as long as it
    held = 0
    for minute in range(end - group.window, end):
        truth = memo.get(minute)
        if truth is None:
            truth = memo[minute] = _held(group, minute, view) is True
        held += truth
    return held


def _held(group: Group, minute: int, view: View) -> bool | None:
    truths = [
        _compare(
            c,
            view.history.value(c.source, minute),
            view.history.value(c.against, minute) if isinstance(c.against, Source) else c.against,
        )
        for c in group.conditions
    ]
    return None if None in truths else all(truths)


def _mean_holds(condition: Condition, group: Group, view: View) -> bool:
    end = view.history.minute(view.now_ms)
    minutes = [view.history.value(condition.source, m) for m in range(end - group.window, end)]
    known = [m if isinstance(m, list) else [m] for m in minutes if m is not None]
    if len(known) < group.least:
        return False
    means: list[Scalar] = []
    for place in range(max(len(row) for row in known)):
        column = [row[place] for row in known if place < len(row)]
        numbers = [n for n in column if isinstance(n, int | float) and not isinstance(n, bool)]
        if len(numbers) >= group.least:
            means.append(round(sum(numbers) / len(numbers), 6))
    against: object = condition.against
    if isinstance(against, Source):
        against = _setting(against, view)
    return _compare(condition, means, against) is True


def holds_now(condition: Condition, view: View) -> bool:
    """Whether a condition holds for the newest readings."""
    against: object = condition.against
    if isinstance(against, Source):
        against = _newest(against, view)[0]
    return _compare(condition, _newest(condition.source, view)[0], against) is True


def _compare(condition: Condition, value: Value, against: object) -> bool | None:
    """Whether ``value`` passes; None when that cannot be known."""
    if isinstance(value, list):
        truths = [_compare(condition, item, against) for item in value]
        known = [truth for truth in truths if truth is not None]
        if not known or (condition.every and len(known) < len(truths)):
            return None
        return all(known) if condition.every else any(known)
    if value is None or against is None:
        return None
    match condition.test:
        case "is":
            return value in against if isinstance(against, tuple) else value is against
        case "is_not":
            return value not in against if isinstance(against, tuple) else value is not against
    if isinstance(value, bool | str) or not isinstance(against, int | float):
        return None
    match condition.test:
        case "at_least":
            return value >= against - ROUNDING
        case "above":
            return value > against + ROUNDING
        case "at_most":
            return value <= against + ROUNDING
    return value < against - ROUNDING


def _newest(source: Source, view: View) -> tuple[Value, float, float]:
    """Value, age and limit [s]."""
    seen = view.devices.get(source.device)
    if seen is None:
        return None, 1e9, 0.0
    if source.kind == "setting":
        return seen.settings.get(source.name), seen.settings_age_s, seen.settings_limit_s
    return seen.values.get(source.name), seen.age_s(source.name), seen.limit_s


def _setting(source: Source, view: View) -> Value:
    return _newest(source, view)[0]


def _missing(source: Source, age_s: float, limit_s: float, view: View) -> str:
    seen = view.devices.get(source.device)
    what = f"the {words.quantity(source)} of {source.device}"
    if source.kind == "setting":
        what += " as it is set"
    state = (
        f" ({source.device} is {seen.state})" if seen and seen.state not in ("", "online") else ""
    )
    if age_s >= 1e8:
        return f"{what} is not known{state}"
    if age_s < -limit_s:
        return f"{what} was read {-age_s:.0f} s in the future: a clock is wrong"
    if age_s > limit_s:
        return f"{what} is {age_s:.0f} s old, and {limit_s:.0f} s is the limit{state}"
    return f"{what} is not known{state}"


def _told(source: Source, value: Value, rule: Rule) -> Value:
    """A list of numbers as the one that matters."""
    if not isinstance(value, list):
        return value
    numbers = [n for n in value if isinstance(n, int | float) and not isinstance(n, bool)]
    if not numbers:
        return None
    tests = {c.test for group in rule.when for c in group.conditions if c.source == source}
    return max(numbers) if tests & set(UPWARD) else min(numbers)
