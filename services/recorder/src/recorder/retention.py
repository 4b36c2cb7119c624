# ruff: noqa: S608 - nothing but names and numbers of our own is put into these statements
"""What is deleted by age: raw samples, minutes, decisions; everything else stays for ever.

A few thousand rows of one series at a time, each a transaction of its own with a pause after it, so
that what is being stored never waits for long. Samples that are not rolled up and booked yet stay,
whatever their age. SQLite and InnoDB use the room again for new rows; a file does not shrink, and
does not grow either once as much goes as comes.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sunmesh.database import tables
from sunmesh.database.sql import upsert

from .rollup import KEPT_MS, now_ms

log = logging.getLogger(__name__)

DAY_MS = 86_400_000

PIECE = 2000
"""Rows in one transaction."""

PAUSE_S = 0.05
"""After each; whoever waits for the writer has it then [s]."""


@dataclass(frozen=True, slots=True)
class Level:
    """A table that forgets: by which key it is read, and who must have seen its rows before."""

    table: str
    key: str
    keys: str
    consumers: tuple[str, ...] = ()


LEVELS = (
    Level("sample", "series_id", "SELECT id FROM series ORDER BY id", tables.CONSUMERS),
    Level("minute", "series_id", "SELECT id FROM series ORDER BY id", ("rollup",)),
    Level("decision", "rule", "SELECT DISTINCT rule FROM decision ORDER BY rule"),
)


class Retention:
    """Deletes what is older than it is to be kept.

    Args:
        engine: of its own thread, with ``committed=True``.
        days: for how long each of :data:`LEVELS` is kept; 0 = for ever.
        piece: rows in one transaction.
        pause_s: between two of them [s].
        between: called in the pauses, for what must not wait until all is deleted.
        now: the clock, for tests.
    """

    def __init__(
        self,
        engine: Engine,
        days: Mapping[str, int],
        *,
        piece: int = PIECE,
        pause_s: float = PAUSE_S,
        between: Callable[[], object] = lambda: None,
        now: Callable[[], int] = now_ms,
    ) -> None:
        """Nothing is deleted yet."""
        self._engine = engine
        self._days = days
        self._piece = piece
        self._pause_s = pause_s
        self._between = between
        self._now = now
        sqlite = engine.dialect.name == "sqlite"
        self._mark = "?" if sqlite else "%s"
        self._put_horizon = upsert(tables.horizon, self._mark, sqlite, guard="ts")
        self.deleted = 0
        self.held_back_days = 0.0

    def run(self, stop: threading.Event) -> int:
        """Delete what is due, until all is done or ``stop`` is set; how many rows that were.

        Raises:
            SQLAlchemyError: the database is away; the rest is deleted the next time.
        """
        before = self.deleted
        self.held_back_days = 0.0
        for level in LEVELS:
            if self._days[level.table]:
                self._forget(level, stop)
        if deleted := self.deleted - before:
            log.info("%d rows deleted by age", deleted)
        return deleted

    def _forget(self, level: Level, stop: threading.Event) -> None:
        now = self._now()
        wanted = now - now % DAY_MS - self._days[level.table] * DAY_MS
        with self._engine.connect() as connection:
            end = self._end(connection, level, wanted)
            keys: Sequence[int | str] = [row[0] for row in connection.exec_driver_sql(level.keys)]
        if end < wanted:
            days = (wanted - end) / DAY_MS
            self.held_back_days = max(self.held_back_days, days)
            log.warning(
                "%s: the oldest %.1f days stay until they are rolled up and booked; is the"
                " bookkeeper running?",
                level.table,
                days,
            )
        with self._engine.begin() as connection:
            connection.exec_driver_sql(self._put_horizon, (level.table, end))
        for key in keys:
            while not stop.is_set():
                deleted = self._delete(level, key, end)
                self.deleted += deleted
                if deleted:
                    stop.wait(self._pause_s)
                    self._between()
                if deleted < self._piece:
                    break

    def _end(self, connection: Connection, level: Level, wanted: int) -> int:
        """Up to when rows may go."""
        oldest = self._oldest(connection, level)
        return wanted if oldest is None else min(wanted, oldest - KEPT_MS)

    def _oldest(self, connection: Connection, level: Level) -> int | None:
        """The oldest stretch that one of the consumers has not seen to."""
        found: list[int] = []
        for consumer in level.consumers:
            row = connection.exec_driver_sql(
                f"SELECT MIN(ts) FROM dirty WHERE consumer = '{consumer}'"
            ).one()
            if row[0] is not None:
                found.append(int(row[0]))
        return min(found, default=None)

    def _delete(self, level: Level, key: int | str, end: int) -> int:
        """One piece: the oldest rows of a series."""
        rows = f"FROM `{level.table}` WHERE {level.key} = {self._mark} AND ts < {self._mark}"
        with self._engine.connect() as connection, connection.begin() as transaction:
            cut = connection.exec_driver_sql(
                f"SELECT ts {rows} ORDER BY ts LIMIT 1 OFFSET {self._piece}", (key, end)
            ).scalar()
            last = end if cut is None else int(cut)
            deleted = connection.exec_driver_sql(f"DELETE {rows}", (key, last)).rowcount
            # Only now: a late sample that was being stored is deleted too, and its mark is seen.
            oldest = self._oldest(connection, level) if deleted else None
            if oldest is not None and oldest < last + KEPT_MS:
                transaction.rollback()
                return 0
        return deleted
