"""The page *Battery*: cells, verdicts, limits; its past; what it says without any of it."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sunmesh import clock as clocks
from sunmesh.messages import Info, Sample, Settings, encode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics
from web.app import create_app
from web.battery import history
from web.battery.book import Turnover, book
from web.battery.history import Hour, Placed, count, habits, placed, trend
from web.battery.pack import beside, cells, pack, packs, where
from web.battery.profile import BatteryProfile
from web.house import Device
from web.live import Memory, State

from .recorded import HOUR_MS, Recorded

TOPICS = Topics("home")
ROME = ZoneInfo("Europe/Rome")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NOW_MS = clocks.epoch_ms(NOW)
DAY_MS = 24 * HOUR_MS
CELLS = [3.330, 3.331, 3.329, 3.338]
VALUES = {
    "battery_voltage_v": 53.3,
    "battery_current_a": -20.0,
    "battery_power_w": -1066.0,
    "battery_soc_percent": 64.0,
    "remaining_capacity_ah": 179.0,
    "cell_voltage_v": CELLS,
    "cell_voltage_spread_v": 0.009,
    "battery_temperature_c": [16, 17],
    "charge_mosfet_on": True,
    "discharge_mosfet_on": False,
    "balancing_cells": [4],
    "cycles": 41,
}
LIMITS = {
    "cell_voltage_low_warning_v": 2.9,
    "cell_voltage_high_warning_v": 3.55,
    "cell_voltage_low_limit_v": 2.5,
    "cell_voltage_high_limit_v": 3.65,
    "charge_current_limit_a": 150.0,
    "charge_current_warning_a": 15.0,
    "cell_difference_warning_v": 0.3,
}
SITE = (
    '[devices.battery]\nfamily = "bms"\n[devices.inverter]\nfamily = "axpert"\n'
    "[battery]\nprice = 3200\nrated_cycles = 6000\n"
)


def plain(text: str) -> str:
    text = text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).replace("&#39;", "'")


def device(name: str = "battery", family: str = "bms", **values) -> Device:
    return Device(name, family, NOW_MS, VALUES | values, state="online")


def state(limits=LIMITS, nameplate=None) -> State:
    ts = clocks.iso(NOW)
    info = Info(ts, "bms", "Daly", "D16", nameplate=nameplate or {"rated_capacity_ah": 280.0})
    return State({"battery": Memory(None, info, Settings(ts, limits), None)})


# -- now -------------------------------------------------------------------------------------------


def test_cells_have_bars_on_a_scale_that_does_not_exaggerate() -> None:
    made = cells([3.330, 3.331, None, 3.329], {2})
    assert [cell.text.split("\N{NO-BREAK SPACE}")[0] for cell in made] == [
        "3.330",
        "3.331",
        "–",
        "3.329",
    ]
    widths = [float(cell.width) for cell in made]
    assert max(widths) - min(w for w in widths if w) < 10  # 2 mV
    assert [cell.is_high for cell in made] == [False, True, False, False]
    assert [cell.is_balancing for cell in made] == [False, True, False, False]
    assert cells([None, None]) == []
    assert not any(cell.is_low or cell.is_high for cell in cells([3.3, 3.3]))


@pytest.mark.parametrize(
    ("soc", "amperes", "capacity", "wanted"),
    [
        (99, -5, 280, "top"),
        (15, 80, 280, "bottom"),
        (60, 3, 280, "rest"),
        (60, 3, None, "working"),
        (60, None, 280, "working"),
        (None, 0.5, None, "rest"),
    ],
)
def test_where_a_battery_is(soc, amperes, capacity, wanted) -> None:
    assert where(soc, amperes, capacity) == wanted


@pytest.mark.parametrize(
    ("spread_mv", "soc", "level", "says"),
    [
        (8, 60, "good", "agree under load"),
        (45, 60, "info", "A little apart"),
        (120, 60, "warning", "Far apart under load"),
        (120, 99, "info", "nearly full"),
        (310, 99, "warning", "further apart than their management allows"),
        (90, 10, "good", "even when nearly empty"),
    ],
)
def test_a_spread_is_judged_by_where_the_battery_is(spread_mv, soc, level, says) -> None:
    volts = [3.300, 3.300 + spread_mv / 1000]
    made = pack(device(cell_voltage_v=volts, battery_soc_percent=soc), state(), "fresh", "2 s ago")
    assert made.verdict_level == level
    assert says in made.verdict


def test_a_pack_in_words() -> None:
    made = pack(device(), state(), "fresh", "2 s ago")
    assert plain(made.headline) == "64 % full, charging with 1.07 kW. 4 cells within 9 mV."
    assert [plain(text) for _, text in made.facts] == ["179 of 280 Ah", "41"]
    assert [switch.level for switch in made.switches] == ["good", "warning"]
    reach = {each.label: each for each in made.reaches}
    assert plain(reach["Cell voltage"].now) == "3.329 V to 3.338 V"
    assert reach["Cell voltage"].level == "good"
    assert reach["Charging current"].level == "warning"  # 20 A, warns above 15 A
    assert plain(reach["Between cells"].limits[0]) == "warns above 300 mV"


def test_what_is_lost_is_not_shown_as_if_it_were_now() -> None:
    made = pack(device(), state(), "lost", "last seen 11:02")
    assert made.soc_text == "–"
    assert made.cells == []
    assert made.verdict == ""
    assert made.headline == "The state of charge is not known now."


def test_makers_limits_come_from_the_site() -> None:
    own = BatteryProfile(cell_low_v=2.8, cell_high_v=3.5)
    (reach,) = [
        each
        for each in pack(device(), state({}), "fresh", "", own).reaches
        if each.label == "Cell voltage"
    ]
    assert plain(reach.limits[0]) == "off below 2.800 V and above 3.500 V"


def test_which_devices_are_batteries() -> None:
    inverter = Device(
        "inverter", "axpert", NOW_MS, {"battery_voltage_v": 52.9, **{"battery_soc_percent": 60}}
    )
    shed = Device("shed", "pl80", NOW_MS, {"battery_voltage_v": 26.1, "battery_soc_percent": 90})
    mine = device()
    assert [d.name for d in packs([inverter, shed, mine])] == ["battery"]
    assert [d.name for d in packs([inverter])] == ["inverter"]
    assert packs([Device("meter", "meter", NOW_MS, {"grid_power_w": 1})]) == []
    assert packs([Device("inverter", "axpert", NOW_MS, {"battery_voltage_v": 0.3})]) == []
    group = device("packs", "group")
    assert [d.name for d in packs([mine, group])] == ["packs", "battery"]
    assert [d.name for d in beside(mine, [inverter, shed, mine])] == ["inverter"]


# -- the past --------------------------------------------------------------------------------------


def hour(at: int, low: float, high: float | None = None, mean: float | None = None) -> Hour:
    high = low if high is None else high
    return Hour(at * HOUR_MS, low, high, (low + high) / 2 if mean is None else mean, high, HOUR_MS)


def test_hours_are_placed_by_charge_and_current() -> None:
    spread = [hour(n, 0.005, 0.045) for n in range(4)]
    soc = [hour(0, 95, 99), hour(1, 15, 30), hour(2, 60), hour(3, 60)]
    amperes = [hour(0, -10), hour(1, 30), hour(2, 1), hour(3, 50)]
    made = placed(spread, soc, amperes, 280)
    assert [each.place for each in made] == ["top", "bottom", "rest", "working"]
    assert [round(each.spread_mv) for each in made] == [45, 45, 25, 25]


def test_a_runaway_cell_is_told_by_its_habit() -> None:
    hours = [Placed(n * HOUR_MS, "top", 50) for n in range(4)]
    rows = {n: [hour(at, 3.4) for at in range(4)] for n in (1, 2, 3)}
    rows[2] = [hour(at, 3.4, 3.46) for at in range(4)]
    found = habits(rows, hours)
    assert plain(found[2].top) == "+40 mV"
    assert [n for n, each in found.items() if each.is_odd] == [2]
    assert found[1].bottom == ""
    assert habits({1: rows[1]}, hours) == {}


def test_charge_is_counted_since_the_battery_was_full() -> None:
    soc = [hour(0, 90, 100), *(hour(n, 80) for n in range(1, 11))]
    amperes = [hour(0, -50), *(hour(n, 14) for n in range(1, 11))]
    made = count(soc, amperes, 280, 11 * HOUR_MS)
    assert made.percent == pytest.approx(50)
    assert made.since == HOUR_MS
    assert made.covered == pytest.approx(1)
    assert count(soc, amperes, None, 0).why
    assert count(soc, [], 280, 0).why
    assert "not full" in count(soc[1:], amperes, 280, 0).why
    assert "missing" in count(soc, amperes[:3], 280, 11 * HOUR_MS).why


def sweeps(per_year: float, noise: float = 0.0, days: int = 300) -> list[history.Sweep]:
    return [
        history.Sweep(
            at * DAY_MS,
            at * DAY_MS + 1,
            "discharge",
            100,
            20,
            200,
            11_000,
            250,
            14_000 * (1 + per_year * at / 365.25 + noise * (-1) ** (at // 10)),
            1.0,
        )
        for at in range(0, days, 10)
    ]


def test_a_trend_is_told_when_it_can_be() -> None:
    found = trend(sweeps(-0.04, 0.01))
    assert found is not None
    assert found.per_year == pytest.approx(-0.04, abs=0.012)
    assert "loses" in history.trend_text(found, [])
    assert "No clear trend" in history.trend_text(trend(sweeps(-0.001, 0.05)), [])
    assert "gain" in history.trend_text(trend(sweeps(0.05)), [])
    assert trend(sweeps(-0.04, days=50)) is None
    assert "there are 5" in history.trend_text(None, sweeps(0, days=50))
    assert trend([sweep._replace(direction="charge") for sweep in sweeps(-0.04)]) is None


def test_the_book_says_what_a_stored_kwh_costs() -> None:
    found = Turnover(100, 1050.0, 1000.0, 1000.0, 100)
    own = BatteryProfile(price=3000, rated_cycles=6000, currency="EUR")
    made = book(found, 10.0, 3, "", own, date(2026, 11, 21))
    told = {entry.label: plain(entry.text) for entry in made.entries}
    assert told["Full cycles"] == "100"
    assert told["Full cycles a year"] == "365"
    assert told["Comes out of what goes in"] == "95 %"
    assert told["A stored kWh costs"] == "€0.050"
    assert told["A stored kWh has cost so far"] == "€3.00"
    assert told["Promised cycles last"] == "16 more years"
    assert made.missing == []


def test_the_book_says_what_it_misses() -> None:
    made = book(Turnover(3, 5.0, 4.0, 4.0, 3), None, 0, "", BatteryProfile(), date(2026, 11, 21))
    assert len(made.missing) == 3
    assert [entry.label for entry in made.entries] == ["Taken out", "Put in"]
    assert book(Turnover(), 10.0, 1, "", BatteryProfile(), date(2026, 11, 21)).entries == ()


@pytest.fixture(params=["sqlite", "mariadb"])
def recorded(request, tmp_path) -> Recorded:
    is_sqlite = request.param == "sqlite"
    url = (
        f"sqlite:///{tmp_path}/history.db" if is_sqlite else request.getfixturevalue("database_url")
    )
    made = Recorded(url)
    yield made
    made.close()


def fill(recorded: Recorded) -> None:
    """A week with a full and an empty stretch each day, three sweeps, one day in the books."""
    start = NOW_MS - 7 * DAY_MS
    start -= start % HOUR_MS
    times = range(start, NOW_MS, HOUR_MS)
    charge = [60, 60, 99, 100, 90, 60, 40, 10]
    for index, volts in enumerate((0.0, 0.0, 0.05), 1):
        name = f"cell_voltage_v/{index}"
        rows = [(ts, 3.3, 3.4 + volts, 3.35) for ts in times]
        recorded.roll("hour", "battery", name, rows)
    for name, rows in {
        "battery_soc_percent": [(ts, charge[n % 8]) for n, ts in enumerate(times)],
        "battery_current_a": [(ts, 1.0) for ts in times],
        "cell_voltage_spread_v": [(ts, 0.004, 0.060, 0.006) for ts in times],
        "battery_temperature_c/1": [(ts, 15, 17, 16) for ts in times],
    }.items():
        recorded.roll("hour", "battery", name, rows)
    for day in range(3):
        recorded.sweep(start + day * DAY_MS, 14_000.0)
    base = NOW_MS - 6 * HOUR_MS
    base -= base % 300_000
    recorded.book("battery_discharge", {base: 100.0, base + 300_000: 30.0}, date(2026, 11, 21))
    recorded.book("battery_charge", {base: 60.0, base + 300_000: 90.0}, date(2026, 11, 21))


def test_the_past_is_read_from_hours(recorded) -> None:
    fill(recorded)
    with recorded.engine.connect() as connection:
        past = history.read(connection, "battery", 280.0, BatteryProfile(), ROME, NOW)
    by = {each.key: plain(each.text) for each in past.spread_by}
    assert by == {"rest": "6 mV", "top": "60 mV", "bottom": "60 mV"}
    assert past.spread is not None
    assert [line.key for line in past.spread.lines] == ["rest", "top", "bottom"]
    assert plain(past.habits[3].top) == "+33 mV"
    assert [plain(each.text) for each in past.warmth] == ["15 to 17 °C in 24 hours"]
    assert past.counted.percent is not None
    assert past.capacity is not None
    assert past.capacity_ah == pytest.approx(14_000 / 52)
    assert sum(float(each.width) > 0 for each in past.soc) == 4
    out = [plain(each.text) for each in past.power_out]  # 1.2 kW and 0.36 kW for 5 minutes
    assert out == ["0.03 kWh", "0.00 kWh", "0.10 kWh"]
    assert plain(past.book.entries[0].text) == "0.13 kWh"


def test_an_empty_database_has_no_past(recorded) -> None:
    with recorded.engine.connect() as connection:
        past = history.read(connection, "battery", None, BatteryProfile(), ROME, NOW)
    assert past.spread is None
    assert past.soc == []
    assert past.book.entries == ()


# -- the page --------------------------------------------------------------------------------------


@pytest.fixture
def portal(board, clock):
    """A portal, and a voice for its devices."""

    def make(rest: str = SITE, database: str = "missing.db"):
        made = board(rest, database)

        def say(name: str, values=VALUES, limits=None) -> None:
            ts = clocks.iso(clock.moment)
            nameplate = {"rated_capacity_ah": 280.0}
            for topic, content in (
                (TOPICS.info(name), Info(ts, "bms", "Daly", "D16", nameplate=nameplate)),
                (TOPICS.telemetry(name), Sample(ts=ts, values=values)),
                (TOPICS.settings(name), Settings(ts, limits or LIMITS)),
            ):
                made.live.hear(Message(topic, encode(content), False, False, 1, 1))

        return create_app(made.site, made).test_client(), say

    return make


def test_the_page_shows_the_battery(portal, tmp_path) -> None:
    recorded = Recorded(f"sqlite:///{tmp_path}/history.db")
    fill(recorded)
    recorded.close()
    client, say = portal(database="history.db")
    say("battery")
    say("inverter", {"battery_voltage_v": 53.0, "battery_soc_percent": 66, "pv_power_w": 10})
    text = plain(client.get("/battery").text)
    for part in (
        "64 % full, charging with 1.07 kW. 4 cells within 9 mV.",
        "Battery the one believed 64 %",
        "Inverter 66 %",
        "Counted here",
        "Spread of the cells, 30 days",
        "its price by all cycles that its maker promises €0.038",
        "warns below 2.900 V and above 3.550 V",
        "Time at each state of charge",
    ):
        assert part in text, part
    assert "style=" not in client.get("/battery").text


def test_the_page_without_a_database_shows_what_is_live(portal) -> None:
    client, say = portal()
    say("battery")
    text = plain(client.get("/battery").text)
    assert "3.338 V" in text
    assert "No history" in text
    assert "Battery book" not in text


def test_the_page_without_a_battery_says_what_to_do(portal) -> None:
    client, _ = portal("")
    text = plain(client.get("/battery").text)
    assert "No battery here" in text
    client, say = portal('[devices.meter]\nfamily = "meter"\n')
    say("meter", {"grid_power_w": 100})
    assert "Connected: Meter" in plain(client.get("/battery").text)


def test_a_silent_battery_is_said_to_be_silent(portal, clock) -> None:
    client, say = portal()
    assert "never seen" in plain(client.get("/battery").text)
    say("battery")
    clock.moment += timedelta(minutes=10)
    text = plain(client.get("/battery").text)
    assert "last seen 13:00" in text
    assert "3.338 V" not in text


@pytest.mark.parametrize("name", ["nobody", "../etc", "<b>x</b>", "x" * 300])
def test_a_pack_that_is_none_is_refused(portal, name) -> None:
    client, say = portal()
    say("battery")
    answer = client.get("/battery", query_string={"pack": name})
    assert answer.status_code == 404
    assert "<b>x</b>" not in answer.text


def test_several_packs_can_be_chosen(portal) -> None:
    client, say = portal(SITE + '[devices.annex]\nfamily = "bms"\n')
    say("battery")
    say("annex", VALUES | {"cell_voltage_v": [3.2, 3.21]})
    assert "aria-current" in client.get("/battery?pack=annex").text
    assert "2 cells within 10 mV." in plain(client.get("/battery?pack=annex").text)


def test_rubbish_in_a_sample_does_not_break_the_page(portal) -> None:
    client, say = portal()
    say(
        "battery",
        {
            "battery_voltage_v": "much",
            "cell_voltage_v": [None, "x", True, 3.3],
            "balancing_cells": ["2", "<i>", None],
            "battery_soc_percent": True,
            "battery_temperature_c": [None],
        },
        {"cell_voltage_low_limit_v": 3.0, "cell_voltage_high_limit_v": 2.0},
    )
    answer = client.get("/battery")
    assert answer.status_code == 200
    assert "<i>" not in answer.text
