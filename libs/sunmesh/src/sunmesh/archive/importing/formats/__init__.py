"""The formats, one module each, and which one a file seems to be."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from .. import files
from ..records import Format, ImportRefusedError

_MODULES = (
    "own",
    "homeassistant",
    "emoncms",
    "axpertbms",
    "portal",
    "plantdata",
    "pl80",
    "pvs6",
    "table",
)
"""In the order in which files are tried against them; the most general last."""


def every() -> dict[str, Format]:
    """All formats by name."""
    found = (import_module(f"{__name__}.{name}").FORMAT for name in _MODULES)
    return {each.name: each for each in found}


def named(name: str) -> Format:
    """The format of that name.

    Raises:
        ImportRefusedError: there is none.
    """
    known = every()
    if name not in known:
        raise ImportRefusedError(f"{name!r} is no format; known are {', '.join(known)}")
    return known[name]


def looks_like(path: Path) -> Format | None:
    """The format that a file seems to be; None when it could be anything."""
    start = files.head(path)
    return next((each for each in every().values() if each.looks(start)), None)


def check(chosen: Format, paths: Iterable[Path]) -> None:
    """See that files are what they are called.

    Raises:
        ImportRefusedError: one is not; names what it looks like.
    """
    for path in paths:
        start = files.head(path)
        if chosen.looks(start):
            continue
        other = looks_like(path)
        hint = f"; this looks like {other.title} ({other.name})" if other else ""
        raise ImportRefusedError(f"{path}: is not {chosen.title}{hint}")
