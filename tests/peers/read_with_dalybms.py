"""Reads a pack with the published client: python read_with_dalybms.py PORT 4|8.

4 asks as the PC does (host 0x40), 8 as the Bluetooth socket (0x80). Run by .venv-peers/bin/python.
Prints one JSON object, what it was asked for → what it says.
"""

import json
import sys

from dalybms import DalyBMS

client = DalyBMS(address=int(sys.argv[2]))
client.connect(sys.argv[1])
status = client.get_status()
answers = {
    "status": status,
    "soc": client.get_soc(),
    "cells": client.get_cell_voltages(),
    "range": client.get_cell_voltage_range(),
    "temperatures": client.get_temperatures(),
    "temperature_range": client.get_temperature_range(),
    "mosfet": client.get_mosfet_status(),
    "errors": client.get_errors(),
}
client.disconnect()
print(json.dumps(answers))  # noqa: T201
