"""Accounts, sessions and the audit: the only part of the database that the portal writes.

A cookie's token is stored nowhere, only its SHA-256. Every answer comes from the database or is a
few seconds old; without a database nobody is logged in, and nothing is changed.
"""

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sunmesh import clock
from sunmesh.database.tables import audit, session, user
from sunmesh.errors import RefusedError, SunmeshError

from ..queries import explain
from ..text import _
from .access import ROLES, UNLOCK_MS, may
from .passwords import Hasher, Throttle, checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

log = logging.getLogger(__name__)

NAME = re.compile(r"\w[\w.-]{0,31}")
IDLE_MS = 30 * 86_400_000
"""A session that nobody used for so long is over."""
LONGEST_MS = 180 * 86_400_000
"""And so is one that began so long ago."""
PROOF_MS = 600_000
"""So long after a password was given, controls are unlocked without asking again."""
SEEN_MS = 3_600_000
"""How often a session's last use is written down: each write costs an SD card."""
TRUST_S = 5.0
"""A session is looked up again after that long, should another program have ended it."""
PAUSE_S = 3.0
"""A database that did not answer is left alone for so long: pages must not wait for it."""
KEPT = 1000
MOST_SESSIONS = 50
"""Of one person; the oldest ends."""


class AccountsError(SunmeshError):
    """The database does not answer, or is none of ours yet."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    id: int
    name: str
    role: str
    created: int
    seen: int | None = None
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in.

    Attributes:
        key: of the session: the token's SHA-256.
        proved: when the password was last given [ms].
        unlocked: until when controls are unlocked [ms].
    """

    id: int
    name: str
    role: str
    key: str
    created: int
    seen: int
    proved: int
    unlocked: int

    def may(self, role: str) -> bool:
        """Whether that role is included."""
        return may(self.role, role)

    def unlocked_s(self, now: int) -> float:
        """How long controls stay unlocked [s]; 0 when locked, or the clock was set back."""
        left = self.unlocked - now
        return left / 1000 if 0 < left <= UNLOCK_MS else 0.0

    def is_proved(self, now: int) -> bool:
        """Whether the password was given a moment ago."""
        return 0 <= now - self.proved < PROOF_MS


@dataclass(frozen=True, slots=True)
class Deed:
    """One row of the audit."""

    ms: int
    by: str
    address: str
    action: str
    subject: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's open session; times [ms].

    Attributes:
        key: the token's SHA-256, as it is stored.
        unlocked: until when controls are unlocked.
    """

    key: str
    name: str
    role: str
    created: int
    seen: int
    unlocked: int
    address: str


def key_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_of(token: str) -> str:
    """The mark that a form must carry: only who can read the page of this session knows it."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()[:32]


def plain_name(text: str) -> str:
    """A name as it is stored: small letters, so that nobody is there twice.

    Raises:
        RefusedError: no name.
    """
    name = unicodedata.normalize("NFKC", text).strip().casefold()
    if not NAME.fullmatch(name):
        raise RefusedError(_("a name is 1 to 32 letters, digits, dots and dashes"))
    return name


class Accounts:
    """Who may log in, who is, and what they did.

    Args:
        url: SQLAlchemy URL of the recorder's database.
        now: the clock.
        throttle: of passwords.
    """

    def __init__(
        self,
        url: str,
        now: Callable[[], datetime] = clock.now,
        throttle: Throttle | None = None,
    ) -> None:
        """Nothing connects before the first question."""
        self._url = url
        self._clock = now
        self.throttle = throttle or Throttle()
        self._hasher = Hasher()
        self._engines: dict[bool, Engine] = {}
        self._making = threading.Lock()
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Visitor, float]] = {}
        self._settled = False
        self._failed: tuple[float, str] = (float("-inf"), "")

    @property
    def now_ms(self) -> int:
        """Now [ms since 1970]."""
        return clock.epoch_ms(self._clock())

    # -- connection ------------------------------------------------------------------------------

    def _engine(self, read_only: bool) -> "Engine":
        with self._making:
            if read_only not in self._engines:
                from sunmesh.database.sql import engine

                at = make_url(self._url)
                is_file = at.get_backend_name() == "sqlite"
                if is_file and not Path(at.database or "").is_file():
                    raise AccountsError(
                        _(
                            "there is no database %(name)s yet; the recorder makes it when it "
                            "starts",
                            name=at.database,
                        )
                    )
                self._engines[read_only] = engine(self._url, read_only=read_only)
            return self._engines[read_only]

    @contextmanager
    def open(self, *, write: bool = False) -> "Iterator[Connection]":
        """A transaction.

        Raises:
            AccountsError: no database, or not the recorder's.
        """
        at, why = self._failed
        if time.monotonic() - at < PAUSE_S:
            raise AccountsError(why)
        try:
            with self._engine(not write).begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as err:
            text = explain(self._url, err)
            self._failed = (time.monotonic(), text)
            raise AccountsError(text) from err

    def close(self) -> None:
        """Give back the connections."""
        for engine in self._engines.values():
            engine.dispose()

    # -- people ----------------------------------------------------------------------------------

    def is_settled(self) -> bool:
        """Whether the first account was made.

        Raises:
            AccountsError: no database.
        """
        if not self._settled:
            with self.open() as connection:
                found = connection.execute(select(user.c.id).limit(1)).first()
            self._settled = found is not None
        return self._settled

    def settle(self, name: str, password: str, address: str) -> str:
        """Make the first account, an admin's, and log it in; its token.

        Raises:
            RefusedError: somebody was quicker, or no name.
            PasswordError: no password.
            AccountsError: no database.
        """
        name = plain_name(name)
        encoded = self._hasher.hash(checked(password, name))
        with self._lock, self.open(write=True) as connection:
            if connection.execute(select(user.c.id).limit(1)).first() is not None:
                self._settled = True
                raise RefusedError(_("the first account is made already; log in"))
            number = self._insert(connection, name, encoded, "admin")
            self.note_in(connection, name, address, "set up", name, "done", "the first admin")
            token = self._begin(connection, number, address)
        self._settled = True
        log.info("%s made the first account, from %s", name, address)
        return token

    def add(self, name: str, password: str, role: str, by: str, address: str) -> None:
        """Make an account.

        Raises:
            RefusedError: the name is taken or none, or no such role.
            PasswordError: no password.
            AccountsError: no database.
        """
        name = plain_name(name)
        if role not in ROLES:
            raise RefusedError(_("a role is one of %(roles)s", roles=", ".join(ROLES)))
        encoded = self._hasher.hash(checked(password, name))
        try:
            with self.open(write=True) as connection:
                self._insert(connection, name, encoded, role)
                self.note_in(connection, by, address, "add account", name, "done", role)
        except IntegrityError:
            raise RefusedError(_("there is a %(name)s already", name=name)) from None

    def _insert(self, connection: Connection, name: str, encoded: str, role: str) -> int:
        row = {"name": name, "role": role, "password": encoded, "created": self.now_ms}
        made = connection.execute(insert(user).values(row))
        return int(made.inserted_primary_key[0])  # type: ignore[index]

    def people(self) -> list[Person]:
        """Everybody with an account, by name.

        Raises:
            AccountsError: no database.
        """
        live = session.c.seen > self.now_ms - IDLE_MS
        with self.open() as connection:
            rows = connection.execute(select(user).order_by(user.c.name)).all()
            counts = connection.execute(
                select(session.c.user_id, func.count()).where(live).group_by(session.c.user_id)
            ).all()
        open_ = {int(row[0]): int(row[1]) for row in counts}
        return [
            Person(row.id, row.name, row.role, row.created, row.seen, open_.get(row.id, 0))
            for row in rows
        ]

    def set_role(self, number: int, role: str, by: str, address: str) -> None:
        """Give somebody another role; it counts at once.

        Raises:
            RefusedError: no such role, nobody of that number, or nobody would be admin.
            AccountsError: no database.
        """
        if role not in ROLES:
            raise RefusedError(_("a role is one of %(roles)s", roles=", ".join(ROLES)))
        with self._lock, self.open(write=True) as connection:
            name = self._other_admin_than(connection, number, role != "admin")
            connection.execute(update(user).where(user.c.id == number).values(role=role))
            self.note_in(connection, by, address, "change role", name, "done", role)
        self._forget(number)

    def remove(self, number: int, by: str, address: str) -> None:
        """Remove an account and end its sessions.

        Raises:
            RefusedError: nobody of that number, or nobody would be admin.
            AccountsError: no database.
        """
        with self._lock, self.open(write=True) as connection:
            name = self._other_admin_than(connection, number, True)
            connection.execute(delete(session).where(session.c.user_id == number))
            connection.execute(delete(user).where(user.c.id == number))
            self.note_in(connection, by, address, "remove account", name, "done", "")
        self._forget(number)

    @staticmethod
    def _other_admin_than(connection: Connection, number: int, matters: bool) -> str:
        """The name of that account; refused when it is the only admin and that matters."""
        rows = connection.execute(select(user.c.id, user.c.name, user.c.role)).all()
        mine = next((row for row in rows if row.id == number), None)
        if mine is None:
            raise RefusedError(_("there is no such account any more"))
        if matters and not any(row.role == "admin" and row.id != number for row in rows):
            raise RefusedError(
                _("%(name)s is the only admin; make another one first", name=mine.name)
            )
        return str(mine.name)

    def set_password(self, number: int, password: str, by: str, address: str) -> None:
        """Give somebody another password and end all sessions of that account.

        Raises:
            RefusedError: nobody of that number.
            PasswordError: no password.
            AccountsError: no database.
        """
        with self.open() as connection:
            name = connection.execute(select(user.c.name).where(user.c.id == number)).scalar()
        if name is None:
            raise RefusedError(_("there is no such account any more"))
        encoded = self._hasher.hash(checked(password, str(name)))
        with self.open(write=True) as connection:
            connection.execute(update(user).where(user.c.id == number).values(password=encoded))
            connection.execute(delete(session).where(session.c.user_id == number))
            self.note_in(connection, by, address, "change password", str(name), "done", "")
        self._forget(number)

    def change_password(self, visitor: Visitor, old: str, new: str, address: str) -> None:
        """Another password for oneself, who gives the one before; all sessions end.

        Raises:
            RefusedError: the old one is wrong.
            PasswordError: the new one is none.
            ThrottledError: too many tries.
            AccountsError: no database.
        """
        checked(new, visitor.name)
        self._proved(visitor.name, old, address)
        self.set_password(visitor.id, new, visitor.name, address)

    def rescue(self, name: str, password: str) -> str:
        """Set a password from the portal's own machine; a sentence that says what was done.

        Raises:
            RefusedError: no name.
            PasswordError: no password.
            AccountsError: no database.
        """
        name = plain_name(name)
        with self.open() as connection:
            number = connection.execute(select(user.c.id).where(user.c.name == name)).scalar()
        if number is None:
            self.add(name, password, "admin", "web password", "this machine")
            return f"{name} is a new admin"
        self.set_password(int(number), password, "web password", "this machine")
        return f"{name} has another password; all sessions of {name} have ended"

    # -- sessions --------------------------------------------------------------------------------

    def _proved(self, name: str, password: str, address: str) -> Person:
        """Who that is.

        Raises:
            RefusedError: wrong name or password, without saying which.
            ThrottledError: too many tries.
            AccountsError: no database.
        """
        try:
            name = plain_name(name)
        except RefusedError:
            name = ""
        self.throttle.take(address, name)
        with self.open() as connection:
            row = connection.execute(select(user).where(user.c.name == name)).first()
        if not self._hasher.verify(row.password if row else None, password) or row is None:
            log.warning("a wrong password for %r from %s", name, address)
            self.note(name or "nobody", address, "log in", "", "refused", "wrong name or password")
            raise RefusedError(_("wrong name or password"))
        self.throttle.right(address, name)
        if self._hasher.is_old(row.password):
            encoded = self._hasher.hash(unicodedata.normalize("NFKC", password))
            with self.open(write=True) as connection:
                connection.execute(update(user).where(user.c.id == row.id).values(password=encoded))
        return Person(row.id, row.name, row.role, row.created, row.seen)

    def log_in(self, name: str, password: str, address: str, old: str = "") -> str:
        """Begin a session; its token. The session that the browser had ends.

        Raises:
            RefusedError: wrong name or password.
            ThrottledError: too many tries.
            AccountsError: no database.
        """
        person = self._proved(name, password, address)
        with self.open(write=True) as connection:
            if old:
                connection.execute(delete(session).where(session.c.token == key_of(old)))
            token = self._begin(connection, person.id, address)
            self.note_in(connection, person.name, address, "log in", "", "done", "")
        if old:
            self._known.pop(key_of(old), None)
        return token

    def _begin(self, connection: Connection, number: int, address: str) -> str:
        """A session for somebody whose password was just right; sweeps those that are over."""
        now = self.now_ms
        token = secrets.token_urlsafe(32)
        connection.execute(
            delete(session).where(
                (session.c.seen < now - IDLE_MS) | (session.c.created < now - LONGEST_MS)
            )
        )
        mine = connection.execute(
            select(session.c.token)
            .where(session.c.user_id == number)
            .order_by(session.c.seen.desc())
            .offset(MOST_SESSIONS - 1)
            .limit(KEPT)
        ).scalars()
        if old := list(mine):
            connection.execute(delete(session).where(session.c.token.in_(old)))
        row = {
            "token": key_of(token),
            "user_id": number,
            "created": now,
            "seen": now,
            "proved": now,
            "unlocked": 0,
            "address": address[:64],
        }
        connection.execute(insert(session).values(row))
        connection.execute(update(user).where(user.c.id == number).values(seen=now))
        return token

    def visitor(self, token: str) -> Visitor | None:
        """Who has that token; None = nobody any more.

        Raises:
            AccountsError: no database.
        """
        if not token or len(token) > 200:
            return None
        key = key_of(token)
        known, at = self._known.get(key, (None, 0.0))
        if known is not None and time.monotonic() - at < TRUST_S:
            return known
        with self.open() as connection:
            row = connection.execute(
                select(session, user.c.name, user.c.role)
                .join(user, user.c.id == session.c.user_id)
                .where(session.c.token == key)
            ).first()
        now = self.now_ms
        if row is None or now - row.seen > IDLE_MS or now - row.created > LONGEST_MS:
            self._known.pop(key, None)
            return None
        found = Visitor(
            row.user_id, row.name, row.role, key, row.created, row.seen, row.proved, row.unlocked
        )
        if now - row.seen > SEEN_MS:
            self._change(key, seen=now)
            found = replace(found, seen=now)
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[key] = (found, time.monotonic())
        return found

    def _change(self, key: str, **values: int) -> None:
        with self.open(write=True) as connection:
            connection.execute(update(session).where(session.c.token == key).values(values))
        self._known.pop(key, None)

    def _forget(self, number: int) -> None:
        """What is remembered of that account's sessions."""
        for key, (visitor, _at) in list(self._known.items()):
            if visitor.id == number:
                self._known.pop(key, None)

    def unlock(self, visitor: Visitor, password: str, address: str) -> None:
        """Unlock controls for ten minutes; asks for the password unless it was just given.

        Raises:
            RefusedError: it is wrong.
            ThrottledError: too many tries.
            AccountsError: no database.
        """
        now = self.now_ms
        proof = {}
        if not visitor.is_proved(now):
            self._proved(visitor.name, password, address)
            proof = {"proved": now}
        self._change(visitor.key, unlocked=now + UNLOCK_MS, **proof)
        self.note(visitor.name, address, "unlock", "", "done", "")

    def lock(self, visitor: Visitor) -> None:
        """Lock controls again."""
        self._change(visitor.key, unlocked=0)

    def log_out(self, visitor: Visitor, address: str, *, everywhere: bool = False) -> None:
        """End this session, or all sessions of this account.

        Raises:
            AccountsError: no database.
        """
        mine = session.c.user_id == visitor.id if everywhere else session.c.token == visitor.key
        action = "log out everywhere" if everywhere else "log out"
        with self.open(write=True) as connection:
            connection.execute(delete(session).where(mine))
            self.note_in(connection, visitor.name, address, action, "", "done", "")
        if everywhere:
            self._forget(visitor.id)
        else:
            self._known.pop(visitor.key, None)

    def sessions(self) -> list[Session]:
        """Everybody's open sessions, the last used first.

        Raises:
            AccountsError: no database.
        """
        now = self.now_ms
        live = (session.c.seen > now - IDLE_MS) & (session.c.created > now - LONGEST_MS)
        with self.open() as connection:
            rows = connection.execute(
                select(session, user.c.name, user.c.role)
                .join(user, user.c.id == session.c.user_id)
                .where(live)
                .order_by(session.c.seen.desc())
                .limit(KEPT)
            ).all()
        return [
            Session(row.token, row.name, row.role, row.created, row.seen, row.unlocked, row.address)
            for row in rows
        ]

    def end_session(self, key: str, by: str, address: str) -> str:
        """End one session, at once; whose it was.

        Raises:
            RefusedError: it is over already.
            AccountsError: no database.
        """
        with self.open(write=True) as connection:
            name = connection.execute(
                select(user.c.name)
                .join(session, user.c.id == session.c.user_id)
                .where(session.c.token == key)
            ).scalar()
            if name is None:
                raise RefusedError(_("this session is over already"))
            connection.execute(delete(session).where(session.c.token == key))
            self.note_in(connection, by, address, "end session", str(name), "done", "")
        self._known.pop(key, None)
        return str(name)

    # -- audit -----------------------------------------------------------------------------------

    def note_in(
        self,
        connection: Connection,
        by: str,
        address: str,
        action: str,
        subject: str,
        result: str,
        detail: str,
    ) -> int:
        """As :meth:`note`, within the transaction that does it."""
        row = {
            "ts": self.now_ms,
            "by_whom": by[:64],
            "address": address[:64],
            "action": action[:32],
            "subject": subject[:160],
            "result": result[:16],
            "detail": detail[:4000],
        }
        made = connection.execute(insert(audit).values(row))
        return int(made.inserted_primary_key[0])  # type: ignore[index]

    def note(
        self, by: str, address: str, action: str, subject: str, result: str, detail: str
    ) -> int:
        """Write down what somebody did; the row's number.

        Raises:
            AccountsError: no database.
        """
        with self.open(write=True) as connection:
            return self.note_in(connection, by, address, action, subject, result, detail)

    def ended(self, number: int, result: str, detail: str) -> None:
        """How what was noted has ended.

        Raises:
            AccountsError: no database.
        """
        values = {"result": result[:16], "detail": detail[:4000]}
        with self.open(write=True) as connection:
            connection.execute(update(audit).where(audit.c.id == number).values(values))

    def deeds(self, limit: int = 50) -> Sequence[Deed]:
        """What was done last.

        Raises:
            AccountsError: no database.
        """
        with self.open() as connection:
            rows = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(limit)).all()
        return [
            Deed(row.ts, row.by_whom, row.address, row.action, row.subject, row.result, row.detail)
            for row in rows
        ]
