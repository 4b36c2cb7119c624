"""Local days, by the clock on the wall."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from sunmesh.database.days import days_between, local_day, midnight

HOUR = 3_600_000


def utc(*moment: int) -> int:
    return round(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("UTC", date(2026, 6, 1), utc(2026, 6, 1), 24),
        ("Europe/Bratislava", date(2026, 3, 29), utc(2026, 3, 28, 23), 23),
        ("Europe/Bratislava", date(2026, 10, 25), utc(2026, 10, 24, 22), 25),
        ("Asia/Kolkata", date(2026, 6, 1), utc(2026, 5, 31, 18, 30), 24),
        ("America/New_York", date(2026, 3, 8), utc(2026, 3, 8, 5), 23),
        ("America/New_York", date(2026, 11, 1), utc(2026, 11, 1, 4), 25),
        ("Asia/Kathmandu", date(2026, 3, 29), utc(2026, 3, 28, 18, 15), 24),
        ("Australia/Lord_Howe", date(2026, 4, 5), utc(2026, 4, 4, 13), 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), utc(2026, 10, 3, 13, 30), 23.5),
        # from 00:00 to 01:00
        ("Africa/Cairo", date(2026, 4, 24), utc(2026, 4, 23, 22), 23),
        # midnight does not come; midnight comes twice
        ("America/Santiago", date(2026, 9, 6), utc(2026, 9, 6, 4), 23),
        ("America/Havana", date(2026, 11, 1), utc(2026, 11, 1, 4), 25),
    ],
)
def test_a_day(zone: str, day: date, begins: int, hours: float) -> None:
    site = ZoneInfo(zone)
    end = begins + round(hours * HOUR)
    assert midnight(day, site) == begins
    assert days_between(begins, begins, site) == []
    assert days_between(begins, end, site) == [(day, begins, end)]
    assert days_between(begins + 1, end - 1, site) == [(day, begins, end)]
    assert local_day(begins, site) == local_day(end - 1, site) == day
    before, same, after = days_between(begins - 1, end + 1, site)
    assert before[2] == begins
    assert same == (day, begins, end)
    assert after[1] == end
