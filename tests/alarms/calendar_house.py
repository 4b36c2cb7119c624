"""The simulated house, what its collectors make of it, and the watch over it, in no real time.

World → what each device says (``simulator.devices``, which the simulator's own tests hold against
emulator and collector) → the collectors' own rules for alarms → :class:`sunmesh.voice.Voice`,
which publishes → the watch, which hears it as from a broker. No bytes are decoded, nothing waits.
"""

import types
from collections import Counter
from datetime import UTC, datetime

import collector_meter.service
import sunmesh.voice
from collector_axpert.service import alarms as axpert_alarms
from collector_bms.service import warned as bms_alarms
from collector_meter.config import MeterDevice
from collector_meter.service import Shape
from collector_pvs6.fleet import Fleet
from simulator import devices
from simulator.config import House
from simulator.faults import Calendar
from simulator.world import World
from sunmesh import clock
from sunmesh.alarms import Condition
from sunmesh.messages import Alarm, Health, Info, ServiceStatus, decode, encode
from sunmesh.mqtt import Message
from sunmesh.statefile import StateFile
from sunmesh.topics import Topics, parse
from sunmesh.voice import Member, Reading, Voice
from watch.loading import plan_of
from watch.service import Watch

FAMILIES = {
    "inverter": ("axpert", 2.0),
    "battery": ("bms", 5.0),
    "meter": ("meter", 5.0),
    "shed": ("pl80", 10.0),
    "roof": ("pvs6", 15.0),
    "attic": ("temperature", 10.0),
    "battery-room": ("temperature", 10.0),
}
"""The demo's devices and how often they are read [s]."""
STEP_S = 5.0
NOISE = 0.3
"""Of a noisy line's answers so many are damaged (``sunmesh.emulation.CALENDAR``)."""


class Line:
    """A broker that delivers at once."""

    def __init__(self, topics):
        self.topics, self.kept, self._subscriptions = topics, {}, []

    def subscribe(self, pattern, handler, **_options):
        self._subscriptions.append((pattern.split("/"), handler))

    def publish(self, topic, payload, *, retain=False, **_options):
        self.kept[topic] = payload
        parts = topic.split("/")
        for pattern, handler in self._subscriptions:
            if len(pattern) == len(parts) and all(
                p in ("+", part) for p, part in zip(pattern, parts, strict=True)
            ):
                handler(Message(topic, payload, False, False, 1, 1))

    def on_connect(self, _callback):
        """It is never lost."""

    on_lost = on_connect


class CalendarHouse:
    """A house with a calendar of faults.

    Args:
        site: the configuration, with the same devices.
        start: the moment the house begins.
        faults: of its calendar, counted from ``start``.
    """

    def __init__(self, site, folder, start: datetime, faults=(), monkeypatch=None):
        self.t = start.timestamp()
        self.at = 1000.0
        self.world = World(
            House(outages_a_day=0.0), self.t, calendar=Calendar(self.t, tuple(faults))
        )
        self.line = Line(Topics("home"))
        self.said = []
        self._patch(monkeypatch)
        self.watch = Watch(
            plan_of(site),
            self.line,
            StateFile(folder / "watch.json"),
            monotonic=lambda: self.at,
            now=self.now,
        )
        self.watch.listen()
        self.line.subscribe(self.line.topics.every("alarm"), self._hear)
        self.voices = {name: Voice(name, self.line, alarm_after_s=120.0) for name in FAMILIES}
        self.members = {}
        self._meter = Shape(MeterDevice(port="/dev/m", model="SDM230"), Counter())
        self._fleet = Fleet(320.0, 0.8)
        self._due = dict.fromkeys(FAMILIES, 0.0)
        self._health_at = 0.0
        self._rounds = Counter()
        for name, (family, poll_s) in FAMILIES.items():
            info = Info(clock.iso(self.now()), family, poll_interval_s=poll_s)
            self.voices[name].introduce(info)
            self.service(f"collector-{family}")

    def _patch(self, monkeypatch):
        """The library's clocks are the house's."""
        steady = types.SimpleNamespace(monotonic=lambda: self.at)
        wall = types.SimpleNamespace(now=self.now, iso=clock.iso)
        monkeypatch.setattr(sunmesh.voice, "time", steady)
        monkeypatch.setattr(sunmesh.voice, "clock", wall)
        monkeypatch.setattr(collector_meter.service, "time", steady)

    def now(self):
        return datetime.fromtimestamp(self.t, UTC)

    def service(self, name, state="online"):
        status = ServiceStatus(state, "1", "house", clock.iso(self.now()))
        self.line.publish(self.line.topics.service_status(name), encode(status), retain=True)

    def _hear(self, message):
        address = parse(message.topic)
        alarm = decode(Alarm, message.payload)
        self.said.append((f"{address.device}/{address.code}", alarm, self.at))

    # -- time --------------------------------------------------------------------------------------

    def run(self, seconds, step_s=STEP_S):
        end = self.at + seconds
        while self.at < end:
            self.at += step_s
            self.t += step_s
            self.world.step(step_s)
            for name, (family, poll_s) in FAMILIES.items():
                if self.at >= self._due[name]:
                    self._due[name] = self.at + poll_s
                    self._read(name, family)
            if self.at >= self._health_at:
                self._health_at = self.at + 30.0
                self._health()
            self.watch.turn()

    def _read(self, name, family):
        world = self.world.snapshot()
        voice = self.voices[name]
        self._rounds[f"{name}_polls"] += 1
        if f"noisy_line:{name}" in world["faults"]:
            self._rounds[f"{name}_damaged_crc"] += NOISE
        gone = devices.away(family, world, name)
        if gone is not None:
            voice.leave(*gone)
            for member in self.members.values():
                if family == "pvs6":
                    member.leave("offline", f"{name} is gone", follows=True)
            return
        said = devices.FAMILIES[family].read(world, name)
        values = said.pop(name)
        voice.say(self._reading(name, family, world, values))
        if family == "pvs6":
            self._panels(name, said)

    def _reading(self, name, family, world, values):
        match family:
            case "axpert":
                return Reading(values, alarms=axpert_alarms(values))
            case "bms":
                return Reading(values, alarms=bms_alarms(values))
            case "meter":
                return self._meter.reading(values)
        return Reading(values, alarms=devices.FAMILIES[family].alarms(world, name))

    def _panels(self, gateway, said):
        """As collector-pvs6: who is dark sleeps, who is weak is told."""
        energies = {name: values["pv_energy_total_kwh"] for name, values in said.items()}
        weak = self._fleet.weak(energies)
        for number in range(1, devices.PANELS + 1):
            name = devices.member(gateway, number)
            voice = self.members.setdefault(name, Voice(name, self.line, alarm_after_s=120.0))
            info = Info(clock.iso(self.now()), "pvs6", through=gateway, poll_interval_s=15.0)
            if name not in said:
                voice.hear(Member(info, "sleeping", "it is dark"))
                continue
            alarms = {}
            if name in weak:
                text = f"{100 * weak[name]:.0f} % of the median"
                alarms["panel_weak"] = Condition("warning", f"{name} gives less", text)
            voice.hear(Member(info, reading=Reading(said[name], alarms=alarms)))

    def _health(self):
        for family in {family for family, _ in FAMILIES.values()}:
            message = Health(clock.iso(self.now()), dict(self._rounds))
            topic = self.line.topics.service_health(f"collector-{family}")
            self.line.publish(topic, encode(message))

    # -- what came of it ---------------------------------------------------------------------------

    @property
    def open(self):
        """Alarms that are raised, by key."""
        last = {key: alarm for key, alarm, _ in self.said}
        return {key: alarm for key, alarm in last.items() if alarm.state == "raised"}

    def told(self):
        """What a telephone would be told: raised alarms without a cause, each id once."""
        pushed = {}
        for key, alarm, _ in self.said:
            final = [a for k, a, _ in self.said if k == key and a.id == alarm.id]
            if alarm.state == "raised" and not any(a.cause for a in final):
                pushed[alarm.id] = key
        return Counter(pushed.values())
