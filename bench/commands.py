"""A command on a busy line: from its publication to the wire, and to its proof."""

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from collector_axpert import codec
from collector_axpert.emulator import Inverter
from sunmesh.emulation import serve_pty
from sunmesh.messages import Command, Result, Settings, decode, encode
from sunmesh.mqtt import Mesh, Message
from sunmesh.testing import Broker, wait_for
from sunmesh.topics import Topics

from . import goals
from .mesh import BIN

BAUD = 2400
COMMANDS = 40
ROUND = ("QPIGS", "QMOD", "QPIWS", "QPIGS2")
FRAMES = ("POP", "QPIRI")
"""What a command puts on the wire: itself, and the reading that proves it."""

SETTING = "output_source_priority"
CONFIG = """\
[broker]
port = {broker}
[devices.inverter]
family = "axpert"
port = "{pty}"
dialect = "PI30"
poll_interval_s = 2
settings_interval_s = 2
control = true
write_budget = 1000
"""


class Watched:
    """An inverter that notes when each request came, and how many bytes it cost both ways."""

    def __init__(self) -> None:
        self.inverter = Inverter()
        self.requests: list[tuple[float, str, int]] = []

    def receive(self, data: bytes) -> list[bytes]:
        """As the inverter does."""
        came = time.monotonic()
        frames = self.inverter.receive(data)
        name = data[:-3].decode("latin-1")
        self.requests.append((came, name, len(data) + sum(map(len, frames))))
        return frames

    def nak(self) -> bytes | None:
        """As the inverter does."""
        return self.inverter.nak()


def measure() -> dict[str, dict[str, object]]:
    """Commands at random moments while status and settings are asked for without much rest."""
    device = Watched()
    applied: dict[str, float] = {}
    ready = threading.Event()

    def result(message: Message) -> None:
        told = decode(Result, message.payload)
        if told.stage == "applied":
            applied[told.id] = time.monotonic()

    def settings(message: Message) -> None:
        if decode(Settings, message.payload).values:
            ready.set()

    with _collector(device) as mesh:
        mesh.subscribe(mesh.topics.result("inverter"), result)
        mesh.subscribe(mesh.topics.settings("inverter"), settings)
        if not ready.wait(30):
            raise RuntimeError("the collector reads no settings")
        chance = random.Random(5)
        waits, proofs, frames = [], [], []
        for number in range(COMMANDS):
            time.sleep(chance.uniform(0.5, 2.5))
            since, name = len(device.requests), f"c{number}"
            wish = Command(SETTING, "SBU" if number % 2 else "USB", id=name)
            asked = time.monotonic()
            mesh.publish(mesh.topics.command("inverter"), encode(wish))
            wait_for(lambda name=name: name in applied, 30)  # type: ignore[misc]
            new = device.requests[since:]
            at = next(n for n, request in enumerate(new) if request[1].startswith("POP"))
            waits.append(new[at][0] - asked)
            proofs.append(applied[name] - new[at][0])
            costs = [cost for _, what, cost in new[at : at + 2] if what.startswith(FRAMES)]
            frames.append(sum(costs) * 10 / BAUD)
    answers = [Inverter().receive(codec.request(command)) for command in ROUND]
    count = sum(len(codec.request(each)) for each in ROUND) + sum(len(a[0]) for a in answers)
    round_s = count * 10 / BAUD
    return {
        "wire_median": goals.at_most(
            median(waits) / round_s, 0.6, "rounds", round_s=round(round_s, 3), commands=COMMANDS
        ),
        "wire_longest": goals.at_most(max(waits) / round_s, 1.0, "rounds"),
        "applied_against_line": goals.ratio(proofs, frames, 1.15, "s"),
    }


@contextmanager
def _collector(device: Watched) -> Iterator[Mesh]:
    """A collector for ``device`` in a process of its own; a client of its broker."""
    stop, there = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pty, config = folder / "pty", folder / "site.toml"
        broker = Broker(folder)
        broker.start()
        line = threading.Thread(
            target=serve_pty,
            args=(pty, device),
            kwargs={"baud": BAUD, "stop": stop, "ready": there},
            daemon=True,
        )
        line.start()
        there.wait(10)
        config.write_text(CONFIG.format(broker=broker.port, pty=pty), encoding="utf-8")
        mesh = Mesh(broker.config, Topics(), "bench")
        mesh.start()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [BIN / "collector-axpert", "run", "--config", config], stdout=log, stderr=log
            )
        try:
            yield mesh
        except BaseException:
            sys.stderr.write((folder / "log").read_text(encoding="utf-8"))
            raise
        finally:
            process.terminate()
            process.wait(10)
            mesh.stop()
            stop.set()
            line.join(5)
            broker.stop()
