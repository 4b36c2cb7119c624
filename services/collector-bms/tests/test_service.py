"""What happens each turn, on a wire that takes no time."""

import pytest
from collector_bms import a5, transport
from collector_bms.emulator import EVENING
from collector_bms.service import disagreements
from sunmesh.emulation import Faults, World
from sunmesh.errors import FrameError, IdentityError, Sleeping, SunmeshError, TransportError
from sunmesh.vocabulary import VOCABULARY


def commands(wire):
    return [request[2] for request in wire.requests]


@pytest.mark.parametrize("protocol", ["a5", "0x81"])
def test_the_values_of_a_round_are_those_of_the_house(wired, protocol):
    _, source = wired(protocol=protocol)
    info = None
    for _ in range(3):  # silence ends a turn; the next begins with the next dialect
        try:
            info = source.open()
            break
        except TransportError:
            continue
    assert info.protocol == {"a5": "A5, host 0x40", "0x81": "0x81"}[protocol]
    assert info.serial == {"a5": "SUNMESH-01", "0x81": "SUNMESH-01-S"}[protocol]
    assert info.nameplate["battery_cells"] == 16
    assert info.nameplate["rated_capacity_ah"] == 280
    reading = source.poll()
    values = reading.values
    assert values["cell_voltage_v"] == EVENING["cell_voltage_v"]
    assert values["battery_voltage_v"] == 53.1
    assert values["battery_current_a"] == 12.4
    assert values["battery_power_w"] == pytest.approx(658.4)
    assert values["battery_soc_percent"] == 71.3
    assert values["remaining_capacity_ah"] == pytest.approx(199.6)
    assert values["battery_temperature_c"] == [21, 22]
    assert values["battery_direction"] == "discharge"
    assert (values["charge_mosfet_on"], values["discharge_mosfet_on"]) == (True, True)
    assert (values["cell_voltage_max_number"], values["cell_voltage_min_number"]) == (16, 7)
    assert values["cell_voltage_spread_v"] == 0.015
    assert values["balancing_cells"] == []
    assert values["faults"] == values["warnings"] == []
    assert values["charge_total_ah"] == pytest.approx(8123, abs=1)
    assert (reading.quality, reading.alarms) == ({}, {})
    assert values.keys() <= VOCABULARY.keys()
    assert None not in values.values()
    assert source.poll().values.keys() == values.keys()


def test_limits_are_settings(wired):
    _, source = wired()
    source.open()
    settings = source.settings()
    assert settings["cell_voltage_high_limit_v"] == 3.65
    assert settings["charge_current_limit_a"] == 150
    assert settings["discharge_temperature_low_limit_c"] == -20
    assert settings["balance_start_voltage_v"] == 3.4
    assert settings.keys() <= VOCABULARY.keys()


def test_a_board_that_tells_no_limits_is_normal(wired):
    wire, source = wired(modes=["nameless"])
    info = source.open()
    assert (info.serial, info.firmware) == (None, None)
    assert source.settings() is None
    source.open()
    source.settings()
    before = len(wire.requests)
    assert source.poll().values["battery_soc_percent"] == 71.3
    assert len(wire.requests) - before == 9
    for _ in range(8):
        source.settings()
    before = len(wire.requests)
    source.settings()
    assert len(wire.requests) == before, "what was never answered is not asked for ever"


# --- Who is there --------------------------------------------------------------------------------


def test_a_bluetooth_host_is_tried_second(wired):
    wire, source = wired()
    answer = wire.device.receive
    wire.device.receive = lambda data: answer(data) if data[1] == 0x80 else []
    with pytest.raises(TransportError, match="host 0x40"):
        source.open()
    assert source.open().protocol == "A5, host 0x80"
    assert source.poll().values["cell_voltage_v"] == EVENING["cell_voltage_v"]


def test_a_silent_line_costs_one_time_out_a_turn(wired):
    wire, source = wired(modes=["silent"])
    for turn in range(1, 5):
        with pytest.raises(TransportError, match="sleeps, the cable or address is wrong"):
            source.open()
        assert source._link.counters["timeouts"] == len(wire.requests) == turn
    assert [request[0] for request in wire.requests] == [0xA5, 0xA5, 0x81, 0xA5]


def test_a_known_dialect_is_not_searched_again(wired):
    wire, source = wired()
    source.open()
    wire.device.modes.add("silent")
    for _ in range(3):
        wire.requests.clear()
        with pytest.raises(TransportError):
            source.poll()
        assert commands(wire) == [0x90]
        with pytest.raises(TransportError):
            source.open()
        assert commands(wire) == [0x90, 0x94]
    wire.device.modes.clear()
    assert source.open().protocol == "A5, host 0x40"


def test_another_family_on_the_line_is_said(wired):
    wire, source = wired()
    wire.device.receive = lambda data: [b"(NAKss\r" * 3]
    with pytest.raises(FrameError, match="something answers, but not A5"):
        source.open()


def test_silence_may_be_configured_as_sleep(wired):
    _, source = wired(modes=["silent"], silence="sleeping")
    with pytest.raises(Sleeping, match="as configured"):
        source.open()


def test_another_pack_on_the_port_is_not_read(wired):
    _, source = wired(serial="SUNMESH-02")
    with pytest.raises(IdentityError, match="SUNMESH-02 is configured, the pack says SUNMESH-01"):
        source.open()
    _, source = wired(serial="SUNMESH-01", modes=["nameless"])
    with pytest.raises(IdentityError, match="says none"):
        source.open()
    _, source = wired(serial="SUNMESH-01")
    assert source.open().serial == "SUNMESH-01"


def test_packs_on_one_bus_answer_their_own_address(wired):
    _, source = wired(boards=(1, 3), address=3)
    assert source.open().serial == "SUNMESH-03"
    values = source.poll().values
    assert values["battery_current_a"] == 6.2
    assert values["remaining_capacity_ah"] == pytest.approx(99.8)


# --- Sleep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["a5", "0x81"])
def test_asleep_is_a_state_and_never_zeros(wired, protocol):
    wire, source = wired(protocol=protocol, modes=["asleep"])
    if protocol == "0x81":
        source._candidates.rotate(1)
    with pytest.raises(Sleeping, match="our own request comes back"):
        source.open()
    wire.device.modes.clear()
    for _ in range(2):
        with pytest.raises(FrameError, match="implausible"):
            source.open()
    source.open()
    assert source.poll().values["battery_voltage_v"] == 53.1


def test_falling_asleep_and_waking_up(wired):
    world = World({"faults": []})
    wire, source = wired(world=world)
    world._device = "battery"
    source.open()
    source.poll()
    world._values["faults"] = ["asleep:battery"]
    with pytest.raises(Sleeping):
        source.poll()
    with pytest.raises(Sleeping):
        source.open()
    world._values["faults"] = []
    with pytest.raises(FrameError, match=r"implausible: .*just awake"):
        source.poll()
    with pytest.raises(FrameError, match="implausible"):
        source.open()
    assert source._link.counters["damaged_implausible"] >= 2
    values = source.poll().values
    assert values["battery_voltage_v"] == 53.1
    assert values["discharge_mosfet_on"] is True


def test_a_nonsense_round_publishes_nothing_at_all(wired):
    wire, source = wired()
    source.open()
    board = wire.device.boards[1]
    board._nonsense = 2
    wire.requests.clear()
    with pytest.raises(FrameError, match="implausible"):
        source.poll()
    assert commands(wire) == [0x90, 0x90], "neither flags nor alarms are asked for"


# --- Damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["a5", "0x81"])
@pytest.mark.parametrize("kind", ["crc", "short", "noise", "echo", "silent"])
def test_thirty_percent_damage_gives_no_wrong_value(wired, monkeypatch, protocol, kind):
    monkeypatch.setattr(transport, "SLOWER_S", 0.0)
    _, clean = wired(protocol=protocol)
    if protocol == "0x81":
        clean._candidates.rotate(1)
    clean.open()
    truth = clean.poll().values
    wire, source = wired(protocol=protocol)
    if protocol == "0x81":
        source._candidates.rotate(1)
    source.open()
    wire.faults = Faults({kind: 0.3}, seed=11)
    rounds, delivered, wrong = 150, 0, []
    for _ in range(rounds):
        try:
            values = source.poll().values
        except (SunmeshError, Sleeping):
            continue
        for name in truth.keys() - {"bms_heartbeat"}:
            if values[name] == truth[name]:
                delivered += 1
            elif values[name] is not None:
                wrong.append((name, values[name]))
    assert wrong == []
    share = delivered / (rounds * (len(truth) - ("bms_heartbeat" in truth)))
    assert share >= {"echo": 0.5, "silent": 0.3}.get(kind, 0.9)


def test_what_stays_damaged_is_none_and_the_rest_counts(wired):
    wire, source = wired()
    source.open()
    wire.spoil = lambda request, frame: frame[:-1] + b"\0" if request[2] == 0x93 else frame
    values = source.poll().values
    assert values["charge_mosfet_on"] is None
    assert values["remaining_capacity_ah"] is None
    assert values["battery_soc_percent"] == 71.3
    assert source._link.counters["damaged_crc"] == 2


def test_without_voltage_and_current_the_round_is_lost(wired):
    wire, source = wired()
    source.open()
    wire.spoil = lambda request, frame: frame[:-1] + b"\0" if request[2] == 0x90 else frame
    with pytest.raises(FrameError, match="crc"):
        source.poll()


def test_a_request_that_came_too_soon_is_put_again_slower(wired):
    wire, source = wired()
    source.open()
    missed = []

    def spoil(request, frame):
        if request[2] == 0x93 and not missed:
            missed.append(request)
            return b""
        return frame

    wire.spoil = spoil
    assert source.poll().values["charge_mosfet_on"] is True
    assert source._link._bus.pause_s == 0.02


def test_a_question_that_a_board_does_not_know_is_left_out(wired, monkeypatch):
    monkeypatch.setattr(transport, "SLOWER_S", 0.0)
    wire, source = wired()
    source.open()
    wire.spoil = lambda request, frame: b"" if request[2] == 0x97 else frame
    with pytest.raises(TransportError):
        source.poll()
    values = source.poll().values
    assert values["balancing_bits"] is None
    assert values["warnings"] == []
    wire.requests.clear()
    assert source.poll().values == values | {"bms_heartbeat": 3}
    assert 0x97 not in commands(wire)
    wire.spoil = lambda request, frame: frame
    source.settings()
    assert source.poll().values["balancing_bits"] == "000000000000"


def test_a_pack_without_sensors(wired):
    wire, source = wired(world=World({"battery_temperature_c": [20.0]}))
    source.open()
    answer = wire.device.receive
    no_sensor = a5.frame(1, 0x94, bytes((16, 0, 0, 0, 0, 0, 0)))
    wire.device.receive = lambda data: [no_sensor] if data[2] == 0x94 else answer(data)
    source.open()
    wire.requests.clear()
    assert source.poll().values["battery_temperature_c"] is None
    assert 0x96 not in commands(wire)


# --- What may be believed ------------------------------------------------------------------------


def test_cells_that_do_not_sum_to_the_pack_are_asked_again(wired):
    wire, source = wired()
    source.open()
    seen = []

    def spoil(request, frame):
        if request[2] == 0x90 and not seen:
            seen.append(frame)
            data = (500).to_bytes(2, "big") + frame[6:12]  # a sum that is right by chance
            return a5.frame(1, 0x90, data)
        return frame

    wire.spoil = spoil
    reading = source.poll()
    assert reading.values["battery_voltage_v"] == 53.1
    assert reading.quality == {}
    assert source._link.counters["disagreements"] == 1


def test_cells_that_never_sum_to_the_pack_are_suspect(wired):
    _, source = wired(world=World({"battery_voltage_v": 50.0}))
    source.open()
    reading = source.poll()
    assert reading.quality == {"battery_voltage_v": "suspect", "cell_voltage_v": "suspect"}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, set()),
        ({"cell_voltage_v": None}, set()),
        ({"battery_voltage_v": 13.6}, {"battery_voltage_v", "cell_voltage_v"}),
        ({"cell_voltage_max_v": 3.36}, {"cell_voltage_max_v", "cell_voltage_v"}),
        ({"cell_voltage_min_v": 3.33}, set()),
        ({"cell_voltage_min_v": None}, set()),
    ],
)
def test_which_values_disagree(change, names):
    values = {"cell_voltage_v": [3.3, 3.32, 3.31, 3.3], "battery_voltage_v": 13.2}
    values |= {"cell_voltage_max_v": 3.32, "cell_voltage_min_v": 3.3}
    assert disagreements(values | change) == names


def test_a_current_against_the_boards_own_state_is_reported_and_never_turned(wired):
    wire, source = wired(modes=["inverted-sign"])
    source.open()
    readings = [source.poll() for _ in range(6)]
    assert all(reading.values["battery_current_a"] == -12.4 for reading in readings)
    assert [bool(reading.alarms) for reading in readings] == [False] * 4 + [True] * 2
    assert readings[-1].quality == {"battery_current_a": "suspect", "battery_power_w": "suspect"}
    assert "set current_sign" in readings[-1].alarms["current_sign"].text
    wire.device.world._values["battery_current_a"] = 0.0
    assert source.poll().alarms
    wire.device.modes.clear()
    wire.device.boards[1].modes.clear()
    wire.device.world._values["battery_current_a"] = -20.0
    assert not source.poll().alarms


def test_the_owner_decides_the_sign(wired):
    _, source = wired(modes=["inverted-sign"], current_sign="inverted")
    source.open()
    assert [source.poll().values["battery_current_a"] for _ in range(6)] == [12.4] * 6
    _, source = wired(modes=["inverted-sign"], current_sign="normal")
    source.open()
    assert not any(source.poll().alarms for _ in range(6))


def test_a_corrected_state_of_charge_is_a_value_of_its_own(wired):
    _, source = wired(soc_factor=0.936842, soc_offset_percent=6.315789)
    source.open()
    values = source.poll().values
    assert values["battery_soc_percent"] == 71.3
    assert values["battery_soc_corrected_percent"] == 73.1


def test_limits_of_the_pack_are_configurable(wired):
    _, source = wired(max_voltage_v=50.0)
    source.open()
    with pytest.raises(FrameError, match="53.1 V, outside of 8 to 50 V"):
        source.poll()


# --- Habits of real boards -----------------------------------------------------------------------


@pytest.mark.parametrize("modes", [["leftover"], ["chatty"], ["two-0x96"], ["leftover", "chatty"]])
def test_habits_of_boards_change_nothing(wired, modes):
    world = World(EVENING | {"cell_voltage_v": EVENING["cell_voltage_v"][:14]})
    world._values["battery_voltage_v"] = 46.5
    _, source = wired(modes=modes, world=world)
    source.open()
    for _ in range(3):
        reading = source.poll()
        assert reading.values["cell_voltage_v"] == EVENING["cell_voltage_v"][:14]
        assert reading.values["battery_temperature_c"] == [21, 22]
        assert reading.values["warnings"] == []
        assert reading.quality == {}


def test_how_many_frames_a_board_sends_is_learnt(wired):
    wire, source = wired(modes=["two-0x96"])
    source.open()
    source.poll()
    assert source._usual[0x96] == 2
    assert source._usual[0x95] == 6
    assert source.query(0x96).settle_s == 0
    wire.device.boards[1].modes.clear()
    for _ in range(4):
        source.poll()
    assert source._usual[0x96] == 1
