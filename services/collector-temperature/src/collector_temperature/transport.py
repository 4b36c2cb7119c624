"""The bus: a folder of the kernel's, with a folder for each sensor that it has found.

Opening a sensor's file starts a conversion and blocks for 0.75 s, or as long as a sick bus likes.
So each read has a thread of its own that may be left behind, and a bus is read by one at a time.
"""

import logging
import threading
from collections import Counter
from pathlib import Path

from sunmesh.errors import TransportError
from sunmesh.tap import Tap

from . import codec

log = logging.getLogger(__name__)

DEADLINE_S = 3.0
"""From the opening of a sensor's file to its end."""

MISSING = (2, 5, 6, 19)
"""ENOENT, EIO, ENXIO, ENODEV: how a sensor that left the bus answers, before or in a read."""


class Bus:
    """The sensors under one root, and who of them has a name.

    Args:
        root: ``/sys/bus/w1/devices``, or a folder that stands in for it.
        named: ROM ids that the configuration names.

    Attributes:
        unnamed: those that are on the bus without one, as last seen.
    """

    def __init__(self, root: Path, named: frozenset[str] = frozenset()) -> None:
        """Nothing is read yet."""
        self.root = root
        self.unnamed: list[str] = []
        self._named = named
        self._said: set[str] = set()
        self._turn = threading.Lock()
        self._stuck: dict[str, threading.Thread] = {}

    def sensors(self) -> list[str]:
        """ROM ids of the sensors that the kernel has found; says once who has no name.

        Raises:
            TransportError: there is no such root.
        """
        try:
            found = sorted(path.name for path in self.root.iterdir() if codec.is_rom(path.name))
        except OSError as err:
            raise TransportError(
                f"{self.root} cannot be read ({err.strerror}); is the 1-Wire bus switched on?"
            ) from err
        self.unnamed = [rom for rom in found if rom not in self._named]
        for rom in self.unnamed:
            if rom not in self._said and self._named:
                self._said.add(rom)
                log.info("%s is on the bus and has no table [devices.NAME]", rom)
        return found

    def read(self, rom: str) -> str:
        """The whole text of a sensor's ``w1_slave``, perhaps empty.

        Raises:
            TransportError: the sensor is not there, or its file did not end in time.
        """
        stuck = self._stuck.get(rom)
        if stuck is not None and stuck.is_alive():
            raise TransportError(f"the last read of {rom} has not come back yet")
        answer: list[str | OSError] = []
        with self._turn:
            reader = threading.Thread(
                target=_read, args=(self.root / rom / "w1_slave", answer), daemon=True
            )
            reader.start()
            reader.join(DEADLINE_S)
        if not answer:
            self._stuck[rom] = reader
            raise TransportError(f"no answer from {rom} within {DEADLINE_S:g} s")
        if isinstance(answer[0], OSError):
            raise TransportError(self._why(rom, answer[0])) from answer[0]
        return answer[0]

    def _why(self, rom: str, err: OSError) -> str:
        if err.errno not in MISSING:
            return f"{rom} cannot be read ({err.strerror})"
        present = [other for other in self.sensors() if other != rom]
        return f"{rom} is not on the bus; there: {', '.join(present) or 'no sensor'}"


def _read(path: Path, answer: list[str | OSError]) -> None:
    try:
        answer.append(path.read_bytes().decode("ascii", "replace"))
    except OSError as err:
        answer.append(err)


class Sensor:
    """One sensor on ``bus``, and what became of its reads.

    Attributes:
        counters: damaged reads by kind, and retries.
        tap: is shown each text.
    """

    def __init__(self, bus: Bus, rom: str) -> None:
        """Nothing is read yet."""
        self.rom = rom
        self.bus = bus
        self.counters: Counter[str] = Counter()
        self.tap = Tap()

    def read(self) -> codec.Scratchpad:
        """One conversion.

        Raises:
            FrameError: what came is no reading.
            TransportError: nothing came.
        """
        text = self.bus.read(self.rom)
        self.tap(self.rom, text)
        return codec.read(text)
