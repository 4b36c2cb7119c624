"""Every way in and out of the two positions, on a clock of the test's own."""

import math

import pytest
from grid_relay.position import CONNECTED, DAY_S, OPEN, Limits, Memory, Relay
from sunmesh.messages import Command

LIMITS = Limits(min_connected_s=300, max_switches_per_day=20)
RESTED = Memory(switched_s=(3600.0,))
"""The last switching is an hour ago: nothing forbids an opening."""


def relay(limits=LIMITS, memory=RESTED):
    return Relay(limits, 0.0, memory)


def want_open(lease_s=180, **more):
    return Command("relay_position", OPEN, lease_s=lease_s, **more)


CONNECT = Command("relay_position", CONNECTED)
AUTO = Command("manual", "auto")


def by_hand(position, lease_s=3600, **more):
    return Command("manual", position, lease_s=lease_s, **more)


def opened(limits=LIMITS, lease_s=180):
    one = relay(limits)
    assert one.request(0, want_open(lease_s)).is_granted
    assert one.tick(0).position == OPEN
    return one


def stands(one, now):
    decision = one.tick(now)
    return decision.position, decision.reason


# -- the lease -------------------------------------------------------------------------------------


def test_it_starts_connected():
    assert stands(relay(), 0) == (CONNECTED, "startup")
    assert relay().lease_remaining_s(0) == 0


def test_a_lease_opens_and_its_end_connects():
    one = opened()
    assert stands(one, 0) == (OPEN, "leased")
    assert one.lease_remaining_s(100) == 80
    assert stands(one, 179.9) == (OPEN, "leased")
    assert stands(one, 180) == (CONNECTED, "lease_expired")
    assert one.lease_remaining_s(180) == 0
    assert one.tick(180).alarms["lease_expired"].severity == "warning"


def test_a_renewal_prolongs_and_switches_nothing():
    one = opened()
    verdict = one.request(170, want_open(180))
    assert (verdict.is_granted, verdict.detail, verdict.switches) == (True, "renewed", False)
    assert stands(one, 349) == (OPEN, "leased")
    assert stands(one, 350)[0] == CONNECTED
    assert one.switch_count == 2


def test_a_renewal_counts_from_its_arrival_and_may_shorten():
    one = opened(lease_s=600)
    one.request(10, want_open(20))
    assert one.lease_remaining_s(10) == 20


def test_a_renewal_that_comes_too_late_finds_the_lease_ended():
    one = opened()
    verdict = one.request(180.0, want_open())
    assert not verdict.is_granted
    assert "300 s" in verdict.detail
    assert stands(one, 180.0) == (CONNECTED, "lease_expired")


def test_the_alarm_of_a_lapsed_lease_ends_with_the_next_good_request():
    one = opened()
    assert "lease_expired" in one.tick(200).alarms
    assert one.request(600, want_open()).is_granted
    assert "lease_expired" not in one.tick(600).alarms


@pytest.mark.parametrize(
    "lease_s", [None, 0, 0.5, -1, 601, 1e300, math.inf, -math.inf, math.nan, True, "180"]
)
def test_an_impossible_lease_is_refused_and_connects(lease_s):
    one = relay()
    verdict = one.request(0, want_open(lease_s))
    assert not verdict.is_granted
    assert "lease_s" in verdict.detail
    one = opened()
    assert not one.request(1, want_open(lease_s)).is_granted
    decision = one.tick(1)
    assert (decision.position, decision.reason) == (CONNECTED, "unreadable_request")
    assert "unreadable_request" in decision.alarms


@pytest.mark.parametrize("lease_s", [1, 600, 1.0])
def test_the_ends_of_the_range_are_leases(lease_s):
    assert relay().request(0, want_open(lease_s)).is_granted


@pytest.mark.parametrize(
    "value",
    [None, "", "OFF", "open", "grid_open ", "GRID_OPEN", 0, 1, False, True, 1.5, ["grid_open"]],
)
@pytest.mark.parametrize("name", ["relay_position", "manual"])
def test_only_the_exact_words_are_positions(name, value):
    one = opened()
    verdict = one.request(5, Command(name, value, lease_s=100))
    assert not verdict.is_granted
    assert stands(one, 5) == (CONNECTED, "unreadable_request")


def test_an_unknown_name_and_garbage_connect():
    one = opened()
    assert not one.request(5, Command("relay", OPEN, lease_s=100)).is_granted
    assert stands(one, 5)[0] == CONNECTED
    one = opened()
    assert "not JSON" in one.unreadable(5, "not JSON").detail
    assert stands(one, 5) == (CONNECTED, "unreadable_request")


def test_the_alarm_of_an_unreadable_request_ends_with_a_readable_one():
    one = relay()
    one.unreadable(0, "not JSON")
    assert "unreadable_request" in one.tick(0).alarms
    one.request(1, CONNECT)
    assert "unreadable_request" not in one.tick(1).alarms


def test_who_asks_for_the_grid_gets_it_at_once():
    one = opened()
    verdict = one.request(0.5, CONNECT)
    assert (verdict.is_granted, verdict.switches) == (True, True)
    assert stands(one, 0.5) == (CONNECTED, "asked")
    assert one.request(1, CONNECT).detail == "is connected"
    assert one.tick(1).alarms == {}


# -- how often -------------------------------------------------------------------------------------


def test_it_stays_connected_for_the_minimum():
    one = opened()
    one.request(10, CONNECT)
    refused = one.request(309, want_open())
    assert not refused.is_granted
    assert "1 s more" in refused.detail
    assert stands(one, 309) == (CONNECTED, "asked")
    assert one.request(310, want_open()).is_granted


def test_a_first_start_knows_nothing_and_waits():
    one = Relay(LIMITS, 0.0)
    assert not one.request(299, want_open()).is_granted
    assert one.request(300, want_open()).is_granted


def test_an_opening_needs_room_for_its_closing():
    limits = Limits(min_connected_s=0, max_switches_per_day=4)
    one = relay(limits, Memory(switched_s=(DAY_S + 1,)))
    for now in (0, 10):
        assert one.request(now, want_open()).is_granted
        one.request(now + 5, CONNECT)
    refused = one.request(20, want_open())
    assert "4 switchings in 24 hours" in refused.detail
    assert one.tick(20).alarms["switches_spent"].value == 4
    assert one.switch_count == 4
    assert one.request(DAY_S + 5, want_open()).is_granted
    assert "switches_spent" not in one.tick(DAY_S + 16).alarms


def test_an_odd_number_leaves_the_last_unused():
    limits = Limits(min_connected_s=0, max_switches_per_day=3)
    one = relay(limits, Memory(switched_s=(DAY_S + 1,)))
    assert one.request(0, want_open()).is_granted
    one.request(1, CONNECT)
    assert not one.request(2, want_open()).is_granted


def test_a_reason_exceeds_the_number_but_not_the_minimum():
    limits = Limits(min_connected_s=60, max_switches_per_day=2)
    one = relay(limits, Memory(switched_s=(100.0,)))
    assert not one.request(0, want_open()).is_granted
    assert one.request(0, want_open(override="the electrician is here")).is_granted
    one.request(1, CONNECT)
    assert not one.request(2, want_open(override="again")).is_granted
    assert one.request(61, want_open(override="again")).is_granted


def test_what_ends_an_opening_is_never_refused():
    limits = Limits(min_connected_s=0, max_switches_per_day=2)
    one = relay(limits, Memory(switched_s=(DAY_S + 1,)))
    one.request(0, want_open(override=""))
    assert one.request(1, CONNECT).is_granted
    assert one.switch_count == 2


# -- a restart -------------------------------------------------------------------------------------


def test_a_restart_remembers_when_it_was_switched():
    one = opened()
    one.request(10, CONNECT)
    memory = one.memory(20)
    assert memory == Memory(CONNECTED, (3620.0, 20.0, 10.0), 2, "")
    again = Relay(LIMITS, 1000.0, memory)
    assert again.switch_count == 2
    assert not again.request(1289, want_open()).is_granted
    assert again.request(1290, want_open()).is_granted


def test_a_restart_that_found_it_open_has_switched():
    memory = opened().memory(5)
    assert memory.position == OPEN
    again = Relay(LIMITS, 50.0, memory)
    assert stands(again, 50) == (CONNECTED, "startup")
    assert again.switch_count == 2
    assert not again.request(349, want_open()).is_granted
    assert again.request(350, want_open()).is_granted


def test_what_is_forgotten_counts_as_used_up():
    one = Relay(LIMITS, 0.0, Memory(is_lost=True))
    assert "forgotten" in one.tick(0).alarms["switches_spent"].text
    assert "forgotten" in one.request(301, want_open()).detail
    assert one.request(301, want_open(override="I looked")).is_granted
    assert "switches_spent" not in one.tick(DAY_S + 400).alarms


def test_times_from_a_clock_that_ran_ahead_count_as_now():
    one = Relay(LIMITS, 0.0, Memory(switched_s=(-5000.0,)))
    assert not one.request(299, want_open()).is_granted


def test_a_moment_that_runs_back_is_the_one_before():
    one = opened()
    one.tick(100)
    assert one.lease_remaining_s(50) == 80


# -- by hand ---------------------------------------------------------------------------------------


def test_by_hand_open_and_its_end():
    one = relay()
    assert one.request(0, by_hand(OPEN)).is_granted
    assert stands(one, 3599) == (OPEN, "manual")
    assert (one.manual_position, one.manual_remaining_s(3599)) == (OPEN, 1)
    assert one.lease_remaining_s(3599) == 1
    decision = one.tick(3600)
    assert (decision.position, decision.reason) == (CONNECTED, "manual_ended")
    assert decision.alarms == {}
    assert one.manual_remaining_s(3600) is None


def test_by_hand_connected_refuses_the_rules_until_it_ends():
    one = opened()
    assert one.request(5, by_hand(CONNECTED, 1000)).is_granted
    assert stands(one, 5) == (CONNECTED, "manual")
    refused = one.request(900, want_open())
    assert "by hand for 105 s" in refused.detail
    assert stands(one, 1005) == (CONNECTED, "manual_ended")
    assert one.request(1005, want_open()).is_granted


def test_auto_ends_it():
    one = relay()
    one.request(0, by_hand(CONNECTED))
    assert one.request(1, AUTO).is_granted
    assert one.request(2, want_open()).is_granted
    one.request(3, by_hand(OPEN))
    assert stands(one, 3) == (OPEN, "manual")
    one.request(4, AUTO)
    assert stands(one, 4) == (OPEN, "leased")


def test_auto_without_a_lease_connects():
    one = relay()
    one.request(0, by_hand(OPEN))
    assert one.request(1, AUTO).switches
    assert stands(one, 1) == (CONNECTED, "manual_ended")


def test_a_lease_carries_on_when_the_hand_lets_go():
    one = relay()
    one.request(0, by_hand(OPEN, 60))
    one.request(50, want_open(180))
    assert stands(one, 50) == (OPEN, "manual")
    assert stands(one, 61) == (OPEN, "leased")
    assert stands(one, 230) == (CONNECTED, "lease_expired")


def test_a_lease_that_ends_under_the_hand_is_no_alarm():
    one = opened()
    one.request(10, by_hand(OPEN, 1000))
    assert stands(one, 200) == (OPEN, "manual")
    assert one.tick(1010).alarms == {}


def test_the_grid_wins_over_a_hand_that_holds_it_open():
    one = relay()
    one.request(0, by_hand(OPEN))
    assert one.request(5, CONNECT).switches
    assert stands(one, 5) == (CONNECTED, "asked")
    assert one.manual_position is None


def test_a_hand_replaces_a_hand():
    one = relay()
    one.request(0, by_hand(CONNECTED))
    assert one.request(1, by_hand(OPEN)).is_granted
    assert stands(one, 1) == (OPEN, "manual")


@pytest.mark.parametrize("lease_s", [None, 0, 86_401, math.nan])
def test_a_hand_needs_an_end(lease_s):
    one = opened()
    assert not one.request(1, by_hand(OPEN, lease_s)).is_granted
    assert stands(one, 1)[0] == CONNECTED
    assert one.manual_position is None


def test_a_hand_waits_like_everybody():
    one = opened()
    one.request(1, CONNECT)
    assert not one.request(2, by_hand(OPEN)).is_granted


# -- what fails ------------------------------------------------------------------------------------


def test_without_a_broker_the_lease_ends_as_ever():
    one = opened()
    one.broker_lost(10)
    assert stands(one, 179) == (OPEN, "leased")
    assert stands(one, 180) == (CONNECTED, "lease_expired")


def test_without_a_broker_no_hand_holds_it_for_long():
    one = relay()
    one.request(0, by_hand(OPEN, 86_400))
    one.broker_lost(100)
    assert one.lease_remaining_s(100) == 600
    assert stands(one, 699) == (OPEN, "manual")
    decision = one.tick(700)
    assert (decision.position, decision.reason) == (CONNECTED, "broker_lost")
    assert "broker" in decision.alarms["lease_expired"].text


def test_a_broker_that_comes_back_changes_nothing():
    one = relay()
    one.request(0, by_hand(OPEN, 86_400))
    one.broker_lost(100)
    one.broker_lost(400)
    one.broker_back(600)
    assert stands(one, 2000) == (OPEN, "manual")


def test_nothing_opens_without_a_broker():
    one = relay()
    one.broker_lost(0)
    assert not one.request(1, want_open()).is_granted
    one.broker_back(2)
    assert one.request(2, want_open()).is_granted


def test_without_an_output_everything_is_refused():
    one = opened()
    one.output(5, "no chip is called pinctrl-rp1")
    decision = one.tick(5)
    assert (decision.position, decision.reason) == (CONNECTED, "no_output")
    assert decision.alarms["output_unavailable"].severity == "critical"
    for command in (want_open(), CONNECT, by_hand(OPEN), by_hand(CONNECTED)):
        verdict = one.request(500, command)
        assert not verdict.is_granted
        assert "pinctrl-rp1" in verdict.detail
    assert one.manual_position is None
    one.output(501, "")
    assert one.tick(501).alarms == {}
    assert one.request(501, want_open()).is_granted


def test_the_end_is_connected_and_final():
    one = opened()
    assert one.stop(5).reason == "stopping"
    assert stands(one, 5) == (CONNECTED, "stopping")
    assert not one.request(1000, want_open()).is_granted
    assert one.memory(5).position == CONNECTED


# -- the contact -----------------------------------------------------------------------------------

WIRED = Limits(has_feedback=True, min_connected_s=0)


def test_a_contact_that_follows_proves():
    one = relay(WIRED)
    assert one.proven is None
    one.feedback(0, closed=True)
    one.request(1, want_open())
    one.feedback(1.1, closed=True)
    assert one.proven == CONNECTED
    one.feedback(2.9, closed=False)
    assert one.proven == OPEN
    assert stands(one, 100) == (OPEN, "leased")
    assert one.tick(100).alarms == {}


def test_a_contactor_that_does_not_open_is_connected_and_left_alone():
    one = relay(WIRED)
    one.feedback(0, closed=True)
    one.request(1, want_open())
    one.feedback(1.0, closed=True)
    one.feedback(3.0, closed=True)
    assert stands(one, 3.0)[0] == OPEN
    one.feedback(3.1, closed=True)
    decision = one.tick(3.1)
    assert (decision.position, decision.reason) == (CONNECTED, "fault")
    assert decision.alarms["feedback_mismatch"].severity == "critical"
    refused = one.request(1000, want_open())
    assert "manual auto" in refused.detail
    assert not one.request(1000, by_hand(OPEN)).is_granted
    assert one.request(1000, CONNECT).is_granted


def test_a_contactor_that_does_not_close_is_an_alarm():
    one = relay(WIRED)
    one.feedback(0, closed=False)
    one.feedback(2.5, closed=False)
    assert "feedback_mismatch" in one.tick(2.5).alarms


def test_a_contact_that_cannot_be_read_proves_nothing():
    one = relay(WIRED)
    one.feedback(0, closed=True)
    one.request(1, want_open())
    one.feedback(1.5, closed=False)
    one.feedback(2, closed=None)
    one.feedback(4.5, closed=None)
    assert stands(one, 4.5) == (CONNECTED, "fault")
    assert "nothing" in one.fault


def test_somebody_looked():
    one = relay(WIRED)
    one.feedback(0, closed=None)
    one.feedback(3, closed=None)
    assert one.fault
    one.feedback(10, closed=True)
    assert one.fault
    assert one.request(11, AUTO).is_granted
    assert one.request(12, want_open()).is_granted


def test_a_fault_outlives_a_restart():
    one = relay(WIRED)
    one.tick(0)
    one.feedback(3, closed=None)
    one.feedback(6, closed=None)
    again = relay(WIRED, one.memory(6))
    assert not again.request(1, want_open()).is_granted


def test_a_pause_of_the_process_is_no_fault():
    one = relay(WIRED)
    one.feedback(0, closed=True)
    one.request(1, want_open())
    one.feedback(1.01, closed=True)
    one.feedback(60, closed=False)
    assert stands(one, 60) == (OPEN, "leased")


# -- the grid's window ---------------------------------------------------------------------------

PATIENT = Limits(window_s=10, window_wait_s=60, min_connected_s=0)


def test_who_asks_for_the_grid_waits_for_its_window():
    one = opened(PATIENT)
    one.meter(0, 180.0, 50.0)
    verdict = one.request(1, CONNECT)
    assert (verdict.is_granted, verdict.waits) == (True, True)
    assert stands(one, 5) == (OPEN, "leased")
    assert one.waits_for_grid
    one.meter(6, 230.0, 50.0)
    one.meter(15, 230.0, 50.0)
    assert stands(one, 15)[0] == OPEN
    one.meter(16, 230.0, 50.0)
    assert stands(one, 16) == (CONNECTED, "asked")


def test_a_grid_that_was_good_all_along_is_connected_at_once():
    one = opened(PATIENT)
    one.meter(0, 230.0, 50.0)
    assert stands(one, 10)[0] == OPEN
    assert not one.request(10, CONNECT).waits
    assert stands(one, 10) == (CONNECTED, "asked")


@pytest.mark.parametrize(
    ("voltage", "frequency"),
    [(206.9, 50.0), (253.1, 50.0), (230.0, 48.9), (230.0, 51.1), (None, 50.0), (230.0, None)],
)
def test_outside_its_window_the_count_begins_anew(voltage, frequency):
    one = opened(PATIENT)
    one.meter(0, 230.0, 50.0)
    one.meter(9, voltage, frequency)
    one.meter(10, 230.0, 50.0)
    assert one.request(10, CONNECT).waits


def test_it_waits_so_long_and_no_longer():
    one = opened(PATIENT)
    one.meter(0, 180.0, 50.0)
    one.request(1, CONNECT)
    one.request(30, CONNECT)
    one.meter(55, 180.0, 50.0)
    assert stands(one, 60.9)[0] == OPEN
    assert one.lease_remaining_s(60.9) == pytest.approx(0.1)
    assert stands(one, 61) == (CONNECTED, "asked")


def test_it_waits_no_longer_than_its_lease():
    one = opened(PATIENT, lease_s=20)
    one.meter(0, 180.0, 50.0)
    one.request(1, CONNECT)
    assert stands(one, 20)[0] == CONNECTED


def test_safety_waits_for_no_window():
    for end in (
        lambda one: one.tick(180),
        lambda one: one.unreadable(1, "x"),
        lambda one: one.stop(1),
        lambda one: one.output(1, "x"),
    ):
        one = opened(PATIENT)
        one.meter(0, 0.0, 0.0)
        end(one)
        assert one.position == CONNECTED


def test_a_meter_that_says_nothing_delays_nothing():
    one = opened(PATIENT)
    assert not one.request(1, CONNECT).waits
    one = opened(PATIENT, lease_s=600)
    one.meter(0, 180.0, 50.0)
    assert not one.request(61, CONNECT).waits


def test_a_meter_that_falls_silent_ends_the_wait():
    one = opened(Limits(window_s=10, window_wait_s=300, min_connected_s=0), lease_s=600)
    one.meter(0, 180.0, 50.0)
    one.request(1, CONNECT)
    assert stands(one, 59)[0] == OPEN
    assert stands(one, 61) == (CONNECTED, "asked")


def test_who_changes_his_mind_keeps_it_open():
    one = opened(PATIENT)
    one.meter(0, 180.0, 50.0)
    one.request(1, CONNECT)
    assert one.request(2, want_open()).detail == "renewed"
    assert stands(one, 100) == (OPEN, "leased")


def test_a_hand_waits_for_the_window_too():
    one = opened(PATIENT)
    one.meter(0, 180.0, 50.0)
    assert one.request(1, by_hand(CONNECTED)).waits
    assert stands(one, 2)[0] == OPEN
    assert not one.request(3, want_open()).is_granted
    assert stands(one, 61) == (CONNECTED, "manual")
    one = relay(PATIENT)
    one.request(0, by_hand(OPEN))
    one.meter(0, 180.0, 50.0)
    assert one.request(1, AUTO).waits
    assert stands(one, 61) == (CONNECTED, "manual_ended")


# -- the grid does not come ------------------------------------------------------------------------

SEEN = Limits(has_supply=True, supply_s=180, min_connected_s=0)


def test_a_grid_that_does_not_come_is_critical():
    one = relay(SEEN)
    one.request(0, want_open(600))
    one.supply(590, 0.0)
    assert one.tick(599).alarms == {}
    one.tick(600)
    one.supply(770, 0.0)
    assert "grid_absent" not in one.tick(779).alarms
    alarm = one.tick(780).alarms["grid_absent"]
    assert (alarm.severity, alarm.value) == ("critical", 0.0)
    one.supply(800, 231.0)
    assert "grid_absent" not in one.tick(800).alarms


def test_a_grid_that_came_and_goes_is_an_outage_and_no_emergency():
    one = relay(SEEN)
    one.supply(0, 230.0)
    one.supply(1000, 230.0)
    for now in range(1010, 1200, 10):
        one.supply(now, 12.0)
    alarm = one.tick(1190).alarms["grid_absent"]
    assert (alarm.severity, alarm.title) == ("warning", "the grid is gone")
    assert "has been away for 190 s, with 12 V" in alarm.text


def test_a_grid_that_came_the_last_time_and_not_now_is_critical():
    one = relay(SEEN)
    one.supply(10, 230.0)
    one.request(20, want_open(600))
    one.tick(620)
    for now in range(620, 810, 10):
        one.supply(now, 0.0)
    assert one.tick(810).alarms["grid_absent"].severity == "critical"


def test_an_open_grid_is_not_asked_for():
    one = opened(SEEN, lease_s=600)
    one.supply(300, 0.0)
    assert one.tick(400).alarms == {}


def test_a_voltage_that_nobody_measures_is_said_to_be_unknown():
    one = relay(SEEN)
    assert set(one.tick(180).alarms) == {"grid_unknown"}
    one.supply(200, 230.0)
    one.supply(300, None)
    assert one.tick(379).alarms == {}
    assert set(one.tick(380).alarms) == {"grid_unknown"}


def test_without_a_measurement_nothing_is_said():
    assert relay().tick(100_000).alarms == {}
