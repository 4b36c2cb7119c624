"""Emulated gateways: on sockets, and on a wire that takes no time."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from collector_pvs6 import service, session
from collector_pvs6.config import Pvs6Device
from collector_pvs6.emulator import Pvs
from collector_pvs6.faults import WebFaults
from collector_pvs6.server import Server, make_certificate
from collector_pvs6.service import Pvs6
from collector_pvs6.transport import ClosedError, Reply
from sunmesh.errors import FrameError, TransportError
from sunmesh.tap import Tap

NOON = datetime(2026, 6, 21, 18, 0, tzinfo=UTC)


class Time:
    """A clock that the test sets."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now

    def pass_(self, **spans):
        self.now += timedelta(**spans)


class Wire:
    """A :class:`collector_pvs6.transport.Link` to an emulated gateway, without a socket."""

    def __init__(self, pvs, faults=None):
        self.pvs = pvs
        self.faults = faults or WebFaults()
        self.counters = Counter()
        self.tap = Tap()
        self.pin = "f" * 64
        self.scheme = "https"
        self.ports = {"https", "http"} if pvs.firmware == "new" else {"http"}
        self.asked = []
        self.logins = []
        self.forgotten = False

    def first(self, path):
        if self.scheme not in self.ports:
            self.scheme = "http"
        return self.ask(path)

    def ask(self, path, *, scheme=None, login=None, cookie=None, timeout_s=15.0):
        scheme = scheme or self.scheme
        self.asked.append(path)
        if scheme not in self.ports:
            raise ClosedError("nobody listens")
        if self.faults.is_silent:
            raise TransportError(f"no answer within {timeout_s:g} s")
        headers = {"cookie": f"session={cookie}"} if cookie else {}
        if login:
            self.logins.append(login)
            import base64

            headers["authorization"] = (
                "Basic " + base64.b64encode(":".join(login).encode()).decode()
            )
        answer = self.faults.spoil(self.pvs.answer(path, headers, is_tls=scheme == "https"))
        if answer.announced not in (None, len(answer.body)):
            raise FrameError("truncated", "cut off")
        cookies = answer.headers.get("Set-Cookie", "")
        return Reply(
            answer.status, answer.body, cookies.partition("=")[2].partition(";")[0] or None
        )

    def forget(self):
        self.forgotten = True

    def trust(self):
        return self.pin

    def close(self):
        pass

    @property
    def paths(self):
        return [urlsplit(each).path for each in self.asked]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(session, "RETRY_PAUSE_S", 0.0)


@pytest.fixture
def time(monkeypatch):
    """The clock of gateway and collector alike."""
    clock = Time()
    monkeypatch.setattr(service.clock, "now", clock)
    return clock


@pytest.fixture
def wired(time):
    """A gateway, the wire to it, and the source that reads it."""

    def make(firmware="new", faults=None, *, memory=None, archive=None, pvs=None, **settings):
        pvs = pvs or Pvs(firmware, refresh_s=60.0, now=time)
        wire = Wire(pvs, faults)
        config = Pvs6Device(host="pvs", **settings)
        return pvs, wire, Pvs6("solar", config, wire, memory, archive, frozenset({"inverter"}))

    return make


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A throw-away certificate for this run."""
    path = tmp_path_factory.mktemp("certificate") / "pvs.pem"
    make_certificate(path)
    return path


@pytest.fixture
def gateway(certificate):
    """Starts emulated gateways on sockets; they end with the test."""
    running = []

    def start(firmware="new", *, faults=None, pem=certificate, pvs=None, **options):
        ports = {"http_port": 0, "https_port": 0 if firmware == "new" else None} | options
        pvs = pvs or Pvs(firmware, refresh_s=0.0)
        server = Server(pvs, faults, certificate=pem if firmware == "new" else None, **ports)
        running.append(server.start())
        return server

    yield start
    for server in running:
        server.stop()


def config_of(server, **settings):
    """How that server is reached; a port that is not open stands for one that it has not."""
    return Pvs6Device(
        host="127.0.0.1",
        http_port=server.http_port or 1,
        https_port=server.https_port or 1,
        **{"poll_interval_s": 1.0, "allow_fast_polling": True} | settings,
    )


@pytest.fixture
def reach():
    """:func:`config_of`."""
    return config_of
