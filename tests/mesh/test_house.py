"""From the inverter's bytes to the portal, through real processes, and what outages do to it."""

import time
import urllib.request
from zoneinfo import ZoneInfo

import pytest
from sunmesh import clock
from sunmesh.messages import Sample, decode
from sunmesh.testing import Broker

pytestmark = pytest.mark.mesh

TEN_MINUTES = 120
"""Samples at the usual five seconds."""


@pytest.fixture
def own_broker(tmp_path, topics, database_url):
    """A broker that only this test knows, not started, and a ``site.toml`` for it."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder, autosave_s=1)
    site = tmp_path / "site.toml"
    site.write_text(
        f'[site]\nname = "{topics.site}"\n[broker]\nport = {broker.port}\n'
        f'[database]\nurl = "{database_url}"\n[recorder]\nlinger_s = 0.1\n'
    )
    yield broker, site
    broker.stop()


@pytest.fixture
def fast_device(launch, tmp_path, eventually):
    """Start a device that counts, and look at it."""

    class FastDevice:
        def start(self, site):
            self.process = launch("fast_device", site, 1_000_000)

        @property
        def said(self):
            """How many samples it has taken."""
            file = tmp_path / "fast.said"
            return int(file.read_text()) if file.exists() else 0

        def says(self, more):
            """Wait until it has taken so many more."""
            enough = self.said + more
            eventually(lambda: self.said >= enough, why=f"{more} more samples")

        def end(self):
            """Let it take no more; returns how many it took."""
            enough = tmp_path / "fast.enough"
            enough.touch()
            eventually(enough.read_text, why="the device has heard that it is enough")
            return int(enough.read_text())

    return FastDevice()


def numbers(recorded):
    return [value for _, value in recorded("fast", "battery_voltage_v")]


def test_from_the_inverter_to_the_portal(
    house, launch, online, mesh, topics, recorded, rows, eventually, emulate, free_port
):
    seen = {}
    witness = mesh("witness")
    witness.subscribe(
        topics.telemetry("inverter"),
        lambda m: seen.__setitem__((sample := decode(Sample, m.payload)).ms, sample),
    )
    emulate("collector-axpert")
    launch("recorder", "run", "--config", house)
    launch("web", "run", "--config", house)
    online("recorder")  # what was said before it has a session is nobody's
    launch("collector-axpert", "run", "--config", house)
    online("collector-axpert", "web")
    eventually(lambda: len(seen) >= 3, why="three samples on the broker")

    three = sorted(seen)[:3]
    values = {ms: seen[ms].values["battery_voltage_v"] for ms in three}
    eventually(
        lambda: values.items() <= dict(recorded("inverter", "battery_voltage_v")).items(),
        why="the same three in the database",
    )
    status = "SELECT status FROM device WHERE name = 'inverter'"
    eventually(lambda: rows(status) == [("online",)], why="its status beside them")
    stored = {name for (name,) in rows("SELECT name FROM series WHERE device = 'inverter'")}
    readable = {name for name, value in seen[three[0]].values.items() if value not in (None, [])}
    assert {name.split("/")[0] for name in stored} >= readable

    portal = f"http://127.0.0.1:{free_port}"
    with urllib.request.urlopen(f"{portal}/", timeout=60) as answer:
        assert answer.status == 200
        assert "<html" in answer.read().decode()
    with urllib.request.urlopen(f"{portal}/live", timeout=60) as stream:
        events = (line.decode().strip() for line in stream if line.startswith(b"event:"))
        assert next(events) == "event: full"
        assert next(events) == "event: patch"
    day = clock.from_ms(three[0]).astimezone(ZoneInfo("Europe/Bratislava")).date()

    def table():
        with urllib.request.urlopen(f"{portal}/day/{day}.csv", timeout=60) as answer:
            return answer.read().decode().splitlines()

    eventually(lambda: len(table()) > 1, 90, why="the day has its first line")
    assert "pv_power_w" in table()[0]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_ten_minutes_without_a_broker_lose_nothing(
    end, own_broker, launch, fast_device, recorded, eventually
):
    broker, site = own_broker
    broker.start()
    recorder = launch("recorder", "run", "--config", site)
    eventually(lambda: "connected to the broker" in recorder.said, why="its session exists")
    fast_device.start(site)
    eventually(lambda: len(numbers(recorded)) >= 100, why="samples flow")
    # A power cut costs what the broker had not saved yet, here 1 s, and then the recorder's
    # session, too, if that is younger.
    saved, flowing = site.parent / "broker/mosquitto.db", time.time()
    eventually(lambda: saved.exists() and saved.stat().st_mtime > flowing, why="it is saved")
    left = clock.epoch_ms(clock.now())
    getattr(broker, end)()
    fast_device.says(TEN_MINUTES + 10)  # the outage itself
    back = clock.epoch_ms(clock.now())
    broker.start()
    fast_device.says(10)
    count = fast_device.end()
    eventually(lambda: len(numbers(recorded)) == count, 60, "every sample")
    assert numbers(recorded) == [float(n) for n in range(count)]
    meanwhile = [ts for ts, _ in recorded("fast", "battery_voltage_v") if left < ts < back]
    assert len(meanwhile) >= TEN_MINUTES
    assert recorder.said.count("lost the broker") == 1


def test_a_database_that_starts_last_gets_everything(
    house, mariadb, launch, fast_device, recorded, online, eventually
):
    mariadb.stop()
    try:
        recorder = launch("recorder", "run", "--config", house)
        online("recorder")
        fast_device.start(house)
        eventually(lambda: "database is away" in recorder.said, why="it is said")
        fast_device.says(TEN_MINUTES)
        count = fast_device.end()
        assert recorder.said.count("database is away") == 1
        assert recorder.popen.poll() is None
    finally:
        mariadb.start()
    eventually(lambda: len(numbers(recorded)) == count, 60, "every sample")
    assert numbers(recorded) == [float(n) for n in range(count)]


def test_a_broker_that_starts_last_is_waited_for(
    own_broker, launch, fast_device, recorded, eventually
):
    broker, site = own_broker
    recorder = launch("recorder", "run", "--config", site)
    fast_device.start(site)
    eventually(lambda: "no broker at" in recorder.said, why="it is said")
    eventually(lambda: "no broker at" in fast_device.process.said, why="it is said")
    broker.start()
    eventually(lambda: "connected to the broker" in recorder.said, why="it is found")
    eventually(lambda: len(numbers(recorded)) > TEN_MINUTES, 60, "samples flow")
    assert recorder.said.count("no broker at") == 1
