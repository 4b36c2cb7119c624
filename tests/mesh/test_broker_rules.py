"""mosquitto/: the shipped configuration, passwords and rules, each line proved by a round trip.

A subscription that the rules forbid is granted by Mosquitto and then never served, so what counts
is only what arrives.
"""

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from sunmesh.config import BrokerSection
from sunmesh.mqtt import Mesh
from sunmesh.testing import Server, find_free_port, find_program
from sunmesh.topics import Topics

ROOT = Path(__file__).parents[2]
USERS = [
    line.removeprefix("user ")
    for line in (ROOT / "mosquitto/acl").read_text().splitlines()
    if line.startswith("user ")
]
COLLECTORS = [user for user in USERS if user.startswith("collector-")]
TOPICS = Topics("home")
SENTINEL = "sunmesh/home/sentinel"

SAMPLE = {
    "telemetry": TOPICS.telemetry("inverter"),
    "info": TOPICS.info("inverter"),
    "settings": TOPICS.settings("inverter"),
    "device status": TOPICS.status("inverter"),
    "command": TOPICS.command("inverter"),
    "controller's command": TOPICS.command("controller"),
    "controller's settings": TOPICS.settings("controller"),
    "notifier's command": TOPICS.command("notifier"),
    "notifier's result": TOPICS.result("notifier"),
    "result": TOPICS.result("inverter"),
    "trace": TOPICS.trace("inverter"),
    "frames": TOPICS.frames("inverter"),
    "alarm": TOPICS.alarm("inverter", "overload"),
    "recorder's alarm": TOPICS.alarm("recorder", "spool_full"),
    "notifier's alarm": TOPICS.alarm("notifier", "test"),
    "ack": TOPICS.alarm_ack("inverter", "overload"),
    "delivery": TOPICS.alarm_delivery("inverter", "overload"),
    "decision": TOPICS.decision("storm"),
    "rules": TOPICS.rules("book"),
    "world": TOPICS.sim("world"),
    "emulator": TOPICS.sim("inverter/settings"),
    "mbmd": "mbmd/sdm1-1/Power",
}
OWN = {"own status", "own health", "own log"}
ALARMS = {"alarm", "recorder's alarm", "notifier's alarm"}
COMMANDS = {"command", "controller's command", "notifier's command"}
RESULTS = {"result", "notifier's result"}
SETTINGS = {"settings", "controller's settings"}
DEVICE = {"telemetry", "info", "device status"} | RESULTS | SETTINGS | ALARMS
SIMULATED = {"world", "emulator"}
KEPT = set(SAMPLE) - SIMULATED - {"mbmd", "rules", "trace", "frames"}
WRITES = {
    **dict.fromkeys(COLLECTORS, DEVICE | {"emulator", "frames"}),
    "group": DEVICE - SETTINGS - RESULTS,
    "grid-relay": DEVICE - SETTINGS,
    "controller": COMMANDS | ALARMS | {"decision", "rules", "controller's settings"},
    "recorder": {"recorder's alarm"},
    "bookkeeper": set(),
    "watch": ALARMS,
    "notifier": {"notifier's alarm", "notifier's result", "ack", "delivery"},
    "web": COMMANDS | {"ack", "trace"},
    "simulator": SIMULATED,
    "home-assistant": COMMANDS,
    "mbmd": {"mbmd"},
    "healthcheck": set(),
}
READS = {
    **dict.fromkeys(COLLECTORS, SIMULATED | COMMANDS | ALARMS | {"trace"}),
    "collector-meter": SIMULATED | COMMANDS | ALARMS | {"trace", "mbmd"},
    "group": {"telemetry", "device status"} | ALARMS,
    "grid-relay": COMMANDS | ALARMS | {"telemetry"},
    "controller": DEVICE | {"controller's command", "decision", "own status"},
    "recorder": KEPT | OWN,
    "bookkeeper": set(),
    "watch": DEVICE | OWN,
    "notifier": ALARMS | OWN | {"ack", "delivery", "notifier's command"},
    "web": KEPT - COMMANDS | OWN | {"rules", "frames"},
    "simulator": SIMULATED,
    "home-assistant": DEVICE | {"ack", "delivery"} | OWN,
    "mbmd": set(),
    "healthcheck": set(),
}


def make_passwords(folder):
    subprocess.run(
        [ROOT / "mosquitto/make-passwords", folder / "secrets", folder / "broker"],
        env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
        check=True,
    )


def passwords(folder):
    return {p.name: p.read_text().strip() for p in (folder / "secrets").iterdir() if p.is_file()}


class House:
    """A broker as shipped; only its paths and its port are a test's."""

    def __init__(self, folder):
        self.folder = folder
        make_passwords(folder)
        # Who may do everything: it alone can make a round trip of every topic.
        with (folder / "broker/acl").open("a") as acl:
            acl.write("\nuser omnipotent\ntopic readwrite #\n")
        omnipotent = folder / "omnipotent"
        omnipotent.write_text("omnipotent:all\n")
        subprocess.run([find_program("mosquitto_passwd"), "-U", omnipotent], check=True)
        with (folder / "broker/passwords").open("a") as hashes:
            hashes.write(omnipotent.read_text())
        port = find_free_port()
        (folder / "data").mkdir()
        conf = (ROOT / "mosquitto/mosquitto.conf").read_text()
        for shipped, ours in {
            "listener 1883": f"listener {port} 127.0.0.1",
            "/mosquitto/auth/": f"{folder}/broker/",
            "/mosquitto/data/": f"{folder}/data/",
        }.items():
            assert shipped in conf
            conf = conf.replace(shipped, ours)
        if os.geteuid() == 0:
            conf += "\nuser root\n"
        (folder / "mosquitto.conf").write_text(conf)
        command = [find_program("mosquitto"), "-c", str(folder / "mosquitto.conf")]
        self.server = Server(command, port, folder / "log")
        self.passwords = passwords(folder) | {"omnipotent": "all"}

    def client(self, user, password=None):
        password = self.passwords.get(user) if password is None else password
        where = BrokerSection(port=self.server.port, user=user, password=password)
        return Mesh(where, TOPICS, user)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("house"))
    house.server.start()
    yield house
    house.server.stop()


@pytest.fixture
def connect(house):
    made = []

    def connect(user):
        client = house.client(user)
        made.append(client)
        client.start()
        assert client.wait_connected(30), user
        return client

    yield connect
    for client in made:
        client.stop()


def listen(client):
    """Collect what ``client`` gets, once its subscription stands."""
    got = []
    client.subscribe("#", got.append)
    client.subscribe("$SYS/broker/#", got.append)
    # The broker answers in order: what comes after this round trip finds the subscription there.
    done = threading.Event()
    client._client.on_subscribe = lambda *_: done.set()
    client.subscribe("sunmesh/none", got.append)
    assert done.wait(30)
    return got


def own(user):
    return {
        "own status": TOPICS.service_status(user),
        "own health": TOPICS.service_health(user),
        "own log": TOPICS.service_log(user),
    }


@pytest.mark.parametrize("user", WRITES)
def test_a_user_writes_its_own_topics_and_no_other(user, connect, eventually):
    witness, client = connect("omnipotent"), connect(user)
    got = listen(witness)
    before = witness.counters["received"]
    foreign = {f"{name} of another": topic for name, topic in own("somebody-else").items()}
    every = SAMPLE | own(user) | foreign
    for topic in every.values():
        client.publish(topic, b"x")
    allowed = WRITES[user] | OWN
    eventually(
        lambda: client.counters["published"] + client.counters["refused"] == len(every),
        5,
        "each publish is answered",
    )
    eventually(lambda: witness.counters["received"] - before >= len(allowed), why="they arrive")
    witness.publish(SENTINEL, b"end")
    eventually(lambda: any(m.topic == SENTINEL for m in got), why="the last one")
    names = {topic: name for name, topic in every.items()}
    assert {names[m.topic] for m in got if m.topic in names} == allowed
    assert client.counters["refused"] == len(every) - len(allowed)


@pytest.mark.parametrize("user", READS)
def test_a_user_reads_what_it_may_and_nothing_else(user, connect, eventually):
    publisher, client = connect("omnipotent"), connect(user)
    got = listen(client)
    every = SAMPLE | own("somebody")
    for topic in every.values():
        publisher.publish(topic, b"x")
    eventually(lambda: publisher.counters["published"] == len(every), why="the broker has them")
    # A publish that the broker answers after it has sent this client everything from before.
    client.publish(own(user)["own status"], b"x")
    eventually(lambda: client.counters["published"] == 1, why="round trip")
    names = {topic: name for name, topic in every.items()}
    assert {names[m.topic] for m in got if m.topic in names} == READS[user]


def test_the_recorder_sees_dropped_messages_and_the_health_check_the_uptime(connect, eventually):
    seen = {}
    for user in ("recorder", "healthcheck", "web"):
        seen[user] = set()
        connect(user).subscribe("$SYS/#", lambda m, user=user: seen[user].add(m.topic))
    eventually(lambda: seen["recorder"] and seen["healthcheck"], why="$SYS comes")
    assert seen["recorder"] == {"$SYS/broker/publish/messages/dropped"}
    assert seen["healthcheck"] == {"$SYS/broker/uptime"}
    assert seen["web"] == set()


@pytest.mark.parametrize(
    ("user", "password"), [("web", "wrong"), ("nobody", "x"), ("web", ""), ("", "")]
)
def test_without_the_password_nobody_comes_in(house, user, password):
    client = house.client(user or "web", password)
    if not user:
        client._client.username_pw_set(None)
    client.start()
    assert not client.wait_connected(0.5)
    client.stop()


def test_a_message_beyond_the_limit_is_not_taken(connect, eventually):
    witness, client = connect("omnipotent"), connect("collector-axpert")
    got = listen(witness)
    client.publish(SAMPLE["telemetry"], b"y" * 1_000_000)
    eventually(lambda: client.counters["dropped"] or client.counters["connects"] > 1, why="refused")
    assert not [m for m in got if len(m.payload) > 200_000]


def test_passwords_are_made_once_and_for_their_owner_only(tmp_path):
    make_passwords(tmp_path)
    first = passwords(tmp_path)
    assert sorted(first) == sorted(USERS) == sorted(WRITES) == sorted(READS)
    assert all(len(password) >= 32 for password in first.values())
    assert len(set(first.values())) == len(USERS)
    hashes = (tmp_path / "broker/passwords").read_text()
    assert not any(password in hashes for password in first.values())
    for path in [*(tmp_path / "secrets").iterdir(), *(tmp_path / "broker").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path

    make_passwords(tmp_path)
    assert passwords(tmp_path) == first
    assert (tmp_path / "broker/passwords").read_text() == hashes

    (tmp_path / "secrets/web").unlink()
    make_passwords(tmp_path)
    second = passwords(tmp_path)
    assert second.pop("web") != first.pop("web")
    assert second == first
    lines = (tmp_path / "broker/passwords").read_text().splitlines()
    assert sorted(line.split(":")[0] for line in lines) == sorted(USERS)
