"""``sunmesh``: what concerns the whole mesh and none of its services."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from . import __version__, config, ports, service
from .archive import backup_verbs, export_verb
from .archive.importing import cli as import_verb


def main() -> None:
    """The console script."""
    service.main(lambda: entry(sys.argv[1:]))


def entry(arguments: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sunmesh", description="Looks after the mesh.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    devices = verbs.add_parser(
        "devices",
        help="ports, who holds them, and what is on them",
        description="Lists serial and USB ports with the names that belong into site.toml.",
    )
    devices.add_argument("--config", type=Path, metavar="FILE", help="site.toml, if there is one")
    devices.add_argument(
        "--probe", action="store_true", help="ask what is on each free port; changes nothing"
    )
    devices.add_argument("--json", action="store_true", help="for programs")
    devices.add_argument("--dev", type=Path, default=Path("/dev"), help=argparse.SUPPRESS)
    devices.set_defaults(run=_devices)
    backup_verbs.add(verbs)
    import_verb.add(verbs)
    export_verb.add(verbs)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _devices(options: argparse.Namespace) -> int:
    path = options.config or config.default_path()
    site = config.load(path) if options.config or path.exists() else None
    found = ports.find(options.dev, site)
    if options.probe:
        found = [
            port if port.holder else replace(port, found=ports.probe(port, _tell)) for port in found
        ]
    if options.json:
        print(json.dumps([asdict(port) for port in found], indent=2))
        return 0
    if not found:
        print("no serial or USB port; is the adapter plugged in?")
    for port in found:
        print(port.best_name)
        if port.device != port.best_name:
            print(f"  is         {port.device} now")
        for name in port.names[1:]:
            print(f"  also       {name}")
        if not port.names:
            print("  no stable name: another adapter may be called so tomorrow")
        print(f"  held by    {port.holder or 'nobody'}")
        if port.configured:
            print(f"  configured {', '.join(port.configured)}")
        if port.found:
            print("  found      " + ", ".join(f"{k} {v}" for k, v in port.found.items()))
        elif options.probe:
            print("  found      " + ("not asked: it is held" if port.holder else "nothing known"))
    if found and not options.probe:
        print("--probe asks what is on the free ones")
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
