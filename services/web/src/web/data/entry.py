"""Days typed by hand: text to energies of local days. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, tzinfo

from sunmesh.database.days import bounds
from sunmesh.database.energy import Change

from ..text import _, typed

MOST_LINES = 2000
MOST_KWH = 10_000.0
"""More in a day no house makes."""
DATES = (
    (re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})"), (0, 1, 2)),
    (re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})"), (0, 1, 2)),
    (re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})"), (2, 1, 0)),
)
"""Forms that mean one day only: 3/4/2026 is April here and March there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A day, and its energy."""

    line: int
    day: date
    kwh: float


@dataclass(frozen=True, slots=True)
class Wrong:
    """A line that is not understood, and why."""

    line: int
    typed: str
    why: str


def parse(typed: str, today: date) -> tuple[list[Entry], list[Wrong]]:
    """Lines such as ``2026-11-20 12,4`` as days, the earliest first, and those that are none."""
    found: dict[date, Entry] = {}
    wrong: list[Wrong] = []
    lines = typed.splitlines()
    for number, line in enumerate(lines[:MOST_LINES], 1):
        plain = line.strip()
        if not plain:
            continue
        try:
            entry = _entry(number, plain, today)
            if entry.day in found:
                raise ValueError(
                    _("this day stands in line %(line)s already", line=found[entry.day].line)
                )
            found[entry.day] = entry
        except ValueError as err:
            wrong.append(Wrong(number, plain[:60], str(err)))
    if len(lines) > MOST_LINES:
        why = _("more than %(most)s lines: bring them in as a file", most=MOST_LINES)
        wrong.append(Wrong(MOST_LINES + 1, lines[MOST_LINES][:60], why))
    return sorted(found.values(), key=lambda each: each.day), wrong


def _entry(number: int, plain: str, today: date) -> Entry:
    parts = re.split(r"[\s;|]+|(?<=\d),\s+|(?<=\d{4}-\d\d-\d\d),", plain, maxsplit=1)
    if len(parts) != 2:
        raise ValueError(_("write the day and its energy, such as 2026-11-20 12.4"))
    day = _day(parts[0].rstrip(","))
    if day >= today:
        raise ValueError(_("this day is not over yet"))
    text = re.sub(r"\s*kWh$", "", parts[1].strip(), flags=re.I)
    kwh = typed(text)
    if kwh is None or kwh < 0:
        raise ValueError(_("“%(text)s” is no energy such as 12.4", text=text[:20]))
    if kwh > MOST_KWH:
        raise ValueError(_("%(text)s kWh in a day cannot be", text=text))
    return Entry(number, day, kwh)


def _day(text: str) -> date:
    for form, (year, month, day) in DATES:
        found = form.fullmatch(text)
        if found is not None:
            numbers = [int(part) for part in found.groups()]
            try:
                made = date(numbers[year], numbers[month], numbers[day])
            except ValueError as err:
                raise ValueError(_("the calendar has no %(text)s", text=text)) from err
            if made.year < 2000:
                raise ValueError(_("days before 2000 are not kept"))
            return made
    raise ValueError(_("“%(text)s” is no day such as 2026-11-20", text=text[:20]))


def changes(entries: Iterable[Entry], flow: str, zone: tzinfo) -> list[Change]:
    """What the books are to say."""
    return [Change(flow, *bounds(entry.day, zone), entry.kwh * 1000) for entry in entries]
