"""Sun, panels, weather, grid and load: functions of time, checked against values from books."""

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator import grid, load, noise, pv, sun, weather

ROME = ZoneInfo("Europe/Rome")
MOMENTS = st.floats(1.6e9, 2.0e9)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("moment", "elevation", "azimuth"),
    [
        # NOAA's solar calculator for 43.46 N, 11.88 E
        ("2026-06-21T11:14", 69.97, 180.0),
        ("2026-12-21T11:10", 23.10, 180.0),
        ("2026-03-20T11:20", 46.5, 180.0),
    ],
)
def test_the_sun_stands_where_it_stands(moment, elevation, azimuth):
    east, north, up = sun.sun_path(43.46, 11.88)(at(moment))
    assert math.degrees(math.asin(up)) == pytest.approx(elevation, abs=0.3)
    assert math.degrees(math.atan2(east, north)) % 360 == pytest.approx(azimuth, abs=1.5)


def test_between_two_nodes_the_sun_is_where_the_library_says():
    from astral import Observer
    from astral.sun import zenith_and_azimuth

    path = sun.sun_path(43.46, 11.88)
    for second in range(0, 86_400, 1234):
        t = at("2026-05-05T00:00") + second
        zenith, azimuth = zenith_and_azimuth(
            Observer(43.46, 11.88, 0.0), datetime.fromtimestamp(t, UTC), with_refraction=False
        )
        exact = sun.direction(azimuth, 90 - zenith)
        here = path(t)
        length = math.hypot(*here)
        assert length == pytest.approx(1.0, abs=7e-5)
        cosine = sum(a * b for a, b in zip(here, exact, strict=True)) / length
        assert cosine > math.cos(math.radians(0.02))


def test_a_cloudless_sky_gives_what_the_formula_gives():
    beam, diffuse = sun.clear_sky(1.0)  # overhead: air mass 1, 1353 x 0.7
    assert beam == pytest.approx(947.1, abs=0.5)
    assert beam + diffuse == pytest.approx(1042, abs=5)
    beam, _ = sun.clear_sky(math.sin(math.radians(30)))  # air mass 2: 1353 x 0.7 ^ 1.6
    assert beam == pytest.approx(765, abs=8)
    assert sun.clear_sky(0.0) == sun.clear_sky(-0.5) == (0.0, 0.0)


def test_a_plane_that_looks_at_the_sun_gets_the_whole_beam():
    towards = sun.direction(180, 40)
    assert sun.on_plane(800, 0, towards, sun.normal(180, 50)) > 800  # and light off the ground
    assert sun.on_plane(800, 0, towards, sun.normal(0, 90)) == pytest.approx(
        800 * math.sin(math.radians(40)) * 0.1
    )


def test_a_string_in_full_sun_gives_its_rating_less_heat_and_wiring():
    offer = pv.offer(pv.Array(10, 180, 30), 1000.0, -5.0)  # 25 °C in the cell
    assert offer.power_w == pytest.approx(4100 * 0.96)
    assert offer.mpp_v == pytest.approx(312.0)
    hot = pv.offer(pv.Array(10, 180, 30), 1000.0, 35.0)
    assert hot.power_w < offer.power_w * 0.87
    assert hot.mpp_v < offer.mpp_v


@given(st.floats(0, 1300), st.floats(-30, 45), st.floats(0, 1))
def test_a_curtailed_string_stays_between_maximum_and_open_voltage(light, air, part):
    offer = pv.offer(pv.Array(8, 180, 30), light, air)
    volts, amperes = offer.at(offer.power_w * part)
    assert offer.mpp_v - 1e-9 <= volts <= offer.open_v + 1e-9
    assert amperes >= 0.0
    assert volts * amperes == pytest.approx(offer.power_w * part, abs=1e-6)


@given(MOMENTS, st.integers(0, 1000))
def test_weather_is_possible_weather(t, seed):
    sky = weather.sky(seed, t, 43.46, 11.88)
    assert 0.0 <= sky.cover <= 1.0
    assert -15.0 < sky.temperature_c < 42.0
    assert 0.0 <= sky.beam_part() <= 1.0
    assert sky.diffuse_part() >= 1.0


def test_any_moment_can_be_reached_in_any_order():
    moments = [1.79e9 + i * 977.0 for i in range(300)]
    load_at = load.load_curve(3, ROME)
    forward = [(weather.cover(3, t), load_at(t, 10.0), grid.is_out(3, t, 0.5)) for t in moments]
    noise._node.cache_clear()
    load_at = load.load_curve(3, ROME)
    backward = [
        (weather.cover(3, t), load_at(t, 10.0), grid.is_out(3, t, 0.5)) for t in reversed(moments)
    ]
    assert forward == backward[::-1]


def test_there_are_clear_mixed_and_grey_days():
    days = [
        sum(weather.cover(7, 1.79e9 + day * 86_400 + i * 1800) for i in range(48)) / 48
        for day in range(200)
    ]
    assert sum(mean < 0.1 for mean in days) > 30
    assert sum(mean > 0.6 for mean in days) > 20
    assert sum(0.1 <= mean <= 0.6 for mean in days) > 40


@given(MOMENTS)
def test_the_grid_keeps_to_its_standard_or_is_gone(t):
    now = grid.at(7, t, 0.1, 230.0, 50.0)
    if now.is_present:
        assert 207 <= now.voltage_v <= 253  # EN 50160: ±10 %
        assert 49.9 <= now.frequency_hz <= 50.1
    else:
        assert now == grid.OUTAGE


def test_outages_come_as_often_as_asked():
    minutes = [grid.is_out(7, 1.7e9 + minute * 60.0, 0.2) for minute in range(200 * 1440)]
    outages = sum(b and not a for a, b in zip(minutes, minutes[1:], strict=False))
    assert 25 <= outages <= 55  # 200 days x 0.2
    assert not any(grid.is_out(7, 1.7e9 + hour * 3600.0, 0.0) for hour in range(5000))


def test_people_rise_later_at_weekends():
    def mean(days: range, hours: range) -> float:
        seconds = [d * 86_400 + h * 3600 + m * 60 for d in days for h in hours for m in range(60)]
        return sum(curve(float(s), 18.0) for s in seconds) / len(seconds)

    curve = load.load_curve(7, ZoneInfo("UTC"))
    saturdays = range(20_603, 20_603 + 7 * 12, 7)
    tuesdays = range(20_606, 20_606 + 7 * 12, 7)
    assert datetime.fromtimestamp(saturdays[0] * 86_400, UTC).weekday() == 5
    assert datetime.fromtimestamp(tuesdays[0] * 86_400, UTC).weekday() == 1
    assert mean(tuesdays, range(6, 8)) > mean(saturdays, range(6, 8))
    assert mean(saturdays, range(9, 14)) > mean(tuesdays, range(9, 14))


def test_the_load_follows_local_time_over_the_change_of_clocks():
    curve = load.load_curve(7, ROME)
    plain = load.load_curve(7, ZoneInfo("UTC"))
    summer, winter = at("2026-07-01T17:00"), at("2026-12-01T18:00")
    for start in (summer, winter):  # 19:00 in Rome both times
        offset = ROME.utcoffset(datetime.fromtimestamp(start, ROME).replace(tzinfo=None))
        shift = offset.total_seconds()
        here = [curve(start + i * 60, 18.0) > 1500 for i in range(60)]
        there = [plain(start + shift + i * 60, 18.0) > 1500 for i in range(60)]
        assert sum(a == b for a, b in zip(here, there, strict=True)) > 54


def test_cold_and_heat_cost():
    def mean(air: float) -> float:
        return sum(load.heat_pump_w(i * 60.0, air) for i in range(1000)) / 1000

    assert mean(18) == 0.0
    assert 350 < mean(4) < 450
    assert mean(-40) == load.HEAT_PUMP_W
    assert mean(30) > 400


@given(st.integers(0, 2**63), st.lists(st.integers(-(2**40), 2**40), max_size=4))
def test_chance_is_a_function(seed, place):
    assert 0.0 <= noise.uniform(seed, *place) < 1.0
    assert noise.uniform(seed, *place) == noise.uniform(seed, *place)


def test_chance_is_even():
    draws = [noise.uniform(7, 1, i) for i in range(4000)]
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.02)
    assert all(380 - 60 < sum(k / 10 <= d < (k + 1) / 10 for d in draws) < 480 for k in range(10))


def test_the_first_value_of_a_node_is_the_uniform_one():
    assert noise.smooth(7, 101, 5 * 60.0, 60.0) == noise.uniform(7, 101, 5)
