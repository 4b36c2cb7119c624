from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from web import text
from web.sentence import Lost, Situation, headline

ROME = ZoneInfo("Europe/Rome")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ROME)


NOON = at("2026-11-21T13:00")
NIGHT = at("2026-11-21T23:10")

TABLE = [
    # -- nothing to speak of
    ({"devices": 0}, "No device yet."),
    ({"devices": 0, "broker": False}, "No contact with the devices: the broker is away."),
    ({}, "Waiting for the first values."),
    ({"lost": [Lost("inverter", "never")]}, "No data from the inverter yet."),
    (
        {"lost": [Lost("inverter", since=at("2026-11-21T12:02"))]},
        "No data from the inverter since 12:02.",
    ),
    (
        {"lost": [Lost("inverter", "offline", at("2026-11-20T22:15"))]},
        "No data from the inverter since yesterday 22:15.",
    ),
    (
        {"lost": [Lost("inverter", since=at("2026-11-21T12:02"))], "broker": False},
        "No data from the inverter since 12:02. The broker is away.",
    ),
    ({"lost": [Lost("inverter", "mismatch")]}, "Another device answers in place of the inverter."),
    ({"lost": [Lost("battery", "sleeping")]}, "The battery sleeps."),
    (
        {"devices": 2, "lost": [Lost("a", since=NOON), Lost("b", since=at("2026-11-21T12:30"))]},
        "No data from the a and the b since 13:00.",
    ),
    (
        {"devices": 3, "lost": [Lost(name, since=NOON) for name in "abc"]},
        "No data from the a and 2 other devices since 13:00.",
    ),
    (
        {"devices": 2, "lost": [Lost("inverter", "never"), Lost("meter", "never")]},
        "No data from the inverter and the meter yet.",
    ),
    (
        {"devices": 3, "lost": [Lost(name, "never") for name in "abc"]},
        "No data from the a and 2 other devices yet.",
    ),
    (
        {"devices": 2, "lost": [Lost("battery", "sleeping"), Lost("roof", "sleeping")]},
        "The battery and the roof sleep.",
    ),
    (
        {"devices": 2, "lost": [Lost("pack a", "mismatch"), Lost("pack b", "mismatch")]},
        "Other devices answer in place of the pack a and the pack b.",
    ),
    # -- one of two is lost
    (
        {"devices": 2, "lost": [Lost("battery", "mismatch")], "load_w": 400, "grid_w": 420},
        "The house runs on the grid. Another device answers in place of the battery.",
    ),
    (
        {"devices": 2, "lost": [Lost("roof", "sleeping")], "load_w": 500, "battery_w": 520},
        "The house runs on its battery. The roof sleeps.",
    ),
    (
        {
            "devices": 2,
            "lost": [Lost("meter", since=at("2026-11-21T12:02"))],
            "pv_w": 900,
            "load_w": 400,
            "battery_w": -450,
            "soc": 50,
        },
        "Sun covers everything. Battery 50 %, charging. No data from the meter since 12:02.",
    ),
    (
        {
            "devices": 2,
            "lost": [Lost("battery", since=at("2026-11-21T12:02"))],
            "pv_w": 0,
            "load_w": 720,
            "grid_w": 35,
        },
        "The house draws 720 W. No data from the battery since 12:02.",
    ),
    # -- sun
    (
        {
            "pv_w": 1500,
            "load_w": 400,
            "battery_w": -1000,
            "soc": 82,
            "full_at": at("2026-11-21T13:38"),
            "grid_present": False,
            "grid_gone_since": at("2026-11-18T09:00"),
        },
        "Sun covers everything. Battery 82 %, full about 13:40. No grid for 3 days.",
    ),
    (
        {"pv_w": 3000, "load_w": 400, "grid_w": -2400, "has_battery": False},
        "Sun covers everything and gives 2.40 kW to the grid.",
    ),
    (
        {
            "pv_w": 600,
            "load_w": 400,
            "battery_w": -150,
            "soc": 40,
            "full_at": at("2026-11-21T23:00"),
            "sunset": at("2026-11-21T16:45"),
        },
        "Sun covers everything. Battery 40 %, charging, not full before sunset.",
    ),
    (
        {"pv_w": 800, "load_w": 780, "battery_w": 0, "soc": 100},
        "Sun covers everything. Battery full.",
    ),
    (
        {"pv_w": 600, "load_w": 1000, "battery_w": 450, "soc": 71},
        "Sun covers 60 %, the battery the rest. Battery 71 %.",
    ),
    (
        {"pv_w": 500, "load_w": 1000, "grid_w": 520, "has_battery": False},
        "Sun covers 50 %, the grid the rest.",
    ),
    (
        {"pv_w": 400, "load_w": 1000, "battery_w": 350, "grid_w": 250, "soc": 30},
        "Sun covers 40 %, battery 35 %, grid 25 %. Battery 30 %.",
    ),
    (
        {"pv_w": 2000, "load_w": 5, "battery_w": -1900, "soc": 60},
        "The house draws next to nothing; the sun charges the battery. Battery 60 %, charging.",
    ),
    (
        {"pv_w": 2000, "load_w": 5, "battery_w": 0, "grid_w": -1900, "soc": 100},
        "The house draws next to nothing; the sun gives 1.90 kW to the grid. Battery full.",
    ),
    (
        {"pv_w": 3000, "load_w": 5, "battery_w": -1000, "grid_w": -1900, "soc": 60},
        "The house draws next to nothing; the sun charges the battery and gives 1.90 kW to the "
        "grid. Battery 60 %, charging.",
    ),
    (
        {
            "pv_w": 900,
            "load_w": 300,
            "battery_w": -550,
            "soc": 20,
            "full_at": at("2026-11-24T12:00"),
        },
        "Sun covers everything. Battery 20 %, charging slowly.",
    ),
    # -- night
    (
        {
            "now": NIGHT,
            "pv_w": 0,
            "load_w": 310,
            "battery_w": 340,
            "soc": 31,
            "empty_at": at("2026-11-22T04:08"),
            "sunrise": at("2026-11-22T06:55"),
        },
        "The house runs on its battery. Battery 31 %, at this load until tomorrow 04:10; "
        "sun from 06:55.",
    ),
    (
        {
            "now": NIGHT,
            "pv_w": 0,
            "load_w": 90,
            "battery_w": 120,
            "soc": 95,
            "empty_at": at("2026-11-24T12:00"),
        },
        "The house runs on its battery. Battery 95 %, at this load for 3 days.",
    ),
    (
        {"now": NIGHT, "pv_w": 0, "load_w": 310, "battery_w": 340, "soc": 8},
        "The house runs on its battery. Battery 8 %, below its reserve.",
    ),
    (
        {
            "pv_w": 0,
            "load_w": 310,
            "battery_w": 340,
            "soc": 31,
            "sunset": at("2026-11-21T16:45"),
            "sunrise": at("2026-11-22T06:55"),
        },
        "The house runs on its battery. Battery 31 %.",
    ),
    (
        {
            "now": NIGHT,
            "pv_w": 0,
            "load_w": 90,
            "battery_w": 120,
            "soc": 95,
            "empty_at": at("2026-11-24T12:00"),
            "sunrise": at("2026-11-22T06:55"),
        },
        "The house runs on its battery. Battery 95 %, at this load for 3 days; sun from 06:55.",
    ),
    (
        {
            "now": NIGHT,
            "pv_w": 0,
            "load_w": 310,
            "battery_w": 340,
            "soc": 31,
            "sunrise": at("2026-11-22T06:55"),
        },
        "The house runs on its battery. Battery 31 %; sun from 06:55.",
    ),
    (
        {"now": NIGHT, "pv_w": 0, "load_w": 310, "battery_w": 1340, "grid_w": -1000, "soc": 90},
        "The battery carries the house and gives 1.00 kW to the grid. Battery 90 %.",
    ),
    # -- grid
    (
        {"pv_w": 0, "load_w": 700, "battery_w": 0, "grid_w": 740, "soc": 22, "grid_present": True},
        "The house runs on the grid. Battery 22 %.",
    ),
    (
        {
            "pv_w": 0,
            "load_w": 700,
            "battery_w": -900,
            "grid_w": 1700,
            "soc": 22,
            "full_at": at("2026-11-21T20:00"),
        },
        "The grid carries the house and charges the battery. Battery 22 %, full about 20:00.",
    ),
    (
        {"pv_w": 300, "load_w": 700, "battery_w": -900, "grid_w": 1400, "soc": 22},
        "Sun and grid carry the house and charge the battery. Battery 22 %, charging.",
    ),
    (
        {"pv_w": 0, "load_w": 1000, "battery_w": 600, "grid_w": 420, "soc": 50},
        "Battery and grid share the house, 60 % from the battery. Battery 50 %.",
    ),
    (
        {"pv_w": 0, "load_w": 300, "battery_w": 320, "soc": 50, "grid_present": False},
        "The house runs on its battery. Battery 50 %. No grid.",
    ),
    (
        {
            "pv_w": 0,
            "load_w": 300,
            "battery_w": 320,
            "soc": 50,
            "grid_present": False,
            "grid_gone_since": at("2026-11-21T10:41"),
        },
        "The house runs on its battery. Battery 50 %. No grid since 10:41.",
    ),
    # -- parts of a house
    ({"pv_w": 1234, "has_battery": False, "has_grid": False}, "The sun gives 1.23 kW."),
    ({"battery_v": 52.14, "has_pv": False, "has_grid": False}, "Battery 52.1 V."),
    ({"load_w": 420}, "The house draws 420 W."),
    ({"load_w": 3, "soc": 70, "battery_w": 12}, "The house draws next to nothing. Battery 70 %."),
    # -- the inverter itself
    ({"mode": "fault", "load_w": 0, "soc": 50}, "The inverter reports a fault. Battery 50 %."),
    ({"mode": "shutdown", "soc": 50}, "The inverter is switched off. Battery 50 %."),
]


def test_the_table_is_large() -> None:
    assert len(TABLE) >= 40
    assert len({wanted for _, wanted in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("facts", "wanted"), TABLE, ids=[wanted for _, wanted in TABLE])
def test_headline(facts, wanted) -> None:
    text = headline(Situation(**({"now": NOON} | facts)))
    assert text.replace("\N{NO-BREAK SPACE}", " ") == wanted


def test_headline_has_no_double_spaces_or_loose_ends() -> None:
    for facts, _ in TABLE:
        text = headline(Situation(**({"now": NOON} | facts)))
        assert "  " not in text
        assert text.endswith(".")
        assert text[0].isupper()


def test_numbers_and_days_are_those_of_the_language() -> None:
    facts = {"pv_w": 3000, "load_w": 400, "grid_w": -2400, "soc": 50, "battery_w": 0}
    lost = [Lost("meter", since=at("2026-11-18T12:02"))]
    with text.use("de"):
        said = headline(Situation(now=NOON, devices=2, lost=lost, **facts))
    assert "2,40" in said
    assert "Mittwoch" in said
