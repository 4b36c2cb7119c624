"""``[web]`` of ``site.toml``."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Literal

import msgspec
from sunmesh.config import Site
from sunmesh.house import EnergySection

from .people.access import Network

PRIVATE = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
"""What nobody on the internet has."""


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[web]``.

    Attributes:
        host: address to listen on; 127.0.0.1 = this machine only, 0.0.0.0 = the whole network.
        port: TCP port.
        threads: answers at a time; the others wait for them.
        streams: open pages and programs that are kept up to date; further pages ask by themselves.
        battery_kwh: usable energy of the battery; without it the portal learns it from history.
        battery_reserve_percent: state of charge that the owner counts as empty.
        left_out: devices that measure what others already count; shown, but not summed.
        viewing: ``open`` = whoever is in the local network may look; ``login`` = members only.
        local_networks: where commands may come from.
        trusted_proxies: whose X-Forwarded-For is believed.
        setup_ports: where *Setup* looks for serial ports besides /dev: ``/dev/axpert``, patterns.
        setup_gateways: addresses that *Setup* offers to ask: ``192.168.1.60``, ``host:port``.
        setup_sensors: where *Setup* looks for 1-wire sensors.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    threads: int = 4
    streams: int = 100
    battery_kwh: float | None = None
    battery_reserve_percent: float = 10.0
    left_out: tuple[str, ...] = ()
    viewing: Literal["open", "login"] = "open"
    local_networks: tuple[str, ...] = PRIVATE
    trusted_proxies: tuple[str, ...] = ()
    setup_ports: tuple[str, ...] = ()
    setup_gateways: tuple[str, ...] = ()
    setup_sensors: tuple[str, ...] = ("/sys/bus/w1/devices",)

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must be 1 to 65535, or 0 for any free one, got {self.port}")
        if not 2 <= self.threads <= 200:
            raise ValueError(f"threads must be 2 to 200, got {self.threads}")
        if not 0 <= self.streams <= 1000:
            raise ValueError(f"streams must be 0 to 1000, got {self.streams}")
        if self.battery_kwh is not None and not 0 < self.battery_kwh <= 10_000:
            raise ValueError(f"battery_kwh must be above 0, got {self.battery_kwh}")
        if not 0 <= self.battery_reserve_percent < 100:
            raise ValueError(
                f"battery_reserve_percent must be 0 to below 100, got "
                f"{self.battery_reserve_percent}"
            )
        for key in ("local_networks", "trusted_proxies"):
            for text in getattr(self, key):
                try:
                    ip_network(text)
                except ValueError:
                    raise ValueError(
                        f"{key} must be networks such as 192.168.0.0/16, got {text!r}"
                    ) from None

    @property
    def local(self) -> tuple[Network, ...]:
        """``local_networks``, as networks."""
        return _networks(self.local_networks)

    @property
    def trusted(self) -> tuple[Network, ...]:
        """``trusted_proxies``, as networks."""
        return _networks(self.trusted_proxies)


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


def web_of(site: Site) -> WebConfig:
    """``[web]``, with the devices that ``[energy]`` leaves out of the books.

    Raises:
        ConfigError: an unknown key or an impossible value.
    """
    web = site.section("web", WebConfig)
    left_out = (*web.left_out, *site.section("energy", EnergySection).left_out)
    return msgspec.structs.replace(web, left_out=tuple(dict.fromkeys(left_out)))
