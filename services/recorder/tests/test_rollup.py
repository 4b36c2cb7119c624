"""Rollups against a slow and plain reference, on both databases."""

import random
import threading
from collections.abc import Iterator
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recorder import rollup
from recorder.lines import LIMIT, Curve, minutes
from recorder.rollup import Rollup
from sunmesh.database import sql, tables
from sunmesh.database.migrations import migrate
from sunmesh.database.sql import engine, mark_dirty
from sunmesh.testing import migrated

from .house import (
    HOUR,
    MINUTE,
    SERIES,
    T0,
    House,
    Samples,
    close,
    folded,
    reference,
    spans,
    steady,
)


@pytest.fixture
def house(url: str) -> Iterator[House]:
    migrated(url)
    made = House(url)
    made.execute(SERIES)
    yield made
    made.close()


# --- Pure -----------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> Samples:
    """Runs of one polling interval each, with pauses between them and readings in addition."""
    at, found = T0 + draw(st.integers(0, HOUR)), {}
    values = st.floats(-1e4, 1e4, width=32) | st.integers(-3, 3).map(float)
    pauses = st.sampled_from([0, 40, 90_000, 10 * MINUTE, 14 * MINUTE, 16 * MINUTE, 2 * HOUR])
    for _ in range(draw(st.integers(1, 4))):
        period = draw(st.sampled_from([700, 5_000, 20_000, 61_000, 300_000, 1_200_000]))
        jitter = draw(st.sampled_from([0, period // 20, period]))
        for _ in range(draw(st.integers(1, 25))):
            found[at] = draw(values)
            at += period + draw(st.integers(0, jitter))
        at += draw(pauses)
    return found


quickly = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quickly
@given(histories())
@example({T0: 1.0})
@example({T0: 1.0, T0 + MINUTE: 2.0})
def test_minutes_are_what_the_line_says(samples: Samples) -> None:
    every = spans(samples, MINUTE)
    base = min(samples) - 5000
    curve = Curve(
        base, [float(ts - base) for ts in sorted(samples)], [*map(samples.get, sorted(samples))]
    )
    found = {row[0]: row[1:] for row in minutes(curve, every[0][0], every[-1][1])}
    close(found, folded(reference(samples, every)), "minutes")


def test_by_hand() -> None:
    """0, 10 and 20 W at :00, :30 and :60 s, then 20 W once more 15 s later."""
    curve = Curve(T0, [0.0, 30_000.0, 60_000.0, 75_000.0], [0.0, 10.0, 20.0, 20.0])
    assert minutes(curve, T0, T0 + 3 * MINUTE) == [
        (T0, 0.0, 10.0, 10.0, 10.0, 60_000, 2),
        (T0 + MINUTE, 20.0, 20.0, 20.0, 20.0, 15_000, 2),
    ]


def test_an_extra_reading_makes_no_gap_and_a_lone_one_bridges_none() -> None:
    times = [5.0 * n for n in range(20)]
    extra = sorted([*times, 30.2])
    curve = Curve(T0, [ts * 1000 for ts in extra], [1.0] * 21)
    assert sum(row[5] for row in minutes(curve, T0, T0 + 2 * MINUTE)) == 95_000
    lone = [*times, 400.0, 700.0, *(700.0 + ts for ts in times[1:])]
    curve = Curve(T0, [ts * 1000 for ts in lone], [1.0] * len(lone))
    assert sum(row[5] for row in minutes(curve, T0, T0 + 15 * MINUTE)) == 2 * 95_000


# --- Both databases -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("houses")


@settings(quickly, max_examples=8)
@given(samples=histories(), draw=st.randoms(use_true_random=False))
def test_in_whatever_order_samples_come_and_go(
    samples: Samples, draw: random.Random, scratch: Path
) -> None:
    path = scratch / f"{len(list(scratch.iterdir()))}.db"
    opened = engine(f"sqlite:///{path}")
    tables.metadata.create_all(opened)
    opened.dispose()
    house = House(f"sqlite:///{path}", "Asia/Kolkata")
    house.execute(SERIES)
    try:
        end = max(samples) + HOUR
        undone = {ts: 7.5 for ts in (t + draw.randrange(1, 9) for t in samples) if ts % 3 == 0}
        undone = {ts: value for ts, value in undone.items() if ts not in samples}
        late = {ts for ts in samples if draw.random() < 0.2}
        first = {ts: v for ts, v in (samples | undone).items() if ts not in late}
        for part in (dict(list(sorted(first.items()))[at::3]) for at in range(3)):
            house.add(1, part)
            house.run(draw.choice([end, max(samples), max(samples) - 10 * MINUTE]))
        house.delete(1, undone)
        house.run(max(samples))
        house.add(1, {ts: samples[ts] for ts in late})
        house.run(end)
        assert house.marks() == []
        house.check(1, samples)
    finally:
        house.close()


def test_as_time_goes_by(house: House) -> None:
    """Two hours, the clock a minute at a time, dense and sparse series, an outage, late ones."""
    draw = random.Random(5)
    every = {
        1: steady(T0, T0 + 2 * HOUR, 5_000, 1),
        2: steady(T0, T0 + 2 * HOUR, 30_000, 2),
        3: steady(T0 + 900, T0 + 2 * HOUR, 300_000, 3),
        4: steady(T0, T0 + 40 * MINUTE, 5_000, 4) | steady(T0 + 52 * MINUTE, T0 + 2 * HOUR, 5_000),
        5: {T0 + 70 * MINUTE: 5.0},
        6: steady(T0, T0 + 2 * HOUR, 700_000, 6),
    }
    arrives = {
        (number, ts): ts + (draw.randrange(1, 30) * MINUTE if draw.random() < 0.02 else 300)
        for number, samples in every.items()
        for ts in samples
    }
    for now in range(T0, T0 + 3 * HOUR, 2 * MINUTE):
        for number, samples in every.items():
            house.add(
                number,
                {
                    ts: value
                    for ts, value in samples.items()
                    if now - 2 * MINUTE < arrives[number, ts] <= now
                },
            )
        house.run(now)
    assert house.marks() == []
    for number, samples in every.items():
        house.check(number, samples)


@pytest.mark.parametrize(
    ("zone", "days", "hours"),
    [
        ("Europe/Bratislava", [date(2026, 3, 28), date(2026, 3, 29)], [24, 23]),
        ("Europe/Bratislava", [date(2026, 10, 24), date(2026, 10, 25)], [24, 25]),
        ("Asia/Kolkata", [date(2026, 10, 24), date(2026, 10, 25)], [24, 24]),
        ("Asia/Kathmandu", [date(2026, 10, 24), date(2026, 10, 25)], [24, 24]),
        ("Australia/Lord_Howe", [date(2026, 4, 4), date(2026, 4, 5)], [24, 24.5]),
        ("America/Santiago", [date(2026, 9, 5), date(2026, 9, 6)], [24, 23]),
        ("America/Havana", [date(2026, 10, 31), date(2026, 11, 1)], [24, 25]),
    ],
)
def test_days_are_the_sites_own(sqlite_url: str, zone: str, days: list[date], hours: list) -> None:
    migrated(sqlite_url)
    house = House(sqlite_url, zone)
    house.execute(SERIES)
    noon = datetime(days[0].year, days[0].month, days[0].day, 12, tzinfo=house.zone)
    start = round(noon.timestamp() * 1000) - 20 * HOUR
    samples = steady(start, start + 60 * HOUR, 120_000)
    house.add(1, samples)
    house.run(start + 70 * HOUR)
    house.check(1, samples)
    begun = sorted(house.table("day"))
    lengths = {a: (b - a) / HOUR for a, b in pairwise(begun)}
    names = {
        datetime.fromtimestamp(ts / 1000, house.zone).date(): length
        for ts, length in lengths.items()
    }
    assert [names[day] for day in days] == hours
    house.close()


def test_doing_it_twice_changes_nothing(house: House) -> None:
    samples = steady(T0, T0 + HOUR, 5_000)
    house.add(1, samples)
    house.run(T0 + 2 * HOUR)
    before = {name: house.table(name) for name in ("minute", "hour", "day")}
    with house.other.begin() as connection:
        mark_dirty(connection, samples)
    assert house.run() == 12
    assert {name: house.table(name) for name in before} == before
    assert house.run() == 0


def test_a_stretch_rests_until_it_is_over_and_a_late_one_does_not(house: House) -> None:
    house.add(1, steady(T0, T0 + 100_000, 5_000))
    assert house.run(T0 + 200_000) == 0
    assert house.run(T0 + 329_999) == 0
    assert house.run(T0 + 330_000) == 1
    house.add(1, {T0 + 103_000: 9.0})
    assert house.run() == 1
    assert max(house.table("minute").items())[1][3] == 9.0


def test_large_steps_spare_the_card(house: House) -> None:
    house.start(step_ms=HOUR)
    samples = steady(T0, T0 + HOUR, 5_000)
    house.add(1, samples)
    assert house.run(T0 + HOUR + 29_000) == 0
    assert house.run(T0 + HOUR + 30_000) == 12
    house.check(1, samples)


def test_what_comes_while_it_works_is_not_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = steady(T0, T0 + 10 * MINUTE, 5_000)
    late = {T0 + 61_234: 12_345.0}
    house.add(1, samples)
    read = Rollup._make

    def slow(self: Rollup, *arguments: Any) -> Any:
        yield from read(self, *arguments)
        if late:
            house.add(1, dict([late.popitem()]))

    monkeypatch.setattr(Rollup, "_make", slow)
    house.now = T0 + HOUR
    house.rollup.step()
    assert [version for _ts, version in house.marks()] == [2]
    house.run()
    assert house.marks() == []
    house.check(1, samples | {T0 + 61_234: 12_345.0})


class KilledError(Exception):
    pass


@pytest.mark.parametrize("where", ["_clear", "_insert", "_hours", "_day", "_forget"])
def test_killed_anywhere_it_goes_on_later(
    house: House, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = steady(T0, T0 + 30 * MINUTE, 5_000)
    house.add(1, samples)
    marks = house.marks()

    def killed(*_arguments: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Rollup, where, staticmethod(killed))
        with pytest.raises(KilledError):
            house.run(T0 + HOUR)
    assert house.marks() == marks
    assert not house.table("minute")
    house.run(T0 + HOUR)
    house.check(1, samples)


def test_many_series_are_several_transactions(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "SERIES", 2)
    monkeypatch.setattr(rollup, "PACKED", 1)
    every = {number: steady(T0, T0 + 11 * MINUTE, 5_000, number) for number in (1, 2, 3, 5, 7)}
    for number, samples in every.items():
        house.add(number, samples)
    house.run(T0 + HOUR)
    for number, samples in every.items():
        house.check(number, samples)
    assert house.marks() == []


def test_numbers_that_are_no_readings_are_left_out(house: House) -> None:
    samples = steady(T0, T0 + 5 * MINUTE, 5_000)
    house.add(1, samples | {T0 + 61_111: 1.7e308, T0 + 61_222: -1.7e308, T0 + 61_333: LIMIT})
    house.add(2, {T0 + 5: 1.7e308})
    house.run(T0 + HOUR)
    house.check(1, samples)
    assert not house.table("minute", 2)


def test_a_backlog_is_seen_to_in_pieces_the_newest_first(house: House) -> None:
    samples = steady(T0, T0 + 30 * HOUR, 60_000)
    house.add(1, samples)
    house.now = T0 + 40 * HOUR
    house.rollup.step()
    assert min(house.table("minute")) >= T0 + 29 * HOUR
    house.run()
    assert house.rollup.totals.chunks > 4
    house.check(1, samples)


# --- After retention ------------------------------------------------------------------------------


def test_late_samples_do_not_spoil_what_was_made_of_deleted_ones(house: House) -> None:
    samples = steady(T0, T0 + 3 * HOUR, 5_000)
    house.add(1, samples)
    house.run(T0 + 4 * HOUR)
    before = {name: house.table(name) for name in ("minute", "hour", "day")}
    house.forget("sample", T0 + 2 * HOUR)
    house.add(1, {T0 + HOUR + 7: 99_999.0})
    with house.other.begin() as connection:
        mark_dirty(connection, [T0 + 2 * HOUR + 5])
    house.run()
    assert house.marks() == []
    assert {name: house.table(name) for name in before} == before


def test_an_import_into_empty_years_is_rolled_up(house: House) -> None:
    """Its samples are deleted by age soon after; what comes twice changes nothing."""
    house.forget("sample", T0 + 100 * HOUR)
    house.forget("minute", T0 + 100 * HOUR)
    samples = steady(T0, T0 + 3 * HOUR, 60_000)
    house.now = T0 + 1000 * HOUR
    pieces = [dict(list(samples.items())[at::4]) for at in range(4)]
    for piece in pieces:
        house.add(1, piece)
        house.run()
    house.check(1, samples)
    before = {name: house.table(name) for name in ("hour", "day")}
    house.forget("sample", T0 + 100 * HOUR)
    house.forget("minute", T0 + 100 * HOUR)
    for piece in pieces:
        house.add(1, piece)
        house.run()
    assert {name: house.table(name) for name in before} == before


def test_hours_outlive_their_minutes(house: House) -> None:
    samples = steady(T0, T0 + 3 * HOUR, 20_000)
    house.add(1, samples)
    house.run(T0 + 4 * HOUR)
    before = {name: house.table(name) for name in ("hour", "day")}
    house.forget("sample", T0 + 100 * HOUR)
    house.forget("minute", T0 + 100 * HOUR)
    house.add(1, {T0 + 5: 1.0, T0 + HOUR + 7: 99_999.0})
    house.run()
    assert {name: house.table(name) for name in before} == before


def test_a_cut_hour_of_another_zone_outlives_its_minutes(sqlite_url: str) -> None:
    migrated(sqlite_url)
    house = House(sqlite_url, "Asia/Kolkata")
    house.execute(SERIES)
    samples = steady(T0, T0 + 50 * HOUR, 60_000)
    house.add(1, samples)
    house.run(T0 + 60 * HOUR)
    before = house.table("day")
    house.forget("sample", T0 + 100 * HOUR)
    house.forget("minute", T0 + 100 * HOUR)
    house.add(1, {T0 + 20 * HOUR: 4.0})
    house.run()
    assert house.table("day") == before
    house.close()


def test_a_server_that_cuts_its_answer_is_an_error(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrated(database_url)
    monkeypatch.setattr(sql, "PACKED_BYTES", 4096)
    house = House(database_url)
    house.execute(SERIES)
    house.add(1, steady(T0, T0 + 10 * MINUTE, 1_000))
    with pytest.raises(ValueError, match="cut"):
        house.run(T0 + HOUR)
    house.close()


# --- The house moves, the tables come -------------------------------------------------------------


def test_days_are_made_again_when_the_zone_has_changed(url: str, tmp_path: Path) -> None:
    migrated(url)
    samples = steady(T0, T0 + 80 * HOUR, 300_000)
    for zone, moved in (("Europe/Bratislava", 0), ("Asia/Kolkata", 6), ("Asia/Kolkata", 0)):
        house = House(url, zone)
        if not house.table("day"):
            house.execute(SERIES)
            house.add(1, samples)
            house.run(T0 + 90 * HOUR)
        assert house.rollup.adapt(threading.Event()) == moved
        house.check(1, samples)
        house.close()


def test_a_house_of_the_first_schema_gets_its_rollups(url: str) -> None:
    migrate(url, "0001")
    house = House(url)
    house.execute(SERIES)
    samples = {1: steady(T0, T0 + 2 * HOUR, 10_000), 2: steady(T0, T0 + 5 * HOUR, 300_000, 2)}
    for number, each in samples.items():
        rows = ", ".join(f"({number}, {ts}, {value!r})" for ts, value in each.items())
        house.execute(f"INSERT INTO sample VALUES {rows}")
    migrated(url)
    assert house.run(T0 + 10 * HOUR) == 60
    for number, each in samples.items():
        house.check(number, each)
    house.close()
