"""Keys with which programs read the house, and those that may also command."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"

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


def upgrade() -> None:
    """Make the table, unless it was made already."""
    if is_there("api_key"):
        return
    op.create_table(
        "api_key",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        must("name", sa.String(32)),
        must("token", sa.String(64)),
        must("hint", sa.String(8)),
        must("may_write", sa.Boolean()),
        must("by_whom", sa.String(64)),
        must("created", MOMENT),
        sa.Column("expires", MOMENT),
        sa.Column("seen", MOMENT),
        must("address", sa.String(64)),
        sa.UniqueConstraint("name", name="uq_api_key"),
        sa.Index("ix_api_key_token", "token"),
        **OPTIONS,
    )


def downgrade() -> None:
    """Drop it, and what it holds."""
    if is_there("api_key"):
        op.drop_table("api_key")
