"""Imports without what they drag in, for processes of which a small board runs a dozen."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

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
