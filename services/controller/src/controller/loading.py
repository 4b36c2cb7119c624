"""From ``site.toml`` and a preset to a plan; whatever is wrong is one line that names the key."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from sunmesh.config import Site
from sunmesh.errors import ConfigError
from sunmesh.topics import NAME

from . import rules
from .config import ControllerConfig, PresetTable, RuleConfig

PRESETS = Path(__file__).parent / "presets"


def presets() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset(name: str) -> PresetTable:
    """The preset of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in presets():
        raise ConfigError(
            f"controller.preset: {name!r} is none; there are {', '.join(presets())}, "
            'and "" for none'
        )
    text = (PRESETS / f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), PresetTable)


def plan_of(site: Site) -> rules.Plan:
    """Everything that ``site.toml`` says about rules, checked.

    Raises:
        ConfigError: with file, key and reason.
    """
    config = site.section("controller", ControllerConfig)
    try:
        return _plan(site, config)
    except ConfigError as err:
        if str(err).startswith(str(site.path)):
            raise
        raise ConfigError(f"{site.path}: {err}") from err


def _plan(site: Site, config: ControllerConfig) -> rules.Plan:
    found = preset(config.preset) if config.preset else PresetTable("", {}, [], {})
    own = site.sections.get("rules", {})
    for name, table in own.items():
        if not NAME.fullmatch(name):
            raise ConfigError(f"rules.{name}: a name is 1 to 32 of a-z, 0-9 and -")
        if not isinstance(table, dict):
            raise ConfigError(f"rules.{name}: write a table, [rules.{name}]")
    merged: dict[str, dict[str, Any]] = {
        **found.rules,
        **{name: {**found.rules.get(name, {}), **table} for name, table in own.items()},
    }
    # what a rule of the preset is given here is laid over what it has there
    tables = Site(
        site.path,
        site.site,
        site.broker,
        lambda: site.database,
        site.devices,
        {f"rules.{name}": table for name, table in merged.items()},
    )
    made: Mapping[str, RuleConfig] = {
        name: tables.section(f"rules.{name}", RuleConfig) for name in merged
    }
    return rules.plan(
        config,
        site.site.zone,
        frozenset(site.devices),
        {name: rule for name, rule in made.items() if name in found.rules and name not in own},
        {name: rule for name, rule in made.items() if name in own},
        {**found.numbers, **config.numbers},
        tuple(tuple(order) for order in found.orders),
    )


def state_path(site: Site, config: ControllerConfig) -> Path:
    """Where the controller keeps what it must not forget."""
    return site.path.parent / config.state_dir / "controller.json"
