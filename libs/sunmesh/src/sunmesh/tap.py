"""Where a link shows each exchange to whoever listens; mostly nobody does, which costs nothing.

Who listens is :mod:`sunmesh.trace`, which is loaded when somebody asks for raw answers.
"""

from collections.abc import Callable, Mapping
from typing import Any

Capture = Callable[[Any, Any], Mapping[str, object]]
"""What was asked and what came → one record of a capture file, as the family's ``record`` has it.

Serial numbers are blanked; ``error`` is the kind of damage, where the answer has some.
"""


class Tap:
    """A link calls it with what was asked and what came: nothing at all, after a time-out.

    Attributes:
        listener: gets both, in the thread that polls; None = nobody.
    """

    __slots__ = ("listener",)

    def __init__(self) -> None:
        """Nobody listens."""
        self.listener: Callable[[Any, Any], None] | None = None

    def __call__(self, asked: Any, came: Any) -> None:  # noqa: ANN401 - the family's own
        """One exchange is over."""
        if (listener := self.listener) is not None:
            listener(asked, came)
