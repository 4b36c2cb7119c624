"""Records: messages as they stand in the spool's files; pure.

A record is ``magic, crc, length, arrival, flags, topic length, topic, payload``; the checksum
covers the length and what comes after it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple
from zlib import crc32

RETAINED = 1
"""Flag of a record: the broker had kept the message."""
AGAIN = 2
"""Flag of a record: the broker said that it may have sent the message before."""

GAP_TOPIC = "$gap"
"""Topic of a record of our own: what was lost, as JSON (:class:`recorder.codec.Gap`)."""

_MAGIC = b"\xf5SM\x01"
HEAD = Struct("<4sII")
BODY = Struct("<QBH")
_MAX_RECORD = 256 * 1024


class Record(NamedTuple):
    """A message as it came: ``arrival`` in ms since 1970, ``flags`` as above."""

    topic: str
    payload: bytes
    flags: int
    arrival: int


@dataclass(slots=True)
class Scan:
    """Where reading a stretch of a segment came to."""

    records: list[Record] = field(default_factory=list)
    end: int = 0
    damaged: int = 0


def pack(records: Iterable[Record]) -> bytes:
    """Records as they stand in a segment."""
    parts: list[bytes] = []
    for topic, payload, flags, arrival in records:
        name = topic.encode()
        body = b"".join((BODY.pack(arrival, flags, len(name)), name, payload))
        size = len(body)
        parts += (HEAD.pack(_MAGIC, crc32(body, size), size), body)
    return b"".join(parts)


def parse(data: bytes, topics: dict[bytes, str], limit: int = 1 << 30) -> Scan:
    """The records that ``data`` holds, as far as they are whole; damaged ones are skipped.

    Args:
        data: from the start of a record on.
        topics: names seen before; grows.
        limit: no more than that many records.
    """
    scan = Scan()
    for start, end, body in walk(data, scan):
        arrival, flags, length = BODY.unpack_from(data, body)
        at = body + BODY.size
        name = data[at : at + length]
        topic = topics.get(name)
        if topic is None:
            if len(topics) > 4000:
                topics.clear()
            topic = topics[name] = name.decode(errors="replace")
        if len(scan.records) >= limit:
            scan.end = start
            break
        scan.records.append(Record(topic, data[at + length : end], flags, arrival))
        scan.end = end
    return scan


def walk(data: bytes, scan: Scan) -> Iterator[tuple[int, int, int]]:
    """(start, end, body) of each whole record; counts what is none but has whole ones after it."""
    at, view = 0, memoryview(data)
    skipped = False
    while True:
        if _is_whole(data, view, at):
            if skipped:
                scan.damaged += 1
                skipped = False
            _magic, _crc, size = HEAD.unpack_from(data, at)
            end = at + HEAD.size + size
            yield at, end, at + HEAD.size
            at = end
            continue
        # No record starts here, or its end is not there: look for a whole one further on.
        skipped = True
        at = data.find(_MAGIC, at + 1)
        if at < 0:
            return


def _is_whole(data: bytes, view: memoryview, at: int) -> bool:
    if len(data) - at < HEAD.size + BODY.size:
        return False
    magic, crc, size = HEAD.unpack_from(data, at)
    start = at + HEAD.size
    return bool(
        magic == _MAGIC
        and BODY.size <= size <= _MAX_RECORD
        and start + size <= len(data)
        and crc32(view[start : start + size], size) == crc
    )
