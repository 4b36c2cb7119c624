"""The life of a service: signals, status and last will, health, a stop in under two seconds."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from . import clock
from .errors import ConfigError
from .messages import Health, Log, LogLine, ServiceStatus, encode
from .mqtt import Mesh

log = logging.getLogger(__name__)

HEALTH_INTERVAL_S = 30.0
LOG_LINES, LOG_CHARACTERS = 50, 500
"""What is kept of a log for people who look at it from elsewhere."""
LOG_LINGER_S = 2.0
"""Lines are sent that long after the first of them, together."""
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
    """An event that SIGTERM and SIGINT set.

    A handler runs wherever the main thread happens to be, which may hold a lock of the event or
    of the log: to wait for it there would be for ever. So it writes a byte, and a thread obeys.
    """
    stop = threading.Event()
    heard, told = os.pipe()

    def ask(number: int, _frame: object) -> None:
        os.write(told, bytes([number]))

    def obey() -> None:
        while number := os.read(heard, 1):
            log.info("%s: stopping", signal.Signals(number[0]).name)
            stop.set()

    threading.Thread(target=obey, name="signals", daemon=True).start()
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

    Publishes ``services/<name>/status`` (online, offline, and offline as the last will), every
    30 s ``services/<name>/health``: the broker client's counters, memory, and ``counters()``, and
    soon after something was logged ``services/<name>/log``: the last lines.

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
        due = time.monotonic() + 1.0  # the first soon, so that a new service is seen to live
        while not stop.is_set():
            said.news.wait(max(0.0, due - time.monotonic()))
            if said.news.is_set() and not stop.wait(LOG_LINGER_S):
                said.tell(mesh, name)
            if time.monotonic() < due or stop.is_set():
                continue
            due = time.monotonic() + HEALTH_INTERVAL_S
            try:
                health()
            except Exception:
                log.exception("no health message")

    errors, said = _ErrorCount(), _Said()
    logging.getLogger().addHandler(errors)
    logging.getLogger().addHandler(said)
    mesh.will(topics.service_status(name), status("offline"))
    mesh.on_connect(announce)
    mesh.on_connect(said.news.set)
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
        said.tell(mesh, name)
        mesh.publish(topics.service_status(name), status("offline"), retain=True)
    mesh.stop(STOP_S)
    logging.getLogger().removeHandler(errors)
    logging.getLogger().removeHandler(said)
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


class _Said(logging.Handler):
    """Keeps the last lines, for the portal. Only the thread of the health message sends them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.news = threading.Event()
        self._lines: deque[LogLine] = deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # a record that cannot be formatted: logging itself says so
            return
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {record.exc_info[1]!r}"
        ts = clock.iso(clock.now())
        line = LogLine(ts, record.levelname, record.name, text[:LOG_CHARACTERS])
        self._lines.append(line)
        if not record.name.startswith(Mesh.__module__):  # or sending would be news
            self.news.set()

    def tell(self, mesh: Mesh, name: str) -> None:
        """Publish the lines; what cannot be sent now goes with the next ones."""
        self.news.clear()
        with self.lock or threading.RLock():
            lines = list(self._lines)
        if mesh.connected and lines:
            payload = encode(Log(clock.iso(clock.now()), lines))
            mesh.publish(mesh.topics.service_log(name), payload, retain=True, qos=0)
