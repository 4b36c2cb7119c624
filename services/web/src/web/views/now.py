"""Page *Now*: the house at this moment, and the stream that keeps it so."""

from flask import Blueprint, Response, render_template, request

from ..accounts import AccountsError
from ..board import slots
from ..flow import HEIGHT, RADIUS, WIDTH
from ..guard import SESSION, accounts, visitor
from ..streams import answer
from . import board
from .alarms import book
from .control import controls

blueprint = Blueprint("now", __name__)


@blueprint.get("/")
def page() -> str:
    """The page; with ``?part=main`` only what changes with the layout."""
    view = board().view()
    template = "now_main.html" if request.args.get("part") == "main" else "now.html"
    return render_template(
        template,
        view=view,
        slots=slots(view),
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
