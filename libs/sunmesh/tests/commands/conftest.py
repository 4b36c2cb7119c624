"""A broker client that only writes down what was published, and a clock that is set by hand."""

import json

import pytest
from sunmesh.mqtt import Message
from sunmesh.topics import Topics


class Paper:
    """A :class:`sunmesh.mqtt.Mesh` as far as a desk needs one."""

    def __init__(self):
        self.topics = Topics()
        self.said = []

    def publish(self, topic, payload, *, retain=False, qos=1, expiry_s=None):
        assert not (retain and topic.endswith("/command/result"))
        self.said.append((topic, json.loads(payload)))
        return True

    def subscribe(self, pattern, handler, qos=1, *, as_published=False):
        pass

    def results(self):
        return [body for topic, body in self.said if topic.endswith("/command/result")]

    def stages(self, identity=None):
        return [
            body["stage"] for body in self.results() if identity is None or body["id"] == identity
        ]

    def settings(self):
        return [body for topic, body in self.said if topic.endswith("/settings")]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def command(body, *, retain=False):
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message("sunmesh/home/x/command", payload, retain, False, 1, 1)


@pytest.fixture
def paper():
    return Paper()


@pytest.fixture
def ticks():
    return Clock()


@pytest.fixture
def message():
    return command
