"""A folder that stands in for the kernel's, written by the emulator or by the test itself."""

import threading

import pytest
from collector_temperature.config import TemperatureDevice
from collector_temperature.emulator import Bus as Folder
from collector_temperature.emulator import Simulated, text_of
from collector_temperature.service import Thermometer
from collector_temperature.transport import Bus, Sensor

ROM = "28-000006b67845"


@pytest.fixture
def hang(tmp_path):
    """Hang a sensor on the bus, with that text or at that temperature."""

    def hang(text, rom=ROM):
        folder = tmp_path / rom
        folder.mkdir(exist_ok=True)
        (folder / "w1_slave").write_text(text if isinstance(text, str) else text_of(text))
        return folder

    return hang


@pytest.fixture
def thermometer(tmp_path):
    """The source of a sensor; a pause runs what ``pauses`` holds next."""

    def make(rom=ROM, named=frozenset({ROM})):
        pauses = []

        def sleep(seconds):
            if pauses:
                pauses.pop(0)()

        config = TemperatureDevice(rom=rom, root=str(tmp_path))
        source = Thermometer(config, Sensor(Bus(tmp_path, named), rom), sleep)
        source.pauses = pauses
        return source

    return make


@pytest.fixture
def emulated(tmp_path):
    """A bus of emulated sensors that is written all the time; its root and its sensors."""
    stop, threads = threading.Event(), []

    def start(*roms, faults=None):
        sensors = [Simulated(rom) for rom in roms]
        for sensor in sensors:
            sensor.faults = faults or sensor.faults
        folder = Folder(tmp_path / "w1", sensors)
        folder.write()
        threads.append(threading.Thread(target=folder.run, args=(stop, 0.01)))
        threads[-1].start()
        return folder

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)
