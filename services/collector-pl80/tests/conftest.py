"""A wire without a port: the emulated controller answers at once, and no time passes in silence."""

import threading
from datetime import UTC, datetime

import pytest
from collector_pl80.config import Pl80Device
from collector_pl80.emulator import Controller
from collector_pl80.service import Pl80
from collector_pl80.transport import Link
from sunmesh.emulation import Faults, serve_pty
from sunmesh.errors import TransportError

NOON = datetime(2026, 11, 21, 12, 33, 24, tzinfo=UTC)


def utc_day_s(moment):
    return moment.hour * 3600 + moment.minute * 60 + moment.second


class Clock:
    """A clock that a test sets."""

    def __init__(self, moment=NOON):
        self.moment = moment

    def __call__(self):
        return self.moment


class Wire:
    """A :class:`collector_pl80.transport.Port`; whatever is not there never comes."""

    def __init__(self, device, faults=None):
        self.device = device
        self.faults = faults or Faults()
        self.spoil = lambda request, answer: answer
        self.requests = []
        self.waiting = b""
        self.is_gone = False

    def open(self):
        if self.is_gone:
            raise TransportError("the port does not exist")
        self.waiting = b""

    def close(self):
        self.waiting = b""

    def write(self, data):
        if self.is_gone:
            raise TransportError("the port is gone")
        self.requests.append(data)
        for frame in self.device.receive(data):
            answer = self.faults.apply(data, frame, self.device.nak())
            self.waiting += self.spoil(data, answer)

    def read_some(self, deadline, limit=512):
        data, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return data

    def flush_input(self):
        self.waiting = b""


@pytest.fixture
def wired():
    """A controller, the wire to it, and the source that reads it; all in UTC at one moment."""

    def make(faults=None, device=None, **settings):
        host = Clock()
        device = device or Controller(now=host, day_s=utc_day_s)
        wire = Wire(device, faults)
        config = Pl80Device(port="/nowhere", **settings)
        source = Pl80(config, Link(wire), day_s=utc_day_s, now=host)
        wire.clock = host
        return wire, source

    return make


@pytest.fixture
def controller(tmp_path):
    """Starts emulated controllers behind terminals; the path of each. ``stop(path)`` ends one."""
    running = {}

    def start(*, device=None, faults=None, name=None, baud=None):
        path = tmp_path / (name or f"pl{len(running)}")
        stop, ready = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=serve_pty,
            args=(path, device or Controller()),
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
