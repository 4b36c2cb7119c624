"""Time as the mesh writes it: UTC, milliseconds, ``Z``."""

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, UTC, cut to milliseconds as every message carries it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """``moment`` as ``2026-11-21T12:00:00.123Z``.

    Raises:
        ValueError: ``moment`` carries no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """The moment that an ISO 8601 text with a zone names, in UTC.

    Raises:
        ValueError: not ISO 8601, or without a zone (a local time means nothing to another host).
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it with a final Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError as err:
        raise ValueError(f"{text!r} is no year of ours") from err


def epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970-01-01 UTC."""
    return round(moment.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    """The moment that many milliseconds after 1970-01-01 UTC."""
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)
