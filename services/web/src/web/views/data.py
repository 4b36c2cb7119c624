"""Page *Data*: records in and out, days by hand, what is kept how long, backups."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sunmesh import clock
from sunmesh.archive import keeping
from sunmesh.config import Site
from sunmesh.database import energy
from sunmesh.database.days import local_day
from sunmesh.database.tables import FLOWS
from sunmesh.errors import ConfigError, SunmeshError
from sunmesh.vocabulary import VOCABULARY, Kind
from werkzeug.wrappers import Response as BaseResponse

from .. import text, words
from ..data import entry as data_entry
from ..data import imports as data_import
from ..data.imports import Upload, UploadError, Uploads
from ..data.jobs import BusyError, Job, Jobs
from ..database import HistoryError
from ..people.accounts import AccountsError
from ..people.guard import accounts, may, me, visitor, where
from ..queries import explain
from ..text import N_, _, ngettext
from ..words import FLOW_NAMES
from . import board, database, today
from .system import book as service_book

blueprint = Blueprint("data", __name__)

T = TypeVar("T")

LEVELS = (
    ("energy", N_("Energy books, five minutes")),
    ("day", N_("Values by day")),
    ("hour", N_("Values by hour")),
    ("minute", N_("Values by minute")),
    ("raw", N_("Values as they were read")),
)
KINDS = {
    "plan": N_("A dry run of %(subject)s"),
    "import": N_("Import of %(subject)s"),
    "undo": N_("Taking back %(subject)s"),
    "backup": N_("A backup"),
    "verify": N_("Proving %(subject)s"),
}
PROBLEMS = {
    "refused": N_("Refused"),
    "conflicts": N_("The database has another value there, which stays"),
    "twice": N_("Twice in the files, the first counts"),
    "warned": N_("Odd, but taken"),
}
COUNTS = (
    ("samples", N_("new values")),
    ("states", N_("new states")),
    ("settings", N_("new settings")),
    ("energies", N_("new stretches of energy")),
    ("same", N_("there already")),
    ("conflicts", N_("conflicts")),
    ("covered", N_("left out: the database has its own of that time")),
)
MOST_EDITS = 20
MOST_BATCHES = 30
EXPORTS = threading.BoundedSemaphore(2)
"""So many exports at a time."""
SHORT_MEMBERS = 5000


@blueprint.before_app_request
def larger() -> None:
    """Files may be larger than any form; who may send them is asked before they are read."""
    if request.endpoint == "data.upload":
        request.max_content_length = data_import.MOST_BYTES + 65_536


def site() -> Site:
    """The site's configuration."""
    return board().site


def jobs() -> Jobs:
    """The application's long work."""
    found: Jobs = current_app.extensions.setdefault("jobs", Jobs())
    return found


def uploads() -> Uploads:
    """The application's waiting files."""
    found: Uploads = current_app.extensions.setdefault("uploads", Uploads())
    return found


def may_change() -> bool:
    """Whether this visitor may change data."""
    return may("admin") and where().local


def _refuse(why: str, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> NoReturn:
    abort(status, _("%(why)s. Nothing was changed.", why=f"{why[:1].upper()}{why[1:]}"))


def _at(ms: int) -> str:
    return text.moment(clock.from_ms(ms), board().zone)


def size(count: float | None) -> str:
    """``812 kB``, ``1.2 GB``."""
    if count is None:
        return words.NONE
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{text.number(count / step, 1 if count < 100 * step else 0)}{words.HARD}{unit}"
    return f"{text.number(count)}{words.HARD}B"


# -- the page --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """How long something is kept."""

    name: str
    days: int
    key: str


@dataclass(frozen=True, slots=True)
class BackupRow:
    """A backup that was proved."""

    name: str
    made: str
    age: str
    size: str


class _Retention(msgspec.Struct, frozen=True):
    """What concerns this page of ``[recorder]``; its defaults are the recorder's."""

    raw_days: int = 60
    minute_days: int = 730
    decision_days: int = 730


def retention() -> list[Kept]:
    """How long what is kept; 0 = for ever."""
    found = msgspec.convert(site().sections.get("recorder", {}), _Retention)
    return [
        Kept(_("Values as they were read"), found.raw_days, "raw_days"),
        Kept(_("Minutes"), found.minute_days, "minute_days"),
        Kept(_("What rules decided"), found.decision_days, "decision_days"),
        Kept(_("Hours, days, energy books, alarms"), 0, ""),
    ]


def storage() -> dict[str, str]:
    """What the recorder says of the room that is left; empty when it says nothing."""
    found = next((each for each in service_book().services() if each.name == "recorder"), None)
    if found is None or found.number("database_bytes") is None:
        return {}
    full = found.number("database_full_in_days")
    if full is None:
        room = _("enough for a century, or not known")
    elif full < 730:
        room = ngettext("full in %(num)d day", "full in %(num)d days", round(full))
    else:
        years = round(full / 365)
        room = ngettext("enough for %(num)d year", "enough for %(num)d years", years)
    return {
        "size": size(found.number("database_bytes")),
        "a_day": size(found.number("database_bytes_a_day")),
        "room": room,
        "told": text.moment(found.told, board().zone) if found.told else "",
        "is_short": "1" if full is not None and full < 30 else "",
    }


def backups() -> tuple[str, list[BackupRow], str]:
    """The folder of backups, those in it, and what is wrong with it."""
    try:
        folder = keeping.folder(site())
    except ConfigError as err:
        return "", [], str(err)
    if folder is None:
        return "", [], ""
    if not folder.is_dir():
        return str(folder), [], _("the portal sees no such folder")
    rows = []
    for each in keeping.stored(folder, site().site.name):
        with suppress(OSError):
            rows.append(
                BackupRow(
                    each.path.name,
                    text.moment(each.created, board().zone),
                    words.age(each.age_h * 3600),
                    size(each.path.stat().st_size),
                )
            )
    return str(folder), rows, ""


def _batches() -> list[dict[str, object]]:
    from sunmesh.archive.importing.batches import listed

    found = []
    for each in listed(database().url)[:MOST_BATCHES]:
        found.append(
            {
                "id": each.id,
                "when": _at(each.created),
                "file": each.file,
                "format": each.format,
                "samples": text.number(each.samples),
                "books": bool(each.edits),
                "by": str(each.document.get("by", "")),
                "state": each.state,
            }
        )
    return found


@blueprint.get("/data")
def page() -> str:
    """Everything; who may change nothing sees what there is."""
    error = ""
    span: tuple[date, date] | None = None
    edits: list[energy.Edit] = []
    batches: list[dict[str, object]] = []
    devices: list[str] = []
    try:
        with database().reading() as connection:
            span = energy.span(connection)
            if may_change():
                edits = [each for each in energy.edits(connection, MOST_EDITS) if _is_typed(each)]
        devices = sorted({device for device, _name in board().history.series()})
        if may_change():
            batches = _batches()
    except HistoryError as err:
        error = str(err)
    except Exception as err:  # noqa: BLE001 - listed() raises the driver's own
        error = str(err).splitlines()[0][:200]
    folder, rows, wrong = backups()
    now = today()
    return render_template(
        "data.html",
        error=error,
        may_change=may_change(),
        is_member=visitor() is not None,
        span=span,
        last=span[1] - timedelta(days=1) if span else now,
        today=now,
        month_ago=now - timedelta(days=30),
        flows=[(flow, FLOW_NAMES[flow]) for flow in FLOWS if flow in FLOW_NAMES],
        levels=LEVELS,
        devices=devices,
        edits=[_edit_row(each) for each in edits],
        batches=batches,
        kept=retention(),
        storage=storage(),
        folder=folder,
        backups=rows,
        backup_wrong=wrong,
        running=jobs().running(),
        job_title=job_title,
        most=size(data_import.MOST_BYTES),
        day_text=lambda day: text.day(day, "long"),
        draft=None,
    )


# -- out -------------------------------------------------------------------------------------------


def _span_of(start: str, end: str) -> tuple[str, str]:
    """Days of a form as the exporter takes them; empty = no bound."""
    found = []
    for each in (start, end):
        if each:
            try:
                day = date.fromisoformat(each[:10])
            except ValueError:
                _refuse(_("the calendar has no %(text)s", text=each[:20]))
            if not 2000 <= day.year <= 2099:
                _refuse(_("%(text)s is before or after any record of this house", text=each[:20]))
            found.append(day.isoformat())
        else:
            found.append("")
    if found[0] and found[1] and found[0] > found[1]:
        _refuse(_("the last day is before the first"))
    return found[0], found[1]


@blueprint.get("/data/export")
def export() -> Response:
    """What was chosen, as a file; it is written while it is read, however long it is."""
    level, form = request.args.get("level", "energy"), request.args.get("format", "csv")
    if level not in dict(LEVELS) or form not in ("csv", "jsonl"):
        _refuse(_("that is no form of export"))
    first, last = _span_of(request.args.get("from", ""), request.args.get("to", ""))
    command = ["export", "--config", str(site().path), "--level", level, "--format", form]
    command += [f"--from={first}"] if first else []
    command += [f"--to={last}"] if last else []
    device = request.args.get("device", "")
    if device and level != "energy":
        if device not in {name for name, _series in _series()}:
            abort(HTTPStatus.NOT_FOUND, _("There is no device of that name."))
        command.append(f"--device={device}")
    if request.args.get("wide") and form == "csv" and level != "energy":
        command.append("--wide")
    if request.args.get("times") == "local":
        command.append(f"--zone={site().site.time_zone}")
    if not EXPORTS.acquire(blocking=False):
        abort(HTTPStatus.SERVICE_UNAVAILABLE, _("Two exports are running; try again in a moment."))
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "sunmesh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        beginning = process.stdout.read(1) if process.stdout else b""
    except OSError:
        EXPORTS.release()
        raise
    if not beginning:
        _out, said = process.communicate()
        EXPORTS.release()
        lines = said.decode("utf-8", "replace").strip().splitlines()
        abort(HTTPStatus.SERVICE_UNAVAILABLE, lines[-1][:300] if lines else _("There is nothing."))
    name = f"{site().site.name}-{level}-{first or 'begin'}-{last or today().isoformat()}.{form}"
    answer = Response(
        _pumped(process, beginning),
        mimetype="text/csv" if form == "csv" else "application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
    answer.call_on_close(lambda: _ended(process))
    return answer


def _series() -> dict[tuple[str, str], int]:
    try:
        return board().history.series()
    except HistoryError as err:
        abort(HTTPStatus.SERVICE_UNAVAILABLE, str(err))


def _pumped(process: "subprocess.Popen[bytes]", beginning: bytes) -> Iterator[bytes]:
    yield beginning
    while process.stdout is not None and (some := process.stdout.read(65_536)):
        yield some


def _ended(process: "subprocess.Popen[bytes]") -> None:
    """Whoever reads may have enough before the end."""
    with suppress(ProcessLookupError):
        process.terminate()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()
    EXPORTS.release()


# -- work ------------------------------------------------------------------------------------------


def job_title(job: Job) -> str:
    """What is being done, in words."""
    return _(KINDS[job.kind], subject=job.subject)


def _start(
    kind: str,
    subject: str,
    arguments: list[str],
    *,
    upload: str = "",
    noted: bool = True,
) -> Job:
    """Begin some work, noted in the audit before."""
    book, number = accounts(), 0
    who, address = me().name, where().address
    try:
        if jobs().running() is not None:
            raise BusyError
        if noted:
            number = book.note(who, address, kind, subject, "asked", "")

        def ended(job: Job) -> None:
            if number:
                with suppress(AccountsError):
                    book.ended(number, "done" if job.is_good else "failed", job.last)

        return jobs().start(kind, subject, who, arguments, upload=upload, on_end=ended)
    except BusyError:
        _refuse(_("something else is being done; wait for its end"), HTTPStatus.CONFLICT)
    except AccountsError as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)


def _job(number: str) -> Job:
    found = jobs().get(number)
    if found is None:
        abort(HTTPStatus.NOT_FOUND, _("The portal does not remember this work."))
    return found


@blueprint.get("/data/jobs/<number>")
def job(number: str) -> BaseResponse | str:
    """How far some work is; leads on when a dry run has ended."""
    found = _job(number)
    if found.is_done and found.upload and found.kind in ("plan", "import"):
        target = url_for("data.draft", number=found.upload)
        if request.headers.get("HX-Request"):
            return Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": target})
        return redirect(target, HTTPStatus.SEE_OTHER)
    template = "data_job_part.html" if request.args.get("part") else "data_job.html"
    said = (
        found.out.read_text(encoding="utf-8", errors="replace")[:SHORT_MEMBERS]
        if found.is_done
        else ""
    )
    elapsed = ((found.ended or clock.now()) - found.started).total_seconds()
    return render_template(
        template,
        job=found,
        title=job_title(found),
        elapsed=words.age(elapsed),
        said=said.strip() if found.kind in ("backup", "verify") else "",
    )


@blueprint.post("/data/jobs/<number>/stop")
def stop(number: str) -> BaseResponse:
    """Interrupt some work."""
    jobs().stop(_job(number))
    return redirect(url_for("data.job", number=number), HTTPStatus.SEE_OTHER)


# -- in --------------------------------------------------------------------------------------------


@blueprint.post("/data/import")
def upload() -> BaseResponse:
    """Take files, and tell what they are."""
    try:
        found = uploads().take(jobs().folder(), me().name, request.files.getlist("files"))
    except UploadError as err:
        _refuse(str(err))
    families = [(name, str(table["family"])) for name, table in site().devices.items()]
    data_import.look(found, site().site.zone, families)
    return redirect(url_for("data.draft", number=found.id), HTTPStatus.SEE_OTHER)


def _upload(number: str) -> Upload:
    found = uploads().get(number)
    if found is None:
        abort(HTTPStatus.NOT_FOUND, _("These files are not here any more; choose them again."))
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """A quantity that a column may be."""

    key: str
    name: str


def _choices(rows: list[data_import.ColumnRow]) -> list[tuple[str, list[Choice]]]:
    """What columns may be, by device; those that were guessed are always among them."""
    device = next(
        (row.target.partition(".")[0] for row in rows if "." in row.target),
        next(iter(site().devices), "inverter"),
    )
    usual = [
        name
        for name, quantity in VOCABULARY.items()
        if name in words.LABELS and quantity.kind in (Kind.GAUGE, Kind.COUNTER, Kind.STATE)
    ]
    names = [f"{device}.{name}" for name in sorted(usual, key=words.label)]
    names += [r.target for r in rows if "." in r.target and r.target not in names]
    return [
        (
            words.title(device),
            [Choice(name, words.label(name.partition(".")[2].partition("/")[0])) for name in names],
        )
    ]


def _draft_page(found: Upload, error: str = "", status: int = HTTPStatus.OK) -> tuple[str, int]:
    plan_job = jobs().get(found.plan) if found.plan else None
    done_job = jobs().get(found.done) if found.done else None
    latest = done_job or plan_job
    plan = None
    if latest is not None and latest.is_done:
        if latest.is_good:
            plan = data_import.read_plan(latest.out)
        else:
            folder = f"{found.folder}/"
            error = error or latest.last.replace(folder, "").removeprefix("sunmesh import: ")
    return (
        render_template(
            "data_import.html",
            upload=found,
            error=error,
            choices=_choices(found.columns),
            flows=data_import.FLOW_TARGETS,
            periods=data_import.PERIODS,
            units=data_import.UNITS,
            plan=plan,
            is_done=done_job is not None and done_job.is_good,
            problems=PROBLEMS,
            counts=COUNTS,
            zone_name=site().site.time_zone,
            number=text.number,
            target_name=_target_name,
            figure=_figure,
        ),
        status,
    )


def _target_name(name: str) -> str:
    """``flow pv`` and ``inverter.pv_power_w`` in words."""
    if name.startswith("flow "):
        flow = name.removeprefix("flow ")
        return _("Books: %(flow)s", flow=_(FLOW_NAMES[flow])) if flow in FLOW_NAMES else name
    device, _dot, quantity = name.partition(".")
    base = quantity.partition("/")[0]
    return f"{words.title(device)}: {words.label(base)}" if base in VOCABULARY else name


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return words.NONE
    digits = 0 if abs(value) >= 1000 else 2
    return f"{text.number(value, digits)}{words.HARD}{unit}".rstrip()


@blueprint.get("/data/import/<number>")
def draft(number: str) -> BaseResponse | tuple[str, int]:
    """Files, what they are, what an import would do."""
    found = _upload(number)
    running = jobs().running()
    if running is not None and running.upload == found.id:
        return redirect(url_for("data.job", number=running.id), HTTPStatus.SEE_OTHER)
    return _draft_page(found)


@blueprint.post("/data/import/<number>/plan")
def plan(number: str) -> BaseResponse | tuple[str, int]:
    """The dry run: nothing is changed."""
    found = _upload(number)
    found.done = ""
    data_import.read_form(found, request.form)
    if found.zone:
        try:
            ZoneInfo(found.zone)
        except (KeyError, ValueError, OSError):
            return _draft_page(
                found, _("“%(text)s” is no time zone such as Europe/Rome", text=found.zone), 422
            )
    try:
        arguments = data_import.arguments(found, site().path, me().name, dry_run=True)
    except UploadError as err:
        return _draft_page(found, str(err), HTTPStatus.UNPROCESSABLE_ENTITY)
    made = _start("plan", found.names, arguments, upload=found.id, noted=False)
    found.plan = made.id
    return redirect(url_for("data.job", number=made.id), HTTPStatus.SEE_OTHER)


@blueprint.post("/data/import/<number>/apply")
def apply(number: str) -> BaseResponse:
    """Do what the dry run has shown."""
    found = _upload(number)
    before = jobs().get(found.plan) if found.plan else None
    if before is None or not before.is_good:
        _refuse(_("look at a dry run first"), HTTPStatus.CONFLICT)
    try:
        arguments = data_import.arguments(found, site().path, me().name, dry_run=False)
    except UploadError as err:
        _refuse(str(err))
    made = _start("import", found.names, arguments, upload=found.id)
    found.done = made.id
    return redirect(url_for("data.job", number=made.id), HTTPStatus.SEE_OTHER)


@blueprint.post("/data/import/<number>/leave")
def leave(number: str) -> BaseResponse:
    """Forget the files."""
    uploads().drop(number)
    return redirect(url_for("data.page"), HTTPStatus.SEE_OTHER)


@blueprint.post("/data/imports/<int:batch>/undo")
def undo(batch: int) -> BaseResponse:
    """Take an import back."""
    if batch > 2_000_000_000:
        abort(HTTPStatus.NOT_FOUND, _("There is no such import."))
    arguments = ["import", "--undo", str(batch), "--config", str(site().path), "--by", me().name]
    made = _start("undo", _("import %(number)s", number=batch), arguments)
    return redirect(url_for("data.job", number=made.id), HTTPStatus.SEE_OTHER)


# -- days by hand ----------------------------------------------------------------------------------


def _is_typed(edit: energy.Edit) -> bool:
    return edit.document.get("page") == "data"


def _edit_row(edit: energy.Edit) -> dict[str, object]:
    """A correction in words."""
    part = edit.parts[0] if edit.parts else None
    first = local_day(part.start, board().zone) if part else None
    last = local_day(part.end - 1, board().zone) if part else None
    return {
        "id": edit.id,
        "when": _at(edit.created),
        "by": edit.by,
        "reason": edit.reason,
        "flow": FLOW_NAMES.get(part.flow, part.flow) if part else "",
        "first": text.day(first, "medium") if first else "",
        "last": text.day(last, "medium") if last and last != first else "",
        "energy": words.energy(part.new_wh / 1000) if part else "",
        "undone": _at(edit.undone) if edit.undone else "",
    }


@dataclass(frozen=True, slots=True)
class DayRow:
    """A typed day beside what the books say."""

    day: str
    was: str
    becomes: str
    is_known: bool
    is_taken: bool


def _wish() -> tuple[str, list[data_entry.Entry], list[data_entry.Wrong], bool]:
    flow = request.form.get("flow", "")
    if flow not in FLOW_NAMES or flow not in FLOWS:
        _refuse(_("there is no flow of that name"))
    entries, wrong = data_entry.parse(request.form.get("days", "")[:64_000], today())
    return flow, entries, wrong, bool(request.form.get("over"))


def _known(flow: str, entries: list[data_entry.Entry]) -> dict[date, float]:
    """What the books say of those days [Wh].

    Raises:
        HistoryError: no database.
    """
    if not entries:
        return {}
    first, end = entries[0].day, entries[-1].day + timedelta(days=1)
    with database().reading() as connection:
        rows = energy.table(connection, board().zone, first, end, "day")
    found = {}
    for row in rows:
        wh = row.wh(flow)
        if wh is not None:
            found[row.first] = wh
    return found


@blueprint.post("/data/days")
def check_days() -> tuple[str, int]:
    """What typed days would change, before they do."""
    flow, entries, wrong, over = _wish()
    try:
        known = _known(flow, entries)
    except HistoryError as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)
    rows = [
        DayRow(
            text.day(entry.day, "full"),
            words.energy(known[entry.day] / 1000) if entry.day in known else words.NONE,
            words.energy(entry.kwh),
            entry.day in known,
            over or entry.day not in known,
        )
        for entry in entries
    ]
    taken = [entry for entry, row in zip(entries, rows, strict=True) if row.is_taken]
    months: dict[str, tuple[float, float]] = {}
    for entry in taken:
        key = text.month(entry.day.replace(day=1))
        more = entry.kwh - known.get(entry.day, 0.0) / 1000
        before, change = months.get(key, (0.0, 0.0))
        months[key] = (before, change + more)
    status = HTTPStatus.OK if not wrong else HTTPStatus.UNPROCESSABLE_ENTITY
    return (
        render_template(
            "data_days.html",
            flow=flow,
            flow_name=FLOW_NAMES[flow],
            rows=rows,
            wrong=wrong,
            over=over,
            typed=request.form.get("days", "")[:64_000],
            taken=len(taken),
            skipped=len(rows) - len(taken),
            months=[(name, words.energy(change)) for name, (_b, change) in months.items()],
            plus=lambda written: written if written.startswith(words.MINUS) else f"+{written}",
        ),
        status,
    )


def _booked(work: Callable[[Connection], T]) -> T:
    """Change the books, all of it or nothing.

    Raises:
        HistoryError: no database.
        EnergyError: it cannot be.
    """
    try:
        return energy.transact(database().engine(), work)
    except (SQLAlchemyError, OSError) as err:
        raise HistoryError(explain(database().url, err)) from err


@blueprint.post("/data/days/save")
def save_days() -> BaseResponse:
    """Write typed days into the books."""
    flow, entries, wrong, over = _wish()
    if wrong:
        _refuse(_("line %(line)s: %(why)s", line=wrong[0].line, why=wrong[0].why))
    reason = request.form.get("reason", "").strip()[:200] or _("typed by hand")
    try:
        known = _known(flow, entries)
        taken = [entry for entry in entries if over or entry.day not in known]
        if not taken:
            _refuse(_("none of these days would change"))
        subject = f"{flow} {taken[0].day} to {taken[-1].day}"
        number = accounts().note(me().name, where().address, "days", subject, "asked", reason)
        changes = data_entry.changes(taken, flow, board().zone)
        try:
            made = _booked(
                lambda connection: energy.edit(
                    connection,
                    board().zone,
                    changes,
                    by=me().name,
                    reason=reason,
                    document={"page": "data", "days": len(taken)},
                ),
            )
        except SunmeshError as err:
            accounts().ended(number, "refused", str(err))
            _refuse(str(err))
        accounts().ended(number, "done", f"edit {made}")
    except (HistoryError, AccountsError) as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)
    return redirect(url_for("data.page", _anchor="days"), HTTPStatus.SEE_OTHER)


@blueprint.post("/data/days/<int:edit>/undo")
def undo_days(edit: int) -> BaseResponse:
    """Take typed days back."""
    try:
        number = accounts().note(
            me().name, where().address, "days", f"edit {edit}", "asked", "undo"
        )
        try:
            _booked(lambda each: energy.undo(each, board().zone, edit, me().name))
        except SunmeshError as err:
            accounts().ended(number, "refused", str(err))
            _refuse(str(err), HTTPStatus.CONFLICT)
        accounts().ended(number, "done", "undone")
    except (HistoryError, AccountsError) as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)
    return redirect(url_for("data.page", _anchor="days"), HTTPStatus.SEE_OTHER)


# -- backups ---------------------------------------------------------------------------------------


@blueprint.post("/data/backup")
def backup() -> BaseResponse:
    """Make one now, and prove it."""
    folder, _rows, wrong = backups()
    if not folder or wrong:
        _refuse(wrong or _("[backup] folder in site.toml names no place for it"))
    made = _start("backup", folder, ["backup", "--config", str(site().path)])
    return redirect(url_for("data.job", number=made.id), HTTPStatus.SEE_OTHER)


def _stored(name: str) -> Path:
    """A backup by its name; nothing else of the disk."""
    try:
        folder = keeping.folder(site())
    except ConfigError as err:
        _refuse(str(err))
    there = keeping.stored(folder, site().site.name) if folder is not None else []
    path = next((each.path for each in there if each.path.name == name), None)
    if path is None:
        abort(HTTPStatus.NOT_FOUND, _("There is no backup of that name."))
    return path


@blueprint.post("/data/backups/<name>/verify")
def verify(name: str) -> BaseResponse:
    """Prove one again."""
    path = _stored(name)
    made = _start("verify", name, ["backup", "--verify", str(path)])
    return redirect(url_for("data.job", number=made.id), HTTPStatus.SEE_OTHER)


@blueprint.get("/data/backups/<name>")
def fetch(name: str) -> BaseResponse:
    """A backup, to be kept elsewhere."""
    path = _stored(name)
    try:
        accounts().note(me().name, where().address, "backup", name, "done", "fetched")
    except AccountsError as err:
        _refuse(str(err), HTTPStatus.SERVICE_UNAVAILABLE)
    return send_file(path.resolve(), "application/zip", as_attachment=True, download_name=name)
