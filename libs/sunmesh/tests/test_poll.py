import json
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sunmesh import clock
from sunmesh.errors import FrameError, IdentityError, RefusedError, Sleeping, TransportError
from sunmesh.messages import Alarm, Info, encode
from sunmesh.poll import Condition, Member, Poller, Reading, withdrawn
from sunmesh.testing import when_said
from sunmesh.voice import Voice

GOOD = Reading({"battery_voltage_v": 53.2, "pv_energy_total_kwh": 12.5, "device_mode": "battery"})


class Script:
    """A source that does what a list says, and the last of it for ever."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.calls = []

    def open(self):
        self.calls.append("open")
        if isinstance(self.steps[0], tuple):  # ("open", error)
            raise self._next()[1]
        return Info(ts="2026-11-21T12:00:00.000Z", family="axpert", serial="1")

    def poll(self):
        self.calls.append("poll")
        step = self._next()
        if isinstance(step, Exception):
            raise step
        return step

    def settings(self):
        self.calls.append("settings")
        return {"output_source_priority": "SBU"}

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")

    def _next(self):
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]


@pytest.fixture
def watch(mesh, topics):
    """Runs a poller and returns what it published, by topic's end, oldest first."""
    stop = threading.Event()
    threads = []

    def watch(source, **options):
        heard = []
        listener = mesh("listener")
        listener.subscribe(
            f"{topics.root}/#",
            lambda m: heard.append(
                (m.topic.removeprefix(topics.root + "/"), json.loads(m.payload))
            ),
        )
        collector = mesh("collector")
        poller = Poller(
            "x", source, collector, **{"interval_s": 0.02, "back_off_limit_s": 0.05} | options
        )
        poller.polls_at_loss = when_said(
            collector, topics.status("x"), "offline", lambda: poller.counters["polls"]
        )
        thread = threading.Thread(target=poller.run, args=(stop,))
        threads.append(thread)
        thread.start()
        return heard, poller

    yield watch
    stop.set()
    for thread in threads:
        thread.join(30)


def states(heard, device="x"):
    return [payload["state"] for topic, payload in heard if topic == f"{device}/status"]


def samples(heard, device="x"):
    return [payload for topic, payload in heard if topic == f"{device}/telemetry"]


def test_a_device_that_answers_is_online_with_info_settings_and_samples(watch, eventually):
    heard, poller = watch(Script(GOOD))
    eventually(lambda: len(samples(heard)) > 3)
    assert states(heard) == ["online"]
    assert {"x/info", "x/settings"} <= {topic for topic, _ in heard}
    assert [sample["seq"] for sample in samples(heard)[:3]] == [1, 2, 3]
    assert poller.last_success


def test_one_bad_frame_costs_one_round_and_flushes(watch, eventually):
    source = Script(GOOD, FrameError("crc", "28…"), GOOD)
    heard, poller = watch(source)
    eventually(lambda: len(samples(heard)) > 2)
    assert states(heard) == ["online"]
    assert poller.counters["errors_crc"] == 1
    assert source.calls.count("flush") == 1
    assert source.calls.count("open") == 1


def test_a_silent_device_is_offline_within_three_rounds_and_said_once(watch, eventually, caplog):
    source = Script(GOOD, TransportError("no answer to QPIGS"))
    with caplog.at_level("INFO", "sunmesh"):
        heard, poller = watch(source)
        eventually(lambda: "offline" in states(heard))
        later = poller.counters["polls"] + 3
        eventually(lambda: poller.counters["polls"] >= later)
    assert poller.polls_at_loss[0] <= 1 + 3 + 1
    assert states(heard) == ["online", "offline"]
    assert len([r for r in caplog.records if "offline" in r.message]) == 1
    assert source.calls.count("open") > 1, "the port is opened again"


def test_on_loss_gauges_are_withdrawn_and_counters_are_stale(watch, eventually):
    heard, _ = watch(Script(GOOD, TransportError("gone")))
    eventually(lambda: "offline" in states(heard) and len(samples(heard)) == 2)
    assert samples(heard)[1]["values"] == {
        "battery_voltage_v": None,
        "pv_energy_total_kwh": 12.5,
        "device_mode": None,
    }
    assert samples(heard)[1]["quality"] == {"pv_energy_total_kwh": "stale"}


def test_a_lost_device_pauses_longer_each_time(watch):
    _, poller = watch(Script(TransportError("gone")), interval_s=0.02, back_off_limit_s=10)
    time.sleep(0.6)  # 30 intervals
    assert poller.counters["polls"] < 10


def test_a_device_that_comes_back_is_online_by_itself(watch, eventually, caplog):
    gone = TransportError("gone")
    with caplog.at_level("INFO", "sunmesh"):
        heard, _ = watch(Script(GOOD, gone, gone, gone, gone, GOOD))
        eventually(lambda: states(heard) == ["online", "offline", "online"])
    assert len([r for r in caplog.records if "is back" in r.message]) == 1


def test_another_device_is_an_identity_mismatch_without_telemetry(watch, eventually):
    heard, _ = watch(Script(("open", IdentityError("serial 2 answers, 1 is configured"))))
    eventually(lambda: states(heard) == ["identity_mismatch"])
    time.sleep(0.1)
    assert samples(heard) == []


def test_a_device_that_refuses_everything_says_so(watch, eventually):
    heard, _ = watch(Script(RefusedError("device answers NAK")))
    eventually(lambda: states(heard) == ["refusing"])
    reason = next(p["reason"] for t, p in heard if t == "x/status")
    assert reason == "device answers NAK"


def test_sleep_is_a_state_and_no_fault(watch, eventually):
    heard, poller = watch(Script(GOOD, Sleeping("no current")))
    eventually(lambda: states(heard) == ["online", "sleeping"])
    assert poller.counters["lost_rounds"] == 0
    assert not [topic for topic, _ in heard if topic.startswith("alarms/")]


def test_a_device_long_lost_raises_an_alarm_and_clears_it(watch, eventually):
    gone = TransportError("gone")
    heard, _ = watch(Script(GOOD, *[gone] * 12, GOOD), alarm_after_s=0.1)
    eventually(lambda: len([1 for topic, _ in heard if topic == "alarms/x/device_lost"]) == 2)
    raised, cleared = [p for t, p in heard if t == "alarms/x/device_lost"]
    assert (raised["state"], cleared["state"]) == ("raised", "cleared")
    assert raised["id"] == cleared["id"]
    assert "gone" in raised["text"]


def spoken(now, steps, monkeypatch, mesh):
    """What a voice told of a device that is so long in each of those states [s]."""
    monkeypatch.setattr("sunmesh.voice.time", SimpleNamespace(monotonic=lambda: now[0]))
    said = []
    monkeypatch.setattr(
        mesh, "publish", lambda topic, payload, **_: said.append((topic, json.loads(payload)))
    )
    voice = Voice("x", mesh, alarm_after_s=120.0)
    for state, seconds in steps:
        for _ in range(0, seconds, 10):
            if state == "online":
                voice.say(GOOD)
            else:
                voice.leave(state, "reason")
            now[0] += 10.0
    return [p["state"] for topic, p in said if topic.endswith("alarms/x/device_lost")]


EXCHANGED = [("offline", 20), ("identity_mismatch", 100)]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([("offline", 110)], []),
        ([("offline", 130)], ["raised", "cleared"]),
        ([("identity_mismatch", 130)], ["raised", "cleared"]),
        ([*EXCHANGED, ("offline", 110)], []),
        ([*EXCHANGED, ("offline", 130)], ["raised", "cleared"]),
        ([*EXCHANGED * 3], ["raised", "cleared"]),
    ],
    ids=["short", "long", "another", "put back", "put back and dead", "now this, now that"],
)
def test_a_device_whose_plug_is_put_back_is_silent_since_then(steps, told, monkeypatch, mesh):
    steps = [("online", 10), *steps, ("online", 10)]
    assert spoken([1000.0], steps, monkeypatch, mesh("collector")) == told


def test_what_a_reading_warns_of_is_raised_once_and_cleared_when_it_is_gone(watch, eventually):
    late = Condition("warning", "The clock is wrong", "It is 20 min behind.", -1200)
    warned = Reading(GOOD.values, alarms={"device_clock": late})
    heard, _ = watch(Script(GOOD, warned, warned, TransportError("gone"), warned, GOOD))
    eventually(lambda: len([1 for topic, _ in heard if topic == "alarms/x/device_clock"]) == 2)
    raised, cleared = [p for t, p in heard if t == "alarms/x/device_clock"]
    assert (raised["state"], raised["value"], cleared["state"]) == ("raised", -1200, "cleared")
    assert raised["id"] == cleared["id"]
    assert len(samples(heard)) >= 4


def test_a_bug_in_a_collector_does_not_end_its_loop(watch, eventually):
    heard, poller = watch(Script(GOOD, ZeroDivisionError("a bug"), GOOD))
    eventually(lambda: len(samples(heard)) > 2)
    assert poller.counters["errors_unexpected"] == 1


def test_a_lost_reading_is_withdrawn_by_kind():
    values, quality = withdrawn({"pv_power_w": 5.0, "cycles": 7, "warnings": ["x"]})
    assert values == {"pv_power_w": None, "cycles": 7, "warnings": None}
    assert quality == {"cycles": "stale"}


# -- a device's own time, and devices behind a device ----------------------------------------------

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PANEL = Info(ts="2026-11-21T12:00:00.000Z", family="pvs6", serial="E1")


def at(minute, power_w=200.0):
    values = {"pv_power_w": power_w, "pv_energy_total_kwh": 2.5}
    return Reading(values, ts=NOON + timedelta(minutes=minute))


def test_a_repeated_time_of_the_device_is_no_new_sample(watch, eventually):
    heard, poller = watch(Script(at(0), at(0), at(5), at(0), at(6), at(6)))
    eventually(lambda: poller.counters["polls"] > 6 and len(samples(heard)) >= 3)
    told = [sample["ts"] for sample in samples(heard)]
    assert told == [f"2026-11-21T12:{minute:02}:00.000Z" for minute in (0, 5, 6)]
    assert [sample["seq"] for sample in samples(heard)] == [1, 2, 3]
    assert poller.counters["samples"] == 3
    assert states(heard) == ["online"]


def test_members_are_published_each_with_its_own_state(watch, eventually):
    online = Member(PANEL, reading=at(0))
    asleep = Member(PANEL, "sleeping", "it is dark", at(0))
    first = Reading(GOOD.values, members={"x-1": online, "x-2": asleep})
    second = Reading(GOOD.values, members={"x-1": asleep, "x-2": Member(PANEL, reading=at(300))})
    heard, _ = watch(Script(first, first, second))
    eventually(lambda: states(heard, "x-2") == ["sleeping", "online"])
    eventually(lambda: samples(heard, "x-2")[-1]["ts"] == "2026-11-21T17:00:00.000Z")
    assert states(heard, "x-1") == ["online", "sleeping"]
    withdrawn_sample = {
        "values": {"pv_power_w": None, "pv_energy_total_kwh": 2.5},
        "quality": {"pv_energy_total_kwh": "stale"},
    }
    for sample in (samples(heard, "x-1")[1], samples(heard, "x-2")[0]):
        assert {name: sample[name] for name in withdrawn_sample} == withdrawn_sample
    assert (len(samples(heard, "x-1")), len(samples(heard, "x-2"))) == (2, 2)
    assert len([topic for topic, _ in heard if topic == "x-1/info"]) == 1


def test_members_are_lost_with_the_device_in_front_of_them_and_come_back(watch, eventually, caplog):
    caplog.set_level("INFO")
    gone = TransportError("gone")
    both = {"x-1": Member(PANEL, reading=at(0))}
    good = Reading(GOOD.values, members=both)
    heard, _ = watch(Script(good, gone, gone, gone, gone, gone, good), alarm_after_s=0.01)
    eventually(lambda: states(heard, "x-1") == ["online", "offline", "online"])
    reason = next(p["reason"] for t, p in heard if t == "x-1/status" and p["reason"])
    assert reason == "x is offline: gone"
    told = [sample["ts"] for sample in samples(heard, "x-1")]
    assert told == ["2026-11-21T12:00:00.000Z", "2026-11-21T12:00:00.001Z"], "said, and withdrawn"
    assert [topic for topic, _ in heard if topic.startswith("alarms/x-1/")] == []
    assert [r.message for r in caplog.records if r.message.startswith("x-1")] == ["x-1: is there"]


def test_a_member_that_is_lost_alone_raises_its_own_alarm(watch, eventually):
    here = Reading(GOOD.values, members={"x-1": Member(PANEL, reading=at(0))})
    away = Reading(GOOD.values, members={"x-1": Member(PANEL, "offline", "silent by day")})
    heard, _ = watch(Script(here, *[away] * 12, here), member_alarm_after_s=0.1)
    eventually(lambda: len([1 for topic, _ in heard if topic == "alarms/x-1/device_lost"]) == 2)
    raised, cleared = [p for t, p in heard if t == "alarms/x-1/device_lost"]
    assert (raised["state"], cleared["state"]) == ("raised", "cleared")
    assert "silent by day" in raised["text"]
    assert states(heard) == ["online"]


def test_members_are_offline_when_the_collector_stops(mesh, topics, eventually):
    heard = []
    mesh("listener").subscribe(topics.status("x-1"), lambda m: heard.append(json.loads(m.payload)))
    reading = Reading(GOOD.values, members={"x-1": Member(PANEL, reading=at(0))})
    stop = threading.Event()
    poller = Poller("x", Script(reading), mesh("collector"), interval_s=0.02)
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    eventually(lambda: heard)
    stop.set()
    thread.join(30)
    eventually(lambda: heard[-1]["state"] == "offline")


def test_a_device_may_ask_to_be_left_alone(watch):
    _, poller = watch(Script(Reading(GOOD.values, pause_s=0.3)))
    time.sleep(0.7)
    assert poller.counters["polls"] <= 4


def test_what_a_device_says_once_it_is_back_is_not_older_than_its_withdrawal(watch, eventually):
    """Its own time lags behind ours: readers drop what is older than what they have."""
    gone = TransportError("gone")
    heard, _ = watch(Script(at(0), gone, gone, gone, at(1)))
    eventually(lambda: len(samples(heard)) == 3)
    times = [sample["ts"] for sample in samples(heard)]
    assert times == sorted(set(times))
    assert samples(heard)[1]["quality"] == {"pv_energy_total_kwh": "stale"}


def test_a_stop_in_the_middle_of_a_long_answer_is_said(mesh, topics, eventually):
    heard = []
    mesh("listener").subscribe(topics.status("x"), lambda m: heard.append(json.loads(m.payload)))
    answers = threading.Event()
    source = Script(GOOD)
    poller = Poller("x", source, mesh("collector"), interval_s=0.02)
    stop = threading.Event()
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    eventually(lambda: heard)
    asked = threading.Event()
    source.poll = lambda: asked.set() or (answers.wait(60) and GOOD)
    assert asked.wait(30)
    stop.set()
    poller.end()
    eventually(lambda: heard[-1]["state"] == "offline")
    answers.set()
    thread.join(30)
    time.sleep(0.1)
    assert heard[-1]["state"] == "offline", "an answer that comes later is nobody's"


def test_a_device_that_cannot_be_set_says_so(mesh, topics, eventually):
    results = []
    sender = mesh("web")
    sender.subscribe(topics.result("x"), lambda m: results.append(json.loads(m.payload)))
    poller = Poller("x", Script(GOOD), mesh("collector"), interval_s=1)
    poller.listen()
    wish = {"name": "output_source_priority", "value": "SBU", "id": "c1"}
    sender.publish(topics.command("x"), json.dumps(wish).encode())
    eventually(lambda: results)
    assert (results[0]["id"], results[0]["stage"]) == ("c1", "refused")
    assert results[0]["detail"] == "nothing of this device can be set"


class Obedient:
    """A control that only notes what the loop wants of it."""

    def __init__(self, source):
        self.actuator = source
        self.wake = threading.Event()
        self.done = 0
        self.calls = []

    def work(self):
        self.calls.append("work")
        if self.wake.is_set():
            self.wake.clear()
            self.done += 1

    def __getattr__(self, name):
        return lambda *_: self.calls.append(name)


def test_a_resting_loop_wakes_for_a_command_and_for_its_end(mesh, eventually):
    source = Script(GOOD)
    control = Obedient(source)
    poller = Poller("x", source, mesh("collector"), interval_s=600, control=control)
    stop = threading.Event()
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    eventually(lambda: "settings" in control.calls)
    assert control.calls[:2] == ["back", "watch"]
    control.wake.set()
    eventually(lambda: control.done == 1)
    stop.set()
    poller.nudge()
    thread.join(30)
    assert not thread.is_alive()
    assert control.calls[-1] == "lost"


def test_settings_that_a_command_has_interrupted_are_read_again(mesh, eventually):
    class Interrupted(Script):
        def settings(self):
            if self.calls.count("settings") == 0:
                control.wake.set()
            self.between()
            return super().settings()

    source = Interrupted(GOOD)
    control = Obedient(source)
    poller = Poller(
        "x", source, mesh("collector"), interval_s=0.02, settings_interval_s=600, control=control
    )
    stop = threading.Event()
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: "settings" in control.calls)
    finally:
        stop.set()
        thread.join(30)
    assert source.calls.count("settings") == 2
    assert control.calls.count("settings") == 1


def test_nothing_is_set_before_it_is_known_who_answers(mesh, eventually):
    class Asking(Script):
        def open(self):
            self.between()
            return super().open()

    source = Asking(GOOD)
    control = Obedient(source)
    control.wake.set()
    poller = Poller("x", source, mesh("collector"), interval_s=0.02, control=control)
    stop = threading.Event()
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: control.done)
    finally:
        stop.set()
        thread.join(30)
    assert control.calls.index("work") > control.calls.index("back")


def test_what_an_earlier_run_raised_is_cleared_and_the_words_of_others_stay(
    watch, mesh, topics, eventually
):
    def old(code, prefix):
        said = Alarm(f"{prefix}x-{code}-1", "raised", "warning", "t", "x", clock.iso(clock.now()))
        before.publish(topics.alarm("x", code), encode(said), retain=True)

    before = mesh("before")
    old("device_lost", "")
    old("device_clock", "")
    old("cell_spread", "watch-")
    before.drain(30)
    heard, poller = watch(Script(GOOD))
    poller.listen()
    eventually(lambda: len([p for _, p in heard if p.get("state") == "cleared"]) == 2)
    cleared = {topic: p["id"] for topic, p in heard if p.get("state") == "cleared"}
    assert cleared == {
        "alarms/x/device_lost": "x-device_lost-1",
        "alarms/x/device_clock": "x-device_clock-1",
    }


def test_a_flickering_condition_is_one_alarm(watch, eventually):
    hot = Condition("warning", "Hot", "It is hot.", advice="Open a window.")
    warned = Reading(GOOD.values, alarms={"hot": hot})
    heard, _ = watch(Script(*[warned, GOOD] * 12, warned))
    eventually(lambda: len(samples(heard)) >= 25)
    told = [p for t, p in heard if t == "alarms/x/hot"]
    assert [p["state"] for p in told] == ["raised", "cleared"] * 3 + ["raised"]
    assert [p.get("flapping", False) for p in told][-1]
    assert told[0]["advice"] == "Open a window."
