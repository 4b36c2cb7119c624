"""What people read: templates by language and alarm code, filled with values. Pure but for loading.

A template holds ``{name}``; what is filled in is never looked at again, so that braces in a value
stay braces. Everything from a message is cleaned first: control characters are gone, and what turns
the writing round or hides in it. Nothing is marked up, so ``<b>`` is three characters.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

TITLE_LENGTH, TEXT_LENGTH, BODY_LENGTH = 100, 320, 900
FOLLOWERS = 8
LINES = 12

COMMA = frozenset({"it", "ro", "de", "cs", "es", "fr"})
"""Languages that write 3,3."""

UNITS = {
    "_percent": "%",
    "_kwh": "kWh",
    "_wh": "Wh",
    "_kw": "kW",
    "_w": "W",
    "_va": "VA",
    "_var": "var",
    "_mv": "mV",
    "_v": "V",
    "_ah": "Ah",
    "_a": "A",
    "_hz": "Hz",
    "_c": "°C",
    "_ms": "ms",
    "_s": "s",
    "_min": "min",
    "_h": "h",
    "_d": "d",
}
"""By the ending of a quantity's name."""


class _Missing(Exception):  # noqa: N818 - a sign between two functions here
    """A template wants a value that the message does not bring."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a push is about, cleaned.

    Attributes:
        device, code: of the alarm.
        severity: of the alarm.
        title, text, advice: of the message, in English.
        value: the number or word that it was raised for, with its unit; may be empty.
        data: more values.
        since: local time at which it was raised.
        flapping: it comes and goes.
    """

    device: str
    code: str
    severity: str
    title: str
    text: str
    advice: str
    value: object
    data: Mapping[str, Any]
    since: str
    flapping: bool = False


@cache
def load(language: str) -> Mapping[str, Any]:
    """The words of a language: ``words`` and ``codes``."""
    path = Path(__file__).parent / "texts" / f"{language}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def clean(text: str, length: int = TEXT_LENGTH) -> str:
    """``text`` as one line of visible characters, cut with an ellipsis."""
    line = " ".join(text[: 4 * length].split())
    line = "".join(c for c in line if c.isprintable()).strip()
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def number(value: object, language: str, quantity: str = "", nothing: str = "?") -> str:
    """A value as people write it, with the unit that its quantity's name ends in."""
    if value is None:
        return nothing
    if isinstance(value, bool):
        return str(load(language)["words"]["yes" if value else "no"])
    if isinstance(value, list):
        return ", ".join(number(item, language, quantity) for item in value[:20])
    if isinstance(value, int | float):
        text = f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"
        if isinstance(value, float) and 1 <= abs(value) < 1e6:
            text = f"{value:.2f}".rstrip("0").rstrip(".")
        if language in COMMA:
            text = text.replace(".", ",")
        unit = next((unit for end, unit in UNITS.items() if quantity.endswith(end)), "")
        return f"{text} {unit}".strip()
    text = clean(str(value), 120)
    written = re.fullmatch(r"(-?\d+)(\.\d+)?( [^\d\s]{1,5})?", text)
    if written is None:
        return text
    point, unit = written[2] or "", written[3] or ""
    if language in COMMA:
        point = point.replace(".", ",")
    return written[1] + point + (unit if unit != " days" else f" {load(language)['words']['days']}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """``template`` with its ``{names}`` replaced, once.

    Raises:
        _Missing: a value is not there.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise _Missing(found[1])
        return values[found[1]]

    return re.sub(r"\{([a-z][a-z0-9_]*)\}", value, template)


def first_line(subject: Subject, kind: str, language: str) -> str:
    """The title of a push."""
    words = load(language)["words"]
    mark = {"cleared": words["over"], "past": words["past"]}.get(kind, words[subject.severity])
    line = f"{mark}: {headline(subject, language)}"
    if kind in ("reminder", "escalation", "worse"):
        line = f"{words[kind]} – {line}"
    return clean(line, TITLE_LENGTH + 40)


def headline(subject: Subject, language: str) -> str:
    """What is wrong, and where, in a few words."""
    own = load(language)["codes"].get(subject.code, {})
    values = _values(subject, language)
    title = _choose(subject.title, _try(own.get("title"), values), language) or subject.code
    if subject.device in title or subject.device == "":
        return clean(title, TITLE_LENGTH)
    return clean(f"{subject.device}: {title}", TITLE_LENGTH)


def body(
    subject: Subject, kind: str, language: str, followers: Sequence[str], now: str, acked: str = ""
) -> str:
    """The rest of a push: value, since when, what to do, what else is affected."""
    words = load(language)["words"]
    own = load(language)["codes"].get(subject.code, {})
    values = _values(subject, language)
    lines = []
    is_over = kind in ("cleared", "past")
    # an English sentence is no help to who has words of his own for the code
    foreign = "" if own and language != "en" else subject.text
    detail = _choose(foreign, _try(own.get("text"), values), language)
    if detail and not is_over:
        lines.append(clean(detail))
    if values["value"] and kind != "cleared" and not _is_told(" ".join(lines), subject, values):
        lines.append(fill(words["value"], values))
    if is_over:
        lines.append(fill(words["from_to"], {"since": subject.since, "until": now}))
    else:
        lines.append(fill(words["since"], {"since": subject.since}))
        if subject.flapping:
            lines.append(words["flapping"])
    if kind == "escalation":
        lines.append(words["nobody"])
    advice = _choose(subject.advice, _try(own.get("advice"), values), language)
    if advice and not is_over:
        lines.append(clean(advice))
    if followers:
        named = ", ".join(followers[:FOLLOWERS])
        more = len(followers) - FOLLOWERS
        if more > 0:
            named += " " + fill(words["and_more"], {"count": str(more)})
        lines.append(fill(words["affected"], {"devices": clean(named)}))
    if acked:
        lines.append(fill(words["seen_by"], {"by": clean(acked, 40)}))
    return cut("\n".join(lines))


def digest(
    lines: Sequence[str], changes: int, alarms: int, still_open: int, language: str
) -> tuple[str, str]:
    """Title and body of one push for many changes."""
    words = load(language)["words"]
    numbers = {"count": str(changes), "open": str(still_open)}
    shown = list(lines[:LINES])
    if alarms > len(shown):
        shown.append(fill(words["and_more"], {"count": str(alarms - len(shown))}))
    return fill(words["digest"], numbers), cut("\n".join(shown))


def digest_line(subject: Subject, state: str, count: int, language: str) -> str:
    """One alarm in a digest."""
    words = load(language)["words"]
    mark = words["over"] if state == "cleared" else words[subject.severity]
    line = clean(f"{mark}: {headline(subject, language)}", TITLE_LENGTH)
    return f"{line} ({count}×)" if count > 1 else line


def sign_of_life(
    opened: int, worst: Iterable[str], backup: str | None, pushes: int, failed: int, language: str
) -> tuple[str, str]:
    """Title and body of the weekly message."""
    words = load(language)["words"]
    lines = list(worst)
    if backup is None:
        lines.append(words["backup_unknown"])
    else:
        lines.append(fill(words["backup"], {"when": backup}))
    lines.append(fill(words["pushes"], {"count": str(pushes), "failed": str(failed)}))
    return fill(words["alive"], {"open": str(opened)}), cut("\n".join(lines))


def link_title(language: str) -> str:
    """What the link is called."""
    return str(load(language)["words"]["portal"])


def cut(text: str, length: int = BODY_LENGTH) -> str:
    """``text`` no longer than a push may be."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def local_time(moment: datetime, now: datetime) -> str:
    """``14:05``, with the date where it is another day; both in the site's zone."""
    return moment.strftime("%H:%M" if moment.date() == now.date() else "%Y-%m-%d %H:%M")


def _choose(own: str, template: str | None, language: str) -> str:
    """In English the message's own words come first, which its owner may have written."""
    return own or template or "" if language == "en" else template or own


def _values(subject: Subject, language: str) -> dict[str, str]:
    """Everything that a template may name."""
    quantity = subject.data.get("quantity")
    name = quantity if isinstance(quantity, str) else _quantity_of(subject)
    found = {
        key: number(value, language, key)
        for key, value in subject.data.items()
        if re.fullmatch(r"[a-z][a-z0-9_]*", key)
    }
    return found | {
        "device": clean(subject.device, 32),
        "code": clean(subject.code, 64),
        "title": clean(subject.title, TITLE_LENGTH),
        "text": clean(subject.text),
        "since": subject.since,
        "value": found.get("value") or number(subject.value, language, name, nothing=""),
    }


def _is_told(text: str, subject: Subject, values: Mapping[str, str]) -> bool:
    """Whether the sentence has the value in it, or the numbers that it was made of."""
    counts = {values[key] for key in subject.data if values.get(key, "").isdigit()}
    return values["value"] in text or not counts.isdisjoint(re.findall(r"\b\d+\b", text))


def _quantity_of(subject: Subject) -> str:
    """The quantity whose value the alarm names, where the message says so only by the number."""
    same = [
        key
        for key, value in subject.data.items()
        if value == subject.value and any(key.endswith(end) for end in UNITS)
    ]
    return same[0] if len(same) == 1 else ""


def _try(template: str | None, values: Mapping[str, str]) -> str | None:
    """The filled template; None without one, or when the message lacks what it names."""
    if not template:
        return None
    try:
        return fill(template, values)
    except _Missing:
        return None
