"""The loop that polls one device for ever, and says honestly how that goes.

A round that fails costs at most one time-out; then the ladder: flush the line, reopen the port,
raise an alarm, and meanwhile wait longer each time. A device is ``offline`` within three rounds.
One log line when it is lost, one when it is back.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from . import clock
from .errors import FrameError, IdentityError, RefusedError, Sleeping, TransportError
from .messages import DeviceState, Info, Settings, Value, encode
from .mqtt import Mesh, Message
from .voice import Condition, Member, Reading, Voice, withdrawn

if TYPE_CHECKING:
    from .commands.control import Control
    from .commands.desk import Desk
    from .tap import Capture, Tap
    from .trace import Tracer

__all__ = ["Condition", "Member", "Poller", "Reading", "Source", "withdrawn"]

log = logging.getLogger(__name__)

OFFLINE_AFTER = 3
"""Failed rounds in a row until a device is offline."""

ALARM_AFTER_S = 120.0
"""A device that stays away for that long raises ``device_lost``."""

BACK_OFF_LIMIT_S = 60.0
"""The longest pause between two attempts at a lost device."""

NUDGE_S = 0.5
"""A loop that rests until a command comes looks that often whether it shall end."""


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
        control: what puts settings into it; None where no command is taken.
        why_no_commands: what such a command is told.
        tap: where the link shows each exchange; None where it cannot be recorded while it runs.
        capture: gives, for one recording, what makes records of them.
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
        control: "Control | None" = None,
        why_no_commands: str = "nothing of this device can be set",
        tap: "Tap | None" = None,
        capture: "Callable[[], Capture] | None" = None,
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
        self._control = control
        self._why_no_commands = why_no_commands
        self._refuser: Desk | None = None
        self._tap, self._capture = tap, capture
        self._tracer: Tracer | None = None
        self._serials: set[str] = set()
        if control is not None:
            control.actuator.between = self._obey

    def listen(self) -> None:
        """Hear the device's commands; without a ``control`` each is refused in words.

        And of the alarms that an earlier run left, and of who wants its raw answers.
        """
        self._voice.listen()
        self._mesh.subscribe(self._mesh.topics.trace(self.device), self._trace, as_published=True)
        if self._control is not None:
            self._control.listen()
        else:
            topic = self._mesh.topics.command(self.device)
            self._mesh.subscribe(topic, self._refuse, as_published=True)

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
            self._rest(due, stop)
        self._close()
        self.end()

    def nudge(self) -> None:
        """End a rest, for the loop shall end."""
        if self._control is not None:
            self._control.wake.set()

    def end(self) -> None:
        """Say that nobody polls any more; also of a round that is still waiting for an answer."""
        if self._control is not None:
            self._control.lost("the collector was stopped")
        if self._tracer is not None:
            self._tracer.end("the collector was stopped")
        with self._saying:
            self._has_ended = True
            for voice in (self._voice, *self._members.values()):
                if voice.state == "online":
                    is_member = voice is not self._voice
                    voice.be("offline", "the collector was stopped", follows=is_member)

    def health(self) -> dict[str, int | float | str | None]:
        """What the health message says of this device."""
        values: dict[str, int | float | str | None] = dict(self.counters)
        if self._control is not None:
            values |= self._control.counters()
        return values | {"last_success": self.last_success}

    # -- commands ----------------------------------------------------------------------------------

    def _rest(self, until: float, stop: threading.Event) -> None:
        """Wait for the next round, and do what is asked for meanwhile."""
        control = self._control
        if control is None:
            stop.wait(until - time.monotonic())
            return
        while not stop.is_set() and (left_s := until - time.monotonic()) > 0:
            if not self._open:
                control.expire()
                stop.wait(min(left_s, NUDGE_S))
            elif control.wake.wait(min(left_s, NUDGE_S)) and not stop.is_set():
                control.work()

    def _obey(self) -> None:
        """Between two requests: do one command, where the device is known to be the right one."""
        if self._open and self._control is not None:
            self._control.work()

    @property
    def _done(self) -> int:
        """How many commands were done until now."""
        return 0 if self._control is None else self._control.done

    def _refuse(self, message: Message) -> None:
        from .commands.desk import Desk, Wish  # only where somebody tries

        def no(wish: Wish) -> None:
            raise RefusedError(self._why_no_commands)

        if self._refuser is None:
            self._refuser = Desk(self._mesh, self.device, no)
        self._refuser.hear(message)

    # -- raw answers -------------------------------------------------------------------------------

    def _trace(self, message: Message) -> None:
        if self._tracer is None:
            from .trace import Tracer  # only where somebody asks

            self._tracer = Tracer(self._mesh, self.device, self._tap, self._capture, self._serials)
        self._tracer.hear(message)

    # -- one round ---------------------------------------------------------------------------------

    def _round(self) -> None:
        """One attempt, with its outcome published. The one broad ``except`` of a collector."""
        self.counters["polls"] += 1
        self._pause_s = 0.0
        try:
            if not self._open:
                info = self._source.open()
                if info.serial:
                    self._serials.add(info.serial)
                self._voice.introduce(info)
                self._open = True
                self._settings_due = 0.0
            done = self._done
            reading = self._source.poll()
            self._succeeded(reading)
            if self._control is not None and self._done == done:
                self._control.watch(reading.values)
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
        if self._control is not None:
            self._control.back()
        self._count_sample(self._voice.say(reading))
        self.last_success = self._voice.last_ts
        for name, member in reading.members.items():
            voice = self._members.get(name)
            if voice is None:
                voice = Voice(name, self._mesh, alarm_after_s=self._member_alarm_after_s)
                voice.listen()
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
        if self._control is not None:
            self._control.lost(f"it is {state}: {reason}")
        self._count_sample(self._voice.leave(state, reason))
        behind: DeviceState = "sleeping" if state == "sleeping" else "offline"
        for voice in self._members.values():
            told = voice.leave(behind, f"{self.device} is {state}: {reason}", follows=True)
            self._count_sample(told)

    def _read_settings(self) -> None:
        self._settings_due = time.monotonic() + self._settings_interval_s
        done = self._done
        values = self._source.settings()
        if self._done != done:
            self._settings_due = 0.0  # some may be from before the command: all once more
            return
        if values is not None and self._control is not None:
            self._control.settings(values)
        elif values is not None:
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
