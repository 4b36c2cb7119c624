"""``web run``: build the parts and serve until told to stop. The only file that wires."""

import argparse
import ctypes
import errno
import gc
import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from sunmesh import service
from sunmesh.config import Site, default_path, load
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh

from . import __version__
from .app import create_app
from .board import Board
from .config import WebConfig, web_of
from .live import Live
from .queries import History

log = logging.getLogger(__name__)

NAME = "web"
STOP_S = 1.0
TIDY_S = 5.0
"""How soon after a day was read its memory is given back."""
M_ARENA_MAX = -8
"""glibc's ``mallopt``: how many heaps threads may make."""


def share_heap() -> None:
    """One heap for all threads: each of glibc's own would keep some MiB that nobody uses."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """What was needed for a moment goes back to the system."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def run(site: Site) -> int:
    """Serve the portal.

    Raises:
        ConfigError: a wrong ``[web]``, or an address that cannot be listened on.
    """
    from waitress import create_server, wasyncore  # type: ignore[import-untyped]

    config = web_of(site)
    mesh = Mesh(site.broker, site.topics, NAME)
    live = Live(mesh, site.devices)
    history = History(site.database.sqlalchemy_url(), site.site.zone, config.left_out)
    board = Board(config, site, live, history)
    sockets: dict[int, object] = {}
    try:
        server = create_server(
            create_app(site, board),
            map=sockets,
            host=config.host,
            port=config.port,
            threads=config.threads,
            ident=None,
            channel_request_lookahead=1,  # so that a stream learns that its page has gone
            clear_untrusted_proxy_headers=True,
        )
    except OSError as err:
        where = f"{config.host}:{config.port}"
        if err.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{site.path}: web.port: {where} is in use by another program; choose another port"
            ) from err
        raise ConfigError(f"{site.path}: web.host: cannot listen on {where}: {err}") from err

    logging.getLogger("waitress").setLevel(logging.WARNING)  # a closed page is no event

    def work(stop: threading.Event) -> None:
        gc.collect()  # what the imports left behind
        give_back()
        for target in (board.serve, board.keep_facts):
            threading.Thread(target=target, args=(stop,), name=target.__name__, daemon=True).start()
        for host, port in _addresses(server, config):
            log.info("the portal is at http://%s:%s/", host, port)
        tidied, reads = time.monotonic(), 0
        while not stop.is_set():
            wasyncore.loop(timeout=0.3, use_poll=True, map=sockets, count=1)
            if history.reads != reads and time.monotonic() - tidied > TIDY_S:
                tidied, reads = time.monotonic(), history.reads
                give_back()
        board.streams.end()
        live.wake()
        server.task_dispatcher.shutdown(cancel_pending=True, timeout=STOP_S)
        wasyncore.close_all(sockets, ignore_all=True)
        history.close()

    def counters() -> dict[str, int | float | str | None]:
        return {
            "streams": len(board.streams),
            "streams_dropped": board.streams.dropped,
            **live.counters,
        }

    return service.run(NAME, __version__, mesh, work, counters)


def _addresses(server: object, config: WebConfig) -> list[tuple[str, int]]:
    """Where it really listens: port 0 has become a number."""
    listening = getattr(server, "effective_listen", None)
    if listening:
        return [(str(host), int(port)) for host, port in listening]
    port = getattr(server, "effective_port", config.port)
    return [(config.host, int(port))]


def entry(arguments: list[str] | None = None) -> int:
    """The command line.

    Raises:
        ConfigError: the configuration is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=NAME, description="The portal: what the house does now, and what it did on any day."
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="run")
    verb = verbs.add_parser("run", help="serve the portal until stopped")
    verb.add_argument("--config", type=Path, help="site.toml (default: $SUNMESH_CONFIG or ./)")
    verb.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    options = parser.parse_args(arguments)
    service.setup_logging(options.log_level)
    share_heap()
    return run(load(options.config or default_path(), NAME))


def main() -> None:
    """Console script ``web``."""
    service.main(entry)


if __name__ == "__main__":
    main()
