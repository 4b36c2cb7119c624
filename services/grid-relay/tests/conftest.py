"""A relay with a file for an output, on a clock and a broker of the test's own."""

import json

import pytest
from grid_relay.config import FeedbackTable, OutputTable, RelayDevice, SupplyTable, WindowTable
from grid_relay.service import GridRelay
from grid_relay.watchdog import Watchdog
from sunmesh import clock
from sunmesh.messages import Sample, encode
from sunmesh.mqtt import Message
from sunmesh.statefile import StateFile
from sunmesh.topics import Topics

TOPICS = Topics("home")
RESTED = {
    "position": "grid_connected",
    "switched": ["2020-01-01T00:00:00Z"],
    "switch_count": 4,
    "fault": "",
    "ids": [],
}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Paper:
    """The broker client, as far as the relay uses one."""

    def __init__(self):
        self.topics = TOPICS
        self.said = []
        self.handlers = {}
        self.counters = {}

    def publish(self, topic, payload, *, retain=False, qos=1, expiry_s=None):
        self.said.append((topic, json.loads(payload), retain))
        return True

    def subscribe(self, pattern, handler, qos=1, *, as_published=False):
        self.handlers[pattern] = handler

    def on_connect(self, callback):
        self.back = lambda: callback()

    def on_lost(self, callback):
        self.lost = lambda: callback("gone")


class House:
    """The relay, and what can be done to it and seen of it."""

    def __init__(self, folder, device, saved=None):
        self.folder, self.device = folder, device
        self.clock, self.paper = Clock(), Paper()
        self.state = StateFile(folder / "state" / "grid-relay.json")
        if saved is not None:
            self.state.save(saved)
        self.start()

    def start(self):
        self.relay = GridRelay(
            "grid-relay",
            self.device,
            self.paper,
            self.state,
            Watchdog("", {}, self.clock),
            self.clock,
        )
        self.relay.begin()
        self.turn()

    def turn(self, seconds=0.0, step=0.5):
        """Let time pass, with turns in it."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(self.clock.now + step, until)
            self.relay.turn()
        self.relay.turn()

    def send(self, *, retain=False, **body):
        return self.send_raw(json.dumps(body).encode(), retain=retain)

    def send_raw(self, payload, *, retain=False):
        """Hand a command over; returns the stages that it brought at once."""
        before = len(self.paper.said)
        topic = TOPICS.command("grid-relay")
        self.relay._desk.hear(Message(topic, payload, retain, False, 1, 1))
        return [
            (body["stage"], body.get("detail", ""))
            for topic, body, _ in self.paper.said[before:]
            if topic.endswith("/command/result")
        ]

    def open(self, lease_s=180, **more):
        return self.send(name="relay_position", value="grid_open", lease_s=lease_s, **more)

    def connect(self):
        return self.send(name="relay_position", value="grid_connected")

    def tell(self, device, **values):
        """A sample of another device."""
        sample = Sample(ts=clock.iso(clock.now()), values=values)
        topic = TOPICS.telemetry(device)
        self.relay._hear(Message(topic, encode(sample), False, False, 1, 1))

    def end(self):
        self.relay._end()

    @property
    def level(self):
        return (self.folder / "output").read_text().strip()

    @property
    def values(self):
        return self.bodies(TOPICS.telemetry("grid-relay"))[-1]["values"]

    @property
    def results(self):
        return [
            (body["stage"], body["value"], body.get("detail", ""))
            for body in self.bodies(TOPICS.result("grid-relay"))
        ]

    @property
    def alarms(self):
        """Codes that are raised now."""
        states = {}
        for topic, body, retained in self.paper.said:
            if "/alarms/grid-relay/" in topic:
                assert retained
                states[topic.rsplit("/", 1)[1]] = body["state"]
        return {code for code, state in states.items() if state == "raised"}

    def bodies(self, topic):
        return [body for where, body, _ in self.paper.said if where == topic]


def table(folder, **more):
    options = {"output": OutputTable(by="file", path=str(folder / "output"))}
    return RelayDevice(**options | more)


@pytest.fixture
def house(tmp_path):
    """A relay that has rested, so that it may be opened."""
    return House(tmp_path, table(tmp_path), RESTED)


@pytest.fixture
def wired(tmp_path):
    """The same with an auxiliary contact."""
    (tmp_path / "contact").write_text("1")
    feedback = FeedbackTable(by="file", path=str(tmp_path / "contact"))
    house = House(tmp_path, table(tmp_path, feedback=feedback), RESTED)
    house.contact = lambda text: (tmp_path / "contact").write_text(text)
    return house


@pytest.fixture
def build(tmp_path):
    """A relay with other settings."""

    def build(saved=RESTED, **more):
        return House(tmp_path, table(tmp_path, **more), saved)

    build.window = WindowTable(device="meter")
    build.supply = SupplyTable(device="inverter")
    build.folder = tmp_path
    return build
