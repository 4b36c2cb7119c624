"""Prices by the clock on the wall, and bills counted by hand."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sunmesh.database.tariff import (
    Band,
    Bill,
    Dated,
    Side,
    Slot,
    Stretch,
    Tariff,
    Used,
    bill,
    of_day,
    stretches,
    total,
)

ROME, SYDNEY = ZoneInfo("Europe/Rome"), ZoneInfo("Australia/Sydney")
NIGHT = Tariff(buy=Side(0.40, (Band("night", 0.20, "22:00", "06:00"),)))
ITALY = Tariff(
    buy=Side(
        0.30,  # F3
        (
            Band("F1", 0.36, "08:00", "19:00", (1, 2, 3, 4, 5)),
            Band("F2", 0.33, "07:00", "23:00", (1, 2, 3, 4, 5, 6)),
        ),
    ),
    holidays=("12-25", "2026-04-06"),
)


def shown(tariff: Tariff, zone: ZoneInfo, day: date) -> list[tuple[str, str, str]]:
    return [
        (
            f"{datetime.fromtimestamp(part.start / 1000, zone):%H:%M}",
            f"{datetime.fromtimestamp(part.end / 1000, zone):%H:%M}",
            tariff.buy.name_of(part.buy),
        )
        for part in stretches(tariff, zone, day)
    ]


def test_an_ordinary_day() -> None:
    assert shown(NIGHT, ROME, date(2026, 6, 10)) == [
        ("00:00", "06:00", "night"),
        ("06:00", "22:00", ""),
        ("22:00", "00:00", "night"),
    ]


def test_weekdays_and_holidays() -> None:
    assert shown(ITALY, ROME, date(2026, 6, 10)) == [  # a Wednesday
        ("00:00", "07:00", ""),
        ("07:00", "08:00", "F2"),
        ("08:00", "19:00", "F1"),
        ("19:00", "23:00", "F2"),
        ("23:00", "00:00", ""),
    ]
    assert [name for _, _, name in shown(ITALY, ROME, date(2026, 6, 13))] == ["", "F2", ""]
    for holiday in (date(2026, 6, 14), date(2026, 12, 25), date(2026, 4, 6)):
        assert shown(ITALY, ROME, holiday) == [("00:00", "00:00", "")]
    assert len(shown(ITALY, ROME, date(2027, 4, 6))) == 5, "once is once"


def test_seasons() -> None:
    summer = Tariff(buy=Side(0.4, (Band("summer", 0.3, months=(6, 7, 8)),)))
    assert shown(summer, ROME, date(2026, 7, 1)) == [("00:00", "00:00", "summer")]
    assert shown(summer, ROME, date(2026, 9, 1)) == [("00:00", "00:00", "")]


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("zone", "day", "hours", "night_hours"),
    [
        (ROME, date(2026, 3, 29), 23, 7),
        (ROME, date(2026, 10, 25), 25, 9),
        (SYDNEY, date(2026, 10, 4), 23, 7),
        (SYDNEY, date(2026, 4, 5), 25, 9),
        (ZoneInfo("America/New_York"), date(2026, 11, 1), 25, 9),
        (ZoneInfo("Asia/Kathmandu"), date(2026, 11, 1), 24, 8),
    ],
)
def test_days_on_which_the_clocks_change(zone, day, hours, night_hours) -> None:
    parts = stretches(NIGHT, zone, day)
    assert sum(part.end - part.start for part in parts) == hours * HOUR
    assert all(a.end == b.start for a, b in zip(parts, parts[1:], strict=False))
    night = sum(part.end - part.start for part in parts if part.buy == 0)
    assert night == night_hours * HOUR


def test_a_band_in_the_hour_that_comes_twice_holds_twice() -> None:
    half = Tariff(buy=Side(0.4, (Band("half", 0.1, "02:30", "03:00"),)))
    parts = [part for part in stretches(half, ROME, date(2026, 10, 25)) if part.buy == 0]
    assert [(part.end - part.start) // 60_000 for part in parts] == [30, 30]
    assert stretches(half, ROME, date(2026, 3, 29)) == [
        Stretch(*(round(datetime(2026, 3, d, h, tzinfo=UTC).timestamp() * 1000) for d, h in AT), *P)
    ], "and in the hour that is left out, never"


AT, P = ((28, 23), (29, 22)), (-1, -1)


def test_which_tariff_holds() -> None:
    known = [Dated(date(2026, 1, 1), NIGHT), Dated(date(2026, 7, 1), ITALY)]
    assert of_day(known, date(2025, 12, 31)) is None
    assert of_day(known, date(2026, 1, 1)) is NIGHT
    assert of_day(known, date(2026, 6, 30)) is NIGHT
    assert of_day(known, date(2026, 7, 1)) is ITALY
    assert of_day(known, date(2030, 1, 1)) is ITALY
    assert of_day([], date(2030, 1, 1)) is None


PARTS = [Stretch(0, 1, 0, -1), Stretch(1, 2, -1, -1)]
FULL = msgspec.structs.replace(
    NIGHT,
    sell=Side(0.10),
    standing=15.5,
    fuel=0.80,
    co2_grid=400.0,
    co2_generator=900.0,
)
DAY = date(2026, 1, 10)


def test_a_day_by_hand() -> None:
    wh = {
        "load": [4000.0, 6000.0],
        "grid_import": [1000.0, 500.0],
        "grid_export": [0.0, 3000.0],
        "generator": [0.0, 250.0],
    }
    found = bill(FULL, PARTS, Used(wh, dict.fromkeys(wh, 86_400.0)), DAY)
    assert [(slot.name, slot.wh, slot.amount) for slot in found.bought] == [
        ("night", 1000.0, pytest.approx(0.20)),
        ("", 500.0, pytest.approx(0.20)),
    ]
    assert found.earned == pytest.approx(0.30)
    assert found.standing == pytest.approx(0.50), "a 31st of a month of 31 days"
    assert found.fuel == pytest.approx(0.20)
    assert found.spent == pytest.approx(0.20 + 0.20 + 0.50 + 0.20)
    assert found.cost == pytest.approx(1.10 - 0.30)
    assert found.plain == pytest.approx(4 * 0.20 + 6 * 0.40)
    assert found.saved == pytest.approx(3.20 - (0.40 + 0.20 - 0.30))
    assert found.co2_g == pytest.approx(1.5 * 400 + 0.25 * 900)
    assert found.co2_saved_g == pytest.approx(10 * 400 - 825)
    assert found.co2_sold_g == pytest.approx(3 * 400)
    assert (found.days, found.saved_days) == (1, 1)


def test_what_is_not_known_is_not_made_up() -> None:
    load = {"load": [1000.0, 1000.0]}
    seen = {"load": 86_400.0}
    without = bill(FULL, PARTS, Used(load, seen), DAY)
    assert (without.without_grid, without.has_cost, without.has_saved) == (1, False, False)
    island = msgspec.structs.replace(FULL, has_grid=False)
    own = bill(island, PARTS, Used(load, seen), DAY)
    assert own.has_saved
    assert own.saved == pytest.approx(0.20 + 0.40)
    half = Used(load | {"grid_import": [0.0, 0.0]}, seen | {"grid_import": 43_200.0})
    unsure = bill(FULL, PARTS, half, DAY)
    assert (unsure.unsure, unsure.has_saved, unsure.has_cost) == (1, False, True)
    before = bill(None, PARTS, Used(load, seen), DAY)
    assert (before.days, before.without_price) == (0, 1)
    assert bill(None, PARTS, Used({}, {}), DAY).without_price == 0


def test_bills_add_up() -> None:
    one = Bill("EUR", days=1, bought=[Slot("night", 0.2, 100.0)], standing=0.5, saved=1.0)
    two = Bill("EUR", days=1, bought=[Slot("night", 0.2, 50.0), Slot("night", 0.3, 10.0)])
    both = total([one, two, Bill(without_price=1)])
    assert both.currency == "EUR"
    assert [(slot.price, slot.wh) for slot in both.bought] == [(0.2, 150.0), (0.3, 10.0)]
    assert (both.days, both.without_price, both.standing, both.saved) == (2, 1, 0.5, 1.0)
    mixed = total([one, Bill("CZK", days=1)])
    assert mixed.is_mixed
    assert not mixed.has_cost
    assert total([]) == Bill()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"buy": {"price": -0.1}}, "price must be 0"),
        ({"buy": {"price": 1e9}}, "price must be 0"),
        ({"buy": {"price": 1, "bands": [{"name": "", "price": 1}]}}, "name must be 1 to 40"),
        ({"buy": {"price": 1, "bands": [{"name": "a", "price": 1, "start": "25:00"}]}}, "a time"),
        ({"buy": {"price": 1, "bands": [{"name": "a", "price": 1, "end": "06:03"}]}}, "five min"),
        ({"buy": {"price": 1, "bands": [{"name": "a", "price": 1, "weekdays": [8]}]}}, "1 to 7"),
        ({"buy": {"price": 1, "bands": [{"name": "a", "price": 1, "months": [1, 1]}]}}, "differ"),
        (
            {"buy": {"bands": [{"name": "a", "price": 1}, {"name": "A", "price": 2}]}},
            "two prices",
        ),
        ({"currency": "euro"}, "three letters"),
        ({"co2_grid": -1}, "co2_grid must be 0"),
        ({"holidays": ["02-30"]}, "days such as"),
        ({"holidays": ["2026-02-29"]}, "days such as"),
        ({"standing_per": "week"}, "Invalid enum"),
        ({"unknown": 1}, "unknown field"),
    ],
)
def test_what_cannot_be_is_refused(change, why) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(change, Tariff)


times = st.integers(0, 288).map(lambda n: f"{n * 5 // 60:02d}:{n * 5 % 60:02d}")
bands = st.builds(
    Band,
    name=st.sampled_from(["a", "b", "c"]).map(str),
    price=st.just(0.1),
    start=times,
    end=times,
    weekdays=st.sets(st.integers(1, 7)).map(tuple),
    months=st.sets(st.integers(1, 12)).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(bands, max_size=4).map(tuple),
    st.dates(date(2025, 1, 1), date(2027, 12, 31)),
    st.sampled_from([ROME, SYDNEY, ZoneInfo("America/St_Johns"), ZoneInfo("Pacific/Apia")]),
)
def test_every_minute_has_the_price_of_its_clock(found, day, zone) -> None:
    tariff = Tariff(buy=Side(0.3, found))
    parts = stretches(tariff, zone, day)
    assert all(a.end == b.start for a, b in zip(parts, parts[1:], strict=False))
    for part in parts:
        for ms in (part.start, part.end - 300_000):
            local = datetime.fromtimestamp(ms / 1000, zone)
            assert local.date() == day
            minute = local.hour * 60 + local.minute
            assert part.buy == tariff.buy.at(minute, tariff.weekday(day), day.month)
