"""Orders: what was asked of devices, and what became of it, stage by stage.

An order is published once and is done only when the device was read back. Orders of others (home
automation, the controller, another portal) are told in the same way.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_hex

from sunmesh import clock
from sunmesh.errors import MessageError, RefusedError, SunmeshError
from sunmesh.messages import RENEWED, Command, Result, Value, decode, encode
from sunmesh.mqtt import Message
from sunmesh.topics import parse

from .live import Live
from .people.accounts import Accounts
from .text import _

log = logging.getLogger(__name__)

EXPIRY_S = 30
"""An order that was not begun by then is not done."""
SILENCE_MS = 45_000
"""So long without any answer, and nobody listens."""
KEPT = 200
PENDING = frozenset({"queued", "accepted", "sent", "acknowledged"})
BATCH = "settings"
"""The name of an order of several settings."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of one setting: ``queued`` by the portal, then what the device's service says."""

    stage: str
    ms: int
    value: Value = None
    detail: str = ""


@dataclass(slots=True)
class Order:
    """One wish and what became of it.

    Attributes:
        id: of the command.
        device: that was asked.
        name: of the setting; ``settings`` for several.
        wants: value wanted by setting.
        by: who asked.
        ms: when.
        was: value before, where it is known.
        steps: stages by setting, in the order they came.
        whole: stages of the order as a whole.
        audit: the row that says how it ended; 0 = none.
        said: the wish in short, for that row.
        heard: when it was last spoken of.
    """

    id: str
    device: str
    name: str
    wants: dict[str, Value]
    by: str
    ms: int
    was: Mapping[str, Value] = field(default_factory=dict)
    steps: dict[str, list[Step]] = field(default_factory=dict)
    whole: list[Step] = field(default_factory=list)
    audit: int = 0
    said: str = ""
    heard: int = 0

    def stage(self, now: int) -> str:
        """Where it stands; ``silent`` when nobody has answered."""
        last = self.whole[-1].stage if self.whole else "queued"
        if last == "queued" and now - max(self.ms, self.heard) > SILENCE_MS:
            return "silent"
        return last

    def is_pending(self, now: int) -> bool:
        """Whether more is to come."""
        return self.stage(now) in PENDING


class Orders:
    """Asks, and hears what becomes of it.

    Args:
        live: what the mesh says; its broker client publishes.
        accounts: keeps the audit.
    """

    def __init__(self, live: Live, accounts: Accounts) -> None:
        """Hears results once the mesh is started."""
        self.live = live
        self.accounts = accounts
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._lock = threading.Lock()
        self._ended: deque[tuple[int, str, str]] = deque(maxlen=KEPT)
        if live.mesh is not None:
            live.mesh.subscribe(live.mesh.topics.every("result"), self.hear)

    # -- out ---------------------------------------------------------------------------------------

    def ask(
        self,
        device: str,
        wants: Mapping[str, Value],
        *,
        by: str,
        address: str,
        was: Mapping[str, Value] | None = None,
        reason: str = "",
        override: str = "",
        confirm: Value = None,
        lease_s: float | None = None,
    ) -> Order:
        """Ask a device for one setting or an ordered batch of several.

        Raises:
            RefusedError: the broker does not answer, or the audit cannot be written: nothing
                was sent.
        """
        mesh = self.live.mesh
        if mesh is None or not mesh.connected:
            raise RefusedError(_("the broker does not answer; nothing was sent"))
        now = self.live.now()
        ((name, value),) = wants.items() if len(wants) == 1 else ((BATCH, None),)
        order = Order(
            id=token_hex(16),
            device=device,
            name=name,
            wants=dict(wants),
            by=f"web:{by}",
            ms=clock.epoch_ms(now),
            was=dict(was or {}),
        )
        queued = Step("queued", order.ms)
        order.steps = {each: [queued] for each in wants}
        order.whole = [queued]
        command = Command(
            name=name,
            value=value,
            id=order.id,
            expires=clock.iso(now + timedelta(seconds=EXPIRY_S)),
            by=order.by,
            reason=reason or None,
            lease_s=lease_s,
            values=dict(wants) if name == BATCH else None,
            override=override or None,
            confirm=confirm,
        )
        order.said = ", ".join(f"{each} = {value}" for each, value in wants.items())
        try:
            order.audit = self.accounts.note(
                by, address, "command", device, "asked", f"{order.said} (id {order.id})"
            )
        except SunmeshError as err:
            raise RefusedError(
                _("the audit cannot be written, so nothing was sent: %(why)s", why=err)
            ) from err
        with self._lock:
            self._keep(order)
        if not mesh.publish(mesh.topics.command(device), encode(command), expiry_s=EXPIRY_S):
            self._take(order, Step("failed", order.ms, detail="the broker took no more messages"))
        self.live.wake()
        return order

    # -- in ----------------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        """Take one stage in."""
        address = parse(message.topic)
        if address is None or address.kind != "result" or not message.payload:
            return
        try:
            result = decode(Result, message.payload)
        except MessageError as err:
            self.live.counters["bad_messages"] += 1
            log.warning("%s: %s", message.topic, err)
            return
        if result.detail == RENEWED:
            return
        ms = clock.epoch_ms(clock.parse(result.ts))
        step = Step(result.stage, ms, result.value, result.detail)
        number, _slash, part = result.id.partition("/")
        with self._lock:
            order = self._orders.get(number)
            if order is None or order.device != address.device:
                if part:
                    return
                wants = {} if result.name == BATCH else {result.name: result.value}
                order = Order(
                    number, address.device, result.name, wants, result.by or "unknown", ms
                )
                self._keep(order)
            order.heard = clock.epoch_ms(self.live.now())
            if part:
                steps = order.steps.setdefault(part, [])
                if step not in steps:
                    steps.append(step)
                if order.name == BATCH:
                    order.wants.setdefault(part, result.value)
        if not part:
            self._take(order, step)
        self.live.wake()

    def _keep(self, order: Order) -> None:
        self._orders[order.id] = order
        while len(self._orders) > KEPT:
            self._orders.popitem(last=False)

    def _take(self, order: Order, step: Step) -> None:
        with self._lock:
            if step in order.whole:
                return  # delivered twice
            order.whole.append(step)
            if order.name != BATCH:
                order.steps.setdefault(order.name, []).append(step)
        if order.audit and step.stage not in PENDING:
            why = f": {step.detail}" if step.detail else ""
            detail = f"{order.said}{why} (id {order.id})"
            self._ended.append((order.audit, step.stage, detail))

    # -- what is known -----------------------------------------------------------------------------

    def get(self, number: str) -> Order | None:
        """The order of that id; None = forgotten, or never was."""
        return self._orders.get(number)

    def last(self, most: int = 10) -> Sequence[Order]:
        """The newest orders first."""
        with self._lock:
            return list(self._orders.values())[-most:][::-1]

    def write_down(self) -> None:
        """Note in the audit how orders have ended; what cannot be written now waits."""
        now = clock.epoch_ms(self.live.now())
        for order in self.last(KEPT):
            if order.audit and order.stage(now) == "silent":
                detail = "nobody answered"
                self._take(order, Step("failed", now, detail=detail))
        while self._ended:
            number, result, detail = self._ended[0]
            try:
                self.accounts.ended(number, result, detail)
            except SunmeshError:
                return
            self._ended.popleft()
