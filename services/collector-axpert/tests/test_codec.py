"""The codec against every capture, every checksum vector, and every kind of damage."""

import json
import random
from binascii import crc_hqx
from pathlib import Path

import pytest
from collector_axpert import codec, tables
from hypothesis import given
from hypothesis import strategies as st
from sunmesh.errors import FrameError
from sunmesh.vocabulary import VOCABULARY

CAPTURES = json.loads((Path(__file__).parent / "captures" / "axpert.json").read_text())

# The papers' names, as the captures' ``expect`` has them, and ours.
NAMES = {
    "protocol_id": "protocol",
    "serial": "serial",
    "firmware": "firmware",
    "model_name": "model",
    "general_model": "general_model",
    "grid_voltage": "grid_voltage_v",
    "grid_frequency": "grid_frequency_hz",
    "ac_output_voltage": "ac_output_voltage_v",
    "ac_output_frequency": "ac_output_frequency_hz",
    "ac_output_apparent_power": "ac_output_apparent_power_va",
    "ac_output_active_power": "ac_output_power_w",
    "load_percent": "load_percent",
    "bus_voltage": "bus_voltage_v",
    "battery_voltage": "battery_voltage_v",
    "battery_charging_current": "battery_charge_current_a",
    "battery_discharge_current": "battery_discharge_current_a",
    "battery_capacity": "battery_soc_percent",
    "heatsink_temperature": "heat_sink_temperature_c",
    "mppt1_temperature": "mppt1_temperature_c",
    "mppt2_temperature": "mppt2_temperature_c",
    "pv1_current": "pv_current_a",
    "pv1_voltage": "pv_voltage_v",
    "pv1_power": "pv_power_w",
    "pv2_current": "pv2_current_a",
    "pv2_voltage": "pv2_voltage_v",
    "pv2_power": "pv2_power_w",
    "scc_battery_voltage": "battery_voltage_scc_v",
    "scc2_battery_voltage": "battery_voltage_scc2_v",
    "status": "device_status_bits",
    "status2": "device_status2_bits",
    "fan_voltage_offset": "fan_voltage_offset_v",
    "solar_feed_to_grid": "solar_feed_to_grid",
    "country": "country_code",
    "feed_to_grid_power": "grid_export_power_w",
    "pv_current_side": "pv_current_side",
    "load_on": "load_on",
    "charging": "charging",
    "scc_charging": "scc_charging",
    "ac_charging": "ac_charging",
    "grid_rating_voltage": "grid_rating_voltage_v",
    "grid_rating_current": "grid_rating_current_a",
    "ac_output_rating_voltage": "ac_output_rating_voltage_v",
    "ac_output_rating_frequency": "ac_output_rating_frequency_hz",
    "ac_output_rating_current": "ac_output_rating_current_a",
    "ac_output_rating_apparent_power": "ac_output_rating_apparent_power_va",
    "ac_output_rating_active_power": "ac_output_rating_power_w",
    "battery_rating_voltage": "battery_rating_voltage_v",
    "battery_recharge_voltage": "recharge_voltage_v",
    "battery_redischarge_voltage": "redischarge_voltage_v",
    "battery_under_voltage": "cut_off_voltage_v",
    "battery_bulk_voltage": "bulk_voltage_v",
    "battery_float_voltage": "float_voltage_v",
    "battery_type": "battery_type",
    "max_ac_charging_current": "max_ac_charge_current_a",
    "max_charging_current": "max_charge_current_a",
    "max_charging_range": "max_charge_range_a",
    "max_discharging_current": "max_discharge_current_a",
    "max_cv_charging_time": "max_cv_charge_time_min",
    "input_voltage_range": "input_range",
    "output_source_priority": "output_source_priority",
    "charger_source_priority": "charger_source_priority",
    "solar_power_priority": "solar_power_priority",
    "parallel_max_num": "parallel_max_units",
    "machine_type": "machine_type",
    "topology": "topology",
    "output_mode": "output_mode",
    "pv_ok_condition": "pv_ok_condition",
    "pv_power_balance": "pv_power_balance",
    "operation_logic": "operation_logic",
    "mppt_strings": "mppt_strings",
    "extra": "extra_fields",
    "mode": "device_mode",
    "bits": "device_warning_bits",
    "values_a": "",  # by command, below
    "power_saving": "power_saving_enabled",
    "overload_restart": "overload_restart_enabled",
    "over_temperature_restart": "over_temperature_restart_enabled",
    "lcd_backlight": "backlight_enabled",
    "backlight": "backlight_enabled",
    "buzzer": "buzzer_enabled",
    "primary_source_alarm": "primary_source_alarm_enabled",
    "fault_code_record": "fault_record_enabled",
    "overload_bypass": "overload_bypass_enabled",
    "lcd_escape": "lcd_escape_enabled",
    "time": "device_clock",
    "enabled": "equalisation_enabled",
    "active": "equalisation_active",
    "time_min": "equalisation_time_min",
    "period_days": "equalisation_period_days",
    "max_current": "equalisation_max_current_a",
    "voltage": "equalisation_voltage_v",
    "over_time_min": "equalisation_timeout_min",
    "elapsed_hours": "equalisation_elapsed_hours",
    "exists": "parallel_unit_exists",
    "total_charging_current": "parallel_charge_current_a",
    "total_ac_output_apparent_power": "parallel_output_apparent_power_va",
    "total_ac_output_active_power": "parallel_output_power_w",
    "total_load_percent": "parallel_load_percent",
    "absorb_seconds": "absorb_time_s",
    "float_seconds": "float_time_s",
    "scc_ok": "scc_ok",
    "allow_scc": "scc_allowed",
    "charge_average_current": "charge_average_current_a",
    "scc_pwm_temperature": "scc_temperature_c",
    "inverter_temperature": "inverter_temperature_c",
    "battery_side_temperature": "battery_side_temperature_c",
    "transformer_temperature": "transformer_temperature_c",
    "fan_locked": "fan_locked",
    "fan_speed_percent": "fan_speed_percent",
    "scc_charge_power": "scc_charge_power_w",
    "sync_frequency": "sync_frequency_hz",
    "settings_changed": "settings_changed",
    "load_connected": "load_on",
    "parallel_id": "parallel_id",
}

# Codes of the papers and our words; PI18 differs in three.
WORDS = {
    "battery_type": {0: "agm", 2: "user"},
    "input_range": {0: "appliance", 1: "ups"},
    "output_source_priority": {0: "USB", 1: "SUB", 2: "SBU"},
    "charger_source_priority": {
        0: "utility_first",
        1: "solar_first",
        2: "solar_and_utility",
        3: "solar_only",
    },
    "machine_type": {"01": "off_grid", 1: "grid_tie"},
    "topology": {0: "transformerless", 1: "transformer"},
    "output_mode": {0: "single", 1: "parallel", 6: "phase_2_of_2_120_deg"},
    "pv_ok_condition": {0: "any_unit", 1: "all_units"},
    "pv_power_balance": {0: "charge_current", 1: "charge_and_load"},
    "operation_logic": {0: "auto"},
    "device_mode": {"B": "battery", "L": "line", "S": "standby", "hybrid": "hybrid"},
    "protocol": {"PI30": "PI30", "18": "PI18"},
    "solar_power_priority": {0: "battery_load_utility"},
}
PI18_WORDS = WORDS | {
    "output_source_priority": {0: "SUB", 1: "SBU"},
    "charger_source_priority": {0: "solar_first", 1: "solar_and_utility", 2: "solar_only"},
}

# Names whose value the test below says in another way.
OTHERWISE = {
    ("QGMN", "general_model"): "044",
    ("QPIGS", "eeprom_version"): 0,
    ("QDI", "buzzer_disabled"): 0,
    ("QPGS0", "fault_code"): "00",
    ("QPGS0", "status"): "10100110",
    ("Q1", "parallel_mode"): 0,
    ("Q1", "charge_status"): "13",
    ("Q1", "parallel_warning"): 0,
}
UNPUBLISHED = {"_fields", "length", "reserved", "reserved1", "reserved2", "fan_pwm_duty", "value"}
OUTCOMES = {
    "nak": "nak",
    "echo": "echo",
    "crc_error": "crc",
    "mismatched_reply": "shape",
}


def value_of(record):
    return codec.decode(record["command"], bytes.fromhex(record["hex"]))


def is_refused(record):
    foreign = record["command"] == "^P003GS" or record["expect"].get("_dialect")
    return foreign or record["expect"].get("_outcome", "ack") != "ack"


def name_of(record):
    return f"{record['command']} {record.get('model')}"


@pytest.mark.parametrize("record", [r for r in CAPTURES if not is_refused(r)], ids=name_of)
def test_every_expected_value_of_every_capture_is_met(record):
    values = value_of(record)
    words = PI18_WORDS if record["command"].startswith("^") else WORDS
    for paper_name, expected in record["expect"].items():
        key = (record["command"], paper_name)
        if paper_name in UNPUBLISHED or key in OTHERWISE and OTHERWISE[key] == expected:
            continue
        special = {
            "_outcome": lambda e: values == {"ack": e == "ack"},
            "set_bits": lambda e: len(values["warnings"]) == len(e),
            "disabled": lambda e: not any(values[tables.FLAGS[letter]] for letter in e),
            "energy_wh": lambda e: values["pv_energy_total_kwh"] == e / 1000,
            "energy_wh_probable": lambda e: values["pv_energy_total_kwh"] == e / 1000,
            "values_a": lambda e: list(values.values()) == [e],
            "mode_code": lambda e: (values["device_mode"], e) == ("hybrid", 5),
            "fault_code": lambda e: values["fault_code"] == e,
            "flags": lambda e: len(values["warnings"]) == e.count("1"),
            "mppt1_status": lambda e: values["mppt1_status"] == {2: "charging"}[e],
            "mppt2_status": lambda e: values["mppt2_status"] == {0: "abnormal"}[e],
            "battery_direction": lambda e: values["battery_direction"] == {1: "charge"}[e],
            "dc_ac_direction": lambda e: values["dc_ac_direction"] == {2: "dc_ac"}[e],
            "line_direction": lambda e: values["line_direction"] == {2: "output"}[e],
        }
        if paper_name == "enabled" and record["command"] == "QFLAG":
            assert all(values[tables.FLAGS[letter]] for letter in expected)
        elif paper_name in special:
            assert special[paper_name](expected), paper_name
        else:
            name = NAMES[paper_name]
            if name in words:
                expected = words[name].get(expected, expected)
            assert values[name] == expected, paper_name


def test_what_the_tables_turn_into_words_is_checked_by_hand():
    q1 = value_of(next(r for r in CAPTURES if r["command"] == "Q1"))
    assert (q1["parallel_role"], q1["charge_stage"], q1["parallel_warning"]) == (
        "new",
        "float",
        "0000",
    )
    qdi = value_of(next(r for r in CAPTURES if r["command"] == "QDI"))
    assert qdi["buzzer_enabled"] is True  # buzzer_disabled 0
    qpgs = value_of(next(r for r in CAPTURES if r["command"] == "QPGS0"))
    assert (qpgs["parallel_status_bits"], qpgs["fault_code"]) == ("10100110", 0)
    eeprom = value_of(next(r for r in CAPTURES if r["command"] == "^P005FWS"))
    assert eeprom["warnings"] == ["eeprom_fault"]


@pytest.mark.parametrize("record", [r for r in CAPTURES if is_refused(r)], ids=name_of)
def test_every_broken_or_foreign_capture_is_refused_by_the_right_kind(record):
    with pytest.raises(FrameError) as caught:
        value_of(record)
    assert caught.value.kind == OUTCOMES.get(record["expect"].get("_outcome"), "unsupported")


def test_every_name_that_leaves_the_codec_is_in_the_vocabulary():
    names = {
        name
        for record in CAPTURES
        if not is_refused(record)
        for name in value_of(record)
        if name != "ack"
    }
    rows = [layout.fields for layouts in codec.LAYOUTS.values() for layout in layouts]
    names |= {field.name for fields in rows for field in fields if field.name}
    assert names | set(tables.FLAGS.values()) <= set(VOCABULARY)


# -- signs and sides ------------------------------------------------------------------------------


def qpigs(**changes):
    """A 21-field answer with some fields replaced, by number."""
    fields = [
        "222.6",
        "49.9",
        "230.1",
        "50.0",
        "0551",
        "0499",
        "006",
        "398",
        "54.30",
        "000",
        "061",
        "0039",
        "01.0",
        "214.4",
        "00.00",
        "00000",
        "00010110",
        "00",
        "00",
        "00226",
        "010",
    ]
    for number, text in changes.items():
        fields[int(number[1:]) - 1] = text
    return codec.decode("QPIGS", codec.reply(" ".join(fields)))


def test_battery_power_is_positive_out_of_the_battery():
    assert qpigs(f10="012", f16="00000")["battery_power_w"] == -651.6
    assert qpigs(f10="000", f16="00012")["battery_power_w"] == 651.6
    assert qpigs(f10="002", f16="00012")["battery_power_w"] == 543.0  # a cycle of switching over
    assert str(qpigs()["battery_power_w"]) == "0.0"


def test_pv_power_without_field_20_follows_the_side_of_the_current():
    def decode17(current, scc):
        text = (
            f"000.0 00.0 230.0 49.9 0161 0119 003 460 57.50 012 100 0069 {current} 103.8 {scc} "
            "00000 00110110"
        )
        return codec.decode("QPIGS", codec.reply(text))

    assert decode17("0014", "57.45")["pv_power_w"] == 804.3  # into the battery
    assert decode17("0014", "00.00")["pv_power_w"] == 805.0  # the charger's own voltage sleeps
    assert decode17("08.2", "00.00")["pv_power_w"] == 851.2  # at the panels
    assert decode17("0014", "57.45")["float_charging"] is None


def test_what_is_not_available_is_none_and_never_zero():
    values = qpigs(f12="0512", f14="---.-", f10="---")
    assert values["heat_sink_temperature_c"] is None  # a raw sensor count
    assert values["pv_voltage_v"] is None
    assert values["battery_charge_current_a"] is None
    assert values["battery_power_w"] is None
    assert qpigs(f12="0120")["heat_sink_temperature_c"] == 120


def test_fields_that_newer_firmware_adds_are_kept_as_sent():
    raw = codec.reply("230.0 21.7 230.0 50.0 21.7 5000 4000 48.0 46.0 42.0 56.4 54.0 0 10 010 1 0 "
                      "0 6 01 0 0 54.0 0 1 56.4 60 54.0")  # fmt: skip
    values = codec.decode("QPIRI", raw)
    assert values["extra_fields"] == ["56.4", "60", "54.0"]  # a dot: volts, not minutes
    assert "max_cv_charge_time_min" not in values


def test_codes_that_no_paper_has_are_kept():
    assert codec.decode("QMOD", codec.reply("X")) == {"device_mode": "X"}
    assert codec.decode("QFLAG", codec.reply("EagDbn"))["other_flags_enabled"] == ["g"]


def test_twelve_fields_of_qpigs2_are_a_duo():
    text = "0010 120.5 54.10 00541 11000000 010 00540 0005 118.0 54.20 00271 01353"
    values = codec.decode("QPIGS2", codec.reply(text))
    assert (values["pv2_power_w"], values["pv3_power_w"], values["pv_total_power_w"]) == (
        541,
        271,
        1353,
    )
    assert (values["scc2_charging"], values["scc3_charging"]) == (True, True)


def test_pi18_currents_follow_from_power_and_voltage():
    record = next(r for r in CAPTURES if r["command"] == "^P005GS")
    values = value_of(record)
    assert values["pv_current_a"] == pytest.approx(302 / 243.8, abs=0.005)
    assert values["pv2_current_a"] == 0.0  # 0 W at 0 V
    assert values["battery_power_w"] == -207.2


# -- warnings -------------------------------------------------------------------------------------


def bits(length, *positions, **digits):
    text = ["0"] * length
    for position in positions:
        text[position] = "1"
    for position, digit in digits.items():
        text[int(position[1:])] = digit
    return "".join(text)


@pytest.mark.parametrize(
    ("text", "table", "warnings", "faults"),
    [
        (bits(32, 5, 16), None, ["line_fail", "overload"], []),
        (bits(32, 1, 16), None, ["inverter_fault", "overload"], ["inverter_fault", "overload"]),
        (bits(32, 6, 17), None, ["output_short", "eeprom_fault"], ["eeprom_fault"]),
        (bits(36, 6, 17), None, ["output_short", "eeprom_fault"], ["output_short"]),
        (bits(36, 0, 31), None, ["pv_loss", "battery_weak"], []),
        (bits(36, 33, 35), "KING", ["low_pv_energy", "battery_equalisation"], []),
        (bits(36, 27, 30), "KING", ["mppt_overload_fault", "dc_dc_over_current"], None),
        (bits(38, 30, 37), None, ["pv2_voltage_high", "scc3_battery_too_low_to_charge"], []),
        (bits(32, 13), None, ["reserved_13"], []),
    ],
)
def test_the_right_bit_table_is_used(text, table, warnings, faults):
    by_length = tables.WARNINGS_BY_LENGTH | ({36: table} if table else {})
    values = codec.decode("QPIWS", codec.reply(text), by_length)
    assert values["warnings"] == warnings
    assert values["faults"] == (warnings if faults is None else faults)
    assert all(tables.warning_text(code) for code in warnings)


def test_digits_of_the_fault_code_are_no_bits():
    max48 = codec.decode("QPIWS", codec.reply(bits(36, 1, p32="5", p33="6")))
    assert (max48["fault_code"], max48["warnings"]) == (56, ["inverter_fault"])
    king = codec.warnings(bits(36, 1, p31="0", p32="1"), {36: "KING"})
    assert (king["fault_code"], king["warnings"]) == (1, ["inverter_fault"])
    assert tables.fault_text(56) == "No battery connected"


def test_every_code_has_a_text_for_people():
    codes = {code for table in tables.WARNING_TABLES.values() for code in table.bits.values()}
    assert codes | set(tables.PI18_WARNINGS) == set(tables.WARNING_TEXTS)
    assert "13" in tables.warning_text("reserved_13")
    assert tables.fault_text(99) == "Fault code 99"


# -- checksum -------------------------------------------------------------------------------------

VECTORS = """
QPI BEAC;QID D6EA;QSID BB05;QVFW 6299;QVFW2 C3F5;QVFW3 D3D4;QMN BB64;QGMN 4929;QBOOT 0B88
QOPM A5C5;Q1 1BFC;QT 27FF;QP2GS0 1405;QPIGS B7A9;QPIGS2 682D;QPIRI F854;QPIWS B4DA;QMOD 49C1
QFLAG 9874;QDI 711B;QMCHGCR D855;QMUCHGCR 2634;QBEQI 2EA9;QET 81B6;QLT 3B2E;QPGS0 3FDA
QPGS1 2FFB;QBMS 6144;QBATCD AA26;POP00 C248;POP01 D269;POP02 E20B;PCP00 8D7A;PCP01 9D5B
PCP02 AD38;PCP03 BD19;PGR00 29EB;PGR01 39CA;PBT00 270E;PBT01 372F;PBT02 074C;MCHGC060 1DB1
MNCHGC0060 8BAC;MUCHGC010 A6A2;PBCV46.0 888B;PBDV54.0 581E;PCVV56.4 5F5F;PBFT54.0 97DD
PSDV42.0 1310;PF 26BD;F50 633E;F60 366D;(PI30 9A0B;(ACK 3920;(NAK 7373;^1 0BC2;^0 1BE3
^P005PI 718B;^P005GS 5814;^P007PIRI EE38;^P006MOD DDBE;^P005FWS 5E9F;^P007FLAG 8E18;^P005ET 4E91
^P004T DF69;^P005ID 19CD;^P006VFW F6E6;^P005DI BE3C;^P007PGS0 29B6;^P007PRI0 6D9D
^P009MCHGCR EE22;^P010MUCHGCR B58B;^S007POP0 1D31;^S007POP1 0E10
"""
STEPPED = [
    "POP02",
    "PBDV48.6",
    "PBDV51.6",
    "PBDV53.4",
    "PBDV54.7",
    "PBDV58.2",
    "PBFT55.7",
    "PBFT57.5",
    "PCVV48.3",
    "PCVV51.3",
    "PCVV53.1",
    "PCVV57.0",
    "PSDV40.7",
    "PSDV41.4",
    "PSDV43.8",
    "MCHGC090",
    "MNCHGC0000",
    "MNCHGC1160",
    "POPM01",
]


@pytest.mark.parametrize("vector", VECTORS.replace("\n", ";").strip(";").split(";"))
def test_checksum_vectors(vector):
    text, expected = vector.split()
    assert codec.crc(text.encode()).hex().upper() == expected


@pytest.mark.parametrize("command", STEPPED)
def test_checksum_bytes_that_would_be_control_characters_are_stepped(command):
    plain = plain_crc(command.encode())
    sent = codec.request(command)[-3:-1]
    assert sent != plain
    assert not set(sent) & set(b"(\r\n")
    assert all(b - a in (0, 1) for a, b in zip(plain, sent, strict=True))


def test_an_answer_with_the_plain_checksum_is_accepted_and_a_zero_byte_stays():
    body = next(
        text for n in range(100_000) if set(plain_crc(text := f"({n:08d}".encode())) & set(b"(\r\n")
    )
    values = codec.decode("QET", body + plain_crc(body) + b"\r")
    assert values == codec.decode("QET", body + codec.crc(body) + b"\r")
    zero = next(
        codec.reply(f"{n:08d}") for n in range(10_000) if 0 in codec.crc(f"({n:08d}".encode())
    )
    assert codec.decode("QET", zero)["pv_energy_total_kwh"] == int(zero[1:9]) / 1000


# -- damage ---------------------------------------------------------------------------------------

STATUS = bytes.fromhex(next(r for r in CAPTURES if r["command"] == "QPIGS")["hex"])
MODE = codec.reply("B")


def plain_crc(data):
    """The checksum without the step."""
    return crc_hqx(data, 0).to_bytes(2, "big")


def refusal(command, raw):
    with pytest.raises(FrameError) as caught:
        codec.decode(command, raw)
    return caught.value.kind


def test_damaged_answers_are_refused_by_kind():
    flipped = bytearray(STATUS)
    flipped[20] ^= 0x04
    assert refusal("QPIGS", bytes(flipped)) == "crc"
    assert refusal("QPIGS", STATUS[:-1]) == "truncated"
    assert refusal("QPIGS", STATUS[:50]) == "truncated"
    assert refusal("QPIGS", STATUS[:50] + b"\r") == "crc"
    assert refusal("QPIGS", STATUS[1:]) == "crc"  # the start byte is lost
    assert refusal("QPIGS", b"") == "truncated"
    assert refusal("QPIGS", b"\0\0\0") == "truncated"
    assert refusal("QPIGS", codec.request("QPIGS")) == "echo"
    assert refusal("QPIGS", b"QPIGS\r") == "echo"
    assert refusal("QPIGS", codec.request("QMOD")) == "echo"  # of somebody else's request
    assert refusal("QPIGS", codec.reply("NAK")) == "nak"
    assert refusal("QPIGS", b"(NAK\r") == "nak"  # as the papers print it
    assert refusal("QPIGS", b"^0\x1b\xe3\r") == "nak"
    assert refusal("QPIGS", MODE) == "shape"
    assert refusal("QPIGS", codec.reply("ACK")) == "shape"
    assert refusal("QPIGS", codec.reply_pi18("18")) == "shape"
    assert refusal("POP02", MODE) == "shape"
    assert refusal("QPIGS", b"\x55" * 600 + STATUS) == "shape"  # oversized
    assert refusal("QWHAT", STATUS) == "unsupported"
    assert refusal("QPIGS5", STATUS) == "unsupported"
    assert refusal("", STATUS) == "unsupported"
    assert refusal("Größe", STATUS) == "unsupported"


def test_what_surrounds_a_frame_does_no_harm():
    good = codec.decode("QPIGS", STATUS)
    assert codec.decode("QPIGS", STATUS[:-1] + b"\n") == good  # a cooked terminal
    assert codec.decode("QPIGS", STATUS + b"\n") == good
    assert codec.decode("QPIGS", STATUS + bytes(5)) == good  # a USB report's padding
    assert codec.decode("QPIGS", b"\n\0" + STATUS) == good
    assert codec.decode("QPIGS", b"0 00 00856 010$\x8c\r" + STATUS) == good  # an old frame's tail
    assert codec.decode("QPIGS", STATUS[:30] + STATUS) == good  # its head
    assert codec.decode("QMOD", STATUS + MODE) == {"device_mode": "battery"}  # glued: the last
    assert refusal("QPIGS", STATUS + MODE) == "shape"
    assert refusal("QMOD", b"010$\x8c\r" + codec.reply("NAK")) == "nak"


def test_pi18_frames_are_read_by_length():
    raw = bytes.fromhex(next(r for r in CAPTURES if r["command"] == "^P005GS")["hex"])
    good = codec.decode("^P005GS", raw)
    assert codec.decode("^P005GS", b"\x31,0\r" + raw + bytes(6)) == good
    assert refusal("^P005GS", raw[:-1]) == "truncated"
    assert refusal("^P005GS", raw.replace(b"^D106", b"^D107")) == "crc"
    assert refusal("^P005GS", codec.request("^P005GS")) == "echo"
    assert refusal("^P005GS", codec.reply("NAK")) == "nak"  # some boards
    assert refusal("^P006MOD", codec.reply("05")) == "shape"
    # a plain CR inside the checksum does not end the frame
    plain = next(
        frame
        for n in range(100_000)
        if b"\r" in (frame := plain_pi18(f"{n:08d}"))[:-1]
    )  # fmt: skip
    assert not codec.is_complete(plain[: plain.index(b"\r") + 1], "^P005ET")
    assert codec.is_complete(plain, "^P005ET")
    assert codec.decode("^P005ET", plain)


def plain_pi18(data):
    body = f"^D{len(data) + 3:03d}{data}".encode()
    return body + plain_crc(body) + b"\r"


@pytest.mark.parametrize(
    "data",
    ["1_0", "nan", "1e3", "+5", "-5", "٣", "0x1", " 5", "1.2.3", "12.", "true"],
)
def test_a_field_is_a_plain_number_or_nothing(data):
    fields = "222.6 49.9 230.1 50.0 0551 0499 006 398 54.30 000 061 0039 01.0 214.4 00.00"
    text = f"{fields} {data} 00010110"
    body = f"({text}".encode("latin-1", "replace")
    assert refusal("QPIGS", body + codec.crc(body) + b"\r") == "shape"


@pytest.mark.parametrize(
    ("command", "data"),
    [
        ("QMOD", "BB"),
        ("QFLAG", "Eab"),
        ("QFLAG", "EabDa"),
        ("QFLAG", "EaBDc"),
        ("QPIWS", "0" * 31),
        ("QPIWS", "0" * 31 + "-"),
        ("QMCHGCR", ""),
        ("QMCHGCR", "10.5 20"),
        ("QET", "123"),
        ("QSID", "9912345678901234567890"),
        ("QT", "20211326122606"),
        ("QPIGS2", "1 2"),
        ("^P005FWS", "00,1,0"),
    ],
)
def test_answers_of_another_shape_are_refused(command, data):
    raw = codec.reply_pi18(data) if command.startswith("^") else codec.reply(data)
    assert refusal(command, raw) == "shape"


def test_layouts_of_other_dialects_are_named():
    assert refusal("QPIGS2", codec.reply("1 " * 11)) == "unsupported"  # PI41
    assert refusal("QPIWS", codec.reply("0" * 128)) == "unsupported"  # PI16
    body = b"(" + b" ".join([b"0"] * 19) + b" "
    assert codec.is_revo(body + bytes([(sum(body) + 1) % 256]) + b"\n")
    assert not codec.is_revo(STATUS)


GOOD = [(r["command"], bytes.fromhex(r["hex"])) for r in CAPTURES if not is_refused(r)]


def test_ten_thousand_flipped_bits_publish_nothing_wrong():
    rng = random.Random(2)
    for _ in range(10_000):
        command, raw = rng.choice(GOOD)
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        try:
            values = codec.decode(command, bytes(damaged))
        except FrameError:
            continue
        # what still decodes lost nothing but the padding of its checksum or its end
        assert values == codec.decode(command, raw), (command, damaged.hex())


@given(st.sampled_from(["QPIGS", "QMOD", "QPIWS", "^P005GS", "POP02"]), st.binary(max_size=600))
def test_arbitrary_bytes_raise_nothing_but_frame_errors(command, raw):
    try:
        codec.decode(command, raw)
        kind = "crc"
    except FrameError as err:
        kind = err.kind
    assert kind in {"crc", "truncated", "nak", "echo", "shape", "unsupported"}


@given(
    st.sampled_from(sorted(codec.LAYOUTS | codec.READERS)),
    st.text(st.sampled_from("0123456789.- ,ABED"), max_size=140),
)
def test_arbitrary_fields_in_a_right_frame_raise_nothing_but_frame_errors(command, data):
    raw = codec.reply_pi18(data) if command.startswith("^") else codec.reply(data)
    try:
        values = codec.decode(command, raw)
    except FrameError:
        return
    assert set(values) <= set(VOCABULARY)
