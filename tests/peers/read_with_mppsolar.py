"""Reads an inverter with the published client: python read_with_mppsolar.py PORT COMMAND...

Run by .venv-peers/bin/python. Prints one JSON object, command → name → value.
"""

import contextlib
import io
import json
import sys

from mppsolar.helpers import get_device_class

port, *commands = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()):  # the client prints, too
    device = get_device_class("mppsolar")(
        name="peer", port=port, porttype="SERIAL", baud=2400, protocol="PI30"
    )
    answers = {command: device.run_command(command=command) for command in commands}
plain = {
    command: {name: value[0] for name, value in answer.items() if isinstance(value, list)}
    for command, answer in answers.items()
}
print(json.dumps(plain))  # noqa: T201
