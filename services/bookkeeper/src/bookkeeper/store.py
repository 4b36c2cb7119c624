"""The bookkeeper's way into the database: one writer, what is marked, what is booked.

One process at a time keeps the books: a named lock on a server, which ends with its connection, and
a lock on a file beside an SQLite database. The second one says so and ends.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import Connection, Engine, func, make_url, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sunmesh.database import energy, sql, tables
from sunmesh.database.sql import DatabaseError, reason
from sunmesh.errors import SunmeshError
from sunmesh.house import EnergySection

from . import site_model
from .site_model import Model

CONSUMER = "books"
TRIES = 5
IN_ONE = 500
"""Marks in one statement."""

T = TypeVar("T")


class TakenError(SunmeshError):
    """Another process keeps these books."""


class UnreadyError(DatabaseError):
    """The tables are not there, or not of this version."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of five minutes in which samples were stored, and which state of it was seen."""

    ts: int
    version: int


class Store:
    """A connection to read, one to write, and the lock.

    Args:
        url: SQLAlchemy's.
    """

    def __init__(self, url: str) -> None:
        """Connects with the first question."""
        self.url = make_url(url)
        self._sqlite = self.url.get_backend_name() == "sqlite"
        self._reading = sql.engine(url, read_only=True)
        self._writing = sql.engine(url)
        self._writer: Connection | None = None
        self._file: IO[str] | None = None

    def beside(self) -> "Store | None":
        """Another store that writes under this one's lock; None where only one can write."""
        if self._sqlite:
            return None
        store = Store(self.url.render_as_string(hide_password=False))
        store._writer = store._writing.connect()
        return store

    def close(self) -> None:
        """Give everything back, the lock included."""
        self.drop()
        self._reading.dispose()
        if self._file is not None:
            self._file.close()
            self._file = None

    def drop(self) -> None:
        """Let the connections go; the next question makes new ones."""
        if self._writer is not None:
            with suppress(SQLAlchemyError, OSError):
                self._writer.close()
            self._writer = None
        self._writing.dispose()
        self._reading.dispose()

    # -- the lock ----------------------------------------------------------------------------------

    def hold(self) -> None:
        """Be the one who keeps these books, from now on; costs nothing when that is so already.

        Raises:
            TakenError: another one does.
            UnreadyError: the tables are not there yet.
            DatabaseError: no answer.
        """
        if self._writer is not None and not self._writer.invalidated:
            return
        self.ready()
        try:
            if self._sqlite:
                self._hold_file()
            else:
                self._hold_name()
        except (SQLAlchemyError, OSError) as err:
            self.drop()
            raise DatabaseError(reason(err)) from err

    def _hold_name(self) -> None:
        self._writer = None
        self._writing.dispose()
        writer = self._writing.connect()
        got = writer.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": self._lock_name})
        mine = got.scalar()
        writer.commit()
        if not mine:
            writer.close()
            raise TakenError(f"another bookkeeper keeps the books in {self._where}")
        self._writer = writer

    @property
    def _lock_name(self) -> str:
        """Names of locks hold for the whole server, and have 64 characters at most."""
        name = f"{self.url.database}"
        return f"sunmesh-books-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    def _hold_file(self) -> None:
        if self._file is None:
            path = Path(f"{self.url.database}.books-lock")
            file = path.open("a+", encoding="ascii")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as err:
                file.seek(0)
                holder = file.read().strip()
                file.close()
                who = f" (process {holder})" if holder else ""
                raise TakenError(
                    f"another bookkeeper{who} keeps the books in {self._where}"
                ) from err
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self._file = file
        self._writer = self._writing.connect()

    def is_held(self) -> bool:
        """Whether some process, this one or another, keeps these books now."""
        if self._sqlite:
            path = Path(f"{self.url.database}.books-lock")
            if not path.exists():
                return False
            with path.open("a+", encoding="ascii") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return True
            return False
        return bool(
            self.read(
                lambda c: c.execute(
                    text("SELECT IS_USED_LOCK(:name)"), {"name": self._lock_name}
                ).scalar()
            )
        )

    # -- transactions ------------------------------------------------------------------------------

    def ready(self) -> None:
        """See whether the tables are there.

        Raises:
            UnreadyError: they are not, or of another version.
            DatabaseError: no answer.
        """
        if self._sqlite and not Path(self.url.database or "").exists():
            raise UnreadyError(f"there is no database {self._where} yet; the recorder makes it")
        found = self.read(sql.revision)
        if found != tables.SCHEMA:
            is_there = f"has tables of version {found}" if found else "has no tables yet"
            raise UnreadyError(f"{self._where} {is_there}; the recorder sees to that")

    def read(self, ask: Callable[[Connection], T]) -> T:
        """Ask something; everything is seen as at one moment.

        Raises:
            DatabaseError: no answer.
        """
        try:
            with self._reading.connect() as connection:
                return ask(connection)
        except (SQLAlchemyError, OSError) as err:
            raise DatabaseError(reason(err)) from err

    def write(self, work: Callable[[Connection], T]) -> T:
        """Change something, all of it or nothing; needs :meth:`hold`.

        Raises:
            DatabaseError: no answer; nothing was changed.
        """
        writer = self._writer
        if writer is None:
            raise DatabaseError("the lock is lost")
        for left in reversed(range(TRIES)):
            try:
                with writer.begin():
                    return work(writer)
            except (SQLAlchemyError, OSError) as err:
                code = getattr(getattr(err, "orig", None), "args", (0,))[0]
                if isinstance(err, OperationalError) and left and code in energy.DEADLOCKS:
                    continue
                self.drop()
                raise DatabaseError(reason(err)) from err
        raise AssertionError("tries is 1 or more")

    @property
    def _where(self) -> str:
        if self._sqlite:
            return str(self.url.database)
        return f"{self.url.host}:{self.url.port or 3306}/{self.url.database}"

    @property
    def engine(self) -> Engine:
        """For what a verb changes in one transaction of its own."""
        return self._writing


# --- Statements ---------------------------------------------------------------------------------


def model(
    connection: Connection, section: EnergySection, devices: Mapping[str, Mapping[str, Any]]
) -> Model:
    """The house as configuration and database have it now."""
    series = tables.series
    rows = connection.execute(select(series.c.id, series.c.device, series.c.name))
    infos = connection.execute(select(tables.device.c.name, tables.device.c.info))
    return site_model.build(
        [(int(row[0]), row[1], row[2]) for row in rows],
        [(row[0], row[1]) for row in infos],
        section,
        devices,
    )


def marks(connection: Connection, before: int, most: int, since: int = 0) -> list[Mark]:
    """The oldest stretches from ``since`` on that are to be booked and ended before ``before``."""
    dirty = tables.dirty
    rows = connection.execute(
        select(dirty.c.ts, dirty.c.version)
        .where(
            dirty.c.consumer == CONSUMER,
            dirty.c.ts >= since,
            dirty.c.ts <= before - tables.DIRTY_MS,
        )
        .order_by(dirty.c.ts)
        .limit(most)
    )
    return [Mark(int(row[0]), int(row[1])) for row in rows]


def waiting(connection: Connection) -> tuple[int, int | None]:
    """How many stretches wait, and the first of them."""
    dirty = tables.dirty
    count, first = connection.execute(
        select(func.count(), func.min(dirty.c.ts)).where(dirty.c.consumer == CONSUMER)
    ).one()
    return int(count), None if first is None else int(first)


def waiting_in(connection: Connection, start: int, end: int) -> int:
    """How many stretches of [start, end) wait."""
    dirty = tables.dirty
    return int(
        connection.execute(
            select(func.count()).where(
                dirty.c.consumer == CONSUMER, dirty.c.ts >= start, dirty.c.ts < end
            )
        ).scalar_one()
    )


def done(connection: Connection, seen: Sequence[Mark]) -> None:
    """Take the marks away, but for those that were set again since they were seen."""
    by_version: dict[int, list[int]] = {}
    for each in seen:
        by_version.setdefault(each.version, []).append(each.ts)
    dirty = tables.dirty
    for version, times in by_version.items():
        for at in range(0, len(times), IN_ONE):
            connection.execute(
                dirty.delete().where(
                    dirty.c.consumer == CONSUMER,
                    dirty.c.ts.in_(times[at : at + IN_ONE]),
                    dirty.c.version == version,
                )
            )


def mark(connection: Connection, times: Iterable[int]) -> None:
    """Ask for stretches to be booked again."""
    rows = [(CONSUMER, ts, 1) for ts in times]
    if not rows:
        return
    sqlite = connection.dialect.name == "sqlite"
    place = "?" if sqlite else "%s"
    more = "ON CONFLICT (consumer, ts) DO UPDATE SET" if sqlite else "ON DUPLICATE KEY UPDATE"
    connection.exec_driver_sql(
        f"INSERT INTO dirty (consumer, ts, version) VALUES ({place}, {place}, {place})"  # noqa: S608
        f" {more} version = dirty.version + 1",
        rows,
    )


def booked(
    connection: Connection, flows: Iterable[str], start: int, end: int
) -> dict[str, dict[int, tuple[float, float]]]:
    """What the books themselves say (Wh, covered s), under edits too, by flow and bucket."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for flow in flows:
        mine: dict[int, tuple[float, float]] = {}
        for bucket in energy.buckets(connection, flow, start, end):
            mine[bucket.ts] = (bucket.wh, bucket.covered_s)
        found[flow] = mine
    return found


def last_bucket(connection: Connection) -> int | None:
    """Start of the newest bucket of any flow."""
    table = tables.energy
    found = [
        connection.execute(select(func.max(table.c.ts)).where(table.c.flow == flow)).scalar()
        for flow in tables.FLOWS
    ]
    return max((int(ts) for ts in found if ts is not None), default=None)
