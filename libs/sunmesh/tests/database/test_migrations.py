"""The same tables on both databases, up, down and up again."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, event, inspect
from sunmesh.database import tables
from sunmesh.database.migrations import configuration, migrate
from sunmesh.database.sql import DatabaseError, engine

from .conftest import rows

T0 = 1_790_000_000_000
"""A moment in 2026 [ms]."""


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
    migrate(url, "0004")
    assert names(url) == everything - {"tariff", "cost_month"}
    migrate(url, "head")
    assert names(url) == everything
    assert rows(url, "SELECT version_num FROM alembic_version") == [(tables.SCHEMA,)]


def assert_models_match(url: str) -> None:
    opened = engine(url)
    try:
        with opened.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
    finally:
        opened.dispose()


def test_the_models_are_what_the_migrations_make(url: str) -> None:
    migrate(url)
    assert_models_match(url)


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


FILL = (
    "INSERT INTO series (id, device, name, unit, kind)"
    " VALUES (1, 'inverter', 'pv_power_w', 'W', 'gauge'), (2, 'bms', 'battery_voltage_v', 'V',"
    " 'gauge')",
    "INSERT INTO sample (series_id, ts, value) VALUES "
    + ", ".join(f"({1 + n % 2}, {T0 + n * 7_000}, {n})" for n in range(200)),
    "INSERT INTO state (series_id, ts, value) VALUES (1, 1790000000000, 'line')",
    "INSERT INTO latest (series_id, ts, value) VALUES (1, 1790000000000, 3.5)",
    "INSERT INTO device (name, status, updated) VALUES ('inverter', 'online', 1790000000000)",
    "INSERT INTO alarm (device, code, id, state, severity, title, text, ts)"
    " VALUES ('bms', 'cold', 'a1', 'raised', 'warning', 'Cold', 'It is.', 1790000000000)",
)
MARKED = [
    (consumer, stretch, 1)
    for consumer in sorted(tables.CONSUMERS)
    for stretch in range(T0 - T0 % 300_000, T0 + 200 * 7_000, 300_000)
]
OLD = ("series", "sample", "state", "latest", "device")


def fill(url: str) -> None:
    """What a house has that ran revision 0001."""
    migrate(url, "0001")
    opened = engine(url)
    with opened.begin() as connection:
        for statement in FILL:
            connection.exec_driver_sql(statement)
    opened.dispose()


def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows(url, f"SELECT * FROM {name} ORDER BY 1, 2") for name in OLD}


def test_a_filled_house_comes_up_and_down_and_up_with_all_it_has(url: str) -> None:
    fill(url)
    before = contents(url)
    migrate(url)
    assert contents(url) == before
    assert rows(url, "SELECT device, id, value FROM alarm") == [("bms", "a1", None)]
    assert rows(url, "SELECT consumer, ts, version FROM dirty ORDER BY 1, 2") == MARKED
    migrate(url, "0001")
    assert contents(url) == before
    assert rows(url, "SELECT device, id FROM alarm") == [("bms", "a1")]
    migrate(url)
    assert contents(url) == before
    assert rows(url, "SELECT COUNT(*) FROM dirty") == [(len(MARKED),)]


class PowerCutError(Exception):
    pass


@contextlib.contextmanager
def one_step_only() -> Iterator[None]:
    """The first change of a table passes, at the second, or at the end, the power fails."""
    passed = 0

    def watch(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal passed
        if statement.split(maxsplit=1)[0].upper() in ("CREATE", "ALTER", "DROP"):
            passed += 1
            if passed > 1:
                raise PowerCutError
        elif passed and statement.startswith("UPDATE alembic_version"):
            raise PowerCutError

    event.listen(Engine, "before_cursor_execute", watch)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", watch)


def run_piecemeal(url: str, target: str) -> int:
    """Run a migration that fails after each step, until it is through; how often it was run."""
    for attempt in range(1, 60):
        with contextlib.suppress(PowerCutError), one_step_only():
            migrate(url, target)
            return attempt
    raise AssertionError("no migration came through")


def test_a_migration_that_fails_half_way_is_run_again(database_url: str) -> None:
    """MariaDB commits each change of a table by itself."""
    assert run_piecemeal(database_url, "0001") > 6
    migrate(database_url, "base")
    fill(database_url)
    before = contents(database_url)
    assert run_piecemeal(database_url, "0002") > 15
    assert run_piecemeal(database_url, "0003") > 3
    assert run_piecemeal(database_url, "0004") > 1
    assert run_piecemeal(database_url, "0005") > 2
    assert run_piecemeal(database_url, "0006") > 2
    assert contents(database_url) == before
    assert rows(database_url, "SELECT consumer, ts, version FROM dirty ORDER BY 1, 2") == MARKED
    assert names(database_url) == {"alembic_version", *tables.metadata.tables}
    assert run_piecemeal(database_url, "0002") > 2
    assert run_piecemeal(database_url, "0001") > 15
    assert contents(database_url) == before
    migrate(database_url)
    assert_models_match(database_url)


def test_a_migration_that_fails_half_way_never_was_on_sqlite(sqlite_url: str) -> None:
    fill(sqlite_url)
    before = contents(sqlite_url)
    with pytest.raises(PowerCutError), one_step_only():
        migrate(sqlite_url)
    assert rows(sqlite_url, "SELECT version_num FROM alembic_version") == [("0001",)]
    assert names(sqlite_url) == {"alembic_version", *OLD, "alarm"}
    migrate(sqlite_url)
    assert contents(sqlite_url) == before
    assert_models_match(sqlite_url)


def test_a_newer_schema_is_left_alone_and_named(url: str) -> None:
    migrate(url)
    opened = engine(url)
    with opened.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0009'")
    opened.dispose()
    with pytest.raises(DatabaseError, match=f"revision 0009, newer .* knows {tables.SCHEMA}"):
        migrate(url)
    assert rows(url, "SELECT version_num FROM alembic_version") == [("0009",)]
