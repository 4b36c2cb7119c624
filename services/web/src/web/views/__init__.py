"""One blueprint for each page."""

from datetime import tzinfo

from flask import current_app

from ..board import Board
from ..database import Database


def board() -> Board:
    """The application's board."""
    found: Board = current_app.extensions["board"]
    return found


def zone() -> tzinfo:
    """The site's time zone."""
    return board().zone


def database() -> Database:
    """Connections to the database."""
    found: Database = current_app.extensions["database"]
    return found
