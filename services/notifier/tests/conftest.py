"""A notifier without a broker: a clock that is set, a real outbox, real sockets to the emulator."""

import time
from collections import deque
from dataclasses import replace as change
from zoneinfo import ZoneInfo

import msgspec
import pytest
from notifier.build import _channel
from notifier.config import NotifierConfig
from notifier.emulator import Emulator, Provider
from notifier.outbox import FILE, Outbox
from notifier.service import Clock, Notifier
from sunmesh import clock
from sunmesh.messages import Ack, Alarm, decode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics

ZONE = ZoneInfo("Europe/Bratislava")
NOON = clock.epoch_ms(clock.parse("2026-11-18T11:00:00Z"))  # a Wednesday, 12:00 there

PHONE = 'by = "pushover", token_file = "t", user = "anna"'


class StandInMesh:
    """Takes what would be published."""

    topics = Topics("home")
    connected = True

    def __init__(self):
        self.published = []
        self.acked = []
        self.handlers = {}

    def subscribe(self, pattern, handler, qos=1):
        self.handlers[pattern] = handler

    def on_lost(self, callback):
        self.lost = callback

    def publish(self, topic, payload, *, retain=False, qos=1, expiry_s=None):
        self.published.append((topic, payload, retain))
        return True

    def ack(self, message):
        self.acked.append(message.mid)

    def ack_all(self, mids):
        self.acked += mids

    def said(self, topic, kind):
        return [decode(kind, payload) for where, payload, _ in self.published if where == topic]


class Secrets:
    def read(self, _key, name):
        return f"secret-{name}"


class House:
    """One notifier, its phone, and a hand on its clock."""

    def __init__(self, folder, phone, **settings):
        targets = settings.pop("targets", None)
        self.phone = phone
        self.provider = phone.provider
        self.folder = folder
        self.now_ms, self.steady_s = NOON, 1000.0
        base = {"base_url": phone.url}
        targets = targets or {"anna": {"by": "pushover", "token_file": "t", "user": "anna"}}
        targets = {name: base | table for name, table in targets.items()}
        table = {"targets": targets, "timeout_s": 1.0, "sign_of_life": "", **settings}
        self.config = msgspec.convert(table, NotifierConfig)
        self.time = Clock(lambda: self.now_ms, lambda: self.steady_s)
        self.mesh = StandInMesh()
        self.inbox = deque()
        self.start()

    def start(self):
        """As after a kill: nothing is known but the file."""
        self.outbox = Outbox(self.folder / FILE)
        channels = {
            name: _channel(name, target, self.config, Secrets(), self.outbox)
            for name, target in self.config.targets.items()
        }
        for channel in channels.values():
            if hasattr(channel, "_now_s"):
                channel._now_s = lambda: self.now_ms / 1000
        self.notifier = Notifier(
            self.config, ZONE, self.mesh, self.outbox, channels, time_of=self.time, host="here"
        )
        for sender in self.notifier.senders:
            sender._remember()

    def restart(self):
        self.outbox.close()
        self.start()

    def alarm(
        self,
        state="raised",
        severity="warning",
        *,
        device="inverter",
        code="heat_sink_hot",
        number=1,
        ago_s=0.0,
        **more,
    ):
        ts = clock.iso(clock.from_ms(self.now_ms - round(1000 * ago_s)))
        text = {"title": "inverter is hot", "text": "It is hot."} | more
        return device, code, Alarm(f"id-{device}-{code}-{number}", state, severity, ts=ts, **text)

    def hear(self, *args, **more):
        device, code, alarm = self.alarm(*args, **more)
        with self.outbox.transaction():
            kind = self.notifier.take(device, code, alarm)
        self.now_ms += 1
        return kind

    def hear_raw(self, topic, payload, mid=1):
        self.notifier._hear(Message(topic, payload, False, False, 1, mid))
        return self.turn()

    def ack(self, number=1, device="inverter", code="heat_sink_hot", by="web:anna"):
        with self.outbox.transaction():
            self.notifier.acknowledge(
                device, code, Ack(f"id-{device}-{code}-{number}", by, clock.iso(clock.now()))
            )

    def turn(self):
        return self.notifier.turn()

    def deliver(self, turns=200):
        """Let everything go that may go now; no time passes."""
        for _ in range(turns):
            self.turn()
            if not any(sender.turn() == 0.0 for sender in self.notifier.senders):
                return
        raise AssertionError("it does not come to rest")

    def passes(self, seconds, step=None):
        """Time passes, in steps, and everything happens in it that has to."""
        left = seconds
        while left > 0:
            part = min(left, step or seconds)
            self.now_ms += round(1000 * part)
            self.steady_s += part
            left -= part
            self.deliver()

    @property
    def letters(self):
        return list(self.provider.letters)

    @property
    def titles(self):
        return [letter.fields.get("title") or letter.fields["text"] for letter in self.letters]

    @property
    def states(self):
        return [row.state for row in reversed(self.outbox.list_deliveries(1000, only_open=False))]


@pytest.fixture
def phone():
    provider = Provider(gap_s=0.0, hang_s=3.0)
    with Emulator(provider) as emulator:
        yield emulator


@pytest.fixture
def house(tmp_path, phone):
    made = []

    def make(**settings):
        made.append(House(tmp_path, phone, **settings))
        return made[-1]

    yield make
    for each in made:
        each.outbox.close()


__all__ = ["NOON", "PHONE", "ZONE", "House", "StandInMesh", "change", "time"]
