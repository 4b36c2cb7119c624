"""From samples to books, on both databases."""

import json
from pathlib import Path

import pytest
from bookkeeper import store
from bookkeeper.service import Keeper, Progress, Work, rebuild
from bookkeeper.store import Store, TakenError
from sqlalchemy import Connection, insert, select
from sunmesh.database import energy, sql, tables
from sunmesh.house import EnergySection, FlowSection

from .conftest import BUCKET, DAY, DEVICES, FAR, ROME, T0, House, World

HOUR = 3_600_000
NOON = T0 + 12 * HOUR


def alike(left: dict[int, tuple], right: dict[int, tuple], wh: float = 0.6) -> None:
    assert left.keys() == right.keys()
    for ts in left:
        assert left[ts][0] == pytest.approx(right[ts][0], abs=wh), ts
        assert left[ts][2] == right[ts][2], ts
        assert left[ts][3] == pytest.approx(right[ts][3], abs=60)


def test_a_day_is_booked_as_it_was(house: House, world: World) -> None:
    house.store(world.samples)
    house.book()
    assert house.waiting() == 0
    for flow, wh in world.wh.items():
        assert house.wh(flow) == pytest.approx(wh, abs=max(5, wh * 0.003)), flow
    pv = house.books("pv")
    assert {row[1:3] for row in pv.values()} == {("lifetime", "measured")}
    assert {row[1:3] for row in house.books("battery_charge").values()} == {("power", "integrated")}
    assert {row[3] for ts, row in pv.items() if ts < T0 + DAY} == {300}
    figures = house.ask(lambda c: energy.figures(c, ROME, *energy.period("2026-07"), T0 + DAY))
    assert figures.wh("pv") == pytest.approx(world.wh["pv"], abs=5)
    assert figures.losses_wh == pytest.approx(0, abs=20)


def test_piece_by_piece_is_the_same_as_at_once(house: House, world: World) -> None:
    keeper = house.keeper()
    start, end = T0 + 6 * HOUR, T0 + 8 * HOUR
    for ts in range(start, end, BUCKET):
        house.store(world.between(ts, ts + BUCKET))
        house.book(ts + BUCKET, keeper)
    pieces = {flow: house.books(flow) for flow in world.wh}
    keeper.store.close()
    house.empty_books()
    house.book()
    for flow, books in pieces.items():
        alike(books, house.books(flow))
        assert sum(row[0] for row in books.values()) == pytest.approx(house.wh(flow), abs=0.05)


def test_late_samples_book_again_just_what_they_touch(house: House, world: World) -> None:
    gap = (NOON, NOON + 40 * 60_000)
    house.store(world.but(*gap))
    house.book()
    before = house.books("pv")
    inside = [ts for ts in before if gap[0] <= ts < gap[1]]
    assert {before[ts][2] for ts in inside} == {"recovered"}
    assert house.wh("pv") == pytest.approx(world.wh["pv"], abs=5)
    holes = house.books("battery_charge")
    assert not any(gap[0] < ts < gap[1] - BUCKET for ts in holes), "power is not known in a gap"

    house.store(world.between(*gap))
    changed = house.book()
    after = house.books("pv")
    assert {after[ts][2] for ts in inside} == {"measured"}
    moved = {ts for ts in after if before.get(ts) != after[ts]}
    assert moved, "something changed"
    assert min(moved) >= gap[0] - BUCKET
    assert max(moved) <= gap[1] + BUCKET
    assert changed <= 8 * (len(inside) + 3)
    house.store(world.between(*gap))  # a replay changes nothing
    assert house.book() == 0


def test_a_sample_that_comes_while_booking_is_not_missed(
    house: House, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.store(world.between(T0 + 8 * HOUR, T0 + 9 * HOUR))
    keeper = house.keeper()
    keeper.store.hold()
    write = Keeper._write
    late = world.between(T0 + 9 * HOUR, T0 + 9 * HOUR + 60_000)

    def slow(self: Keeper, connection: Connection, work: Work) -> int:
        return write(self, connection, work)

    def read_then_store(
        self: Keeper, connection: Connection, before: int, most: int, since: int
    ) -> Work | None:
        found = read(self, connection, before, most, since)
        if found is not None and late:
            seen.append([mark.ts for mark in found.seen])
        return found

    seen: list[list[int]] = []
    read = Keeper._read
    monkeypatch.setattr(Keeper, "_read", read_then_store)
    monkeypatch.setattr(Keeper, "_write", slow)
    ask = keeper.store.read

    def ask_then_store(work):  # type: ignore[no-untyped-def]
        answer = ask(work)
        if isinstance(answer, Work):
            house.store({("inverter", "pv_power_w"): [(answer.seen[0].ts + 7, 1.0)]})
        return answer

    monkeypatch.setattr(keeper.store, "read", ask_then_store)
    turn = keeper.turn(FAR)
    assert turn is not None
    assert house.waiting() == 1 + 12 - len(turn.seen), "its mark stands again"


def test_killed_between_reading_and_committing_changes_nothing(
    house: House, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.store(world.between(T0 + 8 * HOUR, T0 + 9 * HOUR))
    keeper = house.keeper()
    keeper.store.hold()

    def die(_connection: Connection, _seen: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "done", die)
    with pytest.raises(KeyboardInterrupt):
        keeper.turn(FAR)
    monkeypatch.undo()
    keeper.store.close()
    assert house.books("pv") == {}
    assert house.waiting() == 12
    house.book()
    assert house.waiting() == 0
    assert len(house.books("pv")) == 12


def test_one_keeps_the_books_the_second_is_told(house: House) -> None:
    first, second = house.keeper(), house.keeper()
    first.store.hold()
    first.store.hold()
    assert second.store.is_held()
    with pytest.raises(TakenError, match="another bookkeeper"):
        second.store.hold()
    first.store.close()
    second.store.hold()


def test_a_new_device_becomes_a_part_without_a_restart(house: House, world: World) -> None:
    keeper = house.keeper()
    some = world.between(T0 + 8 * HOUR, T0 + 9 * HOUR)
    house.store({pair: readings for pair, readings in some.items() if pair[0] == "inverter"})
    house.book(keeper=keeper)
    assert keeper.flows == ("pv", "load")
    house.store({pair: readings for pair, readings in some.items() if pair[0] != "inverter"})
    house.book(keeper=keeper)
    assert "battery_charge" in keeper.flows
    assert len(house.books("battery_charge")) == 12


def test_minutes_stand_in_for_samples_that_are_gone(house: House, world: World) -> None:
    house.store(world.samples)
    house.book()
    exact = {flow: house.books(flow) for flow in ("pv", "battery_charge", "grid_import")}

    def age(connection: Connection) -> None:
        rows = connection.execute(select(tables.sample)).all()
        minutes: dict[tuple[int, int], list[float]] = {}
        for number, ts, value in rows:
            minutes.setdefault((number, ts - ts % 60_000), []).append(value)
        connection.execute(
            insert(tables.minute),
            [
                {
                    "series_id": number,
                    "ts": ts,
                    "min": min(values),
                    "max": max(values),
                    "mean": sum(values) / len(values),
                    "last": values[-1],
                    "covered_ms": 60_000,
                    "samples": len(values),
                }
                for (number, ts), values in minutes.items()
            ],
        )
        half = T0 + 14 * HOUR + 17 * 60_000
        connection.execute(tables.sample.delete().where(tables.sample.c.ts < half))
        for table in (tables.energy, tables.energy_day):
            connection.execute(table.delete())
        store.mark(connection, range(T0, T0 + DAY, BUCKET))

    house.ask(age)
    house.book()
    for flow, books in exact.items():
        again = house.books(flow)
        assert house.wh(flow) == pytest.approx(sum(row[0] for row in books.values()), abs=12), flow
        shared = books.keys() & again.keys()
        assert len(shared) >= len(books) - 2
        for ts in shared:
            assert again[ts][0] == pytest.approx(books[ts][0], abs=16), (flow, ts)


def test_what_no_reading_tells_any_more_stays_booked(house: House, world: World) -> None:
    house.store(world.samples)
    house.book()
    before = house.books("pv")
    half = T0 + 12 * HOUR
    house.ask(lambda c: c.execute(tables.sample.delete().where(tables.sample.c.ts < half)))
    reported: list[Progress] = []
    start, end, mine = rebuild(house.keeper(), T0, T0 + DAY, reported.append)
    assert (start, end, mine) == (half, T0 + DAY, True)
    assert reported[-1] == Progress(144, 144)
    assert house.books("pv").keys() == before.keys()
    assert house.wh("pv") == pytest.approx(world.wh["pv"], abs=40)


def test_an_edit_stands_when_late_samples_come(house: House, world: World) -> None:
    house.store(world.but(NOON, NOON + HOUR))
    house.book()
    change = energy.Change("pv", NOON, NOON + HOUR, 123.0)
    number = house.ask(lambda c: energy.edit(c, ROME, [change], by="anna", reason="x", now=FAR))
    house.store(world.between(NOON, NOON + HOUR))
    house.book()
    inside = [row for ts, row in house.books("pv").items() if NOON <= ts < NOON + HOUR]
    assert sum(row[0] for row in inside) == pytest.approx(123)
    assert {row[2] for row in inside} == {"edited"}
    house.ask(lambda c: energy.undo(c, ROME, number, "anna"))
    inside = [row for ts, row in house.books("pv").items() if NOON <= ts < NOON + HOUR]
    assert {row[2] for row in inside} == {"measured"}
    assert house.wh("pv") == pytest.approx(world.wh["pv"], abs=5)


def test_without_a_meter_the_grid_is_what_is_left_over(house: House, world: World) -> None:
    some = {
        pair: readings
        for pair, readings in world.between(T0, T0 + 4 * HOUR).items()
        if pair[0] != "meter"
    }
    some["inverter", "grid_voltage_v"] = [
        (ts, 230.0) for ts, _ in some["battery", "battery_power_w"]
    ]
    house.store(some)
    house.book()
    found = house.books("grid_import")
    assert {row[1:3] for row in found.values()} == {("balance", "estimated")}
    truth = 4 * 500 + 300 * 1.6536  # what the house drew, all from battery and grid
    given = house.wh("battery_discharge")
    assert house.wh("grid_import") == pytest.approx(truth - given, abs=25)


def test_a_silent_device_is_no_smaller_total(house: House, world: World) -> None:
    """Two inverters, one falls silent: covered says so; the books say that they lack it."""
    one = world.between(T0 + 8 * HOUR, T0 + 12 * HOUR)
    pv = {p: r for p, r in one.items() if p[1] == "pv_power_w"}
    twin = {
        ("twin", "pv_power_w"): pv["inverter", "pv_power_w"][
            : len(pv["inverter", "pv_power_w"]) // 2
        ]
    }
    house.store(pv | twin)
    house.book(keeper=house.keeper(devices=DEVICES | {"twin": {"family": "axpert"}}))
    rows = house.books("pv")
    late = [row for ts, row in rows.items() if ts > T0 + 10 * HOUR + BUCKET]
    assert all(row[3] == 0 for row in late)
    assert all(row[3] == 300 for ts, row in rows.items() if ts < T0 + 10 * HOUR - BUCKET)


def test_the_owner_says_what_feeds_a_flow(house: House, world: World) -> None:
    house.store(world.between(T0 + 8 * HOUR, T0 + 9 * HOUR))
    section = EnergySection(
        pv=FlowSection(power=("inverter.pv_power_w",)),
        load=FlowSection(),
        grid_export=FlowSection(power=("meter.grid_power_w",)),
    )
    house.book(keeper=house.keeper(section))
    assert {row[1] for row in house.books("pv").values()} == {"power"}
    assert house.books("load") == {}
    assert {row[1] for row in house.books("grid_export").values()} == {"power"}


def test_hours_of_a_full_battery_are_compared_with_the_best_days(house: House) -> None:
    """Three bright days with a load for it all, then one with a full battery."""
    start = T0
    pv, soc, power = [], [], []
    for ts in range(start, start + 4 * DAY, 60_000):
        hour = ts % DAY / HOUR
        sun = max(0.0, 3000 - 500 * abs(hour - 11))
        full = ts >= start + 3 * DAY + 11 * HOUR and hour < 15
        pv.append((ts, min(sun, 400.0) if full else sun))
        soc.append((ts, 100.0 if full else 60.0))
        power.append((ts, -10.0))
    house.store(
        {
            ("inverter", "pv_power_w"): pv,
            ("battery", "battery_soc_percent"): soc,
            ("battery", "battery_power_w"): power,
            ("battery", "battery_voltage_v"): soc,
            ("battery", "cell_voltage_v/1"): soc,
        }
    )
    house.book()
    rows = house.books("curtailed")
    assert rows
    assert min(rows) >= start + 3 * DAY + 11 * HOUR
    assert {row[1:3] for row in rows.values()} == {("expected", "estimated")}
    lost = sum(3000 - 500 * abs(h - 11) - 400 for h in (11.5, 12.5, 13.5, 14.5))
    assert house.wh("curtailed") == pytest.approx(lost, rel=0.15)


def test_sweeps_measure_the_battery(house: House) -> None:
    """A battery of 10 kWh goes from full to 30 % and back, twice."""
    soc, power = [], []
    level = 100.0
    for minute in range(3 * 24 * 60):
        hour = minute / 60 % 24
        watts = 700.0 if hour < 10 else (-1000.0 if hour < 20 else 0.0)
        if level >= 100 and watts < 0:
            watts = 0.0
        level = min(100.0, level - watts / 60 / 10_000 * 100)
        ts = T0 + minute * 60_000
        soc.append((ts, round(level, 1)))
        power.append((ts, watts))
    house.store(
        {
            ("battery", "battery_soc_percent"): soc,
            ("battery", "battery_power_w"): power,
            ("battery", "battery_voltage_v"): soc,
            ("battery", "cell_voltage_v/1"): soc,
        }
    )
    house.book()
    rows = house.ask(lambda c: c.execute(select(tables.battery_sweep)).all())
    assert len(rows) >= 3
    for row in rows:
        assert row.device == "battery"
        assert row.capacity_wh == pytest.approx(10_000, rel=0.05)
        assert row.confidence > 0.5
    house.empty_books()
    house.book()
    again = house.ask(lambda c: c.execute(select(tables.battery_sweep)).all())
    assert {row.started for row in again} == {row.started for row in rows}


def test_a_rating_and_a_group_come_from_the_devices_themselves(house: House) -> None:
    def say(connection: Connection) -> None:
        for name, info in {
            "inverter": {"family": "axpert", "nameplate": {"ac_output_rating_power_w": 5000}},
            "pair": {"family": "group"},
            "roof-1": {"family": "pvs6", "through": "roof"},
        }.items():
            connection.execute(
                insert(tables.device).values(name=name, info=json.dumps(info), updated=1)
            )

    house.ask(say)
    house.store(
        {
            ("inverter", "pv_power_w"): [(T0, 1.0)],
            ("pair", "pv_power_w"): [(T0, 1.0)],
            ("roof", "pv_power_w"): [(T0, 1.0)],
            ("roof-1", "pv_power_w"): [(T0, 1.0)],
        }
    )
    model = house.keeper().model()
    assert [feed.device for feed in model.flows["pv"].feeds] == ["inverter", "roof"]
    only = house.keeper(EnergySection(left_out=("roof", "roof-1"))).model()
    assert only.flows["pv"].max_power_w == 15000


def test_no_tables_and_no_database_are_told_apart(tmp_path: Path, database_url: str) -> None:
    missing = Store(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(store.UnreadyError, match="there is no database"):
        missing.ready()
    assert not (tmp_path / "none.db").exists()
    bare = Store(database_url)
    with pytest.raises(store.UnreadyError, match="has no tables yet"):
        bare.ready()
    away = Store("mysql+pymysql://nobody@127.0.0.1:1/none")
    with pytest.raises(sql.DatabaseError):
        away.ready()
    for each in (missing, bare, away):
        each.close()
