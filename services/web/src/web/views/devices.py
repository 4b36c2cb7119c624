"""Pages *Devices* and of one device: who is connected, how it is read, everything it says."""

from collections.abc import Mapping, Sequence
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
from sunmesh.errors import RefusedError
from sunmesh.messages import Settings
from werkzeug.wrappers import Response as BaseResponse

from .. import words
from ..device.past import Spark, sparks, today_kwh
from ..device.view import Card, Fact, Member, card, groups, members, weak_text
from ..house import Device
from ..live import State
from ..people.guard import accounts, may, me, visitor, where
from ..queries import HistoryError
from ..recordings import COLLECTED, MINUTES, Recordings, document, file_name, shown
from ..text import _, ngettext, number
from ..things import moment
from ..wellbeing import HealthBook
from . import board, database, now_ms, zone
from .control import state_of_lock

blueprint = Blueprint("devices", __name__)


def health() -> HealthBook:
    """The application's memory of how devices were read."""
    found: HealthBook = current_app.extensions["health"]
    return found


def recordings() -> Recordings:
    """The application's recordings of raw answers."""
    found: Recordings = current_app.extensions["recordings"]
    return found


def _members(
    name: str, everything: Sequence[Device], today: Mapping[str, float], now: int
) -> list[Member]:
    return members([d for d in everything if d.behind == name], today, now, zone())


def _today(everything: Sequence[Device], now: int) -> tuple[dict[str, float], str]:
    """Today's energy of devices behind others, and why it is not known."""
    names = [device.name for device in everything if device.behind]
    if not names:
        return {}, ""
    try:
        with database().reading() as connection:
            return today_kwh(connection, names, zone(), now), ""
    except HistoryError as err:
        return {}, str(err)


def _card(device: Device, state: State, its_members: Sequence[Member], now: int) -> Card:
    return card(device, state, health().of(device.name), its_members, now, zone())


def _summary(cards: Sequence[Card]) -> str:
    """The page's headline."""
    everyone = [(each.title, each.look) for each in cards]
    everyone += [(member.title, member.look) for each in cards for member in each.members]
    lost = [title for title, look in everyone if look == "lost"]
    if not lost:
        return ngettext(
            "%(num)d device, and it answers.", "%(num)d devices, and all answer.", len(everyone)
        )
    return ngettext(
        "%(num)d device does not answer: %(names)s.",
        "%(num)d devices do not answer: %(names)s.",
        len(lost),
        names=", ".join(lost[:4]) + ("…" if len(lost) > 4 else ""),
    )


@blueprint.get("/devices")
def page() -> str:
    """All of them, each as a card."""
    live = board().live
    state, now = live.state(), now_ms()
    everything = live.devices(state)
    today, error = _today(everything, now)
    cards = [
        _card(device, state, _members(device.name, everything, today, now), now)
        for device in everything
        if not device.behind
    ]
    return render_template(
        "devices.html",
        cards=cards,
        weak={each.name: weak_text(each.members) for each in cards if each.members},
        headline=_summary(cards) if cards else "",
        error=error,
    )


@blueprint.get("/devices/<name>")
def device(name: str) -> str:
    """One of them."""
    state, now = board().live.state(), now_ms()
    everything = board().live.devices(state)
    found = _found(name, everything)
    today, error = _today(everything, now)
    its_members = _members(name, everything, today, now)
    parts = groups(found, now)
    curves: dict[str, Spark] = {}
    try:
        with database().reading() as connection:
            curves = sparks(
                connection,
                name,
                {row.series: row.is_counter for part in parts for row in part.rows if row.series},
                now,
            )
    except HistoryError as err:
        error = str(err)
    memory = state.devices.get(name)
    return render_template(
        "device.html",
        card=_card(found, state, its_members, now),
        groups=parts,
        sparks=curves,
        weak=weak_text(its_members) if its_members else "",
        error=error,
        settings=_settings(memory.settings if memory else None),
        settings_read=(
            moment(clock.epoch_ms(clock.parse(memory.settings.ts)), now, zone())
            if memory and memory.settings
            else ""
        ),
        is_settable=bool(memory and memory.info and memory.info.settable),
        counters=_counters(name),
        is_kept=any(row.quality for part in parts for row in part.rows),
        recording=_recording(found, now),
    )


def _found(name: str, everything: Sequence[Device]) -> Device:
    found = next((each for each in everything if each.name == name), None)
    if found is None:
        abort(
            HTTPStatus.NOT_FOUND,
            _("There is no device of that name: not in site.toml, and none was heard of."),
        )
    return found


# -- raw answers -----------------------------------------------------------------------------------


def _is_recordable(device: Device) -> bool:
    """Whether a collector reads it by itself; what is behind another is in that one's answers."""
    return device.family in COLLECTED and not device.behind


def _recording(device: Device, now: int) -> dict[str, object] | None:
    """What the page shows of recording raw answers; None = nothing, to this visitor."""
    who = visitor()
    if who is None or not may("operator") or not _is_recordable(device):
        return None
    newest = recordings().of(device.name)
    view = shown(newest, device.service, now) if newest else None
    lock, why = state_of_lock()
    return {
        "lock": lock,
        "why": why,
        "proved": who.is_proved(accounts().now_ms),
        "minutes": MINUTES,
        "newest": view,
        "kept": moment(view.until, now, zone()) if view else "",
    }


def _one(name: str) -> Device:
    """The device of that name, if it can be recorded."""
    live = board().live
    device = _found(name, live.devices(live.state()))
    if not _is_recordable(device):
        abort(HTTPStatus.NOT_FOUND, _("No collector reads this device by itself."))
    return device


@blueprint.post("/devices/<name>/record")
def record(name: str) -> BaseResponse:
    """Ask its collector for its raw answers."""
    device = _one(name)
    minutes = request.form.get("minutes", default=0, type=int)
    try:
        recordings().start(device.name, minutes, by=me().name, address=where().address)
    except RefusedError as err:
        abort(HTTPStatus.CONFLICT, words.sentence(str(err)))
    return _back(name)


@blueprint.post("/devices/<name>/record/stop")
def stop_recording(name: str) -> BaseResponse:
    """Enough of them."""
    try:
        recordings().stop(_one(name).name, by=me().name, address=where().address)
    except RefusedError as err:
        abort(HTTPStatus.CONFLICT, words.sentence(str(err)))
    return _back(name)


def _back(name: str) -> BaseResponse:
    where_it_stands = url_for("devices.device", name=name, _anchor="device-record")
    return redirect(where_it_stands, HTTPStatus.SEE_OTHER)


@blueprint.get("/devices/<name>/record/<number>.json")
def recorded(name: str, number: str) -> Response:
    """The capture file."""
    device = _one(name)
    found = recordings().get(name, number)
    if found is None:
        abort(HTTPStatus.NOT_FOUND, _("This recording is gone: they are kept for an hour."))
    memory = board().live.state().devices.get(name)
    text = document(found, memory.info if memory else None, device.service)
    file = file_name(found, device.family, zone())
    headers = {"Content-Disposition": f'attachment; filename="{file}"'}
    return Response(text, mimetype="application/json", headers=headers)


def _settings(settings: Settings | None) -> list[Fact]:
    if settings is None:
        return []
    return [
        Fact(words.label(name), words.value(name, value), note=words.meaning(name))
        for name, value in settings.values.items()
    ]


def _counters(name: str) -> list[Fact]:
    """What its collector counts, as it counts it."""
    wellbeing = health().of(name)
    if wellbeing is None:
        return []
    return [
        Fact(
            key.replace("_", " "),
            words.NONE
            if value is None
            else number(value, 0 if float(value).is_integer() else 2)
            if isinstance(value, int | float)
            else value,
        )
        for key, value in wellbeing.counters.items()
    ]
