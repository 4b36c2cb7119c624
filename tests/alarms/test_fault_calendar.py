"""Each fault of the simulator's calendar gives its alarm, once, in words, and it clears."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulator.faults import DEFAULT, HOUR, KINDS, MINUTE, Fault
from sunmesh import config

from .calendar_house import FAMILIES, CalendarHouse

ROOT = Path(__file__).parents[2]
MORNING = datetime(2026, 6, 12, 7, 30, tzinfo=UTC)
"""Of a clear day: panels at work, a battery that charges."""

# Fault → which alarm is told, and who raises it.
EXPECTED = {
    "grid_outage": ("inverter/grid_lost", "watch"),
    "pv_string_lost": ("inverter/string_dark", "watch"),
    "cell_weak": ("battery/cell_spread", "watch"),
    "overload": ("inverter/inverter_warning", "collector-axpert"),
    "weak_panel": ("roof-7/panel_weak", "collector-pvs6"),
    "clock_drift": ("shed/device_clock", "collector-pl80"),
    "counter_reset": ("meter/counter_reset", "collector-meter"),
    "silent": ("inverter/device_lost", "collector-axpert"),
    "noisy_line": ("inverter/line_noisy", "watch"),
    "asleep": ("battery/battery_asleep", "watch"),
    "swapped": ("inverter/identity_wrong", "watch"),
}
WEATHER = {"cloud_burst", "storm"}
"""No faults: a cloud is no alarm."""
EVENING = datetime(2026, 6, 12, 15, 0, tzinfo=UTC)
"""The battery is not full. At noon a bad connection makes a cell so full that the board cuts it
off, and its fault is an alarm of its own."""
SECOND = {
    "cell_weak": {"battery/cell_high", "battery/battery_warning"},
    "grid_outage": {"meter/device_lost", "roof/device_lost"},
    "swapped": {"inverter/device_lost"},
}
"""Follow from it, and are not pushed."""


def lasting(kind):
    """The fault as the demo's calendar has it for the live house."""
    return next(fault for fault in DEFAULT if fault.kind == kind and fault.start_s >= 0)


@pytest.fixture
def house(tmp_path, monkeypatch):
    path = tmp_path / "site.toml"
    tables = {
        "axpert": 'port = "/dev/a"',
        "bms": 'port = "/dev/b"',
        "meter": 'port = "/dev/c"\nmodel = "SDM230"',
        "pl80": 'port = "/dev/d"',
        "pvs6": 'host = "roof"',
        "temperature": 'rom = "28-00000a771c01"',
    }
    path.write_text(
        '[site]\ntime_zone = "Europe/Rome"\nlatitude = 43.46\nlongitude = 11.88\n'
        "[watch]\nsettle_s = 0\n"
        + "".join(
            f'[devices.{name}]\nfamily = "{family}"\n{tables[family]}\n'
            for name, (family, _) in FAMILIES.items()
        )
    )
    site = config.load(path, "watch", environ={})

    def make(*faults, start=MORNING):
        return CalendarHouse(site, tmp_path, start, faults, monkeypatch)

    return make


def test_every_kind_of_fault_has_its_alarm_or_is_weather():
    assert set(EXPECTED) | WEATHER == set(KINDS)


@pytest.mark.parametrize("folder", sorted(ROOT.glob("services/collector-*")), ids=lambda f: f.name)
def test_every_collector_counts_damaged_answers_as_the_watch_reads_them(folder):
    sources = "".join(path.read_text() for path in folder.glob("src/*/*.py"))
    assert 'counters[f"damaged_{err.kind}"]' in sources


def test_a_day_and_a_night_without_a_fault_are_silent(house):
    calm = house(start=datetime(2026, 6, 12, 0, 0, tzinfo=UTC))
    calm.run(24 * HOUR, step_s=60.0)
    assert {key for key, alarm, _ in calm.said if alarm.severity != "info"} == set()


@pytest.mark.parametrize("kind", sorted(set(EXPECTED) - {"weak_panel"}))
def test_a_fault_gives_its_alarm_once_and_it_clears(house, kind):
    fault = lasting(kind)
    begun_s, lasts_s = 10 * MINUTE, fault.duration_s
    one = Fault(kind, begun_s, lasts_s, fault.device, cell=fault.cell)
    broken = house(one, start=EVENING if kind == "cell_weak" else MORNING)
    key, by = EXPECTED[kind]
    broken.run(begun_s)
    assert broken.open == {}
    broken.run(lasts_s + (62 * MINUTE if kind == "counter_reset" else 12 * MINUTE))
    assert broken.told() == {key: 1}, "one alarm, pushed once"
    assert broken.open == {}, "and it clears"
    alarm = next(a for k, a, _ in broken.said if k == key)
    assert alarm.id.startswith("watch-") == (by == "watch")
    assert len(alarm.text) > 20
    assert "{" not in alarm.text
    follow = {k for k, _, _ in broken.said} - {key}
    assert follow <= SECOND.get(kind, set())
    raised_at = next(at for k, _, at in broken.said if k == key)
    assert raised_at - 1000.0 - begun_s < lasts_s + 60


def test_a_weak_panel_is_found_in_the_course_of_the_day_and_is_over_on_the_next(house):
    fault = lasting("weak_panel")
    one = Fault("weak_panel", MINUTE, 14 * HOUR, fault.device, panel=fault.panel)
    weak = house(one, start=datetime(2026, 6, 12, 3, 0, tzinfo=UTC))
    weak.run(15 * HOUR, step_s=120.0)
    assert {k: a.severity for k, a in weak.open.items() if a.severity != "info"} == {
        "roof-7/panel_weak": "warning"
    }
    weak.run(24 * HOUR, step_s=120.0)
    assert "roof-7/panel_weak" not in weak.open
    assert weak.told()["roof-7/panel_weak"] == 1


@pytest.mark.parametrize("kind", sorted(WEATHER))
def test_weather_is_no_fault(house, kind):
    clouded = house(Fault(kind, 10 * MINUTE, 20 * MINUTE))
    clouded.run(50 * MINUTE)
    assert clouded.told() == {}


def test_a_collector_that_is_killed_is_one_alarm(house):
    killed = house()
    killed.run(2 * MINUTE)
    killed.service("collector-pvs6", "offline")
    roof = killed._due["roof"]
    killed._due["roof"] = float("inf")
    killed.run(40 * MINUTE)
    assert killed.told() == {"collector-pvs6/service_lost": 1}
    assert len(killed.open) == 20, "the gateway and its eighteen follow"
    killed._due["roof"] = roof
    killed.service("collector-pvs6")
    killed.run(5 * MINUTE)
    assert killed.open == {}
