"""The settings of one sensor: a table ``[devices.NAME]`` with ``family = "temperature"``."""

import msgspec

from . import codec

ROOT = "/sys/bus/w1/devices"


class TemperatureDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which sensor it is and how often it is read; see ``config.example.toml``."""

    rom: str
    root: str = ROOT
    poll_interval_s: float = 10.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not codec.is_rom(self.rom):
            kinds = ", ".join(f"{code}- ({name})" for code, name in codec.MODELS.items())
            raise ValueError(
                f"rom must be a sensor's name in {ROOT}: twelve of 0-9 and a-f after {kinds}; "
                f"got {self.rom!r}"
            )
        if self.poll_interval_s < 5:
            raise ValueError(
                f"poll_interval_s must be 5 or more, got {self.poll_interval_s}; "
                "a conversion takes 0.75 s, and a sensor that works all the time warms itself"
            )
