"""The emulator: its own bytes against the papers' forms, its settings, the house it follows."""

import json

import pytest
from collector_axpert import codec
from collector_axpert.emulator import PROFILES, Inverter
from sunmesh.emulation import World


def ask(device, command):
    (answer,) = device.receive(codec.request(command))
    return codec.decode(command, answer)


def is_taken(device, command):
    return device.receive(codec.request(command)) != [device.nak()]


@pytest.mark.parametrize(("profile", "length", "count"), [("PI30", 106, 25), ("PI30MAX", 106, 28)])
def test_pi30_answers_have_the_form_of_real_ones(profile, length, count):
    device = Inverter(profile)
    assert len(device.receive(codec.request("QPIGS"))[0]) - 4 in range(length, length + 3)
    (ratings,) = device.receive(codec.request("QPIRI"))
    assert ratings.count(b" ") + 1 == count
    (warnings,) = device.receive(codec.request("QPIWS"))
    assert len(warnings) - 4 == (36 if profile == "PI30MAX" else 32)


def test_pi18_answers_have_the_form_of_real_ones():
    device = Inverter("PI18")
    assert device.receive(codec.request("^P005GS"))[0].startswith(b"^D106")
    assert device.receive(codec.request("^P007PIRI"))[0].startswith((b"^D088", b"^D089"))
    assert device.receive(codec.request("^P005PI")) == [b"^D00518;\x03\r"]  # as captured


def test_requests_may_come_in_pieces_and_need_their_checksum():
    device = Inverter()
    request = codec.request("QMOD")
    assert device.receive(request[:3]) == []
    assert device.receive(request[3:]) == [b"(B\xe7\xc9\r"]  # as captured
    assert device.receive(b"QMOD\r") == [b"(NAKss\r"]
    assert device.receive(b"QWHAT\x00\x00\r") == [b"(NAKss\r"]
    assert device.receive(request + request) == [b"(B\xe7\xc9\r"] * 2
    assert Inverter("PI18").receive(codec.request("QPI")) == [b"^0\x1b\xe3\r"]


@pytest.mark.parametrize(
    ("profile", "command", "name", "value"),
    [
        ("PI30", "POP00", "output_source_priority", "USB"),
        ("PI30", "PCP00", "charger_source_priority", "utility_first"),
        ("PI30MAX", "PGR00", "input_range", "appliance"),
        ("PI30MAX", "PBCV46.0", "recharge_voltage_v", 46.0),
        ("PI30MAX", "PBDV00.0", "redischarge_voltage_v", 0.0),
        ("PI30MAX", "PCVV57.0", "bulk_voltage_v", 57.0),
        ("PI30MAX", "PBFT54.0", "float_voltage_v", 54.0),
        ("PI30MAX", "PSDV44.0", "cut_off_voltage_v", 44.0),
        ("PI30MAX", "MNCHGC0110", "max_charge_current_a", 110),
        ("PI30MAX", "MUCHGC010", "max_ac_charge_current_a", 10),
        ("PI30MAX", "PBT03", "battery_type", "pylontech"),
        ("PI18", "^S007POP0", "output_source_priority", "SUB"),
        ("PI18", "^S009PCP0,1", "charger_source_priority", "solar_and_utility"),
        ("PI18", "^S014BUCD470,520", "redischarge_voltage_v", 52.0),
        ("PI18", "^S015MCHGV560,540", "bulk_voltage_v", 56.0),
        ("PI18", "^S013MCHGC0,090", "max_charge_current_a", 90),
    ],
)
def test_set_commands_change_what_the_queries_show(profile, command, name, value):
    device = Inverter(profile)
    assert is_taken(device, command)
    pi18 = profile == "PI18"
    assert ask(device, "^P007PIRI" if pi18 else "QPIRI")[name] == value
    assert device.settings[name] == value
    status = "^P005GS" if pi18 else "QPIGS"
    assert ask(device, status)["settings_changed"] is True
    assert ask(device, status)["settings_changed"] is False, "once"


@pytest.mark.parametrize(
    ("profile", "command"),
    [
        ("PI30MAX", "POP03"),
        ("PI30MAX", "PCP00"),  # a MAX has no utility first
        ("PI30MAX", "PBCV46.5"),
        ("PI30MAX", "PBDV47.0"),
        ("PI30MAX", "PCVV58.5"),
        ("PI30", "PCVV56.0"),  # its battery is AGM
        ("PI30", "PBT03"),
        ("PI30MAX", "MNCHGC0125"),
        ("PI30MAX", "MUCHGC090"),
        ("PI30MAX", "F50"),  # the output is on
        ("PI30MAX", "PEq"),
        ("PI30", "RTEY"),
        ("PI18", "^S007POP2"),
        ("PI18", "^S014BUCD400,520"),
    ],
)
def test_set_commands_outside_their_range_are_refused(profile, command):
    device = Inverter(profile)
    before = dict(device.settings)
    (answer,) = device.receive(codec.request(command))
    assert answer == device.nak()
    assert device.settings == before


def test_flags_and_the_factory_reset():
    device = Inverter()
    assert ask(device, "QFLAG")["buzzer_enabled"] is False
    assert is_taken(device, "PEay")
    assert ask(device, "QFLAG")["buzzer_enabled"] is True
    assert is_taken(device, "PDa")
    assert is_taken(device, "POP00")
    assert is_taken(device, "PF")
    assert ask(device, "QPIRI")["output_source_priority"] == "SBU"
    pi18 = Inverter("PI18")
    assert is_taken(pi18, "^S006PDA")
    assert ask(pi18, "^P007FLAG")["buzzer_enabled"] is False


@pytest.mark.parametrize("profile", PROFILES)
def test_the_house_is_shown(profile):
    night = {
        "pv_power_w": 0.0,
        "pv2_power_w": 0.0,
        "grid_voltage_v": 0.0,
        "battery_voltage_v": 45.9,
        "battery_charge_current_a": 0.0,
        "battery_discharge_current_a": 18.4,
        "device_mode": "battery",
    }
    device = Inverter(profile, World(night))
    pi18 = profile == "PI18"
    values = ask(device, "^P005GS" if pi18 else "QPIGS")
    assert (values["battery_voltage_v"], values["battery_discharge_current_a"]) == (45.9, 18)
    assert values["battery_power_w"] == pytest.approx(826.2)
    warnings = ask(device, "^P005FWS" if pi18 else "QPIWS")["warnings"]
    assert {"line_fail", "battery_low"} <= set(warnings)
    assert ("pv_loss" in warnings) == (profile == "PI30MAX")


def test_the_simulated_house_steers_it_and_hears_of_its_settings(mesh, topics, eventually):
    told = []
    house = mesh("simulator")
    house.subscribe(topics.sim("inverter/settings"), lambda m: told.append(json.loads(m.payload)))
    client = mesh("collector-axpert")
    device = Inverter()
    device.follow(client, "inverter")
    house.publish(topics.sim("world"), b'{"ac_output_power_w": 1234.4}', retain=True)
    eventually(lambda: ask(device, "QPIGS")["ac_output_power_w"] == 1234)
    assert is_taken(device, "POP00")
    eventually(lambda: told and told[-1]["output_source_priority"] == "USB")


def test_another_serial_number_answers_while_the_plugs_are_swapped(mesh, topics, eventually):
    device = Inverter("PI30MAX")
    device.follow(mesh("emulator"), "inverter")
    own = ask(device, "QID")["serial"]
    house = mesh("simulator")
    house.publish(topics.sim("world"), b'{"faults": ["swapped:inverter"]}', retain=True)
    eventually(lambda: ask(device, "QID")["serial"] != own)
    house.publish(topics.sim("world"), b'{"faults": ["swapped:battery"]}', retain=True)
    eventually(lambda: ask(device, "QID")["serial"] == own)


@pytest.mark.parametrize(
    ("mode", "says", "does"),
    [
        ("", "ACK", True),
        ("ack-ignore", "ACK", False),
        ("nak", "NAK", False),
        ("nak-apply", "NAK", True),
        ("mute", None, False),
        ("mute-apply", None, True),
        ("revert", "ACK", True),
    ],
)
def test_habits_of_real_ones_with_what_is_set(mode, says, does):
    for profile, command in (("PI30MAX", "POP00"), ("PI18", "^S007POP0")):
        device = Inverter(profile, mode=mode)
        before = device.settings["output_source_priority"]
        answers = device.receive(codec.request(command))
        acks = {codec.reply("ACK"), codec.request("^1")}
        told = None if not answers else "ACK" if answers[0] in acks else "NAK"
        assert told == says
        assert (device.settings["output_source_priority"] != before) == does
        known = "^P005GS" if profile == "PI18" else "QPIGS"
        assert device.receive(codec.request(known)), "what is asked is answered"
        assert device.receive(codec.request("^S001X" if profile == "PI18" else "QX"))


def test_one_goes_back_after_its_time_and_tells_the_house():
    now, told = [0.0], []
    device = Inverter(mode="revert", revert_s=60, clock=lambda: now[0])
    device._on_change = lambda: told.append(device.settings["output_source_priority"])
    device.receive(codec.request("POP00"))
    now[0] = 59
    assert ask(device, "QPIRI")["output_source_priority"] == "USB"
    now[0] = 61
    assert ask(device, "QPIRI")["output_source_priority"] == "SBU"
    assert told == ["USB", "SBU"]


def test_defaults_and_equalisation():
    device = Inverter()
    assert is_taken(device, "PBEQE1")
    assert is_taken(device, "PBEQV57.60")
    assert ask(device, "QBEQI")["equalisation_enabled"] is True
    assert ask(device, "QBEQI")["equalisation_voltage_v"] == 57.6
    defaults = ask(device, "QDI")
    settings = ask(device, "QPIRI") | ask(device, "QFLAG")
    assert {name: settings[name] for name in defaults if name in settings} == {
        name: value for name, value in defaults.items() if name in settings
    }
    assert Inverter("PI30").receive(codec.request("QBEQI")) == [b"(NAKss\r"]
