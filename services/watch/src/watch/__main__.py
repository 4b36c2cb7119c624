"""Console script ``watch``: run, check, status."""

import argparse
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sunmesh import clock, config, service
from sunmesh.config import Site
from sunmesh.errors import MessageError

from . import __version__
from .facts import Days
from .loading import Plan, plan_of, state_path

if TYPE_CHECKING:
    from .service import Watch

NAME = "watch"
DAYS_S = 60.0
"""The database may take that long to tell its days [s]."""
ANSWER_S = 5.0
QUIET_S = 1.0
"""What the broker keeps has arrived when nothing came for so long after its grant [s]."""


def main() -> None:
    """Run the verb that the command line names."""
    service.main(lambda: entry(sys.argv[1:]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description="Alarms over the whole house.")
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
        *more: argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, parents=[common, *more], help=text, description=text)
        added.set_defaults(work=work)
        return added

    verb("run", _run, "watch until stopped")
    check = verb("check", _check, "read the rules aloud, with what they see now", out)
    check.add_argument("--offline", action="store_true", help="the rules alone")
    verb("status", _status, "the alarms that are raised, of all services", out)
    return parser


def entry(words: list[str]) -> int:
    """Run the verb; returns the exit status."""
    arguments = _parser().parse_args(words)
    service.setup_logging(arguments.log)
    site = config.load(arguments.config or config.default_path(), NAME)
    work: Callable[[Site, argparse.Namespace], int] = arguments.work
    return work(site, arguments)


def _run(site: Site, _arguments: argparse.Namespace) -> int:
    from sunmesh.alone import Place, wait_alone
    from sunmesh.mqtt import Mesh

    plan, stop = plan_of(site), service.stop_event()
    place = Place(state_path(site, plan.config).parent, NAME)
    if not place.take(stop) or not wait_alone(site, NAME, socket.gethostname(), stop):
        return 0
    mesh = Mesh(site.broker, site.topics, NAME)
    watch = _made(site, plan, mesh)
    watch.listen()
    return service.run(NAME, __version__, mesh, watch.work, watch.counters)


def _made(site: Site, plan: Plan, mesh: Any) -> "Watch":  # noqa: ANN401 - imported where it runs
    from sunmesh.statefile import StateFile

    from .service import Watch

    file = StateFile(state_path(site, plan.config))
    return Watch(plan, mesh, file, days_of(site, plan), _folders(site, plan))


def _folders(site: Site, plan: Plan) -> list[Path]:
    """Folders whose disks matter."""
    base = site.path.resolve().parent
    folders = [base, base / plan.config.state_dir, *(Path(disk) for disk in plan.config.disks)]
    url = str(site.sections.get("database", {}).get("url", ""))
    if url.startswith("sqlite:///"):
        folders.append(Path(url.removeprefix("sqlite:///")).parent)
    backup = site.sections.get("backup", {}).get("folder")
    if isinstance(backup, str) and backup:
        folders.append(base / backup)
    return folders


def days_of(site: Site, plan: Plan) -> Callable[[], Days] | None:
    """Asks the database in a process of its own, which leaves nothing resident."""
    wanted = [rule for rule in plan.rules if rule.measure.startswith(("panel_", "yield_"))]
    if not wanted:
        return None
    back = max(rule.days for rule in wanted) + 2

    def ask() -> Days:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "watch.days", str(site.path), str(back)],
                capture_output=True,
                text=True,
                timeout=DAYS_S,
            )
        except subprocess.TimeoutExpired:
            return Days(why_not=f"the database took longer than {DAYS_S:g} s")
        except OSError as err:
            return Days(why_not=f"no process for the database: {err}")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return Days(why_not=f"the database: {last[:200]}")
        found = json.loads(done.stdout)
        return Days(found["today"], found["panels"], found["plant"], "")

    return ask


def _check(site: Site, arguments: argparse.Namespace) -> int:
    from . import words

    plan = plan_of(site)
    known: Any = {}
    if not arguments.offline:
        known = _seen(site, plan)
    if arguments.json:
        found = {
            rule.name: {
                "says": words.rule_aloud(rule, plan.place),
                "now": {
                    finding.device: finding.value
                    for key, finding in known.items()
                    if key[1] == rule.name
                },
            }
            for rule in plan.rules
        }
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return 0
    for line in words.rules_aloud(plan, known):
        print(line)
    return 0


def _seen(site: Site, plan: Plan) -> Any:  # noqa: ANN401
    """What every rule sees now, from what the broker keeps and the database has."""
    from sunmesh.mqtt import Mesh

    logging.getLogger("sunmesh.mqtt").setLevel(logging.ERROR)
    mesh = Mesh(site.broker, site.topics, NAME, instance=f"check-{os.getpid()}")
    from sunmesh.statefile import StateFile

    from .service import Watch

    # its own file is read, and never written: nothing is raised by looking
    file = StateFile(state_path(site, plan.config))
    watch = Watch(plan, mesh, file, days_of(site, plan), _folders(site, plan))
    watch.listen()
    mesh.start()
    if not mesh.wait_granted(ANSWER_S):
        print("the broker is away: the rules alone", file=sys.stderr)
        mesh.stop()
        return {}
    time.sleep(QUIET_S)
    watch.look_at_days()
    now = clock.now()
    watch.judge.facts.settles_at = 0.0
    watch.judge.turn(time.monotonic(), now)
    mesh.stop()
    return watch.judge.known


def _status(site: Site, arguments: argparse.Namespace) -> int:
    """Every alarm that is raised; 0 when none is worse than info."""
    from sunmesh.alarms import SEVERITIES
    from sunmesh.messages import Alarm, decode
    from sunmesh.mqtt import Mesh, Message
    from sunmesh.topics import parse

    logging.getLogger("sunmesh.mqtt").setLevel(logging.ERROR)
    found: dict[tuple[str, str], Alarm] = {}
    heard = threading.Event()

    def hear(message: Message) -> None:
        heard.set()
        address = parse(message.topic)
        if address is None or not message.payload:
            return
        try:
            alarm = decode(Alarm, message.payload)
        except MessageError:
            return
        if alarm.state == "raised":
            found[address.device, address.code] = alarm
        else:
            found.pop((address.device, address.code), None)

    mesh = Mesh(site.broker, site.topics, NAME, instance=f"status-{os.getpid()}")
    mesh.subscribe(site.topics.every("alarm"), hear)
    mesh.start()
    if not mesh.wait_granted(ANSWER_S):
        print("the broker is away", file=sys.stderr)
        mesh.stop()
        return 1
    while heard.wait(QUIET_S):
        heard.clear()
    mesh.stop()
    if arguments.json:
        import msgspec

        alarms = {"/".join(key): msgspec.to_builtins(alarm) for key, alarm in found.items()}
        print(json.dumps(alarms, ensure_ascii=False, indent=1))
    elif not found:
        print("no alarm is raised")
    else:
        order = sorted(found.items(), key=lambda e: (-SEVERITIES.index(e[1].severity), e[0]))
        for (device, code), alarm in order:
            follows = f" (follows from {alarm.cause})" if alarm.cause else ""
            print(f"{alarm.severity:9}{alarm.since or alarm.ts}  {device}/{code}{follows}")
            print(f"         {alarm.text}")
    return 0 if all(alarm.severity == "info" for alarm in found.values()) else 1


if __name__ == "__main__":
    main()
