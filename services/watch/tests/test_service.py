"""The service against a real Mosquitto: what it says, what it survives, what it costs."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from sunmesh import clock, config
from sunmesh.alone import RivalError
from sunmesh.messages import Alarm, Info, Sample, ServiceStatus, Status, decode, encode
from sunmesh.statefile import StateFile
from watch.__main__ import entry
from watch.loading import plan_of
from watch.service import Watch

PROGRAM = Path(sys.executable).parent / "watch"
QUICK = """
[watch]
settle_s = 0
[alarms.cell_spread]
for_s = 0
clear_for_s = 0
[alarms.soc_low]
enabled = false
[alarms.panel_day_low]
enabled = false
[alarms.panel_missing]
enabled = false
[alarms.yield_low]
enabled = false
[devices.battery]
family = "bms"
port = "/dev/b"
"""
OLD = "2026-01-01T00:00:00.000Z"


class Listener:
    """Hears every alarm; says what devices would."""

    def __init__(self, mesh):
        self.mesh = mesh("listener")
        self.topics, self.heard = self.mesh.topics, []
        self.mesh.subscribe(self.topics.every("alarm"), self._hear)

    def _hear(self, message):
        if message.payload:
            device, code = message.topic.split("/")[-2:]
            self.heard.append((f"{device}/{code}", decode(Alarm, message.payload)))

    def of(self, key):
        return [alarm for name, alarm in self.heard if name == key]

    def say(self, topic, payload, retain=True):
        self.mesh.publish(topic, payload, retain=retain)

    def spread(self, volts):
        now = clock.iso(clock.now())
        self.say(self.topics.status("battery"), encode(Status("online", now)))
        sample = Sample(ts=now, values={"cell_voltage_spread_v": volts})
        self.say(self.topics.telemetry("battery"), encode(sample))


@pytest.fixture
def listener(mesh):
    return Listener(mesh)


@pytest.fixture
def start(site_file, mesh, tmp_path):
    """Start a watch in this process; it ends after the test."""
    running = []

    def start(text=QUICK, state="watch.json"):
        site = config.load(site_file(text), "watch", environ={})
        client = mesh("watch")
        watch = Watch(plan_of(site), client, StateFile(tmp_path / state), None, [tmp_path])
        watch.listen()
        stop = threading.Event()
        thread = threading.Thread(target=watch.work, args=(stop,))
        thread.start()

        def end():
            stop.set()
            watch.wake()
            thread.join(30)
            client.stop()

        running.append(end)
        watch.end = end
        return watch

    yield start
    for end in running:
        end()


def test_raised_and_cleared(start, listener, eventually):
    start()
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"))
    raised = listener.of("battery/cell_spread")[0]
    assert (raised.state, raised.severity, raised.value) == ("raised", "warning", 0.07)
    assert raised.id.startswith("watch-battery-cell_spread-")
    assert raised.advice
    listener.spread(0.02)
    eventually(lambda: len(listener.of("battery/cell_spread")) == 2)
    assert listener.of("battery/cell_spread")[1].state == "cleared"


@pytest.mark.parametrize(
    ("took_s", "due_in_s", "rest_s"),
    [(0.002, 9.0, 0.018), (0.5, 9.0, 0.1), (0.5, 0.03, 0.03), (0.5, -1.0, 0.1), (0.0, 9.0, 0.0)],
)
def test_it_rests_by_what_a_turn_cost_and_not_beyond_what_is_due(
    site_file, mesh, tmp_path, took_s, due_in_s, rest_s
):
    plan = plan_of(config.load(site_file(QUICK), "watch", environ={}))
    file = StateFile(tmp_path / "watch.json")
    watch = Watch(plan, mesh("watch"), file, monotonic=lambda: 100.0)
    watch.judge.due_at = 100.0 + due_in_s
    assert watch._rest_s(100.0 - took_s) == pytest.approx(rest_s)


@pytest.mark.parametrize("state", ["watch.json", "lost.json"])
def test_a_restart_with_and_without_its_file_goes_on(start, listener, eventually, state):
    first = start()
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"))
    first.end()
    second = start(state=state)
    listener.spread(0.07)
    eventually(lambda: second.judge.alarms.raised)
    listener.spread(0.12)
    eventually(lambda: listener.of("battery/cell_spread")[-1].severity == "critical")
    listener.spread(0.02)
    eventually(lambda: listener.of("battery/cell_spread")[-1].state == "cleared")
    told = listener.of("battery/cell_spread")
    assert len({alarm.id for alarm in told}) == 1
    assert [alarm.state for alarm in told].count("cleared") == 1


def test_a_damaged_file_is_set_aside(start, listener, eventually, tmp_path):
    (tmp_path / "watch.json").write_text('{"alarms": [{"device": 3}]}')
    start()
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"))
    assert (tmp_path / "watch.json.bad").exists()


BAD = {
    "no JSON": b"{",
    "an unknown severity": b'{"id":"1","state":"raised","severity":"fatal","title":"t","text":"x",'
    b'"ts":"2026-01-01T00:00:00.000Z"}',
    "64 KiB of text": b'{"id":"1","state":"raised","severity":"info","title":"t","text":"'
    + b"x" * 66_000
    + b'","ts":"2026-01-01T00:00:00.000Z"}',
    "a number": b"7",
    "no UTF-8": b"\xff\xfe",
    "nothing": b"",
    "a wrong time": b'{"id":"1","state":"raised","severity":"info","title":"t","text":"x",'
    b'"ts":"noon"}',
    "markup and braces": encode(
        Alarm("1", "raised", "info", "<b>{value}</b>", "\x00\x1b[31m{0.__class__}", OLD)
    ),
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD.keys())
def test_bad_messages_stop_nobody(start, listener, eventually, payload):
    start()
    topics = listener.topics
    for topic in (
        topics.alarm("inverter", "x"),
        topics.telemetry("battery"),
        topics.status("battery"),
        topics.info("battery"),
        topics.settings("battery"),
        topics.result("battery"),
        topics.service_status("recorder"),
        topics.service_health("recorder"),
    ):
        listener.say(topic, payload, retain=False)
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"))


def test_names_that_are_none_are_not_looked_at(start, listener, eventually):
    watch = start()
    root = listener.topics.root
    now = clock.iso(clock.now())
    for name in ("Ünïcode", "x" * 40, "a b", "%s{x}"):
        sample = encode(Sample(ts=now, values={"cell_voltage_spread_v": 9.0}))
        listener.say(f"{root}/{name}/telemetry", sample, retain=False)
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"))
    assert set(watch.judge.facts.devices) == {"battery"}


def test_an_alarm_of_another_gets_its_cause_and_keeps_its_clearing(start, listener, eventually):
    start()
    now = clock.iso(clock.now())
    topics = listener.topics
    info = encode(Info(now, "pvs6", through="roof"))
    listener.say(topics.info("roof-1"), info)
    for device in ("roof", "roof-1"):
        lost = Alarm(f"{device}-1", "raised", "warning", "lost", "lost", now)
        listener.say(topics.alarm(device, "device_lost"), encode(lost))
    eventually(
        lambda: [a.cause for a in listener.of("roof-1/device_lost")][-1:] == ["roof/device_lost"]
    )
    listener.heard.clear()
    over = Alarm("roof-1-1", "cleared", "warning", "lost", "back", now)
    listener.say(topics.alarm("roof-1", "device_lost"), encode(over))
    eventually(lambda: listener.of("roof-1/device_lost"))
    assert {alarm.state for alarm in listener.of("roof-1/device_lost")} == {"cleared"}


def test_a_service_that_dies_is_told_by_its_will(start, listener, eventually):
    start(QUICK + "[alarms.service_lost]\nat_least = 0.5\n")
    status = ServiceStatus("online", "1", "h", clock.iso(clock.now()))
    topic = listener.topics.service_status("collector-bms")
    listener.say(topic, encode(status))
    gone = ServiceStatus("offline", "1", "h", clock.iso(clock.now()))
    listener.say(topic, encode(gone))
    eventually(lambda: listener.of("collector-bms/service_lost"))
    listener.say(topic, encode(status))
    eventually(lambda: listener.of("collector-bms/service_lost")[-1].state == "cleared")


def test_a_state_that_cannot_be_written_stops_nobody(start, listener, eventually, tmp_path, caplog):
    (tmp_path / "state-is-a-file").write_text("")
    start(state="state-is-a-file/watch.json")
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"))
    eventually(lambda: "cannot be written" in caplog.text)


# --- as a process ---------------------------------------------------------------------------------


@pytest.fixture
def launch(tmp_path):
    processes = []

    def launch(*words):
        with (tmp_path / f"log-{len(processes)}").open("wb") as log:
            process = subprocess.Popen([PROGRAM, *map(str, words)], stdout=log, stderr=log)
        processes.append(process)
        return process

    yield launch
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_kills_lose_nothing_and_say_nothing_twice(launch, site_file, listener, eventually):
    """Each change is said once, though the watch is killed after each."""
    site = site_file(QUICK)
    for volts, state in ((0.07, "raised"), (0.02, "cleared")) * 3:
        process = launch("run", "--config", site)
        listener.spread(volts)
        eventually(
            lambda state=state: (
                [a.state for a in listener.of("battery/cell_spread")][-1:] == [state]
            ),
            60,
        )
        process.kill()
        process.wait()
    told = listener.of("battery/cell_spread")
    changes = list(dict.fromkeys((alarm.id, alarm.state) for alarm in told))
    assert [state for _, state in changes] == ["raised", "cleared"] * 3
    assert len({ident for ident, _ in changes}) == 3


def test_it_is_small_and_stops_soon(launch, site_file, listener, eventually, tmp_path):
    url = f"sqlite:///{tmp_path / 'house.db'}"
    site = site_file(f'[database]\nurl = "{url}"\n{QUICK}')
    process = launch("run", "--config", site)
    topics, now = listener.topics, clock.iso(clock.now())
    for number in range(30):
        listener.say(topics.info(f"battery-{number}"), encode(Info(now, "bms")))
        values = {"cell_voltage_spread_v": 0.01, "cell_voltage_v": [3.3] * 16}
        sample = encode(Sample(ts=now, values=values))
        listener.say(topics.telemetry(f"battery-{number}"), sample)
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"), 60)
    memory = psutil.Process(process.pid).memory_full_info()
    assert memory.pss < 25 * 2**20, f"{memory.pss / 2**20:.1f} MiB"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert time.monotonic() - began < 30


def test_a_second_watch_says_so_and_waits(launch, site_file, listener, eventually, tmp_path):
    site = site_file(QUICK)
    first = launch("run", "--config", site)
    listener.spread(0.07)
    eventually(lambda: listener.of("battery/cell_spread"), 60)
    second = launch("run", "--config", site)
    waits = f"another watch (process {first.pid}) has"
    eventually(lambda: waits in (tmp_path / "log-1").read_text(), 60)
    first.kill()
    listener.spread(0.02)
    eventually(lambda: len(listener.of("battery/cell_spread")) == 2, 60, "the second took over")
    assert listener.of("battery/cell_spread")[1].state == "cleared"
    assert second.poll() is None


def test_one_whose_connection_is_taken_over_ends(start, eventually):
    watch = start()
    watch._lost("Session taken over")
    with pytest.raises(RivalError):
        watch.work(threading.Event())


def test_check_and_status(launch, site_file, listener, eventually, capsys, monkeypatch):
    monkeypatch.setattr("watch.__main__.QUIET_S", 0.3)
    site = site_file(QUICK)
    listener.spread(0.07)
    assert entry(["check", "--config", str(site)]) == 0
    assert "    battery: 70 mV" in capsys.readouterr().out
    assert entry(["check", "--json", "--config", str(site)]) == 0
    assert json.loads(capsys.readouterr().out)["cell_spread"]["now"] == {"battery": 0.07}
    assert listener.heard == [], "who looks raises nothing"
    assert entry(["status", "--config", str(site)]) == 0
    assert "no alarm is raised" in capsys.readouterr().out
    process = launch("run", "--config", site)
    eventually(lambda: listener.of("battery/cell_spread"), 60)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert entry(["status", "--config", str(site)]) == 1
    assert "battery/cell_spread" in capsys.readouterr().out
    assert entry(["status", "--json", "--config", str(site)]) == 1
    assert "battery/cell_spread" in json.loads(capsys.readouterr().out)


def test_a_wrong_site_is_one_line_and_status_2(launch, site_file, tmp_path):
    process = launch("run", "--config", site_file("[alarms.cell_spread]\nat_lest = 1\n"))
    assert process.wait(60) == 2
    said = (tmp_path / "log-0").read_text()
    assert said.count("\n") == 1
    assert "alarms.cell_spread.at_lest: is not known; did you mean at_least?" in said
