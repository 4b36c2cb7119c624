"""Where the relay stands, and why. Pure: requests, readings and moments in, a decision out.

``grid_connected`` is the safe position. It needs no permission, waits for nobody and is never
refused. ``grid_open`` is lent for a while: by a lease that somebody renews, or by a manual override
that ends by itself. Whatever is not understood, lost, worn out or disproved is ``grid_connected``.

Moments are seconds of a clock that only runs forward; the caller reads it.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sunmesh.messages import RENEWED, Command, Severity

Position = Literal["grid_connected", "grid_open"]

CONNECTED: Position = "grid_connected"
OPEN: Position = "grid_open"

POSITION = "relay_position"
MANUAL = "manual"
AUTO = "auto"

DAY_S = 86_400.0
SAMPLE_AGE_S = 60.0
"""A reading of the grid that is older is none [s]."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the relay may do.

    Attributes:
        max_lease_s: the longest lease that is given; no manual override outlasts a lost broker by
            more, since nobody could take it back [s].
        max_manual_s: the longest manual override [s].
        min_connected_s: how long the relay stays connected before it may be opened again [s].
        max_switches_per_day: openings and closings in 24 hours; an opening needs room for its
            closing as well, and the way to the safe position is never refused.
        has_feedback: an auxiliary contact tells where the contactor really stands.
        feedback_s: how long the contact may disagree [s].
        window_voltage_v: a connection that is asked for waits until the grid is in this window.
        window_frequency_hz: the same for its frequency.
        window_s: for how long without a break; 0 = no such wait [s].
        window_wait_s: how long such a connection waits at most [s].
        has_supply: somebody measures the voltage that the relay brings.
        supply_v: from where on that is a voltage [V].
        supply_s: how long it may take to come [s].
    """

    max_lease_s: float = 600.0
    max_manual_s: float = 86_400.0
    min_connected_s: float = 300.0
    max_switches_per_day: int = 20
    has_feedback: bool = False
    feedback_s: float = 2.0
    window_voltage_v: tuple[float, float] = (207.0, 253.0)
    window_frequency_hz: tuple[float, float] = (49.0, 51.0)
    window_s: float = 0.0
    window_wait_s: float = 60.0
    has_supply: bool = False
    supply_v: float = 150.0
    supply_s: float = 180.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlives a restart.

    Attributes:
        position: where the relay stood.
        switched_s: how long ago it was switched, each time within the last day [s].
        switch_count: switchings since installation.
        fault: why the relay must not be opened, until somebody looked.
        is_lost: something was remembered and cannot be read: the day's switchings count as used
            up, the last as just now.
    """

    position: Position = CONNECTED
    switched_s: tuple[float, ...] = ()
    switch_count: int = 0
    fault: str = ""
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a request.

    Attributes:
        is_granted: it was; a refusal leaves the lease as it is, or ends it where it was unreadable.
        detail: in words; why not, where it was refused.
        switches: the relay changes its position for it.
        waits: it does so only when the grid is in its window.
    """

    is_granted: bool
    detail: str
    switches: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """What an alarm says for as long as it holds."""

    severity: Severity
    title: str
    text: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the relay has to stand now.

    Attributes:
        position: the position.
        reason: why, in one word: ``startup``, ``leased``, ``asked``, ``lease_expired``, ``manual``,
            ``manual_ended``, ``broker_lost``, ``unreadable_request``, ``fault``, ``no_output``,
            ``stopping``.
        alarms: what holds now, by code.
    """

    position: Position
    reason: str
    alarms: Mapping[str, Trouble] = field(default_factory=dict)


class Relay:
    """One relay from start to end; each call names the moment, and moments never run back.

    Args:
        limits: what it may do.
        now: the moment of the start. It starts ``grid_connected``, whatever was before.
        memory: what was remembered; without it the last switching counts as just now.
    """

    def __init__(self, limits: Limits, now: float, memory: Memory | None = None) -> None:
        memory = memory or Memory()
        self.limits = limits
        self.position: Position = CONNECTED
        self.reason = "startup"
        self.switch_count = memory.switch_count
        self.fault = memory.fault
        self._now = now
        self._switched: deque[float] = deque(
            now - max(age_s, 0.0) for age_s in sorted(memory.switched_s, reverse=True)
        )
        if memory.is_lost:
            self._switched.extend([now] * limits.max_switches_per_day)
        elif memory.position == OPEN:
            self._switched.append(now)
            self.switch_count += 1
        self._since = self._switched[-1] if self._switched else now
        self._lease_until: float | None = None
        self._manual: tuple[Position, float] | None = None
        self._waiting: tuple[float, str] | None = None
        self._broker_lost_at: float | None = None
        self._is_stopping = False
        self._no_output = ""
        self._lapsed = ""
        self._unreadable = ""
        self._memory_is_lost = memory.is_lost
        self._feedback: bool | None = None
        self._differs_since: float | None = None
        self._window_since: float | None = None
        self._window_at: float | None = None
        self._supply_at: float | None = None
        self._supply_good_at = now
        self._supply: float | None = None
        self._connected_at = now

    # -- requests ----------------------------------------------------------------------------------

    def request(self, now: float, command: Command) -> Verdict:
        """``relay_position`` as ``grid_open`` with a lease, or ``grid_connected``.

        Anything else is unreadable, and therefore ``grid_connected``.
        """
        now = self._settle(now)
        if command.name == MANUAL:
            return self.manual(now, command)
        if command.name != POSITION:
            return self.unreadable(now, f"no request is called {command.name!r:.40}")
        if command.value == CONNECTED:
            self._understood()
            return self._connect(now, "asked")
        if command.value != OPEN:
            return self.unreadable(
                now, f"{command.value!r:.40} is no position; {OPEN} and {CONNECTED} are"
            )
        lease_s = _duration(command.lease_s, self.limits.max_lease_s)
        if lease_s is None:
            longest = self.limits.max_lease_s
            return self.unreadable(now, f"{OPEN} needs lease_s of 1 to {longest:g}")
        refusal = self.refusal(now, has_override=bool(command.override))
        if refusal:
            return Verdict(False, refusal)
        self._understood()
        self._lease_until = now + lease_s
        self._waiting = None
        if self.position == OPEN:
            return Verdict(True, RENEWED)
        self._switch(now, OPEN, "leased")
        return Verdict(True, f"open for {lease_s:g} s", switches=True)

    def manual(self, now: float, command: Command) -> Verdict:
        """``manual`` as ``grid_open`` or ``grid_connected`` for ``lease_s``, or ``auto``.

        ``auto`` also forgets a fault: somebody has looked.
        """
        now = self._settle(now)
        if command.value == AUTO:
            self._understood()
            return self._end_manual(now)
        if command.value not in (OPEN, CONNECTED):
            return self.unreadable(
                now, f"{command.value!r:.40}: manual is {OPEN}, {CONNECTED} or {AUTO}"
            )
        lasts_s = _duration(command.lease_s, self.limits.max_manual_s)
        if lasts_s is None:
            longest = self.limits.max_manual_s
            return self.unreadable(now, f"a manual position needs lease_s of 1 to {longest:g}")
        if command.value == CONNECTED:
            self._understood()
            verdict = self._connect(now, MANUAL)
            if verdict.is_granted:
                self._manual = (CONNECTED, now + lasts_s)
            return verdict
        refusal = self.refusal(now, is_manual=True, has_override=bool(command.override))
        if refusal:
            return Verdict(False, refusal)
        self._understood()
        self._manual = (OPEN, now + lasts_s)
        self._waiting = None
        if self.position == OPEN:
            self.reason = MANUAL
            return Verdict(True, f"stays open for {lasts_s:g} s")
        self._switch(now, OPEN, MANUAL)
        return Verdict(True, f"open for {lasts_s:g} s", switches=True)

    def unreadable(self, now: float, why: str) -> Verdict:
        """A request that nobody understands: the safe position, at once."""
        now = self._settle(now)
        self._unreadable = why
        self._give_up(now, "unreadable_request")
        return Verdict(False, f"{why}; the grid is connected")

    def refusal(self, now: float, *, is_manual: bool = False, has_override: bool = False) -> str:
        """Why the grid may not be opened (or stay open) now; empty = it may.

        Args:
            now: the moment.
            is_manual: a person asks; a manual override of before is replaced.
            has_override: the number of switchings a day may be exceeded.
        """
        now = self._settle(now)
        if self._is_stopping:
            return "the relay service stops"
        if self._no_output:
            return f"no output: {self._no_output}"
        if self.fault:
            return f"{self.fault}; send manual auto after a look at the contactor"
        if self._broker_lost_at is not None:
            return "the broker is away"
        if not is_manual and self._manual is not None and self._manual[0] == CONNECTED:
            return f"connected by hand for {self._manual[1] - now:.0f} s more"
        if self.position == OPEN:
            return ""
        waits_s = self._since + self.limits.min_connected_s - now
        if waits_s > 0:
            return (
                f"connected for less than {self.limits.min_connected_s:g} s; {waits_s:.0f} s more"
            )
        if not has_override and self._is_spent(now):
            return f"{self._count()}; opening takes two"
        return ""

    # -- what else is heard ------------------------------------------------------------------------

    def broker_lost(self, now: float) -> None:
        """No request can arrive. Nothing is opened; what is open ends by itself.

        A lease does at its end, a manual override after ``max_lease_s``.
        """
        now = self._settle(now)
        if self._broker_lost_at is None:
            self._broker_lost_at = now

    def broker_back(self, now: float) -> None:
        """Requests can arrive again."""
        self._settle(now)
        self._broker_lost_at = None

    def output(self, now: float, problem: str) -> None:
        """The output cannot be driven, with the reason; an empty one: it can again."""
        now = self._settle(now)
        if problem and not self._no_output:
            self._no_output = problem
            self._give_up(now, "no_output")
        self._no_output = problem

    def feedback(self, now: float, closed: bool | None) -> None:
        """What the auxiliary contact says: whether the grid is connected; None = unreadable."""
        self._feedback = closed
        now = self._settle(now)
        self._prove(now)

    def meter(self, now: float, voltage_v: float | None, frequency_hz: float | None) -> None:
        """The grid before the relay; None = not readable."""
        now = self._settle(now)
        self._window_at = now
        is_good = _within(voltage_v, self.limits.window_voltage_v) and _within(
            frequency_hz, self.limits.window_frequency_hz
        )
        if not is_good:
            self._window_since = None
        elif self._window_since is None:
            self._window_since = now
        self._settle(now)

    def supply(self, now: float, voltage_v: float | None) -> None:
        """The voltage behind the relay, which it should bring; None = not readable."""
        now = self._settle(now)
        if voltage_v is None:
            return
        self._supply, self._supply_at = voltage_v, now
        if voltage_v >= self.limits.supply_v:
            self._supply_good_at = now

    def stop(self, now: float) -> Decision:
        """The end: connected, and no lease."""
        now = self._settle(now)
        self._is_stopping = True
        self._manual = None
        self._give_up(now, "stopping")
        self.reason = "stopping"
        return self.tick(now)

    # -- what is decided ---------------------------------------------------------------------------

    def tick(self, now: float) -> Decision:
        """Where the relay has to stand at ``now``. To be asked often: this is what ends a lease."""
        now = self._settle(now)
        return Decision(self.position, self.reason, self._alarms(now))

    def lease_remaining_s(self, now: float) -> float:
        """How long the grid may stay open without another word; 0 when it is not open [s]."""
        now = self._settle(now)
        if self.position != OPEN:
            return 0.0
        until = self._open_until()
        if self._broker_lost_at is not None:
            until = min(until, self._broker_lost_at + self.limits.max_lease_s)
        return max(until - now, 0.0)

    def manual_remaining_s(self, now: float) -> float | None:
        """How long the manual override lasts; None without one [s]."""
        now = self._settle(now)
        return None if self._manual is None else self._manual[1] - now

    @property
    def manual_position(self) -> Position | None:
        """The position that a person asked for, while that holds."""
        return None if self._manual is None else self._manual[0]

    @property
    def waits_for_grid(self) -> bool:
        """A connection was asked for, and waits for the grid to be in its window."""
        return self._waiting is not None

    @property
    def proven(self) -> Position | None:
        """The position that the feedback contact proves; None = unknown or not wired."""
        if self._feedback is None:
            return None
        return CONNECTED if self._feedback else OPEN

    def memory(self, now: float) -> Memory:
        """What a restart must know."""
        now = self._settle(now)
        ages = tuple(now - moment for moment in self._switched)
        return Memory(self.position, ages, self.switch_count, self.fault)

    # -- inside ------------------------------------------------------------------------------------

    def _settle(self, now: float) -> float:
        """Let happen what time alone brings; returns ``now``, or what was before if that is later.

        Called first by everything, so that nobody finds a lease that has ended.
        """
        now = self._now = max(now, self._now)
        while self._switched and now - self._switched[0] >= DAY_S:
            self._switched.popleft()
            self._memory_is_lost = False
        manual_ended = self._manual is not None and now >= self._manual[1]
        if manual_ended:
            self._manual = None
        if self._lease_until is not None and now >= self._lease_until:
            self._lease_until = None
        if self.position == CONNECTED:
            if manual_ended:
                self.reason = "manual_ended"
            return now
        self._prove(now)
        lost_at = self._broker_lost_at
        if lost_at is not None and now - lost_at >= self.limits.max_lease_s:
            self._lapse(now, "broker_lost", "the broker was away for too long")
        elif self._waiting is not None:
            until, reason = self._waiting
            if now >= until or self._may_connect:
                self._give_up(now, reason)
        elif self._lease_until is None and self.manual_position != OPEN:
            if manual_ended:
                self._give_up(now, "manual_ended")
            else:
                self._lapse(now, "lease_expired", "the lease was not renewed")
        elif manual_ended:
            self.reason = "leased"
        return now

    def _lapse(self, now: float, reason: str, why: str) -> None:
        """Connected because somebody fell silent, which its owner should know."""
        if self.position == OPEN:
            self._lapsed = why
            self._give_up(now, reason)

    def _switch(self, now: float, position: Position, reason: str) -> None:
        self.position, self.reason = position, reason
        self._since = now
        self._differs_since = None
        self._switched.append(now)
        self.switch_count += 1
        if position == CONNECTED:
            self._connected_at = now

    def _give_up(self, now: float, reason: str) -> None:
        """Connected, at once, and nothing is lent any more; a connection by hand stays one."""
        self._lease_until = None
        self._waiting = None
        if self.manual_position == OPEN:
            self._manual = None
        if self.position == OPEN:
            self._switch(now, CONNECTED, reason)

    def _connect(self, now: float, reason: str) -> Verdict:
        """Somebody asks for the grid: at once, or when it is in its window."""
        if self._no_output:
            return Verdict(False, f"no output: {self._no_output}")
        if self.position == CONNECTED:
            if reason == MANUAL:
                self.reason = reason
            return Verdict(True, "is connected")
        until = min(now + self.limits.window_wait_s, self._open_until())
        if self.limits.window_s == 0 or self._may_connect or until <= now:
            self._give_up(now, reason)
            return Verdict(True, "connected", switches=True)
        self._lease_until = None
        self._manual = None
        self._waiting = (until, reason)
        detail = f"connects when the grid is in its window, in {until - now:.0f} s anyway"
        return Verdict(True, detail, switches=True, waits=True)

    def _end_manual(self, now: float) -> Verdict:
        self.fault = ""
        self._differs_since = None
        if self.position == OPEN and self._lease_until is None:
            verdict = self._connect(now, "manual_ended")
            self._manual = None
            return verdict
        if self._manual is not None:
            self.reason = "leased" if self.position == OPEN else "manual_ended"
        self._manual = None
        return Verdict(True, "the rules decide")

    def _open_until(self) -> float:
        """When neither lease nor override nor a wait for the grid keeps it open any more."""
        if self._waiting is not None:
            return self._waiting[0]
        manual = self._manual[1] if self._manual and self._manual[0] == OPEN else -math.inf
        return max(manual, -math.inf if self._lease_until is None else self._lease_until)

    @property
    def _may_connect(self) -> bool:
        """Whether the grid was in its window for long enough, or cannot be judged at all."""
        now = self._now
        if self._window_at is None or now - self._window_at > SAMPLE_AGE_S:
            return True
        return self._window_since is not None and now - self._window_since >= self.limits.window_s

    def _prove(self, now: float) -> None:
        """Compare the position with what the contact says."""
        if not self.limits.has_feedback or self._no_output:
            return
        if self.proven == self.position:
            self._differs_since = None
            return
        if self._differs_since is None:
            self._differs_since = now
        if now - self._differs_since > self.limits.feedback_s and not self.fault:
            says = "nothing" if self.proven is None else self.proven
            self.fault = f"the contact says {says} where {self.position} was set"
            self._give_up(now, "fault")

    def _is_spent(self, now: float) -> bool:
        return len(self._switched) + 2 > self.limits.max_switches_per_day

    def _count(self) -> str:
        most = self.limits.max_switches_per_day
        if self._memory_is_lost:
            return f"how often it was switched is forgotten: as if all {most} of the day were used"
        return f"{len(self._switched)} switchings in 24 hours, of {most}"

    def _understood(self) -> None:
        self._unreadable = ""
        self._lapsed = ""

    def _alarms(self, now: float) -> dict[str, Trouble]:
        alarms: dict[str, Trouble] = {}
        self._prove(now)
        if self._no_output:
            alarms["output_unavailable"] = Trouble(
                "critical",
                "the relay cannot be switched",
                f"{self._no_output}. Every command is refused; the contactor stands where its "
                "wiring puts it.",
            )
        if self.fault:
            alarms["feedback_mismatch"] = Trouble(
                "critical",
                "the contactor does not follow",
                f"{self.fault}. The grid is not opened again before somebody has looked at the "
                f"contactor and sent {MANUAL} {AUTO}.",
            )
        if self._lapsed and self.position == CONNECTED:
            alarms["lease_expired"] = Trouble(
                "warning",
                "the relay fell back to the grid",
                f"{self._lapsed[:1].upper()}{self._lapsed[1:]}: who held the grid open is silent. "
                "It is connected until somebody asks again.",
            )
        if self._unreadable:
            alarms["unreadable_request"] = Trouble(
                "warning",
                "the relay does not understand a request",
                f"{self._unreadable}. The grid is connected.",
            )
        if self._is_spent(now):
            alarms["switches_spent"] = Trouble(
                "warning",
                "the relay was switched often",
                f"{self._count()}. Once connected it stays so until some are older.",
                len(self._switched),
            )
        return alarms | self._supply_alarms(now)

    def _supply_alarms(self, now: float) -> dict[str, Trouble]:
        """The grid was asked for; does it come?"""
        limits = self.limits
        if not limits.has_supply or self.position != CONNECTED:
            return {}
        absent_s = now - max(self._connected_at, self._supply_good_at)
        if absent_s < limits.supply_s:
            return {}
        if self._supply_at is None or now - self._supply_at > SAMPLE_AGE_S:
            return {
                "grid_unknown": Trouble(
                    "warning",
                    "nobody knows whether the grid is there",
                    f"The grid has been connected for {absent_s:.0f} s, and its voltage is not "
                    "measured.",
                )
            }
        if self._supply_good_at > self._connected_at:  # it came, and went: an outage
            return {
                "grid_absent": Trouble(
                    "warning",
                    "the grid is gone",
                    f"The grid was there and has been away for {absent_s:.0f} s, with "
                    f"{self._supply:g} V at the house. Nothing but the sun charges the battery.",
                    self._supply,
                )
            }
        return {
            "grid_absent": Trouble(
                "critical",
                "the grid does not come",
                f"The grid has been connected for {absent_s:.0f} s and its voltage is "
                f"{self._supply:g} V. Nothing else charges the battery: look at the breaker, the "
                "protection relays and the contactor, and shed load.",
                self._supply,
            )
        }


def _duration(seconds: float | None, longest_s: float) -> float | None:
    """``seconds`` where they are 1 to ``longest_s``, else None."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not math.isfinite(seconds) or not 1 <= seconds <= longest_s:
        return None
    return float(seconds)


def _within(value: float | None, window: tuple[float, float]) -> bool:
    return value is not None and window[0] <= value <= window[1]
