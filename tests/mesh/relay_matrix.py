"""The relay, its broker and who holds it open: each killed and each stopped, in each state.

python relay_matrix.py: every case on real processes; prints JSON, status 1 when the grid was open
for longer than it may be. What the output shows is recorded all the time, from outside.

The relay is watched as systemd does by its unit: whoever falls silent on the notification socket is
killed with SIGKILL, and whatever ended it, `grid-relay set-safe` runs afterwards.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from sunmesh.messages import Command, Result, decode, encode
from sunmesh.mqtt import Mesh
from sunmesh.testing import Broker, wait_for
from sunmesh.topics import Topics

HERE = Path(__file__).parent
SCRIPTS = Path(sys.executable).parent
LEASE_S = 1.5
RENEWED_S = 0.3
WATCHDOG_S = 1.0
MARGIN_S = 1.0
"""So long after the lease the output must be safe."""

STATES = ("connected", "leased", "manual")
VICTIMS = ("holder", "broker", "relay")
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
CASES = [(state, victim, how) for state in STATES for victim in VICTIMS for how in SIGNALS]


@dataclass
class Outcome:
    """What a case showed.

    Attributes:
        open_s: from the signal until the output was safe for good; 0 where it was all along.
        limit_s: how long that may be.
        safe_again_ms: how long set-safe took, where the relay itself died.
    """

    state: str
    victim: str
    how: str
    open_s: float
    limit_s: float
    safe_again_ms: float | None = None

    @property
    def is_good(self):
        return self.open_s <= self.limit_s


class Witness:
    """Looks at the output all the time: (moment, level), each change once."""

    def __init__(self, path):
        self.path = path
        self.seen = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._stop.wait(0.004):
            with contextlib.suppress(OSError):
                level = self.path.read_text().strip()
                if not self.seen or self.seen[-1][1] != level:
                    self.seen.append((time.monotonic(), level))

    def close(self):
        self._stop.set()
        self._thread.join()

    @property
    def level(self):
        return self.seen[-1][1] if self.seen else None

    def last_open(self, since):
        """Until when it was open after ``since``; that moment itself when it was not."""
        now = time.monotonic()
        ends = [moment for moment, _ in self.seen[1:]] + [now]
        return max(
            [end for (_, level), end in zip(self.seen, ends, strict=False) if level == "1"]
            + [since]
        )


class Supervised:
    """The relay, as its unit has systemd run it, but for the restart."""

    def __init__(self, folder, config):
        self.folder, self.config = folder, config
        self.process = None
        self.safe_again_ms = None
        self._fed = 0.0
        self._is_over = threading.Event()

    def start(self):
        name = f"\0relay-matrix-{os.getpid()}-{id(self)}-{time.monotonic_ns()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name)
        self._socket.settimeout(0.05)
        ready = threading.Event()
        self._is_over.clear()
        self.safe_again_ms = None
        environ = os.environ | {
            "NOTIFY_SOCKET": name.replace("\0", "@"),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
        }
        with (self.folder / "relay.log").open("ab") as out:
            self.process = subprocess.Popen(
                [SCRIPTS / "grid-relay", "run", "--config", self.config],
                stdout=out,
                stderr=out,
                env=environ,
            )
        self._watch = threading.Thread(target=self._supervise, args=(ready,), daemon=True)
        self._watch.start()
        assert ready.wait(60), (self.folder / "relay.log").read_text()

    def _supervise(self, ready):
        while self.process.poll() is None:
            try:
                text = self._socket.recv(4096)
                self._fed = time.monotonic()
                if text == b"READY=1":
                    ready.set()
            except TimeoutError:
                if ready.is_set() and time.monotonic() - self._fed > WATCHDOG_S:
                    self.process.kill()
                    self.process.wait()
        began = time.monotonic()
        done = subprocess.run(
            [SCRIPTS / "grid-relay", "set-safe", "--config", self.config],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.safe_again_ms = 1000 * (time.monotonic() - began)
        self._socket.close()
        self._is_over.set()

    def await_end(self):
        assert self._is_over.wait(60)

    def stop(self):
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.await_end()
            self.process = None


class House:
    """Broker, relay, who holds it, and who watches."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "broker").mkdir()
        self.broker = Broker(folder / "broker")
        self.output = folder / "output"
        self.config = folder / "site.toml"
        self.config.write_text(
            f'[site]\nname = "matrix"\n[broker]\nport = {self.broker.port}\n'
            '[devices.grid-relay]\nfamily = "relay"\nmin_connected_s = 0\n'
            f"max_switches_per_day = 1000000\nmax_lease_s = {LEASE_S}\n"
            'output = { by = "file", path = "output" }\n'
        )
        self.relay = Supervised(folder, self.config)
        self.holder = None
        self.hand = Mesh(self.broker.config, Topics("matrix"), "web")
        self.results = []
        self.hand.subscribe(
            self.hand.topics.result("grid-relay"),
            lambda m: self.results.append(decode(Result, m.payload)),
        )

    def __enter__(self):
        self.broker.start()
        self.hand.start()
        self.witness = Witness(self.output)
        return self

    def __exit__(self, *_):
        self.end_holder()
        self.relay.stop()
        self.hand.stop()
        self.broker.kill()
        self.witness.close()

    def end_holder(self):
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait(30)
            self.holder = None

    def send(self, name, value, lease_s=None):
        command = Command(name, value, lease_s=lease_s)
        self.hand.publish(self.hand.topics.command("grid-relay"), encode(command))

    def bring_into(self, state):
        """Everything runs, and the relay is in that state."""
        if self.broker.pid is None:
            self.broker.start()
        if self.relay.process is None or self.relay.process.poll() is not None:
            self.relay.start()
        assert self.hand.wait_connected(60)
        self.end_holder()
        wait_for(lambda: self.witness.level == "0", why="the relay has let go")
        if state == "manual":
            self._until_open(lambda: self.send("manual", "grid_open", 60.0))
        self._hold(3600.0 if state == "connected" else RENEWED_S)
        if state != "connected":
            wait_for(lambda: self.witness.level == "1", why=f"the grid is open, {state}")

    def _until_open(self, ask):
        """A relay that has just started may not hear yet."""

        def is_open():
            if self.witness.level != "1":
                ask()
                time.sleep(0.1)
            return self.witness.level == "1"

        wait_for(is_open, why="the grid is open")

    def _hold(self, every_s):
        command = [sys.executable, HERE / "lease_holder.py", self.config, LEASE_S, every_s]
        with (self.folder / "holder.log").open("ab") as out:
            self.holder = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)

    def case(self, state, victim, how):
        """Let one fall, and see until when the grid is open."""
        self.bring_into(state)
        pid = {
            "holder": self.holder.pid,
            "broker": self.broker.pid,
            "relay": self.relay.process.pid,
        }[victim]
        limit_s = LEASE_S + MARGIN_S
        began = time.monotonic()
        os.kill(pid, SIGNALS[how])
        if state == "manual" and victim == "holder":
            # its lease ends, and the hand holds on: that is what an override is for
            time.sleep(LEASE_S + 0.5)
            assert self.witness.level == "1"
            began = time.monotonic()
            self.send("manual", "auto")
        if state == "manual" and victim == "broker" and how == "stopped":
            # nobody can tell a stopped broker from a quiet one before its keepalive is over, and
            # the hand may hold for a minute: it ends there, or when the broker is gone for good
            os.kill(pid, signal.SIGKILL)
        if victim == "relay":
            self.relay.await_end()
        wait_for(lambda: self.witness.level == "0", why=f"{victim} {how}, {state}: safe")
        time.sleep(0.3)
        safe_at = self.witness.last_open(began)
        outcome = Outcome(state, victim, how, safe_at - began, limit_s)
        outcome.safe_again_ms = self.relay.safe_again_ms
        self._mend(victim, pid)
        return outcome

    def _mend(self, victim, pid):
        if victim == "broker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.broker.kill()
        elif victim == "relay":
            self.relay.process = None
        else:
            self.end_holder()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("sunmesh").setLevel(logging.ERROR)
    outcomes = []
    with tempfile.TemporaryDirectory() as name, House(Path(name)) as house:
        for _ in range(options.rounds):
            outcomes += [house.case(*case) for case in CASES]
    json.dump(
        [vars(outcome) | {"is_good": outcome.is_good} for outcome in outcomes], sys.stdout, indent=1
    )
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
