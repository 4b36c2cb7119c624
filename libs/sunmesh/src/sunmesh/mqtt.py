"""The one MQTT client of a process, with paho's traps closed.

* An exception in a callback kills paho's network thread while ``is_connected()`` stays true:
  every handler runs guarded.
* Nothing resubscribes by itself: subscriptions are kept and made again at each connect.
* QoS 0 before the connect is lost: it is refused here and counted, QoS 1 waits in memory, bounded.
* With manual acknowledgement, what was not acknowledged comes again only after a reconnect:
  :meth:`Mesh.reconnect`.
* A write that fails throws away what was received and not read: it is read first.
* A publish that the broker denies is silent in 3.1.1 and a reason code in 5: logged and counted.
* Two clients of one id throw each other out for ever: the id is service plus instance.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .config import BrokerSection
from .lean import without
from .topics import Topics

# For web sockets, proxies and TLS, none of which the mesh uses on its own host: 3 MiB a process.
with without("urllib.request", "hashlib", ssl=("SSLWantReadError", "SSLWantWriteError")):
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode


class _NoTls:
    """What paho asks of ``ssl`` without TLS: each read that finds nothing names these two.

    With None in its place the ``except`` itself fails, which kills the network thread.
    """

    class SSLWantReadError(OSError):
        """Never raised."""

    class SSLWantWriteError(OSError):
        """Never raised."""


if vars(paho)["ssl"] is None:
    vars(paho)["ssl"] = _NoTls

log = logging.getLogger(__name__)

PUBACK = b"\x40\x02"
"""The start of an acknowledgement without a reason: the same in MQTT 5 and 3.1.1."""

KEEPALIVE_S = 30
BACKLOG = 20_000
"""QoS 1 messages kept while the broker is away: 11 h at a sample every 2 s, about 15 MB."""

KNOWN_TOPICS = 2000
"""Topics whose handlers are remembered; matching costs more than most handlers."""


class _Client(paho.Client):
    """Hears a dead broker out.

    Where a write fails, paho drops the connection together with what it has received and not read.
    The broker has acknowledged those messages to their senders, and nobody else has them when it
    was killed.
    """

    def _packet_write(self) -> MQTTErrorCode:
        done = super()._packet_write()
        if done != MQTTErrorCode.MQTT_ERR_CONN_LOST:
            return done
        packet = self._in_packet
        if packet["have_remaining"] and not packet["to_process"]:
            # While a packet is being handled, which reads no other: its reader comes to the end.
            return MQTTErrorCode.MQTT_ERR_AGAIN
        while self._sock is not None and not self._packet_read():
            pass
        return done


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived. ``retain`` is set when the broker had kept it."""

    topic: str
    payload: bytes
    retain: bool
    dup: bool
    qos: int
    mid: int


Handler = Callable[[Message], None]


class Mesh:
    """A connection to the broker that comes back by itself.

    Args:
        broker: where it is.
        topics: of the site.
        service: the service's name: user, client id and last will follow from it.
        instance: tells two runs of one service apart in the client id.
        session_expiry_s: how long the broker keeps the session of an absent client; 0 = a clean
            session, so that nothing (no stale command) waits.
        manual_ack: the reader acknowledges with :meth:`ack` once it has stored a message.
        receive_maximum: how many unacknowledged messages the broker may send (MQTT 5).
    """

    def __init__(
        self,
        broker: BrokerSection,
        topics: Topics,
        service: str,
        *,
        instance: str = "",
        session_expiry_s: int = 0,
        manual_ack: bool = False,
        receive_maximum: int | None = None,
    ) -> None:
        """Nothing connects before :meth:`start`."""
        self.broker = broker
        self.topics = topics
        self.service = service
        self.client_id = f"{service}-{topics.site}" + (f"-{instance}" if instance else "")
        self.counters: dict[str, int] = dict.fromkeys(
            ("published", "refused", "dropped", "received", "handler_errors", "connects"), 0
        )
        self._v5 = broker.protocol == "5"
        self._session_expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        self._subscriptions: list[tuple[str, int, bool, Handler]] = []
        self._handlers: dict[str, list[Handler]] = {}
        self._subscribing = threading.Lock()
        self._asked = self._granted = 0
        self._connected = threading.Event()
        self._on_connect: list[Callable[[], None]] = []
        self._on_lost: list[Callable[[str], None]] = []
        self._lost_logged = False
        self._started = False
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311,
            clean_session=None if self._v5 else session_expiry_s == 0,
            manual_ack=manual_ack,
        )
        self._client.suppress_exceptions = True
        self._client.max_queued_messages_set(BACKLOG)
        self._client.max_inflight_messages_set(100)
        self._client.reconnect_delay_set(1, 30)
        self._client.username_pw_set(broker.user or service, broker.password)
        self._client.on_connect = self._connect_done
        self._client.on_connect_fail = self._connect_failed
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message
        self._client.on_publish = self._published
        self._client.on_subscribe = self._subscribed

    # -- life ------------------------------------------------------------------------------------

    def will(self, topic: str, payload: bytes) -> None:
        """What the broker publishes, retained, when this process vanishes. Before :meth:`start`."""
        self._client.will_set(topic, payload, qos=1, retain=True)

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each connect, once the subscriptions are made again."""
        self._on_connect.append(callback)

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the reason when the broker or the line ends a connection."""
        self._on_lost.append(callback)

    def start(self) -> None:
        """Connect in the background and for ever; an absent broker is waited for."""
        properties: dict[str, Any] = {}
        if self._v5:
            connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            if self._session_expiry_s:
                connect.SessionExpiryInterval = self._session_expiry_s
            if self._receive_maximum:
                connect.ReceiveMaximum = self._receive_maximum
            properties = {
                "clean_start": self._session_expiry_s == 0,
                "properties": connect,
            }
        self._client.connect_async(
            self.broker.host, self.broker.port, keepalive=KEEPALIVE_S, **properties
        )
        self._started = True
        self._client.loop_start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Send what waits, for that long at most, and disconnect in order."""
        if not self._started:
            return
        self._started = False
        if self._connected.is_set():
            self.drain(timeout_s)
        self._halt()

    def drain(self, timeout_s: float) -> bool:
        """Wait until the broker has everything; False when it has not in that time."""
        pause = threading.Event()
        steps = max(1, round(timeout_s / 0.02))
        for _ in range(steps):
            if not self._client._out_messages:  # paho tells it nowhere else
                return True
            pause.wait(0.02)
        return False

    def reconnect(self) -> None:
        """Drop the connection and take it up again: what was not acknowledged comes once more."""
        self._halt()
        self.start()

    def _halt(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # paho leaves its wake-up sockets open, and one that was just being connected
        self._client._reset_sockets()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted this client now."""
        return self._connected.is_set()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the broker; False when it has not answered in that time."""
        return self._connected.wait(timeout_s)

    def wait_granted(self, timeout_s: float) -> bool:
        """Wait until the broker answers and every subscription stands; False when it does not.

        What the broker keeps of them comes right behind that answer.
        """
        until = time.monotonic() + timeout_s
        while not (self.connected and self._granted >= self._asked):
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    # -- messages --------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        qos: int = 1,
        expiry_s: int | None = None,
    ) -> bool:
        """Hand a message to the broker, now or when it is back.

        Args:
            topic: where.
            payload: what; empty clears a retained message.
            retain: the broker keeps it for who comes later.
            qos: 1 waits for the broker in memory, 0 is dropped while it is away.
            expiry_s: the broker forgets the message after that long (MQTT 5 only).

        Returns:
            False when it was dropped: QoS 0 without a broker, or a full backlog.
        """
        if qos == 0 and not self.connected:
            self.counters["dropped"] += 1
            return False
        properties = None
        if expiry_s is not None and self._v5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
        result = self._client.publish(topic, payload, qos, retain, properties)
        if result.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            if not self.counters["dropped"]:
                log.error("%d messages wait for the broker; newer ones are dropped", BACKLOG)
            self.counters["dropped"] += 1
            return False
        return True

    def subscribe(
        self, pattern: str, handler: Handler, qos: int = 1, *, as_published: bool = False
    ) -> None:
        """Give every message that matches ``pattern`` to ``handler``, after each reconnect too.

        Args:
            pattern: of the topics.
            handler: runs in the client's thread.
            qos: at most.
            as_published: a message that its sender had kept says so (``retain``) at its first
                delivery, too. MQTT 3.1.1 tells that only to who comes later.
        """
        with self._subscribing:
            self._subscriptions.append((pattern, qos, as_published, handler))
            self._handlers.clear()
            if self.connected:
                self._ask_for(pattern, qos, as_published)

    def ack(self, message: Message) -> None:
        """The message is stored; the broker may forget it (only with ``manual_ack``)."""
        self._client.ack(message.mid, message.qos)

    def ack_all(self, mids: Sequence[int]) -> None:
        """As :meth:`ack` for many of QoS 1, in one piece: what wakes paho up costs more than that.

        Args:
            mids: of the messages, in the order of their arrival.
        """
        if not mids:
            return
        acks = b"".join([PUBACK + mid.to_bytes(2, "big") for mid in mids])
        self._client._packet_queue(PUBACK[0], acks, mids[-1], 1)

    def _ask_for(self, pattern: str, qos: int, as_published: bool) -> None:
        self._asked += 1
        if as_published and self._v5:
            from paho.mqtt.subscribeoptions import SubscribeOptions

            options = SubscribeOptions(qos=qos, retainAsPublished=True)
            self._client.subscribe(pattern, options=options)
        else:
            self._client.subscribe(pattern, qos)

    # -- paho's callbacks, in its thread -----------------------------------------------------------

    def _connect_done(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        if reason.is_failure:
            self._lost(f"the broker at {self._where} refuses {self.client_id}: {reason}")
            return
        with self._subscribing:  # or what is added just now would wait for the next connect
            self._asked = self._granted = 0
            for pattern, qos, as_published, _handler in self._subscriptions:
                self._ask_for(pattern, qos, as_published)
            self.counters["connects"] += 1
            self._connected.set()
        if self._lost_logged or self.counters["connects"] == 1:
            log.info("connected to the broker at %s", self._where)
        self._lost_logged = False
        for callback in self._on_connect:
            self._guard(callback)

    def _connect_failed(self, _client: object, _data: object) -> None:
        self._lost(f"no broker at {self._where}; trying again")

    def _disconnected(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        self._connected.clear()
        if reason.is_failure and self._started:
            self._lost(f"lost the broker at {self._where} ({reason}); trying again")
            for callback in self._on_lost:
                self._guard(callback, str(reason))

    def _message(self, _client: object, _data: object, raw: paho.MQTTMessage) -> None:
        self.counters["received"] += 1
        message = Message(raw.topic, bytes(raw.payload), raw.retain, raw.dup, raw.qos, raw.mid)
        handlers = self._handlers.get(message.topic)
        if handlers is None:
            if len(self._handlers) >= KNOWN_TOPICS:
                self._handlers.clear()
            handlers = self._handlers[message.topic] = [
                handler
                for pattern, _qos, _as_published, handler in self._subscriptions
                if paho.topic_matches_sub(pattern, message.topic)
            ]
        for handler in handlers:
            self._guard(handler, message)

    def _subscribed(
        self, _client: object, _data: object, _mid: int, _reasons: object, _more: object
    ) -> None:
        self._granted += 1

    def _published(
        self, _client: object, _data: object, mid: int, reason: ReasonCode, _more: object
    ) -> None:
        if reason.is_failure:
            if not self.counters["refused"]:
                log.error("the broker refuses message %d of %s: %s", mid, self.client_id, reason)
            self.counters["refused"] += 1
        else:
            self.counters["published"] += 1

    def _guard(self, call: Callable[..., None], *arguments: object) -> None:
        """A handler's mistake is logged and counted and stops nobody."""
        try:
            call(*arguments)
        except Exception:
            self.counters["handler_errors"] += 1
            log.exception("a handler failed on %s", arguments)

    def _lost(self, text: str) -> None:
        """One line when the broker is lost, not one for each attempt."""
        if not self._lost_logged:
            log.warning("%s", text)
        self._lost_logged = True

    @property
    def _where(self) -> str:
        return f"{self.broker.host}:{self.broker.port}"
