"""Live values: what the mesh says now, kept in memory, handed on to open pages.

One subscription for all pages. Memory holds the newest message of each kind for each device.
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sunmesh import clock, messages
from sunmesh.errors import MessageError
from sunmesh.messages import Alarm, Info, Sample, ServiceStatus, Settings, Status
from sunmesh.mqtt import Mesh, Message
from sunmesh.topics import parse

from .house import Device

log = logging.getLogger(__name__)

DEFAULT_PERIOD_S = 5.0
LONGEST_PERIOD_S = 900.0
FORGET_S = 86_400.0
"""A device that the configuration does not name leaves the page after a day without a sample."""
DEVICES = 200
"""More devices than this are not kept: a broker full of rubbish must not fill the memory."""
ALARMS = 500
RULES = 200
PAUSES = 5


class Decision(msgspec.Struct, frozen=True):
    """What a rule of the controller saw, wanted and did; read as far as it is understood."""

    ts: str
    rule: str = ""
    says: str = ""
    mode: str = ""
    saw: Any = None
    wants: Any = None
    did: Any = None
    why: str = ""
    changed: bool = False


KINDS: Mapping[str, type[msgspec.Struct]] = {
    "telemetry": Sample,
    "info": Info,
    "settings": Settings,
    "status": Status,
    "alarm": Alarm,
    "service_status": ServiceStatus,
    "decision": Decision,
}


@dataclass(slots=True)
class Memory:
    """The newest of each message of one device."""

    sample: Sample | None = None
    info: Info | None = None
    settings: Settings | None = None
    status: Status | None = None
    pauses: tuple[float, ...] = ()
    """Between its last live samples [s]."""


@dataclass(slots=True)
class State:
    """Everything that the mesh has said; a copy for one reader."""

    devices: dict[str, Memory] = field(default_factory=dict)
    alarms: dict[tuple[str, str], Alarm] = field(default_factory=dict)
    services: dict[str, ServiceStatus] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)


class Live:
    """The newest of everything.

    Args:
        mesh: the broker client, not started yet; None = no broker (tests, a page without data).
        configured: ``[devices]`` of the configuration.
        now: the clock.
    """

    def __init__(
        self,
        mesh: Mesh | None,
        configured: Mapping[str, Mapping[str, Any]],
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """Subscribes; hears something once the mesh is started."""
        self.mesh = mesh
        self.configured = configured
        self.now = now
        self.counters = {"messages": 0, "bad_messages": 0}
        self._state = State()
        self._changed = threading.Condition()
        self._version = 0
        self._started = now()
        self._lost_at: datetime | None = self._started
        if mesh is not None:
            for kind in KINDS:
                mesh.subscribe(mesh.topics.every(kind), self.hear)

    # -- in ---------------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        """Take one message in; what is none of the mesh's is counted and dropped."""
        address = parse(message.topic)
        if address is None or address.kind not in KINDS:
            return
        key = (address.device, address.code)
        if not message.payload:  # somebody cleared a retained message
            with self._changed:
                self._forget(address.kind, *key)
                self._tell()
            return
        try:
            content = messages.decode(KINDS[address.kind], message.payload)
        except MessageError as err:
            self.counters["bad_messages"] += 1
            log.warning("%s: %s", message.topic, err)
            return
        self.counters["messages"] += 1
        with self._changed:
            if isinstance(content, Alarm):
                if len(self._state.alarms) < ALARMS or key in self._state.alarms:
                    self._state.alarms[key] = content
            elif isinstance(content, ServiceStatus):
                self._state.services[address.device] = content
            elif isinstance(content, Decision):
                if len(self._state.decisions) < RULES or address.device in self._state.decisions:
                    self._state.decisions[address.device] = content
            else:
                self._remember(address.device, content, retained=message.retain)
            self._tell()

    def _remember(self, device: str, content: msgspec.Struct, *, retained: bool) -> None:
        memory = self._state.devices.get(device)
        if memory is None:
            if len(self._state.devices) >= DEVICES:
                return
            memory = self._state.devices[device] = Memory()
        if isinstance(content, Sample):
            if memory.sample is not None and not retained:
                step = (content.ms - memory.sample.ms) / 1000
                ahead = memory.sample.ms > clock.epoch_ms(self.now()) + 5000
                if step < 0 and not ahead:
                    return  # older than what is shown: a collector that sends what it kept
                if 0.2 < step < LONGEST_PERIOD_S:
                    memory.pauses = (*memory.pauses[1 - PAUSES :], step)
            memory.sample = content
        elif isinstance(content, Info):
            memory.info = content
        elif isinstance(content, Settings):
            memory.settings = content
        elif isinstance(content, Status):
            memory.status = content

    def _forget(self, kind: str, device: str, code: str) -> None:
        if kind == "alarm":
            self._state.alarms.pop((device, code), None)
        elif kind == "service_status":
            self._state.services.pop(device, None)
        elif kind == "decision":
            self._state.decisions.pop(device, None)
        elif device in self._state.devices:
            memory = self._state.devices[device]
            if kind == "telemetry":
                self._state.devices.pop(device)
            elif kind in ("info", "settings", "status"):
                setattr(memory, kind, None)

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()

    # -- out --------------------------------------------------------------------------------------

    def wait(self, seen: int, timeout_s: float) -> int:
        """Wait for news, that long at most; the version to give back next time."""
        with self._changed:
            if self._version == seen:
                self._changed.wait(timeout_s)
            return self._version

    def wake(self) -> None:
        """End a wait early."""
        with self._changed:
            self._tell()

    @property
    def connected(self) -> bool:
        """Whether the broker answers."""
        return self.mesh is not None and self.mesh.connected

    def broker_lost_since(self) -> datetime | None:
        """Since when the broker is away; None while it answers."""
        if self.connected:
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = self.now()
        return self._lost_at

    def state(self) -> State:
        """A copy that does not change under its reader."""
        with self._changed:
            return State(
                {
                    name: Memory(m.sample, m.info, m.settings, m.status, m.pauses)
                    for name, m in self._state.devices.items()
                },
                dict(self._state.alarms),
                dict(self._state.services),
                dict(self._state.decisions),
            )

    def devices(self, state: State) -> list[Device]:
        """Every device that is configured or was heard of, in the configuration's order."""
        now_ms = clock.epoch_ms(self.now())
        heard = sorted(
            (
                name
                for name, memory in state.devices.items()
                if name not in self.configured
                and memory.sample is not None
                and (now_ms - memory.sample.ms) / 1000 < FORGET_S
            ),
            key=_naturally,
        )
        return [self._device(name, state.devices.get(name)) for name in (*self.configured, *heard)]

    def _device(self, name: str, memory: Memory | None) -> Device:
        table = self.configured.get(name, {})
        memory = memory or Memory()
        sample, info, status = memory.sample, memory.info, memory.status
        return Device(
            name=name,
            family=str(table.get("family") or (info.family if info else "")),
            ms=sample.ms if sample else None,
            values=sample.values if sample else {},
            quality=sample.quality if sample else {},
            state=status.state if status else "",
            since=clock.epoch_ms(clock.parse(status.since)) if status else None,
            reason=status.reason if status else "",
            period_s=self._period(table, memory),
            configured=name in self.configured,
            behind=self._behind(name, info),
        )

    def _behind(self, name: str, info: Info | None) -> str:
        """The device that ``name`` is read through; by its name, ``roof-7``, until it says so."""
        if info is not None and info.through:
            return info.through
        if name in self.configured:
            return ""
        owners = [owner for owner in self.configured if name.startswith(f"{owner}-")]
        return max(owners, key=len, default="")

    def _period(self, table: Mapping[str, Any], memory: Memory) -> float:
        """Between two samples: what the device really does, else what it is meant to do."""
        meant = memory.info.poll_interval_s if memory.info else None
        if meant is None:
            configured = table.get("poll_interval_s")
            meant = float(configured) if isinstance(configured, int | float) else None
        if len(memory.pauses) < 3:
            return meant or DEFAULT_PERIOD_S
        # The median: one lost poll changes nothing, a new pace counts soon. Slower than meant is a
        # property of the line, not a fault; faster is not to be relied on.
        return max(sorted(memory.pauses)[len(memory.pauses) // 2], meant or 0.0)


def _naturally(name: str) -> list[tuple[int, str]]:
    """``roof-2`` before ``roof-10``."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
