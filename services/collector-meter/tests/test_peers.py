"""Other people's clients read our emulator, and must see what we see: the world."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from collector_meter import tables
from collector_meter.emulator import Meter
from sunmesh.emulation import World
from sunmesh.testing import find_program

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-peers-sdm/bin/python"
READER = Path(__file__).parent / "peers/read_with_sdm_modbus.py"

HOUSES = {
    "evening": {
        "grid_voltage_v": 228.25,
        "grid_frequency_hz": 49.96,
        "grid_power_w": 3140.75,
        "grid_import_energy_kwh": 10909.282,
        "grid_export_energy_kwh": 1345.921,
    },
    "noon": {
        "grid_voltage_v": 238.6,
        "grid_frequency_hz": 50.03,
        "grid_power_w": -1673.8,
        "grid_import_energy_kwh": 1556.356,
        "grid_export_energy_kwh": 2345.5,
    },
}

# Their names → ours.
SINGLE = {
    "voltage": "grid_voltage_v",
    "current": "grid_current_a",
    "power_active": "grid_power_w",
    "power_apparent": "grid_apparent_power_va",
    "power_reactive": "grid_reactive_power_var",
    "power_factor": "grid_power_factor",
    "phase_angle": "grid_phase_angle_deg",
    "frequency": "grid_frequency_hz",
    "import_energy_active": "grid_import_energy_kwh",
    "export_energy_active": "grid_export_energy_kwh",
    "import_energy_reactive": "grid_import_reactive_energy_kvarh",
    "export_energy_reactive": "grid_export_reactive_energy_kvarh",
    "total_energy_active": "grid_total_energy_kwh",
}
THREE = {
    "l1_voltage": "grid_voltage_l1_v",
    "l2_current": "grid_current_l2_a",
    "l3_power_active": "grid_power_l3_w",
    "total_power_active": "grid_power_w",
    "frequency": "grid_frequency_hz",
    "import_energy_active": "grid_import_energy_kwh",
    "export_energy_active": "grid_export_energy_kwh",
    "total_energy_active": "grid_total_energy_kwh",
    "l2_import_energy_active": "grid_import_energy_l2_kwh",
}
NAMES = {
    "SDM120": {k: v for k, v in SINGLE.items() if k != "phase_angle"},
    "SDM230": SINGLE,
    "SDM630": THREE,
}


def run(*command):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("world", HOUSES.values(), ids=HOUSES)
@pytest.mark.parametrize("model", NAMES)
def test_sdm_modbus_sees_the_world_with_more_requests(house, model, world):
    assert PYTHON.exists(), "`make peers` installs sdm_modbus"
    with house(Meter(model, World(world))) as h:
        source = h.source(model=model)
        source.open()
        h.bus.requests.clear()
        ours = source.poll().values
        our_requests = len(h.bus.requests)
        source.close()
        h.bus.requests.clear()
        theirs = json.loads(run(PYTHON, READER, h.port, model))
        their_requests = len(h.bus.requests)
    for their_name, our_name in NAMES[model].items():
        assert theirs[their_name] == pytest.approx(ours[our_name], rel=1e-6), their_name
        if our_name in world:
            assert theirs[their_name] == pytest.approx(world[our_name], rel=1e-6), their_name
    assert our_requests == 2
    assert our_requests < their_requests


@pytest.mark.parametrize("world", HOUSES.values(), ids=HOUSES)
@pytest.mark.parametrize("wire", [None, "tcp"], ids=["rtu", "tcp"])
def test_mbpoll_sees_the_world(house, world, wire):
    mbpoll = find_program("mbpoll")
    with house(Meter("SDM230", World(world)), tcp=wire) as h:
        if wire:
            where = ["-m", "tcp", "-p", h.port.rpartition(":")[2], "127.0.0.1"]
        else:
            where = ["-m", "rtu", "-b", "9600", "-P", "none", h.port]
        shown = {}
        for block in tables.MODELS["SDM230"].fast:
            options = ["-a", 1, "-t", "3:float", "-B", "-0", "-1"]
            options += ["-r", block.address, "-c", block.count // 2]
            text = run(mbpoll, *options, *where)
            shown |= {int(a): float(v) for a, v in re.findall(r"\[(\d+)\]:\s+(\S+)", text)}
        source = h.source()
        source.open()
        ours = source.poll().values
        source.close()
    for address, name in tables.MODELS["SDM230"].registers.items():
        if address in shown:
            assert shown[address] == pytest.approx(ours[name], rel=1e-5), name
    for name, value in world.items():
        assert ours[name] == pytest.approx(value, rel=1e-6)
    assert shown[0x000C] == pytest.approx(world["grid_power_w"], rel=1e-5)


def test_mbpoll_reads_the_serial_number(house):
    with house(Meter("SDM230")) as h:
        options = ["-t", "4:int", "-B", "-0", "-1", "-r", 0xFC00, "-c", 1, "-b", 9600]
        text = run(find_program("mbpoll"), "-m", "rtu", *options, "-P", "none", "-a", 1, h.port)
    assert re.search(r"\[64512\]:\s+20115678", text)
