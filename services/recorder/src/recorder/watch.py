"""What the recorder looks out for besides messages: its alarms, the broker, rivals, the clock."""

import json
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sunmesh import clock
from sunmesh.errors import MessageError
from sunmesh.messages import Alarm, decode, encode
from sunmesh.mqtt import Mesh, Message
from sunmesh.voice import Condition

from .codec import Gap

log = logging.getLogger(__name__)

NAME = "recorder"
DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
QUIET_S = 3600.0
"""An alarm about messages that the broker dropped is over when it dropped none for so long."""
RIVAL_WINDOW_S = 60.0
RIVAL_LOSSES = 5
"""So many connections lost within the window look like two clients of one id."""
RIVAL_QUIET_S = 600.0
SETTLE_S = 600.0
"""For so long after a start or a step of the machine's clock nothing is called too new."""
STEP_S = 60.0
PLAUSIBLE_MS = 1_577_836_800_000
"""The start of 2020: a machine that says less has no clock [ms]."""


class Alarms:
    """The recorder's own alarms: each raised once, and cleared when it is over.

    Args:
        mesh: where.
    """

    def __init__(self, mesh: Mesh) -> None:
        """Hears of those that an earlier run left, once the mesh is started."""
        self._mesh = mesh
        self._raised: dict[str, Alarm] = {}
        mesh.subscribe(mesh.topics.alarm(NAME, "+"), self._hear)

    def _hear(self, message: Message) -> None:
        """What an earlier run raised is this one's to clear."""
        with suppress(MessageError):
            alarm = decode(Alarm, message.payload)
            if alarm.state == "raised" and message.retain:
                self._raised.setdefault(message.topic.rpartition("/")[2], alarm)

    def is_raised(self, code: str) -> bool:
        """Whether it is."""
        return code in self._raised

    def hold(self, code: str, condition: Condition | None, over: str) -> None:
        """Raise it while there is a condition, clear it when there is none any more.

        Args:
            code: of the alarm.
            condition: what is wrong; None = nothing.
            over: the text of the clearing.
        """
        raised = self._raised.get(code)
        if (raised is None) == (condition is None):
            return
        now = clock.iso(clock.now())
        if condition is not None:
            alarm = Alarm(
                id=f"{NAME}-{code}-{now}",
                state="raised",
                severity=condition.severity,
                title=condition.title,
                text=condition.text,
                ts=now,
                value=condition.value,
            )
            self._raised[code] = alarm
            log.warning("%s", condition.text)
        elif raised is not None:
            alarm = Alarm(raised.id, "cleared", raised.severity, raised.title, over, now)
            del self._raised[code]
            log.info("%s", over)
        self._mesh.publish(self._mesh.topics.alarm(NAME, code), encode(alarm), retain=True)


class Drops:
    """Notices when the broker drops messages, also while the recorder is away.

    The broker counts since its start, for all clients; its counter comes at once after each
    connect, and then when it moved.

    Args:
        file: keeps the counter over a restart of the recorder.
    """

    def __init__(self, file: Path) -> None:
        """Reads what the run before knew."""
        self._file = file
        self._last: int | None = None
        self._sure_ms = clock.epoch_ms(clock.now())
        self.total = 0
        self._moved_ms: int | None = None
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(file.read_text(encoding="utf-8"))
            self._last, self._sure_ms = int(known["dropped"]), int(known["at"])
            self.total, self._moved_ms = int(known["total"]), known["moved"] and int(known["moved"])

    def hear(self, payload: bytes) -> Gap | None:
        """The broker says its counter; what that means, if it is a loss."""
        try:
            count = int(payload)
        except ValueError:
            return None
        last, self._last = self._last, count
        now_ms = clock.epoch_ms(clock.now())
        started, self._sure_ms = self._sure_ms, now_ms
        if last is None or count == last:
            self.save()
            return None
        lost = count - last if count > last else count  # it restarts with the broker
        if not lost:
            self.save()
            return None
        self.total = lost + (self.total if self.condition is not None else 0)
        self._moved_ms = now_ms
        self.save()
        detail = f"the broker dropped {lost} messages to one of its clients: a queue was full"
        return Gap(min(started, now_ms), now_ms, "broker_dropped", lost, detail)

    def sure(self) -> None:
        """The broker is there and has said nothing new: nothing was dropped up to now."""
        self._sure_ms = clock.epoch_ms(clock.now())

    def save(self) -> None:
        """Keep the counter for the next run."""
        if self._last is None:
            return
        with suppress(OSError):
            draft = self._file.with_suffix(".tmp")
            known: dict[str, int | None] = {"dropped": self._last, "at": self._sure_ms}
            known |= {"total": self.total, "moved": self._moved_ms}
            draft.write_text(json.dumps(known), encoding="utf-8")
            draft.replace(self._file)

    @property
    def condition(self) -> Condition | None:
        """What is wrong for an hour after a loss, whoever is restarted meanwhile."""
        now_ms = clock.epoch_ms(clock.now())
        if self._moved_ms is None or abs(now_ms - self._moved_ms) > QUIET_S * 1000:
            return None
        return Condition(
            "critical",
            "The broker dropped messages",
            f"The broker dropped {self.total} messages to one of its clients because a queue was"
            " full: look which client was away, and at max_queued_messages in mosquitto.conf",
            self.total,
        )


class Rivals:
    """Notices that another recorder connects with the same client id, again and again."""

    def __init__(self, client_id: str) -> None:
        """Nobody was seen."""
        self._client_id = client_id
        self._losses: deque[float] = deque(maxlen=RIVAL_LOSSES)
        self._is_named = False
        self._seen_at: float | None = None

    def lost(self, reason: str) -> None:
        """A connection ended, and why."""
        now = time.monotonic()
        self._losses.append(now)
        self._is_named = "taken over" in reason.lower()
        is_often = len(self._losses) == RIVAL_LOSSES and now - self._losses[0] < RIVAL_WINDOW_S
        if self._is_named or is_often:
            self._seen_at = now

    @property
    def condition(self) -> Condition | None:
        """What is wrong, until some minutes after the last sign of it."""
        if self._seen_at is None or time.monotonic() - self._seen_at > RIVAL_QUIET_S:
            return None
        sign = "took over" if self._is_named else "seems to take over, again and again,"
        return Condition(
            "critical",
            "Two recorders",
            f"Another client {sign} the connection of {self._client_id}: is a second recorder"
            " of this site running on another machine? Stop one of them",
        )


@dataclass(slots=True)
class MachineClock:
    """Whether this machine's clock can be asked if a sample's time is too new.

    A board without a battery-backed clock starts with a time of the past until the network tells
    it better, and what other machines measured looks new to it. So for some minutes after a start,
    and after each step of its clock, what looks too new waits in the spool; only then is it
    refused. A clock before 2020 is never right, and refuses nothing.
    """

    settle_s: float = SETTLE_S
    _offset_s: float = 0.0
    _settles_at: float = 0.0

    def __post_init__(self) -> None:
        """Some of the time since the machine's start may be over."""
        up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._offset_s = time.time() - time.monotonic()
        self._settles_at = time.monotonic() + self.settle_s - up_s

    def tick(self) -> None:
        """Look for a step; to be called often."""
        offset_s = time.time() - time.monotonic()
        step_s, self._offset_s = offset_s - self._offset_s, offset_s
        if abs(step_s) > STEP_S:
            log.warning("the clock of this machine stepped by %+.0f s", step_s)
            self._settles_at = time.monotonic() + self.settle_s

    @property
    def is_settled(self) -> bool:
        """Whether what looks too new is to be refused at last."""
        return time.monotonic() >= self._settles_at

    @staticmethod
    def latest_ms(max_future_s: float) -> int | None:
        """The newest time that a sample may have [ms]; None when the clock cannot be right."""
        now_ms = int(time.time() * 1000)
        return None if now_ms < PLAUSIBLE_MS else now_ms + int(max_future_s * 1000)
