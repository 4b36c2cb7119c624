"""``controller replay``: what the rules would have done with the owner's own past.

The rules run over recorded minutes as if they had been on. What they set counts as set, and where
they open the relay the inverter sees no grid; everything else is as it was recorded, for nobody
knows what the battery would have done.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sunmesh import clock
from sunmesh.messages import Result, Value

from . import engine
from .history import History
from .past import MINUTE_MS, Change
from .rules import CONNECTED, OPEN, Plan
from .state import Seen, State, View

GRID_V = 230.0
"""What the inverter would have seen of a grid that was cut off in truth [V]."""
CHARGE = "battery_soc_percent"

Chunk = tuple[int, int, Mapping[tuple[str, str], Mapping[int, Value]]]
"""First and last minute of a stretch, and what is known of it."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Something that a rule would have done."""

    ms: int
    rule: str
    did: str
    saw: Mapping[str, Value]


@dataclass(slots=True)
class Report:
    """What came out.

    Attributes:
        first_ms, last_ms: the stretch [ms].
        minutes: how many minutes were looked at,
        silent: and in how many of these nothing at all was known.
        switches: everything that was done, by time.
        writes: of each setting, by local day.
        lowest: state of charge, and when it was that low.
        blind: minutes in which a rule could not see, by rule.
        capped: minutes in which a limit held a rule back, by rule.
        open_minutes: how long the grid was cut off,
        open_spans: and from when to when [ms].
        active_spans: when a rule lasted, by rule [ms].
        unknown: settings that nothing is known of.
    """

    first_ms: int = 0
    last_ms: int = 0
    minutes: int = 0
    silent: int = 0
    switches: list[Switch] = field(default_factory=list)
    writes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    lowest: tuple[float, int] | None = None
    blind: Counter[str] = field(default_factory=Counter)
    capped: Counter[str] = field(default_factory=Counter)
    open_minutes: int = 0
    open_spans: list[list[int]] = field(default_factory=list)
    active_spans: dict[str, list[list[int]]] = field(default_factory=lambda: defaultdict(list))
    unknown: list[str] = field(default_factory=list)


class Replay:
    """Runs a plan over recorded minutes.

    Args:
        plan: rules and configuration.
        only: these rules; all without.
        settings: ``device.name`` → value, from the beginning on; wins over what is recorded.
    """

    def __init__(
        self, plan: Plan, only: Sequence[str] = (), settings: Mapping[str, Value] | None = None
    ) -> None:
        self._plan = plan
        self._state = State(mode="on")
        for rule in plan.rules:
            self._state.modes[rule.name] = "on" if not only or rule.name in only else "off"
        self._only = set(only)
        self._history = History(plan.sources, keep=plan.longest + 2)
        self._settings: dict[str, dict[str, Value]] = {}
        for key, value in (settings or {}).items():
            device, _, name = key.partition(".")
            self._settings.setdefault(device, {})[name] = value
        self._fixed = {tuple(key.split(".", 1)) for key in settings or {}}
        self._is_open = False
        self._changes: list[Change] = []
        self.report = Report()

    def run(
        self,
        chunks: Iterator[Chunk],
        changes: Sequence[Change],
        progress: Callable[[int], None] = lambda done: None,
    ) -> Report:
        """Look at all of it.

        Args:
            chunks: stretches of minutes, one after the other.
            changes: of settings, by time.
            progress: told the minutes that are done, now and then.
        """
        self._changes = list(changes)[::-1]
        for first, last, known in chunks:
            for minute in range(first, last):
                self._minute(minute, known)
                if self.report.minutes % 500 == 0:
                    progress(self.report.minutes)
        wanted = {(s.device, s.name) for s in self._plan.sources if s.kind == "setting"}
        self.report.unknown = sorted(
            f"{device}.{name}"
            for device, name in wanted
            if name not in self._settings.get(device, {})
        )
        return self.report

    def _minute(self, minute: int, known: Mapping[tuple[str, str], Mapping[int, Value]]) -> None:
        report, plan = self.report, self._plan
        start = minute * MINUTE_MS
        end = start + MINUTE_MS
        while self._changes and self._changes[-1].ms < end:
            change = self._changes.pop()
            if (change.device, change.name) not in self._fixed:
                self._settings.setdefault(change.device, {})[change.name] = change.value
        values: dict[str, dict[str, Value]] = {}
        for (device, name), minutes in known.items():
            value = minutes.get(minute)
            if value is not None:
                values.setdefault(device, {})[name] = value
        report.first_ms = report.first_ms or start
        report.last_ms = end
        report.minutes += 1
        report.silent += not values
        report.open_minutes += self._is_open
        if self._is_open:
            _extend(report.open_spans, start, end)
        self._see_grid(values.get(plan.config.inverter, {}))
        charge = values.get(plan.config.battery, {}).get(CHARGE)
        if isinstance(charge, int | float) and (report.lowest is None or charge < report.lowest[0]):
            report.lowest = (charge, end)
        for device, settings in self._settings.items():
            self._history.add_settings(device, end - 1, settings)
        for device, row in values.items():
            for name, value in row.items():
                self._history.put(device, name, minute, value)
        self._history.trim(end + 1)
        self._turn(end, values)

    def _see_grid(self, inverter: dict[str, Value]) -> None:
        volts = inverter.get(engine.GRID)
        if not isinstance(volts, int | float) or not self._plan.has_relay:
            return
        inverter[engine.GRID] = 0.0 if self._is_open else (volts or GRID_V)

    def _turn(self, end: int, values: Mapping[str, Mapping[str, Value]]) -> None:
        plan, report = self._plan, self.report
        now_ms = end + 1
        devices = {
            device: Seen(
                "online",
                ages_s=dict.fromkeys(values.get(device, {}), 0.0),
                values=values.get(device, {}),
                sample_ms=end,
                settings=self._settings.get(device, {}),
                settings_ms=end if device in self._settings else 0,
                settings_age_s=0.0,
            )
            for device in {*values, *self._settings}
        }
        if plan.has_relay:
            position = OPEN if self._is_open else CONNECTED
            row: dict[str, Value] = {"relay_position": position}
            devices[plan.config.relay] = Seen(
                "online", ages_s={"relay_position": 0.0}, values=row, sample_ms=end
            )
        view = View(clock.from_ms(now_ms), self._history, devices, plan.zone, f"{end:x}")
        outcome = engine.decide(plan, self._state, view)
        self._state = outcome.state
        for batch in outcome.batches:
            day = clock.from_ms(now_ms).astimezone(plan.zone).date().isoformat()
            ts = clock.iso(clock.from_ms(now_ms))
            for name, value in batch.values.items():
                self._settings.setdefault(batch.device, {})[name] = value
                report.writes[f"{batch.device}.{name}"][day] += 1
                for stage in ("sent", "applied"):
                    self._hear(batch.device, f"{batch.id}/{name}", name, stage, ts, now_ms)
            self._hear(batch.device, batch.id, "settings", "applied", ts, now_ms)
        if outcome.relay is not None and not outcome.relay.renews:
            self._is_open = outcome.relay.position == OPEN
        for rule, kept in self._state.rules.items():
            if kept.is_active:
                _extend(report.active_spans[rule], end - MINUTE_MS, end)
        for decision in outcome.decisions:
            if self._only and decision.rule not in self._only:
                continue
            if decision.changed:
                saw = {k: v for k, v in decision.saw.items() if v is not None}
                report.switches.append(Switch(end, decision.rule, decision.did, saw))
            report.blind[decision.rule] += decision.kind == "blind"
            report.capped[decision.rule] += decision.kind == "capped"

    def _hear(
        self, device: str, identity: str, name: str, stage: str, ts: str, now_ms: int
    ) -> None:
        result = Result(identity, name, None, stage, ts, "controller")  # type: ignore[arg-type]
        self._state = engine.hear(self._plan, self._state, device, result, now_ms)


def _extend(spans: list[list[int]], start: int, end: int) -> None:
    """Add a minute to what is open, or begin another span."""
    if spans and spans[-1][1] == start:
        spans[-1][1] = end
    else:
        spans.append([start, end])


def lines(report: Report, plan: Plan) -> list[str]:
    """The report for people."""

    def at(ms: int) -> str:
        return f"{clock.from_ms(ms).astimezone(plan.zone):%Y-%m-%d %H:%M}"

    found = []
    for switch in report.switches:
        told = ", ".join(
            f"{key.partition('.')[2]} {value:g}"
            for key, value in switch.saw.items()
            if "." in key and isinstance(value, int | float) and not isinstance(value, bool)
        )
        found.append(f"{at(switch.ms)}  {switch.rule:<10} {switch.did}  ({told})")
    days = max((report.last_ms - report.first_ms) / 86_400_000, 1 / 1440)
    found += ["", f"{at(report.first_ms)} to {at(report.last_ms)}, {days:.1f} days"]
    if report.silent:
        found.append(f"nothing is known of {report.silent} of {report.minutes} minutes")
    by_rule = Counter(switch.rule for switch in report.switches)
    for rule in plan.rules:
        count = by_rule[rule.name]
        parts = [f"{_count(count, 'switch', 'es')}, {count / days:.1f} a day"]
        if report.blind[rule.name]:
            parts.append(f"blind for {_count(report.blind[rule.name], 'minute')}")
        if report.capped[rule.name]:
            parts.append(f"at its limit for {_count(report.capped[rule.name], 'minute')}")
        if count or len(parts) > 1:
            found.append(f"{rule.name:<10} {'; '.join(parts)}")
    for key, days_of in sorted(report.writes.items()):
        most = max(days_of.values())
        found.append(f"{key}: {_count(sum(days_of.values()), 'write')}, {most} on one day at most")
    if plan.has_relay:
        found.append(f"the grid was cut off for {report.open_minutes / 60:.1f} h")
    if report.lowest is not None:
        found.append(f"lowest charge {report.lowest[0]:g} %, {at(report.lowest[1])}")
    for key in report.unknown:
        found.append(f"{key} is not recorded; say what it was with --set {key}=...")
    return found


def _count(number: int, word: str, more: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else more}"


def document(report: Report) -> dict[str, object]:
    """The report for programs."""

    def iso(ms: int) -> str:
        return clock.iso(clock.from_ms(ms))

    return {
        "from": iso(report.first_ms),
        "to": iso(report.last_ms),
        "minutes": report.minutes,
        "silent_minutes": report.silent,
        "switches": [
            {"ts": iso(s.ms), "rule": s.rule, "did": s.did, "saw": dict(s.saw)}
            for s in report.switches
        ],
        "counts": dict(Counter(switch.rule for switch in report.switches)),
        "writes": {key: dict(days) for key, days in report.writes.items()},
        "lowest_charge_percent": report.lowest[0] if report.lowest else None,
        "lowest_charge_at": iso(report.lowest[1]) if report.lowest else None,
        "grid_open_minutes": report.open_minutes,
        "blind_minutes": {rule: count for rule, count in report.blind.items() if count},
        "capped_minutes": {rule: count for rule, count in report.capped.items() if count},
        "unknown_settings": report.unknown,
    }


def compact(report: Report) -> dict[str, object]:
    """The report for a chart: times in ms."""
    return {
        "from": report.first_ms,
        "to": report.last_ms,
        "minutes": report.minutes,
        "silent": report.silent,
        "switches": [
            {"ts": s.ms, "rule": s.rule, "did": s.did, "saw": dict(s.saw)} for s in report.switches
        ],
        "counts": dict(Counter(switch.rule for switch in report.switches)),
        "writes": sum(sum(days.values()) for days in report.writes.values()),
        "lowest": list(report.lowest) if report.lowest else None,
        "open": report.open_spans,
        "open_minutes": report.open_minutes,
        "active": {rule: spans for rule, spans in report.active_spans.items() if spans},
        "blind": {rule: count for rule, count in report.blind.items() if count},
        "capped": {rule: count for rule, count in report.capped.items() if count},
        "unknown": report.unknown,
    }


def stretches(start: datetime, end: datetime) -> Iterator[tuple[int, int]]:
    """[start, end) in pieces of a day [ms]."""
    at = start
    while at < end:
        until = min(at + timedelta(days=1), end)
        yield clock.epoch_ms(at), clock.epoch_ms(until)
        at = until
