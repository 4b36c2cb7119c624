"""The console script, the configuration's errors, the watchdog, the unit of systemd."""

import configparser
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grid_relay import watchdog
from grid_relay.config import RelayDevice, relay_of
from grid_relay.watchdog import Watchdog
from sunmesh import config
from sunmesh.errors import ConfigError

SERVICE = Path(__file__).parents[1]
SCRIPT = Path(sys.executable).parent / "grid-relay"
TABLE = '[devices.grid-relay]\nfamily = "relay"\n'
BY_FILE = f'{TABLE}[devices.grid-relay.output]\nby = "file"\npath = "out/level"\n'


@pytest.fixture
def site(tmp_path):
    def write(text):
        path = tmp_path / "site.toml"
        path.write_text(text)
        return path

    return write


def call(*arguments, **environ):
    return subprocess.run(
        [SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environ,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no relays; write one table"),
        (f'{TABLE}[devices.b]\nfamily = "relay"\n', "2 relays; write one"),
        (f"{TABLE}lease = 1", "devices.grid-relay.lease: is not known"),
        (f"{TABLE}max_lease_s = 0", "devices.grid-relay.max_lease_s: must be 1 to 3600"),
        (f"{TABLE}max_lease_s = 7200", "max_lease_s: must be 1 to 3600, got 7200"),
        (f"{TABLE}max_manual_s = 0", "max_manual_s: must be 1 to 604800"),
        (f"{TABLE}min_connected_s = -1", "min_connected_s: must be 0 or more"),
        (f"{TABLE}max_switches_per_day = 1", "max_switches_per_day: must be 2 or more"),
        (f"{TABLE}poll_interval_s = 0.5", "poll_interval_s: must be 1 or more"),
        (f'{TABLE}state_dir = ""', "state_dir: must name a folder"),
        (f'{TABLE}output = {{ by = "sysfs" }}', "devices.grid-relay.output.by: "),
        (f'{TABLE}output = {{ by = "file" }}', "output.path: must name a file"),
        (f"{TABLE}output = {{ line = -1 }}", "output.line: must be 0 or more"),
        (f"{TABLE}output = {{ second_line = 26 }}", "second_line: must be another"),
        (f"{TABLE}output = {{ second_line = 19, dead_time_s = 0 }}", "dead_time_s: must be 0.1"),
        (f"{TABLE}output = {{ second_line = 19, dead_time_s = 3 }}", "feedback: must have after_s"),
        (f'{TABLE}feedback = {{ by = "file" }}', "feedback.path: must name a file"),
        (f"{TABLE}feedback = {{ line = -1 }}", "feedback.line: must be 0 or more"),
        (f"{TABLE}feedback = {{ after_s = 0.1 }}", "after_s: must be 0.5 to 60"),
        (f"{TABLE}window = {{ voltage_v = [250, 200] }}", "voltage_v: must be two numbers"),
        (f"{TABLE}window = {{ good_s = 0 }}", "good_s: must be above 0"),
        (f"{TABLE}window = {{ wait_s = 5 }}", "wait_s: must be good_s to 600"),
        (f'{TABLE}window = {{ device = "meter" }}', "window.device: no device is meter"),
        (f'{TABLE}supply = {{ device = "inverter" }}', "supply.device: no device is inverter"),
        (f"{TABLE}supply = {{ voltage_v = 0 }}", "voltage_v: must be above 0"),
        (f"{TABLE}supply = {{ within_s = 1 }}", "within_s: must be 10 or more"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(site, text, says):
    with pytest.raises(ConfigError) as caught:
        relay_of(config.load(site(text)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", ["run", "status", "set-safe"])
def test_a_wrong_setting_ends_with_status_2(site, verb):
    done = call(verb, "--config", site(f"{TABLE}lease = 1"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "lease: is not known" in done.stderr


def test_the_example_has_every_setting_at_its_default():
    site = config.load(SERVICE / "config.example.toml")
    assert site.devices_of("relay", RelayDevice) == {"grid-relay": RelayDevice()}
    text = (SERVICE / "config.example.toml").read_text()
    for name in re.findall(
        r"^    (\w+): ", (SERVICE / "src/grid_relay/config.py").read_text(), re.M
    ):
        assert re.search(rf"^(# |\[devices\.grid-relay\.)?{name}( =|\])", text, re.M), name


def test_paths_are_seen_from_the_file(site, tmp_path):
    _, device = relay_of(config.load(site(f'{BY_FILE}[devices.grid-relay.feedback]\npath = "c"\n')))
    assert device.output.path == str(tmp_path / "out/level")
    assert device.feedback.path == str(tmp_path / "c")
    assert device.state_dir == str(tmp_path / "state")
    assert device.watchdog == ""


def test_set_safe_drives_the_output_and_needs_no_password(site, tmp_path):
    path = site(f'[broker]\npassword_file = "nowhere"\n{BY_FILE}')
    level = tmp_path / "out/level"
    level.parent.mkdir()
    level.write_text("1\n")
    done = call("set-safe", "--config", path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"grid_connected after \d+ ms\n", done.stdout)
    assert level.read_text() == "0\n"


def test_set_safe_lets_the_second_contactor_go_first(site, tmp_path):
    path = site(f'{BY_FILE}second_path = "out/second"\ndead_time_s = 0.3\n')
    (tmp_path / "out").mkdir()
    for name in ("level", "second"):
        (tmp_path / "out" / name).write_text("1\n")
    done = call("set-safe", "--config", path)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"(\d+) ms", done.stdout)[1]) >= 300
    assert (tmp_path / "out/level").read_text() == "0\n"
    assert (tmp_path / "out/second").read_text() == "0\n"


def test_set_safe_says_why_it_failed(site):
    done = call("set-safe", "--config", site(f'{TABLE}output = {{ chip = "no-such-chip" }}'))
    assert done.returncode == 1
    assert "no GPIO chip is called no-such-chip" in done.stderr


def test_run_without_its_chip_stays_and_says_so(site, tmp_path):
    """It must not exit in a loop: it would chatter, and nobody could ask it why."""
    path = site(f'{TABLE}output = {{ chip = "no-such-chip" }}')
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen([SCRIPT, "run", "--config", path], stderr=out)
    try:
        deadline = time.monotonic() + 30
        while "started" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None
        assert "no GPIO chip is called no-such-chip" in (tmp_path / "log").read_text()
    finally:
        process.terminate()
    assert process.wait(30) == 0


def test_status_says_that_nobody_is_there(site, broker, topics, free_port):
    path = site(f"[broker]\nport = {free_port}\n{BY_FILE}")
    assert call("status", "--config", path).returncode == 1
    path = site(f'[site]\nname = "{topics.site}"\n[broker]\nport = {broker.port}\n{BY_FILE}')
    done = call("status", "--config", path)
    assert done.returncode == 1
    assert "never seen" in done.stdout


def test_status_of_a_relay_that_runs(site, broker, topics, tmp_path):
    path = site(f'[site]\nname = "{topics.site}"\n[broker]\nport = {broker.port}\n{BY_FILE}')
    process = subprocess.Popen([SCRIPT, "--log-level", "warning", "run", "--config", path])
    try:
        deadline = time.monotonic() + 30
        done = call("status", "--config", path)
        while done.returncode and time.monotonic() < deadline:
            done = call("status", "--config", path)
        assert done.returncode == 0
        rows = dict(line.split(None, 1) for line in done.stdout.splitlines())
        assert rows["relay_position"] == "grid_connected"
        assert rows["relay_reason"] == "startup"
        assert rows["service"] == "online"
        assert rows["relay_manual_until"] == "-"
    finally:
        process.terminate()
        process.wait(30)


# -- who ends it when it hangs ---------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("is_abstract", [True, False])
def test_systemd_hears_ready_alive_and_stopping(tmp_path, is_abstract):
    name = f"\0sunmesh-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    ticks = Clock()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(10)
        environ = {"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "900000"}
        dog = Watchdog("", environ, ticks)
        dog.ready()
        assert systemd.recv(200) == b"READY=1"
        for now in (0.0, 0.1, 0.29, 0.31):
            ticks.now = now
            dog.feed("grid_open: leased")
        assert systemd.recv(200) == b"WATCHDOG=1\nSTATUS=grid_open: leased"
        assert systemd.recv(200).startswith(b"WATCHDOG=1")
        dog.end()
        assert systemd.recv(200) == b"STOPPING=1"


def test_without_systemd_nothing_is_said():
    for environ in ({}, {"NOTIFY_SOCKET": "/nowhere/at/all"}):
        dog = Watchdog("", environ)
        dog.ready()
        dog.feed("x")
        dog.end()


def test_a_file_changes_while_all_is_well(tmp_path):
    ticks, path = Clock(), tmp_path / "alive"
    dog = Watchdog(str(path), {}, ticks)
    dog.feed("x")
    first = path.stat().st_mtime_ns
    dog.feed("x")
    assert path.stat().st_mtime_ns == first
    ticks.now = 1.0
    os.utime(path, ns=(0, 0))
    dog.feed("x")
    assert path.stat().st_mtime_ns > 0


def test_a_device_is_fed_and_told_of_an_end_in_order(monkeypatch):
    written = []
    monkeypatch.setattr(watchdog.os, "write", lambda _fd, data: written.append(data))
    dog = Watchdog("/dev/null", {})
    dog.feed("x")
    dog.end()
    assert written == [b"\0", b"V"]


def test_a_watchdog_that_cannot_be_fed_is_said_once(tmp_path, caplog):
    ticks = Clock()
    dog = Watchdog(str(tmp_path / "none" / "alive"), {}, ticks)
    for ticks.now in (0.0, 2.0, 4.0):
        dog.feed("x")
    assert caplog.text.count("cannot be fed") == 1


def test_the_unit_makes_safe_whatever_ended_it():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(SERVICE / "systemd/grid-relay.service")
    service = unit["Service"]
    program = service["ExecStart"].removesuffix(" run")
    assert service["ExecStopPost"] == f"{program} set-safe"
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert float(service["WatchdogSec"]) <= 10
    assert service["WatchdogSignal"] == "SIGKILL", "a stopped process hears no other"
    assert service["RestartPreventExitStatus"] == "2"
