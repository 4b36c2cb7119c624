"""PSS of the resident services in a running mesh, collectors of four families among them."""

import json
import subprocess
import sys
import urllib.request
from statistics import median

from . import goals
from .mesh import house, pss_mib, settle

COLLECTORS = 6
FAMILIES = {"bms": "", "pl80": "", "meter": 'model = "SDM230"\n'}
GOALS = {"bms": 14, "pl80": 14, "meter": 19}
"""Modbus brings a library."""
FLOOR = "import paho.mqtt.client, serial, sys; print(1, flush=True); sys.stdin.read()"


def measure() -> dict[str, dict[str, object]]:
    """The mesh after half a minute of work; the floor is what the imports alone cost."""
    with house(COLLECTORS) as home:
        for family, settings in FAMILIES.items():
            home.add_family(family, settings)
        settle(20)
        with urllib.request.urlopen(f"http://127.0.0.1:{home.web_port}/") as page:  # noqa: S310
            page.read()
        settle(10)
        collectors = [pss_mib(home.processes[f"collector{n}"].pid) for n in range(COLLECTORS)]
        pss = {name: pss_mib(home.processes[name].pid) for name in ("recorder", "web", *FAMILIES)}
    floors = [
        subprocess.Popen([sys.executable, "-c", FLOOR], stdin=subprocess.PIPE, stdout=-1)
        for _ in range(COLLECTORS)
    ]
    for process in floors:
        assert process.stdout is not None
        process.stdout.readline()
    floor = median(pss_mib(process.pid) for process in floors)
    for process in floors:
        process.communicate()
    return {
        "collector": goals.at_most(median(collectors), 14, "MiB PSS", floor=round(floor, 2)),
        **{
            f"collector_{family}": goals.at_most(pss[family], GOALS[family], "MiB PSS")
            for family in FAMILIES
        },
        "recorder": goals.at_most(pss["recorder"], 40, "MiB PSS"),
        "web": goals.at_most(pss["web"], 48, "MiB PSS"),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
