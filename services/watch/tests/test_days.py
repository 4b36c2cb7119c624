"""Whole days as the database has them, on both databases, by the process that the watch starts."""

import json
import subprocess
import sys
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine, insert
from sunmesh import clock, config
from sunmesh.database import tables
from sunmesh.database.days import local_day, midnight
from sunmesh.testing import migrated
from watch.__main__ import days_of
from watch.loading import plan_of

ROME = ZoneInfo("Europe/Rome")


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request, tmp_path):
    """An empty database of each sort."""
    if request.param == "sqlite":
        made = f"sqlite:///{tmp_path / 'house.db'}"
    else:
        made = request.getfixturevalue("database_url")
    migrated(made)
    return made


def written(url, today):
    """Eight days of two panels that gain 1 and 0.7 kWh a day, and of the plant's books."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for number, device in enumerate(("roof-1", "roof-2"), 1):
            connection.execute(
                insert(tables.series).values(
                    id=number, device=device, name="pv_energy_total_kwh", unit="kWh", kind="counter"
                )
            )
        for ago in range(8, 0, -1):
            day = today - timedelta(days=ago)
            for number, gain in ((1, 1.0), (2, 0.7)):
                last = 100.0 + gain * (8 - ago)
                row = {"min": last - 0.9 * gain, "max": last, "mean": last, "last": last}
                connection.execute(
                    insert(tables.day).values(
                        series_id=number,
                        ts=midnight(day, ROME),
                        covered_ms=80_000_000,
                        samples=100,
                        **row,
                    )
                )
            flags = dict.fromkeys(
                [f"{flag}_wh" for flag in tables.FLAGS if flag != "measured"], 0.0
            )
            connection.execute(
                insert(tables.energy_day).values(
                    flow="pv",
                    day=day,
                    wh=20_000.0 if ago > 1 else 3000.0,
                    covered_s=86_400 if ago != 4 else 3600,
                    measured_wh=20_000.0,
                    **flags,
                )
            )
    engine.dispose()


def site_at(site_file, url):
    text = f'[database]\nurl = "{url}"\n[devices.roof]\nfamily = "pvs6"\nhost = "roof"\n'
    path = site_file(text)
    path.write_text(path.read_text().replace("Europe/Bratislava", "Europe/Rome"))
    return path


def test_days_of_a_database(site_file, url):
    today = local_day(clock.epoch_ms(clock.now()), ROME)
    written(url, today)
    site = config.load(site_at(site_file, url), "watch", environ={})
    days = days_of(site, plan_of(site))()
    assert days.why_not == ""
    assert date.fromisoformat(days.today) - today <= timedelta(days=1)
    yesterday = (today - timedelta(days=1)).isoformat()
    assert days.panels["roof-1"][yesterday] == pytest.approx(1.0)
    assert days.panels["roof-2"][yesterday] == pytest.approx(0.7)
    assert days.plant[yesterday] == 3.0
    badly_covered = (today - timedelta(days=4)).isoformat()
    assert badly_covered not in days.plant
    assert len(days.plant) == 7


def test_an_empty_database_has_no_days(site_file, url):
    site = config.load(site_at(site_file, url), "watch", environ={})
    days = days_of(site, plan_of(site))()
    assert (days.why_not, days.panels, days.plant) == ("", {}, {})


def test_a_database_that_is_not_there_is_a_reason(site_file, tmp_path):
    site = config.load(site_at(site_file, f"sqlite:///{tmp_path / 'no.db'}"), "watch", environ={})
    days = days_of(site, plan_of(site))()
    assert "no.db is not there yet" in days.why_not
    assert not (tmp_path / "no.db").exists(), "looking makes nothing"


def test_a_database_without_tables_is_a_reason(site_file, tmp_path):
    (tmp_path / "empty.db").touch()
    site = config.load(
        site_at(site_file, f"sqlite:///{tmp_path / 'empty.db'}"), "watch", environ={}
    )
    assert "no such table" in days_of(site, plan_of(site))().why_not


def test_where_no_rule_wants_days_nobody_is_asked(site_file):
    path = site_file("[watch]\ndefaults = false\n")
    site = config.load(path, "watch", environ={})
    assert days_of(site, plan_of(site)) is None


def test_the_process_says_json(site_file, url):
    path = site_at(site_file, url)
    done = subprocess.run(
        [sys.executable, "-m", "watch.days", path, "9"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout).keys() == {"today", "panels", "plant"}
