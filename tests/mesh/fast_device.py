"""A device that is read every 20 ms, so that minutes of samples pass in seconds.

python fast_device.py SITE_TOML COUNT [NAME]: publishes battery_voltage_v = 0, 1, 2 ... COUNT - 1,
then sleeps. Its device is called NAME, or fast. How many it has published stands beside SITE_TOML
in NAME.said. Once there is a NAME.enough, it publishes no more and writes there how many it has.
"""

import sys
from datetime import timedelta
from pathlib import Path

from sunmesh import clock, config, service
from sunmesh.errors import Sleeping
from sunmesh.messages import Info
from sunmesh.mqtt import Mesh
from sunmesh.poll import Poller, Reading

INTERVAL_S = 0.02
TICK = timedelta(milliseconds=1)


class Counting:
    """A source whose only value is the number of the round, each with a time of its own."""

    def __init__(self, count, place):
        self.count = count
        self.said, self.enough = place.with_suffix(".said"), place.with_suffix(".enough")
        self.round = 0
        self.last = clock.now()

    def open(self):
        return Info(ts=clock.iso(clock.now()), family="axpert")

    def poll(self):
        if self.enough.exists():
            self.enough.write_text(str(self.round))
        if self.round == self.count or self.enough.exists():
            raise Sleeping("everything is said")
        value, self.round = self.round, self.round + 1
        new = self.said.with_suffix(".new")
        new.write_text(str(self.round))
        new.replace(self.said)  # so that nobody reads an empty one
        self.last = max(clock.now(), self.last + TICK)
        return Reading({"battery_voltage_v": float(value)}, ts=self.last)

    def settings(self):
        return None

    def flush(self):
        pass

    close = flush


def main():
    service.setup_logging()
    site = config.load(Path(sys.argv[1]), "fast-device")
    name = sys.argv[3] if len(sys.argv) > 3 else "fast"
    mesh = Mesh(site.broker, site.topics, "fast-device", instance=name)
    source = Counting(int(sys.argv[2]), Path(sys.argv[1]).with_name(name))
    poller = Poller(name, source, mesh, interval_s=INTERVAL_S)
    return service.run("fast-device", "0", mesh, poller.run, lambda: dict(poller.counters))


service.main(main)
