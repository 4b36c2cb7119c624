"""Replay over a database: what the rules would have done, and what it would have cost."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from controller import past, replay
from controller.__main__ import entry
from controller.loading import plan_of, preset
from sqlalchemy import insert
from sunmesh import clock, config
from sunmesh.database import sql, tables
from sunmesh.testing import migrated

from .conftest import DEVICES


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


SCRIPT = Path(sys.executable).parent / "controller"
MINUTE = 60_000
HOURS = 12
SERIES = [
    ("inverter", "battery_voltage_v", "gauge"),
    ("inverter", "battery_charge_current_a", "gauge"),
    ("inverter", "battery_discharge_current_a", "gauge"),
    ("inverter", "grid_voltage_v", "gauge"),
    ("inverter", "device_mode", "state"),
    ("battery", "battery_soc_percent", "gauge"),
    ("battery", "charge_mosfet_on", "state"),
    *(("battery", f"cell_voltage_v/{cell}", "list") for cell in range(1, 5)),
]
SETTINGS = {
    "output_source_priority": "SBU",
    "charger_source_priority": "solar_only",
    "max_charge_current_a": 40.0,
    "float_voltage_v": 55.1,
    "bulk_voltage_v": 55.2,
    "redischarge_voltage_v": 55.0,
}


def voltage(minute):
    """Four hours at rest, one full, three empty, the others at rest."""
    hour = minute / 60
    return 54.8 if 4 <= hour < 5 else 50.9 if 5 <= hour < 8 else 52.5


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/house.db"
    return request.getfixturevalue("database_url")


@pytest.fixture
def stored(url):
    """Twelve hours up to now, by the minute, as the recorder keeps them; returns their end."""
    migrated(url)
    opened = sql.engine(url)
    end = clock.epoch_ms(clock.now()) // MINUTE * MINUTE
    start = end - HOURS * 60 * MINUTE
    with opened.begin() as connection:
        for number, (device, name, kind) in enumerate(SERIES, 1):
            row = {"id": number, "device": device, "name": name, "unit": "", "kind": kind}
            connection.execute(insert(tables.series), [row])
            last = {"series_id": number, "ts": end - 1000}
            if kind == "state":
                word = "battery" if name == "device_mode" else "true"
                connection.execute(insert(tables.latest), [last | {"text": word}])
                words = [{"series_id": number, "ts": start - 5000, "value": word}]
                connection.execute(insert(tables.state), words)
                continue
            connection.execute(insert(tables.latest), [last | {"value": 1.0}])
            rows = []
            for minute in range(HOURS * 60):
                value = {
                    "battery_voltage_v": voltage(minute),
                    "battery_charge_current_a": 5.0,
                    "battery_soc_percent": 80.0 if minute != 333 else 17.0,
                    "grid_voltage_v": 231.0,
                }.get(name, 3.3 if "cell" in name else 0.0)
                ts = start + minute * MINUTE
                rows.append(
                    {"series_id": number, "ts": ts, "covered_ms": MINUTE, "samples": 12}
                    | dict.fromkeys(("min", "max", "mean", "last"), value)
                )
            connection.execute(insert(tables.minute), rows)
        changes = [
            {"device": "inverter", "name": name, "ts": start, "value": json.dumps(value)}
            for name, value in SETTINGS.items()
        ]
        connection.execute(insert(tables.setting), changes)
    opened.dispose()
    return end


@pytest.fixture
def site(url, stored, site_file):
    return config.load(site_file(f'[database]\nurl = "{url}"\n{DEVICES}'), "controller", environ={})


@pytest.fixture
def run(site, capsys, monkeypatch):
    """The program, in this process: what it answers, prints and complains of."""
    monkeypatch.setattr("sunmesh.service.setup_logging", lambda level="info": None)

    def run(*words):
        code = entry([*words, "--config", str(site.path)])
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


def test_replay_tells_each_switch_and_what_it_cost(run):
    done = run("replay", "--days", "0.5", "--rule", "c9", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"] == {"c9": 2}
    assert [switch["did"] for switch in found["switches"]] == [
        "asked to open the grid; set max_charge_current_a = 10.0",
        "asked for the grid",
    ]
    first, last = (clock.parse(switch["ts"]) for switch in found["switches"])
    assert timedelta(minutes=60) <= last - first <= timedelta(minutes=66)
    assert sum(found["writes"]["inverter.max_charge_current_a"].values()) == 1
    assert found["lowest_charge_percent"] == 17.0
    assert found["unknown_settings"] == []
    assert 60 <= found["grid_open_minutes"] <= 66
    assert found["silent_minutes"] <= 2, "time goes on between the data and the replay"


def test_replay_reads_well(run):
    done = run("replay", "--days", "0.5", "--rule", "c9", "--rule", "c12")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "c9         asked to open the grid; set max_charge_current_a = 10.0" in lines[0]
    assert any(line.startswith("c9         2 switches, 4.0 a day") for line in lines)
    assert "inverter.max_charge_current_a: 1 write, 1 on one day at most" in lines, lines
    assert any(line.startswith("the grid was cut off for 1.") for line in lines)
    assert any(line.startswith("lowest charge 17 %, ") for line in lines)


def test_all_rules_can_be_replayed_together(run, site):
    done = run("replay", "--days", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["minutes"] == HOURS * 60
    assert set(found["counts"]) <= {rule.name for rule in plan_of(site).rules}


def test_a_change_is_replayed_beside_what_runs(run, tmp_path):
    """Never full enough for the changed rule, so that it switches nothing."""
    rule = {**preset("lifepo4-16s-axpert").rules["c9"]}
    rule["when"] = [
        {"samples": "3 of 4", "all": [{"quantity": "inverter.battery_voltage_v", "at_least": 55.5}]}
    ]
    file = tmp_path / "draft.json"
    file.write_text(json.dumps({"rules": {"c9": rule}}))
    words = ("replay", "--days", "0.5", "--rule", "c9", "--draft", str(file))
    done = run(*words, "--json", "--compact")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["now"]["counts"] == {"c9": 2}
    assert found["changed"]["counts"] == {}
    ((begin, end),) = found["now"]["open"]
    assert 60 <= (end - begin) / MINUTE <= 66
    assert found["now"]["active"]["c9"]
    read = run(*words).stdout
    assert read.index("--- now ---") < read.index("--- changed ---")
    file.write_text('{"rules": {"c9": {}}}')
    assert "says" in run(*words).stderr


def test_what_is_not_recorded_can_be_said(run):
    done = run(
        *("replay", "--days", "0.5", "--rule", "c9", "--json"),
        *("--set", "inverter.max_charge_current_a=10"),
    )
    assert json.loads(done.stdout)["switches"] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--rule", "c99"), "no rule is called c99"),
        (("--days", "0"), "--days must be above 0"),
        (("--set", "bulk"), "--set wants DEVICE.SETTING=VALUE"),
    ],
)
def test_what_cannot_be_replayed_is_said(run, words, says):
    done = run("replay", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_away_is_one_line(site_file):
    path = site_file(f'[database]\nurl = "mysql+pymysql://x@127.0.0.1:9/none"\n{DEVICES}')
    done = subprocess.run(
        [SCRIPT, "replay", "--config", path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("controller replay: the database does not answer")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_start_knows_the_last_minutes(site, stored):
    """In a process of its own, so that nothing of it stays in memory."""
    done = subprocess.run(
        [sys.executable, "-m", "controller.past", site.path],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = [tuple(row[:3]) for row in json.loads(done.stdout)]
    last = stored // MINUTE - 1
    for minute in range(last - 9, last + 1):
        assert ("inverter", "battery_voltage_v", minute) in rows
        assert ("battery", "charge_mosfet_on", minute) in rows
    cells = [row[3] for row in json.loads(done.stdout) if row[1] == "cell_voltage_v"]
    assert cells[-1] == [3.3] * 4


def test_changes_of_settings_are_followed(site, stored, url):
    opened = sql.engine(url)
    with opened.begin() as connection:
        row = {"device": "inverter", "name": "bulk_voltage_v", "ts": stored - 60 * MINUTE}
        connection.execute(insert(tables.setting), [row | {"value": "54.0"}])
    with opened.connect() as connection:
        found = past.Past(connection, plan_of(site).sources)
        changes = found.changes(stored - 2 * 60 * MINUTE, stored)
    opened.dispose()
    bulk = [(change.ms, change.value) for change in changes if change.name == "bulk_voltage_v"]
    assert bulk == [(stored - 120 * MINUTE, 55.2), (stored - 60 * MINUTE, 54.0)]


def test_stretches_are_days():
    start = clock.parse("2026-06-01T00:30:00Z")
    found = list(replay.stretches(start, start + timedelta(days=2, hours=1)))
    assert [end - begin for begin, end in found] == [86_400_000, 86_400_000, 3_600_000]
