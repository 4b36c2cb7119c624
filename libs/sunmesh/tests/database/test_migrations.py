"""The same tables on both databases, up, down and up again."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import inspect
from sunmesh.database import tables
from sunmesh.database.migrations import configuration, migrate
from sunmesh.database.sql import engine

from .conftest import rows


def names(url: str) -> set[str]:
    opened = engine(url, read_only=True)
    try:
        return set(inspect(opened).get_table_names())
    finally:
        opened.dispose()


def test_up_down_up(url: str) -> None:
    everything = {"alembic_version", *tables.metadata.tables}
    migrate(url)
    assert names(url) == everything
    migrate(url)
    migrate(url, "base")
    assert names(url) == {"alembic_version"}
    migrate(url, tables.SCHEMA)
    assert names(url) == everything
    migrate(url, "-1")
    migrate(url, "head")
    assert rows(url, "SELECT version_num FROM alembic_version") == [(tables.SCHEMA,)]


def test_the_models_are_what_the_migrations_make(url: str) -> None:
    migrate(url)
    opened = engine(url)
    try:
        with opened.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
    finally:
        opened.dispose()


def test_the_recorder_knows_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(configuration()).get_current_head() == tables.SCHEMA


def test_samples_are_clustered_by_series_and_time(database_url: str, sqlite_url: str) -> None:
    migrate(database_url)
    [(name, statement)] = rows(database_url, "SHOW CREATE TABLE sample")
    assert "PRIMARY KEY (`series_id`,`ts`)" in statement
    assert "`ts` decimal(13,0)" in statement
    assert "`series_id` smallint(5) unsigned" in statement
    assert "InnoDB" in statement
    migrate(sqlite_url)
    [(statement,)] = rows(sqlite_url, "SELECT sql FROM sqlite_master WHERE name = 'sample'")
    assert "WITHOUT ROWID" in statement


def test_an_unknown_revision_is_refused(sqlite_url: str) -> None:
    with pytest.raises(CommandError, match="nowhere"):
        migrate(sqlite_url, "nowhere")


def test_two_migrations_at_once_wait_for_each_other(
    url: str, site_file: Callable[[str], Path]
) -> None:
    path = site_file(f'[database]\nurl = "{url}"\n')
    command = [sys.executable, "-m", "recorder", "migrate", "--config", str(path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        _out, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert "sample" in names(url)
