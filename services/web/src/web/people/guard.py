"""Before each request: who asks, from where, and whether that is enough. Cookies and CSRF."""

import secrets
from collections.abc import Mapping
from hmac import compare_digest
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, redirect, request, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as BaseResponse

from ..config import WebConfig
from ..text import N_, _
from .access import TABLE, Origin, Rule, origin
from .accounts import LONGEST_MS, Accounts, AccountsError, Visitor, csrf_of
from .keys import Key, check

SESSION = "sunmesh_session"
FORM = "sunmesh_form"
"""For forms of somebody who is not logged in: log in, set up."""
FIELD, HEADER = "csrf", "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FOREIGN = N_("The form is out of date, or came from another page. Load this page again and repeat.")


def accounts() -> Accounts:
    """The application's accounts."""
    found: Accounts = current_app.extensions["accounts"]
    return found


def where() -> Origin:
    """Where this request comes from."""
    found: Origin = g.origin
    return found


def visitor() -> Visitor | None:
    """Who is logged in."""
    found: Visitor | None = g.get("visitor")
    return found


def may(role: str) -> bool:
    """Whether somebody is logged in, and has that role or more."""
    who = visitor()
    return who is not None and who.may(role)


def me() -> Visitor:
    """Who is logged in, behind a rule that lets nobody else pass."""
    found = visitor()
    if found is None:
        abort(HTTPStatus.UNAUTHORIZED)
    return found


def bearer() -> str:
    """The key that a program sends with its request; empty = none."""
    scheme, _blank, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def doer() -> str:
    """Who asks, as the audit names it: a person, or a program by its key."""
    key: Key | None = g.get("key")
    return me().name if key is None else key.who


def unlocked_s() -> float:
    """How long controls stay unlocked for this visitor [s]."""
    found = visitor()
    return 0.0 if found is None else found.unlocked_s(accounts().now_ms)


def guard(app: Flask, config: WebConfig, table: Mapping[str, Rule] = TABLE) -> None:
    """Ask every request for what its endpoint's rule says.

    Raises:
        RuntimeError: an endpoint has no rule, or a rule no endpoint.
    """
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    if endpoints != set(table):
        raise RuntimeError(f"no rule, or no endpoint: {sorted(endpoints ^ set(table))}")
    local, trusted = config.local, config.trusted

    @app.before_request
    def ask() -> BaseResponse | None:
        g.origin = origin(request.environ, local, trusted)
        g.visitor, g.no_accounts, g.key = None, "", None
        if request.endpoint in (None, "static"):
            return None
        if request.blueprint == "api" and bearer():
            _by_key(table[request.endpoint or ""])
            return None
        token = request.cookies.get(SESSION, "")
        if token:
            try:
                g.visitor = accounts().visitor(token)
            except AccountsError as err:
                g.no_accounts = str(err)
        g.token = token if g.visitor else ""
        rule = table[request.endpoint or ""]
        refused = _refused(rule, config)
        if refused is not None:
            return refused
        if request.method not in SAFE:
            _check_form()
        return None

    @app.after_request
    def keep(response: Response) -> Response:
        if made := g.get("new_form"):
            _set(response, FORM, made, 3600)
        return response

    @app.context_processor
    def common() -> dict[str, Any]:
        return {
            "csrf_field": csrf_field,
            "visitor": visitor(),
            "origin": g.get("origin"),
            "unlocked_ms": round(unlocked_s() * 1000),
        }


def _refused(rule: Rule, config: WebConfig) -> BaseResponse | None:
    """Ends the request where it may not go on; None = it may."""
    who = visitor()
    if rule.role is not None and who is None:
        if rule.guests and config.viewing == "open" and where().local:
            return None
        if g.no_accounts:
            abort(
                HTTPStatus.SERVICE_UNAVAILABLE,
                _("Nobody can be known: %(why)s.", why=g.no_accounts),
            )
        is_page = request.method in SAFE and "text/html" in request.headers.get("Accept", "")
        if is_page and not request.args.get("part") and not request.path.startswith("/api/"):
            target = request.full_path.rstrip("?")
            return redirect(url_for("account.login_page", next=target), HTTPStatus.SEE_OTHER)
        abort(HTTPStatus.UNAUTHORIZED, _("Log in first."))
    if who is None or rule.role is None:
        return None
    if not who.may(rule.role):
        abort(
            HTTPStatus.FORBIDDEN,
            _(
                "This takes the role %(role)s; %(name)s is %(own)s.",
                role=_(rule.role),
                name=who.name,
                own=_(who.role),
            ),
        )
    if rule.local and not where().local:
        abort(
            HTTPStatus.FORBIDDEN,
            _("Commands are taken from the local network only: %(why)s.", why=where().why),
        )
    if rule.unlocked and not unlocked_s():
        abort(
            HTTPStatus.FORBIDDEN,
            _(
                "Controls are locked. Unlock them on the page Control, then repeat; "
                "nothing was changed."
            ),
        )
    return None


def _by_key(rule: Rule) -> None:
    """Ends the request of a program whose key does not allow it.

    A key that commands needs no unlocking and no mark of a form: nobody sends it unawares.
    """
    try:
        key = check(bearer(), where().address)
    except AccountsError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, _("Nobody can be known: %(why)s.", why=str(err)))
    if key is None:
        abort(HTTPStatus.UNAUTHORIZED, _("This key is not in force."))
    g.key = key
    if rule.role == "admin" or (rule.role == "operator" and not key.may_write):
        abort(HTTPStatus.FORBIDDEN, _("The key %(name)s may not do that.", name=key.name))
    if rule.local and not where().local:
        abort(
            HTTPStatus.FORBIDDEN,
            _("Commands are taken from the local network only: %(why)s.", why=where().why),
        )


# -- forms and cookies -----------------------------------------------------------------------------


def _key() -> str:
    """What this visitor's forms are marked with: the session, else a cookie for forms alone."""
    if g.get("token"):
        return str(g.token)
    kept = request.cookies.get(FORM, "") or g.get("new_form", "")
    if not 20 <= len(kept) <= 100:
        kept = g.new_form = secrets.token_urlsafe(24)
    return str(kept)


def mark() -> str:
    """What shows that a change was asked for by a page of this session."""
    return csrf_of(_key())


def csrf_field() -> Markup:
    """The hidden field that every form carries."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, escape(mark()))


def _check_form() -> None:
    """Refuse a change that no page of this session asked for."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        abort(HTTPStatus.FORBIDDEN, _(FOREIGN))
    key = g.token or request.cookies.get(FORM, "")
    said = request.headers.get(HEADER) or request.form.get(FIELD, "")
    if not key or not compare_digest(said.encode(), csrf_of(key).encode()):
        abort(HTTPStatus.FORBIDDEN, _(FOREIGN))


def _set(response: BaseResponse, name: str, value: str, seconds: int) -> None:
    response.set_cookie(
        name, value, max_age=seconds, httponly=True, samesite="Lax", secure=where().secure
    )


def begin(response: BaseResponse, token: str) -> BaseResponse:
    """``response`` with the cookie of a new session."""
    _set(response, SESSION, token, LONGEST_MS // 1000)
    response.delete_cookie(FORM)
    return response


def end(response: BaseResponse) -> BaseResponse:
    """``response`` without the cookie."""
    response.delete_cookie(SESSION)
    return response


def safe_target(text: str, default: str) -> str:
    """Where to go after a log-in: a path of this portal and nothing else."""
    parts = urlsplit(text)
    is_ours = (
        text.startswith("/")
        and not text.startswith(("//", "/\\"))
        and not parts.scheme
        and not parts.netloc
        and text.isprintable()
        and "\\" not in text
    )
    return text if is_ours else default
