"""Page *Setup*: the first account, then from nothing to a living page in four more steps.

What is told is kept as a draft; ``site.toml`` is written once, at the end, and shown before.
"""

import re
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from sunmesh import config
from sunmesh.config import Site
from sunmesh.database.costs import TariffError
from sunmesh.database.tariff import Side, Tariff
from sunmesh.errors import ConfigError
from werkzeug.wrappers import Response

from .. import text, words
from ..database import HistoryError
from ..people.accounts import AccountsError
from ..people.guard import accounts, begin, me, unlocked_s, visitor, where
from ..services import COLLECTORS, ServiceBook
from ..setup import draft as setup_draft
from ..setup import find as setup_find
from ..setup.draft import STEP_NAMES, STEPS, Book, Draft
from ..setup.find import Finder, Hit, Place
from ..setup.toml import WriteError, change, is_writable, replace, secret
from ..text import LANGUAGES, N_, _
from . import board, today
from .account import field, is_settled, may_settle, target, tried
from .money import money
from .system import book as service_book

blueprint = Blueprint("setup", __name__)

DRAFT = "setup.json"
RESTART_S = 0.7
"""The answer is on its way by then."""
BASICS = ("recorder", "bookkeeper", "web")
"""Services that every house runs."""
FRESH_S = 60.0
SHOWN = 6

STATES = {
    "waits": N_("waits for its turn"),
    "asks": N_("is being asked"),
    "found": N_("found"),
    "nothing": N_("nobody known answers"),
    "held": N_("in use"),
    "failed": N_("no answer"),
}


def site_now() -> Site:
    """The configuration as it stands in the file; as it was at the start where that is spoilt."""
    try:
        return config.load(board().site.path, "web")
    except ConfigError:
        return board().site


def draft_book() -> Book:
    """The application's draft."""
    found: Book | None = current_app.extensions.get("setup_book")
    if found is None:
        found = Book(board().site.path.with_name(DRAFT))
        current_app.extensions["setup_book"] = found
    return found


def finder() -> Finder:
    """The application's search for devices."""
    found: Finder | None = current_app.extensions.get("finder")
    if found is None:
        found = Finder(board().site, board().config)
        current_app.extensions["finder"] = found
    return found


# -- the first visit -------------------------------------------------------------------------------


@blueprint.get("/setup")
def page() -> Response | str:
    """The form that makes the first account; then the step that one was at."""
    if not is_settled():
        after = target("setup.page")
        return render_template("setup.html", why=may_settle(), error="", name="", target=after)
    who = visitor()
    if who is None:
        return redirect(
            url_for("account.login_page", next=url_for("setup.page")), HTTPStatus.SEE_OTHER
        )
    if not who.may("admin") or not where().local:
        why = where().why if who.may("admin") else ""
        return render_template("setup_closed.html", why=why)
    return redirect(url_for(f"setup.{draft_book().read().step}"), HTTPStatus.SEE_OTHER)


@blueprint.post("/setup")
def settle() -> Response | tuple[str, int]:
    """Make the first account, an admin's, and log it in."""
    if why := may_settle():
        abort(HTTPStatus.FORBIDDEN, why)
    tokens: list[str] = []
    name = field("name")

    def deed() -> None:
        tokens.append(accounts().settle(name, field("password"), where().address))

    after = target("setup.page")
    error, status = tried(deed)
    if error:
        page = render_template("setup.html", why="", error=error, name=name, target=after)
        return page, status
    return begin(redirect(after, HTTPStatus.SEE_OTHER), tokens[0])


# -- steps -----------------------------------------------------------------------------------------


def _render(step: str, draft: Draft, template: str = "", **values: object) -> str:
    return render_template(
        template or f"setup_{step}.html",
        step=step,
        number=STEPS.index(step) + 2,
        steps=[(name, _(STEP_NAMES[name]), name in draft.done) for name in STEPS],
        after=STEPS[min(STEPS.index(step) + 1, len(STEPS) - 1)],
        draft=draft,
        count=len(STEPS) + 1,
        **values,
    )


def _next(draft: Draft, step: str) -> Response:
    draft.answered(step)
    draft_book().keep(draft)
    return redirect(url_for(f"setup.{draft.step}"), HTTPStatus.SEE_OTHER)


def _typed(name: str) -> str:
    return field(name, 300)


@blueprint.get("/setup/house")
def house() -> str:
    """Language, place, zone, the grid."""
    draft = draft_book().read()
    return _house(draft, {}, {})


def is_usual(zone: str) -> bool:
    """Whether somebody lives by it: a continent and a city."""
    head = zone.partition("/")[0]
    return zone == "UTC" or ("/" in zone and head not in ("Etc", "SystemV", "US", "posix", "right"))


def _house(draft: Draft, typed: Mapping[str, str], errors: Mapping[str, str]) -> str:
    now = site_now().site
    known = draft.house
    fallback = now.time_zone if now.time_zone != "UTC" else ""

    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:g}"

    values = {
        "time_zone": known.time_zone or fallback,
        "latitude": shown(known.latitude if known.latitude is not None else now.latitude),
        "longitude": shown(known.longitude if known.longitude is not None else now.longitude),
        "kind": known.kind,
    } | dict(typed)
    return _render(
        "house",
        draft,
        values=values,
        errors=errors,
        zones=sorted(zone for zone in available_timezones() if is_usual(zone)),
        kinds={key: (_(name), _(about)) for key, (name, about) in setup_draft.KINDS.items()},
        languages=LANGUAGES,
        spoken=text.language(),
    )


@blueprint.post("/setup/house")
def save_house() -> Response | tuple[str, int]:
    """Keep what was said of the house."""
    draft = draft_book().read()
    found, errors = setup_draft.house_of(_typed)
    if errors:
        typed = {key: _typed(key) for key in ("time_zone", "latitude", "longitude", "kind")}
        return _house(draft, typed, errors), HTTPStatus.UNPROCESSABLE_ENTITY
    draft.house = found
    return _next(draft, "house")


# -- devices ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A device that answered, in words.

    Attributes:
        hit: what was found.
        family: what it is.
        values: name and value of what it measures, the first few.
        more: the others.
        age: when it was read.
        taken: it was chosen already.
        name, role, model: as they stand in the form.
    """

    hit: Hit
    family: str
    values: list[tuple[str, str]]
    more: list[tuple[str, str]]
    age: str
    taken: bool
    name: str
    role: str
    model: str


FAMILY_NAMES = {
    "axpert": N_("Inverter"),
    "bms": N_("Battery management"),
    "meter": N_("Meter"),
    "pl80": N_("Charge controller"),
    "pvs6": N_("Gateway of microinverters"),
    "temperature": N_("Temperature sensor"),
}


def _found(draft: Draft) -> list[Found]:
    now = board().live.now()
    chosen = {each.hit: each for each in draft.devices}
    answered = "devices" in draft.done
    rows = []
    for hit in finder().hits():
        mine = chosen.get(hit.id)
        values = [
            (words.label(name), words.value(name, value)) for name, value in hit.values.items()
        ]
        rows.append(
            Found(
                hit,
                _(FAMILY_NAMES[hit.family]),
                values[:SHOWN],
                values[SHOWN:],
                words.age((now - hit.at).total_seconds()),
                mine is not None or (not answered and not hit.known),
                mine.name if mine else hit.name,
                str((mine.table if mine else hit.table).get("role", "")),
                str((mine.table if mine else hit.table).get("model", "")),
            )
        )
    return rows


def _place(place: Place) -> dict[str, str]:
    state = _(STATES[place.state])
    if place.state == "asks" and place.detail:
        state = _("is asked by %(program)s", program=place.detail)
    if place.state == "held":
        state = _("in use by %(program)s, so it is left alone", program=place.detail)
    tone = {"found": "good", "failed": "bad", "asks": "pending"}.get(place.state, "")
    detail = place.detail if place.state == "failed" else ""
    return {"address": place.address, "state": state, "tone": tone, "detail": detail}


def _devices(
    draft: Draft, errors: Mapping[str, str], typed: Mapping[str, str], *, part: bool = False
) -> str:
    search = finder()
    view = _found(draft)
    fresh = {each.hit.id for each in view}
    return _render(
        "devices",
        draft,
        "setup_hits.html" if part else "",
        places=[_place(place) for place in search.places()],
        found=view,
        kept=[each for each in draft.devices if each.hit not in fresh],
        known=sorted(site_now().devices),
        busy=search.busy,
        searched=search.began is not None,
        missing=search.missing,
        errors=errors,
        typed=typed,
        roles={key: _(name) for key, name in setup_draft.ROLES.items()},
        models=setup_draft.MODELS,
        is_container=is_container(),
    )


@blueprint.get("/setup/devices")
def devices() -> str:
    """Where devices may be, and what was found; with ``?part=hits`` only that."""
    return _devices(draft_book().read(), {}, {}, part=bool(request.args.get("part")))


@blueprint.post("/setup/devices/find")
def find() -> Response | tuple[str, int]:
    """Look for devices, everywhere and at the gateways that are named."""
    if field("look") != "1":
        abort(HTTPStatus.BAD_REQUEST, _("Nothing was asked for."))
    named = [each for each in re.split(r"[\s,;]+", field("gateways", 500)) if each]
    wrong = [each for each in named if not setup_find.is_address(each)]
    if wrong or len(named) > 8:
        why = _("“%(text)s” is no address such as 192.168.1.60", text=(wrong or named)[0])
        errors = {"gateways": why}
        page = _devices(draft_book().read(), errors, {"gateways": field("gateways", 500)})
        return page, HTTPStatus.UNPROCESSABLE_ENTITY
    try:
        accounts().note(me().name, where().address, "look for devices", " ".join(named), "done", "")
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, words.sentence(str(err)))
    finder().start(named)
    return redirect(url_for("setup.devices"), HTTPStatus.SEE_OTHER)


@blueprint.post("/setup/devices")
def save_devices() -> Response | tuple[str, int]:
    """Keep which devices shall be read, and their names."""
    draft = draft_book().read()
    hits: dict[str, tuple[str, Mapping[str, Any]]] = {
        each.hit: (each.title, each.table) for each in draft.devices
    }
    hits |= {hit.id: (hit.title, hit.table) for hit in finder().hits() if not hit.known}
    chosen, errors = setup_draft.devices_of(_typed, hits, set(site_now().devices))
    draft.devices = chosen
    if errors:
        return _devices(draft, errors, {}), HTTPStatus.UNPROCESSABLE_ENTITY
    return _next(draft, "devices")


# -- battery, tariff, alarms -----------------------------------------------------------------------


def _more(draft: Draft, errors: Mapping[str, str], typed: Mapping[str, str]) -> str:
    def shown(value: object) -> str:
        return f"{value:g}" if isinstance(value, int | float) else str(value or "")

    battery, price, way = draft.battery, draft.price, draft.way
    values = {
        "chemistry": battery.chemistry,
        "cells": shown(battery.cells),
        "capacity_kwh": shown(battery.capacity_kwh),
        "cell_low_v": shown(battery.cell_low_v),
        "cell_high_v": shown(battery.cell_high_v),
        "currency": price.currency or "EUR",
        "buy": shown(price.buy),
        "sell": shown(price.sell),
        "by": way.by,
        "person": way.person,
        "recipient": way.recipient,
        "app_id": shown(way.app_id or None),
        "base_url": way.base_url,
        "way_language": way.language if way.by else text.language(),
    } | dict(typed)
    return _render(
        "more",
        draft,
        values=values,
        errors=errors,
        chemistries={key: _(name) for key, name in setup_draft.CHEMISTRIES.items()},
        limits=setup_draft.CELL_LIMITS,
        ways={key: _(name) for key, name in setup_draft.WAYS.items()},
        languages=LANGUAGES,
        has_token=bool(way.token_file),
        has_user=bool(way.user_file),
        existing=sorted(site_now().sections.get("notifier", {}).get("targets", {})),
        may_keep=is_writable(board().site.path),
    )


@blueprint.get("/setup/more")
def more() -> str:
    """Battery, tariff, one way to a phone."""
    return _more(draft_book().read(), {}, {})


@blueprint.post("/setup/more")
def save_more() -> Response | tuple[str, int]:
    """Keep what was said of them."""
    draft = draft_book().read()
    folder = board().site.path.parent
    battery, errors = setup_draft.battery_of(_typed)
    price, wrong = setup_draft.price_of(_typed)
    errors |= wrong
    try:
        way, wrong = setup_draft.way_of(
            _typed, draft.way, lambda name, content: secret(folder, name, content)
        )
        errors |= wrong
    except WriteError as err:
        way, errors = draft.way, errors | {"token": str(err)}
    if errors:
        typed = {
            key: value
            for key, value in request.form.items()
            if key not in ("token", "user", "csrf")
        }
        return _more(draft, errors, typed), HTTPStatus.UNPROCESSABLE_ENTITY
    draft.battery, draft.price, draft.way = battery, price, way
    return _next(draft, "more")


# -- the file --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """The file that would be written.

    Attributes:
        content: of it.
        lines: mark and text of each line, secrets blanked.
        trouble: why it cannot be written.
    """

    content: str
    lines: list[tuple[str, str]]
    trouble: str = ""


@cache
def _blanked() -> re.Pattern[str]:
    """Lines of ``site.toml`` that hold a secret."""
    from sunmesh.archive.backup import SECRET

    return re.compile(rf"""(?m)\b(["']?{SECRET}["']?\s*=\s*)("[^"\n]*"|'[^'\n]*')""")


def _written(draft: Draft) -> Written:
    from difflib import ndiff

    path = board().site.path
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        old = ""
    try:
        new = change(old, setup_draft.tables(draft, site_now()))
    except (WriteError, tomllib.TOMLDecodeError) as err:
        return Written("", [], str(err))
    was, becomes = (_blanked().sub(r'\1"…"', each).splitlines() for each in (old, new))
    lines = [(line[0], line[2:]) for line in ndiff(was, becomes) if line[:1] in (" ", "+")]
    return Written(new, lines)


def _prices(draft: Draft) -> list[str]:
    """What the tariff's part comes to, in words; nothing where there is one already."""
    price = draft.price
    if price.buy is None and price.sell is None:
        return []
    try:
        if money().entries():
            return [_("There is a tariff already; the page Money changes it.")]
    except HistoryError as err:
        return [words.sentence(str(err))]
    found = []
    if price.buy is not None:
        cost = text.money(price.buy, price.currency)
        found.append(_("A kWh from the grid costs %(amount)s.", amount=cost))
    if price.sell is not None:
        cost = text.money(price.sell, price.currency)
        found.append(_("A kWh given to the grid earns %(amount)s.", amount=cost))
    return found


def _finish(draft: Draft, error: str = "") -> str:
    path = board().site.path
    who = me()
    return _render(
        "finish",
        draft,
        written=_written(draft),
        prices=_prices(draft),
        path=path,
        may_write=is_writable(path),
        must_prove=not unlocked_s() and not who.is_proved(accounts().now_ms),
        error=error,
    )


@blueprint.get("/setup/finish")
def finish() -> str:
    """The file as it will be."""
    return _finish(draft_book().read())


@blueprint.get("/setup/site.toml")
def download() -> Response:
    """The file as it would be, for a portal that may not write it."""
    content = _written(draft_book().read()).content
    return Response(
        _blanked().sub(r'\1""', content),
        mimetype="application/toml",
        headers={"Content-Disposition": "attachment; filename=site.toml"},
    )


def _save_price(draft: Draft) -> None:
    price = draft.price
    if (price.buy is None and price.sell is None) or money().entries():
        return
    tariff = Tariff(
        price.currency,
        has_grid=draft.house.kind != "off_grid",
        buy=Side(price.buy or 0.0),
        sell=Side(price.sell or 0.0),
    )
    money().save(today().replace(month=1, day=1), tariff, me().name)


@blueprint.post("/setup/finish")
def save() -> Response | tuple[str, int]:
    """Write the file, keep the old one, and have the portal read it."""
    draft = draft_book().read()
    who, address, path = me(), where().address, board().site.path
    if not unlocked_s():
        error, status = tried(lambda: accounts().unlock(who, field("password"), address))
        if error:
            return _finish(draft, error), status
    written = _written(draft)
    if written.trouble:
        return _finish(draft, written.trouble), HTTPStatus.CONFLICT
    stamp = board().live.now().astimezone(board().zone).strftime("%Y%m%d-%H%M%S")
    try:
        names = ", ".join(each.name for each in draft.devices)
        number = accounts().note(who.name, address, "save set-up", path.name, "asked", names)
        try:
            copy = replace(path, written.content, stamp)
            _save_price(draft)
        except (WriteError, HistoryError, TariffError, ValueError) as err:
            accounts().ended(number, "failed", str(err))
            return _finish(draft, str(err)), HTTPStatus.CONFLICT
        accounts().ended(number, "done", names)
    except AccountsError as err:
        return _finish(draft, str(err)), HTTPStatus.SERVICE_UNAVAILABLE
    draft.step, draft.saved = "house", str(copy.name if copy else "-")
    draft.devices = []
    draft_book().keep(draft)
    restart: Callable[[], None] | None = current_app.extensions.get("restart")
    if restart is not None:
        timer = threading.Timer(RESTART_S, restart)
        timer.daemon = True
        timer.start()
    return redirect(url_for("setup.done"), HTTPStatus.SEE_OTHER)


# -- does it live? ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Life:
    """A device of the file, and whether it is heard.

    Attributes:
        name: of the device.
        tone, state: whether it lives.
        service: that reads it.
    """

    name: str
    tone: str
    state: str
    service: str


def lives(site: Site, book: ServiceBook) -> list[Life]:
    """Every device of the file."""
    live = board().live
    heard = live.state().devices
    services = {service.name: service.state for service in book.services()}
    found = []
    for name, table in site.devices.items():
        service = COLLECTORS.get(str(table.get("family")), "")
        memory = heard.get(name)
        age_s = None
        if memory is not None and memory.sample is not None:
            age_s = (live.now() - memory.sample.time).total_seconds()
        if age_s is not None and age_s < max(FRESH_S, 3 * float(table.get("poll_interval_s") or 0)):
            tone, state = "good", _("lives, read %(age)s ago", age=words.age(age_s))
        elif memory is not None and memory.status is not None and memory.status.state != "online":
            tone, state = "bad", words.sentence(memory.status.reason or memory.status.state)
        elif services.get(service) == "online":
            tone, state = "pending", _("%(service)s runs and asks it", service=service)
        else:
            tone, state = "pending", _("waits for %(service)s to be started", service=service)
        found.append(Life(name, tone, state, service))
    return found


def is_container() -> bool:
    """Whether the portal runs in a container, apart from ports and collectors."""
    return Path("/run/.containerenv").exists() or (
        Path("/.dockerenv").exists() and Path("/etc/sunmesh/site.toml").exists()
    )


def starting(site: Site, missing: list[str], *, container: bool) -> list[str]:
    """Commands that start what is missing."""
    if not missing:
        return []
    if container:
        profiles = [name.removeprefix("collector-") for name in missing]
        known = [name for name in profiles if name in COLLECTORS and name != "axpert"]
        options = "".join(f" --profile {name}" for name in known)
        return [f"docker compose{options} up -d"]
    return [f"{name} run --config {site.path}" for name in missing]


@blueprint.get("/setup/done")
def done() -> str:
    """What was saved, what must be started, and whether it lives; with ``?part=life`` only that."""
    site = site_now()
    states = {service.name: service.state for service in service_book().services()}
    rows = lives(site, service_book())
    needed = dict.fromkeys([*(row.service for row in rows if row.service), *BASICS])
    if site.sections.get("notifier", {}).get("targets"):
        needed["notifier"] = None
    missing = [name for name in needed if states.get(name) != "online" and name != "web"]
    draft = draft_book().read()
    template = "setup_life.html" if request.args.get("part") else "setup_done.html"
    return render_template(
        template,
        rows=rows,
        living=sum(row.tone == "good" for row in rows),
        missing=missing,
        commands=starting(site, missing, container=is_container()),
        old_run=[name for name in needed if states.get(name) == "online" and name != "web"],
        is_container=is_container(),
        restarts="restart" in current_app.extensions,
        supervised=board().site.sections.get("simulator") is not None,
        may_test="notifier" in needed and states.get("notifier") == "online",
        path=site.path,
        copy="" if draft.saved == "-" else draft.saved,
    )
