"""The Flask application: blueprints, headers, error pages. Nothing here reads or writes values."""

import mimetypes
from http import HTTPStatus

from flask import Flask, Response, render_template, request
from sunmesh.config import Site
from werkzeug.exceptions import HTTPException

from . import __version__, text, words
from .alarms import AlarmBook
from .api.doc import ROOT
from .app_shell import STATIC, asset, url_for
from .board import Board
from .compress import compress
from .config import web_of
from .controls import Controls
from .database import Database
from .feed import Feed
from .live import Live
from .orders import Orders
from .pages import offered
from .people.accounts import Accounts
from .people.guard import guard, mark
from .people.keys import Keys
from .queries import History
from .recordings import Recordings
from .rules.book import RuleBook
from .services import ServiceBook
from .text import N_
from .views import (
    account,
    alarms,
    api,
    battery,
    control,
    data,
    day,
    devices,
    history,
    look,
    money,
    more,
    now,
    rules,
    setup,
    system,
    wall,
)
from .wellbeing import HealthBook

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
VIEWS = (
    now,
    day,
    history,
    battery,
    devices,
    wall,
    control,
    rules,
    alarms,
    money,
    data,
    system,
    setup,
    more,
    look,
    api,
    account,
)
"""A module with a blueprint for each page."""
YEAR_S = 31_536_000

ADVICE = {
    HTTPStatus.NOT_FOUND: N_("Nothing lives at this address."),
    HTTPStatus.METHOD_NOT_ALLOWED: N_("This page can only be read."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: N_("That is more than any form here has."),
    HTTPStatus.INTERNAL_SERVER_ERROR: N_(
        "The portal made a mistake. Its log says where; the rest of the house is not touched by it."
    ),
}
PHRASES = {
    HTTPStatus.BAD_REQUEST: N_("That could not be understood"),
    HTTPStatus.UNAUTHORIZED: N_("Log in first"),
    HTTPStatus.FORBIDDEN: N_("Not allowed"),
    HTTPStatus.NOT_FOUND: N_("Not found"),
    HTTPStatus.METHOD_NOT_ALLOWED: N_("Not possible"),
    HTTPStatus.CONFLICT: N_("Not now"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: N_("Too large"),
    HTTPStatus.UNPROCESSABLE_ENTITY: N_("That cannot be"),
    HTTPStatus.TOO_MANY_REQUESTS: N_("Too often"),
    HTTPStatus.INTERNAL_SERVER_ERROR: N_("A mistake of the portal"),
    HTTPStatus.SERVICE_UNAVAILABLE: N_("Not possible at the moment"),
}
"""What an error page says above all, and what it says where nobody said more."""

mimetypes.knownfiles.clear()  # our own few types are built in; the system's thousand cost memory
mimetypes.init()
mimetypes.add_type("application/manifest+json", ".webmanifest")
mimetypes.add_type("font/woff2", ".woff2")


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
    app.jinja_env.filters["sentence"] = words.sentence
    app.jinja_env.globals["url_for"] = url_for
    app.extensions["board"] = board
    app.extensions["accounts"] = accounts
    app.extensions["keys"] = Keys(accounts)
    app.extensions["services"] = ServiceBook(board.live.mesh, config.devices, board.live.now)
    app.extensions["controls"] = controls
    app.extensions["alarms"] = book
    app.extensions["rules"] = RuleBook(board.live, controls.orders)
    app.extensions["recordings"] = Recordings(board.live, accounts)
    app.extensions["health"] = HealthBook(board.live)
    app.extensions["feed"] = Feed(board.live, board.streams)
    app.extensions["database"] = Database(config.database.sqlalchemy_url(), board.history)
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        text.gettext, text.ngettext, newstyle=True
    )

    @app.before_request
    def speak() -> None:
        kept = request.cookies.get(look.COOKIE, "")
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
            "languages": text.LANGUAGES,
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
    def failed(err: HTTPException) -> tuple[str, int] | Response:
        code = err.code or 500
        status = HTTPStatus(code)
        own = err.description if isinstance(err.description, str) else ""
        plain = own == type(err).description or code >= HTTPStatus.INTERNAL_SERVER_ERROR
        said = text.gettext(ADVICE[status]) if plain and status in ADVICE else own
        if request.path.startswith(ROOT):
            return api.problem(code, said, getattr(err, "valid_methods", None))
        title = text.gettext(PHRASES[status]) if status in PHRASES else status.phrase
        return render_template("error.html", code=code, title=title, text=said), code

    return app
