"""Keys of programs: home automation, a wall display, a script. Only their SHA-256 is stored.

A key looks, or looks and commands. It is shown once, when it is made, and is nobody's session: it
opens the API and no page.
"""

import logging
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any

from flask import current_app
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sunmesh.database.tables import api_key
from sunmesh.errors import RefusedError

from .accounts import KEPT, TRUST_S, Accounts, key_of, plain_name

log = logging.getLogger(__name__)

PREFIX = "sunmesh_"
"""So that a key is recognised in a log or a repository where it does not belong."""
HINT = 4
MOST = 50
"""More keys than that are lost, not used."""
SEEN_MS = 3_600_000
"""How often a key's last use is written down: each write costs an SD card."""
DAYS_MS = 86_400_000
LONGEST_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is in force.

    Attributes:
        id: its number.
        name: what it is for; deeds done with it are noted as ``key:<name>``.
        may_write: whether it may command, or only look.
        hint: its last letters.
        by: who made it.
        created, expires, seen: when it was made, when it ends, when it was last used [ms].
        address: from where it was last used.
    """

    id: int
    name: str
    may_write: bool
    hint: str
    by: str
    created: int
    expires: int | None = None
    seen: int | None = None
    address: str = ""

    @property
    def who(self) -> str:
        """As deeds name it."""
        return f"key:{self.name}"

    def is_over(self, now: int) -> bool:
        """Whether it has expired."""
        return self.expires is not None and now >= self.expires


def check(token: str, address: str = "") -> Key | None:
    """The running portal's answer, see :meth:`Keys.check`.

    Raises:
        AccountsError: no database.
    """
    found: Keys = current_app.extensions["keys"]
    return found.check(token, address)


class Keys:
    """Which keys there are, and whose token that is.

    Args:
        accounts: gives the database, the clock and the audit.
    """

    def __init__(self, accounts: Accounts) -> None:
        """Nothing is asked before the first question."""
        self._accounts = accounts
        self._known: dict[str, tuple[Key | None, float]] = {}

    def check(self, token: str, address: str = "") -> Key | None:
        """Which key that is; None = none, or none any more.

        Args:
            token: as it was shown once.
            address: who uses it, to be written down about once an hour.

        Raises:
            AccountsError: no database.
        """
        if not token.startswith(PREFIX) or len(token) > 100:
            return None
        hashed, now = key_of(token), self._accounts.now_ms
        found, at = self._known.get(hashed, (None, float("-inf")))
        if time.monotonic() - at >= TRUST_S:
            with self._accounts.open() as connection:
                row = connection.execute(select(api_key).where(api_key.c.token == hashed)).first()
            found = None if row is None else _key(row)
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[hashed] = (found, time.monotonic())
        if found is None or found.is_over(now):
            return None
        if found.seen is None or not 0 <= now - found.seen < SEEN_MS:
            found = replace(found, seen=now, address=address[:64])
            with self._accounts.open(write=True) as connection:
                connection.execute(
                    update(api_key)
                    .where(api_key.c.id == found.id)
                    .values(seen=now, address=found.address)
                )
            self._known[hashed] = (found, time.monotonic())
        return found

    def all(self) -> list[Key]:
        """Every key, by name.

        Raises:
            AccountsError: no database.
        """
        with self._accounts.open() as connection:
            rows = connection.execute(select(api_key).order_by(api_key.c.name)).all()
        return [_key(row) for row in rows]

    def make(self, name: str, may_write: bool, days: int | None, by: str, address: str) -> str:
        """Make a key; its token, which nobody can be shown again.

        Args:
            name: what it is for.
            may_write: whether it may command.
            days: how long it is in force; None = until it is removed.
            by: whose wish that is.
            address: from where.

        Raises:
            RefusedError: no name, the name is taken, too many keys, an impossible time.
            AccountsError: no database.
        """
        name = plain_name(name)
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise RefusedError(f"a key is in force for 1 to {LONGEST_DAYS} days, or without end")
        now = self._accounts.now_ms
        token = PREFIX + secrets.token_urlsafe(32)
        row = {
            "name": name,
            "token": key_of(token),
            "hint": token[-HINT:],
            "may_write": may_write,
            "by_whom": by[:64],
            "created": now,
            "expires": None if days is None else now + days * DAYS_MS,
            "address": "",
        }
        detail = "may read and command" if may_write else "may read"
        try:
            with self._accounts.open(write=True) as connection:
                count = connection.execute(select(func.count()).select_from(api_key)).scalar()
                if (count or 0) >= MOST:
                    raise RefusedError(f"there are {MOST} keys already; remove one first")
                self._accounts.note_in(connection, by, address, "make key", name, "done", detail)
                connection.execute(insert(api_key).values(row))
        except IntegrityError:
            raise RefusedError(f"there is a key {name} already") from None
        log.info("%s made the key %s, which %s", by, name, detail)
        return token

    def remove(self, number: int, by: str, address: str) -> str:
        """End a key, at once; its name.

        Raises:
            RefusedError: there is none of that number.
            AccountsError: no database.
        """
        with self._accounts.open(write=True) as connection:
            name = connection.execute(select(api_key.c.name).where(api_key.c.id == number)).scalar()
            if name is None:
                raise RefusedError("there is no such key any more")
            self._accounts.note_in(connection, by, address, "remove key", str(name), "done", "")
            connection.execute(delete(api_key).where(api_key.c.id == number))
        self._known.clear()
        return str(name)


def _key(row: Row[Any]) -> Key:
    return Key(
        row.id,
        row.name,
        bool(row.may_write),
        row.hint,
        row.by_whom,
        row.created,
        row.expires,
        row.seen,
        row.address,
    )
