"""Stands in for the services that take commands: an inverter, a relay and a controller."""

from typing import Any

import msgspec
from sunmesh import clock
from sunmesh.messages import (
    Command,
    Info,
    Range,
    Result,
    Sample,
    Settings,
    Status,
    Value,
    Writes,
    decode,
    encode,
)
from sunmesh.mqtt import Mesh, Message
from sunmesh.topics import Topics

RANGES = {
    "output_source_priority": Range(choices=["USB", "SUB", "SBU"]),
    "charger_source_priority": Range(choices=["solar_first", "solar_and_utility", "solar_only"]),
    "bulk_voltage_v": Range(low=48.0, high=58.4, step=0.1, unit="V", risk="high"),
    "float_voltage_v": Range(low=48.0, high=58.4, step=0.1, unit="V", risk="high"),
    "max_ac_charge_current_a": Range(choices=[2, 10, 20, 30, 40], unit="A"),
    "max_charge_current_a": Range(low=10, high=80, step=10, unit="A"),
    "buzzer_enabled": Range(choices=[True, False]),
    "battery_type": Range(choices=["AGM", "flooded", "user", "pylontech"], risk="danger"),
}
VALUES: dict[str, Value] = {
    "output_source_priority": "SUB",
    "charger_source_priority": "solar_first",
    "bulk_voltage_v": 56.4,
    "float_voltage_v": 54.0,
    "max_ac_charge_current_a": 20,
    "max_charge_current_a": 60,
    "buzzer_enabled": True,
    "battery_type": "user",
    "output_frequency_hz": 50.0,
}
TELEMETRY: dict[str, Value] = {
    "grid_voltage_v": 231.0,
    "grid_frequency_hz": 50.0,
    "ac_output_power_w": 400,
    "battery_voltage_v": 52.0,
    "battery_power_w": -520,
    "battery_soc_percent": 80,
    "pv_power_w": 1000,
    "device_mode": "line",
}


class StandIn:
    """Answers commands as the services do.

    ``stubborn`` settings are acknowledged and kept; ``held`` ones end at ``acknowledged`` until
    :meth:`finish`; with ``is_deaf`` nobody answers.
    """

    def __init__(self, client: Mesh, topics: Topics) -> None:
        self.client, self.topics = client, topics
        self.values = dict(VALUES)
        self.writes = {"float_voltage_v": Writes(3, 41, 20), "buzzer_enabled": Writes(20, 77, 20)}
        self.modes: dict[str, Value] = {"mode": "shadow", "rule.storm-reserve": "shadow"}
        self.relay: dict[str, Value] = {
            "relay_position": "grid_connected",
            "relay_feedback": "grid_connected",
            "relay_reason": "startup",
            "lease_remaining_s": 0,
            "switch_count": 41,
            "relay_manual_until": None,
        }
        self.stubborn: set[str] = set()
        self.held: set[str] = set()
        self.waiting: list[tuple[str, str, str, Value, str | None]] = []
        self.is_deaf = False
        self.asked: list[tuple[str, Command]] = []
        for device in ("inverter", "grid-relay", "controller"):
            client.subscribe(topics.command(device), self.hear)

    def say(self) -> None:
        """Everything that a page needs."""
        now = clock.iso(clock.now())
        info = Info(
            now,
            "axpert",
            "Voltronic",
            "VMIII-5000",
            poll_interval_s=5.0,
            settable=list(RANGES),
            ranges=RANGES,
        )
        relay = Info(now, "relay", settable=["relay_position", "manual"], poll_interval_s=5.0)
        for device, content in (("inverter", info), ("grid-relay", relay)):
            self._publish(self.topics.info(device), content)
            self._publish(self.topics.status(device), Status("online", now))
        self._publish(self.topics.telemetry("inverter"), Sample(ts=now, values=TELEMETRY))
        self.say_settings()
        self.say_relay()
        self.decide("Charge is 80 %, above 35 %: the grid is not needed.")

    def say_settings(self) -> None:
        now = clock.iso(clock.now())
        settings = Settings(now, self.values, self.writes)
        self._publish(self.topics.settings("inverter"), settings)
        self._publish(self.topics.settings("controller"), Settings(now, self.modes))

    def say_relay(self, **values: Value) -> None:
        self.relay |= values
        sample = Sample(ts=clock.iso(clock.now()), values=self.relay)
        self._publish(self.topics.telemetry("grid-relay"), sample)

    def decide(self, why: str, did: Any = None) -> None:
        document = {
            "ts": clock.iso(clock.now()),
            "rule": "storm-reserve",
            "mode": self.modes["rule.storm-reserve"],
            "saw": {"battery.battery_soc_percent": 80, "inverter.grid_voltage_v": 231.0},
            "wants": {"name": "relay_position", "value": "grid_open"},
            "did": did,
            "why": why,
            "changed": True,
        }
        topic = self.topics.decision("storm-reserve")
        self.client.publish(topic, msgspec.json.encode(document), retain=True)

    def _publish(self, topic: str, content: msgspec.Struct) -> None:
        self.client.publish(topic, encode(content), retain=True)

    # -- commands ----------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        device = message.topic.split("/")[2]
        command = decode(Command, message.payload)
        self.asked.append((device, command))
        if self.is_deaf:
            return
        if device == "inverter":
            self._set(device, command)
            return
        identity = command.id or "none"
        self.result(device, identity, command.name, command.value, "accepted", by=command.by)
        if device == "grid-relay":
            is_auto = command.value == "auto"
            self.say_relay(
                relay_position="grid_connected" if is_auto else command.value,
                relay_reason="manual_ended" if is_auto else "manual",
            )
        else:
            self.modes[command.name] = command.value
            self.say_settings()
        self.result(device, identity, command.name, command.value, "applied", by=command.by)

    def _set(self, device: str, command: Command) -> None:
        identity, wants = command.id or "none", {command.name: command.value}
        if command.values is not None:
            self.result(device, identity, command.name, None, "accepted", by=command.by)
            wants = command.values
        for name, value in wants.items():
            part = f"{identity}/{name}" if command.values is not None else identity
            for stage in ("accepted", "sent", "acknowledged"):
                self.result(device, part, name, value, stage, by=command.by)
            if name in self.held:
                self.waiting.append((device, part, name, value, command.by))
                return
            self._end(device, part, name, value, command.by)
        if command.values is not None:
            kept = self.stubborn & wants.keys()
            stage = "not_applied" if kept else "applied"
            self.result(device, identity, command.name, None, stage, by=command.by)

    def _end(self, device: str, part: str, name: str, value: Value, by: str | None) -> None:
        if name in self.stubborn:
            kept = self.values[name]
            self.result(device, part, name, kept, "not_applied", by=by)
            return
        self.values[name] = value
        self.say_settings()
        self.result(device, part, name, value, "applied", by=by)

    def finish(self) -> None:
        """Let go of what was held."""
        for each in self.waiting:
            self._end(*each)
        self.waiting.clear()

    def result(
        self,
        device: str,
        identity: str,
        name: str,
        value: Value,
        stage: str,
        detail: str = "",
        by: str | None = None,
    ) -> None:
        now = clock.iso(clock.now())
        result = Result(identity, name, value, stage, now, by, detail)  # type: ignore[arg-type]
        self.client.publish(self.topics.result(device), encode(result))
