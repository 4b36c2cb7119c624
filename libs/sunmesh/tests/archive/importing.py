"""What the tests of imports and exports share: databases, a site, whole tables compared."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sunmesh import __main__
from sunmesh.database import tables
from sunmesh.database.migrations import migrate
from sunmesh.database.sql import engine
from sunmesh.testing import MariaDB

SAMPLES = Path(__file__).parent / "samples"
ZONE = "Europe/Bratislava"

_numbers = itertools.count(1)

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def fresh_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("fresh") / "sunmesh.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def kept_mariadb(mariadb: MariaDB) -> Iterator[str]:
    """A migrated database, emptied by who uses it."""
    name = f"imports_{os.getpid()}_{next(_numbers)}"
    mariadb.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    migrate(mariadb.url(name))
    yield f"{mariadb.url(name)}&ssl_disabled=true"  # an SSL context costs 0.1 s
    mariadb.execute(f"DROP DATABASE {name}")


def emptied(url: str) -> str:
    """Without the rows of the test before, numbers from 1."""
    full = [
        f"TRUNCATE TABLE `{name}`"
        for name in tables.metadata.tables
        if query(url, f"SELECT 1 FROM `{name}` LIMIT 1")
        or name in ("series", "import_batch", "energy_edit")
    ]
    execute(url, *full)
    return url


@pytest.fixture
def sqlite_url(fresh_sqlite: Path, tmp_path: Path) -> str:
    """A migrated database where one will do."""
    shutil.copy(fresh_sqlite, tmp_path / "sunmesh.db")
    return f"sqlite:///{tmp_path}/sunmesh.db"


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """A migrated database on SQLite and on MariaDB."""
    if request.param == "sqlite":
        found: str = request.getfixturevalue("sqlite_url")
        return found
    return emptied(request.getfixturevalue("kept_mariadb"))


def site_of(url: str, folder: Path, zone: str = ZONE, rest: str = "") -> Path:
    """A site.toml for a database."""
    path = folder / "site.toml"
    path.write_text(
        f'[site]\nname = "home"\ntime_zone = "{zone}"\n[database]\nurl = "{url}"\n{rest}',
        encoding="utf-8",
    )
    return path


def runner(site: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the verbs of the console script; returns the status and what was printed."""

    def run(*words: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        verb, *rest = map(str, words)
        status = __main__.entry([verb, *rest, "--config", str(site)])
        out, err = capsys.readouterr()
        return status, out + err

    return run


AFTERWARDS = {"import_batch", "import_part", "energy_edit", "energy_change", "dirty"}
"""Tables that tell of imports: their audit trail stays."""


def whole(url: str, leave: set[str] = AFTERWARDS) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but those."""
    opened = engine(url, read_only=True)
    try:
        with opened.connect() as connection:
            return {
                name: sorted(map(tuple, connection.execute(select(table))), key=repr)
                for name, table in tables.metadata.tables.items()
                if name not in leave
            }
    finally:
        opened.dispose()


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    opened = engine(url, read_only=True)
    try:
        with opened.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]
    finally:
        opened.dispose()


def execute(url: str, *statements: str) -> None:
    """Change something by hand."""
    opened = engine(url)
    try:
        with opened.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        opened.dispose()


def values(url: str, device: str, name: str) -> list[tuple[int, float]]:
    """The samples of a series."""
    return [
        (int(ts), value)
        for ts, value in query(
            url,
            "SELECT ts, value FROM sample WHERE series_id ="
            f" (SELECT id FROM series WHERE device = '{device}' AND name = '{name}') ORDER BY ts",
        )
    ]


def states(url: str, device: str, name: str) -> list[tuple[int, str]]:
    """The states of a series."""
    return [
        (int(ts), value)
        for ts, value in query(
            url,
            "SELECT ts, value FROM state WHERE series_id ="
            f" (SELECT id FROM series WHERE device = '{device}' AND name = '{name}') ORDER BY ts",
        )
    ]
