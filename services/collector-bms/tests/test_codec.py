"""Bytes to values: every capture, every kind of damage, and what the tables say by hand."""

import json
import random
from pathlib import Path

import pytest
from collector_bms import a5, codec, registers, tables
from collector_bms.shared import Context
from sunmesh.errors import FrameError
from sunmesh.vocabulary import VOCABULARY

CAPTURES = json.loads((Path(__file__).parent / "captures" / "daly.json").read_text())
ANSWERED = [c for c in CAPTURES if "expect" in c]
BROKEN = [c for c in CAPTURES if "error" in c]
REQUEST_90 = a5.frame(0x40, 0x90)


def context_of(capture):
    counts = capture.get("context", {})
    return Context(cells=counts.get("cells"), sensors=counts.get("temp_sensors"))


def same(found, expected):
    """Equal but for the last bit of a division."""
    return found.keys() == expected.keys() and all(
        found[name] == (pytest.approx(value) if isinstance(value, list | float) else value)
        for name, value in expected.items()
    )


def decode(capture, reply=None):
    raw = bytes.fromhex(capture["reply"]) if reply is None else reply
    return codec.decode(bytes.fromhex(capture["request"]), raw, context_of(capture))


def outcome(capture, raw):
    """The kind of error, or the values."""
    try:
        return None, decode(capture, raw)
    except FrameError as err:
        return err.kind, None


def battery(volts=528, current=30000, soc=500):
    data = b"".join(n.to_bytes(2, "big") for n in (volts, 0, current, soc))
    return a5.frame(1, 0x90, data)


def train(command, *payloads):
    return b"".join(a5.frame(1, command, bytes(p)) for p in payloads)


def cells(*mv):
    """A train of 0x95 with these cells, three a frame."""
    frames = []
    for at in range(0, len(mv), 3):
        three = b"".join(n.to_bytes(2, "big") for n in mv[at : at + 3])
        frames.append(a5.frame(1, 0x95, bytes([at // 3 + 1]) + three))
    return frames


# --- Captures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", ANSWERED, ids=lambda c: c["id"])
def test_capture(capture):
    assert same(decode(capture), capture["expect"])


@pytest.mark.parametrize("capture", BROKEN, ids=lambda c: c["id"])
def test_broken_capture_is_refused_by_its_kind(capture):
    with pytest.raises(FrameError) as caught:
        decode(capture)
    assert caught.value.kind == capture["error"]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda c: c["id"])
def test_a_capture_says_where_it_comes_from(capture):
    assert capture["source"]
    assert capture["origin"] in ("real", "real-payload-wrapped", "derived")
    assert {"model", "firmware", "note", "request", "reply"} <= capture.keys()


@pytest.mark.parametrize("capture", ANSWERED, ids=lambda c: c["id"])
def test_names_are_of_the_vocabulary(capture):
    assert decode(capture).keys() - {"ack"} <= VOCABULARY.keys()


@pytest.mark.parametrize("capture", ANSWERED, ids=lambda c: c["id"])
def test_a_capture_cut_anywhere_gives_nothing(capture):
    raw = bytes.fromhex(capture["reply"])
    for end in range(len(raw)):
        kind, found = outcome(capture, raw[:end])
        if found is None:
            assert kind in ("truncated", "crc")
        else:  # one sensor needs one frame, and this board sends two
            assert capture["id"] == "pc14s-96"
            assert same(found, capture["expect"])


def test_ten_thousand_flipped_bits_give_no_wrong_value():
    dice = random.Random(7)
    for _ in range(10_000):
        capture = dice.choice(ANSWERED)
        raw = bytearray.fromhex(capture["reply"])
        bit = dice.randrange(len(raw) * 8)
        raw[bit // 8] ^= 1 << bit % 8
        _, found = outcome(capture, bytes(raw))
        assert found is None or same(found, capture["expect"])


# --- What arrives on the wire --------------------------------------------------------------------


@pytest.mark.parametrize(
    "noise", [b"\xff", b"\xff\xff\xff", b"\xa5", b"\xa5\x01\x90\x08", bytes(40)]
)
def test_noise_in_front_is_stepped_over(noise):
    assert codec.decode(REQUEST_90, noise + battery())["battery_voltage_v"] == 52.8


def test_our_echo_before_the_answer_is_stepped_over():
    assert codec.decode(REQUEST_90, REQUEST_90 + battery())["battery_soc_percent"] == 50.0


def test_a_start_byte_inside_the_data_does_not_resynchronise():
    data = bytes([0x02, 0x10, 0, 0, 0x75, 0x30, 0x00, 0xA5])
    assert codec.decode(REQUEST_90, a5.frame(1, 0x90, data))["battery_soc_percent"] == 16.5


@pytest.mark.parametrize(
    "other",
    [a5.frame(2, 0x90, battery()[4:12]), a5.frame(1, 0x93), a5.frame(0x41, 0x93)],
    ids=["another board", "another command", "another master asks"],
)
def test_frames_of_others_are_dropped(other):
    with pytest.raises(FrameError) as caught:
        codec.decode(REQUEST_90, other)
    assert caught.value.kind == "foreign"
    assert codec.decode(REQUEST_90, other + battery())["battery_voltage_v"] == 52.8


def test_board_three_answers_its_own_host_only():
    request = a5.frame(a5.host_of(3), 0x90)
    assert request[1] == 0x42
    with pytest.raises(FrameError, match="foreign"):
        codec.decode(request, battery())
    answer = a5.frame(3, 0x90, battery()[4:12])
    assert codec.decode(request, answer)["battery_voltage_v"] == 52.8


@pytest.mark.parametrize(
    "request_",
    [a5.frame(0x80, 0x90), a5.frame(0x40, 0x90, b"\xaa" * 8)],
    ids=["host 0x80", "AA fill"],
)
def test_a_request_may_come_from_bluetooth_or_be_filled(request_):
    assert codec.decode(request_, battery())["battery_voltage_v"] == 52.8
    with pytest.raises(FrameError, match="asleep"):
        codec.decode(request_, request_)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (b"", "shape"),
        (b"QPIGS", "shape"),
        (REQUEST_90[:-1], "shape"),
        (REQUEST_90[:-1] + b"\0", "shape"),
        (a5.frame(0x40, 0x42), "unsupported"),
        (registers.register_request(1, 3, 0, 4)[:-1] + b"\0", "shape"),
        (registers.register_request(1, 0x10, 0, 4), "unsupported"),
    ],
)
def test_what_is_no_request(request_, kind):
    with pytest.raises(FrameError) as caught:
        codec.decode(request_, battery())
    assert caught.value.kind == kind


# --- Trains --------------------------------------------------------------------------------------

MV = [3300 + n for n in range(16)]
SIXTEEN = Context(cells=16, sensors=2)
REQUEST_95 = a5.frame(0x40, 0x95)


def volts(raw, context=SIXTEEN):
    return codec.decode(REQUEST_95, raw, context)["cell_voltage_v"]


def test_a_train_is_cut_at_the_number_of_cells():
    ghosts = cells(*MV, MV[13], MV[14])
    assert volts(b"".join(ghosts)) == [mv / 1000 for mv in MV]


def test_a_bluetooth_board_sends_sixteen_frames():
    frames = cells(*MV, 0, 0)
    frames += [a5.frame(1, 0x95, bytes([n])) for n in range(7, 17)]
    request = a5.frame(0x80, 0x95)
    found = codec.decode(request, b"".join(frames), SIXTEEN)
    assert found["cell_voltage_v"] == [mv / 1000 for mv in MV]


def test_a_frame_that_loses_bytes_gives_no_cell_at_all():
    frames = cells(*MV)
    frames[2] = frames[2][:5] + frames[2][9:]
    with pytest.raises(FrameError) as caught:
        volts(b"".join(frames))
    assert caught.value.kind in ("crc", "truncated")
    assert "frame 3 of 6" in caught.value.detail


def test_a_foreign_answer_inside_a_train_is_dropped():
    frames = cells(*MV)
    assert volts(b"".join([*frames[:3], battery(), *frames[3:]])) == [mv / 1000 for mv in MV]


def test_the_tail_of_an_earlier_train_is_not_mixed_in():
    stale = cells(*[2900] * 16)
    assert volts(b"".join(stale[3:] + cells(*MV))) == [mv / 1000 for mv in MV]
    with pytest.raises(FrameError):
        volts(b"".join(stale[3:] + cells(*MV)[:4]))
    with pytest.raises(FrameError):  # the fresh train lost its first frame
        volts(b"".join(stale[3:] + cells(*MV)[1:]))


def test_the_same_frame_twice_and_one_missing():
    frames = cells(*MV)
    with pytest.raises(FrameError):
        volts(b"".join([frames[0], frames[1], frames[1], *frames[3:]]))


def test_two_bad_trains_of_one_turn_make_one_good():
    frames = cells(*MV)
    query = a5.FrameQuery(0x95, 0x40, SIXTEEN)
    with pytest.raises(FrameError):
        query.take(b"".join(frames[:2] + frames[3:]))
    assert query.take(b"".join(frames[2:4]))["cell_voltage_v"] == [mv / 1000 for mv in MV]


def test_an_answer_is_complete_when_its_frames_are_there():
    frames = cells(*MV)
    query = a5.FrameQuery(0x95, 0x40, SIXTEEN)
    assert query.is_waiting(b"")
    assert query.is_waiting(REQUEST_95)
    assert not query.is_waiting(frames[0])
    assert not query.is_complete(b"".join(frames[:5]))
    assert query.is_complete(b"".join(frames))
    assert query.settle_s > 0
    longer = a5.FrameQuery(0x95, 0x40, SIXTEEN, usual=7)
    assert not longer.is_complete(b"".join(frames))
    assert longer.settle_s == 0


def test_without_counts_ghosts_are_guessed():
    assert volts(b"".join(cells(*MV[:14], MV[11])), Context()) == [mv / 1000 for mv in MV[:14]]
    assert volts(b"".join(cells(*MV[:13], 0, 0)), Context()) == [mv / 1000 for mv in MV[:13]]
    assert volts(b"".join(cells(*MV[:15])), Context()) == [mv / 1000 for mv in MV[:15]]


@pytest.mark.parametrize("mv", [0, 499, 5001, 42241])
def test_what_is_no_cell_spoils_the_train(mv):
    with pytest.raises(FrameError) as caught:
        volts(b"".join(cells(*MV[:15], mv)))
    assert caught.value.kind == "implausible"


def test_temperatures_are_unsigned_and_an_open_sensor_is_none():
    request = a5.frame(0x40, 0x96)
    raw = train(0x96, [1, 130, 0, 255, 40, 0, 0, 0])
    found = codec.decode(request, raw, Context(sensors=4))
    assert found == {"battery_temperature_c": [90, None, None, 0]}


def test_a_battery_code_of_five_frames():
    text = b"BT-0123\0 4567 \0\0"
    payloads = [bytes([n + 1]) + text[n * 7 : n * 7 + 7].ljust(7, b"\0") for n in range(5)]
    found = codec.decode(a5.frame(0x40, 0x57), train(0x57, *payloads))
    assert found == {"battery_code": "BT-0123 4567"}


# --- Signs, limits, alarms -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "inverted", "amperes"),
    [(30021, False, 2.1), (30021, True, -2.1), (29946, False, -5.4), (29946, True, 5.4)],
)
def test_the_contract_wants_discharging_positive(raw, inverted, amperes):
    found = codec.decode(REQUEST_90, battery(current=raw), Context(inverted=inverted))
    assert found["battery_current_a"] == amperes
    assert found["battery_power_w"] == pytest.approx(52.8 * amperes, abs=0.05)


@pytest.mark.parametrize(
    "raw",
    [
        battery(volts=1, current=0, soc=0),
        battery(volts=1),
        battery(current=0),
        battery(soc=1001),
        battery(volts=2500),
        battery(volts=79),
    ],
)
def test_the_nonsense_after_waking_is_no_reading(raw):
    with pytest.raises(FrameError) as caught:
        codec.decode(REQUEST_90, raw)
    assert caught.value.kind == "implausible"


@pytest.mark.parametrize(
    "data", [bytes(8), bytes([49, 1, 0, 0, 0, 0, 0, 0]), b"\x10\x16" + bytes(6)]
)
def test_a_pack_has_cells_and_few_sensors(data):
    with pytest.raises(FrameError, match="implausible"):
        codec.decode(a5.frame(0x40, 0x94), a5.frame(1, 0x94, data))


def test_a_mosfet_is_on_or_off():
    with pytest.raises(FrameError, match="charge_mosfet_on"):
        codec.decode(a5.frame(0x40, 0x93), a5.frame(1, 0x93, bytes([0, 7, 1, 0, 0, 0, 1, 0])))


def alarms(*data, **context):
    return codec.decode(a5.frame(0x40, 0x98), a5.frame(1, 0x98, bytes(data)), Context(**context))


def test_alarm_bits_by_the_table_of_the_paper():
    found = alarms(0b00000101, 0, 0b10000000, 0, 0b10000000, 0, 0b00000100, 3)
    assert found["warnings"] == [
        "cell_voltage_high_warning",
        "cell_voltage_low_warning",
        "soc_low",
        "discharge_mosfet_open",
        "short_circuit",
    ]
    assert found["faults"] == ["soc_low", "discharge_mosfet_open", "short_circuit"]
    assert found["fault_code"] == 3
    assert alarms(0, 0, 0, 0x10)["warnings"] == ["reserved_3_4"]


def test_over_current_swaps_with_the_sign():
    assert alarms(0, 0, 0b00000010)["faults"] == ["charge_over_current"]
    assert alarms(0, 0, 0b00000010, inverted=True)["faults"] == ["discharge_over_current"]


def test_every_code_has_words():
    codes = {*tables.ALARM_BITS.values(), *tables.FLAG_LEVELS.values(), *tables.FLAG_BITS.values()}
    assert {c.removesuffix(tables.WARNING_SUFFIX) for c in codes} == tables.FAULT_TEXTS.keys()
    assert tables.fault_text("soc_low_warning") == "State of charge too low (first warning)"
    assert tables.fault_text("reserved_3_4") == "Alarm bit 3_4, without a name"


@pytest.mark.parametrize(
    ("order", "cells", "numbers"),
    [("unknown", 16, None), ("byte", 16, [11]), ("word", 16, [3]), ("byte", 4, None)],
)
def test_which_cell_a_balancing_bit_means_is_the_owners_word(order, cells, numbers):
    context = Context(cells=cells, balance_order=order)
    raw = a5.frame(1, 0x97, bytes([0, 4]))
    found = codec.decode(a5.frame(0x40, 0x97), raw, context)
    assert found["balancing_active"] is True
    assert found["balancing_bits"] == "000400000000"
    assert found["balancing_cells"] == numbers


# --- The 0x81 dialect ----------------------------------------------------------------------------


def answer(words, board=1):
    body = bytes([0x50 + board, 3, len(words) * 2])
    return registers.with_crc(body + b"".join(w.to_bytes(2, "big") for w in words))


def state(**changes):
    """Registers 0x30 to 0x73 of a sixteen-cell pack."""
    image = dict.fromkeys(range(0x30, 0x74), 0)
    image |= dict.fromkeys(range(0x30, 0x38), 255)
    image |= {0x30: 61, 0x31: 62, 0x38: 532, 0x39: 30123, 0x3A: 781, 0x3C: 16, 0x3D: 2}
    image |= {0x3E: 3331, 0x3F: 4, 0x40: 3322, 0x41: 9, 0x43: 62, 0x44: 2, 0x45: 61, 0x46: 1}
    image |= {0x48: 1, 0x4B: 2184, 0x4C: 41, 0x4D: 1, 0x4F: 0x8001, 0x52: 1, 0x53: 1, 0x5A: 70}
    image |= {int(name[1:], 16): value for name, value in changes.items()}
    return [image[at] for at in range(0x30, 0x74)]


REQUEST_STATE = registers.register_request(1, 3, 0x30, 0x44)


def test_the_request_and_the_address_of_the_reply():
    assert REQUEST_STATE[:2] == b"\x81\x03"
    assert answer([1])[:1] == b"\x51"
    assert registers.register_request(2, 6, 0x122, 0) == bytes.fromhex("820601220000 37cf")


def test_registers_of_a_pack():
    found = codec.decode(REQUEST_STATE, answer(state()))
    assert found["battery_voltage_v"] == 53.2
    assert found["battery_current_a"] == -12.3  # above 30000 is charging in this dialect
    assert found["battery_soc_percent"] == 78.1
    assert found["battery_temperature_c"] == [21, 22]
    assert found["battery_direction"] == "charge"
    assert found["remaining_capacity_ah"] == 218.4
    assert found["cycles"] == 41
    assert found["cell_voltage_spread_v"] == 0.009
    assert found["balancing_cells"] == [1, 16]
    assert found["charge_mosfet_on"] is True
    assert found["mosfet_temperature_c"] == 30
    assert found["warnings"] == found["faults"] == []
    assert found.keys() <= VOCABULARY.keys()


def test_registers_of_cells_need_the_count():
    request = registers.register_request(1, 3, 0, 16)
    raw = answer(MV)
    assert codec.decode(request, raw, SIXTEEN)["cell_voltage_v"] == [mv / 1000 for mv in MV]
    short = registers.register_request(1, 3, 0, 12)
    assert "cell_voltage_v" not in codec.decode(short, answer(MV[:12]), SIXTEEN)


def test_alarm_levels_and_bits_of_the_registers():
    found = codec.decode(REQUEST_STATE, answer(state(r6D=0b00000001, r6F=0b01010000)))
    assert found["warnings"] == [
        "cell_voltage_high_warning",
        "battery_voltage_low",
        "short_circuit",
    ]
    assert found["faults"] == ["battery_voltage_low", "short_circuit"]


def test_capacity_and_texts_of_the_registers():
    request = registers.register_request(1, 3, 0x109, 8)
    found = codec.decode(request, answer([4, 17856, 0, 0, 0, 33333, 0x45, 0xB053]))
    assert found == {
        "rated_capacity_ah": 280.0,
        "charge_total_ah": 33.333,
        "discharge_total_ah": 4567.123,
    }
    text = b"HW-A\0".ljust(14, b"\0") + b"SW 1.2".ljust(14, b"\0") + bytes(14)
    text += b"SN0042".ljust(28, b"\0") + b"PACK-7".ljust(32, b"\0")
    words = [int.from_bytes(text[at : at + 2], "big") for at in range(0, len(text), 2)]
    found = codec.decode(registers.register_request(1, 3, 0x178, 51), answer(words))
    assert found == {
        "hardware": "HW-A",
        "firmware": "SW 1.2",
        "serial": "SN0042",
        "battery_code": "PACK-7",
    }
    date = codec.decode(registers.register_request(1, 3, 0x129, 2), answer([0x190C, 0x0500]))
    assert date == {"production_date": "2025-12-05"}


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "truncated"),
        (REQUEST_STATE, "asleep"),
        (answer(state())[:-1], "truncated"),
        (answer(state())[:-1] + b"\0", "crc"),
        (answer(state(), board=2), "foreign"),
        (answer(state()[:4]), "foreign"),
        (battery(), "foreign"),
        (registers.with_crc(b"\x51\x83\x02"), "exception"),
        (answer(state(r38=1, r39=0, r3A=0, r3C=0)), "implausible"),
        (answer(state(r3C=0)), "implausible"),
        (answer(state(r40=3400)), "implausible"),
    ],
)
def test_what_is_no_answer_of_registers(raw, kind):
    with pytest.raises(FrameError) as caught:
        codec.decode(REQUEST_STATE, raw)
    assert caught.value.kind == kind


def test_noise_and_echo_in_front_of_registers():
    for front in (b"\xff\xff", REQUEST_STATE, b"\x51\x03"):
        found = codec.decode(REQUEST_STATE, front + answer(state()))
        assert found["battery_voltage_v"] == 53.2


def test_flipped_bits_of_registers_give_nothing():
    raw = answer(state())
    for bit in range(len(raw) * 8):
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            codec.decode(REQUEST_STATE, bytes(bad))
