"""Page System: who sees what, keys, the audit, and a bundle without secrets."""

import io
import json
import re
import zipfile

import pytest
from sunmesh.messages import Health, Info, Log, LogLine, Sample, ServiceStatus, encode
from sunmesh.mqtt import Message
from sunmesh.testing import migrated
from web.app import create_app
from web.bundle import Mask, site_text

from .visiting import PASSWORD, Browser

OUTSIDE = "203.0.113.9"
NOW = "2026-11-21T11:59:59.500Z"
SITE = """
[devices.inverter]
family = "axpert"
port = "/dev/serial/by-id/usb-A502-if00-port0"
serial = "92932105105335"
[broker]
password = "hunter2-broker"
[notifier.targets.anna]
by = "pushover"
token_file = "secrets/x"
user = "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"
# user = "commented-user"
[notifier.targets.bruno]
by = "catapush"
recipient = "393331234567"
"""


@pytest.fixture
def app(board, clock, tmp_path):
    migrated(f"sqlite:///{tmp_path}/house.db")
    made = board(SITE, "house.db")
    app = create_app(made.site, made)
    book = app.extensions["services"]

    def say(topic: str, content) -> None:
        message = Message(f"sunmesh/home/{topic}", encode(content), False, False, 0, 0)
        made.live.hear(message)
        book.hear(message)

    say("services/recorder/status", ServiceStatus("online", "0.1.0", "pi", NOW))
    say("services/recorder/health", Health(NOW, {"rss_bytes": 30_000_000, "lag_s": 0.5}))
    say(
        "services/recorder/log",
        Log(NOW, [LogLine(NOW, "WARNING", "recorder", "<b>92932105105335</b> is late")]),
    )
    say("inverter/info", Info(ts=NOW, family="axpert", serial="92932105105335", model="MAX-8000"))
    say("inverter/telemetry", Sample(ts=NOW, values={"battery_voltage_v": 53.2}))
    return app


@pytest.fixture
def anna(app):
    return Browser(app).settle()


def test_everybody_in_the_house_sees_services_and_no_more(app) -> None:
    guest = Browser(app)
    page = guest.get("/system").text
    assert "recorder" in page
    assert "collector-axpert" in page
    assert "never heard" in page
    assert "/system/logs" not in page
    for path in ("logs", "audit", "audit.csv", "people", "keys", "support"):
        answer = guest.get(f"/system/{path}")
        assert answer.status_code in (303, 401), path
    part = guest.get("/system?part=services").text
    assert "<html" not in part
    assert "1 of 2 run" in part


def test_logs_are_filtered_and_are_text(anna) -> None:
    page = anna.get("/system/logs").text
    assert "&lt;b&gt;92932105105335&lt;/b&gt; is late" in page
    assert "No line is like that" in anna.get("/system/logs?level=ERROR").text
    assert "is late" in anna.get("/system/logs?part=lines&service=recorder&text=LATE").text
    for odd in ("level=x", "service=../..", "text=" + "%" * 500, "service=%00"):
        assert anna.get(f"/system/logs?{odd}").status_code == 200


def test_the_audit_is_filtered_paged_and_a_table(app, anna) -> None:
    accounts = app.extensions["accounts"]
    for number in range(60):
        accounts.note("bert", "192.168.1.9", "command", f"inverter {number}", "applied", "=1+1")
    first = anna.get("/system/audit").text
    assert "inverter 59" in first
    assert "inverter 3<" not in first
    assert "Older" in first
    assert "Newer" not in first
    second = anna.get("/system/audit?page=2").text
    assert "made the first account" in second
    assert "Newer" in second
    mine = anna.get("/system/audit?by=anna").text
    assert "inverter 59" not in mine
    assert "inverter 41" in anna.get("/system/audit?text=INVERTER+41").text
    for odd in ("page=0", "page=-5", "page=99999999999999", "page=x", "text=%25_%5C", "by=nobody"):
        assert anna.get(f"/system/audit?{odd}").status_code == 200, odd
    table = anna.get("/system/audit.csv")
    assert table.mimetype == "text/csv"
    lines = table.text.splitlines()
    assert lines[0] == "time,by,from,what,of,result,detail"
    assert len(lines) == 62
    assert lines[1].endswith(",applied,'=1+1")  # no spreadsheet shall calculate it


def test_sessions_are_seen_and_ended(app, anna) -> None:
    anna.unlock().post("/system/people", "/account", name="bert", password=PASSWORD, role="viewer")
    bert = Browser(app, "192.168.1.77").log_in("bert")
    page = anna.get("/system/people").text
    assert "192.168.1.77" in page
    assert "this browser" in page
    [key] = re.findall(r'name="key" value="(\w+)"', page)
    assert bert.cookie() not in page
    assert anna.post("/system/sessions", "/account", key="0" * 64).status_code == 422
    assert anna.post("/system/sessions", "/account", key=key).status_code == 303
    assert bert.get("/account").status_code == 303
    assert "ended a session of bert" in anna.get("/system/audit").text


def test_a_key_is_made_shown_once_and_removed(app, anna) -> None:
    locked = anna.post("/system/keys", "/account", name="ha", may="read", days="0")
    assert locked.status_code == 403
    anna.unlock()
    page = anna.post("/system/keys", "/account", name="ha", may="write", days="30").text
    token = re.search(r"sunmesh_[\w-]{43}", page)[0]
    assert app.extensions["keys"].check(token).may_write
    again = anna.get("/system/keys").text
    assert token not in again
    assert f"ends in {token[-4:]}" in again
    for fields in (
        {"name": "ha", "may": "read", "days": "0"},
        {"name": "<i>", "may": "read", "days": "0"},
        {"name": "x", "may": "read", "days": "-1"},
        {"name": "x", "may": "read", "days": "1e9"},
        {"name": "x", "may": "read", "days": "999999"},
        {"name": "x"},
    ):
        answer = anna.post("/system/keys", "/account", **fields)
        assert answer.status_code == 422, fields
        assert "<i>" not in answer.text
    assert anna.post("/system/keys/1/remove", "/account").status_code == 303
    assert app.extensions["keys"].check(token) is None
    assert anna.post("/system/keys/1/remove", "/account").status_code == 422


def test_keys_are_not_made_from_outside(app, anna) -> None:
    road = Browser(app, OUTSIDE).log_in("anna")
    assert "from the local network only" in road.get("/system/keys").text
    assert road.post("/system/keys", "/account", name="x", days="0").status_code == 403


def test_the_bundle_holds_what_helps_and_no_secret(app, anna) -> None:
    answer = anna.post("/system/support", "/system/support")
    assert answer.mimetype == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    everything = "".join(files.values())
    for secret in (
        *("hunter2-broker", "uQiRzpo4DXghDmr9QzzfQu27cmVRsG", "393331234567", "commented-user"),
        *("92932105105335", "41.9", "anna"),
    ):
        assert secret not in everything.replace("targets.anna", ""), secret
    assert json.loads(files["devices.json"])["inverter"]["info"]["serial"] == "serial-1"
    assert 'serial = "serial-1"' in files["site.toml"]
    assert "latitude = 42.0" in files["site.toml"]
    assert "<b>serial-1</b> is late" in files["logs.txt"]
    assert json.loads(files["database.json"])["schema"]
    assert "took a support bundle" in anna.get("/system/audit").text


def test_a_secret_that_cannot_be_blanked_keeps_the_file_out(tmp_path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('[broker]\npassword = """\nhunter2\n"""\n')
    assert site_text(path) is None
    assert site_text(tmp_path / "none.toml") is None


def test_serials_are_masked_wherever_they_stand() -> None:
    mask = Mask()
    mask.learn(["12345", "1234567", "", None, "ab"])
    assert mask("1234567 and 12345, ab") == "serial-2 and serial-1, ab"


def test_without_a_database_the_page_says_so(board) -> None:
    made = board()
    client = create_app(made.site, made).test_client()
    page = client.get("/system").text
    assert "There is no database" in page
    assert "The broker at 127.0.0.1:1883 does not answer" in page
