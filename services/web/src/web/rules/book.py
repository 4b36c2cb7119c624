"""The controller's rules as it tells them, and how it is asked to check, save and replay a draft.

Services share nothing but the broker: what a rule may be is known to the controller alone, which
answers each draft with its own checks. Here a table of a rule is read as far as it is understood.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sunmesh import clock
from sunmesh.errors import RefusedError
from sunmesh.mqtt import Message
from sunmesh.topics import parse

from ..controls import CONTROLLER, DRAFT
from ..live import Live
from ..orders import PENDING, Order, Orders

log = logging.getLogger(__name__)

LONGEST = 16_000
"""A draft is no longer than that [bytes]."""
KEPT = 4
"""So many replays are remembered."""
MOST_BYTES = 200_000
PATIENCE_S = 5.0
STEP_S = 0.05

Table = dict[str, Any]


class Written(msgspec.Struct, frozen=True, rename={"origin": "from"}):
    """One rule as it is written.

    Attributes:
        name: of the rule.
        origin: ``preset``, ``site`` (site.toml) or ``saved`` (changed in the portal).
        mark: tells this form of it from another.
        runs: it does; else ``left_out`` says why not.
        table: the rule.
        below: what it is without the change; None = there is nothing below.
    """

    name: str
    origin: str = "site"
    mark: str = ""
    runs: bool = True
    table: Table = {}
    below: Table | None = None


class Change(msgspec.Struct, frozen=True):
    """One change: what was saved of a rule (of the numbers, without a name) before and after."""

    ts: str
    by: str = ""
    note: str = ""
    rule: str = ""
    before: Table | None = None
    after: Table | None = None


class Rules(msgspec.Struct, frozen=True):
    """All of it; the names are those of the controller's message."""

    ts: str
    preset: str = ""
    roles: dict[str, str] = {}
    has_relay: bool = False
    numbers: dict[str, float] = {}
    numbers_below: dict[str, float] = {}
    orders: list[list[str]] = []
    limits: dict[str, float] = {}
    rules: list[Written] = []
    left_out: dict[str, str] = {}
    unsound: dict[str, str] = {}
    damaged: bool = False
    changes: list[Change] = []

    def rule(self, name: str) -> Written | None:
        """The rule of that name."""
        return next((each for each in self.rules if each.name == name), None)

    def device(self, text: str) -> tuple[str, str]:
        """``inverter.battery_voltage_v`` as device and name; roles are resolved."""
        device, _, name = text.partition(".")
        return self.roles.get(device, device), name


class Switch(msgspec.Struct, frozen=True):
    """Something that a rule would have done."""

    ts: int
    rule: str = ""
    did: str = ""
    saw: Table = {}


class Report(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """How rules would have run; times in ms."""

    start: int = 0
    end: int = 0
    minutes: int = 0
    silent: int = 0
    switches: list[Switch] = []
    counts: dict[str, int] = {}
    writes: int = 0
    lowest: list[float] | None = None
    open: list[list[int]] = []
    open_minutes: int = 0
    active: dict[str, list[list[int]]] = {}
    blind: dict[str, int] = {}
    capped: dict[str, int] = {}
    unknown: list[str] = []
    is_cut: bool = False


class Replay(msgspec.Struct, frozen=True):
    """One replay: ``running``, ``done`` or ``failed``."""

    id: str
    state: str = "running"
    rule: str = ""
    days: float = 30.0
    done: float = 0.0
    why: str = ""
    now: Report | None = None
    changed: Report | None = None


class RuleBook:
    """Hears the rules, asks for changes.

    Args:
        live: what the mesh says; its broker client is heard.
        orders: through these the controller is asked.
    """

    def __init__(self, live: Live, orders: Orders) -> None:
        """Hears something once the mesh is started."""
        self._live, self._orders = live, orders
        self._rules: Rules | None = None
        self._replays: OrderedDict[str, Replay] = OrderedDict()
        self._lock = threading.Lock()
        if live.mesh is not None:
            live.mesh.subscribe(live.mesh.topics.every("rules"), self.hear)

    def hear(self, message: Message) -> None:
        """Take one message in; what cannot be read is counted and dropped."""
        address = parse(message.topic)
        if address is None or address.kind != "rules":
            return
        try:
            if len(message.payload) > MOST_BYTES:
                raise msgspec.ValidationError(f"{len(message.payload)} bytes")
            if address.code == "book":
                found = (
                    msgspec.json.decode(message.payload, type=Rules) if message.payload else None
                )
                with self._lock:
                    self._rules = found
            elif address.code == "replay" and message.payload:
                self._keep(msgspec.json.decode(message.payload, type=Replay))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
            self._live.counters["bad_messages"] += 1
            log.warning("%s: %s", message.topic, err)
            return
        self._live.wake()

    def _keep(self, replay: Replay) -> None:
        with self._lock:
            self._replays[replay.id] = replay
            self._replays.move_to_end(replay.id)
            while len(self._replays) > KEPT:
                self._replays.popitem(last=False)

    @property
    def rules(self) -> Rules | None:
        """The rules as they run; None = no controller has told them."""
        return self._rules

    def replay(self, number: str) -> Replay | None:
        """The replay of that id; one that was asked for and not heard of is at its beginning."""
        with self._lock:
            found = self._replays.get(number)
        order = self._orders.get(number)
        if order is None or order.name != f"{DRAFT}replay":
            return found
        if found is None or found.state == "running":
            stage = order.stage(clock.epoch_ms(self._live.now()))
            if stage in ("refused", "expired", "failed", "silent"):
                return Replay(number, "failed", why=order.whole[-1].detail or stage)
        return found or Replay(number)

    # -- asking ------------------------------------------------------------------------------------

    def check(self, draft: Mapping[str, object], *, by: str, address: str) -> str:
        """Why the controller would not take ``draft``; empty when it would.

        Raises:
            RefusedError: it does not answer.
        """
        order = self._ask("check", draft, by=by, address=address, reason="")
        stage, detail = self._await(order)
        if stage == "applied":
            return ""
        if stage == "refused":
            return detail
        raise RefusedError("the controller does not answer; nothing was changed")

    def save(
        self, draft: Mapping[str, object], *, by: str, address: str, note: str
    ) -> tuple[Order, str, str]:
        """Have ``draft`` saved; the order, how far it is after some seconds, and what was said.

        Raises:
            RefusedError: nothing was sent.
        """
        order = self._ask("save", draft, by=by, address=address, reason=note)
        return order, *self._await(order)

    def rehearse(self, wanted: Mapping[str, object], *, by: str, address: str) -> Order:
        """Have a replay begun.

        Raises:
            RefusedError: nothing was sent.
        """
        return self._ask("replay", wanted, by=by, address=address, reason="")

    def _ask(
        self, what: str, content: Mapping[str, object], *, by: str, address: str, reason: str
    ) -> Order:
        text = msgspec.json.encode(content).decode()
        if len(text.encode()) > LONGEST:
            raise RefusedError("the draft is too long")
        name = f"{DRAFT}{what}"
        return self._orders.ask(
            CONTROLLER, {name: text}, by=by, address=address, reason=reason[:200]
        )

    def _await(self, order: Order) -> tuple[str, str]:
        """The last word, or how far it came within some seconds."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            last = order.whole[-1]
            if last.stage not in PENDING:
                break
            time.sleep(STEP_S)
        last = order.whole[-1]
        return last.stage, last.detail


def conditions(groups: object) -> list[Table]:
    """All conditions of ``when`` or ``until``."""
    return [condition for group in _dicts(groups) for condition in _dicts(group.get("all"))]


def _dicts(value: object) -> Sequence[Table]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
