"""The wire: one question at a time over UART or RS-485, shared by all packs on one port.

Nothing here knows what an answer means; :mod:`collector_bms.codec` does.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from sunmesh.errors import FrameError, TransportError
from sunmesh.tap import Tap

from .shared import LIMIT, Query
from .tables import Values

log = logging.getLogger(__name__)

GAP_S = 0.12
"""An answer that pauses for so long in its middle is cut off."""

QUIET_S = 0.03
"""The line must be silent for so long before a damaged answer is asked for again."""

NOISE_LIMIT_S = 0.5
"""How long that is waited for; on a line that never falls silent the retry fails anyway."""

SLOWER_S = 0.02
"""The pause between two questions once one was not heard, perhaps because it came too soon."""


class NoAnswer(TransportError):
    """Not one byte came in time; the port itself is well."""


class Port(Protocol):
    """What a :class:`Bus` needs of a port; :class:`~sunmesh.serialport.SerialPort` is one."""

    def open(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def write(self, data: bytes) -> None: ...  # noqa: D102
    def read_some(self, deadline: float, limit: int = ...) -> bytes: ...  # noqa: D102
    def flush_input(self) -> None: ...  # noqa: D102
    @property
    def is_open(self) -> bool: ...  # noqa: D102


class Bus:
    """A port with one or several packs on it, each polled by a thread of its own.

    The port is open while one of them wants it. Once it fails it is closed for all, and the next
    one who wants it opens it again: so a pack that is silent never closes it for the others, and a
    plug that was pulled never leaves a dead port open.

    Args:
        port: not open yet.
        pause_s: from the end of an answer to the next request, at least.
    """

    def __init__(self, port: Port, pause_s: float = 0.0) -> None:
        """Nothing is opened yet."""
        self.pause_s = pause_s
        self._port = port
        self._lock = threading.Lock()
        self._users: set[object] = set()
        self._free_at = 0.0

    def open(self, user: object) -> None:
        """Open the port for ``user``, unless it is open already.

        Raises:
            TransportError: it cannot be.
        """
        with self._lock:
            if not self._port.is_open:
                self._port.open()
            self._users.add(user)

    def close(self, user: object) -> None:
        """``user`` does not want the port any more; never raises."""
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self._port.close()

    def slow_down(self) -> None:
        """Pause between two questions from now on: somebody missed one."""
        if self.pause_s < SLOWER_S:
            self.pause_s = SLOWER_S
            log.info("%.0f ms between two questions from now on", SLOWER_S * 1000)

    def flush(self) -> None:
        """Wait for a silent line, and forget what it said.

        Raises:
            TransportError: the port is gone.
        """
        with self._lock, self._closed_on_failure():
            end = time.monotonic() + NOISE_LIMIT_S
            while self._port.read_some(time.monotonic() + QUIET_S) and time.monotonic() < end:
                pass

    def exchange(
        self, query: Query, timeout_s: float, sent: Callable[[], None] = lambda: None
    ) -> bytes:
        """The bytes that follow ``query``, as they came; perhaps damaged, never empty.

        An echo and frames of others do not end the wait; damaged bytes do, after a pause. ``sent``
        is called when the query has gone out.

        Raises:
            NoAnswer: no byte in time. TransportError: the port is gone.
        """
        with self._lock, self._closed_on_failure():
            pause = self._free_at - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            self._port.flush_input()
            self._port.write(query.request)
            sent()
            deadline = time.monotonic() + timeout_s
            last = deadline + timeout_s  # a train may begin late
            raw = b""
            while not query.is_complete(raw) and len(raw) < LIMIT:
                waiting = query.is_waiting(raw)
                until = deadline if waiting else min(last, time.monotonic() + GAP_S)
                more = self._port.read_some(until)
                if not more:
                    break
                raw += more
            if raw and query.settle_s:
                while len(raw) < LIMIT and (
                    more := self._port.read_some(time.monotonic() + query.settle_s)
                ):
                    raw += more
            self._free_at = time.monotonic() + self.pause_s
        if not raw:
            raise NoAnswer(f"no answer to {query.request.hex()} within {timeout_s:g} s")
        log.debug("%s: %s", query.request.hex(), raw.hex())
        return raw

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except TransportError:
            self._port.close()
            raise


class Link:
    """One pack's share of the bus: asks, and asks once more when the answer is damaged.

    Attributes:
        counters: damaged answers by kind, retries, and time-outs.
        tap: is shown each exchange.
    """

    def __init__(self, bus: Bus, timeout_s: float) -> None:
        """``bus`` may be shared."""
        self._bus = bus
        self._timeout_s = timeout_s
        self.counters: Counter[str] = Counter()
        self.tap = Tap()

    def open(self) -> None:
        """Open the port, unless another pack has done so.

        Raises:
            TransportError: it cannot be.
        """
        self._bus.open(self)

    def close(self) -> None:
        """Give it back; never raises."""
        self._bus.close(self)

    def flush(self) -> None:
        """Wait for a silent line, and forget what it said."""
        self._bus.flush()

    def slow_down(self) -> None:
        """See :meth:`Bus.slow_down`."""
        self._bus.slow_down()

    def ask(self, query: Query) -> Values:
        """The values of the answer to ``query``.

        Raises:
            FrameError: damaged, foreign, asleep or impossible, twice.
            NoAnswer: no byte in time. TransportError: the port is gone.
        """
        try:
            return query.take(self.exchange(query))
        except FrameError as err:
            self.counters[f"damaged_{err.kind}"] += 1
            if err.kind == "exception":
                raise
            log.debug("%s; asking again", err)
        self.counters["retries"] += 1
        self.flush()
        return query.take(self.exchange(query))

    def command(self, query: Query, sent: Callable[[], None]) -> None:
        """Let the board do something, once; any whole answer will do, for it proves nothing.

        Raises:
            FrameError: ``nak``: the board refuses. Others: an answer that cannot be read.
            NoAnswer: no byte in time. TransportError: the port is gone.
        """
        try:
            query.take(self.exchange(query, sent))
        except FrameError as err:
            raise FrameError("nak", err.detail) if err.kind == "exception" else err from err

    def exchange(self, query: Query, sent: Callable[[], None] = lambda: None) -> bytes:
        """The bytes that answer ``query``; see :meth:`Bus.exchange`."""
        try:
            raw = self._bus.exchange(query, self._timeout_s, sent)
        except NoAnswer:
            self.counters["timeouts"] += 1
            self.tap(query, b"")
            raise
        self.tap(query, raw)
        return raw
