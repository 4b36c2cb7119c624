from datetime import UTC, datetime, timedelta

import pytest
from sunmesh.vocabulary import VOCABULARY
from web import text, words


def plain(text: str) -> str:
    return (
        text.replace(words.HARD, " ")
        .replace("\N{NARROW NO-BREAK SPACE}", " ")
        .replace(words.MINUS, "-")
    )


@pytest.mark.parametrize(
    ("watts", "text"),
    [
        (None, "–"),
        (0, "0 W"),
        (-0.2, "0 W"),
        (834.4, "834 W"),
        (999.4, "999 W"),
        (999.6, "1.00 kW"),
        (1234, "1.23 kW"),
        (-1500, "-1.50 kW"),
        (12345, "12.35 kW"),
        (1_234_567, "1,234.57 kW"),
    ],
)
def test_power(watts, text) -> None:
    assert plain(words.power(watts)) == text


@pytest.mark.parametrize(
    ("kwh", "text"),
    [
        (None, "–"),
        (0, "0.00 kWh"),
        (6.144, "6.14 kWh"),
        (99.996, "100.0 kWh"),
        (1234.56, "1,234.6 kWh"),
    ],
)
def test_energy(kwh, text) -> None:
    assert plain(words.energy(kwh)) == text


NOW = datetime(2026, 11, 21, 14, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW, "14:02"),
        (NOW - timedelta(days=1), "yesterday 14:02"),
        (NOW + timedelta(days=1), "tomorrow 14:02"),
        (NOW - timedelta(days=3), "Wednesday 14:02"),
        (NOW - timedelta(days=20), "1 Nov, 14:02"),
        (NOW - timedelta(days=400), "17 Oct 2025, 14:02"),
    ],
)
def test_clock(moment, text) -> None:
    assert words.clock(moment, NOW) == text


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0, "0 min"),
        (59, "59 min"),
        (60, "1 h"),
        (323, "5 h 20 min"),
        (840, "14 h"),
        (4320, "3 days"),
    ],
)
def test_duration(minutes, text) -> None:
    assert plain(words.duration(timedelta(minutes=minutes))) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (3, "3 s"), (240, "4 min"), (7300, "2 h"), (200_000, "2 days")],
)
def test_age(seconds, text) -> None:
    assert plain(words.age(seconds)) == text


@pytest.mark.parametrize(
    ("name", "reading", "text"),
    [
        ("battery_voltage_v", 53.24, "53.2 V"),
        ("battery_voltage_v", None, "–"),
        ("battery_soc_percent", 82, "82 %"),
        ("battery_soc_percent", 82.0, "82 %"),
        ("battery_soc_percent", 82.44, "82.4 %"),
        ("pv_power_w", 1234, "1.23 kW"),
        ("pv_energy_total_kwh", 5678.9, "5,678.9 kWh"),
        ("cell_voltage_v", [3.321, 3.3, None], "3.321 · 3.300 · – V"),
        ("cell_voltage_spread_v", 0.0123, "0.012 V"),
        ("battery_temperature_c", [21.0, 22.5], "21.0 · 22.5 °C"),
        ("device_mode", "line", "on the grid"),
        ("device_mode", "unheard_of", "unheard of"),
        ("output_source_priority", "SBU", "sun, then battery, then grid (SBU)"),
        ("buzzer_enabled", True, "on"),
        ("buzzer_enabled", False, "off"),
        ("warnings", [], "none"),
        ("warnings", ["overload", "reserved_13"], "overload: switch something off, reserved 13"),
        ("device_status_bits", "00010110", "00010110"),
        ("cycles", 321, "321"),
        ("unknown_thing", 1.5, "1.50"),
    ],
)
def test_value(name, reading, text) -> None:
    assert plain(words.value(name, reading)) == text


def test_every_quantity_has_a_plain_name() -> None:
    for name in VOCABULARY:
        label = words.label(name)
        assert label[0].isupper()
        assert "_" not in label
    assert words.label("pv2_voltage_v") == "Panels 2, voltage"
    assert words.label("grid_power_factor_l2") == "Grid power factor, phase 2"
    assert words.label("odd_new_voltage_v") == "Odd new voltage"
    assert words.title("grid-meter") == "Grid meter"
    assert words.meaning("battery_power_w") == "power out of the battery"
    assert words.meaning("no_such_thing") == ""


def test_every_quantity_is_named_in_the_catalogues() -> None:
    """What is only made of the vocabulary's own name can be in no other language."""
    for name in VOCABULARY:
        assert words.PHASE.sub("", name) in words.LABELS, name


@pytest.mark.parametrize(
    ("language", "watts", "kwh", "moment"),
    [
        ("en", "12.35 kW", "1,234.6 kWh", "17 Oct 2025, 14:02"),
        ("de", "12,35 kW", "1.234,6 kWh", "17.10.2025, 14:02"),
        ("it", "12,35 kW", "1.234,6 kWh", "17 ott 2025, 14:02"),
        ("es", "12,35 kW", "1.234,6 kWh", "17 oct 2025, 14:02"),
        ("fr", "12,35 kW", "1 234,6 kWh", "17 oct. 2025, 14:02"),
        ("cs", "12,35 kW", "1 234,6 kWh", "17. 10. 2025, 14:02"),
        ("ro", "12,35 kW", "1.234,6 kWh", "17 oct. 2025, 14:02"),
    ],
)
def test_local_forms(language, watts, kwh, moment) -> None:
    with text.use(language):
        assert plain(words.power(12_345)) == watts
        assert plain(words.energy(1234.56)) == kwh
        assert plain(words.clock(NOW - timedelta(days=400), NOW)) == moment


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0.35", 0.35), ("0,35", 0.35), (".5", 0.5), ("7.", 7), (" 54,4 ", 54.4), ("+3", 3),
        ("-3", -3), ("\N{MINUS SIGN}0.1", -0.1), ("1.250", 1.25), ("1,250.5", 1250.5),
        ("1.250,5", 1250.5), ("1 250", 1250), ("1\N{NO-BREAK SPACE}250 000", None),
        ("1 250 000,5", 1250000.5), ("1'250.5", 1250.5), ("5,6.4", None), ("1,250,5", None),
        ("1 25", None), ("5 4.0", None), ("1.2.3", None), ("", None), ("-", None), (".", None),
        ("1e9", None), ("nan", None), ("inf", None), ("--1", None), ("५", None),
        ("1234567890", 1234567890), ("9" * 400, None), ("1_000", None), ("54 V", None),
    ],
)  # fmt: skip
def test_what_is_typed_as_a_number(written, number) -> None:
    assert text.typed(written) == number
