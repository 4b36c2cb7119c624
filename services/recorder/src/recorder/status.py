"""``recorder status``: how the recorder is, what waits in its spool, what the database holds.

Each part is asked by itself, so that it says what it can while others are down: the running
recorder through its retained messages at the broker, the spool through its files.
"""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, text
from sunmesh import clock
from sunmesh.database import tables
from sunmesh.database.sql import engine, revision
from sunmesh.errors import MessageError
from sunmesh.messages import Health, ServiceStatus, decode
from sunmesh.mqtt import Mesh, Message

from . import spool

ANSWER_S = 2.0
"""The broker has that long to say what it keeps [s]."""
LATE = timedelta(seconds=90)
"""Health comes every 30 s; when it is older than that, nobody is at work."""


def running(mesh: Mesh) -> dict[str, Any]:
    """What the recorder says of itself, as the broker keeps it.

    Args:
        mesh: a client of its own, not started yet.

    Returns:
        ``state``: ``online``, ``offline``, ``silent`` (online by its last word, which is old),
        ``never`` (nothing is known), or ``unknown`` (no broker); ``since``, ``health`` and its
        age where they are known.
    """
    said: dict[str, Any] = {}
    complete = threading.Event()

    def hear(message: Message) -> None:
        kind = Health if message.topic.endswith("health") else ServiceStatus
        try:
            said[kind.__name__] = decode(kind, message.payload)
        except MessageError:
            return
        if len(said) == 2:
            complete.set()

    for topic in (mesh.topics.service_status("recorder"), mesh.topics.service_health("recorder")):
        mesh.subscribe(topic, hear)
    mesh.start()
    try:
        if not mesh.wait_connected(ANSWER_S):
            return {"state": "unknown"}
        complete.wait(ANSWER_S)
    finally:
        mesh.stop(0)
    status, health = said.get("ServiceStatus"), said.get("Health")
    if status is None:
        return {"state": "never"}
    found: dict[str, Any] = {"state": status.state, "version": status.version}
    found |= {"host": status.host, "started": status.started}
    if health is not None:
        age = clock.now() - clock.parse(health.ts)
        found |= {"health_age_s": round(age.total_seconds(), 1), "health": health.counters}
        if status.state == "online" and age > LATE:
            found["state"] = "silent"
    return found


def waiting(folder: Path, limit_bytes: int) -> dict[str, Any]:
    """What the spool's files hold; some of the first one may be in the database already."""
    found: dict[str, Any] = {"folder": str(folder), "limit_bytes": limit_bytes}
    try:
        segments = sorted(spool.survey(folder), key=lambda segment: segment.number)
        for segment in segments:
            if segment.path.suffix == ".open":
                spool.count(segment)
    except OSError as err:
        return found | {"error": err.strerror}
    size = sum(segment.size for segment in segments)
    oldest = next((s.oldest for s in segments if s.oldest is not None), None)
    return found | {
        "segments": len(segments),
        "messages": sum(segment.messages for segment in segments),
        "bytes": size,
        "share": round(size / limit_bytes, 3),
        "oldest": None if oldest is None else clock.iso(clock.from_ms(oldest)),
        "thinned": sum(segment.is_thin for segment in segments),
    }


def status(url: str) -> dict[str, Any]:
    """Counts, the newest sample of each device, and what is known to be lost.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    opened = engine(url, read_only=True)
    try:
        with opened.connect() as connection:
            found: dict[str, Any] = {
                "database": opened.url.render_as_string(hide_password=True),
                "schema": revision(connection),
            }
            if found["schema"] == tables.SCHEMA:
                found |= _contents(connection)
            return found
    finally:
        opened.dispose()


def _contents(connection: Connection) -> dict[str, Any]:
    series, latest, device = tables.series, tables.latest, tables.device
    counts = {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar()
        for table in (series, tables.state, device, tables.alarm, tables.command)
    }
    if connection.dialect.name == "sqlite":
        counts["sample"] = connection.execute(
            select(func.count()).select_from(tables.sample)
        ).scalar()
    else:
        # counting 60 million rows reads them all; the server's estimate is near enough
        counts["sample_estimate"] = connection.execute(
            text(
                "SELECT table_rows FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name = 'sample'"
            )
        ).scalar()
    newest = connection.execute(
        select(series.c.device, func.max(latest.c.ts).label("ts"), func.count().label("series"))
        .join_from(series, latest, series.c.id == latest.c.series_id)
        .group_by(series.c.device)
        .order_by(series.c.device)
    ).all()
    states: dict[str, str] = {
        row.name: row.status for row in connection.execute(select(device.c.name, device.c.status))
    }
    now = clock.epoch_ms(clock.now())
    return {
        "rows": counts,
        "devices": [
            {
                "device": row.device,
                "status": states.get(row.device),
                "series": row.series,
                "last": clock.iso(clock.from_ms(int(row.ts))),
                "age_s": round((now - int(row.ts)) / 1000, 1),
            }
            for row in newest
        ],
        "gaps": _gaps(connection),
    }


def _gaps(connection: Connection) -> list[dict[str, Any]]:
    """Losses by their reason: how often, how many messages, from when to when."""
    gap = tables.gap
    found = connection.execute(
        select(
            gap.c.reason,
            func.count().label("count"),
            func.sum(gap.c.messages).label("messages"),
            func.min(gap.c.started).label("first"),
            func.max(gap.c.ended).label("last"),
        ).group_by(gap.c.reason)
    )
    return [
        {
            "reason": row.reason,
            "count": row.count,
            "messages": int(row.messages),
            "first": clock.iso(clock.from_ms(int(row.first))),
            "last": clock.iso(clock.from_ms(int(row.last))),
        }
        for row in found
    ]


def for_people(found: dict[str, Any]) -> str:
    """The same as lines of text."""
    lines = [*_recorder_lines(found["recorder"]), _spool_line(found["spool"], found["recorder"])]
    if "error" in found:
        lines.append(f"database  {found['database']} is not reachable: {found['error']}")
        return "\n".join(lines)
    lines.append(f"database  {found['database']}  schema {found['schema'] or 'none yet'}")
    lines += [f"{name:<16} {count}" for name, count in found.get("rows", {}).items()]
    for row in found.get("devices", ()):
        lines.append(
            f"{row['device']:<16} {row['status'] or 'unknown':<10} {row['series']} series, "
            f"last sample {row['last']}, {row['age_s']:.0f} s ago"
        )
    for row in found.get("gaps", ()):
        lines.append(
            f"lost      {row['messages']} messages ({row['reason']}, {row['count']} times), "
            f"{row['first']} to {row['last']}"
        )
    return "\n".join(lines)


def _recorder_lines(found: dict[str, Any]) -> list[str]:
    state = found["state"]
    if state in ("unknown", "never"):
        why = {"unknown": "the broker does not answer", "never": "the broker knows of none"}
        return [f"recorder  {state}: {why[state]}"]
    line = f"recorder  {state}, {found['version']} on {found['host']}"
    if state == "online":
        line += f" since {found['started']}"
    lines = [line]
    health = found.get("health")
    if health is not None:
        lines.append(
            f"  {found['health_age_s']:.0f} s ago: lag {health.get('lag_s')} s, last commit"
            f" {health.get('last_commit')}; {health.get('messages_per_s')} messages/s,"
            f" {health.get('rows_per_s')} rows/s, {health.get('commits_per_s')} commits/s"
        )
        wrong = [
            f"{health[name]} {text}"
            for name, text in (
                ("bad_payloads", "bad messages"),
                ("bad_values", "bad values"),
                ("refused_times", "impossible times"),
                ("refused_rows", "refused rows"),
                ("refused_series", "refused series"),
                ("spool_thrown", "samples thrown away"),
                ("broker_dropped", "dropped by the broker"),
            )
            if health.get(name)
        ]
        if health.get("database_ok") == 0:
            wrong.insert(0, "the database is away")
        if health.get("spool_ok") == 0:
            wrong.insert(0, "the spool cannot be written")
        if wrong:
            lines.append(f"  {', '.join(wrong)}")
    return lines


def _spool_line(found: dict[str, Any], recorder: dict[str, Any]) -> str:
    if "error" in found:
        return f"spool     {found['folder']}: {found['error']}"
    line = (
        f"spool     {found['messages']} messages in {found['segments']} files, "
        f"{found['bytes'] / 1e6:.1f} of {found['limit_bytes'] / 1e6:.0f} MB ({found['share']:.0%})"
    )
    if recorder["state"] == "online" and "health" in recorder:
        line += f", {recorder['health'].get('spool_messages')} of them wait"
    if found["oldest"] is not None:
        line += f", oldest of {found['oldest']}"
    return line
