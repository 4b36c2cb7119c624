"""The calendar of faults."""

import msgspec
import pytest
from simulator.faults import DAY, DEFAULT, KINDS, MINUTE, Calendar, Fault, names


def test_a_fault_runs_from_its_start_for_its_duration():
    fault = Fault("grid_outage", 60.0, 30.0)
    assert [fault.is_active(t) for t in (59.9, 60.0, 89.9, 90.0)] == [False, True, True, False]


def test_a_fault_comes_again():
    fault = Fault("cloud_burst", 10.0, 5.0, every_s=100.0)
    assert [fault.is_active(t) for t in (5, 12, 16, 112, 1012, 1016)] == [
        False,
        True,
        False,
        True,
        True,
        False,
    ]


def test_starts_count_from_the_origin():
    calendar = Calendar(1000.0, (Fault("overload", -100.0, 50.0), Fault("noisy_line", 0, 9, "bms")))
    assert names(calendar.active(905.0)) == ["overload"]
    assert names(calendar.active(1001.0)) == ["noisy_line:bms"]
    assert calendar.active(960.0) == ()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"kind": "earthquake"}, "kind must be one of"),
        ({"duration_s": 0}, "duration_s must be above 0"),
        ({"every_s": 5}, "every_s must be 0 or longer"),
        ({"kind": "pv_string_lost"}, "device must be one of pv1, pv2"),
        ({"kind": "asleep"}, "device must name the device for asleep"),
        ({"kind": "weak_panel", "device": "roof", "panel": 0}, "panel must be 1"),
        ({"cell": 0}, "cell must be 1"),
        ({"durations": 3}, "unknown field"),
    ],
)
def test_an_impossible_fault_is_refused(table, reason):
    with pytest.raises(msgspec.ValidationError, match=reason):
        msgspec.convert({"kind": "overload", "start_s": 0, "duration_s": 9} | table, Fault)


def test_the_demo_does_not_frighten_a_newcomer_and_does_not_bore_either():
    calendar = Calendar(0.0, DEFAULT)
    assert not any(calendar.active(second) for second in range(-3600, int(5 * MINUTE)))
    first_hour = {f.kind for second in range(3600) for f in calendar.active(second)}
    assert len(first_hour) >= 5
    month = {f.kind for f in DEFAULT if -30 * DAY < f.start_s < 0}
    assert {"grid_outage", "silent", "pv_string_lost", "weak_panel", "asleep", "swapped"} <= month
    assert {f.kind for f in DEFAULT} == set(KINDS) - {"storm"}, "which takes days"
    assert all(f.start_s + f.duration_s <= 0 and not f.every_s for f in DEFAULT if f.start_s < 0)
