"""The form of one rule: a table of the controller as fields, and fields as a table. Pure.

What every rule must have (two thresholds, times, a limit, a safe state) is asked for here already,
in the language of who fills it in; the controller checks everything once more.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sunmesh.messages import Info
from sunmesh.topics import NAME
from sunmesh.vocabulary import VOCABULARY, Kind

from .. import controls, text, words
from ..live import Memory
from ..text import _, typed
from .book import Rules, Table, conditions
from .words import NUMERIC, TESTS, key_of, samples, test_of

MOST_GROUPS, MOST_CONDITIONS, MOST_STEPS, MOST_GIVEN = 6, 6, 10, 4
LONGEST_MIN = 120
HOURS = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
MOST_OPTIONS = 150
LARGEST = 1e6
HIDDEN = frozenset({"bits", "number", "code", "version", "index", "id"})
"""Last words of quantities that no rule is made of."""


# -- what can be chosen ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """One quantity or setting to choose."""

    form: str
    label: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """Everything of one device."""

    title: str
    options: Sequence[Option]


def shelves(
    rules: Rules, devices: Mapping[str, Memory], used: Sequence[Table]
) -> tuple[list[Shelf], list[Shelf]]:
    """What conditions may look at, and what steps may set, by device.

    Args:
        rules: know which devices are inverter, battery and relay.
        devices: what is known of each.
        used: tables whose quantities and settings must be among it.
    """
    near = {each: None for each in (*rules.roles.values(), *_devices_of(rules, used))}
    count = sum(len(m.sample.values) for m in devices.values() if m.sample)
    names = near if count > MOST_OPTIONS else {**near, **dict.fromkeys(devices)}
    looked: dict[str, set[str]] = {}
    for key in _keys(rules, used):
        kind, _colon, rest = key.partition(":")
        device, _dot, name = rest.partition(".")
        looked.setdefault(device, set()).add(f"{kind}:{name}")
    look, sets = [], []
    for device in names:
        memory = devices.get(device) or Memory()
        mine = looked.get(device, set())
        measured = set(memory.sample.values if memory.sample else ())
        quantities = {name for name in measured if _is_usable(name)}
        quantities |= {key[2:] for key in mine if key.startswith("q:")}
        known = set(memory.settings.values if memory.settings else ())
        known |= {key[2:] for key in mine if key.startswith(("s:", "w:"))}
        rows = [Option(f"q:{device}.{n}", words.label(n)) for n in quantities]
        rows += [Option(f"s:{device}.{n}", _("set: %(name)s", name=words.label(n))) for n in known]
        if rows:
            look.append(Shelf(words.title(device), sorted(rows, key=_by_label)))
        settable = set(memory.info.settable if memory.info else ())
        settable |= {key[2:] for key in mine if key.startswith("w:")}
        if settable:
            options = [Option(f"{device}.{n}", words.label(n)) for n in settable]
            sets.append(Shelf(words.title(device), sorted(options, key=_by_label)))
    return look, sets


def _by_label(option: Option) -> tuple[bool, str]:
    return option.form.startswith("s:"), option.label.casefold()


def _is_usable(name: str) -> bool:
    row = VOCABULARY.get(name)
    if row is None or row.kind is Kind.COUNTER or name.rpartition("_")[2] in HIDDEN:
        return False
    return row.kind is not Kind.LIST or name in ("cell_voltage_v", "battery_temperature_c")


def _keys(rules: Rules, used: Sequence[Table]) -> set[str]:
    """``q:``, ``s:`` and ``w:`` (to be set) with device and name, roles resolved."""
    found = set()

    def add(kind: str, text: object) -> None:
        if text:
            found.add(f"{kind}:{'.'.join(rules.device(str(text)))}")

    for table in used:
        steps = [each for each in table.get("do") or () if isinstance(each, dict)]
        givens = [c for each in steps for c in each.get("given") or () if isinstance(c, dict)]
        for item in (*conditions(table.get("when")), *conditions(table.get("until")), *givens):
            add("q", item.get("quantity"))
            add("s", item.get("setting"))
        for each in steps:
            add("w", each.get("set"))
            add("s", each.get("from"))
    return found


def _devices_of(rules: Rules, used: Sequence[Table]) -> list[str]:
    return sorted({key[2:].partition(".")[0] for key in _keys(rules, used)})


# -- a table as fields -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConditionFields:
    """One comparison, as its row of the form shows it."""

    what: str = ""
    test: str = "at_least"
    value: str = ""
    every: bool = False


@dataclass(frozen=True, slots=True)
class GroupFields:
    """Comparisons with their samples."""

    kind: str = "count"
    few: str = "4"
    many: str = "5"
    conditions: Sequence[ConditionFields] = ()


@dataclass(frozen=True, slots=True)
class StepFields:
    """One thing that is done."""

    kind: str = ""
    what: str = ""
    to: str = ""
    base: str = ""
    by: str = ""
    floor: str = ""
    given: Sequence[ConditionFields] = ()


@dataclass(frozen=True, slots=True)
class Fields:
    """The whole form."""

    says: str = ""
    protects: bool = False
    priority: str = ""
    hours: str = ""
    begin: str = ""
    end: str = ""
    ends_with_hours: bool = False
    when: Sequence[GroupFields] = ()
    until: Sequence[GroupFields] = ()
    do: Sequence[StepFields] = ()
    safe_relay: str = ""
    safe_settings: str = ""
    temporary: bool = False
    afterwards: str = "leave"
    min_on_min: str = ""
    min_off_min: str = ""
    again_min: str = "10"
    most_switches_day: str = ""


def fields_of(rules: Rules, table: Table, *, blank: bool = True) -> Fields:
    """``table`` as the form shows it; with ``blank`` each list ends with an empty row."""
    hours = str(table.get("hours") or "")
    begin, _dash, end = hours.partition("-")
    safe = table.get("safe")
    safe = safe if isinstance(safe, dict) else {}
    steps = [_step_fields(rules, each, blank) for each in table.get("do") or ()]
    return Fields(
        says=str(table.get("says") or ""),
        protects=bool(table.get("protects")),
        priority=_text(table.get("priority")),
        hours="always" if hours == "always" else "between" if hours else "",
        begin=begin if end else "",
        end=end,
        ends_with_hours=bool(table.get("ends_with_hours")),
        when=_group_fields(rules, table.get("when"), blank),
        until=_group_fields(rules, table.get("until"), blank),
        do=[*steps, *([StepFields()] if blank and len(steps) < MOST_STEPS else [])],
        safe_relay=_text(safe.get("relay")),
        safe_settings=_text(safe.get("settings")),
        temporary=bool(table.get("temporary")),
        afterwards=_text(table.get("afterwards")) or "leave",
        min_on_min=_text(table.get("min_on_min")),
        min_off_min=_text(table.get("min_off_min")),
        again_min=_text(table.get("again_min", 10)),
        most_switches_day=_text(table.get("most_switches_day")),
    )


def _group_fields(rules: Rules, groups: object, blank: bool) -> list[GroupFields]:
    found = []
    for each in groups if isinstance(groups, list) else ():
        if isinstance(each, dict):
            kind, few, many = samples(str(each.get("samples") or "now"))
            rows = [_condition_fields(rules, c) for c in conditions([each])]
            if blank and len(rows) < MOST_CONDITIONS:
                rows.append(ConditionFields())
            found.append(GroupFields(kind, str(few), str(many), rows))
    if blank and len(found) < MOST_GROUPS:
        found.append(GroupFields(conditions=[ConditionFields()]))
    return found


def _condition_fields(rules: Rules, item: Mapping[str, Any]) -> ConditionFields:
    test, value = test_of(item)
    kind = "s" if item.get("setting") else "q"
    name = ".".join(rules.device(key_of(item))) if key_of(item) else ""
    return ConditionFields(
        f"{kind}:{name}" if name else "", test or "at_least", _text(value), bool(item.get("every"))
    )


def _step_fields(rules: Rules, item: Mapping[str, Any], blank: bool) -> StepFields:
    given = [_condition_fields(rules, c) for c in item.get("given") or () if isinstance(c, dict)]
    if blank and len(given) < MOST_GIVEN:
        given.append(ConditionFields("", "is"))
    if item.get("relay"):
        return StepFields(str(item["relay"]), given=given)
    key = ".".join(rules.device(str(item.get("set") or "")))
    if item.get("from"):
        base = ".".join(rules.device(str(item["from"])))
        by, floor = _text(item.get("by")), _text(item.get("floor"))
        return StepFields("move", key, base=base, by=by, floor=floor, given=given)
    return StepFields("set", key, _text(item.get("to")), given=given)


def _text(value: Any) -> str:  # noqa: ANN401
    """A value as a form carries it; machine form, since a comma is understood, too."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return f"{value:.10g}"
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    if isinstance(value, dict):
        return str(value.get("setting") or "")
    return str(value)


# -- fields as a table -----------------------------------------------------------------------------


@dataclass(slots=True)
class Parsed:
    """What a form says: the rule's table, and what is wrong with it, by field."""

    name: str = ""
    table: Table = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def wrong(self, where: str, why: str) -> None:
        """Note the first thing that is wrong with a field."""
        self.errors.setdefault(where, why)


def parse(form: Mapping[str, str], rules: Rules) -> Parsed:
    """What somebody filled in. Nothing is raised: all that is wrong is told at once."""
    found = Parsed(form.get("name", "").strip())
    table = found.table
    if not NAME.fullmatch(found.name):
        found.wrong("name", _("A name has 1 to 32 of a–z, 0–9 and -"))
    table["says"] = form.get("says", "").strip()[:200]
    if not table["says"] or not table["says"].isprintable():
        found.wrong("says", _("Say in a sentence what the rule is for"))
    table["protects"] = form.get("protects") == "on"
    table["priority"] = _whole(found, form, "priority", 1, 99)
    _hours(found, form)
    table["when"] = _groups(found, form, rules, "when")
    table["until"] = _groups(found, form, rules, "until")
    table["do"] = _steps(found, form, rules)
    _safe(found, form)
    table["temporary"] = form.get("temporary") == "on"
    table["afterwards"] = "restore" if form.get("afterwards") == "restore" else "leave"
    if table["afterwards"] == "restore":
        table["temporary"] = True
    for key in ("min_on_min", "min_off_min", "again_min"):
        table[key] = _minutes(found, form, key)
    table["most_switches_day"] = _whole(found, form, "most_switches_day", 2, 100)
    _hysteresis(found, rules)
    return found


def _hours(found: Parsed, form: Mapping[str, str]) -> None:
    chosen = form.get("hours", "")
    table = found.table
    table["hours"] = "always"
    if chosen == "between":
        begin, end = form.get("begin", "").strip()[:5], form.get("end", "").strip()[:5]
        if not HOURS.fullmatch(begin) or not HOURS.fullmatch(end):
            found.wrong("hours", _("Both times are needed, such as 22:00 and 05:30"))
        elif begin == end:
            found.wrong("hours", _("Begin and end are the same"))
        table["hours"] = f"{begin}-{end}"
        table["ends_with_hours"] = form.get("ends_with_hours") == "on"
    elif chosen != "always":
        found.wrong("hours", _("Choose when it may act"))


def _groups(found: Parsed, form: Mapping[str, str], rules: Rules, side: str) -> list[Table]:
    groups = []
    for place in range(MOST_GROUPS):
        at = f"{side}-{place}"
        rows = [
            row
            for number in range(MOST_CONDITIONS)
            if (row := _condition(found, form, rules, f"{at}-{number}")) is not None
        ]
        if not rows:
            continue
        groups.append({"samples": _samples(found, form, at, rows), "all": rows})
    if not groups:
        why = (
            _("Say when it begins")
            if side == "when"
            else _("Say when it is over: every rule needs a way back")
        )
        found.wrong(side, why)
    return groups


def _samples(found: Parsed, form: Mapping[str, str], at: str, rows: Sequence[Table]) -> str:
    kind = form.get(f"{at}-samples", "now")
    if kind not in ("count", "mean"):
        return "now"
    few, many = form.get(f"{at}-few", "").strip(), form.get(f"{at}-many", "").strip()
    if not re.fullmatch(r"[0-9]{1,3}", many) or not 1 <= int(many) <= LONGEST_MIN:
        found.wrong(at, _("Minutes are 1 to %(most)s", most=LONGEST_MIN))
        return "now"
    if kind == "mean":
        if any(test_of(row)[0] not in NUMERIC for row in rows):
            found.wrong(at, _("Only numbers have a mean"))
        return f"mean of {int(many)}"
    if not re.fullmatch(r"[0-9]{1,3}", few) or not 1 <= int(few) <= int(many):
        found.wrong(at, _("In how many of these minutes? 1 to %(most)s", most=int(many)))
        return "now"
    return f"{int(few)} of {int(many)}"


def _condition(found: Parsed, form: Mapping[str, str], rules: Rules, at: str) -> Table | None:
    chosen = form.get(f"{at}-what", "").strip()
    if not chosen:
        return None
    kind, _colon, key = chosen.partition(":")
    device, _dot, name = key.partition(".")
    if kind not in ("q", "s") or not NAME.fullmatch(device) or not _is_name(name):
        found.wrong(at, _("Choose a quantity or a setting"))
        return None
    test = form.get(f"{at}-test", "")
    if test not in TESTS:
        found.wrong(at, _("Choose a comparison"))
        return None
    row: Table = {"quantity" if kind == "q" else "setting": key}
    written = form.get(f"{at}-value", "").strip()[:80]
    if not written:
        found.wrong(at, _("A value is missing"))
    row[test] = _threshold(found, rules, at, written) if test in NUMERIC else _words(written)
    if form.get(f"{at}-every") == "on":
        row["every"] = True
    return row


def _threshold(found: Parsed, rules: Rules, at: str, written: str) -> Any:  # noqa: ANN401
    """A number, one by its name, or a setting of a device."""
    if written in rules.numbers:
        return written
    if re.fullmatch(r"[a-z0-9-]{1,32}\.[a-z][a-z0-9_]{0,63}", written):
        return {"setting": written}
    number = number_of(written)
    if number is None and written:
        found.wrong(at, _("“%(text)s” is no number", text=written[:40]))
    return number


def number_of(written: str) -> float | None:
    """What is typed as a number; None = it is none, or too large for any rule."""
    number = typed(written)
    return number if number is not None and abs(number) <= LARGEST else None


def _words(written: str) -> Any:  # noqa: ANN401
    if written in ("on", "off", "true", "false"):
        return written in ("on", "true")
    parts = [part.strip() for part in written.split(",") if part.strip()]
    return parts[0] if len(parts) == 1 else parts


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) is not None


def _steps(found: Parsed, form: Mapping[str, str], rules: Rules) -> list[Table]:
    steps: list[Table] = []
    for place in range(MOST_STEPS):
        at = f"do-{place}"
        kind = form.get(f"{at}-kind", "")
        if kind in ("grid_open", "grid_connected"):
            step: Table = {"relay": kind}
        elif kind in ("set", "move"):
            step = _setting_step(found, form, rules, at, kind)
        else:
            continue
        given = [
            row
            for number in range(MOST_GIVEN)
            if (row := _condition(found, form, rules, f"{at}-{number}")) is not None
        ]
        if given:
            step["given"] = given
        steps.append(step)
    if not steps:
        found.wrong("do", _("Say what it does"))
    return steps


def _setting_step(
    found: Parsed, form: Mapping[str, str], rules: Rules, at: str, kind: str
) -> Table:
    key = form.get(f"{at}-what", "").strip()
    device, _dot, name = key.partition(".")
    if not NAME.fullmatch(device) or not _is_name(name):
        found.wrong(at, _("Choose what is set"))
        return {"set": key[:100]}
    if kind == "move":
        base = form.get(f"{at}-base", "").strip() or key
        by = number_of(form.get(f"{at}-by", ""))
        floor = form.get(f"{at}-floor", "").strip()
        limit = floor if floor in rules.numbers else number_of(floor)
        if by is None or limit is None or by == 0:
            found.wrong(at, _("By how much, and not below which value? What moves needs an end"))
        return {"set": key, "from": base, "by": by, "floor": limit}
    written = form.get(f"{at}-to", "").strip()[:80]
    if not written:
        found.wrong(at, _("A value is missing"))
    if written in rules.numbers or written in ("on", "off"):
        return {"set": key, "to": {"on": True, "off": False}.get(written, written)}
    number = number_of(written)
    return {"set": key, "to": written if number is None else number}


def _safe(found: Parsed, form: Mapping[str, str]) -> None:
    steps = found.table["do"]
    safe = found.table["safe"] = {}
    if form.get("safe_relay") == "grid_connected":
        safe["relay"] = "grid_connected"
    elif any(step.get("relay") for step in steps):
        found.wrong("safe_relay", _("Where it cannot see, the grid must be connected: confirm it"))
    if form.get("safe_settings") == "leave":
        safe["settings"] = "leave"
    elif any(step.get("set") for step in steps):
        found.wrong("safe_settings", _("Say what becomes of settings where it cannot see"))


def _hysteresis(found: Parsed, rules: Rules) -> None:
    """Two thresholds that lie apart for what is measured; the controller looks more closely."""
    begins = [c for c in conditions(found.table["when"]) if c.get("quantity")]
    ends = conditions(found.table["until"])
    measured = [c for c in begins if test_of(c)[0] in NUMERIC]
    if not measured or not ends:
        return
    pairs = 0
    for on in measured:
        for off in ends:
            same = rules.device(key_of(on)) == rules.device(key_of(off))
            if not same or test_of(off)[0] not in NUMERIC:
                continue
            pairs += 1
            rising = test_of(on)[0] in ("at_least", "above")
            if rising == (test_of(off)[0] in ("at_least", "above")):
                found.wrong(
                    "until",
                    _("%(what)s must come back over the other side", what=_label(on)),
                )
                continue
            low, high = _plain(rules, off if rising else on), _plain(rules, on if rising else off)
            if low is not None and high is not None and not low < high:
                found.wrong(
                    "until", _("%(what)s needs two thresholds that lie apart", what=_label(on))
                )
    if not pairs:
        names = " · ".join(sorted({_label(each) for each in measured}))
        found.wrong("until", _("The second threshold is missing: %(what)s", what=names))


def _label(condition: Table) -> str:
    return words.label(key_of(condition).partition(".")[2])


def _plain(rules: Rules, condition: Table) -> float | None:
    value = test_of(condition)[1]
    value = rules.numbers.get(value) if isinstance(value, str) else value
    return float(value) if isinstance(value, int | float) else None


def _whole(found: Parsed, form: Mapping[str, str], key: str, low: int, high: int) -> int | None:
    written = form.get(key, "").strip()
    if not re.fullmatch(r"[0-9]{1,4}", written) or not low <= int(written) <= high:
        found.wrong(key, _("A whole number, %(low)s to %(high)s", low=low, high=high))
        return None
    return int(written)


def _minutes(found: Parsed, form: Mapping[str, str], key: str) -> float | None:
    number = number_of(form.get(key, ""))
    if number is None or not 1 <= number <= 1440:
        found.wrong(key, _("Minutes, %(low)s to %(high)s", low=1, high=text.number(1440)))
        return None
    return number


# -- what the device says of it --------------------------------------------------------------------


def doubts(table: Table, rules: Rules, infos: Mapping[str, Info | None]) -> list[str]:
    """What a device would refuse of the rule's settings, as far as it tells its ranges."""
    found = []
    for step in table.get("do") or ():
        if not step.get("set"):
            continue
        device, name = rules.device(str(step["set"]))
        info = infos.get(device)
        if info is None:
            continue
        label = words.label(name)
        if name not in info.settable:
            found.append(
                _(
                    "%(device)s does not take %(name)s now: control may be off in site.toml",
                    device=words.title(device),
                    name=label,
                )
            )
            continue
        limits = info.ranges.get(name)
        for key in ("to", "floor"):
            value = step.get(key)
            value = rules.numbers.get(value, value) if isinstance(value, str) else value
            if value is None or limits is None:
                continue
            low, high = limits.low, limits.high
            outside = isinstance(value, int | float) and (
                (low is not None and value < low) or (high is not None and value > high)
            )
            other = bool(limits.choices) and not any(
                value == each or controls.form_text(each, limits) == str(value)
                for each in limits.choices
            )
            if outside or (other and key == "to"):
                found.append(
                    _(
                        "%(name)s: the device takes %(allowed)s, not %(value)s",
                        name=label,
                        allowed=controls.allowed(name, limits),
                        value=words.value(name, value),
                    )
                )
    return found
