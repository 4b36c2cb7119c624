"""N1 to N14, as far as the controller keeps them; the relay and the collectors keep the others."""

import pytest
from controller import engine, judge
from controller.loading import plan_of
from sunmesh import clock
from sunmesh.errors import ConfigError

CELLS_HIGH = [3.3] * 15 + [3.6]


def group(test, volts):
    """One minute of the battery's voltage, as a rule writes it."""
    name = "inverter.battery_voltage_v"
    return f'[{{ samples = "1 of 1", all = [{{ quantity = "{name}", {test} = {volts} }}] }}]'


def own(name, setting, value, above=50.0, below=49.0, priority=10, rest_min=1):
    """A rule of the owner's."""
    return f"""
[rules.{name}]
says = "sets {setting}"
priority = {priority}
hours = "always"
when = {group("above", above)}
until = {group("below", below)}
do = [{{ set = "inverter.{setting}", to = {value} }}]
safe = {{ settings = "leave" }}
min_on_min = {rest_min}
min_off_min = {rest_min}
most_switches_day = 10
"""


# --- N1: the order of the numbers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("to_usb_v", 51.2),
        ("grid_on_v", 51.8),
        ("grid_off_v", 53.7),
        ("float_low_v", 53.8),
        ("bulk_low_v", 54.5),
        ("full_v", 55.1),
        ("float_high_v", 55.2),
        ("bulk_high_v", 55.1),
        ("bulk_floor_v", 53.8),
        ("float_floor_v", 53.0),
        ("soc_low_percent", 24.0),
        ("cell_rest_v", 3.53),
    ],
)
def test_n1_numbers_in_the_wrong_order_are_refused(site, name, value):
    with pytest.raises(ConfigError, match=r"controller.numbers: .* must be below"):
        plan_of(site(f"[controller.numbers]\n{name} = {value}\n"))


def test_n1_numbers_of_another_battery_are_taken(site):
    plan = plan_of(site("[controller.numbers]\nto_usb_v = 50.0\nfull_v = 54.8\n"))
    assert plan.numbers["full_v"] == 54.8


# --- N2: float never above bulk -------------------------------------------------------------------


def orders(house, rule):
    return [list(values) for who, values in house.batches if who == rule]


def test_n2_lowering_sends_float_first(house):
    h = house("c11", charge_mosfet_on=False)
    h.minutes(4)
    (names,) = orders(h, "c11")
    assert names.index("float_voltage_v") < names.index("bulk_voltage_v")


def test_n2_raising_sends_bulk_first(house):
    h = house(
        "c13",
        at="2026-06-01T01:00:00Z",
        max_charge_current_a=10.0,
        bulk_voltage_v=53.8,
        float_voltage_v=53.7,
    )
    h.minutes(1)
    (names,) = orders(h, "c13")
    assert names.index("bulk_voltage_v") < names.index("float_voltage_v")


def test_n2_what_would_leave_float_above_bulk_is_not_sent(house):
    rest = own("low", "bulk_voltage_v", 53.8, above=54.0, below=53.0)
    h = house("low", rest=rest, battery_voltage_v=54.2)
    h.minutes(3)
    assert h.batches == []
    assert "above the bulk voltage" in h.decision("low").why


# --- N3: nothing old is acted upon ----------------------------------------------------------------


@pytest.mark.parametrize(("device", "age_s"), [("battery", 15.1), ("battery", 600.0)])
def test_n3_an_old_sample_is_an_alarm_instead(house, device, age_s):
    h = house("c12", "c1", output_source_priority="USB", battery_soc_percent=5.0)
    h.battery["cell_voltage_v"] = CELLS_HIGH
    h.feed(12)
    h.late_s[device] = age_s
    h.evaluate()
    h.now = h.now.replace(minute=h.now.minute + 1)
    outcome = h.evaluate()
    assert h.nothing
    assert outcome.alarms["c12"].severity == "critical"
    assert outcome.alarms["c1"].severity == "warning"
    assert "cannot see" in outcome.alarms["c12"].title
    assert not outcome.is_good or "c12" not in [w for w, _ in h.relay]


def test_n3_a_fresh_one_is_acted_upon_up_to_three_periods(house):
    h = house("c12", cell_voltage_v=CELLS_HIGH)
    h.feed(4)
    h.late_s["battery"] = 15.0
    h.evaluate()
    assert h.asked("c12")


def test_n3_old_settings_are_an_alarm_instead(house):
    h = house("c9", battery_voltage_v=55.0)
    h.feed(4)
    h.late_s["settings"] = 181.0
    outcome = h.evaluate()
    assert h.nothing
    assert "181 s old" in outcome.alarms["c9"].text


@pytest.mark.parametrize("quality", ["suspect", "stale", "partial"])
def test_n3_what_is_doubtful_is_not_acted_upon(house, quality):
    h = house("c9", battery_voltage_v=55.0)
    h.quality["inverter"] = {"battery_voltage_v": quality}
    h.minutes(4)
    assert h.nothing
    assert "c9" in h.outcomes[-1].alarms


def test_n3_a_sample_of_the_future_is_not_acted_upon(house):
    h = house("c9", battery_voltage_v=55.0)
    h.feed(4)
    h.late_s["inverter"] = -30.0
    h.evaluate()
    assert h.nothing
    assert "a clock is wrong" in h.decision("c9").why


# --- N5: each rule by itself ----------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["c9", "c10", "c11", "c12", "c4", "c6", "c1"])
def test_n5_a_rule_that_fails_skips_no_other(house, broken, monkeypatch):
    h = house(
        battery_voltage_v=54.8,
        battery_charge_current_a=0.0,
        charge_mosfet_on=False,
        cell_voltage_v=CELLS_HIGH,
    )
    h.obeys = False
    real = judge.judge

    def judged(rule, view, **how):
        if rule.name == broken:
            raise ZeroDivisionError("on purpose")
        return real(rule, view, **how)

    monkeypatch.setattr(engine, "judge", judged)
    h.feed(10)
    outcome = h.evaluate()
    wanted = {d.rule for d in outcome.decisions if d.wants}
    assert {"c9", "c10", "c11", "c12"} - {broken} <= wanted
    assert h.batches, "the others act"
    alarm = outcome.alarms[broken]
    assert "ZeroDivisionError" in alarm.text
    assert not outcome.is_good, "and no lease is renewed"


def test_n5_protection_is_first(house):
    plan = house().plan
    assert [rule.name for rule in plan.rules][:4] == ["c9", "c12", "c10", "c11"]
    assert [rule.protects for rule in plan.rules] == [True] * 4 + [False] * 9


# --- N6: one target a setting ---------------------------------------------------------------------


def test_n6_protection_beats_comfort_and_both_say_so(house):
    """At night, with cells that are too high: c13 wants 40 A, c12 wants 10."""
    h = house("c12", "c13", at="2026-06-01T01:00:00Z", cell_voltage_v=CELLS_HIGH)
    h.settings["max_charge_current_a"] = 20.0
    h.feed(4)
    h.evaluate()
    assert h.settings["max_charge_current_a"] == 10.0
    assert orders(h, "c13") == []
    lost = h.decision("c13")
    assert (lost.kind, lost.did) == ("conflict", "nothing")
    assert lost.wants["inverter.max_charge_current_a"] == 40.0
    assert "c12 wants" in lost.why


def test_n6_what_protection_has_reached_is_not_undone_by_comfort(house):
    h = house("c12", "c13", at="2026-06-01T01:00:00Z", cell_voltage_v=CELLS_HIGH)
    h.settings |= {"max_charge_current_a": 10.0, "bulk_voltage_v": 53.0, "float_voltage_v": 52.9}
    h.feed(4)
    h.minutes(5)
    assert h.batches == []


def test_n6_one_batch_a_device_and_evaluation(house):
    h = house(
        battery_voltage_v=54.8,
        battery_charge_current_a=0.0,
        charge_mosfet_on=False,
        cell_voltage_v=CELLS_HIGH,
    )
    h.feed(10)
    outcome = h.evaluate()
    assert len(outcome.batches) == 1
    assert len(outcome.batches[0].values) == len(set(outcome.batches[0].values))
    acted = [d.rule for d in outcome.decisions if d.kind == "acted"]
    assert acted[:2] == ["c9", "c12"]


def test_n6_of_two_rules_of_comfort_the_higher_priority_wins(house):
    rest = own("a", "max_charge_current_a", 20, priority=5) + own("b", "max_charge_current_a", 30)
    h = house("a", "b", rest=rest)
    h.minutes(3)
    assert h.batches == [("b", {"max_charge_current_a": 30.0})]
    assert h.decision("a").kind == "conflict"


def test_the_safe_position_wins_whoever_wants_it(house):
    """A cell is too high and the battery nearly empty: the grid stays connected."""
    h = house("c12", "c4", cell_voltage_v=CELLS_HIGH, battery_voltage_v=51.0)
    h.minutes(6)
    assert all(position == "grid_connected" for _, position in h.relay)
    assert h.decision("c12").kind in ("conflict", "acted", "waiting", "active")


# --- N7: what became of it ------------------------------------------------------------------------


def sent(h):
    """The one batch under way."""
    (pending,) = h.state.pending.values()
    return pending


@pytest.fixture
def unanswered(house):
    """A house whose inverter has been asked for 10 A and has not answered."""
    h = house("c9", battery_voltage_v=54.6)
    h.obeys = False
    h.minutes(4)
    assert list(sent(h).values) == ["max_charge_current_a"]
    return h


@pytest.mark.parametrize("stage", ["failed", "not_applied", "refused", "expired"])
def test_n7_what_did_not_succeed_is_an_alarm_and_waits(unanswered, stage):
    h = unanswered
    h.answer(f"{sent(h).id}/max_charge_current_a", "max_charge_current_a", stage, 40, "it keeps 40")
    h.answer(sent(h).id, "settings", stage, None, "the batch stopped")
    outcome = h.minutes(1)
    assert outcome.alarms["c9"].text.startswith(
        f"max_charge_current_a: {stage.replace('_', ' ')} (it keeps 40)"
    )
    h.minutes(8)
    assert len(h.batches) == 1, "not again within ten minutes"
    h.minutes(2)
    assert len(h.batches) == 2


def test_n7_what_was_applied_though_nobody_could_tell_is_no_failure(unanswered):
    h = unanswered
    told = "its answer was damaged (crc): whether it was applied is not known"
    h.answer(f"{sent(h).id}/max_charge_current_a", "max_charge_current_a", "failed", 10, told)
    h.answer(sent(h).id, "settings", "failed", None, "the batch stopped")
    assert "c9" in h.minutes(1).alarms
    h.settings["max_charge_current_a"] = 10.0
    assert "c9" not in h.minutes(1).alarms


def test_n7_an_answer_that_never_comes_is_a_failure(unanswered):
    h = unanswered
    assert h.state.pending
    outcome = h.minutes(1)
    assert "did not say what became of" in outcome.alarms["c9"].text
    assert not h.state.pending


def test_n7_it_is_done_when_it_is_read_back(unanswered):
    h = unanswered
    for stage in ("accepted", "sent", "acknowledged"):
        h.answer(f"{sent(h).id}/max_charge_current_a", "max_charge_current_a", stage, 10)
        assert h.state.pending
    h.answer(f"{sent(h).id}/max_charge_current_a", "max_charge_current_a", "applied", 10)
    h.answer(sent(h).id, "settings", "applied")
    h.settings["max_charge_current_a"] = 10.0
    outcome = h.minutes(1)
    assert not h.state.pending
    assert "c9" not in outcome.alarms
    assert len(h.state.writes_ms["inverter.max_charge_current_a"]) == 1


def test_n7_a_value_that_goes_back_by_itself_is_told(house):
    h = house("c9", battery_voltage_v=54.6)
    h.minutes(4)
    ts = clock.iso(h.now)
    from sunmesh.messages import Result

    gone = Result("x", "max_charge_current_a", 40, "reverted", ts, "controller:c9", "it went back")
    h.state = engine.hear(h.plan, h.state, "inverter", gone, clock.epoch_ms(h.now))
    assert "it went back" in h.minutes(1, max_charge_current_a=40.0).alarms["c9"].text


def test_an_answer_to_somebody_else_changes_nothing(unanswered):
    h = unanswered
    before = h.state.copy()
    h.answer("portal-1/max_charge_current_a", "max_charge_current_a", "failed")
    h.answer("portal-1", "max_charge_current_a", "failed")
    assert h.state == before


# --- The write budget, and flapping ---------------------------------------------------------------


def test_a_setting_is_not_written_more_often_than_its_budget(house):
    rest = "[controller]\nwrites_per_day = 3\n[rules.c1]\nmost_switches_day = 50\nagain_min = 1\n"
    h = house("c1", rest=rest, output_source_priority="USB", battery_soc_percent=10.0)
    for _ in range(120):
        h.minutes(1)
        h.settings["charger_source_priority"] = "solar_only"
    assert len(h.batches) == 3
    assert "written 3 times" in h.decision("c1").why


def test_protection_has_a_budget_of_its_own(house):
    rest = "[controller]\nwrites_per_day = 1\nprotection_writes_per_day = 4\n"
    h = house("c9", rest=rest, battery_voltage_v=54.8)
    for _ in range(60):
        h.minutes(1)
        h.settings["max_charge_current_a"] = 40.0
    assert len(h.batches) == 4


def test_a_rule_switches_no_more_often_than_it_may(house):
    rest = "[rules.c1]\nmost_switches_day = 4\nagain_min = 1\n"
    h = house("c1", rest=rest, output_source_priority="USB", battery_soc_percent=10.0)
    for _ in range(120):
        outcome = h.minutes(1)
        h.settings["charger_source_priority"] = "solar_only"
    assert len(h.batches) == 4
    assert "too often" in outcome.alarms["c1"].title
    h.feed(24 * 60)
    h.settings["charger_source_priority"] = "solar_only"
    h.feed(10)
    h.minutes(1)
    assert len(h.batches) == 5, "a day later it may again"


# --- N10 to N12: the relay ------------------------------------------------------------------------


@pytest.fixture
def opened(house):
    """A house whose grid c6 has opened."""
    h = house("c6", "c4", grid_voltage_v=231.0, battery_voltage_v=53.0)
    h.minutes(10)
    assert h.position == "grid_open"
    assert h.state.hold.rule == "c6"
    return h


def test_n11_the_lease_is_renewed_after_each_good_evaluation(opened):
    h = opened
    for _ in range(5):
        outcome = h.minutes(1)
        assert outcome.relay.renews
        assert outcome.relay.lease_s == 180.0
        assert outcome.is_good


@pytest.mark.parametrize("device", ["inverter", "grid-relay"])
def test_n11_not_on_old_data(opened, device):
    h = opened
    h.late_s[device] = 20.0
    outcome = h.minutes(1)
    assert outcome.relay is None or not outcome.relay.renews
    assert not outcome.is_good
    outcome = h.minutes(1)
    assert device == "grid-relay" or outcome.relay.position == "grid_connected"


def test_n11_a_hiccup_of_one_evaluation_does_not_end_it(opened):
    h = opened
    h.late_s["inverter"] = 20.0
    assert h.minutes(1).relay is None
    h.late_s.clear()
    outcome = h.minutes(1)
    assert outcome.relay.renews
    assert h.position == "grid_open"


def test_n11_two_periods_do(opened):
    h = opened
    h.missing = {"inverter"}
    h.minutes(2)
    assert h.relay[-1] == ("c6", "grid_connected")
    assert h.state.hold is None


def test_n12_recovery_gives_control_back_and_opens_nothing_by_itself(opened):
    h = opened
    h.late_s["inverter"] = 100.0
    h.minutes(3)
    assert h.position == "grid_connected"
    h.late_s.clear()
    h.relay.clear()
    h.minutes(30, battery_voltage_v=51.5)
    assert h.relay == [], "what does not hold any more opens nothing"


def test_n12_rules_open_again_after_good_minutes(opened):
    h = opened
    h.late_s["inverter"] = 100.0
    h.minutes(3)
    h.late_s.clear()
    h.relay.clear()
    h.minutes(6)
    assert h.relay == [], "nine of ten minutes must show that it may"
    h.minutes(8)
    assert h.relay == [("c6", "grid_open")]


def test_n12_a_start_counts_its_good_minutes(house):
    h = house("c6", warm=False, grid_voltage_v=231.0, battery_voltage_v=53.0)
    h.feed(12)
    for _ in range(5):
        h.minutes(1)
        assert h.relay == []
        assert "all must be well for 5 minutes" in h.decision("c6").why
    h.minutes(1)
    assert h.relay == [("c6", "grid_open")]


def test_n12_the_same_after_a_restart(opened):
    h = opened
    h.restart()
    h.position, h.inverter["grid_voltage_v"] = "grid_connected", 231.0  # the lease has ended
    h.relay.clear()
    h.minutes(5)
    assert h.relay == []
    h.minutes(15)
    assert h.relay == [("c6", "grid_open")]


def test_n10_a_relay_that_was_just_connected_stays_so(house):
    h = house("c6", grid_voltage_v=231.0, battery_voltage_v=53.0)
    h.feed(10)
    h.state.connected_ms = clock.epoch_ms(h.now) - 60_000
    h.evaluate()
    assert "less than 5 minutes ago" in h.decision("c6").why
    h.minutes(5)
    assert h.relay == [("c6", "grid_open")]


def test_n10_a_manual_position_is_respected_and_said(house):
    h = house("c6", grid_voltage_v=231.0, battery_voltage_v=53.0)
    h.manual = "2026-06-01T12:00:00Z"
    h.minutes(12)
    assert h.relay == []
    assert "by hand until 2026-06-01T12:00" in h.decision("c6").why


def test_the_relay_that_goes_back_by_itself_is_believed(opened):
    h = opened
    h.position, h.inverter["grid_voltage_v"] = "grid_connected", 231.0
    outcome = h.minutes(1)
    assert h.state.hold is None
    assert outcome.relay.position == "grid_connected"
    assert "by itself" in h.decision("c6").why


def test_a_refusal_of_the_relay_is_told_and_waited_for(house):
    h = house("c6", grid_voltage_v=231.0, battery_voltage_v=53.0)
    h.obeys = False
    h.feed(10)
    wish = h.evaluate().relay
    h.answer(
        wish.id, "relay_position", "refused", "grid_open", "20 switchings", device="grid-relay"
    )
    outcome = h.minutes(1)
    assert h.state.hold is None
    assert "20 switchings" in outcome.alarms["c6"].text
    h.minutes(8)
    assert len([1 for _, position in h.relay if position == "grid_open"]) == 1


def test_the_grid_comes_back_when_the_rule_is_over(opened):
    h = opened
    h.minutes(3, battery_voltage_v=51.2)
    assert h.position == "grid_connected"
    assert h.state.hold is None


def test_another_rule_that_wants_it_open_takes_over(house):
    rest = f"[rules.c6]\nuntil = {group('below', 51.5)}\n"
    h = house("c6", "c12", rest=rest, grid_voltage_v=231.0, battery_voltage_v=53.0)
    h.minutes(10)
    h.minutes(5, cell_voltage_v=CELLS_HIGH)
    h.relay.clear()
    h.minutes(3, battery_voltage_v=51.4)
    assert h.state.hold.rule == "c12"
    assert h.relay == []
    assert h.position == "grid_open"


@pytest.mark.parametrize("mode", ["off", "shadow"])
@pytest.mark.parametrize("rule", ["", "c6"])
def test_whoever_is_not_on_holds_nothing(opened, mode, rule):
    h = opened
    h.state = engine.set_mode(h.plan, h.state, mode, rule)
    h.evaluate()
    assert h.relay[-1] == ("c6", "grid_connected")
    assert h.state.hold is None


# --- N13 is in test_rules_of_the_house ------------------------------------------------------------
# --- N14: a grid that does not come ---------------------------------------------------------------


def test_n14_a_grid_that_does_not_come_is_an_alarm(opened):
    h = opened
    h.obeys = False
    h.inverter["grid_voltage_v"] = 0.0
    h.battery["battery_soc_percent"] = 10.0
    h.minutes(4, battery_voltage_v=51.0)
    assert h.relay[-1][1] == "grid_connected"
    h.position = "grid_connected"
    outcome = h.minutes(3)
    assert outcome.alarms["grid-missing"].severity == "critical"
    h.inverter["grid_voltage_v"] = 229.0
    assert "grid-missing" not in h.minutes(1).alarms


def test_n14_not_where_nobody_asked(house):
    h = house("c6", "c4", battery_voltage_v=53.0, grid_voltage_v=0.0)
    for _ in range(10):
        assert "grid-missing" not in h.minutes(1).alarms


# --- Forced settings ------------------------------------------------------------------------------


@pytest.fixture
def forced(house):
    """A house in which c9 has lowered the charge."""
    h = house("c9", "c13", battery_voltage_v=54.6)
    h.minutes(4)
    assert h.settings["max_charge_current_a"] == 10.0
    assert h.state.forced["inverter.max_charge_current_a"].restore == 40.0
    return h


def test_what_is_forced_is_written_down_before_it_is_set(house):
    h = house("c5", grid_voltage_v=230.0, battery_voltage_v=50.0)
    h.obeys = False
    h.minutes(3)
    kept = h.state.lasting()["forced"]["inverter.output_source_priority"]
    assert (kept["value"], kept["restore"], kept["rule"]) == ("USB", "SBU", "c5")
    assert h.settings["output_source_priority"] == "SBU", "not set yet"


def test_after_a_crash_it_stays_while_it_is_needed(forced):
    h = forced
    h.restart()
    h.minutes(5)
    assert h.settings["max_charge_current_a"] == 10.0
    assert any("still needed" in d.why for o in h.outcomes for d in o.decisions)


def test_after_a_crash_it_is_undone_when_its_rule_is_over(forced):
    h = forced
    h.minutes(20, battery_voltage_v=51.0)
    assert h.settings["max_charge_current_a"] == 10.0, "left until the night"
    h.restart()
    h.minutes(2)
    assert h.settings["max_charge_current_a"] == 40.0
    told = [d for o in h.outcomes for d in o.decisions if d.kind == "restored"]
    assert "found after a restart" in told[0].why
    assert not h.state.forced


def test_after_a_crash_it_is_undone_when_its_rule_is_gone(forced, site):
    h = forced
    h.restart()
    h.plan = plan_of(site('[controller]\npreset = ""\n'))
    outcome = h.minutes(1)
    assert h.settings["max_charge_current_a"] == 40.0
    assert outcome.decisions[-1].rule == "c9"
    assert "gone" in outcome.decisions[-1].why


@pytest.mark.parametrize("rule", ["", "c9"])
def test_it_is_undone_when_somebody_switches_off(forced, rule):
    h = forced
    h.state = engine.set_mode(h.plan, h.state, "off", rule)
    h.minutes(2)
    assert h.settings["max_charge_current_a"] == 40.0
    assert not h.state.forced


def test_off_is_off_though_the_crash_was_before(forced):
    h = forced
    h.state = engine.set_mode(h.plan, h.state, "off")
    h.restart()
    h.minutes(1)
    assert h.settings["max_charge_current_a"] == 40.0


def test_a_restore_that_fails_is_tried_again_later_and_told(forced):
    h = forced
    h.state = engine.set_mode(h.plan, h.state, "off")
    h.obeys = False
    h.evaluate()
    (pending,) = h.state.pending.values()
    h.answer(pending.id, "settings", "failed", None, "no answer")
    outcome = h.minutes(1)
    assert "no answer" in outcome.alarms["c9"].text
    assert h.state.forced
    h.obeys = True
    h.minutes(12)
    assert h.settings["max_charge_current_a"] == 40.0


def test_what_somebody_else_set_since_then_stands(forced):
    h = forced
    h.minutes(4, battery_voltage_v=53.0)
    h.minutes(1, max_charge_current_a=25.0)
    assert not h.state.forced
    assert "somebody else" in h.decision("c9").why
    h.state = engine.set_mode(h.plan, h.state, "off")
    h.minutes(2)
    assert h.settings["max_charge_current_a"] == 25.0


def test_what_the_night_raised_is_not_forced_any_more(forced):
    h = forced
    h.minutes(20, battery_voltage_v=51.0)
    h.now = clock.parse("2026-06-02T01:00:00Z")
    h.minutes(3)
    assert h.settings["max_charge_current_a"] == 40.0
    assert not h.state.forced


def test_afterwards_restore_puts_back_when_the_rule_is_over(house):
    rest = own("hot", "max_charge_current_a", 20, above=54.0, below=53.0, rest_min=5)
    rest += 'temporary = true\nafterwards = "restore"\n'
    h = house("hot", rest=rest)
    h.minutes(1, battery_voltage_v=54.2)
    assert h.settings["max_charge_current_a"] == 20.0
    h.minutes(3, battery_voltage_v=52.0)
    assert h.settings["max_charge_current_a"] == 20.0, "it lasts five minutes"
    while h.settings["max_charge_current_a"] != 40.0:
        h.minutes(1)
    h.minutes(4, battery_voltage_v=54.2)
    assert h.settings["max_charge_current_a"] == 40.0, "it rests five minutes"
    h.minutes(4)
    assert h.settings["max_charge_current_a"] == 20.0


# --- Modes ----------------------------------------------------------------------------------------


def test_off_does_nothing_and_says_so(house):
    h = house(battery_voltage_v=55.0)
    h.state = engine.set_mode(h.plan, h.state, "off")
    h.minutes(6)
    assert h.nothing
    assert h.decision("c9").why == "the controller is off"


def test_shadow_decides_and_does_not_act(house):
    h = house("c9", battery_voltage_v=54.6)
    h.state = engine.set_mode(h.plan, h.state, "shadow")
    h.minutes(6)
    assert h.nothing
    told = h.decision("c9")
    assert (told.mode, told.kind, told.did) == ("shadow", "shadow", "nothing")
    assert told.wants == {
        "inverter.max_charge_current_a": 10.0,
        "inverter.output_source_priority": "SBU",
        "relay": "grid_open",
    }


def test_a_decision_says_what_it_saw(house):
    h = house("c9", battery_voltage_v=54.6)
    h.feed(4)
    h.evaluate()
    told = h.decision("c9")
    assert told.saw["inverter.battery_voltage_v"] == 54.6
    assert told.saw["inverter.max_charge_current_a"] == 40.0
    assert told.saw["when 1"] == "4 of 4, needs 3"
    assert told.changed
    assert told.did == "asked to open the grid; set max_charge_current_a = 10.0"


def test_the_state_that_came_in_stays_as_it_is(house):
    h = house("c9", battery_voltage_v=54.6)
    h.feed(4)
    before, copy = h.state, h.state.copy()
    engine.decide(h.plan, before, h.view())
    assert before == copy


def test_a_clock_that_is_set_back_neither_blocks_nor_hurries(house):
    h = house("c9", battery_voltage_v=54.6)
    h.minutes(4)
    h.state.writes_ms = {"inverter.max_charge_current_a": [clock.epoch_ms(h.now)]}
    h.now = clock.parse("2026-06-01T08:00:00Z")
    h.settings["max_charge_current_a"] = 40.0
    h.minutes(20)
    assert h.settings["max_charge_current_a"] == 10.0
    assert len(h.batches) <= 3
