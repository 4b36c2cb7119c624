import math
import time
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event
from sunmesh.database import tables
from sunmesh.database.days import bounds
from web import queries
from web.queries import MINUTE_MS, WIDTH_MS, History, HistoryError

from .recorded import Recorded

ROME = ZoneInfo("Europe/Rome")
DAY = date(2026, 6, 10)


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ROME)


def house(moment: datetime) -> dict[str, float]:
    """2 kW of sun and 500 W of house; the battery takes the rest but 100 W."""
    return {
        "pv_power_w": 2000.0,
        "ac_output_power_w": 500.0,
        "battery_power_w": -1400.0,
        "battery_soc_percent": 50.0,
        "grid_voltage_v": 230.0,
    }


def every(start: datetime, end: datetime, seconds: float, values=house):
    moment = start
    while moment < end:
        yield moment, values(moment)
        moment += timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 29), 23), (date(2026, 6, 10), 24), (date(2026, 10, 25), 25)],
)
def test_days_are_local_days(day: date, hours: int) -> None:
    start, end = bounds(day, ROME)
    assert end - start == hours * 3_600_000
    assert start % WIDTH_MS == 0
    chatham = ZoneInfo("Pacific/Chatham")
    assert bounds(day, chatham)[0] % WIDTH_MS == 0, "zones of 45 minutes fit the stretches too"


def test_a_day_of_ten_hours_sums_up(database, history: History) -> None:
    database.add(every(local("2026-06-10T08:00"), local("2026-06-10T18:00:01"), 30))
    database.add([(local("2026-06-09T12:00"), {"device_mode": "battery"})])
    day = history.day(DAY)
    books = day.books
    assert books.pv == pytest.approx(20.0)
    assert books.load == pytest.approx(5.0)
    assert books.battery_in == pytest.approx(14.0)
    assert books.battery_out == 0
    assert books.grid_in == 0
    assert books.how["pv"] == "summed"
    assert books.how["grid_in"] == "estimated"
    assert books.autarky == 1.0
    known = [point for point in day.points if point.known]
    assert len(known) == 201
    assert {point.pv for point in known} == {2000.0}


def test_nothing_is_summed_over_a_gap(database, history: History) -> None:
    database.add(every(local("2026-06-10T08:00"), local("2026-06-10T10:00:01"), 30))
    database.add(every(local("2026-06-10T12:00"), local("2026-06-10T13:00:01"), 30))
    day = history.day(DAY)
    assert day.books.pv == pytest.approx(6.0)
    gaps = [point for point in day.points if not point.known]
    assert len(gaps) == 1
    assert local("2026-06-10T10:00").timestamp() * 1000 < gaps[0].ms
    assert gaps[0].ms < local("2026-06-10T12:00").timestamp() * 1000


def test_a_lost_poll_is_no_gap(database, history: History) -> None:
    rows = list(every(local("2026-06-10T08:00"), local("2026-06-10T09:00:01"), 30))
    del rows[50:52]
    database.add(rows)
    day = history.day(DAY)
    assert day.books.pv == pytest.approx(2.0)
    assert all(point.known for point in day.points)


def test_samples_every_five_minutes_have_no_false_gaps(database, history: History) -> None:
    start = local("2026-06-10T00:00:07")
    jitter = [start + timedelta(seconds=300 * n + (n % 7)) for n in range(280)]
    database.add((moment, house(moment)) for moment in jitter)
    day = history.day(DAY)
    assert all(point.known for point in day.points)
    assert 460 <= len(day.points) <= 480
    assert day.books.pv == pytest.approx(2 * (jitter[-1] - jitter[0]).total_seconds() / 3600)


def test_signs_and_trapezoids(database, history: History) -> None:
    def wave(moment: datetime) -> dict[str, float]:
        t = (moment - local("2026-06-10T06:00")).total_seconds()
        return house(moment) | {"battery_power_w": 1000 * math.sin(2 * math.pi * t / 3600)}

    database.add(every(local("2026-06-10T06:00"), local("2026-06-10T12:00:01"), 20, wave))
    books = history.day(DAY).books
    # Six periods; each half wave holds 1000 W · 1 h / π.
    assert books.battery_out == pytest.approx(6 / math.pi, rel=2e-3)
    assert books.battery_in == pytest.approx(6 / math.pi, rel=2e-3)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
def test_days_of_23_and_25_hours(database, history: History, day: date, hours: int) -> None:
    start, end = bounds(day, ROME)
    first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start, end))
    database.add(every(first - timedelta(hours=2), last + timedelta(hours=2), 150))
    made = history.day(day)
    assert len(made.points) == hours * 20
    assert made.books.pv == pytest.approx(2.0 * hours, rel=0.005)
    assert made.points[0].ms == start
    assert made.points[-1].ms == end - WIDTH_MS


def test_counters_go_before_sums(database, history: History) -> None:
    def counting(moment: datetime) -> dict[str, float]:
        hours = (moment - local("2026-06-09T23:30")).total_seconds() / 3600
        reset = -80.0 if hours > 10 else 0.0
        return house(moment) | {"pv_energy_total_kwh": 100.25 + hours * 3 + reset}

    database.add(every(local("2026-06-09T23:30"), local("2026-06-10T20:00"), 60, counting))
    books = history.day(DAY).books
    assert books.how["pv"] == "counter"
    assert books.pv == pytest.approx(60.0, abs=0.4), "3 kWh an hour, whatever the power says"


def test_arrows_skip_empty_days(database, history: History) -> None:
    for text in ("2026-06-01T12:00", "2026-06-10T12:00", "2026-06-15T00:00"):
        database.add([(local(text), house(local(text)))])
    database.add([(local("2026-06-12T12:00"), {"temperature_c": 20.0})], "shed")
    assert history.neighbours(DAY) == (date(2026, 6, 1), date(2026, 6, 15))
    assert history.neighbours(date(2026, 6, 1)) == (None, DAY)
    assert history.neighbours(date(2026, 6, 15)) == (DAY, None)


def test_last_above_looks_back_two_weeks(database, history: History) -> None:
    pair = ("inverter", "grid_voltage_v")
    now = local("2026-06-10T12:00")
    seen = now - timedelta(days=9)
    far = now - timedelta(days=20)
    database.add([(far, {"grid_voltage_v": 230.0}), (now, {"grid_voltage_v": 0.0})])
    before = round(now.timestamp() * 1000)
    assert history.last_above(pair, 60, before) is None
    database.add([(seen, {"grid_voltage_v": 231.0})])
    assert history.last_above(pair, 60, before) == round(seen.timestamp() * 1000)
    assert history.last_above(("x", "y"), 60, before) is None


def test_only_the_day_is_read(database, history: History) -> None:
    """Every question names its series and, but for the nearest neighbours, both ends of time."""
    database.add(every(local("2026-06-10T08:00"), local("2026-06-10T09:00"), 60))
    history.day(DAY)
    asked: list[str] = []
    engine = history._connect()
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    history._days.clear()
    history.day(DAY)
    history.neighbours(DAY)
    on_samples = [statement for statement in asked if "FROM sample" in statement]
    assert on_samples
    for statement in on_samples:
        assert "series_id =" in statement
        assert statement.count("sample.ts <") + statement.count("sample.ts >=") >= 1


def test_today_grows_by_what_is_new(sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = timezone(timedelta(hours=12 - datetime.now(UTC).hour))  # where it is about noon now
    history = History(sqlite.url, zone)
    now = datetime.now(zone)
    start = now - timedelta(hours=2)
    sqlite.add(every(start, now - timedelta(minutes=10), 10))
    monkeypatch.setattr(queries, "TODAY_TTL_S", 0)
    history.day(now.date())
    read: list[tuple[int, int]] = []
    original = history._buckets
    monkeypatch.setattr(
        history, "_buckets", lambda n, s, e, g: read.append((s, e)) or original(n, s, e, g)
    )
    sqlite.add(every(now - timedelta(minutes=9, seconds=55), now, 10))
    grown = history.day(now.date())
    assert min(s for s, _ in read) > (now - timedelta(minutes=20)).timestamp() * 1000
    again = History(sqlite.url, zone)
    whole = again.day(now.date())
    again.close()
    assert grown.points == whole.points
    assert grown.books == whole.books
    history.close()


def test_a_past_day_comes_from_memory(sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(sqlite.url, ROME)
    sqlite.add(every(local("2026-06-10T08:00"), local("2026-06-10T09:00"), 60))
    first = history.day(DAY)
    monkeypatch.setattr(history, "_rows", lambda query: pytest.fail("asked again"))
    assert history.day(DAY) is first
    monkeypatch.undo()
    for back in range(1, 8):
        history.day(DAY - timedelta(days=back))
    assert len(history._days) == queries.KEPT_DAYS
    history.close()


def test_the_portal_cannot_write(database, history: History) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    database.add([(local("2026-06-10T12:00"), house(local("2026-06-10T12:00")))])
    history.series()
    with history._connect().connect() as connection, pytest.raises(SQLAlchemyError):
        connection.execute(text("DELETE FROM sample"))


def test_a_missing_file_is_said(tmp_path) -> None:
    history = History(f"sqlite:///{tmp_path}/none.db", ROME)
    with pytest.raises(HistoryError, match="there is no database .*none.db yet"):
        history.day(DAY)
    assert not (tmp_path / "none.db").exists()


def test_an_empty_file_is_said(tmp_path) -> None:
    (tmp_path / "empty.db").touch()
    history = History(f"sqlite:///{tmp_path}/empty.db", ROME)
    with pytest.raises(HistoryError, match="has no tables yet"):
        history.series()
    history.close()


def test_a_server_that_is_away_is_said_soon(free_port: int) -> None:
    history = History(f"mysql+pymysql://web:secret@127.0.0.1:{free_port}/sunmesh", ROME)
    started = time.monotonic()
    with pytest.raises(HistoryError, match="does not answer; is it running") as caught:
        history.series()
    assert time.monotonic() - started < 5
    assert "secret" not in str(caught.value)


def test_an_empty_server_is_said(database_url: str) -> None:
    history = History(database_url, ROME)
    with pytest.raises(HistoryError, match="has no tables yet"):
        history.series()
    history.close()


def test_a_booked_day_shows_the_books_and_its_correction_soon(
    database, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import text

    start, day = local("2026-06-10T08:00"), DAY
    database.add(every(start, start + timedelta(hours=2), 60))
    own = history.day(day).books
    assert own.how["load"] == "summed"
    flags = ("measured", "integrated", "recovered", "estimated", "edited", "imported")
    ms = round(start.timestamp() * 1000)
    with database.engine.begin() as connection:
        columns = ", ".join(f"{flag}_wh DOUBLE NOT NULL DEFAULT 0" for flag in flags)
        for statement in (
            "CREATE TABLE energy (flow VARCHAR(20), ts DECIMAL(13,0), PRIMARY KEY (flow, ts))",
            "CREATE TABLE energy_day (flow VARCHAR(20), day DATE, wh DOUBLE,"
            f" {columns}, PRIMARY KEY (flow, day))",
            f"INSERT INTO energy VALUES ('load', {ms + 3 * 3_600_000})",
            "INSERT INTO energy_day (flow, day, wh, measured_wh)"
            f" VALUES ('load', '{day.isoformat()}', 4321, 4321)",
        ):
            connection.execute(text(statement))
    monkeypatch.setattr(queries, "TODAY_TTL_S", 0.0)
    booked = history.day(day).books
    assert booked.load == 4.321
    assert booked.how["load"] == "booked"
    assert booked.pv == own.pv
    with database.engine.begin() as connection:
        connection.execute(
            text("UPDATE energy_day SET wh = 1000, edited_wh = 1000, measured_wh = 0")
        )
    corrected = history.day(day).books
    assert corrected.load == 1.0
    assert corrected.note("load") == "corrected by hand"


def test_switchings_are_the_newest_with_the_reason_of_their_moment(database, history) -> None:
    assert history.switchings("grid-relay") == []
    start = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    rows = []
    for number in range(25):
        is_open = number % 2 == 1
        values = {
            "relay_position": "grid_open" if is_open else "grid_connected",
            "relay_reason": "leased" if is_open else "lease_expired",
        }
        rows.append((start + timedelta(hours=number), values))
    # A reason that changes while the relay stands belongs to no switching.
    rows.append((start + timedelta(hours=24, minutes=5), {"relay_reason": "asked"}))
    database.add(rows, device="grid-relay")
    history._series_at = float("-inf")
    found = history.switchings("grid-relay")
    assert len(found) == 20
    assert found[0].ms == round((start + timedelta(hours=24)).timestamp() * 1000)
    assert (found[0].position, found[0].reason) == ("grid_connected", "lease_expired")
    assert (found[1].position, found[1].reason) == ("grid_open", "leased")


def test_minutes_of_what_is_sampled_every_five_have_no_false_gaps(tmp_path) -> None:
    """Such a series has one row in five minutes, and it says how far it reaches."""
    recorded = Recorded(f"sqlite:///{tmp_path}/rolled.db")
    start, end = bounds(DAY, ROME)
    for name, step in (("pv_power_w", 300_000), ("ac_output_power_w", MINUTE_MS)):
        rows = [(ts, 1000.0) for ts in range(start, end, step)]
        recorded.roll("minute", "inverter", name, rows, covered_ms=step)
    with recorded.engine.begin() as connection:
        connection.execute(tables.horizon.insert().values(level="minute", ts=start))
    recorded.close()
    history = History(recorded.url, ROME)
    day = history.day(DAY)
    history.close()
    assert [point.pv for point in day.points] == pytest.approx([1000.0] * 480)
    assert day.books.pv == pytest.approx(24.0)
