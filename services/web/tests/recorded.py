"""A database as recorder and bookkeeper leave it: every table, filled by the test."""

from collections.abc import Iterable, Mapping
from datetime import date

from sqlalchemy import create_engine
from sunmesh.database import tables
from sunmesh.vocabulary import VOCABULARY

HOUR_MS = 3_600_000


class Recorded:
    """The tables of one site."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        tables.metadata.create_all(self.engine)
        self.ids: dict[tuple[str, str], int] = {}

    def series(self, device: str, name: str) -> int:
        if (device, name) not in self.ids:
            row = VOCABULARY[name.partition("/")[0]]
            with self.engine.begin() as connection:
                made = connection.execute(
                    tables.series.insert().values(
                        device=device, name=name, unit=row.unit, kind=str(row.kind)
                    )
                )
            self.ids[device, name] = made.inserted_primary_key[0]
        return self.ids[device, name]

    def roll(
        self,
        level: str,
        device: str,
        name: str,
        rows: Iterable[tuple[int, float] | tuple[int, float, float, float]],
        covered_ms: int = HOUR_MS,
    ) -> None:
        """Rows of a rollup: (start, mean), or (start, min, max, mean)."""
        number = self.series(device, name)
        made = []
        for row in rows:
            ts, low, high, mean = row if len(row) == 4 else (row[0], row[1], row[1], row[1])
            made.append(
                {
                    "series_id": number,
                    "ts": ts,
                    "min": low,
                    "max": high,
                    "mean": mean,
                    "last": high,
                    "covered_ms": covered_ms,
                    "samples": 10,
                }
            )
        with self.engine.begin() as connection:
            connection.execute(tables.metadata.tables[level].insert(), made)

    def samples(self, device: str, name: str, rows: Iterable[tuple[int, float]]) -> None:
        number = self.series(device, name)
        made = [{"series_id": number, "ts": ts, "value": value} for ts, value in rows]
        with self.engine.begin() as connection:
            connection.execute(tables.sample.insert(), made)

    def book(self, flow: str, rows: Mapping[int, float], day: date | None = None) -> None:
        """Buckets of the energy books [Wh], and their day's sum."""
        with self.engine.begin() as connection:
            connection.execute(
                tables.energy.insert(),
                [
                    {
                        "flow": flow,
                        "ts": ts,
                        "wh": wh,
                        "source": "power",
                        "flag": "measured",
                        "covered_s": 300,
                    }
                    for ts, wh in rows.items()
                ],
            )
            if day is not None:
                self.day(connection, flow, day, sum(rows.values()))

    def day(self, connection, flow: str, day: date, wh: float) -> None:
        shares = dict.fromkeys((f"{flag}_wh" for flag in tables.FLAGS), 0.0)
        connection.execute(
            tables.energy_day.insert().values(
                flow=flow, day=day, wh=wh, covered_s=86400, **(shares | {"measured_wh": wh})
            )
        )

    def sweep(self, started: int, capacity_wh: float, **more) -> None:
        row = {
            "device": "battery",
            "started": started,
            "ended": started + 8 * HOUR_MS,
            "direction": "discharge",
            "from_percent": 100.0,
            "to_percent": 20.0,
            "ah": capacity_wh / 52 * 0.8,
            "wh": capacity_wh * 0.8,
            "capacity_ah": capacity_wh / 52,
            "capacity_wh": capacity_wh,
            "confidence": 1.0,
        }
        with self.engine.begin() as connection:
            connection.execute(tables.battery_sweep.insert().values(**row | more))

    def close(self) -> None:
        self.engine.dispose()
