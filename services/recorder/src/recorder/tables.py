"""The tables, the same for MariaDB, MySQL and SQLite. One database holds one site.

Rows of numbers and of states are clustered by (series_id, ts): a day's curve of one series is one
range of one B-tree, and a value costs under 44 bytes (``docs/adr/0003``). No foreign keys: they
would be checked for each value, and INSERT IGNORE would hide what they find.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

SCHEMA = "0001"
"""The newest revision in ``migrations/``; a test compares them."""

MAX_TS = 9_999_999_999_999
"""The last time that fits into the column: the year 2286 [ms since 1970]."""

DEVICE_LENGTH = 32
NAME_LENGTH = 80
TEXT_LENGTH = 255
QUALITY_LENGTH = 16
CODE_LENGTH = 64
TITLE_LENGTH = 160


class EpochMs(TypeDecorator[int]):
    """UTC milliseconds since 1970, as an int.

    DECIMAL(13,0) on MariaDB and MySQL: 6 bytes instead of BIGINT's 8, measured as 43.7 bytes a
    stored value instead of 47.2.
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type in that dialect."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(BigInteger())
        return dialect.type_descriptor(mysql.DECIMAL(13, 0))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:  # noqa: ANN401
        """MariaDB's driver gives a Decimal."""
        return None if value is None else int(value)


SeriesId = (
    SmallInteger()
    .with_variant(mysql.SMALLINT(unsigned=True), "mysql", "mariadb")
    .with_variant(Integer(), "sqlite")
)
"""A series' number: 2 bytes in each row."""

Document = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
"""JSON as it came; a message may be 64 KiB, just more than TEXT holds."""

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
CLUSTERED: dict[str, Any] = OPTIONS | {"sqlite_with_rowid": False}
"""InnoDB clusters by the primary key anyway; SQLite when told to."""

metadata = MetaData(naming_convention={"uq": "uq_%(table_name)s", "pk": "pk_%(table_name)s"})

series = Table(
    "series",
    metadata,
    Column("id", SeriesId, primary_key=True, autoincrement=True),
    Column("device", String(DEVICE_LENGTH), nullable=False),
    Column("name", String(NAME_LENGTH), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("kind", String(8), nullable=False),
    UniqueConstraint("device", "name"),
    **OPTIONS,
)
"""One row for each quantity of each device; ``name/1`` … for the elements of a list."""

sample = Table(
    "sample",
    metadata,
    Column("series_id", SeriesId, primary_key=True, autoincrement=False),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    Column("value", Double, nullable=False),
    **CLUSTERED,
)
"""Numbers as read."""

state = Table(
    "state",
    metadata,
    Column("series_id", SeriesId, primary_key=True, autoincrement=False),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    Column("value", String(TEXT_LENGTH), nullable=False),
    **CLUSTERED,
)
"""Words, truths and lists of codes, when they changed; each holds until the next row."""

latest = Table(
    "latest",
    metadata,
    Column("series_id", SeriesId, primary_key=True, autoincrement=False),
    Column("ts", EpochMs, nullable=False),
    Column("value", Double),
    Column("text", String(TEXT_LENGTH)),
    Column("quality", String(QUALITY_LENGTH)),
    **OPTIONS,
)
"""The newest of each series; both empty = not readable at ``ts``."""

device = Table(
    "device",
    metadata,
    Column("name", String(DEVICE_LENGTH), primary_key=True),
    Column("status", String(20)),
    Column("status_since", EpochMs),
    Column("status_reason", String(TEXT_LENGTH)),
    Column("info", Document),
    Column("settings", Document),
    Column("updated", EpochMs, nullable=False),
    **OPTIONS,
)
"""What each device last said about itself; ``info`` and ``settings`` are the messages' JSON."""

alarm = Table(
    "alarm",
    metadata,
    Column("device", String(DEVICE_LENGTH), primary_key=True),
    Column("code", String(CODE_LENGTH), primary_key=True),
    Column("id", String(64), nullable=False),
    Column("state", String(8), nullable=False),
    Column("severity", String(8), nullable=False),
    Column("title", String(TITLE_LENGTH), nullable=False),
    Column("text", Text, nullable=False),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    **OPTIONS,
)
"""Each raising and each clearing, as it was announced."""
