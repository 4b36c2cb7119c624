import csv
import io
import json
import re
from datetime import timedelta

import pytest
from sunmesh.clock import iso
from sunmesh.errors import ConfigError
from sunmesh.messages import Sample, encode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics
from web.app import HEADERS, create_app
from web.pages import PAGES
from web.streams import events

from .visiting import Browser

INVERTER = '[devices.inverter]\nfamily = "axpert"\n'
VALUES = {
    "grid_voltage_v": 230.0,
    "ac_output_power_w": 400.0,
    "battery_voltage_v": 52.0,
    "battery_power_w": -520.0,
    "battery_soc_percent": 80.0,
    "pv_power_w": 1000.0,
}


@pytest.fixture
def client(board):
    """A client of a portal with one inverter and no database."""
    made = board()
    return create_app(made.site, made).test_client()


@pytest.fixture
def full(board, sqlite, clock):
    """A client of a portal with two hours of history this morning and a sample now."""
    start = clock.moment - timedelta(hours=2)
    sqlite.add((start + timedelta(seconds=30 * n), VALUES) for n in range(241))
    sqlite.add([(start - timedelta(days=4), VALUES)])
    made = board(database="history.db")
    payload = encode(Sample(ts=iso(clock.moment), values=VALUES))
    topic = Topics("home").telemetry("inverter")
    made.live.hear(Message(topic, payload, False, False, 1, 1))
    made.refresh()
    return create_app(made.site, made).test_client()


def test_an_app_needs_nothing_but_a_configuration(site) -> None:
    assert create_app(site()).test_client().get("/").status_code == 200


def test_a_wrong_table_is_refused(site) -> None:
    with pytest.raises(ConfigError, match=r"site\.toml: web\.thread: is not known"):
        create_app(site("[web]\nthread = 3\n"))
    with pytest.raises(ConfigError, match="web.port: must be 1 to 65535"):
        create_app(site("[web]\nport = 99999\n"))
    with pytest.raises(ConfigError, match="web.threads: must be 2 to 200"):
        create_app(site("[web]\nthreads = 1\n"))
    with pytest.raises(ConfigError, match="web.battery_kwh: must be above 0"):
        create_app(site("[web]\nbattery_kwh = 0.0\n"))
    with pytest.raises(ConfigError, match="web.battery_reserve_percent: must be 0 to below 100"):
        create_app(site("[web]\nbattery_reserve_percent = 100.0\n"))


@pytest.mark.parametrize("path", ["/", "/day", "/day/2026-11-21", "/nowhere", "/static/portal.css"])
def test_every_answer_carries_the_headers(client, path: str) -> None:
    with client.get(path) as answer:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert "Set-Cookie" not in answer.headers


def test_now_renders_without_broker_and_database(client) -> None:
    page = client.get("/").text
    assert "Waiting for the first sample" in page
    assert "collector-axpert" in page
    assert client.get("/now.json").json["slots"]["sentence"].startswith("No data from the inverter")


def test_now_without_any_device_says_what_to_do(board) -> None:
    made = board(rest="")
    page = create_app(made.site, made).test_client().get("/").text
    assert "[devices.inverter]" in page
    assert "make demo" in page


def test_now_shows_the_house(full) -> None:
    page = full.get("/").text
    assert "Sun covers everything." in page
    for text in ('data-s="node.pv1.text"', 'data-s="battery.soc">80<', 'data-s="tile.pv"'):
        assert text in page
    assert 'data-fresh="inverter"' in page
    part = full.get("/?part=main").text
    assert "<html" not in part
    assert "Sun covers everything." in part


def test_the_snapshot_is_what_the_page_shows(full) -> None:
    page, snapshot = full.get("/").text, full.get("/now.json").json
    assert f'data-layout="{snapshot["layout"]}"' in page
    shown = set(re.findall(r'data-[scw]="([^"]+)"', page))
    assert shown <= set(snapshot["slots"])


def test_names_from_outside_are_escaped(board, clock) -> None:
    made = board()
    values = VALUES | {"device_mode": "<script>alert(1)</script>", "warnings": ["<b>x</b>"]}
    payload = encode(Sample(ts=iso(clock.moment), values=values))
    made.live.hear(Message(Topics("home").telemetry("inverter"), payload, False, False, 1, 1))
    page = create_app(made.site, made).test_client().get("/").text
    assert "<script>alert" not in page
    assert "<b>x" not in page


def test_pages_keep_nothing_and_assets_are_kept(client) -> None:
    assert client.get("/").headers["Cache-Control"] == "no-store"
    page = client.get("/").text
    style = re.search(r'href="(/static/portal.css\?v=\w+)"', page)[1]
    with client.get(style) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
    with client.get("/static/portal.css") as answer:
        assert answer.headers["Cache-Control"] == "no-cache"


def test_it_can_be_installed(client) -> None:
    with client.get("/manifest.webmanifest") as answer:
        assert answer.mimetype == "application/manifest+json"
        manifest = answer.json
    assert manifest["start_url"] == manifest["scope"] == "/"
    assert {icon["sizes"] for icon in manifest["icons"]} >= {"192x192", "512x512"}
    assert any(icon["purpose"] == "maskable" for icon in manifest["icons"] if "purpose" in icon)
    for icon in manifest["icons"]:
        with client.get(icon["src"]) as answer:
            assert answer.status_code == 200
            assert answer.mimetype == icon["type"]
    for shortcut in manifest["shortcuts"]:
        assert client.get(shortcut["url"]).status_code in (200, 302, 303)


def test_the_worker_keeps_files_that_there_are(client) -> None:
    with client.get("/sw.js") as answer:
        assert answer.mimetype == "text/javascript"
        assert answer.headers["Cache-Control"] == "no-cache"
        first, rest = answer.text.split(";\n", 1)
    assert rest.startswith("// The service worker")
    shell = json.loads(first.removeprefix("const SHELL = "))
    for address in (*shell["files"], *shell["kept"], shell["offline"]):
        with client.get(address) as answer:
            assert answer.status_code == 200, address
    assert shell["kept"] == ["/", "/?part=main", "/now.json"]
    with client.get("/sw.js", headers={"Accept-Language": "de"}) as other:
        assert shell["mark"] not in other.text, "the page without portal is in a language, too"


def test_a_language_is_chosen_by_browser_and_by_hand(board, clock) -> None:
    app = create_app(board().site, board())
    browser = Browser(app)
    assert '<html lang="en"' in browser.get("/").text
    italian = {"Accept": "text/html", "Accept-Language": "pt, it-IT;q=0.8"}
    assert '<html lang="it"' in browser.get("/", headers=italian).text
    answer = browser.post("/language", "/more", language="cs", next="/alarms")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/alarms")
    assert '<html lang="cs"' in browser.get("/", headers=italian).text
    assert browser.post("/language", "/more", language="xx").status_code == 400
    away = browser.post("/language", "/more", language="de", next="//example.org/")
    assert away.headers["Location"] == "/more"
    browser.post("/language", "/more", language="auto")
    assert '<html lang="it"' in browser.get("/", headers=italian).text
    assert browser.post("/language", language="de").status_code == 403, "no mark, no change"


def test_navigation_leads_to_every_page(client) -> None:
    page = client.get("/").text
    offered = re.findall(r"</svg><span>(\w+)</span>(?:<span[^>]*></span>)?</a>", page)
    known = {each.name for each in PAGES}
    assert [name for name in offered if name in known] == [
        each.name for each in PAGES if each.endpoint in client.application.view_functions
    ]
    assert offered[-1] == "More"
    assert page.count("aria-current") == 1


# -- day -----------------------------------------------------------------------------------------


def test_day_leads_to_today(full) -> None:
    for path in ("/day", "/day/"):
        answer = full.get(path)
        assert answer.status_code == 302
        assert answer.headers["Location"] == "/day/2026-11-21"


def test_day_shows_totals_and_neighbours(full) -> None:
    page = full.get("/day/2026-11-21").text
    assert "Saturday, 21 November 2026" in page
    assert 'href="/day/2026-11-17"' in page
    assert 'rel="next"' not in page
    assert "2.00\N{NO-BREAK SPACE}kWh" in page
    assert "estimated from the balance" in page


def test_an_empty_day_says_so(full) -> None:
    page = full.get("/day/2026-11-19").text
    assert "No samples on this day" in page
    assert 'rel="prev" href="/day/2026-11-17"' in page
    assert 'rel="next" href="/day/2026-11-21"' in page


def test_a_day_of_25_hours_says_so(full) -> None:
    assert "This day has 25 hours" in full.get("/day/2026-10-25").text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tomorrow", "“tomorrow” is no date; write it as 2026-11-21."),
        ("2026-2-3", "“2026-2-3” is no date"),
        ("2026-02-30", "The calendar has no 2026-02-30."),
        ("2026-11-22", "2026-11-22 has not happened yet."),
        ("1999-12-31", "1999-12-31 is before any record"),
        ("<b>", "“&lt;b&gt;” is no date"),
    ],
)
def test_a_bad_date_is_404_with_the_reason(client, text: str, reason: str) -> None:
    for end in ("", ".json", ".csv"):
        answer = client.get(f"/day/{text}{end}")
        assert answer.status_code == 404
        assert reason in answer.text


def test_the_chart_gets_edges_ticks_and_zone(full) -> None:
    chart = full.get("/day/2026-11-21.json").json
    assert chart["to"] - chart["from"] == 86_400
    assert [label for _, label in chart["ticks"]] == [
        "00", "03", "06", "09", "12", "15", "18", "21", "24",
    ]  # fmt: skip
    assert chart["offsets"] == [[chart["from"], 3600]]
    assert [(area["side"], area["key"]) for area in chart["areas"]] == [
        ("up", "sun"),
        ("down", "house"),
        ("down", "battery"),
        ("down", "loss"),
    ]
    assert all(len(area["edge"]) == len(chart["t"]) for area in chart["areas"])
    assert set(chart["soc"]) == {80.0}
    changed = full.get("/day/2026-10-25.json").json
    assert [offset for _, offset in changed["offsets"]] == [7200, 3600]
    assert len(changed["ticks"]) == 9
    assert changed["to"] - changed["from"] == 25 * 3600


def test_the_table_is_what_is_on_screen(full) -> None:
    answer = full.get("/day/2026-11-21.csv")
    assert answer.mimetype == "text/csv"
    assert "day-2026-11-21.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 41
    assert rows[0]["time_local"] == "2026-11-21T11:00:00+01:00"
    assert rows[0]["time_utc"] == "2026-11-21T10:00:00.000Z"
    assert rows[0]["pv_power_w"] == "1000.0"
    assert rows[0]["sun_to_battery_w"] == "520.0"
    assert "-0.0" not in answer.text


def test_day_without_a_database(client) -> None:
    page = client.get("/day/2026-11-21")
    assert page.status_code == 200
    assert "there is no database" in page.text.lower()
    for end in (".json", ".csv"):
        answer = client.get(f"/day/2026-11-21{end}")
        assert answer.status_code == 503
        assert "there is no database" in answer.text


def test_day_without_assets_keeps_its_table(full, monkeypatch) -> None:
    monkeypatch.setattr("web.views.day.CHART", "vendor/missing.js")
    page = full.get("/day/2026-11-21").text
    assert "services/web/install-assets" in page
    assert "Totals" in page
    assert "uPlot" not in page


# -- errors and streams --------------------------------------------------------------------------


def test_errors_have_a_page_in_style(client) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "Nothing lives at this address." in answer.text
    assert "portal.css" in answer.text
    answer = client.post("/")
    assert answer.status_code == 405
    assert "This page can only be read." in answer.text


def test_a_mistake_of_ours_tells_nothing(board, monkeypatch) -> None:
    made = board()
    app = create_app(made.site, made)
    monkeypatch.setattr(made, "view", lambda: 1 / 0)
    answer = app.test_client().get("/")
    assert answer.status_code == 500
    assert "The portal made a mistake." in answer.text
    assert "ZeroDivisionError" not in answer.text


def test_a_stream_begins_and_beats(board) -> None:
    made = board()
    stream = made.open()
    parts = events(made.streams, stream, lambda: False, beat_s=0.01)
    assert next(parts) == b"retry: 2000\n\n"
    assert next(parts).startswith(b"event: full\ndata: {")
    assert next(parts) == b": beat\n\n"
    made.streams.end()
    assert list(parts) == []


def test_a_page_that_has_gone_frees_its_stream(board) -> None:
    made = board()
    stream = made.open()
    gone: list[int] = []
    parts = events(made.streams, stream, lambda: bool(gone), beat_s=0.01)
    next(parts)
    next(parts)
    assert len(made.streams) == 1
    gone.append(1)
    assert list(parts) == []
    assert len(made.streams) == 0


def test_too_many_pages_are_told_to_ask(board) -> None:
    made = board(rest="[web]\nstreams = 2\n" + INVERTER)
    client = create_app(made.site, made).test_client()
    open_pages = [client.get("/live") for _ in range(2)]
    assert [page.status_code for page in open_pages] == [200, 200]
    assert open_pages[0].mimetype == "text/event-stream"
    answer = client.get("/live")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"
    assert client.get("/now.json").status_code == 200
    for page in open_pages:
        page.close()
