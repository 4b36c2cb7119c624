"""What the mesh hears of one device: who it is, how it is, what it says, each change once.

The poll loop has a :class:`Voice` for the device it polls, and one for each :class:`Member`: a
device that is read through another one, such as a microinverter behind its gateway.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from . import clock
from .alarms import Alarms, Condition
from .errors import MessageError
from .messages import Alarm, DeviceState, Info, Sample, Status, Value, decode, encode
from .mqtt import Mesh, Message

__all__ = ["Condition", "Member", "Reading", "Voice", "withdrawn"]

log = logging.getLogger(__name__)

LOST = "device_lost"

MOMENT = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one round brought.

    Attributes:
        values: by vocabulary name; None = not readable now.
        quality: exceptions only: ``suspect`` or ``stale``.
        ts: the device's own time where that is trustworthy; None = now. A time that is no later
            than that of the last sample is no new sample, and nothing is published.
        settings_changed: the device says that somebody changed a setting: they are read at once.
        alarms: conditions that hold now, by code; each is raised once, and cleared when it is gone.
        members: devices that were read through this one, by their name in the mesh.
        pause_s: the device wants to be left alone for so long, if that is more than the interval.
    """

    values: dict[str, Value]
    quality: dict[str, str] = field(default_factory=dict)
    ts: datetime | None = None
    settings_changed: bool = False
    alarms: dict[str, Condition] = field(default_factory=dict)
    members: dict[str, "Member"] = field(default_factory=dict)
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Member:
    """A device that is read through the one that answers.

    Attributes:
        info: who it is; published when it changes.
        state: how it is.
        reason: why, where it is not ``online``.
        reading: what it says; None = nothing that is known. Of one that is not ``online`` only the
            counters are published, as ``stale``.
    """

    info: Info
    state: DeviceState = "online"
    reason: str = ""
    reading: Reading | None = None


class Voice:
    """Publishes one device.

    Args:
        device: its name in the mesh.
        mesh: where.
        alarm_after_s: when it was away for that long, ``device_lost`` is raised.
    """

    def __init__(self, device: str, mesh: Mesh, *, alarm_after_s: float) -> None:
        """Nothing is said yet."""
        self.device = device
        self.state: DeviceState | None = None
        self.last_ts: str | None = None
        self._mesh = mesh
        self._alarm_after_s = alarm_after_s
        self._info: Info | None = None
        self._reason = ""
        self._since = ""
        self._is_quiet = False
        self._lost_at: float | None = None
        self._was_exchanged = False
        """Another device answered for a while since it was online last."""
        self._alarms = Alarms(f"{device}-")
        self._hearing = threading.Lock()
        self._seq = 0
        self._last_values: dict[str, Value] = {}
        self._last_time: datetime | None = None

    def introduce(self, info: Info) -> None:
        """Say who it is."""
        self._info = info
        self._mesh.publish(self._mesh.topics.info(self.device), encode(info), retain=True)

    def hear(self, member: Member) -> bool:
        """Say what was read of a member; True when that was a sample."""
        if self._info is None or _timeless(self._info) != _timeless(member.info):
            self.introduce(member.info)
        if member.state == "online":
            if member.reading is not None:
                return self.say(member.reading)
            self.be("online", "")
            return False
        if member.reading is not None and not self._last_values:
            self._last_values, self._last_time = member.reading.values, member.reading.ts
        return self.leave(member.state, member.reason)

    def say(self, reading: Reading) -> bool:
        """Say what it reads; False when that is no new sample."""
        self.be("online", "")
        is_new = reading.ts is None or self._last_time is None or reading.ts > self._last_time
        if is_new:
            self._last_time = reading.ts
            self._last_values = reading.values
            self.last_ts = clock.iso(reading.ts or clock.now())
            self._sample(self.last_ts, reading.values, reading.quality)
        self._hold(reading.alarms, lost=None)
        return is_new

    def leave(self, state: DeviceState, reason: str, *, follows: bool = False) -> bool:
        """It cannot be read: say so, and withdraw what it said last.

        Args:
            state: how it is now.
            reason: why.
            follows: it only shares the fate of the device in front of it: no line in the log, and
                no ``device_lost`` of its own when that lasts.

        Returns:
            Whether a last sample was published.
        """
        before = self.state
        self.be(state, reason, follows=follows)
        withdraws = before in (None, "online") and bool(self._last_values)
        if withdraws:
            values, quality = withdrawn(self._last_values)
            # a device with a time of its own was measured before now: what it says next must not
            # look older than this
            ts = clock.now() if self._last_time is None else self._last_time + MOMENT
            self._sample(clock.iso(ts), values, quality)
        if state not in ("offline", "identity_mismatch", "refusing"):
            self._lost_at = None
        elif not follows:
            if before == "identity_mismatch" != state and not self._was_exchanged:
                # somebody has the plug in his hand: it is silent since now. Once: a line that
                # changes between the two must not be silent for ever
                self._lost_at, self._was_exchanged = None, True
            self._lost_at = self._lost_at or time.monotonic()
            lost_s = time.monotonic() - self._lost_at
            if lost_s >= self._alarm_after_s:
                lasted = f"{lost_s:.0f} s" if lost_s < 100 else f"{lost_s / 60:.0f} min"
                text = f"Nothing could be read from {self.device} for {lasted}: {reason}."
                lost = Condition(
                    "warning",
                    f"{self.device} cannot be read",
                    text,
                    advice="Look at its cable and its power, and at the log of its collector.",
                    data={"state": state, "reason": reason, "since": self._since},
                )
                self._hold(None, lost=lost)
        return withdraws

    def be(self, state: DeviceState, reason: str, *, follows: bool = False) -> None:
        """Say how it is, if that is new; the same in the log, unless it ``follows`` another."""
        if state == self.state and (state == "online" or reason == self._reason):
            return
        if state != self.state:
            if state == "online":
                told = "is there" if self.state is None else "is back"
                log.log(
                    logging.DEBUG if self._is_quiet else logging.INFO, "%s: %s", self.device, told
                )
            else:
                level = logging.INFO if state == "sleeping" else logging.WARNING
                level = logging.DEBUG if follows else level
                log.log(level, "%s: %s: %s", self.device, state, reason)
            self._is_quiet = follows
            self._since = clock.iso(clock.now())
        self.state, self._reason = state, reason
        message = encode(Status(state, self._since, reason))
        self._mesh.publish(self._mesh.topics.status(self.device), message, retain=True)
        if state == "online":
            self._lost_at, self._was_exchanged = None, False
            self._hold(None, lost=None)

    def _sample(self, ts: str, values: dict[str, Value], quality: dict[str, str]) -> None:
        self._seq += 1
        message = encode(Sample(ts=ts, seq=self._seq, values=values, quality=quality))
        self._mesh.publish(self._mesh.topics.telemetry(self.device), message, retain=True)

    # -- alarms ------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear of the alarms that an earlier run left: they are cleared, or go on."""
        self._mesh.subscribe(self._mesh.topics.alarm(self.device, "+"), self._hear)

    def _hear(self, message: Message) -> None:
        if not message.retain or not message.payload:
            return
        try:
            alarm = decode(Alarm, message.payload)
        except MessageError:
            return
        if self._alarms.is_own(alarm):  # others speak of this device, too: theirs are theirs
            with self._hearing:
                self._alarms.adopt((self.device, message.topic.rpartition("/")[2]), alarm)

    def _hold(self, conditions: dict[str, Condition] | None, *, lost: Condition | None) -> None:
        """What is wrong now; ``conditions`` is None while the device cannot say."""
        known = dict(conditions or {})
        with self._hearing:
            codes = {code for _, code in self._alarms.known if conditions is not None}
            codes |= known.keys() | {LOST}
            at, now = time.monotonic(), clock.now()
            for code in sorted(codes):
                over = f"{self.device}: it is over"
                condition = known.get(code)
                if code == LOST:
                    over, condition = f"{self.device} answers again", lost
                alarm = self._alarms.hold((self.device, code), condition, at, now, over=over)
                if alarm is not None:
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


def _timeless(info: Info) -> Info:
    """``info`` without the moment it was asked."""
    from msgspec.structs import replace

    return replace(info, ts="")
