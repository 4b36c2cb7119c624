import json
import signal
import subprocess
import sys
import time

import pytest
from sunmesh.testing import quickest

SERVICE = """
import logging
import sys
from pathlib import Path
from sunmesh import config, service
from sunmesh.mqtt import Mesh

def entry():
    service.setup_logging()
    site = config.load(Path(sys.argv[1]))
    mesh = Mesh(site.broker, site.topics, "example")
    def work(stop):
        if sys.argv[2:] == ["fail"]:
            raise RuntimeError("broken")
        if sys.argv[2:] == ["chatty"]:
            logger = logging.getLogger("example")
            logger.debug("nobody's business")
            for number in range(60):
                logger.warning("said %d", number)
            logger.info("x" * 9999)
            try:
                raise ValueError("wires")
            except ValueError:
                logger.exception("broken")
        stop.wait()
    return service.run("example", "1.2.3", mesh, work, lambda: {"polls": 7})

service.main(entry)
"""


@pytest.fixture
def start(tmp_path):
    running = []

    def start(path, *more):
        script = tmp_path / "example.py"
        script.write_text(SERVICE)
        process = subprocess.Popen(
            [sys.executable, str(script), str(path), *more], stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def states(mesh, topics):
    heard = []
    mesh("listener").subscribe(
        topics.service_status("example"), lambda m: heard.append(json.loads(m.payload)["state"])
    )
    return heard


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_says_online_and_offline_and_stops_in_two_seconds(
    start, site_file, states, eventually, number
):
    def stops():
        states.clear()
        process = start(site_file(""))
        eventually(lambda: states == ["online"])
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == 0
        seconds = time.monotonic() - began
        eventually(lambda: states == ["online", "offline"])
        return seconds

    assert quickest(stops, 1.9, tries=3) < 2


def test_a_killed_service_leaves_its_last_will(start, site_file, states, eventually):
    process = start(site_file(""))
    eventually(lambda: states == ["online"])
    process.kill()
    eventually(lambda: states == ["online", "offline"])


def test_health_carries_the_counters(start, site_file, mesh, topics, eventually):
    heard = []
    mesh("listener").subscribe(topics.service_health("example"), heard.append)
    start(site_file(""))
    eventually(lambda: heard)
    counters = json.loads(heard[0].payload)["counters"]
    assert counters["polls"] == 7
    assert counters["rss_bytes"] > 1_000_000
    assert counters["mqtt_connects"] == 1


def test_the_last_lines_of_its_log_are_told(start, site_file, mesh, topics, eventually):
    heard = []
    mesh("listener").subscribe(
        topics.service_log("example"), lambda m: heard.append(json.loads(m.payload)["lines"])
    )
    process = start(site_file(""), "chatty")
    eventually(lambda: heard and any(line["text"] == "said 59" for line in heard[-1]))
    assert len(heard[-1]) == 50
    line = next(line for line in heard[-1] if line["text"] == "said 59")
    assert (line["level"], line["name"]) == ("WARNING", "example")
    assert any(line["text"] == "broken: ValueError('wires')" for line in heard[-1])
    assert max(len(line["text"]) for line in heard[-1]) <= 500
    told = len(heard)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    eventually(lambda: len(heard) > told)
    assert heard[-1][-1]["text"] == "SIGTERM: stopping"


def test_a_stop_without_a_broker_is_as_quick(start, tmp_path, free_port):
    path = tmp_path / "site.toml"
    path.write_text(f"[broker]\nport = {free_port}\n")

    def stops():
        process = start(path)
        assert "no broker" in "".join(process.stderr.readline() for _ in range(2))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        return time.monotonic() - began

    assert quickest(stops, 1.9, tries=3) < 2


def test_work_that_fails_ends_with_status_1(start, site_file):
    assert start(site_file(""), "fail").wait(10) == 1


def test_a_wrong_configuration_ends_with_status_2_and_one_line(start, tmp_path):
    path = tmp_path / "site.toml"
    path.write_text("[sit]\n")
    process = start(path)
    assert process.wait(30) == 2
    assert process.stderr.read().splitlines() == [f"{path}: [sit] is not known; did you mean site?"]


WORST_MOMENT = """
import signal
from sunmesh import service

stop = service.stop_event()
with stop._cond:  # the main thread is just about to wait
    signal.raise_signal(signal.SIGTERM)
print(stop.wait(20))
"""


def test_a_signal_may_come_at_the_worst_moment():
    ended = subprocess.run(
        [sys.executable, "-c", WORST_MOMENT], capture_output=True, text=True, timeout=30
    )
    assert ended.stdout == "True\n"
