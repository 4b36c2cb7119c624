"""The other serial families: the pace of a round, a bad line, a dead one."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector_bms import transport as bms_transport
from collector_bms.config import BmsDevice
from collector_bms.service import Daly
from collector_meter import transport as meter_transport
from collector_meter.config import MeterDevice
from collector_meter.service import Meter
from collector_pl80 import transport as pl80_transport
from collector_pl80.config import Pl80Device
from collector_pl80.service import Pl80
from sunmesh.errors import SunmeshError
from sunmesh.poll import Source
from sunmesh.serialport import SerialPort

from . import goals
from .line import HERE, PEERS, Wire, emulator

BAUD = 9600
ROUNDS = 15


def _bms(port: Path) -> Source:
    config = BmsDevice(port=str(port), protocol="a5", host="0x40")
    bus = bms_transport.Bus(SerialPort(config.port, BAUD, holder="bench"))
    return Daly(config, bms_transport.Link(bus, config.timeout_s))


def _meter(port: Path) -> Source:
    config = MeterDevice(port=str(port), model="SDM230")
    bus = meter_transport.bus_of(config, "bench")
    return Meter(config, meter_transport.Link(bus, config.address))


def _pl80(port: Path) -> Source:
    config = Pl80Device(port=str(port))
    return Pl80(config, pl80_transport.Link(pl80_transport.port_of(config, "bench"), BAUD))


def _pl80_exchange_s(port: Path) -> float:
    """What one exchange costs a reader that does nothing else.

    The adaptor thinks longer than it talks, so the bytes alone are no floor.
    """
    line = SerialPort(str(port), BAUD, holder="bench")
    line.open()
    began = time.monotonic()
    for _ in range(20):
        line.write(b"\x14\x32\x00\xeb")
        line.read_exact(2, 1.0)
    line.close()
    return (time.monotonic() - began) / 20


@dataclass(frozen=True, slots=True)
class Case:
    """One family: its collector, how it is read, its goals."""

    collector: str
    source: Callable[[Path], Source]
    wall_goal: float
    silent_goal_s: float
    noisy_rounds: int
    moving: frozenset[str] = frozenset()
    """Values that change by themselves, so that a clean round is no truth for a later one."""
    exchange_s: Callable[[Path], float] | None = None
    """The cost of one plain exchange, where the bytes on the line are no floor."""


CASES = {
    "bms": Case("collector-bms", _bms, 1.02, 0.7, 40, frozenset({"bms_heartbeat"})),
    "meter": Case("collector-meter", _meter, 1.15, 0.7, 40),
    "pl80": Case(
        "collector-pl80",
        _pl80,
        1.05,
        1.7,
        6,
        frozenset({"device_clock", "device_clock_offset_s"}),
        _pl80_exchange_s,
    ),
}


def measure() -> dict[str, dict[str, object]]:
    """Each family in turn, and dalybms on the same lines."""
    result = {}
    for name, case in CASES.items():
        for key, row in _measure(case).items():
            result[f"{name}_{key}"] = row
    if PEERS.exists():
        result |= _dalybms()
    return result


def _measure(case: Case) -> dict[str, dict[str, object]]:
    wall, line, requests = [], [], []
    with Wire() as wire, emulator(case.collector) as port:
        source = case.source(port)
        source.open()
        truth = _flat(source.poll().values, case.moving)
        for _ in range(ROUNDS):
            wire.count, wire.requests, began = 0, 0, time.monotonic()
            source.poll()
            wall.append(time.monotonic() - began)
            line.append(wire.count * 10 / BAUD)
            requests.append(wire.requests)
        source.close()
        if case.exchange_s is not None:
            exchange_s = case.exchange_s(port)
            line = [count * exchange_s for count in requests]
    right = wrong = 0
    with emulator(case.collector, "--fault", "crc:0.3") as port:
        source = case.source(port)
        for _ in range(20):
            with suppress(SunmeshError):
                source.open()
                break
        for _ in range(case.noisy_rounds):
            with suppress(SunmeshError):
                good, bad = _compare(truth, _flat(source.poll().values, case.moving))
                right, wrong = right + good, wrong + bad
        source.close()
    known = sum(value is not None for value in truth.values()) * case.noisy_rounds
    with emulator(case.collector, "--fault", "silent") as port:
        source = case.source(port)
        began = time.monotonic()
        with suppress(SunmeshError):
            source.open()
        silent_s = time.monotonic() - began
        source.close()
    return {
        "wall_against_line": goals.ratio(wall, line, case.wall_goal, "s a round"),
        "wrong_values": goals.at_most(wrong, 0, "values", of=known),
        "delivered": goals.at_least(right / known, 0.9, "of the values"),
        "silent_cycle": goals.at_most(silent_s, case.silent_goal_s, "s a cycle"),
    }


def _flat(value: object, moving: frozenset[str], name: str = "") -> dict[str, object]:
    """Every value of a nested answer by its path."""
    if isinstance(value, Mapping):
        rows = (_flat(value[key], moving, f"{name}/{key}") for key in value if key not in moving)
        return {path: item for row in rows for path, item in row.items()}
    if isinstance(value, list):
        return {f"{name}/{n}": item for n, item in enumerate(value)}
    return {name: value}


def _compare(truth: Mapping[str, object], got: Mapping[str, object]) -> tuple[int, int]:
    """How many known values are right, how many wrong; None and absent are neither."""
    pairs = [(got.get(name), value) for name, value in truth.items() if value is not None]
    wrong = sum(mine is not None and mine != value for mine, value in pairs)
    return sum(mine == value for mine, value in pairs), wrong


def _dalybms() -> dict[str, dict[str, Any]]:
    """The published client on the same clean and the same bad line."""

    def rounds(port: Path, count: int) -> list[dict[str, Any]]:
        program = HERE / "readers" / "dalybms_client.py"
        done = subprocess.run(
            [PEERS, program, port, str(count + 1)], capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()][1:]

    count = CASES["bms"].noisy_rounds
    with emulator("collector-bms") as port:
        clean = rounds(port, ROUNDS)
    truth = _flat(clean[0]["values"], frozenset())
    with emulator("collector-bms", "--fault", "crc:0.3") as port:
        wrong = 0
        for row in rounds(port, count):
            numbers = {
                name: value
                for name, value in _flat(row["values"], frozenset()).items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
            wrong += _compare(truth, numbers)[1]
    return {
        "dalybms_wall": {"value": round(sorted(r["wall_s"] for r in clean)[ROUNDS // 2], 5)},
        "dalybms_wrong_values": {"value": wrong, "of": len(truth) * count},
    }
