"""The audit, read: who changed what, from where, and how it ended."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Select, func, or_, select
from sunmesh import clock
from sunmesh.database.tables import audit

from ..text import N_, _
from .accounts import Accounts, Deed

PAGE = 50
MOST = 20_000
"""Rows of a table that is downloaded."""
COLUMNS = ("time", "by", "from", "what", "of", "result", "detail")

ACTIONS = {
    "set up": N_("made the first account"),
    "add account": N_("made an account for"),
    "change role": N_("gave another role to"),
    "change password": N_("set the password of"),
    "remove account": N_("removed the account of"),
    "log in": N_("logged in"),
    "log out": N_("logged out"),
    "log out everywhere": N_("logged out everywhere"),
    "end session": N_("ended a session of"),
    "unlock": N_("unlocked the controls"),
    "make key": N_("made the key"),
    "remove key": N_("removed the key"),
    "command": N_("asked"),
    "acknowledge": N_("acknowledged"),
    "look for devices": N_("looked for devices"),
    "save set-up": N_("saved the set-up"),
    "record": N_("recorded raw answers of"),
    "stop recording": N_("stopped recording"),
    "support bundle": N_("took a support bundle"),
}
"""What the audit calls deeds, in words; others are shown as they are stored."""

RESULTS = {
    "done": N_("done"),
    "applied": N_("applied"),
    "asked": N_("asked"),
    "refused": N_("refused"),
    "failed": N_("failed"),
    "expired": N_("expired"),
    "not_applied": N_("not applied"),
    "no answer": N_("no answer"),
}


def action(name: str) -> str:
    """A deed in words."""
    return _(ACTIONS[name]) if name in ACTIONS else name


def result(name: str) -> str:
    """How it ended, in words."""
    return _(RESULTS[name]) if name in RESULTS else name


@dataclass(frozen=True, slots=True)
class Page:
    """Some deeds, the newest first.

    Attributes:
        deeds: of this page.
        number: of this page, from 1.
        more: there are older ones.
        people: who ever did something, to choose from.
    """

    deeds: list[Deed]
    number: int
    more: bool
    people: list[str]


def _wanted(by: str, text: str) -> Select[tuple[object, ...]]:
    query = select(audit).order_by(audit.c.id.desc())
    if by:
        query = query.where(audit.c.by_whom == by)
    if text:
        part = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        like = f"%{part.lower()}%"
        query = query.where(
            or_(
                *(
                    func.lower(column).like(like, escape="\\")
                    for column in (
                        audit.c.action,
                        audit.c.subject,
                        audit.c.detail,
                        audit.c.address,
                        audit.c.result,
                    )
                )
            )
        )
    return query


def read(accounts: Accounts, *, by: str = "", text: str = "", number: int = 1) -> Page:
    """One page.

    Args:
        accounts: whose database it is.
        by: only what this one did; empty = everybody.
        text: part of what is stored.
        number: of the page, from 1.

    Raises:
        AccountsError: no database.
    """
    number = min(max(number, 1), 100_000)
    query = _wanted(by, text).limit(PAGE + 1).offset((number - 1) * PAGE)
    with accounts.open() as connection:
        rows = connection.execute(query).all()
        people = connection.execute(
            select(audit.c.by_whom).distinct().order_by(audit.c.by_whom).limit(200)
        ).scalars()
        names = [str(name) for name in people]
    return Page([_deed(row) for row in rows[:PAGE]], number, len(rows) > PAGE, names)


def table(accounts: Accounts, *, by: str = "", text: str = "") -> Iterator[str]:
    """All of it as CSV, the newest first, in pieces; times in UTC.

    Raises:
        AccountsError: no database.
    """
    with accounts.open() as connection:
        rows = connection.execute(_wanted(by, text).limit(MOST)).all()
    yield _csv(COLUMNS)
    for start in range(0, len(rows), 500):
        yield "".join(
            _csv(
                (
                    clock.iso(clock.from_ms(row.ts)),
                    row.by_whom,
                    row.address,
                    row.action,
                    row.subject,
                    row.result,
                    row.detail,
                )
            )
            for row in rows[start : start + 500]
        )


def _csv(cells: tuple[str, ...]) -> str:
    out = io.StringIO()
    # A cell that begins so is a formula to a spreadsheet.
    safe = [f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells]
    csv.writer(out, lineterminator="\r\n").writerow(safe)
    return out.getvalue()


def _deed(row: object) -> Deed:
    return Deed(
        row.ts,  # type: ignore[attr-defined]
        row.by_whom,  # type: ignore[attr-defined]
        row.address,  # type: ignore[attr-defined]
        row.action,  # type: ignore[attr-defined]
        row.subject,  # type: ignore[attr-defined]
        row.result,  # type: ignore[attr-defined]
        row.detail,  # type: ignore[attr-defined]
    )
