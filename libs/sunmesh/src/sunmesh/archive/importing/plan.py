"""What an import would do, day by day; making a plan changes nothing in the database.

A sample goes in where its series has none. Where it has one at that very moment, an equal one is
*there already* and another is a *conflict*: the database's stays. Where the database has samples of
its own in the same five minutes (or, of a time whose raw samples have been retired, in the same
hour) the file's are *covered*: two sources of a counter in turn would be nonsense. Energies go into
the books where these say nothing; ``replace`` lets the file win.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from ... import clock
from ...database import tables
from ...database.days import days_between, local_day
from ...database.sql import engine
from ...topics import NAME, RESERVED
from ...vocabulary import VOCABULARY, Kind, unit_of
from . import files, formats, retired, stamps
from .columns import day_of
from .mapping import Mapping
from .records import Format, ImportRefusedError, Options
from .scratch import Problems, Scratch, Series, where
from .times import HOUR_MS, text_of

PAGE = 20_000
BUCKET = tables.BUCKET_MS
ALIKE = 1e-9
"""Values closer than this part of themselves are the same: a float written and read again."""

Progress = Callable[[str, int], None]
"""What is being done, and how far it is."""


class Day(NamedTuple):
    """One line of a plan: a day of one series or flow.

    Attributes:
        day: local to the site, ISO.
        target: ``device.quantity`` or ``flow pv``.
        unit: of ``before`` and ``after``.
        measure: ``mean``, ``rise`` (a counter's), ``changes`` (of a state or setting) or ``sum``.
        there: samples there now, or stretches of energy.
        new: that would come.
        same: of the file that are there already.
        conflicts: of the file that differ; the database's stay.
        covered: of the file that are left out, as the database has its own.
        before: the day's figure now; None = nothing known.
        after: as it would be.
    """

    day: str
    target: str
    unit: str
    measure: str
    there: int
    new: int
    same: int
    conflicts: int
    covered: int
    before: float | None
    after: float | None


@dataclass(slots=True)
class Counts:
    """Of the whole plan."""

    samples: int = 0
    states: int = 0
    settings: int = 0
    energies: int = 0
    same: int = 0
    conflicts: int = 0
    covered: int = 0

    @property
    def new(self) -> int:
        """What would be stored."""
        return self.samples + self.states + self.settings + self.energies


@dataclass(slots=True)
class Source:
    """A file of the plan."""

    path: Path
    sha256: str
    size: int


@dataclass(slots=True)
class Plan:
    """The files compared with the database; what :func:`batches.apply` stores.

    A plan holds a temporary file: close it, or use it in a ``with``.
    """

    format: Format
    sources: list[Source]
    options: Options
    replace: bool
    scratch: Scratch
    counts: Counts = field(default_factory=Counts)
    conflicts: Problems = field(default_factory=Problems)
    twice: Problems = field(default_factory=Problems)
    ids: dict[int, int] = field(default_factory=dict)
    hours: dict[int, int] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __enter__(self) -> "Plan":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        self.scratch.close()

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to store."""
        return self.counts.new == 0

    @property
    def refused(self) -> Problems:
        """Lines that make no sense."""
        return self.scratch.refused

    @property
    def warned(self) -> Problems:
        """Lines that are odd."""
        return self.scratch.warned

    def days(self) -> Iterator[Day]:
        """Every day that the files speak of, by day and target."""
        for row in self.scratch.db.execute("SELECT * FROM difference ORDER BY day, target"):
            yield Day(*row)

    def names(self, place: int) -> str:
        """The name of the file with that number."""
        return self.sources[place].path.name


def make(
    url: str,
    chosen: Format,
    paths: Sequence[Path],
    options: Options,
    *,
    replace: bool = False,
    progress: Progress = lambda what, done: None,
    now_ms: int | None = None,
) -> Plan:
    """Read files and compare them with the database.

    Args:
        url: the site's database; nothing is written to it.
        chosen: what the files are.
        paths: those that belong together.
        options: how to read them.
        replace: energies of the file win over what the books have.
        progress: told now and then.
        now_ms: our clock.

    Raises:
        ImportRefusedError: a file is not what it is called, or cannot be read.
        SQLAlchemyError: the database does not answer.
    """
    formats.check(chosen, paths)
    sources = [Source(path, files.digest(path), path.stat().st_size) for path in paths]
    opened = engine(url, read_only=True, patient=True)
    scratch: Scratch | None = None
    try:
        with opened.connect() as connection:
            found = {
                (row.device, row.name): (row.id, Kind(row.kind))
                for row in connection.execute(select(tables.series))
            }
        now_ms = clock.epoch_ms(clock.now()) if now_ms is None else now_ms
        scratch = Scratch({key: kind for key, (_id, kind) in found.items()}, now_ms)
        plan = Plan(chosen, sources, options, replace, scratch)
        for done in scratch.take(chosen.read(list(paths), options)):
            progress("read", done)
        plan.ids = {
            index: found[key][0]
            for index, each in enumerate(scratch.series)
            if (key := (each.device, each.name)) in found
        }
        with opened.connect() as connection:
            _Comparison(plan, connection, progress).run()
    except BaseException:
        if scratch is not None:
            scratch.close()
        raise
    finally:
        opened.dispose()
    return plan


def options_of(
    site_zone: ZoneInfo,
    families: Iterable[tuple[str, str]] = (),
    chosen: Format | None = None,
    *,
    zone: ZoneInfo | None = None,
    devices: Iterable[str] = (),
    mapping: Mapping | None = None,
) -> Options:
    """Options from what the site and the owner say.

    Args:
        site_zone: of the site.
        families: name and family of its devices.
        chosen: the format, for its roles.
        zone: of times without one; by default the site's.
        devices: ``NAME``, or ``ROLE=NAME``.
        mapping: columns to quantities.

    Raises:
        ImportRefusedError: a role that the format does not know, or no name of a device.
    """
    roles = {role.name: role for role in chosen.roles} if chosen else {}
    named: dict[str, str] = {}
    for role in roles.values():
        mine = [name for name, family in families if family and family == role.family]
        if len(mine) == 1 or role.default:
            named[role.name] = mine[0] if len(mine) == 1 else role.default
    for given in devices:
        key, equals, name = given.rpartition("=")
        if not equals:
            key = next(iter(roles), "")
        if key not in roles:
            raise ImportRefusedError(
                f"--device {given}: "
                + (f"roles are {', '.join(roles)}" if roles else "this format names its devices")
            )
        if not NAME.fullmatch(name) or name in RESERVED:
            raise ImportRefusedError(f"--device {given}: a name is 1 to 32 of a-z, 0-9 and -")
        named[key] = name
    return Options(zone or site_zone, site_zone, named, mapping)


# -- comparing -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Figures:
    """What a day of a series comes to."""

    there: int = 0
    new: int = 0
    same: int = 0
    conflicts: int = 0
    covered: int = 0
    sum_before: float = 0.0
    sum_after: float = 0.0
    before: tuple[float, float] | None = None
    after: tuple[float, float] | None = None

    @property
    def staged(self) -> int:
        """Values that the files have."""
        return self.new + self.same + self.conflicts + self.covered

    def add(self, value: float, is_new: bool) -> None:
        """One value of the day, in order of time."""
        self.after = (self.after[0] if self.after else value, value)
        self.sum_after += value
        if is_new:
            self.new += 1
        else:
            self.there += 1
            self.sum_before += value
            self.before = (self.before[0] if self.before else value, value)


class _Comparison:
    """Goes through everything staged, one series after the other."""

    def __init__(self, plan: Plan, connection: Connection, progress: Progress) -> None:
        self._plan = plan
        self._db = plan.scratch.db
        self._connection = connection
        self._progress = progress
        self._zone = plan.options.site_zone
        self._day = (1, 0, "")
        self._done = 0
        self._fresh: list[tuple[int, int, float]] = []
        self._horizon = retired.horizons(connection).get("sample", 0)

    def run(self) -> None:
        """All of it."""
        self._db.execute("BEGIN")
        self._clashes()
        for index, series in enumerate(self._plan.scratch.series):
            if series.kind is Kind.STATE:
                self._states(index, series)
            else:
                self._numbers(index, series)
        self._settings()
        self._energies()
        self._db.execute("COMMIT")

    def _clashes(self) -> None:
        """The same moment twice with different values: the first stands."""
        for table in ("staged", "word", "setting", "energy"):
            for line, twice in self._db.execute(
                f"SELECT line, twice FROM {table} WHERE twice > 0"  # noqa: S608 - four names
            ):
                place, number = where(line)
                times = "again" if twice == 1 else f"{twice} times again"
                self._plan.twice.add(place, number, f"comes {times} with another value")

    def _day_of(self, ms: int) -> str:
        start, end, name = self._day
        if not start <= ms < end:
            start, end = day_of(ms, self._zone)
            name = clock.from_ms(start).astimezone(self._zone).date().isoformat()
            self._day = (start, end, name)
        return name

    # -- numbers

    def _numbers(self, index: int, series: Series) -> None:
        first, last = self._db.execute(
            "SELECT MIN(ms), MAX(ms) FROM staged WHERE series = ?", (index,)
        ).fetchone()
        if first is None:
            return
        self._warn_of_falls(index, series)
        staged = self._db.execute(
            "SELECT ms, value, line FROM staged WHERE series = ? ORDER BY ms", (index,)
        )
        number = self._plan.ids.get(index)
        start, end = day_of(first, self._zone)[0], day_of(last, self._zone)[1] - 1
        there: Iterator[tuple[int, float]] = iter(())
        imported: Iterator[int] = iter(())
        rolled: set[int] = set()
        if number is not None:
            there = self._there(number, start, end)
            imported = stamps.imported(self._connection, number, start, end)
            rolled = set(
                self._connection.execute(
                    select(tables.hour.c.ts).where(
                        tables.hour.c.series_id == number,
                        tables.hour.c.ts.between(first - first % HOUR_MS, last),
                        tables.hour.c.ts < self._horizon,
                        tables.hour.c.samples > 0,
                    )
                ).scalars()
            )
        days: dict[str, _Figures] = {}
        for hour, mine, theirs, ours in _by_hour(staged, there, imported):
            self._hour(index, hour, mine, theirs, ours, hour in rolled, days)
            if len(days) > 2:
                self._flush_days(series, days, keep=2)
        self._flush_days(series, days)
        self._flush_fresh()

    def _there(self, number: int, start: int, end: int) -> Iterator[tuple[int, float]]:
        sample = tables.sample
        while True:
            page = self._connection.execute(
                select(sample.c.ts, sample.c.value)
                .where(sample.c.series_id == number, sample.c.ts.between(start, end))
                .order_by(sample.c.ts)
                .limit(PAGE)
            ).all()
            yield from ((row.ts, row.value) for row in page)
            if len(page) < PAGE:
                return
            start = page[-1].ts + 1

    def _hour(
        self,
        index: int,
        hour: int,
        mine: list[tuple[int, float, int]],
        theirs: dict[int, float],
        ours: set[int],
        is_rolled: bool,
        days: dict[str, _Figures],
    ) -> None:
        """Decide on one hour of one series."""
        values = [(ts, value, False) for ts, value in theirs.items()]
        # Raw samples are retired after some weeks; then the hour's figures tell that it is known.
        retired = is_rolled and not theirs and not ours
        staged = {ts for ts, _value, _line in mine}
        foreign = {ts - ts % BUCKET for ts in theirs if ts not in staged and ts not in ours}
        for ts, value, line in mine:
            figures = days.setdefault(self._day_of(ts), _Figures())
            if ts in theirs:
                if abs(theirs[ts] - value) <= ALIKE * abs(value):
                    figures.same += 1
                else:
                    figures.conflicts += 1
                    place, number = where(line)
                    label = self._plan.scratch.series[index].label
                    self._plan.conflicts.add(
                        place,
                        number,
                        f"{label} at {text_of(ts)} is {theirs[ts]:.10g} here, {value:.10g} there",
                    )
            elif ts in ours:
                figures.same += 1
            elif retired or ts - ts % BUCKET in foreign:
                figures.covered += 1
            else:
                values.append((ts, value, True))
                self._fresh.append((index, ts, value))
        values.sort()
        for ts, value, is_new in values:
            days.setdefault(self._day_of(ts), _Figures()).add(value, is_new)
        new = sum(is_new for _ts, _value, is_new in values)
        if new:
            self._plan.hours[hour] = self._plan.hours.get(hour, 0) + new
            self._widen(index, hour)
            if len(self._fresh) >= PAGE:
                self._flush_fresh()

    def _widen(self, index: int, hour: int) -> None:
        label = self._plan.scratch.series[index].label
        first, last = self._plan.ranges.get(label, (hour, hour))
        self._plan.ranges[label] = (min(first, hour), max(last, hour + HOUR_MS - 1))

    def _flush_fresh(self) -> None:
        self._db.executemany("INSERT INTO fresh VALUES (?, ?, ?)", self._fresh)
        self._done += len(self._fresh)
        self._fresh.clear()
        self._progress("compared", self._done)

    def _flush_days(self, series: Series, days: dict[str, _Figures], keep: int = 0) -> None:
        entry = VOCABULARY.get(series.name.partition("/")[0])
        unit = entry.unit if entry else unit_of(series.name)
        rises = series.kind is Kind.COUNTER
        while len(days) > keep:
            day = min(days)
            figures = days.pop(day)
            if not figures.staged:
                continue
            before = after = None
            if rises:
                before = figures.before and figures.before[1] - figures.before[0]
                after = figures.after and figures.after[1] - figures.after[0]
            else:
                before = figures.sum_before / figures.there if figures.there else None
                count = figures.there + figures.new
                after = figures.sum_after / count if count else None
            self._line(day, series.label, unit, "rise" if rises else "mean", figures, before, after)
            self._plan.counts.samples += figures.new

    def _line(
        self,
        day: str,
        target: str,
        unit: str,
        measure: str,
        figures: _Figures,
        before: float | None,
        after: float | None,
    ) -> None:
        counts = self._plan.counts
        counts.same += figures.same
        counts.conflicts += figures.conflicts
        counts.covered += figures.covered
        self._db.execute(
            "INSERT OR REPLACE INTO difference VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(day, target, unit, measure, figures.there, figures.new, figures.same),
                *(figures.conflicts, figures.covered, before, after),
            ),
        )

    def _warn_of_falls(self, index: int, series: Series) -> None:
        """A counter that falls is taken as it is, but said."""
        periodic = ("_today_", "_day_", "_month_", "_year_")
        if (
            series.kind is not Kind.COUNTER
            or series.entry_sign != "≥ 0"
            or any(word in series.name for word in periodic)
        ):
            return
        query = (
            "SELECT line, ms, value, before FROM (SELECT line, ms, value,"
            " LAG(value) OVER (ORDER BY ms) AS before FROM staged WHERE series = ?)"
            " WHERE value < before"
        )
        for line, ms, value, before in self._db.execute(query, (index,)):
            place, number = where(line)
            self._plan.warned.add(
                place,
                number,
                f"{series.label} falls from {before:.10g} to {value:.10g} at {text_of(ms)}",
            )

    # -- states and settings

    def _states(self, index: int, series: Series) -> None:
        number = self._plan.ids.get(index)
        there: dict[int, str] = {}
        known: set[int] = set()
        if number is not None:
            state = tables.state
            there = {
                row.ts: row.value
                for row in self._connection.execute(
                    select(state.c.ts, state.c.value).where(state.c.series_id == number)
                )
            }
            last = max(there, default=0)
            known = set(stamps.imported(self._connection, number, 0, max(last, tables.MAX_TS)))
        self._changes(index, series.label, "word", "fresh_word", there, known)

    def _settings(self) -> None:
        setting = tables.setting
        for index, (device, name) in enumerate(self._plan.scratch.settings):
            there = {
                row.ts: row.value
                for row in self._connection.execute(
                    select(setting.c.ts, setting.c.value).where(
                        setting.c.device == device, setting.c.name == name
                    )
                )
            }
            self._changes(
                index, f"{device}.{name} (setting)", "setting", "fresh_setting", there, set()
            )

    def _changes(
        self,
        index: int,
        label: str,
        source: str,
        goal: str,
        there: dict[int, str],
        imported: set[int],
    ) -> None:
        """What is stored when it changes: taken before the first that the database has itself."""
        staged = self._db.execute(
            f"SELECT ms, value, line FROM {source} WHERE series = ? ORDER BY ms",  # noqa: S608
            (index,),
        )
        mine = _on_change(staged)
        rows = list(mine)
        stamps_of_file = {ts for ts, _value, _line in rows}
        foreign = min(
            (ts for ts in there if ts not in stamps_of_file and ts not in imported),
            default=tables.MAX_TS,
        )
        days: dict[str, _Figures] = {}
        fresh: list[tuple[int, int, str]] = []
        for ts, value, line in rows:
            figures = days.setdefault(self._day_of(ts), _Figures())
            if there.get(ts) == value or (ts in imported and ts not in there):
                figures.same += 1
            elif ts in there:
                figures.conflicts += 1
                place, number = where(line)
                self._plan.conflicts.add(
                    place, number, f"{label} at {text_of(ts)} is {there[ts]} here, {value} there"
                )
            elif ts >= foreign:
                figures.covered += 1
            else:
                figures.new += 1
                fresh.append((index, ts, value))
        for ts in there:
            day = self._day_of(ts)
            if day in days:
                days[day].there += 1
        for day, figures in days.items():
            before = float(figures.there) if figures.there else None
            after = float(figures.there + figures.new)
            self._line(day, label, "", "changes", figures, before, after)
        self._db.executemany(f"INSERT INTO {goal} VALUES (?, ?, ?)", fresh)  # noqa: S608
        if goal == "fresh_setting":
            self._plan.counts.settings += len(fresh)
            return
        self._plan.counts.states += len(fresh)
        for _index, ts, _value in fresh:
            hour = ts - ts % HOUR_MS
            self._plan.hours[hour] = self._plan.hours.get(hour, 0) + 1
            self._widen(index, hour)

    # -- energies

    def _energies(self) -> None:
        flows = [row[0] for row in self._db.execute("SELECT DISTINCT flow FROM energy")]
        for flow in flows:
            rows = self._db.execute(
                "SELECT start, end, value, line FROM energy WHERE flow = ? ORDER BY start, end",
                (flow,),
            )
            pieces = self._pieces(flow, rows)
            for _month, some in groupby(pieces, key=lambda piece: piece[0] // (31 * 86_400_000)):
                self._month(flow, list(some))
            first, last = self._db.execute(
                "SELECT MIN(start), MAX(end) FROM fresh_energy WHERE flow = ?", (flow,)
            ).fetchone()
            if first is not None:
                self._plan.ranges[f"flow {flow}"] = (first, last)

    def _pieces(
        self, flow: str, rows: Iterable[tuple[int, int, float, int]]
    ) -> Iterator[tuple[int, int, float, int]]:
        """Start, end, Wh and line of stretches at the borders of buckets, in order of time.

        What begins or ends inside of a bucket is cut at its borders in proportion to the time.
        """
        pending: tuple[int, float, int] | None = None
        last = 0
        for start, end, wh, line in rows:
            if start < last:
                place, number = where(line)
                self._plan.scratch.refused.add(
                    place, number, f"{flow}: overlaps what the file says before, {text_of(last)}"
                )
                continue
            last = end
            while start < end:
                bucket = start - start % BUCKET
                if start == bucket and end - start >= BUCKET:
                    until = end - end % BUCKET
                else:
                    until = min(end, bucket + BUCKET)
                share = wh * (until - start) / (end - start)
                wh -= share
                if pending is not None and pending[0] != bucket:
                    yield pending[0], pending[0] + BUCKET, pending[1], pending[2]
                    pending = None
                if start == bucket and until - start >= BUCKET:
                    yield start, until, share, line
                else:
                    before = pending[1] if pending else 0.0
                    pending = (bucket, before + share, line)
                start = until
        if pending is not None:
            yield pending[0], pending[0] + BUCKET, pending[1], pending[2]

    def _month(self, flow: str, pieces: list[tuple[int, int, float, int]]) -> None:
        """Decide on some weeks of a flow."""
        start, end = pieces[0][0], max(piece[1] for piece in pieces)
        days = days_between(start, end, self._zone)
        energy = tables.energy
        there: dict[int, float] = {
            row.ts: row.wh
            for row in self._connection.execute(
                select(energy.c.ts, energy.c.wh).where(
                    energy.c.flow == flow, energy.c.ts >= days[0][1], energy.c.ts < days[-1][2]
                )
            )
        }
        after = dict(there)
        counts: dict[date, _Figures] = {day: _Figures() for day, _start, _end in days}
        fresh: list[tuple[str, int, int, float]] = []
        for first, last, wh, line in pieces:
            figures = counts[local_day(first, self._zone)]
            known = [there[ts] for ts in range(first, last, BUCKET) if ts in there]
            if known and abs(sum(known) - wh) <= 0.002 + 1e-9 * wh:
                figures.same += 1
                continue
            if known and not self._plan.replace:
                figures.conflicts += 1
                place, number = where(line)
                self._plan.conflicts.add(
                    place,
                    number,
                    f"flow {flow} from {text_of(first)}: the books have {sum(known) / 1000:.3f} "
                    f"kWh of it, the file {wh / 1000:.3f}; --replace lets the file win",
                )
                continue
            figures.new += 1
            fresh.append((flow, first, last, wh))
            span = range(first, last, BUCKET)
            for ts in span:
                after[ts] = wh / len(span)
        self._db.executemany("INSERT INTO fresh_energy VALUES (?, ?, ?, ?)", fresh)
        self._plan.counts.energies += len(fresh)
        for day, begun, ended in days:
            span = range(begun, ended, BUCKET)
            old = [there[ts] for ts in span if ts in there]
            new = [after[ts] for ts in span if ts in after]
            figures = counts[day]
            figures.there = len(old)
            if figures.staged or len(new) != len(old):
                self._merge_day(
                    day.isoformat(),
                    f"flow {flow}",
                    figures,
                    sum(old) / 1000 if old else None,
                    sum(new) / 1000 if new else None,
                )

    def _merge_day(
        self, day: str, target: str, figures: _Figures, before: float | None, after: float | None
    ) -> None:
        """A day's line; where weeks meet inside of a day, together with what stands there."""
        row = self._db.execute(
            "SELECT new, same, conflicts, after FROM difference WHERE day = ? AND target = ?",
            (day, target),
        ).fetchone()
        counts = self._plan.counts
        if row is not None:
            counts.same -= row[1]
            counts.conflicts -= row[2]
            figures.new += row[0]
            figures.same += row[1]
            figures.conflicts += row[2]
            if row[3] is not None:
                after = (after or 0.0) + row[3] - (before or 0.0)
        self._line(day, target, "kWh", "sum", figures, before, after)


def _by_hour(
    staged: Iterable[tuple[int, float, int]],
    there: Iterable[tuple[int, float]],
    imported: Iterable[int],
) -> Iterator[tuple[int, list[tuple[int, float, int]], dict[int, float], set[int]]]:
    """All three by the hour; each rises in time."""
    mine, theirs, ours = iter(staged), iter(there), iter(imported)
    m, t, o = next(mine, None), next(theirs, None), next(ours, None)
    while m is not None or t is not None or o is not None:
        now = min(each for each in (m and m[0], t and t[0], o) if each is not None)
        hour = now - now % HOUR_MS
        end = hour + HOUR_MS
        some: list[tuple[int, float, int]] = []
        samples: dict[int, float] = {}
        stamps_of_imports: set[int] = set()
        while m is not None and m[0] < end:
            some.append(m)
            m = next(mine, None)
        while t is not None and t[0] < end:
            samples[t[0]] = t[1]
            t = next(theirs, None)
        while o is not None and o < end:
            stamps_of_imports.add(o)
            o = next(ours, None)
        yield hour, some, samples, stamps_of_imports


def _on_change(
    staged: Iterable[tuple[int, str, int]],
) -> Iterator[tuple[int, str, int]]:
    """Those that differ from the one before."""
    before: str | None = None
    for ts, value, line in staged:
        if value != before:
            yield ts, value, line
            before = value
