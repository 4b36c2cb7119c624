"""The dead man's address: it is called while all is well, so that silence tells somebody."""

import logging
import threading
from collections.abc import Callable

from sunmesh.errors import TransportError

from .pushover import Ask

log = logging.getLogger(__name__)


class DeadMan:
    """Calls an address while all is well, so that its silence tells somebody outside.

    Args:
        url: what is called; a secret.
        every_s: how often.
        is_well: whether an alarm that came now would be told.
        ask: the wire.
        timeout_s: for one call.
    """

    def __init__(
        self, url: str, every_s: float, is_well: Callable[[], bool], ask: Ask, timeout_s: float
    ) -> None:
        """Not called yet."""
        self._url = url
        self._every_s = every_s
        self._is_well = is_well
        self._ask = ask
        self._timeout_s = timeout_s
        self._is_lost = False
        self.calls = 0

    def start(self, stop: threading.Event) -> None:
        """Begin; ``stop`` ends it."""
        threading.Thread(target=self._run, args=(stop,), name="dead-man", daemon=True).start()

    def _run(self, stop: threading.Event) -> None:
        wait_s = min(5.0, self._every_s)
        while not stop.wait(wait_s):
            wait_s = self._every_s
            if not self._is_well():
                continue
            try:
                reply = self._ask("GET", self._url, timeout_s=self._timeout_s)
                is_lost = reply.status >= 300
                reason = f"it says {reply.status}"
            except (TransportError, ValueError) as err:
                is_lost, reason = True, str(err)
            self.calls += not is_lost
            if is_lost and not self._is_lost:
                log.warning("the dead man's address cannot be called: %s", reason)
            self._is_lost = is_lost
