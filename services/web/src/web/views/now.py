"""Page *Now*: the house at this moment, the stream that keeps it so, and what is kept offline."""

from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, render_template, request, url_for
from werkzeug.routing import BuildError

from .. import words
from ..app_shell import manifest_of, worker_of
from ..board import slots
from ..flow import HEIGHT, RADIUS, WIDTH
from ..people.accounts import AccountsError
from ..people.guard import SESSION, accounts, visitor
from ..streams import answer
from ..text import _
from . import board
from .alarms import SEVERITIES, book
from .control import controls

blueprint = Blueprint("now", __name__)


def go(endpoint: str, **values: Any) -> str:  # noqa: ANN401 - whatever an address is made of
    """The address of a page; empty where this portal has no such page."""
    if endpoint not in current_app.view_functions:
        return ""
    try:
        return url_for(endpoint, **values)
    except BuildError:
        return ""


@blueprint.get("/")
def page() -> str:
    """The page; with ``?part=main`` only what changes with the layout."""
    view = board().view()
    template = "now_main.html" if request.args.get("part") == "main" else "now.html"
    return render_template(
        template,
        view=view,
        slots=slots(view),
        go=go,
        severities=SEVERITIES,
        width=WIDTH,
        height=HEIGHT,
        radius=RADIUS,
        reserve=board().config.battery_reserve_percent,
    )


@blueprint.get("/now.json")
def snapshot() -> Response:
    """Everything at once: for pages that could not get a stream, and for scripts."""
    return Response(board().full(), mimetype="application/json")


@blueprint.get("/live")
def live() -> Response:
    """Server-sent events: ``full`` once, then ``patch`` with the texts that changed.

    With ``?page=control`` or ``?page=alarms`` instead ``changed``, whenever that page is to be
    fetched anew.
    """
    openers = {"control": controls().open, "alarms": book().open}
    stream = openers.get(request.args.get("page", ""), board().open)()
    people, token = accounts(), request.cookies.get(SESSION, "") if visitor() else ""

    def stays() -> bool:
        """Whose page it is has not logged out."""
        try:
            return not token or people.visitor(token) is not None
        except AccountsError:
            return False

    return answer(board().streams, stream, stays)


@blueprint.get("/sw.js")
def worker() -> Response:
    """The service worker: it shows the last values, and how old they are, where no portal is."""
    response = Response(worker_of(), mimetype="text/javascript")
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get("/manifest.webmanifest")
def manifest() -> Response:
    """What a phone needs to keep the portal among its apps."""
    content = manifest_of(words.title(board().site.site.name), _("What the house does now"))
    response = Response(msgspec.json.encode(content), mimetype="application/manifest+json")
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get("/offline")
def offline() -> str:
    """What the service worker shows for pages that need the portal."""
    return render_template("offline.html")
