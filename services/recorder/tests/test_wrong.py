"""The real process when something is wrong: it says so, goes on, and loses nothing silently."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from recorder.codec import Gap
from sqlalchemy import make_url
from sunmesh import clock
from sunmesh.messages import Sample, encode
from sunmesh.mqtt import Mesh, Message
from sunmesh.testing import Broker, MariaDB, wait_for
from sunmesh.topics import Topics

from .conftest import Process, iso, rows, samples

Make = Callable[..., Process]

pytestmark = pytest.mark.mesh


class House:
    """Who publishes, and hears what the recorder says."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.alarms: dict[str, list[str]] = {}
        self.status: list[str] = []
        self.health: dict[str, float] = {}
        mesh.subscribe(mesh.topics.alarm("recorder", "+"), self._alarm)
        mesh.subscribe(mesh.topics.service_status("recorder"), self._status)
        mesh.subscribe(mesh.topics.service_health("recorder"), self._health)
        self.begin = clock.epoch_ms(clock.now()) - 10_000_000
        self.sent = 0

    def _alarm(self, message: Message) -> None:
        code = message.topic.rpartition("/")[2]
        self.alarms.setdefault(code, []).append(json.loads(message.payload)["state"])

    def _status(self, message: Message) -> None:
        self.status.append(json.loads(message.payload)["state"])

    def _health(self, message: Message) -> None:
        self.health = json.loads(message.payload)["counters"]

    def start(self, process: Process, *python: str) -> None:
        before = len(self.status)
        process.start(*python)
        wait_for(lambda: "online" in self.status[before:], 60, "the recorder is online")

    def samples(self, count: int, pad: int = 0) -> None:
        """One number each."""
        for _ in range(count):
            self.sent += 1
            self.sample({"pv_power_w": float(self.sent), "note": "x" * pad})

    def sample(self, values: dict[str, object]) -> None:
        ms = self.begin + self.sent * 1000
        message = encode(Sample(ts=iso(ms), values=values))  # type: ignore[arg-type]
        assert self.mesh.publish(self.mesh.topics.telemetry("inverter"), message)

    def raised(self, code: str, times: int = 1) -> None:
        wait_for(lambda: self.alarms.get(code, []).count("raised") >= times, 30, code)

    def cleared(self, code: str) -> None:
        wait_for(lambda: self.alarms.get(code, [""])[-1] == "cleared", 60, f"{code} is over")

    def stored(self, url: str, count: int | None = None) -> None:
        wanted = self.sent if count is None else count
        wait_for(lambda: len(numbers(url)) >= wanted, 60, f"{wanted} rows")
        assert len(numbers(url)) == wanted


def numbers(url: str) -> set[float]:
    """What is stored of one series."""
    try:
        return {value for name, _ts, value in samples(url) if name == "pv_power_w"}
    except Exception:  # there are no tables yet, or no database
        return set()


@pytest.fixture
def house(mesh: Callable[..., Mesh]) -> House:
    return House(mesh("house"))


def test_a_full_spool_tells_and_says_what_it_lost(
    database_url: str, mariadb: MariaDB, recorder: Make, house: House
) -> None:
    process = recorder(database_url, spool_mb=1, linger_s=0.05)
    house.start(process)
    house.samples(10)
    house.stored(database_url)
    mariadb.stop()
    alarm = house.mesh.topics.alarm("inverter", "too_hot")
    text = {"severity": "warning", "title": "Hot", "text": "60 °C"}
    for n in range(20):
        house.samples(100, pad=400)
        body = text | {"id": f"a{n}", "state": "raised", "ts": iso(house.begin + n)}
        house.mesh.publish(alarm, json.dumps(body).encode(), retain=True)
        time.sleep(0.05)
        if n == 14:
            house.raised("spool_filling")
    house.raised("spool_full")
    process.end(signal.SIGKILL)
    mariadb.start()
    house.start(process)
    wait_for(lambda: house.sent in numbers(database_url), 60, "the last sample")
    lost = rows(database_url, "SELECT started, ended, messages FROM gap WHERE reason='spool_full'")
    missing = set(range(1, house.sent + 1)) - numbers(database_url)
    # what the broker sent twice may be thrown away twice; nothing is missing without a gap
    assert sum(row[2] for row in lost) >= len(missing) > 100
    for n in missing:
        assert any(started <= house.begin + n * 1000 <= ended for started, ended, _ in lost), n
    found = rows(database_url, "SELECT COUNT(*) FROM alarm WHERE device = 'inverter'")
    assert found == [(20,)]
    house.cleared("spool_filling")
    house.cleared("spool_full")
    codes = {row[0] for row in rows(database_url, "SELECT code FROM alarm WHERE state = 'cleared'")}
    assert (
        codes >= {"spool_filling", "spool_full"}
        or wait_for(
            lambda: len(rows(database_url, "SELECT 1 FROM alarm WHERE state = 'cleared'")) == 2, 30
        )
        is None
    )


def test_a_stop_is_quick_with_a_full_spool_and_a_database_that_hangs(
    database_url: str, mariadb: MariaDB, recorder: Make, house: House
) -> None:
    process = recorder(database_url, linger_s=0.05)
    house.start(process)
    house.samples(10)
    house.stored(database_url)
    assert mariadb.pid is not None
    os.kill(mariadb.pid, signal.SIGSTOP)
    try:
        house.samples(1000)
        wait_for(lambda: (process.config.parent / "spool").stat().st_size, 5)
        time.sleep(1)
        began = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        # 2 s on a machine that does nothing else; a database that hangs is waited for a minute
        assert time.monotonic() - began < 15
    finally:
        os.kill(mariadb.pid, signal.SIGCONT)
    house.start(process)
    house.stored(database_url)


def test_a_second_recorder_on_the_spool_is_told_who_is_there(
    sqlite_url: str, recorder: Make, house: House
) -> None:
    first = recorder(sqlite_url)
    house.start(first)
    assert first.process is not None
    second = Process(first.config, first.log.with_name("second.log"))
    second.start()
    assert second.process is not None
    assert second.process.wait(30) == 2
    [line] = second.log.read_text().splitlines()
    assert f"another recorder uses this spool: process {first.process.pid} on" in line


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_two_recorders_on_two_machines_are_an_alarm_and_lose_nothing(
    database_url: str, recorder: Make, house: House, tmp_path: Path, protocol: str
) -> None:
    first = recorder(database_url, broker=f'protocol = "{protocol}"')
    house.start(first)
    other = tmp_path / "other"
    other.mkdir()
    (other / "site.toml").write_text(first.config.read_text())
    second = Process(other / "site.toml", other / "log")
    second.start()
    try:
        for _ in range(30):
            house.samples(10)
            time.sleep(0.1)
        house.raised("second_recorder")
        assert first.said("is a second recorder") + second.said("is a second recorder") >= 1
    finally:
        second.end(signal.SIGTERM)
    house.stored(database_url)


def test_new_series_are_capped_with_an_alarm(
    database_url: str, recorder: Make, house: House
) -> None:
    process = recorder(database_url, new_series_a_minute=100, linger_s=0.05)
    house.start(process)
    house.samples(1)
    house.stored(database_url)
    for start in range(0, 10_000, 1000):
        house.sample({f"q{n}_w": 1.0 for n in range(start, start + 1000)})
    house.raised("series_capped")
    house.samples(5)
    house.stored(database_url)  # what was there goes on
    [(count,)] = rows(database_url, "SELECT COUNT(*) FROM series")
    assert count % 100 == 0  # a busy machine may need a second minute
    assert count <= 300
    assert count // 100 <= process.said("100 are new within a minute") <= 3


@pytest.fixture
def guest(database_url: str, mariadb: MariaDB) -> Iterator[str]:
    """The same database for a user who may not do everything."""
    at = make_url(database_url)
    mariadb.execute("CREATE USER guest@'%'")
    mariadb.execute(f"GRANT ALL ON {at.database}.* TO guest@'%'")
    yield at.set(username="guest").render_as_string(hide_password=False)
    mariadb.execute("SET GLOBAL read_only = 0")
    mariadb.execute("DROP USER guest@'%'")


def test_a_database_that_is_read_only_for_a_while(
    guest: str, database_url: str, mariadb: MariaDB, recorder: Make, house: House
) -> None:
    process = recorder(guest, linger_s=0.05)
    house.start(process)
    house.samples(10)
    house.stored(database_url)
    mariadb.execute("SET GLOBAL read_only = 1")
    house.samples(50)
    process.wait_said("read-only")
    house.samples(50)
    mariadb.execute("SET GLOBAL read_only = 0")
    house.stored(database_url)
    assert process.said("the database is away") == 1
    assert process.said("the database is back") == 1


def test_a_table_that_is_full_for_a_while(
    database_url: str, mariadb: MariaDB, recorder: Make, house: House
) -> None:
    process = recorder(database_url, linger_s=0.05)
    name = make_url(database_url).database
    mariadb.execute("SET GLOBAL max_heap_table_size = 16384")
    mariadb.execute(f"ALTER TABLE {name}.sample ENGINE = MEMORY")
    house.start(process)
    house.samples(1500)
    process.wait_said("is full")
    mariadb.execute(f"ALTER TABLE {name}.sample ENGINE = InnoDB")
    mariadb.execute("SET GLOBAL max_heap_table_size = DEFAULT")
    house.stored(database_url)


def test_a_disk_that_is_full_for_a_while(sqlite_url: str, recorder: Make, house: House) -> None:
    """Spool and database on it: neither can be written; the broker keeps what comes."""
    process = recorder(sqlite_url, linger_s=0.05, buffer_messages=50)
    house.start(process)
    house.samples(10)
    house.stored(sqlite_url)
    assert process.process is not None
    limits = psutil.Process(process.process.pid)
    limits.rlimit(psutil.RLIMIT_FSIZE, (1024, psutil.RLIM_INFINITY))
    house.samples(200)
    house.raised("spool_failed")
    house.samples(200)
    limits.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    house.stored(sqlite_url)
    house.cleared("spool_failed")


def test_a_migration_that_is_not_allowed_yet(
    guest: str, database_url: str, mariadb: MariaDB, recorder: Make, house: House
) -> None:
    name = make_url(database_url).database
    mariadb.execute(f"REVOKE ALL ON {name}.* FROM guest@'%'")
    mariadb.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {name}.* TO guest@'%'")
    process = recorder(guest, fresh=True, linger_s=0.05)
    house.start(process)
    house.samples(50)
    process.wait_said("the migration failed")
    house.samples(50)
    mariadb.execute(f"GRANT ALL ON {name}.* TO guest@'%'")
    house.stored(database_url)
    assert process.said("the migration failed") == 1


def test_messages_that_the_broker_dropped(
    sqlite_url: str, recorder: Make, tmp_path: Path, topics: Topics
) -> None:
    """An absent client's queue overflows: while the recorder is there, and while it is away."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    conf = folder / "mosquitto.conf"
    conf.write_text(conf.read_text().replace("max_queued_messages 100000", "max_queued_messages 5"))
    broker.start()
    absent = Mesh(broker.config, topics, "absent", session_expiry_s=3600)
    client = Mesh(broker.config, topics, "house")
    process = recorder(sqlite_url, linger_s=0.05)
    text = process.config.read_text()
    lines = [f"port = {broker.port}" if "port = " in line else line for line in text.splitlines()]
    process.config.write_text("\n".join(lines) + "\n")
    try:
        absent.subscribe("elsewhere", lambda message: None)
        absent.start()
        assert absent.wait_connected(5)
        wait_for(lambda: absent.counters["connects"], 5)
        time.sleep(0.5)
        absent.stop()
        house = House(client)
        client.start()
        house.start(process)
        wait_for(lambda: house.health, 30)
        time.sleep(2)  # the counter's first value
        for _ in range(20):
            client.publish("elsewhere", b"x")
        house.raised("broker_dropped")
        wait_for(lambda: rows(sqlite_url, "SELECT messages FROM gap"), 30)
        [(count, reason)] = rows(sqlite_url, "SELECT messages, reason FROM gap")
        assert (count, reason) == (15, "broker_dropped")
        process.end(signal.SIGTERM)
        for _ in range(7):
            client.publish("elsewhere", b"x")
        assert client.drain(5)
        time.sleep(2)
        house.start(process)
        wait_for(lambda: len(rows(sqlite_url, "SELECT 1 FROM gap")) == 2, 30)
        assert house.alarms["broker_dropped"] == ["raised"]  # still
        found = rows(sqlite_url, "SELECT messages FROM gap ORDER BY started")
        assert found == [(15,), (7,)]
    finally:
        process.end(signal.SIGKILL)
        client.stop(0.1)
        broker.stop()


def test_everything_that_is_said_is_kept_once(
    url: str, recorder: Make, house: House, topics: Topics
) -> None:
    process = recorder(url, linger_s=0.05)
    house.start(process)
    ts = iso(house.begin)
    mesh = house.mesh
    wish = {"id": "c1", "name": "buzzer_enabled", "value": True, "by": "web:anna", "reason": "hm"}

    def say() -> None:
        mesh.publish(topics.command("inverter"), json.dumps(wish).encode())
        for n, stage in enumerate(("accepted", "sent", "acknowledged", "applied")):
            body = {"id": "c1", "name": "buzzer_enabled", "value": True, "stage": stage}
            body |= {"ts": iso(house.begin + n), "detail": "read back"}
            mesh.publish(topics.result("inverter"), json.dumps(body).encode())
        body = {"ts": ts, "values": {"float_voltage_v": 54.0, "modes": ["a"], "gone": None}}
        mesh.publish(topics.settings("inverter"), json.dumps(body).encode(), retain=True)
        body = {"id": "a1", "by": "anna", "ts": ts}
        mesh.publish(topics.alarm_ack("inverter", "too_hot"), json.dumps(body).encode())
        body = {"ts": ts, "wanted": "open", "why_not": None}
        mesh.publish(topics.decision("night"), json.dumps(body).encode(), retain=True)

    def all_of() -> dict[str, list[tuple[object, ...]]]:
        return {
            table: rows(url, f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3")
            for table, columns in {
                "command": "stage, id, value, by_whom, detail, device",
                "setting": "name, value, ts",
                "acknowledgement": "id, by_whom, ts",
                "decision": "rule, ts, document",
            }.items()
        }

    say()
    wait_for(lambda: len(all_of()["decision"]) == 1 and len(all_of()["command"]) == 5, 30)
    first = all_of()
    assert first["setting"] == [
        ("float_voltage_v", "54.0", house.begin),
        ("modes", '["a"]', house.begin),
    ]
    assert first["command"][-2:] == [
        ("requested", "c1", "true", "web:anna", "hm", "inverter"),
        ("sent", "c1", "true", None, "read back", "inverter"),
    ]
    assert [row[:2] for row in first["acknowledgement"]] == [("a1", "anna")]
    say()
    process.end(signal.SIGKILL)
    house.start(process)  # what is retained comes again, and what the spool holds
    say()
    house.samples(1)
    house.stored(url)
    time.sleep(0.5)
    assert all_of() == first


def test_gaps_are_items_too() -> None:
    gap = Gap(1, 2, "spool_full", 3)
    assert (gap.ms, gap.device) == (1, "the gap spool_full")
