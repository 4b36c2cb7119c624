"""Pictures without a script: round axes, points in their places, gaps that stay gaps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web.plot import Axis, Point, axis, line, spark

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(numbers, min_size=1, max_size=30), st.booleans(), st.floats(0, 1000))
def test_an_axis_holds_its_values_in_few_round_steps(values, zero, least) -> None:
    y = axis(values, zero=zero, least=least)
    tiny = 1e-6 * max(1.0, abs(y.low), abs(y.high))
    assert y.low <= min(values) + tiny
    assert y.high >= max(values) - tiny
    assert 1 <= len(y.ticks) - 1 <= 8
    assert y.ticks[0] == pytest.approx(y.low)
    assert y.ticks[-1] == pytest.approx(y.high)


def test_an_axis_of_nothing_is_one() -> None:
    assert axis([]).high > axis([]).low


def test_digits_tell_ticks_apart() -> None:
    assert (Axis(0, 1, 0.25).digits, Axis(0, 80, 20).digits, Axis(3.30, 3.36, 0.02).digits) == (
        1,
        0,
        2,
    )


def test_a_line_breaks_where_neighbours_are_far() -> None:
    points = [Point(0, 0), Point(0.1, 10), Point(0.9, 5, "late")]
    made = line("a", "A", points, Axis(0, 10, 5), joined=0.2)
    assert made.path == "M0.0 300.0L100.0 0.0M900.0 150.0"
    assert [dot.text for dot in made.dots] == ["", "", "late"]
    assert line("a", "A", points, Axis(0, 10, 5)).path == ""
    assert "V" in line("a", "A", points, Axis(0, 10, 5), mark="bar").dots[0].path


def test_a_spark_is_nothing_for_one_value_and_flat_for_equal_ones() -> None:
    assert spark([(0, 1)], 1) == ""
    assert spark([(0, 7), (1, 7)], 1) == "M0.0 12.0L100.0 12.0"
    assert spark([(0, 1), (0.1, 2), (0.9, 3)], 0.2).count("M") == 2
