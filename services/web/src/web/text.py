"""What people read, in their language: messages, numbers, dates, money.

Messages are English in the code; ``locale/<language>.po`` says them in the others. The language is
a property of the context (a request, a rendering of the board), not of the process.
"""

import gettext as machinery
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, tzinfo
from functools import cache, lru_cache
from pathlib import Path

from babel import Locale, dates, localedata, numbers
from babel.core import get_global
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES = {
    "en": "English",
    "de": "Deutsch",
    "it": "Italiano",
    "es": "Español",
    "fr": "Français",
    "cs": "Čeština",
    "ro": "Română",
}
"""What the portal speaks, each by its own name."""
DEFAULT = "en"
CATALOGUES = Path(__file__).parent / "locale"
NONE = "–"
"""Written where a value is not known; never a zero."""

_language: ContextVar[str] = ContextVar("language", default=DEFAULT)


def language() -> str:
    """The code of the language spoken here and now."""
    return _language.get()


@contextmanager
def use(code: str) -> Iterator[None]:
    """Speak ``code`` (a key of :data:`LANGUAGES`; else English) inside of the block."""
    token = _language.set(code if code in LANGUAGES else DEFAULT)
    try:
        yield
    finally:
        _language.reset(token)


def speak(code: str) -> None:
    """Speak ``code`` from here on, for the rest of a request."""
    _language.set(code if code in LANGUAGES else DEFAULT)


def choose(wanted: Sequence[str]) -> str:
    """The first of ``wanted`` (``de-AT``, ``pt``, …) that the portal speaks, else English."""
    for code in wanted:
        short = code.replace("_", "-").partition("-")[0].lower()
        if short in LANGUAGES:
            return short
    return DEFAULT


@cache
def _catalogue(code: str) -> machinery.NullTranslations:
    path = CATALOGUES / f"{code}.po"
    if not path.is_file():
        return machinery.NullTranslations()
    with path.open("rb") as source:
        catalogue = read_po(source, locale=code)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return machinery.GNUTranslations(compiled)


UNUSED = (
    *("compact_currency_formats", "compact_decimal_formats", "compound_unit_patterns"),
    *("currency_unit_patterns", "date_fields", "day_period_rules"),
    *("interval_formats", "languages", "measurement_systems", "meta_zones", "ordinal_form"),
    *("scientific_formats", "scripts", "territories", "time_zones", "unit_display_names"),
    *("unit_patterns", "variants", "zone_formats"),
)
"""What is known of each language and said nowhere here: 1 MiB and more of each."""
UNSAID = ("currency_names", "currency_names_plural")
"""The same, but Babel looks into it for each amount."""
UNASKED = (
    *("likely_subtags", "meta_zones", "territory_currencies", "territory_languages"),
    *("territory_zones", "windows_zone_mapping", "zone_aliases", "zone_territories"),
)
"""The same of all of them: 2 MiB."""
BEFORE_EN = ("root", "en", "en_001", "en_GB")


@cache
def _locale(code: str) -> Locale:
    made = Locale.parse("en_GB" if code == "en" else code)  # 24 hours, the day before the month
    for name in BEFORE_EN if code == "en" else ("root", code):
        known = localedata.load(name)
        for key in UNUSED:
            known.pop(key, None)
        known.update({key: {} for key in UNSAID if key in known})
    for key in UNASKED:
        get_global(key).clear()  # type: ignore[arg-type, attr-defined]
    return made


def locale() -> Locale:
    """Babel's locale of the language spoken here."""
    return _locale(language())


# -- messages --------------------------------------------------------------------------------------


def gettext(message: str, **values: object) -> str:
    """``message`` in the language spoken here, with ``%(name)s`` filled in if there are values."""
    text = _catalogue(language()).gettext(message)
    return text % values if values else text


def ngettext(one: str, many: str, num: int, **values: object) -> str:
    """``one`` or ``many`` (or what the language has beside), with ``%(num)d`` and others filled in.

    A whole number above 999 is written as :func:`number` writes it where the message says
    ``%(num)s``.
    """
    text = _catalogue(language()).ngettext(one, many, num)
    return text % {"num": num, **values}


def N_(message: str) -> str:  # noqa: N802 - the name that every extractor knows
    """Marks a constant for the catalogues; translated by :func:`gettext` where it is used."""
    return message


_ = gettext


# -- numbers, dates, money -------------------------------------------------------------------------


_TYPED = re.compile(
    r"""([-+]?)
    (\d{0,400} | \d{1,3}(?:(?P<mark>[ '’.,\u00a0\u202f])\d{3})(?:(?P=mark)\d{3}){0,2})
    (?:(?!(?P=mark))[.,](\d{0,9}))?""",
    re.VERBOSE | re.ASCII,
)


def typed(written: str) -> float | None:
    """A number as people type it: ``0,35``, ``.35``, ``-3``, ``1 250.5``, ``1.250,5``.

    Returns:
        The number; None where it is none, or could be two: groups are of three digits, and not set
        off by what sets off the decimals.
    """
    found = _TYPED.fullmatch(written.strip().replace("\N{MINUS SIGN}", "-"))
    if found is None:
        return None
    sign, whole, _mark, part = found.groups()
    digits = re.sub(r"\D", "", whole)
    if not digits and not part:
        return None
    value = float(f"{sign}{digits or 0}.{part or 0}")
    return value if math.isfinite(value) else None


@cache
def _marks(code: str) -> dict[int, str]:
    """How that language writes Python's own marks of a number."""
    symbols = numbers.get_decimal_symbol(_locale(code)), numbers.get_group_symbol(_locale(code))
    return str.maketrans({".": symbols[0], ",": symbols[1], "-": "\N{MINUS SIGN}"})


def number(value: float | None, digits: int = 0, *, group: bool = True) -> str:
    """``value`` with just ``digits`` decimals, as people here write it; – where it is not known."""
    if value is None:
        return NONE
    text = f"{value:{',' if group else ''}.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")  # nobody writes −0
    return text.translate(_marks(language()))


def percent(share: float | None, digits: int = 0) -> str:
    """``share`` (1 = all) in percent."""
    return NONE if share is None else f"{number(100 * share, digits)}\N{NO-BREAK SPACE}%"


def money(amount: float | None, currency: str, digits: int | None = None) -> str:
    """``amount`` with its currency's sign.

    Args:
        amount: in the currency's main unit.
        currency: ISO 4217 code.
        digits: decimals; None = as many as the currency has.
    """
    return NONE if amount is None else _money(amount, currency, digits, language())


@lru_cache(512)
def _money(amount: float, currency: str, digits: int | None, code: str) -> str:
    spoken, pattern = _locale(code), None
    if digits is not None:
        pattern = spoken.currency_formats["standard"].pattern.partition(";")[0]
        pattern = pattern.replace("0.00", "0." + "0" * digits if digits else "0")
    return numbers.format_currency(
        amount, currency, pattern, locale=spoken, currency_digits=digits is None
    )


STYLES = ("full", "long", "medium", "short")
ALIKE: Mapping[str, Callable[[date], date]] = {
    **dict.fromkeys("Ec", lambda day: date(2024, 1, day.weekday() + 1)),  # that began on a Monday
    **dict.fromkeys("ML", lambda day: date(2024, day.month, 1)),
    "d": lambda day: date(2024, 1, day.day),
    "y": lambda day: date(day.year, 1, 1),
}
"""By the first letter of a field: the day that stands for all in which it reads the same."""


class _Fields:
    """The fields of a date, as the patterns of a language ask for them."""

    __slots__ = ("_code", "_day")

    def __init__(self, day: date, code: str) -> None:
        self._day, self._code = day, code

    def __getitem__(self, name: str) -> str:
        alike = ALIKE.get(name[0])
        return _field(name, alike(self._day) if alike else self._day, self._code)


@lru_cache(1024)
def _field(name: str, day: date, code: str) -> str:
    return dates.DateTimeFormat(day, _locale(code))[name]


@cache
def _pattern(form: str, code: str) -> str:
    """How that language puts a date, with places for its fields."""
    spoken = _locale(code)
    known = spoken.date_formats if form in STYLES else spoken.datetime_skeletons
    return str(known[form if form in known else dates.match_skeleton(form, known)].format)


def day(value: date, form: str = "full") -> str:
    """A date: ``full`` with its weekday, ``long``, ``medium``, ``short``, or a CLDR skeleton.

    A skeleton, such as ``MMMd`` (21 Nov) or ``EEE`` (Sat), is put in the order of the language.
    """
    code = language()
    return _pattern(form, code) % _Fields(value, code)


def weekday(value: date, *, short: bool = False) -> str:
    """``Saturday``, or ``Sat``."""
    return _Fields(value, language())["EEE" if short else "EEEE"]


def month(value: date) -> str:
    """``November 2026``."""
    return day(value, "yMMMM")


def clock(value: datetime, zone: tzinfo | None = None, *, seconds: bool = False) -> str:
    """The time of day, 24 hours: ``13:40``."""
    local = value.astimezone(zone) if zone else value
    return local.strftime("%H:%M:%S" if seconds else "%H:%M")


def moment(value: datetime, zone: tzinfo | None = None) -> str:
    """A date with its time: ``21 Nov 2026, 13:40``."""
    local = value.astimezone(zone) if zone else value
    return f"{day(local.date(), 'medium')}, {clock(local)}"
