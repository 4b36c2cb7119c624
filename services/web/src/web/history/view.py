"""What the page History says of a period: figures, bars, map, records, other years. Pure."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from babel import dates
from sunmesh.database.energy import Figures

from .. import text, words
from ..periods import Period, month_of
from ..text import N_, _
from .bars import Item, Picture, nice, picture
from .days import Days
from .metrics import Metric, offered
from .records import Record, records

COVERED = 0.95
WORTH_SAYING = 0.02
MOST_YEARS = 12

Link = Callable[[Period], str]

SELDOM = ("generator", "curtailed", "grid_export")
"""Flows that are booked where they can be, and are not there in many houses."""
COLOURS = {
    "grid_import": "grid_in",
    "grid_export": "grid_out",
    "battery_charge": "battery_in",
    "battery_discharge": "battery_out",
}
DOUBTS = (
    ("estimated", N_("%(share)s estimated")),
    ("recovered", N_("%(share)s recovered after gaps")),
    ("edited", N_("%(share)s corrected by hand")),
    ("imported", N_("%(share)s imported")),
)


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: ``change`` compares it, ``how`` says how sure it is."""

    key: str
    label: str
    amount: str
    change: str = ""
    how: str = ""


@dataclass(frozen=True, slots=True)
class Year:
    """The same period in another year; ``width`` of its bar in percent."""

    label: str
    amount: str
    width: str
    href: str
    here: bool
    name: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A day of the map: ``level`` 0 to 5, empty = unknown; ``state`` of days that are not there."""

    day: date | None
    level: str
    amount: str
    short: str


@dataclass(frozen=True, slots=True)
class Map:
    """A year as twelve rows of days; ``steps`` are the limits of its colours."""

    rows: Sequence[tuple[Period, str, Sequence[Cell]]]
    steps: Sequence[str]
    unit: str


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the page shows."""

    period: Period
    metric: Metric
    metrics: Sequence[Metric]
    headline: str
    tiles: Sequence[Tile]
    bars: Picture
    other: Period | None
    compared: str
    years: Sequence[Year]
    years_note: str
    map: Map | None
    records: Sequence[Record]
    booked: str
    is_open: bool
    figures: Figures
    items: Sequence[Item]

    @property
    def columns(self) -> Sequence[tuple[int, str]]:
        """Place and heading of each area that occurs, for tables."""
        ups = {key for key, _name, _amount in self.bars.up}
        downs = {key for key, _name, _amount in self.bars.down}
        count = len(self.metric.up)
        found = []
        for place, area in enumerate((*self.metric.up, *self.metric.down)):
            if area.key not in (ups if place < count else downs):
                continue
            name = _(area.name)
            if self.metric.key == "balance" and place >= count:
                name = _("Sun to: %(where)s", where=name)
            found.append((place, name))
        return found


def share_of(made: Figures, flow: str, flag: str) -> float:
    """The share of a flow's energy that carries a flag."""
    found = made.flows.get(flow)
    if found is None or found.wh <= 0:
        return 0.0
    return found.by_flag.get(flag, 0.0) / found.wh


def doubt(made: Figures, flow: str) -> list[str]:
    """How far a figure can be trusted; empty where it was measured all the time."""
    told = [
        _(pattern, share=text.percent(share))
        for flag, pattern in DOUBTS
        if (share := share_of(made, flow, flag)) >= WORTH_SAYING
    ]
    covered = made.covered(flow)
    if covered is not None and covered < COVERED and flow != "curtailed":
        told.append(_("%(share)s of the time is known", share=text.percent(covered)))
    return told


def headline(made: Figures) -> str:
    """The period in one sentence."""
    sun, load, autarky = made.wh("pv"), made.wh("load"), made.autarky
    says = {}
    if sun is not None:
        says["sun"] = words.energy(sun / 1000)
    if load is not None:
        says["load"] = words.energy(load / 1000)
    if autarky is not None:
        says["share"] = text.percent(autarky)
    if sun is not None and autarky is not None:
        if autarky > 0.9995:
            return _("%(sun)s from the sun, and nothing was bought.", **says)
        return _("%(sun)s from the sun; %(share)s of what the house used was not bought.", **says)
    if sun is not None and load is not None:
        return _("%(sun)s from the sun, %(load)s for the house.", **says)
    if sun is not None:
        return _("%(sun)s from the sun.", **says)
    if load is not None:
        return _("The house used %(load)s.", **says)
    return _("Little is known.")


def _change(now: float | None, was: float | None) -> str:
    """A figure against another: +12 %; empty where there is nothing to say."""
    if now is None or was is None or was <= 0:
        return ""
    share = now / was - 1
    if abs(share) < 0.005:
        return f"±{text.percent(0)}"
    if share > 9:
        return ""
    sign = "+" if share > 0 else ""
    return f"{sign}{text.percent(share)}"


def tiles(made: Figures, was: Figures | None, quiet: Collection[str] = ()) -> list[Tile]:
    """The figures that there are, but those of flows that this house does not really have."""
    found = []
    for flow, label in words.FLOW_NAMES.items():
        wh = made.wh(flow)
        if wh is None or flow in quiet:
            continue
        change = _change(wh, was.wh(flow)) if was else ""
        key = COLOURS.get(flow, flow)
        how = " · ".join(doubt(made, flow))
        found.append(Tile(key, _(label), words.energy(wh / 1000), change, how))
    for key, label, value, before in (
        ("autarky", _("Not bought"), made.autarky, was.autarky if was else None),
        (
            "own",
            _("Of the sun kept"),
            made.self_consumption,
            was.self_consumption if was else None,
        ),
    ):
        if value is not None and (key != "own" or "grid_export" not in quiet):
            change = _("then %(share)s", share=text.percent(before)) if before is not None else ""
            found.append(Tile(key, label, text.percent(value), change))
    losses = made.losses_wh
    if losses is not None and made.wh("pv") is not None:
        how = _("in inverter, battery and wires") if losses >= 0 else _("meters disagree")
        found.append(Tile("losses", _("Lost on the way"), words.energy(losses / 1000), "", how))
    return found


def until(days: Days, period: Period) -> Period:
    """As much of ``period`` as is booked: its other years are measured by the same days."""
    return replace(period, end=max(period.first, min(period.end, days.end)))


def alike(days: Days, period: Period, other: Period) -> Period:
    """The part of ``other`` that is as long as ``period`` is by now."""
    if period.end <= days.end:
        return other
    passed = days.end - period.first
    return replace(other, end=min(other.end, other.first + passed))


def items(
    days: Days, period: Period, metric: Metric, other: Period | None, link: Link
) -> list[Item]:
    """One for each bar."""
    others = list(other.parts()) if other else []
    found = []
    count = sum(1 for _part in period.parts())
    for index, part in enumerate(period.parts()):
        clip = period.clipped(part)
        made = days.figures(clip.first, clip.end)
        flows = [f for f in ("pv", "load", "grid_import") if f in made.flows] or list(made.flows)
        marks, notes = _marks(made, flows)
        was = None
        if index < len(others) and other is not None:
            then = other.clipped(others[index])
            ups = metric.split(days.figures(then.first, then.end))[: len(metric.up)]
            was = math.fsum(v for v in ups if v is not None) if any(ups) else None
        short, narrow = _short(period, part, index, count)
        exists = bool(made.flows)
        found.append(
            Item(
                label=_label(period, part),
                short=short,
                narrow=narrow,
                values=metric.split(made),
                href=link(part) if exists else "",
                marks=marks,
                notes=notes,
                was=was,
                now=part.first < days.end <= part.end,
                ahead=part.first >= days.end,
            )
        )
    return found


def _marks(made: Figures, flows: Sequence[str]) -> tuple[list[str], list[str]]:
    marks, notes = [], []
    for flag in ("edited", "imported", "estimated"):
        most = max((share_of(made, flow, flag) for flow in flows), default=0.0)
        if most >= (0.5 if flag == "estimated" else WORTH_SAYING):
            marks.append(flag)
            pattern = dict(DOUBTS)[flag]
            notes.append(_(pattern, share=text.percent(most)))
    known = [share for flow in flows if (share := made.covered(flow)) is not None]
    if known and min(known) < COVERED:
        marks.insert(0, "partial")
        notes.append(_("%(share)s of the time is known", share=text.percent(min(known))))
    return marks, notes


def _label(period: Period, part: Period) -> str:
    if period.step == "day":
        return text.day(part.first, "MMMEd")
    return part.title


def _short(period: Period, part: Period, index: int, count: int) -> tuple[str, str]:
    """What stands under a bar, on a wide screen and on a phone."""
    if period.step == "year":
        whole = f"{part.first.year}"
        return whole, whole if count <= 8 else f"’{part.first:%y}"
    if period.step == "month":
        wide = text.day(part.first, "MMM")
        if count > 14:
            wide = f"{part.first.year}" if part.first.month == 1 else ""
            return wide, wide if count <= 40 else ""
        return wide, _letter(part.first)
    if period.kind == "month":
        number = f"{part.first.day}"
        phone = number if part.first.day == 1 or part.first.day % 5 == 0 else ""
        return number, phone
    every, sparse = max(1, round(count / 12)), max(1, round(count / 6))
    wide = text.day(part.first, "MMMd") if index % every == 0 else ""
    return wide, text.day(part.first, "Md") if index % sparse == 0 else ""


def _letter(month: date) -> str:
    """J, F, M: a month where there is no room."""
    return dates.format_date(month, "LLLLL", locale=text.locale())


def years(days: Days, period: Period, metric: Metric, link: Link) -> tuple[list[Year], str]:
    """The same period in every year of the books, and what to know about the comparison."""
    if period.kind not in ("month", "year"):
        return [], ""
    rows: list[tuple[Period, float | None]] = []
    for year in range(days.first.year, days.end.year + 1):
        other = period.moved(year - period.first.year)
        if other is None or other.end <= days.first or other.first >= days.end:
            continue
        part = alike(days, period, other)
        rows.append((other, metric.total(days.figures(part.first, part.end))))
    rows = rows[-MOST_YEARS:]
    if len(rows) < 2:
        return [], ""
    most = max((value for _other, value in rows if value is not None), default=0.0) or 1.0
    found = [
        Year(
            other.title if period.kind == "month" else f"{other.first.year}",
            metric.text(value),
            f"{max(0.5, 100 * value / most):.1f}%" if value else "0",
            link(other),
            other == period,
            other.name,
        )
        for other, value in rows
    ]
    note = ""
    if period.end > days.end:
        last = text.day(days.end - timedelta(days=1), "MMMd")
        note = _("Each year until %(day)s, so that they can be compared.", day=last)
    return found, note


def heat_map(days: Days, period: Period, metric: Metric) -> Map | None:
    """A year by the day."""
    if period.kind != "year":
        return None
    first, end = max(period.first, days.first), min(period.end, days.end)
    all_days = [first + timedelta(days=number) for number in range((end - first).days)]
    if metric.flow:
        values = {
            day: wh
            for day, wh in zip(all_days, days.values(metric.flow, first, end), strict=True)
            if wh == wh
        }
    else:
        shares = {day: metric.total(days.figures(day, day + timedelta(days=1))) for day in all_days}
        values = {day: share for day, share in shares.items() if share is not None}
    if len(values) < 2:
        return None
    step = 0.2 if metric.share else nice(max(values.values()), 5, fine=True)
    rows = []
    month = month_of(period.first)
    while month.first < period.end:
        cells: list[Cell] = []
        for number in range(31):
            day = month.first + timedelta(days=number)
            if day >= month.end:
                break
            cells.append(_cell(day, values.get(day), step, metric))
        rows.append((month, text.day(month.first, "MMM"), cells))
        month = month_of(month.end)
    digits = 0 if metric.share or step >= 1000 else 1
    factor = 100 if metric.share else 0.001
    steps = [text.number(step * n * factor, digits) for n in range(6)]
    return Map(rows, steps, "%" if metric.share else "kWh")


def _cell(day: date, value: float | None, step: float, metric: Metric) -> Cell:
    if value is None:
        return Cell(day, "", words.NONE, "")
    level = min(5, max(1, -int(-(value / step) // 1))) if value > 0 else 0
    shown = value * 100 if metric.share else value / 1000
    short = text.number(shown, 1 if shown < 9.95 and not metric.share else 0)
    return Cell(day, str(level), metric.text(value), short)


def default_other(days: Days, period: Period) -> Period | None:
    """What figures are compared with unless somebody asks: last year, else the one before."""
    for other in (period.moved(-1), period.before()):
        if other is not None and other.first >= days.first and other.first < days.end:
            return other
    return None


def build(
    days: Days,
    period: Period,
    metric: Metric,
    other: Period | None,
    link: Link,
    bar_link: Link,
) -> View:
    """The page of a period.

    Args:
        days: the books.
        period: which; begins before the books end.
        metric: of the bars.
        other: period that was asked to be compared with; drawn beside each bar.
        link: to a period, with what the address says beside.
        bar_link: to what a bar stands for, one level down.
    """
    made = days.figures(period.first, period.end)
    against = other or default_other(days, period)
    was, compared = None, ""
    if against is not None:
        part = alike(days, period, against)
        was = days.figures(part.first, part.end)
        if not was.flows:
            was, against = None, None
        elif part.end < against.end:
            compared = _(
                "compared with %(period)s until %(day)s",
                period=against.title,
                day=text.day(part.last, "MMMd"),
            )
        else:
            compared = _("compared with %(period)s", period=against.title)
    quiet = {flow for flow in SELDOM if not any(wh > 0 for wh in _all(days, flow))}
    told, note = years(days, period, metric, link)
    drawn = items(days, period, metric, other, bar_link)
    return View(
        period=period,
        metric=metric,
        metrics=offered(days.columns),
        headline=headline(made),
        tiles=tiles(made, was, quiet),
        bars=picture(metric, drawn),
        other=against,
        compared=compared if was is not None else "",
        years=told,
        years_note=note,
        map=heat_map(days, period, metric),
        records=records(days, period),
        booked=_booked(days),
        is_open=period.end >= days.end,
        figures=made,
        items=drawn,
    )


def _all(days: Days, flow: str) -> Iterable[float]:
    column = days.columns.get(flow)
    return column.wh if column else ()


def _booked(days: Days) -> str:
    if days.until is None:
        return ""
    return text.moment(words.local(days.until, days.zone))
