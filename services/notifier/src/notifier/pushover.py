"""Pushover: priorities, emergencies with a receipt, and a quota that proves what was taken.

Facts from pushover.net/api and pushover.net/api/receipts. The API has no key against doubles. What
it has is the number of messages left this month: it is known before each push, and when no answer
came back it is asked again. One less means that the message was taken.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from sunmesh.errors import TransportError

from .config import TargetConfig
from .push import RETRY_AFTER_LIMIT_S, Doubt, Later, Outcome, Push, Refused, Seen, Taken
from .transport import DoubtError, NotSentError, Reply

log = logging.getLogger(__name__)

BASE_URL = "https://api.pushover.net"
BODY_LENGTH, TITLE_LENGTH, URL_LENGTH, URL_TITLE_LENGTH = 1024, 250, 512, 100
EMERGENCY = 2
PRIORITIES = {"info": -1, "warning": 0, "critical": 1}
QUIET_KINDS = {"cleared": -1, "sign_of_life": -1}
"""Good news makes no sound."""
SERVER_PAUSE_S = 5.0
"""After a 5xx nobody may come back earlier."""

Ask = Callable[..., Reply]


class Pushover:
    """One user or group of Pushover.

    Args:
        target: its settings.
        token: of the application.
        user: key of the user or the group.
        ask: the wire.
        timeout_s: for one answer.
        now_s: the time in seconds since 1970.
    """

    def __init__(
        self,
        target: TargetConfig,
        token: str,
        user: str,
        *,
        ask: Ask,
        timeout_s: float,
        now_s: Callable[[], float],
    ) -> None:
        """Nobody is asked yet."""
        self._target = target
        self._token = token
        self._user = user
        self._base = (target.base_url or BASE_URL).rstrip("/")
        self._ask = ask
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._quota = ""
        self.account = f"pushover {self._base} {hash(token)}"
        self.figures: dict[str, int | float | str | None] = {}

    def fields(self, push: Push) -> dict[str, str]:
        """The form that is sent."""
        priority = self.priority(push)
        form = {
            "token": self._token,
            "user": self._user,
            "title": push.title[:TITLE_LENGTH],
            "message": push.body[:BODY_LENGTH] or push.title[:BODY_LENGTH],
            "priority": str(priority),
            "timestamp": str(push.at_ms // 1000),
        }
        if priority == EMERGENCY:
            form["retry"] = str(self._target.emergency_retry_s)
            form["expire"] = str(self._target.emergency_expire_s)
            form["tags"] = push.ref
        sound = self._target.sounds.get(push.severity)  # type: ignore[call-overload]
        if sound and push.kind not in QUIET_KINDS:
            form["sound"] = sound
        if self._target.phone:
            form["device"] = self._target.phone
        if push.url and len(push.url) <= URL_LENGTH:
            form["url"] = push.url
            form["url_title"] = push.url_title[:URL_TITLE_LENGTH]
        return form

    def priority(self, push: Push) -> int:
        """From -2 to 2, as Pushover counts."""
        if push.kind in QUIET_KINDS:
            return QUIET_KINDS[push.kind]
        if push.kind in ("digest", "past"):
            return min(PRIORITIES[push.severity], 0 if push.kind == "past" else 1)
        if push.severity == "critical" and self._target.emergency:
            return EMERGENCY
        return PRIORITIES[push.severity]

    def proof(self) -> str | Later:
        """How many messages are left; asked once, then known from each answer."""
        if self._target.token_is_shared:
            return ""
        if not self._quota:
            asked = self._limits()
            if isinstance(asked, Later):
                return asked
            self._quota = asked
        return self._quota

    def send(self, push: Push) -> Outcome:
        """POST the message."""
        body = urlencode(self.fields(push)).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        before, self._quota = self._quota, ""
        try:
            reply = self._call("POST", "/1/messages.json", body, headers)
        except NotSentError as err:
            self._quota = before
            return Later(str(err))
        except TransportError as err:
            return Doubt(str(err))
        self._note_quota(reply.headers)
        found = _object(reply.body)
        if reply.status == 200 and found.get("status") == 1:
            receipt = str(found.get("receipt") or "")
            return Taken(str(found.get("request", "")), receipt, self._rings_s(push))
        if reply.status == 429:
            return Later(f"the quota is spent: {_errors(found)}", self._wait_s(reply.headers))
        if 400 <= reply.status < 500 or (reply.status == 200 and found.get("status") == 0):
            return Refused(f"Pushover says {reply.status}: {_errors(found)}")
        if 300 <= reply.status < 400:
            return Later(f"somebody answers in Pushover's place: {reply.status}, a redirect")
        return Doubt(f"Pushover says {reply.status}: {_errors(found)}")

    def settle(self, push: Push, proof: str) -> Taken | None | Later:
        """One message less than before: it was taken. Its receipt stays unknown, its tag not."""
        if not proof:
            return None
        now = self._limits()
        if isinstance(now, Later):
            return now
        self._quota = now
        before, after = _quota(proof), _quota(now)
        if before is None or after is None or before[1] != after[1] or after[0] > before[0]:
            return None
        return Taken(rings_s=self._rings_s(push)) if after[0] < before[0] else None

    def _rings_s(self, push: Push) -> float | None:
        is_emergency = self.priority(push) == EMERGENCY
        return float(self._target.emergency_expire_s) if is_emergency else None

    def look(self, receipt: str) -> Seen | Later | Refused:
        """Whether somebody has acknowledged it."""
        path = f"/1/receipts/{quote(receipt, safe='')}.json?{urlencode({'token': self._token})}"
        try:
            reply = self._call("GET", path)
        except TransportError as err:
            return Later(str(err))
        found = _object(reply.body)
        if reply.status == 200 and found.get("status") == 1:
            return Seen(bool(found.get("acknowledged")), bool(found.get("expired")))
        if 400 <= reply.status < 500 and reply.status != 429:
            return Refused(f"Pushover says {reply.status}: {_errors(found)}")
        return Later(f"Pushover says {reply.status}", retry_after(reply.headers))

    def cancel(self, receipt: str, ref: str) -> bool | Later:
        """Stop the ringing, by the receipt or by the tag that was sent along."""
        which = f"{receipt}/cancel" if receipt else f"cancel_by_tag/{quote(ref, safe='')}"
        body = urlencode({"token": self._token}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            reply = self._call("POST", f"/1/receipts/{which}.json", body, headers)
        except TransportError as err:
            return Later(str(err))
        if reply.status == 200:
            return True
        if 400 <= reply.status < 500 and reply.status != 429:
            return False
        return Later(f"Pushover says {reply.status}", retry_after(reply.headers))

    # -- quota -------------------------------------------------------------------------------------

    def _limits(self) -> str | Later:
        """Left and end of the month as the provider says now; empty when it does not say."""
        try:
            reply = self._call("GET", f"/1/apps/limits.json?{urlencode({'token': self._token})}")
        except TransportError as err:
            return Later(str(err))
        found = _object(reply.body)
        if reply.status == 429:
            return Later("too many questions", retry_after(reply.headers))
        if 400 <= reply.status < 500:
            return ""  # the push itself will say what is wrong
        if reply.status != 200 or not isinstance(found.get("remaining"), int):
            return Later(f"Pushover says {reply.status} when asked for its limits")
        self._show(found["remaining"])
        return f"{found['remaining']} {found.get('reset')}"

    def _note_quota(self, headers: Mapping[str, str]) -> None:
        left, reset = headers.get("x-limit-app-remaining"), headers.get("x-limit-app-reset")
        if left is not None and reset is not None and left.isdigit() and reset.isdigit():
            self._show(int(left))
            self._quota = f"{left} {reset}"

    def _show(self, left: int) -> None:
        self.figures["quota_left"] = left

    def _wait_s(self, headers: Mapping[str, str]) -> float | None:
        """Until the quota is filled up again, if nobody says anything better."""
        asked = retry_after(headers)
        if asked is not None:
            return asked
        left, reset = headers.get("x-limit-app-remaining"), headers.get("x-limit-app-reset", "")
        if left == "0" and reset.isdigit():
            return min(max(float(reset) - self._now_s(), SERVER_PAUSE_S), 3600.0)
        return None

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask the provider.

        Raises:
            TransportError: without the token, which stands in the address of a GET.
        """
        try:
            return self._ask(
                method, self._base + path, body=body, headers=headers, timeout_s=self._timeout_s
            )
        except (NotSentError, DoubtError):
            raise
        except ValueError as err:
            raise NotSentError("the address is none") from err


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``Retry-After``, given as such or as a date; None without."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdigit():
        return min(float(text), RETRY_AFTER_LIMIT_S)
    from email.utils import parsedate_to_datetime

    from sunmesh import clock

    try:
        wait_s = (parsedate_to_datetime(text) - clock.now()).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(wait_s, 0.0), RETRY_AFTER_LIMIT_S)


def _quota(text: str) -> tuple[int, str] | None:
    left, _, reset = text.partition(" ")
    return (int(left), reset) if left.isdigit() else None


def _object(body: bytes) -> dict[str, Any]:
    """What the answer says; nothing when it is no JSON object."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _errors(found: dict[str, Any]) -> str:
    errors = found.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(str(each) for each in errors)[:200]
    return "no reason is given"
