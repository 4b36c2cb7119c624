"""The flow picture: where each node stands, how wide and which way each line runs. Pure.

Coordinates are those of the picture's own 360 × 366 grid; the page scales it.
"""

import math
from dataclasses import dataclass
from typing import Literal

from . import words
from .house import House
from .text import _

Direction = Literal["in", "out", "idle", "unknown"]

WIDTH, HEIGHT = 360, 366
CENTRE = (180, 184)
TOP, BOTTOM, LEFT, RIGHT = 60, 308, 46, 314
RADIUS = 38
MOVING_W = 15.0
"""Less than this does not move."""


@dataclass(frozen=True, slots=True)
class Node:
    """A thing of the house. ``kind``: pv, battery, grid, load, inverter."""

    key: str
    kind: str
    title: str
    x: int
    y: int
    text: str
    note: str = ""
    device: str = ""
    quantity: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from a node to the inverter; ``in`` = towards the inverter."""

    key: str
    kind: str
    path: str
    width: float
    direction: Direction
    speed: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it, and how it reads without eyes."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    spoken: str


def width(watts: float | None) -> float:
    """Line width for a power: hair-thin at nothing, 12 from 5 kW on, as the square root."""
    if watts is None or abs(watts) < MOVING_W:
        return 1.5
    return round(min(12.0, 2.0 + 10.0 * math.sqrt(abs(watts) / 5000)), 1)


def direction(watts: float | None) -> Direction:
    """Towards the inverter for what feeds the house."""
    if watts is None:
        return "unknown"
    if abs(watts) < MOVING_W:
        return "idle"
    return "in" if watts > 0 else "out"


def speed(watts: float | None) -> str:
    """Three calm speeds, so that the eye tells a trickle from a stream."""
    size = abs(watts or 0.0)
    return "slow" if size < 400 else "medium" if size < 2000 else "quick"


def _edge(key: str, kind: str, start: tuple[int, int], watts: float | None) -> Edge:
    """A line that leaves its node upright or level and bends once into the inverter."""
    (x, y), (cx, cy) = start, CENTRE
    if x == cx or y == cy:
        path = f"M{x} {y}L{cx} {cy}"
    else:
        path = f"M{x} {y}C{x} {y + 90} {cx} {cy - 96} {cx} {cy}"
    return Edge(key, kind, path, width(watts), direction(watts), speed(watts))


def picture(house: House) -> Picture:
    """The picture of ``house``; a node only for what exists."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    spoken: list[str] = []
    count = len(house.strings)
    owners = [source.device for source in house.strings]
    shown = house.strings[:4]
    if house.has_pv:
        step = {1: 0, 2: 130, 3: 112, 4: 88}[len(shown)]
        first = CENTRE[0] - step * (len(shown) - 1) // 2
        for index, source in enumerate(shown):
            key = f"pv{index + 1}"
            x = first + index * step
            text = _("Sun") if count == 1 else _("String %(num)s", num=index + 1)
            if len(set(owners)) > 1:
                text = words.title(source.device)
                if owners.count(source.device) > 1:
                    text += f" {owners[:index].count(source.device) + 1}"
            nodes.append(
                Node(
                    key,
                    "pv",
                    text,
                    x,
                    TOP,
                    words.power(source.watts),
                    device=source.device,
                    quantity=source.name,
                    state=direction(source.watts),
                )
            )
            edges.append(_edge(key, "pv", (x, TOP), source.watts))
            spoken.append(f"{text}: {words.power(source.watts)}")
    if house.has_grid:
        gone = house.grid_present is False
        note = (
            _("no grid")
            if gone
            else _("giving")
            if (house.grid_w or 0.0) < -MOVING_W
            else _("taking")
            if (house.grid_w or 0.0) > MOVING_W
            else _("not used")
            if house.grid_present
            else ""
        )
        amount = None if house.grid_w is None else abs(house.grid_w)
        text = words.power(amount)
        if house.grid_estimated and amount is not None and amount >= MOVING_W:
            text = f"≈{words.HARD}{text}"
        nodes.append(
            Node(
                "grid",
                "grid",
                _("Grid"),
                LEFT,
                CENTRE[1],
                words.NONE if gone else text,
                note,
                state="gone" if gone else direction(house.grid_w),
            )
        )
        edges.append(_edge("grid", "grid", (LEFT, CENTRE[1]), house.grid_w))
        spoken.append(f"{_('Grid')}: {note or text}")
    if house.has_load:
        nodes.append(
            Node(
                "load",
                "load",
                _("House"),
                RIGHT,
                CENTRE[1],
                words.power(house.load_w),
                state=direction(house.load_w),
            )
        )
        outward = None if house.load_w is None else -house.load_w
        edges.append(_edge("load", "load", (RIGHT, CENTRE[1]), outward))
        spoken.append(f"{_('House')}: {words.power(house.load_w)}")
    if house.has_battery:
        battery = house.battery_w
        note = (
            _("charging")
            if (battery or 0.0) < -MOVING_W
            else _("discharging")
            if (battery or 0.0) > MOVING_W
            else ""
            if battery is None
            else _("resting")
        )
        amount = None if battery is None else abs(battery)
        nodes.append(
            Node(
                "battery",
                "battery",
                _("Battery"),
                CENTRE[0],
                BOTTOM,
                words.power(amount),
                note,
                state=direction(battery),
            )
        )
        edges.append(_edge("battery", "battery", (CENTRE[0], BOTTOM), battery))
        spoken.append(", ".join(filter(None, (f"{_('Battery')}: {words.power(amount)}", note))))
    if house.has_load or house.has_battery:
        known = house.loss_w is not None
        text = words.power(max(0.0, house.loss_w or 0.0)) if known else ""
        note = _("own use") if known else ""
        title = _("Inverter")
        if house.residual_w is not None:
            title = _("Meters disagree by %(watts)s", watts=words.power(house.residual_w))
        nodes.append(
            Node(
                "inverter",
                "inverter",
                title,
                *CENTRE,
                text,
                note,
                state="amber" if house.disagrees else "",
            )
        )
        if text:
            spoken.append(f"{_('Inverter')}: {text}, {note}")
        if house.disagrees:
            spoken.append(title)
    return Picture(tuple(nodes), tuple(edges), "; ".join(spoken))
