"""What a kilowatt-hour costs at which hour, and what energy comes to at these prices. Pure.

A tariff is one contract with its prices; it holds from a local day until the next one begins.
Which price counts at a moment is told by the clock on the wall: on the day of 25 hours a band that
lies in the hour that comes twice counts twice.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from .days import midnight

FLOWS = ("load", "grid_import", "grid_export", "generator")
"""Flows of the energy books that cost, earn or save something."""

STEP_MIN = 5
"""Bands begin and end at full five minutes, as the buckets of the books do."""
DAY_MIN = 1440
MINUTE_MS = 60_000
MOST_BANDS = 24
MOST_HOLIDAYS = 60
MOST_PRICE = 1_000_000.0
MOST_CO2 = 5000.0
NAME_LENGTH = 40
OTHERWISE = -1
"""The place of the price that holds where no band does."""
UNSURE = 0.9
"""A day whose grid is known for a smaller part of the time that its load is known saves nothing
that could be told."""

CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
CURRENCY = re.compile(r"[A-Z]{3}")
HOLIDAY = re.compile(r"(?:\d{4}-)?\d{2}-\d{2}")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable() or name != name.strip():
        raise ValueError(f"name must be 1 to {NAME_LENGTH} letters, got {name[:60]!r}")


def _check_price(key: str, price: float) -> None:
    if not 0 <= price <= MOST_PRICE:  # NaN is neither
        raise ValueError(f"{key} must be 0 to {MOST_PRICE:g}, got {price:g}")


def _check_places(key: str, places: Sequence[int], most: int) -> None:
    if any(not 1 <= place <= most for place in places) or len(set(places)) != len(places):
        raise ValueError(f"{key} must be different numbers of 1 to {most}, got {list(places)}")


def _minute(key: str, text: str) -> int:
    if not CLOCK.fullmatch(text):
        raise ValueError(f"{key} must be a time such as 07:30, got {text!r}")
    minute = int(text[:2]) * 60 + int(text[3:])
    if minute % STEP_MIN:
        raise ValueError(f"{key} must be at full five minutes, got {text!r}")
    return minute


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Hours with a price of their own.

    Attributes:
        name: for people: ``night``.
        price: of a kWh.
        start: local time of the first minute.
        end: of the first minute after it; before ``start`` = it goes on past midnight.
        weekdays: 1 = Monday … 7 = Sunday, of the moment itself; empty = every day.
        months: 1 … 12; empty = all year.
    """

    name: str
    price: float
    start: str = "00:00"
    end: str = "24:00"
    weekdays: tuple[int, ...] = ()
    months: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        _check_name(self.name)
        _check_price("price", self.price)
        for key in ("start", "end"):
            _minute(key, getattr(self, key))
        _check_places("weekdays", self.weekdays, 7)
        _check_places("months", self.months, 12)

    def holds(self, minute: int, weekday: int, month: int) -> bool:
        """Whether it is the price of that minute of the day."""
        if self.weekdays and weekday not in self.weekdays:
            return False
        if self.months and month not in self.months:
            return False
        start, end = _minute("start", self.start), _minute("end", self.end)
        if start < end:
            return start <= minute < end
        return minute >= start or minute < end  # past midnight; equal = the whole day


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices in one direction: the first band that holds counts, else ``price``."""

    price: float = 0.0
    bands: tuple[Band, ...] = ()

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        _check_price("price", self.price)
        if len(self.bands) > MOST_BANDS:
            raise ValueError(f"bands must be {MOST_BANDS} at most, got {len(self.bands)}")
        names = [band.name.casefold() for band in self.bands]
        for name in names:
            prices = {b.price for b in self.bands if b.name.casefold() == name}
            if len(prices) > 1:
                raise ValueError(f"name must not stand for two prices, got {name!r}")

    def at(self, minute: int, weekday: int, month: int) -> int:
        """The place of the band that holds; :data:`OTHERWISE` where none does."""
        return next(
            (i for i, band in enumerate(self.bands) if band.holds(minute, weekday, month)),
            OTHERWISE,
        )

    def price_of(self, place: int) -> float:
        """The price at that place."""
        return self.price if place == OTHERWISE else self.bands[place].price

    def name_of(self, place: int) -> str:
        """The name at that place; empty = the price of all other hours."""
        return "" if place == OTHERWISE else self.bands[place].name


class Tariff(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One contract.

    Attributes:
        currency: of all its prices, as in ISO 4217.
        name: of the contract, for people.
        has_grid: False = nothing is bought; the prices only say what own energy is worth.
        buy: what a kWh from the grid costs, with all that hangs on it.
        sell: what a kWh given to the grid earns.
        standing: what is to be paid whatever is used, for each ``standing_per``.
        fuel: what a kWh of the generator costs.
        co2_grid: of a kWh from the grid [g].
        co2_generator: of a kWh of the generator [g].
        holidays: days that count as Sundays: ``12-25`` each year, ``2026-04-06`` once.
    """

    currency: str = "EUR"
    name: str = ""
    has_grid: bool = True
    buy: Side = Side()
    sell: Side = Side()
    standing: float = 0.0
    standing_per: Literal["day", "month", "year"] = "month"
    fuel: float = 0.0
    co2_grid: float = 0.0
    co2_generator: float = 0.0
    holidays: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not CURRENCY.fullmatch(self.currency):
            raise ValueError(f"currency must be three letters such as EUR, got {self.currency!r}")
        if self.name:
            _check_name(self.name)
        for key in ("standing", "fuel"):
            _check_price(key, getattr(self, key))
        for key in ("co2_grid", "co2_generator"):
            if not 0 <= getattr(self, key) <= MOST_CO2:
                raise ValueError(f"{key} must be 0 to {MOST_CO2:g}, got {getattr(self, key)}")
        if len(self.holidays) > MOST_HOLIDAYS:
            raise ValueError(f"holidays must be {MOST_HOLIDAYS} at most")
        for text in self.holidays:
            if not is_holiday(text):
                raise ValueError(f"holidays must be days such as 12-25, got {text!r}")

    def weekday(self, day: date) -> int:
        """1 = Monday … 7 = Sunday; a holiday is a Sunday."""
        if f"{day:%m-%d}" in self.holidays or day.isoformat() in self.holidays:
            return 7
        return day.isoweekday()

    def standing_of(self, day: date) -> float:
        """The day's part of what is to be paid anyway."""
        if self.standing_per == "day":
            return self.standing
        if self.standing_per == "month":
            return self.standing / month_days(day)
        return self.standing / (date(day.year + 1, 1, 1) - date(day.year, 1, 1)).days

    @property
    def is_flat(self) -> bool:
        """Whether the hour does not matter."""
        return not self.buy.bands and not self.sell.bands


def is_holiday(text: str) -> bool:
    """Whether ``text`` names a day of any year, or of one."""
    if not HOLIDAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(text if len(text) == 10 else f"2024-{text}")
    except ValueError:
        return False
    return True


def month_days(day: date) -> int:
    """How long that month is [days]."""
    first = day.replace(day=1)
    after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return (after - first).days


# -- which tariff, which price ---------------------------------------------------------------------


class Dated(NamedTuple):
    """A tariff, and the first local day on which it holds."""

    first: date
    tariff: Tariff


def of_day(tariffs: Sequence[Dated], day: date) -> Tariff | None:
    """The tariff that holds on a day; None before the first.

    Args:
        tariffs: the earliest first.
        day: local.
    """
    place = bisect_left(tariffs, day, key=lambda each: each.first)
    if place < len(tariffs) and tariffs[place].first == day:
        return tariffs[place].tariff
    return tariffs[place - 1].tariff if place else None


class Stretch(NamedTuple):
    """A part of a day in which no price changes; times [ms], places of the bands."""

    start: int
    end: int
    buy: int
    sell: int


def stretches(tariff: Tariff, zone: tzinfo, day: date) -> list[Stretch]:
    """A local day in parts of one price each, without a gap: 23, 24 or 25 hours."""
    start, end = midnight(day, zone), midnight(date.fromordinal(day.toordinal() + 1), zone)
    weekday = tariff.weekday(day)
    if end - start == DAY_MIN * MINUTE_MS:
        return [
            Stretch(start + first * MINUTE_MS, start + after * MINUTE_MS, buy, sell)
            for first, after, buy, sell in pieces(tariff, weekday, day.month)
        ]
    found: list[Stretch] = []
    for ms in range(start, end, STEP_MIN * MINUTE_MS):
        local = datetime.fromtimestamp(ms / 1000, zone)
        minute = local.hour * 60 + local.minute
        places = (
            tariff.buy.at(minute, weekday, day.month),
            tariff.sell.at(minute, weekday, day.month),
        )
        after = min(ms + STEP_MIN * MINUTE_MS, end)
        if found and found[-1][2:] == places:
            found[-1] = found[-1]._replace(end=after)
        else:
            found.append(Stretch(ms, after, *places))
    return found


@lru_cache(maxsize=512)
def pieces(tariff: Tariff, weekday: int, month: int) -> tuple[tuple[int, int, int, int], ...]:
    """(first minute, minute after it, place to buy, place to sell) of an ordinary day."""
    cuts = {0, DAY_MIN}
    for band in (*tariff.buy.bands, *tariff.sell.bands):
        cuts |= {_minute("start", band.start), _minute("end", band.end)}
    ordered = sorted(cuts)
    found: list[tuple[int, int, int, int]] = []
    for first, after in zip(ordered, ordered[1:], strict=False):
        buy = tariff.buy.at(first, weekday, month)
        sell = tariff.sell.at(first, weekday, month)
        if found and found[-1][2:] == (buy, sell):
            found[-1] = (found[-1][0], after, buy, sell)
        else:
            found.append((first, after, buy, sell))
    return tuple(found)


# -- what it comes to ------------------------------------------------------------------------------


class Slot(msgspec.Struct, array_like=True):
    """Energy at one price: the band's name (empty = all other hours), price, Wh."""

    name: str
    price: float
    wh: float

    @property
    def amount(self) -> float:
        """What it costs or earns."""
        return self.wh / 1000 * self.price


class Bill(msgspec.Struct, omit_defaults=True):
    """What a period comes to; bills can be added up.

    Attributes:
        currency: of all amounts; empty = of no day a price is known, ``?`` = of several currencies.
        days: of which a price is known.
        without_price: of which energy is known, and no price.
        without_grid: of which nothing of the grid is known, so no cost either.
        unsure: of which the grid is known for too small a part to say what was saved.
        bought: from the grid, by price.
        sold: to the grid, by price.
        standing: what was to be paid anyway.
        fuel: of the generator.
        fuel_wh: that it gave [Wh].
        load_wh: that the house used while what was saved is known [Wh].
        plain: what that would have cost without sun and battery, all of it bought at its hour.
        saved: ``plain`` less what it did cost, and what was sold.
        saved_days: of which that is known.
        co2_g: that grid and generator made [g].
        co2_saved_g: that they would have made for all of the load, less ``co2_g`` [g].
        co2_sold_g: that others did not need, for what was given to the grid [g].
    """

    currency: str = ""
    days: int = 0
    without_price: int = 0
    without_grid: int = 0
    unsure: int = 0
    bought: list[Slot] = []
    sold: list[Slot] = []
    standing: float = 0.0
    fuel: float = 0.0
    fuel_wh: float = 0.0
    load_wh: float = 0.0
    plain: float = 0.0
    saved: float = 0.0
    saved_days: int = 0
    co2_g: float = 0.0
    co2_saved_g: float = 0.0
    co2_sold_g: float = 0.0

    @property
    def is_mixed(self) -> bool:
        """Whether its amounts cannot be added up, being of several currencies."""
        return self.currency == "?"

    @property
    def has_cost(self) -> bool:
        """Whether anything is known of what was paid."""
        return self.days > self.without_grid and not self.is_mixed

    @property
    def has_saved(self) -> bool:
        """Whether anything is known of what was saved."""
        return self.saved_days > 0 and not self.is_mixed

    @property
    def bought_wh(self) -> float:
        """From the grid [Wh]."""
        return sum(slot.wh for slot in self.bought)

    @property
    def sold_wh(self) -> float:
        """To the grid [Wh]."""
        return sum(slot.wh for slot in self.sold)

    @property
    def spent(self) -> float:
        """For energy, fuel and what is to be paid anyway."""
        return sum(slot.amount for slot in self.bought) + self.standing + self.fuel

    @property
    def earned(self) -> float:
        """For what was given to the grid."""
        return sum(slot.amount for slot in self.sold)

    @property
    def cost(self) -> float:
        """``spent`` less ``earned``."""
        return self.spent - self.earned


def total(bills: Iterable[Bill]) -> Bill:
    """Several bills as one."""
    made = Bill()
    bought: dict[tuple[str, float], float] = {}
    sold: dict[tuple[str, float], float] = {}
    for bill in bills:
        if bill.currency and made.currency and bill.currency != made.currency:
            made.currency = "?"
        else:
            made.currency = made.currency or bill.currency
        for name in _SUMS:
            setattr(made, name, getattr(made, name) + getattr(bill, name))
        for sums, slots in ((bought, bill.bought), (sold, bill.sold)):
            for slot in slots:
                key = (slot.name, slot.price)
                sums[key] = sums.get(key, 0.0) + slot.wh
    made.bought = [Slot(*key, wh) for key, wh in bought.items()]
    made.sold = [Slot(*key, wh) for key, wh in sold.items()]
    return made


_SUMS = tuple(name for name in Bill.__struct_fields__ if name not in ("currency", "bought", "sold"))


@dataclass(frozen=True, slots=True)
class Used:
    """What the books say of a day or a part of it.

    Attributes:
        wh: energy of each flow in each stretch [Wh]; only flows of which something is known.
        covered_s: for how much of the time each is known [s].
    """

    wh: Mapping[str, Sequence[float]]
    covered_s: Mapping[str, float]


def bill(
    tariff: Tariff | None, parts: Sequence[Stretch], used: Used, day: date, share: float = 1.0
) -> Bill:
    """What a day comes to, or a part of it.

    Args:
        tariff: that holds; None = there is none yet.
        parts: of one price each.
        used: their energies.
        day: local.
        share: of the day, for what is to be paid anyway.
    """
    known = {flow: used.wh[flow] for flow in FLOWS if flow in used.wh}
    if tariff is None:
        return Bill(without_price=1 if known else 0)
    made = Bill(tariff.currency, days=1, standing=tariff.standing_of(day) * share)
    load = known.get("load")
    grid_in = known.get("grid_import")
    if grid_in is None and not tariff.has_grid:
        grid_in = [0.0] * len(parts)
    made.without_grid = 1 if grid_in is None else 0
    if grid_in is not None:
        made.bought = _slots(tariff.buy, [part.buy for part in parts], grid_in)
    if "grid_export" in known:
        made.sold = _slots(tariff.sell, [part.sell for part in parts], known["grid_export"])
    made.fuel_wh = sum(known.get("generator", ()))
    made.fuel = made.fuel_wh / 1000 * tariff.fuel
    bought_wh = sum(grid_in or ())
    made.co2_g = (bought_wh * tariff.co2_grid + made.fuel_wh * tariff.co2_generator) / 1000
    made.co2_sold_g = made.sold_wh / 1000 * tariff.co2_grid
    if load is None or grid_in is None:
        return made
    seen, of = used.covered_s.get("grid_import"), used.covered_s.get("load", 0.0)
    if seen is not None and seen < UNSURE * of:
        made.unsure = 1
        return made
    made.load_wh = sum(load)
    made.plain = sum(
        wh / 1000 * tariff.buy.price_of(part.buy) for wh, part in zip(load, parts, strict=True)
    )
    paid = sum(slot.amount for slot in made.bought) + made.fuel - made.earned
    made.saved, made.saved_days = made.plain - paid, 1
    made.co2_saved_g = made.load_wh / 1000 * tariff.co2_grid - made.co2_g
    return made


def _slots(side: Side, places: Sequence[int], wh: Sequence[float]) -> list[Slot]:
    """Energy by name and price, in the order of the tariff, the other hours last."""
    sums: dict[int, float] = {}
    for place, energy in zip(places, wh, strict=True):
        sums[place] = sums.get(place, 0.0) + energy
    merged: dict[tuple[str, float], float] = {}
    for place in sorted(sums, key=lambda each: (each == OTHERWISE, each)):
        key = (side.name_of(place), side.price_of(place))
        merged[key] = merged.get(key, 0.0) + sums[place]
    return [Slot(*key, energy) for key, energy in merged.items()]
