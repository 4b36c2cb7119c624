"""Times in files: what form they have, and which moment a local one means."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial

EPOCH = datetime(1970, 1, 1)
MILLISECOND = timedelta(milliseconds=1)
HOUR_MS = 3_600_000

EARLIEST = 946_684_800_000
"""The year 2000: nothing of a solar house is older, a clock that was never set is [ms]."""
AHEAD_MS = 300_000
"""How far a reading may be ahead of our clock [ms]."""


class LocalTimes:
    """Local times to UTC, in the order of the file, which tells the repeated hour of autumn.

    A step back inside that hour, in a file that goes forward, begins its second run; a step
    forward in a file that goes back, its first. Where nothing tells, the first is meant: a table
    whose key is the local time kept that one.

    Args:
        zone: of the times.
        once: the file cannot hold the hour twice.
    """

    def __init__(self, zone: tzinfo, once: bool = False) -> None:
        self._zone = zone
        self._once = once
        self._last: datetime | None = None
        self._plain = True
        self._descending = False
        self._second = False
        self._known: dict[datetime, tuple[int, int] | None] = {}

    def ms(self, local: datetime) -> int:
        """The moment that ``local`` means.

        Raises:
            ValueError: the clocks skipped that time.
        """
        half = local.replace(minute=local.minute // 30 * 30, second=0, microsecond=0)
        if half not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[half] = self._offsets(half)
        offsets = self._known[half]
        if offsets is None:
            raise ValueError(f"{local} did not exist there: the clocks went forward")
        first, second = offsets
        last, self._last = self._last, local
        was_plain, self._plain = self._plain, first == second
        if last is not None and last != local and (was_plain or self._plain):
            self._descending = local < last
        if was_plain or self._plain:
            self._second = self._descending
        elif last is not None and local != last and (local < last) != self._descending:
            self._second = not self._descending
        offset = second if self._second and not self._once else first
        return (local - EPOCH) // MILLISECOND - offset

    def _offsets(self, local: datetime) -> tuple[int, int] | None:
        """UTC offsets of the two times called so [ms]; the same twice where it is one."""
        early, late = (
            local.replace(tzinfo=self._zone, fold=fold).utcoffset() or timedelta()
            for fold in (0, 1)
        )
        back = (local.replace(tzinfo=self._zone).astimezone(UTC)).astimezone(self._zone)
        if early != late and back.replace(tzinfo=None) != local:
            return None
        return early // MILLISECOND, late // MILLISECOND


Parser = Callable[[str], int]
"""Text to ms UTC; ValueError where it is none."""

FORMS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%y %H:%M",
    "%d.%m.%Y",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y",
    "%d-%m-%Y %H:%M:%S",
    "%d-%m-%Y %H:%M",
    "%d-%m-%Y",
    "%Y,%m,%d,%H,%M,%S",
)


def is_plausible(ms: int, now_ms: int) -> str | None:
    """Why a time is nonsense; None when it is none."""
    if ms < EARLIEST:
        return f"{text_of(ms)} is before 2000"
    if ms > now_ms + AHEAD_MS:
        return f"{text_of(ms)} is in the future"
    return None


def text_of(ms: int) -> str:
    """As people read it, UTC."""
    try:
        return f"{EPOCH + timedelta(milliseconds=ms):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{ms / 1000:g} s"


def parser(form: str, local: LocalTimes) -> Parser:
    """What reads times of ``form``: ``iso``, ``unix``, ``unix_ms``, ``compact`` or strptime's.

    ``compact`` is digits only, ``YYYYMMDD`` and as much of ``HHMMSS`` as there is.
    """
    if form == "unix":
        return lambda text: round(float(text) * 1000)
    if form == "unix_ms":
        return lambda text: round(float(text))
    if form == "unix_ns":
        return lambda text: int(text) // 1_000_000
    if form == "compact":
        return lambda text: local.ms(_compact(text))
    if form == "iso":
        return lambda text: _iso(text, local)
    if "%z" in form:
        return lambda text: round(datetime.strptime(text.strip(), form).timestamp() * 1000)
    return lambda text: local.ms(datetime.strptime(text.strip(), form))


def _iso(text: str, local: LocalTimes) -> int:
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        return local.ms(moment)
    return (moment.astimezone(UTC).replace(tzinfo=None) - EPOCH) // MILLISECOND


def _compact(text: str) -> datetime:
    text = text.strip()
    if not text.isdecimal() or len(text) not in (8, 10, 12, 14):
        raise ValueError(f"{text!r} is no YYYYMMDDHHMM")
    numbers = [int(text[:4]), *(int(text[at : at + 2]) for at in range(4, len(text), 2))]
    return datetime(*numbers)  # type: ignore[arg-type]


def form_of(texts: Sequence[str]) -> str:
    """The form that all of ``texts`` have.

    Raises:
        ValueError: none of the known, or day and month cannot be told apart.
    """
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        raise ValueError("no time in the first lines")
    for form, pattern in _DIGITS.items():
        if _share(texts, partial(re.fullmatch, pattern)) >= ENOUGH:
            return form
    if _share(texts, datetime.fromisoformat) >= ENOUGH:
        return "iso"
    shares = {form: _share(texts, partial(_strptime, form)) for form in FORMS}
    best = max(shares.values())
    fitting = [form for form, share in shares.items() if share == best]
    if best < ENOUGH:
        raise ValueError(f"{texts[0]!r} has no form that is known; say it, as in %d.%m.%Y %H:%M")
    if len({form.replace("%d", "%m") for form in fitting}) < len(fitting):
        raise ValueError(
            f"day or month first in {texts[0]!r}? Say {fitting[0]!r} or {fitting[1]!r}"
        )
    return fitting[0]


ENOUGH = 0.95
"""Share of the first lines that must have a form: some may be damaged."""
_DIGITS = {
    "compact": r"20\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])(\d{4}|\d{6})?",
    "unix": r"\d{9,10}(\.\d+)?",
    "unix_ms": r"\d{12,13}(\.\d+)?",
    "unix_ns": r"\d{18,19}",
}


def _strptime(form: str, text: str) -> datetime:
    return datetime.strptime(text, form)


def _share(texts: Sequence[str], read: Callable[[str], object]) -> float:
    """Share of ``texts`` that ``read`` understands."""
    good = 0
    for text in texts:
        try:
            good += read(text) is not None
        except (ValueError, OverflowError):
            continue
    return good / len(texts)
