"""Console script ``bookkeeper``: run, status, show, model, rebuild, edit, undo, edits."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sunmesh import clock, config, service
from sunmesh.config import Site
from sunmesh.errors import ConfigError, SunmeshError

from . import __version__
from .config import BookkeeperConfig

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .service import Keeper
    from .store import Store

FLOWS = (
    *("pv", "load", "grid_import", "grid_export", "battery_charge", "battery_discharge"),
    *("generator", "curtailed"),
)


class UsageError(SunmeshError):
    """The command line asks for what cannot be."""


def main() -> None:
    """Run the verb that the command line names."""
    service.main(_entry)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bookkeeper", description="The energy books of a site.")
    parser.add_argument("--version", action="version", version=__version__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, default=None, help="site.toml (or SUNMESH_CONFIG)")
    common.add_argument("--log", default="info", choices=("debug", "info", "warning", "error"))
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--json", action="store_true", help="for programs")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str,
        work: Callable[[Site, argparse.Namespace], int],
        text: str,
        *more: Any,  # noqa: ANN401
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, parents=[common, *more], help=text, description=text)
        added.set_defaults(work=work)
        return added

    verb("run", _run, "keep the books until stopped")
    verb("status", _status, "how far the books are", out)
    show = verb("show", _show, "the energy of a day, month, year or of all time", out)
    show.add_argument(
        "period",
        nargs="?",
        default="today",
        help="2026-11-21, 2026-11, 2026, today, yesterday or total (today)",
    )
    verb("model", _model, "which series feeds which flow, and why", out)
    rebuild = verb("rebuild", _rebuild, "book a stretch of time again from its readings")
    rebuild.add_argument("--from", dest="start", required=True, metavar="DAY", help="first day")
    rebuild.add_argument("--to", dest="end", metavar="DAY", help="last day (today)")
    edit = verb("edit", _edit, "set what a stretch of a flow adds up to", out)
    edit.add_argument("--flow", required=True, choices=FLOWS)
    edit.add_argument(
        "--at", metavar="WHEN", help="five minutes 2026-11-21T12:05, a day or a month"
    )
    edit.add_argument("--from", dest="start", metavar="WHEN", help="or its first moment")
    edit.add_argument("--to", dest="end", metavar="WHEN", help="and the first moment after it")
    amount = edit.add_mutually_exclusive_group(required=True)
    amount.add_argument("--wh", type=float, help="what it is to add up to [Wh]")
    amount.add_argument("--kwh", type=float, help="the same in kWh")
    edit.add_argument("--by", required=True, help="who you are")
    edit.add_argument("--reason", required=True, help="why")
    edit.add_argument(
        "--anyway", action="store_true", help="even if it is more than the devices can do"
    )
    undo = verb("undo", _undo, "take an edit or an import back")
    undo.add_argument("id", type=int, help="its number, see `bookkeeper edits`")
    undo.add_argument("--by", required=True, help="who you are")
    edits = verb("edits", _edits, "who changed what, when and why", out)
    edits.add_argument("--limit", type=int, default=20, help="so many of the newest (20)")
    return parser


def _entry() -> int:
    arguments = _parser().parse_args()
    service.setup_logging(arguments.log)
    site = config.load(arguments.config or config.default_path(), "bookkeeper")
    work: Callable[[Site, argparse.Namespace], int] = arguments.work
    try:
        return work(site, arguments)
    except ConfigError:
        raise
    except SunmeshError as err:
        print(f"bookkeeper {arguments.verb}: {err}", file=sys.stderr)
        return 2


def _run(site: Site, _arguments: argparse.Namespace) -> int:
    from sunmesh.database.sql import DatabaseError
    from sunmesh.mqtt import Mesh

    from .service import Bookkeeper, Keeper

    settings = site.section("bookkeeper", BookkeeperConfig)
    keeper = Keeper.of(site)
    with contextlib.suppress(DatabaseError):
        keeper.store.hold()  # a second bookkeeper ends here, and does not disturb the first
    bookkeeper = Bookkeeper(keeper, settings)
    mesh = Mesh(site.broker, site.topics, "bookkeeper")
    code = service.run("bookkeeper", __version__, mesh, bookkeeper.work, bookkeeper.counters)
    if bookkeeper.taken:
        print(f"bookkeeper run: {bookkeeper.taken}", file=sys.stderr)
        return 2
    return code


@contextlib.contextmanager
def _opened(site: Site) -> Iterator["Keeper"]:
    """The books, whose tables are there."""
    from .service import Keeper

    keeper = Keeper.of(site)
    try:
        keeper.store.ready()
        yield keeper
    finally:
        keeper.store.close()


def _print(document: object) -> None:
    print(json.dumps(document, indent=1, ensure_ascii=False))


# --- Verbs that read ----------------------------------------------------------------------------


def _status(site: Site, arguments: argparse.Namespace) -> int:
    from sunmesh.database import energy

    from . import store

    with _opened(site) as keeper:
        waits, oldest = keeper.store.read(store.waiting)
        last = keeper.store.read(store.last_bucket)
        span = keeper.store.read(energy.span)
        newest = keeper.store.read(lambda c: energy.edits(c, limit=1))
        model = keeper.model()
        found: dict[str, Any] = {
            "database": keeper.store.url.render_as_string(hide_password=True),
            "running": keeper.store.is_held(),
            "waiting": waits,
            "oldest_waiting": None if oldest is None else clock.iso(clock.from_ms(oldest)),
            "booked_to": None if last is None else clock.iso(clock.from_ms(last + 300_000)),
            "first_day": span[0].isoformat() if span else None,
            "last_day": (span[1] - timedelta(days=1)).isoformat() if span else None,
            "flows": list(model.flows),
            "missing": list(model.missing),
            "last_edit": newest[0].id if newest else None,
        }
    if arguments.json:
        _print(found)
        return 0
    running = "running" if found["running"] else "not running"
    print(f"database   {found['database']}\nbookkeeper {running}")
    if span:
        print(f"books      {found['first_day']} to {found['last_day']}, until {found['booked_to']}")
    else:
        print("books      empty")
    since = f", the oldest of {found['oldest_waiting']}" if waits else ""
    print(f"waiting    {waits} stretches of five minutes{since}")
    print(f"flows      {', '.join(found['flows']) or 'none yet'}")
    for name in found["missing"]:
        print(f"missing    {name} is not stored yet")
    if newest:
        print(f"last edit  {found['last_edit']}")
    return 0


def _show(site: Site, arguments: argparse.Namespace) -> int:
    from sunmesh.database import energy

    from . import figures
    from .battery_book import battery_of

    zone = site.site.zone
    with _opened(site) as keeper:
        first, end, by = _period(keeper.store, arguments.period, site)
        section = keeper.section

        def ask(connection: "Connection") -> Any:  # noqa: ANN401
            whole = energy.figures(connection, zone, first, end)
            if by == "hour":
                parts = energy.hours(connection, zone, first)
            else:
                parts = [
                    (_label(part, by), part)
                    for part in energy.table(connection, zone, first, end, by)
                ]
            return whole, parts, battery_of(connection, whole, section)

        whole, parts, battery = keeper.store.read(ask)
    if arguments.json:
        found = figures.document(whole, battery)
        found["by"] = by
        none = figures.Battery()
        found["parts"] = [
            {"label": label} | figures.document(part, none) for label, part in parts if part.flows
        ]
        _print(found)
        return 0
    print("\n".join(figures.summary(_title(arguments.period, first, end), whole, battery)))
    lines = figures.rows([label for label, _ in parts], [part for _, part in parts])
    if lines:
        print("\n".join(["", *lines]))
    return 0


def _period(opened: "Store", text: str, site: Site) -> tuple[date, date, Any]:
    from sunmesh.database import energy

    today = datetime.now(site.site.zone).date()
    if text == "total":
        span = opened.read(energy.span)
        if span is None:
            return today, today + timedelta(days=1), "day"
        return span[0], max(span[1], span[0] + timedelta(days=1)), "year"
    text = {
        "today": today.isoformat(),
        "yesterday": (today - timedelta(days=1)).isoformat(),
    }.get(text, text)
    first, end = energy.period(text)
    return first, end, {4: "month", 7: "day", 10: "hour"}[len(text)]


def _title(asked: str, first: date, end: date) -> str:
    last = end - timedelta(days=1)
    if first == last:
        return f"{first:%A} {first.isoformat()}"
    name = asked if asked[:1].isdigit() else "all time"
    return f"{name}: {first.isoformat()} to {last.isoformat()}"


def _label(part: Any, by: str) -> str:  # noqa: ANN401
    first: date = part.first
    match by:
        case "day":
            return f"{first.isoformat()} {first:%a}"
        case "month":
            return f"{first:%Y-%m}"
    return f"{first:%Y}"


def _model(site: Site, arguments: argparse.Namespace) -> int:
    from .site_model import describe

    with _opened(site) as keeper:
        model = keeper.model()
    if arguments.json:
        _print(
            {
                flow: {
                    "balance": how.balance,
                    "max_power_w": how.max_power_w,
                    "why": how.why,
                    "feeds": [
                        {
                            "device": feed.device,
                            "lifetime": feed.lifetime or None,
                            "day": feed.day or None,
                            "power": list(feed.power),
                            "sign": feed.sign,
                            "product": feed.product,
                        }
                        for feed in how.feeds
                    ],
                }
                for flow, how in model.flows.items()
            }
        )
        return 0
    print("\n".join(describe(model)))
    return 0


# --- Verbs that write ---------------------------------------------------------------------------


def _rebuild(site: Site, arguments: argparse.Namespace) -> int:
    from sunmesh.database import energy
    from sunmesh.database.days import bounds

    from .service import Keeper, Progress, rebuild

    zone = site.site.zone
    first, _ = energy.period(arguments.start)
    last = energy.period(arguments.end)[1] if arguments.end else None
    start = bounds(first, zone)[0]
    end = bounds(last, zone)[0] if last else clock.epoch_ms(clock.now())
    if end <= start:
        raise UsageError("--to must not be before --from")
    keeper = Keeper.of(site)
    begun = clock.now()

    def report(progress: Progress) -> None:
        spent = (clock.now() - begun).total_seconds()
        left = spent / progress.done * (progress.total - progress.done) if progress.done else 0
        share = progress.done / progress.total
        text = f"{progress.done} of {progress.total} stretches, {share:.0%}, {left:.0f} s left"
        print(f"bookkeeper rebuild: {text}", file=sys.stderr, flush=True)

    try:
        low, high, mine = rebuild(keeper, start, end, report)
    finally:
        keeper.store.close()
    if low == high:
        raise UsageError("there are no readings of that time any more; the books stay as they are")
    took = (clock.now() - begun).total_seconds()
    who = "" if mine else " by the bookkeeper that runs"
    print(
        f"booked {clock.iso(clock.from_ms(low))} to {clock.iso(clock.from_ms(high))} again{who}"
        f" in {took:.1f} s"
    )
    return 0


def _edit(site: Site, arguments: argparse.Namespace) -> int:
    from sunmesh.database import energy
    from sunmesh.database.days import local_day

    from .figures import LABELS, kwh

    zone = site.site.zone
    start, end = _stretch(site, arguments)
    wh = arguments.wh if arguments.wh is not None else arguments.kwh * 1000
    day = local_day(start, zone)
    periods = [energy.period(text) for text in (day.isoformat(), f"{day:%Y-%m}", f"{day:%Y}")]

    def work(connection: "Connection") -> tuple[int | None, list[Any], list[Any]]:
        def sums() -> list[Any]:
            return [energy.figures(connection, zone, *each).wh(arguments.flow) for each in periods]

        before = sums()
        change = energy.Change(arguments.flow, start, end, wh)
        number = energy.edit(connection, zone, [change], by=arguments.by, reason=arguments.reason)
        return number, before, sums()

    with _opened(site) as keeper:
        if not arguments.anyway:
            _refuse_too_much(keeper, arguments.flow, wh, end - start)
        number, before, after = energy.transact(keeper.store.engine, work)
    if arguments.json:
        _print({"id": number, "before_wh": before, "after_wh": after})
        return 0
    print(f"edit {number}; take it back with: bookkeeper undo {number} --by ...")
    for name, old, new in zip(("day", "month", "year"), before, after, strict=True):
        print(f"  {LABELS[arguments.flow]} of the {name}: {kwh(old)} → {kwh(new)}")
    return 0


def _refuse_too_much(keeper: "Keeper", flow: str, wh: float, length_ms: int) -> None:
    """More than the nameplates allow is a slip of the hand."""
    how = keeper.model().flows.get(flow)
    if how is None or how.balance or not how.feeds:
        return
    most = how.max_power_w * length_ms / 3_600_000
    if wh > most:
        raise UsageError(
            f"{wh:.0f} Wh is more than {flow} can be in that time: {how.max_power_w:.0f} W make"
            f" {most:.0f} Wh; say --anyway if it is so"
        )


def _stretch(site: Site, arguments: argparse.Namespace) -> tuple[int, int]:
    """What the command line means, in ms."""
    from sunmesh.database import energy
    from sunmesh.database.days import bounds
    from sunmesh.database.tables import BUCKET_MS

    zone = site.site.zone
    if (arguments.at is None) == (arguments.start is None or arguments.end is None):
        raise UsageError("say --at WHEN, or --from WHEN and --to WHEN")
    if arguments.at is not None and (arguments.start or arguments.end):
        raise UsageError("say --at WHEN, or --from WHEN and --to WHEN")
    if arguments.at is not None:
        if "T" in arguments.at or ":" in arguments.at:
            start = _moment(site, arguments.at)
            return start, start + BUCKET_MS
        first, end = energy.period(arguments.at)
        return bounds(first, zone)[0], bounds(end, zone)[0]
    return _moment(site, arguments.start), _moment(site, arguments.end)


def _moment(site: Site, text: str) -> int:
    """A local time, a time with an offset, or the first moment of a day."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time; write 2026-11-21T12:05") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=site.site.zone)
    return round(found.timestamp() * 1000)


def _undo(site: Site, arguments: argparse.Namespace) -> int:
    from sunmesh.database import energy

    with _opened(site) as keeper:
        count = energy.transact(
            keeper.store.engine,
            lambda c: energy.undo(c, site.site.zone, arguments.id, arguments.by),
        )
    print(f"edit {arguments.id} is undone: {count} × 5 min are as the books have them")
    return 0


def _edits(site: Site, arguments: argparse.Namespace) -> int:
    from sunmesh.database import energy

    from . import figures

    with _opened(site) as keeper:
        found = keeper.store.read(lambda c: energy.edits(c, limit=max(1, arguments.limit)))
    if arguments.json:
        _print(figures.edits_document(found))
        return 0
    print("\n".join(figures.edits(found, site.site.zone)))
    return 0


if __name__ == "__main__":
    main()
