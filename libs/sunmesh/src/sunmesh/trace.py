"""Raw answers of a device, sent on for some minutes while its collector polls on.

A device that is read wrongly is understood from what it really said, and its port is the
collector's. Whoever may asks on ``<device>/trace``; what the loop is answered anyway, and not one
question more, goes to ``<device>/trace/frames`` as records of a capture file. Loaded when somebody
asks, for a collector must stay small.
"""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from . import clock
from .errors import MessageError
from .messages import Frames, TraceWish, decode, encode
from .mqtt import Mesh, Message
from .tap import Capture, Tap

log = logging.getLogger(__name__)

LONGEST_S = 600.0
EVERY_S = 2.0
"""So often who asked hears how it goes, with an answer or without."""

BATCH_BYTES = 32 * 1024
"""Of the records in one message; a single record may be larger, up to ``RECORD_BYTES``."""

RECORD_BYTES = 60 * 1024
LIMIT_BYTES = 256 * 1024
"""Of all records of one recording; what comes after that is counted and left out."""

ID_LENGTH = 36
SHORTEST_SECRET = 5
"""A shorter serial number stands in too many answers by chance."""


class Tracer:
    """Hears and does the wishes for raw answers of ``device``, one at a time.

    Args:
        mesh: where.
        device: its name in the mesh.
        tap: where its link shows each exchange; None = nowhere.
        begin: called for each recording; gives what makes records of it.
        secrets: serial numbers that must stand in no record, whatever its family knows.
    """

    def __init__(
        self,
        mesh: Mesh,
        device: str,
        tap: Tap | None,
        begin: Callable[[], Capture] | None,
        secrets: Iterable[str] = (),
    ) -> None:
        """Nothing is recorded yet."""
        self._mesh = mesh
        self._device = device
        self._tap = tap
        self._begin = begin
        self._secrets = secrets
        self._current: Recording | None = None

    def hear(self, message: Message) -> None:
        """Take a message that came on the device's topic for wishes of this kind."""
        if not message.payload:
            return  # somebody cleared a retained one
        try:
            wish = decode(TraceWish, message.payload)
        except MessageError as err:
            log.warning("%s: not a wish for raw answers: %s", self._device, err)
            return
        tap, begin = self._tap, self._begin
        why = _why_not(wish, retained=message.retain)
        if tap is None or begin is None:
            service = self._mesh.service
            why = why or f"this device cannot be recorded while it runs: use `{service} record`"
        if why or tap is None or begin is None:
            log.info("%s: raw answers refused: %s", self._device, why)
            refused = Frames(wish.id[:ID_LENGTH], 0, clock.iso(clock.now()), last=True, why=why)
            self._mesh.publish(self._mesh.topics.frames(self._device), encode(refused))
            return
        current = self._current
        if current is not None and current.id == wish.id:
            if not wish.seconds:
                current.end("cancelled")
            return  # else delivered twice
        if wish.seconds:
            self.end(f"{wish.by} asked anew")
            log.info("%s: raw answers for %g s, for %s", self._device, wish.seconds, wish.by)
            self._current = Recording(self._mesh, self._device, tap, begin(), wish, self._secrets)
            self._current.start()

    def end(self, why: str) -> None:
        """End what is being recorded, if anything is."""
        if self._current is not None:
            self._current.end(why)


def _why_not(wish: TraceWish, *, retained: bool) -> str:
    """Why ``wish`` must not be done; empty when it may."""
    if retained:
        return "it is retained: it may be old, and would come for ever"
    if clock.parse(wish.expires) <= clock.now():
        return f"it was to be begun by {wish.expires}"
    if not (0 < len(wish.id) <= ID_LENGTH and wish.id.isprintable()):
        return f"an id is 1 to {ID_LENGTH} printable characters"
    if not 0 <= wish.seconds <= LONGEST_S:
        return f"seconds must be 1 to {LONGEST_S:g}, or 0 to end it, got {wish.seconds:g}"
    return ""


class Recording:
    """One recording: listens at ``tap`` and speaks from a thread of its own.

    Args:
        mesh, device: where.
        tap: what it listens at.
        capture: makes a record of an exchange.
        wish: how long, and for whom.
        secrets: see :class:`Tracer`.
    """

    def __init__(
        self,
        mesh: Mesh,
        device: str,
        tap: Tap,
        capture: Capture,
        wish: TraceWish,
        secrets: Iterable[str] = (),
    ) -> None:
        """Nothing is listened to before :meth:`start`."""
        self.id = wish.id
        self._mesh = mesh
        self._device = device
        self._tap = tap
        self._capture = capture
        self._secrets = secrets
        self._counts = dict.fromkeys(("answers", "damaged", "silent", "left_out"), 0)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._bytes = 0
        self._seq = 0
        self._begun = time.monotonic()
        self._until = self._begun + wish.seconds
        self._is_over = False
        self._lock = threading.Lock()
        self._saying = threading.Lock()
        self._wake = threading.Event()

    def start(self) -> None:
        """Listen, and say so at once."""
        self._tap.listener = self.hear
        name = f"trace {self._device}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def hear(self, asked: Any, came: Any) -> None:  # noqa: ANN401 - the family's own
        """Keep one exchange. A mistake in here costs a record, never a reading."""
        try:
            record: dict[str, object] = {
                "at_s": round(time.monotonic() - self._begun, 3),
                **self._capture(asked, came),
            }
            if not came:
                record["error"] = "no_answer"
            data = hidden(msgspec.json.encode(record), self._secrets)
        except Exception:
            log.exception("%s: an answer could not be recorded", self._device)
            data, record = b"", {}
        with self._lock:
            if came:
                self._counts["answers"] += 1
                self._counts["damaged"] += "error" in record
            else:
                self._counts["silent"] += 1
            if not data or len(data) > RECORD_BYTES or self._bytes + len(data) > LIMIT_BYTES:
                self._counts["left_out"] += 1
                return
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._bytes += len(data)
            is_full = self._waiting_bytes >= BATCH_BYTES
        if is_full:
            self._wake.set()

    def end(self, why: str = "") -> None:
        """Listen no more, and send what is left; ``why`` where the time was not over."""
        with self._saying:
            if self._is_over:
                return
            self._is_over = True
            if self._tap.listener == self.hear:
                self._tap.listener = None
            self._say(last=True, why=why)
        self._wake.set()

    def _run(self) -> None:
        with self._saying:
            if not self._is_over:
                self._say()
        while not self._is_over:
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                self.end()
                return
            self._wake.wait(min(EVERY_S, left_s))
            self._wake.clear()
            with self._saying:
                if not self._is_over and (self._waiting or self._mesh.connected):
                    self._say()

    def _say(self, *, last: bool = False, why: str = "") -> None:
        """Send what waits, in as many messages as it takes; one in any case."""
        more = True
        while more:
            with self._lock:
                batch = self._next_batch()
                counts = dict(self._counts)
                more = bool(self._waiting)
            is_last = last and not more
            frames = Frames(
                id=self.id,
                seq=self._seq,
                ts=clock.iso(clock.now()),
                records=[msgspec.Raw(each) for each in batch],
                last=is_last,
                why=why if is_last else "",
                **counts,
            )
            self._seq += 1
            self._mesh.publish(self._mesh.topics.frames(self._device), encode(frames))

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0]) <= BATCH_BYTES):
            batch.append(self._waiting.popleft())
            size += len(batch[-1])
        self._waiting_bytes -= size
        return batch


def hidden(record: bytes, secrets: Iterable[str]) -> bytes:
    """``record`` with ``x`` for each secret, as letters and as their hex.

    The families blank the answers that hold a serial number; this is for one that comes late, in
    the place of another.
    """
    for secret in tuple(secrets):
        letters = secret.encode()
        if len(letters) < SHORTEST_SECRET:
            continue
        for form in (letters, letters.hex().encode(), letters.hex(" ").encode()):
            record = record.replace(form, re.sub(rb"[^ ]", b"x", form))
    return record
