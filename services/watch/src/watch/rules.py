"""Rules: what ``site.toml`` says of alarms, checked; and what each says of the facts. Pure."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from string import Formatter

from sunmesh.alarms import Condition, Terms
from sunmesh.errors import ConfigError
from sunmesh.messages import Alarm, Severity, Value
from sunmesh.vocabulary import VOCABULARY, Kind

from . import sun
from .config import AlarmConfig, WatchConfig
from .facts import Device, Facts, plain
from .measures import Finding, duration, kind_of, number, shown

CODE = re.compile(r"[a-z0-9_-]{1,48}")
COMMON = ("device", "value", "limit", "limit_passed", "worse", "for")
"""What every text may name."""
COMPARISONS = ("at_least", "above", "at_most", "below")
WORDS = {
    "at_least": "is {} or more",
    "above": "is above {}",
    "at_most": "is {} or less",
    "below": "is below {}",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the house stands, for the sun [deg]; None = nobody knows."""

    latitude: float | None = None
    longitude: float | None = None

    def sun_deg(self, t: float) -> float | None:
        """How high the sun stands at ``t`` [s since 1970]."""
        if self.latitude is None or self.longitude is None:
            return None
        return sun.elevation_deg(t, self.latitude, self.longitude)


@dataclass(frozen=True, slots=True)
class Rule:
    """One alarm.

    Attributes:
        name: its code.
        config: as the file has it.
        comparison: how the number is compared; empty = with a word.
        limit: with what.
        terms: for how long, and so on.
        families: of whose devices.
        is_own: whether it is the owner's.
    """

    name: str
    config: AlarmConfig
    comparison: str
    limit: float | None
    terms: Terms
    families: tuple[str, ...]
    unit: str
    is_own: bool = False

    @property
    def measure(self) -> str:
        """What it looks at."""
        return self.config.measure

    @property
    def rises(self) -> bool:
        """Whether a larger number is worse."""
        return self.comparison in ("at_least", "above")

    @property
    def is_numeric(self) -> bool:
        """Whether numbers are compared."""
        return bool(self.comparison)

    @property
    def least(self) -> float:
        """Below that there is too little to compare."""
        return self.config.least

    @property
    def periods(self) -> float:
        """Poll intervals of silence."""
        return self.config.periods

    @property
    def days(self) -> int:
        """So many days before."""
        return self.config.days

    @property
    def enough(self) -> int:
        """Of so many of them something must be known."""
        return self.config.enough

    def is_wanted(self, name: str) -> bool:
        """Whether the rule is about that device or service."""
        if name in self.config.except_devices:
            return False
        return not self.config.devices or name in self.config.devices

    def subjects(self, facts: Facts) -> Iterator[Device]:
        """The devices that it is about."""
        for device in facts.devices.values():
            if self.is_wanted(device.name) and (
                not self.families or device.family in self.families or self.config.devices
            ):
                yield device

    def findings(self, facts: Facts, at: float) -> Iterator[Finding]:
        """The measure of each, now."""
        kind = kind_of(self.measure)
        if kind is not None:
            yield from kind.find(facts, self, at)

    # -- is it so? ---------------------------------------------------------------------------------

    def judge(
        self, finding: Finding, raised: Alarm | None, *, grid_is_open: bool = False
    ) -> Condition | None:
        """What is wrong with a finding that is known; None = nothing."""
        if not self._holds(finding, raised):
            return None
        config = self.config
        severity = self._severity(finding, raised)
        is_worse = config.worse is not None and severity == config.worse_severity
        limit = finding.limit if finding.limit is not None else self.limit
        passed = config.worse if is_worse else limit
        data: dict[str, Value] = {
            "device": finding.device,
            "value": shown(self._amount(finding.value), self.unit),
            "limit": shown(limit, self.unit),
            "limit_passed": shown(passed, self.unit),
            "worse": shown(config.worse, self.unit),
            "for": duration(config.for_s),
            **finding.data,
        }
        title, text, advice = config.title, config.text, config.advice
        if grid_is_open and config.grid_open is not None:
            severity = config.grid_open.severity
            title = config.grid_open.title or title
            text = config.grid_open.text or text
            advice = config.grid_open.advice
            data["on_purpose"] = True
        value = finding.value
        if isinstance(value, float):
            value = round(value, 4)
        return Condition(
            severity,
            plain(fill(title, data), 160),
            plain(fill(text, data), 1000),
            value if not isinstance(value, list) else None,
            plain(fill(advice, data), 400),
            data,
        )

    def _amount(self, value: Value) -> Value:
        amount = number(value)
        return abs(amount) if amount is not None and self.config.absolute else value

    def _holds(self, finding: Finding, raised: Alarm | None) -> bool:
        value = self._amount(finding.value)
        if not self.is_numeric:
            wanted = self.config.equals
            return wanted in value if isinstance(value, list) else value == wanted
        amount = number(value)
        limit = finding.limit if finding.limit is not None else self.limit
        if amount is None or limit is None:
            return False
        clear = self.config.clear
        if raised is not None and clear is not None and finding.limit is None:
            # raised, it is over only beyond the other number
            return amount >= clear if self.rises else amount <= clear
        return self.compare(amount, limit)

    def _severity(self, finding: Finding, raised: Alarm | None) -> Severity:
        config = self.config
        amount = number(self._amount(finding.value))
        if config.worse is None or amount is None:
            return config.severity
        worse = config.worse
        if raised is not None and raised.severity == config.worse_severity:
            margin = 0.0
            if config.clear is not None and self.limit is not None:
                margin = abs(self.limit - config.clear)
            worse += -margin if self.rises else margin
        return config.worse_severity if self.compare(amount, worse) else config.severity

    def compare(self, amount: float, limit: float) -> bool:
        """Whether ``amount`` is that bad; binary fractions do not decide."""
        is_same = math.isclose(amount, limit, rel_tol=1e-9, abs_tol=1e-9)
        match self.comparison:
            case "at_least":
                return amount > limit or is_same
            case "above":
                return amount > limit and not is_same
            case "at_most":
                return amount < limit or is_same
            case _:
                return amount < limit and not is_same

    def is_day(self, place: Place, t: float) -> bool | None:
        """Whether it counts now; None = it takes the sun, and nobody knows where the house is."""
        if self.config.sun_deg is None:
            return True
        height = place.sun_deg(t)
        return None if height is None else height > self.config.sun_deg


def fill(template: str, data: Mapping[str, Value]) -> str:
    """``template`` with its values; one that is missing now is a dash. Values are not templates."""
    parts = []
    for literal, name, _spec, _conversion in Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            value = data.get(name)
            parts.append("-" if value is None else str(value))
    return "".join(parts)


# --- From tables to rules -------------------------------------------------------------------------


def rules_of(
    config: WatchConfig,
    tables: Mapping[str, AlarmConfig],
    own: Collection[str],
    families: Mapping[str, str],
) -> list[Rule]:
    """The rules that are switched on, checked.

    Args:
        config: of the watch.
        tables: by name, the owner's laid over the defaults.
        own: names that the owner wrote.
        families: device → family, of the site.

    Raises:
        ConfigError: ``alarms.NAME.key: reason``.
    """
    made = []
    for name, table in tables.items():
        rule = _rule(config, name, table, name in own, families)
        if table.enabled:
            made.append(rule)
    return made


def _rule(
    config: WatchConfig, name: str, table: AlarmConfig, is_own: bool, families: Mapping[str, str]
) -> Rule:
    def wrong(key: str, reason: str) -> ConfigError:
        return ConfigError(f"alarms.{name}.{key}: {reason}")

    if not table.measure:
        raise wrong("measure", "is missing: a quantity, or one of the watch's own measures")
    kind = kind_of(table.measure)
    if kind is None:
        from difflib import get_close_matches

        from .measures import MEASURES

        close = get_close_matches(table.measure, [*VOCABULARY, *MEASURES], 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise wrong("measure", f"{table.measure!r} is no quantity and no measure{hint}")
    chosen = [key for key in COMPARISONS if getattr(table, key) is not None]
    if len(chosen) + (table.equals is not None) != 1:
        raise wrong("at_least", f"give one of {', '.join(COMPARISONS)} and equals, not more")
    comparison = chosen[0] if chosen else ""
    limit = getattr(table, comparison) if comparison else None
    row = VOCABULARY.get(table.measure)
    if comparison and row is not None and row.kind is Kind.STATE and not row.unit:
        raise wrong(comparison, f"{table.measure} is no number: use equals")
    if not comparison and (table.clear, table.worse) != (None, None):
        raise wrong("clear", "and worse belong to numbers, not to equals")
    rises = comparison in ("at_least", "above")
    for key, is_beyond in (("clear", False), ("worse", True)):
        number_ = getattr(table, key)
        if number_ is None or limit is None or number_ == limit:
            continue
        if (number_ > limit) != (is_beyond == rises):
            side = "above" if is_beyond == rises else "below"
            raise wrong(key, f"must be {side} {comparison} = {limit:g}, got {number_:g}")
    from sunmesh.config import FAMILIES

    for key in ("families", "otherwise"):
        for family in getattr(table, key):
            if family not in FAMILIES:
                raise wrong(key, f"must be of {', '.join(FAMILIES)}, got {family!r}")
    known = set(families)
    for key in ("devices", "except_devices"):
        for device in getattr(table, key):
            behind = any(device.startswith(f"{gateway}-") for gateway in known)
            if device not in known and not behind and not kind.find.__name__.startswith("service"):
                raise wrong(key, f"no device is {device}")
    _check_texts(name, table, (*COMMON, *kind.fields))
    wanted = table.families
    if table.otherwise and not any(family in wanted for family in families.values()):
        wanted = table.otherwise
    terms = Terms(
        for_s=table.for_s,
        clear_s=table.clear_for_s,
        pause_s=table.pause_s,
        flaps=config.flaps,
        within_s=config.flap_min * 60,
        calm_s=config.calm_min * 60,
    )
    return Rule(name, table, comparison, limit, terms, wanted, kind.unit, is_own)


def _check_texts(name: str, table: AlarmConfig, fields: Collection[str]) -> None:
    texts = {"title": table.title, "text": table.text, "advice": table.advice}
    if table.grid_open is not None:
        words = table.grid_open
        texts |= {"grid_open.title": words.title, "grid_open.text": words.text}
        texts |= {"grid_open.advice": words.advice}
    for key, template in texts.items():
        try:
            named = [(n, spec, conv) for _, n, spec, conv in Formatter().parse(template)]
        except ValueError as err:
            raise ConfigError(f"alarms.{name}.{key}: {err} (a brace is written twice)") from err
        for field, spec, conversion in named:
            if field is not None and (field not in fields or spec or conversion):
                raise ConfigError(
                    f"alarms.{name}.{key}: {{{field}}} is not known; known are {', '.join(fields)}"
                )
    if not table.title or not table.text:
        missing = "text" if table.title else "title"
        raise ConfigError(f"alarms.{name}.{missing}: is missing")
