"""The live house on a real broker."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from simulator.config import House
from simulator.faults import Calendar, Fault
from simulator.service import Simulator
from simulator.world import World
from sunmesh import clock
from sunmesh.config import BrokerSection
from sunmesh.mqtt import Mesh

START = datetime(2026, 11, 21, 11, tzinfo=UTC).timestamp()


@pytest.fixture
def heard(mesh, topics):
    """Everything under sim/world, newest last."""
    told = []
    listener = mesh("listener")
    listener.subscribe(topics.sim("world"), lambda m: told.append((m, json.loads(m.payload))))
    return told


def test_the_world_is_published_and_kept(mesh, topics, heard, eventually, tmp_path):
    house = mesh("simulator")
    path = tmp_path / "state" / "house.json"
    simulator = Simulator(World(House(), START), house, speed=60.0, state_file=path)
    stop = threading.Event()
    assert house.wait_connected(30)
    thread = threading.Thread(target=simulator.run, args=(stop,))
    thread.start()
    eventually(lambda: len(heard) >= 3, why="three worlds")
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    times = [clock.parse(told["ts"]).timestamp() for _, told in heard]
    assert times == sorted(times)
    assert times[-1] - times[0] > 60  # at 60 x speed
    assert json.loads(path.read_text())["time"] == simulator.world.time
    assert simulator.counters()["published"] >= 3

    late = []
    newcomer = mesh("newcomer")
    newcomer.subscribe(topics.sim("world"), late.append)
    eventually(lambda: late, why="the retained world")
    assert late[0].retain


def test_what_is_published_can_be_looked_up_later(mesh, heard, eventually, tmp_path):
    house = mesh("simulator")
    assert house.wait_connected(30)
    log = tmp_path / "world.jsonl"
    simulator = Simulator(World(House(), START), house, speed=20.0, log_file=log)
    before = clock.now()
    for _ in range(3):
        simulator.turn(20.0)
    eventually(lambda: len(heard) >= 3, why="three worlds")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    reals = [clock.parse(line.pop("real")) for line in lines]
    assert reals == sorted(reals)
    assert abs((reals[0] - before).total_seconds()) < 60
    assert lines == [told for _, told in heard]


def test_the_house_follows_the_relay_s_file(mesh, tmp_path):
    relay = tmp_path / "relay"
    simulator = Simulator(World(House(), START), mesh("simulator"), relay_file=relay)
    for content, is_open in (
        (None, False),
        ("1\n", True),
        ("0\n", False),
        ("1", True),
        ("", False),
        ("open", False),
    ):
        if content is not None:
            relay.write_text(content)
        simulator.turn(1.0)
        assert simulator.world.relay_open is is_open
        seen = simulator.world.values.get("inverter.grid_voltage_v")
        assert seen == (0.0 if is_open else None)


def test_settings_of_an_emulator_reach_the_model(mesh, topics, eventually):
    house = mesh("simulator")
    emulator = mesh("emulator")
    simulator = Simulator(World(House(), START), house)
    settings = topics.sim("inverter/settings")
    assert emulator.wait_connected(30)
    assert house.wait_connected(30)
    emulator.publish(
        settings,
        b'{"ts":"2026-11-21T11:00:00.000Z","values":{"output_source_priority":"USB","x":1}}',
        retain=True,
    )
    eventually(lambda: simulator.settings_taken == 1)
    assert simulator.world.settings.output_source_priority == "USB"
    emulator.publish(settings, b'{"float_voltage_v":54.0}')
    eventually(lambda: simulator.settings_taken == 2)
    assert simulator.world.settings.float_voltage_v == 54.0
    assert simulator.world.settings.output_source_priority == "USB"
    for bad in (b"nonsense", b"[1]", b'{"float_voltage_v":900}', b'{"bulk_voltage_v":"high"}'):
        emulator.publish(settings, bad)
    eventually(lambda: simulator.settings_refused == 4)
    assert simulator.world.settings.float_voltage_v == 54.0
    emulator.publish(settings, b"", retain=True)


def test_faults_are_logged_once_when_they_begin_and_end(mesh, caplog):
    caplog.set_level("INFO")
    calendar = Calendar(START, (Fault("silent", 10.0, 20.0, "inverter"),))
    simulator = Simulator(World(House(), START, calendar=calendar), mesh("simulator"))
    for _ in range(40):
        simulator.turn(1.0)
    assert caplog.text.count("fault begins: silent:inverter") == 1
    assert caplog.text.count("fault is over: silent:inverter") == 1


def test_nothing_piles_up_while_the_broker_is_away(free_port, topics):
    nobody = Mesh(BrokerSection(port=free_port), topics, "simulator")
    simulator = Simulator(World(House(), START), nobody)
    for _ in range(50):
        simulator.turn(1.0)
    assert nobody.counters["dropped"] == 50


def test_a_long_pause_is_stepped_through(mesh):
    simulator = Simulator(World(House(), START), mesh("simulator"))
    simulator.turn(3600.0)
    assert simulator.world.time == pytest.approx(START + 3600.0)
    simulator.turn(0.0)


def test_the_command_begins_where_it_is_told_and_logs(site_file, heard, eventually, tmp_path):
    site = site_file('[simulator]\nstate_file = "house.json"\n')
    log = tmp_path / "world.jsonl"
    command = [sys.executable, "-m", "simulator", "run", "--config", str(site), "--speed", "30"]
    command += ["--start", "2026-03-29T00:59:50Z", "--log-world", str(log)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: len(heard) >= 3, why="three worlds")
        finally:
            process.terminate()
            said = process.stderr.read()
    assert process.returncode == 0, said
    first, last = heard[0][1], heard[-1][1]
    assert first["ts"].startswith("2026-03-29T0")
    assert last["shed.pl80_clock_offset_s"] == -3600.0  # summer time has begun without the shed
    logged = [json.loads(line)["ts"] for line in log.read_text().splitlines()]
    assert first["ts"] in logged
    assert not (tmp_path / "house.json").exists()  # that house is not the one of today


def test_a_live_house_needs_nothing_heavy():
    code = (
        "import sys, simulator.__main__, simulator.service\n"
        "print([m for m in ('numpy','pandas','cryptography','asyncio','honcho','amqtt')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
