"""``site.toml`` changed without losing what its owner wrote: comments, order, tables of others.

Lines are exchanged where that can be proved to give what was meant; else the whole file is written
anew, and says so.
"""

import datetime
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sunmesh import config
from sunmesh.errors import ConfigError, SunmeshError
from sunmesh.house import EnergySection

from ..battery.profile import BatteryProfile
from ..config import WebConfig

Tables = Mapping[str, Mapping[str, Any]]
"""What shall be: by the table's dotted name its keys and values; None as a value removes a key."""

HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?")
ANY_HEADER = re.compile(r"\s*\[")
BARE = re.compile(r"[A-Za-z0-9_-]+")


class WriteError(SunmeshError):
    """The file cannot be written, or would not be valid; the text says why."""


def value(found: object) -> str:
    """A value as TOML writes it.

    Raises:
        ValueError: nothing that TOML knows.
    """
    match found:
        case bool():
            return "true" if found else "false"
        case int() | float():
            return repr(found)
        case str():
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
            return json.dumps(found, ensure_ascii=False).replace("\x7f", "\\u007f")
        case datetime.date() | datetime.datetime():
            return found.isoformat()
        case list() | tuple():
            return f"[{', '.join(value(item) for item in found)}]"
        case Mapping():
            if not found:
                return "{}"
            inside = ", ".join(f"{key(name)} = {value(item)}" for name, item in found.items())
            return f"{{ {inside} }}"
    raise ValueError(f"{type(found).__name__} is no TOML")


def key(name: str) -> str:
    """A key, quoted where it must be."""
    return name if BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def merged(document: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    """``document`` with the changes, as Python values."""
    result: dict[str, Any] = json_copy(document)
    for path, values in tables.items():
        place = result
        for part in path.split("."):
            place = place.setdefault(part, {})
        for name, item in values.items():
            if item is None:
                place.pop(name, None)
            else:
                place[name] = _plain(item)
    return result


def json_copy(item: Any) -> Any:  # noqa: ANN401 - TOML
    """A copy whose inner tables and lists are copies, too."""
    if isinstance(item, dict):
        return {name: json_copy(inner) for name, inner in item.items()}
    if isinstance(item, list):
        return [json_copy(inner) for inner in item]
    return item


def _plain(item: Any) -> Any:  # noqa: ANN401 - TOML
    if isinstance(item, Mapping):
        return {name: _plain(inner) for name, inner in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(inner) for inner in item]
    return item


def change(text: str, tables: Tables) -> str:
    """``text`` with the changes.

    Raises:
        WriteError: ``text`` is no TOML.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise WriteError(f"it is no TOML now: {err}") from err
    wanted = merged(document, tables)
    changed = text
    for path, values in tables.items():
        changed = _edit(changed, path, values)
    try:
        if tomllib.loads(changed) == wanted:
            return changed
    except tomllib.TOMLDecodeError:
        pass
    head = "# Written by the portal's Setup; the comments are in the copy of the old file.\n"
    return head + "".join(_written(wanted))


def _edit(text: str, path: str, values: Mapping[str, Any]) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    start, end = _table(lines, path)
    new = {name: item for name, item in values.items() if item is not None}
    if start is None:
        if not new and any(item is None for item in values.values()):
            return text
        gap = "\n" if lines and lines[-1].strip() else ""
        body = "".join(f"{key(name)} = {value(item)}\n" for name, item in new.items())
        return "".join(lines) + f"{gap}[{path}]\n{body}"
    for name, item in values.items():
        at = _line_of(lines, start, end, name)
        if at is not None and item is None:
            del lines[at]
            end -= 1
        elif at is not None:
            comment = _comment(lines[at])
            lines[at] = f"{key(name)} = {value(item)}{comment}\n"
        elif item is not None:
            last = end
            while last > start + 1 and not lines[last - 1].strip():
                last -= 1
            lines.insert(last, f"{key(name)} = {value(item)}\n")
            end += 1
    return "".join(lines)


def _table(lines: list[str], path: str) -> tuple[int | None, int]:
    """The line of the table's header, and the first line after the table."""
    start = None
    for number, line in enumerate(lines):
        if not ANY_HEADER.match(line) or (start is None and not HEADER.fullmatch(line.rstrip())):
            continue
        if start is not None:
            return start, number
        header = HEADER.fullmatch(line.rstrip())
        if header is not None and header[1].replace(" ", "") == path:
            start = number
    return start, len(lines)


def _line_of(lines: list[str], start: int, end: int, name: str) -> int | None:
    pattern = re.compile(rf"""\s*["']?{re.escape(name)}["']?\s*=""")
    return next((at for at in range(start + 1, end) if pattern.match(lines[at])), None)


def _comment(line: str) -> str:
    """The comment at a line's end, if it is surely one."""
    found = re.search(r"(\s+#[^\"']*)$", line.rstrip("\n"))
    return found[1] if found else ""


def _written(document: Mapping[str, Any], path: str = "") -> Iterator[str]:
    plain = {name: item for name, item in document.items() if not isinstance(item, dict)}
    inner = {name: item for name, item in document.items() if isinstance(item, dict)}
    if path and (plain or not inner):
        yield f"\n[{path}]\n"
    for name, item in plain.items():
        yield f"{key(name)} = {value(item)}\n"
    for name, item in inner.items():
        yield from _written(item, f"{path}.{key(name)}" if path else key(name))


# -- the file --------------------------------------------------------------------------------------


def is_writable(path: Path) -> bool:
    """Whether the portal may exchange the file."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def check(path: Path, text: str) -> None:
    """See that services would start with it.

    Args:
        path: of the file that it will be: relative names are seen from its folder.
        text: that it will hold.

    Raises:
        WriteError: they would not; the text names table, key and reason.
    """
    new = path.with_name(f".{path.name}.checked")
    try:
        _write(new, text)
        try:
            site = config.load(new, "web")
            site.section("web", WebConfig)
            site.section("energy", EnergySection)
            site.section("battery", BatteryProfile)
        except ConfigError as err:
            raise WriteError(str(err).replace(f"{new}: ", "")) from err
    except OSError as err:
        raise WriteError(f"{path.parent} cannot be written ({err.strerror})") from err
    finally:
        new.unlink(missing_ok=True)


def replace(path: Path, text: str, stamp: str) -> Path | None:
    """Exchange the file; where the copy of the old one is, None where there was none.

    Raises:
        WriteError: it would not be valid, or cannot be written; then nothing has changed.
    """
    check(path, text)
    copy = None
    new = path.with_name(f".{path.name}.new")
    try:
        if path.exists():
            copy = path.with_name(f"{path.name}.{stamp}")
            _write(copy, path.read_text(encoding="utf-8"))
        _write(new, text)
        if path.exists():
            new.chmod(path.stat().st_mode & 0o777)
        new.replace(path)
    except OSError as err:
        new.unlink(missing_ok=True)
        raise WriteError(f"{path} cannot be written ({err.strerror})") from err
    return copy


def _write(path: Path, text: str) -> None:
    """A file that only its owner reads, on the disk when this returns."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(number, "w", encoding="utf-8") as file:  # noqa: PTH123 - by its number
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def secret(folder: Path, name: str, text: str) -> str:
    """Keep a secret in a file beside the configuration; the file's name, as seen from there.

    Raises:
        WriteError: it cannot be written.
    """
    place = folder / "secrets"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        _write(place / name, text.strip() + "\n")
    except OSError as err:
        raise WriteError(f"{place / name} cannot be written ({err.strerror})") from err
    return f"secrets/{name}"
