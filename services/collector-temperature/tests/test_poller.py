"""Sensors in the mesh: what the poll loop publishes of them, through a real broker."""

import threading

import pytest
from collector_temperature import service
from collector_temperature.__main__ import pollers
from sunmesh import config
from sunmesh.emulation import Faults
from sunmesh.messages import Info, Sample, Settings, Status, decode

from .conftest import ROM

OTHER = "28-000006c5aefc"
KINDS = {"telemetry": Sample, "status": Status, "info": Info, "settings": Settings}


@pytest.fixture
def watch(mesh, site_file, monkeypatch):
    """Run the pollers of a site; what they published, by device and kind."""
    monkeypatch.setattr(service, "AGAIN_S", 0.01)
    stop, threads = threading.Event(), []

    def start(root, **roms):
        witness = mesh("witness")
        said = {name: {kind: [] for kind in KINDS} for name in roms}
        tables = ""
        for name, rom in roms.items():
            tables += f'[devices.{name}]\nfamily = "temperature"\nrom = "{rom}"\nroot = "{root}"\n'
            for kind, structure in KINDS.items():
                witness.subscribe(
                    getattr(witness.topics, kind)(name),
                    lambda m, structure=structure, kept=said[name][kind]: kept.append(
                        decode(structure, m.payload)
                    ),
                )
        for poller in pollers(config.load(site_file(tables)), mesh("collector")):
            poller._interval_s = poller._back_off_limit_s = 0.05
            threads.append(threading.Thread(target=poller.run, args=(stop,)))
            threads[-1].start()
        return said

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)


def test_each_sensor_is_a_device(emulated, watch, eventually):
    said = watch(emulated(ROM, OTHER).root, roof=ROM, cellar=OTHER)
    for name, rom in (("roof", ROM), ("cellar", OTHER)):
        eventually(lambda name=name: said[name]["telemetry"] and said[name]["settings"])
        assert said[name]["status"][-1].state == "online"
        assert said[name]["info"][-1].serial == rom
        assert said[name]["telemetry"][-1].values == {"temperature_c": 22.0625}


def test_a_sensor_that_vanishes_is_withdrawn_while_the_other_goes_on(emulated, watch, eventually):
    folder = emulated(ROM, OTHER)
    said = watch(folder.root, roof=ROM, cellar=OTHER)
    eventually(lambda: said["roof"]["telemetry"] and said["cellar"]["telemetry"])
    folder.sensors[0].faults.rates["silent"] = 1.0
    eventually(lambda: said["roof"]["status"][-1].state == "offline")
    eventually(lambda: said["roof"]["telemetry"][-1].values == {"temperature_c": None})
    eventually(lambda: f"there: {OTHER}" in said["roof"]["status"][-1].reason)
    assert said["cellar"]["status"][-1].state == "online"
    folder.sensors[0].faults.rates.clear()
    eventually(lambda: said["roof"]["status"][-1].state == "online")
    eventually(lambda: said["roof"]["telemetry"][-1].values == {"temperature_c": 22.0625})


def test_a_sensor_whose_checksum_never_fits_is_offline(emulated, watch, eventually):
    folder = emulated(ROM, faults=Faults({"nak": 1.0}))
    said = watch(folder.root, roof=ROM)
    eventually(lambda: said["roof"]["status"])
    eventually(lambda: said["roof"]["status"][-1].state == "offline")
    assert "crc" in said["roof"]["status"][-1].reason
    assert not said["roof"]["telemetry"]
