"""Periods, bars, records and the map of a year, without any database."""

from array import array
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web import text
from web.history import repair as repairs
from web.history.bars import nice
from web.history.days import Column, Days
from web.history.metrics import METRICS, chosen, offered
from web.history.records import records
from web.history.repair import Bucket, RepairError
from web.history.view import alike, build, default_other, heat_map
from web.periods import Period, PeriodError, between, month_of, parse, year_of

ROME = ZoneInfo("Europe/Rome")
TODAY = date(2026, 11, 21)
SPAN = (date(2023, 6, 10), date(2026, 11, 22))


def books(first: date, **flows: list[float | None]) -> Days:
    """Days from Wh; None = nothing known."""
    count = max(map(len, flows.values()))
    columns = {
        flow: Column(
            array("d", [float("nan") if wh is None else wh for wh in whs]),
            array("d", [0.0 if wh is None else 86_400.0 for wh in whs]),
            {"measured": array("d", [wh or 0.0 for wh in whs])},
        )
        for flow, whs in flows.items()
    }
    return Days(first, count, columns, ROME)


def plain(said: str) -> str:
    return said.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("name", "first", "end", "step"),
    [
        ("2026-11", date(2026, 11, 1), date(2026, 12, 1), "day"),
        ("2024", date(2024, 1, 1), date(2025, 1, 1), "month"),
        ("total", *SPAN, "year"),
        ("2026-06-01", date(2026, 6, 1), date(2026, 6, 2), "day"),
        ("2026-06-01..2026-06-02", date(2026, 6, 1), date(2026, 6, 3), "day"),
        ("2026-02-01..2026-08-15", date(2026, 2, 1), date(2026, 8, 16), "month"),
        ("2016-02-01..2026-08-15", date(2016, 2, 1), date(2026, 8, 16), "year"),
    ],
)
def test_addresses_name_periods(name: str, first: date, end: date, step: str) -> None:
    period = parse(name, TODAY, SPAN)
    assert (period.first, period.end, period.step, period.name) == (first, end, step, name)


@pytest.mark.parametrize(
    "name",
    [
        *("2026-13", "2026-00", "0001", "1999", "2027", "2026-12", "26-11", "２０２６", "2026-1"),
        *("2026-02-30..2026-03-01", "2026-03-01..2026-02-01", "1026-03-01..2026-02-01"),
        *("2000-01-01..9990-02-01", "2026-12-24..2026-12-25", "<b>", "", "total2", "../etc"),
        *("9999", "9999-12", "9990", "2026-02-30", "20261121", "2026-11-22", "-" * 10),
    ],
)
def test_what_is_no_period_is_refused_in_words(name: str) -> None:
    with pytest.raises(PeriodError, match=r"[.]$"):
        parse(name, TODAY, SPAN)


@given(st.dates(date(2001, 1, 1), date(2100, 1, 1)), st.integers(1, 4000))
def test_parts_cover_a_period_without_holes(first: date, length: int) -> None:
    period = Period("range", first, first + timedelta(days=length + 1))
    parts = [period.clipped(part) for part in period.parts()]
    assert parts[0].first == period.first
    assert parts[-1].end == period.end
    assert all(a.end == b.first for a, b in zip(parts, parts[1:], strict=False))
    assert parse(period.name, period.last, SPAN) == period


def test_neighbours_and_other_years() -> None:
    march = month_of(date(2024, 3, 31))
    assert march.before() == month_of(date(2024, 2, 1))
    assert march.after().name == "2024-04"
    assert march.moved(-1).name == "2023-03"
    leap = between("2024-02-29", "2024-03-01")
    assert leap.moved(1).name == "2025-03-01..2025-03-02"
    assert leap.before().name == "2024-02-27..2024-02-28"
    assert year_of(date(2000, 5, 5)).before().name == "1999"
    total = parse("total", TODAY, SPAN)
    assert (total.before(), total.after(), total.moved(1)) == (None, None, None)


@given(st.floats(0.001, 1e9), st.integers(3, 6))
def test_steps_are_round_and_enough(most: float, marks: int) -> None:
    for fine in (False, True):
        step = nice(most, marks, fine=fine)
        assert step * marks >= most * 0.99
        assert step * marks <= most * 10


def test_figures_say_only_what_is_known() -> None:
    days = books(date(2026, 11, 1), pv=[1000.0, None, 3000.0], load=[2000.0, None, 1000.0])
    made = days.figures(date(2026, 11, 1), date(2026, 11, 4))
    assert made.wh("pv") == 4000
    assert made.covered("pv") == pytest.approx(2 / 3)
    assert made.wh("grid_import") is None
    assert made.autarky is None
    assert not days.figures(date(2026, 11, 2), date(2026, 11, 3)).flows
    assert not days.figures(date(2020, 1, 1), date(2021, 1, 1)).flows


def test_metrics_are_those_of_the_house() -> None:
    assert [m.key for m in offered({"load", "grid_import"})] == [
        *("balance", "house", "grid", "autarky")
    ]
    assert offered({"load"})[0].flow == "load"
    assert chosen("sun", {"load"}) is None
    assert chosen("sun", {"pv"}).flow == "pv"
    assert len({metric.key for metric in METRICS}) == len(METRICS)


def house() -> Days:
    """A year and a half: more sun in summer, the grid in winter, two unknown days."""
    sun, load, grid = [], [], []
    first = date(2025, 6, 1)
    for number in range(520):
        month = (first + timedelta(days=number)).month
        lost = number in (100, 101)
        sun.append(None if lost else 20_000.0 if 4 <= month <= 9 else 5_000.0 + number)
        load.append(None if lost else 10_000.0)
        grid.append(None if lost else 0.0 if 4 <= month <= 9 else 6_000.0)
    return books(first, pv=sun, load=load, grid_import=grid)


def view(name: str, metric: str = "balance", days: Days | None = None, other=None):
    days = house() if days is None else days
    period = parse(name, days.end, (days.first, days.end))
    return build(
        days,
        period,
        chosen(metric, days.columns),
        other,
        lambda p, **_: f"/history/{p.name}",
        lambda p: f"/down/{p.name}",
    )


def test_a_month_in_bars() -> None:
    made = view("2025-09")
    assert len(made.bars.bars) == 30
    assert plain(made.headline) == "560.0 kWh from the sun, and nothing was bought."
    tenth = made.bars.bars[9]  # 10 September: unknown
    assert tenth.pieces == []
    assert "nothing is known" in tenth.says
    assert tenth.item.href == ""
    first = made.bars.bars[0]
    assert first.item.href == "/down/2025-09-01"
    assert [piece.key for piece in first.pieces] == ["sun", "house"]
    assert "10.00 kWh straight from the sun" in plain(first.says)
    assert made.bars.compared is False


def test_areas_reach_from_the_middle_and_add_up() -> None:
    made = view("2026-01")
    zero = float(made.bars.zero.rstrip("%"))
    for bar in made.bars.bars:
        ups = [piece for piece in bar.pieces if piece.side == "up"]
        edges = [
            (float(p.y.rstrip("%")), float(p.y.rstrip("%")) + float(p.height.rstrip("%")))
            for p in ups
        ]
        assert edges[0][1] == pytest.approx(zero, abs=0.01)
        assert all(
            a[0] == pytest.approx(b[1], abs=0.01) for a, b in zip(edges, edges[1:], strict=False)
        )
    assert [key for key, _name, _sum in made.bars.up] == ["sun", "grid"]


def test_an_open_month_is_compared_by_the_same_days() -> None:
    days = house()  # ends on 2 November 2026
    period = month_of(days.end - timedelta(days=1))
    assert days.end == date(2026, 11, 3)
    assert alike(days, period, month_of(date(2025, 11, 1))).end == date(2025, 11, 3)
    made = view("2026-11", "sun", days)
    assert "until 2 Nov" in made.compared
    assert [year.label for year in made.years] == ["November 2025", "November 2026"]
    assert made.years[-1].here
    assert "until 2 Nov" in made.years_note
    assert default_other(days, month_of(date(2025, 6, 1))) is None


def test_a_comparison_is_marked_beside_each_bar() -> None:
    made = view("2026-07", "house", other=month_of(date(2025, 7, 1)))
    assert made.bars.compared
    assert all(bar.was_y for bar in made.bars.bars)
    assert "compared with 10.00 kWh" in plain(made.bars.bars[0].says)


def test_a_year_as_a_map() -> None:
    days = house()
    made = heat_map(days, year_of(date(2025, 1, 1)), chosen("sun", days.columns))
    assert len(made.rows) == 12
    january, september = made.rows[0][2], made.rows[8][2]
    assert {cell.level for cell in january} == {""}, "before the books began"
    assert [cell.level for cell in september[7:12]] == ["5", "", "", "5", "5"]
    assert len(made.rows[1][2]) == 28
    assert made.steps[0] == "0"
    shares = heat_map(days, year_of(date(2026, 1, 1)), chosen("autarky", days.columns))
    assert shares.unit == "%"
    assert shares.rows[5][2][0].level == "5"
    assert heat_map(days, month_of(date(2026, 1, 1)), METRICS[1]) is None


def test_records_and_what_holds_none() -> None:
    days = house()
    total = parse("total", days.end, (days.first, days.end))
    found = {record.key: record for record in records(days, total)}
    assert found["sunniest"].is_day
    assert plain(found["sunniest"].amount) == "20.00 kWh"
    assert found["darkest"].first == date(2025, 10, 1)
    assert found["alone"].first == date(2026, 4, 1)
    assert found["alone"].last == date(2026, 9, 30)
    assert found["alone"].amount == "183 days"
    assert "sold" not in found, "the house gives nothing to the grid"
    few = books(date(2026, 11, 1), pv=[1000.0])
    assert records(few, month_of(few.first)) == []


def test_a_day_hardly_known_is_no_darkest_day() -> None:
    days = books(date(2026, 11, 1), pv=[5000.0, 100.0, 4000.0, 200.0])
    days.columns["pv"].covered_s[1] = 3600
    found = {r.key: r for r in records(days, month_of(days.first))}
    assert found["darkest"].first == date(2026, 11, 3), "nor is today, which is not over"


def test_marks_say_what_is_behind_a_bar() -> None:
    days = books(date(2026, 11, 1), pv=[5000.0, 5000.0, 5000.0])
    days.columns["pv"].flags = {
        "measured": array("d", [5000, 0, 4000]),
        "estimated": array("d", [0, 5000, 0]),
        "edited": array("d", [0, 0, 1000]),
    }
    days.columns["pv"].covered_s[0] = 43_200
    made = view("2026-11", "sun", days)
    assert [bar.glyphs for bar in made.bars.bars[:3]] == ["◐", "≈", "✎"]
    assert "50 % of the time is known" in plain(made.bars.bars[0].says)
    assert "20 % corrected by hand" in plain(made.bars.bars[2].says)
    assert len(made.bars.marks) == 3


def test_an_empty_house_has_an_empty_view() -> None:
    made = Days(date(2026, 11, 1), 0, {}, ROME)
    assert not made
    assert made.figures(date(2026, 11, 1), date(2026, 12, 1)).flows == {}


def test_it_speaks_the_language_of_the_page() -> None:
    with text.use("de"):
        assert month_of(date(2026, 3, 1)).title == "März 2026"


# -- corrections ---------------------------------------------------------------------------------


DAY = date(2026, 10, 25)  # 25 hours


def ms(said: str) -> int:
    return round(datetime.fromisoformat(said).timestamp() * 1000)


@pytest.mark.parametrize(
    ("clock", "is_end", "utc"),
    [
        ("00:00", False, "2026-10-24T22:00+00:00"),
        ("00:00", True, "2026-10-25T23:00+00:00"),
        ("24:00", True, "2026-10-25T23:00+00:00"),
        ("02:30", False, "2026-10-25T00:30+00:00"),
        ("02:30", True, "2026-10-25T01:30+00:00"),
        ("02:30+01:00", False, "2026-10-25T01:30+00:00"),
        ("02:30 01:00", False, "2026-10-25T01:30+00:00"),
    ],
)
def test_times_on_the_day_that_has_an_hour_twice(clock: str, is_end: bool, utc: str) -> None:
    assert repairs.moment(DAY, clock, ROME, is_end=is_end) == ms(utc)


def test_times_are_written_so_that_they_are_read_back() -> None:
    start, end = ms("2026-10-24T22:00+00:00"), ms("2026-10-25T23:00+00:00")
    for at in range(start, end, 300_000):
        assert repairs.moment(DAY, repairs.clock_of(at, ROME), ROME) == at
    assert repairs.clock_of(end, ROME, is_end=True) == "24:00"


@pytest.mark.parametrize("clock", ["25:00", "12:03", "noon", "", "12:00+99:00", "02:30+14:00"])
def test_what_is_no_time_is_refused(clock: str) -> None:
    with pytest.raises(RepairError):
        repairs.moment(DAY, clock, ROME)


NOW = ms("2026-11-21T12:00+00:00")
START = ms("2026-11-20T10:00+00:00")
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("flow", "end", "deed", "kwh"),
    [
        ("sun", START + HOUR, "set", "1"),
        ("pv", START, "set", "1"),
        ("pv", START + 40 * 24 * HOUR, "set", "1"),
        ("pv", START + 8 * 24 * HOUR, "spread", ""),
        ("pv", NOW + HOUR, "set", "1"),
        ("pv", START + HOUR, "steal", "1"),
        ("pv", START + HOUR, "set", ""),
        ("pv", START + HOUR, "set", "-1"),
        ("pv", START + HOUR, "set", "nan"),
        ("pv", START + HOUR, "set", "inf"),
        ("pv", START + HOUR, "set", "1e9"),
        ("pv", START + HOUR, "set", "12 kWh"),
    ],
)
def test_wishes_that_cannot_be(flow: str, end: int, deed: str, kwh: str) -> None:
    with pytest.raises(RepairError, match=r"[.?]$"):
        repairs.wish(flow, START, end, deed, kwh, NOW)


def test_deeds_become_changes() -> None:
    lump = [Bucket(START + 900_000, 1200.0, "recovered", 300, None, None)]
    made = repairs.changes(repairs.wish("pv", START, START + HOUR, "spread", "", NOW), lump)
    assert len(made) == 12
    assert {change.wh for change in made} == {100.0}
    (set_to,) = repairs.changes(repairs.wish("pv", START, START + HOUR, "set", "1,5", NOW), lump)
    assert set_to.wh == 1500
    (zero,) = repairs.changes(repairs.wish("pv", START, START + HOUR, "zero", "", NOW), lump)
    assert zero.wh == 0
    with pytest.raises(RepairError, match="no energy"):
        repairs.changes(repairs.wish("pv", START, START + HOUR, "spread", "", NOW), [])


def test_a_day_of_buckets_as_a_picture() -> None:
    start = ms("2026-10-24T22:00+00:00")
    rows = [Bucket(start + n * 300_000, 50.0, "measured", 300, None, None) for n in range(300)]
    made = repairs.day_books(DAY, ROME, rows, (start, start + HOUR))
    assert made.odd
    assert len(made.sticks) == 300
    assert len(made.hours) == 25
    assert [hour.chosen for hour in made.hours].count(True) == 1
    assert made.selected[0] == "0.0000%"
    assert plain(made.total) == "15.00 kWh"
    assert not repairs.day_books(date(2026, 11, 20), ROME, [], None).odd
