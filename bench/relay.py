"""The relay: how soon the output follows a command, and how long the grid stays open when all dies.

Latency: commands over a real Mosquitto to a real relay with a file for its output, which is looked
at from outside every quarter of a millisecond. Deaths: ``tests/mesh/relay_matrix.py``, where each
process is killed and stopped in each state and the output is recorded all the time.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles

from sunmesh.messages import Command, encode
from sunmesh.mqtt import Mesh
from sunmesh.testing import Broker, wait_for
from sunmesh.topics import Topics

from . import goals

MATRIX = Path(__file__).parents[1] / "tests/mesh/relay_matrix.py"
COMMANDS = 400
PAUSE_S = 0.03
GIVEN_UP_S = 5.0


def measure() -> dict[str, dict[str, object]]:
    """Latencies, and each death of the matrix beside its limit."""
    latencies = _latencies()
    outcomes = _deaths()
    found = {
        "command_to_level_median": goals.at_most(
            median(latencies), 10.0, "ms", commands=len(latencies), min=round(min(latencies), 2)
        ),
        "command_to_level_p99": goals.at_most(
            quantiles(latencies, n=100)[98], 50.0, "ms", max=round(max(latencies), 2)
        ),
    }
    for outcome in outcomes:
        name = f"open_after_{outcome['victim']}_{outcome['how']}_{outcome['state']}"
        more = {}
        if outcome["safe_again_ms"] is not None:
            more["set_safe_ms"] = round(outcome["safe_again_ms"])
        found[name] = goals.at_most(outcome["open_s"], outcome["limit_s"], "s", **more)
    found["deaths"] = goals.at_least(len(outcomes), 18, "cases")
    return found


def _latencies() -> list[float]:
    """From the publish of a command until the output's level has changed [ms]."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = Broker(folder / "broker")
        broker.start()
        output, config = folder / "output", folder / "site.toml"
        config.write_text(
            f"[broker]\nport = {broker.port}\n"
            '[devices.grid-relay]\nfamily = "relay"\nmin_connected_s = 0\n'
            "max_switches_per_day = 1000000\n"
            'output = { by = "file", path = "output" }\n',
            encoding="utf-8",
        )
        script = Path(sys.executable).parent / "grid-relay"
        command = [script, "--log-level", "warning", "run", "--config", config]
        relay = subprocess.Popen(command)
        mesh = Mesh(broker.config, Topics(), "bench")
        try:
            is_online = threading.Event()
            topic = mesh.topics.service_status("grid-relay")
            mesh.subscribe(topic, lambda _: is_online.set())
            mesh.start()
            wait_for(is_online.is_set, why="the relay is online")
            wait_for(output.exists)
            return [_once(mesh, output, number % 2 == 0) for number in range(COMMANDS)]
        finally:
            relay.terminate()
            relay.wait(30)
            mesh.stop()
            broker.stop()


def _once(mesh: Mesh, output: Path, opens: bool) -> float:
    """One command; how long until the output shows it [ms]."""
    wish = Command("relay_position", "grid_open" if opens else "grid_connected", lease_s=600.0)
    payload, wanted = encode(wish), b"1\n" if opens else b"0\n"
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    mesh.publish(mesh.topics.command("grid-relay"), payload)
    while output.read_bytes() != wanted:
        if time.perf_counter() - began > GIVEN_UP_S:
            raise RuntimeError(f"the output does not follow {wish}")
        time.sleep(0.00025)
    return 1000 * (time.perf_counter() - began)


def _deaths() -> list[dict[str, object]]:
    """What the matrix found; nothing where it could not run, which is told on stderr."""
    done = subprocess.run([sys.executable, MATRIX], stdout=subprocess.PIPE, check=False)
    return list(json.loads(done.stdout)) if done.stdout else []
