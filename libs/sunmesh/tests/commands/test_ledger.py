"""Budgets, counts for life, and what a restart, a bad disk and a wrong clock do to them."""

import os
from datetime import date, timedelta

import pytest
from sunmesh.commands.ledger import Held, Ledger
from sunmesh.errors import RefusedError
from sunmesh.messages import Writes
from sunmesh.statefile import StateFile

TODAY = date(2026, 11, 21)
HELD = Held("SBU", "c1", "web:anna", "2026-11-21T12:00:00.000Z")


class Calendar:
    day = TODAY

    def __call__(self):
        return self.day


@pytest.fixture
def calendar():
    return Calendar()


@pytest.fixture
def ledger(tmp_path, calendar):
    return lambda budget=3: Ledger(StateFile(tmp_path / "x.json"), budget, calendar)


def test_a_budget_is_spent_and_comes_back_the_next_day_and_lives_are_counted(ledger, calendar):
    book = ledger()
    for left in (2, 1, 0):
        book.charge("bulk_voltage_v", ["c1"], HELD)
        assert book.left("bulk_voltage_v") == left
    assert book.left("float_voltage_v") == 3
    again = ledger()
    assert again.left("bulk_voltage_v") == 0, "a restart brings nothing"
    assert again.ids == ["c1"]
    calendar.day += timedelta(days=1)
    assert again.left("bulk_voltage_v") == 3
    assert again.writes() == {"bulk_voltage_v": Writes(0, 3, 3)}
    again.charge("bulk_voltage_v", [], HELD)
    assert again.counters() == {
        "writes_today": 1,
        "writes_lifetime": 4,
        "writes_lifetime_bulk_voltage_v": 4,
    }


def test_a_clock_that_goes_back_brings_no_new_budget_but_one_that_was_far_off_does(
    ledger, calendar
):
    book = ledger(1)
    book.charge("a", [], HELD)
    calendar.day -= timedelta(days=1)
    assert book.left("a") == 0
    calendar.day = date(2020, 1, 1)
    assert book.left("a") == 1


@pytest.mark.parametrize(
    "content", [b"", b'{"lifetime', b'{"lifetime": [1]}', b'{"today": {"a": "x"}}', b'{"day": "x"}']
)
def test_counts_that_cannot_be_read_count_as_spent_until_tomorrow(
    ledger, calendar, tmp_path, content
):
    (tmp_path / "x.json").write_bytes(content)
    for _ in range(2):  # the next start knows it, too
        assert ledger().left("a") == 0
    assert (tmp_path / "x.json.bad").read_bytes() == content
    calendar.day += timedelta(days=1)
    assert ledger().left("a") == 3


def test_what_cannot_be_counted_is_not_written(ledger, monkeypatch):
    book = ledger()

    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RefusedError, match="cannot be counted"):
        book.charge("a", [], HELD)


def test_what_was_set_is_watched_by_the_next_start(ledger):
    book = ledger()
    book.hold("output_source_priority", HELD)
    book.hold("bulk_voltage_v", HELD)
    book.release("bulk_voltage_v")
    assert book.save([])
    assert dict(ledger().held) == {"output_source_priority": HELD}
