"""The real process, a real broker, real databases, all killed in turn: nothing is lost."""

import json
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pymysql
import pytest
from sunmesh import clock
from sunmesh.messages import Sample, encode
from sunmesh.mqtt import Mesh
from sunmesh.testing import Broker, MariaDB, wait_for

from .conftest import T0, Process, iso, rows, samples

Make = Callable[..., Process]
Start = Callable[..., None]

pytestmark = pytest.mark.mesh


class Collector:
    """Publishes samples and remembers every number of them."""

    def __init__(self, mesh: Mesh, device: str = "inverter") -> None:
        self.mesh = mesh
        self.device = device
        self.sent: set[tuple[str, int, float]] = set()
        self.next = 0

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.next += 1
            ms = T0 + self.next * 5000
            values = {"pv_power_w": float(self.next), "load_power_w": self.next / 8}
            word = "line" if self.next // 10 % 2 else "battery"
            message = Sample(ts=iso(ms), seq=self.next, values={**values, "device_mode": word})
            topic = self.mesh.topics.telemetry(self.device)
            assert self.mesh.publish(topic, encode(message), retain=True)
            self.sent |= {(name, ms, value) for name, value in values.items()}

    def check(self, url: str, timeout_s: float = 60.0) -> None:
        """All is stored, once, and the states are the changes."""
        wait_for(lambda: stored(url) >= len(self.sent), timeout_s, f"{len(self.sent)} rows")
        assert samples(url, self.device) == self.sent
        words = rows(url, "SELECT ts, value FROM state ORDER BY ts")
        assert len(words) == self.next // 10 + 1
        assert all(a[1] != b[1] for a, b in zip(words, words[1:], strict=False))


@pytest.fixture
def collector(mesh: Callable[..., Mesh]) -> Collector:
    return Collector(mesh("collector"))


def stored(url: str) -> int:
    """How many numbers; 0 while the database or its tables are not there."""
    try:
        [(count,)] = rows(url, "SELECT COUNT(*) FROM sample")
    except (pymysql.Error, sqlite3.Error):
        return 0
    return int(count)


def test_from_the_broker_into_the_tables(
    url: str, recorder: Make, started: Start, collector: Collector, mesh: Callable[..., Mesh]
) -> None:
    process = recorder(url, fresh=True)
    started(process)
    collector.publish(30)
    mesh_ = collector.mesh
    ts = clock.iso(clock.now())
    for topic, body in (
        (mesh_.topics.status("inverter"), {"state": "online", "since": ts}),
        (mesh_.topics.info("inverter"), {"ts": ts, "family": "axpert", "model": "VM III"}),
        (mesh_.topics.settings("inverter"), {"ts": ts, "values": {"float_voltage_v": 54.0}}),
        (
            mesh_.topics.alarm("inverter", "too_hot"),
            {
                "id": "1",
                "state": "raised",
                "severity": "warning",
                "title": "Hot",
                "text": "60 °C",
                "ts": ts,
            },
        ),
    ):
        mesh_.publish(topic, json.dumps(body).encode(), retain=True)
    collector.check(url)
    wait_for(lambda: rows(url, "SELECT code FROM alarm") == [("too_hot",)], 30)
    wait_for(lambda: rows(url, "SELECT COUNT(*) FROM device WHERE settings IS NOT NULL")[0][0], 30)
    [(status, info)] = rows(url, "SELECT status, info FROM device")
    assert status == "online"
    assert json.loads(info)["model"] == "VM III"
    # A device and a quantity that nobody has heard of appear without a restart.
    newcomer = Sample(ts=ts, values={"temperature_c": 21.5, "flux": 1.0})
    mesh_.publish(mesh_.topics.telemetry("shed"), encode(newcomer), retain=True)
    wait_for(lambda: len(samples(url, "shed")) == 2, 30)
    assert process.end(signal.SIGTERM) == 0
    assert process.said("flux is not in the vocabulary") == 1


def test_killed_with_a_backlog(
    url: str, recorder: Make, started: Start, collector: Collector
) -> None:
    process = recorder(url)
    started(process)
    for _ in range(2):
        collector.publish(500)
        wait_for(lambda: stored(url), 60)
        process.end(signal.SIGKILL)
        collector.publish(500)
        process.start()
    collector.check(url)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("spool_dir", ["spool", "site.toml/none"])
def test_database_stopped_and_started(
    database_url: str,
    mariadb: MariaDB,
    recorder: Make,
    started: Start,
    collector: Collector,
    protocol: str,
    spool_dir: str,
) -> None:
    """With a spool, and without one and a buffer far smaller than what comes meanwhile."""
    process = recorder(
        database_url,
        buffer_messages=50,
        batch_rows=60,
        spool_dir=spool_dir,
        broker=f'protocol = "{protocol}"',
    )
    started(process)
    collector.publish(20)
    wait_for(lambda: stored(database_url) == 40, 60)
    mariadb.stop()
    collector.publish(300)
    process.wait_said("the database is away")
    if spool_dir != "spool" and protocol == "3.1.1":
        process.wait_said("left to the broker")  # which knows of no limit of ours
    collector.publish(300)
    mariadb.start()
    collector.check(database_url)
    process.wait_said("the database is back")
    assert process.said("the database is away") == 1
    assert process.said("the database is back") == 1
    if protocol == "3.1.1":
        return
    mariadb.kill()
    collector.publish(200)
    process.end(signal.SIGKILL)
    collector.publish(200)
    process.start()
    mariadb.start()
    collector.check(database_url)


def test_database_away_at_the_start(
    database_url: str, mariadb: MariaDB, recorder: Make, started: Start, collector: Collector
) -> None:
    process = recorder(database_url, fresh=True)
    mariadb.stop()
    started(process)
    process.wait_said("the database is away")
    collector.publish(50)
    mariadb.start()
    collector.check(database_url)
    process.wait_said("the database is back")
    assert process.said("the database is away") == 1
    assert process.said("the database is back") == 1


def test_broker_restarted(
    sqlite_url: str, broker: Broker, recorder: Make, started: Start, collector: Collector
) -> None:
    process = recorder(sqlite_url)
    started(process)
    collector.publish(100)
    broker.stop()
    collector.publish(100)  # waits in the collector
    broker.start()
    collector.check(sqlite_url)
    collector.publish(100)
    process.end(signal.SIGKILL)
    collector.publish(50)
    assert collector.mesh.drain(60)
    broker.stop()
    broker.start()
    process.start()
    collector.check(sqlite_url)


def test_broker_away_at_the_start(
    sqlite_url: str, broker: Broker, recorder: Make, started: Start, collector: Collector
) -> None:
    broker.stop()
    process = recorder(sqlite_url)
    process.start()
    process.wait_said("no broker at")
    broker.start()
    process.wait_said("connected to the broker")
    collector.publish(1)  # the subscription may be a moment behind; retained messages come anyway
    wait_for(lambda: stored(sqlite_url), 60)
    collector.publish(30)
    collector.check(sqlite_url)


def test_absent_with_the_old_protocol(
    sqlite_url: str, recorder: Make, started: Start, collector: Collector
) -> None:
    process = recorder(sqlite_url, broker='protocol = "3.1.1"')
    started(process)
    collector.publish(20)
    collector.check(sqlite_url)
    process.end(signal.SIGKILL)
    collector.publish(300)
    process.start()
    collector.check(sqlite_url)


def test_bad_payloads_stop_nothing(
    sqlite_url: str, recorder: Make, started: Start, collector: Collector
) -> None:
    process = recorder(sqlite_url)
    started(process)
    topic = collector.mesh.topics.telemetry("inverter")
    wrong = {"v": 2, "ts": iso(T0), "values": {}}
    for _ in range(3):
        collector.mesh.publish(topic, b"not JSON")
        collector.mesh.publish(topic, b"x" * 1_000_000)
        collector.mesh.publish(topic, b'{"v":1,"ts":"%s","values":{"x":NaN}}' % iso(T0).encode())
        collector.mesh.publish(topic, json.dumps(wrong).encode())
    collector.publish(30)
    collector.check(sqlite_url)
    assert process.end(signal.SIGTERM) == 0
    assert process.said("not stored") == 3  # once for each reason; NaN is as malformed as words
    for reason in ("1000000 bytes", "version 2", "malformed"):
        assert process.said(reason) >= 1
    # all is acknowledged: nothing of it comes again
    process.log.write_text("")
    process.start()
    collector.publish(1)
    collector.check(sqlite_url)
    assert not process.said("not stored")


def test_small_and_free_of_heavy_imports(
    database_url: str, recorder: Make, started: Start, collector: Collector, tmp_path: Path
) -> None:
    process = recorder(database_url)
    listing = tmp_path / "modules"
    program = (
        "import atexit, pathlib, runpy, sys\n"
        f"at = pathlib.Path({str(listing)!r})\n"
        "atexit.register(lambda: at.write_text(' '.join(sys.modules)))\n"
        "runpy.run_module('recorder', run_name='__main__', alter_sys=True)\n"
    )
    started(process, "-c", program)
    collector.publish(2000)
    collector.check(database_url)
    assert process.process is not None
    smaps = Path(f"/proc/{process.process.pid}/smaps_rollup").read_text()
    pss_kib = int(next(line for line in smaps.splitlines() if line.startswith("Pss:")).split()[1])
    assert pss_kib <= 40 * 1024
    assert process.end(signal.SIGTERM) == 0
    loaded = {name.partition(".")[0] for name in listing.read_text().split()}
    assert {"pymysql", "sqlalchemy"} <= loaded
    assert not loaded & {"numpy", "pandas", "cryptography", "alembic", "requests"}
