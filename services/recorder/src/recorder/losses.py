"""What is known to be lost, as records that go the way of the messages."""

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec
from sunmesh import clock

from . import codec
from .codec import Gap
from .records import GAP_TOPIC, RETAINED, Record
from .spool import Batch

log = logging.getLogger(__name__)

ASIDE = "refused.jsonl"
ASIDE_BYTES = 16 * 1024 * 1024


def put_aside(folder: Path, record: Record, reason: str) -> None:
    """Append a message to a file that ``recorder ingest`` takes, while that is of bearable size."""
    line = {
        "topic": record.topic,
        "payload": record.payload.decode(errors="replace"),
        "reason": reason,
        "arrival": clock.iso(clock.from_ms(record.arrival)),
    }
    try:
        with (folder / ASIDE).open("ab") as file:
            if file.tell() < ASIDE_BYTES:
                file.write(msgspec.json.encode(line) + b"\n")
    except OSError as err:
        log.error("%s cannot be put aside: %s", record.topic, err.strerror)


def note(gap: Gap) -> Record:
    """A loss as a record of the spool."""
    arrival = clock.epoch_ms(clock.now())
    return Record(GAP_TOPIC, msgspec.json.encode(gap), 0, arrival)


def summarize(lost: Iterable[Record]) -> Record | None:
    """The gap that throwing these samples away makes; what was only repeated makes none."""
    times: list[int] = []
    devices: set[str] = set()
    for record in lost:
        if record.flags & RETAINED:
            continue
        devices.add(record.topic.rpartition("/")[0])
        times.append(codec.time_of(record.payload) or record.arrival)
    if not times:
        return None
    detail = f"samples of {len(devices)} devices: the recorder's spool was full"
    return note(Gap(min(times), max(times), "spool_full", len(times), detail))


def damaged(batch: Batch) -> Gap:
    """The gap that records which cannot be read make; when they came is all that is known."""
    times = [record.arrival for record in batch.records] or [clock.epoch_ms(clock.now())]
    detail = "records of the spool were damaged on the disk"
    return Gap(min(times), max(times), "spool_damaged", batch.damaged, detail)
