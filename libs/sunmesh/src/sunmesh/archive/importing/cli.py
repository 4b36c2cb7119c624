"""``sunmesh import``: what it is asked, and what it says."""

# ruff: noqa: T201 - what a console script prints is its product

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ...config import Site, default_path, load
from ...errors import ConfigError, SunmeshError

if TYPE_CHECKING:
    from .batches import Batch
    from .mapping import Mapping
    from .plan import Day, Plan
    from .scratch import Problems

LINES = 40
"""Days that are printed without --all."""

DESCRIPTION = """\
Takes old records into the database: samples of series where these have none, and energies where
the books say nothing. --dry-run shows what each day would become. Twice the same file changes
nothing. --undo takes an import back."""

EPILOG = """\
formats: csv (any table, with a mapping), sunmesh (an export), home-assistant, emoncms,
axpert-bms (VoltronicAxpertSolarMonitorBMS), pv-portal (photovoltaic-monitoring),
plant-data (PhotovoltaicProductionMonitor), pl80-influx (solar-battery-monitoring),
pvs6 (SunPower-PVS6-Supervisor); auto looks at the first file.

  sunmesh import csv old.csv --guess > old.toml
  sunmesh import csv old.csv --mapping old.toml --dry-run
  sunmesh import csv old.csv --mapping old.toml
  sunmesh import --list
  sunmesh import --undo 3
"""


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register ``sunmesh import``."""
    parser = verbs.add_parser(
        "import",
        help="old records into the database, with a dry run and an undo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("format", nargs="?", metavar="FORMAT", help="see below")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--config", type=Path, metavar="FILE", help="site.toml")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="columns to quantities, TOML")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=TARGET",
        help="a mapping's line: 'PV (kW)=inverter.pv_power_w', '3=flow:pv:day,unit=kWh'",
    )
    parser.add_argument("--time", metavar="COLUMN", help="where the times stand; joined by +")
    parser.add_argument("--time-format", metavar="FORM", help="iso, unix, %%d.%%m.%%Y %%H:%%M ...")
    parser.add_argument(
        "--guess", action="store_true", help="print a mapping that might fit, and do nothing"
    )
    parser.add_argument("--save-mapping", type=Path, metavar="FILE", help="keep what was given")
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="[ROLE=]NAME",
        help="what a device is called in the mesh",
    )
    parser.add_argument("--zone", metavar="ZONE", help="of times without one; default: the site's")
    parser.add_argument("--dry-run", action="store_true", help="show what would change")
    parser.add_argument("--all", action="store_true", help="show every day")
    parser.add_argument(
        "--replace", action="store_true", help="energies of the file win over the books'"
    )
    parser.add_argument("--list", action="store_true", help="imports so far")
    parser.add_argument("--undo", type=int, metavar="ID", help="take an import back")
    parser.add_argument("--by", default="", metavar="NAME", help="who asks; default: the user")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as err:
        raise ConfigError("this needs the extra database: pip install 'sunmesh[database]'") from err

    from ...database.sql import reason

    site: Site | None = None
    try:
        site = _site(options)
        if options.list or options.undo is not None:
            _check_schema(site)
            return _list(site, options) if options.list else _undo(site, options)
        if not options.format or not options.files:
            raise ConfigError("sunmesh import: FORMAT FILE…, --list or --undo ID; see --help")
        return _import(site, options)
    except SQLAlchemyError as err:
        where = site.database if site else "the database"
        print(f"{where!r}: {reason(err)}", file=sys.stderr)
        return 1
    except ConfigError:
        raise
    except SunmeshError as err:
        print(f"sunmesh import: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "sunmesh import: interrupted; what was stored is taken back, see --list",
            file=sys.stderr,
        )
        return 130


def _site(options: argparse.Namespace) -> Site:
    return load(options.config or default_path(), "recorder")


def _check_schema(site: Site) -> None:
    from ...database.sql import DatabaseError, engine, revision
    from ...database.tables import SCHEMA

    opened = engine(site.database.sqlalchemy_url(), read_only=True)
    try:
        with opened.connect() as connection:
            found = revision(connection)
    finally:
        opened.dispose()
    if found != SCHEMA:
        raise DatabaseError(
            f"the tables are at {found or 'nothing'}, this needs {SCHEMA}; run `recorder migrate`"
        )


def _import(site: Site, options: argparse.Namespace) -> int:
    from . import batches, formats, plan
    from .records import ImportRefusedError

    for path in options.files:
        if not path.is_file():
            raise ImportRefusedError(f"{path}: is no file")
    if options.format == "auto":
        chosen = formats.looks_like(options.files[0])
        if chosen is None:
            raise ImportRefusedError(f"{options.files[0]}: is of no format that is known")
        print(f"{options.files[0].name}: {chosen.title} ({chosen.name})", file=sys.stderr)
    else:
        chosen = formats.named(options.format)
    families = [(name, str(table["family"])) for name, table in site.devices.items()]
    how = plan.options_of(
        site.site.zone,
        families,
        chosen,
        zone=_zone(options.zone),
        devices=options.device,
        mapping=_mapping(options),
    )
    if options.guess:
        return _guess(chosen, options, how)
    _save(options, how.mapping)
    _check_schema(site)
    url = site.database.sqlalchemy_url()
    shown = _Shown()
    with plan.make(
        url, chosen, options.files, how, replace=options.replace, progress=shown
    ) as made:
        shown.clear()
        if options.json:
            number = None
            if not options.dry_run:
                number = batches.apply(made, url, by=options.by, progress=shown)
            shown.clear()
            _print_json(made, number)
            return 0
        _print_plan(made, options)
        if made.changes_nothing:
            if not options.dry_run:
                batches.apply(made, url, by=options.by)
            print("nothing to change")
            return 0
        if options.dry_run:
            print("dry run: nothing was changed")
            return 0
        number = batches.apply(made, url, by=options.by, progress=shown)
        shown.clear()
        print(f"import {number}: done; `sunmesh import --undo {number}` takes it back")
    return 0


def _zone(name: str | None) -> Any:  # noqa: ANN401 - ZoneInfo, imported late
    if name is None:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as err:
        raise ConfigError(f"--zone {name}: is no name such as Europe/Rome") from err


def _mapping(options: argparse.Namespace) -> "Mapping | None":
    from msgspec import structs

    from . import mapping

    found = mapping.load(options.mapping) if options.mapping else None
    if not (options.column or options.time or options.time_format):
        return found
    base = found or mapping.Mapping()
    when = base.time
    if options.time:
        names = [int(n) if n.isdecimal() else n for n in options.time.split("+")]
        when = structs.replace(when, column=names[0] if len(names) == 1 else names)
    if options.time_format:
        when = structs.replace(when, format=options.time_format)
    columns = [*base.column, *map(mapping.from_words, options.column)]
    return structs.replace(base, column=columns, time=when)


def _guess(chosen: Any, options: argparse.Namespace, how: Any) -> int:  # noqa: ANN401
    from . import mapping
    from .records import ImportRefusedError

    if chosen.guess is None:
        raise ImportRefusedError(f"{chosen.name} needs no mapping")
    found = chosen.guess(options.files, how)
    comment = f"A guess for {', '.join(path.name for path in options.files)}; look at each line."
    if not found.column:
        comment += "\nNo column was recognised: add them as in docs/import-export.md."
    print(mapping.to_toml(found, comment), end="")
    return 0


def _save(options: argparse.Namespace, mapping: "Mapping | None") -> None:
    if options.save_mapping is None:
        return
    from .mapping import Mapping, to_toml

    try:
        options.save_mapping.write_text(to_toml(mapping or Mapping()), encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"{options.save_mapping}: cannot be written ({err.strerror})") from err


class _Shown:
    """Progress on standard error; on a terminal in one line, else a line now and then."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._at = time.monotonic()
        self._used = False

    def __call__(self, what: str, done: int) -> None:
        """``done`` rows so far."""
        if time.monotonic() - self._at < (0.5 if self._out.isatty() else 5):
            return
        self._at = time.monotonic()
        text = f"{what} {done}"
        if self._out.isatty():
            self._out.write(f"\r\x1b[K{text}")
            self._used = True
        else:
            self._out.write(text + "\n")
        self._out.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._used:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._used = False


# -- what is printed -------------------------------------------------------------------------------


def _print_plan(made: "Plan", options: argparse.Namespace) -> None:
    changed = 0
    lines = 0
    for day in made.days():
        interesting = day.new or day.conflicts or day.covered
        changed += bool(interesting)
        if not interesting and not options.all:
            continue
        if options.all or lines < LINES:
            if not lines:
                print(f"{'day':10}  {'what':40} {'there':>14} {'would be':>14} {'difference':>12}")
            print(_line(day))
            lines += 1
    if changed > lines:
        print(f"… {changed - lines} lines more: --all")
    counts = made.counts
    parts = [
        (counts.samples, "new samples"),
        (counts.states, "new states"),
        (counts.settings, "new settings"),
        (counts.energies, "new stretches of energy"),
        (counts.same, "there already"),
        (counts.conflicts, "conflicts"),
        (counts.covered, "left out: the database has its own of that time"),
        (made.twice.count, "twice in the files"),
        (made.refused.count, "refused"),
        (made.warned.count, "warnings"),
    ]
    print("; ".join(f"{count} {text}" for count, text in parts if count) or "nothing in the files")
    for title, problems in (
        ("conflict, the database's stays", made.conflicts),
        ("twice, the first counts", made.twice),
        ("refused", made.refused),
        ("warning", made.warned),
    ):
        _print_problems(title, problems, made, 100 if options.all else 8)


def _print_problems(title: str, problems: "Problems", made: "Plan", most: int) -> None:
    for place, line, text in problems.first[:most]:
        print(f"{title}: {made.names(place)}, line {line}: {text}")
    if problems.count > min(most, len(problems.first)):
        print(f"{title}: … {problems.count - min(most, len(problems.first))} more")


def _line(day: "Day") -> str:
    def shown(value: float | None, count: int) -> str:
        if value is None:
            return "-"
        if day.measure == "changes":
            return f"{value:.0f} changes"
        return f"{_number(day, value)} {day.unit}".rstrip()

    difference = ""
    if day.after is not None and day.new:
        change = day.after - (day.before or 0.0) if day.before is not None else day.after
        difference = ("+" if change > 0 else "") + _number(day, change)
    notes = [
        f"{count} {word}"
        for count, word in (
            (day.new, "new"),
            (day.same, "same"),
            (day.conflicts, "conflicts"),
            (day.covered, "left out"),
        )
        if count
    ]
    return (
        f"{day.day}  {day.target:40} {shown(day.before, day.there):>14}"
        f" {shown(day.after, day.there + day.new):>14} {difference:>12}  {', '.join(notes)}"
    )


def _number(day: "Day", value: float) -> str:
    if day.measure == "changes":
        return f"{value:.0f}"
    return f"{value:.3f}" if day.measure != "mean" or abs(value) < 100 else f"{value:.1f}"


def _print_json(made: "Plan", number: int | None) -> None:
    """One object, its days one by one: there may be hundreds of thousands."""
    head: dict[str, Any] = {
        "format": made.format.name,
        "files": [{"name": s.path.name, "sha256": s.sha256} for s in made.sources],
        "import": number,
        "changes": not made.changes_nothing,
        "counts": asdict(made.counts),
    }
    for name in ("refused", "conflicts", "twice", "warned"):
        problems: Problems = getattr(made, name)
        head[name] = {
            "count": problems.count,
            "first": [
                {"file": made.names(place), "line": line, "reason": text}
                for place, line, text in problems.first
            ],
        }
    sys.stdout.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "days": [')
    for at, text in enumerate(_days(made)):
        sys.stdout.write((",\n" if at else "\n") + text)
    sys.stdout.write("]}\n")


def _days(made: "Plan") -> Iterator[str]:
    for day in made.days():
        yield json.dumps(day._asdict(), ensure_ascii=False)


def _list(site: Site, options: argparse.Namespace) -> int:
    from . import batches

    found = batches.listed(site.database.sqlalchemy_url())
    if options.json:
        print(json.dumps([asdict(each) for each in found], indent=1, ensure_ascii=False))
        return 0
    for each in reversed(found):
        print(_batch_line(each, site))
    if not found:
        print("nothing was imported yet")
    return 0


def _batch_line(each: "Batch", site: Site) -> str:
    from ...clock import from_ms

    when = from_ms(each.created).astimezone(site.site.zone)
    state = {
        "complete": "",
        "running": "  NOT FINISHED: the same import goes on with it, --undo takes it back",
        "undoing": "  half undone: --undo goes on",
        "undone": "  undone",
    }[each.state]
    booked = f", books corrected by edit {each.edits[-1]}" if each.edits else ""
    return (
        f"{each.id:4}  {when:%Y-%m-%d %H:%M}  {each.format:14} {each.samples} values{booked}"
        f"  {each.file}{state}"
    )


def _undo(site: Site, options: argparse.Namespace) -> int:
    from . import batches

    shown = _Shown()
    undone = batches.undo(
        site.database.sqlalchemy_url(),
        options.undo,
        site.site.zone,
        by=options.by,
        progress=shown,
    )
    shown.clear()
    if options.json:
        print(json.dumps(asdict(undone), ensure_ascii=False))
    else:
        print(f"import {undone.id} ({undone.file}) is undone")
    return 0
