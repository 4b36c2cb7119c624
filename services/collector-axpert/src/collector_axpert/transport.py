"""The wire: one request at a time over RS-232 or USB, by the receive rules of the protocol sheet.

Nothing here knows what an answer means; :mod:`collector_axpert.codec` does.
"""

import contextlib
import logging
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from sunmesh.errors import FrameError, TransportError
from sunmesh.portlock import PortLock
from sunmesh.serialport import SerialPort
from sunmesh.tap import Tap

from . import codec, tables
from .config import AxpertDevice
from .tables import Values

log = logging.getLogger(__name__)

DEADLINE_S = 2.0
"""From the end of a request to the end of its answer."""

SLOW_S = {"QPGS": 2.5, "QALL": 0.6}
"""Other deadlines, by the start of the command: QPGS gathers other units, QALL tells REVOs."""

SET_DEADLINE_S = 5.0
"""A set command writes EEPROM first."""

GAP_S = 0.3
"""An answer that pauses for so long in its middle is cut off."""

QUIET_S = 0.2
"""The line must be silent for so long before a damaged answer is asked for again."""

NOISE_LIMIT_S = 1.0
"""How long that is waited for; on a line that never falls silent the retry fails anyway."""

REPORT_BYTES = 8
REPORT_PAUSE_S = 0.05


class Port(Protocol):
    """What a :class:`Link` needs of a port; :class:`~sunmesh.serialport.SerialPort` is one."""

    def open(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def write(self, data: bytes) -> None: ...  # noqa: D102
    def read_some(self, deadline: float, limit: int = ...) -> bytes: ...  # noqa: D102
    def flush_input(self) -> None: ...  # noqa: D102


class HidPort:
    """The USB socket: ``/dev/hidrawN``, reports of 8 bytes in both directions.

    Args:
        path: the device, under any of its names.
        holder: the collector's name, told to whoever comes second.
    """

    def __init__(self, path: str, holder: str) -> None:
        """Nothing is opened yet."""
        self.path = path
        self._lock = PortLock(path, holder)
        self._fd: int | None = None

    def open(self) -> None:
        """Lock and open the device.

        Raises:
            TransportError: missing, in use, or not allowed.
        """
        self.close()
        if not Path(self.path).exists():
            raise TransportError(f"{self.path} does not exist; is the cable plugged in?")
        self._lock.take()
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            self._lock.release()
            raise TransportError(f"{self.path} cannot be opened: {err.strerror}") from err

    def close(self) -> None:
        """Give the device back; never raises."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._lock.release()

    def write(self, data: bytes) -> None:
        """Write ``data`` in reports, the last padded with NUL.

        Raises:
            TransportError: the device is gone.
        """
        for at in range(0, len(data), REPORT_BYTES):
            if at:
                time.sleep(REPORT_PAUSE_S)  # faster, and the board forgets a report
            try:
                os.write(self._open_fd, data[at : at + REPORT_BYTES].ljust(REPORT_BYTES, b"\0"))
            except OSError as err:
                raise TransportError(f"{self.path} is gone ({err.strerror})") from err

    def read_some(self, deadline: float, limit: int = codec.LIMIT) -> bytes:
        """What has come, at least one report; empty when ``deadline`` (monotonic) passes first.

        Raises:
            TransportError: the device is gone.
        """
        fd = self._open_fd
        try:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return b""
            data = os.read(fd, limit)
        except OSError as err:
            raise TransportError(f"{self.path} is gone ({err.strerror})") from err
        if not data:
            raise TransportError(f"{self.path} is gone (end of file)")
        return data

    def flush_input(self) -> None:
        """Throw away the reports of an earlier answer, which the board keeps for ever."""
        while self.read_some(time.monotonic()):
            pass

    @property
    def _open_fd(self) -> int:
        if self._fd is None:
            raise TransportError(f"{self.path} is not open")
        return self._fd


def port_of(config: AxpertDevice, holder: str) -> Port:
    """The port that ``config`` names: ``hidraw`` by its resolved name, else serial."""
    kind = config.transport
    if kind == "auto":
        kind = "hidraw" if "hidraw" in os.path.realpath(config.port) else "serial"
    if kind == "hidraw":
        return HidPort(config.port, holder)
    return SerialPort(config.port, config.baud, holder=holder)


class Link:
    """Asks one thing at a time, and asks once more when the answer is damaged.

    Attributes:
        counters: damaged answers by kind, retries, time-outs.
        tap: is shown each exchange.
    """

    def __init__(self, port: Port) -> None:
        """``port`` is opened by :meth:`open`."""
        self._port = port
        self.counters: Counter[str] = Counter()
        self.tap = Tap()

    def open(self) -> None:
        """Open the port.

        Raises:
            TransportError: it cannot be.
        """
        self._port.open()

    def close(self) -> None:
        """Close it; never raises."""
        self._port.close()

    def flush(self) -> None:
        """Wait for a silent line, and forget what it said."""
        end = time.monotonic() + NOISE_LIMIT_S
        while self._port.read_some(time.monotonic() + QUIET_S) and time.monotonic() < end:
            pass

    def ask(
        self, command: str, warning_tables: Mapping[int, str] = tables.WARNINGS_BY_LENGTH
    ) -> Values:
        """The values of the answer to ``command``.

        Raises:
            FrameError: refused (``nak``), not understood, or damaged twice.
            TransportError: no answer in time, or the port is gone.
        """
        try:
            return codec.decode(command, self.exchange(command), warning_tables)
        except FrameError as err:
            if err.kind in ("nak", "unsupported"):
                raise
            self.counters[f"damaged_{err.kind}"] += 1
            log.debug("%s: %s; asking again", command, err)
        self.counters["retries"] += 1
        self.flush()
        return codec.decode(command, self.exchange(command), warning_tables)

    def command(self, command: str, sent: Callable[[], None]) -> None:
        """Let the device set something, once; ``sent`` is called when the request has gone out.

        Raises:
            FrameError: refused (``nak``), or an answer of which nobody knows what it says.
            TransportError: no answer in time, or the port is gone.
        """
        codec.decode(command, self.exchange(command, sent))

    def exchange(self, command: str, sent: Callable[[], None] = lambda: None) -> bytes:
        """The bytes that answer ``command``, as they came; perhaps damaged, never empty.

        Raises:
            TransportError: no byte in time, or the port is gone.
        """
        self._port.flush_input()
        data = codec.request(command)
        self._port.write(data)
        sent()
        wait_s = SLOW_S.get(codec.key_of(command), DEADLINE_S)
        if codec.is_set_command(command):
            wait_s = SET_DEADLINE_S
        deadline = time.monotonic() + wait_s
        raw = self._port.read_some(deadline)
        if not raw:
            self.counters["timeouts"] += 1
            self.tap(command, raw)
            raise TransportError(f"no answer to {command} within {wait_s:g} s")
        while not codec.is_complete(raw, command) and len(raw) <= codec.LIMIT:
            more = self._port.read_some(min(deadline, time.monotonic() + GAP_S))
            if not more:
                break
            raw += more
        log.debug("%s: %s", command, raw.hex())
        self.tap(command, raw)
        return raw
