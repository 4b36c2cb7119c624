"""A house of minutes: what the rules see is fed to them minute by minute, without any clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from controller import engine
from controller.history import History
from controller.loading import plan_of
from controller.state import Seen, State, View, remembered
from sunmesh import clock, config
from sunmesh.messages import Result

DEVICES = """
[devices.inverter]
family = "axpert"
port = "/dev/serial/by-id/x"
[devices.battery]
family = "bms"
port = "/dev/serial/by-id/y"
[devices.grid-relay]
family = "relay"
"""
QUIET = {
    "inverter": {
        "battery_voltage_v": 52.5,
        "battery_charge_current_a": 5.0,
        "battery_discharge_current_a": 0.0,
        "grid_voltage_v": 0.0,
        "device_mode": "battery",
    },
    "battery": {
        "battery_soc_percent": 60.0,
        "charge_mosfet_on": True,
        "cell_voltage_v": [3.3] * 16,
    },
}
SETTINGS = {
    "output_source_priority": "SBU",
    "charger_source_priority": "solar_only",
    "max_charge_current_a": 40.0,
    "float_voltage_v": 55.1,
    "bulk_voltage_v": 55.2,
    "redischarge_voltage_v": 55.0,
}


@pytest.fixture
def site(tmp_path):
    """Writes a site.toml and reads it."""

    def site(rest="", devices=DEVICES, zone="Europe/Bratislava"):
        path = tmp_path / "site.toml"
        path.write_text(f'[site]\ntime_zone = "{zone}"\n{devices}\n{rest}', encoding="utf-8")
        return config.load(path, "controller", environ={})

    return site


class House:
    """Devices, a relay and a controller's engine; time moves by whole minutes.

    ``inverter`` and ``battery`` are what is measured in the next minutes, ``settings`` what the
    inverter is set to, ``position`` where the relay is. Wishes of the engine are done at once while
    ``obeys``; what was asked for is kept in ``batches`` and ``relay``.
    """

    def __init__(self, plan, at="2026-06-01T10:00:00Z", mode="on", state=None):
        self.plan = plan
        self.state = state or State(mode=mode)
        self.history = History(plan.sources, plan.minute_ms, plan.longest + 2)
        self.now = clock.parse(at)
        self.inverter = dict(QUIET["inverter"])
        self.battery = dict(QUIET["battery"])
        self.settings = dict(SETTINGS)
        self.position = "grid_connected"
        self.manual = ""
        self.obeys = True
        self.late_s = {}
        self.missing = set()
        self.quality = {}
        self.batches, self.relay, self.outcomes, self.texts = [], [], [], []
        self.count = 0

    def minutes(self, count, **values):
        """Let time pass; returns the last evaluation."""
        for _ in range(count):
            self.pass_minute(**values)
            outcome = self.evaluate()
        return outcome

    def feed(self, count, **values):
        """Let time pass without evaluations."""
        for _ in range(count):
            self.pass_minute(**values)

    def pass_minute(self, **values):
        """One minute with its samples: names of the inverter's or the battery's quantities."""
        for name, value in values.items():
            if name in self.settings:
                self.settings[name] = value
            elif name in self.battery:
                self.battery[name] = value
            else:
                self.inverter[name] = value
        ms = clock.epoch_ms(self.now) + 30_000
        for device, row in (("inverter", self.inverter), ("battery", self.battery)):
            if device not in self.missing:
                self.history.add(device, ms, row, self.quality.get(device, {}))
        self.history.add_settings("inverter", ms, dict(self.settings))
        self.now += timedelta(minutes=1)

    def view(self):
        ages = {
            device: {
                name: self.late_s.get(device, 2.0)
                for name in row
                if name not in self.quality.get(device, {})
            }
            for device, row in (("inverter", self.inverter), ("battery", self.battery))
        }
        ms = clock.epoch_ms(self.now)
        relay = {"relay_position": self.position, "relay_reason": "leased"}
        if self.manual:
            relay["relay_manual_until"] = self.manual
        devices = {
            "inverter": Seen(
                "online",
                ages_s=ages["inverter"],
                values=self.inverter,
                sample_ms=ms,
                settings=dict(self.settings),
                settings_ms=ms,
                settings_age_s=self.late_s.get("settings", 10.0),
            ),
            "battery": Seen("online", ages_s=ages["battery"], values=self.battery, sample_ms=ms),
            "grid-relay": Seen(
                "online",
                ages_s={"relay_position": self.late_s.get("grid-relay", 1.0)},
                values=relay,
                sample_ms=ms,
            ),
        }
        for device in self.missing:
            devices.pop(device, None)
        self.count += 1
        now = self.now + timedelta(seconds=2)
        return View(now, self.history, devices, self.plan.zone, f"{self.count:x}")

    def evaluate(self):
        view = self.view()
        self.history.trim(view.now_ms)
        outcome = engine.decide(self.plan, self.state, view)
        self.state = outcome.state
        self.outcomes.append(outcome)
        for batch in outcome.batches:
            self.batches.append((batch.rule, dict(batch.values)))
            if self.obeys:
                self.obey(batch)
        if outcome.relay is not None:
            wish = outcome.relay
            if not wish.renews:
                self.relay.append((wish.rule, wish.position))
            if self.obeys and self.position != wish.position:
                self.position = wish.position
                self.inverter["grid_voltage_v"] = 0.0 if wish.position == "grid_open" else 231.0
        return outcome

    def obey(self, batch):
        for name, value in batch.values.items():
            self.settings[name] = value
            for stage in ("sent", "acknowledged", "applied"):
                self.answer(f"{batch.id}/{name}", name, stage, value)
        self.answer(batch.id, "settings", "applied")

    def answer(self, identity, name, stage, value=None, detail="", device="inverter"):
        ts = clock.iso(self.now)
        result = Result(identity, name, value, stage, ts, "controller:x", detail)
        ms = clock.epoch_ms(self.now)
        self.state = engine.hear(self.plan, self.state, device, result, ms)

    def restart(self, kill=True):
        """The process ends; what is on disk is all that is left."""
        content = self.state.lasting()
        self.state = remembered(content, clock.epoch_ms(self.now))

    def decision(self, rule):
        return next(d for d in self.outcomes[-1].decisions if d.rule == rule)

    def asked(self, rule):
        """Everything a rule asked for: settings merged, and the relay."""
        found = {}
        for who, values in self.batches:
            if who == rule:
                found |= values
        for who, position in self.relay:
            if who == rule:
                found["relay"] = position
        return found

    @property
    def nothing(self):
        return not self.batches and not self.relay


@pytest.fixture
def house(site):
    """A house in which only the named rules are on (all without names), and all has been well."""

    def house(
        *rules, at="2026-06-01T10:00:00Z", warm=True, rest="", zone="Europe/Bratislava", **now
    ):
        plan = plan_of(site(rest, zone=zone))
        made = House(plan, at)
        if rules:
            for rule in plan.rules:
                made.state.modes[rule.name] = "on" if rule.name in rules else "off"
        for name, value in now.items():
            target = made.settings if name in made.settings else made.inverter
            (made.battery if name in made.battery else target)[name] = value
        if warm:
            made.state.good_ms = made.state.connected_ms = clock.epoch_ms(made.now) - 3_600_000
            made.state.position = made.position
        return made

    return house


__all__ = ["UTC", "House", "Path", "datetime", "replace"]
