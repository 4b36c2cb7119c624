"""Setup from the first visit to the file: what is found, said, refused and written."""

import json
import tomllib
from pathlib import Path

import pytest
from sunmesh.messages import Sample, encode
from sunmesh.mqtt import Message
from sunmesh.testing import migrated
from web.app import create_app
from web.setup.draft import Book, Draft
from web.setup.find import Finder, FindError, Place, gateway_arguments, is_address
from web.views.setup import starting

from .visiting import PASSWORD, Browser

OUTSIDE = "203.0.113.9"
INVERTER = {
    "protocol": "PI30",
    "model": "MAX-8000",
    "serial": "92932105105335",
    "answers": {
        "QMN": {"error": "nak"},
        "QPIGS": {"pv_power_w": 1163, "battery_voltage_v": 53.26, "load_on": True, "odd": 3},
    },
}
METERS = {
    "baud": 9600,
    "parity": "N",
    "meters": [
        {"address": 1, "serial": "20115678", "phases": 1, "values": {"grid_power_w": -301.5}},
        {"address": 2, "serial": None, "phases": 3, "values": {}},
        {"address": 3, "error": "truncated", "detail": "…"},
    ],
}
GATEWAY = {
    "serial": "ZT1921",
    "model": "PVS6",
    "protocol": "dl_cgi",
    "devices": {
        "ZT1921": {"kind": "gateway", "values": {"pv_power_w": 3657.8}},
        "E00": {"kind": "inverter", "values": {}},
    },
}
SENSORS = [{"rom": "28-00000a771c01", "model": "DS18B20", "temperature_c": 22.06}, {"rom": 7}, 3]
ANSWERS = {
    ("collector-axpert", "/dev/a"): INVERTER,
    ("collector-meter", "/dev/m"): METERS,
    ("collector-pvs6", "10.0.0.9"): GATEWAY,
    ("collector-temperature", "/w1"): SENSORS,
}
ADDRESSES = (("port", "/dev/a"), ("port", "/dev/m"), ("port", "/dev/x"), ("sensors", "/w1"))


class Line:
    """Probes that answer at once; remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, command):
        self.asked.append(list(command))
        name, address = Path(command[0]).name, command[5]
        if (name, address) in ANSWERS:
            return ANSWERS[name, address]
        raise FindError("no answer in 60 s")


@pytest.fixture
def line(monkeypatch) -> Line:
    monkeypatch.setattr("web.setup.find.program", lambda name: f"/bin/{name}")
    monkeypatch.setattr("web.setup.find.find_holder", lambda path: None)
    return Line()


@pytest.fixture
def house(board, tmp_path, clock, line):
    """An app over a house without a device, and its search."""
    migrated(f"sqlite:///{tmp_path}/house.db")
    made = board("", "house.db")
    app = create_app(made.site, made)
    app.extensions["finder"] = Finder(
        made.site,
        made.config,
        line,
        clock,
        lambda site, web: [Place(kind, address) for kind, address in ADDRESSES],
    )
    return app


@pytest.fixture
def anna(house) -> Browser:
    return Browser(house).settle()


def looked(app, browser: Browser, **fields):
    answer = browser.post("/setup/devices/find", "/setup/devices", look="1", **fields)
    app.extensions["finder"].wait(30)
    return answer


# -- the whole way -------------------------------------------------------------------------------


def test_from_nothing_to_the_file_in_five_steps(house, tmp_path) -> None:
    house.extensions["restart"] = lambda: None
    anna = Browser(house)
    assert anna.get("/").status_code == 200
    answer = anna.post("/setup", "/setup", name="anna", password=PASSWORD)  # 1
    assert answer.headers["Location"] == "/setup"
    assert anna.get("/setup").headers["Location"] == "/setup/house"
    answer = anna.post(  # 2
        "/setup/house",
        "/setup/house",
        time_zone="Europe/Berlin",
        latitude="52,5",
        longitude="13.4",
        kind="backup",
    )
    assert answer.headers["Location"] == "/setup/devices"
    assert looked(house, anna, gateways="10.0.0.9").status_code == 303
    page = anna.get("/setup/devices").text
    for text in ("MAX-8000", "1.16\N{NO-BREAK SPACE}kW", "Eastron SDM630", "22.1", "SunPower PVS6"):
        assert text in page, text
    answer = anna.post(  # 3
        "/setup/devices",
        "/setup/devices",
        **{"take-0": "axpert /dev/a", "name-0": "inverter"},
        **{"take-1": "meter /dev/m 1", "name-1": "grid", "role-1": "grid", "model-1": "SDM120"},
        **{"take-3": "pvs6 10.0.0.9", "name-3": "roof", "name-4": "not-taken"},
    )
    assert answer.headers["Location"] == "/setup/more"
    answer = anna.post(  # 4
        "/setup/more",
        "/setup/more",
        **{"chemistry": "lfp", "cells": "16", "capacity_kwh": "14,3"},
        **{"currency": "eur", "buy": "0,28", "sell": "0.08"},
        **{"by": "pushover", "person": "Anna", "token": "s3cret-token", "user": "s3cret-user"},
    )
    assert answer.headers["Location"] == "/setup/finish"
    before = (tmp_path / "site.toml").read_text()
    page = anna.get("/setup/finish").text
    assert "3 devices are added" in page
    assert "inverter, grid, roof" in page
    assert "s3cret" not in page
    answer = anna.post("/setup/finish", "/setup/finish")  # 5
    assert answer.headers["Location"] == "/setup/done"
    written = tomllib.loads((tmp_path / "site.toml").read_text())
    assert written["site"]["time_zone"] == "Europe/Berlin"
    assert (written["site"]["latitude"], written["site"]["longitude"]) == (52.5, 13.4)
    assert written["energy"] == {"battery_kwh": 14.3, "grid_export": {}}
    assert written["battery"] == {"chemistry": "lfp", "cells": 16, "capacity_kwh": 14.3}
    assert written["devices"]["inverter"] == {
        "family": "axpert",
        "port": "/dev/a",
        "dialect": "PI30",
        "serial": "92932105105335",
    }
    assert written["devices"]["grid"]["model"] == "SDM120"
    assert written["devices"]["roof"] == {
        "family": "pvs6",
        "host": "10.0.0.9",
        "protocol": "dl_cgi",
        "serial": "ZT1921",
    }
    assert "not-taken" not in written["devices"]
    target = written["notifier"]["targets"]["anna"]
    assert (tmp_path / target["token_file"]).read_text() == "s3cret-token\n"
    assert (tmp_path / target["user_file"]).read_text() == "s3cret-user\n"
    [copy] = tmp_path.glob("site.toml.*")
    assert copy.read_text() == before
    page = anna.get("/setup/done").text
    assert "waits for collector-axpert to be started" in page
    assert f"collector-axpert run --config {tmp_path}/site.toml" in page
    assert "A kWh" not in page
    assert "0.28" in anna.get("/money/tariffs").text
    told = anna.get("/system/audit").text
    assert "looked for devices" in told
    assert "saved the set-up" in told
    assert "s3cret" not in (tmp_path / "setup.json").read_text()


def test_the_page_says_that_a_device_lives(house, anna, tmp_path, clock) -> None:
    path = tmp_path / "site.toml"
    path.write_text(path.read_text() + '[devices.inverter]\nfamily = "axpert"\nport = "/dev/a"\n')
    sample = Sample(ts="2026-11-21T11:59:58.000Z", values={"battery_voltage_v": 53.2})
    message = Message("sunmesh/home/inverter/telemetry", encode(sample), False, False, 0, 0)
    house.extensions["board"].live.hear(message)
    page = anna.get("/setup/done?part=life").text
    assert "1 device lives." in page
    assert "lives, read 2\N{NO-BREAK SPACE}s ago" in page


def test_every_step_may_be_skipped_and_gone_back_to(house, anna, tmp_path) -> None:
    for step in ("house", "devices", "more", "finish"):
        assert anna.get(f"/setup/{step}").status_code == 200
    before = (tmp_path / "site.toml").read_text()
    assert "No device is added" in anna.get("/setup/finish").text
    assert anna.post("/setup/finish", "/setup/finish").status_code == 303
    assert (tmp_path / "site.toml").read_text() == before


def test_it_goes_on_tomorrow(house, anna, board, tmp_path) -> None:
    anna.post("/setup/house", "/setup/house", time_zone="Europe/Rome", kind="grid")
    made = board("", "house.db")
    later = Browser(create_app(made.site, made)).log_in("anna")
    assert later.get("/setup").headers["Location"] == "/setup/devices"
    page = later.get("/setup/house").text
    assert 'value="grid" checked' in page


# -- who may -------------------------------------------------------------------------------------


def test_only_an_admin_of_the_house_sets_it_up(house, anna) -> None:
    house.extensions["accounts"].add("bert", PASSWORD, "operator", "anna", "::1")
    bert = Browser(house).log_in("bert")
    assert "An admin sets the house up" in bert.get("/setup").text
    road = Browser(house, OUTSIDE).log_in("anna")
    assert "from the local network only" in road.get("/setup").text
    for path in ("house", "devices", "more", "finish", "done", "site.toml"):
        assert bert.get(f"/setup/{path}").status_code == 403
        assert road.get(f"/setup/{path}").status_code == 403
        assert Browser(house).get(f"/setup/{path}").status_code == 303
    for path in ("house", "devices", "devices/find", "more", "finish"):
        assert anna.client.post(f"/setup/{path}").status_code == 403  # no mark


def test_the_file_wants_the_password_after_a_while(house, anna, clock, tmp_path) -> None:
    anna.post("/setup/house", "/setup/house", time_zone="Europe/Rome")
    now = house.extensions["board"].live.now
    clock.moment = now().replace(hour=13)
    before = (tmp_path / "site.toml").read_text()
    answer = anna.post("/setup/finish", "/setup/finish", password="wrong one")
    assert answer.status_code == 422
    assert "Wrong name or password" in answer.text
    assert (tmp_path / "site.toml").read_text() == before
    answer = anna.post("/setup/finish", "/setup/finish", password=PASSWORD)
    assert answer.status_code == 303


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"time_zone": "Mars/Base"}, "There is no such time zone"),
        ({"time_zone": "../../etc/passwd"}, "There is no such time zone"),
        ({"latitude": "91", "longitude": "1"}, "from -90 to 90"),
        ({"latitude": "north", "longitude": "1"}, "must be a number"),
        ({"latitude": "nan", "longitude": "1"}, "must be a number"),
        ({"latitude": "1e999", "longitude": "1"}, "must be a number"),
        ({"latitude": "45"}, "belong together"),
    ],
)
def test_a_house_that_cannot_be_is_refused(anna, fields, why) -> None:
    answer = anna.post("/setup/house", "/setup/house", **fields)
    assert answer.status_code == 422
    assert why in answer.text


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name-0": "Inverter One"}, "A name is"),
        ({"name-0": "services"}, "A name is"),
        ({"name-0": "<b>x</b>"}, "A name is"),
        ({"name-0": "x" * 33}, "A name is"),
        ({"name-0": "a", "take-1": "meter /dev/m 1", "name-1": "a"}, "Another device has"),
    ],
)
def test_names_that_cannot_be_are_refused(house, anna, fields, why) -> None:
    looked(house, anna)
    fields = {"take-0": "axpert /dev/a"} | fields
    answer = anna.post("/setup/devices", "/setup/devices", **fields)
    assert answer.status_code == 422
    assert why in answer.text
    assert "<b>x" not in answer.text


def test_devices_that_nobody_found_cannot_be_taken(house, anna, tmp_path) -> None:
    fields = {"take-0": "axpert /etc/passwd", "name-0": "evil"}
    assert anna.post("/setup/devices", "/setup/devices", **fields).status_code == 303
    assert "No device is added" in anna.get("/setup/finish").text


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"cells": "0"}, "from 1 to 400"),
        ({"capacity_kwh": "-3"}, "from 0.01 to 10000"),
        ({"cell_low_v": "4", "cell_high_v": "3"}, "must be below"),
        ({"buy": "0.3", "currency": "€"}, "three letters"),
        ({"buy": "1e12"}, "must be a number"),
        ({"buy": "123456"}, "from 0 to 1000"),
        ({"by": "pushover", "person": "anna"}, "takes no message"),
        ({"by": "pushover", "person": "../x", "token": "t", "user": "u"}, "A name is"),
        ({"by": "catapush", "person": "anna", "token": "t"}, "nobody is reached"),
        ({"by": "apprise", "person": "a", "token": "t", "base_url": "file:///x"}, "https://"),
    ],
)
def test_what_cannot_be_of_battery_tariff_and_phone_is_refused(anna, fields, why, tmp_path) -> None:
    answer = anna.post("/setup/more", "/setup/more", **fields)
    assert answer.status_code == 422
    assert why in answer.text
    assert not list((tmp_path / "secrets").glob("*")) if (tmp_path / "secrets").exists() else True


@pytest.mark.parametrize(
    "text", ["--help", "http://10.0.0.9/", "10.0.0.9:99999", "a b;c$(id)", "x" * 300, "h:0", "/etc"]
)
def test_addresses_that_are_none_are_not_asked(house, anna, line, text) -> None:
    answer = looked(house, anna, gateways=text)
    if answer.status_code == 303:  # several words: each is asked or refused by itself
        assert all(is_address(command[5]) for command in line.asked if "pvs6" in command[0])
    else:
        assert answer.status_code == 422
        assert line.asked == []


def test_a_portal_that_may_not_write_offers_the_file(house, anna, monkeypatch) -> None:
    monkeypatch.setattr("web.views.setup.is_writable", lambda path: False)
    anna.post("/setup/house", "/setup/house", time_zone="Europe/Rome", kind="off_grid")
    page = anna.get("/setup/finish").text
    assert "cannot be written from here" in page
    answer = anna.get("/setup/site.toml")
    assert tomllib.loads(answer.text)["energy"] == {"grid_import": {}, "grid_export": {}}


def test_a_spoilt_file_is_said_and_left_alone(house, anna, tmp_path) -> None:
    (tmp_path / "site.toml").write_text("[site\n")
    answer = anna.post("/setup/finish", "/setup/finish")
    assert answer.status_code == 409
    assert "no TOML" in answer.text
    assert (tmp_path / "site.toml").read_text() == "[site\n"


# -- parts ---------------------------------------------------------------------------------------


def test_each_port_is_asked_by_one_collector_after_the_other(house, line) -> None:
    finder = house.extensions["finder"]
    assert finder.start([])
    finder.wait(30)
    asked = [Path(command[0]).name for command in line.asked if "/dev/m" in command]
    assert asked == ["collector-axpert", "collector-bms", "collector-meter"]
    states = {place.address: place.state for place in finder.places()}
    assert states == {"/dev/a": "found", "/dev/m": "found", "/dev/x": "nothing", "/w1": "found"}
    names = [hit.name for hit in finder.hits()]
    assert names == ["inverter", "meter", "meter-2", "sensor"]


def test_a_port_in_use_is_left_alone(house, line, monkeypatch) -> None:
    monkeypatch.setattr("web.setup.find.find_holder", lambda path: "minicom (process 7)")
    finder = house.extensions["finder"]
    finder.start([])
    finder.wait(30)
    assert {p.state for p in finder.places() if p.kind == "port"} == {"held"}
    assert not any("--port" in command for command in line.asked)


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, {"answers": 3}, {"meters": [None, {}]}])
def test_what_probes_should_not_print_is_nobody(house, line, monkeypatch, junk) -> None:
    monkeypatch.setattr(house.extensions["finder"], "_ask", lambda command: junk)
    finder = house.extensions["finder"]
    finder.start(["10.0.0.9"])
    finder.wait(30)
    assert finder.hits() == []


def test_gateways_are_named_with_and_without_a_port() -> None:
    assert gateway_arguments("10.0.0.9") == ["--host", "10.0.0.9"]
    assert gateway_arguments("pvs:8080") == ["--host", "pvs", "--http-port", "8080"]
    assert gateway_arguments("[fe80::1]") == ["--host", "fe80::1"]


def test_a_draft_that_is_spoilt_begins_anew(tmp_path) -> None:
    path = tmp_path / "setup.json"
    for text in ("{", '{"step": 7}', json.dumps({"devices": 3}), "\xff"):
        path.write_text(text, encoding="latin-1")
        assert Book(path).read() == Draft()
    book = Book(tmp_path / "nowhere" / "setup.json")
    assert not book.keep(Draft(step="more"))
    assert book.read().step == "more"


def test_commands_that_start_what_is_missing(board) -> None:
    site = board("").site
    assert starting(site, [], container=True) == []
    assert starting(site, ["collector-bms", "recorder"], container=True) == [
        "docker compose --profile bms up -d"
    ]
    assert starting(site, ["collector-bms"], container=False) == [
        f"collector-bms run --config {site.path}"
    ]
