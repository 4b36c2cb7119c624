"""The recorder that others are measured by: as small as one can be that loses nothing.

MQTT 5 with a session that outlives it, QoS 1, manual acknowledgement; a group of messages is
decoded, inserted with PyMySQL's executemany, committed, and then acknowledged. It checks no value,
knows one device, and forgets what a house needs; it is the floor, not a recorder to use.

``wide`` makes one row of 20 columns of a message, ``narrow`` one row of each number, as ours does.

    python -m bench.reference_recorder HOST:PORT TOPIC DATABASE_PORT DATABASE wide|narrow
"""

import json
import signal
import sys
import threading
from collections import deque
from datetime import datetime

import paho.mqtt.client as paho
import pymysql
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

COLUMNS = 20
GROUP = 1000
"""Messages in a commit at most; also what the broker may send unacknowledged."""

WIDE = (
    "CREATE TABLE IF NOT EXISTS wide (ts BIGINT PRIMARY KEY, "
    + ", ".join(f"c{n} DOUBLE" for n in range(COLUMNS))
    + ") ENGINE=InnoDB"
)
NARROW = (
    "CREATE TABLE IF NOT EXISTS narrow (series_id SMALLINT UNSIGNED, ts DECIMAL(13,0), value DOUBLE"
    " NOT NULL, PRIMARY KEY (series_id, ts)) ENGINE=InnoDB"
)
PUT_WIDE = f"INSERT IGNORE INTO wide VALUES ({', '.join(['%s'] * (COLUMNS + 1))})"
PUT_NARROW = "INSERT IGNORE INTO narrow VALUES (%s, %s, %s)"


class Reference:
    """Takes a topic into a table."""

    def __init__(self, broker: str, topic: str, port: int, database: str, shape: str) -> None:
        self.topic = topic
        self.shape = shape
        self.waiting: deque[paho.MQTTMessage] = deque()
        self.arrived = threading.Event()
        self.stop = threading.Event()
        self.database = pymysql.connect(
            host="127.0.0.1", port=port, user="root", database=database, ssl_disabled=True
        )
        self.database.cursor().execute(WIDE if shape == "wide" else NARROW)
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, f"reference-{database}", protocol=paho.MQTTv5,
            manual_ack=True,
        )  # fmt: skip
        self.client.on_connect = self.connected
        self.client.on_message = self.message
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 86400
        session.ReceiveMaximum = GROUP
        host, _, broker_port = broker.partition(":")
        self.client.connect(host, int(broker_port), clean_start=False, properties=session)

    def connected(self, client, _data, _flags, _reason, _properties) -> None:  # noqa: ANN001
        """Subscribe, on each connect."""
        client.subscribe(self.topic, 1)
        print("ready", flush=True)

    def message(self, _client, _data, message) -> None:  # noqa: ANN001
        """Put it to the others."""
        self.waiting.append(message)
        self.arrived.set()

    def run(self) -> None:
        """Until SIGTERM: a group, its commit, its acknowledgements."""
        self.client.loop_start()
        while not self.stop.is_set():
            if not self.arrived.wait(0.2):
                continue
            self.arrived.clear()
            while self.waiting:
                group = [self.waiting.popleft() for _ in range(min(len(self.waiting), GROUP))]
                self.commit([json.loads(message.payload) for message in group])
                for message in group:
                    self.client.ack(message.mid, message.qos)
        self.client.disconnect()
        self.client.loop_stop()

    def commit(self, samples: list[dict]) -> None:
        """All numbers of these in one transaction."""
        rows: list[tuple] = []
        for sample in samples:
            ms = round(datetime.fromisoformat(sample["ts"]).timestamp() * 1000)
            numbers = [value for value in sample["values"].values() if type(value) is float]
            if self.shape == "wide":
                rows.append((ms, *numbers[:COLUMNS]))
            else:
                rows += [(index, ms, value) for index, value in enumerate(numbers)]
        with self.database.cursor() as cursor:
            cursor.executemany(PUT_WIDE if self.shape == "wide" else PUT_NARROW, rows)
        self.database.commit()


def main() -> None:
    """Record until SIGTERM."""
    broker, topic, port, database, shape = sys.argv[1:]
    reference = Reference(broker, topic, int(port), database, shape)
    signal.signal(signal.SIGTERM, lambda *_: reference.stop.set())
    reference.run()


if __name__ == "__main__":
    main()
