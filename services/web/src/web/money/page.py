"""What the page *Money* shows of a period: sentence, bars, bill, table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from sunmesh.database.days import next_month
from sunmesh.database.tariff import Bill, Slot

from .. import text, words
from ..periods import Period
from ..text import _, ngettext

TOP, BOTTOM, TALL = 10.0, 190.0, 214
"""Of the chart: where the highest bar ends, where the lowest, and its height [px]."""
SMALL = 0.005
"""Amounts below half a cent are none."""


def beside(of: Period, whole: tuple[date, date] | None) -> tuple[Period | None, Period | None]:
    """The period before and the one after, as far as anything is booked of them."""
    if whole is None or of.kind == "total":
        return None, None
    before, after = of.before(), of.after()
    return (
        before if before and before.end > whole[0] and before.first < whole[1] else None,
        after if after and after.first < whole[1] and after.end > whole[0] else None,
    )


def kinds(of: Period, whole: tuple[date, date] | None, today: date) -> list[tuple[str, str, bool]]:
    """The period's relatives: name, key, and whether it is this one."""
    last = min(today, whole[1] - timedelta(days=1)) if whole else today
    at = last if of.kind == "total" or of.holds(last) else of.end - timedelta(days=1)
    return [
        (_("Day"), f"{at:%Y-%m-%d}", of.kind == "day"),
        (_("Month"), f"{at:%Y-%m}", of.kind == "month"),
        (_("Year"), f"{at:%Y}", of.kind == "year"),
        (_("Total"), "total", of.kind == "total"),
    ]


# -- parts of a period -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the period: an hour, a day, a month or a year.

    Attributes:
        label: under its bar; empty = too close to another.
        title: for people.
        key: of its own page; empty = it has none.
        bill: what it comes to.
    """

    label: str
    title: str
    key: str
    bill: Bill


def hour_parts(hours: Sequence[tuple[int, Bill]], zone: tzinfo) -> list[Part]:
    """Of a day."""
    found = []
    for ms, bill in hours:
        local = datetime.fromtimestamp(ms / 1000, zone)
        label = f"{local.hour}" if local.hour % 6 == 0 else ""
        found.append(Part(label, text.clock(local), "", bill))
    return found


def day_parts(of: Period, days: Mapping[date, Bill]) -> list[Part]:
    """Of a month."""
    found = []
    for number in range((of.end - of.first).days):
        day = of.first + timedelta(days=number)
        label = f"{day.day}" if day.day in (1, 5, 10, 15, 20, 25) or day == of.end else ""
        found.append(Part(label, text.day(day, "MMMEd"), day.isoformat(), days.get(day, Bill())))
    return found


def month_parts(of: Period, months: Mapping[date, Bill]) -> list[Part]:
    """Of a year."""
    found = []
    month = of.first
    while month < of.end:
        label = month_name(month.month, "narrow")
        found.append(Part(label, text.month(month), f"{month:%Y-%m}", months.get(month, Bill())))
        month = next_month(month)
    return found


def year_parts(years: Mapping[int, Bill]) -> list[Part]:
    """Of all there is."""
    every = -(-len(years) // 8)
    return [
        Part(f"{year}" if number % every == 0 else "", f"{year}", f"{year}", bill)
        for number, (year, bill) in enumerate(sorted(years.items()))
    ]


# -- the picture -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: x and width in percent, y and heights in pixels; a height of 0 is not drawn.

    Attributes:
        paid: (y, height) of what was paid.
        saved: of what was saved, above it.
        earned: of what came in beyond what was paid, below the line.
        words: what it says, for who cannot see it.
    """

    x: float
    width: float
    middle: float
    label: str
    key: str
    paid: tuple[float, float]
    saved: tuple[float, float]
    earned: tuple[float, float]
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars, with the lines behind them as (y, words)."""

    bars: list[Bar]
    lines: list[tuple[float, str]]
    zero: float
    has_earned: bool
    has_saved: bool


def step_of(reach: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, of which at most five fit into ``reach``."""
    power = 1e-9
    while True:
        for factor in (1, 2, 5):
            if reach <= 5 * factor * power:
                return factor * power
        power *= 10


def chart(parts: Sequence[Part], currency: str) -> Chart | None:
    """What is drawn; None where nothing is known of any part."""
    shown = [part for part in parts if part.bill.has_cost]
    if not shown:
        return None
    highs = [max(_full(part.bill), part.bill.cost, 0.0) for part in shown]
    lows = [min(part.bill.cost, 0.0) for part in shown]
    high, low = max(highs), min(lows)
    step = step_of(max(high - low, 0.01))
    top, deep = -(-high // step), -(low // step)
    scale = (BOTTOM - TOP) / max((top + deep) * step, step)
    zero = TOP + max(top, 1 - deep) * step * scale
    digits = 0 if step >= 1 else 2

    lines = []
    for number in range(round(-deep), round(top) + 1):
        amount = text.money(number * step, currency, digits)
        lines.append((round(zero - number * step * scale, 1), amount))
    bars = []
    wide = 100 / len(parts)
    for number, part in enumerate(parts):
        bill = part.bill
        paid = saved = earned = (0.0, 0.0)
        if bill.has_cost:
            base = max(bill.cost, 0.0)
            paid = (zero - base * scale, base * scale)
            earned = (zero, -min(bill.cost, 0.0) * scale)
            if _full(bill) > base:
                saved = (zero - _full(bill) * scale, (_full(bill) - base) * scale)
        bars.append(
            Bar(
                round(number * wide + wide * 0.14, 3),
                round(wide * 0.72, 3),
                round((number + 0.5) * wide, 3),
                part.label,
                part.key,
                _rounded(paid),
                _rounded(saved),
                _rounded(earned),
                said(part, currency),
            )
        )
    return Chart(
        bars,
        lines,
        round(zero, 1),
        any(bar.earned[1] for bar in bars),
        any(bar.saved[1] for bar in bars),
    )


def _full(bill: Bill) -> float:
    """What it would have been without sun and battery."""
    return bill.cost + bill.saved if bill.has_saved else bill.cost


def _rounded(pair: tuple[float, float]) -> tuple[float, float]:
    return round(pair[0], 1), round(pair[1], 1)


def said(part: Part, currency: str) -> str:
    """A bar in words."""
    bill = part.bill
    if not bill.has_cost:
        return _("%(when)s: not known", when=part.title)
    paid = text.money(bill.cost, currency)
    if not bill.has_saved:
        return _("%(when)s: paid %(paid)s", when=part.title, paid=paid)
    saved = text.money(bill.saved, currency)
    return _("%(when)s: paid %(paid)s, saved %(saved)s", when=part.title, paid=paid, saved=saved)


# -- words -----------------------------------------------------------------------------------------


def headline(of: Period, bill: Bill, currency: str, has_grid: bool) -> str:
    """The period in one sentence."""
    if bill.is_mixed:
        return _("%(when)s has prices in several currencies.", when=of.title)
    if not bill.has_cost:
        return _("%(when)s: what it cost is not known.", when=of.title)
    cost = text.money(abs(bill.cost), currency)
    if not has_grid and bill.has_saved:
        worth = text.money(bill.saved, currency)
        return _("%(when)s: your own energy was worth %(amount)s.", when=of.title, amount=worth)
    if not bill.has_saved:
        if bill.cost < -SMALL:
            return _("%(when)s: a gain of %(amount)s.", when=of.title, amount=cost)
        return _("%(when)s: a cost of %(amount)s.", when=of.title, amount=cost)
    full = text.money(_full(bill), currency)
    if bill.cost < -SMALL:
        return _(
            "%(when)s: a gain of %(amount)s. Without sun and battery it would have cost %(full)s.",
            when=of.title,
            amount=cost,
            full=full,
        )
    return _(
        "%(when)s: a cost of %(amount)s instead of %(full)s.", when=of.title, amount=cost, full=full
    )


def notes(bill: Bill, currency: str) -> list[str]:
    """What is missing from it, and what that means."""
    found = []
    if bill.without_price:
        found.append(
            ngettext(
                "Of %(num)d day no price is known: no tariff holds yet.",
                "Of %(num)d days no price is known: no tariff holds yet.",
                bill.without_price,
            )
        )
    if bill.without_grid:
        found.append(
            ngettext(
                "Of %(num)d day nothing from the grid was measured: its cost is not known.",
                "Of %(num)d days nothing from the grid was measured: their cost is not known.",
                bill.without_grid,
            )
        )
    if bill.unsure:
        found.append(
            ngettext(
                "Of %(num)d day the grid was measured too rarely to say what was saved.",
                "Of %(num)d days the grid was measured too rarely to say what was saved.",
                bill.unsure,
            )
        )
    if bill.is_mixed:
        found.append(_("Several currencies are not added up: look at the parts of this period."))
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the bill."""

    what: str
    energy: str
    price: str
    amount: str
    is_sum: bool = False


def price(amount: float, currency: str) -> str:
    """Of a kWh, with the digits that it has: 2 to 5."""
    digits = next((n for n in (2, 3, 4) if abs(round(amount, n) - amount) < 1e-9), 5)
    return text.money(amount, currency, digits)


def bill_lines(bill: Bill, currency: str) -> list[Line]:
    """The bill: energy by price, what is to be paid anyway, fuel, what came in."""
    found = [_slot(slot, currency, _("From the grid")) for slot in bill.bought if slot.wh >= 0.5]
    if bill.fuel_wh >= 0.5:
        each = bill.fuel / (bill.fuel_wh / 1000)
        found.append(
            Line(
                _("Generator"),
                words.energy(bill.fuel_wh / 1000),
                price(round(each, 4), currency),
                text.money(bill.fuel, currency),
            )
        )
    if bill.standing >= SMALL:
        found.append(Line(_("Standing charge"), "", "", text.money(bill.standing, currency)))
    sold = [slot for slot in bill.sold if slot.wh >= 0.5]
    for slot in sold:
        line = _slot(slot, currency, _("Given to the grid"))
        found.append(Line(line.what, line.energy, line.price, text.money(-slot.amount, currency)))
    found.append(Line(_("Together"), "", "", text.money(bill.cost, currency), is_sum=True))
    return found


def _slot(slot: Slot, currency: str, fallback: str) -> Line:
    what = slot.name and _("%(what)s, %(band)s", what=fallback, band=slot.name)
    return Line(
        what or fallback,
        words.energy(slot.wh / 1000),
        price(slot.price, currency),
        text.money(slot.amount, currency),
    )


def month_name(number: int, width: str = "wide") -> str:
    """``November``, ``Nov`` or ``N``, standing by itself."""
    return str(text.locale().months["stand-alone"][width][number])


def weekday_name(number: int, width: str = "abbreviated") -> str:
    """``Monday`` or ``Mon`` for 1, standing by itself."""
    return str(text.locale().days["stand-alone"][width][number - 1])


def mass(grams: float | None) -> str:
    """``840 g``, ``12.4 kg``, ``1.25 t``."""
    if grams is None:
        return words.NONE
    if abs(grams) < 1000:
        return f"{text.number(grams)}{words.HARD}g"
    if abs(grams) < 1_000_000:
        return f"{text.number(grams / 1000, 1)}{words.HARD}kg"
    return f"{text.number(grams / 1_000_000, 2)}{words.HARD}t"


@dataclass(frozen=True, slots=True)
class Tile:
    """A number with its name, and what explains it."""

    key: str
    label: str
    value: str
    note: str


def tiles(bill: Bill, currency: str) -> list[Tile]:
    """The numbers of a period; what does not exist has none."""
    found = []
    if bill.has_cost:
        found.append(
            Tile("paid", _("Paid"), text.money(bill.spent, currency), _("grid, fuel, standing"))
        )
    if bill.has_saved:
        note = _("against buying all of it")
        found.append(Tile("saved", _("Saved"), text.money(bill.saved, currency), note))
    if not bill.is_mixed and bill.sold_wh >= 0.5:
        note = words.energy(bill.sold_wh / 1000)
        found.append(Tile("sold", _("Earned"), text.money(bill.earned, currency), note))
    if bill.has_cost and bill.bought_wh >= 0.5:
        each = sum(slot.amount for slot in bill.bought) / (bill.bought_wh / 1000)
        note = words.energy(bill.bought_wh / 1000)
        value = text.money(each, currency, 3)
        found.append(Tile("price", _("A kWh bought"), value, note))
    return found


def co2_tiles(bill: Bill) -> list[Tile]:
    """CO₂ of a period; empty while no tariff says what a kWh makes."""
    if not (bill.co2_g or bill.co2_saved_g or bill.co2_sold_g):
        return []
    found = [Tile("co2", _("Emitted"), mass(bill.co2_g), _("by grid and generator"))]
    if bill.saved_days:
        note = _("in this house, by own energy")
        found.append(Tile("avoided", _("Avoided"), mass(bill.co2_saved_g), note))
    if bill.co2_sold_g:
        found.append(
            Tile("sold", _("Avoided elsewhere"), mass(bill.co2_sold_g), _("by what you gave"))
        )
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table of parts."""

    title: str
    key: str
    paid: str
    saved: str
    co2: str


def rows(parts: Sequence[Part], currency: str) -> list[Row]:
    """The parts as a table, only those of which something is known."""
    return [
        Row(
            part.title,
            part.key,
            text.money(part.bill.cost if part.bill.has_cost else None, currency),
            text.money(part.bill.saved if part.bill.has_saved else None, currency),
            mass(part.bill.co2_g) if part.bill.has_cost else words.NONE,
        )
        for part in parts
        if part.bill.days or part.bill.without_price
    ]
