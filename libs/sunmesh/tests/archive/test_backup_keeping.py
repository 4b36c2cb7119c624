"""Which backups stay, and the one of every night."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sunmesh import clock, config
from sunmesh.__main__ import entry
from sunmesh.archive import keeping
from sunmesh.archive.keeping import BackupError, Keep, Stored, superfluous
from sunmesh.database.migrations import migrate
from sunmesh.errors import ConfigError
from sunmesh.testing import LEAST_S

ROME = ZoneInfo("Europe/Rome")


def nightly(days: int, last: datetime = datetime(2026, 11, 21, 2, 10, tzinfo=UTC)) -> list[Stored]:
    return [Stored(Path(f"{n}"), last - timedelta(days=n)) for n in range(days)]


def kept(backups: list[Stored], keep: Keep, zone: ZoneInfo = ROME) -> list[Stored]:
    gone = superfluous(backups, keep, zone)
    return [each for each in backups if each not in gone]


def test_two_years_of_nights_leave_days_weeks_and_months() -> None:
    backups = nightly(730)
    left = kept(backups, Keep(7, 4, 12))
    assert [each.path.name for each in left[:7]] == ["0", "1", "2", "3", "4", "5", "6"]
    # Saturday the 21st, then the Sundays that end the weeks before, then the ends of months
    days = [each.created.astimezone(ROME).date().isoformat() for each in left[7:]]
    assert days == [
        *("2026-11-08", "2026-11-01", "2026-10-31", "2026-09-30", "2026-08-31", "2026-07-31"),
        *("2026-06-30", "2026-05-31", "2026-04-30", "2026-03-31", "2026-02-28", "2026-01-31"),
        "2025-12-31",
    ]


def test_pruning_every_night_ends_at_the_same_set() -> None:
    start = datetime(2025, 1, 1, 2, 10, tzinfo=UTC)
    held: list[Stored] = []
    for day in range(500):
        held.append(Stored(Path(f"{day}"), start + timedelta(days=day)))
        held = kept(held, Keep(7, 4, 12))
        assert held[-1].path.name == f"{day}"
    assert len(held) <= 7 + 4 + 12
    assert (held[-1].created - held[0].created).days > 300


def test_the_newest_always_stays_and_the_last_of_a_local_day() -> None:
    backups = nightly(3)
    assert kept(backups, Keep(0, 0, 0)) == backups[:1]
    assert superfluous([], Keep(), ROME) == []
    # 22:30 and 23:30 UTC are two days in Rome
    late = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
    pair = [Stored(Path("b"), late + timedelta(hours=1)), Stored(Path("a"), late)]
    assert kept(pair, Keep(2, 0, 0)) == pair
    assert kept(pair, Keep(2, 0, 0), ZoneInfo("UTC")) == pair[:1]


def test_only_finished_files_of_this_site_are_counted(tmp_path: Path) -> None:
    ours = "sunmesh-home-20261121T031000Z.zip"
    for name in (
        *(ours, ".sunmesh-home.part", "sunmesh-home-2-20261121T031000Z.zip"),
        *("sunmesh-home-20261321T031000Z.zip", "sunmesh-home-20261121T031000Z.zip.bak"),
    ):
        (tmp_path / name).touch()
    assert [each.path.name for each in keeping.stored(tmp_path, "home")] == [ours]
    keeping.prune(tmp_path, "home", Keep(0, 0, 0), ROME)
    assert len(list(tmp_path.iterdir())) == 5
    assert keeping.stored(tmp_path / "none", "home") == []


@pytest.fixture
def site(tmp_path: Path) -> config.Site:
    path = tmp_path / "site.toml"
    path.write_text(
        f'[site]\nname = "hut"\ntime_zone = "Europe/Rome"\n[database]\n'
        f'url = "sqlite:///{tmp_path}/house.db"\n[backup]\nfolder = "backups"\nkeep_daily = 2\n'
        "keep_weekly = 0\nkeep_monthly = 0\n"
    )
    migrate(f"sqlite:///{tmp_path}/house.db")
    return config.load(path)


def test_the_nightly_backup(site: config.Site, tmp_path: Path) -> None:
    assert keeping.newest_age_h(site) is None
    older = tmp_path / "backups/sunmesh-hut-20250101T000000Z.zip"
    oldest = tmp_path / "backups/sunmesh-hut-20240101T000000Z.zip"
    older.parent.mkdir()
    older.touch()
    oldest.touch()
    says = keeping.scheduled_backup(site)
    assert "verified" in says
    assert "1 older removed" in says
    assert not oldest.exists()
    age = keeping.newest_age_h(site)
    assert age is not None
    assert age < 0.1


def test_a_failed_nightly_backup_says_why(site: config.Site, tmp_path: Path) -> None:
    (tmp_path / "house.db").unlink()
    with pytest.raises(BackupError, match="there is no such database"):
        keeping.scheduled_backup(site)


def test_a_nightly_backup_ends_with_the_service(
    site: config.Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    stop.set()
    began = time.monotonic()
    with pytest.raises(BackupError, match="stopped with the service"):
        keeping.scheduled_backup(site, stop)
    assert time.monotonic() - began < LEAST_S
    monkeypatch.setattr(keeping, "LONGEST_S", 0.0)
    with pytest.raises(BackupError, match="still running"):
        keeping.scheduled_backup(site)


def test_settings(site: config.Site) -> None:
    found = keeping.settings(site)
    assert found.at == "03:10"
    assert found.keep == Keep(2, 0, 0)
    text = site.path.read_text()
    for line, says in (
        ('at = "25:10"', "backup.at: must be a time such as 03:10"),
        ("keep_daily = -1", "keep_daily, keep_weekly, keep_monthly must not"),
        ("old_after_h = 0", "old_after_h: must be above 0"),
        ("ever = 1", "backup.ever: is not known"),
    ):
        site.path.write_text(text.replace("keep_daily = 2", line))
        with pytest.raises(ConfigError, match=says):
            keeping.settings(config.load(site.path))
    site.path.write_text(text.partition("[backup]")[0])
    bare = config.load(site.path)
    assert keeping.folder(bare) is None
    assert keeping.newest_age_h(bare) is None


def test_the_verbs(site: config.Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: Callable[[], str] = lambda: "".join(capsys.readouterr())  # noqa: E731
    where = ["--config", str(site.path)]
    assert entry(["backup", *where, "--list"]) == 0
    assert "no backup of hut" in said()
    assert entry(["backup", *where]) == 0
    assert "verified" in said()
    [made] = keeping.stored(tmp_path / "backups", "hut")
    assert entry(["backup", *where, "--list"]) == 0
    assert made.path.name in said()
    assert entry(["backup", *where, "--verify", str(made.path)]) == 0
    assert "all there" in said()
    into = ["--into", f"sqlite:///{tmp_path}/other.db"]
    assert entry(["restore", str(made.path), *into]) == 0
    assert "the same as saved" in said()
    assert entry(["restore", str(made.path), *where]) == 0
    made.path.write_bytes(b"PK")
    assert entry(["restore", str(made.path), *into]) == 1
    assert "damaged" in said()
    assert entry(["backup", *where, "--list"]) == 0
    assert "damaged" in said()
    for wrong in (["--keep", "7/4"], ["--keep", "a/b/c"]):
        with pytest.raises(SystemExit):
            entry(["backup", *where, *wrong])
    site.path.write_text(site.path.read_text().replace('folder = "backups"', ""))
    with pytest.raises(ConfigError, match=r"backup\.folder"):
        entry(["backup", *where])
    assert entry(["backup", *where, "--to", str(tmp_path / "there"), "--keep", "0/0/0"]) == 0


def test_age_of_the_future_is_none() -> None:
    assert Stored(Path("x"), clock.now() + timedelta(hours=5)).age_h == 0.0
    assert Stored(Path("x"), clock.now() - timedelta(hours=5)).age_h == pytest.approx(5, abs=0.1)
