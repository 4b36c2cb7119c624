"""The settings of one inverter: a table ``[devices.NAME]`` with ``family = "axpert"``."""

from typing import Literal

import msgspec
from sunmesh.portlock import is_unstable


class AxpertDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one inverter is reached and how often it is asked; see ``config.example.toml``."""

    port: str
    baud: int = 2400
    transport: Literal["auto", "serial", "hidraw"] = "auto"
    allow_unstable_port: bool = False
    dialect: Literal["auto", "PI30", "PI18"] = "auto"
    serial: str | None = None
    poll_interval_s: float = 5.0
    settings_interval_s: float = 60.0
    warning_table: Literal["auto", "HS", "DUO", "KING", "MAX", "MAX24"] = "auto"
    control: bool = False
    allow: list[str] = []
    limits: dict[str, tuple[float, float]] = {}
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
        if self.poll_interval_s < 2:
            raise ValueError(
                f"poll_interval_s must be 2 or more, got {self.poll_interval_s}; "
                "a round takes about 1 s at 2400 baud"
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
        if self.allow or self.limits:
            self._check_names()

    def _check_names(self) -> None:
        """Only names that can be set; a misspelt limit would limit nothing."""
        from . import commands  # a collector that only reads has no use for it

        for name in self.allow:
            if name not in commands.RISKY:
                known = ", ".join(commands.RISKY)
                raise ValueError(f"allow must list names among {known}, got {name}")
        for name, (low, high) in self.limits.items():
            if name not in commands.NAMES or not low <= high:
                raise ValueError(
                    f"limits must be NAME = [low, high] of what can be set, got {name} = "
                    f"[{low:g}, {high:g}]"
                )
