"""Console script ``controller``: run, replay, check, status, mode."""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sunmesh import clock, config, service
from sunmesh.config import Site
from sunmesh.errors import ConfigError, RefusedError, SunmeshError
from sunmesh.messages import Value

from . import __version__
from .book import Book
from .config import MODES, ControllerConfig
from .loading import state_path
from .rules import Plan

if TYPE_CHECKING:
    from .replay import Chunk, Report

NAME = "controller"
PAST_S = 30.0
"""The database may take that long to tell the last minutes [s]."""
ANSWER_S = 5.0


class UsageError(SunmeshError):
    """The command line asks for what cannot be."""


def main() -> None:
    """Run the verb that the command line names."""
    service.main(lambda: entry(sys.argv[1:]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description="Rules that set the inverter.")
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

    verb("run", _run, "evaluate the rules until stopped")
    verb("check", _check, "check the configuration and read the rules aloud", out)
    replay = verb("replay", _replay, "run rules over the past that the database holds", out)
    replay.add_argument("--days", type=float, default=30.0, help="so many days back from now (30)")
    replay.add_argument("--rule", action="append", default=[], metavar="NAME", help="only this one")
    replay.add_argument("--draft", type=Path, metavar="FILE", help="with a change, and without it")
    replay.add_argument("--compact", action="store_true", help=argparse.SUPPRESS)
    replay.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="DEVICE.SETTING=VALUE",
        help="what a setting was that is not recorded",
    )
    verb("status", _status, "modes, and what each rule decided last", out)
    mode = verb("mode", _mode, "choose off, shadow or on, for all rules or for one")
    mode.add_argument("mode", choices=MODES)
    mode.add_argument("--rule", metavar="NAME", help="of this rule only")
    mode.add_argument("--by", default="", help="who you are")
    return parser


def entry(words: list[str]) -> int:
    """Run the verb; returns the exit status."""
    arguments = _parser().parse_args(words)
    service.setup_logging(arguments.log)
    site = config.load(arguments.config or config.default_path(), NAME)
    work: Callable[[Site, argparse.Namespace], int] = arguments.work
    try:
        return work(site, arguments)
    except ConfigError:
        raise
    except SunmeshError as err:
        print(f"controller {arguments.verb}: {err}", file=sys.stderr)
        return 2


def _run(site: Site, _arguments: argparse.Namespace) -> int:
    from sunmesh.mqtt import Mesh
    from sunmesh.statefile import StateFile

    from .service import Controller

    book = Book(site)
    plan = book.plan
    mesh = Mesh(site.broker, site.topics, NAME)
    file = StateFile(state_path(site, plan.config))
    past = _past_of(site, plan.minute_ms)
    controller = Controller(plan, mesh, site.devices, file, past, book=book)
    controller.listen()
    return service.run(NAME, __version__, mesh, controller.work, controller.counters)


def _past_of(site: Site, minute_ms: int) -> Callable[[], list[tuple[str, str, int, Value]]] | None:
    """Reads the last minutes in a process of its own, which leaves nothing resident."""
    if minute_ms != 60_000:
        return None

    def past() -> list[tuple[str, str, int, Value]]:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "controller.past", str(site.path)],
                capture_output=True,
                text=True,
                timeout=PAST_S,
            )
        except subprocess.TimeoutExpired as err:
            raise SunmeshError(f"the database took longer than {PAST_S:g} s") from err
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise SunmeshError(f"the database: {last[:200]}")
        return [(row[0], row[1], int(row[2]), row[3]) for row in json.loads(done.stdout)]

    return past


def _check(site: Site, arguments: argparse.Namespace) -> int:
    from . import words

    book = Book(site)
    plan = book.plan
    if arguments.json:
        found = {
            "preset": plan.config.preset,
            "numbers": dict(plan.numbers),
            "rules": [
                {
                    "name": rule.name,
                    "mode": rule.mode,
                    "protects": rule.protects,
                    "priority": rule.priority,
                    "text": words.rule(rule, plan.config.minute_s),
                }
                for rule in plan.rules
            ],
            "left_out": dict(plan.left_out),
            "saved": sorted(book.saved.rules),
            "unsound": book.unsound,
        }
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    print("\n".join(words.plan(plan)))
    for name, why in sorted(book.unsound.items()):
        print(f"\n{name}, as it was changed in the portal, is left out: {why}")
    print(f"\n{site.path}: {len(plan.rules)} rules are sound.")
    if book.saved.rules or book.saved.numbers:
        changed = ", ".join([*sorted(book.saved.rules), *sorted(book.saved.numbers)])
        print(f"Changed in the portal, which goes before site.toml: {changed} ({book.path})")
    return 0


def _replay(site: Site, arguments: argparse.Namespace) -> int:
    from sqlalchemy.exc import SQLAlchemyError
    from sunmesh.database.sql import engine, reason

    from .past import MINUTE_MS, Past
    from .replay import Replay, stretches

    plans = _replayed(Book(site), arguments)
    if not 0 < arguments.days <= 3660:
        raise UsageError("--days must be above 0, and 3660 at most")
    settings = dict(_assumed(text) for text in arguments.set)
    end = clock.now().replace(second=0, microsecond=0)
    start = end - timedelta(days=arguments.days)
    minutes = round((end - start).total_seconds() / 60)
    total = minutes * len(plans)
    told = [time.monotonic()]
    began = time.monotonic()
    reports: dict[str, Report] = {}
    opened = engine(site.database.sqlalchemy_url(), read_only=True)
    try:
        with opened.connect() as connection:
            for which, plan in plans.items():
                before = len(reports) * minutes

                def progress(done: int, before: int = before) -> None:
                    if time.monotonic() - told[0] >= 1.0:
                        told[0] = time.monotonic()
                        share = (before + done) / total
                        left_s = (told[0] - began) / share * (1 - share)
                        text = f"{share:.0%} of {total} minutes, {left_s:.0f} s left"
                        print(f"controller replay: {text}", file=sys.stderr, flush=True)

                past = Past(connection, [*plan.sources, *_more(plan.config)])
                if past.missing:
                    raise UsageError("nothing that the rules look at is in the database")

                def chunks(past: Past = past) -> "Iterator[Chunk]":
                    for first, last in stretches(start, end):
                        yield first // MINUTE_MS, last // MINUTE_MS, past.minutes(first, last)

                changes = past.changes(clock.epoch_ms(start), clock.epoch_ms(end))
                replay = Replay(plan, arguments.rule, settings)
                reports[which] = replay.run(chunks(), changes, progress)
    except SQLAlchemyError as err:
        raise UsageError(f"the database does not answer: {reason(err)}") from err
    finally:
        opened.dispose()
    _print_replays(arguments, plans, reports)
    return 0


def _replayed(book: Book, arguments: argparse.Namespace) -> dict[str, Plan]:
    """The rules as they run, and as a draft would make them."""
    from .book import read_draft

    plans = {"now": book.plan}
    if arguments.draft is not None:
        try:
            draft = read_draft(arguments.draft.read_text(encoding="utf-8"))
            plans["changed"] = book.tried(draft)[1]
        except (OSError, UnicodeDecodeError, RefusedError) as err:
            raise UsageError(f"{arguments.draft.name}: {err}") from err
    for name in arguments.rule:
        if all(plan.rule(name) is None for plan in plans.values()):
            known = ", ".join(rule.name for rule in book.plan.rules)
            raise UsageError(f"no rule is called {name}; there are {known}")
    return {
        which: plan
        for which, plan in plans.items()
        if not arguments.rule or any(plan.rule(name) for name in arguments.rule)
    }


def _print_replays(
    arguments: argparse.Namespace, plans: dict[str, Plan], reports: "dict[str, Report]"
) -> None:
    from .replay import compact, document, lines

    if arguments.compact:
        found = {which: compact(report) for which, report in reports.items()}
        print(json.dumps(found, ensure_ascii=False))
    elif arguments.json:
        documents = {which: document(report) for which, report in reports.items()}
        whole = documents if arguments.draft is not None else documents["now"]
        print(json.dumps(whole, indent=1, ensure_ascii=False))
    else:
        for which, report in reports.items():
            if arguments.draft is not None:
                print(f"--- {which} ---")
            print("\n".join(lines(report, plans[which])))


def _more(settings: ControllerConfig) -> list[Any]:
    """What a replay looks at besides: the charge, and the grid."""
    from .replay import CHARGE
    from .rules import Source

    return [
        Source("quantity", settings.battery, CHARGE),
        Source("quantity", settings.inverter, "grid_voltage_v"),
    ]


def _assumed(text: str) -> tuple[str, Value]:
    """``inverter.bulk_voltage_v=55.2`` as its two halves."""
    key, equals, value = text.partition("=")
    if not equals or key.count(".") != 1:
        raise UsageError(f"--set wants DEVICE.SETTING=VALUE, got {text!r}")
    if value in ("true", "false"):
        return key, value == "true"
    try:
        return key, float(value)
    except ValueError:
        return key, value


def _status(site: Site, arguments: argparse.Namespace) -> int:
    from sunmesh.messages import Alarm, ServiceStatus, Settings, decode
    from sunmesh.mqtt import Mesh, Message

    topics = site.topics
    decisions: dict[str, dict[str, Any]] = {}
    alarms: dict[str, str] = {}
    found: dict[str, Any] = {"running": False, "modes": {}}

    def hear_decision(message: Message) -> None:
        if message.payload:
            decision = json.loads(message.payload)
            decisions[str(decision["rule"])] = decision

    def hear_modes(message: Message) -> None:
        found["modes"] = decode(Settings, message.payload).values

    def hear_status(message: Message) -> None:
        found["running"] = decode(ServiceStatus, message.payload).state == "online"

    def hear_alarm(message: Message) -> None:
        if message.payload:
            alarm = decode(Alarm, message.payload)
            if alarm.state == "raised":
                alarms[message.topic.rpartition("/")[2]] = alarm.text

    mesh = Mesh(site.broker, topics, NAME, instance="status")
    mesh.subscribe(topics.decision("+"), hear_decision)
    mesh.subscribe(topics.alarm(NAME, "+"), hear_alarm)
    mesh.subscribe(topics.service_status(NAME), hear_status)
    mesh.subscribe(topics.settings(NAME), hear_modes)
    mesh.start()
    try:
        if not mesh.wait_granted(ANSWER_S):
            raise UsageError("the broker does not answer")
        time.sleep(0.3)  # what is retained comes in one go
    finally:
        mesh.stop()
    found["decisions"], found["alarms"] = decisions, alarms
    if arguments.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0 if found["running"] else 1
    print(f"controller {'running' if found['running'] else 'not running'}")
    print(f"mode       {found['modes'].get('mode', 'not known')}")
    for name, mode in found["modes"].items():
        if name == "mode":
            continue
        rule = name.partition(".")[2]
        last = decisions.get(rule)
        text = f"{last['did']}: {last['why']} ({last['ts']})" if last else "no decision yet"
        print(f"{rule:<10} {mode:<7} {text}")
    for code, text in sorted(alarms.items()):
        print(f"alarm      {code}: {text}")
    return 0 if found["running"] else 1


def _mode(site: Site, arguments: argparse.Namespace) -> int:
    import getpass
    import os

    from sunmesh.commands.desk import ENDS
    from sunmesh.messages import Command, Result, decode, encode
    from sunmesh.mqtt import Mesh, Message

    name = f"rule.{arguments.rule}" if arguments.rule else "mode"
    by = arguments.by or f"cli:{getpass.getuser()}"
    command = Command(name, arguments.mode, id=f"cli-{os.urandom(8).hex()}", by=by)
    said: list[Result] = []
    done = threading.Event()

    def hear(message: Message) -> None:
        result = decode(Result, message.payload)
        if result.id == command.id and result.stage in ENDS:
            said.append(result)
            done.set()

    mesh = Mesh(site.broker, site.topics, NAME, instance="mode")
    mesh.subscribe(site.topics.result(NAME), hear)
    mesh.start()
    try:
        if not mesh.wait_granted(ANSWER_S):
            raise UsageError("the broker does not answer")
        mesh.publish(site.topics.command(NAME), encode(command), expiry_s=30)
        if not done.wait(ANSWER_S):
            raise UsageError("no controller answers; is it running?")
    finally:
        mesh.stop()
    result = said[0]
    text = f"{result.name} {arguments.mode}: {result.stage}"
    print(f"{text} ({result.detail})" if result.detail else text)
    return 0 if result.stage == "applied" else 1


if __name__ == "__main__":
    main()
