"""What the recorder looks out for: drops at the broker, rivals, the machine's clock, its alarms."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from recorder import watch
from recorder.codec import Gap
from recorder.watch import Alarms, Drops, MachineClock, Rivals
from sunmesh import clock
from sunmesh.mqtt import Mesh, Message
from sunmesh.testing import wait_for
from sunmesh.voice import Condition


def test_drops_are_what_the_counter_rose_by(tmp_path: Path) -> None:
    drops = Drops(tmp_path / "broker.json")
    assert drops.hear(b"7") is None  # before our time
    assert drops.hear(b"7") is None
    assert drops.condition is None
    gap = drops.hear(b"10")
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.messages) == ("broker_dropped", 3)
    assert gap.started <= gap.ended
    assert drops.condition is not None
    assert drops.condition.value == 3
    assert drops.hear(b"nonsense") is None


def test_a_broker_that_restarted_counts_from_nothing(tmp_path: Path) -> None:
    drops = Drops(tmp_path / "broker.json")
    drops.hear(b"10")
    assert drops.hear(b"0") is None
    gap = drops.hear(b"4")
    assert gap is not None
    assert gap.messages == 4
    gap = drops.hear(b"3")
    assert gap is not None
    assert gap.messages == 3
    assert drops.total == 7


def test_drops_while_the_recorder_was_away_are_seen(tmp_path: Path) -> None:
    before = Drops(tmp_path / "broker.json")
    before.hear(b"10")
    before.sure()
    before.save()
    known = json.loads((tmp_path / "broker.json").read_text())
    gap = Drops(tmp_path / "broker.json").hear(b"12")
    assert gap is not None
    assert (gap.started, gap.messages) == (known["at"], 2)
    assert Drops(tmp_path / "broker.json").condition is not None
    (tmp_path / "broker.json").write_text("half")
    assert Drops(tmp_path / "broker.json").hear(b"12") is None


def test_an_hour_without_drops_is_the_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = Drops(tmp_path / "none" / "broker.json")  # nothing is kept; nothing fails
    drops.hear(b"1")
    drops.hear(b"2")
    assert drops.condition is not None
    later = clock.now() + timedelta(seconds=watch.QUIET_S + 1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert drops.condition is None
    drops.hear(b"5")
    assert drops.condition is not None
    assert drops.condition.value == 3


def test_a_rival_is_named_or_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rivals = Rivals("recorder-home")
    for _ in range(20):  # a bad line, but a slow one
        now[0] += 20
        rivals.lost("Unspecified error")
    assert rivals.condition is None
    for _ in range(5):
        now[0] += 2
        rivals.lost("Unspecified error")
    assert rivals.condition is not None
    assert "seems to take over" in rivals.condition.text
    now[0] += watch.RIVAL_QUIET_S + 1
    assert rivals.condition is None
    rivals.lost("Session taken over")
    assert rivals.condition is not None
    assert "Another client took over the connection of recorder-home" in rivals.condition.text


def test_a_clock_is_asked_once_it_had_time_to_be_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda _which: 60.0)
    wall, mono = [1_790_000_000.0], [5.0]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    monkeypatch.setattr(time, "monotonic", lambda: mono[0])
    machine = MachineClock(600)
    assert not machine.is_settled  # the machine runs for a minute
    mono[0] += 541
    wall[0] += 541
    machine.tick()
    assert machine.is_settled
    wall[0] += 50  # slewed
    machine.tick()
    assert machine.is_settled
    wall[0] -= 3600
    machine.tick()
    assert not machine.is_settled
    assert "stepped by -3600 s" in caplog.text
    mono[0] += 601
    wall[0] += 601
    machine.tick()
    assert machine.is_settled
    assert machine.latest_ms(600) == int(wall[0] * 1000) + 600_000
    wall[0] = 3.0
    assert machine.latest_ms(600) is None


def test_alarms_are_raised_once_and_cleared_with_the_same_id(
    mesh: Callable[..., Mesh],
) -> None:
    client, reader = mesh("recorder"), mesh("reader")
    heard: list[Message] = []
    reader.subscribe(reader.topics.alarm("recorder", "+"), heard.append)
    alarms = Alarms(client)
    condition = Condition("warning", "Full", "The spool is full", 80)
    for _ in range(3):
        alarms.hold("spool_filling", condition, "over")
    wait_for(lambda: len(heard) == 1)
    alarms.hold("spool_filling", None, "over")
    alarms.hold("spool_filling", None, "over")
    wait_for(lambda: len(heard) == 2)
    raised, cleared = (json.loads(message.payload) for message in heard)
    assert (raised["state"], cleared["state"]) == ("raised", "cleared")
    assert (raised["id"], raised["value"]) == (cleared["id"], 80)
    assert cleared["text"] == "over"


def test_an_alarm_that_an_earlier_run_left_is_cleared(mesh: Callable[..., Mesh]) -> None:
    first = mesh("first")
    alarms = Alarms(first)
    alarms.hold("spool_failed", Condition("critical", "Failed", "The spool failed"), "over")
    assert first.drain(5)
    second = mesh("second")
    after = Alarms(second)
    wait_for(lambda: after.is_raised("spool_failed"))
    heard: list[Message] = []
    first.subscribe(first.topics.alarm("recorder", "+"), heard.append)
    after.hold("spool_failed", None, "over")
    wait_for(lambda: any(b'"cleared"' in message.payload for message in heard))
