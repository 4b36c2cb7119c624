"""What may be set: the bytes of each command, and every refusal."""

import pytest
from collector_axpert import codec, commands
from collector_axpert.commands import Risk, build
from collector_axpert.emulator import Inverter
from sunmesh.errors import RefusedError
from sunmesh.vocabulary import VOCABULARY

NAMEPLATE = {
    "battery_rating_voltage_v": 48.0,
    "max_charge_current_choices_a": [10, 20, 60, 100],
    "max_ac_charge_current_choices_a": [2, 10, 30, 100],
}
ALL = (Risk.NORMAL, Risk.HIGH)


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("output_source_priority", "USB", "POP00"),
        ("output_source_priority", "SBU", "POP02"),
        ("charger_source_priority", "solar_only", "PCP03"),
        ("input_range", "ups", "PGR01"),
        ("recharge_voltage_v", 46, "PBCV46.0"),
        ("redischarge_voltage_v", 54.0, "PBDV54.0"),
        ("redischarge_voltage_v", 0, "PBDV00.0"),
        ("max_charge_current_a", 60, "MCHGC060"),
        ("max_charge_current_a", 100, "MNCHGC0100"),
        ("max_ac_charge_current_a", 10, "MUCHGC010"),
        ("max_ac_charge_current_a", 100, "MUCHGC0100"),
        ("buzzer_enabled", False, "PDa"),
        ("backlight_enabled", True, "PEx"),
        ("cut_off_voltage_v", 42.0, "PSDV42.0"),
        ("bulk_voltage_v", 56.4, "PCVV56.4"),
        ("float_voltage_v", 54, "PBFT54.0"),
    ],
)
def test_pi30_commands(name, value, command):
    assert build("PI30", name, value, NAMEPLATE, ALL) == codec.request(command)


def test_battery_first_goes_out_with_the_stepped_checksum():
    wanted = b"POP02\xe2\x0b\r"
    assert build("PI30", "output_source_priority", "SBU", NAMEPLATE) == wanted
    assert Inverter("PI30").receive(wanted) == [b"(ACK9 \r"]
    assert Inverter("PI30").receive(b"POP02\xe2\x0a\r") == [b"(NAKss\r"], "as several firmwares do"


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("output_source_priority", "SBU", "^S007POP1"),
        ("charger_source_priority", "solar_and_utility", "^S009PCP0,1"),
        ("max_charge_current_a", 60, "^S013MCHGC0,060"),
        ("max_ac_charge_current_a", 30, "^S014MUCHGC0,030"),
    ],
)
def test_pi18_commands(name, value, command):
    assert build("PI18", name, value, NAMEPLATE) == codec.request(command)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("factory_reset", 1, "cannot be set"),
        ("battery_type", "agm", "cannot be set"),
        ("output_source_priority", "BSU", "not among: USB, SUB, SBU"),
        ("output_source_priority", 2, "not among"),
        ("recharge_voltage_v", 46.5, "not among"),
        ("recharge_voltage_v", "46", "is a number"),
        ("recharge_voltage_v", True, "is a number"),
        ("recharge_voltage_v", None, "is a number"),
        ("max_charge_current_a", 70, "not among: 10, 20, 60, 100"),
        ("buzzer_enabled", 1, "not among"),
        ("bulk_voltage_v", 58.5, "must be 48 to 58.4"),
        ("bulk_voltage_v", float("nan"), "must be 48 to 58.4"),
        ("cut_off_voltage_v", 39.9, "must be 40 to 48"),
    ],
)
def test_refusals_before_the_wire(name, value, reason):
    with pytest.raises(RefusedError, match=reason):
        build("PI30", name, value, NAMEPLATE, ALL)


def test_high_risk_needs_permission_and_a_48_v_battery():
    with pytest.raises(RefusedError, match="high risk"):
        build("PI30", "bulk_voltage_v", 56.4, NAMEPLATE)
    with pytest.raises(RefusedError, match="48 V"):
        build("PI30", "bulk_voltage_v", 28.2, {"battery_rating_voltage_v": 24}, ALL)


def test_what_the_device_did_not_list_cannot_be_set():
    with pytest.raises(RefusedError, match="not known of this device"):
        build("PI30", "max_charge_current_a", 60, {})
    with pytest.raises(RefusedError, match="not known of this device"):
        build("PI30", "recharge_voltage_v", 46, {})


def test_24_v_and_12_v_have_their_own_steps():
    assert build("PI30", "recharge_voltage_v", 23.5, {"battery_rating_voltage_v": 24.0})
    assert build("PI30", "recharge_voltage_v", 11.3, {"battery_rating_voltage_v": 12})
    with pytest.raises(RefusedError):
        build("PI30", "recharge_voltage_v", 46, {"battery_rating_voltage_v": 24})


@pytest.mark.parametrize("dialect", ["PI30", "PI18"])
def test_every_setting_is_in_the_vocabulary_and_nothing_harmful_is_there(dialect):
    rows = commands.SETTABLE[dialect]
    assert {row.name for row in rows} <= set(VOCABULARY)
    for row in rows:
        for word in row.words:
            assert codec.is_set_command(row.command(word))
            assert not row.command(word).startswith(("PF", "RTEY", "RTDL", "ATE", "PBT"))
