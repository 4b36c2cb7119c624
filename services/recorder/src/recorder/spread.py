"""From items to rows. No database here, only what is known of it: which series there are.

A device says the same names over and over, and values of the same types. The first sample of such
a shape is spread value by value, and leaves a :class:`Plan`; the next ones follow that without a
look at each value.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, NamedTuple, TypeGuard

import msgspec
from sunmesh import clock, vocabulary
from sunmesh.database import tables
from sunmesh.messages import Settings, Value
from sunmesh.vocabulary import Kind

from .codec import (
    AckHeard,
    AlarmHeard,
    CommandHeard,
    DecisionHeard,
    DocumentHeard,
    Gap,
    Item,
    StatusHeard,
    Telemetry,
)

log = logging.getLogger(__name__)

UNSTORED = ("stale", "partial")
"""Qualities that keep a value out of the past: a counter of a lost device, half a group's sum."""

NAME = re.compile(r"[A-Za-z0-9_.-]{1,72}")
"""A quantity's name; a list's element adds ``/`` and its number."""

MAX_INT = 10**300
MAX_ELEMENTS = 256
MAX_ALARM_TEXT = 4000
MAX_DEVICES = 1000
MAX_COLUMNS = 2000
MANY = 20
"""So many names of a device that the vocabulary does not have are named in the log."""
MAX_PLANS = 50
"""Shapes of one device: which of its values were whole numbers, or not readable."""

_FLOATS = {float}
_settings = msgspec.json.Decoder(Settings)


@dataclass(slots=True)
class Column:
    """Where a quantity of a device goes: one series, or one for each element of a list."""

    kind: Kind
    ids: list[int | None]


class Block(NamedTuple):
    """Numbers of one moment."""

    ids: tuple[int, ...]
    ms: int
    numbers: tuple[float, ...]


Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


@dataclass(slots=True, eq=False)
class Plan:
    """How samples of one shape are spread.

    Attributes:
        device: whose.
        columns: of each value, in the order of the sample.
        ids: the series of the single numbers.
        pick: takes these out of the values.
        has_ints: some of them are whole, and become floats.
        lists: (position, series) of each list of numbers.
        states: (name, series) of each state.
        pick_states: takes these out of the values.
    """

    device: str
    columns: tuple[Column, ...]
    ids: tuple[int, ...]
    pick: Pick
    has_ints: bool
    lists: tuple[tuple[int, tuple[int, ...]], ...]
    states: tuple[tuple[str, int], ...]
    pick_states: Pick


@dataclass(slots=True)
class Run:
    """States that a device repeated from ``first`` to ``last``."""

    states: tuple[Any, ...]
    first: int
    last: int


@dataclass(slots=True)
class Shape:
    """What is known of a device's values."""

    columns: dict[str, Column] = field(default_factory=dict)
    plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Device:
    """A row of ``device``."""

    name: str
    status: str | None = None
    status_since: int | None = None
    status_reason: str | None = None
    info: str | None = None
    settings: str | None = None
    updated: int = 0


Latest = tuple[int, float | None, str | None, str | None]
"""ts, value, text, quality."""


@dataclass(slots=True)
class Rows:
    """What a batch comes to."""

    blocks: list[Block] = field(default_factory=list)
    states: list[tuple[int, int, str]] = field(default_factory=list)
    latest: dict[int, Latest] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    settings: list[tuple[tuple[str, str], int, str]] = field(default_factory=list)
    alarms: list[tuple[Any, ...]] = field(default_factory=list)
    acks: list[tuple[Any, ...]] = field(default_factory=list)
    commands: list[CommandHeard] = field(default_factory=list)
    decisions: list[DecisionHeard] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    wanted: dict[tuple[str, str], Kind] = field(default_factory=dict)
    bad: int = 0
    newest: dict[Plan, tuple[int, list[Value]]] = field(default_factory=dict)
    runs: dict[Plan, Run] = field(default_factory=dict)


class Spreader:
    """Makes rows of items, and remembers the series that there are."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._said: set[tuple[str, str]] = set()
        self._unknown: dict[str, set[str]] = {}
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered of the database: it may be another one after a failure."""
        self.count = 0
        self.devices: dict[str, Device] = {}
        self.refused: set[tuple[str, str]] = set()
        self._shapes: dict[str, Shape] = {}

    def know(self, number: int, device: str, name: str, kind: str) -> None:
        """Remember a series."""
        shape = self._shapes.setdefault(device, Shape())
        shape.plans.clear()
        base, _, element = name.partition("/")
        self.count += 1
        if not element:
            shape.columns[base] = Column(Kind(kind), [number])
            return
        column = shape.columns.setdefault(base, Column(Kind.LIST, []))
        index = int(element) - 1
        column.ids.extend([None] * (index + 1 - len(column.ids)))
        column.ids[index] = number

    def say(self, device: str, what: str, level: int = logging.WARNING) -> None:
        """One line, once, and none any more when there are too many."""
        if (device, what) not in self._said and len(self._said) < 1000:
            self._said.add((device, what))
            log.log(level, "%s: %s", device, what)

    def spread(self, items: Sequence[Item]) -> Rows:
        """What ``items`` come to; ``wanted`` are series that are to be made first."""
        rows = Rows()
        for item in items:
            if item.__class__ is Telemetry:
                self._sample(item, rows)
            else:
                self._other(item, rows)
        for plan, run in rows.runs.items():
            self._end_run(plan, run, rows)
        for plan, (ms, values) in rows.newest.items():
            _newest(plan, ms, values, rows)
        return rows

    # -- samples -----------------------------------------------------------------------------------

    def _sample(self, item: Telemetry, rows: Rows) -> None:
        shape = self._shapes.get(item.device)
        if shape is None:
            shape = Shape()  # kept with its first series
        values = list(item.values.values())
        if item.quality:
            self._each(item, shape, rows)
            return
        form = (*item.values, *map(type, values))
        plan = shape.plans.get(form)
        if plan is None:
            if self._each(item, shape, rows) and len(shape.plans) < MAX_PLANS:
                plan = _plan(item.device, shape, item.values)
                if plan is not None:
                    shape.plans[form] = plan
        elif not self._follow(plan, item.ms, values, rows):
            self._each(item, shape, rows)

    def _follow(self, plan: Plan, ms: int, values: list[Value], rows: Rows) -> bool:
        """Spread a sample of a known shape; False, and nothing done, where it takes more care."""
        numbers = plan.pick(values)
        try:
            if plan.has_ints:
                numbers = tuple(map(float, numbers))
            if not math.isfinite(sum(numbers)):
                return False
        except OverflowError:
            return False
        for position, ids in plan.lists:
            value = values[position]
            assert isinstance(value, list)  # noqa: S101 - what the shape says
            if len(value) != len(ids) or set(map(type, value)) != _FLOATS:
                return False
            if not math.isfinite(sum(value)):  # type: ignore[arg-type]
                return False
        if plan.ids:
            rows.blocks.append(Block(plan.ids, ms, numbers))
        for position, ids in plan.lists:
            rows.blocks.append(Block(ids, ms, tuple(values[position])))  # type: ignore[arg-type]
        if plan.states:
            states = plan.pick_states(values)
            run = rows.runs.get(plan)
            if run is not None and run.states == states and ms >= run.last:
                run.last = ms
            else:
                if run is not None:
                    self._end_run(plan, run, rows)
                rows.runs[plan] = Run(states, ms, ms)
        newest = rows.newest.get(plan)
        if newest is None or ms > newest[0]:
            rows.newest[plan] = (ms, values)
        return True

    def _end_run(self, plan: Plan, run: Run, rows: Rows) -> None:
        """The first and the last sight of states say as much as all between them."""
        for (name, number), value in zip(plan.states, run.states, strict=True):
            word = self._word(plan.device, name, value)
            rows.states.append((number, run.first, word))
            if run.last != run.first:
                rows.states.append((number, run.last, word))

    def _word(self, device: str, name: str, value: Value) -> str:
        """A state as its column takes it."""
        word = as_text(value)
        if len(word) > tables.TEXT_LENGTH:
            self.say(device, f"{name} is longer than {tables.TEXT_LENGTH}; cut")
            word = word[: tables.TEXT_LENGTH]
        return word

    def _each(self, item: Telemetry, shape: Shape, rows: Rows) -> bool:
        """Value by value; False when one of them could not be stored."""
        columns, quality, ms = shape.columns, item.quality, item.ms
        bad = rows.bad
        ids: list[int] = []
        numbers: list[float] = []
        for name, value in item.values.items():
            column = columns.get(name)
            if column is None:
                column = self._column(item.device, name, value, rows)
                if column is None:
                    continue
                if len(columns) < MAX_COLUMNS:
                    columns[name] = column
            mark = quality.get(name) if quality else None
            if column.kind is Kind.STATE:
                self._state(item, name, value, column, mark, rows)
            elif column.kind is Kind.LIST:
                self._list(item, name, value, column, mark, rows, ids, numbers)
            elif value is not None and not is_number(value):
                self._bad(rows, item.device, name, value, "a number")
            elif (number := column.ids[0]) is not None:
                _number(rows, number, ms, value, mark, ids, numbers)
            elif value is not None:
                self._want(item.device, name, column, 0, rows)
        if ids:
            rows.blocks.append(Block(tuple(ids), ms, tuple(numbers)))
        return bad == rows.bad

    def _column(self, device: str, name: str, value: Value, rows: Rows) -> Column | None:
        """Where a quantity that this device never sent goes; None when nowhere (yet)."""
        known = vocabulary.VOCABULARY.get(name)
        if known is not None:
            return Column(known.kind, []) if known.kind is Kind.LIST else Column(known.kind, [None])
        if not NAME.fullmatch(name):
            rows.bad += 1
            self.say(device, f"{name[:80]!r} is no name of a quantity; not stored")
            return None
        kind = guess(value)
        if kind is None:
            return None
        unknown = self._unknown.setdefault(device, set()) if len(self._unknown) < 100 else set()
        if len(unknown) < MANY:
            unknown.add(name)
            self.say(device, f"{name} is not in the vocabulary; stored as a {kind}", logging.INFO)
        elif name not in unknown:
            self.say(device, "more names are not in the vocabulary; stored alike", logging.INFO)
        return Column(kind, [] if kind is Kind.LIST else [None])

    def _want(self, device: str, name: str, column: Column, index: int, rows: Rows) -> None:
        key = (device, f"{name}/{index + 1}" if column.kind is Kind.LIST else name)
        if key not in self.refused:
            rows.wanted[key] = column.kind

    def _list(
        self,
        item: Telemetry,
        name: str,
        value: Value,
        column: Column,
        mark: str | None,
        rows: Rows,
        ids: list[int],
        numbers: list[float],
    ) -> None:
        if value is None:
            value = [None] * len(column.ids)
        if not isinstance(value, list) or len(value) > MAX_ELEMENTS:
            self._bad(rows, item.device, name, value, f"a list of up to {MAX_ELEMENTS} numbers")
            return
        if len(value) > len(column.ids):
            column.ids.extend([None] * (len(value) - len(column.ids)))
        for index, element in enumerate(value):
            number = column.ids[index]
            if element is not None and not is_number(element):
                self._bad(rows, item.device, name, element, "a number")
            elif number is not None:
                own = item.quality.get(f"{name}/{index + 1}", mark) if item.quality else None
                _number(rows, number, item.ms, element, own, ids, numbers)
            elif element is not None:
                self._want(item.device, name, column, index, rows)

    def _state(
        self, item: Telemetry, name: str, value: Value, column: Column, mark: str | None, rows: Rows
    ) -> None:
        number = column.ids[0]
        if number is None:
            if value is not None:
                self._want(item.device, name, column, 0, rows)
            return
        word = None if value is None else self._word(item.device, name, value)
        if word is not None and mark not in UNSTORED:
            rows.states.append((number, item.ms, word))
        _put(rows, number, (item.ms, None, word, mark and mark[: tables.QUALITY_LENGTH]))

    def _bad(self, rows: Rows, device: str, name: str, value: object, wanted: str) -> None:
        rows.bad += 1
        self.say(device, f"{name} is not {wanted} but {type(value).__name__}; not stored")

    # -- everything else ---------------------------------------------------------------------------

    def _other(self, item: Item, rows: Rows) -> None:
        match item:
            case StatusHeard() | DocumentHeard():
                self._device(item, rows)
            case AlarmHeard():
                alarm = item.alarm
                rows.alarms.append(
                    (
                        item.device,
                        item.code,
                        alarm.id[: tables.ID_LENGTH],
                        alarm.state,
                        alarm.severity,
                        alarm.title[: tables.TITLE_LENGTH],
                        alarm.text[:MAX_ALARM_TEXT],
                        item.ms,
                        float(alarm.value) if is_number(alarm.value) else None,
                    )
                )
            case AckHeard():
                rows.acks.append(
                    (
                        item.device,
                        item.code,
                        item.id[: tables.ID_LENGTH],
                        item.by[: tables.DEVICE_LENGTH * 2],
                        item.ms,
                    )
                )
            case CommandHeard():
                rows.commands.append(item)
            case DecisionHeard():
                rows.decisions.append(item)
            case Gap():
                rows.gaps.append(item)

    def _device(self, item: StatusHeard | DocumentHeard, rows: Rows) -> None:
        """What a device says about itself moves forward only; its settings may come late."""
        old = rows.devices.get(item.device) or self.devices.get(item.device)
        if old is None and len(self.devices) + len(rows.devices) >= MAX_DEVICES:
            rows.bad += 1
            self.say("devices", f"there are {MAX_DEVICES} already; further ones are not stored")
            return
        row = old or Device(item.device)
        if isinstance(item, StatusHeard):
            if item.ms < (row.status_since or 0):
                return
            status = item.status
            row = replace(
                row,
                status=status.state,
                status_since=item.ms,
                status_reason=status.reason[: tables.TEXT_LENGTH],
            )
        elif item.kind == "info":
            if item.ms < document_ms(row.info):
                return
            self._introduce(item.device, row.info, item.document)
            row = replace(row, info=item.document)
        else:
            for name, value in _settings.decode(item.document).values.items():
                if value is not None and len(name) <= tables.NAME_LENGTH:
                    text = msgspec.json.encode(value).decode()
                    rows.settings.append(((item.device, name), item.ms, text))
            if item.ms < document_ms(row.settings):
                return
            row = replace(row, settings=item.document)
        if row != old:
            rows.devices[item.device] = replace(row, updated=max(row.updated, item.ms))

    def _introduce(self, device: str, before: str | None, now: str) -> None:
        """Say when a name stands for another device than before, or a device has another name."""
        serial = _serial(now)
        if serial is None:
            return
        known = _serial(before)
        if known == serial:
            return
        if known is not None:
            self.say(device, f"is another device now: {known} was replaced by {serial}")
        for other in self.devices.values():
            if other.name != device and _serial(other.info) == serial:
                self.say(
                    device,
                    f"is the device {serial} that was called {other.name}, or still is: what was"
                    " stored under that name stays there",
                )


def _plan(device: str, shape: Shape, values: dict[str, Value]) -> Plan | None:
    """How samples like this one are spread; None where it takes a look at each value."""
    columns = []
    ids: list[int] = []
    numbers: list[int] = []
    lists: list[tuple[int, tuple[int, ...]]] = []
    states: list[tuple[str, int]] = []
    places: list[int] = []
    has_ints = False
    for position, (name, value) in enumerate(values.items()):
        column = shape.columns.get(name)
        if column is None:
            if value is not None:
                return None
            column = Column(Kind.GAUGE, [])  # never readable so far, and of no known kind
        columns.append(column)
        known = [number for number in column.ids if number is not None]
        if value is None:
            continue
        if len(known) < len(column.ids):
            return None
        if column.kind is Kind.LIST:
            lists.append((position, tuple(known)))
        elif column.kind is Kind.STATE:
            states.append((name, known[0]))
            places.append(position)
        else:
            has_ints = has_ints or isinstance(value, int)
            ids.append(known[0])
            numbers.append(position)
    return Plan(
        device,
        tuple(columns),
        tuple(ids),
        _picker(numbers),
        has_ints,
        tuple(lists),
        tuple(states),
        _picker(places),
    )


def _picker(positions: list[int]) -> Pick:
    """Takes these positions out of a list, as a tuple."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda values: tuple([values[position] for position in positions])


def _newest(plan: Plan, ms: int, values: list[Value], rows: Rows) -> None:
    """The newest values of a shape, for the table ``latest``."""
    for column, value in zip(plan.columns, values, strict=True):
        if column.kind is Kind.STATE:
            word = None if value is None else as_text(value)[: tables.TEXT_LENGTH]
            latest: list[Latest] = [(ms, None, word, None)]
        elif isinstance(value, list):
            latest = [(ms, float(each), None, None) for each in value]  # type: ignore[arg-type]
        else:
            number = None if value is None else float(value)
            latest = [(ms, number, None, None)] * len(column.ids)
        for series, row in zip(column.ids, latest, strict=False):
            if series is not None:
                _put(rows, series, row)


def _put(rows: Rows, number: int, row: Latest) -> None:
    """What is newer is the latest."""
    known = rows.latest.get(number)
    if known is None or row[0] > known[0]:
        rows.latest[number] = row


def _number(
    rows: Rows,
    number: int,
    ms: int,
    value: float | None,
    mark: str | None,
    ids: list[int],
    numbers: list[float],
) -> None:
    """One number of one series: a sample unless its mark forbids that, and perhaps the newest."""
    if value is not None:
        value = float(value)
        if mark not in UNSTORED:
            ids.append(number)
            numbers.append(value)
    _put(rows, number, (ms, value, None, mark and mark[: tables.QUALITY_LENGTH]))


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a number that a DOUBLE holds; a truth is none."""
    if value.__class__ is float:
        return math.isfinite(value)
    return value.__class__ is int and -MAX_INT < value < MAX_INT


def guess(value: Value) -> Kind | None:
    """The kind of a quantity that the vocabulary does not have; None when its value says nothing.

    A number is a gauge: taking a counter for one costs nothing, the other way round would.
    """
    if value is None or value == []:
        return None
    if isinstance(value, list):
        if all(element is None for element in value):
            return None
        numbers = all(element is None or is_number(element) for element in value)
        return Kind.LIST if numbers else Kind.STATE
    return Kind.GAUGE if is_number(value) else Kind.STATE


def as_text(value: Value) -> str:
    """A state as it is stored: ``true``, a word, a number, or the elements joined by commas."""
    if isinstance(value, list):
        return ",".join(as_text(element) for element in value if element is not None)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def document_ms(document: str | None) -> int:
    """The time inside of a stored info or settings."""
    return 0 if document is None else clock.epoch_ms(clock.parse(json.loads(document)["ts"]))


def _serial(info: str | None) -> str | None:
    """Who a device is by its own account."""
    if info is None:
        return None
    found = json.loads(info)
    serial = found.get("serial")
    return f"{found.get('family')} {serial}" if serial else None
