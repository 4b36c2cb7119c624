"""Page *Now*: the house at this moment, and the stream that keeps it so."""

import time
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, render_template, request

from ..accounts import AccountsError
from ..board import Board, slots
from ..flow import HEIGHT, RADIUS, WIDTH
from ..guard import SESSION, accounts, visitor
from ..live import Stream
from . import board
from .alarms import book
from .control import controls

blueprint = Blueprint("now", __name__)

BEAT_S = 15.0
"""A comment at least this often, so that proxies and browsers know the stream lives."""
LOOK_S = 1.0
"""How often a stream looks whether its page has gone."""


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


def events(
    board: Board, stream: Stream, gone: Callable[[], bool], beat_s: float = BEAT_S
) -> Iterator[bytes]:
    """What one page gets, until it or the portal goes."""
    try:
        yield b"retry: 2000\n\n"
        quiet_since = time.monotonic()
        while not gone():
            try:
                event = stream.get(min(LOOK_S, beat_s))
            except EOFError:
                return
            if event is None:
                if time.monotonic() - quiet_since < beat_s:
                    continue
                event = b": beat\n\n"
            quiet_since = time.monotonic()
            yield event
    finally:
        board.streams.close(stream)


@blueprint.get("/live")
def live() -> Response:
    """Server-sent events: ``full`` once, then ``patch`` with the texts that changed.

    With ``?page=control`` or ``?page=alarms`` instead ``changed``, whenever that page is to be
    fetched anew.
    """
    openers = {"control": controls().open, "alarms": book().open}
    stream = openers.get(request.args.get("page", ""), board().open)()
    if stream is None:
        return Response(
            "Too many open pages; this one asks from time to time instead.\n",
            status=503,
            mimetype="text/plain",
            headers={"Retry-After": "60"},
        )
    left = request.environ.get("waitress.client_disconnected", lambda: False)
    people, token = accounts(), request.cookies.get(SESSION, "") if visitor() else ""

    def gone() -> bool:
        """The page was closed, or whose it was has logged out."""
        if left():
            return True
        try:
            return bool(token) and people.visitor(token) is None
        except AccountsError:
            return True

    return Response(
        events(board(), stream, gone),
        mimetype="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )
