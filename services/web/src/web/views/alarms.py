"""Page *Alarms*: what is open, who has seen it, who was told, and what was."""

from http import HTTPStatus
from typing import NoReturn

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from sunmesh.errors import RefusedError
from werkzeug.wrappers import Response

from .. import words
from ..alarms import AlarmBook
from ..people.guard import me, visitor, where
from ..text import N_

blueprint = Blueprint("alarms", __name__)

SEVERITIES = {"critical": N_("critical"), "warning": N_("warning"), "info": N_("note")}
"""How bad it is, for who sees no colour."""


def book() -> AlarmBook:
    """The application's alarms."""
    found: AlarmBook = current_app.extensions["alarms"]
    return found


@blueprint.get("/alarms")
def page() -> str:
    """The page; what is live stands in islands that a script renews."""
    who = visitor()
    number = request.args.get("page", default=1, type=int)
    device = request.args.get("device", "")[:32]
    return render_template(
        "alarms.html",
        view=book().view(),
        severities=SEVERITIES,
        past=book().past(device, number),
        may_acknowledge=who is not None and who.may("operator"),
        may_test=who is not None and who.may("operator") and where().local,
    )


def _refuse(err: RefusedError, status: int) -> NoReturn:
    abort(status, words.sentence(str(err)))


@blueprint.post("/alarms/<device>/<code>/ack")
def acknowledge(device: str, code: str) -> Response:
    """Somebody has seen it: reminders end."""
    number = request.form.get("id", "")[:200]
    try:
        book().acknowledge(device, code, number, by=me().name, address=where().address)
    except RefusedError as err:
        _refuse(err, HTTPStatus.CONFLICT)
    return redirect(url_for("alarms.page"), HTTPStatus.SEE_OTHER)


@blueprint.post("/alarms/test")
def test() -> Response:
    """Ask the notifier to try every way to people."""
    try:
        book().test(by=me().name, address=where().address)
    except RefusedError as err:
        _refuse(err, HTTPStatus.SERVICE_UNAVAILABLE)
    return redirect(url_for("alarms.page", _anchor="told"), HTTPStatus.SEE_OTHER)
