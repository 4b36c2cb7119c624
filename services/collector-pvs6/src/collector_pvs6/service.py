"""What happens each turn: who is there, one round of questions, one reading for each device."""

import logging
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from sunmesh import clock
from sunmesh.errors import FrameError, IdentityError, RefusedError
from sunmesh.messages import Info, Value
from sunmesh.poll import Condition, Member, Reading

from . import codec
from .archive import Archive
from .codec import Device, Snapshot
from .config import Pvs6Device
from .fleet import Fleet
from .memory import Known, Memory, name_of
from .session import Session
from .transport import Link

log = logging.getLogger(__name__)

FAMILY = "pvs6"
TRUSTED_CLOCK_S = 120.0
"""A clock that is off by more is corrected in ``ts``, so that samples stay on the time line."""

CLOCK_ALARM_S = 600.0


class Pvs6:
    """One gateway as the poll loop sees it; a :class:`sunmesh.poll.Source`.

    Args:
        device: its name in the mesh.
        config: its settings.
        link: the wire to it.
        memory: what outlives a restart.
        archive: where answers are kept.
        taken: names in the mesh that are somebody else's.
    """

    def __init__(
        self,
        device: str,
        config: Pvs6Device,
        link: Link,
        memory: Memory | None = None,
        archive: Archive | None = None,
        taken: frozenset[str] = frozenset(),
    ) -> None:
        """Nothing is asked yet."""
        self.counters: Counter[str] = link.counters
        self._device = device
        self._config = config
        self._link = link
        self._memory = memory or Memory()
        self._archive = archive or Archive(None, device, 1.0)
        self._taken = taken | {device}
        self._stale_after = timedelta(seconds=config.stale_after_s)
        self._fleet = Fleet(
            config.rating_w, config.weak_below, limits_energy=not config.allow_fast_polling
        )
        self._session = Session(device, link)
        self._serial = ""
        self._build: int | None = None
        self._protocol: str | None = None
        self._clock: datetime | None = None
        self._clock_seen = 0.0
        self._offset_s: float | None = None
        self._shift = timedelta()
        self._seen: dict[str, datetime] = {}
        self._said: set[str] = set()

    # -- Source ------------------------------------------------------------------------------------

    def open(self) -> Info:
        """Ask who is there, which every build tells, and choose the protocol by it.

        Raises:
            TransportError: no answer.
            IdentityError: another gateway, or another certificate.
            RefusedError: it says no.
            FrameError: a damaged answer, twice.
        """
        try:
            found = self._session.supervisor()
        finally:
            self._keep()
        serial = found.serial
        if self._config.serial is not None and serial != self._config.serial:
            self._link.forget()
            raise IdentityError(
                f"serial number {self._config.serial} is configured, the gateway has {serial}"
            )
        self._serial = serial
        build = found.identity["firmware_build"]
        self._build = build if isinstance(build, int) else None
        self._protocol = self._choose(found.identity["protocol"])
        self._memory.protocol = self._protocol
        if self._link.scheme == "https":
            self._memory.fingerprint = self._link.trust()
        self._memory.save()
        log.debug("%s: %s over %s", self._device, self._protocol, self._link.scheme)
        return Info(
            ts=clock.iso(clock.now()),
            family=FAMILY,
            manufacturer="SunPower",
            model=_word(found.identity["model"]),
            serial=serial,
            firmware=_word(found.identity["firmware"]),
            protocol=self._protocol,
            port=f"{self._link.scheme}://{self._config.host}",
            poll_interval_s=self._config.poll_interval_s,
        )

    def poll(self) -> Reading:
        """One round.

        Raises:
            TransportError: no answer.
            IdentityError: another gateway answers.
            RefusedError: it says no; it is asked who it is before the next round.
            FrameError: damaged, twice; or its answers stand still.
        """
        if self._protocol is None:
            self.open()
        began = clock.now()
        try:
            body = self._ask()
        except RefusedError:
            self._protocol = None
            raise
        finally:
            self._keep()
        snapshot = codec.read(
            body,
            roles={serial: each.role for serial, each in self._memory.known.items() if each.role},
            serial=self._serial,
            stale_after=self._stale_after,
        )
        gateway = snapshot.gateway
        if gateway is None:
            raise FrameError("shape", "the gateway does not name itself")
        if gateway.serial != self._serial:
            raise IdentityError(f"the gateway was {self._serial} and is {gateway.serial} now")
        self._compare_clock(snapshot.clock, began, clock.now())
        return self._reading(snapshot, gateway)

    def settings(self) -> dict[str, Value] | None:
        """It has none that the owner may set."""
        return None

    def flush(self) -> None:
        """Begin a new connection."""
        self._link.close()

    def close(self) -> None:
        """Drop the connection, and what was not confirmed about it."""
        self._link.forget()

    def _ask(self) -> dict[str, Any]:
        if self._protocol == "localapi":
            return self._session.variables(self._serial, self._build)
        return self._session.device_list()

    def _choose(self, by_build: Value) -> str:
        """The protocol: the owner's, the build's, the last one, or what the port suggests."""
        protocol = self._config.protocol
        if protocol == "auto":
            suggested = "localapi" if self._link.scheme == "https" else "dl_cgi"
            return _word(by_build) or self._memory.protocol or suggested
        return protocol

    def _keep(self) -> None:
        """Archive what was answered, and let the gateway go until the next round."""
        self._archive.keep(clock.now(), self._session.take_replies())
        self.counters["archive_errors"] = self._archive.errors
        self._link.close()

    # -- the reading -------------------------------------------------------------------------------

    def _compare_clock(self, told: datetime | None, began: datetime, ended: datetime) -> None:
        """How far the gateway's clock is off, and whether it goes at all.

        Raises:
            FrameError: ``stale``: it has stood still for too long.
        """
        if told is None:
            return
        if told == self._clock:
            if time.monotonic() - self._clock_seen > self._config.stale_after_s:
                raise FrameError("stale", f"its answers have stood still at {clock.iso(told)}")
            return
        self._clock, self._clock_seen = told, time.monotonic()
        early, late = (told - began).total_seconds(), (told - ended).total_seconds()
        self._offset_s = round(min(early, 0.0) or max(late, 0.0), 1)
        if abs(self._offset_s) < 2.0:  # it tells whole seconds
            self._offset_s = 0.0
        if abs(self._offset_s) <= TRUSTED_CLOCK_S:
            self._shift = timedelta()
        elif abs(self._offset_s - self._shift.total_seconds()) > TRUSTED_CLOCK_S / 2:
            self._shift = timedelta(seconds=self._offset_s)

    def _reading(self, snapshot: Snapshot, gateway: Device) -> Reading:
        self._tell(snapshot)
        devices = [
            each
            for each in snapshot.devices.values()
            if each.kind != codec.GATEWAY and self._is_wanted(each)
        ]
        inverters = [each for each in devices if each.kind == "inverter"]
        energies = {
            each.serial: energy
            for each in inverters
            if each.is_fresh and isinstance(energy := each.values["pv_energy_total_kwh"], float)
        }
        is_daylight = self._fleet.is_daylight(inverters)
        quality = {each.serial: self._fleet.suspects(each) for each in inverters if each.is_fresh}
        weak = self._fleet.weak(energies)
        members = {}
        for each in devices:
            known = self._know(each)
            if not each.is_fresh and self._was_seen(each.serial):
                continue  # it may be a hiccup: wait until its last report is old
            members[known.name] = self._member(
                each, known, is_daylight, quality.get(each.serial, {}), weak.get(each.serial)
            )
        members |= self._missing({each.serial for each in devices}, is_daylight)
        self._memory.save()
        sleeps = any(each.kind == "inverter" for each in self._memory.known.values())
        return Reading(
            gateway.values | {"device_clock_offset_s": self._offset_s},
            gateway.quality,
            self._time(gateway.ts),
            alarms=self._gateway_alarms(gateway),
            members=members,
            pause_s=self._config.night_interval_s if sleeps and not energies else 0.0,
        )

    def _member(
        self,
        each: Device,
        known: Known,
        is_daylight: bool,
        quality: dict[str, str],
        weak: float | None,
    ) -> Member:
        info = self._info(each.serial, known)
        if not each.is_fresh:
            state, reason = _absence(known.kind, each.ts, is_daylight)
            reading = Reading(each.values, each.quality, self._time(each.ts))
            return Member(info, state, reason, reading)
        ts = self._time(each.ts)
        if ts is not None:
            self._seen[each.serial] = ts
        alarms = {}
        if weak is not None:
            alarms["panel_weak"] = Condition(
                "warning",
                f"{known.name} gives less than its neighbours",
                f"Its energy of today is {100 * weak:.0f} % of the median of all panels.",
                round(100 * weak, 1),
                "Look for shade, dirt, or a fault of the panel or its inverter.",
                {"value": f"{100 * weak:.0f} %"},
            )
        return Member(info, reading=Reading(each.values, each.quality | quality, ts, alarms=alarms))

    def _missing(self, here: set[str], is_daylight: bool) -> dict[str, Member]:
        """Devices that are known and not listed: asleep, or gone."""
        result = {}
        for serial, known in self._memory.known.items():
            if serial in here or serial in self._config.ignore:
                continue
            if not self._was_seen(serial):
                state, reason = _absence(known.kind, self._seen.get(serial), is_daylight)
                result[known.name] = Member(self._info(serial, known), state, reason)
        return result

    def _was_seen(self, serial: str) -> bool:
        """Whether its last report is not old yet."""
        seen = self._seen.get(serial)
        return seen is not None and clock.now() - seen <= self._stale_after

    def _know(self, each: Device) -> Known:
        """What is remembered of a device; a new one gets its name here, for ever."""
        known = self._memory.known.get(each.serial)
        given = self._config.names
        if known is None:
            taken = self._taken | {other.name for other in self._memory.known.values()}
            name = name_of(each.serial, self._device, given, taken | set(given.values()))
            known = self._memory.known[each.serial] = Known(name, each.kind)
        known.name = given.get(each.serial, known.name)
        known.model = _word(each.identity.get("model")) or known.model
        known.firmware = _word(each.identity.get("firmware")) or known.firmware
        role = _word(each.values.get("meter_role"))
        known.role = role if each.is_fresh and role else known.role
        return known

    def _is_wanted(self, each: Device) -> bool:
        """Not what the owner took down, nor one number shown twice by a sudden hiccup."""
        plain = each.serial.partition("#")[0]
        return plain not in self._config.ignore and (
            plain == each.serial or plain not in self._memory.known
        )

    def _info(self, serial: str, known: Known) -> Info:
        return Info(
            ts=clock.iso(clock.now()),
            family=FAMILY,
            manufacturer="SunPower",
            model=known.model,
            serial=serial,
            firmware=known.firmware,
            protocol=self._protocol,
            through=self._device,
            poll_interval_s=self._config.poll_interval_s,
        )

    def _gateway_alarms(self, gateway: Device) -> dict[str, Condition]:
        alarms = {}
        if self._offset_s is not None and abs(self._offset_s) > CLOCK_ALARM_S:
            alarms["device_clock"] = Condition(
                "warning",
                f"The clock of {self._device} is wrong",
                f"It is off by {self._offset_s / 60:.0f} min; times are corrected by that much. "
                "It sets its clock over the internet: has it a connection?",
                self._offset_s,
            )
        used = gateway.values.get("flash_used_percent")
        if isinstance(used, float) and used > 90:
            alarms["flash_full"] = Condition(
                "warning",
                f"The memory of {self._device} is nearly full",
                f"{used:.0f} % of its flash is used; a gateway with a full flash does not start.",
                used,
            )
        return alarms

    def _time(self, ts: datetime | None) -> datetime | None:
        return None if ts is None else ts - self._shift

    def _tell(self, snapshot: Snapshot) -> None:
        """Say once what is there and not read, or cannot be told apart."""
        for kind in snapshot.unread:
            self._tell_once(f"a device of kind {kind} is not read")
        for serial in snapshot.repeated:
            self._tell_once(f"several devices have the serial number {serial}")

    def _tell_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s: %s", self._device, text)


def _absence(kind: str, last: datetime | None, is_daylight: bool) -> tuple[Any, str]:
    """State and reason of a device that does not report."""
    since = f"since {clock.iso(last)[:16].replace('T', ' ')} UTC" if last else "yet"
    if kind != "inverter":
        return "offline", f"not measured {since}"
    if is_daylight:
        return "offline", f"no report {since}, while the others produce"
    return "sleeping", f"no report {since}; the others produce nothing, either"


def _word(value: Value) -> str | None:
    return value if isinstance(value, str) else None
