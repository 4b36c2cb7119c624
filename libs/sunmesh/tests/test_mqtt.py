import socket
import struct
import subprocess
import sys
import threading
import time

import msgspec
import pytest
from sunmesh.config import BrokerSection
from sunmesh.mqtt import Mesh, Message
from sunmesh.testing import LEAST_S, Broker, find_free_port


@pytest.fixture
def heard():
    """A list that fills, to be handed to ``subscribe`` as ``heard.append``."""
    return []


def test_a_handler_that_fails_kills_nothing(mesh, topics, heard, eventually):
    reader = mesh("reader")

    def fail(message: Message) -> None:
        raise RuntimeError("a bug in a handler")

    reader.subscribe(topics.every("telemetry"), fail)
    reader.subscribe(topics.every("telemetry"), heard.append)
    writer = mesh("writer")
    writer.publish(topics.telemetry("x"), b"1")
    eventually(lambda: heard)
    before = len(heard)
    writer.publish(topics.telemetry("x"), b"2")
    eventually(lambda: len(heard) > before, why="the second message arrives after the failure")
    assert reader.counters["handler_errors"] >= 2
    assert reader.connected


def test_subscriptions_and_waiting_messages_survive_a_broker_restart(
    mesh, topics, broker, heard, eventually
):
    reader, writer = mesh("reader", session_expiry_s=60), mesh("writer")
    reader.subscribe(topics.every("telemetry"), heard.append)
    writer.publish(topics.telemetry("x"), b"ready")
    eventually(lambda: heard)
    writer.drain(30)
    heard.clear()
    broker.stop()
    eventually(lambda: not reader.connected and not writer.connected)
    for number in range(300):  # ten minutes of samples, one every 2 s
        assert writer.publish(topics.telemetry("x"), b"%d" % number)
    broker.start()
    eventually(lambda: len({message.payload for message in heard}) >= 300)
    assert {int(m.payload) for m in heard if m.payload != b"ready"} == set(range(300))


def test_a_broker_that_is_not_there_yet_is_waited_for(topics, tmp_path, heard, eventually):
    from sunmesh.testing import Broker

    late = Broker(tmp_path)
    client = Mesh(late.config, topics, "early")
    client.subscribe(topics.every("status"), heard.append)
    client.start()
    client.publish(topics.status("x"), b"waiting", retain=True)
    assert not client.publish(topics.status("x"), b"lost", qos=0)
    assert client.counters["dropped"] == 1
    late.start()
    try:
        eventually(lambda: heard)
        assert heard[0].payload == b"waiting"
    finally:
        client.stop()
        late.stop()


def test_a_session_keeps_what_comes_while_its_reader_is_away(mesh, topics, heard, eventually):
    options = {"session_expiry_s": 60, "manual_ack": True}
    reader = mesh("recorder", **options)
    reader.subscribe(topics.every("telemetry"), heard.append)
    writer = mesh("writer")
    writer.publish(topics.telemetry("x"), b"first")
    eventually(lambda: heard)
    reader.ack(heard[0])
    reader.stop()
    for number in range(50):
        writer.publish(topics.telemetry("x"), b"%d" % number)
    assert writer.drain(30)
    heard.clear()
    again = Mesh(reader.broker, topics, "recorder", **options)
    again.subscribe(topics.every("telemetry"), heard.append)
    again.start()
    eventually(lambda: {b"%d" % n for n in range(50)} <= {m.payload for m in heard})
    heard.clear()
    again.reconnect()
    eventually(lambda: len(heard) >= 50, why="what was not acknowledged comes again")
    for message in heard:
        again.ack(message)
    # The broker reads a connection in order: what it has answered comes after what it was told.
    again.publish(topics.status("x"), b"after the acknowledgements")
    assert again.drain(30)
    heard.clear()
    again.reconnect()
    writer.publish(topics.telemetry("x"), b"last")
    eventually(lambda: b"last" in {m.payload for m in heard})
    assert [m.payload for m in heard] == [b"last"], "what was acknowledged does not"
    again.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_both_protocols_carry_a_message(broker, topics, protocol, heard, eventually):
    section = BrokerSection("127.0.0.1", broker.port, protocol)
    client = Mesh(section, topics, f"p{protocol[0]}")
    client.subscribe(topics.every("info"), heard.append)
    client.start()
    client.publish(topics.info("x"), b"hello", retain=True, expiry_s=60)
    eventually(lambda: heard and heard[0].payload == b"hello")
    client.stop()


def test_the_loss_of_the_broker_is_said_once(topics, caplog, eventually):
    client = Mesh(BrokerSection(port=find_free_port()), topics, "lonely")
    client._client.reconnect_delay_set(0.1, 0.1)
    attempts = []
    failed = client._client.on_connect_fail
    client._client.on_connect_fail = lambda *told: (attempts.append(told), failed(*told))
    with caplog.at_level("WARNING"):
        client.start()
        eventually(lambda: len(attempts) >= 3)
        started = time.monotonic()
        client.stop()
    assert time.monotonic() - started < LEAST_S
    assert len([r for r in caplog.records if "no broker at" in r.message]) == 1


def test_threads_end_with_the_client(mesh):
    before = threading.active_count()
    client = mesh("short")
    client.stop()
    assert threading.active_count() <= before + 1


def test_a_read_that_finds_nothing_does_not_kill_the_network_thread():
    """In a process of its own: this one has loaded ``ssl`` long ago."""
    program = """
import socket, sys
from sunmesh.config import BrokerSection
from sunmesh.mqtt import Mesh
from sunmesh.topics import Topics
assert "ssl" not in sys.modules
client = Mesh(BrokerSection(), Topics("home"), "quiet")._client
near, far = socket.socketpair()
near.setblocking(False)
client._sock = near
try:
    client._sock_recv(1)
except BlockingIOError:
    print("nothing yet")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "nothing yet\n", done.stderr


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_many_are_acknowledged_at_once(broker, topics, mesh, heard, eventually, protocol):
    config = msgspec.structs.replace(broker.config, protocol=protocol)
    publisher = mesh("publisher")
    topic = topics.telemetry("a")

    def connect() -> Mesh:
        reader = Mesh(config, topics, "reader", session_expiry_s=60, manual_ack=True)
        reader.subscribe(topic, heard.append)
        reader.start()
        assert reader.wait_connected(5)
        return reader

    reader = connect()
    publisher.publish(topic, b"first", retain=True)  # the subscription may be a moment behind
    eventually(lambda: heard)
    for n in range(100):
        publisher.publish(topic, b"%d" % n)
    eventually(lambda: len(heard) == 101)
    reader.ack_all([])
    reader.ack_all([message.mid for message in heard[:61]])
    assert reader.drain(5)
    time.sleep(0.2)
    del heard[:]
    reader.reconnect()  # what was acknowledged does not come again, but for what is retained
    eventually(
        lambda: [m.payload for m in heard if not m.retain] == [b"%d" % n for n in range(60, 100)]
    )
    reader.ack_all([message.mid for message in heard])
    time.sleep(0.2)
    reader.stop()
    del heard[:]
    publisher.publish(topic, b"last")
    reader = connect()
    eventually(lambda: [m.payload for m in heard if not m.retain] == [b"last"])
    reader.stop()


def test_why_a_connection_was_lost(mesh, eventually):
    lost = []
    mesh("same").on_lost(lost.append)
    mesh("same")
    eventually(lambda: lost)
    assert isinstance(lost[0], str)


def test_what_a_killed_broker_had_sent_is_read_first(topics, tmp_path, eventually):
    """The senders have their acknowledgements, and the broker has forgotten it all."""
    broker = Broker(tmp_path)
    broker.start()
    reader = Mesh(broker.config, topics, "reader", session_expiry_s=600, manual_ack=True)
    subscribed, busy, go_on = threading.Event(), threading.Event(), threading.Event()
    got = []

    def hear(message):
        if len(got) == 1:
            busy.set()
            go_on.wait(10)
        got.append(message.payload)
        reader.ack(message)

    reader.subscribe(topics.every("telemetry"), hear)
    reader._client.on_subscribe = lambda *_: subscribed.set()
    reader.start()
    sender = Mesh(broker.config, topics, "sender")
    sender.start()
    try:
        assert subscribed.wait(30)
        assert sender.wait_connected(30)
        sent = [b"%d" % number for number in range(200)]
        for payload in sent[:2]:
            sender.publish(topics.telemetry("x"), payload)
        assert busy.wait(30)
        for payload in sent[2:]:
            sender.publish(topics.telemetry("x"), payload)
        assert sender.drain(30)
        broker.kill()
        go_on.set()
        eventually(lambda: len(got) >= len(sent), 10, "all that was sent")
        assert got == sent
    finally:
        go_on.set()
        sender.stop(0.1)
        reader.stop(0.1)
        broker.stop()


def test_a_broker_that_is_gone_while_it_is_greeted_is_left_in_order(topics, eventually):
    """Where a write fails while a packet is handled, that packet is not handled once more."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(30)
    port = server.getsockname()[1]
    client = Mesh(BrokerSection("127.0.0.1", port, protocol="3.1.1"), topics, "reader")
    gone, got = threading.Event(), []
    client.on_connect(lambda: gone.wait(30))
    client.subscribe(topics.every("telemetry"), got.append)
    for number in range(3):
        client.publish(topics.telemetry("y"), b"%d" % number)
    topic = topics.telemetry("x").encode()
    published = struct.pack("!H", len(topic)) + topic + b"last words"
    client.start()
    try:
        for turn in range(2):
            line, _ = server.accept()
            line.settimeout(30)
            assert line.recv(4096)[0] == 0x10  # CONNECT
            line.sendall(b"\x20\x02\x00\x00")  # CONNACK
            line.sendall(b"\x30" + bytes((len(published),)) + published)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if not turn:
                eventually(lambda: client.connected)
            line.close()
            gone.set()
        eventually(lambda: client.counters["connects"] == 2, 30, "it comes back")
        eventually(lambda: len(got) == 2, 30, "what lay in the line was read, each time")
        assert client._client._thread.is_alive()
    finally:
        gone.set()
        client.stop(0.1)
        server.close()
