"""The settings of one charge controller: a table ``[devices.NAME]`` with ``family = "pl80"``."""

from typing import Literal

import msgspec
from sunmesh.portlock import is_unstable


class Pl80Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one controller is reached and how often it is read; see ``config.example.toml``."""

    port: str
    baud: Literal[300, 1200, 2400, 9600] = 9600
    allow_unstable_port: bool = False
    model: Literal["PL20", "PL40", "PL60", "PL80"] | None = None
    system_v: Literal[12, 24, 32, 36, 48] | None = None
    charge_step_a: float | None = None
    load_step_a: float | None = None
    poll_interval_s: float = 10.0
    settings_interval_s: float = 600.0
    history: bool = True
    clock_limit_min: float = 15.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if is_unstable(self.port) and not self.allow_unstable_port:
            raise ValueError(
                f"port must be a name that stays, /dev/serial/by-id/... or a udev link, for "
                f"{self.port} may be another adapter tomorrow; or set allow_unstable_port = true"
            )
        for name in ("charge_step_a", "load_step_a"):
            step = getattr(self, name)
            if step is not None and not 0 < step <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {step}")
        if self.clock_limit_min <= 0:
            raise ValueError(f"clock_limit_min must be above 0, got {self.clock_limit_min}")
        if self.poll_interval_s < 5:
            raise ValueError(
                f"poll_interval_s must be 5 or more, got {self.poll_interval_s}; "
                "the adaptor takes 70 ms and more for each byte"
            )
        if self.settings_interval_s < self.poll_interval_s:
            raise ValueError(
                f"settings_interval_s must not be below poll_interval_s, "
                f"got {self.settings_interval_s}"
            )
