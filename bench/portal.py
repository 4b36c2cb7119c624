"""The portal over ten years of data, with people looking at it, on the private MariaDB.

Ten years of books (7 flows by 5 minutes), of hours and days of 24 series, a year of minutes and
three days of samples of 8 of them, made inside the database from a day's profile and the seasons.
``web`` runs as it does in a house; a publisher stands in for three collectors. Against it: what
Home Assistant asks its statistics table for to draw a year by days (each hourly row of each
statistic, ``statistics_during_period``), over the same hours in the same server.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Connection, create_engine, insert, text
from sunmesh import clock
from sunmesh.config import BrokerSection
from sunmesh.database import costs, energy, tables
from sunmesh.database.migrations import migrate
from sunmesh.database.tariff import Band, Side, Tariff
from sunmesh.messages import Info, Sample, Status, Value, encode
from sunmesh.mqtt import Mesh
from sunmesh.testing import Broker, MariaDB, find_chromium, find_free_port, wait_for
from sunmesh.topics import Topics

from . import goals
from .books import add_series, lay_out
from .latency import CHROMIUM, VOLTAGE, WATCH
from .mesh import BIN, pss_mib

YEARS = int(os.environ.get("BENCH_PORTAL_YEARS", "10"))
MINUTE_DAYS = int(os.environ.get("BENCH_PORTAL_MINUTE_DAYS", "365"))
SAMPLE_DAYS = 3
BROWSERS = 50
VIEWERS = 20
THINK_S = 2.0
"""Between two pages of one visitor."""
LOOK_S = float(os.environ.get("BENCH_PORTAL_SECONDS", "40"))
BEATS = 40
POINTS = 500_000
DAY_MS, HOUR_MS, MINUTE_MS, STEP_MS = 86_400_000, 3_600_000, 60_000, 5000

SERIES: dict[tuple[str, str], str] = {
    ("inverter", "pv_power_w"): "pv",
    ("inverter", "ac_output_power_w"): "loads",
    ("inverter", "battery_voltage_v"): "52 + soc / 50",
    ("meter", "grid_power_w"): "grid",
    ("meter", "grid_voltage_v"): "230",
    ("battery", "battery_power_w"): "battery",
    ("battery", "battery_soc_percent"): "soc",
    ("battery", "battery_voltage_v"): "52 + soc / 50",
} | {("battery", f"cell_voltage_v/{n}"): f"3.2 + soc / 1000 + {n} / 10000" for n in range(1, 17)}
CHIEF = 8
"""So many of them have minutes and samples."""
FLOWS = {
    "pv": "pv",
    "load": "loads",
    "grid_import": "GREATEST(grid, 0)",
    "grid_export": "GREATEST(-grid, 0)",
    "battery_charge": "GREATEST(-battery, 0)",
    "battery_discharge": "GREATEST(battery, 0)",
    "generator": "diesel",
}
SEASON = "(1 + 0.4 * COS((({ms}) / 86400000 - 172) / 365.25 * 2 * PI()))"
SITE = """
[site]
name = "house"
time_zone = "Europe/Rome"
latitude = 43.5
longitude = 11.9
[broker]
port = {broker}
[database]
url = "{url}"
[web]
port = {port}
[devices.inverter]
family = "axpert"
port = "/dev/serial/by-id/bench-1"
[devices.meter]
family = "meter"
port = "/dev/serial/by-id/bench-2"
[devices.battery]
family = "bms"
port = "/dev/serial/by-id/bench-3"
"""
HA_YEAR = (
    "SELECT metadata_id, start_ts, mean, min, max, last_reset_ts, state, sum FROM statistics"
    " WHERE start_ts >= %s AND start_ts < %s AND metadata_id IN (1, 2, 3, 4, 5, 6, 7)"
    " ORDER BY metadata_id, start_ts"
)


@dataclass
class Stage:
    """What runs."""

    url: str
    port: int
    topics: Topics
    publisher: Mesh
    pid: int

    @property
    def root(self) -> str:
        """Where the portal is."""
        return f"http://127.0.0.1:{self.port}"


def measure() -> dict[str, dict[str, object]]:
    """All numbers of the portal."""
    with stage() as house:
        paths = _pages(house)
        found = _alone(house, paths) | _year(house)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
            found |= _first_look(house, browser) | _drawing(house, browser)
            with listening(house, BROWSERS - 1) as listeners:
                page = browser.new_page(locale="en-GB")
                page.goto(f"{house.root}/")
                page.wait_for_selector(VOLTAGE, timeout=60_000)
                found |= _live(house, page, listeners)
                page.close()
            with listening(house, BROWSERS) as listeners:
                found |= _crowd(house, paths)
                found |= {"web_pss": goals.at_most(pss_mib(house.pid), 60, "MiB")}
                listeners()
            browser.close()
    return found


# -- what is looked at -----------------------------------------------------------------------------


@contextmanager
def stage() -> Iterator[Stage]:
    """Broker, database with its past, portal, and a publisher."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sunmesh-bench-")))
        for name in ("broker", "database"):
            (folder / name).mkdir()
        broker, server = Broker(folder / "broker"), MariaDB(folder / "database")
        for each in (broker, server):
            each.start()
            stack.callback(each.stop)
        server.execute("CREATE DATABASE house CHARACTER SET utf8mb4")
        url = server.url("house")
        migrate(url)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("SET SESSION sort_buffer_size = 16777216"))
            fill(connection)
        engine.dispose()
        port = find_free_port()
        site = folder / "site.toml"
        site.write_text(SITE.format(broker=broker.port, url=url, port=port), encoding="utf-8")
        topics = Topics("house")
        publisher = Mesh(BrokerSection(port=broker.port), topics, "bench")
        publisher.start()
        stack.callback(publisher.stop)
        wait_for(lambda: publisher.connected, why="the broker answers")
        with (folder / "web.log").open("wb") as out:
            web = subprocess.Popen([BIN / "web", "run", "--config", site], stdout=out, stderr=out)
        stack.callback(_stop, web)
        made = Stage(url, port, topics, publisher, web.pid)
        _introduce(made)
        stop = threading.Event()
        beat = threading.Thread(target=_beats, args=(made, stop), daemon=True)
        beat.start()
        stack.callback(stop.set)
        wait_for(lambda: _is_up(made), why="the portal answers")
        yield made


def _is_up(house: Stage) -> bool:
    """Whether Now shows values."""
    try:
        return b'data-s="battery.volts"' in _get(house, "/")[1]
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def fill(connection: Connection) -> None:
    """Ten years, made from the profile of a day by the database itself."""
    lay_out(connection)
    now = clock.epoch_ms(clock.now())
    midnight = now // DAY_MS * DAY_MS - HOUR_MS  # of the site, in winter
    days = round(YEARS * 365.25)
    start = midnight - days * DAY_MS
    for place, ((device, name), value) in enumerate(SERIES.items()):
        number = add_series(connection, device, name)
        _rollup(connection, "hour", number, value, start, HOUR_MS, days * 24)
        _rollup(connection, "day", number, value, start, DAY_MS, days)
        if place >= CHIEF:
            continue
        first = midnight - MINUTE_DAYS * DAY_MS
        _rollup(connection, "minute", number, value, first, MINUTE_MS, (now - first) // MINUTE_MS)
        begun = midnight - SAMPLE_DAYS * DAY_MS
        count = (now - begun) // STEP_MS
        connection.execute(
            text(
                f"INSERT INTO sample (series_id, ts, value) SELECT {number},"
                f" {begun} + seq * {STEP_MS}, {value} FROM seq_0_to_{count - 1}"
                f" JOIN profile ON m = seq * {STEP_MS} DIV {MINUTE_MS} % 1440 ORDER BY seq"
            )
        )
    for level, kept in (("sample", SAMPLE_DAYS), ("minute", MINUTE_DAYS)):
        connection.execute(insert(tables.horizon).values(level=level, ts=midnight - kept * DAY_MS))
    _books(connection, start, now)
    _alarms(connection, start, now)
    tariff = Tariff(
        buy=Side(0.31, (Band("night", 0.19, "22:00", "06:00"),)), sell=Side(0.08), co2_grid=380
    )
    costs.save(connection, clock.from_ms(start).date(), tariff, "bench", now=now)
    _statistics(connection, start, days)


def _rollup(
    connection: Connection, level: str, number: int, value: str, start: int, step: int, count: int
) -> None:
    ms = f"{start} + seq * {step}"
    at = f"seq * {step} DIV {MINUTE_MS} % 1440" if step < DAY_MS else "720"
    season = SEASON.format(ms=ms) if value in ("pv", "loads") else "1"
    connection.execute(
        text(
            f"INSERT INTO `{level}` (series_id, ts, `min`, `max`, mean, `last`, covered_ms,"
            f" samples) SELECT {number}, ts, v * 0.9, v * 1.1, v, v, {step}, {step // STEP_MS}"
            f" FROM (SELECT {ms} AS ts, ({value}) * {season} AS v FROM seq_0_to_{count - 1}"
            f" JOIN profile ON m = {at}) AS made ORDER BY ts"
        )
    )


def _books(connection: Connection, start: int, now: int) -> None:
    count = (now - start) // tables.BUCKET_MS
    for flow, power in FLOWS.items():
        ms = f"{start} + seq * {tables.BUCKET_MS}"
        season = SEASON.format(ms=ms)
        connection.execute(
            text(
                "INSERT INTO energy (flow, ts, wh, source, flag, covered_s)"
                f" SELECT '{flow}', {ms}, ({power}) / 12 * {season}, 'power', 'integrated', 300"
                f" FROM seq_0_to_{count - 1} JOIN profile ON m = seq * 5 % 1440 ORDER BY seq"
            )
        )
        connection.execute(
            text(
                "INSERT INTO energy_day (flow, day, wh, covered_s, measured_wh, integrated_wh,"
                " recovered_wh, estimated_wh, edited_wh, imported_wh)"
                f" SELECT '{flow}', DATE_ADD('1970-01-01', INTERVAL ((ts + {HOUR_MS}) DIV"
                f" {DAY_MS}) DAY) AS day, SUM(wh), SUM(covered_s), 0, SUM(wh), 0, 0, 0, 0"
                f" FROM energy WHERE flow = '{flow}' GROUP BY day"
            )
        )


def _alarms(connection: Connection, start: int, now: int) -> None:
    """Two each three days, all over."""
    rows = [
        {
            "device": "inverter",
            "code": "overload",
            "id": f"a{ms}",
            "state": state,
            "severity": "warning",
            "title": "Overload",
            "text": "The inverter gave more than it can for long.",
            "ts": ms + after,
            "value": 5200.0,
        }
        for ms in range(start, now - DAY_MS, 36 * HOUR_MS)
        for state, after in (("raised", 0), ("cleared", 600_000))
    ]
    connection.execute(insert(tables.alarm), rows)


def _statistics(connection: Connection, start: int, days: int) -> None:
    """The same hours as Home Assistant keeps them."""
    connection.execute(
        text(
            "CREATE TABLE statistics (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,"
            " created DATETIME(6), created_ts DOUBLE, metadata_id BIGINT, start DATETIME(6),"
            " start_ts DOUBLE, mean DOUBLE, mean_weight DOUBLE, min DOUBLE, max DOUBLE,"
            " last_reset DATETIME(6), last_reset_ts DOUBLE, state DOUBLE, sum DOUBLE,"
            " UNIQUE KEY ix_statistics_statistic_id_start_ts (metadata_id, start_ts),"
            " KEY ix_statistics_start_ts (start_ts))"
        )
    )
    for number, flow in enumerate(FLOWS, 1):
        connection.execute(
            text(
                "INSERT INTO statistics (created_ts, metadata_id, start_ts, state, sum)"
                f" SELECT at + 3610, {number}, at, SUM(kwh) OVER (ORDER BY at),"
                " SUM(kwh) OVER (ORDER BY at) FROM (SELECT ts DIV"
                f" {HOUR_MS} * 3600 AS at, SUM(wh) / 1000 AS kwh FROM energy WHERE flow = '{flow}'"
                f" AND ts < {start + days * DAY_MS} GROUP BY at) AS hours ORDER BY at"
            )
        )


# -- what lives ------------------------------------------------------------------------------------


def _introduce(house: Stage) -> None:
    now = clock.iso(clock.now())
    for device, family in (("inverter", "axpert"), ("meter", "meter"), ("battery", "bms")):
        for topic, content in (
            (house.topics.info(device), Info(now, family, "Bench", "B-1", poll_interval_s=2.0)),
            (house.topics.status(device), Status("online", now)),
        ):
            house.publisher.publish(topic, encode(content), retain=True)


def _values(volts: float) -> dict[str, dict[str, Value]]:
    return {
        "inverter": {
            "pv_power_w": 1800.0,
            "ac_output_power_w": 640.0,
            "grid_voltage_v": 229.0,
            "device_mode": "battery",
            "heat_sink_temperature_c": 41.0,
        },
        "meter": {"grid_power_w": 0.0, "grid_voltage_v": 229.0},
        "battery": {
            "battery_voltage_v": volts,
            "battery_power_w": -1080.0,
            "battery_current_a": -20.5,
            "battery_soc_percent": 71.0,
            "cell_voltage_v": [3.31 + n / 1000 for n in range(16)],
        },
    }


def _publish(house: Stage, volts: float) -> float:
    """Say it for all devices; when it was said of the battery."""
    now = clock.iso(clock.now())
    for device, values in _values(volts).items():
        house.publisher.publish(
            house.topics.telemetry(device), encode(Sample(ts=now, values=values)), retain=True
        )
    return time.time()


def _beats(house: Stage, stop: threading.Event) -> None:
    """A sample of each device every 2 s; the voltage tells which."""
    number = 0
    while not stop.wait(2.0):
        SAID[f"{48 + number % 90 / 10:.1f}"] = _publish(house, 48 + number % 90 / 10)
        number += 1


SAID: dict[str, float] = {}
"""Voltage → when it was said last."""


@contextmanager
def listening(house: Stage, count: int) -> Iterator[Callable[[], dict[str, list[float]]]]:
    """Open pages; the function ends them and says when each voltage arrived."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.viewers", "streams", str(house.port), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    opened = int(process.stdout.readline())
    if opened != count:
        raise RuntimeError(f"only {opened} of {count} streams were opened")

    def end() -> dict[str, list[float]]:
        out, _ = process.communicate("", timeout=60)
        found: dict[str, list[float]] = json.loads(out)
        return found

    try:
        yield end
    finally:
        with suppress(OSError, ValueError):
            process.stdin.close()
        process.wait(30)


# -- numbers ---------------------------------------------------------------------------------------


def _get(house: Stage, path: str) -> tuple[float, bytes]:
    """How long an answer took [ms], and the answer."""
    asked = urllib.request.Request(house.root + path, headers={"Accept-Language": "en"})
    began = time.perf_counter()
    with urllib.request.urlopen(asked, timeout=60) as answer:
        body: bytes = answer.read()
    return 1000 * (time.perf_counter() - began), body


def _pages(house: Stage) -> list[str]:
    """Every page that the portal offers, with a few below them; those for guests."""
    page = _get(house, "/")[1].decode()
    nav = re.search(r'<nav class="pages".*?</nav>', page, re.S)
    assert nav is not None
    linked = dict.fromkeys(re.findall(r'<a href="(/[^"#]*)"', nav[0]))
    today = datetime.now(UTC).date()
    year = today.year
    more = [
        f"/day/{today}",
        f"/day/{today - timedelta(days=1)}",
        f"/day/{today}.json",
        f"/history/{year}",
        f"/history/{year}-05",
        "/history/total",
        f"/money/{year}-05",
        f"/money/{year}",
        "/devices/battery",
        "/api",
        "/api/v1/latest",
        f"/api/v1/energy?from={year}-01-01&by=month",
        f"/api/v1/series/inverter/points?name=pv_power_w&from={year}-01-01",
    ]
    found = []
    for path in (*linked, *more):
        try:
            _get(house, path)
        except OSError as err:
            print(f"portal: {path}: {err}", file=sys.stderr)
            continue
        found.append(path)
    return found


def _alone(house: Stage, paths: list[str]) -> dict[str, dict[str, object]]:
    """Each page for one visitor."""
    times = {path: median(_get(house, path)[0] for _ in range(7)) for path in paths}
    slowest = max(times, key=lambda path: times[path])
    return {
        "slowest_page_alone": goals.at_most(
            times[slowest],
            60,
            "ms at the median",
            page=slowest,
            pages={path: round(ms, 1) for path, ms in times.items()},
        )
    }


def _year(house: Stage) -> dict[str, dict[str, object]]:
    """A year's History, and what Home Assistant reads for the same; each year in turn."""
    import pymysql

    today = date.today()
    years = [today.year - n for n in range(1, YEARS)]
    ours = [_get(house, f"/history/{year}")[0] for _ in range(5) for year in years]
    engine = create_engine(house.url, isolation_level="AUTOCOMMIT")
    theirs, plain = [], []
    address = engine.url
    with engine.connect() as connection:
        for _ in range(2):
            for year in years:
                first, end = date(year, 1, 1), date(year + 1, 1, 1)
                began = time.perf_counter()
                energy.table(connection, UTC, first, end, "month")
                plain.append(1000 * (time.perf_counter() - began))
    with pymysql.connect(
        host=address.host, port=address.port or 3306, user="root", database="house"
    ) as raw:
        for _ in range(2):
            for year in years:
                began = time.perf_counter()
                _assistant(raw.cursor(), year)
                theirs.append(1000 * (time.perf_counter() - began))
    engine.dispose()
    return {
        "history_year": goals.at_most(
            median(ours),
            50,
            "ms at the median, the whole page",
            max=round(max(ours), 1),
            years=len(years),
        ),
        "history_year_against_home_assistant": {
            "value": round(median(ours) / median(theirs), 4),
            "unit": "of its rows read and summed by day, without a page",
            "home_assistant_ms": round(median(theirs), 1),
            "our_query_ms": round(median(plain), 1),
            "goal": 1,
            "met": median(ours) < median(theirs),
        },
    }


def _assistant(cursor: Any, year: int) -> int:  # noqa: ANN401
    """Hourly sums of a year, as changes by day."""
    start = datetime(year, 1, 1, tzinfo=UTC).timestamp()
    end = datetime(year + 1, 1, 1, tzinfo=UTC).timestamp()
    cursor.execute(HA_YEAR, (start, end))
    changes: dict[tuple[int, int], float] = {}
    before: dict[int, float] = {}
    for number, at, *_between, total in cursor.fetchall():
        key = (number, int(at // 86_400))
        changes[key] = changes.get(key, 0.0) + total - before.get(number, total)
        before[number] = total
    return len(changes)


def _first_look(house: Stage, browser: Browser) -> dict[str, dict[str, object]]:
    """Now, by a browser that has never been here."""
    paints, sizes, parts = [], [], {}
    for _ in range(7):
        context = browser.new_context(locale="en-GB", viewport={"width": 360, "height": 740})
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        urls: dict[str, str] = {}
        loaded: dict[str, float] = {}
        session.on(
            "Network.requestWillBeSent",
            lambda e, urls=urls: urls.update({e["requestId"]: e["request"]["url"]}),
        )
        session.on(
            "Network.loadingFinished",
            lambda e, urls=urls, loaded=loaded: loaded.update(
                {urls.get(e["requestId"], ""): e["encodedDataLength"]}
            ),
        )
        page.goto(f"{house.root}/", wait_until="load")
        page.wait_for_function(
            "performance.getEntriesByName('first-contentful-paint').length > 0", timeout=30_000
        )
        page.wait_for_timeout(500)
        paints.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        sizes.append(sum(loaded.values()) / 1000)
        parts = {url.removeprefix(house.root): round(size) for url, size in loaded.items()}
        context.close()
    return {
        "now_first_contentful_paint": goals.at_most(
            median(paints), 500, "ms at the median", max=round(max(paints)), runs=len(paints)
        ),
        "now_transferred": goals.at_most(median(sizes), 150, "kB", parts=parts),
    }


DRAW = """async ([url, points]) => {
  if (!window.uPlot) await new Promise((done) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = done;
    document.head.append(script);
  });
  const x = Float64Array.from({length: points}, (_, i) => 1.7e9 + i * 5);
  const y = Float64Array.from({length: points}, (_, i) => 1000 * Math.sin(i / 9e4) + i % 97);
  const place = document.createElement("div");
  document.body.append(place);
  const times = [];
  for (let run = 0; run < 7; run += 1) {
    place.replaceChildren();
    const begun = performance.now();
    const plot = new window.uPlot(
      {width: 900, height: 320, series: [{}, {stroke: "#e8a400"}]}, [x, y], place);
    await new Promise((done) => setTimeout(done));
    plot.ctx.getImageData(0, 0, 1, 1);
    times.push(performance.now() - begun);
    plot.destroy();
  }
  return times;
}"""


def _drawing(house: Stage, browser: Browser) -> dict[str, dict[str, object]]:
    """A curve of half a million points, painted."""
    page = browser.new_page()
    page.goto(f"{house.root}/more")
    times = page.evaluate(DRAW, ["/static/vendor/uPlot.js", POINTS])
    page.close()
    return {
        "chart_of_500000_points": goals.at_most(
            median(times), 100, "ms at the median", max=round(max(times), 1)
        )
    }


def _live(
    house: Stage, page: Page, listeners: Callable[[], dict[str, list[float]]]
) -> dict[str, dict[str, object]]:
    """From the message to the DOM of one browser, and to the streams of 49 more."""
    page.evaluate(WATCH)
    SAID.clear()
    time.sleep(2.0 * (BEATS + 1))
    seen: list[tuple[float, str]] = page.evaluate("window.seen")
    arrived = listeners()
    shown = [at - 1000 * SAID[value] for at, raw in seen[1:] if (value := raw.split()[0]) in SAID]
    streams = [
        1000 * (at - SAID[value])
        for value, times in arrived.items()
        if value in SAID
        for at in times
    ]
    ordered = sorted(streams)
    return {
        "message_to_dom": goals.at_most(
            _share(shown, 0.95),
            300,
            "ms at the 95th percentile",
            median=round(median(shown), 1),
            max=round(max(shown), 1),
            samples=len(shown),
            connected=BROWSERS,
        ),
        "message_to_streams": goals.at_most(
            _share(ordered, 0.95),
            300,
            "ms at the 95th percentile",
            median=round(median(ordered), 1),
            max=round(ordered[-1], 1),
            events=len(ordered),
        ),
    }


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _crowd(house: Stage, paths: list[str]) -> dict[str, dict[str, object]]:
    """Visitors who open page after page, while 50 others look at Now."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.viewers", "pages", str(house.port), str(VIEWERS)),
            *(str(LOOK_S), str(THINK_S), *paths),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    took = msgspec.json.decode(done.stdout, type=list[tuple[str, float, int]])
    times = [ms for _, ms, _ in took]
    by_page: dict[str, list[float]] = {}
    for path, ms, _ in took:
        by_page.setdefault(path, []).append(ms)
    slowest = max(by_page, key=lambda path: median(by_page[path]))
    more = {
        "viewers": VIEWERS,
        "pages": len(times),
        "a_second": round(len(times) / LOOK_S, 1),
        "failed": sum(status >= 400 for _, _, status in took),
    }
    return {
        "crowd_median": goals.at_most(
            median(times),
            60,
            "ms",
            slowest=slowest,
            slowest_median=round(median(by_page[slowest]), 1),
            **more,
        ),
        "crowd_p95": goals.at_most(_share(times, 0.95), 150, "ms", max=round(max(times), 1)),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
