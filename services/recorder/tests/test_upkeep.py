"""Retention, the forecast and the thread that sees to them."""

import itertools
import json
import logging
import math
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from zoneinfo import ZoneInfo

import pytest
from recorder import forecast as forecasts
from recorder import retention, upkeep
from recorder.config import RecorderConfig
from recorder.forecast import forecast
from recorder.retention import Retention
from recorder.upkeep import Upkeep
from sqlalchemy import make_url
from sunmesh.database.sql import engine, literal, mark_dirty
from sunmesh.mqtt import Mesh
from sunmesh.testing import MariaDB, migrated, wait_for

from .conftest import Process, iso, rows
from .house import HOUR, SERIES, T0, House, steady

DAY = 24 * HOUR
KEEP = {"sample": 10, "minute": 20, "decision": 30}


@pytest.fixture
def house(url: str) -> Iterator[House]:
    migrated(url)
    made = House(url)
    made.execute(SERIES)
    yield made
    made.close()


def oldest(house: House, table: str, number: int = 1) -> int | None:
    return rows(house.url, f"SELECT MIN(ts) FROM `{table}` WHERE series_id = {number}")[0][0]


def booked(house: House) -> None:
    """The bookkeeper has seen to everything."""
    house.execute("DELETE FROM dirty WHERE consumer = 'books'")


def make(house: House, **options: object) -> Retention:
    options = {"piece": 50, "pause_s": 0.0, **options}
    return Retention(house.engine, KEEP, now=lambda: house.now, **options)  # type: ignore[arg-type]


# --- Retention ------------------------------------------------------------------------------------


def test_each_level_has_its_age(house: House) -> None:
    midnight = T0 - T0 % DAY
    samples = steady(midnight - 30 * DAY, midnight, HOUR // 3)
    for number in (1, 3):
        house.add(number, samples)
    house.run(midnight + 3 * HOUR)
    booked(house)
    for day in range(40):
        house.execute(f"INSERT INTO decision VALUES ('export', {midnight - day * DAY}, '{{}}')")
    before = {name: house.table(name) for name in ("minute", "hour", "day")}
    done = make(house)
    deleted = done.run(threading.Event())
    left = {ts: value for ts, value in samples.items() if ts >= midnight - 10 * DAY}
    for number in (1, 3):
        kept = rows(house.url, f"SELECT ts, value FROM sample WHERE series_id = {number}")
        assert dict(kept) == left
    minutes = {ts: row for ts, row in before["minute"].items() if ts >= midnight - 20 * DAY}
    assert house.table("minute") == minutes
    assert {name: house.table(name) for name in ("hour", "day")} == {
        name: before[name] for name in ("hour", "day")
    }
    assert rows(house.url, "SELECT MIN(ts), COUNT(*) FROM decision") == [(midnight - 30 * DAY, 31)]
    assert sorted(rows(house.url, "SELECT level, ts FROM horizon")) == [
        ("decision", midnight - 30 * DAY),
        ("minute", midnight - 20 * DAY),
        ("sample", midnight - 10 * DAY),
    ]
    gone = 2 * (len(samples) - len(left) + len(before["minute"]) - len(minutes)) + 9
    assert done.deleted == deleted == gone
    assert done.run(threading.Event()) == 0
    # and what was made of the deleted ones stays, whatever comes
    house.add(1, {midnight - 25 * DAY + 5: 1e6})
    house.run()
    assert house.table("hour") == before["hour"]


@pytest.mark.parametrize("consumer", ["rollup", "books"])
def test_what_somebody_has_not_seen_stays(
    house: House, consumer: str, caplog: pytest.LogCaptureFixture
) -> None:
    midnight = T0 - T0 % DAY
    samples = steady(midnight - 15 * DAY, midnight, HOUR)
    house.add(1, samples)
    house.now = midnight + 3 * HOUR
    unseen = midnight - 12 * DAY
    house.execute(f"DELETE FROM dirty WHERE consumer <> '{consumer}' OR ts <> {unseen}")
    done = make(house)
    done.run(threading.Event())
    first = oldest(house, "sample")
    assert first is not None
    assert unseen - 3 * HOUR <= first < unseen
    assert "bookkeeper" in caplog.text
    assert 2 <= done.held_back_days < 2.2
    house.execute("DELETE FROM dirty")
    done.run(threading.Event())
    first = oldest(house, "sample")
    assert first is not None
    assert first >= midnight - 10 * DAY
    assert done.held_back_days == 0


def test_what_comes_late_while_it_deletes_stays(house: House) -> None:
    midnight = T0 - T0 % DAY
    house.now = midnight + 3 * HOUR
    samples = steady(midnight - 15 * DAY, midnight, 600_000)
    house.add(1, samples)
    house.execute("DELETE FROM dirty")
    late = midnight - 11 * DAY

    def between() -> None:
        house.add(1, {late: 5.0})

    done = make(house, between=between)
    done.run(threading.Event())
    assert rows(house.url, f"SELECT value FROM sample WHERE ts = {late}") == [(5.0,)]
    first = oldest(house, "sample")
    assert first is not None
    assert first < late
    house.execute("DELETE FROM dirty")
    make(house).run(threading.Event())
    assert oldest(house, "sample") == min(ts for ts in samples if ts >= midnight - 10 * DAY)


def test_for_ever_is_for_ever(house: House) -> None:
    house.now = T0 + 4000 * DAY
    house.add(1, {T0: 1.0})
    house.execute("DELETE FROM dirty")
    done = Retention(house.engine, dict.fromkeys(KEEP, 0), now=lambda: house.now)
    assert done.run(threading.Event()) == 0
    assert rows(house.url, "SELECT * FROM horizon") == []


def test_a_stop_is_heard_between_two_pieces(house: House) -> None:
    house.now = T0 + 100 * DAY
    house.add(1, steady(T0, T0 + HOUR, 5_000))
    house.execute("DELETE FROM dirty")
    stop = threading.Event()
    assert make(house, between=stop.set).run(stop) == 50


ROWS = {"mysql": 400_000, "sqlite": 250_000}


def fill(house: House, count: int) -> None:
    """That many old samples of five series."""
    start = T0 - 200 * DAY
    if house.reader:
        house.execute(
            "INSERT INTO sample WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
            f" WHERE i < {count - 1}) SELECT 1 + i % 5, {start} + i * 1000, i FROM n"
        )
    else:
        house.execute(
            f"INSERT INTO sample SELECT 1 + MOD(seq, 5), {start} + seq * 1000, seq"
            f" FROM seq_0_to_{count - 1}"
        )


def test_storing_goes_on_while_many_rows_are_deleted(house: House) -> None:
    count = ROWS[make_url(house.url).get_backend_name()]
    fill(house, count)
    house.now = T0
    done = Retention(house.engine, KEEP, pause_s=0.005, now=lambda: house.now)
    opened = engine(house.url)
    clock = itertools.count(T0, 1000)

    def store() -> float:
        now = next(clock)
        began = time.monotonic()
        with opened.begin() as connection:
            batch = literal((number, now, 1.0) for number in range(1, 8))
            connection.exec_driver_sql(f"INSERT INTO sample VALUES {batch}")
            mark_dirty(connection, [now])
        return time.monotonic() - began

    quiet = [store() for _ in range(30)]
    stop = threading.Event()
    worker = threading.Thread(target=done.run, args=(stop,))
    worker.start()
    busy = []
    while worker.is_alive():
        busy.append(store())
        time.sleep(0.02)
    worker.join()
    opened.dispose()
    assert done.deleted == count
    assert rows(house.url, f"SELECT COUNT(*) FROM sample WHERE ts < {T0}") == [(0,)]
    assert len(busy) > 20
    assert median(busy) < 10 * median(quiet) + 0.05
    assert max(busy) < 10.0


# --- The forecast ---------------------------------------------------------------------------------


def test_what_it_says(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = T0 - T0 % DAY
    house.add(1, steady(midnight - 3 * DAY, midnight + HOUR, 60_000))
    house.add(2, steady(midnight - 3 * DAY, midnight + HOUR, 600_000))
    house.run(midnight + 2 * HOUR)
    opened = engine(house.url, read_only=True)
    with opened.connect() as connection:
        found = forecast(connection, KEEP, now=midnight + 1, limit_bytes=10**9)
        roomy = forecast(connection, KEEP, now=midnight + 1, limit_bytes=1)
    opened.dispose()
    levels = found["levels"]
    assert {name: level["rows_a_day"] for name, level in levels.items()} == {
        "sample": 1440 + 144,
        "minute": 1440 + 144 + 48,
        "hour": 48,
        "day": 2,
        "energy": 0,
    }
    assert levels["sample"]["kept_days"] == 10
    assert levels["hour"]["kept_days"] is None
    assert found["bytes_a_day"] > found["bytes_a_day_for_ever"] > 0
    assert found["bytes"] > 10_000
    assert found["settles_at_bytes"] > found["bytes"]
    assert found["free_bytes"] <= 10**9 - found["bytes"]
    assert found["full_in_days"] is None or found["full_in_days"] > 1000
    assert (roomy["free_bytes"], roomy["full_in_days"]) == (0, 0)
    json.dumps(found)
    lines = forecasts.for_people(found)
    assert any("sample" in line and "kept 10 days" in line for line in lines)


def test_an_empty_database_grows_by_nothing(house: House) -> None:
    opened = engine(house.url, read_only=True)
    with opened.connect() as connection:
        found = forecast(connection, KEEP, now=T0)
    opened.dispose()
    assert found["bytes_a_day"] == 0
    assert found["full_in_days"] is None


def test_the_day_on_which_it_is_full() -> None:
    draw = random.Random(3)
    for _ in range(50):
        levels = {name: {"bytes_a_day": draw.randrange(1, 9)} for name in "abc"}
        left = {name: draw.choice([0.0, 3.0, 40.0, 36_500.0]) for name in "abc"}
        room = draw.randrange(1, 3000)
        grown, day = 0.0, 0
        while grown < room and day < 36_500:
            day += 1
            grown = sum(levels[name]["bytes_a_day"] * min(day, left[name]) for name in "abc")
        assert forecasts._full(levels, left, room) == (day if grown >= room else None)


# --- The thread -----------------------------------------------------------------------------------


def at_work(url: str, **settings: object) -> Upkeep:
    config = RecorderConfig(**settings)  # type: ignore[arg-type]
    made = Upkeep(url, config, ZoneInfo("Europe/Bratislava"))
    made.start()
    return made


def stopped(made: Upkeep) -> None:
    began = time.monotonic()
    made.stop()
    assert time.monotonic() - began < 10.0
    assert made._worker is not None
    wait_for(lambda: not made._worker.is_alive(), 5)  # type: ignore[union-attr]


def test_it_works_by_itself_and_stops_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CHECK_S", 1)
    house.add(1, steady(T0, T0 + HOUR, 10_000))
    made = at_work(house.url)
    wait_for(lambda: made.counters()["rollup_stretches"] == 12, 20)
    house.add(1, {T0 + 5: 4.0})
    wait_for(lambda: made.counters()["rollup_stretches"] == 13, 20)
    made._ask(made.look_ahead)
    made._ask(made.forget)
    wait_for(lambda: made.counters()["database_bytes"], 20)
    wait_for(lambda: made.counters()["retention_held_back_days"], 20)
    assert made.counters()["rollup_waiting"] == 0
    json.dumps(made.counters())
    stopped(made)


def test_a_backlog_lets_other_jobs_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TURN_S", 0.0)
    house.add(1, steady(T0, T0 + 20 * HOUR, 60_000))
    made = at_work(house.url)
    wait_for(lambda: made.counters()["rollup_stretches"], 20)
    made._ask(made.look_ahead)
    wait_for(lambda: made.counters()["database_bytes"], 20)
    wait_for(lambda: made.counters()["rollup_stretches"] == 240, 60)
    stopped(made)


def test_it_waits_for_the_tables_and_the_server(
    database_url: str,
    mariadb: MariaDB,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(upkeep, "CHECK_S", 1)
    caplog.set_level(logging.INFO)
    made = at_work(database_url)
    time.sleep(1.5)
    assert "upkeep" not in caplog.text
    migrated(database_url)
    house = House(database_url)
    house.execute(SERIES)
    house.add(1, steady(T0, T0 + HOUR, 60_000))
    wait_for(lambda: made.counters()["rollup_stretches"] == 12, 20)
    house.close()
    mariadb.stop()
    wait_for(lambda: "upkeep waits for the database" in caplog.text, 20)
    time.sleep(2)
    assert caplog.text.count("upkeep waits") == 1
    mariadb.start()
    wait_for(lambda: "upkeep goes on" in caplog.text, 20)
    stopped(made)


def test_only_one_of_two_recorders_does_it(database_url: str) -> None:
    migrated(database_url)
    one, two = (at_work(database_url) for _ in range(2))
    wait_for(lambda: one._ready and two._ready, 20)
    free = [made._usable() for made in (one, two) if not made._work.qsize()]
    assert sorted(free) == [False, True]
    for made in (one, two):
        stopped(made)


# --- The process ----------------------------------------------------------------------------------


def commits(mariadb: MariaDB) -> int:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=mariadb.port, user="root") as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Com_commit'")
        return int(cursor.fetchall()[0][1])


def test_a_card_sees_one_commit_in_two_seconds_at_most(
    database_url: str,
    mariadb: MariaDB,
    recorder: Callable[..., Process],
    started: Callable[[Process], None],
    mesh: Callable[..., Mesh],
) -> None:
    process = recorder(database_url, linger_s=2.0, sd_card=True)
    started(process)
    devices = mesh("collector")
    for turn in range(30):
        for device in ("inverter", "bms"):
            message = {"v": 1, "ts": iso(int(time.time() * 1000)), "values": {"pv_power_w": turn}}
            devices.publish(devices.topics.telemetry(device), json.dumps(message).encode())
        if turn == 5:
            before, began = commits(mariadb), time.monotonic()
        time.sleep(0.5)
    seconds = time.monotonic() - began
    made = commits(mariadb) - before
    assert seconds > 10
    assert 1 <= made <= math.floor(seconds / 2) + 1
    wait_for(lambda: rows(database_url, "SELECT COUNT(*) FROM sample") == [(60,)], 30)
    assert process.end(signal.SIGTERM) == 0


def test_status_tells_the_forecast(
    sqlite_url: str, recorder: Callable[..., Process], mesh: Callable[..., object]
) -> None:
    process = recorder(sqlite_url, database_limit_mb=100)
    for more, wanted in ((["--json"], '"full_in_days"'), ([], "room      ")):
        said = subprocess.run(
            [sys.executable, "-m", "recorder", "status", "--config", str(process.config), *more],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert wanted in said


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"raw_days": -1}, "raw_days must be 0 or more"),
        ({"raw_days": 2}, "3 and more"),
        ({"database_limit_mb": -5}, "database_limit_mb"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RecorderConfig(**settings)  # type: ignore[arg-type]


def test_pieces_are_small() -> None:
    assert retention.PIECE <= 5000
