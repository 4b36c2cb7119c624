"""Console script ``grid-relay``: run, status, set-safe. The only file that wires."""

import argparse
import os
import sys
import time
from pathlib import Path

from sunmesh import config, service
from sunmesh.errors import ConfigError

from . import __version__
from .config import relay_of, state_file

NAME = "grid-relay"


def main() -> None:
    """The console script."""
    service.main(lambda: entry(sys.argv[1:]))


def entry(arguments: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog=NAME, description="Connects the house to the grid.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning"])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, does in (
        ("run", "hold the relay where it has to be"),
        ("status", "how the relay stands, and why"),
        ("set-safe", "drive the output to grid_connected once, for ExecStopPost="),
    ):
        one = verbs.add_parser(verb, help=does)
        one.add_argument("--config", type=Path, metavar="FILE", help="site.toml (SUNMESH_CONFIG)")
    options = parser.parse_args(arguments)
    service.setup_logging(options.log_level)
    path = options.config or config.default_path()
    match options.verb:
        case "run":
            return _run(path)
        case "status":
            return _status(path)
    return _set_safe(path)


def _run(path: Path) -> int:
    from sunmesh.mqtt import Mesh
    from sunmesh.statefile import StateFile

    from .service import GridRelay
    from .watchdog import Watchdog

    site = config.load(path, NAME)
    name, device = relay_of(site)
    mesh = Mesh(site.broker, site.topics, NAME)
    relay = GridRelay(
        name, device, mesh, StateFile(state_file(name, device)), Watchdog(device.watchdog)
    )
    relay.begin()
    return service.run(NAME, __version__, mesh, relay.run, relay.counters)


def _set_safe(path: Path) -> int:
    """Needs no broker, and therefore none of its passwords."""
    from .actuator import make_safe

    began = time.monotonic()
    try:
        _name, device = relay_of(
            config.load(path, NAME, environ={"SUNMESH_BROKER_PASSWORD": "", **os.environ})
        )
    except ConfigError as err:
        print(f"set-safe: {err}", file=sys.stderr)
        return 2
    problem = make_safe(device)
    if problem:
        print(f"set-safe: {problem}", file=sys.stderr)
        return 1
    print(f"grid_connected after {1000 * (time.monotonic() - began):.0f} ms")
    return 0


def _status(path: Path) -> int:
    from .status import status

    site = config.load(path, NAME)
    name, _device = relay_of(site)
    return status(site, name)


if __name__ == "__main__":
    main()
