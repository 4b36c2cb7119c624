"""Bookings, corrections and figures, on both databases."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, func, select
from sunmesh.database import energy as books
from sunmesh.database.days import bounds, local_day
from sunmesh.database.energy import Bucket, Change, Difference, EnergyError
from sunmesh.database.sql import engine
from sunmesh.database.tables import BUCKET_MS, FLAGS, energy, energy_change, energy_day
from sunmesh.testing import migrated

ROME = ZoneInfo("Europe/Rome")
DAY = date(2026, 11, 20)
START, END = bounds(DAY, ROME)
NOW = END + 10 * 86_400_000


@pytest.fixture
def opened(url: str) -> Iterator[Engine]:
    migrated(url)
    made = engine(url)
    yield made
    made.dispose()


def measured(ts: int, wh: float, covered_s: float = 300) -> Bucket:
    return Bucket(ts, wh, "lifetime", "measured", covered_s)


def fill(connection: Connection, days: int = 1, wh: float = 10.0, flow: str = "pv") -> None:
    end = bounds(DAY + timedelta(days=days - 1), ROME)[1]
    buckets = [measured(ts, wh) for ts in range(START, end, BUCKET_MS)]
    books.book(connection, ROME, flow, START, end, buckets)


def contents(connection: Connection) -> list[tuple[object, ...]]:
    """Every row of the books and of their days."""
    return [
        tuple(row)
        for table in (energy, energy_day)
        for row in connection.execute(select(table).order_by(*table.primary_key.columns))
    ]


def day_is_sum(connection: Connection) -> None:
    """Each row of energy_day is what energy says, no more and no less."""
    said = {(row.flow, row.day): row for row in connection.execute(select(energy_day))}
    summed: dict[tuple[str, date], dict[str, float]] = {}
    for row in connection.execute(select(energy)):
        key = (row.flow, local_day(row.ts, ROME))
        mine = summed.setdefault(key, dict.fromkeys(("wh", "covered_s", *FLAGS), 0.0))
        mine["wh"] += row.wh
        mine["covered_s"] += row.covered_s
        mine[row.flag] += row.wh
    assert said.keys() == summed.keys()
    for key, mine in summed.items():
        row = said[key]
        assert row.wh == pytest.approx(mine["wh"])
        assert row.covered_s == mine["covered_s"]
        for flag in FLAGS:
            assert getattr(row, f"{flag}_wh") == pytest.approx(mine[flag])


def test_a_booking_is_what_the_books_say_and_nothing_else(opened: Engine) -> None:
    with opened.begin() as connection:
        fill(connection)
        got = books.figures(connection, ROME, DAY, DAY + timedelta(days=1), NOW)
        assert got.wh("pv") == pytest.approx(2880)
        assert got.covered("pv") == 1
        assert got.wh("load") is None
        assert got.flows["pv"].by_flag == {"measured": pytest.approx(2880)}

        noon = START + 12 * 3_600_000
        changed = books.book(
            connection, ROME, "pv", noon, noon + 3 * BUCKET_MS, [measured(noon, 25.0, 120)]
        )
        assert changed == 3  # one moved, two are not known any more
        got = books.figures(connection, ROME, DAY, DAY + timedelta(days=1), NOW)
        assert got.wh("pv") == pytest.approx(2880 - 30 + 25)
        assert got.covered("pv") == pytest.approx(1 - 780 / 86400)
        day_is_sum(connection)


def test_what_is_so_already_is_not_written_again(opened: Engine) -> None:
    with opened.begin() as connection:
        fill(connection)
        buckets = [measured(ts, 10.0 + 1e-9) for ts in range(START, END, BUCKET_MS)]
        assert books.book(connection, ROME, "pv", START, END, buckets) == 0


def test_a_day_without_buckets_has_no_row(opened: Engine) -> None:
    with opened.begin() as connection:
        fill(connection)
        books.book(connection, ROME, "pv", START, END, [])
        assert contents(connection) == []
        assert books.span(connection) is None
        assert books.figures(connection, ROME, DAY, DAY + timedelta(days=1), NOW).flows == {}


def test_an_edit_corrects_day_month_and_year_and_undo_restores_them(opened: Engine) -> None:
    noon = START + 12 * 3_600_000
    with opened.begin() as connection:
        fill(connection, days=3)
        before = contents(connection)

        def sums() -> list[float | None]:
            return [
                books.figures(connection, ROME, *books.period(text), NOW).wh("pv")
                for text in ("2026-11-20", "2026-11", "2026")
            ]

        assert sums() == [pytest.approx(2880), pytest.approx(8640), pytest.approx(8640)]
        number = books.edit(
            connection,
            ROME,
            [Change("pv", noon, noon + BUCKET_MS, 0.0)],
            by="anna",
            reason="the inverter counted a lightning",
            now=NOW,
        )
        assert sums() == [pytest.approx(2870), pytest.approx(8630), pytest.approx(8630)]
        day_is_sum(connection)
        [entry] = books.edits(connection)
        assert (entry.id, entry.by, entry.undone) == (number, "anna", None)
        assert entry.created == NOW
        [part] = entry.parts
        assert (part.flow, part.start, part.end) == ("pv", noon, noon + BUCKET_MS)
        assert (part.buckets, part.old_wh, part.new_wh) == (1, 10.0, 0.0)

        assert number is not None
        assert books.undo(connection, ROME, number, "bert", NOW + 1) == 1
        assert contents(connection) == before
        [entry] = books.edits(connection)
        assert (entry.undone, entry.undone_by) == (NOW + 1, "bert")
        with pytest.raises(EnergyError, match="was undone by bert"):
            books.undo(connection, ROME, number, "anna")


def test_a_total_goes_in_proportion_and_evenly_where_there_is_nothing(opened: Engine) -> None:
    half = START + 12 * 3_600_000
    with opened.begin() as connection:
        buckets = [measured(half, 30.0), measured(half + BUCKET_MS, 10.0)]
        books.book(connection, ROME, "pv", START, END, buckets)
        for flow in ("pv", "load"):
            books.edit(
                connection, ROME, [Change(flow, START, END, 8000.0)], by="a", reason="b", now=NOW
            )
        found = dict(
            connection.execute(
                select(energy.c.ts, energy.c.wh).where(energy.c.flow == "pv", energy.c.wh > 0)
            ).all()
        )
        assert found == {half: pytest.approx(6000), half + BUCKET_MS: pytest.approx(2000)}
        low, high, count = connection.execute(
            select(func.min(energy.c.wh), func.max(energy.c.wh), func.count()).where(
                energy.c.flow == "load"
            )
        ).one()
        assert low == high == pytest.approx(8000 / 288)
        assert count == 288
        day_is_sum(connection)


def test_a_booking_under_an_edit_waits_for_its_undo(opened: Engine) -> None:
    noon = START + 12 * 3_600_000
    with opened.begin() as connection:
        books.book(connection, ROME, "pv", noon, noon + BUCKET_MS, [measured(noon, 1.0)])
        number = books.edit(
            connection,
            ROME,
            [Change("pv", noon, noon + 3 * BUCKET_MS, 90.0)],
            by="a",
            reason="b",
            now=NOW,
        )
        late = [measured(noon, 2.0), measured(noon + BUCKET_MS, 3.0)]
        assert books.book(connection, ROME, "pv", noon, noon + 3 * BUCKET_MS, late) == 2
        day = (DAY, DAY + timedelta(days=1))
        assert books.figures(connection, ROME, *day, NOW).wh("pv") == pytest.approx(90)
        assert number is not None
        books.undo(connection, ROME, number, "a")
        assert books.figures(connection, ROME, *day, NOW).wh("pv") == pytest.approx(5)
        assert connection.execute(select(func.count()).select_from(energy)).scalar() == 2
        day_is_sum(connection)


def test_undo_is_refused_while_a_later_edit_covers_a_part(opened: Engine) -> None:
    noon = START + 12 * 3_600_000

    def ask(wh: float, length: int, reason: str) -> int:
        change = Change("pv", noon, noon + length * BUCKET_MS, wh)
        number = books.edit(connection, ROME, [change], by="anna", reason=reason, now=NOW)
        assert number is not None
        return number

    with opened.begin() as connection:
        fill(connection)
        first = ask(100, 4, "first thought")
        middle = contents(connection)
        second = ask(7, 1, "second thought")
        with pytest.raises(EnergyError, match=f"later edit {second} .anna, .*second thought"):
            books.undo(connection, ROME, first, "anna")
        books.undo(connection, ROME, second, "anna")
        assert contents(connection) == middle
        books.undo(connection, ROME, first, "anna")
        assert (
            connection.execute(select(func.count()).where(energy.c.edit_id.is_not(None))).scalar()
            == 0
        )
        assert books.figures(connection, ROME, DAY, DAY + timedelta(days=1), NOW).wh(
            "pv"
        ) == pytest.approx(2880)


def test_an_import_twice_changes_nothing_the_second_time(opened: Engine) -> None:
    def days(count: int, wh: float) -> list[Change]:
        return [
            Change("pv", *bounds(DAY - timedelta(days=back), ROME), wh) for back in range(count)
        ]

    def take_in(changes: list[Change]) -> int | None:
        return books.edit(
            connection,
            ROME,
            changes,
            by="sunmesh import",
            reason="old.csv",
            kind="import",
            document={"file": "old.csv"},
            now=NOW,
        )

    with opened.begin() as connection:
        fill(connection)
        before = contents(connection)
        wanted = days(70, 2880.0)
        assert books.difference(connection, ROME, wanted, NOW)[-1] == Difference(
            "pv", DAY - timedelta(days=1), None, pytest.approx(2880)
        )
        assert contents(connection) == before
        number = take_in(wanted)
        assert number is not None
        assert books.difference(connection, ROME, wanted, NOW) == []
        assert take_in(wanted) is None
        assert len(books.edits(connection)) == 1
        day_is_sum(connection)
        # the day that said so already is still measured, the others are imported
        got = books.figures(connection, ROME, *books.period("2026-11"), NOW)
        assert got.flows["pv"].by_flag == {
            "measured": pytest.approx(2880),
            "imported": pytest.approx(19 * 2880),
        }
        assert books.span(connection) == (DAY - timedelta(days=69), DAY + timedelta(days=1))
        assert books.edits(connection)[0].document == {"file": "old.csv"}

        third = take_in(days(70, 2880.0)[:5] + [Change("pv", *bounds(DAY - timedelta(5), ROME), 1)])
        [part] = books.edits(connection, limit=1)[0].parts
        assert third is not None
        assert (part.buckets, part.new_wh) == (288, pytest.approx(1))
        books.undo(connection, ROME, third, "anna")
        books.undo(connection, ROME, number, "anna")
        assert contents(connection) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Change("sun", START, END, 1.0), "'sun' is no flow"),
        (Change("pv", START + 1, END, 1.0), "full five minutes"),
        (Change("pv", END, START, 1.0), "is before"),
        (Change("pv", START, START, 1.0), "is empty"),
        (Change("pv", START, END, -1.0), "-1 Wh"),
        (Change("pv", START, END, float("nan")), "nan Wh"),
        (Change("pv", START, NOW + BUCKET_MS * 2 - NOW % BUCKET_MS, 1.0), "in the future"),
    ],
)
def test_what_cannot_be_is_refused(opened: Engine, change: Change, says: str) -> None:
    with opened.begin() as connection:
        with pytest.raises(EnergyError, match=says):
            books.edit(connection, ROME, [change], by="a", reason="b", now=NOW)
        assert books.edits(connection) == []


def test_overlaps_nobody_and_no_reason_are_refused(opened: Engine) -> None:
    one = Change("pv", START, END, 1.0)
    inside = Change("pv", START + BUCKET_MS, START + 2 * BUCKET_MS, 1.0)
    with opened.begin() as connection:
        with pytest.raises(EnergyError, match="overlap"):
            books.edit(connection, ROME, [inside, one], by="a", reason="b", now=NOW)
        with pytest.raises(EnergyError, match="who"):
            books.edit(connection, ROME, [one], by=" ", reason="b", now=NOW)
        with pytest.raises(EnergyError, match="reason"):
            books.edit(connection, ROME, [one], by="a", reason="", now=NOW)
        with pytest.raises(EnergyError, match="no edit 9"):
            books.undo(connection, ROME, 9, "a")
        for bad in (measured(START, -1), measured(START + 1, 1), measured(END, 1)):
            with pytest.raises(EnergyError):
                books.book(connection, ROME, "pv", START, END, [bad])


def test_edits_in_any_order_undone_newest_first_leave_no_trace(opened: Engine) -> None:
    chance = random.Random(4)  # noqa: S311 - seeded
    with opened.begin() as connection:
        fill(connection, days=2)
        before = contents(connection)
        made: list[int] = []
        states = [before]
        for _ in range(12):
            start = START + chance.randrange(400) * BUCKET_MS
            end = start + chance.randrange(1, 150) * BUCKET_MS
            change = Change(chance.choice(["pv", "load"]), start, end, chance.random() * 9000)
            number = books.edit(connection, ROME, [change], by="a", reason="b", now=NOW)
            assert number is not None
            made.append(number)
            day_is_sum(connection)
            states.append(contents(connection))
        for number in reversed(made):
            states.pop()
            books.undo(connection, ROME, number, "a")
            day_is_sum(connection)
            assert [row[:2] for row in contents(connection)] == [row[:2] for row in states[-1]]
        assert contents(connection) == before


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Rome", date(2026, 3, 29), 23),
        ("Europe/Rome", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("America/Santiago", date(2026, 9, 6), 23),
        ("Asia/Kolkata", date(2026, 6, 1), 24),
    ],
)
def test_a_day_has_the_hours_that_the_clock_on_the_wall_gives_it(
    opened: Engine, zone: str, day: date, hours: float
) -> None:
    there = ZoneInfo(zone)
    start, end = bounds(day, there)
    assert end - start == hours * 3_600_000
    first, last = bounds(day - timedelta(days=1), there)[0], bounds(day + timedelta(1), there)[1]
    with opened.begin() as connection:
        buckets = [measured(ts, 1.0) for ts in range(first, last, BUCKET_MS)]
        books.book(connection, there, "pv", first, last, buckets)
        rows = books.table(
            connection, there, day - timedelta(days=1), day + timedelta(days=2), "day", NOW
        )
        sums = [row.wh("pv") for row in rows]
        assert sums[1] == pytest.approx(hours * 12)
        assert rows[1].covered("pv") == 1
        month = books.figures(connection, there, day - timedelta(days=1), day + timedelta(2), NOW)
        assert month.wh("pv") == pytest.approx(sum(wh or 0 for wh in sums))


def test_what_a_period_comes_to(opened: Engine) -> None:
    with opened.begin() as connection:
        for flow, wh in {
            "pv": 10.0,
            "load": 8.0,
            "grid_import": 2.0,
            "grid_export": 3.0,
            "battery_charge": 4.0,
            "battery_discharge": 4.0,
        }.items():
            fill(connection, wh=wh, flow=flow)
        got = books.figures(connection, ROME, *books.period("2026-11-20"), NOW)
        assert got.self_consumption == pytest.approx(0.7)
        assert got.autarky == pytest.approx(0.75)
        assert got.losses_wh == pytest.approx(288)
        by_month = books.table(connection, ROME, *books.period("2026"), "month", NOW)
        assert [f.wh("pv") for f in by_month] == [None] * 10 + [pytest.approx(2880), None]
        # half of the day has gone by
        noon = START + 12 * 3_600_000
        assert (
            books.figures(connection, ROME, *books.period("2026-11-20"), noon).elapsed_s
            == 12 * 3600
        )


@pytest.mark.parametrize("text", ["", "2026-13", "2026-02-30", "26", "today", "0000", "2026-1-1"])
def test_no_period(text: str) -> None:
    with pytest.raises(EnergyError, match="no day, month or year"):
        books.period(text)


def test_two_who_write_the_same_day_at_once_lose_nothing(url: str, opened: Engine) -> None:
    """Bookings and edits of one day from three threads: the day is their sum."""
    with opened.begin() as connection:
        fill(connection)

    def booker(offset: int) -> None:
        mine = engine(url)
        for turn in range(15):
            ts = START + (offset * 60 + turn) * BUCKET_MS
            books.transact(
                mine,
                lambda c, at=ts: books.book(  # type: ignore[misc]
                    c, ROME, "pv", at, at + BUCKET_MS, [measured(at, 50.0)]
                ),
                tries=20,
            )
        mine.dispose()

    def editor(offset: int) -> None:
        mine = engine(url)
        for turn in range(15):
            ts = START + (offset * 60 + turn) * BUCKET_MS
            change = Change("pv", ts, ts + BUCKET_MS, 70.0)
            books.transact(
                mine,
                lambda c, it=change: books.edit(  # type: ignore[misc]
                    c, ROME, [it], by="a", reason="b", now=NOW
                ),
                tries=20,
            )
        mine.dispose()

    jobs: list[tuple[Callable[[int], None], int]] = [(booker, 0), (booker, 1), (editor, 2)]
    with ThreadPoolExecutor(3) as pool:
        for job in [pool.submit(work, offset) for work, offset in jobs]:
            job.result(60)
    with opened.begin() as connection:
        day_is_sum(connection)
        got = books.figures(connection, ROME, DAY, DAY + timedelta(days=1), NOW)
        assert got.wh("pv") == pytest.approx(2880 + 30 * 40 + 15 * 60)
        changes = connection.execute(select(func.count()).select_from(energy_change)).scalar()
        assert changes == 15
