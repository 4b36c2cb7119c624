"""The codec against every capture and every kind of damage."""

import json
import random
from pathlib import Path

import pytest
from collector_temperature import codec
from collector_temperature.emulator import text_of
from hypothesis import given
from hypothesis import strategies as st
from sunmesh.errors import FrameError
from sunmesh.vocabulary import VOCABULARY

CAPTURES = json.loads((Path(__file__).parent / "captures" / "temperature.json").read_text())
GOOD = "61 01 4b 46 7f ff 0f 10 02 : crc=02 YES\n61 01 4b 46 7f ff 0f 10 02 t=22062\n"


@pytest.mark.parametrize("record", CAPTURES, ids=lambda record: record["id"])
def test_each_capture_says_what_was_written_by_hand(record):
    expect = record["expect"]
    if "error" in expect:
        with pytest.raises(FrameError) as caught:
            codec.decode(record)
        assert caught.value.kind == expect["error"]
    else:
        assert codec.decode(record) == expect
        assert set(expect["values"]) <= set(VOCABULARY)


def test_t_is_never_believed():
    assert codec.read(GOOD.replace("t=22062", "t=-62")).celsius == 22.0625


def test_every_single_flipped_bit_is_harmless():
    for at in range(len(GOOD)):
        for bit in range(7):
            text = GOOD[:at] + chr(ord(GOOD[at]) ^ 1 << bit) + GOOD[at + 1 :]
            try:
                assert codec.read(text).celsius == 22.0625
            except FrameError as err:
                assert err.kind in ("crc", "shape", "truncated")  # noqa: PT017 - or not raised


def test_ten_thousand_flipped_bits():
    draw = random.Random(5)
    for _ in range(10_000):
        celsius = draw.randrange(-880, 2001) / 16
        raw = bytearray(text_of(celsius).encode())
        for _ in range(draw.choice((1, 1, 1, 2))):
            raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        try:
            found = codec.read(raw.decode("ascii", "replace")).celsius
        except FrameError:
            continue
        assert found == celsius


def test_every_cut_is_refused():
    for length in range(len(GOOD) - 7):
        with pytest.raises(FrameError) as caught:
            codec.read(GOOD[:length])
        assert caught.value.kind in ("empty", "truncated", "crc", "shape")


@given(st.integers(-880, 2000))
def test_every_temperature_comes_back(raw):
    assert codec.read(text_of(raw / 16)).celsius == raw / 16


@given(st.text(max_size=120))
def test_nonsense_is_refused(text):
    with pytest.raises(FrameError):
        codec.read(text)


@pytest.mark.parametrize(("config", "bits"), [(0x1F, 9), (0x3F, 10), (0x5F, 11), (0x7F, 12)])
def test_resolution_is_read(config, bits):
    pad = bytes([0x60, 1, 0x4B, 0x46, config, 0xFF, 0x10, 0x10])
    line = bytes([*pad, codec.crc8(pad)]).hex(" ")
    found = codec.read(f"{line} : crc={line[-2:]} YES\n{line} t=22000\n")
    assert (found.celsius, found.resolution_bits) == (22.0, bits)


@pytest.mark.parametrize("record", [{}, {"text": 5}, {"text": GOOD, "device": 5}])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(FrameError, match="shape"):
        codec.decode(record)


def test_which_devices_are_sensors():
    assert codec.is_rom("28-000006b67845")
    for name in ("10-000006b67845", "28-000006B67845", "28-0000", "w1_bus_master1", "28-"):
        assert not codec.is_rom(name)
