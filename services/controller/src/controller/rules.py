"""Rules as they are evaluated: names resolved, numbers filled in, and checked as a whole. Pure.

What is not sound is refused here with one line: a rule without a way back, thresholds that touch,
numbers in the wrong order. Nothing of a rule is a program: there is no text that is executed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import Literal, NamedTuple

from sunmesh.errors import ConfigError
from sunmesh.messages import Value

from .config import (
    HOURS,
    SAMPLES,
    ConditionTable,
    ControllerConfig,
    GroupTable,
    Mode,
    RuleConfig,
    SettingRef,
    StepTable,
    Threshold,
)

Position = Literal["grid_open", "grid_connected"]
OPEN: Position = "grid_open"
CONNECTED: Position = "grid_connected"

ROLES = ("inverter", "battery", "relay")
NUMERIC = ("at_least", "above", "at_most", "below")
UPWARD = ("at_least", "above")


class RuleError(ConfigError):
    """A rule that must not be loaded; the text begins with the key."""


class Source(NamedTuple):
    """What is looked at: ``kind`` is ``quantity`` or ``setting``."""

    kind: str
    device: str
    name: str

    def __str__(self) -> str:
        """As it is written in a rule."""
        return f"{self.device}.{self.name}"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of ``source`` with ``against``; of a list any element, or ``every``."""

    source: Source
    test: str
    against: float | bool | tuple[str, ...] | Source
    every: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether it has a threshold."""
        return self.test in NUMERIC

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that must be known."""
        if isinstance(self.against, Source):
            return (self.source, self.against)
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions that hold together: in ``least`` of the last ``window`` minutes.

    ``kind`` is ``count``; ``mean`` compares the mean of the window, which needs all of its minutes
    but one; ``now`` looks at the newest reading.
    """

    kind: Literal["count", "mean", "now"]
    least: int
    window: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, where ``given`` holds.

    A step without ``setting`` moves the relay to ``position``. A setting becomes ``value``, or the
    value of ``base`` moved ``by`` so much, but no lower than ``floor``.
    """

    setting: Source | None = None
    position: Position | None = None
    value: Value = None
    base: Source | None = None
    by: float = 0.0
    floor: float = 0.0
    given: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; the attributes are those of :class:`~controller.config.RuleConfig`."""

    name: str
    says: str
    protects: bool
    mode: Mode
    priority: int
    hours: tuple[time, time] | None
    ends_with_hours: bool
    when: tuple[Group, ...]
    until: tuple[Group, ...]
    steps: tuple[Step, ...]
    temporary: bool
    restores: bool
    min_on_min: float
    min_off_min: float
    again_min: float
    most_switches_day: int
    sources: tuple[Source, ...]
    """Everything that must be known before the rule may act."""

    @property
    def positions(self) -> frozenset[Position]:
        """Where it may move the relay."""
        return frozenset(step.position for step in self.steps if step.position is not None)

    @property
    def longest(self) -> int:
        """How many minutes back it looks."""
        return max(group.window for group in (*self.when, *self.until))


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that :func:`~controller.engine.decide` is told once.

    Attributes:
        config: ``[controller]``.
        zone: the site's.
        rules: protection first, then by priority.
        left_out: why a rule of the preset is not there, by its name.
        numbers: as they are used.
        has_relay: there is a relay to lend.
    """

    config: ControllerConfig
    zone: tzinfo
    rules: tuple[Rule, ...]
    left_out: Mapping[str, str]
    numbers: Mapping[str, float]
    has_relay: bool

    @property
    def minute_ms(self) -> int:
        """Length of a minute of the rules [ms]."""
        return round(self.config.minute_s * 1000)

    @property
    def longest(self) -> int:
        """How many minutes back any rule looks."""
        return max((rule.longest for rule in self.rules), default=1)

    @property
    def sources(self) -> frozenset[Source]:
        """Everything that any rule looks at."""
        return frozenset(source for rule in self.rules for source in rule.sources)

    def rule(self, name: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)


class Names:
    """Resolves what rules call their devices, and their numbers.

    Args:
        config: says which devices are inverter, battery and relay.
        devices: those of the site.
        numbers: by name.
    """

    def __init__(
        self, config: ControllerConfig, devices: frozenset[str], numbers: Mapping[str, float]
    ) -> None:
        self.devices = devices
        self.numbers = numbers
        self.roles = {role: getattr(config, role) for role in ROLES}
        self.missing: set[str] = set()

    def source(self, where: str, kind: str, text: str) -> Source:
        """``device.name`` as a source; a device that is not there is noted in ``missing``."""
        device, _, name = text.partition(".")
        if not device or not name or "." in name:
            raise RuleError(f'{where}: must be "device.name", got {text!r}')
        if device not in self.devices:
            device = self.roles.get(device, device)
        if device not in self.devices:
            self.missing.add(device)
        return Source(kind, device, name)

    def number(self, where: str, value: Threshold) -> float | Source:
        """A number, one by its name, or a setting."""
        if isinstance(value, SettingRef):
            return self.source(where, "setting", value.setting)
        if isinstance(value, str):
            if value not in self.numbers:
                raise RuleError(f"{where}: no number is called {value!r}")
            return self.numbers[value]
        return float(value)

    def condition(self, where: str, table: ConditionTable) -> Condition:
        """One comparison."""
        kind = "quantity" if table.quantity else "setting"
        source = self.source(f"{where}.{kind}", kind, table.quantity or table.setting)
        for test in NUMERIC:
            limit: Threshold | None = getattr(table, test)
            if limit is not None:
                return Condition(source, test, self.number(f"{where}.{test}", limit), table.every)
        if table.is_ is not None:
            return Condition(source, "is", _words(table.is_), table.every)
        return Condition(source, "is_not", _words(table.is_not), table.every)

    def group(self, where: str, table: GroupTable) -> Group:
        """Conditions that hold together."""
        match = SAMPLES.fullmatch(table.samples)
        few, many, mean = match.groups() if match else (None, None, None)
        conditions = tuple(
            self.condition(f"{where}.all[{number}]", each) for number, each in enumerate(table.all)
        )
        if mean:
            if any(not c.is_numeric for c in conditions):
                raise RuleError(f"{where}.samples: only numbers have a mean")
            return Group("mean", max(1, int(mean) - 1), int(mean), conditions)
        if few and many:
            return Group("count", int(few), int(many), conditions)
        return Group("now", 1, 1, conditions)

    def step(self, where: str, table: StepTable) -> Step:
        """One thing that is done."""
        given = tuple(
            self.condition(f"{where}.given[{number}]", each)
            for number, each in enumerate(table.given)
        )
        if any(condition.source.kind != "setting" for condition in given):
            raise RuleError(f"{where}.given: asks for settings; what is measured belongs to when")
        if table.relay is not None:
            return Step(position=table.relay, given=given)
        setting = self.source(f"{where}.set", "setting", table.set)
        if table.from_:
            base = self.source(f"{where}.from", "setting", table.from_)
            floor = self.number(f"{where}.floor", table.floor or 0.0)
            if isinstance(floor, Source):
                raise RuleError(f"{where}.floor: must be a number")
            by = table.by or 0.0
            return Step(setting, base=base, by=by, floor=floor, given=given)
        value: Value = table.to
        if isinstance(value, str) and value in self.numbers:
            value = self.numbers[value]
        return Step(setting, value=value, given=given)


def plan(
    config: ControllerConfig,
    zone: tzinfo,
    devices: frozenset[str],
    preset: Mapping[str, RuleConfig],
    own: Mapping[str, RuleConfig],
    numbers: Mapping[str, float],
    orders: tuple[tuple[str, ...], ...] = (),
) -> Plan:
    """Everything checked and resolved.

    Args:
        config: ``[controller]``.
        zone: the site's.
        devices: the site's, by name.
        preset: rules of the preset that the site does not change; they are left out where the site
            lacks one of their devices.
        own: the site's rules.
        numbers: by name.
        orders: names that must rise from left to right (N1).

    Raises:
        RuleError: with the key and the reason.
    """
    for order in orders:
        known = [name for name in order if name in numbers]
        for low, high in pairwise(known):
            if not numbers[low] < numbers[high]:
                raise RuleError(
                    f"controller.numbers: {low} ({numbers[low]:g}) must be below {high} "
                    f"({numbers[high]:g})"
                )
    has_relay = config.relay in devices
    rules: list[Rule] = []
    left_out: dict[str, str] = {}
    for name, table in {**preset, **own}.items():
        names = Names(config, devices, numbers)
        rule = _rule(f"rules.{name}", name, table, names, has_relay)
        if not names.missing and rule is not None:
            rules.append(rule)
        elif name in own:
            lacks = sorted(names.missing) or [config.relay]
            raise RuleError(f"rules.{name}: no device is called {', '.join(lacks)}")
        else:
            lacks = sorted(names.missing) or [config.relay]
            left_out[name] = f"no device is called {', '.join(lacks)}"
    rules.sort(key=lambda rule: (not rule.protects, -rule.priority, rule.name))
    return Plan(config, zone, tuple(rules), left_out, dict(numbers), has_relay)


def _rule(where: str, name: str, table: RuleConfig, names: Names, has_relay: bool) -> Rule | None:
    """One rule; None when nothing is left of it without a relay."""
    when = tuple(names.group(f"{where}.when[{n}]", g) for n, g in enumerate(table.when))
    until = tuple(names.group(f"{where}.until[{n}]", g) for n, g in enumerate(table.until))
    steps = tuple(names.step(f"{where}.do[{n}]", s) for n, s in enumerate(table.do))
    _check_hysteresis(where, when, until)
    _check_steps(where, steps)
    if not has_relay:
        steps = tuple(step for step in steps if step.position is None)
    if not steps:
        return None
    hours = None
    match = HOURS.fullmatch(table.hours)
    if match:
        a, b, c, d = (int(text) for text in match.groups())
        hours = (time(a, b), time(c, d))
        if hours[0] == hours[1]:
            raise RuleError(f'{where}.hours: begin and end are the same; write "always"')
    return Rule(
        name=name,
        says=table.says.strip(),
        protects=table.protects,
        mode=table.mode,
        priority=table.priority,
        hours=hours,
        ends_with_hours=table.ends_with_hours,
        when=when,
        until=until,
        steps=steps,
        temporary=table.temporary,
        restores=table.afterwards == "restore",
        min_on_min=table.min_on_min,
        min_off_min=table.min_off_min,
        again_min=table.again_min,
        most_switches_day=table.most_switches_day,
        sources=_sources(when, until, steps),
    )


def _sources(
    when: tuple[Group, ...], until: tuple[Group, ...], steps: tuple[Step, ...]
) -> tuple[Source, ...]:
    found = {s for group in (*when, *until) for c in group.conditions for s in c.sources}
    for step in steps:
        found |= {s for c in step.given for s in c.sources}
        found |= {s for s in (step.setting, step.base) if s is not None}
    return tuple(sorted(found))


def _check_hysteresis(where: str, when: tuple[Group, ...], until: tuple[Group, ...]) -> None:
    """Two thresholds that lie apart, for what is measured; a way back for everything else."""
    begins = [c for group in when for c in group.conditions]
    ends = [c for group in until for c in group.conditions]
    measured = [c for c in begins if c.is_numeric and c.source.kind == "quantity"]
    pairs = 0
    for on in measured:
        for off in ends:
            if off.source != on.source or not off.is_numeric:
                continue
            if (on.test in UPWARD) == (off.test in UPWARD):
                raise RuleError(
                    f"{where}.until: {on.source} must come back over the other side of the "
                    "threshold that it began at"
                )
            low, high = (off, on) if on.test in UPWARD else (on, off)
            if (
                isinstance(low.against, float)
                and isinstance(high.against, float)
                and not low.against < high.against
            ):
                raise RuleError(
                    f"{where}.until: {on.source} needs two thresholds that lie apart, got "
                    f"{on.against} and {off.against}"
                )
            pairs += 1
    if measured and not pairs:
        names = ", ".join(sorted({str(c.source) for c in measured}))
        raise RuleError(f"{where}.until: needs the second threshold of {names}")
    if not measured and not {c.source for c in begins} & {c.source for c in ends}:
        raise RuleError(f"{where}.until: says nothing about what the rule began with")


def _check_steps(where: str, steps: tuple[Step, ...]) -> None:
    if len({step.position for step in steps if step.position is not None}) > 1:
        raise RuleError(f"{where}.do: moves the relay both ways")
    if len({step.setting.device for step in steps if step.setting is not None}) > 1:
        raise RuleError(f"{where}.do: sets more than one device")


def _words(value: bool | str | list[str] | None) -> bool | tuple[str, ...]:
    """Words as a tuple, a truth as it is."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else bool(value)


def in_hours(hours: tuple[time, time] | None, moment: datetime, zone: tzinfo) -> bool:
    """Whether ``moment`` lies in the hours of a rule, by the site's own clock.

    The end is not part of it; an end before the begin is on the next day. An hour that comes twice
    (clocks go back) counts twice; hours that a day does not have (clocks go forward) are the same
    length of time after the jump, so that what is done each night is done in that one, too.
    """
    if hours is None:
        return True
    begin, end = hours
    local = moment.astimezone(zone)
    at = local.time()
    if (begin <= at < end) if begin < end else (at >= begin or at < end):
        return True
    for day in (local.date(), local.date() - timedelta(days=1)):
        lost = _skipped(day, begin, end, zone)
        if lost is not None and lost[0] <= moment < lost[1]:
            return True
    return False


def _skipped(day: date, begin: time, end: time, zone: tzinfo) -> tuple[datetime, datetime] | None:
    """Where hours go that ``day`` does not have; None when it has them."""
    last = day if begin < end else day + timedelta(days=1)
    start = datetime.combine(day, begin, zone).astimezone(UTC)
    finish = datetime.combine(last, end, zone).astimezone(UTC)
    if finish > start:
        return None
    length = datetime.combine(last, end) - datetime.combine(day, begin)
    return start, start + length
