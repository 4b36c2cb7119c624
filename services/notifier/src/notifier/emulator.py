"""Pushover, Catapush and the phone they reach, so that everybody can see what an alarm looks like.

Built from the published interfaces; no answer here was recorded from a real server. ``/`` is the
phone. Wrong answers come by rate (``--faults 500:0.1``) or one by one (:attr:`Provider.script`):

``429``, ``500``, ``redirect``, ``html`` (200 and a page), ``error200`` (200 and an error),
``reset``, ``hang``: not taken; ``500taken``, ``resettaken``, ``hangtaken``, ``truncated``: taken,
and not said so; ``slow``: taken, and said late.
"""

import argparse
import contextlib
import html
import http.server
import json
import logging
import random
import secrets
import socket
import struct
import threading
import time
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sunmesh import service
from sunmesh.errors import ConfigError

log = logging.getLogger(__name__)

FAULTS = (
    *("429", "500", "redirect", "html", "error200", "reset", "hang"),
    *("500taken", "resettaken", "hangtaken", "truncated", "slow"),
)
TAKEN = ("500taken", "resettaken", "hangtaken", "truncated", "slow")
BODY_LIMIT = 64 * 1024
KEPT = 2000
MONTH_S = 30 * 86_400
RECEIPT_GAP_S = 5.0


@dataclass(slots=True)
class Letter:
    """A message that was taken."""

    provider: str
    fields: dict[str, Any]
    at: float
    identity: str
    receipt: str = ""
    state: str = "sent"
    acknowledged_at: float = 0.0

    @property
    def rings(self) -> bool:
        """Whether the phone rings because of it."""
        is_over = time.time() > self.at + float(self.fields.get("expire", 0))
        return bool(self.receipt) and self.state == "sent" and not is_over


@dataclass
class Provider:
    """Both providers and the phone.

    Attributes:
        token: what both want as theirs; empty = any.
        users: Pushover's known keys; empty = any.
        quota: messages of this month.
        script: the next answers to messages, one each; ``ok`` is the right one.
        rates: of wrong answers to messages.
        hang_s: how long a hanging answer hangs.
        retry_after: of a 429 [s].
        is_down: every connection is reset.
        gap_s: a receipt that is asked for faster is a 429.
        callback: told of Catapush's messages.
    """

    token: str = ""  # noqa: S105 - any
    users: frozenset[str] = frozenset()
    quota: int = 10_000
    script: deque[str] = field(default_factory=deque)
    rates: dict[str, float] = field(default_factory=dict)
    seed: int = 1
    hang_s: float = 60.0
    slow_s: float = 1.0
    retry_after: float = 1.0
    is_down: bool = False
    gap_s: float = RECEIPT_GAP_S
    callback: str = ""
    letters: deque[Letter] = field(default_factory=lambda: deque(maxlen=KEPT))
    asked: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """The month ends in some days."""
        self._guard = threading.Lock()
        self._random = random.Random(self.seed)
        self._looked: dict[str, float] = {}
        self.limit = self.quota
        self.reset = int(time.time()) + MONTH_S
        self.closing = threading.Event()

    # -- what is asked -----------------------------------------------------------------------------

    def next_fault(self) -> str:
        """How the next message is answered."""
        with self._guard:
            if self.script:
                return self.script.popleft()
            draw = self._random.random()
        for fault, rate in self.rates.items():
            draw -= rate
            if draw < 0:
                return fault
        return "ok"

    def pushover(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """POST /1/messages.json."""
        errors = {}
        if not form.get("token") or (self.token and form["token"] != self.token):
            errors["token"] = "application token is invalid"  # noqa: S105 - a text
        if not form.get("user") or (self.users and form["user"] not in self.users):
            errors["user"] = "user identifier is invalid"
        if not form.get("message"):
            errors["message"] = "cannot be blank"
        elif len(form["message"]) > 1024 or len(form.get("title", "")) > 250:
            errors["message"] = "message is too long"
        priority = form.get("priority", "0")
        if priority not in ("-2", "-1", "0", "1", "2"):
            errors["priority"] = "priority is invalid"
        if priority == "2":
            for key, low, high in (("retry", 30, 10_800), ("expire", 1, 10_800)):
                if not form.get(key, "").isdigit() or not low <= int(form[key]) <= high:
                    errors[key] = f"{key} must be between {low} and {high}"
        request = _uuid()
        if errors:
            marks = dict.fromkeys(errors, "invalid")
            return 400, {**marks, "errors": list(errors.values()), "status": 0, "request": request}
        if self.quota <= 0:
            return 429, {"errors": ["application is over its quota"], "status": 0}
        receipt = secrets.token_hex(15) if priority == "2" else ""
        with self._guard:
            self.quota -= 1
        self._keep(Letter("pushover", form, time.time(), request, receipt))
        answer: dict[str, Any] = {"status": 1, "request": request}
        return 200, answer | ({"receipt": receipt} if receipt else {})

    def catapush(self, authorization: str, content: Any) -> tuple[int, Any]:  # noqa: ANN401
        """POST /1/messages."""
        token = authorization.removeprefix("Bearer ")
        if not token or token == authorization or (self.token and token != self.token):
            return 401, {"error": "invalid_token"}
        if not isinstance(content, dict) or not isinstance(content.get("mobileAppId"), int):
            return 400, {"title": "Bad Request", "detail": "mobileAppId must be an integer"}
        recipients = content.get("recipients")
        if not isinstance(recipients, list) or not recipients or not content.get("text"):
            return 400, {"title": "Bad Request", "detail": "text and recipients are required"}
        done = []
        for recipient in recipients:
            identifier = str(recipient.get("identifier", ""))
            if self.users and identifier not in self.users:
                return 404, {"title": "Not Found", "detail": f"no user {identifier}"}
            letter = Letter("catapush", {**content, **recipient}, time.time(), _uuid())
            self._keep(letter)
            done.append({"identifier": identifier, "id": letter.identity, "status": "enqueued"})
            if self.callback:
                threading.Thread(target=self._call_back, args=(letter,), daemon=True).start()
        return 201, done

    def _keep(self, letter: Letter) -> None:
        with self._guard:
            self.letters.append(letter)
            self.arrivals.append(time.time())

    def _call_back(self, letter: Letter) -> None:
        for status in ("enqueued", "delivered"):
            body = json.dumps(
                {
                    "type": "MessageStatus",
                    "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "messageId": letter.identity,
                    "messageRef": letter.fields.get("messageRef"),
                    "recipient": letter.fields.get("identifier"),
                    "status": status,
                }
            ).encode()
            headers = {"Content-Type": "application/json", "User-Agent": "Catapush"}
            request = urllib.request.Request(self.callback, body, headers)  # noqa: S310
            with contextlib.suppress(OSError):
                urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - the owner's own

    def limits(self) -> dict[str, Any]:
        """GET /1/apps/limits.json."""
        return {
            "limit": self.limit,
            "remaining": self.quota,
            "reset": self.reset,
            "status": 1,
            "request": _uuid(),
        }

    def find(self, receipt: str) -> Letter | None:
        """The emergency with that receipt."""
        return next((each for each in list(self.letters) if each.receipt == receipt), None)

    def receipt(self, receipt: str) -> tuple[int, dict[str, Any]]:
        """GET /1/receipts/{receipt}.json."""
        letter = self.find(receipt)
        if letter is None:
            return 400, {"status": 0, "errors": ["receipt not found; may be invalid or expired"]}
        now = time.time()
        with self._guard:
            is_hasty = now - self._looked.get(receipt, 0.0) < self.gap_s
            self._looked[receipt] = now
        if is_hasty:
            return 429, {"status": 0, "errors": ["a receipt is asked for every 5 seconds"]}
        expires = letter.at + float(letter.fields["expire"])
        return 200, {
            "status": 1,
            "acknowledged": int(letter.state == "acknowledged"),
            "acknowledged_at": round(letter.acknowledged_at),
            "acknowledged_by": letter.fields["user"] if letter.acknowledged_at else "",
            "acknowledged_by_device": "phone" if letter.acknowledged_at else "",
            "last_delivered_at": round(letter.at),
            "expired": int(letter.state == "cancelled" or now > expires),
            "expires_at": round(expires),
            "called_back": 0,
            "called_back_at": 0,
        }

    def acknowledge(self, receipt: str) -> bool:
        """The button on the phone."""
        letter = self.find(receipt)
        if letter is None or not letter.rings:
            return False
        letter.state, letter.acknowledged_at = "acknowledged", time.time()
        return True

    def cancel(self, receipt: str) -> int:
        """POST /1/receipts/{receipt}/cancel.json; returns how many."""
        letter = self.find(receipt)
        if letter is None:
            return 0
        if letter.state == "sent":
            letter.state = "cancelled"
        return 1

    def cancel_by_tag(self, tag: str) -> int:
        """POST /1/receipts/cancel_by_tag/{tag}.json; returns how many."""
        found = [each for each in list(self.letters) if each.fields.get("tags") == tag]
        return sum(self.cancel(each.receipt) for each in found if each.receipt)

    # -- the phone ---------------------------------------------------------------------------------

    def page(self) -> str:
        """What the phone shows."""
        rows = "".join(_bubble(letter) for letter in reversed(list(self.letters)[-60:]))
        rows = rows or '<p class="none">No message yet.</p>'
        return PAGE.replace("{rows}", rows)


class Emulator:
    """The HTTP server around a :class:`Provider`.

    Args:
        provider: what it answers.
        host, port: where; port 0 = a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, provider: Provider, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens from now on."""
        handler = type("Handler", (_Handler,), {"provider": provider})
        self.provider = provider
        self._server = _Server((host, port), handler)
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """No more."""
        self.provider.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "Emulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Who hangs up in the middle is no error here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    provider: Provider
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def log_message(self, *_: object) -> None:
        """Tokens stand in addresses."""

    def do_GET(self) -> None:
        """Limits, receipts, and the phone."""
        parts = urlsplit(self.path)
        path = parts.path
        if self._is_down(path):
            return
        token = parse_qs(parts.query).get("token", [""])[0]
        if path == "/":
            self._send(200, self.provider.page().encode(), "text/html; charset=utf-8")
        elif path == "/letters.json":
            content = [
                {"provider": each.provider, "state": each.state, "rings": each.rings}
                | {"fields": {k: v for k, v in each.fields.items() if k not in ("token", "user")}}
                for each in list(self.provider.letters)
            ]
            self._json(200, content)
        elif path.startswith("/1/") and self.provider.token not in ("", token):
            self._json(400, {"status": 0, "errors": ["application token is invalid"]})
        elif path == "/1/apps/limits.json":
            self._json(200, self.provider.limits())
        elif path.startswith("/1/receipts/") and path.endswith(".json"):
            self._json(*self.provider.receipt(path[len("/1/receipts/") : -len(".json")]))
        else:
            self._json(404, {"status": 0, "errors": ["no such resource"]})

    def do_POST(self) -> None:
        """Messages, cancellations, and the button on the phone."""
        path = urlsplit(self.path).path
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_LIMIT:
            self._json(413, {"status": 0, "errors": ["too large"]})
            return
        body = self.rfile.read(length)
        if self._is_down(path):
            return
        if path.startswith("/phone/acknowledge/"):
            self.provider.acknowledge(path.rpartition("/")[2])
            self._send(303, b"", "text/plain", {"Location": "/"})
        elif path == "/1/messages.json":
            form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
            self._message(lambda: self.provider.pushover(form), quota=True)
        elif path == "/1/messages":
            try:
                content = json.loads(body)
            except ValueError:
                content = None
            authorization = self.headers.get("Authorization", "")
            self._message(lambda: self.provider.catapush(authorization, content), quota=False)
        elif path.startswith("/1/receipts/cancel_by_tag/"):
            count = self.provider.cancel_by_tag(path.rpartition("/")[2].removesuffix(".json"))
            self._json(200, {"status": 1, "canceled": count, "request": _uuid()})
        elif path.endswith("/cancel.json"):
            done = self.provider.cancel(path.split("/")[3])
            self._json(200 if done else 400, {"status": done, "request": _uuid()})
        else:
            self._json(404, {"status": 0, "errors": ["no such resource"]})

    def _message(self, take: Any, *, quota: bool) -> None:  # noqa: ANN401 - a lambda of above
        fault = self.provider.next_fault()
        self.provider.asked.append(fault)
        found = take() if fault == "ok" or fault in TAKEN else (500, {})
        match fault:
            case "429":
                self._json(
                    429,
                    {"status": 0, "errors": ["slow down"]},
                    {"Retry-After": f"{self.provider.retry_after:g}"},
                    quota=quota,
                )
            case "500" | "500taken":
                self._json(500, {"status": 0, "errors": ["internal error"]})
            case "redirect":
                where = {"Location": "http://portal.hotel.example/login"}
                self._send(302, b"", "text/html", where)
            case "html":
                self._send(200, b"<html><body>Please log in</body></html>", "text/html")
            case "error200":
                self._json(200, {"status": 0, "errors": ["user identifier is invalid"]})
            case "reset" | "resettaken":
                self._reset()
            case "hang" | "hangtaken":
                self.provider.closing.wait(self.provider.hang_s)
                self._reset()
            case "truncated":
                content = json.dumps(found[1]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self._reset()
            case _:
                if fault == "slow":
                    self.provider.closing.wait(self.provider.slow_s)
                self._json(*found, quota=quota)

    def _is_down(self, path: str) -> bool:
        if self.provider.is_down and path.startswith("/1/"):
            self._reset()
            return True
        return False

    def _reset(self) -> None:
        """Hang up without a word, as a broken line does."""
        with contextlib.suppress(OSError):
            hard = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
            self.connection.close()
        self.close_connection = True

    def _json(
        self,
        status: int,
        content: object,
        headers: dict[str, str] | None = None,
        *,
        quota: bool = False,
    ) -> None:
        more = dict(headers or {})
        if quota:
            more |= {
                "X-Limit-App-Limit": str(self.provider.limit),
                "X-Limit-App-Remaining": str(self.provider.quota),
                "X-Limit-App-Reset": str(self.provider.reset),
            }
        self._send(status, json.dumps(content).encode(), "application/json", more)

    def _send(
        self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "X-Content-Type-Options": "nosniff",
                **(headers or {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The phone</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="3">
<style>
body { font: 15px/1.45 system-ui, sans-serif; background: #efece4; color: #1b1d20; margin: 0 }
main { max-width: 26rem; margin: 1.5rem auto; padding: 1rem; background: #fffefc;
       border-radius: 2rem; box-shadow: 0 6px 24px rgb(60 50 20 / 12%); min-height: 36rem }
h1 { font-size: 1rem; text-align: center; color: #676a70; font-weight: 500; margin: .3rem 0 1rem }
article { border-left: 4px solid #8d8a83; padding: .1rem .8rem; margin: .9rem 0 }
article.p2, article.p1 { border-color: #c2382b } article.p0 { border-color: #e8a400 }
article.over { border-color: #2b8a57 }
article h2 { font-size: .95rem; margin: .2rem 0 }
article p { margin: .2rem 0; white-space: pre-line; overflow-wrap: anywhere }
small, .none { color: #676a70 } form { display: inline }
button { font: inherit; padding: .25rem .9rem; border: 0; border-radius: 1rem;
  background: #c2382b; color: #fff }
@media (prefers-color-scheme: dark) { body { background: #121417; color: #eceae5 }
  main { background: #1a1d21 } }
</style></head><body><main><h1>The phone</h1>{rows}</main></body></html>"""


def _bubble(letter: Letter) -> str:
    fields = letter.fields
    if letter.provider == "pushover":
        title, text = str(fields.get("title", "")), str(fields.get("message", ""))
        priority = str(fields.get("priority", "0"))
    else:
        title, _, text = str(fields.get("text", "")).partition("\n")
        priority = "0"
    kind = "over" if priority.startswith("-") else f"p{priority}"
    when = time.strftime("%H:%M:%S", time.localtime(letter.at))
    foot = f"{letter.provider}, {when}"
    if letter.rings:
        receipt = html.escape(letter.receipt)
        foot += (
            f', rings <form method="post" action="/phone/acknowledge/{receipt}">'
            "<button>Acknowledge</button></form>"
        )
    elif letter.receipt:
        foot += f", {'it rang itself out' if letter.state == 'sent' else letter.state}"
    link = ""
    address = str(fields.get("url", ""))
    if address.startswith(("http://", "https://")):
        name = html.escape(str(fields.get("url_title") or address))
        link = f'<p><a href="{html.escape(address)}">{name}</a></p>'
    return (
        f'<article class="{kind}"><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{link}'
        f"<small>{foot}</small></article>"
    )


def parse_faults(text: str) -> dict[str, float]:
    """``500:0.1,hang:0.05`` as rates.

    Raises:
        ConfigError: no such fault, or no rate.
    """
    rates = {}
    for part in filter(None, text.split(",")):
        name, _, rate = part.partition(":")
        try:
            rates[name] = float(rate)
        except ValueError:
            rates[name] = -1.0
        if name not in FAULTS or not 0 < rates[name] <= 1:
            raise ConfigError(f"--faults: {part!r}; write NAME:RATE, of {', '.join(FAULTS)}")
    return rates


def main(options: argparse.Namespace) -> int:
    """``notifier emulate``; returns the exit status."""
    host, _, port = options.http.rpartition(":")
    if not port.isdigit() or not host:
        raise ConfigError(f"--http must be HOST:PORT, got {options.http}")
    provider = Provider(
        quota=options.quota,
        rates=parse_faults(options.faults),
        seed=options.seed,
        callback=options.callback,
    )
    stop = service.stop_event()
    try:
        emulator = Emulator(provider, host, int(port))
    except OSError as err:
        raise ConfigError(f"--http {options.http}: {err.strerror}") from err
    log.info("the phone is at %s/", emulator.url)
    stop.wait()
    emulator.close()
    return 0


def _uuid() -> str:
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
