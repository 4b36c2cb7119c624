"""From the inverter's bytes to the portal, through real processes, and what outages do to it."""

import time
import urllib.request
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from sunmesh import clock
from sunmesh.messages import Sample, decode
from sunmesh.testing import Broker

pytestmark = pytest.mark.mesh

TEN_MINUTES = 120
"""Samples at the usual five seconds."""

EVERY_S = 0.02
"""Between two samples of the fast device."""


@pytest.fixture
def own_broker(tmp_path, topics, database_url):
    """A broker that only this test knows, not started, and a ``site.toml`` for it."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    site = tmp_path / "site.toml"
    site.write_text(
        f'[site]\nname = "{topics.site}"\n[broker]\nport = {broker.port}\n'
        f'[database]\nurl = "{database_url}"\n[recorder]\nlinger_s = 0.1\n'
    )
    yield broker, site
    broker.stop()


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
    launch("collector-axpert", "run", "--config", house)
    online("collector-axpert", "recorder", "web")
    eventually(lambda: len(seen) >= 3, 20, "three samples on the broker")

    three = sorted(seen)[:3]
    values = {ms: seen[ms].values["battery_voltage_v"] for ms in three}
    eventually(
        lambda: values.items() <= dict(recorded("inverter", "battery_voltage_v")).items(),
        10,
        "the same three in the database",
    )
    assert rows("SELECT status FROM device WHERE name = 'inverter'") == [("online",)]
    stored = {name for (name,) in rows("SELECT name FROM series WHERE device = 'inverter'")}
    readable = {name for name, value in seen[three[0]].values.items() if value not in (None, [])}
    assert {name.split("/")[0] for name in stored} >= readable

    portal = f"http://127.0.0.1:{free_port}"
    with urllib.request.urlopen(f"{portal}/", timeout=10) as answer:
        assert answer.status == 200
        assert "<html" in answer.read().decode()
    with urllib.request.urlopen(f"{portal}/live", timeout=20) as stream:
        events = (line.decode().strip() for line in stream if line.startswith(b"event:"))
        assert next(events) == "event: full"
        assert next(events) == "event: patch"
    today = datetime.now(ZoneInfo("Europe/Bratislava")).date()
    with urllib.request.urlopen(f"{portal}/day/{today}.csv", timeout=10) as answer:
        head, *table = answer.read().decode().splitlines()
    assert "pv_power_w" in head
    assert table


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_ten_minutes_without_a_broker_lose_nothing(end, own_broker, launch, recorded, eventually):
    broker, site = own_broker
    broker.start()
    count = 8 * TEN_MINUTES
    recorder = launch("recorder", "run", "--config", site)
    eventually(lambda: "connected to the broker" in recorder.said, 20, "its session exists")
    launch("fast_device", site, str(count))
    eventually(lambda: len(numbers(recorded)) >= 100, 20, "samples flow")
    # A power cut costs what the broker had not saved yet, here 5 s, and then the recorder's
    # session, too, if that is younger.
    saved, flowing = site.parent / "broker/mosquitto.db", time.time()
    eventually(
        lambda: saved.exists() and saved.stat().st_mtime > flowing, 15, "the sessions are saved"
    )
    left = clock.epoch_ms(clock.now())
    getattr(broker, end)()
    time.sleep(1.2 * TEN_MINUTES * EVERY_S)  # the outage itself
    back = clock.epoch_ms(clock.now())
    broker.start()
    eventually(lambda: len(numbers(recorded)) == count, 60, "every sample")
    assert numbers(recorded) == [float(n) for n in range(count)]
    meanwhile = [ts for ts, _ in recorded("fast", "battery_voltage_v") if left < ts < back]
    assert len(meanwhile) >= TEN_MINUTES
    assert recorder.said.count("lost the broker") == 1


def test_a_database_that_starts_last_gets_everything(
    house, mariadb, launch, recorded, online, eventually
):
    mariadb.stop()
    try:
        recorder = launch("recorder", "run", "--config", house)
        online("recorder")
        launch("fast_device", house, str(TEN_MINUTES))
        eventually(lambda: "database is away" in recorder.said, 20, "it is said")
        assert recorder.said.count("database is away") == 1
        assert recorder.popen.poll() is None
    finally:
        mariadb.start()
    eventually(lambda: len(numbers(recorded)) == TEN_MINUTES, 60, "every sample")
    assert numbers(recorded) == [float(n) for n in range(TEN_MINUTES)]


def test_a_broker_that_starts_last_is_waited_for(own_broker, launch, recorded, eventually):
    broker, site = own_broker
    recorder = launch("recorder", "run", "--config", site)
    device = launch("fast_device", site, str(8 * TEN_MINUTES))
    eventually(lambda: "no broker at" in recorder.said, 10, "it is said")
    eventually(lambda: "no broker at" in device.said, 10, "it is said")
    broker.start()
    eventually(lambda: "connected to the broker" in recorder.said, 20, "it is found")
    eventually(lambda: len(numbers(recorded)) > TEN_MINUTES, 40, "samples flow")
    assert recorder.said.count("no broker at") == 1
