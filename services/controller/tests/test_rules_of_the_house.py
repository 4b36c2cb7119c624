"""C1 to C14 with the numbers of the house: at, above and below each, and n of m minutes."""

import pytest

LOW = {"battery_voltage_v": 54.49}


def fire(house, rule, minutes, **values):
    """Whether ``rule`` asked for anything after so many minutes of ``values``."""
    house.feed(minutes, **values)
    house.evaluate()
    return house.asked(rule)


# --- C1 to C3 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("soc", "fires"), [(13.9, True), (14.0, True), (14.1, False)])
def test_c1_an_empty_battery_may_be_charged_from_the_grid(house, soc, fires):
    h = house("c1", output_source_priority="USB")
    got = fire(h, "c1", 10, battery_soc_percent=soc)
    assert got == ({"charger_source_priority": "solar_first"} if fires else {})


@pytest.mark.parametrize(("low", "fires"), [(8, False), (9, True), (10, True)])
def test_c1_needs_nine_of_ten_samples_of_the_charge(house, low, fires):
    h = house("c1", output_source_priority="USB")
    h.feed(10 - low, battery_soc_percent=15.0)
    assert bool(fire(h, "c1", low, battery_soc_percent=14.0)) is fires


@pytest.mark.parametrize(("known", "fires"), [(8, False), (9, True)])
def test_c1_does_not_fire_with_fewer_samples(house, known, fires):
    h = house("c1", output_source_priority="USB", battery_soc_percent=10.0)
    h.missing = {"battery"}
    h.feed(10 - known)
    h.missing = set()
    assert bool(fire(h, "c1", known)) is fires


@pytest.mark.parametrize(("minutes", "fires"), [(8, False), (9, True)])
def test_c1_needs_nine_of_ten_readings_of_the_priorities(house, minutes, fires):
    h = house("c1", output_source_priority="SBU", battery_soc_percent=10.0)
    h.feed(10 - minutes)
    assert bool(fire(h, "c1", minutes, output_source_priority="USB")) is fires


@pytest.mark.parametrize("priority", ["SBU", "SUB"])
def test_c1_wants_the_output_on_the_grid(house, priority):
    h = house("c1", output_source_priority=priority)
    assert fire(h, "c1", 10, battery_soc_percent=5.0) == {}


@pytest.mark.parametrize(("soc", "fires"), [(23.9, False), (24.0, True), (24.1, True)])
def test_c2_a_battery_with_a_reserve_is_charged_by_the_sun(house, soc, fires):
    h = house("c2", output_source_priority="USB", charger_source_priority="solar_first")
    got = fire(h, "c2", 10, battery_soc_percent=soc)
    assert got == ({"charger_source_priority": "solar_only"} if fires else {})


@pytest.mark.parametrize(("high", "fires"), [(8, False), (9, True)])
def test_c2_needs_nine_of_ten(house, high, fires):
    h = house("c2", output_source_priority="USB", charger_source_priority="solar_first")
    h.feed(10 - high, battery_soc_percent=23.0)
    assert bool(fire(h, "c2", high, battery_soc_percent=24.0)) is fires


@pytest.mark.parametrize("soc", [14.1, 16.0, 19.0, 23.9])
@pytest.mark.parametrize("charger", ["solar_only", "solar_first"])
def test_c3_between_the_two_neither_fires(house, soc, charger):
    h = house("c1", "c2", output_source_priority="USB", charger_source_priority=charger)
    h.minutes(30, battery_soc_percent=soc)
    assert h.nothing


def test_c3_nor_does_the_one_that_fired_before(house):
    """The owner's own choice in between stands."""
    h = house("c1", "c2", output_source_priority="USB")
    h.minutes(10, battery_soc_percent=14.0)
    assert h.settings["charger_source_priority"] == "solar_first"
    h.batches.clear()
    h.minutes(30, battery_soc_percent=19.0, charger_source_priority="solar_only")
    assert h.nothing


# --- C4 to C8 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("volts", "fires"), [(51.1, True), (51.2, True), (51.3, False)])
def test_c4_a_low_battery_gets_the_grid(house, volts, fires):
    h = house("c4")
    h.position = "grid_open"
    got = fire(h, "c4", 4, battery_voltage_v=volts)
    assert got == ({"relay": "grid_connected"} if fires else {})


@pytest.mark.parametrize(("low", "fires"), [(2, False), (3, True)])
def test_c4_needs_three_of_four(house, low, fires):
    h = house("c4")
    h.position = "grid_open"
    h.feed(4 - low, battery_voltage_v=51.3)
    assert bool(fire(h, "c4", low, battery_voltage_v=51.2)) is fires


def test_c4_asks_only_where_the_grid_is_absent_and_the_battery_feeds(house):
    h = house("c4", battery_voltage_v=50.0)
    h.position = "grid_open"
    h.minutes(4, grid_voltage_v=230.0)
    h.minutes(4, grid_voltage_v=0.0, output_source_priority="USB")
    assert h.nothing


@pytest.mark.parametrize(("volts", "fires"), [(50.5, True), (50.6, True), (50.7, False)])
def test_c5_a_lower_one_leaves_the_house_to_the_grid(house, volts, fires):
    h = house("c5", grid_voltage_v=230.0)
    got = fire(h, "c5", 4, battery_voltage_v=volts)
    assert got == ({"output_source_priority": "USB"} if fires else {})


@pytest.mark.parametrize(("low", "fires"), [(2, False), (3, True)])
def test_c5_needs_three_of_four(house, low, fires):
    h = house("c5", grid_voltage_v=230.0)
    h.feed(4 - low, battery_voltage_v=50.7)
    assert bool(fire(h, "c5", low, battery_voltage_v=50.6)) is fires


def test_c5_needs_a_grid_to_go_to(house):
    h = house("c5", grid_voltage_v=0.0)
    assert fire(h, "c5", 4, battery_voltage_v=50.0) == {}


@pytest.mark.parametrize(("volts", "fires"), [(51.7, False), (51.8, True), (51.9, True)])
def test_c6_a_battery_that_carries_the_house_does_without_the_grid(house, volts, fires):
    h = house("c6", grid_voltage_v=230.0)
    got = fire(h, "c6", 10, battery_voltage_v=volts)
    assert got == ({"relay": "grid_open"} if fires else {})


@pytest.mark.parametrize(("high", "fires"), [(8, False), (9, True)])
def test_c6_needs_nine_of_ten(house, high, fires):
    h = house("c6", grid_voltage_v=230.0)
    h.feed(10 - high, battery_voltage_v=51.7)
    assert bool(fire(h, "c6", high, battery_voltage_v=51.8)) is fires


@pytest.mark.parametrize(
    ("evaluated", "fires"),
    [
        ("04:59:00Z", False),  # 06:59 summer time
        ("05:00:00Z", True),  # 07:00
        ("11:58:00Z", True),  # 13:58
        ("12:00:00Z", False),  # 14:00
    ],
)
def test_c6_keeps_its_hours(house, evaluated, fires):
    h = house("c6", at=f"2026-06-01T{evaluated}", grid_voltage_v=230.0, battery_voltage_v=53.0)
    from datetime import timedelta

    h.now -= timedelta(minutes=10)
    assert bool(fire(h, "c6", 10)) is fires


@pytest.mark.parametrize(
    ("day", "utc", "fires"),
    [
        ("2026-03-28", "06:00", True),  # winter time: 07:00
        ("2026-03-28", "05:59", False),
        ("2026-03-29", "05:00", True),  # the clocks went forward this morning: 07:00
        ("2026-03-29", "04:59", False),
        ("2026-10-25", "06:00", True),  # back this morning: 07:00
        ("2026-10-25", "05:00", False),
        ("2026-10-24", "05:00", True),
        ("2026-10-25", "12:59", True),
        ("2026-10-25", "13:00", False),
    ],
)
def test_c6_follows_the_clocks_of_the_house(house, day, utc, fires):
    from datetime import timedelta

    h = house("c6", at=f"{day}T{utc}:00Z", grid_voltage_v=230.0, battery_voltage_v=53.0)
    h.now -= timedelta(minutes=10)
    assert bool(fire(h, "c6", 10)) is fires


@pytest.mark.parametrize(("volts", "fires"), [(51.7, False), (51.8, False), (51.9, True)])
def test_c7_beside_a_connected_grid_the_battery_is_spared(house, volts, fires):
    h = house("c7", at="2026-06-01T15:00:00Z", grid_voltage_v=230.0)
    got = fire(h, "c7", 16, battery_voltage_v=volts)
    assert got == ({"output_source_priority": "USB"} if fires else {})


@pytest.mark.parametrize(("high", "fires"), [(14, False), (15, True)])
def test_c7_needs_fifteen_of_sixteen(house, high, fires):
    h = house("c7", grid_voltage_v=230.0)
    h.feed(16 - high, battery_voltage_v=51.8)
    assert bool(fire(h, "c7", high, battery_voltage_v=51.9)) is fires


def test_c7_does_not_come_to_it_where_c6_has_opened_the_relay(house):
    h = house("c6", "c7", at="2026-06-01T06:00:00Z", grid_voltage_v=230.0, battery_voltage_v=53.0)
    h.minutes(30)
    assert h.relay == [("c6", "grid_open")]
    assert h.batches == []


@pytest.mark.parametrize(("line", "fires"), [(14, False), (15, True)])
def test_c8_an_inverter_on_the_line_is_told_so(house, line, fires):
    h = house("c8", battery_voltage_v=51.0)
    h.feed(16 - line)
    got = fire(h, "c8", line, device_mode="line")
    assert got == ({"output_source_priority": "USB"} if fires else {})


# --- C9 to C12: protection ------------------------------------------------------------------------


@pytest.mark.parametrize(("volts", "fires"), [(54.4, False), (54.5, True), (54.6, True)])
def test_c9_a_full_battery_is_charged_slowly(house, volts, fires):
    h = house("c9")
    got = fire(h, "c9", 4, battery_voltage_v=volts)
    assert got == ({"relay": "grid_open", "max_charge_current_a": 10.0} if fires else {})


@pytest.mark.parametrize(("high", "fires"), [(2, False), (3, True)])
def test_c9_needs_three_of_four(house, high, fires):
    h = house("c9")
    h.feed(4 - high, battery_voltage_v=54.4)
    assert bool(fire(h, "c9", high, battery_voltage_v=54.5)) is fires


@pytest.mark.parametrize(("amperes", "fires"), [(9.0, False), (10.0, False), (11.0, True)])
def test_c9_is_content_with_ten_amperes(house, amperes, fires):
    h = house("c9", max_charge_current_a=amperes)
    assert bool(fire(h, "c9", 4, battery_voltage_v=54.5)) is fires


def test_c9_on_the_grid_asks_for_the_battery_first(house):
    """Where the output is USB it asks for SBU alone, and for the current once that is so."""
    h = house("c9", output_source_priority="USB", battery_voltage_v=54.6)
    h.minutes(4)
    assert h.batches == [("c9", {"output_source_priority": "SBU"})]
    h.minutes(2)
    assert h.batches[1:] == [("c9", {"max_charge_current_a": 10.0})]


@pytest.mark.parametrize(
    ("name", "value", "fires"),
    [
        ("battery_voltage_v", 54.4, False),
        ("battery_voltage_v", 54.5, True),
        ("battery_charge_current_a", 0.1, False),
        ("battery_discharge_current_a", 1.0, False),
        ("bulk_voltage_v", 53.8, False),
        ("bulk_voltage_v", 53.9, True),
    ],
)
def test_c10_a_battery_that_rests_full_is_held_lower(house, name, value, fires):
    h = house("c10", battery_voltage_v=54.5, battery_charge_current_a=0.0, float_voltage_v=53.8)
    got = fire(h, "c10", 6, **{name: value})
    wanted = {
        "relay": "grid_open",
        "max_charge_current_a": 10.0,
        "float_voltage_v": 53.7,
        "bulk_voltage_v": 53.8,
        "redischarge_voltage_v": 53.0,
    }
    assert got == (wanted if fires else {})


@pytest.mark.parametrize(("minutes", "fires"), [(4, False), (5, True)])
def test_c10_needs_five_of_six(house, minutes, fires):
    h = house("c10", battery_voltage_v=54.5)
    h.feed(6 - minutes)
    assert bool(fire(h, "c10", minutes, battery_charge_current_a=0.0)) is fires


@pytest.mark.parametrize(("off", "fires"), [(2, False), (3, True)])
def test_c11_a_stopped_charge_is_not_charged_against(house, off, fires):
    h = house("c11")
    h.feed(4 - off)
    got = fire(h, "c11", off, charge_mosfet_on=False)
    assert bool(got) is fires
    if fires:
        assert got["bulk_voltage_v"] == 53.8
        assert list(h.batches[0][1])[1:3] == ["float_voltage_v", "bulk_voltage_v"]


@pytest.mark.parametrize(("bulk", "fires"), [(53.8, False), (53.9, True)])
def test_c11_only_while_bulk_is_high(house, bulk, fires):
    h = house("c11", bulk_voltage_v=bulk, float_voltage_v=53.7)
    assert bool(fire(h, "c11", 4, charge_mosfet_on=False)) is fires


@pytest.mark.parametrize(("volts", "fires"), [(3.529, False), (3.53, True), (3.54, True)])
def test_c12_a_cell_that_is_too_high(house, volts, fires):
    h = house("c12")
    got = fire(h, "c12", 4, cell_voltage_v=[3.3] * 15 + [volts])
    assert (got.get("bulk_voltage_v") == 53.8) is fires
    assert (got.get("relay") == "grid_open") is fires


def test_c12_looks_at_the_mean_of_four_minutes(house):
    h = house("c12")
    for volts in (3.50, 3.55, 3.55, 3.51):  # 3.5275
        h.pass_minute(cell_voltage_v=[volts] * 16)
    assert not fire(h, "c12", 0)
    h.pass_minute(cell_voltage_v=[3.52] * 16)  # 3.5325
    h.evaluate()
    assert h.asked("c12")


@pytest.mark.parametrize(("known", "fires"), [(2, False), (3, True)])
def test_c12_needs_three_of_its_four_minutes(house, known, fires):
    h = house("c12", cell_voltage_v=[3.6] * 16)
    h.missing = {"battery"}
    h.feed(4 - known)
    h.missing = set()
    assert bool(fire(h, "c12", known)) is fires


def test_c12_creeps_down_to_its_floor_and_no_further(house):
    h = house("c12", bulk_voltage_v=53.8, float_voltage_v=53.7, cell_voltage_v=[3.55] * 16)
    seen = []
    for _ in range(60):
        h.minutes(1)
        seen.append((h.settings["float_voltage_v"], h.settings["bulk_voltage_v"]))
    steps = list(dict.fromkeys(seen))
    bulks = [53.8, 53.7, 53.6, 53.5, 53.4, 53.3, 53.2, 53.1, 53.0]
    assert [bulk for _, bulk in steps] == bulks
    assert steps[1] == (53.6, 53.7)
    assert steps[-1] == (52.9, 53.0)
    assert all(low <= high for low, high in steps)


def test_c12_does_not_raise_what_is_below_its_floor(house):
    h = house("c12", bulk_voltage_v=52.0, float_voltage_v=51.9, max_charge_current_a=10.0)
    h.minutes(10, cell_voltage_v=[3.6] * 16)
    assert h.batches == []


# --- C13 and C14 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("amperes", "fires"), [(39.0, True), (40.0, False), (50.0, False)])
def test_c13_each_night_the_charger_gets_its_range_back(house, amperes, fires):
    h = house(
        "c13",
        at="2026-06-01T01:10:00Z",
        max_charge_current_a=amperes,
        bulk_voltage_v=53.8,
        float_voltage_v=53.7,
        redischarge_voltage_v=53.0,
    )
    got = fire(h, "c13", 1)
    wanted = {
        "bulk_voltage_v": 55.2,
        "float_voltage_v": 55.1,
        "max_charge_current_a": 40.0,
        "redischarge_voltage_v": 55.0,
    }
    assert got == (wanted if fires else {})
    if fires:
        assert list(h.batches[0][1])[:2] == ["bulk_voltage_v", "float_voltage_v"]


@pytest.mark.parametrize(
    ("utc", "fires"), [("00:59", False), ("01:00", True), ("01:58", True), ("02:00", False)]
)
def test_c13_only_from_three_to_four(house, utc, fires):
    from datetime import timedelta

    h = house("c13", at=f"2026-06-01T{utc}:00Z", max_charge_current_a=10.0)
    h.now -= timedelta(minutes=1)
    assert bool(fire(h, "c13", 1)) is fires


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24"])
@pytest.mark.parametrize("zone", ["Europe/Bratislava", "America/New_York", "America/Santiago"])
def test_c13_acts_once_a_night_over_both_changes_of_the_clocks(house, zone, day):
    """Two days and nights, every five minutes, with a device that never keeps what it is told."""
    h = house("c13", at=f"{day}T10:00:00Z", zone=zone, max_charge_current_a=10.0)
    h.obeys = True
    for _ in range(2 * 24 * 12):
        h.feed(4)
        h.minutes(1)
        h.settings["max_charge_current_a"] = 10.0
    assert len(h.batches) == 2


@pytest.mark.parametrize(
    ("zone", "change", "hour"),
    [
        ("Europe/Bratislava", "2026-03-28T12:00:00Z", "02:00-03:00"),  # it does not exist
        ("Europe/Bratislava", "2026-10-24T12:00:00Z", "02:00-03:00"),  # it comes twice
        ("America/New_York", "2026-03-07T12:00:00Z", "02:00-03:00"),
        ("America/New_York", "2026-10-31T12:00:00Z", "01:00-02:00"),
    ],
)
def test_an_hour_that_is_missing_or_comes_twice_is_one_night(house, zone, change, hour):
    rest = f'[rules.c13]\nhours = "{hour}"\n'
    h = house("c13", at=change, zone=zone, rest=rest, max_charge_current_a=10.0)
    for _ in range(24 * 12):
        h.feed(4)
        h.minutes(1)
        h.settings["max_charge_current_a"] = 10.0
    assert len(h.batches) == 1


@pytest.mark.parametrize(
    ("volts", "setting", "fires"),
    [
        (54.9, 55.0, False),
        (55.0, 55.0, True),
        (53.0, 53.0, True),
        (52.9, 53.0, False),
        (56.0, 0.0, False),  # 0 means full: nothing to compare with
    ],
)
def test_c14_a_charged_battery_takes_the_house_over(house, volts, setting, fires):
    h = house("c14", output_source_priority="USB", redischarge_voltage_v=setting)
    got = fire(h, "c14", 6, battery_voltage_v=volts)
    assert got == ({"relay": "grid_open", "output_source_priority": "SBU"} if fires else {})


@pytest.mark.parametrize(("high", "fires"), [(4, False), (5, True)])
def test_c14_needs_five_of_six(house, high, fires):
    h = house("c14", output_source_priority="USB", battery_voltage_v=54.9)
    h.feed(6 - high)
    assert bool(fire(h, "c14", high, battery_voltage_v=55.0)) is fires


def test_c14_not_where_the_battery_feeds_already(house):
    h = house("c14", output_source_priority="SBU")
    assert fire(h, "c14", 6, battery_voltage_v=56.0) == {}


# --- a rule that ends with its hours --------------------------------------------------------------


@pytest.mark.parametrize("ends", [True, False])
def test_a_rule_may_end_with_its_hours(house, ends):
    """10:00 UTC is noon there; the charge never comes to 95 %."""
    rest = f"""
[rules.cheap]
says = "The battery is filled while power is cheap"
priority = 20
hours = "11:00-12:10"
ends_with_hours = {"true" if ends else "false"}
when = [{{ samples = "now", all = [{{ quantity = "battery.battery_soc_percent", below = 80 }}] }}]
until = [{{ samples = "now", all = [{{ quantity = "battery.battery_soc_percent", above = 95 }}] }}]
do = [{{ set = "inverter.charger_source_priority", to = "solar_first" }}]
safe = {{ settings = "leave" }}
temporary = true
afterwards = "restore"
min_on_min = 1
min_off_min = 1
most_switches_day = 6
"""
    h = house("cheap", rest=rest)
    h.minutes(5)
    assert h.settings["charger_source_priority"] == "solar_first"
    h.minutes(10)
    expected = "solar_only" if ends else "solar_first"
    assert h.settings["charger_source_priority"] == expected
    assert h.state.rules["cheap"].is_active is not ends
