"""Raw answers from the page of a device, by its forms alone: asked, counted, stopped, sent on."""

import json
import re
from datetime import timedelta

import pytest
from sunmesh import clock
from sunmesh.config import load
from sunmesh.messages import Frames, Info, encode
from sunmesh.tap import Tap
from sunmesh.testing import migrated, wait_for
from sunmesh.trace import Tracer
from web.app import create_app
from web.board import Board
from web.config import web_of
from web.controls import Controls
from web.live import Live
from web.orders import Orders
from web.people.accounts import Accounts
from web.queries import History
from web.recordings import KEPT

from .visiting import PASSWORD, Browser

FAMILIES = {"inverter": "axpert", "pack": "bms", "roof": "pvs6", "grid": "meter", "sun": "pl80"}
DEVICES = "".join(f'[devices.{name}]\nfamily = "{each}"\n' for name, each in FAMILIES.items())
PAGE = "/devices/inverter"


class Moved:
    """The clock, ahead by as much as a test wants."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return clock.now() + timedelta(seconds=self.ahead_s)


@pytest.fixture
def moved():
    return Moved()


@pytest.fixture
def portal(site_file, mesh, tmp_path, moved):
    """An app on the run's broker, with accounts."""
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    site = load(site_file(f'[database]\nurl = "{url}"\n{DEVICES}'), "web", {})
    live = Live(mesh("web"), site.devices, moved)
    history = History(url, site.site.zone)
    accounts = Accounts(url)
    board = Board(web_of(site), site, live, history)
    yield create_app(site, board, accounts, Controls(board, Orders(live, accounts)))
    history.close()
    accounts.close()


@pytest.fixture
def anna(portal) -> Browser:
    return Browser(portal).settle().unlock()


class Collector:
    """What a collector does with its inverter's wishes: the library's own, with a tap by hand."""

    def __init__(self, mesh, topics):
        self.tap = Tap()
        self.client, self.topics = mesh("collector-axpert"), topics
        self.tracer = Tracer(self.client, "inverter", self.tap, lambda: self.capture)
        self.client.subscribe(topics.trace("inverter"), self.tracer.hear, as_published=True)
        info = Info(clock.iso(clock.now()), "axpert", model="VMIII-5000", firmware="72.70")
        self.client.publish(topics.info("inverter"), encode(info), retain=True)

    @staticmethod
    def capture(asked, came):
        record = {"command": asked, "hex": came.hex()}
        return record | {"error": "crc"} if came.startswith(b"?") else record


@pytest.fixture
def collector(mesh, topics, portal):
    made = Collector(mesh, topics)
    live = portal.extensions["board"].live
    wait_for(lambda: "inverter" in live.state().devices)
    yield made
    made.tracer.end("the test is over")


def text_of(browser, path=PAGE):
    page = browser.get(path).text
    found = re.search(r'<section class="card" id="device-record".*?</section>', page, re.DOTALL)
    return " ".join(found[0].split()).replace("\N{NO-BREAK SPACE}", " ") if found else ""


def until(browser, text):
    wait_for(lambda: text in text_of(browser), why=text)
    return text_of(browser)


def record(browser, device="inverter", minutes=5):
    page = f"/devices/{device}"
    return browser.post(f"{page}/record", page, minutes=minutes)


def test_from_the_button_to_the_file(portal, collector, anna) -> None:
    assert "Record for 5 minutes" in text_of(anna)
    answer = record(anna)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{PAGE}#device-record")
    going = until(anna, "Recording, ")
    assert re.search(r"Recording, [45]:\d\d left", going)
    assert "Record for" not in going
    assert 'http-equiv="refresh"' in anna.get(PAGE).text
    collector.tap("QPI", b"(PI30")
    collector.tap("QPIGS", b"?")
    collector.tap("QMOD", b"")
    again = record(anna)
    assert (again.status_code, "It is being recorded already" in again.text) == (409, True)
    assert anna.post(f"{PAGE}/record/stop", PAGE).status_code == 303
    over = until(anna, "Stopped.")
    assert "2 answers · 1 of them damaged · 1 question without an answer" in over
    assert 'http-equiv="refresh"' not in anna.get(PAGE).text
    file = anna.get(re.search(r'href="([^"]+\.json)"', over)[1])
    name = re.search(r'filename="([^"]+)"', file.headers["Content-Disposition"])[1]
    assert re.fullmatch(r"axpert-inverter-20\d\d-\d\d-\d\dT\d{6}\.json", name)
    first, *others = json.loads(file.text)
    assert first["source"].endswith("by collector-axpert as it ran")
    assert (first["model"], first["firmware"]) == ("VMIII-5000", "72.70")
    assert (first["command"], first["hex"], first["origin"]) == ("QPI", "2850493330", "real")
    assert [each["error"] for each in others] == ["crc", "no_answer"]
    deeds = [(d.by, d.action, d.subject) for d in portal.extensions["accounts"].deeds(2)]
    assert deeds == [("anna", "stop recording", "inverter"), ("anna", "record", "inverter")]
    assert "Record for 1 minute" in over


def test_a_collector_that_does_not_run_is_named(anna, moved) -> None:
    assert record(anna, minutes=1).status_code == 303
    assert "collector-axpert was asked." in text_of(anna)
    moved.ahead_s = 11
    told = text_of(anna)
    assert "collector-axpert did not answer for 10 s: it is not running, or not connected." in told
    assert "Record for 5 minutes" in told


def test_what_came_before_a_collector_fell_silent_is_kept(collector, anna, moved) -> None:
    record(anna)
    until(anna, "Recording, ")
    collector.tap("QPI", b"(PI30")
    until(anna, "1 answer ")
    collector.client.stop()
    moved.ahead_s = 15
    told = text_of(anna)
    assert "collector-axpert fell silent before the end." in told
    assert "Download the file" in told
    moved.ahead_s = 3700
    assert "Download the file" not in text_of(anna)
    assert anna.get(re.search(r'href="([^"]+\.json)"', told)[1]).status_code == 404


def test_a_refusal_is_told_in_the_collectors_words(mesh, topics, anna) -> None:
    client = mesh("collector-meter")
    tracer = Tracer(client, "grid", None, None)
    client.subscribe(topics.trace("grid"), tracer.hear, as_published=True)
    record(anna, "grid")
    wait_for(lambda: "collector-meter refuses:" in text_of(anna, "/devices/grid"))
    assert "use `collector-meter record`." in text_of(anna, "/devices/grid")
    assert "Download" not in text_of(anna, "/devices/grid")


def test_four_at_once_and_the_fifth_waits(anna, monkeypatch) -> None:
    monkeypatch.setattr("web.recordings.PATIENCE_S", 0.0)
    for name in list(FAMILIES)[:KEPT]:
        assert record(anna, name).status_code == 303
    last = record(anna, list(FAMILIES)[KEPT])
    assert last.status_code == 409
    assert "Inverter, Pack, Roof, Grid are being recorded; one of them must end." in last.text


def test_without_the_broker_nothing_is_sent_and_nothing_kept(portal, anna) -> None:
    portal.extensions["board"].live.mesh.stop()
    answer = record(anna)
    assert (answer.status_code, "The broker does not answer" in answer.text) == (409, True)
    assert portal.extensions["recordings"].of("inverter") is None


def test_what_is_not_of_a_recording_changes_nothing(portal, collector, mesh, topics, anna) -> None:
    record(anna)
    until(anna, "Recording, ")
    (found,) = portal.extensions["recordings"]._kept.values()
    ts = clock.iso(clock.now())
    counters = portal.extensions["board"].live.counters
    for topic, payload in (
        (topics.frames("inverter"), b"{"),
        (topics.frames("inverter"), encode(Frames("other", 9, ts, last=True))),
        (topics.frames("pack"), encode(Frames(found.id, 9, ts, last=True))),
        (topics.frames("inverter"), encode(Frames(found.id, 0, ts, last=True))),  # a repetition
        (topics.frames("inverter"), b""),
    ):
        collector.client.publish(topic, payload)
    collector.tap("QPI", b"(PI30")
    until(anna, "1 answer ")
    assert "Recording, " in text_of(anna)
    assert counters["bad_messages"] == 1


@pytest.mark.parametrize("minutes", ["0", "7", "-5", "many", ""])
def test_other_times_are_refused(anna, minutes) -> None:
    answer = record(anna, minutes=minutes)
    assert (answer.status_code, "Minutes are one of 1, 5" in answer.text) == (409, True)


def test_who_may_not_sees_nothing_and_who_is_locked_unlocks_first(portal) -> None:
    Browser(portal).settle()
    accounts = portal.extensions["accounts"]
    for name, role in (("otto", "operator"), ("vera", "viewer")):
        accounts.add(name, PASSWORD, role, "anna", "127.0.0.1")
    assert text_of(Browser(portal)) == ""
    assert text_of(Browser(portal).log_in("vera")) == ""
    otto = Browser(portal).log_in("otto")
    assert "Unlock for 10 minutes" in text_of(otto)
    assert record(otto).status_code == 403
    otto.unlock()
    assert "Record for 5 minutes" in text_of(otto)
    road = Browser(portal, "203.0.113.7").log_in("otto")
    assert "local network only" in text_of(road)
    assert accounts.deeds(1)[0].action != "record"


def test_only_what_a_collector_reads_by_itself_can_be_recorded(portal, mesh, topics, anna) -> None:
    ts = clock.iso(clock.now())
    client = mesh("collector-pvs6")
    info = Info(ts, "pvs6", through="roof")
    client.publish(topics.info("roof-1"), encode(info), retain=True)
    client.publish(
        topics.telemetry("roof-1"), b'{"v":1,"ts":"%b","values":{}}' % ts.encode(), retain=True
    )
    wait_for(lambda: anna.get("/devices/roof-1").status_code == 200)
    wait_for(lambda: "roof-1" in portal.extensions["board"].live.state().devices)
    assert text_of(anna, "/devices/roof-1") == ""
    answer = anna.post("/devices/roof-1/record", PAGE, minutes=1)
    assert (answer.status_code, "No collector reads this" in answer.text) == (404, True)
    assert anna.post("/devices/none/record", PAGE, minutes=1).status_code == 404
