"""Somebody else's client reads our emulator: it sees the world, and what our collector sees."""

import json
import subprocess
import threading
from pathlib import Path

import pytest
from collector_bms.config import BmsDevice
from collector_bms.emulator import Bank
from collector_bms.service import Daly
from collector_bms.transport import Bus, Link
from sunmesh.emulation import World, serve_pty
from sunmesh.serialport import SerialPort

pytestmark = pytest.mark.peers

READER = Path(__file__).with_name("read_with_dalybms.py")
WORLDS = {
    "evening": {
        "battery_voltage_v": 53.12,
        "battery_current_a": 31.7,
        "battery_soc_percent": 71.3,
        "remaining_capacity_ah": 199.6,
        "cell_voltage_v": [3.31 + n / 1000 for n in range(16)],
        "battery_temperature_c": [21.4, 22.6],
    },
    "noon": {
        "battery_voltage_v": 54.4,
        "battery_current_a": -88.8,
        "battery_soc_percent": 97.5,
        "remaining_capacity_ah": 273.0,
        "cell_voltage_v": [3.4] * 13 + [3.41, 3.39, 3.4],
        "battery_temperature_c": [31.0, 30.0, 4.0],
    },
    "empty": {
        "battery_voltage_v": 39.4,
        "battery_current_a": 0.0,
        "battery_soc_percent": 3.1,
        "remaining_capacity_ah": 8.7,
        "cell_voltage_v": [2.82] * 13 + [2.74],
        "battery_temperature_c": [-3.0],
    },
}


@pytest.fixture(params=[[], ["leftover"]], ids=["cleared", "leftover"])
def habits(request):
    return request.param


@pytest.fixture(params=WORLDS)
def world(request):
    return WORLDS[request.param]


@pytest.fixture
def port(tmp_path, world, habits):
    path, stop, ready = tmp_path / "battery", threading.Event(), threading.Event()
    bank = Bank(modes=habits, world=World(world))
    thread = threading.Thread(
        target=serve_pty, args=(path, bank), kwargs={"stop": stop, "ready": ready}
    )
    thread.start()
    assert ready.wait(30)
    yield path
    stop.set()
    thread.join(30)


@pytest.mark.parametrize(("address", "host"), [("4", "0x40"), ("8", "0x80")])
def test_the_published_client_sees_the_world(port, python, world, address, host):
    done = subprocess.run(
        [python, READER, port, address], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    config = BmsDevice(port=str(port), host=host, protocol="a5")
    source = Daly(config, Link(Bus(SerialPort(config.port, 9600, holder="test")), 0.5))
    source.open()
    ours = source.poll().values
    source.close()

    cells = [round(volts, 3) for volts in world["cell_voltage_v"]]
    degrees = [round(value) for value in world["battery_temperature_c"]]
    amperes = world["battery_current_a"]
    assert theirs["soc"] == {
        "total_voltage": round(world["battery_voltage_v"], 1),
        "current": amperes,
        "soc_percent": world["battery_soc_percent"],
    }
    assert theirs["status"]["cells"] == len(cells)
    assert theirs["range"]["highest_voltage"] == max(cells)
    assert theirs["range"]["lowest_cell"] == cells.index(min(cells)) + 1
    assert theirs["temperature_range"]["lowest_temperature"] == min(degrees)
    assert theirs["mosfet"] == {
        "mode": "stationary" if not amperes else "discharging" if amperes > 0 else "charging",
        "charging_mosfet": True,
        "discharging_mosfet": True,
        "capacity_ah": world["remaining_capacity_ah"],
    }
    if address == "4":  # for the other it wants more than the board's counts and reads nothing
        assert list(theirs["cells"].values()) == cells
        assert list(theirs["temperatures"].values()) == degrees

    assert ours["cell_voltage_v"] == pytest.approx(cells)
    assert ours["battery_temperature_c"] == degrees
    assert ours["battery_current_a"] == theirs["soc"]["current"]
    assert ours["battery_voltage_v"] == theirs["soc"]["total_voltage"]
    assert ours["battery_soc_percent"] == theirs["soc"]["soc_percent"]
    assert ours["remaining_capacity_ah"] == theirs["mosfet"]["capacity_ah"]
    assert ours["cell_voltage_max_v"] == theirs["range"]["highest_voltage"]
    assert bool(ours["warnings"]) == bool(theirs["errors"])
