"""A house of pure parts: relay, controller, inverter, and a line between them that does its worst.

Time is a number. The relay's logic and the whole controller run as they are shipped; only clocks,
broker and disk are stand-ins. ``Breach`` is raised at the very moment when a promise is broken.
"""

import random
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.loading import plan_of
from controller.service import Controller
from grid_relay.position import CONNECTED, OPEN, Limits, Memory, Relay
from sunmesh import clock, config
from sunmesh.messages import Command, Result, Sample, Settings, decode, encode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics

LEASE_S, POLL_S, MINUTE_S = 180.0, 5.0, 60.0
FRESH_S = 3 * POLL_S
LATE_S = 30.0
"""No message is longer on its way than that: the broker drops what is older [s]."""
START = datetime(2026, 6, 1, 6, 0, tzinfo=UTC)

SITE = """
[site]
time_zone = "Europe/Bratislava"
[devices.inverter]
family = "axpert"
port = "/dev/serial/by-id/x"
settings_interval_s = 60
[devices.grid-relay]
family = "relay"
[controller]
preset = ""
recover_min = 2
dwell_min = 5
retry_min = 2

[rules.full]
says = "a full battery is charged slowly"
protects = true
priority = 90
hours = "always"
when = [
  { samples = "2 of 3", all = [{ quantity = "inverter.battery_voltage_v", at_least = 54.5 }] },
]
until = [
  { samples = "2 of 3", all = [{ quantity = "inverter.battery_voltage_v", at_most = 51.2 }] },
]
do = [
  { relay = "grid_open" },
  { set = "inverter.max_charge_current_a", to = 10 },
  { set = "inverter.float_voltage_v", to = 53.7 },
  { set = "inverter.bulk_voltage_v", to = 53.8 },
]
safe = { relay = "grid_connected", settings = "leave" }
temporary = true
min_on_min = 1
min_off_min = 1
again_min = 1
most_switches_day = 20

[rules.low]
says = "a low battery gets the grid"
priority = 80
hours = "always"
when = [
  { samples = "2 of 3", all = [
    { quantity = "inverter.grid_voltage_v", at_most = 0 },
    { quantity = "inverter.battery_voltage_v", at_most = 51.2 },
  ] },
]
until = [
  { samples = "2 of 3", all = [{ quantity = "inverter.battery_voltage_v", at_least = 51.8 }] },
]
do = [{ relay = "grid_connected" }]
safe = { relay = "grid_connected" }
min_on_min = 1
min_off_min = 1
most_switches_day = 40

[rules.sun]
says = "a battery that carries the house does without the grid"
priority = 60
hours = "always"
when = [
  { samples = "2 of 3", all = [
    { quantity = "inverter.grid_voltage_v", above = 0 },
    { quantity = "inverter.battery_voltage_v", at_least = 51.8 },
  ] },
]
until = [
  { samples = "2 of 3", all = [{ quantity = "inverter.battery_voltage_v", at_most = 51.2 }] },
]
do = [{ relay = "grid_open" }]
safe = { relay = "grid_connected" }
min_on_min = 1
min_off_min = 1
again_min = 1
most_switches_day = 20

[rules.night]
says = "the charger gets its range back"
priority = 30
hours = "always"
when = [
  { samples = "2 of 3", all = [{ quantity = "inverter.battery_voltage_v", at_most = 51.0 }] },
  { samples = "now", all = [{ setting = "inverter.max_charge_current_a", below = 40 }] },
]
until = [
  { samples = "2 of 3", all = [{ quantity = "inverter.battery_voltage_v", at_least = 52.0 }] },
]
do = [
  { set = "inverter.bulk_voltage_v", to = 55.2 },
  { set = "inverter.float_voltage_v", to = 55.1 },
  { set = "inverter.max_charge_current_a", to = 40 },
]
safe = { settings = "leave" }
min_on_min = 1
min_off_min = 1
again_min = 1
most_switches_day = 6
"""
OWNERS = {"max_charge_current_a": 40.0, "float_voltage_v": 55.1, "bulk_voltage_v": 55.2}


def _plan():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "site.toml"
        path.write_text(SITE, encoding="utf-8")
        site = config.load(path, "controller", environ={})
        return plan_of(site), site.devices


PLAN, DEVICES = _plan()


class Breach(AssertionError):
    """A promise was broken."""


def hold(truth, promise):
    """Break off where ``promise`` is not kept."""
    if not truth:
        raise Breach(promise)


class Disk:
    """Keeps the last content that was saved; a process that is killed leaves it."""

    path = Path("controller.json")
    damaged = False

    def __init__(self):
        self.content = {}
        self.is_full = False

    def load(self):
        return self.content

    def save(self, content):
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.content = content


class Line:
    """The controller's client of the broker; what it publishes the house carries, or loses."""

    topics = Topics("home")

    def __init__(self, house):
        self.house = house
        self.is_alive = True

    @property
    def connected(self):
        return self.is_alive and self.house.broker

    def publish(self, topic, payload, *, retain=False, qos=1, expiry_s=None):
        hold(self.is_alive, "a dead process says nothing")
        if topic.endswith("/command"):
            hold(self.connected, "no command waits for the broker")
            hold(not retain, "no command is retained")
            self.house.asked(topic.split("/")[2], payload)
        return True

    def subscribe(self, *_arguments, **_how):
        pass

    def on_connect(self, _callback):
        pass


@dataclass
class Flight:
    """A message on its way."""

    due: float
    device: str
    payload: bytes


@dataclass
class House:
    """See above. ``relay_class`` and ``seed`` are for tests that break something on purpose."""

    relay_class: type = Relay
    t: float = 1000.0
    step_s: float = 0.0
    broker: bool = True
    grid: bool = True
    voltage: float = 52.5
    quality: str = ""
    settings: dict = field(default_factory=lambda: dict(OWNERS))
    disk: Disk = field(default_factory=Disk)

    def __post_init__(self):
        self.dice = random.Random(1)
        self.flights = []
        self.retained = {}
        self.ids = set()
        self.relay = self.controller = self.line = None
        self.memory = Memory()
        self.lent_until = self.manual_until = self.bad_at = self.t
        self.measured_at = self.relay_told_at = self.settings_at = -1e9
        self.good_measured_at = -1e9
        self.closed_at = self.t
        self.was_open = False
        self.reached = dict.fromkeys(("opened", "renewed", "forced", "restored"), 0)
        self.loses = self.doubles = self.delays = 0.0
        self.start_relay()
        self.start_controller()

    # -- clocks ------------------------------------------------------------------------------------

    def monotonic(self):
        return self.t

    def now(self):
        moment = START + timedelta(seconds=self.t + self.step_s)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    # -- processes ---------------------------------------------------------------------------------

    def start_relay(self):
        if self.relay is None:
            memory = Memory(
                self.memory.position,
                tuple(age + self.t - self.died_at for age in self.memory.switched_s)
                if self.memory.switched_s
                else (),
                self.memory.switch_count,
                self.memory.fault,
            )
            self.relay = self.relay_class(Limits(min_connected_s=120.0), self.t, memory)
            self.lent_until = self.manual_until = self.t

    def kill_relay(self):
        """Its unit sets the output to the safe position at once."""
        if self.relay is not None:
            self.memory = self.relay.memory(self.t)
            self.died_at = self.t
            self.relay = None
            self.look()

    def start_controller(self):
        if self.controller is None:
            self.line = Line(self)
            self.controller = Controller(
                PLAN, self.line, DEVICES, self.disk, None, self.monotonic, self.now
            )
            self.bad_at = self.t
            self.repeat()

    def repeat(self):
        """The broker hands over what it kept, however old that is."""
        if self.controller is not None and self.broker:
            for kind, message in self.retained.items():
                self.hear(kind, "inverter", message, is_kept=True)

    def kill_controller(self):
        if self.controller is not None:
            self.line.is_alive = False
            self.controller = None

    def stop_controller(self):
        if self.controller is not None:
            self.controller.give_back()
            self.kill_controller()

    def choose(self, mode):
        """The owner's command, as the desk hands it on."""
        if self.controller is not None:
            from controller import engine

            service = self.controller
            service.state = engine.set_mode(PLAN, service.state, mode)
            service._save()
            if mode != "on":
                self.bad_at = self.t

    # -- what is measured --------------------------------------------------------------------------

    @property
    def is_open(self):
        """Where the contactor is: without a process the wiring connects the grid."""
        return self.relay is not None and self.relay.tick(self.t).position == OPEN

    def measure(self, sees=True, sees_relay=True, reads=True):
        """The collectors publish; the controller hears them, or not."""
        if self.controller is None or not self.broker:
            return
        ts = clock.iso(self.now())
        if sees:
            volts = 0.0 if self.is_open or not self.grid else 231.0
            values = {"battery_voltage_v": self.voltage, "grid_voltage_v": volts}
            quality = {"battery_voltage_v": self.quality} if self.quality else {}
            self.retained["telemetry"] = Sample(ts=ts, values=values, quality=quality)
            self.hear("telemetry", "inverter", self.retained["telemetry"])
            self.measured_at = self.t
            if not quality:
                self.good_measured_at = self.t
        if reads:
            self.retained["settings"] = Settings(ts, dict(self.settings))
            self.hear("settings", "inverter", self.retained["settings"])
            self.settings_at = self.t
        if sees_relay and self.relay is not None:
            relay = self.relay
            values = {"relay_position": OPEN if self.is_open else CONNECTED}
            values["relay_reason"] = relay.reason
            left = relay.manual_remaining_s(self.t)
            until = None if left is None else clock.iso(self.now() + timedelta(seconds=left))
            values["relay_manual_until"] = until
            self.hear("telemetry", "grid-relay", Sample(ts=ts, values=values))
            self.relay_told_at = self.t

    def hear(self, kind, device, message, is_kept=False):
        topic = f"sunmesh/home/{device}/{kind}"
        self.controller._hear(Message(topic, encode(message), is_kept, False, 1, 1))

    # -- what is asked -----------------------------------------------------------------------------

    def asked(self, device, payload):
        """The controller has just asked for something: was that right at this moment?"""
        command = decode(Command, payload)
        if device == "inverter":
            self.asked_settings(command)
        elif command.value == OPEN:
            self.asked_open(command)
        due = self.t + (self.dice.uniform(1, LATE_S) if self.dice.random() < self.delays else 0.0)
        if self.dice.random() >= self.loses:
            self.flights.append(Flight(due, device, payload))
        if self.dice.random() < self.doubles:
            self.flights.append(Flight(due + self.dice.uniform(0, LATE_S), device, payload))

    def asked_open(self, command):
        state = self.controller.state
        hold(state.mode == "on", "nothing is opened in a mode that is not on")
        hold(self.t - self.good_measured_at <= FRESH_S, "N3, N11: no lease on old samples")
        hold(self.t - self.relay_told_at <= FRESH_S, "N11: no lease for a relay that is silent")
        hold(command.lease_s == LEASE_S, "a lease has an end")
        self.reached["renewed" if self.is_open else "opened"] += 1
        if not self.is_open:
            hold(
                self.t - self.bad_at >= 120.0 - 1.0,
                "N12: the grid is opened only after good minutes",
            )

    def asked_settings(self, command):
        state = self.controller.state
        rule = PLAN.rule(command.by.partition(":")[2])
        puts_back = (command.reason or "").startswith("put back")
        self.reached["restored" if puts_back else "forced"] += 1
        hold(self.t - self.settings_at <= 180.0, "N3: settings are known when they are changed")
        if not puts_back:
            hold(state.mode == "on", "nothing is set in a mode that is not on")
            hold(self.t - self.good_measured_at <= FRESH_S, "N3: nothing is set on old samples")
            if rule.temporary:
                for name in command.values:
                    key = f"inverter.{name}"
                    hold(
                        key in self.disk.content["forced"],
                        f"what is forced is on disk before it is set: {name}",
                    )

    def deliver(self):
        """Carry what is due."""
        due = [flight for flight in self.flights if flight.due <= self.t]
        self.flights = [flight for flight in self.flights if flight.due > self.t]
        for flight in sorted(due, key=lambda each: each.due):
            command = decode(Command, flight.payload)
            late = clock.parse(command.expires) <= self.now()
            if not self.broker or late:
                continue
            if flight.device == "inverter":
                self.set(command)
            elif self.relay is not None and (flight.device, command.id) not in self.ids:
                self.ids.add((flight.device, command.id))
                self.ask_relay(command)

    def ask_relay(self, command):
        verdict = self.relay.request(self.t, command)
        if command.value == OPEN and verdict.is_granted:
            self.lent_until = self.t + command.lease_s
        elif command.value == CONNECTED:
            self.lent_until = self.manual_until = self.t
        if self.controller is not None and self.broker:
            stage = "applied" if verdict.is_granted else "refused"
            self.result("grid-relay", command.id, command, command.name, command.value, stage)
        self.look()

    def set(self, command):
        """The inverter does one batch, in its order."""
        if command.id in self.ids:
            return
        self.ids.add(command.id)
        fails = self.dice.random() < self.loses / 2
        for name, value in command.values.items():
            if fails:
                self.result("inverter", f"{command.id}/{name}", command, name, value, "failed")
                self.result("inverter", command.id, command, "settings", None, "failed")
                return
            self.settings[name] = float(value)
            hold(
                self.settings["float_voltage_v"] <= self.settings["bulk_voltage_v"],
                "N2: float is never above bulk",
            )
            for stage in ("sent", "applied"):
                self.result("inverter", f"{command.id}/{name}", command, name, value, stage)
        self.result("inverter", command.id, command, "settings", None, "applied")

    def result(self, device, identity, command, name, value, stage):
        if self.controller is not None and self.broker:
            ts = clock.iso(self.now())
            result = Result(identity, name, value, stage, ts, command.by, "said so")
            self.hear("command/result", device, result)

    # -- time --------------------------------------------------------------------------------------

    def look(self):
        """The promises that hold at every moment."""
        is_open = self.is_open
        if is_open:
            until = max(self.lent_until, self.manual_until)
            hold(self.t < until, "the grid is never open without a live lease")
            by_rules = self.t >= self.manual_until
            fresh = self.t - self.good_measured_at <= LEASE_S + FRESH_S + LATE_S
            if by_rules and self.controller is not None:
                hold(fresh or self.controller_is_new, "C16: the grid is back after two silences")
            if not self.was_open and by_rules:
                hold(self.t - self.closed_at >= 120.0, "N10: the relay rests")
        elif self.was_open:
            self.closed_at = self.t
        self.was_open = is_open

    @property
    def controller_is_new(self):
        """It was started less than a lease ago: what is open is of its predecessor."""
        return self.t - self.bad_at <= LEASE_S + LATE_S

    def wait(self, seconds):
        """Let time pass; the relay is asked often."""
        end = self.t + seconds
        while self.t < end:
            moments = [flight.due for flight in self.flights if flight.due > self.t]
            self.t = min([end, self.t + 10.0, *moments])
            if self.relay is not None:
                if self.broker:
                    self.relay.broker_back(self.t)
                else:
                    self.relay.broker_lost(self.t)
                self.relay.tick(self.t)
            self.deliver()
            self.look()

    def minute(self, sees="all", sees_relay=True, reads=True, evaluates=True):
        """One minute: samples on the way (all, the first half, none), an evaluation at its end."""
        self.wait(28)
        self.measure(sees != "none", sees_relay, reads)
        self.wait(28)
        self.measure(sees == "all", sees_relay, reads)
        self.wait(4)
        if self.controller is not None and evaluates:
            outcome = self.controller.evaluate()
            if outcome is not None:
                hold(len(outcome.batches) <= 1, "N6: one batch a device")
                if not outcome.is_good:
                    self.bad_at = self.t
        self.deliver()
        self.look()
