"""From the broker into the spool, from the spool into the database.

Three threads: the broker client's puts messages into a bounded buffer; the intake writes them into
the spool, a group at a time, and acknowledges them; the worker gives the spool's records to the
database, a batch at a time. While the spool cannot be written, the worker takes messages from
memory and acknowledges them after the commit.

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sunmesh import clock
from sunmesh.database import tables
from sunmesh.database.sql import DatabaseError
from sunmesh.errors import ConfigError, MessageError
from sunmesh.messages import MAX_BYTES
from sunmesh.mqtt import Mesh, Message
from sunmesh.voice import Condition

from . import codec, losses
from .codec import Gap, Item, Telemetry
from .config import RecorderConfig
from .records import AGAIN, RETAINED, Record
from .spool import Batch, Spool
from .store import RefusedRowError, Store, Written
from .watch import DROPPED_TOPIC, Alarms, Drops, MachineClock, Rivals

log = logging.getLogger(__name__)

BUFFER_BYTES = 8 * 1024 * 1024
"""Payload bytes held at most; 5000 messages of the usual 400 bytes are 2 MB."""

BURST = 20
"""So many messages at once are a load, not a house at rest; also Mosquitto's default window."""
GROUP = 256
"""So many messages are written to the spool at once."""
QUIET_S = 0.02
"""Under load, a pause of that length ends a group [s]."""
LOAD_S = 1.0
"""A load is over when no burst came for so long [s]."""

DRAIN_ROWS = 200
"""A commit of a backlog has so many rows at least."""

TEND_S = 1.0
ROOM_S = 5.0
"""How long a message may wait for room; well under the keep-alive of 30 s."""

RETRY_S = (1.0, 30.0)
"""First and longest pause between two tries on a database or a spool that is away [s]."""

STOP_S = 0.8
"""What waits at the end is given to the database for that long; the rest stays in the spool."""

FILLING, EMPTYING = 0.8, 0.6
"""Shares of the spool at which its alarm is raised, and cleared again."""


class Received(NamedTuple):
    """A message and whom to tell that it is stored: its number, and the connection it came over."""

    record: Record
    mid: int
    connection: int


@dataclass(slots=True)
class Work:
    """A batch on its way: what it says, and where it came from."""

    items: list[Item] = field(default_factory=list)
    records: Sequence[Record] = ()
    oldest: int | None = None
    first: int = 1 << 62
    last: int = 0
    spooled: Batch | None = None
    held: list[Received] = field(default_factory=list)


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
    """Takes messages from ``mesh`` through ``spool`` into ``store``.

    Args:
        config: how to batch.
        mesh: a client with manual acknowledgement and a session that outlives it.
        store: where rows go.
        spool: where messages wait for it.
        alarms: what else may be wrong: code, condition, and the text of the clearing.
    """

    def __init__(
        self,
        config: RecorderConfig,
        mesh: Mesh,
        store: Store,
        spool: Spool,
        alarms: Callable[[], Iterable[tuple[str, Condition | None, str]]] = tuple,
    ) -> None:
        """Subscribes; messages come once the mesh is started."""
        self._config = config
        self._mesh = mesh
        self._store = store
        self._spool = spool
        self._more_alarms = alarms
        self._bad = BadPayloads()
        self._guard = threading.Lock()
        self._arrived = threading.Condition(self._guard)
        self._stored = threading.Condition(self._guard)
        self._roomy = threading.Condition(self._guard)
        self._waiting: deque[Received] = deque()
        self._held: deque[Received] = deque()
        self._count = self._bytes = 0
        self._first_at = 0.0
        self._load_until = 0.0
        self._spooled_at = 0.0
        self._committed_at = 0.0
        self._last_commit: int | None = None
        self._rows_a_message = 1.0
        self._stopping = False
        self._all_in = threading.Event()
        self._overflowed = False
        self._connection = 0
        self._asked = 0
        self._spool_ok: bool | None = None
        self._spool_error = ""
        self._retry_spool_at = 0.0
        self._work: Work | None = None
        self._lag_s = 0.0
        self._database_ok: bool | None = None
        self._totals = dict.fromkeys(
            ("messages", "rows", "commits", "overflows", "refused_rows", "refused_times"), 0
        )
        self._history: deque[tuple[float, int, int, int]] = deque(maxlen=10)
        self._clock = MachineClock()
        self._alarms = Alarms(mesh)
        self._drops = Drops(spool.folder / "broker.json")
        self._rivals = Rivals(mesh.client_id)
        mesh.on_connect(self._connected)
        mesh.on_lost(self._rivals.lost)
        mesh.subscribe(DROPPED_TOPIC, self._dropped, qos=0)
        for kind in codec.KINDS:
            mesh.subscribe(mesh.topics.every(kind), self.receive)

    def counters(self) -> dict[str, int | float | str | None]:
        """What belongs into the health message."""
        depth = self._spool.depth
        now_ms = clock.epoch_ms(clock.now())
        work, lag_s = self._work, self._lag_s
        if work is not None and work.oldest is not None:
            lag_s = max(0.0, (now_ms - work.oldest) / 1000)
        return {
            **self._totals,
            **self._rates(),
            "bad_payloads": self._bad.count,
            "bad_values": self._store.bad_values,
            "refused_series": self._store.refused_series,
            "buffered": self._count,
            "lag_s": round(lag_s, 1),
            "last_commit": self._last_commit and clock.iso(clock.from_ms(self._last_commit)),
            "database_ok": None if self._database_ok is None else int(self._database_ok),
            "spool_ok": None if self._spool_ok is None else int(self._spool_ok),
            "spool_messages": depth.messages,
            "spool_bytes": depth.bytes,
            "spool_share": round(depth.share, 3),
            "spool_oldest_s": depth.oldest and round(max(0, now_ms - depth.oldest) / 1000, 1),
            "spool_syncs": self._spool.syncs,
            "spool_torn": self._spool.torn,
            "spool_damaged": self._spool.damaged,
            "spool_thrown": self._spool.thrown,
            "broker_dropped": self._drops.total,
        }

    def _rates(self) -> dict[str, float]:
        """A second, over the last minutes; the health message asks twice a minute."""
        totals = self._totals
        now = (time.monotonic(), totals["messages"], totals["rows"], totals["commits"])
        then = self._history[0] if self._history else now
        self._history.append(now)
        elapsed_s = max(now[0] - then[0], 1e-3)
        names = ("messages_per_s", "rows_per_s", "commits_per_s")
        return {
            name: round((new - old) / elapsed_s, 2)
            for name, new, old in zip(names, now[1:], then[1:], strict=True)
        }

    # -- the broker's thread -----------------------------------------------------------------------

    def _connected(self) -> None:
        with self._guard:
            self._connection += 1
            self._overflowed = False

    def _dropped(self, message: Message) -> None:
        gap = self._drops.hear(message.payload)
        if gap is not None:
            self._note(gap)

    def _note(self, gap: Gap) -> None:
        """A loss goes the way of the messages: through the spool."""
        with self._guard:
            self._waiting.append(Received(losses.note(gap), 0, -1))
            self._count += 1
            self._arrived.notify()

    def receive(self, message: Message) -> None:
        """Put a message into the buffer, or leave it to the broker when that is full."""
        payload = message.payload
        if len(payload) > MAX_BYTES:
            self._bad(message.topic, f"{len(payload)} bytes; no message is larger than {MAX_BYTES}")
            payload = b""
        flags = (RETAINED if message.retain else 0) | (AGAIN if message.dup else 0)
        record = Record(message.topic, payload, flags, int(time.time() * 1000))
        with self._guard:
            if not self._overflowed and self._is_full and (self._spool_ok or self._database_ok):
                # It takes milliseconds to make room while the disk writes; meanwhile TCP holds
                # the broker back.
                self._roomy.wait_for(lambda: self._stopping or not self._is_full, ROOM_S)
            if self._overflowed or self._is_full:
                self._leave()
                return
            waiting = self._waiting
            waiting.append(Received(record, message.mid, self._connection))
            self._count += 1
            self._bytes += len(payload)
            size = len(waiting)
            if size == 1:
                self._first_at = time.monotonic()
                self._arrived.notify()
            elif size in (BURST, GROUP):
                self._arrived.notify()

    @property
    def _is_full(self) -> bool:
        return (
            self._count >= self._config.buffer_messages
            or self._bytes >= BUFFER_BYTES
            or self._stopping
        )

    def _leave(self) -> None:
        """What comes stays with the broker, until there is room for all of it."""
        if self._overflowed or self._stopping:
            return
        log.warning(
            "%d messages wait for spool and database; later ones are left to the broker",
            self._count,
        )
        self._overflowed = True
        self._totals["overflows"] += 1

    # -- the main thread ---------------------------------------------------------------------------

    def work(self, stop: threading.Event) -> None:
        """Record until ``stop`` is set; then once more what is there."""
        intake = threading.Thread(target=self._take_in, name="intake", daemon=True)
        worker = threading.Thread(target=self._drain, args=(stop,), name="worker", daemon=True)
        for thread in (intake, worker):
            thread.start()
        while not stop.wait(TEND_S) and worker.is_alive() and intake.is_alive():
            self._tend()
        died = not (worker.is_alive() and intake.is_alive())
        stop.set()
        with self._guard:
            self._stopping = True
            for condition in (self._arrived, self._stored, self._roomy):
                condition.notify_all()
        end = time.monotonic() + STOP_S + 0.2
        intake.join(STOP_S)
        # a database that hangs is not waited for: what it was given is still in the spool
        worker.join(max(0.0, end - time.monotonic()))
        if self._mesh.connected:
            self._drops.sure()
        self._drops.save()
        if not intake.is_alive() and not worker.is_alive():
            self._spool.close()
            self._store.close()
        if died:
            raise RuntimeError("a thread of the recorder ended")

    def _tend(self) -> None:
        """Alarms; and after an overflow, once the buffer is empty: ask the broker for the rest."""
        self._clock.tick()
        if self._overflowed and not self._count and self._asked != self._connection:
            log.info("the buffer is empty; the broker is asked for the rest")
            self._asked = self._connection
            self._mesh.reconnect()
        if self._mesh.connected:
            self._drops.sure()
        hold = self._alarms.hold
        hold("broker_dropped", self._drops.condition, "The broker dropped nothing for an hour")
        hold("second_recorder", self._rivals.condition, "No other recorder takes over any more")
        hold("series_capped", self._store.capped, "No further series are refused")
        for code, condition, over in self._more_alarms():
            hold(code, condition, over)
        hold("spool_failed", self._spool_failed(), "The spool can be written again")
        share = self._spool.depth.share
        is_filling = self._alarms.is_raised("spool_filling")
        hold(
            "spool_filling",
            self._filling(share) if share >= (EMPTYING if is_filling else FILLING) else None,
            f"The spool is down to {share:.0%}",
        )
        is_full = self._spool.thrown and share >= EMPTYING
        hold(
            "spool_full",
            self._full() if is_full else None,
            f"The spool is down to {share:.0%}: nothing is thrown away any more",
        )

    def _filling(self, share: float) -> Condition:
        return Condition(
            "warning",
            "The recorder's spool fills up",
            f"The spool in {self._spool.folder} is {share:.0%} full, since the database does not"
            " take what comes; at 100 % the oldest samples are thrown away",
            round(share * 100),
        )

    def _full(self) -> Condition:
        return Condition(
            "critical",
            "Samples are thrown away",
            f"The spool in {self._spool.folder} is full and the database does not take it:"
            f" {self._spool.thrown} of the oldest samples are gone so far; alarms and commands"
            " are kept",
            self._spool.thrown,
        )

    def _spool_failed(self) -> Condition | None:
        if self._spool_ok is not False:
            return None
        return Condition(
            "critical",
            "The recorder's spool cannot be written",
            f"{self._spool.folder}: {self._spool_error}; messages are held in memory and at the"
            " broker instead, which lasts for hours, not for days",
        )

    # -- the intake --------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Write into the spool and acknowledge, until there is nothing more to come."""
        while True:
            group = self._gather()
            if not group and self._stopping:
                self._all_in.set()
                return
            if len(group) >= BURST:
                self._load_until = time.monotonic() + LOAD_S
            self._keep(group)

    def _gather(self) -> list[Received]:
        """The next group: after the linger at rest, and what is there under load."""
        waiting = self._waiting
        with self._guard:
            seen = -1
            while not self._stopping:
                size, now = len(waiting), time.monotonic()
                if size >= GROUP:
                    break
                if not size:
                    self._arrived.wait(self._idle_s(now))
                    if self._held and now >= self._retry_spool_at:
                        break
                    continue
                left_s = self._first_at + self._config.linger_s - now
                if left_s <= 0:
                    break
                if size >= BURST or now < self._load_until:
                    if size == seen:
                        break
                    seen = size
                    left_s = min(left_s, QUIET_S)
                self._arrived.wait(left_s)
            group = [waiting.popleft() for _ in range(min(len(waiting), GROUP))]
            self._first_at = time.monotonic()
            return group

    def _idle_s(self, now: float) -> float:
        return max(0.05, self._retry_spool_at - now) if self._held else 5.0

    def _keep(self, group: list[Received]) -> None:
        """Into the spool; where that fails, into memory, for the worker to take them there."""
        now = time.monotonic()
        if self._spool_ok is False and now < self._retry_spool_at and not self._stopping:
            with self._guard:
                self._held.extend(group)
                self._stored.notify()
            return
        with self._guard:
            group = [*self._held, *group]
            self._held.clear()
        if not group:
            return
        try:
            # what is empty clears a topic, or was too large
            records = [received.record for received in group if received.record.payload]
            if records:
                self._spool.append(records)
        except (OSError, ConfigError) as err:
            self._spool_is_away(err, group)
            return
        if not self._spool_ok:
            if self._spool_ok is False:
                log.info("the spool can be written again")
            self._spool_ok = True
        self._acknowledge(group)
        self._spooled_at = time.monotonic()
        with self._guard:
            self._stored.notify()

    def _spool_is_away(self, err: Exception, group: list[Received]) -> None:
        if self._spool_ok is not False:
            self._spool_error = (err.strerror if isinstance(err, OSError) else None) or str(err)
            log.error(
                "the spool cannot be written: %s; messages stay unacknowledged", self._spool_error
            )
        self._spool_ok = False
        with self._guard:
            self._held.extendleft(reversed(group))
            self._retry_spool_at = time.monotonic() + RETRY_S[0]
            self._stored.notify()

    def _acknowledge(self, group: Sequence[Received]) -> None:
        """Tell the broker, but only of messages that this connection brought.

        What came over an earlier one comes again, and the broker may use its number for another
        message by then.
        """
        connection = self._connection
        self._mesh.ack_all([r.mid for r in group if r.connection == connection and r.mid])
        with self._guard:
            self._count -= len(group)
            self._bytes -= sum([len(received.record.payload) for received in group])
            self._roomy.notify()

    # -- the worker --------------------------------------------------------------------------------

    def _drain(self, stop: threading.Event) -> None:
        """Give the database what waits, until ``stop`` is set; then for a moment more."""
        self._handle(Work(), stop)  # look for the database before the first message
        while self._wait_for_work():
            self._handle(self._fetch(), stop)
        self._all_in.wait(STOP_S / 2)
        end = time.monotonic() + STOP_S / 2
        while self._database_ok and self._waits and time.monotonic() < end:
            if not self._handle(self._fetch(), stop):
                return

    @property
    def _waits(self) -> int:
        """Messages that the database does not have yet and that could be given to it."""
        return self._spool.ahead + len(self._held)

    def _wait_for_work(self) -> bool:
        """Wait until a batch is due; False at the end."""
        with self._guard:
            while not self._stopping:
                wait_s = self._due_in()
                if wait_s <= 0:
                    return True
                self._stored.wait(wait_s)
        return False

    def _due_in(self) -> float:
        """How long the database can wait for what there is [s]."""
        waits = self._waits
        if not waits:
            return 5.0
        if waits * self._rows_a_message >= DRAIN_ROWS:
            return 0.0
        now = time.monotonic()
        linger_s = self._committed_at + self._config.linger_s - now
        if now < self._load_until:
            return min(linger_s, self._spooled_at + QUIET_S - now)
        return linger_s

    def _fetch(self) -> Work:
        """The next batch: from the spool, or from memory while that cannot be written."""
        messages = max(1, int(self._config.batch_rows / self._rows_a_message))
        try:
            batch = self._spool.take(messages)
        except OSError as err:
            log.error("the spool cannot be read: %s", err)
            time.sleep(RETRY_S[0])
            return Work()
        if batch is not None:
            work = self._read(batch.records)
            work.spooled = batch
            if batch.damaged:
                work.items.append(losses.damaged(batch))
            return work
        with self._guard:
            held = [self._held.popleft() for _ in range(min(len(self._held), messages))]
        work = self._read([received.record for received in held if received.record.payload])
        work.held = held
        return work

    def _read(self, records: Sequence[Record]) -> Work:
        """What they say; what cannot be read is counted and said."""
        work = Work(records=records)
        site, items, read = self._mesh.topics.site, work.items, codec.read
        oldest, first, last = 1 << 62, 1 << 62, 0
        for topic, payload, flags, arrival in records:
            try:
                item = read(topic, payload, site, arrival, flags)
            except MessageError as err:
                self._bad(topic, str(err))
                continue
            except Exception as err:
                # a mistake of ours, which must not stop what comes after it
                self._refuse(Record(topic, payload, flags, arrival), err)
                continue
            if item is None:
                continue
            items.append(item)
            ms = item.ms
            if ms > last:
                last = ms
            if ms < first:
                first = ms
            # a retained sample is as old as the device's silence and says nothing about a backlog
            if ms < oldest and not flags and isinstance(item, Telemetry):
                oldest = ms
        work.oldest = None if oldest == 1 << 62 else oldest
        work.first, work.last = first, last
        return work

    def _handle(self, work: Work, stop: threading.Event) -> bool:
        """Bring a batch into the database; False when that was not to be."""
        self._work = work
        pause_s, longest_s = RETRY_S
        is_ready = self._judge_times(work, stop)
        while not (is_ready and self._commit(work)):
            if work.held:
                # the spool may be back before the database, and takes them then
                with self._guard:
                    self._held.extendleft(reversed(work.held))
                stop.wait(pause_s)
                return False
            if not is_ready or stop.wait(pause_s):
                return False
            pause_s = min(longest_s, pause_s * 2)
        if work.spooled is not None:
            self._spool.done(work.spooled)
        if work.held:
            self._acknowledge(work.held)
        self._totals["messages"] += len(work.records)
        self._work = None
        return True

    def _judge_times(self, work: Work, stop: threading.Event) -> bool:
        """Leave out what has an impossible time; False when asked to stop before that is known."""
        if not work.items:
            return True
        is_said = False
        while True:
            latest = self._clock.latest_ms(self._config.max_future_s)
            if latest is None or work.last <= latest or self._clock.is_settled:
                break
            if not is_said:
                log.warning(
                    "samples are newer than the clock of this machine, which has just started or"
                    " stepped: they wait until it is known to be right"
                )
                is_said = True
            if stop.wait(1.0):
                return False
        if work.first < codec.EARLIEST or (latest is not None and work.last > latest):
            kept = [item for item in work.items if self._is_in_time(item, latest)]
            self._totals["refused_times"] += len(work.items) - len(kept)
            work.items = kept
            work.oldest = min((i.ms for i in kept if isinstance(i, Telemetry)), default=None)
        return True

    def _is_in_time(self, item: Item, latest: int | None) -> bool:
        """Whether a time can be true; what is left out is counted and said."""
        why = codec.impossible(item, latest)
        if why:
            self._bad(item.device, why)
        return not why

    def _commit(self, work: Work) -> bool:
        """Write a batch; False when the database does not take it now."""
        began = time.monotonic()
        if not work.items and self._database_ok:
            return True
        try:
            try:
                written = self._write(work)
            except DatabaseError:
                if not self._database_ok:
                    raise
                # a connection gone stale, a deadlock: at once is often enough
                written = self._write(work)
        except DatabaseError as err:
            if self._database_ok is not False:
                log.error("the database is away: %s; what comes waits in the spool", err)
                self._database_ok = False
            return False
        if self._database_ok is False:
            log.info("the database is back")
        self._database_ok = True
        if work.items:
            self._committed_at = began
            self._last_commit = clock.epoch_ms(clock.now())
            self._totals["commits"] += 1
            self._totals["rows"] += written.rows
            values = sum([len(i.values) if isinstance(i, Telemetry) else 1 for i in work.items])
            self._rows_a_message = max(1.0, values / max(len(work.records), 1))
            if work.oldest is not None:
                self._lag_s = max(0.0, (self._last_commit - work.oldest) / 1000)
        return True

    def _write(self, work: Work) -> Written:
        """Write all, or one by one when one of them is what the database does not take."""
        try:
            return self._store.write(work.items)
        except DatabaseError:
            raise
        except RefusedRowError as err:
            log.debug("a batch is refused: %s", err)
        except Exception:
            log.exception("a batch fails; its messages are tried one by one")
        done = Written()
        latest = self._clock.latest_ms(self._config.max_future_s)
        for record in work.records:
            try:
                item = self._item(record)
            except Exception:  # noqa: S112 - said when the batch was read
                continue
            if item is None or codec.impossible(item, latest):
                continue
            try:
                done += self._store.write([item])
            except DatabaseError:
                raise
            except Exception as err:
                self._refuse(record, err)
        if work.spooled is not None and work.spooled.damaged:
            done += self._store.write([losses.damaged(work.spooled)])
        return done

    def _item(self, record: Record) -> Item | None:
        return codec.read(
            record.topic, record.payload, self._mesh.topics.site, record.arrival, record.flags
        )

    def _refuse(self, record: Record, err: Exception) -> None:
        """What the database never takes is put aside, where people can look at it."""
        self._totals["refused_rows"] += 1
        if not isinstance(err, RefusedRowError):
            log.debug("%s fails", record.topic, exc_info=err)
        self._bad(record.topic, f"the database refuses it: {err or type(err).__name__}")
        losses.put_aside(self._spool.folder, record, str(err))


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
