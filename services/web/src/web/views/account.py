"""Accounts: log in and out, unlock, one's own password. Everybody's are on the page *System*."""

from collections.abc import Callable
from http import HTTPStatus

from flask import Blueprint, abort, redirect, render_template, request, url_for
from sunmesh.errors import RefusedError
from werkzeug.wrappers import Response

from .. import words
from ..people.access import ROLE_NAMES, is_house_name
from ..people.accounts import AccountsError
from ..people.guard import SESSION, accounts, begin, end, me, safe_target, visitor, where
from ..people.passwords import PasswordError, ThrottledError
from ..text import N_, _
from . import zone

blueprint = Blueprint("account", __name__)

ROLE_TEXTS = {
    "viewer": N_("looks"),
    "operator": N_("looks and controls"),
    "admin": N_("looks, controls, sets up and gives accounts"),
}


def field(name: str, most: int = 300) -> str:
    """What a form says there."""
    return request.form.get(name, "")[:most]


def target(default: str = "control.page") -> str:
    """Where to go after the form: the page that it was asked for on."""
    text = request.values.get("next", "")
    return safe_target(text[:500], url_for(default))


def is_settled() -> bool:
    """Whether somebody has an account; ends the request where nobody can know."""
    try:
        return accounts().is_settled()
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, words.sentence(str(err)))


def may_settle() -> str:
    """Why the first account cannot be made from here; empty = it can."""
    if not where().local:
        return _("The first account is made from the local network only: %(why)s.", why=where().why)
    if not is_house_name(request.host):
        return _(
            "The first account is made under the portal's own address, not as %(host)s: "
            "open it by its IP address.",
            host=request.host,
        )
    return ""


def tried(deed: Callable[[], object]) -> tuple[str, int]:
    """Why something was not done, and its status; an empty text = it was done."""
    try:
        deed()
    except ThrottledError as err:
        return str(err), HTTPStatus.TOO_MANY_REQUESTS
    except (RefusedError, PasswordError) as err:
        return str(err), HTTPStatus.UNPROCESSABLE_ENTITY
    except AccountsError as err:
        return str(err), HTTPStatus.SERVICE_UNAVAILABLE
    return "", HTTPStatus.OK


def at(ms: int | None) -> str:
    """When that was, as people say it here and now."""
    if ms is None:
        return _("never")
    return words.clock(words.local(ms, zone()), words.local(accounts().now_ms, zone()))


# -- in and out ------------------------------------------------------------------------------------


@blueprint.get("/login")
def login_page() -> Response | str:
    """The form; the first visit is led to set up."""
    if visitor() is not None:
        return redirect(target(), HTTPStatus.SEE_OTHER)
    if not is_settled():
        return redirect(url_for("setup.page"), HTTPStatus.SEE_OTHER)
    return render_template("login.html", error="", name="", target=target())


@blueprint.post("/login")
def login() -> Response | tuple[str, int]:
    """Begin a session; the cookie is a new one each time."""
    tokens: list[str] = []
    name = field("name")
    old = request.cookies.get(SESSION, "")[:200]

    def deed() -> None:
        token = accounts().log_in(name, field("password"), where().address, old)
        tokens.append(token)

    error, status = tried(deed)
    if error:
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            status = HTTPStatus.UNAUTHORIZED
        page = render_template("login.html", error=error, name=name, target=target())
        return page, status
    return begin(redirect(target(), HTTPStatus.SEE_OTHER), tokens[0])


def _leave(everywhere: bool) -> Response:
    try:
        accounts().log_out(me(), where().address, everywhere=everywhere)
    except AccountsError as err:
        abort(
            HTTPStatus.SERVICE_UNAVAILABLE,
            _("The session could not be ended: %(why)s.", why=str(err)),
        )
    return end(redirect(url_for("now.page"), HTTPStatus.SEE_OTHER))


@blueprint.post("/logout")
def logout() -> Response:
    """End this session."""
    return _leave(False)


@blueprint.post("/logout-everywhere")
def logout_everywhere() -> Response:
    """End all sessions of this account."""
    return _leave(True)


# -- controls --------------------------------------------------------------------------------------


@blueprint.post("/unlock")
def unlock() -> Response | tuple[str, int]:
    """Unlock controls for ten minutes."""
    error, status = tried(lambda: accounts().unlock(me(), field("password"), where().address))
    if error:
        page = render_template("unlock.html", error=error, target=target())
        return page, HTTPStatus.FORBIDDEN if status == HTTPStatus.UNPROCESSABLE_ENTITY else status
    return redirect(target(), HTTPStatus.SEE_OTHER)


@blueprint.post("/lock")
def lock() -> Response:
    """Lock controls again."""
    try:
        accounts().lock(me())
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, _("They could not be locked: %(why)s.", why=str(err)))
    return redirect(target(), HTTPStatus.SEE_OTHER)


# -- one's own page --------------------------------------------------------------------------------


def _page(error: str = "", done: str = "") -> str:
    who = me()
    return render_template(
        "account.html",
        role=_(ROLE_NAMES[who.role]) if who.role in ROLE_NAMES else who.role,
        role_text=_(ROLE_TEXTS[who.role]) if who.role in ROLE_TEXTS else "",
        since=at(who.created),
        error=error,
        done=done,
    )


@blueprint.get("/account")
def page() -> str:
    """Who one is, one's password and sessions."""
    done = _("The password is changed; other sessions have ended.")
    return _page(done=done if "changed" in request.args else "")


@blueprint.post("/account/password")
def password() -> Response | tuple[str, int]:
    """Another password; every other session of this account ends."""
    who, address = me(), where().address
    tokens: list[str] = []

    def deed() -> None:
        now, new = field("now"), field("password")
        accounts().change_password(who, now, new, address)
        tokens.append(accounts().log_in(who.name, new, address))

    error, status = tried(deed)
    if error:
        return _page(error=error), status
    return begin(redirect(url_for("account.page", changed=1), HTTPStatus.SEE_OTHER), tokens[0])
