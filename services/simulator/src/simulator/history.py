"""History in seconds: the same world, stepped through the past, as messages in JSON lines.

Each line is ``{"topic":…,"payload":…}`` with the very payload that the broker would have carried,
so that ``recorder ingest -`` stores it by the same path as live messages. The newest days are as
fine as asked for, older ones are coarser: nobody looks at last month's minutes. Each family has its
own pace (``devices.FAMILIES``); with another step than the usual all of them change.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from sunmesh.messages import Alarm, Sample, Status
from sunmesh.poll import ALARM_AFTER_S, Condition, withdrawn
from sunmesh.topics import Topics

from .devices import FAMILIES, away
from .world import DAY_S, World, iso

FINE_DAYS = 3.0
"""The newest days have the step that was asked for."""
FINE_S = 60.0
"""The usual step of the newest days [s]."""
COARSE_S = 300.0
"""Older days have at least this step [s]."""
RAW_DAYS = 60.0
OLD_S = 900.0
"""Of days before those, whose samples the recorder is about to delete, there is one in that [s]."""

Devices = Mapping[str, str]
"""Name of a device → its family."""


class Line(msgspec.Struct, frozen=True):
    """One message of the past."""

    topic: str
    payload: msgspec.Struct


def step_at(end: float, t: float, fine_s: float) -> float:
    """Length of the step that begins at ``t`` [s]."""
    if end - t <= FINE_DAYS * DAY_S:
        return fine_s
    return max(fine_s, COARSE_S)


def lines(
    world: World,
    devices: Devices,
    topics: Topics,
    *,
    end: float,
    fine_s: float = 60.0,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[bytes]:
    """Step ``world`` until ``end`` and say what the devices said on the way.

    Args:
        world: at the moment where history begins; it is moved.
        devices: those of the site; families without a history are left out.
        topics: of the site.
        end: where history ends [s since 1970].
        fine_s: step of the newest days [s].
        progress: is told the share done, 0 to 1, once a simulated day.
    """
    encode = msgspec.json.Encoder().encode
    start = world.time
    tellers = [
        _Teller(name, family, topics, max(1.0, fine_s / FINE_S))
        for name, family in devices.items()
        if family in FAMILIES
    ]
    told = start
    while world.time < end - 1e-6:
        values = world.step(min(step_at(end, world.time, fine_s), end - world.time))
        for teller in tellers:
            for line in teller.tell(world.time, values, (end - world.time) / DAY_S):
                yield encode(line)
        if world.time - told >= DAY_S:
            told = world.time
            progress((told - start) / max(1.0, end - start))
    progress(1.0)


class _Teller:
    """A device over time, and those behind it.

    Args:
        name: of the device.
        family: of :data:`FAMILIES`.
        topics: of the site.
        stretch: pauses between samples are longer by this factor.
    """

    def __init__(self, name: str, family: str, topics: Topics, stretch: float = 1.0) -> None:
        self._name = name
        self._family_name = family
        self._family = FAMILIES[family]
        self._topics = topics
        self._stretch = stretch
        self._due = 0.0
        self._own = _Voice(name, topics)
        self._behind: dict[str, _Voice] = {}

    def tell(self, t: float, values: Mapping[str, Any], ago: float) -> Iterator[Line]:
        """What goes out at ``t``, ``ago`` days back: nothing before the next sample is due."""
        if t < self._due - 1e-6:
            return
        pause = self._family.fine_s if ago <= FINE_DAYS else self._family.coarse_s
        self._due = t + max(pause * self._stretch, OLD_S if ago > RAW_DAYS else 0.0)
        gone = away(self._family_name, values, self._name)
        if gone is not None:
            state, reason = gone
            yield from self._own.leave(t, state, reason)
            for voice in self._behind.values():
                behind = "sleeping" if state == "sleeping" else "offline"
                reason = f"{self._name} is {state}"
                yield from voice.leave(t, behind, reason, alarm=False)
            return
        said = self._family.read(values, self._name)
        alarms = self._family.alarms(values, self._name)
        for device, reading in said.items():
            if device == self._name:
                yield from self._own.say(t, reading, alarms)
                continue
            if device not in self._behind:
                self._behind[device] = _Voice(device, self._topics)
            yield from self._behind[device].say(t, reading, {})
        for device in self._behind.keys() - said.keys():
            reason = "no report; the others produce nothing, either"
            yield from self._behind[device].leave(t, "sleeping", reason)


class _Voice:
    """One device: samples while it answers, status and alarms when they change."""

    def __init__(self, name: str, topics: Topics) -> None:
        self._name = name
        self._topics = topics
        self._last: dict[str, Any] = {}
        self._state = ""
        self._since = 0.0
        self._raised: dict[str, Alarm] = {}
        self._seq = 0

    def say(
        self, t: float, reading: dict[str, Any], alarms: Mapping[str, Condition]
    ) -> Iterator[Line]:
        """A sample."""
        yield from self._be(t, "online", "")
        yield from self._clear(t, "device_lost", f"{self._name} answers again")
        self._last = reading
        yield self._sample(iso(t), reading, {})
        for code, condition in alarms.items():
            yield from self._raise(t, code, condition)
        for code in self._raised.keys() - alarms.keys():
            yield from self._clear(t, code, f"{self._name}: it is over")

    def leave(self, t: float, state: str, reason: str, *, alarm: bool = True) -> Iterator[Line]:
        """It cannot be read."""
        was = self._state
        yield from self._be(t, state, reason)
        if was == "online":
            yield self._sample(iso(t), *withdrawn(self._last))
        if alarm and state != "sleeping" and t - self._since >= ALARM_AFTER_S:
            text = f"Nothing could be read from {self._name} for 2 min: {reason}."
            title = f"{self._name} cannot be read"
            yield from self._raise(t, "device_lost", Condition("warning", title, text))

    def _be(self, t: float, state: str, reason: str) -> Iterator[Line]:
        if state != self._state:
            self._state, self._since = state, t
            status = Status(state, iso(t), reason)  # type: ignore[arg-type]
            yield Line(self._topics.status(self._name), status)

    def _raise(self, t: float, code: str, condition: Condition) -> Iterator[Line]:
        if code in self._raised:
            return
        ts = iso(t)
        alarm = self._raised[code] = Alarm(
            id=f"{self._name}-{code}-{ts}",
            state="raised",
            severity=condition.severity,
            title=condition.title,
            text=condition.text,
            ts=ts,
            value=condition.value,
        )
        yield Line(self._topics.alarm(self._name, code), alarm)

    def _clear(self, t: float, code: str, text: str) -> Iterator[Line]:
        raised = self._raised.pop(code, None)
        if raised is not None:
            cleared = msgspec.structs.replace(
                raised, state="cleared", text=text, ts=iso(t), value=None
            )
            yield Line(self._topics.alarm(self._name, code), cleared)

    def _sample(self, ts: str, values: dict[str, Any], quality: dict[str, str]) -> Line:
        self._seq += 1
        sample = Sample(ts=ts, seq=self._seq, values=values, quality=quality)
        return Line(self._topics.telemetry(self._name), sample)
