"""Small pictures without a script: axes with round ticks, lines, dots, bars. Pure geometry.

A picture is a stretched SVG of :data:`WIDTH` by :data:`HEIGHT` with strokes that do not stretch;
its labels stand beside it as text, evenly spaced because ticks are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

WIDTH = 1000.0
HEIGHT = 300.0

Mark = Literal["dot", "square", "bar"]
"""Shapes of points; each series has its own, so that no colour must be told apart."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high`` with a tick at both ends and evenly between."""

    low: float
    high: float
    step: float

    @property
    def ticks(self) -> list[float]:
        """Where the ticks are, from low to high."""
        count = round((self.high - self.low) / self.step)
        return [self.low + index * self.step for index in range(count + 1)]

    @property
    def digits(self) -> int:
        """Decimals that tell the ticks apart."""
        return max(0, -math.floor(math.log10(self.step) + 1e-9))

    def share(self, value: float) -> float:
        """Where ``value`` lies, 0 to 1; what is outside lies at the end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def axis(
    values: Iterable[float], *, zero: bool = False, least: float = 0.0, ticks: int = 4
) -> Axis:
    """A round axis that holds ``values``.

    Args:
        values: what it must hold.
        zero: whether it begins at 0 (or ends there, where all is below).
        least: it is at least that long, so that noise does not fill the picture.
        ticks: about so many steps.
    """
    known = list(values)
    low, high = min(known, default=0.0), max(known, default=1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < least:
        middle = (low + high) / 2
        low, high = (low, low + least) if zero else (middle - least / 2, middle + least / 2)
    if high - low <= 0:
        high = low + 1.0
    step = _round_step((high - low) / ticks)
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step)


def _round_step(rough: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(
        factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * 0.999
    )


@dataclass(frozen=True, slots=True)
class Point:
    """One value: ``x`` 0 to 1, ``y`` in the axis' unit, ``text`` for who points at it."""

    x: float
    y: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    """A point as drawn."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A series as drawn.

    Attributes:
        key: of its style.
        label: its name.
        mark: shape of its points.
        path: through its points; empty where they are not joined.
        dots: each of them.
    """

    key: str
    label: str
    mark: Mark
    path: str
    dots: Sequence[Dot]


def place(point: Point, y: Axis) -> tuple[float, float]:
    """Where a point is in the picture."""
    return point.x * WIDTH, (1 - y.share(point.y)) * HEIGHT


def line(
    key: str,
    label: str,
    points: Sequence[Point],
    y: Axis,
    *,
    mark: Mark = "dot",
    joined: float | None = None,
) -> Line:
    """A series of points.

    Args:
        key: of its style.
        label: its name.
        points: in order.
        y: the axis.
        mark: their shape.
        joined: neighbours no further apart than that (share of the width) are joined; None = none.
    """
    places = [place(point, y) for point in points]
    path = ""
    if joined is not None:
        parts = []
        before: float | None = None
        for point, (left, top) in zip(points, places, strict=True):
            near = before is not None and point.x - before <= joined + 1e-9
            parts.append(f"{'L' if near else 'M'}{left:.1f} {top:.1f}")
            before = point.x
        path = "".join(parts)
    dots = [
        Dot(
            f"M{left:.1f} {top - 9:.1f}V{top + 9:.1f}"
            if mark == "bar"
            else f"M{left:.1f} {top:.1f}h0.01",
            point.text,
        )
        for point, (left, top) in zip(points, places, strict=True)
    ]
    return Line(key, label, mark, path, dots)


def spark(values: Sequence[tuple[float, float]], near: float, least: float = 0.0) -> str:
    """A path of (x 0 to 1, value) in a picture of 100 by 24; empty with fewer than two points.

    Args:
        values: in order.
        near: points further apart than that are not joined.
        least: the picture is at least that high, in the value's unit.
    """
    if len(values) < 2:
        return ""
    low, high = min(value for _, value in values), max(value for _, value in values)
    if high - low < least:
        middle = (high + low) / 2
        low, high = middle - least / 2, middle + least / 2
    span = high - low
    parts = []
    before: float | None = None
    for x, value in values:
        top = 12.0 if span <= 0 else 22 - (value - low) / span * 20
        is_near = before is not None and x - before <= near
        parts.append(f"{'L' if is_near else 'M'}{x * 100:.1f} {top:.1f}")
        before = x
    return "".join(parts)
