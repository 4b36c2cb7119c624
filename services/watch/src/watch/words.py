"""Rules read aloud, with what they see now. Pure."""

from collections.abc import Iterator, Mapping

from sunmesh.alarms import Key

from .loading import Plan
from .measures import Finding, duration, kind_of, shown
from .rules import WORDS, Place, Rule


def rule_aloud(rule: Rule, place: Place) -> str:
    """A rule in a sentence or two."""
    config = rule.config
    all_ = {
        "service_down_s": "a service",
        "broker_away_s": "the broker",
        "yield_percent": "the plant",
    }
    anybody = all_.get(config.measure, "any device")
    anybody = "this machine" if config.measure.startswith("disk_") else anybody
    who = ", ".join(config.devices) or " and ".join(rule.families) or anybody
    if rule.comparison:
        limit = shown(rule.limit, rule.unit)
        if config.periods:
            limit = f"{limit} and {config.periods:g} of its poll intervals"
        says = WORDS[rule.comparison].format(limit)
    else:
        says = f"is {config.equals}"
    text = f"{config.severity} when {config.measure} of {who} {says}"
    if config.for_s:
        text += f" for {duration(config.for_s)}"
    if config.sun_deg is not None:
        text += f", while the sun is higher than {config.sun_deg:g}°"
    if config.worse is not None:
        side = "from" if rule.comparison in ("at_least", "at_most") else "beyond"
        text += f"; {config.worse_severity} {side} {shown(config.worse, rule.unit)}"
    if config.clear is not None and config.clear != rule.limit:
        side = "below" if rule.rises else "above"
        text += f"; over {side} {shown(config.clear, rule.unit)}"
    if config.clear_for_s:
        text += f" for {duration(config.clear_for_s)}"
    if config.least:
        text += f"; not judged below {config.least:g}"
    if config.grid_open is not None:
        text += f"; {config.grid_open.severity} while a relay keeps the grid open on purpose"
    if config.sun_deg is not None and place.latitude is None:
        text += ". It waits: [site] has no latitude and longitude"
    return f"{text}."


def rules_aloud(plan: Plan, known: Mapping[Key, Finding]) -> Iterator[str]:
    """Every rule, with what it sees now."""
    for rule in plan.rules:
        mark = " (yours)" if rule.is_own else ""
        yield f"{rule.name}{mark}: {rule_aloud(rule, plan.place)}"
        seen = [finding for key, finding in known.items() if key[1] == rule.name]
        for finding in sorted(seen, key=lambda each: each.device):
            yield f"    {finding.device}: {now(finding, rule)}"
        kind = kind_of(rule.measure)
        if not seen and kind is not None and kind.by_days:
            yield "    it wants whole days from the database"
    for name in plan.off:
        yield f"{name}: switched off"


def now(finding: Finding, rule: Rule) -> str:
    """What a rule sees of a device."""
    if finding.value is None:
        return f"not known: {finding.why or 'it says nothing of it'}"
    return shown(finding.value, rule.unit)
