"""The codec against every example of the maker, and every kind of damage."""

import json
import random
from pathlib import Path

import pytest
from collector_pl80 import codec, tables
from collector_pl80.__main__ import FAMILY
from collector_pl80.emulator import Controller
from hypothesis import given
from hypothesis import strategies as st
from sunmesh import collector
from sunmesh.errors import FrameError
from sunmesh.vocabulary import VOCABULARY

CAPTURES = json.loads((Path(__file__).parent / "captures" / "pl80.json").read_text())
WHOLE = [record for record in CAPTURES if "steps" not in record]
by_id = pytest.mark.parametrize("record", WHOLE, ids=lambda record: record["id"])
BATTERY = codec.request(codec.RAM, 50)


@by_id
def test_each_capture_says_what_was_written_by_hand(record):
    expect = record["expect"]
    if "error" in expect:
        with pytest.raises(FrameError) as caught:
            codec.decode(record)
        assert caught.value.kind == expect["error"]
        return
    found = codec.decode(record)
    assert expect["values"].items() <= found["values"].items()
    if record["id"] != "image-pl80-24v":
        assert found["values"] == expect["values"]
    assert found.get("loopback") == expect.get("loopback")
    assert expect.get("day_start", {}).items() <= found.get("day_start", {}).items()
    assert set(found["values"]) <= set(VOCABULARY)


@pytest.mark.parametrize("record", [r for r in CAPTURES if "steps" in r], ids=lambda r: r["id"])
def test_the_makers_sequences_run_on_the_emulator(record):
    device = Controller(system_v=12)
    device.eeprom[35] = 141
    answers = [
        (step, list(b"".join(device.receive(bytes(step["tx"])))))
        for step in record["steps"]
        if "tx" in step
    ]
    assert [rx for _, rx in answers] == [step["rx"] for step, _ in answers]
    for step, _ in answers:
        found = codec.decode({**step, "system_v": 12})["values"]
    if record["id"] == "eeprom-write":
        assert found == {"equalisation_voltage_v": 15.0}
    else:
        solar = [codec.decode(step)["values"] for step, _ in answers if step["tx"][1] == 53]
        assert solar == [{"solar_voltage_v": 22.0}]


def test_context_may_stand_apart_or_beside():
    exchange = {"tx": [20, 50, 0, 235], "rx": [200, 137]}
    assert codec.decode({**exchange, "context": {"system_v": 24}}) == codec.decode(
        {**exchange, "system_v": 24}
    )
    with pytest.raises(FrameError, match="needs model or system_v"):
        codec.decode(exchange)


def test_a_guess_is_named():
    image = next(record for record in CAPTURES if record["id"] == "image-pl80-24v")
    assert "charge_current_a" in codec.decode(image)["guessed"]
    pl60 = codec.decode({**image, "ram": {**image["ram"], "0": 200}})
    assert pl60["values"]["model"] == "PL60"
    assert "guessed" not in pl60
    unknown = codec.decode({**image, "ram": {**image["ram"], "0": 212}})
    assert unknown["values"]["model"] == "unknown"
    assert unknown["values"]["charge_current_a"] is None


def test_the_image_of_the_emulator_is_the_captured_one():
    image = next(record for record in CAPTURES if record["id"] == "image-pl80-24v")
    device = Controller()
    assert {at: device.ram[int(at)] for at in image["ram"]} == image["ram"]


@pytest.mark.parametrize(
    ("ram", "charge", "load"),
    [
        ({"205": 99, "206": 118, "207": 0}, (None, 4.0), (None, 0.4)),
        ({"205": 99, "206": 118, "207": 4}, (9.9, 13.9), (None, 0.4)),
        ({"205": 99, "206": 118, "207": 15}, (99.0, 103.0), (118.0, 118.4)),
    ],
)
def test_a_shunt_counts_where_its_flag_is_set(ram, charge, load):
    values = codec.decode({"ram": {"213": 10, "217": 2} | ram, "model": "PL60"})["values"]
    assert (values["charge_external_current_a"], values["charge_current_a"]) == charge
    assert (values["load_external_current_a"], values["load_current_a"]) == load


def test_voltages_follow_the_battery():
    steps = {12: 14.4, 24: 28.8, 32: 38.4, 36: 43.2, 48: 57.6}
    for system, volts in steps.items():
        found = codec.decode({"ram": {"50": 144}, "system_v": system})["values"]
        assert found == {"battery_voltage_v": volts}


def test_a_generator_threshold_is_volts_or_percent_by_its_mode():
    ram = {"64": 40, "65": 80, "93": 0}
    in_percent = codec.decode({"ram": ram | {"88": 0x20}})["values"]
    assert (in_percent["generator_start_soc_percent"], in_percent["generator_start_voltage_v"]) == (
        40,
        None,
    )
    in_volts = codec.decode({"ram": ram | {"88": 0x30}})["values"]
    assert in_volts["generator_stop_voltage_v"] == 8.0


def test_every_pointer_names_thirty_different_days():
    for pointer in range(30):
        starts = [tables.day_start(pointer, day) for day in range(1, 31)]
        assert sorted(starts) == list(range(46, 256, 7))
    with pytest.raises(ValueError, match="none"):
        tables.day_start(30, 1)


def test_a_day_of_the_history_is_read_as_the_paper_does():
    eeprom = dict.fromkeys(range(45, 256), 0) | {45: 0}
    eeprom |= dict(zip(range(46, 53), (141, 121, 137, 96, 200, 10, 0x03), strict=True))
    found = codec.decode({"eeprom": {str(at): b for at, b in eeprom.items()}, "system_v": 24})
    values = found["values"]
    assert (values["history_charge_ah"][0], values["history_load_ah"][0]) == (968, 10)
    assert values["history_battery_voltage_max_v"][0] == 28.2
    assert (values["history_float_hours"][0], values["history_soc_percent"][0]) == (13.7, 96)
    assert set(values) <= set(VOCABULARY)
    assert len(values["history_charge_ah"]) == 30
    del eeprom[100]
    with pytest.raises(FrameError, match="truncated: byte 100"):
        codec.decode({"eeprom": {str(at): b for at, b in eeprom.items()}})


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"tx": [20, 50, 0, 235]},
        {"tx": 4, "rx": 2},
        {"tx": [20, 50, 0, 235], "rx": [200, 300]},
        {"tx": [20, 50, 0], "rx": [200, 137]},
        {"ram": [1, 2]},
        {"ram": {"50": "132"}},
        {"ram": {"x": 1}},
        {"ram": {"256": 1}},
        {"ram": {"50": 132}, "system_v": 13},
        {"ram": {"50": 132}, "context": 5},
    ],
)
def test_what_is_no_record_is_refused(record):
    with pytest.raises(FrameError, match="shape"):
        codec.decode(record)


def test_requests_of_the_collector_only_read():
    for command in (codec.RAM, codec.EEPROM, codec.LOOPBACK):
        assert command not in codec.WRITES
        assert sum(codec.request(command, 7)[::3]) == 255


def test_a_flipped_bit_in_front_of_the_value_is_never_believed():
    for bit in range(8):
        with pytest.raises(FrameError):
            codec.value(bytes([200 ^ 1 << bit, 137]), BATTERY)


@given(st.binary(max_size=8))
def test_only_two_bytes_after_200_are_an_answer(raw):
    if len(raw) == 2 and raw[0] == 200:
        assert codec.value(raw, BATTERY) == raw[1]
        return
    with pytest.raises(FrameError) as caught:
        codec.value(raw, BATTERY)
    assert caught.value.kind in ("truncated", "echo", "exception", "foreign")


def test_random_images_never_break_the_decoder():
    draw = random.Random(3)
    for _ in range(2000):
        ram = {str(at): draw.randrange(256) for at in draw.sample(range(256), 60)}
        answer = json.loads(next(collector.decode_lines(FAMILY, [json.dumps({"ram": ram})])))
        assert "values" in answer or answer["error"] == "implausible"
