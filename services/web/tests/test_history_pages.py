"""The page History over a real database: figures, corrections, and what happens without one."""

import csv
import io
import re
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine, event
from sunmesh.database.days import bounds
from sunmesh.database.energy import Bucket, book, figures
from sunmesh.testing import migrated
from web.app import create_app
from web.history.days import RECENT_TTL_S, WHOLE_TTL_S, DayBook
from web.queries import History

from .visiting import PASSWORD, Browser

ROME = ZoneInfo("Europe/Rome")
TODAY = date(2026, 11, 21)
FIRST = date(2026, 9, 28)
FLOWS = {"pv": 40.0, "load": 30.0, "grid_import": 5.0}


def buckets(day: date, wh: float, until: int | None = None) -> list[Bucket]:
    start, end = bounds(day, ROME)
    return [
        Bucket(ts, wh, "power", "integrated", 300) for ts in range(start, until or end, 300_000)
    ]


def filled(url: str) -> None:
    """Eight weeks up to now, with one unknown day."""
    migrated(url)
    engine = create_engine(url)
    now = round(datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp() * 1000)
    with engine.begin() as connection:
        for flow, wh in FLOWS.items():
            start, end = bounds(FIRST, ROME)[0], now
            rows = [
                bucket
                for number in range((TODAY - FIRST).days + 1)
                if number != 10
                for bucket in buckets(FIRST + timedelta(days=number), wh)
                if bucket.ts < end
            ]
            book(connection, ROME, flow, start, end, rows)
    engine.dispose()


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    """The filled database, to be copied."""
    path = tmp_path_factory.mktemp("history") / "filled.db"
    filled(f"sqlite:///{path}")
    return path


@pytest.fixture
def app(board, tmp_path, once):
    shutil.copy(once, tmp_path / "history.db")
    made = board(database="history.db")
    return create_app(made.site, made)


@pytest.fixture
def anna(app) -> Browser:
    return Browser(app).settle()


def plain(answer) -> str:
    return re.sub(r"\s+", " ", answer.text.replace("\N{NO-BREAK SPACE}", " "))


# -- the days in memory ----------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/books.db"
    return request.getfixturevalue("database_url")


def test_days_in_memory_are_those_of_the_books(url) -> None:
    filled(url)
    history = History(url, ROME)
    now = [0.0]
    kept = DayBook(history.reading, ROME, lambda: now[0])
    days = kept.days()
    assert (days.first, days.end) == (FIRST, date(2026, 11, 22))
    engine = create_engine(url)
    at = days.until
    for first, end in (
        (FIRST, days.end),
        (date(2026, 10, 1), date(2026, 11, 1)),
        (date(2026, 10, 8), date(2026, 10, 9)),
        (date(2026, 10, 25), date(2026, 10, 26)),
    ):
        with engine.connect() as connection:
            theirs = figures(connection, ROME, first, end, at)
        mine = days.figures(first, end)
        assert mine.elapsed_s == theirs.elapsed_s
        assert mine.flows.keys() == theirs.flows.keys()
        for flow, told in theirs.flows.items():
            assert mine.flows[flow].wh == pytest.approx(told.wh)
            assert mine.flows[flow].covered_s == told.covered_s
            assert mine.flows[flow].by_flag == pytest.approx(dict(told.by_flag))
    # What is booked later is seen soon, and what an older day is corrected by at once.
    with engine.begin() as connection:
        start, end = bounds(TODAY, ROME)
        book(connection, ROME, "pv", start, end, buckets(TODAY, 80.0))
        start, end = bounds(FIRST, ROME)
        book(connection, ROME, "pv", start, end, buckets(FIRST, 0.0))
    assert kept.days() is days
    now[0] += RECENT_TTL_S
    newer = kept.days()
    assert newer.figures(TODAY, days.end).wh("pv") == pytest.approx(288 * 80)
    assert newer.figures(FIRST, FIRST + timedelta(days=1)).wh("pv") > 0, "too old to be read again"
    assert kept.reads == 1
    now[0] += WHOLE_TTL_S
    assert kept.days().figures(FIRST, FIRST + timedelta(days=1)).wh("pv") == 0
    engine.dispose()
    history.close()


def test_empty_books_are_no_error(url) -> None:
    migrated(url)
    history = History(url, ROME)
    assert not DayBook(history.reading, ROME).days()
    history.close()


# -- pages -----------------------------------------------------------------------------------------


def test_history_leads_to_this_month(app) -> None:
    browser = Browser(app)
    assert browser.get("/history").headers["Location"] == "/history/2026-11"
    assert browser.get("/history?from=2026-10-01&to=2026-10-09").headers["Location"] == (
        "/history/2026-10-01..2026-10-09"
    )
    assert browser.get("/history?from=2026-10-01&show=sun").headers["Location"] == (
        "/history/2026-10-01?show=sun"
    )


def test_a_month_shows_bars_figures_and_records(app) -> None:
    page = plain(Browser(app).get("/history/2026-10"))
    assert '<h1 class="headline">October 2026' in page
    assert page.count('<a href="/day/2026-10-') >= 30
    assert 'aria-label="Sat 3 Oct: ' in page
    assert "Compare with" not in page, "September is not whole"
    assert "Compare with October 2026" in plain(Browser(app).get("/history/2026-11"))
    assert 'href="/history/2026-09"' in page
    assert 'href="/history/2026-11"' in page
    assert "Sunniest day" in page
    assert "83 % of what the house used was not bought" in page
    assert "style=" not in page


def test_a_click_leads_down_and_keeps_the_metric(app) -> None:
    browser = Browser(app)
    total = plain(browser.get("/history/total?show=house"))
    assert 'href="/history/2026-10?show=house" class="bar' in total
    year = plain(browser.get("/history/2026?show=house"))
    assert 'href="/history/2026-10?show=house" class="bar' in year
    assert '<table class="map of-house"' in year
    assert 'href="/day/2026-10-03"' in year
    assert 'aria-current="true">House' in year


def test_a_comparison_stands_in_the_address(app) -> None:
    page = plain(Browser(app).get("/history/2026-10?with=2026-09&show=sun"))
    assert 'class="was"' in page
    assert "Without the comparison" in page
    assert Browser(app).get("/history/2026-10?with=2026").status_code == 400


def test_a_range_and_its_neighbours(app) -> None:
    page = plain(Browser(app).get("/history/2026-10-05..2026-10-09"))
    assert "5 Oct 2026 to 9 Oct 2026" in page
    assert 'href="/history/2026-09-30..2026-10-04"' in page


def test_numbers_for_a_spreadsheet(app) -> None:
    answer = Browser(app).get("/history/2026-10.csv")
    assert answer.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 30, "the unknown day is no row of zeros"
    assert rows[0]["first_day"] == "2026-10-01"
    assert float(rows[0]["pv_kwh"]) == 11.52
    assert float(rows[0]["pv_integrated_kwh"]) == 11.52
    assert rows[0]["self_consumption"] == ""
    long_day = next(row for row in rows if row["first_day"] == "2026-10-25")
    assert float(long_day["pv_kwh"]) == 12.0


def test_a_report_to_print(app) -> None:
    page = plain(Browser(app).get("/history/2026-10/report"))
    assert "Report: October 2026" in page
    assert "Day by day" in page
    assert "From the energy books of this house" in page
    assert "Print, or save as PDF" in page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/history/2026-13", 404),
        ("/history/1000..9999", 404),
        ("/history/0001-01-01..9999-12-31", 404),
        ("/history/2030", 404),
        ("/history/%3Cscript%3E", 404),
        ("/history/..%2F..%2Fetc", 404),
        ("/history/2026-10?show=everything", 400),
        ("/history/2026-10?with=yesterday", 400),
        ("/history?from=2026-02-30", 400),
        ("/history?from=2026-10-09&to=2026-10-01", 400),
        ("/history/2026-10.csv?show=<b>", 200),
        ("/history/2027.csv", 404),
        ("/history/1999/report", 404),
    ],
)
def test_bad_addresses_say_why(app, path: str, status: int) -> None:
    answer = Browser(app).get(path)
    assert answer.status_code == status
    assert "<script>" not in answer.text.replace("<script type", "")
    assert "Traceback" not in answer.text


def test_without_a_database_the_page_says_so(board) -> None:
    made = board()
    browser = Browser(create_app(made.site, made))
    for path in ("/history/2026-11", "/history/2026-11/report"):
        answer = browser.get(path)
        assert answer.status_code == 503
        assert "there is no database" in answer.text
        assert "What the house does now is still shown" in answer.text
    assert browser.get("/history/2026-11.csv").status_code == 503


def test_empty_books_say_what_fills_them(board, tmp_path) -> None:
    migrated(f"sqlite:///{tmp_path}/history.db")
    made = board(database="history.db")
    for path in ("/history/2026-11", "/history/2026", "/history/total", "/history/2026-11/report"):
        answer = Browser(create_app(made.site, made)).get(path)
        assert answer.status_code == 200, path
    assert (
        "The energy books are empty"
        in Browser(create_app(made.site, made)).get("/history/total").text
    )


def test_pages_ask_the_database_next_to_nothing(app) -> None:
    browser = Browser(app)
    browser.get("/history/2026")
    asked = []
    engine = app.extensions["board"].history._connect()
    event.listen(engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    for path in ("/history/2026", "/history/total", "/history/2026-10?show=autarky"):
        assert browser.get(path).status_code == 200
    assert asked == []


# -- corrections -----------------------------------------------------------------------------------


DAY = "/history/repair/2026-10-03"
WISH = {"flow": "pv", "from": "10:00", "to": "11:00", "deed": "set", "kwh": "1.5"}


def query(**wish: str) -> str:
    return DAY + "?" + "&".join(f"{key}={value}" for key, value in wish.items())


def test_only_admins_correct(app, anna) -> None:
    guest = Browser(app)
    assert guest.get(DAY).status_code == 303
    assert "/login" in guest.get("/history/edits").headers["Location"]
    app.extensions["accounts"].add("otto", PASSWORD, "operator", "anna", "127.0.0.1")
    otto = Browser(app).log_in("otto")
    assert otto.get(DAY).status_code == 403
    assert "Correct the books" not in otto.get("/history/2026-10").text
    assert "Correct the books" in anna.get("/history/2026-10").text
    stranger = Browser(app, "203.0.113.9").log_in("anna")
    assert stranger.get(DAY).status_code == 403


def test_repairing_leads_from_a_bar_to_its_day(anna) -> None:
    page = anna.get("/history/2026-10?repair=1").text
    assert 'href="/history/repair/2026-10-03" class="bar' in page
    year = anna.get("/history/2026?repair=1").text
    assert "/history/2026-10?repair=1" in year


def test_a_stretch_is_looked_at_previewed_saved_and_taken_back(anna, app) -> None:
    page = plain(anna.get(DAY))
    assert "Books of Saturday, 3 October 2026" in page
    assert "Sun: 11.52 kWh" in page
    assert page.count('<rect class="stick') == 288 + 1
    page = plain(anna.get(query(**WISH)))
    table = re.search(r'id="preview".*?</table>', page)[0]
    assert re.findall(r"<td>(?:<b>)?([^<]+)", table)[:3] == ["0.48 kWh", "1.50 kWh", "+1.02 kWh"]
    for label in ("This stretch", "3 Oct 2026", "October 2026", "2026"):
        assert f"{label}</th>" in table
    assert "12.54 kWh" in table
    assert plain(anna.get(DAY)).count("corrected by hand") == 0, "a preview writes nothing"

    answer = anna.post(DAY, query(**WISH), **WISH, reason="the meter <b>was</b> exchanged")
    assert answer.status_code == 303, answer.text
    page = plain(anna.get(answer.headers["Location"]))
    assert "The books are corrected" in page
    assert "Sun: 12.54 kWh" in page
    assert "corrected by hand" in page
    assert "the meter &lt;b&gt;was&lt;/b&gt; exchanged" in page
    month = plain(anna.get("/history/2026-10?show=sun"))
    assert "12.54 kWh" in month
    assert "✎" in month
    assert "web:anna" in plain(anna.get("/history/edits"))
    deeds = app.extensions["accounts"].deeds()
    assert (deeds[0].action, deeds[0].by) == ("correct books", "anna")

    answer = anna.post("/history/edits/1/undo", "/history/edits")
    assert answer.status_code == 303
    assert "taken back by web:anna" in plain(anna.get("/history/edits"))
    assert "Sun: 11.52 kWh" in plain(anna.get(DAY))
    again = anna.post(
        "/history/edits/1/undo", DAY + "?" + "&".join(f"{k}={v}" for k, v in WISH.items())
    )
    assert again.status_code == 409
    assert "was undone by" in again.text


def test_a_lump_is_spread_and_a_stretch_left_out(anna) -> None:
    lump = WISH | {"kwh": "6", "from": "12:00", "to": "12:05"}
    assert anna.post(DAY, query(**lump), **lump, reason="lump").status_code == 303
    spread = WISH | {"deed": "spread", "from": "12:00", "to": "14:00"}
    page = plain(anna.get(query(**spread)))
    table = re.search(r'id="preview".*?</table>', page)[0]
    assert "0.00 kWh" in table
    assert anna.post(DAY, query(**spread), **spread, reason="it was two hours").status_code == 303
    hours = dict(re.findall(r'">(\d\d:00)–[\d:]+</a></th><td>([\d.]+)', plain(anna.get(DAY))))
    assert hours["12:00"] == hours["13:00"] == "3.46"
    zero = WISH | {"deed": "zero", "from": "00:00", "to": "24:00"}
    assert anna.post(DAY, query(**zero), **zero, reason="a test").status_code == 303
    assert "Sun: 0.00 kWh" in plain(anna.get(DAY))


def test_two_days_are_corrected_together(anna) -> None:
    wish = WISH | {"from": "12:00", "until": "2026-10-04", "to": "12:00", "kwh": "24"}
    page = plain(anna.get(query(**wish)))
    assert "3 Oct 2026</th>" in page
    assert "4 Oct 2026</th>" in page


@pytest.mark.parametrize(
    "wish",
    [
        {"kwh": "much"},
        {"kwh": "-1"},
        {"kwh": "1e300"},
        {"from": "11:00", "to": "10:00"},
        {"from": "10:01"},
        {"from": "<b>"},
        {"deed": "drop table"},
        {"until": "2026-12-24"},
        {"reason": "  "},
        {"reason": "x" * 300},
    ],
)
def test_bad_wishes_change_nothing_and_say_why(anna, wish) -> None:
    asked = WISH | {"reason": "because"} | wish
    answer = anna.post(DAY, query(**WISH), **asked)
    assert answer.status_code in (400, 422, 404)
    assert re.search(r'class="failed" role="alert"|class="error"', answer.text)
    assert "Sun: 11.52 kWh" in plain(anna.get(DAY))


def test_bad_days_and_flows(anna) -> None:
    for path in ("/history/repair/2026-02-30", "/history/repair/2027-01-01", DAY + "?flow=<b>"):
        assert anna.get(path).status_code == 400, path
    assert anna.post("/history/edits/77/undo", query(**WISH)).status_code == 409
    assert anna.client.post("/history/edits/1/undo").status_code == 403, "without the form's mark"
