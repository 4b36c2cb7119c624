"""``collector-pl80``: wires the parts together for each of the five verbs."""

import argparse
import logging
import os
import threading
import time
from functools import partial
from typing import Any

from sunmesh import collector, service
from sunmesh.config import ZONES, Site
from sunmesh.mqtt import Mesh
from sunmesh.poll import Poller
from sunmesh.tap import Capture

from . import __version__, codec
from .config import Pl80Device
from .service import Pl80
from .transport import Link, port_of

log = logging.getLogger(__name__)

NAME = "collector-pl80"
MODELS = ("PL20", "PL40", "PL60", "PL80")
SYSTEMS_V = (12, 24, 32, 36, 48)
BAUDS = (300, 1200, 2400, 9600)


def pollers(site: Site, mesh: Mesh) -> list[Poller]:
    """A poller for each charge controller of the site."""
    _stand_in(site)
    result = []
    for device, config in site.devices_of("pl80", Pl80Device).items():
        link = Link(port_of(config, f"{NAME} for {device}"), config.baud)
        source = Pl80(config, link)
        poller = Poller(
            device,
            source,
            mesh,
            interval_s=config.poll_interval_s,
            settings_interval_s=config.settings_interval_s,
            tap=link.tap,
            capture=partial(capture, source),
        )
        link.counters.update(poller.counters)
        poller.counters = link.counters  # one set, for the health message
        result.append(poller)
    return result


def capture(source: Pl80) -> Capture:
    """What makes records of the answers that the running collector gets."""
    from .survey import overheard  # only where somebody asks for them

    return lambda sent, raw: overheard(sent, raw) | {"system_v": source.system_v}


def _stand_in(site: Site) -> None:
    """Give the process the site's time zone: a controller's clock shows the time on its wall."""
    zone = site.site.time_zone
    if zone != "UTC" and not (ZONES / zone).is_file():
        log.warning("this host has no file for %s: the controller's clock is taken for UTC", zone)
    os.environ["TZ"] = zone
    time.tzset()


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    """One exchange on the command line."""
    parser.add_argument("--tx", default="", metavar="14320...", help="what was asked, hex")
    parser.add_argument("--rx", default="", metavar="c889", help="what came back, hex")
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--system-v", type=int, choices=SYSTEMS_V)


def decode_request(options: argparse.Namespace) -> dict[str, Any]:
    """These arguments as :func:`collector_pl80.codec.decode` wants them."""
    return {
        "tx": list(collector.hex_bytes(options.tx, "tx")),
        "rx": list(collector.hex_bytes(options.rx, "rx")),
        "model": options.model,
        "system_v": options.system_v,
    }


def port_arguments(parser: argparse.ArgumentParser) -> None:
    """How a controller is reached, without a configuration file."""
    parser.add_argument("--port", required=True, help="/dev/serial/by-id/..., socket://HOST:PORT")
    parser.add_argument("--baud", type=int, choices=BAUDS, default=9600, help="default: 9600")


def device_of(options: argparse.Namespace) -> Pl80Device:
    """The device that these arguments name; any port will do, it is asked once only."""
    return Pl80Device(port=options.port, baud=options.baud, allow_unstable_port=True)


def probe(options: argparse.Namespace) -> object:
    """Who is on the port, and what it measures."""
    from .survey import survey

    return survey(device_of(options))


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """Which device, and what its label says."""
    port_arguments(parser)
    collector.add_label_argument(parser)


def record(options: argparse.Namespace) -> collector.Records:
    """Every answer of the controller."""
    from .survey import record as answers

    return answers(device_of(options), options.model)


def emulate_arguments(parser: argparse.ArgumentParser) -> None:
    """Which controller, and what goes wrong with it."""
    from sunmesh import emulation

    parser.add_argument("--model", choices=MODELS, default="PL80")
    parser.add_argument("--system-v", type=int, choices=SYSTEMS_V, default=24)
    emulation.add_arguments(parser, baud=9600, device="pl80")


def emulate(options: argparse.Namespace, stop: threading.Event) -> int:
    """Be a charge controller until the event is set."""
    from sunmesh import config, emulation

    from .emulator import BYTES, TURN_AROUND_S, Controller

    if options.config:
        _stand_in(config.load(options.config, NAME))
    pause_s = TURN_AROUND_S + 10 * BYTES / options.baud if options.baud else 0.0
    controller = Controller(options.model, options.system_v, turn_around_s=pause_s)
    return emulation.serve(NAME, options, controller, stop)


FAMILY = collector.Family(
    name=NAME,
    version=__version__,
    about="Reads Plasmatronics charge controllers (PL20 to PL80) and publishes them.",
    pollers=pollers,
    decode=codec.decode,
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
