"""What comes out, and that it goes in again without a change."""

import gzip
import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sunmesh.archive import export as exporting
from sunmesh.archive.export import ExportError, Wish, export
from sunmesh.database import energy as books
from sunmesh.database.sql import engine

from .importing import (
    ZONE,
    execute,
    fresh_sqlite,
    kept_mariadb,
    runner,
    site_of,
    sqlite_url,
    url,
    whole,
)

__all__ = ["fresh_sqlite", "kept_mariadb", "sqlite_url", "url"]

START = 1_699_963_200_000
SERIES = [
    ("inverter", "pv_power_w", "W", "gauge"),
    ("battery", "cell_voltage_v/2", "V", "list"),
    ("battery", "cell_voltage_v/10", "V", "list"),
    ("inverter", "device_mode", "", "state"),
    ("shed", "frog_count", "", "gauge"),
    ("shed", "frog_mood", "", "state"),
]


@pytest.fixture
def filled(url: str) -> str:
    """Some samples, states, figures and energies."""
    fill(url)
    return url


def fill(url: str) -> None:
    rows = [
        *((1, START + k * 5000, k * 1.1) for k in range(100)),
        *((2, START + k * 5000, 3.25 + k / 8) for k in range(20)),
        *((3, START + k * 5000, 3.2) for k in range(0, 20, 2)),
        (5, START + 5000, 12.0),
        (5, START + 9000, -0.1),
        (1, START + 30 * 86_400_000, 1e-17),
    ]
    words = [(4, START, "line"), (4, START + 60_000, "battery"), (6, START, 'calm, "green"')]
    execute(
        url,
        *(f"INSERT INTO series (device, name, unit, kind) VALUES {row!r}" for row in SERIES),
        *(f"INSERT INTO sample VALUES {row!r}" for row in rows),
        *(f"INSERT INTO state VALUES {row!r}" for row in words),
        f"INSERT INTO hour VALUES (1, {START}, 0, 9, 4.5, 9, 3600000, 100)",
    )
    opened = engine(url)
    with opened.begin() as connection:
        buckets = [
            books.Bucket(START + k * 300_000, 10 + k / 3, "power", "integrated", 300)
            for k in range(9)
        ]
        for flow in ("pv", "load"):
            books.book(connection, ZoneInfo(ZONE), flow, START, START + 3_600_000, buckets)
    opened.dispose()


def lines(url: str, **wish: object) -> list[str]:
    out = io.StringIO()
    export(url, Wish(**wish), out)  # type: ignore[arg-type]
    return out.getvalue().splitlines()


CHOICES = {
    "long csv": ["--output", "x.csv"],
    "wide csv": ["--wide", "--output", "x.csv"],
    "compressed": ["--output", "x.csv.gz"],
    "json lines": ["--output", "x.jsonl"],
    "local times": ["--zone", "America/New_York", "--output", "x.csv"],
    "energies": ["--level", "energy", "--output", "x.csv"],
    "energies wide": ["--level", "energy", "--wide", "--output", "x.csv"],
    "energies json": ["--level", "energy", "--output", "x.jsonl.gz"],
}


@pytest.mark.parametrize("choice", CHOICES)
def test_an_export_taken_back_changes_nothing_and_fills_an_empty_database(
    choice: str, sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(sqlite_url)
    words = [str(tmp_path / word) if word.startswith("x.") else word for word in CHOICES[choice]]
    run = runner(site_of(sqlite_url, tmp_path), capsys)
    status, said = run("export", *words)
    assert status == 0, said
    first = whole(sqlite_url, set())
    status, said = run("import", "sunmesh", words[-1])
    assert (status, "nothing to change" in said) == (0, True), said
    assert "refused" not in said
    assert whole(sqlite_url, set()) == first

    of_energies = "energies" in choice
    copied = ("energy",) if of_energies else ("sample", "state")
    execute(sqlite_url, *(f"DELETE FROM {name}" for name in (*copied, "energy_day")))
    status, said = run("import", "auto", words[-1])
    assert status == 0, said
    second = whole(sqlite_url, set())
    if of_energies:
        assert [row[:2] for row in second["energy"]] == [row[:2] for row in first["energy"]]
        assert [row[2] for row in second["energy"]] == pytest.approx(
            [row[2] for row in first["energy"]]
        )
    else:
        assert second["sample"] == first["sample"]
        assert second["state"] == first["state"]


def test_the_same_on_both_databases(filled: str) -> None:
    found = lines(filled)
    assert found[0] == "time,device,quantity,unit,value"
    assert found[1] == "2023-11-14T12:00:00.000Z,battery,cell_voltage_v/2,V,3.25"
    names = list(dict.fromkeys(line.split(",")[2] for line in found[1:]))
    assert names == [
        *("cell_voltage_v/2", "cell_voltage_v/10", "device_mode", "pv_power_w"),
        *("frog_count", "frog_mood"),
    ]
    assert found[-1] == '2023-11-14T12:00:00.000Z,shed,frog_mood,,"calm, ""green"""'
    assert len(found) == 1 + 100 + 20 + 10 + 2 + 1 + 3


def test_a_wide_table_has_gaps(filled: str) -> None:
    found = lines(filled, wide=True, devices=["battery"], end=START + 20_000)
    assert found == [
        "time,battery.cell_voltage_v/2 [V],battery.cell_voltage_v/10 [V]",
        "2023-11-14T12:00:00.000Z,3.25,3.2",
        "2023-11-14T12:00:05.000Z,3.375,",
        "2023-11-14T12:00:10.000Z,3.5,3.2",
        "2023-11-14T12:00:15.000Z,3.625,",
    ]


def test_json_lines(filled: str) -> None:
    found = [json.loads(line) for line in lines(filled, form="jsonl", series=["*.device_mode"])]
    assert found == [
        {"sunmesh": "export", "v": 1, "level": "raw", "site": "home"},
        {
            "time": "2023-11-14T12:00:00.000Z",
            "device": "inverter",
            "quantity": "device_mode",
            "unit": "",
            "value": "line",
        },
        {
            "time": "2023-11-14T12:01:00.000Z",
            "device": "inverter",
            "quantity": "device_mode",
            "unit": "",
            "value": "battery",
        },
    ]


def test_rollups_and_energies(filled: str) -> None:
    assert lines(filled, level="hour") == [
        "time,device,quantity,unit,min,max,mean,last,covered_s",
        "2023-11-14T12:00:00.000Z,inverter,pv_power_w,W,0.0,9.0,4.5,9.0,3600.0",
    ]
    found = lines(filled, level="energy", flows=["load"], start=START + 2_400_000)
    assert found == [
        "time,flow,Wh,source,flag,covered_s",
        "2023-11-14T12:40:00.000Z,load,12.666666666666666,power,integrated,300",
    ]


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"devices": ["none"]}, "nothing of a device none"),
        ({"series": ["pv_powr_w"]}, "no series is called pv_powr_w"),
        ({"level": "energy", "flows": ["water"]}, "'water' is no flow"),
        ({"wide": True, "form": "jsonl"}, "--wide is for CSV"),
    ],
)
def test_what_is_not_there_is_said(wish: dict[str, object], reason: str, sqlite_url: str) -> None:
    fill(sqlite_url)
    with pytest.raises(ExportError, match=reason):
        lines(sqlite_url, **wish)


def test_rollups_are_not_taken_back(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(sqlite_url)
    run = runner(site_of(sqlite_url, tmp_path), capsys)
    for words in (["x.csv"], ["x.jsonl"], ["wide.csv", "--wide"]):
        path = str(tmp_path / words[0])
        assert run("export", "--level", "hour", "--output", path, *words[1:])[0] == 0
        status, said = run("import", "sunmesh", path)
        assert (status, "only raw values and energies" in said) == (1, True), said


def test_days_are_the_site_s_and_times_too(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(sqlite_url)
    run = runner(site_of(sqlite_url, tmp_path), capsys)
    status, said = run(
        *("export", "--device", "inverter", "--series", "pv_*", "--from", "2023-12-14"),
        *("--to", "2023-12-14", "--zone", ZONE),
    )
    assert status == 0
    assert said.splitlines()[1:] == ["2023-12-14T13:00:00.000+01:00,inverter,pv_power_w,W,1e-17"]
    status, said = run("export", "--from", "2023-12-14T12:00:01Z", "--series", "pv_*")
    assert said.splitlines()[1:] == []
    with pytest.raises(Exception, match="--from yesterday"):
        run("export", "--from", "yesterday")


def test_a_file_is_there_whole_or_not_at_all(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(site_of(sqlite_url, tmp_path), capsys)
    kept = tmp_path / "x.csv"
    kept.write_text("old")
    status, said = run("export", "--device", "none", "--output", kept)
    assert (status, kept.read_text()) == (1, "old")
    assert not list(tmp_path.glob("*.part"))
    status, said = run("export", "--output", tmp_path / "no" / "x.csv")
    assert (status, "cannot be written" in said) == (1, True)
    assert run("export", "--output", tmp_path / "y.csv.gz")[0] == 0
    assert gzip.decompress((tmp_path / "y.csv.gz").read_bytes()).startswith(b"time,device")


def test_who_reads_may_stop_reading(sqlite_url: str, tmp_path: Path) -> None:
    execute(
        sqlite_url,
        f"INSERT INTO series (device, name, unit, kind) VALUES {SERIES[0]!r}",
        "WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k < 50000)"
        f" INSERT INTO sample SELECT 1, {START} + k * 1000, k FROM n",
    )
    site = site_of(sqlite_url, tmp_path)
    command = f"{sys.executable} -m sunmesh export --config {site} | head -2"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[0] == "time,device,quantity,unit,value"
    assert (done.returncode, done.stderr) == (0, "")


def test_much_needs_little_memory(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 500)
    monkeypatch.setattr(exporting, "NARROW_PAGE", 500)
    execute(
        sqlite_url,
        *(f"INSERT INTO series (device, name, unit, kind) VALUES {row!r}" for row in SERIES[:3]),
        "WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k < 20000)"
        f" INSERT INTO sample SELECT 1 + k % 3, {START} + k * 1000, k FROM n",
    )

    class Counted(io.TextIOBase):
        count = 0

        def write(self, text: str) -> int:
            self.count += text.count("\n")
            return len(text)

    for wide in (False, True):
        out = Counted()
        tracemalloc.start()
        try:
            export(sqlite_url, Wish(wide=wide), out)  # type: ignore[arg-type]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert out.count == 20_002
        assert peak < 1_500_000  # 20 000 rows in a list would be 3 MB
