"""People, their sessions in the portal, and what was changed by whom."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

SERVERS = ("mysql", "mariadb")
OPTIONS: dict[str, Any] = {
    f"{dialect}_{key}": value
    for dialect in SERVERS
    for key, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        ("collate", "utf8mb4_bin"),
    )
}
MOMENT = sa.BigInteger().with_variant(mysql.DECIMAL(13, 0), *SERVERS)


def must(name: str, type_: Any) -> sa.Column[Any]:  # noqa: ANN401
    """A column that is never empty."""
    return sa.Column(name, type_, nullable=False)


def is_there(name: str) -> bool:
    """Whether that table was made already."""
    return sa.inspect(op.get_bind()).has_table(name)


def create_table(name: str, *columns: Any) -> None:  # noqa: ANN401
    """Make a table that is not there yet."""
    if not is_there(name):
        op.create_table(name, *columns, **OPTIONS)


def upgrade() -> None:
    """Make the tables."""
    create_table(
        "user",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        must("name", sa.String(32)),
        must("role", sa.String(8)),
        must("password", sa.String(255)),
        must("created", MOMENT),
        sa.Column("seen", MOMENT),
        sa.UniqueConstraint("name", name="uq_user"),
    )
    create_table(
        "session",
        sa.Column("token", sa.String(64), primary_key=True),
        must("user_id", sa.Integer()),
        must("created", MOMENT),
        must("seen", MOMENT),
        must("proved", MOMENT),
        must("unlocked", MOMENT),
        must("address", sa.String(64)),
    )
    create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        must("ts", MOMENT),
        must("by_whom", sa.String(64)),
        must("address", sa.String(64)),
        must("action", sa.String(32)),
        must("subject", sa.String(160)),
        must("result", sa.String(16)),
        must("detail", sa.Text()),
        sa.Index("ix_audit_ts", "ts"),
    )


def downgrade() -> None:
    """Drop them, and what they hold."""
    for name in ("audit", "session", "user"):
        if is_there(name):
            op.drop_table(name)
