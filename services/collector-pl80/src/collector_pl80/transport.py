"""The wire: one byte at a time through the adaptor, and none of them believed at once.

An answer is two bytes without a checksum, and the address in a request has none, either: a single
answer can be wrong and look right. A byte is believed when it leads all others that were seen in
its place by two answers, on a line that damaged something lately by four; what the byte was in the
last round counts as one. An undamaged line thus pays one exchange for a byte that did not change
and two for one that did.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from sunmesh.errors import FrameError, TransportError
from sunmesh.serialport import SerialPort
from sunmesh.tap import Tap

from . import codec
from .config import Pl80Device

log = logging.getLogger(__name__)

T = TypeVar("T")

DEADLINE_S = 1.0
"""From a request to the first byte of its answer; the paper says 0.07 to 0.2 s."""

LOOP_S = 0.25
"""The same for a loopback, which the adaptor answers by itself."""

WAKE_S = 0.7
"""The same after waking the adaptor."""

GAP_S = 0.4
"""An answer that pauses for so long in its middle is cut off."""

QUIET_S = 0.06
"""The line must be silent for so long before a damaged byte is asked for again."""

LATE_S = 0.3
"""The same after a time-out: the answer may be on its way."""

NOISE_LIMIT_S = 1.0
"""How long silence is waited for."""

BYTE_S, NOISE_BYTES = 0.02, 16
"""What is no answer is collected until it pauses for so long, or is so long: for the log."""

LEAD, LEAD_IN_DOUBT = 2, 4
"""By how many answers a byte must lead."""

TRIES, DAMAGED_LIMIT = 20, 8
"""A byte that is undecided after so many answers, or so many damaged ones, is given up for now."""

CLEAN_AGAIN = 200
"""Undamaged exchanges in a row after which a bad line is a good one."""

LOST_LIMIT = 3
"""So many time-outs in a row, though the adaptor answers, end a round."""

NO_CONTROLLER_LIMIT = 3
"""So many answers 133 in a row: the controller is gone, and not the adaptor."""


class Port(Protocol):
    """What a :class:`Link` needs of a port; :class:`~sunmesh.serialport.SerialPort` is one."""

    def open(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def write(self, data: bytes) -> None: ...  # noqa: D102
    def read_some(self, deadline: float, limit: int = ...) -> bytes: ...  # noqa: D102
    def flush_input(self) -> None: ...  # noqa: D102


def port_of(config: Pl80Device, holder: str) -> Port:
    """The port that ``config`` names."""
    return SerialPort(config.port, config.baud, holder=holder)


class Doubt(Exception):  # noqa: N818 - not an error: the reading begins again
    """The line damaged something, so what was believed on two answers is not believed any more."""


class Link:
    """Reads bytes of RAM and EEPROM that are worth believing. It can send nothing else.

    Args:
        port: opened by :meth:`open`.
        baud: of the line; says how many loopbacks try it.

    Attributes:
        counters: damaged answers by kind, time-outs, exchanges.
        tap: is shown each exchange.
    """

    def __init__(self, port: Port, baud: int = 9600) -> None:
        """Nothing is opened yet."""
        self._port = port
        self._loops = 32 if baud >= 2400 else 8
        self.counters: Counter[str] = Counter()
        self.tap = Tap()
        self._known: dict[tuple[int, int], int] = {}
        self._clean = 0
        self._clean_wanted = self._loops
        self._trusted = False
        self._lost = 0
        self._no_controller = 0

    # -- opening -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the port and try the adaptor with loopbacks, of which it answers each by itself.

        Raises:
            TransportError: it cannot be opened, or nobody answers.
            FrameError: ``foreign`` or ``echo``: what answers is no PLI.
        """
        self._port.open()
        self._known.clear()
        self._clean, self._clean_wanted = 0, self._loops
        if self.loopback(LOOP_S) is None:
            self._wake()
            if self.loopback(WAKE_S) is None:
                self.counters["timeouts"] += 1
                raise TransportError("the PLI adaptor does not answer its loopback")
        good, error = 0, FrameError("truncated", "no byte of an answer")
        for _ in range(self._loops):
            try:
                codec.value(self.exchange(codec.LOOPBACK, 0, LOOP_S), codec.request(codec.LOOPBACK))
                self._clean += 1
                good += 1
            except FrameError as err:
                error = err
                self._damaged(err)
                self.flush()
        if good <= self._loops // 4:
            raise error

    def close(self) -> None:
        """Give the port back; never raises."""
        self._port.close()

    def flush(self, quiet_s: float = QUIET_S) -> None:
        """Wait for a silent line, and forget what it said."""
        end = _in(NOISE_LIMIT_S)
        while self._port.read_some(_in(quiet_s)) and time.monotonic() < end:
            pass

    def loopback(self, deadline_s: float = LOOP_S) -> bytes | None:
        """What the adaptor itself answers; None when it is silent.

        Raises:
            TransportError: the port is gone.
        """
        return self.exchange(codec.LOOPBACK, 0, deadline_s) or None

    def _wake(self) -> None:
        """The adaptor lives on the signal lines: 100 ms of traffic start it."""
        for _ in range(24):
            self._port.write(codec.request(codec.LOOPBACK))
        self.flush(LATE_S)

    # -- reading -----------------------------------------------------------------------------------

    def steadily(self, read: Callable[[], T]) -> T:
        """What ``read`` returns; from its beginning when the line proved bad in its middle."""
        self._trusted = self._clean >= self._clean_wanted
        try:
            return read()
        except Doubt:
            return read()

    def byte(self, command: int, address: int) -> int:
        """The byte at ``address`` of RAM or EEPROM; call it inside :meth:`steadily`.

        Raises:
            FrameError: undecided for too long; the kind of the last damage.
            TransportError: no answer, or only from the adaptor.
            Doubt: the line was trusted until now.
        """
        votes: Counter[int] = Counter()
        known = self._known.get((command, address))
        error = FrameError("implausible", f"register {address} is never twice the same")
        damaged = 0
        for _ in range(TRIES):
            try:
                votes[self.once(command, address)] += 1
            except FrameError as err:
                error, damaged = err, damaged + 1
                if damaged >= DAMAGED_LIMIT:
                    break
                continue
            found = self._leader(votes, known)
            if found is not None:
                self._known[command, address] = found
                return found
        raise error

    def _leader(self, votes: Counter[int], known: int | None) -> int | None:
        """The byte that leads by enough; ``known``, of the last round, is a vote for itself.

        In doubt it is one against the others, too; else a byte that changed would cost three.
        """
        backed = votes.copy()
        if known is not None:
            backed[known] += 1
        first, most = backed.most_common(1)[0]
        against = votes if self._trusted else backed
        others = max((count for byte, count in against.items() if byte != first), default=0)
        return first if most - others >= (LEAD if self._trusted else LEAD_IN_DOUBT) else None

    def word(self, low: int) -> int:
        """The 16-bit counter at RAM ``low`` and ``low + 1``, whose halves belong together.

        Raises:
            FrameError: as :meth:`byte`; ``implausible``: it never stood still.
            TransportError, Doubt: as :meth:`byte`.
        """
        high = self.byte(codec.RAM, low + 1)
        for _ in range(3):
            rest = self.byte(codec.RAM, low)
            again = self.byte(codec.RAM, low + 1)
            if again == high:
                return high * 256 + rest
            self.counters["torn"] += 1
            high = again
        raise FrameError("implausible", f"the counter at {low} never stands still")

    def once(self, command: int, address: int) -> int:
        """One exchange, its answer not believed yet.

        Raises:
            FrameError: damaged, or lost on its way.
            TransportError: the adaptor, or the controller behind it, does not answer.
            Doubt: the first damage on a trusted line.
        """
        sent = codec.request(command, address)
        raw = self.exchange(command, address, DEADLINE_S)
        self._lost = 0 if raw else self._lost + 1
        if not raw:
            self._check_adaptor(address)
        try:
            byte = codec.value(raw, sent)
        except FrameError as err:
            self._count_no_controller(raw)
            self._damaged(err)
            self.flush(QUIET_S if raw else LATE_S)
            if self._trusted:
                self._trusted = False
                raise Doubt from err
            raise
        self._no_controller = 0
        self._clean += 1
        return byte

    def _check_adaptor(self, address: int) -> None:
        """A read was not answered: is the adaptor there?"""
        self.counters["timeouts"] += 1
        self.flush(0.0)
        if self.loopback() is None and self.loopback() is None:
            raise TransportError(f"no answer to a read of {address} within {DEADLINE_S:g} s")
        if self._lost >= LOST_LIMIT:
            raise TransportError(
                f"{self._lost} reads without an answer, though the adaptor is there"
            )

    def _count_no_controller(self, raw: bytes) -> None:
        if raw != bytes([codec.NO_CONTROLLER]):
            return
        self._no_controller += 1
        if self._no_controller >= NO_CONTROLLER_LIMIT:
            self._no_controller = 0
            raise TransportError("the adaptor answers, the controller behind it does not (133)")

    def _damaged(self, err: FrameError) -> None:
        self.counters[f"damaged_{err.kind}"] += 1
        self._clean, self._clean_wanted = 0, CLEAN_AGAIN
        log.debug("%s", err)

    def exchange(self, command: int, address: int, deadline_s: float = DEADLINE_S) -> bytes:
        """What came back, perhaps damaged, perhaps nothing.

        Raises:
            TransportError: the port is gone.
        """
        sent = codec.request(command, address)
        self.counters["exchanges"] += 1
        self._port.flush_input()
        self._port.write(sent)
        raw = self._port.read_some(_in(deadline_s))
        if raw == bytes([codec.OK]) and command != codec.LOOPBACK:
            raw += self._port.read_some(_in(GAP_S))
        elif raw and not _is_whole(raw):
            while len(raw) < NOISE_BYTES and (more := self._port.read_some(_in(BYTE_S))):
                raw += more
        log.debug("%s: %s", sent.hex(), raw.hex())
        self.tap(sent, raw)
        return raw


def _in(seconds: float) -> float:
    return time.monotonic() + seconds


def _is_whole(raw: bytes) -> bool:
    """Whether ``raw`` is as long as an answer that begins so; nothing is waited for then."""
    return raw[0] == codec.OK if len(raw) == 2 else raw[0] in (codec.LOOPED, *codec.STATUS)
