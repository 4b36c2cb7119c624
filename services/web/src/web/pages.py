"""The pages, in the order in which the portal offers them."""

from collections.abc import Container
from dataclasses import dataclass

from .text import N_


@dataclass(frozen=True, slots=True)
class Page:
    """One entry of the navigation.

    Attributes:
        endpoint: of its view.
        name: in English, marked for the catalogues.
        icon: of ``icons.html``, without ``i-``.
        about: what it is for, said in the list of all pages.
        first: also in the bar at the bottom of a phone.
    """

    endpoint: str
    name: str
    icon: str
    about: str
    first: bool = False

    @property
    def blueprint(self) -> str:
        """The part of the endpoint that its other views share."""
        return self.endpoint.partition(".")[0]


PAGES = (
    Page("now.page", N_("Now"), "sun", N_("What the house does at this moment"), first=True),
    Page("day.today", N_("Day"), "day", N_("Where power came from and went, any day"), first=True),
    Page("history.page", N_("History"), "history", N_("Months, years, records, corrections"), True),
    Page("battery.page", N_("Battery"), "battery", N_("Packs, cells, capacity, wear")),
    Page("devices.page", N_("Devices"), "devices", N_("What is connected, and how it is")),
    Page("control.page", N_("Control"), "control", N_("Settings, grid relay, automatics"), True),
    Page("rules.page", N_("Rules"), "rules", N_("What acts by itself, and why")),
    Page("alarms.page", N_("Alarms"), "warning", N_("What is wrong, and who knows"), first=True),
    Page("money.page", N_("Money"), "money", N_("Tariffs, cost, what was saved, CO₂")),
    Page("data.page", N_("Data"), "data", N_("Import, export, corrections, backup")),
    Page("system.page", N_("System"), "system", N_("Services, logs, people, keys")),
    Page("setup.page", N_("Setup"), "setup", N_("Find devices, site, battery, tariff")),
    Page("wall.page", N_("Wall"), "wall", N_("For a tablet on the wall")),
)
"""All of them; those that have no view are not offered."""


def offered(endpoints: Container[str]) -> tuple[Page, ...]:
    """The pages that exist."""
    return tuple(page for page in PAGES if page.endpoint in endpoints)
