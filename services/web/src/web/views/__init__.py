"""One blueprint for each page."""

import csv
import io
from collections.abc import Iterable
from datetime import date, tzinfo

from flask import Response, current_app
from sunmesh import clock

from ..board import Board
from ..database import Database


def board() -> Board:
    """The application's board."""
    found: Board = current_app.extensions["board"]
    return found


def zone() -> tzinfo:
    """The site's time zone."""
    return board().zone


def today() -> date:
    """The site's date."""
    return board().live.now().astimezone(zone()).date()


def now_ms() -> int:
    """The site's time [ms]."""
    return clock.epoch_ms(board().live.now())


def database() -> Database:
    """Connections to the database."""
    found: Database = current_app.extensions["database"]
    return found


def csv_file(rows: Iterable[Iterable[object]], name: str) -> Response:
    """``rows`` as a file for a spreadsheet; ``name`` is the file's, without its end."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(out.getvalue(), mimetype="text/csv", headers=headers)
