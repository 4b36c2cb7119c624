"""The last hour and today of devices, from minutes and days."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from sqlalchemy import Connection, select
from sunmesh.database import tables
from sunmesh.database.days import midnight
from sunmesh.database.sql import packed
from sunmesh.vocabulary import VOCABULARY

from .. import words
from ..plot import spark
from ..text import _

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
NEAR = 2.5 / 60
"""Minutes further apart than that (share of the hour) are not joined."""


@dataclass(frozen=True, slots=True)
class Spark:
    """A value's last hour: its curve, and what that says in words."""

    path: str
    text: str


def ids_of(connection: Connection, device: str) -> dict[str, int]:
    """The series of a device by name."""
    c = tables.series.c
    return {
        str(name): int(number)
        for name, number in connection.execute(select(c.name, c.id).where(c.device == device))
    }


def minutes(
    connection: Connection, ids: Sequence[int], start: int, end: int
) -> dict[int, list[tuple[int, float]]]:
    """Means by the minute; what the rollups have not come to yet is added from the samples."""
    found: dict[int, list[tuple[int, float]]] = {number: [] for number in ids}
    if not ids:
        return found
    listed = ", ".join(str(int(number)) for number in ids)
    is_sqlite = connection.dialect.name == "sqlite"
    moment = "ts" if is_sqlite else "CAST(ts AS SIGNED)"
    where = f"series_id IN ({listed}) AND ts >= {int(start)} AND ts < {int(end)}"
    for ts, number, mean in packed(
        connection,
        (moment, "series_id", "mean"),
        f"FROM `minute` WHERE {where}",  # noqa: S608 - whole numbers of our own
    ):
        found[int(number)].append((int(ts), mean))
    newest = max((points[-1][0] for points in found.values() if points), default=None)
    begin = start if newest is None else newest + MINUTE_MS
    divide = "/" if is_sqlite else "DIV"
    bucket = f"{moment} {divide} {MINUTE_MS} * {MINUTE_MS}"
    recent = f"series_id IN ({listed}) AND ts >= {int(begin)} AND ts < {int(end)}"
    for ts, number, mean in packed(
        connection,
        ("begun", "series_id", "middle"),
        f"FROM (SELECT {bucket} AS begun, series_id, AVG(value) AS middle"  # noqa: S608
        f" FROM sample WHERE {recent} GROUP BY 1, 2) AS steps",
    ):
        found[int(number)].append((int(ts), mean))
    return found


def sparks(
    connection: Connection, device: str, names: Mapping[str, bool], now_ms: int
) -> dict[str, Spark]:
    """The last hour of values.

    Args:
        connection: read-only will do.
        device: whose.
        names: of the values; whether it is a counter.
        now_ms: the end of the hour.
    """
    ids = {name: number for name, number in ids_of(connection, device).items() if name in names}
    start = now_ms - HOUR_MS
    by_id = minutes(connection, list(ids.values()), start, now_ms)
    found = {}
    for name, number in ids.items():
        points = by_id[number]
        if len(points) < 2:
            continue
        values = [value for _ts, value in points]
        if names[name]:
            added = values[-1] - values[0]
            quantity = VOCABULARY.get(name)
            if quantity is not None and quantity.sign.startswith("+"):
                text = _("%(amount)s in the last hour", amount=words.value(name, added))
            elif added >= 0:
                text = _("%(amount)s more in the last hour", amount=words.value(name, added))
            else:
                text = _("it was set back in the last hour")
            found[name] = Spark("", text)
            continue
        text = _(
            "%(low)s to %(high)s in the last hour",
            low=words.value(name, min(values)),
            high=words.value(name, max(values)),
        )
        path = spark([((ts - start) / HOUR_MS, value) for ts, value in points], NEAR)
        found[name] = Spark(path, text)
    return found


def today_kwh(
    connection: Connection,
    devices: Sequence[str],
    zone: tzinfo,
    now_ms: int,
    name: str = "pv_energy_total_kwh",
) -> dict[str, float]:
    """What lifetime counters have gained since midnight [kWh]; of those that are known."""
    if not devices:
        return {}
    series, day = tables.series.c, tables.day.c
    begun = midnight(words.local(now_ms, zone).date(), zone)
    rows = connection.execute(
        select(series.device, day.min, day.max)
        .select_from(tables.series.join(tables.day, series.id == day.series_id))
        .where(series.name == name, series.device.in_(list(devices)), day.ts == begun)
    )
    return {str(device): float(high) - float(low) for device, low, high in rows}
