"""The command line: migrate, ingest, status, and what it says when something is wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorder.codec import is_raw
from recorder.config import RecorderConfig
from recorder.losses import summarize
from recorder.records import Record
from recorder.spool import Spool
from sunmesh import config
from sunmesh.database import tables
from sunmesh.errors import ConfigError
from sunmesh.testing import find_free_port
from sunmesh.topics import Topics

from .conftest import T0, iso, rows, samples

SiteFile = Callable[[str], Path]


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "recorder", *map(str, arguments)], input=stdin, capture_output=True
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def line(topics: Topics, n: int, text: bool = False) -> bytes:
    payload = {"v": 1, "ts": iso(T0 + n * 1000), "seq": n, "values": {"pv_power_w": float(n)}}
    body = {"topic": topics.telemetry("inverter"), "payload": payload}
    return json.dumps(body | ({"payload": json.dumps(payload)} if text else {})).encode() + b"\n"


def test_ingest_twice_and_status(
    url: str, site_file: SiteFile, topics: Topics, tmp_path: Path
) -> None:
    path = site_file(f'[database]\nurl = "{url}"\n')
    lines = tmp_path / "history.jsonl"
    lines.write_bytes(b"".join(line(topics, n, text=n % 2 == 0) for n in range(50)) + b"\n")
    done = run("ingest", "--config", path, lines)
    assert done.returncode == 0, done.stderr
    assert "50 messages, 50 values, 50 new rows, 0 refused" in done.stderr
    assert "values/s" in done.stderr
    done = run("ingest", "--config", path, "-", stdin=lines.read_bytes())
    assert "50 values, 0 new rows" in done.stderr
    assert samples(url) == {("pv_power_w", T0 + n * 1000, float(n)) for n in range(50)}

    done = run("status", "--config", path)
    assert done.returncode == 0
    assert f"schema {tables.SCHEMA}" in done.stdout
    assert f"last sample {iso(T0 + 49_000)}" in done.stdout
    found = json.loads(run("status", "--json", "--config", path).stdout)
    assert found["devices"][0]["device"] == "inverter"
    assert found["rows"]["series"] == 1


def test_status_without_a_recorder_says_what_waits(
    sqlite_url: str, site_file: SiteFile, topics: Topics
) -> None:
    path = site_file(f'[database]\nurl = "{sqlite_url}"\n[recorder]\nspool_mb = 1\n')
    folder = path.parent / "spool"
    found = json.loads(run("status", "--json", "--config", path).stdout)
    assert found["recorder"] == {"state": "never"}
    assert found["spool"]["error"] == "No such file or directory"
    spool = Spool(folder, 1_000_000, is_raw, summarize)
    spool.append([Record(topics.telemetry("a"), b"x" * 400, 0, T0 + n) for n in range(250)])
    done = run("status", "--json", "--config", path)  # while a recorder has the folder
    spool.close()
    for answer in (done, run("status", "--json", "--config", path)):
        waits = json.loads(answer.stdout)["spool"]
        assert (waits["messages"], waits["segments"]) == (250, 1)
        assert waits["oldest"] == iso(T0)
        assert 0.1 < waits["share"] < 0.12
    text = run("status", "--config", path).stdout
    assert "recorder  never: the broker knows of none" in text
    assert "250 messages in 1 files, 0.1 of 1 MB (11%)" in text


def test_status_without_a_broker(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(f'[broker]\nport = {find_free_port()}\n[database]\nurl = "{sqlite_url}"\n')
    done = run("status", "--config", path)
    assert done.returncode == 0
    assert "the broker does not answer" in done.stdout
    assert done.stderr == ""


def test_ingest_refuses_impossible_times(
    sqlite_url: str, site_file: SiteFile, topics: Topics
) -> None:
    path = site_file(f'[database]\nurl = "{sqlite_url}"\n')
    text = line(topics, 1) + line(topics, 10**9) + line(topics, -(T0 - 1000) // 1000)
    done = run("ingest", "--config", path, "-", stdin=text)
    assert "2 refused" in done.stderr
    assert "is in the future" in done.stderr
    assert "is before 2015" in done.stderr
    assert len(samples(sqlite_url)) == 1


def test_ingest_says_what_it_refuses_and_stores_the_rest(
    sqlite_url: str, site_file: SiteFile, topics: Topics
) -> None:
    path = site_file(f'[database]\nurl = "{sqlite_url}"\n')
    foreign = line(Topics("away"), 1)
    text = line(topics, 1) + b"rubbish\n{}\n" + foreign + line(topics, 2)
    done = run("ingest", "--config", path, "-", stdin=text)
    assert done.returncode == 1
    assert "3 refused" in done.stderr
    assert "line 2: not stored" in done.stderr
    assert "another site" in done.stderr
    assert len(samples(sqlite_url)) == 2


def test_migrate_up_and_down(sqlite_url: str, site_file: SiteFile) -> None:
    path = site_file(f'[database]\nurl = "{sqlite_url}"\n')
    assert run("migrate", "--config", path).returncode == 0
    assert rows(sqlite_url, "SELECT version_num FROM alembic_version") == [(tables.SCHEMA,)]
    assert run("migrate", "--to", "base", "--config", path).returncode == 0
    done = run("status", "--config", path)
    assert "schema none yet" in done.stdout
    done = run("migrate", "--to", "9999", "--config", path)
    assert done.returncode == 1
    assert "9999" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_database(site_file: SiteFile) -> None:
    url = f"mysql+pymysql://root:secret@127.0.0.1:{find_free_port()}/none"
    path = site_file(f'[database]\nurl = "{url}"\n')
    for verb in (("status",), ("migrate",), ("ingest", "-")):
        done = run(verb[0], "--config", path, *verb[1:])
        assert done.returncode == 1
        assert "Connection refused" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr + done.stdout


def test_a_typo_ends_with_one_line(site_file: SiteFile) -> None:
    path = site_file("[recorder]\nlinger = 1\n")
    done = run("run", "--config", path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{path}: recorder.linger: is not known; did you mean linger_s?"
    ]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("linger_s = -1", "linger_s: must be 0 to 60, got -1"),
        ("batch_rows = 0", "batch_rows: must be 1 to 100000, got 0"),
        ("buffer_messages = 1", "buffer_messages: must be 10 to 60000, got 1"),
        ("session_days = 0", "session_days: must be 1 to 365, got 0"),
        ('spool_dir = ""', "spool_dir: must name a folder"),
        ("spool_mb = 0", "spool_mb: must be 1 to 1000000, got 0"),
        ("max_future_s = -1", "max_future_s: must be 0 to 86400, got -1"),
        ("max_series = 0", "max_series: must be 1 to 60000, got 0"),
        ("new_series_a_minute = 0", "new_series_a_minute: must be 1 to 60000, got 0"),
    ],
)
def test_impossible_settings(site_file: SiteFile, setting: str, reason: str) -> None:
    site = config.load(site_file(f"[recorder]\n{setting}\n"), "recorder")
    with pytest.raises(ConfigError, match=f"recorder.{reason}"):
        site.section("recorder", RecorderConfig)


def test_the_example_holds_every_setting_and_its_default() -> None:
    example = Path(__file__).parents[1] / "config.example.toml"
    site = config.load(example, "recorder")
    assert site.section("recorder", RecorderConfig) == RecorderConfig()
    assert set(site.sections["recorder"]) == set(RecorderConfig.__struct_fields__)
