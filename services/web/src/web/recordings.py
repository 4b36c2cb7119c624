"""Raw answers of devices, recorded on demand: asked of their collectors, kept here for an hour.

They come as records of a capture file, serial numbers blanked by the collector, which gets them
anyway: nothing more is asked of the device.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from secrets import token_hex
from typing import Any, Literal

from sunmesh import clock
from sunmesh.config import FAMILIES
from sunmesh.errors import MessageError, RefusedError, SunmeshError
from sunmesh.messages import Frames, Info, TraceWish, decode, encode
from sunmesh.mqtt import Message
from sunmesh.topics import parse

from . import words
from .live import Live
from .people.accounts import Accounts
from .text import _, ngettext

log = logging.getLogger(__name__)

KEPT = 4
KEPT_MS = 3_600_000
MOST_BYTES = 320 * 1024
"""Of the records of one; a collector sends 256 KiB at most."""
SILENCE_MS = 10_000
"""A collector speaks every 2 s while it records; silent for so long, it does not run."""
EXPIRY_S = SILENCE_MS // 1000
MINUTES = (1, 5)
PATIENCE_S, STEP_S = 0.6, 0.02
COLLECTED = frozenset(FAMILIES) - {"group", "relay"}
"""Families with a collector."""

Stage = Literal["asked", "running", "done", "refused", "absent", "cut"]


@dataclass(slots=True)
class Recording:
    """One recording of one device.

    Attributes:
        id: of the wish.
        device: that is recorded.
        seconds: how long it shall last.
        ms: when it was asked for.
        records: as they came, JSON.
        told: the newest count of the collector; None = it has not said anything.
        missing: messages that did not arrive.
        heard: when the collector spoke last.
        ended: when it ended.
    """

    id: str
    device: str
    seconds: int
    ms: int
    records: list[bytes] = field(default_factory=list)
    told: Frames | None = None
    missing: int = 0
    size: int = 0
    heard: int = 0
    ended: int = 0

    def stage(self, now: int) -> Stage:
        """Where it stands: ``absent`` = nobody answered, ``cut`` = silent in its middle."""
        if self.told is None:
            return "asked" if now - self.ms <= SILENCE_MS else "absent"
        if self.told.last:
            return "refused" if self.told.why and not self.told.seq else "done"
        return "running" if now - self.heard <= SILENCE_MS else "cut"

    def is_going(self, now: int) -> bool:
        """Whether more may come."""
        return self.stage(now) in ("asked", "running")

    def left_s(self, now: int) -> int:
        """How long it still lasts."""
        return max(0, self.seconds - (now - self.ms) // 1000)


class Recordings:
    """Asks for recordings and keeps what comes.

    Args:
        live: what the mesh says; its broker client publishes.
        accounts: keeps the audit.
    """

    def __init__(self, live: Live, accounts: Accounts) -> None:
        """Hears answers once the mesh is started."""
        self._live, self._accounts = live, accounts
        self._kept: dict[str, Recording] = {}
        self._lock = threading.Lock()
        if live.mesh is not None:
            live.mesh.subscribe(live.mesh.topics.every("frames"), self.hear)

    @property
    def now_ms(self) -> int:
        """The clock [ms]."""
        return clock.epoch_ms(self._live.now())

    # -- out ---------------------------------------------------------------------------------------

    def start(self, device: str, minutes: int, *, by: str, address: str) -> Recording:
        """Ask the collector of ``device`` for its raw answers.

        Raises:
            RefusedError: nothing was sent, and why.
        """
        if minutes not in MINUTES:
            raise RefusedError(
                _("minutes are one of %(known)s", known=", ".join(map(str, MINUTES)))
            )
        now = self.now_ms
        made = Recording(token_hex(16), device, minutes * 60, now)
        with self._lock:
            self._forget(now)
            going = [each.device for each in self._kept.values() if each.is_going(now)]
            if device in going:
                raise RefusedError(_("it is being recorded already"))
            if len(going) >= KEPT:
                raise RefusedError(
                    _("%(devices)s are being recorded; one of them must end", devices=_list(going))
                )
            over = [each.id for each in self._kept.values() if not each.is_going(now)]
            for number in over[: max(0, len(self._kept) - KEPT + 1)]:
                del self._kept[number]
            self._kept[made.id] = made  # before it is sent: the answer may come at once
        try:
            self._send(made, made.seconds, by, address)
        except RefusedError:
            with self._lock:
                self._kept.pop(made.id, None)
            raise
        _await(lambda: made.told is not None)
        return made

    def stop(self, device: str, *, by: str, address: str) -> None:
        """End what is being recorded of ``device``, if anything is.

        Raises:
            RefusedError: nothing was sent, and why.
        """
        found = self.of(device)
        if found is not None and found.is_going(self.now_ms):
            self._send(found, 0, by, address)
            _await(lambda: found.ended > 0)

    def _send(self, recording: Recording, seconds: int, by: str, address: str) -> None:
        mesh = self._live.mesh
        if mesh is None or not mesh.connected:
            raise RefusedError(_("the broker does not answer; nothing was sent"))
        said = f"raw answers for {seconds} s" if seconds else "no more raw answers"
        deed = "record" if seconds else "stop recording"
        try:
            self._accounts.note(
                by, address, deed, recording.device, "done", f"{said} (id {recording.id})"
            )
        except SunmeshError as err:
            raise RefusedError(
                _("the audit cannot be written, so nothing was sent: %(why)s", why=err)
            ) from err
        now = self._live.now()
        expires = clock.iso(now + timedelta(seconds=EXPIRY_S))
        wish = TraceWish(recording.id, seconds, f"web:{by}", clock.iso(now), expires)
        topic = mesh.topics.trace(recording.device)
        if not mesh.publish(topic, encode(wish), expiry_s=EXPIRY_S):
            raise RefusedError(_("the broker took no more messages"))

    # -- in ----------------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        """Take in some answers, if they are of a recording that was asked for here."""
        address = parse(message.topic)
        if address is None or address.kind != "frames" or not message.payload:
            return
        try:
            frames = decode(Frames, message.payload)
        except MessageError as err:
            self._live.counters["bad_messages"] += 1
            log.warning("%s: %s", message.topic, err)
            return
        with self._lock:
            found = self._kept.get(frames.id)
            if found is None or found.device != address.device:
                return
            expected = 0 if found.told is None else found.told.seq + 1
            if frames.seq < expected or found.ended:
                return  # delivered twice
            found.missing += frames.seq - expected
            found.heard = self.now_ms
            found.ended = found.heard if frames.last else 0
            for record in frames.records:
                data = bytes(record)
                if found.size + len(data) <= MOST_BYTES:
                    found.records.append(data)
                    found.size += len(data)
            found.told = Frames(
                *(frames.id, frames.seq, frames.ts, [], frames.answers, frames.damaged),
                *(frames.silent, frames.left_out, frames.last, frames.why),
            )
        self._live.wake()

    # -- what is known -----------------------------------------------------------------------------

    def of(self, device: str) -> Recording | None:
        """The newest recording of ``device``; None = there is none."""
        with self._lock:
            self._forget(self.now_ms)
            mine = [each for each in self._kept.values() if each.device == device]
        return mine[-1] if mine else None

    def get(self, device: str, number: str) -> Recording | None:
        """The recording of that id; None = forgotten, or never was."""
        with self._lock:
            self._forget(self.now_ms)
            found = self._kept.get(number)
        return found if found is not None and found.device == device else None

    def _forget(self, now: int) -> None:
        """Drop what is older than an hour."""
        for number, each in list(self._kept.items()):
            if now - max(each.ms, each.heard) > KEPT_MS:
                del self._kept[number]


def _await(done: Callable[[], bool]) -> None:
    """Give the collector a moment, so that the page which is shown next says how it went."""
    until = time.monotonic() + PATIENCE_S
    while not done() and time.monotonic() < until:
        time.sleep(STEP_S)


def document(recording: Recording, info: Info | None, service: str) -> str:
    """The capture file, in the form of the collectors' ``record``."""
    about: dict[str, Any] = {
        "model": info.model if info else None,
        "firmware": info.firmware if info else None,
        "origin": "real",
        "source": f"recorded {clock.iso(clock.from_ms(recording.ms))[:10]} by {service} as it ran",
        "note": "",
    }
    records = (
        json.dumps(about | json.loads(each), ensure_ascii=False) for each in recording.records
    )
    return "[\n " + ",\n ".join(records) + "\n]\n"


def file_name(recording: Recording, family: str, zone: tzinfo) -> str:
    """What the file is called."""
    then = clock.from_ms(recording.ms).astimezone(zone)
    return f"{family}-{recording.device}-{then:%Y-%m-%dT%H%M%S}.json"


# -- in words --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """A recording as its page shows it.

    Attributes:
        id: of the recording.
        tone: ``pending``, ``good`` or ``bad``.
        text: where it stands.
        why: in the collector's words, English.
        counts: what came until now.
        going: more may come.
        percent: how far it is.
        has_file: there is something to send.
        until: when it is forgotten [ms].
    """

    id: str
    tone: str
    text: str
    why: str
    counts: str
    going: bool
    percent: int
    has_file: bool
    until: int


def shown(recording: Recording, service: str, now: int) -> Shown:
    """``recording`` in words."""
    stage, told = recording.stage(now), recording.told
    left_s = recording.left_s(now)
    why = told.why if told else ""
    has_file = bool(recording.records)
    if stage == "done":
        text = _("Recorded.") if has_file else _("Nothing was recorded: not one question was put.")
        if why == "cancelled":
            text, why = _("Stopped."), ""
    elif stage == "asked":
        text = _("%(service)s was asked.", service=service)
    elif stage == "running":
        text = _("Recording, %(time)s left.", time=f"{left_s // 60}:{left_s % 60:02d}")
    elif stage == "refused":
        text = _("%(service)s refuses:", service=service)
    elif stage == "absent":
        text = _(
            "%(service)s did not answer for %(num)s s: it is not running, or not connected.",
            service=service,
            num=EXPIRY_S,
        )
    else:
        text = _("%(service)s fell silent before the end.", service=service)
    going = recording.is_going(now)
    return Shown(
        id=recording.id,
        tone="pending" if going else "good" if stage == "done" and has_file and not why else "bad",
        text=text,
        why=why,
        counts=_counts(recording),
        going=going,
        percent=round(100 * (1 - left_s / recording.seconds)),
        has_file=has_file and not going,
        until=max(recording.ms, recording.heard) + KEPT_MS,
    )


def _counts(recording: Recording) -> str:
    told = recording.told
    if told is None or (told.last and not told.seq):
        return ""
    parts = [
        ngettext("%(num)d answer", "%(num)d answers", told.answers),
        ngettext("%(num)d of them damaged", "%(num)d of them damaged", told.damaged)
        if told.damaged
        else _("none damaged"),
    ]
    if told.silent:
        parts.append(
            ngettext(
                "%(num)d question without an answer",
                "%(num)d questions without an answer",
                told.silent,
            )
        )
    if told.left_out:
        parts.append(ngettext("%(num)d left out", "%(num)d left out", told.left_out))
    if recording.missing:
        parts.append(ngettext("%(num)d message lost", "%(num)d messages lost", recording.missing))
    return " · ".join(parts)


def _list(devices: Iterable[str]) -> str:
    return ", ".join(words.title(each) for each in devices)
