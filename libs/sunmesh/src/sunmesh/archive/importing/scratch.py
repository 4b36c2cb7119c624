"""What was read from files, sorted on disk, so that millions of rows need little memory.

A private SQLite file in the folder for temporary files (``TMPDIR``); it goes with the plan.
"""

import math
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ...vocabulary import VOCABULARY, Kind
from . import times
from .records import Energy, Record, Refused, Row, Settings, Warned

BATCH = 20_000
PLACE = 40
"""Bits of a line number; above them stands which file it is."""
SHOWN = 200
"""Lines that are kept of each kind of problem; the others are counted."""

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32000;
CREATE TABLE staged (series INT, ms INT, value REAL, line INT, twice INT DEFAULT 0,
    PRIMARY KEY (series, ms)) WITHOUT ROWID;
CREATE TABLE word (series INT, ms INT, value TEXT, line INT, twice INT DEFAULT 0,
    PRIMARY KEY (series, ms)) WITHOUT ROWID;
CREATE TABLE setting (series INT, ms INT, value TEXT, line INT, twice INT DEFAULT 0,
    PRIMARY KEY (series, ms)) WITHOUT ROWID;
CREATE TABLE energy (flow TEXT, start INT, end INT, value REAL, line INT, twice INT DEFAULT 0,
    PRIMARY KEY (flow, start, end)) WITHOUT ROWID;
CREATE TABLE fresh (series INT, ms INT, value REAL, PRIMARY KEY (series, ms)) WITHOUT ROWID;
CREATE TABLE fresh_word (series INT, ms INT, value TEXT, PRIMARY KEY (series, ms)) WITHOUT ROWID;
CREATE TABLE fresh_setting (series INT, ms INT, value TEXT, PRIMARY KEY (series, ms)) WITHOUT ROWID;
CREATE TABLE fresh_energy (flow TEXT, start INT, end INT, wh REAL, PRIMARY KEY (flow, start))
    WITHOUT ROWID;
CREATE TABLE difference (day TEXT, target TEXT, unit TEXT, measure TEXT, there INT, new INT,
    same INT, conflicts INT, covered INT, before REAL, after REAL,
    PRIMARY KEY (day, target)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Problems:
    """Lines and what is wrong with them: the first some, and how many there are."""

    count: int = 0
    first: list[tuple[int, int, str]] = field(default_factory=list)
    _last: tuple[int, int, str] = (-1, 0, "")

    def add(self, place: int, line: int, reason: str) -> None:
        """One more; the same again about the same line counts once."""
        if (place, line, reason) == self._last:
            return
        self._last = (place, line, reason)
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append((place, line, reason))


@dataclass(frozen=True, slots=True)
class Series:
    """A series of the mesh that the files have something for."""

    device: str
    name: str
    kind: Kind

    @property
    def label(self) -> str:
        """``device.quantity``."""
        return f"{self.device}.{self.name}"

    @property
    def entry_sign(self) -> str:
        """What the vocabulary says of its sign."""
        entry = VOCABULARY.get(self.name.partition("/")[0])
        return entry.sign if entry else ""


def insert(table: str) -> str:
    """Statement that stages a row, and marks one that comes twice with different values."""
    key, names = (
        ("flow, start, end", "flow, start, end, value, line")
        if table == "energy"
        else ("series, ms", "series, ms, value, line")
    )
    marks = ", ".join("?" * (names.count(",") + 1))
    return (
        f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET"  # noqa: S608
        " twice = twice + (value != excluded.value)"
    )


class Scratch:
    """Takes records, and gives them back sorted.

    Args:
        known: kinds of series that the database has already.
        now_ms: our clock; what is later is refused.
    """

    def __init__(self, known: Mapping[tuple[str, str], Kind], now_ms: int) -> None:
        # Without a name SQLite takes a file that nobody else sees, and that goes with the process.
        self.db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self.db.executescript(_TABLES)
        self.series: list[Series] = []
        self.settings: list[tuple[str, str]] = []
        self.refused = Problems()
        self.warned = Problems()
        self.read = 0
        self._known = known
        self._now = now_ms
        self._numbers: dict[tuple[str, str], int] = {}
        self._setting_numbers: dict[tuple[str, str], int] = {}
        self._rows: dict[str, list[tuple[object, ...]]] = {
            table: [] for table in ("staged", "word", "setting", "energy")
        }

    def close(self) -> None:
        """Remove the file."""
        self.db.close()

    def take(self, records: Iterator[tuple[int, Record]]) -> Iterator[int]:
        """Stage all of ``records``; yields how many have been, now and then."""
        self.db.execute("BEGIN")
        for place, record in records:
            match record:
                case Row():
                    self._row(place, record)
                case Energy():
                    self._energy(place, record)
                case Settings():
                    self._settings(place, record)
                case Refused():
                    self.refused.add(place, record.line, record.reason)
                case Warned():
                    self.warned.add(place, record.line, record.reason)
            self.read += 1
            if self.read % BATCH == 0:
                self._flush()
                yield self.read
        self._flush()
        self.db.execute("COMMIT")
        yield self.read

    def _flush(self) -> None:
        for table, rows in self._rows.items():
            if rows:
                self.db.executemany(insert(table), rows)
                rows.clear()

    def _is_refused(self, place: int, line: int, ms: int) -> bool:
        why = times.is_plausible(ms, self._now)
        if why:
            self.refused.add(place, line, why)
        return why is not None

    def _row(self, place: int, row: Row) -> None:
        if self._is_refused(place, row.line, row.ms):
            return
        line = place << PLACE | row.line
        for name, value in row.values.items():
            if value is None:
                continue
            key = (row.device, name)
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = len(self.series)
                self.series.append(Series(row.device, name, self._kind(key, value)))
            series = self.series[number]
            if series.kind is Kind.STATE:
                self._rows["word"].append((number, row.ms, _text(value), line))
                continue
            try:
                real = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                self.refused.add(place, row.line, f"{name}: {value!r} is no number")
                continue
            if not math.isfinite(real) or abs(real) > 1e12:
                self.refused.add(place, row.line, f"{name}: {real:g} is no reading")
            elif real < 0 and series.entry_sign == "≥ 0":
                self.refused.add(
                    place, row.line, f"{name}: {real:g} is below 0, which it cannot be"
                )
            else:
                self._rows["staged"].append((number, row.ms, real + 0.0, line))

    def _kind(self, key: tuple[str, str], value: object) -> Kind:
        if key in self._known:
            return self._known[key]
        base, _, element = key[1].partition("/")
        if base in VOCABULARY:
            return VOCABULARY[base].kind
        if element:
            return Kind.LIST
        if isinstance(value, str):
            try:
                float(value)
            except ValueError:
                return Kind.STATE
        return Kind.STATE if isinstance(value, bool) else Kind.GAUGE

    def _settings(self, place: int, row: Settings) -> None:
        if self._is_refused(place, row.line, row.ms):
            return
        for name, value in row.values.items():
            key = (row.device, name)
            number = self._setting_numbers.setdefault(key, len(self.settings))
            if number == len(self.settings):
                self.settings.append(key)
            text = _json(value)
            self._rows["setting"].append((number, row.ms, text, place << PLACE | row.line))

    def _energy(self, place: int, row: Energy) -> None:
        if self._is_refused(place, row.line, row.start):
            return
        if row.end > self._now:
            self.refused.add(place, row.line, f"{row.flow}: its period is not over yet")
        elif row.wh < 0 or not math.isfinite(row.wh):
            self.refused.add(place, row.line, f"{row.flow}: {row.wh / 1000:g} kWh is no energy")
        elif row.wh > 1e9:
            self.refused.add(place, row.line, f"{row.flow}: {row.wh / 1000:g} kWh; wrong unit?")
        else:
            line = place << PLACE | row.line
            self._rows["energy"].append((row.flow, row.start, row.end, row.wh + 0.0, line))


def _text(value: object) -> str:
    """A state as the recorder stores it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return ",".join(_text(each) for each in value if each is not None)
    return str(value)[:255]


def _json(value: object) -> str:
    import msgspec

    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return msgspec.json.encode(value).decode()


def where(line: int) -> tuple[int, int]:
    """Which file, and which line of it."""
    return line >> PLACE, line & ((1 << PLACE) - 1)
