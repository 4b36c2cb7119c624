import threading
from datetime import timedelta

import pytest
from sunmesh.clock import iso
from sunmesh.messages import Alarm, Info, Sample, ServiceStatus, Settings, Status, encode
from sunmesh.mqtt import Message
from sunmesh.topics import Topics
from web.live import Live
from web.streams import QUEUE, Stream, Streams

TOPICS = Topics("home")


def message(topic: str, payload: bytes, *, retain: bool = False) -> Message:
    return Message(topic, payload, retain, False, 1, 1)


@pytest.fixture
def live(clock) -> Live:
    return Live(None, {"inverter": {"family": "axpert"}}, clock)


def sample(clock, seconds: float = 0.0, **values) -> bytes:
    return encode(Sample(ts=iso(clock.moment + timedelta(seconds=seconds)), values=values))


def test_the_newest_of_each_message_is_kept(live: Live, clock) -> None:
    ts = iso(clock.moment)
    telemetry = TOPICS.telemetry("inverter")
    live.hear(message(telemetry, sample(clock, -5, pv_power_w=1.0), retain=True))
    live.hear(message(telemetry, sample(clock, 0, pv_power_w=2.0)))
    live.hear(message(TOPICS.info("inverter"), encode(Info(ts, "axpert", poll_interval_s=2.5))))
    live.hear(message(TOPICS.status("inverter"), encode(Status("offline", ts, "cut"))))
    live.hear(message(TOPICS.settings("inverter"), encode(Settings(ts, {"bulk_voltage_v": 56.4}))))
    live.hear(message(TOPICS.telemetry("shed"), sample(clock, 0, temperature_c=9.5)))
    first, second = live.devices(live.state())
    assert (first.name, first.family, first.values) == ("inverter", "axpert", {"pv_power_w": 2.0})
    assert (first.state, first.reason, first.period_s) == ("offline", "cut", 2.5)
    assert (second.name, second.configured) == ("shed", False)
    assert live.state().devices["inverter"].settings.values == {"bulk_voltage_v": 56.4}


def test_a_configured_device_is_known_before_it_speaks(live: Live) -> None:
    (device,) = live.devices(live.state())
    assert (device.name, device.ms, device.service) == ("inverter", None, "collector-axpert")


def test_an_old_stranger_leaves_after_a_day(live: Live, clock) -> None:
    live.hear(message(TOPICS.telemetry("shed"), sample(clock, 0, temperature_c=9.5), retain=True))
    assert len(live.devices(live.state())) == 2
    clock.moment += timedelta(days=1, seconds=1)
    assert len(live.devices(live.state())) == 1


def test_a_late_sample_does_not_turn_back_time(live: Live, clock) -> None:
    telemetry = TOPICS.telemetry("inverter")
    live.hear(message(telemetry, sample(clock, 0, pv_power_w=2.0)))
    live.hear(message(telemetry, sample(clock, -600, pv_power_w=1.0)))
    assert live.devices(live.state())[0].values == {"pv_power_w": 2.0}
    # … unless the newer one came from a clock that was wrong.
    live.hear(message(telemetry, sample(clock, 7200, pv_power_w=3.0)))
    live.hear(message(telemetry, sample(clock, 1, pv_power_w=4.0)))
    assert live.devices(live.state())[0].values == {"pv_power_w": 4.0}


def test_the_period_is_what_the_device_does(live: Live, clock) -> None:
    telemetry = TOPICS.telemetry("inverter")
    assert live.devices(live.state())[0].period_s == 5.0
    live.hear(message(telemetry, sample(clock, -3600, pv_power_w=1.0), retain=True))
    for n in range(6):
        live.hear(message(telemetry, sample(clock, n * 2, pv_power_w=1.0)))
    live.hear(message(telemetry, sample(clock, 40, pv_power_w=1.0)))
    assert live.devices(live.state())[0].period_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    "payload",
    [b"no json", b"{}", b'{"v":9,"ts":"2026-11-21T12:00:00Z","values":{}}', b"x" * 70_000]
    + [
        b'{"v":1,"ts":"yesterday","values":{}}',
        b'{"v":1,"ts":"2026-11-21T12:00:00Z","values":NaN}',
    ],
)
def test_rubbish_is_counted_and_dropped(live: Live, payload: bytes) -> None:
    live.hear(message(TOPICS.telemetry("inverter"), payload))
    assert live.counters["bad_messages"] == 1
    assert live.state().devices == {}


def test_a_flood_of_strangers_does_not_fill_the_memory(live: Live, clock) -> None:
    payload = sample(clock, 0, temperature_c=1.0)
    for n in range(300):
        live.hear(message(TOPICS.telemetry(f"d{n}"), payload))
    assert len(live.state().devices) == 200
    live.hear(message(TOPICS.telemetry("inverter"), payload))
    assert len(live.state().devices) == 200


def test_alarms_and_services(live: Live, clock) -> None:
    ts = iso(clock.moment)
    alarm = Alarm("1", "raised", "warning", "Hot", "Give it air.", ts)
    live.hear(message(TOPICS.alarm("inverter", "hot"), encode(alarm)))
    status = ServiceStatus("online", "1", "pi", ts)
    live.hear(message(TOPICS.service_status("recorder"), encode(status)))
    state = live.state()
    assert state.alarms == {("inverter", "hot"): alarm}
    assert state.services == {"recorder": status}
    live.hear(message(TOPICS.alarm("inverter", "hot"), b""))
    live.hear(message(TOPICS.service_status("recorder"), b""))
    assert live.state().alarms == {}
    assert live.state().services == {}
    assert len(state.alarms) == 1, "a copy does not change under its reader"


def test_a_cleared_topic_forgets_the_device(live: Live, clock) -> None:
    live.hear(message(TOPICS.telemetry("shed"), sample(clock, 0, temperature_c=1.0)))
    live.hear(message(TOPICS.telemetry("shed"), b""))
    assert [device.name for device in live.devices(live.state())] == ["inverter"]


def test_other_topics_are_left_alone(live: Live) -> None:
    live.hear(message("sunmesh/home/inverter/command", b"{}"))
    live.hear(message("elsewhere/x", b"{}"))
    assert live.counters == {"messages": 0, "bad_messages": 0}


def test_news_end_a_wait(live: Live, clock) -> None:
    seen = live.wait(0, 0)
    threading.Timer(
        0.05, live.hear, [message(TOPICS.telemetry("inverter"), sample(clock, 0, pv_power_w=1.0))]
    ).start()
    assert live.wait(seen, 30) > seen


def test_a_slow_reader_is_dropped_and_others_are_not() -> None:
    streams = Streams(3)
    slow, quick = streams.open(), streams.open()
    assert slow
    assert quick
    for n in range(QUEUE + 1):
        streams.send(b"%d" % n)
        assert quick.get(0) == b"%d" % n
    assert len(streams) == 1
    assert streams.dropped == 1
    with pytest.raises(EOFError):
        slow.get(0)


def test_streams_are_capped() -> None:
    streams = Streams(2)
    first, second = streams.open(), streams.open()
    assert first
    assert second
    assert streams.open() is None
    streams.close(first)
    assert streams.open() is not None


def test_the_end_ends_every_stream_at_once() -> None:
    streams = Streams(2)
    stream = streams.open()
    assert stream
    assert stream.get(0) is None
    streams.end()
    with pytest.raises(EOFError):
        stream.get(5)
    assert streams.open() is None


def test_a_full_stream_can_still_be_closed() -> None:
    stream = Stream()
    for _ in range(QUEUE):
        assert stream.put(b"x")
    stream.close()
    with pytest.raises(EOFError):
        stream.get(0)
