"""``simulator demo``: the whole mesh on one machine, with this house behind it.

Writes a site into a folder of its own, checks what may be in the way, fills the database with
history once, starts the broker and every service under honcho, and says where the page is as soon
as it shows a live value. Ctrl-C, SIGTERM or a closed terminal stop all of it.
"""

import argparse
import contextlib
import errno
import fcntl
import importlib.util
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from sunmesh import config
from sunmesh.errors import ConfigError, MessageError, SunmeshError
from sunmesh.messages import Command, Sample, decode, encode
from sunmesh.mqtt import Mesh, Message

from . import contract
from .config import LATITUDE, LONGITUDE, TIME_ZONE
from .devices import member
from .world import STATE_VERSION

log = logging.getLogger(__name__)

DEVICE = "inverter"
"""The device whose first live value means that the house lives."""
GATEWAY_PORTS = range(18831, 18931)
"""One of them is the emulated gateway's."""
PATIENCE_S = 45.0
"""A page that shows nothing live after that long is said to be late."""
BACKLOG = 1000
"""Five-minute stretches that nobody talks about: they are summed up in seconds."""
TELL_S = 15.0
"""Between two lines about a longer backlog [s]."""
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where brokers are installed, though not on everybody's PATH."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A process that plays devices. ``{folder}`` and ``{gateway}`` in the texts are the plan's.

    Attributes:
        name: of the process.
        family: whose ``collector-<family> emulate`` it is.
        options: of that.
        ready: is there when it can be asked; in the demo's folder.
        tables: of the devices that it plays, by name: ``[devices.NAME]`` without ``family``.
    """

    name: str
    family: str
    options: tuple[str, ...]
    ready: str
    tables: Mapping[str, str]

    @property
    def collector(self) -> str:
        """The service that reads these devices, and plays them."""
        return f"collector-{self.family}"


def _on_a_line(name: str, family: str, table: str, *options: str) -> Emulator:
    """A device of its own on a pseudo-terminal."""
    pty = f"{name}.pty"
    return Emulator(
        name,
        family,
        ("--pty", f"{{folder}}/{pty}", "--device", name, *options),
        pty,
        {name: f'port = "{{folder}}/{pty}"\n{table}'},
    )


MICROINVERTERS = tuple(f"E0012185{index:07d}" for index in range(1014, 1572, 31))
"""Serial numbers of the emulated gateway's 18 microinverters."""
ROOF_NAMES = ", ".join(
    f'{serial} = "{member("roof", number)}"' for number, serial in enumerate(MICROINVERTERS, 1)
)
ATTIC, BATTERY_ROOM = "28-00000a771c01", "28-0000ba77e201"
GATEWAY_METERS = ("PVS6M20440321p", "PVS6M20440321c")
"""The gateway's own meters: what they say is the gateway's, and not told twice."""

EMULATORS = (
    _on_a_line(
        DEVICE,
        "axpert",
        'transport = "serial"\ndialect = "PI30"\nserial = "92932105105335"\n'
        'poll_interval_s = 2.0\ncontrol = true\nallow = ["bulk_voltage_v", "float_voltage_v"]\n',
        *("--dialect", "PI30MAX"),
    ),
    _on_a_line(
        "battery", "bms", 'protocol = "a5"\nserial = "SUNMESH-01"\nbalance_order = "byte"\n'
    ),
    _on_a_line("meter", "meter", 'model = "SDM230"\n', *("--meter", "SDM230@1:grid")),
    _on_a_line("shed", "pl80", "", *("--model", "PL20", "--system-v", "24")),
    Emulator(
        "roof",
        "pvs6",
        (
            *("--http", "127.0.0.1:{gateway}", "--firmware", "legacy", "--refresh-s", "5"),
            *("--device", "roof"),
        ),
        "",
        {
            "roof": f"""host = "127.0.0.1"
http_port = {{gateway}}
protocol = "dl_cgi"
poll_interval_s = 15.0
night_interval_s = 15.0
allow_fast_polling = true    # it is an emulator; a real gateway is asked every 300 s
stale_after_s = 60.0
archive = ""
ignore = {json.dumps(GATEWAY_METERS)}
names = {{ {ROOF_NAMES} }}
"""
        },
    ),
    Emulator(
        "sensors",
        "temperature",
        (
            *("--root", "{folder}/w1"),
            *("--sensor", f"{ATTIC}:attic_temperature_c:attic"),
            *("--sensor", f"{BATTERY_ROOM}:room_temperature_c:battery-room"),
        ),
        f"w1/{BATTERY_ROOM}/w1_slave",
        {
            "attic": f'root = "{{folder}}/w1"\nrom = "{ATTIC}"\n',
            "battery-room": f'root = "{{folder}}/w1"\nrom = "{BATTERY_ROOM}"\n',
        },
    ),
)
"""Who plays which devices of the house."""

COLLECTORS = tuple(dict.fromkeys(emulator.collector for emulator in EMULATORS))
SERVICES = (
    *(*COLLECTORS, "bookkeeper", "controller", "grid-relay"),
    *("notifier", "recorder", "simulator", "watch", "web"),
)
"""What runs beside broker and emulators, and as which users of the broker."""


PHONE = "phone"
"""The process that plays the providers of notifications, and shows what arrives."""
RELAY = "grid-relay"
"""The device and the service that stand between the inverter and the grid."""
RELAY_FILE = "relay"
"""What it writes and the house reads: 1 = the inverter is cut off the grid."""
STORM_SPEED = 30.0
"""An hour of the storm in two minutes."""
STORM_START = "2026-06-12T05:00:00Z"
"""Seven in the morning, on a clear day of the usual house."""
STORM = """
[[simulator.faults]]
kind = "storm"
start_s = 9000.0
duration_s = 18000.0
"""
"""From half past nine until half past two, with a battery that lasts for a morning."""
STORM_BATTERY_AH = 60.0


class DemoError(Exception):
    """Something is in the way of the demo; one line says what, and which option changes it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo will do.

    Attributes:
        folder: everything it writes is in there.
        host: where the portal listens.
        port: of the portal.
        broker_port: of the broker, on the loopback.
        embedded: amqtt instead of Mosquitto.
        seed: of the house.
        speed: simulated seconds a second.
        days: of history; 0 = none.
        calendar: ``[[simulator.faults]]`` instead of the usual ones; empty = the usual ones.
        start: ISO time at which the house's clock begins; empty = now.
        world_log: where the simulator writes what it publishes; None = nowhere.
        gateway_port: of the emulated gateway, on the loopback.
        phone_port: of the page that shows the phone's view, on the loopback.
        place: latitude and longitude of the house [deg].
        time_zone: in which its people live.
        control: the rules' mode: off, shadow or on; empty = on in a new house, else as it was.
        storm: a day of another calendar: a storm empties a small battery.
        empty: no device is configured: the portal's Setup finds them.
    """

    folder: Path
    host: str
    port: int
    broker_port: int
    embedded: bool
    seed: int
    speed: float
    days: float
    calendar: str = ""
    start: str = ""
    world_log: Path | None = None
    gateway_port: int = GATEWAY_PORTS.start
    phone_port: int = GATEWAY_PORTS.start + 1
    place: tuple[float, float] = (LATITUDE, LONGITUDE)
    time_zone: str = TIME_ZONE
    control: str = ""
    storm: bool = False
    empty: bool = False

    @property
    def house(self) -> dict[str, Any]:
        """What makes another house of it: its history does not fit any more."""
        where = [*self.place, self.time_zone]
        return {"house": STATE_VERSION, "seed": self.seed, "place": where}

    def fill_in(self, text: str) -> str:
        """``text`` with this plan's folder and port."""
        return text.replace("{folder}", str(self.folder)).replace(
            "{gateway}", str(self.gateway_port)
        )

    @property
    def site(self) -> Path:
        """The configuration that all services read."""
        return self.folder / "site.toml"

    @property
    def marker(self) -> Path:
        """Says which house this folder holds, once its history is in the database."""
        return self.folder / "history.json"

    @property
    def log(self) -> Path:
        """What the services say."""
        return self.folder / "demo.log"

    @property
    def phone(self) -> str:
        """The phone's view, as a browser wants it."""
        return f"http://127.0.0.1:{self.phone_port}/"

    @property
    def address(self) -> str:
        """The portal, as a browser wants it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def main(arguments: argparse.Namespace) -> int:
    """Run the demo; returns the exit status."""
    _interruptible()
    logging.getLogger("sunmesh").setLevel(logging.ERROR)  # the services say it in the log file
    try:
        plan = plan_of(arguments)
        plan.folder.mkdir(parents=True, exist_ok=True)
        with _alone(plan.folder):
            check(plan)
            if arguments.fresh:
                forget(plan)
            write(plan)
            fill(plan)
            return run(plan)
    except DemoError as err:
        say(str(err), sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130


def say(text: str, stream: TextIO | None = None) -> None:
    """One line for the person in front of the terminal."""
    print(text, file=stream or sys.stdout, flush=True)  # noqa: T201 - what a demo is for


# --- Before -------------------------------------------------------------------------------------


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the options and this machine give.

    Raises:
        DemoError: an option makes no sense here.
    """
    if arguments.empty:
        arguments.days, arguments.fresh = 0.0, True
    if arguments.storm:
        arguments.speed, arguments.start, arguments.days = STORM_SPEED, STORM_START, 0.0
        arguments.fresh = True
    for name in ("port", "broker_port"):
        if not 0 < getattr(arguments, name) < 65536:
            raise DemoError(f"--{name.replace('_', '-')} must be 1 to 65535")
    if arguments.days < 0.0 or arguments.speed <= 0.0:
        raise DemoError("--days must not be below 0, and --speed above it")
    if arguments.start and arguments.days > 0.0:
        raise DemoError("a house that begins at another time has no history: add --days 0")
    gateway_port = _free(arguments.port, {arguments.port, arguments.broker_port})
    return Plan(
        folder=arguments.dir.resolve(),
        host=arguments.host,
        port=arguments.port,
        broker_port=arguments.broker_port,
        embedded=_is_embedded(arguments.broker),
        seed=arguments.seed,
        speed=arguments.speed,
        days=arguments.days,
        calendar=STORM if arguments.storm else _calendar(arguments.calendar),
        start=arguments.start or "",
        world_log=arguments.log_world.resolve() if arguments.log_world else None,
        gateway_port=gateway_port,
        phone_port=_free(arguments.port, {arguments.port, arguments.broker_port, gateway_port}),
        place=(arguments.latitude, arguments.longitude),
        time_zone=arguments.time_zone,
        control=arguments.control,
        storm=arguments.storm,
        empty=arguments.empty,
    )


def _free(portal: int, taken: set[int]) -> int:
    """A port for the emulated gateway or the phone, which nobody else needs to know.

    Two demos that begin at once look for it from different places on: it is opened a minute later.

    Raises:
        DemoError: none is left.
    """
    ports = list(GATEWAY_PORTS)
    first = portal * 2 % len(ports)
    for port in ports[first:] + ports[:first]:
        if port not in taken and not in_the_way("127.0.0.1", port):
            return port
    raise DemoError(f"no port from {ports[0]} to {ports[-1]} is free for what is emulated")


def _calendar(path: Path | None) -> str:
    """The text of a calendar's file.

    Raises:
        DemoError: it cannot be read, or holds something else.
    """
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, ValueError) as err:
        raise DemoError(f"--calendar {path} cannot be read: {err}") from err
    if tables.keys() != {"simulator"} or tables["simulator"].keys() != {"faults"}:
        raise DemoError(f"--calendar {path}: write [[simulator.faults]] tables and nothing else")
    return text


def _is_embedded(wish: str) -> bool:
    mosquitto = program("mosquitto") and program("mosquitto_passwd")
    if wish == "mosquitto" and not mosquitto:
        raise DemoError(
            "mosquitto is not installed (Debian: apt-get install mosquitto); "
            "--broker embedded does without"
        )
    if wish == "mosquitto" or (wish == "auto" and mosquitto):
        return False
    if importlib.util.find_spec("amqtt") is None:
        raise DemoError("neither mosquitto nor amqtt is installed; make install brings amqtt")
    return True


def program(name: str) -> str | None:
    """Where a program of this environment, or of the system, is; None = nowhere."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join([*folders, *SYSTEM_FOLDERS]))


def check(plan: Plan) -> None:
    """See that nothing is in the way.

    Raises:
        DemoError: a service is not installed, a port is in use, the folder holds another house.
    """
    for name in SERVICES:
        if program(name) is None:
            raise DemoError(f"{name} is not installed here; make install brings it")
    if importlib.util.find_spec("honcho") is None:
        raise DemoError("honcho is not installed here; make install brings it")
    for host, port, option in (
        (plan.host, plan.port, "--port"),
        ("127.0.0.1", plan.broker_port, "--broker-port"),
    ):
        reason = in_the_way(host, port)
        if reason:
            raise DemoError(
                f"port {port} on {host} {reason}; choose another with {option} "
                f'(make demo DEMO="{option} {port + 1}")'
            )


def in_the_way(host: str, port: int) -> str:
    """Why nothing can listen there; empty when it can."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as err:
        return f"cannot be used ({err.strerror or err})"
    with socket.socket(family, kind) as probe:
        # As the servers do: a port that is only waiting for its last packets is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as err:
            if err.errno == errno.EADDRINUSE:
                return "is in use"
            return f"cannot be used ({err.strerror})"
    return ""


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder; two demos in one would share a database and a terminal.

    Raises:
        DemoError: another demo holds it.
    """
    with (folder / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise DemoError(
                f"a demo (process {lock.read().strip() or 'unknown'}) runs in {folder}; "
                "stop it, or choose another folder with --dir"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        os.set_inheritable(lock.fileno(), False)
        yield


def forget(plan: Plan) -> None:
    """Remove what earlier runs left in the folder, and nothing else."""
    for pattern in (
        "sunmesh.db*",
        "house.json*",
        "history.json",
        "demo.log",
        "*.pty",
        "*.state.json",
        "setup.json",
        "site.toml.*",
        RELAY_FILE,
    ):
        for path in plan.folder.glob(pattern):
            path.unlink()
    for name in ("broker", "secrets", "spool", "state", "w1"):
        shutil.rmtree(plan.folder / name, ignore_errors=True)


# --- What is written ----------------------------------------------------------------------------


def write(plan: Plan) -> None:
    """Write the site, passwords and the broker's configuration into the folder."""
    folder = plan.folder
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    (folder / "broker").mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(folder / "w1", ignore_errors=True)  # sensors that a crash left behind
    passwords = {}
    for user in SERVICES:
        path = folder / "secrets" / user
        if not path.exists():
            _write_private(path, secrets.token_urlsafe(24) + "\n")
        passwords[user] = path.read_text(encoding="ascii").strip()
    _write_private(folder / "secrets" / "push-token", "demo\n")
    plan.site.write_text(site_toml(plan), encoding="utf-8")
    if plan.embedded:
        _write_private(folder / "broker" / "passwords", _argon2(passwords))
        conf = folder / "broker" / "amqtt.yaml"
        conf.write_text(json.dumps(amqtt_config(plan), indent=1) + "\n", encoding="utf-8")
        return
    hashes = folder / "broker" / "passwords"
    hashes.unlink(missing_ok=True)
    _write_private(hashes, "".join(f"{user}:{word}\n" for user, word in passwords.items()))
    # Hashed in the file: a password on a command line can be seen by every process.
    subprocess.run([str(program("mosquitto_passwd")), "-U", str(hashes)], check=True)
    hashes.chmod(0o600)
    (folder / "broker" / "mosquitto.conf").write_text(mosquitto_conf(plan), encoding="utf-8")


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first byte on."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)


def _argon2(passwords: dict[str, str]) -> str:
    """Lines ``user:hash`` for amqtt. The words are random: a cheap hash is as good, and quick."""
    from pwdlib.hashers.argon2 import Argon2Hasher

    hasher = Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1)
    return "".join(f"{user}:{hasher.hash(word)}\n" for user, word in passwords.items())


def empty_toml(plan: Plan) -> str:
    """A site without a device, as somebody begins; Setup is told where the emulated ones are."""
    protocol = "3.1.1" if plan.embedded else "5"
    return f"""# Written by `simulator demo --empty`; the portal's Setup goes on from here.
[site]
name = "home"

[broker]
host = "127.0.0.1"
port = {plan.broker_port}
protocol = "{protocol}"
password_file = "secrets/{{service}}"

[database]
url = {json.dumps(f"sqlite:///{plan.folder / 'sunmesh.db'}")}

[web]
host = {json.dumps(plan.host)}
port = {plan.port}
setup_ports = [{json.dumps(str(plan.folder / "*.pty"))}]
setup_gateways = ["127.0.0.1:{plan.gateway_port}"]
setup_sensors = [{json.dumps(str(plan.folder / "w1"))}]

[simulator]
seed = {plan.seed}
state_file = "house.json"
"""


def site_toml(plan: Plan) -> str:
    """The demo's ``site.toml``."""
    if plan.empty:
        return empty_toml(plan)
    protocol = "3.1.1" if plan.embedded else "5"
    calendar = f"default_faults = false\n\n{plan.calendar}" if plan.calendar else ""
    battery = f"battery_capacity_ah = {STORM_BATTERY_AH}\n" if plan.storm else ""
    minute_s = max(60.0 / plan.speed, 1.0)
    devices = "".join(
        f"\n[devices.{name}]\nfamily = {json.dumps(emulator.family)}\n{plan.fill_in(table)}"
        for emulator in EMULATORS
        for name, table in emulator.tables.items()
    )
    return f"""# Written by `simulator demo` at each start; site.example.toml is the one to copy.
[site]
name = "home"
time_zone = {json.dumps(plan.time_zone)}
latitude = {plan.place[0]}
longitude = {plan.place[1]}

[broker]
host = "127.0.0.1"
port = {plan.broker_port}
protocol = "{protocol}"
password_file = "secrets/{{service}}"

[database]
url = {json.dumps(f"sqlite:///{plan.folder / 'sunmesh.db'}")}

[web]
host = {json.dumps(plan.host)}
port = {plan.port}

[simulator]
seed = {plan.seed}
state_file = "house.json"
relay_file = "{RELAY_FILE}"
{battery}{calendar}{contract.BATTERY}
[notifier]
portal = {json.dumps(plan.address)}
sign_of_life = ""

[notifier.targets.phone]
by = "pushover"
token_file = "secrets/push-token"
user = "demo"
base_url = {json.dumps(plan.phone)}

[notifier.targets.partner]
by = "catapush"
token_file = "secrets/push-token"
recipient = "393331234567"
app_id = 318
base_url = {json.dumps(plan.phone)}
language = "it"

[[notifier.routes]]
to = ["phone"]
escalate_to = ["partner"]
escalate_after_s = 120.0

[controller]
interval_s = {minute_s:g}
minute_s = {minute_s:g}

[devices.{RELAY}]
family = "relay"
min_connected_s = {5 * minute_s:g}
output = {{ by = "file", path = "{RELAY_FILE}" }}
supply = {{ device = "{DEVICE}" }}
{devices}"""


def mosquitto_conf(plan: Plan) -> str:
    """A broker on the loopback that lets nobody in without a password, by the rules we ship."""
    rules = shipped_rules()
    acl = f"acl_file {rules}\n" if rules is not None else ""
    user = "user root\n" if os.geteuid() == 0 else ""
    broker = plan.folder / "broker"
    return (
        f"listener {plan.broker_port} 127.0.0.1\n{user}"
        f"allow_anonymous false\npassword_file {broker / 'passwords'}\n{acl}"
        f"persistence true\npersistence_location {broker}/\nautosave_interval 300\n"
        "max_queued_messages 100000\nmax_inflight_messages 1000\nmax_packet_size 2000000\n"
        "log_type error\nlog_type warning\nlog_type notice\n"
    )


def shipped_rules() -> Path | None:
    """``mosquitto/acl`` of the checkout that this module runs from; None without one."""
    for folder in Path(__file__).resolve().parents:
        rules = folder / "mosquitto" / "acl"
        if rules.is_file():
            return rules
    return None


def amqtt_config(plan: Plan) -> dict[str, Any]:
    """The same for amqtt."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{plan.broker_port}"}},
        "plugins": {
            "amqtt.plugins.authentication.FileAuthPlugin": {
                "password_file": str(plan.folder / "broker" / "passwords")
            }
        },
    }


# --- History ------------------------------------------------------------------------------------


def fill(plan: Plan) -> None:
    """Write history into the database, once a folder.

    Raises:
        DemoError: it could not be written, or the folder holds another house.
    """
    if plan.marker.exists():
        told = json.loads(plan.marker.read_text(encoding="utf-8"))
        if told.get("house") != STATE_VERSION:
            raise DemoError(f"{plan.folder} holds a house of an older kind; --fresh begins anew")
        if any(told.get(key) != value for key, value in plan.house.items()):
            raise DemoError(
                f"{plan.folder} holds the house of seed {told.get('seed')} at {told.get('place')}; "
                "--fresh begins anew, --dir keeps both"
            )
        say(f"the house of {plan.folder} goes on (--fresh begins anew)")
        return
    site = ["--config", str(plan.site)]
    if plan.days == 0.0:
        with plan.log.open("a", encoding="utf-8") as said:
            _call([str(program("recorder")), "migrate", *site], said)
        if not plan.empty:
            _sign(plan)
        return
    began = time.monotonic()
    end = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime())
    past = [str(program("simulator")), "history", *site]
    past += ["--days", str(plan.days), "--end", end]
    store = [str(program("recorder")), "ingest", "-", *site]
    with plan.log.open("a", encoding="utf-8") as said:
        _call([str(program("recorder")), "migrate", *site], said)
        teller = subprocess.Popen(past, stdout=subprocess.PIPE, env=_environment())
        writer = subprocess.Popen(store, stdin=teller.stdout, stderr=said, env=_environment())
        if teller.stdout is not None:
            teller.stdout.close()  # so that the teller hears when the writer has gone
        try:
            statuses = [writer.wait(), teller.wait()]
        finally:
            for process in (teller, writer):
                if process.poll() is None:
                    process.terminate()
                    process.wait()
    if any(statuses):
        raise DemoError(f"history could not be written; {plan.log} says why\n{_tail(plan.log)}")
    _sign(plan)
    plan.marker.write_text(
        json.dumps({**plan.house, "days": plan.days, "end": end}) + "\n",
        encoding="utf-8",
    )
    say(f"{plan.days:g} days of history are in the database ({time.monotonic() - began:.0f} s)")


def _sign(plan: Plan) -> None:
    """Give the house its contract; without one the page Money asks for it."""
    try:
        contract.sign(plan.site)
    except SunmeshError as err:
        say(str(err).splitlines()[0])


def _call(command: list[str], said: TextIO) -> None:
    status = subprocess.run(
        command, stdout=said, stderr=said, env=_environment(), check=False
    ).returncode
    if status:
        raise DemoError(f"{shlex.join(command)} ended with status {status}\n{_tail(said.name)}")


def _tail(path: str | Path, lines: int = 8) -> str:
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, lines)).rstrip()


def _environment() -> dict[str, str]:
    """This environment without what would win over the demo's own site."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("SUNMESH_")}
    return mine | {"PYTHONUNBUFFERED": "1"}


# --- Live ---------------------------------------------------------------------------------------


def commands(plan: Plan) -> dict[str, list[str]]:
    """What runs, by name."""
    site = ["--config", str(plan.site)]
    broker = plan.folder / "broker"
    if plan.embedded:
        brokers = [str(program("amqtt")), "-c", str(broker / "amqtt.yaml")]
    else:
        brokers = [str(program("mosquitto")), "-c", str(broker / "mosquitto.conf")]
    house = [str(program("simulator")), "run", *site, "--speed", str(plan.speed)]
    house += ["--start", plan.start] if plan.start else []
    house += ["--log-world", str(plan.world_log)] if plan.world_log else []
    emulators = {
        emulator.name: [
            *[str(program(emulator.collector)), "emulate"],
            *[plan.fill_in(option) for option in emulator.options],
            *site,
        ]
        for emulator in EMULATORS
    }
    collectors = {name: [str(program(name)), "run", *site] for name in COLLECTORS}
    if plan.empty:
        return {
            "broker": brokers,
            "simulator": house,
            **emulators,
            "keeper": [str(program("simulator")), "keep", *site],
            "web": [str(program("web")), "run", *site],
        }
    return {
        "broker": brokers,
        "simulator": house,
        **emulators,
        **collectors,
        PHONE: [
            *[str(program("notifier")), "emulate"],
            *["--http", f"127.0.0.1:{plan.phone_port}"],
        ],
        RELAY: [str(program(RELAY)), "run", *site],
        "controller": [str(program("controller")), "run", *site],
        "recorder": [str(program("recorder")), "run", *site],
        "watch": [str(program("watch")), "run", *site],
        "notifier": [str(program("notifier")), "run", *site],
        # a long history is booked behind the page, and gives way to it
        "bookkeeper": ["nice", "-n", "10", str(program("bookkeeper")), "run", *site],
        "web": [str(program("web")), "run", *site],
    }


def kept(path: Path) -> dict[str, list[str]]:
    """What ``simulator keep`` runs beside the portal, by name, for the site in ``path``."""
    names = (*COLLECTORS, "recorder", "bookkeeper", "controller", "watch", "notifier")
    return {name: [str(program(name)), "run", "--config", str(path)] for name in names}


def waits_for(plan: Plan, name: str) -> Path | None:
    """What must be there before the process ``name`` starts: no line about a port that will be."""
    ready = next((each.ready for each in EMULATORS if each.collector == name and each.ready), "")
    return plan.folder / ready if ready else None


def run(plan: Plan) -> int:
    """Start everything and stay until it is stopped; returns the exit status."""
    from honcho.manager import Manager

    with plan.log.open("a", encoding="utf-8") as said:
        watcher = Watcher(plan)
        printer = _Log(said, watcher.start)
        manager = Manager(printer)
        for name, command in commands(plan).items():
            line = f"exec {shlex.join(command)}"
            awaited = waits_for(plan, name)
            if awaited is not None:
                line = f"until [ -e {shlex.quote(str(awaited))} ]; do sleep 0.1; done; {line}"
            manager.add_process(name, line, env=_environment())
            printer.expect(name)
        say(
            f"starting {len(printer.expected)} processes "
            f"({'amqtt' if plan.embedded else 'Mosquitto'} on port {plan.broker_port})"
        )
        signal.signal(signal.SIGHUP, lambda *_: manager.terminate())
        try:
            manager.loop()
        finally:
            watcher.stop()
            manager.terminate()
    if printer.died:
        last = "\n".join(printer.last[printer.died])
        say(f"{printer.died} ended, so the demo stopped; {plan.log} has more:\n{last}", sys.stderr)
        return 1
    say("stopped")
    return 0


@dataclass(slots=True)
class _Log:
    """honcho's printer: everything into the log file, and the first death remembered."""

    output: TextIO
    when_all_run: Callable[[], None]
    width: int = 0
    expected: set[str] = field(default_factory=set)
    last: dict[str, deque[str]] = field(default_factory=dict)
    died: str = ""
    _running: set[str] = field(default_factory=set)
    _stopping: bool = False

    def expect(self, name: str) -> None:
        """``name`` will run."""
        self.expected.add(name)
        self.last[name] = deque(maxlen=8)

    def write(self, message: Any) -> None:  # noqa: ANN401 - honcho has no types
        """Take one of honcho's messages: a line of a process, or of honcho itself."""
        data = message.data
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        for line in text.splitlines():
            stamp = f"{message.time:%H:%M:%S}"
            self.output.write(f"{stamp} {message.name:<{self.width}} | {line}\n")
            if message.name in self.last:
                self.last[message.name].append(line)
            else:
                self._hear(line)
        self.output.flush()

    def _hear(self, line: str) -> None:
        """Honcho's own lines: ``web started (pid=1)``, ``web stopped (rc=1)``, ``… received``."""
        name, _, rest = line.partition(" ")
        if rest.startswith("started"):
            self._running.add(name)
            if self._running == self.expected:
                self.when_all_run()
        elif rest.startswith("stopped") and not self._stopping:
            self._stopping, self.died = True, name
        elif rest.startswith("received") or name == "sending":
            self._stopping = True


class Watcher:
    """Waits in the background for a live value and the page, and says where the page is."""

    def __init__(self, plan: Plan) -> None:
        """Nothing runs before :meth:`start`."""
        self._plan = plan
        self._stop = threading.Event()
        self._live = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self) -> None:
        """Wait no longer."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def _watch(self) -> None:
        plan = self._plan
        try:
            site = config.load(plan.site, "web")
        except ConfigError:
            log.exception("the demo's own site")
            return
        mesh = Mesh(site.broker, site.topics, "web", instance="demo")
        self._turn_on(mesh)
        mesh.subscribe(site.topics.telemetry(DEVICE), self._hear)
        if plan.empty:
            self._live.set()
        mesh.start()
        began = time.monotonic()
        late = False
        try:
            while not self._stop.wait(0.2):
                if self._live.is_set() and page_answers(plan.address):
                    say(f"\n  The house is at {plan.address}  (Ctrl-C stops it)")
                    if plan.empty:
                        say(f"  nothing is configured; begin at {plan.address}setup\n")
                    else:
                        say(f"  what its alarms tell a phone: {plan.phone}\n")
                    break
                if not late and time.monotonic() - began > PATIENCE_S:
                    late = True
                    what = "page" if self._live.is_set() else "inverter"
                    say(f"the {what} does not answer yet; {plan.log} may say why", sys.stderr)
        finally:
            mesh.stop(0.2)
        self._tell_backlog()

    def _turn_on(self, mesh: Mesh) -> None:
        """Ask the rules to work as planned, once they are there to hear it."""
        mode = self._plan.control
        if not mode and not (self._plan.folder / "state" / "controller.json").exists():
            mode = "on"
        if not mode:
            return
        asked = threading.Event()

        def ask(message: Message) -> None:
            if b'"online"' in message.payload and not asked.is_set():
                asked.set()
                command = Command("mode", mode, by="demo")
                mesh.publish(mesh.topics.command("controller"), encode(command))

        mesh.subscribe(mesh.topics.service_status("controller"), ask)

    def _tell_backlog(self) -> None:
        """Say how far a long history has been summed up, which goes on behind the page."""
        began = time.monotonic()
        first = waiting(self._plan)
        while sum(first.values()) > BACKLOG and not self._stop.wait(TELL_S):
            left = waiting(self._plan)
            if sum(left.values()) <= BACKLOG:
                say(f"history is summed up and booked ({time.monotonic() - began:.0f} s)")
                return
            shares = {name: 1 - left.get(name, 0) / count for name, count in first.items()}
            texts = [f"{BACKLOGS.get(name, name)} {share:.0%}" for name, share in shares.items()]
            say(f"in the background, of {self._plan.days:g} days: {', '.join(texts)}")

    def _hear(self, message: Message) -> None:
        with contextlib.suppress(MessageError):
            sample = decode(Sample, message.payload)
            fresh = abs(time.time() - sample.ms / 1000.0) < 30.0
            if fresh and sample.values.get("battery_voltage_v") is not None:
                self._live.set()


BACKLOGS = {"rollup": "minutes, hours and days", "books": "energy books"}
"""Who has to see to new samples, in the owner's words."""


def waiting(plan: Plan) -> dict[str, int]:
    """How many stretches of history wait for whom; nothing when the database does not say."""
    database = f"file:{urllib.parse.quote(str(plan.folder / 'sunmesh.db'))}?mode=ro"
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(database, uri=True, timeout=5.0)
        with contextlib.closing(connection):
            found = connection.execute(
                "SELECT consumer, COUNT(*) FROM dirty GROUP BY consumer ORDER BY consumer DESC"
            )
            return dict(found.fetchall())
    return {}


def page_answers(address: str) -> bool:
    """Whether the portal's first page comes."""
    try:
        with urllib.request.urlopen(address, timeout=2.0) as answer:  # noqa: S310 - http://, ours
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _interruptible() -> None:
    """SIGTERM and SIGHUP end the preparations as Ctrl-C does; honcho takes over later."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
