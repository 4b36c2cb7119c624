"""Alembic's migrations; package data, run by ``recorder migrate`` and at the start of ``run``."""

import threading
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from ..sql import DatabaseError, engine

LOCK_S = 120
"""How long a second migration waits for the first [s]."""

_in_process = threading.Lock()


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, without a file of its own."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def migrate(url: str, target: str = "head") -> None:
    """Bring the database to ``target``, up or down; two at once wait for each other.

    Args:
        url: the database.
        target: a revision, ``head``, ``base``, or a step such as ``-1``.

    Raises:
        DatabaseError: another migration holds the database, or a newer program made its schema.
        sqlalchemy.exc.SQLAlchemyError: it cannot be reached, or a step failed; the steps before it
            stand on MariaDB, and the same call goes on after them.
        alembic.util.CommandError: no such revision.
    """
    with _in_process:
        opened = engine(url, patient=True)
        try:
            with opened.connect() as connection:
                _locked(connection, target)
        finally:
            opened.dispose()


def _locked(connection: Connection, target: str) -> None:
    # On SQLite the transaction itself is the lock: it began IMMEDIATE.
    name = "LEFT(CONCAT('sunmesh.migrate.', DATABASE()), 64)"
    if connection.dialect.name == "sqlite":
        with connection.begin():
            _move(connection, target)
        return
    got: Any = connection.execute(text(f"SELECT GET_LOCK({name}, {LOCK_S})")).scalar()  # noqa: S608
    if got != 1:
        raise DatabaseError("another migration of this database is still running")
    connection.commit()
    try:
        with connection.begin():  # its end is written before the next one may look
            _move(connection, target)
    finally:
        connection.execute(text(f"SELECT RELEASE_LOCK({name})"))  # noqa: S608


def _move(connection: Connection, target: str) -> None:
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = configuration(connection)
    scripts = ScriptDirectory.from_config(config)
    now = MigrationContext.configure(connection).get_current_revision()
    known = [script.revision for script in scripts.walk_revisions()]
    if now is not None and now not in known:
        raise DatabaseError(
            f"the tables are of revision {now}, newer than this program, which knows {known[0]}; "
            "update the program"
        )
    if target == "base" or target.startswith("-"):
        command.downgrade(config, target)
        return
    goal = scripts.get_revision(target)
    is_below = now is not None and any(
        script.revision == goal.revision and script.revision != now
        for script in scripts.iterate_revisions(now, "base")
    )
    (command.downgrade if is_below else command.upgrade)(config, goal.revision)
