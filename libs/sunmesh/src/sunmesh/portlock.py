"""Who has a serial port: a lock keyed by the resolved device path, which tells its holder's name.

``/dev/serial/by-id/...`` and ``/dev/ttyUSB0`` are one port, and one lock.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path

from .errors import TransportError

UNSTABLE = re.compile(r"/dev/(ttyUSB|ttyACM|hidraw)\d+")
"""Names that change hands when a plug is moved or the machine starts."""


def is_unstable(path: str) -> bool:
    """Whether ``path`` is a name that may belong to another adapter after the next start."""
    return UNSTABLE.fullmatch(path) is not None


class PortLock:
    """The lock on a device path; held from :meth:`take` to :meth:`release`, or to a crash.

    Args:
        path: the port, under any of its names.
        holder: who takes it, for the one who comes second.
    """

    def __init__(self, path: str, holder: str) -> None:
        """Nothing is locked yet."""
        self._path = path
        self._holder = holder
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            TransportError: somebody has it; the text names who.
        """
        name = _lock_file(os.path.realpath(self._path))
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):
            os.fchmod(file, 0o666)  # another user's collector must be able to ask, whatever umask
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise TransportError(f"{self._path} is in use by {holder}") from err
        os.ftruncate(file, 0)
        os.write(file, f"{self._holder} (process {os.getpid()})".encode())
        self._file = file

    def release(self) -> None:
        """Give it back; the file stays, empty, so that nobody locks a deleted one."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def find_holder(path: str) -> str | None:
    """Which process has ``path``: a collector by its lock, another one by its open file.

    None = nobody, or somebody of whom /proc tells this user nothing.
    """
    resolved = os.path.realpath(path)
    with contextlib.suppress(OSError), _lock_file(resolved).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read(200).decode(errors="replace").strip() or "a collector"
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(link.readlink()) == resolved:
                        name = (process / "comm").read_text(encoding="utf-8").strip()
                        return f"{name} (process {process.name})"
    return None


def _lock_file(resolved: str) -> Path:
    """The lock file of a resolved device path: in /run/lock, else in the temporary folder."""
    folder = Path("/run/lock")
    if not os.access(folder, os.W_OK):
        folder = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - where tempfile looks, too
    return folder / f"sunmesh{resolved.replace('/', '-')}.lock"
