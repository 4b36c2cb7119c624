"""Page *Rules*: what acts by itself, read aloud; changed by drafts, tried on one's own past."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec
from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from sqlalchemy import Connection, select
from sunmesh import clock
from sunmesh.database import history, tables
from sunmesh.errors import RefusedError
from sunmesh.topics import NAME
from sunmesh.vocabulary import unit_of
from werkzeug.wrappers import Response as BaseResponse

from .. import controls as panels
from .. import text, words
from ..controls import CONTROLLER
from ..people.guard import accounts, may, me, unlocked_s, visitor, where
from ..queries import HistoryError
from ..rules import form as rules_form
from ..rules import picture as rules_picture
from ..rules import templates as rules_templates
from ..rules import view as rules_view
from ..rules import words as rules_words
from ..rules.book import Replay, Report, RuleBook, Rules, Table
from ..text import N_, _
from . import board, database, now_ms, zone
from .control import controls

blueprint = Blueprint("rules", __name__)

DAYS = (7, 30, 90)
POINTS = 360
MOST_FIELDS = 600
SHOWN_SWITCHES = 100
SOC, VOLTS = "battery_soc_percent", "battery_voltage_v"
NOTHING = N_("Nothing was changed.")


def book() -> RuleBook:
    """The application's rules."""
    found: RuleBook = current_app.extensions["rules"]
    return found


def _refuse(why: str, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> NoReturn:
    abort(status, f"{why[:1].upper()}{why[1:].rstrip('.')}. {_(NOTHING)}")


def _rules() -> Rules:
    """The rules, for what cannot be done without them."""
    found = book().rules
    if found is None:
        _refuse(_("The controller has not told its rules: is it running?"), HTTPStatus.CONFLICT)
    return found


def _why_not() -> str:
    return controls().why_not(CONTROLLER)


def _lock() -> dict[str, Any]:
    """How far this visitor is from changing something."""
    who = visitor()
    return {
        "may_change": may("admin") and where().local,
        "may_replay": may("operator") and where().local,
        "may_switch": may("operator") and where().local,
        "is_open": unlocked_s() > 0,
        "proved": who is not None and who.is_proved(accounts().now_ms),
    }


def _form() -> dict[str, str]:
    if len(request.form) > MOST_FIELDS:
        _refuse(_("Too many fields"), HTTPStatus.BAD_REQUEST)
    return {key: value[:400] for key, value in request.form.items() if key != "draft"}


# -- the page --------------------------------------------------------------------------------------


@blueprint.get("/rules")
def page() -> str:
    """Every rule, read aloud."""
    rules = book().rules
    live = board().live
    made = None if rules is None else rules_view.view(rules, live, _why_not())
    devices = live.state().devices
    return render_template(
        "rules.html",
        view=made,
        rules=rules,
        why=_why_not() if made is None else made.why,
        connected=live.connected,
        modes=panels.MODES,
        mode_names=panels.MODE_NAMES,
        mode_texts=panels.MODE_TEXTS,
        templates=[
            (each, rules_templates.lacks(each, rules, devices) if rules else "")
            for each in rules_templates.TEMPLATES
        ],
        numbers=_numbers(rules) if rules else [],
        changes=_changes(rules) if rules else [],
        days=DAYS,
        whole=request.args.get("read") == "all",
        saved=_saved(request.args.get("order", "")),
        **_lock(),
    )


def _saved(number: str) -> tuple[str, str]:
    """How a change that was just asked for stands: tone and sentence; empty without one."""
    order = controls().orders.get(number[:64])
    if order is None or order.name != "draft.save":
        return "", ""
    stage = order.stage(now_ms())
    if stage == "applied":
        return "good", _("Saved. The controller goes on with it, as after a restart.")
    if stage in ("refused", "failed", "expired", "silent"):
        why = order.whole[-1].detail or _("no answer")
        return "bad", _("The controller did not take it: %(why)s", why=why)
    return "pending", _("Written down; the controller takes it over at its next evaluation.")


def _numbers(rules: Rules) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "value": words.value(name, value),
            "form": f"{value:.10g}",
            "below": words.value(name, rules.numbers_below.get(name))
            if rules.numbers_below.get(name) != value
            else "",
            "unit": unit_of(name),
        }
        for name, value in rules.numbers.items()
    ]


def _changes(rules: Rules) -> list[dict[str, str]]:
    now = words.local(now_ms(), zone())
    found = []
    for place, change in enumerate(rules.changes):
        moment = clock.parse(change.ts).astimezone(zone())
        by = change.by.removeprefix("web:")
        if not change.rule:
            what = _("The numbers were changed")
        elif change.after is None:
            what = _("%(rule)s: the change was taken back", rule=words.title(change.rule))
        elif change.before is None:
            what = _("%(rule)s was saved", rule=words.title(change.rule))
        else:
            what = _("%(rule)s was changed once more", rule=words.title(change.rule))
        found.append(
            {
                "what": what,
                "when": words.clock(moment, now),
                "by": by,
                "note": change.note,
                "place": str(place),
                "ts": change.ts,
            }
        )
    return found


# -- the editor ------------------------------------------------------------------------------------


@blueprint.get("/rules/new")
def new() -> str:
    """The form of a rule that is not there yet: from a template, or a copy."""
    rules = _rules()
    made = rules_templates.template(request.args.get("template", ""))
    copied = rules.rule(request.args.get("copy", ""))
    if made is not None:
        table = rules_templates.filled(made)
        if table is None:
            _refuse(_(made.needs), HTTPStatus.NOT_FOUND)
        return _editor(rules, _free(rules, made.name), table, is_new=True)
    if copied is not None:
        return _editor(rules, _free(rules, copied.name), copied.table, is_new=True)
    if request.args.get("template") or request.args.get("copy"):
        _refuse(_("There is no such rule"), HTTPStatus.NOT_FOUND)
    return _editor(rules, "", {"hours": "always", "priority": 30}, is_new=True)


def _free(rules: Rules, name: str) -> str:
    """A name that no rule has."""
    taken = {each.name for each in rules.rules}
    if name not in taken:
        return name
    return next(f"{name[:28]}-{n}" for n in range(2, 1000) if f"{name[:28]}-{n}" not in taken)


@blueprint.get("/rules/<name>/edit")
def edit(name: str) -> str:
    """The form of a rule."""
    rules = _rules()
    written = rules.rule(name)
    if written is None:
        _refuse(_("There is no such rule"), HTTPStatus.NOT_FOUND)
    return _editor(rules, name, written.table, mark=written.mark)


def _editor(
    rules: Rules,
    name: str,
    table: Table,
    *,
    is_new: bool = False,
    mark: str = "",
    errors: Mapping[str, str] | None = None,
    refused: str = "",
) -> str:
    devices = board().live.state().devices
    look, sets = rules_form.shelves(rules, devices, [table])
    return render_template(
        "rules_edit.html",
        rules=rules,
        name=name,
        table=table,
        fields=rules_form.fields_of(rules, table),
        reading=rules_words.read(rules, table),
        look=look,
        sets=sets,
        tests=rules_words.TEST_NAMES,
        numbers=_numbers(rules),
        is_new=is_new,
        mark=mark,
        errors=errors or {},
        refused=refused,
        **_lock(),
    )


@blueprint.post("/rules/read")
def read() -> str:
    """What a form says so far, read aloud; what the page fetches while somebody fills it in."""
    rules = _rules()
    parsed = rules_form.parse(_form(), rules)
    reading = rules_words.read(rules, parsed.table)
    return render_template("rules_reading.html", reading=reading, errors=parsed.errors)


@blueprint.post("/rules/review")
def review() -> str | tuple[str, int]:
    """What would be changed, checked by the controller, before it is."""
    rules, form = _rules(), _form()
    parsed = rules_form.parse(form, rules)
    written = rules.rule(parsed.name)
    is_new = form.get("is_new") == "1"
    if is_new and written is not None:
        parsed.wrong("name", _("A rule of that name is there already"))
    elif not is_new and written is None:
        _refuse(_("There is no such rule"), HTTPStatus.NOT_FOUND)
    mark = "" if is_new else form.get("mark", "")
    draft = {"rules": {parsed.name: parsed.table}, "was": {parsed.name: mark}}
    refused = "" if parsed.errors else _checked(draft)
    if parsed.errors or refused:
        page = _editor(
            rules,
            parsed.name,
            parsed.table,
            is_new=is_new,
            mark=mark,
            errors=parsed.errors,
            refused=refused,
        )
        return page, HTTPStatus.UNPROCESSABLE_ENTITY
    infos = {name: m.info for name, m in board().live.state().devices.items()}
    return _review(
        rules,
        draft,
        title=say_title(parsed.name, parsed.table),
        before=written.table if written else None,
        after=parsed.table,
        doubts=rules_form.doubts(parsed.table, rules, infos),
        rule=parsed.name,
        keeps=not is_new,
    )


def say_title(name: str, table: Table) -> str:
    """What a rule is called on a page."""
    said = rules_words.say(table.get("says"))
    return f"{said} ({words.title(name)})" if said else words.title(name)


def _checked(draft: Mapping[str, object]) -> str:
    """Why the controller would not take it."""
    if why := _why_not():
        _refuse(_("The controller cannot be asked: %(why)s", why=why), HTTPStatus.CONFLICT)
    try:
        return book().check(draft, by=me().name, address=where().address)
    except RefusedError as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)


def _review(
    rules: Rules,
    draft: Mapping[str, object],
    *,
    title: str,
    before: Table | None,
    after: Table | None,
    rule: str,
    keeps: bool = False,
    doubts: list[str] | None = None,
    numbers: list[tuple[str, str, str]] | None = None,
) -> str:
    return render_template(
        "rules_review.html",
        title=title,
        draft=msgspec.json.encode(draft).decode(),
        differences=rules_view.differences(rules, before, after) if rule else [],
        numbers=numbers or [],
        doubts=doubts or [],
        rule=rule if after is not None else "",
        keeps=keeps,
        days=DAYS,
        recover=text.number(rules.limits.get("recover_min", 5)),
        **_lock(),
    )


@blueprint.post("/rules/<name>/restore")
def restore(name: str) -> str:
    """What was changed here is to be taken back."""
    rules = _rules()
    written = rules.rule(name)
    if written is None and name not in rules.unsound:
        _refuse(_("There is no such rule"), HTTPStatus.NOT_FOUND)
    draft = {"rules": {name: None}, "was": {name: written.mark} if written else {}}
    if refused := _checked(draft):
        _refuse(refused)
    before = written.table if written else None
    below = written.below if written else None
    title = (
        _("%(rule)s as it was before", rule=words.title(name))
        if below is not None
        else _("%(rule)s is taken away", rule=words.title(name))
    )
    return _review(rules, draft, title=title, before=before, after=below, rule=name, keeps=True)


@blueprint.post("/rules/undo")
def undo() -> str:
    """One change is to be undone."""
    rules = _rules()
    ts, name = request.form.get("ts", ""), request.form.get("rule", "")
    change = next((c for c in rules.changes if c.ts == ts and c.rule == name), None)
    if change is None:
        place = request.form.get("place", "")
        if place.isdecimal() and len(place) < 4 and int(place) < len(rules.changes):
            change = rules.changes[int(place)]
        if change is None or change.ts != ts:
            _refuse(_("This change is not remembered any more"), HTTPStatus.NOT_FOUND)
    if not change.rule:
        wanted = {str(k): v for k, v in (change.before or {}).items() if isinstance(v, int | float)}
        numbers = {**dict.fromkeys((change.after or {}).keys() - wanted.keys()), **wanted}
        return _number_review(rules, numbers)
    written = rules.rule(change.rule)
    draft: dict[str, object] = {
        "rules": {change.rule: change.before},
        "was": {change.rule: written.mark if written else ""},
    }
    if refused := _checked(draft):
        _refuse(refused)
    after = change.before if change.before is not None else (written.below if written else None)
    return _review(
        rules,
        draft,
        title=_("%(rule)s as it was before", rule=words.title(change.rule)),
        before=written.table if written else None,
        after=after,
        rule=change.rule,
        keeps=written is not None,
    )


@blueprint.post("/rules/numbers")
def numbers() -> str:
    """Other values for the numbers that the preset's rules share."""
    rules, form = _rules(), _form()
    wanted: dict[str, float | None] = {}
    for name, value in rules.numbers.items():
        written = form.get(f"number.{name}", "").strip()
        if not written:
            if rules.numbers_below.get(name) != value:
                wanted[name] = None
            continue
        number = rules_form.number_of(written)
        if number is None:
            _refuse(_("“%(text)s” is no number", text=written[:40]))
        if abs(number - value) > 1e-9:
            wanted[name] = number
    return _number_review(rules, wanted)


def _number_review(rules: Rules, wanted: Mapping[str, float | None]) -> str:
    if not wanted:
        _refuse(_("Nothing differs from what it is"))
    draft = {"numbers": dict(wanted)}
    if refused := _checked(draft):
        _refuse(refused)
    rows = [
        (
            words.title(name),
            words.value(name, rules.numbers.get(name)),
            words.value(name, rules.numbers_below.get(name) if value is None else value),
        )
        for name, value in wanted.items()
    ]
    title = _("Numbers that rules share")
    return _review(rules, draft, title=title, before=None, after=None, rule="", numbers=rows)


@blueprint.post("/rules/save")
def save() -> BaseResponse:
    """Have the controller save what was reviewed."""
    rules = _rules()
    draft = _draft()
    changed = draft.get("rules")
    mode = request.form.get("mode", "")
    if mode in panels.MODES and isinstance(changed, dict):
        draft["modes"] = {name: mode for name, table in changed.items() if table is not None}
    del rules
    if why := _why_not():
        _refuse(_("The controller cannot be asked: %(why)s", why=why), HTTPStatus.CONFLICT)
    try:
        order, stage, detail = book().save(
            draft,
            by=me().name,
            address=where().address,
            note=request.form.get("note", "").strip()[:200],
        )
    except RefusedError as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)
    if stage == "refused":
        _refuse(detail)
    return redirect(url_for("rules.page", order=order.id), HTTPStatus.SEE_OTHER)


def _draft() -> dict[str, Any]:
    """The draft that a review page carries; whatever it says, the controller checks it anew."""
    try:
        draft = msgspec.json.decode(request.form.get("draft", ""), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        _refuse(_("The draft cannot be read"), HTTPStatus.BAD_REQUEST)
    if not draft.keys() <= {"rules", "numbers", "was"}:
        _refuse(_("The draft cannot be read"), HTTPStatus.BAD_REQUEST)
    return draft


# -- replay ----------------------------------------------------------------------------------------


@blueprint.post("/rules/replay")
def rehearse() -> BaseResponse:
    """Begin a replay of the last days, of one rule or all, as they are or as in a draft."""
    rules = _rules()
    days = request.form.get("days", "30")
    if not days.isdecimal() or len(days) > 3 or not 1 <= int(days) <= 366:
        _refuse(_("Days are 1 to %(most)s", most=366))
    name = request.form.get("rule", "")
    draft = _draft() if request.form.get("draft") else None
    drafted = (draft or {}).get("rules")
    known = {each.name for each in rules.rules} | set(drafted if isinstance(drafted, dict) else ())
    if name and (name not in known or not NAME.fullmatch(name)):
        _refuse(_("There is no such rule"), HTTPStatus.NOT_FOUND)
    if why := _why_not():
        _refuse(_("The controller cannot be asked: %(why)s", why=why), HTTPStatus.CONFLICT)
    wanted: dict[str, object] = {"days": int(days), "rule": name}
    if draft is not None:
        wanted["draft"] = draft
    try:
        order = book().rehearse(wanted, by=me().name, address=where().address)
    except RefusedError as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)
    return redirect(url_for("rules.replay", number=order.id), HTTPStatus.SEE_OTHER)


@blueprint.get("/rules/replay/<number>")
def replay(number: str) -> str:
    """A replay: how far it is, or its picture, its counts, its switchings."""
    found = book().replay(number)
    if found is None:
        abort(
            HTTPStatus.NOT_FOUND,
            _("This replay is not remembered any more; it can be run again on the page Rules."),
        )
    rules = book().rules or Rules("")
    made = None
    if found.state == "done":
        made = _picture(found, rules)
    written = rules.rule(found.rule)
    title = (
        say_title(found.rule, written.table)
        if written
        else words.title(found.rule)
        if found.rule
        else _("All rules together")
    )
    return render_template(
        "rules_replay.html",
        replay=found,
        title=title,
        done=round(100 * found.done),
        picture=made,
        days=DAYS,
        zone_name=str(zone()),
        **_lock(),
    )


def _picture(found: Replay, rules: Rules) -> dict[str, Any]:
    whole = [report for report in (found.now, found.changed) if report is not None]
    start, end = whole[0].start, whole[0].end
    made: dict[str, Any] = {"start": start, "end": end, "note": "", "curves": []}
    if end <= start:
        return made | {"lanes": [], "ticks": [], "rows": [], "counts": []}
    try:
        with database().reading() as connection:
            for role, name, tone, ends in (
                ("battery", SOC, "soc", (0.0, 100.0)),
                ("inverter", VOLTS, "volts", (50.0, 55.0)),
            ):
                line = _line(connection, rules, role, name, (start, end), ends)
                if line is not None:
                    made["curves"].append(
                        {
                            "name": words.label(name),
                            "tone": tone,
                            "line": line,
                            "low": words.value(name, line.low),
                            "high": words.value(name, line.high),
                        }
                    )
    except HistoryError as err:
        made["note"] = str(err)
    lanes, counts, rows = [], [], []
    for report, title in ((found.now, _("As it is")), (found.changed, _("Changed"))):
        if report is None:
            continue
        said = [_switch(switch.did) for switch in report.switches]
        lanes.append((title, rules_picture.lane(report, start, end, said)))
        counts.append(_count(title, report))
        rows = [(title, switch, did) for switch, did in zip(report.switches, said, strict=True)]
    shown = rows[-SHOWN_SWITCHES:]
    return made | {
        "lanes": lanes,
        "ticks": rules_picture.ticks(start, end, zone()),
        "counts": counts,
        "rows": [
            {
                "when": text.moment(clock.from_ms(switch.ts), zone()),
                "rule": words.title(switch.rule),
                "did": did,
                "saw": panels.wish_text(
                    {k: v for k, v in switch.saw.items() if "." in k and v is not None}
                ),
            }
            for _title, switch, did in shown
        ],
        "is_cut": len(shown) < len(rows) or any(report.is_cut for report in whole),
        "unknown": [rules_words.what(rules, key) for key in whole[-1].unknown],
    }


def _switch(did: str) -> str:
    """What was done, in words: the controller's own say it in English."""
    positions = {"asked to open the grid": "grid_open", "asked for the grid": "grid_connected"}
    parts = []
    for part in did.split("; "):
        if part in positions:
            parts.append(words.value("relay_position", positions[part]))
        elif part.startswith(("set ", "put back ")):
            for pair in part.removeprefix("set ").removeprefix("put back ").split(", "):
                name, equals, value = pair.partition(" = ")
                name = name.rpartition(".")[2]
                number = rules_form.number_of(value)
                shown = words.value(name, value if number is None else number)
                parts.append(f"{words.label(name)} → {shown}" if equals else pair)
        else:
            parts.append(part)
    return " · ".join(parts)


def _count(title: str, report: Report) -> dict[str, str]:
    days = max((report.end - report.start) / 86_400_000, 1 / 1440)
    total = sum(report.counts.values())
    lowest = report.lowest
    return {
        "title": title,
        "switches": text.number(total),
        "a_day": text.number(total / days, 1),
        "writes": text.number(report.writes),
        "open": f"{text.number(report.open_minutes / 60, 1)}{words.HARD}h",
        "lowest": words.value(SOC, lowest[0]) if lowest else text.NONE,
        "lowest_at": text.moment(clock.from_ms(int(lowest[1])), zone()) if lowest else "",
        "blind": text.number(sum(report.blind.values())),
        "capped": text.number(sum(report.capped.values())),
        "known": text.percent(1 - report.silent / report.minutes) if report.minutes else text.NONE,
    }


def _line(
    connection: Connection,
    rules: Rules,
    role: str,
    name: str,
    span: tuple[int, int],
    ends: tuple[float, float],
) -> rules_picture.Line | None:
    device = rules.roles.get(role, role)
    series = tables.series
    number = connection.execute(
        select(series.c.id).where(series.c.device == device, series.c.name == name)
    ).scalar()
    if number is None:
        return None
    curve = history.curve(connection, number, *span, POINTS)
    return rules_picture.line(curve, *span, *ends) if curve.points else None


@blueprint.get("/rules/replay/<number>.json")
def progress(number: str) -> Response:
    """How far a replay is."""
    found = book().replay(number)
    if found is None:
        abort(HTTPStatus.NOT_FOUND, _("This replay is not remembered any more."))
    return jsonify(state=found.state, done=found.done, why=found.why)
