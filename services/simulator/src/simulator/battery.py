"""A LiFePO4 pack, cell by cell: open-circuit voltage, resistance, spread, energy.

The curve is a table of the usual shape of a LiFePO4 cell at rest (flat between 20 and 90 %, knees
at both ends), read off published curves of 280 Ah prismatic cells and rounded; it is a model, not a
measurement. The resistance holds ohmic part, polarisation and connections together, so that the
cells sum to the pack's voltage and every watt is accounted for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .noise import uniform

CURVE = (
    (-0.02, 2.00),
    (0.00, 2.55),
    (0.01, 2.80),
    (0.03, 3.00),
    (0.06, 3.12),
    (0.10, 3.20),
    (0.20, 3.25),
    (0.30, 3.285),
    (0.40, 3.296),
    (0.55, 3.302),
    (0.65, 3.315),
    (0.70, 3.329),
    (0.90, 3.338),
    (0.95, 3.350),
    (0.98, 3.390),
    (0.99, 3.430),
    (1.00, 3.500),
    (1.01, 3.620),
    (1.02, 3.900),
)
"""State of charge (1 = full) and open-circuit voltage [V] of one cell."""

_PER_UNIT = 1000
_LOW = -20  # first table place, in thousandths
_LAST = len(range(-20, 1020)) - 1
CELL_TOP_V = 3.65
"""The battery management lets no cell go above this [V]."""
CELL_FLOOR_V = 2.50
"""The battery management draws no cell below this [V]."""
EMPTY_V = 2.80
"""Open voltage of the lowest cell at which it switches the discharge off [V]."""
USABLE_V = 3.05
"""Open voltage of the lowest cell at which it lets the discharge on again [V]."""
BALANCE_ABOVE_V = 3.40
BALANCE_SPREAD_V = 0.008
BALANCE_A = 0.05


def _table() -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Voltage, its step to the next place, and energy from the low end [V x charge], per 0.1 %."""
    volts: list[float] = []
    for place in range(_LOW, _LOW + _LAST + 2):
        soc = place / _PER_UNIT
        for (s0, v0), (s1, v1) in pairwise(CURVE):
            if soc <= s1 + 1e-12:
                volts.append(v0 + (v1 - v0) * (soc - s0) / (s1 - s0))
                break
    steps = tuple(b - a for a, b in pairwise(volts))
    energy = [0.0]
    for a, b in pairwise(volts):
        energy.append(energy[-1] + (a + b) / 2.0 / _PER_UNIT)
    return (tuple(volts), steps, tuple(energy))


_VOLTS, _STEPS, _ENERGY = _table()


def open_voltage(soc: float) -> float:
    """Voltage of a resting cell at ``soc`` (1 = full) [V]."""
    place = soc * _PER_UNIT - _LOW
    index = min(max(int(place), 0), _LAST)
    return _VOLTS[index] + (place - index) * _STEPS[index]


def energy_at(soc: float) -> float:
    """Integral of the curve from its low end to ``soc``: energy [Wh] per Ah of capacity."""
    place = soc * _PER_UNIT - _LOW
    index = min(max(int(place), 0), _LAST)
    rest = place - index
    return _ENERGY[index] + (_VOLTS[index] + rest * _STEPS[index] / 2.0) * rest / _PER_UNIT


@dataclass(frozen=True, slots=True)
class Cells:
    """How a pack is built: capacity [Ah] and resistance [ohm] of each cell, in series."""

    capacity_ah: tuple[float, ...]
    resistance_ohm: tuple[float, ...]


def build(seed: int, cells: int, capacity_ah: float, weak_cell: int) -> Cells:
    """Cells with the spread of one delivery; ``weak_cell`` (1 = first, 0 = none) is worn."""
    capacity = [capacity_ah * (0.995 + 0.012 * uniform(seed, 401, i)) for i in range(cells)]
    resistance = [0.00075 * (0.9 + 0.25 * uniform(seed, 402, i)) for i in range(cells)]
    if 0 < weak_cell <= cells:
        capacity[weak_cell - 1] *= 0.955
        resistance[weak_cell - 1] *= 1.35
    return Cells(tuple(capacity), tuple(resistance))


class Pack:
    """The pack's charge, moved forward by :meth:`step`.

    Attributes:
        cells: how it is built.
        charge_ah: what each cell holds [Ah].
    """

    def __init__(self, cells: Cells, soc: float) -> None:
        """Every cell is as far from full as the pack (balanced at the top)."""
        self.cells = cells
        mean = sum(cells.capacity_ah) / len(cells.capacity_ah)
        self._capacity_ah = sum(cells.capacity_ah)
        self.charge_ah = [c - (1.0 - soc) * mean for c in cells.capacity_ah]
        self._resistance = list(cells.resistance_ohm)
        self._weak: int | None = None
        self._refresh()

    def restore(self, charge_ah: Sequence[float]) -> None:
        """Put a saved charge back.

        Raises:
            ValueError: not as many cells as the pack has.
        """
        if len(charge_ah) != len(self.charge_ah):
            raise ValueError(f"charge for {len(charge_ah)} cells, not {len(self.charge_ah)}")
        self.charge_ah = [float(ah) for ah in charge_ah]
        self._refresh()

    def weaken(self, cell: int | None) -> None:
        """Give ``cell`` (0 = first) four times its resistance, or none: a loose busbar."""
        if cell != self._weak:
            self._resistance = list(self.cells.resistance_ohm)
            if cell is not None and cell < len(self._resistance):
                self._resistance[cell] *= 4.0
            self._weak = cell
            self._total_ohm = sum(self._resistance)

    def _refresh(self) -> None:
        """Open voltages, their slopes and the energies of the cells, from their charge."""
        self._total_ohm = sum(self._resistance)
        volts, slopes, energy = [], [], []
        for charge, capacity in zip(self.charge_ah, self.cells.capacity_ah, strict=True):
            place = charge / capacity * _PER_UNIT - _LOW
            index = int(place)
            if index < 0:
                index = 0
            elif index > _LAST:
                index = _LAST
            step = _STEPS[index]
            volt = _VOLTS[index]
            rest = place - index
            volts.append(volt + rest * step)
            slopes.append(step * _PER_UNIT / capacity)
            energy.append(
                capacity * (_ENERGY[index] + (volt + rest * step / 2.0) * rest / _PER_UNIT)
            )
        self._volts = volts
        self._slopes = slopes  # of each cell's open voltage [V/Ah]
        self._energy = energy
        self._slope = sum(slopes)
        self._open_v = sum(volts)

    @property
    def soc_percent(self) -> float:
        """Charge held against capacity, 0 to 100 %."""
        return min(100.0, max(0.0, 100.0 * sum(self.charge_ah) / self._capacity_ah))

    @property
    def remaining_ah(self) -> float:
        """Charge that a BMS would show: of the mean cell [Ah]."""
        return max(0.0, sum(self.charge_ah) / len(self.charge_ah))

    @property
    def open_v(self) -> float:
        """Voltage of the pack without current [V]."""
        return self._open_v

    @property
    def lowest_v(self) -> float:
        """Open voltage of the lowest cell [V]."""
        return min(self._volts)

    @property
    def stored_wh(self) -> float:
        """Energy in the cells above the low end of their curves [Wh]."""
        return sum(self._energy)

    def current_for(self, power_w: float, dt: float) -> float:
        """The current [A] that gives ``power_w`` (+ = discharging) over the next ``dt`` seconds."""
        ohm = self._total_ohm + self._slope * dt / 7200.0
        under = self._open_v * self._open_v - 4.0 * ohm * power_w
        if under <= 0.0:
            return self._open_v / (2.0 * ohm)  # more than the pack can give: its maximum
        return 2.0 * power_w / (self._open_v + math.sqrt(under))

    def charge_limit_a(self, target_v: float, dt: float) -> float:
        """The charge current [A] after which neither pack nor any cell is above its voltage.

        The voltages at the end of the step are looked at, so that long steps do not overshoot.
        """
        hours = dt / 3600.0
        stiff = 0.0
        least = 1e9
        volts = self._volts
        for i, capacity in enumerate(self.cells.capacity_ah):
            v = volts[i]
            ohm = self._resistance[i]
            if v > 3.33:  # towards the knee the curve gets steeper within the step
                ahead = 0.004 + 50.0 * hours / capacity
                place = (self.charge_ah[i] / capacity + ahead) * _PER_UNIT - _LOW
                index = min(max(int(place), 0), _LAST)
                ohm += max(_STEPS[index] * _PER_UNIT / capacity, self._slopes[i]) * hours
                least = min(least, (CELL_TOP_V - v) / ohm)
            else:
                ohm += self._slopes[i] * hours
            stiff += ohm
        return max(0.0, min(least, (target_v - self._open_v) / stiff))

    def discharge_limit_a(self, dt: float) -> float:
        """The discharge current [A] after which no cell is below its floor."""
        hours = dt / 3600.0
        least = 1e9
        for i, v in enumerate(self._volts):
            if v < 3.2:  # neither below the floor under load nor emptied within the step
                least = min(
                    least,
                    (v - CELL_FLOOR_V) / self._resistance[i],
                    self.charge_ah[i] / hours,
                )
        return max(0.0, least)

    def drain_limit_a(self, target_v: float, dt: float) -> float:
        """The discharge current [A] that brings the pack down to ``target_v``, not below."""
        stiff = self._total_ohm + self._slope * dt / 3600.0
        return max(0.0, (self._open_v - target_v) / stiff)

    def step(self, current_a: float, dt: float) -> "Flow":
        """Let ``current_a`` (+ = discharging) flow for ``dt`` seconds."""
        hours = dt / 3600.0
        before = self._volts
        top = max(before)
        balancing: tuple[int, ...] = ()
        if top > BALANCE_ABOVE_V:
            floor = max(BALANCE_ABOVE_V, min(before) + BALANCE_SPREAD_V)
            balancing = tuple(i for i, v in enumerate(before) if v > floor)
        charge_before, energy_before = self.charge_ah, self._energy
        moved = current_a * hours
        self.charge_ah = [charge - moved for charge in charge_before]
        for i in balancing:
            self.charge_ah[i] -= BALANCE_A * hours
        self._refresh()
        # The mean open voltage over the step is the energy that moved by the charge that moved.
        mean = [
            (e0 - e1) / (q0 - q1) if abs(q0 - q1) > 1e-7 else v
            for v, e0, e1, q0, q1 in zip(
                before, energy_before, self._energy, charge_before, self.charge_ah, strict=True
            )
        ]
        bled = sum(mean[i] for i in balancing) * BALANCE_A
        volts = tuple([v - current_a * ohm for v, ohm in zip(mean, self._resistance, strict=True)])
        terminal = sum(volts)
        heat = current_a * current_a * self._total_ohm + bled
        return Flow(current_a, terminal, terminal * current_a, heat, volts, balancing)


@dataclass(frozen=True, slots=True)
class Flow:
    """What a step of the pack was: means over the step.

    Attributes:
        current_a: + = discharging.
        voltage_v: at the terminals; the sum of the cells.
        power_w: at the terminals, + = discharging.
        loss_w: turned into heat inside.
        cell_v: voltage of each cell.
        balancing: cells that are bled, 0 = first.
    """

    current_a: float
    voltage_v: float
    power_w: float
    loss_w: float
    cell_v: tuple[float, ...]
    balancing: tuple[int, ...]
