"""Finding devices: each port is asked by one collector after the other, and nothing is changed.

The portal knows no protocol. It runs the collectors' own ``probe`` as a person at a terminal would,
one port at a time, and reads the JSON that they print.
"""

import glob
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sunmesh import clock, ports
from sunmesh.config import Site
from sunmesh.portlock import find_holder, is_unstable
from sunmesh.vocabulary import VOCABULARY

from ..config import WebConfig

log = logging.getLogger(__name__)

FAMILIES = ("axpert", "bms", "meter", "pl80")
"""Of serial devices, in the order in which they are asked."""
TRIES = {"pl80": 2}
"""Its adaptor still chews on what others asked, and refuses the first question after that."""
PROBE_S = 60.0
MOST_PLACES = 40
MOST_VALUES = 60
USUAL_ROOT = "/sys/bus/w1/devices"
ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})(?::\d{1,5})?|\[[0-9A-Fa-f:]{2,39}\]")
"""A host's name or address, perhaps with a port."""

FIRST = (
    *("pv_power_w", "ac_output_power_w", "load_power_w", "grid_power_w"),
    *("battery_voltage_v", "battery_soc_percent", "battery_current_a", "battery_power_w"),
    *("grid_voltage_v", "grid_frequency_hz", "temperature_c", "pv_voltage_v", "charge_power_w"),
    *("cell_voltage_spread_v", "heat_sink_temperature_c", "grid_import_energy_kwh"),
)
"""What an owner recognises a device by, in this order."""

DULL = frozenset({"resolution_bits", "battery_temperature_sensors"})

NAMES = {
    "axpert": "inverter",
    "bms": "battery",
    "meter": "meter",
    "pl80": "charger",
    "pvs6": "roof",
    "temperature": "sensor",
}


@dataclass(frozen=True, slots=True)
class Hit:
    """A device that answered.

    Attributes:
        id: of the device, the same when it is found again.
        family: whose collector understood it.
        title: maker's name of it.
        facts: who it is, in order.
        values: what it measures now, by vocabulary name.
        table: ``[devices.NAME]`` for it.
        at: when it was read.
        name: what it may be called.
        known: under which name ``site.toml`` has it; empty = not yet.
        unstable: its port may be another adapter's tomorrow.
    """

    id: str
    family: str
    title: str
    facts: tuple[str, ...]
    values: Mapping[str, Any]
    table: Mapping[str, Any]
    at: datetime
    name: str = ""
    known: str = ""
    unstable: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device may be.

    Attributes:
        kind: ``port``, ``gateway`` or ``sensors``.
        address: that is asked, and stands in ``site.toml``.
        state: ``waits``, ``asks``, ``found``, ``nothing``, ``held`` or ``failed``.
        detail: who holds it, who asks now, or why it failed.
        hits: what was found.
    """

    kind: str
    address: str
    state: str = "waits"
    detail: str = ""
    hits: tuple[Hit, ...] = ()


class FindError(Exception):
    """A collector said no; the text is its own."""


Ask = Callable[[Sequence[str]], Any]
"""Runs a command and gives its JSON; raises :class:`FindError`."""


def program(name: str) -> str | None:
    """Where a service's program is; None = not on this machine, or not for the portal."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=os.pathsep.join([str(beside), os.environ.get("PATH", "")]))


def run(command: Sequence[str]) -> Any:  # noqa: ANN401 - JSON
    """Run a probe.

    Raises:
        FindError: it found nothing, or took too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        raise FindError(f"no answer in {PROBE_S:.0f} s") from None
    except OSError as err:
        raise FindError(str(err)) from err
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise FindError(lines[-1][:300] if lines else f"status {done.returncode}")
    try:
        return json.loads(done.stdout)
    except ValueError as err:
        raise FindError(f"what it printed is no JSON: {err}") from err


def places(site: Site, web: WebConfig, dev: Path = Path("/dev")) -> list[Place]:
    """Where devices may be: ports of this machine, gateways and sensors that are known of."""
    addresses = [port.best_name for port in ports.find(dev, site)]
    for pattern in web.setup_ports:
        addresses += sorted(glob.glob(pattern))  # noqa: PTH207 - a whole pattern from the file
    seen: dict[str, str] = {}
    for address in addresses:
        seen.setdefault(os.path.realpath(address), address)
    found = [Place("port", address) for address in seen.values()]
    known = [
        f"{table['host']}:{table['http_port']}" if "http_port" in table else str(table["host"])
        for table in site.devices.values()
        if table.get("family") == "pvs6" and "host" in table
    ]
    gateways = dict.fromkeys((*web.setup_gateways, *known))
    found += [Place("gateway", address) for address in gateways]
    found += [Place("sensors", root) for root in web.setup_sensors if Path(root).is_dir()]
    return found[:MOST_PLACES]


@dataclass(slots=True)
class _Search:
    places: list[Place] = field(default_factory=list)
    began: datetime | None = None
    ended: datetime | None = None


class Finder:
    """One search at a time, in a thread of its own.

    Args:
        site: the configuration: what is known already.
        web: ``[web]``.
        ask: runs a probe.
        now: the clock.
    """

    def __init__(
        self,
        site: Site,
        web: WebConfig,
        ask: Ask = run,
        now: Callable[[], datetime] = clock.now,
        find: Callable[[Site, WebConfig], list[Place]] = places,
    ) -> None:
        """Asks nobody before :meth:`start`."""
        self._site = site
        self._web = web
        self._ask = ask
        self._now = now
        self._find = find
        self._lock = threading.Lock()
        self._search = _Search()
        self._thread: threading.Thread | None = None

    @property
    def missing(self) -> list[str]:
        """Collectors that are not installed where the portal runs."""
        families = (*FAMILIES, "pvs6", "temperature")
        return [name for name in families if program(f"collector-{name}") is None]

    @property
    def busy(self) -> bool:
        """Whether a search is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def began(self) -> datetime | None:
        """When the last search began."""
        return self._search.began

    def places(self) -> list[Place]:
        """Where was looked, and what was found; where would be looked, before the first search."""
        with self._lock:
            if self._search.began is not None:
                return list(self._search.places)
        return self._find(self._site, self._web)

    def hits(self) -> list[Hit]:
        """Everything that was found, each with a name that nobody has."""
        taken = set(self._site.devices)
        found = []
        for hit in (hit for place in self.places() for hit in place.hits):
            name = hit.known or _free_name(NAMES[hit.family], taken)
            taken.add(name)
            found.append(replace(hit, name=name))
        return found

    def start(self, gateways: Sequence[str] = ()) -> bool:
        """Look everywhere, and at these gateways; False while a search is under way."""
        with self._lock:
            if self.busy:
                return False
            wanted = self._find(self._site, self._web)
            known = {place.address for place in wanted}
            extra = [Place("gateway", each) for each in gateways if each not in known]
            self._search = _Search([*wanted, *extra][:MOST_PLACES], self._now())
            self._thread = threading.Thread(target=self._run, name="finder", daemon=True)
            self._thread.start()
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait for the end of the search."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        for number, place in enumerate(list(self._search.places)):
            try:
                done = self._look(number, place)
            except Exception:  # a probe's strange answer must not end the search
                log.exception("%s", place.address)
                done = replace(place, state="failed", detail="what it answers is not understood")
            self._set(number, done)
        with self._lock:
            self._search.ended = self._now()

    def _set(self, number: int, place: Place) -> None:
        with self._lock:
            self._search.places[number] = place

    def _look(self, number: int, place: Place) -> Place:
        if place.kind == "port":
            return self._look_at_port(number, place)
        family = "pvs6" if place.kind == "gateway" else "temperature"
        self._set(number, replace(place, state="asks", detail=f"collector-{family}"))
        command = program(f"collector-{family}")
        if command is None:
            return replace(place, state="failed", detail=f"collector-{family} is not installed")
        arguments = gateway_arguments(place.address) if family == "pvs6" else ["--root"]
        if family == "temperature":
            arguments = ["--root", place.address]
        try:
            answer = self._ask([command, "--log-level", "warning", "probe", *arguments])
        except FindError as err:
            return replace(place, state="failed", detail=str(err))
        hits = self._hits(family, place.address, answer)
        return replace(place, state="found" if hits else "nothing", detail="", hits=hits)

    def _look_at_port(self, number: int, place: Place) -> Place:
        resolved = os.path.realpath(place.address)
        holder = find_holder(resolved)
        # A pseudo-terminal is held by who plays the device, too; it may be asked all the same.
        if holder is not None and (not resolved.startswith("/dev/pts/") or self._is_read(resolved)):
            return replace(place, state="held", detail=holder)
        asked = 0
        for family in FAMILIES:
            command = program(f"collector-{family}")
            if command is None:
                continue
            asked += 1
            self._set(number, replace(place, state="asks", detail=f"collector-{family}"))
            for _ in range(TRIES.get(family, 1)):
                try:
                    answer = self._ask(
                        [command, "--log-level", "warning", "probe", "--port", place.address]
                    )
                except FindError as err:
                    log.debug("%s: %s: %s", place.address, family, err)
                    continue
                hits = self._hits(family, place.address, answer)
                if hits:
                    return replace(place, state="found", hits=hits)
        if not asked:
            return replace(place, state="failed", detail="no collector is installed here")
        return replace(place, state="nothing")

    def _is_read(self, resolved: str) -> bool:
        """Whether a configured device is on that port."""
        return any(
            os.path.realpath(str(table.get("port"))) == resolved
            for table in self._site.devices.values()
            if table.get("port")
        )

    def _hits(self, family: str, address: str, answer: Any) -> tuple[Hit, ...]:  # noqa: ANN401
        now = self._now()
        read = READERS[family]
        hits = [replace(hit, at=now) for hit in read(address, answer, now)]
        return tuple(replace(hit, known=self._known(hit)) for hit in hits)

    def _known(self, hit: Hit) -> str:
        """Under which name the configuration has that device."""
        for name, table in self._site.devices.items():
            if table.get("family") != hit.family:
                continue
            if hit.family == "temperature":
                same = table.get("rom") == hit.table["rom"]
            elif hit.family == "pvs6":
                mine = (table.get("host"), table.get("http_port", 80))
                same = mine == (hit.table["host"], hit.table.get("http_port", 80))
            else:
                port = str(table.get("port") or "")
                same = os.path.realpath(port) == os.path.realpath(str(hit.table["port"])) and (
                    table.get("address", 1) == hit.table.get("address", 1)
                )
            if same:
                return name
        return ""


def gateway_arguments(address: str) -> list[str]:
    """Options of the gateway's probe for ``HOST`` or ``HOST:PORT`` (of plain HTTP)."""
    host, _, port = address.rpartition(":") if address.count(":") == 1 else (address, "", "")
    return ["--host", host, "--http-port", port] if port else ["--host", address.strip("[]")]


def is_address(text: str) -> bool:
    """Whether that may be asked: a host, perhaps with a port, and no option of a command."""
    if not ADDRESS.fullmatch(text):
        return False
    port = text.rpartition(":")[2] if text.count(":") == 1 else "80"
    return 0 < int(port) < 65536


def _free_name(stem: str, taken: set[str]) -> str:
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1000))
    return next(name for name in names if name not in taken)


# -- what probes print -----------------------------------------------------------------------------


def _text(found: object) -> str:
    return str(found)[:80] if found not in (None, "") else ""


def _numbers(found: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Values with a name of the vocabulary, those first that an owner knows a device by."""
    if not isinstance(found, dict):
        return {}
    kept = {
        name: item
        for name, item in found.items()
        if name in VOCABULARY
        and name not in DULL
        and isinstance(item, int | float)
        and not isinstance(item, bool)
    }
    order = [*(name for name in FIRST if name in kept), *(n for n in kept if n not in FIRST)]
    return {name: kept[name] for name in order[:MOST_VALUES]}


def _answers(found: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """All values of a survey's answers together."""
    result: dict[str, Any] = {}
    if isinstance(found, dict):
        for answer in found.values():
            if isinstance(answer, dict) and "error" not in answer:
                result |= answer
    return result


def _facts(*pairs: tuple[str, object]) -> tuple[str, ...]:
    return tuple(f"{name} {_text(item)}".strip() for name, item in pairs if _text(item))


def _line(port: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - TOML
    """The beginning of a table of a serial device."""
    table: dict[str, Any] = {"port": port}
    if is_unstable(port):
        table["allow_unstable_port"] = True
    return table | {name: item for name, item in more.items() if item not in (None, "")}


def _axpert(address: str, answer: Any, now: datetime) -> list[Hit]:  # noqa: ANN401 - JSON
    if not isinstance(answer, dict):
        return []
    protocol, serial = _text(answer.get("protocol")), _text(answer.get("serial"))
    values = _numbers(_answers(answer.get("answers")))
    if not values and not serial:
        return []
    table = _line(
        address, dialect=protocol if protocol in ("PI30", "PI18") else None, serial=serial
    )
    return [
        Hit(
            f"axpert {address}",
            "axpert",
            _text(answer.get("model")) or "Axpert / Voltronic",
            _facts(("", protocol), ("serial", serial), ("firmware", answer.get("firmware"))),
            values,
            {"family": "axpert"} | table,
            now,
            unstable=is_unstable(address),
        )
    ]


def _bms(address: str, answer: Any, now: datetime) -> list[Hit]:  # noqa: ANN401 - JSON
    if not isinstance(answer, dict):
        return []
    values = _numbers(_answers(answer.get("answers")))
    if not values:
        return []
    said, serial = _text(answer.get("protocol")), _text(answer.get("serial"))
    number = answer.get("address") if isinstance(answer.get("address"), int) else None
    protocol = "0x81" if "81" in said else "a5" if said.upper().startswith("A5") else None
    table = _line(address, address=number, protocol=protocol, serial=serial)
    return [
        Hit(
            f"bms {address} {number}",
            "bms",
            _text(answer.get("model")) or "Daly BMS",
            _facts(("", said), ("address", number), ("serial", serial)),
            values,
            {"family": "bms"} | table,
            now,
            unstable=is_unstable(address),
        )
    ]


def _meter(address: str, answer: Any, now: datetime) -> list[Hit]:  # noqa: ANN401 - JSON
    if not isinstance(answer, dict) or not isinstance(answer.get("meters"), list):
        return []
    hits = []
    for meter in answer["meters"]:
        if not isinstance(meter, dict) or "error" in meter or "address" not in meter:
            continue
        model = "SDM630" if meter.get("phases") == 3 else "SDM230"
        serial = _text(meter.get("serial"))
        table = {"model": model, "role": "grid"} | _line(
            address,
            address=meter["address"],
            baud=answer.get("baud"),
            parity=answer.get("parity"),
            serial=serial,
        )
        hits.append(
            Hit(
                f"meter {address} {meter['address']}",
                "meter",
                f"Eastron {model}",
                _facts(("address", meter["address"]), ("serial", serial)),
                _numbers(meter.get("values")),
                {"family": "meter"} | table,
                now,
                unstable=is_unstable(address),
            )
        )
    return hits


def _pl80(address: str, answer: Any, now: datetime) -> list[Hit]:  # noqa: ANN401 - JSON
    if not isinstance(answer, dict) or not isinstance(answer.get("values"), dict):
        return []
    model = _text(answer.get("model"))
    plate = answer.get("nameplate")
    volts = plate.get("battery_rating_voltage_v") if isinstance(plate, dict) else None
    known = model if model in ("PL20", "PL40", "PL60", "PL80") else None
    system = volts if volts in (12, 24, 32, 36, 48) else None
    return [
        Hit(
            f"pl80 {address}",
            "pl80",
            f"Plasmatronics {model or 'PL'}",
            _facts(("", f"{volts} V" if volts else "")),
            _numbers(answer["values"]),
            {"family": "pl80"} | _line(address, model=known, system_v=system),
            now,
            unstable=is_unstable(address),
        )
    ]


def _pvs6(address: str, answer: Any, now: datetime) -> list[Hit]:  # noqa: ANN401 - JSON
    if not isinstance(answer, dict) or not isinstance(answer.get("devices"), dict):
        return []
    inside = [each for each in answer["devices"].values() if isinstance(each, dict)]
    gateway = next((each for each in inside if each.get("kind") == "gateway"), {})
    panels = sum(each.get("kind") in ("inverter", "microinverter") for each in inside)
    options = gateway_arguments(address)
    serial = _text(answer.get("serial"))
    protocol = answer.get("protocol")
    table: dict[str, Any] = {"host": options[1]}
    if len(options) > 2:
        table["http_port"] = int(options[3])
    if protocol in ("localapi", "dl_cgi"):
        table["protocol"] = protocol
    if serial:
        table["serial"] = serial
    return [
        Hit(
            f"pvs6 {address}",
            "pvs6",
            f"SunPower {_text(answer.get('model')) or 'PVS'}",
            _facts(
                ("serial", serial),
                ("firmware", answer.get("firmware")),
                ("microinverters", panels or ""),
            ),
            _numbers(gateway.get("values")),
            {"family": "pvs6"} | table,
            now,
        )
    ]


def _temperature(address: str, answer: Any, now: datetime) -> list[Hit]:  # noqa: ANN401 - JSON
    if not isinstance(answer, list):
        return []
    usual = address == USUAL_ROOT
    return [
        Hit(
            f"temperature {sensor['rom']}",
            "temperature",
            _text(sensor.get("model")) or "1-wire",
            _facts(("", sensor["rom"])),
            _numbers(sensor),
            {"family": "temperature", "rom": sensor["rom"]} | ({} if usual else {"root": address}),
            now,
        )
        for sensor in answer
        if isinstance(sensor, dict) and isinstance(sensor.get("rom"), str)
    ]


READERS: Mapping[str, Callable[[str, Any, datetime], list[Hit]]] = {
    "axpert": _axpert,
    "bms": _bms,
    "meter": _meter,
    "pl80": _pl80,
    "pvs6": _pvs6,
    "temperature": _temperature,
}
