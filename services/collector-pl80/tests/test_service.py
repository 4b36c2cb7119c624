"""What happens each turn, against an emulated controller on a wire without waiting."""

import random
from datetime import timedelta

import pytest
from collector_pl80 import codec, service, tables
from collector_pl80.emulator import Controller
from collector_pl80.service import Day, difference_s, local_day_s
from sunmesh import clock
from sunmesh.emulation import Faults, World
from sunmesh.errors import FrameError, IdentityError, SunmeshError, TransportError
from sunmesh.vocabulary import VOCABULARY

from .conftest import NOON


def all_settings(source):
    """The slow bytes to their end."""
    for _ in range(20):
        found = source.settings()
        if found is not None:
            return found
    raise AssertionError("the slow bytes never end")


def test_a_pl80_is_found_and_read(wired):
    wire, source = wired()
    info = source.open()
    assert (info.model, info.protocol, info.serial) == ("PL80", "PLI", None)
    assert info.nameplate["battery_rating_voltage_v"] == 24
    assert info.nameplate["battery_capacity_ah"] == 880
    assert "charge_current_a" in info.nameplate["guessed_scales"]
    values = source.poll().values
    assert values["battery_voltage_v"] == 26.4
    assert (values["charge_current_a"], values["load_current_a"]) == (20.8, 12.2)
    assert (values["charge_today_ah"], values["load_today_ah"]) == (86, 300)
    assert (values["regulator_state"], values["battery_soc_percent"]) == ("absorption", 93)
    assert (values["device_clock"], values["device_clock_offset_s"]) == ("12:33:24", 0)
    assert set(values) <= set(VOCABULARY)
    settings = all_settings(source)
    assert settings["boost_voltage_v"] == 28.8
    assert settings["generator_start_voltage_v"] == 4.0
    assert len(settings["history_charge_ah"]) == 30
    assert set(settings) | set(info.nameplate) <= set(VOCABULARY)
    assert source.poll().values["battery_voltage_max_today_v"] == 28.2


def test_it_only_ever_reads(wired):
    wire, source = wired()
    source.open()
    source.poll()
    all_settings(source)
    assert {request[0] for request in wire.requests} == {
        codec.RAM,
        codec.EEPROM,
        codec.LOOPBACK,
    }
    assert not [request for request in wire.requests if request[:2] == bytes([codec.RAM, 53])]


def test_every_sample_has_the_same_names(wired):
    wire, source = wired()
    source.open()
    full = source.poll().values
    wire.spoil = lambda request, answer: b"\x86" if request[1] in (181, 188, 47) else answer
    values = source.poll().values
    assert list(values) == list(full)
    missing = {name for name in full if values[name] is None and full[name] is not None}
    assert missing == {
        *("battery_soc_percent", "charge_today_ah", "device_clock", "device_clock_offset_s")
    }
    assert values["battery_voltage_v"] == 26.4, "one bad byte does not void the round"


def test_an_unchanged_byte_costs_one_exchange_and_a_changed_one_two(wired):
    wire, source = wired()
    source.open()
    source.poll()
    wire.requests.clear()
    source.poll()
    quiet = len(wire.requests)
    assert quiet == 9 + 4 * 3 + 4
    wire.requests.clear()
    wire.device.ram[50] = 133
    assert source.poll().values["battery_voltage_v"] == 26.6
    assert len(wire.requests) == quiet + 1


def test_a_corrupted_address_is_outvoted(wired):
    wire, source = wired()
    source.open()
    source.poll()
    once = iter([bytes([200, 3])])
    wire.spoil = lambda request, answer: next(once, answer) if request[1] == 50 else answer
    assert source.poll().values["battery_voltage_v"] == 26.4
    assert source.poll().quality == {}


@pytest.mark.parametrize("kind", ["crc", "noise", "nak", "short", "echo"])
def test_no_wrong_value_from_thirty_percent_damaged_answers(wired, kind):
    _, clean = wired()
    clean.open()
    truth = clean.poll().values
    delivered = wrong = expected = 0
    for seed in range(3):
        wire, source = wired(faults=Faults({kind: 0.3}, seed=seed))
        for _ in range(20):
            try:
                source.open()
                break
            except SunmeshError:
                source.close()
        for _ in range(20):
            expected += len(truth)
            try:
                values = source.poll().values
            except SunmeshError:
                continue
            for name, value in truth.items():
                delivered += values[name] is not None or value is None
                wrong += values[name] is not None and values[name] != value
    assert wrong == 0
    if kind != "short":  # half of those are silence, which ends a round
        assert delivered >= 0.9 * expected


def test_ten_thousand_flipped_bits(wired):
    draw = random.Random(11)
    wire, source = wired()
    source.open()
    truth = source.poll().values
    flipped = 0

    def flip(request, answer):
        nonlocal flipped
        if draw.random() < 0.8:
            return answer
        flipped += 1
        at = draw.randrange(len(answer))
        return answer[:at] + bytes([answer[at] ^ 1 << draw.randrange(8)]) + answer[at + 1 :]

    wire.spoil = flip
    while flipped < 10_000:
        values = source.poll().values
        assert {name: v for name, v in values.items() if v is not None} == {
            name: v for name, v in truth.items() if v is not None and values[name] is not None
        }


def test_a_counter_that_carries_between_its_bytes_is_read_again(wired):
    wire, source = wired()
    source.open()
    source.poll()
    wire.device.ram[203], wire.device.ram[204] = 255, 1
    source.poll()

    def carry(request, answer):
        if request[:2] == bytes([codec.RAM, 203]) and wire.device.ram[204] == 1:
            wire.device.ram[203], wire.device.ram[204] = 0, 2
            return answer[:1] + b"\x00"
        return answer

    wire.spoil = carry
    assert source.poll().values["load_today_ah"] == 3 + 512
    assert source._link.counters["torn"] == 1


def test_an_answer_that_comes_after_its_time_does_not_shift_the_others(wired):
    wire, source = wired()
    source.open()
    truth = source.poll().values
    late = iter([b""])
    held = []

    def hold(request, answer):
        if request[1] == 101 and next(late, None) is not None:
            held.append(answer)
            return b""
        return held.pop() + answer if held and request[0] == codec.RAM else answer

    wire.spoil = hold
    assert source.poll().values == truth
    assert source._link.counters["timeouts"] == 1


def test_a_silent_adaptor_costs_one_time_out_a_turn(wired):
    wire, source = wired()
    source.open()
    wire.requests.clear()
    wire.spoil = lambda request, answer: b""
    with pytest.raises(TransportError, match="no answer to a read of 50"):
        source.poll()
    assert [request[0] for request in wire.requests] == [
        *(codec.RAM, codec.LOOPBACK, codec.LOOPBACK)
    ]
    source.close()
    with pytest.raises(TransportError, match="does not answer its loopback"):
        source.open()
    assert source._link.counters["timeouts"] == 2


def test_a_lost_controller_is_not_a_lost_adaptor(wired):
    wire, source = wired()
    source.open()
    wire.device.is_plugged = False
    with pytest.raises(TransportError, match="the adaptor answers, the controller behind it"):
        source.poll()
    wire.device.is_plugged = True
    wire.device.ram[0] = 130
    wire.requests.clear()
    values = source.poll().values
    assert wire.requests[0][1] == tables.VERSION, "after a 133 the model is asked again"
    assert values["charge_internal_current_a"] == 10.4
    wire.requests.clear()
    source.poll()
    assert wire.requests[0][1] == 50


def test_something_that_is_no_pli_is_said(wired):
    wire, source = wired()
    wire.spoil = lambda request, answer: b"(NAKss\r"
    with pytest.raises(FrameError, match="foreign"):
        source.open()
    wire.spoil = lambda request, answer: request
    with pytest.raises(FrameError, match="echo"):
        source.open()


def test_another_controller_is_an_identity_error(wired):
    wire, source = wired(model="PL60")
    with pytest.raises(IdentityError, match="PL60 is configured, the controller is a PL80"):
        source.open()
    wire, source = wired(system_v=48)
    with pytest.raises(IdentityError, match="48 V are configured, the controller has 24 V"):
        source.open()


def test_the_owner_knows_better_than_a_guess(wired):
    wire, source = wired(charge_step_a=0.5, load_step_a=0.1)
    assert source.open().nameplate["guessed_scales"] == []
    values = source.poll().values
    assert (values["charge_internal_current_a"], values["load_internal_current_a"]) == (26.0, 0.2)


def test_a_clock_that_is_off_is_an_alarm_until_it_is_set(wired):
    wire, source = wired()
    source.open()
    wire.device.world = World({"pl80_clock_offset_s": -1260})
    reading = source.poll()
    assert reading.values["device_clock_offset_s"] == -1260
    assert "21 min behind" in reading.alarms["device_clock"].text
    wire.device.world = World()
    assert source.poll().alarms == {}


def test_a_power_cut_is_told_from_midnight(wired):
    wire, source = wired()
    source.open()
    source.poll()
    wire.device.power_cut()
    reading = source.poll()
    assert reading.values["day_counters_state"] == "restarted"
    assert reading.values["charge_yesterday_ah"] is None
    assert "lost power" in reading.alarms["device_clock"].text


def test_midnight_keeps_the_day_and_the_history_grows(wired):
    world = World(
        {
            "battery_voltage_v": 26.5,
            "battery_charge_current_a": 60.0,
            "battery_discharge_current_a": 12.0,
            "battery_soc_percent": 81.0,
            "ts": clock.iso(NOON),
        }
    )
    wire, source = wired()
    wire.device.world = world
    source.open()
    source.poll()
    before = all_settings(source)["history_charge_ah"]

    def at(hours):
        wire.clock.moment = NOON + timedelta(hours=hours)
        world._values["ts"] = clock.iso(wire.clock.moment)
        return source.poll().values

    at(0)
    values = at(11.43)  # 23:59
    assert (values["charge_today_ah"], values["load_today_ah"]) == (685, 137)
    assert values["charge_current_a"] == 60.0
    values = at(11.46)  # 00:01
    assert values["day_counters_state"] == "running"
    assert (values["charge_yesterday_ah"], values["charge_today_ah"]) == (685, 1)
    source._settings_due = 0.0
    after = all_settings(source)["history_charge_ah"]
    assert after[0] == 685
    assert after[1:] == before[:-1]


def test_a_ring_that_turned_while_it_was_read_is_read_again(wired):
    wire, source = wired()
    source.open()
    source.poll()

    def turn(request, answer):
        if request[:2] == bytes([codec.EEPROM, 200]):
            wire.device.eeprom[45] = 3
        return answer

    wire.spoil = turn
    assert "history_charge_ah" not in all_settings(source)
    source._settings_due = 0.0
    assert len(all_settings(source)["history_charge_ah"]) == 30


def test_slow_bytes_come_in_pieces_between_the_rounds(wired, monkeypatch):
    wire, source = wired()
    source.open()
    assert source.poll().settings_changed
    monkeypatch.setattr(service, "SLOW_SHARE", 0.0)
    wire.requests.clear()
    assert source.settings() is None
    assert wire.requests == []
    assert source.poll().settings_changed, "there is more to read"
    monkeypatch.setattr(service, "SLOW_SHARE", 1.0)
    assert source.settings() is not None
    assert not source.poll().settings_changed
    assert source.settings() is None


def test_without_history_the_eeprom_is_left_alone(wired):
    wire, source = wired(history=False)
    source.open()
    assert "history_charge_ah" not in all_settings(source)
    assert not [request for request in wire.requests if request[0] == codec.EEPROM]


def test_an_impossible_voltage_is_marked(wired):
    wire, source = wired()
    source.open()
    wire.device.ram[50] = 250
    assert source.poll().quality == {"battery_voltage_v": "suspect"}
    wire.device.eeprom[43] = wire.device.ram[93] = 9
    source.close()
    with pytest.raises(FrameError, match="no battery voltage"):
        source.open()


def test_the_counters_of_a_day():
    day = Day()
    day.follow(10, 5, 40_000, 40_000)
    day.follow(12, 6, 40_100, 40_100)
    day.follow(0, 0, 40_200, 40_200)
    assert day.state == "cleared"
    day.follow(3, 1, 86_000, 86_000)
    day.follow(None, 1, 86_100, 86_100)
    day.follow(4, 1, None, 86_200)
    day.follow(0, 0, 60, 86_390)
    assert (day.state, day.charge_yesterday_ah, day.load_yesterday_ah) == ("running", 3, 1)
    day.follow(9, 9, 30_000, 26_400)
    day.follow(0, 0, 60, 82_860)
    assert day.state == "running", "a clock that is an hour ahead has its midnight an hour early"


def test_the_shorter_way_round_midnight():
    assert difference_s(60, 86_340) == 120
    assert difference_s(86_340, 60) == -120
    assert 0 <= local_day_s(NOON) < 86_400


def test_the_emulator_forgets_half_a_request_and_refuses_nonsense(monkeypatch):
    from collector_pl80 import emulator

    device = Controller()
    assert device.receive(b"\x14\x32") == []
    assert device.receive(b"\x00\xeb\x14") == [b"\xc8\x84"]
    monkeypatch.setattr(emulator, "FORGET_S", -1.0)
    assert device.receive(b"\x14\x32\x00\xeb") == [b"\xc8\x84"]
    assert device.receive(b"\x14\x66\x00\xe1") == [b"\x82"]
    assert device.receive(b"\x15\x66\x00\xea") == [b"\x83"]
    device.receive(b"\xca\x23\x97\x35")
    assert device.eeprom[35] != 151, "not without the unlock"
    monkeypatch.setattr(emulator, "COPY_S", -1.0)
    device.receive(b"\x98\xe2\x01\x67")
    device.receive(b"\xca\x23\x97\x35")
    assert device.eeprom[35] != 151, "the unlock ends when the settings are copied"


def test_a_controller_with_panels_and_loads_of_its_own_shows_the_house_s_day(wired):
    wire, source = wired()
    wire.device.world = World(
        {
            "battery_voltage_v": 27.4,
            "battery_soc_percent": 97.0,
            "charge_current_a": 6.02,
            "load_current_a": 0.61,
            "regulator_state": "float",
            "load_disconnected": True,
            "charge_today_ah": 31.9,
            "load_today_ah": 7.2,
            "battery_voltage_max_today_v": 28.8,
            "battery_voltage_min_today_v": 25.0,
            "float_reached_hours": 11.52,
        }
    )
    source.open()
    source.poll()
    all_settings(source)
    values = source.poll().values
    wanted = {
        "battery_voltage_v": 27.4,
        "battery_soc_percent": 97,
        "charge_current_a": 6.0,
        "charge_internal_current_a": 6.0,
        "charge_external_current_a": None,
        "load_current_a": 0.6,
        "regulator_state": "float",
        "outputs_active": ["charge", "load_disconnected"],
        "charge_today_ah": 31,
        "load_today_ah": 7,
        "battery_voltage_max_today_v": 28.8,
        "battery_voltage_min_today_v": 25.0,
        "float_reached_hours": 11.5,
    }
    assert {name: values[name] for name in wanted} == wanted
