"""Page *History*: months, years, all the time, any stretch of days, from the energy books."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
)
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sunmesh import clock
from sunmesh.database.days import bounds
from sunmesh.database.energy import Edit, EnergyError, edit, edits, transact
from sunmesh.database.energy import undo as take_back
from sunmesh.database.tables import FLAGS, FLOWS
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from .. import text, words
from ..app_shell import url_for
from ..energy import FLAGS as FLAG_NAMES
from ..history import repair as repairs
from ..history.days import DayBook, Days
from ..history.metrics import METRICS, Metric, chosen, offered
from ..history.records import Record
from ..history.repair import Effect, RepairError, Wish
from ..history.view import build
from ..people.guard import accounts, me, visitor, where
from ..periods import Period, PeriodError, between, month_of, parse, year_of
from ..queries import HistoryError, explain
from ..text import _
from . import board, csv_file, database, now_ms, today
from .day import parse as parse_day

blueprint = Blueprint("history", __name__)

EDITS = 20
"""Corrections on a page."""


def book() -> DayBook:
    """The application's day book; made at the first question."""
    found: DayBook = current_app.extensions.setdefault(
        "days", DayBook(database().reading, board().zone)
    )
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address says beside the period: passed on by every link of the page."""

    show: str = ""
    against: str = ""
    repair: bool = False

    def link(self, period: Period, **changed: str | None) -> str:
        """The address of a period; ``changed`` goes before what was asked."""
        query: dict[str, Any] = {"show": self.show or None, "with": self.against or None}
        return url_for("history.period", name=period.name, **query | changed)

    def bar_link(self, part: Period) -> str:
        """One level down: a year, a month, a day, or its corrections."""
        if part.kind != "day":
            repair = "1" if self.repair else None
            return self.link(part, **{"with": None, "repair": repair})
        if self.repair:
            return url_for("history.repair", text=part.first.isoformat())
        return url_for("day.page", text=part.first.isoformat())


def asked() -> Asked:
    """As this request says it.

    Raises:
        BadRequest: a metric that nobody knows.
    """
    show = request.args.get("show", "")
    if show and show not in {metric.key for metric in METRICS}:
        known = ", ".join(metric.key for metric in METRICS)
        abort(HTTPStatus.BAD_REQUEST, _("show must be one of %(known)s.", known=known))
    who = visitor()
    may_repair = who is not None and who.may("admin")
    return Asked(
        show, request.args.get("with", "")[:40], may_repair and request.args.get("repair") == "1"
    )


def span(days: Days) -> tuple[date, date]:
    """First booked day, and the day after the last; today where the books are empty."""
    return (days.first, days.end) if days else (today(), today())


def _period(name: str, days: Days) -> Period:
    try:
        return parse(name, today(), span(days))
    except PeriodError as err:
        abort(HTTPStatus.NOT_FOUND, str(err))


def _other(wanted: Asked, period: Period, days: Days) -> Period | None:
    if not wanted.against:
        return None
    if wanted.against == "year":
        return period.moved(-1)
    try:
        other = parse(wanted.against, today(), span(days))
    except PeriodError as err:
        abort(HTTPStatus.BAD_REQUEST, str(err))
    if other.kind != period.kind:
        abort(HTTPStatus.BAD_REQUEST, _("A month is compared with a month, a year with a year."))
    return other


def _metric(wanted: Asked, days: Days) -> Metric:
    metrics = offered(days.columns)
    return chosen(wanted.show, days.columns) or (metrics[0] if metrics else METRICS[0])


@dataclass(frozen=True, slots=True)
class Tab:
    """One way to look: its name, where it leads, whether it is this one."""

    name: str
    href: str
    here: bool


def tabs(period: Period, days: Days, wanted: Asked) -> list[Tab]:
    """Month, year, all the time."""
    last = min(max(period.first, span(days)[0]), today())
    is_this = period.kind == "year" and period.first.year == today().year
    if is_this or period.kind == "total":
        last = today()
    total = Period("total", *span(days))
    return [
        Tab(name, wanted.link(to, **{"with": None}), period.kind == to.kind)
        for name, to in (
            (_("Month"), month_of(last)),
            (_("Year"), year_of(last)),
            (_("All"), total),
        )
    ]


@blueprint.get("/history")
def page() -> BaseResponse:
    """The month that is on; with ``from`` and ``to`` that range of days."""
    first, last = request.args.get("from", ""), request.args.get("to", "")
    if first or last:
        try:
            period = between(first or last, last or first)
        except PeriodError as err:
            abort(HTTPStatus.BAD_REQUEST, str(err))
    else:
        period = month_of(today())
    return redirect(asked().link(period), HTTPStatus.FOUND)


@blueprint.get("/history/<name>")
def period(name: str) -> str | tuple[str, int]:
    """The page of one period."""
    wanted = asked()
    try:
        days = book().days()
    except HistoryError as err:
        return _failed(name, str(err))
    made = _period(name, days)
    other = _other(wanted, made, days)
    view = build(days, made, _metric(wanted, days), other, wanted.link, wanted.bar_link)
    before, after = made.before(), made.after()
    who = visitor()
    return render_template(
        "history.html",
        view=view,
        wanted=wanted,
        drawn_other=other,
        tabs=tabs(made, days, wanted),
        before=_beside(before, days, wanted),
        after=_beside(after, days, wanted),
        **_links(wanted),
        bar_link=wanted.bar_link,
        is_empty=not days,
        first=max(made.first, span(days)[0]),
        last=min(made.last, today()),
        oldest=span(days)[0],
        today=today(),
        may_repair=who is not None and who.may("admin"),
    )


def _links(wanted: Asked) -> dict[str, object]:
    """What templates make addresses and dates with."""

    def record_url(record: Record) -> str:
        if record.is_day:
            return url_for("day.page", text=record.first.isoformat())
        if record.key == "month":
            return wanted.link(month_of(record.first))
        return wanted.link(Period("range", record.first, record.last + timedelta(days=1)))

    days = url_for("day.page", text="-").removesuffix("-")
    return {
        "link": wanted.link,
        "day_url": lambda day: f"{days}{day.isoformat()}",
        "record_url": record_url,
        "say_day": lambda day: text.day(day, "medium"),
    }


def _beside(other: Period | None, days: Days, wanted: Asked) -> str:
    """The address of the period before or after, where something of it is booked."""
    if other is None or other.end <= days.first or other.first >= days.end:
        return ""
    return wanted.link(other, **{"with": None})


def _failed(name: str, why: str) -> tuple[str, int]:
    """The page without a database: it says so, and live values stay where they are."""
    page = render_template("history_away.html", name=name[:40], why=why)
    return page, HTTPStatus.SERVICE_UNAVAILABLE


@blueprint.get("/history/<name>.csv")
def table(name: str) -> Response:
    """The bars as a table, with the provenance of each energy; kWh with a point."""
    try:
        days = book().days()
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    made = _period(name, days)
    rows: list[list[object]] = []
    flows = [flow for flow in FLOWS if flow in days.columns]
    flags = [flag for flag in FLAGS if flag != "measured"]
    rows.append(
        [
            *("first_day", "last_day", *(f"{flow}_kwh" for flow in flows), "autarky"),
            *("self_consumption", *(f"{flow}_known" for flow in flows)),
            *(f"{flow}_{flag}_kwh" for flow in flows for flag in flags),
        ]
    )
    for part in made.parts():
        clip = made.clipped(part)
        figures = days.figures(clip.first, clip.end)
        if not figures.flows:
            continue
        by_flag = [
            figures.flows[flow].by_flag.get(flag) if flow in figures.flows else None
            for flow in flows
            for flag in flags
        ]
        rows.append(
            [
                clip.first.isoformat(),
                clip.last.isoformat(),
                *_cells([_kwh(figures.wh(flow)) for flow in flows]),
                *_cells([figures.autarky, figures.self_consumption]),
                *_cells([figures.covered(flow) for flow in flows]),
                *_cells([_kwh(wh) for wh in by_flag]),
            ]
        )
    return csv_file(rows, f"history-{made.name}")


def _kwh(wh: float | None) -> float | None:
    return None if wh is None else wh / 1000


def _cells(values: Sequence[float | None]) -> list[str]:
    return ["" if value is None else f"{value:.3f}" for value in values]


@blueprint.get("/history/<name>/report")
def report(name: str) -> str | tuple[str, int]:
    """A sheet of paper: a month by its days, a year by its months."""
    try:
        days = book().days()
    except HistoryError as err:
        return _failed(name, str(err))
    made = _period(name, days)
    wanted = Asked()
    view = build(days, made, _metric(wanted, days), None, wanted.link, wanted.bar_link)
    return render_template("history_report.html", view=view, **_links(wanted))


# -- corrections -----------------------------------------------------------------------------------


def _day(said: str) -> date:
    try:
        return parse_day(said)
    except HTTPException as err:
        err.code = HTTPStatus.BAD_REQUEST
        raise


def _flow(days: Days) -> str:
    """Which flow is looked at; the first that the house has, unless the address says."""
    flow = request.values.get("flow", "")
    if flow in FLOWS:
        return flow
    if flow:
        abort(HTTPStatus.BAD_REQUEST, _("The books have no flow “%(flow)s”.", flow=flow[:20]))
    return next((flow for flow in FLOWS if flow in days.columns), FLOWS[0])


def _stretch(day: date) -> tuple[int, int] | None:
    """The stretch that the address names; None where it names none.

    Raises:
        RepairError: no such times.
    """
    said = {key: request.values.get(key, "").strip()[:20] for key in ("from", "until", "to")}
    if not said["from"] and not said["to"]:
        return None
    zone = board().zone
    last = parse_day(said["until"]) if said["until"] else day
    start = repairs.moment(day, said["from"] or "00:00", zone)
    end = repairs.moment(last, said["to"] or "24:00", zone, is_end=True)
    if end <= start:
        raise RepairError(_("The stretch ends before it begins."))
    return start, end


def _wish(flow: str, chosen: tuple[int, int]) -> Wish:
    said = request.values
    deed, kwh = said.get("deed", "")[:10], said.get("kwh", "")[:20]
    return repairs.wish(flow, *chosen, deed, kwh, now_ms())


def _repair_page(day: date, error: str = "", status: int = HTTPStatus.OK) -> tuple[str, int]:
    """A day of a flow, the chosen stretch, and what the wish would do."""
    zone = board().zone
    done = request.args.get("done", default=0, type=int)
    try:
        days = book().days()
        flow = _flow(days)
        try:
            chosen = _stretch(day)
        except RepairError as err:
            chosen, error = None, error or str(err)
        effects: list[Effect] = []
        start, end = bounds(day, zone)
        with database().reading() as connection:
            rows = repairs.stretch(connection, flow, start, end)
            if chosen is not None and request.values.get("deed"):
                try:
                    asked_for = _wish(flow, chosen)
                    mine = repairs.stretch(connection, flow, *chosen)
                    effects = repairs.effects(connection, zone, asked_for, mine, days)
                except (RepairError, EnergyError) as err:
                    error = error or str(err)
            history = edits(connection, limit=6)
    except HistoryError as err:
        return _failed(day.isoformat(), str(err))
    page = render_template(
        "history_repair.html",
        day=day,
        title=text.day(day),
        flow=flow,
        flows=[(each, _(words.FLOW_NAMES[each])) for each in FLOWS if each in days.columns],
        flow_name=_(words.FLOW_NAMES[flow]),
        deeds=[(key, _(name)) for key, name in repairs.DEEDS.items()],
        said={key: request.values.get(key, "")[:40] for key in ("deed", "kwh", "reason")},
        first=repairs.clock_of(chosen[0], zone) if chosen else "",
        last=repairs.clock_of(chosen[1], zone, is_end=True) if chosen else "",
        until=text_of_day(chosen[1] - 1) if chosen else day.isoformat(),
        books=repairs.day_books(day, zone, rows, chosen),
        buckets=[row for row in rows if chosen and chosen[0] <= row.ts < chosen[1]],
        flag_names=FLAG_NAMES,
        at=lambda ms: repairs.clock_of(ms, zone),
        energy=lambda wh: words.energy(wh / 1000),
        effects=effects,
        edits=[_told(each) for each in history],
        before=repairs.next_day(day, -1),
        after=repairs.next_day(day, 1) if day < today() else None,
        today=today(),
        done=done,
        error=error,
    )
    return page, status


def text_of_day(ms: int) -> str:
    """The site's date of a moment, as an address has it."""
    return words.local(ms, board().zone).date().isoformat()


@blueprint.get("/history/repair/<text>")
def repair(text: str) -> tuple[str, int]:
    """The books of a day, to be corrected; with a wish what it would do. Nothing is written."""
    return _repair_page(_day(text))


@blueprint.post("/history/repair/<text>")
def save(text: str) -> BaseResponse | tuple[str, int]:
    """Correct a stretch of the books."""
    day, who = _day(text), me()
    try:
        chosen = _stretch(day)
        if chosen is None:
            raise RepairError(_("Say from when to when."))
        flow = _flow(Days(day, 0, {}, board().zone))
        asked_for = _wish(flow, chosen)
        why = repairs.reason(request.form.get("reason", "")[:2000])
        zone, by, address = board().zone, f"web:{who.name}", where().address

        def work(connection: Connection) -> int | None:
            mine = repairs.stretch(connection, flow, *chosen)
            made = repairs.changes(asked_for, mine)
            number = edit(connection, zone, made, by=by, reason=why, now=now_ms())
            whole = sum(change.wh for change in made)
            subject = f"{flow} {clock.iso(clock.from_ms(chosen[0]))}"
            detail = f"{asked_for.deed}: {whole:.1f} Wh until {clock.iso(clock.from_ms(chosen[1]))}"
            accounts().note_in(
                connection,
                who.name,
                address,
                "correct books",
                subject,
                "done",
                f"{detail}; edit {number}; {why}",
            )
            return number

        number = transact(database().engine(), work)
    except (RepairError, EnergyError) as err:
        return _repair_page(day, str(err), HTTPStatus.UNPROCESSABLE_ENTITY)
    except SQLAlchemyError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, explain(database().url, err))
    _changed()
    target = url_for("history.repair", text=day.isoformat(), flow=flow, done=number)
    return redirect(target, HTTPStatus.SEE_OTHER)


def _changed() -> None:
    """The books say something else: read them again."""
    book().forget()
    board().history.forget()


@dataclass(frozen=True, slots=True)
class Told:
    """A correction or import in words."""

    id: int
    kind: str
    when: str
    by: str
    reason: str
    undone: str
    parts: Sequence[tuple[str, str, str, str]]
    day: str
    flow: str


def _told(each: Edit) -> Told:
    zone = board().zone

    def at(ms: int) -> str:
        return text.moment(words.local(ms, zone))

    undone = (
        _("taken back by %(name)s, %(when)s", name=each.undone_by or "", when=at(each.undone))
        if each.undone is not None
        else ""
    )
    parts = [
        (
            _(words.FLOW_NAMES.get(part.flow, part.flow)),
            _("%(first)s to %(last)s", first=at(part.start), last=at(part.end)),
            words.NONE if part.old_wh is None else words.energy(part.old_wh / 1000),
            words.energy(part.new_wh / 1000),
        )
        for part in each.parts
    ]
    first = each.parts[0] if each.parts else None
    return Told(
        each.id,
        each.kind,
        at(each.created),
        each.by,
        each.reason,
        undone,
        parts,
        text_of_day(first.start) if first else "",
        first.flow if first else "",
    )


def _edits_page(error: str = "", status: int = HTTPStatus.OK) -> tuple[str, int]:
    before = request.args.get("before", type=int)
    try:
        with database().reading() as connection:
            found = edits(connection, limit=EDITS + 1, before=before)
    except HistoryError as err:
        return _failed("edits", str(err))
    page = render_template(
        "history_edits.html",
        edits=[_told(each) for each in found[:EDITS]],
        older=found[EDITS - 1].id if len(found) > EDITS else 0,
        may_undo=me().may("admin"),
        error=error,
    )
    return page, status


@blueprint.get("/history/edits", endpoint="edits")
def edits_page() -> tuple[str, int]:
    """What was corrected and imported, the newest first."""
    return _edits_page()


@blueprint.post("/history/edits/<int:number>/undo")
def undo(number: int) -> BaseResponse | tuple[str, int]:
    """Take a correction or an import back."""
    who, address = me(), where().address

    def work(connection: Connection) -> int:
        count = take_back(connection, board().zone, number, f"web:{who.name}", now_ms())
        detail = f"{count} stretches of five minutes"
        accounts().note_in(
            connection, who.name, address, "undo correction", f"edit {number}", "done", detail
        )
        return count

    try:
        transact(database().engine(), work)
    except EnergyError as err:
        return _edits_page(str(err), HTTPStatus.CONFLICT)
    except SQLAlchemyError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, explain(database().url, err))
    _changed()
    return redirect(url_for("history.edits"), HTTPStatus.SEE_OTHER)
