"""A day beside another: the other's curves at this one's local times, and its energies. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from .. import words
from ..energy import Books
from ..queries import Day
from ..stack import Point
from ..text import percent

QUARTER_MS = 900_000
"""Clocks change at quarters of an hour."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What the chart draws of both days, at the same times.

    Attributes:
        points: of this day; empty ones where only the other is known.
        load, sun: of the other [W]; the sun's is below zero, as it is drawn.
    """

    points: Sequence[Point]
    load: Sequence[int | None]
    sun: Sequence[int | None]


def same_time(ms: int, other: date, zone: tzinfo) -> int | None:
    """When the clocks of ``other`` show what they show at ``ms``; None where they skip it.

    What they show twice is the first of them, unless it is the second here, too.
    """
    here = datetime.fromtimestamp(ms / 1000, zone)
    there = datetime.combine(other, here.timetz().replace(tzinfo=zone))
    seconds = there.timestamp()
    shown = datetime.fromtimestamp(seconds, zone)
    if shown.replace(tzinfo=None, fold=0) != there.replace(tzinfo=None, fold=0):
        return None
    return round(seconds * 1000)


def beside(day: Day, other: Day, zone: tzinfo) -> Beside:
    """The other day's house and sun at the local times of this day, in its stretches.

    Finer stretches are averaged; coarser ones hold for all of theirs.
    """
    width, theirs = day.width_ms, other.width_ms
    step = max(width, theirs)
    rows: dict[int, list[Point]] = {}
    for point in other.points:
        if point.load is not None or point.pv is not None:
            rows.setdefault(point.ms // step, []).append(point)
    means = {
        at: (_mean([point.load for point in mine]), _mean([point.pv for point in mine]))
        for at, mine in rows.items()
    }
    points = {point.ms: point for point in day.points}
    found: dict[int, tuple[float | None, float | None]] = {}
    shift: int | None = None
    quarter = -1
    for ms in range(day.start - day.start % width, day.end, width):
        if ms // QUARTER_MS != quarter:
            quarter = ms // QUARTER_MS
            moment = same_time(max(ms, day.start), other.date, zone)
            shift = None if moment is None else moment - max(ms, day.start)
        if shift is not None and (there := means.get((ms + shift) // step)) is not None:
            found[ms] = there
            points.setdefault(ms, Point(ms))
    order = sorted(points)
    none = (None, None)
    return Beside(
        [points[ms] for ms in order],
        [_whole(found.get(ms, none)[0]) for ms in order],
        [_whole(found.get(ms, none)[1], -1) for ms in order],
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _whole(value: float | None, sign: int = 1) -> int | None:
    return None if value is None else sign * round(max(value, 0.0))


def differences(books: Books, other: Mapping[str, float | None]) -> dict[str, tuple[str, str]]:
    """By flow: how much more this day has, and what the other had, in words."""
    found = {}
    for flow, was in other.items():
        now = getattr(books, flow)
        if was is not None:
            more = words.NONE if now is None else signed(words.energy(now - was), now - was)
            found[flow] = (more, words.energy(was))
    of = other.get
    then = Books(of("pv"), of("load"), grid_in=of("grid_in"), grid_out=of("grid_out"))
    for share in ("autarky", "own_share"):
        was, now = getattr(then, share), getattr(books, share)
        if was is not None and now is not None:
            found[share] = (signed(percent(now - was), now - was), percent(was))
    return found


def signed(written: str, value: float) -> str:
    """A difference as it is written, with a plus where it is one."""
    return (
        f"+{written}" if value > 0 and any(digit in written for digit in "123456789") else written
    )


def moved(other: date, day: date, to: date) -> date:
    """What ``to`` is compared with, when ``day`` is with ``other``: as far away, or a year."""
    if year_before(day) == other:
        return year_before(to)
    return to + (other - day)


def year_before(day: date) -> date:
    """The same day of the year before; the 28th for a 29th of February."""
    if (day.month, day.day) == (2, 29):
        day -= timedelta(days=1)
    return day.replace(year=day.year - 1)
