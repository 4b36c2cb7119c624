"""How collectors fare with their devices: polls, lost rounds, errors, over the last day.

Their counters begin at nothing whenever they start, and come twice a minute. One row every ten
minutes is kept, so a portal that has just started says since when it knows.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sunmesh import clock
from sunmesh.errors import MessageError
from sunmesh.messages import Health, decode
from sunmesh.mqtt import Message
from sunmesh.topics import parse

from .live import DEVICES, Live

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
KEEP_MS = 600_000
"""Between two rows that are kept."""
PACE_MS = 45_000
"""Polls a minute are worked out over no less than that."""
PREFIX = "errors_"


@dataclass(frozen=True, slots=True)
class Row:
    """Counters of one device at one time, summed over the starts of its collector."""

    ms: int
    polls: int
    lost: int


@dataclass(slots=True)
class Record:
    """What is known of one device.

    Attributes:
        counters: as its collector says them now, without the device's name.
        ms: when it said so.
        rows: of the last day.
        base: what earlier runs of the collector had counted.
        seen: newest counters of this run: polls, lost rounds.
    """

    counters: dict[str, int | float | str | None] = field(default_factory=dict)
    ms: int = 0
    rows: deque[Row] = field(default_factory=lambda: deque(maxlen=DAY_MS // KEEP_MS + 2))
    recent: deque[Row] = field(default_factory=lambda: deque(maxlen=6))
    base: tuple[int, int] = (0, 0)
    seen: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Wellbeing:
    """How a device was read lately.

    Attributes:
        error_share: lost rounds by rounds, 0 to 1; None where there were none.
        lost: rounds that were lost.
        polls: rounds.
        span_ms: over how long; None = since the collector started.
        per_minute: rounds a minute now; None = not known yet.
        errors: by kind, since the collector started.
        counters: everything that it counts.
        ms: when it said so.
    """

    error_share: float | None = None
    lost: int = 0
    polls: int = 0
    span_ms: int | None = None
    per_minute: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, int | float | str | None] = field(default_factory=dict)
    ms: int = 0


class HealthBook:
    """Hears every collector's health, and remembers a day of it.

    Args:
        live: what the mesh says.
    """

    def __init__(self, live: Live) -> None:
        """Hears something once the mesh is started."""
        self._live = live
        self._records: dict[str, Record] = {}
        self._lock = threading.Lock()
        if live.mesh is not None:
            live.mesh.subscribe(live.mesh.topics.every("service_health"), self.hear)

    def hear(self, message: Message) -> None:
        """Take one health message in."""
        address = parse(message.topic)
        if address is None or address.kind != "service_health" or not message.payload:
            return
        if not address.device.startswith("collector-"):
            return
        try:
            health = decode(Health, message.payload)
        except MessageError as err:
            self._live.counters["bad_messages"] += 1
            log.warning("%s: %s", message.topic, err)
            return
        ms = clock.epoch_ms(clock.parse(health.ts))
        with self._lock:
            for device, counters in by_device(health.counters).items():
                if device in self._records or len(self._records) < DEVICES:
                    self._take(self._records.setdefault(device, Record()), ms, counters)

    @staticmethod
    def _take(record: Record, ms: int, counters: Mapping[str, int | float | str | None]) -> None:
        now = (_whole(counters.get("polls")), _whole(counters.get("lost_rounds")))
        if now[0] < record.seen[0]:  # the collector has started anew
            record.base = (record.base[0] + record.seen[0], record.base[1] + record.seen[1])
        record.counters, record.ms, record.seen = dict(counters), ms, now
        row = Row(ms, record.base[0] + now[0], record.base[1] + now[1])
        record.recent.append(row)
        if not record.rows or ms - record.rows[-1].ms >= KEEP_MS:
            record.rows.append(row)
        while len(record.rows) > 1 and record.rows[1].ms <= ms - DAY_MS:
            record.rows.popleft()

    def of(self, device: str) -> Wellbeing | None:
        """How ``device`` was read lately; None where no collector counts it by itself."""
        with self._lock:
            record = self._records.get(device)
            if record is None:
                return None
            return _judged(record)

    def counted(self) -> Sequence[str]:
        """Devices of which counters are known."""
        with self._lock:
            return sorted(self._records)


def _judged(record: Record) -> Wellbeing:
    first, last = record.rows[0], record.recent[-1]
    polls, lost, span = last.polls - first.polls, last.lost - first.lost, last.ms - first.ms
    since: int | None = span
    if span < KEEP_MS:  # too short: all that the collector has counted since its start
        polls, lost, since = record.seen[0], record.seen[1], None
    pace = None
    early = record.recent[0]
    if last.ms - early.ms >= PACE_MS:
        pace = (last.polls - early.polls) * 60_000 / (last.ms - early.ms)
    return Wellbeing(
        lost / polls if polls else None,
        lost,
        polls,
        since,
        pace,
        {
            name.removeprefix(PREFIX): _whole(value)
            for name, value in record.counters.items()
            if name.startswith(PREFIX) and _whole(value)
        },
        record.counters,
        record.ms,
    )


def by_device(
    counters: Mapping[str, int | float | str | None],
) -> dict[str, dict[str, int | float | str | None]]:
    """A collector's counters by device: who has ``<device>_polls`` has all that begin so."""
    devices = sorted(
        (name.removesuffix("_polls") for name in counters if name.endswith("_polls")),
        key=len,
        reverse=True,
    )
    found: dict[str, dict[str, int | float | str | None]] = {name: {} for name in devices}
    for name, value in counters.items():
        for device in devices:
            if name.startswith(f"{device}_"):
                found[device][name.removeprefix(f"{device}_")] = value
                break
    return found


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
