"""The contactors: what is wanted of them goes out, what became of it is read back."""

import logging
import threading
import time
from collections.abc import Callable

from sunmesh.errors import TransportError

from .config import RelayDevice
from .interlock import Coils, Interlock
from .output import Input, Output, open_feedback, open_output
from .position import CONNECTED, Position

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Between two attempts to get an output that cannot be had."""


class Actuator:
    """Drives the coils of one relay, and notices when that fails.

    Args:
        device: its settings.
        was_open: the grid may have been open until now.
        monotonic: a clock that no one sets.
    """

    def __init__(
        self,
        device: RelayDevice,
        *,
        was_open: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before :meth:`open`."""
        self.problem = "not opened yet"
        self.corrections = 0
        self._device = device
        self._monotonic = monotonic
        self._grid: Output | None = None
        self._other: Output | None = None
        self._feedback: Input | None = None
        self._was_open = was_open
        self._interlock = self._new_interlock()
        self._retry_at = 0.0
        self._feedback_at = 0.0

    def open(self) -> None:
        """Get the outputs, in their safe position from the first moment on.

        Where they cannot be had, :attr:`problem` says why, and :meth:`drive` tries again.
        """
        self._interlock = self._new_interlock()
        coils = self._interlock.coils
        table = self._device.output
        self._close()
        try:
            if table.has_second:
                self._other = open_output(table, coils.other, second=True)
            self._grid = open_output(table, coils.grid)
        except TransportError as err:
            self._fail(str(err))
            return
        if self.problem:
            log.info("the output %s is there", table.by)
        self.problem = ""

    def drive(self, position: Position) -> None:
        """One step towards ``position``, read back; a failure is in :attr:`problem`."""
        now = self._monotonic()
        if self._grid is None:
            if now < self._retry_at:
                return
            self.open()
            if self._grid is None:
                return
        coils = self._interlock.step(now, position)
        try:
            self._put(coils)
        except TransportError as err:
            self._was_open = True  # whatever it is now, nobody knows it
            self._fail(str(err))

    def is_at(self, position: Position) -> bool:
        """Whether every coil is driven as ``position`` wants it."""
        return not self.problem and self._interlock.is_at(position)

    def contact(self) -> bool | None:
        """What the auxiliary contact says: whether the grid is connected; None = unreadable."""
        now = self._monotonic()
        try:
            if self._feedback is None and now >= self._feedback_at:
                self._feedback_at = now + RETRY_S
                self._feedback = open_feedback(self._device.feedback)
            return self._feedback.read() if self._feedback is not None else None
        except TransportError as err:
            log.debug("%s", err)
            return None

    def settle(self, position: Position) -> None:
        """Go to ``position`` and wait until it is reached, for the dead time at most."""
        pause = threading.Event()
        until = self._monotonic() + self._device.output.dead_time_s + 0.2
        self.drive(position)
        while not self.problem and not self.is_at(position) and self._monotonic() < until:
            pause.wait(0.02)
            self.drive(position)

    def _put(self, coils: Coils) -> None:
        """What loses power goes first."""
        wanted = [(self._grid, coils.grid), (self._other, coils.other)]
        for output, active in sorted(wanted, key=lambda pair: pair[1]):
            if output is None or output.read() == active:
                continue
            output.drive(active)
            if output.read() != active:
                raise TransportError(f"the output is {not active} where {active} was driven")

    def _new_interlock(self) -> Interlock:
        table = self._device.output
        return Interlock(
            opens_with_power=table.contact == "normally_closed",
            has_other=table.has_second,
            dead_time_s=table.dead_time_s,
            now=self._monotonic(),
            was_open=self._was_open,
        )

    def _fail(self, reason: str) -> None:
        if not self.problem or self.problem != reason:
            log.error("the relay cannot be switched: %s", reason)
        self.problem = reason
        self._retry_at = self._monotonic() + RETRY_S
        self._close()

    def _close(self) -> None:
        for output in (self._grid, self._other):
            if output is not None:
                output.close()
        self._grid = self._other = None


def make_safe(device: RelayDevice) -> str:
    """Drive the outputs to ``grid_connected``, once; returns why that failed, else nothing.

    For ``ExecStopPost=``: whoever held the line is dead, and nobody knows what it left behind.
    """
    actuator = Actuator(device, was_open=True)
    actuator.open()
    if not actuator.problem:
        actuator.settle(CONNECTED)
    if actuator.problem:
        return actuator.problem
    return "" if actuator.is_at(CONNECTED) else "the output did not follow"
