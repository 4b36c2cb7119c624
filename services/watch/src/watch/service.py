"""What happens each turn: facts are heard, rules are asked, what changed is published."""

import logging
import math
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sunmesh import clock
from sunmesh.alarms import WATCH, Alarms, Condition, Key, Topology, causes, pushed_alone
from sunmesh.alone import RivalError, is_taken_over
from sunmesh.errors import MessageError
from sunmesh.messages import (
    Alarm,
    Health,
    Info,
    Result,
    Sample,
    ServiceStatus,
    Settings,
    Status,
    decode,
    encode,
)
from sunmesh.mqtt import Mesh, Message
from sunmesh.statefile import StateFile
from sunmesh.topics import NAME, Address, parse

from .facts import Days, Disk, Facts
from .loading import Plan
from .measures import Finding
from .rules import Rule

log = logging.getLogger(__name__)

SERVICE = "watch"
TURN_S = 1.0
"""Without news the rules are asked that often."""
GAP_S, REST = 0.1, 9.0
"""With news they are asked again after ``REST`` times as long as asking took, ``GAP_S`` at most."""
SAVE_S = 300.0
"""What is no alarm is written down that often, where it changed."""
DISKS_S = 30.0
LINGER_S = 90.0
"""A cause that is over explains what followed from it for so long [s]."""
ECHO_S = 5.0
"""What the broker keeps of us has arrived so long after a connect [s]."""
MOST_FOREIGN = 2000
"""So many alarms of others are known at a time; what is more has no cause and is no cause."""
KINDS = ("telemetry", "info", "settings", "status", "result", "alarm")

Ask = Callable[[], Days]


@dataclass(slots=True)
class Foreign:
    """An alarm of another service, as it said it last, and the cause that was added to it."""

    alarm: Alarm
    cause: str | None = None


class Judge:
    """The rules over the facts, and the life of what they find. No broker, no clock, no file.

    Args:
        plan: the rules.
        at: monotonic time of the start [s].
    """

    def __init__(self, plan: Plan, at: float) -> None:
        """Nothing is known, nothing is raised."""
        self.plan = plan
        self.facts = Facts(plan.families, at)
        self.alarms = Alarms(WATCH)
        self.foreign: dict[Key, Foreign] = {}
        self.known: dict[Key, Finding] = {}
        """The newest finding of each rule and device, for people."""
        self.due_at = math.inf
        """When something has lasted long enough, if nothing changes [monotonic s]."""
        self._rules = {rule.name: rule for rule in plan.rules}
        self._over: dict[Key, Alarm] = {}
        self._followed: dict[Key, tuple[Key, float]] = {}

    def turn(self, at: float, now: datetime) -> list[tuple[Key, Alarm]]:
        """Ask every rule; what is to be published."""
        facts = self.facts
        facts.tick(at)
        self.due_at = math.inf
        found = self._causes(at)
        said: list[tuple[Key, Alarm]] = []
        seen: set[Key] = set()
        for rule in self.plan.rules:
            is_day = rule.is_day(self.plan.place, now.timestamp())
            for finding in rule.findings(facts, at):
                key = finding.device, rule.name
                seen.add(key)
                self.known[key] = finding
                self._hold(rule, key, finding, is_day, at, now, found, said)
        for key in self.alarms.known:
            if key not in seen:
                self._gone(key, at, now, said)
        for key in self.known.keys() - seen:
            del self.known[key]
        again = self._causes(at)
        if again != found:  # what was raised now is a cause, or follows
            said += self._renamed(again, at, now)
        said += self._annotated(again, at)
        return said

    def _hold(
        self,
        rule: Rule,
        key: Key,
        finding: Finding,
        is_day: bool | None,
        at: float,
        now: datetime,
        found: Mapping[Key, Key],
        said: list[tuple[Key, Alarm]],
    ) -> None:
        raised = self.alarms.get(key)
        condition = None
        if finding.value is not None:
            condition = rule.judge(finding, raised, grid_is_open=self.facts.grid_is_open)
        if raised is None and not is_day:
            condition = None
        if raised is not None and (finding.value is None or (condition is not None and not is_day)):
            return  # what is not known now is not over, and the night is no news
        alarm = self.alarms.hold(
            key,
            condition,
            at,
            now,
            rule.terms,
            over="It is over.",
            cause=self._cause(key, raised, found, at),
        )
        if alarm is not None:
            said.append((key, alarm))
        elif (due := self.alarms.due(key, rule.terms)) is not None:
            self.due_at = min(self.due_at, due)

    def _gone(self, key: Key, at: float, now: datetime, said: list[tuple[Key, Alarm]]) -> None:
        """A rule says nothing of a key: it was switched off, or its device is no more."""
        rule = self._rules.get(key[1])
        if rule is None:
            text = "The rule is switched off."
        elif not self._is_known(key[0]) and self.facts.is_settled(at):
            text = "The device is not in the configuration any more."
        else:
            return  # it may speak again
        if (alarm := self.alarms.drop(key, now, text)) is not None:
            said.append((key, alarm))

    def _is_known(self, name: str) -> bool:
        facts = self.facts
        behind = any(name.startswith(f"{gateway}-") for gateway in facts.configured)
        own = name in (SERVICE, "broker", "plant")
        known = name in facts.devices or name in facts.services or name in facts.failures
        return own or behind or known

    # -- causes ------------------------------------------------------------------------------------

    def topology(self) -> Topology:
        """Who depends on whom, as far as it is known."""
        facts = self.facts
        fed: Collection[str]
        if self.plan.config.grid_fed is not None:
            fed = self.plan.config.grid_fed
        else:
            fed = [device.name for device in facts.of_family(("meter", "pvs6"))]
        return Topology(
            through={d.name: d.through for d in facts.devices.values() if d.through},
            service={d.name: d.service for d in facts.devices.values() if d.service},
            grid_fed=fed,
            grid_seen=[device.name for device in facts.of_family(("axpert",))],
            relay=[device.name for device in facts.of_family(("relay",))],
        )

    def _causes(self, at: float) -> dict[Key, Key]:
        """What follows from what; a while longer than that is there, for it ends one by one."""
        open_ = {key: foreign.alarm for key, foreign in self.foreign.items()}
        open_ |= self.alarms.raised
        found = causes(sorted(open_), self.topology()) if len(open_) > 1 else {}
        for key, cause in list(found.items()):
            if pushed_alone(open_[key], open_[cause]):
                del found[key]
                self._followed.pop(key, None)
        for key, cause in found.items():
            self._followed[key] = cause, at
        for key, (cause, last_at) in list(self._followed.items()):
            if key not in open_ or at - last_at > LINGER_S:
                del self._followed[key]
            else:
                found.setdefault(key, cause)
        return found

    def _cause(
        self, key: Key, alarm: Alarm | None, found: Mapping[Key, Key], at: float
    ) -> str | None:
        """The cause of an alarm; what an earlier run knew of it holds until all have spoken."""
        cause = found.get(key)
        if cause is not None:
            return "/".join(cause)
        if alarm is not None and not self.facts.is_settled(at):
            return alarm.cause
        return None

    def _renamed(
        self, found: Mapping[Key, Key], at: float, now: datetime
    ) -> list[tuple[Key, Alarm]]:
        """Our alarms whose cause came or went in this turn."""
        said = []
        for key, alarm in self.alarms.raised.items():
            name = self._cause(key, alarm, found, at)
            rule = self._rules.get(key[1])
            if alarm.cause == name or rule is None:
                continue
            condition = Condition(
                alarm.severity, alarm.title, alarm.text, alarm.value, alarm.advice, alarm.data
            )
            told = self.alarms.hold(key, condition, at, now, rule.terms, cause=name)
            if told is not None:
                said.append((key, told))
        return said

    def _annotated(self, found: Mapping[Key, Key], at: float) -> list[tuple[Key, Alarm]]:
        """Alarms of others, said once more with the cause that only the watch can know."""
        said = []
        for key, foreign in self.foreign.items():
            told = msgspec.structs.replace(foreign.alarm, cause=foreign.cause)
            name = self._cause(key, told, found, at)
            if name == foreign.cause:
                continue
            foreign.cause = name
            said.append((key, msgspec.structs.replace(foreign.alarm, cause=name)))
        return said

    def hear_foreign(self, key: Key, alarm: Alarm) -> Alarm | None:
        """An alarm that another service raised or cleared.

        Returns:
            What has to be published once more: its clearing, where our word of its cause arrived
            after it.
        """
        known, over = self.foreign.get(key), self._over.get(key)
        if alarm.state == "cleared":
            self.foreign.pop(key, None)
            self._over[key] = alarm
            while len(self._over) > MOST_FOREIGN:
                del self._over[next(iter(self._over))]
            return None
        if over is not None and over.id == alarm.id:
            return over
        is_echo = known is not None and known.alarm.id == alarm.id and known.cause == alarm.cause
        if is_echo and alarm.cause is not None:
            return None
        if known is not None or len(self.foreign) < MOST_FOREIGN:
            self.foreign[key] = Foreign(msgspec.structs.replace(alarm, cause=None), alarm.cause)
        return None


class Watch:
    """The service.

    Args:
        plan: what ``site.toml`` says.
        mesh: the broker client, not started yet.
        file: what must survive a restart.
        ask: asks the database for whole days; None where there is none.
        folders: whose disks are watched.
        monotonic: a clock that no one sets.
        now: the time of day.
    """

    def __init__(
        self,
        plan: Plan,
        mesh: Mesh,
        file: StateFile,
        ask: Ask | None = None,
        folders: Collection[Path] = (),
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """Reads what the last run left."""
        self.plan, self._mesh, self._file, self._ask = plan, mesh, file, ask
        self._folders, self._monotonic, self._now = folders, monotonic, now
        self.judge = Judge(plan, monotonic())
        self.judge.facts.found_broker(monotonic(), plan.config.settle_s)
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._saved: bytes = b""
        self._save_at = 0.0
        self._disks_at = 0.0
        self._save_problem = ""
        self._bad: set[str] = set()
        self._kept: dict[Key, Alarm] = {}
        self._ended: deque[str] = deque(maxlen=200)
        self._compare_at: float | None = None
        self._rival = ""
        self._numbers = dict.fromkeys(("turns", "changes", "unreadable", "day_failures"), 0)
        self._restore()

    def listen(self) -> None:
        """Subscribe to everything that rules look at."""
        topics = self._mesh.topics
        for kind in KINDS:
            self._mesh.subscribe(topics.every(kind), self._hear)
        self._mesh.subscribe(topics.every("service_status"), self._hear)
        self._mesh.subscribe(topics.every("service_health"), self._hear, qos=0)
        self._mesh.on_connect(self._connected)
        self._mesh.on_lost(self._lost)

    def work(self, stop: threading.Event) -> None:
        """Ask the rules until ``stop``.

        Raises:
            RivalError: another watch has taken over.
        """
        asker = threading.Thread(target=self._days, args=(stop,), name="days", daemon=True)
        if self._ask is not None:
            asker.start()
        else:
            self.judge.facts.days = Days(why_not="no database is configured")
        while not stop.is_set():
            if self._rival:
                raise RivalError(self._rival)
            began = self._monotonic()
            self.turn()
            stop.wait(self._rest_s(began))
            left_s = self.judge.due_at - self._monotonic()
            self._news.wait(min(max(left_s, 0.0), TURN_S - GAP_S))
            self._news.clear()
        with self._lock:
            self._save(self._monotonic(), now=True)

    def _rest_s(self, began: float) -> float:
        """How long nobody asks after a turn: by what it cost, and not beyond what is due."""
        now = self._monotonic()
        rest_s = min(GAP_S, REST * (now - began))
        left_s = self.judge.due_at - now
        return left_s if 0 < left_s < rest_s else rest_s

    def wake(self) -> None:
        """Something new: the rules are asked soon."""
        self._news.set()

    def turn(self) -> None:
        """Ask the rules once."""
        at = self._monotonic()
        if at >= self._disks_at:
            self._disks_at = at + DISKS_S
            self._look_at_disks()
        with self._lock:
            self._numbers["turns"] += 1
            if self.judge.facts.away_at is not None:
                return  # nobody would hear it, and nothing is heard
            said = self.judge.turn(at, self._now())
            self._numbers["changes"] += len(said)
            self._ended += [alarm.id for _, alarm in said if alarm.state == "cleared"]
            if said or at >= self._save_at:
                self._save(at, now=bool(said))
            said += self._missing(at)
        for key, alarm in said:
            self._publish(key, alarm)

    def counters(self) -> dict[str, int | float | str | None]:
        """For the health message."""
        with self._lock:
            raised = self.judge.alarms.raised
            return {
                **self._numbers,
                "rules": len(self.plan.rules),
                "raised": len(raised),
                "foreign": len(self.judge.foreign),
                "devices": len(self.judge.facts.devices),
                "days_known": len(self.judge.facts.days.plant),
                "days_why_not": self.judge.facts.days.why_not or None,
            }

    # -- what is heard -----------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        address = parse(message.topic)
        if address is None or not message.payload or not NAME.fullmatch(address.device):
            return
        try:
            with self._lock:
                again = self._take(address, message)
        except (MessageError, ValueError) as err:
            self._numbers["unreadable"] += 1
            if message.topic not in self._bad and len(self._bad) < 100:
                self._bad.add(message.topic)
                log.warning("%s: %s", message.topic, str(err)[:200])
            return
        if again is not None:
            self._publish((address.device, address.code), again)
        if address.kind != "service_health":
            self.wake()

    def _take(self, address: Address, message: Message) -> Alarm | None:
        """Put a message where it belongs; an alarm that has to be said once more."""
        facts, at, name = self.judge.facts, self._monotonic(), address.device
        match address.kind:
            case "telemetry":
                sample = decode(Sample, message.payload)
                facts.hear_sample(name, sample, at, self._now(), kept=message.retain)
            case "status":
                facts.hear_status(name, decode(Status, message.payload), at, self._now())
            case "info":
                facts.hear_info(name, decode(Info, message.payload))
            case "settings":
                facts.hear_settings(name, decode(Settings, message.payload))
            case "result":
                if not message.retain:
                    facts.hear_result(name, decode(Result, message.payload), at)
            case "service_status":
                facts.hear_service(name, decode(ServiceStatus, message.payload), at)
            case "service_health":
                facts.hear_health(name, decode(Health, message.payload))
            case "alarm":
                return self._hear_alarm(address, message)
        return None

    def _hear_alarm(self, address: Address, message: Message) -> Alarm | None:
        alarm = decode(Alarm, message.payload)
        key = address.device, address.code
        if not self.judge.alarms.is_own(alarm):
            return self.judge.hear_foreign(key, alarm)
        self._kept[key] = alarm
        if message.retain and alarm.state == "raised" and alarm.id not in self._ended:
            self.judge.alarms.adopt(key, alarm)  # said, and not written down any more
        return None

    def _missing(self, at: float) -> list[tuple[Key, Alarm]]:
        """Once after each connect: what is raised, and not kept by the broker as it is."""
        if self._compare_at is None or at < self._compare_at:
            return []
        self._compare_at = None
        raised = self.judge.alarms.raised
        return [(key, alarm) for key, alarm in raised.items() if self._kept.get(key) != alarm]

    def _connected(self) -> None:
        with self._lock:
            at = self._monotonic()
            self.judge.facts.found_broker(at, self.plan.config.settle_s)
            self._compare_at = at + ECHO_S
        self.wake()

    def _lost(self, reason: str) -> None:
        with self._lock:
            self.judge.facts.lost_broker(self._monotonic())
        if is_taken_over(reason):
            self._rival = "another watch of this site has taken over the connection"
            self.wake()

    # -- the edges ---------------------------------------------------------------------------------

    def _publish(self, key: Key, alarm: Alarm) -> None:
        if self.judge.alarms.is_own(alarm):
            level = logging.WARNING if alarm.state == "raised" else logging.INFO
            log.log(level, "%s/%s %s: %s", *key, alarm.state, alarm.text)
        self._mesh.publish(self._mesh.topics.alarm(*key), encode(alarm), retain=True)

    def _look_at_disks(self) -> None:
        """How full they are; a folder that is not there is left out."""
        found: dict[int, Disk] = {}
        for folder in self._folders:
            try:
                device = os.stat(folder).st_dev  # noqa: PTH116 - once each half minute
                usage = shutil.disk_usage(folder)
            except OSError:
                continue
            # what is kept for root is not free for us
            used = 100.0 * (1 - usage.free / max(1, usage.used + usage.free))
            found.setdefault(device, Disk(str(folder), used, usage.free))
        with self._lock:
            self.judge.facts.disks = list(found.values())

    def _days(self, stop: threading.Event) -> None:
        """Ask the database now and then."""
        pause_s = 20.0
        while not stop.wait(pause_s):
            pause_s = self.plan.config.days_every_min * 60
            self.look_at_days()

    def look_at_days(self) -> None:
        """Ask the database once; never raises."""
        if self._ask is None:
            return
        days = self._ask()
        with self._lock:
            if days.why_not:
                self._numbers["day_failures"] += 1
                if self.judge.facts.days.why_not != days.why_not:
                    log.warning("rules of whole days wait: %s", days.why_not)
            self.judge.facts.days = days
        self.wake()

    def _restore(self) -> None:
        content = self._file.load()
        if not content:
            return
        at = self._monotonic()
        try:
            self.judge.alarms.restore(content.get("alarms", []), at)
            self.judge.facts.restore(content.get("facts", {}), at)
        except (MessageError, ValueError) as err:
            self._file.set_aside(str(err))

    def _save(self, at: float, *, now: bool) -> None:
        """Write down what the next run needs, if it is news."""
        self._save_at = at + SAVE_S
        content: dict[str, Any] = {
            "alarms": self.judge.alarms.state(at),
            "facts": self.judge.facts.memory(at),
        }
        key = repr(
            (
                sorted((k, a.id, a.ts) for k, a in self.judge.alarms.raised.items()),
                content["facts"]["strings"],
                len(content["facts"]["failures"]),
            )
        ).encode()
        if key == self._saved and not now:
            return
        try:
            self._file.save(content)
        except OSError as err:
            if str(err) != self._save_problem:
                self._save_problem = str(err)
                log.error("%s cannot be written: %s", self._file.path, err)
            return
        self._saved, self._save_problem = key, ""
