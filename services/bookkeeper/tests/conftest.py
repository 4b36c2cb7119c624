"""What the bookkeeper's tests share: databases of each sort with a house's samples in them."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from bookkeeper.battery_book import Place
from bookkeeper.service import Keeper
from bookkeeper.store import Store
from sqlalchemy import Connection, Engine, insert, select
from sunmesh.database import sql, tables
from sunmesh.house import EnergySection
from sunmesh.testing import migrated, wait_for

ROME = ZoneInfo("Europe/Rome")
BUCKET = tables.BUCKET_MS
DAY = 86_400_000
T0 = 1_782_864_000_000
"""2026-07-01 00:00 UTC [ms]."""
FAR = T0 + 40 * DAY
"""Everything before this is over."""

DEVICES: dict[str, dict[str, Any]] = {
    "inverter": {"family": "axpert"},
    "meter": {"family": "meter"},
    "battery": {"family": "bms"},
}


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on MariaDB."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/house.db"
    found: str = request.getfixturevalue("database_url")
    return found


Samples = Mapping[tuple[str, str], Sequence[tuple[int, float]]]


@dataclass
class House:
    """A database with samples, and its keeper."""

    url: str
    keepers: list[Keeper] = field(default_factory=list)

    def __post_init__(self) -> None:
        migrated(self.url)
        self.engine: Engine = sql.engine(self.url)
        self.ids: dict[tuple[str, str], int] = {}

    def store(self, samples: Samples) -> None:
        """Store samples as the recorder does: with their marks."""
        with self.engine.begin() as connection:
            for device, name in samples:
                if (device, name) not in self.ids:
                    made = connection.execute(
                        insert(tables.series).values(
                            device=device, name=name, unit="", kind="gauge"
                        )
                    )
                    assert made.inserted_primary_key is not None
                    self.ids[device, name] = made.inserted_primary_key[0]
            rows = [
                (self.ids[pair], ts, float(value))
                for pair, readings in samples.items()
                for ts, value in readings
            ]
            ignore = "INSERT OR IGNORE" if connection.dialect.name == "sqlite" else "INSERT IGNORE"
            for at in range(0, len(rows), 20000):
                connection.exec_driver_sql(
                    f"{ignore} INTO sample VALUES {sql.literal(rows[at : at + 20000])}"
                )
            sql.mark_dirty(connection, [ts for _, ts, _ in rows])

    def keeper(
        self, section: EnergySection | None = None, devices: Mapping[str, Any] = DEVICES
    ) -> Keeper:
        made = Keeper(Store(self.url), ROME, section or EnergySection(), devices, Place(43.5, 11.9))
        self.keepers.append(made)
        return made

    def book(self, before: int = FAR, keeper: Keeper | None = None) -> int:
        """Book all that is marked; how many buckets changed."""
        mine = keeper or self.keeper()
        mine.store.hold()
        changed = 0
        while (turn := mine.turn(before)) is not None:
            changed += turn.buckets
        if keeper is None:
            mine.store.close()
        return changed

    def ask(self, work: Callable[[Connection], Any]) -> Any:
        with self.engine.begin() as connection:
            return work(connection)

    def books(self, flow: str = "pv") -> dict[int, tuple[float, str, str, int]]:
        """ts → (Wh, source, flag, covered s)."""
        table = tables.energy
        rows = self.ask(lambda c: c.execute(select(table).where(table.c.flow == flow)).all())
        return {row.ts: (row.wh, row.source, row.flag, row.covered_s) for row in rows}

    def wh(self, flow: str = "pv") -> float:
        return sum(row[0] for row in self.books(flow).values())

    def waiting(self) -> int:
        dirty = tables.dirty
        return len(
            self.ask(lambda c: c.execute(select(dirty).where(dirty.c.consumer == "books")).all())
        )

    def empty_books(self) -> None:
        """Forget all bookings and mark all samples."""

        def work(connection: Connection) -> None:
            for table in (tables.energy, tables.energy_day):
                connection.execute(table.delete())
            times = connection.execute(select(tables.sample.c.ts).distinct()).scalars()
            sql.mark_dirty(connection, [int(ts) for ts in times])

        self.ask(work)


@pytest.fixture
def house(url: str) -> Iterator[House]:
    made = House(url)
    yield made
    for keeper in made.keepers:
        keeper.store.close()
    made.engine.dispose()


@dataclass
class World:
    """A day's truth, and what devices say of it every ``step_s`` seconds."""

    start: int = T0
    hours: float = 24.0
    step_s: int = 30
    samples: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=dict)
    wh: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        series: dict[tuple[str, str], list[tuple[int, float]]] = {}
        sums = dict.fromkeys(
            ("pv", "load", "grid_import", "grid_export", "battery_charge", "battery_discharge"), 0.0
        )
        soc, step = 50.0, self.step_s * 1000
        end = self.start + round(self.hours * 3_600_000)
        before: dict[str, float] = {}
        for ts in range(self.start, end + 1, step):
            hour = ts % DAY / 3_600_000
            sun = max(0.0, 4000 * math.sin((hour - 4) / 14 * math.pi)) if 4 < hour < 18 else 0.0
            load = 500 + 300 * math.sin(hour)
            battery = load - sun
            if (battery < 0 and soc >= 100) or (battery > 0 and soc <= 20):
                battery = 0.0
            grid = load - sun - battery
            soc = min(100.0, max(20.0, soc - battery * step / 3.6e6 / 5000 * 100))
            now = {
                "pv": sun,
                "load": load,
                "grid_import": max(0.0, grid),
                "grid_export": max(0.0, -grid),
                "battery_charge": max(0.0, -battery),
                "battery_discharge": max(0.0, battery),
            }
            for flow, watts in now.items():
                sums[flow] += (watts + before.get(flow, watts)) / 2 * step / 3.6e6 if before else 0
            before = now
            for pair, value in {
                ("inverter", "pv_power_w"): sun,
                ("inverter", "pv_energy_total_kwh"): round(1000 + sums["pv"] / 1000, 3),
                ("inverter", "ac_output_power_w"): load,
                ("inverter", "load_energy_total_kwh"): round(2000 + sums["load"] / 1000, 3),
                ("meter", "grid_power_w"): grid,
                ("meter", "grid_import_energy_kwh"): round(30 + sums["grid_import"] / 1000, 3),
                ("meter", "grid_export_energy_kwh"): round(40 + sums["grid_export"] / 1000, 3),
                ("battery", "battery_power_w"): battery,
                ("battery", "battery_voltage_v"): 52.0,
                ("battery", "battery_soc_percent"): round(soc, 1),
                ("battery", "cell_voltage_v/1"): 3.3,
            }.items():
                series.setdefault(pair, []).append((ts, value))
        self.samples, self.wh = series, sums

    def between(self, start: int, end: int) -> Samples:
        return {
            pair: [(ts, value) for ts, value in readings if start <= ts < end]
            for pair, readings in self.samples.items()
        }

    def but(self, start: int, end: int) -> Samples:
        return {
            pair: [(ts, value) for ts, value in readings if not start <= ts < end]
            for pair, readings in self.samples.items()
        }


@pytest.fixture(scope="session")
def world() -> World:
    return World()


class Process:
    """``bookkeeper run``, which tests may kill and start again."""

    def __init__(self, config: Path, log: Path) -> None:
        self.config = config
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bookkeeper", "run", "--config", str(self.config)],
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )

    def end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(30)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_said(self, what: str, times: int = 1) -> None:
        try:
            wait_for(lambda: self.text().count(what) >= times, 60, what)
        except AssertionError as err:
            raise AssertionError(f"{err}\n{self.text()[-3000:]}") from err


@pytest.fixture
def bookkeeper(
    site_file: Callable[[str], Path], tmp_path: Path
) -> Iterator[Callable[[str], Process]]:
    """A factory of bookkeepers, not started yet."""
    made: list[Process] = []

    def make(url: str) -> Process:
        devices = "\n".join(
            f'[devices.{name}]\nfamily = "{table["family"]}"' for name, table in DEVICES.items()
        )
        config = site_file(
            f'[database]\nurl = "{url}"\n'
            f"[bookkeeper]\nlook_s = 0.2\ngrace_s = 0\nstep_min = 5\n{devices}\n"
        )
        made.append(Process(config, tmp_path / f"bookkeeper-{len(made)}.log"))
        return made[-1]

    yield make
    for process in made:
        process.end(signal.SIGKILL)


def recent(hours: float) -> int:
    """Start of a bucket so long ago [ms]."""
    now = round(time.time() * 1000)
    return now - now % BUCKET - round(hours * 3_600_000)
