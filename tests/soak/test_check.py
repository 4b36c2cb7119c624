"""What the soak run judges by: it must find what is wrong, and nothing else."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from simulator import devices
from simulator.config import House
from simulator.faults import KINDS, Calendar, Fault
from simulator.world import World
from sunmesh import clock

HERE = Path(__file__).parent
START = clock.parse("2026-06-21T10:00:00Z").timestamp()
REAL = clock.epoch_ms(clock.parse("2026-11-21T12:00:00Z"))
FAMILIES = {
    "inverter": "axpert",
    "battery": "bms",
    "meter": "meter",
    "shed": "pl80",
    "roof": "pvs6",
    "attic": "temperature",
    "battery-room": "temperature",
}


def module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


check = module("soak_check", HERE / "check.py")


def log_of(seconds, *faults, speed=20.0):
    world = World(House(), START, calendar=Calendar(START, faults))
    lines = []
    for second in range(seconds):
        world.step(speed)
        real = clock.iso(clock.from_ms(REAL + 1000 * second))
        lines.append(json.dumps({"real": real, **world.snapshot()}))
    return check.WorldLog(lines)


@pytest.fixture(scope="module")
def log():
    return log_of(120)


def honest(log, every=7):
    """What an honest recorder would hold."""
    for place in range(2, len(log.worlds), every):
        for owner, family in FAMILIES.items():
            for device, values in log.said(family, owner, place).items():
                for name, value in values.items():
                    if value is None:
                        continue
                    is_list = isinstance(value, list) and name in (
                        "cell_voltage_v",
                        "battery_temperature_c",
                    )
                    if is_list:
                        for n, each in enumerate(value, 1):
                            yield device, f"{name}/{n}", log.ms[place] + 400, each
                    elif isinstance(value, int | float) and not isinstance(value, bool):
                        yield device, name, log.ms[place] + 400, value
                    else:
                        yield device, name, log.ms[place] + 400, check.as_text(value)


def test_a_product_may_be_of_two_worlds_and_of_nothing_else(log):
    place = 60
    near = [log.said("pl80", "shed", n)["shed"] for n in range(place - 5, place + 1)]
    volts = [values["battery_voltage_v"] for values in near]
    amperes = [values["charge_current_a"] for values in near]
    ms = log.ms[place] + 400
    mixed = round(volts[0] * amperes[-1], 1)
    assert not check.compare(log, FAMILIES, [("shed", "charge_power_w", ms, mixed)]).violations
    wrong = round(max(volts) * max(amperes) + 0.3, 1)
    assert check.compare(log, FAMILIES, [("shed", "charge_power_w", ms, wrong)]).violations


def test_an_honest_database_has_nothing_invented(log):
    result = check.compare(log, FAMILIES, honest(log))
    assert result.violations == []
    assert set(result.compared) == set(FAMILIES.values())
    assert sum(result.compared.values()) > 5000
    assert "roof-18" in result.devices


@pytest.mark.parametrize(
    ("device", "series", "value"),
    [
        ("inverter", "battery_voltage_v", 0.0),
        ("inverter", "grid_voltage_v", 251.3),
        ("inverter", "device_mode", "line"),
        ("inverter", "warnings", "overload"),
        ("battery", "cell_voltage_v/3", 3.9),
        ("battery", "cell_voltage_v/17", 3.3),
        ("battery", "battery_soc_percent", 0.0),
        ("meter", "grid_import_energy_kwh", 0.5),
        ("attic", "temperature_c", 85.0),
        ("roof-4", "pv_power_w", 0.0),
        ("shed", "device_clock_offset_s", 60),
        ("stranger", "battery_voltage_v", 53.0),
        ("inverter", "unheard_of_v", 53.0),
    ],
)
def test_what_no_world_gives_is_found(log, device, series, value):
    result = check.compare(log, FAMILIES, [(device, series, log.ms[60], value)])
    assert len(result.violations) == 1
    assert device in str(result.violations[0])


def test_a_value_of_another_time_is_invented_too(log):
    early = log.said("axpert", "inverter", 5)["inverter"]["pv_energy_total_kwh"]
    late = log.said("axpert", "inverter", 119)["inverter"]["pv_energy_total_kwh"]
    assert early != late
    told = [("inverter", "pv_energy_total_kwh", log.ms[10], late)]
    assert check.compare(log, FAMILIES, told).violations
    told = [("inverter", "pv_energy_total_kwh", log.ms[10], early)]
    assert not check.compare(log, FAMILIES, told).violations


def test_a_sum_of_two_answers_lies_between_two_worlds(log):
    totals = [
        log.said("axpert", "inverter", place)["inverter"]["pv_total_power_w"]
        for place in log.between(log.ms[60] - check.BACK_MS, log.ms[60] + check.FORE_MS)
    ]
    for value, count in ((min(totals) + 0.5, 0), (max(totals) + 1.0, 1)):
        told = [("inverter", "pv_total_power_w", log.ms[60], value)]
        assert len(check.compare(log, FAMILIES, told).violations) == count


def test_a_device_that_was_away_has_said_nothing():
    log = log_of(60, Fault("grid_outage", 0.0, 4000.0))
    assert check.compare(log, FAMILIES, [("meter", "grid_power_w", log.ms[40], 0.0)]).violations
    assert log.said("pvs6", "roof", 30) == {}


def test_faults_have_their_real_times():
    log = log_of(60, Fault("silent", 200.0, 400.0, "inverter"), Fault("overload", 1000.0, 900.0))
    assert log.faults() == [
        ("silent:inverter", REAL + 10_000, REAL + 30_000),
        ("overload", REAL + 50_000, REAL + 59_000),
    ]


def test_every_kind_of_fault_must_be_seen_somehow():
    assert check.EVIDENCE.keys() - {"summer_time_begins"} == KINDS.keys() - {"cloud_burst", "storm"}


def test_a_fault_is_seen_by_its_sign_while_it_runs():
    event = check.Event
    faults = [("silent:inverter", 100_000, 130_000), ("noisy_line:attic", 100_000, 130_000)]
    events = [
        event(90_000, "counter", "collector-temperature", "attic_damaged_crc", 2),
        event(115_000, "status", "inverter", "", "offline"),
        event(140_000, "counter", "collector-temperature", "attic_damaged_crc", 5),
    ]
    assert [seen for *_, seen in check.visible(faults, events)] == [True, True]
    wrong = [
        event(90_000, "status", "inverter", "", "offline"),
        event(95_000, "counter", "collector-temperature", "attic_damaged_crc", 2),
        event(115_000, "status", "battery", "", "offline"),
        event(140_000, "counter", "collector-temperature", "attic_damaged_crc", 2),
    ]
    assert [seen for *_, seen in check.visible(faults, wrong)] == [False, False]


def test_a_dead_string_shows_in_the_values():
    event = check.Event
    values = [
        event(101_000, "value", "inverter", "pv_power_w", 900),
        event(101_000, "value", "inverter", "pv2_power_w", 0),
    ]
    fault = [("pv_string_lost:pv2", 100_000, 130_000)]
    assert check.visible(fault, values)[0][2]
    assert not check.visible(fault, values[1:])[0][2]
    assert not check.visible([("pv_string_lost:pv1", 100_000, 130_000)], values)[0][2]


def test_growth_compares_the_end_with_the_time_after_the_warm_up():
    flat = [(float(t), 1000 if t < 20 else 2000) for t in range(100)]
    assert check.growth(flat, 20.0, 8.0) == 0.0
    rising = [(float(t), 1000 + 2 * t) for t in range(100)]
    assert check.growth(rising, 20.0, 8.0) == pytest.approx(0.14, abs=0.02)
    assert check.growth([], 20.0, 8.0) is None


def test_the_calendar_of_a_run_has_every_kind_of_fault(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    soak = module("soak_main", HERE / "__main__.py")
    import tomllib

    tables = tomllib.loads(soak.calendar_toml(36_000.0))["simulator"]["faults"]
    faults = [Fault(**table) for table in tables]
    assert {fault.kind for fault in faults} == KINDS.keys() - {"storm"}
    assert all(fault.start_s + fault.duration_s < 36_000.0 for fault in faults)
    assert {fault.device for fault in faults} - {"", "pv2"} <= FAMILIES.keys()
    line = ["/x/python", "/x/bin/collector-bms", "emulate", "--device", "battery"]
    assert soak.name_of(line) == "collector-bms emulate battery"
    assert soak.name_of(["sh", "-c", "sleep"]) == ""
    assert devices.FAMILIES.keys() == set(FAMILIES.values())
