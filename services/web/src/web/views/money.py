"""Page *Money*: what a period cost and saved, and the tariffs that say so."""

from datetime import date, timedelta
from http import HTTPStatus

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    url_for,
)
from sunmesh import clock
from sunmesh.database.costs import Entry, TariffError
from sunmesh.database.tariff import Bill, Tariff, total
from werkzeug.wrappers import Response as BaseResponse

from .. import text
from ..database import HistoryError
from ..money import page as money_page
from ..money import tariff_form
from ..money.bills import Money
from ..money.page import Part
from ..money.tariff_form import Draft
from ..people.accounts import AccountsError
from ..people.guard import accounts, may, me, where
from ..periods import Period, PeriodError, month_of, parse
from ..text import _
from . import board, csv_file, database, today

blueprint = Blueprint("money", __name__)

TRIED_DAYS = 30
"""What a tariff would have cost is said of so many days."""
MOST_FIELDS = 800


def money() -> Money:
    """The application's counting."""
    found: Money | None = current_app.extensions.get("money")
    if found is None:
        found = Money(database(), board().zone, board().live.now)
        current_app.extensions["money"] = found
    return found


def may_edit() -> bool:
    """Whether this visitor may change tariffs."""
    return may("operator")


# -- a period --------------------------------------------------------------------------------------


def _period(key: str, whole: tuple[date, date] | None = None) -> Period:
    try:
        found = parse(key, today(), whole or (today(), today()))
    except PeriodError as err:
        abort(HTTPStatus.NOT_FOUND, str(err))
    if found.kind == "range":
        abort(
            HTTPStatus.NOT_FOUND,
            _("Money is counted by the day, month or year; write 2026-11-21, 2026-11 or 2026."),
        )
    return found


def _parts(of: Period) -> tuple[list[Part], Bill]:
    """The parts of a period, and all of it.

    Raises:
        HistoryError: no database.
    """
    match of.kind:
        case "day":
            parts = money_page.hour_parts(money().hours(of.first), board().zone)
            days = money().days(of.first, of.end)
            return parts, total(days.values())
        case "month":
            parts = money_page.day_parts(of, money().days(of.first, of.end))
        case "year":
            parts = money_page.month_parts(of, money().months(of.first, of.end))
        case _:
            years: dict[int, list[Bill]] = {}
            whole = money().span()
            if whole is not None:
                for month, bill in money().months(*whole).items():
                    years.setdefault(month.year, []).append(bill)
            parts = money_page.year_parts({year: total(each) for year, each in years.items()})
    return parts, total(part.bill for part in parts)


def _currency(bill: Bill, entries: list[Entry]) -> str:
    if bill.currency and not bill.is_mixed:
        return bill.currency
    return entries[-1].tariff.currency if entries else "EUR"


def _holds(of: Period, entries: list[Entry]) -> Tariff | None:
    """The tariff at the end of a period, as far as it has come."""
    last = min(of.end - timedelta(days=1), today())
    return next((each.tariff for each in reversed(entries) if each.first <= last), None)


@blueprint.get("/money")
def page() -> BaseResponse:
    """This month."""
    return redirect(url_for("money.period", key=f"{today():%Y-%m}"), HTTPStatus.FOUND)


@blueprint.get("/money/<key>")
def period(key: str) -> str:
    """One period."""
    now = today()
    try:
        entries, whole = money().entries(), money().span()
        of = _period(key, whole)
        parts, bill = _parts(of)
    except HistoryError as err:
        of = _period(key)
        kinds = money_page.kinds(of, None, now)
        return render_template("money.html", of=of, error=str(err), kinds=kinds, before=None)
    currency = _currency(bill, entries)
    before, after = money_page.beside(of, whole)
    holds = _holds(of, entries)
    year_ago = None
    if of.kind == "month" and whole is not None and whole[0] < of.first:
        year_ago = _year_ago(of)
    return render_template(
        "money.html",
        of=of,
        error="",
        kinds=money_page.kinds(of, whole, now),
        before=before,
        after=after if after is not None and after.first <= now else None,
        is_running=of.holds(now) and of.kind != "total",
        is_booked=whole is not None,
        last_key=f"{whole[1] - timedelta(days=1):%Y-%m}" if whole is not None else "",
        has_tariff=bool(entries),
        headline=money_page.headline(of, bill, currency, holds is None or holds.has_grid),
        bill=bill,
        chart=money_page.chart(parts, currency),
        tiles=money_page.tiles(bill, currency),
        co2=money_page.co2_tiles(bill),
        lines=money_page.bill_lines(bill, currency) if bill.has_cost else [],
        notes=money_page.notes(bill, currency),
        rows=money_page.rows(parts, currency),
        year_ago=year_ago,
        tariff=holds,
        tariff_words=tariff_form.summary(holds) if holds else [],
        weeks=tariff_form.weeks(holds) if holds else [],
        may_edit=may_edit(),
    )


def _year_ago(of: Period) -> str:
    """The same month of the year before, in one sentence; empty where nothing is known.

    Raises:
        HistoryError: no database.
    """
    other = month_of(date(of.first.year - 1, of.first.month, 1))
    bill = money().months(other.first, other.end).get(other.first)
    if bill is None or not bill.has_cost:
        return ""
    return money_page.headline(other, bill, bill.currency, True)


@blueprint.get("/money/<key>.csv")
def table(key: str) -> Response:
    """The parts of a period, for a spreadsheet."""
    of = _period(key)
    try:
        parts, whole = _parts(of)
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    names = ("bought_kwh", "sold_kwh", "generator_kwh", "standing", "spent", "earned", "cost")
    more = ("saved", "co2_emitted_kg", "co2_avoided_kg", "currency", "days_without_price")
    rows: list[list[object]] = [["period", *names, *more]]
    for part in (*parts, Part("", _("Total"), "total", whole)):
        bill = part.bill
        if not (bill.days or bill.without_price):
            continue
        known = bill.has_cost
        amounts: list[float | None] = [
            bill.bought_wh / 1000 if known else None,
            bill.sold_wh / 1000 if bill.sold else None,
            bill.fuel_wh / 1000,
            *((bill.standing, bill.spent, bill.earned, bill.cost) if known else (None,) * 4),
            bill.saved if bill.has_saved else None,
            bill.co2_g / 1000 if known else None,
            bill.co2_saved_g / 1000 if bill.saved_days else None,
        ]
        texts = ["" if amount is None else f"{amount + 0.0:.4f}" for amount in amounts]
        rows.append([part.key or part.title, *texts, bill.currency, bill.without_price])
    return csv_file(rows, f"money-{of.name}")


# -- tariffs ---------------------------------------------------------------------------------------


@blueprint.get("/money/tariffs")
def tariffs() -> str:
    """All tariffs, the newest first."""
    error, entries = "", []
    try:
        entries = money().entries()
    except HistoryError as err:
        error = str(err)
    now = today()
    holding = next((each for each in reversed(entries) if each.first <= now), None)
    shown = []
    for number, entry in reversed(list(enumerate(entries))):
        after = entries[number + 1].first if number + 1 < len(entries) else None
        until = after - timedelta(days=1) if after else None
        shown.append((entry, until, entry is holding, tariff_form.summary(entry.tariff)))
    return render_template(
        "tariffs.html",
        error=error,
        tariffs=shown,
        templates=tariff_form.TEMPLATES,
        may_edit=may_edit(),
        day_text=lambda day: text.day(day, "long"),
        moment_text=lambda ms: text.moment(clock.from_ms(ms), board().zone),
    )


def _form(draft: Draft, status: int = HTTPStatus.OK) -> tuple[str, int]:
    tariff = tariff_form.meant(draft) if draft.price["buy"] and not draft.errors else None
    return (
        render_template(
            "tariff.html",
            draft=draft,
            sides=tariff_form.SIDES,
            spare=tariff_form.SPARE,
            currencies=tariff_form.currencies(),
            weekdays=tariff_form.weekday_names(),
            months=tariff_form.month_names(),
            weeks=tariff_form.weeks(tariff) if tariff else [],
            errors=[],
            compared=[],
        ),
        status,
    )


@blueprint.get("/money/tariffs/new")
def new() -> tuple[str, int]:
    """An empty form, or one in the shape of a template."""
    currency, first = "EUR", today().replace(day=1)
    try:
        entries = money().entries()
        whole = money().span()
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    if entries:
        currency = entries[-1].tariff.currency
    elif whole is not None:
        first = whole[0]
    name = request.args.get("template", "flat")
    if name not in tariff_form.TEMPLATES:
        abort(HTTPStatus.NOT_FOUND, _("There is no template of that name."))
    return _form(tariff_form.template(name, currency, first))


def _day(key: str) -> date:
    try:
        return date.fromisoformat(key)
    except ValueError:
        abort(HTTPStatus.NOT_FOUND, _("The calendar has no %(text)s.", text=key[:20]))


@blueprint.get("/money/tariffs/<first>")
def tariff(first: str) -> tuple[str, int]:
    """The form of a tariff that is kept."""
    day = _day(first)
    try:
        found = next((each for each in money().entries() if each.first == day), None)
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    if found is None:
        abort(HTTPStatus.NOT_FOUND, _("No tariff begins on %(day)s.", day=first))
    return _form(tariff_form.draft_of(found.first, found.tariff))


def _draft() -> Draft:
    if len(request.form) > MOST_FIELDS:
        abort(HTTPStatus.BAD_REQUEST, _("That is more than this form has."))
    return tariff_form.drafted(request.form)


@blueprint.post("/money/tariffs/save")
def save() -> BaseResponse | tuple[str, int]:
    """Keep a tariff, or show what is wrong with it."""
    draft = _draft()
    wanted = tariff_form.meant(draft)
    first = tariff_form.first_day(draft)
    if wanted is None or first is None:
        return _form(draft, HTTPStatus.UNPROCESSABLE_ENTITY)
    instead_of = _day(draft.instead_of) if draft.instead_of else None
    try:
        number = accounts().note(
            me().name,
            where().address,
            "tariff",
            f"from {first}",
            "asked",
            "; ".join(tariff_form.plain(wanted)),
        )
        try:
            money().save(first, wanted, me().name, instead_of)
        except (HistoryError, TariffError) as err:
            accounts().ended(number, "refused", str(err))
            raise
        accounts().ended(number, "done", "; ".join(tariff_form.plain(wanted)))
    except TariffError:
        draft.errors["first"] = _("Another tariff begins on that day, or this one was changed")
        return _form(draft, HTTPStatus.CONFLICT)
    except (HistoryError, AccountsError) as err:
        draft.errors[""] = str(err)
        return _form(draft, HTTPStatus.SERVICE_UNAVAILABLE)
    return redirect(url_for("money.tariffs"), HTTPStatus.SEE_OTHER)


@blueprint.post("/money/tariffs/more")
def more() -> tuple[str, int]:
    """The form as it was typed, with room for one more band."""
    draft = _draft()
    tariff_form.meant(draft)
    for key in [key for key in draft.errors if not key.endswith(".bands")]:
        del draft.errors[key]
    return _form(draft)


@blueprint.post("/money/tariffs/preview")
def preview() -> str:
    """What a form means: the picture of its week, and what the last days would have cost."""
    draft = _draft()
    wanted = tariff_form.meant(draft)
    compared: list[str] = []
    if wanted is not None:
        end = today()
        try:
            tried, was = money().tried(wanted, end - timedelta(days=TRIED_DAYS), end)
            compared = tariff_form.compared(tried, was, wanted)
        except HistoryError as err:
            compared = [str(err)]
    return render_template(
        "tariff_preview.html",
        errors=list(tariff_form.problems(draft)),
        weeks=tariff_form.weeks(wanted) if wanted else [],
        compared=compared,
    )


@blueprint.post("/money/tariffs/<first>/remove")
def remove(first: str) -> BaseResponse:
    """Forget a tariff."""
    day = _day(first)
    try:
        number = accounts().note(
            me().name, where().address, "tariff", f"from {day}", "asked", "removed"
        )
        is_gone = money().remove(day)
        accounts().ended(number, "done" if is_gone else "refused", "removed")
    except (HistoryError, AccountsError) as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    if not is_gone:
        abort(HTTPStatus.NOT_FOUND, _("No tariff begins on %(day)s.", day=first))
    return redirect(url_for("money.tariffs"), HTTPStatus.SEE_OTHER)
