"""Engines and statements: what differs between SQLite and the servers stands here."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from pymysql import connections
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)

from ..errors import SunmeshError
from .tables import CONSUMERS, DIRTY_MS

PACKED_BYTES = 64 * 1024 * 1024
"""What a server may pack into one text; MySQL's own limit is 1024."""

HERE = (None, "", "localhost", "127.0.0.1", "::1")

_driver: Any = connections
_numbers = msgspec.json.Decoder(list[float])


class DatabaseError(SunmeshError):
    """The database cannot take the rows now; the same batch may be tried again."""


def engine(
    url: str, *, read_only: bool = False, patient: bool = False, committed: bool = False
) -> Engine:
    """A small engine for one connection at a time.

    Args:
        url: SQLAlchemy's.
        read_only: SQLite then does not take the write lock.
        patient: no time-out on an answer, for migrations of large tables.
        committed: each statement sees what is committed by then, and INSERT ... SELECT and DELETE
            lock no row but those that they write.
    """
    if make_url(url).get_backend_name() == "sqlite":
        return _sqlite(url, read_only)
    wait: dict[str, Any] = {} if patient else {"read_timeout": 60, "write_timeout": 60}
    first = f"SET SESSION group_concat_max_len = {PACKED_BYTES}"
    return create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={"connect_timeout": 3, "init_command": first, **wait, **driver_options(url)},
        **({"isolation_level": "READ COMMITTED"} if committed else {}),
    )


def driver_options(url: str | URL) -> dict[str, Any]:
    """TLS, where the server is on another machine, or its address asks for it.

    PyMySQL would else prefer it in any case, and read all authorities at each connection.

    Args:
        url: SQLAlchemy's.

    Returns:
        What PyMySQL is to be told.
    """
    place = make_url(url)
    asks = any("ssl" in key for key in place.query if key != "ssl_disabled")
    if place.host in HERE and not asks:
        return {"ssl_disabled": True}
    if _driver.ssl is None:
        import ssl

        _driver.ssl, _driver.SSL_ENABLED = ssl, True
    return {}


def _sqlite(url: str, read_only: bool) -> Engine:
    opened = create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        connect_args={
            "timeout": 30,
            "check_same_thread": False,
            # The driver keeps 128 statements; ours with values in them never come again.
            "cached_statements": 8,
        },
    )

    @event.listens_for(opened, "connect")
    def _(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own
        # The driver would begin transactions late and none around DDL; ours begin below.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # With NORMAL a power cut could undo a commit that the broker has been told of.
        connection.execute("PRAGMA synchronous=FULL")
        # What an import of years has made of the log does not stay on the card.
        connection.execute("PRAGMA journal_size_limit=67108864")
        # Pages that were read stay with the system, once for all processes, and not in each.
        connection.execute(f"PRAGMA cache_size={'-256' if read_only else '-1024'}")

    @event.listens_for(opened, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return opened


def insert(table: Table, mark: str, sqlite: bool, skip: str = "") -> str:
    """INSERT of a row that may be there already."""
    names = [column.name for column in table.columns if column.name != skip]
    start, end = (
        ("INSERT INTO", " ON CONFLICT DO NOTHING") if sqlite else ("INSERT IGNORE INTO", "")
    )
    marks = ", ".join([mark] * len(names))
    return f"{start} {table.name} ({', '.join(names)}) VALUES ({marks}){end}"


def upsert(table: Table, mark: str, sqlite: bool, guard: str = "") -> str:
    """INSERT, or UPDATE of the row with that key; with ``guard`` only when that column rises."""
    key = next(iter(table.primary_key.columns)).name
    names = [column.name for column in table.columns if column.name != key]
    marks = ", ".join([mark] * (len(names) + 1))
    insert = f"INSERT INTO {table.name} ({key}, {', '.join(names)}) VALUES ({marks})"  # noqa: S608
    if sqlite:
        moved = ", ".join(f"{name} = excluded.{name}" for name in names)
        when = f" WHERE excluded.{guard} > {table.name}.{guard}" if guard else ""
        return f"{insert} ON CONFLICT ({key}) DO UPDATE SET {moved}{when}"
    if not guard:
        moved = ", ".join(f"{name} = VALUES({name})" for name in names)
        return f"{insert} ON DUPLICATE KEY UPDATE {moved}"
    # Assignments run from left to right, so the guard itself moves last. VALUES(), not the alias
    # of MySQL 8: MariaDB has no alias, and PyMySQL would not batch it.
    names.remove(guard)
    newer = f"VALUES({guard}) > {guard}"
    parts = [f"{name} = IF({newer}, VALUES({name}), {name})" for name in names]
    parts.append(f"{guard} = GREATEST({guard}, VALUES({guard}))")
    return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(parts)}"


def mark_dirty(connection: Connection, times: Iterable[int]) -> None:
    """Note that samples were stored, changed or deleted at ``times``, for every consumer.

    Belongs into the transaction that does so.

    Args:
        connection: in that transaction.
        times: of the samples [ms]; each stretch is marked once.
    """
    stretches = sorted({ms - ms % DIRTY_MS for ms in times})
    if not stretches:
        return
    sqlite = connection.dialect.name == "sqlite"
    mark = "?" if sqlite else "%s"
    more = "ON CONFLICT (consumer, ts) DO UPDATE SET" if sqlite else "ON DUPLICATE KEY UPDATE"
    connection.exec_driver_sql(
        f"INSERT INTO dirty (consumer, ts, version) VALUES ({mark}, {mark}, 1)"  # noqa: S608
        f" {more} version = dirty.version + 1",
        [(consumer, stretch) for consumer in CONSUMERS for stretch in stretches],
    )


def literal(rows: Iterable[tuple[int, int, float]]) -> str:
    """Samples as a list of SQL tuples: numbers only, so there is nothing to escape.

    PyMySQL's executemany spends two thirds of its time on escaping; this costs a sixth of that.
    The exponent makes the number a DOUBLE from the start, to the last bit.
    """
    return ",".join(
        [
            f"({number},{ts},{text})"
            if "e" in (text := repr(value))
            else f"({number},{ts},{text}e0)"
            for number, ts, value in rows
        ]
    )


def packed(connection: Connection, columns: Sequence[str], source: str) -> list[tuple[float, ...]]:
    """Rows of numbers, none of them NULL, by their first column.

    A server sends them as one text: PyMySQL takes ten times as long for rows.

    Args:
        connection: to the database.
        columns: expressions; the first one tells rows apart.
        source: what comes after the columns, from FROM on, without ORDER BY.
    """
    if connection.dialect.name != "sqlite":
        each = ", ',', ".join(columns)
        count, text = connection.exec_driver_sql(
            f"SELECT COUNT(*), GROUP_CONCAT({each}) {source}"
        ).one()
        found = unpacked(text, len(columns), int(count))
        if found is not None:
            return sorted(found)
    rows = connection.exec_driver_sql(f"SELECT {', '.join(columns)} {source} ORDER BY 1")
    return [tuple(row) for row in rows]


def unpacked(text: str | None, width: int, count: int) -> list[tuple[float, ...]] | None:
    """The rows of a text that GROUP_CONCAT made; None when the server cut it off."""
    try:
        numbers = _numbers.decode(f"[{text or ''}]")
    except msgspec.DecodeError:
        return None
    if len(numbers) != width * count:
        return None
    return list(zip(*[iter(numbers)] * width, strict=True))


def revision(connection: Connection) -> str | None:
    """The schema's revision; None for an empty database.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def reason(err: BaseException) -> str:
    """What the driver says, in one line, without SQL, rows and SQLAlchemy's advice."""
    cause = getattr(err, "orig", None) or err
    parts: tuple[object, ...] = getattr(cause, "args", ())
    if len(parts) >= 2:
        return f"{parts[1]} ({parts[0]})"
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
