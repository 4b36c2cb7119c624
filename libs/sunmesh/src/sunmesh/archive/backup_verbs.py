"""The verbs ``sunmesh backup`` and ``sunmesh restore``."""

# ruff: noqa: T201 - what a console script prints is its product

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from .. import config
from ..config import Site
from ..errors import ConfigError
from .keeping import BackupError, Keep, folder, settings

NICE = 10


def add(verbs: Any) -> None:  # noqa: ANN401 - argparse has no public name for it
    """Add the verbs to the parser of ``sunmesh``."""
    backup = verbs.add_parser(
        "backup",
        help="the database into one file, while the mesh runs",
        description="Saves the database as one moment shows it, proves the file by restoring it "
        "into a scratch database, and removes what is older than [backup] wants kept.",
    )
    backup.add_argument("--config", type=Path, metavar="FILE", help="site.toml")
    backup.add_argument("--to", type=Path, metavar="FOLDER", help="instead of [backup] folder")
    backup.add_argument(
        "--keep",
        type=_keep,
        metavar="D/W/M",
        help="days, weeks and months that keep a backup; instead of [backup]; 0/0/0 keeps one",
    )
    backup.add_argument("--list", action="store_true", help="say what there is, and make none")
    backup.add_argument("--verify", type=Path, metavar="FILE", help="prove that one again")
    backup.add_argument(
        "--verify-into", metavar="URL", help="an empty database for the proof; default: a file"
    )
    backup.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    backup.set_defaults(run=_backup)
    restore = verbs.add_parser(
        "restore",
        help="a backup into a database",
        description="Puts a backup into the database of site.toml, or another. Stop recorder and "
        "bookkeeper first.",
    )
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--config", type=Path, metavar="FILE", help="site.toml")
    restore.add_argument(
        "--into", metavar="URL", help="another database: sqlite:///FILE, mysql+pymysql://…"
    )
    restore.add_argument("--force", action="store_true", help="replace what is in the database")
    restore.set_defaults(run=_restore)


def _keep(text: str) -> Keep:
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})/(\d{1,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"write DAYS/WEEKS/MONTHS such as 7/4/12, not {text!r}")
    return Keep(*map(int, match.groups()))


def _site(path: Path | None) -> Site:
    # with the recorder's rights: who saves the database sees what the recorder writes
    return config.load(path or config.default_path(), "recorder")


def _tell(text: str) -> None:
    """Show progress: over itself on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def _done(text: str) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(text)


def _fail(err: BackupError) -> int:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(f"sunmesh: {err}", file=sys.stderr)
    return 1


def _backup(options: argparse.Namespace) -> int:
    from .backup import backup, listing, verify

    tell = None if options.background else _tell
    if options.background:
        os.nice(NICE)
    try:
        if options.verify:
            header = verify(options.verify, options.verify_into, tell)
            _done(f"{options.verify}: {header.rows:,} rows of {header.created}, all there")
            return 0
        site = _site(options.config)
        where = options.to or folder(site)
        if where is None:
            raise ConfigError(f"{site.path}: backup.folder: is missing; or name one with --to")
        if options.list:
            lines = listing(where, site.site.name)
            print("\n".join(lines) or f"no backup of {site.site.name} in {where}")
            return 0
        keep = options.keep or (None if options.to else settings(site).keep)
        made = backup(site, where, keep=keep, scratch=options.verify_into, tell=tell)
    except BackupError as err:
        return _fail(err)
    _done(str(made))
    return 0


def _restore(options: argparse.Namespace) -> int:
    from .backup import restore

    url = options.into or _site(options.config).database.sqlalchemy_url()
    try:
        header = restore(options.file, url, force=options.force, tell=_tell)
    except BackupError as err:
        return _fail(err)
    _done(f"{header.rows:,} rows of {header.created} are in the database, and the same as saved")
    return 0
