"""solar-battery-monitoring: points of a Plasmatronics PL out of InfluxDB, or its PostgreSQL table.

As line protocol, as the CSV that ``influx`` writes (versions 1 and 2), or as CSV of the table
``measurements``. With a mapping, fields of any other measurement, too: a column's name is
``field`` or ``measurement.field``.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path

from ....messages import Value
from .. import files, times
from ..columns import Extractor
from ..mapping import target
from ..records import Format, Head, ImportRefusedError, Options, Record, Refused, Role, Row

FIELDS = {
    "battery_voltage": "battery_voltage_v",
    "soc": "battery_soc_percent",
    "in": "charge_today_ah",
    "in_value": "charge_today_ah",
    "out": "load_today_ah",
    "out_value": "load_today_ah",
    "charge": "charge_current_a",
    "load": "load_current_a",
}
STATES = ("boost", "equalise", "absorption", "float")
KEYS = ("_time", "_field", "_value", "_measurement")

_LINE = re.compile(
    r"(?P<measurement>(?:[^\s,\\]|\\.)+)(?P<tags>(?:,(?:[^\s,=\\]|\\.)+=(?:[^\s,\\]|\\.)+)*)"
    r" (?P<fields>.+?)(?: (?P<time>-?\d+))?\s*$"
)
_FIELD = re.compile(r'((?:[^\s,=\\]|\\.)+)=("(?:[^"\\]|\\.)*"|[^,\s]+)(?:,|$)')


def looks(start: Head) -> bool:
    """Whether it is one of the three."""
    if start.is_binary or files.is_dump(start):
        return False
    lines = [line for line in start.lines[:40] if line and not line.startswith("#")]
    if not lines:
        return False
    first = lines[0]
    names = first.split(",")
    if "_time" in names and "_field" in names:
        return True
    if {"time", "battery_voltage", "soc"} <= set(names):
        return True
    found = _LINE.match(first)
    return found is not None and found["time"] is not None and bool(_FIELD.match(found["fields"]))


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The records of all files."""
    for place, path in enumerate(paths):
        start = files.head(path)
        data = [line for line in start.lines[:40] if line and not line.startswith("#")]
        names = data[0].split(",") if data else []
        if "_time" in names:
            points = _flux(path)
        elif "time" in names:
            points = _wide(path, options)
        else:
            points = _protocol(path)
        reader = _mapped(options) if options.mapping and options.mapping.column else _known(options)
        for line, ms, measurement, fields in points:
            if isinstance(ms, str):
                yield place, Refused(line, ms)
                continue
            for record in reader(line, ms, measurement, fields):
                yield place, record


Fields = Mapping[str, str | float | bool]
Point = tuple[int, "int | str", str, Fields]
"""Line, time or why there is none, measurement, fields."""


class _known:  # noqa: N801 - stands for a function with a memory
    """What the fields of a PL mean."""

    def __init__(self, options: Options) -> None:
        self._device = options.devices["pl80"]

    def __call__(self, line: int, ms: int, measurement: str, fields: Fields) -> Iterator[Record]:
        values: dict[str, Value] = {}
        for field, value in fields.items():
            if field in FIELDS:
                try:
                    number = files.number(str(value))
                except ValueError:
                    yield Refused(line, f"{field}: {value!r} is no number")
                    continue
                if number is not None:
                    values[FIELDS[field]] = number
            elif field == "regulator_state" and (word := _state(value)) is not None:
                values["regulator_state"] = word
        if values:
            yield Row(line, ms, self._device, values)


def _state(value: str | float | bool) -> str | None:
    """The regulator's state from its word or, as PostgreSQL had it first, its number."""
    text = str(value).strip().lower()
    if text in STATES:
        return text
    return STATES[int(float(text))] if re.fullmatch(r"[0-3](\.0*)?", text) else None


class _mapped:  # noqa: N801 - stands for a function with a memory
    """Fields of any measurement under the owner's mapping."""

    def __init__(self, options: Options) -> None:
        mapping = options.mapping
        assert mapping is not None  # noqa: S101 - the caller asked
        self._names = [str(column.name) for column in mapping.column]
        targets = [
            (index, target(column, options.devices.get("pl80"), None))
            for index, column in enumerate(mapping.column)
        ]
        self._extractor = Extractor(targets, options.site_zone)

    def __call__(self, line: int, ms: int, measurement: str, fields: Fields) -> Iterator[Record]:
        cells: list[str | float | None] = []
        for name in self._names:
            plain = name.removeprefix(f"{measurement}.")
            value = fields.get(plain)
            cells.append(str(value).lower() if isinstance(value, bool) else value)
        yield from self._extractor.records(line, ms, cells)


def _protocol(path: Path) -> Iterator[Point]:
    with files.text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith(("#", "CREATE DATABASE")):
                continue
            found = _LINE.match(line)
            if found is None:
                yield number, "is no line protocol", "", {}
                continue
            if found["time"] is None:
                yield number, "carries no time", "", {}
                continue
            fields: dict[str, str | float | bool] = {}
            for key, text in _FIELD.findall(found["fields"]):
                fields[key.replace("\\", "")] = _value(text)
            yield number, _epoch(found["time"]), found["measurement"].replace("\\", ""), fields


def _value(text: str) -> str | float | bool:
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text in ("t", "T", "true", "True", "TRUE"):
        return True
    if text in ("f", "F", "false", "False", "FALSE"):
        return False
    try:
        return float(text.rstrip("iu"))
    except ValueError:
        return text


def _epoch(text: str) -> int:
    """A number of seconds, or of thousandths, millionths, billionths: the length tells [ms]."""
    digits = len(text.lstrip("-"))
    number = int(text)
    if digits <= 11:
        return number * 1000
    if digits <= 14:
        return number
    return number // (1000 if digits <= 17 else 1_000_000)


def _flux(path: Path) -> Iterator[Point]:
    """The annotated CSV of version 2: one field a line, tables with a header each."""
    header: list[str] | None = None
    with files.text(path) as file:
        reader = csv.reader(file)
        for cells in reader:
            line = reader.line_num
            if not cells or cells[0].startswith("#"):
                header = None if cells else header
                continue
            if "_time" in cells:
                header = cells
                continue
            if header is None:
                continue
            row = dict(zip(header, cells, strict=False))
            try:
                ms = times.parser("iso", times.LocalTimes(UTC))(row["_time"])
            except (KeyError, ValueError) as err:
                yield line, f"time: {err}", "", {}
                continue
            if row.get("_value"):
                yield line, ms, row.get("_measurement", ""), {row.get("_field", ""): row["_value"]}


def _wide(path: Path, options: Options) -> Iterator[Point]:
    """The CSV of version 1, and of PostgreSQL's table."""
    layout = files.layout(path, header=True)
    header = list(layout.header or ())
    at = header.index("time") if "time" in header else -1
    if at < 0:
        raise ImportRefusedError(f"{path}: has no column time")
    local = times.LocalTimes(options.zone)
    for line, cells in files.rows(path, layout):
        row = {name: cell for name, cell in zip(header, cells, strict=False) if cell != ""}
        text = row.pop("time", "")
        try:
            ms = _epoch(text) if re.fullmatch(r"\d+", text) else times.parser("iso", local)(text)
        except ValueError as err:
            yield line, f"time: {err}", "", {}
            continue
        yield line, ms, row.pop("name", ""), row


FORMAT = Format(
    "pl80-influx",
    "points of solar-battery-monitoring (InfluxDB)",
    looks,
    read,
    roles=(Role("pl80", "pl80", "pl80"),),
)
