"""Text of ``w1_slave`` in, degrees out. Pure: no file, no clock, no log.

The five ways in which that file lies are told in ``docs/protocols/temperature.md``; each capture
beside the tests is one of them. ``t=`` is never believed: the kernel computes it even from bytes
whose checksum is wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sunmesh.errors import FrameError
from sunmesh.messages import Value

MODELS = {"28": "DS18B20", "22": "DS1822", "42": "DS28EA00"}
"""Family code → model; all count sixteenths of a degree."""

LINE = re.compile(r"((?:[0-9a-f]{2} ){9}): crc=([0-9a-f]{2}) (YES|NO)")
ROM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{12}")
LENGTH = len("61 01 4b 46 7f ff 0f 10 02 : crc=02 YES\n61 01 4b 46 7f ff 0f 10 02 t=0\n")
"""No whole text is shorter."""

LOW_C, HIGH_C = -55.0, 125.0
"""What the sensor can measure."""

POWER_ON = (0x0550, 0x0C)
"""Raw value 85 °C and byte 6 of a sensor that was powered and has not converted.

A measured 85 °C has 0x10 there: byte 6 is 0x10 less the low nibble of the raw value in every
real 12-bit capture. The maker does not document that; of other resolutions no capture is known.
"""

POWER_ON_C = 85.0


@dataclass(frozen=True, slots=True)
class Scratchpad:
    """What one conversion left in the sensor.

    Attributes:
        celsius: the temperature, in steps of 1/16 or coarser.
        resolution_bits: 9 to 12.
    """

    celsius: float
    resolution_bits: int


def is_rom(text: str) -> bool:
    """Whether ``text`` names a sensor of a model that is read here."""
    return ROM.fullmatch(text) is not None and text[:2] in MODELS


def model(rom: str) -> str:
    """The model that a sensor's family code says."""
    return MODELS.get(rom[:2], "unknown")


def crc8(data: bytes) -> int:
    """CRC-8 of 1-Wire: polynomial 0x31 reflected, start 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8C if crc & 1 else crc >> 1
    return crc


def read(text: str) -> Scratchpad:
    """What ``text``, the whole of a ``w1_slave`` file, says.

    Raises:
        FrameError: ``empty`` (a failed read on current kernels), ``crc`` (NO, or the nine bytes do
            not agree with their checksum), ``power_on`` (85 °C without a conversion),
            ``implausible`` (outside -55 to 125 °C, or a bus that is shorted), ``truncated``,
            ``shape``.
    """
    if not text.strip("\0 \r\n"):
        raise FrameError("empty", "the kernel read nothing from the sensor")
    first, _, rest = text.partition("\n")
    match = LINE.fullmatch(first)
    if match is None:
        kind = "truncated" if len(text) < LENGTH else "shape"
        raise FrameError(kind, f"no nine bytes with their checksum: {first[:60]!r}")
    pad = bytes.fromhex(match[1])
    if match[3] == "NO" or crc8(pad[:8]) != pad[8] or int(match[2], 16) != pad[8]:
        raise FrameError(
            "crc", f"{pad.hex()}: the checksum of the first eight is {crc8(pad[:8]):02x}"
        )
    if not any(pad):
        raise FrameError("implausible", "nine zeros: the data line is shorted to ground")
    second = re.fullmatch(r"((?:[0-9a-f]{2} ){9})t=-?\d+\n?", rest)
    if second is None or second[1] != match[1]:
        kind = "truncated" if len(text) < LENGTH else "crc"
        raise FrameError(kind, f"the second line does not repeat the bytes of the first: {rest!r}")
    return _convert(pad)


def _convert(pad: bytes) -> Scratchpad:
    """The temperature in nine bytes with a right checksum."""
    raw = int.from_bytes(pad[:2], "little", signed=True)
    if (raw, pad[6]) == POWER_ON:
        raise FrameError("power_on", f"{pad.hex()}: 85 °C, and no conversion behind it")
    celsius = raw / 16
    if not LOW_C <= celsius <= HIGH_C:
        raise FrameError("implausible", f"{pad.hex()}: {celsius:g} °C is out of the sensor's range")
    return Scratchpad(celsius, 9 + (pad[4] >> 5 & 3))


def decode(record: Mapping[str, Any]) -> dict[str, Any]:
    """``{"device": "28-...", "text": "..."}`` → ``{"values": {"temperature_c": ...}}``.

    Raises:
        FrameError: of :func:`read`; ``foreign`` (another kind of 1-Wire device).
    """
    device, text = record.get("device"), record.get("text")
    if not isinstance(text, str) or not isinstance(device, str | None):
        raise FrameError("shape", "give text, and device if it is known, both texts")
    if device and device[:2] not in MODELS:
        raise FrameError("foreign", f"{device} is none of {', '.join(MODELS.values())}")
    values: dict[str, Value] = {"temperature_c": read(text).celsius}
    return {"values": values}
