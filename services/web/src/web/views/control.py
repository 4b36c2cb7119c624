"""Page *Control*: settings, the transfer relay, rules; and what became of what was asked."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import NoReturn

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from sunmesh.errors import RefusedError
from sunmesh.messages import Value
from werkzeug.wrappers import Response

from .. import words
from ..controls import (
    CONTROLLER,
    MANUAL_MIN,
    MODE_NAMES,
    MODE_TEXTS,
    MODES,
    RELAY_FAMILY,
    RULE,
    Change,
    Controls,
    changes,
)
from ..people.accounts import AccountsError
from ..people.guard import accounts, me, unlocked_s, visitor, where
from ..text import _, ngettext
from .account import may_settle

blueprint = Blueprint("control", __name__)

POSITIONS = ("grid_open", "grid_connected", "auto")
MOST_FIELDS = 400


def controls() -> Controls:
    """The application's controls."""
    found: Controls = current_app.extensions["controls"]
    return found


def state_of_lock() -> tuple[str, str]:
    """How far this visitor is from controlling, and why.

    Returns:
        ``settle``, ``login``, ``role``, ``outside``, ``locked`` or ``open``; a sentence.
    """
    who = visitor()
    if who is None:
        try:
            if not accounts().is_settled():
                return "settle", may_settle()
        except AccountsError as err:
            return "login", _("Nobody can log in now: %(why)s.", why=err)
        return "login", ""
    if not who.may("operator"):
        return "role", _(
            "%(name)s has the role %(role)s, which looks and does not control.",
            name=who.name,
            role=_(who.role),
        )
    if not where().local:
        return "outside", _(
            "Commands are taken from the local network only: %(why)s.", why=where().why
        )
    return ("open", "") if unlocked_s() else ("locked", "")


@blueprint.get("/control")
def page() -> str:
    """Everything that can be controlled; what is live stands in islands that a script renews."""
    state, why = state_of_lock()
    who = visitor()
    return render_template(
        "control.html",
        view=controls().view(),
        lock=state,
        lock_why=why,
        needs_password=who is not None and not who.is_proved(accounts().now_ms),
        is_open=state == "open",
        modes=MODES,
        mode_names=MODE_NAMES,
        mode_texts=MODE_TEXTS,
        manual_minutes=MANUAL_MIN,
    )


def _refuse(text: str, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> NoReturn:
    abort(status, f"{words.sentence(text)} {_('Nothing was changed.')}")


def _form() -> dict[str, str]:
    if len(request.form) > MOST_FIELDS:
        _refuse(_("too many fields"), HTTPStatus.BAD_REQUEST)
    return {key: text[:200] for key, text in request.form.items()}


class Wish:
    """What a form asks for, checked against what the device takes."""

    def __init__(self, device: str, form: Mapping[str, str]) -> None:
        self.device = device
        self.wants: dict[str, Value] = {}
        self.was: dict[str, Value] = {}
        self.changes: list[Change] = []
        self.sentence = ""
        self.lease_s: float | None = None
        if device == CONTROLLER:
            self._modes(form)
        elif "manual" in form:
            self._manual(form)
        else:
            self._settings(form)

    def _settings(self, form: Mapping[str, str]) -> None:
        known = controls().known(self.device)
        if known is None:
            _refuse(
                _("there is no device %(device)s that takes settings", device=self.device),
                HTTPStatus.NOT_FOUND,
            )
        info, settings = known
        self.changes = changes(form, info, settings)
        for change in self.changes:
            self.wants[change.row.name] = change.value
            self.was[change.row.name] = change.was
        if len(self.changes) > 1 and any(each.row.risk == "danger" for each in self.changes):
            raise RefusedError(_("what needs a confirmation is changed by itself, one at a time"))

    def _modes(self, form: Mapping[str, str]) -> None:
        memory = controls().live.state().devices.get(CONTROLLER)
        current = memory.settings.values if memory and memory.settings else {}
        for name, text in form.items():
            if name != "mode" and not name.startswith(RULE):
                continue
            if text not in MODES:
                raise RefusedError(
                    _(
                        "a mode is one of %(modes)s, not “%(text)s”",
                        modes=", ".join(MODES),
                        text=text[:20],
                    )
                )
            if name != "mode" and name not in current:
                raise RefusedError(
                    _("the controller has no rule “%(rule)s”", rule=name.removeprefix(RULE)[:40])
                )
            if current.get(name) != text:
                self.wants[name] = text
                self.was[name] = current.get(name)
        if len(self.wants) > 1:
            raise RefusedError(_("one mode is changed at a time"))
        for name, value in self.wants.items():
            mode = _(MODE_TEXTS[str(value)])
            if name == "mode":
                self.sentence = _("All rules: %(mode)s.", mode=mode)
            else:
                rule = words.title(name.removeprefix(RULE))
                self.sentence = _("Rule %(rule)s: %(mode)s.", rule=rule, mode=mode)

    def _manual(self, form: Mapping[str, str]) -> None:
        state = controls().live.state()
        device = next(
            (each for each in controls().live.devices(state) if each.name == self.device), None
        )
        if device is None or device.family != RELAY_FAMILY:
            _refuse(_("%(device)s is no relay", device=self.device), HTTPStatus.NOT_FOUND)
        position = form["manual"]
        if position not in POSITIONS:
            raise RefusedError(_("a position is one of %(known)s", known=", ".join(POSITIONS)))
        self.wants = {"manual": position}
        if position == "auto":
            self.sentence = _("The relay is left to the controller again.")
            return
        text = form.get("minutes_other", "").strip() or form.get("minutes", "")
        longest = controls().longest_manual_min(self.device)
        if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= longest:
            raise RefusedError(
                _("minutes must be 1 to %(most)s, not “%(text)s”", most=longest, text=text[:20])
            )
        self.lease_s = float(int(text) * 60)
        self.sentence = ngettext(
            "Relay by hand: %(position)s for %(num)d minute, then automatic again.",
            "Relay by hand: %(position)s for %(num)d minutes, then automatic again.",
            int(text),
            position=words.value("relay_position", position),
        )

    @property
    def is_spent(self) -> bool:
        """Whether a day's budget of writes would be exceeded."""
        return any(change.row.is_spent for change in self.changes)

    @property
    def danger(self) -> Change | None:
        """What must be confirmed by typing it once more."""
        return next((each for each in self.changes if each.row.risk == "danger"), None)


def _wish(device: str) -> tuple[Wish, dict[str, str]]:
    form = _form()
    try:
        wish = Wish(device, form)
    except RefusedError as err:
        _refuse(str(err))
    if why := controls().why_not(device):
        _refuse(
            _("%(device)s cannot be asked: %(why)s", device=words.title(device), why=why),
            HTTPStatus.CONFLICT,
        )
    return wish, form


@blueprint.post("/control/<device>/review")
def review(device: str) -> str:
    """What would be changed, before it is."""
    wish, form = _wish(device)
    kept = [(key, text) for key, text in form.items() if _is_kept(key, wish)]
    return render_template(
        "review.html", wish=wish, kept=kept, device=words.title(device), error=""
    )


def _is_kept(key: str, wish: Wish) -> bool:
    """Whether a field of the first form goes on into the second."""
    if key.startswith(("set.", "was.")):
        return key.partition(".")[2] in wish.wants
    return key in ("manual", "minutes", "minutes_other") or key in wish.wants


@blueprint.post("/control/<device>/apply")
def apply(device: str) -> Response | tuple[str, int]:
    """Ask the device, and show what becomes of it."""
    wish, form = _wish(device)
    if not wish.wants:
        _refuse(_("nothing differs from what the device has"))
    error, confirm = "", None
    if wish.danger is not None:
        if form.get("confirm", "").strip() != wish.danger.form:
            error = _("type %(value)s to confirm", value=wish.danger.form)
        confirm = wish.danger.value
    override = form.get("override", "").strip()
    if wish.is_spent and len(override) < 3:
        error = error or _("the day's budget of writes is spent; say why it must be exceeded")
    if error:
        kept = [(key, text) for key, text in form.items() if _is_kept(key, wish)]
        page = render_template(
            "review.html", wish=wish, kept=kept, device=words.title(device), error=error
        )
        return page, HTTPStatus.UNPROCESSABLE_ENTITY
    try:
        order = controls().orders.ask(
            device,
            wish.wants,
            by=me().name,
            address=where().address,
            was=wish.was,
            reason=form.get("reason", "").strip(),
            override=override if wish.is_spent else "",
            confirm=confirm,
            lease_s=wish.lease_s,
        )
    except RefusedError as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)
    return redirect(url_for("control.order", number=order.id), HTTPStatus.SEE_OTHER)


@blueprint.get("/control/orders/<number>")
def order(number: str) -> str:
    """One order, stage by stage; without a script the page loads itself until it is done."""
    found = controls().orders.get(number)
    if found is None:
        abort(
            HTTPStatus.NOT_FOUND,
            _("This order is not in the portal's memory; the recorder keeps all of them."),
        )
    row = controls().order_row(found)
    return render_template("order.html", order=row, is_known=visitor() is not None)
