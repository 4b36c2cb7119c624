"""A house whose clock the tests turn."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sunmesh import clock, config
from sunmesh.messages import Health, Info, Result, Sample, ServiceStatus, Settings, Status, Writes
from watch.facts import Days
from watch.loading import plan_of
from watch.service import Judge

NOON = datetime(2026, 6, 21, 11, 0, tzinfo=UTC)
"""Of a summer's day in Italy."""

HEAD = """
[site]
name = "home"
time_zone = "Europe/Rome"
latitude = 43.46
longitude = 11.88
"""

FAMILIES = {
    "inverter": "axpert",
    "battery": "bms",
    "meter": "meter",
    "roof": "pvs6",
    "shed": "pl80",
    "attic": "temperature",
    "grid-relay": "relay",
}
TABLES = {
    "inverter": 'port = "/dev/a"',
    "battery": 'port = "/dev/b"',
    "meter": 'port = "/dev/c"',
    "roof": 'host = "roof"',
}


def site_of(tmp_path, text="", families=FAMILIES):
    path = tmp_path / "site.toml"
    devices = "".join(f'[devices.{n}]\nfamily = "{family}"\n' for n, family in families.items())
    path.write_text(HEAD + devices + text, encoding="utf-8")
    return config.load(path, "watch", environ={})


class House:
    """The rules over what a test says; every message goes through the form that the mesh has."""

    def __init__(self, plan, start=NOON, judge=None, at=1000.0):
        self.plan, self.at, self.now = plan, at, start
        self.judge = judge or Judge(plan, at)
        self.judge.facts.found_broker(at, 0.0)
        self.said = []

    @property
    def facts(self):
        return self.judge.facts

    def sample(self, device, age_s=0.0, quality=None, kept=False, **values):
        ts = clock.iso(self.now - timedelta(seconds=age_s))
        message = Sample(ts=ts, values=values, quality=quality or {})
        self.facts.hear_sample(device, message, self.at, self.now, kept=kept)
        return self

    def status(self, device, state="online", reason=""):
        message = Status(state, clock.iso(self.now), reason)
        self.facts.hear_status(device, message, self.at, self.now)
        return self

    def info(self, device, family, through=None, poll_s=5.0):
        message = Info(clock.iso(self.now), family, through=through, poll_interval_s=poll_s)
        self.facts.hear_info(device, message)
        return self

    def service(self, name, state="online"):
        message = ServiceStatus(state, "1", "host", clock.iso(self.now))
        self.facts.hear_service(name, message, self.at)
        return self

    def health(self, name, **counters):
        self.facts.hear_health(name, Health(clock.iso(self.now), counters))
        return self

    def result(self, device, stage, name="bulk_voltage_v", value=55.2, detail="", by="web:anna"):
        message = Result("1", name, value, stage, clock.iso(self.now), by, detail)
        self.facts.hear_result(device, message, self.at)
        return self

    def settings(self, device, **writes):
        made = {
            name: Writes(today=today, budget=budget) for name, (today, budget) in writes.items()
        }
        self.facts.hear_settings(device, Settings(clock.iso(self.now), {}, made))
        return self

    def has(self, device, **values):
        self.facts.hear_settings(device, Settings(clock.iso(self.now), values))
        return self

    def days(self, today, panels=None, plant=None):
        self.facts.days = Days(today, panels or {}, plant or {}, "")
        return self

    def turn(self):
        said = self.judge.turn(self.at, self.now)
        self.said += said
        return [(key, alarm.state) for key, alarm in said]

    def after(self, seconds, **samples):
        """Time passes, second by second where something is repeated."""
        told = []
        for _ in range(round(seconds)):
            self.at += 1.0
            self.now += timedelta(seconds=1)
            for device, values in samples.items():
                self.sample(device.replace("_", "-"), **values)
            told += self.turn()
        return told

    def jump(self, seconds):
        self.at += seconds
        self.now += timedelta(seconds=seconds)
        return self

    @property
    def open(self):
        return {f"{device}/{code}": a for (device, code), a in self.judge.alarms.raised.items()}

    @property
    def facts_open(self):
        """What is raised besides the silence of devices that the test does not speak for."""
        return {key: a for key, a in self.open.items() if "sample_" not in key}

    def restarted(self):
        """The same house, its watch started anew on what it wrote down."""
        state = json.loads(json.dumps(self.judge.alarms.state(self.at)))
        memory = json.loads(json.dumps(self.facts.memory(self.at)))
        other = House(self.plan, self.now, at=17.0)
        other.judge.alarms.restore(state, other.at)
        other.facts.restore(memory, other.at)
        other.said = self.said
        return other


@pytest.fixture
def make_plan(tmp_path):
    """The rules of a ``site.toml`` with that text at its end."""
    return lambda text="", families=FAMILIES: plan_of(site_of(tmp_path, text, families))


@pytest.fixture
def house(make_plan):
    """A house with the default rules, at noon."""
    return House(make_plan())


@pytest.fixture
def house_with(make_plan):
    """A house with that text in its ``site.toml``."""
    return lambda text="", families=FAMILIES, start=NOON: House(make_plan(text, families), start)
