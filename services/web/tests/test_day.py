"""What happened on a day, and a day beside another: stored, worded, folded, drawn."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert
from sunmesh.database import tables
from sunmesh.database.days import bounds
from web.app import create_app
from web.day import events as day_events
from web.day.beside import beside, differences, moved, same_time, year_before
from web.day.events import Event, fold, tell
from web.energy import Books
from web.queries import HOUR_MS, WIDTH_MS, Day, History
from web.stack import Point

from .visiting import Browser

ROME = ZoneInfo("Europe/Rome")
DAY = date(2026, 11, 20)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=ROME)
VALUES = {"ac_output_power_w": 400.0, "pv_power_w": 1000.0, "battery_power_w": -520.0}


def at(hour: int, minute: int = 0, second: int = 0, day: int = 0) -> datetime:
    return MIDNIGHT + timedelta(days=day, hours=hour, minutes=minute, seconds=second)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


class Log:
    """What the recorder notes beside samples."""

    def __init__(self, database) -> None:
        self.engine = database.engine
        tables.metadata.create_all(self.engine, tables=[tables.alarm, tables.command])

    def alarm(
        self,
        moment: datetime,
        state: str = "raised",
        severity: str = "warning",
        device: str = "inverter",
        code: str = "heat_sink_hot",
        title: str = "Inverter is hot",
        number: str = "a1",
    ) -> None:
        row = {"device": device, "code": code, "id": number, "state": state, "text": ""}
        row |= {"severity": severity, "title": title, "ts": ms(moment)}
        with self.engine.begin() as connection:
            connection.execute(insert(tables.alarm), row)

    def command(
        self,
        moment: datetime,
        stage: str,
        name: str = "float_voltage_v",
        value: object = 54.0,
        number: str = "c1",
        by: str | None = "web:anna",
        detail: str = "",
        device: str = "inverter",
    ) -> None:
        row = {"device": device, "id": number, "stage": stage, "ts": ms(moment), "name": name}
        row |= {"value": json.dumps(value), "by_whom": by, "detail": detail}
        with self.engine.begin() as connection:
            connection.execute(insert(tables.command), row)


@pytest.fixture
def stored(database):
    """A morning of samples on the 20th, and tables to note in."""
    database.add((at(8) + timedelta(minutes=n), VALUES) for n in range(120))
    return Log(database)


@pytest.fixture
def log(sqlite):
    sqlite.add((at(8) + timedelta(minutes=n), VALUES) for n in range(120))
    return Log(sqlite)


@pytest.fixture
def app(log, board):
    made = board(database="history.db")
    return create_app(made.site, made)


def rows(page: str) -> list[str]:
    """The list as it is read, one line for each."""
    found = re.findall(r"<li id=\"event-.*?</li>", page, re.DOTALL)
    plain = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", each)).strip() for each in found]
    return [each.replace("\N{NO-BREAK SPACE}", " ") for each in plain]


# -- what happened -------------------------------------------------------------------------------


def test_what_happened_is_read_by_its_day_alone(stored, database, history: History) -> None:
    for day in (-1, 0, 1):
        stored.alarm(at(9, day=day), number=f"a{day}")
        stored.alarm(at(9, 30, day=day), "cleared", number=f"a{day}")
        stored.command(at(10, day=day), "applied", number=f"c{day}")
    database.add([(at(7, day=-1), {"device_mode": "battery"}), (at(9), {"device_mode": "line"})])
    database.add([(at(11), {"device_mode": "line"}), (at(1, day=1), {"device_mode": "battery"})])
    relay = {"relay_position": "grid_connected", "relay_reason": "lease_expired"}
    database.add([(at(6, day=-2), {"relay_position": "grid_open"}), (at(12), relay)], "grid-relay")
    found = history.happened(*bounds(DAY, ROME))
    assert [(turn.ms, turn.state) for turn in found.alarms] == [
        (ms(at(9)), "raised"),
        (ms(at(9, 30)), "cleared"),
    ]
    assert [(each.id, each.whole.ms) for each in found.commands] == [("c0", ms(at(10)))]
    assert [(turn.ms, turn.value) for turn in found.modes] == [(ms(at(9)), "line")]
    assert [(turn.value, turn.reason) for turn in found.positions] == [
        ("grid_connected", "lease_expired")
    ]
    assert not found.is_cut


def test_an_alarm_that_stood_already_was_not_raised_again(stored, history: History) -> None:
    stored.alarm(at(22, day=-1))
    stored.alarm(at(3))  # announced again, as it was
    stored.alarm(at(4), severity="critical")
    stored.alarm(at(5), "cleared", severity="critical")
    stored.alarm(at(6), number="a2")
    found = history.happened(*bounds(DAY, ROME)).alarms
    assert [(turn.ms, turn.state, turn.severity) for turn in found] == [
        (ms(at(4)), "raised", "critical"),
        (ms(at(5)), "cleared", "critical"),
        (ms(at(6)), "raised", "warning"),
    ]


def test_what_a_relay_is_told_again_and_stages_on_the_way_are_no_news(stored, history) -> None:
    for minute in range(5):
        number = f"relay-{minute}"
        stored.command(at(9, minute), "requested", "relay_position", number=number)
        stored.command(at(9, minute, 1), "applied", "relay_position", number=number)
    stored.command(at(10), "requested", number="c1", value=53.5)
    stored.command(at(10, 0, 1), "accepted", number="c1", value=53.5)
    stored.command(at(10, 0, 2), "not_applied", number="c1", value=56.4, by=None)
    [only] = history.happened(*bounds(DAY, ROME)).commands
    assert (only.id, only.by, only.wanted, only.whole.value) == ("c1", "web:anna", "53.5", "56.4")


def test_the_indexes_are_used(stored, database, history: History) -> None:
    """MariaDB and SQLite both find a day by its time, not by looking at everything."""
    start, end = bounds(DAY, ROME)
    for table, index in (("alarm", "ix_alarm_ts"), ("command", "ix_command_ts")):
        with database.engine.connect() as connection:
            rows = [
                {"device": "d", "code": "x", "id": "i", "state": "raised", "severity": "info"}
                | {"title": "", "text": "", "stage": f"{n}", "name": "n", "value": "1"}
                | {"detail": "", "ts": start - n * HOUR_MS}
                for n in range(2000)
            ]
            made = tables.metadata.tables[table]
            names = set(made.c.keys())
            connection.execute(
                insert(made), [{k: v for k, v in row.items() if k in names} for row in rows]
            )
            connection.commit()
            explain = "EXPLAIN" + (" QUERY PLAN" if connection.dialect.name == "sqlite" else "")
            query = f"{explain} SELECT * FROM {table} WHERE ts >= {start} AND ts < {end}"  # noqa: S608
            plan = connection.exec_driver_sql(query).all()
        assert index in str(plan)


def test_each_kind_is_told_in_words_with_a_link(log, app, sqlite) -> None:
    log.alarm(at(9, 5), severity="critical")
    log.alarm(at(9, 20), "cleared", severity="critical")
    sqlite.add([(at(1), {"device_mode": "battery"}), (at(9, 10), {"device_mode": "line"})])
    log.command(at(9, 15), "requested", value=53.5)
    log.command(at(9, 15, 9), "applied", value=53.5)
    log.command(at(9, 40), "refused", "bulk_voltage_v", 60.0, "c2", "controller:night", "too high")
    page = app.test_client().get("/day/2026-11-20")
    assert rows(page.text) == [
        "09:05 critical: Inverter is hot raised · Inverter",
        "09:10 Inverter: on the grid",
        "09:15 Inverter: Float voltage → 53.5 V read back 53.5 V: applied",
        "09:20 Inverter is hot over · Inverter",
        "09:40 Inverter: Bulk charging voltage → 60.0 V refused (too high) · by rule Night",
    ]
    for link in (
        "/alarms?device=inverter#history",
        "/devices/inverter",
        "/control#orders",
    ):
        assert f'href="{link}"' in page.text
    assert f'data-t="{ms(at(9, 10)) // 1000}" data-icon="inverter"' in page.text


def test_who_gave_a_command_is_told_to_those_who_have_logged_in(log, sqlite, board) -> None:
    tables.metadata.create_all(sqlite.engine)
    log.command(at(9, 15), "applied")
    made = board(database="history.db")
    anna = Browser(create_app(made.site, made)).settle()
    [row] = rows(anna.get("/day/2026-11-20").text)
    assert row.endswith("applied · by anna")
    [row] = rows(Browser(anna.app).get("/day/2026-11-20").text)
    assert row.endswith("applied")


def test_a_switching_and_the_command_behind_it_are_one(log, app, sqlite) -> None:
    sqlite.add([(at(1), {"relay_position": "grid_connected"})], "grid-relay")
    sqlite.add([(at(9), {"relay_position": "grid_open", "relay_reason": "leased"})], "grid-relay")
    log.command(
        at(9, 0, 1), "applied", "relay_position", "grid_open", "r1", "controller:night-reserve",
        device="grid-relay",
    )  # fmt: skip
    log.command(at(9, 30), "applied", "manual", "grid_open", "r2", device="grid-relay")
    first, second = rows(app.test_client().get("/day/2026-11-20").text)
    assert first == (
        "09:00 Grid relay: grid disconnected by rule Night reserve ·"
        " the controller asked for it and keeps asking"
    )
    assert second.startswith("09:30 Grid relay: By hand → grid disconnected")


def test_a_batch_names_its_settings(log, app) -> None:
    wanted = {"bulk_voltage_v": 53.8, "float_voltage_v": 53.7}
    log.command(at(9), "requested", "settings", wanted)
    log.command(at(9, 0, 4), "applied", "bulk_voltage_v", 53.8, "c1/bulk_voltage_v")
    log.command(at(9, 0, 9), "applied", "settings", None)
    [row] = rows(app.test_client().get("/day/2026-11-20").text)
    assert "Bulk charging voltage → 53.8 V, Float voltage → 53.7 V" in row
    assert row.endswith("applied")


def test_alarms_speak_the_visitor_s_language(log, app) -> None:
    log.alarm(at(9), severity="critical")
    log.alarm(at(9, 1), device="bms", code="odd_one", title="Something odd", number="a2")
    page = app.test_client().get("/day/2026-11-20", headers={"Accept-Language": "de"}).text
    first, second = rows(page)
    assert "Wechselrichter ist heiß" in first
    assert "Something odd" in second  # nobody has words for it
    assert "Was geschah" in page


def test_tests_of_the_notifications_are_no_events(log, app) -> None:
    log.alarm(at(9), device="notifier", code="test", title="A test")
    log.command(at(9), "applied", "test", True, device="notifier")
    page = app.test_client().get("/day/2026-11-20").text
    assert 'id="event-1"' not in page
    assert "What happened" not in page


def test_an_older_recorder_has_fewer_events(board, sqlite) -> None:
    """Without the tables of alarms and commands there are modes still."""
    sqlite.add((at(8) + timedelta(minutes=n), VALUES) for n in range(9))
    sqlite.add([(at(8), {"device_mode": "battery"}), (at(9), {"device_mode": "line"})])
    made = board(database="history.db")
    page = create_app(made.site, made).test_client().get("/day/2026-11-20").text
    assert rows(page) == ["09:00 Inverter: on the grid"]


def test_strange_rows_are_told_and_break_nothing(log, app) -> None:
    log.alarm(at(9), severity="dreadful", title="<b>odd</b>")
    log.command(at(9, 1), "applied", "settings", [1, {"a": 2}], "c8", by=None)
    with log.engine.begin() as connection:
        row = {"device": "gone", "id": "c9", "stage": "failed", "ts": ms(at(9, 2)), "name": "x_v"}
        connection.execute(insert(tables.command), row | {"value": "{", "detail": ""})
    answer = app.test_client().get("/day/2026-11-20")
    assert answer.status_code == 200
    assert "&lt;b&gt;odd&lt;/b&gt;" in answer.text
    assert len(rows(answer.text)) == 3


# -- folding and bounds --------------------------------------------------------------------------


def event(minute: float, key: str = "k", state: str = "s", weight: int = 2) -> Event:
    moment = ms(at(9)) + round(minute * 60_000)
    link = ("control.page", {})
    return Event(moment, (key,), "control", key.title(), (state,), link, weight, names=True)


def test_the_same_again_and_again_is_one() -> None:
    many = [event(n * 5, state=("line", "battery")[n % 2]) for n in range(12)]
    few = [event(3, "other"), event(200), event(230)]
    made = fold(sorted([*many, *few], key=lambda each: each.ms))
    assert [(each.key[0], each.count) for each in made] == [
        ("k", 12), ("other", 1), ("k", 1), ("k", 1),
    ]  # fmt: skip
    row = tell(many, ROME).rows[0]
    assert (row.time, row.title) == ("09:00", "K: line, battery")
    assert row.detail == "12 times until 09:55"


def test_at_most_sixty_are_told_the_heaviest() -> None:
    many = [event(n, f"k{n}", weight=4 if n == 70 else 2) for n in range(75)]
    told = tell(many, ROME)
    assert (len(told.rows), told.more) == (day_events.MOST, 15)
    assert told.rows[-1].title.startswith("K70")
    assert [row.t for row in told.rows] == sorted(row.t for row in told.rows)


def test_more_than_sixty_are_counted_on_the_page(log, app) -> None:
    for n in range(64):
        log.alarm(at(9, n // 2, n % 2 * 30), device=f"cell-{n}", number=f"a{n}")
    page = app.test_client().get("/day/2026-11-20").text
    assert len(rows(page)) == 60
    assert "And 4 less important ones." in page


def test_noise_is_read_in_bounds(stored, history, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.day.past.MOST", 5)
    for n in range(9):
        stored.alarm(at(9, n), number=f"a{n}")
    found = history.happened(*bounds(DAY, ROME))
    assert (len(found.alarms), found.is_cut) == (5, True)


# -- beside another day --------------------------------------------------------------------------


def test_local_times_meet_when_clocks_change() -> None:
    short, long, plain = date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 20)

    def clock(day: date, hours: float) -> int:
        return bounds(day, ROME)[0] + round(hours * HOUR_MS)

    assert same_time(clock(plain, 12), short, ROME) == clock(short, 11)
    assert same_time(clock(plain, 2.5), short, ROME) is None  # skipped there
    assert same_time(clock(plain, 2.5), long, ROME) == clock(long, 2.5)  # the first of two
    assert same_time(clock(long, 3.5), plain, ROME) == clock(plain, 2.5)  # the second here
    assert same_time(clock(long, 3.5), date(2025, 10, 26), ROME) == clock(date(2025, 10, 26), 3.5)
    assert same_time(clock(short, 22.9), plain, ROME) == clock(plain, 23.9)


def made_day(day: date, width: int = WIDTH_MS, hours: tuple[int, int] = (0, 25)) -> Day:
    """A day whose house uses as many watts as its clocks show minutes."""
    start, end = bounds(day, ROME)
    points = []
    for moment in range(start, end, width):
        local = datetime.fromtimestamp(moment / 1000, ROME)
        if hours[0] <= local.hour < hours[1]:
            points.append(Point(moment, 10.0, local.hour * 60.0 + local.minute))
    return Day(day, start, end, points, width_ms=width)


@pytest.mark.parametrize("other", [date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 13)])
@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 20)])
def test_curves_meet_at_their_local_times(day: date, other: date) -> None:
    both = beside(made_day(day), made_day(other), ROME)
    assert len(both.points) == len(made_day(day).points)
    known = 0
    for point, load, sun in zip(both.points, both.load, both.sun, strict=True):
        if load is not None:
            assert (load, sun) == (point.load, -10)
            known += 1
    assert known >= len(both.points) - 40  # an hour that is not there, and here twice


def test_a_day_that_is_not_over_has_the_other_s_evening() -> None:
    both = beside(made_day(DAY, hours=(0, 12)), made_day(date(2026, 11, 13)), ROME)
    assert len(both.points) == 480
    assert both.points[-1].load is None
    assert both.load[-1] == 24 * 60 - 3


def test_hours_and_minutes_of_different_ages_meet() -> None:
    fine, coarse = made_day(DAY), made_day(date(2024, 11, 20), HOUR_MS)
    both = beside(fine, coarse, ROME)
    assert len(both.points) == 480
    assert both.load[:20] == [0] * 20
    assert both.load[20] == 60
    both = beside(coarse, fine, ROME)
    assert len(both.points) == 24
    assert both.load[1] == round(60 + 57 / 2)


def test_differences_have_signs() -> None:
    now = Books(pv=6.0, load=4.0, grid_in=1.0)
    was = {"pv": 5.5, "load": 5.0, "grid_in": 1.0, "grid_out": None}
    made = {
        key: tuple(part.replace("\N{NO-BREAK SPACE}", " ") for part in pair)
        for key, pair in differences(now, was).items()
    }
    assert made == {
        "pv": ("+0.50 kWh", "5.50 kWh"),
        "load": ("\N{MINUS SIGN}1.00 kWh", "5.00 kWh"),
        "grid_in": ("0.00 kWh", "1.00 kWh"),
        "autarky": ("\N{MINUS SIGN}5 %", "80 %"),
    }


def test_arrows_keep_the_distance_and_years_stay_years() -> None:
    assert moved(date(2026, 11, 13), DAY, date(2026, 11, 18)) == date(2026, 11, 11)
    assert moved(date(2025, 11, 20), DAY, date(2024, 2, 29)) == date(2023, 2, 28)
    assert year_before(date(2028, 2, 29)) == date(2027, 2, 28)


@pytest.fixture
def two_days(log, app, sqlite):
    sqlite.add((at(8, day=-7) + timedelta(minutes=n), {"ac_output_power_w": 700.0, "pv_power_w": 0})
               for n in range(180))  # fmt: skip
    return app.test_client()


def test_the_page_compares(two_days) -> None:
    plain = two_days.get("/day/2026-11-20").text
    assert 'href="/day/2026-11-20?with=2026-11-13">a week before' in plain
    assert "the day before" not in plain  # it was not recorded
    assert "Difference" not in plain
    page = two_days.get("/day/2026-11-20?with=2026-11-13").text
    assert 'data-source="/day/2026-11-20.json?with=2026-11-13"' in page
    assert "and the difference from 13 November 2026" in page
    assert "13 Nov: 2.09\N{NO-BREAK SPACE}kWh" in page
    assert "\N{MINUS SIGN}1.29" in page or "\N{MINUS SIGN}1.30" in page
    assert 'value="2026-11-13"' in page
    assert 'href="/day/2026-11-20">Without the comparison' in page
    assert 'href="/day/2026-11-13?with=2026-11-06"' in page  # the arrow to the day before


def test_today_is_compared_with_as_much_of_the_other(two_days, sqlite, clock) -> None:
    sqlite.add((at(8, day=1) + timedelta(minutes=n), VALUES) for n in range(60))
    clock.moment = at(9, day=1).astimezone(UTC)
    page = two_days.get("/day/2026-11-21?with=2026-11-13").text
    assert "Of the other day, what it had by 09:00." in page
    assert "13 Nov: 0.69\N{NO-BREAK SPACE}kWh" in page
    assert 'rel="next"' not in page


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("yesterday", "“yesterday” is no date; write it as 2026-11-21."),
        ("2026-02-30", "The calendar has no 2026-02-30."),
        ("2026-12-24", "2026-12-24 has not happened yet."),
        ("1999-12-31", "before any record"),
        ("2026-11-20", "That is this very day."),
        ("2026-11-12", "Nothing was recorded on 12 November 2026."),
        ("٢٠٢٦-١١-١٣", "is no date"),
        ("<b>" + "x" * 500, "“&lt;b&gt;x"),
    ],
)
def test_a_day_that_cannot_be_compared_with_is_a_plain_message(two_days, text, note) -> None:
    page = two_days.get("/day/2026-11-20", query_string={"with": text})
    assert page.status_code == 200
    assert note in page.text
    assert "Totals" in page.text
    answer = two_days.get("/day/2026-11-20.json", query_string={"with": text})
    assert answer.status_code == 400
    assert note in answer.text


def test_an_empty_form_compares_with_nothing(two_days) -> None:
    page = two_days.get("/day/2026-11-20?with=")
    assert page.status_code == 200
    assert "Without the comparison" not in page.text
    assert two_days.get("/day/2026-11-20.json?with=").json["lines"] == []


def test_the_json_carries_the_other_day(two_days) -> None:
    alone = two_days.get("/day/2026-11-20.json").json
    assert alone["lines"] == []
    both = two_days.get("/day/2026-11-20.json?with=2026-11-13").json
    [line] = both["lines"]  # without sun there is no line of it
    assert (line["key"], line["label"]) == ("load", "House, 13 Nov")
    assert len(line["edge"]) == len(both["t"]) == 60 < 2 * 360
    assert set(line["edge"]) == {700}
    for area in both["areas"]:
        assert len(area["edge"]) == len(both["t"])
        assert area["edge"][-1] is None  # this day's samples end an hour earlier
    known = [value for value in both["areas"][0]["edge"] if value is not None]
    assert known == [value for value in alone["areas"][0]["edge"] if value is not None]


def test_without_a_database_nothing_is_compared(board) -> None:
    made = board()
    page = create_app(made.site, made).test_client().get("/day/2026-11-20?with=2026-11-13")
    assert page.status_code == 200
    assert "there is no database" in page.text.lower()
    assert 'id="beside"' not in page.text
