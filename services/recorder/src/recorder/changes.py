"""Values that are stored when they change: states of series, settings of devices."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, select

Key = Any
"""What has one value at a time: a series' number; or (device, name)."""


@dataclass(slots=True)
class Tail:
    """The end of a row of changes: the last one, and until when it was seen to hold."""

    ts: int
    value: str
    seen: int


class Changes:
    """One table of changes, and what is remembered of the end of each key's row.

    Args:
        table: with the columns ``ts`` and ``value`` behind those of the key.
        key: the names of the key's columns; one of them makes plain keys, more make tuples.
        seen: until when the newest row of a key was seen to hold, as far as the database says.
    """

    def __init__(
        self,
        table: Table,
        key: Sequence[str],
        seen: Callable[[Connection, Key, str], int | None],
    ) -> None:
        """Nothing is remembered."""
        self._table, self._seen = table, seen
        self._key = [table.c[name] for name in key]
        self._tails: dict[Key, Tail] = {}

    def forget(self) -> None:
        """The database may be another one."""
        self._tails.clear()

    def remember(self, tails: dict[Key, Tail]) -> None:
        """What :meth:`find` found is committed."""
        self._tails |= tails

    def find(
        self, connection: Connection, observed: list[tuple[Key, int, str]]
    ) -> tuple[list[tuple[Key, int, str]], dict[Key, Tail]]:
        """What of ``observed`` differs from the value before it in time, and the new ends.

        A late one is compared with its neighbours in the table. Where it interrupts the last row,
        that value is stored again from the moment it was last seen at, so that the end of a row
        is right whatever came late.
        """
        changes: list[tuple[Key, int, str]] = []
        tails: dict[Key, Tail] = {}
        for key, group in groupby(sorted(observed), key=itemgetter(0)):
            values = [(ts, value) for _key, ts, value in group]
            known = self._tails.get(key) or self._tail(connection, key)
            if known is None:
                tail = Tail(*values[0], seen=values[0][0])
                changes.append((key, *values.pop(0)))
            else:
                tail = replace(known)  # a copy: what is remembered changes only with the commit
                late = [(ts, value) for ts, value in values if ts < tail.ts]
                changes += [(key, *change) for change in self._late(connection, key, late)]
                values = values[len(late) :]
            for ts, value in values:
                if ts > tail.seen:
                    if value != tail.value:
                        changes.append((key, ts, value))
                        tail.ts, tail.value = ts, value
                    tail.seen = ts
                elif tail.ts < ts < tail.seen and value != tail.value:
                    changes += [(key, ts, value), (key, tail.seen, tail.value)]
                    tail.ts = tail.seen
            tails[key] = tail
        return changes, tails

    def _is(self, key: Key) -> ColumnElement[bool]:
        parts = key if len(self._key) > 1 else (key,)
        return and_(*(column == part for column, part in zip(self._key, parts, strict=True)))

    def _late(
        self, connection: Connection, key: Key, values: list[tuple[int, str]]
    ) -> list[tuple[int, str]]:
        """Those of ``values``, all before the last row, that the table does not say already."""
        if not values:
            return []
        table, mine = self._table, self._is(key)
        newest_first = select(table.c.value).where(mine).order_by(table.c.ts.desc()).limit(1)
        current = connection.execute(newest_first.where(table.c.ts < values[0][0])).scalar()
        between = table.c.ts.between(values[0][0], values[-1][0])
        stored = deque(
            connection.execute(
                select(table.c.ts, table.c.value).where(mine, between).order_by(table.c.ts)
            ).all()
        )
        new: list[tuple[int, str]] = []
        for ts, value in values:
            at: int | None = None
            while stored and stored[0].ts <= ts:
                at, current = stored.popleft()
            if at != ts and value != current:
                new.append((ts, value))
                current = value
        return new

    def _tail(self, connection: Connection, key: Key) -> Tail | None:
        table = self._table
        row = connection.execute(
            select(table.c.ts, table.c.value)
            .where(self._is(key))
            .order_by(table.c.ts.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            return None
        seen = self._seen(connection, key, row.value)
        return Tail(row.ts, row.value, max(row.ts, seen or 0))
