"""The spool: what the broker gave waits here, on disk, until the database has it.

A folder of segments, each a row of records; one is written, older ones are only read. What is
appended is on the disk when :meth:`Spool.append` returns. Whole segments are deleted once the
database has all of them; how far it had come within one is not kept, since every write of ours is
idempotent: after a kill the last segment is simply given again.

While the database keeps up, records go to it from memory and are never read back. When it does
not, what is in memory stays bounded, and the rest is read from the segments later, in order.

A segment is called ``<number>.open`` while it is written, then
``<number>-<messages>.full``, and ``<number>-<messages>.thin`` once its samples were thrown away
to make room.
"""

import errno
import fcntl
import logging
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sunmesh.errors import ConfigError

from .records import BODY, HEAD, Record, Scan, pack, parse, walk

log = logging.getLogger(__name__)

SEGMENT_BYTES = 2 * 1024 * 1024
"""A segment is closed when it is that large; the largest spool has 16 of them at least."""
SMALL_BYTES = 256 * 1024
"""The database has everything: a segment of that size is closed already, and so deleted."""
MEMORY_BYTES = 512 * 1024
"""Records kept in memory for the database; the others are read back [bytes]."""
READ_BYTES = 128 * 1024

_NAME = re.compile(r"(\d{10})(?:\.open|-(\d+)\.(full|thin))")


class Position(NamedTuple):
    """A place between two records."""

    segment: int
    offset: int


@dataclass(slots=True)
class Segment:
    """A file of the spool."""

    number: int
    path: Path
    size: int = 0
    messages: int = 0
    oldest: int | None = None
    is_thin: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that follow each other, up to ``end``; so many between them could not be read."""

    records: Sequence[Record]
    end: Position
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class _Group:
    """What one append wrote, kept in memory."""

    start: Position
    end: Position
    records: list[Record]
    size: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How full the spool is."""

    messages: int
    bytes: int
    share: float
    oldest: int | None


class NoRoomError(OSError):
    """The spool is full of what must not be thrown away."""


class Spool:
    """The spool of one recorder.

    :meth:`append` is for one thread, :meth:`take` and :meth:`done` for another.

    Args:
        folder: where the segments are; made at the first :meth:`append`.
        limit_bytes: no more is kept.
        summarize: says what the loss of these records is, as a record; None = nothing worth it.
        is_raw: whether a record of that topic may be thrown away to make room.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        is_raw: Callable[[str], bool],
        summarize: Callable[[Iterable[Record]], Record | None],
    ) -> None:
        """Nothing is touched before :meth:`lock` or :meth:`append`."""
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.segment_bytes = min(SEGMENT_BYTES, max(64 * 1024, limit_bytes // 16))
        self.torn = self.damaged = self.thrown = self.syncs = 0
        self._is_raw, self._summarize = is_raw, summarize
        self._guard = threading.Lock()
        self._segments: dict[int, Segment] = {}
        self._bytes = self._ahead = 0
        self._at = self._until = Position(0, 0)
        self._taken: Position | None = None
        self._memory: deque[_Group] = deque()
        self._memory_bytes = 0
        self._file: int | None = None
        self._lock_file: int | None = None
        self._is_open = False
        self._reader: tuple[int, int] | None = None
        self._topics: dict[bytes, str] = {}

    # -- opening -----------------------------------------------------------------------------------

    def lock(self) -> None:
        """Keep every other recorder out of the folder, as long as this process lives.

        Raises:
            ConfigError: one is there; names it.
            OSError: the folder cannot be written; the lock is tried again with each segment.
        """
        if self._lock_file is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            raise ConfigError(
                f"{self.folder}: another recorder uses this spool: {holder or 'unknown'}"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._lock_file = file

    def open(self) -> None:
        """Find what an earlier recorder left; done by the first append if this fails.

        Raises:
            OSError: the folder cannot be read or written.
            ConfigError: another recorder uses it.
        """
        if self._is_open:
            return
        self.lock()
        for draft in self.folder.glob("*.draft"):
            draft.unlink()
        newest: dict[int, Segment] = {}
        for segment in survey(self.folder):
            other = newest.setdefault(segment.number, segment)
            if other is not segment:  # killed between making the thin one and deleting this
                newest[segment.number] = segment if segment.is_thin else other
                (other if segment.is_thin else segment).path.unlink()
        found = [newest[number] for number in sorted(newest)]
        for segment in found:
            if segment.path.suffix == ".open":
                self._mend(segment)
        with self._guard:
            for segment in found:
                if segment.messages:
                    self._segments[segment.number] = segment
                    self._bytes += segment.size
                    self._ahead += segment.messages
                else:
                    segment.path.unlink()
            last = found[-1].number if found else 0
            self._until = Position(last + 1, 0)
            self._at = Position(min(self._segments, default=last + 1), 0)
            self._is_open = True

    def _mend(self, segment: Segment) -> None:
        """Cut off what a kill left half written at the end of a segment."""
        good = count(segment)
        if good < segment.size:
            log.warning(
                "%s: the last record was cut off by a crash; %d bytes are dropped, which the"
                " broker was never told of",
                segment.path.name,
                segment.size - good,
            )
            self.torn += 1
            os.truncate(segment.path, good)
            segment.size = good

    def close(self) -> None:
        """Let go of the files; an emptied spool leaves no segment."""
        if self._reader is not None:
            os.close(self._reader[1])
            self._reader = None
        if self._is_open and self._file is not None:
            with suppress(OSError):
                self._rotate()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # -- in ----------------------------------------------------------------------------------------

    def append(self, records: list[Record]) -> None:
        """Write ``records``; when this returns they survive whatever happens.

        Raises:
            OSError: they are not written, and nothing else is lost; try again.
        """
        self.open()
        data = pack(records)
        self._make_room(len(data))
        is_idle = self._at == self._until
        if self._file is not None and (
            self._until.offset >= self.segment_bytes
            or (is_idle and self._until.offset >= SMALL_BYTES)
        ):
            self._rotate()
        file = self._begin() if self._file is None else self._file
        start = self._until
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            self.syncs += 1
            os.fdatasync(file)
        except OSError:
            # What of it is on the disk now is unknown, and stays so after a failed sync: this
            # segment ends before it.
            with suppress(OSError):
                os.ftruncate(file, start.offset)
            with suppress(OSError):
                self._rotate()
            raise
        end = Position(start.segment, start.offset + len(data))
        with self._guard:
            segment = self._segments[start.segment]
            segment.size = end.offset
            segment.messages += len(records)
            if segment.oldest is None:
                segment.oldest = records[0].arrival
            self._bytes += len(data)
            self._ahead += len(records)
            self._until = end
            if self._memory_bytes + len(data) <= MEMORY_BYTES or not self._memory:
                self._memory.append(_Group(start, end, records, len(data)))
                self._memory_bytes += len(data)

    def _begin(self) -> int:
        """A new segment, open to be written."""
        number = self._until.segment
        path = self.folder / f"{number:010}.open"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            _sync_folder(self.folder)
        except OSError:
            os.close(file)
            raise
        with self._guard:
            self._file = file
            self._segments[number] = Segment(number, path)
        return file

    def _rotate(self) -> None:
        """Close the segment that is written; nobody appends to it again."""
        file, self._file = self._file, None
        if file is None:
            return
        os.close(file)
        with self._guard:
            segment = self._segments[self._until.segment]
            self._until = Position(segment.number + 1, 0)
            if self._at >= (segment.number, segment.size):
                self._at = self._until
                self._forget(segment)
            elif not segment.size:
                self._forget(segment)
            else:
                target = self.folder / f"{segment.number:010}-{segment.messages}.full"
                segment.path = segment.path.rename(target)

    # -- out ---------------------------------------------------------------------------------------

    @property
    def ahead(self) -> int:
        """How many messages the database does not have yet."""
        return max(1, self._ahead) if self._at != self._until else 0

    def take(self, messages: int) -> Batch | None:
        """The next records, about ``messages`` of them; None when the database has all.

        The same ones come again until :meth:`done` is called with them.

        Raises:
            OSError: the folder cannot be read.
        """
        if not self._is_open:
            return None
        with self._guard:
            self._taken = None
            if self._at == self._until:
                return None
            while self._memory and self._memory[0].start < self._at:
                self._memory_bytes -= self._memory.popleft().size
            if self._memory and self._memory[0].start == self._at:
                batch = self._from_memory(messages)
                self._taken = batch.end
                return batch
            segment = self._segments[self._at.segment]
            stop = segment.size
            if self._memory and self._memory[0].start.segment == segment.number:
                stop = self._memory[0].start.offset
            self._taken = Position(segment.number, stop)
        batch = self._from_disk(segment, stop, messages)
        self._taken = batch.end
        return batch

    def _from_memory(self, messages: int) -> Batch:
        """Groups that follow each other, as many as are wanted; one at least."""
        first = self._memory[0]
        if len(first.records) >= messages:
            return Batch(first.records, first.end)
        records: list[Record] = []
        end = first.start
        for group in self._memory:
            if records and len(records) + len(group.records) > messages:
                break
            if not self._touches(end, group.start):
                break
            records += group.records
            end = group.end
        return Batch(records, end)

    def _touches(self, end: Position, start: Position) -> bool:
        """Whether nothing lies between two places."""
        if end == start:
            return True
        if start.offset or end.segment >= start.segment:
            return False
        segment = self._segments.get(end.segment)
        is_ended = segment is None or end.offset >= segment.size
        between = range(end.segment + 1, start.segment)
        return is_ended and not any(number in self._segments for number in between)

    def _from_disk(self, segment: Segment, stop: int, messages: int) -> Batch:
        at = self._at.offset
        scan = Scan(end=at)
        try:
            data = self._read(segment, at, min(stop, at + READ_BYTES))
            scan = parse(data, self._topics, messages)
            while not scan.records and at + len(data) < stop:
                data = self._read(segment, at, min(stop, at + len(data) * 2))
                scan = parse(data, self._topics, messages)
            end = at + scan.end
            is_last = at + len(data) >= stop
            if is_last and len(scan.records) < messages and end < stop:
                scan.damaged += 1  # an end that is no record
                end = stop
        except OSError as err:
            if err.errno != errno.EIO:
                raise
            log.error("%s cannot be read: %s; the rest of it is lost", segment.path, err.strerror)
            scan.damaged += 1
            end = stop
        if scan.damaged:
            if not self.damaged:
                log.error(
                    "%s: %d damaged records are skipped; is the disk failing?",
                    segment.path,
                    scan.damaged,
                )
            self.damaged += scan.damaged
        return Batch(scan.records, Position(segment.number, end), scan.damaged)

    def _read(self, segment: Segment, start: int, stop: int) -> bytes:
        if self._reader is None or self._reader[0] != segment.number:
            if self._reader is not None:
                os.close(self._reader[1])
                self._reader = None
            with self._guard:  # its name changes when it is closed
                file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            self._reader = segment.number, file
        return os.pread(self._reader[1], stop - start, start)

    def done(self, batch: Batch) -> None:
        """The database has ``batch``, the one that was taken last: forget it."""
        with self._guard:
            self._taken = None
            self._at = batch.end
            self._ahead -= len(batch.records)
            while self._memory and self._memory[0].start < batch.end:
                self._memory_bytes -= self._memory.popleft().size
            for number in sorted(self._segments):
                segment = self._segments[number]
                is_read = self._at >= (number, segment.size)
                if number == self._until.segment or not is_read:
                    break
                self._forget(segment)
                first = min(self._segments, default=self._until.segment)
                self._at = max(self._at, Position(first, 0))
            if self._at == self._until:
                self._ahead = 0

    def _forget(self, segment: Segment) -> None:
        """Delete a segment; the guard is held."""
        del self._segments[segment.number]
        self._bytes -= segment.size
        with suppress(OSError):
            segment.path.unlink()

    # -- room --------------------------------------------------------------------------------------

    @property
    def depth(self) -> Depth:
        """How many messages wait, since when, and what the segments take on the disk."""
        with self._guard:
            oldest = None
            if self._at != self._until:
                times = [s.oldest for _n, s in sorted(self._segments.items()) if s.oldest]
                oldest = times[0] if times else None
            return Depth(self._ahead, self._bytes, self._bytes / self.limit_bytes, oldest)

    def _make_room(self, size: int) -> None:
        """Throw away the oldest raw samples until ``size`` more bytes fit.

        Raises:
            NoRoomError: nothing is left that may be thrown away.
            OSError: a segment cannot be rewritten.
        """
        while self._bytes + size > self.limit_bytes:
            victim = self._victim()
            if victim is None:
                raise NoRoomError(errno.ENOSPC, "the spool is full of what must be kept")
            self._thin(victim)

    def _victim(self) -> Segment | None:
        """The oldest segment with samples that the database is not being given right now."""
        with self._guard:
            for number in sorted(self._segments):
                segment = self._segments[number]
                is_written = number == self._until.segment and self._file is not None
                if not (segment.is_thin or is_written or self._is_busy(number)):
                    return segment
        return None

    def _is_busy(self, number: int) -> bool:
        """Whether the database is being given that segment right now."""
        return self._taken is not None and self._at.segment <= number <= self._taken.segment

    def _thin(self, segment: Segment) -> None:
        """Write a segment anew without its raw samples, with a note of what was lost."""
        with self._guard:
            at = self._at
        # what the database has of it already is no loss
        start = at.offset if at.segment == segment.number else 0
        scan = parse(segment.path.read_bytes()[start : segment.size], {})
        kept = [record for record in scan.records if not self._is_raw(record.topic)]
        lost = [record for record in scan.records if self._is_raw(record.topic)]
        note = self._summarize(lost) if lost else None
        if note is not None:
            kept.insert(0, note)
        thinned = pack(kept)
        target = self.folder / f"{segment.number:010}-{len(kept)}.thin"
        draft = target.with_suffix(".draft")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            os.write(file, thinned)
            os.fdatasync(file)
        finally:
            os.close(file)
        with self._guard:
            if self._at != at or self._is_busy(segment.number):
                draft.unlink()  # the database has come that far meanwhile
                return
            draft.rename(target)
            old, segment.path = segment.path, target
            if old != target:
                old.unlink(missing_ok=True)
            self._bytes += len(thinned) - segment.size
            self._ahead += len(kept) - len(scan.records)
            segment.size, segment.messages, segment.is_thin = len(thinned), len(kept), True
            segment.oldest = kept[0].arrival if kept else None
            self._memory = deque(g for g in self._memory if g.start.segment != segment.number)
            self._memory_bytes = sum(group.size for group in self._memory)
            if self._reader is not None and self._reader[0] == segment.number:
                os.close(self._reader[1])
                self._reader = None
            if self._at.segment == segment.number:
                self._at = Position(segment.number, 0)
        self.thrown += len(lost)
        self.damaged += scan.damaged
        _sync_folder(self.folder)


def count(segment: Segment) -> int:
    """Count what a segment holds; where the last whole record of it ends.

    Raises:
        OSError: it cannot be read.
    """
    data = segment.path.read_bytes()
    whole = list(walk(data, Scan()))
    segment.messages = len(whole)
    segment.oldest = BODY.unpack_from(data, whole[0][2])[0] if whole else None
    return whole[-1][1] if whole else 0


def survey(folder: Path) -> list[Segment]:
    """The segments in ``folder`` by their names; what is open or of unknown age is not read.

    Raises:
        OSError: the folder cannot be read.
    """
    found = []
    for path in folder.iterdir():
        if (match := _NAME.fullmatch(path.name)) is None:
            continue
        segment = Segment(int(match[1]), path, path.stat().st_size, int(match[2] or 0))
        segment.is_thin = match[3] == "thin"
        if match[2]:
            with path.open("rb") as file:
                head = file.read(HEAD.size + BODY.size)
            if len(head) == HEAD.size + BODY.size:
                segment.oldest = BODY.unpack_from(head, HEAD.size)[0]
        found.append(segment)
    return found


def _sync_folder(folder: Path) -> None:
    """Make names in ``folder`` durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
