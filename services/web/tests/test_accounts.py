import threading
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text
from sunmesh.errors import RefusedError
from sunmesh.testing import migrated
from web.people.accounts import Accounts, AccountsError, csrf_of, key_of
from web.people.passwords import PasswordError, ThrottledError

PASSWORD = "the sun also rises"


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


def rows(url: str, query: str):
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return found


def test_a_house_from_the_first_visit_to_the_last_log_out(people, url, clock) -> None:
    assert not people.is_settled()
    token = people.settle("Anna", PASSWORD, "192.168.1.20")
    assert people.is_settled()
    anna = people.visitor(token)
    assert (anna.name, anna.role, anna.unlocked_s(people.now_ms)) == ("anna", "admin", 0)
    with pytest.raises(RefusedError, match="made already"):
        people.settle("mallory", PASSWORD, "192.168.1.66")

    people.add("Žofia", PASSWORD, "operator", "anna", "192.168.1.20")
    with pytest.raises(RefusedError, match="there is a žofia already"):
        people.add("ŽOFIA", PASSWORD, "viewer", "anna", "192.168.1.20")
    with pytest.raises(RefusedError, match="a role is one of"):
        people.add("bert", PASSWORD, "root", "anna", "192.168.1.20")
    with pytest.raises(PasswordError, match="at least 8"):
        people.add("bert", "short", "viewer", "anna", "192.168.1.20")
    for name in ("", "a b", "<b>", "x" * 33, "../etc"):
        with pytest.raises(RefusedError, match="a name is"):
            people.add(name, PASSWORD, "viewer", "anna", "192.168.1.20")

    second = people.log_in("žofia", PASSWORD, "192.168.1.21")
    assert people.visitor(second).role == "operator"
    zofia = next(person for person in people.people() if person.name == "žofia")
    assert zofia.sessions == 1
    people.set_role(zofia.id, "viewer", "anna", "192.168.1.20")
    assert people.visitor(second).role == "viewer"  # at once, not at the next log-in
    with pytest.raises(RefusedError, match="anna is the only admin"):
        people.set_role(anna.id, "viewer", "anna", "192.168.1.20")
    with pytest.raises(RefusedError, match="anna is the only admin"):
        people.remove(anna.id, "anna", "192.168.1.20")
    people.remove(zofia.id, "anna", "192.168.1.20")
    assert people.visitor(second) is None
    with pytest.raises(RefusedError, match="no such account"):
        people.remove(zofia.id, "anna", "192.168.1.20")

    other = people.log_in("anna", PASSWORD, "192.168.1.22")
    people.log_out(anna, "192.168.1.20")
    assert people.visitor(token) is None
    assert people.visitor(other) is not None
    people.log_out(people.visitor(other), "192.168.1.22", everywhere=True)
    assert people.visitor(other) is None
    assert [(deed.by, deed.action, deed.subject, deed.result) for deed in people.deeds()][::-1] == [
        ("anna", "set up", "anna", "done"),
        ("anna", "add account", "žofia", "done"),
        ("žofia", "log in", "", "done"),
        ("anna", "change role", "žofia", "done"),
        ("anna", "remove account", "žofia", "done"),
        ("anna", "log in", "", "done"),
        ("anna", "log out", "", "done"),
        ("anna", "log out everywhere", "", "done"),
    ]
    assert {deed.address for deed in people.deeds()} == {
        "192.168.1.20",
        "192.168.1.21",
        "192.168.1.22",
    }
    stored = str(rows(url, "SELECT * FROM user")) + str(rows(url, "SELECT * FROM session"))
    assert "$argon2id$" in stored
    assert PASSWORD not in stored


def test_what_is_stored_opens_nothing(people, url) -> None:
    token = people.settle("anna", PASSWORD, "::1")
    ((stored,),) = rows(url, "SELECT token FROM session")
    assert stored == key_of(token) != token
    assert people.visitor(stored) is None
    assert csrf_of(token) not in (token, stored)
    assert csrf_of(token) != csrf_of(token + "x")


def test_two_first_visits_at_once_make_one_admin(people, url) -> None:
    done: list[str] = []

    def visit(name: str) -> None:
        try:
            people.settle(name, PASSWORD, "::1")
        except RefusedError:
            done.append("refused")
        else:
            done.append("made")

    threads = [threading.Thread(target=visit, args=(name,)) for name in ("anna", "bert", "carl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["made", "refused", "refused"]
    assert rows(url, "SELECT COUNT(*), MIN(role) FROM user") == [(1, "admin")]


@pytest.fixture
def lone(tmp_path, clock):
    """Accounts on SQLite, where one kind is enough, with anna in them."""
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    made = Accounts(url, clock)
    made.token = made.settle("anna", PASSWORD, "::1")
    yield made
    made.close()


def test_controls_are_unlocked_for_ten_minutes(lone, clock) -> None:
    lone.unlock(lone.visitor(lone.token), "", "::1")  # the password was given a moment ago
    assert lone.visitor(lone.token).unlocked_s(lone.now_ms) == 600
    clock.moment += timedelta(minutes=9, seconds=59)
    assert lone.visitor(lone.token).unlocked_s(lone.now_ms) == 1
    clock.moment += timedelta(seconds=1)
    assert lone.visitor(lone.token).unlocked_s(lone.now_ms) == 0
    with pytest.raises(RefusedError, match="wrong name or password"):
        lone.unlock(lone.visitor(lone.token), "", "::1")
    lone.unlock(lone.visitor(lone.token), PASSWORD, "::1")
    assert lone.visitor(lone.token).unlocked_s(lone.now_ms) == 600
    lone.lock(lone.visitor(lone.token))
    assert lone.visitor(lone.token).unlocked_s(lone.now_ms) == 0


def test_a_clock_that_was_set_back_unlocks_nothing(lone, clock) -> None:
    lone.unlock(lone.visitor(lone.token), "", "::1")
    clock.moment -= timedelta(hours=3)
    assert lone.visitor(lone.token).unlocked_s(lone.now_ms) == 0
    assert not lone.visitor(lone.token).is_proved(lone.now_ms)


def test_sessions_end(lone, clock, monkeypatch) -> None:
    monkeypatch.setattr("web.people.accounts.TRUST_S", 0)
    clock.moment += timedelta(days=29)
    assert lone.visitor(lone.token) is not None  # used, so it goes on
    clock.moment += timedelta(days=31)
    assert lone.visitor(lone.token) is None
    token = lone.log_in("anna", PASSWORD, "::1")
    for _ in range(13):
        clock.moment += timedelta(days=14)
        last = lone.visitor(token)
    assert last is None, "half a year is enough for any session"


def test_a_person_has_fifty_sessions_at_most(lone) -> None:
    now = lone.now_ms
    with lone.open(write=True) as connection:
        connection.execute(
            text("INSERT INTO session VALUES (:t, 1, :n, :n, :n, 0, 'x')"),
            [{"t": f"{number:064}", "n": now - number - 1} for number in range(80)],
        )
    lone.log_in("anna", PASSWORD, "::1")
    assert lone.people()[0].sessions == 50


def test_the_session_of_a_browser_is_exchanged(lone) -> None:
    token = lone.log_in("anna", PASSWORD, "::1", lone.token)
    assert lone.visitor(lone.token) is None
    assert lone.visitor(token).name == "anna"


def test_guessing_is_slow_and_told(lone) -> None:
    for _ in range(5):
        with pytest.raises(RefusedError, match="wrong name or password"):
            lone.log_in("anna", "guess " * 3, "10.0.0.66")
    with pytest.raises(ThrottledError, match="too many wrong passwords; try again in"):
        lone.log_in("anna", PASSWORD, "10.0.0.66")
    assert lone.log_in("anna", PASSWORD, "10.0.0.7")
    told = [deed for deed in lone.deeds() if deed.result == "refused"]
    assert len(told) == 5
    assert {(deed.by, deed.address) for deed in told} == {("anna", "10.0.0.66")}


def test_a_password_is_changed_by_who_has_it(lone) -> None:
    me = lone.visitor(lone.token)
    with pytest.raises(RefusedError, match="wrong"):
        lone.change_password(me, "not mine at all", "another one here", "::1")
    lone.change_password(me, PASSWORD, "another one here", "::1")
    assert lone.visitor(lone.token) is None
    with pytest.raises(RefusedError):
        lone.log_in("anna", PASSWORD, "::1")
    assert lone.log_in("anna", "another one here", "::1")


def test_an_old_hash_is_renewed_at_the_next_log_in(lone, tmp_path) -> None:
    from argon2 import PasswordHasher

    weak = PasswordHasher(1, 64, 1).hash(PASSWORD)
    with lone.open(write=True) as connection:
        connection.execute(text("UPDATE user SET password = :p"), {"p": weak})
    lone.log_in("anna", PASSWORD, "::1")
    ((stored,),) = rows(f"sqlite:///{tmp_path}/house.db", "SELECT password FROM user")
    assert "m=19456" in stored


def test_the_way_back_in(lone) -> None:
    assert "another password" in lone.rescue("Anna", "found again at last")
    assert lone.visitor(lone.token) is None
    assert lone.log_in("anna", "found again at last", "::1")
    assert "new admin" in lone.rescue("bert", PASSWORD)
    assert {(each.name, each.role) for each in lone.people()} == {
        ("anna", "admin"),
        ("bert", "admin"),
    }


def test_without_a_database_nobody_is_anybody(tmp_path, clock) -> None:
    missing = Accounts(f"sqlite:///{tmp_path}/none.db", clock)
    with pytest.raises(AccountsError, match="there is no database .* yet; the recorder makes it"):
        missing.visitor("token")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "none.db").touch()
    with pytest.raises(AccountsError, match="has no tables yet; the recorder makes them"):
        missing.is_settled()
    migrated(f"sqlite:///{tmp_path}/other.db")
    missing.close()


def test_a_server_that_went_is_asked_again_later(database_url, mariadb, clock, monkeypatch) -> None:
    migrated(database_url)
    people = Accounts(database_url, clock)
    token = people.settle("anna", PASSWORD, "::1")
    monkeypatch.setattr("web.people.accounts.TRUST_S", 0)
    mariadb.stop()
    with pytest.raises(AccountsError, match="does not answer"):
        people.visitor(token)
    mariadb.start()
    with pytest.raises(AccountsError, match="does not answer"):
        people.visitor(token)  # left alone for a moment
    monkeypatch.setattr("web.people.accounts.PAUSE_S", 0)
    assert people.visitor(token).name == "anna"
    people.close()
