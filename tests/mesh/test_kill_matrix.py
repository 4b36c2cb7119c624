"""Whatever is killed, and when: what was emitted is stored, once, and nothing else is.

kill_matrix.py says what counts as emitted, and what is not asked for.
"""

import time

import pytest

from .kill_matrix import FAST, House, plan, run

pytestmark = pytest.mark.mesh

SEED = 20261121
ROUNDS = 20
TEN_MINUTES = 120
"""Samples at the usual five seconds."""
EVERY_S = 0.02
"""Between two samples of a fast device."""


@pytest.fixture
def house(tmp_path, topics, mariadb, database_url):
    with House(tmp_path, topics.site, mariadb, database_url) as house:
        yield house
    if mariadb.pid is None:
        mariadb.start()


def test_the_plan_kills_everybody_alone_and_two_at_once():
    for seed in range(20):
        _, order = plan(seed, ROUNDS)
        assert len(order) == ROUNDS
        for victim in ("collector", "broker", "recorder", "database"):
            assert order.count((victim,)) == 4
        assert sum(len(victims) == 2 for victims in order) == 4
        assert not any({"broker", "recorder"} <= set(victims) for victims in order)


def test_twenty_rounds_of_killing_lose_nothing(house):
    verdict = run(house, SEED, ROUNDS)
    assert verdict.emitted > 1000
    assert verdict.unacknowledged < verdict.emitted / 10


@pytest.mark.parametrize("first", ["broker", "database"])
def test_broker_and_database_away_for_ten_minutes_at_once(house, first):
    parties = {"broker": house.broker, "database": house.mariadb}
    for party in parties.values():
        party.stop()
    gone = {name: len(house.collectors[name].said) for name in FAST}
    time.sleep(1.1 * TEN_MINUTES * EVERY_S)  # the outage itself
    parties.pop(first).start()
    time.sleep(0.3)
    for party in parties.values():
        party.start()
    house.catch_up(f"the {first} came back first")
    for name in FAST:
        assert house.collectors[name].process.poll() is None
        assert len(house.collectors[name].said) - gone[name] < 1000, (
            "a line or two, not one a sample"
        )
    house.settle(f"the {first} came back first")
    stored = house.stored()
    assert all(len([row for row in stored if row[0] == name]) >= TEN_MINUTES for name in FAST)
