# ruff: noqa: S608 - nothing but names and numbers of our own is put into these statements
"""How the database grows: bytes a day by level, where that ends, and when there is no room for it.

Rows are counted over the last day, or what there is of it; their size is the table's own where that
is large enough to tell, and what was measured on a full one where not.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sunmesh.database.sql import engine, revision
from sunmesh.database.tables import FLOWS, SCHEMA

from .config import RecorderConfig
from .retention import DAY_MS
from .rollup import HOUR_MS, now_ms

SERVER_BYTES = {"sample": 43.7, "minute": 75.0, "hour": 75.0, "day": 75.0, "energy": 110.0}
SQLITE_BYTES = {"sample": 21.0, "minute": 58.0, "hour": 58.0, "day": 58.0, "energy": 60.0}
"""Bytes a row."""

ENOUGH_ROWS = 100_000
"""A table of so many rows tells its own."""

FOREVER_DAYS = 36_500


def forecast(
    connection: Connection,
    days: Mapping[str, int],
    *,
    limit_bytes: int = 0,
    now: int | None = None,
) -> dict[str, Any]:
    """What is there, what comes, and when that is too much.

    Args:
        connection: to a database with our tables.
        days: for how long ``sample`` and ``minute`` are kept; 0 or none = for ever.
        limit_bytes: what the database may take; 0 = what the disk has.
        now: the present moment [ms].

    Returns:
        ``bytes``, ``bytes_a_day`` (now), ``bytes_a_day_for_ever`` (once as many samples and minutes
        go as come), ``settles_at_bytes`` (a year from the day on which that is so), ``free_bytes``
        (None: not known, the server is elsewhere), ``full_in_days`` (None: not within a century,
        or not known) and by level ``rows_a_day``, ``bytes_a_row``, ``bytes_a_day``, ``kept_days``.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    now = now_ms() if now is None else now
    sizes = _sizes(connection)
    levels: dict[str, dict[str, Any]] = {}
    for name, rows in _rows_a_day(connection, now).items():
        kept = days.get(name, 0)
        levels[name] = {
            "rows_a_day": round(rows),
            "bytes_a_row": round(sizes[name], 1),
            "bytes_a_day": round(rows * sizes[name]),
            "kept_days": kept or None,
        }
    total, free = _room(connection, limit_bytes)
    began = connection.exec_driver_sql("SELECT MIN(ts) FROM day").scalar()
    age = 0.0 if began is None else max(0.0, (now - int(began)) / DAY_MS)
    left = {
        name: max(0.0, level["kept_days"] - age) if level["kept_days"] else float(FOREVER_DAYS)
        for name, level in levels.items()
    }
    ends = max((left[name] for name, level in levels.items() if level["kept_days"]), default=0.0)
    return {
        "bytes": total,
        "bytes_a_day": sum(
            level["bytes_a_day"] for name, level in levels.items() if left[name] > 0
        ),
        "bytes_a_day_for_ever": sum(
            level["bytes_a_day"] for level in levels.values() if not level["kept_days"]
        ),
        "settles_at_bytes": total + round(_grown(levels, left, ends + 365)),
        "free_bytes": free,
        "full_in_days": None if free is None else _full(levels, left, free),
        "levels": levels,
    }


def look(url: str, settings: RecorderConfig) -> dict[str, Any] | None:
    """The forecast of a database, asked once; None while its tables are not ours.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    opened = engine(url, read_only=True)
    try:
        with opened.connect() as connection:
            if revision(connection) != SCHEMA:
                return None
            limit_bytes = settings.database_limit_mb * 1_000_000
            return forecast(connection, settings.kept_days(), limit_bytes=limit_bytes)
    finally:
        opened.dispose()


def for_people(found: Mapping[str, Any] | None) -> list[str]:
    """The same as lines of text."""
    if found is None:
        return []
    lines = [
        f"size      {_mb(found['bytes'])}, {_mb(found['bytes_a_day'])} a day; "
        f"{_mb(found['settles_at_bytes'])} a year after everything has its age, "
        f"then {_mb(found['bytes_a_day_for_ever'])} a day"
    ]
    if found["free_bytes"] is None:
        lines.append("room      not known, the server is on another machine")
    else:
        days = found["full_in_days"]
        when = "enough for a century" if days is None else f"full in {days} days"
        lines.append(f"room      {_mb(found['free_bytes'])}, {when}")
    lines += [
        f"  {name:<8} {level['rows_a_day']} rows a day of {level['bytes_a_row']:.0f} bytes, kept "
        + (f"{level['kept_days']} days" if level["kept_days"] else "for ever")
        for name, level in found["levels"].items()
    ]
    return lines


def _mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def _rows_a_day(connection: Connection, now: int) -> dict[str, float]:
    """Of the last 24 whole hours, or of those there are."""
    end = now - now % HOUR_MS
    start = end - DAY_MS
    ids = [row[0] for row in connection.exec_driver_sql("SELECT id FROM series")]
    where = f"series_id IN ({', '.join(map(str, ids)) or 'NULL'}) AND ts >= {start} AND ts < {end}"
    samples, hours, first, series = connection.exec_driver_sql(
        "SELECT COALESCE(SUM(samples), 0), COUNT(*), MIN(ts), COUNT(DISTINCT series_id)"
        f" FROM `hour` WHERE {where}"
    ).one()
    minutes = connection.exec_driver_sql(f"SELECT COUNT(*) FROM `minute` WHERE {where}").scalar()
    flows = ", ".join(f"'{flow}'" for flow in FLOWS)
    energy = connection.exec_driver_sql(
        f"SELECT COUNT(*) FROM energy WHERE flow IN ({flows}) AND ts >= {start} AND ts < {end}"
    ).scalar()
    seen = DAY_MS if first is None else end - int(first)
    part = DAY_MS / seen
    return {
        "sample": int(samples) * part,
        "minute": int(minutes or 0) * part,
        "hour": int(hours) * part,
        "day": int(series),
        "energy": int(energy or 0) * part,
    }


def _sizes(connection: Connection) -> dict[str, float]:
    if connection.dialect.name == "sqlite":
        return SQLITE_BYTES
    sizes = dict(SERVER_BYTES)
    for name, rows, size in connection.exec_driver_sql(
        "SELECT table_name, table_rows, data_length + index_length FROM information_schema.tables"
        " WHERE table_schema = DATABASE()"
    ):
        if name in sizes and rows and rows >= ENOUGH_ROWS:
            sizes[name] = int(size) / int(rows)
    return sizes


def _room(connection: Connection, limit_bytes: int) -> tuple[int, int | None]:
    """What the database takes, and what is left for it."""
    folder: Path | None
    if connection.dialect.name == "sqlite":
        file = connection.engine.url.database
        folder = Path(file).resolve().parent if file else None
        pages, free_pages, page = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        total, inside = (pages - free_pages) * page, free_pages * page
    else:
        size, unused = connection.exec_driver_sql(
            "SELECT COALESCE(SUM(data_length + index_length), 0), COALESCE(SUM(data_free), 0)"
            " FROM information_schema.tables WHERE table_schema = DATABASE()"
        ).one()
        total, inside = int(size), int(unused)
        here = connection.engine.url.host in (None, "", "localhost", "127.0.0.1", "::1")
        data = connection.exec_driver_sql("SELECT @@datadir").scalar() if here else None
        folder = Path(str(data)) if data else None
    rooms = []
    if folder is not None and folder.is_dir():
        disk = os.statvfs(folder)
        rooms.append(disk.f_bavail * disk.f_frsize + inside)
    if limit_bytes:
        rooms.append(max(0, limit_bytes - total))
    return total, min(rooms, default=None)


def _grown(levels: Mapping[str, Mapping[str, Any]], left: Mapping[str, float], day: float) -> float:
    """Bytes that have come by that day."""
    return float(sum(level["bytes_a_day"] * min(day, left[name]) for name, level in levels.items()))


def _full(
    levels: Mapping[str, Mapping[str, Any]], left: Mapping[str, float], room: int
) -> int | None:
    """The first day on which they do not fit."""
    if _grown(levels, left, FOREVER_DAYS) < room:
        return None
    low, high = 0, FOREVER_DAYS
    while low < high:
        middle = (low + high) // 2
        if _grown(levels, left, middle) >= room:
            high = middle
        else:
            low = middle + 1
    return low
