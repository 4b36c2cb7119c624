"""``collector-pvs6``: wires the parts together for each of the five verbs."""

import argparse
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from sunmesh import clock, collector, service
from sunmesh.config import Site
from sunmesh.errors import ConfigError, FrameError
from sunmesh.mqtt import Mesh
from sunmesh.poll import Poller
from sunmesh.tap import Capture

from . import __version__, codec, reply
from .archive import Archive
from .config import Pvs6Device
from .memory import Memory
from .service import FAMILY as FAMILY_NAME
from .service import Pvs6
from .transport import Link

NAME = "collector-pvs6"
BACK_OFF_S = 1800.0
"""A sick gateway is left alone for half an hour at most."""

ALARM_AFTER_S = 900.0
MEMBER_ALARM_AFTER_S = 3600.0
"""A shadow passes within an hour."""


def pollers(site: Site, mesh: Mesh) -> list[Poller]:
    """A poller for each gateway of the site."""
    result = []
    folder = site.path.parent
    devices = site.devices_of(FAMILY_NAME, Pvs6Device)
    _check_apart(site, devices)
    for device, config in devices.items():
        memory = Memory.load(folder / config.state_file.replace("{device}", device))
        link = Link(config, memory.fingerprint)
        archive = folder / config.archive if config.archive else None
        source = Pvs6(
            device,
            config,
            link,
            memory,
            Archive(archive, device, config.archive_limit_mb),
            frozenset(site.devices),
        )
        poller = Poller(
            device,
            source,
            mesh,
            interval_s=config.poll_interval_s,
            back_off_limit_s=max(BACK_OFF_S, config.night_interval_s)
            if not config.allow_fast_polling
            else config.night_interval_s,
            alarm_after_s=ALARM_AFTER_S,
            member_alarm_after_s=MEMBER_ALARM_AFTER_S,
            tap=link.tap,
            capture=capture,
        )
        link.counters.update(poller.counters)
        poller.counters = link.counters  # one set, for the health message
        result.append(poller)
    return result


def capture() -> Capture:
    """What makes records of the answers that the running collector gets."""
    from .survey import Blanks, overheard  # only where somebody asks for them

    return partial(overheard, Blanks())


def _check_apart(site: Site, devices: Mapping[str, Pvs6Device]) -> None:
    """Two tables of one gateway would ask it twice at once; two devices need two names."""
    hosts: dict[str, str] = {}
    names = dict.fromkeys(site.devices, "a table of its own")
    for device, config in devices.items():
        where = f"{config.host}:{config.https_port}"
        if where in hosts:
            raise ConfigError(
                f"{site.path}: devices.{device}.host: must not be that of {hosts[where]}, too"
            )
        hosts[where] = device
        for serial, name in config.names.items():
            if name in names:
                raise ConfigError(
                    f"{site.path}: devices.{device}.names.{serial}: {name} is {names[name]}"
                )
            names[name] = f"the name of {serial}"


def decode(request: Mapping[str, Any]) -> dict[str, Any]:
    """``{"status": 200, "body": {...}}`` → ``{"devices": {serial: {"ts", "values", "quality"}}}``.

    ``text`` in the place of ``body`` is an answer as it came.
    """
    status = request.get("status", 200)
    if not isinstance(status, int) or "body" not in request and "text" not in request:
        raise FrameError("shape", "give status, a number, and body or text")
    if "body" in request and status == 200:
        told = request["body"]
        body = reply.parse(status, told) if isinstance(told, str) else reply.checked(told)
    else:
        text = request.get("text")
        body = reply.parse(status, str(text) if text is not None else "")
    snapshot = codec.read(body, partial=True)
    return {
        "devices": {
            serial: {
                "ts": clock.iso(each.ts) if each.ts else None,
                "values": _shown_identity(each) | each.values,
                "quality": each.quality,
            }
            for serial, each in snapshot.devices.items()
        }
    }


def _shown_identity(each: codec.Device) -> codec.Values:
    """Who the gateway is; of the others it stands in ``info``, not among the values."""
    if each.kind != codec.GATEWAY:
        return {}
    return {name: value for name, value in each.identity.items() if value is not None}


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    """One answer on the command line."""
    parser.add_argument("--status", type=int, default=200, help="of HTTP (default: 200)")
    parser.add_argument("--body", default="", metavar="JSON", help="what came back")


def decode_request(options: argparse.Namespace) -> dict[str, Any]:
    """These arguments as :func:`decode` wants them."""
    return {"status": options.status, "text": options.body}


def host_arguments(parser: argparse.ArgumentParser) -> None:
    """How a gateway is reached, without a configuration file."""
    parser.add_argument("--port", "--host", dest="host", required=True, help="name or address")
    parser.add_argument("--https-port", type=int, default=443)
    parser.add_argument("--http-port", type=int, default=80)
    parser.add_argument("--protocol", choices=["auto", "localapi", "dl_cgi"], default="auto")
    parser.add_argument("--fingerprint", help="SHA-256 that its certificate must have")


def device_of(options: argparse.Namespace) -> Pvs6Device:
    """The gateway that these arguments name."""
    try:
        return Pvs6Device(
            host=options.host,
            https_port=options.https_port,
            http_port=options.http_port,
            protocol=options.protocol,
            fingerprint=options.fingerprint,
        )
    except ValueError as err:
        raise ConfigError(str(err)) from err


def probe(options: argparse.Namespace) -> object:
    """Who is there, and what it says of each device."""
    from .survey import survey

    return survey(device_of(options))


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """Which device, and what its label says."""
    host_arguments(parser)
    collector.add_label_argument(parser)


def record(options: argparse.Namespace) -> collector.Records:
    """Every answer of one round, without secrets and serial numbers."""
    from .survey import record as answers

    return answers(device_of(options), options.model)


def emulate_arguments(parser: argparse.ArgumentParser) -> None:
    """Which gateway, and what goes wrong with it."""
    from .server import add_arguments

    add_arguments(parser)


def emulate(options: argparse.Namespace, stop: threading.Event) -> int:
    """Be a gateway until the event is set."""
    from .server import serve

    return serve(NAME, options, stop)


FAMILY = collector.Family(
    name=NAME,
    version=__version__,
    about="Reads SunPower PVS5 and PVS6 gateways and publishes them and what is behind them.",
    pollers=pollers,
    decode=decode,
    decode_arguments=decode_arguments,
    decode_request=decode_request,
    probe_arguments=host_arguments,
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
