"""A small JSON file that survives a kill and a power cut: what a service must not forget."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import msgspec

log = logging.getLogger(__name__)


class StateFile:
    """One JSON object on disk, written whole or not at all.

    Args:
        path: the file; its folder is made at the first :meth:`save`.

    Attributes:
        damaged: the last :meth:`load` found a file that it could not read. Then nothing is known,
            which is not the same as nothing having happened: assume the worst (a budget spent, a
            lease ended).
    """

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path
        self.damaged = False

    def load(self) -> dict[str, Any]:
        """What was saved last; empty where there is no file, or none that can be read.

        An unreadable file is logged and kept aside as ``NAME.bad``.
        """
        self.damaged = False
        try:
            content = msgspec.json.decode(self.path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as err:
            self.set_aside(str(err))
            return {}
        return content

    def set_aside(self, reason: str) -> None:
        """The content makes no sense to its reader: as :meth:`load` does with a broken file."""
        self.damaged = True
        log.error("%s cannot be read (%s); it is kept as %s", self.path, reason, self._bad.name)
        with contextlib.suppress(OSError):
            self.path.replace(self._bad)

    def save(self, content: dict[str, Any]) -> None:
        """Write ``content``, on disk when this returns.

        Raises:
            OSError: no room, no permission, no disk; the old content stands.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f"{self.path.name}.new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(content))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too
        finally:
            os.close(folder)

    @property
    def _bad(self) -> Path:
        return self.path.with_name(f"{self.path.name}.bad")
