"""The relay at work: what is sent, what is said, and the level of its output."""

import json
import threading
from datetime import timedelta

import pytest
from grid_relay import output, service
from grid_relay.config import OutputTable, RelayDevice
from grid_relay.service import GridRelay
from grid_relay.watchdog import Watchdog
from sunmesh import clock
from sunmesh.errors import TransportError
from sunmesh.messages import Command, Info, Result, Sample, decode, encode
from sunmesh.mqtt import Message
from sunmesh.statefile import StateFile
from sunmesh.topics import Topics
from sunmesh.vocabulary import VOCABULARY

TOPICS = Topics("home")


def test_it_starts_safe_and_says_so(house):
    assert house.level == "0"
    assert house.values == {
        "relay_position": "grid_connected",
        "relay_feedback": None,
        "relay_reason": "startup",
        "lease_remaining_s": 0.0,
        "relay_manual_until": "",
        "switch_count": 4,
    }
    assert house.values.keys() <= VOCABULARY.keys()
    assert house.alarms == set()


def test_a_command_opens_and_the_end_of_its_lease_connects(house):
    assert house.open() == [
        ("accepted", "open for 180 s"),
        ("applied", "the output was read back"),
    ]
    assert house.level == "1", "without waiting for a turn"
    house.turn()
    assert house.values["relay_position"] == "grid_open"
    assert house.values["relay_reason"] == "leased"
    assert house.values["lease_remaining_s"] == 180.0
    house.turn(179.9)
    assert house.level == "1"
    house.turn(0.1)
    assert house.level == "0"
    assert house.values["relay_reason"] == "lease_expired"
    assert house.values["switch_count"] == 6
    assert house.alarms == {"lease_expired"}


def test_a_renewal_is_one_result_and_no_switching(house):
    house.open()
    house.turn(100)
    assert house.open() == [("applied", "renewed")]
    house.turn(179)
    assert house.level == "1"


def test_who_asks_for_the_grid_gets_it(house):
    house.open()
    assert house.connect()[-1][0] == "applied"
    assert house.level == "0"
    assert house.connect() == [("applied", "is connected")]
    house.turn()
    assert house.alarms == set()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"OFF",
        b"\xff",
        b"[]",
        b'{"name":"relay_position"}',
        b'{"name":"relay_position","value":"grid_open"}',
        b'{"name":"relay_position","value":"grid_open","lease_s":"180"}',
        b'{"name":"relay_position","value":"grid_open","lease_s":1e9}',
        b'{"name":"relay_position","value":"grid_open","lease_s":NaN}',
        b'{"name":"relay_position","value":"open","lease_s":180}',
        b'{"name":"relay_position","value":"GRID_OPEN","lease_s":180}',
        b'{"name":"relay","value":"grid_open","lease_s":180}',
        b'{"name":"manual","value":"off"}',
        b'{"name":"relay_position","value":"grid_open","lease_s":180,"expires":"tomorrow"}',
        b'{"value":"grid_open","lease_s":180}',
        b"x" * 70_000,
    ],
)
def test_nothing_but_the_exact_request_keeps_it_open(house, body):
    house.open()
    told = house.send_raw(body)
    if body == b"":
        assert told == [], "somebody clears a retained message"
        assert house.level == "1"
        return
    assert [stage for stage, _ in told] == ["refused"]
    assert house.level == "0"
    house.turn()
    assert house.values["relay_reason"] == "unreadable_request"
    assert house.alarms == {"unreadable_request"}


def test_retained_expired_and_repeated_commands_neither_open_nor_renew(house):
    assert house.open(retain=True)[0][0] == "refused"
    past = clock.iso(clock.now() - timedelta(seconds=1))
    assert house.open(expires=past)[0][0] == "expired"
    assert house.level == "0"
    assert house.open(lease_s=100, id="one")[-1][0] == "applied"
    house.turn(50)
    for told in (house.open(id="one"), house.open(retain=True), house.open(expires=past)):
        assert told[0][0] in ("refused", "expired")
    house.turn(50)
    assert house.level == "0"


def test_an_id_is_remembered_by_the_next_run(house):
    house.open(id="one")
    house.end()
    house.clock.now += 400
    house.start()
    house.turn(300)
    assert "taken before" in house.open(id="one")[0][1]
    assert house.open(id="two")[-1][0] == "applied"


def test_the_end_connects_and_says_so(house):
    house.open()
    house.turn()
    house.end()
    assert house.level == "0"
    assert house.values["relay_reason"] == "stopping"
    status = house.bodies(TOPICS.status("grid-relay"))[-1]
    assert status["state"] == "offline"
    assert house.state.load()["position"] == "grid_connected"


def test_a_manual_override_is_seen(house):
    house.send(name="manual", value="grid_open", lease_s=3600)
    house.turn()
    assert house.values["relay_reason"] == "manual"
    until = clock.parse(house.values["relay_manual_until"])
    assert 3590 < (until - clock.now()).total_seconds() < 3601
    first = house.values["relay_manual_until"]
    house.turn(60)
    assert house.values["relay_manual_until"] == first
    assert house.send(name="manual", value="auto")[-1][0] == "applied"
    house.turn()
    assert house.values["relay_manual_until"] == ""
    assert house.level == "0"


def test_it_speaks_when_something_changes_and_every_five_seconds(house):
    topic = TOPICS.telemetry("grid-relay")
    house.turn(0.4, 0.1)
    before = len(house.bodies(topic))
    house.turn(10, 0.1)
    assert len(house.bodies(topic)) - before == 2
    house.open()
    house.turn(0.1)
    assert len(house.bodies(topic)) - before == 3


def test_how_it_introduces_itself(house):
    info = house.relay._info()
    assert decode(Info, encode(info)).settable == ["relay_position", "manual"]
    assert info.ranges["lease_s"].high == 600
    assert info.ranges["relay_position"].choices == ["grid_connected", "grid_open"]


# -- a restart -------------------------------------------------------------------------------------


def test_a_first_start_is_safe_and_waits(build):
    house = build(saved=None)
    assert house.level == "0"
    assert "300 s" in house.open()[0][1]
    house.turn(300, 1)
    assert house.open()[-1][0] == "applied"


def kept(house, position, eventually):
    eventually(lambda: house.state.path.exists() and house.state.load()["position"] == position)


def test_a_killed_relay_starts_safe_and_has_switched(house, eventually):
    house.open()
    house.turn()
    kept(house, "grid_open", eventually)
    house.start()
    assert house.level == "0"
    assert house.values["switch_count"] == 6
    assert "300 s" in house.open()[0][1]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"position":"somewhere","switched":[],"switch_count":1,"fault":""}',
        b'{"position":"grid_open","switched":"x","switch_count":1,"fault":""}',
        b'{"position":"grid_open","switched":["yesterday"],"switch_count":1,"fault":""}',
        b'{"position":"grid_open","switched":[3],"switch_count":1,"fault":""}',
        b'{"position":"grid_open","switched":[],"switch_count":"many","fault":""}',
    ],
)
def test_a_damaged_memory_counts_as_used_up(build, content):
    path = build.folder / "state/grid-relay.json"
    path.parent.mkdir()
    path.write_bytes(content)
    house = build(saved=None)
    assert house.alarms == {"switches_spent"}
    house.turn(301, 1)
    assert "forgotten" in house.open()[0][1]
    assert house.open(override="I looked")[-1][0] == "applied"


def test_a_memory_that_cannot_be_written_is_an_alarm(build, eventually):
    (build.folder / "state").touch()
    house = build(saved=None)
    house.turn()
    eventually(lambda: house.relay._keeper.failures)
    house.turn(6)
    assert house.alarms == {"state_unsaved", "switches_spent"}
    assert house.level == "0"


def test_alarms_of_an_earlier_run_are_cleared(house):
    """It names them as this run would; see sunmesh.voice."""
    topic = TOPICS.alarm("grid-relay", "lease_expired")
    house.open()
    house.turn(181, 1)
    raised = json.dumps(house.bodies(topic)[-1]).encode()
    house.end()
    house.start()
    house.paper.handlers[TOPICS.alarm("grid-relay", "+")](Message(topic, raised, True, False, 1, 1))
    house.turn(6)
    assert house.bodies(topic)[-1]["state"] == "cleared"
    assert house.bodies(topic)[-1]["id"] == json.loads(raised)["id"]


# -- what fails ------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_had_is_said_and_tried_again(build):
    blocked = build.folder / "blocked"
    blocked.touch()
    house = build(output=OutputTable(by="file", path=str(blocked / "output")))
    assert house.alarms == {"output_unavailable"}
    assert house.values["relay_position"] is None
    assert house.values["relay_reason"] == "startup"
    for told in (house.open(), house.connect(), house.send(name="manual", value="auto")):
        assert told[0][0] in ("refused", "applied")
    assert "no output" in house.open()[0][1]
    blocked.unlink()
    house.turn(6)
    assert house.alarms == set()
    assert (blocked / "output").read_text() == "0\n"
    house.turn(300, 1)
    assert house.open()[-1][0] == "applied"


def test_an_output_that_is_lost_while_open(house, monkeypatch):
    house.open()
    house.turn()

    def fails(self, active):
        raise TransportError("line 26: input/output error")

    monkeypatch.setattr(output.FileOutput, "drive", fails)
    (house.folder / "output").write_text("0")
    house.turn()
    assert house.values["relay_position"] is None
    assert house.alarms == {"output_unavailable"}
    monkeypatch.undo()
    (house.folder / "output").write_text("1")
    house.turn(6)
    assert house.level == "0"
    assert house.values["relay_reason"] == "no_output"


def test_an_output_that_somebody_else_changed_is_put_right(house):
    (house.folder / "output").write_text("1\n")
    house.turn()
    assert house.level == "0"


def test_an_output_that_does_not_follow_is_none(house, monkeypatch):
    monkeypatch.setattr(output.FileOutput, "drive", lambda self, active: None)
    told = house.open()
    assert told[0][0] == "accepted"
    assert told[-1][0] == "not_applied"
    house.turn()
    assert house.alarms == {"output_unavailable"}


def test_without_a_broker_the_lease_ends_as_ever(house):
    house.open()
    house.paper.lost()
    house.turn(179)
    assert house.level == "1"
    house.turn(1)
    assert house.level == "0"


def test_a_process_that_stood_still_believes_nothing_that_waited(house):
    house.turn(400, 1)
    house.clock.now += 60
    assert "stood still" in house.open()[0][1]
    house.turn()
    assert "stood still" in house.open()[0][1]
    assert house.level == "0"
    house.turn(2)
    assert house.open()[-1][0] == "applied"


def test_a_process_that_stood_still_ends_its_lease_first(house):
    house.open()
    house.clock.now += 500
    house.open()
    house.turn()
    assert house.level == "0"


def test_a_mistake_of_the_program_connects(house, monkeypatch):
    house.open()
    monkeypatch.setattr(house.relay._relay, "request", lambda *_: 1 / 0)
    assert house.connect()[0][0] == "failed"
    assert house.level == "0"


# -- the contact -----------------------------------------------------------------------------------


def test_a_contact_that_follows_proves_it(wired):
    assert wired.open() == [("accepted", "open for 180 s")]
    wired.turn(0.5)
    assert wired.results[-1][0] == "accepted"
    wired.contact("0")
    wired.turn(0.1)
    assert wired.results[-1] == ("applied", "grid_open", "proved by the contact")
    assert wired.values["relay_feedback"] == "grid_open"


def test_a_contactor_that_sticks_is_connected_again_and_left_alone(wired):
    wired.open()
    wired.turn(3, 0.1)
    stage, value, detail = wired.results[-1]
    assert (stage, value) == ("not_applied", "grid_connected")
    assert "contact says grid_connected" in detail
    assert wired.level == "0"
    assert wired.alarms == {"feedback_mismatch"}
    wired.turn(400, 1)
    assert "manual auto" in wired.open()[0][1]
    wired.send(name="manual", value="auto")
    wired.turn()
    assert wired.alarms == set()
    wired.contact("0")
    wired.open()
    wired.turn()
    assert wired.results[-1][0] == "applied"


def test_a_contact_that_cannot_be_read(wired):
    wired.contact("nonsense")
    wired.turn(3)
    assert wired.alarms == {"feedback_mismatch"}
    assert wired.values["relay_feedback"] is None


def test_a_fault_is_remembered(wired, eventually):
    wired.open()
    wired.turn(3, 0.1)
    eventually(lambda: wired.state.load()["fault"])
    wired.contact("1")
    wired.start()
    wired.turn(400, 1)
    assert "manual auto" in wired.open()[0][1]


# -- who measures the grid -------------------------------------------------------------------------


def test_a_connection_waits_for_the_window(build):
    house = build(window=build.window)
    house.open()
    house.tell("meter", grid_voltage_v=180.0, grid_frequency_hz=50.0)
    assert "in its window" in house.connect()[0][1]
    house.turn(5)
    assert house.level == "1"
    house.tell("meter", grid_voltage_v=230.0, grid_frequency_hz=50.0)
    house.turn(9)
    assert house.level == "1"
    house.turn(1)
    assert house.level == "0"
    assert house.results[-1][0] == "applied"


def test_a_grid_that_does_not_come_is_critical(build):
    house = build(supply=build.supply)
    for _ in range(40):
        house.tell("inverter", grid_voltage_v=0.0)
        house.turn(5, 1)
    assert house.alarms == {"grid_absent"}
    house.tell("inverter", grid_voltage_v=230.0)
    house.turn(1)
    assert house.alarms == set()


def test_old_doubtful_and_broken_samples_prove_nothing(build):
    house = build(supply=build.supply)
    old = clock.iso(clock.now() - timedelta(minutes=5))
    now = clock.iso(clock.now())
    samples = [
        encode(Sample(ts=old, values={"grid_voltage_v": 230.0})),
        encode(Sample(ts=now, values={"grid_voltage_v": 230.0}, quality={"grid_voltage_v": "x"})),
        encode(Sample(ts=now, values={"grid_voltage_v": None})),
        encode(Sample(ts=now, values={"grid_voltage_v": True})),
        encode(Sample(ts=now, values={"grid_voltage_v": "230"})),
        b"{",
    ]
    for _ in range(40):
        for payload in samples:
            topic = TOPICS.telemetry("inverter")
            house.relay._hear(Message(topic, payload, False, False, 1, 1))
        house.turn(5, 1)
    assert house.alarms == {"grid_unknown"}
    assert house.relay.counters()["bad_payloads"] == 40


# -- what the owner should change ------------------------------------------------------------------


def test_a_system_that_keeps_its_lines_is_told_of(build, monkeypatch):
    monkeypatch.setattr(service, "outlives_process", lambda: True)
    monkeypatch.setattr(
        output, "find_chip", lambda name: (_ for _ in ()).throw(TransportError("x"))
    )
    house = build(output=OutputTable())
    assert house.alarms == {"gpio_persists", "output_unavailable"}


def test_a_normally_open_contactor_is_told_of(build):
    path = str(build.folder / "output")
    house = build(output=OutputTable(by="file", path=path, contact="normally_open"))
    assert house.alarms == {"wiring"}
    assert house.level == "1"
    house.open()
    assert house.level == "0"


# -- two contactors --------------------------------------------------------------------------------


def test_two_contactors_break_before_they_make(build):
    folder = build.folder
    table = OutputTable(by="file", path=str(folder / "output"), second_path=str(folder / "other"))
    house = build(output=table)
    levels = lambda: (house.level, (folder / "other").read_text().strip())  # noqa: E731
    assert levels() == ("0", "0")
    house.open()
    assert levels() == ("1", "0")
    assert house.results[-1][0] == "accepted"
    house.turn(0.9, 0.1)
    assert levels() == ("1", "0")
    house.turn(0.1)
    assert levels() == ("1", "1")
    assert house.results[-1][0] == "applied"
    house.connect()
    assert levels() == ("1", "0")
    house.turn(1, 0.1)
    assert levels() == ("0", "0")


# -- on a real broker ------------------------------------------------------------------------------


def test_through_a_real_broker(mesh, topics, tmp_path, eventually):
    output_file = tmp_path / "output"
    device = RelayDevice(
        output=OutputTable(by="file", path=str(output_file)),
        min_connected_s=0.0,
        poll_interval_s=1.0,
    )
    owner = mesh("owner")
    heard, results = {}, []
    owner.subscribe(
        f"{topics.root}/+/telemetry", lambda m: heard.update(json.loads(m.payload)["values"])
    )
    owner.subscribe(
        topics.result("grid-relay"), lambda m: results.append(decode(Result, m.payload))
    )
    client = mesh("grid-relay")
    relay = GridRelay(
        "grid-relay", device, client, StateFile(tmp_path / "s.json"), Watchdog("", {})
    )
    relay.begin()
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: heard.get("relay_position") == "grid_connected")
        command = Command("relay_position", "grid_open", lease_s=600)
        owner.publish(topics.command("grid-relay"), encode(command))
        eventually(lambda: heard.get("relay_position") == "grid_open")
        assert output_file.read_text() == "1\n"
        assert [result.stage for result in results] == ["accepted", "applied"]
        assert len({result.id for result in results}) == 1
        owner.publish(topics.command("grid-relay"), encode(command), retain=True)
        eventually(lambda: results[-1].stage == "refused")
        owner.publish(topics.command("grid-relay"), b"", retain=True)
    finally:
        stop.set()
        thread.join(30)
    assert output_file.read_text() == "0\n"
    eventually(lambda: heard["relay_reason"] == "stopping")
