"""What the controller remembers, and what it sees. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec
from sunmesh import clock
from sunmesh.messages import Value
from sunmesh.voice import Condition as Alarm

from .config import Mode
from .history import History
from .rules import Position

DAY_MS = 86_400_000


class RuleState(msgspec.Struct):
    """One rule.

    Attributes:
        is_active: it has begun and is not over.
        since_ms: when that last changed.
        acts_ms: when it switched something, within the last day.
        blind_ms: since when it cannot see; 0 = it can.
        owes: it wanted the grid open and had to wait.
    """

    is_active: bool = False
    since_ms: int = 0
    acts_ms: list[int] = []
    blind_ms: int = 0
    owes: bool = False


class Forced(msgspec.Struct):
    """A setting that a rule has changed for a while, and what it was before.

    Attributes:
        value: what the rule set; ``restore`` what was set before.
        rule: which rule.
        ts_ms: when.
        found: it was there at the start: it is put back as soon as its rule is over.
    """

    value: Value
    restore: Value
    rule: str
    ts_ms: int
    found: bool = False


class Pending(msgspec.Struct):
    """A batch that was sent and has no last word yet."""

    id: str
    rules: list[str]
    values: dict[str, Value]
    sent_ms: int
    done: dict[str, str] = {}


class Hold(msgspec.Struct):
    """The relay is open for a rule; ``sent_ms`` is of the clock that no one sets."""

    rule: str
    since_ms: int
    sent_ms: int


class State(msgspec.Struct):
    """What goes from one evaluation to the next.

    Only what :data:`LASTING` names outlives the process: a start begins with the grid connected,
    nothing pending, and all its good minutes still to come.

    Attributes:
        mode: of the whole controller.
        modes: of rules, where somebody has changed it, by name.
        rules: by name.
        forced: by ``device.setting``.
        writes_ms: when a setting was written within the last day, by ``device.setting``.
        retry_ms: not to be tried before that moment, by ``device.setting``, or ``relay``.
        failures: why the last attempt failed, by rule.
        unsure: what it wanted then, by rule and ``device.setting``; it may be so all the same.
        hold: the relay is open for a rule.
        pending: the batch under way, by device.
        read_after_ms: settings that were read before that moment are of before a command.
        good_ms: since when all is well; 0 = it is not. This one and the next two are of the
            clock that no one sets.
        connected_ms: when the grid was last connected.
        grid_asked_ms: since when the grid is waited for; 0 = it is not.
        position: where the relay was last seen.
        spent_until_ms: what was remembered cannot be read: until then budgets count as used up.
    """

    mode: Mode = "off"
    modes: dict[str, Mode] = {}
    rules: dict[str, RuleState] = {}
    forced: dict[str, Forced] = {}
    writes_ms: dict[str, list[int]] = {}
    retry_ms: dict[str, int] = {}
    failures: dict[str, str] = {}
    unsure: dict[str, dict[str, Value]] = {}
    hold: Hold | None = None
    pending: dict[str, Pending] = {}
    read_after_ms: dict[str, int] = {}
    good_ms: int = 0
    connected_ms: int = 0
    grid_asked_ms: int = 0
    position: str = ""
    spent_until_ms: int = 0

    def copy(self) -> "State":
        """Another one that shares nothing that changes."""
        return msgspec.convert(msgspec.to_builtins(self), State)

    def lasting(self) -> dict[str, Any]:
        """What is written to disk."""
        found = msgspec.to_builtins(self)
        return {name: found[name] for name in LASTING}


LASTING = ("mode", "modes", "rules", "forced", "writes_ms", "retry_ms", "spent_until_ms")


def remembered(content: Mapping[str, Any], now_ms: int, *, is_damaged: bool = False) -> State:
    """The state at a start.

    What cannot be understood is forgotten, and then the safe thing is assumed: mode off, budgets of
    writes used up.
    """
    try:
        state = msgspec.convert({k: v for k, v in content.items() if k in LASTING}, State)
    except msgspec.ValidationError:
        state, is_damaged = State(), True
    if is_damaged:
        state.spent_until_ms = now_ms + DAY_MS
    for forced in state.forced.values():
        forced.found = True
    for kept in state.rules.values():
        kept.owes, kept.blind_ms = False, 0
    return state


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as it is now.

    Attributes:
        state: ``online``, or what its collector says instead; empty = never heard.
        limit_s: a value that is older is not acted upon [s].
        ages_s: how long ago each quantity was last good: readable, not suspect, not stale [s].
        values: those.
        sample_ms: time of the newest sample.
        settings: as last read.
        settings_ms: when; 0 = never.
        settings_age_s: how long ago [s].
        settings_limit_s: older settings are not acted upon [s].
    """

    state: str = ""
    limit_s: float = 15.0
    ages_s: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    sample_ms: int = 0
    settings: Mapping[str, Value] = field(default_factory=dict)
    settings_ms: int = 0
    settings_age_s: float = 1e9
    settings_limit_s: float = 180.0

    def age_s(self, name: str) -> float:
        """How long ago the quantity was last good; very long, if never [s]."""
        return self.ages_s.get(name, 1e9)

    def is_fresh(self, name: str) -> bool:
        """Whether the quantity may be acted upon."""
        return -self.limit_s <= self.age_s(name) <= self.limit_s

    @property
    def has_settings(self) -> bool:
        """Whether its settings may be acted upon."""
        limit = self.settings_limit_s
        return self.settings_ms > 0 and -limit <= self.settings_age_s <= limit


@dataclass(frozen=True, slots=True)
class View:
    """Everything that an evaluation looks at.

    Attributes:
        now: the moment, UTC.
        history: the last minutes.
        devices: as they are, by name.
        zone: the site's own.
        token: makes the ids of commands this evaluation's own.
    """

    now: datetime
    history: History
    devices: Mapping[str, Seen]
    zone: tzinfo = UTC
    token: str = ""
    monotonic_ms: int = 0
    """A clock that no one sets; the time of day where there is none."""
    now_ms: int = 0
    """``now`` in milliseconds since 1970."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "now_ms", clock.epoch_ms(self.now))
        if not self.monotonic_ms:
            object.__setattr__(self, "monotonic_ms", self.now_ms)


@dataclass(frozen=True, slots=True)
class Batch:
    """Settings of one device, in their order."""

    id: str
    device: str
    values: Mapping[str, Value]
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class RelayWish:
    """A command to the relay; ``lease_s`` with ``grid_open`` only."""

    id: str
    position: Position
    rule: str
    reason: str
    lease_s: float | None = None
    renews: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule saw, wanted, did, and why. ``kind`` is the outcome in one word."""

    rule: str
    mode: Mode
    saw: Mapping[str, Value]
    wants: Mapping[str, Value] | None
    did: str
    why: str
    kind: str
    changed: bool = False
    """Something was asked for, or taken back, in this evaluation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation comes to.

    Attributes:
        state: for the next one; to be on disk before anything is sent.
        decisions: one for each rule.
        batches: to be sent.
        relay: to be sent.
        alarms: what holds now, by code.
        is_good: all that the relay depends on was seen and understood.
    """

    state: State
    decisions: tuple[Decision, ...]
    batches: tuple[Batch, ...]
    relay: RelayWish | None
    alarms: Mapping[str, Alarm]
    is_good: bool
