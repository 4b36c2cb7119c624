"""A pack in the mesh: what the poll loop publishes of it, through a real broker."""

import threading

import pytest
from collector_bms.config import BmsDevice
from collector_bms.emulator import Bank
from collector_bms.service import Daly
from collector_bms.transport import Bus, Link
from sunmesh.emulation import Faults, World
from sunmesh.messages import Alarm, Info, Sample, Settings, Status, decode
from sunmesh.poll import Poller
from sunmesh.serialport import SerialPort
from sunmesh.testing import when_said


class Watched:
    """A poller that runs, and everything that it published."""

    def __init__(self, mesh, topics, config):
        self.samples, self.states, self.infos, self.settings = [], [], [], []
        self.alarms = []
        witness = mesh("witness")
        for topic, kind, kept in (
            (topics.telemetry("battery"), Sample, self.samples),
            (topics.status("battery"), Status, self.states),
            (topics.info("battery"), Info, self.infos),
            (topics.settings("battery"), Settings, self.settings),
            (topics.alarm("battery", "current_sign"), Alarm, self.alarms),
        ):
            witness.subscribe(
                topic, lambda m, kind=kind, kept=kept: kept.append(decode(kind, m.payload))
            )
        self.link = Link(Bus(SerialPort(config.port, 9600, holder="test")), config.timeout_s)
        client = mesh("collector-bms")
        self.poller = Poller("battery", Daly(config, self.link), client, interval_s=0.1)
        self.at_loss = when_said(client, topics.status("battery"), "offline", self.counts)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.poller.run, args=(self._stop,))
        self._thread.start()

    def counts(self):
        """Rounds and time-outs until now."""
        return self.poller.counters["polls"], self.link.counters["timeouts"]

    def state(self):
        return (self.states[-1].state, self.states[-1].reason) if self.states else ("", "")

    def stop(self):
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def watch(mesh, topics):
    made = []

    def start(port, **settings):
        config = BmsDevice(port=str(port), timeout_s=0.3, **settings)
        made.append(Watched(mesh, topics, config))
        return made[-1]

    yield start
    for watched in made:
        watched.stop()


def test_a_pack_is_published(bank, watch, eventually):
    watched = watch(bank())
    eventually(lambda: len(watched.samples) >= 2 and watched.settings)
    assert watched.state() == ("online", "")
    assert watched.infos[-1].serial == "SUNMESH-01"
    assert watched.infos[-1].family == "bms"
    assert watched.samples[-1].values["battery_current_a"] == 12.4
    assert watched.settings[-1].values["cell_voltage_high_limit_v"] == 3.65


def test_a_silent_pack_is_offline_within_three_rounds(bank, watch, eventually):
    watched = watch(bank(faults=Faults({"silent": 1.0})))
    eventually(lambda: watched.state()[0] == "offline")
    assert "no answer at address 1" in watched.state()[1]
    polls, timeouts = watched.at_loss[0]
    assert timeouts <= polls <= 3
    assert not watched.samples


def test_a_pack_that_falls_silent_withdraws_its_values(bank, watch, eventually):
    faults = Faults()
    watched = watch(bank(faults=faults))
    eventually(lambda: watched.samples)
    faults.rates["silent"] = 1.0
    eventually(lambda: watched.state()[0] == "offline")
    eventually(lambda: watched.samples[-1].values["battery_soc_percent"] is None)
    last = watched.samples[-1]
    assert last.values["discharge_mosfet_on"] is None
    assert (last.values["cycles"], last.quality["cycles"]) == (41, "stale")
    faults.rates.clear()
    eventually(lambda: watched.state()[0] == "online")


def test_asleep_and_awake_again(bank, watch, eventually):
    world = World({"faults": []})
    world._device = "battery"
    watched = watch(bank(Bank(world=world)))
    eventually(lambda: watched.samples)
    world._values["faults"] = ["asleep:battery"]
    eventually(lambda: watched.state()[0] == "sleeping")
    assert "our own request comes back" in watched.state()[1]
    eventually(lambda: watched.samples[-1].values["battery_voltage_v"] is None)
    count = len(watched.samples)
    world._values["faults"] = []
    eventually(lambda: watched.state()[0] == "online" and len(watched.samples) > count)
    for sample in watched.samples[count:]:
        assert sample.values["battery_voltage_v"] in (53.1, None)
        assert sample.values["battery_current_a"] in (12.4, None)
        assert sample.values["discharge_mosfet_on"] in (True, None)


def test_another_pack_on_the_port_is_not_published(bank, watch, eventually):
    watched = watch(bank(), serial="MY-PACK")
    eventually(lambda: watched.state()[0] == "identity_mismatch")
    assert "SUNMESH-01" in watched.state()[1]
    assert not watched.samples


def test_a_port_that_vanishes_and_returns_under_another_name(bank, watch, eventually):
    path = bank(name="daly")
    watched = watch(path)
    eventually(lambda: watched.samples)
    bank.stop(path)
    eventually(lambda: watched.state()[0] == "offline")
    bank(name="squatter")  # takes the old name
    bank(name="daly")
    eventually(lambda: watched.state()[0] == "online")


def test_a_wrong_sign_is_an_alarm(bank, watch, eventually):
    watched = watch(bank(Bank(modes=["inverted-sign"])))
    eventually(lambda: watched.alarms)
    assert (watched.alarms[-1].state, watched.alarms[-1].severity) == ("raised", "warning")
