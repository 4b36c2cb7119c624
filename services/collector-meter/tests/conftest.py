"""A bus of emulated meters on a pty or a socket, each in a thread of the test."""

import threading
from contextlib import contextmanager

import pytest
from collector_meter.config import MeterDevice
from collector_meter.emulator import Bus, Gateway, Meter
from collector_meter.service import Meter as Source
from collector_meter.transport import Link, bus_of
from sunmesh.emulation import World, serve_pty, serve_tcp


class House:
    """What a test may look at and break: ``bus`` of emulated meters, ``port``, ``world``."""

    def __init__(self, bus, port):
        self.bus = bus
        self.port = port
        self.buses = {}

    def config(self, **settings):
        return MeterDevice(
            **{"model": "SDM230", "port": self.port, "timeout_s": 3.0, "address_gap_s": 0.0}
            | settings
        )

    def source(self, **settings):
        """A source on this port; several share one bus, as in one process."""
        config = self.config(**settings)
        bus = self.buses.setdefault(config.port, bus_of(config, "test"))
        return Source(config, Link(bus, config.address))


@pytest.fixture
def house(tmp_path):
    """``with house(Meter(...), baud=9600, faults=...) as h``; meters stand at 1, 2, 3 ..."""

    served = []

    @contextmanager
    def serve(*meters, baud=None, faults=None, tcp=None):
        meters = dict(enumerate(meters or [Meter("SDM230", World())], 1))
        stop, ready = threading.Event(), threading.Event()
        line = {"baud": baud, "faults": faults, "stop": stop}
        if tcp is None:
            bus = Bus(meters)
            port = str(tmp_path / "meter")
            thread = threading.Thread(
                target=serve_pty, args=(tmp_path / "meter", bus), kwargs=line | {"ready": ready}
            )
        else:
            bus = Gateway(meters) if tcp == "tcp" else Bus(meters)
            heard = []

            def listening(number):
                heard.append(number)
                ready.set()

            thread = threading.Thread(
                target=serve_tcp,
                args=("127.0.0.1", 0, bus),
                kwargs=line | {"ready": listening},
            )
        thread.start()
        assert ready.wait(30)
        if tcp is not None:
            port = f"{'tcp' if tcp == 'tcp' else 'socket'}://127.0.0.1:{heard[0]}"
        served.append(House(bus, port))
        try:
            yield served[-1]
        finally:
            stop.set()
            thread.join(30)

    yield serve
    for each in served:
        for bus in each.buses.values():
            bus.end()
