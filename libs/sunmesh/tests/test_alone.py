"""A second one of a service, on this machine or on another."""

import os
import subprocess
import sys
import threading

import pytest
from sunmesh.alone import Place, wait_alone
from sunmesh.config import load
from sunmesh.messages import Health, ServiceStatus, encode

TS = "2026-11-21T12:00:00.000Z"


def online(host, state="online"):
    return encode(ServiceStatus(state, "0", host, TS))


def waiting(site, **options):
    stop, done = threading.Event(), []
    thread = threading.Thread(
        target=lambda: done.append(wait_alone(site, "notifier", "here", stop, **options)),
        daemon=True,
    )
    thread.start()
    return stop, done, thread


def test_one_place_for_one(tmp_path, caplog):
    first, second = (Place(tmp_path, "notifier") for _ in range(2))
    assert first.take(threading.Event())
    stop = threading.Event()
    stop.set()
    assert not second.take(stop)
    assert "another notifier (process" in caplog.text
    first.leave()
    third = Place(tmp_path, "notifier")
    assert third.take(threading.Event())
    third.leave()


HOLDER = """
import sys, threading, time
from pathlib import Path
from sunmesh.alone import Place
place = Place(Path(sys.argv[1]), "notifier")
place.take(threading.Event())
print("mine", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has the place."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"mine\n"
        yield process
        process.kill()


def test_it_takes_over_when_the_first_is_killed(holder, tmp_path, caplog, eventually):
    second, stop, done = Place(tmp_path, "notifier"), threading.Event(), []
    thread = threading.Thread(target=lambda: done.append(second.take(stop)), daemon=True)
    thread.start()
    eventually(lambda: f"(process {holder.pid}) has" in caplog.text, 30)
    assert done == []
    holder.kill()
    eventually(lambda: done == [True], 30)
    assert (tmp_path / "notifier.lock").read_text() == f"{os.getpid()}\n"
    assert caplog.text.count("another notifier") == 1, "said once"
    second.leave()


def test_it_waits_for_one_on_another_machine_until_that_ends(site_file, mesh, eventually, caplog):
    site = load(site_file(""), "notifier", environ={})
    other = mesh("other")
    topic = site.topics.service_status("notifier")
    other.publish(topic, online("elsewhere"), retain=True)
    eventually(lambda: other.counters["published"] == 1)
    _stop, done, _thread = waiting(site)
    eventually(lambda: "another notifier works on elsewhere" in caplog.text)
    assert done == []
    other.publish(topic, online("elsewhere", "offline"), retain=True)
    eventually(lambda: done == [True])


def test_a_dead_one_whose_will_was_lost_is_waited_for_a_while_only(site_file, mesh, eventually):
    site = load(site_file(""), "notifier", environ={})
    other = mesh("other")
    other.publish(site.topics.service_status("notifier"), online("elsewhere"), retain=True)
    health = site.topics.service_health("notifier")
    other.publish(health, encode(Health(TS, {})), retain=True)
    eventually(lambda: other.counters["published"] == 2)
    _stop, done, _thread = waiting(site, silent_s=0.5)
    eventually(lambda: done == [True])


def test_who_is_stopped_while_waiting_ends(site_file, mesh, eventually):
    site = load(site_file(""), "notifier", environ={})
    other = mesh("other")
    other.publish(site.topics.service_status("notifier"), online("elsewhere"), retain=True)
    eventually(lambda: other.counters["published"] == 1)
    stop, done, thread = waiting(site)
    stop.set()
    thread.join(30)
    assert done == [False]
