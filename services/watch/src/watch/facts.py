"""What the watch knows: the newest of every device and service, as it was heard.

Ages are counted by a clock that nobody sets, from the moment of arrival; to what the broker had
kept its age by its own time is added. So a step of this machine's clock makes nothing look older
or younger than it is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sunmesh import clock
from sunmesh.house import PV_INPUTS
from sunmesh.messages import Health, Info, Result, Sample, ServiceStatus, Settings, Status, Value

MOST_DEVICES = 500
"""More are not looked at: somebody floods the broker."""
POLL_S = 60.0
"""Between two samples of a device that does not tell [s]."""
FAILED = ("failed", "not_applied", "reverted")
"""Ends of a command that its owner did not want."""
REMEMBER_S = 3600.0
"""A failed command is told for so long, unless the next one does better [s]."""
SERVICES = {"relay": "grid-relay", "group": "group"}
"""Family → the service that speaks for it, where that is no collector."""
DAMAGED = re.compile(r"damaged_(crc|truncated|shape|foreign|echo|noise|json)")
"""Counters of answers that came damaged."""
OWN_TIME = ("pvs6",)
"""Families whose samples carry the device's own time: they are as old as they say. A sample of any
other that arrives is of now; where its time is another, two clocks differ."""
LEAST_POLLS = 5
"""Fewer rounds say nothing about a line."""


@dataclass(slots=True)
class Device:
    """One device.

    Attributes:
        name: in the mesh.
        family: as configured, or as it says.
        state: as its collector says; empty = nothing heard.
        reason: why.
        state_at: when it became so [monotonic s].
        values: of the newest sample, without what is suspect or stale.
        heard_at: when that arrived; None = never [monotonic s].
        late_s: how old it was then [s].
        offset_s: how far its time is from the clock here, as it was sent; None = not known [s].
        poll_s: between two samples [s].
        through: the device that it is read through.
        writes: setting → (today, budget).
        damaged: answers that came damaged in how many of the last rounds; None = not known.
    """

    name: str
    family: str = ""
    state: str = ""
    reason: str = ""
    state_at: float = 0.0
    values: dict[str, Value] = field(default_factory=dict)
    heard_at: float | None = None
    late_s: float = 0.0
    offset_s: float | None = None
    poll_s: float = POLL_S
    through: str | None = None
    writes: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: tuple[int, int] | None = None

    @property
    def service(self) -> str | None:
        """Who reads it."""
        if not self.family:
            return None
        return SERVICES.get(self.family, f"collector-{self.family}")

    def age_s(self, at: float) -> float | None:
        """Of its newest sample [s]; None = there is none."""
        return None if self.heard_at is None else at - self.heard_at + self.late_s

    def is_fresh(self, at: float) -> bool:
        """Whether its values are of now."""
        age_s = self.age_s(at)
        return (
            self.state in ("online", "")
            and age_s is not None
            and age_s <= max(30.0, 3 * self.poll_s)
        )


@dataclass(slots=True)
class Service:
    """One service: when it went, if it is away [monotonic s]."""

    lost_at: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A command that was not done. ``at`` is monotonic [s]."""

    setting: str
    wanted: str
    stage: str
    detail: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Disk:
    """How full the disk of a folder is."""

    folder: str
    used_percent: float
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Days:
    """Whole local days from the database.

    Attributes:
        today: the site's day, ISO.
        panels: device → day → energy [kWh].
        plant: day → what all panels made [kWh].
        why_not: why nothing is known; empty where it is.
    """

    today: str = ""
    panels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    plant: Mapping[str, float] = field(default_factory=dict)
    why_not: str = "the database was not asked yet"


class Facts:
    """Everything that rules look at.

    Args:
        families: configured device → its family.
        at: monotonic time of the start [s].
    """

    def __init__(self, families: Mapping[str, str], at: float) -> None:
        """Nothing was heard yet."""
        self.devices = {name: Device(name, family) for name, family in families.items()}
        self.configured = frozenset(families)
        self.services: dict[str, Service] = {}
        self.failures: dict[str, dict[str, Failure]] = {}
        self.strings: dict[str, list[str]] = {}
        """Device → inputs that have given power."""
        self.disks: list[Disk] = []
        self.days = Days()
        self.started_at = at
        self.settles_at = at
        self.away_at: float | None = None
        self.away_s = 0.0
        """How long the broker was away the last time, while that matters [s]."""
        self._lines: dict[str, tuple[float, float]] = {}

    # -- what is heard -----------------------------------------------------------------------------

    def device(self, name: str) -> Device | None:
        """The device of that name, new or known; None when there are too many."""
        known = self.devices.get(name)
        if known is None and len(self.devices) < MOST_DEVICES:
            known = self.devices[name] = Device(name)
        return known

    def hear_sample(
        self, name: str, sample: Sample, at: float, now: datetime, *, kept: bool
    ) -> None:
        """A sample; ``kept`` = the broker had it for who comes later."""
        device = self.device(name)
        if device is None:
            return
        behind_s = (now - sample.time).total_seconds()
        own_time = device.family in OWN_TIME
        device.heard_at, device.late_s = at, max(0.0, behind_s) if kept or own_time else 0.0
        if not kept:
            device.offset_s = -behind_s
        device.values = {
            key: None if key in sample.quality else value for key, value in sample.values.items()
        }
        for key in PV_INPUTS:
            watts = device.values.get(key)
            if isinstance(watts, int | float) and watts > STRING_W:
                known = self.strings.setdefault(name, [])
                if key not in known:
                    known.append(key)

    def hear_status(self, name: str, status: Status, at: float, now: datetime) -> None:
        """How a device is."""
        device = self.device(name)
        if device is None:
            return
        if device.state != status.state:
            since_s = (now - clock.parse(status.since)).total_seconds()
            device.state_at = at - min(max(0.0, since_s), 86_400.0)
        device.state, device.reason = status.state, plain(status.reason)

    def hear_info(self, name: str, info: Info) -> None:
        """Who a device is."""
        device = self.device(name)
        if device is None:
            return
        if name not in self.configured:
            device.family = info.family
        device.through = info.through if info.through != name else None
        if info.poll_interval_s and info.poll_interval_s > 0:
            device.poll_s = min(info.poll_interval_s, 86_400.0)

    def hear_settings(self, name: str, settings: Settings) -> None:
        """How often it was written, and what a command could not do and is so all the same."""
        failures = self.failures.get(name, {})
        for setting in [
            s for s, f in failures.items() if is_same(f.wanted, settings.values.get(s))
        ]:
            del failures[setting]
        device = self.device(name)
        if device is not None:
            device.writes = {
                key: (writes.today, writes.budget)
                for key, writes in settings.writes.items()
                if writes.budget > 0
            }

    def hear_result(self, name: str, result: Result, at: float) -> None:
        """How a command ended; a rule's failure is the controller's alarm."""
        if (result.by or "").startswith("controller:") or result.name == "settings":
            return  # of a batch each part is told by itself
        known = self.failures.setdefault(name, {})
        if result.stage in FAILED:
            known[plain(result.name, 80)] = Failure(
                plain(result.name, 80),
                plain(str(result.value), 80),
                result.stage,
                plain(result.detail),
                plain(result.by or "", 80),
                at,
            )
        elif result.stage == "applied":
            known.pop(result.name, None)

    def hear_service(self, name: str, status: ServiceStatus, at: float) -> None:
        """Whether a service runs."""
        service = self.services.setdefault(name, Service())
        if status.state == "online":
            service.lost_at = None
        elif service.lost_at is None:
            service.lost_at = at

    def hear_health(self, name: str, health: Health) -> None:
        """A service's counters: how many answers of each of its devices were damaged."""
        numbers = {k: float(v) for k, v in health.counters.items() if isinstance(v, int | float)}
        for device in self.devices.values():
            head = f"{device.name}_"
            if device.service != name or f"{head}polls" not in numbers:
                continue
            polls = numbers[f"{head}polls"]
            damaged = sum(
                number
                for key, number in numbers.items()
                if key.startswith(head) and DAMAGED.fullmatch(key.removeprefix(head))
            )
            before = self._lines.get(device.name)
            if before is None or polls < before[0] or damaged < before[1]:
                self._lines[device.name] = polls, damaged
            elif polls - before[0] >= LEAST_POLLS:
                device.damaged = round(damaged - before[1]), round(polls - before[0])
                self._lines[device.name] = polls, damaged

    # -- the broker --------------------------------------------------------------------------------

    def lost_broker(self, at: float) -> None:
        """The connection ended."""
        if self.away_at is None:
            self.away_at = at

    def found_broker(self, at: float, settle_s: float) -> None:
        """It is back: for a while silence means nothing."""
        away_at, self.away_at = self.away_at, None
        self.away_s = 0.0 if away_at is None else at - away_at
        self.settles_at = at + settle_s

    def is_settled(self, at: float) -> bool:
        """Whether silence means something."""
        return self.away_at is None and at >= self.settles_at

    # -- what follows ------------------------------------------------------------------------------

    def tick(self, at: float) -> None:
        """Forget what is over."""
        for failures in self.failures.values():
            for setting in [s for s, f in failures.items() if at - f.at > REMEMBER_S]:
                del failures[setting]
        if self.is_settled(at):
            self.away_s = 0.0

    def of_family(self, families: Iterable[str]) -> list[Device]:
        """The devices of those families."""
        return [device for device in self.devices.values() if device.family in families]

    def behind(self, name: str) -> list[Device]:
        """The devices that are read through ``name``."""
        return [device for device in self.devices.values() if device.through == name]

    @property
    def grid_is_open(self) -> bool:
        """Whether a relay keeps the grid open on purpose."""
        return any(
            device.values.get("relay_position") == "grid_open" for device in self.of_family("relay")
        )

    def memory(self, at: float) -> dict[str, Any]:
        """What the next run needs; plain JSON."""
        failures = [
            [device, f.setting, f.wanted, f.stage, f.detail, f.by, at - f.at]
            for device, known in self.failures.items()
            for f in known.values()
        ]
        return {"failures": failures, "strings": self.strings}

    def restore(self, memory: Mapping[str, Any], at: float) -> None:
        """Go on where :meth:`memory` was taken.

        Raises:
            ValueError: it is none.
        """
        try:
            for device, setting, wanted, stage, detail, by, age_s in memory.get("failures", []):
                failure = Failure(setting, wanted, stage, detail, by, at - float(age_s))
                self.failures.setdefault(device, {})[setting] = failure
            for device, keys in memory.get("strings", {}).items():
                self.strings[device] = [key for key in keys if key in PV_INPUTS]
        except (AttributeError, TypeError, ValueError) as err:
            raise ValueError(f"no memory of facts: {err}") from err


STRING_W = 100.0
"""An input that gave more has panels."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def is_same(wanted: str, value: Value) -> bool:
    """Whether a setting is what was asked for, by words or by numbers."""
    if value is None or isinstance(value, list):
        return False
    if isinstance(value, bool | str):
        return wanted == str(value)
    try:
        return abs(float(wanted) - value) < 1e-6
    except ValueError:
        return False


def plain(text: str, most: int = 200) -> str:
    """Foreign words, fit to be shown: without control characters, and not too long."""
    shown = _CONTROL.sub(" ", text).strip()
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
