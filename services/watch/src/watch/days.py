"""Whole days from the database: ``python -m watch.days site.toml`` prints them as JSON.

A process of its own, which leaves nothing resident: SQLAlchemy is 20 MiB that the watch does
without. It reads and never writes.
"""

import json
import sys
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sunmesh import clock, config
from sunmesh.config import Site
from sunmesh.database import sql, tables
from sunmesh.database.days import local_day, midnight

ENERGY = "pv_energy_total_kwh"
BACK_DAYS = 400
"""No rule looks back further."""
COVERED_S = 43_200
"""A day of which less is known is not known."""
MOST_A_DAY_KWH = 1000.0
"""No panel makes more: a counter that jumps so far was replaced."""


def of_database(connection: Connection, today: date, back: int, site: Site) -> dict[str, Any]:
    """What rules want to know of the ``back`` days before ``today``."""
    zone = site.site.zone
    start = midnight(today - timedelta(days=back + 1), zone)
    end = midnight(today, zone)
    day, series = tables.day, tables.series
    rows = connection.execute(
        select(series.c.device, day.c.ts, day.c.min, day.c.last)
        .join(series, series.c.id == day.c.series_id)
        .where(series.c.name == ENERGY, day.c.ts >= start, day.c.ts < end)
        .order_by(series.c.device, day.c.ts)
    )
    readings: dict[str, list[tuple[date, float, float]]] = defaultdict(list)
    for row in rows:
        readings[row.device].append((local_day(int(row.ts), zone), row.min, row.last))
    panels = {device: day_energies(each) for device, each in readings.items()}
    books = tables.energy_day
    plant = {
        row.day.isoformat(): row.wh / 1000
        for row in connection.execute(
            select(books.c.day, books.c.wh).where(
                books.c.flow == "pv",
                books.c.day >= today - timedelta(days=back),
                books.c.day < today,
                books.c.covered_s >= COVERED_S,
            )
        )
    }
    return {"today": today.isoformat(), "panels": panels, "plant": plant}


def day_energies(readings: list[tuple[date, float, float]]) -> dict[str, float]:
    """Energy of each day from a lifetime counter, midnight to midnight, the night with it.

    From the last reading of the day before, where that is known, else from the day's own lowest. A
    counter that fell says nothing of that day.

    Args:
        readings: day, its lowest and its last reading [kWh], in order.
    """
    found = {}
    before: tuple[date, float] | None = None
    for each, lowest, last in readings:
        is_next = before is not None and each - before[0] == timedelta(days=1)
        start = before[1] if before is not None and is_next else lowest
        if 0.0 <= last - start <= MOST_A_DAY_KWH:
            found[each.isoformat()] = last - start
        before = each, last
    return found


def main(words: list[str]) -> int:
    """Print it."""
    site = config.load(Path(words[0]), "watch")
    back = min(int(words[1]), BACK_DAYS)
    url = site.database.sqlalchemy_url()
    at = make_url(url)
    if at.get_backend_name() == "sqlite" and not Path(str(at.database)).exists():
        print(f"{at.database} is not there yet", file=sys.stderr)  # noqa: T201 - for the watch
        return 1
    today = local_day(clock.epoch_ms(clock.now()), site.site.zone)
    opened = sql.engine(url, read_only=True)
    try:
        with opened.connect() as connection:
            found = of_database(connection, today, back, site)
    except SQLAlchemyError as err:
        cause = getattr(err, "orig", None) or err
        print(" ".join(str(cause).split()), file=sys.stderr)  # noqa: T201 - for the watch
        return 1
    finally:
        opened.dispose()
    print(json.dumps(found))  # noqa: T201 - what the watch reads
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
