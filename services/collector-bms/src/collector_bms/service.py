"""What happens each turn: which dialect, who is there, the round, and what may be believed."""

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sunmesh import clock
from sunmesh.errors import FrameError, IdentityError, Sleeping, TransportError
from sunmesh.messages import Info, Range, Value
from sunmesh.poll import Condition, Reading

from . import a5, registers, tables
from .config import BmsDevice
from .shared import Context, Query
from .tables import Values
from .transport import Link, NoAnswer

log = logging.getLogger(__name__)

SILENCES = 2
"""A question that stayed unanswered so often, while others were answered, is left out: those of the
status until the settings are read next, the others until the next start. And after so many in a row
the rest of the settings waits for the next time."""

STRANGERS = 3
"""So many answers that are none, then the next dialect is tried."""

SIGN_POLLS = 5
"""So many rounds in a row must the current contradict the board's own state to be reported."""

SIGN_FROM_A = 2.0
"""Smaller currents prove nothing: below about 2.5 A many boards say 0."""

SUM_TOLERANCE = 0.02
"""The cells sum to the pack's voltage within 2 %."""

EXTREME_TOLERANCE_V = 0.03
"""The highest and lowest cell as the board tells them agree with the cells that closely."""

FEWER = 3
"""After so many answers in a row with fewer frames than usual, it is counted again."""

Question = int | str
"""A command of A5, or the name of a block of registers."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to ask: who asks, and which questions make up what.

    ``probe`` and ``gate`` must be answered; the others may be missing.
    """

    protocol: str
    host: int
    probe: Question
    gate: Question
    status: tuple[Question, ...]
    identity: tuple[Question, ...]
    settings: tuple[Question, ...]
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return self.protocol if self.protocol != "a5" else f"A5, host 0x{self.host:02X}"


_KEYS = (
    "battery_voltage_v",
    "battery_current_a",
    "battery_power_w",
    "battery_soc_percent",
    "remaining_capacity_ah",
    "battery_direction",
    "charge_mosfet_on",
    "discharge_mosfet_on",
    "cell_voltage_v",
    "cell_voltage_max_v",
    "cell_voltage_max_number",
    "cell_voltage_min_v",
    "cell_voltage_min_number",
    "cell_voltage_spread_v",
    "battery_temperature_c",
    "battery_temperature_max_c",
    "battery_temperature_min_c",
    "balancing_active",
    "balancing_bits",
    "balancing_cells",
    "cycles",
    "warnings",
    "faults",
)
_A5_KEYS = ("charger_connected", "load_connected", "digital_io_on", "bms_heartbeat", "fault_code")


def _a5(host: int) -> Dialect:
    return Dialect(
        protocol="a5",
        host=host,
        probe=0x94,
        gate=0x90,
        status=(0x90, 0x94, 0x91, 0x92, 0x93, 0x95, 0x96, 0x97, 0x98),
        identity=(0x57, 0x62, 0x63, 0x50, 0x52),
        settings=(0x50, 0x52, 0x53, 0x59, 0x5A, 0x5B, 0x5C, 0x5D, 0x5E, 0x5F),
        keys=_KEYS + _A5_KEYS,
    )


BLOCKS = {
    "state": (0x30, 0x44),
    "capacity": (0x109, 4),
    "totals": (0x10D, 4),
    "date": (tables.DATE_AT, 2),
    "versions": (0x178, 51),
}
"""Blocks of registers: first and count. ``cells`` is as long as the pack."""


def _registers(address: int) -> Dialect:
    return Dialect(
        protocol="0x81",
        host=registers.REQUEST_OFFSET + address,
        probe="state",
        gate="state",
        status=("state", "cells"),
        identity=("versions", "capacity", "totals"),
        settings=("capacity", "totals", "date"),
        keys=(*_KEYS, "mosfet_temperature_c", "board_temperature_c"),
    )


def dialects_of(config: BmsDevice) -> list[Dialect]:
    """What may be on the line, in the order in which it is tried."""
    hosts = [a5.host_of(config.address)] if config.host != "0x80" else []
    if config.address == 1 and config.host != "0x40":
        hosts.append(a5.HOST_BLUETOOTH)
    found = [_a5(host) for host in hosts] if config.protocol != "0x81" else []
    return found + ([_registers(config.address)] if config.protocol != "a5" else [])


TOTALS = ("charge_total_ah", "discharge_total_ah")
FACTS = ("battery_cells", "battery_temperature_sensors", "rated_capacity_ah", "production_date")
"""What belongs to the nameplate."""


class Daly:
    """One pack as the poll loop sees it; a :class:`sunmesh.poll.Source`.

    Also a :class:`sunmesh.commands.control.Actuator`, where the configuration lets it be switched.

    Args:
        config: its settings.
        link: the wire to it.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    passing: Collection[str] = ()

    def __init__(self, config: BmsDevice, link: Link) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._link = link
        self._candidates = deque(dialects_of(config))
        self._dialect = self._candidates[0]
        self._context = Context(
            inverted=config.current_sign == "inverted",
            balance_order=config.balance_order,
            min_voltage_v=config.min_voltage_v,
            max_voltage_v=config.max_voltage_v,
        )
        self._strangers = 0
        self._usual: dict[int, int] = {}
        self._fewer: Counter[int] = Counter()
        self._silences: Counter[Question] = Counter()
        self._damaged: dict[Question, FrameError] = {}
        self._totals: Values = {}
        self._contradictions = 0
        self._ranges: dict[str, Range] = {}
        self._warned: dict[str, Condition] = {}
        self.between: Callable[[], None] = lambda: None
        if config.control and config.allow:
            from . import commands  # a collector that only reads has no use for it

            self._ranges = commands.ranges(config.allow)

    # -- the poll loop calls these -----------------------------------------------------------------

    def open(self) -> Info:
        """Open the port, find the dialect, check who answers.

        Raises:
            TransportError: nobody; :class:`IdentityError`: another battery code.
            Sleeping: the board rests. FrameError: the line is too noisy to tell.
        """
        self._link.open()
        facts = self._detect()
        for values in self._ask_optional(self._dialect.identity):
            facts |= values
        self._keep_totals(facts)
        names = [facts[key] for key in ("serial", "battery_code") if facts.get(key)]
        self._check_identity(names)
        return Info(
            ts=clock.iso(clock.now()),
            family="bms",
            manufacturer="Daly",
            model=_text(facts.get("hardware")),
            serial=_text(names[0]) if names else None,
            firmware=_text(facts.get("firmware")),
            protocol=self._dialect.name,
            port=self._config.port,
            poll_interval_s=self._config.poll_interval_s,
            nameplate={name: facts[name] for name in FACTS if name in facts},
            settable=list(self._ranges),
            ranges=self._ranges,
        )

    def poll(self) -> Reading:
        """One status round.

        Raises:
            FrameError: voltage, current and charge were damaged every time, or cannot be.
            TransportError: no answer; given up at the first time-out.
            Sleeping: the board rests.
        """
        dialect = self._dialect
        answers = self._ask(question for question in dialect.status if self._is_heard(question))
        for question in (dialect.gate, dialect.probe):
            error = self._damaged.get(question)
            if error and (question == dialect.gate or error.kind == "implausible"):
                raise error
        values = self._values(answers)
        if wrong := disagreements(values):
            self._link.counters["disagreements"] += 1
            again = self._ask(_sources(dialect, wrong))
            values = self._values(answers | again)
            wrong = disagreements(values)
        quality = dict.fromkeys(sorted(wrong), "suspect")
        alarms = self._check_sign(values, quality) | self._alarms(values)
        return Reading(values, quality, alarms=alarms)

    def settings(self) -> Values | None:
        """Limits and ratings, and the totals on the way; None where the board tells none."""
        for question in self._dialect.status:  # perhaps it is heard by now
            self._silences[question] = min(self._silences[question], SILENCES - 1)
        values: Values = {}
        for answer in self._ask_optional(self._dialect.settings):
            values |= answer
        self._keep_totals(values)
        if self._ranges:
            with contextlib.suppress(FrameError, NoAnswer):
                values |= self.read(())
        known = (*FACTS, *TOTALS)
        return {name: value for name, value in values.items() if name not in known} or None

    def flush(self) -> None:
        """Throw away what lies in the line."""
        self._link.flush()

    def close(self) -> None:
        """Give the port back."""
        self._link.close()

    # -- the commands call these -------------------------------------------------------------------

    def ranges(self) -> dict[str, Range]:
        """The switches that the configuration allows."""
        return self._ranges

    def why_not(self, name: str) -> str:
        """Why ``name`` is not among them."""
        from . import commands

        return commands.why_not(name)

    def permit(self, name: str, value: Value, current: Mapping[str, Value]) -> None:
        """The board decides by itself."""

    def expects(self, name: str, value: Value) -> dict[str, Value]:
        """The flag that follows."""
        return {name: value}

    def read(self, names: Collection[str]) -> dict[str, Value]:
        """Both switches as the board has them: 0x93, or the registers of its state.

        Raises:
            FrameError, TransportError: it does not say.
        """
        from . import commands

        question = 0x93 if self._dialect.protocol == "a5" else "state"
        values = self._link.ask(self.query(question))
        return {each.name: values.get(each.name) for each in commands.SWITCHES}

    def write(
        self, name: str, value: Value, current: Mapping[str, Value], sent: Callable[[], None]
    ) -> None:
        """Switch ``name``, and hear what the board says to that.

        Raises:
            FrameError: ``nak``, or an answer that cannot be read. TransportError: none.
        """
        from . import commands

        dialect = self._dialect
        request = commands.build(
            name,
            value,
            protocol=dialect.protocol,
            address=self._config.address,
            host=dialect.host,
            allowed=self._config.allow,
        )
        query: Query
        if dialect.protocol == "a5":
            query = a5.FrameQuery(request[2], dialect.host, self._context, data=request[4:12])
        else:
            query = registers.RegisterQuery(request, self._context)
        self._link.command(query, sent)

    # -- probe and record call these, too ----------------------------------------------------------

    @property
    def dialects(self) -> int:
        """How many are still to be tried."""
        return len(self._candidates)

    def questions(self) -> tuple[Question, ...]:
        """Everything that the dialect can be asked, each once."""
        dialect = self._dialect
        return tuple(dict.fromkeys((*dialect.status, *dialect.settings, *dialect.identity)))

    def counts(self) -> dict[str, int | None]:
        """Cells and sensors of the pack, as far as it has said them."""
        return {"cells": self._context.cells, "temp_sensors": self._context.sensors}

    def query(self, question: Question) -> Query:
        """How ``question`` is put now: the counts may have changed since."""
        if isinstance(question, int):
            usual = self._usual.get(question)
            return a5.FrameQuery(question, self._dialect.host, self._context, usual)
        start, count = BLOCKS.get(question, (tables.CELLS_AT, self._context.cells or 0))
        return registers.RegisterQuery.read(self._config.address, start, count, self._context)

    # -- parts -------------------------------------------------------------------------------------

    def _detect(self) -> Values:
        """Find the dialect that is answered; the first that is stays until the next start.

        Silence costs one time-out a turn: the next turn begins with the next dialect.
        """
        dialect = self._dialect = self._candidates[0]
        try:
            values = self._link.ask(self.query(dialect.probe))
        except NoAnswer as err:
            self._candidates.rotate(-1)
            raise self._silence(dialect) from err
        except FrameError as err:
            if err.kind == "asleep":
                raise Sleeping(err.detail) from err
            if err.kind == "implausible" or len(self._candidates) == 1:
                raise
            self._strangers += 1
            if self._strangers % STRANGERS == 0:
                self._candidates.rotate(-1)
            raise FrameError(
                err.kind,
                f"something answers, but not {dialect.name} ({err.detail}): "
                "another family, a wrong baud rate, or a bad line",
            ) from err
        self._candidates = deque([dialect])
        self._learn(dialect.probe, values)
        return values

    def _silence(self, dialect: Dialect) -> TransportError | Sleeping:
        """What silence means, in the owner's words."""
        text = f"no answer at address {self._config.address} ({dialect.name})"
        if self._config.silence == "sleeping":
            return Sleeping(f"{text}: taken for sleep, as configured")
        return TransportError(
            f"{text}: the board sleeps, the cable or address is wrong, or it is no Daly"
        )

    def _keep_totals(self, values: Values) -> None:
        self._totals |= {name: values[name] for name in TOTALS if name in values}

    def _check_identity(self, names: Sequence[Value]) -> None:
        wanted = self._config.serial
        if wanted is None or wanted in names:
            return
        for error in self._damaged.values():
            raise error
        found = " and ".join(str(name) for name in names) or "none"
        raise IdentityError(f"serial {wanted} is configured, the pack says {found}")

    def _learn(self, question: Question, values: Values) -> None:
        if question == self._dialect.probe:
            self._context = self._context.learn(values)

    def _ask(self, questions: Iterable[Question]) -> dict[Question, Values]:
        """The answers to ``questions``, whole and possible; the others stand in ``_damaged``.

        What stays damaged in spite of the retry is asked for once more after all others. Silence
        where the board has just spoken is a question that came too soon: it is put again, slower.

        Raises:
            TransportError: no answer. Sleeping: our own question comes back.
        """
        answers: dict[Question, Values] = {}
        self._damaged = {}
        pending = list(questions)
        queries: dict[Question, Query] = {}
        for attempt in range(2):
            for question in pending:
                self.between()
                query = queries.setdefault(question, self.query(question))
                try:
                    answers[question] = self._once(query, patient=bool(answers))
                except FrameError as err:
                    self._damaged[question] = err
                    if question == self._dialect.gate and err.kind == "implausible":
                        return answers
                    if err.kind == "asleep" and not answers:
                        raise Sleeping(err.detail) from err
                    continue
                except NoAnswer as err:
                    self._silences[question] += 1
                    if not answers or self._silences[question] < SILENCES:
                        raise self._silence(self._dialect) from err
                    continue
                self._silences[question] = 0
                self._damaged.pop(question, None)
                self._learn(question, answers[question])
                if isinstance(query, a5.FrameQuery):
                    self._count_frames(query)
            pending = list(self._damaged)
            if not pending or not answers and attempt == 0:
                break
        return answers

    def _count_frames(self, query: a5.FrameQuery) -> None:
        """Remember how many frames this board sends, so that their end need not be waited for."""
        command = query.command
        usual = self._usual.setdefault(command, query.frames_seen)
        self._fewer[command] = self._fewer[command] + 1 if query.frames_seen < usual else 0
        if self._fewer[command] == FEWER:
            del self._usual[command]

    def _is_heard(self, question: Question) -> bool:
        """Whether a question of the status is worth its time: some boards lack 0x97, say."""
        if question in (self._dialect.gate, self._dialect.probe):
            return True
        if question == 0x96 and self._context.sensors == 0:
            return False
        return self._silences[question] < SILENCES

    def _once(self, query: Query, *, patient: bool) -> Values:
        """One answer; ``patient`` puts a question again that was not heard."""
        try:
            return self._link.ask(query)
        except NoAnswer:
            if not patient:
                raise
            self._link.slow_down()
            return self._link.ask(query)

    def _ask_optional(self, questions: Iterable[Question]) -> Iterator[Values]:
        """Answers to questions that many boards do not answer, until some stay unanswered."""
        self._damaged = {}
        unheard = 0
        for question in questions:
            if self._silences[question] >= SILENCES and self._config.serial is None:
                continue
            try:
                answer = self._link.ask(self.query(question))
            except FrameError as err:
                self._damaged[question] = err
                continue
            except NoAnswer:
                self._silences[question] += 1
                unheard += 1
                if unheard == SILENCES:
                    return
                continue
            unheard = 0
            self._silences[question] = 0
            yield answer

    def _values(self, answers: dict[Question, Values]) -> Values:
        """The full set of keys, with None for what was not readable."""
        found: Values = {}
        for answer in answers.values():
            found |= answer
        values = {name: found.get(name) for name in self._dialect.keys} | self._totals
        if self._config.soc_factor != 1 or self._config.soc_offset_percent != 0:
            values["battery_soc_corrected_percent"] = self._corrected(found)
        return values

    def _corrected(self, found: Values) -> Value:
        soc = _number(found.get("battery_soc_percent"))
        if soc is None:
            return None
        soc = soc * self._config.soc_factor + self._config.soc_offset_percent
        return round(min(100.0, max(0.0, soc)), 1)

    def _alarms(self, values: Values) -> dict[str, Condition]:
        """What the board warns of; what it warned of last while that cannot be read."""
        if values.get("warnings") is not None:
            self._warned = warned(values)
        return self._warned

    def _check_sign(self, values: Values, quality: dict[str, str]) -> dict[str, Condition]:
        """Report a current that contradicts the board's own state; never turn it by itself.

        Only where the owner has not decided it: the state is wrong on some boards, too.
        """
        amperes = _number(values.get("battery_current_a"))
        state = values.get("battery_direction")
        if self._config.current_sign != "auto" or amperes is None:
            return {}
        if abs(amperes) > SIGN_FROM_A and state in ("charge", "discharge"):
            wrong = (amperes > 0) != (state == "discharge")
            self._contradictions = self._contradictions + 1 if wrong else 0
        if self._contradictions < SIGN_POLLS:
            return {}
        quality |= {"battery_current_a": "suspect", "battery_power_w": "suspect"}
        text = (
            f"the current says {'dis' if amperes > 0 else ''}charging while the BMS says "
            f'"{state}": look at the battery, then set current_sign to "normal" or "inverted"'
        )
        return {"current_sign": Condition("warning", "Sign of the battery current", text, amperes)}


def warned(values: Values) -> dict[str, Condition]:
    """Alarms of the board's bits: one of all faults, one of all first warnings, each in words."""
    faults = [code for code in _codes(values.get("faults")) if code not in tables.NO_ALARM]
    number = values.get("fault_code")
    first = [
        code
        for code in _codes(values.get("warnings"))
        if code not in faults
        and code not in tables.NO_ALARM
        and code.removesuffix(tables.WARNING_SUFFIX) not in faults
    ]
    found = {}
    if faults:
        texts = [tables.fault_text(code) for code in faults]
        found["battery_fault"] = Condition(
            "critical",
            f"Battery fault: {', '.join(texts)}",
            f"The battery management reports: {', '.join(texts)}.",
            number if isinstance(number, int) and number else None,
            "It protects the battery and may have cut it off: look at cells, temperatures and "
            "currents before you reset anything.",
            {"codes": [*faults], "texts": [*texts]},
        )
    if first:
        texts = [tables.fault_text(code.removesuffix(tables.WARNING_SUFFIX)) for code in first]
        found["battery_warning"] = Condition(
            "warning",
            f"Battery warning: {', '.join(texts)}",
            f"The battery management gives a first warning: {', '.join(texts)}.",
            advice="It is not cut off yet: reduce the load, or the charge, and look at the cells.",
            data={"codes": [*first], "texts": [*texts]},
        )
    return found


def _codes(value: Value) -> list[str]:
    return [code for code in value if isinstance(code, str)] if isinstance(value, list) else []


def disagreements(values: Values) -> set[str]:
    """Names of values that contradict each other: cells and pack, cells and their extremes."""
    cells = values.get("cell_voltage_v")
    listed = cells if isinstance(cells, list) else []
    numbers = [number for cell in listed if (number := _number(cell)) is not None]
    if not numbers:
        return set()
    wrong = set()
    pack = _number(values.get("battery_voltage_v"))
    if pack is not None and abs(sum(numbers) - pack) > SUM_TOLERANCE * pack:
        wrong |= {"cell_voltage_v", "battery_voltage_v"}
    for name, extreme in (
        ("cell_voltage_max_v", max(numbers)),
        ("cell_voltage_min_v", min(numbers)),
    ):
        told = _number(values.get(name))
        if told is not None and abs(told - extreme) > EXTREME_TOLERANCE_V + 1e-9:
            wrong |= {"cell_voltage_v", name}
    return wrong


def _sources(dialect: Dialect, names: set[str]) -> tuple[Question, ...]:
    """The questions whose answers hold ``names``."""
    if dialect.protocol == "0x81":
        return dialect.status
    extremes = any(name.startswith("cell_voltage_m") for name in names)
    return (0x90, 0x95, 0x91) if extremes else (0x90, 0x95)


def _number(value: Value) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None
