"""Readings from the database: samples where they are, else minutes.

Samples are deleted after some weeks, minutes after some years. A stretch is read from minutes where
it has no samples, and before the first of its samples. A minute's mean stands in its middle, a
counter's last reading near its end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, select
from sunmesh import clock
from sunmesh.database import energy, tables
from sunmesh.house import Flow, FlowFeed

from .books import Counter, Feed, Load, Power
from .integrate import Reading
from .site_model import Model

MINUTE_MS = 60_000
DAY_MS = 86_400_000
PIECE_MS = {"sample": DAY_MS, "minute": 7 * DAY_MS}
"""So much of a series comes from a server as one JSON text: a tenth of the time that rows take."""
LATEST = 200
"""Readings that a counter's smallest step is found from."""
ENOUGH = 20
"""So many different readings show it for sure."""
KNOWN_MS, GUESSED_MS = 86_400_000, 900_000
"""How long a step that is found is believed, for sure or not."""
STEPS_KWH = (1.0, 0.1, 0.01, 0.001)
DEFAULT_STEP_KWH = 0.01

SLOT_MS = 50_000
"""Of a counter one reading in so long is enough, the first; six of them make a bucket."""
MINUTES_SLOT_MS = 150_000
"""And of its minutes the last in so long."""
LOOK_MS = 5_000
"""A usual pause between two readings of a power."""
PAUSE_MS = 200_000
"""Over a pause of a counter that is longer than this, power is asked for the shape."""
FLAT_MS = 600_000
"""A counter that stands still for longer may be stuck; power says whether it is."""
FLOWS_W = 50.0
"""A counter may stand still at less than this."""
PAD_MS = 600_000
"""Power is asked for so far around a pause."""

MIDDLE_SQL = f"ts + CASE WHEN covered_ms > {MINUTE_MS} THEN covered_ms ELSE {MINUTE_MS} END {{}} 2"
"""A row of minutes also tells of those without a sample after it."""
END_SQL = f"ts + {MINUTE_MS} - {MINUTE_MS // 2} {{}} samples"
"""When a minute's last reading was, on average: half a pause between two before its end."""

_decoder = msgspec.json.Decoder(list[tuple[int, float]])


@dataclass(slots=True)
class Span:
    """From when to when a series has readings [ms]; None = never."""

    first: int | None
    last: int | None
    raw_first: int | None
    """From when on it has samples."""


class Reader:
    """Reads for one pass, on one connection with one view of the database.

    Args:
        connection: in a transaction that sees one state of the tables.
        model: what feeds what.
        steps: smallest steps of counters, and until when they are believed [ms]; added to.
    """

    def __init__(
        self,
        connection: Connection,
        model: Model,
        steps: dict[int, tuple[float, int]] | None = None,
    ) -> None:
        self._connection = connection
        self._model = model
        self._steps = {} if steps is None else steps
        self._now = clock.epoch_ms(clock.now())
        self._sqlite = connection.dialect.name == "sqlite"
        self._spans: dict[int, Span] = {}
        self._kept: dict[tuple[int, int, int, int, bool], list[Reading]] = {}
        self._flowing: dict[tuple[int, int, int, int], bool] = {}
        energy.allow_long_texts(connection)

    # -- what the engine asks for -----------------------------------------------------------------

    def load(self, flow: Flow) -> Load:
        """The engine's way to the readings of one flow."""

        def load(start: int, end: int, more: int) -> Sequence[Feed]:
            return [
                self._feed(flow, feed, start, end, more)
                for feed in flow.feeds
                if self._model.series_of(feed) and self._is_part(feed, start, end)
            ]

        return load

    def forget(self) -> None:
        """Drop what was read; the next stretch needs other readings."""
        self._kept.clear()
        self._flowing.clear()

    def _is_part(self, feed: FlowFeed, start: int, end: int) -> bool:
        """Whether the device was there: from its first reading on, and to the last of a former one.

        One that is silent stays a part, so that its silence is not taken for a smaller total.
        """
        spans = [self.span(self._model.ids[pair]) for pair in self._model.series_of(feed)]
        first = min((span.first for span in spans if span.first is not None), default=None)
        last = max((span.last for span in spans if span.last is not None), default=None)
        if first is None or last is None or first >= end + DAY_MS:
            return False
        return feed.device in self._model.configured or last >= start - DAY_MS

    def _feed(self, flow: Flow, feed: FlowFeed, start: int, end: int, more: int) -> Feed:
        def counter(name: str) -> Counter | None:
            number = self._model.ids.get((feed.device, name))
            if number is None:
                return None
            step = flow.resolution_kwh or self._step(number)
            readings = self.readings(number, start, end, more, counter=True)
            return Counter(readings, flow.max_power_w, step, flow.wraps_at_kwh)

        lifetime = counter(feed.lifetime)
        # Where there is a lifetime counter the day's would only be read for nothing: every night it
        # stands at 0 for hours, and all of them would have to be looked through.
        day = None if lifetime else counter(feed.day)
        exact = lifetime or day
        numbers = [self._model.ids.get((feed.device, name)) for name in feed.power]
        known = [number for number in numbers if number is not None]
        if not known or len(known) < len(numbers):
            return Feed(lifetime, day)
        if exact is None or exact.coarse or not exact.readings:
            parts = [self.readings(n, start, end, more, counter=False) for n in known]
            return Feed(lifetime, day, Power(_joined(parts, product=feed.product), feed.sign))
        # A fine counter knows it all but where it pauses or is stuck: only there power is asked.
        holes = pauses(
            exact.readings,
            start,
            end,
            lambda low, high: any(self._flows(n, low, high, feed.sign) for n in known),
        )
        if not holes:
            return Feed(lifetime, day)
        parts = [
            [reading for low, high in holes for reading in self._between(n, low, high, False)]
            for n in known
        ]
        return Feed(lifetime, day, Power(_joined(parts, product=feed.product), feed.sign))

    # -- series ------------------------------------------------------------------------------------

    def readings(
        self, number: int, start: int, end: int, more: int = 0, *, counter: bool
    ) -> list[Reading]:
        """A series in [start, end), at least the last ``more`` before and the first ``more`` after.

        A counter's are thinned out: what it counted between two readings stays the same.
        """
        key = (number, start, end, more, counter)
        if key not in self._kept:
            self._kept[key] = [
                *self._before(number, start, more, counter),
                *self._between(number, start, end, counter),
                *self._after(number, end, more, counter),
            ]
        return self._kept[key]

    def thinned(self, number: int, start: int, end: int) -> list[Reading]:
        """A series by the minute where that is made already, and by the sample after it."""
        minutes = self._minutes(number, start, end, counter=False)
        since = minutes[-1][0] + MINUTE_MS // 2 if minutes else start
        return [*minutes, *self._raw(number, since, end)]

    def _between(self, number: int, start: int, end: int, counter: bool) -> list[Reading]:
        span = self.span(number)
        old = end if span.raw_first is None else min(end, span.raw_first)
        found: list[Reading] = []
        if start < old:
            found = self._old(number, start, old, counter)
        for begin in range(max(start, old), end, DAY_MS):
            finish = min(begin + DAY_MS, end)
            raw = self._raw(number, begin, finish)
            until = raw[0][0] if raw else finish
            if until - begin >= MINUTE_MS:
                found += self._old(number, begin, until, counter)
            found += _thinned(raw) if counter else raw
        return found

    def _old(self, number: int, start: int, end: int, counter: bool) -> list[Reading]:
        """Minutes of a stretch without samples."""
        span = self.span(number)
        if span.first is None or span.first >= end:
            return []
        minutes = self._minutes(number, start, end, counter)
        return _thinned_minutes(minutes) if counter else minutes

    def _raw(self, number: int, start: int, end: int) -> list[Reading]:
        if self._sqlite:
            return [
                (ts, value)
                for ts, value in self._rows(
                    "SELECT ts, value FROM sample WHERE series_id = ? AND ts >= ? AND ts < ?"
                    " ORDER BY ts",
                    (number, start, end),
                )
            ]
        return self._pieces("sample", "ts, ',', value", number, start, end)

    def _minutes(self, number: int, start: int, end: int, counter: bool) -> list[Reading]:
        """Minutes that lie in [start, end) as a whole."""
        read = " AND samples > 0" if counter else ""
        if self._sqlite:
            moment = END_SQL if counter else MIDDLE_SQL
            columns = f"{moment.format('/')}, {'`last`' if counter else 'mean'}"
            return [
                (ts, value)
                for ts, value in self._rows(
                    f"SELECT {columns} FROM minute"  # noqa: S608 - words of ours
                    f" WHERE series_id = ? AND ts >= ? AND ts <= ?{read} ORDER BY ts",
                    (number, start, end - MINUTE_MS),
                )
            ]
        moment = END_SQL if counter else MIDDLE_SQL
        columns = f"CAST({moment.format('DIV')} AS SIGNED), ',', {'`last`' if counter else 'mean'}"
        return self._pieces("minute", columns, number, start, end - MINUTE_MS + 1, read)

    def _pieces(
        self, table: str, columns: str, number: int, start: int, end: int, more: str = ""
    ) -> list[Reading]:
        found: list[Reading] = []
        piece = PIECE_MS[table]
        for begin in range(start, end, piece):
            # One group and no ORDER BY: the server walks the key in its order, five times as fast.
            [(text,)] = self._rows(
                f"SELECT CONCAT('[', GROUP_CONCAT('[', {columns}, ']'), ']')"  # noqa: S608
                f" FROM {table} WHERE series_id = %s AND ts >= %s AND ts < %s{more}",
                (number, begin, min(begin + piece, end)),
            )
            if text is not None:
                found += _decoder.decode(text)
        found.sort()  # costs next to nothing, and no server promises an order
        return found

    def _before(self, number: int, start: int, more: int, counter: bool) -> list[Reading]:
        """At least the last ``more`` readings before ``start``, rising."""
        if more <= 0 or self._none(number, None, start):
            return []
        return self._reach(number, start, more, counter, forward=False)

    def _after(self, number: int, end: int, more: int, counter: bool) -> list[Reading]:
        """At least the first ``more`` readings from ``end`` on, rising."""
        if more <= 0 or self._none(number, end, None):
            return []
        return self._reach(number, end, more, counter, forward=True)

    def _reach(
        self, number: int, ts: int, more: int, counter: bool, *, forward: bool
    ) -> list[Reading]:
        """Look farther and farther away from ``ts`` until there are enough readings."""
        span = self.span(number)
        first, last = span.first or 0, span.last or 0
        found: list[Reading] = []
        near, reach = ts, more * (SLOT_MS if counter else LOOK_MS)
        while len(found) < more:
            if forward and near <= last:
                far = min(near + reach, last + 1)
                found += self._between(number, near, far, counter)
            elif not forward and near > first:
                far = max(near - reach, first)
                found[:0] = self._between(number, far, near, counter)
            else:
                break
            near, reach = far, reach * 2
        return found

    def _none(self, number: int, start: int | None, end: int | None) -> bool:
        """Whether a series surely has nothing from ``start``, or nothing before ``end``."""
        span = self.span(number)
        if span.first is None or span.last is None:
            return True
        return (start is not None and span.last < start) or (end is not None and span.first >= end)

    def _flows(self, number: int, start: int, end: int, sign: int) -> bool:
        """Whether a power had a value worth counting in a stretch."""
        key = (number, start, end, sign)
        if key not in self._flowing:
            self._flowing[key] = self._flowed(number, start, end, sign)
        return self._flowing[key]

    def _flowed(self, number: int, start: int, end: int, sign: int) -> bool:
        place = "?" if self._sqlite else "%s"
        for table, column in (("sample", "value"), ("minute", "mean")):
            [(least, most)] = self._rows(
                f"SELECT MIN({column}), MAX({column}) FROM {table}"  # noqa: S608 - words of ours
                f" WHERE series_id = {place} AND ts >= {place} AND ts < {place}",
                (number, start, end),
            )
            if least is not None:
                return bool((most if sign > 0 else -least) > FLOWS_W)
        return False

    def span(self, number: int) -> Span:
        """From when to when a series has readings."""
        if number not in self._spans:
            self._look_at({number, *self._model.all_series()} - self._spans.keys())
        return self._spans[number]

    def _look_at(self, numbers: set[int]) -> None:
        """The ends of some series in one question, each of its parts the end of an index."""
        columns = ", ".join(
            f"(SELECT {which}(ts) FROM {table} WHERE series_id = {{0}})"  # noqa: S608 - a number
            for table in ("sample", "minute")
            for which in ("MIN", "MAX")
        )
        parts = [f"SELECT {{0}}, {columns}".format(number) for number in sorted(numbers)]
        for number, *ends in self._rows(" UNION ALL ".join(parts), ()):
            times = [None if ts is None else int(ts) for ts in ends]
            known = [ts for ts in times if ts is not None]
            self._spans[number] = Span(min(known, default=None), max(known, default=None), times[0])

    def horizon(self) -> int | None:
        """The first reading of any series that feeds the books; what was before stays as it is."""
        firsts = [self.span(number).first for number in self._model.all_series()]
        return min((first for first in firsts if first is not None), default=None)

    def _step(self, number: int) -> float:
        """The smallest step that a counter shows [kWh]: what all its readings are a multiple of."""
        known = self._steps.get(number)
        if known is not None and known[1] > self._now:
            return known[0]
        values: set[float] = set()
        for table, column in (
            *((tables.hour, "last"), (tables.minute, "last")),
            (tables.sample, "value"),
        ):
            values |= set(
                self._connection.execute(
                    select(table.c[column])
                    .where(table.c.series_id == number)
                    .order_by(table.c.ts.desc())
                    .limit(LATEST)
                ).scalars()
            )
        step = DEFAULT_STEP_KWH
        if len(values) > 1:
            multiples = (s for s in STEPS_KWH if all(_is_multiple(value, s) for value in values))
            step = next(multiples, STEPS_KWH[-1])
        kept_ms = KNOWN_MS if len(values) >= ENOUGH else GUESSED_MS
        self._steps[number] = (step, self._now + kept_ms)
        return step

    def _rows(self, statement: str, parameters: tuple[int, ...]) -> Sequence[Any]:
        return self._connection.exec_driver_sql(statement, parameters).fetchall()


def _is_multiple(value: float, step: float) -> bool:
    parts = value / step
    return abs(parts - round(parts)) < 1e-6 * max(1.0, abs(parts))


def _thinned(readings: Sequence[Reading]) -> list[Reading]:
    """The first reading of each slot."""
    kept: list[Reading] = []
    edge = -1
    for reading in readings:
        ts = reading[0]
        if ts >= edge:
            kept.append(reading)
            edge = ts - ts % SLOT_MS + SLOT_MS
    return kept


def _thinned_minutes(readings: Sequence[Reading]) -> list[Reading]:
    """The last reading of each slot."""
    return [
        reading
        for reading, after in zip(readings, [*readings[1:], (1 << 62, 0.0)], strict=False)
        if reading[0] // MINUTES_SLOT_MS != after[0] // MINUTES_SLOT_MS
    ]


def pauses(
    readings: Sequence[Reading], start: int, end: int, flows: Callable[[int, int], bool]
) -> list[tuple[int, int]]:
    """Stretches of which a counter's readings do not tell all, with some time around them.

    Args:
        readings: of the counter, rising in time.
        start: first moment that is asked about [ms].
        end: first moment after it.
        flows: whether there was power in a stretch.
    """
    holes: list[tuple[int, int]] = []
    flat, level = readings[0]
    before = flat
    is_known = True  # all of the flat is a hole already
    if flat - start > PAUSE_MS:
        holes.append((start, flat))
    for ts, value in readings:
        if value != level:
            if not is_known and before - flat > FLAT_MS and flows(flat, before):
                holes.append((flat, before))
            flat, level, is_known = before, value, True
        if ts - before > PAUSE_MS:
            holes.append((before, ts))
        elif ts > before:
            is_known = False
        before = ts
    if not is_known and before - flat > FLAT_MS and flows(flat, before):
        holes.append((flat, before))
    if end - before > PAUSE_MS:
        holes.append((before, end))
    found: list[tuple[int, int]] = []
    for low, high in sorted(holes):
        if found and low - PAD_MS <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high + PAD_MS))
        else:
            found.append((low - PAD_MS, high + PAD_MS))
    return found


def _joined(parts: Sequence[list[Reading]], *, product: bool) -> Sequence[Reading]:
    """Several series of one device as one: added, or multiplied, where all have a reading."""
    if len(parts) == 1:
        return parts[0]
    join: Callable[[float, float], float] = (
        (lambda a, b: a * b) if product else (lambda a, b: a + b)
    )
    found = dict(parts[0])
    for part in parts[1:]:
        found = {ts: join(found[ts], value) for ts, value in part if ts in found}
    return list(found.items())
