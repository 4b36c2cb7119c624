"""An import on its way through the portal: files, what they are, columns, what it would do."""

import json
import re
import secrets
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import words
from ..text import N_, _

if TYPE_CHECKING:
    from sunmesh.archive.importing.mapping import Mapping as ColumnMapping
    from werkzeug.datastructures import FileStorage, MultiDict

MOST_BYTES = 64_000_000
"""Larger files go in by the command on the machine itself."""
MOST_FILES = 12
MOST_COLUMNS = 200
KEPT = 3
KEPT_S = 24 * 3600.0
SAMPLES = 3
CHUNK = 1 << 20

FLOW_TARGETS = tuple((flow, name) for flow, name in words.FLOW_NAMES.items() if flow != "curtailed")
PERIODS = (
    ("day", N_("each day")),
    ("hour", N_("each hour")),
    ("30min", N_("each half hour")),
    ("15min", N_("each quarter of an hour")),
    ("5min", N_("each five minutes")),
    ("total", N_("a running total")),
)
UNITS = ("", "W", "kW", "Wh", "kWh", "MWh", "V", "mV", "A", "Hz", "°C", "°F", "%")


class UploadError(Exception):
    """Files cannot be taken; the text is for people."""


@dataclass(slots=True)
class ColumnRow:
    """A column of a table, and what it is taken for."""

    place: int
    name: str
    samples: list[str]
    target: str = ""
    unit: str = ""


@dataclass(slots=True)
class Upload:
    """Files that wait to be imported.

    Attributes:
        format: what they are; empty = not known.
        columns: of a table of text; empty for formats that need no mapping.
        devices: the mesh's name of each role that the format knows.
        plan, done: ids of the dry run and of the import.
    """

    id: str
    by: str
    folder: Path
    files: list[Path]
    at: float = field(default_factory=time.monotonic)
    format: str = ""
    title: str = ""
    why: str = ""
    needs_mapping: bool = False
    columns: list[ColumnRow] = field(default_factory=list)
    time_column: str = ""
    time_format: str = "auto"
    zone: str = ""
    replace: bool = False
    separator: str | None = None
    decimal: str | None = None
    header: bool | None = None
    devices: dict[str, str] = field(default_factory=dict)
    plan: str = ""
    done: str = ""

    @property
    def names(self) -> str:
        """Its files."""
        return ", ".join(path.name for path in self.files)


class Uploads:
    """Files of the last hours; the oldest give way."""

    def __init__(self) -> None:
        """None yet."""
        self._kept: OrderedDict[str, Upload] = OrderedDict()

    def get(self, number: str) -> Upload | None:
        """By its id."""
        return self._kept.get(number)

    def take(self, folder: Path, by: str, given: Sequence["FileStorage"]) -> Upload:
        """Keep files that were sent.

        Raises:
            UploadError: none, too many or too large.
        """
        files = [each for each in given if each.filename]
        if not files:
            raise UploadError(_("choose a file"))
        if len(files) > MOST_FILES:
            raise UploadError(_("not more than %(most)s files at once", most=MOST_FILES))
        now = time.monotonic()
        for old in list(self._kept.values()):
            if now - old.at > KEPT_S or len(self._kept) >= KEPT:
                self.drop(old.id)
        number = secrets.token_hex(8)
        place = folder / number
        place.mkdir(mode=0o700)
        kept: list[Path] = []
        try:
            for index, each in enumerate(files):
                path = place / safe_name(each.filename or "", index, {p.name for p in kept})
                each.save(path, CHUNK)
                kept.append(path)
        except OSError as err:
            shutil.rmtree(place, ignore_errors=True)
            raise UploadError(_("there is no room for it (%(why)s)", why=err.strerror)) from err
        self._kept[number] = Upload(number, by, place, kept)
        return self._kept[number]

    def drop(self, number: str) -> None:
        """Forget one, with its files."""
        found = self._kept.pop(number, None)
        if found is not None:
            shutil.rmtree(found.folder, ignore_errors=True)


def safe_name(name: str, index: int, taken: set[str]) -> str:
    """A file's name without a path in it; formats read much from names."""
    plain = re.sub(r"[^\w.,()+=@ -]", "_", re.split(r"[\\/]", name)[-1])[-100:].strip(". ")
    plain = plain or f"file-{index + 1}"
    return f"{index + 1}-{plain}" if plain in taken else plain


# -- what they are ---------------------------------------------------------------------------------


def look(upload: Upload, site_zone: Any, families: Sequence[tuple[str, str]]) -> None:  # noqa: ANN401
    """Tell the format of an upload, and guess what its columns are.

    Args:
        upload: is filled in.
        site_zone: of the site.
        families: name and family of its devices.
    """
    from sunmesh.archive.importing import formats, plan
    from sunmesh.archive.importing.records import ImportRefusedError
    from sunmesh.errors import SunmeshError

    try:
        chosen = formats.looks_like(upload.files[0])
        if chosen is None:
            upload.why = "unknown"
            return
        upload.format, upload.title = chosen.name, chosen.title
        options = plan.options_of(site_zone, families, chosen)
        upload.devices = {role.name: options.devices.get(role.name, "") for role in chosen.roles}
        upload.needs_mapping = chosen.guess is not None
        if chosen.name != "csv":
            return
        upload.columns = _columns(upload)
        try:
            guessed = chosen.guess(upload.files, options) if chosen.guess else None
        except ImportRefusedError as err:
            upload.why = _without_folder(str(err), upload)
            return
        if guessed is not None:
            _guessed(upload, guessed)
    except (SunmeshError, OSError, ValueError) as err:
        upload.why = _without_folder(str(err), upload)


def _without_folder(text: str, upload: Upload) -> str:
    return text.replace(f"{upload.folder}/", "")


def _columns(upload: Upload) -> list[ColumnRow]:
    """The columns of a table, with some of their cells."""
    from itertools import islice

    from sunmesh.archive.importing import files

    path = upload.files[0]
    found = files.layout(path)
    upload.separator, upload.decimal = found.separator, found.decimal
    upload.header = found.header is not None
    some = [cells for _line, cells in islice(files.rows(path, found), SAMPLES)]
    width = len(found.header or (some[0] if some else ()))
    names = list(found.header or (f"{number + 1}" for number in range(width)))
    return [
        ColumnRow(
            number + 1,
            name[:60],
            [cells[number][:30] for cells in some if number < len(cells)],
        )
        for number, name in enumerate(names[:MOST_COLUMNS])
    ]


def _guessed(upload: Upload, guessed: "ColumnMapping") -> None:
    by_name: dict[str | int, ColumnRow] = {}
    for row in upload.columns:
        by_name.setdefault(row.name, row)
        by_name.setdefault(row.place, row)
    for column in guessed.column:
        found = by_name.get(column.name)
        if found is not None:
            period = column.period or "day"
            found.target = f"flow:{column.flow}:{period}" if column.flow else column.to or ""
            found.unit = column.unit or ""
    when = guessed.time.column
    stands = when if isinstance(when, list) else [when]
    places = [str(by_name[each].place) for each in stands if each in by_name]
    upload.time_column = "+".join(places)
    upload.time_format = guessed.time.format


def read_form(upload: Upload, form: "MultiDict[str, str]") -> None:
    """Take over what was chosen; judged by the importer itself, which knows more."""
    for row in upload.columns:
        row.target = form.get(f"to.{row.place}", "")[:80].strip()
        if row.target == "flow":
            row.target = ""
        row.unit = form.get(f"unit.{row.place}", "")[:10]
        if row.target.startswith("flow:"):
            period = form.get(f"period.{row.place}", "day")
            row.target = f"{':'.join(row.target.split(':')[:2])}:{period[:10]}"
    if upload.columns:
        upload.time_column = re.sub(r"[^\d+]", "", form.get("time_column", ""))[:40]
        upload.time_format = form.get("time_format", "auto")[:60].strip() or "auto"
    upload.zone = form.get("zone", "")[:60].strip()
    upload.replace = bool(form.get("replace"))
    for role in upload.devices:
        upload.devices[role] = form.get(f"device.{role}", "")[:32].strip()
    if upload.format != "csv" and (wanted := form.get("format", "")):
        upload.format = wanted[:32]


def arguments(upload: Upload, config: Path, by: str, *, dry_run: bool) -> list[str]:
    """The command that imports it, or shows what an import would do.

    Raises:
        UploadError: what was chosen makes no sense.
    """
    made = ["import", upload.format or "auto", *map(str, upload.files)]
    made += ["--config", str(config), "--json", "--by", by]
    if upload.columns:
        mapping = upload.folder / "mapping.toml.part"
        mapping.write_text(mapping_of(upload), encoding="utf-8")
        made += ["--mapping", str(mapping)]
    for role, device in upload.devices.items():
        if device:
            made.append(f"--device={role}={device}")
    if upload.zone:
        made.append(f"--zone={upload.zone}")
    if upload.replace:
        made.append("--replace")
    if dry_run:
        made.append("--dry-run")
    return made


def mapping_of(upload: Upload) -> str:
    """What was chosen, as the importer's own file.

    Raises:
        UploadError: no column, no time, or one that is not known.
    """
    from sunmesh.archive.importing.mapping import Column, Mapping, TimeColumn, to_toml

    chosen = []
    for row in upload.columns:
        if not row.target:
            continue
        try:
            if row.target.startswith("flow:"):
                _flow, flow, period = row.target.split(":", 2)
                unit = row.unit or (None if _has_unit(row.name) else "kWh")
                chosen.append(Column(row.place, flow=flow, period=period, unit=unit))
            else:
                chosen.append(Column(row.place, to=row.target, unit=row.unit or None))
        except ValueError as err:
            raise UploadError(str(err)) from err
    if not chosen:
        raise UploadError(_("say of one column at least what it is"))
    places: list[str | int] = [int(each) for each in upload.time_column.split("+") if each]
    if not places or any(int(place) > len(upload.columns) for place in places):
        raise UploadError(_("say in which column the time stands"))
    when = TimeColumn(places if len(places) > 1 else places[0], upload.time_format)
    decimal = upload.decimal if upload.decimal in (".", ",") else None
    return to_toml(
        Mapping(chosen, when, upload.separator, decimal, header=upload.header)  # type: ignore[arg-type]
    )


def _has_unit(name: str) -> bool:
    from sunmesh.archive.importing import units

    return units.in_header(name)[1] is not None


# -- what it would do ------------------------------------------------------------------------------


@dataclass(slots=True)
class Target:
    """What an import would do to one series or flow."""

    name: str
    unit: str
    measure: str
    first: str
    last: str
    days: int = 0
    new: int = 0
    same: int = 0
    conflicts: int = 0
    covered: int = 0
    before: float = 0.0
    after: float = 0.0


@dataclass(slots=True)
class Plan:
    """What an import would do, or has done.

    Attributes:
        number: of the import; None = it was a dry run, or there was nothing to do.
        days: some days that would change, as (day, what, unit, before, after).
        more: how many days more.
    """

    format: str = ""
    number: int | None = None
    changes: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: list[tuple[str, int, list[tuple[str, int, str]]]] = field(default_factory=list)
    targets: dict[str, Target] = field(default_factory=dict)
    days: list[tuple[str, str, str, float | None, float | None]] = field(default_factory=list)
    more: int = 0


MOST_DAYS = 60
MOST_PROBLEMS = 20


def read_plan(path: Path) -> Plan | None:
    """What the importer printed; None when that is no plan. Line by line: it may be long."""
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(
                file.readline().rstrip("\n").removesuffix('"days": [') + '"days": []}'
            )
            plan = Plan(
                str(head["format"]), head["import"], bool(head["changes"]), dict(head["counts"])
            )
            for name in ("refused", "conflicts", "twice", "warned"):
                first = [
                    (str(each["file"]), int(each["line"]), str(each["reason"]))
                    for each in head[name]["first"][:MOST_PROBLEMS]
                ]
                if head[name]["count"]:
                    plan.problems.append((name, int(head[name]["count"]), first))
            for day in _days(file):
                _add(plan, day)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return plan


def _days(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        text = line.strip().removesuffix("]}").rstrip(",")
        if text:
            yield json.loads(text)


def _add(plan: Plan, day: Mapping[str, Any]) -> None:
    name = str(day["target"])
    target = plan.targets.get(name)
    if target is None:
        target = Target(name, str(day["unit"]), str(day["measure"]), day["day"], day["day"])
        plan.targets[name] = target
    target.last = day["day"]
    target.days += 1
    for key in ("new", "same", "conflicts", "covered"):
        setattr(target, key, getattr(target, key) + int(day[key]))
    target.before += day["before"] or 0.0
    target.after += day["after"] or 0.0
    if not day["new"]:
        return
    if len(plan.days) < MOST_DAYS:
        plan.days.append((day["day"], name, day["unit"], day["before"], day["after"]))
    else:
        plan.more += 1
