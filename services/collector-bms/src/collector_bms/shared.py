"""What both dialects share: the context of an answer, its errors, and what a battery can be."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from sunmesh.errors import FrameError
from sunmesh.messages import Scalar, Value

from . import tables
from .tables import Values

LIMIT = 512
"""No answer is longer [bytes]; 16 frames on a noisy line fit."""


@dataclass(frozen=True, slots=True)
class Context:
    """What must be known besides the bytes.

    Attributes:
        cells: number of cells, from 0x94; None = unknown.
        sensors: number of temperature sensors, from 0x94; None = unknown.
        inverted: the board counts its current the other way than its dialect usually does.
        balance_order: what a bit of 0x97 is: ``byte`` (bit 0 of byte 0 is cell 1, as the paper
            says), ``word`` (16-bit words, high byte first), or ``unknown``.
        min_voltage_v, max_voltage_v: a pack outside of them is not read right.
    """

    cells: int | None = None
    sensors: int | None = None
    inverted: bool = False
    balance_order: str = "unknown"
    min_voltage_v: float = 8.0
    max_voltage_v: float = 5.0 * tables.MAX_CELLS

    def learn(self, values: Values) -> "Context":
        """With the counts that ``values`` hold."""
        cells, sensors = values.get("battery_cells"), values.get("battery_temperature_sensors")
        return replace(
            self,
            cells=cells if isinstance(cells, int) else self.cells,
            sensors=sensors if isinstance(sensors, int) else self.sensors,
        )


class Query(Protocol):
    """One thing to ask, and how to know its answer."""

    @property
    def request(self) -> bytes:
        """What is sent."""
        ...

    @property
    def context(self) -> Context:
        """What must be known to read its answer."""
        ...

    @property
    def settle_s(self) -> float:
        """How long the line must be silent after a complete answer: more may follow [s]."""
        ...

    def is_complete(self, raw: bytes) -> bool:
        """Whether ``raw`` holds the whole answer."""
        ...

    def is_waiting(self, raw: bytes) -> bool:
        """Whether nothing of the answer has begun: only silence, our echo, others' frames."""
        ...

    def take(self, raw: bytes) -> Values:
        """The values in ``raw``.

        Raises:
            FrameError: damaged, foreign, asleep or impossible.
        """
        ...


def absent(
    request: bytes,
    raw: bytes,
    frames: list[bytes],
    rest: bytes,
    starts: Callable[[int], bool],
    length: int,
) -> FrameError:
    """The error that fits bytes without an answer: truncated, asleep, foreign or crc."""
    if not raw:
        return FrameError("truncated", "no byte of an answer")
    if raw == request:
        return asleep()
    damaged = any(starts(at) for at in range(len(raw) - length + 1)) and len(rest) >= length
    if frames and not damaged:
        others = ", ".join(dict.fromkeys(other[:3].hex() for other in frames))
        return FrameError("foreign", f"only frames of others: {others}")
    body = raw.removeprefix(request)
    if len(body.lstrip(b"\xff")) < length:
        return FrameError("truncated", f"no whole frame in {raw.hex()}")
    return FrameError("crc", f"no frame with a right checksum in {raw.hex()}")


def asleep() -> FrameError:
    """Nothing but our own request came back."""
    return FrameError(
        "asleep", "our own request comes back, as from a sleeping board (or a looped cable)"
    )


def battery(raw_v: int, raw_a: int, raw_soc: int, sign: int, context: Context) -> Values:
    """Voltage, current and charge. Just awake, a board says 0.1 V, -3000 A, 0 % with a right sum.

    Args:
        raw_v: tenths of a volt.
        raw_a: tenths of an ampere, 30000 = none.
        raw_soc: tenths of a percent.
        sign: 1 where a higher raw current discharges.
        context: limits, and whether the sign is inverted.
    """
    volts = raw_v / 10
    if not context.min_voltage_v <= volts <= context.max_voltage_v:
        low, high = context.min_voltage_v, context.max_voltage_v
        raise ValueError(f"{volts:g} V, outside of {low:g} to {high:g} V; just awake?")
    if raw_a == 0:
        raise ValueError("a current of -3000 A; just awake?")
    sign = -sign if context.inverted else sign
    amperes = sign * (raw_a - tables.CURRENT_ZERO) / 10 + 0.0  # + 0.0 turns -0.0 into 0.0
    return {
        "battery_voltage_v": volts,
        "battery_current_a": amperes,
        "battery_power_w": round(volts * amperes, 1) + 0.0,
        "battery_soc_percent": tables.percent(raw_soc),
    }


def apart(values: Values) -> Values:
    """How far the highest and the lowest cell are apart; ValueError where they are swapped."""
    high, low = values["cell_voltage_max_v"], values["cell_voltage_min_v"]
    if not isinstance(high, int | float) or not isinstance(low, int | float) or high < low:
        raise ValueError(f"the highest cell, {high} V, is below the lowest, {low} V")
    return {"cell_voltage_spread_v": round(high - low, 3)}


def alarms(found: Iterable[str]) -> Values:
    """All codes under ``warnings``; under ``faults`` those that are no first warning."""
    codes = list(found)
    return {
        "warnings": list[Scalar](codes),
        "faults": list[Scalar](c for c in codes if not c.endswith(tables.WARNING_SUFFIX)),
    }


def iso_date(data: bytes) -> Value:
    """Year since 2000, month and day as a date; None for what is none."""
    year, month, day = data[:3]
    known = 1 <= month <= 12 and 1 <= day <= 31
    return f"20{year:02d}-{month:02d}-{day:02d}" if known and year < 100 else None


def cell_voltages(raws: Iterable[int]) -> Value:
    """Volts of each cell; ValueError where one is no cell."""
    values: list[Scalar] = []
    for raw in raws:
        value = tables.cell(raw)
        values.append(value if isinstance(value, float) else None)
    return values


def until_unused(raws: list[int]) -> list[int]:
    """Sensors up to the first slot that is 00 or FF: a guess, for an answer without its counts."""
    end = next((at for at, raw in enumerate(raws) if raw in (0x00, 0xFF)), len(raws))
    return raws[:end]


def temperatures(raws: Iterable[int]) -> Value:
    """Degrees of each sensor; None for one that is open."""
    values: list[Scalar] = []
    for raw in raws:
        value = tables.temperature(raw)
        values.append(value if isinstance(value, int) else None)
    return values


def text(data: bytes) -> Value:
    """Printable characters without the NULs and blanks around and between; None for none."""
    text = data.replace(b"\0", b"").replace(b"\xff", b"").strip()
    if not all(0x20 <= byte < 0x7F for byte in text):
        raise ValueError(f"{data.hex()} is no text")
    return text.decode("ascii") or None
