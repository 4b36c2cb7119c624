"""Rollups, energy books, settings, commands, decisions, acknowledgements, gaps, imports.

MariaDB and MySQL commit each of these steps by itself. So each asks whether it is done already, and
a migration that was killed half-way is simply run again, up or down.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

OPTIONS: dict[str, Any] = {
    f"{dialect}_{key}": value
    for dialect in ("mysql", "mariadb")
    for key, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        ("collate", "utf8mb4_bin"),
    )
}
CLUSTERED = OPTIONS | {"sqlite_with_rowid": False}

SERVERS = ("mysql", "mariadb")
SERIES = sa.Integer().with_variant(mysql.SMALLINT(unsigned=True), *SERVERS)
MOMENT = sa.BigInteger().with_variant(mysql.DECIMAL(13, 0), *SERVERS)
SECONDS = sa.Integer().with_variant(mysql.MEDIUMINT(unsigned=True), *SERVERS)
DOCUMENT = sa.Text().with_variant(mysql.MEDIUMTEXT(), *SERVERS)
BLOB = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), *SERVERS)


def key(name: str, type_: Any) -> sa.Column[Any]:  # noqa: ANN401
    """A part of the primary key."""
    return sa.Column(name, type_, primary_key=True, autoincrement=False)


def must(name: str, type_: Any) -> sa.Column[Any]:  # noqa: ANN401
    """A column that is never empty."""
    return sa.Column(name, type_, nullable=False)


def is_there(name: str) -> bool:
    """Whether that table was made already."""
    return sa.inspect(op.get_bind()).has_table(name)


def create_table(name: str, *columns: Any, **options: Any) -> None:  # noqa: ANN401
    """Make a table that is not there yet."""
    if not is_there(name):
        op.create_table(name, *columns, **options)


def alarm_has_value() -> bool:
    """Whether ``alarm`` has its new column."""
    columns = sa.inspect(op.get_bind()).get_columns("alarm")
    return any(column["name"] == "value" for column in columns)


def upgrade() -> None:
    """Make the tables; samples that are there already are marked for rollups and books."""
    if not alarm_has_value():
        with op.batch_alter_table("alarm") as alarm:
            alarm.add_column(sa.Column("value", sa.Double()))
    for name in ("minute", "hour", "day"):
        numbers = [must(each, sa.Double()) for each in ("min", "max", "mean", "last")]
        create_table(
            name,
            key("series_id", SERIES),
            key("ts", MOMENT),
            *numbers,
            must("covered_ms", sa.Integer()),
            must("samples", sa.Integer()),
            **CLUSTERED,
        )
    create_table(
        "dirty",
        key("consumer", sa.String(8)),
        key("ts", MOMENT),
        must("version", sa.Integer()),
        **OPTIONS,
    )
    create_table(
        "horizon",
        sa.Column("level", sa.String(8), primary_key=True),
        must("ts", MOMENT),
        **OPTIONS,
    )
    create_table(
        "setting",
        key("device", sa.String(32)),
        key("name", sa.String(80)),
        key("ts", MOMENT),
        must("value", sa.Text()),
        **OPTIONS,
    )
    create_table(
        "acknowledgement",
        key("device", sa.String(32)),
        key("code", sa.String(64)),
        key("id", sa.String(64)),
        key("by_whom", sa.String(64)),
        must("ts", MOMENT),
        **OPTIONS,
    )
    create_table(
        "command",
        key("device", sa.String(32)),
        key("id", sa.String(64)),
        key("stage", sa.String(16)),
        must("ts", MOMENT),
        must("name", sa.String(80)),
        must("value", sa.Text()),
        sa.Column("by_whom", sa.String(64)),
        must("detail", sa.Text()),
        **OPTIONS,
    )
    create_table(
        "decision",
        key("rule", sa.String(64)),
        key("ts", MOMENT),
        must("document", DOCUMENT),
        **OPTIONS,
    )
    create_table(
        "gap",
        key("started", MOMENT),
        key("reason", sa.String(16)),
        must("ended", MOMENT),
        must("messages", sa.Integer()),
        must("detail", sa.String(255)),
        **OPTIONS,
    )
    _books()
    _mark()


def _books() -> None:
    create_table(
        "energy",
        key("flow", sa.String(20)),
        key("ts", MOMENT),
        must("wh", sa.Double()),
        must("source", sa.String(20)),
        must("flag", sa.String(20)),
        must("covered_s", SECONDS),
        sa.Column("edit_id", sa.Integer()),
        sa.Column("booked_wh", sa.Double()),
        sa.Column("booked_source", sa.String(20)),
        sa.Column("booked_flag", sa.String(20)),
        sa.Column("booked_covered_s", SECONDS),
        **CLUSTERED,
    )
    create_table(
        "energy_day",
        key("flow", sa.String(20)),
        key("day", sa.Date()),
        must("wh", sa.Double()),
        must("covered_s", sa.Integer()),
        must("measured_wh", sa.Double()),
        must("integrated_wh", sa.Double()),
        must("recovered_wh", sa.Double()),
        must("estimated_wh", sa.Double()),
        must("edited_wh", sa.Double()),
        must("imported_wh", sa.Double()),
        **OPTIONS,
    )
    create_table(
        "energy_edit",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        must("kind", sa.String(8)),
        must("created", MOMENT),
        must("by_whom", sa.String(64)),
        must("reason", sa.String(255)),
        sa.Column("undone", MOMENT),
        sa.Column("undone_by", sa.String(64)),
        must("document", DOCUMENT),
        **OPTIONS,
    )
    create_table(
        "energy_change",
        key("edit_id", sa.Integer()),
        key("flow", sa.String(20)),
        key("ts", MOMENT),
        must("new_wh", sa.Double()),
        sa.Column("old_wh", sa.Double()),
        sa.Column("old_source", sa.String(20)),
        sa.Column("old_flag", sa.String(20)),
        sa.Column("old_covered_s", SECONDS),
        sa.Column("old_edit_id", sa.Integer()),
        sa.Index("ix_energy_change_bucket", "flow", "ts"),
        **OPTIONS,
    )
    create_table(
        "battery_sweep",
        key("device", sa.String(32)),
        key("started", MOMENT),
        must("ended", MOMENT),
        must("direction", sa.String(9)),
        must("from_percent", sa.Double()),
        must("to_percent", sa.Double()),
        sa.Column("ah", sa.Double()),
        must("wh", sa.Double()),
        sa.Column("capacity_ah", sa.Double()),
        must("capacity_wh", sa.Double()),
        must("confidence", sa.Double()),
        **OPTIONS,
    )
    create_table(
        "import_batch",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        must("created", MOMENT),
        must("format", sa.String(32)),
        must("file", sa.String(255)),
        must("sha256", sa.String(64)),
        must("samples", sa.Integer()),
        sa.Column("edit_id", sa.Integer()),
        sa.Column("undone", MOMENT),
        must("document", DOCUMENT),
        **OPTIONS,
    )
    create_table(
        "import_part",
        key("batch_id", sa.Integer()),
        key("series_id", SERIES),
        key("first", MOMENT),
        must("count", sa.Integer()),
        must("stamps", BLOB),
        **OPTIONS,
    )


def _mark() -> None:
    """What is stored already is to be rolled up and booked."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    insert, end = ("INSERT", " ON CONFLICT DO NOTHING") if sqlite else ("INSERT IGNORE", "")
    op.execute(
        f"{insert} INTO dirty (consumer, ts, version)"  # noqa: S608
        f" SELECT 'rollup', ts - ts % 300000, 1 FROM sample WHERE 1 = 1 GROUP BY 2{end}"
    )
    op.execute(
        f"{insert} INTO dirty (consumer, ts, version)"  # noqa: S608
        f" SELECT 'books', ts, version FROM dirty WHERE consumer = 'rollup'{end}"
    )


def downgrade() -> None:
    """Drop them, and what they hold."""
    for name in (
        *("import_part", "import_batch", "battery_sweep", "energy_change", "energy_edit"),
        *("energy_day", "energy", "gap", "decision", "command", "acknowledgement", "setting"),
        *("horizon", "dirty", "day", "hour", "minute"),
    ):
        if is_there(name):
            op.drop_table(name)
    if alarm_has_value():
        with op.batch_alter_table("alarm") as alarm:
            alarm.drop_column("value")
