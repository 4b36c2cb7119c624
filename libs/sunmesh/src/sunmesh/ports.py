"""Ports of this machine: their stable names, who holds them, what a probe finds on them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .config import Site
from .portlock import find_holder

PROBES = ("collector-axpert", "collector-bms", "collector-meter", "collector-pl80")
"""Collectors of serial devices, in the order in which they are asked."""

PROBE_S = 60.0
FACTS = ("protocol", "manufacturer", "model", "serial", "firmware", "address")


@dataclass(frozen=True, slots=True)
class Port:
    """One port.

    Attributes:
        device: the resolved path, ``/dev/ttyUSB0``: another adapter may have it tomorrow.
        names: names that stay, ``by-id`` before ``by-path``.
        holder: the process that has it; None = free.
        configured: names of the devices that ``site.toml`` puts there.
        found: what a probe found; empty = not asked or nothing.
    """

    device: str
    names: tuple[str, ...] = ()
    holder: str | None = None
    configured: tuple[str, ...] = ()
    found: dict[str, str] = field(default_factory=dict)

    @property
    def best_name(self) -> str:
        """What belongs into ``site.toml``."""
        return self.names[0] if self.names else self.device


def find(dev: Path = Path("/dev"), site: Site | None = None) -> list[Port]:
    """The serial and USB-HID ports of this machine, and those that ``site`` names.

    Args:
        dev: where devices live.
        site: the configuration, if there is one.
    """
    names: dict[str, list[str]] = {}
    for pattern in ("serial/by-id/*", "serial/by-path/*"):
        for name in sorted(dev.glob(pattern)):
            names.setdefault(os.path.realpath(name), []).append(str(name))
    for pattern in ("ttyUSB*", "ttyACM*", "hidraw*"):
        for name in sorted(dev.glob(pattern)):
            names.setdefault(os.path.realpath(name), [])
    configured: dict[str, list[str]] = {}
    for device, table in (site.devices if site else {}).items():
        port = table.get("port")
        if isinstance(port, str) and "://" not in port:
            resolved = os.path.realpath(port)
            configured.setdefault(resolved, []).append(device)
            if Path(port).exists() and port not in names.setdefault(resolved, []):
                names[resolved].append(port)
    return [
        Port(
            device,
            tuple(name for name in stable if name != device),
            find_holder(device),
            tuple(configured.get(device, ())),
        )
        for device, stable in names.items()
    ]


def probe(
    port: Port, tell: Callable[[str], None], collectors: Iterable[str] = PROBES
) -> dict[str, str]:
    """Ask each collector in turn what is on ``port``, which must be free; nothing is changed.

    Returns:
        What the first one found that recognised its device; empty when none did.
    """
    for collector in collectors:
        program = Path(sys.executable).parent / collector
        if not program.exists():
            continue
        tell(f"{port.best_name}: {collector} asks")
        try:
            done = subprocess.run(
                [program, "--log-level", "warning", "probe", "--port", port.device],
                capture_output=True,
                text=True,
                check=False,
                timeout=PROBE_S,
            )
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            return {"collector": collector} | _facts(done.stdout)
    return {}


def _facts(output: str) -> dict[str, str]:
    """The facts in a probe's JSON that tell one device from another."""
    try:
        answer = json.loads(output)
    except ValueError:
        return {"found": output.strip().splitlines()[0] if output.strip() else ""}
    first = answer[0] if isinstance(answer, list) and answer else answer
    if not isinstance(first, dict):
        return {}
    return {name: str(first[name]) for name in FACTS if first.get(name) is not None}
