"""The page *Control* by its forms alone, as without scripts: from a form to what became of it."""

import re
from datetime import timedelta

import pytest
from sunmesh import clock as mesh_clock
from sunmesh.config import load
from sunmesh.messages import Settings
from sunmesh.testing import migrated, wait_for
from web.app import create_app
from web.board import Board
from web.config import web_of
from web.controls import Controls
from web.live import Live
from web.orders import Orders
from web.people.accounts import Accounts
from web.queries import History

from .standin import StandIn
from .visiting import Browser

DEVICES = '[devices.inverter]\nfamily = "axpert"\n'


@pytest.fixture
def portal(site_file, mesh, tmp_path):
    """An app on the run's broker, with accounts and a house that answers."""
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    site = load(site_file(f'[database]\nurl = "{url}"\n{DEVICES}'), "web", {})
    live = Live(mesh("web"), site.devices)
    history = History(url, site.site.zone)
    board = Board(web_of(site), site, live, history)
    accounts = Accounts(url)
    controls = Controls(board, Orders(live, accounts))
    app = create_app(site, board, accounts, controls)
    yield app
    history.close()
    accounts.close()


@pytest.fixture
def house(portal, mesh, topics) -> StandIn:
    made = StandIn(mesh("collector-axpert"), topics)
    made.say()
    live = portal.extensions["board"].live
    wait_for(lambda: {"inverter", "grid-relay", "controller"} <= live.state().devices.keys())
    wait_for(lambda: all(live.state().devices["inverter"].__getattribute__(n) for n in PARTS))
    wait_for(lambda: live.state().decisions)
    return made


PARTS = ("sample", "info", "settings", "status")


@pytest.fixture
def anna(portal) -> Browser:
    return Browser(portal).settle().unlock()


def ended(browser: Browser, answer) -> str:
    """The page of an order, once it has ended."""
    assert answer.status_code == 303, answer.text
    address = answer.headers["Location"]
    assert re.fullmatch(r"/control/orders/\w+", address)
    wait_for(lambda: 'http-equiv="refresh"' not in browser.get(address).text, why="it ends")
    return browser.get(address).text.replace("\N{NO-BREAK SPACE}", " ")


def ask(browser: Browser, device: str = "inverter", **fields):
    """Through review and confirmation, taking along what the review page carries."""
    page = browser.post(f"/control/{device}/review", "/control", **fields)
    assert page.status_code == 200, page.text
    hidden = dict(re.findall(r'type="hidden" name="([\w.-]+)" value="([^"]*)"', page.text))
    return page.text, lambda **more: browser.client.post(
        f"/control/{device}/apply", data=hidden | more
    )


def test_a_guest_sees_everything_and_no_form(portal, house) -> None:
    page = Browser(portal).get("/control").text.replace("\N{NO-BREAK SPACE}", " ")
    for text in (
        "Make this portal yours",
        "Float voltage",
        "54.0 V",
        "48.0 to 58.4 V, in steps of 0.1",
        "3 of 20 writes today, 41 ever",
        "Grid connected",
        "Proved: 231.0 V of grid voltage are measured.",
        "Shadow: decides and says so, but does not act.",
        "Charge is 80 %, above 35 %: the grid is not needed.",
        "It saw: State of charge: 80 %, Grid voltage: 231.0 V.",
        "Output set to",
    ):
        assert text in page, text
    assert 'name="set.' not in page
    assert "/control/inverter/apply" not in page


def test_a_setting_from_the_form_to_read_back(portal, house, anna) -> None:
    page, confirm = ask(anna, **{"set.float_voltage_v": "53.6", "was.float_voltage_v": "54.0"})
    assert "Inverter: change this?" in page
    assert re.search(r"54\.0.V</span>.*53\.6.V</b>", page)
    told = ended(anna, confirm(reason="new battery"))
    assert "Read back 53.6 V: applied" in told
    for text in ("asked", "accepted", "sent to the device", "acknowledged", "by anna"):
        assert text in told
    assert house.values["float_voltage_v"] == 53.6
    ((_, command),) = house.asked
    assert (command.by, command.reason) == ("web:anna", "new battery")
    assert "applied" in anna.get("/control").text
    wait_for(lambda: portal.extensions["controls"].orders.write_down() or True)
    assert "float_voltage_v = 53.6" in anna.get("/system/audit").text


def test_what_the_device_kept_is_said(house, anna) -> None:
    house.stubborn.add("float_voltage_v")
    _, confirm = ask(anna, **{"set.float_voltage_v": "53.6"})
    told = ended(anna, confirm())
    assert "Not applied: the device kept 54.0 V" in told


def test_several_settings_are_one_command(house, anna) -> None:
    page, confirm = ask(
        anna, **{"set.float_voltage_v": "53.6", "set.output_source_priority": "SBU"}
    )
    assert "change these?" in page
    told = ended(anna, confirm())
    assert "Altogether: applied" in told
    assert house.asked[0][1].values == {"float_voltage_v": 53.6, "output_source_priority": "SBU"}


def test_nothing_differs(house, anna) -> None:
    page = anna.post("/control/inverter/review", "/control", **{"set.float_voltage_v": "54.0"})
    assert "Nothing to change" in page.text
    answer = anna.post("/control/inverter/apply", "/control", **{"set.float_voltage_v": "54.0"})
    assert answer.status_code == 422
    assert house.asked == []


def test_great_harm_is_typed_once_more(house, anna) -> None:
    page, confirm = ask(anna, **{"set.battery_type": "AGM"})
    assert "Type AGM to confirm" in page
    for wrong in ({}, {"confirm": "agm"}, {"confirm": "user"}):
        answer = confirm(**wrong)
        assert answer.status_code == 422
        assert "Type AGM to confirm." in answer.text
    assert house.asked == []
    assert "applied" in ended(anna, confirm(confirm=" AGM "))
    assert house.asked[0][1].confirm == "AGM"
    both = {"set.battery_type": "user", "set.float_voltage_v": "53.0"}
    answer = anna.post("/control/inverter/review", "/control", **both)
    assert answer.status_code == 422
    assert "changed by itself" in answer.text


def test_a_spent_budget_wants_a_reason(house, anna) -> None:
    page, confirm = ask(anna, **{"set.buzzer_enabled": "false"})
    assert "budget of writes is spent" in page
    answer = confirm()
    assert answer.status_code == 422
    assert "say why it must be exceeded" in answer.text
    ended(anna, confirm(override="the baby sleeps"))
    assert house.asked[0][1].override == "the baby sleeps"


@pytest.mark.parametrize(
    ("device", "fields", "status", "reason"),
    [
        ("inverter", {"set.float_voltage_v": "99"}, 422, "outside of what the device takes"),
        ("inverter", {"set.float_voltage_v": "x"}, 422, "is no number"),
        ("inverter", {"set.nothing": "1"}, 422, "is no setting that this device takes"),
        ("inverter", {"set.output_frequency_hz": "60"}, 422, "is no setting that this device"),
        ("inverter", {f"set.x{n}": "1" for n in range(500)}, 400, "Too many fields"),
        ("nowhere", {"set.float_voltage_v": "53"}, 404, "there is no device nowhere"),
        ("..", {"set.float_voltage_v": "53"}, 404, ""),
        ("inverter", {"manual": "auto"}, 404, "inverter is no relay"),
        ("grid-relay", {"manual": "open", "minutes": "5"}, 422, "A position is one of"),
        ("grid-relay", {"manual": "grid_open", "minutes": "0"}, 422, "minutes must be 1 to 1440"),
        ("grid-relay", {"manual": "grid_open", "minutes": "-5"}, 422, "minutes must be 1"),
        ("grid-relay", {"manual": "grid_open", "minutes": "9999"}, 422, "minutes must be 1"),
        ("grid-relay", {"manual": "grid_open"}, 422, "minutes must be 1"),
        ("controller", {"mode": "turbo"}, 422, "a mode is one of off, shadow, on"),
        ("controller", {"rule.nothing": "on"}, 422, "has no rule “nothing”"),
        ("controller", {"mode": "on", "rule.storm-reserve": "on"}, 422, "one mode is changed"),
    ],
)
@pytest.mark.parametrize("step", ["review", "apply"])
def test_what_cannot_be_is_refused_with_its_reason(
    house, anna, device, fields, status, reason, step
) -> None:
    answer = anna.post(f"/control/{device}/{step}", "/control", **fields)
    assert answer.status_code == status
    assert reason.lower() in answer.text.lower()
    assert house.asked == []


def test_a_device_that_is_away_is_not_asked(portal, house, anna, eventually) -> None:
    house.client.publish(
        house.topics.status("inverter"),
        b'{"state":"offline","since":"2026-11-21T12:00:00Z","reason":"no answer"}',
        retain=True,
    )
    controls = portal.extensions["controls"]
    eventually(lambda: controls.why_not("inverter"), why="it is offline")
    answer = anna.post("/control/inverter/apply", "/control", **{"set.float_voltage_v": "53.6"})
    assert answer.status_code == 409
    assert "Inverter cannot be asked: it is offline: no answer." in answer.text
    assert "It cannot be asked now: it is offline" in anna.get("/control").text


def test_without_a_broker_the_page_says_so(portal, house, anna, broker, eventually) -> None:
    live = portal.extensions["board"].live
    broker.stop()
    try:
        eventually(lambda: not live.connected, why="it is gone")
        answer = anna.post("/control/inverter/apply", "/control", **{"set.float_voltage_v": "53"})
        assert answer.status_code == 409
        assert "the broker does not answer" in answer.text
        assert "The broker does not answer" in anna.get("/control").text
    finally:
        broker.start()


# -- relay and rules -----------------------------------------------------------------------------


def test_the_relay_by_hand_and_automatic_again(portal, house, anna) -> None:
    page, confirm = ask(anna, "grid-relay", manual="grid_open", minutes="60", minutes_other="5")
    assert "Relay by hand: grid disconnected for 5 minutes, then automatic again." in page
    assert "applied" in ended(anna, confirm())
    ((device, command),) = house.asked
    assert device == "grid-relay"
    assert (command.name, command.value, command.lease_s) == ("manual", "grid_open", 300.0)
    until = mesh_clock.iso(mesh_clock.now() + timedelta(minutes=5))
    house.say_relay(relay_manual_until=until)
    wait_for(lambda: "By hand until" in anna.get("/control").text)
    page = anna.get("/control").text
    assert "Automatic again, now" in page
    assert "although the relay is open" in page  # 231 V are still measured
    answer = anna.post("/control/grid-relay/apply", "/control", manual="auto")
    assert "applied" in ended(anna, answer)
    assert house.asked[-1][1].value == "auto"


def test_a_lease_is_counted_down(house, anna, portal) -> None:
    house.say_relay(relay_position="grid_open", relay_reason="leased", lease_remaining_s=120)
    wait_for(lambda: "Lease ends in" in anna.get("/control").text)
    page = anna.get("/control").text
    assert "The controller asked for it and keeps asking." in page
    until = int(re.search(r'Lease ends in</dt><dd data-until="(\d+)"', page)[1])
    assert 100_000 < until - mesh_clock.epoch_ms(mesh_clock.now()) <= 120_000


def test_rules_are_switched(house, anna) -> None:
    page, confirm = ask(anna, "controller", mode="on")
    assert "All rules: on: acts." in page
    assert "applied" in ended(anna, confirm())
    assert house.asked == [("controller", house.asked[0][1])]
    assert (house.asked[0][1].name, house.asked[0][1].value) == ("mode", "on")
    page, confirm = ask(anna, "controller", **{"rule.storm-reserve": "off"})
    assert "Rule Storm reserve: off: decides nothing." in page
    assert "applied" in ended(anna, confirm())
    wait_for(lambda: 'data-mode="off"' in anna.get("/control").text)


def test_an_empty_house_says_what_is_missing(portal) -> None:
    page = Browser(portal).get("/control").text
    for text in (
        "[devices.grid-relay]",
        "Nothing decides by itself here.",
        "No device takes settings",
        "control = true",
        "Nothing since the portal started.",
    ):
        assert text in page


def test_control_that_is_switched_off_is_said(portal, house, anna, eventually) -> None:
    house.client.publish(
        house.topics.info("inverter"),
        b'{"ts":"2026-11-21T12:00:00Z","family":"axpert"}',
        retain=True,
    )
    eventually(lambda: "No device takes settings" in anna.get("/control").text)
    answer = anna.post("/control/inverter/review", "/control", **{"set.float_voltage_v": "53.6"})
    assert answer.status_code == 422


def test_html_from_devices_is_text(portal, house, anna, eventually) -> None:
    house.decide("<script>alert(1)</script>", {"<b>": "<i>x</i>"})
    settings = Settings(mesh_clock.iso(mesh_clock.now()), house.values | {"label": "<img src=x>"})
    house._publish(house.topics.settings("inverter"), settings)
    eventually(lambda: "alert(1)" in anna.get("/control").text)
    eventually(lambda: "img src" in anna.get("/control").text)
    page = anna.get("/control").text
    for text in ("<script>alert", "<i>x", "<img src"):
        assert text not in page


def test_an_order_that_is_not_there(portal, anna) -> None:
    answer = anna.get("/control/orders/nowhere")
    assert answer.status_code == 404
    assert "not in the portal" in answer.text


def test_open_pages_are_told_when_to_look(portal, house, anna) -> None:
    controls = portal.extensions["controls"]
    stream = controls.open()
    first = stream.get(1)
    assert first.startswith(b"event: changed\ndata: ")
    before = controls.view().mark
    house.say_relay(relay_position="grid_open", relay_reason="leased", lease_remaining_s=100)
    wait_for(lambda: controls.view().mark != before)
    controls.board.streams.close(stream)


def test_switchings_come_from_the_database(portal, house, anna, tmp_path) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(f"sqlite:///{tmp_path}/house.db")
    with engine.begin() as connection:
        for number, name in ((1, "relay_position"), (2, "relay_reason")):
            connection.execute(
                text("INSERT INTO series VALUES (:i, 'grid-relay', :n, '', 'state')"),
                {"i": number, "n": name},
            )
        for number in range(30):
            row = {"t": 1_790_000_000_000 + number * 3_600_000}
            position = "grid_open" if number % 2 else "grid_connected"
            reason = "leased" if number % 2 else "lease_expired"
            statement = text("INSERT INTO state VALUES (:i, :t, :v)")
            connection.execute(statement, row | {"i": 1, "v": position})
            connection.execute(statement, row | {"i": 2, "v": reason})
    engine.dispose()
    page = anna.get("/control").text
    listed = re.findall(r"<b>grid (\w+)</b> <span class=\"muted\">([^<]+)</span>", page)
    assert len(listed) == 20
    assert listed[0] == ("disconnected", "the controller asked for it and keeps asking")
    assert listed[1] == ("connected", "nobody renewed the lease: the controller is silent")
