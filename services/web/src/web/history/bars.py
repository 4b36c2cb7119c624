"""Bars as a picture: places in percent, so that one drawing fits phone, desk and paper. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import text, words
from ..text import _
from .metrics import Metric

BAR_SHARE = 0.76
"""Of the room for a bar that is filled."""
THIN = 0.35
"""Anything smaller is not seen: it gets that much of the height [%]."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be drawn as one bar.

    Attributes:
        label: in words: a date, a month.
        short, narrow: beneath it, on a wide screen and on a phone; may be empty.
        values: as the metric's ``split`` gives them; None = not known.
        href: where a click leads; empty = nowhere.
        marks: what is to be known of it: partial, estimated, edited, imported.
        notes: the same in words.
        was: the number that it is compared with.
        now: it is not over yet.
        ahead: it has not begun.
    """

    label: str
    short: str
    narrow: str
    values: Sequence[float | None]
    href: str = ""
    marks: Sequence[str] = ()
    notes: Sequence[str] = ()
    was: float | None = None
    now: bool = False
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle: ``key`` is its colour and pattern, ``side`` up or down; places in percent."""

    side: str
    key: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ``x``, ``middle`` and ``width`` in percent."""

    item: Item
    x: str
    middle: str
    width: str
    room_x: str
    room: str
    room_end: str
    pieces: Sequence[Piece]
    was_y: str
    says: str
    glyphs: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it.

    Attributes:
        bars: from left to right.
        levels: (y in percent, text) of the lines behind them.
        zero: y of the line between up and down.
        up, down: areas that occur: (class, name, sum).
        marks: what stands under bars, with its meaning.
        compared: some bars have another's height marked.
    """

    bars: Sequence[Bar]
    levels: Sequence[tuple[str, str]]
    zero: str
    up: Sequence[tuple[str, str, str]]
    down: Sequence[tuple[str, str, str]]
    marks: Sequence[tuple[str, str]]
    compared: bool


GLYPHS = {"partial": "◐", "estimated": "≈", "edited": "✎", "imported": "⇥"}


def _percent(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") + "%"


def nice(most: float, marks: int = 4, *, fine: bool = False) -> float:
    """A round step (``fine``: any with one digit) so that ``marks`` of them reach ``most``."""
    if most <= 0:
        return 1.0
    rough = most / marks
    power = 10.0 ** math.floor(math.log10(rough))
    return next(
        float(step * power)
        for step in (range(1, 11) if fine else (1, 2, 2.5, 5, 10))
        if step * power >= rough * 0.999
    )


def _scale(metric: Metric, high: float, low: float) -> tuple[float, float, float]:
    """(top, bottom, step): ends at full steps, zero inside."""
    if metric.share:
        return 1.0, 0.0, 0.25
    step = nice(max(high, low, 1.0))
    return math.ceil(high / step - 1e-9) * step or step, math.ceil(low / step - 1e-9) * step, step


def _level_text(metric: Metric, value: float, step: float) -> str:
    if metric.share:
        return f"{text.number(abs(value) * 100)}{words.HARD}%"
    kwh, size = abs(value) / 1000, step / 1000
    unit = "kWh"
    if size >= 1000:
        kwh, size, unit = kwh / 1000, size / 1000, "MWh"
    digits = 0 if size >= 1 and float(size).is_integer() else 1 if size >= 0.1 else 2
    return f"{text.number(kwh, digits)}{words.HARD}{unit}" if value else "0"


def picture(metric: Metric, items: Sequence[Item]) -> Picture:
    """The bars of ``items``; nothing is drawn where nothing is known."""
    ups = len(metric.up)
    sums = [
        (
            math.fsum(v for v in item.values[:ups] if v is not None),
            math.fsum(v for v in item.values[ups:] if v is not None),
        )
        for item in items
    ]
    was = [item.was for item in items if item.was is not None]
    top, bottom, step = _scale(
        metric,
        max([up for up, _down in sums] + was, default=0.0),
        max((down for _up, down in sums), default=0.0),
    )
    whole = top + bottom

    def y(value: float) -> float:
        return 100 * (top - value) / whole

    room = 100 / max(1, len(items))
    bars = [_bar(metric, item, index * room, room, y) for index, item in enumerate(items)]
    count = round(whole / step)
    levels = [
        (_percent(y(top - n * step)), _level_text(metric, top - n * step, step))
        for n in range(count + 1)
    ]
    marks = [
        (GLYPHS[mark], name)
        for mark, name in (
            ("partial", _("only partly known")),
            ("estimated", _("mostly estimated")),
            ("edited", _("corrected by hand")),
            ("imported", _("imported")),
        )
        if any(mark in item.marks for item in items)
    ]
    return Picture(
        bars,
        levels,
        _percent(y(0.0)),
        _keys(metric, items, 0),
        _keys(metric, items, ups),
        marks,
        bool(was),
    )


def _bar(metric: Metric, item: Item, left: float, room: float, y: Callable[[float], float]) -> Bar:
    ups = len(metric.up)
    pieces: list[Piece] = []
    for areas, values, sign in (
        (metric.up, item.values[:ups], 1),
        (metric.down, item.values[ups:], -1),
    ):
        edge = 0.0
        for area, value in zip(areas, values, strict=True):
            if not value or value <= 0:
                continue
            low, high = y(sign * edge), y(sign * (edge + value))
            size = max(abs(high - low), THIN)
            begin = low - size if sign > 0 else low
            side = "up" if sign > 0 else "down"
            pieces.append(Piece(side, area.key, _percent(begin), _percent(size)))
            edge += value
    width = room * BAR_SHARE
    return Bar(
        item,
        _percent(left + (room - width) / 2),
        _percent(left + room / 2),
        _percent(width),
        _percent(left),
        _percent(room),
        _percent(left + room),
        pieces,
        _percent(y(item.was)) if item.was is not None else "",
        _says(metric, item),
        "".join(GLYPHS[mark] for mark in item.marks[:1]),
    )


def _says(metric: Metric, item: Item) -> str:
    """The bar in words."""
    if all(value is None for value in item.values) and not item.ahead:
        return _("%(when)s: nothing is known", when=item.label)
    ups = len(metric.up)
    told = []
    for place, area in enumerate((*metric.up, *metric.down)):
        value = item.values[place]
        if value is None or (value <= 0 and len(item.values) > 1):
            continue
        if metric.key == "balance":
            pattern = FED[area.key] if place < ups else WENT[area.key]
            told.append(_(pattern, amount=metric.text(value)))
        else:
            told.append(_("%(name)s: %(amount)s", name=_(area.name), amount=metric.text(value)))
    if item.was is not None:
        told.append(_("compared with %(amount)s", amount=metric.text(item.was)))
    return _("%(when)s: %(what)s", when=item.label, what=" · ".join([*told, *item.notes]))


FED = {
    "sun": text.N_("%(amount)s straight from the sun"),
    "battery": text.N_("%(amount)s from the battery"),
    "grid": text.N_("%(amount)s from the grid"),
    "generator": text.N_("%(amount)s from the generator"),
}
WENT = {
    "house": text.N_("sun: %(amount)s to the house"),
    "battery": text.N_("sun: %(amount)s into the battery"),
    "grid": text.N_("sun: %(amount)s to the grid"),
}


def _keys(metric: Metric, items: Sequence[Item], start: int) -> list[tuple[str, str, str]]:
    """The areas of one side that occur, with their sums."""
    areas = metric.down if start else metric.up
    found = []
    for place, area in enumerate(areas, start=start):
        known = [item.values[place] for item in items if item.values[place] is not None]
        whole = math.fsum(value for value in known if value is not None)
        if metric.share:
            found.append((area.key, _(area.name), ""))
        elif known and (whole > 0 or len(areas) == 1):
            found.append((area.key, _(area.name), metric.text(whole)))
    return found
