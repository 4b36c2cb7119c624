"""The battery's past: spread by state, sensors, the third state of charge, sweeps.

Read from hours, days, sweeps and the energy books; nothing here looks at samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, tzinfo
from statistics import median
from typing import NamedTuple

from sqlalchemy import Connection, func, select
from sunmesh.database import tables
from sunmesh.database.sql import packed

from .. import words
from ..device.past import ids_of
from ..plot import Axis, Line, Point, axis, line, spark
from ..text import N_, _, day, ngettext, number, percent
from .book import YEAR_DAYS, Book, book, turnover
from .pack import PLACES, Where, millivolts, where
from .profile import BatteryProfile

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DAYS = 30
"""How far back the pictures look."""
FULL_PERCENT = 99.5
SURE = 0.5
"""Sweeps of less confidence measure mostly the battery's own opinion."""
NEWEST = 5
TREND_DAYS = 90
TREND_SWEEPS = 6
SHOWN: tuple[Where, ...] = ("rest", "top", "bottom")
MARKS: Mapping[Where, str] = {"rest": "dot", "top": "square", "bottom": "bar"}
POWER_STEP_W = 500
POWER_BINS = 12


class Hour(NamedTuple):
    """One hour of a series."""

    ts: int
    min: float
    max: float
    mean: float
    last: float
    covered_ms: float


def hours_of(
    connection: Connection, ids: Sequence[int], start: int, end: int
) -> dict[int, list[Hour]]:
    """Hours of several series, each in order of time."""
    found: dict[int, list[Hour]] = {number: [] for number in ids}
    if not ids:
        return found
    listed = ", ".join(str(int(number)) for number in ids)
    moment = "ts" if connection.dialect.name == "sqlite" else "CAST(ts AS SIGNED)"
    rows = packed(
        connection,
        (moment, "series_id", "`min`", "`max`", "mean", "`last`", "covered_ms"),
        f"FROM `hour` WHERE series_id IN ({listed}) AND ts >= {int(start)} AND ts < {int(end)}",
    )
    for ts, number_, *values in rows:
        found[int(number_)].append(Hour(int(ts), *values))
    return found


# -- spread ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placed:
    """An hour with the state that the battery was in, and the cells' spread in it [mV]."""

    ts: int
    place: Where
    spread_mv: float


def placed(
    spread: Sequence[Hour],
    soc: Sequence[Hour],
    amperes: Sequence[Hour],
    capacity_ah: float | None,
) -> list[Placed]:
    """Hours by state: where it was full or empty the largest spread counts, at rest the mean."""
    socs = {hour.ts: hour for hour in soc}
    currents = {hour.ts: hour for hour in amperes}
    found = []
    for hour in spread:
        charge, flow = socs.get(hour.ts), currents.get(hour.ts)
        high = where(charge.max if charge else None, None, None)
        low = where(charge.min if charge else None, None, None)
        place: Where = where(None, flow.mean if flow else None, capacity_ah)
        if high == "top":
            place = "top"
        elif low == "bottom":
            place = "bottom"
        value = hour.mean if place in ("rest", "working") else hour.max
        found.append(Placed(hour.ts, place, value * 1000))
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    """One state over the days: its usual spread, in words."""

    key: str
    label: str
    text: str
    note: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing and its labels."""

    lines: Sequence[Line]
    y: Sequence[str]
    grid: Sequence[str]
    x: Sequence[str]
    unit: str = ""
    about: str = ""


def axis_texts(y: Axis, unit: str = "") -> list[str]:
    """Labels from the top down."""
    end = f"{words.HARD}{unit}" if unit else ""
    return [f"{number(value, y.digits)}{end}" for value in reversed(y.ticks)]


def grid_lines(y: Axis) -> list[str]:
    """Heights of the ticks in the picture, from the top down."""
    return [f"{(1 - y.share(value)) * 300:.1f}" for value in reversed(y.ticks)]


def day_labels(first: date, days: int, parts: int = 3) -> list[str]:
    """Dates under a picture, evenly spaced, the first and the last included."""
    return [
        day(first + timedelta(days=round(index * (days - 1) / parts)), "MMMd")
        for index in range(parts + 1)
    ]


def spread_picture(
    hours: Sequence[Placed], today: date, zone: tzinfo
) -> tuple[Picture | None, list[Summary]]:
    """Each day's usual spread by state, and the days together."""
    first = today - timedelta(days=DAYS - 1)
    by: dict[Where, dict[int, list[float]]] = {place: {} for place in SHOWN}
    for hour in hours:
        if hour.place in by:
            index = (datetime.fromtimestamp(hour.ts / 1000, zone).date() - first).days
            if 0 <= index < DAYS:
                by[hour.place].setdefault(index, []).append(hour.spread_mv)
    values = [median(found) for days in by.values() for found in days.values()]
    if not values:
        return None, []
    y = axis(values, zero=True, least=20)
    lines, summaries = [], []
    for place in SHOWN:
        days = by[place]
        label = _(PLACES[place])
        points = [
            Point(
                index / (DAYS - 1),
                median(days[index]),
                f"{day(first + timedelta(days=index), 'MMMd')}, {label}: "
                f"{millivolts(median(days[index]))}",
            )
            for index in sorted(days)
        ]
        if not points:
            summaries.append(Summary(place, label, words.NONE, _("not in these days")))
            continue
        lines.append(
            line(place, label, points, y, mark=MARKS[place], joined=3 / DAYS)  # type: ignore[arg-type]
        )
        count = sum(len(found) for found in days.values())
        middle = median(value for found in days.values() for value in found)
        summaries.append(
            Summary(
                place,
                label,
                millivolts(middle),
                ngettext("usual of %(num)d hour", "usual of %(num)d hours", count),
            )
        )
    picture = Picture(lines, axis_texts(y), grid_lines(y), day_labels(first, DAYS), "mV")
    return picture, summaries


@dataclass(frozen=True, slots=True)
class Habit:
    """How far a cell usually is from the mean of all, in words; empty = not known."""

    top: str
    bottom: str
    is_odd: bool


def habits(cells: Mapping[int, Sequence[Hour]], hours: Sequence[Placed]) -> dict[int, Habit]:
    """For each cell, how far above the others it runs when full and how far below when empty."""
    by_cell = {number_: {hour.ts: hour for hour in found} for number_, found in cells.items()}
    if len(by_cell) < 2:
        return {}
    deviations: dict[str, dict[int, float]] = {}
    for place, which in (("top", "max"), ("bottom", "min")):
        sums: dict[int, list[float]] = {number_: [] for number_ in by_cell}
        for hour in hours:
            if hour.place != place:
                continue
            row = {
                number_: getattr(found[hour.ts], which)
                for number_, found in by_cell.items()
                if hour.ts in found
            }
            if len(row) < len(by_cell):
                continue
            middle = sum(row.values()) / len(row)
            for number_, value in row.items():
                sums[number_].append((value - middle) * 1000)
        deviations[place] = {
            number_: median(found) for number_, found in sums.items() if len(found) >= 3
        }
    found = {}
    for number_ in by_cell:
        top, bottom = deviations["top"].get(number_), deviations["bottom"].get(number_)
        found[number_] = Habit(
            _signed(top), _signed(bottom), abs(top or 0) >= 30 or abs(bottom or 0) >= 60
        )
    return found


def _signed(value: float | None) -> str:
    if value is None:
        return ""
    sign = "+" if value > 0 and round(value) else ""
    return f"{sign}{number(value, 0)}{words.HARD}mV"


# -- temperatures ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Warmth:
    """A sensor's last day."""

    label: str
    text: str
    path: str


def warmth(sensors: Mapping[int, Sequence[Hour]], now_ms: int) -> list[Warmth]:
    """Lowest and highest of each sensor in the last 24 hours, and its curve."""
    start = now_ms - DAY_MS
    found = []
    for index, hours in sorted(sensors.items()):
        recent = [hour for hour in hours if hour.ts >= start]
        if not recent:
            continue
        low, high = min(hour.min for hour in recent), max(hour.max for hour in recent)
        found.append(
            Warmth(
                _("Sensor %(number)s", number=index),
                _(
                    "%(low)s to %(high)s °C in 24 hours",
                    low=number(low, 0),
                    high=number(high, 0),
                ),
                spark([((hour.ts - start) / DAY_MS, hour.mean) for hour in recent], 0.1, least=4.0),
            )
        )
    return found


# -- the third state of charge ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Count:
    """A state of charge counted from the current since the battery was last full.

    Attributes:
        percent: the figure; None where it cannot be made.
        since: when it was full [ms].
        covered: share of the time since of which the current is known, 0 to 1.
        why: it cannot be made.
    """

    percent: float | None = None
    since: int | None = None
    covered: float = 0.0
    why: str = ""


def count(
    soc: Sequence[Hour], amperes: Sequence[Hour], capacity_ah: float | None, now_ms: int
) -> Count:
    """Ampere-hours since the battery was last full, as a state of charge."""
    if not capacity_ah:
        return Count(why=N_("its size in ampere-hours is not known"))
    if not amperes:
        return Count(why=N_("no current is recorded"))
    full = max((hour.ts for hour in soc if hour.last >= FULL_PERCENT), default=None)
    if full is None:
        return Count(why=N_("it was not full in these days, so there is nothing to count from"))
    since = full + HOUR_MS
    counted = [hour for hour in amperes if hour.ts >= since]
    charge = sum(hour.mean * hour.covered_ms / HOUR_MS for hour in counted)
    elapsed = now_ms - since
    covered = sum(hour.covered_ms for hour in counted) / elapsed if elapsed > HOUR_MS else 1.0
    covered = min(1.0, covered)
    if covered < 0.8:
        return Count(None, since, covered, N_("too much of the current since is missing"))
    return Count(min(100.0, max(0.0, 100 - charge / capacity_ah * 100)), since, covered)


# -- sweeps ----------------------------------------------------------------------------------------


class Sweep(NamedTuple):
    """A row of ``battery_sweep``."""

    started: int
    ended: int
    direction: str
    from_percent: float
    to_percent: float
    ah: float | None
    wh: float
    capacity_ah: float | None
    capacity_wh: float
    confidence: float


def sweeps_of(connection: Connection, device: str) -> list[Sweep]:
    """Sweeps of a battery, the oldest first."""
    c = tables.battery_sweep.c
    rows = connection.execute(
        select(
            *(c.started, c.ended, c.direction, c.from_percent, c.to_percent),
            *(c.ah, c.wh, c.capacity_ah, c.capacity_wh, c.confidence),
        )
        .where(c.device == device)
        .order_by(c.started)
    )
    return [Sweep._make(row)._replace(started=int(row[0]), ended=int(row[1])) for row in rows]


def measured(sweeps: Sequence[Sweep]) -> tuple[float | None, float | None, int]:
    """Capacity by the newest sure discharges: Wh, Ah, and of how many."""
    sure = [s for s in sweeps if s.direction == "discharge" and s.confidence >= SURE][-NEWEST:]
    weight = sum(s.confidence for s in sure)
    if not weight:
        return None, None, 0
    wh = sum(s.capacity_wh * s.confidence for s in sure) / weight
    with_ah = [s for s in sure if s.capacity_ah is not None]
    known = sum(s.confidence for s in with_ah)
    ah = sum((s.capacity_ah or 0.0) * s.confidence for s in with_ah) / known if known else None
    return wh, ah, len(sure)


@dataclass(frozen=True, slots=True)
class Trend:
    """How the capacity changes: share a year, and how far that can be wrong (two sigma)."""

    per_year: float
    within: float


def trend(sweeps: Sequence[Sweep]) -> Trend | None:
    """A straight line through the sure discharges, by confidence; None while it is too early."""
    sure = [s for s in sweeps if s.direction == "discharge" and s.confidence >= SURE]
    if len(sure) < TREND_SWEEPS or sure[-1].started - sure[0].started < TREND_DAYS * DAY_MS:
        return None
    years = [(s.started - sure[0].started) / DAY_MS / YEAR_DAYS for s in sure]
    weights = [s.confidence for s in sure]
    whole = sum(weights)
    mean_x = sum(w * x for w, x in zip(weights, years, strict=True)) / whole
    mean_y = sum(w * s.capacity_wh for w, s in zip(weights, sure, strict=True)) / whole
    spread_x = sum(w * (x - mean_x) ** 2 for w, x in zip(weights, years, strict=True))
    if spread_x <= 0 or mean_y <= 0:
        return None
    slope = (
        sum(
            w * (x - mean_x) * (s.capacity_wh - mean_y)
            for w, x, s in zip(weights, years, sure, strict=True)
        )
        / spread_x
    )
    rest = sum(
        w * (s.capacity_wh - mean_y - slope * (x - mean_x)) ** 2
        for w, x, s in zip(weights, years, sure, strict=True)
    )
    error = math.sqrt(rest / (len(sure) - 2) / spread_x)
    return Trend(slope / mean_y, 2 * error / mean_y)


def trend_text(found: Trend | None, sweeps: Sequence[Sweep]) -> str:
    """What the trend says, or why it says nothing yet."""
    if found is None:
        return _(
            "A trend takes %(sweeps)d deep discharges over %(days)d days; there are %(have)d.",
            sweeps=TREND_SWEEPS,
            days=TREND_DAYS,
            have=sum(s.direction == "discharge" and s.confidence >= SURE for s in sweeps),
        )
    said = {
        "change": number(abs(found.per_year) * 100, 1),
        "within": number(found.within * 100, 1),
    }
    if abs(found.per_year) < found.within:
        return _("No clear trend: it can be told to ± %(within)s %% a year.", **said)
    if found.per_year < 0:
        return _("It loses %(change)s %% a year (± %(within)s).", **said)
    return _("It seems to gain %(change)s %% a year (± %(within)s): measure on.", **said)


def capacity_picture(sweeps: Sequence[Sweep], zone: tzinfo) -> Picture | None:
    """Each sweep's capacity."""
    shown = [s for s in sweeps if s.confidence >= SURE]
    if not shown:
        return None
    first, last = shown[0].started, max(shown[-1].started, shown[0].started + 7 * DAY_MS)
    y = axis([s.capacity_wh / 1000 for s in shown], least=1.0)
    lines = []
    for direction, label, mark in (
        ("discharge", _("full to low"), "dot"),
        ("charge", _("low to full, with losses"), "square"),
    ):
        points = [
            Point(
                (s.started - first) / (last - first),
                s.capacity_wh / 1000,
                _(
                    "%(date)s: %(energy)s from %(begin)s %% to %(end)s %%",
                    date=day(words.local(s.started, zone).date(), "MMMd"),
                    energy=words.energy(s.capacity_wh / 1000),
                    begin=number(s.from_percent, 0),
                    end=number(s.to_percent, 0),
                ),
            )
            for s in shown
            if s.direction == direction
        ]
        if points:
            lines.append(line(direction, label, points, y, mark=mark))  # type: ignore[arg-type]
    begin = words.local(first, zone).date()
    days = (words.local(last, zone).date() - begin).days + 1
    return Picture(lines, axis_texts(y), grid_lines(y), day_labels(begin, days), "kWh")


# -- histograms ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar: its label, its length 0 to 100, its text."""

    label: str
    width: str
    text: str


def _bins(labels: Sequence[str], values: Sequence[float], texts: Sequence[str]) -> list[Bin]:
    most = max(values, default=0.0)
    return [
        Bin(label, f"{value / most * 100 if most else 0:.1f}", text)
        for label, value, text in zip(labels, values, texts, strict=True)
    ]


def soc_bins(soc: Sequence[Hour]) -> list[Bin]:
    """How much of the time was spent at which state of charge."""
    sums = [0.0] * 10
    for hour in soc:
        sums[min(9, max(0, int(hour.mean // 10)))] += hour.covered_ms
    whole = sum(sums)
    if not whole:
        return []
    labels = [f"{low * 10}–{low * 10 + 10}{words.HARD}%" for low in range(10)]
    shares = [value / whole for value in sums]
    texts = [percent(share) if not 0 < share < 0.005 else f"<{percent(0.01)}" for share in shares]
    return _bins(labels, shares, texts)[::-1]


def power_bins(connection: Connection, start: int, end: int) -> tuple[list[Bin], list[Bin]]:
    """Energy into and out of the battery by the power at which it went [kWh]."""
    c = tables.energy.c
    per_bin = POWER_STEP_W * tables.BUCKET_MS / HOUR_MS
    found = []
    for flow in ("battery_charge", "battery_discharge"):
        bucket = func.round(c.wh / per_bin - 0.5)  # FLOOR, which SQLite may not have
        rows = connection.execute(
            select(bucket, func.sum(c.wh))
            .where(c.flow == flow, c.ts >= start, c.ts < end, c.wh > 0)
            .group_by(bucket)
        )
        sums = [0.0] * POWER_BINS
        for index, wh in rows:
            sums[min(POWER_BINS - 1, max(0, int(index)))] += float(wh) / 1000
        while len(sums) > 1 and not sums[-1]:
            sums.pop()
        found.append(sums)
    longest = max(len(sums) for sums in found)
    if not any(any(sums) for sums in found):
        return [], []
    kilo = POWER_STEP_W / 1000
    labels = [
        f"{number(index * kilo, 1)}–{number((index + 1) * kilo, 1)}{words.HARD}kW"
        for index in range(longest)
    ]
    if longest == POWER_BINS:
        labels[-1] = _("above %(power)s kW", power=number((POWER_BINS - 1) * kilo, 1))
    both = []
    most = max(max(sums) for sums in found)
    for sums in found:
        sums += [0.0] * (longest - len(sums))
        both.append(
            [
                Bin(label, f"{value / most * 100:.1f}", words.energy(value))
                for label, value in zip(labels, sums, strict=True)
            ]
        )
    return both[0], both[1]


# -- all of it -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Past:
    """Everything that the page says of the past of one battery."""

    spread: Picture | None = None
    spread_by: Sequence[Summary] = ()
    habits: Mapping[int, Habit] = field(default_factory=dict)
    warmth: Sequence[Warmth] = ()
    counted: Count = field(default_factory=Count)
    capacity: Picture | None = None
    trend: str = ""
    soc: Sequence[Bin] = ()
    power_in: Sequence[Bin] = ()
    power_out: Sequence[Bin] = ()
    book: Book = field(default_factory=Book)
    capacity_ah: float | None = None


def read(
    connection: Connection,
    device: str,
    rated_ah: float | None,
    profile: BatteryProfile,
    zone: tzinfo,
    now: datetime,
    *,
    with_book: bool = True,
) -> Past:
    """The past of one battery.

    Args:
        connection: read-only will do.
        device: its name.
        rated_ah: what it is meant to hold.
        profile: what the owner says.
        zone: the site's.
        now: the site's time.
        with_book: whether the energy books are about this battery (and all others).
    """
    today = now.astimezone(zone).date()
    now_ms = round(now.timestamp() * 1000)
    start = now_ms - DAYS * DAY_MS
    start -= start % HOUR_MS
    ids = ids_of(connection, device)
    cells = {
        int(name.rpartition("/")[2]): number_
        for name, number_ in ids.items()
        if name.startswith("cell_voltage_v/")
    }
    sensors = {
        int(name.rpartition("/")[2]): number_
        for name, number_ in ids.items()
        if name.startswith("battery_temperature_c/")
    }
    names = ("cell_voltage_spread_v", "battery_soc_percent", "battery_current_a")
    wanted = [ids[name] for name in names if name in ids]
    hours = hours_of(connection, wanted, start, now_ms)
    spread, soc, amperes = (hours.get(ids.get(name, -1), []) for name in names)
    sweeps = sweeps_of(connection, device)
    wh, ah, sweep_count = measured(sweeps)
    size_ah = ah or rated_ah
    by_state = placed(spread, soc, amperes, size_ah)
    picture, summaries = spread_picture(by_state, today, zone)
    warm = hours_of(connection, list(sensors.values()), now_ms - DAY_MS, now_ms)
    past = Past(
        spread=picture,
        spread_by=summaries,
        habits=_habits(connection, cells, by_state),
        warmth=warmth({index: warm[number_] for index, number_ in sensors.items()}, now_ms),
        counted=count(soc, amperes, size_ah, now_ms),
        capacity=capacity_picture(sweeps, zone),
        trend=trend_text(trend(sweeps), sweeps) if sweeps else "",
        soc=soc_bins(soc),
        capacity_ah=size_ah,
    )
    if not with_book:
        return past
    power_in, power_out = power_bins(connection, start, now_ms)
    rated = ""
    if ah and rated_ah:
        rated = _(
            "%(measured)s of %(rated)s Ah",
            measured=number(ah, 0),
            rated=number(rated_ah, 0),
        )
    return replace(
        past,
        power_in=power_in,
        power_out=power_out,
        book=book(
            turnover(connection, zone, today),
            wh / 1000 if wh else None,
            sweep_count,
            rated,
            profile,
            today,
        ),
    )


def _habits(
    connection: Connection, cells: Mapping[int, int], by_state: Sequence[Placed]
) -> dict[int, Habit]:
    """Cells in the hours in which the battery was full or empty; those hours only."""
    times = [hour.ts for hour in by_state if hour.place in ("top", "bottom")][-240:]
    if not times or len(cells) < 2:
        return {}
    moments = ", ".join(map(str, times))
    numbers = {number_: index for index, number_ in cells.items()}
    listed = ", ".join(map(str, numbers))
    moment = "ts" if connection.dialect.name == "sqlite" else "CAST(ts AS SIGNED)"
    found: dict[int, list[Hour]] = {index: [] for index in cells}
    for ts, number_, low, high in packed(
        connection,
        (moment, "series_id", "`min`", "`max`"),
        f"FROM `hour` WHERE series_id IN ({listed}) AND ts IN ({moments})",
    ):
        found[numbers[int(number_)]].append(Hour(int(ts), low, high, low, high, 0))
    return habits(found, by_state)
