"""What happens each turn: live bytes and clock, and bit by bit the slow bytes and the history."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sunmesh import clock
from sunmesh.errors import FrameError, IdentityError
from sunmesh.messages import Info, Value
from sunmesh.poll import Condition, Reading

from . import codec, tables
from .codec import EEPROM, RAM
from .config import Pl80Device
from .tables import Row, Scale, Values
from .transport import Link

log = logging.getLogger(__name__)

IDENTITY_INTERVAL_S = 3600.0
"""Model, battery voltage and capacity are read again after that long, and after any 133."""

MIDNIGHT_S = 1800
"""The device's clock is near its midnight for so long."""

JUMP_S = 900
"""A clock that moved so far against ours since the round before was reset, and did not just run."""

DAY_S = 86_400
WORDS = (188, 193, 198, 203)
"""Low bytes of the counters of the day."""

SLOW_SHARE = 0.4
"""Part of a poll interval that slow bytes may take."""


@dataclass(slots=True)
class Day:
    """The counters of the controller's day, and what became of the day before.

    Attributes:
        state: ``running``; ``restarted`` (power was lost, the day's charge with it) or ``cleared``
            (by hand) until the next midnight.
        charge_yesterday_ah, load_yesterday_ah: the last value before the counters fell.
    """

    state: str = "running"
    charge_yesterday_ah: int | None = None
    load_yesterday_ah: int | None = None
    _last: tuple[int, int] | None = field(default=None, repr=False)
    _offset_s: float | None = field(default=None, repr=False)

    def follow(self, charge: Value, load: Value, device_s: int | None, host_s: float) -> None:
        """Take the counters as they are now.

        Args:
            charge: into the battery since the controller's midnight [Ah].
            load: to the loads since then [Ah].
            device_s: the controller's time of day; None = not known.
            host_s: ours.
        """
        if device_s is None or not isinstance(charge, int) or not isinstance(load, int):
            return
        offset = difference_s(device_s, host_s)
        before, self._offset_s = self._offset_s, offset
        last, self._last = self._last, (charge, load)
        if last is None or (charge >= last[0] and load >= last[1]):
            return
        if device_s >= MIDNIGHT_S:
            self.state = "cleared"
        elif before is not None and abs(difference_s(offset, before)) > JUMP_S:
            self.state = "restarted"
        else:
            self.state = "running"
            self.charge_yesterday_ah, self.load_yesterday_ah = last
        log.info("the counters of the day fell from %s: %s", last, self.state)

    def values(self) -> Values:
        """By vocabulary name."""
        return {
            "day_counters_state": self.state,
            "charge_yesterday_ah": self.charge_yesterday_ah,
            "load_yesterday_ah": self.load_yesterday_ah,
        }


def difference_s(device_s: float, host_s: float) -> float:
    """Device's time of day less ours, the shorter way round midnight."""
    return (device_s - host_s + DAY_S / 2) % DAY_S - DAY_S / 2


def local_day_s(moment: datetime) -> float:
    """Seconds since midnight in the zone that the process has been given."""
    here = time.localtime(moment.timestamp())
    return here.tm_hour * 3600 + here.tm_min * 60 + here.tm_sec


class Pl80:
    """One charge controller as the poll loop sees it; a :class:`sunmesh.poll.Source`.

    Args:
        config: its settings.
        link: the wire to it.
        day_s: a moment's time of day where the controller stands [s].
        now: the present moment.
    """

    def __init__(
        self,
        config: Pl80Device,
        link: Link,
        *,
        day_s: Callable[[datetime], float] = local_day_s,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._link = link
        self._day_s = day_s
        self._now = now
        self._scale = Scale()
        self._model = "unknown"
        self._identity_due = 0.0
        self._refusals = 0
        self._day = Day()
        self._slow: dict[int, int] = {}
        self._settings: dict[int, int] = {}
        self._settings_due = 0.0
        self._history: Values = {}
        self._pointer: int | None = None
        self._eeprom: dict[int, int] = {}
        self._queue: list[tuple[int, int]] = []

    @property
    def system_v(self) -> int | None:
        """Nominal battery voltage, on which a byte's worth depends; None = not known yet [V]."""
        return self._scale.system_v

    # -- the poll loop calls these -----------------------------------------------------------------

    def open(self) -> Info:
        """Open the port, try the adaptor, read what the controller is.

        Raises:
            TransportError: nobody, or the adaptor alone; :class:`IdentityError`: another model
                or battery voltage than configured.
            FrameError: what answers is no PLI, or the line is too noisy to tell.
        """
        self._link.open()
        facts = self._identify()
        self._settings_due = 0.0
        nameplate = {name: value for name, value in facts.items() if name != "model"}
        guessed = [name for name in codec.guesses(self._model) if not self._is_set(name)]
        return Info(
            ts=clock.iso(self._now()),
            family="pl80",
            manufacturer="Plasmatronics",
            model=self._model,
            protocol="PLI",
            port=self._config.port,
            poll_interval_s=self._config.poll_interval_s,
            nameplate=nameplate
            | {"guessed_scales": list[None | bool | int | float | str](guessed)},
        )

    def poll(self) -> Reading:
        """One round: the live bytes and the clock.

        Raises:
            FrameError: not even the battery voltage could be read.
            TransportError: no answer; given up at the first time-out.
            IdentityError: another controller than at the opening.
        """
        refusals = self._link.counters["damaged_exception"]
        if refusals != self._refusals or time.monotonic() >= self._identity_due:
            self._identify()  # somebody may have changed the controller behind the adaptor
        ram = self._link.steadily(self._read_live)
        values = codec.complete(tables.LIVE, ram, self._scale)
        values |= codec.complete(tables.CLOCK, ram, self._scale)
        moment = self._now()
        device_s = tables.clock_s(ram) if tables.HOUR in ram else None
        host_s = self._day_s(moment)
        offset = None if device_s is None else round(difference_s(device_s, host_s))
        values["device_clock_offset_s"] = offset
        self._day.follow(values["charge_today_ah"], values["load_today_ah"], device_s, host_s)
        values |= self._day.values() | codec.complete(tables.SLOW, self._slow, self._scale)
        quality = {
            name: "suspect"
            for name in codec.impossible(values, self._scale)
            if values[name] is not None
        }
        due = bool(self._queue) or time.monotonic() >= self._settings_due
        return Reading(values, quality, settings_changed=due, alarms=self._alarms(offset))

    def settings(self) -> Values | None:
        """Some of the slow bytes; all settings and the history once they are complete.

        Raises:
            FrameError: a byte was damaged for too long; it is asked for again in the next turn.
            TransportError: no answer.
        """
        now = time.monotonic()
        if not self._queue:
            if now < self._settings_due:
                return None
            self._settings_due = now + self._config.settings_interval_s
            self._queue = self._slow_addresses()
        until = now + SLOW_SHARE * self._config.poll_interval_s
        while self._queue and time.monotonic() < until:
            command, address = self._queue[0]
            byte: int | None = None
            try:
                byte = self._link.steadily(partial(self._link.byte, command, address))
            except FrameError as err:
                log.debug("register %d: %s", address, err)
            self._take(command, address, byte)
        if self._queue:
            return None
        found = codec.values(tables.SETTINGS, self._settings, self._scale)
        return {name: value for name, value in found.items() if value is not None} | self._history

    def flush(self) -> None:
        """Throw away what lies in the line."""
        self._link.flush()

    def close(self) -> None:
        """Give the port back."""
        self._link.close()

    # -- identity ----------------------------------------------------------------------------------

    def _identify(self) -> Values:
        """Model, battery voltage and capacity, which say what every other byte is worth."""
        ram = self._link.steadily(lambda: self._bytes(tables.IDENTITY))
        facts = codec.values(tables.IDENTITY, ram, Scale())
        model, system = facts["model"], facts["battery_rating_voltage_v"]
        if system is None:
            raise FrameError(
                "implausible", f"register 93 is {ram[tables.SYSTEM]}: no battery voltage"
            )
        wanted = self._config
        if wanted.model not in (None, model):
            raise IdentityError(f"model {wanted.model} is configured, the controller is a {model}")
        if wanted.system_v not in (None, system):
            raise IdentityError(
                f"{wanted.system_v} V are configured, the controller has {system} V"
            )
        if model == "unknown":
            log.warning("version byte %d belongs to no model: no currents", ram[tables.VERSION])
        self._model = str(model)
        scale = tables.scale(self._model, int(str(system)))
        self._scale = Scale(
            scale.system_v,
            wanted.charge_step_a or scale.charge_step_a,
            wanted.load_step_a or scale.load_step_a,
        )
        self._identity_due = time.monotonic() + IDENTITY_INTERVAL_S
        self._refusals = self._link.counters["damaged_exception"]
        return facts

    def _is_set(self, name: str) -> bool:
        """Whether the owner has said what a bit of that quantity is worth."""
        step = self._config.load_step_a if name.startswith("load") else self._config.charge_step_a
        return step is not None

    # -- reading -----------------------------------------------------------------------------------

    def _bytes(self, rows: Iterable[Row]) -> dict[int, int]:
        """Every byte of ``rows``; all of them must be readable."""
        return {at: self._link.byte(RAM, at) for row in rows for at in row.needs}

    def _read_live(self) -> dict[int, int]:
        """RAM of one round. A byte that cannot be read is missing, the first one excepted."""
        ram = {50: self._link.byte(RAM, 50)}
        for address in (181, 101, 115, 213, 217, 205, 206, 207):
            self._try(ram, address, lambda at: {at: self._link.byte(RAM, at)})
        for address in WORDS:
            self._try(ram, address, self._word)
        self._try(ram, tables.HOUR, lambda at: self._clock())
        return ram

    def _try(self, ram: dict[int, int], at: int, read: Callable[[int], dict[int, int]]) -> None:
        try:
            ram |= read(at)
        except FrameError as err:
            self._link.counters["missing"] += 1
            log.debug("register %d: %s", at, err)

    def _word(self, low: int) -> dict[int, int]:
        high, rest = divmod(self._link.word(low), 256)
        return {low: rest, low + 1: high}

    def _clock(self) -> dict[int, int]:
        """Hour, minute and second that belong together: the minute is read before and after."""
        minute = self._link.byte(RAM, tables.MINUTE)
        for _ in range(3):
            hour = self._link.byte(RAM, tables.HOUR)
            second = self._link.byte(RAM, tables.SECOND)
            again = self._link.byte(RAM, tables.MINUTE)
            if again == minute:
                return {tables.HOUR: hour, tables.MINUTE: minute, tables.SECOND: second}
            minute = again
        raise FrameError("implausible", "the clock never stands still")

    # -- slow bytes --------------------------------------------------------------------------------

    def _slow_addresses(self) -> list[tuple[int, int]]:
        """What the settings need, and the pointer of the history where that is wanted."""
        rows = (*tables.SLOW, *tables.SETTINGS)
        addresses = dict.fromkeys(at for row in rows for at in row.needs)
        queue = [(RAM, at) for at in addresses]
        return [*queue, (EEPROM, tables.POINTER)] if self._config.history else queue

    def _take(self, command: int, address: int, byte: int | None) -> None:
        """One slow byte; None when it could not be read."""
        self._queue.pop(0)
        if command == RAM:
            for row_bytes, rows in ((self._slow, tables.SLOW), (self._settings, tables.SETTINGS)):
                if any(address in row.needs for row in rows):
                    row_bytes.pop(address, None)
                    if byte is not None:
                        row_bytes[address] = byte
        elif byte is None:
            self._eeprom.clear()
            self._queue = [entry for entry in self._queue if entry[0] != EEPROM]
        elif address != tables.POINTER:
            self._eeprom[address] = byte
        elif self._eeprom:
            self._finish_history(byte)
        elif byte != self._pointer or not self._history:
            self._eeprom[address] = byte
            self._queue += [(EEPROM, at) for at in range(tables.FIRST, tables.END)]
            self._queue.append((EEPROM, tables.POINTER))

    def _finish_history(self, pointer: int) -> None:
        """Keep the history when the ring did not turn while it was read."""
        eeprom, self._eeprom = self._eeprom, {}
        if eeprom[tables.POINTER] != pointer:
            log.info("the day ended while the history was read; it is read again")
            return
        try:
            self._history = tables.history(eeprom, self._scale)
            self._pointer = pointer
        except ValueError as err:
            log.warning("no history: %s", err)

    # -- alarms ------------------------------------------------------------------------------------

    def _alarms(self, offset: float | None) -> dict[str, Condition]:
        """What the owner should know."""
        if offset is None or abs(offset) <= 60 * self._config.clock_limit_min:
            return {}
        why = (
            "It lost power, and the counts of this day with it."
            if self._day.state == "restarted"
            else "The counts of a day begin and end at the wrong hour."
        )
        way = "ahead" if offset > 0 else "behind"
        text = f"The controller's clock is {abs(offset) / 60:.0f} min {way}. {why}"
        return {
            "device_clock": Condition(
                "warning",
                "The clock of the charge controller is wrong",
                text,
                offset,
                "Set it by hand, at the controller.",
                {"value": f"{offset / 60:.0f} min"},
            )
        }
