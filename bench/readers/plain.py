"""The floor: twenty lines of pyserial, the port kept open, nothing checked."""

import json
import sys
import time

import serial

REQUESTS = [bytes.fromhex(text) for text in sys.argv[3:]]

port = serial.Serial(sys.argv[1], 2400, timeout=2, exclusive=True)
for _ in range(int(sys.argv[2])):
    count, began, cpu = 0, time.monotonic(), time.process_time()
    for request in REQUESTS:
        port.reset_input_buffer()
        port.write(request)
        count += len(request) + len(port.read_until(b"\r"))
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "bytes": count}), flush=True)
