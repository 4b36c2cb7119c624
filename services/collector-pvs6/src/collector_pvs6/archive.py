"""Every answer, kept: JSON lines, compressed, without secrets, up to a size.

``zcat archive/solar-*.gz | collector-pvs6 decode -`` reads them again. Each start and each day
begin a file; each poll appends a gzip member of its own, so that a power cut costs that one poll.
"""

import gzip
import json
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from sunmesh import clock

log = logging.getLogger(__name__)

MEGABYTE = 1_000_000
SUFFIX = ".jsonl.gz"
DAY = "[0-9]" * 8


class Archive:
    """The files of one gateway; nothing here ever stops a poll.

    Args:
        folder: where; None keeps nothing.
        device: the gateway's name in the mesh.
        limit_mb: all its files together; the oldest are deleted.
    """

    def __init__(self, folder: Path | None, device: str, limit_mb: float) -> None:
        """Nothing is made yet."""
        self.errors = 0
        self._folder = folder
        self._device = device
        self._limit = int(limit_mb * MEGABYTE)
        self._path: Path | None = None
        self._day = ""

    def keep(self, now: datetime, replies: list[dict[str, Any]]) -> None:
        """Append the redacted replies of one poll."""
        if self._folder is None or not replies:
            return
        ts = clock.iso(now)
        lines = "".join(
            json.dumps({"ts": ts, **each}, ensure_ascii=False, separators=(",", ":")) + "\n"
            for each in replies
        )
        try:
            self._append(self._folder, now, gzip.compress(lines.encode(), mtime=0))
        except OSError as err:
            if not self.errors:
                log.warning("%s: answers are not archived: %s", self._device, err)
            self.errors += 1

    def _append(self, folder: Path, now: datetime, data: bytes) -> None:
        day = f"{now:%Y%m%d}"
        if self._path is None or day != self._day:
            folder.mkdir(parents=True, exist_ok=True)
            self._path, self._day = folder / f"{self._device}-{now:%Y%m%dT%H%M%S%f}{SUFFIX}", day
        self._make_room(folder, len(data))
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            size = os.fstat(file).st_size
            if os.write(file, data) < len(data):  # the disk is full: no torn member
                os.ftruncate(file, size)
                raise OSError(f"{self._path} cannot grow")
        finally:
            os.close(file)

    def _make_room(self, folder: Path, wanted: int) -> None:
        """Delete the oldest files, the present one last, until ``wanted`` bytes fit."""
        files = sorted(folder.glob(f"{self._device}-{DAY}T*{SUFFIX}"))
        sizes = {path: path.stat().st_size for path in files}
        for path in files:
            if sum(sizes.values()) + wanted <= self._limit:
                return
            path.unlink()
            del sizes[path]
