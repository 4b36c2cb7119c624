"""What is taken and what is not, what a killed import leaves, and what undoing does."""

import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sunmesh.archive.importing import batches, formats, plan, scratch, stamps
from sunmesh.archive.importing.mapping import Column, Mapping, TimeColumn
from sunmesh.archive.importing.records import Energy, Options, Record
from sunmesh.database import energy as books
from sunmesh.database.days import local_day, midnight
from sunmesh.database.sql import engine

from .importing import (
    SAMPLES,
    ZONE,
    execute,
    fresh_sqlite,
    kept_mariadb,
    query,
    runner,
    site_of,
    sqlite_url,
    states,
    url,
    values,
    whole,
)

__all__ = ["fresh_sqlite", "kept_mariadb", "sqlite_url", "url"]

BRATISLAVA = ZoneInfo(ZONE)
HOUR = 3_600_000
START = 1_699_963_200_000
"""2023-11-14 12:00 UTC."""


def table(folder: Path, rows: list[tuple[int, float]], name: str = "old.csv") -> Path:
    path = folder / name
    lines = [
        f"{datetime.fromtimestamp(ms / 1000, UTC).isoformat()},{value!r}" for ms, value in rows
    ]
    path.write_text("\n".join(["time,P", *lines]) + "\n", encoding="utf-8")
    return path


def how(to: str = "inverter.pv_power_w", **more: object) -> Options:
    mapping = Mapping([Column("P", to=to)])
    return Options(BRATISLAVA, BRATISLAVA, {}, mapping, **more)  # type: ignore[arg-type]


def made(
    url: str, *paths: Path, options: Options | None = None, replace: bool = False
) -> plan.Plan:
    return plan.make(url, formats.named("csv"), paths, options or how(), replace=replace)


def imported(url: str, *paths: Path, options: Options | None = None) -> int | None:
    with made(url, *paths, options=options) as found:
        return batches.apply(found, url)


def minutes(count: int, start: int = START) -> list[tuple[int, float]]:
    return [(start + k * 60_000, float(k)) for k in range(count)]


def series(url: str, device: str = "inverter", name: str = "pv_power_w") -> None:
    execute(
        url,
        "INSERT INTO series (device, name, unit, kind)"
        f" VALUES ('{device}', '{name}', 'W', 'gauge')",
    )


def stored(url: str, rows: list[tuple[int, float]], number: int = 1) -> None:
    execute(url, *(f"INSERT INTO sample VALUES ({number}, {ms}, {value})" for ms, value in rows))


# -- what is taken ---------------------------------------------------------------------------------


def test_equal_is_there_and_different_is_a_conflict(url: str, tmp_path: Path) -> None:
    series(url)
    stored(url, [(START, 0.0), (START + 60_000, 77.0)])
    path = table(tmp_path, minutes(20))
    with made(url, path) as found:
        assert (found.counts.samples, found.counts.same, found.counts.conflicts) == (18, 1, 1)
        [(_place, line, reason)] = found.conflicts.first
        assert line == 3
        assert "is 77 here, 1 there" in reason
        [day] = found.days()
        assert (day.there, day.new, day.before, day.after) == (2, 18, 38.5, (190 - 1 + 77) / 20)
        batches.apply(found, url)
    assert values(url, "inverter", "pv_power_w")[:2] == [(START, 0.0), (START + 60_000, 77.0)]
    assert len(values(url, "inverter", "pv_power_w")) == 20


def test_where_the_database_has_its_own_the_file_s_are_left_out(url: str, tmp_path: Path) -> None:
    series(url)
    stored(url, [(START + 602_000, 5.0)])  # in the stretch from minute 10
    path = table(tmp_path, minutes(20))
    with made(url, path) as found:
        assert (found.counts.samples, found.counts.covered) == (15, 5)
        batches.apply(found, url)
    times = [(ms - START) // 60_000 for ms, _value in values(url, "inverter", "pv_power_w")]
    assert times == [*range(10), 10, *range(15, 20)]


def test_a_longer_file_goes_on_where_the_shorter_ended(sqlite_url: str, tmp_path: Path) -> None:
    assert imported(sqlite_url, table(tmp_path, minutes(8))) == 1
    assert imported(sqlite_url, table(tmp_path, minutes(20))) == 2
    assert imported(sqlite_url, table(tmp_path, minutes(12), "short.csv")) is None
    assert imported(sqlite_url, table(tmp_path, minutes(3, START + 30_000), "other.csv")) == 3
    assert len(values(sqlite_url, "inverter", "pv_power_w")) == 23


def test_what_was_retired_is_not_new_again(url: str, tmp_path: Path) -> None:
    path = table(tmp_path, minutes(120))
    series(url)
    execute(
        url,
        f"INSERT INTO horizon VALUES ('sample', {START + 10 * HOUR})",
        f"INSERT INTO hour VALUES (1, {START + HOUR}, 1, 1, 1, 1, 3600000, 60)",
    )
    with made(url, path) as found:  # the second hour is known, though not its samples
        assert (found.counts.samples, found.counts.covered) == (60, 60)
        assert batches.apply(found, url) == 1
    execute(
        url,
        "DELETE FROM sample",
        f"INSERT INTO hour VALUES (1, {START}, 0, 59, 30, 59, 3540000, 60)",
    )
    with made(url, path) as found:
        assert found.changes_nothing
        assert (found.counts.same, found.counts.covered) == (60, 60)


def test_undo_takes_the_rollups_of_retired_samples_back(url: str, tmp_path: Path) -> None:
    series(url)
    day = midnight(local_day(START, BRATISLAVA), BRATISLAVA)
    theirs = START + HOUR
    execute(
        url,
        f"INSERT INTO horizon VALUES ('sample', {START + 20 * HOUR})",
        f"INSERT INTO minute VALUES (1, {theirs}, 4, 6, 5, 6, 60000, 12)",
        f"INSERT INTO hour VALUES (1, {theirs}, 4, 6, 5, 6, 60000, 12)",
        f"INSERT INTO day VALUES (1, {day}, 4, 6, 5, 6, 60000, 12)",
    )
    first = whole(url)
    assert imported(url, table(tmp_path, minutes(10))) == 1
    execute(
        url,
        *(
            f"INSERT INTO minute VALUES (1, {ms}, {v}, {v}, {v}, {v}, 60000, 1)"
            for ms, v in minutes(10)
        ),
        f"INSERT INTO minute VALUES (1, {START + 600_000}, 9, 9, 9, 9, 60000, 0)",
        f"INSERT INTO hour VALUES (1, {START}, 0, 9, 4.5, 9, 600000, 10)",
        f"UPDATE day SET min = 0, max = 9, samples = 22, covered_ms = 660000 WHERE ts = {day}",
        "DELETE FROM sample",
    )
    batches.undo(url, 1, BRATISLAVA, by="test")
    assert whole(url) == first


def test_states_are_taken_before_the_first_of_one_s_own(url: str, tmp_path: Path) -> None:
    execute(
        url,
        "INSERT INTO series (device, name, unit, kind) VALUES"
        " ('inverter', 'device_mode', '', 'state')",
        f"INSERT INTO state VALUES (1, {START + 300_000}, 'line')",
    )
    path = tmp_path / "modes.csv"
    words = ["B", "B", "L", "L", "B", "B", "L", "B"]
    lines = [f"{(START + k * 60_000) // 1000},{word}" for k, word in enumerate(words)]
    path.write_text("\n".join(["t,P", *lines]) + "\n")
    mapping = Mapping([Column("P", to="inverter.device_mode", words={"B": "battery", "L": "line"})])
    options = Options(BRATISLAVA, BRATISLAVA, {}, mapping)
    first = whole(url)
    assert imported(url, path, options=options) == 1
    assert states(url, "inverter", "device_mode") == [
        (START, "battery"),
        (START + 120_000, "line"),
        (START + 240_000, "battery"),
        (START + 300_000, "line"),
    ]
    assert imported(url, path, options=options) is None
    batches.undo(url, 1, BRATISLAVA)
    assert whole(url) == first


def test_times_that_cannot_be_are_refused(sqlite_url: str, tmp_path: Path) -> None:
    soon = round((datetime.now(UTC) + timedelta(hours=2)).timestamp() * 1000)
    rows = [(10 * HOUR, 1.0), (soon, 1.0), (START, -3.0), (START + 1, 1.0)]
    with made(sqlite_url, table(tmp_path, rows)) as found:
        reasons = [reason for _place, _line, reason in found.refused.first]
        assert [line for _place, line, _reason in found.refused.first] == [2, 3, 4]
        assert "before 2000" in reasons[0]
        assert "in the future" in reasons[1]
        assert "below 0" in reasons[2]
        assert found.counts.samples == 1


def test_a_counter_that_falls_is_taken_and_said(sqlite_url: str, tmp_path: Path) -> None:
    rows = [(START, 10.0), (START + 60_000, 11.0), (START + 120_000, 3.0)]
    options = how("inverter.pv_energy_total_kwh")
    with made(sqlite_url, table(tmp_path, rows), options=options) as found:
        assert found.counts.samples == 3
        [(_place, line, reason)] = found.warned.first
        assert (line, "falls from 11 to 3" in reason) == (4, True)


def test_the_same_moment_twice(sqlite_url: str, tmp_path: Path) -> None:
    rows = [(START, 1.0), (START, 1.0), (START, 2.0)]
    with made(sqlite_url, table(tmp_path, rows)) as found:
        assert found.counts.samples == 1
        assert [reason for _p, _l, reason in found.twice.first] == [
            "comes again with another value"
        ]


def test_what_was_stored_is_marked_for_rollups_and_books(url: str, tmp_path: Path) -> None:
    imported(url, table(tmp_path, minutes(7)))
    marks = query(url, "SELECT consumer, ts, version FROM dirty ORDER BY consumer, ts")
    assert [(name, int(ts)) for name, ts, _version in marks] == [
        *(("books", START), ("books", START + 300_000)),
        *(("rollup", START), ("rollup", START + 300_000)),
    ]
    batches.undo(url, 1, BRATISLAVA)
    again = query(url, "SELECT version FROM dirty")
    assert {version for (version,) in again} == {2}


# -- energies --------------------------------------------------------------------------------------


def energies(*found: Energy) -> Callable[[list[Path], Options], Iterator[tuple[int, Record]]]:
    return lambda _paths, _options: ((0, each) for each in found)


@pytest.fixture
def of_energies(tmp_path: Path) -> Callable[..., plan.Plan]:
    """A plan of energies that no file needs to hold."""
    path = table(tmp_path, minutes(1), "energies.csv")

    def make(url: str, *found: Energy, replace: bool = False) -> plan.Plan:
        general = formats.named("csv")
        chosen = type(general)(general.name, general.title, general.looks, energies(*found))
        return plan.make(url, chosen, [path], how(), replace=replace)

    return make


def booked(url: str, flow: str = "pv") -> dict[int, tuple[float, str]]:
    return {
        int(ts): (wh, flag)
        for ts, wh, flag in query(url, f"SELECT ts, wh, flag FROM energy WHERE flow = '{flow}'")
    }


def test_energies_cut_at_the_borders_of_buckets(
    url: str, of_energies: Callable[..., plan.Plan]
) -> None:
    first = START + 120_000
    found = of_energies(
        url,
        Energy(2, "pv", first, first + 60_000, 1.0),
        Energy(3, "pv", first + 60_000, first + 1_260_000, 20.0),
    )
    with found:
        assert batches.apply(found, url) == 1
    shares = [wh for wh, _flag in booked(url).values()]
    assert shares == pytest.approx([3, 5, 5, 5, 3])
    assert {flag for _wh, flag in booked(url).values()} == {"imported"}
    [(total,)] = query(url, "SELECT SUM(imported_wh) FROM energy_day")
    assert total == pytest.approx(21)


def test_the_books_stay_unless_the_file_is_to_win(
    url: str, of_energies: Callable[..., plan.Plan]
) -> None:
    opened = engine(url)
    with opened.begin() as connection:
        own = [books.Bucket(START, 40.0, "power", "integrated", 300)]
        books.book(connection, BRATISLAVA, "pv", START, START + HOUR, own)
    opened.dispose()
    first = whole(url)
    hours = (
        Energy(2, "pv", START, START + HOUR, 600.0),
        Energy(3, "pv", START + HOUR, START + 2 * HOUR, 120.0),
    )
    with of_energies(url, *hours) as found:
        assert (found.counts.energies, found.counts.conflicts) == (1, 1)
        assert "the books have 0.040 kWh of it, the file 0.600" in found.conflicts.first[0][2]
        [day] = found.days()
        assert (day.before, day.after) == (0.04, pytest.approx(0.16))
        batches.apply(found, url)
    assert booked(url)[START] == (40.0, "integrated")
    with of_energies(url, *hours, replace=True) as found:
        assert (found.counts.energies, found.counts.same) == (1, 1)
        assert batches.apply(found, url) == 2
    assert sum(wh for wh, _flag in booked(url).values()) == pytest.approx(720)
    with of_energies(url, *hours, replace=True) as found:
        assert found.changes_nothing
    with pytest.raises(batches.BatchError, match="the later import 2 .* undo that one first"):
        batches.undo(url, 1, BRATISLAVA)
    batches.undo(url, 2, BRATISLAVA)
    batches.undo(url, 1, BRATISLAVA)
    assert whole(url) == first


def test_energies_that_overlap_or_are_not_over_are_refused(
    sqlite_url: str, of_energies: Callable[..., plan.Plan]
) -> None:
    now = round(datetime.now(UTC).timestamp() * 1000)
    today = now - now % HOUR
    found = of_energies(
        sqlite_url,
        Energy(2, "pv", START, START + HOUR, 1.0),
        Energy(3, "pv", START + HOUR // 2, START + 2 * HOUR, 1.0),
        Energy(4, "load", today, today + HOUR, 1.0),
        Energy(5, "load", START, START + HOUR, -1.0),
        Energy(6, "load", START, START + HOUR, 1e12),
    )
    with found:
        reasons = [reason for _place, _line, reason in found.refused.first]
        assert [line for _place, line, _reason in found.refused.first] == [4, 5, 6, 3]
        assert [
            word in reason
            for word, reason in zip(
                ("not over yet", "is no energy", "wrong unit", "overlaps"), reasons, strict=True
            )
        ] == [True] * 4
        assert found.counts.energies == 1


def test_an_edit_made_since_must_be_undone_first(
    sqlite_url: str, of_energies: Callable[..., plan.Plan]
) -> None:
    with of_energies(sqlite_url, Energy(2, "pv", START, START + HOUR, 600.0)) as found:
        batches.apply(found, sqlite_url)
    opened = engine(sqlite_url)
    with opened.begin() as connection:
        change = books.Change("pv", START, START + HOUR, 500.0)
        books.edit(connection, BRATISLAVA, [change], by="anna", reason="meter says so")
    opened.dispose()
    before = whole(sqlite_url, set())
    with pytest.raises(books.EnergyError, match="undo that one first"):
        batches.undo(sqlite_url, 1, BRATISLAVA)
    assert whole(sqlite_url, set()) == before


# -- killed, interrupted, at once ------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from sunmesh.archive.importing import batches
from sunmesh import __main__
batches.ROWS = 300
count = 0
def pause(self):
    global count
    count += 1
    if count == 3:
        os._exit(9)
batches._Storing._pause = pause
__main__.entry(sys.argv[1:])
"""


def test_a_killed_import_is_gone_on_with_or_undone(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_of(url, tmp_path)
    run = runner(site, capsys)
    first = whole(url)
    words = ["import", "axpert-bms", str(SAMPLES / "axpert-bms.sql")]
    kill = [sys.executable, "-c", KILLED, *words, "--config", str(site)]

    assert subprocess.run(kill, capture_output=True, check=False).returncode == 9
    assert "NOT FINISHED" in run("import", "--list")[1]
    status, said = run("import", "--undo", "1")
    assert status == 0, said
    assert whole(url) == first

    assert subprocess.run(kill, capture_output=True, check=False).returncode == 9
    status, said = run(*words)
    assert (status, "import 2: done" in said) == (0, True), said
    assert "NOT FINISHED" not in run("import", "--list")[1]
    [(added,)] = query(url, "SELECT samples FROM import_batch WHERE id = 2")
    assert added == 120 * 61 + 7
    assert "nothing to change" in run(*words)[1]
    assert run("import", "--undo", "2")[0] == 0
    assert whole(url) == first


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_import_is_taken_back(
    error: type[BaseException], sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = whole(sqlite_url)
    monkeypatch.setattr(batches, "ROWS", 10)
    left = iter(range(3))

    def pause(self: object) -> None:
        if next(left, None) is None:
            raise error

    monkeypatch.setattr(batches._Storing, "_pause", pause)
    with pytest.raises(error):
        imported(sqlite_url, table(tmp_path, minutes(600)))
    assert whole(sqlite_url) == first
    [found] = batches.listed(sqlite_url)
    assert found.state == "undone"


def test_samples_that_come_meanwhile_stay_the_recorder_s(url: str, tmp_path: Path) -> None:
    series(url)
    with made(url, table(tmp_path, minutes(30))) as found:
        stored(url, [(START + 60_000, 500.0), (START + 120_000, 2.0)])
        assert batches.apply(found, url) == 1
    assert dict(values(url, "inverter", "pv_power_w"))[START + 60_000] == 500.0
    [(added,)] = query(url, "SELECT samples FROM import_batch")
    assert added == 28
    batches.undo(url, 1, BRATISLAVA)
    assert values(url, "inverter", "pv_power_w") == [
        (START + 60_000, 500.0),
        (START + 120_000, 2.0),
    ]


def test_a_series_that_the_recorder_uses_now_stays(url: str, tmp_path: Path) -> None:
    imported(url, table(tmp_path, minutes(5)))
    stored(url, [(START + HOUR, 9.0)])
    batches.undo(url, 1, BRATISLAVA)
    assert values(url, "inverter", "pv_power_w") == [(START + HOUR, 9.0)]


def test_imports_are_undone_in_the_order_that_they_stand_on_each_other(
    sqlite_url: str, tmp_path: Path
) -> None:
    imported(sqlite_url, table(tmp_path, minutes(30)))
    imported(sqlite_url, table(tmp_path, minutes(60), "more.csv"))
    imported(sqlite_url, table(tmp_path, minutes(9, START + 90 * HOUR), "else.csv"))
    with pytest.raises(batches.BatchError, match=r"import 2 \(more.csv.*inverter.pv_power_w"):
        batches.undo(sqlite_url, 1, BRATISLAVA)
    with pytest.raises(batches.BatchError, match="there is no import 7"):
        batches.undo(sqlite_url, 7, BRATISLAVA)
    for number in (2, 1, 3):
        batches.undo(sqlite_url, number, BRATISLAVA)
    assert query(sqlite_url, "SELECT COUNT(*) FROM sample") == [(0,)]


# -- size ------------------------------------------------------------------------------------------


def test_many_rows_need_little_memory(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((scratch, "BATCH"), (plan, "PAGE"), (batches, "ROWS")):
        monkeypatch.setattr(module, name, 1000)
    columns = [
        Column("P", to="inverter.pv_power_w"),
        Column("V", to="inverter.pv_voltage_v"),
        Column("A", to="inverter.pv_current_a"),
    ]
    options = Options(BRATISLAVA, BRATISLAVA, {}, Mapping(columns))

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        with path.open("w") as file:
            file.write("t,P,V,A\n")
            for k in range(count):
                file.write(f"{START // 1000 + k * 20},{k % 3000},{k % 500},{k % 13}\n")
        tracemalloc.start()
        try:
            imported(sqlite_url, path, options=options)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    small, large = peak(1000), peak(10_000)
    assert query(sqlite_url, "SELECT COUNT(*) FROM sample") == [(30_000,)]
    assert large < small + 1_000_000  # 27 000 values more, some 100 bytes each in a list


@given(st.sets(st.integers(0, 10**9), min_size=1), st.integers(0, 4 * 10**12))
def test_stamps_survive_packing(steps: set[int], first: int) -> None:
    times = sorted(first + step for step in steps)
    assert stamps.unpack(times[0], stamps.pack(times)) == times


FIELDS = st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e9)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.dictionaries(st.integers(0, 10**7), FIELDS, min_size=1, max_size=40),
    separator=st.sampled_from([",", ";", "\t"]),
    form=st.sampled_from([("iso", ZoneInfo("UTC")), ("unix", BRATISLAVA), ("unix_ms", BRATISLAVA)]),
    shuffler=st.randoms(use_true_random=False),
)
def test_a_table_comes_back_as_it_was_written(
    rows: dict[int, float],
    separator: str,
    form: tuple[str, ZoneInfo],
    shuffler: random.Random,
    fresh_sqlite: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "round.db"
    target.write_bytes(fresh_sqlite.read_bytes())
    url = f"sqlite:///{target}"
    step = 1 if form[0] == "unix_ms" else 1000
    wanted = {START + offset * step: value for offset, value in rows.items()}
    lines = []
    for ms, value in wanted.items():
        moment = datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)
        stamp = {
            "iso": moment.isoformat(),
            "unix": str(ms // 1000),
            "unix_ms": str(ms),
        }[form[0]]
        lines.append(f"{stamp}{separator}{value!r}")
    shuffler.shuffle(lines)
    path = tmp_path / "round.csv"
    path.write_text("\n".join([f"when{separator}P", *lines]) + "\n")
    mapping = Mapping([Column("P", to="a.pv_power_w")])

    mapping = Mapping(mapping.column, TimeColumn("when", form[0]), separator, ".")
    options = Options(form[1], BRATISLAVA, {}, mapping)
    with plan.make(url, formats.named("csv"), [path], options) as found:
        batches.apply(found, url)
    stored_now = dict(values(url, "a", "pv_power_w"))
    assert stored_now == pytest.approx(wanted, rel=1e-11)
    with plan.make(url, formats.named("csv"), [path], options) as found:
        assert found.changes_nothing


# -- the command line ------------------------------------------------------------------------------


def test_what_the_command_line_refuses(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(site_of(sqlite_url, tmp_path), capsys)
    status, said = run("import", "csv", SAMPLES / "pl80.lp")
    assert (status, "this looks like points of solar-battery-monitoring" in said) == (1, True)
    status, said = run("import", "axpert", SAMPLES / "pl80.lp")
    assert (status, "known are" in said) == (1, True)
    status, said = run("import", "csv", tmp_path / "none.csv")
    assert (status, "is no file" in said) == (1, True)
    execute(sqlite_url, "UPDATE alembic_version SET version_num = '0001'")
    status, said = run("import", "pl80-influx", SAMPLES / "pl80.lp")
    assert (status, "run `recorder migrate`" in said) == (1, True)


def test_the_command_line_guesses_saves_and_reports(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = '[devices.roof]\nfamily = "pvs6"\nhost = "192.0.2.1"\n'
    run = runner(site_of(sqlite_url, tmp_path, rest=rest), capsys)
    status, said = run("import", "csv", SAMPLES / "german.csv", "--guess")
    assert (status, '"%d.%m.%Y %H:%M"' in said) == (0, True)
    status, said = run(
        *("import", "csv", SAMPLES / "german.csv", "--time", "Datum+Uhrzeit"),
        *("--column", "PV-Leistung=inverter.pv_power_w", "--dry-run"),
        *("--save-mapping", tmp_path / "kept.toml"),
    )
    assert (status, "96 new samples" in said) == (0, True), said
    status, said = run(
        *("import", "csv", SAMPLES / "german.csv", "--mapping", tmp_path / "kept.toml", "--json")
    )
    found = json.loads(said)
    assert (found["import"], found["counts"]["samples"]) == (1, 96)
    assert found["refused"]["count"] == 3
    assert found["days"][0]["target"] == "inverter.pv_power_w"
    status, said = run("import", "auto", SAMPLES / "pvs6-overview.csv")
    assert status == 0
    assert query(sqlite_url, "SELECT DISTINCT device FROM series ORDER BY 1") == [
        *(("inverter",), ("roof",))
    ]
    listed = json.loads(run("import", "--list", "--json")[1])
    assert [each["format"] for each in listed] == ["pvs6", "csv"]


def test_without_the_database_part_it_says_so(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['sqlalchemy'] = None; from sunmesh import __main__;"
        "sys.argv = ['sunmesh', 'import', '--list']; __main__.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SUNMESH_CONFIG": str(tmp_path / "none.toml")},
    )
    assert (done.returncode, "pip install 'sunmesh[database]'" in done.stderr) == (2, True)
