import pytest
from sunmesh.errors import RefusedError
from sunmesh.messages import Info, Range, Settings, Writes
from web.controls import (
    allowed,
    changes,
    form_text,
    parse_value,
    proof,
    row_of,
    step_text,
    theme_of,
    wish_text,
    writes_text,
)
from web.house import House
from web.orders import Step

VOLTS = Range(low=48.0, high=58.4, step=0.1, unit="V", risk="high")
AMPERES = Range(low=10, high=80, step=10, unit="A")
SOURCES = Range(choices=["USB", "SUB", "SBU"])
LIMITS = Range(choices=[2, 10, 20], unit="A")
SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("name", "text", "limits", "current", "value"),
    [
        ("float_voltage_v", "53.6", VOLTS, 54.0, 53.6),
        ("float_voltage_v", " 53,6 ", VOLTS, 54.0, 53.6),
        ("float_voltage_v", "48", VOLTS, 54.0, 48.0),
        ("float_voltage_v", "58.4", VOLTS, 54.0, 58.4),
        ("max_charge_current_a", "60", AMPERES, 50, 60),
        ("max_charge_current_a", "60.0", AMPERES, 50.0, 60),
        ("max_ac_charge_current_a", "10", LIMITS, 2, 10),
        ("output_source_priority", "SBU", SOURCES, "SUB", "SBU"),
        ("buzzer_enabled", "false", Range(choices=[True, False]), True, False),
        ("buzzer_enabled", "true", None, False, True),
        ("label", "roof", None, "barn", "roof"),
        ("some_number", "-3.5", None, 2.0, -3.5),
    ],
)
def test_what_is_typed_becomes_the_devices_value(name, text, limits, current, value) -> None:
    found = parse_value(name, text, limits, current)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "limits", "current", "reason"),
    [
        ("float_voltage_v", "47.9", VOLTS, 54.0, f"47.9 is outside .* 48.0 to 58.4{SPACE}V"),
        ("float_voltage_v", "58.5", VOLTS, 54.0, "outside"),
        ("float_voltage_v", "1e999", VOLTS, 54.0, "is no number"),
        ("float_voltage_v", "nan", VOLTS, 54.0, "is no number"),
        ("float_voltage_v", "", VOLTS, 54.0, "is no number"),
        ("float_voltage_v", "53.65", VOLTS, 54.0, "goes in steps of 0.1 V, not 53.65"),
        ("max_charge_current_a", "65", AMPERES, 60, "goes in steps of 10 A"),
        ("max_ac_charge_current_a", "11", LIMITS, 2, "“11” is none of 2, 10, 20"),
        ("output_source_priority", "sbu", SOURCES, "SUB", "is none of USB, SUB, SBU"),
        ("buzzer_enabled", "maybe", None, False, "neither on nor off"),
        ("label", "x\x00y", None, "barn", "printable"),
        ("label", "", None, "barn", "printable"),
    ],
)
def test_what_is_no_value_is_refused_with_what_is(name, text, limits, current, reason) -> None:
    with pytest.raises(RefusedError, match=reason):
        parse_value(name, text, limits, current)


def test_forms_carry_what_the_device_has() -> None:
    assert form_text(54.0, VOLTS) == "54.0"
    assert form_text(60, AMPERES) == "60"
    assert form_text(0.25) == "0.25"
    assert (form_text(True), form_text(None), form_text("SBU")) == ("true", "", "SBU")


def test_ranges_in_words() -> None:
    assert allowed("float_voltage_v", VOLTS) == f"48.0 to 58.4{SPACE}V, in steps of 0.1"
    assert allowed("x", None) == ""
    assert allowed("x_a", Range(low=2)) == f"from 2{SPACE}A"
    assert allowed("x_a", Range(high=2)) == f"up to 2{SPACE}A"
    assert "sun, then battery" in allowed("output_source_priority", SOURCES)
    assert writes_text(None) == ""
    assert writes_text(Writes(3, 41, 20)) == "3 of 20 writes today, 41 ever"


INFO = Info(
    "2026-11-21T12:00:00Z",
    "axpert",
    settable=["float_voltage_v", "output_source_priority", "buzzer_enabled"],
    ranges={"float_voltage_v": VOLTS, "output_source_priority": SOURCES},
)
SETTINGS = Settings(
    "2026-11-21T12:00:00Z",
    {"float_voltage_v": 54.0, "output_source_priority": "SUB", "buzzer_enabled": True},
    {"float_voltage_v": Writes(20, 99, 20)},
)


def test_differences_are_what_was_touched() -> None:
    form = {
        "csrf": "x",
        "set.float_voltage_v": "53.6",
        "was.float_voltage_v": "54.0",
        "set.output_source_priority": "SUB",
        "was.output_source_priority": "SUB",
    }
    (only,) = changes(form, INFO, SETTINGS)
    assert (only.row.name, only.was, only.value, only.form) == (
        "float_voltage_v",
        54.0,
        53.6,
        "53.6",
    )
    assert only.row.is_spent
    assert changes({"set.float_voltage_v": "54.00"}, INFO, SETTINGS) == []


def test_what_somebody_else_changed_is_not_overwritten() -> None:
    form = {"set.float_voltage_v": "53.6", "was.float_voltage_v": "55.0"}
    with pytest.raises(RefusedError, match=r"it was 55.0 on your page, and is 54.0.V now"):
        changes(form, INFO, SETTINGS)
    # Not touched here, only changed there: nobody asked for anything.
    assert (
        changes({"set.float_voltage_v": "55.0", "was.float_voltage_v": "55.0"}, INFO, SETTINGS)
        == []
    )


@pytest.mark.parametrize("name", ["battery_type", "<b>", "", "float_voltage"])
def test_an_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="is no setting that this device takes"):
        changes({f"set.{name}": "x"}, INFO, SETTINGS)


def test_a_row_offers_what_the_device_takes() -> None:
    row = row_of("output_source_priority", INFO, SETTINGS)
    assert [(choice.form, choice.is_current) for choice in row.choices] == [
        ("USB", False),
        ("SUB", True),
        ("SBU", False),
    ]
    switch = row_of("buzzer_enabled", INFO, SETTINGS)
    assert [choice.text for choice in switch.choices] == ["on", "off"]
    volts = row_of("float_voltage_v", INFO, SETTINGS)
    assert (volts.low, volts.high, volts.step, volts.risk) == ("48.0", "58.4", "0.1", "high")


@pytest.mark.parametrize(
    ("name", "theme"),
    [
        ("output_source_priority", "sources"),
        ("charger_source_priority", "sources"),
        ("redischarge_voltage_v", "sources"),
        ("bulk_voltage_v", "voltages"),
        ("max_charge_current_a", "currents"),
        ("battery_type", "battery"),
        ("equalisation_voltage_v", "battery"),
        ("output_frequency_hz", "output"),
        ("buzzer_enabled", "switches"),
        ("charge_mosfet_on", "switches"),
        ("anything", "other"),
    ],
)
def test_every_setting_has_its_place(name: str, theme: str) -> None:
    assert theme_of(name) == theme


@pytest.mark.parametrize(
    ("position", "volts", "level", "text"),
    [
        ("grid_connected", 231.0, "good", "Proved: 231.0"),
        ("grid_connected", 3.0, "warning", "the grid is away, or a contact is"),
        ("grid_open", 0.0, "good", "Proved: 0.0"),
        ("grid_open", 230.0, "warning", "although the relay is open"),
        ("grid_open", None, "info", "not proved"),
        ("", 230.0, "info", "are measured"),
    ],
)
def test_the_relay_is_proved_by_what_is_measured(position, volts, level, text) -> None:
    found = proof(position, House(grid_v=volts))
    assert found.level == level
    assert text in found.text


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        (None, ""),
        (False, ""),
        ("nothing_to_do", "nothing to do"),
        ("Renewed the lease.", "Renewed the lease."),
        ({"name": "relay_position", "value": "grid_open"}, "Transfer relay: grid disconnected"),
        ({"battery.battery_soc_percent": 31}, f"State of charge: 31{SPACE}%"),
        ([{"name": "buzzer_enabled", "value": False}, "x y"], "Buzzer: off; x y"),
        ({"odd": {"deep": [1]}}, "Odd: {'deep': [1]}"),
        (7, "7"),
    ],
)
def test_wishes_of_rules_in_words(wish, text) -> None:
    assert wish_text(wish) == text


@pytest.mark.parametrize(
    ("stage", "value", "detail", "text"),
    [
        (
            "applied",
            53.6,
            "read back; it was 54.0",
            f"read back 53.6{SPACE}V: applied (it was 54.0)",
        ),
        ("not_applied", 56.4, "", f"not applied: the device kept 56.4{SPACE}V"),
        ("reverted", 54.0, "", f"reverted: the device is back at 54.0{SPACE}V"),
        ("refused", 53.6, "the batch stopped at bulk", "refused (the batch stopped at bulk)"),
        ("failed", None, "no answer after 3 tries", "failed (no answer after 3 tries)"),
        ("acknowledged", 53.6, "", "acknowledged"),
        ("queued", None, "", "asked"),
    ],
)
def test_stages_in_words(stage, value, detail, text) -> None:
    assert step_text("float_voltage_v", Step(stage, 0, value, detail), 53.6) == text


def test_what_is_done_and_never_read_is_offered_too() -> None:
    info = Info(
        "2026-11-21T12:00:00Z",
        "axpert",
        settable=["factory_reset"],
        ranges={"factory_reset": Range(choices=[True], risk="danger")},
    )
    row = row_of("factory_reset", info, SETTINGS)
    assert (row.text, row.form, [choice.form for choice in row.choices]) == ("–", "", ["true"])
    assert changes({"set.factory_reset": "", "was.factory_reset": ""}, info, SETTINGS) == []
    (only,) = changes({"set.factory_reset": "true", "was.factory_reset": ""}, info, SETTINGS)
    assert (only.value, only.was, only.form) == (True, None, "true")
