"""The tables ``[controller]`` and ``[rules.NAME]`` of ``site.toml``, as they are written."""

import re
from typing import Literal

import msgspec

Mode = Literal["off", "shadow", "on"]
MODES: tuple[Mode, ...] = ("off", "shadow", "on")

LONGEST_MIN = 120
"""No rule looks further back than that."""

HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
SAMPLES = re.compile(r"now|(\d{1,3}) of (\d{1,3})|mean of (\d{1,3})")


class ControllerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the rules are evaluated, and of which devices they speak.

    Attributes:
        preset: rules to begin with; empty for none.
        inverter, battery, relay: the devices that presets mean by these words.
        numbers: other values for the numbers of the preset, and numbers for rules of your own.
        interval_s: pause between two evaluations [s].
        minute_s: how long a minute of the rules lasts; shorter ones are for demonstrations [s].
        lease_s: for how long the relay is asked to stay open, each time [s].
        fresh_periods: a sample, or a reading of settings, that is older than so many of its own
            periods is not acted upon.
        poll_interval_s: the period of a device that tells none [s].
        recover_min: so long all must be well before the grid may be opened again [min].
        dwell_min: so long the grid stays connected before it may be opened again [min].
        retry_min: a setting that could not be set is not tried again sooner [min].
        answer_s: a command without a last word after that has failed [s].
        writes_per_day: of one setting in 24 hours; protection may use
        protection_writes_per_day.
        grid_wait_min: a grid that was asked for and is not there after that is an alarm [min].
        repeat_min: a decision that stays the same is published again after that [min].
        state_dir: where what must not be forgotten is kept; seen from site.toml's folder.
    """

    preset: str = "lifepo4-16s-axpert"
    inverter: str = "inverter"
    battery: str = "battery"
    relay: str = "grid-relay"
    numbers: dict[str, float] = {}
    interval_s: float = 60.0
    minute_s: float = 60.0
    lease_s: float = 180.0
    fresh_periods: float = 3.0
    poll_interval_s: float = 5.0
    recover_min: float = 5.0
    dwell_min: float = 5.0
    retry_min: float = 10.0
    answer_s: float = 90.0
    writes_per_day: int = 12
    protection_writes_per_day: int = 20
    grid_wait_min: float = 3.0
    repeat_min: float = 15.0
    state_dir: str = "state"

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        for name, low, high in (
            ("interval_s", 0.2, 600.0),
            ("minute_s", 0.2, 60.0),
            ("lease_s", 1.0, 600.0),
            ("fresh_periods", 1.0, 20.0),
            ("poll_interval_s", 0.1, 600.0),
            ("recover_min", 1.0, 120.0),
            ("dwell_min", 0.0, 120.0),
            ("retry_min", 1.0, 1440.0),
            ("answer_s", 1.0, 600.0),
            ("grid_wait_min", 1.0, 60.0),
            ("repeat_min", 0.0, 1440.0),
            ("writes_per_day", 1, 100),
            ("protection_writes_per_day", 1, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low:g} to {high:g}, got {value:g}")
        if self.lease_s < 2 * self.interval_s:
            raise ValueError(
                f"lease_s must be twice interval_s or more, got {self.lease_s:g}: one late "
                "evaluation would connect the grid"
            )


class SettingRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A threshold that a device holds: ``{ setting = "inverter.redischarge_voltage_v" }``."""

    setting: str


Threshold = float | str | SettingRef


class ConditionTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One comparison. ``quantity`` is measured, ``setting`` is read from the device's settings."""

    quantity: str = ""
    setting: str = ""
    at_least: Threshold | None = None
    above: Threshold | None = None
    at_most: Threshold | None = None
    below: Threshold | None = None
    is_: bool | str | list[str] | None = msgspec.field(name="is", default=None)
    is_not: bool | str | list[str] | None = None
    every: bool = False

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if bool(self.quantity) == bool(self.setting):
            raise ValueError('quantity must be given, or setting: "device.name"')
        tests = [self.at_least, self.above, self.at_most, self.below, self.is_, self.is_not]
        if sum(test is not None for test in tests) != 1:
            raise ValueError(
                "at_least must be given, or one other of above, at_most, below, is, is_not"
            )


class GroupTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Comparisons that hold together in ``samples``: ``9 of 10``, ``mean of 4`` or ``now``."""

    samples: str
    all: list[ConditionTable]

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        match = SAMPLES.fullmatch(self.samples)
        if not match:
            raise ValueError('samples must be like "9 of 10", "mean of 4" or "now"')
        few, many, mean = (int(text) if text else 0 for text in match.groups())
        if self.samples != "now" and not (1 <= few <= many <= LONGEST_MIN or mean):
            raise ValueError(f"samples must be at least 1 and at most {LONGEST_MIN}")
        if mean > LONGEST_MIN:
            raise ValueError(f"samples must be at most {LONGEST_MIN}")
        if not self.all:
            raise ValueError("all must hold a condition")


class StepTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is done: ``relay`` to a position, or ``set`` a setting ``to`` a value.

    ``from`` a setting as it is, moved ``by`` so much and not below ``floor``, where the new value
    follows from an old one. ``given`` says when.
    """

    relay: Literal["grid_open", "grid_connected"] | None = None
    set: str = ""
    to: float | str | bool | None = None
    from_: str = msgspec.field(name="from", default="")
    by: float | None = None
    floor: float | str | None = None
    given: list[ConditionTable] = []

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if (self.relay is None) == (not self.set):
            raise ValueError('relay must be given, or set: "device.setting"')
        if self.set and (self.to is None) == (not self.from_):
            raise ValueError("to must be given, or from, by and floor")
        if self.from_ and (self.by is None or self.floor is None):
            raise ValueError("floor must be given, and by: what moves needs an end")


class SafeTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a rule falls to when it cannot see: the grid connected, settings left as they are."""

    relay: Literal["grid_connected"] | None = None
    settings: Literal["leave"] | None = None


class RuleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. What has no default must be there.

    Attributes:
        says: what it is for, in a sentence.
        mode: what it may do once the controller is on.
        protects: it is about harm, not about comfort: evaluated first, never overruled.
        priority: 1 to 99; of two rules that want different things the higher one has its way.
        hours: "07:00-14:00" of the site's own time, or "always".
        ends_with_hours: it is over when its hours are, whatever ``until`` says.
        when: it begins when all of these hold,
        until: and ends when all of these do.
        do: what it does, in this order.
        safe: what it falls to.
        temporary: what was set before is kept, and set again when nobody needs the rule any more:
            after a crash, or when the controller is switched off.
        afterwards: ``restore`` does so as soon as the rule ends, too.
        min_on_min, min_off_min: so long it lasts, or rests, at least [min].
        again_min: while it lasts, it acts again no sooner than that [min].
        most_switches_day: so often it acts in 24 hours at most.
    """

    says: str
    protects: bool = False
    mode: Mode = "on"
    priority: int
    hours: str
    ends_with_hours: bool = False
    when: list[GroupTable]
    until: list[GroupTable]
    do: list[StepTable]
    safe: SafeTable
    temporary: bool = False
    afterwards: Literal["leave", "restore"] = "leave"
    min_on_min: float
    min_off_min: float
    again_min: float = 10.0
    most_switches_day: int

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not self.says.strip():
            raise ValueError("says must tell what the rule is for")
        if not 1 <= self.priority <= 99:
            raise ValueError(f"priority must be 1 to 99, got {self.priority}")
        if self.hours != "always" and not HOURS.fullmatch(self.hours):
            raise ValueError(f'hours must be like "07:00-14:00", or "always", got {self.hours!r}')
        for name in ("when", "until", "do"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        for name in ("min_on_min", "min_off_min", "again_min"):
            if not 1 <= getattr(self, name) <= 1440:
                raise ValueError(f"{name} must be 1 to 1440, got {getattr(self, name):g}")
        if not 2 <= self.most_switches_day <= 100:
            raise ValueError(f"most_switches_day must be 2 to 100, got {self.most_switches_day}")
        if self.ends_with_hours and self.hours == "always":
            raise ValueError("hours must be given where the rule ends with them")
        if self.afterwards == "restore" and not self.temporary:
            raise ValueError("temporary must be true where afterwards is restore")
        if any(step.relay for step in self.do) and self.safe.relay is None:
            raise ValueError('safe must say relay = "grid_connected": the rule moves the relay')
        if any(step.set for step in self.do) and self.safe.settings is None:
            raise ValueError('safe must say settings = "leave": the rule changes settings')


class PresetTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of ``presets/``.

    Attributes:
        says: for which house.
        numbers: by name, with the unit at its end.
        orders: names that must rise from left to right.
        rules: by name.
    """

    says: str
    numbers: dict[str, float]
    orders: list[list[str]]
    rules: dict[str, dict[str, object]]
