"""One evaluation: state, history, clock and configuration in; wishes, decisions and alarms out.

Pure: nothing is sent here, and the state that came in stays as it is. Protection is looked at
first, each rule by itself; what one of them does wrong stops no other.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sunmesh.commands.desk import ENDS
from sunmesh.messages import Result, Value
from sunmesh.voice import Condition as Alarm

from . import words
from .config import Mode
from .judge import Verdict, judge
from .rules import CONNECTED, OPEN, Plan, Position, Rule, Source
from .state import (
    DAY_MS,
    Batch,
    Decision,
    Forced,
    Hold,
    Outcome,
    Pending,
    RelayWish,
    RuleState,
    State,
    View,
)

log = logging.getLogger(__name__)

RELAY = "relay"
FLOAT, BULK = "float_voltage_v", "bulk_voltage_v"
GRID = "grid_voltage_v"
NEVER_S = 1e8
"""What is not known at all may just not have arrived yet: that is told one evaluation later."""
SETTLE_MS = 5_000
"""The relay tells its position again within that [ms]."""


def decide(plan: Plan, state: State, view: View) -> Outcome:
    """Evaluate all rules once.

    Args:
        plan: rules and configuration.
        state: of the last evaluation.
        view: what is known now.
    """
    return _Evaluation(plan, state.copy(), view).run()


def set_mode(plan: Plan, state: State, mode: Mode, rule: str = "") -> State:
    """The state after somebody chose a mode for the controller, or for one rule."""
    new = state.copy()
    before = {each.name: mode_of(plan, state, each) for each in plan.rules}
    if rule:
        new.modes[rule] = mode
    else:
        new.mode = mode
        if mode != "on":
            new.good_ms = 0
    for each in plan.rules:
        if mode_of(plan, new, each) != before[each.name] and each.name in new.rules:
            # what it did as a shadow, or before it was off, is no reason to act now
            acts = new.rules[each.name].acts_ms
            new.rules[each.name] = RuleState(acts_ms=acts)
    return new


def mode_of(plan: Plan, state: State, rule: Rule) -> Mode:
    """What a rule may do: the lesser of its own mode and the controller's."""
    order: tuple[Mode, ...] = ("off", "shadow", "on")
    own = state.modes.get(rule.name, rule.mode)
    return order[min(order.index(own), order.index(state.mode))]


def hear(plan: Plan, state: State, device: str, result: Result, now_ms: int) -> State:
    """The state after a collector, or the relay, told what became of a command."""
    new = state.copy()
    pending = new.pending.get(device)
    if device == plan.config.relay:
        _hear_relay(plan, new, result, now_ms)
        return new
    if result.stage == "reverted":
        rule = (result.by or "").partition(":")[2]
        if plan.rule(rule) is not None:
            new.failures[rule] = f"{result.name}: {_said(result)}"
            new.unsure.pop(rule, None)
        return new
    if pending is None or result.id.partition("/")[0] != pending.id:
        return new
    _, part, name = result.id.partition("/")
    failed = any(stage in _FAILED for stage in pending.done.values())
    if part:
        if result.stage in ENDS:
            pending.done[name] = result.stage
        key = f"{device}.{name}"
        if result.stage == "sent":
            new.writes_ms.setdefault(key, []).append(now_ms)
        elif result.stage in _FAILED and not failed:  # the others only stop with it
            _failed(plan, new, pending, [key], f"{name}: {_said(result)}", now_ms)
        return new
    if result.stage in ENDS:
        if result.stage == "applied":
            for rule in pending.rules:
                new.failures.pop(rule, None)
        else:
            open_ = [n for n in pending.values if pending.done.get(n) != "applied"]
            keys = [f"{device}.{name}" for name in open_]
            why = new.failures.get(pending.rules[0]) if failed else None
            _failed(plan, new, pending, keys, why or _said(result), now_ms)
        del new.pending[device]
        new.read_after_ms[device] = now_ms
    return new


_FAILED = ENDS - {"applied"}


def _hear_relay(plan: Plan, state: State, result: Result, now_ms: int) -> None:
    hold = state.hold
    if hold is None or not result.id.startswith("relay-") or result.stage not in _FAILED:
        return
    if result.value != OPEN:
        return
    state.hold = None
    state.retry_ms[RELAY] = now_ms + _minutes(plan, plan.config.retry_min)
    state.failures[hold.rule] = f"the relay: {_said(result)}"
    state.unsure.pop(hold.rule, None)
    state.rules[hold.rule].owes = False


def _said(result: Result) -> str:
    stage = result.stage.replace("_", " ")
    return f"{stage} ({result.detail})" if result.detail else stage


def _failed(
    plan: Plan, state: State, pending: Pending, keys: Collection[str], why: str, now_ms: int
) -> None:
    for key in keys:
        state.retry_ms[key] = now_ms + _minutes(plan, plan.config.retry_min)
    for rule in pending.rules:
        state.failures[rule] = why
        names = {key: key.partition(".")[2] for key in keys}
        state.unsure[rule] = {
            key: pending.values[name] for key, name in names.items() if name in pending.values
        }


def _end(state: State, rule: str, now_ms: int) -> None:
    """The rule is over."""
    kept = state.rules.setdefault(rule, RuleState())
    kept.owes = False
    if kept.is_active:
        kept.is_active, kept.since_ms = False, now_ms


def _minutes(plan: Plan, count: float) -> int:
    return round(count * plan.minute_ms)


@dataclass(slots=True)
class _Wish:
    """What a rule wants in this evaluation, and what becomes of it."""

    rule: Rule
    mode: Mode
    verdict: Verdict
    kind: str = "idle"
    did: str = "nothing"
    why: str = ""
    changed: bool = False
    acts: bool = False
    """It wants something now."""

    def say(self, kind: str, did: str, why: str) -> None:
        self.kind, self.did, self.why = kind, did, why


class _Evaluation:
    def __init__(self, plan: Plan, state: State, view: View) -> None:
        self.plan, self.state, self.view = plan, state, view
        self.now, self.steady = view.now_ms, view.monotonic_ms
        self.alarms: dict[str, Alarm] = {}
        self.batches: list[Batch] = []
        self.relay: RelayWish | None = None
        self.wishes: dict[str, _Wish] = {}
        self.failed: set[str] = set()
        self.notes: dict[str, list[str]] = {}
        self.extra: list[Decision] = []
        self._overruled: set[str] = set()
        seen = view.devices.get(plan.config.relay)
        self.relay_seen = seen
        self.relay_is_fresh = seen is not None and seen.is_fresh("relay_position")
        position = seen.values.get("relay_position") if seen and self.relay_is_fresh else None
        self.position = position if position in (OPEN, CONNECTED) else None
        manual = seen.values.get("relay_manual_until") if seen else None
        self.manual = str(manual) if isinstance(manual, str) and manual else ""

    # -- the whole -------------------------------------------------------------------------------

    def run(self) -> Outcome:
        self._tidy()
        self._time_out()
        for rule in self.plan.rules:
            self.wishes[rule.name] = self._look(rule)
        self._reconcile()
        for wish in self.wishes.values():
            self._progress(wish)
        is_good = self._is_good()
        self._observe_relay()
        self._settle_relay(is_good)
        self._settle_settings()
        self._await_grid()
        for wish in self.wishes.values():
            self._alarm(wish)
        decisions = tuple([*(self._decision(wish) for wish in self.wishes.values()), *self.extra])
        return Outcome(self.state, decisions, tuple(self.batches), self.relay, self.alarms, is_good)

    def _tidy(self) -> None:
        """Forget what is a day old; a moment in the future is one of a clock that was set back."""
        state, now = self.state, self.now
        for kept in state.rules.values():
            kept.acts_ms = [min(ms, now) for ms in kept.acts_ms if ms > now - DAY_MS]
            kept.since_ms = min(kept.since_ms, now)
            kept.blind_ms = min(kept.blind_ms, now)
        state.writes_ms = {
            key: recent
            for key, all_ms in state.writes_ms.items()
            if (recent := [min(ms, now) for ms in all_ms if ms > now - DAY_MS])
        }
        longest = _minutes(self.plan, self.plan.config.retry_min)
        state.retry_ms = {
            key: min(ms, now + longest) for key, ms in state.retry_ms.items() if ms > now
        }
        state.read_after_ms = {key: min(ms, now) for key, ms in state.read_after_ms.items()}
        state.spent_until_ms = min(state.spent_until_ms, now + DAY_MS)
        for pending in state.pending.values():
            pending.sent_ms = min(pending.sent_ms, now)

    def _time_out(self) -> None:
        """A command whose last word never came has failed."""
        limit = round(self.plan.config.answer_s * 1000)
        for device, pending in list(self.state.pending.items()):
            if self.now - pending.sent_ms >= limit:
                left = [n for n in pending.values if pending.done.get(n) != "applied"]
                keys = [f"{device}.{name}" for name in left]
                why = f"{device} did not say what became of {', '.join(left) or 'a command'}"
                _failed(self.plan, self.state, pending, keys, why, self.now)
                del self.state.pending[device]
                self.state.read_after_ms[device] = self.now

    # -- one rule --------------------------------------------------------------------------------

    def _look(self, rule: Rule) -> _Wish:
        """What a rule sees. Whatever goes wrong in it stays in it."""
        mode = mode_of(self.plan, self.state, rule)
        if mode == "off":
            return _Wish(rule, mode, Verdict())
        kept = self.state.rules.get(rule.name)
        is_active = kept is not None and kept.is_active
        try:
            return _Wish(rule, mode, judge(rule, self.view, is_active=is_active))
        except Exception as err:
            log.exception("rule %s", rule.name)
            self.failed.add(rule.name)
            text = f"a mistake of this program: {type(err).__name__}: {err}"
            return _Wish(rule, mode, Verdict(blind=text, blind_s=1e9))

    def _progress(self, wish: _Wish) -> None:
        """Whether it begins, goes on, or is over."""
        rule, verdict, now = wish.rule, wish.verdict, self.now
        kept = self.state.rules.setdefault(rule.name, RuleState())
        if wish.mode == "off":
            if kept.is_active:
                _end(self.state, rule.name, now)
            kept.blind_ms = 0
            own = self.state.modes.get(rule.name, rule.mode)
            who = "the controller" if self.state.mode == "off" else "the rule"
            wish.say("off", "nothing", f"{who} is off" if own != "off" else "the rule is off")
            return
        if verdict.blind:
            kept.blind_ms = kept.blind_ms or now
            safe = "the grid stays connected" if OPEN in rule.positions else "nothing is changed"
            wish.say("blind", "nothing", f"{verdict.blind}; {safe}")
            return
        kept.blind_ms = 0
        elapsed = now - kept.since_ms
        if kept.is_active and verdict.is_over and elapsed >= self._min(rule.min_on_min):
            _end(self.state, rule.name, now)
            if rule.restores:
                self.notes.setdefault(rule.name, []).append("it is over")
            wish.say("over", "nothing", "it is over")
            return
        if kept.is_active:
            wish.acts = verdict.holds
            wish.say("active", "nothing", "it lasts, and there is nothing more to do")
            return
        if not verdict.holds:
            wish.say("idle", "nothing", verdict.waits)
            return
        if kept.since_ms and elapsed < self._min(rule.min_off_min):
            wish.say("resting", "nothing", f"it rests for {rule.min_off_min:g} minutes")
            return
        kept.is_active, kept.since_ms = True, now
        wish.acts = True
        wish.say("active", "nothing", "everything is as it should be already")

    def _min(self, count: float) -> int:
        return _minutes(self.plan, count)

    def _may_act(self, wish: _Wish, *, opens: bool = False) -> str:
        """Why a rule that wants to may not act now; empty when it may.

        What follows from it, the grid given back and the settings put back, needs room, too.
        """
        rule, kept = wish.rule, self.state.rules[wish.rule.name]
        hold = self.state.hold
        switches = 1 + (opens or (hold is not None and hold.rule == rule.name)) + rule.restores
        if self.now < self.state.spent_until_ms and not rule.protects:
            return "what was remembered is lost: the day's switches count as used up"
        if len(kept.acts_ms) + switches > rule.most_switches_day:
            wish.kind = "capped"
            return f"it switched {len(kept.acts_ms)} times in 24 hours, and that is its limit"
        last_ms = kept.acts_ms[-1] if kept.acts_ms else 0
        if last_ms >= kept.since_ms and self.now - last_ms < self._min(rule.again_min):
            return f"it acts again after {rule.again_min:g} minutes"
        return ""

    def _acted(self, wish: _Wish) -> None:
        """Count one switch; a batch and the relay in one evaluation are one."""
        kept = self.state.rules[wish.rule.name]
        if not kept.acts_ms or kept.acts_ms[-1] != self.now:
            kept.acts_ms.append(self.now)

    # -- is all well? ----------------------------------------------------------------------------

    def _is_lost(self, name: str) -> bool:
        """Whether a rule cannot see, and that is no hiccup."""
        wish, kept = self.wishes[name], self.state.rules[name]
        if not wish.verdict.blind:
            return False
        is_old = self.plan.config.interval_s < wish.verdict.blind_s < NEVER_S
        return is_old or self.now > kept.blind_ms

    def _concerned(self) -> list[_Wish]:
        """Who must see while the grid is open: the rule it is open for, and those that close."""
        hold = self.state.hold.rule if self.state.hold else ""
        return [
            wish
            for wish in self.wishes.values()
            if wish.mode == "on" and (wish.rule.name == hold or CONNECTED in wish.rule.positions)
        ]

    def _is_good(self) -> bool:
        """A successful evaluation on fresh data: the condition for a renewal."""
        concerned = self._concerned()
        is_good = (
            self.relay_is_fresh
            and not any(self.wishes[name].mode == "on" for name in self.failed)
            and not any(wish.verdict.blind for wish in concerned)
            and any(wish.mode == "on" for wish in self.wishes.values())
        )
        if not is_good:
            if self.state.good_ms:
                for kept in self.state.rules.values():
                    kept.owes = False  # what comes after must begin anew
            self.state.good_ms = 0
        elif not self.state.good_ms:
            self.state.good_ms = self.steady
        return is_good

    # -- the relay -------------------------------------------------------------------------------

    def _observe_relay(self) -> None:
        state = self.state
        if self.position is None:
            return
        if self.position == CONNECTED:
            if state.position != CONNECTED:
                state.connected_ms = self.steady
                if state.position == OPEN:
                    state.grid_asked_ms = state.grid_asked_ms or self.steady
        elif self.manual:
            state.grid_asked_ms = 0  # somebody wants it so
        state.position = self.position

    def _settle_relay(self, is_good: bool) -> None:
        """One target: the grid opened, kept open, or connected."""
        state = self.state
        self._drop_hold()
        wanting = [w for w in self.wishes.values() if w.rule.positions and self._wants_relay(w)]
        closing = [wish for wish in wanting if CONNECTED in wish.rule.positions]
        if closing:  # the safe position wins, whoever wants it
            for wish in wanting:
                if OPEN in wish.rule.positions:
                    self._overruled.add(wish.rule.name)
                    why = f"{closing[0].rule.name} wants the grid connected, which goes first"
                    wish.say("conflict", "nothing", why)
            self._connect(closing[0])
            return
        for wish in wanting:
            self._open(wish)
        if state.hold is None:
            return
        holder = self.wishes[state.hold.rule]
        if self.relay is None and is_good:
            self._ask(OPEN, holder.rule.name, holder.rule.says, renews=True)
            state.hold.sent_ms = self.steady
            if holder.kind in ("active", "over"):
                holder.say("holding", "kept the grid open", "it lasts")
        elif self.relay is None:
            why = "not all that it depends on can be seen: the lease is not renewed"
            holder.say("not renewed", "nothing", why)

    def _drop_hold(self) -> None:
        """The grid is not kept open for a rule that is over, off, or blind."""
        hold = self.state.hold
        if hold is None:
            return
        wish = self.wishes.get(hold.rule)
        why = ""
        told_ms = (
            self.steady - round(1000 * self.relay_seen.age_s("relay_position"))
            if (self.relay_seen)
            else 0
        )
        silent = self.relay_seen is None or self.relay_seen.age_s("relay_position") > max(
            self.plan.config.interval_s, self.relay_seen.limit_s
        )
        lost = next((w for w in self._concerned() if self._is_lost(w.rule.name)), None)
        if wish is None or wish.mode != "on":
            why = "the rule is not on any more"
        elif wish.rule.name in self.failed or lost is not None:
            blind = wish if wish.rule.name in self.failed or lost is None else lost
            why = blind.verdict.blind
        elif not self.state.rules[hold.rule].is_active:
            why = "it is over"
        elif silent:
            why = f"{self.plan.config.relay} says nothing"
        elif self.position == CONNECTED and told_ms > hold.sent_ms + SETTLE_MS:
            reason = self.relay_seen.values.get("relay_reason") if self.relay_seen else None
            why = f"the relay connected the grid by itself ({reason or 'no reason given'})"
        elif self.manual and self.position == CONNECTED:
            why = f"the relay is held by hand until {self.manual}"
        if not why:
            return
        other = self._heir(hold.rule) if why == "it is over" else None
        if other is not None:
            self.state.hold = Hold(other.rule.name, self.now, hold.sent_ms)
            return
        self.state.hold = None
        if wish is not None:
            self.state.rules[hold.rule].owes = False
        self._ask(CONNECTED, hold.rule, why)
        self.state.grid_asked_ms = self.state.grid_asked_ms or self.steady
        if why != "it is over":
            self.state.good_ms = 0
        if wish is not None:
            self._acted(wish)
            wish.changed = True
            kind = wish.kind if wish.kind in ("blind", "off") else "released"
            wish.say(kind, "asked for the grid", why)

    def _heir(self, name: str) -> _Wish | None:
        """Another rule that wants the grid open at this very moment."""
        wanting = [
            wish
            for wish in self.wishes.values()
            if wish.rule.positions and self._wants_relay(wish) and wish.rule.name != name
        ]
        if any(CONNECTED in wish.rule.positions for wish in wanting):
            return None
        return wanting[0] if wanting else None

    def _wants_relay(self, wish: _Wish) -> bool:
        """It acts now, or it could not open the grid when it did, and is not over."""
        kept = self.state.rules.get(wish.rule.name)
        owes = kept is not None and kept.is_active and kept.owes
        return wish.mode == "on" and (wish.acts or (owes and not wish.verdict.blind))

    def _connect(self, wish: _Wish) -> None:
        """The safe position needs no permission, and is asked for until it is seen."""
        hold, self.state.hold = self.state.hold, None
        if hold is not None:
            self.state.rules[hold.rule].owes = False
            other = self.wishes[hold.rule]
            other.say("released", "gave the grid back", f"{wish.rule.name} wants it connected")
        if self.position == CONNECTED and hold is None:
            wish.say("satisfied", "nothing", "the grid is connected already")
        else:
            self._ask(CONNECTED, wish.rule.name, wish.rule.says)
            if self.state.position == OPEN or hold is not None:
                self._acted(wish)
            wish.changed = True
            wish.say("acted", "asked for the grid", wish.rule.says)
        self.state.grid_asked_ms = self.state.grid_asked_ms or self.steady

    def _open(self, wish: _Wish) -> None:
        state, rule = self.state, wish.rule
        if state.hold is not None:
            state.rules[rule.name].owes = False
            if state.hold.rule != rule.name:
                wish.say("satisfied", wish.did, f"the grid is open for {state.hold.rule}")
            return
        if self.relay is not None:
            return  # it was given back just now
        why = self._may_open(wish)
        if why:
            wish.why = f"the grid stays connected: {why}"
            wish.kind = wish.kind if wish.kind == "capped" else "waiting"
            state.rules[rule.name].owes = True
            return
        state.rules[rule.name].owes = False
        state.hold = Hold(rule.name, self.now, self.steady)
        self._ask(OPEN, rule.name, rule.says)
        state.failures.pop(rule.name, None)
        state.grid_asked_ms = 0
        self._acted(wish)
        wish.changed = True
        wish.say("acted", "asked to open the grid", rule.says)

    def _may_open(self, wish: _Wish) -> str:
        state, config = self.state, self.plan.config
        if not self.relay_is_fresh:
            return f"{config.relay} says nothing"
        if self.manual:
            return f"it is held by hand until {self.manual}"
        if not state.good_ms:
            return "not all that it depends on can be seen"
        waits_ms = self._min(config.recover_min) - (self.steady - state.good_ms)
        if waits_ms > 0:
            return f"all must be well for {config.recover_min:g} minutes first"
        dwells_ms = self._min(config.dwell_min) - (self.steady - state.connected_ms)
        if self.position == CONNECTED and state.connected_ms and dwells_ms > 0:
            return f"it was connected less than {config.dwell_min:g} minutes ago"
        if self.now < state.retry_ms.get(RELAY, 0):
            return state.failures.get(wish.rule.name, "the relay refused lately")
        return self._may_act(wish, opens=True)

    def _ask(self, position: Position, rule: str, reason: str, *, renews: bool = False) -> None:
        lease_s = self.plan.config.lease_s if position == OPEN else None
        identity = f"relay-{self.view.token}"
        self.relay = RelayWish(identity, position, rule, reason, lease_s, renews)

    def _await_grid(self) -> None:
        """N14: the grid was asked for, and does not come."""
        plan, state = self.plan, self.state
        seen = self.view.devices.get(plan.config.inverter)
        volts = seen.values.get(GRID) if seen and seen.is_fresh(GRID) else None
        if not state.grid_asked_ms or not isinstance(volts, int | float):
            return
        if volts > 0:
            state.grid_asked_ms = 0
            return
        waited_ms = self.steady - state.grid_asked_ms
        if waited_ms >= self._min(plan.config.grid_wait_min):
            self.alarms["grid-missing"] = Alarm(
                "critical",
                "The grid does not come",
                f"It was asked for {waited_ms // 60_000} minutes ago, and "
                f"{plan.config.inverter} measures {volts:g} V. Nothing else protects the battery: "
                "look at the relay, the breakers and the street.",
                volts,
            )

    # -- settings --------------------------------------------------------------------------------

    def _settle_settings(self) -> None:
        """At most one target a setting: protection, comfort, then what is to be put back."""
        claims: dict[Source, tuple[str, Value]] = {}
        batches: dict[str, dict[Source, tuple[_Wish, Value]]] = {}
        for wish in self.wishes.values():
            if not wish.acts or wish.mode != "on" or not wish.verdict.settings:
                if wish.acts and wish.mode == "shadow":
                    self._shadow(wish)
                continue
            other = next(
                (
                    f"{claims[s][0]} wants the {words.quantity(s)} to be {claims[s][1]}"
                    for s, value in wish.verdict.settings.items()
                    if s in claims and claims[s][1] != value
                ),
                "",
            )
            if other:
                wish.say("conflict", wish.did, other)
                continue
            claims |= {s: (wish.rule.name, value) for s, value in wish.verdict.settings.items()}
            open_ = {
                s: value for s, value in wish.verdict.settings.items() if self._now(s) != value
            }
            if not open_:
                continue
            device = next(iter(open_)).device
            batch = batches.setdefault(device, {})
            open_ = {s: value for s, value in open_.items() if s not in batch}
            if not open_:
                wish.say("satisfied", wish.did, "another rule sets that now")
                continue
            # the relay may have moved in this evaluation: that and this are one switch
            why = "" if wish.changed else self._may_act(wish)
            open_, waits = self._writable(open_, wish.rule.protects)
            why = why or ("" if open_ else waits)
            if why:
                kind = wish.kind if wish.kind == "capped" else "waiting"
                wish.say(kind, wish.did, why)
                continue
            batch.update({s: (wish, v) for s, v in open_.items()})
        for device, batch in batches.items():
            if batch:
                self._send(device, batch)
        self._restore(claims)

    def _shadow(self, wish: _Wish) -> None:
        open_ = {s: v for s, v in wish.verdict.settings.items() if self._now(s) != v}
        wanted = {str(s): v for s, v in open_.items()}
        if wish.rule.positions:
            wanted[RELAY] = next(iter(wish.rule.positions))
        if wanted:
            wish.say("shadow", "nothing", "it only watches; it would act now")

    def _now(self, source: Source) -> Value:
        seen = self.view.devices.get(source.device)
        return None if seen is None else seen.settings.get(source.name)

    def _is_unread(self, device: str) -> bool:
        """Whether its settings are of before the last command."""
        seen = self.view.devices.get(device)
        return seen is None or seen.settings_ms < self.state.read_after_ms.get(device, 0)

    def _writable(
        self, wanted: Mapping[Source, Value], protects: bool
    ) -> tuple[dict[Source, Value], str]:
        """What of this may be written now, and why the rest may not."""
        state = self.state
        device = next(iter(wanted)).device
        if device in state.pending:
            return {}, "a command is under way"
        if self._is_unread(device):
            return {}, f"{device} has not been read since the last command"
        whys = {source: self._worn(source, protects) for source in wanted}
        open_ = {source: value for source, value in wanted.items() if not whys[source]}
        why = next((why for why in whys.values() if why), "")
        if open_ and (unsound := self._unsound(device, open_)):
            return {}, why or unsound
        return open_, why

    def _worn(self, source: Source, protects: bool) -> str:
        """Why a setting may not be written now."""
        config, key = self.plan.config, str(source)
        until = self.state.retry_ms.get(key, 0)
        if self.now < until:
            left = -(-(until - self.now) // self.plan.minute_ms)
            return f"{source.name} failed; it is tried again in {left} minutes"
        budget = config.protection_writes_per_day if protects else config.writes_per_day
        spent = len(self.state.writes_ms.get(key, ()))
        if spent >= budget:
            return f"{source.name} was written {spent} times in 24 hours, of {budget}"
        return ""

    def _unsound(self, device: str, wanted: Mapping[Source, Value]) -> str:
        """N2 at the end of the batch: float never above bulk."""
        volts = {
            name: wanted.get(Source("setting", device, name), self._now_of(device, name))
            for name in (FLOAT, BULK)
        }
        low, high = volts[FLOAT], volts[BULK]
        if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
            return f"the float voltage ({low:g} V) would be above the bulk voltage ({high:g} V)"
        return ""

    def _now_of(self, device: str, name: str) -> Value:
        return self._now(Source("setting", device, name))

    def _ordered(self, device: str, values: dict[str, Value]) -> dict[str, Value]:
        """N2 within the batch: float never above bulk at any instant."""
        if FLOAT not in values or BULK not in values:
            return values
        bulk_now, low = self._now_of(device, BULK), values[FLOAT]
        float_first = not (
            isinstance(bulk_now, int | float) and isinstance(low, int | float) and low > bulk_now
        )
        pair = (FLOAT, BULK) if float_first else (BULK, FLOAT)
        ordered: dict[str, Value] = {}
        for name, value in values.items():
            if name in pair:
                ordered |= {each: values[each] for each in pair}
            else:
                ordered[name] = value
        return ordered

    def _send(self, device: str, batch: Mapping[Source, tuple[_Wish, Value]]) -> None:
        """One batch, written down before it is sent."""
        values = self._ordered(device, {s.name: value for s, (_, value) in batch.items()})
        wishes = list({id(wish): wish for wish, _ in batch.values()}.values())
        if len(wishes) > 1 and self._unsound(device, {s: v for s, (_, v) in batch.items()}):
            # each by itself is sound, both together are not: the first has its way
            first = wishes[0]
            batch = {s: pair for s, pair in batch.items() if pair[0] is first}
            for wish in wishes[1:]:
                wish.say("conflict", wish.did, f"{first.rule.name} sets the voltages now")
            self._send(device, batch)
            return
        for source, (wish, value) in batch.items():
            if wish.rule.temporary:
                self._force(source, value, wish.rule.name)
        for wish in wishes:
            self._acted(wish)
            wish.changed = True
            mine = {s.name: v for s, (w, v) in batch.items() if w is wish}
            told = f"set {words.settings(mine)}"
            did = told if wish.did == "nothing" else f"{wish.did}; {told}"
            wish.say("acted", did, wish.rule.says)
        self._post(device, values, [wish.rule.name for wish in wishes], wishes[0].rule.says)

    def _post(self, device: str, values: dict[str, Value], rules: list[str], reason: str) -> None:
        identity = f"set-{self.view.token}"
        self.batches.append(Batch(identity, device, values, rules[0], reason))
        self.state.pending[device] = Pending(identity, rules, dict(values), self.now)

    def _force(self, source: Source, value: Value, rule: str) -> None:
        key, before = str(source), self._now(source)
        known = self.state.forced.get(key)
        restore = known.restore if known else before
        if restore is None:
            return
        self.state.forced[key] = Forced(value, restore, rule, self.now)

    # -- what was forced -------------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Forget what is not forced any more: put back, or changed by somebody else."""
        state = self.state
        for key, forced in list(state.forced.items()):
            source = _source(key)
            seen = self.view.devices.get(source.device)
            if seen is None or not seen.has_settings or source.device in state.pending:
                continue
            if self._is_unread(source.device):
                continue
            now = seen.settings.get(source.name)
            if now is None or now == forced.value != forced.restore:
                continue
            del state.forced[key]
            if now != forced.restore:
                note = f"{source.name} is {now} now, which somebody else set: it stays so"
                self.notes.setdefault(f"!{forced.rule}", []).append(note)

    def _restore(self, claims: Mapping[Source, tuple[str, Value]]) -> None:
        """Put back what nobody needs any more."""
        state = self.state
        by_device: dict[str, dict[Source, Forced]] = {}
        reasons: dict[str, str] = {}
        for key, forced in state.forced.items():
            source = _source(key)
            why = self._why_back(forced)
            if why and source not in claims:
                by_device.setdefault(source.device, {})[source] = forced
                reasons[key] = why
        for device, wanted in by_device.items():
            seen = self.view.devices.get(device)
            if seen is None or not seen.has_settings:
                continue
            values = {s: forced.restore for s, forced in wanted.items()}
            values, why = self._writable(values, True)
            wanted = {s: forced for s, forced in wanted.items() if s in values or not values}
            rules = list(dict.fromkeys(forced.rule for forced in wanted.values()))
            if not values:
                for rule in rules:
                    self._tell(rule, "waiting", "nothing", f"what it forced stays for now: {why}")
                continue
            first = next(iter(wanted))
            reason = f"put back: {reasons[str(first)]}"
            told = self._ordered(device, {s.name: v for s, v in values.items()})
            self._post(device, told, rules, reason)
            for rule in rules:
                if rule in self.wishes:
                    self._acted(self.wishes[rule])
                mine = {s.name: f.restore for s, f in wanted.items() if f.rule == rule}
                self._tell(rule, "restored", f"put back {words.settings(mine)}", reason)

    def _why_back(self, forced: Forced) -> str:
        """Why a forced setting is put back; empty while it is needed."""
        rule = self.plan.rule(forced.rule)
        if rule is None:
            return f"rule {forced.rule} is gone"
        mode = mode_of(self.plan, self.state, rule)
        if mode != "on":
            who = "the controller" if self.state.mode != "on" else f"rule {rule.name}"
            return f"{who} is {'off' if mode == 'off' else 'only watching'} now"
        if self.wishes[rule.name].verdict.blind:
            return ""
        if self.state.rules[rule.name].is_active:
            if forced.found:
                note = f"{forced.value} was found after a restart: it is still needed"
                self.notes.setdefault(f"!{rule.name}", []).append(note)
            return ""
        if rule.restores:
            return f"rule {rule.name} is over"
        return "found after a restart, and its rule is over" if forced.found else ""

    def _tell(self, rule: str, kind: str, did: str, why: str) -> None:
        wish = self.wishes.get(rule)
        if wish is not None:
            wish.changed = kind == "restored"
            wish.say(kind, did, why)
        else:
            self.extra.append(Decision(rule, "off", {}, None, did, why, kind, kind == "restored"))

    # -- what is said of it ----------------------------------------------------------------------

    def _alarm(self, wish: _Wish) -> None:
        rule = wish.rule
        severity = "critical" if rule.protects else "warning"
        data: dict[str, Value] = {}
        if not wish.acts and wish.kind not in ("waiting", "restored") and not self.state.pending:
            self.state.failures.pop(rule.name, None)
        if self._is_set(rule.name):  # nobody could tell whether it was applied, and it was
            self.state.failures.pop(rule.name, None)
        if wish.mode == "off" and rule.name not in self.state.failures:
            return
        if rule.name in self.failed:
            title, text = f"Rule {rule.name} failed", wish.verdict.blind
        elif wish.verdict.blind:
            if not self._is_lost(rule.name):
                return
            title, text = f"Rule {rule.name} cannot see", f"{wish.verdict.blind}. {rule.says}."
            data = {"blind": wish.verdict.blind_device, "why": wish.verdict.blind}
        elif rule.name in self.state.failures:
            title = f"Rule {rule.name} did not succeed"
            text = f"{self.state.failures[rule.name]}. {rule.says.rstrip('.')}."
        elif wish.kind == "capped":
            severity = "warning"
            title, text = f"Rule {rule.name} switched too often", wish.why
        else:
            return
        self.alarms[rule.name] = Alarm(severity, title, text, data=data)  # type: ignore[arg-type]

    def _is_set(self, rule: str) -> bool:
        """Whether all that failed has been read since, and is as the rule wanted it."""
        wanted = self.state.unsure.get(rule)
        if not wanted or self.state.pending:
            return False
        for key, value in wanted.items():
            device, _, name = key.partition(".")
            if self._is_unread(device) or self._now_of(device, name) != value:
                return False
        return True

    def _decision(self, wish: _Wish) -> Decision:
        wants: dict[str, Value] | None = None
        if wish.acts:
            wants = {str(s): value for s, value in wish.verdict.settings.items()}
            for position in wish.rule.positions:
                wants[RELAY] = position
        why = wish.why
        for note in self.notes.get(f"!{wish.rule.name}", ()):
            why = f"{why}. {note}" if why else note
        failure = self.state.failures.get(wish.rule.name)
        if failure and wish.mode == "on" and failure not in why:
            why = f"{why}. Last time: {failure}" if why else f"last time: {failure}"
        return Decision(
            wish.rule.name,
            wish.mode,
            wish.verdict.saw,
            wants,
            wish.did,
            why,
            wish.kind,
            wish.changed,
        )


def _source(key: str) -> Source:
    device, _, name = key.partition(".")
    return Source("setting", device, name)


__all__ = ["decide", "hear", "mode_of", "set_mode"]
