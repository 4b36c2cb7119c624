"""One blueprint for each page."""

from datetime import tzinfo

from flask import current_app

from ..board import Board


def board() -> Board:
    """The application's board."""
    found: Board = current_app.extensions["board"]
    return found


def zone() -> tzinfo:
    """The site's time zone."""
    return board().zone
