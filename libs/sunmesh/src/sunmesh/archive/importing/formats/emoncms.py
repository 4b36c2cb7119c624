"""emoncms: PHPFina (``7.dat`` with ``7.meta``), PHPTimeSeries (``feed_7.MYD``), and its CSV.

A mapping says what each feed is: a column's name is the feed's number, which is the file's name.
PHPFina: 16 bytes of meta (twice nothing, interval [s], start [s]), then a float each interval, NaN
where there was none. PHPTimeSeries: 9 bytes a reading, of them a mark, the time [s], a float.
"""

import json
import math
import re
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .. import files, times
from ..columns import Extractor
from ..mapping import Column, Mapping, Target, target
from ..records import Format, Head, ImportRefusedError, Options, Record, Refused
from ..units import in_header, known
from . import table

READINGS = 4096
_READING = struct.Struct("<BIf")
_META = struct.Struct("<4I")


def looks(start: Head) -> bool:
    """Whether it is one of its files."""
    suffix = start.path.suffix.lower()
    if suffix == ".meta":
        return len(start.data) in (16, 20)
    if suffix == ".dat":
        return start.path.with_suffix(".meta").exists()
    if suffix == ".myd":
        return len(start.data) < 9 or start.data[0] == 249
    if start.is_binary:
        return False
    first = start.lines[0] if start.lines else ""
    return bool(re.fullmatch(r"\d{9,10}[,;\t]\s*(-?[\d.,]+|null)\s*", first))


def read(paths: list[Path], options: Options) -> Iterator[tuple[int, Record]]:
    """The records of all feeds."""
    if options.mapping is None or not options.mapping.column:
        raise ImportRefusedError(
            "feeds need a mapping: --mapping FILE, or --column 7=device.quantity; "
            "--guess proposes one"
        )
    columns = {str(column.name): column for column in options.mapping.column}
    known = [(place, path) for place, path in enumerate(paths) if path.suffix.lower() != ".meta"]
    for place, path in known:
        feed = feed_of(path)
        column = columns.get(feed)
        if column is None:
            raise ImportRefusedError(f"{path}: the mapping has no column for feed {feed}")
        goal = target(column, options.devices.get("device"), None)
        for record in _read_one(path, goal, options):
            yield place, record


def feed_of(path: Path) -> str:
    """A feed's number, or the name of its file."""
    found = re.search(r"(\d+)", path.stem)
    return found[1] if found else path.stem


def _read_one(path: Path, goal: Target, options: Options) -> Iterator[Record]:
    extractor = Extractor([(0, goal)], options.site_zone)
    for line, ms, value in _readings(path, options):
        if isinstance(ms, str):
            yield Refused(line, ms)
        else:
            yield from extractor.records(line, ms, [value])


def _readings(path: Path, options: Options) -> Iterator[tuple[int, int | str, float | None]]:
    suffix = path.suffix.lower()
    if suffix == ".dat":
        return _fina(path)
    if suffix == ".myd":
        return _series(path)
    return _csv(path, options)


def _fina(path: Path) -> Iterator[tuple[int, int | str, float | None]]:
    meta = path.with_suffix(".meta")
    head = files.head(meta).data
    if len(head) < _META.size:
        raise ImportRefusedError(f"{meta}: is too short")
    _id, _points, interval, start = _META.unpack_from(head)
    if not 1 <= interval <= 86400 * 366 or not start:
        raise ImportRefusedError(f"{meta}: an interval of {interval} s from {start} makes no sense")
    number = 0
    with files.binary(path) as file:
        while block := file.read(4 * READINGS):
            for (value,) in struct.iter_unpack("<f", block[: len(block) // 4 * 4]):
                if not math.isnan(value):
                    yield number + 1, (start + number * interval) * 1000, short(value)
                number += 1


def _series(path: Path) -> Iterator[tuple[int, int | str, float | None]]:
    number = 0
    with files.binary(path) as file:
        while block := file.read(_READING.size * READINGS):
            whole = len(block) // _READING.size * _READING.size
            for mark, seconds, value in _READING.iter_unpack(block[:whole]):
                number += 1
                if mark != 249:
                    yield number, f"begins with {mark} instead of 249", None
                elif not math.isnan(value):
                    yield number, seconds * 1000, short(value)


def short(value: float) -> float:
    """A 4-byte float as the number that was meant: 0.1, not 0.10000000149."""
    return float(f"{value:.7g}")


def _csv(path: Path, options: Options) -> Iterator[tuple[int, int | str, float | None]]:
    layout = files.layout(path)
    some = [cells[0] for _line, cells in islice(files.rows(path, layout), table.FIRST)]
    try:
        read_time = times.parser(times.form_of(some), times.LocalTimes(options.zone))
    except ValueError as err:
        raise ImportRefusedError(f"{path}: times: {err}") from err
    for line, cells in files.rows(path, layout):
        try:
            ms = read_time(cells[0])
            yield line, ms, files.number(cells[1], layout.decimal)
        except (ValueError, IndexError) as err:
            yield line, str(err), None


def guess(paths: list[Path], options: Options) -> Mapping:
    """A mapping from ``feeds.json``, as emoncms' API gives it, where that lies beside."""
    device = options.devices.get("device") or "emoncms"
    columns = []
    for path in paths:
        feed = feed_of(path)
        if path.suffix.lower() == ".meta":
            continue
        name, unit = _named(path.parent, feed)
        quantity = table.quantity_for(name, unit) or "load_power_w"
        columns.append(Column(feed, to=f"{device}.{quantity}", unit=unit))
    return Mapping(columns)


def _named(folder: Path, feed: str) -> tuple[str, str | None]:
    for place in (folder, folder.parent):
        try:
            listed: list[dict[str, Any]] = json.loads((place / "feeds.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        for each in listed:
            if str(each.get("id")) == feed:
                name, unit = in_header(f"{each.get('tag', '')} {each.get('name', '')}".strip())
                return name, unit or known(str(each.get("unit", "") or "?"))
    return feed, None


FORMAT = Format("emoncms", "feeds of emoncms", looks, read, guess, (table.DEVICE,))
