"""What the bars of the page History can show: each is a stack upwards and one downwards. Pure."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from sunmesh.database.energy import Figures

from .. import text, words
from ..text import N_

Parts = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Area:
    """One colour of a stack: ``key`` is its class in the picture."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to look at a period.

    Attributes:
        key: in the address.
        name: on its button.
        needs: flows without one of which it is not offered.
        up: areas above zero, from the middle outwards.
        down: areas below it.
        split: Figures → values of ``up``, then of ``down`` [Wh, or a share of 1].
        flow: the one that stands for all of it, in maps and comparisons; empty for shares.
        share: values are shares of 1, not energies.
    """

    key: str
    name: str
    needs: tuple[frozenset[str], ...]
    up: tuple[Area, ...]
    down: tuple[Area, ...]
    split: Callable[[Figures], Parts]
    flow: str = ""
    share: bool = False

    @property
    def said(self) -> str:
        """What :meth:`total` is, for the catalogues."""
        return SAID[self.flow or self.key]

    def total(self, made: Figures) -> float | None:
        """The one number of a period [Wh, or a share of 1]."""
        if self.flow:
            return made.wh(self.flow)
        return self.split(made)[0]

    def text(self, value: float | None) -> str:
        """``value`` with its unit."""
        if value is None:
            return words.NONE
        return text.percent(value) if self.share else words.energy(value / 1000)


def _fed(made: Figures) -> Parts:
    """Who fed the house: sun, battery, grid, generator."""
    load = made.wh("load")
    if load is None:
        return (None,) * 4
    grid = min(made.wh("grid_import") or 0.0, load)
    generator = min(made.wh("generator") or 0.0, load - grid)
    battery = min(made.wh("battery_discharge") or 0.0, load - grid - generator)
    return load - grid - generator - battery, battery, grid, generator


def _went(made: Figures) -> Parts:
    """Where the sun's energy went: house (with the inverter's own use), battery, grid."""
    pv = made.wh("pv")
    if pv is None:
        return (None,) * 3
    away = min(made.wh("grid_export") or 0.0, pv)
    stored = min(made.wh("battery_charge") or 0.0, pv - away)
    return pv - away - stored, stored, away


def _of(*flows: str) -> Callable[[Figures], Parts]:
    return lambda made: tuple(made.wh(flow) for flow in flows)


def _any(*flows: str) -> tuple[frozenset[str], ...]:
    return (frozenset(flows),)


SAID = {
    "pv": N_("From the sun"),
    "load": N_("Used by the house"),
    "grid_import": N_("From the grid"),
    "grid_export": N_("To the grid"),
    "battery_discharge": N_("Out of the battery"),
    "battery_charge": N_("Into the battery"),
    "generator": N_("From the generator"),
    "autarky": N_("Share that was not bought"),
    "own": N_("Share of the sun that stayed here"),
}

INSTEAD = {"pv": "load", "grid_import": "grid_export", "battery_discharge": "battery_charge"}
"""What stands for a metric where its own flow is not measured."""

SUN, BATTERY = Area("sun", N_("Sun")), Area("battery", N_("Battery"))
GRID, HOUSE = Area("grid", N_("Grid")), Area("house", N_("House"))

METRICS = (
    Metric(
        "balance",
        N_("Balance"),
        _any("load", "pv"),
        (SUN, BATTERY, GRID, Area("generator", N_("Generator"))),
        (HOUSE, BATTERY, GRID),
        lambda made: (*_fed(made), *_went(made)),
        "pv",
    ),
    Metric(
        "sun",
        N_("Sun"),
        _any("pv"),
        (SUN, Area("curtailed", N_("Sun not taken"))),
        (),
        _of("pv", "curtailed"),
        "pv",
    ),
    Metric(
        "house",
        N_("House"),
        _any("load"),
        (HOUSE,),
        (),
        _of("load"),
        "load",
    ),
    Metric(
        "grid",
        N_("Grid"),
        _any("grid_import", "grid_export"),
        (Area("grid", N_("From the grid")),),
        (Area("away", N_("To the grid")),),
        _of("grid_import", "grid_export"),
        "grid_import",
    ),
    Metric(
        "battery",
        N_("Battery"),
        _any("battery_charge", "battery_discharge"),
        (Area("battery", N_("Out of the battery")),),
        (Area("stored", N_("Into the battery")),),
        _of("battery_discharge", "battery_charge"),
        "battery_discharge",
    ),
    Metric(
        "generator",
        N_("Generator"),
        _any("generator"),
        (Area("generator", N_("Generator")),),
        (),
        _of("generator"),
        "generator",
    ),
    Metric(
        "autarky",
        N_("Autarky"),
        (frozenset({"load"}), frozenset({"grid_import"})),
        (Area("autarky", N_("Share that was not bought")),),
        (),
        lambda made: (made.autarky,),
        share=True,
    ),
    Metric(
        "own",
        N_("Own consumption"),
        (frozenset({"pv"}), frozenset({"grid_export"})),
        (Area("own", N_("Share of the sun that stayed here")),),
        (),
        lambda made: (made.self_consumption,),
        share=True,
    ),
)


def offered(flows: Collection[str]) -> list[Metric]:
    """The metrics that a house with these flows has."""
    return [
        m if not m.flow or m.flow in flows else replace(m, flow=INSTEAD.get(m.flow, m.flow))
        for m in METRICS
        if all(wanted & set(flows) for wanted in m.needs)
    ]


def chosen(key: str, flows: Collection[str]) -> Metric | None:
    """The metric of that name; None where there is none such here."""
    return next((metric for metric in offered(flows) if metric.key == key), None)
