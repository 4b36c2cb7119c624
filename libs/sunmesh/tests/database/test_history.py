"""Days, curves and newest values, from tables filled by hand."""

import math
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine
from sunmesh.database import sql
from sunmesh.database.history import DAY_MS, HOUR_MS, MINUTE_MS, Curve, by_day, curve, latest
from sunmesh.database.sql import engine
from sunmesh.testing import migrated

T0 = 1_790_002_800_000 // DAY_MS * DAY_MS


@pytest.fixture
def opened(url: str) -> Iterator[Engine]:
    migrated(url)
    made = engine(url)
    yield made
    made.dispose()


@pytest.fixture
def connection(url: str, opened: Engine) -> Iterator[Connection]:
    """Series 1: 3 days of samples every 10 s but for an hour; its rollups but for 4 minutes."""
    with opened.begin() as filling:
        samples = [
            (1, ts, wave(ts))
            for ts in range(T0, T0 + 3 * DAY_MS, 10_000)
            if not T0 + 5 * HOUR_MS <= ts < T0 + 6 * HOUR_MS
        ]
        put(filling, "INSERT INTO sample VALUES ", samples)
        for table, length in (("minute", MINUTE_MS), ("hour", HOUR_MS), ("day", DAY_MS)):
            end = T0 + 3 * DAY_MS - (4 * MINUTE_MS if table == "minute" else 0)
            rows = []
            for start in range(T0, end, length):
                own = [value for _id, ts, value in samples_in(samples, start, start + length)]
                if own:
                    mean = math.fsum(own) / len(own)
                    row = (1, start, min(own), max(own), mean, own[-1], length, len(own))
                    rows.append(row)
            put(filling, f"INSERT INTO `{table}` VALUES ", rows)
        newest = T0 + 3 * DAY_MS - 5 * MINUTE_MS
        put(filling, "INSERT INTO dirty VALUES ", [("rollup", newest, 1), ("books", T0, 1)])
        put(filling, "INSERT INTO latest VALUES ", [(1, T0 + 9, 4.5, None, "suspect")])
        put(filling, "INSERT INTO latest VALUES ", [(3, T0 + 8, None, "line", None)])
    reader = engine(url, read_only=True)
    with reader.connect() as reading:
        yield reading
    reader.dispose()


def wave(ts: int) -> float:
    return round(500 * math.sin(ts / 1e7), 3)


def samples_in(samples: list[tuple[int, int, float]], start: int, end: int) -> list:
    first = (start - T0) // 10_000
    near = samples[max(0, first - 400) : first + (end - start) // 10_000 + 400]
    return [sample for sample in near if start <= sample[1] < end]


def put(connection: Connection, head: str, rows: list) -> None:
    for at in range(0, len(rows), 2000):
        text = ", ".join(
            f"({', '.join('NULL' if v is None else repr(v) for v in row)})"
            for row in rows[at : at + 2000]
        )
        connection.exec_driver_sql(head + text)


def parts(found: Curve) -> list[tuple[int, int]]:
    """Where the line begins and ends."""
    starts = [at for at, point in enumerate(found.points) if not point.joined]
    return [
        (found.points[a].ts, found.points[b - 1].ts)
        for a, b in zip(starts, [*starts[1:], len(found.points)], strict=True)
    ]


def test_days(connection: Connection) -> None:
    found = by_day(connection, 1, T0 + DAY_MS, T0 + 3 * DAY_MS)
    assert [day.ts for day in found] == [T0 + DAY_MS, T0 + 2 * DAY_MS]
    values = [wave(ts) for ts in range(T0 + DAY_MS, T0 + 2 * DAY_MS, 10_000)]
    assert found[0].min == min(values)
    assert found[0].max == max(values)
    assert found[0].last == values[-1]
    assert found[0].mean == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    assert found[0].covered_ms == DAY_MS
    assert by_day(connection, 2, T0, T0 + DAY_MS) == []


def test_the_newest(connection: Connection) -> None:
    found = latest(connection, [1, 2, 3])
    assert found == {1: (1, T0 + 9, 4.5, None, "suspect"), 3: (3, T0 + 8, None, "line", None)}
    assert latest(connection, []) == {}
    assert all(type(each.ts) is int for each in found.values())


WIDTHS = [
    (1, 400, "sample", 0),
    (4, 400, "sample", 36_000),
    (24, 1440, "minute", MINUTE_MS),
    (24, 800, "minute", 2 * MINUTE_MS),
    (72, 300, "minute", 15 * MINUTE_MS),
    (72, 72, "hour", HOUR_MS),
    (72, 30, "hour", 3 * HOUR_MS),
    (72, 3, "day", DAY_MS),
]
"""Hours, points: from which level in which steps."""


def test_a_curve_is_from_the_level_that_is_fine_enough(connection: Connection) -> None:
    for hours, points, level, step in WIDTHS:
        look_at(connection, hours, points, level, step)


def look_at(connection: Connection, hours: int, points: int, level: str, step: int) -> None:
    end = T0 + 3 * DAY_MS
    start = end - hours * HOUR_MS
    found = curve(connection, 1, start, end, points)
    assert (found.level, found.step_ms) == (level, step)
    assert 0 < len(found.points) <= 2 * points
    times = [point.ts for point in found.points]
    assert times == sorted(set(times))
    assert start <= times[0]
    assert times[-1] < end
    assert end - times[-1] <= max(step, 10_000)
    for point in found.points:
        own = [
            wave(ts) for ts in range(point.ts + -point.ts % 10_000, point.ts + max(step, 1), 10_000)
        ]
        if len(own) > 1 and not T0 + 2 * HOUR_MS < point.ts < T0 + 7 * HOUR_MS and level != "day":
            assert point.min == min(own)
            assert point.max == max(own)
            assert point.mean == pytest.approx(math.fsum(own) / len(own), abs=1e-6)


def test_a_gap_stays_one(connection: Connection) -> None:
    lost, back = T0 + 5 * HOUR_MS, T0 + 6 * HOUR_MS
    for points, level in ((4000, "sample"), (1440, "minute"), (700, "minute"), (120, "minute")):
        found = curve(connection, 1, T0, T0 + DAY_MS, points)
        assert found.level == level
        (_begin, before), (after, _end) = parts(found)
        step = found.step_ms or 10_000
        assert lost - 2 * step < before < lost
        assert back - step < after < back + step
    assert curve(connection, 2, T0, T0 + DAY_MS, 800).points == []


def test_what_is_not_rolled_up_yet_is_there(connection: Connection) -> None:
    found = curve(connection, 1, T0 + 2 * DAY_MS, T0 + 3 * DAY_MS, 1440)
    assert found.points[-1].ts == T0 + 3 * DAY_MS - MINUTE_MS
    assert parts(found) == [(T0 + 2 * DAY_MS, T0 + 3 * DAY_MS - MINUTE_MS)]


def test_where_samples_are_gone_it_is_minutes_and_then_hours(
    connection: Connection, opened: Engine
) -> None:
    connection.rollback()
    with opened.begin() as changing:
        changing.exec_driver_sql(f"INSERT INTO horizon VALUES ('sample', {T0 + DAY_MS})")
    assert curve(connection, 1, T0, T0 + HOUR_MS, 400).level == "minute"
    assert curve(connection, 1, T0 + DAY_MS, T0 + DAY_MS + HOUR_MS, 400).level == "sample"
    connection.rollback()
    with opened.begin() as changing:
        changing.exec_driver_sql(f"INSERT INTO horizon VALUES ('minute', {T0 + DAY_MS})")
    assert curve(connection, 1, T0, T0 + DAY_MS, 1440).level == "hour"


def test_a_seldom_series_is_a_line_too(connection: Connection, opened: Engine) -> None:
    connection.rollback()
    with opened.begin() as changing:
        rows = [
            (5, T0 + n * 20 * MINUTE_MS, float(n), float(n), float(n), float(n), 0, 1)
            for n in range(72)
            if not 30 <= n < 40
        ]
        put(changing, "INSERT INTO `minute` VALUES ", rows)
    assert len(parts(curve(connection, 5, T0, T0 + DAY_MS, 1440))) == 2


def test_a_server_that_cuts_its_answer_is_asked_for_rows(
    url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = curve(connection, 1, T0, T0 + DAY_MS, 1440)
    monkeypatch.setattr(sql, "PACKED_BYTES", 4096)
    other = engine(url, read_only=True)
    with other.connect() as reading:
        assert curve(reading, 1, T0, T0 + DAY_MS, 1440) == wanted
        assert len(by_day(reading, 1, T0, T0 + 3 * DAY_MS)) == 3
    other.dispose()
