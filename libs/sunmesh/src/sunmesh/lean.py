"""Little memory, for processes of which a small board runs a dozen.

Imports without what they drag in, and a heap that goes back to the system.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3
"""glibc's ``mallopt``: how many heaps threads may make; from which size on memory is mapped."""
MAPPED = 1 << 17
"""What is larger goes back at once: argon2 takes 19 MiB for each password, a page a few 100 kB."""

Held = tuple[str, ...] | Mapping[str, object] | None


@contextmanager
def without(*names: str, **holding: Held) -> Iterator[None]:
    """Import libraries inside the block as if some modules had nothing in them.

    For modules that a library imports at its top and needs for features that the mesh does not
    use. Outside of the block they import as ever; what is loaded already stays.

    Args:
        names: modules that seem empty.
        holding: modules that seem to hold only this: names of exceptions, which the library writes
            into an ``except`` that is evaluated whenever something else is raised; or names with
            what they stand for. None: the module seems not to be installed.
    """
    wanted: dict[str, Held] = dict.fromkeys(names, ()) | holding
    # None is how Python itself says that a module is not there
    stand_ins: dict[str, Any] = {name: _stand_in(name, held) for name, held in wanted.items()}
    added = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def _stand_in(name: str, held: Held) -> ModuleType | None:
    if held is None:
        return None
    module = ModuleType(name)
    if not isinstance(held, Mapping):
        held = {each: type(each, (OSError,), {}) for each in held}
    vars(module).update(held)
    return module


def share_heap() -> None:
    """One heap for all threads: each of glibc's own would keep some MiB that nobody uses."""
    with suppress(OSError, AttributeError):
        _libc().mallopt(M_ARENA_MAX, 1)
        _libc().mallopt(M_MMAP_THRESHOLD, MAPPED)


def give_back() -> None:
    """What was needed for a moment goes back to the system."""
    with suppress(OSError, AttributeError):
        _libc().malloc_trim(0)


def _libc() -> Any:  # noqa: ANN401 - its functions
    import ctypes  # not in a collector

    return ctypes.CDLL(None)
