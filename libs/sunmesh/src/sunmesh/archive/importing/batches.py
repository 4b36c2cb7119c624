"""Storing a plan, and taking what was stored back; the recorder may be running meanwhile.

A batch's row is there before its first sample, and what belongs to a piece (the samples, which
they are, what is to be summed up anew) is one transaction: whoever is killed leaves a batch that
the same import goes on with, or that can be undone.
"""

import getpass
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, tuple_, update

from ... import clock
from ...database import energy as books
from ...database import tables
from ...database.sql import engine, literal, mark_dirty
from ...database.sql import insert as insert_statement
from ...errors import SunmeshError
from ...vocabulary import VOCABULARY, Kind, unit_of
from . import retired, stamps
from .plan import Plan, Progress
from .times import HOUR_MS

ROWS = 20_000
"""Samples in one transaction, about: a second of a slow card."""
STATEMENT = 5000
PAUSE_S = 0.02
"""Between two transactions on SQLite, which else would give the recorder no turn [s]."""
CHANGES = 200_000
"""Stretches of energy in one correction of the books."""
PARTS = 50

_batch = tables.import_batch
_part = tables.import_part


class BatchError(SunmeshError):
    """There is no such import, or it cannot be undone now; the text says why."""


@dataclass(frozen=True, slots=True)
class Batch:
    """An import that was stored.

    Attributes:
        id: its number.
        created: when [ms].
        format: of its files.
        file: their names.
        samples: what it added: samples and states.
        edits: its corrections of the books.
        state: ``running`` (or killed), ``complete``, ``undoing`` or ``undone``.
        undone: when [ms].
        document: more: mapping, zone, files, settings, series made for it.
    """

    id: int
    created: int
    format: str
    file: str
    samples: int
    edits: tuple[int, ...]
    state: str
    undone: int | None
    document: dict[str, Any]

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """First and last moment of each series and flow that it added to [ms]."""
        return {name: (span[0], span[1]) for name, span in self.document["ranges"].items()}


def listed(url: str) -> list[Batch]:
    """All imports, the newest first."""
    opened = engine(url, read_only=True)
    try:
        with opened.connect() as connection:
            return [
                _read(row)
                for row in connection.execute(select(_batch).order_by(_batch.c.id.desc()))
            ]
    finally:
        opened.dispose()


def _read(row: Any) -> Batch:  # noqa: ANN401 - a row
    document = json.loads(row.document)
    state = "undone" if row.undone is not None else document["state"]
    edits = tuple(document["edits"])
    return Batch(
        *(row.id, row.created, row.format, row.file, row.samples, edits, state),
        row.undone,
        document,
    )


def _get(connection: Connection, number: int) -> Batch:
    row = connection.execute(
        select(_batch).where(_batch.c.id == number).with_for_update()
    ).one_or_none()
    if row is None:
        raise BatchError(f"there is no import {number}")
    return _read(row)


def _write(connection: Connection, batch: Batch, **changes: Any) -> None:  # noqa: ANN401
    """Change the batch's document, and its row where ``samples`` or ``undone`` is given."""
    columns = {key: changes.pop(key) for key in ("samples", "undone") if key in changes}
    batch.document.update(changes)
    edits = batch.document["edits"]
    connection.execute(
        update(_batch)
        .where(_batch.c.id == batch.id)
        .values(
            document=json.dumps(batch.document, ensure_ascii=False),
            edit_id=edits[-1] if edits else None,
            **columns,
        )
    )


def user() -> str:
    """Who asks, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


# -- storing ---------------------------------------------------------------------------------------


def apply(
    plan: Plan, url: str, *, by: str = "", progress: Progress = lambda what, done: None
) -> int | None:
    """Store what ``plan`` says is new; all of it, or nothing when it is interrupted or fails.

    Args:
        plan: as made; the database may have moved on since.
        url: the site's database.
        by: who asks.
        progress: told now and then.

    Returns:
        The batch's number, for :func:`undo`; None when there was nothing to store.

    Raises:
        SQLAlchemyError: the database does not answer; what was stored is taken back, or the batch
            stays listed as running where even that fails.
    """
    opened = engine(url, patient=True)
    number: int | None = None
    try:
        if plan.changes_nothing:
            _finish(opened, plan)
            return None
        storing = _Storing(plan, opened, by or user(), progress)
        number = storing.open()
        storing.run()
    except BaseException:
        if number is not None:
            progress("taken back", 0)
            _undo(opened, number, plan.options.site_zone, by or user(), progress)
        raise
    finally:
        opened.dispose()
    return number


def fingerprint(plan: Plan) -> str:
    """SHA-256 over the files' own: of one file it is that file's."""
    sums = [source.sha256 for source in plan.sources]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()


def _finish(opened: Engine, plan: Plan) -> None:
    """An import of these files that was killed after its last sample is complete."""
    with opened.begin() as connection:
        for batch in _unfinished(connection, plan):
            _write(connection, batch, state="complete")


def _unfinished(connection: Connection, plan: Plan) -> list[Batch]:
    rows = connection.execute(
        select(_batch).where(_batch.c.sha256 == fingerprint(plan), _batch.c.undone.is_(None))
    ).all()
    return [batch for batch in map(_read, rows) if batch.state == "running"]


class _ThereError(Exception):
    """A sample was stored by somebody else since the plan was made."""


class _Storing:
    """One application of a plan."""

    def __init__(self, plan: Plan, opened: Engine, by: str, progress: Progress) -> None:
        self._plan = plan
        self._engine = opened
        self._by = by
        self._progress = progress
        self._sqlite = opened.dialect.name == "sqlite"
        mark = "?" if self._sqlite else "%s"
        self._insert = insert_statement(tables.sample, mark, self._sqlite)
        self._insert_words = insert_statement(tables.state, mark, self._sqlite)
        self._ids: dict[int, int] = {}
        self._done = 0
        self._number = 0

    def open(self) -> int:
        """Make the batch and the series that it needs, in one transaction; returns its number.

        An import of the same files that was killed is gone on with.
        """
        plan = self._plan
        sha256 = fingerprint(plan)
        with self._engine.begin() as connection:
            made = self._series(connection)
            for before in _unfinished(connection, plan):
                self._number = before.id
                self._done = before.samples
                _write(
                    connection,
                    before,
                    series=sorted({*before.document["series"], *made}),
                    ranges=_joined(before.document["ranges"], plan.ranges),
                )
                return before.id
            document = {
                "state": "running",
                "by": self._by,
                "files": [
                    {"name": each.path.name, "sha256": each.sha256, "bytes": each.size}
                    for each in plan.sources
                ],
                "zone": str(plan.options.zone),
                "devices": dict(plan.options.devices),
                "mapping": _mapping(plan),
                "series": sorted(made),
                "settings": [],
                "edits": [],
                "ranges": plan.ranges,
            }
            names = ", ".join(each.path.name for each in plan.sources)
            key = connection.execute(
                insert(_batch).values(
                    created=clock.epoch_ms(clock.now()),
                    format=plan.format.name,
                    file=names[: tables.TEXT_LENGTH],
                    sha256=sha256,
                    samples=0,
                    document=json.dumps(document, ensure_ascii=False),
                )
            ).inserted_primary_key
            assert key is not None  # noqa: S101 - an autoincrement gives one
            self._number = int(key[0])
        return self._number

    def _series(self, connection: Connection) -> set[int]:
        """Find or make the series of all that is new; returns the numbers of those made."""
        scratch = self._plan.scratch
        wanted = {
            row[0]
            for table in ("fresh", "fresh_word")
            for row in scratch.db.execute(f"SELECT DISTINCT series FROM {table}")  # noqa: S608
        }
        keys = {
            index: (scratch.series[index].device, scratch.series[index].name) for index in wanted
        }
        table = tables.series
        found = _ids(connection, list(keys.values()))
        missing = [index for index in sorted(wanted) if keys[index] not in found]
        for index in missing:
            device, name = keys[index]
            entry = VOCABULARY.get(name.partition("/")[0])
            unit = entry.unit if entry else unit_of(name.partition("/")[0])
            connection.execute(
                insert(table).values(
                    device=device, name=name, unit=unit, kind=scratch.series[index].kind.value
                )
            )
        found |= _ids(connection, [keys[index] for index in missing])
        self._ids = {index: found[key] for index, key in keys.items()}
        return {self._ids[index] for index in missing}

    def run(self) -> None:
        """Store everything, piece by piece."""
        for start, end in self._windows():
            careful = False
            while not self._window(start, end, careful):
                careful = True  # somebody stored one of them just now: look before
            self._pause()
        self._settings()
        self._energies()
        books.transact(
            self._engine,
            lambda connection: _write(connection, _get(connection, self._number), state="complete"),
        )

    def _pause(self) -> None:
        self._progress("stored", self._done)
        if self._sqlite:
            time.sleep(PAUSE_S)

    def _windows(self) -> Iterator[tuple[int, int]]:
        """Stretches of time with about :data:`ROWS` new values each, over all series."""
        hours = sorted(self._plan.hours)
        start, count = None, 0
        for hour in hours:
            if start is None:
                start = hour
            count += self._plan.hours[hour]
            if count >= ROWS:
                yield start, hour + HOUR_MS
                start, count = None, 0
        if start is not None:
            yield start, hours[-1] + HOUR_MS

    def _window(self, start: int, end: int, careful: bool) -> bool:
        """Store [start, end); False, and nothing stored, when something of it is there already."""
        try:
            self._done += books.transact(
                self._engine, lambda connection: self._store(connection, start, end, careful)
            )
        except _ThereError:
            return False
        return True

    def _store(self, connection: Connection, start: int, end: int, careful: bool) -> int:
        db = self._plan.scratch.db
        added = 0
        dirty: set[int] = set()
        for index in sorted(self._ids, key=self._ids.__getitem__):
            number = self._ids[index]
            is_word = self._plan.scratch.series[index].kind is Kind.STATE
            rows = db.execute(
                f"SELECT ms, value FROM {'fresh_word' if is_word else 'fresh'}"  # noqa: S608
                " WHERE series = ? AND ms >= ? AND ms < ? ORDER BY ms",
                (index, start, end),
            ).fetchall()
            if rows and careful:
                rows = _absent(connection, number, is_word, rows)
            if not rows:
                continue
            if self._add(connection, number, is_word, rows) != len(rows):
                raise _ThereError
            times = [ms for ms, _value in rows]
            connection.execute(
                insert(_part).values(
                    batch_id=self._number,
                    series_id=number,
                    first=times[0],
                    count=len(times),
                    stamps=stamps.pack(times),
                )
            )
            added += len(times)
            if not is_word:
                dirty.update(ms - ms % tables.DIRTY_MS for ms in times)
        mark_dirty(connection, dirty)
        connection.execute(
            update(_batch)
            .where(_batch.c.id == self._number)
            .values(samples=_batch.c.samples + added)
        )
        return added

    def _add(
        self, connection: Connection, number: int, is_word: bool, rows: Sequence[tuple[int, Any]]
    ) -> int:
        count = 0
        for at in range(0, len(rows), STATEMENT):
            some = [(number, ms, value) for ms, value in rows[at : at + STATEMENT]]
            if is_word:
                count += connection.exec_driver_sql(self._insert_words, some).rowcount
            elif self._sqlite:
                count += connection.exec_driver_sql(self._insert, some).rowcount
            else:
                head = self._insert.partition("(%s")[0]
                count += connection.exec_driver_sql(head + literal(some)).rowcount
        return count

    def _settings(self) -> None:
        scratch = self._plan.scratch
        rows = scratch.db.execute("SELECT series, ms, value FROM fresh_setting").fetchall()
        if not rows:
            return
        keys = [(*scratch.settings[index], ms) for index, ms, _value in rows]
        with self._engine.begin() as connection:
            batch = _get(connection, self._number)
            for (device, name, ms), (_index, _ms, value) in zip(keys, rows, strict=True):
                connection.execute(
                    insert(tables.setting).values(device=device, name=name, ts=ms, value=value)
                )
            _write(connection, batch, settings=[*batch.document["settings"], *map(list, keys)])

    def _energies(self) -> None:
        rows = self._plan.scratch.db.execute("SELECT flow, start, end, wh FROM fresh_energy")
        changes = (books.Change(*row) for row in rows)
        done = 0
        while some := list(islice(changes, CHANGES)):

            def work(connection: Connection, some: list[books.Change] = some) -> None:
                batch = _get(connection, self._number)
                edit = books.edit(
                    connection,
                    self._plan.options.site_zone,
                    some,
                    by=self._by,
                    reason=f"import {self._number}: {batch.file}"[: tables.TEXT_LENGTH],
                    kind="import",
                    document={"import": self._number, "sha256": fingerprint(self._plan)},
                )
                if edit is not None:
                    _write(connection, batch, edits=[*batch.document["edits"], edit])

            books.transact(self._engine, work)
            done += len(some)
            self._progress("booked", done)


def _mapping(plan: Plan) -> Any:  # noqa: ANN401 - JSON
    import msgspec

    return None if plan.options.mapping is None else msgspec.to_builtins(plan.options.mapping)


def _joined(
    before: dict[str, list[int]], after: dict[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    result = {name: (span[0], span[1]) for name, span in before.items()}
    for name, (first, last) in after.items():
        old = result.get(name, (first, last))
        result[name] = (min(first, old[0]), max(last, old[1]))
    return result


def _ids(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    table = tables.series
    found: dict[tuple[str, str], int] = {}
    for at in range(0, len(keys), 200):
        there = tuple_(table.c.device, table.c.name).in_(keys[at : at + 200])
        for row in connection.execute(select(table).where(there)):
            found[(row.device, row.name)] = row.id
    return found


def _absent(
    connection: Connection, number: int, is_word: bool, rows: Sequence[tuple[int, Any]]
) -> list[tuple[int, Any]]:
    """Those of ``rows`` that the database still lacks; locked until the transaction ends."""
    table = tables.state if is_word else tables.sample
    there = set(
        connection.execute(
            select(table.c.ts)
            .where(table.c.series_id == number, table.c.ts.between(rows[0][0], rows[-1][0]))
            .with_for_update()
        ).scalars()
    )
    return [row for row in rows if row[0] not in there]


# -- taking back -----------------------------------------------------------------------------------


def undo(
    url: str,
    number: int,
    zone: tzinfo,
    *,
    by: str = "",
    progress: Progress = lambda what, done: None,
) -> Batch:
    """Take an import back: its samples, settings, energies, and the series made for it.

    Args:
        url: the site's database.
        number: of the batch.
        zone: the site's, for the books.
        by: who asks.
        progress: told now and then.

    Raises:
        BatchError: no such import, undone already, or a later one stands on it.
        EnergyError: a later correction of the books covers what it booked.
    """
    opened = engine(url, patient=True)
    try:
        return _undo(opened, number, zone, by or user(), progress)
    finally:
        opened.dispose()


def _undo(opened: Engine, number: int, zone: tzinfo, by: str, progress: Progress) -> Batch:
    def begin(connection: Connection) -> Batch:
        """What can be refused comes first, and with it the books; all or nothing of it."""
        batch = _get(connection, number)
        if batch.state == "undone":
            when = clock.iso(clock.from_ms(batch.undone or 0))
            raise BatchError(f"import {number} was undone already, {when}")
        _refuse_out_of_order(connection, batch)
        for edit in reversed(batch.edits):
            books.undo(connection, zone, edit, by)
        _write(connection, batch, state="undoing", edits=[])
        return batch

    books.transact(opened, begin)
    done = 0
    while removed := books.transact(opened, lambda c: _remove_parts(c, number, zone)):
        done += removed
        progress("removed", done)
        if opened.dialect.name == "sqlite":
            time.sleep(PAUSE_S)

    def finish(connection: Connection) -> list[Any]:
        batch = _get(connection, number)
        _remove_settings(connection, batch)
        gone = _remove_series(connection, batch)
        _write(connection, batch, state="undone", settings=[], undone=clock.epoch_ms(clock.now()))
        return gone

    if gone := books.transact(opened, finish):
        _heal(opened, gone)
    with opened.connect() as connection:
        return _get(connection, number)


def _refuse_out_of_order(connection: Connection, batch: Batch) -> None:
    """A later import compared itself with this one: it must go first where they meet."""
    mine = batch.ranges
    for row in connection.execute(
        select(_batch)
        .where(_batch.c.id > batch.id, _batch.c.undone.is_(None))
        .order_by(_batch.c.id.desc())
    ):
        later = _read(row)
        for name, (first, last) in later.ranges.items():
            if name in mine and first <= mine[name][1] and mine[name][0] <= last:
                when = clock.iso(clock.from_ms(later.created))
                raise BatchError(
                    f"import {batch.id} cannot be undone now: the later import {later.id} "
                    f"({later.file}, {when}) also has {name} of that time; undo that one first"
                )


def _remove_parts(connection: Connection, number: int, zone: tzinfo) -> int:
    """Some parts and their samples; how many samples these were."""
    horizon = retired.horizons(connection).get("sample", 0)
    parts = connection.execute(
        select(_part).where(_part.c.batch_id == number).order_by(_part.c.first).limit(PARTS)
    ).all()
    series = tables.series
    mine = series.c.id.in_({part.series_id for part in parts})
    kinds = {row.id: row.kind for row in connection.execute(select(series).where(mine))}
    removed = 0
    dirty: set[int] = set()
    for part in parts:
        is_word = kinds.get(part.series_id) == Kind.STATE
        times = stamps.unpack(part.first, part.stamps)
        _remove(connection, tables.state if is_word else tables.sample, part.series_id, times)
        if not is_word:
            dirty.update(ms - ms % tables.DIRTY_MS for ms in times)
            retired.forget(connection, part.series_id, times, horizon, zone)
        connection.execute(
            delete(_part).where(
                _part.c.batch_id == number,
                _part.c.series_id == part.series_id,
                _part.c.first == part.first,
            )
        )
        removed += len(times)
    mark_dirty(connection, dirty)
    return removed


def _remove(connection: Connection, table: Any, number: int, times: Sequence[int]) -> None:  # noqa: ANN401
    for at in range(0, len(times), 1000):
        stamps_in = ",".join(map(str, times[at : at + 1000]))
        connection.exec_driver_sql(
            f"DELETE FROM {table.name} WHERE series_id = {number} AND ts IN ({stamps_in})"  # noqa: S608
        )


def _remove_settings(connection: Connection, batch: Batch) -> None:
    setting = tables.setting
    for device, name, ms in batch.document["settings"]:
        connection.execute(
            delete(setting).where(
                setting.c.device == device, setting.c.name == name, setting.c.ts == ms
            )
        )


def _remove_series(connection: Connection, batch: Batch) -> list[Any]:
    """The series made for this batch, as far as nothing else has come to them since."""
    gone = []
    for number in batch.document["series"]:
        row = connection.execute(
            select(tables.series).where(tables.series.c.id == number)
        ).one_or_none()
        if row is None or _is_used(connection, number):
            continue
        connection.execute(delete(tables.series).where(tables.series.c.id == number))
        for table in (tables.minute, tables.hour, tables.day):
            connection.execute(delete(table).where(table.c.series_id == number))
        gone.append(row)
    return gone


def _is_used(connection: Connection, number: int) -> bool:
    return any(
        connection.execute(
            select(func.count()).select_from(
                select(table.c.series_id).where(table.c.series_id == number).limit(1).subquery()
            )
        ).scalar()
        for table in (tables.sample, tables.state, tables.latest, tables.import_part)
    )


def _heal(opened: Engine, gone: Sequence[Any]) -> None:
    """Put a series back that the recorder was about to write to."""
    with opened.begin() as connection:
        for row in gone:
            if _is_used(connection, row.id):
                connection.execute(insert(tables.series).values(**row._mapping))
