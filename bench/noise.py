"""A bad line and a silent one: what is delivered, what is wrong, what it costs."""

import contextlib
import json
import time

from collector_axpert.config import AxpertDevice
from collector_axpert.service import Axpert
from collector_axpert.transport import Link
from sunmesh.errors import SunmeshError
from sunmesh.serialport import SerialPort

from . import goals
from .line import emulator

ROUNDS = 40


def source(port: object, link_type: type[Link] = Link) -> tuple[Axpert, Link]:
    """A collector's source on that port."""
    config = AxpertDevice(port=str(port), dialect="PI30")
    link = link_type(SerialPort(config.port, config.baud, holder="bench"))
    return Axpert(config, link), link


def measure() -> dict[str, dict[str, object]]:
    """30 % of the answers with one bit flipped, against the same inverter on a clean line."""
    with emulator("collector-axpert") as port:
        clean, _ = source(port)
        clean.open()
        truth = clean.poll().values
        clean.close()
    delivered = wrong = expected = 0
    with emulator("collector-axpert", "--fault", "crc:0.3") as port:
        noisy, link = source(port)
        for _ in range(20):
            try:
                noisy.open()
                break
            except SunmeshError:
                noisy.close()
        for _ in range(ROUNDS):
            expected += len(truth)
            try:
                values = noisy.poll().values
            except SunmeshError:
                continue
            for name, value in truth.items():
                got = values.get(name)
                delivered += got is not None or value is None
                wrong += got is not None and got != value
        damaged = sum(link.counters[f"damaged_{kind}"] for kind in ("crc", "truncated", "shape"))
        noisy.close()
    with emulator("collector-axpert", "--fault", "silent") as port:
        silent, link = source(port)
        began = time.monotonic()
        with contextlib.suppress(SunmeshError):
            silent.open()
        silent_s = time.monotonic() - began
        silent.close()
    return {
        "wrong_values": goals.at_most(wrong, 0, "values", of=expected, damaged_answers=damaged),
        "delivered": goals.at_least(delivered / expected, 0.9, "of the values"),
        "silent_cycle": goals.at_most(silent_s, 2.1, "s a cycle", timeouts=1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
