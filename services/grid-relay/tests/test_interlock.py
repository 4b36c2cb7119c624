import pytest
from grid_relay.interlock import Coils, Interlock
from grid_relay.position import CONNECTED, OPEN
from hypothesis import given
from hypothesis import strategies as st


def interlock(**more):
    options = {
        "opens_with_power": True,
        "has_other": True,
        "dead_time_s": 1.0,
        "now": 0.0,
        "was_open": False,
    }
    return Interlock(**options | more)


@pytest.mark.parametrize(("opens_with_power", "connected"), [(True, False), (False, True)])
def test_one_contactor_follows_at_once_by_its_sense(opens_with_power, connected):
    one = interlock(has_other=False, opens_with_power=opens_with_power)
    assert one.step(0, CONNECTED) == Coils(connected)
    assert one.is_at(CONNECTED)
    assert one.step(0, OPEN) == Coils(not connected)
    assert one.is_at(OPEN)
    assert one.step(0, CONNECTED) == Coils(connected)


def test_one_contactor_starts_safe_whatever_was():
    assert interlock(has_other=False, was_open=True).coils == Coils(False)


def test_break_before_make():
    two = interlock()
    assert two.coils == Coils(False, False)
    assert two.step(10, OPEN) == Coils(True, False)
    assert two.step(10.9, OPEN) == Coils(True, False)
    assert not two.is_at(OPEN)
    assert two.step(11, OPEN) == Coils(True, True)
    assert two.is_at(OPEN)
    assert two.step(20, CONNECTED) == Coils(True, False)
    assert two.step(20.9, CONNECTED) == Coils(True, False)
    assert two.step(21, CONNECTED) == Coils(False, False)
    assert two.is_at(CONNECTED)


def test_a_change_of_mind_in_between():
    two = interlock()
    two.step(10, OPEN)
    assert two.step(10.5, CONNECTED) == Coils(True, False), "the dead time holds"
    assert two.step(11, CONNECTED) == Coils(False, False)
    two.step(20, OPEN)
    two.step(21, OPEN)
    two.step(30, CONNECTED)
    assert two.step(30.5, OPEN) == Coils(True, False)
    assert two.step(31, OPEN) == Coils(True, True)


def test_who_may_have_been_open_waits_once():
    two = interlock(was_open=True)
    assert two.coils == Coils(True, False)
    assert two.step(0.9, CONNECTED) == Coils(True, False)
    assert two.step(1.0, CONNECTED) == Coils(False, False)


@given(st.lists(st.tuples(st.sampled_from([CONNECTED, OPEN]), st.floats(0, 2)), max_size=60))
def test_never_both_and_never_without_the_dead_time(steps):
    two, now = interlock(), 0.0
    grid_let_go = other_let_go = -10.0
    before = two.coils
    for position, wait in steps:
        now += wait
        coils = two.step(now, position)
        grid, other = not coils.grid, coils.other
        assert not (grid and other)
        if not before.grid and not grid:
            grid_let_go = now
        if before.other and not other:
            other_let_go = now
        if other and not before.other:
            assert now - grid_let_go >= 1.0
        if grid and before.grid:
            assert now - other_let_go >= 1.0
        before = coils
