"""The state file: where a house is kept between history and the live run, and between runs."""

import json
import logging
from pathlib import Path

from .config import House
from .faults import Calendar
from .world import DAY_S, World

log = logging.getLogger(__name__)

WARM_UP_S = 2.0 * DAY_S
"""A house without a saved past is stepped this long before the moment that is wanted."""
FINE_GAP_S = 3.0 * DAY_S
LONGEST_GAP_S = 400.0 * DAY_S


def save(world: World, path: Path) -> None:
    """Write the state so that a crash leaves the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(world.state()) + "\n", encoding="utf-8")
    fresh.replace(path)


def load(world: World, path: Path) -> bool:
    """Put the saved state into ``world``; False where there is none that fits, said in the log."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except OSError as err:
        log.warning("%s cannot be read (%s); the house starts anew", path, err.strerror)
        return False
    try:
        state = json.loads(text)
        if not isinstance(state, dict):
            raise ValueError("no JSON object")
        world.restore(state)
    except ValueError as err:  # JSON errors are ValueErrors
        log.warning("%s is no state of this house (%s); the house starts anew", path, err)
        return False
    return True


def world_at(house: House, calendar: Calendar, now: float, path: Path | None) -> World:
    """The house at ``now``: gone on from the saved state, or warmed up without one.

    What happened while nobody looked is stepped through, so counters and battery have no seam. A
    state from the future (a run at higher speed was ahead of the clock) keeps its battery and
    counters and is dated ``now``.
    """
    world = World(house, now, calendar=calendar)
    if path is not None and load(world, path) and now - world.time <= LONGEST_GAP_S:
        world.time = min(world.time, now)
        world.advance(now - FINE_GAP_S, 300.0)
        world.advance(now, 60.0)
        return world
    settings = world.settings
    world = World(house, now - WARM_UP_S, settings=settings, calendar=calendar)
    world.advance(now, 300.0)
    return world
