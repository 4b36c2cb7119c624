"""What an off-grid hybrid inverter does with its sources: priorities, limits, stages, losses.

Pure: :func:`decide` maps what is there now and the settings to what flows. What outlives a step
(stage of the charger, which source feeds the output) is in :class:`Memory`.

The rules are those of the Axpert manuals, in words:

* output source priority USB: the grid feeds the house while it is there. SUB: sun first, the grid
  adds what is missing, the battery waits for an outage. SBU: sun, then battery, and the grid from
  the moment the battery falls to the recharge voltage until it is back at the redischarge voltage.
* charger priority: whether the grid may charge, too.
* bulk at constant current, absorption at constant voltage until the current has faded, float.
  What the battery does not take and the house does not need stays on the roof (curtailment).
"""

from dataclasses import dataclass, replace
from typing import Literal

from .battery import EMPTY_V, USABLE_V, Pack

OutputPriority = Literal["USB", "SUB", "SBU"]
ChargerPriority = Literal["utility_first", "solar_first", "solar_and_utility", "solar_only"]
Stage = Literal["bulk", "absorb", "float"]

OUTPUT_PRIORITIES = ("USB", "SUB", "SBU")
CHARGER_PRIORITIES = ("utility_first", "solar_first", "solar_and_utility", "solar_only")

RATED_W = 8000.0
IDLE_W = 55.0
"""What the running inverter uses itself."""
STANDBY_W = 12.0
MPPT_EFFICIENCY = 0.985
CHARGER_EFFICIENCY = 0.93
SOME_SUN_W = 30.0
"""Below this the charger counts as without sun (solar_first)."""
TAIL_A = 6.0
"""Absorption ends when the current has faded to this."""
ABSORB_LIMIT_S = 2 * 3600.0
REBULK_V = 53.3
"""Out of float again: 3.33 V a cell."""
HOLD_S = 120.0
"""A voltage has to stay across its threshold this long before the source changes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that change what flows, by their vocabulary names [V, A]."""

    output_source_priority: str = "SBU"
    charger_source_priority: str = "solar_only"
    bulk_voltage_v: float = 56.4
    float_voltage_v: float = 54.4
    cut_off_voltage_v: float = 46.0
    recharge_voltage_v: float = 51.0
    redischarge_voltage_v: float = 53.0
    max_charge_current_a: float = 100.0
    max_ac_charge_current_a: float = 30.0

    def __post_init__(self) -> None:
        """Check ranges: those of a 48 V inverter.

        Raises:
            ValueError: with the setting's name.
        """
        if self.output_source_priority not in OUTPUT_PRIORITIES:
            raise ValueError(f"output_source_priority must be one of {OUTPUT_PRIORITIES}")
        if self.charger_source_priority not in CHARGER_PRIORITIES:
            raise ValueError(f"charger_source_priority must be one of {CHARGER_PRIORITIES}")
        for name, low, high in RANGES:
            value = getattr(self, name)
            if not (isinstance(value, int | float) and low <= value <= high):
                full = name == "redischarge_voltage_v" and value == 0
                if not full:  # 0 means "when full" there
                    raise ValueError(f"{name} must be {low} to {high}, got {value!r}")

    def with_changes(self, values: dict[str, object]) -> "Settings":
        """These settings with those of ``values`` that this model knows.

        Raises:
            ValueError: a value is out of range.
        """
        known = {k: v for k, v in values.items() if k in self.__slots__ and v is not None}
        return replace(self, **known)  # type: ignore[arg-type]


RANGES = (
    ("bulk_voltage_v", 48.0, 63.0),
    ("float_voltage_v", 48.0, 63.0),
    ("cut_off_voltage_v", 40.0, 48.0),
    ("recharge_voltage_v", 44.0, 51.0),
    ("redischarge_voltage_v", 48.0, 58.0),
    ("max_charge_current_a", 0.0, 200.0),
    ("max_ac_charge_current_a", 0.0, 200.0),
)


@dataclass(slots=True)
class Memory:
    """What the inverter remembers from step to step.

    Attributes:
        stage: of the charger.
        absorbed_s: how long absorption has lasted [s].
        on_line: the grid feeds the output.
        cut_off: the battery was too low and there was no grid: the output is off.
        empty: the battery management has switched the discharge off.
        held_s: how long the battery voltage has been across the threshold that counts [s].
    """

    stage: Stage = "bulk"
    absorbed_s: float = 0.0
    on_line: bool = False
    cut_off: bool = False
    held_s: float = 0.0
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What should flow, before the battery has its say [W, AC or panel side as named].

    Attributes:
        mode: line, battery or standby.
        load_w: what the output gives.
        pv_w: taken from the panels.
        battery_w: at the battery's terminals, + = discharging.
        grid_w: from the grid.
    """

    mode: str
    load_w: float
    pv_w: float
    battery_w: float
    grid_w: float


def conversion_loss_w(power_w: float) -> float:
    """Loss of turning ``power_w`` into AC, beside the idle use [W]."""
    return 0.028 * power_w + 1.6e-6 * power_w * power_w


def choose_source(
    memory: Memory, settings: Settings, pack: Pack, battery_v: float, grid_present: bool, dt: float
) -> None:
    """Decide which source feeds the output; the decision stays in ``memory``.

    Args:
        memory: what was decided before.
        settings: of the owner.
        pack: whose management may have switched off.
        battery_v: at the terminals, in the last step [V].
        grid_present: whether the grid is there.
        dt: length of the step [s].
    """
    memory.empty = pack.lowest_v < (USABLE_V if memory.empty else EMPTY_V)
    if memory.cut_off:
        if grid_present or (battery_v > settings.cut_off_voltage_v + 2.0 and not memory.empty):
            memory.cut_off = False
    elif not grid_present and (battery_v < settings.cut_off_voltage_v or memory.empty):
        memory.cut_off = True
    if not grid_present:
        memory.on_line, memory.held_s = False, 0.0
        return
    if settings.output_source_priority != "SBU":
        memory.on_line, memory.held_s = True, 0.0
        return
    if memory.on_line:
        back_v = settings.redischarge_voltage_v
        across = memory.stage == "float" if back_v == 0 else battery_v >= back_v
    else:
        across = battery_v <= settings.recharge_voltage_v
        if memory.empty:
            memory.on_line, memory.held_s = True, 0.0
            return
    memory.held_s = memory.held_s + dt if across else 0.0
    if memory.held_s >= HOLD_S:
        memory.on_line, memory.held_s = not memory.on_line, 0.0


def decide(
    memory: Memory,
    settings: Settings,
    pack: Pack,
    *,
    pv_w: float,
    load_w: float,
    grid_present: bool,
    may_charge: bool,
    dt: float,
) -> Wish:
    """What flows over the next ``dt`` seconds.

    Args:
        memory: which source feeds the output, and the charger's stage.
        settings: of the owner.
        pack: for its voltage and what it would take.
        pv_w: what the panels could give [W].
        load_w: what the house wants [W].
        grid_present: whether the grid is there.
        may_charge: the battery management allows it (not below 0 °C).
        dt: length of the step [s].
    """
    target = settings.float_voltage_v if memory.stage == "float" else settings.bulk_voltage_v
    limit_a = min(settings.max_charge_current_a, pack.charge_limit_a(target, dt))
    room_w = limit_a * (pack.open_v + limit_a * 0.012) if may_charge else 0.0
    sun = pv_w * MPPT_EFFICIENCY  # on the DC bus
    if memory.cut_off:
        charge = min(sun, room_w)
        used = charge / MPPT_EFFICIENCY
        own = 0.0 if charge > 0.0 or memory.empty else STANDBY_W
        return Wish("standby", 0.0, used, own - charge, 0.0)
    if not memory.on_line:
        need = load_w + conversion_loss_w(load_w) + IDLE_W
        if sun < need:
            return Wish("battery", load_w, pv_w, need - sun, 0.0)
        charge = min(sun - need, room_w)
        if charge == 0.0 and memory.stage == "float":
            # The MPPT holds the bus at float voltage; a fuller battery feeds the house down to it.
            drain = min(need, pack.drain_limit_a(target, dt) * pack.open_v)
            return Wish("battery", load_w, (need - drain) / MPPT_EFFICIENCY, drain, 0.0)
        return Wish("battery", load_w, (need + charge) / MPPT_EFFICIENCY, 0.0 - charge, 0.0)

    # On line: the grid carries what sun may not or cannot.
    priority = settings.output_source_priority
    from_sun = charge = 0.0  # into the output, into the battery; both on the DC bus
    if priority == "SUB":
        from_sun = min(sun, load_w + conversion_loss_w(load_w))
        charge = min(sun - from_sun, room_w)
    else:
        charge = min(sun, room_w)
        if priority == "SBU":
            from_sun = min(sun - charge, load_w + conversion_loss_w(load_w))
    served = min(load_w, from_sun / (1.0 + conversion_loss_w(load_w) / max(load_w, 1.0)))
    grid_charge = 0.0
    charger = settings.charger_source_priority
    if charger != "solar_only" and not (charger == "solar_first" and pv_w >= SOME_SUN_W):
        grid_charge = min(max(0.0, room_w - charge), settings.max_ac_charge_current_a * pack.open_v)
    grid = load_w - served + IDLE_W + grid_charge / CHARGER_EFFICIENCY
    return Wish(
        "line", load_w, (from_sun + charge) / MPPT_EFFICIENCY, 0.0 - (charge + grid_charge), grid
    )


def advance_stage(
    memory: Memory, settings: Settings, battery_v: float, current_a: float, dt: float
) -> None:
    """Move the charger between bulk, absorption and float after a step.

    Args:
        memory: holds the stage.
        settings: of the owner.
        battery_v: at the terminals, mean of the step [V].
        current_a: + = discharging [A].
        dt: length of the step [s].
    """
    if memory.stage == "bulk":
        if battery_v >= settings.bulk_voltage_v - 0.15:
            memory.stage, memory.absorbed_s = "absorb", 0.0
    elif memory.stage == "absorb":
        if battery_v < settings.bulk_voltage_v - 0.8:
            memory.stage = "bulk"
        else:
            memory.absorbed_s += dt
            faded = battery_v >= settings.bulk_voltage_v - 0.3 and -current_a <= TAIL_A
            if (faded and memory.absorbed_s >= 300.0) or memory.absorbed_s >= ABSORB_LIMIT_S:
                memory.stage = "float"
    elif battery_v < REBULK_V:
        memory.stage = "bulk"
