"""``sunmesh export``: what it is asked, and what it says."""

# ruff: noqa: T201 - what a console script prints is its product

import argparse
import sys
import time
from datetime import date, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ..clock import epoch_ms
from ..config import Site, default_path, load
from ..errors import ConfigError, SunmeshError

if TYPE_CHECKING:
    from .export import Wish

DESCRIPTION = """\
Writes what the database holds as CSV or JSON lines: raw values, minutes, hours, days, or the
energy books. `sunmesh import sunmesh FILE` takes raw values and energies back."""


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register ``sunmesh export``."""
    parser = verbs.add_parser(
        "export", help="the history as CSV or JSON lines", description=DESCRIPTION
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="site.toml")
    parser.add_argument("--from", dest="start", metavar="TIME", help="a day, or a time with zone")
    parser.add_argument("--to", dest="end", metavar="TIME", help="a day, which is in it, or a time")
    parser.add_argument("--device", action="append", default=[], metavar="NAME")
    parser.add_argument(
        "--series", action="append", default=[], metavar="NAME", help="[device.]quantity; * and ?"
    )
    parser.add_argument(
        "--flow", action="append", default=[], metavar="FLOW", help="of the books; default: all"
    )
    parser.add_argument(
        "--level", choices=("raw", "minute", "hour", "day", "energy"), help="default: raw"
    )
    parser.add_argument("--format", choices=("csv", "jsonl"), help="default: by FILE's name, csv")
    parser.add_argument("--wide", action="store_true", help="CSV with one column a series")
    parser.add_argument("--zone", metavar="ZONE", help="of the times; default: UTC")
    parser.add_argument(
        "--output", default="-", metavar="FILE", help="- is standard output; .gz is compressed"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Export; returns the exit status."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as err:
        raise ConfigError("this needs the extra database: pip install 'sunmesh[database]'") from err
    from ..database.sql import reason
    from .export import export, target

    site = load(options.config or default_path(), "recorder")
    wish = _wish(site, options)
    shown = time.monotonic()
    began = shown

    def progress(rows: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 1:
            shown = time.monotonic()
            print(f"sunmesh export: {rows} lines", file=sys.stderr, flush=True)

    try:
        with target(options.output) as out:
            rows = export(site.database.sqlalchemy_url(), wish, out, progress)
    except SQLAlchemyError as err:
        print(f"{site.database!r}: {reason(err)}", file=sys.stderr)
        return 1
    except SunmeshError as err:
        print(f"sunmesh export: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sunmesh export: interrupted; nothing was kept", file=sys.stderr)
        return 130
    if options.output != "-":
        took = time.monotonic() - began
        print(f"sunmesh export: {rows} lines in {took:.1f} s", file=sys.stderr)
    return 0


def _wish(site: Site, options: argparse.Namespace) -> "Wish":
    from ..database.tables import MAX_TS
    from .export import Wish

    if options.flow and options.level not in (None, "energy"):
        raise ConfigError("--flow is of the books: --level energy")
    if options.level == "energy" and (options.device or options.series):
        raise ConfigError("the books have flows, not devices: --flow")
    zone = site.site.zone
    name = options.output.removesuffix(".gz")
    return Wish(
        level=options.level or ("energy" if options.flow else "raw"),
        form=options.format or ("jsonl" if name.endswith((".jsonl", ".json")) else "csv"),
        start=_moment("--from", options.start, zone, last=False) if options.start else 0,
        end=_moment("--to", options.end, zone, last=True) if options.end else MAX_TS,
        devices=options.device,
        series=options.series,
        flows=options.flow,
        wide=options.wide,
        zone=_zone(options.zone),
        site=site.site.name,
    )


def _zone(name: str | None) -> tzinfo | None:
    if name is None or name == "UTC":
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as err:
        raise ConfigError(f"--zone {name}: is no name such as Europe/Rome") from err


def _moment(flag: str, text: str, zone: tzinfo, last: bool) -> int:
    """A day's first moment, or for ``last`` the first after it; else the moment itself [ms]."""
    try:
        if len(text) == 10:
            day = date.fromisoformat(text)
            if last:
                day = date.fromordinal(day.toordinal() + 1)
            return epoch_ms(datetime(day.year, day.month, day.day, tzinfo=zone))
        moment = datetime.fromisoformat(text)
    except ValueError as err:
        raise ConfigError(f"{flag} {text}: write 2026-11-21 or 2026-11-21T12:00:00Z") from err
    return epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone))
