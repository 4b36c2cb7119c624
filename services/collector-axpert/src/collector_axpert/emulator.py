"""An inverter that answers, so that everybody can run the mesh without one.

It follows the simulated house (:class:`sunmesh.emulation.World`) and shows a plausible sunny
noon where there is none. Set commands change what the queries show, as in a real one. Three
profiles: ``PI30`` (a PIP-4048 of 2015), ``PI30MAX`` (an Axpert MAX 8 kW) and ``PI18``.

Answers are written here from the papers, not with the codec's tables: a mistake there must show.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sunmesh.emulation import World
from sunmesh.messages import Value
from sunmesh.mqtt import Mesh

from . import codec, tables

NOON: Mapping[str, Any] = {
    "grid_voltage_v": 231.4,
    "grid_frequency_hz": 50.0,
    "ac_output_voltage_v": 230.1,
    "ac_output_frequency_hz": 49.9,
    "ac_output_apparent_power_va": 742.0,
    "ac_output_power_w": 689.0,
    "bus_voltage_v": 381.0,
    "battery_voltage_v": 53.26,
    "battery_charge_current_a": 23.0,
    "battery_discharge_current_a": 0.0,
    "battery_soc_percent": 78.0,
    "heat_sink_temperature_c": 41.0,
    "pv_current_a": 3.4,
    "pv_voltage_v": 342.1,
    "pv_power_w": 1163.0,
    "pv2_current_a": 2.4,
    "pv2_voltage_v": 338.7,
    "pv2_power_w": 812.0,
    "device_mode": "battery",
    "pv_energy_total_kwh": 4312.345,
    "load_energy_total_kwh": 3120.456,
    "grid_power_w": 0.0,
}
"""What is shown without a simulated house."""

NO_GRID_V = 90.0
BATTERY_LOW_V = 46.5
OVERLOAD_PERCENT = 105.0
NIGHT_W = 5.0
LITHIUM_AND_USER = "23456789"
"""Battery types up to LIc; the emulated MAX knows them all."""

MODES = {
    "ack-ignore": "says ACK to what is set, and does nothing",
    "nak": "says NAK to what is set, and does nothing",
    "nak-apply": "says NAK to what is set, and does it",
    "mute": "does not answer what is set, and does nothing",
    "mute-apply": "does not answer what is set, and does it",
    "revert": "goes back after so many seconds, revert:60",
}
"""What real devices do to set commands, besides obeying."""

REVERT_S = 60.0

EQUALISATION = {
    "enabled": "0",
    "time": "060",
    "period": "030",
    "current": "080",
    "voltage": "58.40",
    "timeout": "120",
    "active": "0",
}
"""As QBEQI sends it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One model: its nameplate, and what its settings are when it leaves the works.

    ``settings`` hold the code or number as the device sends it, by vocabulary name.
    """

    name: str
    model: str
    serial: str
    firmware: str
    rated_w: int
    rated_va: int
    rated_a: float
    is_max: bool
    charge_a: tuple[int, ...]
    ac_charge_a: tuple[int, ...]
    settings: Mapping[str, str]
    flags: str


_SETTINGS = {
    "output_frequency_hz": "50.0",
    "output_voltage_v": "230.0",
    "recharge_voltage_v": "51.0",
    "cut_off_voltage_v": "46.0",
    "bulk_voltage_v": "56.4",
    "float_voltage_v": "54.4",
    "battery_type": "2",
    "max_ac_charge_current_a": "030",
    "max_charge_current_a": "100",
    "input_range": "1",
    "output_source_priority": "2",
    "charger_source_priority": "3",
    "redischarge_voltage_v": "53.0",
}
_CLASSIC = _SETTINGS | {"battery_type": "0", "max_charge_current_a": "060"}

PROFILES = {
    "PI30": Profile(
        name="PI30",
        model="PIP-4048",
        serial="92931509105335",
        firmware="00072.70",
        rated_w=4000,
        rated_va=5000,
        rated_a=21.7,
        is_max=False,
        charge_a=(10, 20, 30, 40, 50, 60),
        ac_charge_a=(2, 10, 20, 30),
        settings=_CLASSIC,
        flags="akuvxyz",
    ),
    "PI30MAX": Profile(
        name="PI30MAX",
        model="MAX-8000",
        serial="92932105105335",
        firmware="00044.11",
        rated_w=8000,
        rated_va=8000,
        rated_a=34.7,
        is_max=True,
        charge_a=(10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120),
        ac_charge_a=(2, 10, 20, 30, 40, 50, 60, 70, 80),
        settings=_SETTINGS,
        flags="bkuvxz",
    ),
    "PI18": Profile(
        name="PI18",
        model="LV5048",
        serial="96131904601234",
        firmware="05220",
        rated_w=5600,
        rated_va=5600,
        rated_a=24.3,
        is_max=True,
        charge_a=(10, 20, 30, 40, 50, 60, 70, 80, 90, 100),
        ac_charge_a=(2, 10, 20, 30, 40, 50, 60),
        settings=_SETTINGS | {"output_source_priority": "1", "charger_source_priority": "2"},
        flags="ABCEFH",
    ),
}

PI30_LETTERS = "abjkuvxyz"
PI18_LETTERS = "ABCDEFGHI"
CODES_PI30: Mapping[str, Mapping[str, str]] = {
    "output_source_priority": tables.OUTPUT_PRIORITIES,
    "charger_source_priority": tables.CHARGER_PRIORITIES,
    "battery_type": tables.BATTERY_TYPES,
    "input_range": tables.INPUT_RANGES,
}
CODES_PI18 = {
    **CODES_PI30,
    "output_source_priority": tables.PI18_OUTPUT_PRIORITIES,
    "charger_source_priority": tables.PI18_CHARGER_PRIORITIES,
}


class Inverter:
    """An emulated inverter; a :class:`sunmesh.emulation.Device`.

    Args:
        profile: a name of ``PROFILES``.
        world: the house it shows.
        mode: a name of ``MODES``, how it treats what is set; empty = it obeys.
        revert_s: when it goes back, in the mode ``revert``.
        clock: tells it when that is.
    """

    def __init__(
        self,
        profile: str = "PI30MAX",
        world: World | None = None,
        *,
        mode: str = "",
        revert_s: float = REVERT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """As it leaves the works."""
        self.profile = PROFILES[profile]
        self.world = world or World()
        self.mode = mode
        self._revert_s = revert_s
        self._ticks = clock
        self._before: tuple[float, dict[str, str], set[str], dict[str, str]] | None = None
        self._equalisation = dict(EQUALISATION)
        self._on_change: Callable[[], None] = lambda: None
        self._buffer = b""
        self._codes = dict(self.profile.settings)
        self._flags = set(self.profile.flags)
        self._changed = False

    @property
    def serial(self) -> str:
        """Its number; that of another one while the house's calendar has the plugs swapped."""
        number = self.profile.serial
        return f"{number[:-3]}999" if self.world.has_fault("swapped") else number

    @property
    def settings(self) -> dict[str, Value]:
        """The settings in the vocabulary's words and numbers."""
        words = CODES_PI18 if self._is_pi18 else CODES_PI30
        return {
            name: words[name].get(code, code) if name in words else float(code)
            for name, code in self._codes.items()
        }

    def follow(self, mesh: Mesh, device: str) -> None:
        """Show the simulated house of ``mesh``, and tell it the settings so that it obeys them."""

        def tell() -> None:
            topic = mesh.topics.sim(f"{device}/settings")
            mesh.publish(topic, json.dumps(self.settings).encode(), retain=True)

        self.world.follow(mesh, device)
        self._on_change = tell
        mesh.on_connect(tell)

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes of a request; the whole frames to answer."""
        *requests, self._buffer = (self._buffer + data).split(b"\r")
        self._buffer = self._buffer[-codec.LIMIT :]
        answers = [self._answer(request) for request in requests]
        return [answer for answer in answers if answer]

    def nak(self) -> bytes:
        """How it refuses."""
        return codec.request("^0") if self._is_pi18 else codec.reply("NAK")

    @property
    def _is_pi18(self) -> bool:
        return self.profile.name == "PI18"

    def _answer(self, request: bytes) -> bytes:
        self._go_back()
        command, checksum = request[:-2].decode("latin-1"), request[-2:]
        if not command.isascii() or codec.crc(request[:-2]) != checksum:
            return self.nak()  # the stepped checksum only: POP02 with E2 0A fails here, too
        if self._is_pi18:
            if command.startswith("^S"):
                return self._obey(command[5:], SETS_PI18, codec.request("^1"))
            data = PI18_ANSWERS[command](self) if command in PI18_ANSWERS else None
            return self.nak() if data is None else codec.reply_pi18(data)
        if command in PI30_ANSWERS:
            data = PI30_ANSWERS[command](self)
            return self.nak() if data is None else codec.reply(data)
        return self._obey(command, SETS_PI30, codec.reply("ACK"))

    # -- settings ----------------------------------------------------------------------------------

    def _obey(self, command: str, sets: Mapping[str, Callable[..., bool]], ack: bytes) -> bytes:
        """What it says to a set command, in its mode; empty = nothing."""
        if not any(re.fullmatch(pattern, command) for pattern in sets):
            return self.nak()
        kept = (dict(self._codes), set(self._flags), dict(self._equalisation))
        if self.mode in ("ack-ignore", "nak", "mute"):
            return {"ack-ignore": ack, "nak": self.nak(), "mute": b""}[self.mode]
        if not self._set(command, sets):
            return self.nak()
        if self.mode == "revert":
            self._before = (self._ticks() + self._revert_s, *kept)
        return {"nak-apply": self.nak(), "mute-apply": b""}.get(self.mode, ack)

    def _go_back(self) -> None:
        """In the mode ``revert``: have the settings of before, once their time has come."""
        if self._before is None or self._ticks() < self._before[0]:
            return
        _, self._codes, self._flags, self._equalisation = self._before
        self._before, self._changed = None, True
        self._on_change()

    def _set(self, command: str, sets: Mapping[str, Callable[..., bool]]) -> bool:
        """Whether ``command`` was taken."""
        for pattern, take in sets.items():
            match = re.fullmatch(pattern, command)
            if match:
                if not take(self, *match.groups()):
                    return False
                self._changed = True
                self._on_change()
                return True
        return False

    def _store(self, name: str, code: str) -> bool:
        self._codes[name] = code
        return True

    def _charge(self, amperes: str) -> bool:
        return int(amperes) in self.profile.charge_a and self._store(
            "max_charge_current_a", f"{int(amperes):03d}"
        )

    def _charge_ac(self, amperes: str) -> bool:
        return int(amperes) in self.profile.ac_charge_a and self._store(
            "max_ac_charge_current_a", f"{int(amperes):03d}"
        )

    def _charger(self, code: str) -> bool:
        """A MAX has no utility first."""
        refused = self.profile.name == "PI30MAX" and code == "0"
        return not refused and self._store("charger_source_priority", code)

    def _type(self, code: str) -> bool:
        known = code in "012" or self.profile.is_max and code in LITHIUM_AND_USER
        return known and self._store("battery_type", code)

    def _volts(self, name: str, low: float, high: float, volts: str) -> bool:
        """A voltage that only a user-defined battery lets change."""
        user = self._codes["battery_type"] == "2"
        return user and low <= float(volts) <= high and self._store(name, volts)

    def _listed(self, name: str, listed: tuple[int, ...], volts: str) -> bool:
        return float(volts) in listed and self._store(name, volts)

    def _switch(self, letters: str, known: str, on: bool) -> bool:
        if not set(letters) <= set(known):
            return False
        self._flags = self._flags | set(letters) if on else self._flags - set(letters)
        return True

    def _equalise(self, name: str, code: str) -> bool:
        """Only a MAX equalises."""
        if not self.profile.is_max:
            return False
        self._equalisation[name] = code
        return True

    def _reset(self) -> bool:
        self._codes, self._flags = dict(self.profile.settings), set(self.profile.flags)
        return True

    # -- the house, as this device measures it -----------------------------------------------------

    def _w(self, name: str) -> float:
        return float(self.world.get(name, NOON[name]))

    def _load_percent(self) -> int:
        watts = self._w("ac_output_power_w") / self.profile.rated_w
        return round(
            100 * max(watts, self._w("ac_output_apparent_power_va") / self.profile.rated_va)
        )

    def _pv_w(self) -> float:
        """Both strings together, as a device with one input has them."""
        return self._w("pv_power_w") + self._w("pv2_power_w")

    def _once_changed(self) -> int:
        """Status b6: once after each change."""
        changed, self._changed = self._changed, False
        return int(changed)

    def _letter(self) -> str:
        mode = self.world.get("device_mode", NOON["device_mode"])
        return next((letter for letter, word in tables.MODES.items() if word == mode), "S")

    def _warnings(self) -> set[str]:
        codes = {
            "line_fail": self._w("grid_voltage_v") < NO_GRID_V,
            "battery_low": self._w("battery_voltage_v") < BATTERY_LOW_V,
            "overload": self._load_percent() > OVERLOAD_PERCENT,
            "pv_loss": self._pv_w() < NIGHT_W,
        }
        return {code for code, is_set in codes.items() if is_set}

    # -- PI30 --------------------------------------------------------------------------------------

    def _qpigs(self) -> str:
        is_max, pv_w = self.profile.is_max, self._pv_w()
        charge, battery_v = self._w("battery_charge_current_a"), self._w("battery_voltage_v")
        sun, from_grid = pv_w > NIGHT_W, self._w("grid_power_w") > 0
        charging = charge >= 0.5
        status = (
            f"0{self._once_changed()}0{int(self._w('ac_output_voltage_v') > 0)}0"
            f"{int(charging)}{int(charging and sun)}{int(charging and from_grid)}"
        )
        if is_max:  # current at the panels, first input; the charger's own voltage is not sent
            pv = f"{self._w('pv_current_a'):04.1f} {self._w('pv_voltage_v'):05.1f} 00.00"
            pv_w = self._w("pv_power_w")
        else:  # current into the battery
            pv = f"{pv_w / battery_v:04.0f} {self._w('pv_voltage_v') / 4:05.1f} {battery_v:05.2f}"
        return (
            f"{self._w('grid_voltage_v'):05.1f} {self._w('grid_frequency_hz'):04.1f} "
            f"{self._w('ac_output_voltage_v'):05.1f} {self._w('ac_output_frequency_hz'):04.1f} "
            f"{self._w('ac_output_apparent_power_va'):04.0f} {self._w('ac_output_power_w'):04.0f} "
            f"{self._load_percent():03d} {self._w('bus_voltage_v'):03.0f} {battery_v:05.2f} "
            f"{charge:03.0f} {self._w('battery_soc_percent'):03.0f} "
            f"{self._w('heat_sink_temperature_c'):04.0f} {pv} "
            f"{self._w('battery_discharge_current_a'):05.0f} {status} 00 00 {pv_w:05.0f} 010"
        )

    def _qpigs2(self) -> str | None:
        if not self.profile.is_max:
            return None
        volts, watts = self._w("pv2_voltage_v"), self._w("pv2_power_w")
        return f"{self._w('pv2_current_a'):04.1f} {volts:05.1f} {watts:05.0f} "

    def _qpiri(self) -> str:
        p, s = self.profile, self._codes
        more = " 000 0 120" if p.is_max else ""
        return (
            f"230.0 {p.rated_a:04.1f} {s['output_voltage_v']} {s['output_frequency_hz']} "
            f"{p.rated_a:04.1f} {p.rated_va} {p.rated_w} 48.0 {s['recharge_voltage_v']} "
            f"{s['cut_off_voltage_v']} {s['bulk_voltage_v']} {s['float_voltage_v']} "
            f"{s['battery_type']} {s['max_ac_charge_current_a']} {s['max_charge_current_a']} "
            f"{s['input_range']} {s['output_source_priority']} {s['charger_source_priority']} "
            f"9 01 0 0 {s['redischarge_voltage_v']} 0 1{more}"
        )

    def _qdi(self) -> str:
        """What PF makes of the settings."""
        s, on = self.profile.settings, self.profile.flags
        flags = " ".join(str(int(letter in on)) for letter in "juvxyzbk")
        return (
            f"230.0 50.0 0{s['max_ac_charge_current_a'][-2:]} {s['cut_off_voltage_v']} "
            f"{s['float_voltage_v']} {s['bulk_voltage_v']} {s['recharge_voltage_v']} "
            f"{s['max_charge_current_a']} {s['input_range']} {s['output_source_priority']} "
            f"{s['charger_source_priority']} {s['battery_type']} {int('a' not in on)} {flags} "
            f"0 {s['redischarge_voltage_v']} 0 1"
        )

    def _qbeqi(self) -> str | None:
        if not self.profile.is_max:
            return None
        e = self._equalisation
        return (
            f"{e['enabled']} {e['time']} {e['period']} {e['current']} 000 {e['voltage']} 000 "
            f"{e['timeout']} {e['active']} 0012"
        )

    def _qpiws(self) -> str:
        table = tables.WARNING_TABLES["MAX" if self.profile.is_max else "HS"]
        codes = self._warnings()
        count = 36 if self.profile.is_max else 32
        return "".join(str(int(table.bits.get(n) in codes)) for n in range(count))

    def _qflag(self) -> str:
        on = "".join(letter for letter in PI30_LETTERS if letter in self._flags)
        off = "".join(letter for letter in PI30_LETTERS if letter not in self._flags)
        return f"E{on}D{off}"

    def _wh(self, name: str) -> str | None:
        """Eight digits of Wh; a MAX and PI18 count energy, older ones do not."""
        return f"{self._w(name) * 1000 % 1e8:08.0f}" if self.profile.is_max else None

    # -- PI18 --------------------------------------------------------------------------------------

    def _gs(self) -> str:
        charge = self._w("battery_charge_current_a")
        discharge = self._w("battery_discharge_current_a")
        direction = 1 if charge >= 0.5 else 2 if discharge >= 0.5 else 0
        line = 1 if self._w("grid_power_w") > 0 else 0
        mppt = [2 if self._w(name) > NIGHT_W else 1 for name in ("pv_power_w", "pv2_power_w")]
        tenths = [
            f"{self._w(name) * 10:0{width}.0f}"
            for name, width in (
                ("grid_voltage_v", 4),
                ("grid_frequency_hz", 3),
                ("ac_output_voltage_v", 4),
                ("ac_output_frequency_hz", 3),
            )
        ]
        heat = f"{self._w('heat_sink_temperature_c'):03.0f}"
        return ",".join(
            [
                *tenths,
                f"{self._w('ac_output_apparent_power_va'):04.0f}",
                f"{self._w('ac_output_power_w'):04.0f}",
                f"{self._load_percent():03d}",
                f"{self._w('battery_voltage_v') * 10:03.0f}",
                "000,000",
                f"{discharge:03.0f},{charge:03.0f},{self._w('battery_soc_percent'):03.0f}",
                f"{heat},{heat},{heat}",
                f"{self._w('pv_power_w'):04.0f},{self._w('pv2_power_w'):04.0f}",
                f"{self._w('pv_voltage_v') * 10:04.0f},{self._w('pv2_voltage_v') * 10:04.0f}",
                f"{self._once_changed()},{mppt[0]},{mppt[1]}",
                f"{int(self._w('ac_output_voltage_v') > 0)},{direction},{direction},{line},0",
            ]
        )

    def _piri(self) -> str:
        p, s = self.profile, self._codes
        whole = {name: code.replace(".", "") for name, code in s.items()}
        amps = f"{p.rated_a * 10:.0f}"
        return (
            f"2300,{amps},{whole['output_voltage_v']},{whole['output_frequency_hz']},{amps},"
            f"{p.rated_va},{p.rated_w},480,{whole['recharge_voltage_v']},"
            f"{whole['redischarge_voltage_v']},{whole['cut_off_voltage_v']},"
            f"{whole['bulk_voltage_v']},{whole['float_voltage_v']},{s['battery_type']},"
            f"{s['max_ac_charge_current_a']},{s['max_charge_current_a']},{s['input_range']},"
            f"{s['output_source_priority']},{s['charger_source_priority']},9,0,0,0,0,2,00"
        )

    def _fws(self) -> str:
        codes = self._warnings()
        flags = ",".join(str(int(name in codes)) for name in tables.PI18_WARNINGS)
        return f"00,{flags},0"

    def _pi18_mode(self) -> str:
        word = self.world.get("device_mode", NOON["device_mode"])
        word = {"line": "hybrid"}.get(word, word)
        return next((code for code, mode in tables.PI18_MODES.items() if mode == word), "01")

    def _pi18_flags(self) -> str:
        return ",".join(str(int(letter in self._flags)) for letter in PI18_LETTERS)

    def _clock(self) -> str:
        return f"{datetime.now(UTC):%Y%m%d%H%M%S}"

    def _amperes(self, choices: tuple[int, ...], separator: str) -> str:
        return separator.join(f"{ampere:03d}" for ampere in choices)


RECHARGE_V = tuple(range(44, 52))
REDISCHARGE_V = (0, *range(48, 59))

PI30_ANSWERS: dict[str, Callable[[Inverter], str | None]] = {
    "QPI": lambda d: "PI30",
    "QID": lambda d: d.serial,
    "QSID": lambda d: f"14{d.serial}005535" if d.profile.is_max else None,
    "QVFW": lambda d: f"VERFW:{d.profile.firmware}",
    "QMN": lambda d: d.profile.model if d.profile.is_max else None,
    "QPIGS": Inverter._qpigs,
    "QPIGS2": Inverter._qpigs2,
    "QPIRI": Inverter._qpiri,
    "QMOD": Inverter._letter,
    "QPIWS": Inverter._qpiws,
    "QFLAG": Inverter._qflag,
    "QDI": Inverter._qdi,
    "QBEQI": Inverter._qbeqi,
    "QMCHGCR": lambda d: d._amperes(d.profile.charge_a, " "),
    "QMUCHGCR": lambda d: d._amperes(d.profile.ac_charge_a, " "),
    "QET": lambda d: d._wh("pv_energy_total_kwh"),
    "QLT": lambda d: d._wh("load_energy_total_kwh"),
    "QT": lambda d: d._clock() if d.profile.is_max else None,
}
PI18_ANSWERS: dict[str, Callable[[Inverter], str | None]] = {
    "^P005PI": lambda d: "18",
    "^P005ID": lambda d: f"14{d.serial}000000",
    "^P006VFW": lambda d: f"{d.profile.firmware},00000,00000",
    "^P004T": Inverter._clock,
    "^P005GS": Inverter._gs,
    "^P007PIRI": Inverter._piri,
    "^P006MOD": Inverter._pi18_mode,
    "^P005FWS": Inverter._fws,
    "^P007FLAG": Inverter._pi18_flags,
    "^P009MCHGCR": lambda d: d._amperes(d.profile.charge_a, ","),
    "^P010MUCHGCR": lambda d: d._amperes(d.profile.ac_charge_a, ","),
    "^P005ET": lambda d: d._wh("pv_energy_total_kwh"),
}

SETS_PI30: dict[str, Callable[..., bool]] = {
    r"POP0([0-2])": lambda d, code: d._store("output_source_priority", code),
    r"PCP0([0-3])": Inverter._charger,
    r"PGR0([01])": lambda d, code: d._store("input_range", code),
    r"PBT0([0-9])": Inverter._type,
    r"PBCV(\d\d\.\d)": lambda d, volts: d._listed("recharge_voltage_v", RECHARGE_V, volts),
    r"PBDV(\d\d\.\d)": lambda d, volts: d._listed("redischarge_voltage_v", REDISCHARGE_V, volts),
    r"PSDV(\d\d\.\d)": lambda d, volts: d._volts("cut_off_voltage_v", 40, 48, volts),
    r"PCVV(\d\d\.\d)": lambda d, volts: d._volts("bulk_voltage_v", 48, 58.4, volts),
    r"PBFT(\d\d\.\d)": lambda d, volts: d._volts("float_voltage_v", 48, 58.4, volts),
    r"MCHGC(\d{3})": Inverter._charge,
    r"MNCHGC0(\d{3})": Inverter._charge,
    r"MUCHGC0?(\d{3})": Inverter._charge_ac,
    r"PE([a-z]+)": lambda d, letters: d._switch(letters, PI30_LETTERS, on=True),
    r"PD([a-z]+)": lambda d, letters: d._switch(letters, PI30_LETTERS, on=False),
    r"PBEQE([01])": lambda d, code: d._equalise("enabled", code),
    r"PBEQA([01])": lambda d, code: d._equalise("active", code),
    r"PBEQV(\d\d\.\d\d)": lambda d, code: d._equalise("voltage", code),
    r"PBEQT(\d{3})": lambda d, code: d._equalise("time", code),
    r"PBEQOT(\d{3})": lambda d, code: d._equalise("timeout", code),
    r"PBEQP(\d{3})": lambda d, code: d._equalise("period", code),
    r"PF": Inverter._reset,
}
"""Commands that a PI30 device takes. F and V are refused: the output is on."""

SETS_PI18: dict[str, Callable[..., bool]] = {
    r"POP([01])": lambda d, code: d._store("output_source_priority", code),
    r"PCP0,([0-2])": Inverter._charger,
    r"PGR([01])": lambda d, code: d._store("input_range", code),
    r"PBT([0-2])": Inverter._type,
    r"BUCD(\d\d)0,(\d\d)0": lambda d, low, high: (
        int(low) in RECHARGE_V
        and int(high) in REDISCHARGE_V
        and d._store("recharge_voltage_v", f"{low}.0")
        and d._store("redischarge_voltage_v", f"{high}.0")
    ),
    r"MCHGV(\d\d)(\d),(\d\d)(\d)": lambda d, a, b, e, f: (
        d._volts("bulk_voltage_v", 48, 58.4, f"{a}.{b}")
        and d._volts("float_voltage_v", 48, 58.4, f"{e}.{f}")
    ),
    r"PSDV(\d\d)(\d)": lambda d, a, b: d._volts("cut_off_voltage_v", 40, 48, f"{a}.{b}"),
    r"MCHGC0,(\d{3})": Inverter._charge,
    r"MUCHGC0,(\d{3})": Inverter._charge_ac,
    r"PE([A-I])": lambda d, letters: d._switch(letters, PI18_LETTERS, on=True),
    r"PD([A-I])": lambda d, letters: d._switch(letters, PI18_LETTERS, on=False),
    r"PF": Inverter._reset,
}
"""Commands that a PI18 device takes, after their ``^Snnn``."""
