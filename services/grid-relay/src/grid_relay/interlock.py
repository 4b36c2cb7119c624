"""Which coils a position takes. Pure: a position and a moment in, coils out.

With a second contactor (the other source of a transfer switch) one is let go before the other is
pulled, with a pause between: break before make. The guard that counts is the mechanical and
electrical interlock of the contactors; a program is none.
"""

from dataclasses import dataclass

from .position import CONNECTED, Position


@dataclass(frozen=True, slots=True)
class Coils:
    """Which coils have power."""

    grid: bool
    other: bool = False


class Interlock:
    """Steps from where the contactors are to where they shall be.

    Args:
        opens_with_power: the grid's contactor is normally closed: power on its coil opens it.
        has_other: there is a second contactor, normally open, which must close only while the
            grid's is open.
        dead_time_s: between letting one go and pulling the other [s].
        now: the moment of the start.
        was_open: the grid was, or may have been, open until now.
    """

    def __init__(
        self,
        *,
        opens_with_power: bool,
        has_other: bool,
        dead_time_s: float,
        now: float,
        was_open: bool,
    ) -> None:
        self._opens_with_power = opens_with_power
        self._has_other = has_other
        self._dead_time_s = dead_time_s
        self._grid = not (was_open and has_other)
        self._other = False
        self._broken_at = now

    def step(self, now: float, position: Position) -> Coils:
        """The coils at ``now`` on the way to ``position``."""
        connects = position == CONNECTED
        if not self._has_other:
            self._grid = connects
        elif connects:
            if self._other:
                self._other, self._broken_at = False, now
            self._grid = self._grid or now - self._broken_at >= self._dead_time_s
        else:
            if self._grid:
                self._grid, self._broken_at = False, now
            self._other = self._other or now - self._broken_at >= self._dead_time_s
        return self.coils

    @property
    def coils(self) -> Coils:
        """The coils as they are."""
        return Coils(self._grid != self._opens_with_power, self._other)

    def is_at(self, position: Position) -> bool:
        """Whether every contactor is where ``position`` wants it."""
        if position == CONNECTED:
            return self._grid and not self._other
        return not self._grid and self._other == self._has_other
