"""Where the commands of one device arrive, and where each stage of their lives is published.

What must never be done is refused here, with a result that says why: retained, too late, not
readable, said before. The rest is given to ``take``, in the MQTT client's thread.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import clock
from ..errors import MessageError, RefusedError
from ..messages import Command, Result, Stage, Value, decode, encode
from ..mqtt import Mesh, Message

log = logging.getLogger(__name__)

EXPIRY_S = 30.0
"""A command without an expiry of its own is too old after that."""

REMEMBERED = 200
"""So many ids are remembered; a repetition comes soon or never."""

ID_LENGTH = 36
"""A UUID; with the name of a part behind it, an id still fits into the recorder's column."""

ECHO = 200
"""A longer value is not repeated in a result [bytes]."""

ENDS = frozenset({"applied", "refused", "expired", "failed", "not_applied", "reverted"})
"""Stages after which nothing is owed any more."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A command that may be done, if it is done in time.

    Attributes:
        id: its own, or the one it was given here; ``<id>/<name>`` for one setting of a batch.
        command: as it came.
        name, value: of the command, or of this part of a batch.
        deadline: not to be done after that (monotonic) [s].
    """

    id: str
    command: Command
    name: str
    value: Value
    deadline: float

    @property
    def by(self) -> str | None:
        """Who wants it."""
        return self.command.by

    def part(self, name: str, value: Value) -> "Wish":
        """One setting of this batch."""
        return Wish(f"{self.id}/{name}", self.command, name, value, self.deadline)


class _Loose(msgspec.Struct):
    """What can be told of a command that cannot be read."""

    id: Any = None
    name: Any = None
    by: Any = None


class Desk:
    """Hears and answers the commands of ``device``.

    Args:
        mesh: where.
        device: its name in the mesh.
        take: gets each command that may be done, in the client's thread. What it raises as
            :class:`~sunmesh.errors.RefusedError` is published as ``refused``.
        seen: ids of commands that were taken before this start, see :meth:`ids`.
        unread: hears why a message could not be read, before that is published.
        monotonic: a clock that no one sets.
    """

    def __init__(
        self,
        mesh: Mesh,
        device: str,
        take: Callable[[Wish], None],
        *,
        seen: Iterable[str] = (),
        unread: Callable[[str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is heard before :meth:`listen`."""
        self.device = device
        self.counters: dict[str, int] = {}
        self._mesh = mesh
        self._take = take
        self._unread = unread
        self._monotonic = monotonic
        self._seen = deque(seen, maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def listen(self) -> None:
        """Subscribe to the device's commands, now and after each reconnect."""
        self._mesh.subscribe(self._mesh.topics.command(self.device), self.hear, as_published=True)

    def hear(self, message: Message) -> None:
        """Take a message that came on the device's topic for commands."""
        if not message.payload:
            return  # somebody cleared a retained one
        try:
            command = decode(Command, message.payload)
        except MessageError as err:
            self._refuse_unread(message.payload, f"not a command: {err}")
            return
        if problem := _malformed(command):
            self._refuse_unread(message.payload, problem)
            return
        now = self._monotonic()
        deadline = now + EXPIRY_S
        if command.expires is not None:
            deadline = now + (clock.parse(command.expires) - clock.now()).total_seconds()
        wish = Wish(command.id or new_id(), command, command.name, command.value, deadline)
        if message.retain:
            self.say(wish, "refused", "it is retained: it may be old, and would come for ever")
        elif self.is_late(wish):
            self.say(wish, "expired", f"it was to be done by {command.expires}")
        elif not self._is_new(wish.id):
            self.say(wish, "refused", f"a command {wish.id} was taken before; it is done once")
        else:
            self._give(wish)

    def say(
        self,
        wish: Wish,
        stage: Stage,
        detail: str = "",
        *,
        value: Value = None,
        is_routine: bool = False,
    ) -> None:
        """Publish a stage of a command's life.

        Args:
            wish: the command, or a part of a batch.
            stage: where it stands now.
            detail: in words, for its owner.
            value: as read back, where that is known; else the wanted one is repeated.
            is_routine: no line in the log: it comes again and again.
        """
        self.counters[f"commands_{stage}"] = self.counters.get(f"commands_{stage}", 0) + 1
        told = wish.value if value is None else value
        self.publish(wish.id, wish.name, told, stage, detail, wish.by, is_routine=is_routine)

    def publish(
        self,
        identity: str,
        name: str,
        value: Value,
        stage: Stage,
        detail: str,
        by: str | None,
        *,
        is_routine: bool = False,
    ) -> None:
        """Publish a stage of a command of which no more is known than this."""
        if len(msgspec.json.encode(value)) > ECHO:
            value = None
        now = clock.iso(clock.now())
        result = Result(identity, name, value, stage, now, by, detail)
        self._mesh.publish(self._mesh.topics.result(self.device), encode(result))
        level = logging.INFO if stage in ENDS and not is_routine else logging.DEBUG
        said = f"{stage}: {detail}" if detail else stage
        log.log(level, "%s: %s %r: %s", self.device, name, value, said)

    def is_late(self, wish: Wish) -> bool:
        """Whether it is too late for ``wish``."""
        return self._monotonic() >= wish.deadline

    def ids(self) -> list[str]:
        """Ids of what was taken lately, for the next start."""
        with self._lock:
            return list(self._seen)

    def _is_new(self, identity: str) -> bool:
        with self._lock:
            if identity in self._seen:
                return False
            self._seen.append(identity)
            return True

    def _give(self, wish: Wish) -> None:
        try:
            self._take(wish)
        except RefusedError as err:
            self.say(wish, "refused", str(err))
        except Exception as err:
            log.exception("%s: %s", self.device, wish.name)
            self.say(wish, "failed", f"a mistake of this program: {type(err).__name__}: {err}")

    def _refuse_unread(self, payload: bytes, reason: str) -> None:
        try:
            loose = msgspec.json.decode(payload, type=_Loose)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            loose = _Loose()
        known = [
            text[:ID_LENGTH] if isinstance(text, str) and text.isprintable() else ""
            for text in (loose.id, loose.name, loose.by)
        ]
        identity, name, by = known
        self.counters["commands_refused"] = self.counters.get("commands_refused", 0) + 1
        if self._unread is not None:
            self._unread(reason)
        self.publish(identity or new_id(), name, None, "refused", reason, by or None)


def new_id() -> str:
    """An id for a command that has none."""
    return f"given-{os.urandom(8).hex()}"


def _malformed(command: Command) -> str:
    """Why ``command`` is none; empty when it is one."""
    identity = command.id
    if identity is not None and not (0 < len(identity) <= ID_LENGTH and identity.isprintable()):
        return f"not a command: an id is 1 to {ID_LENGTH} printable characters"
    if not (0 < len(command.name) <= 64 and command.name.isprintable()):
        return "not a command: a name is 1 to 64 printable characters"
    if command.values is not None and command.value is not None:
        return "not a command: give value or values, not both"
    if command.values is None and command.value is None:
        return "not a command: value is missing"
    return ""
