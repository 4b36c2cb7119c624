"""From ``site.toml`` and the defaults to rules; what is wrong is one line that names the key."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sunmesh.config import Site
from sunmesh.errors import ConfigError

from .config import AlarmConfig, WatchConfig
from .rules import CODE, Place, Rule, rules_of

DEFAULTS = Path(__file__).parent / "defaults.toml"


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``site.toml`` says to the watch.

    Attributes:
        config: ``[watch]``.
        rules: that are switched on.
        off: names of those that are not.
        place: of the house.
        families: device → family.
    """

    config: WatchConfig
    rules: tuple[Rule, ...]
    off: tuple[str, ...]
    place: Place
    families: dict[str, str]


@cache
def defaults() -> dict[str, dict[str, Any]]:
    """The alarms that come with the watch."""
    return tomllib.loads(DEFAULTS.read_text(encoding="utf-8"))


def plan_of(site: Site) -> Plan:
    """Everything that ``site.toml`` says about alarms, checked.

    Raises:
        ConfigError: with file, key and reason.
    """
    config = site.section("watch", WatchConfig)
    own = site.sections.get("alarms", {})
    base = defaults() if config.defaults else {}
    families = {name: str(table["family"]) for name, table in site.devices.items()}
    merged: dict[str, dict[str, Any]] = dict(base)
    for name, table in own.items():
        if not CODE.fullmatch(name):
            raise ConfigError(f"{site.path}: alarms.{name}: a name is 1 to 48 of a-z, 0-9, - and _")
        if not isinstance(table, dict):
            raise ConfigError(f"{site.path}: alarms.{name}: write a table, [alarms.{name}]")
        merged[name] = _laid_over(base.get(name, {}), table)
    tables = Site(
        site.path,
        site.site,
        site.broker,
        lambda: site.database,
        site.devices,
        {f"alarms.{name}": table for name, table in merged.items()},
    )
    made = {name: tables.section(f"alarms.{name}", AlarmConfig) for name in merged}
    for device in config.grid_fed or ():
        if device not in families:
            raise ConfigError(f"{site.path}: watch.grid_fed: no device is {device}")
    try:
        rules = rules_of(config, made, own.keys(), families)
    except ConfigError as err:
        raise ConfigError(f"{site.path}: {err}") from err
    return Plan(
        config,
        tuple(rules),
        tuple(name for name, table in made.items() if not table.enabled),
        Place(site.site.latitude, site.site.longitude),
        families,
    )


CONDITIONS = ("at_least", "above", "at_most", "below", "equals")


def _laid_over(base: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """``table`` over the default; another comparison takes the place of the default's."""
    kept = dict(base)
    if any(key in table and key not in base for key in CONDITIONS):
        for key in CONDITIONS:
            kept.pop(key, None)
        for key in ("clear", "worse"):  # they belong to the number that was replaced
            if key not in table:
                kept.pop(key, None)
    return {**kept, **table}


def state_path(site: Site, config: WatchConfig) -> Path:
    """Where the watch keeps what it must not forget."""
    return site.path.parent / config.state_dir / "watch.json"
