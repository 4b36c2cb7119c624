"""The life of an alarm: raised, still there, cleared; one for each device and code. Pure.

Who detects something holds a :class:`Condition` against its :class:`Alarms` each time it looks, and
publishes what comes back: a message when something changed, else nothing. A condition that comes
and goes all the time becomes one alarm that says so, until it is calm. :func:`causes` folds a storm
under what started it.

Durations are counted by a clock that does not jump (monotonic seconds); the wall's time is only
written into messages.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from . import clock
from .errors import MessageError
from .messages import Alarm, Severity, Value, decode, encode

Key = tuple[str, str]
"""Device and code."""

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""The mildest first."""

ID_LENGTH = 64
TITLE_LENGTH = 160
TEXT_LENGTH = 2000
"""Longer texts are cut: they go to telephones."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something about a device that its owner should know, for as long as it holds.

    Attributes:
        severity: ``info``, ``warning`` or ``critical``.
        title: in a few words.
        text: in a sentence, with what to do where ``advice`` is empty.
        value: the number behind it, if there is one.
        advice: what to do, in one sentence.
        data: the values that a text in another language wants, by name.
    """

    severity: Severity
    title: str
    text: str
    value: Value = None
    advice: str = ""
    data: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """When a condition becomes an alarm, and when it is over [s].

    Attributes:
        for_s: it must hold for so long.
        clear_s: it must be over for so long.
        pause_s: an alarm that was cleared is not raised again sooner.
        flaps: so many changes within ``within_s`` make one flapping alarm of it; 0 = never.
        within_s: see there.
        calm_s: a flapping alarm ends when nothing changed for so long; and an alarm that got worse
            is not called better sooner.
    """

    for_s: float = 0.0
    clear_s: float = 0.0
    pause_s: float = 0.0
    flaps: int = 6
    within_s: float = 600.0
    calm_s: float = 600.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        for name in ("for_s", "clear_s", "pause_s"):
            if not 0 <= getattr(self, name) <= 30 * 86_400:
                raise ValueError(f"{name} must be 0 to 2592000, got {getattr(self, name):g}")
        if self.flaps != 0 and not 3 <= self.flaps <= 1000:
            raise ValueError(f"flaps must be 0 or 3 to 1000, got {self.flaps}")
        for name in ("within_s", "calm_s"):
            if not 1 <= getattr(self, name) <= 86_400:
                raise ValueError(f"{name} must be 1 to 86400, got {getattr(self, name):g}")


AT_ONCE = Terms()
WATCH = "watch-"
"""Ids of alarms that services/watch raises begin so, whatever device they are about."""


class _Life:
    """One key: what is seen, since when, and what was said about it."""

    __slots__ = ("alarm", "cleared_at", "eased_at", "flips", "holds", "since", "told")

    def __init__(self) -> None:
        self.holds = False
        self.since = 0.0
        """When ``holds`` last changed [monotonic s]."""
        self.alarm: Alarm | None = None
        """As it was said last, while it is raised."""
        self.told: Condition | None = None
        self.cleared_at: float | None = None
        self.eased_at: float | None = None
        """Since when it is less severe than it was said to be [monotonic s]."""
        self.flips: list[float] = []
        """When the alarm was raised or cleared, or would have been [monotonic s]."""


class Alarms:
    """The alarms of one service.

    Args:
        prefix: begins every id, so that a later run knows its own.
    """

    def __init__(self, prefix: str) -> None:
        """None is raised."""
        self._prefix = prefix
        self._lives: dict[Key, _Life] = {}

    def hold(
        self,
        key: Key,
        condition: Condition | None,
        at: float,
        now: datetime,
        terms: Terms = AT_ONCE,
        *,
        over: str = "",
        cause: str | None = None,
    ) -> Alarm | None:
        """What is to be published now, if anything.

        Args:
            key: device and code.
            condition: what is wrong; None = nothing.
            at: monotonic time [s].
            now: the wall's.
            terms: for how long, and so on.
            over: the text of a clearing.
            cause: ``device/code`` of what this follows from.

        Returns:
            The alarm, when it was raised, cleared, or became another one: in its severity, its
            title, its cause, or by flapping.
        """
        life = self._lives.get(key)
        if life is None:
            if condition is None:
                return None
            life = self._lives[key] = _Life()
            life.since = at
        holds = condition is not None
        if holds != life.holds:
            life.holds, life.since = holds, at
        lasted = at - life.since
        life.flips = [flip for flip in life.flips if at - flip <= max(terms.within_s, terms.calm_s)]
        alarm = life.alarm
        if alarm is None:
            if condition is None:
                if not life.flips and life.cleared_at is None or _is_past(life, at, terms):
                    del self._lives[key]
                return None
            is_early = life.cleared_at is not None and at - life.cleared_at < terms.pause_s
            if lasted < terms.for_s or is_early:
                return None
            return self._raise(key, life, condition, at, now, terms, cause)
        if alarm.flapping:
            return self._flap(life, alarm, condition, at, now, terms, over, cause)
        if condition is None:
            if lasted < terms.clear_s:
                return None
            life.flips.append(at)
            return self._clear(life, alarm, at, now, over)
        return self._renew(life, alarm, condition, at, now, terms, cause)

    def _raise(
        self,
        key: Key,
        life: _Life,
        condition: Condition,
        at: float,
        now: datetime,
        terms: Terms,
        cause: str | None,
    ) -> Alarm:
        life.flips.append(at)
        count = sum(at - flip <= terms.within_s for flip in life.flips)
        is_flapping = 0 < terms.flaps <= count
        ts = clock.iso(now)
        alarm = Alarm(
            id=f"{self._prefix}{key[0]}-{key[1]}"[: ID_LENGTH - 12] + f"-{clock.epoch_ms(now):x}",
            state="raised",
            severity=condition.severity,
            title=condition.title[:TITLE_LENGTH],
            text=condition.text[:TEXT_LENGTH],
            ts=ts,
            value=condition.value,
            since=ts,
            cause=cause,
            flapping=is_flapping,
            advice=condition.advice,
            data=dict(condition.data),
        )
        if is_flapping:
            alarm = _flapping(alarm, count, terms)
        life.told, life.alarm = condition, alarm
        return alarm

    def _flap(
        self,
        life: _Life,
        alarm: Alarm,
        condition: Condition | None,
        at: float,
        now: datetime,
        terms: Terms,
        over: str,
        cause: str | None,
    ) -> Alarm | None:
        """It came and went: only calm ends that."""
        if at - life.since < terms.calm_s:
            if condition is not None and _rank(condition) > _rank(alarm):
                return self._renew(life, alarm, condition, at, now, terms, cause)
            return None
        life.flips.clear()
        if condition is None:
            return self._clear(life, alarm, at, now, over)
        life.told = None  # it stays now: said anew
        calm = msgspec.structs.replace(alarm, flapping=False)
        return self._renew(life, calm, condition, at, now, terms, cause)

    def _renew(
        self,
        life: _Life,
        alarm: Alarm,
        condition: Condition,
        at: float,
        now: datetime,
        terms: Terms,
        cause: str | None,
    ) -> Alarm | None:
        """The same alarm, if something about it is news."""
        told = life.told
        if _rank(condition) >= _rank(alarm):
            life.eased_at = None
        elif told is not None:
            life.eased_at = at if life.eased_at is None else life.eased_at
            if at - life.eased_at < terms.calm_s:
                condition = told  # it may soon be as bad again
        same = (
            told is not None
            and (told.severity, told.title) == (condition.severity, condition.title)
            and alarm.cause == cause
        )
        if same:
            return None
        title, text = condition.title, condition.text
        if alarm.flapping:
            title, text = alarm.title, alarm.text
        life.told = condition
        life.alarm = msgspec.structs.replace(
            alarm,
            severity=condition.severity,
            title=title[:TITLE_LENGTH],
            text=text[:TEXT_LENGTH],
            ts=clock.iso(now),
            value=condition.value,
            cause=cause,
            advice=condition.advice,
            data=dict(condition.data),
        )
        return life.alarm

    def _clear(self, life: _Life, alarm: Alarm, at: float, now: datetime, over: str) -> Alarm:
        life.alarm, life.told, life.cleared_at, life.eased_at = None, None, at, None
        return cleared(alarm, over or "It is over.", now)

    def due(self, key: Key, terms: Terms = AT_ONCE) -> float | None:
        """When :meth:`hold` has news of a key if nothing changes [monotonic s]; None = never."""
        life = self._lives.get(key)
        if life is None or life.holds == (life.alarm is not None):
            return None
        if life.alarm is None:
            early = 0.0 if life.cleared_at is None else life.cleared_at + terms.pause_s
            return max(life.since + terms.for_s, early)
        return life.since + (terms.calm_s if life.alarm.flapping else terms.clear_s)

    # -- what is known ----------------------------------------------------------------------------

    @property
    def raised(self) -> dict[Key, Alarm]:
        """Every alarm that is raised, as it was said last."""
        return {key: life.alarm for key, life in self._lives.items() if life.alarm is not None}

    @property
    def known(self) -> list[Key]:
        """Every key that is raised, or may soon be, or was lately."""
        return list(self._lives)

    def get(self, key: Key) -> Alarm | None:
        """The alarm of that key, while it is raised."""
        life = self._lives.get(key)
        return None if life is None else life.alarm

    def is_own(self, alarm: Alarm) -> bool:
        """Whether an alarm is of this service, by its id."""
        return alarm.id.startswith(self._prefix)

    def adopt(self, key: Key, alarm: Alarm) -> bool:
        """Take over what an earlier run raised; False when there is one of this run.

        It is cleared, or goes on, like any other.
        """
        life = self._lives.setdefault(key, _Life())
        if life.alarm is not None or alarm.state != "raised":
            return False
        life.alarm = alarm
        life.told = Condition(
            alarm.severity, alarm.title, alarm.text, alarm.value, alarm.advice, alarm.data
        )
        life.holds = True
        return True

    def drop(self, key: Key, now: datetime, text: str) -> Alarm | None:
        """End an alarm that nobody looks after any more."""
        life = self._lives.pop(key, None)
        if life is None or life.alarm is None:
            return None
        return cleared(life.alarm, text, now)

    # -- over a restart ---------------------------------------------------------------------------

    def state(self, at: float) -> list[dict[str, Any]]:
        """What the next run needs; plain JSON. Times become ages."""
        return [
            {
                "device": device,
                "code": code,
                "holds": life.holds,
                "since": at - life.since,
                "cleared": None if life.cleared_at is None else at - life.cleared_at,
                "flips": [at - flip for flip in life.flips],
                "alarm": None if life.alarm is None else msgspec.to_builtins(life.alarm),
            }
            for (device, code), life in self._lives.items()
        ]

    def restore(self, state: object, at: float) -> None:
        """Go on where :meth:`state` was taken; the time between does not count.

        Raises:
            MessageError: it is no such state; then nothing is taken from it.
        """
        try:
            lives = {
                (str(each["device"]), str(each["code"])): _restored(each, at)
                for each in state  # type: ignore[attr-defined]
            }
        except (TypeError, KeyError, ValueError) as err:
            raise MessageError(f"no alarms: {type(err).__name__}: {err}") from err
        self._lives = lives


def _restored(each: Mapping[str, Any], at: float) -> _Life:
    life = _Life()
    life.holds = bool(each["holds"])
    life.since = at - float(each["since"])
    life.cleared_at = None if each["cleared"] is None else at - float(each["cleared"])
    life.flips = [at - float(age_s) for age_s in each["flips"]]
    if each["alarm"] is not None:
        alarm = life.alarm = decode(Alarm, msgspec.json.encode(each["alarm"]))
        life.told = Condition(
            alarm.severity, alarm.title, alarm.text, alarm.value, alarm.advice, alarm.data
        )
        encode(alarm)
    return life


def cleared(alarm: Alarm, text: str, now: datetime) -> Alarm:
    """The message that ends ``alarm``."""
    return Alarm(
        id=alarm.id,
        state="cleared",
        severity=alarm.severity,
        title=alarm.title,
        text=text[:TEXT_LENGTH],
        ts=clock.iso(now),
        since=alarm.since or alarm.ts,
        cause=alarm.cause,
        flapping=alarm.flapping,
        data=alarm.data,
    )


def _flapping(alarm: Alarm, count: int, terms: Terms) -> Alarm:
    minutes = round(terms.within_s / 60) or 1
    return msgspec.structs.replace(
        alarm,
        title=f"{alarm.title[: TITLE_LENGTH - 20]} (comes and goes)",
        text=f"{alarm.text} It came or went {count} times in {minutes} min; you hear of it again "
        f"when nothing has changed for {round(terms.calm_s / 60) or 1} min.",
        data={**alarm.data, "changes": count, "minutes": minutes},
    )


def _is_past(life: _Life, at: float, terms: Terms) -> bool:
    """Whether nothing of an alarm that was cleared matters any more."""
    if life.flips:
        return False
    return life.cleared_at is None or at - life.cleared_at >= terms.pause_s


def _rank(what: Condition | Alarm | None) -> int:
    return -1 if what is None else SEVERITIES.index(what.severity)


# --- Causes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Topology:
    """Who depends on whom.

    Attributes:
        through: device → the device that it is read through (``info.through``).
        service: device → the service that reads it.
        grid_fed: devices that live on the grid: without it they are silent.
        grid_seen: devices at whose input the grid is seen, such as the inverter.
        relay: devices that cut those off the grid.
    """

    through: Mapping[str, str] = field(default_factory=dict)
    service: Mapping[str, str] = field(default_factory=dict)
    grid_fed: Collection[str] = ()
    grid_seen: Collection[str] = ()
    relay: Collection[str] = ()


BROKER: Key = ("broker", "broker_lost")
SERVICE_LOST = "service_lost"
GRID_LOST = "grid_lost"
ABSENCES = frozenset(
    {
        *("device_lost", "sample_old", "sample_stale", "device_asleep", "panel_missing"),
        *("pv_dark", "sum_differs", "line_noisy"),
    }
)
"""Codes that a device has because nobody can read it, or that only look so then."""

LOST = ("device_lost", "sample_old")
FOLLOWS = {
    "device_lost": ("identity_wrong",),
    "cell_high": ("cell_spread",),
    "cell_low": ("cell_spread",),
    "battery_warning": ("battery_fault", "cell_spread", "cell_high", "cell_low"),
    "panel_day_low": ("panel_weak", "device_lost", "panel_missing"),
    "panel_missing": ("device_lost",),
    "sample_stale": ("device_lost", "sample_old"),
    "command_failed": ("device_lost", "identity_wrong", "line_noisy"),
    "relay_without_effect": ("feedback_mismatch", "output_unavailable"),
}
"""Code → codes of the same device that say it better."""

BLIND = "blind-"
"""Codes of the controller: its rules cannot see the device of that name."""

MAY_FOLLOW = ABSENCES | FOLLOWS.keys() | {SERVICE_LOST, GRID_LOST}
MAY_FOLLOW |= {"grid_absent", "grid_unknown", "grid-missing"}


def may_follow(code: str) -> bool:
    """Whether :func:`causes` may find one for such alarms, which can take a moment to be seen."""
    return code in MAY_FOLLOW or code.startswith(BLIND)


def causes(keys: Collection[Key], topology: Topology) -> dict[Key, Key]:
    """Which of the open alarms follow from which: the nearest, each from one at most. Pure.

    What follows from something is shown with it, and not pushed. Nothing follows from itself in a
    circle.
    """
    open_ = set(keys)
    found: dict[Key, Key] = {}
    for key in keys:
        cause = next((c for c in _candidates(key, topology) if c in open_ and c != key), None)
        if cause is not None and not _leads_to(found, cause, key):
            found[key] = cause
    return found


def root(found: Mapping[Key, Key], key: Key) -> Key:
    """What everything began with."""
    while key in found:
        key = found[key]
    return key


def pushed_alone(alarm: Alarm, cause: Alarm) -> bool:
    """Whether an alarm is worse than what it follows from: then it is no mere consequence."""
    return _rank(alarm) > _rank(cause)


def _leads_to(found: Mapping[Key, Key], key: Key, end: Key) -> bool:
    while key in found:
        key = found[key]
        if key == end:
            return True
    return key == end


def _candidates(key: Key, topology: Topology) -> Iterator[Key]:
    """What a key could follow from, the nearest first."""
    device, code = key
    for other in FOLLOWS.get(code, ()):
        yield device, other
    if code.startswith(BLIND):
        unseen = code.removeprefix(BLIND)
        for other in (*LOST, "identity_wrong", "battery_asleep", "sample_stale"):
            yield unseen, other
        yield from _candidates((unseen, "device_lost"), topology)
    if code == "grid_unknown":  # it is measured by who cannot be read
        for seen in topology.grid_seen:
            for other in (*LOST, "identity_wrong"):
                yield seen, other
    if code == "grid-missing":
        for relay in topology.relay:
            yield relay, "relay_without_effect"
            yield relay, "grid_absent"
    if code in (GRID_LOST, "grid_absent"):
        for relay in topology.relay:
            yield relay, "relay_without_effect"
    if code == "grid_absent":  # an outage, told by who sees it first
        for seen in topology.grid_seen:
            yield seen, GRID_LOST
    if code in ABSENCES or code == SERVICE_LOST:
        front = topology.through.get(device)
        if front is not None:
            for other in LOST:
                yield front, other
        service = topology.service.get(device)
        if service is not None and code != SERVICE_LOST:
            yield service, SERVICE_LOST
        if device in topology.grid_fed or front in topology.grid_fed:
            for seen in topology.grid_seen:
                yield seen, GRID_LOST
        yield BROKER
