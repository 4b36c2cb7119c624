"""``recorder status``: what the database holds, read once."""

from typing import Any

from sqlalchemy import Connection, func, select, text
from sunmesh import clock
from sunmesh.database import tables
from sunmesh.database.sql import engine, revision


def status(url: str) -> dict[str, Any]:
    """Counts, and the newest sample of each device.

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
            if found["schema"] is not None:
                found |= _contents(connection)
            return found
    finally:
        opened.dispose()


def _contents(connection: Connection) -> dict[str, Any]:
    series, latest, device = tables.series, tables.latest, tables.device
    counts = {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar()
        for table in (series, tables.state, device, tables.alarm)
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
    }


def for_people(found: dict[str, Any]) -> str:
    """The same as lines of text."""
    lines = [f"database  {found['database']}  schema {found['schema'] or 'none yet'}"]
    lines += [f"{name:<16} {count}" for name, count in found.get("rows", {}).items()]
    for row in found.get("devices", ()):
        lines.append(
            f"{row['device']:<16} {row['status'] or 'unknown':<10} {row['series']} series, "
            f"last sample {row['last']}, {row['age_s']:.0f} s ago"
        )
    return "\n".join(lines)
