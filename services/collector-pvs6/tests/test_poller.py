"""The gateway in the mesh: what the poll loop publishes of it and of what is behind it."""

import threading

import pytest
from collector_pvs6.__main__ import pollers
from collector_pvs6.server import make_certificate
from sunmesh import config
from sunmesh import topics as topic_tree
from sunmesh.messages import Info, Sample, Status, decode

KINDS = {"telemetry": Sample, "info": Info, "status": Status}
PANEL = "solar-01014"


class Watched:
    """Pollers that run, and everything that they published, by device."""

    def __init__(self, mesh, topics, site):
        self.heard = {kind: {} for kind in KINDS}
        witness = mesh("witness")
        for kind in KINDS:
            witness.subscribe(topics.every(kind), self._take)
        self.pollers = pollers(config.load(site), mesh("collector-pvs6"))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=p.run, args=(self._stop,)) for p in self.pollers]
        for thread in self._threads:
            thread.start()

    def _take(self, message):
        address = topic_tree.parse(message.topic)
        told = decode(KINDS[address.kind], message.payload)
        self.heard[address.kind].setdefault(address.device, []).append(told)

    def state(self, device="solar"):
        told = self.heard["status"].get(device)
        return told[-1].state if told else None

    def samples(self, device="solar"):
        return self.heard["telemetry"].get(device, [])

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def watch(mesh, topics, site_file):
    made = []

    def start(server, more=""):
        site = site_file(
            f'[devices.solar]\nfamily = "pvs6"\nhost = "127.0.0.1"\n'
            f"http_port = {server.http_port or 1}\nhttps_port = {server.https_port or 1}\n"
            f"poll_interval_s = 1\nnight_interval_s = 1\nallow_fast_polling = true\n{more}"
        )
        made.append(Watched(mesh, topics, site))
        return made[-1]

    yield start
    for watched in made:
        watched.stop()


@pytest.mark.parametrize("firmware", ["new", "legacy"])
def test_each_device_is_published_with_its_own_time(gateway, watch, eventually, tmp_path, firmware):
    server = gateway(firmware)
    watched = watch(server, '[devices.solar.names]\nE00121850001045 = "roof-east"\n')
    eventually(lambda: len(watched.samples()) >= 2 and len(watched.samples(PANEL)) >= 2)
    assert len(watched.heard["status"]) == 21
    assert {watched.state(device) for device in watched.heard["status"]} == {"online"}
    assert watched.heard["info"]["roof-east"][0].serial == "E00121850001045"
    assert watched.heard["info"]["roof-east"][0].through == "solar"
    assert len(watched.heard["info"]["roof-east"]) == 1, "said once"
    sample = watched.samples(PANEL)[0]
    assert sample.ts.endswith(":00.000Z") or sample.ts.endswith(".000Z"), "the device's seconds"
    assert [each.seq for each in watched.samples(PANEL)[:2]] == [1, 2]
    assert server.most_at_once == 1
    watched.stop()
    assert (tmp_path / "solar.state.json").exists()
    assert list((tmp_path / "archive").glob("solar-*.jsonl.gz"))


def test_an_unchanged_measurement_is_one_sample(gateway, watch, eventually):
    server = gateway("legacy")
    server.pvs._refresh_s = 3600.0
    watched = watch(server)
    eventually(lambda: watched.pollers[0].counters["polls"] >= 4 and watched.samples(PANEL))
    assert len(watched.samples(PANEL)) == 1
    assert watched.state(PANEL) == "online"


def test_a_plug_is_pulled_and_comes_back(gateway, watch, eventually):
    server = gateway()
    watched = watch(server)
    eventually(lambda: len(watched.samples(PANEL)) >= 1)
    server.faults.rates["silent"] = 1.0
    eventually(lambda: watched.state() == "offline" and watched.state(PANEL) == "offline")
    eventually(lambda: watched.samples(PANEL)[-1].values["pv_power_w"] is None)
    last = watched.samples(PANEL)[-1]
    assert last.quality == {"pv_energy_total_kwh": "stale"}
    assert last.values["pv_energy_total_kwh"] > 0
    assert "solar is offline" in watched.heard["status"][PANEL][-1].reason
    server.faults.rates.clear()
    eventually(lambda: watched.state() == "online" and watched.state(PANEL) == "online")
    eventually(lambda: watched.samples(PANEL)[-1].values["pv_power_w"])


def test_another_certificate_is_an_identity_mismatch(
    gateway, watch, eventually, tmp_path, free_port
):
    server = gateway(https_port=free_port)
    watched = watch(server)
    eventually(lambda: watched.samples())
    server.stop()
    eventually(lambda: watched.state() == "offline")
    eventually(lambda: watched.samples()[-1].values["pv_power_w"] is None)
    count = len(watched.samples())
    other = tmp_path / "other.pem"
    make_certificate(other)
    gateway(pem=other, https_port=free_port, http_port=None)
    eventually(lambda: watched.state() == "identity_mismatch")
    assert "certificate has changed" in watched.heard["status"]["solar"][-1].reason
    eventually(lambda: watched.state(PANEL) == "offline")
    assert len(watched.samples()) == count


def test_a_gateway_that_refuses_is_said_to(gateway, watch, eventually):
    server = gateway("legacy")
    server.faults.rates["403"] = 1.0
    watched = watch(server)
    eventually(lambda: watched.state() == "refusing")
    server.faults.rates.clear()
    eventually(lambda: watched.state() == "online")
