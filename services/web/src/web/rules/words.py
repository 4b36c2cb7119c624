"""Rules read aloud, in the language spoken: whole phrases around names and values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babel.lists import format_list

from .. import text, words
from ..text import N_, _, ngettext
from .book import Rules, Table, conditions

KNOWN = (
    N_("A full battery is charged no more by the grid, and slowly by the sun"),
    N_("A battery that rests full is held at a lower voltage"),
    N_("A battery management that stopped the charge is not charged against"),
    N_("A cell that is charged too high brings all charging voltages down"),
    N_("A low battery gets the grid back"),
    N_("A battery that is lower still leaves the house to the grid"),
    N_("A battery that is charged again takes the house over"),
    N_("In the hours of sun a battery that carries the house does without the grid"),
    N_("Beside a connected grid the battery is spared"),
    N_("An inverter that lives on the grid is told so"),
    N_("An empty battery may be charged from the grid"),
    N_("A battery with a reserve is charged by the sun alone"),
    N_("Each night the charger gets its full range back"),
)
"""What the rules of the preset say, for the catalogues; what an owner wrote stays as it is."""

TESTS = {
    "at_least": N_("%(what)s is %(value)s or more"),
    "above": N_("%(what)s is above %(value)s"),
    "at_most": N_("%(what)s is %(value)s or less"),
    "below": N_("%(what)s is below %(value)s"),
    "is": N_("%(what)s is: %(value)s"),
    "is_not": N_("%(what)s is not: %(value)s"),
}
NUMERIC = ("at_least", "above", "at_most", "below")
TEST_NAMES = {
    "at_least": N_("is … or more"),
    "above": N_("is above"),
    "at_most": N_("is … or less"),
    "below": N_("is below"),
    "is": N_("is"),
    "is_not": N_("is not"),
}
ORIGINS = {
    "preset": N_("from the preset"),
    "site": N_("from site.toml"),
    "saved": N_("changed here"),
}


def say(sentence: object) -> str:
    """What a rule is for: that of a preset in the language spoken, another as it was written."""
    content = str(sentence or "").strip()
    return _(content) if content in KNOWN else content


def together(phrases: Sequence[str]) -> str:
    """``a, b and c``."""
    return format_list(list(phrases), locale=text.locale()) if phrases else ""


def what(rules: Rules, key: str) -> str:
    """``Battery voltage (Inverter)`` of ``inverter.battery_voltage_v``."""
    device, name = rules.device(key)
    return _("%(value)s (%(device)s)", value=words.label(name), device=words.title(device))


def test_of(condition: Mapping[str, Any]) -> tuple[str, Any]:
    """Which comparison, and with what."""
    for test in TESTS:
        if condition.get(test) is not None:
            return test, condition[test]
    return "", None


def key_of(condition: Mapping[str, Any]) -> str:
    """``inverter.battery_voltage_v``."""
    return str(condition.get("quantity") or condition.get("setting") or "")


def amount(rules: Rules, name: str, value: Any) -> str:  # noqa: ANN401
    """A threshold or a value that is set, with its unit."""
    if isinstance(value, dict):
        return what(rules, str(value.get("setting") or ""))
    if isinstance(value, str) and value in rules.numbers:
        value = rules.numbers[value]
    if isinstance(value, list):
        return together([words.value(name, each) for each in value])
    return words.value(name, value)


def condition(rules: Rules, item: Mapping[str, Any]) -> str:
    """``Battery voltage (Inverter) is 51.2 V or less``."""
    key = key_of(item)
    test, value = test_of(item)
    if not key or not test:
        return text.NONE
    name = what(rules, key)
    if item.get("setting"):
        name = _("setting “%(name)s”", name=name)
    if item.get("every"):
        name = _("every element of %(name)s", name=name)
    return _(TESTS[test], what=name, value=amount(rules, key.partition(".")[2], value))


def group(rules: Rules, item: Mapping[str, Any]) -> str:
    """Conditions that hold together, with their samples."""
    said = together([condition(rules, each) for each in conditions([item])])
    kind, few, many = samples(str(item.get("samples") or "now"))
    if kind == "count":
        return _(
            "%(conditions)s, in %(few)s of the last %(many)s minutes",
            conditions=said,
            few=few,
            many=many,
        )
    if kind == "mean":
        return _(
            "%(conditions)s, as the mean of %(minutes)s minutes", conditions=said, minutes=many
        )
    return said


def samples(written: str) -> tuple[str, int, int]:
    """``9 of 10`` as its parts."""
    parts = written.split()
    try:
        match parts:
            case [few, "of", many]:
                return "count", int(few), int(many)
            case ["mean", "of", many]:
                return "mean", int(many), int(many)
    except ValueError:
        pass
    return "now", 1, 1


def step(rules: Rules, item: Mapping[str, Any]) -> str:
    """What is done."""
    position = item.get("relay")
    if position:
        said = (
            _("disconnect the grid by the relay")
            if position == "grid_open"
            else _("connect the grid by the relay")
        )
    else:
        key = str(item.get("set") or "")
        name = key.partition(".")[2]
        if item.get("from"):
            by = item.get("by") or 0
            values = {
                "name": what(rules, key),
                "size": amount(rules, name, abs(by)),
                "floor": amount(rules, name, item.get("floor")),
            }
            if item["from"] == key:
                said = (
                    _("lower “%(name)s” by %(size)s, not below %(floor)s", **values)
                    if by < 0
                    else _("raise “%(name)s” by %(size)s", **values)
                )
            else:
                values["other"] = what(rules, str(item["from"]))
                said = (
                    _("set “%(name)s” %(size)s below “%(other)s”, not below %(floor)s", **values)
                    if by < 0
                    else _("set “%(name)s” %(size)s above “%(other)s”", **values)
                )
        else:
            said = _(
                "set “%(name)s” to: %(value)s",
                name=what(rules, key),
                value=amount(rules, name, item.get("to")),
            )
    given = [condition(rules, each) for each in item.get("given") or () if isinstance(each, dict)]
    if given:
        return _("%(action)s (where %(conditions)s)", action=said, conditions=together(given))
    return said


@dataclass(frozen=True, slots=True)
class Reading:
    """One rule, to be read aloud line by line."""

    says: str
    hours: str
    when: tuple[str, ...]
    then: tuple[str, ...]
    back: tuple[str, ...]
    after: str
    limits: str
    pauses: str
    safe: str

    @property
    def lines(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Heading and phrases of each part."""
        when = (*self.when, self.hours) if self.hours else self.when
        back = (*self.back, self.after) if self.after else self.back
        return (
            (_("When"), tuple(_first(each) for each in when)),
            (_("Then"), tuple(_first(each) for each in self.then)),
            (_("Over when"), tuple(_first(each) for each in back)),
            (_("Limits"), (self.limits, self.pauses)),
            (_("Without fresh data"), (self.safe,)),
        )


def _first(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]


def read(rules: Rules, table: Table) -> Reading:
    """``table`` read aloud."""
    hours = str(table.get("hours") or "always")
    begin, _dash, end = hours.partition("-")
    steps = [each for each in table.get("do") or () if isinstance(each, dict)]
    safe = table.get("safe")
    relay = isinstance(safe, dict) and safe.get("relay")
    after = []
    if table.get("ends_with_hours"):
        after.append(_("in any case when its hours are over"))
    if table.get("afterwards") == "restore":
        after.append(_("then what was set before is put back"))
    elif table.get("temporary"):
        after.append(_("what was set before is put back when it is switched off"))
    count = int(_number(table.get("most_switches_day")))
    return Reading(
        says=say(table.get("says")),
        hours="" if hours == "always" else _("between %(begin)s and %(end)s", begin=begin, end=end),
        when=_groups(rules, table.get("when")),
        then=tuple(step(rules, each) for each in steps),
        back=_groups(rules, table.get("until")),
        after=together(after),
        limits=ngettext(
            "Acts %(num)d time in 24 hours at most", "Acts %(num)d times in 24 hours at most", count
        ),
        pauses=_(
            "Lasts %(on)s and rests %(off)s minutes at least; acts again after %(again)s",
            on=_amount(table.get("min_on_min")),
            off=_amount(table.get("min_off_min")),
            again=_amount(table.get("again_min", 10)),
        ),
        safe=_("The grid is connected") if relay else _("Settings stay as they are"),
    )


def _groups(rules: Rules, groups: object) -> tuple[str, ...]:
    found = [each for each in groups if isinstance(each, dict)] if isinstance(groups, list) else []
    return tuple(group(rules, each) for each in found)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _amount(value: object) -> str:
    number = _number(value)
    return text.number(number, 0 if float(number).is_integer() else 1)


# -- who has its way -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two rules that may want different things of one setting, or of the relay."""

    first: str
    second: str
    about: str
    text: str


def conflicts(rules: Rules) -> list[Conflict]:
    """Every pair of rules that may want different things, and which has its way."""
    found = []
    running = [each for each in rules.rules if each.runs]
    for place, one in enumerate(running):
        for other in running[place + 1 :]:
            mine, theirs = _wishes(rules, one.table), _wishes(rules, other.table)
            for key in mine.keys() & theirs.keys():
                if mine[key] == theirs[key]:
                    continue
                found.append(
                    _conflict(rules, key, (one.name, mine[key]), (other.name, theirs[key]))
                )
    return sorted(found, key=lambda each: (each.about, each.first, each.second))


def _conflict(rules: Rules, key: str, one: tuple[str, str], other: tuple[str, str]) -> Conflict:
    names = words.title(one[0]), words.title(other[0])
    if key == "relay":
        closing = names[0] if one[1] == "grid_connected" else names[1]
        said = _("%(rule)s has its way: the connected grid is the safe position", rule=closing)
        return Conflict(*names, _("Grid relay"), said)
    said = _("%(rule)s has its way", rule=names[0])
    return Conflict(*names, what(rules, key), said)


def _wishes(rules: Rules, table: Table) -> dict[str, str]:
    """What a rule may set, by ``device.name`` or ``relay``; moved values are like no other."""
    found: dict[str, str] = {}
    for item in table.get("do") or ():
        if not isinstance(item, dict):
            continue
        if item.get("relay"):
            if rules.has_relay:
                found["relay"] = str(item["relay"])
        elif item.get("from"):
            found[".".join(rules.device(str(item.get("set"))))] = (
                f"from {item['from']} {item.get('by')}"
            )
        else:
            value = item.get("to")
            value = rules.numbers.get(value, value) if isinstance(value, str) else value
            found[".".join(rules.device(str(item.get("set"))))] = repr(value)
    return found
