"""A database as the recorder leaves it, on SQLite and on MariaDB, filled by the test."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import create_engine, text
from sunmesh.config import Site, load
from sunmesh.vocabulary import quantity
from web.board import Board
from web.config import WebConfig
from web.live import Live
from web.queries import History

from .windows import SIZES, Visit

ROME = ZoneInfo("Europe/Rome")

DDL = {
    "sqlite": (
        "CREATE TABLE series (id INTEGER PRIMARY KEY AUTOINCREMENT, device VARCHAR(32) NOT NULL,"
        " name VARCHAR(80) NOT NULL, unit VARCHAR(16) NOT NULL, kind VARCHAR(8) NOT NULL,"
        " UNIQUE (device, name))",
        "CREATE TABLE sample (series_id INTEGER NOT NULL, ts BIGINT NOT NULL,"
        " value DOUBLE NOT NULL, PRIMARY KEY (series_id, ts)) WITHOUT ROWID",
        "CREATE TABLE state (series_id INTEGER NOT NULL, ts BIGINT NOT NULL,"
        " value VARCHAR(255) NOT NULL, PRIMARY KEY (series_id, ts)) WITHOUT ROWID",
    ),
    "mysql": (
        "CREATE TABLE series (id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " device VARCHAR(32) NOT NULL, name VARCHAR(80) NOT NULL, unit VARCHAR(16) NOT NULL,"
        " kind VARCHAR(8) NOT NULL, UNIQUE (device, name)) ENGINE=InnoDB",
        "CREATE TABLE sample (series_id SMALLINT UNSIGNED NOT NULL, ts DECIMAL(13,0) NOT NULL,"
        " value DOUBLE NOT NULL, PRIMARY KEY (series_id, ts)) ENGINE=InnoDB",
        "CREATE TABLE state (series_id SMALLINT UNSIGNED NOT NULL, ts DECIMAL(13,0) NOT NULL,"
        " value VARCHAR(255) NOT NULL, PRIMARY KEY (series_id, ts)) ENGINE=InnoDB",
    ),
}


class Database:
    """The recorder's tables, written by hand."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        with self.engine.begin() as connection:
            for statement in DDL[self.engine.dialect.name]:
                connection.execute(text(statement))
        self.ids: dict[tuple[str, str], int] = {}

    def series(self, device: str, name: str) -> int:
        if (device, name) not in self.ids:
            row = quantity(name)
            with self.engine.begin() as connection:
                connection.execute(
                    text(
                        "INSERT INTO series (device, name, unit, kind)"
                        " VALUES (:device, :name, :unit, :kind)"
                    ),
                    {"device": device, "name": name, "unit": row.unit, "kind": str(row.kind)},
                )
                self.ids[device, name] = connection.execute(
                    text("SELECT id FROM series WHERE device = :device AND name = :name"),
                    {"device": device, "name": name},
                ).scalar_one()
        return self.ids[device, name]

    def add(self, samples: Iterable[tuple[datetime, Mapping[str, Any]]], device: str = "inverter"):
        numbers, words = [], []
        for moment, values in samples:
            ms = round(moment.timestamp() * 1000)
            for name, value in values.items():
                row = {"i": self.series(device, name), "t": ms, "v": value}
                (words if isinstance(value, str) else numbers).append(row)
        with self.engine.begin() as connection:
            for table, rows in (("sample", numbers), ("state", words)):
                if rows:
                    connection.execute(text(f"INSERT INTO {table} VALUES (:i, :t, :v)"), rows)


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """The recorder's tables, empty, on each kind of server."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path}/history.db")
    else:
        made = Database(request.getfixturevalue("database_url"))
    yield made
    made.engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    """The same where one kind is enough."""
    made = Database(f"sqlite:///{tmp_path}/history.db")
    yield made
    made.engine.dispose()


@pytest.fixture
def history(database: Database) -> History:
    """Questions to ``database``, for a house in Rome."""
    made = History(database.url, ROME)
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Site]:
    """A configuration; SQLite, no broker behind it."""

    def make(rest: str = "", database: str = "missing.db") -> Site:
        path = tmp_path / "site.toml"
        path.write_text(
            '[site]\ntime_zone = "Europe/Rome"\nlatitude = 41.9\nlongitude = 12.5\n'
            f'[database]\nurl = "sqlite:///{tmp_path}/{database}"\n{rest}',
            encoding="utf-8",
        )
        return load(path, "web", {})

    return make


class Compiled(BytecodeCache):
    """Templates that some app of this run has compiled; a portal has one app, tests have many."""

    def __init__(self) -> None:
        self.made: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self.made:
            bucket.bytecode_from_string(self.made[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.made[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def compiled() -> Iterator[None]:
    """Compiles each template once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "jinja_options", {"bytecode_cache": Compiled()})
        yield


@pytest.fixture(autouse=True)
def light_hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords cost little where it is not they that are tested."""
    if request.path.name not in ("test_passwords.py", "test_accounts.py"):
        monkeypatch.setattr("web.people.passwords.MEMORY_KIB", 256)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, moment: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    """Noon UTC of an autumn day, 13:00 in Rome."""
    return Clock()


INVERTER = '[devices.inverter]\nfamily = "axpert"\n'


@pytest.fixture
def board(site: Callable[..., Site], clock: Clock) -> Callable[..., Board]:
    """A board without broker and database, for one configured inverter."""
    made: list[Board] = []

    def make(rest: str = INVERTER, database: str = "missing.db") -> Board:
        config = site(rest, database)
        history = History(config.database.sqlalchemy_url(), config.site.zone)
        live = Live(None, config.devices, clock)
        board = Board(config.section("web", WebConfig), config, live, history)
        made.append(board)
        return board

    yield make
    for one in made:
        one.history.close()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One headless Chromium for all tests here."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield made
        made.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens pages in windows of their own."""
    contexts = []

    def make(size: str = "desk", scheme: str = "light", **options) -> Visit:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            is_mobile=size == "phone",
            has_touch=size == "phone",
            **options,
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        return Visit(context.new_page())

    yield make
    for context in contexts:
        context.close()
