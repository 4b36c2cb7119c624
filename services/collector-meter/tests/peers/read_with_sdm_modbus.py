"""Runs in .venv-peers-sdm: PORT MODEL → everything that sdm_modbus reads there, as JSON."""

import json
import sys

import sdm_modbus

port, model = sys.argv[1:]
meter = getattr(sdm_modbus, model)(device=port, baud=9600, parity="N", unit=1, timeout=1)
if not meter.connect():
    sys.exit(f"sdm_modbus cannot open {port}")
json.dump(meter.read_all(), sys.stdout)
meter.disconnect()
