"""Console script ``recorder``: run, migrate, ingest, status. The only file that wires."""

import argparse
import json
import logging
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from sunmesh import config, service
from sunmesh.config import Site
from sunmesh.errors import ConfigError

from . import __version__
from .config import RecorderConfig


def main() -> None:
    """Run the verb that the command line names."""
    service.main(_entry)


def _entry() -> int:
    parser = argparse.ArgumentParser(prog="recorder", description=__doc__.partition(":")[0])
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, default=None, help="site.toml (or SUNMESH_CONFIG)")
    common.add_argument("--log", default="info", choices=("debug", "info", "warning", "error"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run", parents=[common], help="record until stopped")
    migrate = verbs.add_parser("migrate", parents=[common], help="bring the tables up to date")
    migrate.add_argument("--to", default="head", help="a revision, head, base or -1; down, too")
    ingest = verbs.add_parser("ingest", parents=[common], help="store messages from JSON lines")
    ingest.add_argument("file", help='lines {"topic":…,"payload":…}; - reads standard input')
    status = verbs.add_parser(
        "status", parents=[common], help="how it is, what waits, what there is"
    )
    status.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    service.setup_logging(arguments.log)
    path = arguments.config or config.default_path()
    site = config.load(path, "recorder")
    match arguments.verb:
        case "run":
            return _run(site)
        case "migrate":
            return _migrate(site, arguments.to)
        case "ingest":
            return _ingest(site, arguments.file)
    return _status(site, arguments.json)


def _run(site: Site) -> int:
    from zoneinfo import ZoneInfo

    from sunmesh.lean import share_heap
    from sunmesh.mqtt import Mesh

    from .codec import is_raw
    from .losses import summarize
    from .nightly import Nightly
    from .service import Recorder, migrate_apart
    from .spool import Spool
    from .store import Store
    from .upkeep import Upkeep

    share_heap()
    settings = site.section("recorder", RecorderConfig).spared()
    store = Store(
        site.database.sqlalchemy_url(),
        migrate_apart(site.path),
        max_series=settings.max_series,
        new_series_a_minute=settings.new_series_a_minute,
    )
    spool = Spool(
        _spool_folder(site, settings),
        settings.spool_mb * 1_000_000,
        is_raw,
        summarize,
    )
    try:
        spool.open()
    except OSError as err:
        logging.getLogger(__name__).error("%s cannot be used: %s", spool.folder, err.strerror)
    mesh = Mesh(
        site.broker,
        site.topics,
        "recorder",
        session_expiry_s=settings.session_days * 86400,
        manual_ack=True,
        receive_maximum=min(1000, settings.buffer_messages),
    )
    nightly = Nightly(site)
    recorder = Recorder(settings, mesh, store, spool, nightly.alarms)
    upkeep = Upkeep(site.database.sqlalchemy_url(), settings, ZoneInfo(site.site.time_zone))
    upkeep.start()
    if nightly.at is not None:
        upkeep.add_nightly(nightly.at, nightly.save, nightly.save_if_missed)

    def work(stop: threading.Event) -> None:
        """Record; at the end all parts stop at once, since each may wait for a database."""

        def end() -> None:
            stop.wait()
            nightly.stop()
            upkeep.stop()

        ending = threading.Thread(target=end, name="ending", daemon=True)
        ending.start()
        recorder.work(stop)
        ending.join(1.0)

    return service.run(
        "recorder",
        __version__,
        mesh,
        work,
        lambda: {**recorder.counters(), **upkeep.counters(), **nightly.counters()},
    )


def _migrate(site: Site, target: str) -> int:
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError
    from sunmesh.database.migrations import migrate
    from sunmesh.database.sql import DatabaseError, reason

    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    try:
        migrate(site.database.sqlalchemy_url(), target)
    except (CommandError, SQLAlchemyError, DatabaseError) as err:
        print(f"{site.database!r}: {reason(err)}", file=sys.stderr)
        return 1
    return 0


def _ingest(site: Site, name: str) -> int:
    from sunmesh.database.sql import DatabaseError

    from .ingest import Progress, ingest
    from .service import migrate_apart
    from .store import Store
    from .watch import MachineClock

    shown = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 1:
            shown = time.monotonic()
            print(f"recorder ingest: {progress}", file=sys.stderr, flush=True)

    settings = site.section("recorder", RecorderConfig)
    url = site.database.sqlalchemy_url()
    store = Store(url, migrate_apart(site.path), max_series=settings.max_series)
    try:
        with _open(name) as lines:
            latest = MachineClock.latest_ms(settings.max_future_s)
            progress = ingest(lines, store, site.site.name, report, latest)
    except DatabaseError as err:
        print(f"{site.database!r}: {err}; give the same lines again", file=sys.stderr)
        return 1
    finally:
        store.close()
    print(f"recorder ingest: {progress}", file=sys.stderr)
    return 1 if progress.refused else 0


def _open(name: str) -> AbstractContextManager[IO[bytes]]:
    """The file, or standard input, which stays open."""
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(name).open("rb")
    except OSError as err:
        raise ConfigError(f"{name}: cannot be read ({err.strerror})") from err


def _status(site: Site, as_json: bool) -> int:
    import os

    from sqlalchemy.exc import SQLAlchemyError
    from sunmesh.database.sql import reason
    from sunmesh.mqtt import Mesh

    from . import forecast
    from .status import for_people, running, status, waiting

    logging.getLogger("sunmesh.mqtt").setLevel(logging.ERROR)  # what is away is said below
    settings, url = site.section("recorder", RecorderConfig), site.database.sqlalchemy_url()
    mesh = Mesh(site.broker, site.topics, "recorder", instance=f"status-{os.getpid()}")
    found: dict[str, Any] = {
        "recorder": running(mesh),
        "spool": waiting(_spool_folder(site, settings), settings.spool_mb * 1_000_000),
    }
    try:
        found |= status(url)
        found |= {"storage": forecast.look(url, settings)}
    except SQLAlchemyError as err:
        found |= {"database": repr(site.database), "error": reason(err)}
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join([for_people(found), *forecast.for_people(found.get("storage"))]))
    return 1 if "error" in found else 0


def _spool_folder(site: Site, settings: RecorderConfig) -> Path:
    """Where the spool is; seen from the folder of ``site.toml``."""
    return (site.path.parent / settings.spool_dir).resolve()


if __name__ == "__main__":
    main()
