"""What must outlive a restart: names once given, the certificate once seen, the protocol.

No secret is in it: a fingerprint is public, and the password is never kept.
"""

import json
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

NAME_LENGTH = 32
TAIL = 5
"""Last characters of a serial number that make a name."""


@dataclass(slots=True)
class Known:
    """A device behind the gateway, as it was seen last."""

    name: str
    kind: str
    model: str | None = None
    firmware: str | None = None
    role: str | None = None


@dataclass(slots=True)
class Memory:
    """The state of one gateway; written only when something in it changes.

    Attributes:
        path: of the file; None keeps nothing.
        fingerprint: of the certificate that is trusted.
        protocol: that was spoken last.
        known: devices by serial number.
    """

    path: Path | None = None
    fingerprint: str | None = None
    protocol: str | None = None
    known: dict[str, Known] = field(default_factory=dict)
    _written: str = ""

    @classmethod
    def load(cls, path: Path | None) -> "Memory":
        """From its file; empty without one, or with one that cannot be read, which is said."""
        memory = cls(path)
        if path is None:
            return memory
        try:
            text = path.read_text(encoding="utf-8")
            state: dict[str, Any] = json.loads(text)
            memory.fingerprint = state["fingerprint"]
            memory.protocol = state["protocol"]
            memory.known = {serial: Known(**each) for serial, each in state["known"].items()}
            memory._written = text
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as err:
            log.warning("%s cannot be read and begins anew: %s", path, err)
            return cls(path)
        return memory

    def save(self) -> None:
        """Write it if it has changed; a full disk is said once a change and stops nothing."""
        if self.path is None:
            return
        state = {
            "fingerprint": self.fingerprint,
            "protocol": self.protocol,
            "known": {
                serial: {name: getattr(each, name) for name in Known.__slots__}
                for serial, each in self.known.items()
            },
        }
        text = json.dumps(state, indent=1) + "\n"
        if text == self._written:
            return
        self._written = text
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self.path)
        except OSError as err:
            log.warning("%s cannot be written, so a restart forgets: %s", self.path, err)


def name_of(serial: str, device: str, given: dict[str, str], taken: Collection[str]) -> str:
    """A name in the mesh: the owner's, else the gateway's and the end of the serial number.

    Args:
        serial: of the device behind the gateway.
        device: the gateway's name.
        given: names by serial number, from the configuration.
        taken: names that are somebody else's already.
    """
    if serial in given:
        return given[serial]
    letters = re.sub(r"[^a-z0-9-]", "", serial.lower().replace("#", "-")).strip("-") or "x"
    for length in range(TAIL, NAME_LENGTH - 1):
        tail = letters[-length:].strip("-")
        name = f"{device[: NAME_LENGTH - 1 - len(tail)]}-{tail}"
        if name not in taken:
            return name
        if length >= len(letters):
            letters = f"{letters}-2"
    raise ValueError(f"no name is left for {serial}")
