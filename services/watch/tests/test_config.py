"""What ``site.toml`` may say: anything wrong is one line that names the key, and status 2."""

from pathlib import Path

import pytest
from sunmesh.errors import ConfigError
from watch import words
from watch.__main__ import entry
from watch.loading import defaults, plan_of
from watch.measures import MEASURES, kind_of

from .conftest import site_of

OWN = """
[alarms.attic_hot]
measure = "temperature_c"
devices = ["attic"]
at_least = 60
clear = 55
title = "It is hot under the roof"
text = "{device} is at {value}."
"""


def test_the_defaults_are_rules(make_plan):
    plan = make_plan()
    assert {rule.name for rule in plan.rules} == set(defaults())
    assert not any(rule.is_own for rule in plan.rules)
    used = {rule.measure for rule in plan.rules}
    assert used >= set(MEASURES) - {"offline_s"}, "each measure has its alarm"
    for rule in plan.rules:
        assert rule.config.advice, f"{rule.name} says what to do"
        assert rule.config.text.endswith((".", "}"))
        assert "{value}" not in rule.config.title, "or it would be said anew with each sample"


def test_a_default_is_changed_key_by_key_and_switched_off(make_plan):
    plan = make_plan(
        "[alarms.cell_spread]\nat_least = 0.08\nclear = 0.07\n"
        "[alarms.grid_lost]\nenabled = false\n" + OWN
    )
    rules = {rule.name: rule for rule in plan.rules}
    assert (rules["cell_spread"].limit, rules["cell_spread"].config.worse) == (0.08, 0.1)
    assert rules["cell_spread"].is_own
    assert rules["attic_hot"].config.clear == 55
    assert plan.off == ("grid_lost",)
    assert "grid_lost" not in rules


def test_another_comparison_takes_the_place_of_the_defaults(make_plan):
    plan = make_plan("[alarms.soc_low]\nat_most = 30\n")
    rule = next(rule for rule in plan.rules if rule.name == "soc_low")
    assert (rule.comparison, rule.limit, rule.config.clear) == ("at_most", 30, None)


def test_only_ones_own(make_plan):
    plan = make_plan("[watch]\ndefaults = false\n" + OWN)
    assert [rule.name for rule in plan.rules] == ["attic_hot"]


WRONG = [
    ("[watch]\nflap = 3\n", "watch.flap: is not known"),
    ("[watch]\nflaps = 2\n", "watch.flaps: must be 0 or 3 to 1000"),
    ("[watch]\nsettle_s = -1\n", "watch.settle_s: must be 0 to 3600"),
    ("[watch]\ndays_every_min = 0\n", "watch.days_every_min: must be 1 to 1440"),
    ('[watch]\ngrid_fed = ["metre"]\n', "watch.grid_fed: no device is metre"),
    ("[alarms]\ncell_spread = 3\n", "alarms.cell_spread: write a table"),
    ("[alarms.Cell]\nat_least = 1\n", "alarms.Cell: a name is 1 to 48 of a-z"),
    ("[alarms.cell_spread]\nat_leest = 1\n", "alarms.cell_spread.at_leest: is not known; did you"),
    ('[alarms.cell_spread]\nat_least = "much"\n', "alarms.cell_spread.at_least: expected"),
    ("[alarms.cell_spread]\nat_least = nan\n", "at_least: must be a finite number"),
    ("[alarms.cell_spread]\nat_least = 0.2\n", "cell_spread.worse: must be above at_least = 0.2"),
    ("[alarms.cell_spread]\nclear = 0.2\n", "cell_spread.clear: must be below at_least = 0.05"),
    ("[alarms.soc_low]\nclear = 40\n", "alarms.soc_low.clear: must be above below = 45"),
    ("[alarms.cell_spread]\nfor_s = -1\n", "alarms.cell_spread.for_s: must be 0 to 2592000"),
    ('[alarms.cell_spread]\nseverity = "fatal"\n', "alarms.cell_spread.severity:"),
    ("[alarms.cell_spread]\nabove = 1\nat_least = 1\n", "cell_spread.at_least: give one of"),
    ('[alarms.cell_spread]\nmeasure = "cell_spred_v"\n', "did you mean"),
    ('[alarms.cell_spread]\ntext = "{volts}"\n', "text: {volts} is not known; known are device"),
    ('[alarms.cell_spread]\ntext = "{value:9999999}"\n', "text: {value} is not known"),
    ('[alarms.cell_spread]\ntext = "{value!r}"\n', "text: {value} is not known"),
    ('[alarms.cell_spread]\ntext = "{device.x}"\n', "text: {device.x} is not known"),
    ('[alarms.cell_spread]\ntitle = "}"\n', "title: Single '}'"),
    ('[alarms.cell_spread]\ntitle = ""\n', "alarms.cell_spread.title: is missing"),
    ('[alarms.cell_spread]\nfamilies = ["bmw"]\n', "alarms.cell_spread.families: must be of"),
    ('[alarms.cell_spread]\ndevices = ["batery"]\n', "cell_spread.devices: no device is batery"),
    ("[alarms.pv_dark]\nsun_deg = 100\n", "alarms.pv_dark.sun_deg: must be -18 to 90"),
    ("[alarms.yield_low]\nenough = 9\n", "alarms.yield_low.enough: must be 1 to days"),
    ("[alarms.yield_low]\ndays = 0\n", "alarms.yield_low.days: must be 1 to 366"),
    ('[alarms.x]\ntitle = "a"\ntext = "b"\nat_least = 1\n', "alarms.x.measure: is missing"),
    (
        '[alarms.x]\nmeasure = "device_mode"\ntitle = "a"\ntext = "b"\nat_least = 1\n',
        "alarms.x.at_least: device_mode is no number",
    ),
    (
        '[alarms.x]\nmeasure = "device_mode"\ntitle = "a"\ntext = "b"\nequals = "a"\nclear = 1\n',
        "alarms.x.clear: and worse belong to numbers",
    ),
]


@pytest.mark.parametrize(("text", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_what_is_wrong_is_one_line_with_the_key(tmp_path, text, reason):
    with pytest.raises(ConfigError) as wrong:
        plan_of(site_of(tmp_path, text))
    said = str(wrong.value)
    assert reason in said
    assert said.startswith(str(tmp_path / "site.toml"))
    assert "\n" not in said


def test_the_rules_are_read_aloud(make_plan):
    plan = make_plan(OWN)
    rules = {rule.name: words.rule_aloud(rule, plan.place) for rule in plan.rules}
    assert rules["cell_spread"] == (
        "warning when cell_voltage_spread_v of bms is 50 mV or more for 60 s; critical from "
        "100 mV; over below 45 mV for 60 s."
    )
    assert rules["attic_hot"] == (
        "warning when temperature_c of attic is 60 °C or more; over below 55 °C."
    )
    assert all(kind_of(rule.measure) for rule in plan.rules)


def test_check_without_a_broker(tmp_path, capsys):
    site_of(tmp_path, OWN)
    assert entry(["check", "--offline", "--config", str(tmp_path / "site.toml")]) == 0
    said = capsys.readouterr().out
    assert "attic_hot (yours): warning when temperature_c of attic" in said
    assert entry(["check", "--offline", "--json", "--config", str(tmp_path / "site.toml")]) == 0


def test_the_document_tells_every_alarm_and_every_measure():
    text = (Path(__file__).parents[3] / "docs/alarms.md").read_text(encoding="utf-8")
    own = text.partition("## The watch's")[2].partition("## The others'")[0]
    rows = {line.split("`")[1]: line for line in own.splitlines() if line.startswith("| `")}
    for name, table in defaults().items():
        assert table["measure"] in rows[name]
        assert table["advice"] in rows[name]
        assert table.get("severity", "warning") in rows[name]
    for measure in MEASURES:
        assert f"`{measure}`" in text
