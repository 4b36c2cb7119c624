"""The board: everything that *Now* shows, worked out once for all open pages.

Templates and scripts do no arithmetic: each text stands in the :class:`View`, and its slots are the
same texts by name, of which open pages get those that changed.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from astral import Observer
from astral.sun import sun
from sunmesh import clock
from sunmesh.config import Site
from sunmesh.vocabulary import VOCABULARY

from . import __version__, flow, words
from .config import WebConfig
from .energy import Books
from .house import GRID_PRESENT_V, Device, Freshness, House, combine
from .live import Live, State
from .queries import History, HistoryError
from .sentence import Lost, Situation, headline
from .streams import Stream, Streams

log = logging.getLogger(__name__)

TICK_S = 1.0
"""Without news the board is looked at this often: values grow old by themselves."""
PAUSE_S = 0.05
"""Least time between two events; a burst of messages becomes one."""
FACTS_S = 20.0
LEARN_S = 3 * 3600.0
SMOOTH_S = 300.0
"""Remaining hours are worked out from the power of the last minutes, not from a kettle."""
GRACE_S = 5.0
"""So long after the start nobody complains that the broker has not answered."""
BARS = 8
CHIEF = ("pv_power_w", "grid_power_w", "temperature_c", "battery_soc_percent")
"""What is said of a device in one line: the first of these that it has."""
DISAGREE_S = 60.0
"""Meters are read one after the other; only what lasts so long is a disagreement."""
NOTHING: Books = Books()
PLACES = {name: place for place, name in enumerate(VOCABULARY)}

TEST = ("notifier", "test")
"""The alarm that is none: it tries the ways to people."""

BROKEN = frozenset({"offline", "identity_mismatch"})

Look = Freshness | Literal["asleep"]
Level = Literal["info", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the database knows, read every few seconds."""

    books: Books = NOTHING
    yesterday: Books = NOTHING
    capacity_kwh: float | None = None
    grid_seen: int | None = None
    error: str = ""
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Banner:
    """Something to act on."""

    level: Level
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One value in words. ``quality``: empty, ``suspect``, ``stale`` or ``lost``."""

    key: str
    label: str
    text: str
    quality: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class MemberView:
    """One device that is read through another: its name, its chief value, its age."""

    name: str
    title: str
    key: str
    text: str
    ms: int
    period_ms: int
    freshness: Look
    last_seen: str


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device in words."""

    name: str
    title: str
    subtitle: str
    service: str
    ms: int
    period_ms: int
    freshness: Look
    status: str
    last_seen: str
    warnings: Sequence[str]
    notes: Sequence[str]
    rows: Sequence[Row]
    settings: Sequence[Row]
    settings_read: str
    identity: Sequence[Row]
    members: Sequence[MemberView] = ()


@dataclass(frozen=True, slots=True)
class BatteryView:
    """The battery tile. ``level`` is its fill, 0 to 100; empty where unknown."""

    soc: str
    level: str
    direction: str
    watts: str
    volts: str
    amperes: str
    autonomy: str
    usual: str
    source: str
    device: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One energy of the day. ``note``: where it comes from."""

    key: str
    label: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the page. Two views of one ``layout`` differ in slots only."""

    now_ms: int
    offset_s: int
    sentence: str
    state: Literal["data", "empty", "waiting"]
    banners: Sequence[Banner]
    devices: Sequence[DeviceView]
    bars: Sequence[DeviceView]
    bars_note: str
    picture: flow.Picture
    battery: BatteryView | None
    tiles: Sequence[Tile]
    today_note: str
    badge: str = ""
    layout: str = ""


def slots(view: View) -> dict[str, str]:
    """Every text of ``view`` that may change while its layout stays, by the name of its place."""
    result = {
        "sentence": view.sentence,
        "badge": view.badge,
        "bars": view.bars_note,
        "today": view.today_note,
        "spoken": view.picture.spoken,
    }
    for node in view.picture.nodes:
        key = f"node.{node.key}"
        result |= {
            f"{key}.title": node.title,
            f"{key}.text": node.text,
            f"{key}.note": node.note,
            f"{key}.state": node.state,
        }
    for edge in view.picture.edges:
        key = f"edge.{edge.key}"
        result |= {
            f"{key}.width": f"{edge.width:g}",
            f"{key}.state": f"{edge.direction} {edge.speed}",
        }
    if view.battery is not None:
        battery = view.battery
        result |= {
            "battery.soc": battery.soc,
            "battery.unit": "%" if battery.level else "",
            "battery.level": battery.level,
            "battery.direction": battery.direction,
            "battery.watts": battery.watts,
            "battery.volts": battery.volts,
            "battery.amperes": battery.amperes,
            "battery.autonomy": battery.autonomy,
            "battery.usual": battery.usual,
        }
    for tile in view.tiles:
        result |= {f"tile.{tile.key}": tile.text, f"tile.{tile.key}.note": tile.note}
    for device in view.devices:
        key = f"device.{device.name}"
        result |= {
            f"{key}.ms": str(device.ms),
            f"{key}.period": str(device.period_ms),
            f"{key}.state": device.freshness,
            f"{key}.status": device.status,
            f"{key}.seen": device.last_seen,
            f"{key}.settings": device.settings_read,
        }
        for row in (*device.rows, *device.settings):
            result |= {f"{key}.{row.key}": row.text, f"{key}.{row.key}.q": row.quality}
        for member in device.members:
            key = f"device.{member.name}"
            result |= {
                f"{key}.ms": str(member.ms),
                f"{key}.period": str(member.period_ms),
                f"{key}.state": member.freshness,
                f"{key}.seen": member.last_seen,
                f"{key}.{member.key}": member.text,
            }
    return result


class Board:
    """Puts live values and history together.

    Args:
        config: ``[web]``.
        site: where the house stands.
        live: what the mesh says.
        history: what the database knows.
    """

    def __init__(self, config: WebConfig, site: Site, live: Live, history: History) -> None:
        """Reads nothing yet."""
        self.config = config
        self.site = site
        self.zone = site.site.zone
        self.live = live
        self.history = history
        self.streams = Streams(config.streams)
        self.badge: Callable[[], str] = str
        """How many alarms nobody has seen; the alarms' book puts its own here."""
        self._facts = Facts()
        self._asked = time.monotonic()
        self._learned_at = float("-inf")
        self._capacity: float | None = None
        self._started = time.monotonic()
        self._smooth: tuple[int, float] | None = None
        self._agreed_at: datetime | None = None
        self._suns: dict[Any, tuple[datetime | None, datetime | None]] = {}
        self._lock = threading.Lock()
        self._sent: dict[str, str] = {}
        self._layout = ""
        self._now = 0
        self._offset = 0

    # -- facts ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read what the database knows. May take seconds where it does not answer."""
        now = self.live.now().astimezone(self.zone)
        try:
            today = self.history.day(now.date())
            yesterday = self.history.day(now.date() - timedelta(days=1))
            if time.monotonic() - self._learned_at > LEARN_S:
                self._capacity = self.history.capacity_kwh(now.date())
                self._learned_at = time.monotonic()
            seen = self._facts.grid_seen
            pair = today.roles.grid_voltage
            devices = self.live.devices(self.live.state())
            house = combine(devices, clock.epoch_ms(now), self.config.left_out)
            if pair is not None and house.grid_present is False and seen is None:
                seen = self.history.last_above(pair, GRID_PRESENT_V, clock.epoch_ms(now))
            elif house.grid_present:
                seen = None
            self._facts = Facts(today.books, yesterday.books, self._capacity, seen, ready=True)
        except HistoryError as err:
            if self._facts.error != str(err):
                log.warning("%s", err)
            self._facts = replace(self._facts, error=str(err), ready=True)
        except Exception:
            log.exception("today's books failed")
            self._facts = replace(
                self._facts, error="the day could not be summed up; the portal's log says why"
            )

    # -- the view ---------------------------------------------------------------------------------

    def view(self) -> View:
        """Everything on the page, as of now."""
        self._asked = time.monotonic()
        now = self.live.now().astimezone(self.zone)
        now_ms = clock.epoch_ms(now)
        state = self.live.state()
        everything = self.live.devices(state)
        devices = [device for device in everything if not device.behind]
        house = self._calm(combine(everything, now_ms, self.config.left_out), now)
        facts = self._facts
        lost_since = self.live.broker_lost_since()
        if time.monotonic() - self._started < GRACE_S and not self.live.connected:
            lost_since = None
        shown = [
            replace(
                self._device(device, state, now_ms),
                members=[
                    self._member(member, now_ms)
                    for member in everything
                    if member.behind == device.name
                ],
            )
            for device in devices
        ]
        full_at, empty_at, usual = self._ends(house, facts, now, now_ms, devices)
        sunrise, sunset = self._sun(now)
        sentence = headline(
            Situation(
                now=now,
                devices=len(devices),
                broker=lost_since is None,
                lost=[
                    lost for device in devices if (lost := self._lost(device, now_ms)) is not None
                ],
                has_pv=house.has_pv,
                has_battery=house.has_battery,
                has_grid=house.has_grid,
                pv_w=house.pv_w,
                load_w=house.load_w,
                battery_w=house.battery_w,
                battery_v=house.battery_v,
                soc=house.soc,
                grid_w=house.grid_w,
                grid_present=house.grid_present,
                grid_gone_since=(
                    words.local(facts.grid_seen, self.zone) if facts.grid_seen else None
                ),
                full_at=full_at,
                empty_at=empty_at,
                reserve=self.config.battery_reserve_percent,
                sunrise=sunrise,
                sunset=sunset,
                mode=house.mode,
            )
        )
        bars: Sequence[DeviceView] = shown
        if len(shown) > BARS:
            bars = [device for device in shown if device.freshness in ("late", "lost")][:BARS]
        fresh = sum(device.freshness == "fresh" for device in shown)
        heard = any(device.ms is not None for device in devices)
        view = View(
            now_ms=now_ms,
            offset_s=round((now.utcoffset() or timedelta()).total_seconds()),
            sentence=sentence,
            state="data" if heard else "waiting" if devices else "empty",
            banners=self._banners(state, everything, facts, lost_since, now),
            devices=shown,
            bars=bars,
            bars_note=f"{fresh} of {len(shown)} devices fresh" if len(shown) > BARS else "",
            picture=flow.picture(house),
            battery=self._battery(house, full_at, empty_at, usual, now),
            tiles=self._tiles(house, facts),
            today_note=self._today_note(facts),
            badge=self.badge(),
        )
        return replace(view, layout=_layout(view))

    def _calm(self, house: House, now: datetime) -> House:
        """``house`` without a disagreement that has not lasted yet."""
        if not house.disagrees or self._agreed_at is None or self._agreed_at > now:
            self._agreed_at = now
        if (now - self._agreed_at).total_seconds() < DISAGREE_S:
            return replace(house, residual_w=None)
        return house

    def _lost(self, device: Device, now_ms: int) -> Lost | None:
        name = words.title(device.name).lower()
        if device.state == "identity_mismatch":
            return Lost(name, "mismatch")
        if device.state == "sleeping" and device.freshness(now_ms) != "fresh":
            return Lost(name, "sleeping")
        if device.ms is None:
            return Lost(name, "never")
        if device.freshness(now_ms) == "lost":
            return Lost(name, "silent", words.local(_last_read(device), self.zone))
        return None

    def _device(self, device: Device, state: State, now_ms: int) -> DeviceView:
        memory = state.devices.get(device.name)
        info = memory.info if memory else None
        settings = memory.settings if memory else None
        freshness = _look(device, now_ms)
        now = words.local(now_ms, self.zone)
        seen = ""
        if freshness == "asleep":
            seen = "sleeps"
        elif device.ms is None:
            seen = f"never seen; look at {device.service}"
        elif freshness == "lost":
            moment = words.clock(words.local(_last_read(device), self.zone), now)
            seen = f"last seen {moment}; look at {device.service}"
        status = {
            "": "",
            "online": "",
            "sleeping": "sleeps",
            "offline": "does not answer",
            "identity_mismatch": "is another device than configured",
            "refusing": "refuses to answer",
        }.get(device.state, device.state)
        if device.reason and device.state != "online":
            status = f"{status}: {device.reason}"
        warnings, notes = _warnings(device.values)
        identity = []
        if info is not None:
            identity = [
                Row(key, label, str(text))
                for key, label, text in (
                    ("manufacturer", "Maker", info.manufacturer),
                    ("model", "Model", info.model),
                    ("serial", "Serial number", info.serial),
                    ("firmware", "Firmware", info.firmware),
                    ("protocol", "Protocol", info.protocol),
                    ("port", "Port", info.port),
                )
                if text
            ]
            identity += [
                Row(f"nameplate.{name}", words.label(name), words.value(name, value))
                for name, value in info.nameplate.items()
            ]
        subtitle = " ".join(
            text for text in ((info.manufacturer, info.model) if info else ()) if text
        )
        return DeviceView(
            name=device.name,
            title=words.title(device.name),
            subtitle=subtitle or device.family,
            service=device.service,
            ms=device.ms or 0,
            period_ms=round(device.period_s * 1000),
            freshness=freshness,
            status=status,
            last_seen=seen,
            warnings=warnings,
            notes=notes,
            rows=[
                Row(
                    name,
                    words.label(name),
                    words.value(name, value),
                    device.quality.get(name) or ("lost" if freshness in ("lost", "asleep") else ""),
                    words.meaning(name),
                )
                for name, value in sorted(device.values.items(), key=_by_vocabulary)
            ],
            settings=[
                Row(name, words.label(name), words.value(name, value), "", words.meaning(name))
                for name, value in sorted(
                    settings.values.items() if settings else (), key=_by_vocabulary
                )
            ],
            settings_read=(
                f"as read {words.clock(clock.parse(settings.ts).astimezone(self.zone), now)}"
                if settings
                else ""
            ),
            identity=identity,
        )

    def _member(self, device: Device, now_ms: int) -> MemberView:
        """One line for a device behind another."""
        key = next((name for name in CHIEF if name in device.values), "")
        if not key:
            key = next((n for n, v in device.values.items() if isinstance(v, int | float)), "none")
        value = device.values.get(key)
        freshness = _look(device, now_ms)
        now = words.local(now_ms, self.zone)
        seen = ""
        if freshness == "asleep":
            seen = "sleeps"
        elif device.ms is None:
            seen = "never seen"
        elif freshness == "lost":
            seen = f"last seen {words.clock(words.local(_last_read(device), self.zone), now)}"
        return MemberView(
            name=device.name,
            title=words.title(device.name),
            key=key,
            text=words.NONE if freshness in ("lost", "asleep") else words.value(key, value),
            ms=device.ms or 0,
            period_ms=round(device.period_s * 1000),
            freshness=freshness,
            last_seen=seen,
        )

    def _banners(
        self,
        state: State,
        devices: Sequence[Device],
        facts: Facts,
        lost_since: datetime | None,
        now: datetime,
    ) -> list[Banner]:
        """Broker, database, devices, services, alarms: each with what to do."""

        def at(moment: datetime) -> str:
            return words.clock(moment.astimezone(self.zone), now)

        result: list[Banner] = []
        broker = self.site.broker
        if lost_since is not None:
            result.append(
                Banner(
                    "critical",
                    "The broker does not answer",
                    f"No contact with {broker.host}:{broker.port} since {at(lost_since)}. "
                    "What stands here is the last that was heard. Look at mosquitto.",
                )
            )
        if facts.error:
            result.append(Banner("warning", "No history", facts.error.capitalize() + "."))
        for device in devices:
            if not device.behind:
                result += self._device_banner(device, state, lost_since, now)
                result += _members_banner(device, devices)
        for name, service in state.services.items():
            if service.state == "offline" and name != "web" and not name.startswith("collector-"):
                effect = {
                    "recorder": "Nothing is being stored now; the broker keeps it for later.",
                    "simulator": "The demo house stands still.",
                }.get(name, "")
                result.append(
                    Banner("warning", f"{name} is not running", f"{effect} Start it.".strip())
                )
        shown = {banner.title for banner in result}
        order = {"critical": 0, "warning": 1, "info": 2}
        open_keys = {key for key, alarm in state.alarms.items() if alarm.state == "raised"}
        raised = [
            (key, state.alarms[key])
            for key in open_keys - {TEST}
            # What follows from another alarm stands beneath it, on the page Alarms.
            if tuple((state.alarms[key].cause or "").split("/", 1)) not in open_keys
        ]
        raised.sort(key=lambda item: (order[item[1].severity], item[1].ts))
        offline = {d.name for d in devices if d.state in BROKEN}
        for (name, code), alarm in raised:
            if code == "offline" and name in offline:
                continue  # said above, with what to do
            if alarm.title not in shown:
                text = f"{alarm.text} Since {at(clock.parse(alarm.ts))}.".strip()
                result.append(Banner(alarm.severity, alarm.title, text))
        return result

    def _device_banner(
        self, device: Device, state: State, lost_since: datetime | None, now: datetime
    ) -> list[Banner]:
        """What is wrong with one device."""
        title = words.title(device.name)
        service = state.services.get(device.service)
        stopped = service is not None and service.state == "offline"
        hint = (
            f"{device.service} is not running: start it."
            if stopped
            else f"{device.service} keeps trying."
        )
        since = ""
        if device.since is not None:
            since = f" since {words.clock(words.local(device.since, self.zone), now)}"
        reason = f" ({device.reason})" if device.reason else ""
        if device.state == "identity_mismatch":
            return [
                Banner(
                    "critical",
                    f"{title}: another device answers",
                    f"{device.reason or 'The serial number is not the configured one'}. "
                    "Its values are not used. Swap the cables back, or correct site.toml.",
                )
            ]
        if device.state == "refusing":
            return [Banner("warning", f"{title} refuses", f"It answers, but with no{reason}.")]
        if lost_since is not None or device.state == "sleeping":
            return []
        if device.ms is None and device.state != "offline":
            text = (
                hint
                if stopped
                else f"{device.service} has not said anything of it. Does it run?"
                if service is None
                else f"{device.service} runs, but has not found it yet."
            )
            return [Banner("info", f"{title} has not reported yet", text)]
        if device.state == "offline":
            return [
                Banner("critical", f"{title} does not answer", f"Silent{since}{reason}. {hint}")
            ]
        if device.freshness(clock.epoch_ms(now)) == "lost":
            moment = words.clock(words.local(_last_read(device), self.zone), now)
            return [
                Banner(
                    "warning",
                    f"{title}: no data",
                    f"Last seen {moment}. " + (hint if stopped else f"Look at {device.service}."),
                )
            ]
        return []

    def _ends(
        self,
        house: House,
        facts: Facts,
        now: datetime,
        now_ms: int,
        devices: Sequence[Device],
    ) -> tuple[datetime | None, datetime | None, timedelta | None]:
        """When the battery is full, when it is empty, and how long it lasts at usual load."""
        power = house.battery_w
        if power is None:
            self._smooth = None
            return None, None, None
        newest = max((device.ms or 0 for device in devices), default=now_ms)
        if self._smooth is None:
            self._smooth = (newest, power)
        elif newest > self._smooth[0]:
            weight = 1 - 2 ** (-(newest - self._smooth[0]) / 1000 / SMOOTH_S)
            self._smooth = (newest, self._smooth[1] + weight * (power - self._smooth[1]))
        capacity = self.config.battery_kwh or facts.capacity_kwh
        if capacity is None or house.soc is None:
            return None, None, None
        mean = self._smooth[1]
        left = max(0.0, house.soc - self.config.battery_reserve_percent) / 100 * capacity
        room = (100 - house.soc) / 100 * capacity
        full_at = now + timedelta(hours=room * 1000 / -mean) if mean < -30 else None
        empty_at = now + timedelta(hours=left * 1000 / mean) if mean > 30 else None
        usual = None
        if facts.yesterday.load:
            usual = timedelta(hours=left / (facts.yesterday.load / 24))
        year = timedelta(days=365)
        return (
            full_at if full_at and full_at - now < year else None,
            empty_at if empty_at and empty_at - now < year else None,
            usual,
        )

    def _battery(
        self,
        house: House,
        full_at: datetime | None,
        empty_at: datetime | None,
        usual: timedelta | None,
        now: datetime,
    ) -> BatteryView | None:
        if not house.has_battery:
            return None
        power = house.battery_w
        reserve = f"{self.config.battery_reserve_percent:.0f}{words.HARD}%"
        autonomy = ""
        if empty_at is not None and power is not None and power > 30:
            autonomy = f"{words.duration(empty_at - now)} at this load, down to {reserve}"
        elif full_at is not None and power is not None and power < -30:
            autonomy = f"full in {words.duration(full_at - now)}"
        return BatteryView(
            soc=words.NONE if house.soc is None else words.number(house.soc, 0),
            level="" if house.soc is None else f"{min(100.0, max(0.0, house.soc)):.0f}",
            direction=(
                ""
                if power is None
                else "charging"
                if power < -flow.MOVING_W
                else "discharging"
                if power > flow.MOVING_W
                else "resting"
            ),
            watts=words.power(None if power is None else abs(power)),
            volts=words.value("battery_voltage_v", house.battery_v),
            amperes=words.value(
                "battery_current_a", None if house.battery_a is None else abs(house.battery_a)
            ),
            autonomy=autonomy,
            usual=f"{words.duration(usual)} at usual load" if usual else "",
            source=words.title(house.soc_source) if house.soc_source else "",
            device=house.soc_source,
        )

    def _tiles(self, house: House, facts: Facts) -> list[Tile]:
        """Today's energies, only of what exists here."""
        books = facts.books

        def tile(key: str, label: str, value: float | None) -> Tile:
            text = words.energy(value)
            estimate = books.is_estimate(key)
            return Tile(key, label, f"≈{words.HARD}{text}" if estimate else text, books.note(key))

        result = []
        if house.has_pv or books.pv is not None:
            result.append(tile("pv", "Sun", books.pv))
        if house.has_load or books.load is not None:
            result.append(tile("load", "House", books.load))
        if house.has_battery or books.battery_in is not None:
            result.append(tile("battery_in", "Into battery", books.battery_in))
            result.append(tile("battery_out", "Out of battery", books.battery_out))
        if house.has_grid or books.grid_in is not None:
            result.append(tile("grid_in", "From grid", books.grid_in))
        if books.grid_out is not None:
            result.append(tile("grid_out", "To grid", books.grid_out))
        if result and (house.has_grid or books.grid_in is not None):
            result.append(
                Tile("autarky", "Autarky", words.percent(books.autarky), "not from the grid")
            )
        return result

    @staticmethod
    def _today_note(facts: Facts) -> str:
        if facts.error:
            return "no history now"
        if not facts.ready:
            return "being summed up"
        return "" if facts.books.how else "nothing recorded yet"

    def _sun(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        """Next sunrise and next sunset; None without coordinates or in the polar night."""
        place = self.site.site
        if place.latitude is None or place.longitude is None:
            return None, None
        found: list[datetime | None] = []
        for index in (0, 1):
            times = [
                moment
                for days in (0, 1)
                if (moment := self._suns_of(now.date() + timedelta(days=days))[index]) is not None
                and moment > now
            ]
            found.append(min(times, default=None))
        return found[0], found[1]

    def _suns_of(self, day: Any) -> tuple[datetime | None, datetime | None]:  # noqa: ANN401
        if day not in self._suns:
            if len(self._suns) > 8:
                self._suns.clear()
            place = self.site.site
            result: tuple[datetime | None, datetime | None] = (None, None)
            with suppress(ValueError):
                times = sun(
                    Observer(place.latitude or 0.0, place.longitude or 0.0),
                    date=day,
                    tzinfo=self.zone,
                )
                result = (times["sunrise"], times["sunset"])
            self._suns[day] = result
        return self._suns[day]

    # -- open pages -------------------------------------------------------------------------------

    def full(self, view: View | None = None) -> bytes:
        """Everything, as JSON: what a page needs that just came (back)."""
        view = view or self.view()
        return msgspec.json.encode(
            {
                "now": view.now_ms,
                "offset": view.offset_s,
                "layout": view.layout,
                "slots": slots(view),
            }
        )

    def open(self) -> Stream | None:
        """A stream that begins with everything; None when there are too many."""
        with self._lock:
            self._publish()
            stream = self.streams.open()
            if stream is not None:
                stream.put(b"event: full\ndata: " + self._full_of_sent() + b"\n\n")
        return stream

    def _full_of_sent(self) -> bytes:
        return msgspec.json.encode(
            {
                "now": self._now,
                "offset": self._offset,
                "layout": self._layout,
                "slots": self._sent,
            }
        )

    def _publish(self) -> None:
        """Tell open pages what changed since the last time."""
        view = self.view()
        self._now, self._offset = view.now_ms, view.offset_s
        current = slots(view)
        changed = {key: text for key, text in current.items() if self._sent.get(key) != text}
        if not changed and view.layout == self._layout:
            return
        self._sent, self._layout = current, view.layout
        event = msgspec.json.encode(
            {"now": view.now_ms, "offset": view.offset_s, "layout": view.layout, "slots": changed}
        )
        self.streams.send(b"event: patch\ndata: " + event + b"\n\n")

    def serve(self, stop: threading.Event) -> None:
        """Keep open pages up to date until ``stop``."""
        seen = 0
        while not stop.is_set():
            seen = self.live.wait(seen, TICK_S)
            if self.streams.count("now"):
                try:
                    with self._lock:
                        self._publish()
                except Exception:
                    log.exception("the board failed")
                stop.wait(PAUSE_S)

    def keep_facts(self, stop: threading.Event) -> None:
        """Keep today's books up to date until ``stop``, while somebody looks."""
        while not stop.is_set():
            if time.monotonic() - self._asked < 3 * FACTS_S:
                self.refresh()
                self.live.wake()
            stop.wait(FACTS_S if not self._facts.error else FACTS_S / 4)


def _members_banner(owner: Device, devices: Sequence[Device]) -> list[Banner]:
    """One banner for all devices that are lost behind one that answers."""
    members = [device for device in devices if device.behind == owner.name]
    lost = [device for device in members if device.state in BROKEN]
    if not lost or owner.state in BROKEN:
        return []
    names = ", ".join(words.title(device.name) for device in lost[:6])
    more = f" and {len(lost) - 6} more" if len(lost) > 6 else ""
    return [
        Banner(
            "warning",
            f"{len(lost)} of {len(members)} devices behind {words.title(owner.name)} "
            f"{'does' if len(lost) == 1 else 'do'} not answer",
            f"{names}{more}. {lost[0].reason}".strip() + ("." if lost[0].reason else ""),
        )
    ]


def _by_vocabulary(item: tuple[str, object]) -> int:
    """Values in the order of the vocabulary: sun, battery, house, grid; unknown ones last."""
    return PLACES.get(item[0], len(PLACES))


def _look(device: Device, now_ms: int) -> Look:
    """How fresh a device looks: one that sleeps is not lost."""
    if device.state == "sleeping" and device.freshness(now_ms) != "fresh":
        return "asleep"
    return device.freshness(now_ms)


def _last_read(device: Device) -> int:
    """When a device's values were last read: an offline device's last sample only says so."""
    if device.ms is None:
        return device.since or 0
    if device.state == "offline" and device.since is not None:
        return min(device.ms, device.since)
    return device.ms


def _warnings(values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Warnings in words, and what is only worth a note."""
    codes: list[str] = []
    for name in ("faults", "warnings"):
        listed = values.get(name)
        if isinstance(listed, list):
            codes += [code for code in listed if isinstance(code, str) and code not in codes]
    fault = values.get("fault_code")
    texts = [words.code(code) for code in codes if code not in words.QUIET_WARNINGS]
    if isinstance(fault, int | float) and fault:
        texts.append(f"fault code {fault:.0f}")
    return texts, [words.code(code) for code in codes if code in words.QUIET_WARNINGS]


def _layout(view: View) -> str:
    """A mark that changes when a page must be built anew: other nodes, rows, banners."""
    parts: list[object] = [__version__, view.state, view.battery is None]
    parts += [(banner.level, banner.title, banner.text) for banner in view.banners]
    parts += [node.key for node in view.picture.nodes]
    parts += [tile.key for tile in view.tiles]
    parts += [bar.name for bar in view.bars]
    for device in view.devices:
        parts.append((device.name, device.subtitle, tuple(device.warnings), tuple(device.notes)))
        parts.append(tuple(row.key for row in (*device.rows, *device.settings)))
        parts.append(tuple((row.key, row.text) for row in device.identity))
        parts.append(tuple((member.name, member.key) for member in device.members))
    return hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()
