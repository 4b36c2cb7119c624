"""The battery's book: throughput, cycles, efficiency, cost, years; from the energy books."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo

from sqlalchemy import Connection
from sunmesh.database import energy as books

from .. import words
from ..text import _, day, money, ngettext, number, percent
from .profile import BatteryProfile

YEAR_DAYS = 365.25
LEAST_KWH = 10.0
"""A price by what was taken out so far says nothing before that."""
LEAST_DAYS = 14
"""A use by year is guessed from no less than that."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the battery's book."""

    label: str
    text: str
    how: str = ""


@dataclass(frozen=True, slots=True)
class Book:
    """What the battery has done and costs, in words."""

    entries: Sequence[Entry] = ()
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Turnover:
    """Energy through the battery.

    Attributes:
        days: since the first that is booked.
        charge_kwh, discharge_kwh: since then; None = not known.
        year_kwh: out of it in the last 365 days, or since the first.
        year_days: how many that are.
    """

    days: int = 0
    charge_kwh: float | None = None
    discharge_kwh: float | None = None
    year_kwh: float | None = None
    year_days: int = 0


def turnover(connection: Connection, zone: tzinfo, today: date) -> Turnover:
    """What the energy books say of the battery."""
    whole = books.span(connection)
    if whole is None:
        return Turnover()
    end = today + timedelta(days=1)
    all_of_it = books.figures(connection, zone, whole[0], end)
    begin = max(whole[0], end - timedelta(days=365))
    year = books.figures(connection, zone, begin, end)

    def kwh(found: books.Figures, flow: str) -> float | None:
        wh = found.wh(flow)
        return None if wh is None else wh / 1000

    return Turnover(
        (end - whole[0]).days,
        kwh(all_of_it, "battery_charge"),
        kwh(all_of_it, "battery_discharge"),
        kwh(year, "battery_discharge"),
        (end - begin).days,
    )


def book(
    found: Turnover,
    capacity_kwh: float | None,
    sweep_count: int,
    rated: str,
    profile: BatteryProfile,
    today: date,
) -> Book:
    """Throughput, cycles, efficiency, cost, years.

    Args:
        found: the energies.
        capacity_kwh: measured.
        sweep_count: in how many sweeps.
        rated: how that compares with what it is meant to hold, in words.
        profile: price and promise.
        today: the site's date.
    """
    if found.discharge_kwh is None:
        return Book()
    usable = capacity_kwh or profile.capacity_kwh
    since = day(today - timedelta(days=found.days - 1), "medium") if found.days else ""
    entries = [
        Entry(
            _("Taken out"),
            words.energy(found.discharge_kwh),
            _("since %(date)s, by the energy books", date=since),
        )
    ]
    if found.charge_kwh:
        entries.append(Entry(_("Put in"), words.energy(found.charge_kwh)))
        if found.days >= LEAST_DAYS and found.discharge_kwh < found.charge_kwh:
            entries.append(
                Entry(
                    _("Comes out of what goes in"),
                    percent(found.discharge_kwh / found.charge_kwh),
                    _("over %(days)d days", days=found.days),
                )
            )
    if capacity_kwh is not None:
        how = ngettext(
            "by the newest deep discharge", "by the newest %(num)d deep discharges", sweep_count
        )
        entries.append(
            Entry(_("Holds"), words.energy(capacity_kwh), f"{how}; {rated}" if rated else how)
        )
    missing: list[str] = []
    cycles = found.discharge_kwh / usable if usable else None
    a_year: float | None = None
    if cycles is not None:
        entries.append(
            Entry(
                _("Full cycles"),
                number(cycles, 0 if cycles >= 100 else 1),
                _("energy taken out by what it holds"),
            )
        )
        if usable and found.year_kwh is not None and found.year_days >= LEAST_DAYS:
            a_year = found.year_kwh / usable / found.year_days * YEAR_DAYS
            entries.append(
                Entry(
                    _("Full cycles a year"),
                    number(a_year, 0),
                    _("at the use of the last %(days)d days", days=found.year_days),
                )
            )
    else:
        missing.append(
            _("Its size: the first deep discharge measures it, or [battery] capacity_kwh says it.")
        )
    entries += _costs(found, usable, cycles, a_year, profile, today)
    if profile.price is None:
        missing.append(_("What a stored kWh costs: say price in [battery] of site.toml."))
    if profile.rated_cycles is None:
        missing.append(_("How long it may last: say rated_cycles in [battery] of site.toml."))
    return Book(entries, missing)


def _costs(
    found: Turnover,
    usable: float | None,
    cycles: float | None,
    a_year: float | None,
    profile: BatteryProfile,
    today: date,
) -> list[Entry]:
    entries = []
    if profile.price is not None and profile.rated_cycles and usable:
        entries.append(
            Entry(
                _("A stored kWh costs"),
                money(profile.price / (profile.rated_cycles * usable), profile.currency, 3),
                _("its price by all cycles that its maker promises"),
            )
        )
    if profile.price is not None and (found.discharge_kwh or 0) > LEAST_KWH:
        entries.append(
            Entry(
                _("A stored kWh has cost so far"),
                money(profile.price / (found.discharge_kwh or 1), profile.currency, 2),
                _("its price by what was taken out in %(days)d days", days=found.days),
            )
        )
    if profile.rated_cycles and a_year and cycles is not None:
        before = 0.0
        if profile.installed is not None:
            unbooked = (today - profile.installed).days - found.days
            before = max(0, unbooked) / YEAR_DAYS * a_year
        years = (profile.rated_cycles - cycles - before) / a_year
        if years <= 0:
            entries.append(Entry(_("Promised cycles"), _("used up"), _("what comes now is a gift")))
        else:
            entries.append(
                Entry(
                    _("Promised cycles last"),
                    ngettext("%(num)d more year", "%(num)d more years", round(years))
                    if years < 40
                    else _("more than 40 years"),
                    _("at this use; age ends most batteries earlier"),
                )
            )
    return entries
