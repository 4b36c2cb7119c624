"""Devices in words: a card for each, and everything that one of them says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from statistics import median
from typing import Literal

from sunmesh import clock
from sunmesh.messages import Alarm, Info, Value
from sunmesh.vocabulary import SECTIONS, VOCABULARY, Kind

from .. import words
from ..battery.pack import millivolts
from ..house import Device
from ..live import State
from ..text import N_, _, ngettext, number, percent
from ..things import BROKEN, look, moment, seen
from ..wellbeing import DAY_MS, Wellbeing

CHIEF = (
    "pv_power_w",
    "grid_power_w",
    "temperature_c",
    "battery_soc_percent",
    "relay_position",
    "ac_output_power_w",
)
"""What is said of a device in one line: the first of these that it has."""
CHIEFS = {
    "axpert": ("ac_output_power_w", "pv_total_power_w", "device_mode"),
    "bms": ("battery_soc_percent", "battery_power_w", "cell_voltage_spread_v"),
    "group": ("battery_soc_percent", "battery_power_w"),
    "meter": ("grid_power_w", "grid_voltage_v"),
    "pl80": ("battery_voltage_v", "charge_power_w", "regulator_state"),
    "pvs6": ("pv_power_w", "load_power_w"),
    "relay": ("relay_position",),
    "temperature": ("temperature_c",),
}
"""The same by family, two or three of them."""
CLOCK = "device_clock_offset_s"
CLOCK_LATE_S = 60.0
MANY_ERRORS = 0.02
SPARK = frozenset({Kind.GAUGE})

STATES = {
    "online": N_("answers"),
    "sleeping": N_("sleeps"),
    "offline": N_("does not answer"),
    "identity_mismatch": N_("is another device than configured"),
    "refusing": N_("refuses to answer"),
}

GROUPS: Sequence[tuple[str, tuple[str, ...]]] = (
    (N_("Sun"), ("pv", "mppt", "scc", "irradiance", "solar")),
    (N_("Cells"), ("cell", "balanc")),
    (
        N_("Battery"),
        (
            *("battery", "charge", "discharge", "remaining", "cycles", "float", "since_boost"),
            *("since_equalisation", "regulator"),
        ),
    ),
    (N_("House"), ("load", "ac_output", "output")),
    (N_("Grid"), ("grid", "relay", "lease", "switch", "transfer")),
)
"""Values by what they are about, by how their names begin; the rest is of the device itself."""
OWN = N_("The device itself")

PLACES = {row.name: place for place, row in enumerate(r for s in SECTIONS.values() for r in s)}


@dataclass(frozen=True, slots=True)
class Fact:
    """A thing about a device, with how it is judged."""

    label: str
    text: str
    level: Literal["", "good", "info", "warning"] = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something wrong with a device, and what to do."""

    level: Literal["info", "warning", "critical"]
    title: str
    text: str
    advice: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A device behind another one.

    Attributes:
        share: today's energy by the median of its siblings, 0 to 1 and more; None = not known.
        band: 0 (weak) to 4 (as the others), for the tint; -1 = not known.
    """

    name: str
    title: str
    look: str
    seen: str
    now: str
    today: str
    share_text: str
    band: int
    is_weak: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One device on the page of all."""

    name: str
    title: str
    kind: str
    look: str
    state: str
    seen: str
    chiefs: Sequence[Fact]
    identity: Sequence[Fact]
    facts: Sequence[Fact]
    notices: Sequence[Notice]
    members: Sequence[Member] = ()
    behind: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a device.

    Attributes:
        key: its name in the vocabulary.
        quality: in words, empty where it is good.
        series: for the curve beside it; empty = none.
        is_counter: it counts, so the curve says how much was added.
    """

    key: str
    label: str
    text: str
    meaning: str
    quality: str = ""
    is_long: bool = False
    series: str = ""
    is_counter: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Values about one thing."""

    title: str
    rows: Sequence[Row] = field(default_factory=list)


KINDS = {
    "axpert": N_("Inverter"),
    "bms": N_("Battery management"),
    "group": N_("Several as one"),
    "meter": N_("Meter"),
    "pl80": N_("Charge controller"),
    "pvs6": N_("Gateway of microinverters"),
    "relay": N_("Grid relay"),
    "temperature": N_("Thermometer"),
}


def kind(device: Device) -> str:
    """What sort of thing a device is."""
    if device.behind:
        return _("Microinverter") if device.family == "pvs6" else _("Behind another device")
    return _(KINDS[device.family]) if device.family in KINDS else device.family


def notices(device: Device, state: State, now_ms: int, zone: tzinfo) -> list[Notice]:
    """Its open alarms with their advice, and warnings that are no alarm."""
    found: list[Notice] = []
    told: set[str] = set()
    order = {"critical": 0, "warning": 1, "info": 2}
    mine: list[Alarm] = [
        alarm
        for (name, _code), alarm in state.alarms.items()
        if name == device.name and alarm.state == "raised"
    ]
    for alarm in sorted(mine, key=lambda each: (order[each.severity], each.ts)):
        since = clock.epoch_ms(clock.parse(alarm.since or alarm.ts))
        found.append(
            Notice(
                alarm.severity, alarm.title, alarm.text, alarm.advice, moment(since, now_ms, zone)
            )
        )
        codes = alarm.data.get("codes")
        told |= {str(code) for code in codes} if isinstance(codes, list) else set()
    for name in ("faults", "warnings"):
        listed = device.values.get(name)
        if not isinstance(listed, list) or look(device, now_ms) in ("lost", "asleep"):
            continue
        for code in listed:
            if isinstance(code, str) and code not in told:
                told.add(code)
                quiet = code in words.QUIET_WARNINGS
                text = words.code(code)
                found.append(
                    Notice(
                        "warning" if name == "faults" else "info",
                        f"{text[:1].upper()}{text[1:]}",
                        _("The device says so; nothing to do.")
                        if quiet
                        else _("The device reports %(code)s; no alarm was made of it.", code=code),
                    )
                )
    if device.state in BROKEN:
        since_text = moment(device.since, now_ms, zone) if device.since else ""
        found.insert(0, _broken(device, since_text))
    return found


def _broken(device: Device, since: str) -> Notice:
    reason = f"{device.reason[:1].upper()}{device.reason[1:]}." if device.reason else ""
    if device.state == "identity_mismatch":
        return Notice(
            "critical",
            _("Another device answers"),
            reason,
            _("Its values are not used. Swap the cables back, or correct the serial number."),
            since,
        )
    if device.state == "refusing":
        return Notice(
            "warning",
            _("It refuses to answer"),
            reason,
            _("It is there, but says no to everything: check the dialect or address."),
            since,
        )
    return Notice(
        "critical",
        _("It does not answer"),
        reason,
        _("Check its cable and its power; %(service)s keeps trying.", service=device.service),
        since,
    )


def health_facts(device: Device, wellbeing: Wellbeing | None, state: State) -> list[Fact]:
    """How it is read: errors, pace, clock, writes."""
    found: list[Fact] = []
    if wellbeing is not None and wellbeing.error_share is not None:
        span, share = wellbeing.span_ms, wellbeing.error_share
        said = {"lost": number(wellbeing.lost), "polls": number(wellbeing.polls)}
        note = (
            _("%(lost)s of %(polls)s since its collector started", **said)
            if span is None
            else _("%(lost)s of %(polls)s in the last 24 hours", **said)
            if span >= 0.97 * DAY_MS
            else _(
                "%(lost)s of %(polls)s in the last %(span)s", **said, span=words.age(span / 1000)
            )
        )
        digits = 0 if share == 0 or share >= 0.1 else 2 if share < 0.01 else 1
        found.append(
            Fact(
                _("Lost rounds"),
                percent(share, digits),
                "warning" if share > MANY_ERRORS else "good",
                note,
            )
        )
        if wellbeing.per_minute is not None:
            found.append(
                Fact(
                    _("Asked"),
                    _("%(polls)s times a minute", polls=number(wellbeing.per_minute, 1)),
                )
            )
    drift = device.values.get(CLOCK)
    if isinstance(drift, int | float) and not isinstance(drift, bool):
        found.append(
            Fact(
                _("Its clock"),
                _("right to the second")
                if abs(drift) < 1
                else _("%(time)s ahead", time=words.age(drift))
                if drift > 0
                else _("%(time)s behind", time=words.age(-drift)),
                "warning" if abs(drift) >= CLOCK_LATE_S else "good",
            )
        )
    memory = state.devices.get(device.name)
    writes = memory.settings.writes if memory and memory.settings else {}
    if writes:
        today = sum(each.today for each in writes.values())
        lifetime = sum(each.lifetime for each in writes.values())
        spent = [name for name, each in writes.items() if each.budget and each.today >= each.budget]
        found.append(
            Fact(
                _("Settings written"),
                _("%(today)s today, %(lifetime)s ever", today=today, lifetime=number(lifetime)),
                "warning" if spent else "",
                _("no more today: %(names)s", names=", ".join(map(words.label, spent)))
                if spent
                else _("a device's memory wears with each"),
            )
        )
    return found


def identity(info: Info | None, device: Device) -> list[Fact]:
    """Who it is."""
    if info is None:
        return [Fact(_("Family"), device.family)] if device.family else []
    return [
        Fact(label, text)
        for label, text in (
            (_("Maker"), info.manufacturer),
            (_("Model"), info.model),
            (_("Serial number"), info.serial),
            (_("Firmware"), info.firmware),
            (_("Protocol"), info.protocol),
            (_("Port"), info.port),
            (_("Read through"), words.title(info.through) if info.through else None),
        )
        if text
    ]


def chiefs(device: Device, now_ms: int) -> list[Fact]:
    """The few values that say what it does."""
    names = [name for name in CHIEFS.get(device.family, ()) if name in device.values]
    if device.behind or not names:
        names = [name for name in CHIEF if name in device.values][:2]
    if not names:
        numbers = (n for n, v in device.values.items() if isinstance(v, int | float))
        names = [name for name in (next(numbers, None),) if name]
    is_old = look(device, now_ms) in ("lost", "asleep")
    return [
        Fact(words.label(name), words.NONE if is_old else _chief(name, device.values[name]))
        for name in names
    ]


def _chief(name: str, value: Value) -> str:
    """A value that stands by itself: its sign in words."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return words.value(name, value)
    if name == "cell_voltage_spread_v":
        return millivolts(value * 1000)
    if name == "battery_power_w" and abs(value) >= 10:
        said = words.value(name, abs(value))
        if value < 0:
            return _("%(power)s, charging", power=said)
        return _("%(power)s, discharging", power=said)
    if name == "grid_power_w" and value <= -5:
        return _("%(power)s, given away", power=words.value(name, -value))
    return words.value(name, value)


def card(
    device: Device,
    state: State,
    wellbeing: Wellbeing | None,
    members: Sequence[Member],
    now_ms: int,
    zone: tzinfo,
) -> Card:
    """One device in words."""
    memory = state.devices.get(device.name)
    return Card(
        name=device.name,
        title=words.title(device.name),
        kind=kind(device),
        look=look(device, now_ms),
        state=_(STATES[device.state]) if device.state in STATES else device.state,
        seen=seen(device, now_ms, zone),
        chiefs=chiefs(device, now_ms),
        identity=identity(memory.info if memory else None, device),
        facts=health_facts(device, wellbeing, state),
        notices=notices(device, state, now_ms, zone),
        members=members,
        behind=device.behind,
        service=device.service,
    )


# -- members ---------------------------------------------------------------------------------------


def members(
    devices: Sequence[Device],
    today_kwh: Mapping[str, float],
    now_ms: int,
    zone: tzinfo,
) -> list[Member]:
    """Devices behind one, each compared with its siblings over the day, not the instant."""
    known = [today_kwh[d.name] for d in devices if today_kwh.get(d.name) is not None]
    middle = median(known) if len(known) > 2 else 0.0
    found = []
    for device in devices:
        kwh = today_kwh.get(device.name)
        share = kwh / middle if kwh is not None and middle >= 0.02 else None
        state = look(device, now_ms)
        name = next((each for each in CHIEF if each in device.values), "")
        found.append(
            Member(
                device.name,
                words.title(device.name),
                state,
                seen(device, now_ms, zone),
                words.NONE
                if state in ("lost", "asleep") or not name
                else words.value(name, device.values[name]),
                words.energy(kwh),
                percent(share) if share is not None else "",
                -1 if share is None else band(share),
                share is not None and share < 0.85,
            )
        )
    return found


def band(share: float) -> int:
    """The tint of a share of the siblings' median: 0 weak, 4 as the others and more."""
    return sum(share >= edge for edge in (0.5, 0.75, 0.9, 0.97))


def weak_text(found: Sequence[Member]) -> str:
    """What the comparison says, in one sentence."""
    if not any(member.band >= 0 for member in found):
        return _("They are compared once each has given a little today.")
    weak = [member for member in found if member.is_weak]
    if not weak:
        return _("All have given alike today.")
    names = ", ".join(f"{member.title} ({member.share_text})" for member in weak[:4])
    return ngettext(
        "%(names)s has given less than the others today: shade, dirt or a fault.",
        "%(names)s have given less than the others today: shade, dirt or a fault.",
        len(weak),
        names=names,
    )


# -- all values ------------------------------------------------------------------------------------

QUALITIES = {
    "suspect": N_("implausible"),
    "stale": N_("kept from before the outage"),
}


def groups(device: Device, now_ms: int) -> list[Group]:
    """Every value by what it is about, in the order of the vocabulary."""
    is_old = look(device, now_ms) in ("lost", "asleep")
    found: dict[str, list[Row]] = {}
    for name in sorted(device.values, key=lambda each: PLACES.get(each, len(PLACES))):
        value = device.values[name]
        quality = device.quality.get(name, "")
        found.setdefault(_group(name), []).append(row(name, value, quality, is_old=is_old))
    order = [title for title, _prefixes in GROUPS] + [OWN]
    return [Group(_(title), found[title]) for title in order if title in found]


def row(name: str, value: Value, quality: str = "", *, is_old: bool = False) -> Row:
    """One value in words."""
    quantity = VOCABULARY.get(name)
    text = words.value(name, value)
    told = _(QUALITIES[quality]) if quality in QUALITIES else quality
    if not told and is_old and value is not None:
        told = _("old")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_counter = quantity is not None and quantity.kind is Kind.COUNTER
    is_gauge = is_number and (quantity is None or quantity.kind in SPARK)
    return Row(
        name,
        words.label(name),
        text,
        words.meaning(name),
        told,
        len(text) > 24,
        name if is_gauge or (is_counter and is_number) else "",
        is_counter,
    )


def _group(name: str) -> str:
    for title, prefixes in GROUPS:
        if name.startswith(prefixes):
            return title
    return OWN
