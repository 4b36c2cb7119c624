"""The published client mppsolar, as a library, in a virtual environment of its own."""

import contextlib
import io
import json
import sys
import time

from mppsolar.helpers import get_device_class

COMMANDS = [bytes.fromhex(text)[:-3].decode() for text in sys.argv[3:]]

with contextlib.redirect_stdout(io.StringIO()):
    device = get_device_class("mppsolar")(
        name="bench", port=sys.argv[1], baud=2400, protocol="PI30", porttype="SERIAL"
    )
for _ in range(int(sys.argv[2])):
    began, cpu = time.monotonic(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        answers = [device.run_command(command=command) for command in COMMANDS]
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    errors = [answer for answer in answers if "ERROR" in answer]
    if errors:
        sys.exit(f"mppsolar could not read the emulator: {errors}")
    print(json.dumps({"wall_s": wall, "cpu_s": cpu}), flush=True)
