"""``collector-bms``: wires the parts together for each of the five verbs."""

import argparse
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sunmesh import collector, service
from sunmesh.config import Site
from sunmesh.errors import ConfigError, FrameError
from sunmesh.mqtt import Mesh
from sunmesh.poll import Poller
from sunmesh.serialport import SerialPort
from sunmesh.tap import Capture

from . import __version__
from .config import BmsDevice
from .service import Daly
from .shared import Context
from .transport import Bus, Link

if TYPE_CHECKING:
    from sunmesh.commands.control import Control

NAME = "collector-bms"
PROTOCOLS = ("a5", "0x81")
ORDERS = ("unknown", "byte", "word")


def pollers(site: Site, mesh: Mesh) -> list[Poller]:
    """A poller for each pack of the site; packs on one port share it.

    Raises:
        ConfigError: two packs on one port have one address, or different baud rates.
    """
    result = []
    buses: dict[str, tuple[Bus, str, BmsDevice]] = {}
    taken: dict[tuple[str, int], str] = {}
    for device, config in site.devices_of("bms", BmsDevice).items():
        key = config.port if "://" in config.port else os.path.realpath(config.port)
        if (key, config.address) in taken:
            raise ConfigError(
                f"{site.path}: devices.{device}.address: {config.address} on {config.port} "
                f"is {taken[key, config.address]} already"
            )
        taken[key, config.address] = device
        if key not in buses:
            port = SerialPort(config.port, config.baud, holder=f"{NAME} for {device}")
            buses[key] = Bus(port, config.request_pause_s), device, config
        bus, first, its = buses[key]
        if its.baud != config.baud:
            raise ConfigError(
                f"{site.path}: devices.{device}.baud: {config.baud}, but {first} on the same port "
                f"has {its.baud}"
            )
        link = Link(bus, config.timeout_s)
        source = Daly(config, link)
        poller = Poller(
            device,
            source,
            mesh,
            interval_s=config.poll_interval_s,
            settings_interval_s=config.settings_interval_s,
            control=control_of(site, mesh, device, source, config),
            why_no_commands="control = false in the configuration: nothing is switched",
            tap=link.tap,
            capture=capture,
        )
        link.counters.update(poller.counters)
        poller.counters = link.counters  # one set, for the health message
        result.append(poller)
    return result


def control_of(
    site: Site, mesh: Mesh, device: str, source: Daly, config: BmsDevice
) -> "Control | None":
    """What switches ``device``; None where its owner wants no such thing."""
    if not config.control:
        return None
    from sunmesh.commands.control import Control  # a collector that only reads has no use for it

    return Control.of(
        site,
        mesh,
        device,
        source,
        budget=config.write_budget,
        state_dir=config.state_dir,
    )


def capture() -> Capture:
    """What makes records of the answers that the running collector gets."""
    from .survey import overheard  # only where somebody asks for them

    return overheard


def decode(request: Mapping[str, Any]) -> dict[str, Any]:
    """``{"request": "a5 40 ...", "reply": "a5 01 ..."}`` → ``{"values": {...}}``.

    Optional: ``cells`` and ``temp_sensors`` (also under ``context``), as 0x94 counts them;
    ``current_sign`` and ``balance_order`` as in the configuration. Where the counts are missing and
    an answer needs them, they are guessed from unused slots and the guess stands under ``guessed``.
    """
    from . import codec

    asked, text = request.get("request"), request.get("reply")
    if not isinstance(asked, str) or not isinstance(text, str):
        raise FrameError("shape", "give request and reply, both in hex")
    counts = {**(request.get("context") or {}), **request}
    context = Context(
        cells=_count(counts, "cells"),
        sensors=_count(counts, "temp_sensors"),
        inverted=request.get("current_sign") == "inverted",
        balance_order=str(request.get("balance_order", "unknown")),
    )
    sent = collector.hex_bytes(asked, "request")
    values = codec.decode(sent, collector.hex_bytes(text, "reply"), context)
    result = collector.values_of(values)
    for name, known in (
        ("cell_voltage_v", context.cells),
        ("battery_temperature_c", context.sensors),
    ):
        listed = values.get(name)
        if known is None and isinstance(listed, list) and "battery_cells" not in values:
            result["guessed"] = {name: len(listed)}
    return result


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    value = counts.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 48:
        raise FrameError("shape", f"{name} is a number of 0 to 48, not {value!r}")
    return value


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    """One answer on the command line."""
    parser.add_argument("--request", default="", metavar="a540...", help="what was sent")
    parser.add_argument("--reply", default="", metavar="a501...", help="what came back, joined")
    parser.add_argument("--cells", type=int, help="number of cells, as 0x94 counts them")
    parser.add_argument("--temp-sensors", type=int, help="number of sensors, likewise")
    parser.add_argument("--current-sign", choices=["normal", "inverted"], default="normal")
    parser.add_argument("--balance-order", choices=ORDERS, default="unknown")


def decode_request(options: argparse.Namespace) -> dict[str, Any]:
    """These arguments as :func:`decode` wants them."""
    names = ("request", "reply", "cells", "temp_sensors", "current_sign", "balance_order")
    return {name: getattr(options, name) for name in names}


def port_arguments(parser: argparse.ArgumentParser) -> None:
    """How a pack is reached, without a configuration file."""
    parser.add_argument("--port", required=True, help="/dev/serial/by-id/...")
    parser.add_argument("--baud", type=int, default=9600, help="default: 9600")
    parser.add_argument("--address", type=int, default=1, help="board number, default: 1")
    parser.add_argument("--protocol", choices=["auto", *PROTOCOLS], default="auto")


def device_of(options: argparse.Namespace) -> BmsDevice:
    """The pack that these arguments name; any port will do, it is asked once only."""
    try:
        return BmsDevice(
            port=options.port,
            baud=options.baud,
            address=options.address,
            protocol=options.protocol,
            allow_unstable_port=True,
        )
    except ValueError as err:
        raise ConfigError(f"--{err}") from err


def probe(options: argparse.Namespace) -> object:
    """Who is on the port, and what each question is answered."""
    from .survey import survey

    config = device_of(options)
    bus = Bus(SerialPort(config.port, config.baud, holder=f"{NAME} probe"))
    return survey(config, bus)


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """Which device, and what its label says."""
    port_arguments(parser)
    collector.add_label_argument(parser)


def record(options: argparse.Namespace) -> collector.Records:
    """Every answer of the pack, its names blanked."""
    from .survey import record as answers

    config = device_of(options)
    bus = Bus(SerialPort(config.port, config.baud, holder=f"{NAME} record"))
    return answers(config, bus, options.model)


def emulate_arguments(parser: argparse.ArgumentParser) -> None:
    """Which boards, and what goes wrong with them."""
    from sunmesh import emulation

    from .emulator import MODES

    parser.add_argument("--protocol", choices=PROTOCOLS, default="a5")
    parser.add_argument(
        "--address", type=int, action="append", help="board number, again for more boards"
    )
    parser.add_argument(
        "--mode", action="append", default=[], choices=MODES, help="a habit of real boards"
    )
    emulation.add_arguments(parser, baud=9600, device="battery")


def emulate(options: argparse.Namespace, stop: threading.Event) -> int:
    """Be one or several boards until the event is set."""
    from sunmesh import emulation

    from .emulator import Bank

    bank = Bank(options.address or (1,), options.protocol, options.mode)
    return emulation.serve(NAME, options, bank, stop)


FAMILY = collector.Family(
    name=NAME,
    version=__version__,
    about="Reads Daly battery management systems, one or several on a bus, and publishes them.",
    pollers=pollers,
    decode=decode,
    decode_arguments=decode_arguments,
    decode_request=decode_request,
    probe_arguments=port_arguments,
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
