"""Silence, storms, restarts, flapping, and every rule that takes more than one device."""

import pytest
from sunmesh import clock
from sunmesh.messages import Alarm, decode, encode
from watch.facts import Disk, plain
from watch.measures import shown
from watch.rules import fill

from .conftest import FAMILIES, House

ROOF = [f"roof-{n}" for n in range(1, 13)]
ALL = [name for name in FAMILIES if name not in ("roof",)]


def alive(house, but=()):
    """Every device but those says something."""
    for name in ALL:
        if name not in but:
            house.sample(name, some_quantity=1.0)
    if "roof" not in but:
        house.sample("roof", pv_power_w=1.0)
        for panel in ROOF:
            house.sample(panel, pv_power_w=0.1)


def introduced(house):
    for name, family in FAMILIES.items():
        house.info(name, family).status(name)
    for panel in ROOF:
        house.info(panel, "pvs6", through="roof").status(panel)
    for family in ("axpert", "bms", "meter", "pl80", "pvs6", "temperature"):
        house.service(f"collector-{family}")
    house.service("grid-relay")
    return house


def minutes(house, count, but=()):
    for _ in range(int(count * 6)):
        alive(house, but)
        house.jump(10).turn()


def codes(house):
    return {key.partition("/")[2] for key in house.open}


def foreign(house, device, code, state="raised", ident="x-1", cause=None, severity="warning"):
    alarm = Alarm(ident, state, severity, "t", "x", clock.iso(house.now), cause=cause)
    return house.judge.hear_foreign((device, code), alarm)


# --- silence --------------------------------------------------------------------------------------


def test_a_house_where_all_is_well_is_silent(house):
    minutes(introduced(house), 30)
    assert house.said == []


def test_a_collector_that_hangs_is_silence(house):
    introduced(house)
    minutes(house, 1)
    minutes(house, 0.8, but=["battery"])
    assert "battery/sample_old" not in house.open
    minutes(house, 1, but=["battery"])
    alarm = house.open["battery/sample_old"]
    assert (alarm.cause, alarm.data["service"]) == (None, "collector-bms")
    minutes(house, 0.5)
    assert house.open == {}


def test_who_has_just_come_back_owes_its_first_sample_since_then(house):
    house.sample("battery", battery_soc_percent=80.0).status("battery", "sleeping").turn()
    house.jump(300).status("battery").turn()
    assert "battery/sample_old" not in house.open
    house.jump(302).turn()
    assert "battery/sample_old" in house.open


def test_slow_devices_may_be_slow(house):
    introduced(house).info("attic", "temperature", poll_s=300.0)
    minutes(house, 24, but=["attic"])
    assert house.open == {}
    minutes(house, 2, but=["attic"])
    assert set(house.open) == {"attic/sample_old"}


def test_what_its_collector_says_is_not_said_twice(house):
    introduced(house).status("battery", "offline", "no answer")
    minutes(house, 20, but=["battery"])
    assert house.open == {}


def test_a_device_that_never_spoke_is_missed(house):
    minutes(introduced(house), 3, but=["shed"])
    assert set(house.open) == {"shed/sample_old"}


def test_a_dead_service_is_one_alarm_and_its_devices_follow(house):
    introduced(house)
    minutes(house, 1)
    house.service("collector-pvs6", "offline").service("collector-bms", "offline")
    minutes(house, 40, but=["roof", "battery"])
    causes = {key: alarm.cause for key, alarm in house.open.items()}
    assert causes["collector-pvs6/service_lost"] is None
    assert causes["battery/sample_old"] == "collector-bms/service_lost"
    assert causes["roof/sample_stale"] == "collector-pvs6/service_lost"
    pushed = {key for key, alarm in house.open.items() if alarm.cause is None}
    assert pushed == {"collector-pvs6/service_lost", "collector-bms/service_lost"}
    panels = [key for key in house.open if key.startswith("roof-")]
    assert len(panels) == 12, "each has its alarm, and none is pushed"


def test_a_restart_of_a_service_is_no_alarm(house):
    introduced(house)
    house.service("collector-bms", "offline")
    minutes(house, 0.6)
    house.service("collector-bms")
    minutes(house, 5)
    assert house.said == []


def test_a_cause_that_is_over_explains_what_is_left_of_it(house):
    introduced(house)
    house.service("collector-bms", "offline")
    minutes(house, 3, but=["battery"])
    house.service("collector-bms")
    minutes(house, 1, but=["battery"])
    assert house.open["battery/sample_old"].cause == "collector-bms/service_lost"
    minutes(house, 1, but=["battery"])
    assert house.open["battery/sample_old"].cause is None, "now it stands for itself"


def test_after_an_outage_of_the_broker_nobody_is_blamed(house):
    introduced(house)
    minutes(house, 1)
    house.facts.lost_broker(house.at)
    house.jump(300)
    house.facts.found_broker(house.at, 60.0)
    house.turn()
    assert set(house.open) == {"broker/broker_lost"}
    assert "5 min" in house.open["broker/broker_lost"].text
    house.service("collector-pvs6", "offline").jump(50).turn()
    assert house.open["collector-pvs6/service_lost"].cause == "broker/broker_lost"
    house.service("collector-pvs6")
    minutes(house, 2)
    assert house.open == {}
    assert {key for key, _ in house.said} == {
        ("broker", "broker_lost"),
        ("collector-pvs6", "service_lost"),
    }


def test_a_clock_that_jumps_makes_nothing_old(house):
    introduced(house)
    minutes(house, 2)
    for hours in (5, -9):
        house.now = house.now.replace(day=house.now.day + (1 if hours > 0 else -1))
        alive(house)
        house.jump(10).turn()
    minutes(house, 2)
    assert house.said == []


# --- storms and the alarms of others --------------------------------------------------------------


def test_a_storm_of_twelve_lost_devices_folds_under_their_gateway(house):
    introduced(house).turn()
    for panel in ROOF:
        foreign(house, panel, "device_lost", ident=f"{panel}-1")
    assert house.turn() == [], "nobody is to blame yet"
    foreign(house, "roof", "device_lost", ident="roof-1")
    told = dict(house.judge.turn(house.at, house.now))
    assert {key[0] for key in told} == set(ROOF)
    assert {alarm.cause for alarm in told.values()} == {"roof/device_lost"}
    assert {alarm.id for alarm in told.values()} == {f"{panel}-1" for panel in ROOF}
    for key, alarm in told.items():
        assert decode(Alarm, encode(alarm)).state == "raised"
        assert house.judge.hear_foreign(key, alarm) is None, "our own word comes back"
    assert house.turn() == []


def test_who_lives_on_the_grid_follows_from_the_grid(house):
    introduced(house)
    for _ in range(65):
        alive(house, but=["meter", "roof"])
        house.after(1, inverter={"grid_voltage_v": 0.0})
    foreign(house, "meter", "device_lost")
    house.turn()
    assert house.judge.foreign["meter", "device_lost"].cause == "inverter/grid_lost"


def test_a_clearing_that_our_word_overtook_is_said_once_more(house):
    introduced(house).turn()
    foreign(house, "roof", "device_lost", ident="roof-1")
    foreign(house, "roof-1", "device_lost", ident="roof-1-1")
    ((key, told),) = house.judge.turn(house.at, house.now)
    foreign(house, "roof-1", "device_lost", "cleared", "roof-1-1")
    again = house.judge.hear_foreign(key, told)
    assert (again.id, again.state) == ("roof-1-1", "cleared")
    assert foreign(house, "roof-1", "device_lost", ident="roof-1-2") is None, "a new one is new"


def test_ten_thousand_alarms_of_others_are_no_trouble(house):
    introduced(house).turn()
    for number in range(10_000):
        foreign(house, f"d{number}", "device_lost", ident=str(number))
    assert house.turn() == []
    assert len(house.judge.foreign) == 2000
    for number in range(10_000):
        foreign(house, f"d{number}", "device_lost", "cleared", str(number))
    assert house.judge.foreign == {}


@pytest.mark.parametrize(
    ("severity", "cause"), [("warning", "inverter/grid_lost"), ("critical", None)]
)
def test_an_outage_is_one_alarm_and_a_grid_that_does_not_come_its_own(house, severity, cause):
    introduced(house).after(65, inverter={"grid_voltage_v": 0.0})
    assert "inverter/grid_lost" in house.open
    foreign(house, "grid-relay", "grid_absent", severity=severity)
    house.turn()
    assert house.judge.foreign["grid-relay", "grid_absent"].cause == cause


# --- flapping, restarts ---------------------------------------------------------------------------


def test_a_flapping_grid_is_one_alarm(house):
    introduced(house)
    for _ in range(10):
        alive(house)
        house.after(62, inverter={"grid_voltage_v": 0.0})
        alive(house)
        house.after(31, inverter={"grid_voltage_v": 230.0})
    told = [alarm for key, alarm in house.said if key == ("inverter", "grid_lost")]
    assert len(told) == 7
    assert told[-1].flapping
    for _ in range(40):
        alive(house)
        house.jump(20).sample("inverter", grid_voltage_v=230.0).turn()
    assert "inverter/grid_lost" not in house.open


def test_a_restart_says_nothing_anew_and_clears_what_is_over(house):
    house.status("battery").after(62, battery={"cell_voltage_spread_v": 0.07})
    before = len(house.said)
    again = house.restarted()
    again.status("battery").after(5, battery={"cell_voltage_spread_v": 0.07})
    assert len(house.said) == before
    once_more = again.restarted().status("battery")
    assert once_more.after(65, battery={"cell_voltage_spread_v": 0.01}) == [
        (("battery", "cell_spread"), "cleared")
    ]
    assert len({alarm.id for _, alarm in house.said}) == 1


def test_a_device_that_cannot_be_read_keeps_its_alarm(house):
    house.status("battery").after(62, battery={"cell_voltage_spread_v": 0.07})
    house.status("battery", "offline").sample("battery", cell_voltage_spread_v=None)
    house.after(200)
    assert "battery/cell_spread" in house.open
    house.status("battery").after(62, battery={"cell_voltage_spread_v": 0.01})
    assert "battery/cell_spread" not in house.open


def test_what_is_not_known_does_not_last(house):
    house.status("battery").after(40, battery={"cell_voltage_spread_v": 0.07})
    house.after(3, battery={"cell_voltage_spread_v": None})
    house.after(30, battery={"cell_voltage_spread_v": 0.07})
    assert "battery/cell_spread" not in house.open


@pytest.mark.parametrize("quality", ["suspect", "stale", "partial"])
def test_what_is_suspect_raises_nothing(house, quality):
    house.status("battery")
    for _ in range(70):
        house.jump(1).sample(
            "battery",
            quality={"cell_voltage_spread_v": quality},
            cell_voltage_spread_v=0.5,
        ).turn()
    assert house.open == {}


def test_a_rule_that_is_switched_off_clears_its_alarm(house, make_plan):
    house.status("battery").after(62, battery={"cell_voltage_spread_v": 0.07})
    state = house.judge.alarms.state(house.at)
    other = House(make_plan("[alarms.cell_spread]\nenabled = false\n"), house.now)
    other.judge.alarms.restore(state, other.at)
    assert other.turn() == [(("battery", "cell_spread"), "cleared")]


def test_a_device_that_is_no_more_takes_its_alarms_along(house, make_plan):
    house.status("battery").after(62, battery={"cell_voltage_spread_v": 0.07})
    state = house.judge.alarms.state(house.at)
    other = House(make_plan("", {"inverter": "axpert"}), house.now)
    other.judge.alarms.restore(state, other.at)
    assert other.turn() == [(("battery", "cell_spread"), "cleared")]


# --- the other rules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "device", "fine", "bad", "over", "seconds"),
    [
        ("cell_voltage_max_v", "battery", 3.59, 3.60, 3.49, 12),
        ("cell_voltage_min_v", "battery", 2.91, 2.90, 3.01, 32),
        ("battery_voltage_v", "inverter", 58.5, 58.6, 57.4, 12),
        ("battery_voltage_v", "inverter", 46.1, 46.0, 48.1, 62),
        ("heat_sink_temperature_c", "inverter", 69.0, 70.0, 64.0, 62),
        ("ac_output_voltage_v", "inverter", 90.0, 89.9, 180.1, 12),
        ("battery_temperature_c", "battery", [21, 44], [21, 45], [20, 41], 62),
        ("battery_temperature_c", "battery", [1, 20], [0, 20], [4, 20], 302),
    ],
)
def test_limits(house, quantity, device, fine, bad, over, seconds):
    house.status(device).after(seconds, **{device: {quantity: fine}})
    assert house.facts_open == {}
    assert house.after(seconds - 4, **{device: {quantity: bad}}) == [], "not yet"
    house.after(6, **{device: {quantity: bad}})
    assert len(house.facts_open) == 1
    house.after(5, **{device: {quantity: fine}})
    assert len(house.facts_open) == 1, "hysteresis"
    house.after(5, **{device: {quantity: over}})
    assert house.facts_open == {}


@pytest.mark.parametrize(
    ("position", "inverter_v", "meter_v", "is_wrong"),
    [
        ("grid_open", 0.0, 230.0, False),
        ("grid_open", 230.0, 230.0, True),
        ("grid_connected", 230.0, 230.0, False),
        ("grid_connected", 0.0, 230.0, True),
        ("grid_connected", 0.0, 0.0, False),
    ],
)
def test_a_relay_without_effect(house, position, inverter_v, meter_v, is_wrong):
    for name in ("inverter", "meter", "grid-relay"):
        house.status(name)
    house.after(
        185,
        inverter={"grid_voltage_v": inverter_v},
        meter={"grid_voltage_v": meter_v},
        grid_relay={"relay_position": position},
    )
    assert ("grid-relay/relay_without_effect" in house.open) == is_wrong
    if is_wrong:
        assert house.open["grid-relay/relay_without_effect"].severity == "critical"
    if "inverter/grid_lost" in house.open and is_wrong:
        assert house.open["inverter/grid_lost"].cause == "grid-relay/relay_without_effect"


def test_a_string_that_has_given_power_and_gives_none(house):
    house.status("inverter")
    house.after(400, inverter={"pv_power_w": 900.0, "pv2_power_w": 0.0})
    assert house.facts_open == {}, "an input without panels is none"
    house.after(5, inverter={"pv_power_w": 900.0, "pv2_power_w": 700.0})
    house.after(305, inverter={"pv_power_w": 299.0, "pv2_power_w": 0.0})
    assert house.facts_open == {}, "too little sun to tell"
    house.after(305, inverter={"pv_power_w": 900.0, "pv2_power_w": 89.0})
    assert "String 2 of inverter gives 89 W" in house.open["inverter/string_dark"].text
    house.after(65, inverter={"pv_power_w": 100.0, "pv2_power_w": 0.0})
    assert house.facts_open, "the evening proves nothing"
    house.after(65, inverter={"pv_power_w": 900.0, "pv2_power_w": 200.0})
    assert house.facts_open == {}


@pytest.mark.parametrize("stage", ["failed", "not_applied", "reverted"])
def test_a_command_that_was_not_done(house, stage):
    house.status("inverter").result("inverter", "accepted").result("inverter", "refused").turn()
    assert house.open == {}, "a refusal is an answer"
    house.result("inverter", stage, detail="the device\x07 kept\n54.0 {value}").turn()
    alarm = house.open["inverter/command_failed"]
    assert "The bulk voltage of inverter should become 55.2 V: " in alarm.text
    assert "The device  kept 54.0 {value}." in alarm.text
    again = house.restarted()
    again.turn()
    assert "inverter/command_failed" in again.open
    again.result("inverter", "applied").turn()
    assert again.open == {}


def test_a_command_is_no_failure_any_more_once_it_is_read_back(house):
    house.status("inverter").result("inverter", "failed").turn()
    assert "inverter/command_failed" in house.open
    house.has("inverter", bulk_voltage_v=54.0).turn()
    assert "inverter/command_failed" in house.open
    house.has("inverter", bulk_voltage_v=55.2).turn()
    assert house.open == {}
    house.result("inverter", "failed", "output_source_priority", "SBU").turn()
    house.has("inverter", output_source_priority="SUB").turn()
    assert "inverter/command_failed" in house.open
    house.has("inverter", output_source_priority="SBU").turn()
    assert house.open == {}


def test_what_a_rule_or_a_batch_could_not_do_is_told_elsewhere(house):
    house.result("inverter", "failed", by="controller:c9").turn()
    house.result("inverter", "failed", "settings", None).turn()
    assert house.open == {}


def test_what_fails_on_a_noisy_line_follows_from_it(house):
    noisy = Alarm("x-1", "raised", "warning", "noisy", "noisy", "2026-06-21T10:00:00.000Z")
    house.judge.hear_foreign(("inverter", "line_noisy"), noisy)
    house.result("inverter", "failed").turn()
    assert house.open["inverter/command_failed"].cause == "inverter/line_noisy"


def test_rules_that_cannot_see_follow_from_the_device_or_what_reads_it(house):
    blind = Alarm("c-1", "raised", "warning", "blind", "blind", "2026-06-21T10:00:00.000Z")
    house.judge.hear_foreign(("controller", "blind-inverter"), blind)
    house.judge.hear_foreign(("grid-relay", "grid_unknown"), blind)
    lost = Alarm("i-1", "raised", "warning", "lost", "lost", "2026-06-21T10:00:00.000Z")
    house.judge.hear_foreign(("inverter", "device_lost"), lost)
    house.turn()
    assert {key: alarm.cause for (key, _), alarm in house.said if alarm.cause} == {
        "controller": "inverter/device_lost",
        "grid-relay": "inverter/device_lost",
    }


def test_a_failed_command_is_told_for_an_hour(house):
    house.result("inverter", "failed").turn()
    house.jump(3590).turn()
    assert "inverter/command_failed" in house.open
    house.jump(20).turn()
    assert "inverter/command_failed" not in house.open


@pytest.mark.parametrize(
    ("today", "severity"), [(9, None), (10, "info"), (11, "info"), (12, "warning"), (13, "warning")]
)
def test_the_budget_of_writes(house, today, severity):
    house.settings("inverter", bulk_voltage_v=(today, 12), float_voltage_v=(1, 12)).turn()
    alarm = house.open.get("inverter/writes_spent")
    assert (alarm and alarm.severity) == severity
    if severity:
        assert f"The bulk voltage of inverter was written {today} times" in alarm.text


@pytest.mark.parametrize(
    ("percent", "severity"), [(84.9, None), (85.0, "warning"), (95.0, "critical")]
)
def test_a_full_disk(house, percent, severity):
    house.facts.disks = [Disk("/var", 20.0, 10**11), Disk("/data", percent, 3 * 10**9)]
    house.after(62)
    alarm = house.open.get("watch/disk_full")
    assert (alarm and alarm.severity) == severity
    if severity:
        assert "/data" in alarm.text
        assert "3.0 GB are free" in alarm.text


@pytest.mark.parametrize(("damaged", "is_noisy"), [(0, False), (1, False), (2, True), (9, True)])
def test_a_noisy_line(house, damaged, is_noisy):
    house.status("inverter")
    for turn in range(5):
        house.health(
            "collector-axpert",
            inverter_polls=15 * turn,
            inverter_damaged_crc=damaged * turn,
            inverter_timeouts=40 * turn,
            inverter_damaged_nak=40 * turn,
            inverter_last_success="2026",
        )
        house.after(30)
    assert ("inverter/line_noisy" in house.open) == is_noisy


def test_counters_that_begin_anew_are_no_noise(house):
    house.health("collector-axpert", inverter_polls=1000, inverter_damaged_crc=500)
    house.health("collector-axpert", inverter_polls=20, inverter_damaged_crc=1)
    house.after(60)
    assert house.open == {}


def test_a_sleeping_battery_and_an_exchanged_plug(house):
    house.status("battery", "sleeping").status("inverter", "identity_mismatch", "serial <b>7</b>")
    house.after(19)
    assert house.open == {}
    house.after(2)
    assert set(house.open) == {"inverter/identity_wrong"}
    house.after(45)
    assert set(house.open) == {"inverter/identity_wrong", "battery/battery_asleep"}
    house.status("battery").status("inverter").turn()
    assert house.open == {}


def test_an_alarm_of_ones_own_over_words(house_with):
    house = house_with(
        '[alarms.fault_mode]\nmeasure = "device_mode"\nequals = "fault"\nseverity = "critical"\n'
        'title = "{device} stands"\ntext = "{device} is in {value}."\n'
        '[alarms.a_code]\nmeasure = "warnings"\nequals = "fan_locked"\n'
        'title = "Fan"\ntext = "{value}"\n'
    )
    house.status("inverter").after(2, inverter={"device_mode": "line", "warnings": ["overload"]})
    assert house.open == {}
    house.after(2, inverter={"device_mode": "fault", "warnings": ["overload", "fan_locked"]})
    assert house.open["inverter/fault_mode"].text == "inverter is in fault."
    assert house.open["inverter/a_code"].text == "overload, fan_locked"


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.062, "V", "62 mV"),
        (3.456, "V", "3.456 V"),
        (53.25, "V", "53.2 V"),
        (230.0, "V", "230 V"),
        (0, "V", "0 V"),
        (45.0, "%", "45 %"),
        (59, "s", "59 s"),
        (600, "s", "10 min"),
        (90_000, "s", "25 h"),
        (12_345.0, "W", "12.3 kW"),
        (True, "", "True"),
        (None, "V", "unknown"),
    ],
)
def test_numbers_for_people(value, unit, text):
    assert shown(value, unit) == text


def test_a_value_is_no_template():
    assert fill("{device}: {{x}} {value}", {"device": "{value}", "value": "{device!r}"}) == (
        "{value}: {x} {device!r}"
    )
    assert fill("{missing}", {}) == "-"


def test_foreign_words_are_cut_and_cleaned():
    assert plain("a\x00b\n\x1b[31mc\u2028d") == "a b [31mc d"
    assert len(plain("x" * 70_000)) == 200


def test_what_is_worse_than_its_cause_stands_for_itself(house):
    apart = {"cell_voltage_spread_v": 0.06, "cell_voltage_max_v": 3.61}
    house.status("battery").after(65, battery=apart)
    assert house.open["battery/cell_high"].cause == "battery/cell_spread"
    house.after(65, battery=apart | {"cell_voltage_max_v": 3.66})
    assert house.open["battery/cell_spread"].severity == "warning"
    alarm = house.open["battery/cell_high"]
    assert alarm.severity == "critical"
    assert house.open["battery/cell_high"].cause is None
