"""The settings of one meter: a table ``[devices.NAME]`` with ``family = "meter"``."""

from typing import Literal
from urllib.parse import urlsplit

import msgspec
from sunmesh.portlock import is_unstable

SLOW_BAUD = 9600
"""Below it an answer of 60 registers needs more than half a second."""


class MeterDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one meter is reached and what it stands for; see ``config.example.toml``."""

    model: Literal["SDM120", "SDM230", "SDM630"]
    source: Literal["modbus", "mbmd_rest", "mbmd_mqtt"] = "modbus"
    role: Literal["grid", "pv", "load"] = "grid"
    invert: bool = False
    serial: str | None = None
    poll_interval_s: float = 5.0
    settings_interval_s: float = 60.0

    port: str | None = None
    address: int = 1
    baud: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1
    allow_unstable_port: bool = False
    timeout_s: float | None = None
    request_gap_s: float = 0.005
    address_gap_s: float = 0.2

    url: str | None = None
    mbmd_id: str | None = None
    mbmd_topic: str = "mbmd"
    user: str | None = None
    password_file: str | None = None
    stale_after_s: float = 30.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.poll_interval_s < 0.5:
            raise ValueError(f"poll_interval_s must be 0.5 or more, got {self.poll_interval_s}")
        if self.settings_interval_s < self.poll_interval_s:
            raise ValueError(
                f"settings_interval_s must not be below poll_interval_s, "
                f"got {self.settings_interval_s}"
            )
        if self.source == "modbus":
            self._check_modbus()
        else:
            self._check_mbmd()

    def _check_modbus(self) -> None:
        if not self.port:
            raise ValueError('port must be given: /dev/serial/by-id/..., or "tcp://HOST:502"')
        if "://" in self.port:
            _check_url("port", self.port, ("tcp", "socket"))
        elif is_unstable(self.port) and not self.allow_unstable_port:
            raise ValueError(
                f"port must be a name that stays, /dev/serial/by-id/... or a udev link, for "
                f"{self.port} may be another adapter tomorrow; or set allow_unstable_port = true"
            )
        if not 1 <= self.address <= 247:
            raise ValueError(f"address must be 1 to 247, got {self.address}")
        if self.baud <= 0:
            raise ValueError(f"baud must be above 0, got {self.baud}")
        if self.timeout_s is not None and not 0.05 <= self.timeout_s <= 10:
            raise ValueError(f"timeout_s must be 0.05 to 10, got {self.timeout_s}")
        for name in ("request_gap_s", "address_gap_s"):
            if not 0 <= getattr(self, name) <= 5:
                raise ValueError(f"{name} must be 0 to 5, got {getattr(self, name)}")

    def _check_mbmd(self) -> None:
        if not self.mbmd_id:
            raise ValueError(
                'mbmd_id must be given: the meter\'s name in mbmd, such as "SDM2301.1"'
            )
        if self.source == "mbmd_rest":
            if self.url is None:
                raise ValueError('url must be given: "http://HOST:8080"')
            _check_url("url", self.url, ("http",))
        elif self.url is not None:
            _check_url("url", self.url, ("mqtt",))
        if self.stale_after_s <= 0:
            raise ValueError(f"stale_after_s must be above 0, got {self.stale_after_s}")

    @property
    def answer_s(self) -> float:
        """How long the first byte of an answer may take [s]."""
        if self.timeout_s is not None:
            return self.timeout_s
        return 0.5 if self.baud >= SLOW_BAUD else 1.2


def _check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise ValueError(f"{name} must be {' or '.join(schemes)}://HOST:PORT, got {url}")
