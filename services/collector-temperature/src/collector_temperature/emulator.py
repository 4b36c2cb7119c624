"""A folder that stands in for ``/sys/bus/w1/devices``, so that everybody can run the mesh.

Each sensor's file is written anew each second, whole, by renaming. It shows a quantity of the
simulated house (:class:`sunmesh.emulation.World`), or a mild day where there is none.
"""

import contextlib
import logging
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from sunmesh.emulation import Faults, World
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh

from . import codec

log = logging.getLogger(__name__)

MILD_C = 22.0625
POWER_ON = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n"
NO_SENSOR = "ff ff ff ff ff ff ff ff ff : crc=c9 NO\n63 01 4b 46 7f ff 0d 10 15 t=-62\n"
VANISHES_AFTER = 3
"""A sensor that was not found so often in a row is taken off the bus."""


@dataclass(slots=True)
class Simulated:
    """One sensor of the folder.

    Attributes:
        rom: its folder's name.
        quantity: what of the house it measures; ``name/2`` is element 2 of a list.
        device: its name in the mesh, for the house's calendar of faults.
        faults: what goes wrong with it.
    """

    rom: str
    quantity: str = ""
    device: str = ""
    faults: Faults = field(default_factory=Faults)
    missed: int = 0

    @classmethod
    def parse(cls, text: str) -> "Simulated":
        """From ``ROM[:QUANTITY[:DEVICE]]`` as on the command line.

        Raises:
            ConfigError: no such sensor.
        """
        rom, _, rest = text.partition(":")
        quantity, _, device = rest.partition(":")
        if not codec.is_rom(rom):
            raise ConfigError(
                f"--sensor {text}: write ROM[:QUANTITY[:DEVICE]], ROM as 28-0123456789ab"
            )
        return cls(rom, quantity, device)


class Bus:
    """The folder.

    Args:
        root: made where it is missing; folders of its sensors are removed at the end.
        sensors: what hangs on the bus.
        world: the house.
    """

    def __init__(self, root: Path, sensors: list[Simulated], world: World | None = None) -> None:
        """Nothing is written yet."""
        self.root = root
        self.sensors = sensors
        self.world = world or World()

    def follow(self, mesh: Mesh) -> None:
        """Show the simulated house of ``mesh``, its faults included."""
        self.world.follow(mesh)
        for sensor in self.sensors:
            if sensor.device:
                sensor.faults.follow(mesh, sensor.device)

    def run(self, stop: threading.Event, interval_s: float) -> None:
        """Write all sensors again and again until ``stop``.

        Raises:
            ConfigError: the folder cannot be written.
        """
        try:
            while True:
                self.write()
                if stop.wait(interval_s):
                    break
        except OSError as err:
            raise ConfigError(f"{self.root} cannot be written ({err.strerror})") from err
        finally:
            for sensor in self.sensors:
                shutil.rmtree(self.root / sensor.rom, ignore_errors=True)

    def write(self) -> None:
        """Each sensor's file, as its next reader finds it."""
        for sensor in self.sensors:
            text = text_of(self._celsius(sensor.quantity)).encode()
            found = sensor.faults.apply(POWER_ON.encode(), text, NO_SENSOR.encode())
            sensor.missed = 0 if found else sensor.missed + 1
            folder = self.root / sensor.rom
            if sensor.missed >= VANISHES_AFTER:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in (("w1_slave", found), ("temperature", _milli(text, found))):
                with contextlib.suppress(FileNotFoundError):
                    new = folder / f".{name}"
                    new.write_bytes(content)
                    new.replace(folder / name)

    def _celsius(self, quantity: str) -> float:
        name, _, number = quantity.partition("/")
        value = self.world.get(name, MILD_C)
        if isinstance(value, list):
            value = value[int(number or 1) - 1]
        return float(value)


def text_of(celsius: float) -> str:
    """What a sensor of 12 bits says at that temperature."""
    raw = max(-880, min(2000, round(celsius * 16)))
    low, high = raw.to_bytes(2, "little", signed=True)
    pad = bytes([low, high, 0x4B, 0x46, 0x7F, 0xFF, 0x10 - (raw & 15), 0x10])
    crc = codec.crc8(pad)
    line = bytes([*pad, crc]).hex(" ")
    milli = int(raw * 1000 / 16)
    return f"{line} : crc={crc:02x} YES\n{line} t={milli}\n"


def _milli(text: bytes, found: bytes) -> bytes:
    """The file ``temperature``, which current kernels have, too; empty after a failed read."""
    return text.rpartition(b"t=")[2] if found == text else b""
