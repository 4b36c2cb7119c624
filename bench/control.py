"""The controller: a day of values that dance around its thresholds, and the pace of its rules.

Every minute of 24 hours the state of charge is a random number within 1 % of a threshold, the
voltages within 0.15 V of one: what makes a bare threshold switch hundreds of times. Rules of the
preset, and one of an owner whose two thresholds lie inside of the dance. What they set counts as
set at once, so nothing but the rules themselves holds them back.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from controller.loading import plan_of
from controller.past import Change
from controller.replay import Chunk, Replay, Report
from controller.rules import Plan
from sunmesh import config
from sunmesh.messages import Value

from . import goals

DAY = 1440
FIRST = 29_670_000
"""A minute of June 2026 [min since 1970]."""

SITE = """
[site]
time_zone = "Europe/Rome"
[devices.inverter]
family = "axpert"
port = "/dev/serial/by-id/x"
[devices.battery]
family = "bms"
port = "/dev/serial/by-id/y"
[devices.grid-relay]
family = "relay"
[rules.narrow]
says = "thresholds of an owner that lie too close"
priority = 10
hours = "always"
when = [
  { samples = "1 of 1", all = [{ quantity = "battery.battery_soc_percent", at_least = 50.5 }] },
]
until = [
  { samples = "1 of 1", all = [{ quantity = "battery.battery_soc_percent", at_most = 49.5 }] },
]
do = [{ relay = "grid_open" }, { set = "inverter.max_ac_charge_current_a", to = 2 }]
safe = { relay = "grid_connected", settings = "leave" }
temporary = true
afterwards = "restore"
min_on_min = 1
min_off_min = 1
again_min = 1
most_switches_day = 20
"""
SETTINGS: dict[str, Value] = {
    "output_source_priority": "USB",
    "charger_source_priority": "solar_only",
    "max_charge_current_a": 40.0,
    "max_ac_charge_current_a": 30.0,
    "float_voltage_v": 55.1,
    "bulk_voltage_v": 55.2,
    "redischarge_voltage_v": 53.0,
}
DANCES = {
    "soc_low": (14.0, 52.0, 3.3),
    "soc_high": (24.0, 52.0, 3.3),
    "soc_narrow": (50.0, 52.0, 3.3),
    "grid_on": (40.0, 51.2, 3.3),
    "grid_off": (40.0, 51.8, 3.3),
    "redischarge": (60.0, 53.0, 3.35),
    "full": (99.0, 54.5, 3.4),
    "cell": (99.0, 54.0, 3.53),
}
"""By name: the centre of the charge [%], of the battery's [V] and of a cell's voltage [V]."""


def _plan() -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "site.toml"
        path.write_text(SITE, encoding="utf-8")
        return plan_of(config.load(path, "controller", environ={}))


def _day(soc: float, volts: float, cell: float, days: int = 1) -> Iterator[Chunk]:
    dice = random.Random(1)
    for day in range(days):
        first = FIRST + day * DAY
        minutes = range(first, first + DAY)
        known: dict[tuple[str, str], dict[int, Value]] = {
            ("battery", "battery_soc_percent"): {m: soc + dice.uniform(-1, 1) for m in minutes},
            ("battery", "charge_mosfet_on"): dict.fromkeys(minutes, True),
            ("battery", "cell_voltage_v"): {
                m: [3.3] * 15 + [cell + dice.uniform(-0.02, 0.02)] for m in minutes
            },
            ("inverter", "battery_voltage_v"): {
                m: volts + dice.uniform(-0.15, 0.15) for m in minutes
            },
            ("inverter", "battery_charge_current_a"): dict.fromkeys(minutes, 0.0),
            ("inverter", "battery_discharge_current_a"): dict.fromkeys(minutes, 0.0),
            ("inverter", "grid_voltage_v"): dict.fromkeys(minutes, 231.0),
            ("inverter", "device_mode"): dict.fromkeys(minutes, "battery"),
        }
        yield first, first + DAY, known


def _run(plan: Plan, dance: str, days: int = 1) -> Report:
    changes = [Change(0, "inverter", name, value) for name, value in SETTINGS.items()]
    return Replay(plan).run(_day(*DANCES[dance], days), changes)


def measure() -> dict[str, dict[str, object]]:
    """Each dance for a day; then how quickly a month is replayed."""
    plan = _plan()
    budget = plan.config.protection_writes_per_day
    result: dict[str, dict[str, object]] = {}
    for dance in DANCES:
        report = _run(plan, dance)
        switches = Counter(switch.rule for switch in report.switches)
        over = {
            rule.name: switches[rule.name]
            for rule in plan.rules
            if switches[rule.name] > rule.most_switches_day
        }
        most = max((sum(days.values()) for days in report.writes.values()), default=0)
        result[f"{dance}_rules_over_their_cap"] = goals.at_most(
            len(over), 0, "rules", switches=dict(switches)
        )
        result[f"{dance}_writes"] = goals.at_most(most, budget, "of one setting a day")
    began = time.perf_counter()
    days = 10
    _run(plan, "grid_off", days)
    result["replay_of_30_days"] = goals.at_most(
        (time.perf_counter() - began) * 30 / days, 120.0, "s"
    )
    return result
