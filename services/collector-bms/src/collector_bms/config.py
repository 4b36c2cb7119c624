"""The settings of one pack: a table ``[devices.NAME]`` with ``family = "bms"``."""

from typing import Literal

import msgspec
from sunmesh.portlock import is_unstable

from .a5 import MAX_BOARD


class BmsDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one pack is reached and how its answers are read; see ``config.example.toml``."""

    port: str
    baud: int = 9600
    allow_unstable_port: bool = False
    address: int = 1
    protocol: Literal["auto", "a5", "0x81"] = "auto"
    host: Literal["auto", "0x40", "0x80"] = "auto"
    serial: str | None = None
    current_sign: Literal["auto", "normal", "inverted"] = "auto"
    balance_order: Literal["unknown", "byte", "word"] = "unknown"
    silence: Literal["offline", "sleeping"] = "offline"
    min_voltage_v: float = 8.0
    max_voltage_v: float = 70.0
    soc_factor: float = 1.0
    soc_offset_percent: float = 0.0
    timeout_s: float = 0.5
    request_pause_s: float = 0.0
    poll_interval_s: float = 5.0
    settings_interval_s: float = 3600.0
    control: bool = False
    allow: list[Literal["charge_mosfet_on", "discharge_mosfet_on"]] = []
    write_budget: int = 20
    state_dir: str = "state"

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if is_unstable(self.port) and not self.allow_unstable_port:
            raise ValueError(
                f"port must be a name that stays, /dev/serial/by-id/... or a udev link, for "
                f"{self.port} may be another adapter tomorrow; or set allow_unstable_port = true"
            )
        if self.baud <= 0:
            raise ValueError(f"baud must be above 0, got {self.baud}")
        if not 1 <= self.address <= MAX_BOARD:
            raise ValueError(f"address must be 1 to {MAX_BOARD}, got {self.address}")
        if self.host == "0x80" and self.address != 1:
            raise ValueError("host must be 0x40 for another address than 1: 0x80 has no addresses")
        if not 0 < self.min_voltage_v < self.max_voltage_v:
            raise ValueError(
                f"max_voltage_v must be above min_voltage_v and both above 0, "
                f"got {self.max_voltage_v} and {self.min_voltage_v}"
            )
        if self.soc_factor <= 0:
            raise ValueError(f"soc_factor must be above 0, got {self.soc_factor}")
        if not 0.05 <= self.timeout_s <= 5:
            raise ValueError(f"timeout_s must be 0.05 to 5, got {self.timeout_s}")
        if not 0 <= self.request_pause_s <= 1:
            raise ValueError(f"request_pause_s must be 0 to 1, got {self.request_pause_s}")
        if self.poll_interval_s < 1:
            raise ValueError(
                f"poll_interval_s must be 1 or more, got {self.poll_interval_s}; "
                "a round takes 0.3 to 1 s of the line"
            )
        if self.settings_interval_s < self.poll_interval_s:
            raise ValueError(
                f"settings_interval_s must not be below poll_interval_s, "
                f"got {self.settings_interval_s}"
            )
        if self.write_budget < 0:
            raise ValueError(f"write_budget must be 0 or more, got {self.write_budget}")
        if not self.state_dir:
            raise ValueError("state_dir must name a folder")
