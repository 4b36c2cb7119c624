"""Which samples imports added: stamps packed into a part, and read back in order of time."""

import heapq
import zlib
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, select

from ...database.tables import import_batch, import_part


def pack(stamps: Sequence[int]) -> bytes:
    """Rising times [ms] as compressed differences to the one before; the first is 0."""
    steps = [0, *(after - before for before, after in zip(stamps, stamps[1:], strict=False))]
    return zlib.compress(",".join(map(str, steps)).encode(), 6)


def unpack(first: int, packed: bytes) -> list[int]:
    """The times that were packed."""
    now = first
    result = []
    for step in zlib.decompress(packed).split(b","):
        now += int(step)
        result.append(now)
    return result


def imported(connection: Connection, series_id: int, start: int, end: int) -> Iterator[int]:
    """Times of this series' samples that imports added and nobody undid, rising, in [start, end].

    Args:
        connection: open as long as this is read.
        series_id: which.
        start: the first that is wanted [ms].
        end: the last.
    """
    part = import_part
    rows = connection.execute(
        select(part.c.batch_id, part.c.first, part.c.stamps)
        .join(import_batch, import_batch.c.id == part.c.batch_id)
        .where(part.c.series_id == series_id, part.c.first <= end, import_batch.c.undone.is_(None))
        .order_by(part.c.first)
    ).all()
    heap: list[tuple[int, int, list[int], int]] = []
    at = 0
    while at < len(rows) or heap:
        while at < len(rows) and (not heap or rows[at].first <= heap[0][0]):
            found = unpack(rows[at].first, rows[at].stamps)
            heapq.heappush(heap, (found[0], at, found, 0))
            at += 1
        now, key, found, index = heapq.heappop(heap)
        if now > end:
            return
        if now >= start:
            yield now
        if index + 1 < len(found):
            heapq.heappush(heap, (found[index + 1], key, found, index + 1))
