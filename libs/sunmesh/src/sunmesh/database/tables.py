"""The tables, the same for MariaDB, MySQL and SQLite. One database holds one site.

Rows of numbers and of states are clustered by (series_id, ts): a day's curve of one series is one
range of one B-tree, and a value costs under 44 bytes (``docs/adr/0003``). No foreign keys: they
would be checked for each value, and INSERT IGNORE would hide what they find.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    Index,
    Integer,
    LargeBinary,
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

SCHEMA = "0006"
"""The newest revision in ``migrations/``; a test compares them."""

MAX_TS = 9_999_999_999_999
"""The last time that fits into the column: the year 2286 [ms since 1970]."""

DEVICE_LENGTH = 32
NAME_LENGTH = 80
TEXT_LENGTH = 255
QUALITY_LENGTH = 16
CODE_LENGTH = 64
TITLE_LENGTH = 160
ID_LENGTH = 64
FLOW_LENGTH = 20

BUCKET_MS = 300_000
"""Length of a bucket of the energy books [ms]."""
DIRTY_MS = 300_000
"""Length of the stretches in which new samples are marked [ms]."""
CONSUMERS = ("rollup", "books")
"""Who wants to know where samples were stored."""


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

Seconds = Integer().with_variant(mysql.MEDIUMINT(unsigned=True), "mysql", "mariadb")
"""A length of time up to a day of 25 hours [s]."""

Blob = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")

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
    Column("value", Double),
    Index("ix_alarm_ts", "ts"),
    **OPTIONS,
)
"""Each raising and each clearing, as it was announced."""


# --- Rollups --------------------------------------------------------------------------------------


def _rollup(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("series_id", SeriesId, primary_key=True, autoincrement=False),
        Column("ts", EpochMs, primary_key=True, autoincrement=False),
        Column("min", Double, nullable=False),
        Column("max", Double, nullable=False),
        Column("mean", Double, nullable=False),
        Column("last", Double, nullable=False),
        Column("covered_ms", Integer, nullable=False),
        Column("samples", Integer, nullable=False),
        **CLUSTERED,
    )


minute = _rollup("minute")
"""Numbers by the minute; ``ts`` is its start. ``mean`` is weighted by time: trapezoids between
samples that are no gap apart, cut at the borders, so that ``mean * covered_ms`` is the
integral. With nothing covered it is the plain mean of the samples. ``min``, ``max`` and ``last``
are of the samples in it; where it has none (``samples`` = 0) of the line that runs through it."""

hour = _rollup("hour")
"""The same by the hour of UTC."""

day = _rollup("day")
"""The same by the site's own day, from its local midnight: 23, 24 or 25 hours."""

dirty = Table(
    "dirty",
    metadata,
    Column("consumer", String(8), primary_key=True),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    **OPTIONS,
)
"""Stretches of :data:`DIRTY_MS` in which samples were stored and who has not seen to them yet.

Marked in the transaction that stores, by one more ``version``. A consumer reads, works, and deletes
the row of the version that it read, in the transaction of its work: nothing is missed, whoever is
killed, and no clock is asked."""

horizon = Table(
    "horizon",
    metadata,
    Column("level", String(8), primary_key=True),
    Column("ts", EpochMs, nullable=False),
    **OPTIONS,
)
"""Rows of a level (``sample``, ``minute`` ...) before ``ts`` may have been deleted by age. What was
made of them is not made again from less."""


# --- What was said and done -----------------------------------------------------------------------

setting = Table(
    "setting",
    metadata,
    Column("device", String(DEVICE_LENGTH), primary_key=True),
    Column("name", String(NAME_LENGTH), primary_key=True),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    Column("value", Text, nullable=False),
    **OPTIONS,
)
"""A device's settings as JSON values, when they changed."""

acknowledgement = Table(
    "acknowledgement",
    metadata,
    Column("device", String(DEVICE_LENGTH), primary_key=True),
    Column("code", String(CODE_LENGTH), primary_key=True),
    Column("id", String(ID_LENGTH), primary_key=True),
    Column("by_whom", String(DEVICE_LENGTH * 2), primary_key=True),
    Column("ts", EpochMs, nullable=False),
    **OPTIONS,
)
"""Who has seen which alarm."""

command = Table(
    "command",
    metadata,
    Column("device", String(DEVICE_LENGTH), primary_key=True),
    Column("id", String(ID_LENGTH), primary_key=True),
    Column("stage", String(16), primary_key=True),
    Column("ts", EpochMs, nullable=False),
    Column("name", String(NAME_LENGTH), nullable=False),
    Column("value", Text, nullable=False),
    Column("by_whom", String(DEVICE_LENGTH * 2)),
    Column("detail", Text, nullable=False),
    Index("ix_command_ts", "ts", "stage", "name"),
    **OPTIONS,
)
"""Each stage of a command's life; ``value`` is JSON. The wish itself is the stage ``requested``."""

decision = Table(
    "decision",
    metadata,
    Column("rule", String(CODE_LENGTH), primary_key=True),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    Column("document", Document, nullable=False),
    **OPTIONS,
)
"""What a rule saw, wanted, did, and why not, when that changed."""

gap = Table(
    "gap",
    metadata,
    Column("started", EpochMs, primary_key=True, autoincrement=False),
    Column("reason", String(16), primary_key=True),
    Column("ended", EpochMs, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("detail", String(TEXT_LENGTH), nullable=False),
    **OPTIONS,
)
"""What is known to be lost, by the time of its messages, and why."""


# --- The energy books -----------------------------------------------------------------------------

FLOWS = (
    "pv",
    "load",
    "grid_import",
    "grid_export",
    "battery_charge",
    "battery_discharge",
    "generator",
    "curtailed",
)
"""What energy is booked of; ``curtailed`` is what the panels could have given besides."""

FLAGS = ("measured", "integrated", "recovered", "estimated", "edited", "imported")
"""How far a bucket can be trusted."""

energy = Table(
    "energy",
    metadata,
    Column("flow", String(FLOW_LENGTH), primary_key=True),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    Column("wh", Double, nullable=False),
    Column("source", String(FLOW_LENGTH), nullable=False),
    Column("flag", String(FLOW_LENGTH), nullable=False),
    Column("covered_s", Seconds, nullable=False),
    Column("edit_id", Integer),
    Column("booked_wh", Double),
    Column("booked_source", String(FLOW_LENGTH)),
    Column("booked_flag", String(FLOW_LENGTH)),
    Column("booked_covered_s", Seconds),
    **CLUSTERED,
)
"""Energy of a flow in a stretch of :data:`BUCKET_MS`. Nothing known, no row.

While an edit or an import covers a bucket (``edit_id``), ``booked_*`` hold what the books
themselves say of it, all empty where they say nothing."""

energy_day = Table(
    "energy_day",
    metadata,
    Column("flow", String(FLOW_LENGTH), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("wh", Double, nullable=False),
    Column("covered_s", Integer, nullable=False),
    Column("measured_wh", Double, nullable=False),
    Column("integrated_wh", Double, nullable=False),
    Column("recovered_wh", Double, nullable=False),
    Column("estimated_wh", Double, nullable=False),
    Column("edited_wh", Double, nullable=False),
    Column("imported_wh", Double, nullable=False),
    **OPTIONS,
)
"""Sums of ``energy`` by the site's local day, kept by whoever changes a bucket, with it."""

energy_edit = Table(
    "energy_edit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(8), nullable=False),
    Column("created", EpochMs, nullable=False),
    Column("by_whom", String(DEVICE_LENGTH * 2), nullable=False),
    Column("reason", String(TEXT_LENGTH), nullable=False),
    Column("undone", EpochMs),
    Column("undone_by", String(DEVICE_LENGTH * 2)),
    Column("document", Document, nullable=False),
    **OPTIONS,
)
"""A change by hand or by import: ``kind`` is ``edit`` or ``import``, ``document`` its JSON."""

energy_change = Table(
    "energy_change",
    metadata,
    Column("edit_id", Integer, primary_key=True, autoincrement=False),
    Column("flow", String(FLOW_LENGTH), primary_key=True),
    Column("ts", EpochMs, primary_key=True, autoincrement=False),
    Column("new_wh", Double, nullable=False),
    Column("old_wh", Double),
    Column("old_source", String(FLOW_LENGTH)),
    Column("old_flag", String(FLOW_LENGTH)),
    Column("old_covered_s", Seconds),
    Column("old_edit_id", Integer),
    Index("ix_energy_change_bucket", "flow", "ts"),
    **OPTIONS,
)
"""Each bucket of an edit, before and after; ``old_*`` are empty where there was none."""

battery_sweep = Table(
    "battery_sweep",
    metadata,
    Column("device", String(DEVICE_LENGTH), primary_key=True),
    Column("started", EpochMs, primary_key=True, autoincrement=False),
    Column("ended", EpochMs, nullable=False),
    Column("direction", String(9), nullable=False),
    Column("from_percent", Double, nullable=False),
    Column("to_percent", Double, nullable=False),
    Column("ah", Double),
    Column("wh", Double, nullable=False),
    Column("capacity_ah", Double),
    Column("capacity_wh", Double, nullable=False),
    Column("confidence", Double, nullable=False),
    **OPTIONS,
)
"""A battery going from full to low or back, and the capacity that this measures."""


# --- Imports of samples ---------------------------------------------------------------------------

import_batch = Table(
    "import_batch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("created", EpochMs, nullable=False),
    Column("format", String(32), nullable=False),
    Column("file", String(TEXT_LENGTH), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("samples", Integer, nullable=False),
    Column("edit_id", Integer),
    Column("undone", EpochMs),
    Column("document", Document, nullable=False),
    **OPTIONS,
)
"""A file that was taken in; ``edit_id`` is what it changed in the books, if anything."""

import_part = Table(
    "import_part",
    metadata,
    Column("batch_id", Integer, primary_key=True, autoincrement=False),
    Column("series_id", SeriesId, primary_key=True, autoincrement=False),
    Column("first", EpochMs, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("stamps", Blob, nullable=False),
    **OPTIONS,
)
"""Which samples a batch really added, so that it can be undone: zlib of differences."""


# --- The portal's people --------------------------------------------------------------------------

user = Table(
    "user",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(DEVICE_LENGTH), nullable=False),
    Column("role", String(8), nullable=False),
    Column("password", String(TEXT_LENGTH), nullable=False),
    Column("created", EpochMs, nullable=False),
    Column("seen", EpochMs),
    UniqueConstraint("name"),
    **OPTIONS,
)
"""Who may log in, as ``viewer``, ``operator`` or ``admin``; ``password`` is an argon2id hash."""

session = Table(
    "session",
    metadata,
    Column("token", String(64), primary_key=True),
    Column("user_id", Integer, nullable=False),
    Column("created", EpochMs, nullable=False),
    Column("seen", EpochMs, nullable=False),
    Column("proved", EpochMs, nullable=False),
    Column("unlocked", EpochMs, nullable=False),
    Column("address", String(64), nullable=False),
    **OPTIONS,
)
"""Who is logged in: ``token`` is the SHA-256 of the cookie, which is stored nowhere. The password
was last given at ``proved``; controls are unlocked until ``unlocked``."""

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("ts", EpochMs, nullable=False),
    Column("by_whom", String(DEVICE_LENGTH * 2), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(TITLE_LENGTH), nullable=False),
    Column("result", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_audit_ts", "ts"),
    **OPTIONS,
)
"""What was changed through the portal: who, what, from where, and how it ended. The stages of a
command stand in :data:`command`."""

api_key = Table(
    "api_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(DEVICE_LENGTH), nullable=False),
    Column("token", String(64), nullable=False),
    Column("hint", String(8), nullable=False),
    Column("may_write", Boolean, nullable=False),
    Column("by_whom", String(DEVICE_LENGTH * 2), nullable=False),
    Column("created", EpochMs, nullable=False),
    Column("expires", EpochMs),
    Column("seen", EpochMs),
    Column("address", String(64), nullable=False),
    UniqueConstraint("name"),
    Index("ix_api_key_token", "token"),
    **OPTIONS,
)
"""Keys of programs: ``token`` is the SHA-256 of what was shown once, ``hint`` its last letters.
It was last used at ``seen``, from ``address``."""


# --- Money ----------------------------------------------------------------------------------------

tariff = Table(
    "tariff",
    metadata,
    Column("first", Date, primary_key=True),
    Column("created", EpochMs, nullable=False),
    Column("by_whom", String(DEVICE_LENGTH * 2), nullable=False),
    Column("document", Document, nullable=False),
    **OPTIONS,
)
"""What energy costs from the local day ``first`` on, until the next one begins; ``document`` is
JSON of :class:`sunmesh.database.tariff.Tariff`."""

cost_month = Table(
    "cost_month",
    metadata,
    Column("month", Date, primary_key=True),
    Column("stamp", String(64), nullable=False),
    Column("document", Document, nullable=False),
    **OPTIONS,
)
"""What months that are over came to, so that years need not be counted again; ``document`` is JSON
of :class:`sunmesh.database.tariff.Bill`. A row counts while its ``stamp`` is that of the books'
sums and of the tariffs; it may be deleted at any time."""
