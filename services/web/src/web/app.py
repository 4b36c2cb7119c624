"""The Flask application: blueprints, headers, error pages. Nothing here reads or writes values."""

import hashlib
import mimetypes
from functools import cache
from http import HTTPStatus
from pathlib import Path

from flask import Flask, Response, render_template, request, url_for
from sunmesh.config import Site
from werkzeug.exceptions import HTTPException

from . import __version__, text, words
from .accounts import Accounts
from .alarms import AlarmBook
from .board import Board
from .compress import compress
from .config import web_of
from .controls import Controls
from .database import Database
from .guard import guard, mark
from .keys import Keys
from .live import Live
from .orders import Orders
from .pages import offered
from .queries import History
from .views import account, alarms, control, day, more, now

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
VIEWS = (now, day, control, alarms, more, account)
"""A module with a blueprint for each page."""
LANGUAGE = "sunmesh_language"
"""The cookie of who has chosen one."""
YEAR_S = 31_536_000
STATIC = Path(__file__).parent / "static"

ADVICE = {
    HTTPStatus.NOT_FOUND: "Nothing lives at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This page can only be read.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "That is more than any form here has.",
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        "The portal made a mistake. Its log says where; the rest of the house is not touched by it."
    ),
}

mimetypes.init(())  # our own few types are built in; the system's thousand cost memory
mimetypes.add_type("application/manifest+json", ".webmanifest")
mimetypes.add_type("font/woff2", ".woff2")


@cache
def _mark(name: str) -> str:
    """A mark of a static file's content, so that browsers may keep it for ever."""
    file = STATIC / name
    if not file.is_file():
        return "0"
    return hashlib.blake2b(file.read_bytes(), digest_size=5).hexdigest()


def asset(name: str) -> str:
    """The address of a static file."""
    return url_for("static", filename=name, v=_mark(name))


def create_app(
    config: Site,
    board: Board | None = None,
    accounts: Accounts | None = None,
    controls: Controls | None = None,
    book: AlarmBook | None = None,
) -> Flask:
    """The portal for one site.

    Args:
        config: the site's configuration.
        board: with live values; without it one that hears nothing (the pages still render).
        accounts: of the people; without it those of the configuration's database.
        controls: of the devices; without it those of ``board`` and ``accounts``.
        book: of the alarms; without it one of ``controls``.

    Raises:
        ConfigError: a wrong ``[web]``.
    """
    web = web_of(config)
    if board is None:
        history = History(config.database.sqlalchemy_url(), config.site.zone, web.left_out)
        board = Board(web, config, Live(None, config.devices), history)
    accounts = accounts or Accounts(config.database.sqlalchemy_url(), board.live.now)
    controls = controls or Controls(board, Orders(board.live, accounts))
    book = book or AlarmBook(board, controls.orders)
    app = Flask(__name__, static_folder=str(STATIC), template_folder="templates")
    compress(app)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.extensions["board"] = board
    app.extensions["accounts"] = accounts
    app.extensions["keys"] = Keys(accounts)
    app.extensions["controls"] = controls
    app.extensions["alarms"] = book
    app.extensions["database"] = Database(config.database.sqlalchemy_url(), board.history)
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        text.gettext, text.ngettext, newstyle=True
    )

    @app.before_request
    def speak() -> None:
        kept = request.cookies.get(LANGUAGE, "")
        wanted = [code for code, _ in request.accept_languages]
        text.speak(kept if kept in text.LANGUAGES else text.choose(wanted))

    for each in VIEWS:
        app.register_blueprint(each.blueprint)
    guard(app, web)
    pages = offered(app.view_functions)

    @app.context_processor
    def common() -> dict[str, object]:
        return {
            "asset": asset,
            "badge": book.badge(),
            "csrf_token": mark,
            "language": text.language(),
            "pages": pages,
            "site_title": words.title(config.site.name),
            "version": __version__,
        }

    @app.after_request
    def headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint == "static":
            kept = "v" in request.args and response.status_code == HTTPStatus.OK
            response.headers["Cache-Control"] = (
                f"public, max-age={YEAR_S}, immutable" if kept else "no-cache"
            )
        else:
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.errorhandler(HTTPException)
    def failed(err: HTTPException) -> tuple[str, int]:
        code = err.code or 500
        status = HTTPStatus(code)
        own = err.description if isinstance(err.description, str) else ""
        plain = own == type(err).description or code >= HTTPStatus.INTERNAL_SERVER_ERROR
        text = ADVICE.get(status, own) if plain else own
        return render_template("error.html", code=code, title=status.phrase, text=text), code

    return app
