"""Imports without what they drag in, for processes of which a small board runs a dozen."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without(*names: str, **exceptions: tuple[str, ...]) -> Iterator[None]:
    """Import libraries inside the block as if some modules had nothing in them.

    For modules that a library imports at its top and needs for features that the mesh does not
    use. Outside of the block they import as ever; what is loaded already stays.

    Args:
        names: modules that seem empty.
        exceptions: modules that seem to hold only these exceptions, which the library names in an
            ``except`` that is evaluated whenever something else is raised.
    """
    stand_ins = {name: ModuleType(name) for name in (*names, *exceptions)}
    for name, classes in exceptions.items():
        vars(stand_ins[name]).update({each: type(each, (OSError,), {}) for each in classes})
    added = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]
