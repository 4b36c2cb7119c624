import json
import threading
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sunmesh.clock import iso
from sunmesh.messages import Alarm, Info, Sample, ServiceStatus, Settings, Status, encode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics
from web import board as board_module
from web import text
from web.board import Tile, slots
from web.live import Decision

TOPICS = Topics("home")
ROME = ZoneInfo("Europe/Rome")
VALUES = {
    "grid_voltage_v": 0.0,
    "ac_output_power_w": 400,
    "battery_voltage_v": 52.0,
    "battery_charge_current_a": 10,
    "battery_discharge_current_a": 0,
    "battery_power_w": -520,
    "battery_soc_percent": 80,
    "pv_power_w": 1000,
    "device_mode": "battery",
    "warnings": ["pv_loss", "overload"],
}


@pytest.fixture
def say(clock):
    """Publishes into a board's memory, as the broker would."""

    def publish(board, topic: str, content, *, retain: bool = False) -> None:
        payload = encode(content) if not isinstance(content, bytes) else content
        board.live.hear(Message(topic, payload, retain, False, 1, 1))

    return publish


@pytest.fixture
def sample(say, clock):
    def publish(board, device: str = "inverter", quality=None, **values) -> None:
        content = Sample(ts=iso(clock.moment), values=VALUES | values, quality=quality or {})
        say(board, TOPICS.telemetry(device), content)

    return publish


@pytest.fixture(autouse=True)
def started_long_ago(monkeypatch) -> None:
    monkeypatch.setattr(board_module, "GRACE_S", -1.0)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def titles(view) -> list[str]:
    return [banner.title for banner in view.banners]


def test_no_device(board) -> None:
    view = board(rest="").view()
    assert view.state == "empty"
    assert view.sentence == "No contact with the devices: the broker is away."
    assert titles(view) == ["The broker does not answer"]
    assert view.picture.nodes == ()
    assert view.battery is None
    assert view.tiles == []


def test_a_configured_device_that_never_spoke(board) -> None:
    made = board()
    view = made.view()
    assert view.state == "waiting"
    assert view.sentence == "No data from the inverter yet. The broker is away."
    assert view.devices[0].last_seen == "never seen; look at collector-axpert"


def test_a_whole_house(board, sample) -> None:
    made = board()
    sample(made)
    view = made.view()
    assert view.state == "data"
    assert plain(view.sentence) == "Sun covers everything. Battery 80 %, charging. No grid."
    texts = {node.key: plain(node.text) for node in view.picture.nodes}
    assert texts == {
        "pv1": "1.00 kW",
        "grid": "–",
        "load": "400 W",
        "battery": "520 W",
        "inverter": "80 W",
    }
    battery = view.battery
    assert (battery.soc, battery.level, battery.direction) == ("80", "80", "charging")
    assert plain(f"{battery.watts} {battery.volts} {battery.amperes}") == "520 W 52.0 V 10.0 A"
    (device,) = view.devices
    assert device.freshness == "fresh"
    assert plain(device.warnings) == "1 warning", "no sun at night is none"


def test_every_text_on_the_page_has_its_slot(board, sample) -> None:
    made = board()
    sample(made, quality={"pv_power_w": "suspect"})
    texts = slots(made.view())
    assert texts["node.pv1.text"].startswith("1.00")
    assert texts["edge.pv1.state"] == "in medium"
    assert texts["device.inverter.pv_power_w.q"] == "suspect"
    assert texts["device.inverter.state"] == "fresh"
    assert all(isinstance(text, str) for text in texts.values())


def test_values_change_slots_and_not_the_layout(board, sample) -> None:
    made = board()
    sample(made)
    first = made.view()
    sample(made, pv_power_w=1100, battery_soc_percent=81)
    second = made.view()
    assert first.layout == second.layout
    changed = {key for key, text in slots(second).items() if slots(first)[key] != text}
    assert {"node.pv1.text", "battery.soc"} <= changed
    sample(made, warnings=[])
    assert made.view().layout != first.layout


def test_age_turns_green_amber_red(board, sample, clock) -> None:
    made = board()
    sample(made)
    found = []
    for seconds in (0, 9.9, 10, 24.9, 25):
        clock.moment += timedelta(seconds=seconds) - (
            clock.moment - datetime(2026, 11, 21, 12, 0, tzinfo=clock.moment.tzinfo)
        )
        found.append(made.view().devices[0].freshness)
    assert found == ["fresh", "fresh", "late", "late", "lost"]
    view = made.view()
    assert view.devices[0].last_seen == "last seen 13:00; look at collector-axpert"
    assert view.sentence.startswith("No data from the inverter since 13:00.")
    assert {node.text for node in view.picture.nodes if node.key == "load"} == {"–"}
    assert slots(view)["device.inverter.pv_power_w.q"] == "lost"


def test_retained_samples_show_their_age(board, say, clock) -> None:
    made = board()
    old = Sample(ts=iso(clock.moment - timedelta(hours=20)), values=VALUES)
    say(made, TOPICS.telemetry("inverter"), old, retain=True)
    view = made.view()
    assert view.devices[0].last_seen == "last seen yesterday 17:00; look at collector-axpert"


def test_a_silent_device_names_who_to_look_at(board, say, sample, clock, monkeypatch) -> None:
    made = board()
    monkeypatch.setattr(type(made.live), "connected", True)
    sample(made)
    ts = iso(clock.moment)
    say(made, TOPICS.status("inverter"), Status("offline", ts, "no answer"))
    (banner,) = made.view().banners
    assert banner.level == "critical"
    assert banner.title == "Inverter does not answer"
    assert banner.text == "Silent since 13:00 (no answer). collector-axpert keeps trying."
    gone = ServiceStatus("offline", "1", "pi", ts)
    say(made, TOPICS.service_status("collector-axpert"), gone)
    (banner,) = made.view().banners
    assert banner.text.endswith("collector-axpert is not running: start it.")
    say(made, TOPICS.status("inverter"), Status("online", ts))
    clock.moment += timedelta(minutes=5)
    (banner,) = made.view().banners
    assert banner.title == "Inverter: no data"
    assert "Last seen 13:00." in banner.text


def test_another_device_is_not_believed(board, say, sample, clock, monkeypatch) -> None:
    made = board()
    monkeypatch.setattr(type(made.live), "connected", True)
    sample(made)
    reason = "serial 123 instead of 456"
    say(made, TOPICS.status("inverter"), Status("identity_mismatch", iso(clock.moment), reason))
    view = made.view()
    assert titles(view) == ["Inverter: another device answers"]
    assert "Serial 123 instead of 456." in view.banners[0].text
    assert view.sentence == "Another device answers in place of the inverter."
    assert {node.text for node in view.picture.nodes if node.key == "load"} == {"–"}


def test_sleeping_is_no_alarm(board, say, clock, monkeypatch) -> None:
    made = board()
    monkeypatch.setattr(type(made.live), "connected", True)
    say(made, TOPICS.status("inverter"), Status("sleeping", iso(clock.moment), "night"))
    view = made.view()
    assert view.banners == []
    assert view.sentence == "The inverter sleeps."


def test_alarms_by_severity_and_services(board, say, sample, clock, monkeypatch) -> None:
    made = board()
    monkeypatch.setattr(type(made.live), "connected", True)
    sample(made)
    ts = iso(clock.moment)
    for code, state, severity in (
        ("hot", "raised", "warning"),
        ("old", "cleared", "critical"),
        ("dead", "raised", "critical"),
    ):
        say(
            made,
            TOPICS.alarm("inverter", code),
            Alarm(code, state, severity, f"It is {code}", "Look.", ts),
        )
    say(made, TOPICS.service_status("recorder"), ServiceStatus("offline", "1", "pi", ts))
    view = made.view()
    assert titles(view) == ["recorder is not running", "It is dead", "It is hot"]
    assert view.banners[1].text == "Look. Since 13:00."


def test_a_missing_database_is_said_and_hurts_nothing(board, sample) -> None:
    made = board()
    sample(made)
    made.refresh()
    view = made.view()
    (banner,) = [banner for banner in view.banners if banner.title == "No history"]
    assert "there is no database" in banner.text.lower()
    assert banner.text.endswith("yet; the recorder makes it when it starts.")
    assert view.today_note == "no history now"
    assert view.tiles[0].text == "–"


def test_today_comes_from_the_database(board, sample, sqlite, clock) -> None:
    made = board(database="history.db")
    start = clock.moment - timedelta(hours=2)
    sqlite.add(
        (start + timedelta(seconds=30 * n), {**VALUES, "device_mode": "battery", "warnings": ""})
        for n in range(241)
    )
    sample(made)
    made.refresh()
    tiles = {tile.key: plain(tile.text) for tile in made.view().tiles}
    assert tiles == {
        "pv": "2.00 kWh",
        "load": "0.80 kWh",
        "battery_in": "1.04 kWh",
        "battery_out": "0.00 kWh",
        "grid_in": "≈ 0.00 kWh",
        "autarky": "100 %",
    }


def test_hours_left_need_the_size_of_the_battery(board, sample) -> None:
    values = {"pv_power_w": 0, "battery_power_w": 500, "battery_soc_percent": 60}
    unknown = board()
    sample(unknown, **values)
    assert unknown.view().battery.autonomy == ""
    known = board(rest='[web]\nbattery_kwh = 10.0\n[devices.inverter]\nfamily = "axpert"\n')
    sample(known, **values)
    view = known.view()
    assert plain(view.battery.autonomy) == "10 h at this load, down to 10 %"
    assert "Battery 60 %, at this load until 23:00." in plain(view.sentence)


def test_a_kettle_does_not_turn_the_forecast(board, sample, clock) -> None:
    made = board(rest='[web]\nbattery_kwh = 10.0\n[devices.inverter]\nfamily = "axpert"\n')
    values = {"pv_power_w": 0, "battery_soc_percent": 60}
    sample(made, **values, battery_power_w=500)
    made.view()
    clock.moment += timedelta(seconds=5)
    sample(made, **values, battery_power_w=3000)
    assert plain(made.view().battery.autonomy).startswith("9 h")


def test_the_sun_rises_where_the_house_stands(board, sample, clock) -> None:
    made = board()
    clock.moment = datetime(2026, 11, 21, 22, 0, tzinfo=clock.moment.tzinfo)
    sample(made, pv_power_w=0, battery_power_w=500)
    sunrise, sunset = made._sun(clock.moment.astimezone(ROME))
    assert sunrise.strftime("%d %H:%M") in ("22 07:07", "22 07:06", "22 07:08")
    assert sunset.strftime("%d %H") == "22 16"
    assert "; sun from 07:0" in made.view().sentence


def test_streams_begin_with_everything_and_go_on_with_changes(board, sample) -> None:
    made = board()
    sample(made)
    stream = made.open()
    stop = threading.Event()
    thread = threading.Thread(target=made.serve, args=(stop,), daemon=True)
    thread.start()
    first = stream.get(2)
    assert first.startswith(b"event: full\ndata: ")
    whole = json.loads(first.split(b"data: ", 1)[1])
    assert set(whole) == {"now", "offset", "layout", "slots"}
    assert whole["offset"] == 3600
    sample(made, pv_power_w=1234)
    event = stream.get(2)
    assert event.startswith(b"event: patch\ndata: ")
    assert event.endswith(b"\n\n")
    changed = json.loads(event.split(b"data: ", 1)[1])["slots"]
    assert plain(changed["node.pv1.text"]) == "1.23 kW"
    assert "battery.volts" not in changed
    stop.set()
    made.live.wake()
    thread.join(2)
    assert not thread.is_alive()


def test_many_devices_are_summed_up_in_the_bar(board, sample) -> None:
    made = board(rest="")
    for n in range(9):
        sample(made, f"panel-{n}")
    view = made.view()
    assert view.bars_note == "9 of 9 devices fresh"
    assert view.bars == []


def test_meters_disagree_only_when_it_lasts(board, sample, say, clock) -> None:
    made = board()

    def disagree() -> bool:
        meter = Sample(ts=iso(clock.moment), values={"grid_power_w": 900.0})
        say(made, TOPICS.telemetry("meter"), meter)
        sample(made)
        titles = {node.key: node.title for node in made.view().picture.nodes}
        return titles["inverter"].startswith("Meters disagree by")

    found = []
    for _ in range(4):
        found.append(disagree())
        clock.moment += timedelta(seconds=30)
    assert found == [False, False, True, True]


def test_a_device_says_through_whom_it_is_read(board, say, clock) -> None:
    made = board(rest='[devices.roof]\nfamily = "pvs6"\n')
    ts = iso(clock.moment)
    whole = {"pv_power_w": 900, "load_power_w": 300, "grid_power_w": -600}
    say(made, TOPICS.telemetry("roof"), Sample(ts=ts, values=whole))
    say(made, TOPICS.info("south"), Info(ts=ts, family="pvs6", through="roof"))
    say(made, TOPICS.telemetry("south"), Sample(ts=ts, values={"pv_power_w": 300}))
    assert [device.name for device in made.view().devices] == ["roof"]


def test_devices_behind_a_device_stand_with_it(board, say, clock, monkeypatch) -> None:
    made = board(rest='[devices.roof]\nfamily = "pvs6"\n')
    monkeypatch.setattr(type(made.live), "connected", True)
    ts = iso(clock.moment)
    whole = {"pv_power_w": 900, "load_power_w": 300, "grid_power_w": -600}
    say(made, TOPICS.telemetry("roof"), Sample(ts=ts, values=whole))
    for number in (10, 2, 1):
        values = {"grid_frequency_hz": 50.0, "pv_power_w": 300}
        say(made, TOPICS.telemetry(f"roof-{number}"), Sample(ts=ts, values=values))
        say(made, TOPICS.status(f"roof-{number}"), Status("online", ts))
    view = made.view()
    assert [device.name for device in view.devices] == ["roof"]
    assert {node.key: plain(node.text) for node in view.picture.nodes}["pv1"] == "900 W"
    assert view.banners == []
    say(made, TOPICS.status("roof-2"), Status("offline", ts, "no report"))
    say(made, TOPICS.status("roof-1"), Status("sleeping", ts, "night"))
    clock.moment += timedelta(seconds=12)
    say(made, TOPICS.telemetry("roof"), Sample(ts=iso(clock.moment), values=whole))
    view = made.view()
    assert titles(view) == ["1 of 3 devices behind Roof does not answer"]
    assert view.banners[0].text == "Roof 2. No report."
    assert view.sentence.startswith("Sun covers everything")
    say(made, TOPICS.status("roof"), Status("offline", ts, "cut"))
    assert titles(made.view()) == ["Roof does not answer"]


def test_today_stands_beside_yesterday_by_now(board, sample, sqlite, clock) -> None:
    made = board(database="history.db")
    for back, watts in ((0, 1000), (24, 500)):
        start = clock.moment - timedelta(hours=back + 2)
        sqlite.add(
            (
                start + timedelta(seconds=30 * n),
                {**VALUES, "pv_power_w": watts, "device_mode": "battery", "warnings": ""},
            )
            for n in range(361 if back else 241)  # yesterday went on for another hour
        )
    sample(made)
    made.refresh()
    tiles = {tile.key: tile for tile in made.view().tiles}
    assert plain(tiles["pv"].text) == "2.00 kWh"
    assert plain(tiles["pv"].change) == "+1.00 kWh"
    assert "Yesterday by this time: 1.00 kWh" in plain(tiles["pv"].note)
    assert (tiles["pv"].trend, tiles["load"].trend) == ("more", "same")
    made.worth = lambda day, now: Tile("money", "Saved", f"{day.day} {now:%H}")
    assert made.view().tiles[-1].text == "21 13"


def test_cells_are_said_only_when_they_drift(board, say, sample, clock) -> None:
    made = board(rest='[devices.pack]\nfamily = "bms"\n[devices.inverter]\nfamily = "axpert"\n')
    sample(made)

    def spread(volts: float) -> str:
        values = {"battery_voltage_v": 52.0, "battery_soc_percent": 79}
        content = Sample(ts=iso(clock.moment), values=values | {"cell_voltage_spread_v": volts})
        say(made, TOPICS.telemetry("pack"), content)
        battery = made.view().battery
        assert (battery.soc, battery.letter, battery.device) == ("79", "B", "pack")
        return plain(battery.spread)

    assert spread(0.012) == ""
    assert spread(0.071) == "Cells are 0.071 V apart"


def test_a_surplus_is_only_said_where_it_can_be_used(board, sample) -> None:
    made = board()
    sample(made, battery_soc_percent=100, battery_power_w=0, battery_charge_current_a=0)
    assert made.view().surplus == ""
    made._facts = board_module.replace(made._facts, could_w=2230.0)
    assert plain(made.view().surplus) == "Surplus now: 1.20 kW"
    sample(made, battery_soc_percent=100, pv_power_w=2100)
    assert made.view().surplus == ""


def test_rules_that_hold_something_are_told(board, say, clock) -> None:
    made = board()
    ts = iso(clock.moment)
    asked = {"relay": "grid_connected"}
    for name, mode, wants in (
        ("night", "on", asked),
        ("day", "on", None),
        ("trial", "shadow", asked),
    ):
        content = Decision(ts, name, "For the night", mode, {}, wants, None, f"{name} holds")
        say(made, TOPICS.decision(name), content)
    told = [(rule.name, rule.mode, rule.text) for rule in made.view().automatics]
    assert told == [("night", "on", "Night holds."), ("trial", "shadow", "Trial holds.")]
    modes = Settings(ts, {"mode": "off", "rule.night": "on"})
    say(made, TOPICS.settings("controller"), modes)
    assert made.view().automatics == []


def test_each_page_hears_its_own_language(board, sample) -> None:
    made = board()
    sample(made, pv_power_w=1234)
    streams = {}
    for code in ("en", "de"):
        with text.use(code):
            streams[code] = made.open()
    first = {code: stream.get(2).decode() for code, stream in streams.items()}
    assert "1.23" in first["en"]
    assert "1,23" in first["de"]
    sample(made, pv_power_w=2345)
    made._publish_all()
    later = {code: stream.get(2).decode() for code, stream in streams.items()}
    assert "2.35" in later["en"] or "2.34" in later["en"]
    assert "2,35" in later["de"] or "2,34" in later["de"]
    made.streams.close(streams["de"])
    made._publish_all()
    assert list(made._sent) == ["now.en"]


def test_alarms_are_told_in_the_language_of_who_looks(
    board, say, sample, clock, monkeypatch
) -> None:
    made = board()
    monkeypatch.setattr(type(made.live), "connected", True)
    sample(made)
    alarm = Alarm("1", "raised", "warning", "The owner's words", "In English.", iso(clock.moment))
    say(made, TOPICS.alarm("inverter", "heat_sink_hot"), alarm)
    (english,) = made.view().banners
    assert english.title == "The owner's words"
    assert english.link == ("alarms.page", {"_anchor": "open"})
    with text.use("de"):
        (german,) = made.view().banners
    assert german.title.startswith("Inverter: ")
    assert "The owner" not in german.title
    assert "In English" not in german.text
