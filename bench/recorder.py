"""The recorder beside a reference that does as little as one can, on the same broker and database.

The message is the same everywhere: 400 bytes of JSON, 26 keys, 20 of them numbers. Every commit is
flushed (``innodb_flush_log_at_trx_commit=1``). Rows named ``slow_disk`` add 10 ms to each flush of
the database, by a few lines of C put before it; they need a C compiler.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pymysql
from recorder.codec import Telemetry
from recorder.store import Store
from sunmesh import clock
from sunmesh.database.migrations import migrate
from sunmesh.testing import Broker, MariaDB, find_program, wait_for

from . import goals
from .mesh import pss_mib

BIN = Path(sys.executable).parent
FLOOD, FLOODS = 16_000, 3
SLOW, SLOWS = 3_000, 2
BACKLOG = 3_000
REST_S = 33
BULK, BULKS = 40_000, 5
STORED = 1_200_000
STEP_MS = 100

NAMES = tuple(f"v{n}_w" for n in range(20))
WORDS = {"mode": "battery", "kind": "pi30", "on": True, "hot": False, "codes": "", "gone": None}

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
#define SLOW(name) int name(int file) { \\
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \\
    usleep(10000); \\
    return real(file); \\
}
SLOW(fsync)
SLOW(fdatasync)
"""

_random = random.Random(7)


@dataclass(frozen=True, slots=True)
class Run:
    """What one recorder did with one flood; CPU for 100 000 messages."""

    rate: float
    cpu_s: float
    database_cpu_s: float
    lost: int
    pss_mib: float


class Bench:
    """A private broker and database, and recorders of three kinds: ours, wide, narrow."""

    def __init__(self, folder: Path, shim: Path | None = None) -> None:
        for name in ("broker", "database"):
            (folder / name).mkdir(parents=True)
        self.folder = folder
        self.broker = Broker(folder / "broker")
        self.database = MariaDB(folder / "database")
        if shim is not None:
            self.database.command[:0] = ["env", f"LD_PRELOAD={shim}"]
        self._databases = 0
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> "Bench":
        self.broker.start()
        self.database.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.broker, self.database):
            with suppress(AssertionError):
                server.stop()

    def query(self, database: str, statement: str) -> Any:  # noqa: ANN401
        """The last value of the answer's first row."""
        connection = self._connections.get(database)
        if connection is None:
            connection = self._connections[database] = pymysql.connect(
                host="127.0.0.1",
                port=self.database.port,
                user="root",
                database=database or None,
                autocommit=True,
                ssl_disabled=True,
                local_infile=True,
            )
        with connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone()
        return None if row is None else row[-1]

    def commits(self) -> int:
        """How many the server was asked for."""
        return int(self.query("", "SHOW GLOBAL STATUS LIKE 'Com_commit'"))

    def fresh(self) -> str:
        """An empty database."""
        self._databases += 1
        name = f"bench{self._databases}"
        self.database.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name

    @contextmanager
    def recorder(self, kind: str, database: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A recorder of that kind that listens; its tables are there."""
        log = self.folder / f"{database}.log"
        if kind == "ours":
            command, ready = self._ours(database), b"connected to the broker"
        else:
            broker, port = f"127.0.0.1:{self.broker.port}", str(self.database.port)
            program = [sys.executable, "-m", "bench.reference_recorder"]
            command, ready = [*program, broker, topic(database), port, database, kind], b"ready"
        log.write_bytes(b"")
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            wait_for(lambda: ready in log.read_bytes(), 60, f"the recorder {kind} listens")
            time.sleep(0.5)
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def _ours(self, database: str) -> list[str]:
        url = self.database.url(database)
        migrate(url)
        config = self.folder / f"{database}.toml"
        config.write_text(
            f'[site]\nname = "{database}"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\n[database]\nurl = "{url}"\n'
            f'[recorder]\nspool_dir = "{database}.spool"\n',
            encoding="utf-8",
        )
        return [str(BIN / "recorder"), "run", "--config", str(config)]

    def publish(self, database: str, lines: list[bytes], *, wait: bool = True) -> None:
        """Hand messages to the broker with its own client, which is no bottleneck."""
        path = self.folder / "messages"
        path.write_bytes(b"\n".join(lines) + b"\n")
        command = [find_program("mosquitto_pub"), "-h", "127.0.0.1", "-q", "1", "-l"]
        with path.open("rb") as file:
            done = subprocess.Popen(
                [*command, "-p", str(self.broker.port), "-t", topic(database)], stdin=file
            )
        if wait:
            done.wait(120)

    def flood(self, kind: str, messages: int) -> Run:
        """So many messages as fast as the broker takes them, until the last of them is stored."""
        database = self.fresh()
        lines, last = samples(messages)
        table = {"ours": "sample", "wide": "wide", "narrow": "narrow"}[kind]
        each = 1 if kind == "wide" else len(NAMES)
        total = f"SELECT COUNT(*) FROM {table}"
        arrived = f"SELECT COUNT(*) FROM {table} WHERE ts = {last}"
        arrived += "" if kind == "wide" else " AND series_id = 1"
        with self.recorder(kind, database) as process:
            # the first message makes what there is to make once
            self.publish(database, [message(last - 1_000_000_000, 0)])
            wait_for(lambda: self.query(database, total) == each, 60, "the first message")
            watched, server = psutil.Process(process.pid), psutil.Process(self.database.pid)
            before = cpu_s(watched), cpu_s(server)
            began = time.monotonic()
            self.publish(database, lines, wait=False)
            wait_for(lambda: self.query(database, arrived), 300, "the last message")
            rate = messages / (time.monotonic() - began)
            time.sleep(0.5)  # acknowledgements are work, too
            after = cpu_s(watched), cpu_s(server)
            memory = pss_mib(process.pid)
        lost = (messages + 1) * each - self.query(database, total)
        costs = [(b - a) * 100_000 / messages for a, b in zip(before, after, strict=True)]
        return Run(rate, costs[0], costs[1], lost, memory)


def topic(database: str) -> str:
    """Each recorder has a site of its own: the broker keeps the messages of those that are down."""
    return f"sunmesh/{database}/inverter/telemetry"


def message(ms: int, n: int) -> bytes:
    """A sample of 26 keys, 20 of them numbers."""
    values = {name: round(_random.uniform(0, 300), 1) for name in NAMES} | WORDS
    body = {"v": 1, "ts": clock.iso(clock.from_ms(ms)), "seq": n, "values": values}
    return json.dumps(body, separators=(",", ":")).encode()


def samples(count: int) -> tuple[list[bytes], int]:
    """So many messages up to now, and the time of the last one."""
    begin = clock.epoch_ms(clock.now()) - count * STEP_MS
    return [message(begin + n * STEP_MS, n) for n in range(count)], begin + (count - 1) * STEP_MS


def cpu_s(process: psutil.Process) -> float:
    """What it has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure() -> dict[str, dict[str, object]]:
    """Floods in turn, so that what else the machine does meets all alike."""
    result: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Bench(folder / "fast") as bench:
            runs = _floods(bench, FLOOD, FLOODS)
            ours = runs["ours"]
            result |= _rates("flood", runs, 0.5)
            for kind, goal in (("wide", 2.5), ("narrow", None)):
                costs = [[run.cpu_s for run in runs[each]] for each in ("ours", kind)]
                result[f"cpu_against_{kind}"] = goals.ratio(
                    *costs, goal or 1e9, "s for 100 000 messages"
                )
                if goal is None:
                    del result[f"cpu_against_{kind}"]["goal_ratio"]
            result["database_cpu"] = {
                "value": round(median(run.database_cpu_s for run in ours), 2),
                "unit": "s for 100 000 messages",
                "wide": round(median(run.database_cpu_s for run in runs["wide"]), 2),
                "narrow": round(median(run.database_cpu_s for run in runs["narrow"]), 2),
            }
            result["flood_lost"] = goals.at_most(sum(abs(run.lost) for run in ours), 0, "rows")
            result["flood_pss"] = goals.at_most(max(run.pss_mib for run in ours), 40, "MiB PSS")
            result |= _backlog(bench)
            result |= _rest(bench)
            result["bulk_against_load_data"] = _bulk(bench)
            result["bytes_a_value"] = _bytes(bench)
        shim = _shim(folder)
        if shim is None:
            result["slow_disk"] = {"value": "not measured", "why": "no C compiler"}
        else:
            with Bench(folder / "slow", shim) as bench:
                result |= _rates("slow_disk", _floods(bench, SLOW, SLOWS), 0.7)
    return result


def _floods(bench: Bench, messages: int, times: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {"wide": [], "ours": [], "narrow": []}
    for _ in range(times):
        for kind, done in runs.items():
            done.append(bench.flood(kind, messages))
            print(f"  {kind}: {done[-1]}", file=sys.stderr)
    return runs


def _rates(name: str, runs: dict[str, list[Run]], goal: float) -> dict[str, dict[str, object]]:
    """Against one wide row a message, which is the goal; against a row a number beside it."""
    rates = {kind: [run.rate for run in done] for kind, done in runs.items()}
    ours, wide, narrow = rates["ours"], rates["wide"], rates["narrow"]
    rows = {
        f"{name}_against_wide": goals.ratio_at_least(ours, wide, goal, "messages/s"),
        f"{name}_against_narrow": goals.ratio_at_least(ours, narrow, 0.0, "messages/s"),
    }
    del rows[f"{name}_against_narrow"]["goal_ratio"]
    return rows


def _backlog(bench: Bench) -> dict[str, dict[str, object]]:
    """What came while the recorder was away; and the same with kill -9 in the middle of it."""
    database = bench.fresh()
    with bench.recorder("ours", database):
        pass
    lines, _last = samples(BACKLOG)
    bench.publish(database, lines)
    total, rows = "SELECT COUNT(*) FROM sample", BACKLOG * len(NAMES)
    commits = bench.commits()
    with bench.recorder("ours", database):
        wait_for(lambda: bench.query(database, total) >= rows, 120, "the backlog")
        commits = bench.commits() - commits
    drained = goals.at_least(rows / commits, 200, "rows a commit", commits=commits)
    killed, _last = samples(BACKLOG)
    bench.publish(database, killed)
    for _ in range(5):
        with bench.recorder("ours", database) as process:
            time.sleep(_random.uniform(0, 0.3))
            process.kill()
    with bench.recorder("ours", database):
        rows *= 2
        with suppress(AssertionError):
            wait_for(lambda: bench.query(database, total) >= rows, 60)
        time.sleep(1)
    lost = rows - bench.query(database, total)
    return {
        "drain": drained,
        "lost_by_five_kills_with_a_backlog": goals.at_most(abs(lost), 0, "rows", of=rows // 2),
    }


def rest_cpu_s(bench: Bench) -> float:
    """What a message costs the whole process when they come two a second [s]."""
    database = bench.fresh()
    with bench.recorder("ours", database) as process:
        watched = psutil.Process(process.pid)
        before, began = cpu_s(watched), time.monotonic()
        for n in range(REST_S * 2):
            bench.publish(database, [message(clock.epoch_ms(clock.now()), n)])
            time.sleep(max(0.0, began + n / 2 - time.monotonic()))
        return (cpu_s(watched) - before) / (REST_S * 2)


def _rest(bench: Bench) -> dict[str, dict[str, object]]:
    """Ten devices every 5 s, that is two messages a second."""
    database = bench.fresh()
    with bench.recorder("ours", database) as process:
        bench.publish(database, [message(clock.epoch_ms(clock.now()), 0)])
        wait_for(lambda: bench.query(database, "SELECT COUNT(*) FROM sample"), 30)
        commits, before = bench.commits(), cpu_s(psutil.Process(process.pid))
        began = time.monotonic()
        for n in range(REST_S * 2):
            bench.publish(database, [message(clock.epoch_ms(clock.now()), n)])
            time.sleep(max(0.0, began + n / 2 - time.monotonic()))
        elapsed = time.monotonic() - began
        commits = bench.commits() - commits
        busy = cpu_s(psutil.Process(process.pid)) - before
        config = bench.folder / f"{database}.toml"
        told = subprocess.run(
            [BIN / "recorder", "status", "--json", "--config", config],
            check=True,
            capture_output=True,
        )
        found = json.loads(told.stdout)["recorder"]
        lived = clock.now() - clock.parse(found["started"])
        syncs = found["health"]["spool_syncs"] / (lived.total_seconds() - found["health_age_s"])
    return {
        "rest_commits": goals.at_most(commits / elapsed * 2, 1.0, "commits in 2 s"),
        "rest_spool_syncs": goals.at_most(syncs * 2, 1.0, "syncs in 2 s"),
        "rest_cpu": {"value": round(busy / elapsed * 100, 2), "unit": "% of one CPU"},
    }


def _bulk(bench: Bench) -> dict[str, object]:
    """Values from a history file's items on, against one statement that loads a file of rows."""
    database = bench.fresh()
    url = bench.database.url(database)
    store = Store(url, lambda _now: migrate(url))
    each = len(NAMES)
    begin = clock.epoch_ms(clock.now()) - 10**9
    store.write([_sample(begin - STEP_MS, each)])
    ours, floor = [], []
    bench.query(database, "CREATE TABLE floor LIKE sample")
    for turn in range(BULKS):
        start = begin + turn * BULK * STEP_MS
        items = [_sample(start + n * STEP_MS, each) for n in range(BULK // each)]
        began = time.monotonic()
        for at in range(0, len(items), 1000):
            store.write(items[at : at + 1000])
        ours.append(BULK / (time.monotonic() - began))
        path = bench.folder / "rows"
        path.write_text(
            "".join(
                f"{index}\t{item.ms}\t{value!r}\n"
                for item in items
                for index, value in enumerate(item.values.values(), 1)
            ),
            encoding="ascii",
        )
        began = time.monotonic()
        bench.query(database, f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE floor")
        floor.append(BULK / (time.monotonic() - began))
    store.close()
    return goals.ratio_at_least(ours, floor, 0.35, "values/s")


def _sample(ms: int, each: int, device: str = "inverter") -> Telemetry:
    values = {name: round(_random.uniform(0, 300), 1) for name in NAMES[:each]}
    return Telemetry(device, ms, values, {})


def _bytes(bench: Bench) -> dict[str, object]:
    """Three devices of 20 series in the order of time, 1200 values a commit."""
    database = bench.fresh()
    url = bench.database.url(database)
    store = Store(url, lambda _now: migrate(url))
    begin = clock.epoch_ms(clock.now()) - 10**9
    for at in range(0, STORED // 60, 20):
        store.write(
            [
                _sample(begin + n * 5000, 20, device)
                for n in range(at, at + 20)
                for device in ("a", "b", "c")
            ]
        )
    store.close()
    bench.query(database, "ANALYZE TABLE sample")
    size = bench.query(
        database,
        "SELECT data_length FROM information_schema.tables"
        " WHERE table_name = 'sample' AND table_schema = DATABASE()",
    )
    return goals.at_most(size / STORED, 44, "bytes a value", values=STORED)


def _shim(folder: Path) -> Path | None:
    """A library that makes flushes 10 ms slower; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SHIM, encoding="ascii")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return library


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
