"""Page *Day*: one local day as a stacked chart, its totals, its table."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Response, abort, current_app, redirect, render_template, url_for
from sunmesh import clock
from werkzeug.wrappers import Response as BaseResponse

from .. import words
from ..energy import Books
from ..queries import WIDTH_MS, Day, HistoryError
from ..stack import Point, split, stack
from ..text import N_, _, gettext, percent
from ..text import day as words_of_day
from . import board, csv_file, today

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
    """One row of the table of totals."""

    label: str
    text: str
    how: str


def parse(text: str) -> date:
    """The date in an address; anything else ends as a page that says why."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        abort(
            HTTPStatus.NOT_FOUND,
            _("“%(text)s” is no date; write it as 2026-11-21.", text=text[:40]),
        )
    try:
        day = date.fromisoformat(text)
    except ValueError:
        abort(HTTPStatus.NOT_FOUND, _("The calendar has no %(day)s.", day=text))
    if day > today():
        abort(HTTPStatus.NOT_FOUND, _("%(day)s has not happened yet.", day=text))
    if day < OLDEST:
        abort(HTTPStatus.NOT_FOUND, _("%(day)s is before any record of this house.", day=text))
    return day


def totals(books: Books) -> list[Total]:
    """The day's energies, only of what exists."""
    rows = [
        Total(label, words.energy(value), books.note(key))
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
        rows.append(Total(_("Autarky"), percent(books.autarky), _("share not from the grid")))
    if books.own_share is not None:
        rows.append(
            Total(_("Own consumption"), percent(books.own_share), _("share of the sun kept"))
        )
    return rows


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


def chart(day: Day) -> dict[str, Any]:
    """What the script draws: edges of the areas, curves, and the marks of the time axis."""
    zone = board().zone
    stacked = stack(day.points)
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
    try:
        data = board().history.day(day)
        before, after = board().history.neighbours(day)
    except HistoryError as err:
        error = str(err)
    if day < now and after is None:
        after = now
    hours = round((data.end - data.start) / 3_600_000) if data.end else 24
    return render_template(
        "day.html",
        day=day,
        title=words_of_day(day),
        is_today=day == now,
        before=before,
        before_title=words_of_day(before) if before else "",
        after=after if after is not None and after <= now else None,
        after_title=words_of_day(after) if after else "",
        error=error,
        empty=not data.points,
        hours=hours,
        totals=totals(data.books),
        booked_until=booked_until(data.books, day == now),
        assets=(Path(current_app.static_folder or "") / CHART).is_file(),
    )


@blueprint.get("/day/<text>.json")
def data(text: str) -> Response:
    """What the chart draws."""
    day = parse(text)
    try:
        content = chart(board().history.day(day))
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
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
