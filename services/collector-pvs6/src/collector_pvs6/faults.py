"""What goes wrong between an emulated gateway and who asks it, as owners have seen it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sunmesh.emulation import Faults
from sunmesh.errors import ConfigError

FAULTS = (
    *("silent", "hang", "truncated", "empty", "403", "500", "html502", "mime_error"),
    *("nan", "missing_keys", "dup_sn"),
)
IDENTIFYING = {
    *("SERIAL", "SWVER", "MODEL", "DATATIME", "CURTIME", "subtype", "panid", "slave"),
    *("sn", "prodMdlNm", "msmtEps", "serialnum", "model", "sw_rev", "sys_type", "time"),
}
"""Keys that ``nan`` and ``missing_keys`` leave alone: they spoil measurements."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; ``announced`` is the Content-Length where that is a lie."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None


SPOILT = {
    "403": Answer(403, b'{ "status":403, "error" : "Unauthorized", "path":"" }'),
    "500": Answer(500, b""),
    "html502": Answer(502, b"<html><head><title>502 Bad Gateway</title></head></html>"),
    "empty": Answer(200, b""),
    "mime_error": Answer(
        200, b'{"result": "error", "msg": "Could not connect to mime.", "success": false}'
    ),
}
"""What owners have seen in the place of an answer."""


class WebFaults(Faults):
    """Spoils answers of a gateway; ``follow`` brings the house's calendar and its plug."""

    @classmethod
    def parse(cls, texts: list[str], seed: int = 1) -> "WebFaults":
        """From ``kind`` or ``kind:rate`` as on the command line.

        Raises:
            ConfigError: an unknown kind or a rate outside 0 to 1.
        """
        rates = {}
        for text in texts:
            kind, _, rate = text.partition(":")
            if kind not in FAULTS:
                raise ConfigError(f"--fault {text}: the kinds are {', '.join(FAULTS)}")
            try:
                rates[kind] = float(rate) if rate else 1.0
            except ValueError:
                rates[kind] = -1.0
            if not 0 <= rates[kind] <= 1:
                raise ConfigError(f"--fault {text}: the rate must be 0 to 1")
        return cls(rates, seed)

    @property
    def is_silent(self) -> bool:
        """Whether the plug is out, or the gateway says nothing this time."""
        return self._unplugged or self._hit("silent")

    @property
    def hangs(self) -> bool:
        """Whether the answer never comes this time."""
        return self._hit("hang")

    def spoil(self, answer: Answer) -> Answer:
        """``answer`` as it arrives."""
        for kind, spoilt in SPOILT.items():
            if self._hit(kind):
                return spoilt
        if self._hit("truncated") or self._hit("crc"):  # crc: the calendar's noisy line
            cut = answer.body[: self._random.randrange(1, max(2, len(answer.body)))]
            announced = self._random.choice((None, len(answer.body)))
            return Answer(answer.status, cut, answer.headers, announced)
        for kind in ("nan", "missing_keys", "dup_sn"):
            if answer.status == 200 and self._hit(kind):
                body = self._changed(json.loads(answer.body), kind)
                answer = Answer(200, json.dumps(body).encode(), answer.headers)
        return answer

    def _changed(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        """A third of the measurements made NaN or left out, or two devices of one number."""
        objects = body.get("devices", [body])
        if kind == "dup_sn":
            named = [(each, key) for each in objects for key in each if _is_inverter(each, key)]
            if len(named) > 1:
                (one, key), (other, other_key) = named[:2]
                other[other_key] = one[key]
            return body
        for each in objects:
            for key in list(each):
                name = key.rpartition("/")[2]
                is_measured = key.startswith("/sys/") or key[0].islower()
                if is_measured and name not in IDENTIFYING and self._random.random() < 1 / 3:
                    if kind == "nan":
                        each[key] = "nan"
                    else:
                        del each[key]
        return body


def _is_inverter(each: Mapping[str, Any], key: str) -> bool:
    if key == "SERIAL":
        return each.get("DEVICE_TYPE") == "Inverter"
    return key.startswith("/sys/devices/inverter/") and key.endswith("/sn")
