"""A database of each sort."""

import contextlib
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import make_url


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on MariaDB."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/house.db"
    found: str = request.getfixturevalue("database_url")
    return found


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/house.db"


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What a query answers, Decimals as int; by the plain driver, since tests ask it often."""
    at = make_url(url)
    connection: Any
    if at.get_backend_name() == "sqlite":
        connection = sqlite3.connect(f"file:{at.database}?mode=ro", uri=True, timeout=10)
    else:
        connection = pymysql.connect(
            host=at.host,
            port=at.port or 3306,
            user=at.username,
            database=at.database,
            ssl_disabled=True,
        )
    with contextlib.closing(connection):
        cursor = connection.cursor()
        cursor.execute(statement)
        return [
            tuple(int(v) if isinstance(v, Decimal) else v for v in row) for row in cursor.fetchall()
        ]
