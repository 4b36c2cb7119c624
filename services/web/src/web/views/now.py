"""Page *Now*: the house at this moment, and the stream that keeps it so."""

import time
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, current_app, render_template, request

from ..board import Board, slots
from ..flow import HEIGHT, RADIUS, WIDTH
from ..live import Stream

blueprint = Blueprint("now", __name__)

BEAT_S = 15.0
"""A comment at least this often, so that proxies and browsers know the stream lives."""
LOOK_S = 1.0
"""How often a stream looks whether its page has gone."""


def board() -> Board:
    """The application's board."""
    result: Board = current_app.extensions["board"]
    return result


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
    """Server-sent events: ``full`` once, then ``patch`` with the texts that changed."""
    stream = board().open()
    if stream is None:
        return Response(
            "Too many open pages; this one asks from time to time instead.\n",
            status=503,
            mimetype="text/plain",
            headers={"Retry-After": "60"},
        )
    gone = request.environ.get("waitress.client_disconnected", lambda: False)
    return Response(
        events(board(), stream, gone),
        mimetype="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )
