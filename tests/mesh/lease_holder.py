"""Who holds the relay open: renews its lease for ever, as the controller does, and nothing else.

python lease_holder.py SITE LEASE_S EVERY_S: one command each EVERY_S seconds.
"""

import sys
import time
from datetime import timedelta
from pathlib import Path

from sunmesh import clock, config
from sunmesh.messages import Command, encode
from sunmesh.mqtt import Mesh

LEASE_S, EVERY_S = float(sys.argv[2]), float(sys.argv[3])

site = config.load(Path(sys.argv[1]), "controller")
mesh = Mesh(site.broker, site.topics, "controller")
mesh.start()
mesh.wait_connected(60)
while True:
    time.sleep(EVERY_S)
    if mesh.connected:
        command = Command(
            "relay_position",
            "grid_open",
            expires=clock.iso(clock.now() + timedelta(seconds=LEASE_S)),
            by="controller:test",
            lease_s=LEASE_S,
        )
        mesh.publish(site.topics.command("grid-relay"), encode(command))
