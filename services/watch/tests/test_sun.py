"""Against astral, which the simulator uses."""

from datetime import UTC, datetime, timedelta

import pytest
from astral import Observer
from astral.sun import elevation
from watch.sun import elevation_deg


@pytest.mark.parametrize(("latitude", "longitude"), [(43.46, 11.88), (-33.9, 151.2), (64.1, -21.9)])
def test_it_is_where_astral_has_it(latitude, longitude):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(300):
        moment += timedelta(hours=29, minutes=7)
        there = elevation(Observer(latitude, longitude), moment, with_refraction=False)
        assert elevation_deg(moment.timestamp(), latitude, longitude) == pytest.approx(
            there, abs=0.25
        )
