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
    database_url: str
    web_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    inverters: int = 0

    def write_config(self, site: str, devices: str) -> Path:
        """A ``site.toml`` for these servers."""
        path = self.folder / f"{site}.toml"
        path.write_text(
            f'[site]\nname = "{site}"\n[broker]\nport = {self.broker.port}\n'
            f'[database]\nurl = "{self.database_url}"\n[web]\nport = {self.web_port}\n{devices}',
            encoding="utf-8",
        )
        return path

    def add_inverter(self, port: Path, poll_interval_s: float = 2.0) -> None:
        """A collector for the inverter at ``port``; the first one is of the site that web shows.

        Each collector has a site of its own: two of one family on one site would share a client id.
        """
        config = self.write_config(
            f"site{self.inverters}",
            f'[devices.inverter]\nfamily = "axpert"\nport = "{port}"\ndialect = "PI30"\n'
            f"poll_interval_s = {poll_interval_s}\n",
        )
        name = f"collector{self.inverters}"
        self.start(name, "collector-axpert", "run", "--config", str(config))
        self.inverters += 1

    def add_family(self, family: str, settings: str = "") -> None:
        """An emulated device of ``family`` and its collector, called so, on a site of their own."""
        pty, service = self.folder / family, f"collector-{family}"
        self.start(f"emulated-{family}", service, "emulate", "--pty", str(pty))
        wait_for(pty.is_symlink, 10, f"emulated {family}")
        table = f'[devices.{family}]\nfamily = "{family}"\nport = "{pty}"\n{settings}'
        self.start(family, service, "run", "--config", str(self.write_config(family, table)))

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a script of the mesh as ``name``; its log goes into the folder."""
        with (self.folder / f"{name}.log").open("wb") as out:
            process = subprocess.Popen([BIN / command[0], *command[1:]], stdout=out, stderr=out)
        self.processes[name] = process
        return process


@contextmanager
def house(inverters: int = 1) -> Iterator[House]:
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
        home = House(folder, broker, database.url("house"), find_free_port())
        stack.callback(_stop, home)
        config = str(home.write_config("site0", ""))
        home.start("recorder", "recorder", "run", "--config", config)
        home.start("web", "web", "run", "--config", config)
        for number in range(inverters):
            pty = folder / f"pty{number}"
            home.start(f"emulator{number}", "collector-axpert", "emulate", "--pty", str(pty))
            wait_for(pty.is_symlink, 10, f"emulator {number}")
            home.add_inverter(pty)
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
