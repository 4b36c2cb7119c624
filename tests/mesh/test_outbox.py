"""Alarms through a real broker and a real notifier to an emulated phone, whatever happens."""

import json
import subprocess
import time

import pytest
from sunmesh.messages import Ack, Delivery, Result, decode
from sunmesh.topics import parse

from .outbox_matrix import SCRIPTS, House, run

pytestmark = pytest.mark.mesh


@pytest.fixture
def home(tmp_path):
    """Starts houses, and leaves none behind."""
    made = []

    def start(**options):
        made.append(House(tmp_path, **options))
        made[-1].start()
        made[-1].await_session()
        return made[-1]

    yield start
    for house in made:
        house.__exit__()


def hear(house, pattern, kind):
    found = []
    house.mesh.subscribe(
        pattern, lambda m: m.payload and found.append((parse(m.topic), decode(kind, m.payload)))
    )
    return found


def notifier(house, *words):
    return subprocess.run(
        [SCRIPTS / "notifier", *words, "--config", house.site],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_killed_again_and_again_with_a_failing_provider_each_change_arrives_once(tmp_path):
    found = run(seed=7, rounds=5, folder=tmp_path)
    assert (found["lost"], found["twice"], found["invented"]) == ([], [], [])
    assert found["wrong_answers"] > 0


def test_a_provider_that_is_down_and_a_broker_that_is_restarted(home, eventually):
    house = home()
    house.provider.is_down = True
    house.publish("one", "raised")
    eventually(lambda: "Connection reset" in house.said, why="the provider is asked")
    house.kill()
    house.publish("two", "raised")
    house.publish("two", "cleared")
    house.restart_broker()
    house.start()
    house.publish("three", "raised")
    house.provider.is_down = False
    wanted = {("one", False): 1, ("two", False): 1, ("two", True): 1, ("three", False): 1}
    eventually(lambda: house.told() == wanted, 60, f"{house.told()}")


def test_a_broker_that_was_killed_brings_what_is_retained_and_nothing_twice(home, eventually):
    house = home()
    house.publish("one", "raised")
    eventually(lambda: house.told(), 60)
    time.sleep(1.5)  # the broker saves every second here
    house.broker.kill()
    house.broker.start()
    assert house.mesh.wait_connected(60)
    house.publish("two", "raised")
    eventually(lambda: ("two", False) in house.told(), 60)
    assert house.told() == {("one", False): 1, ("two", False): 1}


def test_429_and_its_pause(home, eventually):
    house = home()
    house.provider.retry_after = 2.0
    house.provider.script.extend(["429", "429"])
    house.publish("one", "raised")
    eventually(lambda: house.told(), 60)
    assert house.told() == {("one", False): 1}
    assert house.provider.asked == ["429", "429", "ok"]


def test_an_emergency_is_acknowledged_on_the_phone(home, eventually):
    house = home()
    acks = hear(house, house.mesh.topics.every("alarm_ack"), Ack)
    deliveries = hear(house, house.mesh.topics.every("alarm_delivery"), Delivery)
    house.publish("bms", "raised", "critical")
    eventually(lambda: house.provider.letters, 60)
    assert house.provider.acknowledge(house.provider.letters[0].receipt)
    eventually(lambda: acks, 60, "the receipt is asked for every 5.5 s")
    assert acks[0][0].device == "bms"
    assert acks[0][1].id == "id-bms"
    eventually(lambda: deliveries[-1][1].targets["anna"].state == "acknowledged")


def test_an_emergency_that_is_over_first_is_cancelled(home, eventually):
    house = home()
    house.publish("bms", "raised", "critical")
    eventually(lambda: house.provider.letters, 60)
    assert house.provider.letters[0].rings
    house.publish("bms", "cleared", "critical")
    eventually(lambda: house.provider.letters[0].state == "cancelled", 60)


def bad_payloads():
    good = {
        "id": "x",
        "state": "raised",
        "severity": "warning",
        "title": "t",
        "text": "t",
        "ts": "2026-11-21T12:00:00Z",
    }
    yield b"{"
    yield b"\xff\xfe\x00"
    yield b"[" * 40_000
    yield b"null"
    yield b"{}"
    yield json.dumps(good | {"severity": "apocalyptic"}).encode()
    yield json.dumps(good | {"state": "maybe"}).encode()
    yield json.dumps(good | {"ts": "yesterday"}).encode()
    yield json.dumps(good | {"ts": "0001-01-01T00:00:00+23:59"}).encode()
    yield json.dumps(good | {"text": "y" * 70_000}).encode()


def test_bad_payloads_are_counted_and_stop_nothing(home, eventually):
    house = home()
    topics = house.mesh.topics
    for payload in bad_payloads():
        house.mesh.publish(topics.alarm("bad", "matrix"), payload)
        house.mesh.publish(topics.alarm_ack("bad", "matrix"), payload)
    house.mesh.publish(f"{topics.root}/alarms/BAD/{'c' * 99}", b"{}")
    text = "<b>{device}</b>\x1b[2J\x00 {0.__class__} " + "z" * 60_000
    alarm = {
        "id": "y" * 5000,
        "state": "raised",
        "severity": "warning",
        "title": text[:30_000],
        "text": text[:30_000],
        "ts": "2026-11-21T12:00:00Z",
    }
    house.mesh.publish(topics.alarm("odd", "matrix"), json.dumps(alarm).encode())
    house.publish("good", "raised")
    eventually(lambda: ("good", False) in house.told(), 60, house.said)

    def odds():
        return [each for each in house.provider.letters if "{device}" in each.fields["title"]]

    eventually(odds, 60, "the odd one is told as well")
    [odd] = odds()
    for text in (odd.fields["title"], odd.fields["message"]):
        assert "<b>{device}</b>[2J {0.__class__}" in text
        assert len(text) <= 1024
    assert house.said.count("WARNING") == 1, house.said


def test_a_second_notifier_says_so_and_waits(home, eventually):
    house = home()
    first = house.process
    house.start()
    eventually(lambda: "another notifier (process" in house.said, 60)
    house.publish("one", "raised")
    eventually(lambda: house.told(), 60)
    second, house.process = house.process, first
    house.kill()
    house.process = second
    house.publish("two", "raised")
    eventually(lambda: ("two", False) in house.told(), 60, "the second has taken over")
    assert set(house.told().values()) == {1}


def test_notifier_test_goes_the_whole_way(home, eventually):
    house = home(settings='portal = "http://house.lan:8080"')
    done = notifier(house, "test")
    assert done.returncode == 0, done.stdout + house.said
    assert "anna             pushover   sent" in done.stdout
    assert "raised sunmesh/matrix/alarms/notifier/test as warning" in done.stdout
    eventually(lambda: len(house.provider.letters) == 2, 60)
    assert house.provider.letters[0].fields["url"] == "http://house.lan:8080/alarms"
    house.provider.users = frozenset({"nobody"})
    done = notifier(house, "test", "--wait", "20")
    assert done.returncode == 1
    assert "user identifier is invalid" in done.stdout
    listed = notifier(house, "outbox").stdout
    assert "notifier/test" in listed
    assert "failed" in listed
    assert "to anna" in notifier(house, "outbox", "--history").stdout
    house.kill()
    eventually(lambda: "no notifier is at work" in notifier(house, "test").stdout, 60)


def test_the_portal_asks_for_a_test(home, eventually):
    house = home()
    topics = house.mesh.topics
    results = hear(house, topics.result("notifier"), Result)
    house.mesh.publish(topics.command("notifier"), b'{"name":"test","by":"web:anna <b>"}')
    eventually(lambda: results, 60)
    assert results[0][1].stage == "applied"
    eventually(lambda: house.provider.letters, 60)
    assert "a test of the notifications" in house.provider.letters[0].fields["title"].lower()
    house.mesh.publish(topics.command("notifier"), b'{"name":"launch"}')
    eventually(lambda: len(results) == 2, 60)
    assert results[1][1].stage == "refused"


def test_the_page_shows_what_the_phone_got_and_has_a_button(home, eventually):
    import urllib.request

    house = home()
    house.publish("bms", "raised", "critical")
    eventually(lambda: house.provider.letters, 60)
    with urllib.request.urlopen(house.phone.url, timeout=10) as page:
        text = page.read().decode()
    assert "CRITICAL: bms" in text
    receipt = house.provider.letters[0].receipt
    request = urllib.request.Request(f"{house.phone.url}/phone/acknowledge/{receipt}", b"")
    urllib.request.urlopen(request, timeout=10).close()
    assert house.provider.letters[0].state == "acknowledged"
