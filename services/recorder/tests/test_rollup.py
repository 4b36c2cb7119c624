"""Rollups against a slow and plain reference, on both databases."""

import random
import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recorder import rollup
from recorder.lines import LIMIT, Curve, minutes
from recorder.rollup import Rollup
from sqlalchemy import Engine
from sunmesh.database import tables
from sunmesh.database.migrations import migrate
from sunmesh.database.sql import engine, literal, mark_dirty

from .conftest import rows

MINUTE, HOUR = 60_000, 3_600_000
T0 = 1_790_002_800_000
"""A full hour in 2026 [ms]."""

Samples = dict[int, float]
Row = tuple[float, float, float, float, int, int]


# --- The reference --------------------------------------------------------------------------------


def lines(samples: Samples) -> list[tuple[int, int]]:
    """Pairs of times that are joined, as the module's docstring says it."""
    times = sorted(samples)
    pauses = [b - a for a, b in pairwise(times)]
    found = []
    for at, (a, b) in enumerate(pairwise(times)):
        near: list[int] = []
        for way in ((at - 1, at - 2), (at + 1, at + 2)):
            for other in way:
                if not 0 <= other < len(pauses) or pauses[other] > 15 * MINUTE:
                    break
                near.append(pauses[other])
        near.sort()
        if b - a <= 15 * MINUTE and (len(near) < 2 or b - a <= 3 * near[1]):
            found.append((a, b))
    return found


def reference(samples: Samples, spans: list[tuple[int, int]]) -> dict[int, Row]:
    """min, max, mean, last, covered_ms, samples of each stretch of time that has any."""
    starts = [start for start, _end in spans]
    own: dict[int, list[float]] = defaultdict(list)
    for ts in sorted(samples):
        own[bisect_right(starts, ts) - 1].append(samples[ts])
    area: dict[int, Fraction] = defaultdict(Fraction)
    covered: dict[int, int] = defaultdict(int)
    edges: dict[int, list[Fraction]] = defaultdict(list)
    for a, b in lines(samples):
        begun, ended = Fraction(samples[a]), Fraction(samples[b])
        for at in range(bisect_right(starts, a) - 1, bisect_left(starts, b)):
            x, y = max(a, spans[at][0]), min(b, spans[at][1])
            low, high = (begun + (ended - begun) * (ms - a) / (b - a) for ms in (x, y))
            edges[at] += [low, high]
            area[at] += (low + high) / 2 * (y - x)
            covered[at] += y - x
    found: dict[int, Row] = {}
    for at in own.keys() | covered.keys():
        if at in covered:
            mean = float(area[at] / covered[at])
        else:
            mean = float(sum(map(Fraction, own[at])) / len(own[at]))
        of = own.get(at) or [float(edge) for edge in edges[at]]
        row = (min(of), max(of), mean, of[-1], covered.get(at, 0), len(own.get(at, ())))
        found[starts[at]] = row
    return found


def spans(samples: Samples, length: int) -> list[tuple[int, int]]:
    first, last = min(samples) // length * length, max(samples)
    return [(at, at + length) for at in range(first, last + 1, length)]


def local_days(samples: Samples, zone: ZoneInfo) -> list[tuple[int, int]]:
    """Midnights, found by looking at the clock every quarter of an hour."""
    found, at = [], min(samples) // HOUR * HOUR - 26 * HOUR
    day = None
    while at < max(samples) + 26 * HOUR:
        now = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).date()
        if now != day:
            found.append(at)
            day = now
        at += HOUR // 4
    return list(pairwise(found))[1:]


def close(found: dict[int, Row], wanted: dict[int, Row], what: str) -> None:
    assert sorted(found) == sorted(wanted), what
    scale = max((abs(number) for row in wanted.values() for number in row[:4]), default=0)
    for ts, row in wanted.items():
        assert found[ts][4:] == row[4:], (what, ts)
        for mine, true in zip(found[ts][:4], row[:4], strict=True):
            assert abs(mine - true) <= 1e-12 * scale, (what, ts, found[ts], row)


# --- A house to try it in -------------------------------------------------------------------------


class House:
    """A database with series, and a clock of its own."""

    def __init__(self, url: str, zone: str = "Europe/Bratislava") -> None:
        self.url = url
        self.zone = ZoneInfo(zone)
        self.engine: Engine = engine(url, committed=True)
        self.other: Engine = engine(url)
        self.reader = engine(url, read_only=True) if url.startswith("sqlite") else None
        self.now = T0
        self.rollup = self.start()

    def start(self, **options: Any) -> Rollup:
        self.rollup = Rollup(
            self.engine, self.zone, reader=self.reader, now=lambda: self.now, **options
        )
        return self.rollup

    def close(self) -> None:
        self.engine.dispose()
        self.other.dispose()
        if self.reader:
            self.reader.dispose()

    def run(self, now: int | None = None) -> int:
        self.now = self.now if now is None else now
        return self.rollup.run(threading.Event())

    def execute(self, statement: str) -> None:
        with self.other.begin() as connection:
            connection.exec_driver_sql(statement)

    def add(self, number: int, samples: Samples) -> None:
        """As the recorder does: with their marks."""
        if not samples:
            return
        with self.other.begin() as connection:
            head = (
                "INSERT OR IGNORE INTO sample VALUES "
                if self.reader
                else "INSERT IGNORE INTO sample VALUES "
            )
            connection.exec_driver_sql(
                head + literal((number, ts, value) for ts, value in samples.items())
            )
            mark_dirty(connection, samples)

    def delete(self, number: int, times: Iterable[int]) -> None:
        """As the undoing of an import does."""
        times = list(times)
        with self.other.begin() as connection:
            for ts in times:
                connection.exec_driver_sql(
                    f"DELETE FROM sample WHERE series_id = {number} AND ts = {ts}"
                )
            mark_dirty(connection, times)

    def forget(self, level: str, before: int) -> None:
        """As retention does."""
        self.execute(f"DELETE FROM horizon WHERE level = '{level}'")
        self.execute(f"INSERT INTO horizon VALUES ('{level}', {before})")
        self.execute(f"DELETE FROM `{level}` WHERE ts < {before}")

    def table(self, name: str, number: int = 1) -> dict[int, Row]:
        return {
            row[0]: row[1:]
            for row in rows(
                self.url,
                "SELECT ts, `min`, `max`, mean, `last`, covered_ms, samples"
                f" FROM `{name}` WHERE series_id = {number}",
            )
        }

    def check(self, number: int, samples: Samples) -> None:
        """Every level against the reference."""
        if not samples:
            assert not self.table("minute", number)
            return
        for name, wanted in (
            ("minute", spans(samples, MINUTE)),
            ("hour", spans(samples, HOUR)),
            ("day", local_days(samples, self.zone)),
        ):
            close(self.table(name, number), reference(samples, wanted), f"{name} of {number}")

    def marks(self) -> list[tuple[Any, ...]]:
        return rows(self.url, "SELECT ts, version FROM dirty WHERE consumer = 'rollup'")


SERIES = "INSERT INTO series (id, device, name, unit, kind) VALUES " + ", ".join(
    f"({n}, 'inverter', 'x{n}_w', 'W', 'gauge')" for n in range(1, 8)
)


@pytest.fixture
def house(url: str) -> Any:
    migrate(url)
    made = House(url)
    made.execute(SERIES)
    yield made
    made.close()


def steady(start: int, end: int, period: int, seed: int = 1) -> Samples:
    draw = random.Random(seed)
    return {
        ts + draw.randrange(period // 10): round(draw.uniform(-500, 3000), 1)
        for ts in range(start, end, period)
    }


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
    close(found, reference(samples, every), "minutes")


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
    migrate(sqlite_url)
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
    assert min(house.table("minute")) > T0 + 29 * HOUR
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
    migrate(sqlite_url)
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
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    if house.reader:
        return
    monkeypatch.setattr(rollup, "PACK_BYTES", 4096)
    house.add(1, steady(T0, T0 + 10 * MINUTE, 1_000))
    with pytest.raises(ValueError, match="cut"):
        house.run(T0 + HOUR)
