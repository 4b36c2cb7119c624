"""The answers of a PVS as readings: JSON in, values by vocabulary name out. No I/O, no clock.

Both protocols end in a :class:`Snapshot`: the gateway and each device behind it, with the time at
which the device itself was measured. What is old by the gateway's own clock has no power any more,
only its energy, marked ``stale``: else the chart shows ghosts all night.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sunmesh.errors import FrameError
from sunmesh.messages import Value
from sunmesh.poll import withdrawn

from . import tables
from .reply import shown
from .tables import Field

Values = dict[str, Value]

STALE_AFTER = timedelta(minutes=15)
GATEWAY = "gateway"
"""Its key where an answer does not hold its serial number."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
BUILD = re.compile(r"Build\s+(\d+)")
EXPORTS = 0.01
"""A consumption meter that counted backwards more than this part of forwards measures the grid."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device as one answer shows it.

    Attributes:
        serial: its serial number; with ``#i`` where several have the same.
        kind: ``gateway``, ``inverter``, ``meter``, ``storage`` or ``transfer_switch``.
        ts: when it was measured, by the gateway's clock; None = it does not say.
        values: by vocabulary name.
        quality: exceptions.
        is_fresh: measured lately; else ``values`` hold its counters only.
        identity: model, firmware and so on, by vocabulary name.
    """

    serial: str
    kind: str
    ts: datetime | None
    values: Values
    quality: dict[str, str] = field(default_factory=dict)
    is_fresh: bool = True
    identity: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the gateway said of everything at one moment.

    Attributes:
        devices: by serial number.
        clock: the gateway's clock; None = it does not say.
        unread: kinds of devices that are there and not understood.
        repeated: serial numbers that several devices claim.
    """

    devices: dict[str, Device]
    clock: datetime | None = None
    unread: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @property
    def gateway(self) -> Device | None:
        """The gateway itself."""
        return next((each for each in self.devices.values() if each.kind == GATEWAY), None)


# -- both protocols ------------------------------------------------------------------------------


def read(
    body: Mapping[str, Any],
    *,
    roles: Mapping[str, str] | None = None,
    serial: str = GATEWAY,
    stale_after: timedelta = STALE_AFTER,
    partial: bool = False,
) -> Snapshot:
    """Everything that ``body`` shows, of either protocol.

    Args:
        body: one answer; of the LocalAPI also several, joined.
        roles: what meters measured before, by serial number, for answers that do not say;
            ``grid``, ``consumption`` or ``production``.
        serial: of the gateway, where ``body`` does not hold it.
        stale_after: a device that was measured longer ago than that has no power any more.
        partial: one answer of several of the LocalAPI: of the gateway only what stands in it.

    Raises:
        FrameError: ``shape``: nothing of what a PVS answers.
    """
    roles = roles or {}
    if "devices" in body:
        return _device_list(body["devices"], roles, stale_after)
    if isinstance(body.get("supervisor"), dict):
        found = supervisor(body["supervisor"])
        return Snapshot({found.serial: found})
    if body.get("notification") == "power" and isinstance(body.get("params"), dict):
        flat = {f"/sys/livedata/{key}": value for key, value in body["params"].items()}
        return _local(flat, roles, serial, stale_after, partial=True)
    if "session" in body or not body:
        return Snapshot({})
    flat = _flat(body)
    if not any(key.startswith("/") for key in flat):
        raise FrameError("shape", f"nothing of a PVS: {shown(', '.join(flat))}")
    return _local(flat, roles, serial, stale_after, partial=partial)


def supervisor(found: Mapping[str, Any]) -> Device:
    """Who answers ``supervisor/info``.

    Raises:
        FrameError: ``shape``: no serial number.
    """
    serial = _serial(found.get("SERIAL"))
    if not serial:
        raise FrameError("shape", "supervisor/info without a serial number")
    model = _text(found.get("MODEL")) or "PVS"
    firmware = _text(found.get("SWVER"))
    number = build_of(found.get("BUILD"), firmware)
    return Device(
        serial,
        GATEWAY,
        None,
        {},
        identity={
            "serial": serial,
            "model": model,
            "firmware": firmware,
            "firmware_build": number,
            "protocol": protocol_of(model, number),
        },
    )


def build_of(build: object, firmware: str | None) -> int | None:
    """The number that tells the protocols apart; a PVS5 has it in its version only."""
    if isinstance(build, int) and not isinstance(build, bool):
        return build
    if isinstance(build, str) and build.strip().isdecimal():
        return int(build)
    found = BUILD.search(firmware or "") or re.fullmatch(r"\d+\.\d+\.\d+\.(\d+)", firmware or "")
    return int(found[1]) if found else None


def protocol_of(model: str, build: int | None) -> str | None:
    """``localapi`` or ``dl_cgi``; None while the build is unknown, as in a nightly restart."""
    if build is None:
        return None
    first = tables.LOCAL_BUILD["PVS5" if "PVS5" in model.upper() else "PVS6"]
    return "localapi" if build >= first else "dl_cgi"


# -- DeviceList ----------------------------------------------------------------------------------


def _device_list(listed: object, roles: Mapping[str, str], stale_after: timedelta) -> Snapshot:
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise FrameError("shape", "devices is no list of objects")
    serials = [_serial(each.get("SERIAL")) for each in listed]
    repeated = _repeated(serials)
    clock = max(
        (t for t in (_comma_time(each.get("CURTIME")) for each in listed) if t), default=None
    )
    found: list[Device] = []
    unread: list[str] = []
    for index, (each, serial) in enumerate(zip(listed, serials, strict=True)):
        kind = str(each.get("DEVICE_TYPE", ""))
        key = f"{serial}#{index}" if serial in repeated else serial
        ts = _comma_time(each.get("DATATIME"))
        identity: Values = {
            "serial": serial,
            "model": _text(each.get("MODEL")),
            "firmware": _text(each.get("SWVER")),
        }
        if not serial:
            continue
        if kind == "PVS":
            model = str(identity["model"] or "")
            build = build_of(None, _text(each.get("SWVER")))
            identity |= {"firmware_build": build, "protocol": protocol_of(model, build)}
            values = _legacy(tables.SUPERVISOR, each)
            found.append(Device(key, GATEWAY, ts, values, identity=identity))
        elif kind == "Inverter":
            values = _legacy(tables.INVERTER, each)
            found.append(_inverter(key, ts, values, clock, stale_after, identity))
        elif kind == "Power Meter":
            subtype = str(each.get("subtype") or each.get("consumption_subtype_enum"))
            if subtype == "NOT_USED":
                continue
            role = tables.SUBTYPES.get(subtype) or roles.get(serial) or _legacy_role(serial, each)
            values = _meter_sums(_legacy(tables.METER[role], each), role)
            found.append(_member(key, "meter", ts, values, clock, stale_after, identity))
        else:
            unread.append(kind or "unnamed")
    return Snapshot(
        {each.serial: each for each in _with_totals(found, clock)},
        clock,
        tuple(sorted(set(unread))),
        tuple(sorted(repeated)),
    )


def _legacy_role(serial: str, meter: Mapping[str, Any]) -> str:
    """What a meter of old firmware measures, which does not say it."""
    net, back, forth = (
        number(meter.get(f"{way}_ltea_3phsum_kwh")) for way in ("net", "neg", "pos")
    )
    return _role(serial, number(meter.get("p_3phsum_kw")), net, back, forth)


def _with_totals(found: list[Device], clock: datetime | None) -> list[Device]:
    """``found``, the gateway with what house, grid and panels do, from its meters or inverters.

    Their time is the meters': the block of the gateway itself is up to 40 min older.
    """
    gateway = next((each for each in found if each.kind == GATEWAY), None)
    if gateway is None:
        return found
    meters = [each for each in found if each.kind == "meter"]
    by_role = {
        role: [each for each in meters if each.values["meter_role"] == role]
        for role in ("production", "grid", "consumption")
    }
    inverters = [each for each in found if each.kind == "inverter"]
    quality: dict[str, str] = {}
    sources = by_role["production"] or inverters
    pv_w = _total(sources, "pv_power_w")
    if not by_role["production"] and pv_w is None:
        awake = [each for each in inverters if each.is_fresh]
        pv_w = _total(awake, "pv_power_w")
        if pv_w is not None:
            quality["pv_power_w"] = "suspect"  # a part of the panels only
    pv_kwh = _total(sources, "pv_energy_total_kwh")
    grid_w = _total(by_role["grid"], "grid_power_w")
    grid_kwh = _total(by_role["grid"], "grid_net_energy_kwh")
    load_w = _total(by_role["consumption"], "load_power_w")
    load_kwh = _total(by_role["consumption"], "load_energy_total_kwh")
    if by_role["grid"]:
        load_w = _positive(_sum(pv_w, grid_w))
        load_kwh = _positive(_sum(pv_kwh, grid_kwh))
    elif by_role["consumption"]:
        grid_w = _sum(load_w, pv_w, -1.0)
        grid_kwh = _sum(load_kwh, pv_kwh, -1.0)
    if "pv_power_w" in quality:
        quality |= dict.fromkeys(("load_power_w", "grid_power_w"), "suspect")
    totals: Values = {
        "pv_power_w": pv_w,
        "load_power_w": load_w,
        "grid_power_w": grid_w,
        "pv_energy_total_kwh": pv_kwh,
        "load_energy_total_kwh": load_kwh,
        "grid_net_energy_kwh": grid_kwh,
    }
    times = [each.ts for each in meters or inverters if each.is_fresh and each.ts]
    ts = (min(times) if meters else max(times)) if times else clock or gateway.ts
    quality = {name: mark for name, mark in quality.items() if totals[name] is not None}
    whole = Device(
        gateway.serial, GATEWAY, ts, totals | gateway.values, quality, identity=gateway.identity
    )
    return [whole if each is gateway else each for each in found]


def _total(devices: Iterable[Device], name: str) -> float | None:
    """The sum of ``name``; None without devices, and while one of them is unknown."""
    values = [each.values.get(name) for each in devices]
    numbers = [value for value in values if isinstance(value, int | float)]
    return round(sum(numbers), 4) if numbers and len(numbers) == len(values) else None


def _sum(one: float | None, other: float | None, sign: float = 1.0) -> float | None:
    return None if one is None or other is None else round(one + sign * other, 4)


def _positive(value: float | None) -> float | None:
    return None if value is None or value < -tables.NOISE_W else max(0.0, value)


# -- LocalAPI ------------------------------------------------------------------------------------


def _flat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Path → value, of any of the shapes; a device without its folder gets one."""
    values = body.get("values")
    if isinstance(values, list):
        pairs = [each for each in values if isinstance(each, dict)]
        return {str(each.get("name")): each.get("value") for each in pairs}
    if "sn" in body:
        folder = next((each for key, each in tables.FOLDER_BY_KEY.items() if key in body), "meter")
        return {f"/sys/devices/{folder}/0/{key}": value for key, value in body.items()}
    return dict(body)


def _local(
    flat: Mapping[str, Any],
    roles: Mapping[str, str],
    serial: str,
    stale_after: timedelta,
    *,
    partial: bool,
) -> Snapshot:
    """A snapshot of variables.

    Args:
        flat: path → value.
        roles: as for :func:`read`.
        serial: of the gateway.
        stale_after: as for :func:`read`.
        partial: as for :func:`read`.
    """
    live = {
        path.removeprefix("/sys/livedata/"): value
        for path, value in flat.items()
        if path.startswith("/sys/livedata/")
    }
    clock = _epoch(live.get("time"))
    found: list[Device] = []
    groups = _groups(flat)
    serials = [_serial(each.get("sn")) for _, _, each in groups]
    repeated = _repeated(serials)
    for (kind, index, each), number in zip(groups, serials, strict=True):
        if not number:
            continue
        key = f"{number}#{index}" if number in repeated else number
        ts = _iso_time(each.get("msmtEps"))
        identity: Values = {"serial": number, "model": _text(each.get("prodMdlNm"))}
        if kind == "inverter":
            values = _read(tables.INVERTER, each)
            found.append(_inverter(key, ts, values, clock, stale_after, identity))
            continue
        if kind == "meter":
            role = _local_role(number, each, live, roles)
            values = _meter_sums(_read(tables.METER[role], each), role)
        elif kind == "storage":
            values = _read(tables.STORAGE, each) | _words(tables.STORAGE_WORDS, each)
        else:
            values = _read(tables.TRANSFER_SWITCH, each)
            values |= _words(tables.TRANSFER_SWITCH_WORDS, each)
        found.append(_member(key, kind, ts, values, clock, stale_after, identity))
    gateway = _local_gateway(flat, live, clock, serial, partial=partial)
    if gateway is not None:
        found.insert(0, gateway)
    return Snapshot({each.serial: each for each in found}, clock, repeated=tuple(sorted(repeated)))


def _local_gateway(
    flat: Mapping[str, Any],
    live: Mapping[str, Any],
    clock: datetime | None,
    serial: str,
    *,
    partial: bool,
) -> Device | None:
    info = {
        path.removeprefix("/sys/info/"): value
        for path, value in flat.items()
        if path.startswith("/sys/info/")
    }
    if not info and not live:
        return None
    number = _serial(info.get("serialnum")) or serial
    firmware = _text(info.get("sw_rev"))
    identity: Values = {
        "serial": None if number == GATEWAY else number,
        "model": _text(info.get("model")),
        "firmware": firmware,
        "firmware_build": build_of(None, firmware),
        "protocol": "localapi",
    }
    values = _read(tables.LIVE, live, partial=partial)
    values |= _read(tables.SUPERVISOR, info, partial=partial)
    wear = _wear(flat.get("/sys/pvs/flashwear_type_b"))
    if wear is not None:
        values["flash_wear_percent"] = wear
    return Device(number, GATEWAY, clock, values, identity=identity)


def _groups(flat: Mapping[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """Kind, index and variables of each device.

    ``/sys/devices/meter/0/sn`` of newer builds, ``/sys/devices/11/meter/data`` of older ones, the
    latter one JSON object.
    """
    groups: dict[tuple[str, int], dict[str, Any]] = {}
    for path, value in flat.items():
        match path.split("/"):
            case ["", "sys", "devices", folder, index, key] if (
                folder in tables.LOCAL_KINDS and index.isdecimal()
            ):
                groups.setdefault((tables.LOCAL_KINDS[folder], int(index)), {})[key] = value
            case ["", "sys", "devices", index, folder, "data"] if (
                folder in tables.LOCAL_KINDS and index.isdecimal()
            ):
                if isinstance(value, str):
                    try:
                        value = json.loads(value)
                    except ValueError:
                        continue
                if isinstance(value, dict):
                    groups[tables.LOCAL_KINDS[folder], int(index)] = value
    return [(kind, index, each) for (kind, index), each in sorted(groups.items())]


def _local_role(
    serial: str, meter: Mapping[str, Any], live: Mapping[str, Any], roles: Mapping[str, str]
) -> str:
    """What a meter measures: the LocalAPI does not say, its lifetime energy gives it away."""
    net, back, forth = (number(meter.get(f"{way}Ltea3phsumKwh")) for way in ("net", "neg", "pos"))
    grid, load = number(live.get("net_en")), number(live.get("site_load_en"))
    if net is not None and grid is not None and load is not None and serial[-1:].lower() != "p":
        return "grid" if abs(net - grid) <= abs(net - load) else "consumption"
    known = roles.get(serial)
    return known or _role(serial, number(meter.get("p3phsumKw")), net, back, forth)


def _wear(value: object) -> float | None:
    """0x01 is 10 %; more than 100 % has been seen and is 100."""
    try:
        steps = int(value, 16) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if steps is None or steps < 0 else min(100.0, 10.0 * steps)


# -- parts of both -------------------------------------------------------------------------------


def _role(
    serial: str,
    power_kw: float | None,
    net_kwh: float | None,
    back_kwh: float | None,
    forth_kwh: float | None,
) -> str:
    """What a meter measures, by its letter, and by whether anything ever went back through it."""
    if serial[-1:].lower() == "p":
        return "production"
    back, net = back_kwh or 0.0, net_kwh or 0.0
    forth = net + back if forth_kwh is None else forth_kwh
    flows_back = power_kw is not None and power_kw * tables.KILO < -tables.NOISE_W
    exports = flows_back or net < 0 or back > EXPORTS * max(forth, 1.0)
    return "grid" if exports else "consumption"


def _meter_sums(values: Values, role: str) -> Values:
    """A PVS5 counts what goes back and not what comes: import is net plus export."""
    net, back = values.get("grid_net_energy_kwh"), values.get("grid_export_energy_kwh")
    missing = role == "grid" and values["grid_import_energy_kwh"] is None
    if missing and isinstance(net, float) and isinstance(back, float):
        values["grid_import_energy_kwh"] = _positive(_sum(net, back))
    return values | {"meter_role": role}


def _inverter(
    serial: str,
    ts: datetime | None,
    values: Values,
    clock: datetime | None,
    stale_after: timedelta,
    identity: Values,
) -> Device:
    """A microinverter. ``error`` is what its gateway calls every one of them in the dark."""
    power = values["pv_power_w"]
    producing = isinstance(power, float) and power > 0
    values["device_mode"] = None if power is None else "producing" if producing else "standby"
    return _member(serial, "inverter", ts, values, clock, stale_after, identity)


def _member(
    serial: str,
    kind: str,
    ts: datetime | None,
    values: Values,
    clock: datetime | None,
    stale_after: timedelta,
    identity: Values,
) -> Device:
    """A device behind the gateway; without its momentary values when those are old."""
    is_fresh = ts is not None and (clock is None or clock - ts <= stale_after)
    if is_fresh:
        return Device(serial, kind, ts, values, {}, is_fresh, identity)
    role = values.get("meter_role")
    kept, quality = withdrawn(values)
    if role is not None:
        kept["meter_role"] = role
    return Device(serial, kind, ts, kept, quality, is_fresh, identity)


def _legacy(fields: Iterable[Field], device: Mapping[str, Any]) -> Values:
    """The fields that a DeviceList has, of a device in it."""
    return {
        each.name: _value(each, next((device[key] for key in each.legacy if key in device), None))
        for each in fields
        if each.legacy
    }


def _read(
    fields: Iterable[Field], variables: Mapping[str, Any], *, partial: bool = False
) -> Values:
    """The fields that the LocalAPI has, of a device there; with ``partial`` those that are sent."""
    return {
        each.name: _value(each, variables.get(each.local))
        for each in fields
        if each.local and (each.local in variables or not partial)
    }


def _value(each: Field, raw: object) -> float | None:
    """``raw`` in our unit; None where it is no reading."""
    value = number(raw)
    if value is None:
        return None
    if each.factor != 1.0:
        value = round(value * each.factor, 4)
    if each.low == 0.0 and each.name.endswith("_w") and -tables.NOISE_W < value < 0.0:
        return 0.0
    return value if each.low <= value <= each.high else None


def _words(words: Iterable[tables.Word], variables: Mapping[str, Any]) -> Values:
    result: Values = {}
    for each in words:
        text = _text(variables.get(each.local))
        result[each.name] = text.removeprefix(each.prefix).lower() if text else None
    return result


def number(raw: object) -> float | None:
    """A finite number, also when it is spelt out; never NaN, whatever its spelling."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, str):
        text = raw.strip()
        if not NUMBER.fullmatch(text):
            return None
        raw = float(text)
    if not isinstance(raw, int | float):
        return None
    try:
        value = float(raw)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _serial(raw: object) -> str:
    text = raw.strip() if isinstance(raw, str) else ""
    is_one = re.fullmatch(r"[\w.:/+-]{1,64}", text, re.ASCII) and text.lower() not in ("nan", "n/a")
    return text if is_one else ""


def _repeated(serials: Iterable[str]) -> set[str]:
    return {serial for serial, count in Counter(serials).items() if serial and count > 1}


def _text(raw: object) -> str | None:
    return raw.strip()[:80] or None if isinstance(raw, str) else None


def _comma_time(raw: object) -> datetime | None:
    """``2024,04,16,23,27,28``, which is UTC."""
    if not isinstance(raw, str) or not re.fullmatch(r"\d{4}(,\d{1,2}){5}", raw.strip()):
        return None
    try:
        return datetime(*map(int, raw.split(",")), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None


def _iso_time(raw: object) -> datetime | None:
    if not isinstance(raw, str):
        return None
    try:
        moment = datetime.fromisoformat(raw.strip())
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _epoch(raw: object) -> datetime | None:
    """Seconds since 1970, or milliseconds."""
    value = number(raw)
    if value is None or value < 1e9:
        return None
    try:
        return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
