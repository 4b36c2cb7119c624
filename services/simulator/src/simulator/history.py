"""History in seconds: the same world, stepped through the past, as messages in JSON lines.

Each line is ``{"topic":…,"payload":…}`` with the very payload that the broker would have carried,
so that ``recorder ingest -`` stores it by the same path as live messages. The newest days are as
fine as asked for, older ones are coarser: nobody looks at last month's minutes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from sunmesh.messages import Alarm, Sample, Status
from sunmesh.poll import ALARM_AFTER_S, withdrawn
from sunmesh.topics import Topics

from .devices import FAMILIES
from .world import DAY_S, World, iso

FINE_DAYS = 3.0
"""The newest days have the step that was asked for."""
COARSE_S = 300.0
"""Older days have at least this step [s]."""

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
        _Teller(name, family, topics) for name, family in devices.items() if family in FAMILIES
    ]
    told = start
    while world.time < end - 1e-6:
        values = world.step(min(step_at(end, world.time, fine_s), end - world.time))
        for teller in tellers:
            for line in teller.tell(world.time, values):
                yield encode(line)
        if world.time - told >= DAY_S:
            told = world.time
            progress((told - start) / max(1.0, end - start))
    progress(1.0)


class _Teller:
    """One device over time: samples while it answers, status and alarm when that changes."""

    def __init__(self, name: str, family: str, topics: Topics) -> None:
        self._name = name
        self._read = FAMILIES[family]
        self._silence = f"silent:{name}"
        self._telemetry = topics.telemetry(name)
        self._status = topics.status(name)
        self._alarm = topics.alarm(name, "device_lost")
        self._last: dict[str, Any] = {}
        self._silent_since: float | None = None
        self._raised: Alarm | None = None
        self._online = False
        self._seq = 0

    def tell(self, t: float, values: Mapping[str, Any]) -> Iterator[Line]:
        """What goes out at ``t``."""
        if self._silence not in values["faults"]:
            yield from self._answers(t, values)
        else:
            yield from self._is_silent(t)

    def _answers(self, t: float, values: Mapping[str, Any]) -> Iterator[Line]:
        ts = iso(t)
        if not self._online:
            self._online, self._silent_since = True, None
            yield Line(self._status, Status("online", ts))
        if self._raised is not None:
            text = f"{self._name} answers again"
            yield Line(
                self._alarm,
                msgspec.structs.replace(self._raised, state="cleared", text=text, ts=ts),
            )
            self._raised = None
        self._last = self._read(values)
        yield self._sample(ts, self._last, {})

    def _is_silent(self, t: float) -> Iterator[Line]:
        ts = iso(t)
        if self._online:
            self._online, self._silent_since = False, t
            yield Line(self._status, Status("offline", ts, "no answer within 2 s"))
            yield self._sample(ts, *withdrawn(self._last))
        since = self._silent_since
        if since is not None and self._raised is None and t - since >= ALARM_AFTER_S:
            self._raised = Alarm(
                id=f"{self._name}-device_lost-{ts}",
                state="raised",
                severity="warning",
                title=f"{self._name} cannot be read",
                text=f"{self._name} has been offline since {iso(since)}: no answer within 2 s",
                ts=ts,
            )
            yield Line(self._alarm, self._raised)

    def _sample(self, ts: str, values: dict[str, Any], quality: dict[str, str]) -> Line:
        self._seq += 1
        return Line(self._telemetry, Sample(ts=ts, seq=self._seq, values=values, quality=quality))
