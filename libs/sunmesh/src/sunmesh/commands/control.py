"""Puts settings into a polled device, one command after the other, and believes only what it reads.

Commands come in the MQTT client's thread, are checked and wait in a queue. The thread that polls
the device, and nobody else, talks to it: between two requests of a round, or at once while the
line rests. A command is done when the device, asked again, has the value.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from .. import clock
from ..config import Site
from ..errors import FrameError, RefusedError, TransportError
from ..messages import Range, Settings, Stage, Value, encode
from ..mqtt import Mesh
from ..statefile import StateFile
from . import rules
from .desk import Desk, Wish
from .ledger import Held, Ledger
from .rules import Pair, same, text

log = logging.getLogger(__name__)

BATCH = "settings"
"""The name of a command with several settings in ``values``."""

WAITING = 16
"""So many commands may wait for one device."""

TRIES = 3
"""A command without an answer is sent so often, and asked for in between."""

SETTLE_S = (0.0, 0.5, 1.5)
"""Pauses before the readings that must show an acknowledged value: some firmware is slow [s]."""

JUST_NOW_S = 2.0
"""What was read no longer ago than that counts as read before the write, for every setting [s]."""

WATCHED = timedelta(days=1)
"""For so long a value that a command has set is compared with what is read."""


class Actuator(Protocol):
    """A device that settings can be put into; a :class:`sunmesh.poll.Source` besides.

    Attributes:
        between: called between two requests of a round.
        pairs: settings of which the first must never be above the second.
        passing: settings that the device ends by itself, which is no reversal.
    """

    between: Callable[[], None]
    pairs: tuple[Pair, ...]
    passing: Collection[str]

    def ranges(self) -> dict[str, Range]:
        """What may be set now, and to what. Any thread."""
        ...

    def why_not(self, name: str) -> str:
        """Why ``name`` is not among them."""
        ...

    def permit(self, name: str, value: Value, current: Mapping[str, Value]) -> None:
        """See that the device, as it is set now, can take it.

        Raises:
            RefusedError: it cannot.
        """
        ...

    def expects(self, name: str, value: Value) -> dict[str, Value]:
        """What is read once the command is done; ``{name: value}`` for a plain setting."""
        ...

    def read(self, names: Collection[str]) -> dict[str, Value]:
        """Read ``names`` back, and whatever comes with them, as cheaply as it goes.

        Raises:
            FrameError, TransportError: it cannot be read.
        """
        ...

    def write(
        self, name: str, value: Value, current: Mapping[str, Value], sent: Callable[[], None]
    ) -> None:
        """Send one command and wait for the device to take it; ``sent`` is called in between.

        Raises:
            FrameError: ``nak``: the device refuses. Others: what it answered is not known.
            TransportError: no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class _End:
    """How a command ended."""

    stage: Stage
    detail: str
    value: Value = None


class Control:
    """The commands of one device.

    Args:
        device: its name in the mesh.
        actuator: the device.
        mesh: where commands come from and results go.
        ledger: counts and memory.
        fresh_s: settings read no longer ago than that count as read before a write of normal
            risk; the others are read anew.
        monotonic, pause: time, for tests.

    Attributes:
        wake: set while a command waits.
        done: how many commands have had their turn.
    """

    def __init__(
        self,
        device: str,
        actuator: Actuator,
        mesh: Mesh,
        ledger: Ledger,
        *,
        fresh_s: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is heard before :meth:`listen`."""
        self.device = device
        self.actuator = actuator
        self.wake = threading.Event()
        self.done = 0
        self._mesh = mesh
        self._ledger = ledger
        self._fresh_s = fresh_s
        self._monotonic = monotonic
        self._pause = pause
        self._desk = Desk(mesh, device, self._take, seen=ledger.ids, monotonic=monotonic)
        self._queue: deque[tuple[Wish, dict[str, Value]]] = deque()
        self._lock = threading.Lock()
        self._away = "it has not answered yet"
        self._values: dict[str, Value] = {}
        self._knows_all = self._has_news = False
        self._read_at: dict[str, float] = {}

    @classmethod
    def of(
        cls,
        site: Site,
        mesh: Mesh,
        device: str,
        actuator: Actuator,
        *,
        budget: int,
        state_dir: str,
        fresh_s: float = 60.0,
    ) -> "Control":
        """The commands of ``device`` of ``site``, which remembers in a file of its own.

        Args:
            site: from whose folder ``state_dir`` is seen.
            mesh: where commands come from and results go.
            device: its name in the mesh.
            actuator: the device.
            budget: writes of one setting a day.
            state_dir: the folder of that file.
            fresh_s: see :class:`Control`.
        """
        file = StateFile(site.path.parent / state_dir / f"commands-{device}.json")
        return cls(device, actuator, mesh, Ledger(file, budget), fresh_s=fresh_s)

    # -- the MQTT client's thread ------------------------------------------------------------------

    def listen(self) -> None:
        """Hear commands from now on."""
        self._desk.listen()

    def _take(self, wish: Wish) -> None:
        """Check ``wish`` as far as that goes without the device, and let it wait for its turn."""
        self._check_presence()
        wanted = self._checked(wish)
        if wish.command.values is None:
            wish = replace(wish, value=wanted[wish.name])  # in the form in which it is read back
        with self._lock:
            self._check_presence()
            if len(self._queue) >= WAITING:
                raise RefusedError(f"{WAITING} commands are waiting already")
            self._desk.say(wish, "accepted")
            self._queue.append((wish, wanted))
            self.wake.set()

    def _check_presence(self) -> None:
        if self._away:
            raise RefusedError(f"{self.device} cannot be set: {self._away}")

    def _checked(self, wish: Wish) -> dict[str, Value]:
        """The settings of ``wish``, each in its range."""
        command, ranges = wish.command, self.actuator.ranges()
        if command.values is None:
            takes = self._range(wish.name, ranges)
            only = rules.check(wish.name, wish.value, takes)
            rules.confirmed(wish.name, only, command.confirm, takes)
            return {wish.name: only}
        if wish.name != BATCH:
            raise RefusedError(f"a command with values has the name {BATCH}, not {wish.name}")
        if not command.values:
            raise RefusedError("values is empty")
        wanted: dict[str, Value] = {}
        for name, value in command.values.items():
            takes = self._range(name, ranges)
            if takes.risk == "danger":
                raise RefusedError(f"{name} must be a command of its own, with confirm")
            wanted[name] = rules.check(name, value, takes)
        return wanted

    def _range(self, name: str, ranges: Mapping[str, Range]) -> Range:
        takes = ranges.get(name)
        if takes is None:
            raise RefusedError(self.actuator.why_not(name))
        return takes

    def _over_budget(self, wish: Wish, names: Collection[str]) -> str:
        """What is to be said of a budget that is exceeded; empty while there is some left.

        Raises:
            RefusedError: it is spent, and nobody says why it should be exceeded.
        """
        spent = [name for name in names if not self._ledger.left(name)]
        if not spent:
            return ""
        listed = ", ".join(spent)
        budget = f"the budget of {self._ledger.budget} writes a day (UTC) of {listed} is spent"
        override = wish.command.override
        if not override:
            raise RefusedError(f"{budget}; override gives a reason to exceed it")
        if (wish.by or "").startswith("controller"):
            raise RefusedError(f"{budget}, and no rule exceeds it")
        return f"{budget}; exceeded because: {override[:200]}"

    # -- the thread that polls ---------------------------------------------------------------------

    def back(self) -> None:
        """The device answers."""
        if self._away:
            with self._lock:
                self._away = ""

    def lost(self, reason: str) -> None:
        """The device does not answer: what waits is refused, and what comes."""
        with self._lock:
            self._away = reason
            waiting = list(self._queue)
            self._queue.clear()
            self.wake.clear()
        self._values, self._read_at, self._knows_all = {}, {}, False
        for wish, _ in waiting:
            self._desk.say(wish, "refused", f"{self.device} cannot be set: {reason}")

    def work(self) -> None:
        """Do the command that waits longest, if one does."""
        with self._lock:
            item = self._queue.popleft() if self._queue else None
            if not self._queue:
                self.wake.clear()
        if item is None:
            return
        wish, wanted = item
        self.done += 1
        try:
            end = self._do(wish, wanted)
        except RefusedError as err:
            end = _End("refused", str(err))
        except Exception as err:
            log.exception("%s: %s", self.device, wish.name)
            end = _End("failed", f"a mistake of this program: {type(err).__name__}: {err}")
        if self._ledger.underway:  # a mistake of ours, or a disk that takes nothing
            self._ledger.ended()
            self._ledger.save(self._desk.ids())
        self._desk.say(wish, end.stage, end.detail, value=end.value)

    def expire(self) -> None:
        """Say of what waits for a line in trouble that it is too late."""
        with self._lock:
            late = [item for item in self._queue if self._desk.is_late(item[0])]
            for item in late:
                self._queue.remove(item)
            if not self._queue:
                self.wake.clear()
        for wish, _ in late:
            self._desk.say(wish, "expired", "it waited for its turn until then")

    def settings(self, values: Mapping[str, Value]) -> None:
        """All settings as read in their turn: published, and compared with what was set."""
        self._values, self._read_at, self._knows_all = {}, {}, True
        self._keep(values)
        if self._ledger.underway:
            self._finish()
        self._publish()

    def watch(self, values: Mapping[str, Value]) -> None:
        """Compare ``values``, just read, with what commands have set."""
        held = self._ledger.held
        changed = False
        for name in [name for name in held if values.get(name) is not None]:
            kept, found = held[name], values[name]
            if not same(found, kept.value):
                detail = (
                    f"it was {text(kept.value)} when read back at {kept.ts}, now the device has "
                    f"{text(found)}: it went back by itself, or something else has set it"
                )
                self._desk.publish(kept.id, name, found, "reverted", detail, kept.by)
            elif clock.now() - clock.parse(kept.ts) < WATCHED:
                continue
            self._ledger.release(name)
            changed = True
        if changed:
            self._ledger.save(self._desk.ids())

    def counters(self) -> dict[str, int]:
        """Commands by stage, writes by setting."""
        return self._desk.counters | self._ledger.counters()

    def _finish(self) -> None:
        """Say how a command ended that was on its way when the collector was."""
        for name, left in self._ledger.underway.items():
            found = self._values.get(name)
            stage: Stage = "applied" if same(found, left.value) else "failed"
            detail = (
                f"the collector ended while it was on its way; now the device has {text(found)}"
            )
            value = found if stage == "applied" else left.value
            self._desk.publish(left.id, name, value, stage, detail, left.by)
            batch, is_part, _ = left.id.rpartition("/")
            if is_part:
                detail = f"the collector ended while {name} was on its way"
                self._desk.publish(batch, BATCH, None, "failed", detail, left.by)
        self._ledger.ended()
        self._ledger.save(self._desk.ids())

    # -- one command -------------------------------------------------------------------------------

    def _do(self, wish: Wish, wanted: dict[str, Value]) -> _End:
        if self._desk.is_late(wish):
            return _End("expired", "it waited for its turn until then")
        self._has_news = False
        try:
            return self._put(wish) if wish.command.values is None else self._batch(wish, wanted)
        finally:
            if self._has_news and self._knows_all:
                self._publish()

    def _batch(self, wish: Wish, wanted: dict[str, Value]) -> _End:
        """Several settings, each proved before the next; none after one that failed."""
        if problem := self._unknown(wanted, JUST_NOW_S):
            return _End("failed", f"{problem}; nothing was written")
        steps = rules.plan(self._values, wanted, self.actuator.pairs)
        new = [name for name, value in steps if not same(self._values.get(name), value)]
        for name in new:
            self.actuator.permit(name, wanted[name], self._values | wanted)
        self._over_budget(wish, new)
        for at, (name, value) in enumerate(steps):
            part = wish.part(name, value)
            if self._desk.is_late(wish):
                end = _End("expired", "the ones before it took until then")
            else:
                try:
                    end = self._put(part)
                except RefusedError as err:
                    end = _End("refused", str(err))
            self._desk.say(part, end.stage, end.detail, value=end.value)
            if end.stage != "applied":
                for other, its in steps[at + 1 :]:
                    rest = wish.part(other, its)
                    self._desk.say(rest, "refused", f"the batch stopped at {name}")
                stage: Stage = "failed" if end.stage == "expired" and at else end.stage
                return _End(stage, f"the batch stopped at {name}: {end.detail}")
        return _End("applied", ", ".join(f"{name} {text(value)}" for name, value in steps))

    def _put(self, wish: Wish) -> _End:
        """Set one setting, and prove it."""
        name, value = wish.name, wish.value
        try:
            target = self.actuator.expects(name, value)
        except (FrameError, TransportError) as err:
            return _End("failed", f"it could not be read before: {err}; nothing was written")
        takes = self.actuator.ranges().get(name, Range(risk="danger"))
        age_s = self._fresh_s if takes.risk == "normal" else JUST_NOW_S
        problem = self._unknown(target, age_s)
        if not problem and self._has(target):
            problem = self._unknown(target, JUST_NOW_S)  # what may be old is no proof
        if problem:
            return _End("failed", f"{problem}; nothing was written")
        if self._has(target):
            return _End("applied", "it was so already; nothing was written")
        rules.plan(self._values, {name: value}, self.actuator.pairs)
        self.actuator.permit(name, value, self._values)
        note = self._over_budget(wish, (name,))
        before = self._told(self._others(target))
        self._ledger.release(name)
        end = self._sent(wish, target, before, note)
        if end.stage == "applied" and target == {name: value}:
            if name not in self.actuator.passing:
                now = clock.iso(clock.now())
                self._ledger.hold(name, Held(value, wish.id, wish.by, now))
            end = replace(end, value=self._values.get(name))
        self._ledger.ended()
        self._ledger.save(self._desk.ids())
        return end

    def _sent(self, wish: Wish, target: dict[str, Value], before: str, note: str) -> _End:
        """Send it until it is known what became of it."""
        unknown = ""
        for number in range(1, TRIES + 1):
            what = note if number == 1 else f"try {number} of {TRIES}"
            try:
                mine = Held(wish.value, wish.id, wish.by, clock.iso(clock.now()))
                self._ledger.charge(wish.name, self._desk.ids(), mine)
            except RefusedError as err:
                if number == 1:
                    raise
                return _End("failed", f"{unknown}; {err}; {self._now(target)}")
            self._read_at.clear()  # what was read is not what is there any more
            try:
                self.actuator.write(
                    wish.name,
                    wish.value,
                    self._values,
                    lambda what=what: self._desk.say(wish, "sent", what),  # type: ignore[misc]
                )
            except FrameError as err:
                if err.kind == "nak":
                    return self._refused_by_device(target)
                unknown = f"its answer was damaged ({err.kind})"
            except TransportError as err:
                unknown = str(err)
            else:
                self._desk.say(wish, "acknowledged")
                return self._read_back(wish, target, before)
            if problem := self._unknown(target):
                return _End("failed", f"{unknown}; {problem}: whether it was applied is not known")
            if self._has(target):
                return _End("applied", f"{unknown}, but it is so when read back")
            if self._desk.is_late(wish):
                return _End(
                    "failed", f"{unknown}, and too late for another try; {self._now(target)}"
                )
            if not self._ledger.left(wish.name) and not wish.command.override:
                return _End("failed", f"{unknown}, and no write left today; {self._now(target)}")
        return _End("failed", f"{unknown}, {TRIES} times; {self._now(target)}")

    def _read_back(self, wish: Wish, target: dict[str, Value], before: str) -> _End:
        """The device said yes: see whether it meant it."""
        problem = ""
        for pause_s in SETTLE_S:
            if pause_s:
                self._pause(pause_s)
            problem = self._unknown(target)
            if not problem and self._has(target):
                return _End("applied", f"read back; it was {before}")
        if problem:
            return _End("failed", f"the device said ACK, but {problem}")
        wanted = text(wish.value)
        detail = f"the device said ACK to {wanted}, but {self._now(target)}"
        return _End("not_applied", detail, self._values.get(wish.name))

    def _refused_by_device(self, target: dict[str, Value]) -> _End:
        """The device said no, which is final; some do what they refuse."""
        if problem := self._unknown(target):
            return _End("failed", f"the device said NAK, and {problem}")
        if self._has(target):
            return _End("failed", f"the device said NAK but now has {self._told(target)}")
        return _End("failed", f"the device said NAK; {self._now(target)}")

    # -- what the device has -----------------------------------------------------------------------

    def _unknown(self, names: Collection[str], age_s: float = 0.0) -> str:
        """Have ``names`` read no longer than ``age_s`` ago; why that does not go, or nothing."""
        now = self._monotonic()
        if age_s and all(now - self._read_at.get(name, -1e9) <= age_s for name in names):
            return ""
        try:
            self._keep(self.actuator.read(names))
        except FrameError as err:
            log.debug("%s", err)  # with its bytes, which say nothing to who gave the command
            return f"it could not be read ({err.kind})"
        except TransportError as err:
            return f"it could not be read ({err})"
        return ""

    def _keep(self, values: Mapping[str, Value]) -> None:
        self._has_news = True
        self._values |= values
        self._read_at |= dict.fromkeys(values, self._monotonic())
        self.watch(values)

    def _has(self, target: Mapping[str, Value]) -> bool:
        return not self._others(target)

    def _told(self, names: Collection[str]) -> str:
        """What it has of ``names``, in words."""
        if len(names) == 1:
            return text(self._values.get(next(iter(names))))
        return ", ".join(f"{name} {text(self._values.get(name))}" for name in names)

    def _others(self, target: Mapping[str, Value]) -> list[str]:
        """In what it differs from ``target``."""
        return [name for name in target if not same(self._values.get(name), target[name])]

    def _now(self, target: Mapping[str, Value]) -> str:
        """What it has instead of ``target``."""
        return f"it has {self._told(self._others(target))}"

    def _publish(self) -> None:
        message = Settings(clock.iso(clock.now()), self._values, self._ledger.writes())
        self._mesh.publish(self._mesh.topics.settings(self.device), encode(message), retain=True)
