"""Boards that answer, so that everybody can run the mesh without one: one or several on a bus.

They follow the simulated house (:class:`sunmesh.emulation.World`) and show a plausible evening
where there is none. Several boards share its current and its capacity.

Answers are written here from the papers, not with the codec's tables: a mistake there must show.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from sunmesh.emulation import World
from sunmesh.mqtt import Mesh

from . import a5, registers

EVENING: Mapping[str, Any] = {
    "battery_voltage_v": 53.12,
    "battery_current_a": 12.4,
    "battery_soc_percent": 71.3,
    "remaining_capacity_ah": 199.6,
    "cell_voltage_v": [
        *(3.321, 3.319, 3.320, 3.322, 3.318, 3.321, 3.309, 3.320),
        *(3.321, 3.322, 3.319, 3.320, 3.323, 3.321, 3.320, 3.324),
    ],
    "battery_temperature_c": [21.4, 22.1],
    "balancing_cells": [],
}
"""What is shown without a simulated house."""

MODES = {
    "leftover": "reserved bytes and unused slots hold what was sent before",
    "asleep": "the board sleeps and its adapter returns our own request",
    "silent": "the board sleeps and nothing comes",
    "waking": "the first answers are nonsense with a right checksum",
    "chatty": "another master's frame stands in the middle of a train",
    "inverted-sign": "the current is counted the other way",
    "mos-inverted": "00 switches on, 01 off",
    "flags-stuck": "the MOSFET flags do not follow a switch",
    "nameless": "nothing but 0x90 to 0x98 is answered",
    "two-0x96": "one frame of temperatures more than needed",
}
NONSENSE_ANSWERS = 4
"""So many answers are nonsense after a sleep."""

CELL_HIGH_V = (3.55, 3.65)
CELL_LOW_V = (2.90, 2.50)
APART_V = (0.30, 0.80)
SOC_LOW_PERCENT = (20.0, 5.0)
STANDSTILL_A = 0.5


class Board:
    """One BMS.

    Args:
        number: its address, 1 to 16.
        world: the house it shows.
        share: its part of the house's current and capacity.
        modes: names of ``MODES``.
    """

    def __init__(
        self, number: int, world: World, *, share: float = 1.0, modes: Collection[str] = ()
    ) -> None:
        """As it leaves the works, but charged."""
        self.number = number
        self.modes = set(modes)
        self.charge_on = True
        self.discharge_on = True
        self.is_asleep = False
        self._world = world
        self._share = share
        self._soc_shift = 0.0
        self._clock = bytes((26, 1, 1, 0, 0, 0))
        self._heartbeat = 0
        self._nonsense = NONSENSE_ANSWERS if "waking" in self.modes else 0
        self._last = bytes(8)

    @property
    def code(self) -> str:
        """Its battery code; that of another pack while the calendar has the plugs swapped."""
        return f"SUNMESH-{self.number + 90 * self._world.has_fault('swapped'):02d}"

    # -- the house, as this board measures it ------------------------------------------------------

    def _get(self, name: str) -> Any:  # noqa: ANN401 - JSON
        return self._world.get(name, EVENING[name])

    @property
    def amperes(self) -> float:
        """+ = discharging; none through an open MOSFET."""
        amperes = float(self._get("battery_current_a")) * self._share
        closed = self.discharge_on if amperes > 0 else self.charge_on
        return amperes if closed else 0.0

    @property
    def soc(self) -> float:
        """What it believes [%]."""
        return min(100.0, max(0.0, float(self._get("battery_soc_percent")) + self._soc_shift))

    @property
    def cells_mv(self) -> list[int]:
        """Every cell [mV]."""
        return [round(volts * 1000) for volts in self._get("cell_voltage_v")]

    @property
    def temperatures(self) -> list[int]:
        """Every sensor, as sent."""
        return [round(degrees) + 40 for degrees in self._get("battery_temperature_c")]

    @property
    def capacity_mah(self) -> int:
        """What is left."""
        return round(float(self._get("remaining_capacity_ah")) * self._share * 1000)

    @property
    def rated_mah(self) -> int:
        """What it was when it was full, to the next 10 Ah."""
        soc = max(1.0, float(self._get("battery_soc_percent")))
        return round(self.capacity_mah / soc * 100 / 10_000) * 10_000

    @property
    def decivolts(self) -> int:
        """Pack voltage [0.1 V]."""
        return round(float(self._get("battery_voltage_v")) * 10)

    @property
    def state(self) -> int:
        """0 stationary, 1 charging, 2 discharging."""
        return 0 if abs(self.amperes) < STANDSTILL_A else 2 if self.amperes > 0 else 1

    def raw_current(self, sign: int) -> int:
        """As sent; ``sign`` 1 where a higher number discharges."""
        if "inverted-sign" in self.modes:
            sign = -sign
        return 30000 + sign * round(self.amperes * 10)

    @property
    def balancing(self) -> int:
        """A bit for each cell, bit 0 = cell 1."""
        return sum(1 << (cell - 1) for cell in self._get("balancing_cells"))

    # -- sleep -------------------------------------------------------------------------------------

    def sleep(self, asleep: bool) -> None:
        """Fall asleep, or wake up and talk nonsense for a while."""
        if self.is_asleep and not asleep:
            self._nonsense = NONSENSE_ANSWERS
        self.is_asleep = asleep

    def _talks_nonsense(self) -> bool:
        waking = self._nonsense > 0
        self._nonsense -= waking
        return waking

    def switch(self, name: str, wish: int) -> None:
        """Switch a MOSFET."""
        on = wish != 1 if "mos-inverted" in self.modes else wish == 1
        if "flags-stuck" not in self.modes:
            setattr(self, name, on)

    # -- A5 ----------------------------------------------------------------------------------------

    def answer_a5(self, command: int, host: int, data: bytes) -> list[bytes]:
        """The frames that answer; none where the board does not know the command."""
        if self._talks_nonsense():
            return [a5.frame(self.number, command, b"\0\1" if command == 0x90 else b"")]
        payloads = self._payloads(command, host == a5.HOST_BLUETOOTH, data)
        frames = [a5.frame(self.number, command, self._fill(payload)) for payload in payloads]
        if "chatty" in self.modes and len(frames) > 2:
            frames.insert(2, a5.frame(self.number, 0x90, self._soc()))
        return frames

    def _fill(self, payload: bytes) -> bytes:
        """``payload`` in eight bytes, the rest zero or what lay there before."""
        rest = self._last if "leftover" in self.modes else bytes(8)
        self._last = (payload + rest[len(payload) :])[:8]
        return self._last

    def _payloads(self, command: int, bluetooth: bool, data: bytes) -> list[bytes]:
        cells, sensors = self.cells_mv, self.temperatures
        extreme = (max(cells), min(cells))
        match command:
            case 0x90:
                return [self._soc()]
            case 0x91:
                numbers = (cells.index(extreme[0]) + 1, cells.index(extreme[1]) + 1)
                return [
                    b"".join(_two(mv) + bytes((n,)) for mv, n in zip(extreme, numbers, strict=True))
                ]
            case 0x92:
                warm, cold = max(sensors), min(sensors)
                return [bytes((warm, sensors.index(warm) + 1, cold, sensors.index(cold) + 1))]
            case 0x93:
                self._heartbeat = (self._heartbeat + 1) % 256
                flags = (self.state, self.charge_on, self.discharge_on, self._heartbeat)
                return [bytes(flags) + self.capacity_mah.to_bytes(4, "big")]
            case 0x94:
                return [bytes((len(cells), len(sensors), 0, 0, 2, 0, 41))]
            case 0x95:
                trains = [b"".join(map(_two, cells[at : at + 3])) for at in range(0, len(cells), 3)]
                return _numbered(trains, 16 if bluetooth else 0)
            case 0x96:
                bytes_ = bytes(sensors)
                count = math.ceil(len(bytes_) / 7) + ("two-0x96" in self.modes)
                trains = [bytes_[at : at + 7] for at in range(0, len(bytes_), 7)]
                return _numbered(trains, 3 if bluetooth else count)
            case 0x97:
                return [self.balancing.to_bytes(6, "little")]
            case 0x98:
                return [self._alarms()]
            case 0xD8:
                return [bytes(8)]
            case 0xD9 | 0xDA:
                self.switch("discharge_on" if command == 0xD9 else "charge_on", data[0])
                return [data[:1]]
            case 0x21:
                self._clock = data[:6]
                wanted = int.from_bytes(data[6:8], "big") / 10
                self._soc_shift = wanted - float(self._get("battery_soc_percent"))
                return [b"\1"]
        return [] if "nameless" in self.modes else self._configuration(command)

    def _soc(self) -> bytes:
        return b"".join(map(_two, (self.decivolts, 0, self.raw_current(1), round(self.soc * 10))))

    def _alarms(self) -> bytes:
        """Bits of 0x98 for which the house gives reason."""
        cells = self.cells_mv
        high, low = max(cells) / 1000, min(cells) / 1000
        bits = [high > CELL_HIGH_V[0], high > CELL_HIGH_V[1], low < CELL_LOW_V[0]]
        bits += [low < CELL_LOW_V[1]]
        soc = [self.soc < limit for limit in SOC_LOW_PERCENT]
        apart = [high - low > limit for limit in APART_V]
        return bytes((_bits(bits), 0, _bits([False] * 6 + soc), _bits(apart), 0, 0, 0, 0))

    def _configuration(self, command: int) -> list[bytes]:
        match command:
            case 0x50:
                return [self.rated_mah.to_bytes(4, "big") + (3200).to_bytes(4, "big")]
            case 0x51:
                return [bytes((1, len(self.cells_mv), 0, 0, len(self.temperatures)))]
            case 0x52:
                return [(8123).to_bytes(4, "big") + (7988).to_bytes(4, "big")]
            case 0x53:
                return [bytes((1, 0, 25, 3, 14, 0xFF, 0xFF))]
            case 0x57:
                text = self.code.encode().ljust(35, b"\0")
                return _numbered([text[at : at + 7] for at in range(0, 35, 7)], 0)
            case 0x59:
                return [b"".join(map(_two, (3550, 3650, 2900, 2500)))]
            case 0x5A:
                return [b"".join(map(_two, (568, 584, 464, 400)))]
            case 0x5B:
                return [b"".join(map(_two, (31000, 31500, 31000, 31500)))]
            case 0x5C:
                return [bytes(degrees + 40 for degrees in (55, 65, 3, 0, 60, 70, -10, -20))]
            case 0x5D:
                return [b"".join(map(_two, (1000, 1000, 200, 50)))]
            case 0x5E:
                return [_two(300) + _two(800) + bytes((10, 15))]
            case 0x5F:
                return [_two(3400) + _two(10)]
            case 0x60:
                return [_two(600)]
            case 0x61:
                return [self._clock]
            case 0x62 | 0x63:
                text = {0x62: b"EMU 1.0.0", 0x63: b"DALY-EMULATOR"}[command].ljust(14, b"\0")
                return _numbered([text[:7], text[7:]], 0)
        return []

    # -- 0x81 --------------------------------------------------------------------------------------

    def answer_registers(self, request: bytes) -> list[bytes]:
        """The answer to a request with a right CRC; none where it is not understood."""
        address, function = 0x50 + self.number, request[1]
        at, number = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
        if function == 6:
            if at in (0x121, 0x122):
                self.switch("charge_on" if at == 0x121 else "discharge_on", number)
            elif at == 0x116:
                self._soc_shift = number / 10 - float(self._get("battery_soc_percent"))
            else:
                return [registers.with_crc(bytes((address, 0x86, 2)))]
            return [registers.with_crc(bytes((address,)) + request[1:6])]
        if function != 3 or not 1 <= number <= 125:
            return [registers.with_crc(bytes((address, function | 0x80, 1)))]
        image = {} if self._talks_nonsense() else self._image()
        data = b"".join(_two(image.get(n, 0)) for n in range(at, at + number))
        return [registers.with_crc(bytes((address, 3, len(data))) + data)]

    def _image(self) -> dict[int, int]:
        cells, sensors = self.cells_mv, self.temperatures
        high, low, warm, cold = max(cells), min(cells), max(sensors), min(sensors)
        image = dict(enumerate(cells)) | dict.fromkeys(range(0x30, 0x38), 255)
        image |= {0x30 + at: raw for at, raw in enumerate(sensors[:8])}
        balancing = self.balancing
        image |= {
            0x38: self.decivolts,
            0x39: self.raw_current(-1),
            0x3A: round(self.soc * 10),
            0x3B: 1000,
            0x3C: len(cells),
            0x3D: len(sensors),
            0x3E: high,
            0x3F: cells.index(high) + 1,
            0x40: low,
            0x41: cells.index(low) + 1,
            0x42: high - low,
            0x43: warm,
            0x44: sensors.index(warm) + 1,
            0x45: cold,
            0x46: sensors.index(cold) + 1,
            0x47: warm - cold,
            0x48: self.state,
            0x4B: round(self.capacity_mah / 100),
            0x4C: 41,
            0x4D: int(balancing > 0),
            0x4F: balancing & 0xFFFF,
            0x50: balancing >> 16 & 0xFFFF,
            0x51: balancing >> 32 & 0xFFFF,
            0x52: int(self.charge_on),
            0x53: int(self.discharge_on),
            0x58: abs(round(self.decivolts * self.amperes / 10)),
            0x5A: warm + 5,
            0x5B: warm + 3,
        }
        levels = [sum(high > limit * 1000 for limit in CELL_HIGH_V)]
        levels += [sum(low < limit * 1000 for limit in CELL_LOW_V)]
        apart = sum(high - low > limit * 1000 for limit in APART_V)
        image[0x6D] = levels[0] | levels[1] << 3 | apart << 8
        image[0x70] = sum(self.soc < limit for limit in SOC_LOW_PERCENT)
        if "nameless" in self.modes:
            return image
        for at, number in ((0x109, self.rated_mah), (0x10D, 8_123_456), (0x10F, 7_988_765)):
            image |= {at: number >> 16, at + 1: number & 0xFFFF}
        image |= {0x129: 0x1903, 0x12A: 0x0E00}
        text = b"DALY-EMULATOR\0" + b"EMU 1.0.0".ljust(14, b"\0") + bytes(14)
        text += f"{self.code}-S".encode().ljust(28, b"\0") + self.code.encode().ljust(32, b"\0")
        words = [int.from_bytes(text[n : n + 2], "big") for n in range(0, len(text), 2)]
        return image | {0x178 + n: word for n, word in enumerate(words)}


class Bank:
    """Boards on one bus; a :class:`sunmesh.emulation.Emulator`.

    Args:
        boards: their addresses.
        protocol: ``a5`` or ``0x81``.
        modes: names of ``MODES``.
        world: the house it shows.
    """

    def __init__(
        self,
        boards: Collection[int] = (1,),
        protocol: str = "a5",
        modes: Collection[str] = (),
        world: World | None = None,
    ) -> None:
        """Nothing has been received yet."""
        self.world = world or World()
        self.modes = set(modes)
        self.boards = {
            number: Board(number, self.world, share=1 / len(boards), modes=modes)
            for number in boards
        }
        self._protocol = protocol
        self._buffer = b""

    def follow(self, mesh: Mesh, device: str) -> None:
        """Show the simulated house of ``mesh``; sleep while its calendar says so."""
        self.world.follow(mesh, device)

    def nak(self) -> bytes | None:
        """A Daly has no word for no."""
        return None

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes of a request; the whole frames to answer.

        Data bytes of any value and bytes between requests are stepped over, as boards do; a bad
        checksum, an unknown command and a foreign address are not answered.
        """
        self._buffer = (self._buffer + data)[-64:]
        frames: list[bytes] = []
        length = 13 if self._protocol == "a5" else 8
        at = 0
        while at + length <= len(self._buffer):
            request = self._buffer[at : at + length]
            if self._is_request(request):
                frames += self._answer(request)
                at += length
            else:
                at += 1
        self._buffer = self._buffer[at:]
        return frames

    def _is_request(self, request: bytes) -> bool:
        if self._protocol == "a5":
            return a5.is_frame(request)
        return request[-2:] == registers.crc16(request[:-2])

    def _answer(self, request: bytes) -> list[bytes]:
        asleep = "asleep" in self.modes or self.world.has_fault("asleep")
        for board in self.boards.values():
            board.sleep(asleep)
        is_a5 = self._protocol == "a5"
        asked = self.boards.get(a5.board_of(request[1]) if is_a5 else request[0] - 0x80)
        if asked is None or "silent" in self.modes:
            return []
        if asked.is_asleep:
            return [request]
        if is_a5:
            return asked.answer_a5(request[2], request[1], request[4:12])
        return asked.answer_registers(request)


def _two(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _bits(bits: list[bool]) -> int:
    return sum(1 << at for at, is_set in enumerate(bits) if is_set)


def _numbered(payloads: list[bytes], least: int) -> list[bytes]:
    """Payloads with their frame numbers, empty ones behind them up to ``least``."""
    payloads = payloads + [b""] * (least - len(payloads))
    return [bytes((n + 1,)) + payload for n, payload in enumerate(payloads)]
