"""The life of a service: signals, status and last will, health, a stop in under two seconds."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from . import clock
from .errors import ConfigError
from .messages import Health, ServiceStatus, encode
from .mqtt import Mesh

log = logging.getLogger(__name__)

HEALTH_INTERVAL_S = 30.0
STOP_S = 1.0
"""How long the last messages may take on the way to the broker."""

Counters = Mapping[str, int | float | str | None]


def setup_logging(level: str = "info") -> None:
    """One line an event on stderr; times in UTC come from the journal or from docker."""
    logging.basicConfig(
        level=level.upper(),
        format="%(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )


def main(entry: Callable[[], int]) -> NoReturn:
    """Run ``entry`` and leave with its status; a wrong configuration is one line and status 2."""
    try:
        status = entry()
    except ConfigError as err:
        print(err, file=sys.stderr)  # noqa: T201 - the one line for the owner
        status = 2
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # the reader of our output has gone (``| head``); nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def stop_event() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop


def run(
    name: str,
    version: str,
    mesh: Mesh,
    work: Callable[[threading.Event], None],
    counters: Callable[[], Counters] = dict,
) -> int:
    """Live as a service until SIGTERM, SIGINT or the end of ``work``.

    Publishes ``services/<name>/status`` (online, offline, and offline as the last will) and every
    30 s ``services/<name>/health``: the broker client's counters, memory, and ``counters()``.

    Args:
        name: the service's folder name.
        version: its version.
        mesh: its broker client, not started yet.
        work: what it does; returns soon after the event is set.
        counters: what else belongs into the health message.

    Returns:
        The exit status: 0 after a stop that was asked for, 1 when ``work`` failed.
    """
    stop = stop_event()
    topics = mesh.topics
    started = clock.iso(clock.now())
    host = socket.gethostname()

    def status(state: str) -> bytes:
        return encode(ServiceStatus(state, version, host, started))  # type: ignore[arg-type]

    def announce() -> None:
        mesh.publish(topics.service_status(name), status("online"), retain=True)

    def health() -> None:
        values: dict[str, int | float | str | None] = {
            f"mqtt_{k}": v for k, v in mesh.counters.items()
        }
        values |= {"rss_bytes": rss_bytes(), "log_errors": errors.count}
        values |= counters()
        message = encode(Health(clock.iso(clock.now()), values))
        mesh.publish(topics.service_health(name), message, retain=True, qos=0)

    def health_loop() -> None:
        wait_s = 1.0  # the first soon, so that a new service is seen to live
        while not stop.wait(wait_s):
            try:
                health()
            except Exception:
                log.exception("no health message")
            wait_s = HEALTH_INTERVAL_S

    errors = _ErrorCount()
    logging.getLogger().addHandler(errors)
    mesh.will(topics.service_status(name), status("offline"))
    mesh.on_connect(announce)
    mesh.start()
    reporter = threading.Thread(target=health_loop, name="health", daemon=True)
    reporter.start()
    log.info("%s %s started for site %s", name, version, topics.site)
    code = 0
    try:
        work(stop)
    except Exception:
        log.exception("%s failed", name)
        code = 1
    stop.set()
    if mesh.connected:
        mesh.publish(topics.service_status(name), status("offline"), retain=True)
    mesh.stop(STOP_S)
    logging.getLogger().removeHandler(errors)
    return code


def rss_bytes() -> int | None:
    """Resident memory of this process; None where /proc is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class _ErrorCount(logging.Handler):
    """Counts what was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
