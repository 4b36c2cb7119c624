"""The demo: what is in its way is said plainly, and all of it stops.

Brokers, simulator and honcho are the real ones. Collectors, recorder and portal stand here as
scripts with the same command lines; ``tests/soak`` has the real ones.
"""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest
from simulator import demo
from simulator.config import SimulatorConfig
from simulator.faults import Fault
from sunmesh.config import load
from sunmesh.testing import find_free_port

STAND_INS = {
    "collector-axpert": """
import os, sys, threading, time
from pathlib import Path
from sunmesh import clock, config, service
from sunmesh.messages import Sample, encode
from sunmesh.mqtt import Mesh
stop = service.stop_event()
site = config.load(Path(sys.argv[sys.argv.index("--config") + 1]), "collector-axpert")
if "emulate" in sys.argv and "--root" in sys.argv:
    root = Path(sys.argv[sys.argv.index("--root") + 1])
    for word in sys.argv[sys.argv.index("--sensor") + 1 :: 2][:2]:
        (root / word.split(":")[0]).mkdir(parents=True)
        (root / word.split(":")[0] / "w1_slave").touch()
    stop.wait()
elif "emulate" in sys.argv and "--http" in sys.argv:
    stop.wait()
elif "emulate" in sys.argv:
    link = Path(sys.argv[sys.argv.index("--pty") + 1])
    link.symlink_to("/dev/null")
    stop.wait()
    link.unlink()
else:
    if Path(sys.argv[0]).name == "collector-axpert":
        assert Path(site.devices["inverter"]["port"]).exists()
    mesh = Mesh(site.broker, site.topics, "collector-axpert")
    mesh.start()
    while not stop.wait(0.3):
        sample = Sample(ts=clock.iso(clock.now()), values={"battery_voltage_v": 53.1})
        mesh.publish(site.topics.telemetry("inverter"), encode(sample), retain=True)
    mesh.stop()
""",
    "recorder": """
import sys, time
from pathlib import Path
from sunmesh import service
if "emulate" in sys.argv:
    sys.exit(service.stop_event().wait() is None)
site = Path(sys.argv[sys.argv.index("--config") + 1])
if "ingest" in sys.argv:
    with (site.parent / "sunmesh.db").open("a") as file:
        print(sum(1 for line in sys.stdin), file=file)
    sys.exit(3 if (site.parent / "full").exists() else 0)
elif "run" in sys.argv:
    service.stop_event().wait()
""",
    "web": """
import http.server, sys, tomllib
from pathlib import Path
site = tomllib.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
http.server.test(http.server.SimpleHTTPRequestHandler, port=site["web"]["port"], bind="127.0.0.1")
""",
}
OTHERS = ("bookkeeper", "controller", "grid-relay", "notifier", "watch")
RUNNER = """
import sys
from pathlib import Path
from simulator import demo
from simulator.__main__ import main
real, folder = demo.program, Path(sys.argv.pop(1))
demo.program = lambda name: str(folder / name) if (folder / name).exists() else real(name)
main()
"""


@pytest.fixture
def stand_ins(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    collectors = {name: STAND_INS["collector-axpert"] for name in demo.COLLECTORS}
    others = dict.fromkeys(OTHERS, STAND_INS["recorder"])
    for name, code in (collectors | STAND_INS | others).items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{code}")
        path.chmod(0o755)
    (folder / "runner.py").write_text(RUNNER)
    return folder


@pytest.fixture
def started(stand_ins, tmp_path):
    """Starts demos, and leaves none behind."""
    running = []

    def start(*options: str) -> subprocess.Popen:
        command = [sys.executable, str(stand_ins / "runner.py"), str(stand_ins), "demo"]
        command += ["--dir", str(tmp_path / "house"), "--days", "0.1", *options]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        process.stdout.close()


def read_until(process: subprocess.Popen, text: str) -> str:
    """What the demo says, up to the line with ``text``."""
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"the demo ended without saying {text!r}:\n{said}")


def left_in(folder: Path) -> list[str]:
    """Command lines of processes that work in ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder / "house") in line:
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("broker", "number"),
    [("mosquitto", signal.SIGINT), ("embedded", signal.SIGTERM), ("mosquitto", signal.SIGHUP)],
)
def test_it_shows_a_page_and_stops_with_all_it_started(started, tmp_path, broker, number):
    web = find_free_port()
    process = started(
        "--broker", broker, "--port", str(web), "--broker-port", str(find_free_port())
    )
    said = read_until(process, "The house is at")
    assert f"http://127.0.0.1:{web}/" in said
    assert "days of history are in the database" in said
    assert demo.page_answers(f"http://127.0.0.1:{web}/")
    assert len(left_in(tmp_path)) >= 6
    began = time.monotonic()
    process.send_signal(number)
    said = process.stdout.read()
    assert process.wait(60) == 0, said
    assert time.monotonic() - began < 20
    assert "stopped" in said
    assert left_in(tmp_path) == []

    # The house goes on: its history is not written again.
    lines = (tmp_path / "house" / "sunmesh.db").read_text()
    if number == signal.SIGINT:
        again = started(
            "--broker", broker, "--port", str(web), "--broker-port", str(find_free_port())
        )
        said = read_until(again, "The house is at")
        assert "goes on" in said
        assert (tmp_path / "house" / "sunmesh.db").read_text() == lines
        other = started("--port", str(find_free_port()), "--broker-port", str(find_free_port()))
        said = other.communicate(timeout=60)[0]
        assert other.returncode == 2
        assert "runs in" in said
        assert "--dir" in said


def test_a_service_that_dies_stops_the_demo_and_is_named(started, stand_ins, tmp_path):
    (stand_ins / "web").write_text("#!/bin/sh\necho no page today\nexit 4\n")
    process = started("--port", str(find_free_port()), "--broker-port", str(find_free_port()))
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "web ended, so the demo stopped" in said
    assert "no page today" in said
    assert left_in(tmp_path) == []


def test_history_that_cannot_be_stored_is_said(started, tmp_path):
    house = tmp_path / "house"
    house.mkdir()
    (house / "full").touch()
    process = started("--port", str(find_free_port()), "--broker-port", str(find_free_port()))
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "history could not be written" in said
    assert not (house / "history.json").exists()


@pytest.mark.parametrize("option", ["--port", "--broker-port"])
def test_a_port_in_use_is_said_with_the_option_that_changes_it(started, option):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        options = {"--port": str(find_free_port()), "--broker-port": str(find_free_port())} | {
            option: str(number)
        }
        process = started(*[word for pair in options.items() for word in pair])
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert f"port {number} on 127.0.0.1 is in use" in said
    assert f"{option} {number + 1}" in said


def options(tmp_path, **changes):
    given = {
        "dir": tmp_path / "house",
        "host": "127.0.0.1",
        "port": 8080,
        "broker_port": 18830,
        "broker": "embedded",
        "seed": 7,
        "speed": 1.0,
        "days": 30.0,
        "fresh": False,
        "calendar": None,
        "start": None,
        "log_world": None,
        "latitude": 43.46,
        "longitude": 11.88,
        "time_zone": "Europe/Rome",
        "control": "",
        "storm": False,
        "empty": False,
    }
    return Namespace(**(given | changes))


@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
def test_the_site_that_is_written_is_one_that_every_service_reads(tmp_path, broker):
    plan = demo.plan_of(options(tmp_path, broker=broker, port=8099))
    plan.folder.mkdir()
    demo.write(plan)
    first = {user: (plan.folder / "secrets" / user).read_text() for user in demo.SERVICES}
    demo.write(plan)
    for user in demo.SERVICES:
        site = load(plan.site, user)
        assert site.broker.protocol == ("3.1.1" if broker == "embedded" else "5")
        assert site.broker.password == first[user].strip()
        assert site.database.sqlalchemy_url() == f"sqlite:///{plan.folder}/sunmesh.db"
    assert site.section("simulator", SimulatorConfig).seed == 7
    assert tomllib.loads(plan.site.read_text())["web"] == {"host": "127.0.0.1", "port": 8099}
    hashes = (plan.folder / "broker" / "passwords").read_text()
    assert hashes.count("\n") == len(demo.SERVICES)
    for user, word in first.items():
        assert user in hashes
        assert word.strip() not in hashes
    for path in [*(plan.folder / "secrets").iterdir(), plan.folder / "broker" / "passwords"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_calendar_of_one_s_own_stands_in_the_site(tmp_path):
    calendar = tmp_path / "calendar.toml"
    calendar.write_text('[[simulator.faults]]\nkind = "overload"\nstart_s = 9\nduration_s = 3\n')
    plan = demo.plan_of(options(tmp_path, calendar=calendar))
    plan.folder.mkdir()
    demo.write(plan)
    own = load(plan.site, "simulator").section("simulator", SimulatorConfig)
    assert own.calendar == (Fault("overload", 9.0, 3.0),)
    calendar.write_text("[web]\nport = 1\n")
    with pytest.raises(demo.DemoError, match="nothing else"):
        demo.plan_of(options(tmp_path, calendar=calendar))


def test_the_house_s_clock_may_begin_elsewhere_and_its_world_be_logged(tmp_path):
    start, log = "2026-03-29T00:00:00Z", tmp_path / "world.jsonl"
    plan = demo.plan_of(options(tmp_path, start=start, days=0.0, log_world=log))
    command = demo.commands(plan)["simulator"]
    assert command[command.index("--start") + 1] == start
    assert command[command.index("--log-world") + 1] == str(log)
    assert "--start" not in demo.commands(demo.plan_of(options(tmp_path)))["simulator"]


def test_each_device_has_an_emulator_and_its_collector_a_user(tmp_path):
    plan = demo.plan_of(options(tmp_path, broker="mosquitto"))
    plan.folder.mkdir()
    demo.write(plan)
    site = load(plan.site, "web")
    emulated = {name for each in demo.EMULATORS for name in each.tables}
    assert site.devices.keys() == emulated | {demo.RELAY}
    commands = demo.commands(plan)
    assert {each.name for each in demo.EMULATORS} < commands.keys()
    assert {"controller", demo.RELAY} < commands.keys()
    for family in {site.devices[name]["family"] for name in emulated}:
        assert f"collector-{family}" in commands
        assert (plan.folder / "secrets" / f"collector-{family}").exists()
    assert demo.waits_for(plan, "collector-axpert") == plan.folder / "inverter.pty"
    assert demo.waits_for(plan, "collector-pvs6") is None
    rules = demo.shipped_rules()
    assert rules is not None
    assert {f"user {user}" for user in demo.SERVICES} <= set(rules.read_text().splitlines())
    assert f"acl_file {rules}" in (plan.folder / "broker" / "mosquitto.conf").read_text()


def test_a_storm_is_a_house_of_its_own(tmp_path):
    plan = demo.plan_of(options(tmp_path, storm=True))
    assert (plan.speed, plan.days) == (demo.STORM_SPEED, 0.0)
    plan.folder.mkdir()
    demo.write(plan)
    own = load(plan.site, "simulator").section("simulator", SimulatorConfig)
    assert own.battery_capacity_ah == demo.STORM_BATTERY_AH
    assert own.calendar == (Fault("storm", 9000.0, 18000.0),)
    assert own.relay_file == demo.RELAY_FILE


@pytest.mark.parametrize(
    ("control", "is_new", "asks"),
    [("", True, "on"), ("", False, None), ("shadow", False, "shadow"), ("off", True, "off")],
)
def test_the_rules_are_asked_once(tmp_path, mesh, topics, eventually, control, is_new, asks):
    plan = demo.plan_of(options(tmp_path, control=control))
    if not is_new:
        (plan.folder / "state").mkdir(parents=True)
        (plan.folder / "state" / "controller.json").touch()
    heard = []
    rules = mesh("controller")
    rules.subscribe(topics.command("controller"), lambda m: heard.append(json.loads(m.payload)))
    rules.subscribe("done", lambda m: heard.append(None))
    demo.Watcher(plan)._turn_on(watcher := mesh("web"))
    # what the watcher sends on comes after its own words to the rules
    watcher.subscribe("said", lambda _: watcher.publish("done", b""))
    for _ in range(2):
        rules.publish(topics.service_status("controller"), b'{"state":"online"}', retain=True)
    rules.publish("said", b"")
    eventually(lambda: None in heard)
    assert [body["value"] for body in heard if body] == ([asks] if asks else [])


def test_fresh_forgets_the_house_and_nothing_else(tmp_path):
    plan = demo.plan_of(options(tmp_path))
    plan.folder.mkdir()
    demo.write(plan)
    (plan.folder / "state").mkdir()
    for name in (
        *("sunmesh.db", "sunmesh.db-wal", "house.json", "history.json", "relay"),
        "my-notes.txt",
    ):
        (plan.folder / name).write_text("{}")
    demo.forget(plan)
    assert sorted(path.name for path in plan.folder.iterdir()) == ["my-notes.txt", "site.toml"]


def test_another_seed_needs_another_folder_or_a_fresh_start(tmp_path):
    plan = demo.plan_of(options(tmp_path, seed=8))
    plan.folder.mkdir()
    plan.marker.write_text('{"house": 1, "seed": 8}')
    with pytest.raises(demo.DemoError, match="older kind.*--fresh"):
        demo.fill(plan)
    for change in ({"seed": 7}, {"latitude": 60.0}):
        other = demo.plan_of(options(tmp_path, **({"seed": 8} | change)))
        plan.marker.write_text(json.dumps(other.house))
        with pytest.raises(demo.DemoError, match="house of seed .*--fresh"):
            demo.fill(plan)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"port": 0}, "--port"),
        ({"broker_port": 99999}, "--broker-port"),
        ({"days": -1}, "--days"),
        ({"start": "2026-03-29T00:00:00Z"}, "--days 0"),
        ({"calendar": Path("/nowhere.toml")}, "cannot be read"),
    ],
)
def test_impossible_options_are_refused(tmp_path, changes, reason):
    with pytest.raises(demo.DemoError, match=reason):
        demo.plan_of(options(tmp_path, **changes))


def test_mosquitto_is_taken_where_it_is_installed(tmp_path, monkeypatch):
    assert not demo.plan_of(options(tmp_path, broker="auto")).embedded
    monkeypatch.setattr(demo, "program", lambda name: None)
    assert demo.plan_of(options(tmp_path, broker="auto")).embedded
    with pytest.raises(demo.DemoError, match="--broker embedded"):
        demo.plan_of(options(tmp_path, broker="mosquitto"))
    with pytest.raises(demo.DemoError, match="make install"):
        demo.check(demo.plan_of(options(tmp_path)))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("0.0.0.0", "http://127.0.0.1:80/"),
        ("::1", "http://[::1]:80/"),
    ],
)
def test_the_address_is_one_for_a_browser(tmp_path, host, address):
    assert demo.plan_of(options(tmp_path, host=host, port=80)).address == address


def test_a_host_that_is_none_is_said():
    assert "cannot be used" in demo.in_the_way("192.0.2.1", 8080)
    assert "cannot be used" in demo.in_the_way("no.such.host.invalid", 8080)


def test_a_long_history_is_spoken_of_until_it_is_booked(tmp_path, monkeypatch):
    plan = demo.plan_of(options(tmp_path, days=400.0))
    assert demo.waiting(plan) == {}, "there is no database yet"
    plan.folder.mkdir()
    connection = sqlite3.connect(plan.folder / "sunmesh.db")
    connection.execute("CREATE TABLE dirty (consumer TEXT, ts INTEGER)")
    marks = [(consumer, ts) for consumer in ("books", "rollup") for ts in range(2000)]
    connection.executemany("INSERT INTO dirty VALUES (?, ?)", marks)
    connection.commit()
    assert demo.waiting(plan) == {"rollup": 2000, "books": 2000}
    monkeypatch.setattr(demo, "TELL_S", 0.01)
    said = []

    def say(text, *_):
        said.append(text)
        limit = 1000 if len(said) == 1 else 100
        connection.execute("DELETE FROM dirty WHERE consumer = 'rollup' AND ts >= ?", [limit])
        if len(said) > 1:
            connection.execute("DELETE FROM dirty WHERE ts >= 400")
        connection.commit()

    monkeypatch.setattr(demo, "say", say)
    demo.Watcher(plan)._tell_backlog()
    connection.close()
    assert said[0] == (
        "in the background, of 400 days: minutes, hours and days 0%, energy books 0%"
    )
    assert "minutes, hours and days 50%, energy books 0%" in said[1]
    assert said[-1].startswith("history is summed up and booked (")
    monkeypatch.setattr(demo, "waiting", lambda _: {"rollup": 3, "books": 3})
    demo.Watcher(plan)._tell_backlog()
    assert len(said) == 3, "a short one is not spoken of"
