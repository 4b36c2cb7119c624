"""Collectors, broker, recorder and database, killed -9 at random moments, and a comparison.

python kill_matrix.py --seed 1 --rounds 20: one run on servers of its own; prints JSON and ends with
status 1 when a sample was lost, invented or stored twice.

What counts as emitted: a sample that the broker has acknowledged to its collector; from then on
nobody else has it. A collector that is killed takes with it what the broker had not acknowledged
(a few samples; "said" and not "kept"): those may be stored, and need not be. A sample that was
never said must not be stored. The witness is a file that each collector's own broker client writes,
see witnessed.py; a second subscriber would only lose what the recorder loses.

What is not asked for: messages that wait in the broker's memory alone, for a recorder that is away,
when the broker is killed, too. Mosquitto saves them every autosave_interval, 60 s as we ship it.
So before the broker is killed, the recorder has come back from its own last death, or the
broker's: a probe has gone through to the database behind everything else, and its session has been
saved once. The broker is then killed at any moment, in the middle of the stream. The recorder is
not killed within half a second of the broker: what it has received and not yet written (it writes
every linger_s, 0.1 s here) is then in nobody's hands but its own.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sunmesh import clock
from sunmesh.messages import Sample, decode, encode
from sunmesh.mqtt import Mesh
from sunmesh.testing import Broker, MariaDB, wait_for
from sunmesh.topics import Topics

HERE = Path(__file__).parent
SCRIPTS = Path(sys.executable).parent
FAST = ("fast-1", "fast-2")
COLLECTORS = (*FAST, "meter")
SINGLE = ("collector", "broker", "recorder", "database")
DOUBLE = (
    ("recorder", "database"),
    ("broker", "database"),
    ("broker", "collector"),
    ("collector", "recorder"),
)
CAUGHT_UP_S = 45.0
ALONE_S = 0.5
"""From a broker's death until the recorder may die."""


@dataclass
class Verdict:
    """What a run showed."""

    emitted: int = 0
    stored: int = 0
    lost: list = field(default_factory=list)
    invented: list = field(default_factory=list)
    twice: list = field(default_factory=list)
    unacknowledged: int = 0

    @property
    def good(self):
        return not (self.lost or self.invented or self.twice)


class Party:
    """A process that is started again under its name."""

    def __init__(self, folder, name, *command):
        self.name = name
        self.command = [str(word) for word in command]
        self.log = folder / f"{name}.log"
        self.folder = folder
        self.process = None

    def start(self):
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=self.folder
            )

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def stop(self, timeout_s=15):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            finally:
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait(10)
            self.process = None

    @property
    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class House:
    """Real processes on a broker of its own; the database server may be shared, one at a time."""

    def __init__(self, folder, site, mariadb, url):
        self.folder = folder
        self.mariadb = mariadb
        (folder / "broker").mkdir()
        self.broker = Broker(folder / "broker")
        self.engine = create_engine(url)
        pty = folder / "line"
        config = folder / "site.toml"
        config.write_text(
            f'[site]\nname = "{site}"\n[broker]\nport = {self.broker.port}\n'
            f'[database]\nurl = "{url}"\n[recorder]\nlinger_s = 0.1\n'
            f'[devices.meter]\nfamily = "meter"\nmodel = "SDM230"\nport = "{pty}"\n'
            "poll_interval_s = 0.5\n"
        )
        witnessed = [sys.executable, HERE / "witnessed.py"]
        fast = HERE / "fast_device.py"
        self.emulator = Party(
            folder,
            "emulator",
            SCRIPTS / "collector-meter",
            *("emulate", "--pty", pty),
            *("--baud", "0"),
        )
        self.recorder = Party(folder, "recorder", SCRIPTS / "recorder", "run", "--config", config)
        self.collectors = {
            name: Party(
                folder, name, *witnessed, self._witness(name), fast, config, "1000000", name
            )
            for name in FAST
        }
        self.collectors["meter"] = Party(
            folder,
            "meter",
            *(*witnessed, self._witness("meter"), "collector_meter", "run", "--config", config),
        )
        self.broker_died = 0.0
        self.probe = Mesh(self.broker.config, Topics(site), "probe")
        self.probes = set()
        self.history = []
        """What was done, and when [ms]."""
        self.stale = True
        """Whether the broker may hold alone what was emitted before a death."""

    def _witness(self, name):
        return self.folder / f"{name}.witness"

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        online = threading.Event()
        self.probe.subscribe(
            self.probe.topics.service_status("recorder"),
            lambda message: b'"online"' in message.payload and online.set(),
        )
        self.broker.start()
        self.probe.start()
        self.recorder.start()
        self._await(online.is_set, "a session that has subscribed: so says who speaks afterwards")
        self.save_session()
        self.emulator.start()
        for collector in self.collectors.values():
            collector.start()
        self._await(
            lambda: {device for device, *_ in self.stored()} == set(COLLECTORS), "samples flow"
        )

    def _await(self, predicate, why):
        try:
            wait_for(predicate, CAUGHT_UP_S)
        except AssertionError:
            raise AssertionError(f"{why}: {self.recorder.said[-3000:]}") from None

    def __exit__(self, *_):
        for party in (*self.collectors.values(), self.emulator, self.recorder):
            with contextlib.suppress(subprocess.TimeoutExpired):
                party.stop()
        self.probe.stop()
        self.broker.stop()
        self.engine.dispose()

    def save_session(self):
        """Have the broker write its store now, as it does every autosave_interval."""
        store = self.folder / "broker/mosquitto.db"
        before = store.stat().st_mtime_ns if store.exists() else 0
        os.kill(self.broker.pid, signal.SIGUSR1)
        wait_for(
            lambda: store.exists() and store.stat().st_mtime_ns > before, why="the store is saved"
        )

    # -- what was said, what is there --------------------------------------------------------------

    def witnessed(self):
        """Rows that were emitted, and all that were said: sets of (device, name, ms, value)."""
        emitted, said = set(self.probes), set(self.probes)
        for name in COLLECTORS:
            path = self._witness(name)
            rows, kept = {}, []
            for line in path.read_bytes().splitlines() if path.exists() else ():
                word, number, *rest = line.split(b" ", 3)
                if word == b"said":
                    rows[int(number)] = list(numbers(name, rest[1]))
                else:
                    kept.append(int(number))
            for row in rows.values():
                said.update(row)
            for number in kept:
                emitted.update(rows[number])
        return emitted, said

    def stored(self):
        """Every number in the database; nothing while it is away."""
        statement = (
            "SELECT device, name, ts, value FROM sample JOIN series ON series.id = sample.series_id"
        )
        try:
            with self.engine.connect() as connection:
                rows = connection.execute(text(statement)).all()
        except SQLAlchemyError:
            return []
        return [(device, name, int(ts), value) for device, name, ts, value in rows]

    def count(self):
        """How many numbers there are, which is asked more cheaply."""
        try:
            with self.engine.connect() as connection:
                return connection.execute(text("SELECT COUNT(*) FROM sample")).scalar()
        except SQLAlchemyError:
            return 0

    def verdict(self):
        emitted, said = self.witnessed()
        rows = self.stored()
        found = set(rows)
        keys = Counter(row[:3] for row in rows)
        return Verdict(
            emitted=len(emitted),
            stored=len(rows),
            lost=sorted(emitted - found),
            invented=sorted(found - said),
            twice=[key for key, times in keys.items() if times > 1],
            unacknowledged=len(said - emitted),
        )

    def catch_up(self, why):
        """Wait until what is emitted by now is stored, and the recorder is connected again.

        Raises:
            AssertionError: it is not.
        """
        ts = clock.now()
        self.probe.publish(
            self.probe.topics.telemetry("probe"),
            encode(Sample(ts=clock.iso(ts), values={"battery_voltage_v": 48.0})),
        )
        assert self.probe.drain(CAUGHT_UP_S), f"{why}: the broker does not answer"
        self.probes.add(("probe", "battery_voltage_v", clock.epoch_ms(ts), 48.0))
        emitted, _ = self.witnessed()
        try:
            wait_for(
                lambda: self.count() >= len(emitted) and emitted <= set(self.stored()), CAUGHT_UP_S
            )
        except AssertionError:
            missing = sorted(emitted - set(self.stored()), key=lambda row: row[2])
            raise AssertionError(
                f"{why}: lost {len(missing)} of {len(emitted)}: {missing[:5]}\n"
                f"{self.history}\n{self.recorder.said[-3000:]}"
            ) from None
        self.stale = False

    def settle(self, why):
        """Stop who emits, and compare one by one.

        Raises:
            AssertionError: something was lost, invented or stored twice.
        """
        for collector in self.collectors.values():
            collector.stop()
        self.catch_up(why)
        verdict = self.verdict()
        assert verdict.good, f"{why}: {verdict}"
        return verdict

    # -- the killing -------------------------------------------------------------------------------

    def kill(self, victim, chance):
        """Kill it; returns what starts it again."""
        if victim == "collector":
            party = self.collectors[chance.choice(COLLECTORS)]
        elif victim == "recorder":
            party, self.stale = self.recorder, True
            time.sleep(max(0.0, self.broker_died + ALONE_S - time.monotonic()))
        elif victim == "broker":
            party, self.stale = self.broker, True
            self.broker_died = time.monotonic()
        else:
            party = self.mariadb
        party.kill()
        self.history.append((round(time.time() * 1000), "killed", getattr(party, "name", victim)))

        def start():
            party.start()
            self.history.append(
                (round(time.time() * 1000), "started", getattr(party, "name", victim))
            )

        return start

    def round(self, victims, chance):
        if "broker" in victims and self.stale:
            self.catch_up(f"before {victims}")
        time.sleep(chance.uniform(0.0, 0.6))
        starts = [self.kill(victim, chance) for victim in victims]
        time.sleep(chance.uniform(0.05, 0.8))
        chance.shuffle(starts)
        for start in starts:
            start()


def numbers(device, payload):
    """The rows that a sample becomes."""
    sample = decode(Sample, payload)
    for name, value in sample.values.items():
        if sample.quality.get(name) in ("stale", "partial"):
            continue
        for index, element in enumerate(value if isinstance(value, list) else [value], 1):
            if isinstance(element, int | float) and not isinstance(element, bool):
                full = f"{name}/{index}" if isinstance(value, list) else name
                yield device, full, sample.ms, float(element)


def plan(seed, rounds):
    """Who dies when: each alone equally often, a fifth of the rounds two at once."""
    chance = random.Random(seed)
    pairs = [DOUBLE[(seed + index) % len(DOUBLE)] for index in range(rounds // 5)]
    alone = [(SINGLE[index % len(SINGLE)],) for index in range(rounds - len(pairs))]
    order = [*pairs, *alone]
    chance.shuffle(order)
    return chance, order


def run(house, seed, rounds):
    """Kill for that many rounds.

    Raises:
        AssertionError: names the seed, the round and what was lost.
    """
    chance, order = plan(seed, rounds)
    for number, victims in enumerate(order, 1):
        try:
            house.round(victims, chance)
        except AssertionError as err:
            raise AssertionError(f"seed {seed}, round {number} of {order}: {err}") from err
    return house.settle(f"seed {seed}, after {order}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    logging.getLogger("sunmesh").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mariadb").mkdir()
        mariadb = MariaDB(folder / "mariadb")
        mariadb.start()
        try:
            mariadb.execute("CREATE DATABASE house CHARACTER SET utf8mb4")
            began = time.monotonic()
            try:
                with House(folder, "matrix", mariadb, mariadb.url("house")) as house:
                    verdict = run(house, options.seed, options.rounds)
            except AssertionError as err:
                sys.stderr.write(f"{err}\n")
                return 1
            finally:
                if mariadb.pid is None:
                    mariadb.start()
        finally:
            mariadb.stop()
    json.dump(
        {
            "seed": options.seed,
            "rounds": options.rounds,
            "emitted": verdict.emitted,
            "lost": len(verdict.lost),
            "invented": len(verdict.invented),
            "twice": len(verdict.twice),
            "unacknowledged": verdict.unacknowledged,
            "seconds": round(time.monotonic() - began, 1),
        },
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
