"""What *Alarms* shows: what is open and what follows from it, who has seen it, who was told.

Alarms, acknowledgements and deliveries come from the mesh; what was acknowledged before this portal
started, and the history, from the database.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sunmesh import clock
from sunmesh.errors import MessageError, RefusedError, SunmeshError
from sunmesh.messages import Ack, Alarm, Delivered, Delivery, Value, decode, encode
from sunmesh.mqtt import Message
from sunmesh.topics import parse
from sunmesh.vocabulary import VOCABULARY

from . import text, told, words
from .board import TEST, Board
from .controls import NOTIFIER, STAGE_TEXTS
from .live import ALARMS, State
from .orders import Orders
from .queries import HistoryError, PastAlarm
from .streams import Stream, event_bytes
from .text import N_, _

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Device and code."""

T = TypeVar("T")

TICK_S = 1.0
PAUSE_S = 0.1
ASK_S = 15.0
"""The database is asked for acknowledgements so often at most."""
ENDED_S = 5.0
"""And so often for those of which the mesh knows nothing any more."""
PAGE = 20
MOST_PAGES = 500
ORDER = {"critical": 0, "warning": 1, "info": 2}

STATE_TEXTS = {
    "waiting": N_("on its way"),
    "sent": N_("sent"),
    "digest": N_("sent, together with others"),
    "delivered": N_("arrived"),
    "read": N_("read"),
    "acknowledged": N_("acknowledged there"),
    "failed": N_("not delivered"),
    "expired": N_("too late, not sent"),
    "cancelled": N_("not needed any more"),
}
KIND_TEXTS = {
    "raised": "",
    "worse": N_("that it became worse"),
    "cleared": N_("that it is over"),
    "reminder": N_("reminder"),
    "escalation": N_("because nobody answered"),
}
TONES = {"waiting": "pending", "failed": "bad", "expired": "bad"}


@dataclass(frozen=True, slots=True)
class Seen:
    """Who has seen an alarm, and when [ms]. ``id`` is the alarm's."""

    id: str
    by: str
    ms: int


@dataclass(frozen=True, slots=True)
class PushRow:
    """How far the newest push to one target has come, in words."""

    target: str
    by: str
    text: str
    tone: str
    when: str
    ms: int


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One open alarm in words, with what follows from it."""

    device: str
    code: str
    id: str
    where: str
    title: str
    text: str
    severity: str
    value: str
    since: str
    since_ms: int
    advice: str
    flapping: bool
    cause: str = ""
    acked_by: str = ""
    acked: str = ""
    pushes: Sequence[PushRow] = ()
    followers: Sequence["AlarmRow"] = ()


@dataclass(frozen=True, slots=True)
class PastRow:
    """One life of an alarm in words."""

    where: str
    title: str
    text: str
    severity: str
    when: str
    lasted: str
    by: str
    acked: str


@dataclass(frozen=True, slots=True)
class Past:
    """A page of the history. ``note``: why there is none."""

    rows: Sequence[PastRow] = ()
    devices: Sequence[tuple[str, str]] = ()
    device: str = ""
    page: int = 1
    has_older: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Test:
    """What became of the last test. ``tone``: empty = there was none."""

    text: str = ""
    tone: str = ""
    pushes: Sequence[PushRow] = ()


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the page but the history."""

    now_ms: int
    broker: bool
    waiting: Sequence[AlarmRow]
    seen: Sequence[AlarmRow]
    last: str
    notifier: str
    channels: Sequence[PushRow]
    test: Test
    mark: str = ""


def root_of(raised: Mapping[Key, Alarm], key: Key) -> Key:
    """The alarm that ``key`` follows from in the end; itself where that is not raised."""
    passed = [key]
    while True:
        cause = raised[passed[-1]].cause or ""
        device, _slash, code = cause.partition("/")
        if (device, code) not in raised:
            return passed[-1]
        if (device, code) in passed:  # they accuse each other
            return min(passed)
        passed.append((device, code))


def since_ms(alarm: Alarm) -> int:
    """When it was raised [ms]."""
    return clock.epoch_ms(clock.parse(alarm.since or alarm.ts))


def value_text(value: Value, data: Mapping[str, Value]) -> str:
    """What an alarm was raised for; its unit is that of the quantity in ``data`` that it equals."""
    if value is None or isinstance(value, bool) or value == "" or isinstance(value, list):
        return ""
    shown = data.get("value")
    if isinstance(shown, str):  # as its detector writes it; a count of one says nothing
        return "" if shown.isdigit() else told.written("value", shown)
    for name, each in data.items():
        if name in VOCABULARY and each == value:
            return words.value(name, value)
    if isinstance(value, str):
        return words.code(value) if value.islower() else value
    return text.number(value, 0 if float(value).is_integer() else 2)


class AlarmBook:
    """Open alarms, who has seen them, who was told of them.

    Args:
        board: with the mesh, the history, and the streams of open pages.
        orders: to ask the notifier for a test; its accounts keep the audit.
    """

    def __init__(self, board: Board, orders: Orders) -> None:
        """Hears acknowledgements and deliveries once the mesh is started."""
        self.board = board
        self.orders = orders
        self.live = board.live
        self.zone = board.zone
        self._acks: dict[Key, Seen] = {}
        self._deliveries: dict[Key, Delivery] = {}
        self._asked: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
        self._ended: tuple[float, list[PastAlarm]] = (float("-inf"), [])
        self._lock = threading.Lock()
        self._marking = threading.Lock()
        self._mark = ""
        board.badge = self.badge
        mesh = self.live.mesh
        if mesh is not None:
            for kind in ("alarm_ack", "alarm_delivery"):
                mesh.subscribe(mesh.topics.every(kind), self.hear)

    # -- in ----------------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        """Take in who has seen an alarm, or to whom it was pushed."""
        address = parse(message.topic)
        if address is None or address.kind not in ("alarm_ack", "alarm_delivery"):
            return
        key = (address.device, address.code)
        try:
            if address.kind == "alarm_ack":
                if not message.payload:
                    return
                ack = decode(Ack, message.payload)
                self._take(key, Seen(ack.id, ack.by, clock.epoch_ms(clock.parse(ack.ts))))
            elif message.payload:
                delivery = decode(Delivery, message.payload)
                with self._lock:
                    _keep(self._deliveries, key, delivery)
            else:
                with self._lock:
                    self._deliveries.pop(key, None)
        except MessageError as err:
            self.live.counters["bad_messages"] += 1
            log.warning("%s: %s", message.topic, err)
            return
        self.live.wake()

    def _take(self, key: Key, seen: Seen) -> None:
        """Whoever was first counts."""
        with self._lock:
            before = self._acks.get(key)
            if before is None or before.id != seen.id or seen.ms < before.ms:
                _keep(self._acks, key, seen)

    def _recall(self, raised: Mapping[Key, Alarm]) -> None:
        """Ask the database who has seen what this portal has not heard of."""
        unknown = frozenset(
            alarm.id
            for key, alarm in raised.items()
            if (known := self._acks.get(key)) is None or known.id != alarm.id
        )
        at, asked = self._asked
        now = time.monotonic()
        if not unknown or (unknown <= asked and now - at < ASK_S):
            return
        self._asked = (now, unknown)
        try:
            found = self.board.history.acknowledged(unknown)
        except HistoryError:
            return  # the history below says why
        for (device, code, number), (by, ms) in found.items():
            if (alarm := raised.get((device, code))) is not None and alarm.id == number:
                self._take((device, code), Seen(number, by, ms))

    # -- out ---------------------------------------------------------------------------------------

    def acknowledge(self, device: str, code: str, number: str, *, by: str, address: str) -> bool:
        """Say that somebody has seen an alarm; False where somebody had before.

        Raises:
            RefusedError: it is over, or another one by now, or nothing could be sent.
        """
        key = (device, code)
        raised = _raised(self.live.state())
        alarm = raised.get(key)
        if alarm is None:
            raise RefusedError(_("this alarm is over, or never was"))
        if alarm.id != number:
            raise RefusedError(_("it was over and has come again since your page was loaded"))
        self._recall(raised)
        known = self._acks.get(key)
        if known is not None and known.id == number:
            return False
        mesh = self.live.mesh
        if mesh is None or not mesh.connected:
            raise RefusedError(_("the broker does not answer; nothing was sent"))
        subject = f"{device}/{code}"
        try:
            self.orders.accounts.note(
                by, address, "acknowledge", subject[:64], "done", f"{alarm.title} (id {number})"
            )
        except SunmeshError as err:
            raise RefusedError(
                _("the audit cannot be written, so nothing was sent: %(why)s", why=err)
            ) from err
        now = self.live.now()
        ack = Ack(number, by, clock.iso(now))
        if not mesh.publish(mesh.topics.alarm_ack(device, code), encode(ack)):
            raise RefusedError(_("the broker took no more messages"))
        self._take(key, Seen(number, by, clock.epoch_ms(now)))
        self.live.wake()
        return True

    def test(self, *, by: str, address: str) -> None:
        """Ask the notifier for a test of all ways to people.

        Raises:
            RefusedError: nothing could be sent.
        """
        if why := self._why_no_notifier(self.live.state()):
            raise RefusedError(why)
        self.orders.ask(NOTIFIER, {"test": True}, by=by, address=address)

    # -- in words ----------------------------------------------------------------------------------

    def _at(self, ms: int) -> str:
        now = words.local(clock.epoch_ms(self.live.now()), self.zone)
        return words.clock(words.local(ms, self.zone), now)

    def _seen(self, key: Key, alarm: Alarm) -> Seen | None:
        seen = self._acks.get(key)
        return seen if seen is not None and seen.id == alarm.id else None

    def _push(self, target: str, done: Delivered) -> PushRow:
        kind = KIND_TEXTS.get(done.kind, done.kind)
        parts = [_(STATE_TEXTS[done.state]), _(kind) if kind else "", done.detail]
        ms = clock.epoch_ms(clock.parse(done.ts))
        return PushRow(
            target=target,
            by=done.by,
            text=", ".join(part for part in parts if part),
            tone=TONES.get(done.state, "good"),
            when=self._at(ms),
            ms=ms,
        )

    def _pushes(self, key: Key, number: str) -> list[PushRow]:
        delivery = self._deliveries.get(key)
        if delivery is None or delivery.id != number:
            return []
        return [self._push(name, done) for name, done in sorted(delivery.targets.items())]

    def _row(self, key: Key, alarm: Alarm, followers: Sequence[AlarmRow] = ()) -> AlarmRow:
        device, code = key
        seen = self._seen(key, alarm)
        start = since_ms(alarm)
        own = told.tell(alarm, device, code)
        cause_device, _slash, cause_code = (alarm.cause or "").partition("/")
        cause = f"{words.title(cause_device)}: {told.name(cause_code)}" if cause_code else ""
        return AlarmRow(
            device=device,
            code=code,
            id=alarm.id,
            where=words.title(device),
            title=own.title,
            text=own.text,
            severity=alarm.severity,
            value=value_text(alarm.value, alarm.data),
            since=self._at(start),
            since_ms=start,
            advice=own.advice,
            flapping=alarm.flapping,
            cause=cause,
            acked_by=seen.by if seen else "",
            acked=self._at(seen.ms) if seen else "",
            pushes=self._pushes(key, alarm.id),
            followers=followers,
        )

    def open_ones(self) -> list[tuple[Key, Alarm, Seen | None]]:
        """Every alarm that is raised, and who has seen it."""
        raised = _raised(self.live.state())
        self._recall(raised)
        return [(key, alarm, self._seen(key, alarm)) for key, alarm in raised.items()]

    def badge(self) -> str:
        """How many open alarms nobody has seen; consequences do not count. Empty = none."""
        raised = _raised(self.live.state())
        self._recall(raised)
        count = sum(
            root_of(raised, key) == key and self._seen(key, alarm) is None
            for key, alarm in raised.items()
        )
        return str(count) if count else ""

    def view(self) -> View:
        """Everything on the page but the history, as of now."""
        state = self.live.state()
        raised = _raised(state)
        self._recall(raised)
        followers: dict[Key, list[AlarmRow]] = {}
        for key, alarm in raised.items():
            root = root_of(raised, key)
            if root != key:
                followers.setdefault(root, []).append(self._row(key, alarm))
        rows = [
            self._row(key, alarm, sorted(followers.get(key, []), key=_by_severity))
            for key, alarm in raised.items()
            if root_of(raised, key) == key
        ]
        rows.sort(key=_by_severity)
        made = View(
            now_ms=clock.epoch_ms(self.live.now()),
            broker=self.live.connected,
            waiting=[row for row in rows if not row.acked_by],
            seen=[row for row in rows if row.acked_by],
            last=self._last(state) if not rows else "",
            notifier=self._why_no_notifier(state),
            channels=self._channels(),
            test=self._test(state),
        )
        return replace(made, mark=_mark(made))

    def _last(self, state: State) -> str:
        """The alarm that ended last, in a sentence."""
        ended = [
            (clock.epoch_ms(clock.parse(alarm.ts)), told.tell(alarm, *key).title, key[0])
            for key, alarm in state.alarms.items()
            if alarm.state == "cleared" and key != TEST
        ]
        if ended:
            ms, title, device = max(ended)
            return _(
                "The last one was “%(title)s” (%(device)s), over since %(when)s.",
                title=title,
                device=words.title(device),
                when=self._at(ms),
            )
        at, found = self._ended
        if time.monotonic() - at > ENDED_S:  # open pages ask every second
            try:
                found = [each for each in self.board.history.past_alarms(most=5) if _is_real(each)]
            except HistoryError:
                return ""
            self._ended = time.monotonic(), found
        if not found:
            return ""
        last = found[0]
        when = self._at(last.end or last.start)
        return _(
            "The last one was “%(title)s” (%(device)s), %(when)s.",
            title=told.stored(last.device, last.code, last.title).title,
            device=words.title(last.device),
            when=when,
        )

    def _why_no_notifier(self, state: State) -> str:
        if not self.live.connected:
            return _("the broker does not answer")
        service = state.services.get(NOTIFIER)
        if service is None:
            return _("there is no notifier, so nobody is told but who looks here")
        if service.state != "online":
            return _("the notifier is not running, so nobody is told but who looks here")
        return ""

    def _channels(self) -> list[PushRow]:
        """The newest push to each target."""
        newest: dict[str, PushRow] = {}
        with self._lock:
            deliveries = list(self._deliveries.values())
        for delivery in deliveries:
            for name, done in delivery.targets.items():
                row = self._push(name, done)
                if name not in newest or row.ms > newest[name].ms:
                    newest[name] = row
        return [newest[name] for name in sorted(newest)]

    def _test(self, state: State) -> Test:
        """What became of the last test that was asked for here or by others."""
        alarm = state.alarms.get(TEST)
        pushes = self._pushes(TEST, alarm.id) if alarm is not None else []
        order = next((each for each in self.orders.last(200) if each.device == NOTIFIER), None)
        if order is None:
            return Test(pushes=pushes)
        stage = order.stage(clock.epoch_ms(self.live.now()))
        detail = order.whole[-1].detail if order.whole else ""
        at = self._at(order.ms)
        if stage == "applied":
            done = detail or _("it is on its way")
            return Test(_("Asked for at %(when)s: %(done)s.", when=at, done=done), "good", pushes)
        if order.is_pending(clock.epoch_ms(self.live.now())):
            return Test(_("Asked for at %(when)s.", when=at), "pending", pushes)
        why = detail or (
            _("the notifier does not answer")
            if stage == "silent"
            else _(STAGE_TEXTS[stage])
            if stage in STAGE_TEXTS
            else stage
        )
        return Test(_("Asked for at %(when)s, but: %(why)s.", when=at, why=why), "bad", pushes)

    def past(self, device: str, page: int) -> Past:
        """A page of the history, in words."""
        page = min(max(page, 1), MOST_PAGES)
        history = self.board.history
        try:
            found = history.past_alarms(device, (page - 1) * PAGE, PAGE + 1)
            devices = [(name, words.title(name)) for name in history.alarming_devices()]
        except HistoryError as err:
            return Past(device=device, note=str(err))
        rows = [self._past_row(each) for each in found[:PAGE]]
        return Past(rows, devices, device, page, len(found) > PAGE)

    def _past_row(self, each: PastAlarm) -> PastRow:
        lasted = _("not over")
        if each.end is not None:
            seconds = (each.end - each.start) / 1000
            lasted = _("for %(span)s", span=words.age(seconds))
        own = told.stored(each.device, each.code, each.title, each.text)
        return PastRow(
            where=words.title(each.device),
            title=own.title,
            text=own.text,
            severity=each.severity,
            when=self._at(each.start),
            lasted=lasted,
            by=each.by,
            acked=self._at(each.acked) if each.acked else "",
        )

    # -- live --------------------------------------------------------------------------------------

    def open(self) -> Stream | None:
        """A stream that says when the page is to be fetched anew; None when there are too many."""
        with self._marking, text.use(text.DEFAULT):  # the mark is of no language
            self._mark = self.view().mark
            stream = self.board.streams.open("alarms")
            if stream is not None:
                stream.put(event_bytes("changed", self._mark.encode()))
        return stream

    def serve(self, stop: threading.Event) -> None:
        """Keep open pages up to date until ``stop``."""
        seen = 0
        while not stop.is_set():
            seen = self.live.wait(seen, TICK_S)
            try:
                if self.board.streams.count("alarms"):
                    with self._marking:
                        mark = self.view().mark
                        if mark != self._mark:
                            self._mark = mark
                            self.board.streams.send(event_bytes("changed", mark.encode()), "alarms")
            except Exception:
                log.exception("the alarms failed")
            stop.wait(PAUSE_S)


def _raised(state: State) -> dict[Key, Alarm]:
    return {
        key: alarm for key, alarm in state.alarms.items() if alarm.state == "raised" and key != TEST
    }


def _is_real(each: PastAlarm) -> bool:
    return (each.device, each.code) != TEST


def _by_severity(row: AlarmRow) -> tuple[int, int, str, str]:
    """Critical first, then the newest."""
    return ORDER[row.severity], -row.since_ms, row.device, row.code


def _keep(found: dict[Key, T], key: Key, content: T) -> None:
    """The newest of each; a broker full of rubbish must not fill the memory."""
    if key in found or len(found) < ALARMS:
        found[key] = content


def _mark(view: View) -> str:
    """Changes when an open page must be fetched anew; ages are counted there."""
    parts = repr(replace(view, now_ms=0))
    return hashlib.blake2b(parts.encode(), digest_size=6).hexdigest()
