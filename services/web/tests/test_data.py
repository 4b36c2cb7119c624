"""The page *Data*: days by hand, an import from file to undo, export, backups, who may do what."""

import io
import re
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sunmesh.config import load
from sunmesh.database import energy
from sunmesh.database.sql import engine
from sunmesh.testing import migrated, wait_for
from web.app import create_app
from web.board import Board
from web.config import web_of
from web.data import entry as data_entry
from web.data import imports as data_import
from web.data.jobs import Job
from web.live import Live
from web.queries import History

from .visiting import Browser

ROME = ZoneInfo("Europe/Rome")
TODAY = date(2026, 11, 21)


def plain(text: str) -> str:
    return re.sub(r"[\s\u00a0\u202f]+", " ", re.sub(r"<[^>]+>", " ", text))


# -- pure ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-20 12.4",
        "2026-11-20;12,4",
        "20.11.2026\t12,4 kWh",
        "2026/11/20 12.4kWh",
        "2026-11-20, 12.4",
        "2026-11-20,12.4",
    ],
)
def test_a_line_is_a_day(line) -> None:
    [entry], wrong = data_entry.parse(line, TODAY)
    assert (entry.day, entry.kwh, wrong) == (date(2026, 11, 20), 12.4, [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("2026-02-30 1", "the calendar has no"),
        ("3/4/2026 1", "no day such as"),
        ("2026-11-21 1", "not over yet"),
        ("2030-01-01 1", "not over yet"),
        ("1999-12-31 1", "before 2000"),
        ("2026-11-20 -1", "no energy"),
        ("2026-11-20 1e9", "no energy"),
        ("2026-11-20 99999", "cannot be"),
        ("2026-11-20", "write the day and its energy"),
        ("2026-11-20 nan", "no energy"),
        ("<script> 1", "no day such as"),
        ("2026-11-19 1\n2026-11-19 2", "stands in line 1 already"),
    ],
)
def test_a_line_that_is_none_is_named(line, why) -> None:
    _entries, [wrong] = data_entry.parse(line, TODAY)
    assert why in wrong.why


def test_a_book_is_too_long() -> None:
    _entries, wrong = data_entry.parse("\n" * 3000, TODAY)
    assert wrong[-1].line == data_entry.MOST_LINES + 1


def test_days_have_their_own_length() -> None:
    entries, _wrong = data_entry.parse("2026-03-29 1\n2026-10-25 2", TODAY)
    short, long = data_entry.changes(entries, "pv", ROME)
    assert (short.end - short.start) // 3_600_000 == 23
    assert (long.end - long.start) // 3_600_000 == 25
    assert long.wh == 2000


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("old.csv", "old.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\a b.csv", "a b.csv"),
        ("..", "file-1"),
        ("a\0b\n.csv", "a_b_.csv"),
        ("<b>.csv", "_b_.csv"),
        ("x" * 500 + ".csv", "x" * 96 + ".csv"),
    ],
)
def test_names_of_files_have_no_path(name, safe) -> None:
    assert data_import.safe_name(name, 0, set()) == safe
    assert data_import.safe_name(name, 0, {safe}) != safe


def test_what_the_importer_prints_is_read_line_by_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("junk")
    assert data_import.read_plan(out) is None
    assert data_import.read_plan(tmp_path / "none") is None


# -- the pages -------------------------------------------------------------------------------------


@pytest.fixture
def portal(tmp_path: Path):
    """A portal with a database, a device and a folder for backups."""
    migrated(f"sqlite:///{tmp_path}/house.db")
    (tmp_path / "backups").mkdir()
    path = tmp_path / "site.toml"
    path.write_text(
        f'[site]\ntime_zone = "Europe/Rome"\n[database]\nurl = "sqlite:///{tmp_path}/house.db"\n'
        '[backup]\nfolder = "backups"\n[recorder]\nraw_days = 30\n'
        '[devices.inverter]\nfamily = "axpert"\n',
        encoding="utf-8",
    )
    site = load(path, "web", {})
    history = History(site.database.sqlalchemy_url(), site.site.zone)
    live = Live(None, site.devices)
    app = create_app(site, Board(web_of(site), site, live, history))
    yield app
    if "jobs" in app.extensions:
        app.extensions["jobs"].close()
    history.close()
    app.extensions["database"].close()
    app.extensions["accounts"].close()


@pytest.fixture
def anna(portal) -> Browser:
    return Browser(portal).settle()


def pv(tmp_path: Path, first: date, end: date) -> float | None:
    opened = engine(f"sqlite:///{tmp_path}/house.db", read_only=True)
    with opened.connect() as connection:
        found = energy.figures(connection, ROME, first, end).wh("pv")
    opened.dispose()
    return found


def test_days_by_hand_and_back(portal, anna, tmp_path) -> None:
    days = "2024-06-01 21.4\n2024-06-02 18,6"
    checked = anna.post("/data/days", "/data", flow="pv", days=days)
    said = plain(checked.text)
    for text in ("2 days change", "Saturday, 1 June 2024", "21.40 kWh", "June 2024 +40.00 kWh"):
        assert text in said, text
    assert pv(tmp_path, date(2024, 6, 1), date(2024, 7, 1)) is None, "nothing has changed yet"
    mark = anna.mark("/data")
    wish = {"flow": "pv", "days": days, "reason": "notebook", "csrf": mark}
    assert anna.post("/data/days/save", **wish).status_code == 303
    assert pv(tmp_path, date(2024, 6, 1), date(2024, 7, 1)) == pytest.approx(40_000)
    page = anna.get("/data").text
    assert "Sun, 40.00 kWh" in plain(page)
    assert "notebook" in page
    again = plain(anna.post("/data/days", "/data", flow="pv", days=days).text)
    assert "0 days change" in again
    assert "2 stay as the books have them" in again
    refused = anna.post("/data/days/save", **wish)
    assert refused.status_code == 422
    assert "None of these days would change" in refused.text
    number = re.search(r"/data/days/(\d+)/undo", page)[1]
    assert anna.post(f"/data/days/{number}/undo", csrf=mark).status_code == 303
    assert pv(tmp_path, date(2024, 6, 1), date(2024, 7, 1)) is None
    assert anna.post(f"/data/days/{number}/undo", csrf=mark).status_code == 409
    assert anna.post("/data/days/999999/undo", csrf=mark).status_code == 409
    deeds = [d for d in portal.extensions["accounts"].deeds() if d.action == "days"]
    assert [d.result for d in deeds].count("done") == 2


def test_bad_days_change_nothing(anna, tmp_path) -> None:
    answer = anna.post("/data/days", "/data", flow="pv", days="2024-02-30 1\n2024-02-01 <b>")
    assert answer.status_code == 422
    assert "the calendar has no 2024-02-30" in answer.text
    assert "2024-02-01 &lt;b&gt;" in answer.text
    mark = anna.mark("/data")
    for flow, days in (("sun", "2024-01-01 1"), ("pv", "2024-02-30 1"), ("pv", "")):
        answer = anna.post("/data/days/save", flow=flow, days=days, csrf=mark)
        assert answer.status_code == 422, (flow, days)


def upload(browser: Browser, *files: tuple[bytes, str]):
    return browser.client.post(
        "/data/import",
        data={
            "csrf": browser.mark("/data"),
            "files": [(io.BytesIO(content), name) for content, name in files],
        },
        content_type="multipart/form-data",
        environ_overrides=browser.environ,
    )


def finished(portal, browser: Browser, answer) -> str:
    """What is shown once a job has ended."""
    assert answer.status_code == 303, answer.text
    address = answer.headers["Location"]
    assert address.startswith("/data/jobs/")
    job = portal.extensions["jobs"].get(address.rpartition("/")[2])
    wait_for(lambda: job.is_done, 60, "the job ends")
    shown = browser.get(address)
    if shown.status_code == 303:
        shown = browser.get(shown.headers["Location"])
    assert shown.status_code == 200
    return shown.text


TABLE = b"Date;Yield (kWh);Note\r\n" + b"".join(
    f"{day:02d}.05.2024;{day},5;x\r\n".encode() for day in range(1, 11)
)


def test_a_table_from_file_to_undo(portal, anna, tmp_path) -> None:
    answer = upload(anna, (TABLE, "../old yield.csv"))
    assert answer.status_code == 303
    address = answer.headers["Location"]
    page = anna.get(address).text
    assert "old yield.csv" in page
    assert re.search(r'value="flow:pv" selected', page), "it was guessed"
    assert "1.05.2024" in page
    mark = anna.mark("/data")
    early = anna.post(f"{address}/apply", csrf=mark)
    assert early.status_code == 409
    nothing = anna.post(f"{address}/plan", csrf=mark, time_column="1", **{"to.2": ""})
    assert "say of one column at least" in nothing.text.lower()
    wish = {"to.2": "flow:pv", "period.2": "day", "time_column": "1", "time_format": "auto"}
    zone = anna.post(f"{address}/plan", csrf=mark, zone="Mars/Base", **wish)
    assert "no time zone such as" in zone.text
    shown = plain(finished(portal, anna, anna.post(f"{address}/plan", csrf=mark, **wish)))
    for text in ("What would change", "new stretches of energy", "Books: Sun", "2024-05-01"):
        assert text in shown, text
    assert pv(tmp_path, date(2024, 5, 1), date(2024, 6, 1)) is None
    done = finished(portal, anna, anna.post(f"{address}/apply", csrf=mark))
    assert "The import is done." in done
    assert pv(tmp_path, date(2024, 5, 1), date(2024, 6, 1)) == pytest.approx(60_000)
    listed = plain(anna.get("/data").text)
    assert "old yield.csv" in listed
    assert "anna" in listed
    number = re.search(r"/data/imports/(\d+)/undo", done)[1]
    finished(portal, anna, anna.post(f"/data/imports/{number}/undo", csrf=mark))
    assert pv(tmp_path, date(2024, 5, 1), date(2024, 6, 1)) is None
    assert "taken back" in anna.get("/data").text
    failed = finished(portal, anna, anna.post(f"/data/imports/{number}/undo", csrf=mark))
    assert "It failed" in failed
    anna.post(f"{address}/leave", csrf=mark)
    assert anna.get(address).status_code == 404
    deeds = [d for d in portal.extensions["accounts"].deeds() if d.action in ("import", "undo")]
    assert sorted(d.result for d in deeds) == ["done", "done", "failed"]


def test_junk_is_said_to_be_junk(portal, anna) -> None:
    answer = upload(anna, (bytes(range(256)) * 400, "holiday.jpg"))
    assert "Nobody knows this kind of file" in anna.get(answer.headers["Location"]).text
    name = "<img src=x onerror=alert(1)>.csv"
    answer = upload(anna, (b"a;b\n1;2\n", name))
    page = anna.get(answer.headers["Location"]).text
    assert "<img" not in page
    empty = upload(anna, (b"", "empty.csv"))
    assert anna.get(empty.headers["Location"]).status_code == 200
    assert upload(anna).status_code == 422
    assert upload(anna, *[(b"x", f"{n}.csv") for n in range(20)]).status_code == 422


def test_a_gigabyte_is_refused_unread(anna, monkeypatch) -> None:
    monkeypatch.setattr(data_import, "MOST_BYTES", 100_000)
    answer = upload(anna, (b"x" * 300_000, "large.csv"))
    assert answer.status_code == 413
    assert anna.post("/data/days", "/data", flow="pv", days="x" * 100_000).status_code == 413


def test_out_again(portal, anna, tmp_path) -> None:
    mark = anna.mark("/data")
    anna.post("/data/days/save", flow="pv", days="2024-06-01 24", csrf=mark)
    answer = anna.get("/data/export?level=energy&from=2024-06-01&to=2024-06-01")
    rows = answer.text.splitlines()
    assert answer.mimetype == "text/csv"
    assert len(rows) == 289
    assert (
        'filename="home-energy-2024-06-01-2024-06-01.csv"' in answer.headers["Content-Disposition"]
    )
    lines = anna.get("/data/export?level=energy&format=jsonl&from=2024-06-01").text
    assert lines.startswith("{")
    for query, status in (
        ("level=energy&from=2024-02-30", 422),
        ("level=energy&from=1024-01-01", 422),
        ("level=energy&from=2024-06-02&to=2024-06-01", 422),
        ("level=everything", 422),
        ("level=hour&device=../../etc", 404),
        ("format=xls", 422),
    ):
        assert anna.get(f"/data/export?{query}").status_code == status, query


def test_a_backup_is_made_proved_and_fetched(portal, anna) -> None:
    assert "There is none in" in anna.get("/data").text
    made = finished(portal, anna, anna.post("/data/backup", "/data"))
    assert "Done in" in made
    page = anna.get("/data").text
    assert "Each was restored into a scratch database" in page
    name = re.search(r"/data/backups/([\w.-]+)/verify", page)[1]
    assert "all there" in finished(portal, anna, anna.post(f"/data/backups/{name}/verify", "/data"))
    file = anna.get(f"/data/backups/{name}")
    assert file.data[:2] == b"PK"
    for other in ("..%2f..%2fetc%2fpasswd", "site.toml", "sunmesh-home-20200101T000000Z.zip"):
        assert anna.get(f"/data/backups/{other}").status_code == 404


class Busy:
    """Somebody is at work."""

    def __init__(self, tmp_path: Path) -> None:
        self.job = Job("a" * 16, "backup", "x", "anna", datetime.now(UTC), tmp_path / "out")

    def running(self) -> Job:
        return self.job

    def close(self) -> None:
        pass


def test_one_thing_at_a_time(portal, anna, tmp_path) -> None:
    portal.extensions["jobs"] = Busy(tmp_path)
    answer = anna.post("/data/backup", "/data")
    assert answer.status_code == 409
    assert "Something else is being done" in answer.text
    assert "How far is it?" in anna.get("/data").text


def test_who_may_do_what(portal, anna) -> None:
    guest = Browser(portal)
    page = guest.get("/data").text
    assert "30 days" in page
    assert "An admin in the local network" in page
    assert "/data/days" not in page
    accounts = portal.extensions["accounts"]
    accounts.add("olga", "the sun also rises", "operator", "anna", "127.0.0.1")
    olga = Browser(portal).log_in("olga")
    mark = olga.mark("/account")
    for path in ("/data/days", "/data/days/save", "/data/import", "/data/backup"):
        assert olga.post(path, csrf=mark, flow="pv", days="2024-01-01 1").status_code == 403, path
        assert guest.client.post(path).status_code == 401, path
        assert anna.post(path, flow="pv").status_code == 403, "without the mark of a form"
    assert olga.get("/data/export?level=energy&from=2026-01-01").status_code in (200, 503)
    assert guest.get("/data/export").status_code == 303
    far = Browser(portal, "203.0.113.9").log_in("anna")
    assert far.get("/data/jobs/x").status_code == 403
    assert "An admin in the local network" in far.get("/data").text


def test_without_a_database(site, board) -> None:
    app = create_app(site(), board())
    page = Browser(app).get("/data")
    assert page.status_code == 200
    assert "there is no database" in page.text.lower()
