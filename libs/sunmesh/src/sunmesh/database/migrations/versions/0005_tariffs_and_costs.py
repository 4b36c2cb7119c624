"""What energy costs, and what months came to."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"

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
DOCUMENT = sa.Text().with_variant(mysql.MEDIUMTEXT(), *SERVERS)


def must(name: str, type_: Any) -> sa.Column[Any]:  # noqa: ANN401
    """A column that is never empty."""
    return sa.Column(name, type_, nullable=False)


def is_there(name: str) -> bool:
    """Whether that table was made already."""
    return sa.inspect(op.get_bind()).has_table(name)


def upgrade() -> None:
    """Make the tables, unless they were made already."""
    if not is_there("tariff"):
        op.create_table(
            "tariff",
            sa.Column("first", sa.Date(), primary_key=True),
            must("created", MOMENT),
            must("by_whom", sa.String(64)),
            must("document", DOCUMENT),
            **OPTIONS,
        )
    if not is_there("cost_month"):
        op.create_table(
            "cost_month",
            sa.Column("month", sa.Date(), primary_key=True),
            must("stamp", sa.String(64)),
            must("document", DOCUMENT),
            **OPTIONS,
        )


def downgrade() -> None:
    """Drop them, and what they hold."""
    for name in ("cost_month", "tariff"):
        if is_there(name):
            op.drop_table(name)
