"""What a provider tells about messages, at an address that only it knows."""

import http.server
import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec

from .outbox import Outbox, Row

CALLBACK_LIMIT = 64 * 1024


class Callbacks:
    """Listens for what Catapush tells about messages, on a path that only it knows.

    Args:
        listen: host:port.
        secret: the path, without slashes.
        outbox: where it is noted.
        told: something about this alarm's pushes has changed.
    """

    def __init__(
        self, listen: str, secret: str, outbox: Outbox, told: Callable[[str, str], None]
    ) -> None:
        """Listens from now on.

        Raises:
            OSError: somebody else listens there.
        """
        host, _, port = listen.rpartition(":")
        self._secret = secret.strip("/")
        self._outbox = outbox
        self._told = told
        callbacks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 10.0

            def do_GET(self) -> None:
                self._answer(callbacks.take(self.path, b"", ""))

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "0")
                if not length.isdigit() or int(length) > CALLBACK_LIMIT:
                    self._answer(413)
                    return
                body = self.rfile.read(int(length))
                self._answer(callbacks.take(self.path, body, self.headers.get_content_type()))

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The path is a secret."""

        self._server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="callbacks", daemon=True).start()

    def close(self) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, body: bytes, kind: str) -> int:
        """Note a callback; returns the HTTP status."""
        parts = urlsplit(path)
        if parts.path.strip("/") != self._secret:
            return 404
        found = _fields(parts.query, body, kind)
        if found.get("type") != "MessageStatus":
            return 200  # what people write back is not for us
        status = found.get("status", "")
        if not status:
            return 400
        row: Row | None = self._outbox.called_back(
            found.get("messageRef", ""),
            found.get("messageId", ""),
            status[:32],
            round(time.time() * 1000),
        )
        if row is not None:
            self._told(row.device, row.code)
        return 200


def _fields(query: str, body: bytes, kind: str) -> dict[str, str]:
    """The callback's fields, from the address, a form or JSON."""
    found = {key: values[0] for key, values in parse_qs(query).items()}
    if kind == "application/json":
        try:
            content = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return found
        if isinstance(content, dict):
            found |= {key: str(value) for key, value in content.items() if value is not None}
    elif body:
        text = body.decode("utf-8", "replace")
        found |= {key: values[0] for key, values in parse_qs(text).items()}
    return found
