"""Batching and acknowledging, against a broker and a store that only note what is asked of them."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from recorder import service
from recorder.codec import Item
from recorder.config import RecorderConfig
from recorder.service import Recorder
from recorder.store import RefusedRowError, Written
from sunmesh import clock
from sunmesh.database.sql import DatabaseError
from sunmesh.mqtt import Message
from sunmesh.testing import wait_for
from sunmesh.topics import Topics

from .conftest import iso


def wait(predicate: Callable[[], object]) -> None:
    """Longer than a busy machine needs."""
    wait_for(predicate, 30)


class FakeMesh:
    """Notes acknowledgements and reconnects."""

    def __init__(self) -> None:
        self.topics = Topics("home")
        self.acked: list[int] = []
        self.reconnects = 0
        self.connect: Callable[[], None] = lambda: None

    def on_connect(self, callback: Callable[[], None]) -> None:
        self.connect = callback

    def subscribe(self, pattern: str, handler: object) -> None:
        pass

    def ack(self, message: Message) -> None:
        self.acked.append(message.mid)

    def reconnect(self) -> None:
        self.reconnects += 1


class FakeStore:
    """Notes batches; away or choosy on demand."""

    bad_values = 0

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.away = False
        self.refuses: set[int] = set()

    def write(self, items: list[Item]) -> Written:
        if self.away:
            raise DatabaseError("gone fishing")
        if any(item.ms in self.refuses for item in items):
            raise RefusedRowError("out of range")
        if items:
            self.batches.append(items)
        return Written(samples=len(items))

    def close(self) -> None:
        pass


class House:
    """A recorder between the two."""

    def __init__(self, **settings: float) -> None:
        self.mesh, self.store = FakeMesh(), FakeStore()
        config = RecorderConfig(**{"linger_s": 0.3, **settings})  # type: ignore[arg-type]
        self.recorder = Recorder(config, self.mesh, self.store)  # type: ignore[arg-type]
        self.mesh.connect()
        self.now = clock.epoch_ms(clock.now())

    def say(self, mid: int, ms: int | None = None, values: int = 1) -> None:
        body = {
            "v": 1,
            "ts": iso(self.now + mid if ms is None else ms),
            "values": {f"q{n}": 1.0 for n in range(values)},
        }
        self.raw(mid, json.dumps(body).encode())

    def raw(self, mid: int, payload: bytes) -> None:
        message = Message("sunmesh/home/a/telemetry", payload, False, False, 1, mid)
        self.recorder.receive(message)

    @contextmanager
    def working(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self.recorder.work, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()


def test_acknowledged_in_order_and_after_the_commit() -> None:
    house = House()
    for mid in range(1, 6):
        house.say(mid)
    house.store.away = True
    with house.working():
        wait(lambda: house.recorder.counters()["database_ok"] == 0)
        assert house.mesh.acked == []
        house.store.away = False
        wait(lambda: house.mesh.acked == [1, 2, 3, 4, 5])
    assert [len(batch) for batch in house.store.batches] == [5]


def test_at_rest_messages_share_a_commit() -> None:
    house = House(linger_s=2)
    with house.working():
        house.say(1)
        pause = threading.Event()
        pause.wait(0.2)
        house.say(2)
        assert house.mesh.acked == []
        wait(lambda: house.mesh.acked == [1, 2])
    assert house.recorder.counters()["commits"] == 1


def test_a_backlog_does_not_linger() -> None:
    """The broker of 20 in flight sends no more before these are acknowledged."""
    house = House(linger_s=60)
    with house.working():
        for mid in range(1, 21):
            house.say(mid, ms=house.now - 3_600_000 + mid, values=20)
        wait(lambda: len(house.mesh.acked) == 20)
    assert [len(batch) for batch in house.store.batches] == [20]


def test_a_full_batch_does_not_linger() -> None:
    house = House(linger_s=60, batch_rows=100)
    with house.working():
        for mid in range(1, 11):
            house.say(mid, values=50)
        wait(lambda: len(house.mesh.acked) == 10)
    assert [len(batch) for batch in house.store.batches] == [2] * 5


def test_what_waits_at_the_end_is_stored() -> None:
    house = House(linger_s=60)
    with house.working():
        wait(lambda: house.recorder.counters()["database_ok"] == 1)
        house.say(1)
    assert house.mesh.acked == [1]


def test_a_stop_while_the_database_is_away_is_quick_and_acknowledges_nothing() -> None:
    house = House()
    house.store.away = True
    with house.working():
        house.say(1)
        wait(lambda: house.recorder.counters()["database_ok"] == 0)
    assert house.mesh.acked == []


def test_bad_payloads_are_acknowledged_with_their_batch_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    with house.working():
        house.say(1)
        for mid in (2, 3):
            house.raw(mid, b"hello")
        house.raw(4, b"x" * 1_000_000)
        house.raw(5, b"")
        house.say(6)
        wait(lambda: house.mesh.acked == [1, 2, 3, 4, 5, 6])
    assert house.recorder.counters()["bad_payloads"] == 3
    assert len([r for r in caplog.records if "not stored" in r.message]) == 2
    assert "1000000 bytes" in caplog.text


def test_one_row_that_the_database_refuses_costs_only_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    house.store.refuses = {house.now + 2}
    with house.working():
        for mid in (1, 2, 3):
            house.say(mid)
        wait(lambda: house.mesh.acked == [1, 2, 3])
    assert [item.ms - house.now for batch in house.store.batches for item in batch] == [1, 3]
    assert house.recorder.counters()["refused_rows"] == 1
    assert "the database refuses it: out of range" in caplog.text


def test_lost_and_back_are_one_line_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RETRY_S", (0.02, 0.05))
    caplog.set_level("INFO", "recorder")
    house = House(linger_s=0.05)
    with house.working():
        house.say(1)
        wait(lambda: house.mesh.acked == [1])
        house.store.away = True
        house.say(2)
        wait(lambda: house.recorder.counters()["database_ok"] == 0)
        house.say(3)
        threading.Event().wait(0.3)
        assert house.recorder.counters()["buffered"] == 2
        house.store.away = False
        wait(lambda: house.mesh.acked == [1, 2, 3])
    assert [r.message for r in caplog.records if "database" in r.message] == [
        "the database is away: gone fishing; the broker keeps what comes",
        "the database is back",
    ]


def test_what_finds_no_room_comes_again_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RETRY_S", (0.02, 0.05))
    house = House(buffer_messages=10, linger_s=0.05)
    house.store.away = True
    with house.working():
        wait(lambda: house.recorder.counters()["database_ok"] == 0)
        for mid in range(1, 31):
            house.say(mid)
        assert house.recorder.counters()["overflows"] == 1
        house.store.away = False
        wait(lambda: house.mesh.reconnects == 1)
        kept = list(house.mesh.acked)
        assert kept == list(range(1, len(kept) + 1))
        house.say(30)  # still the old connection: an order that must not be broken
        house.mesh.connect()
        for mid in range(len(kept) + 1, 31):
            house.say(mid)
        wait(lambda: house.mesh.acked == list(range(1, 31)))
    assert house.mesh.reconnects == 1 + (house.recorder.counters()["overflows"] == 2)


def test_large_payloads_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BUFFER_BYTES", 200_000)
    house = House()
    for mid in range(1, 21):
        house.raw(mid, b"x" * 60_000)
    assert house.recorder.counters()["buffered"] == 4
    assert house.recorder.counters()["overflows"] == 1


def test_what_an_earlier_connection_brought_is_stored_but_not_acknowledged() -> None:
    house = House()
    house.say(1)
    house.mesh.connect()
    house.say(1)
    house.say(2)
    with house.working():
        wait(lambda: house.mesh.acked == [1, 2])
    assert sum(len(batch) for batch in house.store.batches) == 3


def test_lag_tells_how_late_rows_come() -> None:
    house = House()
    with house.working():
        house.say(1, ms=house.now - 60_000)
        wait(lambda: house.mesh.acked == [1])
        assert 60 <= float(house.recorder.counters()["lag_s"] or 0) < 120
