"""What happens each turn, against a folder that the test writes."""

import logging
import os
import threading
import time

import pytest
from collector_temperature import transport
from collector_temperature.emulator import NO_SENSOR, POWER_ON, VANISHES_AFTER, Simulated
from collector_temperature.emulator import Bus as Folder
from collector_temperature.transport import Bus
from sunmesh.emulation import Faults, World
from sunmesh.errors import ConfigError, FrameError, SunmeshError, TransportError
from sunmesh.testing import LEAST_S
from sunmesh.vocabulary import VOCABULARY

from .conftest import ROM

OTHER = "28-000006c5aefc"


def test_a_sensor_is_found_and_read(hang, thermometer, tmp_path):
    hang(22.0625)
    source = thermometer()
    info = source.open()
    assert (info.serial, info.model, info.port) == (ROM, "DS18B20", str(tmp_path / ROM))
    assert source.settings() is None
    assert source.poll().values == {"temperature_c": 22.0625}
    assert source.settings() == {"resolution_bits": 12}
    assert {"temperature_c", "resolution_bits"} <= set(VOCABULARY)


@pytest.mark.parametrize("text", ["", NO_SENSOR, "61 01 4b"])
def test_one_failed_read_is_made_good_by_the_next(hang, thermometer, text, monkeypatch):
    hang(text)
    source = thermometer()
    bus = source._sensor.bus
    read = bus.read
    monkeypatch.setattr(bus, "read", lambda rom: (read(rom), hang(20.0))[0])
    assert source.poll().values == {"temperature_c": 20.0}
    assert source._sensor.counters["retries"] == 1


def test_two_failed_reads_lose_the_round(hang, thermometer):
    hang("")
    with pytest.raises(FrameError, match="empty"):
        thermometer().poll()
    hang(NO_SENSOR)
    with pytest.raises(FrameError, match="crc"):
        thermometer().poll()


def test_a_sensor_just_powered_is_given_a_second(hang, thermometer):
    hang(POWER_ON)
    source = thermometer()
    source.pauses.append(lambda: hang(19.5))
    assert source.poll().values == {"temperature_c": 19.5}
    hang(POWER_ON)
    with pytest.raises(FrameError, match="power_on"):
        source.poll()


def test_a_measured_85_is_published(hang, thermometer):
    source = thermometer()
    for celsius in (80.0, 83.5, 85.0, 85.0, 86.0):
        hang(celsius)
        reading = source.poll()
        assert (reading.values["temperature_c"], reading.quality) == (celsius, {})


def test_an_85_out_of_nowhere_is_suspect_until_it_moves(hang, thermometer):
    source = thermometer()
    hang(21.0)
    source.poll()
    hang(85.0)
    for _ in range(2):
        assert source.poll().quality == {"temperature_c": "suspect"}
    hang(84.9375)
    assert source.poll().quality == {}
    hang(21.0)
    source.poll()
    hang(85.0)
    source.pauses.append(lambda: hang(21.0625))
    reading = source.poll()
    assert (reading.values["temperature_c"], reading.quality) == (21.0625, {})


def test_a_missing_sensor_says_who_is_there(hang, thermometer):
    hang(21.0, OTHER)
    source = thermometer()
    with pytest.raises(TransportError, match=f"{ROM} is not on the bus; there: {OTHER}"):
        source.open()
    with pytest.raises(TransportError, match=f"{ROM} is not on the bus; there: {OTHER}"):
        source.poll()
    hang(20.0)
    source.open()
    assert source.poll().values == {"temperature_c": 20.0}


def test_without_a_bus_it_is_said(thermometer, tmp_path):
    source = thermometer()
    tmp_path.rmdir()
    with pytest.raises(TransportError, match="is the 1-Wire bus switched on"):
        source.open()


def test_a_sensor_without_a_name_is_said_once(hang, thermometer, caplog):
    caplog.set_level(logging.INFO)
    hang(21.0)
    source = thermometer()
    source.open()
    hang(20.0, OTHER)
    source.poll()
    source.poll()
    assert [r.message for r in caplog.records].count(
        f"{OTHER} is on the bus and has no table [devices.NAME]"
    ) == 1
    assert source._sensor.counters["unnamed_on_bus"] == 1


def test_a_read_that_does_not_end_stalls_nobody_for_long(hang, tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 1.0)
    folder = hang(21.0, OTHER)
    (folder / "w1_slave").unlink()
    os.mkfifo(folder / "w1_slave")  # opening it blocks, as a sick bus does
    hang(20.0)
    bus = Bus(tmp_path)
    with pytest.raises(TransportError, match="no answer from"):
        bus.read(OTHER)
    monkeypatch.setattr(transport, "DEADLINE_S", 4 * LEAST_S)
    began = time.monotonic()
    with pytest.raises(TransportError, match="has not come back yet"):
        bus.read(OTHER)
    assert time.monotonic() - began < LEAST_S, "no second thread waits behind the first"
    assert "t=20000" in bus.read(ROM)
    (folder / "w1_slave").open("w").close()  # the stuck reader ends


def test_one_bus_is_read_by_one_at_a_time(hang, tmp_path, monkeypatch):
    inside, most = 0, 0
    real = transport._read

    def slow(path, answer):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        real(path, answer)
        inside -= 1

    monkeypatch.setattr(transport, "_read", slow)
    hang(20.0)
    bus = Bus(tmp_path)
    threads = [threading.Thread(target=bus.read, args=(ROM,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1


@pytest.mark.parametrize("kind", ["crc", "nak", "echo", "short", "noise", "silent"])
def test_no_wrong_value_from_thirty_percent_damaged_texts(tmp_path, thermometer, kind):
    folder = Folder(tmp_path, [Simulated(ROM, faults=Faults({kind: 0.3}, seed=4))])
    source = thermometer()
    source._sensor.bus.read = lambda rom, read=source._sensor.bus.read: (folder.write(), read(rom))[
        1
    ]
    delivered = 0
    for _ in range(300):
        try:
            reading = source.poll()
        except SunmeshError:
            continue
        delivered += 1
        assert reading.values == {"temperature_c": 22.0625}
    assert delivered > 0.8 * 300
    if kind == "crc":
        assert delivered >= 0.9 * 300


def test_the_emulator_shows_the_house(tmp_path):
    world = World({"outdoor_temperature_c": -4.3, "battery_temperature_c": [17.0, 17.7]})
    sensors = [
        Simulated.parse(f"{ROM}:outdoor_temperature_c:outdoor"),
        Simulated.parse(f"{OTHER}:battery_temperature_c/2"),
    ]
    folder = Folder(tmp_path, sensors, world)
    folder.write()
    assert (tmp_path / ROM / "temperature").read_text() == "-4312\n"
    assert "t=17687\n" in (tmp_path / OTHER / "w1_slave").read_text()
    assert sensors[0].device == "outdoor"


def test_a_sensor_that_is_not_found_leaves_the_bus_and_comes_back(tmp_path):
    sensor = Simulated(ROM, faults=Faults({"silent": 1.0}))
    folder = Folder(tmp_path, [sensor])
    folder.write()
    assert (tmp_path / ROM / "w1_slave").read_bytes() == b""
    for _ in range(VANISHES_AFTER):
        folder.write()
    assert not (tmp_path / ROM).exists()
    sensor.faults.rates.clear()
    folder.write()
    assert "YES" in (tmp_path / ROM / "w1_slave").read_text()


def test_a_bus_in_a_wrong_place_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Folder(tmp_path / "file", [Simulated(ROM)]).run(threading.Event(), 1)
    with pytest.raises(ConfigError, match="write ROM"):
        Simulated.parse("27-x")
