"""The loop that polls one device for ever, and says honestly how that goes.

A round that fails costs at most one time-out; then the ladder: flush the line, reopen the port,
raise an alarm, and meanwhile wait longer each time. A device is ``offline`` within three rounds.
One log line when it is lost, one when it is back.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from . import clock
from .errors import FrameError, IdentityError, RefusedError, Sleeping, TransportError
from .messages import DeviceState, Info, Settings, Value, encode
from .mqtt import Mesh
from .voice import Condition, Member, Reading, Voice, withdrawn

__all__ = ["Condition", "Member", "Poller", "Reading", "Source", "withdrawn"]

log = logging.getLogger(__name__)

OFFLINE_AFTER = 3
"""Failed rounds in a row until a device is offline."""

ALARM_AFTER_S = 120.0
"""A device that stays away for that long raises ``device_lost``."""

BACK_OFF_LIMIT_S = 60.0
"""The longest pause between two attempts at a lost device."""


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

    Members of a reading are published likewise; they go where ``device`` goes when it is lost.

    Args:
        device: its name in the mesh.
        source: how it is read.
        mesh: where it is published.
        interval_s: from the start of one round to the start of the next.
        settings_interval_s: pause between two readings of the settings.
        back_off_limit_s: the longest pause between two attempts.
        alarm_after_s: a device lost for that long raises ``device_lost``.
        member_alarm_after_s: the same for a member that is lost while ``device`` answers.
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
        member_alarm_after_s: float = ALARM_AFTER_S,
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
        self._member_alarm_after_s = member_alarm_after_s
        self._voice = Voice(device, mesh, alarm_after_s=alarm_after_s)
        self._members: dict[str, Voice] = {}
        self._open = False
        self._failures = 0
        self._pause_s = 0.0
        self._settings_due = 0.0
        self._saying = threading.Lock()
        self._has_ended = False

    def run(self, stop: threading.Event) -> None:
        """Poll until ``stop`` is set."""
        due = time.monotonic()
        while not stop.is_set():
            self._round()
            due += max(self._interval_s, self._pause_s)
            if self._failures >= OFFLINE_AFTER:
                doublings = min(self._failures - OFFLINE_AFTER + 1, 10)
                pause_s = min(self._interval_s * 2**doublings, self._back_off_limit_s)
                due = time.monotonic() + pause_s
            due = max(due, time.monotonic())
            stop.wait(due - time.monotonic())
        self._close()
        self.end()

    def end(self) -> None:
        """Say that nobody polls any more; also of a round that is still waiting for an answer."""
        with self._saying:
            self._has_ended = True
            for voice in (self._voice, *self._members.values()):
                if voice.state == "online":
                    is_member = voice is not self._voice
                    voice.be("offline", "the collector was stopped", follows=is_member)

    # -- one round ---------------------------------------------------------------------------------

    def _round(self) -> None:
        """One attempt, with its outcome published. The one broad ``except`` of a collector."""
        self.counters["polls"] += 1
        self._pause_s = 0.0
        try:
            if not self._open:
                self._voice.introduce(self._source.open())
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
        with self._saying:
            if not self._has_ended:
                self._say(reading)

    def _say(self, reading: Reading) -> None:
        self._failures = 0
        self._pause_s = reading.pause_s
        self._count_sample(self._voice.say(reading))
        self.last_success = self._voice.last_ts
        for name, member in reading.members.items():
            voice = self._members.get(name)
            if voice is None:
                voice = Voice(name, self._mesh, alarm_after_s=self._member_alarm_after_s)
                self._members[name] = voice
            self._count_sample(voice.hear(member))

    def _failed(self, reason: str) -> None:
        """The ladder: flush, reopen, offline, alarm."""
        self._failures += 1
        self.counters["lost_rounds"] += 1
        if self._failures == 1 and self._open:
            self._guarded(self._source.flush)
        else:
            self._close()
        if self._failures >= OFFLINE_AFTER or self._voice.state is None and self._failures > 1:
            self._leave("offline", reason)

    def _leave(self, state: DeviceState, reason: str) -> None:
        """The device cannot be read, and nor can what is behind it."""
        self._count_sample(self._voice.leave(state, reason))
        behind: DeviceState = "sleeping" if state == "sleeping" else "offline"
        for voice in self._members.values():
            told = voice.leave(behind, f"{self.device} is {state}: {reason}", follows=True)
            self._count_sample(told)

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

    def _count_sample(self, was_published: bool) -> None:
        self.counters["samples"] += was_published
