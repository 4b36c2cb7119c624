import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sunmesh.emulation import serve_pty
from sunmesh.ports import Port, probe
from sunmesh.serialport import SerialPort

BIN = Path(sys.executable).parent


class Mute:
    def receive(self, data):
        return []

    def nak(self):
        return None


@pytest.fixture
def dev(tmp_path):
    """A folder that stands in for /dev: one adapter with a by-id name, one without."""
    stop = threading.Event()
    threads = []
    (tmp_path / "serial" / "by-id").mkdir(parents=True)
    for link in (tmp_path / "serial/by-id/usb-adapter", tmp_path / "ttyUSB7"):
        ready = threading.Event()
        options = {"stop": stop, "ready": ready}
        thread = threading.Thread(target=serve_pty, args=(link, Mute()), kwargs=options)
        thread.start()
        threads.append(thread)
        ready.wait(30)
    yield tmp_path
    stop.set()
    for thread in threads:
        thread.join(30)


def devices(*options):
    done = subprocess.run(
        [BIN / "sunmesh", "devices", *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ports_are_listed_with_stable_names_and_holders(dev, site_file):
    by_id = dev / "serial/by-id/usb-adapter"
    config = site_file(f'[devices.inverter]\nfamily = "axpert"\nport = "{by_id}"\n')
    port = SerialPort(str(by_id), 2400, holder="collector-axpert for inverter")
    port.open()
    try:
        listed = json.loads(devices("--dev", dev, "--config", config, "--json"))
    finally:
        port.close()
    held = next(row for row in listed if row["names"])
    assert held["names"] == [str(by_id)]
    assert held["holder"].startswith("collector-axpert for inverter (process")
    assert held["configured"] == ["inverter"]
    free = next(row for row in listed if row["device"] != held["device"])
    assert free["configured"] == []


def test_the_list_is_plain_and_says_what_to_do(dev, tmp_path):
    text = devices("--dev", dev)
    assert str(dev / "serial/by-id/usb-adapter") in text
    assert text.count("held by") == 2
    assert "no stable name" in text
    assert "--probe asks" in text
    assert "plugged in" in devices("--dev", tmp_path / "none")


def test_a_probe_finds_the_inverter(tmp_path):
    link = tmp_path / "inverter"
    command = [BIN / "collector-axpert", "emulate", "--pty", link, "--baud", "0"]
    asked = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as emulator:
        while not link.is_symlink():
            assert emulator.poll() is None
            time.sleep(0.02)
        found = probe(Port(str(link)), asked.append)
        emulator.terminate()
    assert found["collector"] == "collector-axpert"
    assert found["protocol"] == "PI30"
    assert found["serial"] == "92932105105335"
    assert asked == [f"{link}: collector-axpert asks"]


def test_a_probe_of_a_silent_port_finds_nothing(dev):
    assert probe(Port(str(dev / "ttyUSB7")), lambda text: None, ["collector-axpert"]) == {}
