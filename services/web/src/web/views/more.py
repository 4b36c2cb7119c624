"""Page *More*: every page with what it is for; a phone's bar has no room for all."""

from flask import Blueprint, render_template

blueprint = Blueprint("more", __name__)


@blueprint.get("/more")
def page() -> str:
    """The list."""
    return render_template("more.html")
