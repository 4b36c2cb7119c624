"""Who ends this process when it hangs: systemd, the kernel's watchdog, or whoever watches a file.

A process that hangs keeps its line as it is, whatever the wiring; only somebody outside can end
that. Each is fed after a turn that went through to the output, and by nothing else.
"""

import contextlib
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""Between two feedings at most; less where systemd wants it sooner."""


class Watchdog:
    """Feeds systemd, if it started us, and the file or device of that name, if there is one.

    Args:
        path: a device such as ``/dev/watchdog`` (the machine is reset when it is not fed), or a
            file, of which the time changes; empty = neither.
        environ: where systemd says where it listens, and how often it wants to hear.
        monotonic: a clock that no one sets.
    """

    def __init__(
        self,
        path: str = "",
        environ: Mapping[str, str] = os.environ,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = environ.get("NOTIFY_SOCKET", "")
        self._path = Path(path) if path else None
        self._device: int | None = None
        self._monotonic = monotonic
        self._due = 0.0
        self._has_failed = False
        self._pause_s = PAUSE_S
        wanted = environ.get("WATCHDOG_USEC", "")
        if wanted.isdigit() and int(wanted) > 0:
            self._pause_s = min(PAUSE_S, int(wanted) / 1e6 / 3)

    def ready(self) -> None:
        """The output is in its place; systemd may start who waits for that."""
        self._notify("READY=1")

    def feed(self, status: str) -> None:
        """All is well; ``status`` is what ``systemctl status`` shows."""
        now = self._monotonic()
        if now < self._due:
            return
        self._due = now + self._pause_s
        self._notify(f"WATCHDOG=1\nSTATUS={status}")
        if self._path is not None:
            try:
                self._feed(self._path)
                self._has_failed = False
            except OSError as err:
                if not self._has_failed:
                    log.error("%s cannot be fed: %s", self._path, err.strerror)
                self._has_failed = True

    def end(self) -> None:
        """An end in order: nobody needs to intervene."""
        self._notify("STOPPING=1")
        if self._device is not None:
            with contextlib.suppress(OSError):
                os.write(self._device, b"V")
                os.close(self._device)
            self._device = None

    def _feed(self, path: Path) -> None:
        if self._device is None and path.exists() and stat.S_ISCHR(path.stat().st_mode):
            self._device = os.open(path, os.O_WRONLY)
        if self._device is not None:
            os.write(self._device, b"\0")
        else:
            path.write_text(f"{time.time():.0f}\n", encoding="ascii")

    def _notify(self, text: str) -> None:
        if not self._socket:
            return
        address = f"\0{self._socket[1:]}" if self._socket.startswith("@") else self._socket
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(0.2)
                out.sendto(text.encode(), address)
        except OSError as err:
            log.debug("systemd does not listen: %s", err)
