"""A backup is one moment of the database, and comes back as it was, on whichever server."""

import random
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Date,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    create_engine,
    inspect,
    text,
)
from sunmesh import config
from sunmesh.archive import backup as module
from sunmesh.archive.backup import backup, check, restore, verify
from sunmesh.archive.container import reading
from sunmesh.archive.keeping import BackupError, Keep
from sunmesh.database import tables
from sunmesh.database.migrations import migrate
from sunmesh.database.sql import engine
from sunmesh.testing import MariaDB, migrated, wait_for

WORDS = ["", "a", "ž", "𝄞", "it's", 'a "word"', "back\\slash", "line\nbreak", "%s", "NULL", "[1]"]
NUMBERS = [0.0, -0.0, 0.1 + 0.2, 1e-300, -1.7976931348623157e308, 53.2, 5e-324, 1e22, 123456789.0]


@pytest.fixture
def new_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Makes empty databases: ``new_url("mariadb")``."""
    made: list[str] = []

    def make(sort: str) -> str:
        name = f"backup_{len(made)}_{random.getrandbits(32):x}"
        if sort == "sqlite":
            return f"sqlite:///{tmp_path}/{name}.db"
        server: MariaDB = request.getfixturevalue("mariadb")
        server.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        made.append(name)
        return server.url(name)

    yield make
    for name in made:
        request.getfixturevalue("mariadb").execute(f"DROP DATABASE {name}")


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> str:
    return new_url(request.param)


@pytest.fixture
def site_of(tmp_path: Path) -> Callable[[str], config.Site]:
    def make(url: str, rest: str = "") -> config.Site:
        path = tmp_path / "site.toml"
        path.write_text(
            f'[site]\nname = "hut"\ntime_zone = "Europe/Rome"\n[database]\nurl = "{url}"\n{rest}'
        )
        return config.load(path)

    return make


def value(column: Any, number: int, chance: random.Random) -> Any:
    """Something that the column takes; a key's values never repeat."""
    if column.nullable and chance.random() < 0.3:
        return None
    sort = column.type
    if isinstance(sort, Float):
        return chance.choice([*NUMBERS, chance.uniform(-1e4, 1e4), chance.gauss(0, 1) * 1e-7])
    if isinstance(sort, LargeBinary):
        return chance.randbytes(chance.randrange(300))
    if isinstance(sort, Date):
        return date(2024, 2, 28) + timedelta(days=number)
    if isinstance(sort, tables.EpochMs):
        return 1_700_000_000_000 + number * 1000 + chance.randrange(1000)
    if isinstance(sort, Boolean):
        return chance.random() < 0.5
    if isinstance(sort, Integer | Numeric):
        return number + 1 if column.primary_key else chance.randrange(60000)
    if column.primary_key or column.name == "name":
        return f"k{number}"
    word = chance.choice(WORDS) * chance.randrange(1, 3)
    return word[: sort.length] if sort.length else word * 50


def populate(url: str, rows: int = 60) -> None:
    """Every table of ours with odd values, and one with many blocks."""
    chance = random.Random(4)
    migrated(url)
    opened = engine(url)
    with opened.begin() as connection:
        for table in tables.metadata.sorted_tables:
            made = [
                {column.name: value(column, number, chance) for column in table.columns}
                for number in range(rows)
            ]
            connection.execute(table.insert(), made)
        more = [
            {"series_id": 9000 + n % 3, "ts": 1_700_000_000_000 + n, "value": chance.gauss(0, 1e3)}
            for n in range(12_000)
        ]
        connection.execute(tables.sample.insert(), more)
    opened.dispose()


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything, through SQLAlchemy and its types."""
    opened = create_engine(url)
    with opened.connect() as connection:
        found = {
            name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
            for name, table in tables.metadata.tables.items()
        }
    opened.dispose()
    return found


def revisions(url: str) -> str:
    opened = create_engine(url)
    with opened.connect() as connection:
        found: str = connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar_one()
    opened.dispose()
    return found


@pytest.mark.parametrize("there", ["sqlite", "mariadb"])
def test_every_table_comes_back_on_either_server(
    url: str,
    there: str,
    new_url: Callable[[str], str],
    site_of: Callable[..., config.Site],
    tmp_path: Path,
) -> None:
    populate(url)
    told: list[str] = []
    made = backup(site_of(url), tmp_path / "backups", tell=told.append)
    assert {table.name for table in made.header.tables} == set(tables.metadata.tables)
    assert made.header.rows == 60 * len(tables.metadata.tables) + 12_000
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "backups").iterdir() if path != made.path] == [
        ".lock"
    ]
    other = new_url(there)
    restore(made.path, other)
    assert contents(other) == contents(url)
    assert revisions(other) == tables.SCHEMA
    # and what comes back is saved as the same bytes
    again = backup(site_of(other), tmp_path / "again")
    assert again.header.tables == made.header.tables


def test_a_double_comes_back_to_its_last_bit(
    new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    url, other = new_url("sqlite"), new_url("mariadb")
    migrated(url)
    chance = random.Random(7)
    opened = engine(url)
    with opened.begin() as connection:
        numbers = [chance.uniform(-1, 1) * 10 ** chance.randrange(-30, 30) for _ in range(20_000)]
        rows = [{"series_id": 1, "ts": ts, "value": x} for ts, x in enumerate(numbers)]
        connection.execute(tables.sample.insert(), rows)
    opened.dispose()
    made = backup(site_of(url), tmp_path / "backups")
    restore(made.path, other)
    assert [row[2] for row in sorted(contents(other)["sample"], key=lambda r: r[1])] == numbers


def test_a_backup_of_an_empty_database(
    url: str, site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    with pytest.raises(BackupError, match="no such database|no tables yet"):
        backup(site_of(url), tmp_path / "backups")
    migrated(url)
    made = backup(site_of(url), tmp_path / "backups")
    assert made.header.rows == 0
    restore(made.path, url)
    assert not any(contents(url).values())


class Writer(threading.Thread):
    """Commits batches as fast as it can: a batch is five samples, one gap, one day, or nothing."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.opened = engine(url)
        self.stop = threading.Event()
        self.committed = -1

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            with self.opened.begin() as connection:
                connection.execute(
                    tables.sample.insert(),
                    [{"series_id": s, "ts": number, "value": float(number)} for s in range(1, 6)],
                )
                gap = {"started": number, "reason": "", "ended": 1, "messages": 1, "detail": ""}
                connection.execute(tables.gap.insert(), gap)
                # the first table in the file: a later one must not show more than it
                connection.execute(
                    tables.series.insert(),
                    {"device": f"d{number}", "name": "x", "unit": "", "kind": "gauge"},
                )
            self.committed = number
            number += 1
        self.opened.dispose()


def test_a_backup_while_rows_are_written_shows_one_moment(
    url: str,
    new_url: Callable[[str], str],
    site_of: Callable[..., config.Site],
    tmp_path: Path,
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrated(url)
    opened = engine(url)
    with opened.begin() as connection:  # so that there is something to read for a while
        rows = [{"series_id": 60000, "ts": n, "value": 1.0} for n in range(60_000)]
        connection.execute(tables.sample.insert(), rows)
    opened.dispose()
    writer = Writer(url)
    writer.start()
    eventually(lambda: writer.committed > 50, why="rows come")
    before = writer.committed
    during: list[int] = []
    pack = module.pack

    def meanwhile(*given: Any) -> Any:
        during.append(writer.committed)
        wait_for(lambda: writer.committed > during[-1], why="it goes on writing while it is saved")
        return pack(*given)

    with monkeypatch.context() as patched:
        patched.setattr(module, "pack", meanwhile)
        made = backup(site_of(url), tmp_path / "backups")
    writer.stop.set()
    writer.join(30)
    assert len(during) > 1
    assert during[0] >= before >= 50
    other = new_url("sqlite")
    restore(made.path, other)
    found = contents(other)
    batches = len(found["gap"])
    assert before < batches <= writer.committed + 1
    assert [row[0] for row in sorted(found["gap"])] == list(range(batches))
    assert {row[1] for row in found["series"]} == {f"d{n}" for n in range(batches)}
    mine = [row for row in found["sample"] if row[0] < 60000]
    assert sorted(mine) == [(s, n, float(n)) for s in range(1, 6) for n in range(batches)]


def test_a_damaged_file_is_named_and_never_believed(
    new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    url = new_url("sqlite")
    populate(url, 60)
    made = backup(site_of(url), tmp_path / "backups")
    whole = made.path.read_bytes()
    spoilt = tmp_path / "spoilt.zip"
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        spoilt.write_bytes(whole[:length])
        with pytest.raises(BackupError, match=r"spoilt\.zip: damaged"):
            check(spoilt)
    chance = random.Random(11)
    said = []
    for _ in range(80):
        at, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        spoilt.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        try:
            header = check(spoilt)
        except BackupError as err:
            said.append(str(err))
        else:  # a bit that says nothing, such as a date in the zip's directory
            assert header.tables == made.header.tables
    assert len(said) > 60
    assert all("spoilt.zip: " in line for line in said)
    target = new_url("sqlite")
    migrated(target)
    spoilt.write_bytes(whole[: len(whole) // 3] + b"\0" + whole[len(whole) // 3 + 1 :])
    before = contents(target)
    with pytest.raises(BackupError, match="damaged"):
        restore(spoilt, target, force=True)
    assert contents(target) == before, "nothing was touched"


def test_what_is_no_backup_is_told_apart(tmp_path: Path, new_url: Callable[[str], str]) -> None:
    other = tmp_path / "holiday.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("photo.jpg", b"\xff\xd8")
    for path, says in ((other, "no backup of sunmesh"), (tmp_path / "none.zip", "cannot be read")):
        with pytest.raises(BackupError, match=says):
            restore(path, new_url("sqlite"))


def rewritten(path: Path, to: Path, *changes: tuple[bytes, bytes]) -> Path:
    """The backup with another header."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            for change in changes if name == "backup.json" else ():
                assert change[0] in content
                content = content.replace(*change)
            new.writestr(name, content)
    return to


def test_a_newer_schema_form_or_foreign_table_is_refused(
    new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    url = new_url("sqlite")
    populate(url, 3)
    made = backup(site_of(url), tmp_path / "backups")
    target = new_url("sqlite")
    schema = f'"schema": "{tables.SCHEMA}"'.encode()
    for old, new, says in (
        (schema, b'"schema": "9999"', "update it first"),
        (b'"v": 1', b'"v": 2', "not known; update"),
        (b'"name": "sample"', b'"name": "x; DROP"', "impossible"),
        (b'"name": "sample"', b'"name": "sample2"', "sample2 not as schema|is missing"),
        (b'"format": "sunmesh-backup"', b'"format": "other"', "no backup of sunmesh"),
    ):
        with pytest.raises(BackupError, match=says):
            restore(rewritten(made.path, tmp_path / "other.zip", (old, new)), target)


def test_an_older_schema_is_brought_up(
    url: str, new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    migrate(url, "0001")
    opened = create_engine(url)
    with opened.begin() as connection:
        connection.execute(text("INSERT INTO series VALUES (7, 'a', 'b', 'V', 'gauge')"))
        connection.execute(text("INSERT INTO sample VALUES (7, 1700000000000, 53.25)"))
    opened.dispose()
    made = backup(site_of(url), tmp_path / "backups")
    assert made.header.schema == "0001"
    assert "dirty" not in {table.name for table in made.header.tables}
    other = new_url("sqlite")
    restore(made.path, other)
    assert revisions(other) == tables.SCHEMA
    found = contents(other)
    assert found["sample"] == [(7, 1700000000000, 53.25)]
    assert len(found["dirty"]) == len(tables.CONSUMERS), "it is rolled up and booked"


def test_a_full_database_is_replaced_only_by_force(
    url: str, new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    populate(url, 5)
    made = backup(site_of(url), tmp_path / "backups")
    opened = create_engine(url)
    with opened.begin() as connection:
        connection.execute(text("DELETE FROM sample"))
    opened.dispose()
    with pytest.raises(BackupError, match="not empty; --force"):
        restore(made.path, url)
    assert contents(url)["sample"] == []
    restore(made.path, url, force=True)
    assert len(contents(url)["sample"]) == 12_005


def test_an_interrupted_restore_is_not_taken_for_a_database(
    url: str,
    new_url: Callable[[str], str],
    site_of: Callable[..., config.Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = new_url("sqlite")
    populate(source, 5)
    made = backup(site_of(source), tmp_path / "backups")
    insert = module._insert

    def dies(cursor: Any, sqlite: bool, table: Any, rows: Any) -> None:
        if table.name == "energy":
            raise BackupError("power cut")
        insert(cursor, sqlite, table, rows)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_insert", dies)
        with pytest.raises(BackupError, match="power cut"):
            restore(made.path, url)
    assert revisions(url) == "restoring"
    recorder = [sys.executable, "-m", "recorder", "migrate", "--config"]
    done = subprocess.run(
        [*recorder, str(site_of(url).path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "restoring" in done.stderr
    with pytest.raises(BackupError, match="interrupted restore; --force"):
        restore(made.path, url)
    with pytest.raises(BackupError, match="interrupted restore"):
        backup(site_of(url), tmp_path / "others")
    restore(made.path, url, force=True)
    assert contents(url) == contents(source)


def test_who_writes_meanwhile_fails_the_restore(
    new_url: Callable[[str], str],
    site_of: Callable[..., config.Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, url = new_url("sqlite"), new_url("mariadb")
    populate(source, 5)
    made = backup(site_of(source), tmp_path / "backups")
    insert = module._insert
    opened = create_engine(url)

    def meddle(cursor: Any, sqlite: bool, table: Any, rows: Any) -> None:
        if table.name == "sample":
            with opened.begin() as connection:
                connection.execute(text("INSERT INTO decision VALUES ('mine', 1, '{}')"))
            monkeypatch.setattr(module, "_insert", insert)
        insert(cursor, sqlite, table, rows)

    monkeypatch.setattr(module, "_insert", meddle)
    with pytest.raises(BackupError, match="decision comes back with 6 rows of 5"):
        restore(made.path, url)
    opened.dispose()
    assert revisions(url) == "restoring"


def test_a_backup_that_cannot_be_proved_replaces_none(
    new_url: Callable[[str], str],
    site_of: Callable[..., config.Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, where = new_url("sqlite"), tmp_path / "backups"
    populate(url, 5)
    first = backup(site_of(url), where, keep=Keep(0, 0, 0))
    insert = module._insert

    def spoil(cursor: Any, sqlite: bool, table: Any, rows: Any) -> None:
        if table.name == "sample":
            rows = [(number, ts, 1.0) for number, ts, _ in rows]
        insert(cursor, sqlite, table, rows)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_insert", spoil)
        with pytest.raises(BackupError, match="sample comes back with .* other values"):
            backup(site_of(url), where, keep=Keep(0, 0, 0))
    assert sorted(path.name for path in where.iterdir()) == [".lock", first.path.name]
    second = backup(site_of(url), where, keep=Keep(0, 0, 0))
    assert second.pruned == [first.path]
    assert second.path.is_file()


def test_proof_in_a_database_of_the_owners_choice(
    new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    url, scratch = new_url("sqlite"), new_url("mariadb")
    populate(url, 5)
    made = backup(site_of(url), tmp_path / "backups", scratch=scratch)
    opened = create_engine(scratch)
    assert inspect(opened).get_table_names() == []
    migrated(scratch)
    with opened.begin() as connection:
        connection.execute(text("INSERT INTO decision VALUES ('mine', 1, '{}')"))
    with pytest.raises(BackupError, match="is not empty"):
        verify(made.path, scratch)
    assert len(contents(scratch)["decision"]) == 1
    opened.dispose()


def test_a_disk_without_room_is_said_before(
    url: str,
    site_of: Callable[..., config.Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrated(url)
    monkeypatch.setattr(module, "free_bytes", lambda _: 1_000_000)
    with pytest.raises(BackupError, match="1 MB are free, and a backup .* may need"):
        backup(site_of(url), tmp_path / "backups")


def test_a_disk_that_fills_leaves_nothing_half(
    new_url: Callable[[str], str],
    site_of: Callable[..., config.Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, where = new_url("sqlite"), tmp_path / "backups"
    migrated(url)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "there")

    monkeypatch.setattr(module.Writer, "finish", full)
    with pytest.raises(BackupError, match="there: No space left on device"):
        backup(site_of(url), where)
    assert [path.name for path in where.iterdir()] == [".lock"]
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="file"):
        backup(site_of(url), tmp_path / "file")


def test_two_at_once_and_what_a_killed_one_left(
    new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    url, where = new_url("sqlite"), tmp_path / "backups"
    populate(url, 5)
    opened = engine(url)
    with opened.begin() as connection:
        rows = [{"series_id": 60000, "ts": n, "value": 1.0} for n in range(150_000)]
        connection.execute(tables.sample.insert(), rows)
    opened.dispose()
    site = site_of(url)
    command = [sys.executable, "-m", "sunmesh", "backup", "--config", str(site.path)]
    process = subprocess.Popen([*command, "--to", str(where)], stderr=subprocess.PIPE)
    wait_for(lambda: list(where.glob(".sunmesh-hut.part")))
    process.send_signal(signal.SIGSTOP)  # in the middle of it
    with pytest.raises(BackupError, match="another backup is being made"):
        backup(site, where)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = [path.name for path in where.iterdir()]
    assert ".sunmesh-hut.part" in left
    assert not [name for name in left if name.startswith("sunmesh")]
    made = backup(site, where)
    assert sorted(path.name for path in where.iterdir()) == [".lock", made.path.name]


def test_site_toml_goes_along_without_its_secrets(
    new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    url = new_url("sqlite")
    migrated(url)
    (tmp_path / "kept").write_text("hunter3")
    site = site_of(url, '[broker]\npassword = "hunter2"  # mine\npassword_file = "kept"\n')
    made = backup(site, tmp_path / "backups")
    with reading(made.path) as archive:
        said = archive.site_toml()
    assert said is not None
    assert "hunter" not in said
    assert 'password = ""  # mine' in said
    assert 'password_file = "kept"' in said


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("broker = { user = 'x', password = 'p' }", "broker = { user = 'x', password = \"\" }"),
        ('url = "mysql+pymysql://me:pw@host/db"', 'url = "mysql+pymysql://me@host/db"'),
        ('[web]\npush_token="t"', '[web]\npush_token=""'),
        ('"password" = "p"', '"password" = ""'),
        ('password = """p\nq"""', None),
        ("password = 5", None),
        ("password = [", None),
    ],
)
def test_secrets_of_every_shape(line: str, left: str | None, tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text(line)
    assert module.without_secrets(path) == left


def test_verify_reads_what_was_copied_elsewhere(
    new_url: Callable[[str], str], site_of: Callable[..., config.Site], tmp_path: Path
) -> None:
    url = new_url("sqlite")
    populate(url, 5)
    made = backup(site_of(url), tmp_path / "backups")
    stick = tmp_path / "stick"
    stick.mkdir()
    copy = Path(shutil.copy(made.path, stick))
    assert verify(copy).tables == made.header.tables
    assert sorted(path.name for path in stick.iterdir()) == [".lock", copy.name]
