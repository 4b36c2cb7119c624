"""The wire on real sockets: two ports, a pinned certificate, slow and broken gateways."""

import hashlib
import http.server
import socket
import ssl
import threading
import time

import pytest
from collector_pvs6 import transport
from collector_pvs6.faults import WebFaults
from collector_pvs6.server import make_certificate
from collector_pvs6.session import LOGIN_PATH, SUPERVISOR_PATH
from collector_pvs6.transport import ClosedError, Link
from sunmesh.errors import FrameError, IdentityError, TransportError


@pytest.fixture
def link(reach):
    """Links that are closed with the test."""
    made = []

    def make(server, pin=None, **settings):
        made.append(Link(reach(server, **settings), pin))
        return made[-1]

    yield make
    for each in made:
        each.close()


def fingerprint(pem):
    der = ssl.PEM_cert_to_DER_cert(pem.read_text()[pem.read_text().index("-----BEGIN CERT") :])
    return hashlib.sha256(der).hexdigest()


def test_https_is_asked_first_and_its_certificate_pinned(gateway, link, certificate):
    wire = link(gateway())
    assert wire.first(SUPERVISOR_PATH).status == 200
    assert wire.scheme == "https"
    assert wire.pin == fingerprint(certificate)


def test_old_firmware_is_found_on_http(gateway, link):
    wire = link(gateway("legacy"))
    assert b"61839" in wire.first(SUPERVISOR_PATH).data
    assert wire.scheme == "http"
    assert wire.first(SUPERVISOR_PATH).status == 200
    assert wire.counters["requests"] == 2, "the pin comes before a request is made"


def test_nobody_at_all(link, free_port):
    class Nowhere:
        http_port = https_port = free_port

    with pytest.raises(ClosedError, match="refused"):
        link(Nowhere).first(SUPERVISOR_PATH)


def test_another_certificate_gets_no_request_and_no_password(gateway, link, tmp_path):
    other = tmp_path / "other.pem"
    make_certificate(other)
    server = gateway(pem=other)
    wire = link(server, pin="ab" * 32)
    with pytest.raises(IdentityError, match="certificate has changed") as caught:
        wire.ask(LOGIN_PATH, scheme="https", login=("ssm_owner", "A0321"))
    assert fingerprint(other) in str(caught.value)
    assert server.pvs.requests == []


@pytest.mark.parametrize(
    "form", [str.lower, str.upper, lambda t: ":".join(t[i : i + 2] for i in range(0, 64, 2))]
)
def test_the_owner_s_fingerprint_counts_in_any_form(gateway, link, certificate, form):
    wire = link(gateway(), pin="ab" * 32, fingerprint=form(fingerprint(certificate)))
    assert wire.first(SUPERVISOR_PATH).status == 200
    wire.forget()
    assert wire.pin == fingerprint(certificate)


def test_a_pin_that_was_not_confirmed_is_forgotten(gateway, link):
    wire = link(gateway())
    wire.first(SUPERVISOR_PATH)
    wire.forget()
    assert wire.pin is None
    wire.first(SUPERVISOR_PATH)
    assert wire.trust() == wire.pin
    wire.forget()
    assert wire.pin


def test_nobody_takes_the_place_of_a_trusted_gateway_over_http(gateway, link):
    stranger = gateway("legacy")
    wire = link(stranger, pin="ab" * 32)
    for _ in range(2):
        with pytest.raises(ClosedError):
            wire.first(SUPERVISOR_PATH)
    assert stranger.pvs.requests == []


def test_the_cookie_of_a_login_and_nothing_of_it_over_http(gateway, link):
    server = gateway()
    wire = link(server)
    answer = wire.ask(LOGIN_PATH, scheme="https", login=("ssm_owner", "A0321"))
    assert answer.status == 200
    path = "/vars?name=/sys/info/model&fmt=obj"
    assert (
        wire.ask(path, scheme="https", cookie=answer.cookie).data == b'{"/sys/info/model": "PVS6"}'
    )
    assert wire.ask(path, scheme="https").status == 403
    seen = []
    real = server.pvs.answer
    server.pvs.answer = lambda target, headers, is_tls: (
        seen.append(headers) or real(target, headers, is_tls=is_tls)
    )
    wire.ask(LOGIN_PATH, scheme="http", login=("ssm_owner", "A0321"), cookie=answer.cookie)
    assert not {"authorization", "cookie"} & seen[0].keys()


def test_a_slow_answer_is_waited_for_and_a_missing_one_not_for_ever(gateway, link):
    server = gateway("legacy", latency_s=0.3)
    wire = link(server)
    assert wire.ask(SUPERVISOR_PATH, scheme="http", timeout_s=30).status == 200
    server.faults.rates["hang"] = 1.0
    began = time.monotonic()
    with pytest.raises(TransportError, match=r"no answer within 0\.4 s"):
        wire.ask(SUPERVISOR_PATH, scheme="http", timeout_s=0.4)
    assert time.monotonic() - began < 10
    assert wire.counters["timeouts"] == 1
    server.faults.rates.clear()
    server.latency_s = 0
    assert wire.ask(SUPERVISOR_PATH, scheme="http", timeout_s=30).status == 200


def test_silence_ends_the_search_and_the_next_begins_elsewhere(gateway, link, monkeypatch):
    monkeypatch.setattr(transport, "CONNECT_S", 1.0)
    deaf = socket.create_server(("127.0.0.1", 0))  # takes connections, never says anything
    server = gateway("legacy")
    server.https_port = deaf.getsockname()[1]
    wire = link(server)
    with pytest.raises(TransportError, match="no answer"):
        wire.first(SUPERVISOR_PATH)
    assert wire.first(SUPERVISOR_PATH).status == 200
    deaf.close()


def test_a_cut_answer_is_damage(gateway, link):
    server = gateway("legacy", faults=WebFaults({"truncated": 1.0}, seed=3))
    wire = link(server)
    kinds = set()
    for _ in range(20):
        try:
            kinds.add(wire.ask(SUPERVISOR_PATH, scheme="http").status)
        except FrameError as err:
            kinds.add(err.kind)
    assert kinds == {200, "truncated"}, "the other half is as long as announced, and no JSON"


def test_a_plug_that_is_out_is_no_answer(gateway, link):
    server = gateway(faults=WebFaults({"silent": 1.0}))
    with pytest.raises(TransportError):
        link(server).first(SUPERVISOR_PATH)


def serve(reply, *, trickle_s=0.0):
    """A server that says ``reply``, byte by byte if wanted; its port and how to end it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            for at in range(len(reply)) if trickle_s else (0,):
                self.wfile.write(reply[at : at + 1] if trickle_s else reply)
                if trickle_s:
                    time.sleep(trickle_s)

        def log_message(self, *args):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *args):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    def end():
        server.shutdown()
        server.server_close()
        thread.join()

    class There:
        http_port = server.server_address[1]
        https_port = None

    return There, end


def test_a_trickle_does_not_outlast_the_deadline(link):
    there, end = serve(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 200, trickle_s=0.05)
    began = time.monotonic()
    with pytest.raises(TransportError, match="no answer within"):
        link(there).ask("/", scheme="http", timeout_s=1.5)
    assert time.monotonic() - began < 8, "all of it takes 11 s"
    end()


def test_an_endless_answer_is_given_up(link, monkeypatch):
    monkeypatch.setattr(transport, "LIMIT", 1000)
    there, end = serve(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 5000)
    with pytest.raises(TransportError, match="larger than 1000"):
        link(there).ask("/", scheme="http")
    end()


def test_a_redirection_is_not_followed(gateway, link):
    server = gateway("legacy")
    where = f"http://127.0.0.1:{server.http_port}/".encode()
    there, end = serve(b"HTTP/1.0 302 Found\r\nLocation: " + where + b"\r\n\r\n")
    assert link(there).ask("/", scheme="http").status == 302
    assert server.pvs.requests == []
    end()


def test_what_is_no_http_is_a_transport_error(link):
    there, end = serve(b"hello\r\n")
    with pytest.raises(TransportError):
        link(there).ask("/", scheme="http")
    end()


def test_no_proxy_and_no_netrc_of_the_environment(gateway, link, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = gateway("legacy")
    assert link(server).ask(SUPERVISOR_PATH, scheme="http").status == 200
