"""The loop that polls one device for ever, and says honestly how that goes.

A round that fails costs at most one time-out; then the ladder: flush the line, reopen the port,
raise an alarm, and meanwhile wait longer each time. A device is ``offline`` within three rounds.
One log line when it is lost, one when it is back.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from . import clock
from .errors import FrameError, IdentityError, RefusedError, Sleeping, TransportError
from .messages import Alarm, DeviceState, Info, Sample, Settings, Severity, Status, Value, encode
from .mqtt import Mesh

log = logging.getLogger(__name__)

OFFLINE_AFTER = 3
"""Failed rounds in a row until a device is offline."""

ALARM_AFTER_S = 120.0
"""A device that stays away for that long raises ``device_lost``."""

LOST = "device_lost"

BACK_OFF_LIMIT_S = 60.0
"""The longest pause between two attempts at a lost device."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something about a device that its owner should know, for as long as it holds.

    Attributes:
        severity: ``info``, ``warning`` or ``critical``.
        title: in a few words.
        text: in a sentence, with what to do.
        value: the number behind it, if there is one.
    """

    severity: Severity
    title: str
    text: str
    value: Value = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one round brought.

    Attributes:
        values: by vocabulary name; None = not readable now.
        quality: exceptions only: ``suspect`` or ``stale``.
        ts: the device's own time where that is trustworthy; None = now.
        settings_changed: the device says that somebody changed a setting: they are read at once.
        alarms: conditions that hold now, by code; each is raised once, and cleared when it is gone.
    """

    values: dict[str, Value]
    quality: dict[str, str] = field(default_factory=dict)
    ts: datetime | None = None
    settings_changed: bool = False
    alarms: dict[str, Condition] = field(default_factory=dict)


class Source(Protocol):
    """A device as the loop sees it. Every collector has one in its ``service.py``."""

    def open(self) -> Info:
        """Open the port and ask who is there.

        Raises:
            TransportError: nobody; :class:`IdentityError`: somebody else.
            RefusedError: the device answers and refuses everything.
            Sleeping: the device rests.
        """
        ...

    def poll(self) -> Reading:
        """One round.

        Raises:
            FrameError: this round is lost, the link is not.
            TransportError: no answer; given up at the first time-out.
            RefusedError, Sleeping: as for :meth:`open`.
        """
        ...

    def settings(self) -> dict[str, Value] | None:
        """Settings and ratings, read rarely; None when the device has none to read."""
        ...

    def flush(self) -> None:
        """Throw away what lies in the line."""
        ...

    def close(self) -> None:
        """Give the port back; never raises."""
        ...


class Poller:
    """Polls ``source`` and publishes info, status, telemetry and settings of ``device``.

    Args:
        device: its name in the mesh.
        source: how it is read.
        mesh: where it is published.
        interval_s: from the start of one round to the start of the next.
        settings_interval_s: pause between two readings of the settings.
        back_off_limit_s: the longest pause between two attempts.
        alarm_after_s: a device lost for that long raises ``device_lost``.
    """

    def __init__(
        self,
        device: str,
        source: Source,
        mesh: Mesh,
        *,
        interval_s: float,
        settings_interval_s: float = 60.0,
        back_off_limit_s: float = BACK_OFF_LIMIT_S,
        alarm_after_s: float = ALARM_AFTER_S,
    ) -> None:
        """Nothing is opened before :meth:`run`."""
        self.device = device
        self.counters: dict[str, int] = dict.fromkeys(
            ("polls", "lost_rounds", "reopened", "samples"), 0
        )
        self.last_success: str | None = None
        self._source = source
        self._mesh = mesh
        self._interval_s = interval_s
        self._settings_interval_s = settings_interval_s
        self._back_off_limit_s = max(back_off_limit_s, interval_s)
        self._alarm_after_s = alarm_after_s
        self._state: DeviceState | None = None
        self._reason = ""
        self._since = ""
        self._open = False
        self._failures = 0
        self._lost_at: float | None = None
        self._alarms: dict[str, Alarm] = {}
        self._seq = 0
        self._last_values: dict[str, Value] = {}
        self._settings_due = 0.0

    def run(self, stop: threading.Event) -> None:
        """Poll until ``stop`` is set."""
        due = time.monotonic()
        while not stop.is_set():
            self._round()
            due += self._interval_s
            if self._failures >= OFFLINE_AFTER:
                doublings = min(self._failures - OFFLINE_AFTER + 1, 10)
                pause_s = min(self._interval_s * 2**doublings, self._back_off_limit_s)
                due = time.monotonic() + pause_s
            due = max(due, time.monotonic())
            stop.wait(due - time.monotonic())
        self._close()
        if self._state == "online":
            self._set_state("offline", "the collector was stopped")

    # -- one round ---------------------------------------------------------------------------------

    def _round(self) -> None:
        """One attempt, with its outcome published. The one broad ``except`` of a collector."""
        self.counters["polls"] += 1
        try:
            if not self._open:
                self._publish_info(self._source.open())
                self._open = True
                self._settings_due = 0.0
            reading = self._source.poll()
            self._succeeded(reading)
            if reading.settings_changed or time.monotonic() >= self._settings_due:
                self._read_settings()
        except Sleeping as err:
            self._count("sleeping")
            self._failures = 0
            self._leave("sleeping", str(err))
        except IdentityError as err:
            self._count("identity_mismatch")
            self._failures += 1
            self._close()
            self._leave("identity_mismatch", str(err))
        except RefusedError as err:
            self._count("refused")
            self._failures += 1
            if self._failures >= OFFLINE_AFTER:
                self._leave("refusing", str(err))
        except FrameError as err:
            self._count(err.kind)
            self._failed(str(err))
        except TransportError as err:
            self._count("no_answer")
            self._failed(str(err))
        except Exception as err:
            log.exception("%s: unexpected", self.device)
            self._count("unexpected")
            self._failed(f"{type(err).__name__}: {err}")

    def _succeeded(self, reading: Reading) -> None:
        self._failures = 0
        self._set_state("online", "")
        ts = clock.iso(reading.ts or clock.now())
        self._last_values = reading.values
        self.last_success = ts
        self._publish_sample(ts, reading.values, reading.quality)
        for code, condition in reading.alarms.items():
            self._raise_alarm(code, condition)
        for code in self._alarms.keys() - reading.alarms.keys():
            self._clear_alarm(code, f"{self.device}: it is over")

    def _failed(self, reason: str) -> None:
        """The ladder: flush, reopen, offline, alarm."""
        self._failures += 1
        self.counters["lost_rounds"] += 1
        if self._failures == 1 and self._open:
            self._guarded(self._source.flush)
        else:
            self._close()
        if self._failures >= OFFLINE_AFTER or self._state is None and self._failures > 1:
            self._leave("offline", reason)

    def _leave(self, state: DeviceState, reason: str) -> None:
        """The device cannot be read: say so, and withdraw what it said last."""
        before = self._state
        self._set_state(state, reason)
        if before == "online" and self._last_values:
            values, quality = withdrawn(self._last_values)
            self._publish_sample(clock.iso(clock.now()), values, quality)
        if state in ("offline", "identity_mismatch", "refusing"):
            self._lost_at = self._lost_at or time.monotonic()
            if time.monotonic() - self._lost_at >= self._alarm_after_s:
                text = f"{self.device} has been {state} since {self._since}: {reason}"
                lost = Condition("warning", f"{self.device} cannot be read", text)
                self._raise_alarm(LOST, lost)
        else:
            self._lost_at = None

    def _read_settings(self) -> None:
        self._settings_due = time.monotonic() + self._settings_interval_s
        values = self._source.settings()
        if values is not None:
            message = encode(Settings(clock.iso(clock.now()), values))
            self._mesh.publish(self._mesh.topics.settings(self.device), message, retain=True)

    def _close(self) -> None:
        if self._open:
            self.counters["reopened"] += 1
        self._open = False
        self._guarded(self._source.close)

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (OSError, TransportError) as err:
            log.debug("%s: %s", self.device, err)

    def _count(self, kind: str) -> None:
        name = f"errors_{kind}"
        self.counters[name] = self.counters.get(name, 0) + 1

    # -- what is published -------------------------------------------------------------------------

    def _publish_info(self, info: Info) -> None:
        self._mesh.publish(self._mesh.topics.info(self.device), encode(info), retain=True)

    def _publish_sample(self, ts: str, values: dict[str, Value], quality: dict[str, str]) -> None:
        self._seq += 1
        self.counters["samples"] += 1
        message = encode(Sample(ts=ts, seq=self._seq, values=values, quality=quality))
        self._mesh.publish(self._mesh.topics.telemetry(self.device), message, retain=True)

    def _set_state(self, state: DeviceState, reason: str) -> None:
        if state == self._state and (state == "online" or reason == self._reason):
            return
        if state != self._state:
            if state == "online":
                log.info("%s: %s", self.device, "is there" if self._state is None else "is back")
            else:
                log.warning("%s: %s: %s", self.device, state, reason)
            self._since = clock.iso(clock.now())
        self._state, self._reason = state, reason
        message = encode(Status(state, self._since, reason))
        self._mesh.publish(self._mesh.topics.status(self.device), message, retain=True)
        if state == "online":
            self._lost_at = None
            self._clear_alarm(LOST, f"{self.device} answers again")

    def _raise_alarm(self, code: str, condition: Condition) -> None:
        if code in self._alarms:
            return
        now = clock.iso(clock.now())
        alarm = self._alarms[code] = Alarm(
            id=f"{self.device}-{code}-{now}",
            state="raised",
            severity=condition.severity,
            title=condition.title,
            text=condition.text,
            ts=now,
            value=condition.value,
        )
        self._publish_alarm(code, alarm)

    def _clear_alarm(self, code: str, text: str) -> None:
        raised = self._alarms.pop(code, None)
        if raised is None:
            return
        cleared = Alarm(
            id=raised.id,
            state="cleared",
            severity=raised.severity,
            title=raised.title,
            text=text,
            ts=clock.iso(clock.now()),
        )
        self._publish_alarm(code, cleared)

    def _publish_alarm(self, code: str, alarm: Alarm) -> None:
        topic = self._mesh.topics.alarm(self.device, code)
        self._mesh.publish(topic, encode(alarm), retain=True)


def withdrawn(values: dict[str, Value]) -> tuple[dict[str, Value], dict[str, str]]:
    """What is left of ``values`` once a device is gone.

    Momentary values and states become None, counters keep their last value, marked ``stale``.
    """
    from .vocabulary import VOCABULARY, Kind  # a device that is never lost never needs it

    kept: dict[str, Value] = {}
    quality: dict[str, str] = {}
    for name, value in values.items():
        row = VOCABULARY.get(name)
        if row is not None and row.kind is Kind.COUNTER and value is not None:
            kept[name] = value
            quality[name] = "stale"
        else:
            kept[name] = None
    return kept, quality
