"""The rules as they run, and how they are changed: draft, check, save, undo.

What somebody changes in the portal is laid over the preset and ``site.toml``, in a file of its own
in the controller's ``state_dir``. A draft is checked exactly as ``site.toml`` is, and is on disk
before it counts. What was sound once and is not any more (a device was renamed) is left out and
told, so that the rules below it go on.
"""

import hashlib
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from sunmesh.config import Site
from sunmesh.errors import ConfigError, RefusedError
from sunmesh.statefile import StateFile

from .config import ControllerConfig, Mode
from .loading import Saved, Tables, book_path, plan_of, tables_of
from .rules import ROLES, Plan

log = logging.getLogger(__name__)

LONGEST = 16_384
"""A draft is no longer than that [bytes]."""
MOST_RULES = 40
"""So many rules may be saved,"""
MOST_BYTES = 30_000
"""and so much of them."""
CHANGES = 20
"""So many changes are remembered, to be undone."""
BOOK_BYTES = 60_000
"""A message is no longer than 64 KiB."""
LARGEST = 1e6
NUMBER = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change that somebody wishes for.

    Attributes:
        rules: by name; None takes back what was saved.
        numbers: by name; None takes back what was saved.
        modes: what the rules of this draft may do from now on.
        was: the mark of each rule that was looked at before; a rule that was changed since is not
            overwritten. Empty for one that was not there.
    """

    rules: dict[str, dict[str, Any] | None] = {}
    numbers: dict[str, float | None] = {}
    modes: dict[str, Mode] = {}
    was: dict[str, str] = {}


class Change(msgspec.Struct, frozen=True):
    """One change that was made: what was saved of a rule, or of the numbers, before and after."""

    ts: str
    by: str
    note: str
    rule: str = ""
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class _File(msgspec.Struct):
    rules: dict[str, dict[str, Any]] = {}
    numbers: dict[str, float] = {}
    changes: list[Change] = []


def read_draft(value: object) -> Draft:
    """A draft as a command carries it: JSON in a string.

    Raises:
        RefusedError: it is none.
    """
    if not isinstance(value, str) or len(value.encode()) > LONGEST:
        raise RefusedError(f"a draft is JSON of at most {LONGEST} bytes, in a string")
    try:
        draft = msgspec.json.decode(value, type=Draft)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        raise RefusedError(f"the draft cannot be read: {err}") from err
    for name, number in draft.numbers.items():
        if not NUMBER.fullmatch(name):
            raise RefusedError(f"numbers.{name[:40]}: a name is 1 to 40 of a-z, 0-9 and _")
        if number is not None and not (math.isfinite(number) and abs(number) <= LARGEST):
            raise RefusedError(f"numbers.{name}: must be a number up to {LARGEST:g}")
    return draft


class Book:
    """The rules of one site.

    Args:
        site: the configuration.

    Attributes:
        plan: the rules as they run.
        saved: what was changed in the portal, as far as it can be used.
        unsound: what was saved and cannot be used, with the reason, by name.

    Raises:
        ConfigError: ``site.toml`` is wrong.
    """

    def __init__(self, site: Site) -> None:
        """Reads what was saved."""
        self.site = site
        self._config = site.section("controller", ControllerConfig)
        plan_of(site)  # what is written in site.toml must be right in any case
        self._file = StateFile(book_path(site, self._config))
        self._kept = self._load()
        self.unsound: dict[str, str] = {}
        self.saved = self._sound()
        self.plan = plan_of(site, self.saved)

    def _load(self) -> _File:
        content = self._file.load()
        try:
            return msgspec.convert(content, _File)
        except msgspec.ValidationError as err:
            self._file.set_aside(str(err))
            return _File()

    @property
    def path(self) -> Path:
        """The file of what was changed."""
        return self._file.path

    @property
    def damaged(self) -> bool:
        """Whether what was saved cannot be read."""
        return self._file.damaged

    def _sound(self) -> Saved:
        """What was saved, without what cannot be used any more."""
        whole = Saved(dict(self._kept.rules), dict(self._kept.numbers))
        try:
            plan_of(self.site, whole)
        except ConfigError:
            pass
        else:
            return whole
        sound = Saved()
        if self._is_sound(Saved({}, whole.numbers), "numbers"):
            sound.numbers = whole.numbers
        for name, table in whole.rules.items():
            if self._is_sound(Saved({**sound.rules, name: table}, sound.numbers), name):
                sound.rules[name] = table
        return sound

    def _is_sound(self, saved: Saved, name: str) -> bool:
        try:
            plan_of(self.site, saved)
        except ConfigError as err:
            self.unsound[name] = self._short(err)
            log.warning("%s, as it was saved, is left out: %s", name, self.unsound[name])
            return False
        return True

    def _short(self, err: Exception) -> str:
        return str(err).removeprefix(f"{self.site.path}: ")

    # -- changing ----------------------------------------------------------------------------------

    def tried(self, draft: Draft) -> tuple[Saved, Plan]:
        """What ``draft`` would make of it.

        Raises:
            RefusedError: it is not sound; the text begins with the key.
        """
        tables = self._tables(self.saved)
        for name, mark in draft.was.items():
            now = tables.rules.get(name)
            if mark != ("" if now is None else mark_of(msgspec.to_builtins(now))):
                raise RefusedError(f"rules.{name}: somebody has changed it meanwhile; look again")
        saved = Saved(dict(self.saved.rules), dict(self.saved.numbers))
        for name, table in draft.rules.items():
            if table is not None:
                saved.rules[name] = table
            elif saved.rules.pop(name, None) is None and name not in self.unsound:
                raise RefusedError(f"rules.{name[:40]}: nothing was saved of it")
        for key, number in draft.numbers.items():
            if number is not None:
                if key not in tables.numbers:
                    raise RefusedError(f"numbers.{key}: no number is called that")
                saved.numbers[key] = number
            else:
                saved.numbers.pop(key, None)
        if len(saved.rules) > MOST_RULES:
            raise RefusedError(f"{MOST_RULES} rules may be saved, not more")
        size = len(msgspec.json.encode(saved.rules))
        if size > MOST_BYTES:
            raise RefusedError(f"all saved rules are {size} bytes, and {MOST_BYTES} are the limit")
        try:
            plan = plan_of(self.site, saved)
        except ConfigError as err:
            raise RefusedError(self._short(err)) from err
        for name in draft.modes:
            if plan.rule(name) is None:
                raise RefusedError(f"modes.{name[:40]}: there is no such rule")
        return saved, plan

    def save(self, draft: Draft, *, by: str, note: str, ts: str) -> Plan:
        """Write ``draft`` down; it counts when this returns.

        Raises:
            RefusedError: it is not sound, or cannot be written: nothing has changed.
        """
        saved, plan = self.tried(draft)
        kept = _File(dict(self._kept.rules), dict(self._kept.numbers), [])
        changes = list(self._kept.changes)
        for name, table in draft.rules.items():
            changes.append(Change(ts, by, note, name, self._kept.rules.get(name), table))
            if table is None:
                kept.rules.pop(name, None)
            else:
                kept.rules[name] = table
        if draft.numbers:
            after: dict[str, float] = {**self._kept.numbers}
            for key, number in draft.numbers.items():
                if number is None:
                    after.pop(key, None)
                else:
                    after[key] = number
            changes.append(Change(ts, by, note, "", dict(self._kept.numbers), dict(after)))
            kept.numbers = after
        kept.changes = changes[-CHANGES:]
        try:
            self._file.save(msgspec.to_builtins(kept))
        except OSError as err:
            raise RefusedError(f"{self._file.path} cannot be written: {err}") from err
        self._kept, self.saved, self.plan = kept, saved, plan
        for name in [*draft.rules, *(["numbers"] if draft.numbers else [])]:
            self.unsound.pop(name, None)
        return plan

    # -- telling -----------------------------------------------------------------------------------

    def _tables(self, saved: Saved) -> Tables:
        return tables_of(self.site, saved)

    def document(self, ts: str) -> bytes:
        """Everything that the portal shows of the rules, as JSON."""
        tables, below = self._tables(self.saved), self._tables(Saved())
        rules = []
        for name, table in _ordered(tables):
            content = msgspec.to_builtins(table)
            first = below.rules.get(name)
            row: dict[str, Any] = {
                "name": name,
                "from": tables.origins[name],
                "mark": mark_of(content),
                "runs": self.plan.rule(name) is not None,
                "table": content,
            }
            if name in self.saved.rules and first is not None:
                row["below"] = msgspec.to_builtins(first)
            rules.append(row)
        config = tables.config
        found: dict[str, Any] = {
            "v": 1,
            "ts": ts,
            "preset": tables.preset,
            "roles": {role: getattr(config, role) for role in ROLES},
            "has_relay": self.plan.has_relay,
            "numbers": dict(tables.numbers),
            "numbers_below": dict(below.numbers),
            "orders": tables.orders,
            "limits": {
                "writes_per_day": config.writes_per_day,
                "protection_writes_per_day": config.protection_writes_per_day,
                "recover_min": config.recover_min,
                "dwell_min": config.dwell_min,
                "lease_s": config.lease_s,
                "fresh_periods": config.fresh_periods,
            },
            "rules": rules,
            "left_out": dict(self.plan.left_out),
            "unsound": self.unsound,
            "damaged": self.damaged,
            "changes": msgspec.to_builtins(self._kept.changes[::-1]),
        }
        payload = msgspec.json.encode(found)
        while len(payload) > BOOK_BYTES and found["changes"]:
            found["changes"] = found["changes"][: len(found["changes"]) // 2]
            payload = msgspec.json.encode(found)
        return payload


def _ordered(tables: Tables) -> list[tuple[str, Any]]:
    """As they are evaluated: protection first, then by priority."""
    return sorted(
        tables.rules.items(), key=lambda item: (not item[1].protects, -item[1].priority, item[0])
    )


def mark_of(table: Mapping[str, Any]) -> str:
    """Tells one form of a rule from another."""
    return hashlib.blake2b(msgspec.json.encode(table, order="sorted"), digest_size=6).hexdigest()
