"""What may be set, to what, and in which order. Pure."""

import math
from collections.abc import Mapping, Sequence

from ..errors import RefusedError
from ..messages import Range, Scalar, Value

Pair = tuple[str, str]
"""Two settings of which the first must never be above the second."""

NEARLY = 1e-6
"""Numbers that were decimal before they were binary are equal within that."""


def check(name: str, value: Value, takes: Range) -> Scalar:
    """``value`` in the form in which it is sent and read back.

    Raises:
        RefusedError: it is none of the choices, no number, out of range or between two steps.
    """
    if takes.choices:
        for choice in takes.choices:
            if same(value, choice):
                return choice
        raise RefusedError(f"{name}: {text(value)} is not among: {_listed(takes.choices)}")
    if takes.low is None or takes.high is None:
        raise RefusedError(f"{name}: what this device takes is not known")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"{name} is a number, not {text(value)}")
    low, high = takes.low, takes.high
    if not (math.isfinite(value) and low - NEARLY <= value <= high + NEARLY):
        unit = f" {takes.unit}" if takes.unit else ""
        raise RefusedError(f"{name} must be {low:g} to {high:g}{unit}, not {value:g}")
    if takes.step is None:
        return value
    steps = (value - low) / takes.step
    if abs(steps - round(steps)) > NEARLY * max(1.0, abs(steps)):
        raise RefusedError(f"{name} goes in steps of {takes.step:g}, not to {value:g}")
    stepped = round(float(low + round(steps) * takes.step), 6)
    return int(stepped) if float(takes.step).is_integer() and stepped.is_integer() else stepped


def confirmed(name: str, value: Value, confirm: Value, takes: Range) -> None:
    """See that what can do great harm was said twice.

    Raises:
        RefusedError: it was not.
    """
    if takes.risk == "danger" and not same(value, confirm):
        raise RefusedError(f"{name} can do great harm: say the value once more, as confirm")


def same(one: Value, other: Value) -> bool:
    """Whether two values mean the same; true is not 1, and None is nothing's equal."""
    if one is None or other is None or isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= NEARLY
    return one == other


def plan(
    current: Mapping[str, Value], wanted: Mapping[str, Value], pairs: Sequence[Pair]
) -> list[tuple[str, Value]]:
    """The settings of ``wanted`` in an order that keeps every pair at every instant.

    Lowering, the lower one goes first; raising, the upper one.

    Args:
        current: what the device has now.
        wanted: what it shall have, in the order of the wish.
        pairs: see :data:`Pair`.

    Raises:
        RefusedError: a pair would be broken, or the one that is not set is not known.
    """
    order = list(wanted)
    for lower, upper in pairs:
        if lower not in wanted and upper not in wanted:
            continue
        low, high = wanted.get(lower, current.get(lower)), wanted.get(upper, current.get(upper))
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            unknown = upper if isinstance(low, int | float) else lower
            raise RefusedError(f"{unknown} of the device is not known, and it is the limit here")
        if low > high + NEARLY:
            raise RefusedError(f"{lower} {low:g} would be above {upper} {high:g}")
        if lower in wanted and upper in wanted:
            before = current.get(upper)
            raises = not isinstance(before, int | float) or high > before
            first, second = (upper, lower) if raises else (lower, upper)
            at = min(order.index(lower), order.index(upper))
            order.remove(lower)
            order.remove(upper)
            order[at:at] = [first, second]
    return [(name, wanted[name]) for name in order]


def text(value: Value) -> str:
    """``value`` for a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(text(item) for item in value) + "]"
    if isinstance(value, str):
        return value if value.isprintable() and len(value) <= 60 else repr(value[:60])
    return "nothing" if value is None else str(value)


def _listed(choices: Sequence[Scalar]) -> str:
    return ", ".join(text(choice) for choice in choices)
