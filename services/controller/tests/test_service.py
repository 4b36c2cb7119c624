"""The service on a real broker: devices are played, minutes are short."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from controller.book import Book
from controller.loading import preset
from controller.service import Controller
from sunmesh import clock, config
from sunmesh.messages import (
    Alarm,
    Command,
    Health,
    Info,
    Result,
    Sample,
    ServiceStatus,
    Settings,
    decode,
    encode,
)
from sunmesh.statefile import StateFile

from .conftest import DEVICES, QUIET, SETTINGS

SCRIPT = Path(sys.executable).parent / "controller"
QUICK = """
[controller]
interval_s = 0.4
minute_s = 0.4
lease_s = 30
recover_min = 1
dwell_min = 0
poll_interval_s = 2
answer_s = 20
"""


ZONE = re.compile('time_zone = "[^"]*"')


def _where_it_is_afternoon():
    """A zone in which it is past two now: rules that have hours, of the night, say, rest there."""
    return f"Etc/GMT{datetime.now(UTC).hour - 14:+d}"


class Devices:
    """An inverter, a battery and a relay that say what they are told and do what they are asked."""

    def __init__(self, client):
        self.client, self.topics = client, client.topics
        self.inverter = {**QUIET["inverter"], "grid_voltage_v": 231.0}
        self.battery = dict(QUIET["battery"])
        self.settings = dict(SETTINGS)
        self.position = "grid_connected"
        self.commands, self.results, self.decisions = [], [], {}
        self.alarms, self.modes, self.book, self.replays = {}, {}, {}, []
        self.is_silent = False
        self.refuses = ""
        self._stop = threading.Event()
        for device in ("inverter", "grid-relay"):
            client.subscribe(self.topics.command(device), self.obey)
        client.subscribe(self.topics.result("controller"), self.heard_result)
        client.subscribe(self.topics.decision("+"), self.heard_decision)
        client.subscribe(self.topics.alarm("controller", "+"), self.heard_alarm)
        client.subscribe(self.topics.settings("controller"), self.heard_modes)
        client.subscribe(self.topics.rules("+"), self.heard_rules)
        info = Info(clock.iso(clock.now()), "axpert", poll_interval_s=2.0)
        client.publish(self.topics.info("inverter"), encode(info), retain=True)
        self._thread = threading.Thread(target=self.speak, daemon=True)
        self._thread.start()

    def speak(self):
        while not self._stop.wait(0.1):
            if not self.is_silent:
                self.say()

    def say(self):
        ts = clock.iso(clock.now())
        rows = {
            "inverter": self.inverter,
            "battery": self.battery,
            "grid-relay": {"relay_position": self.position},
        }
        for device, values in rows.items():
            sample = encode(Sample(ts=ts, values=dict(values)))
            self.client.publish(self.topics.telemetry(device), sample, retain=True)
        read = encode(Settings(ts, dict(self.settings)))
        self.client.publish(self.topics.settings("inverter"), read, retain=True)

    def obey(self, message):
        device = message.topic.split("/")[2]
        command = decode(Command, message.payload)
        self.commands.append((device, command))
        if device == "grid-relay":
            self.position = command.value
            self.inverter["grid_voltage_v"] = 0.0 if command.value == "grid_open" else 231.0
            self.answer(device, command, command.id, command.name, command.value, "applied")
            return
        for name, value in command.values.items():
            part = f"{command.id}/{name}"
            if self.refuses:
                self.answer(device, command, part, name, value, "failed", self.refuses)
                self.answer(device, command, command.id, "settings", None, "failed", self.refuses)
                return
            self.settings[name] = value
            for stage in ("sent", "acknowledged", "applied"):
                self.answer(device, command, part, name, value, stage)
        self.answer(device, command, command.id, "settings", None, "applied")

    def answer(self, device, command, identity, name, value, stage, detail=""):
        ts = clock.iso(clock.now())
        result = Result(identity, name, value, stage, ts, command.by, detail)
        self.client.publish(self.topics.result(device), encode(result))

    def heard_result(self, message):
        self.results.append(decode(Result, message.payload))

    def heard_decision(self, message):
        decision = json.loads(message.payload)
        self.decisions[decision["rule"]] = decision

    def heard_alarm(self, message):
        alarm = decode(Alarm, message.payload)
        self.alarms[message.topic.rpartition("/")[2]] = alarm

    def heard_modes(self, message):
        self.modes = decode(Settings, message.payload).values

    def heard_rules(self, message):
        document = json.loads(message.payload)
        if message.topic.endswith("/book"):
            self.book = document
        else:
            self.replays.append(document)

    def end_of(self, identity):
        """The last word of a command."""
        ends = [r for r in self.results if r.id == identity and r.stage != "accepted"]
        return (ends[0].stage, ends[0].detail) if ends else None

    def ask(self, name, value, **more):
        command = Command(name, value, **more)
        self.client.publish(self.topics.command("controller"), encode(command))

    def of(self, device):
        return [command for to, command in self.commands if to == device]

    def end(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def devices(mesh):
    made = Devices(mesh("devices"))
    yield made
    made.end()


@pytest.fixture
def quick_site(site_file):
    """A site whose minutes are 0.4 s."""

    def quick_site(rest=""):
        path = site_file(DEVICES + QUICK + rest)
        text, count = ZONE.subn(f'time_zone = "{_where_it_is_afternoon()}"', path.read_text())
        assert count == 1
        path.write_text(text)
        return config.load(path, "controller", environ={})

    return quick_site


@pytest.fixture
def serve(mesh, quick_site, tmp_path, monkeypatch):
    """Runs a controller in a thread; ``serve.stop()`` ends the last one."""
    monkeypatch.setattr("controller.service.BLIND_S", 0.0)
    running = []

    def serve(rest="", past=None):
        site = quick_site(rest)
        client = mesh("controller", instance=str(len(running)))
        file = StateFile(tmp_path / "state" / "controller.json")
        book = Book(site)
        service = Controller(book.plan, client, site.devices, file, past, book=book)
        service.listen()
        service._introduce()
        stop = threading.Event()
        thread = threading.Thread(target=service.work, args=(stop,), daemon=True)
        thread.start()
        running.append((stop, thread))
        return service

    def stop():
        halt, thread = running[-1]
        halt.set()
        thread.join(30)

    serve.stop = stop
    yield serve
    for halt, thread in running:
        halt.set()
        thread.join(30)


def test_it_is_off_and_says_so(serve, devices, eventually):
    devices.inverter["battery_voltage_v"] = 55.0
    service = serve()
    eventually(lambda: devices.decisions.get("c9", {}).get("mode") == "off")
    assert devices.modes["mode"] == "off"
    assert devices.modes["rule.c9"] == "on"
    assert devices.commands == []
    assert service.counters()["mode"] == "off"


def test_a_full_battery_opens_the_grid_and_lowers_the_charge(serve, devices, eventually):
    serve()
    devices.ask("mode", "on", id="1", by="test")
    eventually(lambda: [r.stage for r in devices.results] == ["accepted", "applied"])
    devices.inverter["battery_voltage_v"] = 54.8
    eventually(lambda: devices.settings["max_charge_current_a"] == 10.0, why="c9 acts")
    eventually(lambda: len(devices.of("grid-relay")) >= 3, why="the lease is renewed")
    command = devices.of("inverter")[0]
    assert (command.name, command.value, command.by) == ("settings", None, "controller:c9")
    assert command.reason.startswith("A full battery")
    assert command.expires
    lease = devices.of("grid-relay")[-1]
    assert (lease.value, lease.lease_s) == ("grid_open", 30.0)
    assert len({each.id for each in devices.of("grid-relay")}) == len(devices.of("grid-relay"))
    assert len(devices.of("inverter")) <= 2
    told = devices.decisions["c9"]
    assert set(told) == {"ts", "rule", "says", "mode", "saw", "wants", "did", "why", "changed"}
    serve.stop()
    eventually(lambda: devices.position == "grid_connected", why="it gives the grid back")


def test_silence_connects_the_grid_and_is_an_alarm(serve, devices, eventually):
    serve()
    devices.ask("mode", "on")
    devices.inverter["battery_voltage_v"] = 54.8
    eventually(lambda: devices.position == "grid_open")
    devices.is_silent = True
    eventually(lambda: devices.position == "grid_connected")
    eventually(lambda: devices.alarms["blind-inverter"].state == "raised")
    raised = devices.alarms["blind-inverter"]
    assert (raised.title, raised.severity) == ("The rules cannot see inverter", "warning")
    assert "c9" in raised.text
    devices.is_silent = False
    eventually(lambda: devices.alarms["blind-inverter"].state == "cleared")
    assert devices.alarms["blind-inverter"].id == raised.id
    assert "c9" not in devices.alarms, "one alarm for all rules"


def test_what_the_broker_had_kept_is_not_acted_upon(serve, devices, eventually):
    """A retained sample may be of any age; who publishes it is asked for a new one."""
    devices.inverter["battery_voltage_v"] = 55.0
    devices.say()
    devices.is_silent = True
    service = serve()
    devices.ask("mode", "on")
    eventually(lambda: "blind-inverter" in devices.alarms)
    assert "is not known" in devices.alarms["blind-inverter"].text
    assert devices.commands == []
    assert service.counters()["grid_open_for"] is None


def test_a_failure_is_an_alarm_and_is_not_repeated_each_minute(serve, devices, eventually):
    serve("retry_min = 100\n")
    devices.ask("mode", "on")
    devices.refuses = "no answer after 3 tries"
    devices.inverter["battery_voltage_v"] = 54.8
    eventually(lambda: "c9" in devices.alarms)
    assert "no answer after 3 tries" in devices.alarms["c9"].text
    count = len(devices.of("inverter"))
    renewed = len(devices.of("grid-relay"))
    eventually(lambda: len(devices.of("grid-relay")) > renewed + 3)
    assert len(devices.of("inverter")) == count == 1


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("mode", "maybe"), "mode is off, shadow, on"),
        (("rule.c99", "on"), "is not known"),
        (("colour", "on"), "is not known"),
    ],
)
def test_what_is_no_mode_is_refused(serve, devices, eventually, command, says):
    serve()
    devices.ask(*command)
    eventually(lambda: devices.results)
    assert devices.results[-1].stage == "refused"
    assert says in devices.results[-1].detail


def test_modes_outlive_the_process(serve, devices, eventually):
    serve()
    devices.ask("mode", "shadow")
    devices.ask("rule.c6", "off")
    eventually(lambda: devices.modes.get("rule.c6") == "off")
    serve.stop()
    devices.modes = {}
    serve()
    eventually(lambda: devices.modes)
    assert (devices.modes["mode"], devices.modes["rule.c6"]) == ("shadow", "off")


def test_what_was_forced_is_found_by_the_next_one(serve, devices, eventually, tmp_path):
    service = serve()
    devices.ask("mode", "on")
    devices.inverter["battery_voltage_v"] = 54.8
    eventually(lambda: devices.settings["max_charge_current_a"] == 10.0)
    eventually(lambda: not service.state.pending)
    serve.stop()
    kept = json.loads((tmp_path / "state/controller.json").read_text())
    assert kept["forced"]["inverter.max_charge_current_a"]["restore"] == 40.0
    content = kept | {"mode": "off"}
    (tmp_path / "state/controller.json").write_text(json.dumps(content))
    serve()
    eventually(lambda: devices.settings["max_charge_current_a"] == 40.0)
    eventually(lambda: "off" in devices.decisions["c9"]["why"])


def test_a_state_that_cannot_be_read_is_mode_off(serve, devices, eventually, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/controller.json").write_text("{")
    service = serve()
    eventually(lambda: devices.modes.get("mode") == "off")
    assert service.state.spent_until_ms > 0


def test_nothing_is_set_that_cannot_be_written_down(serve, devices, eventually, monkeypatch):
    service = serve()
    devices.ask("mode", "on")
    eventually(lambda: devices.modes.get("mode") == "on")

    def full(_content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(service._file, "save", full)
        devices.inverter["battery_voltage_v"] = 54.8
        eventually(lambda: "state-unwritable" in devices.alarms)
        eventually(lambda: devices.position == "grid_open", why="the lease needs no disk")
        assert devices.of("inverter") == []
    eventually(lambda: devices.settings["max_charge_current_a"] == 10.0)
    eventually(lambda: devices.alarms["state-unwritable"].state == "cleared")


def test_the_past_of_the_database_is_known_at_the_start(serve, devices, eventually):
    service = serve(past=lambda: [("inverter", "battery_voltage_v", 12, 53.0)])
    eventually(lambda: service.counters()["evaluations"] >= 1)

    def broken():
        raise OSError("no database")

    serve.stop()
    service = serve(past=broken)
    eventually(lambda: service.counters()["evaluations"] >= 1)


# --- As a process ---------------------------------------------------------------------------------


@pytest.fixture
def process(quick_site, tmp_path):
    running = []

    def process(rest=""):
        site = quick_site(rest)
        with (tmp_path / "log").open("ab") as log:
            made = subprocess.Popen([SCRIPT, "run", "--config", site.path], stdout=log, stderr=log)
        running.append(made)
        return made, site.path

    yield process
    for made in running:
        if made.poll() is None:
            made.kill()
        made.wait(30)


def run(path, *words):
    return subprocess.run(
        [SCRIPT, *words, "--config", path], capture_output=True, text=True, timeout=120
    )


def test_the_program_runs_is_asked_and_stops(process, devices, mesh, eventually, tmp_path):
    listener = mesh("listener")
    states, healths = [], []
    topics = listener.topics
    listener.subscribe(
        topics.service_status("controller"),
        lambda m: states.append(decode(ServiceStatus, m.payload).state),
    )
    listener.subscribe(
        topics.service_health("controller"),
        lambda m: healths.append(decode(Health, m.payload).counters),
    )
    running, path = process()
    eventually(lambda: states and states[-1] == "online", 60)
    eventually(lambda: healths, 60)
    done = run(path, "mode", "on", "--by", "anna")
    assert (done.returncode, done.stdout) == (0, "mode on: applied\n"), done.stderr
    devices.inverter["battery_voltage_v"] = 54.8
    eventually(lambda: devices.position == "grid_open", 60)
    shown = run(path, "status")
    assert shown.returncode == 0, shown.stderr
    assert "mode       on" in shown.stdout
    assert "c9         on" in shown.stdout
    resident = psutil.Process(running.pid).memory_info().rss
    print(f"resident {resident / 2**20:.1f} MiB")  # noqa: T201
    modules = Path(f"/proc/{running.pid}/maps").read_text()
    assert "sqlalchemy" not in modules
    began = time.monotonic()
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0
    assert time.monotonic() - began < 20
    eventually(lambda: devices.position == "grid_connected", why="it gives the grid back")
    eventually(lambda: states[-1] == "offline")
    stopped = run(path, "status", "--json")
    assert stopped.returncode == 1
    assert json.loads(stopped.stdout)["running"] is False


def test_one_that_is_killed_leaves_what_it_forced_to_the_next(process, devices, eventually):
    running, path = process()
    eventually(lambda: run(path, "mode", "on").returncode == 0, 60, "it hears")
    devices.inverter["battery_voltage_v"] = 54.8
    eventually(lambda: devices.settings["max_charge_current_a"] == 10.0, 60)
    running.kill()
    running.wait(30)
    devices.inverter["battery_voltage_v"] = 50.0
    devices.commands.clear()
    process()
    eventually(lambda: devices.settings["max_charge_current_a"] == 40.0, 60)
    reasons = [command.reason for command in devices.of("inverter")]
    assert any("found after a restart" in reason for reason in reasons)


def test_a_mode_without_a_controller_is_said(quick_site):
    done = run(quick_site().path, "mode", "on")
    assert done.returncode == 2
    assert "no controller answers" in done.stderr


def draft(rules=None, **more):
    return json.dumps({"rules": rules or {}, **more})


def test_a_changed_rule_goes_on_as_after_a_restart(serve, devices, eventually):
    """The grid is given back; what was forced stays known; the new threshold counts."""
    service = serve()
    devices.ask("mode", "on")
    devices.inverter["battery_voltage_v"] = 54.8
    eventually(lambda: devices.settings["max_charge_current_a"] == 10.0, why="c9 acts")
    eventually(lambda: devices.position == "grid_open")
    c9 = preset("lifepo4-16s-axpert").rules["c9"]
    changed = {**c9, "says": "Another reason", "mode": "on"}
    mark = next(r["mark"] for r in devices.book["rules"] if r["name"] == "c9")
    devices.ask("draft.save", draft({"c9": changed}, was={"c9": mark}), id="s1", by="web:anna")
    eventually(lambda: devices.end_of("s1") == ("applied", ""))
    given = [c for c in devices.of("grid-relay") if c.value == "grid_connected"]
    assert given[-1].reason == "the rules were changed"
    eventually(
        lambda: next(r for r in devices.book["rules"] if r["name"] == "c9")["from"] == "saved"
    )
    eventually(lambda: devices.decisions["c9"]["says"] == "Another reason")
    assert service.state.forced["inverter.max_charge_current_a"].restore == 40.0


def test_a_rule_that_is_taken_away_leaves_nothing_behind(serve, devices, eventually):
    own = {
        "says": "A low battery charges slowly",
        "priority": 20,
        "hours": "always",
        "when": [
            {"samples": "1 of 2", "all": [{"quantity": "battery.battery_soc_percent", "below": 50}]}
        ],
        "until": [
            {"samples": "1 of 2", "all": [{"quantity": "battery.battery_soc_percent", "above": 90}]}
        ],
        "do": [{"set": "inverter.max_charge_current_a", "to": 20.0}],
        "safe": {"settings": "leave"},
        "temporary": True,
        "min_on_min": 1,
        "min_off_min": 1,
        "most_switches_day": 6,
    }
    serve()
    devices.ask("mode", "on")
    devices.ask("draft.save", draft({"slow": own}, modes={"slow": "shadow"}), id="s1")
    eventually(lambda: devices.modes.get("rule.slow") == "shadow")
    devices.battery["battery_soc_percent"] = 40.0
    eventually(lambda: "slow" in devices.decisions and devices.decisions["slow"]["wants"])
    assert devices.settings["max_charge_current_a"] == 40.0
    devices.ask("rule.slow", "on")
    eventually(lambda: devices.settings["max_charge_current_a"] == 20.0)
    devices.ask("draft.save", draft({"slow": None}), id="s2")
    eventually(lambda: devices.settings["max_charge_current_a"] == 40.0, why="it is put back")
    assert "rule.slow" not in devices.modes
    assert [c["rule"] for c in devices.book["changes"]] == ["slow", "slow"]


def test_what_is_not_sound_is_refused_with_its_key(serve, devices, eventually):
    serve()
    eventually(lambda: devices.book)
    c6 = {**preset("lifepo4-16s-axpert").rules["c6"]}
    devices.ask("draft.check", draft({"c6": c6}), id="k1")
    eventually(lambda: devices.end_of("k1") == ("applied", ""))
    del c6["until"]
    devices.ask("draft.check", draft({"c6": c6}), id="k2")
    eventually(lambda: devices.end_of("k2"))
    stage, detail = devices.end_of("k2")
    assert (stage, "until" in detail) == ("refused", True)
    devices.ask("draft.burn", draft({"c6": c6}), id="k3")
    eventually(lambda: devices.end_of("k3") and devices.end_of("k3")[0] == "refused")


def test_a_replay_is_refused_while_one_runs_and_says_why_it_failed(serve, devices, eventually):
    service = serve()
    slow = "import time; time.sleep(60)"
    service._rehearsal._command = (sys.executable, "-c", slow)
    devices.ask("draft.replay", json.dumps({"days": 3}), id="p1")
    eventually(lambda: devices.replays and devices.replays[-1]["state"] == "running")
    devices.ask("draft.replay", json.dumps({"days": 3}), id="p2")
    eventually(lambda: devices.end_of("p2") and "one at a time" in devices.end_of("p2")[1])
    eventually(lambda: service._rehearsal._process is not None)
    service._rehearsal._process.kill()
    eventually(lambda: devices.end_of("p1") and devices.end_of("p1")[0] == "failed")
    assert devices.replays[-1]["state"] == "failed"
    devices.ask("draft.replay", json.dumps({"days": 0}), id="p3")
    eventually(lambda: devices.end_of("p3") and "days must be" in devices.end_of("p3")[1])
