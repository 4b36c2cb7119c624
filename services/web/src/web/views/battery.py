"""Page *Battery*: packs and cells now, what they did in the last days, what the battery costs."""

import threading
import time
from dataclasses import dataclass
from http import HTTPStatus

from flask import Blueprint, abort, current_app, render_template, request
from sunmesh import clock

from .. import words
from ..battery.history import Past, read
from ..battery.pack import Pack, beside, number_of, pack, packs, rated_ah
from ..battery.profile import BatteryProfile
from ..house import Device, combine
from ..live import State
from ..queries import HistoryError
from ..text import N_, _, day, language, number, percent
from ..text import clock as clock_text
from ..things import look, seen
from . import board, database, zone

blueprint = Blueprint("battery", __name__)

KEPT_S = 600.0
"""The past is read again after that long: it is made of hours."""
FORGOTTEN_S = 7200.0
"""Meanwhile others are shown the one before, if it is no older than that."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One state of charge of several."""

    source: str
    text: str
    note: str
    is_used: bool = False


class Memory:
    """The pasts that were read lately, by battery and language."""

    def __init__(self) -> None:
        """Empty."""
        self._kept: dict[tuple[str, str], tuple[float, Past]] = {}
        self._lock = threading.Lock()

    def get(self, device: Device, state: State, profile: BatteryProfile, *, books: bool) -> Past:
        """The past of a battery.

        Raises:
            HistoryError: the database cannot be read.
        """
        key = (device.name, language())
        kept = self._fresh(key, FORGOTTEN_S if self._lock.locked() else KEPT_S)
        if kept is not None:
            return kept
        with self._lock:
            kept = self._fresh(key)
            if kept is not None:
                return kept
            with database().reading() as connection:
                past = read(
                    connection,
                    device.name,
                    rated_ah(device, state, profile),
                    profile,
                    zone(),
                    board().live.now(),
                    with_book=books,
                )
            if len(self._kept) > 40:
                self._kept.clear()
            self._kept[key] = (time.monotonic(), past)
            return past

    def _fresh(self, key: tuple[str, str], age_s: float = KEPT_S) -> Past | None:
        kept = self._kept.get(key)
        return kept[1] if kept is not None and time.monotonic() - kept[0] < age_s else None


def profile() -> BatteryProfile:
    """``[battery]``."""
    return board().site.section("battery", BatteryProfile)


def memory() -> Memory:
    """The application's memory of pasts."""
    found: Memory = current_app.extensions.setdefault("battery_memory", Memory())
    return found


def figures(
    device: Device, everything: list[Device], past: Past | None, used: str, now_ms: int
) -> list[Figure]:
    """Every state of charge that is known of one battery, side by side."""
    found = []
    for each in (device, *beside(device, everything)):
        soc = number_of(each.values, "battery_soc_percent")
        if soc is None:
            continue
        is_fresh = look(each, now_ms) in ("fresh", "late")
        found.append(
            Figure(
                words.title(each.name),
                words.value("battery_soc_percent", soc if is_fresh else None),
                seen(each, now_ms, zone()),
                each.name == used,
            )
        )
    if past is None:
        return found
    counted = past.counted
    if counted.percent is None:
        found.append(Figure(_("Counted here"), words.NONE, _(counted.why) if counted.why else ""))
        return found
    since = words.local(counted.since or now_ms, zone())
    note = _(
        "from the current since it was full on %(date)s, %(time)s; %(share)s of that time is known",
        date=day(since.date(), "MMMd"),
        time=clock_text(since),
        share=percent(counted.covered),
    )
    own = number_of(device.values, "battery_soc_percent")
    if own is not None:
        drift = own - counted.percent
        note = f"{note}. " + (
            _("The battery's own figure agrees.")
            if abs(drift) < 3
            else _("The battery's own figure is %(points)s points higher.", points=number(drift, 0))
            if drift > 0
            else _("The battery's own figure is %(points)s points lower.", points=number(-drift, 0))
        )
    found.append(
        Figure(_("Counted here"), words.value("battery_soc_percent", round(counted.percent)), note)
    )
    return found


@blueprint.get("/battery")
def page() -> str:
    """The page; ``?pack=`` chooses one of several, ``?part=live`` leaves the past out."""
    live = board().live
    state = live.state()
    now_ms = clock.epoch_ms(live.now())
    everything = live.devices(state)
    found = packs(everything)
    wanted = request.args.get("pack", "")[:40]
    chosen = next((device for device in found if device.name == wanted), None)
    if wanted and chosen is None:
        abort(HTTPStatus.NOT_FOUND, _("There is no battery of that name here."))
    if chosen is None and found:
        chosen = found[0]
    shown: Pack | None = None
    past: Past | None = None
    error = ""
    own = profile()
    used = combine(everything, now_ms, board().config.left_out).soc_source
    if chosen is not None:
        shown = pack(chosen, state, look(chosen, now_ms), seen(chosen, now_ms, zone()), own)
        try:
            past = memory().get(chosen, state, own, books=chosen.name in (used, found[0].name))
        except HistoryError as err:
            error = str(err)
    return render_template(
        "battery.html",
        pack=shown,
        packs=[(device.name, words.title(device.name)) for device in found],
        past=past,
        figures=figures(chosen, everything, past, used, now_ms) if chosen else [],
        error=error,
        waiting=[words.title(device.name) for device in everything if not device.behind],
        states=STATES,
        as_of=words.local(now_ms, zone()),
        days=30,
        reserve=board().config.battery_reserve_percent,
    )


STATES = {
    "charging": N_("charging"),
    "discharging": N_("discharging"),
    "resting": N_("resting"),
    "": "",
}
