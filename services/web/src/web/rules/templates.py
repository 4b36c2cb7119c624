"""Rules to begin with: each a table that an owner looks at, changes and saves as a shadow. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import words
from ..live import Memory
from ..text import N_, _
from .book import Rules, Table, conditions
from .words import key_of

SOC = "battery.battery_soc_percent"
OUTPUT = "inverter.output_source_priority"
CHARGER = "inverter.charger_source_priority"


def _soc(samples: str, test: str, value: float) -> list[Table]:
    return [{"samples": samples, "all": [{"quantity": SOC, test: value}]}]


def _table(
    says: str,
    hours: str,
    when: list[Table],
    until: list[Table],
    do: list[Table],
    *,
    ends: bool = False,
    relay: bool = False,
    priority: int = 35,
) -> Table:
    safe = {"settings": "leave"} | ({"relay": "grid_connected"} if relay else {})
    return {
        "says": says,
        "priority": priority,
        "hours": hours,
        "ends_with_hours": ends,
        "when": when,
        "until": until,
        "do": do,
        "safe": safe,
        "temporary": True,
        "afterwards": "restore",
        "min_on_min": 10,
        "min_off_min": 10,
        "again_min": 15,
        "most_switches_day": 6,
    }


@dataclass(frozen=True, slots=True)
class Template:
    """One of them. ``table`` is None where no rule of this house can do it; ``needs`` says why."""

    name: str
    title: str
    about: str
    table: Mapping[str, Any] | None = None
    needs: str = ""


TEMPLATES = (
    Template(
        "night-reserve",
        N_("Night reserve"),
        N_("In the evening and at night the grid takes over before the battery is empty."),
        _table(
            "The night keeps a reserve in the battery",
            "18:00-07:00",
            _soc("4 of 5", "at_most", 35),
            _soc("9 of 10", "at_least", 45),
            [{"set": OUTPUT, "to": "USB"}],
            ends=True,
        ),
    ),
    Template(
        "storm-reserve",
        N_("Storm reserve"),
        N_("Before a storm the battery is filled, from the grid too. Switch it on when one comes."),
        _table(
            "Before a storm the battery is filled",
            "always",
            _soc("4 of 5", "at_most", 80),
            _soc("9 of 10", "at_least", 95),
            [{"set": OUTPUT, "to": "USB"}, {"set": CHARGER, "to": "solar_first"}],
            priority=45,
        ),
    ),
    Template(
        "cheap-window",
        N_("Cheap hours"),
        N_("While power is cheap the grid may charge the battery; with the hours it ends."),
        _table(
            "In cheap hours the grid fills the battery",
            "02:00-05:00",
            _soc("4 of 5", "at_most", 60),
            _soc("9 of 10", "at_least", 90),
            [{"set": OUTPUT, "to": "USB"}, {"set": CHARGER, "to": "solar_first"}],
            ends=True,
        ),
    ),
    Template(
        "winter",
        N_("Winter"),
        N_("In months with little sun the battery stays above half, and is never found empty."),
        _table(
            "In winter the battery stays above half",
            "always",
            _soc("9 of 10", "at_most", 50),
            _soc("9 of 10", "at_least", 65),
            [{"set": OUTPUT, "to": "USB"}],
        ),
    ),
    Template(
        "load-shedding",
        N_("Announced cuts"),
        N_("In the hours before an announced cut the battery is filled."),
        _table(
            "Before an announced cut the battery is filled",
            "13:00-17:00",
            _soc("4 of 5", "at_most", 90),
            _soc("9 of 10", "at_least", 98),
            [{"set": OUTPUT, "to": "USB"}, {"set": CHARGER, "to": "solar_first"}],
            ends=True,
            priority=45,
        ),
    ),
    Template(
        "hot-afternoon",
        N_("Hot afternoon"),
        N_("While the inverter is hot it charges more slowly."),
        _table(
            "On a hot afternoon the charger is spared",
            "11:00-19:00",
            [
                {
                    "samples": "9 of 10",
                    "all": [{"quantity": "inverter.heat_sink_temperature_c", "at_least": 65}],
                }
            ],
            [
                {
                    "samples": "9 of 10",
                    "all": [{"quantity": "inverter.heat_sink_temperature_c", "at_most": 50}],
                }
            ],
            [{"set": "inverter.max_charge_current_a", "to": 20}],
            priority=20,
        ),
    ),
    Template(
        "generator",
        N_("Generator"),
        N_("Starts a generator when the battery is low, with warming up and cooling down."),
        needs=N_("no device of this house is a generator that takes commands"),
    ),
    Template(
        "surplus",
        N_("Surplus"),
        N_("Switches a boiler on while the sun gives more than the house and the battery take."),
        needs=N_("no device of this house is a switch for a load"),
    ),
)

SAID = (
    N_("The night keeps a reserve in the battery"),
    N_("Before a storm the battery is filled"),
    N_("In cheap hours the grid fills the battery"),
    N_("In winter the battery stays above half"),
    N_("Before an announced cut the battery is filled"),
    N_("On a hot afternoon the charger is spared"),
)
"""What these rules say, for the catalogues: saved in the language of who saves them."""


def template(name: str) -> Template | None:
    """The template of that name."""
    return next((each for each in TEMPLATES if each.name == name), None)


def filled(made: Template) -> Table | None:
    """Its table, said in the language spoken."""
    if made.table is None:
        return None
    return {**made.table, "says": _(str(made.table["says"]))}


def lacks(made: Template, rules: Rules, devices: Mapping[str, Memory]) -> str:
    """What this house lacks for a template; empty when it has everything."""
    if made.table is None:
        return _(made.needs)
    for condition in (*conditions(made.table["when"]), *conditions(made.table["until"])):
        device, name = rules.device(key_of(condition))
        memory = devices.get(device)
        if memory is None or memory.sample is None or name not in memory.sample.values:
            return _("no device %(device)s tells: %(name)s", device=device, name=words.label(name))
    for step in made.table["do"]:
        device, name = rules.device(str(step.get("set") or ""))
        memory = devices.get(device)
        if memory is None or memory.settings is None or name not in memory.settings.values:
            return _("no device %(device)s takes: %(name)s", device=device, name=words.label(name))
    return ""
