"""From ``site.toml`` and a preset to a plan; whatever is wrong is one line that names the key."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
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


class Saved(msgspec.Struct):
    """What was changed in the portal, laid over the preset and ``site.toml``.

    Attributes:
        rules: whole tables, by name.
        numbers: by name.
    """

    rules: dict[str, dict[str, Any]] = {}
    numbers: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Tables:
    """The rules as they are written.

    Attributes:
        config: ``[controller]``.
        preset: what the preset is for, in words.
        rules: by name.
        origins: where each is from: ``preset``, ``site`` or ``saved``.
        numbers: by name.
        orders: names that must rise from left to right.
    """

    config: ControllerConfig
    preset: str
    rules: Mapping[str, RuleConfig]
    origins: Mapping[str, str]
    numbers: Mapping[str, float]
    orders: tuple[tuple[str, ...], ...]


def plan_of(site: Site, saved: Saved | None = None) -> rules.Plan:
    """Everything that ``site.toml`` says about rules, and what was ``saved``, checked.

    Raises:
        ConfigError: with file, key and reason.
    """
    try:
        return _plan(site, tables_of(site, saved or Saved()))
    except ConfigError as err:
        if str(err).startswith(str(site.path)):
            raise
        raise ConfigError(f"{site.path}: {err}") from err


def tables_of(site: Site, saved: Saved) -> Tables:
    """The rules as they are written, each by itself sound.

    Raises:
        ConfigError: with key and reason.
    """
    config = site.section("controller", ControllerConfig)
    found = preset(config.preset) if config.preset else PresetTable("", {}, [], {})
    own = site.sections.get("rules", {})
    for name, table in [*own.items(), *saved.rules.items()]:
        if not NAME.fullmatch(name):
            raise ConfigError(f"rules.{name}: a name is 1 to 32 of a-z, 0-9 and -")
        if not isinstance(table, dict):
            raise ConfigError(f"rules.{name}: write a table, [rules.{name}]")
    # what a rule of the preset is given here is laid over what it has there
    merged: dict[str, dict[str, Any]] = {
        **found.rules,
        **{name: {**found.rules.get(name, {}), **table} for name, table in own.items()},
        **saved.rules,
    }
    tables = Site(
        site.path,
        site.site,
        site.broker,
        lambda: site.database,
        site.devices,
        {f"rules.{name}": table for name, table in merged.items()},
    )
    return Tables(
        config,
        found.says,
        {name: tables.section(f"rules.{name}", RuleConfig) for name in merged},
        {
            name: "saved" if name in saved.rules else "site" if name in own else "preset"
            for name in merged
        },
        {**found.numbers, **config.numbers, **saved.numbers},
        tuple(tuple(order) for order in found.orders),
    )


def _plan(site: Site, tables: Tables) -> rules.Plan:
    is_preset = {name: origin == "preset" for name, origin in tables.origins.items()}
    return rules.plan(
        tables.config,
        site.site.zone,
        frozenset(site.devices),
        {name: rule for name, rule in tables.rules.items() if is_preset[name]},
        {name: rule for name, rule in tables.rules.items() if not is_preset[name]},
        tables.numbers,
        tables.orders,
    )


def state_path(site: Site, config: ControllerConfig) -> Path:
    """Where the controller keeps what it must not forget."""
    return site.path.parent / config.state_dir / "controller.json"


def book_path(site: Site, config: ControllerConfig) -> Path:
    """Where the controller keeps the rules that were changed in the portal."""
    return site.path.parent / config.state_dir / "rules.json"
