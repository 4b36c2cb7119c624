"""The verbs, as somebody types them."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from bookkeeper import figures
from bookkeeper.__main__ import main
from sunmesh import service
from sunmesh.database.energy import Figures, Sum

from .conftest import DAY, DEVICES, T0, House, World

Verb = Callable[..., "Done"]


@dataclass
class Done:
    """How a verb ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the console script in this process, which spares a second of imports a time."""
    monkeypatch.setattr(service, "setup_logging", lambda _level: None)

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["bookkeeper", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Done(int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def typed(house: House, tmp_path: Path, run: Callable[..., Done]) -> Verb:
    config = tmp_path / "site.toml"
    devices = "\n".join(f'[devices.{n}]\nfamily = "{t["family"]}"' for n, t in DEVICES.items())
    config.write_text(
        f'[site]\ntime_zone = "UTC"\n[database]\nurl = "{house.url}"\n{devices}\n', "utf-8"
    )
    return lambda *words: run(*words, "--config", str(config))


def answer(done: Done) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done: Done) -> str:
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_one_bad_bucket_is_corrected_and_taken_back(
    house: House, typed: Verb, world: World
) -> None:
    """Day, month and year follow an edit, and its undo."""
    house.store(world.samples)
    house.book()

    def sums() -> list[float]:
        return [
            answer(typed("show", period, "--json"))["flows"]["pv"]["wh"]
            for period in ("2026-07-01", "2026-07", "2026", "total")
        ]

    before = sums()
    bucket = house.books("pv")[T0 + 12 * 3_600_000][0]
    done = typed(
        "edit", "--flow", "pv", "--at", "2026-07-01T12:00", "--kwh", "0.5",
        "--by", "anna", "--reason", "a spike",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sun of the day:" in done.stdout
    assert "sun of the year:" in done.stdout
    assert sums() == pytest.approx([wh - bucket + 500 for wh in before], abs=0.01)
    shown = typed("show", "2026-07-01").stdout
    assert "edited 1 %" in shown
    assert "*" in shown
    [entry] = answer(typed("edits", "--json"))
    assert (entry["by"], entry["reason"], entry["undone"]) == ("anna", "a spike", None)
    assert entry["parts"][0]["old_wh"] == pytest.approx(bucket, abs=0.01)
    assert "a spike" in typed("edits").stdout

    assert typed("undo", "1", "--by", "bert").returncode == 0
    assert sums() == before
    assert "edit 1 was undone by bert" in refused(typed("undo", "1", "--by", "bert"))
    assert "undone" in typed("edits").stdout

    more = ["--by", "anna", "--reason", "a slip", "--at", "2026-07-01T12:00", "--kwh", "90"]
    assert "more than pv can be in that time" in refused(typed("edit", "--flow", "pv", *more))
    assert sums() == before
    assert typed("edit", "--flow", "pv", *more, "--anyway").returncode == 0
    assert sums()[0] > 90_000


def test_what_the_books_say(house: House, typed: Verb, world: World) -> None:
    assert "nothing is booked" in typed("show", "2026-07-01").stdout
    assert "books      empty" in typed("status").stdout
    assert "nothing feeds the books yet" in typed("model").stdout
    house.store(world.samples)
    assert "289 stretches" in typed("status").stdout
    house.book()
    status = answer(typed("status", "--json"))
    assert (status["waiting"], status["running"]) == (0, False)
    assert status["flows"] == list(world.wh)
    assert (status["first_day"], status["booked_to"]) == ("2026-07-01", "2026-07-02T00:00:00.000Z")
    model = typed("model").stdout
    assert "lifetime counter  inverter.pv_energy_total_kwh" in model
    assert "power             battery.battery_power_w where it is below 0" in model
    assert answer(typed("model", "--json"))["pv"]["feeds"][0]["power"] == ["pv_power_w"]
    day = answer(typed("show", "2026-07-01", "--json"))
    assert len(day["parts"]) == 24
    assert sum(part["flows"]["pv"]["wh"] for part in day["parts"]) == pytest.approx(
        day["flows"]["pv"]["wh"], abs=0.1
    )
    assert [p["label"] for p in answer(typed("show", "2026", "--json"))["parts"]] == ["2026-07"]
    text = typed("show", "2026-07").stdout
    for word in ("2026-07: 2026-07-01 to 2026-07-31", "█", "measured", "autarky", "integrated"):
        assert word in text
    assert typed("show").returncode == 0


def test_rebuild_from_a_day(house: House, typed: Verb, world: World) -> None:
    house.store(world.samples)
    house.book()
    before = house.books("pv")
    done = typed("rebuild", "--from", "2026-07-01", "--to", "2026-07-01")
    assert done.returncode == 0, done.stderr
    assert "288 of 288 stretches, 100%" in done.stderr
    assert "booked 2026-07-01T00:00:00.000Z to 2026-07-02T00:00:00.000Z again" in done.stdout
    assert house.books("pv").keys() == before.keys()
    assert "no readings of that time" in refused(
        typed("rebuild", "--from", "2020-01-01", "--to", "2020-02-01")
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "2026-13"], "is no day, month or year"),
        (["show", "someday"], "is no day, month or year"),
        (["rebuild", "--from", "2026-07-02", "--to", "2026-07-01"], "--to must not be before"),
        (["undo", "7", "--by", "anna"], "there is no edit 7"),
        (["edit", "--flow", "pv", "--wh", "1"], "say --at WHEN"),
        (["edit", "--flow", "pv", "--wh", "1", "--at", "noon:"], "is no time"),
        (["edit", "--flow", "pv", "--wh", "1", "--at", "2026-07-01T12:01"], "full five minutes"),
        (["edit", "--flow", "pv", "--wh", "-1", "--at", "2026-07-01T12:00"], "-1 Wh"),
        (["edit", "--flow", "pv", "--wh", "1", "--at", "2126-07-01"], "in the future"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    house: House, typed: Verb, words: list[str], says: str
) -> None:
    more = ["--by", "anna", "--reason", "x"] if words[0] == "edit" else []
    assert says in refused(typed(*words, *more))


def test_a_wrong_setting_is_one_line_and_status_2(tmp_path: Path, run: Callable[..., Done]) -> None:
    config = tmp_path / "site.toml"
    for text, says in (
        ("[bookkeeper]\nstep_min = 7", "bookkeeper.step_min: must be 5, 10"),
        ("[bookkeeper]\nlook_s = 0", "bookkeeper.look_s: must be 0.1 to 300"),
        ("[bookkeeper]\ngrace_s = -1", "bookkeeper.grace_s: must be 0 to 3600"),
        ("[bookkeeper]\nstep = 7", "did you mean step_min?"),
        ("[energy.pv]\nmax_power_w = 0", "energy.pv.max_power_w: must be above 0"),
        (f'[database]\nurl = "sqlite:///{tmp_path}/none.db"', "none.db yet; the recorder makes it"),
    ):
        config.write_text(text, "utf-8")
        verb = "status" if "database" in text else "run"
        assert says in refused(run(verb, "--config", str(config)))
    assert not (tmp_path / "none.db").exists()


def test_numbers_for_people() -> None:
    assert figures.kwh(None) == "–"
    assert figures.kwh(999.4) == "999 Wh"
    assert figures.kwh(999.6) == "1.00 kWh"
    assert figures.kwh(-3210) == "-3.21 kWh"
    assert figures.kwh(1_234_567) == "1235 kWh"
    assert figures.percent(0.9999) == "99 %"
    assert figures.percent(1.0) == "100 %"
    assert figures.bar(1, 2, 4) == "██"
    assert figures.bar(1, 16, 2) == "▏"
    assert figures.bar(0, 0) == ""
    assert figures.trust({"measured": 97.0, "recovered": 3.0}) == "measured 97 %, recovered 3 %"
    assert figures.trust({"measured": 1.0}) == "measured"
    assert figures.trust({}) == ""


def test_a_period_that_is_known_in_part_says_so() -> None:
    flows = {"pv": Sum(100, 43200, {"measured": 100})}
    got = Figures(date(2026, 7, 1), date(2026, 7, 2), DAY / 1000, flows)
    lines = figures.summary("a day", got, figures.Battery())
    assert "measured; 50 % of the time" in lines[1]
    assert figures.document(got, figures.Battery())["flows"]["pv"]["covered"] == 0.5
