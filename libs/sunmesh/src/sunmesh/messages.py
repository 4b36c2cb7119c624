"""Messages: the payloads of the contract as frozen structs, and the one way in and out of JSON.

A reader that meets something else gets a :class:`~sunmesh.errors.MessageError` with the reason:
too large, not JSON, not a finite number, an unknown version, a wrong type, an unreadable time.
"""

import math
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from . import clock
from .errors import MessageError

VERSION = 1
"""Version of the message form; readers refuse any other."""

MAX_BYTES = 64 * 1024
"""No message of the mesh is larger [bytes]."""

Scalar = None | bool | int | float | str
Value = None | bool | int | float | str | list[Scalar]
"""What a quantity can be: a number, a word, a truth, a list of those, or None = not readable."""

DeviceState = Literal["online", "sleeping", "offline", "identity_mismatch", "refusing"]
Severity = Literal["info", "warning", "critical"]
Stage = Literal[
    "accepted",
    "sent",
    "acknowledged",
    "applied",
    "refused",
    "expired",
    "failed",
    "not_applied",
    "reverted",
]
"""Where a command stands; the first three are passed, each of the others ends its life.
``reverted`` comes after ``applied``: the device has gone back by itself, or somebody else did it.
"""

PushState = Literal[
    "waiting",
    "sent",
    "digest",
    "delivered",
    "read",
    "acknowledged",
    "failed",
    "expired",
    "cancelled",
]
"""How far a push has come: the provider has it from ``sent`` on, ``digest`` = in one for many."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of one device: ``<device>/telemetry``.

    Attributes:
        v: version of the form.
        ts: when the device was read, ISO 8601 UTC.
        seq: counts up while the collector runs.
        values: every quantity of the device by its vocabulary name; None = not readable now.
        quality: exceptions only: ``suspect`` or ``stale`` by quantity name.
    """

    v: int = VERSION
    ts: str
    seq: int = 0
    values: dict[str, Value]
    quality: dict[str, str] = {}

    @property
    def time(self) -> datetime:
        """``ts`` as a moment in UTC."""
        return clock.parse(self.ts)

    @property
    def ms(self) -> int:
        """``ts`` in milliseconds since 1970."""
        return clock.epoch_ms(self.time)


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one setting takes: numbers from ``low`` to ``high``, or one of ``choices``.

    Attributes:
        low, high: inclusive, in ``unit``.
        step: between two numbers that it takes.
        choices: the only words, truths or numbers that it takes.
        unit: of the numbers.
        risk: ``normal``, ``high`` (can harm a battery or a load) or ``danger`` (a command must
            repeat its value as ``confirm``).
    """

    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: list[Scalar] = []
    unit: str = ""
    risk: Literal["normal", "high", "danger"] = "normal"


class Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a device is: ``<device>/info``. ``nameplate`` holds ratings by vocabulary name.

    ``through`` names the device that it is read through, such as a microinverter's gateway.
    ``settable`` names what a command may set now, ``ranges`` says to what.
    """

    ts: str
    family: str
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    protocol: str | None = None
    port: str | None = None
    through: str | None = None
    poll_interval_s: float | None = None
    nameplate: dict[str, Value] = {}
    settable: list[str] = []
    ranges: dict[str, Range] = {}


class Writes(msgspec.Struct, frozen=True, omit_defaults=True):
    """How often a setting was written: what its memory has left of today and of its life."""

    today: int = 0
    lifetime: int = 0
    budget: int = 0


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Settings as read from a device at ``ts``: ``<device>/settings``.

    ``writes`` counts what commands have written, by setting.
    """

    ts: str
    values: dict[str, Value]
    writes: dict[str, Writes] = {}


class Status(msgspec.Struct, frozen=True):
    """Whether a device answers, since when, and why not: ``<device>/status``."""

    state: DeviceState
    since: str
    reason: str = ""


class Alarm(msgspec.Struct, frozen=True, omit_defaults=True):
    """One alarm: ``alarms/<device>/<code>``. ``id`` stays the same from raised to cleared.

    Attributes:
        title, text: what is wrong, in English; for who has no words of his own for the code.
        ts: of this change.
        value: what it was raised for, where that is one number or word.
        since: when it was raised; None where ``ts`` says it.
        cause: ``device/code`` of the alarm that this one follows from: shown, not pushed.
        flapping: it came and went so often that it is one alarm until that ends.
        advice: what to do, in one sentence.
        data: the values that a text in another language wants, by name.
    """

    id: str
    state: Literal["raised", "cleared"]
    severity: Severity
    title: str
    text: str
    ts: str
    value: Value = None
    since: str | None = None
    cause: str | None = None
    flapping: bool = False
    advice: str = ""
    data: dict[str, Value] = {}


class Ack(msgspec.Struct, frozen=True):
    """Somebody has seen an alarm: ``alarms/<device>/<code>/ack``. ``id`` is the alarm's."""

    id: str
    by: str
    ts: str


class Delivered(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the newest push about an alarm has come on its way to one target.

    ``kind`` is what it says: ``raised``, ``worse``, ``cleared``, ``reminder`` or ``escalation``.
    """

    state: PushState
    kind: str
    by: str
    ts: str
    detail: str = ""


class Delivery(msgspec.Struct, frozen=True):
    """To whom an alarm was pushed: ``alarms/<device>/<code>/delivery``. ``id`` is the alarm's."""

    id: str
    ts: str
    targets: dict[str, Delivered]


class ServiceStatus(msgspec.Struct, frozen=True):
    """Whether a service runs: ``services/<service>/status``."""

    state: Literal["online", "offline"]
    version: str
    host: str
    started: str


class Health(msgspec.Struct, frozen=True):
    """A service's counters: ``services/<service>/health``."""

    ts: str
    counters: dict[str, int | float | str | None]


class LogLine(msgspec.Struct, frozen=True):
    """One line that a service logged: when, how bad (``INFO`` …), which part of it, what."""

    ts: str
    level: str
    name: str
    text: str


class Log(msgspec.Struct, frozen=True):
    """The last lines that a service logged, the newest last: ``services/<service>/log``."""

    ts: str
    lines: list[LogLine]


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody wants: ``<device>/command``. ``name`` and ``value`` are enough.

    Attributes:
        name: the setting; ``settings`` for an ordered batch of several, in ``values``.
        value: what it shall be.
        id: tells a repetition from a second wish; given by the receiver where it is missing.
        expires: not to be done after that; 30 s after its arrival where it is missing.
        by: who wants it.
        reason: why.
        lease_s: for how long, where a device is leased.
        values: the settings of a batch.
        override: why the day's budget of writes may be exceeded this time.
        confirm: the value once more, for what can do great harm.
    """

    name: str
    value: Value = None
    id: str | None = None
    expires: str | None = None
    by: str | None = None
    reason: str | None = None
    lease_s: float | None = None
    values: dict[str, Value] | None = None
    override: str | None = None
    confirm: Value = None


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stage of a command's life: ``<device>/command/result``."""

    id: str
    name: str
    value: Value
    stage: Stage
    ts: str
    by: str | None = None
    detail: str = ""


RENEWED = "renewed"
"""The ``detail`` of a lease that goes on: it comes with each renewal, and is no news."""


class TraceWish(msgspec.Struct, frozen=True):
    """Somebody wants a device's raw answers: ``<device>/trace``.

    Attributes:
        id: of the recording; the same once more with ``seconds`` = 0 ends it.
        seconds: for how long, 600 at most.
        by: who wants them.
        ts: when it was asked.
        expires: not to be begun after that.
    """

    id: str
    seconds: float
    by: str
    ts: str
    expires: str


class Frames(msgspec.Struct, frozen=True, omit_defaults=True):
    """Raw answers of a device since the message before: ``<device>/trace/frames``.

    Attributes:
        id: of the recording.
        seq: of this message, from 0; a gap means that one was lost.
        ts: when it was sent.
        records: as in a capture file, each with ``at_s`` since the beginning.
        answers, damaged, silent: how many came until now, how many of them cannot be read, and how
            many questions were not answered.
        left_out: records that were too many or too large.
        last: nothing more comes.
        why: it ended before its time, or was never begun.
    """

    id: str
    seq: int
    ts: str
    records: list[msgspec.Raw] = []
    answers: int = 0
    damaged: int = 0
    silent: int = 0
    left_out: int = 0
    last: bool = False
    why: str = ""


M = TypeVar("M", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}
_TIMES = ("ts", "since", "started", "expires")


def encode(message: msgspec.Struct) -> bytes:
    """``message`` as JSON.

    Raises:
        MessageError: a value is NaN or infinite; such a number never leaves a service.
    """
    if isinstance(message, Sample | Settings | Alarm):
        values = message.data if isinstance(message, Alarm) else message.values
        for name, value in values.items():
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, float) and not math.isfinite(item):
                    raise MessageError(f"{name} is {item}, which is no reading")
    return _encoder.encode(message)


def decode(kind: type[M], payload: bytes) -> M:
    """``payload`` as a message of that kind.

    Raises:
        MessageError: with the reason in one line.
    """
    if len(payload) > MAX_BYTES:
        raise MessageError(f"{len(payload)} bytes; no message is larger than {MAX_BYTES}")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        message: M = decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        raise MessageError(str(err)) from err
    if isinstance(message, Sample) and message.v != VERSION:
        raise MessageError(f"version {message.v}; this reader knows {VERSION}")
    for name in _TIMES:
        text = getattr(message, name, None)
        if text is not None:
            try:
                clock.parse(text)
            except ValueError as err:
                raise MessageError(f"{name}: {err}") from err
    return message
