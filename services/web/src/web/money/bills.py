"""What the house's energy comes to: bills from the database, remembered for a moment."""

import threading
import time
from collections.abc import Callable
from datetime import date, datetime, tzinfo
from typing import Any, TypeVar, cast

from sunmesh import clock
from sunmesh.database import costs
from sunmesh.database.energy import span
from sunmesh.database.tariff import Bill, Dated, Tariff, total

from ..database import Database, HistoryError

REMEMBERED_S = 10.0
"""How long an answer is given again: the books change every five minutes."""
MOST_ANSWERS = 64

T = TypeVar("T")


class Money:
    """Tariffs and bills of the site.

    Args:
        database: where pages get connections.
        zone: the site's.
        now: the clock.
    """

    def __init__(
        self, database: Database, zone: tzinfo, now: Callable[[], datetime] = clock.now
    ) -> None:
        """Asks nothing before the first question."""
        self._database = database
        self._zone = zone
        self._now = now
        self._memory: dict[date, costs.Kept] = {}
        self._answers: dict[tuple[Any, ...], tuple[float, Any]] = {}
        self._counting = threading.Lock()

    def _remembered(self, key: tuple[Any, ...], ask: Callable[[], T]) -> T:
        """The answer to ``key``, at most some seconds old; two who ask at once count once."""
        if (fresh := self._fresh(key)) is not None:
            return cast("T", fresh[1])
        with self._counting:
            if (fresh := self._fresh(key)) is not None:
                return cast("T", fresh[1])
            answer = ask()
            while len(self._answers) >= MOST_ANSWERS:
                self._answers.pop(next(iter(self._answers)))
            self._answers[key] = (time.monotonic(), answer)
        return answer

    def _fresh(self, key: tuple[Any, ...]) -> tuple[float, Any] | None:
        found = self._answers.get(key)
        is_fresh = found is not None and time.monotonic() - found[0] < REMEMBERED_S
        return found if is_fresh else None

    def forget(self) -> None:
        """A tariff has changed."""
        self._answers.clear()

    # -- tariffs -----------------------------------------------------------------------------------

    def entries(self) -> list[costs.Entry]:
        """All tariffs, the earliest first.

        Raises:
            HistoryError: no database.
        """

        def ask() -> list[costs.Entry]:
            with self._database.reading() as connection:
                return costs.entries(connection)

        return self._remembered(("entries",), ask)

    def tariffs(self) -> list[Dated]:
        """The same, as the counting wants them."""
        return [Dated(entry.first, entry.tariff) for entry in self.entries()]

    def save(self, first: date, tariff: Tariff, by: str, instead_of: date | None = None) -> None:
        """Keep a tariff.

        Raises:
            HistoryError: no database.
            TariffError: it cannot be kept.
        """
        with self._database.writing() as connection:
            costs.save(connection, first, tariff, by, instead_of=instead_of)
        self.forget()

    def remove(self, first: date) -> bool:
        """Forget the tariff that begins then; whether there was one.

        Raises:
            HistoryError: no database.
        """
        with self._database.writing() as connection:
            found = costs.remove(connection, first)
        self.forget()
        return found

    # -- bills -------------------------------------------------------------------------------------

    def span(self) -> tuple[date, date] | None:
        """The first booked day, and the day after the last.

        Raises:
            HistoryError: no database.
        """

        def ask() -> tuple[date, date] | None:
            with self._database.reading() as connection:
                return span(connection)

        return self._remembered(("span",), ask)

    def months(self, first: date, end: date) -> dict[date, Bill]:
        """Each month's bill, by its first day; only months of which something is booked.

        Raises:
            HistoryError: no database.
        """

        def ask() -> dict[date, Bill]:
            with self._database.reading() as connection:
                known = costs.tariffs(connection)
                now = clock.epoch_ms(self._now())
                found = costs.month_bills(
                    connection, self._zone, known, first, end, self._memory, now
                )
            if found.fresh:
                self._keep(found.fresh)
            return found.bills

        return self._remembered(("months", first, end), ask)

    def _keep(self, fresh: dict[date, costs.Kept]) -> None:
        """Save others the counting; a database that cannot be written is no reason to say less."""
        try:
            with self._database.writing() as connection:
                costs.keep(connection, fresh)
        except HistoryError:
            return

    def days(self, first: date, end: date) -> dict[date, Bill]:
        """Each day's bill; only days of which something may be booked.

        Raises:
            HistoryError: no database.
        """

        def ask() -> dict[date, Bill]:
            with self._database.reading() as connection:
                known = costs.tariffs(connection)
                return costs.day_bills(connection, self._zone, known, first, end)

        return self._remembered(("days", first, end), ask)

    def hours(self, day: date) -> list[tuple[int, Bill]]:
        """A day's bill by the hour, each with its beginning [ms].

        Raises:
            HistoryError: no database.
        """

        def ask() -> list[tuple[int, Bill]]:
            with self._database.reading() as connection:
                known = costs.tariffs(connection)
                return costs.hour_bills(connection, self._zone, known, day)

        return self._remembered(("hours", day), ask)

    def tried(self, tariff: Tariff, first: date, end: date) -> tuple[Bill, Bill]:
        """What [first, end) would have come to with ``tariff`` alone, and what it did.

        Raises:
            HistoryError: no database.
        """
        with self._database.reading() as connection:
            known = costs.tariffs(connection)
            one = costs.day_bills(connection, self._zone, [Dated(date.min, tariff)], first, end)
            was = costs.day_bills(connection, self._zone, known, first, end)
        return total(one.values()), total(was.values())
