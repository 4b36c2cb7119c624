"""The emulator: its own bytes against the captures' forms, its habits, the house it follows."""

import json

import pytest
from collector_bms import a5, codec, registers
from collector_bms.emulator import EVENING, Bank
from collector_bms.shared import Context
from sunmesh.emulation import World

SIXTEEN = Context(cells=16, sensors=2, balance_order="byte")


def ask(device, command, host=0x40, data=bytes(8)):
    request = a5.frame(host, command, data)
    return codec.decode(request, b"".join(device.receive(request)), SIXTEEN)


@pytest.mark.parametrize(
    ("command", "frames"),
    [(0x90, 1), (0x91, 1), (0x93, 1), (0x95, 6), (0x96, 1), (0x98, 1), (0xD8, 1), (0x57, 5)],
)
def test_as_many_frames_as_a_board_sends(command, frames):
    answer = Bank().receive(a5.frame(0x40, command))
    assert [len(frame) for frame in answer] == [13] * frames
    assert {frame[:4] for frame in answer} == {bytes((0xA5, 1, command, 8))}


def test_bluetooth_gets_all_frames():
    assert len(Bank().receive(a5.frame(0x80, 0x95))) == 16
    assert len(Bank().receive(a5.frame(0x80, 0x96))) == 3


def test_requests_may_come_in_pieces_filled_and_with_a_tail():
    bank = Bank()
    request = a5.frame(0x40, 0x90, b"\xaa" * 8)
    assert bank.receive(request[:5]) == []
    assert len(bank.receive(request[5:] + b"\x0a" + request + b"\x0a")) == 2


@pytest.mark.parametrize(
    "request_",
    [
        a5.frame(0x40, 0x90)[:-1] + b"\0",
        a5.frame(0x40, 0x42),
        a5.frame(0x41, 0x90),
        registers.register_request(1, 3, 0, 4),
    ],
    ids=["checksum", "command", "board", "dialect"],
)
def test_what_is_not_answered(request_):
    assert Bank().receive(request_) == []
    assert Bank().nak() is None


def test_left_overs_stand_where_captures_have_them():
    bank = Bank(modes=["leftover"], world=World(EVENING | {"cell_voltage_v": [3.3] * 13 + [3.2]}))
    (soc,) = bank.receive(a5.frame(0x40, 0x90))
    (extremes,) = bank.receive(a5.frame(0x40, 0x91))
    assert extremes[10:12] == soc[10:12]
    train = bank.receive(a5.frame(0x40, 0x95))
    assert train[-1][9:11] == train[-2][9:11], "the slot of the missing cell repeats"


@pytest.mark.parametrize(
    ("modes", "wish", "on"),
    [([], 0, False), (["mos-inverted"], 1, False), (["flags-stuck"], 0, True)],
)
def test_a_switch_changes_flags_and_current(modes, wish, on):
    bank = Bank(modes=modes)
    assert ask(bank, 0xD9, data=bytes((wish,)) + bytes(7)) == {"discharge_mosfet_on": wish == 1}
    assert ask(bank, 0x93)["discharge_mosfet_on"] is on
    assert ask(bank, 0x90)["battery_current_a"] == (12.4 if on else 0)


def test_a_captured_write_sets_charge_and_clock():
    bank = Bank()
    request = bytes.fromhex("a54021 08160c0d151d27012cc3")
    assert codec.decode(request, b"".join(bank.receive(request))) == {"ack": True}
    assert ask(bank, 0x90)["battery_soc_percent"] == 30
    assert ask(bank, 0x61) == {"device_clock": "2022-12-13 21:29:39"}


def test_the_heartbeat_counts():
    bank = Bank()
    assert [ask(bank, 0x93)["bms_heartbeat"] for _ in range(3)] == [1, 2, 3]


def test_the_house_gives_reason_for_alarms():
    cells = [3.31] * 6 + [3.66] + [3.31] * 9
    bank = Bank(world=World({"cell_voltage_v": cells, "battery_soc_percent": 4.0}))
    found = ask(bank, 0x98)
    assert found["faults"] == ["cell_voltage_high", "soc_low"]
    assert "cell_difference_warning" in found["warnings"]
    assert ask(Bank(world=World({"balancing_cells": [3, 16]})), 0x97)["balancing_cells"] == [3, 16]


def test_registers_answer_and_refuse():
    bank = Bank((2,), "0x81")
    request = registers.register_request(2, 3, 0x38, 3)
    (answer,) = bank.receive(request)
    assert answer[:3] == b"\x52\x03\x06"
    assert codec.decode(request, answer)["battery_current_a"] == 12.4
    off = registers.register_request(2, 6, 0x121, 0)
    assert codec.decode(off, b"".join(bank.receive(off))) == {"ack": True}
    assert bank.boards[2].charge_on is False
    for request in (
        registers.register_request(2, 6, 0x100, 3),
        registers.register_request(2, 3, 0, 126),
        registers.with_crc(b"\x82\x2b\0\0\0\0"),
    ):
        (answer,) = bank.receive(request)
        assert answer[1] & 0x80
    assert bank.receive(registers.register_request(1, 3, 0x38, 3)) == []


def test_the_simulated_house_steers_it(mesh, topics, eventually):
    house = mesh("simulator")
    bank = Bank()
    bank.follow(mesh("collector-bms"), "battery")
    world = {"battery_current_a": -33.3, "faults": []}
    house.publish(topics.sim("world"), json.dumps(world).encode(), retain=True)
    eventually(lambda: ask(bank, 0x90)["battery_current_a"] == -33.3)
    world["faults"] = ["asleep:battery"]
    house.publish(topics.sim("world"), json.dumps(world).encode(), retain=True)
    request = a5.frame(0x40, 0x90)
    eventually(lambda: bank.receive(request) == [request])
    world["faults"] = ["swapped:battery"]
    house.publish(topics.sim("world"), json.dumps(world).encode(), retain=True)
    eventually(lambda: bank.receive(request) != [request])
    for _ in range(3):
        bank.receive(request)  # it has just woken up
    assert ask(bank, 0x57) == {"battery_code": "SUNMESH-91"}
