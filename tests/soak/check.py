"""What a soak run must show: nothing invented, every fault seen, no growth. Pure but for reading.

The simulator logs each world that it publishes with the real time; collectors stamp real time, too,
however fast the house's own clock runs. So each stored value is looked up by real time: some world
that the device can have shown at that moment must give exactly this value at the device's own
resolution, by the functions that write the history (``simulator.devices``).
"""

import json
import sqlite3
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from simulator import devices
from sunmesh import clock

BACK_MS = 12_000
"""A world may be so old when its value is stored: a second until the next is published, a round on
a slow line with its retries, on a machine that has other things to do."""
FORE_MS = 1_100
"""A gateway tells whole seconds, so what it measures just after is dated before."""
SLOW_MS = 90_000
"""Counters and demands that are read once a minute."""
SELDOM_MS = 720_000
"""What is read every ten minutes."""
CLOCK_S = 5.0
"""A clock is compared with ours in steps of two seconds, and after a while of reading."""

SLOW: Mapping[tuple[str, str], int] = {
    **dict.fromkeys(
        [("axpert", "pv_energy_total_kwh"), ("axpert", "load_energy_total_kwh")], SLOW_MS
    ),
    **{
        ("meter", f"grid_{name}"): SLOW_MS
        for name in (
            *("total_demand_w", "total_demand_max_w", "import_demand_w", "import_demand_max_w"),
            *("export_demand_w", "export_demand_max_w", "total_energy_kwh"),
            "total_reactive_energy_kvarh",
        )
    },
    **{
        ("pl80", name): SELDOM_MS
        for name in (
            *("battery_voltage_max_today_v", "battery_voltage_min_today_v"),
            "float_reached_hours",
        )
    },
}
"""Family and quantity → how old it may be."""


DERIVED = {("axpert", "pv_total_power_w")}
"""Sums of two answers, between which the world may have changed: of none, but between two."""

PRODUCTS = {("pl80", "charge_power_w"): ("battery_voltage_v", "charge_current_a")}
"""Products of two answers, rounded to 0.1: each may be of another world."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    what: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}: {self.detail}"


class WorldLog:
    """Every world that was published, by real time.

    Args:
        lines: of the simulator's log.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.worlds: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.ms = [clock.epoch_ms(clock.parse(world["real"])) for world in self.worlds]
        self._said: dict[tuple[str, str], list[dict[str, devices.Values] | None]] = {}

    @classmethod
    def read(cls, path: Path) -> "WorldLog":
        with path.open(encoding="utf-8") as file:
            return cls(line for line in file if line.endswith("}\n"))

    def between(self, first_ms: int, last_ms: int) -> range:
        """Places of the worlds that stood at some time between the two."""
        start = max(0, bisect_right(self.ms, first_ms) - 1)
        return range(start, bisect_right(self.ms, last_ms))

    def said(self, family: str, name: str, place: int) -> dict[str, devices.Values]:
        """What device ``name`` and those behind it said of the world at ``place``."""
        kept = self._said.setdefault((family, name), [None] * len(self.worlds))
        found = kept[place]
        if found is None:
            world = self.worlds[place]
            gone = devices.FAMILIES[family].away(world, name)
            read = devices.FAMILIES[family].read
            found = kept[place] = {} if gone else read(world, name)
        return found

    def faults(self) -> list[tuple[str, int, int]]:
        """Each fault with the real time of its begin and end [ms]."""
        running: dict[str, int] = {}
        found = []
        for ms, world in zip(self.ms, self.worlds, strict=True):
            now = {*world["faults"]}
            if world["shed.pl80_clock_offset_s"] <= -3000.0:
                now.add("summer_time_begins")
            for name in now - running.keys():
                running[name] = ms
            for name in running.keys() - now:
                found.append((name, running.pop(name), ms))
        found += [(name, begin, self.ms[-1]) for name, begin in running.items()]
        return sorted(found, key=lambda each: each[1])


# --- No invented value --------------------------------------------------------------------------


@dataclass(slots=True)
class Comparison:
    """How the stored values compare with the worlds.

    Attributes:
        compared: values by family.
        beyond: values that only the device knows, by family.
        violations: values that no world gives.
        devices: samples by device.
    """

    compared: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    devices: Counter[str] = field(default_factory=Counter)


def compare(
    log: WorldLog, families: Mapping[str, str], stored: Iterable[tuple[str, str, int, object]]
) -> Comparison:
    """Look up every stored value.

    Args:
        log: of the worlds.
        families: of the configured devices.
        stored: device, series, real time [ms], value: a number, or a state as text.
    """
    result = Comparison()
    owners = owners_of(log, families)
    for device, series, ms, value in stored:
        owner = owners.get(device)
        if owner is None:
            result.violations.append(Violation("unknown device", device, series))
            continue
        family = families[owner]
        name, _, element = series.partition("/")
        result.devices[device] += 1
        if family not in devices.FAMILIES:  # a relay's position is its own doing
            result.beyond[family] += 1
            continue
        if name in devices.FAMILIES[family].live_only:
            result.beyond[family] += 1
            continue
        result.compared[family] += 1
        back = SLOW.get((family, name), BACK_MS)
        said_then = [
            said[device]
            for place in log.between(ms - back, ms + FORE_MS)
            if device in (said := log.said(family, owner, place))
        ]
        shown = [values.get(name) for values in said_then]
        is_derived = (family, name) in DERIVED and _is_between(shown, value)
        if factors := PRODUCTS.get((family, name)):
            is_derived = _is_product(said_then, factors, value)
        if not is_derived and not any(_is_same(name, each, element, value) for each in shown):
            nearest = ", ".join(dict.fromkeys(str(each) for each in shown[-3:])) or "no world"
            detail = f"stored {value!r} at {clock.iso(clock.from_ms(ms))}, shown {nearest[:200]}"
            result.violations.append(Violation("invented", f"{device} {series}", detail))
    return result


def owners_of(log: WorldLog, families: Mapping[str, str]) -> dict[str, str]:
    """Device → the configured device through which it is read."""
    owners = {}
    for name, family in families.items():
        owners[name] = name
        if family not in devices.FAMILIES:
            continue
        for place in range(0, len(log.worlds), 20):
            owners |= dict.fromkeys(log.said(family, name, place), name)
    return owners


def _is_same(name: str, expected: object, element: str, value: object) -> bool:
    if isinstance(value, str):
        return as_text(expected) == value
    if isinstance(expected, list):
        index = int(element or 0) - 1
        expected = expected[index] if 0 <= index < len(expected) else None
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        return False
    assert isinstance(value, int | float)
    limit = CLOCK_S if name == "device_clock_offset_s" else 1e-9 * max(1.0, abs(value))
    return abs(expected - value) <= limit


def _is_between(shown: Iterable[object], value: object) -> bool:
    numbers = [each for each in shown if isinstance(each, int | float)]
    is_number = isinstance(value, int | float)
    return is_number and bool(numbers) and min(numbers) <= value <= max(numbers)


def _is_product(said: Iterable[Mapping[str, Any]], factors: tuple[str, str], value: object) -> bool:
    ones, others = (
        {each for values in said if isinstance(each := values.get(name), int | float)}
        for name in factors
    )
    return any(round(one * other, 1) == value for one in ones for other in others)


def as_text(value: object) -> str:
    """A state as the recorder stores it."""
    if isinstance(value, list):
        return ",".join(as_text(each) for each in value if each is not None)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def stored_in(database: Path) -> Iterable[tuple[str, str, int, object]]:
    """Every sample and state of a SQLite database of the recorder."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        for table in ("sample", "state"):
            yield from connection.execute(
                f"SELECT device, name, ts, value FROM {table}"
                " JOIN series ON series.id = series_id ORDER BY device, ts"
            )


# --- Every fault seen ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something the mesh said.

    Attributes:
        ms: real time.
        kind: ``status``, ``alarm``, ``value``, ``quality`` or ``counter``.
        device: or service, for a counter.
        name: code, quantity or counter; empty for a status.
        value: of it.
    """

    ms: int
    kind: str
    device: str
    name: str
    value: Any


Seen = Callable[[Sequence[Event], str], bool]


def _status(state: str, device: str = "") -> Seen:
    return lambda events, target: any(
        e.kind == "status" and e.device == (device or target) and e.value == state for e in events
    )


def _alarm(code: str, device: str = "", below: float = float("inf")) -> Seen:
    return lambda events, target: any(
        e.kind == "alarm"
        and e.device == (device or target)
        and e.name == code
        and e.value is not None
        and e.value <= below
        for e in events
    )


def _code(device: str, code: str) -> Seen:
    """The device itself reports it."""
    return lambda events, _: any(
        e.kind == "value" and e.device == device and e.name == "warnings" and code in e.value
        for e in events
    )


def _counts(*endings: str) -> Seen:
    """A counter of the collector's health rises."""

    def seen(events: Sequence[Event], target: str) -> bool:
        values = defaultdict(list)
        for event in events:
            is_its = event.kind == "counter" and event.name.startswith(f"{target}_")
            if is_its and any(ending in event.name for ending in endings):
                values[event.name].append(event.value)
        return any(max(found) > min(found) for found in values.values())

    return seen


def _string_is_dead(events: Sequence[Event], target: str) -> bool:
    """A dead string is no word of the inverter's: it is seen in the values."""
    names = {"pv1": "pv_power_w", "pv2": "pv2_power_w"}
    dark = [e for e in events if e.kind == "value" and e.name == names[target] and e.value == 0]
    bright = {
        e.ms
        for e in events
        if e.kind == "value" and e.name in names.values() and (e.value or 0) > 50
    }
    return any(event.ms in bright for event in dark)


EVIDENCE: Mapping[str, tuple[tuple[str, Seen], ...]] = {
    "grid_outage": (
        ("the inverter says line_fail", _code("inverter", "line_fail")),
        ("the meter is offline", _status("offline", "meter")),
        ("the gateway is offline", _status("offline", "roof")),
    ),
    "overload": (("the inverter says overload", _code("inverter", "overload")),),
    "cell_weak": (("the BMS warns of its cells", _code("battery", "cell_difference_warning")),),
    "pv_string_lost": (("its power is 0 and the other's is not", _string_is_dead),),
    "weak_panel": (("an alarm names the panel", _alarm("panel_weak", "roof-7")),),
    "clock_drift": (("an alarm tells of the clock", _alarm("device_clock")),),
    "summer_time_begins": (
        ("an alarm tells of the clock", _alarm("device_clock", "shed", below=-3000.0)),
    ),
    "counter_reset": (("an alarm tells of it", _alarm("counter_reset")),),
    "silent": (("the device is offline", _status("offline")),),
    "asleep": (("the device sleeps", _status("sleeping")),),
    "swapped": (("another device is said to answer", _status("identity_mismatch")),),
    "noisy_line": (("the collector counts damaged answers", _counts("damaged_", "errors_crc")),),
}
"""Kind of fault → what must be seen while it runs, or soon after."""

AFTER_MS = 75_000
"""Health is told every 30 s, and a lost device is asked again after a minute at the latest."""


def visible(
    faults: Iterable[tuple[str, int, int]], events: Sequence[Event]
) -> list[tuple[str, str, bool]]:
    """Each fault with what must be seen of it, and whether it was."""
    times = [event.ms for event in events]
    result = []
    for fault, begin, end in faults:
        kind, _, target = fault.partition(":")
        first, last = bisect_left(times, begin - 35_000), bisect_right(times, end + AFTER_MS)
        during = events[bisect_left(times, begin) : last]
        for text, seen in EVIDENCE.get(kind, ()):
            told = events[first:last] if "count" in text else during
            result.append((fault, text, seen(told, target)))
    return result


# --- No growth ----------------------------------------------------------------------------------


def growth(history: Sequence[tuple[float, int]], warm_up_s: float, window_s: float) -> float | None:
    """How much larger a process was at the end than after its warm-up; 0.05 = 5 %.

    Args:
        history: time [s] and size.
        warm_up_s: what is not looked at.
        window_s: of the medians that are compared.
    """
    end = history[-1][0] if history else 0.0
    early = [size for t, size in history if warm_up_s <= t < warm_up_s + window_s]
    late = [size for t, size in history if t > end - window_s]
    if not early or not late:
        return None
    return median(late) / median(early) - 1.0
