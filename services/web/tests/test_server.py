"""Streams that the server keeps open without threads, on real sockets."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest
from flask import Flask, Response
from sunmesh.testing import wait_for
from waitress import wasyncore
from web import streams as streaming
from web.config import WebConfig
from web.server import BEHIND, serve
from web.streams import BEAT, BEGIN, Streams

OPEN = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


class House:
    """An app of one stream and one page behind the real server, with two threads."""

    def __init__(self) -> None:
        self.streams = Streams(40)
        self.stays = True
        app = Flask(__name__)

        @app.get("/live")
        def live() -> Response:
            stream = self.streams.open()
            if stream is not None:
                stream.put(b"data: first\n\n")
            return streaming.answer(self.streams, stream, lambda: self.stays)

        @app.get("/page")
        def page() -> str:
            return "page"

        self.sockets: dict[int, object] = {}
        config = msgspec.structs.replace(WebConfig(), port=0, threads=2, streams=40)
        self.server = serve(app, config, self.sockets)
        self.port = int(self.server.effective_port)
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self.loop, lambda: self.streams.tend(self.stop))
        ]
        for thread in self.threads:
            thread.start()

    def loop(self) -> None:
        while not self.stop.is_set():
            wasyncore.loop(timeout=0.05, use_poll=True, map=self.sockets, count=1)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        self.server.task_dispatcher.shutdown(cancel_pending=True, timeout=2)
        wasyncore.close_all(self.sockets, ignore_all=True)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.end()


@pytest.fixture
def listen(house: House) -> Iterator[Callable[[], http.client.HTTPResponse]]:
    made: list[http.client.HTTPConnection] = []

    def one() -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=30)
        made.append(connection)
        connection.request("GET", "/live")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer

    yield one
    for connection in made:
        connection.close()


def event(answer: http.client.HTTPResponse) -> bytes:
    """The next event as it came."""
    lines = b""
    while not lines.endswith(b"\n\n"):
        line = answer.readline()
        if not line:
            return lines
        lines += line
    return lines


def test_many_streams_take_no_thread(house: House, listen) -> None:
    answers = [listen() for _ in range(40)]
    for answer in answers:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert event(answer) == BEGIN
        assert event(answer) == b"data: first\n\n"
    assert len(house.streams) == 40
    house.streams.send(b"data: second\n\n")
    assert [event(answer) for answer in answers] == [b"data: second\n\n"] * 40
    asked = http.client.HTTPConnection("127.0.0.1", house.port, timeout=30)
    asked.request("GET", "/page")
    assert asked.getresponse().read() == b"page"
    asked.request("GET", "/live")
    assert asked.getresponse().status == 503
    asked.close()


def test_whoever_leaves_frees_its_stream(house: House) -> None:
    with socket.create_connection(("127.0.0.1", house.port)) as page:
        page.sendall(OPEN)
        assert page.recv(12) == b"HTTP/1.1 200"
        wait_for(lambda: len(house.streams) == 1)
    wait_for(lambda: len(house.streams) == 0)


def test_who_does_not_read_is_dropped_and_others_are_not(house: House, listen) -> None:
    deaf = socket.create_connection(("127.0.0.1", house.port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(OPEN)
    wait_for(lambda: len(house.streams) == 1)
    answer = listen()
    assert event(answer) == BEGIN
    assert event(answer) == b"data: first\n\n"
    sent = 0
    while house.streams.dropped == 0:
        assert sent < 400 * BEHIND
        text = b"data: %b\n\n" % (b"x" * 65536)
        house.streams.send(text)
        assert event(answer) == text
        sent += len(text)
    assert house.streams.dropped == 1
    assert len(house.streams) == 1
    house.streams.send(b"data: last\n\n")
    assert event(answer) == b"data: last\n\n"
    deaf.close()


def test_who_has_logged_out_hears_no_more(house: House, listen) -> None:
    answer = listen()
    house.stays = False
    assert event(answer) == BEGIN
    assert event(answer) == b"data: first\n\n"
    assert event(answer) == b""
    wait_for(lambda: len(house.streams) == 0)


def test_quiet_streams_beat(house: House, listen, monkeypatch) -> None:
    monkeypatch.setattr(streaming, "BEAT_S", 0.1)
    answer = listen()
    assert event(answer) == BEGIN
    assert event(answer) == b"data: first\n\n"
    assert event(answer) == BEAT


def test_the_end_reaches_everybody(house: House, listen) -> None:
    answers = [listen() for _ in range(3)]
    house.streams.end()
    for answer in answers:
        assert answer.read() in (BEGIN + b"data: first\n\n", BEGIN)


def test_a_stream_hears_no_second_request(house: House) -> None:
    with socket.create_connection(("127.0.0.1", house.port)) as page:
        page.settimeout(30)
        page.sendall(OPEN + b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while b"first" not in said:
            said += page.recv(65536)
        page.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        house.streams.send(b"data: second\n\n")
        while b"second" not in said:
            said += page.recv(65536)
        assert said.count(b"HTTP/1.1") == 1


def test_an_old_reader_gets_it_unchunked(house: House) -> None:
    with socket.create_connection(("127.0.0.1", house.port)) as page:
        page.settimeout(30)
        page.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        said = b""
        while b"first" not in said:
            said += page.recv(65536)
        assert said.endswith(b"\r\n\r\n" + BEGIN + b"data: first\n\n")


def test_the_head_of_a_stream_opens_none(house: House) -> None:
    asked = http.client.HTTPConnection("127.0.0.1", house.port, timeout=30)
    asked.request("HEAD", "/live")
    answer = asked.getresponse()
    assert answer.status == 200
    assert answer.read() == b""
    assert len(house.streams) == 0
    asked.close()
