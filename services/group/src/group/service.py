"""What happens each turn: the members' newest samples become one."""

import logging
import threading
import time
from collections.abc import Mapping

from sunmesh import clock
from sunmesh.errors import MessageError
from sunmesh.messages import Info, Sample, Status, Value, decode
from sunmesh.mqtt import Mesh, Message
from sunmesh.topics import parse
from sunmesh.voice import Reading, Voice

from .codec import combine
from .config import GroupDevice

log = logging.getLogger(__name__)

ALARM_AFTER_S = 120.0


class Groups:
    """Every group of the site.

    Args:
        groups: by name.
        mesh: the broker client, not started yet.
    """

    def __init__(self, groups: Mapping[str, GroupDevice], mesh: Mesh) -> None:
        """Subscribes to the members."""
        self._groups = groups
        self._lock = threading.Lock()
        self._samples: dict[str, Sample] = {}
        self._away: dict[str, str] = {}
        self._counters = {"samples": 0, "partial": 0, "bad_payloads": 0}
        self._mesh = mesh
        self._voices = {
            name: Voice(name, mesh, alarm_after_s=ALARM_AFTER_S) for name in self._groups
        }
        self._due = dict.fromkeys(groups, 0.0)
        for member in {member for group in groups.values() for member in group.members}:
            mesh.subscribe(mesh.topics.telemetry(member), self._hear)
            mesh.subscribe(mesh.topics.status(member), self._hear)

    def run(self, stop: threading.Event) -> None:
        """Speak for the groups until ``stop``."""
        for name, group in self._groups.items():
            self._voices[name].listen()
            self._voices[name].introduce(
                Info(
                    ts=clock.iso(clock.now()),
                    family="group",
                    model=f"{len(group.members)} devices: {', '.join(group.members)}",
                    poll_interval_s=group.interval_s,
                )
            )
        while not stop.wait(0.2):
            now = time.monotonic()
            for name in self._groups:
                if now >= self._due[name]:
                    self._due[name] = now + self._groups[name].interval_s
                    self.turn(name)

    def turn(self, name: str) -> None:
        """Publish one group as it is now."""
        group = self._groups[name]
        present, missing = self._members(group)
        voice = self._voices[name]
        if all(values is None for values in present.values()):
            voice.leave("offline", "; ".join(missing))
            return
        values, quality = combine(present, group.capacity_ah)
        values["members_missing"] = [text.partition(":")[0] for text in missing]
        self._counters["samples"] += 1
        self._counters["partial"] += bool(missing)
        voice.say(Reading(values, quality))

    def counters(self) -> dict[str, int | float | str | None]:
        """For the health message."""
        return dict(self._counters)

    def _members(self, group: GroupDevice) -> tuple[dict[str, dict[str, Value] | None], list[str]]:
        """Each member's trustworthy values, None where it is missing; and why it is."""
        now = clock.now()
        present: dict[str, dict[str, Value] | None] = {}
        missing = []
        with self._lock:
            for member in group.members:
                sample = self._samples.get(member)
                age_s = (now - sample.time).total_seconds() if sample else 0.0
                why = self._away.get(member)
                if why is None and sample is None:
                    why = "has said nothing yet"
                elif why is None and age_s > group.max_age_s:
                    why = f"its last sample is {age_s:.0f} s old"
                if why is not None or sample is None:
                    present[member] = None
                    missing.append(f"{member}: {why}")
                    continue
                present[member] = {
                    key: None if key in sample.quality else value
                    for key, value in sample.values.items()
                }
        return present, missing

    def _hear(self, message: Message) -> None:
        address = parse(message.topic)
        if address is None or not message.payload:
            return
        try:
            if address.kind == "telemetry":
                sample = decode(Sample, message.payload)
                with self._lock:
                    self._samples[address.device] = sample
                return
            status = decode(Status, message.payload)
        except MessageError as err:
            self._counters["bad_payloads"] += 1
            if self._counters["bad_payloads"] == 1:
                log.warning("%s: %s", message.topic, err)
            return
        with self._lock:
            if status.state == "online":
                self._away.pop(address.device, None)
            else:
                self._away[address.device] = f"{status.state} {status.reason}".strip()
