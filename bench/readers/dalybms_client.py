"""Rounds with the published client dalybms: PORT ROUNDS; a JSON line a round."""

import json
import logging
import sys
import time

from dalybms import DalyBMS

logging.disable(logging.CRITICAL)
client = DalyBMS(address=4)
client.connect(sys.argv[1])
client.get_status()
for _ in range(int(sys.argv[2])):
    began, cpu, said = time.monotonic(), time.process_time(), {}
    for name in (
        "get_soc", "get_cell_voltage_range", "get_temperature_range", "get_mosfet_status",
        "get_status", "get_cell_voltages", "get_temperatures", "get_balancing_status", "get_errors",
    ):  # fmt: skip
        try:
            said[name] = getattr(client, name)()
        except Exception as err:  # noqa: BLE001 - what it does on a bad line is what is measured
            said[name] = type(err).__name__
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "values": said}), flush=True)
