"""What services say of themselves, in rows and lines."""

from datetime import timedelta

import pytest
from sunmesh import clock as times
from sunmesh.messages import Health, Log, LogLine, ServiceStatus, encode
from sunmesh.mqtt import Message
from web.services import LINES, SERVICES, ServiceBook
from web.views.system import rows

DEVICES = {"inverter": {"family": "axpert"}, "annex": {"family": "axpert"}}


@pytest.fixture
def house(clock):
    return House(clock)


class House:
    def __init__(self, clock) -> None:
        self.clock = clock
        self.book = ServiceBook(None, DEVICES, clock)

    @property
    def now(self) -> str:
        return times.iso(self.clock.moment)

    def say(self, kind: str, service: str, content, *, retain: bool = False) -> "House":
        topic = f"sunmesh/home/services/{service}/{kind}"
        payload = content if isinstance(content, bytes) else encode(content)
        self.book.hear(Message(topic, payload, retain, False, 0, 0))
        return self

    def status(self, service: str, state: str = "online", started: str = "") -> "House":
        content = ServiceStatus(state, "1.2.3", "pi", started or self.now)
        return self.say("status", service, content)

    def health(self, service: str, **counters) -> "House":
        return self.say("health", service, Health(self.now, counters))

    def log(self, service: str, *lines: tuple[str, str]) -> "House":
        said = [LogLine(self.now, level, service, text) for level, text in lines]
        return self.say("log", service, Log(self.now, said))

    def row(self, service: str):
        return next(r for r in rows(self.book.services(), self.clock.moment) if r.name == service)


def test_a_service_that_a_device_needs_and_nobody_heard_is_named(house) -> None:
    row = house.row("collector-axpert")
    assert (row.state, row.tone) == ("never heard", "bad")
    assert row.facts == ("reads inverter, annex",)
    assert "start it" in row.advice


def test_a_service_from_its_start_to_its_silence(house, clock) -> None:
    house.status("recorder").health("recorder", rss_bytes=20 * 2**20, lag_s=0.4, spool_messages=0)
    row = house.row("recorder")
    assert (row.state, row.tone, row.version) == ("runs", "good", "1.2.3")
    assert "20 MiB of memory" in row.facts
    assert "0 messages wait" in row.facts
    clock.moment += timedelta(seconds=90)
    assert house.row("recorder").state == "runs"
    clock.moment += timedelta(seconds=20)
    assert (house.row("recorder").state, house.row("recorder").tone) == ("silent", "pending")
    house.status("recorder", "offline")
    assert house.row("recorder").state == "stopped"


def test_restarts_are_counted_once_each(house, clock) -> None:
    for _ in range(3):
        clock.moment += timedelta(seconds=10)
        began = house.now
        house.status("watch", started=began).status("watch", started=began)
    assert "started again 2 times while this portal watched" in house.row("watch").facts


def test_trouble_is_said(house) -> None:
    house.status("recorder").health(
        "recorder", lag_s=400.0, database_ok=0, log_errors=2, mqtt_connects=4, spool_messages=12345
    )
    row = house.row("recorder")
    assert row.notes == (
        "2 errors in its log",
        "lost the broker 3 times",
        "the database does not take what it has; it waits on the disk",
        "storing is late by 7\N{NO-BREAK SPACE}min",
    )
    assert "12,345 messages wait" in row.facts


def test_how_late_messages_arrive(house, clock) -> None:
    sent = times.iso(clock.moment - timedelta(milliseconds=120))
    house.status("watch").say("health", "watch", Health(sent, {}))
    assert "heard after 120\N{NO-BREAK SPACE}ms" in house.row("watch").facts
    old = times.iso(clock.moment - timedelta(seconds=25))
    house.say("health", "watch", Health(old, {}), retain=True)  # kept by the broker: says nothing
    assert "heard after 120\N{NO-BREAK SPACE}ms" in house.row("watch").facts


def test_lines_are_kept_once_and_found(house, clock) -> None:
    house.log("watch", ("INFO", "started"), ("WARNING", "Inverter lost"))
    house.log("watch", ("INFO", "started"), ("WARNING", "Inverter lost"), ("ERROR", "boom"))
    clock.moment += timedelta(seconds=1)
    house.log("recorder", ("INFO", "stored"))
    book = house.book
    assert [line.text for line in book.lines()][0] == "stored"
    assert sorted(line.text for line in book.lines()) == [
        "Inverter lost",
        "boom",
        "started",
        "stored",
    ]
    assert {line.text for line in book.lines(level="WARNING")} == {"Inverter lost", "boom"}
    assert [line.text for line in book.lines(text="inVERTER")] == ["Inverter lost"]
    assert [line.text for line in book.lines(service="recorder")] == ["stored"]
    assert book.names() == ["recorder", "watch"]


def test_memory_stays_small(house) -> None:
    for number in range(LINES + 50):
        house.log("watch", ("INFO", f"line {number}"))
    assert len(house.book.lines(most=9999)) == LINES
    for number in range(SERVICES * 3):
        house.status(f"x{number}")
    assert len(house.book.services()) <= SERVICES + 1


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("status", b"{"),
        ("status", b""),
        ("health", b'{"ts":"x","counters":{"a":NaN}}'),
        ("log", b'{"ts":"x","lines":[{"ts":1}]}'),
        ("log", b"\xff" * 100),
        ("odd", b"{}"),
    ],
)
def test_junk_is_dropped(house, kind, payload) -> None:
    house.say(kind, "watch", payload)
    assert [service.name for service in house.book.services()] == ["collector-axpert"]


def test_times_that_are_none_do_no_harm(house) -> None:
    house.say("log", "watch", Log(house.now, [LogLine("never", "LOUD", "watch", "hm")]))
    house.say("health", "watch", Health(house.now, {"rss_bytes": "many", "lag_s": None}))
    assert house.row("watch").state == "silent"  # it tells, but has not said that it runs
    assert [line.text for line in house.book.lines()] == ["hm"]
