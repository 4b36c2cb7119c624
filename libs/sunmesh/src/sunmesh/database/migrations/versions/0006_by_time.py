"""Alarms and commands are found by their time, too: what happened on a day."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INDEXES = (
    ("alarm", "ix_alarm_ts", ["ts"]),
    ("command", "ix_command_ts", ["ts", "stage", "name"]),
)


def is_there(table: str, name: str) -> bool:
    """Whether that index was made already."""
    return any(index["name"] == name for index in sa.inspect(op.get_bind()).get_indexes(table))


def upgrade() -> None:
    """Make the indexes, unless they were made already."""
    for table, name, columns in INDEXES:
        if not is_there(table, name):
            op.create_index(name, table, columns)


def downgrade() -> None:
    """Drop them."""
    for table, name, _columns in INDEXES:
        if is_there(table, name):
            op.drop_index(name, table)
