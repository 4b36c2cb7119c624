"""Page *Day*: one local day as a stacked chart, its totals, its table."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Response, abort, current_app, redirect, render_template, request
from sunmesh import clock
from werkzeug.wrappers import Response as BaseResponse

from .. import words
from ..app_shell import url_for
from ..day import events as day_events
from ..day.beside import Beside, beside, differences, moved, same_time, year_before
from ..energy import FLOWS, Books
from ..people.guard import visitor
from ..queries import WIDTH_MS, Day, HistoryError
from ..stack import Point, split, stack
from ..text import N_, _, gettext, percent
from ..text import day as words_of_day
from . import board, csv_file, now_ms, today
from .alarms import SEVERITIES
from .control import controls

blueprint = Blueprint("day", __name__)

CHART = "vendor/uPlot.js"
"""What ``install-assets`` brings."""
OLDEST = date(2000, 1, 1)

UP = (
    ("sun", N_("Sun"), N_("from the sun")),
    ("battery", N_("Battery"), N_("from the battery")),
    ("grid", N_("Grid"), N_("from the grid")),
    ("unmeasured", N_("Not measured"), N_("drawn, but seen by no meter")),
)
DOWN = (
    ("house", N_("House"), N_("sun to the house")),
    ("battery", N_("Battery"), N_("sun into the battery")),
    ("grid", N_("Grid"), N_("sun to the grid")),
    ("loss", N_("Own use"), N_("conversion and the inverter itself")),
)
"""Key, short name and meaning of each area, from the middle outwards."""


@dataclass(frozen=True, slots=True)
class Total:
    """One row of the table of totals; ``more`` than the other day, which had ``was``."""

    label: str
    text: str
    how: str
    more: str = ""
    was: str = ""


class NoDayError(ValueError):
    """What somebody wrote is no day that can be shown; the text says why."""


def read(text: str) -> date:
    """The date that somebody wrote.

    Raises:
        NoDayError: it is none, or none of the past.
    """
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        raise NoDayError(_("“%(text)s” is no date; write it as 2026-11-21.", text=text[:40]))
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise NoDayError(_("The calendar has no %(day)s.", day=text)) from None
    if day > today():
        raise NoDayError(_("%(day)s has not happened yet.", day=text))
    if day < OLDEST:
        raise NoDayError(_("%(day)s is before any record of this house.", day=text))
    return day


def parse(text: str) -> date:
    """The date in an address; anything else ends as a page that says why."""
    try:
        return read(text)
    except NoDayError as err:
        abort(HTTPStatus.NOT_FOUND, str(err))


@dataclass(frozen=True, slots=True)
class Against:
    """The day to compare with.

    Attributes:
        text: as the address has it.
        day: its curves and energies; None = there is nothing to compare with.
        note: why not.
    """

    text: str = ""
    day: Day | None = None
    note: str = ""

    @property
    def title(self) -> str:
        """The other day's name in full."""
        return words_of_day(self.day.date, "long") if self.day else ""

    @property
    def short(self) -> str:
        """The other day's name where there is little room."""
        if self.day is None:
            return ""
        is_near = abs((today() - self.day.date).days) < 300
        return words_of_day(self.day.date, "MMMd" if is_near else "medium")


def against(day: date) -> Against:
    """What the address asks to compare with.

    Raises:
        HistoryError: the database cannot be read.
    """
    asked = request.args.get("with", "").strip()[:40]
    if not asked:
        return Against()
    try:
        other = read(asked)
    except NoDayError as err:
        return Against(asked, note=str(err))
    if other == day:
        return Against(asked, note=_("That is this very day."))
    found = board().history.day(other)
    if not any(point.known for point in found.points):
        title = words_of_day(other, "long")
        return Against(asked, note=_("Nothing was recorded on %(day)s.", day=title))
    return Against(asked, found)


@dataclass(frozen=True, slots=True)
class Offer:
    """A day that may be worth comparing with."""

    label: str
    day: date
    is_chosen: bool


def offers(day: date, chosen: Against) -> list[Offer]:
    """The days that are near at hand, as far as they were recorded.

    Raises:
        HistoryError: the database cannot be read.
    """
    near = (
        (_("the day before"), day - timedelta(days=1)),
        (_("a week before"), day - timedelta(days=7)),
        (_("a year before"), year_before(day)),
    )
    known = board().history.recorded([other for _label, other in near])
    picked = chosen.day.date if chosen.day else None
    return [
        Offer(label, other, other == picked)
        for (label, other), is_known in zip(near, known, strict=True)
        if is_known
    ]


def address(to: date, day: date, chosen: Against) -> str:
    """Another day's page; it is compared with a day as far away as this one's."""
    other = moved(chosen.day.date, day, to) if chosen.day else None
    if other is None or not OLDEST <= other <= today():
        return url_for("day.page", text=to.isoformat())
    return url_for("day.page", text=to.isoformat(), **{"with": other.isoformat()})


def happened(day: Day) -> day_events.Told:
    """What happened on a day; nothing where that cannot be read."""
    try:
        found = board().history.happened(day.start, day.end)
    except HistoryError:
        return day_events.Told()
    live = board().live
    named = {device.name for device in live.devices(live.state())}
    made = day_events.events(
        found,
        controls().order_row,
        lambda number: controls().orders.get(number) is not None,
        named.__contains__,
        sees_people=visitor() is not None,
    )
    return day_events.tell(made, board().zone, is_cut=found.is_cut)


def totals(books: Books, other: Mapping[str, float | None] | None = None) -> list[Total]:
    """The day's energies, only of what exists, beside those of another."""
    than = differences(books, other) if other else {}
    rows = [
        Total(label, words.energy(value), books.note(key), *than.get(key, ()))
        for key, label in (
            ("pv", _("Sun")),
            ("load", _("House")),
            ("battery_in", _("Into the battery")),
            ("battery_out", _("Out of the battery")),
            ("grid_in", _("From the grid")),
            ("grid_out", _("To the grid")),
        )
        if (value := getattr(books, key)) is not None
    ]
    if books.autarky is not None:
        how = _("share not from the grid")
        rows.append(Total(_("Autarky"), percent(books.autarky), how, *than.get("autarky", ())))
    if books.own_share is not None:
        how = _("share of the sun kept")
        rows.append(
            Total(_("Own consumption"), percent(books.own_share), how, *than.get("own_share", ()))
        )
    return rows


def energies(other: Day, is_today: bool) -> tuple[Mapping[str, float | None], str]:
    """The other day's energies, as much of them as this day is old; and until when, as 13:05."""
    if not is_today:
        return {flow: getattr(other.books, flow) for flow in FLOWS}, ""
    now, zone = now_ms(), board().zone
    end = same_time(now, other.date, zone)
    if end is None:  # its clocks skipped this hour
        end = same_time(now + 3_600_000, other.date, zone) or other.end
    return board().so_far(other, end), f"{words.local(now, zone):%H:%M}"


def booked_until(books: Books, is_today: bool) -> str:
    """Until when today is in the energy books, as 12:05; empty when that is of no interest."""
    if books.until is None or not is_today:
        return ""
    return f"{clock.from_ms(books.until).astimezone(board().zone):%H:%M}"


def areas(points: Iterable[Point]) -> dict[str, float]:
    """Energy of each area of the chart [kWh], by ``up.sun``, ``down.house``, ..."""
    result: dict[str, float] = {}
    for point in points:
        share = split(point)
        if share is None:
            continue
        hours = point.covered_s / 3600
        for key, watts in (
            ("up.sun", share.sun_to_house),
            ("up.battery", share.battery_to_house),
            ("up.grid", share.grid_to_house),
            ("up.unmeasured", share.unmeasured),
            ("down.house", share.sun_to_house),
            ("down.battery", share.sun_to_battery),
            ("down.grid", share.sun_to_grid),
            ("down.loss", share.own_use),
        ):
            result[key] = result.get(key, 0.0) + watts * hours / 1000
    return result


def lines(both: Beside | None, chosen: Against) -> list[dict[str, Any]]:
    """The other day's curves, as far as it has them."""
    if both is None or chosen.day is None:
        return []
    books = chosen.day.books
    known = (
        ("load", _("House, %(day)s", day=chosen.short), both.load, books.load),
        ("sun", _("Sun, %(day)s", day=chosen.short), both.sun, books.pv),
    )
    return [
        {"key": key, "label": label, "edge": edge, "total": words.energy(kwh)}
        for key, label, edge, kwh in known
        if any(edge)
    ]


def chart(day: Day, chosen: Against) -> dict[str, Any]:
    """What the script draws: edges of the areas, curves, and the marks of the time axis."""
    zone = board().zone
    both = beside(day, chosen.day, zone) if chosen.day else None
    stacked = stack(both.points if both else day.points)
    energies = areas(day.points)
    most = max((kwh for key, kwh in energies.items() if key.startswith("up.")), default=0.0)
    drawn = []
    for side, names, edges in (("up", UP, stacked.up), ("down", DOWN, stacked.down)):
        for (key, label, meaning), edge in zip(names, edges, strict=True):
            kwh = energies.get(f"{side}.{key}", 0.0)
            if kwh < 0.005 or (key == "unmeasured" and kwh < 0.02 * most):
                continue
            drawn.append(
                {
                    "key": key,
                    "side": side,
                    "label": gettext(label),
                    "meaning": gettext(meaning),
                    "total": words.energy(kwh),
                    "edge": edge,
                }
            )
    offsets: list[list[int]] = []
    ticks: list[list[Any]] = []
    for ms in range(day.start, day.end + 1, 900_000):
        moment = words.local(ms, zone)
        offset = round((moment.utcoffset() or timedelta()).total_seconds())
        if not offsets or offsets[-1][1] != offset:
            offsets.append([ms // 1000, offset])
        if moment.minute == 0 and moment.hour % 3 == 0 and (not ticks or ms != ticks[-1][0]):
            last = ms == day.end
            ticks.append([ms // 1000, "24" if last else f"{moment:%H}"])
    return {
        "from": day.start // 1000,
        "to": day.end // 1000,
        # Samples of a stretch are drawn in its middle.
        "t": [(ms + WIDTH_MS // 2) // 1000 for ms in stacked.ms],
        "areas": drawn,
        "soc": stacked.soc if any(value is not None for value in stacked.soc) else None,
        "offsets": offsets,
        "ticks": ticks,
        "lines": lines(both, chosen),
    }


@blueprint.get("/day")
def today_page() -> BaseResponse:
    """Today."""
    return redirect(url_for("day.page", text=today().isoformat()), HTTPStatus.FOUND)


blueprint.add_url_rule("/day/", "today", today_page)


@blueprint.get("/day/<text>")
def page(text: str) -> str:
    """The page of one day."""
    day = parse(text)
    now = today()
    data, error = Day(day, 0, 0), ""
    before: date | None = None
    after: date | None = None
    chosen, near = Against(), list[Offer]()
    try:
        data = board().history.day(day)
        before, after = board().history.neighbours(day)
        chosen = against(day)
        near = offers(day, chosen)
    except HistoryError as err:
        error = str(err)
    if day < now and after is None:
        after = now
    after = after if after is not None and after <= now else None
    hours = round((data.end - data.start) / 3_600_000) if data.end else 24
    was, until = energies(chosen.day, day == now) if chosen.day else (None, "")
    return render_template(
        "day.html",
        day=day,
        title=words_of_day(day),
        is_today=day == now,
        before=address(before, day, chosen) if before else "",
        before_title=words_of_day(before) if before else "",
        after=address(after, day, chosen) if after else "",
        after_title=words_of_day(after) if after else "",
        error=error,
        empty=not data.points,
        hours=hours,
        happened=day_events.Told() if error else happened(data),
        severities=SEVERITIES,
        against=chosen,
        offers=near,
        oldest=OLDEST,
        newest=now,
        source={"text": day.isoformat(), **({"with": chosen.text} if chosen.day else {})},
        totals=totals(data.books, was),
        until=until,
        booked_until=booked_until(data.books, day == now),
        assets=(Path(current_app.static_folder or "") / CHART).is_file(),
    )


@blueprint.get("/day/<text>.json")
def data(text: str) -> Response:
    """What the chart draws."""
    day = parse(text)
    try:
        made, chosen = board().history.day(day), against(day)
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    if chosen.note:
        abort(HTTPStatus.BAD_REQUEST, chosen.note)
    content = chart(made, chosen)
    return Response(msgspec.json.encode(content), mimetype="application/json")


@blueprint.get("/day/<text>.csv")
def table(text: str) -> Response:
    """What is on screen, as a table: one line for each stretch, gaps left out."""
    day = parse(text)
    try:
        points = board().history.day(day).points
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    zone = board().zone
    rows: list[list[object]] = []
    rows.append(
        [
            "time_local",
            "time_utc",
            "pv_power_w",
            "load_power_w",
            "battery_power_w",
            "grid_power_w",
            "battery_soc_percent",
            "sun_to_house_w",
            "battery_to_house_w",
            "grid_to_house_w",
            "sun_to_battery_w",
            "sun_to_grid_w",
        ]
    )
    for point in points:
        if not point.known:
            continue
        share = split(point)
        moment: datetime = clock.from_ms(point.ms)
        flows = (
            ()
            if share is None
            else (
                share.sun_to_house,
                share.battery_to_house,
                share.grid_to_house,
                share.sun_to_battery,
                share.sun_to_grid,
            )
        )
        rows.append(
            [
                moment.astimezone(zone).isoformat(timespec="seconds"),
                clock.iso(moment),
                *(
                    "" if value is None else f"{round(value, 1) + 0.0:.1f}"  # no "-0.0"
                    for value in (
                        point.pv,
                        point.load,
                        point.battery,
                        point.grid,
                        point.soc,
                        *(flows or (None,) * 5),
                    )
                ),
            ]
        )
    return csv_file(rows, f"day-{day.isoformat()}")
