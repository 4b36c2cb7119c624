"""What must not be forgotten: alarms as they stand, every change, every push and its way.

One SQLite file, written with ``synchronous=FULL``: what a method has returned from survives a kill
and a power cut. Methods are one transaction each, or part of the caller's
:meth:`Outbox.transaction`.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

VERSION = 1
FILE = "notifier.db"
MAX_CHANGES = 500_000
"""A storm of weeks does not fill the disk: the oldest of the history go."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE alarm (
    device TEXT, code TEXT, id TEXT NOT NULL, episode INTEGER NOT NULL, state TEXT NOT NULL,
    severity TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, advice TEXT NOT NULL,
    value TEXT NOT NULL, data TEXT NOT NULL, cause TEXT NOT NULL, flapping INTEGER NOT NULL,
    since_ms INTEGER NOT NULL, ts_ms INTEGER NOT NULL, acked_by TEXT NOT NULL DEFAULT '',
    acked_ms INTEGER, pushed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, code)
) WITHOUT ROWID;
CREATE INDEX alarm_cause ON alarm (cause) WHERE cause <> '';
CREATE TABLE change (
    n INTEGER PRIMARY KEY, device TEXT NOT NULL, code TEXT NOT NULL, id TEXT NOT NULL,
    kind TEXT NOT NULL, severity TEXT NOT NULL, cause TEXT NOT NULL, ts_ms INTEGER NOT NULL,
    heard_ms INTEGER NOT NULL, state TEXT NOT NULL, fate TEXT NOT NULL
);
CREATE INDEX change_of ON change (device, code, ts_ms);
CREATE INDEX change_heard ON change (heard_ms);
CREATE TABLE delivery (
    n INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, device TEXT NOT NULL, code TEXT NOT NULL,
    id TEXT NOT NULL, episode INTEGER NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
    severity TEXT NOT NULL, state TEXT NOT NULL, created_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    held INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
    title TEXT NOT NULL DEFAULT '', body TEXT NOT NULL DEFAULT '', url TEXT NOT NULL DEFAULT '',
    url_title TEXT NOT NULL DEFAULT '', proof TEXT NOT NULL DEFAULT '',
    reference TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    done_ms INTEGER, digest INTEGER, follow TEXT NOT NULL DEFAULT ''
);
CREATE INDEX delivery_open ON delivery (state, target, due_ms);
CREATE INDEX delivery_of ON delivery (device, code, episode);
CREATE INDEX delivery_created ON delivery (created_ms);
CREATE INDEX delivery_reference ON delivery (reference) WHERE reference <> '';
CREATE TABLE timer (
    n INTEGER PRIMARY KEY, kind TEXT NOT NULL, device TEXT NOT NULL, code TEXT NOT NULL,
    targets TEXT NOT NULL, due_ms INTEGER NOT NULL, every_ms INTEGER NOT NULL, left INTEGER NOT NULL
);
CREATE INDEX timer_due ON timer (due_ms);
CREATE INDEX timer_of ON timer (device, code);
CREATE TABLE receipt (
    n INTEGER PRIMARY KEY, delivery INTEGER NOT NULL, device TEXT NOT NULL, code TEXT NOT NULL,
    id TEXT NOT NULL, target TEXT NOT NULL, receipt TEXT NOT NULL, ref TEXT NOT NULL,
    state TEXT NOT NULL, next_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    acked_ms INTEGER, told INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX receipt_open ON receipt (state, target, next_ms);
CREATE TABLE callback (
    ref TEXT PRIMARY KEY, status TEXT NOT NULL, heard_ms INTEGER NOT NULL
) WITHOUT ROWID;
"""

OPEN = "('waiting', 'sending')"


@dataclass(frozen=True, slots=True)
class Known:
    """An alarm as it stands."""

    device: str
    code: str
    id: str
    episode: int
    state: str
    severity: str
    title: str
    text: str
    advice: str
    value: str
    data: str
    cause: str
    flapping: int
    since_ms: int
    ts_ms: int
    acked_by: str
    acked_ms: int | None
    pushed: int


@dataclass(frozen=True, slots=True)
class Row:
    """A push on its way."""

    n: int
    ref: str
    device: str
    code: str
    id: str
    episode: int
    kind: str
    target: str
    severity: str
    state: str
    created_ms: int
    due_ms: int
    expires_ms: int
    at_ms: int
    held: int
    tries: int
    title: str
    body: str
    url: str
    url_title: str
    proof: str
    reference: str
    detail: str
    done_ms: int | None
    digest: int | None
    follow: str


@dataclass(frozen=True, slots=True)
class Timer:
    """Something that is due about an open alarm: ``remind``, ``escalate`` or ``promote``."""

    n: int
    kind: str
    device: str
    code: str
    targets: str
    due_ms: int
    every_ms: int
    left: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """An emergency that rings."""

    n: int
    delivery: int
    device: str
    code: str
    id: str
    target: str
    receipt: str
    ref: str
    state: str
    next_ms: int
    expires_ms: int
    acked_ms: int | None
    told: int


_ALARM = ", ".join(Known.__slots__)
_ROW = ", ".join(Row.__slots__)
_TIMER = ", ".join(Timer.__slots__)
_RECEIPT = ", ".join(Receipt.__slots__)


class Outbox:
    """The file. One connection, shared by the threads of one process.

    Args:
        path: of the file; its folder is made.
        read_only: for the verbs that only look.

    Raises:
        sqlite3.Error: it cannot be opened; a damaged file is kept as ``NAME.bad`` and begun anew.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens it, and makes what is missing."""
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        if read_only:
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as err:
            if isinstance(err, sqlite3.OperationalError):
                raise
            log.error("%s cannot be read (%s); it is kept as %s.bad", path, err, path.name)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            path.replace(path.with_name(f"{path.name}.bad"))
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=10.0, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA wal_autocheckpoint=200")
            db.execute("PRAGMA cache_size=-1024")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.executescript(f"BEGIN;{SCHEMA};PRAGMA user_version={VERSION};COMMIT;")
            elif version != VERSION:
                raise sqlite3.OperationalError(f"{self.path} is of version {version}")
            db.execute("SELECT COUNT(*) FROM timer").fetchone()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def close(self) -> None:
        """No more."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is kept, or nothing; on disk when it ends."""
        with self._lock:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            else:
                try:
                    self._db.execute("COMMIT")
                except sqlite3.Error:
                    self._db.execute("ROLLBACK")
                    raise
            finally:
                self._depth = 0

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _do(self, sql: str, *values: object) -> int:
        """Run it; returns the number of the new row."""
        with self.transaction():
            return int(self._db.execute(sql, values).lastrowid or 0)

    # -- small things ------------------------------------------------------------------------------

    def meta(self, key: str) -> str:
        """What was remembered; empty when nothing was."""
        found = self._all("SELECT value FROM meta WHERE key = ?", key)
        return str(found[0][0]) if found else ""

    def remember(self, key: str, value: str) -> None:
        """Remember it."""
        self._do("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)

    # -- alarms and their changes ------------------------------------------------------------------

    def alarm(self, device: str, code: str) -> Known | None:
        """How the alarm stands."""
        rows = self._all(f"SELECT {_ALARM} FROM alarm WHERE device=? AND code=?", device, code)
        return Known(*rows[0]) if rows else None

    def open_alarms(self) -> list[Known]:
        """Every raised one, the worst first."""
        rows = self._all(
            f"SELECT {_ALARM} FROM alarm WHERE state = 'raised' ORDER BY CASE severity"
            " WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, since_ms"
        )
        return [Known(*row) for row in rows]

    def count_open(self) -> int:
        """How many are raised."""
        return int(self._all("SELECT COUNT(*) FROM alarm WHERE state = 'raised'")[0][0])

    def followers(self, device: str, code: str) -> list[Known]:
        """Open alarms that follow from this one."""
        rows = self._all(
            f"SELECT {_ALARM} FROM alarm WHERE cause = ? AND cause <> '' AND state = 'raised'"
            " ORDER BY device, code LIMIT 200",
            f"{device}/{code}",
        )
        return [Known(*row) for row in rows]

    def keep_alarm(self, known: Known) -> None:
        """Store how it stands."""
        marks = ", ".join("?" * len(Known.__slots__))
        values = [getattr(known, name) for name in Known.__slots__]
        self._do(f"INSERT OR REPLACE INTO alarm ({_ALARM}) VALUES ({marks})", *values)

    def forget_alarm(self, device: str, code: str) -> None:
        """Its topic is gone."""
        self._do("DELETE FROM alarm WHERE device = ? AND code = ?", device, code)

    def is_told(self, device: str, code: str, alarm_id: str, state: str, ts_ms: int) -> bool:
        """Whether this very change is in the history."""
        return bool(
            self._all(
                "SELECT 1 FROM change WHERE device=? AND code=? AND ts_ms=? AND id=? AND state=?"
                " LIMIT 1",
                *(device, code, ts_ms, alarm_id, state),
            )
        )

    def add_change(self, known: Known, kind: str, heard_ms: int, fate: str) -> int:
        """Write a line of the history; returns its number."""
        return self._do(
            "INSERT INTO change (device, code, id, kind, severity, cause, ts_ms, heard_ms, state,"
            " fate) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(known.device, known.code, known.id, kind, known.severity, known.cause),
            *(known.ts_ms, heard_ms, known.state, fate),
        )

    def set_fate(self, change: int, fate: str) -> None:
        """Say what was done about a change."""
        self._do("UPDATE change SET fate = ? WHERE n = ?", fate, change)

    def changes(self, limit: int) -> list[tuple[Any, ...]]:
        """The newest: (time heard, device, code, kind, severity, fate)."""
        return self._all(
            "SELECT heard_ms, device, code, kind, severity, fate FROM change"
            " ORDER BY n DESC LIMIT ?",
            limit,
        )

    def acknowledge(self, device: str, code: str, by: str, at_ms: int) -> None:
        """Somebody has seen it: nothing reminds or rings any more."""
        with self.transaction():
            self._do(
                "UPDATE alarm SET acked_by = ?, acked_ms = ? WHERE device = ? AND code = ?",
                *(by, at_ms, device, code),
            )
            self.drop_timers(device, code, "remind", "escalate")
            self._do(
                "UPDATE delivery SET state = 'cancelled', detail = 'acknowledged', done_ms = ?"
                " WHERE device = ? AND code = ? AND state = 'waiting'"
                " AND kind IN ('reminder', 'escalation')",
                *(at_ms, device, code),
            )
            self.stop_ringing(device, code, at_ms)

    # -- pushes ------------------------------------------------------------------------------------

    def add_delivery(
        self,
        *,
        ref: str,
        known: Known,
        kind: str,
        target: str,
        created_ms: int,
        due_ms: int,
        expires_ms: int,
        held: bool,
        follow: str = "",
        title: str = "",
        body: str = "",
    ) -> int:
        """Put a push into the outbox."""
        return self._do(
            "INSERT INTO delivery (ref, device, code, id, episode, kind, target, severity, state,"
            " created_ms, due_ms, expires_ms, at_ms, held, follow, title, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?)",
            *(ref, known.device, known.code, known.id, known.episode, kind, target),
            *(known.severity, created_ms, due_ms, expires_ms, known.ts_ms, int(held), follow),
            *(title, body),
        )

    def deliveries(self, device: str, code: str, episode: int) -> list[Row]:
        """Every push about one life of an alarm, the oldest first."""
        rows = self._all(
            f"SELECT {_ROW} FROM delivery WHERE device=? AND code=? AND episode=? ORDER BY n",
            *(device, code, episode),
        )
        return [Row(*row) for row in rows]

    def delivery(self, n: int) -> Row | None:
        """One push."""
        rows = self._all(f"SELECT {_ROW} FROM delivery WHERE n = ?", n)
        return Row(*rows[0]) if rows else None

    def in_doubt(self, targets: Sequence[str]) -> Row | None:
        """The oldest push of these targets that was begun and not ended."""
        rows = self._all(
            f"SELECT {_ROW} FROM delivery WHERE state = 'sending' AND target IN ({_marks(targets)})"
            " ORDER BY n LIMIT 1",
            *targets,
        )
        return Row(*rows[0]) if rows else None

    def eligible(self, target: str, severities: Sequence[str], now_ms: int) -> tuple[int, int]:
        """How many pushes may go now, and how many of them were held back by the night."""
        found = self._all(
            "SELECT COUNT(*), COALESCE(SUM(held), 0) FROM delivery AS one WHERE state = 'waiting'"
            f" AND target = ? AND due_ms <= ? AND severity IN ({_marks(severities)})"
            " AND kind <> 'digest'",
            *(target, now_ms, *severities),
        )[0]
        return int(found[0]), int(found[1])

    def next_waiting(
        self, target: str, severities: Sequence[str], now_ms: int, *, digests: bool = False
    ) -> Row | None:
        """The oldest that may go now and that no older one about the same alarm stands before."""
        which = " AND kind = 'digest'" if digests else ""
        rows = self._all(
            f"SELECT {_ROW} FROM delivery AS one WHERE state = 'waiting' AND target = ?"
            f" AND due_ms <= ? AND severity IN ({_marks(severities)}){which} AND NOT EXISTS"
            " (SELECT 1 FROM delivery AS two WHERE two.device = one.device AND two.code = one.code"
            " AND two.episode = one.episode AND two.target = one.target AND two.n < one.n"
            f" AND two.state IN {OPEN}) ORDER BY n LIMIT 1",
            *(target, now_ms, *severities),
        )
        return Row(*rows[0]) if rows else None

    def next_due_ms(self, targets: Sequence[str]) -> int | None:
        """When the next push or receipt of these targets wants something."""
        found = self._all(
            f"SELECT MIN(due_ms) FROM delivery WHERE state IN {OPEN}"
            f" AND target IN ({_marks(targets)}) UNION ALL SELECT MIN(next_ms) FROM receipt"
            f" WHERE state IN ('ringing', 'cancelling') AND target IN ({_marks(targets)})",
            *(*targets, *targets),
        )
        times = [row[0] for row in found if row[0] is not None]
        return min(times) if times else None

    def intend(
        self,
        row: Row,
        *,
        title: str,
        body: str,
        url: str,
        url_title: str,
        kind: str,
        proof: str,
    ) -> None:
        """Before a provider is asked: what it is asked, and how to know afterwards if it was."""
        self._do(
            "UPDATE delivery SET state = 'sending', tries = tries + 1, title = ?, body = ?,"
            " url = ?, url_title = ?, kind = ?, proof = ? WHERE n = ?",
            *(title, body, url, url_title, kind, proof, row.n),
        )

    def sent(
        self, row: Row, now_ms: int, reference: str, receipt: str, *, rings_until_ms: int | None
    ) -> None:
        """The provider has it; an emergency rings from now on."""
        with self.transaction():
            self._do(
                "UPDATE delivery SET state = 'sent', reference = ?, done_ms = ?, detail = ''"
                " WHERE n = ?",
                *(reference, now_ms, row.n),
            )
            self._do(
                "UPDATE alarm SET pushed = pushed + 1 WHERE device = ? AND code = ?",
                *(row.device, row.code),
            )
            # the provider is back: nobody else has to wait as long as it looked
            self._do(
                "UPDATE delivery SET due_ms = MIN(due_ms, ?) WHERE state = 'waiting' AND tries > 0"
                " AND target = ?",
                *(now_ms, row.target),
            )
            if rings_until_ms is not None:
                known = self.alarm(row.device, row.code)
                is_wanted = (
                    known is not None
                    and (known.episode, known.state) == (row.episode, "raised")
                    and not known.acked_by
                )
                self._do(
                    "INSERT INTO receipt (delivery, device, code, id, target, receipt, ref, state,"
                    " next_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    *(row.n, row.device, row.code, row.id, row.target, receipt, row.ref),
                    *("ringing" if is_wanted else "cancelling", now_ms, rings_until_ms),
                )

    def again(self, row: Row, due_ms: int, detail: str) -> None:
        """The provider has not taken it: once more, later."""
        self._do(
            "UPDATE delivery SET state = 'waiting', due_ms = ?, detail = ? WHERE n = ?",
            *(due_ms, detail[:300], row.n),
        )

    def doubt(self, row: Row, due_ms: int, detail: str) -> None:
        """The provider may have taken it: it is asked later."""
        self._do(
            "UPDATE delivery SET due_ms = ?, detail = ? WHERE n = ?",
            *(due_ms, detail[:300], row.n),
        )

    def end(self, row: Row, state: str, now_ms: int, detail: str) -> None:
        """It will not be sent: ``failed``, ``expired`` or ``cancelled``."""
        self._do(
            "UPDATE delivery SET state = ?, done_ms = ?, detail = ? WHERE n = ?",
            *(state, now_ms, detail[:300], row.n),
        )

    def for_digest(
        self, target: str, severities: Sequence[str], now_ms: int, *, held_only: bool
    ) -> tuple[list[tuple[Any, ...]], int]:
        """What a digest of all that may go now would join.

        Returns:
            (device, code, how many, last kind) of each alarm, the oldest first; the last number.
        """
        rows = self._all(
            "SELECT device, code, COUNT(*), MAX(n) FROM delivery WHERE state = 'waiting'"
            f" AND target = ? AND due_ms <= ? AND severity IN ({_marks(severities)})"
            f" AND kind <> 'digest'{' AND held = 1' if held_only else ''}"
            " GROUP BY device, code ORDER BY MIN(n)",
            *(target, now_ms, *severities),
        )
        return rows, max((row[3] for row in rows), default=0)

    def join(
        self,
        target: str,
        severities: Sequence[str],
        now_ms: int,
        last: int,
        digest: int,
        *,
        held_only: bool,
    ) -> int:
        """What :meth:`for_digest` found goes out as one; returns how many."""
        with self.transaction():
            cursor = self._db.execute(
                "UPDATE delivery SET state = 'digest', digest = ?, done_ms = ? WHERE"
                " state = 'waiting' AND target = ? AND due_ms <= ? AND n <= ?"
                f" AND kind <> 'digest' AND severity IN ({_marks(severities)})"
                f"{' AND held = 1' if held_only else ''}",
                (digest, now_ms, target, now_ms, last, *severities),
            )
            return cursor.rowcount

    def recent_pushes(self, since_ms: int) -> list[tuple[str, str, int]]:
        """(target, severity, time) of what was sent since then: the rate goes on over a restart."""
        return self._all(
            "SELECT target, severity, done_ms FROM delivery WHERE state IN"
            " ('sent', 'delivered', 'read', 'acknowledged') AND done_ms >= ? ORDER BY done_ms",
            since_ms,
        )

    def count_states(self, since_ms: int = 0) -> dict[str, int]:
        """Pushes by state."""
        return dict(
            self._all(
                "SELECT state, COUNT(*) FROM delivery WHERE created_ms >= ? GROUP BY state",
                since_ms,
            )
        )

    def list_deliveries(self, limit: int, *, only_open: bool) -> list[Row]:
        """The newest pushes."""
        which = f"WHERE state IN {OPEN}" if only_open else ""
        rows = self._all(f"SELECT {_ROW} FROM delivery {which} ORDER BY n DESC LIMIT ?", limit)
        return [Row(*row) for row in rows]

    # -- callbacks ---------------------------------------------------------------------------------

    def called_back(self, ref: str, reference: str, status: str, now_ms: int) -> Row | None:
        """A provider tells what became of a push; returns it."""
        with self.transaction():
            rows = self._all(
                f"SELECT {_ROW} FROM delivery WHERE ref = ?1 OR (?2 <> '' AND reference = ?2)"
                " LIMIT 1",
                *(ref, reference),
            )
            if not rows:
                return None
            row = Row(*rows[0])
            self._do("INSERT OR REPLACE INTO callback VALUES (?, ?, ?)", row.ref, status, now_ms)
            if status in ("delivered", "read") and row.state in ("sent", "delivered"):
                self._do("UPDATE delivery SET state = ? WHERE n = ?", status, row.n)
            elif status == "expired" and row.state == "sent":
                self._do(
                    "UPDATE delivery SET detail = 'the provider let it expire' WHERE n = ?", row.n
                )
            return row

    def was_called_back(self, ref: str) -> bool:
        """Whether a provider has named it."""
        return bool(self._all("SELECT 1 FROM callback WHERE ref = ?", ref))

    # -- timers ------------------------------------------------------------------------------------

    def add_timer(
        self,
        kind: str,
        device: str,
        code: str,
        targets: Iterable[str],
        due_ms: int,
        every_ms: int = 0,
        left: int = 1,
    ) -> None:
        """Something is due about an open alarm."""
        self._do(
            "INSERT INTO timer (kind, device, code, targets, due_ms, every_ms, left)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(kind, device, code, " ".join(targets), due_ms, every_ms, left),
        )

    def due_timers(self, now_ms: int) -> list[Timer]:
        """What is due."""
        rows = self._all(f"SELECT {_TIMER} FROM timer WHERE due_ms <= ? LIMIT 100", now_ms)
        return [Timer(*row) for row in rows]

    def next_timer_ms(self) -> int | None:
        """When the next one is due."""
        found = self._all("SELECT MIN(due_ms) FROM timer")[0][0]
        return None if found is None else int(found)

    def turn_timer(self, timer: Timer, now_ms: int) -> None:
        """It has been done: the next one, or none."""
        if timer.left > 1 and timer.every_ms:
            self._do(
                "UPDATE timer SET left = left - 1, due_ms = ? WHERE n = ?",
                *(now_ms + timer.every_ms, timer.n),
            )
        else:
            self._do("DELETE FROM timer WHERE n = ?", timer.n)

    def hasten(self, device: str, code: str, kind: str, now_ms: int) -> None:
        """It is due now."""
        self._do(
            "UPDATE timer SET due_ms = ? WHERE device = ? AND code = ? AND kind = ?",
            *(now_ms, device, code, kind),
        )

    def drop_timers(self, device: str, code: str, *kinds: str) -> None:
        """It is not due any more."""
        self._do(
            f"DELETE FROM timer WHERE device = ? AND code = ? AND kind IN ({_marks(kinds)})",
            *(device, code, *kinds),
        )

    # -- receipts ----------------------------------------------------------------------------------

    def due_receipt(self, targets: Sequence[str], now_ms: int) -> Receipt | None:
        """The next receipt to ask for, or to cancel."""
        rows = self._all(
            f"SELECT {_RECEIPT} FROM receipt WHERE state IN ('ringing', 'cancelling')"
            f" AND target IN ({_marks(targets)}) AND next_ms <= ?"
            " ORDER BY state, next_ms LIMIT 1",
            *(*targets, now_ms),
        )
        return Receipt(*rows[0]) if rows else None

    def set_receipt(self, receipt: Receipt, state: str, next_ms: int) -> None:
        """How it stands, and when it is looked at again."""
        self._do(
            "UPDATE receipt SET state = ?, next_ms = ? WHERE n = ? AND state = ?",
            *(state, next_ms, receipt.n, receipt.state),
        )

    def receipt_acked(self, receipt: Receipt, now_ms: int) -> None:
        """Acknowledged on the phone; it is told on the topic until it was heard there."""
        with self.transaction():
            self._do(
                "UPDATE receipt SET state = 'acknowledged', acked_ms = ? WHERE n = ?",
                *(now_ms, receipt.n),
            )
            self._do("UPDATE delivery SET state = 'acknowledged' WHERE n = ?", receipt.delivery)
            row = self.delivery(receipt.delivery)
            known = self.alarm(receipt.device, receipt.code)
            if row and known and (known.episode, known.state) == (row.episode, "raised"):
                by = f"{receipt.target} by phone"
                self.acknowledge(receipt.device, receipt.code, by, now_ms)

    def stop_ringing(self, device: str, code: str, now_ms: int) -> None:
        """The alarm is over or acknowledged: its receipts are cancelled at the provider."""
        self._do(
            "UPDATE receipt SET state = 'cancelling', next_ms = ? WHERE device = ? AND code = ?"
            " AND state = 'ringing'",
            *(now_ms, device, code),
        )

    def untold_acks(self) -> list[Receipt]:
        """Acknowledgements from phones that nobody has heard on the topic yet."""
        rows = self._all(f"SELECT {_RECEIPT} FROM receipt WHERE acked_ms IS NOT NULL AND told = 0")
        return [Receipt(*row) for row in rows]

    def told_ack(self, device: str, code: str, alarm_id: str) -> None:
        """It was heard on the topic."""
        self._do(
            "UPDATE receipt SET told = 1 WHERE device = ? AND code = ? AND id = ?"
            " AND acked_ms IS NOT NULL AND told = 0",
            *(device, code, alarm_id),
        )

    def ringing(self) -> int:
        """How many emergencies ring."""
        return int(self._all("SELECT COUNT(*) FROM receipt WHERE state = 'ringing'")[0][0])

    # -- upkeep ------------------------------------------------------------------------------------

    def shift(self, by_ms: int) -> None:
        """The clock was set: what was to last an hour still lasts an hour."""
        with self.transaction():
            self._do(
                "UPDATE delivery SET created_ms = created_ms + ?1, due_ms = due_ms + ?1,"
                f" expires_ms = expires_ms + ?1 WHERE state IN {OPEN}",
                by_ms,
            )
            self._do("UPDATE timer SET due_ms = due_ms + ?", by_ms)
            self._do(
                "UPDATE receipt SET next_ms = next_ms + ?1, expires_ms = expires_ms + ?1"
                " WHERE state IN ('ringing', 'cancelling')",
                by_ms,
            )

    def held_rows(self) -> list[Row]:
        """What the night holds back."""
        rows = self._all(f"SELECT {_ROW} FROM delivery WHERE state = 'waiting' AND held = 1")
        return [Row(*row) for row in rows]

    def set_due(self, n: int, due_ms: int) -> None:
        """It may go at another time."""
        self._do("UPDATE delivery SET due_ms = ? WHERE n = ?", due_ms, n)

    def prune(self, before_ms: int) -> None:
        """Forget what is older, and what is too much."""
        with self.transaction():
            self._do("DELETE FROM change WHERE heard_ms < ?", before_ms)
            self._do("DELETE FROM change WHERE n <= (SELECT MAX(n) FROM change) - ?", MAX_CHANGES)
            self._do(
                f"DELETE FROM delivery WHERE created_ms < ? AND state NOT IN {OPEN}", before_ms
            )
            self._do(
                f"DELETE FROM delivery WHERE n <= (SELECT MAX(n) FROM delivery) - ?"
                f" AND state NOT IN {OPEN}",
                MAX_CHANGES,
            )
            self._do("DELETE FROM receipt WHERE expires_ms < ? AND told = 1", before_ms)
            self._do("DELETE FROM callback WHERE heard_ms < ?", before_ms)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
