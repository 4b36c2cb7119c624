"""Page *Rules*: read aloud, the form, what is asked of the controller, the picture of a replay."""

import html
import json
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from sunmesh import clock
from sunmesh.config import load
from sunmesh.messages import Command, Info, Range, Result, Sample, Settings, Status, decode, encode
from sunmesh.testing import migrated, wait_for
from web.app import create_app
from web.board import Board
from web.config import web_of
from web.controls import Controls
from web.live import Live, Memory
from web.orders import Orders
from web.people.accounts import Accounts
from web.queries import History
from web.rules import form as rules_form
from web.rules import picture as rules_picture
from web.rules import templates as rules_templates
from web.rules import view as rules_view
from web.rules import words as rules_words
from web.rules.book import Report, Rules, Switch

from .visiting import PASSWORD, Browser

BOOK = json.loads((Path(__file__).parent / "rules.json").read_text())
RULES = msgspec.convert(BOOK, Rules)
NAMES = [each.name for each in RULES.rules]
SAMPLES = {
    "inverter": {
        "battery_voltage_v": 52.4,
        "battery_charge_current_a": 5.0,
        "battery_discharge_current_a": 0.0,
        "grid_voltage_v": 231.0,
        "device_mode": "line",
        "heat_sink_temperature_c": 41.0,
    },
    "battery": {
        "battery_soc_percent": 60.0,
        "charge_mosfet_on": True,
        "cell_voltage_v": [3.3] * 16,
    },
}
SETTINGS = {
    "output_source_priority": "SBU",
    "charger_source_priority": "solar_only",
    "max_charge_current_a": 40.0,
    "float_voltage_v": 55.1,
    "bulk_voltage_v": 55.2,
    "redischarge_voltage_v": 55.0,
}
RANGES = {
    "output_source_priority": Range(choices=["USB", "SUB", "SBU"]),
    "max_charge_current_a": Range(low=10, high=80, step=10, unit="A"),
}
DEVICES = """
[devices.inverter]
family = "axpert"
[devices.battery]
family = "bms"
[devices.grid-relay]
family = "relay"
"""


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def memory(device: str) -> Memory:
    sample = Sample(ts="2026-11-21T12:00:00Z", values=SAMPLES.get(device, {}))
    settings = Settings("2026-11-21T12:00:00Z", SETTINGS) if device == "inverter" else None
    info = Info("2026-11-21T12:00:00Z", "axpert", settable=list(RANGES), ranges=RANGES)
    return Memory(sample, info if device == "inverter" else None, settings)


HOUSE = {device: memory(device) for device in SAMPLES}


# -- read aloud ------------------------------------------------------------------------------------


def test_a_rule_is_read_aloud() -> None:
    reading = rules_words.read(RULES, RULES.rule("c6").table)
    lines = {title: [plain(phrase) for phrase in phrases] for title, phrases in reading.lines}
    assert lines["When"][1] == "Between 07:00 and 14:00"
    assert "in 9 of the last 10 minutes" in lines["When"][0]
    assert "Battery voltage (Inverter) is 51.8 V or more" in lines["When"][0]
    assert lines["Then"] == ["Disconnect the grid by the relay"]
    assert "51.2 V or less" in lines["Over when"][0]
    assert lines["Limits"][0] == "Acts 12 times in 24 hours at most"
    assert lines["Without fresh data"] == ["The grid is connected"]


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_of_the_preset_is_read_whole(name: str) -> None:
    reading = rules_words.read(RULES, RULES.rule(name).table)
    for title, phrases in reading.lines:
        assert phrases, title
        assert all(phrase and "None" not in phrase and "{" not in phrase for phrase in phrases)
    assert reading.says in rules_words.KNOWN


def test_what_makes_no_sense_is_read_without_harm() -> None:
    for table in (
        {},
        {"when": 3, "until": [None], "do": ["x", {}], "safe": 1, "hours": 5},
        {"when": [{"samples": "x of y", "all": [{"quantity": 3, "below": {}}, 7]}]},
        {"do": [{"set": "a.b", "from": "c.d", "by": -1, "floor": "nothing"}]},
    ):
        assert rules_words.read(RULES, table).lines


def test_conflicts_say_who_has_its_way() -> None:
    found = rules_words.conflicts(RULES)
    relay = next(c for c in found if {c.first, c.second} == {"C4", "C6"})
    assert relay.text.startswith("C4 has its way")
    source = next(c for c in found if {c.first, c.second} == {"C9", "C7"})
    assert (source.first, source.text) == ("C9", "C9 has its way")


# -- the form --------------------------------------------------------------------------------------


def fields(table: dict, name: str = "c6") -> dict[str, str]:
    """What a browser would send of the form of ``table``."""
    made = rules_form.fields_of(RULES, table)
    form = {"name": name}
    for key in ("says", "priority", "hours", "begin", "end", "safe_relay", "safe_settings"):
        form[key] = getattr(made, key)
    for key in ("afterwards", "min_on_min", "min_off_min", "again_min", "most_switches_day"):
        form[key] = getattr(made, key)
    for key in ("protects", "ends_with_hours", "temporary"):
        if getattr(made, key):
            form[key] = "on"

    def conditions(at: str, rows) -> None:
        for number, row in enumerate(rows):
            form[f"{at}-{number}-what"] = row.what
            form[f"{at}-{number}-test"] = row.test
            form[f"{at}-{number}-value"] = row.value
            if row.every:
                form[f"{at}-{number}-every"] = "on"

    for side in ("when", "until"):
        for place, group in enumerate(getattr(made, side)):
            at = f"{side}-{place}"
            form |= {f"{at}-samples": group.kind, f"{at}-few": group.few, f"{at}-many": group.many}
            conditions(at, group.conditions)
    for place, step in enumerate(made.do):
        at = f"do-{place}"
        form |= {
            f"{at}-kind": step.kind,
            f"{at}-what": step.what,
            f"{at}-to": step.to,
            f"{at}-base": step.base,
            f"{at}-by": step.by,
            f"{at}-floor": step.floor,
        }
        conditions(at, step.given)
    return form


def ruled(table: dict) -> list:
    """How a rule is read, and everything that is not."""
    reading = rules_words.read(RULES, table)
    return [reading.lines, reading.says, table.get("priority"), bool(table.get("protects"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_form_says_what_its_rule_says(name: str) -> None:
    table = RULES.rule(name).table
    parsed = rules_form.parse(fields(table, name), RULES)
    assert parsed.errors == {}
    assert ruled(parsed.table) == ruled(table)


@pytest.mark.parametrize("made", [t for t in rules_templates.TEMPLATES if t.table], ids=str)
def test_a_template_is_a_whole_rule_of_this_house(made) -> None:
    table = rules_templates.filled(made)
    assert table["says"] in rules_templates.SAID
    assert rules_form.parse(fields(table, made.name), RULES).errors == {}
    assert rules_templates.lacks(made, RULES, HOUSE) == ""
    assert rules_templates.lacks(made, RULES, {}) != ""


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"says": ""}, "says"),
        ({"name": "../x"}, "name"),
        ({"name": "<b>x</b>"}, "name"),
        ({"hours": ""}, "hours"),
        ({"begin": "25:00"}, "hours"),
        ({"begin": "14:00"}, "hours"),
        ({"priority": "0"}, "priority"),
        ({"priority": "1e3"}, "priority"),
        ({"most_switches_day": ""}, "most_switches_day"),
        ({"most_switches_day": "101"}, "most_switches_day"),
        ({"min_on_min": ""}, "min_on_min"),
        ({"min_off_min": "-5"}, "min_off_min"),
        ({"again_min": "9999999999"}, "again_min"),
        ({"safe_relay": ""}, "safe_relay"),
        ({"do-0-kind": ""}, "do"),
        ({"do-0-kind": "set", "do-0-what": "relay"}, "do-0"),
        ({"when-0-0-what": "x"}, "when-0-0"),
        ({"when-0-2-test": "like"}, "when-0-2"),
        ({"when-0-2-value": "much"}, "when-0-2"),
        ({"when-0-2-value": ""}, "when-0-2"),
        ({"when-0-few": "11"}, "when-0"),
        ({"when-0-many": "1000"}, "when-0"),
        ({"until-0-0-value": "52"}, "until"),
        ({"until-0-0-test": "at_least"}, "until"),
        ({"until-0-0-what": "q:inverter.grid_voltage_v"}, "until"),
        ({"until-0-0-what": ""}, "until"),
    ],
)
def test_what_a_rule_must_have_is_asked_for(change, where) -> None:
    """Both thresholds, times, a limit, a safe state; and no rubbish."""
    parsed = rules_form.parse(fields(RULES.rule("c6").table) | change, RULES)
    assert where in parsed.errors, parsed.errors


def test_numbers_come_with_a_comma_too() -> None:
    assert rules_form.number_of("51,8") == 51.8
    assert rules_form.number_of("\N{MINUS SIGN}0.1") == -0.1
    for text in ("", "1e9", "nan", "inf", "9999999", "--1", "1.2.3", "५"):
        assert rules_form.number_of(text) is None, text


def test_a_device_is_asked_what_it_takes() -> None:
    table = {
        "do": [
            {"set": "inverter.max_charge_current_a", "to": 500},
            {"set": "inverter.output_source_priority", "to": "XYZ"},
            {"set": "inverter.bulk_voltage_v", "to": 55.0},
            {"set": "inverter.max_charge_current_a", "to": "charge_low_a"},
        ]
    }
    infos = {name: each.info for name, each in HOUSE.items()}
    found = [plain(text) for text in rules_form.doubts(table, RULES, infos)]
    assert len(found) == 3
    assert "10 to 80 A" in found[0]
    assert "not 500.0 A" in found[0]


def test_the_form_offers_what_can_be_looked_at() -> None:
    look, sets = rules_form.shelves(RULES, HOUSE, [RULES.rule("c10").table])
    forms = {option.form for shelf in look for option in shelf.options}
    assert {"q:inverter.battery_voltage_v", "s:inverter.bulk_voltage_v"} <= forms
    assert {o.form for shelf in sets for o in shelf.options} >= {"inverter.bulk_voltage_v"}


# -- differences, pictures -------------------------------------------------------------------------


def test_differences_are_what_reads_differently() -> None:
    before = RULES.rule("c6").table
    after = {**before, "hours": "08:00-14:00", "priority": 61}
    found = rules_view.differences(RULES, before, after)
    assert [each.title for each in found] == ["When", "Priority"]
    assert rules_view.differences(RULES, before, before) == []
    assert len(rules_view.differences(RULES, None, after)) == 6


def test_a_lane_lies_within_its_picture() -> None:
    report = Report(
        start=0,
        end=1000,
        switches=[Switch(500, "c6", "asked for the grid"), Switch(5000, "c6")],
        open=[[100, 200], [900, 2000], [50, 50]],
        active={"c6": [[0, 250]]},
    )
    lane = rules_picture.lane(report, 0, 1000, ["x", "y"])
    assert lane.open == [(100.0, 100.0), (900.0, 100.0)]
    assert lane.active == [(0.0, 250.0)]
    assert [mark.x for mark in lane.marks] == [500.0, 1000.0]


def test_a_curve_has_its_gaps() -> None:
    points = [
        SimpleNamespace(ts=ms, mean=float(mean), joined=joined)
        for ms, mean, joined in ((0, 50, False), (100, 60, True), (600, 120, False))
    ]
    line = rules_picture.line(SimpleNamespace(points=points, step_ms=0), 0, 1000, 0, 100)
    assert len(line.pieces) == 2
    assert (line.low, line.high) == (0, 120)


# -- the pages -------------------------------------------------------------------------------------


class Brain:
    """Stands in for the controller: takes drafts, refuses what it is told to refuse."""

    def __init__(self, client, topics) -> None:
        self.client, self.topics = client, topics
        self.asked: list[Command] = []
        self.refuses = ""
        self.is_deaf = False
        client.subscribe(topics.command("controller"), self.hear)

    def say(self) -> None:
        now = clock.iso(clock.now())
        modes = {"mode": "on", **{f"rule.{name}": "on" for name in NAMES}}
        for device, values in SAMPLES.items():
            self.put(self.topics.telemetry(device), Sample(ts=now, values=values))
            self.put(self.topics.status(device), Status("online", now))
        info = Info(now, "axpert", settable=list(RANGES), ranges=RANGES)
        self.put(self.topics.info("inverter"), info)
        self.put(self.topics.settings("inverter"), Settings(now, SETTINGS))
        self.put(self.topics.settings("controller"), Settings(now, modes))
        self.tell("book", BOOK)

    def put(self, topic: str, content) -> None:
        self.client.publish(topic, encode(content), retain=True)

    def tell(self, path: str, document) -> None:
        payload = json.dumps(document).encode()
        self.client.publish(self.topics.rules(path), payload, retain=path == "book")

    def hear(self, message) -> None:
        command = decode(Command, message.payload)
        self.asked.append(command)
        if self.is_deaf:
            return
        stage = "refused" if self.refuses else "applied"
        if command.name == "draft.replay" and not self.refuses:
            stage = "accepted"
        result = Result(
            command.id, command.name, None, stage, clock.iso(clock.now()), command.by, self.refuses
        )
        self.client.publish(self.topics.result("controller"), encode(result))


@pytest.fixture
def portal(site_file, mesh, tmp_path):
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
    app.extensions["database"].close()


@pytest.fixture
def brain(portal, mesh, topics) -> Brain:
    made = Brain(mesh("controller"), topics)
    made.say()
    wait_for(lambda: portal.extensions["rules"].rules is not None)
    live = portal.extensions["board"].live
    wait_for(lambda: {"inverter", "battery", "controller"} <= live.state().devices.keys())
    wait_for(
        lambda: live.state().devices["inverter"].settings and live.state().devices["inverter"].info
    )
    return made


@pytest.fixture
def anna(portal) -> Browser:
    return Browser(portal).settle().unlock()


def hidden(text: str) -> dict[str, str]:
    found = re.findall(r'type="hidden" name="([\w.-]+)" value="([^"]*)"', text)
    return {key: html.unescape(value) for key, value in found}


def test_without_a_controller_the_page_says_how_to_get_one(portal) -> None:
    page = Browser(portal).get("/rules")
    assert page.status_code == 200
    assert "controller run" in page.text
    assert Browser(portal).get("/rules/new").status_code == 409


def test_a_guest_reads_every_rule_and_changes_none(portal, brain) -> None:
    guest = Browser(portal)
    page = guest.get("/rules")
    assert page.text.count('class="card rule-card"') == len(NAMES)
    assert "In 9 of the last 10" in page.text.replace("in 9", "In 9")
    assert 'action="/rules' not in page.text.replace('action="/rules/numbers"', "")
    for path in ("/rules/review", "/rules/save", "/rules/replay", "/rules/undo"):
        assert guest.client.post(path).status_code in (401, 403)
    assert guest.get("/rules/c6/edit").status_code == 200
    assert guest.get("/rules/c99/edit").status_code == 404


def test_a_changed_rule_is_checked_reviewed_and_saved(portal, brain, anna) -> None:
    rule = RULES.rule("c6")
    form = fields(rule.table) | {"is_new": "0", "mark": rule.mark, "begin": "08:30"}
    page = anna.post("/rules/review", "/rules/c6/edit", **form)
    assert page.status_code == 200, page.text
    assert "Between 07:00 and 14:00" in page.text
    assert "Between 08:30 and 14:00" in page.text
    assert brain.asked[-1].name == "draft.check"
    carried = hidden(page.text)
    answer = anna.client.post(
        "/rules/save",
        data={"csrf": carried["csrf"], "draft": carried["draft"], "mode": "shadow", "note": "sun"},
    )
    assert answer.status_code == 303, answer.text
    command = brain.asked[-1]
    assert (command.name, command.by, command.reason) == ("draft.save", "web:anna", "sun")
    draft = json.loads(command.value)
    assert draft["modes"] == {"c6": "shadow"}
    assert draft["was"] == {"c6": rule.mark}
    assert draft["rules"]["c6"]["hours"] == "08:30-14:00"
    assert "goes on with it" in anna.get(answer.headers["Location"]).text
    deeds = portal.extensions["accounts"].deeds()
    assert "draft.save" in deeds[0].detail


def test_what_the_controller_refuses_stands_in_the_form(portal, brain, anna) -> None:
    brain.refuses = "rules.c6.until: <b>says</b> nothing"
    rule = RULES.rule("c6")
    form = fields(rule.table) | {"is_new": "0", "mark": rule.mark, "says": "<script>x</script>"}
    page = anna.post("/rules/review", "/rules/c6/edit", **form)
    assert page.status_code == 422
    assert "&lt;b&gt;says&lt;/b&gt; nothing" in page.text
    assert "<script>x" not in page.text
    assert "grid_off_v" in page.text


def test_what_is_missing_stands_beside_its_field(portal, brain, anna) -> None:
    form = fields(RULES.rule("c6").table) | {"is_new": "0", "most_switches_day": "", "says": ""}
    before = len(brain.asked)
    page = anna.post("/rules/review", "/rules/c6/edit", **form)
    assert page.status_code == 422
    assert 'id="wrong-most_switches_day"' in page.text
    assert len(brain.asked) == before, "the controller is not bothered"


def test_a_controller_that_says_nothing_changes_nothing(portal, brain, anna, monkeypatch) -> None:
    monkeypatch.setattr("web.rules.book.PATIENCE_S", 0.2)
    brain.is_deaf = True
    form = fields(RULES.rule("c6").table) | {"is_new": "0"}
    page = anna.post("/rules/review", "/rules/c6/edit", **form)
    assert page.status_code == 503
    assert "does not answer" in page.text


def test_a_template_becomes_a_rule(portal, brain, anna) -> None:
    page = anna.get("/rules/new?template=night-reserve")
    assert page.status_code == 200
    assert 'value="night-reserve"' in page.text
    table = rules_templates.filled(rules_templates.template("night-reserve"))
    form = fields(table, "night-reserve") | {"is_new": "1"}
    page = anna.post("/rules/review", "/rules/new?template=night-reserve", **form)
    assert page.status_code == 200, page.text
    assert 'value="keep"' not in page.text
    draft = json.loads(hidden(page.text)["draft"])
    assert draft["was"] == {"night-reserve": ""}
    assert anna.get("/rules/new?template=generator").status_code == 404
    assert anna.get("/rules/new?template=../x").status_code == 404
    assert anna.get("/rules/new?copy=c6").text.count("c6-2") >= 1
    taken = anna.post("/rules/review", "/rules/new", **fields(table, "c6"), is_new="1")
    assert taken.status_code == 422


def test_numbers_are_reviewed_too(portal, brain, anna) -> None:
    form = {f"number.{name}": f"{value:g}" for name, value in RULES.numbers.items()}
    same = anna.post("/rules/numbers", "/rules", **form)
    assert same.status_code == 422
    page = anna.post("/rules/numbers", "/rules", **form | {"number.grid_on_v": "51,4"})
    assert page.status_code == 200, page.text
    assert json.loads(hidden(page.text)["draft"])["numbers"] == {"grid_on_v": 51.4}
    wrong = anna.post("/rules/numbers", "/rules", **form | {"number.grid_on_v": "1e99"})
    assert wrong.status_code == 422


def test_a_change_is_undone_and_a_rule_restored(portal, brain, anna) -> None:
    saved = json.loads(json.dumps(BOOK))
    c6 = next(each for each in saved["rules"] if each["name"] == "c6")
    c6 |= {"from": "saved", "below": c6["table"], "table": {**c6["table"], "priority": 70}}
    change = {"ts": "2026-11-20T10:00:00.000Z", "by": "web:anna", "note": "<i>n</i>", "rule": "c6"}
    saved["changes"] = [{**change, "before": None, "after": c6["table"]}]
    brain.tell("book", saved)
    wait_for(lambda: portal.extensions["rules"].rules.changes)
    page = anna.get("/rules").text
    assert "changed here" in page
    assert "&lt;i&gt;n&lt;/i&gt;" in page
    answer = anna.post("/rules/undo", "/rules", ts=change["ts"], place="0")
    assert answer.status_code == 200, answer.text
    assert json.loads(hidden(answer.text)["draft"])["rules"] == {"c6": None}
    answer = anna.post("/rules/c6/restore", "/rules")
    assert answer.status_code == 200
    assert anna.post("/rules/undo", "/rules", ts="x", place="99999").status_code == 404
    assert anna.post("/rules/nothing/restore", "/rules").status_code == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"days": "0"},
        {"days": "367"},
        {"days": "-1"},
        {"days": "1000000"},
        {"days": "30", "rule": "c99"},
        {"days": "30", "rule": "../x"},
        {"days": "30", "draft": "{"},
        {"days": "30", "draft": '{"rules": 1, "more": 2}'},
        {"days": "30", "draft": "[" * 3000},
    ],
)
def test_a_replay_of_nonsense_is_refused(portal, brain, anna, fields) -> None:
    answer = anna.post("/rules/replay", "/rules", **fields)
    assert 400 <= answer.status_code < 500
    assert not [c for c in brain.asked if c.name == "draft.replay"]


def test_a_replay_is_shown_when_it_is_done(portal, brain, anna) -> None:
    answer = anna.post("/rules/replay", "/rules", days="30", rule="c6")
    assert answer.status_code == 303, answer.text
    address = answer.headers["Location"]
    number = address.rpartition("/")[2]
    assert "<progress" in anna.get(address).text
    brain.tell("replay", {"id": number, "state": "running", "rule": "c6", "done": 0.4})
    wait_for(lambda: anna.get(f"{address}.json").json["done"] == 0.4)
    end = clock.epoch_ms(clock.now())
    report = {
        "from": end - 86_400_000,
        "to": end,
        "minutes": 1440,
        "silent": 14,
        "switches": [
            {
                "ts": end - 3_600_000,
                "rule": "c6",
                "did": "asked to open the grid; set max_charge_current_a = 10.0",
                "saw": {"inverter.battery_voltage_v": 52.1, "when 1": "9 of 10"},
            }
        ],
        "counts": {"c6": 1},
        "writes": 1,
        "lowest": [17.0, end - 7_200_000],
        "open": [[end - 3_600_000, end]],
        "open_minutes": 60,
        "active": {"c6": [[end - 3_600_000, end]]},
        "unknown": ["inverter.bulk_voltage_v"],
    }
    done = {"id": number, "state": "done", "rule": "c6", "days": 30, "done": 1, "now": report}
    brain.tell("replay", done)
    wait_for(lambda: "<progress" not in anna.get(address).text)
    page = plain(anna.get(address).text)
    assert "grid disconnected · " in page
    assert "→ 10.0 A" in page
    assert "1.0 h" in page
    assert "17 %" in page
    assert "99%" in page or "99 %" in page
    guest = Browser(portal).get(address)
    assert guest.status_code == 200
    brain.tell("replay", {**done, "state": "failed", "why": "<b>x</b>"})
    wait_for(lambda: "&lt;b&gt;x" in anna.get(address).text)
    assert anna.get("/rules/replay/unknown").status_code == 404


def test_what_cannot_be_read_is_dropped(portal, brain) -> None:
    book = portal.extensions["rules"]
    live = portal.extensions["board"].live
    topic = brain.topics.rules("book")
    bad = live.counters["bad_messages"]
    for payload in (b"{", b"[]", b'{"ts": 5}', b"x" * 300_000, b"[" * 9000):
        brain.client.publish(topic, payload)
    wait_for(lambda: live.counters["bad_messages"] == bad + 5)
    assert book.rules is not None
    assert Browser(portal).get("/rules").status_code == 200


def test_the_form_reads_itself_aloud(portal, brain, anna) -> None:
    form = fields(RULES.rule("c6").table) | {"begin": "09:15"}
    answer = anna.post("/rules/read", "/rules/c6/edit", **form)
    assert "Between 09:15 and 14:00" in answer.text
    assert "<html" not in answer.text
    del form["says"]
    assert "1 thing is missing" in anna.post("/rules/read", "/rules/c6/edit", **form).text


def test_who_only_operates_may_replay_but_not_change(portal, brain, anna) -> None:
    portal.extensions["accounts"].add("otto", PASSWORD, "operator", "anna", "::1")
    otto = Browser(portal).log_in("otto")
    page = otto.get("/rules").text
    assert "/rules/c6/edit" not in page
    assert 'action="/rules/replay"' in page
    assert otto.post("/rules/numbers", "/account").status_code == 403
