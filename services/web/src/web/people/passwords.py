"""Passwords: argon2id, and a brake on guessing."""

import logging
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from sunmesh.errors import SunmeshError

from ..text import _

log = logging.getLogger(__name__)

TIME_COST, MEMORY_KIB, LANES = 2, 19_456, 1
"""OWASP's smallest set for argon2id: 19 MiB for the moment of a login."""
SHORTEST, LONGEST = 8, 200
WAIT_S = 5.0
"""Passwords are checked one at a time, so that logins fill neither memory nor cores."""

FREE_OF_ADDRESS, FREE_OF_NAME = 5, 20
"""Wrong passwords before somebody must wait; many devices may share a name's mistakes."""
LONGEST_WAIT_S = 900.0
FORGET_S = 900.0
MOST_KEYS = 2000


class PasswordError(SunmeshError):
    """A password that cannot be taken; the text says why."""


class ThrottledError(SunmeshError):
    """Too many wrong ones; ``wait_s`` is how long to wait."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = ceil(wait_s)
        super().__init__(
            _("too many wrong passwords; try again in %(span)s", span=_span(self.wait_s))
        )


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"


def checked(password: str, name: str) -> str:
    """``password`` as it is hashed.

    Raises:
        PasswordError: too short, too long, or the name itself.
    """
    text = unicodedata.normalize("NFKC", password)
    if len(text) < SHORTEST:
        raise PasswordError(_("the password must have at least %(num)s characters", num=SHORTEST))
    if len(text) > LONGEST:
        raise PasswordError(_("the password must have at most %(num)s characters", num=LONGEST))
    if text.casefold() == name.casefold() or len(set(text)) < 3:
        raise PasswordError(_("this password is guessed at once; take another one"))
    return text


class Hasher:
    """argon2id, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hasher: object = None
        self._nobody = ""

    def hash(self, password: str) -> str:
        """The encoded hash of a password that :func:`checked` took."""
        with _Turn(self._lock):
            return str(self._argon2().hash(password))  # type: ignore[attr-defined]

    def verify(self, encoded: str | None, password: str) -> bool:
        """Whether it is that password. None = no such user, which takes just as long.

        Raises:
            ThrottledError: too many others are being checked.
        """
        from argon2.exceptions import InvalidHashError, VerificationError

        text = unicodedata.normalize("NFKC", password[:LONGEST])
        with _Turn(self._lock):
            hasher = self._argon2()
            try:
                hasher.verify(encoded or self._nobody, text)  # type: ignore[attr-defined]
            except VerificationError:
                return False
            except InvalidHashError:
                log.error("a stored password hash cannot be read")
                return False
        return encoded is not None

    def is_old(self, encoded: str) -> bool:
        """Whether it was made with weaker parameters than today's."""
        return bool(self._argon2().check_needs_rehash(encoded))  # type: ignore[attr-defined]

    def _argon2(self) -> object:
        if self._hasher is None:
            from argon2 import PasswordHasher  # a MiB that only a house with accounts needs

            made = PasswordHasher(TIME_COST, MEMORY_KIB, LANES)
            self._nobody = made.hash("nobody's")
            self._hasher = made
        return self._hasher


class _Turn:
    """The lock, waited for a limited time."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=WAIT_S):
            raise ThrottledError(WAIT_S)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Throttle:
    """Counts wrong passwords by address and by name; each one too many doubles the wait.

    Args:
        clock: monotonic [s].
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def take(self, address: str, name: str) -> None:
        """Begin a try, which counts as wrong until :meth:`right` says otherwise.

        Raises:
            ThrottledError: not yet.
        """
        keys = (("address", address), ("name", name))
        with self._lock:
            wait = max(self._wait(keys[0], FREE_OF_ADDRESS), self._wait(keys[1], FREE_OF_NAME))
            if wait > 0:
                raise ThrottledError(wait)
            now = self._clock()
            for key in keys:
                count, at = self._wrong.pop(key, (0, now))
                self._wrong[key] = (count + 1 if now - at < FORGET_S else 1, now)
            while len(self._wrong) > MOST_KEYS:
                self._wrong.popitem(last=False)

    def right(self, address: str, name: str) -> None:
        """It was right: the name's mistakes are forgiven, the address's fade by themselves."""
        with self._lock:
            self._wrong.pop(("name", name), None)
            count, at = self._wrong.get(("address", address), (0, 0.0))
            if count:
                self._wrong["address", address] = (count - 1, at)

    def _wait(self, key: tuple[str, str], free: int) -> float:
        count, at = self._wrong.get(key, (0, 0.0))
        if count < free:
            return 0.0
        pause = min(2.0 ** min(count - free + 1, 20), LONGEST_WAIT_S)
        return at + pause - self._clock()
