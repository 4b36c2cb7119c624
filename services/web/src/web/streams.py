"""Open pages and programs that hear what changes: server-sent events.

A stream costs no thread: the server (:mod:`web.server`) takes over its connection, and whoever has
news writes to all of them. Under another server the events wait in a queue for their reader.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from flask import Response, request

log = logging.getLogger(__name__)

QUEUE = 16
"""Messages that a reader may lag behind before it is dropped."""
BEAT_S = 15.0
"""A comment at least this often, so that proxies and browsers know the stream lives."""
LOOK_S = 1.0
"""How often somebody looks whether a reader has gone."""
BEGIN = b"retry: 2000\n\n"
BEAT = b": beat\n\n"
TAKE_OVER = "web.take_over"
"""Under this name the server offers to keep a connection open by itself."""


class Sink(Protocol):
    """A connection that was taken over."""

    def deliver(self, event: bytes) -> bool:
        """Send without waiting; False when the reader has gone or is too slow."""

    def finish(self) -> None:
        """Send what is left, and close."""


def event_bytes(kind: str, data: bytes) -> bytes:
    """News as a page hears them, of the kind that it listens to."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def always() -> bool:
    """Whose stream it is may stay."""
    return True


class Stream:
    """What one page hears. ``channel``: what it wants to hear of."""

    def __init__(self, channel: str = "now") -> None:
        self.channel = channel
        self.closed = False
        self.sent = time.monotonic()
        """When it was last written to."""
        self.stays: Callable[[], bool] = always
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE)
        self._sink: Sink | None = None
        self._lock = threading.Lock()

    def put(self, event: bytes) -> bool:
        """Pass an event on; False when the reader is too slow, who is then given up."""
        self.sent = time.monotonic()
        with self._lock:
            if self.closed:
                return False
            if self._sink is not None:
                kept = self._sink.deliver(event)
            else:
                try:
                    self._queue.put_nowait(event)
                    kept = True
                except queue.Full:
                    kept = False
            self.closed = not kept
        return kept

    def follow(self, sink: Sink) -> None:
        """From here on ``sink`` gets the events, first those that have waited."""
        with self._lock:
            while not self._queue.empty():
                event = self._queue.get_nowait()
                if event is not None and not sink.deliver(event):
                    self.closed = True
            self._sink = sink
            if self.closed:
                sink.finish()

    def get(self, timeout_s: float) -> bytes | None:
        """The next event; None when there was none in that time.

        Raises:
            EOFError: the stream is closed.
        """
        if self.closed:
            raise EOFError
        try:
            event = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            if self.closed:
                raise EOFError from None
            return None
        if event is None:
            raise EOFError
        return event

    def close(self) -> None:
        """End it; its reader sees the end of the file at once."""
        self.closed = True
        if self._sink is not None:
            self._sink.finish()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)


class Streams:
    """The open streams, ``limit`` of them at most."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        self._open: set[Stream] = set()
        self._lock = threading.Lock()
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    def count(self, channel: str) -> int:
        """How many hear of ``channel``."""
        with self._lock:
            return sum(stream.channel == channel for stream in self._open)

    def channels(self) -> set[str]:
        """What somebody hears of."""
        with self._lock:
            return {stream.channel for stream in self._open}

    def open(self, channel: str = "now") -> Stream | None:
        """A new stream; None when there are as many as may be."""
        with self._lock:
            if self._ended or len(self._open) >= self.limit:
                return None
            stream = Stream(channel)
            self._open.add(stream)
            return stream

    def close(self, stream: Stream) -> None:
        """The page has gone."""
        stream.closed = True
        with self._lock:
            self._open.discard(stream)

    def send(self, event: bytes, channel: str = "now") -> None:
        """To every page of ``channel``; the ones that lag behind are dropped.

        Two who send to one channel see to their order themselves.
        """
        with self._lock:
            mine = [stream for stream in self._open if stream.channel == channel]
        slow = [stream for stream in mine if not stream.put(event)]
        if slow:
            with self._lock:
                self.dropped += len(self._open.intersection(slow))
                self._open.difference_update(slow)

    def tend(self, stop: threading.Event) -> None:
        """Beat, and end the streams of who has logged out, until ``stop``."""
        while not stop.wait(LOOK_S):
            with self._lock:
                streams = list(self._open)
            for stream in streams:
                try:
                    if not stream.stays():
                        stream.close()
                    elif time.monotonic() - stream.sent >= BEAT_S:
                        stream.put(BEAT)
                except Exception:
                    log.exception("a stream failed")
                    stream.close()
                if stream.closed:
                    self.close(stream)

    def end(self) -> None:
        """Close all, and open no more."""
        with self._lock:
            self._ended = True
            streams = list(self._open)
            self._open.clear()
        for stream in streams:
            stream.close()


def events(
    streams: Streams, stream: Stream, gone: Callable[[], bool], beat_s: float = BEAT_S
) -> Iterator[bytes]:
    """What one page gets, until it or the portal goes: where the server keeps no connections."""
    try:
        yield BEGIN
        quiet_since = time.monotonic()
        while stream.stays() and not gone():
            try:
                event = stream.get(min(LOOK_S, beat_s))
            except EOFError:
                return
            if event is None:
                if time.monotonic() - quiet_since < beat_s:
                    continue
                event = BEAT
            quiet_since = time.monotonic()
            yield event
    finally:
        streams.close(stream)


def answer(streams: Streams, stream: Stream | None, stays: Callable[[], bool] = always) -> Response:
    """The response that carries ``stream``.

    Args:
        streams: that it is one of.
        stream: None where there are too many.
        stays: whether who asked may still hear it; asked once a second.
    """
    if stream is None:
        return Response(
            "Too many open pages; this one asks from time to time instead.\n",
            status=503,
            mimetype="text/plain",
            headers={"Retry-After": "60"},
        )
    stream.stays = stays
    take_over = request.environ.get(TAKE_OVER)
    body: Iterator[bytes] = iter(())
    if request.method == "HEAD":
        streams.close(stream)
    elif take_over is not None:
        take_over(stream, lambda: streams.close(stream))
        body = iter((BEGIN,))
    else:
        left = request.environ.get("waitress.client_disconnected", lambda: False)
        body = events(streams, stream, left)
    return Response(body, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
