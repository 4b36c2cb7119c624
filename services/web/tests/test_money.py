"""The page *Money*: what is said of a period, the form of a tariff, who may change one."""

import math
import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from sunmesh.database.energy import Bucket, book
from sunmesh.database.sql import engine
from sunmesh.database.tariff import Band, Bill, Side, Slot, Tariff
from sunmesh.testing import migrated
from web.app import create_app
from web.money import page as money_page
from web.money import tariff_form
from web.money.page import Part
from web.periods import Period, parse
from werkzeug.datastructures import MultiDict

from .visiting import Browser

ROME = ZoneInfo("Europe/Rome")
NOW = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
FIRST = date(2026, 3, 28)


def plain(text: str) -> str:
    return re.sub(r"[\s\u00a0\u202f]+", " ", text).replace("&#39;", "'").replace("\u2212", "-")


# -- pure ------------------------------------------------------------------------------------------


def period(name: str) -> Period:
    return parse(name, date(2026, 11, 21), (date(2026, 3, 28), date(2026, 5, 4)))


def test_arrows_stay_inside_of_the_books() -> None:
    whole = (date(2026, 3, 28), date(2026, 5, 4))
    before, after = money_page.beside(period("2026-04"), whole)
    assert (before.name, after.name) == ("2026-03", "2026-05")
    before, after = money_page.beside(period("2026-03-28"), whole)
    assert (before, after.name) == (None, "2026-03-29")
    assert money_page.beside(period("total"), whole) == (None, None)
    assert money_page.beside(period("2026"), None) == (None, None)


def bill(cost: float, saved: float | None = None) -> Bill:
    found = Bill("EUR", days=1, standing=cost)
    if cost < 0:
        found = Bill("EUR", days=1, sold=[Slot("", 1.0, -cost * 1000)])
    if saved is not None:
        found.saved, found.saved_days = saved, 1
    return found


def test_bars_stand_on_the_line() -> None:
    parts = [
        Part("1", "one", "k", bill(2.0, 3.0)),
        Part("", "two", "", bill(-1.0, 4.0)),
        Part("", "three", "", Bill()),
        Part("", "four", "", bill(1.0)),
    ]
    chart = money_page.chart(parts, "EUR")
    one, two, three, four = chart.bars
    scale = one.paid[1] / 2
    assert one.paid[0] + one.paid[1] == pytest.approx(chart.zero, abs=0.2)
    assert one.saved[1] == pytest.approx(3 * scale, abs=0.2)
    assert one.saved[0] + one.saved[1] == pytest.approx(one.paid[0], abs=0.2)
    assert (two.paid[1], two.earned[0]) == (0, chart.zero)
    assert two.earned[1] == pytest.approx(scale, abs=0.2)
    assert two.saved[1] == pytest.approx(3 * scale, abs=0.2), "of 4, 1 was earned"
    assert (three.paid[1], three.words) == (0, "three: not known")
    assert four.saved[1] == 0
    assert all(0 <= bar.x < bar.x + bar.width <= 100 for bar in chart.bars)
    assert [words for _y, words in chart.lines][1] == "€0"
    assert money_page.chart([Part("", "", "", Bill())], "EUR") is None


@pytest.mark.parametrize("reach", [0.01, 0.3, 1, 7, 99, 12_345])
def test_lines_are_round_and_few(reach) -> None:
    step = money_page.step_of(reach)
    assert reach / 5 <= step <= reach
    assert f"{step:e}"[0] in "125"


def test_sentences() -> None:
    of = period("2026-04")
    says = [
        plain(money_page.headline(of, each, "EUR", grid))
        for each, grid in (
            (bill(5, 20), True),
            (bill(-5, 20), True),
            (bill(5), True),
            (bill(-5), True),
            (bill(0, 20), False),
            (Bill(), True),
            (Bill("?", days=2), True),
        )
    ]
    assert says == [
        "April 2026: a cost of €5.00 instead of €25.00.",
        "April 2026: a gain of €5.00. Without sun and battery it would have cost €15.00.",
        "April 2026: a cost of €5.00.",
        "April 2026: a gain of €5.00.",
        "April 2026: your own energy was worth €20.00.",
        "April 2026: what it cost is not known.",
        "April 2026 has prices in several currencies.",
    ]


def test_prices_have_the_digits_that_they_have() -> None:
    assert money_page.price(0.3, "EUR") == "€0.30"
    assert money_page.price(0.2857, "EUR") == "€0.2857"
    assert money_page.price(0.28571, "EUR") == "€0.28571"
    assert plain(money_page.mass(1_250_000)) == "1.25 t"
    assert money_page.mass(None) == "–"


def test_what_is_missing_is_said() -> None:
    said = money_page.notes(Bill(without_price=1, without_grid=2, unsure=3), "EUR")
    assert said[0] == "Of 1 day no price is known: no tariff holds yet."
    assert said[1].startswith("Of 2 days nothing from the grid was measured")
    assert len(said) == 3


# -- the form --------------------------------------------------------------------------------------

TYPED = {
    "first": "2026-01-01",
    "currency": "eur",
    "has_grid": "1",
    "buy.price": "0,36",
    "buy.0.name": "Night",
    "buy.0.price": "0.21",
    "buy.0.start": "22",
    "buy.0.end": "6:00",
    "buy.1.name": "Winter sun",
    "buy.1.price": "0.30",
    "buy.1.weekday": ["6", "7"],
    "buy.1.from": "10",
    "buy.1.to": "3",
    "standing": "12",
    "standing_per": "month",
    "sell.price": ".08",
}


def typed(**changes) -> MultiDict:
    return MultiDict(TYPED | changes)


def test_what_was_typed_is_meant_and_comes_back() -> None:
    draft = tariff_form.drafted(typed())
    found = tariff_form.meant(draft)
    assert found == Tariff(
        buy=Side(
            0.36,
            (
                Band("Night", 0.21, "22:00", "06:00"),
                Band("Winter sun", 0.30, "00:00", "24:00", (6, 7), (10, 11, 12, 1, 2, 3)),
            ),
        ),
        sell=Side(0.08),
        standing=12.0,
    )
    again = tariff_form.draft_of(tariff_form.first_day(draft), found)
    assert (again.bands["buy"][1].from_month, again.bands["buy"][1].to_month) == (10, 3)
    assert tariff_form.meant(again) == found


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"buy.price": ""}, "buy.price", "A price is needed"),
        ({"buy.price": "-1"}, "buy.price", "no number"),
        ({"buy.price": "1e400"}, "buy.price", "no number"),
        ({"buy.price": "9999999"}, "buy.price", "is more than 1,000,000"),
        ({"buy.price": "<b>"}, "buy.price", "no number"),
        ({"buy.0.start": "22:03"}, "buy.bands", "cannot be"),
        ({"buy.0.end": "25:00"}, "buy.bands", "cannot be"),
        ({"buy.0.price": ""}, "buy.bands", "cannot be"),
        ({"buy.1.name": "night"}, "buy.bands", "two prices"),
        ({"currency": "ABQ"}, "currency", "three letters"),
        ({"holidays": "31.12."}, "holidays", "no day such as"),
        ({"standing_per": "week"}, "standing", "each day"),
        ({"co2_grid": "9000"}, "co2_grid", "more than"),
    ],
)
def test_what_cannot_be_is_said_where_it_stands(changes, field, says) -> None:
    draft = tariff_form.drafted(typed(**changes))
    assert tariff_form.meant(draft) is None
    assert says in draft.errors[field]
    assert list(tariff_form.problems(draft))


@pytest.mark.parametrize("first", ["", "2026-02-30", "0001-01-01", "2100-01-01", "yesterday"])
def test_days_that_do_not_exist(first) -> None:
    draft = tariff_form.drafted(typed(first=first))
    assert tariff_form.first_day(draft) is None
    assert "no such day" in draft.errors["first"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.35", 0.35), ("0,35", 0.35), ("1.250,5", 1250.5), ("1,250.5", 1250.5), ("1 250", 1250)],
)
def test_decimals_with_comma_or_point(text, number) -> None:
    assert tariff_form.parse_number(text, 1e6) == number


def test_the_week_of_each_season() -> None:
    found = tariff_form.weeks(tariff_form.meant(tariff_form.drafted(typed())))
    assert [week.title for week in found] == ["October to March", "April to September"]
    winter = found[0]
    assert [name for name, _blocks in winter.days][0] == "Mon"
    for _name, blocks in winter.days:
        assert math.isclose(sum(block.width for block in blocks), 100, abs_tol=0.01)
    assert [(key.letter, key.name, key.price) for key in winter.keys] == [
        ("A", "all other hours", "€0.36"),
        ("B", "Winter sun", "€0.30"),
        ("C", "Night", "€0.21"),
    ]
    assert tariff_form.weeks(Tariff()) == []


# -- the pages -------------------------------------------------------------------------------------


@pytest.fixture
def app(site, clock, tmp_path, board):
    migrated(f"sqlite:///{tmp_path}/house.db")
    clock.moment = NOW
    made = board(database="house.db")
    found = create_app(site(database="house.db"), made)
    yield found
    found.extensions["database"].close()
    found.extensions["accounts"].close()


@pytest.fixture
def books(app, tmp_path) -> None:
    """Five weeks: 480 Wh an hour used, 120 bought, 60 sold."""
    opened = engine(f"sqlite:///{tmp_path}/house.db")
    start = round(datetime(2026, 3, 28, tzinfo=ROME).timestamp() * 1000)
    end = round(NOW.timestamp() * 1000)
    with opened.begin() as connection:
        for flow, wh in {"load": 40.0, "grid_import": 10.0, "grid_export": 5.0}.items():
            rows = (Bucket(ts, wh, "power", "measured", 300) for ts in range(start, end, 300_000))
            book(connection, ROME, flow, start, end, rows)
    opened.dispose()


@pytest.fixture
def anna(app) -> Browser:
    return Browser(app).settle()


SAVED = TYPED | {"first": "2026-03-28", "co2_grid": "300"}


def test_empty_states_lead_on(app, anna) -> None:
    assert "Somebody with the role operator" in Browser(app).get("/money/2026-05").text
    page = anna.get("/money/2026-05").text
    assert "What does a kilowatt-hour cost you?" in page
    assert "/money/tariffs/new" in page
    assert anna.get("/money").headers["Location"].endswith("/money/2026-05")
    assert anna.post("/money/tariffs/save", "/money/tariffs/new", **SAVED).status_code == 303
    assert "Nothing is in the energy books yet" in anna.get("/money/2026-05").text


def test_from_a_tariff_to_the_bill(app, anna, books) -> None:
    answer = anna.post("/money/tariffs/save", "/money/tariffs/new?template=night", **SAVED)
    assert answer.headers["Location"].endswith("/money/tariffs")
    listed = plain(anna.get("/money/tariffs").text)
    for text in ("since 28 March 2026", "holds now", "Night: €0.21 a kWh", "Written by anna"):
        assert text in listed, text
    page = plain(anna.get("/money/2026-04").text)
    # 30 days: 8 h at 0.21 and 16 at 0.36, but at weekends (8 of them) 16 h at 0.36 all the same
    bought = 30 * 0.12 * (8 * 0.21 + 16 * 0.36)
    cost = bought + 12 - 30 * 24 * 0.06 * 0.08
    full = cost + 4 * bought - (bought - 30 * 24 * 0.06 * 0.08)
    assert f"April 2026: a cost of €{cost:.2f} instead of €{full:.2f}." in page
    assert "28.80 kWh at €0.21" in page
    assert f"{30 * 24 * 0.12 * 0.3:.1f} kg" in page
    assert 'href="/money/2026-04-30"' in page
    for key, text in (
        ("2026-05-03", "Sunday, 3 May 2026: a cost of"),
        ("2026", "2026: a cost of"),
        ("total", "Since the beginning: a cost of"),
        ("2026-05", "So far."),
    ):
        assert text in plain(anna.get(f"/money/{key}").text), key
    assert "Nothing is known of this time" in anna.get("/money/2025-01").text
    rows = anna.get("/money/2026-04.csv").text.splitlines()
    assert rows[0].startswith("period,bought_kwh,sold_kwh")
    assert len(rows) == 32
    assert rows[1].startswith("2026-04-01,2.8800,1.4400,0.0000,0.4000,")


def test_what_a_form_means_is_shown_before_it_is_saved(app, anna, books) -> None:
    page = anna.post("/money/tariffs/preview", "/money/tariffs/new", **SAVED)
    assert "With this tariff the last 30 days would have cost" in plain(page.text)
    wrong = anna.post("/money/tariffs/preview", "/money/tariffs/new", **SAVED | {"buy.price": "x"})
    assert "no number such as 0.35" in wrong.text
    more = anna.post("/money/tariffs/more", "/money/tariffs/new", **SAVED)
    assert 'name="buy.2.name"' in more.text
    assert 'value="Winter sun"' in more.text
    assert "A price is needed" not in more.text


def test_bad_forms_change_nothing(app, anna) -> None:
    for changes, status in (
        ({"buy.price": "0.3<script>"}, 422),
        ({"first": "2026-02-30"}, 422),
        ({"instead_of": "2020-01-01"}, 409),
        ({"instead_of": "never"}, 404),
        ({"name": "x\x00y"}, 422),
    ):
        answer = anna.post("/money/tariffs/save", "/money/tariffs/new", **SAVED | changes)
        assert answer.status_code == status, changes
    assert "No tariff yet" in anna.get("/money/tariffs").text
    for path in ("/money/2026-02-30", "/money/1026", "/money/x", "/money/2027", "/money/..%2f"):
        assert anna.get(path).status_code == 404, path
    for path in ("/money/tariffs/2020-01-01", "/money/tariffs/x", "/money/tariffs/new?template=x"):
        assert anna.get(path).status_code == 404, path


def test_a_name_of_markup_stays_a_name(app, anna) -> None:
    name = "<img src=x onerror=alert(1)>"
    anna.post(
        "/money/tariffs/save", "/money/tariffs/new", **SAVED | {"name": name, "buy.0.name": name}
    )
    page = anna.get("/money/tariffs").text
    assert "<img" not in page
    assert "&lt;img" in page


def test_change_and_remove_are_noted(app, anna) -> None:
    anna.post("/money/tariffs/save", "/money/tariffs/new", **SAVED)
    form = anna.get("/money/tariffs/2026-03-28").text
    assert 'value="0.36"' in form
    assert 'value="2026-03-28"' in form
    moved = SAVED | {"first": "2026-02-01", "instead_of": "2026-03-28"}
    anna.post("/money/tariffs/save", "/money/tariffs/new", **moved)
    assert "since 1 February 2026" in anna.get("/money/tariffs").text
    answer = anna.post("/money/tariffs/2026-02-01/remove", "/money/tariffs")
    assert answer.status_code == 303
    assert anna.post("/money/tariffs/2026-02-01/remove", "/money/tariffs/new").status_code == 404
    deeds = [d for d in app.extensions["accounts"].deeds() if d.action == "tariff"]
    assert [(d.subject, d.result) for d in reversed(deeds)] == [
        ("from 2026-03-28", "done"),
        ("from 2026-02-01", "done"),
        ("from 2026-02-01", "done"),
        ("from 2026-02-01", "refused"),
    ]


def test_who_may_change_tariffs(app, anna) -> None:
    accounts = app.extensions["accounts"]
    accounts.add("vera", "the sun also rises", "viewer", "anna", "127.0.0.1")
    vera = Browser(app).log_in("vera")
    assert vera.get("/money/2026-05").status_code == 200
    assert vera.get("/money/tariffs/new").status_code == 403
    answer = vera.post("/money/tariffs/save", "/account", **SAVED)
    assert answer.status_code == 403
    assert Browser(app).client.post("/money/tariffs/save", data=SAVED).status_code == 401
    assert anna.post("/money/tariffs/save", **SAVED).status_code == 403, "no mark of this session"


def test_no_database(site, board) -> None:
    app = create_app(site(), board())
    page = Browser(app).get("/money/2026-05")
    assert "The books cannot be read now" in page.text
    assert Browser(app).get("/money/2026-05.csv").status_code == 503
