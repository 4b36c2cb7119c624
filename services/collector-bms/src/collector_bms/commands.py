"""What may be switched: from a wish by vocabulary name to the bytes of one command. Pure.

A table, and the only way to a write; nothing calls it unless the configuration allows the name. The
board's answer proves nothing: success is what 0x93 (registers 0x52, 0x53) says afterwards, for
``01 = on`` was sniffed by five projects while the maker's page says the opposite, and flags that do
not follow were seen. ``docs/protocols/bms.md``, section 7.

What is not here is never sent: 0x10 to 0x20 and the registers from 0x100 on change protection
limits, 0x21 sets state of charge and clock together, 0x00 restarts.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sunmesh.commands.rules import text
from sunmesh.errors import RefusedError
from sunmesh.messages import Range, Value

from . import a5, registers


@dataclass(frozen=True, slots=True)
class Switch:
    """One MOSFET.

    Attributes:
        name: as it is read back.
        command: of A5.
        register: of 0x81.
        danger: what happens when it opens.
        risk: of switching it.
    """

    name: str
    command: int
    register: int
    danger: str
    risk: Literal["high", "danger"]


SWITCHES = (
    Switch("charge_mosfet_on", 0xDA, 0x121, "nothing charges the battery", "high"),
    Switch(
        "discharge_mosfet_on",
        0xD9,
        0x122,
        "everything behind the battery loses its power, perhaps this machine, too",
        "danger",
    ),
)


def ranges(allowed: Collection[str]) -> dict[str, Range]:
    """The switches of ``allowed``; opening the way out needs a confirmation."""
    return {
        switch.name: Range(choices=[True, False], risk=switch.risk)
        for switch in SWITCHES
        if switch.name in allowed
    }


def why_not(name: str) -> str:
    """Why :func:`ranges` lacks ``name``."""
    for switch in SWITCHES:
        if switch.name == name:
            return f"{name} must stand in allow of the configuration; switched off, {switch.danger}"
    return f"{text(name)} cannot be set"


def build(
    name: str, value: Value, *, protocol: str, address: int, host: int, allowed: Collection[str]
) -> bytes:
    """The request that switches ``name``.

    Args:
        name: of the switch.
        value: true or false.
        protocol: ``a5`` or ``0x81``.
        address: of the board.
        host: our address in A5.
        allowed: names that the owner's configuration lists; none by default.

    Raises:
        RefusedError: with the reason; nothing may be sent.
    """
    switch = next((switch for switch in SWITCHES if switch.name == name), None)
    if switch is None:
        raise RefusedError(f"{name} cannot be set")
    if name not in allowed:
        raise RefusedError(
            f"{name} is not allowed by the configuration; switched off, {switch.danger}"
        )
    if not isinstance(value, bool):
        raise RefusedError(f"{name} is true or false, not {value!r}")
    if protocol == "0x81":
        return registers.register_request(address, registers.WRITE, switch.register, int(value))
    return a5.frame(host, switch.command, bytes((value,)))
