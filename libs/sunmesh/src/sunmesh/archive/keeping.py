"""Which backups there are, which are kept, and the one that is made every night.

Light: the recorder holds this for ever, while :mod:`.backup` runs in a process of its own.
"""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import msgspec

from .. import clock
from ..config import Site
from ..errors import SunmeshError

STAMP = "%Y%m%dT%H%M%SZ"
PAUSE_S = 0.5
STOP_S = 5.0
LONGEST_S = 12 * 3600.0
"""A backup that takes longer hangs [s]."""


class BackupError(SunmeshError):
    """No backup, or no restore; the text says why, and the file if one is to blame."""


class BackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[backup]``.

    Attributes:
        folder: where backups go, seen from the folder of ``site.toml``; empty = none is made by
            itself.
        at: the site's local time of the nightly one.
        keep_daily: of so many days the last one is kept.
        keep_weekly: of so many weeks.
        keep_monthly: of so many months.
        old_after_h: the newest being older raises the alarm ``backup_old`` [h].
    """

    folder: str = ""
    at: str = "03:10"
    keep_daily: int = 7
    keep_weekly: int = 4
    keep_monthly: int = 12
    old_after_h: float = 50.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", self.at):
            raise ValueError(f"at must be a time such as 03:10, got {self.at!r}")
        if min(self.keep_daily, self.keep_weekly, self.keep_monthly) < 0:
            raise ValueError("keep_daily, keep_weekly, keep_monthly must not be below 0")
        if self.old_after_h <= 0:
            raise ValueError(f"old_after_h must be above 0, got {self.old_after_h}")

    @property
    def keep(self) -> "Keep":
        """How many are kept."""
        return Keep(self.keep_daily, self.keep_weekly, self.keep_monthly)


@dataclass(frozen=True, slots=True)
class Keep:
    """How many days, weeks and months keep their last backup."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 12


@dataclass(frozen=True, slots=True)
class Stored:
    """A finished backup, which has been verified: it bears its name only since then."""

    path: Path
    created: datetime

    @property
    def age_h(self) -> float:
        """How old it is [h]; 0 for one of the future."""
        return max(0.0, (clock.now() - self.created) / timedelta(hours=1))


def settings(site: Site) -> BackupConfig:
    """The table ``[backup]``.

    Raises:
        ConfigError: an unknown key or an impossible value.
    """
    return site.section("backup", BackupConfig)


def folder(site: Site) -> Path | None:
    """Where the site's backups are; None without a setting."""
    named = settings(site).folder
    return (site.path.parent / named) if named else None


def file_name(site_name: str, created: datetime) -> str:
    """What a backup of that moment is called."""
    return f"sunmesh-{site_name}-{created.astimezone(UTC).strftime(STAMP)}.zip"


def stored(where: Path, site_name: str) -> list[Stored]:
    """The site's finished backups, the newest first; anything else in the folder is left alone."""
    shape = re.compile(rf"sunmesh-{re.escape(site_name)}-(\d{{8}}T\d{{6}}Z)\.zip")
    found = []
    for path in where.glob("sunmesh-*.zip") if where.is_dir() else ():
        match = shape.fullmatch(path.name)
        if match is None:
            continue
        try:
            created = datetime.strptime(match[1], STAMP).replace(tzinfo=UTC)
        except ValueError:
            continue
        found.append(Stored(path, created))
    return sorted(found, key=lambda each: each.created, reverse=True)


def superfluous(backups: Iterable[Stored], keep: Keep, zone: tzinfo) -> list[Stored]:
    """Those that neither a day nor a week nor a month needs; never the newest.

    Args:
        backups: in any order.
        keep: how many of each; days without a backup are not counted.
        zone: of the site, whose days they are.
    """
    newest_first = sorted(backups, key=lambda each: each.created, reverse=True)
    wanted = set(newest_first[:1])
    for form, count in (("%Y-%m-%d", keep.daily), ("%G-%V", keep.weekly), ("%Y-%m", keep.monthly)):
        periods: dict[str, Stored] = {}
        for each in newest_first:
            periods.setdefault(each.created.astimezone(zone).strftime(form), each)
        wanted.update(list(periods.values())[:count])
    return [each for each in newest_first if each not in wanted]


def prune(where: Path, site_name: str, keep: Keep, zone: tzinfo) -> list[Path]:
    """Remove what :func:`superfluous` finds; returns the files."""
    gone = [each.path for each in superfluous(stored(where, site_name), keep, zone)]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def newest_age_h(site: Site) -> float | None:
    """How old the newest backup is [h]; None when there is none, or none is configured."""
    where = folder(site)
    found = stored(where, site.site.name) if where else []
    return round(found[0].age_h, 1) if found else None


def scheduled_backup(site: Site, stop: threading.Event | None = None) -> str:
    """Make a backup as ``[backup]`` says, in a process of its own, which is nice to others.

    Args:
        site: with the file that it came from.
        stop: ends the backup when set, as at the end of the service.

    Returns:
        What was done, one line.

    Raises:
        BackupError: it failed, was stopped, or took longer than :data:`LONGEST_S`.
    """
    command = [sys.executable, "-m", "sunmesh", "backup", "--background"]
    process = subprocess.Popen(
        [*command, "--config", str(site.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    waiting = stop or threading.Event()
    left_s = LONGEST_S
    why = ""
    while process.poll() is None:
        if waiting.wait(PAUSE_S):
            why = "stopped with the service"
        left_s -= PAUSE_S
        if left_s <= 0:
            why = f"still running after {LONGEST_S / 3600:.0f} h"
        if why:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            break
    out, err = process.communicate()
    if process.returncode or why:
        raise BackupError(why or _last(err) or f"exit status {process.returncode}")
    return _last(out)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def free_bytes(where: Path) -> int:
    """Room on the disk of that folder."""
    return shutil.disk_usage(where).free
