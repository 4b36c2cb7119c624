"""Units that files use, and ours: what is the same kind of thing can be converted."""

import re

# unit → (what it measures, factor and offset to the base unit)
_UNITS: dict[str, tuple[str, float, float]] = {
    "W": ("power", 1, 0),
    "kW": ("power", 1e3, 0),
    "MW": ("power", 1e6, 0),
    "mW": ("power", 1e-3, 0),
    "VA": ("apparent power", 1, 0),
    "kVA": ("apparent power", 1e3, 0),
    "var": ("reactive power", 1, 0),
    "kvar": ("reactive power", 1e3, 0),
    "Wh": ("energy", 1, 0),
    "kWh": ("energy", 1e3, 0),
    "MWh": ("energy", 1e6, 0),
    "J": ("energy", 1 / 3600, 0),
    "MJ": ("energy", 1e6 / 3600, 0),
    "varh": ("reactive energy", 1, 0),
    "kvarh": ("reactive energy", 1e3, 0),
    "V": ("voltage", 1, 0),
    "mV": ("voltage", 1e-3, 0),
    "kV": ("voltage", 1e3, 0),
    "A": ("current", 1, 0),
    "mA": ("current", 1e-3, 0),
    "Ah": ("charge", 1, 0),
    "mAh": ("charge", 1e-3, 0),
    "Hz": ("frequency", 1, 0),
    "kHz": ("frequency", 1e3, 0),
    "%": ("ratio in percent", 1, 0),
    "°C": ("temperature", 1, 0),
    "°F": ("temperature", 5 / 9, -160 / 9),
    "K": ("temperature", 1, -273.15),
    "W/m²": ("irradiance", 1, 0),
    "kW/m²": ("irradiance", 1e3, 0),
    "s": ("time", 1, 0),
    "min": ("time", 60, 0),
    "h": ("time", 3600, 0),
    "d": ("time", 86400, 0),
    "°": ("angle", 1, 0),
    "KiB": ("memory", 1, 0),
    "": ("a bare number", 1, 0),
}
_SPELLINGS = {
    "c": "°C",
    "degc": "°C",
    "ºc": "°C",
    "degf": "°F",
    "ºf": "°F",
    "percent": "%",
    "w/m2": "W/m²",
    "watt": "W",
    "watts": "W",
    "volt": "V",
    "volts": "V",
    "amp": "A",
    "amps": "A",
    "deg": "°",
}
_FOLDED = {
    unit.casefold(): unit for unit in _UNITS if unit not in ("mW", "mV", "mA", "mAh", "MJ", "s")
} | _SPELLINGS
_BRACKETED = re.compile(r"[(\[]\s*([^()\[\]]{1,12}?)\s*[)\]]\s*$")


def known(text: str) -> str | None:
    """The unit that ``text`` means; None when it is none that is known."""
    text = text.strip()
    if text in _UNITS:
        return text
    return _FOLDED.get(text.casefold())


def in_header(name: str) -> tuple[str, str | None]:
    """A column's name and the unit in brackets behind it: ``PV power [kW]``."""
    found = _BRACKETED.search(name)
    unit = known(found[1]) if found else None
    return (name[: found.start()].strip(), unit) if found and unit is not None else (name, None)


def conversion(given: str, wanted: str) -> tuple[float, float]:
    """Factor and offset that make ``given`` into ``wanted``.

    Raises:
        ValueError: they measure different things, or one is not known.
    """
    unit = known(given)
    if unit is None:
        raise ValueError(f"{given!r} is no unit that is known; give a factor instead")
    kind, factor, offset = _UNITS[unit]
    other, down, shift = _UNITS[known(wanted) or wanted]
    if kind != other:
        raise ValueError(f"{unit or 'no unit'} is {kind}, {wanted or 'no unit'} is {other}")
    return factor / down, (offset - shift) / down
