"""From a topic and its payload to what is to be stored; pure."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TypeVar
from zlib import crc32

import msgspec
from sunmesh import clock
from sunmesh.database.tables import CODE_LENGTH, ID_LENGTH, MAX_TS
from sunmesh.errors import MessageError
from sunmesh.messages import (
    MAX_BYTES,
    VERSION,
    Alarm,
    Command,
    Info,
    Result,
    Sample,
    Settings,
    Status,
    Value,
    decode,
)
from sunmesh.topics import NAME, Address, parse

from .records import AGAIN, GAP_TOPIC, RETAINED

KINDS = (
    "telemetry",
    "info",
    "settings",
    "status",
    "command",
    "result",
    "alarm",
    "alarm_ack",
    "decision",
)
"""The kinds of topics that the recorder subscribes to."""

EARLIEST = 1_420_070_400_000
"""The start of 2015: nothing of ours was measured before [ms]."""


class Telemetry(msgspec.Struct, frozen=True, gc=False):
    """A sample of a device at ``ms``."""

    device: str
    ms: int
    values: dict[str, Value]
    quality: dict[str, str]


@dataclass(frozen=True, slots=True)
class StatusHeard:
    """Whether a device answers, since ``ms``."""

    device: str
    ms: int
    status: Status


@dataclass(frozen=True, slots=True)
class DocumentHeard:
    """What a device says about itself at ``ms``: ``kind`` is ``info`` or ``settings``."""

    device: str
    ms: int
    kind: str
    document: str


@dataclass(frozen=True, slots=True)
class AlarmHeard:
    """A raising or a clearing at ``ms``."""

    device: str
    ms: int
    code: str
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class AckHeard:
    """Somebody has seen an alarm."""

    device: str
    ms: int
    code: str
    id: str
    by: str


@dataclass(frozen=True, slots=True)
class CommandHeard:
    """A stage of a command's life; ``value`` is JSON.

    Attributes:
        twin: the start of ``id`` that a copy of the same message would have; empty when the id is
            the message's own and tells copies apart by itself.
    """

    device: str
    ms: int
    id: str
    stage: str
    name: str
    value: str
    by: str | None
    detail: str
    twin: str = ""


@dataclass(frozen=True, slots=True)
class DecisionHeard:
    """What a rule decided at ``ms``, as JSON; ``device`` is the rule's name."""

    device: str
    ms: int
    document: str


class Gap(msgspec.Struct, frozen=True):
    """What is known to be lost: ``messages`` of the time from ``started`` to ``ended`` [ms]."""

    started: int
    ended: int
    reason: str
    messages: int
    detail: str = ""

    @property
    def ms(self) -> int:
        """When it began."""
        return self.started

    @property
    def device(self) -> str:
        """For a line of the log."""
        return f"the gap {self.reason}"


Item = (
    Telemetry
    | StatusHeard
    | DocumentHeard
    | AlarmHeard
    | AckHeard
    | CommandHeard
    | DecisionHeard
    | Gap
)


class _Sample(msgspec.Struct, frozen=True, gc=False):
    """A sample whose time msgspec reads: the usual form, ten times as fast as any other."""

    ts: datetime
    values: dict[str, Value]
    v: int = VERSION
    quality: dict[str, str] = {}


class _Ack(msgspec.Struct, frozen=True):
    """``alarms/<device>/<code>/ack``."""

    id: str
    ts: str
    by: str = ""


T = TypeVar("T")


class _Time(msgspec.Struct, frozen=True):
    """The time of a message, nothing else of it."""

    ts: str


_times = msgspec.json.Decoder(_Time)
_samples = msgspec.json.Decoder(_Sample)
_acks = msgspec.json.Decoder(_Ack)
_gaps = msgspec.json.Decoder(Gap)
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_texts = msgspec.json.Decoder(str)


@lru_cache(maxsize=4096)
def _address(topic: str) -> Address | str:
    """Whom the topic is about, or why nothing of it is stored."""
    address = parse(topic)
    if address is None or address.kind not in KINDS:
        return "the topic is none that is stored"
    if address.kind == "decision":
        if not 0 < len(address.device) <= CODE_LENGTH:
            return f"the rule's name is not 1 to {CODE_LENGTH} characters"
    elif not NAME.fullmatch(address.device):
        return "the device's name is not 1 to 32 of a-z, 0-9 and -"
    if address.kind in ("alarm", "alarm_ack") and not 0 < len(address.code) <= CODE_LENGTH:
        return f"the alarm's code is not 1 to {CODE_LENGTH} characters"
    return address


def is_raw(topic: str) -> bool:
    """Whether the topic brings samples: what a full spool may throw away."""
    return topic.endswith("/telemetry")


def read(topic: str, payload: bytes, site: str, arrival: int = 0, flags: int = 0) -> Item | None:
    """What the message says; None for an empty one, which clears a retained topic.

    Args:
        topic: of the message.
        payload: of the message.
        site: others are refused.
        arrival: when it came, for messages that carry no time [ms].
        flags: ``RETAINED`` and ``AGAIN`` of :mod:`recorder.records`.

    Raises:
        MessageError: with the reason in one line: not of this site, not a message, too large ...
    """
    address = _address(topic)
    if isinstance(address, str):
        if topic == GAP_TOPIC:
            return _gaps.decode(payload)
        raise MessageError(address)
    if address.site != site:
        raise MessageError(f"the topic is of another site than {site}")
    if not payload:
        return None
    if address.kind == "telemetry":
        return _telemetry(address.device, payload)
    return _other(address, payload, arrival, flags)


def time_of(payload: bytes) -> int | None:
    """The time that a sample carries [ms]; None when it is none."""
    try:
        return _ms(_times.decode(payload).ts)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MessageError):
        return None


def impossible(item: Item, latest: int | None) -> str:
    """Why a device cannot have been read at that time; empty when it can.

    Alarms, commands and decisions are kept, whatever their time is.

    Args:
        item: what it said.
        latest: the newest time that can be true [ms]; None = not known.
    """
    if not isinstance(item, Telemetry | StatusHeard | DocumentHeard):
        return ""
    if item.ms < EARLIEST:
        return f"its time {clock.iso(clock.from_ms(item.ms))} is before 2015"
    if latest is not None and item.ms > latest:
        return f"its time {clock.iso(clock.from_ms(item.ms))} is in the future"
    return ""


def _telemetry(device: str, payload: bytes) -> Telemetry:
    if len(payload) <= MAX_BYTES:
        try:
            quick = _samples.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # the other way says what is wrong, or reads a time written in another form
        else:
            if quick.v == VERSION and quick.ts.tzinfo is not None:
                ms = int(quick.ts.timestamp() * 1000 + 0.5)
                if 0 <= ms <= MAX_TS:
                    return Telemetry(device, ms, quick.values, quick.quality)
    sample = decode(Sample, payload)
    return Telemetry(device, _ms(sample.ts), sample.values, sample.quality)


def _other(address: Address, payload: bytes, arrival: int, flags: int) -> Item:
    device = address.device
    match address.kind:
        case "status":
            status = decode(Status, payload)
            return StatusHeard(device, _ms(status.since), status)
        case "info":
            info = decode(Info, payload)
            return DocumentHeard(device, _ms(info.ts), "info", payload.decode(errors="replace"))
        case "settings":
            settings = decode(Settings, payload)
            return DocumentHeard(
                device, _ms(settings.ts), "settings", payload.decode(errors="replace")
            )
        case "alarm":
            alarm = decode(Alarm, payload)
            return AlarmHeard(device, _ms(alarm.ts), address.code, alarm)
        case "alarm_ack":
            ack = _decoded(_acks, payload)
            return AckHeard(device, _ms(ack.ts), address.code, ack.id, ack.by)
        case "command":
            return _command(device, payload, arrival, flags)
        case "result":
            result = decode(Result, payload)
            value = msgspec.json.encode(result.value).decode()
            return CommandHeard(
                device,
                _ms(result.ts),
                result.id,
                result.stage,
                result.name,
                value,
                result.by,
                result.detail,
            )
    return _decision(device, payload, arrival)


def _command(device: str, payload: bytes, arrival: int, flags: int) -> CommandHeard:
    """A wish: it carries no time, and perhaps no id, so that a copy of it looks like another."""
    command = decode(Command, payload)
    several = command.values
    value = msgspec.json.encode(command.value if several is None else several).decode()
    identity, twin = command.id, ""
    if not identity:
        twin = f"unnamed-{crc32(payload):08x}-"
        if flags & RETAINED:
            identity, twin = f"{twin}retained", ""
        else:
            identity = f"{twin}{arrival}"
            if not flags & AGAIN:
                twin = ""
    detail = [] if command.reason is None else [command.reason]
    if command.lease_s is not None:
        detail.append(f"for {command.lease_s:g} s")
    if command.override is not None:
        detail.append(f"over the budget of writes: {command.override}")
    if flags & RETAINED:
        detail.append("retained, so that no device takes it")
    return CommandHeard(
        device,
        arrival,
        identity[:ID_LENGTH],
        "requested",
        command.name,
        value,
        command.by,
        "; ".join(detail),
        twin,
    )


def _decision(rule: str, payload: bytes, arrival: int) -> DecisionHeard:
    if len(payload) > MAX_BYTES:
        raise MessageError(f"{len(payload)} bytes; no message is larger than {MAX_BYTES}")
    document = _decoded(_objects, payload)
    ms = _ms(_decoded(_texts, bytes(document["ts"]))) if "ts" in document else arrival
    return DecisionHeard(rule, ms, payload.decode(errors="replace"))


def _decoded(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        raise MessageError(str(err)) from err


def _ms(text: str) -> int:
    """``text`` in milliseconds since 1970, where the column can hold it."""
    try:
        ms = clock.epoch_ms(clock.parse(text))
    except ValueError as err:
        raise MessageError(f"ts: {err}") from err
    if not 0 <= ms <= MAX_TS:
        raise MessageError(f"{text} is no time that a device can have been read at")
    return ms
