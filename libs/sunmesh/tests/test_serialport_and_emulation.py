import contextlib
import os
import subprocess
import sys
import threading
import time

import pytest
from sunmesh.emulation import Faults, World, serve_pty, serve_tcp
from sunmesh.errors import ConfigError, TransportError
from sunmesh.portlock import is_unstable
from sunmesh.serialport import SerialPort
from sunmesh.testing import LEAST_S


class Parrot:
    """Answers every request that ends in CR with ``(…)`` around it."""

    def __init__(self):
        self.buffer = b""

    def receive(self, data):
        self.buffer += data
        *requests, self.buffer = self.buffer.split(b"\r")
        return [b"(" + request + b")\r" for request in requests]

    def nak(self):
        return b"(NAK\r"


@pytest.fixture
def parrot(tmp_path):
    """The path of a pty with a parrot behind it."""
    stop = threading.Event()
    threads = []

    def start(name="port", **options):
        ready = threading.Event()
        link = tmp_path / name
        thread = threading.Thread(
            target=serve_pty, args=(link, Parrot()), kwargs={"stop": stop, "ready": ready} | options
        )
        thread.start()
        threads.append(thread)
        assert ready.wait(30)
        return str(link)

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)


@pytest.fixture
def port():
    """A factory of ports that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(path, baud=2400, holder="test"):
            port = SerialPort(path, baud, holder=holder)
            stack.callback(port.close)
            return port

        yield make


def test_a_request_is_answered(parrot, port):
    line = port(parrot())
    line.open()
    line.write(b"QPI\r")
    assert line.read_exact(6, 30.0) == b"(QPI)\r"


def test_every_byte_passes_as_it_is(parrot, port):
    line = port(parrot())
    line.open()
    every = bytes(n for n in range(256) if n != 13)
    line.write(every + b"\r")
    assert line.read_exact(258, 30.0) == b"(" + every + b")\r"


def test_silence_ends_with_the_deadline(parrot, port):
    line = port(parrot())
    line.open()
    began = time.monotonic()
    assert line.read_exact(1, 0.2) == b""
    assert 0.2 <= time.monotonic() - began < LEAST_S


def test_what_nobody_asked_for_is_thrown_away(parrot, port, eventually):
    line = port(parrot())
    line.open()
    line.write(b"x" * 1000 + b"\r")
    assert len(line.read_exact(1003, 30.0)) == 1003
    line.write(b"x\r")
    eventually(lambda: line._port.in_waiting == 4, why="there is something to flush")
    line.flush_input()
    assert line.read_exact(1, 0.1) == b""


@pytest.mark.parametrize("baud", [2400, 9600])
def test_no_line_is_faster_than_its_baud_rate(parrot, port, baud):
    line = port(parrot(baud=baud), baud)
    line.open()
    wire = (61 + 63) * 10 / baud

    for _ in range(3):
        began = time.monotonic()
        line.write(b"x" * 60 + b"\r")
        assert len(line.read_exact(63, 30.0)) == 63
        assert time.monotonic() - began >= wire


def test_a_second_owner_is_told_who_the_first_is(parrot, port):
    path = parrot()
    port(path, holder="collector-axpert inverter").open()
    with pytest.raises(
        TransportError, match=r"in use by collector-axpert inverter \(process \d+\)"
    ):
        port(path, holder="other").open()


def test_an_alias_of_the_path_is_the_same_port(parrot, port, tmp_path):
    path = parrot()
    alias = tmp_path / "by-id"
    alias.symlink_to(os.path.realpath(path))
    port(path, holder="first").open()
    with pytest.raises(TransportError, match="in use by first"):
        port(str(alias)).open()


def test_a_foreign_owner_is_named_too(parrot, port):
    path = parrot()
    code = (
        f"import serial, time; port = serial.Serial({path!r}, exclusive=True);"
        "print('open', flush=True); time.sleep(30)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(TransportError, match=rf"in use by python.*process {other.pid}"):
            port(path).open()
        other.kill()


def test_a_port_is_free_again_after_close_and_after_a_crash(parrot, port):
    path = parrot()
    first = port(path)
    first.open()
    first.close()
    code = (
        "import os, sys; from sunmesh.serialport import SerialPort;"
        f"p = SerialPort({path!r}, 2400, holder='crashed'); p.open(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    port(path).open()


def test_a_missing_port_asks_for_the_plug(port, tmp_path):
    with pytest.raises(TransportError, match="plugged in"):
        port(str(tmp_path / "none")).open()


def test_a_port_that_vanishes_is_an_error_not_a_hang(port, tmp_path):
    stop, ready = threading.Event(), threading.Event()
    link = tmp_path / "port"
    thread = threading.Thread(
        target=serve_pty, args=(link, Parrot()), kwargs={"stop": stop, "ready": ready}
    )
    thread.start()
    ready.wait(30)
    line = port(str(link))
    line.open()
    stop.set()
    thread.join(30)
    with pytest.raises(TransportError, match="is gone"):
        line.read_exact(1, 30.0)
    assert not link.is_symlink()


def test_a_device_behind_tcp_answers_through_a_url(port):
    stop, ports = threading.Event(), []
    thread = threading.Thread(
        target=serve_tcp,
        args=("127.0.0.1", 0, Parrot()),
        kwargs={"stop": stop, "ready": ports.append},
    )
    thread.start()
    while not ports:
        time.sleep(0.01)
    line = port(f"socket://127.0.0.1:{ports[0]}")
    line.open()
    line.write(b"QMOD\r")
    assert line.read_exact(7, 30.0) == b"(QMOD)\r"
    line.close()
    stop.set()
    thread.join(30)


@pytest.mark.parametrize(
    ("path", "unstable"),
    [("/dev/ttyUSB0", True), ("/dev/hidraw3", True), ("/dev/serial/by-id/usb-x", False)],
)
def test_a_name_that_changes_hands_is_known(path, unstable):
    assert is_unstable(path) is unstable


FRAME = b"(230.0 50.0)\r"


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("silent", lambda out: out == b""),
        ("echo", lambda out: out == b"Q\r"),
        ("nak", lambda out: out == b"(NAK\r"),
        ("crc", lambda out: len(out) == len(FRAME) and out != FRAME),
        ("short", lambda out: FRAME.startswith(out) and len(out) < len(FRAME)),
        ("noise", lambda out: out.endswith(FRAME) and len(out) > len(FRAME)),
    ],
)
def test_each_fault_spoils_in_its_own_way(fault, check):
    assert check(Faults.parse([fault]).apply(b"Q\r", FRAME, b"(NAK\r"))


def test_a_rate_is_a_rate_and_repeats_with_its_seed():
    def hits(seed):
        faults = Faults.parse(["crc:0.3"], seed)
        return [faults.apply(b"Q\r", FRAME, None) != FRAME for _ in range(1000)]

    assert 240 < sum(hits(1)) < 360
    assert hits(1) == hits(1) != hits(2)


@pytest.mark.parametrize("text", ["fire", "crc:2", "crc:x"])
def test_an_unknown_fault_is_refused(text):
    with pytest.raises(ConfigError, match="--fault"):
        Faults.parse([text])


def test_an_emulator_follows_the_house(mesh, topics, eventually):
    world = World({"battery_voltage_v": 52.0})
    client = mesh("emulator")
    world.follow(client)
    assert world.get("battery_voltage_v") == 52.0
    house = mesh("simulator")
    house.publish(topics.sim("world"), b'{"battery_voltage_v": 53.5}', retain=True)
    eventually(lambda: world.get("battery_voltage_v") == 53.5)
    assert world.get("pv_power_w", 7) == 7


def test_what_stands_under_a_device_is_its_own(mesh, topics, eventually):
    shed, other = World(), World()
    shed.follow(mesh("shed-emulator"), "shed")
    other.follow(mesh("other-emulator"))
    told = b'{"battery_voltage_v": 53.5, "shed.battery_voltage_v": 25.1, "faults": ["asleep:shed"]}'
    mesh("simulator").publish(topics.sim("world"), told, retain=True)
    eventually(lambda: shed.get("battery_voltage_v") == 25.1)
    eventually(lambda: other.get("battery_voltage_v") == 53.5)
    assert shed.has_fault("asleep")
    assert not shed.has_fault("swapped")
    assert not other.has_fault("asleep")


def test_swapped_plugs_are_silent_while_they_are_swapped(mesh, topics, eventually, monkeypatch):
    monkeypatch.setattr("sunmesh.emulation.SWAPPING_S", 1000.0)
    faults = Faults()
    faults.follow(mesh("emulator"), "inverter")
    house = mesh("simulator")
    for told in (b'{"faults": ["swapped:inverter"]}', b'{"faults": []}'):
        house.publish(topics.sim("world"), told, retain=True)
        eventually(lambda: faults.apply(b"Q\r", FRAME, None) == b"")
        assert 900 < faults._plugged_at - time.monotonic() <= 1000
        faults._plugged_at = time.monotonic()  # the time is over
        assert faults.apply(b"Q\r", FRAME, None) == FRAME


def test_the_house_spoils_the_line_of_the_device_it_names(mesh, topics, eventually):
    faults = Faults()
    faults.follow(mesh("emulator"), "inverter")
    house = mesh("simulator")
    world = topics.sim("world")

    def answer():
        return faults.apply(b"Q\r", FRAME, None)

    house.publish(world, b'{"faults": ["silent:inverter"]}', retain=True)
    eventually(lambda: answer() == b"")
    house.publish(world, b'{"faults": ["silent:other", "grid_outage"]}', retain=True)
    eventually(lambda: answer() == FRAME)
    house.publish(world, b'{"faults": ["noisy_line:inverter"]}', retain=True)
    eventually(lambda: answer() != FRAME)
    house.publish(world, b'{"faults": []}', retain=True)
    house.publish(topics.sim("inverter/plug"), b"out", retain=True)
    eventually(lambda: all(answer() == b"" for _ in range(20)))
    house.publish(topics.sim("inverter/plug"), b"in", retain=True)
    eventually(lambda: all(answer() == FRAME for _ in range(20)))
