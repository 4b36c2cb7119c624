"""The API for programs: what it says, what it takes, whom it answers; on a real broker."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from flask import Flask
from sqlalchemy import create_engine, insert
from sunmesh import clock
from sunmesh.config import load
from sunmesh.database import energy, tables
from sunmesh.database.days import midnight
from sunmesh.messages import Alarm, Result, Sample, encode
from sunmesh.testing import migrated, wait_for
from web.api import answers, schemas
from web.app import create_app
from web.board import Board
from web.config import web_of
from web.controls import Controls
from web.energy import Books
from web.house import House
from web.live import Live
from web.orders import Orders
from web.people.accounts import Accounts
from web.queries import History
from web.views.api import OPERATIONS
from werkzeug.test import TestResponse

from .standin import StandIn
from .visiting import Browser

DEVICES = '[devices.inverter]\nfamily = "axpert"\n[devices.shed]\nfamily = "pl80"\n'
ROOT = "/api/v1"


@pytest.fixture
def url(tmp_path) -> str:
    made = f"sqlite:///{tmp_path}/house.db"
    migrated(made)
    return made


@pytest.fixture
def app(site_file, mesh, url) -> Iterator[Flask]:
    site = load(site_file(f'[database]\nurl = "{url}"\n{DEVICES}'), "web", {})
    live = Live(mesh("web"), site.devices)
    history = History(url, site.site.zone)
    board = Board(web_of(site), site, live, history)
    accounts = Accounts(url)
    yield create_app(site, board, accounts, Controls(board, Orders(live, accounts)))
    history.close()
    accounts.close()


@pytest.fixture
def house(app: Flask, mesh, topics) -> StandIn:
    made = StandIn(mesh("collector-axpert"), topics)
    made.say()
    live = app.extensions["board"].live
    wait_for(lambda: {"inverter", "grid-relay", "controller"} <= live.state().devices.keys())
    wait_for(lambda: live.state().devices["inverter"].settings)
    wait_for(lambda: live.state().devices["inverter"].info)
    wait_for(lambda: live.state().devices["inverter"].sample)
    return made


class Program:
    """Asks with a key, or without."""

    def __init__(self, app: Flask, key: str = "", address: str = "127.0.0.1") -> None:
        self.client = app.test_client()
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.environ = {"REMOTE_ADDR": address}

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        answer = self.client.get(
            ROOT + path, headers=self.headers | headers, environ_overrides=self.environ
        )
        return self._read(answer, status)

    def post(self, path: str, body: object, status: int) -> Any:
        answer = self.client.post(
            ROOT + path, json=body, headers=self.headers, environ_overrides=self.environ
        )
        return self._read(answer, status)

    def _read(self, answer: TestResponse, status: int) -> Any:
        with answer:
            assert answer.status_code == status, answer.text
            if status >= 400:
                assert answer.mimetype == "application/problem+json"
                problem = msgspec.json.decode(answer.data, type=schemas.Problem)
                assert problem.status == status
                return problem.detail
            return answer.json if answer.mimetype == "application/json" else answer.text


@pytest.fixture
def ask(app: Flask, house: StandIn) -> Program:
    return Program(app)


@pytest.fixture
def keys(app: Flask) -> tuple[str, str]:
    """One that reads, one that also commands."""
    made = app.extensions["keys"]
    return (
        made.make("wall", False, None, "anna", "127.0.0.1"),
        made.make("robot", True, None, "anna", "127.0.0.1"),
    )


# -- now and devices -------------------------------------------------------------------------------


def test_the_house_now(ask: Program) -> None:
    found = ask.get("/latest")
    house = found["house"]
    assert (house["pv_w"], house["load_w"], house["battery_w"]) == (1000.0, 400.0, -520.0)
    assert house["battery_soc_percent"] == 80.0
    assert house["grid_present"] is True
    assert house["today"]["pv"] is None
    assert found["sentence"]
    assert found["broker_connected"]
    (inverter,) = (each for each in found["devices"] if each["device"] == "inverter")
    assert inverter["values"]["battery_voltage_v"] == 52.0
    assert inverter["freshness"] == "fresh"
    assert 0 <= inverter["age_s"] < 30
    (shed,) = ask.get("/latest?device=shed")["devices"]
    assert (shed["ts"], shed["age_s"], shed["values"]) == (None, None, {})
    assert "no device cellar" in ask.get("/latest?device=cellar", 404)
    german = ask.get("/latest", **{"Accept-Language": "de"})
    assert german["house"]["pv_w"] == 1000.0


def test_devices_and_their_settings(ask: Program) -> None:
    names = [each["name"] for each in ask.get("/devices")["devices"]]
    assert names[:2] == ["inverter", "shed"]
    one = ask.get("/devices/inverter")
    assert (one["manufacturer"], one["state"], one["is_configured"]) == (
        "Voltronic",
        "online",
        True,
    )
    assert "float_voltage_v" in one["settable"]
    found = ask.get("/devices/inverter/settings")
    assert found["refuses"] == ""
    rows = {each["name"]: each for each in found["settings"]}
    assert rows["float_voltage_v"]["value"] == 54.0
    assert (rows["float_voltage_v"]["low"], rows["float_voltage_v"]["unit"]) == (48.0, "V")
    assert rows["float_voltage_v"]["writes_today"] == 3
    assert not rows["output_frequency_hz"]["is_settable"]
    assert ask.get("/devices/shed/settings")["settings"] == []
    assert {each["name"] for each in ask.get("/devices/controller/settings")["settings"]} == {
        "mode",
        "rule.storm-reserve",
    }
    ask.get("/devices/cellar", 404)
    ask.get("/devices/cellar/settings", 404)


def test_who_answers(ask: Program) -> None:
    found = ask.get("/site")
    assert found["languages"][0] == "en"
    assert found["time_zone"]
    assert any(each["name"] == "pv_power_w" for each in ask.get("/quantities")["quantities"])


def test_a_display_on_the_wall(ask: Program) -> None:
    assert ask.get("/display") == "(--G--)"
    line = ask.get("/display?action=DISPLAY")
    assert re.fullmatch(r"\(--G--\)\|\d\d:\d\d\|\d\d \w+\|80\|1000\|--\|\d+\|--\|400\|--", line), (
        line
    )
    found = ask.get("/display?action=DOMOTICA")
    assert (found["statusText"], found["I2B"], found["B2I"], found["S2I"]) == ("Line", 520, 0, 1000)
    assert (found["BattV"], found["BattA"]) == (52.0, None)
    ask.get("/display?action=OTHER", 400)


@pytest.mark.parametrize(
    ("house", "code"),
    [
        (House(), "?"),
        (House(has_load=True, load_w=300.0, pv_w=500.0, battery_w=-200.0), "F"),
        (House(has_load=True, load_w=900.0, pv_w=500.0, battery_w=400.0, has_battery=True), "H"),
        (House(has_load=True, load_w=300.0, pv_w=0.0, battery_w=310.0, has_battery=True), "B"),
        (House(has_load=True, load_w=300.0, pv_w=500.0, grid_w=90.0), "G"),
        (House(has_load=True, load_w=300.0, mode="line"), "G"),
        (House(has_load=True, load_w=300.0), "?"),
    ],
)
def test_who_feeds_the_house(house: House, code: str) -> None:
    assert answers.supplier(house) == code


def test_a_display_has_commas_and_no_invented_zero() -> None:
    house = House(has_load=True, load_w=312.4, pv_w=0.0, battery_w=330.0, has_battery=True, soc=71)
    noon = datetime(2026, 11, 21, 12, 5, tzinfo=UTC)
    found = answers.display(house, Books(pv=3.456, load=4.0), noon, "Nov")
    assert answers.display_line(found) == "(--B--)|12:05|21 Nov|71|0|3,46|--|--|312|4,00"
    assert (found.battW, found.G2I, found.impWH) == ("330", None, "--")


# -- history ---------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def past(url: str, app: Flask) -> None:
    """An hour of samples with a gap, words, and two days of books."""
    start = clock.epoch_ms(NOON)
    engine = create_engine(url)
    with engine.begin() as connection:
        for number, name, unit, kind in (
            (1, "pv_power_w", "W", "gauge"),
            (2, "device_mode", "", "state"),
            (3, "cell_voltage_v/1", "V", "list"),
        ):
            connection.execute(
                insert(tables.series).values(
                    id=number, device="inverter", name=name, unit=unit, kind=kind
                )
            )
        connection.execute(
            insert(tables.sample),
            [
                {"series_id": 1, "ts": start + n * 10_000, "value": 500.0 + n}
                for n in range(360)
                if not 100 <= n < 200
            ],
        )
        connection.execute(
            insert(tables.state),
            [
                {"series_id": 2, "ts": start - 5_000_000, "value": "battery"},
                {"series_id": 2, "ts": start + 60_000, "value": "=line, really"},
            ],
        )
        zone = app.extensions["board"].zone
        day = NOON.astimezone(zone).date()
        for offset in (0, 1):
            begun = midnight(day + timedelta(days=offset), zone)
            buckets = [
                energy.Bucket(begun + n * tables.BUCKET_MS, 10.0, "power", "integrated", 300)
                for n in range(12)
            ]
            for flow in ("pv", "load", "grid_import", "grid_export"):
                energy.book(connection, zone, flow, begun, begun + 86_400_000, buckets)
    engine.dispose()


def test_a_curve_has_its_gap(ask: Program, past) -> None:
    assert [each["name"] for each in ask.get("/series?device=inverter")["series"]] == [
        "cell_voltage_v/1",
        "device_mode",
        "pv_power_w",
    ]
    assert ask.get("/series?device=shed")["series"] == []
    path = "/series/inverter/points?name=pv_power_w"
    span = "&from=2026-11-20T12:00:00Z&to=2026-11-20T14:00:00%2B01:00"
    found = ask.get(path + span + "&points=400")
    assert (found["level"], found["unit"]) == ("sample", "W")
    assert found["from"] == "2026-11-20T12:00:00Z"
    assert found["mean"][0] == 500.0
    gap = found["mean"].index(None)
    assert found["mean"].count(None) == 1
    assert found["ts"][gap - 1] < found["ts"][gap] < found["ts"][gap + 1]
    assert len(found["ts"]) == len(found["mean"]) == len(found["min"]) == 261
    few = ask.get(path + span + "&points=10")
    assert len(few["ts"]) <= 21
    table = ask.get(path + span + "&format=csv")
    assert table.splitlines()[:2] == ["time,mean,min,max", "2026-11-20T12:00:00.000Z,500,500,500"]
    assert ask.get(path + "&from=2026-11-18&to=2026-11-19")["ts"] == []
    assert ask.get("/series/inverter/points?name=cell_voltage_v/1" + span)["ts"] == []


def test_words_hold_until_the_next(ask: Program, past) -> None:
    path = "/series/inverter/points?name=device_mode&from=2026-11-20T12:00:00Z&to=2026-11-21"
    found = ask.get(path)
    assert found["text"] == ["battery", "=line, really"]
    assert found["ts"][0] == clock.epoch_ms(NOON)
    assert ask.get(path + "&format=csv").splitlines()[2].endswith(""","'=line, really\"""")


@pytest.mark.parametrize(
    ("query", "status", "why"),
    [
        ("name=pv_power_w&from=2026-02-30", 422, "no moment"),
        ("name=pv_power_w&from=yesterday", 422, "no moment"),
        ("name=pv_power_w&from=0001-01-01", 422, "before 1990"),
        ("name=pv_power_w&from=1995-01-01&to=2150-01-01", 422, "100 years"),
        ("name=pv_power_w&from=2026-11-20&to=2026-11-20", 422, "after"),
        ("name=pv_power_w&points=0", 400, ">= 2"),
        ("name=pv_power_w&points=1e9", 400, "points"),
        ("name=pv_power_w&points=-5", 400, ">= 2"),
        ("name=<b>", 400, "name"),
        ("name=../../etc/passwd", 400, "name"),
        ("name=no_such_thing", 404, "Nothing is recorded"),
        ("", 400, "name"),
        ("name=a&name=b", 400, "more than once"),
        ("nam=pv_power_w", 400, "nam"),
        ("name=pv_power_w&colour=red", 400, "colour"),
    ],
)
def test_what_cannot_be_asked(ask: Program, past, query: str, status: int, why: str) -> None:
    assert why in ask.get(f"/series/inverter/points?{query}", status)


def test_the_books(ask: Program, past) -> None:
    found = ask.get("/energy?from=2026-11-20&to=2026-11-21")
    assert [row["from"] for row in found["rows"]] == ["2026-11-20", "2026-11-21"]
    first = found["rows"][0]
    assert first["flows"]["pv"]["wh"] == 120.0
    assert first["flows"]["pv"]["by_flag"] == {"integrated": 120.0}
    assert first["autarky"] == 0.0
    assert "generator" not in first["flows"]
    (total,) = ask.get("/energy?from=2026-11-20&to=2026-11-21&by=total")["rows"]
    assert total["flows"]["load"]["wh"] == 240.0
    assert len(ask.get("/energy?from=2026-11-20&to=2026-11-20&by=hour")["rows"]) == 24
    assert len(ask.get("/energy?from=2017-01-01&to=2026-12-31&by=year")["rows"]) == 10
    table = ask.get("/energy?from=2026-11-20&to=2026-11-21&format=csv").splitlines()
    assert table[0].startswith("from,to,hour,pv_wh,load_wh")
    assert table[1].startswith("2026-11-20,2026-11-20,,120,120,120,120,,")
    assert "At most 36600 days" in ask.get("/energy?from=1990-01-01&to=2199-01-01&by=year", 422)
    assert "At most 31 days" in ask.get("/energy?from=2026-01-01&to=2026-12-31&by=hour", 422)
    assert "before" in ask.get("/energy?from=2026-11-21&to=2026-11-20", 422)
    ask.get("/energy?from=2026-02-30", 400)
    ask.get("/energy?by=week", 400)


def test_without_a_database_it_says_so_and_goes_on(site_file, tmp_path) -> None:
    site = load(site_file(f'[database]\nurl = "sqlite:///{tmp_path}/none.db"\n'), "web", {})
    program = Program(create_app(site))
    assert "no database" in program.get("/series", 503)
    assert "no database" in program.get("/energy", 503)
    assert program.get("/latest")["devices"] == []
    assert program.get("/latest")["house"]["pv_w"] is None
    assert program.get("/display?action=DISPLAY").startswith("(--?--)|")


# -- alarms and commands ---------------------------------------------------------------------------


def test_alarms_and_who_has_seen_them(app, ask, house, keys, mesh, topics, past) -> None:
    now = clock.iso(clock.now())
    alarm = Alarm("a1", "raised", "warning", "Hot", "Too hot", now, value=70, advice="Cool it.")
    house.client.publish(topics.alarm("inverter", "hot"), encode(alarm), retain=True)
    wait_for(lambda: ask.get("/alarms")["alarms"])
    (found,) = ask.get("/alarms")["alarms"]
    assert (found["code"], found["severity"], found["acknowledged_by"]) == ("hot", "warning", "")
    assert ask.get("/alarms?device=shed")["alarms"] == []
    read, write = keys
    path = "/alarms/inverter/hot/ack"
    assert "Log in" in ask.post(path, {"id": "a1"}, 401)
    assert "may not" in Program(app, read).post(path, {"id": "a1"}, 403)
    robot = Program(app, write, "203.0.113.9")  # it moves nothing, so it may come from outside
    assert robot.post(path, {"id": "a0"}, 409)
    assert robot.post(path, {"id": "a1"}, 200) == {"id": "a1", "by": "key:robot", "is_new": True}
    assert robot.post(path, {"id": "a1"}, 200)["is_new"] is False
    assert ask.get("/alarms")["alarms"][0]["acknowledged_by"] == "key:robot"
    assert ask.get("/alarms?state=all&limit=5") == {"alarms": []}
    robot.post("/alarms/inverter/cold/ack", {"id": "a1"}, 409)


def ended(program: Program, number: str) -> dict[str, Any]:
    wait_for(lambda: not program.get(f"/commands/{number}")["is_pending"])
    return program.get(f"/commands/{number}")


def test_a_command_from_wish_to_read_back(app, ask, house, keys) -> None:
    robot = Program(app, keys[1])
    wish = {"device": "inverter", "name": "float_voltage_v", "value": 53.6, "reason": "test"}
    asked = robot.post("/commands", wish, 202)
    assert asked["is_pending"]
    assert asked["by"] == "web:key:robot"
    done = ended(ask, asked["id"])
    assert done["stage"] == "applied"
    assert done["was"] == {"float_voltage_v": 54.0}
    assert [step["stage"] for step in done["stages"]] == [
        *("queued", "accepted", "sent", "acknowledged", "applied")
    ]
    assert house.values["float_voltage_v"] == 53.6
    assert ask.get("/commands?limit=1")["commands"][0]["id"] == asked["id"]
    audit = app.extensions["accounts"].deeds()
    assert audit[0].by == "key:robot"
    assert "nothing differs" in robot.post("/commands", wish, 409).lower()
    both = {"float_voltage_v": 53.0, "output_source_priority": "SBU"}
    done = ended(ask, robot.post("/commands", {"device": "inverter", "values": both}, 202)["id"])
    assert (done["stage"], set(done["parts"])) == ("applied", set(both))
    ask.get("/commands/nowhere", 404)


def test_the_relay_and_the_rules(app, ask, house, keys) -> None:
    robot = Program(app, keys[1])
    wish = {"device": "grid-relay", "name": "manual", "value": "grid_open", "minutes": 5}
    robot.post("/commands", wish, 202)
    wait_for(lambda: house.asked)
    _, command = house.asked[-1]
    assert (command.name, command.value, command.lease_s) == ("manual", "grid_open", 300.0)
    assert robot.post("/commands", wish | {"minutes": None}, 422)
    assert "manual" in robot.post("/commands", wish | {"name": "relay_position"}, 422)
    robot.post("/commands", {"device": "controller", "name": "mode", "value": "off"}, 202)
    robot.post("/commands", {"device": "controller", "name": "colour", "value": "off"}, 422)


@pytest.mark.parametrize(
    ("wish", "status", "why"),
    [
        ({"device": "cellar", "name": "x", "value": 1}, 404, "no device"),
        ({"device": "shed", "name": "x", "value": 1}, 409, ""),
        ({"device": "inverter", "name": "float_voltage_v", "value": 99.0}, 422, "48.0"),
        ({"device": "inverter", "name": "float_voltage_v", "value": -1e300}, 422, "48.0"),
        ({"device": "inverter", "name": "float_voltage_v", "value": "hot"}, 422, "number"),
        ({"device": "inverter", "name": "float_voltage_v", "value": None}, 422, ""),
        ({"device": "inverter", "name": "float_voltage_v", "value": [1, 2]}, 422, ""),
        ({"device": "inverter", "name": "no_such_thing", "value": 1}, 422, "no setting"),
        ({"device": "inverter", "name": "<script>", "value": 1}, 422, "no setting"),
        ({"device": "inverter"}, 422, "values"),
        ({"device": "inverter", "name": "a", "value": 1, "values": {"b": 1}}, 422, "values"),
        ({"device": "inverter", "nam": "a"}, 400, "nam"),
        ({"device": "../etc", "name": "a"}, 400, "device"),
        ({"name": "a"}, 400, "device"),
        ([], 400, ""),
        ({"device": "inverter", "name": "battery_type", "value": "AGM"}, 422, "confirm"),
        ({"device": "inverter", "name": "buzzer_enabled", "value": False}, 422, "budget"),
    ],
)
def test_what_is_refused_says_why(app, house, keys, wish, status: int, why: str) -> None:
    assert why in Program(app, keys[1]).post("/commands", wish, status)
    assert house.asked == []


def test_who_may_command(app, ask, house, keys) -> None:
    read, write = keys
    wish = {"device": "inverter", "name": "float_voltage_v", "value": 53.6}
    ask.post("/commands", wish, 401)
    assert "may not" in Program(app, read).post("/commands", wish, 403)
    assert "local network" in Program(app, write, "203.0.113.9").post("/commands", wish, 403)
    assert "not in force" in Program(app, write + "x").post("/commands", wish, 401)
    Program(app, "sunmesh_" + "x" * 43).get("/latest", 401)
    Program(app, address="203.0.113.9").get("/latest", 401)
    Program(app, read, "203.0.113.9").get("/latest")
    anna = Browser(app).settle()
    answer = anna.client.post(f"{ROOT}/commands", json=wish, environ_overrides=anna.environ)
    assert answer.status_code == 403  # a session takes the mark of its forms
    mark = {"X-CSRF-Token": anna.mark("/account")}
    options = {"json": wish, "environ_overrides": anna.environ, "headers": mark}
    anna.client.post("/lock", headers=mark, environ_overrides=anna.environ)
    answer = anna.client.post(f"{ROOT}/commands", **options)
    assert answer.status_code == 403
    assert answer.json["detail"].startswith("Controls are locked.")
    anna.unlock()
    assert anna.client.post(f"{ROOT}/commands", **options).status_code == 202
    assert app.extensions["controls"].orders.last(1)[0].by == "web:anna"


def test_a_key_opens_no_page(app, house, keys) -> None:
    outside = Program(app, keys[1], "203.0.113.9")
    answer = outside.client.get(
        "/account", headers=outside.headers, environ_overrides=outside.environ
    )
    assert answer.status_code == 401


def test_bodies_that_are_none(app, keys) -> None:
    program = Program(app, keys[1])
    for data, kind, status in (
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b"device=inverter", "application/x-www-form-urlencoded", 415),
        (b"x" * 100_000, "application/json", 413),
    ):
        answer = program.client.post(
            f"{ROOT}/commands", data=data, content_type=kind, headers=program.headers
        )
        assert answer.status_code == status
        assert answer.json["status"] == status


# -- events ----------------------------------------------------------------------------------------


def test_events_as_they_come(app, house, topics, mesh) -> None:
    feed = app.extensions["feed"]
    everything, one = feed.open(None, None), feed.open("telemetry", "inverter")
    alarms = feed.open("alarm", None)
    now = clock.iso(clock.now())
    house.client.publish(topics.telemetry("shed"), encode(Sample(ts=now, values={"pv_power_w": 1})))
    house.client.publish(
        topics.telemetry("inverter"), encode(Sample(ts=now, values={"pv_power_w": 2}))
    )
    house.client.publish(
        topics.result("inverter"), encode(Result("x1", "buzzer_enabled", True, "applied", now))
    )
    seen: list[tuple[str, dict[str, Any]]] = []

    def take() -> bool:
        event = everything.get(1)
        if event:
            name, data = event.decode().rstrip("\n").split("\n")
            seen.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return any(name == "result" for name, _ in seen)

    wait_for(take)
    for _, data in seen:
        msgspec.convert(data, schemas.Event)
    mine = [(name, data["device"]) for name, data in seen if data["content"]["ts"] == now]
    assert mine == [("telemetry", "shed"), ("telemetry", "inverter"), ("result", "inverter")]
    first = one.get(1)
    assert first.startswith(b'event: telemetry\ndata: {"device":"inverter"')
    assert one.get(0.01) is None
    assert alarms.get(0.01) is None
    for stream in (everything, one, alarms):
        feed.streams.close(stream)


def test_a_stream_by_http(app, house, keys) -> None:
    program = Program(app, keys[0])
    answer = program.client.get(
        f"{ROOT}/events?kind=alarm", headers=program.headers, buffered=False
    )
    assert answer.mimetype == "text/event-stream"
    assert len(app.extensions["board"].streams) == 1
    answer.close()
    assert "kind" in program.get("/events?kind=rubbish", 400)
    app.extensions["board"].streams.limit = 0
    assert "too many" in program.get("/events", 503)


# -- the documents ---------------------------------------------------------------------------------


def test_everything_is_described(app, house) -> None:
    program = Program(app)
    found = program.get("/openapi.json")
    assert found["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, item in found["paths"].items() for method in item}
    served = {
        (method, re.sub(r"<(\w+)>", r"{\1}", str(rule)))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("api.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert described == served - {("GET", "/api"), ("GET", f"{ROOT}/openapi.json")}
    assert len(OPERATIONS) == len(described)
    page = Browser(app).get("/api").text
    for path in found["paths"]:
        assert path in page
    for name in found["components"]["schemas"]:
        assert f'id="schema-{name}"' in page


def test_what_is_not_there_is_a_problem_too(app, house) -> None:
    program = Program(app)
    assert program.get("/nowhere", 404)
    answer = program.client.delete(f"{ROOT}/latest")
    assert (answer.status_code, answer.mimetype) == (405, "application/problem+json")
    assert "GET" in answer.headers["Allow"]
