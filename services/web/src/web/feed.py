"""What the mesh says, passed on to programs as it comes: the API's events."""

import logging
import threading

import msgspec
from sunmesh import messages
from sunmesh.errors import MessageError
from sunmesh.messages import Ack, Result
from sunmesh.mqtt import Message
from sunmesh.topics import parse

from .live import KINDS, Live
from .streams import Stream, Streams, event_bytes

log = logging.getLogger(__name__)

PREFIX = "feed"
ALL = "*"
FORMS: dict[str, type[msgspec.Struct]] = {**KINDS, "alarm_ack": Ack, "result": Result}


def channel(kind: str | None, device: str | None) -> str:
    """What somebody wants to hear of."""
    return f"{PREFIX} {kind or ALL} {device or ALL}"


class Feed:
    """Hears the whole mesh, and tells who listens.

    Args:
        live: whose broker client hears.
        streams: the open ones.
    """

    def __init__(self, live: Live, streams: Streams) -> None:
        """Hears something once the mesh is started."""
        self.live = live
        self.streams = streams
        self._lock = threading.Lock()
        if live.mesh is not None:
            for kind in FORMS:
                live.mesh.subscribe(live.mesh.topics.every(kind), self.hear)

    def open(self, kind: str | None, device: str | None) -> Stream | None:
        """A stream of what is said from now on; None when there are too many."""
        return self.streams.open(channel(kind, device))

    def hear(self, message: Message) -> None:
        """Pass one message on; nothing is done while nobody listens."""
        address = parse(message.topic)
        if address is None or address.kind not in FORMS or not message.payload:
            return
        wanted = [
            channel(kind, device)
            for kind in (address.kind, None)
            for device in (address.device, None)
        ]
        mine = self.streams.channels().intersection(wanted)
        if not mine:
            return
        try:
            content = messages.decode(FORMS[address.kind], message.payload)
        except MessageError:
            return  # the portal's own reader says so
        data = msgspec.json.encode(
            {"device": address.device, "code": address.code or "", "content": content}
        )
        news = event_bytes(address.kind, data)
        with self._lock:
            for each in mine:
                self.streams.send(news, each)
