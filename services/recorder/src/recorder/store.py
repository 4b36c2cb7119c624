"""The only file that talks to the database: items in, rows out, one transaction a batch.

Everything is idempotent: a batch may come twice, in pieces, or out of order, and the tables end
the same. Statements are made once and run by the driver's ``executemany`` over lists of tuples
(PyMySQL makes one multi-row INSERT of them); ``insert().values(list)`` costs six times as much.
"""

import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeGuard

from sqlalchemy import Connection, func, select, tuple_, update
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sunmesh import clock, vocabulary
from sunmesh.database import tables
from sunmesh.database.sql import (
    DatabaseError,
    engine,
    insert,
    literal,
    mark_dirty,
    reason,
    revision,
    upsert,
)
from sunmesh.errors import SunmeshError
from sunmesh.messages import Value
from sunmesh.vocabulary import Kind

from .codec import AlarmHeard, DocumentHeard, Item, StatusHeard, Telemetry

log = logging.getLogger(__name__)

UNSTORED = ("stale", "partial")
"""Qualities that keep a value out of the past: a counter of a lost device, half a group's sum."""

NAME = re.compile(r"[A-Za-z0-9_.-]{1,72}")
"""A quantity's name; a list's element adds ``/`` and its number."""

MAX_SERIES = 10_000
"""More series than any house has; what a mad publisher invents beyond them is refused."""

ROWS = 5000
"""Samples in one INSERT: about 150 kB, far below the smallest max_allowed_packet of 1 MiB."""

MAX_INT = 10**300
MAX_ELEMENTS = 256
MAX_ALARM_TEXT = 4000


class RefusedRowError(SunmeshError):
    """The database is well but refuses what a message would store."""


@dataclass(slots=True)
class Column:
    """Where a quantity of a device goes: one series, or one for each element of a list."""

    kind: Kind
    ids: list[int | None]


@dataclass(slots=True)
class Tail:
    """The end of a state series: its last row, and until when that was seen to hold."""

    ts: int
    value: str
    seen: int


@dataclass(frozen=True, slots=True)
class Device:
    """A row of ``device``."""

    name: str
    status: str | None = None
    status_since: int | None = None
    status_reason: str | None = None
    info: str | None = None
    settings: str | None = None
    updated: int = 0


Latest = tuple[int, float | None, str | None, str | None]
"""ts, value, text, quality."""


@dataclass(slots=True)
class Rows:
    """What a batch comes to."""

    samples: list[tuple[int, int, float]] = field(default_factory=list)
    states: list[tuple[int, int, str]] = field(default_factory=list)
    latest: dict[int, Latest] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    alarms: list[tuple[Any, ...]] = field(default_factory=list)
    wanted: dict[tuple[str, str], Kind] = field(default_factory=dict)
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit added; what was there already is not counted."""

    samples: int = 0
    states: int = 0
    alarms: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.samples + self.states + self.alarms

    def __add__(self, other: "Written") -> "Written":
        """Both together."""
        return Written(
            self.samples + other.samples,
            self.states + other.states,
            self.alarms + other.alarms,
        )


class Store:
    """Writes batches, and remembers which series exist.

    Args:
        url: the database.
        migrate: called with the schema's revision, or None, when it is not :data:`tables.SCHEMA`.
    """

    def __init__(self, url: str, migrate: Callable[[str | None], None]) -> None:
        """Connects at the first write."""
        self.bad_values = 0
        self._migrate = migrate
        self._engine = engine(url)
        self._sqlite = self._engine.dialect.name == "sqlite"
        mark = "?" if self._sqlite else "%s"
        self._insert_samples = insert(tables.sample, mark, self._sqlite)
        self._insert_states = insert(tables.state, mark, self._sqlite)
        self._insert_series = insert(tables.series, mark, self._sqlite, skip="id")
        self._insert_alarms = insert(tables.alarm, mark, self._sqlite)
        self._put_latest = upsert(tables.latest, mark, self._sqlite, guard="ts")
        self._put_devices = upsert(tables.device, mark, self._sqlite)
        self._said: set[tuple[str, str]] = set()
        self._forget()

    def _forget(self) -> None:
        """Drop what is remembered of the database: it may be another one after a failure."""
        self._ready = False
        self._count = 0
        self._columns: dict[str, dict[str, Column]] = {}
        self._refused: set[tuple[str, str]] = set()
        self._tails: dict[int, Tail] = {}
        self._devices: dict[str, Device] = {}

    def close(self) -> None:
        """Let the connection go."""
        self._engine.dispose()

    def write(self, items: Sequence[Item]) -> Written:
        """Store ``items`` and commit; all of them or none.

        Raises:
            DatabaseError: not now; the same items may be given again.
            RefusedRowError: never; one of the items is what the database does not take.
        """
        try:
            if not self._ready:
                self._prepare()
            rows = self._spread(items)
            if rows.wanted:
                self._create(rows.wanted)
                rows = self._spread(items)
            return self._commit(rows)
        except (DataError, IntegrityError) as err:
            self._forget()
            raise RefusedRowError(reason(err)) from err
        except (SQLAlchemyError, OSError) as err:
            self._forget()
            raise DatabaseError(reason(err)) from err
        except BaseException:
            self._forget()
            raise

    # -- what is there -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        """See to the schema, and load what is remembered."""
        with self._engine.connect() as connection:
            now = revision(connection)
        if now != tables.SCHEMA:
            self._migrate(now)
        known: list[tuple[int, str, str, str, str]] = []
        with self._engine.begin() as connection:
            for row in connection.execute(select(tables.series)):
                known.append(tuple(row))
            for row in connection.execute(select(tables.device)):
                self._devices[row.name] = Device(*row)
            self._adapt(connection, known)
        self._know(known)
        self._ready = True

    def _adapt(self, connection: Connection, known: list[tuple[int, str, str, str, str]]) -> None:
        """Where the vocabulary has learnt a name's unit or kind since, the series follows."""
        for index, (number, device, name, unit, kind) in enumerate(known):
            entry = vocabulary.VOCABULARY.get(name.partition("/")[0])
            if entry is not None and (entry.unit, entry.kind.value) != (unit, kind):
                known[index] = (number, device, name, entry.unit, entry.kind.value)
                connection.execute(
                    update(tables.series)
                    .where(tables.series.c.id == number)
                    .values(unit=entry.unit, kind=entry.kind.value)
                )

    def _know(self, known: Iterable[tuple[int, str, str, str, str]]) -> None:
        """Remember series."""
        for number, device, name, _unit, kind in known:
            columns = self._columns.setdefault(device, {})
            base, _, element = name.partition("/")
            self._count += 1
            if not element:
                columns[base] = Column(Kind(kind), [number])
                continue
            column = columns.setdefault(base, Column(Kind.LIST, []))
            index = int(element) - 1
            column.ids.extend([None] * (index + 1 - len(column.ids)))
            column.ids[index] = number

    def _create(self, wanted: Mapping[tuple[str, str], Kind]) -> None:
        """Make new series, in a transaction of their own, and remember them.

        A second writer may be making the same: who comes second finds them.
        """
        keys = list(wanted)
        room = max(0, MAX_SERIES - self._count)
        for key in keys[room:]:
            self._refused.add(key)
            self._say(key[0], f"{key[1]}: not stored, there are {MAX_SERIES} series already")
        keys = keys[:room]
        table = tables.series
        with self._engine.begin() as connection:
            found: list[Any] = []
            for start in range(0, len(keys), 200):
                part = keys[start : start + 200]
                there = tuple_(table.c.device, table.c.name).in_(part)
                have = {
                    (row.device, row.name) for row in connection.execute(select(table).where(there))
                }
                new = [
                    (*key, vocabulary.unit_of(_base(key[1])), wanted[key].value)
                    for key in part
                    if key not in have
                ]
                if new:
                    connection.exec_driver_sql(self._insert_series, new)
                found += connection.execute(select(table).where(there)).all()
        self._know(tuple(row) for row in found)
        missing = set(keys) - {(row.device, row.name) for row in found}
        self._refused |= missing
        for device, name in missing:
            self._say(device, f"{name}: not stored, the database takes no further series")

    # -- from items to rows ------------------------------------------------------------------------

    def _spread(self, items: Sequence[Item]) -> Rows:
        rows = Rows()
        for item in items:
            match item:
                case Telemetry():
                    self._spread_sample(item, rows)
                case StatusHeard() | DocumentHeard():
                    self._spread_device(item, rows)
                case AlarmHeard():
                    alarm = item.alarm
                    rows.alarms.append(
                        (
                            item.device,
                            item.code,
                            alarm.id[:64],
                            alarm.state,
                            alarm.severity,
                            alarm.title[: tables.TITLE_LENGTH],
                            alarm.text[:MAX_ALARM_TEXT],
                            item.ms,
                            float(alarm.value) if is_number(alarm.value) else None,
                        )
                    )
        return rows

    def _spread_sample(self, item: Telemetry, rows: Rows) -> None:
        columns = self._columns.get(item.device)
        if columns is None:
            columns = self._columns[item.device] = {}
        quality, ms = item.quality, item.ms
        for name, value in item.values.items():
            column = columns.get(name)
            if column is None:
                column = self._column(item.device, name, value, rows)
                if column is None:
                    continue
                columns[name] = column
            mark = quality.get(name) if quality else None
            if column.kind is Kind.STATE:
                self._spread_state(item, name, value, column, mark, rows)
            elif column.kind is Kind.LIST:
                self._spread_list(item, name, value, column, mark, rows)
            elif value is not None and not is_number(value):
                self._bad(rows, item.device, name, value, "a number")
            elif (number := column.ids[0]) is not None:
                _number(rows, number, ms, value, mark)
            elif value is not None:
                self._want(item.device, name, column, 0, rows)

    def _column(self, device: str, name: str, value: Value, rows: Rows) -> Column | None:
        """Where a quantity that this device never sent goes; None when nowhere (yet)."""
        known = vocabulary.VOCABULARY.get(name)
        if known is not None:
            return Column(known.kind, []) if known.kind is Kind.LIST else Column(known.kind, [None])
        if not NAME.fullmatch(name):
            rows.bad += 1
            self._say(device, f"{name[:80]!r} is no name of a quantity; not stored")
            return None
        kind = guess(value)
        if kind is None:
            return None
        self._say(device, f"{name} is not in the vocabulary; stored as a {kind}", logging.INFO)
        return Column(kind, [] if kind is Kind.LIST else [None])

    def _want(self, device: str, name: str, column: Column, index: int, rows: Rows) -> None:
        key = (device, f"{name}/{index + 1}" if column.kind is Kind.LIST else name)
        if key not in self._refused:
            rows.wanted[key] = column.kind

    def _spread_list(
        self, item: Telemetry, name: str, value: Value, column: Column, mark: str | None, rows: Rows
    ) -> None:
        if value is None:
            value = [None] * len(column.ids)
        if not isinstance(value, list) or len(value) > MAX_ELEMENTS:
            self._bad(rows, item.device, name, value, f"a list of up to {MAX_ELEMENTS} numbers")
            return
        if len(value) > len(column.ids):
            column.ids.extend([None] * (len(value) - len(column.ids)))
        for index, element in enumerate(value):
            number = column.ids[index]
            if element is not None and not is_number(element):
                self._bad(rows, item.device, name, element, "a number")
            elif number is not None:
                own = item.quality.get(f"{name}/{index + 1}", mark) if item.quality else None
                _number(rows, number, item.ms, element, own)
            elif element is not None:
                self._want(item.device, name, column, index, rows)

    def _spread_state(
        self, item: Telemetry, name: str, value: Value, column: Column, mark: str | None, rows: Rows
    ) -> None:
        number = column.ids[0]
        if number is None:
            if value is not None:
                self._want(item.device, name, column, 0, rows)
            return
        ms = item.ms
        word = None if value is None else as_text(value)
        if word is not None and len(word) > tables.TEXT_LENGTH:
            self._say(item.device, f"{name} is longer than {tables.TEXT_LENGTH}; cut")
            word = word[: tables.TEXT_LENGTH]
        if word is not None and mark not in UNSTORED:
            rows.states.append((number, ms, word))
        newest = rows.latest.get(number)
        if newest is None or ms > newest[0]:
            rows.latest[number] = (ms, None, word, mark and mark[: tables.QUALITY_LENGTH])

    def _spread_device(self, item: StatusHeard | DocumentHeard, rows: Rows) -> None:
        """What a device says about itself moves forward only."""
        old = rows.devices.get(item.device) or self._devices.get(item.device)
        row = old or Device(item.device)
        if isinstance(item, StatusHeard):
            if item.ms < (row.status_since or 0):
                return
            status = item.status
            row = replace(
                row,
                status=status.state,
                status_since=item.ms,
                status_reason=status.reason[: tables.TEXT_LENGTH],
            )
        elif item.kind == "info":
            if item.ms < _document_ms(row.info):
                return
            row = replace(row, info=item.document)
        else:
            if item.ms < _document_ms(row.settings):
                return
            row = replace(row, settings=item.document)
        if row != old:
            rows.devices[item.device] = replace(row, updated=max(row.updated, item.ms))

    def _bad(self, rows: Rows, device: str, name: str, value: object, wanted: str) -> None:
        rows.bad += 1
        self._say(device, f"{name} is not {wanted} but {type(value).__name__}; not stored")

    def _say(self, device: str, what: str, level: int = logging.WARNING) -> None:
        """One line, once, and none any more when there are too many."""
        if (device, what) not in self._said and len(self._said) < 1000:
            self._said.add((device, what))
            log.log(level, "%s: %s", device, what)

    # -- the transaction ---------------------------------------------------------------------------

    def _commit(self, rows: Rows) -> Written:
        samples = states = alarms = 0
        tails: dict[int, Tail] = {}
        with self._engine.begin() as connection:
            if rows.samples:
                rows.samples.sort()
                samples = self._add_samples(connection, rows.samples)
                mark_dirty(connection, [ms for _number, ms, _value in rows.samples])
            if rows.states:
                states = self._changes(connection, rows.states, tails)
            if rows.latest:
                latest = [(number, *row) for number, row in sorted(rows.latest.items())]
                self._many(connection, self._put_latest, latest)
            if rows.devices:
                devices = [
                    (
                        row.name,
                        row.status,
                        row.status_since,
                        row.status_reason,
                        row.info,
                        row.settings,
                        row.updated,
                    )
                    for row in rows.devices.values()
                ]
                self._many(connection, self._put_devices, devices)
            if rows.alarms:
                alarms = self._many(connection, self._insert_alarms, rows.alarms)
        self.bad_values += rows.bad
        self._tails |= tails
        self._devices |= rows.devices
        return Written(samples, states, alarms)

    def _add_samples(self, connection: Connection, samples: list[tuple[int, int, float]]) -> int:
        if self._sqlite:
            return self._many(connection, self._insert_samples, samples)
        head = self._insert_samples.partition("(%s")[0]
        return sum(
            connection.exec_driver_sql(head + literal(samples[at : at + ROWS])).rowcount
            for at in range(0, len(samples), ROWS)
        )

    @staticmethod
    def _many(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        return max(0, connection.exec_driver_sql(statement, list(rows)).rowcount)

    def _changes(
        self,
        connection: Connection,
        seen: list[tuple[int, int, str]],
        tails: dict[int, Tail],
    ) -> int:
        """Store the states that differ from the one before them in time.

        A late one is compared with its neighbours in the table. Where it interrupts the last row,
        that state is stored again from the moment it was last seen at, so that the end of a series
        is right whatever came late.
        """
        changes: list[tuple[int, int, str]] = []
        for number, group in groupby(sorted(seen), key=itemgetter(0)):
            states = [(ts, value) for _number, ts, value in group]
            known = self._tails.get(number) or self._tail(connection, number)
            if known is None:
                tail = Tail(*states[0], seen=states[0][0])
                changes.append((number, *states.pop(0)))
            else:
                tail = replace(known)  # a copy: what is remembered changes only with the commit
                late = [state for state in states if state[0] < tail.ts]
                changes += [(number, *state) for state in self._late(connection, number, late)]
                states = states[len(late) :]
            for ts, value in states:
                if ts > tail.seen:
                    if value != tail.value:
                        changes.append((number, ts, value))
                        tail.ts, tail.value = ts, value
                    tail.seen = ts
                elif tail.ts < ts < tail.seen and value != tail.value:
                    changes += [(number, ts, value), (number, tail.seen, tail.value)]
                    tail.ts = tail.seen
            tails[number] = tail
        return self._many(connection, self._insert_states, changes) if changes else 0

    def _late(
        self, connection: Connection, number: int, states: list[tuple[int, str]]
    ) -> list[tuple[int, str]]:
        """Those of ``states``, all before the last row, that the table does not say already."""
        if not states:
            return []
        table = tables.state
        mine = table.c.series_id == number
        newest_first = select(table.c.value).where(mine).order_by(table.c.ts.desc()).limit(1)
        current = connection.execute(newest_first.where(table.c.ts < states[0][0])).scalar()
        between = table.c.ts.between(states[0][0], states[-1][0])
        stored = deque(
            connection.execute(
                select(table.c.ts, table.c.value).where(mine, between).order_by(table.c.ts)
            ).all()
        )
        new: list[tuple[int, str]] = []
        for ts, value in states:
            at: int | None = None
            while stored and stored[0].ts <= ts:
                at, current = stored.popleft()
            if at != ts and value != current:
                new.append((ts, value))
                current = value
        return new

    def _tail(self, connection: Connection, number: int) -> Tail | None:
        state, latest = tables.state, tables.latest
        row = connection.execute(
            select(state.c.ts, state.c.value)
            .where(state.c.series_id == number)
            .order_by(state.c.ts.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            return None
        seen: int | None = connection.execute(
            select(latest.c.ts).where(
                latest.c.series_id == number,
                latest.c.text == row.value,
                func.coalesce(latest.c.quality, "").not_in(UNSTORED),
            )
        ).scalar()
        return Tail(row.ts, row.value, max(row.ts, seen or 0))


def _number(rows: Rows, number: int, ms: int, value: float | None, mark: str | None) -> None:
    """One number of one series: a sample unless its mark forbids that, and perhaps the newest."""
    if value is not None:
        value = float(value)
        if mark not in UNSTORED:
            rows.samples.append((number, ms, value))
    newest = rows.latest.get(number)
    if newest is None or ms > newest[0]:
        rows.latest[number] = (ms, value, None, mark and mark[: tables.QUALITY_LENGTH])


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a number that a DOUBLE holds; a truth is none."""
    if value.__class__ is float:
        return math.isfinite(value)
    return value.__class__ is int and -MAX_INT < value < MAX_INT


def _base(name: str) -> str:
    return name.partition("/")[0]


def guess(value: Value) -> Kind | None:
    """The kind of a quantity that the vocabulary does not have; None when its value says nothing.

    A number is a gauge: taking a counter for one costs nothing, the other way round would.
    """
    if value is None or value == []:
        return None
    if isinstance(value, list):
        if all(element is None for element in value):
            return None
        numbers = all(element is None or is_number(element) for element in value)
        return Kind.LIST if numbers else Kind.STATE
    return Kind.GAUGE if is_number(value) else Kind.STATE


def as_text(value: Value) -> str:
    """A state as it is stored: ``true``, a word, a number, or the elements joined by commas."""
    if isinstance(value, list):
        return ",".join(as_text(element) for element in value if element is not None)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _document_ms(document: str | None) -> int:
    """The time inside of a stored info or settings."""
    return 0 if document is None else clock.epoch_ms(clock.parse(json.loads(document)["ts"]))
