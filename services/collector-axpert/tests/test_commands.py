"""What may be set: the bytes of each command, the ranges, and every refusal."""

import pytest
from collector_axpert import codec, commands
from collector_axpert.commands import DEFAULTS, NAMES, RESET, RISKY, build, permit, ranges, why_not
from collector_axpert.emulator import Inverter
from sunmesh.commands import rules
from sunmesh.errors import RefusedError
from sunmesh.vocabulary import VOCABULARY

NAMEPLATE = {
    "battery_rating_voltage_v": 48.0,
    "max_charge_current_choices_a": [10, 20, 60, 100],
    "max_ac_charge_current_choices_a": [2, 10, 30, 100],
}
CURRENT = {
    "recharge_voltage_v": 46.0,
    "redischarge_voltage_v": 53.0,
    "bulk_voltage_v": 56.4,
    "float_voltage_v": 54.4,
    "battery_type": "user",
}


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
        ("max_ac_charge_current_a", 2, "MUCHGC002"),
        ("max_ac_charge_current_a", 100, "MUCHGC0100"),
        ("buzzer_enabled", False, "PDa"),
        ("backlight_enabled", True, "PEx"),
        ("cut_off_voltage_v", 42.0, "PSDV42.0"),
        ("bulk_voltage_v", 56.4, "PCVV56.4"),
        ("float_voltage_v", 54, "PBFT54.0"),
        ("battery_type", "user", "PBT02"),
        ("equalisation_enabled", True, "PBEQE1"),
        ("equalisation_active", False, "PBEQA0"),
        ("equalisation_voltage_v", 58.4, "PBEQV58.40"),
        ("equalisation_time_min", 60, "PBEQT060"),
        ("equalisation_timeout_min", 5, "PBEQOT005"),
        ("equalisation_period_days", 0, "PBEQP000"),
        (RESET, DEFAULTS, "PF"),
    ],
)
def test_pi30_commands(name, value, command):
    takes = ranges("PI30", NAMEPLATE, RISKY)[name]
    assert build("PI30", name, rules.check(name, value, takes), CURRENT) == command
    assert codec.is_set_command(command)


@pytest.mark.parametrize(
    ("command", "wire"),
    [
        ("POP02", "50 4F 50 30 32 E2 0B 0D"),
        ("PCVV54.7", "50 43 56 56 35 34 2E 37 01 5C 0D"),
        ("MCHGC060", "4D 43 48 47 43 30 36 30 1D B1 0D"),
        ("PBDV54.0", "50 42 44 56 35 34 2E 30 58 1E 0D"),
        ("PF", "50 46 26 BD 0D"),
        ("^S007POP1", "5E 53 30 30 37 50 4F 50 31 0E 10 0D"),
    ],
)
def test_the_wire(command, wire):
    assert codec.request(command) == bytes.fromhex(wire)


STEPPED = (
    *("POP02", "PBDV48.6", "PBDV51.6", "PBDV53.4", "PBDV54.7", "PBDV58.2"),
    *("PBFT55.7", "PBFT57.5", "PCVV48.3", "PCVV51.3", "PCVV53.1", "PCVV57.0"),
    *("PSDV40.7", "PSDV41.4", "PSDV43.8", "MCHGC090", "MNCHGC1160"),
)


@pytest.mark.parametrize("command", STEPPED)
def test_no_checksum_byte_looks_like_a_start_or_an_end(command):
    request = codec.request(command)
    assert not set(request[-3:-1]) & set(b"(\r\n")


def test_battery_first_goes_out_with_the_stepped_checksum():
    wanted = codec.request(build("PI30", "output_source_priority", "SBU", {}))
    assert wanted == b"POP02\xe2\x0b\r"
    assert Inverter("PI30").receive(wanted) == [b"(ACK9 \r"]
    assert Inverter("PI30").receive(b"POP02\xe2\x0a\r") == [b"(NAKss\r"], "as several firmwares do"


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("output_source_priority", "SBU", "^S007POP1"),
        ("charger_source_priority", "solar_and_utility", "^S009PCP0,1"),
        ("input_range", "appliance", "^S007PGR0"),
        ("max_charge_current_a", 60, "^S013MCHGC0,060"),
        ("max_ac_charge_current_a", 30, "^S014MUCHGC0,030"),
        ("buzzer_enabled", True, "^S006PEA"),
        ("backlight_enabled", False, "^S006PDF"),
        ("recharge_voltage_v", 47, "^S014BUCD470,530"),
        ("redischarge_voltage_v", 0, "^S014BUCD460,000"),
        ("bulk_voltage_v", 55.2, "^S015MCHGV552,544"),
        ("float_voltage_v", 53.7, "^S015MCHGV564,537"),
        ("cut_off_voltage_v", 44, "^S010PSDV440"),
        ("battery_type", "flooded", "^S007PBT1"),
        (RESET, DEFAULTS, "^S005PF"),
    ],
)
def test_pi18_commands(name, value, command):
    takes = ranges("PI18", NAMEPLATE, RISKY)[name]
    assert build("PI18", name, rules.check(name, value, takes), CURRENT) == command
    assert codec.is_set_command(command)


def test_a_pi18_voltage_needs_the_one_that_goes_with_it():
    with pytest.raises(RefusedError, match="float_voltage_v of the device is not known"):
        build("PI18", "bulk_voltage_v", 55.2, {})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("output_source_priority", "BSU", "not among: USB, SUB, SBU"),
        ("output_source_priority", 2, "not among"),
        ("recharge_voltage_v", 46.5, "not among"),
        ("recharge_voltage_v", "46", "not among"),
        ("recharge_voltage_v", True, "not among"),
        ("max_charge_current_a", 70, "not among: 10, 20, 60, 100"),
        ("buzzer_enabled", 1, "not among"),
        ("bulk_voltage_v", 58.5, "must be 48 to 58.4 V"),
        ("bulk_voltage_v", 55.25, "steps of 0.1"),
        ("bulk_voltage_v", float("nan"), "must be 48 to 58.4 V"),
        ("cut_off_voltage_v", 39.9, "must be 40 to 48 V"),
        ("equalisation_time_min", 62, "steps of 5"),
    ],
)
def test_out_of_range(name, value, reason):
    with pytest.raises(RefusedError, match=reason):
        rules.check(name, value, ranges("PI30", NAMEPLATE, RISKY)[name])


@pytest.mark.parametrize(
    ("name", "allow", "nameplate", "reason"),
    [
        ("wipe_counters", (), NAMEPLATE, "cannot be set"),
        ("bulk_voltage_v", (), NAMEPLATE, "high risk: it must stand in allow"),
        ("battery_type", ("bulk_voltage_v",), NAMEPLATE, "danger risk"),
        (RESET, (), NAMEPLATE, "danger risk"),
        ("bulk_voltage_v", RISKY, {"battery_rating_voltage_v": 24}, "48 V batteries only"),
        ("max_charge_current_a", RISKY, {}, "not known"),
        ("recharge_voltage_v", RISKY, {}, "not known"),
    ],
)
def test_what_is_not_offered_and_why(name, allow, nameplate, reason):
    assert name not in ranges("PI30", nameplate, allow)
    assert reason in why_not("PI30", name, allow)


def test_nothing_risky_is_offered_unless_the_owner_lists_it():
    for dialect in ("PI30", "PI18"):
        assert {takes.risk for takes in ranges(dialect, NAMEPLATE).values()} == {"normal"}
        everything = ranges(dialect, NAMEPLATE, RISKY)
        assert {takes.risk for takes in everything.values()} == {"normal", "high", "danger"}
    assert all(
        takes.risk == "danger"
        for name, takes in ranges("PI30", NAMEPLATE, RISKY).items()
        if name.startswith(("equalisation", "battery_type", RESET))
    )


def test_24_v_and_12_v_have_their_own_steps():
    assert 23.5 in ranges("PI30", {"battery_rating_voltage_v": 24.0})["recharge_voltage_v"].choices
    assert 11.3 in ranges("PI30", {"battery_rating_voltage_v": 12})["recharge_voltage_v"].choices
    assert 46 not in ranges("PI30", {"battery_rating_voltage_v": 24})["recharge_voltage_v"].choices


def test_the_owners_limits_are_narrower_never_wider():
    limits = {"bulk_voltage_v": (52.0, 62.0), "max_charge_current_a": (0, 60)}
    found = ranges("PI30", NAMEPLATE, RISKY, limits)
    assert (found["bulk_voltage_v"].low, found["bulk_voltage_v"].high) == (52.0, 58.4)
    assert found["max_charge_current_a"].choices == [10, 20, 60]


@pytest.mark.parametrize("dialect", ["PI30", "PI18"])
def test_a_battery_type_that_fixes_the_voltages_is_said(dialect):
    for name in ("bulk_voltage_v", "float_voltage_v", "cut_off_voltage_v"):
        permit(dialect, name, CURRENT)
        with pytest.raises(RefusedError, match="battery_type is agm"):
            permit(dialect, name, {"battery_type": "agm"})
    permit(dialect, "recharge_voltage_v", {"battery_type": "agm"})


@pytest.mark.parametrize("dialect", ["PI30", "PI18"])
def test_every_setting_is_in_the_vocabulary_and_nothing_harmful_is_there(dialect):
    rows = commands.SETTABLE[dialect]
    assert {row.name for row in rows} - {RESET} <= set(VOCABULARY)
    assert {row.name for row in rows} <= set(NAMES)
    for row in rows:
        for word in row.words:
            command = row.command(word, CURRENT)
            assert not command.startswith(("RTEY", "RTDL", "ATE", "F5", "F6", "V"))
