"""Commands to an emulated inverter: through a real broker, and on a wire without waiting."""

import json
import subprocess
import threading
from datetime import timedelta

import pytest
from collector_axpert import codec, transport
from collector_axpert.__main__ import pollers
from collector_axpert.commands import RISKY
from collector_axpert.config import AxpertDevice
from collector_axpert.emulator import Inverter
from collector_axpert.service import Axpert
from collector_axpert.transport import Link
from sunmesh import clock, config
from sunmesh.commands import control as life
from sunmesh.commands.control import Control
from sunmesh.commands.ledger import Ledger
from sunmesh.messages import Command, Info, Result, Settings, Status, decode, encode
from sunmesh.statefile import StateFile
from sunmesh.testing import find_program

LIFE = ["accepted", "sent", "acknowledged", "applied"]


class Recorded:
    """An inverter that keeps every byte it was sent."""

    def __init__(self, inverter):
        self.inverter = inverter
        self.heard = b""

    def receive(self, data):
        self.heard += data
        return self.inverter.receive(data)

    def nak(self):
        return self.inverter.nak()


class Mesh:
    """A collector that runs as its configuration says, and all that it publishes."""

    def __init__(self, site, mesh, topics):
        self.results, self.settings, self.infos, self.states = [], [], [], []
        self.topics, self.sender = topics, mesh("web")
        for topic, kind, kept in (
            (topics.result("inverter"), Result, self.results),
            (topics.settings("inverter"), Settings, self.settings),
            (topics.info("inverter"), Info, self.infos),
            (topics.status("inverter"), Status, self.states),
        ):
            self.sender.subscribe(
                topic, lambda m, kind=kind, kept=kept: kept.append(decode(kind, m.payload))
            )
        (self.poller,) = pollers(site, mesh("collector-axpert"))
        self.poller.listen()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.poller.run, args=(self._stop,))
        self._thread.start()

    def send(self, name, value=None, **more):
        command = Command(name, value, **more)
        self.sender.publish(self.topics.command("inverter"), encode(command))

    def of(self, identity):
        return [result for result in self.results if result.id == identity]

    def stages(self, identity):
        return [result.stage for result in self.of(identity)]

    def stop(self):
        self._stop.set()
        self.poller.nudge()
        self._thread.join(30)


@pytest.fixture
def run(mesh, topics, site_file, eventually, monkeypatch):
    """Starts a collector for the inverter at a path, and waits until it can be set."""
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    monkeypatch.setattr(transport, "SET_DEADLINE_S", 0.3)
    monkeypatch.setattr(transport, "QUIET_S", 0.02)
    monkeypatch.setattr(life, "SETTLE_S", (0.0, 0.05))
    made = []

    def start(port, more="control = true", interval=2):
        path = site_file(
            f'[devices.inverter]\nfamily = "axpert"\nport = "{port}"\n'
            f"poll_interval_s = {interval}\nsettings_interval_s = {interval}\n{more}\n"
        )
        running = Mesh(config.load(path, "collector-axpert"), mesh, topics)
        made.append(running)
        eventually(lambda: running.settings and running.states)
        return running

    yield start
    for running in made:
        running.stop()


def test_mosquitto_pub_sets_the_output_priority(inverter, run, broker, topics, eventually):
    device = Recorded(Inverter())
    device.inverter.receive(codec.request("POP00"))
    running = run(inverter(device=device))
    assert running.infos[-1].ranges["output_source_priority"].choices == ["USB", "SUB", "SBU"]
    assert "bulk_voltage_v" not in running.infos[-1].settable
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-u", "web", "-q", "1"]
    wish = '{"name":"output_source_priority","value":"SBU"}'
    subprocess.run(
        [find_program("mosquitto_pub"), *where, "-t", topics.command("inverter"), "-m", wish],
        check=True,
    )
    eventually(lambda: len(running.results) == 4)
    assert [result.stage for result in running.results] == LIFE
    last = running.results[-1]
    assert (last.name, last.value, last.detail) == (
        "output_source_priority",
        "SBU",
        "read back; it was USB",
    )
    assert device.inverter.settings["output_source_priority"] == "SBU"
    assert bytes.fromhex("50 4F 50 30 32 E2 0B 0D") in device.heard
    eventually(lambda: running.settings[-1].writes)
    assert running.settings[-1].values["output_source_priority"] == "SBU"
    assert running.settings[-1].values["buzzer_enabled"] is False
    assert running.poller.health()["writes_lifetime_output_source_priority"] == 1


def test_each_refusal_has_its_reason(inverter, run, topics, eventually):
    device = Recorded(Inverter())
    running = run(inverter(device=device))
    running.send("max_charge_current_a", 125, id="range")
    running.send("output_voltage_v", 240, id="unknown")
    running.send("bulk_voltage_v", 56.0, id="risky")
    past = clock.iso(clock.now() - timedelta(seconds=1))
    running.send("buzzer_enabled", True, id="late", expires=past)
    running.send("buzzer_enabled", True, id="twice")
    running.send("buzzer_enabled", True, id="twice")
    body = encode(Command("buzzer_enabled", False, id="kept"))
    running.sender.publish(topics.command("inverter"), body, retain=True)
    running.sender.publish(topics.command("inverter"), b"POP02")
    names = ("range", "unknown", "risky", "late", "kept")
    eventually(lambda: all(running.of(name) for name in names) and len(running.results) >= 11)
    running.sender.publish(topics.command("inverter"), b"", retain=True)
    told = {name: (running.of(name)[0].stage, running.of(name)[0].detail) for name in names}
    assert told["range"][0] == "refused"
    assert "not among: 10, 20" in told["range"][1]
    assert told["unknown"] == ("refused", "output_voltage_v cannot be set")
    assert "must stand in allow" in told["risky"][1]
    assert told["late"] == ("expired", f"it was to be done by {past}")
    assert "retained" in told["kept"][1]
    assert sorted(running.stages("twice")) == sorted([*LIFE, "refused"])
    assert "taken before" in next(r for r in running.of("twice") if r.stage == "refused").detail
    assert any("not a command" in result.detail for result in running.results)
    assert device.heard.count(codec.request("PEa")) == 1
    assert codec.request("PDa") not in device.heard


def test_control_that_is_switched_off_says_so(inverter, run, eventually):
    device = Recorded(Inverter())
    running = run(inverter(device=device), more="")
    assert running.infos[-1].settable == []
    running.send("buzzer_enabled", True)
    eventually(lambda: running.results)
    assert running.results[0].stage == "refused"
    assert "control = false" in running.results[0].detail
    assert codec.request("PEa") not in device.heard


def test_an_inverter_that_is_away_refuses(inverter, run, eventually):
    path = inverter()
    running = run(path)
    inverter.stop(path)
    eventually(lambda: running.states[-1].state == "offline")
    running.send("buzzer_enabled", True)
    eventually(lambda: running.results)
    assert running.results[0].stage == "refused"
    assert "offline" in running.results[0].detail


@pytest.mark.parametrize(
    ("mode", "stages", "detail"),
    [
        ("ack-ignore", [*LIFE[:3], "not_applied"], "said ACK to USB, but it has SBU"),
        ("nak", ["accepted", "sent", "failed"], "the device said NAK; it has SBU"),
        ("nak-apply", ["accepted", "sent", "failed"], "the device said NAK but now has USB"),
        ("mute", ["accepted", "sent", "sent", "sent", "failed"], "3 times; it has SBU"),
        ("mute-apply", ["accepted", "sent", "applied"], "it is so when read back"),
    ],
)
def test_inverters_that_lie_are_told_rightly(inverter, run, eventually, mode, stages, detail):
    device = Inverter(mode=mode)
    running = run(inverter(device=device))
    running.send("output_source_priority", "USB", id="c1")
    eventually(lambda: running.stages("c1")[-1:] == stages[-1:])
    assert running.stages("c1") == stages
    assert detail in running.of("c1")[-1].detail
    has = device.settings["output_source_priority"]
    assert running.settings[-1].values["output_source_priority"] == has


def test_an_inverter_that_goes_back_by_itself_is_told(inverter, run, eventually):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    ticks = Clock()
    running = run(inverter(device=Inverter(mode="revert", clock=ticks)))
    running.send("output_source_priority", "USB", id="c1", by="web:anna")
    eventually(lambda: running.stages("c1") == LIFE)
    ticks.now += 61
    eventually(lambda: running.stages("c1")[-1] == "reverted")
    last = running.of("c1")[-1]
    assert (last.value, last.by) == ("SBU", "web:anna")
    assert "it was USB when read back" in last.detail


def test_a_command_waits_for_one_request_at_most_not_for_the_round(inverter, run, eventually):
    """While the status is asked for, a command comes between two requests."""
    device = Recorded(Inverter())
    running = run(inverter(device=device), interval=2)
    real, sent = device.inverter.receive, threading.Event()

    def receive(data):
        if data.startswith(b"QPIGS") and not data.startswith(b"QPIGS2") and not sent.is_set():
            sent.set()
            running.send("buzzer_enabled", True, id="c1")
            eventually(lambda: running.stages("c1") == ["accepted"])
        return real(data)

    device.inverter.receive = receive
    eventually(lambda: running.stages("c1") == LIFE)
    after = device.heard[device.heard.rindex(codec.request("PEa")) :]
    before = device.heard[: -len(after)]
    assert before.endswith(codec.request("QPIGS"))
    assert after.startswith(codec.request("PEa") + codec.request("QFLAG"))


# -- on a wire without waiting ---------------------------------------------------------------------


class Paper:
    """A broker client that only keeps what was published."""

    def __init__(self, topics):
        self.topics = topics
        self.said = []

    def publish(self, topic, payload, **_):
        if topic.endswith("result"):
            self.said.append(decode(Result, payload))

    def subscribe(self, *_, **__):
        pass


@pytest.fixture
def desk(topics, tmp_path):
    """A wire, the control of the device on it, and a way to ask."""

    def make(profile="PI30MAX", **settings):
        from sunmesh.mqtt import Message

        device = Inverter(profile)
        wire = Wire(device)
        source = Axpert(
            AxpertDevice(port="/nowhere", control=True, allow=list(RISKY), **settings), Link(wire)
        )
        source.open()
        paper = Paper(topics)
        ledger = Ledger(StateFile(tmp_path / "x.json"))
        control = Control("inverter", source, paper, ledger, pause=lambda _: None)
        control.back()
        control.settings(source.settings())
        wire.requests.clear()

        def ask(name, value=None, **more):
            wish = {"name": name, "value": value} | more
            payload = json.dumps({k: v for k, v in wish.items() if v is not None}).encode()
            before = len(paper.said)
            control._desk.hear(Message("", payload, False, False, 1, 1))
            control.work()
            return paper.said[before:]

        return device, wire, ask

    return make


class Wire:
    """A port whose device answers at once."""

    def __init__(self, device):
        self.device = device
        self.requests = []
        self.waiting = b""

    def open(self):
        pass

    def close(self):
        pass

    def write(self, data):
        self.requests.append(data[:-3].decode())
        self.waiting += b"".join(self.device.receive(data))

    def read_some(self, deadline, limit=512):
        data, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return data

    def flush_input(self):
        self.waiting = b""


def test_only_what_is_needed_is_read_back(desk):
    _, wire, ask = desk()
    assert ask("output_source_priority", "USB")[-1].stage == "applied"
    assert wire.requests == ["POP00", "QPIRI"]
    wire.requests.clear()
    assert ask("buzzer_enabled", True)[-1].stage == "applied"
    assert wire.requests[-2:] == ["PEa", "QFLAG"]


@pytest.mark.parametrize("profile", ["PI30MAX", "PI18"])
def test_charging_voltages_go_down_and_up_in_order(desk, profile):
    device, wire, ask = desk(profile)
    told = ask("settings", values={"bulk_voltage_v": 53.8, "float_voltage_v": 53.7}, id="b1")
    assert (told[-1].id, told[-1].stage) == ("b1", "applied")
    down = [command for command in wire.requests if codec.is_set_command(command)]
    wire.requests.clear()
    told = ask("settings", values={"float_voltage_v": 55.1, "bulk_voltage_v": 55.2})
    assert told[-1].stage == "applied"
    up = [command for command in wire.requests if codec.is_set_command(command)]
    assert (
        down + up
        == {
            "PI30MAX": ["PBFT53.7", "PCVV53.8", "PCVV55.2", "PBFT55.1"],
            "PI18": [
                "^S015MCHGV564,537",
                "^S015MCHGV538,537",
                "^S015MCHGV552,537",
                "^S015MCHGV552,551",
            ],
        }[profile]
    )
    assert (device.settings["float_voltage_v"], device.settings["bulk_voltage_v"]) == (55.1, 55.2)
    refused = ask("float_voltage_v", 55.3)
    assert "would be above bulk_voltage_v 55.2" in refused[-1].detail


@pytest.mark.parametrize("profile", ["PI30MAX", "PI18"])
def test_great_harm_needs_its_confirmation(desk, profile):
    device, wire, ask = desk(profile)
    assert "confirm" in ask("battery_type", "agm")[-1].detail
    assert not wire.requests
    assert ask("battery_type", "agm", confirm="agm")[-1].stage == "applied"
    assert device.settings["battery_type"] == "agm"
    assert "battery_type is agm" in ask("bulk_voltage_v", 55.0)[-1].detail


def test_a_factory_reset_is_proved_by_what_the_device_calls_defaults(desk):
    device, wire, ask = desk()
    assert ask("output_source_priority", "USB")[-1].stage == "applied"
    assert "confirm" in ask("factory_reset", "defaults")[-1].detail
    told = ask("factory_reset", "defaults", confirm="defaults")
    assert told[-1].stage == "applied", told[-1]
    assert told[-1].detail == "read back; it was USB"
    assert device.settings["output_source_priority"] == "SBU"
    assert "nothing was written" in ask("factory_reset", "defaults", confirm="defaults")[-1].detail
    assert wire.requests.count("PF") == 1


def test_a_reset_that_cannot_be_proved_is_not_begun(desk):
    _, wire, ask = desk("PI18")  # whose defaults this emulator does not tell
    told = ask("factory_reset", "defaults", confirm="defaults")
    assert told[-1].stage == "failed"
    assert "nothing was written" in told[-1].detail
    assert "^S005PF" not in wire.requests


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("equalisation_enabled", True, "PBEQE1"),
        ("equalisation_voltage_v", 58.0, "PBEQV58.00"),
        ("equalisation_time_min", 90, "PBEQT090"),
        ("equalisation_active", True, "PBEQA1"),
    ],
)
def test_equalisation_is_read_back_by_its_own_query(desk, name, value, command):
    _, wire, ask = desk()
    assert "confirm" in ask(name, value)[-1].detail
    assert ask(name, value, confirm=value)[-1].stage == "applied"
    assert wire.requests[-2:] == [command, "QBEQI"]


def test_pi18_speaks_the_same_verbs(desk):
    device, wire, ask = desk("PI18")
    assert ask("output_source_priority", "SUB")[-1].stage == "applied"
    assert wire.requests == ["^S007POP0", "^P007PIRI"]
    assert ask("max_charge_current_a", 80)[-1].stage == "applied"
    assert ask("recharge_voltage_v", 47)[-1].stage == "applied"
    assert ask("buzzer_enabled", False)[-1].stage == "applied"
    assert wire.requests[-2:] == ["^S006PDA", "^P007FLAG"]
    assert device.settings["max_charge_current_a"] == 80
    assert (device.settings["recharge_voltage_v"], device.settings["redischarge_voltage_v"]) == (
        47.0,
        53.0,
    )
