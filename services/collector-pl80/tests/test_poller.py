"""The controller in the mesh: what the poll loop publishes of it, through a real broker."""

import threading
import time

import pytest
from collector_pl80 import transport
from collector_pl80.config import Pl80Device
from collector_pl80.emulator import BYTES, TURN_AROUND_S, Controller
from collector_pl80.service import Pl80
from collector_pl80.transport import Link, port_of
from sunmesh.emulation import Faults, World, serve_tcp
from sunmesh.messages import Alarm, Info, Sample, Settings, Status, decode
from sunmesh.poll import Poller
from sunmesh.testing import when_said


class Watched:
    """A poller that runs, and everything that it published."""

    def __init__(self, mesh, topics, config):
        self.samples, self.states, self.infos, self.settings, self.alarms = [], [], [], [], []
        witness = mesh("witness")
        for topic, kind, kept in (
            (topics.telemetry("pl80"), Sample, self.samples),
            (topics.status("pl80"), Status, self.states),
            (topics.info("pl80"), Info, self.infos),
            (topics.settings("pl80"), Settings, self.settings),
            (topics.alarm("pl80", "device_clock"), Alarm, self.alarms),
        ):
            witness.subscribe(
                topic, lambda m, kind=kind, kept=kept: kept.append(decode(kind, m.payload))
            )
        self.link = Link(port_of(config, "test"))
        client = mesh("collector")
        self.poller = Poller("pl80", Pl80(config, self.link), client, interval_s=0.1)
        self.polls_at_loss = when_said(
            client, topics.status("pl80"), "offline", lambda: self.poller.counters["polls"]
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.poller.run, args=(self._stop,))
        self._thread.start()

    def state(self):
        return (self.states[-1].state, self.states[-1].reason) if self.states else ("", "")

    def stop(self):
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def watch(mesh, topics, monkeypatch):
    for name, seconds in (("DEADLINE_S", 0.3), ("LOOP_S", 0.1), ("WAKE_S", 0.2), ("LATE_S", 0.05)):
        monkeypatch.setattr(transport, name, seconds)
    made = []

    def start(port, **settings):
        made.append(Watched(mesh, topics, Pl80Device(port=str(port), **settings)))
        return made[-1]

    yield start
    for watched in made:
        watched.stop()


def test_a_controller_is_published(controller, watch, eventually):
    watched = watch(controller())
    eventually(lambda: len(watched.samples) >= 2 and watched.settings)
    assert watched.state() == ("online", "")
    assert watched.infos[-1].model == "PL80"
    assert watched.samples[-1].values["battery_voltage_v"] == 26.4
    assert len(watched.settings[-1].values["history_charge_ah"]) == 30


def test_a_silent_controller_is_offline_within_three_rounds(controller, watch, eventually):
    watched = watch(controller(faults=Faults({"silent": 1.0})))
    eventually(lambda: watched.state()[0] == "offline")
    assert "loopback" in watched.state()[1]
    assert watched.polls_at_loss[0] <= 3
    assert not watched.samples


def test_a_controller_that_falls_silent_withdraws_its_values(controller, watch, eventually):
    faults = Faults()
    watched = watch(controller(faults=faults))
    eventually(lambda: watched.samples)
    faults.rates["silent"] = 1.0
    eventually(lambda: watched.state()[0] == "offline")
    eventually(lambda: watched.samples[-1].values["battery_voltage_v"] is None)
    last = watched.samples[-1]
    assert (last.values["charge_today_ah"], last.quality["charge_today_ah"]) == (86, "stale")
    faults.rates.clear()
    eventually(lambda: watched.state()[0] == "online")


def test_a_controller_lost_behind_its_adaptor_says_so(controller, watch, eventually):
    device = Controller()
    watched = watch(controller(device=device))
    eventually(lambda: watched.samples)
    device.is_plugged = False
    eventually(lambda: watched.state()[0] == "offline")
    assert "the adaptor answers, the controller behind it does not" in watched.state()[1]
    device.is_plugged = True
    eventually(lambda: watched.state()[0] == "online")


def test_another_controller_on_the_port_is_not_published(controller, watch, eventually):
    path = controller(name="pl80")
    watched = watch(path, model="PL80", system_v=24)
    eventually(lambda: watched.samples)
    controller.stop(path)
    eventually(lambda: watched.samples[-1].values["battery_voltage_v"] is None)
    count = len(watched.samples)
    controller(device=Controller("PL40"), name="pl80")
    eventually(lambda: watched.state()[0] == "identity_mismatch")
    assert "PL40" in watched.state()[1]
    assert len(watched.samples) == count


def test_a_wrong_clock_is_an_alarm_that_is_cleared(controller, watch, eventually):
    device = Controller(world=World({"pl80_clock_offset_s": 3600}))
    watched = watch(controller(device=device))
    eventually(lambda: watched.alarms)
    assert "60 min ahead" in watched.alarms[-1].text
    device.world = World()
    eventually(lambda: watched.alarms[-1].state == "cleared")


def test_a_controller_behind_a_serial_server(watch, eventually):
    stop, ready, ports = threading.Event(), threading.Event(), []
    thread = threading.Thread(
        target=serve_tcp,
        args=("127.0.0.1", 0, Controller()),
        kwargs={"stop": stop, "ready": lambda port: (ports.append(port), ready.set())},
    )
    thread.start()
    assert ready.wait(30)
    watched = watch(f"socket://127.0.0.1:{ports[0]}")
    eventually(lambda: watched.samples)
    assert watched.samples[-1].values["battery_voltage_v"] == 26.4
    watched.stop()
    stop.set()
    thread.join(30)


def test_a_round_costs_what_its_line_costs(controller):
    """Against a reader that does nothing else, in turn, so that a busy machine is busy for both."""
    pause_s = TURN_AROUND_S + BYTES * 10 / 9600
    path = controller(device=Controller(turn_around_s=pause_s), baud=9600)
    port = port_of(Pl80Device(port=str(path)), "test")
    link = Link(port)
    source = Pl80(Pl80Device(port=str(path)), link)
    source.open()
    source.poll()
    ratios = []
    while not ratios or (min(ratios) >= 1.05 and len(ratios) < 30):
        before, began = link.counters["exchanges"], time.monotonic()
        source.poll()
        ours = (time.monotonic() - began) / (link.counters["exchanges"] - before)
        began = time.monotonic()
        for _ in range(20):
            port.write(b"\x14\x32\x00\xeb")
            assert port.read_exact(2, 30.0) == b"\xc8\x84"
        ratios.append(ours * 20 / (time.monotonic() - began))
    source.close()
    assert min(ratios) < 1.05


def test_thirty_percent_damage_on_a_real_line(controller):
    config = Pl80Device(port=str(controller(faults=Faults({"crc": 0.3}, seed=5))))
    clean = Pl80(config, Link(port_of(Pl80Device(port=str(controller())), "test")))
    clean.open()
    truth = clean.poll().values
    clean.close()
    noisy = Pl80(config, Link(port_of(config, "test")))
    noisy.open()
    values = noisy.poll().values
    noisy.close()
    timed = {"device_clock", "device_clock_offset_s"}
    assert {name: values[name] for name in truth.keys() - timed} == {
        name: truth[name] for name in truth.keys() - timed
    }
