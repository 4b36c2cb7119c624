"""Long work of the page *Data*: an import, its dry run, a backup, each a process of its own.

One at a time: all of them read or write the whole database. What a process says while it works is
its progress; when the portal ends, it is interrupted, and what it had begun it takes back.
"""

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sunmesh import clock

NICE = 10
KEPT = 20
"""So many finished ones can still be looked at."""
STOP_S = 5.0
LINE_LENGTH = 300


class BusyError(Exception):
    """Something else is being done."""


@dataclass(slots=True)
class Job:
    """One piece of work.

    Attributes:
        id: for its address.
        kind: ``plan``, ``import``, ``undo``, ``backup`` or ``verify``.
        subject: what it is done with: a file, a number.
        by: who asked.
        out: what it printed.
        code: its exit status; None = it is still at work.
        said: the last lines that it said, the newest last.
        upload: of which import it is; empty = of none.
    """

    id: str
    kind: str
    subject: str
    by: str
    started: datetime
    out: Path
    upload: str = ""
    code: int | None = None
    ended: datetime | None = None
    said: list[str] = field(default_factory=list)
    process: "subprocess.Popen[str] | None" = None

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.code is not None

    @property
    def is_good(self) -> bool:
        """Whether it ended well."""
        return self.code == 0

    @property
    def last(self) -> str:
        """What it said last."""
        return self.said[-1] if self.said else ""


class Jobs:
    """All work of this portal."""

    def __init__(self) -> None:
        """Makes nothing before the first job."""
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._folder: Path | None = None

    def folder(self) -> Path:
        """A folder that lives as long as the portal."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="sunmesh-web-"))
                atexit.register(self.close)
            return self._folder

    def get(self, number: str) -> Job | None:
        """A job by its id."""
        return self._jobs.get(number)

    def running(self) -> Job | None:
        """What is being done now."""
        return next((job for job in list(self._jobs.values()) if not job.is_done), None)

    def start(
        self,
        kind: str,
        subject: str,
        by: str,
        arguments: Sequence[str],
        *,
        upload: str = "",
        on_end: Callable[[Job], None] = lambda job: None,
    ) -> Job:
        """Run ``sunmesh`` with ``arguments``.

        Args:
            kind: of work.
            subject: what it is done with.
            by: who asks.
            arguments: without the program's name.
            upload: of which import.
            on_end: told when it has ended, by another thread.

        Raises:
            BusyError: something else is being done.
        """
        number = secrets.token_hex(8)
        out = self.folder() / f"{number}.out"
        with self._lock:
            if self.running() is not None:
                raise BusyError
            job = Job(number, kind, subject, by, clock.now(), out, upload)
            with out.open("w", encoding="utf-8") as file:
                job.process = subprocess.Popen(
                    [sys.executable, "-m", "sunmesh", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, job.process.pid, NICE)
            self._jobs[number] = job
            while len(self._jobs) > KEPT:
                _number, old = self._jobs.popitem(last=False)
                old.out.unlink(missing_ok=True)
        threading.Thread(target=self._watch, args=(job, on_end), daemon=True).start()
        return job

    def _watch(self, job: Job, on_end: Callable[[Job], None]) -> None:
        process = job.process
        if process is None or process.stderr is None:
            return
        with process.stderr:
            for line in process.stderr:
                if text := line.strip()[:LINE_LENGTH]:
                    job.said = [*job.said[-19:], text]
        code = process.wait()
        job.ended = clock.now()
        try:
            job.code = code  # so that whoever waits for the end also sees its time
            on_end(job)
        finally:
            job.process = None

    def stop(self, job: Job) -> None:
        """Interrupt it; it takes back what it had begun."""
        process = job.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End what is at work, and leave nothing behind."""
        job = self.running()
        if job is not None and job.process is not None:
            self.stop(job)
            with suppress(subprocess.TimeoutExpired):
                job.process.wait(STOP_S)
            if job.process is not None and job.process.poll() is None:
                job.process.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
