"""From the broker to the store: a bounded buffer, batches, acknowledgements after the commit.

The broker's window is not counted on: Mosquitto 2.0.11 keeps it only until the first
acknowledgement. What finds no room in the buffer is left unacknowledged, and so is everything
after it, until the buffer is empty; then a reconnect makes the broker send it all again in order.
"""

import logging
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sunmesh import clock
from sunmesh.database import tables
from sunmesh.database.sql import DatabaseError
from sunmesh.errors import MessageError
from sunmesh.messages import MAX_BYTES
from sunmesh.mqtt import Mesh, Message

from . import codec
from .codec import Item, Telemetry
from .config import RecorderConfig
from .store import RefusedRowError, Store, Written

log = logging.getLogger(__name__)

BUFFER_BYTES = 8 * 1024 * 1024
"""Payload bytes held at most; 5000 messages of the usual 400 bytes are 2 MB."""

DRAIN_ROWS = 200
"""A commit of a backlog has so many rows at least, where the broker's window allows it."""

BEHIND_S = 10.0
"""Samples older than that are a backlog: do not linger for more when the broker pauses [s]."""

PAUSE_S = 0.1
ROOM_S = 5.0
"""How long a message may wait for room; well under the keep-alive of 30 s."""

RETRY_S = (1.0, 30.0)
"""First and longest pause between two tries on a database that is away [s]."""


@dataclass(slots=True)
class Received:
    """A message, the connection that it came over, and why it cannot be read, if so."""

    message: Message
    connection: int
    refused: str = ""


@dataclass(slots=True)
class Batch:
    """Messages in the order of their arrival, and what they say."""

    messages: list[Received] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    values: int = 0
    oldest: int | None = None
    newest: int = 0

    def add(self, received: Received, item: Item | None) -> None:
        """Take a message; ``item`` is None when it has nothing to store."""
        self.messages.append(received)
        if item is None:
            return
        self.items.append(item)
        self.values += len(item.values) if isinstance(item, Telemetry) else 1
        # a retained sample is as old as the device's silence and says nothing about a backlog
        if isinstance(item, Telemetry) and not received.message.retain:
            self.oldest = item.ms if self.oldest is None else min(self.oldest, item.ms)
            self.newest = max(self.newest, item.ms)


class BadPayloads:
    """Counts what cannot be read, and says each (topic, reason) once."""

    def __init__(self) -> None:
        """Nothing was bad yet."""
        self.count = 0
        self._said: set[tuple[str, str]] = set()

    def __call__(self, topic: str, reason: str) -> None:
        """One more."""
        self.count += 1
        key = (topic, re.sub(r"\d+", "N", reason))
        if key not in self._said and len(self._said) < 1000:
            self._said.add(key)
            log.warning("%s: not stored: %s", topic, reason)


class Recorder:
    """Takes messages from ``mesh`` and writes them into ``store``.

    Args:
        config: how to batch.
        mesh: a client with manual acknowledgement and a session that outlives it.
        store: where rows go.
    """

    def __init__(self, config: RecorderConfig, mesh: Mesh, store: Store) -> None:
        """Subscribes; messages come once the mesh is started."""
        self._config = config
        self._mesh = mesh
        self._store = store
        self._bad = BadPayloads()
        self._waiting: deque[Received] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._stopping = False
        self._overflowed = False
        self._connection = 0
        self._asked = 0
        self._pending: Batch | None = None
        self._lag_s = 0.0
        self._database_ok: bool | None = None
        self._totals = dict.fromkeys(
            ("messages", "rows", "commits", "overflows", "refused_rows"), 0
        )
        mesh.on_connect(self._connected)
        for kind in codec.KINDS:
            mesh.subscribe(mesh.topics.every(kind), self.receive)

    def counters(self) -> dict[str, int | float | str | None]:
        """What belongs into the health message."""
        batch = self._pending
        lag_s = self._lag_s
        if batch is not None and batch.oldest is not None:
            lag_s = _age_s(batch.oldest)
        return {
            **self._totals,
            "bad_payloads": self._bad.count,
            "bad_values": self._store.bad_values,
            "buffered": len(self._waiting) + (len(batch.messages) if batch else 0),
            "lag_s": round(lag_s, 1),
            "database_ok": None if self._database_ok is None else int(self._database_ok),
        }

    # -- the broker's thread -----------------------------------------------------------------------

    def _connected(self) -> None:
        with self._change:
            self._connection += 1
            self._overflowed = False

    def receive(self, message: Message) -> None:
        """Put a message into the buffer, or leave it to the broker when that is full."""
        refused = ""
        if len(message.payload) > MAX_BYTES:
            refused = f"{len(message.payload)} bytes; no message is larger than {MAX_BYTES}"
            message = replace(message, payload=b"")
        with self._change:
            if not self._overflowed and self._full and self._database_ok:
                # It takes milliseconds to make room while the database writes; meanwhile TCP
                # holds the broker back.
                self._change.wait_for(lambda: self._stopping or not self._full, ROOM_S)
            if self._overflowed or self._full:
                if not self._overflowed:
                    log.warning(
                        "%d messages wait for the database; later ones are left to the broker",
                        len(self._waiting),
                    )
                    self._overflowed = True
                    self._totals["overflows"] += 1
                return
            self._waiting.append(Received(message, self._connection, refused))
            self._bytes += len(message.payload)
            self._change.notify_all()

    @property
    def _full(self) -> bool:
        return (
            len(self._waiting) >= self._config.buffer_messages
            or self._bytes >= BUFFER_BYTES
            or self._stopping
        )

    # -- the worker --------------------------------------------------------------------------------

    def work(self, stop: threading.Event) -> None:
        """Batch and commit until ``stop`` is set; then once more what is there."""
        while not stop.is_set():
            self._tend(stop)
            batch = self._collect(stop)
            if batch.messages:
                self._pending = batch
                if self._commit(batch, stop):
                    self._pending = None
        with self._change:
            self._stopping = True
            self._change.notify_all()
        last = self._collect(stop)
        if last.messages and self._database_ok and self._pending is None:
            self._commit(last, stop)
        self._store.close()

    def _tend(self, stop: threading.Event) -> None:
        """Before the first message: look for the database. Empty after an overflow: reconnect."""
        if self._database_ok is None:
            self._commit(Batch(), stop)
        emptied = self._overflowed and not self._waiting
        if emptied and self._asked != self._connection and not stop.is_set():
            log.info("the buffer is empty; the broker is asked for the rest")
            self._asked = self._connection
            self._mesh.reconnect()

    def _collect(self, stop: threading.Event) -> Batch:
        """The next batch: until it is large enough, or has lingered, or the backlog pauses."""
        batch = Batch()
        end: float | None = None
        while True:
            with self._change:
                if not self._waiting:
                    if stop.is_set():
                        return batch
                    if end is None:
                        self._change.wait(0.5)
                        if not self._waiting:
                            return batch
                    else:
                        left = end - time.monotonic()
                        behind = batch.values >= DRAIN_ROWS and _age_s(batch.newest) > BEHIND_S
                        if left > 0:
                            self._change.wait(min(left, PAUSE_S if behind else 0.5))
                        if not self._waiting and (behind or left <= 0):
                            return batch
                        continue
                received = self._waiting.popleft()
                self._bytes -= len(received.message.payload)
                self._change.notify_all()
            if end is None:
                end = time.monotonic() + self._config.linger_s
            batch.add(received, self._read(received))
            if batch.values >= self._config.batch_rows or time.monotonic() >= end:
                return batch

    def _read(self, received: Received) -> Item | None:
        message = received.message
        if received.refused:
            self._bad(message.topic, received.refused)
            return None
        try:
            return codec.read(message.topic, message.payload, self._mesh.topics.site)
        except MessageError as err:
            self._bad(message.topic, str(err))
            return None

    def _commit(self, batch: Batch, stop: threading.Event) -> bool:
        """Write and acknowledge; False when asked to stop while the database is away."""
        pause_s, longest_s = RETRY_S
        tries = 0
        while True:
            try:
                written = self._write(batch.items)
            except DatabaseError as err:
                tries += 1
                if tries == 1 and self._database_ok:
                    continue  # a connection gone stale, a deadlock: at once is often enough
                if self._database_ok is not False:
                    log.error("the database is away: %s; the broker keeps what comes", err)
                    self._database_ok = False
                if stop.wait(pause_s):
                    return False
                pause_s = min(longest_s, pause_s * 2)
                continue
            break
        if not self._database_ok:
            if self._database_ok is False:
                log.info("the database is back")
            self._database_ok = True
        self._acknowledge(batch)
        if batch.items:
            self._totals["commits"] += 1
            self._totals["rows"] += written.rows
            if batch.oldest is not None:
                self._lag_s = _age_s(batch.oldest)
        self._totals["messages"] += len(batch.messages)
        return True

    def _write(self, items: list[Item]) -> Written:
        """Write all, or one by one when one of them is what the database does not take."""
        try:
            return self._store.write(items)
        except RefusedRowError:
            done = Written()
        for item in items:
            try:
                done += self._store.write([item])
            except RefusedRowError as err:
                self._totals["refused_rows"] += 1
                self._bad(f"{item.device} at {item.ms}", f"the database refuses it: {err}")
        return done

    def _acknowledge(self, batch: Batch) -> None:
        """Tell the broker, but only of messages that this connection brought.

        What came over an earlier one comes again, and the broker may use its number for another
        message by then.
        """
        for received in batch.messages:
            if received.connection == self._connection:
                self._mesh.ack(received.message)


def _age_s(ms: int) -> float:
    """Seconds since then; 0 for the future."""
    return max(0.0, (clock.epoch_ms(clock.now()) - ms) / 1000)


def migrate_apart(config_file: Path) -> Callable[[str | None], None]:
    """What brings the schema up in a process of its own: alembic's 8 MiB do not stay here.

    Args:
        config_file: the ``site.toml`` of this service.

    Returns:
        A function of the revision found that raises DatabaseError when the schema is not ours
        afterwards.
    """

    def migrate(now: str | None) -> None:
        log.info("the schema is at %s; migrating to %s", now or "nothing", tables.SCHEMA)
        done = subprocess.run(
            [sys.executable, "-m", "recorder", "migrate", "--config", str(config_file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise DatabaseError(f"the migration failed: {lines[-1]}")

    return migrate
