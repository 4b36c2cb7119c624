"""The wire: one HTTP request, one answer, one deadline for both. No redirect is followed.

A redirect would carry a secret to whoever answers in the provider's place (a hotel's login page).
Connections are not kept: an alarm is rare, and a kept one breaks in the moment it is needed.
"""

import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sunmesh.errors import TransportError
from sunmesh.lean import without

with without("ssl"):  # 4 MiB, which only who speaks TLS pays for
    import http.client

if TYPE_CHECKING:
    import ssl

LIMIT = 256 * 1024
"""No answer is larger [bytes]."""

CONNECT_S = 10.0


class NotSentError(TransportError):
    """Nobody was reached, so nobody has taken anything."""


class DoubtError(TransportError):
    """The request went out and no whole answer came back."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; names of ``headers`` in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 15.0,
) -> Reply:
    """The answer, whatever its status.

    Raises:
        NotSentError: nothing has left this machine for a provider.
        DoubtError: no answer in time, or half of one.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    is_tls = parts.scheme == "https"
    port = port or (443 if is_tls else 80)
    connection = http.client.HTTPConnection(host, port, timeout=min(CONNECT_S, timeout_s))
    connection.default_port = 443 if is_tls else 80
    where = f"{host}:{port}"
    try:
        connection.connect()
        if is_tls:
            connection.sock = _tls().wrap_socket(connection.sock, server_hostname=host)
    except (OSError, UnicodeError) as err:
        connection.close()
        raise NotSentError(f"{where}: {_reason(err)}") from err
    wire: socket.socket = connection.sock
    wire.settimeout(timeout_s)
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)

    # A time-out of the socket begins anew with each byte; this one does not.
    deadline = threading.Timer(timeout_s, give_up)
    deadline.daemon = True
    deadline.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, {"Accept": "application/json", **(headers or {})})
        with connection.getresponse() as answer:  # which may outlive its connection
            content = answer.read(LIMIT)
            if answer.length:  # what is still to come: more than we take, or than was sent
                raise DoubtError(f"{where}: {len(content)} bytes and then no more")
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, content)
    except (OSError, http.client.HTTPException, ValueError) as err:
        if is_late.is_set() or isinstance(err, TimeoutError):
            raise DoubtError(f"{where}: no answer within {timeout_s:g} s") from err
        raise DoubtError(f"{where}: {_reason(err)}") from err
    finally:
        deadline.cancel()
        connection.close()


@cache
def _tls() -> "ssl.SSLContext":
    """The system's authorities, read once."""
    import ssl

    return ssl.create_default_context()


def _reason(err: Exception) -> str:
    if isinstance(err, TimeoutError):
        return "no connection in time"
    text = getattr(err, "strerror", None) or str(err) or type(err).__name__
    return str(text)[:200]
