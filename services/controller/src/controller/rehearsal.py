"""A replay that the portal asks for: a process of its own, told as messages.

One at a time. What it is told goes through a file that only this user can read, and is deleted.
"""

import contextlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sunmesh.errors import RefusedError

from .book import Draft

log = logging.getLogger(__name__)

LONGEST_S = 900.0
LONGEST_DAYS = 366
PAYLOAD = 60_000
"""A message is no longer than 64 KiB."""
PROGRESS = re.compile(r"controller replay: (\d+)% of")
NICENESS = 10


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be replayed.

    Attributes:
        days: so many back from now.
        rule: this one alone; empty for all together.
        draft: with this change; and once more without it.
    """

    days: float = 30.0
    rule: str = ""
    draft: Draft | None = None


def read_wanted(value: object) -> Wanted:
    """What a command asks for.

    Raises:
        RefusedError: it cannot be read.
    """
    try:
        wanted = msgspec.json.decode(value if isinstance(value, str) else "", type=Wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        raise RefusedError(f"the replay cannot be read: {err}") from err
    if not 0 < wanted.days <= LONGEST_DAYS:
        raise RefusedError(f"days must be above 0, and {LONGEST_DAYS} at most")
    return wanted


class Rehearsal:
    """Runs replays.

    Args:
        site_path: the configuration's file.
        tell: publishes a document.
        command: how the replay is started; arguments are added.
    """

    def __init__(
        self,
        site_path: Path,
        tell: Callable[[bytes], None],
        command: tuple[str, ...] = (sys.executable, "-m", "controller"),
    ) -> None:
        """Nothing runs yet."""
        self._site_path, self._tell, self._command = site_path, tell, command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_busy = self._ended = False

    def start(self, identity: str, wanted: Wanted, done: Callable[[str], None]) -> None:
        """Begin one.

        Args:
            identity: of the command.
            wanted: what.
            done: told why it failed; empty when it did not.

        Raises:
            RefusedError: another one runs.
        """
        with self._lock:
            if self._is_busy or self._ended:
                raise RefusedError("another replay is running; one at a time")
            self._is_busy = True
        thread = threading.Thread(target=self._run, args=(identity, wanted, done), daemon=True)
        thread.start()

    def stop(self) -> None:
        """End what runs."""
        with self._lock:
            self._ended = True
            process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def _run(self, identity: str, wanted: Wanted, done: Callable[[str], None]) -> None:
        why = "a mistake of this program"
        try:
            with tempfile.TemporaryDirectory(prefix="replay-") as folder:
                why = self._work(identity, wanted, Path(folder))
        except Exception as err:
            log.exception("the replay failed")
            why = f"{type(err).__name__}: {err}"
        finally:
            with self._lock:
                self._is_busy, self._process = False, None
            if why:
                self._say(identity, wanted, state="failed", why=why)
            done(why)

    def _work(self, identity: str, wanted: Wanted, folder: Path) -> str:
        words = [*self._command, "replay", "--json", "--compact", "--config", str(self._site_path)]
        words += ["--days", f"{wanted.days:g}"]
        if wanted.rule:
            words += ["--rule", wanted.rule]
        if wanted.draft is not None:
            draft = folder / "draft.json"
            draft.write_bytes(msgspec.json.encode(msgspec.to_builtins(wanted.draft)))
            words += ["--draft", str(draft)]
        out = folder / "out.json"
        last = ""
        with (
            out.open("wb") as file,
            subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE
            ) as process,
        ):
            with self._lock:
                self._process = process
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            timer = threading.Timer(LONGEST_S, process.kill)
            timer.daemon = True
            timer.start()
            self._say(identity, wanted, state="running", done=0)
            for raw in process.stderr or ():
                line = raw.decode(errors="replace").strip()
                last = line or last
                match = PROGRESS.match(line)
                if match:
                    self._say(identity, wanted, state="running", done=int(match[1]) / 100)
        timer.cancel()
        if process.returncode:
            return last.removeprefix("controller replay: ")[:300] or "it was ended"
        return self._answer(identity, wanted, out.read_bytes())

    def _answer(self, identity: str, wanted: Wanted, text: bytes) -> str:
        reports: dict[str, Any] = msgspec.json.decode(text)
        if len(text) > PAYLOAD:
            for report in reports.values():
                for switch in report["switches"]:
                    switch.pop("saw", None)
        while len(msgspec.json.encode(reports)) > PAYLOAD:
            for report in reports.values():  # the newest are kept; counts are of all
                report["switches"] = report["switches"][len(report["switches"]) // 2 :]
                report["open"] = report["open"][len(report["open"]) // 2 :]
                report["active"] = {
                    rule: spans[len(spans) // 2 :] for rule, spans in report["active"].items()
                }
                report["is_cut"] = True
        self._say(identity, wanted, state="done", done=1, **reports)
        return ""

    def _say(self, identity: str, wanted: Wanted, **more: Any) -> None:  # noqa: ANN401
        document = {"id": identity, "rule": wanted.rule, "days": wanted.days, **more}
        self._tell(msgspec.json.encode(document))
