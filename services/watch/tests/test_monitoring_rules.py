"""The monitoring rules M1 to M10 of the seeds: each at, above and below its value.

M3's collector part, M8 and M10 have their tests with the collectors and the bookkeeper; what of
them is the watch's is here.
"""

from datetime import UTC, datetime

import pytest

PANELS = [f"roof-{n}" for n in range(1, 7)]
TODAY, YESTERDAY = "2026-06-21", "2026-06-20"


def roof(house):
    house.status("roof").sample("roof", pv_power_w=1200.0)
    for panel in PANELS:
        house.info(panel, "pvs6", through="roof").status(panel)
        house.sample(panel, pv_power_w=200.0, pv_energy_total_kwh=100.0)
    return house


def made(**different):
    """What each panel made yesterday [kWh]; None = nothing is stored of it."""
    energies = {panel: 1.0 for panel in PANELS} | {
        f"roof-{name[1:]}": kwh for name, kwh in different.items()
    }
    return {
        panel: {"2026-06-19": 1.0} | ({} if kwh is None else {YESTERDAY: kwh})
        for panel, kwh in energies.items()
    }


# --- M1 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwh", "is_low"), [(0.81, False), (0.80, False), (0.7999, True), (0.41, True)]
)
def test_m1_a_panel_below_four_fifths_of_its_peers_median(house, kwh, is_low):
    roof(house).days(TODAY, made(p3=kwh)).turn()
    assert ("roof-3/panel_day_low" in house.open) == is_low
    assert len(house.open) == is_low, "and nobody else"


def test_m1_the_reference_is_the_median_of_the_others_not_their_mean(house):
    """Half of them dead: the mean would be halved, and a weak one would pass."""
    roof(house).days(TODAY, made(p1=0.05, p2=0.05, p3=0.6)).turn()
    low = {key for key in house.open if key.endswith("panel_day_low")}
    assert low == {"roof-1/panel_day_low", "roof-2/panel_day_low", "roof-3/panel_day_low"}


@pytest.mark.parametrize(("reference", "is_judged"), [(0.49, False), (0.5, True), (0.51, True)])
def test_m1_only_above_a_least_day(house, reference, is_judged):
    energies = {f"p{n}": reference for n in range(1, 7)} | {"p3": 0.1}
    roof(house).days(TODAY, made(**energies)).turn()
    assert ("roof-3/panel_day_low" in house.open) == is_judged


def test_m1_is_told_in_words_and_is_over_when_a_day_is_good(house):
    roof(house).days(TODAY, made(p3=0.6)).turn()
    alarm = house.open["roof-3/panel_day_low"]
    assert alarm.text == "On 2026-06-20 roof-3 made 0.6 kWh, 60 % of what the others did (1 kWh)."
    assert alarm.data["reference"] == "1 kWh"
    for kwh, is_open in ((0.82, True), (0.84, True), (0.86, False)):
        house.days(TODAY, made(p3=kwh)).turn()
        assert ("roof-3/panel_day_low" in house.open) == is_open, "with hysteresis"


def test_m1_follows_from_what_the_gateway_has_seen_by_day(house):
    from sunmesh.messages import Alarm

    weak = Alarm("roof-3-x", "raised", "warning", "weak", "weak", "2026-06-21T10:00:00.000Z")
    house.judge.hear_foreign(("roof-3", "panel_weak"), weak)
    roof(house).days(TODAY, made(p3=0.6)).turn()
    assert house.open["roof-3/panel_day_low"].cause == "roof-3/panel_weak"


# --- M2 -------------------------------------------------------------------------------------------


def test_m2_a_panel_that_made_something_within_the_week_and_nothing_yesterday(house):
    roof(house).days(TODAY, made(p3=None, p4=0.0)).turn()
    missing = {key for key in house.open if key.endswith("panel_missing")}
    assert missing == {"roof-3/panel_missing", "roof-4/panel_missing"}
    text = house.open["roof-3/panel_missing"].text
    assert text == (
        "roof-3 made nothing on 2026-06-20; it was last seen on 2026-06-19, and the others made "
        "1 kWh."
    )
    house.days(TODAY, made()).turn()
    assert house.open == {}


@pytest.mark.parametrize(
    ("last", "is_missing"), [("2026-06-14", True), ("2026-06-13", False), ("2026-05-01", False)]
)
def test_m2_one_that_is_gone_for_longer_than_n_days_was_taken_down(house, last, is_missing):
    days = made()
    days["roof-3"] = {last: 1.0}
    roof(house).days(TODAY, days).turn()
    assert ("roof-3/panel_missing" in house.open) == is_missing


@pytest.mark.parametrize(("others", "is_judged"), [(0.4, False), (0.5, True)])
def test_m2_a_dark_day_proves_nothing(house, others, is_judged):
    energies = {f"p{n}": others for n in range(1, 7)} | {"p3": None}
    roof(house).days(TODAY, made(**energies)).turn()
    assert ("roof-3/panel_missing" in house.open) == is_judged


def dark(house):
    """Every panel is read, and gives nothing."""
    house.sample("roof", pv_power_w=0.0)
    for panel in PANELS:
        house.sample(panel, pv_power_w=None).status(panel, "sleeping")


@pytest.mark.parametrize(
    ("hour", "is_alarm"), [(11, True), (6, True), (2, False), (23, False)], ids=str
)
def test_m2_all_at_zero_in_daylight(house_with, hour, is_alarm):
    """The sun of June stands at 15° from about 5:15 UTC on, and is down at 2:00."""
    house = roof(house_with(start=datetime(2026, 6, 21, hour, tzinfo=UTC)))
    for _ in range(62):
        house.jump(60)
        dark(house)
        house.turn()
    assert ("roof/pv_dark" in house.open) == is_alarm
    if is_alarm:
        assert "All 6 microinverters" in house.open["roof/pv_dark"].text
        for watts, is_open in ((0.5, True), (1.0, False)):
            for panel in PANELS:
                house.sample(panel, pv_power_w=watts).status(panel)
            house.sample("roof", pv_power_w=6 * watts).turn()
            assert ("roof/pv_dark" in house.open) == is_open


def test_m2_a_gateway_that_cannot_be_read_is_not_dark(house):
    roof(house)
    for _ in range(62):
        house.jump(60).status("roof", "offline")
        house.turn()
    assert "roof/pv_dark" not in house.open


# --- M3 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "is_stale"), [(899.0, False), (900.0, False), (901.0, True), (5000.0, True)]
)
def test_m3_a_sample_of_the_gateway_older_than_a_quarter_of_an_hour_by_day(house, age_s, is_stale):
    house.info("roof", "pvs6", poll_s=300.0).status("roof")
    house.sample("roof", age_s=age_s, pv_power_w=100.0).turn()
    assert ("roof/sample_stale" in house.open) == is_stale


def test_m3_at_night_it_may_be_old(house_with):
    house = house_with(start=datetime(2026, 6, 21, 23, tzinfo=UTC))
    house.status("roof").sample("roof", age_s=5000.0, pv_power_w=0.0).turn()
    assert house.open == {}


# --- M4 -------------------------------------------------------------------------------------------


def summed(house, meter_w, panel_w=200.0):
    house.status("roof").info("roof-p", "pvs6", through="roof").status("roof-p")
    house.sample("roof", pv_power_w=1.0)
    house.sample("roof-p", pv_power_w=meter_w, meter_role="production")
    for panel in PANELS:
        house.sample(panel, pv_power_w=panel_w)
    house.turn()


@pytest.mark.parametrize(
    ("meter_w", "percent"), [(1200.0, 0.0), (1090.91, 10.0), (1333.33, -10.0), (1200 / 0.941, -5.9)]
)
def test_m4_the_difference_is_reported_in_percent(house, meter_w, percent):
    summed(roof(house), meter_w)
    assert house.judge.known["roof", "sum_differs"].value == pytest.approx(percent, abs=0.01)


@pytest.mark.parametrize(
    ("meter_w", "is_alarm"), [(1091.0, False), (1090.0, True), (1334.0, True), (1333.0, False)]
)
def test_m4_a_tenth_either_way_is_told(house, meter_w, is_alarm):
    roof(house)
    for _ in range(32):
        house.jump(60)
        summed(house, meter_w)
    assert ("roof/sum_differs" in house.open) == is_alarm
    if is_alarm:
        assert house.open["roof/sum_differs"].severity == "info"
        assert "1200 W" in house.open["roof/sum_differs"].text


def test_m4_little_light_proves_nothing(house):
    roof(house)
    for _ in range(32):
        house.jump(60)
        summed(house, 199.0, panel_w=10.0)
    assert "roof/sum_differs" not in house.open


# --- M5 -------------------------------------------------------------------------------------------


def plant(own, before=(20.0,) * 7):
    days = {f"2026-06-{19 - n}": kwh for n, kwh in enumerate(before) if kwh is not None}
    return days if own is None else days | {YESTERDAY: own}


@pytest.mark.parametrize(("own", "is_low"), [(6.1, False), (6.0, False), (5.99, True), (0.0, True)])
def test_m5_a_day_below_a_share_of_the_seven_days_before_it(house, own, is_low):
    house.days(TODAY, plant=plant(own)).turn()
    assert ("plant/yield_low" in house.open) == is_low


def test_m5_the_day_itself_is_not_in_its_own_mean(house):
    house.days(TODAY, plant=plant(5.9) | {"2026-06-12": 5000.0, TODAY: 5000.0}).turn()
    text = house.open["plant/yield_low"].text
    assert "the 7 days before it made 20 kWh on average" in text


@pytest.mark.parametrize(("known", "is_judged"), [(4, False), (5, True), (7, True)])
def test_m5_less_than_five_days_are_not_enough_data(house, known, is_judged):
    before = (20.0,) * known + (None,) * (7 - known)
    house.days(TODAY, plant=plant(1.0, before)).turn()
    assert ("plant/yield_low" in house.open) == is_judged
    finding = house.judge.known["plant", "yield_low"]
    assert finding.why.startswith("not enough data") != is_judged


def test_m5_without_a_database_it_waits_and_says_so(house):
    house.turn()
    assert house.facts.days.why_not
    assert ("plant", "yield_low") not in house.judge.known


# --- M6 -------------------------------------------------------------------------------------------


def cells(high, low=3.300):
    return {
        "cell_voltage_spread_v": round(high - low, 3),
        "cell_voltage_max_v": high,
        "cell_voltage_min_v": low,
    }


@pytest.mark.parametrize(
    ("millivolts", "severity"),
    [(49, None), (50, "warning"), (51, "warning"), (99, "warning"), (100, "critical")],
)
def test_m6_cells_apart(house, millivolts, severity):
    house.status("battery").after(62, battery=cells(3.300 + millivolts / 1000))
    alarm = house.open.get("battery/cell_spread")
    assert (alarm and alarm.severity) == severity
    if severity:
        assert f"{millivolts} mV" in alarm.text


def test_m6_gets_worse_and_better_as_one_alarm(house):
    house.status("battery")
    for millivolts, seconds, severity in (
        (60, 65, "warning"),
        (100, 2, "critical"),
        (96, 605, "critical"),
        (94, 595, "critical"),
        (94, 10, "warning"),
    ):
        house.after(seconds, battery=cells(3.3 + millivolts / 1000))
        assert house.open["battery/cell_spread"].severity == severity
    house.after(65, battery=cells(3.346))
    assert "battery/cell_spread" in house.open, "hysteresis"
    assert house.after(65, battery=cells(3.344))[-1] == (("battery", "cell_spread"), "cleared")
    told = [a for key, a in house.said if key[1] == "cell_spread"]
    assert len({a.id for a in told}) == 1
    assert [a.severity for a in told] == ["warning", "critical", "warning", "warning"]


# --- M7 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "severity"),
    [
        (46.0, None),
        (45.0, None),
        (44.9, "info"),
        (15.0, "info"),
        (14.9, "critical"),
        (0, "critical"),
    ],
)
def test_m7_bands_of_the_charge(house, percent, severity):
    house.status("battery").after(125, battery={"battery_soc_percent": percent})
    alarm = house.open.get("battery/soc_low")
    assert (alarm and alarm.severity) == severity
    if severity == "critical":
        assert alarm.title == "battery is below 15 %"


def test_m7_an_inverter_is_believed_only_where_nobody_knows_better(house_with):
    text = ""
    for families, is_open in (
        ({"inverter": "axpert"}, True),
        ({"inverter": "axpert", "battery": "bms"}, False),
    ):
        house = house_with(text, families).status("inverter")
        house.after(125, inverter={"battery_soc_percent": 3})
        assert ("inverter/soc_low" in house.open) == is_open


# --- M8 -------------------------------------------------------------------------------------------


def grid(house, volts, position, seconds=65):
    house.status("inverter").status("grid-relay")
    return house.after(
        seconds,
        inverter={"grid_voltage_v": volts},
        grid_relay={"relay_position": position},
        meter={"grid_voltage_v": volts if position == "grid_connected" else 230.0},
    )


@pytest.mark.parametrize(
    ("volts", "severity"), [(230.0, None), (90.0, None), (89.9, "warning"), (0.0, "warning")]
)
def test_m8_line_fail_is_an_alarm(house, volts, severity):
    grid(house, volts, "grid_connected")
    alarm = house.open.get("inverter/grid_lost")
    assert (alarm and alarm.severity) == severity


def test_m8_line_fail_is_information_where_the_grid_is_opened_on_purpose(house):
    grid(house, 0.0, "grid_open")
    alarm = house.open["inverter/grid_lost"]
    assert (alarm.severity, alarm.title) == ("info", "The grid is open on purpose")
    grid(house, 0.0, "grid_connected", 5)
    assert house.open["inverter/grid_lost"].severity == "warning", "now it should be there"
    grid(house, 230.0, "grid_connected", 35)
    assert house.facts_open == {}


# --- M9 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset_s", "is_off"),
    [(0, False), (30, False), (-30, False), (31, True), (-31, True), (900, True), (-86_400, True)],
)
def test_m9_a_machines_clock_either_way(house, offset_s, is_off):
    """Of the machine that reads a device; a device's own clock is its collector's (15 min)."""
    house.status("attic")
    for _ in range(125):
        house.jump(1).sample("attic", age_s=-offset_s, temperature_c=20.0).turn()
    assert ("attic/clock_differs" in house.open) == is_off


# --- M10 ------------------------------------------------------------------------------------------


def test_m10_a_day_runs_from_midnight_to_midnight_and_has_the_night_in_it():
    from datetime import date

    from watch.days import day_energies

    days = [date(2026, 6, n) for n in (18, 19, 20, 22, 23)]
    lows, lasts = (100.2, 102.4, 105.1, 110.0, 3.0), (102.0, 105.0, 106.0, 111.0, 4.5)
    found = day_energies(list(zip(days, lows, lasts, strict=True)))
    assert found == pytest.approx(
        {
            "2026-06-18": 1.8,  # nothing before it is known: from its own lowest
            "2026-06-19": 3.0,  # 0.4 kWh of it between its first reading and midnight
            "2026-06-20": 1.0,
            "2026-06-22": 1.0,  # the day before is unknown
        }
    ), "a counter that fell says nothing of that day"
