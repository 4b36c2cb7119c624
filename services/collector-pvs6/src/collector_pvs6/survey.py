"""``probe`` and ``record``: one round of questions, to see what is there and keep what it said."""

import re
from typing import Any

from sunmesh import clock
from sunmesh.errors import FrameError

from . import codec, reply
from .config import Pvs6Device
from .session import Session
from .transport import Link

SERIALS = ("SERIAL", "sn", "serialnum")


def survey(config: Pvs6Device) -> dict[str, Any]:
    """Who is there, and what each device behind it says.

    Raises:
        TransportError: nobody answers; RefusedError: it says no.
    """
    link, info, _, body = _round(config)
    snapshot = codec.read(body, serial=str(info["serial"]))
    return {
        **info,
        "port": f"{link.scheme}://{config.host}",
        "fingerprint": link.pin,
        "devices": {
            serial: {"kind": each.kind, "ts": clock.iso(each.ts) if each.ts else None}
            | {"model": each.identity.get("model"), "values": each.values}
            for serial, each in snapshot.devices.items()
        },
    }


def record(config: Pvs6Device, model: str) -> list[dict[str, Any]]:
    """One capture record for each answer of a round.

    Raises:
        TransportError: nobody answers; RefusedError: it says no.
    """
    _, info, replies, _ = _round(config)
    taken = clock.iso(clock.now())[:10]
    blank = Blanks()
    return [
        {
            "id": f"recorded-{number}",
            "model": model or info["model"],
            "firmware": info["firmware"],
            "origin": "real-anonymised",
            "source": f"recorded {taken} by collector-pvs6 record",
            "note": "serial numbers replaced; secrets removed",
            **blank(each),
        }
        for number, each in enumerate(replies, 1)
    ]


class Blanks:
    """Replaces serial numbers, each by the same one everywhere: the gateway's is its password."""

    def __init__(self) -> None:
        """None is known yet."""
        self._known: dict[str, str] = {}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record`` with other serial numbers."""
        self._find(record)
        done = self._replaced(record)
        assert isinstance(done, dict)  # noqa: S101 - of a dict comes a dict
        return done

    def _find(self, value: object, key: str = "") -> None:
        if isinstance(value, dict):
            name = value.get("name")
            for each, inner in value.items():
                self._find(inner, str(name) if each == "value" and name else str(each))
        elif isinstance(value, list):
            for inner in value:
                self._find(inner, key)
        elif isinstance(value, str) and value.strip() and key.rpartition("/")[2] in SERIALS:
            self._new(value.strip())

    def _new(self, serial: str) -> None:
        """A number of the same form: letters stay, digits count up; p and c stay at the end."""
        if serial in self._known:
            return
        count = str(len(self._known) + 1)
        tail = serial[-1] if serial[-1:] in "pc" else ""
        head = re.match(r"[A-Z]*", serial)
        letters = head[0][:4] if head else ""
        width = max(len(serial) - len(letters) - len(tail), len(count))
        self._known[serial] = f"{letters}{count.rjust(width, '0')}{tail}"

    def _replaced(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, dict):
            return {key: self._replaced(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._replaced(inner) for inner in value]
        if isinstance(value, str):
            for serial in sorted(self._known, key=len, reverse=True):
                value = value.replace(serial, self._known[serial])
        return value


def overheard(blank: Blanks, record: dict[str, Any], text: str) -> dict[str, Any]:
    """The record of an answer that the running collector got; ``error`` where it says nothing."""
    result = {
        "origin": "real-anonymised",
        "note": "serial numbers replaced; secrets removed",
        **blank(record),
    }
    try:
        reply.parse(record["status"], text)
    except FrameError as err:
        if err.kind != "refused":
            result["error"] = err.kind
    return result


def _round(
    config: Pvs6Device,
) -> tuple[Link, dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The wire, who is there, every answer for an archive, and the last one joined."""
    link = Link(config)
    session = Session("the gateway", link)
    try:
        info = dict(session.supervisor().identity)
        protocol = info["protocol"] if config.protocol == "auto" else config.protocol
        build = info["firmware_build"] if isinstance(info["firmware_build"], int) else None
        if protocol == "localapi":
            body = session.variables(str(info["serial"]), build)
        else:
            body = session.device_list()
    finally:
        link.close()
    return link, info, session.take_replies(), body
