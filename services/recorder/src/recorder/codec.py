"""From a topic and its payload to what is to be stored; pure."""

from dataclasses import dataclass
from functools import lru_cache

from sunmesh import clock
from sunmesh.database.tables import CODE_LENGTH, MAX_TS
from sunmesh.errors import MessageError
from sunmesh.messages import Alarm, Info, Sample, Settings, Status, Value, decode
from sunmesh.topics import NAME, Address, parse

KINDS = ("telemetry", "info", "settings", "status", "alarm")
"""The kinds of topics that the recorder subscribes to."""


@dataclass(frozen=True, slots=True)
class Telemetry:
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


Item = Telemetry | StatusHeard | DocumentHeard | AlarmHeard


@lru_cache(maxsize=4096)
def _address(topic: str) -> Address | None:
    return parse(topic)


def read(topic: str, payload: bytes, site: str) -> Item | None:
    """What the message says; None for an empty one, which clears a retained topic.

    Raises:
        MessageError: with the reason in one line: not of this site, not a message, too large ...
    """
    address = _address(topic)
    if address is None or address.kind not in KINDS:
        raise MessageError("the topic is none that is stored")
    if address.site != site:
        raise MessageError(f"the topic is of another site than {site}")
    device = address.device
    if not NAME.fullmatch(device):
        raise MessageError("the device's name is not 1 to 32 of a-z, 0-9 and -")
    if not payload:
        return None
    match address.kind:
        case "telemetry":
            sample = decode(Sample, payload)
            return Telemetry(device, _ms(sample.ts), sample.values, sample.quality)
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
    if not 0 < len(address.code) <= CODE_LENGTH:
        raise MessageError(f"the alarm's code is not 1 to {CODE_LENGTH} characters")
    alarm = decode(Alarm, payload)
    return AlarmHeard(device, _ms(alarm.ts), address.code, alarm)


def _ms(text: str) -> int:
    """``text`` in milliseconds since 1970, where the column can hold it."""
    ms = clock.epoch_ms(clock.parse(text))
    if not 0 <= ms <= MAX_TS:
        raise MessageError(f"{text} is no time that a device can have been read at")
    return ms
