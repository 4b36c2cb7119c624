"""The annex: a second building with a roof of its own, microinverters, people and a grid meter.

It hangs on the public grid beside the house, so it has a balance of its own, which is a part of
the property's: **pv + grid = load** here, without battery and without losses, for its panels are
counted behind their microinverters. Without a grid everything in it stands still, the gateway
included: microinverters must not feed a dead line.

Panels are those of an AC module of 327 W (-0.29 %/K), facing east. Each has its own small
deviation; the sum of the microinverters is what the roof makes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .noise import uniform
from .pv import WARMING_K_PER_W_M2
from .sun import Vector, normal

PANELS = 18
PANEL_W = 327.0
POWER_PER_K = -0.0029
EFFICIENCY = 0.962
DIRT = 0.97
START_W_M2 = 15.0
"""Below this light a microinverter sleeps."""
WEAK_PART = 0.45
LOAD_PART = 0.42
"""Of what a family in a whole house uses."""
PLANE: Vector = normal(115.0, 25.0)
USUAL_A_DAY_KWH = {"pv": 19.0, "load": 6.5, "import": 4.2, "export": 16.7}
"""What the annex gathers a day, for counters of a world that starts without a past."""
_PART, _SEED = 701, 9173


def _zeros() -> list[float]:
    return [0.0] * PANELS


@dataclass(slots=True)
class Annex:
    """The annex's counters.

    Attributes:
        panel_kwh: of each microinverter since installation.
        load_kwh, import_kwh, export_kwh: of the building.
    """

    panel_kwh: list[float] = field(default_factory=_zeros)
    load_kwh: float = 0.0
    import_kwh: float = 0.0
    export_kwh: float = 0.0

    @classmethod
    def after(cls, days: float, seed: int) -> "Annex":
        """The annex as it may be ``days`` after it was built."""
        usual = USUAL_A_DAY_KWH
        mean = days * usual["pv"] / PANELS
        return cls(
            [mean * part for part in _parts(seed)],
            days * usual["load"],
            days * usual["import"],
            days * usual["export"],
        )

    def step(
        self,
        dt: float,
        *,
        seed: int,
        irradiance_w_m2: float,
        air_c: float,
        load_w: float,
        grid_v: float,
        weak: int = 0,
    ) -> dict[str, Any]:
        """Let ``dt`` seconds pass; returns what there is, by vocabulary name.

        Args:
            dt: length of the step [s].
            seed: of the world.
            irradiance_w_m2: on its roof.
            air_c: outdoors.
            load_w: what the people there want.
            grid_v: 0 while there is no grid.
            weak: this panel gives little, 1 = first; 0 = none.
        """
        has_grid = grid_v > 0.0
        warm_c = air_c + WARMING_K_PER_W_M2 * irradiance_w_m2
        shines = has_grid and irradiance_w_m2 >= START_W_M2
        light = irradiance_w_m2 / 1000.0 if shines else 0.0
        power = PANEL_W * DIRT * light * (1.0 + POWER_PER_K * (warm_c - 25.0))
        ac_w = [power * EFFICIENCY * part for part in _parts(seed)]
        if 0 < weak <= PANELS:
            ac_w[weak - 1] *= WEAK_PART
        total = sum(ac_w)
        load = load_w if has_grid else 0.0
        grid = load - total
        kwh = dt / 3_600_000.0
        self.panel_kwh = [e + w * kwh for e, w in zip(self.panel_kwh, ac_w, strict=True)]
        self.load_kwh += load * kwh
        self.import_kwh += max(0.0, grid) * kwh
        self.export_kwh += max(0.0, -grid) * kwh
        return {
            "pv_power_w": total,
            "load_power_w": load,
            "grid_power_w": grid,
            "pv_energy_total_kwh": sum(self.panel_kwh),
            "load_energy_total_kwh": self.load_kwh,
            "grid_import_energy_kwh": self.import_kwh,
            "grid_export_energy_kwh": self.export_kwh,
            "grid_net_energy_kwh": self.import_kwh - self.export_kwh,
            "irradiance_w_m2": irradiance_w_m2,
            "heat_sink_temperature_c": warm_c + 0.4 * total / PANELS * (1.0 - EFFICIENCY),
            "microinverter_power_w": ac_w,
            "microinverter_energy_kwh": list(self.panel_kwh),
        }

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restored` needs; plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Annex":
        """The annex that :meth:`state` was taken of.

        Raises:
            TypeError: it is no state of an annex. ValueError: not as many panels.
        """
        if len(state["panel_kwh"]) != PANELS:
            raise ValueError(f"{len(state['panel_kwh'])} panels, not {PANELS}")
        return cls(**state)


def annex_load(
    seed: int, curve: Callable[[int], Callable[[float, float], float]]
) -> Callable[[float, float], float]:
    """What the people of the annex draw: another family than that of the house, and fewer.

    Args:
        seed: of the world.
        curve: makes a load curve from a seed.
    """
    whole = curve(seed + _SEED)
    return lambda t, air_c: LOAD_PART * whole(t, air_c)


@lru_cache(maxsize=4)
def _parts(seed: int) -> tuple[float, ...]:
    """How each panel differs from the mean: tolerance, place, dust."""
    return tuple(0.975 + 0.05 * uniform(seed, _PART, panel) for panel in range(PANELS))
