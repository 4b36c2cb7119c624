"""The page *Wall*: Now without controls, dim when the sun is down."""

from datetime import UTC, datetime

import pytest
from sunmesh import clock as clocks
from sunmesh.messages import Sample, encode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics
from web.app import create_app
from web.views.wall import is_night

TOPIC = Topics("home").telemetry("inverter")
VALUES = {"ac_output_power_w": 400, "pv_power_w": 900, "battery_soc_percent": 80}


@pytest.mark.parametrize(
    ("hour", "place", "night"),
    [
        (12, (41.9, 12.5), False),
        (23, (41.9, 12.5), True),
        (16, (41.9, 12.5), True),  # a November afternoon
        (23, (69.6, 18.9), True),
        (12, (69.6, 18.9), False),  # the sun is just below, it is light
        (16, (None, None), False),
        (23, (None, None), True),
        (5, (None, None), True),
    ],
)
def test_night_is_when_the_sun_is_down(hour, place, night) -> None:
    assert is_night(datetime(2026, 11, 21, hour, 30, tzinfo=UTC), *place) is night


@pytest.fixture
def client(board, clock):
    made = board()
    made.live.hear(
        Message(
            TOPIC, encode(Sample(ts=clocks.iso(clock.moment), values=VALUES)), False, False, 1, 1
        )
    )
    return create_app(made.site, made).test_client()


def test_the_wall_has_no_controls(client) -> None:
    text = client.get("/wall").text
    assert "400\N{NO-BREAK SPACE}W" in text
    assert 'data-dim="no"' in text
    for part in ("<form", "<nav", "<button", "style="):
        assert part not in text
    assert text.count("<a ") == 1  # back


@pytest.mark.parametrize(
    ("dim", "wanted"), [("always", "yes"), ("off", "no"), ("<b>", "no"), ("", "no")]
)
def test_how_dim_stands_in_the_address(client, dim, wanted) -> None:
    text = client.get("/wall", query_string={"dim": dim}).text
    assert f'data-dim="{wanted}"' in text
    assert "<b>" not in text


def test_its_inside_comes_alone(client) -> None:
    text = client.get("/wall?part=main").text
    assert text.lstrip().startswith("<div")
    assert "<html" not in text


def test_without_a_device_it_waits(board) -> None:
    made = board("")
    text = create_app(made.site, made).test_client().get("/wall").text
    assert "As soon as a device says something" in text
