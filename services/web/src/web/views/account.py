"""Accounts: the first visit, log in and out, unlock, one's own password, everybody's roles."""

from collections.abc import Callable
from http import HTTPStatus

from flask import Blueprint, abort, redirect, render_template, request, url_for
from sunmesh.errors import RefusedError
from werkzeug.wrappers import Response

from .. import words
from ..access import ROLES, is_house_name
from ..accounts import AccountsError
from ..guard import SESSION, accounts, begin, end, me, safe_target, visitor, where
from ..passwords import PasswordError, ThrottledError
from . import zone

blueprint = Blueprint("account", __name__)

ROLE_TEXTS = {
    "viewer": "looks",
    "operator": "looks and controls",
    "admin": "looks, controls, and gives accounts",
}


def _field(name: str, most: int = 300) -> str:
    return request.form.get(name, "")[:most]


def _target() -> str:
    text = request.values.get("next", "")
    return safe_target(text[:500], url_for("control.page"))


def _is_settled() -> bool:
    try:
        return accounts().is_settled()
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, f"{str(err)[:1].upper()}{str(err)[1:]}.")


def _tried(deed: Callable[[], object]) -> tuple[str, int]:
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


# -- the first visit -------------------------------------------------------------------------------


def may_settle() -> str:
    """Why the first account cannot be made from here; empty = it can."""
    if not where().local:
        return f"The first account is made from the local network only: {where().why}."
    if not is_house_name(request.host):
        return (
            f"The first account is made under the portal's own address, not as {request.host}: "
            "open it by its IP address."
        )
    return ""


@blueprint.get("/setup")
def setup_page() -> Response | str:
    """The form that makes the first account; leads on once there is one."""
    if _is_settled():
        return redirect(url_for("account.login_page"), HTTPStatus.SEE_OTHER)
    return render_template("setup.html", why=may_settle(), error="", name="", target=_target())


@blueprint.post("/setup")
def setup() -> Response | tuple[str, int]:
    """Make the first account, an admin's, and log it in."""
    if why := may_settle():
        abort(HTTPStatus.FORBIDDEN, why)
    tokens: list[str] = []
    name = _field("name")

    def deed() -> None:
        tokens.append(accounts().settle(name, _field("password"), where().address))

    error, status = _tried(deed)
    if error:
        page = render_template("setup.html", why="", error=error, name=name, target=_target())
        return page, status
    return begin(redirect(_target(), HTTPStatus.SEE_OTHER), tokens[0])


# -- in and out ------------------------------------------------------------------------------------


@blueprint.get("/login")
def login_page() -> Response | str:
    """The form; the first visit is led to set up."""
    if visitor() is not None:
        return redirect(_target(), HTTPStatus.SEE_OTHER)
    if not _is_settled():
        return redirect(url_for("account.setup_page"), HTTPStatus.SEE_OTHER)
    return render_template("login.html", error="", name="", target=_target())


@blueprint.post("/login")
def login() -> Response | tuple[str, int]:
    """Begin a session; the cookie is a new one each time."""
    tokens: list[str] = []
    name = _field("name")
    old = request.cookies.get(SESSION, "")[:200]

    def deed() -> None:
        token = accounts().log_in(name, _field("password"), where().address, old)
        tokens.append(token)

    error, status = _tried(deed)
    if error:
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            status = HTTPStatus.UNAUTHORIZED
        page = render_template("login.html", error=error, name=name, target=_target())
        return page, status
    return begin(redirect(_target(), HTTPStatus.SEE_OTHER), tokens[0])


def _leave(everywhere: bool) -> Response:
    try:
        accounts().log_out(me(), where().address, everywhere=everywhere)
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, f"The session could not be ended: {err}.")
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
    error, status = _tried(lambda: accounts().unlock(me(), _field("password"), where().address))
    if error:
        page = render_template("unlock.html", error=error, target=_target())
        return page, HTTPStatus.FORBIDDEN if status == HTTPStatus.UNPROCESSABLE_ENTITY else status
    return redirect(_target(), HTTPStatus.SEE_OTHER)


@blueprint.post("/lock")
def lock() -> Response:
    """Lock controls again."""
    try:
        accounts().lock(me())
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, f"They could not be locked: {err}.")
    return redirect(_target(), HTTPStatus.SEE_OTHER)


# -- one's own page --------------------------------------------------------------------------------


def _page(error: str = "", done: str = "") -> str:
    who, place = me(), zone()
    now = accounts().now_ms
    people, deeds, trouble = [], [], ""
    try:
        if who.may("admin"):
            people = accounts().people()
            deeds = list(accounts().deeds())
    except AccountsError as err:
        trouble = str(err)

    def at(ms: int | None) -> str:
        if ms is None:
            return "never"
        return words.clock(words.local(ms, place), words.local(now, place))

    return render_template(
        "account.html",
        people=people,
        deeds=deeds,
        at=at,
        roles=ROLES,
        role_texts=ROLE_TEXTS,
        since=at(who.created),
        is_safe=where().secure or where().local,
        error=error or trouble,
        done=done,
    )


@blueprint.get("/account")
def page() -> str:
    """Who one is; for admins everybody, and what was done."""
    return _page(done=request.args.get("done", "")[:80])


@blueprint.post("/account/password")
def password() -> Response | tuple[str, int]:
    """Another password; every other session of this account ends."""
    who, address = me(), where().address
    tokens: list[str] = []

    def deed() -> None:
        now, new = _field("now"), _field("password")
        accounts().change_password(who, now, new, address)
        tokens.append(accounts().log_in(who.name, new, address))

    error, status = _tried(deed)
    if error:
        return _page(error=error), status
    target = url_for("account.page", done="The password is changed; other sessions have ended.")
    return begin(redirect(target, HTTPStatus.SEE_OTHER), tokens[0])


@blueprint.post("/account/people")
def add() -> Response | tuple[str, int]:
    """An account for somebody else."""
    error, status = _tried(
        lambda: accounts().add(
            _field("name"), _field("password"), _field("role"), me().name, where().address
        )
    )
    if error:
        return _page(error=error), status
    return redirect(url_for("account.page", done="The account is made."), HTTPStatus.SEE_OTHER)


@blueprint.post("/account/people/<int:number>")
def change(number: int) -> Response | tuple[str, int]:
    """Another role or password for somebody, or the end of an account."""
    by, address = me().name, where().address
    deeds: dict[str, Callable[[], object]] = {
        "role": lambda: accounts().set_role(number, _field("role"), by, address),
        "password": lambda: accounts().set_password(number, _field("password"), by, address),
        "remove": lambda: accounts().remove(number, by, address),
    }
    deed = deeds.get(_field("deed"))
    if deed is None:
        abort(HTTPStatus.BAD_REQUEST, f"deed must be one of {', '.join(deeds)}.")
    error, status = _tried(deed)
    if error:
        return _page(error=error), status
    return redirect(url_for("account.page", done="Done."), HTTPStatus.SEE_OTHER)
