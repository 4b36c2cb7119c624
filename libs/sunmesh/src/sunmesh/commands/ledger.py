"""What must not be forgotten about a device's settings: how often each was written, and by whom.

A setting lives in a memory that wears out. Each has a budget of writes a day (UTC), which only
an override exceeds, and a count for life.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import msgspec

from .. import clock
from ..errors import RefusedError
from ..messages import Value, Writes
from ..statefile import StateFile

log = logging.getLogger(__name__)

BUDGET = 20
"""Writes of one setting a day."""

A_DAY = timedelta(days=1)


class Held(msgspec.Struct, frozen=True):
    """A setting that a command has set, and that is watched since ``ts``."""

    value: Value
    id: str
    by: str | None
    ts: str


class _Book(msgspec.Struct):
    """What is on disk.

    On the day ``closed`` every budget counts as spent. ``underway`` is the command that is being
    written, by its setting.
    """

    day: str = ""
    today: dict[str, int] = {}
    lifetime: dict[str, int] = {}
    ids: list[str] = []
    held: dict[str, Held] = {}
    underway: dict[str, Held] = {}
    closed: str = ""


class Ledger:
    """The counts of one device.

    Args:
        file: where they are kept.
        budget: writes of one setting a day.
        today: the date by which a day is told.
    """

    def __init__(
        self,
        file: StateFile,
        budget: int = BUDGET,
        today: Callable[[], date] = lambda: clock.now().date(),
    ) -> None:
        """Reads the file; without a readable one the budgets of today count as spent."""
        self.budget = budget
        self._lock = threading.Lock()  # the health message comes from a thread of its own
        self._file = file
        self._today = today
        self._book = _Book()
        content = file.load()
        try:
            self._book = msgspec.convert(content, _Book)
            date.fromisoformat(self._book.day or "2000-01-01")
        except (msgspec.ValidationError, ValueError) as err:
            file.set_aside(str(err))
            self._book = _Book()
        if file.damaged:
            self._book.closed = today().isoformat()
            log.error("%s: how often was written today is not known: nothing more is", file.path)
            self.save(())

    @property
    def ids(self) -> list[str]:
        """Commands that were taken before this start."""
        return self._book.ids

    @property
    def held(self) -> Mapping[str, Held]:
        """What commands have set, by setting."""
        return self._book.held

    @property
    def underway(self) -> Mapping[str, Held]:
        """What was being written when the last start ended, by its setting."""
        return self._book.underway

    def left(self, name: str) -> int:
        """How often ``name`` may still be written today."""
        self._turn()
        if self._book.closed == self._book.day:
            return 0
        return max(0, self.budget - self._book.today.get(name, 0))

    def charge(self, name: str, ids: Iterable[str], underway: Held) -> None:
        """Count a write of ``name``, on disk before it is done.

        Args:
            name: of the setting.
            ids: of the commands that were taken.
            underway: by whom, in case nobody is left to say how it ended.

        Raises:
            RefusedError: the disk does not take it; then nothing may be written.
        """
        self._turn()
        book = self._book
        with self._lock:
            book.today[name] = book.today.get(name, 0) + 1
            book.lifetime[name] = book.lifetime.get(name, 0) + 1
            book.underway = {name: underway}
        if not self.save(ids):
            raise RefusedError(f"writes cannot be counted: {self._file.path} cannot be written")

    def ended(self) -> None:
        """It was said how the write ended."""
        self._book.underway = {}

    def hold(self, name: str, held: Held) -> None:
        """Watch ``name`` from now on."""
        self._book.held[name] = held

    def release(self, name: str) -> None:
        """Do not watch ``name`` any more."""
        self._book.held.pop(name, None)

    def save(self, ids: Iterable[str]) -> bool:
        """Write all of it; False where the disk does not take it, which is logged."""
        self._book.ids = list(ids)
        try:
            self._file.save(msgspec.to_builtins(self._book))
        except OSError as err:
            log.error("%s cannot be written: %s", self._file.path, err)
            return False
        return True

    def writes(self) -> dict[str, Writes]:
        """Counts by setting, of those that were ever written."""
        self._turn()
        with self._lock:
            return {
                name: Writes(self._book.today.get(name, 0), count, self.budget)
                for name, count in sorted(self._book.lifetime.items())
            }

    def counters(self) -> dict[str, Any]:
        """The same for the health message."""
        writes = self.writes()
        totals = {
            "writes_today": sum(each.today for each in writes.values()),
            "writes_lifetime": sum(each.lifetime for each in writes.values()),
        }
        return totals | {f"writes_lifetime_{name}": each.lifetime for name, each in writes.items()}

    def _turn(self) -> None:
        """Begin a new day. A clock that goes back a little brings no new budget."""
        with self._lock:
            day, before = self._today(), date.fromisoformat(self._book.day or "2000-01-01")
            if day > before or before - day > A_DAY:
                self._book.day = day.isoformat()
                self._book.today = {}
