"""docs/storage.md shows the tables as they are."""

import re
from pathlib import Path

import pytest
from recorder.config import RecorderConfig
from sunmesh.database import tables

PAGE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
ROWS = {
    name: (key, kept)
    for name, key, kept in re.findall(r"^\| `(\w+)` \| `([\w, ]+)` \| .+ \| (.+) \|$", PAGE, re.M)
}


def test_every_table_is_there():
    assert ROWS.keys() == tables.metadata.tables.keys()


@pytest.mark.parametrize("name", tables.metadata.tables)
def test_its_key_is_its_own(name):
    key = [column.name for column in tables.metadata.tables[name].primary_key.columns]
    assert set(ROWS[name][0].split(", ")) == set(key)


def test_what_is_deleted_is_said_with_its_setting():
    for name, days in RecorderConfig().kept_days().items():
        setting, default = ROWS[name][1].split(", ")
        assert getattr(RecorderConfig(), setting.strip("`")) == days == int(default)
    forgetful = {name for name, (_key, kept) in ROWS.items() if "_days" in kept}
    assert forgetful == RecorderConfig().kept_days().keys()
