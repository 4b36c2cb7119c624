"""Raw answers on demand: what is kept, what is said, and what is refused."""

import json
from datetime import timedelta

import pytest
from sunmesh import clock, trace
from sunmesh.messages import MAX_BYTES, Frames, TraceWish, decode, encode
from sunmesh.mqtt import Message
from sunmesh.poll import Poller
from sunmesh.tap import Tap


def wish(identity="r1", seconds=60.0, expires_s=30):
    now = clock.now()
    expires = clock.iso(now + timedelta(seconds=expires_s))
    return TraceWish(identity, seconds, "web:anna", clock.iso(now), expires)


def capture(asked, came):
    if asked == "broken":
        raise ValueError(asked)
    record = {"command": asked, "hex": came.hex()}
    return record | {"error": "crc"} if came.startswith(b"?") else record


class House:
    """One device that can be recorded, and who wants it."""

    def __init__(self, mesh, topics, eventually, tap, begin, secrets=()):
        self.tap, self.said, self.topics = tap, [], topics
        self.eventually = eventually
        self.asker = mesh("web")
        self.asker.subscribe(topics.frames("x"), self.said.append)
        self.client = mesh("collector-test")
        self.tracer = trace.Tracer(self.client, "x", tap, begin, secrets)
        self.client.subscribe(topics.trace("x"), self.tracer.hear, as_published=True)

    def ask(self, wanted, **how):
        self.asker.publish(self.topics.trace("x"), encode(wanted), **how)

    def heard(self, identity="r1"):
        frames = [decode(Frames, m.payload) for m in list(self.said)]
        assert not any(m.retain for m in self.said)
        return [each for each in frames if each.id == identity]

    def records(self, identity="r1"):
        return [json.loads(bytes(r)) for each in self.heard(identity) for r in each.records]

    def end(self, identity="r1"):
        self.eventually(lambda: any(each.last for each in self.heard(identity)), why="the last")
        return self.heard(identity)[-1]


@pytest.fixture
def house(mesh, topics, eventually):
    made = []

    def make(tap=None, begin=lambda: capture, secrets=()):
        made.append(House(mesh, topics, eventually, tap or Tap(), begin, secrets))
        return made[-1]

    yield make
    for each in made:
        each.tracer.end("the test is over")


def test_what_comes_is_counted_sent_and_ended(house, eventually):
    x = house()
    x.tap("QPI", b"before")
    x.ask(wish(seconds=0.4))
    eventually(lambda: x.heard(), why="it has begun")
    assert (x.heard()[0].seq, x.heard()[0].records, x.heard()[0].last) == (0, [], False)
    x.tap("QPI", b"(PI30")
    x.tap("QPIGS", b"?1")
    x.tap("QMOD", b"")
    x.tap("broken", b"1")
    last = x.end()
    assert (last.answers, last.damaged, last.silent, last.left_out, last.why) == (3, 1, 1, 1, "")
    first, *others = x.records()
    assert 0 <= first.pop("at_s") < 60
    assert first == {"command": "QPI", "hex": "2850493330"}
    assert [each["error"] for each in others] == ["crc", "no_answer"]
    assert [each.seq for each in x.heard()] == list(range(len(x.heard())))
    assert x.tap.listener is None
    x.tap("QPI", b"after")


def test_a_new_wish_ends_the_old_one_and_the_old_cannot_end_the_new(house, eventually):
    x = house()
    x.ask(wish("r1"))
    x.ask(wish("r1"))  # delivered twice
    eventually(lambda: x.heard("r1"))
    x.ask(wish("r2"))
    assert x.end("r1").why == "web:anna asked anew"
    eventually(lambda: x.heard("r2"))
    x.ask(wish("r1", seconds=0))
    x.tap("QPI", b"1")
    x.ask(wish("r2", seconds=0))
    assert x.end("r2").why == "cancelled"
    assert len(x.records("r2")) == 1
    assert [each.seq for each in x.heard("r1")] == list(range(len(x.heard("r1"))))


@pytest.mark.parametrize(
    ("wanted", "retain", "why"),
    [
        ({"expires_s": -1}, False, "it was to be begun by"),
        ({}, True, "it is retained"),
        ({"seconds": 601}, False, "seconds must be 1 to 600, or 0 to end it, got 601"),
        ({"seconds": -1}, False, "seconds must be"),
        ({"identity": "x" * 99}, False, "an id is 1 to 36"),
    ],
)
def test_what_is_refused_and_why(house, wanted, retain, why):
    x = house()
    asked = wish(**wanted)
    x.ask(asked, retain=retain)
    told = x.end(asked.id[:36])
    assert why in told.why
    assert (told.records, x.tap.listener) == ([], None)
    x.asker.publish(x.topics.trace("x"), b"", retain=True)


def test_what_is_no_wish_is_logged_and_not_answered(house, caplog):
    x = house()
    for payload in (b"", b"{", b'{"id":"r1"}', b"x" * 70_000):
        x.tracer.hear(Message("t", payload, False, False, 1, 1))
    assert caplog.text.count("x: not a wish for raw answers") == 3
    assert x.tap.listener is None


def test_memory_is_bounded_and_each_message_is_of_the_mesh(house, eventually):
    x = house()
    x.ask(wish())
    eventually(lambda: x.tap.listener)
    for number in range(400):
        x.tap(f"Q{number}", bytes(500))
    x.tap("huge", bytes(trace.RECORD_BYTES))
    x.ask(wish(seconds=0))
    last = x.end()
    assert last.answers == 401
    assert last.left_out == 401 - len(x.records()) > 100
    assert sum(len(bytes(r)) for f in x.heard() for r in f.records) <= trace.LIMIT_BYTES
    assert all(len(message.payload) < MAX_BYTES for message in x.said)
    assert len(x.heard()) >= trace.LIMIT_BYTES // trace.BATCH_BYTES - 1


def test_a_known_serial_number_stands_nowhere(house, eventually):
    serial = "92932105105335"
    x = house(secrets={serial, "7"})
    x.ask(wish())
    eventually(lambda: x.tap.listener)
    x.tap("QPIGS", b"(7 14" + serial.encode())
    x.tap(f"GET /{serial}", b"7")
    x.ask(wish(seconds=0))
    x.end()
    assert [each["command"] for each in x.records()] == ["QPIGS", f"GET /{'x' * 14}"]
    assert x.records()[0]["hex"] == b"(7 14".hex() + "xx" * 14
    assert trace.hidden(b'"31 32 33 34 35"', ["12345"]) == b'"xx xx xx xx xx"'


def test_a_family_that_cannot_says_what_to_do(mesh, topics, eventually):
    said = []
    asker = mesh("web")
    asker.subscribe(topics.frames("x"), lambda m: said.append(decode(Frames, m.payload)))
    poller = Poller("x", None, mesh("collector-meter"), interval_s=1)
    poller.listen()
    asker.publish(topics.trace("x"), encode(wish()))
    eventually(lambda: said)
    assert said[0].last
    assert said[0].why.endswith("while it runs: use `collector-meter record`")


def test_a_collector_that_stops_says_so(mesh, topics, eventually):
    said = []
    asker = mesh("web")
    asker.subscribe(topics.frames("x"), lambda m: said.append(decode(Frames, m.payload)))
    tap = Tap()
    poller = Poller("x", None, mesh("collector"), interval_s=1, tap=tap, capture=lambda: capture)
    poller.listen()
    asker.publish(topics.trace("x"), encode(wish()))
    eventually(lambda: tap.listener)
    poller.end()
    eventually(lambda: said and said[-1].last)
    assert said[-1].why == "the collector was stopped"
