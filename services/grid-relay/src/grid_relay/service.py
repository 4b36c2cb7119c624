"""What happens: commands and readings in, the contactor's coil out, and everything said.

Commands are done where they arrive, in the broker client's thread; a second thread turns ten times
a second, which ends leases, looks at the contact, speaks, and feeds the watchdog. One lock keeps
the two apart. Nothing that may wait (a disk, a broker) is done under it, or by the thread that
turns.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sunmesh import clock
from sunmesh.commands.desk import Desk, Wish
from sunmesh.errors import MessageError, RefusedError
from sunmesh.messages import RENEWED, Info, Range, Sample, Value, decode
from sunmesh.mqtt import Mesh, Message
from sunmesh.statefile import StateFile
from sunmesh.voice import Condition, Reading, Voice

from .actuator import Actuator
from .config import RelayDevice
from .output import outlives_process
from .position import (
    AUTO,
    CONNECTED,
    MANUAL,
    OPEN,
    POSITION,
    SAMPLE_AGE_S,
    Decision,
    Memory,
    Position,
    Relay,
    Verdict,
)
from .watchdog import Watchdog

log = logging.getLogger(__name__)

TURN_S = 0.1
STILL_S = 5.0
"""A process that stood still for that long does not believe what waited for it meanwhile."""
DOUBT_S = 1.0
PROOF_S = 3.0
"""How long a switching may take, beyond dead time and the contact's own time."""


@dataclass(frozen=True, slots=True)
class _Proof:
    """A switching that is not proved yet."""

    wish: Wish
    target: Position
    until: float


class GridRelay:
    """The relay ``name`` at work.

    Args:
        name: of the device.
        device: its settings.
        mesh: the broker client, not started yet.
        state: what a restart must know.
        watchdog: who is fed.
        monotonic: a clock that no one sets.
    """

    def __init__(
        self,
        name: str,
        device: RelayDevice,
        mesh: Mesh,
        state: StateFile,
        watchdog: Watchdog,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._device = device
        self._mesh = mesh
        self._monotonic = monotonic
        self._watchdog = watchdog
        self._lock = threading.Lock()
        saved = state.load()
        memory = remembered(saved, is_lost=state.damaged)
        now = monotonic()
        was_open = memory.position == OPEN or memory.is_lost or not saved
        self._actuator = Actuator(device, was_open=was_open, monotonic=monotonic)
        self._relay = Relay(device.limits, now, memory)
        ids = saved.get("ids", [])
        self._desk = Desk(
            mesh,
            name,
            self._take,
            seen=[text for text in ids if isinstance(text, str)] if isinstance(ids, list) else [],
            unread=self._unread,
            monotonic=monotonic,
        )
        self._voice = Voice(name, mesh, alarm_after_s=float("inf"))
        self._keeper = _Keeper(state)
        self._proofs: list[_Proof] = []
        self._turned_at = now
        self._doubted_until = 0.0
        self._said: object = None
        self._say_at = 0.0
        self._kept: object = None
        self._manual: tuple[int, str] = (0, "")
        self._persists = outlives_process() if device.output.by == "gpiod" else None
        self._counters = {"leases": 0, "refused": 0, "bad_payloads": 0, "stood_still": 0}

    def begin(self) -> None:
        """The safe position, before anything else is done; then listen, once there is a broker."""
        with self._lock:
            self._actuator.open()
            self._turn(self._monotonic())
        mesh = self._mesh
        mesh.on_connect(self._broker_back)
        mesh.on_lost(self._broker_lost)
        self._desk.listen()
        self._voice.listen()
        sources = {self._device.window.device, self._device.supply.device} - {""}
        for source in sorted(sources):
            mesh.subscribe(mesh.topics.telemetry(source), self._hear)
        if self._persists:
            log.warning(
                "a GPIO line of this system stays driven when its process dies; "
                "set dtparam=strict_gpiod, see the README"
            )

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; the grid is connected when this returns, however it ends."""
        self._voice.introduce(self._info())
        self._watchdog.ready()
        try:
            while not stop.is_set():
                self.turn()
                stop.wait(TURN_S)
        finally:
            self._end()

    def turn(self) -> None:
        """One turn: time passes, the contact is read, what is new is said and kept."""
        now = self._monotonic()
        with self._lock:
            if now - self._turned_at > STILL_S:
                self._counters["stood_still"] += 1
                self._doubted_until = now + DOUBT_S
                log.warning("stood still for %.1f s", now - self._turned_at)
            self._turned_at = now
            decision = self._turn(now)
            self._prove(now)
            values = self._values(now, decision)
            self._keep()
        self._say(now, values, decision)
        self._watchdog.feed(f"{decision.position}: {decision.reason}")

    def counters(self) -> dict[str, int | float | str | None]:
        """For the health message."""
        return {
            **self._counters,
            **self._desk.counters,
            "switch_count": self._relay.switch_count,
            "state_failures": self._keeper.failures,
        }

    # -- commands, in the broker client's thread ---------------------------------------------------

    def _take(self, wish: Wish) -> None:
        """Do a command.

        Raises:
            RefusedError: it is not done, with the reason.
        """
        with self._lock:
            now = self._monotonic()
            still_s = now - self._turned_at
            if now < self._doubted_until or still_s > STILL_S:
                raise RefusedError("the relay service stood still; what waited for it is too old")
            self._observe(now)
            try:
                verdict = self._relay.request(now, wish.command)
            except Exception:
                self._relay.unreadable(now, "a mistake of this program")
                self._turn(now)
                raise
            self._turn(now)
            if not verdict.is_granted:
                self._counters["refused"] += 1
                raise RefusedError(verdict.detail)
            self._answer(now, wish, verdict)

    def _answer(self, now: float, wish: Wish, verdict: Verdict) -> None:
        """Say what became of a command that was granted."""
        target: Position = OPEN if wish.value == OPEN else CONNECTED
        if wish.name == POSITION and wish.value == OPEN:
            self._counters["leases"] += 1
        if not verdict.switches:
            is_routine = verdict.detail == RENEWED
            self._desk.say(wish, "applied", verdict.detail, is_routine=is_routine)
            return
        self._desk.say(wish, "accepted", verdict.detail)
        device = self._device
        longest_s = device.feedback.after_s + device.output.dead_time_s + PROOF_S
        longest_s += device.window.wait_s if verdict.waits else 0.0
        self._proofs.append(_Proof(wish, target, now + longest_s))
        self._prove(now)

    def _unread(self, reason: str) -> None:
        """A command that nobody can read: the safe position."""
        with self._lock:
            now = self._monotonic()
            self._observe(now)
            self._relay.unreadable(now, reason)
            self._turn(now)

    # -- what else is heard ------------------------------------------------------------------------

    def _broker_back(self) -> None:
        with self._lock:
            self._relay.broker_back(self._monotonic())

    def _broker_lost(self, _reason: str) -> None:
        with self._lock:
            self._relay.broker_lost(self._monotonic())

    def _hear(self, message: Message) -> None:
        """A sample of a device that measures the grid."""
        try:
            sample = decode(Sample, message.payload)
        except MessageError as err:
            self._counters["bad_payloads"] += 1
            if self._counters["bad_payloads"] == 1:
                log.warning("%s: %s", message.topic, err)
            return
        if abs(clock.now() - sample.time) > timedelta(seconds=SAMPLE_AGE_S):
            return
        voltage_v = _number(sample, "grid_voltage_v")
        frequency_hz = _number(sample, "grid_frequency_hz")
        topics = self._mesh.topics
        with self._lock:
            now = self._monotonic()
            self._observe(now)
            if message.topic == topics.telemetry(self._device.window.device):
                self._relay.meter(now, voltage_v, frequency_hz)
            if message.topic == topics.telemetry(self._device.supply.device):
                self._relay.supply(now, voltage_v)

    # -- under the lock ----------------------------------------------------------------------------

    def _observe(self, now: float) -> None:
        """Look at the contact before time is let pass: it may have been a long time."""
        if self._device.limits.has_feedback:
            self._relay.feedback(now, self._actuator.contact())

    def _turn(self, now: float) -> Decision:
        """Put the contactor where it has to be now."""
        self._observe(now)
        self._actuator.drive(self._relay.tick(now).position)
        self._relay.output(now, self._actuator.problem)
        decision = self._relay.tick(now)
        if not self._actuator.is_at(decision.position):
            self._actuator.drive(decision.position)
        return decision

    def _prove(self, now: float) -> None:
        """Say of each switching whether it is done."""
        waiting = []
        for proof in self._proofs:
            where = self._relay.position
            has_contact = self._device.limits.has_feedback
            shown = self._relay.proven if has_contact else where
            if where == proof.target == shown and self._actuator.is_at(where):
                how = "proved by the contact" if has_contact else "the output was read back"
                self._desk.say(proof.wish, "applied", how)
            elif now >= proof.until or (where != proof.target and not self._relay.waits_for_grid):
                why = self._relay.fault or self._actuator.problem or self._relay.reason
                self._desk.say(proof.wish, "not_applied", f"{where}: {why}", value=where)
            else:
                waiting.append(proof)
        self._proofs = waiting

    def _values(self, now: float, decision: Decision) -> dict[str, Value]:
        return {
            "relay_position": None if self._actuator.problem else decision.position,
            "relay_feedback": self._relay.proven,
            "relay_reason": decision.reason,
            "lease_remaining_s": round(self._relay.lease_remaining_s(now), 1),
            "relay_manual_until": self._manual_until(now),
            "switch_count": self._relay.switch_count,
        }

    def _manual_until(self, now: float) -> str:
        """When the manual override ends, as people write it; empty without one."""
        remaining_s = self._relay.manual_remaining_s(now)
        if remaining_s is None:
            return ""
        ends = round(now + remaining_s)
        if self._manual[0] != ends or not self._manual[1]:
            until = clock.now() + timedelta(seconds=remaining_s)
            self._manual = (ends, clock.iso(until.replace(microsecond=0)))
        return self._manual[1]

    def _keep(self) -> None:
        """Have what a restart must know written down, when it changed."""
        key = (self._relay.position, self._relay.switch_count, self._relay.fault)
        if key != self._kept:
            self._kept = key
            self._keeper.keep(self._content())

    def _content(self) -> dict[str, object]:
        now = self._monotonic()
        memory, wall = self._relay.memory(now), clock.now()
        return {
            "position": memory.position,
            "switched": [clock.iso(wall - timedelta(seconds=age_s)) for age_s in memory.switched_s],
            "switch_count": memory.switch_count,
            "fault": memory.fault,
            "ids": self._desk.ids(),
        }

    # -- what is said, in the thread that turns ----------------------------------------------------

    def _say(self, now: float, values: dict[str, Value], decision: Decision) -> None:
        alarms = self._conditions(decision)
        key = (*(value for name, value in values.items() if name != "lease_remaining_s"), *alarms)
        if key != self._said or now >= self._say_at:
            self._said = key
            self._say_at = now + self._device.poll_interval_s
            self._voice.say(Reading(values, alarms=alarms))

    def _conditions(self, decision: Decision) -> dict[str, Condition]:
        alarms = {
            code: Condition(trouble.severity, trouble.title, trouble.text, trouble.value)
            for code, trouble in decision.alarms.items()
        }
        if self._persists:
            alarms["gpio_persists"] = Condition(
                "info",
                "a killed relay service leaves its line as it is",
                "This system keeps a GPIO line driven when its process dies. Until systemd's "
                "ExecStopPost has run, the relay stays where it was. Set dtparam=strict_gpiod.",
            )
        if self._device.output.contact == "normally_open":
            alarms["wiring"] = Condition(
                "warning",
                "without power the house is off the grid",
                "The contactor is normally open: a dead computer opens the grid. Wire it normally "
                "closed.",
            )
        if self._keeper.failures:
            alarms["state_unsaved"] = Condition(
                "warning",
                "the relay cannot write down when it was switched",
                "A restart will not know how often it was switched. Look at the disk.",
            )
        return alarms

    def _info(self) -> Info:
        device = self._device
        output = device.output
        where = {
            "gpiod": f"{output.chip or 'GPIO'} line {output.line}",
            "file": output.path,
            "none": None,
        }
        return Info(
            ts=clock.iso(clock.now()),
            family="relay",
            model=f"{output.contact.replace('_', ' ')} contactor",
            protocol=output.by,
            port=where[output.by],
            poll_interval_s=device.poll_interval_s,
            settable=[POSITION, MANUAL],
            ranges={
                POSITION: Range(choices=[CONNECTED, OPEN], risk="high"),
                MANUAL: Range(choices=[AUTO, CONNECTED, OPEN], risk="high"),
                "lease_s": Range(low=1.0, high=device.max_lease_s, unit="s"),
                "manual_lease_s": Range(low=1.0, high=device.max_manual_s, unit="s"),
            },
        )

    def _end(self) -> None:
        """Connected, and the line held until this process is gone."""
        with self._lock:
            now = self._monotonic()
            decision = self._relay.stop(now)
            self._actuator.settle(decision.position)
            self._relay.output(now, self._actuator.problem)
            self._prove(now)
            values = self._values(now, decision)
            content = self._content()
        self._watchdog.end()
        self._keeper.end(content)
        self._voice.say(Reading(values, alarms=self._conditions(decision)))
        self._voice.be("offline", "the relay service was stopped; the grid is connected")


class _Keeper:
    """Writes the state file in a thread of its own: a disk may take its time, a lease may not."""

    def __init__(self, state: StateFile) -> None:
        self.failures = 0
        self._state = state
        self._next: dict[str, object] | None = None
        self._is_ending = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, content: dict[str, object]) -> None:
        """Write ``content`` soon; of several only the last."""
        with self._wake:
            self._next = content
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="keeper", daemon=True)
                self._thread.start()
            self._wake.notify()

    def end(self, content: dict[str, object]) -> None:
        """Write ``content`` and wait for it, a second at most."""
        self.keep(content)
        with self._wake:
            self._is_ending = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(1.0)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._next is not None or self._is_ending)
                content, self._next = self._next, None
            if content is None:
                return
            try:
                self._state.save(content)
                self.failures = 0
            except OSError as err:
                if not self.failures:
                    log.error("%s cannot be written: %s", self._state.path, err.strerror)
                self.failures += 1


def remembered(saved: Mapping[str, object], *, is_lost: bool) -> Memory:
    """What the state file says, for a relay; whatever it says wrongly is lost."""
    if is_lost:
        return Memory(is_lost=True)
    if not saved:
        return Memory()
    position, count, fault = saved.get("position"), saved.get("switch_count"), saved.get("fault")
    switched = saved.get("switched")
    wall = clock.now()
    try:
        if position not in (CONNECTED, OPEN) or not isinstance(switched, list):
            raise ValueError("no position")
        if not isinstance(count, int) or not isinstance(fault, str):
            raise ValueError("no count")
        ages = tuple((wall - clock.parse(text)).total_seconds() for text in switched)
    except (ValueError, TypeError, AttributeError):
        return Memory(is_lost=True)
    return Memory(OPEN if position == OPEN else CONNECTED, ages, count, fault)


def _number(sample: Sample, name: str) -> float | None:
    """A value that can be trusted."""
    value = sample.values.get(name)
    if name in sample.quality or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
