"""``collector-meter``: wires the parts together for each of the five verbs."""

import argparse
import os
import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sunmesh import collector, service
from sunmesh.config import BrokerSection, Site
from sunmesh.errors import ConfigError, FrameError
from sunmesh.mqtt import Mesh
from sunmesh.poll import Poller
from sunmesh.tap import Capture

from . import __version__, codec, frames, tables
from .config import MeterDevice
from .service import Meter
from .tables import READ_HOLDING
from .transport import Bus, Link, bus_of

if TYPE_CHECKING:
    from .mbmd import Mqtt, Rest

NAME = "collector-meter"
ONE_LINE = ("baud", "parity", "stopbits", "timeout_s", "request_gap_s", "address_gap_s")
"""Settings that all meters of one port share."""


def pollers(site: Site, mesh: Mesh) -> list[Poller]:
    """A poller for each meter of the site; those of one port share its bus."""
    devices = site.devices_of("meter", MeterDevice)
    _check_buses(site, devices)
    buses: dict[str, Bus] = {}
    result = []
    for device, config in devices.items():
        source: Meter | Rest | Mqtt
        tap = None
        if config.source == "modbus":
            line = _line_of(config)
            if line not in buses:
                buses[line] = bus_of(config, f"{NAME} for {device}")
            link = Link(buses[line], config.address)
            source, tap = Meter(config, link), link.tap
        else:
            source = _mbmd(site, mesh, device, config)
        poller = Poller(
            device,
            source,
            mesh,
            interval_s=config.poll_interval_s,
            settings_interval_s=config.settings_interval_s,
            tap=tap,
            capture=partial(capture, config),
        )
        source.counters.update(poller.counters)
        poller.counters = source.counters  # one set, for the health message
        result.append(poller)
    return result


def capture(config: MeterDevice) -> Capture:
    """What makes records of the answers that the running collector gets."""
    from .survey import overheard  # only where somebody asks for them

    return partial(overheard, config)


def _line_of(config: MeterDevice) -> str:
    """What tells one line from another: the port under its real name."""
    port = config.port or ""
    return port if "://" in port else os.path.realpath(port)


def _check_buses(site: Site, devices: Mapping[str, MeterDevice]) -> None:
    """Whether the meters of one port agree about it.

    Raises:
        ConfigError: they do not, or two have one address.
    """
    first: dict[str, tuple[str, MeterDevice]] = {}
    taken: dict[tuple[str, int], str] = {}
    for device, config in devices.items():
        if config.source != "modbus":
            continue
        where = f"{site.path}: devices.{device}"
        line = _line_of(config)
        other, theirs = first.setdefault(line, (device, config))
        for name in ONE_LINE:
            ours, expected = getattr(config, name), getattr(theirs, name)
            if ours != expected:
                raise ConfigError(
                    f"{where}.{name}: must be {expected}, as devices.{other} has it on the same "
                    f"port, got {ours}"
                )
        holder = taken.setdefault((line, config.address), device)
        if holder != device:
            raise ConfigError(
                f"{where}.address: {config.address} on this port is devices.{holder} already"
            )


def _mbmd(site: Site, mesh: Mesh, device: str, config: MeterDevice) -> "Rest | Mqtt":
    """The source for a meter that mbmd reads."""
    from . import mbmd  # not loaded while nobody wants it

    if config.source == "mbmd_rest":
        return mbmd.Rest(config)
    if config.url is None:  # mbmd publishes to the house's own broker
        return mbmd.Mqtt(config, mesh)
    broker = _broker_of(site, device, config)
    own = Mesh(broker, mesh.topics, NAME, instance=f"mbmd-{device}")
    return mbmd.Mqtt(config, own, connect=True)


def _broker_of(site: Site, device: str, config: MeterDevice) -> BrokerSection:
    from urllib.parse import urlsplit

    url = urlsplit(config.url or "")
    password = None
    if config.password_file is not None:
        file = site.path.parent / config.password_file
        try:
            password = file.read_text(encoding="utf-8").strip()
        except OSError as err:
            raise ConfigError(
                f"{site.path}: devices.{device}.password_file: {file} cannot be read "
                f"({err.strerror})"
            ) from err
    return BrokerSection(
        host=url.hostname or "",
        port=url.port or 1883,
        protocol="3.1.1",
        user=config.user,
        password=password,
    )


def decode(request: Mapping[str, Any]) -> dict[str, Any]:
    """``{"model", "request", "reply"}`` or ``{"model", "registers"}`` → ``{"values": {...}}``.

    ``role`` and ``invert`` are as in the configuration. A read of holding registers has no
    measurements; what it brings stands under ``holding``, and so does what a write wrote.
    """
    model = tables.MODELS.get(request.get("model") or "SDM230")
    if model is None:
        raise FrameError("shape", f"model is one of {', '.join(tables.MODELS)}")
    role, invert = request.get("role", "grid"), request.get("invert", False)
    if role not in ("grid", "pv", "load") or not isinstance(invert, bool):
        raise FrameError("shape", "role is grid, pv or load; invert is true or false")
    holding: dict[str, float] = {}
    if "registers" in request:
        registers = _registers(request["registers"])
    else:
        asked = collector.hex_bytes(request.get("request", ""), "request")
        reply = collector.hex_bytes(request.get("reply", ""), "reply")
        rtu = frames.Rtu()
        is_write = asked[1:2] == b"\x10"
        words = rtu.written(asked, reply) if is_write else rtu.registers(asked, reply)
        start = int.from_bytes(asked[2:4], "big")
        registers = {}
        if is_write or asked[1] == READ_HOLDING:
            holding = codec.holding(start, words)
        else:
            registers = codec.numbered(start, words)
    values = codec.as_role(codec.decode(model, registers), role, invert=invert)
    return collector.values_of(values) | ({"holding": holding} if holding else {})


def _registers(given: object) -> dict[int, int]:
    """``{"0x0000": [17260, 32366]}`` by address.

    Raises:
        FrameError: ``shape``.
    """
    result: dict[int, int] = {}
    if not isinstance(given, dict):
        raise FrameError("shape", "registers is an object: address → [high, low]")
    for key, words in given.items():
        try:
            address = int(key, 16)
        except ValueError as err:
            raise FrameError("shape", f"{key!r} is no address such as 0x0046") from err
        if not isinstance(words, list) or not words:
            raise FrameError("shape", f"{key}: is a list of registers")
        if not all(type(word) is int and 0 <= word <= 0xFFFF for word in words):
            raise FrameError("shape", f"{key}: a register is 0 to 65535")
        result |= codec.numbered(address, words)
    if not result:
        raise FrameError("empty", "no register")
    return result


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    """One answer on the command line."""
    parser.add_argument("--model", choices=list(tables.MODELS), default="SDM230")
    parser.add_argument("--request", default="", metavar="0104...", help="what was asked")
    parser.add_argument("--reply", default="", metavar="0104...", help="what came back")


def decode_request(options: argparse.Namespace) -> dict[str, Any]:
    """These arguments as :func:`decode` wants them."""
    return {"model": options.model, "request": options.request, "reply": options.reply}


def port_arguments(parser: argparse.ArgumentParser) -> None:
    """How a bus is reached, without a configuration file."""
    parser.add_argument("--port", required=True, help="/dev/serial/by-id/..., tcp://HOST:502")
    parser.add_argument("--baud", type=int, default=9600, help="default: 9600")
    parser.add_argument("--parity", choices=["N", "E", "O"], default="N")


def _device_of(options: argparse.Namespace, model: str = "SDM230", address: int = 1) -> MeterDevice:
    """The meter that these arguments name; any port will do, it is asked once only."""
    try:
        return MeterDevice(
            model=model,  # type: ignore[arg-type]
            port=options.port,
            address=address,
            baud=options.baud,
            parity=options.parity,
            allow_unstable_port=True,
        )
    except ValueError as err:
        raise ConfigError(f"--{err}") from err


def probe_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    port_arguments(parser)
    parser.add_argument("--address", type=int, action="append", help="default: 1 to 5")
    parser.add_argument(
        "--scan", action="store_true", help="ask 1 to 247, and try 9600 and 2400, N and E"
    )


def probe(options: argparse.Namespace) -> object:
    """Which meters answer on the port."""
    from .survey import scan

    addresses = options.address or range(1, 248 if options.scan else 6)
    return scan(_device_of(options), addresses, lines=options.scan)


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """Which meter."""
    port_arguments(parser)
    parser.add_argument("--address", type=int, default=1)
    parser.add_argument("--model", choices=list(tables.MODELS), default="SDM230")


def record(options: argparse.Namespace) -> collector.Records:
    """Every answer of the meter, serial number blanked."""
    from .survey import record as answers

    return answers(_device_of(options, options.model, options.address))


def emulate_arguments(parser: argparse.ArgumentParser) -> None:
    """Which meters, and what goes wrong with them."""
    from sunmesh import emulation

    parser.add_argument(
        "--meter",
        action="append",
        metavar="MODEL[@ADDRESS[:ROLE]]",
        help="SDM120, SDM230 or SDM630; grid, pv or load; several share the line "
        "(default: SDM230@1:grid)",
    )
    parser.add_argument(
        "--framing", choices=["rtu", "tcp"], help="default: rtu with --pty, tcp with --tcp"
    )
    emulation.add_arguments(parser, baud=9600, device="meter")


def emulate(options: argparse.Namespace, stop: threading.Event) -> int:
    """Be a bus of meters until the event is set."""
    from sunmesh import emulation

    from .emulator import LINES, parse

    framing = options.framing or ("rtu" if options.pty else "tcp")
    bus = LINES[framing](parse(options.meter or ["SDM230"], emulation.World()))
    return emulation.serve(NAME, options, bus, stop)


FAMILY = collector.Family(
    name=NAME,
    version=__version__,
    about="Reads Eastron SDM meters over Modbus, or from mbmd, and publishes them.",
    pollers=pollers,
    decode=decode,
    decode_arguments=decode_arguments,
    decode_request=decode_request,
    probe_arguments=probe_arguments,
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
