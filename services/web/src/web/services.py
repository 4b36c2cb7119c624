"""How the services do: what each says of itself, what it logged, how late its words arrive."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from sunmesh import clock, messages
from sunmesh.errors import MessageError
from sunmesh.messages import Health, Log, LogLine, ServiceStatus
from sunmesh.mqtt import Mesh, Message
from sunmesh.topics import parse

log = logging.getLogger(__name__)

SILENT_S = 100.0
"""A service tells its health every 30 s; after that long it says nothing any more."""
SERVICES = 50
"""More than these are not kept."""
LINES = 300
"""Of one service's log, as long as the portal runs."""
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DELAYS = 5

KINDS: Mapping[str, type[msgspec.Struct]] = {
    "service_status": ServiceStatus,
    "service_health": Health,
    "service_log": Log,
}

COLLECTORS: Mapping[str, str] = {
    **{
        family: f"collector-{family}"
        for family in ("axpert", "bms", "meter", "pl80", "pvs6", "temperature")
    },
    "relay": "grid-relay",
    "group": "group",
}
"""The service of a device's family."""


@dataclass(slots=True)
class Heard:
    """What one service said, and when that arrived here [ms]."""

    status: ServiceStatus | None = None
    health: Health | None = None
    restarts: int = 0
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=DELAYS))
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LINES))


@dataclass(frozen=True, slots=True)
class Service:
    """One service as a person asks after it.

    Attributes:
        name: its folder's name.
        state: ``online``, ``offline``, ``silent`` (says nothing, though nobody saw it end) or
            ``missing`` (a device needs it, and it was never heard).
        version, host: as it says.
        since: when it started; None = not known.
        restarts: since the portal watches.
        delay_ms: between sending and hearing, the median of the last few; of two machines'
            clocks where they are two.
        counters: of its last health message.
        told: when that was sent.
        devices: that it reads.
    """

    name: str
    state: str
    version: str = ""
    host: str = ""
    since: datetime | None = None
    restarts: int = 0
    delay_ms: float | None = None
    counters: Mapping[str, int | float | str | None] = field(default_factory=dict)
    told: datetime | None = None
    devices: tuple[str, ...] = ()

    def number(self, name: str) -> float | None:
        """A counter; None where it says none of that name."""
        value = self.counters.get(name)
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log."""

    ms: int
    service: str
    level: str
    name: str
    text: str


class ServiceBook:
    """The newest of every service.

    Args:
        mesh: the broker client; None = no broker.
        devices: ``[devices]`` of the configuration.
        now: the clock.
    """

    def __init__(
        self,
        mesh: Mesh | None,
        devices: Mapping[str, Mapping[str, object]],
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """Subscribes; hears something once the mesh is connected."""
        self._devices = devices
        self._now = now
        self._lock = threading.Lock()
        self._heard: dict[str, Heard] = {}
        if mesh is not None:
            for kind in ("service_status", "service_health", "service_log"):
                mesh.subscribe(mesh.topics.every(kind), self.hear)

    def hear(self, message: Message) -> None:
        """Take one message in; what is none is dropped (the board counts it)."""
        address = parse(message.topic)
        if address is None or not message.payload:
            return
        try:
            content = messages.decode(KINDS[address.kind], message.payload)
        except (KeyError, MessageError) as err:
            log.debug("%s: %s", message.topic, err)
            return
        with self._lock:
            heard = self._heard.get(address.device)
            if heard is None:
                if len(self._heard) >= SERVICES:
                    return
                heard = self._heard[address.device] = Heard()
            if isinstance(content, ServiceStatus):
                before = heard.status
                heard.restarts += before is not None and before.started != content.started
                heard.status = content
            elif isinstance(content, Health):
                heard.health = content
                if not message.retain:
                    heard.delays.append(clock.epoch_ms(self._now()) - _moment_ms(content.ts))
            elif isinstance(content, Log):
                _join(heard.lines, content.lines)

    def services(self) -> list[Service]:
        """All that were heard or are needed: those with trouble first, then by name."""
        now = self._now()
        readers: dict[str, list[str]] = {}
        for device, table in self._devices.items():
            service = COLLECTORS.get(str(table.get("family")))
            if service is not None:
                readers.setdefault(service, []).append(device)
        with self._lock:
            found = [
                _service(name, heard, now, tuple(readers.get(name, ())))
                for name, heard in self._heard.items()
            ]
            missing = [
                Service(name, "missing", devices=tuple(devices))
                for name, devices in readers.items()
                if name not in self._heard
            ]
        return sorted((*found, *missing), key=lambda each: (each.state == "online", each.name))

    def lines(
        self, *, service: str = "", level: str = "INFO", text: str = "", most: int = 500
    ) -> list[Line]:
        """What was logged, the newest first.

        Args:
            service: only of this one; empty = of all.
            level: this bad or worse.
            text: part of the line, in any case of letters.
            most: lines.
        """
        least = LEVELS.index(level) if level in LEVELS else 1
        wanted = text.casefold()
        with self._lock:
            found = [
                Line(_moment_ms(line.ts), name, line.level, line.name, line.text)
                for name, heard in self._heard.items()
                if service in ("", name)
                for line in heard.lines
                if _rank(line.level) >= least
                and wanted in f"{name} {line.name} {line.text}".casefold()
            ]
        found.sort(key=lambda line: line.ms, reverse=True)
        return found[:most]

    def names(self) -> list[str]:
        """Services that logged something."""
        with self._lock:
            return sorted(name for name, heard in self._heard.items() if heard.lines)


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _moment(ts: str) -> datetime | None:
    try:
        return clock.parse(ts)
    except ValueError:
        return None


def _moment_ms(ts: str) -> int:
    moment = _moment(ts)
    return 0 if moment is None else clock.epoch_ms(moment)


def _join(kept: deque[LogLine], told: Iterable[LogLine]) -> None:
    """Add what is new; a service always tells its last lines once more."""
    known = set(kept)
    for line in told:
        if line not in known:
            kept.append(line)


def _service(name: str, heard: Heard, now: datetime, devices: tuple[str, ...]) -> Service:
    status, health = heard.status, heard.health
    told = _moment(health.ts) if health else None
    started = _moment(status.started) if status else None
    state = status.state if status else "silent"
    last = max((moment for moment in (told, started) if moment), default=None)
    if state == "online" and last is not None and (now - last).total_seconds() > SILENT_S:
        state = "silent"
    delays = sorted(heard.delays)
    return Service(
        name=name,
        state=state,
        version=status.version if status else "",
        host=status.host if status else "",
        since=started,
        restarts=heard.restarts,
        delay_ms=delays[len(delays) // 2] if delays else None,
        counters=health.counters if health else {},
        told=told,
        devices=devices,
    )
