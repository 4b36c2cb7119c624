"""``web run``: build the parts and serve until told to stop. The only file that wires."""

import argparse
import errno
import gc
import getpass
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, lean  # isort: skip # noqa: F401 - before what it makes lighter
from sunmesh import service
from sunmesh.config import Site, default_path, load
from sunmesh.errors import ConfigError, SunmeshError
from sunmesh.lean import give_back, share_heap
from sunmesh.mqtt import Mesh

from .alarms import AlarmBook
from .app import create_app
from .board import Board
from .config import WebConfig, web_of
from .controls import Controls
from .live import Live
from .orders import Orders
from .pages import PAGES
from .people.accounts import Accounts
from .queries import History

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

NAME = "web"
STOP_S = 1.0
TIDY_S = 10.0
"""How often memory that was needed for a page is given back."""


def warm_up(app: "Flask") -> None:
    """Compile the pages' templates, so that nobody waits for that, then tidy up.

    What that needs for a moment is used again for all that comes; later it would come on top.
    """
    for page in PAGES:
        app.jinja_env.get_template(f"{page.blueprint}.html")
    gc.collect()
    gc.freeze()  # what stays is not looked through again while somebody waits
    give_back()


def run(site: Site) -> int:
    """Serve the portal.

    Raises:
        ConfigError: a wrong ``[web]``, or an address that cannot be listened on.
    """
    from waitress import wasyncore  # type: ignore[import-untyped]

    from .server import serve

    config = web_of(site)
    mesh = Mesh(site.broker, site.topics, NAME)
    live = Live(mesh, site.devices)
    history = History(site.database.sqlalchemy_url(), site.site.zone, config.left_out)
    board = Board(config, site, live, history)
    accounts = Accounts(site.database.sqlalchemy_url())
    controls = Controls(board, Orders(live, accounts))
    book = AlarmBook(board, controls.orders)
    sockets: dict[int, object] = {}
    again = threading.Event()
    app = create_app(site, board, accounts, controls, book)
    app.extensions["restart"] = again.set
    try:
        server = serve(app, config, sockets)
    except OSError as err:
        where = f"{config.host}:{config.port}"
        if err.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{site.path}: web.port: {where} is in use by another program; choose another port"
            ) from err
        raise ConfigError(f"{site.path}: web.host: cannot listen on {where}: {err}") from err

    logging.getLogger("waitress").setLevel(logging.WARNING)  # a closed page is no event

    def work(stop: threading.Event) -> None:
        threading.Thread(target=warm_up, args=(app,), name="warm_up", daemon=True).start()
        for target in (
            board.serve,
            board.keep_facts,
            board.streams.tend,
            controls.serve,
            book.serve,
        ):
            name = target.__qualname__
            threading.Thread(target=target, args=(stop,), name=name, daemon=True).start()
        for host, port in _addresses(server, config):
            log.info("the portal is at http://%s:%s/", host, port)
        tidied = time.monotonic()
        while not stop.is_set() and not again.is_set():
            wasyncore.loop(timeout=0.3, use_poll=True, map=sockets, count=1)
            if time.monotonic() - tidied > TIDY_S:
                tidied = time.monotonic()
                give_back()
        board.streams.end()
        live.wake()
        server.task_dispatcher.shutdown(cancel_pending=True, timeout=STOP_S)
        wasyncore.close_all(sockets, ignore_all=True)
        history.close()
        accounts.close()

    def counters() -> dict[str, int | float | str | None]:
        return {
            "streams": len(board.streams),
            "streams_dropped": board.streams.dropped,
            **live.counters,
        }

    status = service.run(NAME, __version__, mesh, work, counters)
    if again.is_set() and status == 0:
        log.info("begins again with the new configuration")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - itself
    return status


def password(site: Site, name: str) -> int:
    """Give an admin another password, or make one: the way back in for who has forgotten it."""
    accounts = Accounts(site.database.sqlalchemy_url())
    text = getpass.getpass("another password: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        done = accounts.rescue(name, text.rstrip("\n"))
    except SunmeshError as err:
        print(f"{NAME}: {err}", file=sys.stderr)  # noqa: T201 - a verb for people
        return 1
    finally:
        accounts.close()
    print(done)  # noqa: T201 - a verb for people
    return 0


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
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("run", help="serve the portal until stopped")
    verb.add_argument("--config", type=Path, help="site.toml (default: $SUNMESH_CONFIG or ./)")
    verb.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    rescue = verbs.add_parser("password", help="set an admin's password, read from the terminal")
    rescue.add_argument("name", help="of the account; made, as an admin's, where there is none")
    rescue.add_argument("--config", type=Path, help="site.toml (default: $SUNMESH_CONFIG or ./)")
    options = parser.parse_args(arguments)
    site = load(options.config or default_path(), NAME)
    if options.verb == "password":
        return password(site, options.name)
    service.setup_logging(options.log_level)
    share_heap()
    return run(site)
