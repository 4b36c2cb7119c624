"""site.toml is changed without losing what its owner wrote."""

import stat
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web.setup.toml import WriteError, change, is_writable, replace, secret, value

OLD = """# my house
[site]
name = "home"       # never change this
time_zone = "UTC"   # for now

[broker]
host = "127.0.0.1"

[[simulator.faults]]
kind = "storm"

[devices.inverter]  # in the cellar
family = "axpert"
port = "/dev/serial/by-id/a"
"""


def test_what_the_owner_wrote_stays() -> None:
    new = change(
        OLD,
        {
            "site": {"time_zone": "Europe/Rome", "latitude": 45.07},
            "energy.grid_export": {},
            "devices.battery": {"family": "bms", "port": "/dev/serial/by-id/b", "address": 2},
        },
    )
    assert new.startswith(
        '# my house\n[site]\nname = "home"       # never change this\n'
        'time_zone = "Europe/Rome"   # for now\nlatitude = 45.07\n\n[broker]\n'
    )
    assert "[devices.inverter]  # in the cellar\n" in new
    assert new.endswith(
        '\n[energy.grid_export]\n\n[devices.battery]\nfamily = "bms"\n'
        'port = "/dev/serial/by-id/b"\naddress = 2\n'
    )
    assert change(new, {"site": {"time_zone": "Europe/Rome"}}) == new


def test_a_key_is_taken_away() -> None:
    new = change(OLD, {"site": {"time_zone": None}, "broker": {"nothing": None}})
    assert tomllib.loads(new)["site"] == {"name": "home"}


@pytest.mark.parametrize(
    "odd",
    [
        'site = { name = "home" }\n',
        'site.name = "home"\n',
        '[site]\nname = """\n[site]\n"""\ntime_zone = "UTC"\n',
        "[site]\n'time_zone' = 'UTC' # a # b\n",
        '[ site ]\ntime_zone = [\n  "UTC"\n]\n',
        '[site]\ntime_zone = "#"',
        "",
    ],
)
def test_a_file_of_another_style_still_says_what_was_meant(odd) -> None:
    new = tomllib.loads(change(odd, {"site": {"time_zone": "Europe/Rome"}}))
    assert new["site"]["time_zone"] == "Europe/Rome"
    before = tomllib.loads(odd).get("site", {})
    assert new["site"].get("name") == before.get("name")


plain = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, st.one_of(plain, st.lists(plain), st.dictionaries(names, plain))))
def test_what_is_written_is_read_again(values) -> None:
    new = change(OLD, {"battery": values})
    document = tomllib.loads(new)
    assert document["battery"] == values
    assert document["devices"] == tomllib.loads(OLD)["devices"]


def test_what_toml_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="is no TOML"):
        value(object())
    with pytest.raises(WriteError, match="no TOML now"):
        change("[site", {})


def test_the_file_is_exchanged_and_the_old_one_kept(tmp_path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(OLD.replace("[[simulator.faults]]\nkind", "[simulator]\nkind"))
    path.chmod(0o640)
    copy = replace(path, '[site]\nname = "other"\n', "20261121-120000")
    assert path.read_text() == '[site]\nname = "other"\n'
    assert copy == tmp_path / "site.toml.20261121-120000"
    assert "my house" in copy.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert {each.name for each in tmp_path.iterdir()} == {"site.toml", copy.name}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[site]\ntime_zone = "Mars/Base"\n', "site.time_zone"),
        ("[web]\nport = 99999\n", "web.port"),
        ("[devices.x]\nfamily = 'y'\n", "devices.x.family"),
        ("[battery]\ncells = 0\n", "battery.cells"),
        ("[oops]\n", r"\[oops\] is not known"),
        ("[site\n", "Expected"),
    ],
)
def test_what_no_service_would_start_with_is_not_written(tmp_path, text, why) -> None:
    path = tmp_path / "site.toml"
    path.write_text(OLD)
    with pytest.raises(WriteError, match=why):
        replace(path, text, "x")
    assert path.read_text() == OLD
    assert [each.name for each in tmp_path.iterdir()] == ["site.toml"]


def test_secrets_have_files_of_their_own(tmp_path) -> None:
    assert secret(tmp_path, "pushover-anna-token", " abc \n") == "secrets/pushover-anna-token"
    file = tmp_path / "secrets" / "pushover-anna-token"
    assert file.read_text() == "abc\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with pytest.raises(WriteError, match="cannot be written"):
        secret(tmp_path / "nowhere", "x", "y")
    assert is_writable(tmp_path / "site.toml")
    assert not is_writable(tmp_path / "nowhere" / "site.toml")
