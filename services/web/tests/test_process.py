"""The portal as a process: its life, its memory, its errors in one line."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sunmesh import clock
from sunmesh.messages import Sample, ServiceStatus, decode, encode
from sunmesh.testing import migrated, quickest
from web.people.accounts import Accounts
from web.queries import WIDTH_MS

WEB = [Path(sys.executable).parent / "web", "run", "--config"]
FORBIDDEN = {"numpy", "pandas", "cryptography", "requests", "sqlalchemy.orm"}
OWN_MIB = 50.0
"""Memory that no other process shares; PSS in a running mesh, up to 60, is for `make bench`."""


class Portal:
    """A running portal; ``port`` is known once it listens."""

    def __init__(self, site: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([*WEB, str(site)], stderr=subprocess.PIPE, text=True)

    def get(self, path: str, timeout: float = 10) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return answer.read()

    def up(self) -> bool:
        assert self.process.poll() is None, self.process.stderr.read()
        try:
            return bool(self.get("/now.json"))
        except OSError:
            return False

    def stop(self) -> tuple[int, float, str]:
        """Exit status, seconds, and what it said."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, time.monotonic() - begun, said


@pytest.fixture
def portal(site_file, free_port, eventually, tmp_path) -> Iterator[Callable[..., Portal]]:
    """Starts portals on the run's broker, and ends them."""
    made: list[Portal] = []

    def start(url: str = "") -> Portal:
        site = site_file(
            f'[database]\nurl = "{url or f"sqlite:///{tmp_path}/none.db"}"\n'
            f"[web]\nport = {free_port}\nthreads = 2\nstreams = 13\n"
            '[devices.inverter]\nfamily = "axpert"\n'
        )
        made.append(Portal(site, free_port))
        eventually(made[-1].up, why="the portal answers")
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


VALUES = {
    "ac_output_power_w": 400.0,
    "battery_voltage_v": 52.0,
    "battery_power_w": -520.0,
    "battery_soc_percent": 80.0,
    "pv_power_w": 1000.0,
    "grid_voltage_v": 0.0,
}


def open_pages(running: Portal) -> list[socket.socket]:
    """Five of them, each with its stream."""
    streams = [socket.create_connection(running.url[7:].split(":")) for _ in range(5)]
    for stream in streams:
        stream.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stream.recv(12) == b"HTTP/1.1 200"
    return streams


def test_it_lives_small_says_so_and_stops(portal, mesh, topics, database, eventually) -> None:
    now = clock.now()
    day = clock.from_ms(clock.epoch_ms(now) // WIDTH_MS * WIDTH_MS - 20 * 3_600_000)
    database.add((clock.from_ms(clock.epoch_ms(day) + n * 10_000), VALUES) for n in range(7000))
    heard: dict[str, bytes] = {}
    client = mesh("watcher")
    pattern = topics.every("service_status")
    client.subscribe(pattern, lambda m: heard.update({m.topic: m.payload}))
    running = portal(database.url)
    client.publish(
        topics.telemetry("inverter"),
        encode(Sample(ts=clock.iso(clock.now()), values=VALUES)),
        retain=True,
    )
    eventually(lambda: b"Sun covers everything" in running.get("/"), why="the sample is shown")
    topic = topics.service_status("web")
    eventually(lambda: topic in heard)
    assert decode(ServiceStatus, heard[topic]).state == "online"

    waiting = [(running, open_pages(running))]
    for text in (clock.now().astimezone().date().isoformat(), day.date().isoformat()):
        for _ in range(3):
            running.get(f"/day/{text}")
            running.get(f"/day/{text}.json")
            running.get(f"/day/{text}.csv")
    process = psutil.Process(running.process.pid)
    assert "-OO" in process.cmdline()

    def light() -> bool:
        return process.memory_full_info().uss / 2**20 <= OWN_MIB

    eventually(light, why="what a day needed is given back")

    def stops() -> float:
        """With five pages open."""
        if not waiting:
            again = portal(database.url)
            waiting.append((again, open_pages(again)))
        one, streams = waiting.pop()
        status, seconds, said = one.stop()
        assert status == 0, said
        assert "Traceback" not in said
        for stream in streams:
            stream.settimeout(30)
            while stream.recv(65536):
                pass
            stream.close()
        return seconds

    assert quickest(stops, 1.9, tries=4) < 2
    eventually(lambda: decode(ServiceStatus, heard[topic]).state == "offline")


def test_what_is_imported_is_light(site_file) -> None:
    code = (
        "import sys, threading, waitress, sunmesh.service as service\n"
        "import web.verbs as portal\n"
        "service.run = lambda *a: print(*sys.modules) or 0\n"
        "sys.exit(portal.entry(['run', '--config', sys.argv[1]]))"
    )
    site = site_file("[web]\nport = 0\n")
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "web.board" in loaded
    assert not FORBIDDEN & loaded
    assert not any(name.split(".")[0] in FORBIDDEN for name in loaded)


def test_pages_that_leave_give_their_streams_back(portal, eventually) -> None:
    running = portal()
    host, port = running.url[7:].split(":")
    for _ in range(2):
        pages: list[socket.socket] = []

        def opened(pages: list[socket.socket] = pages) -> bool:
            """The streams of pages that have gone are free within a second or so."""
            page = socket.create_connection((host, int(port)))
            page.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            is_open = page.recv(12) == b"HTTP/1.1 200"
            if is_open:
                pages.append(page)
            else:
                page.close()
            return is_open

        for _ in range(13):
            eventually(opened, why="a stream is free again")
        with socket.create_connection((host, int(port))) as one_more:
            one_more.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one_more.recv(12) == b"HTTP/1.1 503"
        assert running.get("/now.json")
        for page in pages:
            page.close()


def settled(url: str, host: str = "127.0.0.1", **headers: str) -> str:
    """The page of the first visit, asked for with these headers."""
    asked = urllib.request.Request(url + "/setup", headers={"Host": host, **headers})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return answer.read().decode()


def test_what_a_proxy_says_reaches_the_guard(portal, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    running = portal(url)
    assert 'name="password"' in settled(running.url)
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        page = settled(running.url, **{name: "192.168.1.20"})
        assert 'name="password"' not in page
        assert "a proxy at 127.0.0.1 stands between" in page
    assert "by its IP address" in settled(running.url, "rebound.example")


def test_a_forgotten_password_is_set_on_the_machine_itself(site_file, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/house.db"
    site = site_file(f'[database]\nurl = "{url}"\n')
    command = [WEB[0], "password", "Anna", "--config", str(site)]

    def ask(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)

    missing = ask("the sun also rises\n")
    assert missing.returncode == 1
    assert missing.stderr.startswith("web: there is no database")
    migrated(url)
    assert "at least 8 characters" in ask("short\n").stderr
    assert ask("the sun also rises\n").stdout == "anna is a new admin\n"
    assert "anna has another password" in ask("and it sets as well\n").stdout
    people = Accounts(url)
    assert people.visitor(people.log_in("anna", "and it sets as well", "::1")).role == "admin"
    people.close()


def run(site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WEB, str(site)], capture_output=True, text=True, timeout=60)


def test_a_port_in_use_is_one_line(site_file) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run(site_file(f"[web]\nport = {port}\n"))
    assert done.returncode == 2
    assert re.fullmatch(
        rf".*site\.toml: web\.port: 127\.0\.0\.1:{port} is in use by another program; "
        r"choose another port\n",
        done.stderr.splitlines(keepends=True)[-1],
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("[web]\nprot = 1\n", r"web\.prot: is not known.*port"),
        ('[web]\nhost = "198.51.100.1"\n', r"web\.host: cannot listen on 198\.51\.100\.1:8080"),
        ("[web]\nthreads = 1\n", r"web\.threads: must be 2 to 200"),
    ],
)
def test_a_wrong_setting_is_one_line(site_file, rest: str, reason: str) -> None:
    done = run(site_file(rest))
    assert done.returncode == 2
    assert re.search(reason, done.stderr)
    assert len(done.stderr.splitlines()) == 1
