"""``collector-temperature``: wires the parts together for each of the five verbs."""

import argparse
import os
import threading
from pathlib import Path
from typing import Any

from sunmesh import collector, service
from sunmesh.config import Site
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh
from sunmesh.poll import Poller
from sunmesh.tap import Capture

from . import __version__, codec
from .config import ROOT, TemperatureDevice
from .service import Thermometer
from .transport import Bus, Sensor

NAME = "collector-temperature"


def pollers(site: Site, mesh: Mesh) -> list[Poller]:
    """A poller for each sensor of the site; sensors of one root share their bus.

    Raises:
        ConfigError: two devices are one sensor.
    """
    configs = site.devices_of("temperature", TemperatureDevice)
    owner: dict[tuple[str, str], str] = {}
    for device, config in configs.items():
        other = owner.setdefault((config.root, config.rom), device)
        if other != device:
            raise ConfigError(f"{site.path}: devices.{device}.rom: is that of devices.{other}, too")
    buses = {
        config.root: Bus(
            Path(config.root), frozenset(rom for root, rom in owner if root == config.root)
        )
        for config in configs.values()
    }
    result = []
    for device, config in configs.items():
        sensor = Sensor(buses[config.root], config.rom)
        poller = Poller(
            device,
            Thermometer(config, sensor),
            mesh,
            interval_s=config.poll_interval_s,
            tap=sensor.tap,
            capture=capture,
        )
        sensor.counters.update(poller.counters)
        poller.counters = sensor.counters  # one set, for the health message
        result.append(poller)
    return result


def capture() -> Capture:
    """What makes records of the texts that the running collector reads."""
    from .survey import overheard  # only where somebody asks for them

    return overheard


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    """One file on the command line."""
    parser.add_argument("--device", metavar="28-...", help="the sensor's ROM id")
    parser.add_argument("--file", type=Path, metavar="w1_slave", help="a copy of its file")


def decode_request(options: argparse.Namespace) -> dict[str, Any]:
    """These arguments as :func:`collector_temperature.codec.decode` wants them."""
    if options.file is None:
        raise ConfigError("decode needs --file, or - for JSON lines")
    try:
        text = options.file.read_bytes().decode("ascii", "replace")
    except OSError as err:
        raise ConfigError(f"{options.file} cannot be read ({err.strerror})") from err
    return {"device": options.device, "text": text}


def root_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the sensors are, without a configuration file."""
    parser.add_argument("--root", type=Path, default=Path(ROOT), help=f"default: {ROOT}")


def probe(options: argparse.Namespace) -> object:
    """Who is on the bus, and how warm."""
    from .survey import survey

    return survey(options.root)


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """Which bus, and what the label says."""
    root_arguments(parser)
    collector.add_label_argument(parser)


def record(options: argparse.Namespace) -> collector.Records:
    """Every sensor's text, numbers blanked."""
    from .survey import record as texts

    return texts(options.root, options.model)


def emulate_arguments(parser: argparse.ArgumentParser) -> None:
    """Which sensors, and what goes wrong with them."""
    parser.add_argument("--root", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--sensor",
        action="append",
        default=[],
        metavar="ROM[:QUANTITY[:DEVICE]]",
        help="a sensor, what of the simulated house it shows, its name there",
    )
    parser.add_argument("--interval", type=float, default=1.0, help="of writing [s]; default: 1")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[:RATE]",
        help="crc (a flipped bit), nak (CRC NO), echo (85 °C of power-on), short, noise, "
        "silent (empty file, and off the bus after three), for a part (0 to 1) of the texts",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=os.environ.get("SUNMESH_CONFIG"),
        metavar="FILE",
        help="follow the simulated house of this site (default: SUNMESH_CONFIG, else none)",
    )


def emulate(options: argparse.Namespace, stop: threading.Event) -> int:
    """Be a bus of sensors until the event is set."""
    from sunmesh import config
    from sunmesh.emulation import Faults, start

    from .emulator import Bus as Folder
    from .emulator import Simulated

    if not options.sensor or options.interval <= 0:
        raise ConfigError("emulate needs --sensor, and an --interval above 0")
    sensors = [Simulated.parse(text) for text in options.sensor]
    for number, sensor in enumerate(sensors):
        sensor.faults = Faults.parse(options.fault, seed=number + 1)
    folder = Folder(options.root, sensors)
    mesh = None
    if options.config:
        site = config.load(options.config, NAME)
        mesh = Mesh(site.broker, site.topics, NAME, instance=f"emulator-{sensors[0].rom}")
        folder.follow(mesh)
        start(mesh, site)
    try:
        folder.run(stop, options.interval)
    finally:
        if mesh is not None:
            mesh.stop()
    return 0


FAMILY = collector.Family(
    name=NAME,
    version=__version__,
    about="Reads DS18B20 temperature sensors on the 1-Wire bus and publishes them.",
    pollers=pollers,
    decode=codec.decode,
    decode_arguments=decode_arguments,
    decode_request=decode_request,
    probe_arguments=root_arguments,
    probe=probe,
    record_arguments=record_arguments,
    record=record,
    emulate_arguments=emulate_arguments,
    emulate=emulate,
)


def main() -> None:
    """The console script."""
    service.main(lambda: collector.main(FAMILY))


if __name__ == "__main__":
    main()
