"""``sunmesh backup`` and ``sunmesh restore``: the whole database in one file, and back.

A backup is what one snapshot shows, whatever the recorder stores meanwhile: a transaction of
MariaDB or MySQL WITH CONSISTENT SNAPSHOT, a read transaction of SQLite. It is restored into a
scratch database and compared, table by table, before it gets its name. The file does not know
which server it comes from: what MariaDB held goes into SQLite, and back.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import sqlite3
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy import Connection, Engine, inspect, make_url, types
from sqlalchemy.exc import SQLAlchemyError

from .. import clock
from ..config import Site
from ..database import tables
from ..database.sql import DatabaseError, engine, reason, revision
from .container import ColumnHeader, Header, Reader, Row, TableHeader, Type, Writer, pack, reading
from .keeping import BackupError, Keep, file_name, free_bytes, prune, stored

log = logging.getLogger(__name__)

Tell = Callable[[str], None]

RESTORING = "restoring"
"""The schema's revision while rows are being loaded: a recorder does not take that for a database
of its own, and an interrupted restore not for a whole one."""

INSERT_ROWS = 2500
"""Rows in one INSERT: 300 kB at most, under the smallest max_allowed_packet of 1 MiB."""

FILE_SHARE, SCRATCH_SHARE, SPARE_BYTES = 0.15, 1.0, 32 * 1024 * 1024
"""What file and scratch database need of the disk, as shares of the database."""

TELL_S = 1.0


class Progress:
    """Says once a second how far it is."""

    def __init__(self, tell: Tell | None, what: str, total: int = 0) -> None:
        """``total`` rows are to come; 0 = nobody knows."""
        self._tell, self._what, self._total = tell, what, total
        self._rows = 0
        self._began = self._said = time.monotonic()

    def add(self, table: str, rows: int) -> None:
        """So many rows more."""
        self._rows += rows
        now = time.monotonic()
        if self._tell is None or now - self._said < TELL_S:
            return
        self._said = now
        share = f" ({100 * self._rows // self._total} %)" if self._total else ""
        pace = self._rows / (now - self._began)
        self._tell(f"{self._what} {table}: {self._rows:,} rows{share}, {pace:,.0f} a second")


# --- One side: the rows of a database -------------------------------------------------------------


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Turn what a driver or Alembic says into one line about that database."""
    from alembic.util import CommandError

    where = make_url(url).render_as_string(hide_password=True)
    try:
        yield
    except DatabaseError as err:
        raise BackupError(f"{where}: {err}") from err
    except (SQLAlchemyError, CommandError, pymysql.MySQLError, sqlite3.Error) as err:
        raise BackupError(f"{where}: {reason(err)}") from err


def _is_sqlite(opened: Engine | Connection) -> bool:
    return opened.dialect.name == "sqlite"


def _must_exist(url: str) -> None:
    """SQLite would make an empty database of a misspelt name."""
    at = make_url(url)
    if at.get_backend_name() == "sqlite" and not Path(at.database or "").is_file():
        raise BackupError(f"{at.database}: there is no such database")


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """A connection that sees the database as it is now, until it is closed.

    Raises:
        BackupError: the database cannot be read.
    """
    _must_exist(url)
    opened = engine(url, read_only=True, patient=True)
    with _named(url):
        try:
            with opened.connect() as connection:
                if _is_sqlite(connection):
                    # BEGIN alone sees nothing yet: the first statement fixes what is seen
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
                else:
                    for statement in (
                        "SET SESSION net_write_timeout = 3600",
                        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
                    ):
                        connection.exec_driver_sql(statement)
                yield connection
                connection.rollback()
        finally:
            opened.dispose()


def describe(connection: Connection) -> list[TableHeader]:
    """Our tables that are there, of whatever revision, with their columns as they are."""
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    return [
        TableHeader(
            name,
            [
                ColumnHeader(column["name"], _type(column["type"]), bool(column["nullable"]))
                for column in inspector.get_columns(name)
            ],
        )
        for name in tables.metadata.tables
        if name in there
    ]


def _type(found: Any) -> Type:  # noqa: ANN401 - of the dialect
    if isinstance(found, types.Float):
        return "float"
    if found.python_type is bytes:
        return "bytes"
    # DECIMAL(13,0) is a time; the driver is told to read it as a whole number
    return "int" if isinstance(found, types.Integer | types.Numeric | types.Boolean) else "text"


def blocks(connection: Connection, table: TableHeader) -> Iterator[list[Row]]:
    """The rows of a table in the order of its primary key, in blocks."""
    key = inspect(connection).get_pk_constraint(table.name)["constrained_columns"]
    order = ", ".join(key)
    columns = ", ".join(column.name for column in table.columns)
    driver: Any = connection.connection.driver_connection
    if _is_sqlite(connection):
        hint, cursor = "", driver.cursor()
    else:
        from pymysql.constants import FIELD_TYPE
        from pymysql.cursors import SSCursor

        driver.decoders[FIELD_TYPE.NEWDECIMAL] = int
        driver.decoders[FIELD_TYPE.DATE] = str
        # The table as it lies on the disk: nothing is sorted, nothing held.
        hint, cursor = "FORCE INDEX FOR ORDER BY (PRIMARY) ", driver.cursor(SSCursor)
    with closing(cursor):
        cursor.execute(f"SELECT {columns} FROM {table.name} {hint}ORDER BY {order}")  # noqa: S608
        while rows := cursor.fetchmany(table.block_rows):
            yield list(rows)


def _lines(
    connection: Connection, table: TableHeader, progress: Progress
) -> Iterator[tuple[int, bytes]]:
    for rows in blocks(connection, table):
        yield len(rows), pack(table, rows)
        progress.add(table.name, len(rows))


# --- Making ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup."""

    path: Path
    header: Header
    size: int
    seconds: float
    pruned: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        gone = f"; {len(self.pruned)} older removed" if self.pruned else ""
        return (
            f"{self.path}: {self.header.rows:,} rows, {self.size / 1e6:.1f} MB, verified, "
            f"{self.seconds:.0f} s{gone}"
        )


def backup(
    site: Site,
    where: Path,
    *,
    keep: Keep | None = None,
    scratch: str | None = None,
    tell: Tell | None = None,
) -> Made:
    """Write a backup of the site's database, prove it, and remove those that are too many.

    Args:
        site: which database, and whose configuration goes along.
        where: the folder; made if need be.
        keep: None removes nothing.
        scratch: an empty database for the proof; None = a temporary SQLite file in ``where``.
        tell: is told the progress.

    Raises:
        BackupError: no backup was made; ``where`` is as before.
    """
    began = time.monotonic()
    url = site.database.sqlalchemy_url()
    name = site.site.name
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise BackupError(f"{where}: {err.strerror}") from err
    with _alone(where), _space(where):
        part = where / f".sunmesh-{name}.part"
        try:
            with snapshot(url) as connection:
                created = clock.now()
                _room(connection, where, scratch is None)
                header = _write(connection, part, site, clock.iso(created), tell)
            _prove(part, where, scratch, tell)
            path = where / file_name(name, created)
            while path.exists():
                created += timedelta(seconds=1)
                path = where / file_name(name, created)
            part.rename(path)
            _sync(where)
        finally:
            part.unlink(missing_ok=True)
        gone = prune(where, name, keep, site.site.zone) if keep else []
    return Made(path, header, path.stat().st_size, time.monotonic() - began, gone)


@contextmanager
def _space(where: Path) -> Iterator[None]:
    """A full disk is one line."""
    try:
        yield
    except OSError as err:
        raise BackupError(f"{err.filename or where}: {err.strerror or err}") from err


@contextmanager
def _alone(where: Path) -> Iterator[None]:
    """Hold the folder, and clear what a killed backup left.

    Raises:
        BackupError: another backup is being made there, or nothing can be written.
    """
    try:
        lock = (where / ".lock").open("a")
    except OSError as err:
        raise BackupError(f"{where}: cannot be written ({err.strerror})") from err
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupError(f"{where}: another backup is being made there") from None
        for pattern in (".sunmesh-*.part", ".scratch.db*"):
            for left in where.glob(pattern):
                left.unlink(missing_ok=True)
        yield


def _room(connection: Connection, where: Path, with_scratch: bool) -> None:
    if _is_sqlite(connection):
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
        size = pages * (connection.exec_driver_sql("PRAGMA page_size").scalar() or 0)
    else:
        size = connection.exec_driver_sql(
            "SELECT SUM(data_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
        ).scalar()
    share = FILE_SHARE + (SCRATCH_SHARE if with_scratch else 0.0)
    need = int(float(size or 0) * share) + SPARE_BYTES
    free = free_bytes(where)
    if free < need:
        raise BackupError(
            f"{where}: {free / 1e6:.0f} MB are free, and a backup with its proof may need "
            f"{need / 1e6:.0f} MB"
        )


def _write(
    connection: Connection, part: Path, site: Site, created: str, tell: Tell | None
) -> Header:
    schema = revision(connection)
    if schema is None:
        raise BackupError(f"{site.database!r} has no tables yet")
    if schema == RESTORING:
        raise BackupError(f"{site.database!r} holds an interrupted restore")
    if schema > tables.SCHEMA:
        raise BackupError(f"{site.database!r} has the newer schema {schema}; update sunmesh")
    header = Header(
        created=created,
        site=site.site.name,
        time_zone=site.site.time_zone,
        schema=schema,
        source=connection.dialect.name,
        tables=[],
    )
    progress = Progress(tell, "saved")
    with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:  # noqa: PTH123
        with Writer(file) as writer:
            for table in describe(connection):
                writer.table(table, _lines(connection, table, progress))
            whole = writer.finish(header, without_secrets(site.path))
        file.flush()
        os.fsync(file.fileno())
    return whole


def _sync(folder: Path) -> None:
    """Make a rename outlast a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# --- The configuration ----------------------------------------------------------------------------

SECRET = r"(?:[\w-]*(?:password|passphrase|secret|token|api_key|push_key))"  # noqa: S105 - a pattern
_LINE = re.compile(rf"""(?m)\b(["']?{SECRET}["']?\s*=\s*)("[^"\n]*"|'[^'\n]*')""")
_URL = re.compile(r"(://[^:@/\s\"']*):[^@\s\"']*@")


def without_secrets(path: Path) -> str | None:
    """The text of ``site.toml`` with its secrets blanked; None when that cannot be proved."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    blanked = _URL.sub(r"\1@", _LINE.sub(r'\1""', text))
    try:
        left = list(_secrets(tomllib.loads(blanked)))
    except tomllib.TOMLDecodeError:
        left = ["?"]
    if left:
        log.warning("%s: not in the backup: a secret in it could not be blanked", path)
        return None
    return blanked


def _secrets(table: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - TOML
    """What still looks like a secret."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield from _secrets(value, key)
    elif isinstance(table, list):
        for value in table:
            yield from _secrets(value, name)
    elif re.fullmatch(SECRET, name) and table != "":
        yield str(table)
    elif isinstance(table, str) and _URL.search(table):
        yield table


# --- Proving --------------------------------------------------------------------------------------


def check(path: Path, tell: Tell | None = None) -> Header:
    """Read a backup to its end.

    Raises:
        BackupError: it is damaged; names what.
    """
    with reading(path) as archive:
        progress = Progress(tell, "checked", archive.header.rows)
        for table in archive.header.tables:
            for rows in archive.blocks(table):
                progress.add(table.name, len(rows))
        archive.site_toml()
        return archive.header


def verify(path: Path, into: str | None = None, tell: Tell | None = None) -> Header:
    """Restore a backup into a scratch database and compare.

    Args:
        path: the backup.
        into: an empty database, empty again afterwards; None = a temporary file beside ``path``.
        tell: is told the progress.

    Raises:
        BackupError: the file is damaged, or gives other rows than it should.
    """
    with _alone(path.parent), _space(path.parent):
        return _prove(path, path.parent, into, tell)


def _prove(path: Path, folder: Path, into: str | None, tell: Tell | None) -> Header:
    with reading(path) as archive:
        _refuse_newer(archive)
        if into is not None:
            _refuse_full(into)
            try:
                _load(into, archive, tell, "proved")
            finally:
                with _named(into):
                    _wipe(into)
            return archive.header
        scratch = folder / ".scratch.db"
        try:
            _load(f"sqlite:///{scratch}", archive, tell, "proved", hasty=True)
        finally:
            for left in folder.glob(".scratch.db*"):
                left.unlink(missing_ok=True)
        return archive.header


def _refuse_newer(archive: Reader) -> None:
    if archive.header.schema > tables.SCHEMA:
        raise BackupError(
            f"{archive.path}: has the schema {archive.header.schema}; this sunmesh knows "
            f"{tables.SCHEMA}: update it first"
        )


# --- Restoring ------------------------------------------------------------------------------------


def restore(path: Path, url: str, *, force: bool = False, tell: Tell | None = None) -> Header:
    """Put a backup into a database, compare, and bring its schema up to ours.

    No recorder may run on it meanwhile. An interrupted restore leaves a database that nobody takes
    for a whole one: run it again.

    Args:
        path: the backup.
        url: the database; an SQLite file is made.
        force: replace what is in it.
        tell: is told the progress.

    Raises:
        BackupError: the file is damaged or newer, the database is not empty or does not take it.
    """
    with reading(path) as archive:
        _refuse_newer(archive)
        if not force:
            _refuse_full(url)
        check(path, tell)  # to the end, before anything in the database is touched
        with _space(path.parent):
            _load(url, archive, tell, "restored")
        header = archive.header
    if header.schema != tables.SCHEMA:
        with _named(url), _quiet():
            from ..database.migrations import migrate

            migrate(url)
    return header


def _refuse_full(url: str) -> None:
    at = make_url(url)
    if at.get_backend_name() == "sqlite" and not Path(at.database or "").is_file():
        return
    opened = engine(url, read_only=True)
    try:
        with _named(url), opened.connect() as connection:
            where = at.render_as_string(hide_password=True)
            if revision(connection) == RESTORING:
                raise BackupError(f"{where} holds an interrupted restore; --force replaces it")
            for name in set(inspect(connection).get_table_names()) & set(tables.metadata.tables):
                if connection.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 1").first():  # noqa: S608
                    raise BackupError(f"{where} is not empty; --force replaces what is in it")
    finally:
        opened.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Alembic's lines."""
    chatty = logging.getLogger("alembic")
    level = chatty.level
    chatty.setLevel(logging.WARNING)
    try:
        yield
    finally:
        chatty.setLevel(level)


def _wipe(url: str) -> None:
    """Drop our tables, whatever state they are in."""
    opened = engine(url, patient=True)
    try:
        with opened.begin() as connection:
            there = set(inspect(connection).get_table_names())
            for name in [*tables.metadata.tables, "alembic_version"]:
                if name in there:
                    connection.exec_driver_sql(f"DROP TABLE {name}")
    finally:
        opened.dispose()


def _load(url: str, archive: Reader, tell: Tell | None, what: str, hasty: bool = False) -> None:
    """Replace the database by the file's rows, and compare them.

    Args:
        url: the database; afterwards it has the file's revision.
        archive: the file.
        tell: is told the progress.
        what: is being done, in a word.
        hasty: a scratch database: nothing of it needs to outlast a power cut.
    """
    from ..database.migrations import migrate

    header = archive.header
    with _named(url), _quiet():
        _wipe(url)
        migrate(url, header.schema)
        opened = engine(url, patient=True)
        try:
            with opened.connect() as connection:
                _same_shape(connection, archive)
                connection.rollback()
            with closing(opened.raw_connection()) as raw:
                driver: Any = raw.driver_connection
                _fill(driver, _is_sqlite(opened), archive, Progress(tell, what, header.rows), hasty)
            with opened.connect() as connection:
                _compare(connection, archive, Progress(tell, "compared", header.rows))
                connection.rollback()
            with opened.begin() as connection:
                connection.exec_driver_sql(
                    f"UPDATE alembic_version SET version_num = '{header.schema}'"  # noqa: S608
                )
        finally:
            opened.dispose()


def _same_shape(connection: Connection, archive: Reader) -> None:
    """See that the file has the tables that its revision makes, and no others.

    Its names go into SQL afterwards.
    """
    shape = {t.name: [(c.name, c.type) for c in t.columns] for t in describe(connection)}
    told = {t.name: [(c.name, c.type) for c in t.columns] for t in archive.header.tables}
    if shape != told:
        wrong = [name for name in shape.keys() | told.keys() if shape.get(name) != told.get(name)]
        raise BackupError(
            f"{archive.path}: damaged: {', '.join(sorted(wrong))} not as schema "
            f"{archive.header.schema} has it"
        )


def _fill(driver: Any, sqlite: bool, archive: Reader, progress: Progress, hasty: bool) -> None:  # noqa: ANN401
    """Insert the file's rows, a transaction for some blocks.

    Not "INSERT IGNORE": a row that is there already is somebody else's, and an error.
    """
    cursor = driver.cursor()
    if sqlite:
        settings = ["synchronous = OFF", "journal_mode = OFF"] if hasty else []
        statements = [f"PRAGMA {each}" for each in settings]
    else:
        statements = ["SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'"]
    begin = "BEGIN" if sqlite else "START TRANSACTION"
    mark = f"UPDATE alembic_version SET version_num = '{RESTORING}'"  # noqa: S608
    for statement in [*statements, begin, mark, "COMMIT"]:
        cursor.execute(statement)
    for table in archive.header.tables:
        cursor.execute(begin)
        waiting = 0
        for rows in archive.blocks(table):
            _insert(cursor, sqlite, table, rows)
            progress.add(table.name, len(rows))
            waiting += len(rows)
            if waiting >= 10 * table.block_rows:
                cursor.execute("COMMIT")
                cursor.execute(begin)
                waiting = 0
        cursor.execute("COMMIT")
    cursor.close()


def _insert(cursor: Any, sqlite: bool, table: TableHeader, rows: Sequence[Row]) -> None:  # noqa: ANN401
    names = ", ".join(column.name for column in table.columns)
    head = f"INSERT INTO {table.name} ({names}) VALUES "  # noqa: S608 - of our own schema
    if sqlite or not table.is_numeric:
        marks = ", ".join(["?" if sqlite else "%s"] * len(table.columns))
        cursor.executemany(f"{head}({marks})", rows)
        return
    # Numbers need no escaping; the exponent makes a DOUBLE of them to the last bit.
    form = ",".join("%d" if column.type == "int" else "%r" for column in table.columns)
    for at in range(0, len(rows), INSERT_ROWS):
        values = ",".join([f"({form % row})" for row in rows[at : at + INSERT_ROWS]])
        cursor.execute(head + values)


def _compare(connection: Connection, archive: Reader, progress: Progress) -> None:
    """See that the database gives the rows of the file.

    Raises:
        BackupError: names the table that differs.
    """
    for table in archive.header.tables:
        digest, count = hashlib.sha256(), 0
        for rows, line in _lines(connection, table, progress):
            digest.update(line)
            count += rows
        if (count, digest.hexdigest()) != (table.rows, table.sha256):
            raise BackupError(
                f"{archive.path}: {table.name} comes back with {count} rows of {table.rows}"
                + ("" if count != table.rows else ", and with other values")
            )


# --- Verbs ----------------------------------------------------------------------------------------


def listing(where: Path, site_name: str) -> list[str]:
    """The backups of a folder as lines for people."""
    lines = []
    for each in stored(where, site_name):
        with contextlib.ExitStack() as stack:
            try:
                header = stack.enter_context(reading(each.path)).header
                says = f"{header.rows:>12,} rows  schema {header.schema}  {header.source}"
            except BackupError as err:
                says = str(err)
        size = each.path.stat().st_size / 1e6
        lines.append(
            f"{clock.iso(each.created)[:16]}Z  {each.age_h:7.1f} h  {size:9.1f} MB  {says}  "
            f"{each.path.name}"
        )
    return lines
