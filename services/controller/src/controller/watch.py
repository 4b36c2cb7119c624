"""What arrives from the mesh: samples, settings, infos and states of the devices of the rules.

Ages are taken twice, from the time that a sample carries and from the moment it arrived; the larger
one counts. So neither a clock that somebody sets nor a message that was long on its way makes old
data look fresh.
"""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sunmesh import clock
from sunmesh.messages import Info, Sample, Settings, Status, Value

from .history import History
from .rules import Plan
from .state import Seen, View

SETTINGS_INTERVAL_S = 60.0
"""How often a device's settings are read when nothing says otherwise [s]."""


class _Device:
    """One device, as far as the rules look at it."""

    def __init__(self, poll_s: float, settings_s: float) -> None:
        self.poll_s, self.settings_s = poll_s, settings_s
        self.state = ""
        self.good: dict[str, tuple[Value, int, float]] = {}
        self.sample_ms = 0
        self.settings: dict[str, Value] = {}
        self.settings_ms = 0
        self.settings_at = 0.0
        self.applied: dict[str, tuple[Value, int]] = {}


class Watch:
    """Keeps the newest of everything; safe to be told from the broker's thread.

    Args:
        plan: says what is of interest.
        devices: the tables ``[devices.NAME]``: their periods.
        monotonic: a clock that no one sets.
        now: the time of day.

    Attributes:
        lock: held while something changes; to be held while a view is looked at.
    """

    def __init__(
        self,
        plan: Plan,
        devices: Mapping[str, Mapping[str, Any]],
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._plan, self._monotonic, self._now = plan, monotonic, now
        self.lock = threading.RLock()
        config = plan.config
        names = {s.device for s in plan.sources} | {config.inverter}
        if plan.has_relay:
            names.add(config.relay)
        self._devices: dict[str, _Device] = {}
        for name in names:
            table = devices.get(name, {})
            poll_s = _number(table.get("poll_interval_s"), config.poll_interval_s)
            settings_s = _number(table.get("settings_interval_s"), SETTINGS_INTERVAL_S)
            self._devices[name] = _Device(poll_s, settings_s)
        self._wanted: dict[str, set[str]] = {name: set() for name in names}
        for source in plan.sources:
            if source.kind == "quantity":
                self._wanted[source.device].add(source.name)
        self._wanted[config.inverter].add("grid_voltage_v")
        if plan.has_relay:
            self._wanted[config.relay] |= {"relay_position", "relay_reason", "relay_manual_until"}
        limits = {
            name: round(device.settings_s * config.fresh_periods * 1000)
            for name, device in self._devices.items()
        }
        self.history = History(plan.sources, plan.minute_ms, plan.longest + 2, limits)

    def take_over(self, other: "Watch") -> None:
        """Everything that another one knows of the same devices."""
        for name in self._devices.keys() & other._devices.keys():
            self._devices[name] = other._devices[name]
        self.history.take_over(other.history)

    @property
    def names(self) -> list[str]:
        """The devices that are watched."""
        return sorted(self._devices)

    def hear_sample(self, name: str, sample: Sample) -> None:
        """What a device measured."""
        with self.lock:
            device = self._devices.get(name)
            now_ms = clock.epoch_ms(self._now())
            if device is None or self._is_future(sample.ms, now_ms, device.poll_s):
                return
            if device.sample_ms > now_ms + self._plan.minute_ms:
                device.sample_ms = 0  # the clock was set back
            if sample.ms <= device.sample_ms:
                return
            device.sample_ms = sample.ms
            at = self._monotonic()
            for quantity in self._wanted[name]:
                value = sample.values.get(quantity)
                if value is not None and quantity not in sample.quality:
                    device.good[quantity] = (value, sample.ms, at)
                elif quantity == "relay_manual_until":
                    device.good.pop(quantity, None)
            self.history.add(name, sample.ms, sample.values, sample.quality)

    def _is_future(self, ms: int, now_ms: int, period_s: float) -> bool:
        return ms > now_ms + max(2_000, round(period_s * 1000))

    def hear_settings(self, name: str, settings: Settings) -> None:
        """What a device's settings are; what was read before a command is older than its result."""
        with self.lock:
            device = self._devices.get(name)
            ms = clock.epoch_ms(clock.parse(settings.ts))
            now_ms = clock.epoch_ms(self._now())
            if device is None or self._is_future(ms, now_ms, device.poll_s):
                return
            if device.settings_ms > now_ms + self._plan.minute_ms:
                device.settings_ms = 0
            if ms < device.settings_ms:
                return
            device.applied = {k: pair for k, pair in device.applied.items() if pair[1] > ms}
            device.settings = settings.values | {k: pair[0] for k, pair in device.applied.items()}
            device.settings_ms, device.settings_at = ms, self._monotonic()
            self.history.add_settings(name, ms, device.settings)

    def hear_applied(self, name: str, setting: str, value: Value, ms: int) -> None:
        """A setting was read back: it is known before all settings are read again."""
        with self.lock:
            device = self._devices.get(name)
            if device is None or not device.settings_ms:
                return
            device.applied[setting] = (value, ms)
            device.settings = device.settings | {setting: value}
            if ms > device.settings_ms:
                device.settings_ms, device.settings_at = ms, self._monotonic()
                self.history.add_settings(name, ms, device.settings)

    def hear_info(self, name: str, info: Info) -> None:
        """How often a device is polled."""
        with self.lock:
            device = self._devices.get(name)
            if device is not None and info.poll_interval_s:
                device.poll_s = info.poll_interval_s

    def hear_status(self, name: str, status: Status) -> None:
        """How a device is."""
        with self.lock:
            device = self._devices.get(name)
            if device is not None:
                device.state = status.state

    def view(self, token: str) -> View:
        """Everything as it is now."""
        with self.lock:
            now = self._now()
            now_ms = clock.epoch_ms(now)
            self.history.trim(now_ms)
            at = self._monotonic()
            periods = self._plan.config.fresh_periods
            seen = {
                name: Seen(
                    state=device.state,
                    limit_s=device.poll_s * periods,
                    ages_s={
                        quantity: _age_s(now_ms, ms, at, heard)
                        for quantity, (_, ms, heard) in device.good.items()
                    },
                    values={quantity: value for quantity, (value, _, _) in device.good.items()},
                    sample_ms=device.sample_ms,
                    settings=dict(device.settings),
                    settings_ms=device.settings_ms,
                    settings_age_s=_age_s(now_ms, device.settings_ms, at, device.settings_at),
                    settings_limit_s=device.settings_s * periods,
                )
                for name, device in self._devices.items()
            }
            return View(now, self.history, seen, self._plan.zone, token, round(at * 1000))


def _age_s(now_ms: int, ms: int, at: float, heard: float) -> float:
    """The larger of both ages, or how far in the future the sample is (below 0) [s]."""
    age_s = (now_ms - ms) / 1000
    return age_s if age_s < 0 else max(age_s, at - heard)


def _number(value: object, default: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else default  # type: ignore[arg-type]
