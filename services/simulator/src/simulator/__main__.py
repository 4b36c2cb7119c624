"""The command ``simulator``: run, history, world, plug, demo. The only file that wires."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from sunmesh import clock, config, service
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh

from . import history, state
from .config import LATITUDE, LONGITUDE, TIME_ZONE, SimulatorConfig, house, relay_path, state_path
from .faults import Calendar
from .service import Simulator
from .world import DAY_S, World, seconds

NAME = "simulator"


def main() -> None:
    """Entry point of the script."""
    service.main(lambda: entry(sys.argv[1:]))


def entry(argv: list[str]) -> int:
    """Run the verb of ``argv``; returns the exit status."""
    arguments = _parser().parse_args(argv)
    service.setup_logging(arguments.log_level)
    if arguments.verb == "demo":
        from . import demo  # honcho and its like: nothing that a live house needs

        return demo.main(arguments)
    verbs = {"run": _run, "history": _history, "world": _world, "plug": _plug, "keep": _keep}
    return verbs[arguments.verb](arguments)


def _run(arguments: argparse.Namespace) -> int:
    site, own = _load(arguments)
    if arguments.speed <= 0.0:
        raise ConfigError(f"--speed must be above 0, got {arguments.speed}")
    now = time.time() if arguments.start is None else _moment(arguments.start)
    path = state_path(site, own) if arguments.start is None else None
    world = state.world_at(house(site, own), Calendar(now, own.calendar), now, path)
    mesh = Mesh(site.broker, site.topics, NAME)
    simulator = Simulator(
        world,
        mesh,
        inverter=own.inverter,
        speed=arguments.speed,
        state_file=path,
        relay_file=relay_path(site, own),
        log_file=arguments.log_world,
    )
    return service.run(NAME, version(NAME), mesh, simulator.run, simulator.counters)


def _history(arguments: argparse.Namespace) -> int:
    site, own = _load(arguments)
    if arguments.days <= 0.0:
        raise ConfigError(f"--days must be above 0, got {arguments.days}")
    if not 1.0 <= arguments.step <= 3600.0:
        raise ConfigError(f"--step must be 1 to 3600, got {arguments.step}")
    end = _moment(arguments.end)
    world = World(
        house(site, own), end - arguments.days * DAY_S, calendar=Calendar(end, own.calendar)
    )
    devices = {name: str(table["family"]) for name, table in site.devices.items()}
    began = time.monotonic()
    count = 0
    write = sys.stdout.buffer.write
    for line in history.lines(
        world,
        devices,
        site.topics,
        end=end,
        fine_s=arguments.step,
        progress=_progress(arguments.days),
    ):
        write(line)
        write(b"\n")
        count += 1
    sys.stdout.buffer.flush()
    if not arguments.no_state:
        state.save(world, state_path(site, own))
    took = time.monotonic() - began
    print(f"history: {count} messages of {arguments.days:g} days in {took:.1f} s", file=sys.stderr)
    return 0


def _world(arguments: argparse.Namespace) -> int:
    site, own = _load(arguments)
    at = _moment(arguments.at)
    calendar = Calendar(at if arguments.at is None else time.time(), own.calendar)
    world = state.world_at(house(site, own), calendar, at, None)
    print(json.dumps(world.snapshot()))
    return 0


def _plug(arguments: argparse.Namespace) -> int:
    """Pull a device's plug or put it back: its emulator falls silent, as a device without power."""
    site, _ = _load(arguments)
    if arguments.device not in site.devices:
        known = ", ".join(site.devices)
        raise ConfigError(f"no device {arguments.device}; there are {known}")
    mesh = Mesh(site.broker, site.topics, NAME, instance="plug")
    mesh.start()
    if not mesh.wait_connected(5.0):
        mesh.stop()
        print(f"no broker at {site.broker.host}:{site.broker.port}", file=sys.stderr)
        return 1
    topic = site.topics.sim(f"{arguments.device}/plug")
    mesh.publish(topic, arguments.position.encode(), retain=True)
    mesh.stop()
    return 0


def _keep(arguments: argparse.Namespace) -> int:
    """Run the services of an empty demo until stopped."""
    from .demo import kept
    from .keeper import Keeper

    path = arguments.config or config.default_path()
    Keeper(path, kept(path)).run(service.stop_event())
    return 0


def _load(arguments: argparse.Namespace) -> tuple[config.Site, SimulatorConfig]:
    site = config.load(arguments.config or config.default_path(), NAME)
    return site, site.section(NAME, SimulatorConfig)


def _moment(text: str | None) -> float:
    """The moment [s since 1970] that an option names; now without one.

    Raises:
        ConfigError: no ISO 8601 time with a zone.
    """
    if text is None:
        return time.time() // 1.0
    try:
        return seconds(clock.parse(text))
    except ValueError as err:
        raise ConfigError(f"{text!r} is no time: {err}") from err


def _progress(days: float) -> Callable[[float], None]:
    """Says how far history is: one line that rewrites itself on a terminal, few lines else."""
    terminal = sys.stderr.isatty()
    said = -1

    def tell(share: float) -> None:
        nonlocal said
        tenth = int(share * 10)
        text = f"history: {share * days:.0f} of {days:g} days"
        if terminal:
            print(f"\r{text}", end="\n" if share >= 1.0 else "", file=sys.stderr, flush=True)
        elif tenth > said and tenth % 5 == 0:
            print(text, file=sys.stderr, flush=True)
        said = tenth

    return tell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description="A simulated house for the mesh.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))
    sited = argparse.ArgumentParser(add_help=False, parents=[common])
    sited.add_argument("--config", type=Path, help="site.toml (else SUNMESH_CONFIG, ./site.toml)")
    verbs = parser.add_subparsers(dest="verb", required=True)

    house = argparse.ArgumentParser(add_help=False)
    house.add_argument("--speed", type=float, default=1.0, help="simulated seconds a second")
    house.add_argument(
        "--start",
        metavar="ISO",
        help="the house's clock begins then, say on a night when summer time ends; default: now",
    )
    house.add_argument(
        "--log-world", type=Path, metavar="FILE", help="what was published, as JSON lines"
    )
    verbs.add_parser("run", parents=[sited, house], help="live: publish the world once a second")

    past = verbs.add_parser(
        "history", parents=[sited], help="write the past as JSON lines for `recorder ingest -`"
    )
    past.add_argument("--days", type=float, default=30.0)
    past.add_argument("--step", type=float, default=60.0, help="of the last 3 days [s]")
    past.add_argument("--end", help="ISO 8601 time where history ends (default: now)")
    past.add_argument("--no-state", action="store_true", help="leave the state file alone")

    world = verbs.add_parser("world", parents=[sited], help="print the world at a moment")
    world.add_argument("--at", help="ISO 8601 time (default: now)")

    plug = verbs.add_parser("plug", parents=[sited], help="pull a device's plug, or put it back")
    plug.add_argument("device", help="a device of the site, e.g. inverter")
    plug.add_argument("position", choices=("out", "in"))

    verbs.add_parser("keep", parents=[sited], help="run what the site of an empty demo asks for")

    demo = verbs.add_parser(
        "demo", parents=[common, house], help="the whole mesh with a simulated house"
    )
    demo.add_argument("--port", type=int, default=8080, help="of the portal (default 8080)")
    demo.add_argument("--host", default="127.0.0.1", help="where the portal listens")
    demo.add_argument("--days", type=float, default=30.0, help="of history (default 30; 0 = none)")
    demo.add_argument("--dir", type=Path, default=Path(".demo"), help="what the demo writes into")
    demo.add_argument("--seed", type=int, default=7, help="another weather, another family")
    demo.add_argument("--latitude", type=float, default=LATITUDE, help="of the house [deg]")
    demo.add_argument("--longitude", type=float, default=LONGITUDE, help="east is positive [deg]")
    demo.add_argument("--time-zone", default=TIME_ZONE, help=f"(default {TIME_ZONE})")
    demo.add_argument(
        "--calendar",
        type=Path,
        metavar="FILE",
        help="TOML with [[simulator.faults]], instead of the usual calendar",
    )
    demo.add_argument("--broker", choices=("auto", "mosquitto", "embedded"), default="auto")
    demo.add_argument("--broker-port", type=int, default=18830, help="(default 18830)")
    demo.add_argument(
        "--control",
        choices=("off", "shadow", "on"),
        default="",
        help="what the rules may do (default: on in a new house)",
    )
    demo.add_argument(
        "--storm",
        action="store_true",
        help="twenty minutes at 30 times the speed: a storm empties a small battery, the rules "
        "bring the grid and let it go again (begins anew)",
    )
    demo.add_argument(
        "--empty",
        action="store_true",
        help="a portal without a device: its Setup finds the emulated ones (begins anew)",
    )
    demo.add_argument("--fresh", action="store_true", help="forget the house of earlier runs")
    return parser


if __name__ == "__main__":
    main()
