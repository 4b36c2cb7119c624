"""The pages of devices: cards, how they are read, what is wrong, members compared, every value."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sunmesh import clock as clocks
from sunmesh.messages import Alarm, Health, Info, Sample, Settings, Status, Writes, encode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics
from web.app import create_app
from web.device.past import minutes, sparks, today_kwh
from web.device.view import band, members, weak_text
from web.house import Device
from web.live import Live
from web.wellbeing import HealthBook, by_device

from .recorded import HOUR_MS, Recorded

TOPICS = Topics("home")
ROME = ZoneInfo("Europe/Rome")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NOW_MS = clocks.epoch_ms(NOW)
MIDNIGHT_MS = clocks.epoch_ms(datetime(2026, 11, 21, tzinfo=ROME))
SITE = '[devices.inverter]\nfamily = "axpert"\n[devices.roof]\nfamily = "pvs6"\n'
VALUES = {
    "pv_power_w": 1000.0,
    "ac_output_power_w": 400,
    "grid_voltage_v": 231.0,
    "device_mode": "battery",
    "pv_energy_total_kwh": 11_669.3,
    "warnings": ["pv_loss", "overload"],
    "device_clock_offset_s": -90,
}


def plain(text: str) -> str:
    text = text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).replace("&#39;", "'")


class Voice:
    """Says what collectors would."""

    def __init__(self, board, clock, app) -> None:
        self.board, self.clock, self.app = board, clock, app

    def _hear(self, topic: str, content) -> None:
        message = Message(topic, encode(content), False, False, 1, 1)
        self.board.live.hear(message)
        self.app.extensions["health"].hear(message)

    @property
    def ts(self) -> str:
        return clocks.iso(self.clock.moment)

    def sample(self, name: str, values=VALUES, quality=None, through=None, **info) -> None:
        family = info.pop("family", "axpert")
        self._hear(TOPICS.info(name), Info(self.ts, family, through=through, **info))
        self._hear(TOPICS.status(name), Status("online", self.ts))
        self._hear(TOPICS.telemetry(name), Sample(ts=self.ts, values=values, quality=quality or {}))

    def status(self, name: str, state: str, reason: str) -> None:
        self._hear(TOPICS.status(name), Status(state, self.ts, reason))

    def settings(self, name: str, writes) -> None:
        self._hear(TOPICS.settings(name), Settings(self.ts, {"float_voltage_v": 54.0}, writes))

    def alarm(self, name: str, code: str, **more) -> None:
        alarm = Alarm(f"{name}-1", "raised", "warning", "Inverter warning", "It is hot.", self.ts)
        self._hear(
            TOPICS.alarm(name, code),
            type(alarm)(
                **{field: getattr(alarm, field) for field in alarm.__struct_fields__} | more
            ),
        )

    def health(self, service: str, **counters) -> None:
        self._hear(
            TOPICS.service_health(service),
            Health(self.ts, {name.replace("__", "-"): n for name, n in counters.items()}),
        )


@pytest.fixture
def portal(board, clock):
    def make(rest: str = SITE, database: str = "missing.db"):
        made = board(rest, database)
        app = create_app(made.site, made)
        return app.test_client(), Voice(made, clock, app)

    return make


# -- how they are read -----------------------------------------------------------------------------


def test_counters_are_told_apart_by_device() -> None:
    found = by_device(
        {"battery_polls": 3, "battery-room_polls": 4, "battery_errors_crc": 1, "rss_bytes": 9}
    )
    assert found == {"battery": {"polls": 3, "errors_crc": 1}, "battery-room": {"polls": 4}}
    assert by_device({"mqtt_published": 1}) == {}


@pytest.fixture
def health():
    book = HealthBook(Live(None, {}))

    def hear(minute: float, polls: int, lost: int = 0, **more) -> None:
        ts = clocks.iso(NOW + timedelta(minutes=minute))
        counters = {"inverter_polls": polls, "inverter_lost_rounds": lost, **more}
        payload = encode(Health(ts, counters))
        book.hear(Message(TOPICS.service_health("collector-axpert"), payload, True, False, 1, 1))

    return book, hear


def test_a_share_of_lost_rounds_begins_with_the_collector_and_becomes_a_day(health) -> None:
    book, hear = health
    assert book.of("inverter") is None
    hear(0, 1000, 10, inverter_errors_crc=4)
    first = book.of("inverter")
    assert (first.error_share, first.span_ms, first.errors) == (0.01, None, {"crc": 4})
    assert first.per_minute is None
    for half in range(1, 2 * 60 * 25):
        hear(half / 2, 1000 + 6 * half, 10 + half // 10)
    last = book.of("inverter")
    assert last.span_ms == pytest.approx(24 * HOUR_MS, rel=0.02)
    assert last.error_share == pytest.approx(1 / 60, rel=0.01)
    assert last.per_minute == pytest.approx(12)


def test_a_collector_that_starts_anew_loses_no_count(health) -> None:
    book, hear = health
    hear(0, 100)
    hear(15, 190, 1)
    hear(16, 6, 0)  # started anew
    hear(30, 90, 3)
    found = book.of("inverter")
    assert (found.polls, found.lost) == (180, 4)


def test_rubbish_is_no_health(health) -> None:
    book, hear = health
    for payload in (b"", b"{", b"[]", b'{"ts":"x","counters":{}}'):
        book.hear(Message(TOPICS.service_health("collector-axpert"), payload, False, False, 1, 1))
    hear(0, 0)
    assert book.of("inverter").error_share is None
    assert book.counted() == ["inverter"]


# -- members ---------------------------------------------------------------------------------------


def test_a_weak_panel_is_found_by_the_day_not_the_instant() -> None:
    devices = [
        Device(f"roof-{n}", "pvs6", NOW_MS, {"pv_power_w": 60.0}, behind="roof") for n in range(6)
    ]
    today = {f"roof-{n}": 0.5 for n in range(6)} | {"roof-3": 0.3}
    made = members(devices, today, NOW_MS, ROME)
    assert [member.band for member in made] == [4, 4, 4, 1, 4, 4]
    assert [member.is_weak for member in made].count(True) == 1
    assert plain(weak_text(made)).startswith("Roof 3 (60 %) has given less")
    assert weak_text(members(devices, dict.fromkeys(today, 0.5), NOW_MS, ROME)).startswith("All")
    early = members(devices, dict.fromkeys(today, 0.001), NOW_MS, ROME)
    assert {member.band for member in early} == {-1}
    assert weak_text(early).startswith("They are compared")
    assert [band(share) for share in (0, 0.5, 0.8, 0.95, 2)] == [0, 1, 2, 3, 4]


# -- the last hour ---------------------------------------------------------------------------------


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
    """Half an hour of minutes, and samples since."""
    start = NOW_MS - HOUR_MS
    half = [start + n * 60_000 for n in range(30)]
    recorded.roll(
        "minute", "inverter", "pv_power_w", [(ts, 100.0 + n) for n, ts in enumerate(half)]
    )
    rest = range(half[-1] + 60_000, NOW_MS, 5_000)
    recorded.samples("inverter", "pv_power_w", [(ts, 500.0) for ts in rest])
    recorded.roll("minute", "inverter", "pv_energy_total_kwh", [(start, 10.0)])
    recorded.samples("inverter", "pv_energy_total_kwh", [(NOW_MS - 1000, 11.5)])
    for n in range(1, 4):
        recorded.roll(
            "day", f"roof-{n}", "pv_energy_total_kwh", [(MIDNIGHT_MS, 700.0, 700.0 + n / 2, 700.0)]
        )


def test_the_last_hour_is_minutes_and_what_came_since(recorded) -> None:
    fill(recorded)
    with recorded.engine.connect() as connection:
        number = recorded.ids["inverter", "pv_power_w"]
        points = minutes(connection, [number], NOW_MS - HOUR_MS, NOW_MS)[number]
        assert len(points) == 60
        assert (points[0][1], points[29][1], points[30][1], points[-1][1]) == (100, 129, 500, 500)
        made = sparks(
            connection, "inverter", {"pv_power_w": False, "pv_energy_total_kwh": True}, NOW_MS
        )
        assert plain(made["pv_power_w"].text) == "100 W to 500 W in the last hour"
        assert made["pv_power_w"].path.count("M") == 1
        assert plain(made["pv_energy_total_kwh"].text) == "1.50 kWh more in the last hour"
        assert sparks(connection, "nobody", {"pv_power_w": False}, NOW_MS) == {}
        today = today_kwh(connection, ["roof-1", "roof-3", "roof-9"], ROME, NOW_MS)
        assert today == {"roof-1": 0.5, "roof-3": 1.5}
        assert today_kwh(connection, [], ROME, NOW_MS) == {}


# -- the pages -------------------------------------------------------------------------------------


def test_each_device_has_a_card(portal, clock) -> None:
    client, voice = portal()
    voice.sample("inverter", model="MAX-8000", serial="9293", port="/dev/serial/by-id/x")
    voice.settings("inverter", {"float_voltage_v": Writes(3, 41, 20)})
    voice.health("collector-axpert", inverter_polls=1000, inverter_lost_rounds=30)
    voice.sample("roof", {"pv_power_w": 900, "load_power_w": 300}, family="pvs6")
    for n in range(1, 4):
        voice.sample(f"roof-{n}", {"pv_power_w": 300}, family="pvs6", through="roof")
    text = plain(client.get("/devices").text)
    for part in (
        "5 devices, and all answer.",
        "MAX-8000",
        "/dev/serial/by-id/x",
        "Output power 400 W",
        "30 of 1,000 since its collector started",
        "3.0 %",
        "3 today, 41 ever",
        "90 s behind",
        "3 devices behind it",
    ):
        assert part in text, part
    clock.moment += timedelta(minutes=5)
    voice.sample("inverter")
    assert "4 devices do not answer: Roof" in plain(client.get("/devices").text)


def test_a_device_says_everything_with_its_quality(portal) -> None:
    client, voice = portal()
    voice.sample("inverter", quality={"pv_power_w": "suspect", "pv_energy_total_kwh": "stale"})
    voice.health("collector-axpert", inverter_polls=10, inverter_lost_rounds=0, inverter_retries=2)
    text = plain(client.get("/devices/inverter").text)
    for part in (
        "1.00 kW ▲ implausible",
        "11,669.3 kWh ▲ kept from before the outage",
        "on battery and sun",
        "Overload: switch something off",
        "retries 2",
        "No history",
    ):
        assert part in text, part


def test_warnings_come_with_what_to_do(portal) -> None:
    client, voice = portal()
    voice.sample("inverter", VALUES | {"warnings": ["over_temperature", "pv_loss"]})
    voice.alarm(
        "inverter",
        "inverter_warning",
        advice="Clean its fans.",
        data={"codes": ["over_temperature"]},
    )
    text = plain(client.get("/devices/inverter").text)
    assert "Inverter warning since 13:00 It is hot. Clean its fans." in text
    assert "reports over_temperature" not in text  # the alarm has told it
    assert "The device says so; nothing to do." in text


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("offline", "It does not answer since 13:00 No answer within 2 s."),
        ("identity_mismatch", "Another device answers since 13:00"),
        ("refusing", "It refuses to answer since 13:00"),
    ],
)
def test_a_broken_device_says_what_to_look_at(portal, state, says) -> None:
    client, voice = portal()
    voice.sample("inverter")
    voice.status("inverter", state, "no answer within 2 s")
    assert says in plain(client.get("/devices/inverter").text)


def test_a_sleeping_device_is_not_lost(portal, clock) -> None:
    client, voice = portal()
    voice.sample("inverter")
    clock.moment += timedelta(minutes=10)
    voice.status("inverter", "sleeping", "it is night")
    text = plain(client.get("/devices").text)
    assert "sleeps" in text
    assert "do not answer: Inverter" not in text


def test_no_device_leads_to_setup(portal) -> None:
    client, _ = portal("")
    text = plain(client.get("/devices").text)
    assert "No device yet" in text
    assert "Find devices" in text


def test_names_of_devices_are_only_names(portal) -> None:
    client, voice = portal()
    voice.sample("inverter", model="<script>alert(1)</script>")
    for path in ("/devices", "/devices/inverter"):
        assert "<script>alert" not in client.get(path).text
    for name in ("nobody", "..%2f..%2fetc", "%3Cb%3E", "x" * 400, "inverter%00"):
        answer = client.get(f"/devices/{name}")
        assert answer.status_code == 404, name
        assert "<b>" not in answer.text


def test_twelve_devices_and_a_day_of_panels(portal, tmp_path) -> None:
    recorded = Recorded(f"sqlite:///{tmp_path}/history.db")
    fill(recorded)
    recorded.close()
    client, voice = portal(database="history.db")
    voice.sample("roof", {"pv_power_w": 900}, family="pvs6")
    for n in range(1, 4):
        voice.sample(f"roof-{n}", {"pv_power_w": 300}, family="pvs6", through="roof")
    for n in range(8):
        voice.sample(f"meter-{n}", {"grid_power_w": -5 * n}, family="meter")
    text = client.get("/devices/roof").text
    assert "band-1" in text  # half a kWh beside a median of one
    assert "0.50 kWh" in plain(text)
    assert client.get("/devices").status_code == 200
    voice.sample("inverter")
    assert "100 W to 500 W in the last hour" in plain(client.get("/devices/inverter").text)


def test_today_is_the_sites_day() -> None:
    assert clocks.from_ms(MIDNIGHT_MS).astimezone(ROME).date() == date(2026, 11, 21)
