"""The life of a command, against devices that obey, lie, refuse and fall silent."""

from datetime import date, timedelta

import pytest
from sunmesh import clock
from sunmesh.commands import control as module
from sunmesh.commands.control import TRIES, WAITING, Control
from sunmesh.commands.ledger import Ledger
from sunmesh.errors import FrameError, RefusedError, TransportError
from sunmesh.messages import Range
from sunmesh.statefile import StateFile

RANGES = {
    "output_source_priority": Range(choices=["USB", "SUB", "SBU"]),
    "buzzer_enabled": Range(choices=[True, False]),
    "float_voltage_v": Range(low=48.0, high=58.4, step=0.1, risk="high"),
    "bulk_voltage_v": Range(low=48.0, high=58.4, step=0.1, risk="high"),
    "battery_type": Range(choices=["agm", "user"], risk="danger"),
}
START = {
    "output_source_priority": "USB",
    "buzzer_enabled": False,
    "float_voltage_v": 54.4,
    "bulk_voltage_v": 56.4,
    "battery_type": "user",
}
NAK = FrameError("nak", "the device refuses")
SILENCE = TransportError("no answer to POP02 within 5 s")


class Device:
    """An actuator whose answers follow a script; without one it obeys."""

    pairs = (("float_voltage_v", "bulk_voltage_v"),)
    passing = ()

    def __init__(self):
        self.between = lambda: None
        self.has = dict(START)
        self.log = []
        self.script = []
        self.unreadable = None
        self.lowest_gap = 99.0

    def ranges(self):
        return RANGES

    def why_not(self, name):
        return f"{name} cannot be set"

    def permit(self, name, value, current):
        if name == "bulk_voltage_v" and current["battery_type"] != "user":
            raise RefusedError("battery_type is agm")

    def expects(self, name, value):
        return {name: value}

    def read(self, names):
        self.log.append("read")
        if self.unreadable:
            raise self.unreadable
        return dict(self.has)

    def write(self, name, value, current, sent):
        self.log.append((name, value))
        what = self.script.pop(0) if self.script else "obey"
        sent()
        if what in ("obey", "silently", "lie", "damaged"):
            self.has[name] = value
            gap = self.has["bulk_voltage_v"] - self.has["float_voltage_v"]
            self.lowest_gap = min(self.lowest_gap, gap)
        if what in ("silence", "silently"):
            raise SILENCE
        if what == "damaged":
            raise FrameError("crc", "28…")
        if what in ("nak", "lie"):
            raise NAK


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def made(device, paper, ticks, tmp_path):
    def make(budget=20):
        ledger = Ledger(StateFile(tmp_path / "x.json"), budget, lambda: date(2026, 11, 21))

        def pause(seconds):
            ticks.now += seconds

        return Control("x", device, paper, ledger, fresh_s=60, monotonic=ticks, pause=pause)

    return make


@pytest.fixture
def control(made, device):
    control = made()
    control.back()
    control.settings(device.has)
    return control


@pytest.fixture
def ask(control, message, paper):
    """Gives a command and does it; what was said of it."""

    def run(name, value=None, *, of=control, **more):
        before = len(paper.results())
        of._desk.hear(message({"name": name, "value": value, "id": "c1"} | more))
        of.work()
        return [(r["stage"], r.get("detail", "")) for r in paper.results()[before:]]

    return run


def stages(told):
    return [stage for stage, _ in told]


LIFE = ["accepted", "sent", "acknowledged", "applied"]


def test_a_command_is_done_at_its_read_back_and_the_settings_are_published(ask, device, paper):
    told = ask("output_source_priority", "SBU")
    assert stages(told) == LIFE
    assert told[-1][1] == "read back; it was USB"
    assert device.log == [("output_source_priority", "SBU"), "read"], "what was just read is known"
    assert paper.settings()[-1]["values"]["output_source_priority"] == "SBU"
    assert paper.settings()[-1]["writes"] == {
        "output_source_priority": {"today": 1, "lifetime": 1, "budget": 20}
    }
    assert paper.said[-1][0].endswith("result"), "the settings come before the end of the command"


def test_an_equal_value_is_read_anew_and_not_written(ask, device, ticks):
    ticks.now += 30
    told = ask("output_source_priority", "USB")
    assert told == [("accepted", ""), ("applied", "it was so already; nothing was written")]
    assert device.log == ["read"]
    device.has["output_source_priority"] = "SUB"  # at the panel, unseen
    ticks.now += 30
    assert stages(ask("output_source_priority", "USB", id="c2")) == LIFE


def test_old_and_risky_settings_are_read_before_a_write(ask, device, ticks):
    ticks.now += 61
    ask("output_source_priority", "SBU")
    assert device.log == ["read", ("output_source_priority", "SBU"), "read"]
    device.log.clear()
    ticks.now += 30
    ask("bulk_voltage_v", 55.0, id="c2")
    assert device.log == ["read", ("bulk_voltage_v", 55.0), "read"]


@pytest.mark.parametrize(
    ("name", "value", "more", "reason"),
    [
        ("factory_wipe", 1, {}, "factory_wipe cannot be set"),
        ("output_source_priority", "BSU", {}, "BSU is not among: USB, SUB, SBU"),
        ("bulk_voltage_v", 58.5, {}, "must be 48 to 58.4"),
        ("battery_type", "agm", {}, "confirm"),
        ("battery_type", "agm", {"confirm": "user"}, "confirm"),
        ("settings", None, {"values": {}}, "values is empty"),
        ("all", None, {"values": {"buzzer_enabled": True}}, "has the name settings"),
        ("settings", None, {"values": {"battery_type": "agm"}}, "a command of its own"),
        ("settings", None, {"values": {"buzzer_enabled": True, "x": 1}}, "x cannot be set"),
    ],
)
def test_refused_before_it_waits(ask, device, name, value, more, reason):
    told = ask(name, value, **more)
    assert stages(told) == ["refused"]
    assert reason in told[0][1]
    assert not device.log


def test_a_pair_and_the_device_as_it_is_refuse_before_the_wire(ask, device, ticks):
    told = ask("float_voltage_v", 56.5)
    assert stages(told) == ["accepted", "refused"]
    assert told[1][1] == "float_voltage_v 56.5 would be above bulk_voltage_v 56.4"
    device.has["battery_type"] = "agm"
    ticks.now += 5
    assert ask("bulk_voltage_v", 56.0, id="c2")[-1] == ("refused", "battery_type is agm")
    assert set(device.log) == {"read"}


def test_great_harm_with_its_confirmation(ask):
    assert stages(ask("battery_type", "agm", confirm="agm")) == LIFE


def test_ack_and_ignored_names_both_values_after_some_patience(ask, device):
    device.script = ["ignore"]
    told = ask("output_source_priority", "SBU")
    assert stages(told) == ["accepted", "sent", "acknowledged", "not_applied"]
    assert told[-1][1] == "the device said ACK to SBU, but it has USB"
    assert device.log.count("read") == len(module.SETTLE_S)


def test_nak_is_final(ask, device):
    device.script = ["nak"]
    told = ask("output_source_priority", "SBU")
    assert stages(told) == ["accepted", "sent", "failed"]
    assert told[-1][1] == "the device said NAK; it has USB"
    assert len(device.log) == 2


def test_nak_of_what_was_done_is_said(ask, device, paper):
    device.script = ["lie"]
    told = ask("output_source_priority", "SBU")
    assert told[-1] == ("failed", "the device said NAK but now has SBU")
    assert paper.settings()[-1]["values"]["output_source_priority"] == "SBU"


def test_no_answer_is_tried_three_times_and_read_back_in_between(ask, device):
    device.script = ["silence"] * 9
    told = ask("output_source_priority", "SBU")
    assert stages(told) == ["accepted", "sent", "sent", "sent", "failed"]
    assert told[2][1] == "try 2 of 3"
    assert told[-1][1] == "no answer to POP02 within 5 s, 3 times; it has USB"
    assert device.log == [("output_source_priority", "SBU"), "read"] * TRIES


@pytest.mark.parametrize("how", ["silently", "damaged"])
def test_what_was_done_without_a_readable_answer_is_not_done_twice(ask, device, how):
    device.script = ["silence", how]
    told = ask("output_source_priority", "SBU")
    assert stages(told) == ["accepted", "sent", "sent", "applied"]
    assert "but it is so when read back" in told[-1][1]


def test_a_dead_device_is_not_tried_again_and_nobody_says_what_it_has(ask, device):
    device.script = ["silence"]
    device.unreadable = TransportError("no answer to QPIRI within 2 s")
    told = ask("output_source_priority", "SBU")
    assert stages(told) == ["accepted", "sent", "failed"]
    assert "whether it was applied is not known" in told[-1][1]


def test_acknowledged_and_unreadable_is_no_success(ask, device, control):
    device.unreadable = FrameError("crc", "28…")
    told = ask("output_source_priority", "SBU")
    assert stages(told) == ["accepted", "sent", "acknowledged", "failed"]
    assert "the device said ACK, but it could not be read" in told[-1][1]
    device.unreadable = TransportError("no answer")
    told = ask("output_source_priority", "USB", id="c3")
    assert stages(told) == ["accepted", "failed"], "what was there before is no proof"
    told = ask("bulk_voltage_v", 55.0, id="c2")
    assert stages(told) == ["accepted", "failed"]
    assert "nothing was written" in told[-1][1]


def test_no_try_after_the_expiry(ask, device, ticks):
    device.script = ["silence"] * 9
    expires = clock.iso(clock.now() + timedelta(seconds=10))
    real = device.write

    def slowly(*arguments):
        ticks.now += 6
        real(*arguments)

    device.write = slowly
    told = ask("output_source_priority", "SBU", expires=expires)
    assert stages(told) == ["accepted", "sent", "sent", "failed"]
    assert "too late for another try" in told[-1][1]


def test_expired_while_it_waited(control, message, paper, ticks, device):
    control._desk.hear(message({"name": "buzzer_enabled", "value": True}))
    assert control.wake.is_set()
    ticks.now += 31
    control.work()
    assert paper.stages() == ["accepted", "expired"]
    control._desk.hear(message({"name": "buzzer_enabled", "value": True}))
    ticks.now += 31
    control.expire()
    assert paper.stages()[2:] == ["accepted", "expired"]
    assert not control.wake.is_set()
    assert not device.log


def test_reverted_is_said_once_with_the_id_of_the_command(ask, control, device, paper):
    ask("output_source_priority", "SBU", by="web:anna")
    control.settings(device.has)
    assert "reverted" not in paper.stages()
    device.has["output_source_priority"] = "USB"
    for _ in range(2):
        control.settings(device.has)
    last = paper.results()[-1]
    assert (last["stage"], last["id"], last["value"], last["by"]) == (
        "reverted",
        "c1",
        "USB",
        "web:anna",
    )
    assert "it was SBU when read back" in last["detail"]
    assert paper.stages().count("reverted") == 1


def test_reverted_is_said_by_the_next_start_and_not_after_a_day(
    ask, made, device, paper, monkeypatch
):
    ask("output_source_priority", "SBU")
    ask("buzzer_enabled", True, id="c2")
    later = clock.now() + timedelta(hours=25)
    device.has["output_source_priority"] = "USB"
    again = made()
    again.settings({"output_source_priority": "USB"})
    assert paper.stages()[-1] == "reverted"
    monkeypatch.setattr(clock, "now", lambda: later)
    again.settings(device.has)
    again.settings(device.has | {"buzzer_enabled": False})
    assert paper.stages().count("reverted") == 1


def test_the_next_command_ends_the_watch(ask, control, device, paper):
    ask("output_source_priority", "SBU")
    assert stages(ask("output_source_priority", "USB", id="c2")) == LIFE
    control.settings(device.has)
    assert "reverted" not in paper.stages()


def test_the_budget_stops_and_an_override_with_a_reason_exceeds_it(made, ask, device, paper):
    control = made(budget=2)
    control.back()
    control.settings(device.has)
    for n, value in enumerate((True, False)):
        assert stages(ask("buzzer_enabled", value, id=f"a{n}", of=control)) == LIFE
    told = ask("buzzer_enabled", True, id="a2", of=control)
    assert stages(told) == ["accepted", "refused"]
    assert "the budget of 2 writes a day (UTC) of buzzer_enabled is spent" in told[-1][1]
    same = ask("buzzer_enabled", False, id="a3", of=control)
    assert same[-1][0] == "applied", "what needs no write needs no budget"
    told = ask("buzzer_enabled", True, id="a4", override="noise", by="controller:night", of=control)
    assert "no rule exceeds it" in told[-1][1]
    told = ask("buzzer_enabled", True, id="a5", override="noise", by="web:anna", of=control)
    assert stages(told) == LIFE
    assert told[1][1].endswith("exceeded because: noise")
    assert control.counters()["writes_lifetime_buzzer_enabled"] == 3
    assert paper.settings()[-1]["writes"]["buzzer_enabled"] == {
        "today": 3,
        "lifetime": 3,
        "budget": 2,
    }


def test_tries_are_writes_too(made, ask, device):
    control = made(budget=2)
    control.back()
    control.settings(device.has)
    device.script = ["silence"] * 9
    told = ask("buzzer_enabled", True, of=control)
    assert stages(told) == ["accepted", "sent", "sent", "failed"]
    assert "no write left today" in told[-1][1]


def test_a_batch_goes_down_float_first_and_up_bulk_first(ask, device, paper):
    wish = {"bulk_voltage_v": 53.8, "float_voltage_v": 53.7, "buzzer_enabled": True}
    told = ask("settings", values=wish, id="b1")
    assert [item for item in device.log if item != "read"] == [
        ("float_voltage_v", 53.7),
        ("bulk_voltage_v", 53.8),
        ("buzzer_enabled", True),
    ]
    assert told[-1] == (
        "applied",
        "float_voltage_v 53.7, bulk_voltage_v 53.8, buzzer_enabled true",
    )
    assert paper.stages("b1") == ["accepted", "applied"]
    assert paper.stages("b1/float_voltage_v") == ["sent", "acknowledged", "applied"]
    device.log.clear()
    ask("settings", values={"float_voltage_v": 55.1, "bulk_voltage_v": 55.2}, id="b2")
    assert [item[0] for item in device.log if item != "read"] == [
        "bulk_voltage_v",
        "float_voltage_v",
    ]
    assert device.lowest_gap > 0
    assert device.log.count("read") == 2, "the read-back of one is the reading before the next"


def test_a_batch_stops_at_the_first_failure(ask, device, paper):
    device.script = ["nak"]
    wish = {"float_voltage_v": 53.7, "bulk_voltage_v": 53.8, "buzzer_enabled": True}
    told = ask("settings", values=wish, id="b1")
    assert told[-1] == (
        "failed",
        "the batch stopped at float_voltage_v: the device said NAK; it has 54.4",
    )
    assert paper.stages("b1/float_voltage_v") == ["sent", "failed"]
    for rest in ("bulk_voltage_v", "buzzer_enabled"):
        assert paper.stages(f"b1/{rest}") == ["refused"]
    assert paper.results()[-2]["detail"] == "the batch stopped at float_voltage_v"
    assert len([item for item in device.log if item != "read"]) == 1


def test_a_batch_that_would_break_the_pair_is_refused_whole(ask, device, paper):
    told = ask("settings", values={"float_voltage_v": 55.0, "bulk_voltage_v": 54.0}, id="b1")
    assert stages(told) == ["accepted", "refused"]
    assert "would be above" in told[-1][1]
    assert device.log in ([], ["read"])


def test_a_batch_without_budget_for_one_is_refused_whole(made, ask, device):
    control = made(budget=1)
    control.back()
    control.settings(device.has)
    ask("buzzer_enabled", True, id="a1", of=control)
    device.log.clear()
    wish = {"float_voltage_v": 53.7, "buzzer_enabled": False}
    told = ask("settings", values=wish, id="b1", of=control)
    assert stages(told) == ["accepted", "refused"]
    assert set(device.log) <= {"read"}


def test_a_device_that_is_away_refuses_what_comes_and_what_waits(control, message, paper):
    control._desk.hear(message({"name": "buzzer_enabled", "value": True}))
    control.lost("it is offline: no answer to QPIGS")
    control._desk.hear(message({"name": "buzzer_enabled", "value": True}))
    assert paper.stages() == ["accepted", "refused", "refused"]
    assert paper.results()[-1]["detail"] == ("x cannot be set: it is offline: no answer to QPIGS")
    control.back()
    control._desk.hear(message({"name": "buzzer_enabled", "value": True}))
    assert paper.stages()[-1] == "accepted"


def test_before_the_first_answer_nothing_is_set(made, paper, message):
    made()._desk.hear(message({"name": "buzzer_enabled", "value": True}))
    assert "has not answered yet" in paper.results()[0]["detail"]


def test_only_so_many_wait(control, message, paper):
    for _ in range(WAITING + 1):
        control._desk.hear(message({"name": "buzzer_enabled", "value": True}))
    assert paper.stages() == ["accepted"] * WAITING + ["refused"]


def test_an_id_that_was_written_is_known_to_the_next_start(ask, made, message, paper):
    ask("buzzer_enabled", True, id="c9")
    again = made()
    again.back()
    again._desk.hear(message({"name": "buzzer_enabled", "value": True, "id": "c9"}))
    assert paper.results()[-1]["stage"] == "refused"
    assert "taken before" in paper.results()[-1]["detail"]


@pytest.mark.parametrize(
    ("does", "wish", "ends"),
    [
        (True, {"name": "buzzer_enabled", "value": True}, [("c1", "applied")]),
        (False, {"name": "buzzer_enabled", "value": True}, [("c1", "failed")]),
        (
            True,
            {"name": "settings", "values": {"float_voltage_v": 53.7, "bulk_voltage_v": 53.8}},
            [("c1/float_voltage_v", "applied"), ("c1", "failed")],
        ),
    ],
)
def test_a_command_cut_off_by_a_kill_is_told_by_the_next_start(
    control, made, message, paper, device, does, wish, ends
):
    class Killed(BaseException):
        pass

    real = device.write

    def die(*arguments):
        if does:
            real(*arguments)
        raise Killed

    device.write = die
    control._desk.hear(message({"id": "c1", "by": "web:anna"} | wish))
    with pytest.raises(Killed):
        control.work()
    device.write = real
    before = len(paper.results())
    for _ in range(2):
        again = made()
        again.settings(device.has)
    told = paper.results()[before:]
    assert [(each["id"], each["stage"]) for each in told] == ends, "once"
    assert "the collector ended while" in told[0]["detail"]
    assert told[0]["by"] == "web:anna"
    again.back()
    again._desk.hear(message({"id": "c1"} | wish))
    assert "taken before" in paper.results()[-1]["detail"]


def test_a_mistake_of_ours_is_a_failure_and_not_the_end(ask, device, paper, control):
    def crash(*_):
        raise ZeroDivisionError("oops")

    device.write = crash
    assert ask("buzzer_enabled", True)[-1][0] == "failed"
    del device.write
    before = len(paper.results())
    control.settings(device.has)
    assert len(paper.results()) == before, "it was said how it ended"
    assert stages(ask("buzzer_enabled", True, id="c2")) == LIFE
