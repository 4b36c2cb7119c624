"""Series, samples, states, latest values, devices, alarms.

Types are spelt out here, not taken from ``tables.py``: a migration says what was, not what is.
A table that is there already stays: MariaDB commits each of them by itself, and a migration that
was killed half-way is run again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

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


def series_id() -> sa.types.TypeEngine[int]:
    """Two bytes on a server."""
    return sa.Integer().with_variant(mysql.SMALLINT(unsigned=True), "mysql", "mariadb")


def moment() -> sa.types.TypeEngine[Any]:
    """UTC milliseconds since 1970."""
    return sa.BigInteger().with_variant(mysql.DECIMAL(13, 0), "mysql", "mariadb")


def document() -> sa.types.TypeEngine[str]:
    """JSON up to 64 KiB and a little."""
    return sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def is_there(name: str) -> bool:
    """Whether that table was made already."""
    return sa.inspect(op.get_bind()).has_table(name)


def create_table(name: str, *columns: Any, **options: Any) -> None:  # noqa: ANN401
    """Make a table that is not there yet."""
    if not is_there(name):
        op.create_table(name, *columns, **options)


def upgrade() -> None:
    """Make the tables."""
    create_table(
        "series",
        sa.Column("id", series_id(), primary_key=True, autoincrement=True),
        sa.Column("device", sa.String(32), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.UniqueConstraint("device", "name", name="uq_series"),
        **OPTIONS,
    )
    create_table(
        "sample",
        sa.Column("series_id", series_id(), primary_key=True, autoincrement=False),
        sa.Column("ts", moment(), primary_key=True, autoincrement=False),
        sa.Column("value", sa.Double(), nullable=False),
        **CLUSTERED,
    )
    create_table(
        "state",
        sa.Column("series_id", series_id(), primary_key=True, autoincrement=False),
        sa.Column("ts", moment(), primary_key=True, autoincrement=False),
        sa.Column("value", sa.String(255), nullable=False),
        **CLUSTERED,
    )
    create_table(
        "latest",
        sa.Column("series_id", series_id(), primary_key=True, autoincrement=False),
        sa.Column("ts", moment(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("text", sa.String(255)),
        sa.Column("quality", sa.String(16)),
        **OPTIONS,
    )
    create_table(
        "device",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("status", sa.String(20)),
        sa.Column("status_since", moment()),
        sa.Column("status_reason", sa.String(255)),
        sa.Column("info", document()),
        sa.Column("settings", document()),
        sa.Column("updated", moment(), nullable=False),
        **OPTIONS,
    )
    create_table(
        "alarm",
        sa.Column("device", sa.String(32), primary_key=True),
        sa.Column("code", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("severity", sa.String(8), nullable=False),
        sa.Column("title", sa.String(160), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("ts", moment(), primary_key=True, autoincrement=False),
        **OPTIONS,
    )


def downgrade() -> None:
    """Drop them, and what they hold."""
    for name in ("alarm", "device", "latest", "state", "sample", "series"):
        if is_there(name):
            op.drop_table(name)
