"""What happens each turn: who is there, status fast, settings slow, and what may be left out."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from sunmesh import clock
from sunmesh.errors import FrameError, IdentityError, RefusedError, TransportError
from sunmesh.messages import Info, Range, Value
from sunmesh.poll import Condition, Reading

from . import codec, tables
from .config import AxpertDevice
from .tables import Values
from .transport import Link

log = logging.getLogger(__name__)

REFUSALS = 3
"""A command that was refused so often in a row is not asked again until the next start."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which command of a dialect asks for what. Only ``probe`` and ``status`` must be answered."""

    name: str
    probe: str
    serials: tuple[str, ...]
    firmware: str
    model: str
    choices: tuple[str, ...]
    status: str
    more_status: tuple[str, ...]
    ratings: str
    flags: str
    energy: tuple[str, ...]
    group: str
    defaults: str
    equalisation: str


DIALECTS = {
    "PI30": Dialect(
        name="PI30",
        probe="QPI",
        serials=("QID", "QSID"),
        firmware="QVFW",
        model="QMN",
        choices=("QMCHGCR", "QMUCHGCR"),
        status="QPIGS",
        more_status=("QMOD", "QPIWS", "QPIGS2"),
        ratings="QPIRI",
        flags="QFLAG",
        energy=("QET", "QLT"),
        group="QPGS0",
        defaults="QDI",
        equalisation="QBEQI",
    ),
    "PI18": Dialect(
        name="PI18",
        probe="^P005PI",
        serials=("^P005ID",),
        firmware="^P006VFW",
        model="",
        choices=("^P009MCHGCR", "^P010MUCHGCR"),
        status="^P005GS",
        more_status=("^P006MOD", "^P005FWS"),
        ratings="^P007PIRI",
        flags="^P007FLAG",
        energy=("^P005ET",),
        group="^P007PGS0",
        defaults="^P005DI",
        equalisation="",
    ),
}

NAMEPLATE = frozenset(
    {
        "grid_rating_voltage_v",
        "grid_rating_current_a",
        "ac_output_rating_voltage_v",
        "ac_output_rating_frequency_hz",
        "ac_output_rating_current_a",
        "ac_output_rating_apparent_power_va",
        "ac_output_rating_power_w",
        "battery_rating_voltage_v",
        "parallel_max_units",
        "machine_type",
        "topology",
        "mppt_strings",
    }
)
"""What QPIRI says of the device itself; the rest of it is settings."""

EQUALISATION = "equalisation_"
"""Settings that have a query of their own begin so; it is asked where one of them may be set."""


class Axpert:
    """One inverter as the poll loop sees it; a :class:`sunmesh.poll.Source`.

    Also a :class:`sunmesh.commands.control.Actuator`, where the configuration lets it be set.

    Args:
        config: its settings.
        link: the wire to it.
    """

    pairs: tuple[tuple[str, str], ...] = (("float_voltage_v", "bulk_voltage_v"),)
    passing: Collection[str] = ("equalisation_active",)

    def __init__(self, config: AxpertDevice, link: Link) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._link = link
        self._dialect: Dialect | None = None
        wanted = config.dialect
        self._probes = deque(DIALECTS.values() if wanted == "auto" else [DIALECTS[wanted]])
        self._refusals: Counter[str] = Counter()
        self._damaged: dict[str, FrameError] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        self._ratings: Values = {}
        self._energy: Values = {}
        self._changed = False
        self._ranges: dict[str, Range] = {}
        self._warned: dict[str, Condition] = {}
        self.between: Callable[[], None] = lambda: None

    # -- the poll loop calls these -----------------------------------------------------------------

    def open(self) -> Info:
        """Open the port, find the dialect, check who answers.

        Raises:
            TransportError: nobody; :class:`IdentityError`: another serial number.
            RefusedError: the device refuses everything, or speaks a dialect that is not read.
            FrameError: the line is too noisy to tell.
        """
        self._link.open()
        dialect = self._dialect = self._detect()
        answers = self._ask(dialect.serials)
        serials = [str(answer["serial"]) for answer in answers.values()]
        self._check_identity(serials)
        answers |= self._ask(
            (dialect.firmware, dialect.model, *dialect.choices, dialect.ratings, *dialect.energy)
        )
        facts: Values = {}
        for answer in answers.values():
            facts |= answer
        self._ratings = answers.get(dialect.ratings, self._ratings)
        self._keep_energy(answers)
        nameplate = {
            name: value
            for name, value in facts.items()
            if name in NAMEPLATE or name.endswith("_choices_a")
        }
        if self._config.control:
            from . import commands  # a collector that only reads has no use for it

            config = self._config
            self._ranges = commands.ranges(dialect.name, nameplate, config.allow, config.limits)
        return Info(
            ts=clock.iso(clock.now()),
            family="axpert",
            manufacturer="Voltronic",
            model=_text(facts.get("model")),
            serial=serials[0] if serials else None,
            firmware=_text(facts.get("firmware")),
            protocol=dialect.name,
            port=self._config.port,
            poll_interval_s=self._config.poll_interval_s,
            nameplate=nameplate,
            settable=list(self._ranges),
            ranges=self._ranges,
        )

    def poll(self) -> Reading:
        """One status round.

        Raises:
            FrameError: the status itself was damaged every time.
            TransportError: no answer; given up at the first time-out.
            RefusedError: the device refuses even its status.
        """
        dialect = self._known_dialect()
        in_group = self._ratings.get("output_mode") not in (None, "single")
        group = (dialect.group,) if in_group else ()
        answers = self._ask((dialect.status, *dialect.more_status, *group))
        if dialect.status not in answers:
            raise self._damaged.get(dialect.status) or RefusedError("device answers NAK")
        values = {
            name: answers.get(command, {}).get(name)
            for command, names in self._keys.items()
            if command in (*dialect.more_status, dialect.status) or command in group
            for name in names
            if command not in group or name.startswith("parallel_")
        }
        values |= self._energy
        values.setdefault("pv_total_power_w", _sum(values, ("pv_power_w", "pv2_power_w")))
        changed = values.get("settings_changed") is True
        rising, self._changed = changed and not self._changed, changed
        return Reading(
            values,
            suspects(values, self._ratings),
            settings_changed=rising,
            alarms=self._alarms(values),
        )

    def settings(self) -> Values | None:
        """Settings and flags; the energy counters are renewed on the way.

        Raises:
            FrameError: damaged every time.
            TransportError: no answer.
        """
        dialect = self._known_dialect()
        more = (dialect.equalisation,) if self._may_equalise else ()
        answers = self._ask((dialect.ratings, dialect.flags, *more, *dialect.energy))
        self._keep_energy(answers)
        if dialect.ratings in self._damaged:
            raise self._damaged[dialect.ratings]
        self._ratings = answers.get(dialect.ratings, {})
        values = self._ratings | answers.get(dialect.flags, {})
        for command in more:
            values |= answers.get(command, {})
        return _settings(values) or None

    def flush(self) -> None:
        """Throw away what lies in the line."""
        self._link.flush()

    def close(self) -> None:
        """Give the port back."""
        self._link.close()

    # -- the commands call these -------------------------------------------------------------------

    def ranges(self) -> dict[str, Range]:
        """What may be set, as the device and the configuration have it."""
        return self._ranges

    def why_not(self, name: str) -> str:
        """Why ``name`` is not among them."""
        from . import commands

        dialect = self._dialect.name if self._dialect else "PI30"
        return commands.why_not(dialect, name, self._config.allow)

    def permit(self, name: str, value: Value, current: Mapping[str, Value]) -> None:
        """See that the battery type lets it be set; RefusedError where not."""
        from . import commands

        commands.permit(self._known_dialect().name, name, current)

    def expects(self, name: str, value: Value) -> dict[str, Value]:
        """What is read once ``name`` is set; of a factory reset, what the device calls defaults.

        Raises:
            FrameError, TransportError: it does not say; then a reset could not be proved.
        """
        from . import commands

        if name != commands.RESET:
            return {name: value}
        known = _settings(self.read(("battery_type", "buzzer_enabled")))
        defaults = self._link.ask(self._known_dialect().defaults)
        return {name: default for name, default in defaults.items() if name in known}

    def read(self, names: Collection[str]) -> dict[str, Value]:
        """The settings that come with ``names``, by no more queries than that takes.

        Raises:
            FrameError, TransportError: a query was not answered so that it can be read.
        """
        dialect = self._known_dialect()
        values: Values = {}
        for command in dict.fromkeys(self._query(dialect, name) for name in names):
            answer = self._link.ask(command)
            if command == dialect.ratings:
                self._ratings = answer
            values |= answer
        return _settings(values)

    def write(
        self, name: str, value: Value, current: Mapping[str, Value], sent: Callable[[], None]
    ) -> None:
        """Set ``name``, and hear what the device says to that.

        Raises:
            FrameError: ``nak``, or an answer that cannot be read. TransportError: none.
        """
        from . import commands

        self._link.command(commands.build(self._known_dialect().name, name, value, current), sent)

    @staticmethod
    def _query(dialect: Dialect, name: str) -> str:
        """Which query has ``name`` in its answer."""
        if name.startswith(EQUALISATION):
            return dialect.equalisation
        return dialect.flags if name.endswith("_enabled") else dialect.ratings

    @property
    def _may_equalise(self) -> bool:
        return any(name.startswith(EQUALISATION) for name in self._ranges)

    # -- parts -------------------------------------------------------------------------------------

    def _detect(self) -> Dialect:
        """The dialect that answers its probe, the one that answered last first.

        Silence ends the search, so that a silent device costs one time-out a turn; the next turn
        then begins with the next dialect.
        """
        errors: list[FrameError] = []
        for dialect in list(self._probes):
            try:
                said = self._link.ask(dialect.probe)["protocol"]
            except FrameError as err:
                errors.append(err)
                continue
            except TransportError:
                self._probes.rotate(-1)
                raise
            self._probes.rotate(-len(errors))
            if said != dialect.name:
                raise RefusedError(f"the device speaks {said}, which this collector cannot read")
            if dialect.name == "PI30" and self._is_revo():
                raise RefusedError("a SOROTEC REVO, whose dialect this collector cannot read")
            log.debug("%s: %s", self._config.port, dialect.name)
            return dialect
        if all(err.kind == "nak" for err in errors):
            raise RefusedError("device answers NAK")
        raise errors[-1]

    def _is_revo(self) -> bool:
        try:
            return codec.is_revo(self._link.exchange("QALL"))
        except TransportError:
            return False  # nobody else needs to answer this

    def _check_identity(self, serials: list[str]) -> None:
        wanted = self._config.serial
        if wanted is None or wanted in serials:
            return
        for error in self._damaged.values():
            raise error
        found = " and ".join(dict.fromkeys(serials)) or "none"
        raise IdentityError(f"serial number {wanted} is configured, the device has {found}")

    def _ask(self, commands: Iterable[str]) -> dict[str, Values]:
        """The answers to those of ``commands`` that the device knows.

        What stays damaged in spite of the retry is asked for once more after all others: on a line
        that damages 30 % of its answers that leaves 97 % of them. What is damaged even then
        stands in ``_damaged``; a refused command in neither.

        Raises:
            TransportError: no answer. Counts like a refusal, for some firmware is silent where
                other says NAK.
        """
        answers: dict[str, Values] = {}
        self._damaged = {}
        pending = [name for name in commands if name and self._refusals[name] < REFUSALS]
        for _ in range(2):
            for command in pending:
                self.between()
                try:
                    answers[command] = self._link.ask(command, self._warning_tables())
                    self._refusals[command] = 0
                    self._keys[command] = tuple(answers[command])
                    self._damaged.pop(command, None)
                except FrameError as err:
                    if err.kind == "nak":
                        self._refused(command)
                    else:
                        self._damaged[command] = err
                except TransportError:
                    self._refused(command)
                    raise
            pending = list(self._damaged)
            if not answers:
                break
        return answers

    def _refused(self, command: str) -> None:
        """Remember it; the status is asked for ever."""
        if self._dialect is None or command != self._dialect.status:
            self._refusals[command] += 1

    def _warning_tables(self) -> dict[int, str]:
        """Which table of QPIWS this device uses, by the length of the answer."""
        if self._config.warning_table != "auto":
            return dict.fromkeys(range(32, 39), self._config.warning_table)
        known = dict(tables.WARNINGS_BY_LENGTH)
        if self._ratings and "max_discharge_current_a" not in self._ratings:
            known[36] = "KING"
        elif self._ratings.get("battery_rating_voltage_v") == 24:
            known[36] = "MAX24"
        return known

    def _alarms(self, values: Values) -> dict[str, Condition]:
        """What the device warns of; what it warned of last while that cannot be read."""
        if values.get("warnings") is not None:
            self._warned = alarms(values)
        return self._warned

    def _keep_energy(self, answers: dict[str, Values]) -> None:
        for command in self._known_dialect().energy:
            self._energy |= answers.get(command, {})

    def _known_dialect(self) -> Dialect:
        if self._dialect is None:
            raise TransportError("the device was not opened")
        return self._dialect


def suspects(values: Values, ratings: Values) -> dict[str, str]:
    """Quality of ``values``: ``suspect`` for what the nameplate makes impossible."""
    result = {}
    for name, rating_name, factor in tables.POSSIBLE:
        value, rating = values.get(name), ratings.get(rating_name)
        if _is_number(value) and _is_number(rating) and rating and value > factor * rating:
            result[name] = "suspect"
    return result


def alarms(values: Values) -> dict[str, Condition]:
    """Alarms of QPIWS and FWS: one of all faults, one of all warnings, each in words.

    What every inverter says each night, while it equalises, or behind a relay that cut it off the
    grid on purpose is no alarm: services/watch knows the sun and the relay. Nor are bits that
    nobody can explain; they stand in the sample.
    """
    codes = _codes(values.get("faults"))
    number = values.get("fault_code")
    fault = number if isinstance(number, int) and number > 0 else None
    warned = [
        code
        for code in _codes(values.get("warnings"))
        if code not in codes and code not in tables.NO_ALARM and not code.startswith("reserved_")
    ]
    found = {}
    if codes or fault is not None or values.get("device_mode") == "fault":
        specific = [code for code in codes if code != "inverter_fault"] or codes
        texts = [tables.warning_text(code) for code in specific] if fault is None else []
        texts += [] if fault is None else [f"{tables.fault_text(fault)} (fault {fault})"]
        texts = texts or ["it stands in fault mode and does not say why"]
        found["inverter_fault"] = Condition(
            "critical",
            f"Inverter fault: {', '.join(texts)}",
            f"The inverter reports: {', '.join(texts)}.",
            fault,
            "Loads may be without power: read the fault on its display, reduce the load, and call "
            "your installer if it does not restart.",
            {"codes": [*codes], "texts": [*texts], "fault_code": fault},
        )
    if warned:
        texts = [tables.warning_text(code) for code in warned]
        found["inverter_warning"] = Condition(
            "warning",
            f"Inverter warning: {', '.join(texts)}",
            f"The inverter reports: {', '.join(texts)}.",
            advice=tables.ADVICE.get(warned[0], "Look at the inverter and at its display."),
            data={"codes": [*warned], "texts": [*texts]},
        )
    return found


def _codes(value: Value) -> list[str]:
    return [code for code in value if isinstance(code, str)] if isinstance(value, list) else []


def _settings(values: Values) -> Values:
    """Without what is the device's own."""
    return {name: value for name, value in values.items() if name not in NAMEPLATE}


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(values: Values, names: tuple[str, ...]) -> Value:
    """Their sum, of those that the device has; None while one of them is unknown."""
    present = [values[name] for name in names if name in values]
    numbers = [value for value in present if _is_number(value)]
    return sum(numbers) if len(numbers) == len(present) else None


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None
