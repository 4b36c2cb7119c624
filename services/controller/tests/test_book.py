"""Rules that are changed in the portal: drafts, what is kept of them, what is left out."""

import json

import msgspec
import pytest
from controller.book import Book, Draft, read_draft
from controller.loading import book_path, preset
from sunmesh.errors import RefusedError

TS = "2026-11-21T12:00:00.000Z"
OWN = {
    "says": "The evening is kept for the night",
    "priority": 35,
    "hours": "18:00-06:00",
    "ends_with_hours": True,
    "when": [
        {
            "samples": "4 of 5",
            "all": [{"quantity": "battery.battery_soc_percent", "at_most": 35}],
        }
    ],
    "until": [
        {
            "samples": "9 of 10",
            "all": [{"quantity": "battery.battery_soc_percent", "at_least": 45}],
        }
    ],
    "do": [{"set": "inverter.output_source_priority", "to": "USB"}],
    "safe": {"settings": "leave"},
    "temporary": True,
    "afterwards": "restore",
    "min_on_min": 10,
    "min_off_min": 10,
    "most_switches_day": 6,
}
C6 = preset("lifepo4-16s-axpert").rules["c6"]


def save(book, rules=None, numbers=None, **more):
    return book.save(Draft(rules or {}, numbers or {}, **more), by="web:anna", note="x", ts=TS)


def test_a_saved_rule_runs_and_outlives_the_process(site):
    book = Book(site())
    assert book.plan.rule("evening") is None
    assert save(book, {"evening": OWN}).rule("evening").ends_with_hours
    again = Book(site())
    assert again.plan.rule("evening") == book.plan.rule("evening")
    told = json.loads(again.document(TS))
    row = next(row for row in told["rules"] if row["name"] == "evening")
    assert (row["from"], row["runs"], "below" in row) == ("saved", True, False)
    assert told["changes"][0]["rule"] == "evening"
    assert told["changes"][0]["after"] == OWN


def test_a_rule_of_the_preset_is_changed_and_given_back(site):
    book = Book(site())
    first = book.plan.rule("c6")
    changed = {**C6, "hours": "08:00-15:00"}
    assert save(book, {"c6": changed}).rule("c6").hours[0].hour == 8
    row = next(r for r in json.loads(book.document(TS))["rules"] if r["name"] == "c6")
    assert row["below"]["hours"] == "07:00-14:00"
    assert save(book, {"c6": None}).rule("c6") == first
    with pytest.raises(RefusedError, match="nothing was saved"):
        save(book, {"c6": None})


@pytest.mark.parametrize("key", sorted(OWN.keys() - {"ends_with_hours", "temporary", "afterwards"}))
def test_what_lacks_a_limit_is_not_saved(site, key):
    book = Book(site())
    table = {name: value for name, value in OWN.items() if name != key}
    with pytest.raises(RefusedError, match=key):
        save(book, {"evening": table})
    assert not book_path(site(), book.plan.config).exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"until": OWN["when"]}, "other side"),
        ({"hours": "always"}, "hours: must be given"),
        ({"do": [{"relay": "grid_open"}]}, "safe"),
        ({"do": [{"set": "toaster.power_w", "to": 1}]}, "no device is called toaster"),
        ({"most_switches_day": 0}, "most_switches_day"),
        ({"priority": 100}, "priority"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_not_sound_is_not_saved(site, change, says):
    book = Book(site())
    with pytest.raises(RefusedError, match=says):
        save(book, {"evening": {**OWN, **change}})
    assert book.plan.rule("evening") is None


def test_names_are_names(site):
    with pytest.raises(RefusedError, match="a name is"):
        save(Book(site()), {"../etc": OWN})


def test_numbers_keep_their_order(site):
    book = Book(site())
    assert save(book, numbers={"grid_on_v": 51.4}).numbers["grid_on_v"] == 51.4
    with pytest.raises(RefusedError, match="must be below"):
        save(book, numbers={"grid_on_v": 52.0})
    with pytest.raises(RefusedError, match="no number is called"):
        save(book, numbers={"speed": 1.0})
    assert save(book, numbers={"grid_on_v": None}).numbers["grid_on_v"] == 51.2


def test_what_somebody_else_changed_is_not_overwritten(site):
    book = Book(site())
    row = next(r for r in json.loads(book.document(TS))["rules"] if r["name"] == "c6")
    save(book, {"c6": {**C6, "hours": "08:00-15:00"}}, was={"c6": row["mark"]})
    with pytest.raises(RefusedError, match="meanwhile"):
        save(book, {"c6": {**C6, "hours": "09:00-15:00"}}, was={"c6": row["mark"]})
    with pytest.raises(RefusedError, match="meanwhile"):
        save(book, {"c6": C6}, was={"c6": ""})
    save(book, {"evening": OWN}, was={"evening": ""})


def test_what_is_not_sound_any_more_is_left_out_and_told(site):
    save(Book(site()), {"evening": OWN, "c6": {**C6, "hours": "08:00-15:00"}})
    lonely = Book(site(devices='[devices.inverter]\nfamily = "axpert"\n'))
    assert lonely.unsound.keys() == {"evening", "c6"}
    assert "no device is called battery" in lonely.unsound["evening"]
    assert lonely.plan.rule("c5") is not None  # the others go on
    save(lonely, {"evening": None})
    assert lonely.unsound.keys() == {"c6"}


def test_a_file_that_cannot_be_read_costs_the_changes_only(site):
    book = Book(site())
    save(book, {"evening": OWN})
    for rubbish in ("{", '{"rules": 3}'):
        book.path.write_text(rubbish)
        again = Book(site())
        assert again.damaged
        assert again.plan.rule("evening") is None
        assert again.plan.rule("c9") is not None
        assert again.path.with_name("rules.json.bad").exists()


def test_a_disk_that_takes_nothing_changes_nothing(site, tmp_path):
    book = Book(site())
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(RefusedError, match="cannot be written"):
        save(book, {"evening": OWN})
    assert book.plan.rule("evening") is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "{",
        "[]",
        '{"rules": 1}',
        '{"more": {}}',
        '{"numbers": {"x": 1e400}}',
        '{"numbers": {"../x": 1}}',
        '{"numbers": {"x": 1e9}}',
        '{"modes": {"c6": "auto"}}',
        "[" * 5000,
        json.dumps({"rules": {"x": {"says": "x" * 20_000}}}),
    ],
)
def test_rubbish_is_no_draft(text):
    with pytest.raises(RefusedError):
        read_draft(text)


def test_the_book_fits_into_a_message(site):
    book = Book(site())
    wide = [{"samples": "now", "all": OWN["when"][0]["all"] * 40}]
    big = {**OWN, "when": wide}
    for number in range(8):
        save(book, {f"own-{number}": big})
    save(book, {"own-0": {**big, "says": "Changed"}})
    with pytest.raises(RefusedError, match="30000 are the limit"):
        save(book, {f"own-{number}": big for number in range(20)})
    assert len(book.document(TS)) < 64 * 1024


def test_a_draft_of_everything_is_read():
    draft = Draft({"evening": OWN, "c6": None}, {"grid_on_v": 51.4}, {"evening": "shadow"})
    assert read_draft(msgspec.json.encode(draft).decode()) == draft
