"""A tariff as a form: what was typed, the tariff that it means, the picture of its week. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import msgspec
from babel.numbers import list_currencies
from sunmesh.database.tariff import (
    DAY_MIN,
    MOST_BANDS,
    Band,
    Bill,
    Side,
    Tariff,
    is_holiday,
    pieces,
)

from .. import text
from ..text import N_, _
from . import page as money_page

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

SPARE = 1
"""Empty rows beneath the filled ones."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIDES = {"buy": N_("Price from the grid"), "sell": N_("Price for what you give")}
COMMON = (
    *("EUR", "CHF", "CZK", "GBP", "PLN", "RON", "HUF", "DKK", "NOK", "SEK", "BGN", "USD"),
    *("CAD", "AUD", "NZD", "INR", "BRL", "ZAR"),
)
"""Currencies that are offered; any other may be typed."""


@dataclass(slots=True)
class Row:
    """A band as it was typed."""

    name: str = ""
    price: str = ""
    start: str = ""
    end: str = ""
    weekdays: tuple[int, ...] = ()
    from_month: int = 0
    to_month: int = 0
    error: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nobody has typed anything."""
        return not (self.name or self.price or self.start or self.end)


@dataclass(slots=True)
class Draft:
    """What stands in the form.

    Attributes:
        errors: by field, for people; the empty key is of all of it.
    """

    first: str = ""
    instead_of: str = ""
    name: str = ""
    currency: str = "EUR"
    has_grid: bool = True
    price: dict[str, str] = field(default_factory=lambda: {"buy": "", "sell": ""})
    bands: dict[str, list[Row]] = field(default_factory=lambda: {"buy": [], "sell": []})
    standing: str = ""
    standing_per: str = "month"
    fuel: str = ""
    co2_grid: str = ""
    co2_generator: str = ""
    holidays: str = ""
    errors: dict[str, str] = field(default_factory=dict)


class FormError(ValueError):
    """A field says what cannot be; the text is for people."""


def parse_number(typed: str, most: float) -> float:
    """What is typed as a number of 0 to ``most``.

    Raises:
        FormError: it is none.
    """
    number = text.typed(typed)
    if number is None or number < 0:
        raise FormError(_("“%(text)s” is no number such as 0.35", text=typed[:20]))
    if number > most:
        raise FormError(
            _("%(text)s is more than %(most)s", text=typed[:20], most=text.number(most))
        )
    return number


def parse_clock(typed: str, empty: str) -> str:
    """``7:30``, ``7``, ``24`` as ``07:30``.

    Raises:
        FormError: it is no time at full five minutes.
    """
    if not typed.strip():
        return empty
    found = re.fullmatch(r"(\d{1,2})(?:[:.h](\d{2}))?", typed.strip())
    if found is not None:
        hour, minute = int(found[1]), int(found[2] or 0)
        if (hour < 24 or (hour == 24 and minute == 0)) and minute < 60:
            if minute % 5:
                raise FormError(
                    _("%(text)s is not at full five minutes, as meters count", text=typed[:20])
                )
            return f"{hour:02d}:{minute:02d}"
    raise FormError(_("“%(text)s” is no time such as 07:30", text=typed[:20]))


def months_of(first: int, last: int) -> tuple[int, ...]:
    """October to March = 10, 11, 12, 1, 2, 3; none = all year."""
    if not first and not last:
        return ()
    first, last = first or last, last or first
    count = (last - first) % 12 + 1
    return () if count == 12 else tuple((first - 1 + n) % 12 + 1 for n in range(count))


def ends_of(months: Sequence[int]) -> tuple[int, int]:
    """First and last month of a season; (0, 0) = all year."""
    if not months:
        return 0, 0
    present = set(months)
    first = next((m for m in months if (m - 2) % 12 + 1 not in present), months[0])
    last = next((m for m in months if m % 12 + 1 not in present), months[-1])
    return first, last


# -- between form, draft and tariff ----------------------------------------------------------------


def drafted(form: "MultiDict[str, str]") -> Draft:
    """What was typed; nothing of it is judged yet."""

    def said(key: str, most: int = 60) -> str:
        return form.get(key, "").strip()[:most]

    made = Draft(
        first=said("first", 10),
        instead_of=said("instead_of", 10),
        name=said("name"),
        currency=said("currency", 3).upper(),
        has_grid=bool(form.get("has_grid", "")),
        price={side: said(f"{side}.price", 20) for side in SIDES},
        standing=said("standing", 20),
        standing_per=said("standing_per", 10),
        fuel=said("fuel", 20),
        co2_grid=said("co2_grid", 20),
        co2_generator=said("co2_generator", 20),
        holidays=said("holidays", 1000),
    )
    for side in SIDES:
        for number in range(MOST_BANDS + 1):
            key = f"{side}.{number}."
            row = Row(
                said(key + "name"),
                said(key + "price", 20),
                said(key + "start", 8),
                said(key + "end", 8),
                tuple(sorted(set(_places(form.getlist(key + "weekday"), 7)))),
                next(_places([form.get(key + "from", "")], 12), 0),
                next(_places([form.get(key + "to", "")], 12), 0),
            )
            if not row.is_empty:
                made.bands[side].append(row)
    return made


def _places(texts: Sequence[str], most: int) -> Iterator[int]:
    return (
        int(each) for each in texts if re.fullmatch(r"\d{1,2}", each) and 1 <= int(each) <= most
    )


def draft_of(first: date, tariff: Tariff) -> Draft:
    """A tariff as it would be typed."""

    def shown(number: float) -> str:
        return f"{number:.9f}".rstrip("0").rstrip(".") if number else ""

    return Draft(
        first=first.isoformat(),
        instead_of=first.isoformat(),
        name=tariff.name,
        currency=tariff.currency,
        has_grid=tariff.has_grid,
        price={side: shown(getattr(tariff, side).price) for side in SIDES},
        bands={
            side: [
                Row(
                    band.name,
                    shown(band.price) or "0",
                    band.start,
                    band.end,
                    band.weekdays,
                    *ends_of(band.months),
                )
                for band in getattr(tariff, side).bands
            ]
            for side in SIDES
        },
        standing=shown(tariff.standing),
        standing_per=tariff.standing_per,
        fuel=shown(tariff.fuel),
        co2_grid=shown(tariff.co2_grid),
        co2_generator=shown(tariff.co2_generator),
        holidays=", ".join(tariff.holidays),
    )


def meant(draft: Draft) -> Tariff | None:
    """The tariff that a draft means; None = ``draft.errors`` say why it means none."""
    draft.errors = {}

    def number(key: str, typed: str, most: float, needed: bool = False) -> float:
        if not typed and not needed:
            return 0.0
        try:
            return parse_number(typed, most)
        except FormError as err:
            draft.errors[key] = str(err) if typed else _("A price is needed")
            return 0.0

    sides: dict[str, Side] = {}
    for side in SIDES:
        price = number(f"{side}.price", draft.price[side], 1_000_000, needed=side == "buy")
        bands = [band for row in draft.bands[side] if (band := _band(row)) is not None]
        if any(row.error for row in draft.bands[side]):
            draft.errors[f"{side}.bands"] = _("One of the bands cannot be")
            continue
        try:
            sides[side] = Side(price, tuple(bands))
        except ValueError as err:
            draft.errors[f"{side}.bands"] = (
                _("Two bands of one name have two prices")
                if "two prices" in str(err)
                else _("There are too many bands")
            )
    currency = draft.currency
    if currency not in list_currencies():
        draft.errors["currency"] = _("Currencies have three letters, such as EUR")
    holidays = [each for each in re.split(r"[,;\s]+", draft.holidays) if each]
    wrong = next((each for each in holidays if not is_holiday(each)), None)
    if wrong is not None:
        draft.errors["holidays"] = _("“%(text)s” is no day such as 12-25", text=wrong[:20])
    if draft.standing_per not in ("day", "month", "year"):
        draft.errors["standing"] = _("It is paid each day, month or year")
    values = {
        "standing": number("standing", draft.standing, 1_000_000),
        "fuel": number("fuel", draft.fuel, 1_000_000),
        "co2_grid": number("co2_grid", draft.co2_grid, 5000),
        "co2_generator": number("co2_generator", draft.co2_generator, 5000),
    }
    if draft.errors:
        return None
    try:
        return msgspec.convert(
            {
                "currency": currency,
                "name": draft.name,
                "has_grid": draft.has_grid,
                "buy": msgspec.to_builtins(sides["buy"]),
                "sell": msgspec.to_builtins(sides["sell"]),
                "standing_per": draft.standing_per,
                "holidays": list(dict.fromkeys(holidays)),
                **values,
            },
            Tariff,
        )
    except msgspec.ValidationError:
        draft.errors[""] = _("A name holds letters that cannot be printed, or is too long")
        return None


def _band(row: Row) -> Band | None:
    """What a row means; None = its ``error`` says why it means nothing."""
    row.error = ""
    try:
        if not row.name:
            raise FormError(_("Give it a name, such as night"))
        if not row.price:
            raise FormError(_("“%(name)s” needs a price", name=row.name))
        price = parse_number(row.price, 1_000_000)
        start, end = parse_clock(row.start, "00:00"), parse_clock(row.end, "24:00")
        if start == "24:00":
            start = "00:00"
        months = months_of(row.from_month, row.to_month)
        weekdays = () if len(row.weekdays) == 7 else row.weekdays
        return Band(row.name, price, start, end, weekdays, months)
    except FormError as err:
        row.error = str(err)
    except ValueError:
        row.error = _("The name is too long, or holds letters that cannot be printed")
    return None


def first_day(draft: Draft) -> date | None:
    """Since when it is to hold; None = ``draft.errors`` say why that is no day."""
    try:
        found = date.fromisoformat(draft.first)
        if not 2000 <= found.year <= 2099:
            raise ValueError
    except ValueError:
        draft.errors["first"] = _("The calendar has no such day between 2000 and 2099")
        return None
    return found


TEMPLATES: Mapping[str, str] = {
    "flat": N_("One price"),
    "night": N_("Day and night"),
    "three": N_("Three bands"),
    "season": N_("Summer and winter"),
}
"""Shapes to begin with; none of them has a price."""


def template(name: str, currency: str, first: date) -> Draft:
    """A form to begin with."""
    made = Draft(first=first.isoformat(), currency=currency)
    week, saturday = (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6)
    match name:
        case "night":
            made.bands["buy"] = [Row(_("Night"), "", "22:00", "06:00")]
        case "three":
            made.bands["buy"] = [
                Row("F1", "", "08:00", "19:00", week),
                Row("F2", "", "07:00", "23:00", saturday),
            ]
            made.holidays = "01-01, 01-06, 04-25, 05-01, 06-02, 08-15, 11-01, 12-08, 12-25, 12-26"
        case "season":
            made.bands["buy"] = [Row(_("Winter"), "", "00:00", "24:00", (), 10, 3)]
    return made


# -- the week as a picture -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """Hours of one price: x and width in percent of the day."""

    x: float
    width: float
    letter: str
    level: int


@dataclass(frozen=True, slots=True)
class Key:
    """What a letter of the picture stands for."""

    letter: str
    level: int
    name: str
    price: str


@dataclass(frozen=True, slots=True)
class Week:
    """A week of prices: seven days with their blocks, and what they mean."""

    title: str
    days: list[tuple[str, list[Block]]]
    keys: list[Key]


def weeks(tariff: Tariff, side: str = "buy") -> list[Week]:
    """The week of each season; one where all months are alike."""
    prices = getattr(tariff, side)
    if not prices.bands:
        return []
    alike: dict[tuple[object, ...], list[int]] = {}
    for month in range(1, 13):
        shape = tuple(
            tuple((a, b, _place(p, side)) for a, b, *p in pieces(tariff, weekday, month))
            for weekday in range(1, 8)
        )
        alike.setdefault(shape, []).append(month)
    found = []
    for months in alike.values():
        title = "" if len(months) == 12 else season(months)
        found.append(_week(tariff, side, months[0], title))
    return found


def season(months: Sequence[int]) -> str:
    """``April – September``."""
    first, last = ends_of(months)
    names = [money_page.month_name(month) for month in (first, last)]
    return names[0] if first == last else _("%(first)s to %(last)s", first=names[0], last=names[1])


def _place(places: Sequence[int], side: str) -> int:
    return places[0] if side == "buy" else places[1]


def _week(tariff: Tariff, side: str, month: int, title: str) -> Week:
    prices: Side = getattr(tariff, side)
    used: dict[tuple[str, float], None] = {}
    days = []
    for weekday in range(1, 8):
        for _a, _b, *places in pieces(tariff, weekday, month):
            place = _place(places, side)
            used[prices.name_of(place), prices.price_of(place)] = None
    ordered = sorted(used, key=lambda each: (-each[1], each[0]))
    letters = {each: LETTERS[number] for number, each in enumerate(ordered)}
    ranks = sorted({cost for _name, cost in ordered})
    levels = {cost: _level(number, len(ranks)) for number, cost in enumerate(ranks)}
    for weekday in range(1, 8):
        blocks: list[Block] = []
        for first, after, *places in pieces(tariff, weekday, month):
            place = _place(places, side)
            key = (prices.name_of(place), prices.price_of(place))
            x, width = 100 * first / DAY_MIN, 100 * (after - first) / DAY_MIN
            if blocks and blocks[-1].letter == letters[key]:
                last = blocks.pop()
                blocks.append(Block(last.x, round(last.width + width, 3), *last_of(last)))
            else:
                blocks.append(Block(round(x, 3), round(width, 3), letters[key], levels[key[1]]))
        days.append((money_page.weekday_name(weekday), blocks))
    keys = [
        Key(
            letters[each],
            levels[each[1]],
            each[0] or _("all other hours"),
            money_page.price(each[1], tariff.currency),
        )
        for each in ordered
    ]
    return Week(title, days, keys)


def last_of(block: Block) -> tuple[str, int]:
    """Its letter and level."""
    return block.letter, block.level


def _level(rank: int, count: int) -> int:
    """0 = cheapest … 4 = dearest."""
    return 0 if count < 2 else round(4 * rank / (count - 1))


# -- in words --------------------------------------------------------------------------------------


def summary(tariff: Tariff) -> list[str]:
    """A tariff in some short sentences."""
    found = []
    buy = [(band.name, band.price) for band in tariff.buy.bands]
    if not tariff.has_grid:
        found.append(_("No grid: prices say what own energy is worth."))
    if not buy:
        found.append(
            _("%(price)s a kWh", price=money_page.price(tariff.buy.price, tariff.currency))
        )
    else:
        for name, cost in dict.fromkeys(buy):
            each = money_page.price(cost, tariff.currency)
            found.append(_("%(name)s: %(price)s a kWh", name=name, price=each))
        rest = money_page.price(tariff.buy.price, tariff.currency)
        found.append(_("all other hours: %(price)s a kWh", price=rest))
    if tariff.sell.price or tariff.sell.bands:
        highest = max((tariff.sell.price, *(band.price for band in tariff.sell.bands)))
        each = money_page.price(highest, tariff.currency)
        if tariff.sell.bands:
            found.append(_("given to the grid: up to %(price)s a kWh", price=each))
        else:
            found.append(_("given to the grid: %(price)s a kWh", price=each))
    if tariff.standing:
        amount = text.money(tariff.standing, tariff.currency)
        found.append(
            {
                "day": _("standing charge: %(amount)s a day", amount=amount),
                "month": _("standing charge: %(amount)s a month", amount=amount),
                "year": _("standing charge: %(amount)s a year", amount=amount),
            }[tariff.standing_per]
        )
    return found


def compared(tried: Bill, was: Bill, tariff: Tariff) -> list[str]:
    """What the last 30 days would have come to with it."""
    if not tried.has_cost:
        return []
    cost = text.money(tried.cost, tariff.currency)
    found = [_("With this tariff the last 30 days would have cost %(amount)s.", amount=cost)]
    if was.has_cost and was.currency == tried.currency and was.days == tried.days:
        found.append(
            _("As it stands they cost %(amount)s.", amount=text.money(was.cost, was.currency))
        )
    return found


def currencies() -> list[str]:
    """Those that are offered."""
    known = list_currencies()
    return [code for code in COMMON if code in known]


def weekday_names() -> list[tuple[int, str, str]]:
    """Number, short and long name of each weekday."""
    return [
        (number, money_page.weekday_name(number), money_page.weekday_name(number, "wide"))
        for number in range(1, 8)
    ]


def month_names() -> list[tuple[int, str]]:
    """Number and name of each month."""
    return [(number, money_page.month_name(number)) for number in range(1, 13)]


def problems(draft: Draft) -> Iterator[str]:
    """What is wrong with a draft, each once."""
    for side in SIDES:
        for row in draft.bands[side]:
            if row.error:
                yield row.error
    for key, error in draft.errors.items():
        if not key.endswith(".bands") or not any(row.error for row in draft.bands[key[:-6]]):
            yield error


def plain(tariff: Tariff) -> list[str]:
    """A tariff in the audit, which is of no language."""
    found = [f"{tariff.currency} buy {tariff.buy.price:g} sell {tariff.sell.price:g}"]
    for name in ("buy", "sell"):
        side: Side = getattr(tariff, name)
        found += [
            f"{name} {band.name} {band.start}-{band.end} {band.price:g}" for band in side.bands
        ]
    if tariff.standing:
        found.append(f"standing {tariff.standing:g} a {tariff.standing_per}")
    return found
