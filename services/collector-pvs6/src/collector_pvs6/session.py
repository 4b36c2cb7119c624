"""The questions of one round, in either protocol, one after the other."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sunmesh.errors import FrameError, RefusedError

from . import codec, reply
from .codec import Device
from .transport import ANSWER_S, VARIABLES_S, Link, Reply

log = logging.getLogger(__name__)

T = TypeVar("T")

USER = "ssm_owner"
SUPERVISOR_PATH = "/cgi-bin/dl_cgi/supervisor/info"
LIST_PATH = "/cgi-bin/dl_cgi?Command=DeviceList"
LOGIN_PATH = "/auth?login"
INFO_NAMES = (
    *("serialnum", "model", "hwrev", "sw_rev", "uptime", "sys_type"),
    *("ram_usage", "flash_usage", "cpu_usage"),
)
"""Named one by one: asked for everything, a gateway also tells the key of the Wi-Fi."""

INFO_PATH = f"/vars?name={','.join(f'/sys/info/{name}' for name in INFO_NAMES)}&fmt=obj"
LIVE_PATH = "/vars?match=/sys/livedata/&fmt=obj"
DEVICE_PATHS = (
    "/vars?match=/sys/devices/meter/&fmt=obj",
    "/vars?match=/sys/devices/inverter/&fmt=obj",
)
STORAGE_PATHS = (
    "/vars?match=/sys/devices/ess/&fmt=obj",
    "/vars?match=/sys/devices/transfer_switch/&fmt=obj",
)
OLD_SHAPE_BELOW = 61845
"""Builds before it may name a device ``/sys/devices/11/meter/data``."""

OLD_SHAPE_PATHS = ("/vars?match=meter/data&fmt=obj", "/vars?match=inverter/data&fmt=obj")
ATTEMPTS = 3
"""At variables and at the login, which cost a gateway little. A DeviceList is asked for twice."""

RETRY_PAUSE_S = 2.0
DAMAGED = ("json", "empty", "http", "truncated")
"""Answers that are asked for again. A refusal is not: it would only be refused again."""


class Session:
    """Asks a gateway, and asks again where an answer is damaged.

    Args:
        device: its name, for the log.
        link: the wire to it.
    """

    def __init__(self, device: str, link: Link) -> None:
        """Nothing is asked yet."""
        self.counters = link.counters
        self._device = device
        self._link = link
        self._password = ""
        self._replies: list[dict[str, Any]] = []

    def take_replies(self) -> list[dict[str, Any]]:
        """What was answered since the last call, without secrets, as ``decode`` takes it."""
        replies, self._replies = self._replies, []
        return replies

    def supervisor(self) -> Device:
        """Who is there, which every build tells everybody.

        Raises:
            TransportError: no answer; :class:`sunmesh.errors.IdentityError`: another certificate.
            RefusedError: it says no.
            FrameError: damaged, twice.
        """
        return self._until(2, self._ask_supervisor)

    def device_list(self) -> dict[str, Any]:
        """The one answer of older builds, for which a gateway works a minute or longer."""
        return self._until(
            2, lambda: self._took(LIST_PATH, self._link.ask(LIST_PATH, timeout_s=ANSWER_S))
        )

    def variables(self, serial: str, build: int | None) -> dict[str, Any]:
        """All variables that matter, one group at a time; the password is the serial number's end.

        A group that stays damaged is left out of this round, except for that of the house.
        """
        self._password = serial.upper()[-5:]
        cookie = self._login()
        flat: dict[str, Any] = {}
        paths = [LIVE_PATH, INFO_PATH, *DEVICE_PATHS]
        damaged: dict[str, FrameError] = {}
        for attempts_left in reversed(range(ATTEMPTS)):
            damaged = {}
            for path in paths:
                try:
                    body, cookie = self._variables(path, cookie)
                except FrameError as err:
                    damaged[path] = err
                    continue
                if path == INFO_PATH and body.get("/sys/info/sys_type") != "PV-only":
                    paths.extend(each for each in STORAGE_PATHS if each not in paths)
                flat |= body
            paths = list(damaged)
            if not damaged or not attempts_left:
                break
            self._again(*damaged.values())
        if LIVE_PATH in damaged:
            raise damaged[LIVE_PATH]
        if (build or 0) < OLD_SHAPE_BELOW and not any("/sn" in path for path in flat):
            for path in OLD_SHAPE_PATHS:
                flat |= self._variables(path, cookie)[0]
        return flat

    def _variables(self, path: str, cookie: str) -> tuple[dict[str, Any], str]:
        """The variables under ``path``, and the session's cookie, which may be a new one."""
        answer = self._link.ask(path, scheme="https", cookie=cookie, timeout_s=VARIABLES_S)
        if answer.status in (401, 403, 500):  # the session has ended
            self.counters["logins_again"] += 1
            cookie = self._login()
            answer = self._link.ask(path, scheme="https", cookie=cookie, timeout_s=VARIABLES_S)
        try:
            body = self._took(path, answer)
        except FrameError as err:
            if err.kind == "refused":
                raise RefusedError(err.detail) from err
            raise
        if isinstance(body.get("values"), list):
            pairs = [each for each in body["values"] if isinstance(each, dict)]
            body = {str(each.get("name")): each.get("value") for each in pairs}
        return body, cookie

    def _login(self) -> str:
        """A session's cookie. The answer is not archived.

        Raises:
            RefusedError: the password, which is the end of the serial number, is not taken.
            FrameError: no session in the answer.
        """
        return self._until(ATTEMPTS, self._ask_session)

    def _ask_supervisor(self) -> Device:
        found = codec.read(self._took(SUPERVISOR_PATH, self._link.first(SUPERVISOR_PATH))).gateway
        if found is None:
            raise FrameError("shape", "no answer of a supervisor")
        return found

    def _ask_session(self) -> str:
        answer = self._link.ask(LOGIN_PATH, scheme="https", login=(USER, self._password))
        session = answer.cookie or reply.parse(answer.status, answer.data).get("session")
        if not isinstance(session, str) or not session:
            raise FrameError("http", f"HTTP {answer.status}: a login without a session")
        return session

    def _until(self, attempts: int, ask: Callable[[], T]) -> T:
        """What ``ask`` returns, at the latest of so many attempts, the others being damaged.

        Raises:
            RefusedError: it says no.
            FrameError: of the last attempt.
        """
        while True:
            attempts -= 1
            try:
                return ask()
            except FrameError as err:
                if err.kind == "refused":
                    raise RefusedError(err.detail) from err
                if not attempts or err.kind not in DAMAGED:
                    raise
                self._again(err)

    def _again(self, *errors: FrameError) -> None:
        """Count damaged answers and give the gateway a moment."""
        for err in errors:
            self.counters[f"damaged_{err.kind}"] += 1
            log.debug("%s: %s; asking again", self._device, err)
        self.counters["retries"] += len(errors)
        time.sleep(RETRY_PAUSE_S)

    def _took(self, path: str, answer: Reply) -> dict[str, Any]:
        """The JSON of an answer, which is put aside for the archive."""
        record: dict[str, Any] = {"request": f"GET {path}", "status": answer.status}
        text = answer.data.decode("utf-8", "replace")
        try:
            record["body"] = reply.redacted(json.loads(text))
        except (ValueError, RecursionError):
            record["text"] = reply.REMOVED if reply.SECRET.search(text) else text[:4096]
        self._replies.append(record)
        self._link.tap(record, text)
        return reply.parse(answer.status, text)
