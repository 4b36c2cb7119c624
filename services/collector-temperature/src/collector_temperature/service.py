"""What happens each turn: one conversion, and one more when the first is no reading."""

import logging
import time
from collections.abc import Callable

from sunmesh import clock
from sunmesh.errors import FrameError, TransportError
from sunmesh.messages import Info, Value
from sunmesh.poll import Reading

from . import codec
from .config import TemperatureDevice
from .transport import Sensor

log = logging.getLogger(__name__)

AGAIN_S = 1.0
"""A sensor that has just been powered is asked again after so long."""

LEAP_C = 10.0
"""From one reading to the next no real one goes so far and lands on exactly 85 °C."""


class Thermometer:
    """One sensor as the poll loop sees it; a :class:`sunmesh.poll.Source`.

    Args:
        config: its settings.
        sensor: the way to it.
        sleep: how a pause is made.
    """

    def __init__(
        self,
        config: TemperatureDevice,
        sensor: Sensor,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is read yet."""
        self._config = config
        self._sensor = sensor
        self._sleep = sleep
        self._last_c: float | None = None
        self._resolution_bits: int | None = None

    # -- the poll loop calls these -----------------------------------------------------------------

    def open(self) -> Info:
        """See whether the kernel has found the sensor.

        Raises:
            TransportError: no bus, or the sensor is not on it.
        """
        rom, bus = self._sensor.rom, self._sensor.bus
        present = bus.sensors()
        self._sensor.counters["unnamed_on_bus"] = len(bus.unnamed)
        if rom not in present:
            there = ", ".join(present) or "no sensor"
            raise TransportError(f"{rom} is not on the bus; there: {there}")
        return Info(
            ts=clock.iso(clock.now()),
            family="temperature",
            manufacturer="Maxim",
            model=codec.model(rom),
            serial=rom,
            protocol="1-Wire",
            port=str(bus.root / rom),
            poll_interval_s=self._config.poll_interval_s,
        )

    def poll(self) -> Reading:
        """One reading.

        Raises:
            FrameError: twice no reading.
            TransportError: the sensor is gone, or does not end its conversion.
        """
        self._sensor.bus.sensors()  # says who is new
        self._sensor.counters["unnamed_on_bus"] = len(self._sensor.bus.unnamed)
        pad = self._read()
        values: dict[str, Value] = {"temperature_c": pad.celsius}
        self._resolution_bits = pad.resolution_bits
        if self._is_doubtful(pad.celsius):
            self._sensor.counters["retries"] += 1
            self._sleep(AGAIN_S)
            pad = self._sensor.read()
            values = {"temperature_c": pad.celsius}
            if self._is_doubtful(pad.celsius):
                return Reading(values, {"temperature_c": "suspect"})
        self._last_c = pad.celsius
        return Reading(values)

    def settings(self) -> dict[str, Value] | None:
        """What the last reading said of the sensor's own settings."""
        if self._resolution_bits is None:
            return None
        return {"resolution_bits": self._resolution_bits}

    def flush(self) -> None:
        """Nothing lies in a file."""

    def close(self) -> None:
        """Nothing is held open."""

    # -- parts -------------------------------------------------------------------------------------

    def _read(self) -> codec.Scratchpad:
        try:
            return self._sensor.read()
        except FrameError as err:
            self._sensor.counters[f"damaged_{err.kind}"] += 1
            log.debug("%s: %s; reading again", self._sensor.rom, err)
            if err.kind == "power_on":
                self._sleep(AGAIN_S)
        self._sensor.counters["retries"] += 1
        return self._sensor.read()

    def _is_doubtful(self, celsius: float) -> bool:
        """Whether it may be the power-on value of a clone, which does not show itself as one."""
        if celsius != codec.POWER_ON_C:
            return False
        return self._last_c is None or abs(celsius - self._last_c) > LEAP_C
