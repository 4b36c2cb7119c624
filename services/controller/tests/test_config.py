"""What may be written into site.toml; everything else is one line that names the key."""

import subprocess
import sys
from pathlib import Path

import pytest
from controller.loading import plan_of, preset, presets
from sunmesh.errors import ConfigError

SCRIPT = Path(sys.executable).parent / "controller"
RULE = {
    "says": '"a hot inverter charges slowly"',
    "priority": "20",
    "hours": '"12:00-18:00"',
    "when": '[{ samples = "9 of 10", all = [{ quantity = "inverter.heat_sink_temperature_c",'
    " at_least = 65 }] }]",
    "until": '[{ samples = "9 of 10", all = [{ quantity = "inverter.heat_sink_temperature_c",'
    " at_most = 50 }] }]",
    "do": '[{ set = "inverter.max_charge_current_a", to = 20 }]',
    "safe": '{ settings = "leave" }',
    "min_on_min": "15",
    "min_off_min": "15",
    "most_switches_day": "6",
}


def rule(**other):
    """A sound rule, with some keys changed, or left out by None."""
    keys = {**RULE, **other}
    lines = [f"{key} = {value}" for key, value in keys.items() if value is not None]
    return "[rules.hot]\n" + "\n".join(lines) + "\n"


def when(condition, samples="9 of 10"):
    return f'[{{ samples = "{samples}", all = [{{ {condition} }}] }}]'


HEAT = 'quantity = "inverter.heat_sink_temperature_c"'


def test_a_sound_rule_is_loaded(site):
    found = plan_of(site(rule())).rule("hot")
    assert (found.priority, found.most_switches_day, found.mode) == (20, 6, "on")


@pytest.mark.parametrize("key", list(RULE))
def test_a_rule_without_one_of_these_is_refused(site, key):
    with pytest.raises(ConfigError, match=f"rules.hot.{key}: is missing"):
        plan_of(site(rule(**{key: None})))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"priority": "0"}, "rules.hot.priority: must be 1 to 99"),
        ({"hours": '"7-14"'}, 'rules.hot.hours: must be like "07:00-14:00"'),
        ({"hours": '"07:00-07:00"'}, "begin and end are the same"),
        ({"min_on_min": "0"}, "rules.hot.min_on_min: must be 1 to 1440"),
        ({"min_off_min": "0"}, "rules.hot.min_off_min: must be 1 to 1440"),
        ({"most_switches_day": "1000"}, "rules.hot.most_switches_day: must be 2 to 100"),
        ({"says": '" "'}, "rules.hot.says: must tell"),
        ({"mode": '"maybe"'}, "rules.hot.mode"),
        ({"safe": "{}"}, 'must say settings = "leave"'),
        ({"do": '[{ relay = "grid_open" }]'}, 'must say relay = "grid_connected"'),
        ({"do": '[{ relay = "open" }]'}, "rules.hot.do"),
        ({"do": "[]"}, "rules.hot.do: must not be empty"),
        ({"do": '[{ set = "max_charge_current_a", to = 20 }]'}, 'must be "device.name"'),
        ({"do": '[{ set = "inverter.x", from = "inverter.x", by = 1 }]'}, "floor: must be given"),
        ({"do": '[{ set = "inverter.x" }]'}, "to: must be given"),
        ({"afterwards": '"restore"'}, "rules.hot.temporary: must be true"),
        ({"when": when(f"{HEAT}, at_least = 65", "11 of 10")}, "samples: must be at least 1"),
        ({"when": when(f"{HEAT}, at_least = 65", "often")}, "samples: must be like"),
        ({"when": when(f"{HEAT}, at_least = 65, below = 3")}, "at_least: must be given, or one"),
        ({"when": when("at_least = 65")}, "quantity: must be given, or setting"),
        ({"when": when(f'{HEAT}, at_least = "hot_c"')}, "no number is called 'hot_c'"),
        ({"when": when(f'{HEAT}, is = "x"', "mean of 4")}, "only numbers have a mean"),
        ({"until": when(f"{HEAT}, at_most = 65")}, "two thresholds that lie apart"),
        ({"until": when(f"{HEAT}, at_most = 70")}, "two thresholds that lie apart"),
        ({"until": when(f"{HEAT}, at_least = 70")}, "over the other side"),
        (
            {"until": when('quantity = "battery.battery_soc_percent", below = 3')},
            "needs the second threshold of inverter.heat_sink_temperature_c",
        ),
        ({"when": when('quantity = "heat.temperature_c", above = 3')}, "no device is called heat"),
        ({"color": '"red"'}, "rules.hot.color: is not known"),
    ],
)
def test_a_rule_that_is_not_sound_is_refused(site, change, says):
    with pytest.raises(ConfigError) as caught:
        plan_of(site(rule(**{**change, **_other_side(change)})))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(site("").path))


def _other_side(change):
    """Where the begin is another quantity, so is the end."""
    if "heat.temperature_c" in change.get("when", ""):
        return {"until": when('quantity = "heat.temperature_c", below = 2')}
    return {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('preset = "lifepo4"', "controller.preset: 'lifepo4' is none; there are"),
        ("lease_s = 60", "lease_s: must be twice interval_s"),
        ("interval_s = 0", "interval_s: must be 0.2 to 600"),
        ("writes_per_day = 0", "writes_per_day: must be 1 to 100"),
        ("ineterval_s = 60", "did you mean interval_s?"),
    ],
)
def test_an_impossible_setting_is_refused(site, text, says):
    with pytest.raises(ConfigError) as caught:
        plan_of(site(f"[controller]\n{text}\n"))
    assert says in str(caught.value)


def test_a_name_must_fit_into_a_topic(site):
    with pytest.raises(ConfigError, match="rules.Hot!: a name is"):
        plan_of(site('[rules."Hot!"]\nsays = "x"\n'))


def test_a_rule_of_the_preset_can_be_changed_in_part(site):
    plan = plan_of(site('[rules.c6]\nhours = "08:00-15:00"\nmode = "shadow"\n'))
    changed = plan.rule("c6")
    assert (changed.hours[0].hour, changed.mode, changed.priority) == (8, "shadow", 60)


def test_devices_may_have_other_names(site):
    devices = """
    [devices.axpert-1]
    family = "axpert"
    port = "/dev/serial/by-id/x"
    [devices.pack]
    family = "bms"
    port = "/dev/serial/by-id/y"
    """
    plan = plan_of(site('[controller]\ninverter = "axpert-1"\nbattery = "pack"\n', devices))
    assert {s.device for s in plan.sources} == {"axpert-1", "pack"}


def test_a_house_without_a_relay_keeps_what_is_left(site):
    devices = '[devices.inverter]\nfamily = "axpert"\nport = "/dev/serial/by-id/x"\n'
    plan = plan_of(site("", devices))
    assert {rule.name for rule in plan.rules} == {"c5", "c7", "c8", "c9", "c10", "c13", "c14"}
    assert all(not rule.positions for rule in plan.rules)
    assert plan.left_out["c1"] == "no device is called battery"
    assert plan.left_out["c6"] == "no device is called grid-relay"


def test_a_rule_of_ones_own_wants_its_devices(site):
    with pytest.raises(ConfigError, match="rules.c6: no device is called"):
        plan_of(site('[rules.c6]\nhours = "always"\n', devices=""))


@pytest.mark.parametrize("name", presets())
def test_every_number_of_a_preset_has_its_place(site, name):
    """Each is used, or stands in an order; each order is of known numbers."""
    found = preset(name)
    assert {each for order in found.orders for each in order} <= set(found.numbers)
    assert plan_of(site()).rules


def test_the_shipped_preset_is_off_until_the_owner_says_on():
    from controller.state import remembered

    assert remembered({}, 0).mode == "off"


# --- The program ----------------------------------------------------------------------------------


def run(site, *words):
    return subprocess.run(
        [SCRIPT, *words, "--config", site.path], capture_output=True, text=True, timeout=120
    )


def test_check_reads_the_rules_aloud(site):
    done = run(site(), "check")
    assert done.returncode == 0, done.stderr
    assert "13 rules are sound" in done.stdout
    assert (
        "When the battery voltage of inverter is 54.5 V or more in 3 of 4 minutes and the max "
        "charge current of inverter is set above 10 A, it disconnects the grid by the relay, sets "
        "the max charge current to 10 A" in done.stdout
    )


@pytest.mark.parametrize("verb", ["check", "run", "replay"])
def test_a_rule_that_cannot_be_loaded_is_one_line_and_status_2(site, verb):
    done = run(site(rule(until=None)), verb)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip().splitlines() == [f"{site('').path}: rules.hot.until: is missing"]
