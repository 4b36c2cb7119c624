"""A wire without a port: the emulated boards answer at once, and no time passes in silence."""

import threading

import pytest
from collector_bms.config import BmsDevice
from collector_bms.emulator import Bank
from collector_bms.service import Daly
from collector_bms.transport import Bus, Link
from sunmesh.emulation import Faults, serve_pty
from sunmesh.errors import TransportError


class Wire:
    """A :class:`collector_bms.transport.Port`; whatever is not there never comes."""

    def __init__(self, device, faults=None):
        self.device = device
        self.faults = faults or Faults()
        self.spoil = lambda request, frame: frame
        self.requests = []
        self.waiting = b""
        self.opened = 0
        self.is_open = False
        self.is_gone = False

    def open(self):
        if self.is_gone:
            raise TransportError("the port does not exist")
        self.opened += 1
        self.is_open = True
        self.waiting = b""

    def close(self):
        self.is_open = False
        self.waiting = b""

    def write(self, data):
        if self.is_gone or not self.is_open:
            raise TransportError("the port is gone")
        self.requests.append(data)
        for frame in self.device.receive(data):
            self.waiting += self.spoil(data, self.faults.apply(data, frame, None))

    def read_some(self, deadline, limit=512):
        data, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return data

    def flush_input(self):
        self.waiting = b""


@pytest.fixture
def wired():
    """Boards, the wire to them, and the source that reads one."""

    def make(*, boards=(1,), protocol="a5", modes=(), world=None, faults=None, **settings):
        wire = Wire(Bank(boards, protocol, modes, world), faults)
        config = BmsDevice(port="/nowhere", **settings)
        source = Daly(config, Link(Bus(wire), config.timeout_s))
        return wire, source

    return make


@pytest.fixture
def bank(tmp_path):
    """Starts emulated boards behind terminals; the path of each. ``stop(path)`` ends one."""
    running = {}

    def start(device=None, *, faults=None, name=None, baud=None):
        path = tmp_path / (name or f"battery{len(running)}")
        stop, ready = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=serve_pty,
            args=(path, device or Bank()),
            kwargs={"faults": faults, "stop": stop, "ready": ready, "baud": baud},
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
