"""Services as real processes, as the owner starts them."""

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text
from sunmesh.messages import ServiceStatus, decode
from sunmesh.testing import find_free_port

DEVICES = tomllib.loads((Path(__file__).parent / "devices.toml").read_text())
PROGRAMS = Path(__file__).parent / "mesh"
SCRIPTS = Path(sys.executable).parent


class Process:
    """A running program, its words kept in a file."""

    def __init__(self, command, log):
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [str(word) for word in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    @property
    def said(self):
        return self.log.read_text(errors="replace")

    def settle(self):
        """Wait until it has started whatever it starts, and rests."""
        process, before_s = psutil.Process(self.popen.pid), -1.0
        for _ in range(30):
            used_s = sum(process.cpu_times()[:2])
            if used_s - before_s < 0.03:
                break
            before_s = used_s
            time.sleep(0.3)

    def stop(self, timeout_s=30):
        """Ask it to stop; returns how long that took [s]."""
        began = time.monotonic()
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        self.popen.wait(timeout_s)
        return time.monotonic() - began

    def kill(self):
        self.popen.kill()
        self.popen.wait(60)


@pytest.fixture
def launch(tmp_path):
    """Start a console script, or a program of tests/mesh; it is ended after the test."""
    running = []

    def launch(name, *arguments):
        script = PROGRAMS / f"{name}.py"
        program = [sys.executable, script] if script.exists() else [SCRIPTS / name]
        process = Process([*program, *arguments], tmp_path / f"{name}-{len(running)}.log")
        running.append(process)
        return process

    yield launch
    for process in running:
        if process.popen.poll() is None:
            process.kill()


@pytest.fixture
def online(mesh, eventually):
    """Wait until a service says that it is online."""
    listener = mesh("listener")
    states = {}
    listener.subscribe(
        listener.topics.service_status("+"),
        lambda m: states.__setitem__(
            m.topic.split("/")[-2], decode(ServiceStatus, m.payload).state
        ),
    )

    def online(*services):
        for service in services:
            eventually(
                lambda service=service: states.get(service) == "online", 60, f"{service} is online"
            )

    online.states = states
    return online


@pytest.fixture
def rows(database_url):
    """What a SELECT finds; nothing while there is no such table."""
    engine = create_engine(database_url)

    def rows(statement, **values):
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(statement), values)]
        except Exception as err:
            if "doesn't exist" in str(err) or "Can't connect" in str(err):
                return []
            raise

    yield rows
    engine.dispose()


@pytest.fixture
def recorded(rows):
    """Time and value of every sample of a device's quantity."""

    def recorded(device, name):
        return rows(
            "SELECT ts, value FROM sample JOIN series ON series.id = sample.series_id"
            " WHERE device = :device AND series.name = :name ORDER BY ts",
            device=device,
            name=name,
        )

    return recorded


def in_toml(value):
    """A value as TOML writes it; a table in one line."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {in_toml(item)}' for key, item in value.items())} }}"
    return json.dumps(value)


def device_name(collector):
    """What the collector's one device is called."""
    return "inverter" if collector == "collector-axpert" else collector.removeprefix("collector-")


@pytest.fixture
def device_port():
    """Where a device listens that has no line."""
    return find_free_port()


@pytest.fixture
def devices(tmp_path, device_port):
    """The tables of ``site.toml`` with the device of each collector, all or one."""

    def devices(*collectors):
        text = ""
        for collector in collectors or DEVICES:
            link = tmp_path / device_name(collector)
            text += f"[devices.{device_name(collector)}]\n"
            for key, value in DEVICES[collector]["device"].items():
                line = f"{key} = {in_toml(value)}\n".replace("{link}", str(link))
                text += line.replace('"{port}"', str(device_port))
        return text

    return devices


@pytest.fixture
def emulate(launch, tmp_path, device_port):
    """Start the emulator of a collector's device."""

    def emulate(collector):
        places = {"{link}": str(tmp_path / device_name(collector)), "{port}": str(device_port)}
        options = list(DEVICES[collector]["emulate"])
        for name, place in places.items():
            options = [word.replace(name, place) for word in options]
        return launch(collector, "emulate", *options)

    return emulate


@pytest.fixture
def house(site_file, database_url, free_port, devices):
    """A ``site.toml`` with everything: broker, database, a device a collector, a portal."""
    return site_file(
        f'[database]\nurl = "{database_url}"\n'
        "[recorder]\nlinger_s = 0.1\n"
        f"[web]\nport = {free_port}\n" + devices()
    )
