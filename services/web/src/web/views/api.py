"""The API: what the pages show and do, for programs. ``/api`` is its page."""

import functools
from collections.abc import Callable, Iterable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, NoReturn, cast

import msgspec
from flask import Blueprint, Response, abort, current_app, g, render_template, request, url_for
from markupsafe import Markup
from sqlalchemy import select
from sunmesh.database import energy as books
from sunmesh.database import history, tables
from sunmesh.errors import RefusedError
from werkzeug.http import HTTP_STATUS_CODES

from .. import __version__, text, words
from ..api import answers, schemas
from ..api.answers import QueryError
from ..api.doc import PROBLEM, ROOT, Operation, document
from ..controls import CONTROLLER, RELAY_FAMILY
from ..feed import Feed
from ..house import Device, combine
from ..live import Memory, State
from ..people.accounts import AccountsError
from ..people.guard import SESSION, accounts, bearer, doer, visitor, where
from ..queries import HistoryError
from ..streams import answer as stream_answer
from ..text import N_
from . import board, database, now_ms, today, zone
from .alarms import book
from .control import Wish, controls

blueprint = Blueprint("api", __name__)

OPERATIONS: list[Operation] = []
MOST_TEXTS = 10_000
TEXT_TABLE = {"type": "string"}
"""Schema of what is no JSON."""
CSV = (("text/csv", TEXT_TABLE),)


def problem(status: int, detail: str, methods: Iterable[str] | None = None) -> Response:
    """Why a request is not answered; ``methods``: those that would be."""
    title = HTTP_STATUS_CODES.get(status, "Error")
    body = schemas.Problem(title=title, status=status, detail=detail)
    response = Response(msgspec.json.encode(body), status, mimetype=PROBLEM)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sunmesh"'
    if methods:
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def refuse(status: int, why: str) -> NoReturn:
    """End the request with a reason."""
    abort(status, f"{why[:1].upper()}{why[1:]}" + ("" if why.endswith(".") else "."))


def _query(kind: type[msgspec.Struct]) -> msgspec.Struct:
    given = request.args.to_dict(flat=False)
    if double := [name for name, values in given.items() if len(values) > 1]:
        refuse(HTTPStatus.BAD_REQUEST, f"{double[0][:40]} is given more than once")
    flat = {name: values[0] for name, values in given.items()}
    try:
        return msgspec.convert(flat, kind, strict=False)
    except msgspec.ValidationError as err:
        refuse(HTTPStatus.BAD_REQUEST, str(err))


def _body(kind: type[msgspec.Struct]) -> msgspec.Struct:
    if request.mimetype != "application/json":
        refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        refuse(HTTPStatus.BAD_REQUEST, str(err))


def operation(**row: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401
    """Register a view as an operation of the API: its arguments are checked, its answer encoded."""

    def register(view: Callable[..., Any]) -> Callable[..., Any]:
        made = Operation(name=view.__name__, **row)
        OPERATIONS.append(made)

        @functools.wraps(view)
        def checked(**places: str) -> Response:
            given: dict[str, Any] = dict(places)
            if made.query is not None:
                given["query"] = _query(made.query)
            elif request.args:
                refuse(HTTPStatus.BAD_REQUEST, "nothing can be asked for in the address here")
            if made.body is not None:
                given["body"] = _body(made.body)
            try:
                found = view(**given)
            except QueryError as err:
                refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(err))
            except (HistoryError, AccountsError) as err:
                refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
            if isinstance(found, Response):
                return found
            return Response(msgspec.json.encode(found), made.status, mimetype="application/json")

        blueprint.add_url_rule(made.rule, made.name, checked, methods=[made.method])
        return checked

    return register


def _table(csv: str, name: str) -> Response:
    response = Response(csv, mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def _devices() -> tuple[State, list[Device]]:
    state = board().live.state()
    return state, board().live.devices(state)


def _known(name: str) -> tuple[Device, Memory]:
    state, devices = _devices()
    found = next((each for each in devices if each.name == name), None)
    if found is None:
        refuse(HTTPStatus.NOT_FOUND, f"there is no device {name[:32]}")
    return found, state.devices.get(name) or Memory()


# -- documents -------------------------------------------------------------------------------------


@functools.cache
def _document() -> bytes:
    return msgspec.json.encode(document(OPERATIONS, __version__))


@blueprint.get(f"{ROOT}/openapi.json")
def openapi() -> Response:
    """OpenAPI 3.1 of all this."""
    return Response(_document(), mimetype="application/json")


@blueprint.get("/api")
def page() -> str:
    """The same for people."""
    return render_template(
        "api.html",
        parts=_parts(text.language()),
        root=ROOT,
        address=request.url_root.rstrip("/"),
        endpoints=current_app.view_functions,
    )


@functools.lru_cache(2)
def _parts(_language: str) -> Markup:
    """All that can be asked for, in the language spoken: the same at any time."""
    made = msgspec.json.decode(_document())
    tags = dict.fromkeys(each.tag for each in OPERATIONS)
    parts = current_app.jinja_env.get_template("api_parts.html").render(
        groups=[(tag, [each for each in OPERATIONS if each.tag == tag]) for tag in tags],
        paths=made["paths"],
        schemas=made["components"]["schemas"],
        root=ROOT,
    )
    return Markup(parts)  # noqa: S704 - of our own template


# -- now -------------------------------------------------------------------------------------------


@operation(
    method="GET",
    path="/site",
    summary=N_("The house and its portal"),
    text=N_("Name, time zone, version: a good first question to find out whether a key works."),
    tag=N_("Now"),
    answer=schemas.Site,
)
def site() -> schemas.Site:
    """The house."""
    config = board().site.site
    return schemas.Site(
        name=config.name,
        title=words.title(config.name),
        time_zone=config.time_zone,
        version=__version__,
        languages=list(text.LANGUAGES),
        ts=board().live.now(),
    )


@operation(
    method="GET",
    path="/latest",
    summary=N_("Everything at this moment"),
    text=N_("The house in one sentence, its powers, and the newest sample of each device."),
    tag=N_("Now"),
    query=schemas.LatestQuery,
    answer=schemas.Latest,
    problems=[404],
)
def latest(query: schemas.LatestQuery) -> schemas.Latest:
    """What is now."""
    _, devices = _devices()
    now = now_ms()
    shown = devices
    if query.device:
        shown = [_known(query.device)[0]]
    house = combine(devices, now, board().config.left_out)
    return schemas.Latest(
        ts=board().live.now(),
        sentence=board().view().sentence,
        broker_connected=board().live.connected,
        house=answers.house_now(house, board().facts().books),
        devices=[answers.device_now(each, now) for each in shown],
    )


@operation(
    method="GET",
    path="/events",
    summary=N_("What changes, as it changes"),
    text=N_(
        "Server-sent events: each message of the mesh as it comes, named by its kind, its data an "
        "Event. Nothing is said twice; ask for the rest first. A comment comes at least every 15 s."
    ),
    tag=N_("Now"),
    query=schemas.EventsQuery,
    media=(("text/event-stream", {"type": "string"}),),
    problems=[503],
)
def events(query: schemas.EventsQuery) -> Response:
    """The stream."""
    feed: Feed = current_app.extensions["feed"]
    token, people = request.cookies.get(SESSION, "") if visitor() else "", accounts()
    key, known = bearer() if g.get("key") else "", current_app.extensions["keys"]

    def stays() -> bool:
        """Whose session or key it is, is still in force."""
        try:
            if key:
                return known.check(key) is not None
            return not token or people.visitor(token) is not None
        except AccountsError:
            return False

    stream = feed.open(query.kind or None, query.device or None)
    if stream is None:
        refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many open streams")
    return stream_answer(feed.streams, stream, stays)


@operation(
    method="GET",
    path="/display",
    summary=N_("For a display on the wall"),
    text=N_(
        "Without action, who feeds the house: (--G--) grid, (--B--) battery, (--F--) panels, "
        "(--H--) panels and battery, (--?--) not known. DISPLAY: one line, parted by |: status, "
        "time, date, charge in percent, then watts and kWh of sun, grid and house. DOMOTICA: "
        "the same and the flows between them as JSON."
    ),
    tag=N_("Now"),
    query=schemas.DisplayQuery,
    answer=schemas.Display,
    media=(("text/plain", TEXT_TABLE),),
)
def display(query: schemas.DisplayQuery) -> Response | schemas.Display:
    """What a small display shows."""
    _, devices = _devices()
    house = combine(devices, now_ms(), board().config.left_out)
    now = board().live.now().astimezone(zone())
    found = answers.display(
        house, board().facts().books, now, text.day(now.date(), "MMM").rstrip(".").capitalize()
    )
    if query.action == "DOMOTICA":
        return found
    line = answers.display_line(found) if query.action == "DISPLAY" else found.statusCode
    return Response(line, mimetype="text/plain")


# -- devices ---------------------------------------------------------------------------------------


@operation(
    method="GET",
    path="/devices",
    summary=N_("All devices"),
    text=N_("Who they are, whether they answer, and what can be set."),
    tag=N_("Devices"),
    answer=schemas.Devices,
)
def devices() -> schemas.Devices:
    """All devices."""
    state, found = _devices()
    now = now_ms()
    return schemas.Devices(
        [answers.device(each, state.devices.get(each.name) or Memory(), now) for each in found]
    )


@operation(
    method="GET",
    path="/devices/{device}",
    summary=N_("One device"),
    text=N_("Who it is, whether it answers, and what can be set."),
    tag=N_("Devices"),
    answer=schemas.Device,
    problems=[404],
)
def device(device: str) -> schemas.Device:
    """One device."""
    found, memory = _known(device)
    return answers.device(found, memory, now_ms())


@operation(
    method="GET",
    path="/devices/{device}/settings",
    summary=N_("What a device is set to"),
    text=N_("As it was read from the device, with what each setting takes and its writes."),
    tag=N_("Devices"),
    answer=schemas.Settings,
    problems=[404],
)
def settings(device: str) -> schemas.Settings:
    """The settings of a device, or the modes of the controller."""
    memory = board().live.state().devices.get(device)
    if device != CONTROLLER or memory is None:
        memory = _known(device)[1]
    return answers.settings(device, memory.info, memory.settings, controls().why_not(device))


@operation(
    method="GET",
    path="/quantities",
    summary=N_("The vocabulary"),
    text=N_("Every name that a device may say, with its unit and what plus means."),
    tag=N_("Devices"),
    answer=schemas.Quantities,
)
def quantities() -> schemas.Quantities:
    """The vocabulary."""
    return answers.quantities()


# -- history ---------------------------------------------------------------------------------------


@operation(
    method="GET",
    path="/series",
    summary=N_("What is recorded"),
    text=N_("Each quantity of each device that the database has a history of."),
    tag=N_("History"),
    query=schemas.SeriesQuery,
    answer=schemas.SeriesList,
    problems=[503],
)
def series(query: schemas.SeriesQuery) -> schemas.SeriesList:
    """Everything there is."""
    table = tables.series
    wanted = select(table).order_by(table.c.device, table.c.name)
    if query.device:
        wanted = wanted.where(table.c.device == query.device)
    with database().reading() as connection:
        rows = connection.execute(wanted).all()
    return schemas.SeriesList(
        [schemas.Series(r.device, r.name, r.unit, answers.kind_of(r.kind)) for r in rows]
    )


@operation(
    method="GET",
    path="/series/{device}/points",
    summary=N_("A curve"),
    text=N_(
        "Means with minima and maxima, thinned out in the database from samples, minutes, hours "
        "or days, whichever are just fine enough. Without a time, the last 24 hours. “to” is not "
        "part of it."
    ),
    tag=N_("History"),
    query=schemas.PointsQuery,
    answer=schemas.Points,
    media=CSV,
    problems=[404, 422, 503],
)
def points(device: str, query: schemas.PointsQuery) -> schemas.Points | Response:
    """A stretch of one series."""
    span = answers.stretch(query.start or None, query.end or None, board().live.now(), zone())
    table = tables.series
    with database().reading() as connection:
        row = connection.execute(
            select(table).where(table.c.device == device, table.c.name == query.name)
        ).first()
        if row is None:
            refuse(HTTPStatus.NOT_FOUND, f"nothing is recorded as {query.name} of {device[:32]}")
        found = schemas.Series(row.device, row.name, row.unit, answers.kind_of(row.kind))
        if found.kind == "state":
            made = answers.texts(found, span, _texts(connection, row.id, span))
        else:
            curve = history.curve(connection, row.id, *span, points=query.points)
            made = answers.points(found, span, curve)
    if query.format == "csv":
        return _table(answers.points_csv(made), f"{device}-{query.name.replace('/', '-')}")
    return made


def _texts(connection: Any, number: int, span: tuple[int, int]) -> list[tuple[int, str]]:  # noqa: ANN401
    table = tables.state
    mine = table.c.series_id == number
    before = connection.execute(
        select(table.c.ts, table.c.value)
        .where(mine, table.c.ts < span[0])
        .order_by(table.c.ts.desc())
        .limit(1)
    ).all()
    rows = connection.execute(
        select(table.c.ts, table.c.value)
        .where(mine, table.c.ts >= span[0], table.c.ts < span[1])
        .order_by(table.c.ts)
        .limit(MOST_TEXTS)
    ).all()
    return [(int(row[0]), str(row[1])) for row in (*before, *rows)]


@operation(
    method="GET",
    path="/energy",
    summary=N_("The energy books"),
    text=N_(
        "What flowed, by hour, day, month or year of the site's own days, with how far it can be "
        "trusted, autarky and self-consumption."
    ),
    tag=N_("History"),
    query=schemas.EnergyQuery,
    answer=schemas.Energy,
    media=CSV,
    problems=[422, 503],
)
def energy(query: schemas.EnergyQuery) -> schemas.Energy | Response:
    """What periods come to."""
    first, end = answers.days(query.start or None, query.end or None, query.by, today())
    now = now_ms()
    with database().reading() as connection:
        if query.by == "hour":
            rows = [
                answers.energy_row(found, hour)
                for offset in range((end - first).days)
                for hour, found in books.hours(
                    connection, zone(), first + timedelta(days=offset), now
                )
            ]
        elif query.by == "total":
            rows = [answers.energy_row(books.figures(connection, zone(), first, end, now))]
        else:
            by = cast("Any", query.by)
            found = books.table(connection, zone(), first, end, by, now)
            rows = [answers.energy_row(each) for each in found]
    if query.format == "csv":
        return _table(answers.energy_csv(rows, tables.FLOWS), f"energy-{first}")
    return schemas.Energy(board().site.site.time_zone, rows)


# -- alarms ----------------------------------------------------------------------------------------


@operation(
    method="GET",
    path="/alarms",
    summary=N_("Alarms"),
    text=N_("Those that are open, or all that were, the newest first."),
    tag=N_("Alarms"),
    query=schemas.AlarmsQuery,
    answer=schemas.Alarms,
    problems=[503],
)
def alarms(query: schemas.AlarmsQuery) -> schemas.Alarms:
    """Open alarms, or their history."""
    if query.state == "all":
        past = board().history.past_alarms(query.device or "", query.skip, query.limit)
        return schemas.Alarms([answers.past_alarm(each) for each in past])
    found = [
        answers.open_alarm(key, alarm, seen)
        for key, alarm, seen in book().open_ones()
        if not query.device or query.device == key[0]
    ]
    found.sort(key=lambda each: each.raised, reverse=True)
    return schemas.Alarms(found[query.skip : query.skip + query.limit])


@operation(
    method="POST",
    path="/alarms/{device}/{code}/ack",
    summary=N_("Acknowledge an alarm"),
    text=N_("Somebody has seen it: reminders end. It moves nothing, so it may come from outside."),
    tag=N_("Alarms"),
    body=schemas.AckWish,
    answer=schemas.AckDone,
    problems=[409],
    writes=True,
)
def acknowledge(device: str, code: str, body: schemas.AckWish) -> schemas.AckDone:
    """Somebody has seen it."""
    by = doer()
    try:
        is_new = book().acknowledge(device, code, body.id, by=by, address=where().address)
    except RefusedError as err:
        refuse(HTTPStatus.CONFLICT, str(err))
    seen = next(
        (seen for key, _, seen in book().open_ones() if key == (device, code) and seen), None
    )
    return schemas.AckDone(body.id, seen.by if seen else by, is_new)


# -- commands --------------------------------------------------------------------------------------


@operation(
    method="GET",
    path="/commands",
    summary=N_("What was asked of devices"),
    text=N_("The last commands and what became of them, whoever asked."),
    tag=N_("Commands"),
    query=schemas.CommandsQuery,
    answer=schemas.Commands,
)
def commands(query: schemas.CommandsQuery) -> schemas.Commands:
    """The last ones."""
    now = now_ms()
    return schemas.Commands(
        [answers.command(each, now) for each in controls().orders.last(query.limit)]
    )


@operation(
    method="GET",
    path="/commands/{number}",
    summary=N_("What became of a command"),
    text=N_("Each stage as it came. It is done at “applied”: the device was read back."),
    tag=N_("Commands"),
    answer=schemas.Command,
    problems=[404],
)
def command(number: str) -> schemas.Command:
    """One command."""
    found = controls().orders.get(number)
    if found is None:
        refuse(HTTPStatus.NOT_FOUND, "no such command is in the portal's memory")
    return answers.command(found, now_ms())


@operation(
    method="POST",
    path="/commands",
    summary=N_("Ask a device for something"),
    text=N_(
        "A setting, several as one batch, a relay by hand (name “manual”, value grid_open, "
        "grid_connected or auto, with minutes), or a mode of the controller. The answer says that "
        "it was asked; ask for the command until it is pending no more."
    ),
    tag=N_("Commands"),
    body=schemas.CommandWish,
    answer=schemas.Command,
    problems=[404, 409, 503],
    status=202,
    writes=True,
)
def ask(body: schemas.CommandWish) -> Response:
    """Ask a device."""
    known = {each.name for each in _devices()[1]} | board().live.state().devices.keys()
    if body.device not in known:
        refuse(HTTPStatus.NOT_FOUND, f"there is no device {body.device}")
    if why := controls().why_not(body.device):
        refuse(HTTPStatus.CONFLICT, why)
    wish = _wish(body)
    if not wish.wants:
        refuse(HTTPStatus.CONFLICT, "nothing differs from what the device has")
    confirm = None
    if (danger := wish.danger) is not None:
        if body.confirm != danger.value:
            refuse(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"this can do harm: say {danger.form} once more as confirm",
            )
        confirm = danger.value
    if wish.is_spent and len(body.override.strip()) < 3:
        refuse(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "the day's budget of writes is spent; say in override why it must be exceeded",
        )
    try:
        order = controls().orders.ask(
            body.device,
            wish.wants,
            by=doer(),
            address=where().address,
            was=wish.was,
            reason=body.reason.strip(),
            override=body.override.strip() if wish.is_spent else "",
            confirm=confirm,
            lease_s=wish.lease_s,
        )
    except RefusedError as err:
        refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(err))
    response = Response(
        msgspec.json.encode(answers.command(order, now_ms())),
        HTTPStatus.ACCEPTED,
        mimetype="application/json",
    )
    response.headers["Location"] = url_for("api.command", number=order.id)
    return response


def _wish(body: schemas.CommandWish) -> Wish:
    """The same checks as the page's form."""
    if (body.name is None) == (not body.values):
        refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "say name and value, or values")
    values = {body.name: body.value} if body.name is not None else body.values
    state = board().live.state()
    found = next((e for e in board().live.devices(state) if e.name == body.device), None)
    form = {f"set.{name}": answers.form_text(value) for name, value in values.items()}
    if body.device == CONTROLLER:
        form = {name: answers.form_text(value) for name, value in values.items()}
        if unknown := [n for n in form if n != "mode" and not n.startswith("rule.")]:
            refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"the controller has no {unknown[0][:40]}")
    elif found is not None and found.family == RELAY_FAMILY:
        if list(values) != ["manual"]:
            refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "a relay takes the name “manual”")
        form = {"manual": answers.form_text(values["manual"]), "minutes": f"{body.minutes or 0:g}"}
    try:
        return Wish(body.device, form)
    except RefusedError as err:
        refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(err))
