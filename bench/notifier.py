"""Alarms on their way to a phone: how soon, how many at most, and what a kill costs.

Latency: from a fault in the device until the push has arrived at the provider's socket, for a
warning bit, which the inverter's collector tells at once, and for a temperature, which the watch
tells after a while; and the part of it that begins with the alarm on its topic. Storm: ten thousand
changes in a minute; the pushes that went out beside those that the configuration allows, the
changes in the notifier's history and in the recorder's database beside those that were published,
and the notifier's memory. Kills: ``tests/mesh/outbox_matrix.py``. Services and broker are real
processes; inverters are emulated behind pseudo-terminals at 2400 baud, the provider is emulated and
listens on a socket.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from collector_axpert.emulator import Inverter
from notifier.emulator import Emulator, Provider
from sqlalchemy import create_engine, text
from sunmesh import clock
from sunmesh.emulation import World, serve_pty
from sunmesh.messages import Alarm, encode
from sunmesh.mqtt import Mesh
from sunmesh.testing import Broker, wait_for
from sunmesh.topics import Topics

from . import goals

BIN = Path(sys.executable).parent
MATRIX = Path(__file__).parents[1] / "tests/mesh/outbox_matrix.py"
ALARMS = 60
INVERTERS, POLL_S, FOR_S = 6, 2.0, 3.0
ROUNDS_EACH = {"overload": 3, "hot": 2}
"""Each fault so often at each inverter: a source that flaps would be one alarm."""

FAULTS = {
    "overload": {"ac_output_apparent_power_va": 9500.0},
    "hot": {"heat_sink_temperature_c": 75.0},
}
TITLES = {"overload": "Inverter warning", "hot": "is hot"}
CHANGES, STORM_S, KEYS = 10_000, 60.0, 100
BURST, ONE_MORE_S = 10, 600.0
ROUNDS = 20


@dataclass
class Rig:
    """What runs."""

    folder: Path
    provider: Provider
    mesh: Mesh
    notifier: subprocess.Popen[bytes]
    database: str

    def publish(self, device: str, state: str, number: int) -> None:
        """An alarm on its topic."""
        alarm = Alarm(
            f"{device}-{number}",
            state,  # type: ignore[arg-type]
            "warning",
            device,
            "",
            clock.iso(clock.now()),
        )
        self.mesh.publish(self.mesh.topics.alarm(device, "bench"), encode(alarm), retain=True)

    def rss_mib(self, key: str) -> float:
        """Of the notifier: ``VmRSS`` now, ``VmHWM`` at most."""
        for line in Path(f"/proc/{self.notifier.pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"no {key}")


@contextmanager
def rig(settings: str, *others: str, devices: str = "") -> Iterator[Rig]:
    """Broker, provider and notifier, and what else is wanted; the database is SQLite."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "broker").mkdir()
        broker = Broker(folder / "broker")
        broker.start()
        stack.callback(broker.stop)
        phone = stack.enter_context(Emulator(Provider(quota=1_000_000)))
        (folder / "token").write_text("token\n")
        database = f"sqlite:///{folder}/house.db"
        site = folder / "site.toml"
        site.write_text(
            f'[site]\nname = "bench"\n[broker]\nport = {broker.port}\n'
            f'[database]\nurl = "{database}"\n[notifier]\nsign_of_life = ""\n{settings}\n'
            '[notifier.targets.anna]\nby = "pushover"\ntoken_file = "token"\nuser = "anna"\n'
            f'base_url = "{phone.url}"\n[[notifier.routes]]\nremind_every_s = 0\n{devices}',
            encoding="utf-8",
        )
        mesh = Mesh(broker.config, Topics("bench"), "publisher")
        online: set[str] = set()
        mesh.subscribe(
            mesh.topics.service_status("+"),
            lambda m: online.add(m.topic.split("/")[-2]) if b'"online"' in m.payload else None,
        )
        mesh.start()
        stack.callback(mesh.stop)
        names = ["notifier", *others]
        processes = []
        for name in names:
            with (folder / f"{name}.log").open("wb") as out:
                process = subprocess.Popen(
                    [BIN / name, "run", "--config", site], stdout=out, stderr=out
                )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            processes.append(process)
        wait_for(lambda: online >= set(names), 60, "they are online")
        yield Rig(folder, phone.provider, mesh, processes[0], database)


def measure() -> dict[str, dict[str, object]]:
    """Latency, a storm, and kills."""
    found = _from_the_device()
    latencies = _latencies()
    found |= {
        "topic_to_provider_median": goals.at_most(
            1000 * median(latencies),
            300.0,
            "ms",
            alarms=len(latencies),
            max=round(1000 * max(latencies), 1),
        )
    }
    found |= _storm()
    matrix = subprocess.run(
        [sys.executable, MATRIX, "--seed", "1", "--rounds", str(ROUNDS)],
        capture_output=True,
        text=True,
        check=False,
    )
    kills = json.loads(matrix.stdout)
    wrong = len(kills["lost"]) + len(kills["twice"]) + len(kills["invented"])
    found["kills_not_exactly_once"] = goals.at_most(
        wrong,
        0,
        "changes lost, told twice or invented",
        rounds=ROUNDS,
        changes=kills["changes"],
        wrong_answers=kills["wrong_answers"],
        answers=kills["answers"],
    )
    return found


def _from_the_device() -> dict[str, dict[str, object]]:
    """From the fault in an inverter until the provider has the push.

    The faults are spread evenly over the time between two samples: by chance alone the median of so
    few would come out a quarter of a second longer or shorter.
    """
    draw, stop = random.Random(1), threading.Event()
    inverters = [Inverter() for _ in range(INVERTERS)]
    found: dict[str, list[float]] = {kind: [] for kind in FAULTS}
    with tempfile.TemporaryDirectory() as name:
        tables = f"[watch]\nsettle_s = 0\n[alarms.heat_sink_hot]\nfor_s = {FOR_S}\n"
        for number, inverter in enumerate(inverters):
            pty = Path(name) / f"i{number}"
            options = {"baud": 2400, "stop": stop}
            threading.Thread(
                target=serve_pty, args=(pty, inverter), kwargs=options, daemon=True
            ).start()
            tables += (
                f'[devices.i{number}]\nfamily = "axpert"\nport = "{pty}"\ndialect = "PI30"\n'
                f"poll_interval_s = {POLL_S}\n"
            )
        with rig("burst = 1000000", "collector-axpert", "watch", devices=tables) as home:
            samples: Counter[str] = Counter()
            home.mesh.subscribe(
                home.mesh.topics.every("telemetry"),
                lambda m: samples.update([m.topic.split("/")[-2]]),
            )
            wait_for(lambda: len(samples) == INVERTERS, 60, "every inverter is read")
            time.sleep(2 * POLL_S)
            for kind, times in found.items():
                turns = ROUNDS_EACH[kind] * INVERTERS
                for turn in range(turns):
                    number = turn % INVERTERS
                    before = samples[f"i{number}"]
                    wait_for(lambda b=before, n=number: samples[f"i{n}"] > b, 60, "it is read")
                    time.sleep((turn + draw.random()) / turns * POLL_S)
                    times.append(_until_told(home, inverters[number], f"i{number}", kind))
            stop.set()
    return {
        f"device_to_provider_median_{kind}": goals.at_most(
            1000 * median(times),
            1000 * (POLL_S + (FOR_S if kind == "hot" else 0.0)) + 300.0,
            "ms",
            faults=len(times),
            max=round(1000 * max(times), 1),
        )
        for kind, times in found.items()
    }


def _until_told(home: Rig, inverter: Inverter, device: str, kind: str) -> float:
    """How long it takes [s]. The fault is over afterwards, which is told in the background."""
    letters = home.provider.letters
    before = len(letters)
    inverter.world = World(FAULTS[kind])
    began = time.time()

    def told() -> float | None:
        for letter in list(letters)[before:]:
            title = letter.fields["title"]
            if title.startswith("Warning") and device in title and TITLES[kind] in title:
                return letter.at
        return None

    wait_for(lambda: told() is not None, 60, f"{kind} of {device} is told")
    inverter.world = World()
    return (told() or 0.0) - began


def _latencies() -> list[float]:
    """From the publish until the provider has it [s]."""
    times = []
    with rig("burst = 1000000") as home:
        for number in range(ALARMS):
            before = len(home.provider.arrivals)
            began = time.time()
            home.publish(f"d{number}", "raised", number)
            while len(home.provider.arrivals) == before:
                time.sleep(0.001)
            times.append(home.provider.arrivals[-1] - began)
            time.sleep(0.1)
    return times


def _storm() -> dict[str, dict[str, object]]:
    settings = f"burst = {BURST}\none_more_every_s = {ONE_MORE_S}"
    with rig(settings, "recorder") as home:
        calm = home.rss_mib("VmRSS")
        began = time.monotonic()
        for number in range(CHANGES):
            turn = number // KEYS
            state = "raised" if turn % 2 == 0 else "cleared"
            home.publish(f"d{number % KEYS}", state, turn // 2)
            ahead = began + number * STORM_S / CHANGES - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        took = time.monotonic() - began
        counted = [0, 0]

        def count() -> bool:
            counted[:] = [_rows(f"sqlite:///{home.folder}/state/notifier.db", "change")]
            counted.append(_rows(home.database, "alarm"))
            return counted == [CHANGES, CHANGES]

        with suppress(AssertionError):  # the numbers below say it
            wait_for(count, 60, "all of it is stored")
        pushes = len(home.provider.arrivals)
        allowed = BURST + int(took / ONE_MORE_S)
        peak = home.rss_mib("VmHWM")
    return {
        "storm_pushes": goals.at_most(
            pushes, allowed, "pushes", changes=CHANGES, seconds=round(took)
        ),
        "storm_lost_from_outbox": goals.at_most(CHANGES - counted[0], 0, "changes"),
        "storm_lost_from_database": goals.at_most(CHANGES - counted[1], 0, "changes"),
        "storm_rss": goals.at_most(peak, 30.0, "MiB RSS at most", before=round(calm, 1)),
    }


def _rows(url: str, table: str) -> int:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar() or 0)
    finally:
        engine.dispose()


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
