"""Rollups as a slow and plain reference makes them, and a house to try ours in."""

import random
import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from recorder.rollup import Rollup
from sqlalchemy import Engine
from sunmesh.database.sql import engine, literal, mark_dirty

from .conftest import rows

MINUTE, HOUR = 60_000, 3_600_000
T0 = 1_790_002_800_000
"""A full hour in 2026 [ms]."""

Samples = dict[int, float]
Row = tuple[float, float, float, float, int, int]


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


def folded(found: dict[int, Row]) -> dict[int, Row]:
    """Minutes without a sample as a part of the row before, but for the first of a quarter."""
    rows: dict[int, Row] = {}
    ends = 0
    for ts, (low, high, mean, last, covered, samples) in sorted(found.items()):
        if samples or ts != ends or not ts % (15 * MINUTE):
            rows[ts] = begun = (low, high, mean, last, covered, samples)
            at = ts
        else:
            whole = begun[4] + covered
            mean = (begun[2] * begun[4] + mean * covered) / whole
            if not begun[5]:
                begun = (min(low, begun[0]), max(high, begun[1]), mean, last, whole, 0)
            else:
                begun = (*begun[:2], mean, begun[3], whole, begun[5])
            rows[at] = begun
        ends = ts + MINUTE
    return rows


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
            true = reference(samples, wanted)
            true = folded(true) if name == "minute" else true
            close(self.table(name, number), true, f"{name} of {number}")

    def marks(self) -> list[tuple[Any, ...]]:
        return rows(self.url, "SELECT ts, version FROM dirty WHERE consumer = 'rollup'")


SERIES = "INSERT INTO series (id, device, name, unit, kind) VALUES " + ", ".join(
    f"({n}, 'inverter', 'x{n}_w', 'W', 'gauge')" for n in range(1, 8)
)


def steady(start: int, end: int, period: int, seed: int = 1) -> Samples:
    draw = random.Random(seed)
    return {
        ts + draw.randrange(period // 10): round(draw.uniform(-500, 3000), 1)
        for ts in range(start, end, period)
    }
