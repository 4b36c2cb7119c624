"""Catapush, its callbacks, Apprise, and the dead man's address."""

import http.server
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest
from notifier.callbacks import Callbacks
from notifier.catapush import Catapush
from notifier.config import TargetConfig
from notifier.deadman import DeadMan
from notifier.others import Apprise
from notifier.push import Doubt, Later, Push, Refused, Taken
from notifier.transport import DoubtError, NotSentError, Reply, ask
from sunmesh.errors import ConfigError
from sunmesh.messages import Delivery

PUSH = Push("ref-1", "Title", "Body", "warning", "raised", 5000, "http://portal/alarms", "Open")
BRUNO = {"bruno": {"by": "catapush", "token_file": "c", "recipient": "39333", "app_id": 318}}
TOPIC = "sunmesh/home/alarms/inverter/heat_sink_hot/delivery"


def channel(answer):
    target = TargetConfig("catapush", "t", recipient="39333", app_id=318)

    def wire(*_args, **_kwargs):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Catapush(target, "token", ask=wire, timeout_s=1.0, heard=None)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Reply(201, {}, b'[{"identifier":"39333","id":"u-1"}]'), Taken),
        (Reply(201, {}, b"half of"), Taken),
        (Reply(200, {}, b'{"error":"no such application"}'), Refused),
        (Reply(200, {}, b"<html>"), Doubt),
        (Reply(400, {}, b'{"detail":"mobileAppId"}'), Refused),
        (Reply(401, {}, b""), Refused),
        (Reply(404, {}, b"[]"), Refused),
        (Reply(429, {"retry-after": "3"}, b""), Later),
        (Reply(302, {}, b""), Later),
        (Reply(500, {}, b""), Doubt),
        (NotSentError("nobody"), Later),
        (DoubtError("hung up"), Doubt),
    ],
)
def test_an_answer_of_catapush_means(answer, kind):
    assert type(channel(answer).send(PUSH)) is kind


def test_what_catapush_is_sent():
    content = channel(None).content(PUSH)
    assert content["mobileAppId"] == 318
    assert content["text"] == "Title\nBody\nhttp://portal/alarms"
    assert content["recipients"] == [{"identifier": "39333", "messageRef": "ref-1"}]


@pytest.mark.parametrize("fault", ["429", "500", "reset", "hang", "redirect", "html"])
def test_catapush_gets_it_once_after_a_failure(house, fault):
    home = house(targets=BRUNO)
    home.provider.hang_s = 1.5
    home.provider.script.append(fault)
    home.hear()
    home.passes(200, step=10)
    assert [title.splitlines()[0] for title in home.titles] == ["Warning: inverter is hot"]
    assert home.states == ["sent"]


def call(port, path, body=None, kind="application/json"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as err:
        return err.code


@pytest.fixture
def listening(house):
    home = house(targets=BRUNO)
    callbacks = Callbacks("127.0.0.1:0", "s3cret", home.outbox, home.notifier.note_told)
    yield home, callbacks.port
    callbacks.close()


@pytest.mark.parametrize("form", ["query", "form", "json"])
def test_a_callback_tells_what_became_of_a_message(listening, form):
    home, port = listening
    home.hear()
    home.deliver()
    identity = home.letters[0].identity
    fields = {"type": "MessageStatus", "messageId": identity, "status": "delivered"}
    text = urllib.parse.urlencode(fields)
    if form == "query":
        assert call(port, f"/s3cret?{text}") == 200
    elif form == "form":
        assert call(port, "/s3cret", text.encode(), "application/x-www-form-urlencoded") == 200
    else:
        assert call(port, "/s3cret", json.dumps(fields).encode()) == 200
    home.passes(1)
    assert home.mesh.said(TOPIC, Delivery)[-1].targets["bruno"].state == "delivered"


def test_callbacks_take_nothing_from_strangers(listening):
    home, port = listening
    assert call(port, "/other?type=MessageStatus&messageId=x&status=read") == 404
    assert call(port, "/s3cret?type=MessageStatus") == 400
    assert call(port, "/s3cret?type=MessageStatus&messageId=x&status=read") == 200
    assert call(port, "/s3cret", b"{" * 5000) == 200
    assert call(port, "/s3cret", b"x" * 70_000) == 413
    assert call(port, "/s3cret?type=IncomingMessage&text=hello") == 200
    assert home.outbox.list_deliveries(9, only_open=False) == []


def test_a_callback_proves_that_a_message_in_doubt_was_taken(house):
    home = house(targets=BRUNO, callback_listen="127.0.0.1:1", callback_path_file="p")
    home.provider.script.append("resettaken")
    home.hear()
    home.deliver()
    ref = home.letters[0].fields["messageRef"]
    home.outbox.called_back(ref, "", "enqueued", home.now_ms)
    home.passes(60, step=5)
    assert len(home.letters) == 1
    assert home.states == ["sent"]


def test_without_callbacks_a_message_in_doubt_is_told_twice(house):
    home = house(targets=BRUNO)
    home.provider.script.append("resettaken")
    home.hear()
    home.passes(60, step=5)
    assert len(home.letters) == 2


# -- Apprise ---------------------------------------------------------------------------------------


@pytest.fixture
def received():
    """A web server that Apprise posts to."""
    bodies, answers = [], [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers[-1])
            self.end_headers()

        def do_GET(self):
            bodies.append(self.path)
            self.send_response(answers[-1])
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], bodies, answers
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore")
def test_apprise_delivers_and_says_when_it_cannot(received, caplog):
    port, bodies, answers = received
    one = Apprise(f"json://user:geheim@127.0.0.1:{port}/", "mail")
    assert one.send(PUSH) == Taken()
    assert bodies[0]["title"] == "Title"
    assert bodies[0]["message"].startswith("Body\nhttp://portal/alarms")
    answers.append(500)
    assert isinstance(one.send(PUSH), Later)
    assert "geheim" not in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_an_address_that_apprise_does_not_know_is_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match=r"targets\.mail"):
        Apprise("nothing-like-that://x", "mail")


def test_apprise_is_loaded_only_by_who_uses_it():
    code = "import sys, notifier.__main__, notifier.service, notifier.build; print([*sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("apprise", "requests", "ssl", "http.server", "sqlalchemy", "secrets"):
        assert f"'{name}'" not in said.stdout, name


# -- the dead man ----------------------------------------------------------------------------------


def test_the_dead_man_is_called_only_while_all_is_well(received, eventually):
    port, bodies, _ = received
    well = threading.Event()
    stop = threading.Event()
    one = DeadMan(f"http://127.0.0.1:{port}/ping/key", 0.02, well.is_set, ask, 5.0)
    one.start(stop)
    assert not stop.wait(0.2)
    assert bodies == []
    well.set()
    eventually(lambda: one.calls >= 2)
    stop.set()
    assert bodies[0] == "/ping/key"


def test_all_is_well_as_long_as_somebody_could_be_told(house):
    home = house()
    home.turn()
    assert home.notifier.is_well()
    home.provider.users = frozenset({"nobody"})
    home.hear()
    home.deliver()
    assert not home.notifier.is_well()
    home.provider.users = frozenset()
    home.hear(device="two")
    home.deliver()
    assert home.notifier.is_well()
    home.mesh.connected = False
    assert not home.notifier.is_well()
