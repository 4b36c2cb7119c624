"""How pages look to whoever looks: the language. Colours are chosen by the page itself."""

from http import HTTPStatus

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response

from ..people.guard import safe_target, where
from ..text import LANGUAGES, _

blueprint = Blueprint("look", __name__)

COOKIE = "sunmesh_language"
YEAR_S = 31_536_000


@blueprint.post("/language")
def language() -> Response:
    """Speak another language to this browser; ``auto`` is the one that the browser asks for."""
    wanted = request.form.get("language", "")[:10]
    if wanted not in LANGUAGES and wanted != "auto":
        abort(HTTPStatus.BAD_REQUEST, _("The portal does not speak that language."))
    target = safe_target(request.form.get("next", "")[:500], url_for("more.page"))
    response = redirect(target, HTTPStatus.SEE_OTHER)
    if wanted == "auto":
        response.delete_cookie(COOKIE)
    else:
        response.set_cookie(
            COOKIE, wanted, max_age=YEAR_S, httponly=True, samesite="Lax", secure=where().secure
        )
    return response
