"""The part of ``site.toml`` that is the notifier's: ``[notifier]``, its targets and its routes."""

import re
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from sunmesh.config import Site
from sunmesh.errors import ConfigError
from sunmesh.topics import NAME

LANGUAGES = ("en", "it", "ro", "de", "cs", "es", "fr")
SEVERITIES = ("info", "warning", "critical")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Severity = Literal["info", "warning", "critical"]
Language = Literal["en", "it", "ro", "de", "cs", "es", "fr"]

EMERGENCY_RETRY_S = (30, 10_800)
EMERGENCY_EXPIRE_S = (30, 10_800)
"""What Pushover takes [s]."""


class Hours:
    """A stretch of the local day, such as ``22:30-07:00``; empty = never.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, text: str) -> None:
        """Reads ``text``."""
        self.begin = self.end = 0
        if not text:
            return
        found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text)
        if not found:
            raise ValueError(f'be like "22:30-07:00", got {text!r}')
        first, second, third, fourth = map(int, found.groups())
        self.begin, self.end = 60 * first + second, 60 * third + fourth
        if self.begin == self.end:
            raise ValueError(f"begin and end at different times, got {text!r}")

    def holds(self, local: datetime) -> bool:
        """Whether ``local`` lies inside."""
        minute = 60 * local.hour + local.minute
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


class TargetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[notifier.targets.NAME]``: one way to reach one person.

    Attributes:
        by: ``pushover``, ``catapush`` or ``apprise``.
        token_file: the application's secret at the provider; of ``apprise``: the whole address.
        user: whom Pushover shall reach: the key of a user or a group.
        user_file: the same, in a file.
        recipient: whom Catapush shall reach, as its application knows them.
        app_id: the application at Catapush.
        base_url: the provider; the real one where it is empty.
        phone: only this one of the person's devices (Pushover).
        sounds: by severity (Pushover).
        token_is_shared: others send with the same token, so its quota proves nothing.
        language: of the texts.
        quiet: hours of the night; only critical alarms come through.
        emergency: critical alarms ring until somebody acknowledges them (Pushover).
        emergency_retry_s: how often they ring [s].
        emergency_expire_s: for how long [s].
    """

    by: Literal["pushover", "catapush", "apprise"]
    token_file: str
    user: str = ""
    user_file: str = ""
    recipient: str = ""
    app_id: int = 0
    base_url: str = ""
    phone: str = ""
    sounds: dict[Severity, str] = {}
    token_is_shared: bool = False
    language: Language = "en"
    quiet: str = ""
    emergency: bool = True
    emergency_retry_s: int = 60
    emergency_expire_s: int = 3600

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not self.token_file:
            raise ValueError("token_file must name the file with the secret")
        if self.by == "pushover" and bool(self.user) == bool(self.user_file):
            raise ValueError("user_file must be given, or user, for pushover")
        if self.by == "catapush" and not (self.recipient and self.app_id > 0):
            raise ValueError("recipient must be given, and app_id, for catapush")
        if self.base_url and urlsplit(self.base_url).scheme not in ("http", "https"):
            raise ValueError(f"base_url must start with https://, got {self.base_url!r}")
        for key, (low, high) in {
            "emergency_retry_s": EMERGENCY_RETRY_S,
            "emergency_expire_s": EMERGENCY_EXPIRE_S,
        }.items():
            if not low <= getattr(self, key) <= high:
                raise ValueError(f"{key} must be {low} to {high}, got {getattr(self, key)}")
        _hours("quiet", self.quiet)


class RouteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[notifier.routes]]``: which alarms go to whom. All that match count.

    Attributes:
        to: targets; empty = all.
        severity: this and worse.
        devices: names or patterns such as ``roof-*``; empty = all.
        codes: the same for the alarms' codes.
        hours: only then, in the site's time; empty = always.
        cleared: also say when it is over.
        remind_every_s: until it is acknowledged or over; 0 = never [s].
        reminders: so often at most.
        escalate_to: targets that hear of it when nobody has acknowledged it.
        escalate_after_s: after so long [s].
    """

    to: tuple[str, ...] = ()
    severity: Severity = "warning"
    devices: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    hours: str = ""
    cleared: bool = True
    remind_every_s: float = 14_400.0
    reminders: int = 3
    escalate_to: tuple[str, ...] = ()
    escalate_after_s: float = 900.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.remind_every_s and self.remind_every_s < 60:
            raise ValueError(f"remind_every_s must be 0, or 60 or more, got {self.remind_every_s}")
        if self.reminders < 0:
            raise ValueError(f"reminders must be 0 or more, got {self.reminders}")
        if self.escalate_after_s < 0:
            raise ValueError(f"escalate_after_s must be 0 or more, got {self.escalate_after_s}")
        _hours("hours", self.hours)

    def fits(self, device: str, code: str, severity: str, local: datetime) -> bool:
        """Whether an alarm takes this way at that local time."""
        return (
            SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)
            and self.is_about(device, code)
            and (not self.hours or Hours(self.hours).holds(local))
        )

    def is_about(self, device: str, code: str) -> bool:
        """Whether it is about such an alarm at all."""
        return _one_of(device, self.devices) and _one_of(code, self.codes)


class NotifierConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[notifier]``.

    Attributes:
        state_dir: folder of the outbox; seen from the folder of site.toml.
        portal: where the portal is, for a link in each message.
        targets: by name.
        routes: without any, warnings and worse go to all targets.
        burst: pushes to one target at once; what goes beyond waits and comes as one digest.
        one_more_every_s: how soon one more is allowed [s].
        expire_after_s: what could not be delivered for so long is dropped, unless its alarm is
            still open [s].
        fold_s: a warning of a kind that often follows from another alarm waits so long, for its
            cause may just be found out; critical ones never wait [s].
        follow_grace_s: an alarm whose cause is not there after so long stands for itself [s].
        watch_grace_s: a watch that is away for so long is an alarm; 0 = never [s].
        sign_of_life: weekday and time of the weekly message; empty = none.
        sign_of_life_to: targets; empty = all.
        dead_man_url_file: holds an address that is called while all is well; empty = none.
        dead_man_every_s: how often [s].
        callback_listen: host:port for Catapush's callbacks; empty = none.
        callback_path_file: holds the secret path of that address.
        keep_days: how long the history is kept [d].
        timeout_s: for one answer of a provider [s].
        retry_s: the first pause after a failure; doubled up to an hour [s].
    """

    state_dir: str = "state"
    portal: str = ""
    targets: dict[str, TargetConfig] = {}
    routes: tuple[RouteConfig, ...] = ()
    burst: int = 10
    one_more_every_s: float = 600.0
    expire_after_s: float = 43_200.0
    fold_s: float = 3.0
    follow_grace_s: float = 120.0
    watch_grace_s: float = 60.0
    sign_of_life: str = "mon 09:00"
    sign_of_life_to: tuple[str, ...] = ()
    dead_man_url_file: str = ""
    dead_man_every_s: float = 300.0
    callback_listen: str = ""
    callback_path_file: str = ""
    keep_days: int = 400
    timeout_s: float = 15.0
    retry_s: float = 10.0

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        for key, low in {
            "burst": 1,
            "one_more_every_s": 1,
            "expire_after_s": 60,
            "fold_s": 0,
            "follow_grace_s": 0,
            "watch_grace_s": 0,
            "dead_man_every_s": 10,
            "keep_days": 8,
            "timeout_s": 0.1,
            "retry_s": 0.01,
        }.items():
            if not getattr(self, key) >= low:
                raise ValueError(f"{key} must be {low} or more, got {getattr(self, key)}")
        if self.portal and urlsplit(self.portal).scheme not in ("http", "https"):
            raise ValueError(f"portal must start with http:// or https://, got {self.portal!r}")
        if self.sign_of_life:
            weekly(self.sign_of_life)
        if self.callback_listen:
            if not re.fullmatch(r"\S+:\d{1,5}", self.callback_listen):
                raise ValueError(f"callback_listen must be host:port, got {self.callback_listen!r}")
            if not self.callback_path_file:
                raise ValueError("callback_path_file must be given with callback_listen")
        for name in self.targets:
            if not NAME.fullmatch(name):
                raise ValueError(f"targets must be called 1 to 32 of a-z, 0-9 and -, got {name!r}")
        named = [*self.sign_of_life_to]
        for route in self.routes:
            named += [*route.to, *route.escalate_to]
        for name in named:
            if name not in self.targets:
                raise ValueError(f"routes must name targets, and no target is called {name!r}")


def weekly(text: str) -> tuple[int, int]:
    """Weekday (Monday = 0) and minute of the day of ``mon 09:00``.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([a-z]{3}) ([01]\d|2[0-3]):([0-5]\d)", text.lower())
    if not found or found[1] not in DAYS:
        raise ValueError(f'sign_of_life must be like "mon 09:00", got {text!r}')
    return DAYS.index(found[1]), 60 * int(found[2]) + int(found[3])


class Secrets:
    """What stands in files beside ``site.toml``; never in a log, never in a ``repr``."""

    def __init__(self, site: Site) -> None:
        """Reads nothing yet."""
        self._site = site

    def read(self, key: str, name: str) -> str:
        """The content of the file ``name``.

        Raises:
            ConfigError: it cannot be read, or is empty; ``key`` is named.
        """
        path = self._site.path.parent / name
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else "no text"
            raise ConfigError(
                f"{self._site.path}: {key}: {path} cannot be read ({reason})"
            ) from err
        if not text or any(ord(letter) < 33 for letter in text):
            raise ConfigError(f"{self._site.path}: {key}: {path} must hold one word")
        return text


def notifier_of(site: Site) -> NotifierConfig:
    """``[notifier]`` of the site.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    for name, table in _tables(site).items():
        try:
            msgspec.convert(table, TargetConfig)
        except msgspec.ValidationError:
            try:
                return site.section("notifier", NotifierConfig)
            except ConfigError as err:  # it knows a table by its place only
                text = str(err).replace(".targets[...]", f".targets.{name}", 1)
                raise ConfigError(text) from err
    return site.section("notifier", NotifierConfig)


def _tables(site: Site) -> dict[str, object]:
    """The tables of the targets, as they were written."""
    targets = site.sections.get("notifier", {}).get("targets", {})
    return targets if isinstance(targets, dict) else {}


def state_folder(site: Site, config: NotifierConfig) -> Path:
    """Where the outbox is."""
    return site.path.parent / config.state_dir


def routes_of(config: NotifierConfig) -> tuple[RouteConfig, ...]:
    """The routes, or the one that stands in for none."""
    return config.routes or (RouteConfig(),)


def _hours(key: str, text: str) -> None:
    try:
        Hours(text)
    except ValueError as err:
        raise ValueError(f"{key} must {err}") from err


def _one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
