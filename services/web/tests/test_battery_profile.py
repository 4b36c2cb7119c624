"""``[battery]``: what is taken, and what is refused in words."""

import pytest
from sunmesh.errors import ConfigError
from web.battery.profile import BatteryProfile


def test_it_may_be_left_out(site) -> None:
    assert site().section("battery", BatteryProfile) == BatteryProfile()


def test_what_stands_there_is_read(site) -> None:
    text = (
        "[battery]\nprice = 3200\ncapacity_kwh = 14.3\nrated_cycles = 6000\n"
        "installed = 2024-05-01\n"
    )
    profile = site(text).section("battery", BatteryProfile)
    assert (profile.price, profile.capacity_kwh, profile.rated_cycles) == (3200, 14.3, 6000)
    assert profile.installed is not None
    assert profile.installed.isoformat() == "2024-05-01"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("price = -1", "price: must be above 0"),
        ("capacity_kwh = 0", "capacity_kwh: must be above 0"),
        ("capacity_kwh = inf", "capacity_kwh: must be above 0"),
        ('currency = "€"', "three letters"),
        ("rated_cycles = 0", "rated_cycles: must be 1"),
        ("cells = 1000", "cells: must be 1"),
        ("cell_low_v = 3.6\ncell_high_v = 2.5", "cell_low_v: must be below"),
        ('chemistry = "gold"', "gold"),
        ("colour = 1", "colour"),
    ],
)
def test_nonsense_is_refused(site, line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        site(f"[battery]\n{line}\n").section("battery", BatteryProfile)
