"""What happened in a stretch of time, as stored: alarms, commands, modes, positions of relays.

Each question is one range of an index; nothing is worded here.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, func, not_, or_, select
from sunmesh.database import tables

MOST = 2000
"""Rows of one kind that are read; who has more has noise."""
RECALLED = 50
"""Of so many alarms it is asked whether they were raised before."""
ENDS = ("applied", "refused", "expired", "failed", "not_applied", "reverted")
"""Stages in which a command ends."""
TOGETHER_MS = 15_000
"""A relay stands where a command wanted it within this time."""
POSITION, REASON = "relay_position", "relay_reason"


@dataclass(frozen=True, slots=True)
class AlarmTurn:
    """An alarm that was raised, grew worse, or ended."""

    ms: int
    device: str
    code: str
    state: str
    severity: str
    title: str


@dataclass(frozen=True, slots=True)
class Stage:
    """How a command, or one setting of several (``part``), ended; ``value`` is JSON."""

    ms: int
    stage: str
    name: str
    value: str
    detail: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that came to an end. ``wanted`` is JSON, empty where the wish is not stored."""

    device: str
    id: str
    name: str
    by: str
    wanted: str
    whole: Stage
    parts: Sequence[Stage] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A state that became another; ``reason``: what a relay said of it."""

    ms: int
    device: str
    value: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """Each kind in the order of its times. ``is_cut``: there was more than anybody would read."""

    alarms: Sequence[AlarmTurn] = ()
    commands: Sequence[Ended] = ()
    modes: Sequence[Turn] = ()
    positions: Sequence[Turn] = ()
    is_cut: bool = field(default=False, kw_only=True)


def alarms(connection: Connection, start: int, end: int) -> tuple[list[AlarmTurn], bool]:
    """Alarms raised, worse, or over in [start, end); what is said again unchanged is left out."""
    c = tables.alarm.c
    rows = connection.execute(
        select(c.device, c.code, c.id, c.state, c.severity, c.title, c.ts)
        .where(c.ts >= start, c.ts < end)
        .order_by(c.ts)
        .limit(MOST)
    ).all()
    first: dict[tuple[str, str], Any] = {}
    for row in rows:
        first.setdefault((row.device, row.code), row)
    stood = _standing(
        connection, [key for key, row in first.items() if row.state == "raised"], start
    )
    found = []
    for row in rows:
        key, now = (row.device, row.code), (row.id, row.state, row.severity)
        if stood.get(key) != now:
            found.append(AlarmTurn(row.ts, *key, row.state, row.severity, row.title))
        stood[key] = now
    return found, len(rows) == MOST


def _standing(
    connection: Connection, keys: Sequence[tuple[str, str]], before: int
) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Id, state and severity of alarms as they were last announced before a moment."""
    c = tables.alarm.c
    asked = [
        select(func.max(c.ts))
        .where(c.device == device, c.code == code, c.ts < before)
        .scalar_subquery()
        for device, code in keys[:RECALLED]
    ]
    if not asked:
        return {}
    times = connection.execute(select(*asked)).one()
    known = [
        and_(c.device == device, c.code == code, c.ts == ts)
        for (device, code), ts in zip(keys, times, strict=False)
        if ts is not None
    ]
    if not known:
        return {}
    rows = connection.execute(
        select(c.device, c.code, c.id, c.state, c.severity).where(or_(*known))
    )
    return {(row.device, row.code): (row.id, row.state, row.severity) for row in rows}


def commands(
    connection: Connection, start: int, end: int, switched: Sequence[int] = ()
) -> tuple[list[Ended], bool]:
    """Commands that ended in [start, end), each with what was wished.

    A relay may be told by a row each minute where it is already. So those that moved it are looked
    for where it moved, and the index alone leaves out the others.

    Args:
        connection: read-only will do.
        start: of the stretch [ms].
        end: of the stretch [ms].
        switched: when relays took another position [ms].
    """
    c = tables.command.c
    is_position = and_(c.stage == "applied", c.name == POSITION)
    wanted = select(c.ts, c.device, c.id, c.stage, c.name, c.value, c.by_whom, c.detail)
    rows = list(
        connection.execute(
            wanted.where(c.ts >= start, c.ts < end, c.stage.in_(ENDS), not_(is_position))
            .order_by(c.ts)
            .limit(MOST)
        )
    )
    is_cut = len(rows) == MOST
    if switched:
        near = [c.ts.between(ms - TOGETHER_MS, ms + TOGETHER_MS) for ms in switched[:RECALLED]]
        moved = wanted.where(or_(*near), is_position)
        rows = sorted([*rows, *connection.execute(moved)], key=lambda row: row.ts)
    ended: list[tuple[str, str, Any]] = []
    parts: dict[tuple[str, str], list[Stage]] = {}
    for row in rows:
        number, _slash, part = row.id.partition("/")
        if part:
            step = Stage(row.ts, row.stage, row.name, row.value, row.detail, part)
            parts.setdefault((row.device, number), []).append(step)
        else:
            ended.append((row.device, number, row))
    wishes = {}
    if ended:
        asked = connection.execute(
            select(c.device, c.id, c.value, c.by_whom).where(
                c.device.in_({device for device, _, _ in ended}),
                c.id.in_({number for _, number, _ in ended}),
                c.stage == "requested",
            )
        )
        wishes = {(row.device, row.id): (row.value, row.by_whom) for row in asked}
    found = []
    for device, number, row in ended:
        wanted, by = wishes.get((device, number), ("", None))
        whole = Stage(row.ts, row.stage, row.name, row.value, row.detail)
        mine = parts.get((device, number), ())
        found.append(Ended(device, number, row.name, row.by_whom or by or "", wanted, whole, mine))
    return found, is_cut


def turns(
    connection: Connection, series: Mapping[int, tuple[str, str]], start: int, end: int
) -> tuple[dict[tuple[str, str], list[Turn]], bool]:
    """What states became in [start, end), by device and name; the first row is what they were.

    Args:
        connection: read-only will do.
        series: device and name by number.
        start: of the stretch [ms]; also the time of what a state was before.
        end: of the stretch [ms].
    """
    found: dict[tuple[str, str], list[Turn]] = {pair: [] for pair in series.values()}
    if not series:
        return found, False
    c = tables.state.c
    before = connection.execute(
        select(
            *(
                select(c.value)
                .where(c.series_id == number, c.ts < start)
                .order_by(c.ts.desc())
                .limit(1)
                .scalar_subquery()
                for number in series
            )
        )
    ).one()
    for pair, value in zip(series.values(), before, strict=True):
        if value is not None:
            found[pair].append(Turn(start, pair[0], value))
    rows = connection.execute(
        select(c.series_id, c.ts, c.value)
        .where(c.series_id.in_(list(series)), c.ts >= start, c.ts < end)
        .order_by(c.ts)
        .limit(MOST)
    ).all()
    for row in rows:
        pair = series[row.series_id]
        found[pair].append(Turn(row.ts, pair[0], row.value))
    return found, len(rows) == MOST


def changes(stood: Sequence[Turn], reasons: Sequence[Turn] = ()) -> list[Turn]:
    """The turns of a state that were changes, each with the reason of its moment."""
    times = [each.ms for each in reasons]
    made = []
    for was, now in zip(stood, stood[1:], strict=False):
        if now.value != was.value:
            at = bisect.bisect_right(times, now.ms) - 1
            reason = reasons[at].value if at >= 0 else ""
            made.append(Turn(now.ms, now.device, now.value, reason))
    return made


def in_order(found: Iterable[Sequence[Turn]]) -> list[Turn]:
    """Turns of several devices by their time."""
    return sorted((turn for each in found for turn in each), key=lambda turn: turn.ms)
