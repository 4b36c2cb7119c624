"""What the database knows of past minutes, as the rules would have seen them.

Imported by a process of its own and by ``replay`` only: SQLAlchemy is 20 MiB that a resident
controller does without.
"""

import json
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, select
from sunmesh.database import history, tables
from sunmesh.messages import Value

from .rules import Plan, Source

MINUTE_MS = 60_000


class Change(NamedTuple):
    """A setting that had another value from ``ms`` on."""

    ms: int
    device: str
    name: str
    value: Value


class Past:
    """Reads minutes of what the rules look at.

    Args:
        connection: to the database.
        sources: what they look at.
    """

    def __init__(self, connection: Connection, sources: Iterable[Source]) -> None:
        self._connection = connection
        self._numbers: dict[Source, dict[int, int]] = {}
        self._words: dict[Source, int] = {}
        wanted = {(s.device, s.name): s for s in sources if s.kind == "quantity"}
        self.settings = sorted({(s.device, s.name) for s in sources if s.kind == "setting"})
        for row in connection.execute(select(tables.series)):
            name, _, place = row.name.partition("/")
            source = wanted.get((row.device, name))
            if source is None:
                continue
            if row.kind == "state":
                self._words[source] = row.id
            else:
                numbers = self._numbers.setdefault(source, {})
                numbers[int(place) - 1 if place.isdecimal() else 0] = row.id
        ids = [*self._words.values(), *(i for n in self._numbers.values() for i in n.values())]
        self._until = {i: last.ts for i, last in history.latest(connection, ids).items()}

    @property
    def missing(self) -> bool:
        """Whether nothing of it was ever stored."""
        return not self._numbers and not self._words

    def minutes(self, start: int, end: int) -> dict[tuple[str, str], dict[int, Value]]:
        """Every known minute of [start, end), by device and quantity; minutes are since 1970."""
        found: dict[tuple[str, str], dict[int, Value]] = {}
        for source, series in self._numbers.items():
            columns = {place: self._means(number, start, end) for place, number in series.items()}
            found[source.device, source.name] = _joined(columns)
        for source, number in self._words.items():
            others = [minutes for (device, _), minutes in found.items() if device == source.device]
            words = self._held(number, start, end)
            found[source.device, source.name] = {
                minute: value
                for minute, value in words.items()
                if not others or any(minute in minutes for minutes in others)
            }
        return found

    def _means(self, number: int, start: int, end: int) -> dict[int, float]:
        points = max(1, (end - start) // MINUTE_MS)
        curve = history.curve(self._connection, number, start, end, points)
        if curve.step_ms > MINUTE_MS:
            return {}  # minutes of that age are deleted
        sums: dict[int, list[float]] = {}
        for point in curve.points:
            sums.setdefault(int(point.ts) // MINUTE_MS, []).append(point.mean)
        return {minute: round(sum(v) / len(v), 6) for minute, v in sums.items()}

    def _held(self, number: int, start: int, end: int) -> dict[int, Value]:
        """The value at the end of each minute of what is stored when it changes."""
        table = tables.state
        mine = table.c.series_id == number
        before = (
            select(table.c.ts, table.c.value)
            .where(mine, table.c.ts < start)
            .order_by(table.c.ts.desc())
            .limit(1)
        )
        within = (
            select(table.c.ts, table.c.value)
            .where(mine, table.c.ts >= start, table.c.ts < end)
            .order_by(table.c.ts)
        )
        rows = [
            *self._connection.execute(before).all(),
            *self._connection.execute(within).all(),
        ]
        times = [int(row.ts) for row in rows]
        last = min(end, self._until.get(number, 0) + MINUTE_MS)
        held: dict[int, Value] = {}
        for minute in range(start // MINUTE_MS, -(-last // MINUTE_MS)):
            place = bisect_right(times, (minute + 1) * MINUTE_MS - 1) - 1
            if place >= 0:
                held[minute] = _word(rows[place].value)
        return held

    def changes(self, start: int, end: int) -> list[Change]:
        """Settings as they were at ``start``, and as they changed until ``end``, by time."""
        table = tables.setting
        found: list[Change] = []
        for device, name in self.settings:
            mine = (table.c.device == device, table.c.name == name)
            before = (
                select(table.c.ts, table.c.value)
                .where(*mine, table.c.ts <= start)
                .order_by(table.c.ts.desc())
                .limit(1)
            )
            within = (
                select(table.c.ts, table.c.value)
                .where(*mine, table.c.ts > start, table.c.ts < end)
                .order_by(table.c.ts)
            )
            rows = [
                *self._connection.execute(before).all(),
                *self._connection.execute(within).all(),
            ]
            if not rows:
                rows = list(
                    self._connection.execute(
                        select(table.c.ts, table.c.value).where(*mine).order_by(table.c.ts).limit(1)
                    ).all()
                )
            for place, row in enumerate(rows):
                ms = start if place == 0 else int(row.ts)
                found.append(Change(ms, device, name, msgspec.json.decode(row.value)))
        return sorted(found, key=lambda change: change.ms)


def _joined(columns: Mapping[int, Mapping[int, float]]) -> dict[int, Value]:
    """Elements of a list as one value; a single one as it is."""
    if list(columns) == [0]:
        return dict(columns[0])
    size = max(columns, default=0) + 1
    minutes = {minute for column in columns.values() for minute in column}
    return {
        minute: [columns.get(place, {}).get(minute) for place in range(size)] for minute in minutes
    }


def _word(text: str) -> Value:
    return {"true": True, "false": False}.get(text, text)


def rows(connection: Connection, plan: Plan, now_ms: int) -> list[tuple[str, str, int, Value]]:
    """The last minutes that any rule looks at."""
    end = now_ms - now_ms % MINUTE_MS
    start = end - (plan.longest + 1) * MINUTE_MS
    past = Past(connection, plan.sources)
    return [
        (device, name, minute, value)
        for (device, name), minutes in past.minutes(start, end).items()
        for minute, value in sorted(minutes.items())
        if value is not None
    ]


def main(site_path: Path) -> int:
    """Print :func:`rows` as JSON; the process that a controller starts at its start."""
    from sunmesh import clock, config
    from sunmesh.database.sql import engine

    from .loading import plan_of

    site = config.load(site_path, "controller")
    opened = engine(site.database.sqlalchemy_url(), read_only=True)
    with opened.connect() as connection:
        found = rows(connection, plan_of(site), clock.epoch_ms(clock.now()))
    opened.dispose()
    print(json.dumps(found))  # noqa: T201 - what the controller reads
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
