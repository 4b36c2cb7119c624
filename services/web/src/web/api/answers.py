"""From what the portal knows to what the API says. Pure."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as time_of_day
from decimal import Decimal
from typing import Literal, cast

from sunmesh import clock, messages
from sunmesh.database.energy import Figures
from sunmesh.database.history import Curve
from sunmesh.errors import SunmeshError
from sunmesh.messages import Info as DeviceInfo
from sunmesh.messages import Settings as DeviceSettings
from sunmesh.messages import Value
from sunmesh.vocabulary import VOCABULARY, unit_of

from .. import alarms as book
from .. import house as houses
from .. import orders, words
from ..energy import Books
from ..live import Memory
from ..queries import PastAlarm
from . import schemas

EARLIEST, LATEST = date(1990, 1, 1), date(2200, 1, 1)
"""Nothing that is asked for lies outside of that."""
MOST_YEARS = 100


class QueryError(SunmeshError):
    """What was asked for is well written and makes no sense; the text says why."""


def moment(ms: int | None) -> datetime | None:
    """Milliseconds since 1970 as a time."""
    return None if ms is None else clock.from_ms(ms)


def plain(value: Value) -> Value:
    """A value that JSON can carry."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def rounded(value: float | None, digits: int = 1) -> float | None:
    """Without what no meter measures."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


# -- what is asked for -----------------------------------------------------------------------------


def when(text: str, zone: tzinfo) -> datetime:
    """A moment as the API takes it: with its offset, or the beginning of a local day.

    Raises:
        QueryError: no moment, or none that anything is known of.
    """
    try:
        if len(text) == 10:
            found = datetime.combine(date.fromisoformat(text), time_of_day(), zone)
        else:
            found = datetime.fromisoformat(text.replace("z", "Z").replace("t", "T"))
            if found.tzinfo is None:
                found = found.replace(tzinfo=zone)
        if not EARLIEST <= found.date() < LATEST:
            raise QueryError(f"{text} is before {EARLIEST} or after {LATEST}")
    except (ValueError, OverflowError):
        raise QueryError(
            f"{text[:40]!r} is no moment; write 2026-11-21 or 2026-11-21T12:00:00Z"
        ) from None
    return found


def stretch(start: str | None, end: str | None, now: datetime, zone: tzinfo) -> tuple[int, int]:
    """First moment and the one after the last [ms]; without any, the last 24 hours.

    Raises:
        QueryError: the end is not after the beginning, or too far from it.
    """
    last = when(end, zone) if end is not None else now
    first = when(start, zone) if start is not None else last - timedelta(days=1)
    if last <= first:
        raise QueryError("“to” must be after “from”")
    if last - first > timedelta(days=366 * MOST_YEARS):
        raise QueryError(f"at most {MOST_YEARS} years at once")
    return clock.epoch_ms(first.astimezone(UTC)), clock.epoch_ms(last.astimezone(UTC))


DAYS = {"hour": 31, "day": 3660, "month": 366 * MOST_YEARS, "year": 366 * MOST_YEARS}
"""How many days may be asked for at once, by what they are split into."""


def days(start: date | None, end: date | None, by: str, today: date) -> tuple[date, date]:
    """First local day, and the first after the last.

    Raises:
        QueryError: the last one is before the first, or too far from it.
    """
    first = start or end or today
    last = end or (first if start is not None and start > today else today)
    for each in (first, last):
        if not EARLIEST <= each < LATEST:
            raise QueryError(f"{each} is before {EARLIEST} or after {LATEST}")
    if last < first:
        raise QueryError("“to” must not be before “from”")
    most = DAYS.get(by, DAYS["year"])
    if (last - first).days >= most:
        raise QueryError(f"at most {most} days at once by {by}")
    return first, last + timedelta(days=1)


# -- now -------------------------------------------------------------------------------------------


def today(books: Books) -> schemas.Today:
    """The day so far."""
    return schemas.Today(
        pv=rounded(books.pv, 3),
        load=rounded(books.load, 3),
        grid_import=rounded(books.grid_in, 3),
        grid_export=rounded(books.grid_out, 3),
        battery_charge=rounded(books.battery_in, 3),
        battery_discharge=rounded(books.battery_out, 3),
    )


def house_now(house: houses.House, books: Books) -> schemas.HouseNow:
    """The house as one whole."""
    return schemas.HouseNow(
        pv_w=rounded(house.pv_w),
        load_w=rounded(house.load_w),
        battery_w=rounded(house.battery_w),
        battery_v=rounded(house.battery_v, 3),
        battery_a=rounded(house.battery_a, 3),
        battery_soc_percent=rounded(house.soc),
        grid_w=rounded(house.grid_w),
        grid_estimated=house.grid_estimated,
        grid_v=rounded(house.grid_v),
        grid_present=house.grid_present,
        loss_w=rounded(house.loss_w),
        residual_w=rounded(house.residual_w),
        mode=house.mode,
        today=today(books),
    )


def device_now(device: houses.Device, now_ms: int) -> schemas.DeviceNow:
    """The newest sample of a device."""
    return schemas.DeviceNow(
        device=device.name,
        family=device.family,
        ts=moment(device.ms),
        age_s=None if device.ms is None else round((now_ms - device.ms) / 1000, 1),
        freshness=device.freshness(now_ms),
        state=device.state,
        values={name: plain(value) for name, value in device.values.items()},
        quality=dict(device.quality),
    )


# -- devices ---------------------------------------------------------------------------------------


def device(found: houses.Device, memory: Memory, now_ms: int) -> schemas.Device:
    """Who a device is and how it is."""
    info = memory.info or DeviceInfo(ts="", family=found.family)
    return schemas.Device(
        name=found.name,
        title=words.title(found.name),
        family=found.family,
        state=found.state,
        since=moment(found.since),
        reason=found.reason,
        freshness=found.freshness(now_ms),
        last_seen=moment(found.ms),
        poll_interval_s=found.period_s,
        is_configured=found.configured,
        through=found.behind,
        manufacturer=info.manufacturer,
        model=info.model,
        serial=info.serial,
        firmware=info.firmware,
        protocol=info.protocol,
        nameplate={name: plain(value) for name, value in info.nameplate.items()},
        settable=list(info.settable),
    )


def settings(
    name: str, info: DeviceInfo | None, read: DeviceSettings | None, refuses: str
) -> schemas.Settings:
    """What a device is set to, and what it takes."""
    rows: list[schemas.Setting] = []
    settable = info.settable if info else []
    values = read.values if read else {}
    for key in dict.fromkeys([*settable, *values]):
        limits = info.ranges.get(key) if info else None
        writes = read.writes.get(key) if read else None
        rows.append(
            schemas.Setting(
                name=key,
                value=plain(values.get(key)),
                unit=(limits.unit if limits else "") or unit_of(key),
                is_settable=key in settable,
                low=limits.low if limits else None,
                high=limits.high if limits else None,
                step=limits.step if limits else None,
                choices=list(limits.choices) if limits else [],
                risk=limits.risk if limits else "normal",
                writes_today=writes.today if writes else None,
                writes_lifetime=writes.lifetime if writes else None,
                writes_budget=writes.budget if writes else None,
            )
        )
    return schemas.Settings(
        device=name, ts=clock.parse(read.ts) if read else None, refuses=refuses, settings=rows
    )


# -- history ---------------------------------------------------------------------------------------

Kind = Literal["gauge", "counter", "state", "list"]


def kind_of(text: str) -> Kind:
    """A kind as the database has it; what is not known is a gauge."""
    return cast("Kind", text) if text in ("gauge", "counter", "state", "list") else "gauge"


def points(found: schemas.Series, span: tuple[int, int], curve: Curve) -> schemas.Points:
    """A curve, with one null where nothing is known."""
    ts: list[int] = []
    mean: list[float | None] = []
    low: list[float | None] = []
    high: list[float | None] = []
    for each in curve.points:
        if ts and not each.joined:
            ts.append((ts[-1] + each.ts) // 2)
            for column in (mean, low, high):
                column.append(None)
        ts.append(each.ts)
        for column, value in zip((mean, low, high), (each.mean, each.min, each.max), strict=True):
            column.append(float(f"{value:.6g}"))
    return schemas.Points(
        found.device,
        found.name,
        found.unit,
        clock.from_ms(span[0]),
        clock.from_ms(span[1]),
        curve.level,
        curve.step_ms / 1000,
        ts,
        mean,
        low,
        high,
    )


def texts(
    found: schemas.Series, span: tuple[int, int], rows: Sequence[tuple[int, str]]
) -> schemas.Points:
    """Words, each from its time on; the first is the one that held at the beginning."""
    return schemas.Points(
        found.device,
        found.name,
        found.unit,
        clock.from_ms(span[0]),
        clock.from_ms(span[1]),
        "state",
        0.0,
        [max(ts, span[0]) for ts, _ in rows],
        [],
        [],
        [],
        [text for _, text in rows],
    )


def energy_row(figures: Figures, hour: str | None = None) -> schemas.EnergyRow:
    """What a period comes to."""
    return schemas.EnergyRow(
        start=figures.first,
        end=figures.end - timedelta(days=1),
        hour=hour,
        flows={
            cast("schemas.Flow", flow): schemas.FlowEnergy(
                wh=round(found.wh, 3),
                covered=rounded(figures.covered(flow), 4),
                by_flag={flag: round(wh, 3) for flag, wh in found.by_flag.items()},
            )
            for flow, found in figures.flows.items()
        },
        autarky=rounded(figures.autarky, 4),
        self_consumption=rounded(figures.self_consumption, 4),
        losses_wh=rounded(figures.losses_wh, 3),
    )


def energy_csv(rows: Iterable[schemas.EnergyRow], flows: Sequence[str]) -> str:
    """As a table for machines."""
    lines = [",".join(("from", "to", "hour", *(f"{flow}_wh" for flow in flows)))]
    for row in rows:
        known = cast("Mapping[str, schemas.FlowEnergy]", row.flows)
        numbers = (f"{known[flow].wh:g}" if flow in known else "" for flow in flows)
        lines.append(",".join((str(row.start), str(row.end), row.hour or "", *numbers)))
    return "\r\n".join(lines) + "\r\n"


def points_csv(found: schemas.Points) -> str:
    """As a table for machines."""
    lines = ["time,text"] if found.level == "state" else ["time,mean,min,max"]
    if found.level == "state":
        lines += [
            f"{clock.iso(clock.from_ms(ts))},{_quoted(text)}"
            for ts, text in zip(found.ts, found.text, strict=True)
        ]
    else:
        for ts, *numbers in zip(found.ts, found.mean, found.min, found.max, strict=True):
            shown = ("" if number is None else f"{number:.6g}" for number in numbers)
            lines.append(",".join((clock.iso(clock.from_ms(ts)), *shown)))
    return "\r\n".join(lines) + "\r\n"


def _quoted(text: str) -> str:
    """A word for a table; a spreadsheet must not take it for a formula."""
    if text[:1] in "=+-@\t\r":
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


# -- alarms and commands ---------------------------------------------------------------------------


def open_alarm(
    key: tuple[str, str], alarm: messages.Alarm, seen: book.Seen | None
) -> schemas.Alarm:
    """An alarm that is raised."""
    return schemas.Alarm(
        device=key[0],
        code=key[1],
        id=alarm.id,
        severity=alarm.severity,
        title=alarm.title,
        text=alarm.text,
        advice=alarm.advice,
        raised=clock.from_ms(book.since_ms(alarm)),
        value=plain(alarm.value),
        cause=alarm.cause or "",
        is_flapping=alarm.flapping,
        acknowledged_by=seen.by if seen else "",
        acknowledged=moment(seen.ms) if seen else None,
    )


def past_alarm(alarm: PastAlarm) -> schemas.Alarm:
    """One that was, or is."""
    return schemas.Alarm(
        device=alarm.device,
        code=alarm.code,
        id=alarm.id,
        severity=cast("schemas.Severity", alarm.severity),
        title=alarm.title,
        text=alarm.text,
        raised=clock.from_ms(alarm.start),
        cleared=moment(alarm.end),
        value=plain(alarm.value),
        acknowledged_by=alarm.by,
        acknowledged=moment(alarm.acked),
    )


def step(found: orders.Step) -> schemas.Step:
    """One stage."""
    return schemas.Step(
        stage=found.stage,
        ts=clock.from_ms(found.ms),
        value=plain(found.value),
        detail=found.detail,
    )


def command(order: orders.Order, now_ms: int) -> schemas.Command:
    """A command and what became of it."""
    return schemas.Command(
        id=order.id,
        device=order.device,
        name=order.name,
        wants={name: plain(value) for name, value in order.wants.items()},
        was={name: plain(value) for name, value in order.was.items()},
        by=order.by,
        asked=clock.from_ms(order.ms),
        stage=order.stage(now_ms),
        is_pending=order.is_pending(now_ms),
        stages=[step(each) for each in order.whole],
        parts={name: [step(each) for each in steps] for name, steps in order.steps.items()},
    )


def quantities() -> schemas.Quantities:
    """The vocabulary."""
    return schemas.Quantities(
        [
            schemas.Quantity(row.name, row.unit, kind_of(str(row.kind)), row.sign, row.meaning)
            for row in VOCABULARY.values()
        ]
    )


def form_text(value: Value) -> str:
    """A value of JSON as a form carries it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"  # no exponent, as people write it
    return "" if value is None else str(value)


# -- a display on the wall -------------------------------------------------------------------------

LINE_MODES = frozenset({"line", "bypass"})
LEAST_W = 5.0
"""Less is no flow: meters hum."""
STATUS = {
    "G": "Line",
    "B": "Batteries",
    "F": "Photovoltaic",
    "H": "Batt+Photo",
    "?": "Unknown",
}
NONE = "--"


def supplier(house: houses.House) -> str:
    """Who feeds the house: G grid, B battery, F panels, H panels and battery; ? not known."""
    pv, battery, grid = house.pv_w or 0.0, house.battery_w or 0.0, house.grid_w or 0.0
    if house.load_w is None and house.mode is None:
        return "?"
    if house.mode in LINE_MODES or grid > LEAST_W:
        return "G"
    if pv > LEAST_W:
        return "H" if battery > LEAST_W else "F"
    return "B" if house.has_battery else "?"


def display(house: houses.House, books: Books, now: datetime, month: str) -> schemas.Display:
    """Everything that a display on the wall shows.

    Args:
        house: as it is now.
        books: of the day so far.
        now: at the site.
        month: its short name.
    """

    def watts(value: float | None) -> str:
        return NONE if value is None else f"{value:.0f}"

    def kwh(value: float | None) -> str:
        return NONE if value is None else f"{value:.2f}".replace(".", ",")

    def whole(value: float | None) -> int | None:
        return None if value is None else round(value)

    code = supplier(house)
    battery, grid = house.battery_w, house.grid_w
    into = None if battery is None else max(0.0, -battery)
    out_of = None if battery is None else max(0.0, battery)
    charges = battery is not None and battery < 0
    return schemas.Display(
        statusCode=f"(--{code}--)",
        statusText=STATUS[code],
        currTime=f"{now:%H:%M}",
        currDate=f"{now:%d} {month}",
        batt=NONE if house.soc is None else f"{house.soc:.0f}",
        prodW=watts(house.pv_w),
        prodWH=kwh(books.pv),
        battW=watts(into if charges else out_of),
        battWH=kwh(books.battery_in if charges else books.battery_out),
        impW=watts(None if grid is None else max(0.0, grid)),
        impWH=kwh(books.grid_in),
        consW=watts(house.load_w),
        consWH=kwh(books.load),
        I2H=whole(house.load_w),
        I2B=whole(into),
        B2I=whole(out_of),
        S2I=whole(house.pv_w),
        G2I=whole(None if grid is None else max(0.0, grid)),
        BattV=rounded(house.battery_v),
        BattA=whole(None if house.battery_a is None else abs(house.battery_a)),
    )


def display_line(found: schemas.Display) -> str:
    """The same as one line: status, time, date, charge, then watts and kWh of each."""
    return "|".join(
        (
            *(found.statusCode, found.currTime, found.currDate, found.batt),
            *(found.prodW, found.prodWH, found.impW, found.impWH, found.consW, found.consWH),
        )
    )
