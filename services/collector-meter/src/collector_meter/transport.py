"""The wire: several meters take turns on one bus, one request at a time.

Nothing here knows what a register means; :mod:`collector_meter.codec` does.
"""

import contextlib
import logging
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

from sunmesh.errors import FrameError, TransportError
from sunmesh.serialport import SerialPort
from sunmesh.tap import Tap

from . import frames
from .config import MeterDevice
from .frames import Framing
from .tables import Block

log = logging.getLogger(__name__)

GAP_S = 0.1
"""An answer that pauses for so long in its middle is cut off (16 ms is USB's own pause)."""

QUIET_S = 0.05
"""The line must be silent for so long before a damaged answer is asked for again."""

NOISE_LIMIT_S = 0.5
"""How long that is waited for; on a line that never falls silent the retry fails anyway."""

LATE_S = 0.1
"""Pause after a time-out: an answer does not say what it answers, so a late one must pass."""

SILENT_CHARACTERS = 3.5
"""What Modbus RTU demands between two frames."""

CONNECT_S = 3.0


class NoAnswer(TransportError):
    """The port is well, and nobody said anything in time."""


class Wire(Protocol):
    """What a :class:`Bus` needs; :class:`~sunmesh.serialport.SerialPort` is one."""

    @property
    def is_open(self) -> bool: ...  # noqa: D102
    def open(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def write(self, data: bytes) -> None: ...  # noqa: D102
    def read_some(self, deadline: float, limit: int = ...) -> bytes: ...  # noqa: D102
    def flush_input(self) -> None: ...  # noqa: D102


class TcpWire:
    """A socket to a gateway, for Modbus TCP or for RTU as it is.

    Args:
        host: of the gateway.
        port: of the gateway.
    """

    def __init__(self, host: str, port: int) -> None:
        """Nothing is opened yet."""
        self._where = f"{host}:{port}"
        self._address = host, port
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def open(self) -> None:
        """Connect.

        Raises:
            TransportError: nobody listens there.
        """
        self.close()
        try:
            self._socket = socket.create_connection(self._address, CONNECT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as err:
            raise TransportError(f"{self._where} cannot be reached ({err})") from err

    def close(self) -> None:
        """Hang up; never raises."""
        connection, self._socket = self._socket, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def write(self, data: bytes) -> None:
        """Send ``data``.

        Raises:
            TransportError: the connection is gone.
        """
        try:
            self._open.sendall(data)
        except OSError as err:
            raise TransportError(f"{self._where} is gone ({err})") from err

    def read_some(self, deadline: float, limit: int = 512) -> bytes:
        """What has come, at least one byte; empty when ``deadline`` (monotonic) passes first.

        Raises:
            TransportError: the connection is gone.
        """
        connection = self._open
        try:
            wait_s = max(0.0, deadline - time.monotonic())
            if not select.select([connection], [], [], wait_s)[0]:
                return b""
            data = connection.recv(limit)
        except OSError as err:
            raise TransportError(f"{self._where} is gone ({err})") from err
        if not data:
            raise TransportError(f"{self._where} has hung up")
        return data

    def flush_input(self) -> None:
        """Throw away what has come. A gateway that hung up while idle is called again.

        Raises:
            TransportError: it cannot be reached.
        """
        try:
            while self.read_some(time.monotonic()):
                pass
        except TransportError:
            self.open()

    @property
    def _open(self) -> socket.socket:
        if self._socket is None:
            raise TransportError(f"{self._where} is not open")
        return self._socket


class Bus:
    """One port and everybody on it. A meter's round is one turn; turns do not mix.

    Args:
        wire: the port.
        framing: how frames look on it.
        answer_s: how long the first byte of an answer may take [s].
        request_gap_s: silence before a request to the same meter [s]; 3.5 characters at least.
        address_gap_s: silence before a request to another meter [s].
        byte_s: time of one character on the line [s]; 0 where there is no such line.
    """

    def __init__(
        self,
        wire: Wire,
        framing: Framing,
        *,
        answer_s: float = 0.5,
        request_gap_s: float = 0.005,
        address_gap_s: float = 0.2,
        byte_s: float = 0.0,
    ) -> None:
        """Opened by the first meter that comes, closed by the last that goes."""
        self.framing = framing
        self._wire = wire
        self._answer_s = answer_s
        self._request_gap_s = max(request_gap_s, SILENT_CHARACTERS * byte_s)
        self._address_gap_s = max(address_gap_s, self._request_gap_s)
        self._byte_s = byte_s
        self._lock = threading.RLock()
        self._present: set[int] = set()
        self._last_unit: int | None = None
        self._free_at = 0.0

    def join(self, unit: int) -> None:
        """A meter wants to be asked: open the port if it is not.

        Raises:
            TransportError: it cannot be opened.
        """
        with self._lock:
            if not self._wire.is_open:
                self._wire.open()
            self._present.add(unit)

    def leave(self, unit: int) -> None:
        """A meter is given up; the last one closes the port. Never raises."""
        with self._lock:
            self._present.discard(unit)
            if not self._present:
                self._wire.close()

    def end(self) -> None:
        """Close the port, whoever is on it. Never raises."""
        with self._lock:
            self._present.clear()
            self._wire.close()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else asks anything inside."""
        with self._lock:
            yield

    def flush(self) -> None:
        """Wait for a silent line, and forget what it said."""
        with self._lock:
            end = time.monotonic() + NOISE_LIMIT_S
            while self._wire.read_some(time.monotonic() + QUIET_S) and time.monotonic() < end:
                pass

    def exchange(self, unit: int, block: Block) -> tuple[bytes, bytes]:
        """Request and answer as they went over the wire; the answer perhaps damaged, never empty.

        Raises:
            TransportError: no byte in time (:class:`NoAnswer`), or the port is gone.
        """
        with self._lock:
            try:
                return self._exchange(unit, block)
            except TransportError:
                self._free_at = max(self._free_at, time.monotonic() + LATE_S)
                raise

    def _exchange(self, unit: int, block: Block) -> tuple[bytes, bytes]:
        if not self._wire.is_open:
            self._wire.open()
        request = self.framing.request(unit, block)
        other = self._last_unit not in (None, unit)
        gap_s = self._address_gap_s - self._request_gap_s if other else 0.0
        time.sleep(max(0.0, self._free_at + gap_s - time.monotonic()))
        try:
            self._wire.flush_input()
            self._wire.write(request)
            self._last_unit = unit
            raw = self._receive(unit, block, request)
        except NoAnswer:
            raise
        except TransportError:
            self._wire.close()  # the port itself is gone; the next turn opens it again
            raise
        finally:
            self._free_at = time.monotonic() + self._request_gap_s
        log.debug("%s: %s -> %s", unit, request.hex(), raw.hex())
        return request, raw

    def _receive(self, unit: int, block: Block, request: bytes) -> bytes:
        sent_s = len(request) * self._byte_s
        line_s = (2 * block.count + 20) * self._byte_s
        start = time.monotonic()
        raw = self._wire.read_some(start + sent_s + self._answer_s)
        if not raw:
            raise NoAnswer(f"no answer from address {unit} within {self._answer_s:g} s")
        end = time.monotonic() + line_s + self._answer_s
        while not self.framing.is_complete(request, raw) and len(raw) <= frames.LIMIT:
            more = self._wire.read_some(min(end, time.monotonic() + GAP_S))
            if not more:
                break
            raw += more
        return raw


class Link:
    """One meter on its bus. Asks once more when an answer is damaged.

    Attributes:
        counters: damaged answers by kind, retries, and time-outs.
        tap: is shown each exchange.
    """

    def __init__(self, bus: Bus, unit: int) -> None:
        """``unit`` is the meter's address."""
        self.bus = bus
        self.unit = unit
        self.counters: Counter[str] = Counter()
        self.tap = Tap()

    @property
    def protocol(self) -> str:
        """What is spoken on the bus."""
        return self.bus.framing.name

    def open(self) -> None:
        """Be on the bus.

        Raises:
            TransportError: its port cannot be opened.
        """
        self.bus.join(self.unit)

    def close(self) -> None:
        """Be off the bus; never raises."""
        self.bus.leave(self.unit)

    def flush(self) -> None:
        """Wait for a silent line, and forget what it said."""
        self.bus.flush()

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """The bus is this meter's alone inside."""
        return self.bus.turn()

    def read(self, block: Block) -> list[int]:
        """The registers of ``block``.

        Raises:
            FrameError: refused (``exception``), or damaged twice.
            TransportError: no answer in time, or the port is gone.
        """
        with self.bus.turn():
            try:
                return self._read(block)
            except FrameError as err:
                self.counters[f"damaged_{err.kind}"] += 1
                if err.kind == "exception":
                    raise
                log.debug("address %d, %s: %s; asking again", self.unit, block, err)
            self.counters["retries"] += 1
            self.bus.flush()
            return self._read(block)

    def _read(self, block: Block) -> list[int]:
        self.counters["requests"] += 1
        try:
            request, raw = self.bus.exchange(self.unit, block)
        except TransportError:
            self.counters["timeouts"] += 1
            self.tap(self.bus.framing.request(self.unit, block), b"")
            raise
        self.tap(request, raw)
        return self.bus.framing.registers(request, raw)


def bus_of(config: MeterDevice, holder: str) -> Bus:
    """The bus that ``config`` names: a serial port, ``tcp://`` or ``socket://`` (RTU in TCP)."""
    port = config.port or ""
    timing = {
        "answer_s": config.answer_s,
        "request_gap_s": config.request_gap_s,
        "address_gap_s": config.address_gap_s,
    }
    if "://" not in port:
        serial = SerialPort(
            port, config.baud, holder=holder, parity=config.parity, stopbits=config.stopbits
        )
        bits = 9 + config.stopbits + (config.parity != "N")
        return Bus(serial, frames.Rtu(), **timing, byte_s=bits / config.baud)
    url = urlsplit(port)
    wire = TcpWire(url.hostname or "", url.port or 502)
    if url.scheme == "tcp":
        return Bus(wire, frames.Tcp(), **{**timing, "address_gap_s": config.request_gap_s})
    return Bus(wire, frames.Rtu(), **timing, byte_s=10 / config.baud)
