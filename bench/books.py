"""The energy books: a year booked again, and what keeping them costs, on the private MariaDB.

The year is filled as the recorder's minutes: 7 flows of 13 series, 6.8 million rows, made inside
the database from a day's profile. Upkeep is a day of samples every 5 s from the same devices,
rolled up every 5 and booked every 15 minutes, beside what the recorder's process spends on as many
messages when they come two a second.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bookkeeper.service import Keeper
from recorder.codec import Telemetry
from recorder.rollup import GRACE_S, Rollup
from recorder.store import Store
from sqlalchemy import Connection, insert, text
from sunmesh import clock, config
from sunmesh.database import energy, sql, tables
from sunmesh.database.migrations import migrate
from sunmesh.testing import MariaDB

from . import goals
from .recorder import Bench, rest_cpu_s

DAY_MS, MINUTE_MS = 86_400_000, 60_000
YEAR_DAYS = int(os.environ.get("BENCH_BOOKS_DAYS", "365"))
STEP_MS = 5000
BOOKED_MS = 900_000
GAUGES = {
    ("inverter", "pv_power_w"): "pv",
    ("inverter", "ac_output_power_w"): "loads",
    ("meter", "grid_power_w"): "grid",
    ("battery", "battery_power_w"): "battery",
    ("battery", "battery_soc_percent"): "soc",
    ("battery", "battery_voltage_v"): "52.0",
    ("battery", "cell_voltage_v/1"): "3.3",
    ("diesel", "load_power_w"): "diesel",
}
COUNTERS = {
    ("inverter", "pv_energy_total_kwh"): "pv",
    ("inverter", "load_energy_total_kwh"): "loads",
    ("meter", "grid_import_energy_kwh"): "imported",
    ("meter", "grid_export_energy_kwh"): "exported",
    ("diesel", "load_energy_total_kwh"): "diesel",
}
SITE = """
[site]
time_zone = "Europe/Rome"
latitude = 43.5
longitude = 11.9
[database]
url = "{url}"
[devices.inverter]
family = "axpert"
[devices.meter]
family = "meter"
[devices.battery]
family = "bms"
[devices.diesel]
family = "meter"
[energy]
left_out = ["diesel"]
[energy.generator]
lifetime = ["diesel.load_energy_total_kwh"]
power = ["diesel.load_power_w"]
"""


def profile() -> Iterator[dict[str, float]]:
    """Each minute of a day: powers [W] and what was counted since midnight [kWh]."""
    sums = dict.fromkeys(("pv", "loads", "imported", "exported", "diesel"), 0.0)
    soc = 60.0
    for minute in range(1440):
        hour = minute / 60
        pv = max(0.0, 4200 * math.sin((hour - 5) / 14 * math.pi)) if 5 < hour < 19 else 0.0
        loads = 650 + 350 * math.sin(hour * 1.7)
        diesel = 1500.0 if 3 <= hour < 4 else 0.0
        wanted = loads - pv - diesel
        battery = 0.0 if (wanted < 0 and soc >= 100) or (wanted > 0 and soc <= 60) else wanted
        soc = min(100.0, max(60.0, soc - battery / 60 / 10_000 * 100))
        grid = wanted - battery
        now = {"pv": pv, "loads": loads, "diesel": diesel, "grid": grid, "battery": battery}
        now |= {"imported": max(0.0, grid), "exported": max(0.0, -grid)}
        for name in sums:
            sums[name] += now[name] / 60_000
        yield {"m": minute, "soc": soc} | now | {f"{name}_kwh": sums[name] for name in sums}


def measure() -> dict[str, dict[str, object]]:
    """Seconds for a year, and CPU seconds for a day."""
    with tempfile.TemporaryDirectory(prefix="sunmesh-bench-") as name:
        server = MariaDB(Path(name))
        server.start()
        try:
            server.execute("CREATE DATABASE year CHARACTER SET utf8mb4")
            server.execute("CREATE DATABASE today CHARACTER SET utf8mb4")
            return _year(server, Path(name)) | _day(server, Path(name))
        finally:
            server.stop()


def _site(server: MariaDB, folder: Path, name: str) -> tuple[Path, str]:
    url = server.url(name)
    path = folder / f"{name}.toml"
    path.write_text(SITE.format(url=url), encoding="utf-8")
    migrate(url)
    return path, url


def _year(server: MariaDB, folder: Path) -> dict[str, dict[str, object]]:
    site, url = _site(server, folder, "year")
    opened = sql.engine(url, patient=True)
    end = clock.epoch_ms(clock.now()) // DAY_MS * DAY_MS
    start = end - YEAR_DAYS * DAY_MS
    with opened.begin() as connection:
        _fill(connection, start)
    times: list[float] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    first, last = (clock.from_ms(ms).date().isoformat() for ms in (start, end))
    subprocess.run(
        [sys.executable, "-m", "bookkeeper", "rebuild", "--config", str(site)]
        + ["--from", first, "--to", last],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    times.append(time.perf_counter() - began)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    zone = config.load(site).site.zone
    with opened.connect() as connection:
        whole = energy.figures(connection, zone, *energy.span(connection) or ())
        again = [_timed(lambda: energy.table(connection, zone, *_year_of(start), "day"))]
        again += [
            _timed(lambda: energy.table(connection, zone, *_year_of(start), "day"))
            for _ in range(20)
        ]
    opened.dispose()
    day = list(profile())[-1]
    truth = {"pv": day["pv_kwh"], "load": day["loads_kwh"], "generator": day["diesel_kwh"]}
    wrong = max(
        abs((whole.wh(flow) or 0) / 1000 / (kwh * YEAR_DAYS) - 1) for flow, kwh in truth.items()
    )
    return {
        "rebuild_year": goals.at_most(
            times[0], 60, "s", days=YEAR_DAYS, flows=len(whole.flows), cpu_s=round(cpu, 1)
        ),
        "year_off_by": goals.at_most(wrong, 0.001, "of the year's energy"),
        "figures_year_by_day": goals.at_most(
            sorted(again)[len(again) // 2] * 1000, 50, "ms", months=12
        ),
    }


def _year_of(start: int) -> tuple[object, object]:
    first = clock.from_ms(start).date()
    return first, first.replace(year=first.year + 1)


def _timed(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - began


def lay_out(connection: Connection) -> dict[str, float]:
    """The profile of a day as a temporary table, for the database to multiply; its last minute."""
    rows = list(profile())
    names = list(rows[0])
    columns = ", ".join(f"{name} DOUBLE" for name in names[1:])
    connection.execute(
        text(f"CREATE TEMPORARY TABLE profile ({names[0]} INT PRIMARY KEY, {columns})")
    )
    marks = ", ".join(f":{name}" for name in names)
    connection.execute(text(f"INSERT INTO profile VALUES ({marks})"), rows)
    return rows[-1]


def add_series(connection: Connection, device: str, name: str) -> int:
    """A series without values; its number."""
    kind = "list" if "/" in name else "gauge"
    made = connection.execute(
        insert(tables.series).values(device=device, name=name, unit="", kind=kind)
    )
    return made.inserted_primary_key[0] if made.inserted_primary_key else 0


def _fill(connection: Connection, start: int) -> None:
    """A year of minutes, made from the profile of a day by the database itself."""
    last = lay_out(connection)
    for (device, name), column in (GAUGES | COUNTERS).items():
        number = add_series(connection, device, name)
        value = column
        if (device, name) in COUNTERS:
            value = f"ROUND(1000 + {last[column + '_kwh']!r} * (seq DIV 1440) + {column}_kwh, 3)"
        connection.execute(
            text(
                "INSERT INTO minute (series_id, ts, min, max, mean, last, covered_ms, samples)"
                f" SELECT {number}, {start} + seq * {MINUTE_MS}, v, v, v, v, {MINUTE_MS}, 12 FROM"
                f" (SELECT seq, {value} AS v FROM seq_0_to_{YEAR_DAYS * 1440 - 1}"
                " JOIN profile ON m = seq % 1440) AS made ORDER BY seq"
            )
        )


def _day(server: MariaDB, folder: Path) -> dict[str, dict[str, object]]:
    """A day as it comes: every step stored by the recorder's store, then booked."""
    site, url = _site(server, folder, "today")
    keeper = Keeper.of(config.load(site))
    store = Store(url, lambda _now: None)
    end = clock.epoch_ms(clock.now()) // DAY_MS * DAY_MS
    start = end - DAY_MS
    rows = list(profile())
    spent = {"rollup": 0.0, "books": 0.0}
    keeper.store.hold()
    now = [start]
    opened = sql.engine(url, committed=True)
    rollup = Rollup(opened, keeper.zone, now=lambda: now[0] + round(GRACE_S * 1000))
    devices = dict.fromkeys(device for device, _ in GAUGES | COUNTERS)
    for begin in range(start, end, tables.BUCKET_MS):
        items = []
        for ts in range(begin, begin + tables.BUCKET_MS, STEP_MS):
            row = rows[(ts - start) // MINUTE_MS]
            for device in devices:
                values = {
                    name.partition("/")[0]: [3.3]
                    if "/" in name
                    else _value(row, column, (device, name) in COUNTERS)
                    for (owner, name), column in (GAUGES | COUNTERS).items()
                    if owner == device
                }
                items.append(Telemetry(device, ts, values, {}))
        store.write(items)
        now[0] = begin + tables.BUCKET_MS
        began = time.process_time()
        rollup.run(threading.Event())
        spent["rollup"] += time.process_time() - began
        if now[0] % BOOKED_MS:
            continue
        began = time.process_time()
        while keeper.turn(now[0]):
            pass
        spent["books"] += time.process_time() - began
    messages = len(devices) * DAY_MS // STEP_MS
    keeper.store.close()
    store.close()
    opened.dispose()
    with Bench(folder / "rest") as bench:
        recorder = rest_cpu_s(bench) * messages
    share = sum(spent.values()) / recorder
    return {
        "upkeep": goals.at_most(
            share,
            0.15,
            "of the recorder's CPU",
            recorder_s_a_day=round(recorder, 1),
            messages_a_day=messages,
            **{f"{name}_s_a_day": round(value, 2) for name, value in spent.items()},
        ),
    }


def _value(row: dict[str, float], column: str, counts: bool) -> float:
    if counts:
        return round(1000 + row[f"{column}_kwh"], 3)
    return float(column) if column[0].isdigit() else row[column]


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
