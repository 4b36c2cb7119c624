"""A PLI adaptor with a charge controller behind it, so that everybody can run the mesh without one.

The controller stands on a battery of the simulated house (:class:`sunmesh.emulation.World`). Where
the house knows ``charge_current_a`` and ``load_current_a`` they are its own panels and loads, and
the house's counters of the day and ``regulator_state`` are shown; else it measures at external
shunts what goes in and out of the battery. Without a house it shows the image of a PL80 on 24 V.
Its clock is the host's, plus the house's ``pl80_clock_offset_s``. Unlike the collector it knows the
commands that write: a client that sends one can be tried here.

Bytes are written here from the paper, not with the codec's tables: a mistake there must show.
"""

import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sunmesh import clock
from sunmesh.emulation import World
from sunmesh.mqtt import Mesh

TURN_AROUND_S = 0.07
"""From the end of a request to the start of its answer."""

BYTES = 6
"""Of a request and its answer; on a paced line they come on top."""

FORGET_S = 1.0
"""A request that pauses for so long in its middle is dropped."""

DAY_S = 86_400
COPY_S = 360.0
"""EEPROM 14 to 44 is copied over RAM 64 to 94 that often."""

VERSIONS = {"PL20": 1, "PL40": 130, "PL60": 200, "PL80": 216}
STEPS_A = {"PL20": (0.1, 0.1), "PL40": (0.2, 0.1), "PL60": (0.4, 0.2), "PL80": (0.4, 0.2)}
"""Charge and load current by bit; what stands for a PL80 is a guess."""

STATES = {"boost": 0, "equalise": 1, "absorption": 2, "float": 3}
NIBBLES = {12: 0, 24: 1, 32: 2, 36: 3, 48: 4}

IMAGE: Mapping[int, int] = {
    46: 12,
    47: 3,
    48: 125,
    50: 132,
    52: 27,
    101: 2,
    115: 64,
    180: 27,
    181: 93,
    182: 141,
    183: 121,
    188: 86,
    198: 3,
    203: 41,
    204: 1,
    206: 118,
    207: 8,
    213: 52,
    217: 2,
}
"""RAM of a PL80 on 24 V around noon; everything else is 0."""

SETTINGS: Mapping[int, int] = {
    14: 20,  # generator on, 2.0 V: off
    15: 30,
    19: 110,  # load off
    20: 125,  # load on
    21: 10,
    22: 108,
    23: 30,
    24: 20,
    25: 5,
    26: 125,
    27: 80,
    32: 60,
    33: 20,
    34: 144,
    35: 150,
    36: 137,
    37: 144,
}
"""EEPROM 14 to 44, 12 V base."""

POINTER, FIRST, DAYS, DAY_BYTES = 45, 46, 30, 7
UNLOCK = 226


class Controller:
    """An emulated adaptor and controller; a :class:`sunmesh.emulation.Emulator`.

    Args:
        model: PL20, PL40, PL60 or PL80.
        system_v: nominal battery voltage [V].
        world: the house whose battery it watches.
        turn_around_s: pause before an answer of the controller [s].
        now: the present moment.
        day_s: a moment's time of day where the controller stands [s].

    Attributes:
        is_plugged: False = the adaptor answers for itself, and 133 for the controller.
        ram, eeprom: what the controller keeps.
    """

    def __init__(
        self,
        model: str = "PL80",
        system_v: int = 24,
        world: World | None = None,
        *,
        turn_around_s: float = 0.0,
        now: Callable[[], datetime] = clock.now,
        day_s: Callable[[datetime], float] | None = None,
    ) -> None:
        """At noon, with thirty days behind it."""
        self.world = world or World()
        self.is_plugged = True
        self.ram = bytearray(256)
        self.eeprom = bytearray(256)
        self._system_v = system_v
        self._steps_a = STEPS_A[model]
        self._turn_around_s = turn_around_s
        self._now = now
        self._day_s = day_s or _local_day_s
        self._buffer = b""
        self._heard = time.monotonic()
        self._copied = time.monotonic()
        self._follows = False
        self._last: tuple[float, float] | None = None
        self._today = [0.0, 0.0]
        self._offset_s = 0.0
        for address, byte in IMAGE.items():
            self.ram[address] = byte
        for address, byte in SETTINGS.items():
            self.eeprom[address] = byte
        self.ram[0] = VERSIONS[model]
        self.eeprom[43] = NIBBLES[system_v]
        self.eeprom[44] = 44  # 880 Ah
        self._write_history()
        self._copy_settings()

    def follow(self, mesh: Mesh, device: str) -> None:
        """Watch the battery of the simulated house of ``mesh`` that is this device's."""
        self.world.follow(mesh, device)

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes of requests; the answers."""
        moment = time.monotonic()
        if moment - self._heard > FORGET_S:
            self._buffer = b""
        self._heard = moment
        self._buffer += data
        answers = []
        while len(self._buffer) >= 4:
            request, self._buffer = self._buffer[:4], self._buffer[4:]
            answer = self._answer(request)
            if answer:
                answers.append(answer)
        return answers

    def nak(self) -> bytes:
        """How it refuses: time-out between adaptor and controller."""
        return bytes([129])

    def power_cut(self) -> None:
        """Clock and counters of the day begin anew at zero."""
        self._offset_s = -self._day_s(self._now())
        self._today = [0.0, 0.0]
        for address in (188, 189, 193, 194, 198, 199, 203, 204):
            self.ram[address] = 0

    # -- the protocol ------------------------------------------------------------------------------

    def _answer(self, request: bytes) -> bytes:
        command, address, data, check = request
        if check != 255 - command:
            return bytes([130])
        if command == 187:
            return bytes([128])
        if command not in (20, 72, 152, 202, 87):
            return bytes([131])
        time.sleep(self._turn_around_s)
        if not self.is_plugged:
            return bytes([133])
        self._tick()
        if command == 20:
            return bytes([200, self.ram[address]])
        if command == 72:
            return bytes([200, self.eeprom[address]])
        if command == 152:
            self.ram[address] = data
            if (address, data) == (102, 39):  # the screen SOLV: its number is measured now
                self.ram[53] = 44
        elif command == 202 and self.ram[UNLOCK] == 1:
            self.ram[UNLOCK] = 0
            self.eeprom[address] = data
        return b""

    # -- the controller ----------------------------------------------------------------------------

    def _tick(self) -> None:
        """Bring clock, measurements and counters up to now."""
        if time.monotonic() - self._copied >= COPY_S:
            self._copy_settings()
        world = self.world.snapshot()
        offset_s = float(world.get("pl80_clock_offset_s", 0.0)) + self._offset_s
        day_s = (self._day_s(self._now()) + offset_s) % DAY_S
        tenths = int(day_s // 360)
        if self._follows and tenths < self.ram[48] - 120:  # less is a clock that was set back
            self._midnight()
        self.ram[48], rest = tenths, day_s % 360
        self.ram[47], self.ram[46] = int(rest // 60), int(rest % 60 // 2)
        if "battery_voltage_v" in world:
            self._measure(world)

    def _measure(self, world: Mapping[str, Any]) -> None:
        """Show a battery of the house; at external shunts with 1 A by bit."""
        is_own = "charge_current_a" in world
        if not self._follows:
            self._follows = True
            for address in (184, 188, 198, 203, 204, 205, 206, 213, 217):
                self.ram[address] = 0
            self.ram[207] = 0 if is_own else 8 | 4 | 2 | 1
        if is_own:
            charge, load = float(world["charge_current_a"]), float(world["load_current_a"])
            self.ram[213], self.ram[217] = (
                _byte(a / step) for a, step in zip((charge, load), self._steps_a, strict=True)
            )
        else:
            charge = float(world.get("battery_charge_current_a", 0.0))
            load = float(world.get("battery_discharge_current_a", 0.0))
            self.ram[205], self.ram[206] = _byte(charge), _byte(load)
        soc = float(world.get("battery_soc_percent", 93.0))
        volts = float(world["battery_voltage_v"])
        self.ram[50] = _byte(volts * 120 / self._system_v)
        self.ram[181] = _byte(soc)
        self.ram[182] = max(self.ram[182], self.ram[50]) if self._last else self.ram[50]
        self.ram[183] = min(self.ram[183], self.ram[50]) if self._last else self.ram[50]
        self.ram[101] = 3 if soc >= 99 else 2 if soc >= 90 else 0
        self.ram[115] = 64 if charge >= 1 else 0
        at = _seconds(world.get("ts"))
        if self._last and at:
            hours = max(0.0, at - self._last[0]) / 3600
            self._today[0] += charge * hours
            self._today[1] += load * hours
        self._last = (at or 0.0, volts)
        if is_own:
            self._show_day(world)
        for low, counted in ((193, self._today[0]), (203, self._today[1])):
            whole = min(int(counted), 4095)
            self.ram[low], self.ram[low + 1] = whole % 256, whole // 256

    def _show_day(self, world: Mapping[str, Any]) -> None:
        """What the house says of this controller's day instead of what was counted here."""
        state = STATES.get(str(world.get("regulator_state")))
        if state is not None:
            self.ram[101] = state
        if "charge_today_ah" in world:
            self._today = [float(world["charge_today_ah"]), float(world["load_today_ah"])]
        self.ram[115] |= int(bool(world.get("load_disconnected")))
        for address, name, factor in (
            (182, "battery_voltage_max_today_v", 120 / self._system_v),
            (183, "battery_voltage_min_today_v", 120 / self._system_v),
            (184, "float_reached_hours", 10),
        ):
            value = world.get(name)
            if value is not None:
                self.ram[address] = _byte(float(value) * factor)

    def _midnight(self) -> None:
        """Write the day into the history and begin a new one."""
        pointer = (self.eeprom[POINTER] + 1) % DAYS
        charge = self.ram[188] + self.ram[193] + 256 * (self.ram[189] + self.ram[194])
        load = self.ram[198] + self.ram[203] + 256 * (self.ram[199] + self.ram[204])
        self._record(pointer, self.ram[182], self.ram[183], self.ram[181], charge, load)
        self.eeprom[POINTER] = pointer
        self._today = [0.0, 0.0]
        for address in (188, 189, 193, 194, 198, 199, 203, 204, 184):
            self.ram[address] = 0
        self.ram[182] = self.ram[183] = self.ram[50]

    def _write_history(self) -> None:
        """Thirty plausible days."""
        days = random.Random(7)
        for number in range(DAYS):
            charge = days.randrange(60, 320)
            self._record(
                number, 141, days.randrange(118, 125), days.randrange(80, 101), charge, 290
            )
        self.eeprom[POINTER] = 2

    def _record(self, number: int, high: int, low: int, soc: int, charge: int, load: int) -> None:
        at = FIRST + number * DAY_BYTES
        charge, load = min(charge, 4095), min(load, 4095)
        upper = charge // 256 | load // 256 << 4
        self.eeprom[at : at + DAY_BYTES] = bytes(
            [high, low, 0, soc, charge % 256, load % 256, upper]
        )

    def _copy_settings(self) -> None:
        """What the controller does every six minutes; an unlock that was not used is lost."""
        self.ram[64:95] = self.eeprom[14:45]
        self.ram[UNLOCK] = 0
        self._copied = time.monotonic()


def _byte(number: float) -> int:
    return max(0, min(255, round(number)))


def _seconds(ts: object) -> float | None:
    return clock.parse(ts).timestamp() if isinstance(ts, str) else None


def _local_day_s(moment: datetime) -> float:
    here = time.localtime(moment.timestamp())
    return here.tm_hour * 3600 + here.tm_min * 60 + here.tm_sec
