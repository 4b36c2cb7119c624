"""What the portal leaves out of its memory is there where it is needed; what it keeps is right."""

import subprocess
import sys
from datetime import date, datetime, timedelta

import pytest
from babel import dates
from web import text

ASK = """
import sys
import web.verbs
from pymysql import connections
from sunmesh.database.sql import engine
engine(sys.argv[1])
print(connections.SSL_ENABLED, "ssl" in sys.modules, "zipfile" in sys.modules)
"""


@pytest.mark.parametrize(
    ("url", "has_tls"),
    [
        ("mysql+pymysql://web@127.0.0.1/sunmesh", False),
        ("mysql+pymysql://web@/sunmesh?unix_socket=/run/mysqld/mysqld.sock", False),
        ("mysql+pymysql://web@127.0.0.1/sunmesh?ssl_ca=/etc/ca.pem", True),
        ("mysql+pymysql://web@mariadb/sunmesh", True),
        ("sqlite:///sunmesh.db", False),
    ],
)
def test_tls_is_there_where_the_database_is_elsewhere(url: str, has_tls: bool) -> None:
    command = [sys.executable, "-c", ASK, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(has_tls), str(has_tls), "False"]


@pytest.mark.parametrize("language", text.LANGUAGES)
def test_dates_read_as_babel_writes_them(language: str) -> None:
    with text.use(language):
        spoken = text.locale()
        for number in range(0, 800, 13):
            day = date(2024, 2, 20) + timedelta(days=number)
            moment = datetime(day.year, day.month, day.day)
            for style in ("full", "long", "medium", "short"):
                assert text.day(day, style) == dates.format_date(day, style, locale=spoken)
            for skeleton in ("MMMd", "MMMEd", "MMM", "yMMMM", "Md"):
                told = dates.format_skeleton(skeleton, moment, locale=spoken)
                assert text.day(day, skeleton) == told
            assert text.weekday(day) == dates.format_date(day, "EEEE", locale=spoken)
