import threading

import pytest
from web.people.passwords import (
    FREE_OF_ADDRESS,
    FREE_OF_NAME,
    Hasher,
    PasswordError,
    Throttle,
    ThrottledError,
    checked,
)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "at least 8"),
        ("short", "at least 8"),
        ("x" * 201, "at most 200"),
        ("aaaaaaaaaaaa", "guessed at once"),
        ("annaanna", "guessed at once"),
    ],
)
def test_what_is_no_password(password: str, reason: str) -> None:
    with pytest.raises(PasswordError, match=reason):
        checked(password, "annaanna")


def test_argon2id_and_nobody_takes_as_long() -> None:
    hasher = Hasher()
    encoded = hasher.hash("the sun also rises")
    assert encoded.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hasher.verify(encoded, "the sun also rises")
    assert not hasher.verify(encoded, "the sun also sets")
    assert not hasher.verify(None, "nobody's")  # not even with the stand-in's own password
    assert not hasher.verify("plain", "plain")
    assert not hasher.is_old(encoded)
    assert hasher.is_old("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43)


def test_letters_that_look_the_same_are_the_same() -> None:
    hasher = Hasher()
    assert hasher.verify(hasher.hash(checked("ﬁre and rain", "x")), "fire and rain")


def test_passwords_are_checked_one_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr("web.people.passwords.WAIT_S", 0.01)
    hasher = Hasher()
    hasher._lock.acquire()
    with pytest.raises(ThrottledError):
        hasher.verify(None, "x")
    hasher._lock.release()
    done = []
    threads = [threading.Thread(target=lambda: done.append(hasher.hash("x"))) for _ in range(2)]
    monkeypatch.setattr("web.people.passwords.WAIT_S", 30)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(throttle: Throttle, times: int, address: str = "a", name: str = "anna") -> None:
    for _ in range(times):
        throttle.take(address, name)


def test_each_wrong_one_too_many_doubles_the_wait() -> None:
    time = Time()
    throttle = Throttle(time)
    fail(throttle, FREE_OF_ADDRESS)
    waits = []
    for _ in range(4):
        with pytest.raises(ThrottledError) as caught:
            throttle.take("a", "anna")
        waits.append(caught.value.wait_s)
        time.now += caught.value.wait_s
        throttle.take("a", "anna")
    assert waits == [2, 4, 8, 16]
    throttle.take("b", "other")  # somebody else does not wait


def test_a_name_is_guarded_against_many_addresses() -> None:
    throttle = Throttle(Time())
    for number in range(FREE_OF_NAME):
        throttle.take(f"10.0.0.{number}", "anna")
    with pytest.raises(ThrottledError):
        throttle.take("10.0.1.1", "anna")
    throttle.take("10.0.1.1", "bert")


def test_a_right_one_forgives_the_name_but_not_the_address() -> None:
    time = Time()
    throttle = Throttle(time)
    for _ in range(3):  # one's own account does not help to guess another's
        throttle.take("a", "bert")
        throttle.right("a", "bert")
    fail(throttle, FREE_OF_ADDRESS)
    with pytest.raises(ThrottledError):
        throttle.take("a", "bert")
    time.now += 901
    throttle.take("a", "anna")


def test_a_thousand_addresses_fill_no_memory() -> None:
    throttle = Throttle(Time())
    for number in range(5000):
        throttle.take(str(number), str(number))
    assert len(throttle._wrong) <= 2000
