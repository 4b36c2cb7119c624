"""Names that stay, and what else outlives a restart."""

import json

import pytest
from collector_pvs6.memory import Known, Memory, name_of
from sunmesh.topics import NAME


@pytest.mark.parametrize(
    ("serial", "name"),
    [
        ("E00202040011392", "solar-11392"),
        ("PVS6M20440321p", "solar-0321p"),
        ("PVS6M20440321c", "solar-0321c"),
        ("ESS-TEST-UNIT-00001", "solar-00001"),
        ("E00123456789#7", "solar-789-7"),
        ("E1", "solar-e1"),
        ("####", "solar-x"),
    ],
)
def test_a_name_is_the_gateway_s_and_the_end_of_the_serial_number(serial, name):
    assert name_of(serial, "solar", {}, set()) == name


def test_names_are_unique_and_short_enough():
    taken = set()
    for number in range(300):
        name = name_of(
            f"E{number % 3}00{number:02}11392", "a-house-with-a-rather-long-name", {}, taken
        )
        assert NAME.fullmatch(name)
        assert name not in taken
        taken.add(name)


def test_the_owner_s_name_wins():
    assert name_of("E1", "solar", {"E1": "roof-east"}, set()) == "roof-east"


def test_it_is_there_after_a_restart(tmp_path):
    path = tmp_path / "deep" / "solar.state.json"
    memory = Memory.load(path)
    memory.fingerprint, memory.protocol = "ab" * 32, "localapi"
    memory.known["E1"] = Known("solar-e1", "inverter", "AC_Module_Type_E", "4.40.1")
    memory.save()
    again = Memory.load(path)
    assert (again.fingerprint, again.protocol, again.known) == ("ab" * 32, "localapi", memory.known)


def test_it_is_written_only_when_something_changes(tmp_path):
    path = tmp_path / "solar.state.json"
    memory = Memory.load(path)
    memory.save()
    path.unlink()
    memory.save()
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"fingerprint":1,"protocol":2,"known":{"a":{}}}']
)
def test_a_broken_file_begins_anew_and_is_said(tmp_path, text, caplog):
    path = tmp_path / "solar.state.json"
    path.write_text(text)
    memory = Memory.load(path)
    assert memory.known == {}
    assert memory.fingerprint is None
    assert "begins anew" in caplog.text
    memory.save()
    assert json.loads(path.read_text())["known"] == {}


def test_a_folder_that_cannot_be_written_is_said(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "state.json")
    memory.protocol = "dl_cgi"
    memory.save()
    assert "cannot be written" in caplog.text
