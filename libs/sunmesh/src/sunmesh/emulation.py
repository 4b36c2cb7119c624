"""Emulators: a device behind a pseudo-terminal or a socket, at the pace of its line.

An emulator gives :class:`Device` its bytes and answers; this module keeps the pace (10 bits a
byte, both ways), injects faults, and lets it follow the simulated house.
"""

import contextlib
import errno
import json
import logging
import os
import random
import select
import socket
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import config
from .errors import ConfigError
from .mqtt import Mesh, Message

if TYPE_CHECKING:
    import argparse

log = logging.getLogger(__name__)

FAULTS = ("crc", "nak", "echo", "silent", "short", "noise")
"""What can go wrong with an answer."""

CALENDAR = {"silent": {"silent": 1.0}, "noisy_line": {"crc": 0.3}}
"""What the simulated house's faults on a line do to the answers of the device they name."""

SWAPPING_S = 15.0
"""Whoever exchanges two plugs (fault ``swapped``) has them in his hands for so long."""

HOUSE_S = 15.0
"""How long an emulator waits for the first word of the house."""

BITS_PER_BYTE = 10
SLICE_S = 0.004
"""Bytes that fall into one slice are written together: a byte at a time at 2400 baud."""


class Device(Protocol):
    """What answers. Holds its own receive buffer, for requests come in pieces."""

    def receive(self, data: bytes) -> list[bytes]:
        """Take some bytes of a request; return the complete frames to answer, perhaps none."""
        ...

    def nak(self) -> bytes | None:
        """How this device refuses; None when it has no word for that."""
        ...


class Emulator(Device, Protocol):
    """A device that can show the simulated house."""

    def follow(self, mesh: Mesh, device: str) -> None:
        """Show the house of ``mesh``, which the caller starts, as the device of that name."""
        ...


class Faults:
    """Spoils answers, each with the probability of its kind.

    Args:
        rates: kind → probability from 0 to 1.
        seed: makes a run repeatable.
    """

    def __init__(self, rates: dict[str, float] | None = None, seed: int = 1) -> None:
        """No faults by default."""
        self.rates = dict(rates or {})
        self._calendar: dict[str, float] = {}
        self._unplugged = False
        self._is_swapped = False
        self._plugged_at = 0.0
        self._random = random.Random(seed)

    @classmethod
    def parse(cls, texts: list[str], seed: int = 1) -> "Faults":
        """From ``kind`` or ``kind:rate`` as on the command line.

        Raises:
            ConfigError: an unknown kind or a rate outside 0 to 1.
        """
        rates = {}
        for text in texts:
            kind, _, rate = text.partition(":")
            if kind not in FAULTS:
                raise ConfigError(f"--fault {text}: the kinds are {', '.join(FAULTS)}")
            try:
                rates[kind] = float(rate) if rate else 1.0
            except ValueError:
                rates[kind] = -1.0
            if not 0 <= rates[kind] <= 1:
                raise ConfigError(f"--fault {text}: the rate must be 0 to 1")
        return cls(rates, seed)

    def follow(self, mesh: Mesh, device: str) -> None:
        """Do what the simulated house does to the line of ``device``: its calendar, its plug."""

        def calendar(message: Message) -> None:
            active = json.loads(message.payload).get("faults") or []
            rates: dict[str, float] = {}
            for kind, effect in CALENDAR.items():
                if f"{kind}:{device}" in active:
                    rates |= effect
            self._calendar = rates
            if (f"swapped:{device}" in active) != self._is_swapped:
                self._is_swapped = not self._is_swapped
                self._plugged_at = time.monotonic() + SWAPPING_S

        def plug(message: Message) -> None:
            self._unplugged = message.payload == b"out"

        mesh.subscribe(mesh.topics.sim("world"), calendar)
        mesh.subscribe(mesh.topics.sim(f"{device}/plug"), plug)

    def apply(self, request: bytes, frame: bytes, nak: bytes | None) -> bytes:
        """``frame`` as the line delivers it; perhaps empty."""
        if self._unplugged or time.monotonic() < self._plugged_at or self._hit("silent"):
            return b""
        if self._hit("echo"):
            return request
        if nak is not None and self._hit("nak"):
            return nak
        if self._hit("crc"):
            at = self._random.randrange(len(frame))
            frame = (
                frame[:at] + bytes([frame[at] ^ 1 << self._random.randrange(8)]) + frame[at + 1 :]
            )
        if self._hit("short"):
            frame = frame[: self._random.randrange(len(frame))]
        if self._hit("noise"):
            frame = self._random.randbytes(self._random.randint(1, 8)) + frame
        return frame

    def _hit(self, kind: str) -> bool:
        rate = max(self.rates.get(kind, 0.0), self._calendar.get(kind, 0.0))
        return rate > 0 and self._random.random() < rate


class Line:
    """What stands between a device and a file descriptor: the pace, the faults, the answers."""

    def __init__(self, device: Device, baud: int | None, faults: Faults | None) -> None:
        """``baud`` None = as fast as the machine goes."""
        self.device = device
        self.faults = faults or Faults()
        self.byte_s = BITS_PER_BYTE / baud if baud else 0.0
        self.bytes_in = 0
        self.bytes_out = 0

    def answer(self, data: bytes, write: Callable[[bytes], object], stop: threading.Event) -> None:
        """Give ``data``, just received, to the device and write what it answers."""
        start = time.monotonic()
        self.bytes_in += len(data)
        frames = self.device.receive(data)
        out = b"".join(self.faults.apply(data, frame, self.device.nak()) for frame in frames)
        self._send(out, start + len(data) * self.byte_s, write, stop)

    def _send(
        self, out: bytes, start: float, write: Callable[[bytes], object], stop: threading.Event
    ) -> None:
        """Write ``out`` so that its last byte is through when the line would have it through."""
        self.bytes_out += len(out)
        if not self.byte_s:
            if out:
                write(out)
            return
        step = max(1, int(SLICE_S / self.byte_s))
        for at in range(0, len(out), step):
            piece = out[at : at + step]
            due = start + (at + len(piece)) * self.byte_s
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            if stop.is_set():
                return
            write(piece)


def serve_pty(
    link: Path,
    device: Device,
    *,
    baud: int | None = None,
    faults: Faults | None = None,
    stop: threading.Event | None = None,
    ready: threading.Event | None = None,
) -> None:
    """Be ``device`` behind a pseudo-terminal until ``stop``.

    Args:
        link: a symbolic link to the terminal is made here, and removed at the end.
        device: what answers.
        baud: pace of the line; None = none.
        faults: what goes wrong on it.
        stop: ends it.
        ready: set once the link can be opened.

    Raises:
        ConfigError: ``link`` is something else than a link, or its folder is missing.
    """
    stop = stop or threading.Event()
    line = Line(device, baud, faults)
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, True)
    try:
        _make_link(link, os.ttyname(slave))
        if ready is not None:
            ready.set()
        while not stop.is_set():
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(master, 4096)
            except OSError as err:
                if err.errno == errno.EIO:  # nobody holds the other end
                    stop.wait(0.05)
                    continue
                raise
            line.answer(data, lambda piece: os.write(master, piece), stop)
    finally:
        with contextlib.suppress(OSError):
            if os.readlink(link) == os.ttyname(slave):  # noqa: PTH115
                link.unlink()
        os.close(slave)
        os.close(master)


def serve_tcp(
    host: str,
    port: int,
    device: Device,
    *,
    baud: int | None = None,
    faults: Faults | None = None,
    stop: threading.Event | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Be ``device`` behind a TCP socket until ``stop``; one client at a time, as a serial line.

    Args:
        host: address to listen on.
        port: 0 = any; ``ready`` is told which.
        device: what answers.
        baud: pace of the line; None = none.
        faults: what goes wrong on it.
        stop: ends it.
        ready: called with the port once it listens.
    """
    stop = stop or threading.Event()
    line = Line(device, baud, faults)
    with socket.create_server((host, port)) as server:
        server.settimeout(0.2)
        if ready is not None:
            ready(server.getsockname()[1])
        while not stop.is_set():
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            with client, contextlib.suppress(ConnectionError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _serve_client(client, line, stop)


def _serve_client(client: socket.socket, line: Line, stop: threading.Event) -> None:
    client.settimeout(0.2)
    while not stop.is_set():
        try:
            data = client.recv(4096)
        except TimeoutError:
            continue
        if not data:
            return
        line.answer(data, client.sendall, stop)


def _make_link(link: Path, target: str) -> None:
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise ConfigError(f"{link} exists and is no link; name another path with --pty")
    try:
        link.symlink_to(target)
    except OSError as err:
        raise ConfigError(f"{link} cannot be made ({err.strerror})") from err


def add_arguments(parser: "argparse.ArgumentParser", *, baud: int, device: str) -> None:
    """The options of ``emulate`` that every serial family has, with its baud rate and its name."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--pty", type=Path, metavar="PATH", help="link to make to a terminal")
    where.add_argument("--tcp", metavar="HOST:PORT", help="listen for port = socket://HOST:PORT")
    parser.add_argument("--baud", type=int, default=baud, help="pace of the line; 0 = none")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[:RATE]",
        help=f"{', '.join(FAULTS)}, for a part (0 to 1) of the answers",
    )
    parser.add_argument("--device", default=device, help="its name, for the simulated house")
    parser.add_argument(
        "--config",
        type=Path,
        default=os.environ.get("SUNMESH_CONFIG"),
        metavar="FILE",
        help="follow the simulated house of this site (default: SUNMESH_CONFIG, else none)",
    )


def serve(
    service: str, options: "argparse.Namespace", emulator: Emulator, stop: threading.Event
) -> int:
    """Be ``emulator`` as the options of :func:`add_arguments` say, until ``stop``.

    Raises:
        ConfigError: an option that makes no sense, or a configuration that cannot be read.
    """
    faults = Faults.parse(options.fault)
    mesh = None
    if options.config:
        site = config.load(options.config, service)
        mesh = Mesh(site.broker, site.topics, service, instance=f"emulator-{options.device}")
        emulator.follow(mesh, options.device)
        faults.follow(mesh, options.device)
        start(mesh, site)
    try:
        if options.pty:
            serve_pty(options.pty, emulator, baud=options.baud or None, faults=faults, stop=stop)
        else:
            host, _, port = options.tcp.rpartition(":")
            if not port.isdecimal():
                raise ConfigError(f"--tcp {options.tcp}: write HOST:PORT")
            serve_tcp(
                host, int(port), emulator, baud=options.baud or None, faults=faults, stop=stop
            )
    finally:
        if mesh is not None:
            mesh.stop()
    return 0


def start(mesh: Mesh, site: config.Site) -> None:
    """Start the client of an emulator, and wait for the house where the site has one.

    So nobody reads what is shown without a house, and stores it.
    """
    heard = threading.Event()
    mesh.subscribe(mesh.topics.sim("world"), lambda _: heard.set())
    mesh.start()
    if "simulator" in site.sections and not heard.wait(HOUSE_S):
        log.warning("no simulated house within %g s; going on without one", HOUSE_S)


class World:
    """The simulated house as it was told last; empty until then.

    The simulator publishes it under ``sim/world`` once a second, see ``services/simulator``. A
    value of one device only has that device's name in front: for the device ``shed``,
    ``shed.battery_voltage_v`` stands before ``battery_voltage_v``.
    """

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        """``values`` stand until the house speaks, or for ever without one."""
        self._values = dict(values or {})
        self._device = ""

    def follow(self, mesh: Mesh, device: str = "") -> None:
        """Listen to the house on ``mesh``, which the caller starts, as ``device`` of it."""
        self._device = device
        mesh.subscribe(mesh.topics.sim("world"), self._take)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - JSON
        """The world's value of that name; ``default`` where it has none."""
        value = self._values.get(name)
        return default if value is None else value

    def has_fault(self, kind: str) -> bool:
        """Whether the house's calendar has ``kind`` for this device now."""
        return f"{kind}:{self._device}" in self._values.get("faults", ())

    def snapshot(self) -> dict[str, Any]:
        """All of it."""
        return dict(self._values)

    def _take(self, message: Message) -> None:
        values = json.loads(message.payload)
        if isinstance(values, dict):
            own = f"{self._device}."
            mine = {k.removeprefix(own): v for k, v in values.items() if k.startswith(own)}
            self._values = {**self._values, **values, **mine}
