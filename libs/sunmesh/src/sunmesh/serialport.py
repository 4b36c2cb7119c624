"""The owner of a serial port: one process, by lock, and raw as the device sends.

Two pollers on one port both get garbage. A port is therefore locked twice: with a lock file keyed
by the *resolved* device path (``/dev/serial/by-id/...`` and ``/dev/ttyUSB0`` are one port), which
holds the owner's name so that the second opener can be told, and by pyserial's ``exclusive``.
"""

import contextlib
import os
import select
import termios
import time
from pathlib import Path

import serial

from .errors import TransportError
from .portlock import PortLock, find_holder


class SerialPort:
    """A raw serial port, or what pyserial reaches by URL (``socket://host:port``).

    Args:
        path: device path or URL.
        baud: bits a second; 8 data bits, no parity, 1 stop bit, no flow control.
        holder: the collector's name, told to whoever comes second.
        parity: ``N``, ``E`` or ``O``.
        stopbits: 1 or 2.
    """

    def __init__(
        self, path: str, baud: int, *, holder: str, parity: str = "N", stopbits: int = 1
    ) -> None:
        """Nothing is opened yet."""
        self.path = path
        self.baud = baud
        self._parity = parity
        self._stopbits = stopbits
        self._lock = None if "://" in path else PortLock(path, holder)
        self._serial: serial.Serial | None = None

    @property
    def is_open(self) -> bool:
        """Whether the port is ours now."""
        return self._serial is not None

    def open(self) -> None:
        """Lock and open the port, raw.

        Raises:
            TransportError: missing, in use (the holder is named), or not allowed.
        """
        self.close()
        if self._lock is not None:
            if not Path(self.path).exists():
                raise TransportError(f"{self.path} does not exist; is the adapter plugged in?")
            self._lock.take()
        try:
            self._serial = serial.serial_for_url(
                self.path,
                self.baud,
                parity=self._parity,
                stopbits=self._stopbits,
                timeout=0,
                write_timeout=5,
                xonxoff=False,
                rtscts=False,
                dsrdtr=False,
                **({"exclusive": True} if self._lock is not None else {}),
            )
        except (OSError, ValueError, termios.error) as err:
            if self._lock is not None:
                self._lock.release()
            raise TransportError(self._refusal(err)) from err

    def close(self) -> None:
        """Give the port back; never raises."""
        port, self._serial = self._serial, None
        if port is not None:
            with contextlib.suppress(OSError, termios.error):
                port.close()
        if self._lock is not None:
            self._lock.release()

    def write(self, data: bytes) -> None:
        """Write all of ``data`` at once.

        Raises:
            TransportError: the port is gone.
        """
        try:
            self._port.write(data)
        except (OSError, termios.error) as err:
            raise self._gone(err) from err

    def read_some(self, deadline: float, limit: int = 512) -> bytes:
        """What has come, at least one byte; empty when ``deadline`` (monotonic) passes first.

        Raises:
            TransportError: the port is gone.
        """
        port = self._port
        try:
            if not hasattr(port, "fd"):  # a URL: pyserial waits by itself
                port.timeout = max(0.0, deadline - time.monotonic())
                first: bytes = port.read(1)
                return first + (port.read(min(limit - 1, port.in_waiting)) if first else b"")
            fd = port.fileno()
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return b""
            data = os.read(fd, limit)
        except (OSError, ValueError, termios.error) as err:
            raise self._gone(err) from err
        if not data:
            raise self._gone(OSError("end of file"))
        return data

    def read_exact(self, count: int, deadline_s: float) -> bytes:
        """Read ``count`` bytes, fewer when ``deadline_s`` seconds run out first.

        Raises:
            TransportError: the port is gone.
        """
        deadline = time.monotonic() + deadline_s
        data = b""
        while len(data) < count:
            more = self.read_some(deadline, count - len(data))
            if not more:
                break
            data += more
        return data

    def flush_input(self) -> None:
        """Throw away what has come.

        Raises:
            TransportError: the port is gone.
        """
        try:
            self._port.reset_input_buffer()
        except (OSError, termios.error) as err:
            raise self._gone(err) from err

    @property
    def _port(self) -> serial.Serial:
        if self._serial is None:
            raise TransportError(f"{self.path} is not open")
        return self._serial

    def _gone(self, err: Exception) -> TransportError:
        return TransportError(f"{self.path} is gone ({err})")

    def _refusal(self, err: Exception) -> str:
        """Why the port could not be opened, with what to do about it."""
        number = getattr(err, "errno", None)
        if number in (11, 16) or "exclusively lock" in str(err):
            return f"{self.path} is in use by {find_holder(self.path) or 'another process'}"
        if number == 13:
            return f"{self.path}: permission denied; add the user to the group dialout"
        if number in (2, 6, 19):
            return f"{self.path} does not exist; is the adapter plugged in?"
        return f"{self.path} cannot be opened: {err}"
