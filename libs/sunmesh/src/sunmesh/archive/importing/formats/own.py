"""What ``sunmesh export`` wrote: JSON lines, or CSV, long or wide."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....clock import epoch_ms, parse
from ....database.tables import BUCKET_MS, FLOWS
from ....vocabulary import VOCABULARY, Kind
from .. import files
from ..records import Energy, Format, Head, ImportRefusedError, Options, Record, Refused, Row

LONG = ("time", "device", "quantity", "unit", "value")
ENERGY = ("time", "flow", "Wh", "source", "flag", "covered_s")
ROLLUP = ("time", "device", "quantity", "unit", "min", "max", "mean", "last", "covered_s")


def looks(start: Head) -> bool:
    """Whether we wrote it."""
    first = start.lines[0] if start.lines else ""
    if first.startswith('{"sunmesh":"export"'):
        return True
    names = tuple(first.split(","))
    return names in (LONG, ENERGY, ROLLUP) or (
        names[0] == "time" and len(names) > 1 and all(_wide(name) for name in names[1:])
    )


_WIDE = re.compile(
    r"(?:flow (?P<flow>\w+)|(?P<device>[a-z0-9-]{1,32})\.(?P<name>[\w.-]+(?:/\d+)?)) "
    r"\[[^\]]*\](?P<mean> mean of the (?P<level>\w+))?"
)


def _wide(name: str) -> tuple[str, str] | None:
    """Device and quantity of a column of a wide file; the device of a flow is empty."""
    found = _WIDE.fullmatch(name)
    if found is None or (found["flow"] and found["flow"] not in FLOWS):
        return None
    return ("", found["flow"]) if found["flow"] else (found["device"], found["name"])


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The samples, states and energies in them."""
    for place, path in enumerate(paths):
        start = files.head(path)
        reader = _lines if start.text.startswith("{") else _table
        for record in reader(path):
            yield place, record


def _lines(path: Path) -> Iterator[Record]:
    with files.text(path, "utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                item = json.loads(line)
                if number == 1:
                    _check_level(path, item.get("level"))
                elif "flow" in item:
                    yield _energy(number, item["time"], item["flow"], item["wh"])
                else:
                    yield _row(number, item["time"], item["device"], item["quantity"], item)
            except (ValueError, KeyError, TypeError, AttributeError) as err:
                yield Refused(number, f"is no line of an export ({err})")


def _check_level(path: Path, level: str | None) -> None:
    if level not in ("raw", "energy"):
        raise ImportRefusedError(
            f"{path}: holds figures of a {level}; only raw values and energies can be taken back"
        )


def _row(number: int, time: str, device: str, quantity: str, item: dict[str, Any]) -> Row:
    value = item["value"]
    known = VOCABULARY.get(quantity.partition("/")[0])
    if known is not None and known.kind is not Kind.STATE:
        value = float(value)
    return Row(number, epoch_ms(parse(time)), device, {quantity: value})


def _energy(number: int, time: str, flow: str, wh: float) -> Energy | Refused:
    if flow not in FLOWS:
        return Refused(number, f"{flow!r} is no flow")
    start = epoch_ms(parse(time))
    return Energy(number, flow, start, start + BUCKET_MS, float(wh))


def _table(path: Path) -> Iterator[Record]:
    layout = files.layout(path, ",", ".", True)
    names = layout.header or ()
    if names == ROLLUP:
        _check_level(path, "minute, hour or day")
    for name in names:
        if (found := _WIDE.fullmatch(name)) and found["mean"]:
            _check_level(path, found["level"])
    wide = [_wide(name) for name in names]
    for number, cells in files.rows(path, layout):
        try:
            if names == LONG:
                yield _row(number, cells[0], cells[1], cells[2], {"value": cells[4]})
            elif names == ENERGY:
                yield _energy(number, cells[0], cells[1], float(cells[2]))
            else:
                yield from _wide_rows(number, cells, wide)
        except (ValueError, IndexError) as err:
            yield Refused(number, f"is no line of an export ({err})")


def _wide_rows(
    number: int, cells: list[str], wide: list[tuple[str, str] | None]
) -> Iterator[Record]:
    for cell, column in zip(cells[1:], wide[1:], strict=True):
        if cell and column is not None:
            device, name = column
            if device:
                yield _row(number, cells[0], device, name, {"value": cell})
            else:
                yield _energy(number, cells[0], name, float(cell))


FORMAT = Format("sunmesh", "an export of sunmesh", looks, read)
