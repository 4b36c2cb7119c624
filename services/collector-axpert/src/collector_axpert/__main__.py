"""``collector-axpert``: wires the parts together for each of the five verbs."""

import argparse
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sunmesh import collector, service
from sunmesh.config import Site
from sunmesh.errors import ConfigError, FrameError
from sunmesh.mqtt import Mesh
from sunmesh.poll import Poller
from sunmesh.tap import Capture

from . import __version__, codec
from .config import AxpertDevice
from .service import Axpert
from .transport import Link, port_of

if TYPE_CHECKING:
    from sunmesh.commands.control import Control

NAME = "collector-axpert"
DIALECTS = ("PI30", "PI30MAX", "PI18")


def pollers(site: Site, mesh: Mesh) -> list[Poller]:
    """A poller for each inverter of the site."""
    result = []
    for device, config in site.devices_of("axpert", AxpertDevice).items():
        link = Link(port_of(config, f"{NAME} for {device}"))
        source = Axpert(config, link)
        poller = Poller(
            device,
            source,
            mesh,
            interval_s=config.poll_interval_s,
            settings_interval_s=config.settings_interval_s,
            control=control_of(site, mesh, device, source, config),
            why_no_commands="control = false in the configuration: nothing is set",
            tap=link.tap,
            capture=capture,
        )
        link.counters.update(poller.counters)
        poller.counters = link.counters  # one set, for the health message
        result.append(poller)
    return result


def control_of(
    site: Site, mesh: Mesh, device: str, source: Axpert, config: AxpertDevice
) -> "Control | None":
    """What puts settings into ``device``; None where its owner wants no such thing."""
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
        fresh_s=min(2 * config.settings_interval_s, 120.0),
    )


def capture() -> Capture:
    """What makes records of the answers that the running collector gets."""
    from .survey import overheard  # only where somebody asks for them

    return overheard


def decode(request: Mapping[str, Any]) -> dict[str, Any]:
    """``{"command": "QPIGS", "hex": "28..."}`` → ``{"values": {...}}``."""
    command, text = request.get("command"), request.get("hex")
    if not isinstance(command, str) or not isinstance(text, str):
        raise FrameError("shape", "give command and hex, both texts")
    return collector.values_of(codec.decode(command, collector.hex_bytes(text, "hex")))


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    """One answer on the command line."""
    parser.add_argument("--command", default="", metavar="QPIGS", help="what was asked")
    parser.add_argument("--hex", default="", metavar="28...", help="what came back")


def decode_request(options: argparse.Namespace) -> dict[str, Any]:
    """These arguments as :func:`decode` wants them."""
    return {"command": options.command, "hex": options.hex}


def port_arguments(parser: argparse.ArgumentParser) -> None:
    """How a device is reached, without a configuration file."""
    parser.add_argument("--port", required=True, help="/dev/serial/by-id/..., /dev/hidraw0")
    parser.add_argument("--baud", type=int, default=2400, help="default: 2400")
    parser.add_argument("--dialect", choices=["auto", "PI30", "PI18"], default="auto")


def device_of(options: argparse.Namespace) -> AxpertDevice:
    """The device that these arguments name; any port will do, it is asked once only."""
    return AxpertDevice(
        port=options.port, baud=options.baud, dialect=options.dialect, allow_unstable_port=True
    )


def probe(options: argparse.Namespace) -> object:
    """Who is on the port, and what each query answers."""
    from .survey import survey

    return survey(device_of(options))


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """Which device, and what its label says."""
    port_arguments(parser)
    collector.add_label_argument(parser)


def record(options: argparse.Namespace) -> collector.Records:
    """Every answer of the device, serial numbers blanked."""
    from .survey import record as answers

    return answers(device_of(options), options.model)


def emulate_arguments(parser: argparse.ArgumentParser) -> None:
    """Which device, and what goes wrong with it."""
    from sunmesh import emulation

    from .emulator import MODES

    habits = "; ".join(f"{name}: {what}" for name, what in MODES.items())
    parser.add_argument("--dialect", choices=DIALECTS, default="PI30MAX")
    parser.add_argument("--mode", default="", metavar="MODE[:SECONDS]", help=habits)
    emulation.add_arguments(parser, baud=2400, device="inverter")


def emulate(options: argparse.Namespace, stop: threading.Event) -> int:
    """Be an inverter until the event is set."""
    from sunmesh import emulation

    from .emulator import MODES, REVERT_S, Inverter

    mode, _, seconds = options.mode.partition(":")
    if mode and mode not in MODES:
        raise ConfigError(f"--mode {mode}: the modes are {', '.join(MODES)}")
    try:
        revert_s = float(seconds or REVERT_S)
    except ValueError as err:
        raise ConfigError(f"--mode {options.mode}: {seconds} are no seconds") from err
    inverter = Inverter(options.dialect, mode=mode, revert_s=revert_s)
    return emulation.serve(NAME, options, inverter, stop)


FAMILY = collector.Family(
    name=NAME,
    version=__version__,
    about="Reads Voltronic-built inverters (Axpert, PIP, MKS, King, MAX ...) and publishes them.",
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
