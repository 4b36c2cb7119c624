"""What happens each turn: look, decide, write down, send, tell; and what became of it."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sunmesh import clock
from sunmesh.commands.desk import Desk, Wish
from sunmesh.errors import MessageError, RefusedError
from sunmesh.messages import (
    Alarm,
    Command,
    Info,
    Result,
    Sample,
    Settings,
    Status,
    Value,
    decode,
    encode,
)
from sunmesh.mqtt import Mesh, Message
from sunmesh.statefile import StateFile
from sunmesh.topics import parse
from sunmesh.voice import Condition

from . import engine
from .book import Book, Draft, read_draft
from .config import MODES, Mode
from .rehearsal import Rehearsal, read_wanted
from .rules import CONNECTED, Plan
from .state import Batch, Decision, Outcome, RelayWish, State, remembered
from .watch import Watch

log = logging.getLogger(__name__)

NAME = "controller"
OFFSET_S = 2.0
"""Evaluated so long after a minute is over, when its last sample has arrived [s]."""
FIRST_S = 3.0
"""At the start, the broker is given that long to hand over what it kept [s]."""
SETTINGS_EXPIRY_S = 60.0
BLIND_S = 150.0
"""A lost device is its collector's alarm after 2 min; that rules cannot see it comes later."""

RELAY_EXPIRY_S = 10.0
"""Commands that are older are not done: what was right then may be wrong now [s]."""

Past = Callable[[], list[tuple[str, str, int, Value]]]
"""What the database knows of the last minutes: device, quantity, minute, value."""


class Controller:
    """The service.

    Args:
        plan: rules and configuration.
        mesh: the broker's client.
        devices: the tables ``[devices.NAME]``.
        file: where what must not be forgotten is kept.
        past: reads the database; None = without one.
        monotonic, now: time, for tests.
        book: the rules as they are written; without it they cannot be changed from outside.
    """

    def __init__(
        self,
        plan: Plan,
        mesh: Mesh,
        devices: Mapping[str, Mapping[str, Any]],
        file: StateFile,
        past: Past | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = clock.now,
        book: Book | None = None,
    ) -> None:
        """Nothing is heard or sent before :meth:`work`."""
        self.plan, self._mesh, self._file, self._past = plan, mesh, file, past
        self._now = now
        self._devices, self.book = devices, book
        self._adopting: list[tuple[Wish, Draft]] = []
        self._rehearsal: Rehearsal | None = None
        if book is not None:
            self._rehearsal = Rehearsal(book.site.path, self._tell_replay)
        self._heard: set[str] = set()
        self.watch = Watch(plan, devices, monotonic, now)
        content = file.load()
        self.state = remembered(content, clock.epoch_ms(now()), is_damaged=file.damaged)
        self._alarms = _alarms(content.get("alarms"))
        self._blind_at: dict[str, float] = {}
        self._saved: dict[str, Any] | None = None
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._told: dict[str, tuple[object, float]] = {}
        self._monotonic = monotonic
        self._problem = ""
        self._numbers: dict[str, int] = dict.fromkeys(
            ("evaluations", "not_good", "batches", "leases", "skipped", "unreadable"), 0
        )
        self._last_s: float | None = None
        self.desk = Desk(mesh, NAME, self._take, seen=_strings(content.get("ids")))

    # -- life --------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Subscribe to what the rules look at, and to commands."""
        self._listen_to_devices()
        self._mesh.on_connect(self._introduce)
        self.desk.listen()

    def _listen_to_devices(self) -> None:
        topics = self._mesh.topics
        for name in self.watch.names:
            if name in self._heard:
                continue
            self._heard.add(name)
            for pattern in (topics.telemetry, topics.settings, topics.info, topics.status):
                self._mesh.subscribe(pattern(name), self._hear)
            self._mesh.subscribe(topics.result(name), self._hear)

    def work(self, stop: threading.Event) -> None:
        """Evaluate until ``stop``."""
        self._remember_past()
        interval_s = self.plan.config.interval_s
        self._wait(stop, min(FIRST_S, interval_s))
        while not stop.is_set():
            try:
                self._adopt()
                self.evaluate()
            except Exception:
                # no renewal without an evaluation: the relay goes back by itself
                log.exception("the evaluation failed")
            self._wait(stop, self._pause_s(interval_s))
        if self._rehearsal is not None:
            self._rehearsal.stop()
        self.give_back()

    def _pause_s(self, interval_s: float) -> float:
        """Until shortly after the next minute; never less than half an interval."""
        offset_s = min(OFFSET_S, interval_s / 4)
        past_s = (self._now().timestamp() - offset_s) % interval_s
        pause_s = interval_s - past_s
        return pause_s if pause_s >= interval_s / 2 else pause_s + interval_s

    def _wait(self, stop: threading.Event, pause_s: float) -> None:
        """Wait, but not when somebody chose another mode; a stop is noticed within 0.2 s."""
        until = self._monotonic() + pause_s
        while not stop.is_set() and not self._wake.is_set():
            left_s = until - self._monotonic()
            if left_s <= 0 or self._wake.wait(min(left_s, 0.2)):
                break
        self._wake.clear()

    def _remember_past(self) -> None:
        """The last minutes from the database, so that a restart does not blind the rules."""
        if self._past is None:
            return
        try:
            rows = self._past()
        except Exception as err:
            log.warning("the last minutes are not known (%s); the rules wait for new ones", err)
            return
        with self.watch.lock:
            for device, name, minute, value in rows:
                self.watch.history.put(device, name, minute, value)
        log.info("%d minutes of the past are known", len(rows))

    def give_back(self, reason: str = "the controller stops") -> None:
        """The end: whoever stops does not keep the grid open."""
        with self._lock:
            hold, self.state.hold = self.state.hold, None
            if hold is not None and self._mesh.connected:
                self._send_relay(RelayWish(f"relay-{_token()}", CONNECTED, hold.rule, reason))
            self._save()

    def _adopt(self) -> None:
        """Go on with the rules as they were changed: exactly as after a restart.

        So nothing is proved anew here: the grid is given back, all must be well again before it is
        opened, and what was forced is put back as soon as its rule is over, or gone.
        """
        with self._lock:
            wishes, self._adopting = self._adopting, []
            if not wishes or self.book is None:
                return
            plan = self.book.plan
            before, known = {rule.name for rule in self.plan.rules}, self.plan.sources
            self.give_back("the rules were changed")
            with self.watch.lock:
                self.plan = plan
                watch = Watch(plan, self._devices, self._monotonic, self._now)
                watch.take_over(self.watch)
                self.watch = watch
            lasting = self.state.lasting()
            self.state = remembered(lasting, clock.epoch_ms(self._now()))
            for _, draft in wishes:
                for name in draft.rules:
                    self._told.pop(name, None)
                for name, mode in draft.modes.items():
                    if plan.rule(name) is not None:
                        self.state = engine.set_mode(plan, self.state, mode, name)
            for name in before - {rule.name for rule in plan.rules}:
                self.state.modes.pop(name, None)
                self._mesh.publish(self._mesh.topics.decision(name), b"", retain=True)
            is_kept = self._save()
        self._listen_to_devices()
        if plan.sources - known:
            self._remember_past()
        self._introduce()
        for wish, _ in wishes:
            detail = "" if is_kept else f"modes until the next restart: {self._problem}"
            self.desk.say(wish, "applied", detail)
        log.info("the rules were changed, says %s", wishes[-1][0].by or "somebody")

    # -- one turn ----------------------------------------------------------------------------------

    def evaluate(self) -> Outcome | None:
        """Look, decide, write down, send, tell; None while the broker is away."""
        if not self._mesh.connected:
            self._numbers["skipped"] += 1
            return None  # a command that waits for the broker is a ghost, and a lease ends anyway
        began = time.perf_counter()
        with self._lock:
            with self.watch.lock:
                view = self.watch.view(_token())
                outcome = engine.decide(self.plan, self.state, view)
            self.state = outcome.state
            self._numbers["evaluations"] += 1
            self._numbers["not_good"] += not outcome.is_good
            self._tell_alarms(outcome)
            batches = outcome.batches
            if not self._save() and batches:
                # what cannot be written down must not be forced
                for batch in batches:
                    self.state.pending.pop(batch.device, None)
                batches = ()
            for batch in batches:
                self._send_batch(batch)
            if outcome.relay is not None:
                self._send_relay(outcome.relay)
            for decision in outcome.decisions:
                self._tell(decision)
        self._last_s = time.perf_counter() - began
        return outcome

    def _save(self) -> bool:
        """Write down what must not be forgotten, if it changed; False when that failed."""
        content = self.state.lasting() | {
            "alarms": msgspec.to_builtins(self._alarms),
            "ids": self.desk.ids()[-50:],
        }
        if content == self._saved:
            return True
        try:
            self._file.save(content)
        except OSError as err:
            if not self._problem:
                log.error("%s cannot be written (%s): nothing is set", self._file.path, err)
            self._problem = str(err)
            return False
        if self._problem:
            log.info("%s can be written again", self._file.path)
        self._problem, self._saved = "", content
        return True

    def _send_batch(self, batch: Batch) -> None:
        self._numbers["batches"] += 1
        command = Command(
            "settings",
            id=batch.id,
            values=dict(batch.values),
            by=f"{NAME}:{batch.rule}",
            reason=batch.reason,
            expires=clock.iso(self._now() + timedelta(seconds=SETTINGS_EXPIRY_S)),
        )
        log.info("%s: %s of %s: %s", batch.rule, dict(batch.values), batch.device, batch.reason)
        self._publish(batch.device, command, SETTINGS_EXPIRY_S)

    def _send_relay(self, wish: RelayWish) -> None:
        self._numbers["leases"] += wish.renews
        command = Command(
            "relay_position",
            wish.position,
            id=wish.id,
            lease_s=wish.lease_s,
            by=f"{NAME}:{wish.rule}",
            reason=wish.reason,
            expires=clock.iso(self._now() + timedelta(seconds=RELAY_EXPIRY_S)),
        )
        level = logging.DEBUG if wish.renews else logging.INFO
        log.log(level, "%s: %s: %s", wish.rule, wish.position, wish.reason)
        self._publish(self.plan.config.relay, command, RELAY_EXPIRY_S)

    def _publish(self, device: str, command: Command, expiry_s: float) -> None:
        topic = self._mesh.topics.command(device)
        self._mesh.publish(topic, encode(command), expiry_s=round(expiry_s))

    def _tell(self, decision: Decision) -> None:
        """Publish a decision that is new; one that stays the same now and then."""
        outcome = (decision.mode, decision.kind, decision.did, decision.wants)
        told = self._told.get(decision.rule)
        at = self._monotonic()
        is_new = decision.changed or told is None or told[0] != outcome
        repeat_s = self.plan.config.repeat_min * 60
        if not is_new and told is not None and at - told[1] < repeat_s:
            return
        self._told[decision.rule] = (outcome, at)
        document = {
            "ts": clock.iso(self._now()),
            "rule": decision.rule,
            "says": next((r.says for r in self.plan.rules if r.name == decision.rule), ""),
            "mode": decision.mode,
            "saw": decision.saw,
            "wants": decision.wants,
            "did": decision.did,
            "why": decision.why,
            "changed": is_new,
        }
        payload = json.dumps(document, ensure_ascii=False).encode()
        self._mesh.publish(self._mesh.topics.decision(decision.rule), payload, retain=True)

    def _tell_alarms(self, outcome: Outcome) -> None:
        wanted = self._folded(outcome.alarms)
        if self._problem:
            wanted["state-unwritable"] = Condition(
                "critical",
                "The controller cannot write down what it does",
                f"{self._file.path}: {self._problem}. No setting is changed until it can.",
            )
        if self.book is not None and (self.book.unsound or self.book.damaged):
            whys = [f"{name}: {why}" for name, why in sorted(self.book.unsound.items())]
            wanted["rules-unsound"] = Condition(
                "warning",
                "Rules that were changed in the portal are left out",
                "; ".join(whys) or f"{self.book.path} could not be read; it is kept as .bad.",
            )
        now = clock.iso(self._now())
        for code, condition in wanted.items():
            known = self._alarms.get(code)
            if known is not None and (known.title, known.severity) == (
                condition.title,
                condition.severity,
            ):
                continue  # its text may be another one: ages and counts move on
            self._alarms[code] = alarm = Alarm(
                known.id if known else f"{NAME}-{code}-{now}",
                "raised",
                condition.severity,
                condition.title,
                condition.text,
                now,
                condition.value,
                advice=condition.advice,
            )
            self._publish_alarm(code, alarm)
        for code in self._alarms.keys() - wanted.keys():
            old = self._alarms.pop(code)
            text = "It is over."
            cleared = Alarm(old.id, "cleared", old.severity, old.title, text, now)
            self._publish_alarm(code, cleared)

    def _folded(self, alarms: Mapping[str, Condition]) -> dict[str, Condition]:
        """Rules that cannot see the same device are one alarm, and that only when it lasts.

        Who reads the device says it first, so that this one is known to follow from that.
        """
        now_s = time.monotonic()
        wanted: dict[str, Condition] = {}
        blind: dict[str, dict[str, Condition]] = {}
        for code, condition in alarms.items():
            if device := condition.data.get("blind"):
                blind.setdefault(str(device), {})[code] = condition
            else:
                wanted[code] = condition
        self._blind_at = {device: self._blind_at.get(device, now_s) for device in blind}
        for device, found in blind.items():
            code = f"blind-{device}"
            if now_s - self._blind_at[device] < BLIND_S and code not in self._alarms:
                continue
            why = str(next(iter(found.values())).data["why"])
            wanted[code] = Condition(
                "warning",
                f"The rules cannot see {device}",
                f"{why[:1].upper()}{why[1:]}. These rules do nothing until it can be read again: "
                f"{', '.join(sorted(found))}.",
                advice="The inverter goes on with the settings that it has, and the grid is given "
                f"back where a rule had opened it. Look why {device} cannot be read.",
            )
        return wanted

    def _publish_alarm(self, code: str, alarm: Alarm) -> None:
        self._mesh.publish(self._mesh.topics.alarm(NAME, code), encode(alarm), retain=True)

    # -- the mesh ----------------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        """Something of a device.

        What the broker had kept is not acted upon: it may be of any age, and the clock that would
        tell may have been set since.
        """
        address = parse(message.topic)
        if address is None or not message.payload:
            return
        if message.retain and address.kind in ("telemetry", "settings"):
            return
        name = address.device
        try:
            match address.kind:
                case "telemetry":
                    self.watch.hear_sample(name, decode(Sample, message.payload))
                case "settings":
                    self.watch.hear_settings(name, decode(Settings, message.payload))
                case "info":
                    self.watch.hear_info(name, decode(Info, message.payload))
                case "status":
                    self.watch.hear_status(name, decode(Status, message.payload))
                case "result":
                    self._hear_result(name, decode(Result, message.payload))
        except MessageError as err:
            if not self._numbers["unreadable"]:
                log.warning("%s: %s", message.topic, err)
            self._numbers["unreadable"] += 1

    def _hear_result(self, device: str, result: Result) -> None:
        if not (result.by or "").startswith(f"{NAME}:"):
            return
        with self._lock:
            now_ms = clock.epoch_ms(self._now())
            _, part, name = result.id.partition("/")
            if part and result.stage == "applied":
                ms = clock.epoch_ms(clock.parse(result.ts))
                self.watch.hear_applied(device, name, result.value, ms)
            before = self.state.failures
            self.state = engine.hear(self.plan, self.state, device, result, now_ms)
            for rule, why in self.state.failures.items():
                if before.get(rule) != why:
                    log.warning("%s: %s", rule, why)

    # -- modes -------------------------------------------------------------------------------------

    def _take(self, wish: Wish) -> None:
        """A command: ``mode``, ``rule.NAME``, or one about a draft."""
        value = wish.value
        if wish.name.startswith("draft."):
            self._take_draft(wish)
            return
        if value not in MODES:
            raise RefusedError(f"{wish.name} is {', '.join(MODES)}, not {value!r}")
        rule = ""
        if wish.name != "mode":
            word, _, rule = wish.name.partition(".")
            if word != "rule" or self.plan.rule(rule) is None:
                known = ", ".join(each.name for each in self.plan.rules)
                raise RefusedError(f"{wish.name} is not known; mode is, and rule.NAME of {known}")
        mode: Mode = next(each for each in MODES if each == value)
        self.desk.say(wish, "accepted")
        with self._lock:
            self.state = engine.set_mode(self.plan, self.state, mode, rule)
            is_kept = self._save()
        log.info("%s is %s, says %s", wish.name, mode, wish.by or "somebody")
        self._introduce()
        detail = "" if is_kept else f"until the next restart: {self._problem}"
        self.desk.say(wish, "applied", detail)
        self._wake.set()

    def _take_draft(self, wish: Wish) -> None:
        """``draft.check``, ``draft.save``, ``draft.replay``: JSON in a string."""
        if self.book is None or self._rehearsal is None:
            raise RefusedError("rules are not changed from here")
        if wish.name == "draft.replay":
            wanted = read_wanted(wish.value)
            if wanted.draft is not None:
                self.book.tried(wanted.draft)

            def done(why: str) -> None:
                self.desk.say(wish, "failed" if why else "applied", why)

            self._rehearsal.start(wish.id, wanted, done)
            self.desk.say(wish, "accepted")
            return
        draft = read_draft(wish.value)
        if wish.name == "draft.check":
            self.book.tried(draft)
            self.desk.say(wish, "applied")
            return
        if wish.name != "draft.save":
            raise RefusedError("of a draft there are draft.check, draft.save and draft.replay")
        with self._lock:
            by, ts = wish.by or "somebody", clock.iso(self._now())
            self.book.save(draft, by=by, note=wish.command.reason or "", ts=ts)
            self._adopting.append((wish, draft))
        self.desk.say(wish, "accepted", "written down")
        self._wake.set()

    def _tell_replay(self, payload: bytes) -> None:
        self._mesh.publish(self._mesh.topics.rules("replay"), payload)

    def settings(self) -> dict[str, Value]:
        """The modes, as they are published."""
        modes: dict[str, Value] = {"mode": self.state.mode}
        for rule in self.plan.rules:
            modes[f"rule.{rule.name}"] = self.state.modes.get(rule.name, rule.mode)
        return modes

    def _introduce(self) -> None:
        message = Settings(clock.iso(self._now()), self.settings())
        self._mesh.publish(self._mesh.topics.settings(NAME), encode(message), retain=True)
        if self.book is not None:
            document = self.book.document(clock.iso(self._now()))
            self._mesh.publish(self._mesh.topics.rules("book"), document, retain=True)

    # -- health ------------------------------------------------------------------------------------

    def counters(self) -> dict[str, int | float | str | None]:
        """What belongs into the health message."""
        state = self.state
        hold = state.hold
        return {
            **self._numbers,
            **self.desk.counters,
            "mode": state.mode,
            "rules": len(self.plan.rules),
            "rules_active": sum(kept.is_active for kept in state.rules.values()),
            "rules_blind": sum(kept.blind_ms > 0 for kept in state.rules.values()),
            "alarms": len(self._alarms),
            "forced": len(state.forced),
            "writes_24h": sum(len(all_ms) for all_ms in state.writes_ms.values()),
            "grid_open_for": hold.rule if hold else None,
            "evaluation_s": None if self._last_s is None else round(self._last_s, 4),
            "state_ok": int(not self._problem),
        }


def _token() -> str:
    """Makes ids of commands; no two evaluations of any run share one."""
    return os.urandom(8).hex()


def _alarms(content: object) -> dict[str, Alarm]:
    """Alarms that were raised when the last run ended: they are cleared, or go on, by their id."""
    try:
        return msgspec.convert(content or {}, dict[str, Alarm])
    except msgspec.ValidationError:
        return {}


def _strings(content: object) -> list[str]:
    return [item for item in content if isinstance(item, str)] if isinstance(content, list) else []


__all__ = ["Controller", "State"]
