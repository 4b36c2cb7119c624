"""Pytest plugin: the real parts, private and started once a run (``-p sunmesh.testing``).

Fixtures: ``broker`` (Mosquitto), ``mesh`` (clients of it), ``mariadb`` and ``database_url``,
``topics`` (a site of one's own), ``site_file`` (a configuration for these), ``chromium``,
``free_port``, ``eventually``. Nothing listens on a standard port, nothing is left behind.

Several runs may share a machine, and ``pytest -n 4`` is several runs: each process has servers,
ports and sites of its own. Examples of Hypothesis are the same in every run;
``--hypothesis-profile=default`` draws new ones.
"""

import contextlib
import gc
import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .config import BrokerSection
from .mqtt import Handler, Mesh
from .topics import Topics

Eventually = Callable[..., None]
Note = TypeVar("Note")
_numbers = itertools.count(1)
_made: dict[str, list[Any]] = {}
"""What makes the tables, by sort of database: the file, or statements."""

LEAST_S = 30.0
"""No wait is given up earlier: one that succeeds does not last longer for it."""

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to clients, so that none of them takes one by chance."""

_ports = itertools.islice(itertools.cycle(PORTS), os.getpid() * 61 % len(PORTS), None)


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """The same examples in every run, without a time limit that a busy machine could miss."""
    from hypothesis import HealthCheck, settings

    slow = [HealthCheck.too_slow]
    settings.register_profile(
        "sunmesh", derandomize=True, deadline=None, suppress_health_check=slow
    )
    settings.load_profile("sunmesh")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes the long tests come first, or one file of them ends alone."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("mesh") is None)


def find_free_port() -> int:
    """A TCP port on loopback that nobody listens on, and that no other process is given by this.

    Each is reserved until this process ends, by a name that the kernel forgets with it.
    """
    for number in _ports:
        reserved = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reserved.bind(f"\0sunmesh-testing-port-{number}")
            socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            reserved.close()
            continue
        reserved.detach()
        break
    return number


def find_program(*names: str) -> str:
    """The first of ``names`` that is installed.

    Raises:
        pytest.UsageError: none; says how to get it.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise pytest.UsageError(f"{names[0]} is not installed; `make test` installs it")


def find_chromium() -> str:
    """The installed Chromium; the one without a screen is the same engine at half the work."""
    return find_program("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def wait_for(predicate: Callable[[], object], timeout_s: float = LEAST_S, why: str = "") -> None:
    """Wait until ``predicate()`` is true.

    Args:
        predicate: is asked again and again.
        timeout_s: how long; a busy machine is given ``LEAST_S`` in any case.
        why: what is waited for.

    Raises:
        AssertionError: it was not in that time.
    """
    timeout_s = max(timeout_s, LEAST_S)
    began = time.monotonic()
    while not predicate():
        waited_s = time.monotonic() - began
        if waited_s > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {why or predicate}")
        time.sleep(min(0.005 + waited_s / 20, 0.1))


def quickest(measure: Callable[[], float], limit: float, tries: int = 30) -> float:
    """The smallest of some measurements, made until one is within ``limit``: others only add."""
    best = measure()
    while best > limit and tries > 1:
        best, tries = min(best, measure()), tries - 1
    return best


def when_said(client: Mesh, topic: str, word: str, note: Callable[[], Note]) -> list[Note]:
    """What ``note`` answers each time that ``client`` publishes ``word``, at that very moment.

    Whoever looks once the message has arrived looks too late: its sender has gone on.
    """
    notes: list[Note] = []
    publish = client.publish

    def noted(where: str, payload: bytes, **how: object) -> bool:
        if where == topic and word.encode() in payload:
            notes.append(note())
        return publish(where, payload, **how)  # type: ignore[arg-type]

    client.publish = noted  # type: ignore[method-assign, assignment]
    return notes


def _listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


class Server:
    """A server process that tests may stop, kill and start again on the same data."""

    def __init__(self, command: list[str], port: int, log_file: Path) -> None:
        """Not started yet."""
        self.command = command
        self.port = port
        self.log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process; None while it is down."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start and wait until it listens."""
        assert self._process is None
        with self.log_file.open("ab") as out:
            self._process = subprocess.Popen(self.command, stdout=out, stderr=out)
        process = self._process

        def up() -> bool:
            assert process.poll() is None, self.log_file.read_text(errors="replace")[-2000:]
            return _listening(self.port)

        wait_for(up, 30, f"{self.command[0]} listens on {self.port}")

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(30)


class Broker(Server):
    """A private Mosquitto, with persistence and the limits that the mesh ships."""

    def __init__(self, folder: Path, autosave_s: int = 5) -> None:
        """Writes its configuration into ``folder``."""
        port = find_free_port()
        conf = folder / "mosquitto.conf"
        conf.write_text(
            f"listener {port} 127.0.0.1\n"
            "allow_anonymous true\n"
            f"{'user root' if os.geteuid() == 0 else ''}\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval {autosave_s}\n"
            "max_queued_messages 100000\nmax_queued_bytes 104857600\n"
            "max_inflight_messages 1000\nmax_packet_size 2000000\nsys_interval 1\n",
            encoding="utf-8",
        )
        command = [find_program("mosquitto"), "-c", str(conf)]
        super().__init__(command, port, folder / "mosquitto.log")

    @property
    def config(self) -> BrokerSection:
        """How to reach it."""
        return BrokerSection(host="127.0.0.1", port=self.port)


class MariaDB(Server):
    """A private MariaDB that flushes at each commit, as a house's does."""

    def __init__(self, folder: Path) -> None:
        """Makes its data folder, which takes a few seconds."""
        port = find_free_port()
        data, scratch = folder / "data", folder / "scratch"
        scratch.mkdir()
        # A server that starts removes every temporary table that it finds, those of others, too.
        options = ["--no-defaults", f"--datadir={data}", f"--tmpdir={scratch}"]
        options += ["--user=root"] if os.geteuid() == 0 else []
        install = [find_program("mariadb-install-db", "mysql_install_db"), *options]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        made = subprocess.run(install, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        command = [
            find_program("mariadbd", "mysqld"),
            *options,
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-buffer-pool-size=128M",
            "--character-set-server=utf8mb4",
        ]
        super().__init__(command, port, folder / "mariadb.log")

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{database}?charset=utf8mb4&ssl_disabled=true"

    def execute(self, statement: str) -> None:
        """Run one statement outside of any database."""
        import pymysql

        with pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", ssl_disabled=True
        ) as connection:
            connection.cursor().execute(statement)


class Client(Mesh):
    """A client whose subscription stands at the broker once it is made."""

    def subscribe(
        self, pattern: str, handler: Handler, qos: int = 1, *, as_published: bool = False
    ) -> None:
        """As :meth:`Mesh.subscribe`; what is published afterwards, by whomever, arrives."""
        super().subscribe(pattern, handler, qos, as_published=as_published)
        if self.connected and threading.current_thread() is not self._client._thread:
            assert self.wait_granted(30), f"the broker grants {pattern}"


def pytest_collection_finish() -> None:
    """What was collected stays: to look through it again and again takes a fifth of the run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The run's Mosquitto; who stops it starts it again."""
    server = Broker(tmp_path_factory.mktemp("mosquitto"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """The run's MariaDB; who stops it starts it again."""
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database_url(mariadb: MariaDB) -> Iterator[str]:
    """A fresh, empty database on the run's MariaDB."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    mariadb.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield mariadb.url(name)
    if mariadb.pid is None:
        mariadb.start()
    mariadb.execute(f"DROP DATABASE {name}")


def migrated(url: str) -> None:
    """As ``migrate``, but an empty database gets a copy of what that made the first time."""
    from sqlalchemy import create_engine, make_url, text

    from .database.migrations import migrate

    at = make_url(url)
    sort = at.get_backend_name()
    if sort == "sqlite":
        file = Path(str(at.database))
        is_empty = not file.exists()
        if is_empty and sort in _made:
            file.write_bytes(_made[sort][0])
            return
        migrate(url)
        if is_empty:
            _made[sort] = [file.read_bytes()]
        return
    engine = create_engine(url)
    with engine.begin() as connection:
        is_empty = not connection.execute(text("SHOW TABLES")).all()
        if is_empty and sort in _made:
            for statement in _made[sort]:
                connection.exec_driver_sql(statement)
            is_empty = False
        else:
            migrate(url)
        if is_empty:
            tables = connection.execute(text("SHOW TABLES")).scalars().all()
            asked = [connection.execute(text(f"SHOW CREATE TABLE {name}")) for name in tables]
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            stamp = f"INSERT INTO alembic_version VALUES ('{revision}')"
            _made[sort] = [*(answer.one()[1] for answer in asked), stamp]
    engine.dispose()


@pytest.fixture
def topics() -> Topics:
    """A site that no other test uses."""
    return Topics(f"t{os.getpid()}-{next(_numbers)}")


@pytest.fixture
def mesh(broker: Broker, topics: Topics) -> Iterator[Callable[..., Mesh]]:
    """A factory of connected clients: ``mesh("recorder", session_expiry_s=60)``."""
    made: list[Mesh] = []

    def make(service: str = "test", **options: object) -> Mesh:
        client = Client(broker.config, topics, service, **options)  # type: ignore[arg-type]
        made.append(client)
        client.start()
        assert client.wait_connected(30), "the broker answers"
        return client

    yield make
    for client in made:
        client.stop(0.2)


@pytest.fixture
def site_file(broker: Broker, topics: Topics, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a ``site.toml`` for the run's broker, followed by what the test adds."""

    def write(rest: str) -> Path:
        path = tmp_path / "site.toml"
        path.write_text(
            f'[site]\nname = "{topics.site}"\ntime_zone = "Europe/Bratislava"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\n{rest}',
            encoding="utf-8",
        )
        return path

    return write


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the installed Chromium."""
    return find_chromium()


@pytest.fixture
def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    return find_free_port()


@pytest.fixture
def eventually() -> Eventually:
    """:func:`wait_for`."""
    return wait_for
