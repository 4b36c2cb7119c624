"""What the page *Rules* shows: each rule with what it sees now, what it decided, and its mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sunmesh import clock
from sunmesh.messages import Value

from .. import controls, words
from ..controls import CONTROLLER
from ..live import Live, Memory, State
from ..text import _
from .book import Rules, Table, conditions
from .words import ORIGINS, Conflict, Reading, condition, conflicts, key_of, read, say


@dataclass(frozen=True, slots=True)
class Seen:
    """What one condition looks at, as it is now."""

    text: str
    now: str
    is_fresh: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One rule."""

    name: str
    title: str
    says: str
    reading: Reading
    protects: bool
    priority: int
    origin: str
    origin_text: str
    mark: str
    runs: bool
    left_out: str
    mode: str
    is_active: bool
    why: str
    did: str
    decided_ms: int
    seen: Sequence[Seen]
    can_restore: bool


@dataclass(frozen=True, slots=True)
class View:
    """The page. ``why``: the controller cannot be asked now; empty = it can."""

    now_ms: int
    mode: str
    why: str
    cards: Sequence[Card]
    conflicts: Sequence[Conflict]
    unsound: Mapping[str, str]

    @property
    def protection(self) -> list[Card]:
        """Rules about harm."""
        return [card for card in self.cards if card.protects]

    @property
    def comfort(self) -> list[Card]:
        """All others."""
        return [card for card in self.cards if not card.protects]


def modes(state: State) -> dict[str, str]:
    """The controller's modes: ``mode``, and ``rule.NAME``."""
    memory = state.devices.get(CONTROLLER)
    values = memory.settings.values if memory and memory.settings else {}
    return {name: str(value) for name, value in values.items()}


def view(rules: Rules, live: Live, why: str) -> View:
    """Everything on the page, as of now."""
    state = live.state()
    chosen = modes(state)
    return View(
        now_ms=clock.epoch_ms(live.now()),
        mode=chosen.get("mode", "off"),
        why=why,
        cards=[card(rules, each.name, state, live, chosen) for each in rules.rules],
        conflicts=conflicts(rules),
        unsound=rules.unsound,
    )


def card(rules: Rules, name: str, state: State, live: Live, chosen: Mapping[str, str]) -> Card:
    """One rule, as of now."""
    written = rules.rule(name)
    assert written is not None  # noqa: S101 - the caller took the name from there
    table = written.table
    reading = read(rules, table)
    decision = state.decisions.get(name) if written.runs else None
    did = decision.did if decision else None
    return Card(
        name=name,
        title=words.title(name),
        says=reading.says,
        reading=reading,
        protects=bool(table.get("protects")),
        priority=int(table.get("priority") or 0),
        origin=written.origin,
        origin_text=_(ORIGINS.get(written.origin, ORIGINS["site"])),
        mark=written.mark,
        runs=written.runs,
        left_out=rules.left_out.get(name, ""),
        mode=chosen.get(f"rule.{name}", str(table.get("mode") or "on")),
        is_active=bool(decision and decision.wants),
        why=say(decision.why) if decision else "",
        did=controls.wish_text(did) if did and did != "nothing" else "",
        decided_ms=clock.epoch_ms(clock.parse(decision.ts)) if decision else 0,
        seen=_seen(rules, table, state, live),
        can_restore=written.origin == "saved",
    )


def _seen(rules: Rules, table: Table, state: State, live: Live) -> list[Seen]:
    """The newest reading of everything that ``when`` looks at, each once."""
    devices = {device.name: device for device in live.devices(state)}
    now_ms = clock.epoch_ms(live.now())
    found: dict[str, Seen] = {}
    for item in conditions(table.get("when")):
        key = ".".join(rules.device(key_of(item)))
        if key in found:
            continue
        device, _dot, name = key.partition(".")
        memory = state.devices.get(device) or Memory()
        value: Value = None
        is_fresh = False
        if item.get("setting"):
            value = memory.settings.values.get(name) if memory.settings else None
            is_fresh = value is not None
        elif memory.sample is not None:
            value = memory.sample.values.get(name)
            known = devices.get(device)
            is_fresh = known is not None and known.freshness(now_ms) != "lost"
        if isinstance(value, list):
            numbers = [each for each in value if isinstance(each, int | float)]
            value = max(numbers) if numbers else None
        found[key] = Seen(
            words.label(name), words.value(name, value), is_fresh and value is not None
        )
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a rule that is read differently."""

    title: str
    before: Sequence[str]
    after: Sequence[str]


def differences(rules: Rules, before: Table | None, after: Table | None) -> list[Difference]:
    """What reads differently; all of it for a rule that is new, or taken away."""
    old = read(rules, before).lines if before is not None else ()
    new = read(rules, after).lines if after is not None else ()
    found = []
    if (before or {}).get("says") != (after or {}).get("says"):
        found.append(
            Difference(
                _("What it is for"),
                (say(before["says"]),) if before and before.get("says") else (),
                (say(after["says"]),) if after and after.get("says") else (),
            )
        )
    for place in range(max(len(old), len(new))):
        title = (new or old)[place][0]
        was = old[place][1] if place < len(old) else ()
        shall = new[place][1] if place < len(new) else ()
        if was != shall:
            found.append(Difference(title, was, shall))
    if before is not None and after is not None:
        for key, title in (("priority", _("Priority")), ("protects", _("Protection"))):
            if before.get(key) != after.get(key):
                found.append(Difference(title, (_plain(before, key),), (_plain(after, key),)))
    return found


def _plain(table: Table, key: str) -> str:
    value = table.get(key)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value)


__all__ = ["Card", "Difference", "Seen", "View", "card", "condition", "differences", "view"]
