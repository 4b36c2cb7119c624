import pytest
from hypothesis import given
from hypothesis import strategies as st
from sunmesh.house import Roles
from web.stack import Bucket, Curve, Point, fill, points, split, stack

WIDTH = 150_000
watts = st.floats(-20_000, 20_000)
positive = st.floats(0, 20_000)


@given(positive, positive, watts, watts)
def test_every_watt_is_placed_once(pv: float, load: float, battery: float, grid: float) -> None:
    share = split(Point(0, pv, load, battery, grid))
    assert share is not None
    up = (
        share.sun_to_house,
        share.battery_to_house,
        share.grid_to_house,
        share.unmeasured,
    )
    down = (share.sun_to_house, share.sun_to_battery, share.sun_to_grid, share.own_use)
    assert all(part >= 0 for part in (*up, *down))
    assert sum(up) == pytest.approx(load, abs=1e-6)
    assert sum(down) == pytest.approx(pv, abs=1e-6)
    assert share.battery_to_house <= max(battery, 0)
    assert share.sun_to_battery <= max(-battery, 0)
    assert share.grid_to_house <= max(grid, 0)
    assert share.sun_to_grid <= max(-grid, 0)


def test_the_sun_feeds_the_house_first() -> None:
    share = split(Point(0, pv=1000, load=400, battery=-450, grid=-100))
    assert share is not None
    assert (share.sun_to_house, share.sun_to_battery, share.sun_to_grid) == (400, 450, 100)
    assert share.own_use == 50
    assert share.unmeasured == 0
    share = split(Point(0, pv=100, load=1000, battery=500, grid=300))
    assert share is not None
    assert (share.sun_to_house, share.battery_to_house, share.grid_to_house) == (100, 500, 300)
    assert share.unmeasured == 100


def test_missing_parts_count_as_nothing_but_nothing_known_is_a_gap() -> None:
    assert split(Point(0)) is None
    assert split(Point(0, soc=50)) is None
    share = split(Point(0, load=300))
    assert share is not None
    assert share.unmeasured == 300


def test_edges_are_sums_from_the_middle_outwards() -> None:
    made = stack([Point(1, 1000, 400, -450, -100, 50.04), Point(2), Point(3, 0, 200, 210, 0, None)])
    assert made.ms == [1, 2, 3]
    assert made.up == [[400, None, 0], [400, None, 200], [400, None, 200], [400, None, 200]]
    assert made.down == [[-400, None, 0], [-850, None, 0], [-950, None, 0], [-1000, None, 0]]
    assert made.soc == [50.0, None, None]


@given(st.lists(st.tuples(positive, positive, watts, watts), max_size=20))
def test_edges_never_cross(day: list[tuple[float, float, float, float]]) -> None:
    made = stack([Point(n, *values) for n, values in enumerate(day)])
    for at in range(len(day)):
        ups = [edge[at] for edge in made.up]
        downs = [edge[at] for edge in made.down]
        assert ups == sorted(ups)
        assert downs == sorted(downs, reverse=True)
        assert ups[0] == -downs[0]


def bucket(n: int, mean: float, first: int | None = None, last: int | None = None) -> Bucket:
    start = n * WIDTH
    first = start if first is None else first
    return Bucket(start, mean, mean * WIDTH, 0, WIDTH, first, last or first)


def test_short_pauses_are_bridged_and_long_ones_are_not() -> None:
    curve = Curve([bucket(0, 100), bucket(2, 300), bucket(9, 900)], 3 * WIDTH)
    assert fill(curve, WIDTH) == {0: 100, WIDTH: 200, 2 * WIDTH: 300, 9 * WIDTH: 900}
    assert fill(Curve([], 1), WIDTH) == {}


ROLES = Roles(
    pv=(("i", "pv_power_w"), ("i", "pv2_power_w")),
    load=(("i", "ac_output_power_w"),),
    battery=(("i", "battery_power_w"),),
    soc=("i", "battery_soc_percent"),
    grid_voltage=("i", "grid_voltage_v"),
    mode=(("i", "device_mode"),),
)


def curves(**names: list[Bucket]) -> dict[tuple[str, str], Curve]:
    return {("i", name): Curve(buckets, 2 * WIDTH) for name, buckets in names.items()}


def test_a_gap_is_one_empty_point() -> None:
    day = points(
        ROLES,
        curves(
            pv_power_w=[bucket(0, 100), bucket(9, 100)],
            pv2_power_w=[bucket(0, 50), bucket(9, 50)],
            ac_output_power_w=[bucket(0, 400), bucket(9, 400)],
            battery_power_w=[bucket(0, 260), bucket(9, 260)],
        ),
        [],
        WIDTH,
    )
    assert [point.ms // WIDTH for point in day] == [0, 1, 9]
    assert [point.known for point in day] == [True, False, True]
    assert day[0].pv == 150
    assert day[0].covered_s == 150


def test_the_grid_is_estimated_outside_battery_mode_only() -> None:
    buckets = [bucket(n, 400) for n in range(4)]
    day = points(
        ROLES,
        curves(
            ac_output_power_w=buckets,
            pv_power_w=[bucket(n, 100) for n in range(4)],
            pv2_power_w=[bucket(n, 0) for n in range(4)],
            battery_power_w=[bucket(n, 0) for n in range(4)],
            grid_voltage_v=[bucket(0, 230), bucket(1, 230), bucket(2, 230), bucket(3, 0)],
        ),
        [(-5, "battery"), (WIDTH + 10, "line")],
        WIDTH,
    )
    assert [point.grid for point in day] == [0, 300, 300, 0]


def test_battery_power_from_volts_and_amperes() -> None:
    roles = Roles(load=(("i", "ac_output_power_w"),), battery_parts=("i",))
    day = points(
        roles,
        curves(
            ac_output_power_w=[bucket(0, 400)],
            battery_voltage_v=[bucket(0, 50)],
            battery_charge_current_a=[bucket(0, 2)],
            battery_discharge_current_a=[bucket(0, 10)],
        ),
        [],
        WIDTH,
    )
    assert day[0].battery == 400
