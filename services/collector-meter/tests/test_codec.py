import json
import random
import struct
from pathlib import Path

import pytest
from collector_meter import codec, frames, tables
from collector_meter.__main__ import FAMILY, decode
from collector_meter.emulator import crc
from collector_meter.tables import MODELS, Block
from hypothesis import given
from hypothesis import strategies as st
from sunmesh.collector import decode_lines
from sunmesh.errors import FrameError
from sunmesh.vocabulary import VOCABULARY

CAPTURES = json.loads((Path(__file__).parent / "captures/sdm.json").read_text())
GOOD = [capture for capture in CAPTURES if "error" not in capture]
FRAMES = [capture for capture in GOOD if "reply" in capture and capture["expect"]]


def name(capture):
    return capture["id"]


@pytest.mark.parametrize("capture", GOOD, ids=name)
def test_a_capture_says_what_its_source_says(capture):
    answer = decode(capture)
    for key, value in capture["expect"].items():
        assert answer["values"][key] == pytest.approx(value, rel=1e-6), key
    assert answer.get("holding", {}) == capture.get("holding", {})
    assert set(answer["values"]) <= set(VOCABULARY)


@pytest.mark.parametrize("capture", [c for c in CAPTURES if "error" in c], ids=name)
def test_a_damaged_capture_is_refused_by_its_kind(capture):
    with pytest.raises(FrameError) as refused:
        decode(capture)
    assert refused.value.kind == capture["error"]


def test_every_line_gets_a_line():
    lines = [json.dumps(capture) for capture in CAPTURES]
    answers = [json.loads(line) for line in decode_lines(FAMILY, lines)]
    assert len(answers) == len(CAPTURES)
    assert [a.get("error") for a in answers] == [c.get("error") for c in CAPTURES]


def test_export_is_negative_and_the_current_a_magnitude():
    exporting = next(c for c in CAPTURES if c["id"] == "readme-sdm120-export")
    values = decode(exporting)["values"]
    assert values["grid_power_w"] == -1673.8
    assert values["grid_current_a"] > 0
    total = values["grid_import_energy_kwh"] + values["grid_export_energy_kwh"]
    assert values["grid_total_energy_kwh"] == pytest.approx(total)


def test_exchanged_terminals_are_turned_by_invert():
    exporting = next(c for c in CAPTURES if c["id"] == "readme-sdm120-export")
    plain, turned = decode(exporting)["values"], decode(exporting | {"invert": True})["values"]
    assert turned["grid_power_w"] == 1673.8
    assert turned["grid_power_factor"] == -plain["grid_power_factor"]
    assert turned["grid_reactive_power_var"] == -plain["grid_reactive_power_var"]
    assert turned["grid_import_energy_kwh"] == plain["grid_export_energy_kwh"]
    assert turned["grid_export_energy_kwh"] == plain["grid_import_energy_kwh"]
    assert turned["grid_import_demand_w"] == plain["grid_export_demand_w"]
    for same in ("grid_voltage_v", "grid_current_a", "grid_total_energy_kwh"):
        assert turned[same] == plain[same]
    assert set(turned) == set(plain)


def test_a_role_names_what_is_measured():
    exporting = next(c for c in CAPTURES if c["id"] == "readme-sdm120-export")
    panels = decode(exporting | {"role": "pv", "invert": True})["values"]
    assert panels["pv_power_w"] == 1673.8
    assert panels["pv_energy_total_kwh"] == 1345.921
    assert panels["grid_voltage_v"] == 238.6
    assert not [n for n in panels if "import" in n or "export" in n or n == "grid_power_w"]
    backwards = decode(exporting | {"role": "load"})["values"]
    assert backwards["load_power_w"] == 0.0
    model = MODELS["SDM120"]
    raw = {"grid_power_w": -1673.8}
    assert codec.suspects(model, raw, "load", invert=False) == {"load_power_w"}
    assert codec.suspects(model, raw, "pv", invert=True) == set()
    assert codec.suspects(model, raw, "grid", invert=False) == set()
    assert codec.suspects(model, {"grid_current_a": 60.0}, "grid", invert=False)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_a_table_is_sound(model):
    assert set(model.registers.values()) <= set(VOCABULARY)
    assert set(model.mbmd.values()) <= set(model.registers.values())
    for role in ("grid", "pv", "load"):
        assert set(codec.names_as_role(list(model.registers.values()), role)) <= set(VOCABULARY)
    blocks = model.fast + model.slow
    assert all(block.count <= tables.MOST_REGISTERS for block in blocks)
    assert all(block.address % 2 == 0 and block.count % 2 == 0 for block in blocks)
    counts = [block.count for block in blocks]
    assert len(set(counts)) == len(counts), "a late answer could pass for another"
    fast, everything = model.names(model.fast), model.names(blocks)
    assert len(set(everything)) == len(everything)
    assert {"grid_power_w", "grid_import_energy_kwh", "grid_export_energy_kwh"} <= set(fast)
    assert "grid_frequency_hz" in fast
    assert "grid_total_energy_kwh" in everything
    bounded = {n for n in model.registers.values() for e, _, _ in tables.POSSIBLE if e in n}
    assert len(bounded) > len(model.registers) // 2


def test_a_phase_is_the_same_quantity():
    registers = {0x0000: 0x4366, 0x0001: 0x3334, 0x0002: 0, 0x0003: 0}
    values = codec.decode(MODELS["SDM630"], registers)
    assert values == {"grid_voltage_l1_v": 230.20001, "grid_voltage_l2_v": 0.0}


@pytest.mark.parametrize(
    ("address", "value"),
    [
        (0x0046, 0.0),
        (0x0046, 4.9),
        (0x0046, 66.0),
        (0x0000, 301.0),
        (0x0000, -1.0),
        (0x0006, -3.0),
        (0x001E, 1.2),
        (0x0048, -0.5),
        (0x000C, float("inf")),
        (0x000C, float("nan")),
        (0x000C, 1e20),
    ],
)
def test_the_impossible_is_refused(address, value):
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    for model in MODELS.values():
        with pytest.raises(FrameError) as refused:
            codec.decode(model, {address: high, address + 1: low})
        assert refused.value.kind == "implausible"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_is_the_shortest_that_is_it(value):
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    found = codec.float_of(high, low)
    assert struct.pack(">f", found) == struct.pack(">f", value + 0.0)
    if 1e-3 < abs(value) < 1e6:
        assert len(f"{found!r}".lstrip("-0.").replace(".", "")) <= 10


def test_the_order_of_registers_shows_in_the_frequency():
    assert codec.word_order(0x4248, 0x0000) == "high_first"
    assert codec.word_order(0x0000, 0x4248) == "low_first"
    with pytest.raises(FrameError, match="unknown word order"):
        codec.word_order(0x4366, 0x3334)
    assert codec.decode(MODELS["SDM230"], {0x46: 0, 0x47: 0x4248}, "low_first") == {
        "grid_frequency_hz": 50.0
    }


def test_ten_thousand_flipped_bits_and_no_wrong_value():
    """Every single bit of every capture, then pairs at random."""
    rtu = frames.Rtu()
    dice = random.Random(20)
    kinds = set()
    tried = 0
    for capture in FRAMES:
        request, reply = bytes.fromhex(capture["request"]), bytes.fromhex(capture["reply"])
        right = rtu.registers(request, reply)
        bits = len(reply) * 8
        cases = [(bit,) for bit in range(bits)]
        cases += [tuple(dice.sample(range(bits), 2)) for _ in range(10_000 // len(FRAMES))]
        for case in cases:
            spoilt = bytearray(reply)
            for bit in case:
                spoilt[bit // 8] ^= 1 << bit % 8
            tried += 1
            try:
                assert rtu.registers(request, bytes(spoilt)) == right
            except FrameError as err:
                kinds.add(err.kind)
            else:
                pytest.fail(f"{spoilt.hex()} was taken")
    assert tried >= 10_000
    assert kinds == {"crc"}


@pytest.mark.parametrize("capture", FRAMES, ids=name)
def test_a_cut_answer_is_truncated(capture):
    request, reply = bytes.fromhex(capture["request"]), bytes.fromhex(capture["reply"])
    for length in range(len(reply)):
        with pytest.raises(FrameError) as refused:
            frames.Rtu().registers(request, reply[:length])
        assert refused.value.kind == "truncated"


REQUEST = frames.Rtu().request(1, Block(0x0000, 2))
GOOD_REPLY = bytes.fromhex("010404436633341b38")


def sealed(text):
    data = bytes.fromhex(text)
    return data + crc(data)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "truncated"),
        (REQUEST, "echo"),
        (sealed("02 04 04 43663334"), "foreign"),
        (sealed("01 03 04 43663334"), "foreign"),
        (sealed("01 04 08 43663334 43663334"), "foreign"),
        (sealed("01 04 02 4366"), "foreign"),
        (sealed("02 84 02"), "foreign"),
        (sealed("01 83 02"), "foreign"),
        (sealed("01 84 02"), "exception"),
        (sealed("01 84 07"), "exception"),
        (REQUEST + sealed("01 84 02"), "exception"),
        (sealed("01 84 02")[:4], "truncated"),
        (b"\xff" * 9, "crc"),
    ],
)
def test_an_answer_that_is_none_is_refused_by_its_kind(raw, kind):
    with pytest.raises(FrameError) as refused:
        frames.Rtu().registers(REQUEST, raw)
    assert refused.value.kind == kind


@pytest.mark.parametrize(
    "raw",
    [
        GOOD_REPLY,
        b"\x00" + GOOD_REPLY,
        b"\xff\xff" + GOOD_REPLY,
        GOOD_REPLY + b"\x00",
        REQUEST + GOOD_REPLY,
        sealed("02 04 04 43663334") + GOOD_REPLY,
        b"\x01\x04\x04" + GOOD_REPLY,
    ],
    ids=["alone", "stray byte", "two", "byte behind", "echo", "another's", "false start"],
)
def test_an_answer_is_found_among_other_bytes(raw):
    """pymodbus alone loses all but the first and the fourth of these to a time-out."""
    assert frames.Rtu().is_complete(REQUEST, raw)
    assert frames.Rtu().registers(REQUEST, raw) == [0x4366, 0x3334]


def test_the_request_is_the_maker_s():
    assert REQUEST.hex(" ") == "01 04 00 00 00 02 71 cb"
    holding = frames.Rtu().request(1, Block(0x000C, 2, tables.READ_HOLDING))
    assert holding.hex(" ") == "01 03 00 0c 00 02 04 08"


def test_modbus_tcp_checks_what_has_no_checksum():
    tcp = frames.Tcp()
    old, request = (tcp.request(1, Block(0x0000, 2)) for _ in range(2))
    assert (old[:2], request[:2]) == (b"\0\1", b"\0\2")
    good = request[:4] + bytes.fromhex("0007 01 04 04 43663334")
    late = old[:4] + bytes.fromhex("0007 01 04 04 42480000")
    assert tcp.registers(request, good) == [0x4366, 0x3334]
    assert tcp.registers(request, late + good) == [0x4366, 0x3334]
    assert not tcp.is_complete(request, late)
    cases = {
        "truncated": [b"", good[:5], good[:-1], request[:4] + bytes.fromhex("0005 01 04 04 4366")],
        "foreign": [
            late,
            request[:4] + bytes.fromhex("0007 02 04 04 43663334"),
            request[:4] + bytes.fromhex("0007 01 03 04 43663334"),
            request[:4] + bytes.fromhex("0005 01 04 02 4366"),
            request[:2] + bytes.fromhex("0001 0007 01 04 04 43663334"),
        ],
        "exception": [request[:4] + bytes.fromhex("0003 01 84 0b")],
    }
    for kind, raws in cases.items():
        for raw in raws:
            with pytest.raises(FrameError) as refused:
                tcp.registers(request, raw)
            assert refused.value.kind == kind, raw.hex()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({}, "shape"),
        ({"request": "zz", "reply": ""}, "shape"),
        ({"request": "01 04 00 00 00 02 71 cc", "reply": GOOD_REPLY.hex()}, "shape"),
        ({"request": "01 06 00 00 00 02", "reply": ""}, "shape"),
        ({"request": "01 10", "reply": ""}, "shape"),
        ({"model": "SDM72", "registers": {"0x0000": [1, 2]}}, "shape"),
        ({"registers": {}}, "empty"),
        ({"registers": [1, 2]}, "shape"),
        ({"registers": {"volts": [1, 2]}}, "shape"),
        ({"registers": {"0x0000": [1, 70000]}}, "shape"),
        ({"registers": {"0x0000": [1, True]}}, "shape"),
        ({"registers": {"0x0000": 5}}, "shape"),
        ({"role": "heat pump", "registers": {"0x0000": [1, 2]}}, "shape"),
        ({"registers": {"0x0046": [0, 0]}}, "implausible"),
        ({"registers": {"0x0000": [0x7FC0, 0]}}, "implausible"),
    ],
)
def test_a_wrong_line_is_said(line, kind):
    answer = json.loads(next(iter(decode_lines(FAMILY, [json.dumps(line)]))))
    assert answer["error"] == kind
    assert answer["detail"]


def test_a_write_that_was_refused_or_damaged():
    capture = next(c for c in CAPTURES if c["id"] == "sdm120-set-9600")
    reply = bytes.fromhex(capture["reply"])
    for raw, kind in [
        (sealed("01 90 04"), "exception"),
        (reply[:5], "truncated"),
        (reply[:-1] + b"\0", "crc"),
        (sealed("01 10 00 12 00 02"), "foreign"),
    ]:
        with pytest.raises(FrameError) as refused:
            decode(capture | {"reply": raw.hex()})
        assert refused.value.kind == kind


def test_a_serial_number_is_one():
    assert codec.serial_of([0x0132, 0xF3AE]) == str(0x0132F3AE)
    assert codec.serial_of([0, 0]) is None
    assert codec.serial_of([0xFFFF, 0xFFFF]) is None
