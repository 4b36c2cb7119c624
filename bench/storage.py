"""Ten years of a house in the private MariaDB, read as the portal reads it; what rollups cost.

20 series have ten years of hours and days, and as many of their minutes as fit the time of a bench:
ten years of four of them, 21 million rows; ``BENCH_MINUTE_SERIES=20`` fills those of all. The pool
is 128 MB, as the other benches have it, so most of that is not in memory. Every question is asked
of another year, day and series each time.

Upkeep is half an hour of 10 devices with 20 numbers every 5 s, stored by the recorder's own store
in commits 2 s apart, then rolled up stretch by stretch as the hour goes. The share leaves out what
else the recorder does for a message (broker, spool, decoding), so it is less in a house.
"""

import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

import psutil
import pymysql
from recorder.codec import Telemetry
from recorder.retention import Retention
from recorder.rollup import Rollup
from recorder.store import Store
from sqlalchemy import Connection
from sunmesh.database.history import by_day, curve, latest
from sunmesh.database.migrations import migrate
from sunmesh.database.sql import engine
from sunmesh.testing import MariaDB

from . import goals

YEARS, SERIES = 10, 20
MINUTE_SERIES = int(os.environ.get("BENCH_MINUTE_SERIES", "4"))
ASKED = 100
DEVICES, STEP_MS, LINGER_MS, PACE_MS = 10, 5_000, 2_000, 1_800_000

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
ZONE = ZoneInfo("Europe/Bratislava")
END = 1_790_035_200_000
"""A midnight of UTC in 2026; the house's last."""
BEGIN = END - YEARS * 365 * DAY_MS
NAMES = tuple(f"v{n}_w" for n in range(20))

_random = random.Random(11)


def measure() -> dict[str, dict[str, object]]:
    """One server for all."""
    with tempfile.TemporaryDirectory() as name:
        server = MariaDB(Path(name))
        server.start()
        try:
            return _house(server) | _upkeep(server)
        finally:
            server.stop()


def _fresh(server: MariaDB, name: str) -> str:
    server.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    url = server.url(name)
    migrate(url)
    return url


# --- Ten years ------------------------------------------------------------------------------------


def _fill(server: MariaDB, database: str) -> float:
    """Rows made inside the server, two connections at a time; how long that took [s]."""
    began = time.monotonic()
    head = ("SET unique_checks = 0", f"USE {database}")
    values = "seq MOD 500, seq MOD 500 + 90, seq MOD 500 + 40.5, seq MOD 500 + 50"

    def run(statements: list[str]) -> None:
        with pymysql.connect(host="127.0.0.1", port=server.port, user="root") as connection:
            connection.autocommit(True)
            for statement in (*head, *statements):
                connection.cursor().execute(statement)

    def rows(table: str, number: int, length: int) -> list[str]:
        count, year = (END - BEGIN) // length, 365 * DAY_MS // length
        return [
            f"INSERT INTO `{table}` SELECT {number}, {BEGIN} + seq * {length}, {values}, {length},"
            f" {length // 5000} FROM seq_{at}_to_{min(count, at + year) - 1}"
            for at in range(0, count, year)
        ]

    names = ", ".join(f"({n}, 'house', 'x{n}_w', 'W', 'gauge')" for n in range(1, SERIES + 1))
    run([f"INSERT INTO series (id, device, name, unit, kind) VALUES {names}"])
    run([f"INSERT INTO latest SELECT id, {END}, id, NULL, NULL FROM series"])
    jobs = [
        [each for n in range(1, SERIES + 1) for each in rows("hour", n, HOUR_MS)],
        [each for n in range(1, SERIES + 1) for each in rows("day", n, DAY_MS)],
    ]
    for first in (0, 1):
        for number in range(1 + first, MINUTE_SERIES + 1, 2):
            jobs[first] += rows("minute", number, MINUTE_MS)
    workers = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.monotonic() - began


def _house(server: MariaDB) -> dict[str, dict[str, object]]:
    url = _fresh(server, "years")
    filled_s = _fill(server, "years")
    opened = engine(url, read_only=True)
    with opened.connect() as connection:
        size, count = connection.exec_driver_sql(
            "SELECT data_length, (SELECT COUNT(*) FROM `minute`) FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND table_name = 'minute'"
        ).one()
        days = (END - BEGIN) // DAY_MS
        asked = {
            "year_by_day": lambda: _year(connection, _random.randrange(days - 365)),
            "curve_of_a_day": lambda: _day(connection, _random.randrange(days)),
            "latest_values": lambda: latest(connection, range(1, SERIES + 1)),
        }
        goals_ms = {"year_by_day": 3, "curve_of_a_day": 10, "latest_values": 2}
        result = {}
        for name, ask in asked.items():
            took = []
            for _ in range(ASKED):
                began = time.perf_counter()
                found = ask()
                took.append((time.perf_counter() - began) * 1000)
            result[name] = goals.at_most(
                median(took), goals_ms[name], "ms", slowest=round(max(took), 1), rows=len(found)
            )
    opened.dispose()
    result["fill"] = {
        "value": round(filled_s, 1),
        "unit": "s",
        "minutes": int(count),
        "bytes_a_minute": round(int(size) / int(count), 1),
    }
    return result


def _year(connection: Connection, day: int) -> object:
    start = BEGIN + day * DAY_MS
    found = by_day(connection, 1 + _random.randrange(SERIES), start, start + 365 * DAY_MS)
    assert len(found) == 365
    return found


def _day(connection: Connection, day: int) -> object:
    start = BEGIN + day * DAY_MS
    number = 1 + _random.randrange(MINUTE_SERIES)
    found = curve(connection, number, start, start + DAY_MS, 1440)
    assert len(found.points) == 1440
    return found.points


# --- Upkeep ---------------------------------------------------------------------------------------


def _batch(start: int) -> list[Telemetry]:
    """What comes in two seconds."""
    return [
        Telemetry(f"device{n}", ms, {name: round(_random.uniform(0, 300), 1) for name in NAMES}, {})
        for n in range(DEVICES)
        for ms in range(start, start + LINGER_MS)
        if ms % STEP_MS == n * STEP_MS // DEVICES
    ]


def _upkeep(server: MariaDB) -> dict[str, dict[str, object]]:
    url = _fresh(server, "pace")
    watched = psutil.Process(server.pid)
    store = Store(url, lambda _now: None)
    now = END
    stored: list[float] = []
    rolled: list[float] = []
    opened = engine(url, committed=True)
    rollup = Rollup(opened, ZONE, now=lambda: now)
    stop = threading.Event()
    server_s = 0.0
    values = 0
    while now < END + PACE_MS:
        batches = [_batch(ms) for ms in range(now, now + 300_000, LINGER_MS)]
        values += sum(len(item.values) for batch in batches for item in batch)
        began = time.process_time()
        for batch in batches:
            store.write(batch)
        stored.append(time.process_time() - began)
        now += 300_000 + 31_000
        began, before = time.process_time(), _cpu_s(watched)
        rollup.run(stop)
        rolled.append(time.process_time() - began)
        server_s += _cpu_s(watched) - before
        now -= 31_000
    store.close()
    began = time.process_time()
    with opened.begin() as connection:
        connection.exec_driver_sql("DELETE FROM dirty")
    now = END + 90 * DAY_MS
    retention = Retention(opened, {"sample": 60, "minute": 0, "decision": 0}, now=lambda: now)
    began = time.process_time()
    deleted = retention.run(stop)
    deleting = time.process_time() - began
    opened.dispose()
    stretches = len(rolled)
    return {
        "rollup_upkeep": goals.at_most(
            sum(rolled) / (sum(stored) + sum(rolled)),
            0.15,
            "of the CPU of storing and rolling up",
            stored_ms_a_stretch=round(sum(stored) / stretches * 1000, 1),
            rolled_ms_a_stretch=round(sum(rolled) / stretches * 1000, 1),
            server_ms_a_stretch=round(server_s / stretches * 1000, 1),
            values_a_stretch=values // stretches,
        ),
        "retention": {
            "value": round(deleting * 1e6 / max(1, deleted), 3),
            "unit": "us of the recorder's CPU a deleted row",
            "rows": deleted,
        },
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
