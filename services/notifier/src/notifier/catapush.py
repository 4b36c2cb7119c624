"""Catapush: messages by REST, and what became of them by callback where that can reach us.

Facts from catapush.com/docs-api and public callers. The API offers nothing against doubles; where
callbacks arrive they name our reference, which proves that a message was taken.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from sunmesh.errors import TransportError

from .config import TargetConfig
from .push import Doubt, Later, Outcome, Plain, Push, Refused, Taken
from .pushover import Ask, retry_after
from .transport import NotSentError

BASE_URL = "https://api.catapush.com"
TEXT_LENGTH, LINE_LENGTH = 2000, 200


class Catapush(Plain):
    """One recipient of an application at Catapush.

    Args:
        target: its settings.
        token: the access token.
        ask: the wire.
        timeout_s: for one answer.
        heard: whether a callback has named this reference; None = no callbacks reach us.
    """

    def __init__(
        self,
        target: TargetConfig,
        token: str,
        *,
        ask: Ask,
        timeout_s: float,
        heard: Callable[[str], bool] | None,
    ) -> None:
        """Nobody is asked yet."""
        self._target = target
        self._token = token
        self._base = (target.base_url or BASE_URL).rstrip("/")
        self._ask = ask
        self._timeout_s = timeout_s
        self._heard = heard
        super().__init__(f"catapush {self._base} {hash(token)}")

    def content(self, push: Push) -> dict[str, Any]:
        """The JSON that is sent."""
        parts = [push.title, push.body, push.url]
        return {
            "mobileAppId": self._target.app_id,
            "text": "\n".join(part for part in parts if part)[:TEXT_LENGTH],
            "notificationText": push.title[:LINE_LENGTH],
            "recipients": [{"identifier": self._target.recipient, "messageRef": push.ref}],
        }

    def send(self, push: Push) -> Outcome:
        """POST the message; 201 is the only yes."""
        try:
            reply = self._ask(
                "POST",
                f"{self._base}/1/messages",
                body=msgspec.json.encode(self.content(push)),
                headers={
                    "Content-Type": "application/json",
                    "Authorization": f"Bearer {self._token}",
                },
                timeout_s=self._timeout_s,
            )
        except NotSentError as err:
            return Later(str(err))
        except TransportError as err:
            return Doubt(str(err))
        try:
            found = msgspec.json.decode(reply.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = None
        if reply.status == 201:
            return Taken(_first_id(found))
        if reply.status == 429:
            return Later("Catapush wants a pause", retry_after(reply.headers))
        if 400 <= reply.status < 500:
            return Refused(f"Catapush says {reply.status}: {_reason(found)}")
        if 300 <= reply.status < 400:
            return Later(f"somebody answers in Catapush's place: {reply.status}, a redirect")
        if reply.status == 200 and isinstance(found, dict) and not _first_id(found):
            return Refused(f"Catapush says 200 and not 201: {_reason(found)}")
        return Doubt(f"Catapush says {reply.status}: {_reason(found)}")

    def settle(self, push: Push, _proof: str) -> Taken | None | Later:
        """A callback has named it, or nobody can tell."""
        return Taken() if self._heard is not None and self._heard(push.ref) else None


def _first_id(found: object) -> str:
    """The message's UUID, wherever in the answer it stands."""
    if isinstance(found, dict):
        own = found.get("id") or found.get("messageId")
        if isinstance(own, str | int):
            return str(own)
        return next((each for value in found.values() if (each := _first_id(value))), "")
    if isinstance(found, list):
        return next((each for value in found if (each := _first_id(value))), "")
    return ""


def _reason(found: object) -> str:
    if isinstance(found, dict):
        for key in ("detail", "message", "error", "title", "errors"):
            if found.get(key):
                return str(found[key])[:200]
    return "no reason is given"
