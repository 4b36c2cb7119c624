"""The spool's files: what is in them survives, what is broken in them costs only itself."""

import errno
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from recorder import spool as spool_module
from recorder.codec import Gap, is_raw, read
from recorder.losses import summarize
from recorder.records import Record, pack, parse
from recorder.spool import Batch, Depth, Spool
from sunmesh.errors import ConfigError

from .conftest import T0, iso

TELEMETRY = "sunmesh/home/inverter/telemetry"
ALARM = "sunmesh/home/alarms/inverter/too_hot"


def make(folder: Path, limit_bytes: int = 100_000_000) -> Spool:
    spool = Spool(folder, limit_bytes, is_raw, summarize)
    spool.open()
    return spool


def sample(n: int, size: int = 400, topic: str = TELEMETRY) -> Record:
    payload = b'{"v":1,"ts":"%s","values":{"n":%d}}' % (iso(T0 + n * 1000).encode(), n)
    return Record(topic, payload.ljust(size), 0, T0 + n * 1000)


def everything(spool: Spool, messages: int = 100) -> list[Record]:
    """All that waits, as the database would take it."""
    found: list[Record] = []
    while (batch := spool.take(messages)) is not None:
        found += batch.records
        spool.done(batch)
    return found


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name[0] == "0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_what_is_written_comes_out_in_order(folder: Path) -> None:
    spool = make(folder)
    wanted = [sample(n) for n in range(300)]
    for start in range(0, 300, 30):
        spool.append(wanted[start : start + 30])
    assert spool.depth == Depth(300, spool.depth.bytes, spool.depth.share, T0)
    assert everything(spool) == wanted
    assert spool.depth.messages == 0
    spool.append(wanted[:1])
    assert everything(spool) == wanted[:1]
    spool.close()
    assert segments(folder) == []


def test_what_was_not_taken_is_there_after_a_kill(folder: Path) -> None:
    spool = make(folder)
    wanted = [sample(n) for n in range(100)]
    spool.append(wanted[:60])
    batch = spool.take(10)
    assert batch is not None
    spool.append(wanted[60:])
    spool.done(batch)
    os.close(spool._lock_file or -1)  # as a kill does
    after = make(folder)
    assert after.depth.messages == 100  # how far the database had come is not kept
    assert everything(after) == wanted
    after.append(wanted[:5])
    assert everything(after) == wanted[:5]


def test_far_more_than_the_memory_is_read_back_in_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", 20_000)
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 50_000)
    monkeypatch.setattr(spool_module, "READ_BYTES", 7_000)
    spool = make(folder)
    wanted = [sample(n) for n in range(2000)]
    found: list[Record] = []
    position = 0
    for turn in range(200):
        spool.append(wanted[position : position + 10])
        position += 10
        if turn % 3 == 0:
            batch = spool.take(random.Random(turn).randint(1, 40))  # noqa: S311
            assert batch is not None
            found += batch.records
            spool.done(batch)
        assert spool._memory_bytes <= 20_000
    assert len(segments(folder)) > 3
    found += everything(spool)
    assert found == wanted
    assert len(segments(folder)) <= 1


def test_a_batch_comes_again_until_it_is_done(folder: Path) -> None:
    spool = make(folder)
    spool.append([sample(n) for n in range(10)])
    first, again = spool.take(5), spool.take(5)
    assert first is not None
    assert again is not None
    assert list(first.records) == list(again.records)


def test_a_torn_end_is_cut_off_and_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(folder)
    wanted = [sample(n) for n in range(10)]
    spool.append(wanted)
    [name] = segments(folder)
    os.close(spool._lock_file or -1)
    path = folder / name
    whole = path.read_bytes()
    size = len(whole) // 10
    for cut in (1, 5, 20, size - 1):
        path.write_bytes(whole[: len(whole) - cut])
        after = make(folder)
        assert after.torn == 1
        assert everything(after) == wanted[:9]
        after.close()
        for rest in folder.glob("0*"):
            rest.unlink()
    assert sum("cut off by a crash" in r.message for r in caplog.records) == 4
    path.write_bytes(whole + bytes(5000))  # what a power cut leaves where no data came
    after = make(folder)
    assert (after.torn, everything(after)) == (1, wanted)


@pytest.mark.parametrize("where", ["payload", "length", "magic", "zeros"])
def test_a_damaged_record_is_skipped_and_counted(
    folder: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(folder)
    wanted = [sample(n) for n in range(10)]
    spool.append(wanted)
    spool.close()
    [name] = segments(folder)
    data = bytearray((folder / name).read_bytes())
    start = len(data) // 10 * 4
    if where == "zeros":
        data[start : start + 600] = bytes(600)  # over the border of two
    else:
        data[start + {"payload": 200, "length": 9, "magic": 0}[where]] ^= 0x55
    (folder / name).write_bytes(data)
    after = make(folder)
    batch = after.take(1000)
    assert batch is not None
    left = [record for record in wanted if record in batch.records]
    assert list(batch.records) == left
    assert len(left) == (8 if where == "zeros" else 9)
    assert batch.damaged == 1
    after.done(batch)
    assert after.take(1000) is None
    assert after.damaged == 1
    assert sum("damaged records are skipped" in r.message for r in caplog.records) == 1


def test_rubbish_is_no_segment(folder: Path) -> None:
    folder.mkdir()
    (folder / "0000000001.open").write_bytes(random.Random(1).randbytes(100_000))  # noqa: S311
    (folder / "0000000002-50.full").write_bytes(b"")
    (folder / "0000000003-50.full").write_bytes(random.Random(2).randbytes(1000))  # noqa: S311
    (folder / "notes.txt").write_text("mine")
    spool = make(folder)
    spool.append([sample(1)])
    assert everything(spool) == [sample(1)]
    assert (folder / "notes.txt").exists()


def test_a_full_spool_throws_away_the_oldest_samples_and_nothing_else(folder: Path) -> None:
    spool = make(folder, limit_bytes=1_000_000)
    wanted: list[Record] = []
    for n in range(5000):
        topic = ALARM if n % 100 == 0 else TELEMETRY
        wanted.append(sample(n, topic=topic))
        if n % 10 == 9:
            spool.append(wanted[-10:])
    assert spool.depth.share <= 1
    assert spool.depth.bytes == sum((folder / name).stat().st_size for name in segments(folder))
    os.close(spool._lock_file or -1)
    after = make(folder, limit_bytes=1_000_000)  # the note of the loss outlives a kill
    found = everything(after)
    assert [record for record in found if record.topic == ALARM] == wanted[::100]
    kept = [record for record in found if record.topic == TELEMETRY]
    assert kept == [record for record in wanted if record.topic == TELEMETRY][-len(kept) :]
    gaps = [read(r.topic, r.payload, "home") for r in found if r.topic == "$gap"]
    assert all(isinstance(gap, Gap) and gap.reason == "spool_full" for gap in gaps)
    lost = sum(gap.messages for gap in gaps if isinstance(gap, Gap))
    assert lost == spool.thrown == 5000 - 50 - len(kept)
    assert 0.5 < len(kept) * 450 / 1_000_000 < 1
    first, last = gaps[0], gaps[-1]
    assert isinstance(first, Gap)
    assert isinstance(last, Gap)
    assert first.started == wanted[1].arrival
    assert last.ended < kept[0].arrival


def test_what_the_database_is_being_given_is_not_thrown_away(folder: Path) -> None:
    spool = make(folder, limit_bytes=1_000_000)
    spool.append([sample(n) for n in range(100)])
    batch = spool.take(20)
    assert batch is not None
    for n in range(100, 5000, 10):
        spool.append([sample(m) for m in range(n, n + 10)])
    assert spool.thrown > 1000
    spool.done(batch)
    assert list(batch.records) == [sample(n) for n in range(len(batch.records))]
    following = spool.take(1)
    assert following is not None


def test_full_of_what_must_be_kept(folder: Path) -> None:
    spool = make(folder, limit_bytes=1_000_000)
    group = [sample(n, topic=ALARM) for n in range(100)]
    for _ in range(20):
        spool.append(group)
    for _ in range(2):
        with pytest.raises(OSError, match="must be kept"):
            spool.append([*group, *group, *group])
    assert len(everything(spool)) == 2000
    spool.append([sample(1)])


@pytest.mark.parametrize("call", ["write", "fdatasync", "open"])
def test_a_disk_that_fails_costs_nothing_that_was_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool = make(folder)
    spool.append([sample(n) for n in range(10)])
    real = getattr(os, call)
    if call == "open":
        spool._rotate()

    def fail(*arguments: object, **more: object) -> int:
        if call == "write":
            real(arguments[0], bytes(arguments[1])[:100])  # type: ignore[call-overload]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                spool.append([sample(99)])
    spool.append([sample(10)])
    assert everything(spool) == [sample(n) for n in range(11)]


def test_a_disk_full_in_the_middle_survives_a_kill(folder: Path) -> None:
    spool = make(folder)
    spool.append([sample(n) for n in range(10)])
    with pytest.MonkeyPatch.context() as patch:

        def fail(*arguments: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "fdatasync", fail)
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output"):
            spool.append([sample(10)])
    spool.append([sample(11)])
    os.close(spool._lock_file or -1)
    after = make(folder)
    found = everything(after)
    assert [record for record in found if record != sample(10)] == [
        *(sample(n) for n in range(10)),
        sample(11),
    ]


def test_a_second_recorder_is_told_who_is_there(folder: Path) -> None:
    first = make(folder)
    with pytest.raises(ConfigError, match=f"another recorder uses .*process {os.getpid()} on"):
        make(folder)
    first.close()
    make(folder).close()


def test_a_half_made_thin_segment_is_none(folder: Path) -> None:
    spool = make(folder)
    spool.append([sample(n) for n in range(10)])
    spool.close()
    [name] = segments(folder)
    (folder / "0000000001-3.draft").write_bytes(b"half")
    thin = folder / f"{name.partition('-')[0]}-1.thin"
    thin.write_bytes(pack([sample(5, topic=ALARM)]))
    after = make(folder)
    assert everything(after) == [sample(5, topic=ALARM)]
    assert segments(folder) == []


def test_records_of_every_size() -> None:
    records = [
        Record("t" * n, bytes([n % 256]) * size, n % 4, T0 + n)
        for n, size in enumerate((0, 1, 255, 65536, 3), start=1)
    ]
    data = pack(records)
    scan = parse(data, {})
    assert (scan.records, scan.end, scan.damaged) == (records, len(data), 0)
    assert parse(data, {}, 2).records == records[:2]
    assert parse(b"", {}).records == []


def test_an_empty_batch_moves_on(folder: Path) -> None:
    """A segment of which nothing can be read is left behind."""
    folder.mkdir()
    (folder / "0000000001-7.full").write_bytes(bytes(3000))
    (folder / "0000000002-1.full").write_bytes(pack([sample(1)]))
    spool = make(folder)
    batch = spool.take(10)
    assert isinstance(batch, Batch)
    assert (list(batch.records), batch.damaged) == ([], 1)
    spool.done(batch)
    assert everything(spool) == [sample(1)]


CHILD = """
import os, random, sys
from pathlib import Path
from recorder.codec import Gap, is_raw, read
from recorder.losses import summarize
from recorder.records import Record
from recorder.spool import Spool

folder, number, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)
spool = Spool(folder, 300_000, is_raw, summarize)
spool.open()

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

while True:
    group, alarms = [], []
    for _ in range(dice.randint(1, 30)):
        number += 1
        kind = "a/telemetry"
        if dice.random() < 0.02:
            kind = "alarms/a/b"
            alarms.append(number)
        payload = b'{"n":%d}' % number
        group.append(Record(f"sunmesh/home/{kind}", payload.ljust(300), 0, 1_790_000_000_000))
    spool.append(group)
    say("in", number - len(group) + 1, number, *alarms)
    if dice.random() < seed % 3 / 2.5:
        batch = spool.take(dice.randint(1, 100))
        if batch is not None:
            for record in batch.records:
                if record.topic == "$gap":
                    say("gap", record.arrival, read(record.topic, record.payload, "home").messages)
                else:
                    say("take", record.payload[5:].strip(b" }").decode())
            spool.done(batch)
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_nothing_is_lost_that_is_not_told(folder: Path, seed: int) -> None:
    """Three runs, each killed: what was appended is there, was taken, or is noted as lost."""
    dice = random.Random(seed)  # noqa: S311
    number = 0
    samples, alarms, taken = set[int](), set[int](), set[int]()
    gaps = set[tuple[int, int]]()
    for run in range(3):
        program = [sys.executable, "-c", CHILD, str(folder), str(number), str(seed * 3 + run)]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            heard = child.stdout.readline()
            killer = threading.Timer(dice.uniform(0.05, 0.6), child.kill)
            killer.start()
            heard += child.stdout.read()
        for line in heard.decode().splitlines():
            word, *numbers = line.split()
            if word == "in":
                first, number, *loud = map(int, numbers)
                alarms |= set(loud)
                samples |= set(range(first, number + 1)) - set(loud)
            elif word == "take":
                taken.add(int(numbers[0]))
            else:
                gaps.add((int(numbers[0]), int(numbers[1])))
        number += 30  # a group that was in the air at the kill may be there or not
    spool = make(folder, limit_bytes=300_000)
    found = set[int]()
    for record in everything(spool):
        if record.topic == "$gap":
            gap = read(record.topic, record.payload, "home")
            assert isinstance(gap, Gap)
            gaps.add((record.arrival, gap.messages))
        else:
            found.add(int(record.payload[5:].strip(b" }")))
    assert spool.damaged == 0
    assert alarms <= found | taken
    missing = len(samples - found - taken)
    told = sum(messages for _arrival, messages in gaps)
    # each kill may leave a group that was never reported, and a batch that was taken and lost
    assert missing <= told <= missing + 3 * (30 + 130)
