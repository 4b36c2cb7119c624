"""The battery's side of the books: what is read for it, and what it comes to.

Curtailed energy is guessed once an hour is over, sweeps are looked for once a day is: both look
back over days, and nobody acts on them within minutes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select
from sunmesh.database import tables
from sunmesh.database.energy import Figures
from sunmesh.house import EnergySection

from . import store
from .battery import BEST_OF_DAYS, DAY_MS, Span, Sweep, curtailed, full_cycles, full_spans, sweeps
from .books import Bucket
from .figures import Battery
from .integrate import BUCKET_MS, Reading
from .reader import Reader
from .site_model import Model

HOUR_MS = 3_600_000
SWEEP_MS = 7 * DAY_MS
"""A sweep that takes longer is not measured."""
STAGES = ("charge_stage", "regulator_state", "float_charging")
IRRADIANCE = "irradiance_w_m2"
NEWEST_SWEEPS = 5
SURE = 0.5
"""Sweeps of less confidence do not say how large the battery is."""
CLEAR_W_M2 = 1000.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the panels are [deg]; None = not known."""

    latitude: float | None = None
    longitude: float | None = None


def hours_over(start: int, end: int, seen: Sequence[int]) -> tuple[int, int] | None:
    """The hours that turn over with these stretches, and those that were over before.

    Args:
        start: first of the stretches [ms].
        end: first moment after them.
        seen: starts of the stretches.
    """
    high = end - end % HOUR_MS
    low = start - start % HOUR_MS
    if any(ts % HOUR_MS == 0 for ts in seen):
        low -= HOUR_MS
    return (low, high) if low < high else None


def days_over(start: int, end: int, seen: Sequence[int]) -> bool:
    """Whether a day turns over with these stretches, or they are of a day that was over."""
    return any(ts % DAY_MS == 0 for ts in seen) or start // DAY_MS != (end - 1) // DAY_MS


class BatteryBook:
    """Reads what the battery's figures are made from.

    Args:
        connection: the same view of the database as the reader's.
        reader: for series.
        model: of the house.
        section: ``[energy]``.
        place: of the panels.
    """

    def __init__(
        self,
        connection: Connection,
        reader: Reader,
        model: Model,
        section: EnergySection,
        place: Place,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._model = model
        self._place = place
        soc = model.roles.soc
        self.device = section.battery or (soc[0] if soc else "")

    def curtailed(self, start: int, end: int, fresh: Mapping[int, float]) -> list[Bucket]:
        """What the sun could have given besides, for [start, end).

        Args:
            start: of an hour.
            end: of an hour.
            fresh: the sun's buckets that are about to be booked [Wh].
        """
        if not self.device or "pv" not in self._model.flows:
            return []
        full = self._full(start - DAY_MS, end)
        if not any(low < end and high > start for low, high in full):
            return []
        since = start - BEST_OF_DAYS * DAY_MS
        before = store.booked(self._connection, ["pv"], since - HOUR_MS, end)["pv"]
        pv = {ts: wh for ts, (wh, _) in before.items()} | dict(fresh)
        return curtailed(
            pv,
            full,
            start,
            end,
            irradiance=self._irradiance(since, end),
            clear_sky=clear_sky(self._place, since, end),
        )

    def sweeps(self, start: int, end: int) -> list[Sweep]:
        """Sweeps that [start, end) may be a part of."""
        if not self.device:
            return []
        soc = self._series("battery_soc_percent", start, end)
        power = self._power(start, end)
        if not soc or not power:
            return []
        full = self._full(start, end)
        return sweeps(full, soc, power, self._series("battery_current_a", start, end))

    def _full(self, start: int, end: int) -> list[Span]:
        return full_spans(
            end, self._stages(start, end), self._series("battery_soc_percent", start, end)
        )

    def _series(self, name: str, start: int, end: int) -> list[Reading]:
        number = self._model.ids.get((self.device, name))
        return [] if number is None else self._reader.thinned(number, start, end)

    def _power(self, start: int, end: int) -> Sequence[Reading]:
        flow = self._model.flows.get("battery_discharge")
        if flow is None:
            return []
        own = [feed for feed in flow.feeds if feed.device == self.device and not feed.product]
        if not own or not own[0].power:
            return []
        return self._series(own[0].power[0], start, end)

    def _stages(self, start: int, end: int) -> list[tuple[int, str]]:
        """The charger's stages over [start, end), with the one that it came in with."""
        table = tables.state
        found: list[tuple[int, str]] = []
        for (_, name), number in self._model.ids.items():
            if name not in STAGES:
                continue
            mine = table.c.series_id == number
            first = self._connection.execute(
                select(table.c.value)
                .where(mine, table.c.ts <= start)
                .order_by(table.c.ts.desc())
                .limit(1)
            ).scalar()
            if first is not None:
                found.append((start, str(first)))
            rows = self._connection.execute(
                select(table.c.ts, table.c.value)
                .where(mine, table.c.ts > start, table.c.ts < end)
                .order_by(table.c.ts)
            )
            found += [(int(ts), str(value)) for ts, value in rows]
            break  # one charger tells; several would contradict each other
        return found

    def _irradiance(self, start: int, end: int) -> dict[int, float] | None:
        numbers = [number for (_, name), number in self._model.ids.items() if name == IRRADIANCE]
        if not numbers:
            return None
        sums: dict[int, list[float]] = {}
        for ts, value in self._reader.thinned(numbers[0], start, end):
            sums.setdefault(ts - ts % BUCKET_MS, []).append(value)
        return {ts: sum(values) / len(values) for ts, values in sums.items()}


def write_sweeps(connection: Connection, device: str, found: Sequence[Sweep], end: int) -> None:
    """Put what was found in place of what stood there from the first of them on."""
    if not found:
        return
    table = tables.battery_sweep
    first = min(sweep.started for sweep in found)
    connection.execute(
        table.delete().where(
            table.c.device == device, table.c.started >= first, table.c.started < end
        )
    )
    rows = [
        {
            "device": device,
            "started": sweep.started,
            "ended": sweep.ended,
            "direction": sweep.direction,
            "from_percent": sweep.from_percent,
            "to_percent": sweep.to_percent,
            "ah": sweep.ah,
            "wh": sweep.wh,
            "capacity_ah": sweep.capacity_ah,
            "capacity_wh": sweep.capacity_wh,
            "confidence": sweep.confidence,
        }
        for sweep in {sweep.started: sweep for sweep in found}.values()
    ]
    connection.execute(table.insert(), rows)


def battery_of(connection: Connection, figures: Figures, section: EnergySection) -> Battery:
    """Throughput, cycles and measured capacity for a period."""
    out = figures.wh("battery_discharge")
    if out is None:
        return Battery()
    capacity = section.battery_kwh * 1000 if section.battery_kwh else None
    measured = 0
    if capacity is None:
        table = tables.battery_sweep
        rows = connection.execute(
            select(table.c.capacity_wh, table.c.confidence)
            .where(table.c.direction == "discharge", table.c.confidence >= SURE)
            .order_by(table.c.started.desc())
            .limit(NEWEST_SWEEPS)
        ).all()
        measured = len(rows)
        weight = sum(row.confidence for row in rows)
        if weight:
            capacity = sum(row.capacity_wh * row.confidence for row in rows) / weight
    return Battery(out, full_cycles(out, capacity), capacity, measured)


def clear_sky(place: Place, start: int, end: int) -> dict[int, float] | None:
    """Light on a level place under a clear sky by bucket [W/m²], roughly; None without a place."""
    if place.latitude is None or place.longitude is None:
        return None
    return {
        ts: CLEAR_W_M2 * max(0.0, _height(place.latitude, place.longitude, ts)) ** 1.15
        for ts in range(start - start % BUCKET_MS, end, BUCKET_MS)
    }


def _height(latitude: float, longitude: float, ts: int) -> float:
    """Sine of the sun's height, to about a degree: seasons and hours, no equation of time."""
    days = ts / DAY_MS - 10957.5  # since noon of 2000-01-01
    tilt = math.radians(-23.44) * math.cos(2 * math.pi * (days + 10) / 365.24)
    hour = 2 * math.pi * (ts % DAY_MS) / DAY_MS - math.pi + math.radians(longitude)
    north = math.radians(latitude)
    return math.sin(north) * math.sin(tilt) + math.cos(north) * math.cos(tilt) * math.cos(hour)
