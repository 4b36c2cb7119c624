"""The nightly backup: when it is made, what became of it, and how old the newest one is."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

from sunmesh import clock
from sunmesh.archive import keeping
from sunmesh.archive.keeping import BackupError
from sunmesh.config import Site
from sunmesh.voice import Condition

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""How often the folder is looked at [s]."""

MISSED_H = 26.0
"""With the newest older than that at a start, the machine was off at night: it is made soon [h]."""

Held = tuple[str, Condition | None, str]
"""An alarm's code, what is wrong, and the text of its clearing."""


class Nightly:
    """Backups of a site that names a folder for them; without one nothing happens.

    Args:
        site: as its ``site.toml`` says.
        save: makes a backup, for tests.
    """

    def __init__(
        self,
        site: Site,
        save: Callable[[Site, threading.Event], str] = keeping.scheduled_backup,
    ) -> None:
        """Looks at the settings only.

        Raises:
            ConfigError: ``[backup]`` is wrong.
        """
        self._site = site
        self._settings = keeping.settings(site)
        self._save = save
        self._stop = threading.Event()
        self._why: str | None = None
        self._tried = False
        self._failures = 0
        self._began = self._looked = time.monotonic()
        self._age_h = keeping.newest_age_h(site)

    @property
    def at(self) -> str | None:
        """The site's local time of the backup; None = none is made."""
        return self._settings.at if self._settings.folder else None

    def stop(self) -> None:
        """End a backup that is being made."""
        self._stop.set()

    def save(self) -> None:
        """Make a backup; never raises."""
        log.info("the nightly backup begins")
        try:
            log.info("backup: %s", self._save(self._site, self._stop))
            self._why = None
        except (BackupError, OSError) as err:
            if self._stop.is_set():
                return
            self._why = str(err)
            self._failures += 1
        self._tried = True
        self._look()

    def save_if_missed(self) -> None:
        """Make the one that a night without power left out."""
        self._look()
        if self._age_h is None or self._age_h > MISSED_H:
            self.save()

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._age_h = keeping.newest_age_h(self._site)

    def counters(self) -> dict[str, int | float | str | None]:
        """What belongs into the health message."""
        return {"backup_age_h": self._age_h, "backup_failures": self._failures}

    def alarms(self) -> Iterator[Held]:
        """What is wrong with the backups."""
        if self.at is None:
            return
        if time.monotonic() - self._looked >= LOOK_S:
            self._look()
        age_h = self._age_h
        newest = "there is none" if age_h is None else f"the newest is {age_h:.0f} h old"
        if self._tried:  # before that nobody knows what an earlier run's alarm was about
            failed = Condition(
                "warning", "The nightly backup failed", f"No backup: {self._why}; {newest}"
            )
            yield "backup_failed", failed if self._why else None, "A backup has been made"
        since_h = (time.monotonic() - self._began) / 3600
        is_old = (since_h if age_h is None else age_h) > self._settings.old_after_h
        old = Condition(
            "warning",
            "The newest backup is old",
            f"In {keeping.folder(self._site)} {newest}, at {clock.iso(clock.now())[:16]}Z",
            age_h,
        )
        yield "backup_old", old if is_old else None, "There is a new backup"
