import os

import pytest
from sunmesh.statefile import StateFile


@pytest.fixture
def file(tmp_path):
    return StateFile(tmp_path / "state" / "inverter.json")


def test_what_was_saved_is_loaded_by_the_next_run(file):
    file.save({"lifetime": {"bulk_voltage_v": 7}, "ids": ["a", "b"]})
    again = StateFile(file.path)
    assert again.load() == {"lifetime": {"bulk_voltage_v": 7}, "ids": ["a", "b"]}
    assert not again.damaged
    assert [each.name for each in file.path.parent.iterdir()] == ["inverter.json"]


def test_a_first_start_has_no_file_and_that_is_no_damage(file):
    assert file.load() == {}
    assert not file.damaged


@pytest.mark.parametrize("content", [b"", b'{"lifetime": {"bulk', b"[1]", b"\xff\xfe", b"\0" * 40])
def test_an_unreadable_file_is_said_and_kept_aside(file, content, caplog):
    file.save({})
    file.path.write_bytes(content)
    assert file.load() == {}
    assert file.damaged
    assert "inverter.json.bad" in caplog.text
    assert file.path.with_name("inverter.json.bad").read_bytes() == content
    assert file.load() == {}
    assert not file.damaged, "the second start knows of nothing"


def test_a_write_that_fails_leaves_what_was_there(file, monkeypatch):
    file.save({"n": 1})

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.save({"n": 2})
    assert StateFile(file.path).load() == {"n": 1}
