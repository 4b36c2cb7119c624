"""What happens each turn: alarms come in, are kept, and become pushes; acknowledgements go out."""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from sunmesh import clock
from sunmesh.alarms import SERVICE_LOST, Key
from sunmesh.alone import RivalError, is_taken_over
from sunmesh.errors import MessageError
from sunmesh.messages import (
    Ack,
    Alarm,
    Command,
    Delivered,
    Delivery,
    Health,
    Result,
    ServiceStatus,
    Stage,
    decode,
    encode,
)
from sunmesh.mqtt import Mesh, Message
from sunmesh.topics import NAME as DEVICE_NAME
from sunmesh.topics import parse

from . import texts
from .changes import (
    CODE_LENGTH,
    TEST,
    Kind,
    Way,
    judge,
    next_weekly,
    not_before,
    stand,
    successor,
    waits_for_cause,
    ways,
)
from .config import NotifierConfig, routes_of, weekly
from .outbox import Known, Outbox, Row, Timer
from .push import Channel
from .sender import FAILING_AFTER_S, Sender, Words, Work

log = logging.getLogger(__name__)

NAME = "notifier"
BATCH = 100
"""Messages that are stored at once; each was acknowledged to the broker afterwards."""

WINDOW = 200
"""Messages that the broker may send ahead."""

SESSION_S = 30 * 86_400
OLD_HOLD_S = 10.0
"""A change from long ago waits that long for the one that says it is over."""

WATCH_SILENT_S = 100.0
"""Health comes every 30 s: a watch that is silent for so long hangs or is dead."""

JUMP_S = 20.0
"""The wall's clock was set when it went so much faster or slower than the steady one."""

PUBLISH_EVERY_S = 0.25
TEST_CLEARS_S = 120.0
TOLD_KINDS = ("raised", "worse", "escalation", "reminder", "past")
CHANNEL = (NAME, "channel_failed")
WATCH = ("watch", SERVICE_LOST)
"""Nobody else would say of the watch what it says of all other services."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks: the wall's, which is set now and then, and one that only goes on."""

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)


class Notifier:
    """The service.

    Args:
        config: ``[notifier]``.
        zone: the site's.
        mesh: the broker client, not started yet; of a persistent session, acknowledged by hand.
        outbox: what must not be forgotten.
        channels: by target.
        time_of: the clocks.
        started: of this run, as its status says; tells it from another notifier.
        host: where it runs.
    """

    def __init__(
        self,
        config: NotifierConfig,
        zone: ZoneInfo,
        mesh: Mesh,
        outbox: Outbox,
        channels: Mapping[str, Channel],
        *,
        time_of: Clock | None = None,
        host: str = "",
    ) -> None:
        """Subscribes; nothing is sent yet."""
        self._config = config
        self._zone = zone
        self._mesh = mesh
        self._outbox = outbox
        self._time = time_of or Clock()
        self._host = host
        self._routes = routes_of(config)
        self._inbox: deque[Message] = deque()
        self._wake = threading.Event()
        self._guard = threading.Lock()
        self._told: set[tuple[str, str]] = set()
        self._refused: list[tuple[Row, str]] = []
        self._next_publish = 0.0
        self._next_ack = 0.0
        self._offset: float | None = None
        self._test_clears: float | None = None
        self._own: dict[Key, Alarm] = {}
        self._watch = ""
        """What the watch says of itself; empty = there is none, or none was heard."""
        self._watch_at = 0.0
        """Since when it is away, or when it was heard last [steady s]."""
        self._rival = ""
        self._backup_age_h: float | None = None
        self._next_prune = 0.0
        self._turned = 0.0
        self.counters_: dict[str, int] = dict.fromkeys(
            ("messages", "changes", "again", "bad_payloads", "acks", "store_errors"), 0
        )
        work = Work(
            words=self.words,
            digest=self.make_digest,
            told=self.note_told,
            refused=self._note_refused,
            now_ms=self._time.now_ms,
            steady=self._time.steady,
            wake=self._wake.set,
        )
        accounts: dict[str, dict[str, Channel]] = {}
        for target, channel in channels.items():
            accounts.setdefault(channel.account, {})[target] = channel
        self.senders = [
            Sender(
                account.split(" ")[0],
                served,
                outbox,
                work,
                config.burst,
                config.one_more_every_s,
                config.retry_s,
            )
            for account, served in accounts.items()
        ]
        topics = mesh.topics
        mesh.subscribe(topics.every("alarm"), self._hear)
        mesh.subscribe(topics.every("alarm_ack"), self._hear)
        mesh.subscribe(topics.command(NAME), self._hear_command)
        mesh.subscribe(topics.service_status(NAME), self._hear_service, qos=0)
        mesh.subscribe(topics.service_health("recorder"), self._hear_service, qos=0)
        if config.watch_grace_s:
            mesh.subscribe(topics.service_status(WATCH[0]), self._hear_watch, qos=0)
            mesh.subscribe(topics.service_health(WATCH[0]), self._hear_watch, qos=0)
        mesh.on_lost(self._lost)
        self._recall_own()

    # -- life --------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop``.

        Raises:
            RivalError: another notifier was there first.
        """
        halt = threading.Event()
        for sender in self.senders:
            sender.start(halt)
        try:
            while not stop.is_set():
                self._wake.clear()
                wait_s = self.turn()
                if self._rival:
                    raise RivalError(self._rival)
                if wait_s > 0:
                    self._wait(stop, wait_s)
        finally:
            halt.set()
            for sender in self.senders:
                sender.join(0.5)

    def _wait(self, stop: threading.Event, wait_s: float) -> None:
        """Until something arrives; a stop is seen within a part of a second."""
        until = time.monotonic() + wait_s
        while not stop.is_set() and not self._wake.is_set():
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            self._wake.wait(min(left_s, 0.25))

    def turn(self) -> float:
        """One turn; returns for how long there is nothing to do [s]."""
        self._turned = self._time.steady()
        self._mind_jumps()
        if self._inbox and not self._take():
            return 1.0
        self._mind_timers()
        self._mind_week()
        self._mind_channels()
        self._mind_watch()
        self._tell_acks()
        self._publish_told()
        self._prune()
        if self._inbox:
            return 0.0
        due_ms = self._outbox.next_timer_ms()
        wait_s = 1.0
        if due_ms is not None:
            wait_s = min(wait_s, max((due_ms - self._time.now_ms()) / 1000, 0.0))
        return PUBLISH_EVERY_S if self._told else wait_s

    def is_well(self) -> bool:
        """Whether an alarm that came now would be told: what the dead man's address hears."""
        now_s = self._time.steady()
        is_turning = now_s - self._turned < 60.0
        is_reaching = any(
            health.failing_since is None and not health.refused
            for sender in self.senders
            for health in sender.health.values()
        )
        return is_turning and self._mesh.connected and (is_reaching or not self.senders)

    def counters(self) -> dict[str, int | float | str | None]:
        """For the health message."""
        found: dict[str, int | float | str | None] = dict(self.counters_)
        for sender in self.senders:
            for name, count in sender.counters.items():
                before = found.get(name, 0)
                found[name] = count + (before if isinstance(before, int) else 0)
            for target, channel in sender.channels.items():
                found |= {f"{target}_{key}": value for key, value in channel.figures.items()}
                health = sender.health[target]
                found[f"{target}_state"] = health.refused or health.last_error or "well"
        states = self._outbox.count_states()
        found |= {
            "open_alarms": self._outbox.count_open(),
            "waiting": states.get("waiting", 0) + states.get("sending", 0),
            "failed": states.get("failed", 0),
            "ringing": self._outbox.ringing(),
        }
        return found

    # -- what is heard, in the client's thread -----------------------------------------------------

    def _hear(self, message: Message) -> None:
        self._inbox.append(message)
        self._wake.set()

    def _hear_service(self, message: Message) -> None:
        """Who else is there, and how old the newest backup is."""
        self._mesh.ack(message)
        address = parse(message.topic)
        if address is None or not message.payload:
            return
        try:
            if address.kind == "service_health":
                age = decode(Health, message.payload).counters.get("backup_age_h")
                self._backup_age_h = float(age) if isinstance(age, int | float) else None
                return
            if address.device != NAME or message.retain:
                return
            status = decode(ServiceStatus, message.payload)
        except MessageError:
            return
        if status.state == "online" and status.host != self._host and self._host:
            self._rival = f"another notifier works on {status.host}, since {status.started}"
            self._wake.set()

    def _hear_watch(self, message: Message) -> None:
        """Whether the watch, which minds all others, is there itself."""
        self._mesh.ack(message)
        address = parse(message.topic)
        if address is None or not message.payload:
            return
        if address.kind == "service_health":
            if not message.retain:
                self._watch_at = self._time.steady()
            return
        try:
            status = decode(ServiceStatus, message.payload)
        except MessageError:
            return
        if status.state != self._watch or status.state == "online":
            self._watch, self._watch_at = status.state, self._time.steady()
        self._wake.set()

    def _lost(self, reason: str) -> None:
        """The broker ended the connection: for another one with our name?"""
        self._watch = ""  # nothing is known of it until it is heard again
        if is_taken_over(reason):
            self._rival = "another notifier of this site has taken over the connection"
            self._wake.set()

    def _recall_own(self) -> None:
        """What an earlier run has raised: the test is over, the rest stays until it is well."""
        for key in (TEST, CHANNEL, WATCH):
            known = self._outbox.alarm(*key)
            if known is not None and known.state == "raised":
                self._own[key] = Alarm(
                    known.id,
                    "raised",
                    known.severity,  # type: ignore[arg-type]
                    known.title,
                    known.text,
                    clock.iso(clock.from_ms(known.ts_ms)),
                )
                if key == TEST:
                    self._test_clears = self._time.steady()

    def _hear_command(self, message: Message) -> None:
        """``test``: an alarm that is none."""
        self._mesh.ack(message)
        try:
            command = decode(Command, message.payload)
        except MessageError as err:
            self._bad(message, err)
            return
        now = clock.now()
        stage: Stage
        is_late = command.expires is not None and clock.parse(command.expires) < now
        if message.retain or is_late:
            stage, detail = "expired" if is_late else "refused", "a test is asked for now"
        elif command.name != "test":
            stage, detail = "refused", f"there is no {command.name} here, only test"
        elif self._test_clears is not None:
            stage, detail = "refused", "a test is on its way"
        else:
            by = command.by or "somebody"
            self.begin_test(by)
            stage, detail = "applied", f"{len(self._config.targets)} targets are tried"
        identity = command.id or f"test-{clock.iso(now)}"
        result = Result(
            identity,
            command.name,
            command.value,
            stage,
            clock.iso(now),
            command.by,
            detail,
        )
        self._mesh.publish(self._mesh.topics.result(NAME), encode(result))

    def begin_test(self, by: str) -> None:
        """Raise the alarm that is none; it is cleared by itself."""
        severity = "warning"
        alarm = Alarm(
            id=f"test-{os.urandom(6).hex()}",
            state="raised",
            severity=severity,  # type: ignore[arg-type]
            title="A test of the notifications",
            text=f"{clock_text(by)} asked for it. Nothing is wrong.",
            ts=clock.iso(clock.now()),
            data={"by": clock_text(by)},
        )
        self._own[TEST] = alarm
        self._test_clears = self._time.steady() + TEST_CLEARS_S
        self._mesh.publish(self._mesh.topics.alarm(*TEST), encode(alarm), retain=True)

    def _bad(self, message: Message, err: MessageError) -> None:
        self.counters_["bad_payloads"] += 1
        if self.counters_["bad_payloads"] == 1:
            log.warning("%s: %s", message.topic, err)

    # -- alarms into the outbox --------------------------------------------------------------------

    def _take(self) -> bool:
        """Store what has arrived, then acknowledge it; False when it could not be stored."""
        count = min(len(self._inbox), BATCH)
        batch = [self._inbox[index] for index in range(count)]
        try:
            with self._outbox.transaction():
                for message in batch:
                    self._guarded(message)
        except sqlite3.Error as err:
            self.counters_["store_errors"] += 1
            if self.counters_["store_errors"] == 1:
                log.error("%s: %s; nothing is acknowledged meanwhile", self._outbox.path, err)
            return False
        for _ in batch:
            self._inbox.popleft()
        self._mesh.ack_all([message.mid for message in batch if message.qos == 1])
        self.wake_senders()
        return True

    def wake_senders(self) -> None:
        """There is something to send."""
        for sender in self.senders:
            sender.wake()

    def _guarded(self, message: Message) -> None:
        """One message that cannot be dealt with must not stand before all others for ever."""
        try:
            self._take_one(message)
        except sqlite3.Error:
            raise
        except Exception:
            self.counters_["bad_payloads"] += 1
            log.exception("%s: %r", message.topic, message.payload[:200])

    def _take_one(self, message: Message) -> None:
        self.counters_["messages"] += 1
        address = parse(message.topic)
        if (
            address is None
            or not DEVICE_NAME.fullmatch(address.device)
            or not 0 < len(address.code) <= CODE_LENGTH
        ):
            self._bad(message, MessageError("no device or no code of ours"))
            return
        try:
            if address.kind == "alarm_ack":
                if message.payload:
                    self.acknowledge(address.device, address.code, decode(Ack, message.payload))
                return
            if not message.payload:
                self._gone(address.device, address.code)
                return
            alarm = decode(Alarm, message.payload)
        except MessageError as err:
            self._bad(message, err)
            return
        self.take(address.device, address.code, alarm)

    def take(self, device: str, code: str, alarm: Alarm) -> Kind:
        """Store one message and plan what follows from it. Inside of a transaction."""
        known = self._outbox.alarm(device, code)
        ts_ms = clock.epoch_ms(clock.parse(alarm.ts))

        def is_told() -> bool:
            return self._outbox.is_told(device, code, alarm.id, alarm.state, ts_ms)

        kind = judge(known, alarm, is_told=is_told)
        if kind == "again":
            self.counters_["again"] += 1
            return kind
        now = stand(known, device, code, alarm, kind)
        if kind == "same":
            if known is not None or alarm.state == "raised":
                self._outbox.keep_alarm(now)
            return kind
        self.counters_["changes"] += 1
        change = self._outbox.add_change(now, kind, self._time.now_ms(), "")
        if not now.episode:
            now = successor(now, change)
        if kind == "worse":
            now = replace(now, acked_by="", acked_ms=None)  # that was seen of something milder
        self._outbox.keep_alarm(now)
        fate = self._plan(known, now, kind)
        self._outbox.set_fate(change, fate)
        self.note_told(device, code)
        return kind

    def _plan(self, before: Known | None, now: Known, kind: Kind) -> str:
        """Put pushes and timers into the outbox; returns what was done, in words."""
        device, code = now.device, now.code
        if kind == "better":
            return "milder: not pushed"
        if kind == "follows":
            return self._withdraw(now)
        if kind == "cleared":
            return self._plan_cleared(now)
        self._outbox.drop_timers(device, code, "promote")
        if kind == "raised" and before is not None:
            self._outbox.drop_timers(device, code, "remind", "escalate")
        if kind == "raised":
            self._adopt(now)
        if now.cause:
            return self._plan_follower(now)
        return self._plan_raised(now, "worse" if kind == "worse" else "raised")

    def _plan_raised(self, now: Known, kind: str) -> str:
        now_ms = self._time.now_ms()
        found = self._ways(now)
        if not found:
            return "no route leads to anybody"
        ts_ms = min(now.ts_ms, now_ms)
        is_old = now_ms - ts_ms > 1000 * self._config.expire_after_s
        for way in found:
            due_ms = self._due(now, way.target, now_ms)
            held = due_ms > now_ms
            if waits_for_cause(now, kind):
                due_ms = max(due_ms, now_ms + round(1000 * self._config.fold_s))
            if is_old:
                due_ms = max(due_ms, now_ms + round(1000 * OLD_HOLD_S))
            self._push(now, kind, way.target, due_ms=due_ms, held=held)
        self._outbox.drop_timers(now.device, now.code, "remind", "escalate")
        for way in found:
            route = way.route
            if route.remind_every_s and route.reminders and now.severity != "info":
                every_ms = round(1000 * route.remind_every_s)
                self._outbox.add_timer(
                    *("remind", now.device, now.code, [way.target]),
                    *(now_ms + every_ms, every_ms, route.reminders),
                )
        told = {way.target for way in found}
        for route in dict.fromkeys(way.route for way in found):
            others = [name for name in route.escalate_to if name not in told]
            if others:
                due_ms = now_ms + round(1000 * route.escalate_after_s)
                self._outbox.add_timer("escalate", now.device, now.code, others, due_ms)
        return "to " + ", ".join(sorted(told))

    def _withdraw(self, now: Known) -> str:
        """It has turned out to follow from another alarm: what has not gone out need not."""
        self._outbox.drop_timers(now.device, now.code, "remind", "escalate")
        for row in self._outbox.deliveries(now.device, now.code, now.episode):
            if row.state == "waiting" and not row.tries:
                detail = f"it follows {now.cause}"
                self._outbox.end(row, "cancelled", self._time.now_ms(), detail)
        return self._plan_follower(now)

    def _plan_follower(self, now: Known) -> str:
        """It is listed under its cause; without an open one it stands for itself a bit later."""
        device, _, code = now.cause.partition("/")
        cause = self._outbox.alarm(device, code)
        if cause is None or cause.state != "raised":
            due_ms = self._time.now_ms() + round(1000 * self._config.follow_grace_s)
            self._outbox.add_timer("promote", now.device, now.code, [], due_ms)
            return f"follows {now.cause}, which is awaited"
        self.note_told(device, code)
        return f"follows {now.cause}"

    def _adopt(self, cause: Known) -> None:
        """Those that waited for this cause have it."""
        for follower in self._outbox.followers(cause.device, cause.code):
            self._outbox.drop_timers(follower.device, follower.code, "promote")

    def _plan_cleared(self, now: Known) -> str:
        now_ms = self._time.now_ms()
        self._outbox.drop_timers(now.device, now.code, "remind", "escalate", "promote")
        self._outbox.stop_ringing(now.device, now.code, now_ms)
        due_ms = now_ms + round(1000 * self._config.follow_grace_s)
        for follower in self._outbox.followers(now.device, now.code):
            self._outbox.add_timer("promote", follower.device, follower.code, [], due_ms)
        rows = self._outbox.deliveries(now.device, now.code, now.episode)
        is_old = now_ms - min(now.ts_ms, now_ms) > 1000 * self._config.expire_after_s
        told: list[str] = []
        for row in rows:
            if row.state == "waiting" and (
                row.kind in ("reminder", "escalation") or (is_old and row.tries == 0)
            ):
                detail = "it was over before anybody was told"
                self._outbox.end(row, "cancelled", now_ms, detail)
            elif row.kind in TOLD_KINDS and row.state not in ("failed", "expired", "cancelled"):
                told.append(row.target)
        told = [name for name in dict.fromkeys(told) if name in self._config.targets]
        told = [name for name in told if self._wants_cleared(now, name)]
        for target in told:
            due_ms = self._due(now, target, now_ms)
            self._push(now, "cleared", target, due_ms=due_ms, held=due_ms > now_ms)
        return "over: to " + ", ".join(sorted(told)) if told else "over: nobody was told"

    def _wants_cleared(self, known: Known, target: str) -> bool:
        """Whether a route that leads there says when it is over; at any hour, however mild."""
        lead = [
            route.cleared
            for route in self._routes
            if target in (route.to or tuple(self._config.targets))
            and route.is_about(known.device, known.code)
        ]
        return any(lead) or not lead

    def _push(
        self, known: Known, kind: str, target: str, *, due_ms: int, held: bool, follow: str = ""
    ) -> None:
        now_ms = self._time.now_ms()
        begins_ms = max(due_ms, now_ms) if held else now_ms
        self._outbox.add_delivery(
            ref=f"sm{os.urandom(10).hex()}",
            known=known,
            kind=kind,
            target=target,
            created_ms=now_ms,
            due_ms=due_ms,
            expires_ms=begins_ms + round(1000 * self._config.expire_after_s),
            held=held,
            follow=follow,
        )

    def _gone(self, device: str, code: str) -> None:
        """Somebody has removed the topic: nothing is open there any more."""
        known = self._outbox.alarm(device, code)
        if known is None:
            return
        now_ms = self._time.now_ms()
        self._outbox.drop_timers(device, code, "remind", "escalate", "promote")
        self._outbox.stop_ringing(device, code, now_ms)
        self._outbox.forget_alarm(device, code)
        self._mesh.publish(self._mesh.topics.alarm_delivery(device, code), b"", retain=True)

    def _ways(self, known: Known) -> list[Way]:
        local = clock.from_ms(self._time.now_ms()).astimezone(self._zone)
        without: frozenset[str] = frozenset()
        if (known.device, known.code) == CHANNEL:
            without = frozenset(self._failing())
        return ways(known, self._routes, self._config.targets, local, without=without)

    def _due(self, known: Known, target: str, now_ms: int) -> int:
        settings = self._config.targets[target]
        is_test = (known.device, known.code) == TEST
        return not_before(known.severity, settings, now_ms, self._zone, is_test=is_test)

    # -- acknowledgement ---------------------------------------------------------------------------

    def acknowledge(self, device: str, code: str, ack: Ack) -> None:
        """Somebody has seen an alarm. Inside of a transaction."""
        known = self._outbox.alarm(device, code)
        self._outbox.told_ack(device, code, ack.id)
        if known is None or known.state != "raised":
            return
        rows = self._outbox.deliveries(device, code, known.episode)
        if ack.id not in {"", known.id, *(row.id for row in rows)}:
            return  # of an earlier time that it was raised
        self.counters_["acks"] += 1
        if not known.acked_by:
            by = texts.clean(ack.by, 64) or "somebody"
            self._outbox.acknowledge(device, code, by, self._time.now_ms())
            self.note_told(device, code)

    def _tell_acks(self) -> None:
        """Say on the topic what was acknowledged on phones, until it was heard there."""
        now_s = self._time.steady()
        if not self._mesh.connected or now_s < self._next_ack:
            return
        for receipt in self._outbox.untold_acks():
            self._next_ack = now_s + 2.0
            at = clock.from_ms(receipt.acked_ms or self._time.now_ms())
            ack = Ack(receipt.id, f"{receipt.target} by phone", clock.iso(at))
            topic = self._mesh.topics.alarm_ack(receipt.device, receipt.code)
            self._mesh.publish(topic, encode(ack))

    # -- what is due -------------------------------------------------------------------------------

    def _mind_timers(self) -> None:
        now_ms = self._time.now_ms()
        due = self._outbox.due_timers(now_ms)
        if not due:
            return
        with self._outbox.transaction():
            for timer in due:
                self._outbox.turn_timer(timer, now_ms)
                known = self._outbox.alarm(timer.device, timer.code)
                if known is not None and known.state == "raised":
                    self._do_timer(timer, known)
        self.wake_senders()

    def _do_timer(self, timer: Timer, known: Known) -> None:
        now_ms = self._time.now_ms()
        if timer.kind == "promote":
            device, _, code = known.cause.partition("/")
            cause = self._outbox.alarm(device, code) if known.cause else None
            if cause is None or cause.state != "raised":
                self._plan_raised(known, "raised")
                self.note_told(known.device, known.code)
            return
        if known.acked_by:
            return
        kind = "reminder" if timer.kind == "remind" else "escalation"
        rows = self._outbox.deliveries(known.device, known.code, known.episode)
        for target in timer.targets.split():
            if target not in self._config.targets:
                continue
            if any(row.target == target and row.state == "waiting" for row in rows):
                continue  # the first has not gone out yet: nobody can be reminded of it
            due_ms = now_ms if kind == "escalation" else self._due(known, target, now_ms)
            self._push(known, kind, target, due_ms=due_ms, held=due_ms > now_ms)
        self.note_told(known.device, known.code)

    def _mind_week(self) -> None:
        """The weekly sign of life; one that was missed by more than a day is left out."""
        if not self._config.sign_of_life or not self._config.targets:
            return
        now_ms = self._time.now_ms()
        due = self._outbox.meta("sign_of_life")
        day, minute = weekly(self._config.sign_of_life)
        following = next_weekly(now_ms, day, minute, self._zone)
        if not due or not due.isdigit() or int(due) > following:
            self._outbox.remember("sign_of_life", str(following))
            return
        if now_ms < int(due):
            return
        with self._outbox.transaction():
            self._outbox.remember("sign_of_life", str(following))
            if now_ms - int(due) <= 86_400_000:
                self._say_alive(now_ms)
        self.wake_senders()

    def _say_alive(self, now_ms: int) -> None:
        week = self._outbox.count_states(now_ms - 7 * 86_400_000)
        sent = sum(week.get(state, 0) for state in ("sent", "delivered", "read", "acknowledged"))
        failed = week.get("failed", 0) + week.get("expired", 0)
        opened = self._outbox.open_alarms()
        backup = None
        if self._backup_age_h is not None:
            when = clock.from_ms(now_ms) - timedelta(hours=self._backup_age_h)
            backup = when.astimezone(self._zone).strftime("%Y-%m-%d %H:%M")
        for target in self._config.sign_of_life_to or tuple(self._config.targets):
            language = self._config.targets[target].language
            worst = [
                texts.digest_line(self._subject(known), "raised", 1, language)
                for known in opened[:5]
            ]
            title, body = texts.sign_of_life(len(opened), worst, backup, sent, failed, language)
            known = _nothing("sign_of_life", now_ms)
            self._add_made(known, "sign_of_life", target, title, body)

    def _add_made(self, known: Known, kind: str, target: str, title: str, body: str) -> int:
        now_ms = self._time.now_ms()
        return self._outbox.add_delivery(
            ref=f"sm{os.urandom(10).hex()}",
            known=known,
            kind=kind,
            target=target,
            created_ms=now_ms,
            due_ms=now_ms,
            expires_ms=now_ms + round(1000 * self._config.expire_after_s),
            held=False,
            title=title,
            body=body,
        )

    def _failing(self) -> dict[str, str]:
        """Targets that cannot be reached, and why."""
        now_s = self._time.steady()
        found = {}
        for sender in self.senders:
            for target, health in sender.health.items():
                since = health.failing_since
                if health.refused:
                    found[target] = health.refused
                elif since is not None and now_s - since > FAILING_AFTER_S:
                    found[target] = health.last_error
        return found

    def _mind_channels(self) -> None:
        """A target that cannot be reached is an alarm, which the others hear of."""
        with self._guard:
            refused, self._refused = self._refused, []
        for row, _reason in refused:
            # who should have heard first has not: the next in line need not wait
            self._outbox.hasten(row.device, row.code, "escalate", self._time.now_ms())
        failing = self._failing()
        raised = self._own.get(CHANNEL)
        if bool(failing) != (raised is not None):
            if failing:
                names = ", ".join(sorted(failing))
                reasons = "; ".join(f"{name}: {failing[name]}" for name in sorted(failing))
                raised = Alarm(
                    id=f"{NAME}-{CHANNEL[1]}-{clock.iso(clock.now())}",
                    state="raised",
                    severity="warning",
                    title=f"{names} cannot be reached",
                    text=f"Notifications do not arrive. {texts.clean(reasons, 300)}",
                    ts=clock.iso(clock.now()),
                    data={"targets": names, "reason": texts.clean(reasons, 300)},
                )
                self._raise_own(CHANNEL, raised)
            elif any(sender.counters["pushes"] for sender in self.senders):
                self._clear_own(CHANNEL, "Notifications arrive again")
        if self._test_clears is not None and self._time.steady() >= self._test_clears:
            self._test_clears = None
            if TEST in self._own:
                self._clear_own(TEST, "The test is over")

    def _mind_watch(self) -> None:
        """The watch says of every service that it is away, but not of itself."""
        state, silent_s = self._watch, self._time.steady() - self._watch_at
        grace_s = self._config.watch_grace_s
        is_gone = state == "offline" and silent_s >= grace_s
        is_gone |= state == "online" and silent_s >= WATCH_SILENT_S + grace_s
        if is_gone and WATCH not in self._own:
            now = clock.iso(clock.now())
            alarm = Alarm(
                id=f"{NAME}-{WATCH[0]}-{now}",
                state="raised",
                severity="warning",
                title="The watch does not run",
                text=f"The service watch has been away for {round(silent_s)} s; until it is back "
                "nobody notices what takes more than one device to see.",
                ts=now,
                advice="Look at its log and start it again.",
                value=round(silent_s),
                data={"value": f"{round(silent_s)} s"},
            )
            log.warning("watch: away for %.0f s", silent_s)
            self._raise_own(WATCH, alarm)
        elif state == "online" and not is_gone and WATCH in self._own:
            self._clear_own(WATCH, "The watch runs again")

    def _raise_own(self, key: Key, alarm: Alarm) -> None:
        self._own[key] = alarm
        self._mesh.publish(self._mesh.topics.alarm(*key), encode(alarm), retain=True)

    def _clear_own(self, key: Key, text: str) -> None:
        raised = self._own.pop(key)
        cleared = msgspec.structs.replace(
            raised, state="cleared", text=text, ts=clock.iso(clock.now()), since=raised.ts
        )
        self._mesh.publish(self._mesh.topics.alarm(*key), encode(cleared), retain=True)

    # -- words -------------------------------------------------------------------------------------

    def words(self, row: Row) -> Words | None:
        """What the push says now; None when nothing is left to say."""
        known = self._outbox.alarm(row.device, row.code)
        if known is None:
            return None
        is_past = row.kind != "cleared" and (
            known.episode != row.episode or known.state != "raised"
        )
        if is_past and row.kind in ("reminder", "escalation"):
            return None
        if row.kind == "reminder" and known.acked_by:
            return None
        language = self._config.targets[row.target].language
        subject = self._subject(known)
        if is_past:
            subject = replace(subject, since=self._local(row.at_ms))
        kind = "past" if is_past else row.kind
        after = [each.device for each in self._outbox.followers(row.device, row.code)]
        until = self._local(known.ts_ms)
        return Words(
            texts.first_line(subject, kind, language),
            texts.body(subject, kind, language, list(dict.fromkeys(after)), until, known.acked_by),
            self._link(),
            texts.link_title(language) if self._config.portal else "",
            "past" if is_past else "",
        )

    def make_digest(self, target: str, severities: Sequence[str], held_only: bool) -> None:  # noqa: FBT001
        """Everything that waits for ``target`` goes out as one."""
        now_ms = self._time.now_ms()
        language = self._config.targets[target].language
        with self._outbox.transaction():
            rows, last = self._outbox.for_digest(target, severities, now_ms, held_only=held_only)
            if not rows:
                return
            lines, still_open, worst = [], 0, "info"
            for index, (device, code, count, _number) in enumerate(rows):
                known = self._outbox.alarm(device, code)
                if known is None:
                    continue
                still_open += known.state == "raised"
                if index < texts.LINES:
                    subject = self._subject(known)
                    lines.append(texts.digest_line(subject, known.state, count, language))
                if known.state == "raised":
                    worst = max(worst, known.severity, key=_rank)
            changes = sum(row[2] for row in rows)
            title, body = texts.digest(lines, changes, len(rows), still_open, language)
            severity = worst if worst in severities else severities[0]
            known = replace(_nothing("digest", now_ms), severity=severity)
            digest = self._add_made(known, "digest", target, title, body)
            self._outbox.join(target, severities, now_ms, last, digest, held_only=held_only)
            for device, code, _count, _number in rows:
                self.note_told(device, code)

    def _subject(self, known: Known) -> texts.Subject:
        data = msgspec.json.decode(known.data)
        return texts.Subject(
            device=known.device if (known.device, known.code) != TEST else "",
            code=known.code,
            severity=known.severity,
            title=known.title,
            text=known.text,
            advice=known.advice,
            value=msgspec.json.decode(known.value),
            data=data if isinstance(data, dict) else {},
            since=self._local(known.since_ms),
            flapping=bool(known.flapping),
        )

    def _link(self) -> str:
        return f"{self._config.portal.rstrip('/')}/alarms" if self._config.portal else ""

    def _local(self, at_ms: int) -> str:
        now = clock.from_ms(self._time.now_ms()).astimezone(self._zone)
        try:
            moment: datetime = clock.from_ms(at_ms).astimezone(self._zone)
        except (OverflowError, ValueError):
            return "?"
        return texts.local_time(moment, now)

    # -- what is told on topics --------------------------------------------------------------------

    def note_told(self, device: str, code: str) -> None:
        """Something about this alarm's pushes has changed. From any thread."""
        if device:
            with self._guard:
                self._told.add((device, code))
            self._wake.set()

    def _note_refused(self, row: Row, reason: str) -> None:
        with self._guard:
            self._refused.append((row, reason))
        self._wake.set()

    def _publish_told(self) -> None:
        """To whom alarms were pushed, for the portal."""
        now_s = self._time.steady()
        if not self._told or now_s < self._next_publish or not self._mesh.connected:
            return
        self._next_publish = now_s + PUBLISH_EVERY_S
        with self._guard:
            told = [self._told.pop() for _ in range(min(len(self._told), 50))]
        for device, code in told:
            delivery = self.delivery_of(device, code)
            if delivery is not None:
                topic = self._mesh.topics.alarm_delivery(device, code)
                self._mesh.publish(topic, encode(delivery), retain=True)

    def delivery_of(self, device: str, code: str) -> Delivery | None:
        """How far the pushes about an alarm have come; None when there is no such alarm."""
        known = self._outbox.alarm(device, code)
        if known is None:
            return None
        targets: dict[str, Delivered] = {}
        for row in self._outbox.deliveries(device, code, known.episode):
            if row.state == "cancelled" and row.target in targets:
                continue
            settings = self._config.targets.get(row.target)
            targets[row.target] = Delivered(
                state="waiting" if row.state == "sending" else row.state,  # type: ignore[arg-type]
                kind=row.kind,
                by=settings.by if settings else "",
                ts=clock.iso(clock.from_ms(row.done_ms or row.created_ms)),
                detail=row.detail,
            )
        return Delivery(known.id, clock.iso(clock.from_ms(self._time.now_ms())), targets)

    # -- upkeep ------------------------------------------------------------------------------------

    def _mind_jumps(self) -> None:
        """The wall's clock was set: what was to last an hour still does."""
        offset = self._time.now_ms() / 1000 - self._time.steady()
        before, self._offset = self._offset, offset
        if before is None or abs(offset - before) < JUMP_S:
            return
        log.warning("the clock was set by %+.0f s", offset - before)
        with self._outbox.transaction():
            self._outbox.shift(round(1000 * (offset - before)))
            now_ms = self._time.now_ms()
            for row in self._outbox.held_rows():
                known = self._outbox.alarm(row.device, row.code)
                if known is not None and row.target in self._config.targets:
                    self._outbox.set_due(row.n, self._due(known, row.target, now_ms))
        self.wake_senders()

    def _prune(self) -> None:
        now_s = self._time.steady()
        if now_s < self._next_prune:
            return
        self._next_prune = now_s + 6 * 3600.0
        self._outbox.prune(self._time.now_ms() - self._config.keep_days * 86_400_000)


def clock_text(by: str) -> str:
    """A name from outside, in one line."""
    return texts.clean(by, 40)


def _rank(severity: str) -> int:
    return ("info", "warning", "critical").index(severity)


def _nothing(code: str, now_ms: int) -> Known:
    """What a push stands for that is about no single alarm."""
    return Known(
        *("", code, "", now_ms, "raised", "info", "", "", "", "null", "{}", "", 0),
        *(now_ms, now_ms, "", None, 0),
    )
