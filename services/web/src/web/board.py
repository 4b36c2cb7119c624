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
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

import msgspec
from astral import Observer
from astral.sun import sun
from sunmesh import clock
from sunmesh.config import Site
from sunmesh.messages import Severity
from sunmesh.vocabulary import VOCABULARY

from . import __version__, flow, sofar, text, told, words
from .config import WebConfig
from .energy import Books
from .house import GRID_PRESENT_V, Device, House, combine
from .live import Live, State
from .queries import BUCKET_MS, Day, History, HistoryError, explain
from .sentence import Lost, Situation, headline
from .streams import Stream, Streams, event_bytes
from .text import N_, _, ngettext
from .things import Look, look

log = logging.getLogger(__name__)

TICK_S = 1.0
"""Without news the board is looked at this often: values grow old by themselves."""
PAUSE_S = 0.05
"""Least time between two events; a burst of messages becomes one."""
FACTS_S = 20.0
LEARN_S = 3 * 3600.0
COULD_S = 120.0
SMOOTH_S = 300.0
"""Remaining hours are worked out from the power of the last minutes, not from a kettle."""
GRACE_S = 5.0
"""So long after the start nobody complains that the broker has not answered."""
CONTROLLER = "controller"
AUTOMATICS = 3
"""So many rules are told on *Now*; the page Rules has all."""
BARS = 8
DISAGREE_S = 60.0
"""Meters are read one after the other; only what lasts so long is a disagreement."""
NOTHING: Books = Books()
PLACES = {name: place for place, name in enumerate(VOCABULARY)}

LOST = "device_lost"
"""The alarm of a device that does not answer, which is said with more of it than an alarm has."""
TEST = ("notifier", "test")
"""The alarm that is none: it tries the ways to people."""

BROKEN = frozenset({"offline", "identity_mismatch"})

UNHEALTHY_SPREAD_V = 0.05
"""Cells further apart are said of the battery; closer ones are of no interest on *Now*."""
SOURCES = {
    "bms": ("B", N_("as the battery's own management says")),
    "pl80": ("S", N_("as the charge controller counts")),
    "axpert": ("I", N_("as the inverter guesses from the voltage")),
    "group": ("G", N_("of all packs together")),
}
"""Who says the state of charge: a letter, and what it stands for."""
IDLE = {
    "recorder": N_("Nothing is being stored now; the broker keeps it for later. Start it."),
    "simulator": N_("The demo house stands still. Start it."),
    "controller": N_("No rule acts now; what it switched falls back to its safe state. Start it."),
    "notifier": N_("Nobody is told of alarms now, but who looks here. Start it."),
    "watch": N_("No alarm is raised now. Start it."),
    "bookkeeper": N_("Energy is booked later, once it runs again. Start it."),
}
ANY_IDLE = N_("Start it.")
"""What it means that a service does not run."""
CHANNEL = "now."
"""Open pages hear of *Now* under this name and their language."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the database knows, read every few seconds."""

    books: Books = NOTHING
    yesterday: Books = NOTHING
    capacity_kwh: float | None = None
    grid_seen: int | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    """Yesterday's energies up to this time of day [kWh]."""
    could_w: float | None = None
    """What the panels could give, while the battery is full."""
    error: str = ""
    cause: Exception | None = None
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Banner:
    """Something to act on. ``link``: the endpoint where that is done, with its arguments."""

    level: Severity
    title: str
    text: str
    link: tuple[str, Mapping[str, str]] | None = None
    action: str = ""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """How fresh a device is, and whether it complains; all that it says is on its own page."""

    name: str
    title: str
    service: str
    ms: int
    period_ms: int
    freshness: Look
    last_seen: str
    warnings: str = ""
    quality: Mapping[str, str] = field(default_factory=dict)


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
    letter: str = ""
    says: str = ""
    spread: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the day.

    Attributes:
        note: where it comes from, and what it was yesterday by this time.
        change: how far it is from that, with its sign; empty where that is not known.
        trend: the same without numbers.
    """

    key: str
    label: str
    text: str
    note: str = ""
    change: str = ""
    trend: Literal["", "more", "less", "same"] = ""


@dataclass(frozen=True, slots=True)
class Automatic:
    """A rule that acts, or would."""

    name: str
    title: str
    mode: str
    text: str


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
    surplus: str = ""
    automatics: Sequence[Automatic] = ()
    badge: str = ""
    layout: str = ""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What open pages of one language show."""

    now: int = 0
    offset: int = 0
    layout: str = ""
    slots: Mapping[str, str] = field(default_factory=dict)


def slots(view: View) -> dict[str, str]:
    """Every text of ``view`` that may change while its layout stays, by the name of its place."""
    result = {
        "sentence": view.sentence,
        "badge": view.badge,
        "bars": view.bars_note,
        "today": view.today_note,
        "spoken": view.picture.spoken,
        "surplus": view.surplus,
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
            "battery.letter": battery.letter,
            "battery.spread": battery.spread,
            "battery.level": battery.level,
            "battery.direction": battery.direction,
            "battery.watts": battery.watts,
            "battery.volts": battery.volts,
            "battery.amperes": battery.amperes,
            "battery.autonomy": battery.autonomy,
            "battery.usual": battery.usual,
        }
    for tile in view.tiles:
        key = f"tile.{tile.key}"
        result |= {
            key: tile.text,
            f"{key}.note": tile.note,
            f"{key}.change": tile.change,
            f"{key}.trend": tile.trend,
        }
    for rule in view.automatics:
        result[f"rule.{rule.name}"] = rule.text
    for device in view.devices:
        key = f"device.{device.name}"
        result |= {
            f"{key}.ms": str(device.ms),
            f"{key}.period": str(device.period_ms),
            f"{key}.state": device.freshness,
            f"{key}.seen": device.last_seen,
            f"{key}.warnings": device.warnings,
        }
    for name, quantity in _pointed(view):
        owner = next((each for each in view.devices if each.name == name), None)
        if owner is not None:
            old = "lost" if owner.freshness in ("lost", "asleep") else ""
            result[f"device.{name}.{quantity}.q"] = owner.quality.get(quantity) or old
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
        self.failures: Callable[[], Sequence[Banner]] = tuple
        """What was asked for and not done; the controls put their own here."""
        self.worth: Callable[[date, datetime], Tile | None] = _nothing
        """What the day came to in money by now; whoever knows tariffs puts it here."""
        self._facts = Facts()
        self._asked = time.monotonic()
        self._learned_at = float("-inf")
        self._capacity: float | None = None
        self._started = time.monotonic()
        self._smooth: tuple[int, float] | None = None
        self._agreed_at: datetime | None = None
        self._suns: dict[Any, tuple[datetime | None, datetime | None]] = {}
        self._lock = threading.Lock()
        self._sent: dict[str, _Sent] = {}
        self._could: tuple[float, float | None] = (float("-inf"), None)

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
            self._facts = Facts(
                today.books,
                yesterday.books,
                self._capacity,
                seen,
                self.so_far(yesterday, yesterday.start + clock.epoch_ms(now) - today.start),
                self._could_give(today, house, clock.epoch_ms(now)),
                ready=True,
            )
        except HistoryError as err:
            if self._facts.error != str(err):
                log.warning("%s", err)
            cause = err.__cause__ if isinstance(err.__cause__, Exception) else None
            self._facts = replace(self._facts, error=str(err), cause=cause, ready=True)
        except Exception:
            log.exception("today's books failed")
            self._facts = replace(
                self._facts, error=N_("the day could not be summed up; the portal's log says why")
            )

    def so_far(self, day: Day, end: int) -> Mapping[str, float]:
        """A day's energies before ``end`` [ms]: of the books, else of its points."""
        end = min(end, day.end)
        if day.books.flags:
            with suppress(HistoryError), self.history.reading() as connection:
                return sofar.booked(connection, day.start, end)
        return sofar.summed(day.points, end)

    def _could_give(self, today: Day, house: House, now: int) -> float | None:
        """What the panels could give; asked now and then, and only while the battery is full."""
        since = sofar.full_since(today.points)
        if since is None or (house.soc or 0.0) < sofar.LEFT_PERCENT:
            return None
        asked, could = self._could
        if time.monotonic() - asked > COULD_S:
            with suppress(HistoryError), self.history.reading() as connection:
                start = since - sofar.COMPARED_MS - BUCKET_MS
                best = sofar.best_days(connection, start, now + BUCKET_MS)
                could = sofar.could_give(best, today.points, now)
            self._could = (time.monotonic(), could)
        return could

    def facts(self) -> Facts:
        """What the database knew a moment ago; it is kept up to date while somebody asks."""
        self._asked = time.monotonic()
        return self._facts

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
        shown = [self._device(device, now_ms) for device in devices]
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
            bars_note=(
                _("%(fresh)s of %(all)s devices fresh", fresh=fresh, all=len(shown))
                if len(shown) > BARS
                else ""
            ),
            picture=flow.picture(house),
            battery=self._battery(house, devices, full_at, empty_at, usual, now),
            tiles=self._tiles(house, facts, now),
            today_note=self._today_note(facts),
            surplus=self._surplus(house, facts),
            automatics=self._automatics(state),
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
        name = words.named(device.name)
        if device.state == "identity_mismatch":
            return Lost(name, "mismatch")
        if device.state == "sleeping" and device.freshness(now_ms) != "fresh":
            return Lost(name, "sleeping")
        if device.ms is None:
            return Lost(name, "never")
        if device.freshness(now_ms) == "lost":
            return Lost(name, "silent", words.local(_last_read(device), self.zone))
        return None

    def _device(self, device: Device, now_ms: int) -> DeviceView:
        """One device in words."""
        freshness = look(device, now_ms)
        now = words.local(now_ms, self.zone)
        seen = ""
        if freshness == "asleep":
            seen = _("sleeps")
        elif device.ms is None:
            seen = _("never seen; look at %(service)s", service=device.service)
        elif freshness == "lost":
            moment = words.clock(words.local(_last_read(device), self.zone), now)
            seen = _("last seen %(when)s; look at %(service)s", when=moment, service=device.service)
        count = len(_warnings(device.values)) if freshness in ("fresh", "late") else 0
        return DeviceView(
            name=device.name,
            title=words.title(device.name),
            service=device.service,
            ms=device.ms or 0,
            period_ms=round(device.period_s * 1000),
            freshness=freshness,
            last_seen=seen,
            warnings=ngettext("%(num)d warning", "%(num)d warnings", count) if count else "",
            quality=device.quality,
        )

    def _banners(
        self,
        state: State,
        devices: Sequence[Device],
        facts: Facts,
        lost_since: datetime | None,
        now: datetime,
    ) -> list[Banner]:
        """Broker, database, devices, services, alarms, orders: each with what to do."""

        def at(moment: datetime) -> str:
            return words.clock(moment.astimezone(self.zone), now)

        result: list[Banner] = []
        broker = self.site.broker
        if lost_since is not None:
            result.append(
                Banner(
                    "critical",
                    _("The broker does not answer"),
                    _(
                        "No contact with %(address)s since %(when)s. What stands here is the last "
                        "that was heard. Look at mosquitto.",
                        address=f"{broker.host}:{broker.port}",
                        when=at(lost_since),
                    ),
                )
            )
        if facts.error:
            result.append(Banner("warning", _("No history"), words.sentence(self._why(facts))))
        for device in devices:
            if not device.behind:
                result += self._device_banner(device, state, lost_since, now)
                result += _members_banner(device, devices)
        for name, service in state.services.items():
            if service.state == "offline" and name != "web" and not name.startswith("collector-"):
                title = _("%(service)s is not running", service=name)
                result.append(Banner("warning", title, _(IDLE.get(name, ANY_IDLE))))
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
            if code in ("offline", LOST) and name in offline:
                continue  # said above, with what to do
            own = told.tell(alarm, name, code)
            title = own.title
            if title in shown:
                continue
            if text.language() != text.DEFAULT:
                title = f"{words.title(name)}: {title}"
            since = _("Since %(when)s.", when=at(clock.parse(alarm.since or alarm.ts)))
            said = f"{words.sentence(own.text)} {since}".strip()
            link = ("alarms.page", {"_anchor": "open"})
            result.append(Banner(alarm.severity, title, said, link, N_("Alarms")))
        return [*result, *self.failures()]

    def _why(self, facts: Facts) -> str:
        """Why there is no history, in the language of who reads it."""
        cause = facts.cause
        return explain(self.site.database.sqlalchemy_url(), cause) if cause else _(facts.error)

    def _device_banner(
        self, device: Device, state: State, lost_since: datetime | None, now: datetime
    ) -> list[Banner]:
        """What is wrong with one device."""
        title = words.title(device.name)
        service = state.services.get(device.service)
        stopped = service is not None and service.state == "offline"
        hint = (
            _("%(service)s is not running: start it.", service=device.service)
            if stopped
            else _("%(service)s keeps trying.", service=device.service)
        )
        if device.state == "identity_mismatch":
            reason = device.reason or _("the serial number is not the configured one")
            advice = _("Its values are not used. Swap the cables back, or correct site.toml.")
            return [
                Banner(
                    "critical",
                    _("%(device)s: another device answers", device=title),
                    f"{words.sentence(reason)} {advice}",
                )
            ]
        if device.state == "refusing":
            return [
                Banner(
                    "warning",
                    _("%(device)s refuses", device=title),
                    _("It answers, but with no (%(reason)s).", reason=device.reason)
                    if device.reason
                    else _("It answers, but with no."),
                )
            ]
        if lost_since is not None or device.state == "sleeping":
            return []
        if device.ms is None and device.state != "offline":
            said = (
                hint
                if stopped
                else _(
                    "%(service)s has not said anything of it. Does it run?", service=device.service
                )
                if service is None
                else _("%(service)s runs, but has not found it yet.", service=device.service)
            )
            return [Banner("info", _("%(device)s has not reported yet", device=title), said)]
        if device.state == "offline":
            when = words.clock(words.local(device.since or 0, self.zone), now)
            silent = (
                _("Silent since %(when)s (%(reason)s).", when=when, reason=device.reason)
                if device.reason
                else _("Silent since %(when)s.", when=when)
            )
            return [
                Banner(
                    "critical", _("%(device)s does not answer", device=title), f"{silent} {hint}"
                )
            ]
        if device.freshness(clock.epoch_ms(now)) == "lost":
            moment = words.clock(words.local(_last_read(device), self.zone), now)
            seen = _("Last seen %(when)s.", when=moment)
            advice = hint if stopped else _("Look at %(service)s.", service=device.service)
            return [Banner("warning", _("%(device)s: no data", device=title), f"{seen} {advice}")]
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
        devices: Sequence[Device],
        full_at: datetime | None,
        empty_at: datetime | None,
        usual: timedelta | None,
        now: datetime,
    ) -> BatteryView | None:
        if not house.has_battery:
            return None
        power = house.battery_w
        reserve = text.percent(self.config.battery_reserve_percent / 100)
        autonomy = ""
        if empty_at is not None and power is not None and power > 30:
            autonomy = _(
                "%(span)s at this load, down to %(reserve)s",
                span=words.duration(empty_at - now),
                reserve=reserve,
            )
        elif full_at is not None and power is not None and power < -30:
            autonomy = _("full in %(span)s", span=words.duration(full_at - now))
        family = next((d.family for d in devices if d.name == house.soc_source), "")
        letter, says = SOURCES.get(family, ("", ""))
        return BatteryView(
            soc=words.NONE if house.soc is None else text.number(house.soc, 0),
            level="" if house.soc is None else f"{min(100.0, max(0.0, house.soc)):.0f}",
            direction=(
                ""
                if power is None
                else _("charging")
                if power < -flow.MOVING_W
                else _("discharging")
                if power > flow.MOVING_W
                else _("resting")
            ),
            watts=words.power(None if power is None else abs(power)),
            volts=words.value("battery_voltage_v", house.battery_v),
            amperes=words.value(
                "battery_current_a", None if house.battery_a is None else abs(house.battery_a)
            ),
            autonomy=autonomy,
            usual=_("%(span)s at usual load", span=words.duration(usual)) if usual else "",
            source=words.title(house.soc_source) if house.soc_source else "",
            device=house.soc_source,
            letter=letter,
            says=_(says) if says else "",
            spread=_spread(devices, clock.epoch_ms(now)),
        )

    def _tiles(self, house: House, facts: Facts, now: datetime) -> list[Tile]:
        """Today's energies, only of what exists here, each beside yesterday's by this time."""
        books, before = facts.books, facts.before

        def tile(key: str, label: str, value: float | None) -> Tile:
            shown = words.energy(value)
            if books.is_estimate(key):
                shown = f"≈{words.HARD}{shown}"
            then = before.get(key)
            return Tile(
                key,
                label,
                shown,
                _beside(books.note(key), words.energy(then) if then is not None else ""),
                _signed(value, then, words.energy),
                _trend(value, then),
            )

        result = []
        if house.has_pv or books.pv is not None:
            result.append(tile("pv", _("Sun"), books.pv))
        if house.has_load or books.load is not None:
            result.append(tile("load", _("House"), books.load))
        if house.has_battery or books.battery_in is not None:
            result.append(tile("battery_in", _("Into the battery"), books.battery_in))
            result.append(tile("battery_out", _("Out of the battery"), books.battery_out))
        if house.has_grid or books.grid_in is not None:
            result.append(tile("grid_in", _("From the grid"), books.grid_in))
        if books.grid_out is not None:
            result.append(tile("grid_out", _("To the grid"), books.grid_out))
        if result and (house.has_grid or books.grid_in is not None):
            share = books.autarky
            then = Books(load=before.get("load"), grid_in=before.get("grid_in")).autarky
            past = text.percent(then) if then is not None else ""
            result.append(
                Tile(
                    "autarky",
                    _("Autarky"),
                    text.percent(share),
                    _beside(_("not from the grid"), past),
                    _signed(share, then, text.percent),
                    _trend(share, then),
                )
            )
        worth = self.worth(now.date(), now) if result else None
        return [*result, worth] if worth is not None else result

    @staticmethod
    def _today_note(facts: Facts) -> str:
        if facts.error:
            return _("no history now")
        if not facts.ready:
            return _("being summed up")
        if not facts.books.how:
            return _("nothing recorded yet")
        return _("beside yesterday by this time") if facts.before else ""

    @staticmethod
    def _surplus(house: House, facts: Facts) -> str:
        left = sofar.surplus(facts.could_w, house.pv_w, house.grid_w)
        # To the hundred: it is a guess, and must not flicker.
        return (
            "" if left is None else _("Surplus now: %(watts)s", watts=words.power(_hundred(left)))
        )

    @staticmethod
    def _automatics(state: State) -> list[Automatic]:
        """The rules that hold something now, or would."""
        memory = state.devices.get(CONTROLLER)
        modes = memory.settings.values if memory and memory.settings else {}
        found = []
        for name, decision in state.decisions.items():
            mode = str(modes.get(f"rule.{name}") or decision.mode)
            if modes.get("mode", mode) == "off" or mode == "off" or not decision.wants:
                continue
            if "shadow" in (mode, modes.get("mode")):
                mode = "shadow"
            said = words.sentence(decision.why.strip() or decision.says)
            found.append(Automatic(name, words.title(name), mode, said))
        found.sort(key=lambda rule: (rule.mode != "on", rule.name))
        return found[:AUTOMATICS]

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
        texts = slots(view)
        return _encoded(_Sent(view.now_ms, view.offset_s, view.layout, texts), texts)

    def open(self) -> Stream | None:
        """A stream in the language spoken, that begins with everything; None = too many."""
        channel = f"{CHANNEL}{text.language()}"
        with self._lock:
            sent = self._publish(channel)
            stream = self.streams.open(channel)
            if stream is not None:
                stream.put(event_bytes("full", _encoded(sent, sent.slots)))
        return stream

    def _publish(self, channel: str) -> _Sent:
        """Tell the open pages of the language spoken what changed; what they show now."""
        view = self.view()
        before = self._sent.get(channel, _Sent())
        sent = _Sent(view.now_ms, view.offset_s, view.layout, slots(view))
        self._sent[channel] = sent
        changed = {key: said for key, said in sent.slots.items() if before.slots.get(key) != said}
        if changed or sent.layout != before.layout:
            self.streams.send(event_bytes("patch", _encoded(sent, changed)), channel)
        return sent

    def _publish_all(self) -> None:
        """Tell all open pages, each in its language."""
        open_ = sorted(each for each in self.streams.channels() if each.startswith(CHANNEL))
        for gone in self._sent.keys() - open_:
            self._sent.pop(gone)
        for channel in open_:
            with text.use(channel.removeprefix(CHANNEL)):
                self._publish(channel)

    def serve(self, stop: threading.Event) -> None:
        """Keep open pages up to date until ``stop``."""
        seen = 0
        while not stop.is_set():
            seen = self.live.wait(seen, TICK_S)
            if any(channel.startswith(CHANNEL) for channel in self.streams.channels()):
                try:
                    with self._lock:
                        self._publish_all()
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


def _nothing(_day: date, _now: datetime) -> Tile | None:
    """Nobody knows what a day is worth."""
    return None


def _encoded(sent: _Sent, texts: Mapping[str, str]) -> bytes:
    return msgspec.json.encode(
        {"now": sent.now, "offset": sent.offset, "layout": sent.layout, "slots": texts}
    )


def _trend(value: float | None, before: float | None) -> Literal["", "more", "less", "same"]:
    """Whether it is more than before; a twentieth is no difference."""
    if value is None or before is None:
        return ""
    if abs(value - before) <= 0.05 * max(abs(value), abs(before)):
        return "same"
    return "more" if value > before else "less"


def _signed(value: float | None, before: float | None, write: Callable[[float | None], str]) -> str:
    """How far a figure is from what it was, with its sign; empty where one is not known."""
    if value is None or before is None:
        return ""
    said = write(value - before)
    return f"+{said}" if value > before and any(c in "123456789" for c in said) else said


def _beside(note: str, before: str) -> str:
    """Where a figure comes from, and what it was yesterday, each on a line."""
    past = _("Yesterday by this time: %(amount)s", amount=before) if before else ""
    return "\n".join(part for part in (note, past) if part)


def _hundred(watts: float) -> float:
    return round(watts / 100) * 100.0


def _spread(devices: Sequence[Device], now_ms: int) -> str:
    """How far cells are apart, where that is more than it should be."""
    found = [
        float(spread)
        for device in devices
        if device.freshness(now_ms) != "lost"
        and isinstance(spread := device.values.get("cell_voltage_spread_v"), int | float)
    ]
    worst = max(found, default=0.0)
    if worst < UNHEALTHY_SPREAD_V:
        return ""
    return _("Cells are %(volts)s apart", volts=words.value("cell_voltage_spread_v", worst))


def _members_banner(owner: Device, devices: Sequence[Device]) -> list[Banner]:
    """One banner for all devices that are lost behind one that answers."""
    members = [device for device in devices if device.behind == owner.name]
    lost = [device for device in members if device.state in BROKEN]
    if not lost or owner.state in BROKEN:
        return []
    names = ", ".join(words.title(device.name) for device in lost[:6])
    if len(lost) > 6:
        names = ngettext(
            "%(names)s and %(num)d more", "%(names)s and %(num)d more", len(lost) - 6, names=names
        )
    title = ngettext(
        "%(num)d of %(all)s devices behind %(owner)s does not answer",
        "%(num)d of %(all)s devices behind %(owner)s do not answer",
        len(lost),
        all=len(members),
        owner=words.title(owner.name),
    )
    return [Banner("warning", title, f"{names}. {words.sentence(lost[0].reason)}".strip())]


def _last_read(device: Device) -> int:
    """When a device's values were last read: an offline device's last sample only says so."""
    if device.ms is None:
        return device.since or 0
    if device.state == "offline" and device.since is not None:
        return min(device.ms, device.since)
    return device.ms


def _warnings(values: Mapping[str, Any]) -> list[str]:
    """Codes of what a device complains of; what is so every night is left out."""
    codes: list[str] = []
    for name in ("faults", "warnings"):
        listed = values.get(name)
        if isinstance(listed, list):
            codes += [code for code in listed if isinstance(code, str) and code not in codes]
    fault = values.get("fault_code")
    found = [code for code in codes if code not in words.QUIET_WARNINGS]
    if isinstance(fault, int | float) and fault:
        found.append(f"fault {fault:.0f}")
    return found


def _pointed(view: View) -> list[tuple[str, str]]:
    """Device and quantity of the values that say where they come from."""
    found = [(node.device, node.quantity) for node in view.picture.nodes if node.device]
    if view.battery is not None and view.battery.device:
        found.append((view.battery.device, "battery_soc_percent"))
    return found


def _layout(view: View) -> str:
    """A mark that changes when a page must be built anew: other nodes, rows, banners."""
    parts: list[object] = [__version__, view.state, view.battery is None]
    parts += [(banner.level, banner.title, banner.text) for banner in view.banners]
    parts += [node.key for node in view.picture.nodes]
    parts += [(tile.key, bool(tile.change)) for tile in view.tiles]
    parts += [(rule.name, rule.mode) for rule in view.automatics]
    parts += [bool(view.surplus), view.battery is not None and bool(view.battery.spread)]
    parts += [bar.name for bar in view.bars]
    parts += [(device.name, bool(device.warnings)) for device in view.devices]
    return hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()
