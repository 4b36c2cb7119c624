"""``simulator keep``: in an empty demo, starts what ``site.toml`` asks for, as it is written.

A real house has systemd or a container's runtime for that. Collectors start when the first device
of their family stands in the file; everything starts again when the file changes.
"""

import contextlib
import logging
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sunmesh import config
from sunmesh.errors import ConfigError

log = logging.getLogger(__name__)

LOOK_S = 0.5
STOP_S = 5.0
PAUSE_S = 5.0
"""What has ended by itself is started again after that long."""

Start = Callable[[Sequence[str]], "subprocess.Popen[bytes]"]


def wanted(families: set[str], commands: Mapping[str, Sequence[str]]) -> list[str]:
    """Which of the commands a site with devices of these families needs.

    Args:
        families: of its devices.
        commands: by the service's name.
    """
    found = []
    for name in commands:
        if name.startswith("collector-"):
            is_needed = name.removeprefix("collector-") in families
        else:
            is_needed = name not in ("controller", "watch") or bool(families)
        if is_needed:
            found.append(name)
    return found


class Keeper:
    """Processes of one site.

    Args:
        path: of ``site.toml``.
        commands: of the services that it may need, by name.
        start: a process.
    """

    def __init__(
        self, path: Path, commands: Mapping[str, Sequence[str]], start: Start = subprocess.Popen
    ) -> None:
        """Nothing runs before :meth:`turn`."""
        self._path = path
        self._commands = commands
        self._start = start
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._text: str | None = None
        self._rest = 0.0

    @property
    def running(self) -> list[str]:
        """Names of what runs."""
        return [name for name, process in self._running.items() if process.poll() is None]

    def turn(self, passed_s: float) -> None:
        """Look at the file and at the processes once."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError:
            return
        if text != self._text:
            if self._text is not None:
                log.info("%s has changed: all start again", self._path)
            self.stop()
            self._text, self._rest = text, 0.0
        self._rest -= passed_s
        if self._rest > 0:
            return
        try:
            site = config.load(self._path, "simulator")
        except ConfigError as err:
            log.warning("%s", err)
            self._rest = PAUSE_S
            return
        families = {str(table["family"]) for table in site.devices.values()}
        for name in wanted(families, self._commands):
            process = self._running.get(name)
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                log.warning("%s ended with status %s", name, process.returncode)
                self._rest = PAUSE_S
            self._running[name] = self._start(self._commands[name])

    def run(self, stop: threading.Event) -> None:
        """Go on until the event is set."""
        try:
            while not stop.is_set():
                self.turn(LOOK_S)
                stop.wait(LOOK_S)
        finally:
            self.stop()

    def stop(self) -> None:
        """End everything."""
        for process in self._running.values():
            with contextlib.suppress(OSError):
                process.terminate()
        for process in self._running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
