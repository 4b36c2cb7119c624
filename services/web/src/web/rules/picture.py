"""The picture of a replay: charge, voltage, and what the rules would have done. Pure.

The portal draws it, as SVG of a fixed grid that the page stretches, so that it is there
without scripts; a script adds the line under the finger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from sunmesh import clock
from sunmesh.database.history import Curve

from .. import text
from .book import Report

WIDTH = 1000.0
"""Units across; the height of each part is one of its own."""
TALL = 100.0
MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: pieces between gaps, and the ends of its scale."""

    pieces: Sequence[str]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that would have been done: its place, its place in the list."""

    x: float
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """What one form of the rules would have done."""

    open: Sequence[tuple[float, float]]
    active: Sequence[tuple[float, float]]
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Tick:
    """One mark of the axis of time, in per cent of its width."""

    x: float
    text: str


def line(curve: Curve, start: int, end: int, low: float, high: float) -> Line:
    """A curve in a box that goes from ``low`` to ``high``, or further where it does."""
    points = curve.points
    low = min([low, *(point.mean for point in points)])
    high = max([high, *(point.mean for point in points)])
    pieces: list[list[str]] = []
    for point in points:
        x = WIDTH * (point.ts + curve.step_ms / 2 - start) / (end - start)
        y = TALL * (1 - (point.mean - low) / (high - low or 1))
        if not point.joined or not pieces:
            pieces.append([])
        pieces[-1].append(f"{max(0.0, min(WIDTH, x)):.1f},{y:.1f}")
    return Line(tuple(" ".join(piece) for piece in pieces), low, high)


def lane(report: Report, start: int, end: int, said: Sequence[str]) -> Lane:
    """The lane of one report; ``said`` are its switches in words."""

    def place(ms: int) -> float:
        return round(max(0.0, min(WIDTH, WIDTH * (ms - start) / (end - start))), 1)

    def spans(of: Sequence[Sequence[int]]) -> list[tuple[float, float]]:
        found = []
        for begin, finish in of:
            left, right = place(begin), place(finish)
            if right > left:
                found.append((left, round(right - left, 1)))
        return found

    active = sorted(span for mine in report.active.values() for span in mine)
    marks = [
        Mark(place(switch.ts), number, words)
        for number, (switch, words) in enumerate(zip(report.switches, said, strict=True))
    ]
    return Lane(spans(report.open), spans(active), marks)


def ticks(start: int, end: int, zone: tzinfo) -> list[Tick]:
    """Local midnights, as many as there is room for."""
    first = clock.from_ms(start).astimezone(zone)
    days = max(1, round((end - start) / 86_400_000))
    every = -(-days // MOST_TICKS)
    found = []
    date = first.date() + timedelta(days=1)
    while True:
        moment = datetime(date.year, date.month, date.day, tzinfo=zone)
        ms = clock.epoch_ms(moment)
        if ms >= end:
            break
        found.append(Tick(round(100 * (ms - start) / (end - start), 2), text.day(date, "MMMd")))
        date += timedelta(days=every)
    return found
