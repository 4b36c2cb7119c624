"""The settings of one gateway: a table ``[devices.NAME]`` with ``family = "pvs6"``."""

import re
from typing import Literal

import msgspec
from sunmesh.topics import NAME, RESERVED

SLOWEST_SAFE_S = 120.0
"""Polled faster, real gateways stopped answering within hours."""

FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class Pvs6Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one gateway is reached and how often it is asked; see ``config.example.toml``."""

    host: str
    https_port: int = 443
    http_port: int = 80
    protocol: Literal["auto", "localapi", "dl_cgi"] = "auto"
    serial: str | None = None
    fingerprint: str | None = None
    poll_interval_s: float = 300.0
    night_interval_s: float = 900.0
    allow_fast_polling: bool = False
    stale_after_s: float = 900.0
    rating_w: float = 320.0
    weak_below: float = 0.8
    names: dict[str, str] = {}
    ignore: list[str] = []
    state_file: str = "{device}.state.json"
    archive: str = "archive"
    archive_limit_mb: float = 200.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not re.fullmatch(r"[A-Za-z0-9.:_-]+", self.host):
            raise ValueError(f"host must be a name or an address without a scheme, got {self.host}")
        for name in ("https_port", "http_port"):
            if not 0 < getattr(self, name) < 65536:
                raise ValueError(f"{name} must be 1 to 65535, got {getattr(self, name)}")
        if self.fingerprint is not None and not FINGERPRINT.fullmatch(self.pin or ""):
            raise ValueError("fingerprint must be the SHA-256 of the certificate, 64 hex digits")
        self._check_times()
        if self.rating_w <= 0:
            raise ValueError(f"rating_w must be above 0, got {self.rating_w}")
        if not 0 <= self.weak_below < 1:
            raise ValueError(f"weak_below must be 0 (never) to below 1, got {self.weak_below}")
        if self.archive_limit_mb <= 0:
            raise ValueError(f"archive_limit_mb must be above 0, got {self.archive_limit_mb}")
        for serial, name in self.names.items():
            if not NAME.fullmatch(name) or name in RESERVED:
                raise ValueError(
                    f"names must be 1 to 32 of a-z, 0-9 and -, got {name!r} for {serial}"
                )
        if len(set(self.names.values())) < len(self.names):
            raise ValueError("names must differ from one another")

    def _check_times(self) -> None:
        least = 1.0 if self.allow_fast_polling else SLOWEST_SAFE_S
        if self.poll_interval_s < least:
            raise ValueError(
                f"poll_interval_s must be {least:g} or more, got {self.poll_interval_s:g}; a real "
                "gateway that is asked more often stops answering"
            )
        if self.night_interval_s < self.poll_interval_s:
            raise ValueError(
                f"night_interval_s must not be below poll_interval_s, got {self.night_interval_s:g}"
            )
        if self.stale_after_s < 2 * self.poll_interval_s:
            raise ValueError(
                f"stale_after_s must be at least twice poll_interval_s, got {self.stale_after_s:g}"
            )

    @property
    def pin(self) -> str | None:
        """``fingerprint`` as it is compared: lower case, without colons."""
        if self.fingerprint is None:
            return None
        return self.fingerprint.replace(":", "").replace(" ", "").lower()
