"""The nightly backup: its hour, its alarms, and what a night without power leaves out."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from recorder import nightly as module
from recorder import upkeep as upkeep_module
from recorder.config import RecorderConfig
from recorder.nightly import Nightly
from recorder.upkeep import Upkeep
from sunmesh import clock, config
from sunmesh.archive.keeping import BackupError, file_name
from sunmesh.config import Site
from sunmesh.voice import Condition

ROME = ZoneInfo("Europe/Rome")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "site.toml"
    path.write_text('[site]\nname = "hut"\n[backup]\nfolder = "backups"\nat = "02:45"\n')
    (tmp_path / "backups").mkdir()
    return config.load(path)


@pytest.fixture
def made(tmp_path: Path) -> Callable[[float], None]:
    def made(age_h: float) -> None:
        created = clock.now() - timedelta(hours=age_h)
        (tmp_path / "backups" / file_name("hut", created)).touch()

    return made


def wrong(nightly: Nightly) -> dict[str, Condition | None]:
    return {code: condition for code, condition, _over in nightly.alarms()}


def test_without_a_folder_nothing_is_made_and_nothing_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text("")
    nightly = Nightly(config.load(path))
    assert nightly.at is None
    assert wrong(nightly) == {}
    assert nightly.counters() == {"backup_age_h": None, "backup_failures": 0}


def test_a_failure_is_an_alarm_until_the_next_success(
    site: Site, made: Callable[[float], None]
) -> None:
    answers: list[str | Exception] = [BackupError("the stick is full"), "all well"]

    def save(_site: Site, _stop: threading.Event) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        made(0.0)
        return answer

    made(24.0)
    nightly = Nightly(site, save)
    assert nightly.at == "02:45"
    assert wrong(nightly) == {"backup_old": None}, "an alarm of the run before is left alone"
    nightly.save()
    failed = wrong(nightly)["backup_failed"]
    assert failed is not None
    assert "the stick is full; the newest is 24 h old" in failed.text
    assert nightly.counters() == {"backup_age_h": 24.0, "backup_failures": 1}
    nightly.save()
    assert wrong(nightly) == {"backup_failed": None, "backup_old": None}
    assert nightly.counters() == {"backup_age_h": 0.0, "backup_failures": 1}


def test_a_backup_that_is_stopped_with_the_service_is_no_failure(site: Site) -> None:
    def save(_site: Site, stop: threading.Event) -> str:
        assert stop.wait(5)
        raise BackupError("stopped with the service")

    nightly = Nightly(site, save)
    thread = threading.Thread(target=nightly.save)
    thread.start()
    nightly.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert nightly.counters()["backup_failures"] == 0


def test_an_old_backup_is_an_alarm(
    site: Site, made: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(51.0)
    old = wrong(Nightly(site))["backup_old"]
    assert old is not None
    assert "the newest is 51 h old" in old.text
    nightly = Nightly(site)
    made(1.0)  # by hand, say
    assert wrong(nightly)["backup_old"] is not None
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    assert wrong(nightly)["backup_old"] is None


def test_none_at_all_is_an_alarm_after_the_same_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly = Nightly(site)
    assert wrong(nightly)["backup_old"] is None
    later = time.monotonic() + 51 * 3600
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    old = wrong(nightly)["backup_old"]
    assert old is not None
    assert "there is none" in old.text


def test_what_a_night_without_power_left_out_is_made_soon(
    site: Site, made: Callable[[float], None]
) -> None:
    calls: list[int] = []
    nightly = Nightly(site, lambda *_: calls.append(1) or made(0.0) or "well")
    nightly.save_if_missed()
    assert calls == [1], "there was none"
    nightly.save_if_missed()
    assert calls == [1]


def test_the_upkeep_asks_for_it_at_the_site_s_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = Upkeep(f"sqlite:///{tmp_path}/house.db", RecorderConfig(), ROME)
    called = threading.Event()
    upkeep.add_nightly("02:45", called.set, called.set)  # not started: nothing to add to
    upkeep.start()
    try:
        monkeypatch.setattr(upkeep_module, "MISSED_MIN", 0.0)
        upkeep.add_nightly("02:45", lambda: None, called.set)
        assert called.wait(10), "what was missed is asked for in its own thread"
        scheduler = upkeep._scheduler
        assert scheduler is not None
        [job] = [job for job in scheduler.get_jobs() if "minute='45'" in str(job.trigger)]
        local = job.next_run_time.astimezone(ROME)
        assert (local.hour, local.minute) == (2, 45)
        assert local - datetime.now(UTC) <= timedelta(hours=24)
    finally:
        upkeep.stop()
