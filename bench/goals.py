"""How a measured number stands beside its floor and its goal."""

from statistics import median


def ratio(values: list[float], floors: list[float], goal: float, unit: str) -> dict[str, object]:
    """``values`` against ``floors`` of the same run, by their medians; the goal is a ratio."""
    value, floor = median(values), median(floors)
    return {
        "value": round(value, 5),
        "floor": round(floor, 5),
        "unit": unit,
        "ratio": round(value / floor, 4),
        "goal_ratio": goal,
        "runs": len(values),
        "min": round(min(values), 5),
        "max": round(max(values), 5),
        "met": value / floor <= goal,
    }


def at_most(value: float, goal: float, unit: str, **more: object) -> dict[str, object]:
    """``value`` against an absolute goal."""
    return {"value": round(value, 3), "unit": unit, "goal": goal, "met": value <= goal, **more}


def at_least(value: float, goal: float, unit: str, **more: object) -> dict[str, object]:
    """``value`` against an absolute goal from below."""
    return {"value": round(value, 3), "unit": unit, "goal": goal, "met": value >= goal, **more}


def ratio_at_least(
    values: list[float], floors: list[float], goal: float, unit: str
) -> dict[str, object]:
    """``values`` against ``floors`` as :func:`ratio`, where more is better."""
    row = ratio(values, floors, goal, unit)
    return row | {"met": median(values) / median(floors) >= goal}
