"""Ranges, and the order in which several settings are written."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sunmesh.commands import rules
from sunmesh.errors import RefusedError
from sunmesh.messages import Range

VOLTS = Range(low=48.0, high=58.4, step=0.1, unit="V", risk="high")
AMPERES = Range(choices=[10, 20, 60, 100], unit="A")
PAIRS = (("float_voltage_v", "bulk_voltage_v"),)


@pytest.mark.parametrize(
    ("value", "takes", "sent"),
    [
        (54.7, VOLTS, 54.7),
        (48, VOLTS, 48.0),
        (58.4, VOLTS, 58.4),
        (60.0, AMPERES, 60),
        (46, Range(low=44, high=51, step=1), 46),
        ("SBU", Range(choices=["USB", "SUB", "SBU"]), "SBU"),
        (False, Range(choices=[True, False]), False),
    ],
)
def test_what_a_device_takes(value, takes, sent):
    checked = rules.check("x", value, takes)
    assert (checked, type(checked)) == (sent, type(sent))


@pytest.mark.parametrize(
    ("value", "takes", "reason"),
    [
        (58.5, VOLTS, "must be 48 to 58.4 V, not 58.5"),
        (47.9, VOLTS, "must be 48 to 58.4 V"),
        (54.75, VOLTS, "steps of 0.1"),
        (float("nan"), VOLTS, "must be"),
        (float("inf"), VOLTS, "must be"),
        ("54.7", VOLTS, "is a number"),
        (True, VOLTS, "is a number"),
        ([54.7], VOLTS, "is a number"),
        (70, AMPERES, "70 is not among: 10, 20, 60, 100"),
        (1, Range(choices=[True, False]), "1 is not among: true, false"),
        (True, Range(choices=[1, 2]), "not among"),
        ("sbu", Range(choices=["SBU"]), "not among"),
        ("x" * 9000, Range(choices=["SBU"]), "not among"),
        (5, Range(), "is not known"),
    ],
)
def test_what_it_does_not_take(value, takes, reason):
    with pytest.raises(RefusedError, match=reason) as caught:
        rules.check("x", value, takes)
    assert len(str(caught.value)) < 200


def test_great_harm_is_said_twice():
    danger = Range(choices=["agm", "user"], risk="danger")
    rules.confirmed("battery_type", "user", "user", danger)
    rules.confirmed("bulk_voltage_v", 54.7, None, VOLTS)
    for confirm in (None, "agm", True):
        with pytest.raises(RefusedError, match="confirm"):
            rules.confirmed("battery_type", "user", confirm, danger)


@pytest.mark.parametrize(
    ("now", "wanted", "order"),
    [
        ((54.4, 56.4), (53.7, 53.8), ["float_voltage_v", "bulk_voltage_v"]),
        ((53.7, 53.8), (55.1, 55.2), ["bulk_voltage_v", "float_voltage_v"]),
        ((53.7, 53.8), (53.6, 53.8), ["float_voltage_v", "bulk_voltage_v"]),
        ((54.0, 56.0), (53.0, 57.0), ["bulk_voltage_v", "float_voltage_v"]),
    ],
)
def test_float_before_bulk_down_and_bulk_before_float_up(now, wanted, order):
    current = dict(zip(("float_voltage_v", "bulk_voltage_v"), now, strict=True))
    both = dict(zip(("bulk_voltage_v", "float_voltage_v"), reversed(wanted), strict=True))
    wish = {"max_charge_current_a": 10} | both | {"redischarge_voltage_v": 53}
    names = [name for name, _ in rules.plan(current, wish, PAIRS)]
    assert names == ["max_charge_current_a", *order, "redischarge_voltage_v"]


VOLTAGE = st.integers(480, 584).map(lambda tenths: tenths / 10)


@given(VOLTAGE, VOLTAGE, VOLTAGE, VOLTAGE, st.booleans())
def test_float_is_below_bulk_at_every_instant(float_v, bulk_v, new_float, new_bulk, bulk_first):
    assume(float_v <= bulk_v)
    state = {"float_voltage_v": float_v, "bulk_voltage_v": bulk_v}
    wanted = {"float_voltage_v": new_float, "bulk_voltage_v": new_bulk}
    if bulk_first:
        wanted = dict(reversed(wanted.items()))
    try:
        steps = rules.plan(state, wanted, PAIRS)
    except RefusedError:
        assert new_float > new_bulk
        return
    assert sorted(steps) == sorted(wanted.items())
    for name, value in steps:
        state[name] = value
        assert state["float_voltage_v"] <= state["bulk_voltage_v"]
    assert state == wanted


@given(VOLTAGE, VOLTAGE, VOLTAGE, st.sampled_from(["float_voltage_v", "bulk_voltage_v"]))
def test_one_alone_never_breaks_the_pair(float_v, bulk_v, new, name):
    assume(float_v <= bulk_v)
    state = {"float_voltage_v": float_v, "bulk_voltage_v": bulk_v}
    after = state | {name: new}
    if after["float_voltage_v"] <= after["bulk_voltage_v"]:
        assert rules.plan(state, {name: new}, PAIRS) == [(name, new)]
    else:
        with pytest.raises(RefusedError, match="would be above bulk_voltage_v"):
            rules.plan(state, {name: new}, PAIRS)


def test_a_limit_that_is_not_known_lets_nothing_pass():
    with pytest.raises(RefusedError, match="bulk_voltage_v of the device is not known"):
        rules.plan({}, {"float_voltage_v": 54.0}, PAIRS)
    with pytest.raises(RefusedError, match="float_voltage_v of the device is not known"):
        rules.plan({"float_voltage_v": None}, {"bulk_voltage_v": 54.0}, PAIRS)
    assert rules.plan({}, {"buzzer_enabled": True}, PAIRS) == [("buzzer_enabled", True)]
