"""The part of ``site.toml`` that is the relay's: ``[devices.NAME]`` with ``family = "relay"``."""

from pathlib import Path
from typing import Literal

import msgspec
from sunmesh.config import Site
from sunmesh.errors import ConfigError

from .position import Limits

FAMILY = "relay"
BackEnd = Literal["gpiod", "file", "none"]


class OutputTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[devices.NAME.output]``: how the coil gets its power.

    Attributes:
        by: ``gpiod``, ``file``, or ``none``: nothing is switched.
        chip: label of the GPIO chip, or its device; empty = a Raspberry Pi's pin header.
        line: of the grid's contactor.
        power_is: the level that puts power on the coil; most opto-relay boards want ``low``.
        contact: of the grid's contactor. ``normally_closed``: without power the house is on the
            grid, which is the safe state without any software.
        path: of the file, with ``by = "file"``; seen from the folder of ``site.toml``.
        second_line, second_path: of a second contactor, normally open, that closes only while the
            grid's is open.
        dead_time_s: between letting one contactor go and pulling the other [s].
    """

    by: BackEnd = "gpiod"
    chip: str = ""
    line: int = 26
    power_is: Literal["high", "low"] = "high"
    contact: Literal["normally_closed", "normally_open"] = "normally_closed"
    path: str = ""
    second_line: int | None = None
    second_path: str = ""
    dead_time_s: float = 1.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.by == "file" and not self.path:
            raise ValueError('path must name a file with by = "file"')
        if self.line < 0 or (self.second_line is not None and self.second_line < 0):
            raise ValueError("line must be 0 or more")
        if self.second_line == self.line or (self.path and self.second_path == self.path):
            raise ValueError("second_line must be another one than line")
        if not 0.1 <= self.dead_time_s <= 10:
            raise ValueError(f"dead_time_s must be 0.1 to 10, got {self.dead_time_s:g}")

    @property
    def has_second(self) -> bool:
        """Whether there is a second contactor."""
        return bool(self.second_path) if self.by == "file" else self.second_line is not None


class FeedbackTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[devices.NAME.feedback]``: the auxiliary contact of the grid's contactor.

    Attributes:
        by: ``gpiod``, ``file``, or ``none``: not wired.
        chip: as for the output.
        line: of the contact.
        connected_is: the level that it has while the grid is connected.
        bias: of the input: ``as_is``, ``pull_up``, ``pull_down`` or ``disabled``.
        path: of the file, with ``by = "file"``.
        after_s: a contact that disagrees for longer is a fault [s].
    """

    by: BackEnd = "none"
    chip: str = ""
    line: int = 20
    connected_is: Literal["high", "low"] = "low"
    bias: Literal["as_is", "pull_up", "pull_down", "disabled"] = "pull_up"
    path: str = ""
    after_s: float = 2.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.by == "file" and not self.path:
            raise ValueError('path must name a file with by = "file"')
        if self.line < 0:
            raise ValueError("line must be 0 or more")
        if not 0.5 <= self.after_s <= 60:
            raise ValueError(f"after_s must be 0.5 to 60, got {self.after_s:g}")


class WindowTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[devices.NAME.window]``: how the grid must be before it is connected on request.

    It delays such a connection and nothing else: never the fall back to the safe state. What really
    protects the house from a bad grid are the voltage and frequency relays in its hardware.

    Attributes:
        device: whose ``grid_voltage_v`` and ``grid_frequency_hz`` count, measured before the
            relay; empty = no such wait.
        voltage_v, frequency_hz: from, to.
        good_s: for how long without a break [s].
        wait_s: the longest wait; then it is connected all the same [s].
    """

    device: str = ""
    voltage_v: tuple[float, float] = (207.0, 253.0)
    frequency_hz: tuple[float, float] = (49.0, 51.0)
    good_s: float = 10.0
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        for name in ("voltage_v", "frequency_hz"):
            low, high = getattr(self, name)
            if not 0 < low < high:
                raise ValueError(f"{name} must be two numbers that rise, got {low:g}, {high:g}")
        if self.good_s <= 0:
            raise ValueError(f"good_s must be above 0, got {self.good_s:g}")
        if not self.good_s <= self.wait_s <= 600:
            raise ValueError(f"wait_s must be good_s to 600, got {self.wait_s:g}")


class SupplyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[devices.NAME.supply]``: proof that the grid is there once it is connected.

    Attributes:
        device: whose ``grid_voltage_v`` counts, measured behind the relay, as the inverter does;
            empty = nobody measures it.
        voltage_v: from where on that is a voltage [V].
        within_s: a grid that takes longer is a critical alarm [s].
    """

    device: str = ""
    voltage_v: float = 150.0
    within_s: float = 180.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.voltage_v <= 0:
            raise ValueError(f"voltage_v must be above 0, got {self.voltage_v:g}")
        if self.within_s < 10:
            raise ValueError(f"within_s must be 10 or more, got {self.within_s:g}")


class RelayDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The relay.

    Attributes:
        max_lease_s: the longest lease [s].
        max_manual_s: the longest manual override [s].
        min_connected_s: how long it stays connected before it may be opened again [s].
        max_switches_per_day: openings and closings in 24 hours; 2 or more.
        poll_interval_s: how often it speaks while nothing changes [s].
        watchdog: a device or a file that is fed while all is well; empty = only systemd, if that
            started the service.
        state_dir: folder for what a restart must know; seen from the folder of ``site.toml``.
    """

    output: OutputTable = OutputTable()
    feedback: FeedbackTable = FeedbackTable()
    window: WindowTable = WindowTable()
    supply: SupplyTable = SupplyTable()
    max_lease_s: float = 600.0
    max_manual_s: float = 86_400.0
    min_connected_s: float = 300.0
    max_switches_per_day: int = 20
    poll_interval_s: float = 5.0
    watchdog: str = ""
    state_dir: str = "state"

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not 1 <= self.max_lease_s <= 3600:
            raise ValueError(f"max_lease_s must be 1 to 3600, got {self.max_lease_s:g}")
        if not 1 <= self.max_manual_s <= 7 * 86_400:
            raise ValueError(f"max_manual_s must be 1 to 604800, got {self.max_manual_s:g}")
        if self.min_connected_s < 0:
            raise ValueError(f"min_connected_s must be 0 or more, got {self.min_connected_s:g}")
        if self.max_switches_per_day < 2:
            raise ValueError(
                f"max_switches_per_day must be 2 or more, got {self.max_switches_per_day}"
            )
        if self.poll_interval_s < 1:
            raise ValueError(f"poll_interval_s must be 1 or more, got {self.poll_interval_s:g}")
        if not self.state_dir:
            raise ValueError("state_dir must name a folder")
        if self.output.has_second and self.feedback.after_s <= self.output.dead_time_s:
            raise ValueError("feedback must have after_s above the dead_time_s of the output")

    @property
    def limits(self) -> Limits:
        """The same, as the pure part wants it."""
        return Limits(
            max_lease_s=self.max_lease_s,
            max_manual_s=self.max_manual_s,
            min_connected_s=self.min_connected_s,
            max_switches_per_day=self.max_switches_per_day,
            has_feedback=self.feedback.by != "none",
            feedback_s=self.feedback.after_s,
            window_voltage_v=self.window.voltage_v,
            window_frequency_hz=self.window.frequency_hz,
            window_s=self.window.good_s if self.window.device else 0.0,
            window_wait_s=self.window.wait_s,
            has_supply=bool(self.supply.device),
            supply_v=self.supply.voltage_v,
            supply_s=self.supply.within_s,
        )


def relay_of(site: Site) -> tuple[str, RelayDevice]:
    """The site's relay, by its name; its paths are absolute.

    Raises:
        ConfigError: none, several, or a wrong setting.
    """
    relays = site.devices_of(FAMILY, RelayDevice)
    if len(relays) != 1:
        raise ConfigError(
            f"{site.path}: {len(relays) or 'no'} relays; "
            f'write one table [devices.grid-relay] with family = "{FAMILY}"'
        )
    ((name, device),) = relays.items()
    for table in ("window", "supply"):
        source = getattr(device, table).device
        if source and source not in site.devices:
            raise ConfigError(f"{site.path}: devices.{name}.{table}.device: no device is {source}")
    folder = site.path.parent.resolve()

    def seen(path: str) -> str:
        return str(folder / path) if path else ""

    replace = msgspec.structs.replace
    output, feedback = device.output, device.feedback
    return name, replace(
        device,
        output=replace(output, path=seen(output.path), second_path=seen(output.second_path)),
        feedback=replace(feedback, path=seen(feedback.path)),
        watchdog=seen(device.watchdog),
        state_dir=seen(device.state_dir),
    )


def state_file(name: str, device: RelayDevice) -> Path:
    """Where the relay's memory is."""
    return Path(device.state_dir) / f"{name}.json"
