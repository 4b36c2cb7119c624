"""A backup while the recorder stores as fast as it can, restored and compared."""

import subprocess
import sys
import threading

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sunmesh import clock
from sunmesh.messages import Sample, encode

pytestmark = pytest.mark.mesh

QUANTITIES = ("battery_voltage_v", "load_power_w", "pv_power_w", "grid_power_w")
DEVICES = ("inverter", "second")
BEFORE = 1500
"""Messages that are there before the backup begins."""


def stored(url):
    """Numbers by message: {(device, ms): {name: value}}."""
    engine = create_engine(url)
    found = {}
    with engine.connect() as connection:
        for device, name, ts, value in connection.execute(
            text("SELECT device, name, ts, value FROM sample JOIN series ON id = series_id")
        ):
            found.setdefault((device, int(ts)), {})[name] = value
    engine.dispose()
    return found


def count(url):
    """How many numbers; 0 while there are no tables."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT COUNT(*) FROM sample")).scalar()
    except DBAPIError:
        return 0
    finally:
        engine.dispose()


class Flood(threading.Thread):
    """Publishes without a pause, but never far ahead of the broker."""

    def __init__(self, mesh):
        super().__init__(daemon=True)
        self.mesh = mesh
        self.done = threading.Event()
        self.start_ms = clock.epoch_ms(clock.now()) - 10_000_000
        self.sent = {}

    def run(self):
        number = 0
        while not self.done.is_set():
            number += 1
            device = DEVICES[number % 2]
            ms = self.start_ms + number
            values = {name: float(number + place) for place, name in enumerate(QUANTITIES)}
            sample = Sample(ts=clock.iso(clock.from_ms(ms)), values=values)
            self.mesh.publish(self.mesh.topics.telemetry(device), encode(sample), retain=True)
            self.sent[device, ms] = values
            if number % 200 == 0:
                self.mesh.drain(60)


@pytest.mark.parametrize("sort", ["mariadb", "sqlite"])
def test_backup_while_ingesting_at_full_speed(
    sort, request, tmp_path, site_file, launch, mesh, online, eventually
):
    url = f"sqlite:///{tmp_path}/house.db"
    other = f"sqlite:///{tmp_path}/restored.db"
    if sort == "mariadb":
        url = request.getfixturevalue("database_url")
    site = site_file(
        f'[database]\nurl = "{url}"\n[recorder]\nlinger_s = 0.2\n[backup]\nfolder = "backups"\n'
    )
    recorder = launch("recorder", "run", "--config", site)
    online("recorder")
    flood = Flood(mesh("flood"))
    flood.start()
    eventually(lambda: count(url) >= BEFORE * len(QUANTITIES), 60, "rows come")
    before = stored(url)
    saved = subprocess.run(
        [sys.executable, "-m", "sunmesh", "backup", "--config", site],
        capture_output=True,
        text=True,
        check=False,
    )
    after = count(url)
    flood.done.set()
    flood.join(30)
    assert saved.returncode == 0, saved.stderr
    [file] = (tmp_path / "backups").glob("sunmesh-*.zip")

    restored = subprocess.run(
        [sys.executable, "-m", "sunmesh", "restore", file, "--into", other],
        capture_output=True,
        text=True,
        check=False,
    )
    assert restored.returncode == 0, restored.stderr
    found = stored(other)
    assert len(before) >= BEFORE
    assert before.items() <= found.items(), "what was stored before is there"
    assert all(flood.sent[key] == values for key, values in found.items()), "whole, or not at all"
    assert len(found) * len(QUANTITIES) < after, "it went on meanwhile"
    eventually(lambda: count(url) == len(flood.sent) * len(QUANTITIES), 180, "nothing was held up")
    recorder.stop()
