"""What happened on a day, in words: a row of the list and a pin of the chart for each.

Pure. The same thing again and again is one row; what is more than anybody would read weighs least.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

from sunmesh.messages import Value

from .. import text, told, words
from ..board import TEST
from ..controls import DRAFT, NOTIFIER, OrderRow, tone_of
from ..orders import BATCH, Order, Step
from ..text import _, ngettext
from .past import POSITION, TOGETHER_MS, AlarmTurn, Ended, Happened, Stage, Turn

MOST = 60
AGAIN_MS = 15 * 60_000
"""The same that comes again within this time belongs to what was before."""
SO_OFTEN = 4
"""From so many on that is one row."""
SAID = 3
"""So many different things are told of it."""
RELAY = (POSITION, "manual")

Worded = Callable[[Order], OrderRow]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, or the same several times.

    Attributes:
        ms: when; of several the first.
        key: what is the same thing again.
        icon: of the pin.
        level: of an alarm that was raised; else empty.
        tone: good, bad, or neither.
        subject: whom or what it is about.
        states: what became of that; of several the different ones.
        names: whether subject and states make one name: *Inverter: on the grid*.
        notes: what else there is to say.
        link: endpoint and values of the page that knows more.
        weight: of those that are too many the lightest go.
        count, until: of several: how many, and the last one's time [ms].
    """

    ms: int
    key: tuple[str, ...]
    icon: str
    subject: str
    states: tuple[str, ...]
    link: tuple[str, Mapping[str, str]]
    weight: int
    level: str = ""
    tone: str = ""
    names: bool = False
    notes: tuple[str, ...] = ()
    count: int = 1
    until: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """An event as the page tells it."""

    t: int
    time: str
    iso: str
    icon: str
    level: str
    tone: str
    title: str
    detail: str
    link: tuple[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Told:
    """The day's rows. ``more``: how many lighter ones there are; ``is_cut``: at least."""

    rows: Sequence[Row] = ()
    more: int = 0
    is_cut: bool = False


# -- each kind -------------------------------------------------------------------------------------

ALARM_WEIGHTS = {"critical": 5, "warning": 4, "info": 2}


def _alarm(turn: AlarmTurn) -> Event:
    is_raised = turn.state == "raised"
    severity = turn.severity if turn.severity in ALARM_WEIGHTS else "info"
    return Event(
        turn.ms,
        ("alarm", turn.device, turn.code),
        severity if is_raised else "good",
        told.stored(turn.device, turn.code, turn.title).title,
        (_("raised") if is_raised else _("over"),),
        ("alarms.page", {"device": turn.device, "_anchor": "history"}),
        ALARM_WEIGHTS[severity] - (not is_raised),
        level=severity if is_raised else "",
        tone="" if is_raised else "good",
        notes=(words.title(turn.device),),
    )


def _mode(turn: Turn, has_page: Callable[[str], bool]) -> Event:
    return Event(
        turn.ms,
        ("mode", turn.device),
        "inverter",
        words.title(turn.device),
        (words.value("device_mode", turn.value),),
        ("devices.device", {"name": turn.device})
        if has_page(turn.device)
        else ("devices.page", {}),
        4 if turn.value == "fault" else 2,
        tone="bad" if turn.value == "fault" else "",
        names=True,
    )


def _position(turn: Turn, by: str) -> Event:
    known = turn.value in ("grid_open", "grid_connected")
    reason = words.value("relay_reason", turn.reason) if turn.reason else ""
    return Event(
        turn.ms,
        ("relay", turn.device),
        turn.value if known else "grid",
        words.title(turn.device),
        (words.value("relay_position", turn.value),),
        ("control.page", {"_anchor": "relay"}),
        3,
        names=True,
        notes=tuple(part for part in (by, reason) if part),
    )


def _value(written: str) -> Value:
    try:
        found = json.loads(written) if written else None
    except ValueError:
        return None
    return found if isinstance(found, bool | int | float | str) else None


def _several(written: str) -> dict[str, Value]:
    """The settings of a batch, as they were wished."""
    try:
        found = json.loads(written) if written else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {}
    plain = (bool, int, float, str)
    return {str(name): each for name, each in found.items() if isinstance(each, plain)}


def _step(stage: Stage) -> Step:
    return Step(stage.stage, stage.ms, _value(stage.value), stage.detail)


def order_of(ended: Ended) -> Order:
    """A command that was stored, as those are that the portal has heard."""
    steps = {part.part: [_step(part)] for part in ended.parts}
    if ended.name == BATCH:
        wants = _several(ended.wanted) or {part.part: _value(part.value) for part in ended.parts}
    else:
        wants = {ended.name: _value(ended.wanted or ended.whole.value)}
    return Order(
        *(ended.id, ended.device, ended.name, wants, ended.by or "unknown", ended.whole.ms),
        steps=steps,
        whole=[_step(ended.whole)],
    )


def _command(
    ended: Ended, worded: Worded, is_known: Callable[[str], bool], sees_people: bool
) -> Event:
    row = worded(order_of(ended))
    tone = tone_of(ended.whole.stage)
    return Event(
        ended.whole.ms,
        ("command", ended.device, ended.name, ended.by, ended.whole.stage),
        "control",
        row.title,
        (row.text,),
        ("control.order", {"number": ended.id})
        if is_known(ended.id)
        else ("control.page", {"_anchor": "orders"}),
        4 if tone == "bad" else 3,
        tone=tone,
        notes=(_("by %(who)s", who=row.who),) if _is_shown(ended, sees_people) else (),
    )


def _is_shown(ended: Ended, sees_people: bool) -> bool:
    """Whether this visitor is told who it was: rules are no people."""
    return bool(ended.by) and (sees_people or ended.by.startswith("controller:"))


def events(
    found: Happened,
    worded: Worded,
    is_known: Callable[[str], bool],
    has_page: Callable[[str], bool],
    *,
    sees_people: bool,
) -> list[Event]:
    """Everything that happened, in the order of time.

    Args:
        found: as it was stored.
        worded: says an order as *Control* does.
        is_known: whether an order still has a page of its own.
        has_page: whether a device has one.
        sees_people: whether the visitor is told who commanded.
    """
    made = [_alarm(turn) for turn in found.alarms if (turn.device, turn.code) != TEST]
    made += [_mode(turn, has_page) for turn in found.modes]
    commands = [
        each
        for each in found.commands
        if each.device != NOTIFIER and not each.name.startswith(DRAFT)
    ]
    switched: set[int] = set()
    for turn in found.positions:
        cause = next(
            (
                at
                for at, each in enumerate(commands)
                if at not in switched
                and each.device == turn.device
                and each.name in RELAY
                and each.whole.stage == "applied"
                and abs(each.whole.ms - turn.ms) <= TOGETHER_MS
            ),
            None,
        )
        by = ""
        if cause is not None:
            switched.add(cause)
            if _is_shown(commands[cause], sees_people):
                by = _("by %(who)s", who=worded(order_of(commands[cause])).who)
        made.append(_position(turn, by))
    made += [
        _command(each, worded, is_known, sees_people)
        for at, each in enumerate(commands)
        if at not in switched
    ]
    return sorted(made, key=lambda event: event.ms)


# -- what is too much ------------------------------------------------------------------------------


def fold(rising: Iterable[Event]) -> list[Event]:
    """Events of which the same, again and again, are one."""
    runs: list[list[Event]] = []
    last: dict[tuple[str, ...], list[Event]] = {}
    for event in rising:
        run = last.get(event.key)
        if run is None or event.ms - run[-1].ms > AGAIN_MS:
            run = last[event.key] = []
            runs.append(run)
        run.append(event)
    made: list[Event] = []
    for run in runs:
        if len(run) < SO_OFTEN:
            made += run
            continue
        heaviest = max(run, key=lambda event: event.weight)
        states = tuple(dict.fromkeys(state for event in run for state in event.states))
        made.append(
            replace(heaviest, ms=run[0].ms, states=states[:SAID], count=len(run), until=run[-1].ms)
        )
    return sorted(made, key=lambda event: event.ms)


def _row(event: Event, zone: tzinfo) -> Row:
    moment = words.local(event.ms, zone)
    states = ", ".join(event.states)
    parts = [*event.notes] if event.names else [states, *event.notes]
    if event.count > 1:
        parts.append(
            ngettext(
                "%(num)d time until %(time)s",
                "%(num)d times until %(time)s",
                event.count,
                time=text.clock(words.local(event.until, zone)),
            )
        )
    return Row(
        t=event.ms // 1000,
        time=text.clock(moment),
        iso=moment.isoformat(timespec="seconds"),
        icon=event.icon,
        level=event.level,
        tone=event.tone,
        title=f"{event.subject}: {states}" if event.names else event.subject,
        detail=" · ".join(parts),
        link=event.link,
    )


def tell(rising: Sequence[Event], zone: tzinfo, *, is_cut: bool = False) -> Told:
    """The rows of a day: at most :data:`MOST`, the heaviest of them."""
    folded = fold(rising)
    kept = sorted(folded, key=lambda event: (-event.weight, event.ms))[:MOST]
    rows = [_row(event, zone) for event in sorted(kept, key=lambda event: event.ms)]
    return Told(rows, len(folded) - len(kept), is_cut)
