"""What the recorder does besides recording: rollups, retention, the forecast, as scheduled jobs.

One thread and one connection of their own (on SQLite one more, which only reads), so a job never
delays a sample. The scheduler says when; the jobs themselves are :mod:`recorder.rollup`,
:mod:`recorder.retention` and :mod:`recorder.forecast`.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sunmesh.database import tables
from sunmesh.database.sql import engine, reason, revision
from sunmesh.lean import give_back, without

from .config import RecorderConfig
from .forecast import forecast
from .retention import PAUSE_S, PIECE, Retention
from .rollup import HOUR_MS, Rollup, now_ms

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler

log = logging.getLogger(__name__)

CHECK_S = 30
CHECK_ON_CARD_S = 300
"""How often the marks are looked at [s]."""

CARD_PIECE = 5000
CARD_PAUSE_S = 5.0
"""Deleting on a card: fewer commits, further apart."""

APART = "apart"
MISSED_MIN = 15
"""After the start; by then a backlog is stored [min]."""

TURN_S = 20.0
"""A backlog of rollups is left for other jobs after that [s]."""

BACKLOG = 24
"""More stretches than that are one, and are spoken of."""

STOP_S = 0.8
"""How long a stop waits for the transaction that is under way [s]; it is safe to leave it."""

Counter = int | float | str | None


class Upkeep:
    """The jobs of one database.

    Args:
        url: the database.
        settings: how long what is kept, and whether a card is to be spared.
        zone: the site's.
        now: the clock, for tests.
    """

    def __init__(
        self,
        url: str,
        settings: RecorderConfig,
        zone: tzinfo,
        *,
        now: Callable[[], int] = now_ms,
    ) -> None:
        """Connects at the first job."""
        self._settings = settings
        self._zone = zone
        self._stop = threading.Event()
        self._engine: Engine = engine(url, committed=True)
        sqlite = self._engine.dialect.name == "sqlite"
        self._reader: Engine = engine(url, read_only=True) if sqlite else self._engine
        card = settings.sd_card
        self._rollup = Rollup(
            self._engine, zone, reader=self._reader, step_ms=HOUR_MS if card else 0, now=now
        )
        self._days = settings.kept_days()
        self._retention = Retention(
            self._engine,
            self._days,
            piece=CARD_PIECE if card else PIECE,
            pause_s=CARD_PAUSE_S if card else PAUSE_S,
            between=self._between,
            now=now,
        )
        self._now = now
        self._scheduler: BackgroundScheduler | None = None
        self._worker: threading.Thread | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._asked: list[Callable[[], None]] = []
        self._ready = False
        self._ok = True
        self._waiting = 0
        self._forecast: dict[str, Any] = {}
        self._adapted = False
        self._rolled_at = self._told = 0.0

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the scheduler and the thread of the jobs."""
        # Coroutines and pools of processes are for jobs of another kind, and take 2 MiB.
        unused = {
            "asyncio": ("iscoroutinefunction",),
            "concurrent.futures.process": ("BrokenProcessPool",),
        }
        with without(**unused):
            from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.executors.debug import DebugExecutor

        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._worker = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._worker.start()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={
                "default": DebugExecutor(),
                APART: {"type": "threadpool", "max_workers": 1},
            },
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        check_s = CHECK_ON_CARD_S if self._settings.sd_card else CHECK_S
        add, soon = self._scheduler.add_job, datetime.now(UTC)
        later = soon + timedelta(minutes=1)
        add(self._ask, "interval", (self.roll,), seconds=check_s, next_run_time=soon)
        add(self._ask, "interval", (self.look_ahead,), hours=1, next_run_time=later)
        # at night, and soon after a start for machines that are off at night
        add(self._ask, "cron", (self.forget,), hour=3, minute=40, timezone=self._zone)
        add(self._ask, "date", (self.forget,), run_date=soon + timedelta(minutes=10))
        self._scheduler.start()

    def add_nightly(self, at: str, job: Callable[[], None], missed: Callable[[], None]) -> None:
        """Have a job done each night in a thread of its own, since it may take an hour.

        Args:
            at: the site's local time, ``03:10``.
            job: what.
            missed: is called once, some time after the start: for machines that are off at night.
        """
        if self._scheduler is None:
            return
        hour, minute = at.split(":")
        self._scheduler.add_job(
            job, "cron", hour=hour, minute=minute, timezone=self._zone, executor=APART
        )
        soon = datetime.now(UTC) + timedelta(minutes=MISSED_MIN)
        self._scheduler.add_job(missed, "date", run_date=soon, executor=APART)

    def _ask(self, job: Callable[[], None]) -> None:
        """Have a job done after those that wait; one that waits already is not asked for twice."""
        if job not in self._asked:
            self._asked.append(job)
            self._work.put(job)

    def stop(self) -> None:
        """End within a second; what is under way is rolled back by the database if need be."""
        self._stop.set()
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
        if self._worker is not None:
            self._work.put(None)
            self._worker.join(STOP_S)

    def counters(self) -> dict[str, Counter]:
        """What belongs into the health message; asks nobody."""
        found = self._forecast
        return {
            "rollup_stretches": self._rollup.totals.stretches,
            "rollup_waiting": self._waiting,
            "rollup_longest_ms": round(self._rollup.totals.longest_s * 1000),
            "deleted_rows": self._retention.deleted,
            "retention_held_back_days": round(self._retention.held_back_days, 1),
            "database_bytes": found.get("bytes"),
            "database_bytes_a_day": found.get("bytes_a_day"),
            "database_full_in_days": found.get("full_in_days"),
        }

    def _run(self) -> None:
        """The thread: one job after the other."""
        while (job := self._work.get()) is not None and not self._stop.is_set():
            self._asked.remove(job)
            self._try(job)
        self._engine.dispose()
        self._reader.dispose()

    def _try(self, job: Callable[[], None]) -> None:
        try:
            if self._usable():
                job()
            if not self._ok:
                log.info("upkeep goes on")
            self._ok = True
        except (SQLAlchemyError, OSError) as err:
            if self._ok and not self._stop.is_set():
                log.warning("upkeep waits for the database: %s", reason(err))
            self._ok = False
        except Exception:
            log.exception("upkeep: a job failed and is tried again later")
        finally:
            give_back()

    def _usable(self) -> bool:
        """Whether the tables are ours to keep: of our revision, and no other recorder does it."""
        with self._reader.connect() as connection:
            if not self._ready:
                self._ready = revision(connection) == tables.SCHEMA
            if not self._ready or connection.dialect.name == "sqlite":
                return self._ready
            # held by the connection until it ends; on SQLite there is one writer anyway
            name = "LEFT(CONCAT('sunmesh.upkeep.', DATABASE()), 64)"
            free = text(
                f"SELECT COALESCE(IS_USED_LOCK({name}), 0) = CONNECTION_ID()"  # noqa: S608
                f" OR GET_LOCK({name}, 0)"
            )
            return bool(connection.execute(free).scalar())

    # -- jobs --------------------------------------------------------------------------------------

    def roll(self) -> None:
        """Minutes, hours and days of what came; a long backlog lets other jobs in between."""
        if not self._adapted:
            self._rollup.adapt(self._stop)
            self._adapted = True
        began = time.monotonic()
        while not self._stop.is_set() and self._rollup.step():
            if time.monotonic() - began >= TURN_S:
                self._ask(self.roll)
                break
        self._rolled_at = time.monotonic()
        self._waiting = self._rollup.waiting()
        if self._waiting > BACKLOG and self._rolled_at - self._told >= 60:
            self._told = self._rolled_at
            log.info("rollups: %d stretches of five minutes to go", self._waiting)

    def forget(self) -> None:
        """What is too old."""
        self._retention.run(self._stop)

    def look_ahead(self) -> None:
        """How long there is room."""
        with self._reader.connect() as connection:
            self._forecast = forecast(
                connection,
                self._days,
                limit_bytes=self._settings.database_limit_mb * 1_000_000,
                now=self._now(),
            )
        days = self._forecast["full_in_days"]
        if days is not None and days < 30:
            log.warning("the database has no room any more in %d days", days)

    def _between(self) -> None:
        """Deleting for hours must not keep the rollups waiting."""
        if time.monotonic() - self._rolled_at >= CHECK_S:
            self.roll()
