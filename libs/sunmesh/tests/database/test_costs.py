"""Bills from books in a database: days, hours, months that are kept, and what makes them anew."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy import Engine
from sunmesh.database import costs
from sunmesh.database.energy import Bucket, Change, book, edit, undo
from sunmesh.database.migrations import migrate
from sunmesh.database.sql import engine
from sunmesh.database.tariff import Band, Side, Tariff, total

ROME = ZoneInfo("Europe/Rome")
FLAT = Tariff(buy=Side(0.30), sell=Side(0.08), standing=0.5, standing_per="day", co2_grid=300.0)
NIGHT = msgspec.structs.replace(FLAT, buy=Side(0.40, (Band("night", 0.20, "22:00", "06:00"),)))
NOW = round(datetime(2026, 5, 10, 12, tzinfo=ROME).timestamp() * 1000)
FIRST, LAST = date(2026, 3, 28), date(2026, 5, 10)
W = {"load": 40.0, "grid_import": 10.0, "grid_export": 5.0}
"""Wh in each five minutes."""


def midnight(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=ROME).timestamp() * 1000)


@pytest.fixture
def books(url: str) -> Iterator[Engine]:
    migrate(url)
    opened = engine(url)
    with opened.begin() as connection:
        for flow, wh in W.items():
            start, end = midnight(FIRST), midnight(LAST + timedelta(days=1))
            rows = (Bucket(ts, wh, "power", "measured", 300) for ts in range(start, end, 300_000))
            book(connection, ROME, flow, start, end, rows)
    yield opened
    opened.dispose()


def keep(opened: Engine, first: date, tariff: Tariff, instead_of: date | None = None) -> None:
    with opened.begin() as connection:
        costs.save(connection, first, tariff, "anna", instead_of=instead_of, now=NOW)


def days(opened: Engine, first: date, end: date):
    with opened.connect() as connection:
        return costs.day_bills(connection, ROME, costs.tariffs(connection), first, end)


def months(opened: Engine, memory=None):
    with opened.connect() as connection:
        known = costs.tariffs(connection)
        memory = {} if memory is None else memory
        return costs.month_bills(
            connection, ROME, known, date(2020, 1, 1), date(2027, 1, 1), memory, NOW
        )


def test_days_flat_and_by_the_hour(books: Engine) -> None:
    keep(books, date(2026, 3, 1), FLAT)
    keep(books, date(2026, 4, 1), NIGHT)
    found = days(books, date(2026, 3, 28), date(2026, 4, 2))
    assert list(found) == [date(2026, 3, d) for d in (28, 29, 30, 31)] + [date(2026, 4, 1)]
    short = found[date(2026, 3, 29)]
    assert short.bought_wh == pytest.approx(23 * 120), "a day of 23 hours"
    assert short.cost == pytest.approx(23 * (0.12 * 0.30 - 0.06 * 0.08) + 0.5)
    assert short.saved == pytest.approx(23 * (0.36 * 0.30 + 0.06 * 0.08))
    by_hour = found[date(2026, 4, 1)]
    assert {slot.name: round(slot.wh) for slot in by_hour.bought} == {"night": 960, "": 1920}
    assert by_hour.plain == pytest.approx(8 * 0.48 * 0.20 + 16 * 0.48 * 0.40)


def test_hours_are_the_day(books: Engine) -> None:
    keep(books, date(2026, 3, 1), NIGHT)
    for day in (date(2026, 3, 29), date(2026, 4, 10)):
        with books.connect() as connection:
            known = costs.tariffs(connection)
            found = costs.hour_bills(connection, ROME, known, day)
        [whole] = days(books, day, day + timedelta(days=1)).values()
        together = total(each for _ms, each in found)
        assert together.cost == pytest.approx(whole.cost)
        assert together.saved == pytest.approx(whole.saved)
        assert [round(each.bought_wh) for _ms, each in found] == [120] * len(found)


def test_months_are_kept_until_something_changes(books: Engine) -> None:
    keep(books, date(2026, 3, 1), NIGHT)
    first = months(books)
    assert list(first.bills) == [date(2026, m, 1) for m in (3, 4, 5)]
    assert list(first.fresh) == [date(2026, m, 1) for m in (3, 4)], "May is not over"
    assert first.bills[date(2026, 3, 1)].days == 4
    assert first.bills[date(2026, 4, 1)].standing == pytest.approx(15.0)
    with books.begin() as connection:
        costs.keep(connection, first.fresh)
        costs.keep(connection, first.fresh)
    again = months(books)
    assert again.bills == first.bills
    assert not again.fresh
    with books.begin() as connection:
        start = midnight(date(2026, 4, 10))
        number = edit(
            connection,
            ROME,
            [Change("grid_import", start, start + 3_600_000, 5000.0)],
            by="anna",
            reason="the meter stood still",
            now=NOW,
        )
    corrected = months(books)
    assert list(corrected.fresh) == [date(2026, 4, 1)], "and no other month"
    more = corrected.bills[date(2026, 4, 1)].cost - first.bills[date(2026, 4, 1)].cost
    assert more == pytest.approx((5 - 0.12) * 0.20)
    with books.begin() as connection:
        undo(connection, ROME, number, "anna", NOW)
    assert months(books).bills == first.bills


def test_another_tariff_changes_its_months_alone(books: Engine) -> None:
    keep(books, date(2026, 3, 1), FLAT)
    memory = {}
    before = months(books, memory)
    keep(books, date(2026, 4, 15), NIGHT)
    after = months(books, memory)
    assert list(after.fresh) == [date(2026, 4, 1)]
    assert after.bills[date(2026, 3, 1)] == before.bills[date(2026, 3, 1)]
    assert after.bills[date(2026, 5, 1)] != before.bills[date(2026, 5, 1)]
    assert {slot.price for slot in after.bills[date(2026, 4, 1)].bought} == {0.3, 0.2, 0.4}


def test_before_the_first_tariff_no_price_is_known(books: Engine) -> None:
    assert all(each.without_price for each in days(books, FIRST, LAST).values())
    keep(books, date(2026, 4, 11), FLAT)
    april = months(books).bills[date(2026, 4, 1)]
    assert (april.days, april.without_price) == (20, 10)


def test_tariffs_are_kept_replaced_and_removed(books: Engine) -> None:
    keep(books, date(2026, 1, 1), FLAT)
    with pytest.raises(costs.TariffError, match="begins on 2026-01-01 already"):
        keep(books, date(2026, 1, 1), NIGHT)
    keep(books, date(2026, 2, 1), NIGHT, instead_of=date(2026, 1, 1))
    with pytest.raises(costs.TariffError, match="no tariff from 2026-01-01"):
        keep(books, date(2026, 1, 1), NIGHT, instead_of=date(2026, 1, 1))
    with pytest.raises(costs.TariffError, match="begins between"):
        keep(books, date(1999, 1, 1), NIGHT)
    with books.begin() as connection:
        [entry] = costs.entries(connection)
        assert (entry.first, entry.tariff, entry.by) == (date(2026, 2, 1), NIGHT, "anna")
        assert costs.remove(connection, entry.first)
        assert not costs.remove(connection, entry.first)


def test_empty_books(url: str) -> None:
    migrate(url)
    opened = engine(url)
    keep(opened, date(2026, 1, 1), NIGHT)
    assert days(opened, FIRST, LAST) == {}
    assert months(opened).bills == {}
    with opened.connect() as connection:
        found = costs.hour_bills(connection, ROME, costs.tariffs(connection), FIRST)
    assert len(found) == 24
    assert not any(each.has_cost for _ms, each in found)
    opened.dispose()
