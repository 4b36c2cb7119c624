"""The only file that talks to the database: items in, rows out, one transaction a batch.

Everything is idempotent: a batch may come twice, in pieces, or out of order, and the tables end
the same. Numbers go in as the text of one INSERT of thousands of rows; the driver's escaping of
each value would cost more than all the rest. Everything else, which is little, goes by the
driver's ``executemany``; ``insert().values(list)`` costs six times as much.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import repeat
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, func, select, tuple_, update
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sunmesh import vocabulary
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
from sunmesh.messages import RENEWED
from sunmesh.vocabulary import Kind
from sunmesh.voice import Condition

from .changes import Changes, Key
from .codec import CommandHeard, DecisionHeard, Gap, Item
from .spread import UNSTORED, Block, Device, Rows, Spreader, document_ms

log = logging.getLogger(__name__)

MAX_SERIES = 10_000
"""More series than any house has; what a mad publisher invents beyond them is refused."""

CAPPED_S = 600.0
"""The alarm about refused series stays for so long after the last one [s]."""

ROWS = 2000
"""Samples in one INSERT: about 60 kB, far below the smallest max_allowed_packet of 1 MiB."""


class RefusedRowError(SunmeshError):
    """The database is well but refuses what a message would store."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit added; what was there already is not counted."""

    samples: int = 0
    states: int = 0
    alarms: int = 0
    others: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.samples + self.states + self.alarms + self.others

    def __add__(self, other: "Written") -> "Written":
        """Both together."""
        return Written(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Written)))


class Store:
    """Writes batches, and remembers which series exist.

    Args:
        url: the database.
        migrate: called with the schema's revision, or None, when it is not :data:`tables.SCHEMA`.
        max_series: further ones are refused.
        new_series_a_minute: further ones are refused until the minute is over; None = no limit.
    """

    def __init__(
        self,
        url: str,
        migrate: Callable[[str | None], None],
        *,
        max_series: int = MAX_SERIES,
        new_series_a_minute: int | None = None,
    ) -> None:
        """Connects at the first write."""
        self.bad_values = self.refused_series = 0
        self._migrate = migrate
        self._max_series, self._a_minute = max_series, new_series_a_minute
        self._minute: tuple[float, int] = (0.0, 0)
        self._capped_at: float | None = None
        self._engine = engine(url)
        self._sqlite = self._engine.dialect.name == "sqlite"
        self._mark = mark = "?" if self._sqlite else "%s"
        self._insert_samples = insert(tables.sample, mark, self._sqlite)
        self._insert_states = insert(tables.state, mark, self._sqlite)
        self._insert_series = insert(tables.series, mark, self._sqlite, skip="id")
        self._insert_alarms = insert(tables.alarm, mark, self._sqlite)
        self._insert_settings = insert(tables.setting, mark, self._sqlite)
        self._insert_acks = insert(tables.acknowledgement, mark, self._sqlite)
        self._insert_commands = insert(tables.command, mark, self._sqlite)
        self._insert_decisions = insert(tables.decision, mark, self._sqlite)
        self._insert_gaps = insert(tables.gap, mark, self._sqlite)
        self._put_latest = upsert(tables.latest, mark, self._sqlite, guard="ts")
        self._put_devices = upsert(tables.device, mark, self._sqlite)
        self._spreader = Spreader()
        self._states = Changes(tables.state, ("series_id",), self._state_seen)
        self._settings = Changes(tables.setting, ("device", "name"), self._setting_seen)
        self._forget()

    def _forget(self) -> None:
        """Drop what is remembered of the database: it may be another one after a failure."""
        self._ready = False
        self._spreader.forget()
        self._states.forget()
        self._settings.forget()

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
            rows = self._spreader.spread(items)
            if rows.wanted:
                self._create(rows.wanted)
                rows = self._spreader.spread(items)
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
                self._spreader.devices[row.name] = Device(*row)
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
                what = f"{name} is a {entry.kind} in {entry.unit or 'no unit'} from now on"
                self._spreader.say(device, f"{what}; it was a {kind} in {unit or 'no unit'}")

    def _know(self, known: Iterable[tuple[int, str, str, str, str]]) -> None:
        """Remember series."""
        for number, device, name, _unit, kind in known:
            self._spreader.know(number, device, name, kind)

    @property
    def capped(self) -> Condition | None:
        """What is wrong while series are refused."""
        if self._capped_at is None or time.monotonic() - self._capped_at > CAPPED_S:
            return None
        return Condition(
            "warning",
            "New series are refused",
            f"{self.refused_series} times a new quantity of a device was not stored: there may be"
            f" {self._max_series} series, and so many new ones in a minute: {self._a_minute}. Look"
            " who publishes them; both are settings of the recorder",
            self.refused_series,
        )

    def _room(self, wanted: int) -> int:
        """How many of so many new series may be made now."""
        room = self._max_series - self._spreader.count
        if self._a_minute is not None:
            began, made = self._minute
            if time.monotonic() - began >= 60:
                self._minute = began, made = time.monotonic(), 0
            room = min(room, self._a_minute - made)
        room = max(0, min(room, wanted))
        self._minute = self._minute[0], self._minute[1] + room
        return room

    def _create(self, wanted: Mapping[tuple[str, str], Kind]) -> None:
        """Make new series, in a transaction of their own, and remember them.

        A second writer may be making the same: who comes second finds them.
        """
        keys = list(wanted)
        room = self._room(len(keys))
        if room < len(keys):
            self.refused_series += len(keys) - room
            self._capped_at = time.monotonic()
            if self._spreader.count + room >= self._max_series:
                why = f"there are {self._max_series} series already"
            else:
                why = f"{self._a_minute} are new within a minute; what follows waits for the next"
            for device, name in keys[room:]:
                self._spreader.say(device, f"{name} and others: not stored, {why}")
                break
        keys = keys[:room]
        if not keys:
            return
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
                    (*key, vocabulary.unit_of(key[1].partition("/")[0]), wanted[key].value)
                    for key in part
                    if key not in have
                ]
                if new:
                    connection.exec_driver_sql(self._insert_series, new)
                found += connection.execute(select(table).where(there)).all()
        self._know(tuple(row) for row in found)
        missing = set(keys) - {(row.device, row.name) for row in found}
        self._spreader.refused |= missing
        for device, name in missing:
            self._spreader.say(device, f"{name}: not stored, the database takes no further series")

    # -- the transaction ---------------------------------------------------------------------------

    def _commit(self, rows: Rows) -> Written:
        state_ends: dict[Key, Any] = {}
        setting_ends: dict[Key, Any] = {}
        samples = states = others = 0
        with self._engine.begin() as connection:
            if rows.blocks:
                samples = self._add_samples(connection, rows.blocks)
            if samples:  # what was there already has been marked then
                mark_dirty(connection, {block.ms for block in rows.blocks})
            if rows.states:
                changes, state_ends = self._states.find(connection, rows.states)
                states = self._many(connection, self._insert_states, changes)
            if rows.latest:
                latest = [(number, *row) for number, row in sorted(rows.latest.items())]
                self._many(connection, self._put_latest, latest)
            if rows.devices:
                devices = [
                    tuple(getattr(row, f.name) for f in fields(Device))
                    for row in rows.devices.values()
                ]
                self._many(connection, self._put_devices, devices)
            if rows.settings:
                found, setting_ends = self._settings.find(connection, rows.settings)
                settings = [(*key, ts, value) for key, ts, value in found]
                others += self._many(connection, self._insert_settings, settings)
            alarms = self._many(connection, self._insert_alarms, rows.alarms)
            others += self._many(connection, self._insert_acks, rows.acks)
            if rows.commands:
                others += self._add_commands(connection, rows.commands)
            for decision in rows.decisions:
                others += self._add_decision(connection, decision)
            for gap in rows.gaps:
                others += self._add_gap(connection, gap)
        self.bad_values += rows.bad
        self._states.remember(state_ends)
        self._settings.remember(setting_ends)
        self._spreader.devices |= rows.devices
        return Written(samples, states, alarms, others)

    def _add_samples(self, connection: Connection, blocks: list[Block]) -> int:
        if self._sqlite:
            rows = [row for ids, ms, numbers in blocks for row in zip(ids, repeat(ms), numbers)]
            return self._many(connection, self._insert_samples, rows)
        head = self._insert_samples.partition("(%s")[0]
        added = size = 0
        texts: list[str] = []
        for block in blocks:
            texts.append(_text(block))
            size += len(block.ids)
            if size >= ROWS:
                added += connection.exec_driver_sql(head + ",".join(texts)).rowcount
                texts, size = [], 0
        if texts:
            added += connection.exec_driver_sql(head + ",".join(texts)).rowcount
        return added

    @staticmethod
    def _many(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        if not rows:
            return 0
        return max(0, connection.exec_driver_sql(statement, list(rows)).rowcount)

    def _add_commands(self, connection: Connection, heard: list[CommandHeard]) -> int:
        """Stages of commands; a copy of a wish without an id is told by what it says.

        A lease that is renewed each minute would fill the table with rows that say nothing: wish
        and answer are left out.
        """
        table = tables.command
        rows: list[tuple[Any, ...]] = []
        renewals = {(stage.device, stage.id) for stage in heard if stage.detail == RENEWED}
        for device, identity in renewals:
            of_it = and_(table.c.device == device, table.c.id == identity)
            connection.execute(delete(table).where(of_it))
        for stage in heard:
            if (stage.device, stage.id) in renewals:
                continue
            if stage.twin:
                if any(row[0] == stage.device and row[1].startswith(stage.twin) for row in rows):
                    continue
                like = table.c.id.startswith(stage.twin, autoescape=True)
                mine = select(table.c.id).where(table.c.device == stage.device, like).limit(1)
                if connection.execute(mine).first() is not None:
                    continue
            rows.append(
                (
                    stage.device,
                    stage.id[: tables.ID_LENGTH],
                    stage.stage,
                    stage.ms,
                    stage.name[: tables.NAME_LENGTH],
                    stage.value,
                    stage.by and stage.by[: tables.DEVICE_LENGTH * 2],
                    stage.detail,
                )
            )
        return self._many(connection, self._insert_commands, rows)

    def _add_decision(self, connection: Connection, heard: DecisionHeard) -> int:
        """A decision that differs from the one before it, but for its time."""
        table = tables.decision
        before = (
            select(table.c.document)
            .where(table.c.rule == heard.device, table.c.ts <= heard.ms)
            .order_by(table.c.ts.desc())
            .limit(1)
        )
        known = connection.execute(before).scalar()
        if known is not None and _timeless(known) == _timeless(heard.document):
            return 0
        row = (heard.device, heard.ms, heard.document)
        return self._many(connection, self._insert_decisions, [row])

    def _add_gap(self, connection: Connection, gap: Gap) -> int:
        """A loss; of two that begin in the same moment both are told, in one row."""
        table = tables.gap
        row = (gap.started, gap.reason, gap.ended, gap.messages, gap.detail[: tables.TEXT_LENGTH])
        added = self._many(connection, self._insert_gaps, [row])
        if not added:
            connection.execute(
                update(table)
                .where(table.c.started == gap.started, table.c.reason == gap.reason)
                .where(table.c.ended < gap.ended)
                .values(ended=gap.ended, messages=gap.messages)
            )
        return added

    # -- until when a value was seen to hold -------------------------------------------------------

    @staticmethod
    def _state_seen(connection: Connection, key: Key, value: str) -> int | None:
        latest = tables.latest
        seen: int | None = connection.execute(
            select(latest.c.ts).where(
                latest.c.series_id == key,
                latest.c.text == value,
                func.coalesce(latest.c.quality, "").not_in(UNSTORED),
            )
        ).scalar()
        return seen

    def _setting_seen(self, _connection: Connection, key: Key, value: str) -> int | None:
        device, name = key
        row = self._spreader.devices.get(device)
        if row is None or row.settings is None:
            return None
        values = msgspec.json.decode(row.settings).get("values", {})
        is_same = name in values and msgspec.json.encode(values[name]).decode() == value
        return document_ms(row.settings) if is_same else None


@lru_cache(maxsize=2000)
def _template(ids: tuple[int, ...]) -> str:
    """Rows of these series, with places for a moment and for each number."""
    return ",".join([f"({number},T,%re0)" for number in ids])


def _text(block: Block) -> str:
    """A block as a list of SQL tuples: numbers only, so there is nothing to escape.

    The exponent makes a number a DOUBLE from the start, to the last bit; those that have one
    already take the longer way.
    """
    ids, ms, numbers = block
    text = _template(ids) % numbers
    if text.count("e") == len(ids):
        return text.replace("T", str(ms))
    return literal(zip(ids, repeat(ms), numbers))


def _timeless(document: str) -> Any:  # noqa: ANN401 - JSON as it came
    """A decision without its time."""
    found = msgspec.json.decode(document)
    if isinstance(found, dict):
        found.pop("ts", None)
    return found
