"""Values under mapped columns, made into records: what mapped formats share."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ...clock import epoch_ms, from_ms
from ...messages import Value
from .files import MISSING, number
from .mapping import PERIODS, Column, Target
from .records import Energy, Record, Refused, Row, Warned

ROUND = 12
"""Digits kept after a conversion: 0.1 + 0.2 is 0.3."""


def day_of(ms: int, zone: ZoneInfo) -> tuple[int, int]:
    """Start and end of the local day that ``ms`` lies in [ms UTC]."""
    local = from_ms(ms).astimezone(zone)
    start = datetime(local.year, local.month, local.day, tzinfo=zone)
    after = start.date() + timedelta(days=1)
    end = datetime(after.year, after.month, after.day, tzinfo=zone)
    return epoch_ms(start), epoch_ms(end)


class Extractor:
    """Makes the records of one line after the other."""

    def __init__(self, targets: Iterable[tuple[int, Target]], zone: ZoneInfo) -> None:
        """``targets`` with the index of their cell; ``zone`` of the days of energies."""
        self._targets = list(targets)
        self._zone = zone
        self._totals: dict[int, tuple[int, float]] = {}

    def records(
        self, line: int, ms: int, cells: Sequence[str | float | None], decimal: str = "."
    ) -> Iterator[Record]:
        """What a line says."""
        rows: dict[str, dict[str, Value]] = {}
        for index, target in self._targets:
            cell = cells[index] if index < len(cells) else None
            if cell is None:
                continue
            if target.is_state:
                word = target.word(str(cell))
                if word.lower() not in MISSING:
                    rows.setdefault(target.device, {})[target.name] = word
                continue
            try:
                value = number(cell, decimal) if isinstance(cell, str) else cell
            except ValueError:
                if str(cell).strip() in target.column.words:
                    value = float(target.column.words[str(cell).strip()])
                else:
                    yield Refused(line, f"{target.column.name}: {cell!r} is no number")
                    continue
            if value is None:
                continue
            value = float(f"{target.number(value):.{ROUND}g}")
            if target.quantity is None:
                yield from self._energy(line, ms, target, value)
            else:
                rows.setdefault(target.device, {})[target.name] = value
        for device, values in rows.items():
            yield Row(line, ms, device, values)

    def _energy(self, line: int, ms: int, target: Target, wh: float) -> Iterator[Record]:
        column = target.column
        if column.period == "total":
            yield from self.total(line, ms, target, wh)
            return
        span = period(column, ms, self._zone)
        if isinstance(span, str):
            yield Refused(line, span)
        else:
            yield Energy(line, target.name, *span, wh)

    def total(self, line: int, ms: int, target: Target, wh: float) -> Iterator[Record]:
        """The difference of a running total to the reading before it."""
        key = id(target)
        before = self._totals.get(key)
        if before is not None and ms < before[0]:
            yield Refused(line, f"{target.column.name}: a running total must go forward in time")
            return
        self._totals[key] = (ms, wh)
        if before is None or ms == before[0]:
            return
        if wh < before[1]:
            yield Warned(
                line,
                f"{target.column.name}: the total falls by {(before[1] - wh) / 1000:.3f} kWh; "
                "no energy is taken from that step",
            )
        elif wh > before[1]:
            yield Energy(line, target.name, before[0], ms, wh - before[1])


def period(column: Column, ms: int, zone: ZoneInfo) -> tuple[int, int] | str:
    """Start and end of what an energy at ``ms`` is of; or why that cannot be."""
    if (column.period or "day") == "day":
        return day_of(ms - 1 if column.at == "end" else ms, zone)
    length = PERIODS[column.period or "hour"]
    start = ms - length if column.at == "end" else ms
    if start % 300_000:
        return f"{column.name}: a period of 5 minutes and its multiples starts at one"
    return start, start + length
