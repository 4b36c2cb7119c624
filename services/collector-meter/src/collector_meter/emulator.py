"""A bus of meters that answer, so that everybody can run the mesh without one.

They follow the simulated house (:class:`sunmesh.emulation.World`) and show a plausible noon where
there is none. Registers and checksums are written here from the papers, not with the codec's
tables or pymodbus: a mistake there must show. A meter lives on the line that it measures, so it
is silent while the house has no grid.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sunmesh.emulation import World
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh

NOON: Mapping[str, Any] = {
    "grid_voltage_v": 231.4,
    "grid_frequency_hz": 50.02,
    "grid_power_w": 412.5,
    "grid_import_energy_kwh": 2697.348,
    "grid_export_energy_kwh": 120.25,
    "pv_total_power_w": 1975.0,
    "pv_energy_total_kwh": 4312.345,
    "load_power_w": 689.0,
    "load_energy_total_kwh": 3120.456,
}
"""What is shown without a simulated house."""

NO_GRID_V = 80.0
"""Below it a meter's own supply fails."""

MOST_COUNT = 80
PHASE_SHARES = (0.5, 0.3, 0.2)
"""How a three-phase meter shows a house that the simulation feeds by one phase."""

SERIALS = {"SDM120": 19_041_234, "SDM230": 20_115_678, "SDM630": 21_229_012}
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE = 1, 2, 3, 4


def crc(data: bytes) -> bytes:
    """The checksum of Modbus RTU: CRC-16, 0xA001 reflected, low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


@dataclass(frozen=True, slots=True)
class Terminals:
    """What flows through a meter; + = import."""

    volts: float
    hertz: float
    watts: float
    import_kwh: float
    export_kwh: float

    @property
    def vars(self) -> float:
        """A house is a little inductive, and a meter's own supply capacitive."""
        return 0.12 * self.watts - 9.0

    @property
    def volt_amperes(self) -> float:
        """Apparent power."""
        return math.hypot(self.watts, self.vars)

    @property
    def amperes(self) -> float:
        """A magnitude."""
        return self.volt_amperes / self.volts

    @property
    def factor(self) -> float:
        """Negative while exporting."""
        return self.watts / self.volt_amperes if self.volt_amperes else 1.0

    @property
    def degrees(self) -> float:
        """0 to 360, as an SDM230 shows it."""
        return math.degrees(math.atan2(self.vars, self.watts)) % 360.0


class Meter:
    """One emulated meter.

    Args:
        model: SDM120, SDM230 or SDM630.
        world: the house it measures.
        role: what of the house: ``grid``, ``pv`` or ``load``.
        swapped: low register first, as an SDM630 can be set to.
    """

    def __init__(
        self,
        model: str = "SDM230",
        world: World | None = None,
        role: str = "grid",
        *,
        swapped: bool = False,
    ) -> None:
        """As it is wired."""
        self.model = model
        self.serial = SERIALS[model]
        self.role = role
        self.world = world or World()
        self.swapped = swapped

    @property
    def is_alive(self) -> bool:
        """Whether its own supply has a grid."""
        return self._w("grid_voltage_v") >= NO_GRID_V

    def answer(self, pdu: bytes) -> bytes:
        """The answer to function and data, perhaps an exception."""
        function = pdu[0]
        if function == 16:
            return bytes([function | 0x80, DEVICE_FAILURE])  # the key was not held for SET
        if function not in (3, 4) or len(pdu) != 5:
            return bytes([function | 0x80, ILLEGAL_FUNCTION])
        address, count = struct.unpack(">HH", pdu[1:])
        if not 1 <= count <= MOST_COUNT:
            return bytes([function | 0x80, ILLEGAL_VALUE])
        words = self._holding() if function == 3 else self._input()
        wanted = range(address, address + count)
        odd = function == 4 and (address % 2 or count % 2)
        if odd or not all(at in words for at in wanted):
            return bytes([function | 0x80, ILLEGAL_ADDRESS])
        data = b"".join(struct.pack(">H", words[at]) for at in wanted)
        return bytes([function, len(data)]) + data

    def _w(self, name: str) -> float:
        return float(self.world.get(name, NOON[name]))

    def _terminals(self) -> Terminals:
        volts, hertz = self._w("grid_voltage_v"), self._w("grid_frequency_hz")
        if self.role == "pv":
            watts = self._w("pv_total_power_w")
            return Terminals(volts, hertz, watts, self._w("pv_energy_total_kwh"), 0.0)
        if self.role == "load":
            watts = self._w("load_power_w")
            return Terminals(volts, hertz, watts, self._w("load_energy_total_kwh"), 0.0)
        counters = (self._w(f"grid_{way}_energy_kwh") for way in ("import", "export"))
        return Terminals(volts, hertz, self._w("grid_power_w"), *counters)

    def _input(self) -> dict[int, int]:
        """All input registers; what lies between the documented ones reads zero."""
        floats = (
            _three_phase(self._terminals())
            if self.model == "SDM630"
            else _single_phase(self._terminals(), has_angle=self.model == "SDM230")
        )
        words = dict.fromkeys(range(0x0000, 0x0184), 0)
        if self.model == "SDM230":  # the tariff block of V1.1, all in tariff 1
            words |= dict.fromkeys(range(0x1300, 0x1578), 0)
            floats |= {0x130C: floats[0x0156], 0x1314: floats[0x0048], 0x131C: floats[0x004A]}
        for address, value in floats.items():
            high, low = struct.unpack(">HH", struct.pack(">f", value))
            words[address], words[address + 1] = (low, high) if self.swapped else (high, low)
        return words

    def _holding(self) -> dict[int, int]:
        words = {0xF920: 2, 0xF910: 3}
        floats = {0x000C: 100.0, 0x0012: 0.0, 0x0014: 1.0, 0x001C: 2.0, 0x0056: 4.0, 0xF930: 8766.5}
        for address, value in floats.items():
            words[address], words[address + 1] = struct.unpack(">HH", struct.pack(">f", value))
        words[0xFC00], words[0xFC01] = self.serial >> 16, self.serial & 0xFFFF
        if self.model == "SDM120":
            words[0xFC02], words[0xFC03] = 0x0020, 0x0103
        return words


def _common(t: Terminals) -> dict[int, float]:
    return {
        0x0046: t.hertz,
        0x0048: t.import_kwh,
        0x004A: t.export_kwh,
        0x004C: 0.11 * t.import_kwh,
        0x004E: 0.04 * t.import_kwh,
        0x0054: abs(t.watts),
        0x0056: max(6000.0, abs(t.watts)),
        0x0156: t.import_kwh + t.export_kwh,
        0x0158: 0.15 * t.import_kwh,
    }


def _single_phase(t: Terminals, *, has_angle: bool) -> dict[int, float]:
    """SDM230 V1.1 and SDM120 V2.5."""
    return _common(t) | {
        0x0000: t.volts,
        0x0006: t.amperes,
        0x000C: t.watts,
        0x0012: t.volt_amperes,
        0x0018: t.vars,
        0x001E: t.factor,
        0x0024: t.degrees if has_angle else 0.0,
        0x0058: max(0.0, t.watts),
        0x005A: max(6000.0, t.watts),
        0x005C: max(0.0, -t.watts),
        0x005E: max(2500.0, -t.watts),
        0x0102: t.amperes,
        0x0108: max(26.0, t.amperes),
        0x0180: t.import_kwh + t.export_kwh,
    }


def _three_phase(t: Terminals) -> dict[int, float]:
    """SDM630 V2.0."""
    floats = _common(t) | {
        0x002A: t.volts,
        0x002E: t.amperes / 3,
        0x0030: t.amperes,
        0x0034: t.watts,
        0x0038: t.volt_amperes,
        0x003C: t.vars,
        0x003E: t.factor,
        0x0042: t.degrees,
    }
    for n, share in enumerate(PHASE_SHARES):
        at = 2 * n
        floats |= {
            0x0000 + at: t.volts,
            0x0006 + at: t.amperes * share,
            0x000C + at: t.watts * share,
            0x0012 + at: t.volt_amperes * share,
            0x0018 + at: t.vars * share,
            0x001E + at: t.factor,
            0x0024 + at: t.degrees,
            0x015A + at: t.import_kwh * share,
            0x0160 + at: t.export_kwh * share,
            0x0166 + at: (t.import_kwh + t.export_kwh) * share,
        }
    return floats


class Bus:
    """Meters on one RTU line; a :class:`sunmesh.emulation.Device`.

    Args:
        meters: by address.
    """

    def __init__(self, meters: Mapping[int, Meter]) -> None:
        """Nobody was asked yet."""
        self.meters = dict(meters)
        self.requests: list[bytes] = []
        self._buffer = b""
        self._last = b"\x01\x04"

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes of a request; the frames to answer. A damaged one is not answered."""
        self._buffer = (self._buffer + data)[-300:]
        frames = []
        while len(self._buffer) >= 8:
            size = 8 if self._buffer[1] != 16 else 9 + self._buffer[6]
            frame = self._buffer[:size]
            if len(frame) < size:
                break
            if crc(frame[:-2]) != frame[-2:]:
                self._buffer = self._buffer[1:]
                continue
            self._buffer = self._buffer[size:]
            frames += self._asked(frame)
        return frames

    def follow(self, mesh: Mesh, _device: str) -> None:
        """Show the simulated house of ``mesh``."""
        _follow(self.meters, mesh)

    def nak(self) -> bytes:
        """How the meter that was asked last refuses."""
        frame = bytes([self._last[0], self._last[1] | 0x80, DEVICE_FAILURE])
        return frame + crc(frame)

    def _asked(self, frame: bytes) -> list[bytes]:
        self.requests = [*self.requests[-KEPT_REQUESTS:], frame]
        meter = self.meters.get(frame[0])
        if meter is None or not meter.is_alive:
            return []
        self._last = frame
        answer = frame[:1] + meter.answer(frame[1:-2])
        return [answer + crc(answer)]


class Gateway:
    """The same meters behind Modbus TCP; a :class:`sunmesh.emulation.Device`.

    Args:
        meters: by unit.
    """

    def __init__(self, meters: Mapping[int, Meter]) -> None:
        """Nobody was asked yet."""
        self.meters = dict(meters)
        self.requests: list[bytes] = []
        self._buffer = b""

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes of a request; the frames to answer."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= 8:
            size = 6 + int.from_bytes(self._buffer[4:6], "big")
            if size > 300:
                self._buffer = b""
                break
            frame, rest = self._buffer[:size], self._buffer[size:]
            if len(frame) < size:
                break
            self._buffer = rest
            self.requests = [*self.requests[-KEPT_REQUESTS:], frame]
            meter = self.meters.get(frame[6])
            is_there = meter is not None and meter.is_alive
            pdu = meter.answer(frame[7:]) if meter and is_there else bytes([frame[7] | 0x80, 11])
            frames.append(frame[:4] + struct.pack(">H", len(pdu) + 1) + frame[6:7] + pdu)
        return frames

    def follow(self, mesh: Mesh, _device: str) -> None:
        """Show the simulated house of ``mesh``."""
        _follow(self.meters, mesh)

    def nak(self) -> None:
        """A gateway refuses by exceptions of its own."""
        return


def _follow(meters: Mapping[int, Meter], mesh: Mesh) -> None:
    for world in {id(meter.world): meter.world for meter in meters.values()}.values():
        world.follow(mesh)


def parse(texts: list[str], world: World) -> dict[int, Meter]:
    """Meters from ``MODEL[@ADDRESS[:ROLE]]`` as on the command line.

    Raises:
        ConfigError: an unknown model or role, or an address that is taken or none.
    """
    meters: dict[int, Meter] = {}
    for text in texts:
        match = re.fullmatch(r"(SDM\d+)(?:@(\d+)(?::(grid|pv|load))?)?", text)
        address = int(match[2] or 1) if match else 0
        if match is None or match[1] not in SERIALS or not 0 < address < 248:
            raise ConfigError(f"--meter {text}: write MODEL@ADDRESS:ROLE, such as SDM120@2:pv")
        if address in meters:
            raise ConfigError(f"--meter {text}: address {address} is taken")
        meters[address] = Meter(match[1], world, match[3] or "grid")
    return meters


KEPT_REQUESTS = 1000
"""So many of the last requests can be looked at."""

LINES: Mapping[str, Callable[[Mapping[int, Meter]], Bus | Gateway]] = {
    "rtu": Bus,
    "tcp": Gateway,
}
"""Framing → what stands at the line's other end."""
