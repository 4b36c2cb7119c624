"""The archive: replayable, compressed, bounded, without secrets, and never in the way."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import pytest
from collector_pvs6.archive import Archive
from collector_pvs6.emulator import FAKE_SECRETS
from collector_pvs6.faults import WebFaults
from sunmesh.errors import FrameError

NOON = datetime(2026, 6, 21, 18, 0, tzinfo=UTC)
REPLY = {"request": "GET /x", "status": 200, "body": {"n": 1}}


def lines(folder):
    text = "".join(gzip.decompress(path.read_bytes()).decode() for path in sorted(folder.iterdir()))
    return [json.loads(line) for line in text.splitlines()]


def test_polls_of_a_day_share_a_file_and_each_can_be_read(tmp_path):
    archive = Archive(tmp_path, "solar", 1.0)
    for minute in range(3):
        archive.keep(NOON + timedelta(minutes=5 * minute), [REPLY, REPLY])
    archive.keep(NOON + timedelta(days=1), [REPLY])
    assert len(list(tmp_path.iterdir())) == 2
    kept = lines(tmp_path)
    assert len(kept) == 7
    assert kept[0] == {"ts": "2026-06-21T18:00:00.000Z", **REPLY}


def test_a_start_begins_a_file_so_that_a_torn_one_ends_nothing(tmp_path):
    Archive(tmp_path, "solar", 1.0).keep(NOON, [REPLY])
    (first,) = tmp_path.iterdir()
    first.write_bytes(first.read_bytes()[:-5])
    Archive(tmp_path, "solar", 1.0).keep(NOON + timedelta(seconds=1), [REPLY])
    first.unlink()
    assert len(lines(tmp_path)) == 1


def test_the_oldest_go_first(tmp_path):
    other = tmp_path / "solar-2-20200101T000000000000.jsonl.gz"
    other.write_bytes(b"x" * 9000)
    archive = Archive(tmp_path, "solar", 0.002)
    noise = {"body": "".join(chr(33 + n * n % 90) for n in range(400))}
    for day in range(20):
        archive.keep(NOON + timedelta(days=day), [REPLY | noise])
    files = sorted(path for path in tmp_path.iterdir() if path != other)
    assert sum(path.stat().st_size for path in files) <= 2000
    assert files[-1].name.startswith("solar-20260710")
    assert 1 <= len(files) < 20
    assert other.exists(), "another gateway's files are not ours"


def test_a_full_or_forbidden_disk_is_said_once_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    archive = Archive(tmp_path / "file", "solar", 1.0)
    for _ in range(3):
        archive.keep(NOON, [REPLY])
    assert archive.errors == 3
    assert len([r for r in caplog.records if "not archived" in r.message]) == 1


def test_without_a_folder_nothing_is_kept(tmp_path):
    Archive(None, "solar", 1.0).keep(NOON, [REPLY])
    assert list(tmp_path.iterdir()) == []


def test_every_answer_of_a_round_is_kept_without_secrets_and_decodes(wired, tmp_path):
    from collector_pvs6.__main__ import decode

    for firmware in ("new", "legacy"):
        folder = tmp_path / firmware
        _, wire, source = wired(firmware, archive=Archive(folder, "solar", 1.0))
        source.open()
        source.poll()
        kept = lines(folder)
        logins = sum(path.startswith("/auth") for path in wire.asked)
        assert len(kept) == len(wire.asked) - logins
        text = json.dumps(kept)
        assert "E00121850001014" in text
        assert not [secret for secret in FAKE_SECRETS.values() if secret in text]
        assert "session" not in text
        serials = {serial for each in kept for serial in decode(each)["devices"]}
        assert len(serials) >= 21


def test_damaged_answers_are_kept_too(wired, tmp_path):
    faults = WebFaults({"html502": 1.0})
    _, _, source = wired("legacy", faults, archive=Archive(tmp_path, "solar", 1.0))
    with pytest.raises(FrameError, match="http"):
        source.open()
    assert [each["status"] for each in lines(tmp_path)] == [502, 502]


def test_an_answer_cut_in_a_secret_is_not_kept_as_text(wired, tmp_path):
    from collector_pvs6.session import Session
    from collector_pvs6.transport import Reply

    _, wire, _ = wired()
    wire.first = lambda path: Reply(200, b'{"supervisor":{"wpa_key":"hunter2",')
    session = Session("solar", wire)
    with pytest.raises(FrameError) as caught:
        session.supervisor()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in json.dumps(session.take_replies())
