"""What happens each turn: what was marked is read, booked, and the marks go with the bookings.

Readings are taken from one view of the database, and the bookings are committed together with the
deletion of the marks that this view showed. A sample that came in between has set its mark again,
so it is booked in the next turn: whoever is killed, nothing is missed and nothing counted twice.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import Connection
from sunmesh import clock
from sunmesh.config import Site
from sunmesh.database import energy
from sunmesh.database.sql import DatabaseError
from sunmesh.database.tables import DIRTY_MS, FLOWS
from sunmesh.house import EnergySection

from . import battery_book, store
from .battery import Sweep
from .battery_book import BatteryBook, Place
from .books import Bucket, Rebooked, Shape, balance, rebook
from .config import BookkeeperConfig
from .integrate import BUCKET_MS, bucket_of
from .reader import Reader
from .site_model import Model, shape_of
from .store import Mark, Store, TakenError, UnreadyError

log = logging.getLogger(__name__)

RETRY_S = (1.0, 30.0)
"""First and longest pause between two tries on a database that is away [s]."""
APART_MS = 3_600_000
"""Marks that far apart are booked apart: what lies between them would be read for nothing."""
GOAL_S = 0.7
"""How long a turn may work, so that a stop is quick; its stretches are fitted to that [s]."""
FEWEST, MOST = 48, 2016
"""Stretches of a turn: four hours, a week. Most of a short turn is looking around."""
AT_ONCE = 8064
"""Stretches of a turn of a rebuild, which somebody waits for: four weeks."""
BACKLOG = 288
"""So many stretches at once are worth a line in the log."""


@dataclass(slots=True)
class Totals:
    """What was done since the start."""

    turns: int = 0
    stretches: int = 0
    buckets: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did."""

    seen: Sequence[Mark]
    buckets: int
    start: int
    end: int


@dataclass(slots=True)
class Work:
    """What one turn has read and found out."""

    model: Model
    seen: Sequence[Mark]
    start: int
    end: int
    rebooked: dict[str, Rebooked] = field(default_factory=dict)
    curtailed: Rebooked | None = None
    battery: str = ""
    sweeps: Sequence[Sweep] = ()
    sweeps_to: int = 0


def now_ms() -> int:
    """The present moment [ms]."""
    return clock.epoch_ms(clock.now())


class Keeper:
    """Keeps the books of one site.

    Args:
        opened: the database.
        zone: the site's.
        section: ``[energy]``.
        devices: ``[devices.NAME]``.
        place: of the panels.
    """

    def __init__(
        self,
        opened: Store,
        zone: tzinfo,
        section: EnergySection,
        devices: Mapping[str, Mapping[str, Any]],
        place: Place | None = None,
    ) -> None:
        """Asks nothing yet."""
        self.store = opened
        self.zone = zone
        self.totals = Totals()
        self.flows: tuple[str, ...] = ()
        self.section = section
        self._devices = devices
        self._place = place or Place()
        self._steps: dict[int, tuple[float, int]] = {}
        self._most = FEWEST
        winter = datetime(2026, 1, 1, 12, tzinfo=UTC).astimezone(zone).utcoffset()
        offset_h = winter.total_seconds() / 3600 if winter else 0.0
        self._shapes: dict[str, Shape | None] = {
            flow: shape_of(flow, self._place.longitude, offset_h) for flow in FLOWS
        }

    @classmethod
    def of(cls, site: Site) -> "Keeper":
        """The keeper that ``site.toml`` asks for."""
        return cls(
            Store(site.database.sqlalchemy_url()),
            site.site.zone,
            site.section("energy", EnergySection),
            site.devices,
            Place(site.site.latitude, site.site.longitude),
        )

    def beside(self) -> "Keeper | None":
        """Another one, who works at the same time under this one's lock; None with SQLite."""
        opened = self.store.beside()
        if opened is None:
            return None
        return Keeper(opened, self.zone, self.section, self._devices, self._place)

    def model(self) -> Model:
        """What feeds what, as the database is now."""
        return self.store.read(lambda c: store.model(c, self.section, self._devices))

    def turn(self, before: int, most: int | None = None, since: int = 0) -> Turn | None:
        """Book the oldest marked stretches that ended before ``before``; None = nothing to do.

        Args:
            before: not what ended later [ms].
            most: so many stretches at most; as many as take a moment without.
            since: not what began earlier [ms].

        Raises:
            DatabaseError: no answer; nothing was changed.
        """
        begun, busy = time.perf_counter(), time.thread_time()
        limit = most or self._most
        work = self.store.read(lambda connection: self._read(connection, before, limit, since))
        if work is None:
            return None
        changed = self.store.write(lambda connection: self._write(connection, work))
        took = time.perf_counter() - begun
        if most is None:
            # of its own work: on a busy machine small turns would only cost more
            self._fit(len(work.seen), time.thread_time() - busy)
        totals = self.totals
        totals.turns += 1
        totals.stretches += len(work.seen)
        totals.buckets += changed
        totals.seconds += took
        totals.longest_s = max(totals.longest_s, took)
        return Turn(work.seen, changed, work.start, work.end)

    def _fit(self, stretches: int, took: float) -> None:
        if took > GOAL_S:
            self._most = max(FEWEST, self._most // 2)
        elif stretches == self._most and took < GOAL_S / 2:
            self._most = min(MOST, self._most * 2)

    def _read(self, connection: Connection, before: int, most: int, since: int) -> Work | None:
        marks = store.marks(connection, before, most, since)
        if not marks:
            return None
        count = next(
            (n for n in range(1, len(marks)) if marks[n].ts - marks[n - 1].ts > APART_MS),
            len(marks),
        )
        seen = marks[:count]
        model = store.model(connection, self.section, self._devices)
        self._tell(model)
        reader = Reader(connection, model, self._steps)
        start, end = bucket_of(seen[0].ts), seen[-1].ts + DIRTY_MS
        work = Work(model, seen, start, end)
        horizon = reader.horizon()
        for flow, how in model.flows.items():
            if how.balance:
                continue
            found = rebook(flow, reader.load(how), start, end, self._shapes[flow])
            # What is older than any reading cannot be told again: it stays as it was booked.
            low = start if horizon is None else max(found.start, min(bucket_of(horizon), start))
            work.rebooked[flow] = Rebooked(
                low, found.end, [bucket for bucket in found.buckets if bucket.ts >= low]
            )
        self._look_at_battery(connection, reader, work)
        return work

    def _look_at_battery(self, connection: Connection, reader: Reader, work: Work) -> None:
        """Curtailed energy of hours that are over, sweeps when a day is."""
        book = BatteryBook(connection, reader, work.model, self.section, self._place)
        starts = [mark.ts for mark in work.seen]
        hours = battery_book.hours_over(work.start, work.end, starts)
        if not book.device or hours is None:
            return
        sun = work.rebooked.get("pv")
        fresh = {bucket.ts: bucket.wh for bucket in sun.buckets} if sun else {}
        work.curtailed = Rebooked(*hours, book.curtailed(*hours, fresh))
        if battery_book.days_over(work.start, work.end, starts):
            reach = battery_book.SWEEP_MS
            work.battery = book.device
            work.sweeps_to = min(work.end + reach, now_ms())
            work.sweeps = book.sweeps(work.start - reach, work.sweeps_to)

    def _tell(self, model: Model) -> None:
        """Say which flows there are, when that changes."""
        flows = tuple(model.flows)
        if flows != self.flows:
            log.info("flows of this house: %s", ", ".join(flows) or "none yet")
            self.flows = flows

    def _write(self, connection: Connection, work: Work) -> int:
        changed = 0
        start, end = work.start, work.end
        for flow, found in work.rebooked.items():
            changed += self._book(connection, flow, found.start, found.end, found.buckets)
            start, end = min(start, found.start), max(end, found.end)
        for flow, how in work.model.flows.items():
            if how.balance:
                buckets = self._balance(connection, work.model, flow, start, end)
                changed += self._book(connection, flow, start, end, buckets)
        if work.curtailed is not None:
            found = work.curtailed
            changed += self._book(connection, "curtailed", found.start, found.end, found.buckets)
        battery_book.write_sweeps(connection, work.battery, work.sweeps, work.sweeps_to)
        for flow in FLOWS:
            if flow not in work.model.flows and flow != "curtailed":
                changed += self._book(connection, flow, work.start, work.end, [])
        store.done(connection, work.seen)
        return changed

    def _book(
        self, connection: Connection, flow: str, start: int, end: int, buckets: Sequence[Bucket]
    ) -> int:
        return energy.book(
            connection,
            self.zone,
            flow,
            start,
            end,
            [energy.Bucket(b.ts, max(0.0, b.wh), b.source, b.flag, b.covered_s) for b in buckets],
        )

    def _balance(
        self, connection: Connection, model: Model, flow: str, start: int, end: int
    ) -> list[Bucket]:
        """What nobody measures, from what the books have of the others."""
        others = [other for other in model.flows if other != flow]
        said = store.booked(connection, others, start, end)
        known = {
            other: {ts: Bucket(other, ts, wh, "power", "measured", s) for ts, (wh, s) in b.items()}
            for other, b in said.items()
        }
        ins = ("pv", "grid_import", "battery_discharge", "generator")
        gains = [known[other] for other in others if (other in ins) != (flow in ins)]
        uses = [known[other] for other in others if (other in ins) == (flow in ins)]
        return balance(flow, gains, uses, start, end)


class Bookkeeper:
    """The service.

    Args:
        keeper: of this site.
        config: ``[bookkeeper]``.
    """

    def __init__(self, keeper: Keeper, config: BookkeeperConfig) -> None:
        """Asks nothing yet."""
        self._keeper = keeper
        self._config = config
        self._database_ok: bool | None = None
        self._waiting = 0
        self._oldest: int | None = None
        self._booked_to: int | None = None
        self.taken = ""
        """Who keeps these books already; empty while this process does."""

    def work(self, stop: threading.Event) -> None:
        """Keep the books until ``stop``, or until it is seen that another process does."""
        pause_s = RETRY_S[0]
        try:
            while not stop.is_set():
                try:
                    self._keeper.store.hold()
                    self._round(stop)
                except TakenError as err:
                    self.taken = str(err)
                    return
                except DatabaseError as err:
                    self._lost(err)
                    stop.wait(pause_s)
                    pause_s = min(pause_s * 2, RETRY_S[1])
                    continue
                if self._database_ok is False:
                    log.info("the database is back")
                self._database_ok = True
                pause_s = RETRY_S[0]
                stop.wait(self._config.look_s)
        finally:
            self._keeper.store.close()

    def _round(self, stop: threading.Event) -> None:
        """Book all that is due."""
        self._waiting, self._oldest = self._keeper.store.read(store.waiting)
        backlog = self._waiting if self._waiting > BACKLOG else 0
        if backlog:
            log.info("%d stretches of five minutes wait to be booked", backlog)
        begun = time.monotonic()
        while not stop.is_set():
            turn = self._keeper.turn(self._due())
            if turn is None:
                break
            self._booked_to = max(self._booked_to or 0, turn.end)
            log.debug("booked %d buckets of %d stretches", turn.buckets, len(turn.seen))
        if backlog and not stop.is_set():
            log.info("booked them in %.1f s", time.monotonic() - begun)

    def _due(self) -> int:
        """Stretches that ended before this are over."""
        step = self._config.step_min * 60_000
        now = now_ms() - round(self._config.grace_s * 1000)
        return now - now % step

    def _lost(self, err: DatabaseError) -> None:
        if self._database_ok is not False or self._keeper.totals.failures == 0:
            if isinstance(err, UnreadyError):
                log.warning("%s; waiting", err)
            else:
                log.warning("the database does not answer (%s); waiting", err)
        self._database_ok = False
        self._keeper.totals.failures += 1

    def counters(self) -> dict[str, int | float | str | None]:
        """What belongs into the health message."""
        totals = self._keeper.totals
        age = None if self._oldest is None else max(0, now_ms() - self._oldest) / 1000
        return {
            "turns": totals.turns,
            "stretches": totals.stretches,
            "buckets": totals.buckets,
            "busy_s": round(totals.seconds, 2),
            "longest_turn_s": round(totals.longest_s, 3),
            "waiting": self._waiting,
            "oldest_waiting_s": age,
            "booked_to": None
            if self._booked_to is None
            else clock.iso(clock.from_ms(self._booked_to)),
            "flows": len(self._keeper.flows),
            "failures": totals.failures,
            "database_ok": None if self._database_ok is None else int(self._database_ok),
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is."""

    done: int
    total: int


def rebuild(
    keeper: Keeper,
    start: int,
    end: int,
    report: Callable[[Progress], None],
    pause: Callable[[float], None] = time.sleep,
) -> tuple[int, int, bool]:
    """Book [start, end) again from what readings there are.

    The stretches are marked like those of new samples, so that being killed half-way costs nothing;
    a bookkeeper that runs does the work, otherwise this process does.

    Args:
        keeper: of this site.
        start: first moment [ms].
        end: first moment after it [ms].
        report: told of the progress, about once a second.
        pause: waits, for tests.

    Returns:
        First and last moment that could be booked again, and whether this process did it.

    Raises:
        DatabaseError: no answer, or no tables.
    """
    keeper.store.ready()

    model = keeper.model()
    horizon = keeper.store.read(lambda c: Reader(c, model).horizon())
    if horizon is None:
        return start, start, False
    start, end = max(bucket_of(start), bucket_of(horizon)), min(end, now_ms())
    end = bucket_of(end)
    if end <= start:
        return start, start, False
    mine = True
    try:
        keeper.store.hold()
    except TakenError:
        mine = False
    total = (end - start) // BUCKET_MS
    _mark(keeper.store, start, end, mine)

    def left() -> int:
        waiting = keeper.store.read(lambda c: store.waiting_in(c, start, end))
        report(Progress(total - waiting, total))
        return waiting

    while left():
        if mine:
            _rebuild(keeper, start, end, left)
        else:
            pause(1.0)
    return start, end, mine


def _rebuild(keeper: Keeper, start: int, end: int, look: Callable[[], int]) -> None:
    """Book what is marked in [start, end): two halves at once where the database can do that.

    While the server looks for the readings of the one, this process counts those of the other.
    """
    from concurrent import futures  # the service itself never needs it

    twin = keeper.beside()
    middle = bucket_of((start + end) // 2)
    parts = [(keeper, start, end)]
    if twin is not None:
        parts = [(keeper, start, middle), (twin, middle, end)]
    stop = threading.Event()

    def work(mine: Keeper, begin: int, before: int) -> None:
        while not stop.is_set() and mine.turn(before, AT_ONCE, begin) is not None:
            pass

    try:
        with futures.ThreadPoolExecutor(len(parts)) as pool:
            try:
                working = {pool.submit(work, *part) for part in parts}
                while working:
                    done, working = futures.wait(
                        working, timeout=1.0, return_when=futures.FIRST_EXCEPTION
                    )
                    for each in done:
                        each.result()
                    look()
            finally:
                stop.set()
    finally:
        if twin is not None:
            twin.store.close()


def _mark(opened: Store, start: int, end: int, mine: bool) -> None:
    """Mark every stretch of [start, end), a month at a time."""
    length = 31 * 86_400_000
    for begin in range(start, end, length):
        times = range(begin, min(begin + length, end), DIRTY_MS)
        if mine:
            opened.write(lambda c, times=times: store.mark(c, times))  # type: ignore[misc]
        else:
            energy.transact(
                opened.engine,
                lambda c, times=times: store.mark(c, times),  # type: ignore[misc]
            )
