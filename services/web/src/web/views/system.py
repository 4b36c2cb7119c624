"""Page *System*: services, logs, what was done, people, keys of programs, the support bundle."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from itertools import chain

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
from werkzeug.wrappers import Response as BaseResponse

from .. import bundle, text, words
from ..database import HistoryError
from ..people import audit
from ..people.access import ROLE_NAMES, ROLES
from ..people.accounts import AccountsError, Person, Session
from ..people.guard import accounts, may, me, visitor, where
from ..people.keys import Key, Keys
from ..services import LEVELS, Line, Service, ServiceBook
from ..text import N_, _, ngettext
from . import board, database
from .account import ROLE_TEXTS, at, field, tried

blueprint = Blueprint("system", __name__)

TABS = (
    ("system.page", N_("Services")),
    ("system.logs", N_("Logs")),
    ("system.deeds", N_("What was done")),
    ("system.people", N_("People")),
    ("system.keys", N_("Keys")),
    ("system.support", N_("Support")),
)
STATES = {
    "online": N_("runs"),
    "offline": N_("stopped"),
    "silent": N_("silent"),
    "missing": N_("never heard"),
}
TONES = {"online": "good", "offline": "bad", "silent": "pending", "missing": "bad"}
LEVEL_NAMES = {
    "INFO": N_("Everything"),
    "WARNING": N_("Warnings and worse"),
    "ERROR": N_("Errors"),
}
LEVEL_WORDS = {
    "DEBUG": N_("detail"),
    "INFO": N_("note"),
    "WARNING": N_("warning"),
    "ERROR": N_("error"),
    "CRITICAL": N_("critical"),
}
LINES = 300
LAG_S = 60.0
"""A recorder that lags more is worth a word."""
KEY_DAYS = (0, 30, 365)
"""Offered lifetimes of a key; 0 = without end."""
BEGAN = time.monotonic()

MIB = 1024 * 1024


def book() -> ServiceBook:
    """The application's services."""
    found: ServiceBook = current_app.extensions["services"]
    return found


def keys_of() -> Keys:
    """The application's keys."""
    found: Keys = current_app.extensions["keys"]
    return found


def _render(template: str, **values: object) -> str:
    who = visitor()
    tabs = [
        (endpoint, _(name)) for endpoint, name in TABS if endpoint == "system.page" or may("admin")
    ]
    return render_template(
        template,
        tabs=tabs,
        at=at,
        proved=who is not None and who.is_proved(accounts().now_ms),
        may_change=may("admin") and where().local,
        **values,
    )


# -- services --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One service in words.

    Attributes:
        name: of the service.
        state, tone: whether it runs, in words and as a colour's name.
        version: that it says.
        facts: further words, in order.
        notes: what is not well.
        advice: what to do about it.
    """

    name: str
    state: str
    tone: str
    version: str
    facts: tuple[str, ...]
    notes: tuple[str, ...] = ()
    advice: str = ""


def rows(services: list[Service], now: datetime) -> list[Row]:
    """Every service, in words."""
    return [_row(service, now) for service in services]


def _row(service: Service, now: datetime) -> Row:
    return Row(
        name=service.name,
        state=_(STATES[service.state]),
        tone=TONES[service.state],
        version=service.version,
        facts=tuple(_facts(service, now)),
        notes=tuple(_notes(service)),
        advice=_advice(service),
    )


def _facts(service: Service, now: datetime) -> list[str]:
    found = []
    if service.since is not None and service.state == "online":
        found.append(_("for %(time)s", time=words.age((now - service.since).total_seconds())))
    if service.restarts:
        found.append(
            ngettext(
                "started again %(num)d time while this portal watched",
                "started again %(num)d times while this portal watched",
                service.restarts,
            )
        )
    if service.devices:
        found.append(_("reads %(devices)s", devices=", ".join(service.devices)))
    memory = service.number("rss_bytes")
    if memory is not None:
        found.append(_("%(amount)s MiB of memory", amount=text.number(memory / MIB)))
    if service.delay_ms is not None:
        found.append(_("heard after %(delay)s", delay=_delay(service.delay_ms)))
    waiting = service.number("spool_messages")
    if waiting is not None:
        found.append(
            ngettext("%(num)s message waits", "%(num)s messages wait", round(waiting)).replace(
                str(round(waiting)), text.number(waiting), 1
            )
        )
    lag = service.number("lag_s")
    if lag is not None:
        found.append(_("stores %(lag)s behind", lag=words.age(lag)))
    if service.host:
        found.append(_("on %(host)s", host=service.host))
    return found


def _delay(ms: float) -> str:
    """``12 ms``; a clock that differs is no delay."""
    if ms < 0:
        return _("its clock is %(time)s ahead", time=words.age(-ms / 1000))
    return f"{text.number(ms)}\N{NO-BREAK SPACE}ms" if ms < 2000 else words.age(ms / 1000)


def _notes(service: Service) -> list[str]:
    found = []
    errors = service.number("log_errors")
    if errors:
        found.append(
            ngettext("%(num)d error in its log", "%(num)d errors in its log", round(errors))
        )
    lost = (service.number("mqtt_connects") or 1) - 1
    if lost > 0:
        found.append(
            ngettext("lost the broker %(num)d time", "lost the broker %(num)d times", round(lost))
        )
    if service.counters.get("database_ok") == 0:
        found.append(_("the database does not take what it has; it waits on the disk"))
    lag = service.number("lag_s")
    if lag is not None and lag > LAG_S:
        found.append(_("storing is late by %(lag)s", lag=words.age(lag)))
    return found


def _advice(service: Service) -> str:
    match service.state:
        case "offline":
            return _("It was stopped, or it ended: start it, and look at its log.")
        case "silent":
            return _("It has said nothing for a while: its machine may be off the network.")
        case "missing":
            return _("A device in site.toml needs it: start it.")
    return ""


@blueprint.get("/system")
def page() -> str:
    """Services and versions; with ``?part=services`` only what changes."""
    now = board().live.now()
    view = rows(book().services(), now)
    template = "system_services.html" if request.args.get("part") else "system.html"
    live = board().live
    return _render(
        template,
        services=view,
        well=sum(row.tone == "good" for row in view),
        connected=live.connected,
        broker=board().site.broker,
        messages=text.number(live.counters["messages"]),
        bad_messages=live.counters["bad_messages"],
        up=words.age(time.monotonic() - BEGAN),
        versions=bundle.versions() if template == "system.html" else {},
        stored=_stored() if template == "system.html" else {},
    )


def _stored() -> dict[str, str]:
    """The database's kind and schema; why not, where it does not answer."""
    try:
        with database().reading() as connection:
            found = bundle.count(connection, rows=False)
    except HistoryError as err:
        return {"trouble": words.sentence(str(err))}
    return {key: str(found.get(key) or "") for key in ("server", "version", "schema")}


# -- logs ------------------------------------------------------------------------------------------


@blueprint.get("/system/logs")
def logs() -> str:
    """What services logged, filtered; with ``?part=lines`` only the lines."""
    service = request.args.get("service", "")[:32]
    level = request.args.get("level", "INFO")
    level = level if level in LEVEL_NAMES else "INFO"
    part = request.args.get("text", "")[:80]
    lines = book().lines(service=service, level=level, text=part, most=LINES)
    template = "system_lines.html" if request.args.get("part") else "system_logs.html"
    return _render(
        template,
        lines=lines,
        names=book().names(),
        chosen={"service": service, "level": level, "text": part},
        levels={key: _(name) for key, name in LEVEL_NAMES.items()},
        level_words={key: _(name) for key, name in LEVEL_WORDS.items()},
        connected=board().live.connected,
        tone=tone_of,
        moment=lambda line: words.local(line.ms, board().zone),
        clock=lambda value: text.clock(value, seconds=True),
        day=lambda value: text.day(value.date(), "medium"),
    )


def tone_of(line: Line) -> str:
    """How a line is marked."""
    if line.level not in LEVELS or line.level in ("ERROR", "CRITICAL"):
        return "bad"
    return "pending" if line.level == "WARNING" else ""


# -- what was done ---------------------------------------------------------------------------------


@blueprint.get("/system/audit")
def deeds() -> str | tuple[str, int]:
    """The audit, page by page."""
    by, part = request.args.get("by", "")[:64], request.args.get("text", "")[:80]
    number = request.args.get("page", default=1, type=int)
    try:
        found, trouble = audit.read(accounts(), by=by, text=part, number=number), ""
    except AccountsError as err:
        found, trouble = audit.Page([], 1, False, []), str(err)
    page = _render(
        "system_audit.html",
        found=found,
        by=by,
        text=part,
        action=audit.action,
        result=audit.result,
        error=trouble,
    )
    return page, HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK


@blueprint.get("/system/audit.csv")
def deeds_table() -> Response:
    """The same as a table, all of it."""
    by, part = request.args.get("by", "")[:64], request.args.get("text", "")[:80]
    lines = audit.table(accounts(), by=by, text=part)
    try:
        first = next(lines)
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, words.sentence(str(err)))

    return Response(
        chain([first], lines),
        mimetype="text/csv",
        headers={"Content-Disposition": "attachment; filename=audit.csv"},
    )


# -- people ----------------------------------------------------------------------------------------


DONE = {
    "added": N_("The account is made."),
    "changed": N_("Done."),
    "ended": N_("The session has ended."),
    "key-removed": N_("The key is removed; what used it is shut out now."),
}


def _done() -> str:
    found = request.args.get("done", "")
    return _(DONE[found]) if found in DONE else ""


def _people(error: str = "", status: int = HTTPStatus.OK) -> tuple[str, int]:
    people: list[Person] = []
    sessions: list[Session] = []
    try:
        people, sessions = accounts().people(), accounts().sessions()
    except AccountsError as err:
        error, status = str(err), HTTPStatus.SERVICE_UNAVAILABLE
    now = accounts().now_ms
    page = _render(
        "system_people.html",
        people=people,
        sessions=sessions,
        mine=me().key,
        now=now,
        roles=ROLES,
        role_names={role: _(name) for role, name in ROLE_NAMES.items()},
        role_texts={role: _(what) for role, what in ROLE_TEXTS.items()},
        counted=lambda count: ngettext("%(num)d session", "%(num)d sessions", count),
        error=error,
        done=_done(),
    )
    return page, status


@blueprint.get("/system/people")
def people() -> tuple[str, int]:
    """Everybody with an account, and who is logged in."""
    return _people()


def _then(
    deed: Callable[[], object],
    page: Callable[[str, int], tuple[str, int]],
    endpoint: str,
    done: str,
) -> BaseResponse | tuple[str, int]:
    error, status = tried(deed)
    if error:
        return page(error, status)
    return redirect(url_for(endpoint, done=done), HTTPStatus.SEE_OTHER)


@blueprint.post("/system/people")
def add_person() -> BaseResponse | tuple[str, int]:
    """An account for somebody else."""
    return _then(
        lambda: accounts().add(
            field("name"), field("password"), field("role"), me().name, where().address
        ),
        _people,
        "system.people",
        "added",
    )


@blueprint.post("/system/people/<int:number>")
def change_person(number: int) -> BaseResponse | tuple[str, int]:
    """Another role or password for somebody, or the end of an account."""
    by, address = me().name, where().address
    possible: dict[str, Callable[[], object]] = {
        "role": lambda: accounts().set_role(number, field("role"), by, address),
        "password": lambda: accounts().set_password(number, field("password"), by, address),
        "remove": lambda: accounts().remove(number, by, address),
    }
    deed = possible.get(field("deed"))
    if deed is None:
        abort(
            HTTPStatus.BAD_REQUEST,
            _("deed must be one of %(deeds)s.", deeds=", ".join(possible)),
        )
    return _then(deed, _people, "system.people", "changed")


@blueprint.post("/system/sessions")
def end_session() -> BaseResponse | tuple[str, int]:
    """End somebody's session."""
    by, address = me().name, where().address
    return _then(
        lambda: accounts().end_session(field("key", 64), by, address),
        _people,
        "system.people",
        "ended",
    )


# -- keys ------------------------------------------------------------------------------------------


def _keys(
    error: str = "", status: int = HTTPStatus.OK, *, made: str = "", name: str = ""
) -> tuple[str, int]:
    found: list[Key] = []
    try:
        found = keys_of().all()
    except AccountsError as err:
        error, status = str(err), HTTPStatus.SERVICE_UNAVAILABLE
    page = _render(
        "system_keys.html",
        keys=found,
        made=made,
        name=name,
        now=accounts().now_ms,
        day=lambda ms: text.day(words.local(ms, board().zone).date(), "medium"),
        lifetimes=[
            (days, words.days(days) if days else _("until it is removed")) for days in KEY_DAYS
        ],
        address=request.host_url.rstrip("/"),
        error=error,
        done=_done(),
    )
    return page, status


@blueprint.get("/system/keys")
def keys() -> tuple[str, int]:
    """Keys of programs."""
    return _keys()


@blueprint.post("/system/keys")
def make_key() -> tuple[str, int]:
    """Make a key; the answer is the only page that ever shows it."""
    name = field("name", 60)
    days = field("days", 6)
    if not days.isdecimal():
        return _keys(
            _("how long it is in force must be a number of days, 0 = without end"),
            HTTPStatus.UNPROCESSABLE_ENTITY,
            name=name,
        )
    tokens: list[str] = []
    error, status = tried(
        lambda: tokens.append(
            keys_of().make(
                name, field("may") == "write", int(days) or None, me().name, where().address
            )
        )
    )
    if error:
        return _keys(error, status, name=name)
    return _keys(made=tokens[0], name=name)


@blueprint.post("/system/keys/<int:number>/remove")
def remove_key(number: int) -> BaseResponse | tuple[str, int]:
    """End a key."""
    by, address = me().name, where().address
    return _then(lambda: keys_of().remove(number, by, address), _keys, "system.keys", "key-removed")


# -- support ---------------------------------------------------------------------------------------


@blueprint.get("/system/support")
def support() -> str:
    """What the bundle holds, and how to get it."""
    configuration = bundle.site_text(board().site.path)
    return _render("system_support.html", configuration=configuration)


@blueprint.post("/system/support")
def support_bundle() -> Response:
    """The bundle."""
    try:
        accounts().note(me().name, where().address, "support bundle", "", "done", "")
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, words.sentence(str(err)))
    try:
        with database().reading() as connection:
            stored = bundle.count(connection)
    except HistoryError as err:
        stored = {"error": str(err)}
    content = bundle.make(
        board().site.path,
        board().live.state(),
        book().services(),
        book().lines(level="DEBUG", most=5000),
        stored,
    )
    name = f"sunmesh-support-{clock.iso(board().live.now())[:10]}.zip"
    return Response(
        content,
        mimetype="application/zip",
        headers={"Content-Disposition": f"attachment; filename={name}"},
    )
