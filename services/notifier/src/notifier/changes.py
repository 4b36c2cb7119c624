"""What a message on an alarm's topic means for who was told before, and who hears of it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from sunmesh import clock
from sunmesh.alarms import may_follow
from sunmesh.messages import Alarm

from .config import SEVERITIES, Hours, RouteConfig, TargetConfig
from .outbox import Known

ID_LENGTH, TITLE_LENGTH, TEXT_LENGTH, DATA_LENGTH, CODE_LENGTH = 128, 200, 2000, 4000, 64
"""What is kept of a message; the rest of 64 KiB helps nobody."""

TEST = ("notifier", "test")
"""The alarm that is none: it goes to every target, at every hour."""

Kind = Literal["raised", "worse", "cleared", "better", "follows", "alone", "same", "again"]
"""What happened: ``follows`` = its cause was found; ``alone`` = it has lost its cause; ``same`` =
nothing that is told; ``again`` = this very change was heard before."""


def judge(known: Known | None, alarm: Alarm, *, is_told: Callable[[], bool]) -> Kind:
    """What the message changes.

    Args:
        known: how the alarm stood.
        alarm: what is said now.
        is_told: whether this very change (id, state, time) is in the history.
    """
    if known is None:
        return "raised" if alarm.state == "raised" else "same"
    is_same = (alarm.id, alarm.state, known.state) == (known.id, "raised", "raised")
    if is_same and alarm.cause and not known.cause:
        return "follows"
    if is_told():
        return "again"
    if alarm.state == "cleared":
        return "cleared" if known.state == "raised" else "same"
    if known.state == "cleared":
        is_late = alarm.id == known.id and _ms(alarm.ts) <= known.ts_ms
        return "again" if is_late else "raised"
    rise = SEVERITIES.index(alarm.severity) - SEVERITIES.index(known.severity)
    if known.cause and not alarm.cause:
        return "alone"
    if rise > 0:
        return "worse"
    return "better" if rise < 0 else "same"


def stand(known: Known | None, device: str, code: str, alarm: Alarm, kind: Kind) -> Known:
    """How the alarm stands after the message; a new life of it has no episode yet (0).

    A successor with another id (its detector was restarted) takes over since when it lasts, and
    that it was acknowledged.
    """
    ts_ms = _ms(alarm.ts)
    fresh = known is None or (kind == "raised" and known.state == "cleared")
    since_ms = _ms(alarm.since) if alarm.since else ts_ms
    if known is not None and not fresh:
        since_ms = min(since_ms, known.since_ms) if known.state == "raised" else known.since_ms
    data = msgspec.json.encode(alarm.data).decode()
    value = msgspec.json.encode(alarm.value).decode()
    base = known if known is not None and not fresh else None
    is_over = alarm.state == "cleared"
    return Known(
        device=device,
        code=code,
        id=alarm.id[:ID_LENGTH],
        episode=base.episode if base else 0,
        state=alarm.state,
        severity=base.severity if base and is_over else alarm.severity,
        title=alarm.title[:TITLE_LENGTH],
        text=alarm.text[:TEXT_LENGTH],
        advice=(alarm.advice or (base.advice if base else ""))[:TEXT_LENGTH],
        value=base.value if base and is_over and alarm.value is None else _short(value, "null"),
        data=base.data if base and is_over and not alarm.data else _short(data, "{}"),
        cause=(base.cause if base and is_over else alarm.cause or "")[:ID_LENGTH],
        flapping=int(alarm.flapping),
        since_ms=since_ms,
        ts_ms=ts_ms,
        acked_by=base.acked_by if base else "",
        acked_ms=base.acked_ms if base else None,
        pushed=base.pushed if base else 0,
    )


def waits_for_cause(known: Known, kind: str) -> bool:
    """Whether a push may wait a few seconds, for the alarm's cause may just be found out.

    What is critical does not wait, nor what was told before and is worse now.
    """
    return kind == "raised" and known.severity != "critical" and may_follow(known.code)


@dataclass(frozen=True, slots=True)
class Way:
    """One target of an alarm, and the route that leads there."""

    target: str
    route: RouteConfig


def ways(
    known: Known,
    routes: Sequence[RouteConfig],
    targets: Mapping[str, TargetConfig],
    local: datetime,
    *,
    without: frozenset[str] = frozenset(),
) -> list[Way]:
    """Who hears of it: each target once, by the first route that leads there."""
    if (known.device, known.code) == TEST:
        quiet = RouteConfig(remind_every_s=0.0)
        return [Way(name, quiet) for name in targets]
    found: dict[str, Way] = {}
    for route in routes:
        if route.fits(known.device, known.code, known.severity, local):
            for name in route.to or tuple(targets):
                if name not in without:
                    found.setdefault(name, Way(name, route))
    return list(found.values())


def not_before(
    known_severity: str, target: TargetConfig, now_ms: int, zone: ZoneInfo, *, is_test: bool = False
) -> int:
    """When the target may be disturbed [ms]: now, or when its night ends. Critical breaks it."""
    if known_severity == "critical" or not target.quiet or is_test:
        return now_ms
    hours = Hours(target.quiet)
    local = clock.from_ms(now_ms).astimezone(zone)
    if not hours.holds(local):
        return now_ms
    end = local.replace(
        hour=hours.end // 60, minute=hours.end % 60, second=0, microsecond=0, fold=0
    )
    if end <= local:
        end = (local.replace(tzinfo=None) + timedelta(days=1)).replace(
            hour=hours.end // 60, minute=hours.end % 60, second=0, microsecond=0, tzinfo=zone
        )
    return max(clock.epoch_ms(end), now_ms)


def successor(known: Known, episode: int) -> Known:
    """``known`` in that life."""
    return replace(known, episode=episode)


def next_weekly(after_ms: int, weekday: int, minute: int, zone: ZoneInfo) -> int:
    """The next moment of that weekday and local time later than ``after_ms`` [ms]."""
    local = clock.from_ms(after_ms).astimezone(zone).replace(tzinfo=None)
    day = local + timedelta(days=(weekday - local.weekday()) % 7)
    due = day.replace(hour=minute // 60, minute=minute % 60, second=0, microsecond=0)
    moment = clock.epoch_ms(due.replace(tzinfo=zone))
    if moment <= after_ms:
        moment = clock.epoch_ms((due + timedelta(days=7)).replace(tzinfo=zone))
    return moment


class Bucket:
    """So many at once, and one more now and then.

    Args:
        size: at once.
        every_s: one more after so long.
    """

    def __init__(self, size: int, every_s: float) -> None:
        """Full."""
        self._size = size
        self._every_s = every_s
        self._left = float(size)
        self._at = 0.0

    def left(self, now_s: float) -> int:
        """How many may go now; ``now_s`` of a clock that never goes back."""
        if now_s > self._at:
            self._left = min(self._size, self._left + (now_s - self._at) / self._every_s)
            self._at = now_s
        return int(self._left + 1e-9)

    def take(self, now_s: float) -> None:
        """One goes."""
        self.left(now_s)
        self._left -= 1.0

    def wait_s(self, now_s: float) -> float:
        """Until one may go."""
        return 0.0 if self.left(now_s) >= 1 else (1.0 - self._left) * self._every_s


def _ms(text: str) -> int:
    return clock.epoch_ms(clock.parse(text))


def _short(text: str, otherwise: str) -> str:
    return text if len(text) <= DATA_LENGTH else otherwise
