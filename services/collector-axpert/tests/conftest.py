"""A wire without a port: the emulated inverter answers at once, and no time passes in silence."""

import threading

import pytest
from collector_axpert.config import AxpertDevice
from collector_axpert.emulator import Inverter
from collector_axpert.service import Axpert
from collector_axpert.transport import Link
from sunmesh.emulation import Faults, serve_pty
from sunmesh.errors import TransportError


class Wire:
    """A :class:`collector_axpert.transport.Port`; whatever is not there never comes."""

    def __init__(self, device, faults=None):
        self.device = device
        self.faults = faults or Faults()
        self.spoil = lambda request, answer: answer
        self.requests = []
        self.waiting = b""
        self.opened = 0
        self.is_gone = False

    def open(self):
        if self.is_gone:
            raise TransportError("the port does not exist")
        self.opened += 1
        self.waiting = b""

    def close(self):
        self.waiting = b""

    def write(self, data):
        if self.is_gone:
            raise TransportError("the port is gone")
        self.requests.append(data[:-3].decode())
        for frame in self.device.receive(data):
            answer = self.faults.apply(data, frame, self.device.nak())
            self.waiting += self.spoil(self.requests[-1], answer)

    def read_some(self, deadline, limit=512):
        data, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return data

    def flush_input(self):
        self.waiting = b""


@pytest.fixture
def wired():
    """An inverter, the wire to it, and the source that reads it."""

    def make(profile="PI30MAX", faults=None, **settings):
        wire = Wire(Inverter(profile), faults)
        source = Axpert(AxpertDevice(port="/nowhere", **settings), Link(wire))
        return wire, source

    return make


@pytest.fixture
def inverter(tmp_path):
    """Starts emulated inverters behind terminals; the path of each. ``stop(path)`` ends one."""
    running = {}

    def start(profile="PI30MAX", *, device=None, faults=None, name=None):
        path = tmp_path / (name or f"inverter{len(running)}")
        stop, ready = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=serve_pty,
            args=(path, device or Inverter(profile)),
            kwargs={"faults": faults, "stop": stop, "ready": ready},
        )
        thread.start()
        assert ready.wait(30)
        running[path] = (stop, thread)
        return path

    def end(path):
        stop, thread = running.pop(path)
        stop.set()
        thread.join(30)

    start.stop = end
    yield start
    for path in list(running):
        end(path)
