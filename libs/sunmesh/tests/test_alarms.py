"""The life of an alarm, and what folds under what."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sunmesh.alarms import BROKER, Alarms, Condition, Terms, Topology, causes, root
from sunmesh.errors import MessageError
from sunmesh.messages import Alarm as Message
from sunmesh.messages import decode, encode

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = ("battery", "cell_spread")
WIDE = Condition("warning", "Cells drift apart", "62 mV.", 0.062, "Look.", {"spread": "62 mV"})
WORSE = Condition("critical", "Cells drift apart", "120 mV.", 0.12)
NO_FLAPS = Terms(flaps=0)


class Clock:
    """Holds one condition after the other, so many seconds later."""

    def __init__(self, terms, alarms=None):
        self.alarms, self.terms, self.at, self.said = alarms or Alarms("watch-"), terms, 100.0, []

    def after(self, seconds, condition, **more):
        self.at += seconds
        now = START + timedelta(seconds=self.at)
        said = self.alarms.hold(KEY, condition, self.at, now, self.terms, **more)
        if said is not None:
            self.said.append(said)
        return said


def test_raised_still_there_cleared():
    clock = Clock(NO_FLAPS)
    raised = clock.after(0, WIDE)
    assert (raised.state, raised.severity, raised.value) == ("raised", "warning", 0.062)
    assert (raised.advice, raised.data) == ("Look.", {"spread": "62 mV"})
    assert raised.since == raised.ts
    assert clock.after(1, WIDE) is None
    cleared = clock.after(1, None, over="Even again.")
    assert (cleared.id, cleared.state, cleared.text) == (raised.id, "cleared", "Even again.")
    assert cleared.since == raised.ts
    assert clock.after(1, None) is None
    again = clock.after(1, WIDE)
    assert again.id != raised.id
    for alarm in clock.said:
        assert decode(Message, encode(alarm)) == alarm


def test_it_must_hold_for_a_time_and_be_over_for_a_time():
    clock = Clock(Terms(for_s=60, clear_s=30, flaps=0))
    assert clock.after(0, WIDE) is None
    assert clock.after(59, WIDE) is None
    assert clock.after(0.5, None) is None
    assert clock.after(1, WIDE) is None
    assert clock.after(59.9, WIDE) is None
    assert clock.after(0.2, WIDE).state == "raised"
    assert clock.after(10, None) is None
    assert clock.after(10, WIDE) is None
    assert clock.after(10, None) is None
    assert clock.after(29.9, None) is None
    assert clock.after(0.2, None).state == "cleared"


def test_when_it_will_have_lasted_long_enough_is_known():
    clock = Clock(Terms(for_s=10, clear_s=20, pause_s=60, flaps=0))
    due = lambda: clock.alarms.due(KEY, clock.terms)  # noqa: E731
    assert due() is None
    clock.after(0, WIDE)
    assert due() == 110
    clock.after(10, WIDE)
    assert due() is None, "it is said"
    clock.after(5, None)
    assert due() == 135
    clock.after(5, WIDE)
    assert due() is None
    clock.after(5, None)
    assert clock.after(20, None).state == "cleared"
    clock.after(5, WIDE)
    assert due() == 205, "not before the pause is over"


def test_a_pause_lies_between_two_alarms():
    clock = Clock(Terms(pause_s=300, flaps=0))
    clock.after(0, WIDE)
    clock.after(1, None)
    assert clock.after(10, WIDE) is None
    assert clock.after(280, None) is None
    assert clock.after(5, WIDE) is None
    assert clock.after(5, WIDE).state == "raised"


def test_a_worse_alarm_is_the_same_alarm_and_is_said_again():
    clock = Clock(NO_FLAPS)
    raised = clock.after(0, WIDE)
    worse = clock.after(1, WORSE)
    assert (worse.id, worse.severity, worse.since) == (raised.id, "critical", raised.ts)
    assert worse.ts > raised.ts
    assert clock.after(1, WORSE) is None


def test_it_is_called_better_when_that_has_lasted():
    clock = Clock(Terms(flaps=0, calm_s=300))
    clock.after(0, WIDE)
    clock.after(1, WORSE)
    for _ in range(20):
        assert clock.after(100, WIDE) is None
        assert clock.after(100, WORSE) is None
    assert clock.after(1, WIDE) is None
    assert clock.after(150, WIDE, cause="a/b").severity == "critical", "a cause is told meanwhile"
    assert clock.after(151, WIDE, cause="a/b").severity == "warning"
    assert clock.after(1, None).state == "cleared"


def test_a_cause_that_comes_late_is_said_and_one_that_ends_too():
    clock = Clock(NO_FLAPS)
    clock.after(0, WIDE)
    assert clock.after(1, WIDE, cause="roof/device_lost").cause == "roof/device_lost"
    assert clock.after(1, WIDE, cause="roof/device_lost") is None
    assert clock.after(1, WIDE).cause is None


def test_what_comes_and_goes_becomes_one_alarm_that_says_so_and_clears_when_calm():
    clock = Clock(Terms(flaps=6, within_s=600, calm_s=600))
    for _ in range(50):
        clock.after(5, WIDE)
        clock.after(5, None)
    assert [a.state for a in clock.said] == ["raised", "cleared"] * 3 + ["raised"]
    last = clock.said[-1]
    assert last.flapping
    assert "comes and goes" in last.title
    assert "7 times in 10 min" in last.text
    assert clock.after(590, None) is None
    over = clock.after(10.1, None)
    assert (over.state, over.id) == ("cleared", last.id)
    assert not clock.after(10, WIDE).flapping


def test_a_flapping_alarm_that_stays_is_an_ordinary_one_again():
    clock = Clock(Terms(flaps=3, within_s=600, calm_s=100))
    for condition in (WIDE, None, WIDE, None, WIDE):
        clock.after(1, condition)
    assert clock.said[-1].flapping
    worse = clock.after(1, WORSE)
    assert (worse.severity, worse.flapping) == ("critical", True)
    calm = clock.after(101, WORSE)
    assert (calm.state, calm.flapping, calm.title) == ("raised", False, WORSE.title)
    assert clock.after(1, None).state == "cleared"


def test_a_restart_changes_nothing():
    terms = Terms(for_s=60, clear_s=60)
    clock = Clock(terms)
    clock.after(0, WIDE)
    clock.after(40, WIDE)
    for _ in range(4):  # a restart in each state: waiting, raised, ending, over
        state = json.loads(json.dumps(clock.alarms.state(clock.at)))
        clock.alarms = Alarms("watch-")
        clock.at += 5000.0  # another machine's uptime
        clock.alarms.restore(state, clock.at)
        clock.after(30, WIDE if len(clock.said) == 0 else None)
    clock.after(60, None)
    assert [a.state for a in clock.said] == ["raised", "cleared"]


@pytest.mark.parametrize(
    "state", [3, ["x"], [{}], [{"device": "a", "code": "b", "holds": 1, "since": "soon"}]]
)
def test_a_state_that_is_none_is_refused_whole(state):
    clock = Clock(NO_FLAPS)
    clock.after(0, WIDE)
    with pytest.raises(MessageError):
        clock.alarms.restore(state, clock.at)
    assert clock.alarms.get(KEY) is not None


def test_what_an_earlier_run_raised_is_taken_over():
    first = Clock(NO_FLAPS)
    raised = first.after(0, WIDE)
    second = Clock(NO_FLAPS)
    assert second.alarms.is_own(raised)
    assert not Alarms("battery-").is_own(raised)
    assert second.alarms.adopt(KEY, raised)
    assert not second.alarms.adopt(KEY, raised)
    assert second.after(1, WIDE) is None
    assert second.after(1, None).id == raised.id


def test_long_names_make_ids_that_the_database_can_hold():
    alarms = Alarms("watch-")
    key = ("d" * 32, "relay_without_effect_and_more_of_it")
    said = alarms.hold(key, Condition("info", "t" * 500, "x" * 70_000), 0.0, START)
    assert len(said.id) <= 64
    assert len(said.title) <= 160
    assert len(encode(said)) < 65_536


def test_an_alarm_that_nobody_looks_after_is_dropped():
    clock = Clock(NO_FLAPS)
    raised = clock.after(0, WIDE)
    assert clock.alarms.drop(KEY, START, "No rule any more.").id == raised.id
    assert clock.alarms.drop(KEY, START, "") is None


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"for_s": -1}, "for_s must be"),
        ({"flaps": 1}, "flaps must be"),
        ({"calm_s": 0}, "calm_s must be"),
        ({"within_s": 1e9}, "within_s must be"),
    ],
)
def test_impossible_terms_are_refused(terms, reason):
    with pytest.raises(ValueError, match=reason):
        Terms(**terms)


@given(
    st.lists(st.tuples(st.floats(0, 400), st.sampled_from([None, WIDE, WORSE])), max_size=60),
    st.sampled_from([NO_FLAPS, Terms(), Terms(for_s=60, clear_s=30, pause_s=60), Terms(flaps=3)]),
)
def test_whatever_happens_an_alarm_is_raised_before_it_is_cleared_and_cleared_once(steps, terms):
    clock = Clock(terms)
    for seconds, condition in steps:
        clock.after(seconds, condition)
    open_id = None
    for alarm in clock.said:
        if alarm.state == "cleared":
            assert alarm.id == open_id
            open_id = None
        else:
            assert open_id in (None, alarm.id)
            open_id = alarm.id


# --- causes ---------------------------------------------------------------------------------------

PANELS = [f"roof-{n}" for n in range(12)]
HOUSE = Topology(
    through=dict.fromkeys(PANELS, "roof"),
    service={**dict.fromkeys([*PANELS, "roof"], "collector-pvs6"), "battery": "collector-bms"},
    grid_fed=("roof", "meter"),
    grid_seen=("inverter",),
    relay=("grid-relay",),
)


def test_twelve_devices_fold_under_their_gateway():
    keys = [("roof", "device_lost"), *((panel, "sample_old") for panel in PANELS)]
    found = causes(keys, HOUSE)
    assert found == {(panel, "sample_old"): ("roof", "device_lost") for panel in PANELS}


def test_they_fold_under_the_service_then_under_the_broker():
    lost = [(device, "sample_old") for device in ["roof", *PANELS]]
    service = ("collector-pvs6", "service_lost")
    found = causes([*lost, service, BROKER], HOUSE)
    assert {root(found, key) for key in lost} == {BROKER}
    assert found["roof", "sample_old"] == service
    assert found[service] == BROKER
    assert found["roof-3", "sample_old"] == ("roof", "sample_old")
    assert root(causes([*lost, service], HOUSE), lost[5]) == service


def test_who_lives_on_the_grid_is_silent_without_it():
    keys = [("inverter", "grid_lost"), ("meter", "device_lost"), ("battery", "device_lost")]
    assert causes(keys, HOUSE) == {("meter", "device_lost"): ("inverter", "grid_lost")}


def test_an_outage_is_told_by_who_sees_it_first():
    keys = [("inverter", "grid_lost"), ("grid-relay", "grid_absent")]
    assert causes(keys, HOUSE) == {keys[1]: keys[0]}
    dead = [*keys, ("grid-relay", "relay_without_effect")]
    assert set(causes(dead, HOUSE).values()) == {dead[2]}


def test_other_facts_of_a_device_stand_for_themselves():
    keys = [("collector-bms", "service_lost"), ("battery", "cell_spread"), ("roof", "device_lost")]
    assert causes(keys, HOUSE) == {}


def test_a_better_word_for_the_same_thing_comes_first():
    keys = [("roof-1", "panel_day_low"), ("roof-1", "panel_weak"), ("roof-1", "device_lost")]
    assert causes(keys, HOUSE)["roof-1", "panel_day_low"] == ("roof-1", "panel_weak")
    keys = [("controller", "grid-missing"), ("grid-relay", "grid_absent")]
    assert causes(keys, HOUSE) == {keys[0]: keys[1]}


@given(
    st.sets(
        st.tuples(
            st.sampled_from(["roof", "roof-1", "meter", "inverter", "broker", "collector-pvs6"]),
            st.sampled_from(
                ["device_lost", "sample_old", "grid_lost", "service_lost", "broker_lost", "x"]
            ),
        )
    ),
    st.dictionaries(st.sampled_from(["roof", "roof-1"]), st.sampled_from(["roof", "roof-1"])),
)
def test_nothing_follows_from_itself(keys, through):
    topology = Topology(through, {"roof": "collector-pvs6"}, ("roof", "meter"), ("inverter",))
    found = causes(sorted(keys), topology)
    for key in keys:
        assert root(found, key) in keys, "this ends"
