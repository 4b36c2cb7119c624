"""A whole mesh for the benchmarks: private broker and MariaDB, real services, one emulator each."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sunmesh.testing import Broker, MariaDB, find_free_port, wait_for

BIN = Path(sys.executable).parent


@dataclass
class House:
    """What runs, and where."""

    folder: Path
    broker: Broker
    web_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Its ``site.toml``."""
        return self.folder / "site.toml"

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a script of the mesh as ``name``; its log goes into the folder."""
        with (self.folder / f"{name}.log").open("wb") as out:
            process = subprocess.Popen([BIN / command[0], *command[1:]], stdout=out, stderr=out)
        self.processes[name] = process
        return process


@contextmanager
def house(inverters: int = 1, poll_interval_s: float = 2.0) -> Iterator[House]:
    """Broker, MariaDB, recorder, web, and ``inverters`` emulators, each with its collector."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("broker", "database"):
            (folder / name).mkdir()
        broker = Broker(folder / "broker")
        database = MariaDB(folder / "database")
        for server in (broker, database):
            server.start()
            stack.callback(server.stop)
        database.execute("CREATE DATABASE house CHARACTER SET utf8mb4")
        home = House(folder, broker, find_free_port())
        base = (
            f'[broker]\nport = {broker.port}\n[database]\nurl = "{database.url("house")}"\n'
            f"[web]\nport = {home.web_port}\n"
        )
        devices = [
            f'[devices.inverter{number}]\nfamily = "axpert"\nport = "{folder}/pty{number}"\n'
            f'dialect = "PI30"\npoll_interval_s = {poll_interval_s}\n'
            for number in range(inverters)
        ]
        home.config.write_text(base + devices[0], encoding="utf-8")
        stack.callback(_stop, home)
        for number, device in enumerate(devices):
            pty = folder / f"pty{number}"
            home.start(f"emulator{number}", "collector-axpert", "emulate", "--pty", str(pty))
            wait_for(pty.is_symlink, 10, f"emulator {number}")
            config = folder / f"site{number}.toml"
            # collectors of one family share a client id unless their sites differ
            config.write_text(f'[site]\nname = "site{number}"\n' + base + device, encoding="utf-8")
        home.config.write_text('[site]\nname = "site0"\n' + base + devices[0], encoding="utf-8")
        home.start("recorder", "recorder", "run", "--config", str(home.config))
        home.start("web", "web", "run", "--config", str(home.config))
        for number in range(inverters):
            config = folder / f"site{number}.toml"
            name = f"collector{number}"
            home.start(name, "collector-axpert", "run", "--config", str(config))
        yield home


def _stop(home: House) -> None:
    for process in home.processes.values():
        process.terminate()
    for process in home.processes.values():
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def pss_mib(pid: int) -> float:
    """Proportional memory of a process: what is its own, and its share of what it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} tells no Pss")


def settle(seconds: float) -> None:
    """Let the mesh run."""
    time.sleep(seconds)
