"""The languages hold the same, and nothing in a message can do harm."""

import re
import tomllib
from pathlib import Path

import pytest
from notifier import texts
from notifier.config import LANGUAGES

ROOT = Path(__file__).parents[3]
NASTY = "<b onload=x>{device}{{}} {0.__class__}%s\x00\x07\x1b[31m\u202egnp\u200b\r\nnext\ud800"


def subject(**more):
    return texts.Subject(
        **{
            "device": "bms",
            "code": "cell_spread",
            "severity": "warning",
            "title": "Cells drift",
            "text": "They do.",
            "advice": "Balance.",
            "value": 0.142,
            "data": {},
            "since": "14:05",
        }
        | more
    )


def names(template):
    return set(re.findall(r"\{([a-z0-9_]+)\}", template))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_key_and_the_same_names(language):
    own, other = texts.load(language), texts.load("en")
    assert own["words"].keys() == other["words"].keys()
    assert own["codes"].keys() == other["codes"].keys()
    for key, text in own["words"].items():
        assert names(text) == names(other["words"][key]), key
        assert text.strip()
    for code, parts in own["codes"].items():
        assert parts.keys() == other["codes"][code].keys(), code
        for part, text in parts.items():
            assert names(text) == names(other["codes"][code][part]), (code, part)
            assert text.count("{") == text.count("}") == len(re.findall(r"\{[a-z_]+\}", text))
            assert len(text) < 130, (code, part)


def test_the_alarms_of_the_watch_have_words_in_every_language():
    defaults = ROOT / "services/watch/src/watch/defaults.toml"
    codes = tomllib.loads(defaults.read_text(encoding="utf-8")).keys()
    assert codes
    assert codes <= texts.load("en")["codes"].keys()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["raised", "worse", "cleared", "past", "reminder", "escalation"])
def test_every_code_can_be_said(language, kind):
    for code in texts.load(language)["codes"]:
        one = subject(code=code)
        assert "{" not in texts.first_line(one, kind, language)
        said = texts.body(one, kind, language, ["a", "b"], "15:00", "anna")
        assert "{" not in said
        assert "14:05" in said


@pytest.mark.parametrize(
    ("language", "value"), [("en", "0.142 V"), ("de", "0,142 V"), ("it", "0,142 V")]
)
def test_a_value_has_its_unit_and_its_comma(language, value):
    one = subject(data={"cell_voltage_spread_v": 0.142, "other": 3})
    assert value in texts.body(one, "raised", language, [], "")
    shown = subject(data={"value": "142.5 mV", "device": "bms"})
    assert ("142.5 mV" if language == "en" else "142,5 mV") in texts.body(
        shown, "raised", language, [], ""
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "?"),
        ([1, 2.5], "1, 2.5"),
        (1e9, "1000000000"),
        ("x\ny", "x y"),
        (-3.0, "-3"),
        (230.123, "230.12"),
        (0, "0"),
        ("3 days", "3 days"),
    ],
)
def test_values_are_written_for_people(value, text):
    assert texts.number(value, "en") == text
    assert texts.number("3 days", "cs") == "3 dní"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_message_brings_is_harmless(language):
    one = subject(
        device="x",
        code="unheard_of",
        title=NASTY,
        text=NASTY * 500,
        advice=NASTY,
        value=NASTY,
        data={"texts": [NASTY] * 50, "a{b}": NASTY, "quantity": 5},
    )
    line = texts.first_line(one, "raised", language)
    said = texts.body(one, "raised", language, [NASTY] * 50, NASTY, NASTY)
    assert len(line) <= 250
    assert len(said) <= 1024
    for text in (line, said.replace("\n", "")):
        assert not re.search("[\x00-\x1f\x7f\u202a-\u202e\u200b\ud800]", text)
    assert "{device}" in said, "braces of a message are no template"
    assert "<b onload=x>" in said, "and its marks are text: no back end sends HTML"


def test_a_code_that_nobody_knows_says_what_the_message_says():
    one = subject(code="rule-seven", title="Pool pump runs dry", text="No flow.", value=None)
    assert texts.first_line(one, "raised", "de") == "Warnung: bms: Pool pump runs dry"
    assert texts.body(one, "raised", "de", [], "") == "No flow.\nSeit 14:05\nBalance."


def test_a_template_whose_value_is_missing_gives_way_to_the_message():
    one = subject(code="inverter_fault", title="Inverter fault: bus over", data={})
    assert "Inverter fault: bus over" in texts.first_line(one, "raised", "it")
    assert "guasto dell'inverter: bus" in texts.first_line(
        subject(code="inverter_fault", data={"texts": ["bus"]}), "raised", "it"
    )


def test_in_english_the_owners_own_words_come_first():
    assert "Cells drift" in texts.first_line(subject(), "raised", "en")
    assert "drift apart" in texts.first_line(subject(title=""), "raised", "en")


def test_times_of_another_day_have_their_date():
    from sunmesh import clock

    now = clock.parse("2026-11-21T12:00:00Z")
    assert texts.local_time(clock.parse("2026-11-21T09:05:00Z"), now) == "09:05"
    assert texts.local_time(clock.parse("2026-11-14T09:05:00Z"), now) == "2026-11-14 09:05"
