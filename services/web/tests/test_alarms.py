"""The page *Alarms*: what is open, folded, acknowledged, told and past; by its forms alone."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, insert
from sunmesh import clock as mesh_clock
from sunmesh.config import load
from sunmesh.database import tables
from sunmesh.messages import (
    Ack,
    Alarm,
    Command,
    Delivered,
    Delivery,
    Result,
    ServiceStatus,
    decode,
    encode,
)
from sunmesh.testing import migrated, wait_for
from web.alarms import root_of, value_text
from web.app import create_app
from web.board import Board
from web.config import web_of
from web.live import Live
from web.people.accounts import Accounts
from web.queries import History

from .visiting import PASSWORD, Browser

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def alarm(number="a1", severity="warning", title="Overload", **rest) -> Alarm:
    fields = {"state": "raised", "text": "5.2 kW for 10 minutes.", "ts": mesh_clock.iso(NOW)}
    return Alarm(id=number, severity=severity, title=title, **fields | rest)


# -- pure ----------------------------------------------------------------------------------------


def test_what_follows_is_folded_to_its_root() -> None:
    raised = {
        ("group", "service_lost"): alarm(),
        ("inverter", "device_lost"): alarm(cause="group/service_lost"),
        ("cells", "silent"): alarm(cause="inverter/device_lost"),
        ("roof", "silent"): alarm(cause="roof/gone"),
        ("one", "x"): alarm(cause="two/x"),
        ("two", "x"): alarm(cause="one/x"),
        ("three", "x"): alarm(cause="two/x"),
        ("self", "x"): alarm(cause="self/x"),
        ("odd", "x"): alarm(cause="nonsense"),
    }
    roots = {key: root_of(raised, key) for key in raised}
    assert roots["cells", "silent"] == roots["inverter", "device_lost"] == ("group", "service_lost")
    assert roots["roof", "silent"] == ("roof", "silent")  # its cause is over
    assert roots["one", "x"] == roots["two", "x"] == roots["three", "x"] == ("one", "x")
    assert roots["self", "x"] == ("self", "x")
    assert roots["odd", "x"] == ("odd", "x")


@pytest.mark.parametrize(
    ("value", "data", "text"),
    [
        (44.1, {"battery_voltage_v": 44.1}, "44.1 V"),
        (44.1, {"limit": 44.1}, "44.10"),
        (12, {}, "12"),
        ("battery_mode", {}, "battery mode"),
        (None, {}, ""),
        (True, {}, ""),
        ([1, 2], {}, ""),
    ],
)
def test_a_value_has_its_quantity_s_unit(value, data, text) -> None:
    assert value_text(value, data).replace("\N{NO-BREAK SPACE}", " ") == text


# -- a portal on the run's broker ----------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    return url


@pytest.fixture
def portal(site_file, mesh, database):
    site = load(site_file(f'[database]\nurl = "{database}"\n'), "web", {})
    live = Live(mesh("web"), site.devices)
    history = History(database, site.site.zone)
    accounts = Accounts(database)
    app = create_app(site, Board(web_of(site), site, live, history), accounts)
    yield app
    history.close()
    accounts.close()


class House:
    """Raises alarms, and hears what the portal says."""

    def __init__(self, client, topics, live) -> None:
        self.client, self.topics, self.live = client, topics, live
        self.acks: list[tuple[str, Ack]] = []
        self.commands: list[Command] = []
        client.subscribe(topics.every("alarm_ack"), self.hear)
        client.subscribe(topics.command("notifier"), self.hear)

    def hear(self, message) -> None:
        if message.topic.endswith("/ack"):
            self.acks.append((message.topic, decode(Ack, message.payload)))
        else:
            self.commands.append(decode(Command, message.payload))

    def say(self, device: str, code: str, content: Alarm) -> None:
        self.client.publish(self.topics.alarm(device, code), encode(content), retain=True)
        wait_for(lambda: self.live.state().alarms.get((device, code)) == content)

    def notifier(self, state: str = "online") -> None:
        status = ServiceStatus(state, "1", "here", mesh_clock.iso(NOW))
        topic = self.topics.service_status("notifier")
        self.client.publish(topic, encode(status), retain=True)
        wait_for(lambda: self.live.state().services.get("notifier") == status)


@pytest.fixture
def house(portal, mesh, topics) -> House:
    live = portal.extensions["board"].live
    wait_for(lambda: live.connected)
    return House(mesh("watch"), topics, live)


@pytest.fixture
def anna(portal) -> Browser:
    return Browser(portal).settle()


def section(text: str, name: str) -> str:
    found = re.search(rf'<section[^>]* id="{name}".*?</section>', text, re.S)
    return found[0].replace("\N{NO-BREAK SPACE}", " ") if found else ""


def badge(text: str) -> str:
    return re.search(r'id="badge"[^>]*>(\d*)<', text)[1]


def test_an_empty_house_says_so(portal, house) -> None:
    page = Browser(portal).get("/alarms").text
    assert "No alarm is open." in section(page, "open")
    assert "there is no notifier" in page.lower()
    assert badge(page) == ""
    over = alarm(state="cleared", ts=mesh_clock.iso(mesh_clock.now()))
    house.say("inverter", "overload", over)
    assert (
        "The last one was “Overload” (Inverter), over since" in Browser(portal).get("/alarms").text
    )


def test_open_alarms_critical_first_with_what_follows(portal, house) -> None:
    since = mesh_clock.iso(mesh_clock.now() - timedelta(hours=3))
    house.say("battery", "low", alarm("b", title="<b>Low</b>", value=44.1, flapping=True))
    house.say(
        "group",
        "service_lost",
        alarm("g", "critical", "Group is not running", since=since, advice="Start it."),
    )
    house.say(
        "pair", "silent", alarm("p", "critical", "Pair is silent", cause="group/service_lost")
    )
    house.say("notifier", "test", alarm("t", title="A test of the notifications"))
    page = Browser(portal).get("/alarms").text
    part = section(page, "open")
    assert part.index("Group is not running") < part.index("Low")
    assert part.index("Group is not running") < part.index("Pair is silent") < part.index("Low")
    for text in (
        "1 alarm follows from it",
        "<b>What to do:</b> Start it.",
        "value 44.10",
        "comes and goes",
        "&lt;b&gt;Low&lt;/b&gt;",
        "Acknowledging ends the reminders, and takes a login.",
    ):
        assert text in part, text
    assert "A test" not in part
    assert "<form" not in part
    assert badge(page) == "2"
    now = Browser(portal).get("/").text
    assert badge(now) == "2"
    assert "Group is not running" in now
    assert "Pair is silent" not in now


def test_acknowledging_needs_no_unlocking(portal, house, anna) -> None:
    house.say("inverter", "overload", alarm())
    path = "/alarms/inverter/overload/ack"
    answer = anna.post(path, "/alarms", id="a1")
    assert answer.status_code == 303, answer.text
    wait_for(lambda: house.acks)
    ((topic, ack),) = house.acks
    assert topic == house.topics.alarm_ack("inverter", "overload")
    assert (ack.id, ack.by) == ("a1", "anna")
    page = anna.get("/alarms").text
    assert "Nothing new" in section(page, "open")
    assert "Acknowledged by anna" in section(page, "seen")
    assert "by anna" not in section(Browser(portal).get("/alarms").text, "seen")
    assert badge(page) == ""
    (deed, *_rest) = portal.extensions["accounts"].deeds()
    assert (deed.action, deed.subject) == ("acknowledge", "inverter/overload")
    assert anna.post(path, "/account", id="a1").status_code == 303  # again changes nothing
    assert len(house.acks) == 1


def test_what_cannot_be_acknowledged(portal, house, anna) -> None:
    path = "/alarms/inverter/overload/ack"
    mark = anna.mark("/account")
    assert anna.post(path, csrf=mark, id="a1").status_code == 409  # never was
    house.say("inverter", "overload", alarm("a2"))
    answer = anna.post(path, csrf=mark, id="a1")
    assert answer.status_code == 409
    assert "has come again" in answer.text
    assert anna.post(path, id="a2").status_code == 403  # no mark
    portal.extensions["accounts"].add("vera", PASSWORD, "viewer", "anna", "::1")
    vera = Browser(portal).log_in("vera")
    assert vera.post(path, "/account", id="a2").status_code == 403
    assert "takes the role operator" in vera.get("/alarms").text
    house.say("inverter", "overload", alarm("a2", state="cleared"))
    assert anna.post(path, csrf=mark, id="a2").status_code == 409
    assert house.acks == []


def test_from_outside_one_may_acknowledge_and_not_test(portal, house, anna) -> None:
    house.notifier()
    house.say("inverter", "overload", alarm())
    anna.environ["REMOTE_ADDR"] = "8.8.8.8"
    assert "Send a test" not in anna.get("/alarms").text
    assert anna.post("/alarms/test", "/alarms").status_code == 403
    answer = anna.post("/alarms/inverter/overload/ack", "/alarms", id="a1")
    assert answer.status_code == 303


def test_others_acknowledge_too(portal, house, anna) -> None:
    house.say("inverter", "overload", alarm())
    topic = house.topics.alarm_ack("inverter", "overload")
    house.client.publish(topic, b"{rubbish")
    house.client.publish(topic, encode(Ack("a1", "phone", mesh_clock.iso(NOW))))
    wait_for(lambda: "Acknowledged by phone" in anna.get("/alarms").text)
    house.say("inverter", "overload", alarm("a2"))  # raised anew: nobody has seen this one
    assert "Acknowledged by" not in anna.get("/alarms").text


def rows(url: str, *changes, acks=()) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for device, code, number, state, severity, minutes in changes:
            ms = mesh_clock.epoch_ms(NOW + timedelta(minutes=minutes))
            connection.execute(
                insert(tables.alarm).values(
                    device=device,
                    code=code,
                    id=number,
                    state=state,
                    severity=severity,
                    title=f"{code} of {device}",
                    text="Text." if state == "raised" else "Over.",
                    ts=ms,
                )
            )
        for device, code, number, by in acks:
            connection.execute(
                insert(tables.acknowledgement).values(
                    device=device, code=code, id=number, by_whom=by, ts=mesh_clock.epoch_ms(NOW)
                )
            )
    engine.dispose()


def test_who_had_acknowledged_is_known_after_a_restart(portal, house, anna, database) -> None:
    rows(database, acks=[("inverter", "overload", "a1", "bert")])
    house.say("inverter", "overload", alarm())
    assert "Acknowledged by bert" in anna.get("/alarms").text


def test_history_is_paged_and_filtered(portal, house, anna, database) -> None:
    many = [
        change
        for n in range(25)
        for change in (
            ("roof", "silent", f"r{n}", "raised", "warning", 10 * n),
            ("roof", "silent", f"r{n}", "cleared", "warning", 10 * n + 4),
        )
    ]
    worse = [
        ("inverter", "hot", "h", "raised", "warning", -30),
        ("inverter", "hot", "h", "raised", "critical", -29),
        ("inverter", "hot", "h", "cleared", "critical", -28),
    ]
    rows(database, *many, *worse, acks=[("inverter", "hot", "h", "bert")])
    first = section(anna.get("/alarms").text, "history")
    assert first.count("Silent of roof") == 20
    assert "for 4 min" in first
    assert "Text." in first
    assert "Over." not in first
    assert "page=2" in first
    second = section(anna.get("/alarms?page=2").text, "history")
    assert second.count("Silent of roof") == 5
    assert "Hot of inverter" in second
    assert "acknowledged by bert" in second
    assert "Older" not in second
    only = section(anna.get("/alarms?device=inverter").text, "history")
    assert "Silent of roof" not in only
    assert 'data-level="critical"' in only
    for odd in ("?page=-3", "?page=x", "?page=99999999999", "?device='--"):
        assert anna.get(f"/alarms{odd}").status_code == 200


def test_without_a_database_the_open_ones_stand(board, clock, tmp_path) -> None:
    app = create_app((made := board()).site, made)
    page = Browser(app).get("/alarms")
    assert page.status_code == 200
    assert "There is no database" in section(page.text, "history")
    assert "The broker does not answer" in page.text


def test_who_was_told_is_said_to_members(portal, house, anna) -> None:
    house.say("inverter", "overload", alarm())
    ts = mesh_clock.iso(mesh_clock.now())
    targets = {
        "annas-phone": Delivered("read", "raised", "pushover", ts),
        "berts-phone": Delivered("failed", "reminder", "catapush", ts, "no such user"),
    }
    topic = house.topics.alarm_delivery("inverter", "overload")
    house.client.publish(topic, encode(Delivery("a1", ts, targets)), retain=True)
    wait_for(lambda: "annas-phone" in anna.get("/alarms").text)
    page = anna.get("/alarms").text
    assert "not delivered, reminder, no such user" in section(page, "open")
    assert "annas-phone" in section(page, "told")
    assert "phone" not in Browser(portal).get("/alarms").text


def test_a_test_is_asked_of_the_notifier(portal, house, anna) -> None:
    assert "Send a test" not in anna.get("/alarms").text
    assert anna.post("/alarms/test", "/account").status_code == 503
    house.notifier("offline")
    assert "notifier is not running" in anna.get("/alarms").text
    house.notifier()
    assert "Send a test" in anna.get("/alarms").text
    assert anna.post("/alarms/test", "/alarms").status_code == 303
    wait_for(lambda: house.commands)
    (command,) = house.commands
    assert (command.name, command.by) == ("test", "web:anna")
    assert "Asked for at" in section(anna.get("/alarms").text, "told")
    now = mesh_clock.iso(mesh_clock.now())
    result = Result(command.id, "test", True, "applied", now, command.by, "2 targets are tried")
    house.client.publish(house.topics.result("notifier"), encode(result))
    wait_for(lambda: "2 targets are tried" in anna.get("/alarms").text)
    assert "2 targets" not in anna.get("/control").text
