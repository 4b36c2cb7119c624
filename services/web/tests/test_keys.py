from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text
from sunmesh.errors import RefusedError
from sunmesh.testing import migrated
from web.people import keys as keys_module
from web.people.accounts import Accounts, AccountsError
from web.people.keys import MOST, PREFIX, Keys


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path}/house.db"
    else:
        found = request.getfixturevalue("database_url")
    migrated(found)
    return found


@pytest.fixture
def people(url, clock):
    made = Accounts(url, clock)
    yield made
    made.close()


@pytest.fixture
def keys(people, monkeypatch):
    monkeypatch.setattr(keys_module, "TRUST_S", 0.0)  # as another process would see it
    return Keys(people)


def test_a_key_is_shown_once_and_found_again(keys, people, url, clock) -> None:
    token = keys.make("Home-Assistant", True, None, "anna", "192.168.1.20")
    assert token.startswith(PREFIX)
    found = keys.check(token, "192.168.1.30")
    assert (found.name, found.may_write, found.who) == (
        "home-assistant",
        True,
        "key:home-assistant",
    )
    [listed] = keys.all()
    assert (listed.address, listed.seen, listed.by) == ("192.168.1.30", people.now_ms, "anna")
    engine = create_engine(url)
    with engine.connect() as connection:
        stored = str(connection.execute(text("SELECT * FROM api_key")).all())
    engine.dispose()
    assert token not in stored
    assert token[len(PREFIX) :] not in stored
    assert keys.remove(listed.id, "anna", "192.168.1.20") == "home-assistant"
    assert keys.check(token) is None
    with pytest.raises(RefusedError, match="no such key"):
        keys.remove(listed.id, "anna", "192.168.1.20")
    assert [(deed.action, deed.subject, deed.detail) for deed in people.deeds()] == [
        ("remove key", "home-assistant", ""),
        ("make key", "home-assistant", "may read and command"),
    ]


def test_the_last_use_is_written_about_once_an_hour(keys, people, clock) -> None:
    token = keys.make("wall", False, None, "anna", "192.168.1.20")
    began = people.now_ms
    assert not keys.check(token, "192.168.1.30").may_write
    clock.moment += timedelta(minutes=59)
    keys.check(token, "192.168.1.31")
    assert (keys.all()[0].seen, keys.all()[0].address) == (began, "192.168.1.30")
    clock.moment += timedelta(minutes=2)
    keys.check(token, "192.168.1.31")
    assert (keys.all()[0].seen, keys.all()[0].address) == (people.now_ms, "192.168.1.31")


def test_a_key_ends_on_its_day(keys, clock) -> None:
    token = keys.make("guest", False, 7, "anna", "192.168.1.20")
    clock.moment += timedelta(days=7, seconds=-1)
    assert keys.check(token) is not None
    clock.moment += timedelta(seconds=1)
    assert keys.check(token) is None


@pytest.mark.parametrize(
    ("name", "days", "why"),
    [
        ("", None, "a name is"),
        ("<b>", None, "a name is"),
        ("x" * 33, None, "a name is"),
        ("ok", 0, "1 to 3650 days"),
        ("ok", -1, "1 to 3650 days"),
        ("ok", 10**9, "1 to 3650 days"),
    ],
)
def test_what_cannot_be_a_key_is_refused(keys, name, days, why) -> None:
    with pytest.raises(RefusedError, match=why):
        keys.make(name, False, days, "anna", "192.168.1.20")
    assert keys.all() == []


def test_a_name_is_given_once_and_keys_are_few(keys, people) -> None:
    keys.make("wall", False, None, "anna", "192.168.1.20")
    with pytest.raises(RefusedError, match="there is a key wall already"):
        keys.make("WALL", True, None, "anna", "192.168.1.20")
    assert len(people.deeds()) == 1  # nothing was done, so nothing is noted
    for number in range(MOST - 1):
        keys.make(f"k{number}", False, None, "anna", "192.168.1.20")
    with pytest.raises(RefusedError, match="remove one first"):
        keys.make("one-more", False, None, "anna", "192.168.1.20")


@pytest.mark.parametrize("token", ["", "x", PREFIX, PREFIX + "x" * 43, PREFIX + "x" * 9999, "é\0"])
def test_no_key(keys, token) -> None:
    assert keys.check(token) is None


def test_without_a_database_nobody_has_a_key(tmp_path) -> None:
    accounts = Accounts(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(AccountsError, match="no database"):
        Keys(accounts).check(PREFIX + "x" * 43)
    accounts.close()
