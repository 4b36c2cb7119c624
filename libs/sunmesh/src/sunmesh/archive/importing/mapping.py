"""A mapping: which column of a file is which quantity or flow; TOML, or made of arguments."""

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...database.tables import FLOWS
from ...topics import NAME
from ...vocabulary import VOCABULARY, Kind, Quantity
from . import units
from .records import ImportRefusedError

PERIODS = {"5min": 300_000, "15min": 900_000, "30min": 1_800_000, "hour": 3_600_000}
"""Lengths that are the same on every day [ms]; ``day`` is the site's own."""


class TimeColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the time stands; ``column`` is a name, a number from 1, or several joined by a space.

    ``format`` is ``auto``, ``iso``, ``unix``, ``unix_ms``, ``compact`` or strptime's.
    """

    column: str | int | list[str | int] = 1
    format: str = "auto"
    zone: str | None = None


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column, feed, field or statistic.

    Attributes:
        name: of the column; a number counts from 1.
        to: ``device.quantity``, or ``quantity`` of the device that ``--device`` names.
        flow: a flow of the energy books instead, for each ``period``.
        period: ``5min``, ``15min``, ``30min``, ``hour``, ``day``; or ``total`` for a running total,
            of which differences are taken.
        at: whether the time is the start or the end of the period.
        unit: of the column; by default the one in its header, else the quantity's.
        factor, offset: ``value * factor + offset`` is in the quantity's unit; instead of ``unit``.
        only: ``positive`` or ``negative`` values, as a positive number; the others are 0.
        words: for states, from the file's to ours.
        value: of a statistic, ``mean``, ``state`` or ``sum``.
    """

    name: str | int
    to: str | None = None
    flow: str | None = None
    period: str | None = None
    at: Literal["start", "end"] = "start"
    unit: str | None = None
    factor: float | None = None
    offset: float = 0.0
    only: Literal["positive", "negative"] | None = None
    words: dict[str, str] = {}
    value: Literal["mean", "state", "sum"] | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if (self.to is None) == (self.flow is None):
            raise ValueError(f"column {self.name!r} needs one of to and flow")
        if self.flow is not None and self.flow not in FLOWS:
            raise ValueError(f"flow must be one of {', '.join(FLOWS)}, got {self.flow!r}")
        if self.period is not None and self.period not in (*PERIODS, "day", "total"):
            raise ValueError(
                f"period must be one of {', '.join(PERIODS)}, day, total, got {self.period!r}"
            )
        if self.unit is not None and self.factor is not None:
            raise ValueError(f"column {self.name!r} has both unit and factor")


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole of it."""

    column: list[Column] = []
    time: TimeColumn = TimeColumn()
    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None
    header: bool | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a column's values go, and how they get there.

    Attributes:
        column: as mapped.
        device, name, quantity: of a series; ``name`` may end in ``/3``.
        factor, offset: to the quantity's unit, or to Wh.
    """

    column: Column
    device: str
    name: str
    quantity: Quantity | None
    factor: float
    offset: float

    @property
    def is_state(self) -> bool:
        """Whether its values are words."""
        return self.quantity is not None and self.quantity.kind is Kind.STATE

    def number(self, value: float) -> float:
        """``value`` in our unit."""
        result = value * self.factor + self.offset
        if self.column.only == "positive":
            return max(0.0, result)
        if self.column.only == "negative":
            return max(0.0, -result)
        return result

    def word(self, text: str) -> str:
        """A state in our words."""
        return self.column.words.get(text.strip(), text.strip())


def target(column: Column, default_device: str | None, unit_in_header: str | None) -> Target:
    """Check a column and find its conversion.

    Raises:
        ImportRefusedError: unknown quantity or device, or a unit that does not fit.
    """
    where = f"column {column.name!r}"
    if column.flow is not None:
        factor, offset = _conversion(where, column, unit_in_header, "Wh", "kWh")
        return Target(column, "", column.flow, None, factor, offset)
    device, dot, name = (column.to or "").rpartition(".")
    if not dot:
        device = default_device or ""
    if not NAME.fullmatch(device):
        raise ImportRefusedError(
            f"{where}: {column.to!r} names no device; write device.quantity, or give --device"
        )
    quantity = quantity_of(name, where)
    if quantity.kind is Kind.STATE:
        return Target(column, device, name, quantity, 1.0, 0.0)
    factor, offset = _conversion(where, column, unit_in_header, quantity.unit, quantity.unit)
    return Target(column, device, name, quantity, factor, offset)


def quantity_of(name: str, where: str) -> Quantity:
    """The vocabulary's entry for a series' name.

    Raises:
        ImportRefusedError: there is none.
    """
    base, slash, element = name.partition("/")
    quantity = VOCABULARY.get(base)
    if quantity is None:
        close = get_close_matches(base, VOCABULARY, 1)
        hint = f"; did you mean {close[0]}?" if close else "; docs/telemetry.md has all of them"
        raise ImportRefusedError(f"{where}: {base!r} is no quantity that is known{hint}")
    if (quantity.kind is Kind.LIST) != bool(slash) or (
        slash and not re.fullmatch(r"[1-9]\d{0,2}", element)
    ):
        raise ImportRefusedError(
            f"{where}: {base} is a list, write {base}/1"
            if quantity.kind is Kind.LIST
            else f"{where}: {base} is no list"
        )
    return quantity


def _conversion(
    where: str, column: Column, in_header: str | None, wanted: str, usual: str
) -> tuple[float, float]:
    if column.factor is not None:
        return column.factor, column.offset
    given = column.unit or in_header or usual
    try:
        factor, offset = units.conversion(given, wanted)
    except ValueError as err:
        raise ImportRefusedError(f"{where}: {err}") from err
    return factor, offset + column.offset


def load(path: Path) -> Mapping:
    """A mapping from its file.

    Raises:
        ImportRefusedError: it cannot be read or makes no sense.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Mapping)
    except OSError as err:
        raise ImportRefusedError(f"{path}: cannot be read ({err.strerror})") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as err:
        raise ImportRefusedError(f"{path}: {err}") from err


def from_words(word: str) -> Column:
    """A column as ``--column`` gives it: ``NAME=TARGET[,key=value…]``.

    ``TARGET`` is ``device.quantity``, or ``flow:NAME`` or ``flow:NAME:PERIOD``.

    Raises:
        ImportRefusedError: it has another form.
    """
    name, equals, rest = word.partition("=")
    wanted, *options = rest.split(",")
    if not equals or not name or not wanted:
        raise ImportRefusedError(f"--column {word!r}: write NAME=device.quantity")
    given: dict[str, Any] = {"name": int(name) if name.isdecimal() else name}
    if wanted.startswith("flow:"):
        given["flow"], _, period = wanted.removeprefix("flow:").partition(":")
        if period:
            given["period"] = period
    else:
        given["to"] = wanted
    for option in options:
        key, _, value = option.partition("=")
        given[key] = value
    try:
        return msgspec.convert(given, Column, strict=False)
    except msgspec.ValidationError as err:
        raise ImportRefusedError(f"--column {word!r}: {err}") from err


def to_toml(mapping: Mapping, comment: str = "") -> str:
    """A mapping as its file."""
    lines = [f"# {line}" for line in comment.splitlines()]
    plain: dict[str, Any] = msgspec.to_builtins(mapping)
    for key in ("separator", "decimal", "encoding", "header", "skip"):
        if key in plain:
            lines.append(f"{key} = {_toml(plain[key])}")
    if mapping.time != TimeColumn():
        lines += ["", "[time]"]
        lines += [
            f"{key} = {_toml(value)}"
            for key, value in msgspec.to_builtins(mapping.time).items()
            if value is not None
        ]
    for column in plain.get("column", []):
        lines += ["", "[[column]]"]
        lines += [f"{key} = {_toml(value)}" for key, value in column.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # a JSON string is a TOML basic string
    return repr(value)
