"""``recorder ingest``: messages from a file, on the same way into the database as from the broker.

Lines are ``{"topic": ..., "payload": ...}``; the payload is the message itself or its JSON text.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from sunmesh.errors import MessageError

from . import codec
from .codec import Item, Telemetry
from .service import BadPayloads
from .store import RefusedRowError, Store, Written

log = logging.getLogger(__name__)

BATCH_VALUES = 20_000
"""Values a commit: a history comes at once, and what is not committed is read again."""


class Line(msgspec.Struct, frozen=True):
    """One line; ``payload`` stays as it is written."""

    topic: str
    payload: msgspec.Raw


@dataclass(slots=True)
class Progress:
    """How far an ingestion is."""

    started: float
    lines: int = 0
    refused: int = 0
    values: int = 0
    rows: int = 0

    def __str__(self) -> str:
        """One line for people: everything, and how fast."""
        elapsed_s = max(time.monotonic() - self.started, 1e-3)
        return (
            f"{self.lines} messages, {self.values} values, {self.rows} new rows, "
            f"{self.refused} refused, {self.values / elapsed_s:.0f} values/s"
        )


def ingest(
    lines: Iterable[bytes],
    store: Store,
    site: str,
    report: Callable[[Progress], None],
    latest: int | None = None,
) -> Progress:
    """Store every message of ``lines``; a line that is none is counted and said.

    Args:
        lines: JSON, one message each.
        store: where rows go; each batch is one commit.
        site: the site of the database; others are refused.
        report: called after each commit.
        latest: newer samples are refused [ms]; None = the clock is not to be asked.

    Returns:
        What came of it.

    Raises:
        DatabaseError: the database is away; what was committed stays, and may be given again.
    """
    decoder = msgspec.json.Decoder(Line)
    strings = msgspec.json.Decoder(str)
    bad = BadPayloads()
    progress = Progress(time.monotonic())
    batch: list[Item] = []
    values = 0

    def commit() -> None:
        progress.rows += _write(store, batch, bad).rows
        progress.values += values
        progress.refused = bad.count
        report(progress)

    for text in lines:
        if not text.strip():
            continue
        progress.lines += 1
        topic = f"line {progress.lines}"
        try:
            line = decoder.decode(text)
            topic = line.topic
            payload = bytes(line.payload)
            if payload.startswith(b'"'):
                payload = strings.decode(payload).encode()
            item = codec.read(topic, payload, site)
        except (MessageError, msgspec.MsgspecError, UnicodeError) as err:
            bad(topic, str(err))
            continue
        if item is None:
            continue
        why = codec.impossible(item, latest)
        if why:
            bad(topic, why)
            continue
        batch.append(item)
        values += len(item.values) if isinstance(item, Telemetry) else 1
        if values >= BATCH_VALUES:
            commit()
            batch, values = [], 0
    commit()
    return progress


def _write(store: Store, batch: list[Item], bad: BadPayloads) -> Written:
    try:
        return store.write(batch)
    except RefusedRowError:
        done = Written()
    for item in batch:
        try:
            done += store.write([item])
        except RefusedRowError as err:
            bad(f"{item.device} at {item.ms}", f"the database refuses it: {err}")
    return done
