"""The wire: one HTTP request at a time, over TLS with a pinned certificate where there is TLS.

A gateway's certificate is signed by itself, so no authority can vouch for it: its fingerprint is
compared instead, before anything is sent. Nothing here knows what an answer means.
"""

import contextlib
import hashlib
import logging
import socket
import ssl
import time
import warnings
from collections import Counter, deque
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from sunmesh.errors import FrameError, IdentityError, TransportError
from sunmesh.lean import without
from sunmesh.tap import Tap

from .config import Pvs6Device

# For host names in other alphabets and for guessing encodings: 3 MiB that nobody here needs.
with without("idna", "charset_normalizer", "chardet"), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # requests misses the encodings' guesser, rightly
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import exceptions as urllib3_errors

log = logging.getLogger(__name__)

CONNECT_S = 10.0
ANSWER_S = 120.0
"""A DeviceList takes more than a minute on a busy gateway."""

VARIABLES_S = 15.0
"""Some variables never answer on some builds."""

LIMIT = 4 * 1024 * 1024
"""No answer is larger [bytes]; a site of 60 panels answers with 60 KiB."""


class ClosedError(TransportError):
    """Nobody listens there, which is known at once."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came."""

    status: int
    data: bytes
    cookie: str | None = None


class Link:
    """Asks one gateway one thing at a time.

    Args:
        config: where it is.
        pin: fingerprint that its certificate must have; None = that of the first contact.

    Attributes:
        pin: fingerprint of the certificate that the gateway must show.
        counters: requests and time-outs.
        tap: is shown each answer that may be kept.
    """

    def __init__(self, config: Pvs6Device, pin: str | None = None) -> None:
        """Nothing is connected yet."""
        self.pin = config.pin or pin
        self.counters: Counter[str] = Counter()
        self.tap = Tap()
        self._is_trusted = self.pin is not None
        self._config = config
        self._schemes = deque(("https", "http"))
        self._session: requests.Session | None = None

    @property
    def scheme(self) -> str:
        """``https`` or ``http``: where the gateway answered last."""
        return "https" if self._is_trusted else self._schemes[0]

    def first(self, path: str) -> Reply:
        """The answer on whichever port the gateway has; silence ends the search for this time.

        So a silent gateway costs one time-out a round, and the next round begins with the other.
        One whose certificate is trusted is asked over https only: nobody can take its place on
        the port that proves nothing.

        Raises:
            TransportError: no answer; :class:`IdentityError`: another certificate.
        """
        if self._is_trusted:
            return self.ask(path, scheme="https")
        for _ in range(len(self._schemes)):
            try:
                return self.ask(path)
            except ClosedError as err:
                error: TransportError = err
                self._schemes.rotate(-1)
            except IdentityError:
                raise
            except TransportError:
                self._schemes.rotate(-1)
                raise
        raise error

    def ask(
        self,
        path: str,
        *,
        scheme: str | None = None,
        login: tuple[str, str] | None = None,
        cookie: str | None = None,
        timeout_s: float = VARIABLES_S,
    ) -> Reply:
        """The answer to a GET of ``path``, whatever its status.

        Args:
            path: with its query.
            scheme: None = the one that answered last.
            login: user and password; over https only.
            cookie: of the session; over https only.
            timeout_s: for the whole answer.

        Raises:
            TransportError: no answer in time; :class:`ClosedError`: nobody listens;
                :class:`IdentityError`: the certificate is not the pinned one.
            FrameError: ``truncated``: the answer is shorter than announced.
        """
        scheme = scheme or self.scheme
        is_tls = scheme == "https"
        port = self._config.https_port if is_tls else self._config.http_port
        if is_tls and self.pin is None:
            self.pin = self._fingerprint()
        headers = {"Cookie": f"session={cookie}"} if cookie and is_tls else {}
        deadline = time.monotonic() + timeout_s
        self.counters["requests"] += 1
        try:
            with self._open_session().get(
                f"{scheme}://{_bracketed(self._config.host)}:{port}{path}",
                headers=headers,
                auth=login if is_tls else None,
                timeout=(min(CONNECT_S, timeout_s), timeout_s),
                allow_redirects=False,
                stream=True,
                verify=False,  # noqa: S501 - the fingerprint is compared instead
            ) as answer:
                data = _body(answer, deadline)
                return Reply(answer.status_code, data, answer.cookies.get("session"))
        except (requests.exceptions.Timeout, urllib3_errors.TimeoutError, TimeoutError) as err:
            self.counters["timeouts"] += 1
            self.close()
            raise TransportError(f"no answer within {timeout_s:g} s") from err
        except urllib3_errors.ProtocolError as err:  # in the middle of the body
            self.close()
            raise FrameError("truncated", _reason(err)) from err
        except requests.exceptions.SSLError as err:
            self._check_pin()
            raise TransportError(f"no TLS connection: {_reason(err)}") from err
        except requests.exceptions.ConnectionError as err:
            raise ClosedError(f"{self._config.host}:{port}: {_reason(err)}") from err
        except (requests.exceptions.RequestException, urllib3_errors.HTTPError, OSError) as err:
            raise TransportError(f"{self._config.host}:{port}: {_reason(err)}") from err

    def trust(self) -> str | None:
        """The fingerprint: it is that of the right gateway, and from now on no other is."""
        self._is_trusted = self.pin is not None
        return self.pin

    def forget(self) -> None:
        """It is not that of the right gateway: ask again next time."""
        if not self._is_trusted:
            self.pin = None
        self.close()

    def close(self) -> None:
        """Drop the connection; never raises."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(Exception):
                session.close()

    def _open_session(self) -> requests.Session:
        if self._session is None:
            session = requests.Session()
            session.trust_env = False  # no proxy, and no netrc in the place of our login
            # the session's cookie is sent where it belongs, which a jar does not know: TLS only
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            session.headers.clear()
            session.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
            session.mount("https://", _Pinned(self.pin))
            self._session = session
        return self._session

    def _fingerprint(self) -> str:
        """SHA-256 of the certificate that the gateway shows now.

        Raises:
            TransportError: it shows none.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        where = (self._config.host, self._config.https_port)
        try:
            with (
                socket.create_connection(where, CONNECT_S) as raw,
                context.wrap_socket(raw, server_hostname=self._config.host) as connection,
            ):
                shown = connection.getpeercert(binary_form=True)
        except TimeoutError as err:
            self.counters["timeouts"] += 1
            raise TransportError(f"no answer within {CONNECT_S:g} s") from err
        except ssl.SSLError as err:
            raise TransportError(f"no TLS connection: {err.reason}") from err
        except OSError as err:
            raise ClosedError(f"{where[0]}:{where[1]}: {err.strerror or err}") from err
        if shown is None:
            raise TransportError("the gateway shows no certificate")
        return hashlib.sha256(shown).hexdigest()

    def _check_pin(self) -> None:
        """Raise :class:`IdentityError` if the gateway shows another certificate now."""
        shown = self._fingerprint()
        if self.pin is not None and shown != self.pin:
            self.close()
            raise IdentityError(
                f"the certificate has changed: its fingerprint is {shown}, trusted is {self.pin}; "
                "if that is right, set fingerprint, or delete the state file"
            )


class _Pinned(HTTPAdapter):
    """Connects to one certificate only."""

    def __init__(self, fingerprint: str | None) -> None:
        self._fingerprint = fingerprint
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(
        self,
        connections: int,
        maxsize: int,
        block: bool = False,
        **more: Any,  # noqa: ANN401 - requests'
    ) -> None:
        more["assert_fingerprint"] = self._fingerprint
        super().init_poolmanager(connections, maxsize, block, **more)


def _body(answer: requests.Response, deadline: float) -> bytes:
    """The body, read as it comes: a trickle must not outlast the deadline.

    Raises:
        TimeoutError: it does.
        TransportError: it is larger than anything that a PVS says.
    """
    parts: list[bytes] = []
    size = 0
    while part := answer.raw.read1(65536):
        parts.append(part)
        size += len(part)
        if size > LIMIT:
            raise TransportError(f"the answer is larger than {LIMIT} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _reason(err: BaseException) -> str:
    """The innermost cause in a few words; addresses and objects left out."""
    while (cause := err.__cause__ or err.__context__) is not None:
        err = cause
    return str(getattr(err, "strerror", None) or err).strip()[:120] or type(err).__name__


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
