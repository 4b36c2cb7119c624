"""What panels say about one another."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from collector_pvs6 import codec
from collector_pvs6.codec import Device
from collector_pvs6.fleet import Fleet

NOON = datetime(2026, 6, 21, 18, 0, tzinfo=UTC)
SUNNY = next(
    record
    for record in json.loads((Path(__file__).parent / "captures" / "pvs6.json").read_text())
    if record["id"] == "dl_cgi-2025-07-20"
)


def inverter(serial, power_w=200.0, energy_kwh=1000.0, minutes=0, *, is_fresh=True):
    values = {"pv_power_w": power_w, "pv_energy_total_kwh": energy_kwh}
    ts = NOON + timedelta(minutes=minutes)
    return Device(serial, "inverter", ts, values, is_fresh=is_fresh)


def test_daylight_is_what_those_who_report_have():
    fleet = Fleet(320.0, 0.8)
    assert fleet.is_daylight([inverter("a"), inverter("b"), inverter("c", is_fresh=False)])
    assert not fleet.is_daylight([inverter("a", 20.0), inverter("b", 30.0), inverter("c", 200.0)])
    assert not fleet.is_daylight([inverter("a", is_fresh=False)])
    assert not fleet.is_daylight([])
    snapshot = codec.read(SUNNY["body"])
    assert fleet.is_daylight([d for d in snapshot.devices.values() if d.kind == "inverter"])


def test_a_panel_under_80_percent_of_the_median_is_weak():
    fleet = Fleet(320.0, 0.8)
    start = {"a": 100.0, "b": 50.0, "c": 70.0, "d": 10.0}
    assert fleet.weak(start) == {}
    assert fleet.weak({s: e + (0.1 if s == "d" else 0.9) for s, e in start.items()}) == {}, "early"
    later = {s: e + (1.5 if s == "d" else 2.0) for s, e in start.items()}
    assert fleet.weak(later) == {"d": pytest.approx(0.75)}


def test_a_weak_panel_stays_weak_over_night_and_recovers_by_its_energy():
    fleet = Fleet(320.0, 0.8)
    start = dict.fromkeys("abc", 100.0)
    fleet.weak(start)
    evening = {"a": 102.0, "b": 102.0, "c": 101.0}
    assert set(fleet.weak(evening)) == {"c"}
    assert set(fleet.weak({})) == {"c"}
    assert set(fleet.weak(evening)) == {"c"}, "the next morning nothing is known yet"
    at_limit = {"a": 104.0, "b": 104.0, "c": 101.0 + 0.82 * 2}
    assert set(fleet.weak(at_limit)) == {"c"}, "not to and fro at the limit"
    assert fleet.weak({"a": 104.0, "b": 104.0, "c": 103.0}) == {}


def test_two_panels_are_not_compared_and_zero_means_never():
    for fleet, serials in ((Fleet(320.0, 0.8), "ab"), (Fleet(320.0, 0.0), "abc")):
        fleet.weak(dict.fromkeys(serials, 0.0))
        assert fleet.weak({s: 0.5 if s == "a" else 5.0 for s in serials}) == {}


@pytest.mark.parametrize(
    ("energy_kwh", "minutes", "is_suspect"),
    [(1000.0, 5, False), (1000.03, 5, False), (1000.2, 5, True), (999.9, 5, True), (3.0, 5, True),
     (1001.9, 300, False)],
)  # fmt: skip
def test_energy_does_not_fall_nor_outrun_the_rating(energy_kwh, minutes, is_suspect):
    fleet = Fleet(320.0, 0.8)
    assert fleet.suspects(inverter("a")) == {}
    found = fleet.suspects(inverter("a", energy_kwh=energy_kwh, minutes=minutes))
    assert found == ({"pv_energy_total_kwh": "suspect"} if is_suspect else {})
    again = inverter("a", energy_kwh=energy_kwh + 0.01, minutes=minutes + 5)
    assert fleet.suspects(again) == {}, "from there it goes on"


def test_a_reset_counter_is_not_compared_with_its_neighbours():
    fleet = Fleet(320.0, 0.8)
    for serial in "abcd":
        fleet.suspects(inverter(serial))
    fleet.weak(dict.fromkeys("abcd", 1000.0))
    fleet.suspects(inverter("d", energy_kwh=0.0, minutes=5))
    assert fleet.weak({"a": 1002.0, "b": 1002.0, "c": 1002.0, "d": 0.5}) == {}
