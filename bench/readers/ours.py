"""collector-axpert's own link: the same requests, checked, decoded, named."""

import json
import sys
import time

from collector_axpert import codec
from collector_axpert.transport import Link
from sunmesh.serialport import SerialPort

COMMANDS = [bytes.fromhex(text)[:-3].decode() for text in sys.argv[3:]]


class Counting(SerialPort):
    """Counts the bytes of the wire."""

    count = 0

    def write(self, data: bytes) -> None:
        """As the port does."""
        self.count += len(data)
        super().write(data)

    def read_some(self, deadline: float, limit: int = codec.LIMIT) -> bytes:
        """As the port does."""
        data = super().read_some(deadline, limit)
        self.count += len(data)
        return data


port = Counting(sys.argv[1], 2400, holder="bench")
link = Link(port)
link.open()
for _ in range(int(sys.argv[2])):
    port.count, began, cpu = 0, time.monotonic(), time.process_time()
    for command in COMMANDS:
        link.ask(command)
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "bytes": port.count}), flush=True)
link.close()
