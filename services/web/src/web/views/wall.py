"""Page *Wall*: the house on a tablet, large and without controls, dark when the sun is down."""

from datetime import datetime

from astral import Observer
from astral.sun import elevation
from flask import Blueprint, render_template, request

from ..board import slots
from ..flow import HEIGHT, RADIUS, WIDTH
from ..text import clock, day
from . import board, zone

blueprint = Blueprint("wall", __name__)

DUSK_DEG = -4.0
"""It is night when the sun is lower than that [deg]."""
NIGHT = (22, 6)
"""Without coordinates it is night from the first of these hours to the second."""
DIMS = ("night", "off", "always")
MOST_BANNERS = 2


def is_night(now: datetime, latitude: float | None, longitude: float | None) -> bool:
    """Whether a tablet on the wall should be dim.

    Args:
        now: the site's time.
        latitude: of the site; None = not known.
        longitude: likewise.
    """
    if latitude is None or longitude is None:
        return now.hour >= NIGHT[0] or now.hour < NIGHT[1]
    return elevation(Observer(latitude, longitude), now) < DUSK_DEG


@blueprint.get("/wall")
def page() -> str:
    """The page; ``?dim=`` is ``night``, ``off`` or ``always``; ``?part=main`` its inside."""
    view = board().view()
    now = board().live.now().astimezone(zone())
    place = board().site.site
    wanted = request.args.get("dim", DIMS[0])
    dim = wanted if wanted in DIMS else DIMS[0]
    is_dim = dim == "always" or (dim == "night" and is_night(now, place.latitude, place.longitude))
    template = "wall_main.html" if request.args.get("part") == "main" else "wall.html"
    return render_template(
        template,
        view=view,
        slots=slots(view),
        banners=[b for b in view.banners if b.level != "info"][:MOST_BANNERS],
        is_dim=is_dim,
        dim=dim,
        clock=clock(now),
        today=day(now.date(), "MMMMEEEEd"),
        time_zone=str(place.time_zone),
        width=WIDTH,
        height=HEIGHT,
        radius=RADIUS,
    )
