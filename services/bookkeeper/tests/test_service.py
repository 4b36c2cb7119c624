"""The real process on a real broker: seconds from sample to bucket, kill -9, a database away."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sunmesh.messages import Health, ServiceStatus, decode
from sunmesh.mqtt import Mesh
from sunmesh.testing import MariaDB, migrated, wait_for

from .conftest import BUCKET, House, Process, World, recent

Make = Callable[[str], Process]


def test_samples_are_booked_within_seconds_and_again_when_late_ones_come(
    house: House, bookkeeper: Make, mesh: Callable[..., Mesh]
) -> None:
    world = World(recent(2), hours=2.2)
    now = recent(0)
    late = (now - 6 * BUCKET, now - 4 * BUCKET)
    heard: dict[str, bytes] = {}
    listener = mesh("listener")
    topics = listener.topics
    for topic in (topics.service_status("bookkeeper"), topics.service_health("bookkeeper")):
        listener.subscribe(topic, lambda message: heard.update({message.topic: message.payload}))
    process = bookkeeper(house.url)
    process.start()
    process.wait_said("started for site")
    house.store(
        {
            p: [r for r in rows if not late[0] <= r[0] < late[1]]
            for p, rows in world.between(now - 24 * BUCKET, now).items()
        }
    )
    began = time.monotonic()
    wait_for(lambda: len(house.books("load")) == 24, 30, "booked")
    assert time.monotonic() - began < 20
    gap = {ts for ts in house.books("load") if late[0] <= ts < late[1]}
    assert {house.books("load")[ts][2] for ts in gap} == {"recovered"}
    house.store(world.between(*late))
    wait_for(lambda: {house.books("load")[ts][2] for ts in gap} == {"measured"}, 30, "booked again")
    wait_for(lambda: house.waiting() == 0, 10)
    status = decode(ServiceStatus, heard[topics.service_status("bookkeeper")])
    assert status.state == "online"
    wait_for(lambda: topics.service_health("bookkeeper") in heard, 10)
    counters = decode(Health, heard[topics.service_health("bookkeeper")]).counters
    assert counters["database_ok"] in (None, 1)
    began = time.monotonic()
    assert process.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10
    wait_for(
        lambda: json.loads(heard[topics.service_status("bookkeeper")])["state"] == "offline", 5
    )


def test_kill_9_in_the_middle_costs_nothing(house: House, bookkeeper: Make) -> None:
    world = World(recent(30), hours=29.9, step_s=60)
    house.store(world.samples)
    process = bookkeeper(house.url)
    kills = 0
    for start, share in enumerate((0.9, 0.6, 0.3), 1):
        whole = house.waiting()
        process.start()
        process.wait_said("started for site", start)
        wait_for(lambda limit=whole * share: house.waiting() <= limit, 60, "some are booked")  # type: ignore[misc]
        kills += house.waiting() > 0
        process.end(signal.SIGKILL)
    assert kills
    process.start()
    process.wait_said("started for site", 4)
    wait_for(lambda: house.waiting() == 0, 60, "all are booked")
    assert process.end(signal.SIGTERM) == 0
    killed = {flow: house.books(flow) for flow in world.wh}
    for flow, wh in world.wh.items():
        assert house.wh(flow) == pytest.approx(wh, abs=max(8, wh * 0.003)), flow
    house.empty_books()
    house.book(round(time.time() * 1000))
    for flow, books in killed.items():
        again = house.books(flow)
        assert books.keys() == again.keys()
        assert sum(row[0] for row in books.values()) == pytest.approx(house.wh(flow), abs=1)


def test_the_second_one_says_so_and_ends(house: House, bookkeeper: Make) -> None:
    first, second = bookkeeper(house.url), bookkeeper(house.url)
    first.start()
    first.wait_said("started for site")
    wait_for(lambda: house.keeper().store.is_held(), 30)
    second.start()
    assert second.process is not None
    assert second.process.wait(30) == 2
    assert "bookkeeper run: another bookkeeper" in second.text()
    assert first.process is not None
    assert first.process.poll() is None


def test_it_waits_for_tables_and_says_so_once(tmp_path: Path, bookkeeper: Make) -> None:
    url = f"sqlite:///{tmp_path}/house.db"
    process = bookkeeper(url)
    process.start()
    process.wait_said("there is no database")
    time.sleep(2.5)
    assert process.text().count("waiting") == 1
    migrated(url)
    house = House(url)
    house.store(World(recent(1), hours=0.9).samples)
    wait_for(lambda: len(house.books("pv")) >= 10, 60, "booked")
    process.wait_said("the database is back")
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.text()


def test_a_database_that_goes_away_is_waited_for(
    mariadb: MariaDB, database_url: str, bookkeeper: Make
) -> None:
    house = House(database_url)
    world = World(recent(1), hours=0.9)
    now = recent(0)
    house.store(world.between(0, now - 6 * BUCKET))
    process = bookkeeper(database_url)
    process.start()
    wait_for(lambda: house.waiting() == 0, 60, "booked")
    house.engine.dispose()
    mariadb.stop()
    try:
        process.wait_said("does not answer")
        time.sleep(2)
        assert process.text().count("does not answer") == 1
    finally:
        mariadb.start()
    house.store(world.between(now - 6 * BUCKET, now))
    wait_for(lambda: house.waiting() == 0, 60, "booked")
    process.wait_said("the database is back")
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.text()
    house.engine.dispose()
