"""What *Control* shows: settings with their ranges, the relay with its proof, rules, orders.

Pure in the middle: the view is made of what the mesh said, and templates do no arithmetic.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sunmesh import clock
from sunmesh.errors import RefusedError
from sunmesh.messages import Info, Range, Scalar, Settings, Value, Writes
from sunmesh.vocabulary import VOCABULARY, unit_of

from . import text, told, words
from .board import PLACES, Banner, Board
from .house import GRID_PRESENT_V, Device, House, combine
from .live import Memory, State
from .orders import BATCH, PENDING, Order, Orders, Step
from .queries import HistoryError, Switching
from .streams import Stream, event_bytes
from .text import N_, _, ngettext
from .text import typed as read_number

log = logging.getLogger(__name__)

RELAY_FAMILY = "relay"
CONTROLLER = "controller"
"""The service that decides; its settings are its modes."""
DRAFT = "draft."
"""What is asked of the controller about a draft stands on the page *Rules*."""
NOTIFIER = "notifier"
"""What is asked of it is a test, which stands on the page *Alarms*."""
SHOWN = 10
PEOPLE = ("web:", "api:")
"""Orders of people, by who gave them; what rules ask for is told by alarms."""
FAILURES = 50
TOLD_MS = 30 * 60_000
"""So long a failed order stands on *Now*."""
MODES = ("off", "shadow", "on")
RULE = "rule."
TICK_S = 1.0
PAUSE_S = 0.1
SWITCHINGS_S = 15.0
LONGEST_MANUAL_MIN = 1440
MANUAL_LEASE = "manual_lease_s"
"""Under this name a relay tells for how long it may be set by hand."""
MANUAL_MIN = (15, 60, 180)

MODE_NAMES = {"off": N_("off"), "shadow": N_("shadow"), "on": N_("on")}
MODE_TEXTS = {
    "off": N_("off: decides nothing"),
    "shadow": N_("shadow: decides and says so, but does not act"),
    "on": N_("on: acts"),
}

THEMES = (
    ("sources", N_("Where power comes from")),
    ("voltages", N_("Battery voltages")),
    ("currents", N_("Currents")),
    ("battery", N_("Battery")),
    ("output", N_("Output")),
    ("switches", N_("Sounds, display, habits")),
    ("other", N_("Other")),
)

STATES = {
    "offline": N_("it is offline"),
    "identity_mismatch": N_("another device answers in its place"),
    "refusing": N_("it refuses to answer"),
    "sleeping": N_("it sleeps"),
}

STAGE_TEXTS = {
    "queued": N_("asked"),
    "accepted": N_("accepted"),
    "sent": N_("sent to the device"),
    "acknowledged": N_("acknowledged"),
    "applied": N_("applied"),
    "refused": N_("refused"),
    "expired": N_("too late, not done"),
    "failed": N_("failed"),
    "not_applied": N_("not applied"),
    "reverted": N_("reverted"),
    "silent": N_("no answer"),
}


def theme_of(name: str) -> str:
    """Under which heading a setting stands."""
    if name.endswith("_priority") or name in ("input_range", "recharge_voltage_v"):
        return "sources"
    if name == "redischarge_voltage_v":
        return "sources"
    if name == "battery_type" or "equali" in name:
        return "battery"
    if name.startswith(("output_", "ac_output_")):
        return "output"
    if name.endswith("_current_a"):
        return "currents"
    if name.endswith("_voltage_v"):
        return "voltages"
    if name.endswith(("_enabled", "_on")):
        return "switches"
    return "other"


# -- values and forms ------------------------------------------------------------------------------


def digits_of(limits: Range | None) -> int | None:
    """How many digits a setting's step asks for; None without a step."""
    if limits is None or not limits.step:
        return None
    text = f"{limits.step:.6f}".rstrip("0")
    return len(text.partition(".")[2])


def form_text(value: Value, limits: Range | None = None) -> str:
    """A value as a form carries it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        digits = digits_of(limits)
        return f"{value:.{digits}f}" if digits is not None else f"{value:g}"
    return str(value)


def parse_value(name: str, text: str, limits: Range | None, current: Value) -> Value:
    """What somebody typed, as the device's setting.

    Raises:
        RefusedError: it is no value of this setting; the text says what is.
    """
    label = words.label(name)
    text = text.strip()
    typed = text[:40]
    if limits is not None and limits.choices:
        for choice in limits.choices:
            if form_text(choice, limits) == text or form_text(choice) == text:
                return choice
        known = ", ".join(form_text(choice) for choice in limits.choices)
        raise RefusedError(
            _(
                "%(setting)s: “%(text)s” is none of %(known)s",
                setting=label,
                text=typed,
                known=known,
            )
        )
    is_number = limits is not None and (limits.low is not None or limits.high is not None)
    if isinstance(current, bool) and not is_number:
        if text not in ("true", "false"):
            raise RefusedError(
                _("%(setting)s: “%(text)s” is neither on nor off", setting=label, text=typed)
            )
        return text == "true"
    if not is_number and not isinstance(current, int | float):
        if not text or len(text) > 64 or not text.isprintable():
            raise RefusedError(_("%(setting)s: 1 to 64 printable characters", setting=label))
        return text
    number = read_number(text)
    if number is None:
        raise RefusedError(_("%(setting)s: “%(text)s” is no number", setting=label, text=typed))
    if limits is not None:
        unit = f" {limits.unit or unit_of(name)}".rstrip()
        low, high = limits.low, limits.high
        if (low is not None and number < low - 1e-9) or (high is not None and number > high + 1e-9):
            raise RefusedError(
                _(
                    "%(setting)s: %(text)s is outside of what the device takes, %(range)s",
                    setting=label,
                    text=typed,
                    range=allowed(name, limits),
                )
            )
        if limits.step:
            steps = number / limits.step
            if abs(steps - round(steps)) > 1e-6:
                raise RefusedError(
                    _(
                        "%(setting)s: goes in steps of %(step)s, not %(text)s",
                        setting=label,
                        step=f"{_plain_number(limits.step)}{unit}",
                        text=typed,
                    )
                )
            number = round(number, digits_of(limits))
    if float(number).is_integer() and (isinstance(current, int) or digits_of(limits) == 0):
        return int(number)
    return number


def allowed(name: str, limits: Range | None) -> str:
    """What a setting takes, in words; empty where the device does not say."""
    if limits is None:
        return ""
    if limits.choices:
        return ", ".join(words.value(name, choice) for choice in limits.choices)
    unit = limits.unit or unit_of(name)
    tail = f"{words.HARD}{unit}" if unit else ""
    digits = digits_of(limits)
    low, high = (
        "" if edge is None else _plain_number(edge, digits) for edge in (limits.low, limits.high)
    )
    step = _plain_number(limits.step) if limits.step else ""
    if low and high:
        if step:
            return _(
                "%(low)s to %(high)s, in steps of %(step)s", low=low, high=high + tail, step=step
            )
        return _("%(low)s to %(high)s", low=low, high=high + tail)
    if low:
        if step:
            return _("from %(low)s, in steps of %(step)s", low=low + tail, step=step)
        return _("from %(low)s", low=low + tail)
    if high:
        if step:
            return _("up to %(high)s, in steps of %(step)s", high=high + tail, step=step)
        return _("up to %(high)s", high=high + tail)
    return ""


def _plain_number(value: float, digits: int | None = None) -> str:
    """A number as people here write it, with as many digits as it has."""
    if digits is None:
        digits = len(f"{value:.6f}".rstrip("0").partition(".")[2])
    return text.number(value, digits)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the values that a setting takes."""

    form: str
    text: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. ``choices`` is empty for a number or a word."""

    name: str
    label: str
    text: str
    form: str
    allowed: str = ""
    choices: Sequence[Choice] = ()
    is_number: bool = False
    low: str = ""
    high: str = ""
    step: str = "any"
    unit: str = ""
    risk: str = "normal"
    writes: str = ""
    is_spent: bool = False
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Theme:
    """Settings under one heading."""

    key: str
    title: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class DevicePanel:
    """The settings of one device. ``why``: it takes none now; empty = it does."""

    name: str
    title: str
    subtitle: str
    read_ms: int
    read: str
    why: str
    themes: Sequence[Theme]
    danger: Sequence[Row]
    others: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference that somebody asks for."""

    row: Row
    value: Value
    was: Value
    text: str
    form: str


def writes_text(writes: Writes | None) -> str:
    """How much of its budget a setting has used."""
    if writes is None:
        return ""
    if writes.budget and writes.lifetime:
        return _(
            "%(today)s of %(budget)s writes today, %(ever)s ever",
            today=writes.today,
            budget=writes.budget,
            ever=writes.lifetime,
        )
    if writes.budget:
        return _("%(today)s of %(budget)s writes today", today=writes.today, budget=writes.budget)
    if writes.lifetime:
        return ngettext("%(num)d write ever", "%(num)d writes ever", writes.lifetime)
    return ""


def row_of(name: str, info: Info | None, settings: Settings) -> Row:
    """One setting in words."""
    value = settings.values.get(name)
    limits = info.ranges.get(name) if info else None
    writes = settings.writes.get(name)
    offered: list[Scalar] = list(limits.choices) if limits else []
    if not offered and isinstance(value, bool):
        offered = [True, False]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_number = is_number or (limits is not None and limits.low is not None)
    return Row(
        name=name,
        label=words.label(name),
        text=words.value(name, value),
        form=form_text(value, limits),
        allowed="" if limits is not None and limits.choices else allowed(name, limits),
        choices=[
            Choice(form_text(each, limits), words.value(name, each), each == value)
            for each in offered
        ],
        is_number=is_number,
        low=form_text(limits.low, limits) if limits else "",
        high=form_text(limits.high, limits) if limits else "",
        step=f"{limits.step:g}" if limits and limits.step else "any",
        unit=(limits.unit if limits else "") or unit_of(name),
        risk=limits.risk if limits else "normal",
        writes=writes_text(writes),
        is_spent=writes is not None and 0 < writes.budget <= writes.today,
        meaning=words.meaning(name),
    )


def changes(form: Mapping[str, str], info: Info, settings: Settings) -> list[Change]:
    """The differences between a form and what the device has; fields are called ``set.<name>``.

    Raises:
        RefusedError: an unknown setting, a value that the device does not take, a setting that
            somebody else has changed meanwhile.
    """
    found = []
    for key, typed in form.items():
        if not key.startswith("set."):
            continue
        name = key.removeprefix("set.")
        if name not in info.settable:
            raise RefusedError(
                _("“%(setting)s” is no setting that this device takes", setting=name[:64])
            )
        limits, current = info.ranges.get(name), settings.values.get(name)
        was = form.get(f"was.{name}")
        if typed.strip() in (was, form_text(current, limits)):
            continue  # not touched, or already so
        value = parse_value(name, typed, limits, current)
        if was is not None and was != form_text(current, limits):
            raise RefusedError(
                _(
                    "%(setting)s: it was %(was)s on your page, and is %(value)s now; look again",
                    setting=words.label(name),
                    was=was,
                    value=words.value(name, current),
                )
            )
        if value == current:
            continue
        found.append(
            Change(
                row_of(name, info, settings),
                value,
                current,
                words.value(name, value),
                form_text(value, limits),
            )
        )
    return found


# -- the relay -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """What is measured of the grid, beside what the relay says."""

    level: Literal["good", "info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class SwitchRow:
    """One switching, in words."""

    when: str
    position: str
    reason: str


@dataclass(frozen=True, slots=True)
class RelayPanel:
    """The transfer relay. ``is_lost``: what it said last is old."""

    name: str
    title: str
    is_lost: bool
    status: str
    position: str
    position_text: str
    reason: str
    proof: Proof
    feedback: str
    lease_until: int
    manual_until: int
    manual_text: str
    longest_min: int
    count: str
    seen_ms: int
    switchings: Sequence[SwitchRow]
    switchings_note: str
    alarms: Sequence[str]


def proof(position: str, house: House) -> Proof:
    """Whether the measured voltage of the grid fits the relay's position."""
    volts = house.grid_v
    if volts is None:
        return Proof("info", _("Nothing measures the grid's voltage now, so this is not proved."))
    measured = words.value("grid_voltage_v", volts)
    if position == "grid_connected":
        if volts >= GRID_PRESENT_V:
            return Proof(
                "good", _("Proved: %(volts)s of grid voltage are measured.", volts=measured)
            )
        return Proof(
            "warning",
            _("Only %(volts)s are measured: the grid is away, or a contact is.", volts=measured),
        )
    if position == "grid_open":
        if volts < GRID_PRESENT_V:
            return Proof(
                "good", _("Proved: %(volts)s are measured behind the relay.", volts=measured)
            )
        return Proof(
            "warning",
            _(
                "%(volts)s of grid voltage are measured although the relay is open: a contact "
                "sticks, or the meter sits before the relay.",
                volts=measured,
            ),
        )
    return Proof("info", _("%(volts)s of grid voltage are measured.", volts=measured))


def _epoch(value: Value) -> int:
    """A moment as telemetry may carry it: ISO text, or seconds since 1970 [ms]; 0 = none."""
    if isinstance(value, str):
        try:
            return clock.epoch_ms(clock.parse(value))
        except ValueError:
            return 0
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return round(value * 1000)
    return 0


# -- rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule with its last decision; ``says``: what it is for."""

    name: str
    title: str
    says: str
    mode: str
    sentence: str
    saw: str
    did: str
    ms: int


@dataclass(frozen=True, slots=True)
class ControllerPanel:
    """The controller. ``why``: nothing can be asked of it now; empty = it can."""

    mode: str
    mode_text: str
    why: str
    rules: Sequence[RuleRow]


def wish_text(wish: Any) -> str:  # noqa: ANN401 - what a decision holds is the controller's
    """What a rule wanted or did, in words; empty for nothing."""
    if wish is None or wish is False or wish == "":
        return ""
    if isinstance(wish, str):
        return words.code(wish) if wish.replace("_", "").isalnum() and wish.islower() else wish
    if isinstance(wish, Mapping):
        if "name" in wish and "value" in wish:
            name = str(wish["name"])
            return f"{words.label(name)}: {words.value(name, _plain(wish['value']))}"
        parts = [
            f"{words.label(str(key).rpartition('.')[2])}: "
            f"{words.value(str(key).rpartition('.')[2], _plain(value))}"
            for key, value in wish.items()
        ]
        return ", ".join(parts)
    if isinstance(wish, Sequence):
        return "; ".join(text for each in wish if (text := wish_text(each)))
    return str(wish)


def _done(deed: Any) -> str:  # noqa: ANN401 - what a decision holds is the controller's
    return "" if deed == "nothing" else wish_text(deed)


def _plain(value: Any) -> Value:  # noqa: ANN401 - JSON
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [each if isinstance(each, bool | int | float | str) else None for each in value]
    return str(value)


# -- orders ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepRow:
    """One stage, in words."""

    stage: str
    text: str
    when: str


@dataclass(frozen=True, slots=True)
class PartRow:
    """One setting of an order: from, to, and how far it is."""

    label: str
    was: str
    wants: str
    stage: str
    text: str
    steps: Sequence[StepRow]


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order, in words. ``tone``: good, bad or pending; ``why``: of a rule, what it is for."""

    id: str
    title: str
    who: str
    why: str
    ms: int
    when: str
    stage: str
    tone: Literal["good", "bad", "pending"]
    text: str
    parts: Sequence[PartRow]


def tone_of(stage: str) -> Literal["good", "bad", "pending"]:
    """Whether a stage is the good end, a bad one, or none."""
    if stage == "applied":
        return "good"
    return "pending" if stage in PENDING else "bad"


def step_text(name: str, step: Step, wants: Value) -> str:
    """A stage in words: what the device has is named where it was read back."""
    said = _(STAGE_TEXTS[step.stage]) if step.stage in STAGE_TEXTS else step.stage
    if step.stage == "applied" and step.value is not None and name in VOCABULARY:
        said = _("read back %(value)s: applied", value=words.value(name, step.value))
    elif step.stage == "not_applied" and step.value not in (None, wants):
        said = _("not applied: the device kept %(value)s", value=words.value(name, step.value))
    elif step.stage == "reverted" and step.value is not None:
        said = _("reverted: the device is back at %(value)s", value=words.value(name, step.value))
    detail = step.detail.removeprefix("read back; ")
    return f"{said} ({detail})" if detail else said


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the page."""

    now_ms: int
    broker: bool
    devices: Sequence[DevicePanel]
    relay: RelayPanel | None
    controller: ControllerPanel | None
    orders: Sequence[OrderRow]
    mark: str = ""


class Controls:
    """Puts together what *Control* shows, and tells open pages when it changed.

    Args:
        board: knows the house and has the streams.
        orders: what was asked.
    """

    def __init__(self, board: Board, orders: Orders) -> None:
        """Reads nothing yet."""
        self.board = board
        self.live = board.live
        self.orders = orders
        self.zone = board.zone
        self._switched: tuple[float, str, list[Switching], str] = (float("-inf"), "", [], "")
        self._mark = ""
        self._lock = threading.Lock()
        board.failures = self.failures

    # -- devices -----------------------------------------------------------------------------------

    def known(self, name: str) -> tuple[Info, Settings] | None:
        """What is known of a device that takes settings; None = no such device."""
        memory = self.live.state().devices.get(name)
        if memory is None or memory.settings is None or memory.info is None:
            return None
        return memory.info, memory.settings

    def longest_manual_min(self, name: str) -> int:
        """For how many minutes a relay may be set by hand."""
        memory = self.live.state().devices.get(name)
        limits = memory.info.ranges.get(MANUAL_LEASE) if memory and memory.info else None
        if limits is None or limits.high is None:
            return LONGEST_MANUAL_MIN
        return max(1, int(limits.high // 60))

    def why_not(self, name: str) -> str:
        """Why a device cannot be asked now; empty = it can."""
        state = self.live.state()
        if not self.live.connected:
            return _("the broker does not answer")
        if name == CONTROLLER:
            service = state.services.get(CONTROLLER)
            if CONTROLLER not in state.devices:
                return _("there is no controller")
            stopped = service is not None and service.state != "online"
            return _("the controller is not running") if stopped else ""
        found = next((each for each in self.live.devices(state) if each.name == name), None)
        if found is None:
            return _("there is no such device")
        return self._why_not(found, state.devices.get(name) or Memory())

    def _why_not(self, device: Device, memory: Memory) -> str:
        now = clock.epoch_ms(self.live.now())
        if device.state in STATES:
            return f"{_(STATES[device.state])}: {device.reason}".rstrip(": ")
        if device.freshness(now) == "lost":
            return _("it has not been heard of lately")
        if device.family != RELAY_FAMILY and (memory.info is None or not memory.info.settable):
            return _(
                "its service takes no commands: control is switched off, or this family has none"
            )
        return ""

    def _panel(self, device: Device, memory: Memory, now_ms: int) -> DevicePanel | None:
        settings, info = memory.settings, memory.info
        if settings is None or info is None:
            return None
        settable = info.settable
        if not settable:
            return None
        order = sorted(settable, key=_place)
        rows = [row_of(name, info, settings) for name in order]
        read = clock.parse(settings.ts)
        now = words.local(now_ms, self.zone)
        return DevicePanel(
            name=device.name,
            title=words.title(device.name),
            subtitle=" ".join(text for text in (info.manufacturer, info.model) if text),
            read_ms=clock.epoch_ms(read),
            read=words.clock(read.astimezone(self.zone), now),
            why=self._why_not(device, memory),
            themes=[
                Theme(key, _(title), mine)
                for key, title in THEMES
                if (mine := [r for r in rows if theme_of(r.name) == key and r.risk != "danger"])
            ],
            danger=[row for row in rows if row.risk == "danger"],
            others=[
                row_of(name, info, settings)
                for name in sorted(settings.values, key=_place)
                if name not in settable
            ],
        )

    # -- relay and rules ---------------------------------------------------------------------------

    def _relay(self, devices: Sequence[Device], state: State, now_ms: int) -> RelayPanel | None:
        device = next((each for each in devices if each.family == RELAY_FAMILY), None)
        if device is None:
            return None
        house = combine(devices, now_ms, self.board.config.left_out)
        values, seen = device.values, device.ms or 0
        position = str(values.get("relay_position") or "")
        lease = values.get("lease_remaining_s")
        manual_until = _epoch(values.get("relay_manual_until"))
        if manual_until <= now_ms:
            manual_until = 0
        is_leased = isinstance(lease, int | float) and lease > 0 and not manual_until
        now = words.local(now_ms, self.zone)
        is_lost = device.freshness(now_ms) == "lost"
        switched, note = self._switchings(device.name)
        return RelayPanel(
            name=device.name,
            title=words.title(device.name),
            is_lost=is_lost,
            status=self._why_not(device, state.devices.get(device.name) or Memory()),
            position=position,
            position_text=words.value("relay_position", position or None),
            reason=words.value("relay_reason", values.get("relay_reason")),
            proof=(
                Proof(
                    "warning",
                    _("The relay service does not answer; the wiring keeps the grid on."),
                )
                if is_lost
                else proof(position, house)
            ),
            feedback=(
                words.value("relay_feedback", values["relay_feedback"])
                if values.get("relay_feedback")
                else ""
            ),
            lease_until=seen + round(float(lease) * 1000) if is_leased else 0,  # type: ignore[arg-type]
            manual_until=manual_until,
            manual_text=(
                words.clock(words.local(manual_until, self.zone), now) if manual_until else ""
            ),
            longest_min=self.longest_manual_min(device.name),
            count=words.value("switch_count", values.get("switch_count")),
            seen_ms=seen,
            switchings=[
                SwitchRow(
                    words.clock(words.local(each.ms, self.zone), now),
                    words.value("relay_position", each.position),
                    words.value("relay_reason", each.reason) if each.reason else "",
                )
                for each in switched
            ],
            switchings_note=note,
            alarms=[
                " ".join(words.sentence(part) for part in (own.title, own.text) if part)
                for (name, code), alarm in state.alarms.items()
                if name == device.name and alarm.state == "raised"
                for own in (told.tell(alarm, name, code),)
            ],
        )

    def _switchings(self, device: str) -> tuple[list[Switching], str]:
        """The last switchings; asked of the database now and then."""
        at, name, found, note = self._switched
        if name != device or time.monotonic() - at > SWITCHINGS_S:
            try:
                found, note = self.board.history.switchings(device), ""
            except HistoryError as err:
                note = str(err)
            self._switched = (time.monotonic(), device, found, note)
        return found, note

    def _controller(self, state: State) -> ControllerPanel | None:
        memory = state.devices.get(CONTROLLER)
        settings = memory.settings if memory else None
        if settings is None and not state.decisions:
            return None
        values = settings.values if settings else {}
        mode = str(values.get("mode") or "off")
        modes = {
            name.removeprefix(RULE): str(value)
            for name, value in values.items()
            if name.startswith(RULE)
        }
        rules = []
        for name in dict.fromkeys([*modes, *state.decisions]):
            decision = state.decisions.get(name)
            why = decision.why.strip() if decision else ""
            rules.append(
                RuleRow(
                    name=name,
                    title=words.title(name),
                    says=decision.says if decision else "",
                    mode=modes.get(name) or (decision.mode if decision else "") or "off",
                    sentence=words.sentence(why) or _("Has not decided anything yet."),
                    saw=wish_text(decision.saw) if decision else "",
                    did=_done(decision.did) if decision else "",
                    ms=clock.epoch_ms(clock.parse(decision.ts)) if decision else 0,
                )
            )
        service = state.services.get(CONTROLLER)
        stopped = service is not None and service.state != "online"
        why = _("the controller is not running") if stopped else ""
        mode_text = _(MODE_TEXTS[mode]) if mode in MODE_TEXTS else mode
        return ControllerPanel(mode, mode_text, why, rules)

    # -- orders ------------------------------------------------------------------------------------

    def order_row(self, order: Order) -> OrderRow:
        """One order, in words."""
        now_ms = clock.epoch_ms(self.live.now())
        now = words.local(now_ms, self.zone)
        stage = order.stage(now_ms)

        def at(ms: int) -> str:
            moment = words.local(ms, self.zone)
            is_today = moment.date() == now.date()
            return text.clock(moment, seconds=True) if is_today else words.clock(moment, now)

        parts = []
        for name, wants in order.wants.items():
            steps = order.steps.get(name) or order.whole
            last = steps[-1]
            ended = stage if last.stage in PENDING and stage not in PENDING else last.stage
            ended_step = last if ended == last.stage else Step(ended, last.ms)
            parts.append(
                PartRow(
                    label=_label(name),
                    was=words.value(name, order.was[name]) if name in order.was else "",
                    wants=_wanted(name, wants),
                    stage=ended,
                    text=step_text(name, ended_step, wants),
                    steps=[
                        StepRow(each.stage, step_text(name, each, wants), at(each.ms))
                        for each in steps
                    ],
                )
            )
        final = order.whole[-1] if order.whole else Step("queued", order.ms)
        said = step_text(order.name, final, order.wants.get(order.name))
        if order.name == BATCH and stage == "applied":
            said = _(STAGE_TEXTS[stage])
        elif stage == "silent":
            said = _("no answer: its service does not run, or takes no commands")
        title = ", ".join(
            f"{_label(name)} → {_wanted(name, wants)}" for name, wants in order.wants.items()
        )
        who, why = order.by.removeprefix("web:"), ""
        if order.by.startswith(f"{CONTROLLER}:"):
            rule = order.by.removeprefix(f"{CONTROLLER}:")
            who = _("rule %(rule)s", rule=words.title(rule))
            decision = self.live.state().decisions.get(rule)
            why = decision.says if decision else ""
        return OrderRow(
            id=order.id,
            title=f"{words.title(order.device)}: {title or _('Several settings')}",
            who=who,
            why=why,
            ms=order.ms,
            when=at(order.ms),
            stage=stage,
            tone=tone_of(stage),
            text=said,
            parts=parts,
        )

    def failures(self) -> list[Banner]:
        """What people asked for lately that was not done, for *Now*; the newest of each device."""
        now_ms = clock.epoch_ms(self.live.now())
        found: dict[str, Order] = {}
        for order in self.orders.last(FAILURES):
            if order.device != NOTIFIER and order.by.startswith(PEOPLE):
                found.setdefault(order.device, order)
        banners = []
        for order in found.values():
            if now_ms - order.ms > TOLD_MS or tone_of(order.stage(now_ms)) != "bad":
                continue
            row = self.order_row(order)
            link = ("control.order", {"number": order.id})
            banners.append(
                Banner(
                    "warning", row.title, words.sentence(row.text), link, N_("What became of it")
                )
            )
        return banners

    # -- the whole ---------------------------------------------------------------------------------

    def view(self) -> View:
        """Everything on the page, as of now."""
        state = self.live.state()
        now_ms = clock.epoch_ms(self.live.now())
        devices = self.live.devices(state)
        panels = [
            panel
            for device in devices
            if device.family != RELAY_FAMILY
            and (memory := state.devices.get(device.name)) is not None
            and (panel := self._panel(device, memory, now_ms)) is not None
        ]
        made = View(
            now_ms=now_ms,
            broker=self.live.connected,
            devices=panels,
            relay=self._relay(devices, state, now_ms),
            controller=self._controller(state),
            orders=[
                self.order_row(order)
                for order in self.orders.last(SHOWN + 5)
                if order.device != NOTIFIER and not order.name.startswith(DRAFT)
            ][:SHOWN],
        )
        return replace(made, mark=_mark(made))

    def open(self) -> Stream | None:
        """A stream that says when the page is to be fetched anew; None when there are too many."""
        with self._lock, text.use(text.DEFAULT):  # the mark is of no language
            self._mark = self.view().mark
            stream = self.board.streams.open("control")
            if stream is not None:
                stream.put(event_bytes("changed", self._mark.encode()))
        return stream

    def serve(self, stop: threading.Event) -> None:
        """Keep open pages up to date, and the audit, until ``stop``."""
        seen = 0
        while not stop.is_set():
            seen = self.live.wait(seen, TICK_S)
            try:
                self.orders.write_down()
                if self.board.streams.count("control"):
                    with self._lock:
                        mark = self.view().mark
                        if mark != self._mark:
                            self._mark = mark
                            self.board.streams.send(
                                event_bytes("changed", mark.encode()), "control"
                            )
            except Exception:
                log.exception("the controls failed")
            stop.wait(PAUSE_S)


def _place(name: str) -> tuple[int, str]:
    return PLACES.get(name, len(PLACES)), name


def _wanted(name: str, value: Value) -> str:
    if name != "manual":
        return words.value(name, value)
    return _("automatic") if value == "auto" else words.value("relay_position", value)


def _label(name: str) -> str:
    if name == "mode":
        return _("Rules")
    if name == "manual":
        return _("By hand")
    if name.startswith(RULE):
        return _("Rule %(rule)s", rule=words.named(name.removeprefix(RULE)))
    return words.label(name) if name != BATCH else _("Several settings")


def _mark(view: View) -> str:
    """Changes when an open page must be fetched anew; ages and countdowns are counted there."""
    parts: list[object] = [view.broker, view.controller, view.orders]
    for panel in view.devices:
        parts += [panel.name, panel.why, panel.read_ms, panel.themes, panel.danger]
    if view.relay is not None:
        relay = view.relay
        parts += [relay.position, relay.reason, relay.proof, relay.feedback, relay.is_lost]
        parts += [relay.manual_until, relay.lease_until // 4000, relay.switchings, relay.alarms]
        parts += [relay.status]
    return hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()
