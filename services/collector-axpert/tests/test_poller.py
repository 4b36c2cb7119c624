"""The inverter in the mesh: what the poll loop publishes of it, through a real broker."""

import threading

import pytest
from collector_axpert import transport
from collector_axpert.config import AxpertDevice
from collector_axpert.emulator import PROFILES, Inverter
from collector_axpert.service import Axpert
from collector_axpert.transport import Link, port_of
from sunmesh.emulation import Faults
from sunmesh.messages import Info, Sample, Settings, Status, decode
from sunmesh.poll import Poller
from sunmesh.testing import when_said


class Watched:
    """A poller that runs, and everything that it published."""

    def __init__(self, mesh, topics, config):
        self.samples, self.states, self.infos, self.settings = [], [], [], []
        witness = mesh("witness")
        for topic, kind, kept in (
            (topics.telemetry("inverter"), Sample, self.samples),
            (topics.status("inverter"), Status, self.states),
            (topics.info("inverter"), Info, self.infos),
            (topics.settings("inverter"), Settings, self.settings),
        ):
            witness.subscribe(
                topic, lambda m, kind=kind, kept=kept: kept.append(decode(kind, m.payload))
            )
        self.link = Link(port_of(config, "test"))
        client = mesh("collector-axpert")
        self.poller = Poller("inverter", Axpert(config, self.link), client, interval_s=0.1)
        self.at_loss = when_said(client, topics.status("inverter"), "offline", self.counts)
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

    def has_withdrawn(self):
        """Whether the last sample says that nothing is known any more."""
        return self.state()[0] == "offline" and self.samples[-1].values["device_mode"] is None


@pytest.fixture
def watch(mesh, topics, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 0.5)
    monkeypatch.setattr(transport, "QUIET_S", 0.02)
    made = []

    def start(port, **settings):
        made.append(Watched(mesh, topics, AxpertDevice(port=str(port), **settings)))
        return made[-1]

    yield start
    for watched in made:
        watched.stop()


def test_an_inverter_is_published(inverter, watch, eventually):
    watched = watch(inverter())
    eventually(lambda: len(watched.samples) >= 2 and watched.settings)
    assert watched.state() == ("online", "")
    assert watched.infos[-1].serial == "92932105105335"
    assert watched.samples[-1].values["pv_total_power_w"] == 1975
    assert watched.settings[-1].values["battery_type"] == "user"


def test_a_silent_inverter_is_offline_within_three_rounds(inverter, watch, eventually):
    watched = watch(inverter(faults=Faults({"silent": 1.0})))
    eventually(lambda: watched.state()[0] == "offline")
    assert "no answer to" in watched.state()[1]
    polls, timeouts = watched.at_loss[0]
    assert timeouts <= polls <= 3
    assert not watched.samples


def test_an_inverter_that_falls_silent_withdraws_its_values(inverter, watch, eventually):
    faults = Faults()
    watched = watch(inverter(faults=faults))
    eventually(lambda: watched.samples)
    before = watched.link.counters["timeouts"]
    faults.rates["silent"] = 1.0
    eventually(watched.has_withdrawn)
    last = watched.samples[-1]
    assert watched.at_loss[0][1] - before <= 3
    assert last.values["ac_output_power_w"] is None
    assert last.values["pv_energy_total_kwh"] == 4312.345
    assert last.quality["pv_energy_total_kwh"] == "stale"
    faults.rates.clear()
    eventually(lambda: watched.state()[0] == "online")


def test_a_port_that_vanishes_and_returns_under_another_name(inverter, watch, eventually):
    path = inverter(name="axpert")
    watched = watch(path)
    eventually(lambda: watched.samples)
    first = path.readlink()
    other = inverter(name="somebody-else")  # takes the next free name
    inverter.stop(path)
    eventually(lambda: watched.state()[0] == "offline")
    taken = [other.readlink()]
    while True:
        taken.append(inverter(name=f"squatter{len(taken)}").readlink())  # and this one the old name
        inverter(name="axpert")
        if path.readlink() != first:
            break
        inverter.stop(path)  # another process on this machine had the old name for a moment
    assert path.readlink() not in taken
    eventually(lambda: watched.state()[0] == "online")


def test_another_inverter_on_the_port_is_not_published(inverter, watch, eventually):
    path = inverter(name="axpert")
    watched = watch(path, serial=PROFILES["PI30MAX"].serial)
    eventually(lambda: watched.samples)
    inverter.stop(path)
    eventually(watched.has_withdrawn)
    count = len(watched.samples)
    inverter("PI30", name="axpert")
    eventually(lambda: watched.state()[0] == "identity_mismatch")
    assert "92931509105335" in watched.state()[1]
    assert len(watched.samples) == count


def test_nak_to_everything(inverter, watch, eventually):
    faults = Faults({"nak": 1.0})
    watched = watch(inverter(faults=faults))
    eventually(lambda: watched.state() == ("refusing", "device answers NAK"))
    faults.rates.clear()
    eventually(lambda: watched.state()[0] == "online")


def test_a_changed_setting_is_published_at_once(inverter, watch, eventually):
    from collector_axpert import codec

    device = Inverter()
    watched = watch(inverter(device=device))
    eventually(lambda: watched.settings)
    assert watched.settings[-1].values["output_source_priority"] == "SBU"
    device.receive(codec.request("POP01"))
    eventually(
        lambda: watched.settings[-1].values["output_source_priority"] == "SUB", 10, "long before"
    )
