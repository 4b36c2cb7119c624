"""What *Setup* has been told so far: kept beside ``site.toml``, so that one may go on tomorrow.

Each part checks what a form says, and says in words what is wrong with which field; together they
become tables of ``site.toml``. Secrets are never in here: they go into files of their own.
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

import msgspec
from sunmesh.config import FAMILIES, Site
from sunmesh.topics import NAME, RESERVED

from ..text import N_, _, typed

log = logging.getLogger(__name__)

STEPS = ("house", "devices", "more", "finish")
STEP_NAMES = {
    "house": N_("House"),
    "devices": N_("Devices"),
    "more": N_("Battery, tariff, alarms"),
    "finish": N_("Save"),
}

Kind = Literal["", "off_grid", "backup", "grid"]
KINDS: Mapping[str, tuple[str, str]] = {
    "off_grid": (N_("Off the grid"), N_("There is no grid, or it is never used.")),
    "backup": (N_("Grid as a backup"), N_("The grid helps out; nothing is sold to it.")),
    "grid": (N_("On the grid"), N_("What is left over flows into the grid.")),
}
CHEMISTRIES = {
    "lfp": N_("Lithium iron phosphate (LiFePO4)"),
    "nmc": N_("Lithium NMC or NCA"),
    "lead": N_("Lead, AGM or gel"),
    "other": N_("Something else"),
}
CELL_LIMITS = {"lfp": (2.5, 3.65), "nmc": (3.0, 4.2), "lead": (1.75, 2.45)}
"""What makers usually allow a cell [V]: offered, never written unasked."""
PRESET = ("lfp", 16)
"""What the rules that come with the controller were made for: chemistry, cells."""
WAYS = {"pushover": "Pushover", "catapush": "Catapush", "apprise": N_("Another service by Apprise")}
ROLES = {"grid": N_("the grid"), "pv": N_("a solar plant"), "load": N_("the house")}
MODELS = ("SDM120", "SDM230", "SDM630")
PERSON = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
MOST_DEVICES = 60


class House(msgspec.Struct, omit_defaults=True):
    """Where the house stands."""

    time_zone: str = ""
    latitude: float | None = None
    longitude: float | None = None
    kind: Kind = ""


class Chosen(msgspec.Struct, omit_defaults=True):
    """A device that shall be read."""

    name: str
    hit: str
    table: dict[str, Any]
    title: str = ""


class Battery(msgspec.Struct, omit_defaults=True):
    """What is known of the battery."""

    chemistry: Literal["", "lfp", "nmc", "lead", "other"] = ""
    cells: int | None = None
    capacity_kwh: float | None = None
    cell_low_v: float | None = None
    cell_high_v: float | None = None


class Price(msgspec.Struct, omit_defaults=True):
    """What a kWh costs and earns, at all hours."""

    currency: str = ""
    buy: float | None = None
    sell: float | None = None


class Way(msgspec.Struct, omit_defaults=True):
    """How alarms reach one person."""

    person: str = ""
    by: Literal["", "pushover", "catapush", "apprise"] = ""
    token_file: str = ""
    user_file: str = ""
    recipient: str = ""
    app_id: int = 0
    base_url: str = ""
    language: str = "en"


class Draft(msgspec.Struct, omit_defaults=True):
    """Everything so far.

    Attributes:
        step: where one was last.
        done: steps that were answered.
    """

    step: str = "house"
    done: list[str] = []
    house: House = msgspec.field(default_factory=House)
    devices: list[Chosen] = []
    battery: Battery = msgspec.field(default_factory=Battery)
    price: Price = msgspec.field(default_factory=Price)
    way: Way = msgspec.field(default_factory=Way)
    saved: str = ""

    def answered(self, step: str) -> None:
        """That step was answered; the next one is due."""
        if step not in self.done:
            self.done = [*self.done, step]
        after = STEPS.index(step) + 1
        self.step = STEPS[min(after, len(STEPS) - 1)]


class Book:
    """The draft, in a file where that can be, else in memory.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is read before the first question."""
        self._path = path
        self._lock = threading.Lock()
        self._draft: Draft | None = None

    def read(self) -> Draft:
        """A copy of the draft; an empty one where none can be read."""
        with self._lock:
            if self._draft is None:
                self._draft = self._load()
            return msgspec.convert(msgspec.to_builtins(self._draft), Draft)

    def _load(self) -> Draft:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Draft)
        except FileNotFoundError:
            return Draft()
        except (OSError, msgspec.MsgspecError) as err:
            log.warning("%s: begun anew: %s", self._path, err)
            return Draft()

    def keep(self, draft: Draft) -> bool:
        """Remember it; False = only until the portal stops."""
        with self._lock:
            self._draft = msgspec.convert(msgspec.to_builtins(draft), Draft)
            new = self._path.with_name(f".{self._path.name}.new")
            try:
                new.write_bytes(msgspec.json.format(msgspec.json.encode(draft), indent=1))
                new.chmod(0o600)
                new.replace(self._path)
            except OSError as err:
                log.warning("%s: kept in memory only: %s", self._path, err)
                return False
        return True


# -- what forms say --------------------------------------------------------------------------------

Form = Callable[[str], str]
"""What a field holds; empty where there is none."""
Errors = dict[str, str]


def number(text: str, low: float, high: float, errors: Errors, field: str) -> float | None:
    """A number as people type it, ``12,5`` or ``12.5``; None for an empty field."""
    if not text.strip():
        return None
    found = typed(text)
    if found is None:
        errors[field] = _("This must be a number")
        return None
    if not low <= found <= high:
        errors[field] = _(
            "This must be a number from %(low)s to %(high)s", low=f"{low:g}", high=f"{high:g}"
        )
        return None
    return found


def house_of(form: Form) -> tuple[House, Errors]:
    """The step *House*."""
    errors: Errors = {}
    zone = form("time_zone").strip()
    if zone and zone not in available_timezones():
        errors["time_zone"] = _("There is no such time zone; choose one of the list")
    kind = form("kind")
    latitude = number(form("latitude"), -90, 90, errors, "latitude")
    longitude = number(form("longitude"), -180, 180, errors, "longitude")
    if (latitude is None) != (longitude is None) and not errors:
        errors["latitude"] = _("Latitude and longitude belong together")
    house = House(
        zone,
        latitude,
        longitude,
        kind if kind in KINDS else "",  # type: ignore[arg-type]
    )
    return house, errors


def devices_of(
    form: Form, hits: Mapping[str, tuple[str, Mapping[str, Any]]], taken: set[str]
) -> tuple[list[Chosen], Errors]:
    """The step *Devices*.

    Args:
        form: fields ``take-N`` (a hit's id), ``name-N``, ``role-N``, ``model-N``.
        hits: title and table by id.
        taken: names that other devices have.
    """
    chosen: list[Chosen] = []
    errors: Errors = {}
    used = set(taken)
    for row in range(MOST_DEVICES):
        id_ = form(f"take-{row}")
        if not id_ or id_ not in hits:
            continue
        title, table = hits[id_]
        name = form(f"name-{row}").strip().lower()
        if not NAME.fullmatch(name) or name in RESERVED:
            errors[f"name-{row}"] = _("A name is 1 to 32 of a-z, 0-9 and -")
        elif name in used:
            errors[f"name-{row}"] = _("Another device has this name")
        used.add(name)
        mine = dict(table)
        if mine["family"] == "meter":
            role, model = form(f"role-{row}"), form(f"model-{row}")
            mine |= {"role": role} if role in ROLES else {}
            mine |= {"model": model} if model in MODELS else {}
        chosen.append(Chosen(name, id_, mine, title))
    return chosen, errors


def battery_of(form: Form) -> tuple[Battery, Errors]:
    """The battery's part of the step *More*."""
    errors: Errors = {}
    chemistry = form("chemistry")
    cells = number(form("cells"), 1, 400, errors, "cells")
    battery = Battery(
        chemistry if chemistry in CHEMISTRIES else "",  # type: ignore[arg-type]
        None if cells is None else round(cells),
        number(form("capacity_kwh"), 0.01, 10_000, errors, "capacity_kwh"),
        number(form("cell_low_v"), 0.1, 100, errors, "cell_low_v"),
        number(form("cell_high_v"), 0.1, 100, errors, "cell_high_v"),
    )
    low, high = battery.cell_low_v, battery.cell_high_v
    if low is not None and high is not None and low >= high:
        errors["cell_low_v"] = _("The lower limit must be below the upper one")
    return battery, errors


def price_of(form: Form) -> tuple[Price, Errors]:
    """The tariff's part of the step *More*."""
    errors: Errors = {}
    buy = number(form("buy"), 0, 1000, errors, "buy")
    sell = number(form("sell"), -1000, 1000, errors, "sell")
    currency = form("currency").strip().upper()
    if (buy is not None or sell is not None) and not re.fullmatch(r"[A-Z]{3}", currency):
        errors["currency"] = _("A currency is three letters such as EUR")
    return Price(currency, buy, sell), errors


def way_of(form: Form, before: Way, keep: Callable[[str, str], str]) -> tuple[Way, Errors]:
    """The alarms' part of the step *More*.

    Args:
        form: its fields; secrets may be left empty to stay as they are.
        before: what was said before.
        keep: writes a secret into a file and gives the file's name.
    """
    errors: Errors = {}
    by = form("by")
    if by not in WAYS:
        return Way(), errors
    person = form("person").strip().lower()
    if not PERSON.fullmatch(person):
        errors["person"] = _("A name is 1 to 32 of a-z, 0-9 and -")
        return Way(by=by), errors  # type: ignore[arg-type]
    same = before.by == by and before.person == person
    token, user = form("token").strip(), form("user").strip()
    base_url = form("base_url").strip()
    if base_url and not re.fullmatch(r"https?://[^\s\"']{1,200}", base_url):
        errors["base_url"] = _("An address begins with https://")
    if not token and not (same and before.token_file):
        errors["token"] = _("Without this secret the service takes no message")
    if by == "pushover" and not user and not (same and before.user_file):
        errors["user"] = _("Without the user key nobody is reached")
    recipient = form("recipient").strip()
    if by == "catapush" and not recipient:
        errors["recipient"] = _("Without the recipient nobody is reached")
    app_id = number(form("app_id") or "0", 0, 10**9, errors, "app_id") or 0
    if by == "catapush" and not app_id and "app_id" not in errors:
        errors["app_id"] = _("Catapush names the application by a number")
    way = Way(
        person=person,
        by=by,  # type: ignore[arg-type]
        token_file=before.token_file if same else "",
        user_file=before.user_file if same else "",
        recipient=recipient if by == "catapush" else "",
        app_id=round(app_id) if by == "catapush" else 0,
        base_url=base_url,
        language=form("way_language") or "en",
    )
    if not errors:
        if token:
            way.token_file = keep(f"{by}-{person}-token", token)
        if by == "pushover" and user:
            way.user_file = keep(f"{by}-{person}-user", user)
    return way, errors


# -- site.toml -------------------------------------------------------------------------------------


def tables(draft: Draft, site: Site) -> dict[str, dict[str, Any]]:
    """What of ``site.toml`` changes, by table."""
    changes: dict[str, dict[str, Any]] = {}

    def put(table: str, **values: object) -> None:
        known = {name: item for name, item in values.items() if item not in (None, "")}
        if known:
            changes.setdefault(table, {}).update(known)

    house = draft.house
    put(
        "site",
        time_zone=house.time_zone,
        latitude=house.latitude,
        longitude=house.longitude,
    )
    energy = site.sections.get("energy", {})
    if house.kind == "off_grid" and "grid_import" not in energy:
        changes["energy.grid_import"] = {}
    if house.kind in ("off_grid", "backup") and "grid_export" not in energy:
        changes["energy.grid_export"] = {}
    battery = draft.battery
    put(
        "battery",
        chemistry=battery.chemistry,
        cells=battery.cells,
        capacity_kwh=battery.capacity_kwh,
        cell_low_v=battery.cell_low_v,
        cell_high_v=battery.cell_high_v,
    )
    put("web", battery_kwh=battery.capacity_kwh)
    put("energy", battery_kwh=battery.capacity_kwh)
    if (
        battery.chemistry
        and (battery.chemistry, battery.cells) != PRESET
        and (battery.chemistry != PRESET[0] or battery.cells is not None)
        and "controller" not in site.sections
    ):
        changes["controller"] = {"preset": ""}  # its numbers are another battery's
    for chosen in draft.devices:
        if chosen.name not in site.devices and chosen.table.get("family") in FAMILIES:
            table = dict(chosen.table)
            changes[f"devices.{chosen.name}"] = {"family": table.pop("family")} | table
    way = draft.way
    if way.by and way.person and way.token_file:
        put(
            f"notifier.targets.{way.person}",
            by=way.by,
            token_file=way.token_file,
            user_file=way.user_file,
            recipient=way.recipient,
            app_id=way.app_id or None,
            base_url=way.base_url,
            language=way.language if way.language != "en" else "",
        )
    return changes
