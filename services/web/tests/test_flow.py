import pytest
from web.flow import direction, picture, speed, width
from web.house import House, Source


def test_only_what_exists_is_drawn() -> None:
    assert picture(House()).nodes == ()
    sun = picture(House(has_pv=True, strings=(Source("roof", "pv_power_w", 800.0),), pv_w=800))
    assert [node.key for node in sun.nodes] == ["pv1"]
    house = House(
        has_pv=True,
        has_load=True,
        has_battery=True,
        has_grid=True,
        strings=(Source("i", "pv_power_w", 800.0), Source("i", "pv2_power_w", 0.0)),
        pv_w=800,
        load_w=300,
        battery_w=-420,
        grid_w=0,
        grid_present=True,
        loss_w=80,
    )
    drawn = picture(house)
    assert [node.title for node in drawn.nodes] == [
        "String 1",
        "String 2",
        "Grid",
        "House",
        "Battery",
        "Inverter",
    ]
    states = {edge.key: edge.direction for edge in drawn.edges}
    assert states == {"pv1": "in", "pv2": "idle", "grid": "idle", "load": "out", "battery": "out"}
    notes = {node.key: node.note for node in drawn.nodes}
    assert notes["battery"] == "charging"
    assert notes["grid"] == "not used"
    assert notes["inverter"] == "own use"
    assert "Battery: 420" in drawn.spoken


def test_a_grid_that_is_gone_and_meters_that_disagree_are_said() -> None:
    house = House(
        has_load=True, load_w=300, has_grid=True, grid_present=False, grid_w=0, residual_w=130
    )
    nodes = {node.key: node for node in picture(house).nodes}
    assert nodes["grid"].state == "gone"
    assert nodes["grid"].note == "no grid"
    assert nodes["inverter"].state == "amber"
    said = nodes["inverter"].title.replace("\N{NO-BREAK SPACE}", " ")
    assert said == "Meters disagree by 130 W"


def test_an_estimate_is_marked() -> None:
    house = House(has_grid=True, grid_w=900, grid_estimated=True, grid_present=True)
    (grid,) = picture(house).nodes
    assert grid.text.startswith("≈")
    assert grid.note == "taking"
    (grid,) = picture(House(has_grid=True, grid_w=-900, grid_present=True)).nodes
    assert grid.text.startswith("900")
    assert grid.note == "giving"


def test_width_and_speed_follow_power() -> None:
    assert width(None) == width(0) == width(-10) == 1.5
    assert width(100) < width(1000) < width(5000) == width(50_000) == 12
    assert width(-1000) == width(1000)
    assert [speed(w) for w in (None, 100, -900, 4000)] == ["slow", "slow", "medium", "quick"]
    assert [direction(w) for w in (None, 3, 100, -100)] == ["unknown", "idle", "in", "out"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_strings_stand_inside_the_picture(count: int) -> None:
    strings = tuple(Source("roof", f"pv{n}_power_w", 100.0) for n in range(count))
    nodes = picture(House(has_pv=True, strings=strings)).nodes
    assert len(nodes) == min(count, 4)
    assert all(38 <= node.x <= 322 for node in nodes)
    assert len({node.x for node in nodes}) == len(nodes)


def test_strings_of_several_devices_bear_their_names() -> None:
    strings = tuple(
        Source(device, name, 100.0)
        for device, name in (
            ("inverter", "pv_power_w"),
            ("inverter", "pv2_power_w"),
            ("roof", "pv_power_w"),
        )
    )
    nodes = picture(House(has_pv=True, strings=strings)).nodes
    assert [node.title for node in nodes] == ["Inverter 1", "Inverter 2", "Roof"]
