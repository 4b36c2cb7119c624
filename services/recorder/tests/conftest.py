"""What the recorder's tests share: a database of each sort, and the real process."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest
from recorder.store import Store
from sqlalchemy import make_url
from sunmesh import clock
from sunmesh.mqtt import Mesh
from sunmesh.testing import migrated, wait_for

T0 = 1_790_000_000_000
"""A moment in 2026 [ms]."""


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on MariaDB."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/house.db"
    found: str = request.getfixturevalue("database_url")
    return found


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/house.db"


@pytest.fixture
def stores() -> Iterator[Callable[..., Store]]:
    """Stores that migrate in this process; closed at the end."""
    made: list[Store] = []

    def make(url: str, **limits: int) -> Store:
        store = Store(url, lambda _now: migrated(url), **limits)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What a query answers, Decimals as int; by the plain driver, since tests ask it often."""
    at = make_url(url)
    connection: Any
    if at.get_backend_name() == "sqlite":
        connection = sqlite3.connect(f"file:{at.database}?mode=ro", uri=True, timeout=10)
    else:
        connection = pymysql.connect(
            host=at.host,
            port=at.port or 3306,
            user=at.username,
            database=at.database,
            ssl_disabled=True,
        )
    with contextlib.closing(connection):
        cursor = connection.cursor()
        cursor.execute(statement)
        return [
            tuple(int(v) if isinstance(v, Decimal) else v for v in row) for row in cursor.fetchall()
        ]


def samples(url: str, device: str = "inverter") -> set[tuple[str, int, float]]:
    """(name, ts, value) of every stored number of a device."""
    found = rows(
        url,
        "SELECT name, ts, value FROM sample JOIN series ON series.id = series_id"
        f" WHERE device = '{device}'",
    )
    assert len(found) == len(set(found))
    return set(found)


def iso(ms: int) -> str:
    return clock.iso(clock.from_ms(ms))


class Process:
    """``recorder run``, which tests may kill and start again."""

    def __init__(self, config: Path, log: Path) -> None:
        self.config = config
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *python: str) -> None:
        command = [sys.executable, *(python or ("-m", "recorder"))]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*command, "run", "--config", str(self.config)],
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )

    def end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(30)

    def said(self, what: str) -> int:
        """In how many lines of the log that stands."""
        return sum(what in line for line in self.log.read_text().splitlines())

    def wait_said(self, what: str, timeout_s: float = 60.0) -> None:
        try:
            wait_for(lambda: self.said(what), timeout_s, what)
        except AssertionError as err:
            raise AssertionError(f"{err}\n{self.log.read_text()[-3000:]}") from err


@pytest.fixture
def recorder(site_file: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """A factory of recorders, not started yet; ``fresh`` leaves the tables to them."""
    made: list[Process] = []

    def make(
        url: str,
        *,
        fresh: bool = False,
        linger_s: float = 0.2,
        broker: str = "",
        **settings: object,
    ) -> Process:
        if not fresh:
            migrated(url)
        lines = [
            f"{key} = {json.dumps(value)}"
            for key, value in {"linger_s": linger_s, **settings}.items()
        ]
        config = site_file(
            f'{broker}\n[database]\nurl = "{url}"\n[recorder]\n' + "\n".join(lines) + "\n"
        )
        made.append(Process(config, tmp_path / "recorder.log"))
        return made[-1]

    yield make
    for process in made:
        process.end(signal.SIGKILL)


@pytest.fixture
def started(mesh: Callable[..., Mesh]) -> Callable[[Process], None]:
    """Start, and wait until the broker knows the session and what it subscribes to."""
    watcher = mesh("watcher")
    heard: list[bytes] = []
    watcher.subscribe(
        watcher.topics.service_status("recorder"), lambda message: heard.append(message.payload)
    )

    def start(process: Process, *python: str) -> None:
        process.start(*python)
        wait_for(lambda: any(b"online" in payload for payload in heard), 60, "the recorder online")

    return start
