"""Console script ``notifier``: run, test, status, outbox, emulate. The only file that wires."""

import argparse
import logging
import socket
import sys
import threading
from pathlib import Path

from sunmesh import config, service
from sunmesh.errors import ConfigError

from . import __version__
from .config import Secrets, notifier_of, state_folder

NAME = "notifier"


def main() -> None:
    """The console script."""
    service.main(lambda: entry(sys.argv[1:]))


def entry(arguments: list[str]) -> int:
    """Run the verb; returns the exit status."""
    options = _parser().parse_args(arguments)
    service.setup_logging(options.log_level)
    if options.verb == "emulate":
        from .emulator import main as emulate

        return emulate(options)
    site = config.load(options.config or config.default_path(), NAME)
    if options.verb == "run":
        return _run(site)
    from . import verbs

    settings = notifier_of(site)

    def say(line: str) -> None:
        print(line, flush=True)

    if options.verb == "test":
        return verbs.test(
            site,
            settings,
            say,
            severity=options.severity,
            wait_s=options.wait,
            keep=options.keep,
        )
    if options.verb == "status":
        return verbs.status(site, settings, say)
    return verbs.outbox(site, settings, say, limit=options.limit, history=options.history)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description="Pushes alarms to people's phones.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning"])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, does in (
        ("run", "deliver alarms"),
        ("test", "an alarm that is none, through the whole chain"),
        ("status", "how it does, and what is open"),
        ("outbox", "what waits, and what was sent"),
    ):
        one = verbs.add_parser(verb, help=does)
        one.add_argument("--config", type=Path, metavar="FILE", help="site.toml (SUNMESH_CONFIG)")
        if verb == "test":
            one.add_argument(
                "--severity", default="warning", choices=["info", "warning", "critical"]
            )
            one.add_argument("--wait", type=float, default=60.0, metavar="S", help="so long (60)")
            one.add_argument(
                "--keep", action="store_true", help="leave it raised all that time, to acknowledge"
            )
        if verb == "outbox":
            one.add_argument("--limit", type=int, default=40, metavar="N", help="so many (40)")
            one.add_argument("--history", action="store_true", help="changes instead of pushes")
    phone = verbs.add_parser("emulate", help="play Pushover and Catapush, and a phone")
    phone.add_argument("--http", default="127.0.0.1:8471", metavar="HOST:PORT")
    phone.add_argument("--quota", type=int, default=10_000, metavar="N")
    phone.add_argument("--faults", default="", metavar="LIST", help="such as 500:0.1,hang:0.05")
    phone.add_argument("--seed", type=int, default=1)
    phone.add_argument("--callback", default="", metavar="URL", help="told of Catapush's messages")
    return parser


def _run(site: config.Site) -> int:
    from sunmesh.alone import Place, wait_alone
    from sunmesh.mqtt import Mesh

    from .build import channels_of
    from .outbox import FILE, Outbox
    from .service import SESSION_S, WINDOW, Notifier
    from .transport import ask

    settings = notifier_of(site)
    folder = state_folder(site, settings)
    host = socket.gethostname()
    secrets = Secrets(site)
    stop = service.stop_event()
    place = Place(folder, NAME)
    if not place.take(stop) or not wait_alone(site, NAME, host, stop):
        return 0
    outbox = Outbox(folder / FILE)
    channels = channels_of(site, settings, outbox)
    mesh = Mesh(
        site.broker,
        site.topics,
        NAME,
        session_expiry_s=SESSION_S,
        manual_ack=True,
        receive_maximum=WINDOW,
    )
    notifier = Notifier(settings, site.site.zone, mesh, outbox, channels, host=host)
    if not channels:
        logging.getLogger(__name__).warning(
            "no [notifier.targets.NAME] in %s: alarms are kept, and nobody is told", site.path
        )
    done = threading.Event()
    dead_man = None
    if settings.dead_man_url_file:
        url = secrets.read("notifier.dead_man_url_file", settings.dead_man_url_file)
        from .deadman import DeadMan

        dead_man = DeadMan(
            url, settings.dead_man_every_s, notifier.is_well, ask, settings.timeout_s
        )
        dead_man.start(done)
    callbacks = None
    if settings.callback_listen:
        from .callbacks import Callbacks

        path = secrets.read("notifier.callback_path_file", settings.callback_path_file)
        try:
            callbacks = Callbacks(settings.callback_listen, path, outbox, notifier.note_told)
        except OSError as err:
            raise ConfigError(
                f"{site.path}: notifier.callback_listen: {settings.callback_listen}: {err.strerror}"
            ) from err

    def counters() -> dict[str, int | float | str | None]:
        more = {"dead_man_calls": dead_man.calls} if dead_man else {}
        return notifier.counters() | more

    try:
        return service.run(NAME, __version__, mesh, notifier.run, counters)
    finally:
        done.set()
        if callbacks is not None:
            callbacks.close()


if __name__ == "__main__":
    main()
