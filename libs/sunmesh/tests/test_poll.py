import json
import threading
import time

import pytest
from sunmesh.errors import FrameError, IdentityError, RefusedError, Sleeping, TransportError
from sunmesh.messages import Info
from sunmesh.poll import Condition, Poller, Reading, withdrawn

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
        time.sleep(0.1)
        poller = Poller(
            "x",
            source,
            mesh("collector"),
            **{"interval_s": 0.02, "back_off_limit_s": 0.05} | options,
        )
        thread = threading.Thread(target=poller.run, args=(stop,))
        threads.append(thread)
        thread.start()
        return heard, poller

    yield watch
    stop.set()
    for thread in threads:
        thread.join(5)


def states(heard):
    return [payload["state"] for topic, payload in heard if topic == "x/status"]


def samples(heard):
    return [payload for topic, payload in heard if topic == "x/telemetry"]


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
    with caplog.at_level("INFO", "sunmesh.poll"):
        heard, poller = watch(source)
        eventually(lambda: "offline" in states(heard))
        polls = poller.counters["polls"]
        time.sleep(0.3)
    assert polls <= 1 + 3 + 1
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
    time.sleep(1.0)
    assert poller.counters["polls"] < 10


def test_a_device_that_comes_back_is_online_by_itself(watch, eventually, caplog):
    gone = TransportError("gone")
    with caplog.at_level("INFO", "sunmesh.poll"):
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
