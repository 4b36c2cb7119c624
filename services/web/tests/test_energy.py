import pytest
from sunmesh.house import Roles
from web.energy import Booked, Books, books, counted, learn_capacity, with_booked
from web.stack import Bucket, Curve, Point

HOUR = 3_600_000


def bucket(mean: float, positive: float = 0.0, negative: float = 0.0, hour: int = 0) -> Bucket:
    return Bucket(0, mean, positive, negative, HOUR, hour * HOUR, hour * HOUR)


def readings(*values: float) -> list[Bucket]:
    return [bucket(value, hour=hour) for hour, value in enumerate(values)]


def test_a_counter_rises_and_forgives_a_reset() -> None:
    assert counted(readings(10.5, 12.25), None) == 1.75
    assert counted(readings(10.5, 12.25), 10.0) == 2.25
    assert counted(readings(100.5, 0.25, 1.0), 100.0) == pytest.approx(1.25)
    assert counted(readings(10.5), None) is None
    assert counted([], 10.5) is None
    assert counted(readings(10.0, 12.0), 9.0) is None, "whole kWh are too coarse for a day"


def test_a_counter_of_another_device_is_no_energy() -> None:
    assert counted(readings(10.5, 9000.25, 9001.5), None) == pytest.approx(1.25)


ROLES = Roles(
    pv=(("i", "pv_power_w"),),
    load=(("i", "ac_output_power_w"),),
    battery=(("i", "battery_power_w"),),
    grid_voltage=("i", "grid_voltage_v"),
)


def test_books_say_how_they_know() -> None:
    curves = {
        ("i", "ac_output_power_w"): Curve([bucket(500, 500 * HOUR)], 1),
        ("i", "battery_power_w"): Curve([bucket(0, 300 * HOUR, 800 * HOUR)], 1),
        ("i", "pv_power_w"): Curve([bucket(900, 900 * HOUR)], 1),
    }
    day = [Point(0, 900, 500, 0, 100, 50, 3600)]
    made = books(ROLES, curves, day, {("i", "pv_energy_total_kwh"): 1.25})
    assert made.pv == 1.25
    assert made.load == 0.5
    assert made.battery_out == pytest.approx(0.3)
    assert made.battery_in == pytest.approx(0.8)
    assert made.grid_in == pytest.approx(0.1)
    assert made.grid_out is None
    assert made.how == {
        "pv": "counter",
        "load": "summed",
        "battery_in": "summed",
        "battery_out": "summed",
        "grid_in": "estimated",
    }
    assert made.autarky == pytest.approx(0.8)
    assert made.own_share is None


def test_a_counter_counts_only_when_every_device_has_one() -> None:
    roles = Roles(pv=(("a", "pv_power_w"), ("b", "pv_power_w")))
    curves = {(d, "pv_power_w"): Curve([bucket(1, 1000 * HOUR)], 1) for d in "ab"}
    assert books(roles, curves, [], {("a", "pv_energy_total_kwh"): 5.0}).pv == 2.0
    both = {("a", "pv_energy_total_kwh"): 5.0, ("b", "pv_energy_total_kwh"): 6.0}
    assert books(roles, curves, [], both).pv == 11.0


def test_nothing_recorded_gives_no_books() -> None:
    made = books(ROLES, {}, [], {})
    assert made == Books()
    assert made.autarky is None
    assert Books(load=0.0, grid_in=0.0).autarky is None
    assert Books(load=1.0, grid_in=1.4).autarky == 0.0
    assert Books(pv=4.0, grid_out=1.0).own_share == 0.75


def falling(start: float, end: float, watts: float, steps: int = 40) -> list[Point]:
    return [
        Point(n, battery=watts, soc=start + (end - start) * n / (steps - 1), covered_s=360)
        for n in range(steps)
    ]


def test_capacity_is_learned_from_discharge() -> None:
    # 39 steps of 6 min at 1 kW = 3.9 kWh for 39 % → 10 kWh
    assert learn_capacity([falling(80, 41, 1000)]) == pytest.approx(10.0)
    assert learn_capacity([falling(80, 41, 1000), falling(60, 21, 1000)]) == pytest.approx(10.0)


def test_capacity_is_not_guessed_from_little() -> None:
    assert learn_capacity([]) is None
    assert learn_capacity([falling(80, 70, 1000)]) is None, "10 % is too little"
    assert learn_capacity([falling(41, 80, -1000)]) is None, "charging says nothing"
    broken = [p if n % 4 else Point(p.ms) for n, p in enumerate(falling(80, 41, 1000))]
    assert learn_capacity([broken]) is None, "gaps end a stretch"


def test_the_energy_books_go_before_and_power_goes_on_from_their_end() -> None:
    own = Books(pv=9.0, load=5.0, grid_in=1.0, how={"pv": "counter", "load": "summed"})
    day = [Point(hour * HOUR, 1000, 500, -200, 0, 50, 3600) for hour in range(4)]
    booked = {
        "pv": Booked(7000, {"measured": 6790, "recovered": 210}, 2 * HOUR),
        "battery_charge": Booked(600, {"integrated": 600}, 3 * HOUR),
    }
    made = with_booked(own, booked, day)
    assert made.pv == 9.0
    assert made.battery_in == pytest.approx(0.8)
    assert (made.load, made.how["load"], made.until) == (5.0, "summed", 3 * HOUR)
    assert made.note("pv") == "3\N{NO-BREAK SPACE}% recovered after a gap"
    assert made.note("battery_in") == "summed from power"
    assert made.note("load") == "summed from power"
    assert made.note("grid_in") == ""
    assert with_booked(own, {}, day) == own


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"measured": 10.0}, "by the device's own counter"),
        ({"measured": 10.0, "recovered": 0.01}, "by the device's own counter"),
        ({"measured": 5.0, "integrated": 5.0}, "by counter and from power"),
        ({"edited": 10.0}, "corrected by hand"),
        ({"imported": 10.0}, "imported"),
        (
            {"measured": 5.0, "edited": 4.0, "recovered": 1.0},
            "40 % corrected by hand, 10 % recovered after a gap",
        ),
        ({}, "by the device's own counter"),
    ],
)
def test_what_is_not_measured_says_so(flags: dict[str, float], says: str) -> None:
    made = with_booked(Books(), {"pv": Booked(1.0, flags, 0)}, [])
    assert made.note("pv").replace("\N{NO-BREAK SPACE}", " ") == says
    assert made.is_estimate("pv") is False
    guessed = with_booked(Books(), {"grid_import": Booked(1.0, {"estimated": 9.0}, 0)}, [])
    assert guessed.is_estimate("grid_in")
