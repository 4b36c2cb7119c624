"""Batching and acknowledging, against a broker and a store that only note what is asked of them."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from recorder import codec, service
from recorder.codec import Item, is_raw
from recorder.config import RecorderConfig
from recorder.losses import summarize
from recorder.service import Recorder
from recorder.spool import Spool
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

    client_id = "recorder-home"
    connected = True

    def __init__(self) -> None:
        self.topics = Topics("home")
        self.acked: list[int] = []
        self.reconnects = 0
        self.connect: Callable[[], None] = lambda: None
        self.lose: Callable[[str], None] = lambda reason: None
        self.handlers: dict[str, Callable[[Message], None]] = {}
        self.published: list[tuple[str, dict[str, object]]] = []

    def on_connect(self, callback: Callable[[], None]) -> None:
        self.connect = callback

    def on_lost(self, callback: Callable[[str], None]) -> None:
        self.lose = callback

    def subscribe(self, pattern: str, handler: Callable[[Message], None], qos: int = 1) -> None:
        self.handlers[pattern] = handler

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert retain
        self.published.append((topic, json.loads(payload)))

    def ack_all(self, mids: Sequence[int]) -> None:
        self.acked += mids

    def reconnect(self) -> None:
        self.reconnects += 1


class FakeStore:
    """Notes batches; away or choosy on demand."""

    bad_values = refused_series = 0
    capped = None

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
    """A recorder between the two; without a folder that can be written, it has no spool."""

    def __init__(self, folder: Path, limit_bytes: int = 10_000_000, **settings: float) -> None:
        self.mesh, self.store = FakeMesh(), FakeStore()
        config = RecorderConfig(**{"linger_s": 0.3, **settings})  # type: ignore[arg-type]
        self.spool = Spool(folder, limit_bytes, is_raw, summarize)
        self.recorder = Recorder(config, self.mesh, self.store, self.spool)  # type: ignore[arg-type]
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def no_folder(tmp_path: Path) -> Path:
    """Where no folder can be made, whoever asks for it."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "spool"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RETRY_S", (0.02, 0.05))
    monkeypatch.setattr(service, "TEND_S", 0.05)


def count(house: House, name: str) -> float:
    found = house.recorder.counters()[name]
    return found if isinstance(found, int | float) else -1


def stored(house: House) -> list[int]:
    """The order in which samples reached the database."""
    return [item.ms - house.now for batch in house.store.batches for item in batch]


def test_acknowledged_in_order_once_the_spool_has_it(folder: Path) -> None:
    house = House(folder)
    house.store.away = True
    with house.working():
        for mid in range(1, 6):
            house.say(mid)
        wait(lambda: house.mesh.acked == [1, 2, 3, 4, 5])
        assert count(house, "spool_messages") == 5
        assert house.store.batches == []
        house.store.away = False
        wait(lambda: stored(house) == [1, 2, 3, 4, 5])
        wait(lambda: count(house, "spool_messages") == 0)
    assert len(house.store.batches) == 1
    assert {path.name for path in folder.iterdir()} <= {"lock", "broker.json"}


def test_what_was_not_stored_is_stored_by_the_next_recorder(folder: Path) -> None:
    house = House(folder)
    house.store.away = True
    with house.working():
        for mid in range(1, 6):
            house.say(mid)
        wait(lambda: house.mesh.acked == [1, 2, 3, 4, 5])
    after = House(folder)
    after.now = house.now
    with after.working():
        after.say(6)
        wait(lambda: after.mesh.acked == [6])
        wait(lambda: stored(after) == [1, 2, 3, 4, 5, 6])


def test_without_a_spool_acknowledged_in_order_and_after_the_commit(
    no_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(no_folder, linger_s=0.05)
    house.store.away = True
    with house.working():
        for mid in range(1, 6):
            house.say(mid)
        wait(lambda: count(house, "database_ok") == 0)
        wait(lambda: count(house, "spool_ok") == 0)
        wait(lambda: house.mesh.published)
        assert house.mesh.acked == []
        house.store.away = False
        wait(lambda: house.mesh.acked == [1, 2, 3, 4, 5])
        house.say(6)
        wait(lambda: house.mesh.acked == [1, 2, 3, 4, 5, 6])
    assert stored(house) == [1, 2, 3, 4, 5, 6]
    [(topic, alarm)] = house.mesh.published
    assert topic == "sunmesh/home/alarms/recorder/spool_failed"
    assert (alarm["state"], alarm["severity"]) == ("raised", "critical")
    assert (
        sum("cannot be written" in r.message for r in caplog.records if r.levelname == "ERROR") == 1
    )


def test_a_spool_that_comes_back_takes_what_was_held(tmp_path: Path, no_folder: Path) -> None:
    house = House(no_folder, linger_s=0.05)
    house.store.away = True
    with house.working():
        for mid in range(1, 31):
            house.say(mid)
        wait(lambda: count(house, "spool_ok") == 0)
        wait(lambda: count(house, "database_ok") == 0)
        assert house.mesh.acked == []
        (tmp_path / "file").unlink()
        wait(lambda: house.mesh.acked == list(range(1, 31)))
        assert count(house, "spool_messages") == 30
        wait(lambda: house.mesh.published[-1][1]["state"] == "cleared")
        house.store.away = False
        wait(lambda: stored(house) == list(range(1, 31)))


def test_at_rest_messages_share_a_write_and_a_commit(folder: Path) -> None:
    house = House(folder, linger_s=2)
    with house.working():
        house.say(1)
        pause = threading.Event()
        pause.wait(0.2)
        house.say(2)
        assert house.mesh.acked == []
        wait(lambda: house.mesh.acked == [1, 2])
        wait(lambda: count(house, "commits") == 1)
    assert count(house, "spool_syncs") == 1


def test_a_backlog_does_not_linger(folder: Path) -> None:
    """The broker of 20 in flight sends no more before these are acknowledged."""
    house = House(folder, linger_s=60)
    with house.working():
        for start in (1, 21):
            for mid in range(start, start + 20):
                house.say(mid, values=20)
            wait(lambda start=start: len(house.mesh.acked) == start + 19)  # type: ignore[misc]
        wait(lambda: len(stored(house)) == 40)
    assert len(house.store.batches) <= 3


def test_a_full_batch_does_not_linger(folder: Path) -> None:
    house = House(folder, linger_s=60, batch_rows=500)
    house.store.away = True
    with house.working():
        for mid in range(1, 51):
            house.say(mid, values=50)
        wait(lambda: len(house.mesh.acked) == 50)
        house.store.away = False
        wait(lambda: len(stored(house)) == 50)
    assert stored(house) == list(range(1, 51))


def test_what_waits_at_the_end_is_stored(folder: Path) -> None:
    house = House(folder, linger_s=60)
    with house.working():
        wait(lambda: count(house, "database_ok") == 1)
        house.say(1)
    assert house.mesh.acked == [1]
    assert stored(house) == [1]
    assert not [path for path in folder.iterdir() if path.suffix in (".open", ".full")]


def test_a_stop_while_the_database_is_away_keeps_what_there_is(folder: Path) -> None:
    house = House(folder, linger_s=60)
    house.store.away = True
    with house.working():
        wait(lambda: count(house, "database_ok") == 0)
        house.say(1)
    assert house.mesh.acked == [1]
    assert [path.suffix for path in sorted(folder.iterdir()) if "0" in path.name] == [".full"]


def test_bad_payloads_are_acknowledged_with_their_group_and_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(folder)
    with house.working():
        house.say(1)
        for mid in (2, 3):
            house.raw(mid, b"hello")
        house.raw(4, b"x" * 1_000_000)
        house.raw(5, b"")
        house.say(6)
        wait(lambda: house.mesh.acked == [1, 2, 3, 4, 5, 6])
        wait(lambda: stored(house) == [1, 6])
    assert count(house, "bad_payloads") == 3
    assert len([r for r in caplog.records if "not stored" in r.message]) == 2
    assert "1000000 bytes" in caplog.text


def test_one_row_that_the_database_refuses_costs_only_itself(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(folder)
    house.store.refuses = {house.now + 2}
    with house.working():
        for mid in (1, 2, 3):
            house.say(mid)
        wait(lambda: stored(house) == [1, 3])
    assert count(house, "refused_rows") == 1
    assert "the database refuses it: out of range" in caplog.text
    [line] = (folder / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)["topic"] == "sunmesh/home/a/telemetry"
    assert json.loads(json.loads(line)["payload"])["ts"] == iso(house.now + 2)


def test_a_message_that_our_own_code_fails_on_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(folder)
    real, write = codec.read, house.store.write

    def read(topic: str, payload: bytes, *more: object) -> Item | None:
        if b'"q2"' in payload:
            raise ZeroDivisionError("a bug")
        return real(topic, payload, *more)  # type: ignore[arg-type]

    def fail(items: list[Item]) -> Written:
        if any(item.ms == house.now + 3 for item in items):
            raise KeyError("another bug")
        return write(items)

    monkeypatch.setattr(codec, "read", read)
    monkeypatch.setattr(house.store, "write", fail)
    with house.working():
        house.say(1)
        house.say(2, values=3)
        house.say(3)
        house.say(4)
        wait(lambda: stored(house) == [1, 4])
        wait(lambda: count(house, "spool_messages") == 0)
    assert count(house, "refused_rows") == 2
    assert len((folder / "refused.jsonl").read_text().splitlines()) == 2


def test_lost_and_back_are_one_line_each(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "recorder")
    house = House(folder, linger_s=0.05)
    with house.working():
        house.say(1)
        wait(lambda: stored(house) == [1])
        house.store.away = True
        house.say(2)
        wait(lambda: count(house, "database_ok") == 0)
        house.say(3)
        threading.Event().wait(0.3)
        assert count(house, "spool_messages") == 2
        house.store.away = False
        wait(lambda: stored(house) == [1, 2, 3])
    assert [r.message for r in caplog.records if "database" in r.message] == [
        "the database is away: gone fishing; what comes waits in the spool",
        "the database is back",
    ]


def test_without_a_spool_what_finds_no_room_comes_again_in_order(no_folder: Path) -> None:
    house = House(no_folder, buffer_messages=10, linger_s=0.05)
    house.store.away = True
    with house.working():
        wait(lambda: count(house, "database_ok") == 0)
        for mid in range(1, 31):
            house.say(mid)
        wait(lambda: count(house, "overflows") == 1)
        house.store.away = False
        wait(lambda: house.mesh.reconnects == 1)
        kept = list(house.mesh.acked)
        assert kept == list(range(1, len(kept) + 1))
        house.say(30)  # still the old connection: an order that must not be broken
        house.mesh.connect()
        for mid in range(len(kept) + 1, 31):
            house.say(mid)
            wait(lambda mid=mid: mid in house.mesh.acked)  # type: ignore[misc]
        assert house.mesh.acked == list(range(1, 31))


def test_large_payloads_do_not_fill_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BUFFER_BYTES", 200_000)
    house = House(folder)
    for mid in range(1, 21):
        house.raw(mid, b"x" * 60_000)
    assert count(house, "buffered") == 4
    assert count(house, "overflows") == 1


def test_what_an_earlier_connection_brought_is_stored_but_not_acknowledged(folder: Path) -> None:
    house = House(folder)
    house.say(1)
    house.mesh.connect()
    house.say(1)
    house.say(2)
    with house.working():
        wait(lambda: house.mesh.acked == [1, 2])
        wait(lambda: stored(house) == [1, 1, 2])


def test_lag_tells_how_late_rows_come(folder: Path) -> None:
    house = House(folder)
    with house.working():
        house.say(1, ms=house.now - 60_000)
        wait(lambda: len(stored(house)) == 1)
        wait(lambda: 60 <= count(house, "lag_s") < 120)


def test_impossible_times_are_refused_and_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(folder)
    with house.working():
        house.say(1, ms=house.now + 3_600_000)
        house.say(2, ms=house.now + 3_600_000)
        house.say(3, ms=0)
        house.say(4)
        house.say(5, ms=house.now + 300_000)
        wait(lambda: len(stored(house)) == 2)
    assert sorted(stored(house)) == [4, 300_000]
    assert count(house, "refused_times") == 3
    assert sum("is in the future" in r.message for r in caplog.records) == 1
    assert sum("is before 2015" in r.message for r in caplog.records) == 1


def test_what_looks_too_new_waits_while_the_clock_of_the_machine_is_new(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(folder)
    machine = house.recorder._clock
    machine._settles_at = float("inf")
    with house.working():
        house.say(1, ms=house.now + 3_600_000)
        house.say(2)
        wait(lambda: "newer than the clock" in caplog.text)
        assert house.mesh.acked == [] or house.mesh.acked == [1, 2]
        assert count(house, "refused_times") == 0
        machine._settles_at = 0.0
        wait(lambda: stored(house) == [2])
        wait(lambda: count(house, "refused_times") == 1)
    assert house.mesh.acked == [1, 2]
