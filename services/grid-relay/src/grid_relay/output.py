"""The lines in and out: GPIO by libgpiod, a file, or none. The only file that touches hardware.

An output is three calls, so that a further kind of board costs a class of its own and nothing else:
``drive`` puts power on a coil or takes it away, ``read`` tells what is driven now, ``close`` gives
the line back. An input has ``read`` and ``close``.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

from sunmesh.errors import TransportError

from .config import FeedbackTable, OutputTable

CONSUMER = "sunmesh grid-relay"
"""What ``gpioinfo`` shows beside a line that we hold."""

HEADER_CHIPS = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835")
"""Labels of the chip behind a Raspberry Pi's pin header: 5, 4, and older. Numbers of chips moved
from kernel to kernel; labels did not."""

DEVICES = Path("/dev")
MODULES = Path("/sys/module")


class Input(Protocol):
    """A contact."""

    def read(self) -> bool:
        """Whether it is active.

        Raises:
            TransportError: it cannot be read.
        """
        ...

    def close(self) -> None:
        """Give the line back; never raises."""
        ...


class Output(Input, Protocol):
    """A coil. ``read`` tells whether it is driven."""

    def drive(self, active: bool) -> None:
        """Put power on the coil, or take it away.

        Raises:
            TransportError: it cannot be driven.
        """
        ...


class NoOutput:
    """Nothing is wired: positions are decided and published, and nothing is switched."""

    def __init__(self, active: bool) -> None:
        self._active = active

    def drive(self, active: bool) -> None:
        """Remember it."""
        self._active = active

    def read(self) -> bool:
        """What was asked for last."""
        return self._active

    def close(self) -> None:
        """Nothing to give back."""


class FileInput:
    """A file that holds ``1`` or ``0``, of somebody else."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bool:
        """See :class:`Input`."""
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as err:
            raise TransportError(f"{self._path} cannot be read: {err}") from err
        if text not in ("0", "1"):
            raise TransportError(f"{self._path} holds {text!r:.20}, neither 0 nor 1")
        return text == "1"

    def close(self) -> None:
        """See :class:`Input`."""


class FileOutput(FileInput):
    """A file that holds ``1`` while the coil has power and ``0`` while it has none.

    Replaced whole, so that a reader never sees half of it. For tests, the demo, and for programs
    that drive a board which Linux does not know as GPIO.
    """

    def __init__(self, path: Path, active: bool) -> None:
        super().__init__(path)
        self.drive(active)

    def drive(self, active: bool) -> None:
        """See :class:`Output`."""
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text("1\n" if active else "0\n", encoding="ascii")
            new.replace(self._path)
        except OSError as err:
            raise TransportError(f"{self._path} cannot be written: {err.strerror}") from err


class Line:
    """One GPIO line, held until :meth:`close` or the end of the process.

    The kernel gives a line to one program at a time: while another one has it, this fails.

    Args:
        chip: its label, or its device such as ``/dev/gpiochip0``; empty = the pin header's of a
            Raspberry Pi.
        line: number on that chip; on a Raspberry Pi the GPIO number.
        active_low: active is the low level.
        output: drive it, and what it is driven to by the very request that makes it an output, so
            that nothing clicks; None = an input.
        bias: of an input: ``as_is``, ``pull_up``, ``pull_down`` or ``disabled``.
    """

    def __init__(
        self,
        chip: str,
        line: int,
        *,
        active_low: bool,
        output: bool | None = None,
        bias: str = "as_is",
    ) -> None:
        gpiod = _gpiod()
        level = gpiod.line.Value
        self._number = line
        self._levels = {True: level.ACTIVE, False: level.INACTIVE}
        path = find_chip(chip)
        settings = gpiod.LineSettings(
            direction=gpiod.line.Direction.INPUT if output is None else gpiod.line.Direction.OUTPUT,
            bias=gpiod.line.Bias[bias.upper()],
            active_low=active_low,
            output_value=self._levels[bool(output)],
        )
        with _told(f"line {line} of {path}"):
            self._request = gpiod.request_lines(
                str(path), consumer=CONSUMER, config={line: settings}
            )

    def drive(self, active: bool) -> None:
        """See :class:`Output`."""
        with _told(f"line {self._number}"):
            self._request.set_value(self._number, self._levels[active])

    def read(self) -> bool:
        """See :class:`Input`."""
        with _told(f"line {self._number}"):
            return bool(self._request.get_value(self._number))

    def close(self) -> None:
        """See :class:`Input`."""
        with contextlib.suppress(OSError):
            self._request.release()


def find_chip(name: str) -> Path:
    """The device of the chip with that label, or of a Raspberry Pi's header.

    Raises:
        TransportError: there is none.
    """
    gpiod = _gpiod()
    if name.startswith("/"):
        return Path(name)
    wanted = (name,) if name else HEADER_CHIPS
    found: dict[Path, str] = {}
    refused = ""
    # one chip can have two names
    for path in sorted({path.resolve() for path in DEVICES.glob("gpiochip*")}):
        try:
            if gpiod.is_gpiochip_device(str(path)):
                with gpiod.Chip(str(path)) as chip:
                    found[path] = chip.get_info().label
        except OSError as err:
            refused = f" ({path}: {err.strerror})"
    for path, label in found.items():
        if label in wanted:
            return path
    there = ", ".join(found.values()) or f"none{refused}"
    raise TransportError(f"no GPIO chip is called {' or '.join(wanted)}; there is {there}")


def outlives_process() -> bool | None:
    """Whether a line stays driven when the process that drove it dies; None = not known.

    Raspberry Pi OS leaves it at its last level: a relay whose service was killed stays as it is
    until somebody drives it again. ``dtparam=strict_gpiod`` gives the line back to its pull
    resistor instead, which is what a relay wants.
    """
    for path in sorted(MODULES.glob("*/parameters/persist_gpio_outputs")):
        with contextlib.suppress(OSError):
            return path.read_text(encoding="ascii").strip() in ("Y", "1")
    return None


def _gpiod() -> ModuleType:
    """The package, which a house without GPIO need not have.

    Raises:
        TransportError: it is not installed.
    """
    try:
        import gpiod
    except ImportError as err:
        raise TransportError(f"the package gpiod cannot be used here: {err}") from err
    return gpiod


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """What libgpiod raises, as our own error."""
    try:
        yield
    except (OSError, ValueError) as err:
        raise TransportError(f"{what}: {err}") from err


def open_output(table: OutputTable, active: bool, *, second: bool = False) -> Output:
    """The line of a contactor's coil, driven as it shall be from its first moment on.

    Raises:
        TransportError: it cannot be had.
    """
    if table.by == "none":
        return NoOutput(active)
    if table.by == "file":
        return FileOutput(Path(table.second_path if second else table.path), active)
    line = table.second_line if second else table.line
    return Line(table.chip, line or 0, active_low=table.power_is == "low", output=active)


def open_feedback(table: FeedbackTable) -> Input | None:
    """The auxiliary contact: active while the grid is connected; None where it is not wired.

    Raises:
        TransportError: it cannot be had.
    """
    if table.by == "file":
        return FileInput(Path(table.path))
    if table.by == "gpiod":
        return Line(table.chip, table.line, active_low=table.connected_is == "low", bias=table.bias)
    return None
