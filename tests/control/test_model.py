"""The safety of lease, relay and controller, checked as a whole by random histories.

Processes die, messages are lost, doubled and late, clocks are set, the broker goes away. The
promises are in ``house.py``. Two mutations prove that the machine finds what it looks for.
"""

import logging
import math

import pytest
from controller import engine
from grid_relay.position import OPEN, Relay
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sunmesh.messages import Command

from .house import OWNERS, Breach, House, hold

EXAMPLES = 2000
STEPS = 11

quick = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.fixture(autouse=True)
def silence():
    """Thousands of histories have nothing to say in a log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Control(RuleBasedStateMachine):
    """One history of a house."""

    relay_class = Relay

    def __init__(self):
        super().__init__()
        self.house = House(self.relay_class)
        self.house.choose("on")

    @initialize(voltage=st.sampled_from([51.5, 53.0, 55.0]))
    def begin(self, voltage):
        """A third of the histories begins with the grid open, one with the charge lowered, too."""
        self.house.voltage = voltage
        for _ in range(4):
            self.house.minute()

    # -- time --------------------------------------------------------------------------------------

    @rule(minutes=st.integers(1, 4))
    def all_is_well(self, minutes):
        for _ in range(minutes):
            self.house.minute()

    @rule(voltage=st.sampled_from([50.0, 51.2, 51.5, 51.8, 53.0, 54.5, 55.0]))
    def the_battery_changes(self, voltage):
        self.house.voltage = voltage
        self.house.minute()
        self.house.minute()

    @rule(
        sees=st.sampled_from(["all", "first", "none"]),
        sees_relay=st.booleans(),
        reads=st.booleans(),
        runs=st.booleans(),
    )
    def something_is_not_heard(self, sees, sees_relay, reads, runs):
        self.house.minute(sees, sees_relay, reads, runs)

    @rule(seed=st.integers(0, 9), kind=st.sampled_from(["loses", "doubles", "delays"]))
    def the_line_is_bad(self, seed, kind):
        self.house.dice.seed(seed)
        setattr(self.house, kind, 0.5)
        self.house.minute()
        self.house.minute()
        setattr(self.house, kind, 0.0)

    @rule(minutes=st.sampled_from([1, 3, 10]))
    def nobody_evaluates(self, minutes):
        """The process hangs, or is stopped by SIGSTOP."""
        self.house.wait(60 * minutes)

    @rule(by_s=st.sampled_from([-7200.0, -90.0, 90.0, 7200.0]))
    def the_clock_is_set(self, by_s):
        self.house.step_s += by_s

    # -- deaths ------------------------------------------------------------------------------------

    @rule()
    def the_controller_is_killed(self):
        self.house.kill_controller()

    @rule()
    def the_controller_stops(self):
        self.house.stop_controller()

    @rule(seconds=st.sampled_from([0, 20, 200]))
    def the_controller_starts(self, seconds):
        self.house.wait(seconds)
        self.house.start_controller()

    @rule(seconds=st.sampled_from([0, 30]))
    def the_relay_dies_and_comes_back(self, seconds):
        self.house.kill_relay()
        self.house.wait(seconds)
        self.house.start_relay()

    @rule(seconds=st.sampled_from([5, 100, 400]))
    def the_broker_is_away(self, seconds):
        self.house.broker = False
        self.house.wait(seconds)
        self.house.broker = True
        self.house.repeat()

    # -- people and things -------------------------------------------------------------------------

    @rule(mode=st.sampled_from(["off", "shadow", "on", "on"]))
    def somebody_chooses_a_mode(self, mode):
        self.house.choose(mode)

    @rule(
        value=st.sampled_from(["grid_open", "grid_connected", "auto"]),
        lasts_s=st.sampled_from([60.0, 600.0]),
    )
    def somebody_moves_the_relay(self, value, lasts_s):
        house = self.house
        if house.relay is None:
            return
        verdict = house.relay.manual(house.t, Command("manual", value, lease_s=lasts_s))
        if verdict.is_granted:
            house.manual_until = house.t + lasts_s if value == OPEN else house.t
            if value == "grid_connected":
                house.lent_until = house.t
        house.look()

    @rule(amperes=st.sampled_from([10.0, 20.0, 40.0]))
    def somebody_sets_the_charger(self, amperes):
        self.house.settings["max_charge_current_a"] = amperes

    @rule(quality=st.sampled_from(["", "suspect", "stale"]))
    def the_voltage_is_doubtful(self, quality):
        self.house.quality = quality
        self.house.minute()

    @rule()
    def the_street_is_dark(self):
        self.house.grid = not self.house.grid

    @rule()
    def the_disk_is_full(self):
        self.house.disk.is_full = not self.house.disk.is_full
        self.house.minute()

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self):
        """Whatever happened: once all is well and the controller is off, nothing is left behind."""
        house = self.house
        house.disk.is_full = False
        house.quality = ""
        house.start_relay()
        house.start_controller()
        house.choose("off")
        for _ in range(10):
            house.minute()
        hold(not house.controller.state.forced, "what was forced is undone")
        kept = set(house.settings.items()) - set(OWNERS.items())
        hold(
            all(name == "max_charge_current_a" for name, _ in kept),
            f"voltages are the owner's again: {kept}",
        )
        hold(
            not house.is_open or house.relay.manual_position == OPEN,
            "the grid is connected when the controller is off",
        )


def test_no_history_breaks_a_promise():
    run_state_machine_as_test(Control, settings=quick)


def test_the_machine_comes_to_where_it_matters():
    """A check that never opens the relay would prove nothing."""
    reached = dict.fromkeys(("opened", "renewed", "forced", "restored"), 0)

    class Counting(Control):
        def teardown(self):
            super().teardown()
            for name in reached:
                reached[name] += self.house.reached[name] > 0

    run_state_machine_as_test(Counting, settings=settings(quick, max_examples=200))
    assert min(reached.values()) >= 10, reached


class Immortal(Relay):
    """A relay whose leases never end."""

    def request(self, now, command):
        verdict = super().request(now, command)
        if self._lease_until is not None:
            self._lease_until = math.inf
        return verdict


def test_a_relay_that_ignores_the_end_of_a_lease_is_found():
    class Broken(Control):
        relay_class = Immortal

    with pytest.raises(Breach, match="never open without a live lease"):
        run_state_machine_as_test(Broken, settings=quick)


def test_a_lease_that_is_renewed_without_fresh_data_is_found(monkeypatch):
    real = engine._Evaluation._is_good
    monkeypatch.setattr(engine._Evaluation, "_is_good", lambda self: real(self) or True)
    with pytest.raises(Breach, match="N11|N12"):
        run_state_machine_as_test(Control, settings=quick)


def test_settings_that_are_forced_before_they_are_written_down_are_found(monkeypatch):
    monkeypatch.setattr(engine._Evaluation, "_force", lambda *_: None)
    with pytest.raises(Breach, match="on disk before"):
        run_state_machine_as_test(Control, settings=quick)
