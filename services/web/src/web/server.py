"""The HTTP server: waitress, with connections that stay open without a thread of their own.

A thread answers one request. Where the answer is a stream, the thread writes its head and goes; the
channel stays in the server's loop, and whoever has news writes into it without waiting.
"""

from collections.abc import Callable
from typing import Any

from flask import Flask
from waitress import create_server  # type: ignore[import-untyped]
from waitress.channel import ClientDisconnected, HTTPChannel  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer  # type: ignore[import-untyped]
from waitress.task import WSGITask  # type: ignore[import-untyped]

from .config import WebConfig
from .streams import TAKE_OVER, Stream

BEHIND = 256 * 1024
"""Bytes that a reader of a stream may leave unread before it is dropped."""
IDLE_S = 60
"""A connection that asks nothing for so long is closed."""
SPARE = 7
"""Connections beside each stream: browsers keep up to six."""


class Task(WSGITask):  # type: ignore[misc]
    """One request; its connection may become a stream."""

    def get_environment(self) -> dict[str, Any]:
        """WSGI's, with the offer to take the connection over."""
        environ: dict[str, Any] = super().get_environment()
        environ[TAKE_OVER] = self.channel.take
        return environ

    def finish(self) -> None:
        """Write what ends an answer; a stream does not end here."""
        if self.channel.stream is None:
            super().finish()
            return
        if not self.wrote_header:
            self.write(b"")
        self.close_on_finish = False
        self.channel.stay(self.chunked_response)


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = Task
    stream: Stream | None = None
    _left: Callable[[], None] | None = None
    _chunked = True

    def take(self, stream: Stream, left: Callable[[], None]) -> None:
        """Keep the connection for ``stream`` once the answer's head is written.

        Args:
            stream: whose events go out here.
            left: called when the connection ends.
        """
        self.stream, self._left = stream, left

    def stay(self, chunked: bool) -> None:
        """The head is written: events may come."""
        self._chunked = chunked
        with self.requests_lock:
            del self.requests[1:]
        if self.stream is not None:
            self.stream.follow(self)
        if not self.connected:
            self._leave()

    def deliver(self, event: bytes) -> bool:
        """Send without waiting; False when the reader has gone or is too slow."""
        if self.total_outbufs_len > BEHIND:
            self.will_close = True
            self.server.pull_trigger()
            return False
        try:
            self.write_soon(b"%X\r\n%b\r\n" % (len(event), event) if self._chunked else event)
        except ClientDisconnected:
            return False
        return True

    def finish(self) -> None:
        """Send what is left, and close."""
        try:
            if self._chunked:
                self.write_soon(b"0\r\n\r\n")
        except ClientDisconnected:
            return
        self.close_when_flushed = True
        self.server.pull_trigger()

    def received(self, data: bytes) -> bool:
        """Whoever hears a stream has nothing more to ask on this connection."""
        if self.stream is not None and not self.requests:
            return False
        done: bool = super().received(data)
        return done

    def handle_write(self) -> None:
        """As it is, but others may be writing at the same time."""
        if self.stream is None:
            super().handle_write()
            return
        with self.outbuf_lock:
            super().handle_write()

    def handle_close(self) -> None:
        """The connection has ended."""
        super().handle_close()
        self._leave()

    def _leave(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left()


def serve(app: Flask, config: WebConfig, sockets: dict[int, object]) -> Any:  # noqa: ANN401
    """A server that listens; its loop is the caller's.

    Args:
        app: what answers.
        config: where, and how many at a time.
        sockets: all of them, for the loop.

    Raises:
        OSError: the address cannot be listened on.
    """
    made = create_server(
        app,
        map=sockets,
        host=config.host,
        port=config.port,
        threads=config.threads,
        ident=None,
        channel_timeout=IDLE_S,
        cleanup_interval=IDLE_S // 4,
        connection_limit=config.streams * SPARE + 100,
        channel_request_lookahead=1,  # so that a stream learns that its page has gone
        # web.people.access judges them: whoever sends any without being trusted is not local.
        clear_untrusted_proxy_headers=False,
    )
    for each in list(sockets.values()):
        if isinstance(each, BaseWSGIServer):
            each.channel_class = Channel
    return made
