"""What happens each turn: who is there, the round fast, totals and settings slow."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from sunmesh import clock
from sunmesh.errors import FrameError, IdentityError, RefusedError
from sunmesh.messages import Info, Value
from sunmesh.poll import Condition, Reading
from sunmesh.vocabulary import VOCABULARY, Kind, spoken, unit_of

from . import codec, tables
from .codec import Values, WordOrder
from .config import MeterDevice
from .tables import Block
from .transport import Link, NoAnswer

log = logging.getLogger(__name__)

RESET, RESET_S = "counter_reset", 3600.0
"""Alarm of a meter that began to count anew, and how long it stands [s]."""

REFUSALS = 3
"""What a meter did not answer so often is not asked again until the next start."""


class Meter:
    """One meter as the poll loop sees it; a :class:`sunmesh.poll.Source`.

    Args:
        config: its settings.
        link: its place on the bus.
    """

    def __init__(self, config: MeterDevice, link: Link) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._link = link
        self._model = tables.MODELS[config.model]
        self._order: WordOrder = "high_first"
        self._refusals: Counter[Block] = Counter()
        self._slow: dict[str, float] = {}
        self._mode: str | None = None
        self.counters = link.counters
        self._shape = Shape(config, link.counters, self._model.fast + self._model.slow)

    # -- the poll loop calls these -----------------------------------------------------------------

    def open(self) -> Info:
        """Open the port, find the order of registers, check who answers.

        Raises:
            TransportError: nobody; :class:`IdentityError`: another serial number.
            RefusedError: the meter refuses what every SDM has.
            FrameError: the line is too noisy to tell.
        """
        self._link.open()
        with self._link.turn():
            block = next(b for b in self._model.fast if b.address <= tables.FREQUENCY < _end(b))
            try:
                registers = self._link.read(block)
            except FrameError as err:
                raise _refusal(err) from err
            at = tables.FREQUENCY - block.address
            self._order = codec.word_order(registers[at], registers[at + 1])
            if self._order == "low_first":
                log.info("address %d sends the low register first", self._link.unit)
            identity = self._optional(tables.SERIAL)
            serial = codec.serial_of(identity) if identity else None
            self._check_identity(serial)
            version = self._optional(tables.VERSION) if self._model.name == "SDM120" else None
            self._read_slow()
        return Info(
            ts=clock.iso(clock.now()),
            family="meter",
            manufacturer="Eastron",
            model=self._model.name,
            serial=serial,
            firmware=f"{version[1]:04X}" if version else None,
            protocol=self._link.protocol,
            port=f"{self._config.port}, address {self._link.unit}",
            poll_interval_s=self._config.poll_interval_s,
        )

    def poll(self) -> Reading:
        """One round.

        Raises:
            FrameError: every answer was damaged every time.
            TransportError: no answer; given up at the first time-out.
            RefusedError: the meter refuses what every SDM has.
        """
        with self._link.turn():
            values, damaged = self._read(self._model.fast)
        if damaged and not values:
            raise _refusal(damaged[-1])
        return self._shape.reading(self._slow | values)

    def settings(self) -> Values | None:
        """What the total counts; the totals themselves are renewed on the way.

        Raises:
            TransportError: no answer.
        """
        with self._link.turn():
            self._read_slow()
        return {"measurement_mode": self._mode} if self._mode else None

    def flush(self) -> None:
        """Throw away what lies in the line."""
        self._link.flush()

    def close(self) -> None:
        """Leave the bus."""
        self._link.close()

    # -- parts -------------------------------------------------------------------------------------

    def _read(self, blocks: Iterable[Block]) -> tuple[dict[str, float], list[FrameError]]:
        """The values of ``blocks``, and why there are none of some.

        What stays damaged in spite of the retry is asked for once more after all others: on a line
        that damages 30 % of its answers that leaves 97 % of them.

        Raises:
            TransportError: no answer.
        """
        values: dict[str, float] = {}
        damaged: dict[Block, FrameError] = {}
        pending = list(blocks)
        for _ in range(2):
            for block in pending:
                try:
                    registers = codec.numbered(block.address, self._link.read(block))
                    values |= codec.decode(self._model, registers, self._order)
                    damaged.pop(block, None)
                except FrameError as err:
                    damaged[block] = err
            pending = [block for block, err in damaged.items() if err.kind != "exception"]
        return values, list(damaged.values())

    def _read_slow(self) -> None:
        """Renew what changes slowly; what is damaged or refused stays as it was."""
        blocks = [block for block in self._model.slow if self._refusals[block] < REFUSALS]
        for block in blocks:
            values, damaged = self._read([block])
            self._slow |= values
            if any(err.kind == "exception" for err in damaged):
                self._refusals[block] = REFUSALS
        mode = self._optional(tables.MODE)
        if mode is not None:
            self._mode = tables.MODES.get(mode[0])

    def _optional(self, block: Block) -> list[int] | None:
        """Registers that not every meter has; None where this one refuses them.

        Silence counts like a refusal once the meter has answered something else: some firmware
        is silent where other answers an exception.

        Raises:
            TransportError: the port is gone, or the serial number that was to be compared did
                not come; so :class:`FrameError`.
        """
        if self._refusals[block] >= REFUSALS:
            return None
        must_come = block == tables.SERIAL and self._config.serial is not None
        try:
            registers = self._link.read(block)
        except FrameError as err:
            if err.kind == "exception":
                self._refusals[block] = REFUSALS
            elif must_come:
                raise
            return None
        except NoAnswer:
            self._refusals[block] += 1
            if must_come:
                raise
            return None
        self._refusals[block] = 0
        return registers

    def _check_identity(self, serial: str | None) -> None:
        wanted = self._config.serial
        if wanted is not None and wanted != serial:
            raise IdentityError(
                f"serial number {wanted} is configured, the meter has {serial or 'none'}"
            )


class Shape:
    """What a meter's values become on their way into a sample; the same for every source.

    Args:
        config: of the device.
        counters: where ``counter_resets`` are counted.
        blocks: what is read of it; None = what mbmd has.
    """

    def __init__(
        self,
        config: MeterDevice,
        counters: Counter[str],
        blocks: tuple[Block, ...] | None = None,
    ) -> None:
        """No lifetime counter is known yet."""
        self._counters = counters
        self._config = config
        self._model = tables.MODELS[config.model]
        names = self._model.mbmd.values() if blocks is None else self._model.names(blocks)
        self._names = codec.names_as_role(list(names), config.role)
        self._last: dict[str, float] = {}
        self._reset: Condition | None = None
        self._reset_until = 0.0

    def reading(self, values: Mapping[str, float]) -> Reading:
        """A reading with the full key set of this device; None for what was not read."""
        config = self._config
        told = codec.as_role(values, config.role, invert=config.invert)
        suspects = codec.suspects(self._model, values, config.role, invert=config.invert)
        complete: dict[str, Value] = {name: told.get(name) for name in self._names}
        self._watch_counters(complete)
        quality = {name: "suspect" for name in self._names if name in suspects}
        if self._reset is None or time.monotonic() >= self._reset_until:
            return Reading(complete, quality)
        return Reading(complete, quality, alarms={RESET: self._reset})

    def _watch_counters(self, values: Mapping[str, Value]) -> None:
        """Say it when a lifetime counter went back: the meter was replaced or reset."""
        for name, value in values.items():
            if VOCABULARY[name].kind is not Kind.COUNTER or not isinstance(value, float):
                continue
            before = self._last.get(name, value)
            if value < before and not name.startswith("grid_total_"):
                self._counters["counter_resets"] += 1
                log.warning("%s went from %g back to %g: replaced or reset", name, before, value)
                self._tell(name, before, value)
            self._last[name] = value

    def _tell(self, name: str, before: float, value: float) -> None:
        """Raise the alarm; the first counter that went back tells of all."""
        now = time.monotonic()
        if now < self._reset_until:
            return
        self._reset_until = now + RESET_S
        text = (
            f"The counter of {spoken(name)} went from {before:g} back to {value:g} "
            f"{unit_of(name)}: the meter was replaced or reset. "
            "What it counted in between is missing from this day."
        )
        self._reset = Condition(
            "warning",
            "A meter began to count anew",
            text,
            value,
            "If nobody replaced or reset it, look at its power.",
            {"value": f"{value:g} {unit_of(name)}"},
        )


def _refusal(err: FrameError) -> FrameError | RefusedError:
    return RefusedError(err.detail) if err.kind == "exception" else err


def _end(block: Block) -> int:
    return block.address + block.count
