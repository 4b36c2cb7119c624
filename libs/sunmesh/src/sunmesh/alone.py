"""Only one of a service is at work on a site: a second one says so and waits.

For services that hold something that two must not both do: alarms told twice, alarms that two
raise and clear against each other.
"""

import fcntl
import logging
import os
import threading
import time
from pathlib import Path
from typing import IO

from .config import Site
from .errors import MessageError, SunmeshError
from .messages import ServiceStatus, decode
from .mqtt import Mesh, Message

log = logging.getLogger(__name__)

SILENT_S = 75.0
"""Health comes every 30 s: who is silent for so long and says ``online`` is dead."""

LOOK_S = 1.0
TRY_S = 0.5


class RivalError(SunmeshError):
    """Another one of this service is at work."""


def is_taken_over(reason: str) -> bool:
    """Whether the broker ended a connection because another client has its name."""
    return "taken over" in reason.lower()


class Place:
    """The one place of this site's service on this machine: a lock beside what it keeps.

    Args:
        folder: where it keeps that.
        name: the service.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Nothing is held yet."""
        self._name = name
        self._path = folder / f"{name}.lock"
        self._file: IO[str] | None = None

    def take(self, stop: threading.Event) -> bool:
        """Wait until it is free; says once that another one has it. False when stopped before."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="ascii")
        is_said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not is_said:
                    file.seek(0)
                    who = file.read().strip() or "unknown"
                    log.warning(
                        "another %s (process %s) has %s; waiting", self._name, who, self._path
                    )
                    is_said = True
                if stop.wait(TRY_S):
                    file.close()
                    return False
                continue
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            self._file = file
            return True

    def leave(self) -> None:
        """The place is free again; so it is when this process ends, however."""
        if self._file is not None:
            self._file.close()
            self._file = None


def wait_alone(
    site: Site, name: str, host: str, stop: threading.Event, silent_s: float = SILENT_S
) -> bool:
    """Wait while one of the service ``name`` on another machine is alive; False: stopped before.

    The retained status may be that of a dead one (a power cut takes the broker's last will along),
    so its health has to come. An absent broker is no reason to wait: nobody can be told then.
    """
    mesh = Mesh(site.broker, site.topics, name, instance=f"look-{os.getpid()}")
    looked = threading.Event()
    state: dict[str, object] = {"other": "", "heard": time.monotonic()}

    def hear(message: Message) -> None:
        if message.topic == site.topics.service_health(name):
            if not message.retain:
                state["heard"] = time.monotonic()
            return
        if message.payload:
            try:
                status = decode(ServiceStatus, message.payload)
            except MessageError:
                return
            is_other = status.state == "online" and status.host != host
            state["other"] = f"{status.host}, since {status.started}" if is_other else ""
            if not message.retain:
                state["heard"] = time.monotonic()
        looked.set()

    mesh.subscribe(site.topics.service_status(name), hear)
    mesh.subscribe(site.topics.service_health(name), hear)
    mesh.start()
    try:
        looked.wait(LOOK_S)
        is_said = False
        while state["other"]:
            heard = state["heard"]
            if isinstance(heard, float) and time.monotonic() - heard > silent_s:
                log.warning("the %s on %s is silent; taking over", name, state["other"])
                break
            if not is_said:
                log.warning("another %s works on %s; waiting", name, state["other"])
                is_said = True
            if stop.wait(TRY_S):
                return False
    finally:
        mesh.stop(0.2)
    return not stop.is_set()
