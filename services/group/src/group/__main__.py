"""``group``: wires the parts together."""

import argparse
import sys
from pathlib import Path

from sunmesh import config, service
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh

from . import __version__
from .config import groups_of
from .service import Groups

NAME = "group"


def main() -> None:
    """The console script."""
    service.main(lambda: entry(sys.argv[1:]))


def entry(arguments: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog=NAME, description="Publishes several devices as one.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning"])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="publish the configured groups")
    run.add_argument("--config", type=Path, metavar="FILE", help="site.toml (or SUNMESH_CONFIG)")
    options = parser.parse_args(arguments)
    service.setup_logging(options.log_level)
    site = config.load(options.config or config.default_path(), NAME)
    groups = groups_of(site)
    if not groups:
        raise ConfigError(f'{site.path}: no group; add [devices.NAME] with family = "group"')
    mesh = Mesh(site.broker, site.topics, NAME)
    work = Groups(groups, mesh)
    return service.run(NAME, __version__, mesh, work.run, work.counters)


if __name__ == "__main__":
    main()
