from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sunmesh import clock
from sunmesh.errors import MessageError
from sunmesh.messages import MAX_BYTES, Alarm, Command, Sample, Status, decode, encode
from sunmesh.topics import Address, Topics, parse

TOPICS = Topics("home")
TS = "2026-11-21T12:00:00.123Z"


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        (TOPICS.telemetry("inverter"), Address("home", "telemetry", "inverter")),
        (TOPICS.info("inverter"), Address("home", "info", "inverter")),
        (TOPICS.settings("inverter"), Address("home", "settings", "inverter")),
        (TOPICS.status("inverter"), Address("home", "status", "inverter")),
        (TOPICS.command("inverter"), Address("home", "command", "inverter")),
        (TOPICS.result("inverter"), Address("home", "result", "inverter")),
        (TOPICS.alarm("bms", "cell_high"), Address("home", "alarm", "bms", "cell_high")),
        (TOPICS.alarm_ack("bms", "cell_high"), Address("home", "alarm_ack", "bms", "cell_high")),
        (TOPICS.alarm_delivery("bms", "x"), Address("home", "alarm_delivery", "bms", "x")),
        (TOPICS.service_status("web"), Address("home", "service_status", "web")),
        (TOPICS.service_health("web"), Address("home", "service_health", "web")),
        (TOPICS.decision("night"), Address("home", "decision", "night")),
        (TOPICS.sim("inverter/settings"), Address("home", "sim", "", "inverter/settings")),
    ],
)
def test_what_is_built_is_parsed_back(topic, address):
    assert parse(topic) == address


@pytest.mark.parametrize("topic", ["", "sunmesh/home", "other/home/x/telemetry", "sunmesh/a/b/c"])
def test_foreign_topics_mean_nothing(topic):
    assert parse(topic) is None


def test_home_automation_subscribes_as_documented():
    assert TOPICS.every("telemetry") == "sunmesh/home/+/telemetry"


def test_a_sample_looks_as_the_contract_says():
    sample = Sample(ts=TS, seq=1234, values={"battery_voltage_v": 53.2, "device_mode": "battery"})
    assert encode(sample) == (
        b'{"v":1,"ts":"2026-11-21T12:00:00.123Z","seq":1234,'
        b'"values":{"battery_voltage_v":53.2,"device_mode":"battery"},"quality":{}}'
    )


VALUES = st.dictionaries(
    st.text(max_size=20),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    ),
    max_size=8,
)


@given(VALUES)
def test_a_sample_comes_back_as_it_went(values):
    sample = Sample(ts=TS, values=values)
    assert decode(Sample, encode(sample)) == sample


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_a_number_that_is_none_never_leaves(value):
    with pytest.raises(MessageError, match="battery_voltage_v"):
        encode(Sample(ts=TS, values={"battery_voltage_v": value}))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (b"not JSON", "malformed"),
        (b"[1]", "object"),
        (b'{"ts":"%b","values":{"a":NaN}}' % TS.encode(), "malformed"),
        (b'{"ts":"%b","values":{"a":1e999}}' % TS.encode(), "out of range"),
        (b'{"v":2,"ts":"%b","values":{}}' % TS.encode(), "version 2"),
        (b'{"ts":"%b"}' % TS.encode(), "values"),
        (b'{"ts":"yesterday","values":{}}', "ts"),
        (b'{"ts":"2026-11-21T12:00:00","values":{}}', "time zone"),
        (b'{"ts":"%b","values":{"a":{"b":1}}}' % TS.encode(), "object"),
        (b'{"ts":"\xff","values":{}}', "."),
        (b" " * (MAX_BYTES + 1), str(MAX_BYTES)),
        (b"[" * 60_000, "."),
    ],
)
def test_what_is_no_sample_is_refused_with_a_reason(payload, reason):
    with pytest.raises(MessageError, match=reason):
        decode(Sample, payload)


def test_unknown_keys_are_ignored_by_readers():
    payload = b'{"v":1,"ts":"%b","seq":1,"values":{"a":1},"new":true}' % TS.encode()
    assert decode(Sample, payload).values == {"a": 1}


def test_an_unknown_state_is_refused():
    with pytest.raises(MessageError):
        decode(Status, b'{"state":"maybe","since":"%b"}' % TS.encode())


def test_name_and_value_are_enough_for_a_command():
    command = decode(Command, b'{"name":"output_source_priority","value":"SBU"}')
    assert (command.name, command.value, command.id) == ("output_source_priority", "SBU", None)


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2100, 1, 1)))
def test_time_keeps_its_milliseconds(moment):
    moment = moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
    assert clock.parse(clock.iso(moment)) == moment
    assert clock.from_ms(clock.epoch_ms(moment)) == moment


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        clock.iso(datetime(2026, 11, 21))


def test_an_alarm_of_an_older_service_is_read_and_a_newer_one_says_more():
    old = b'{"id":"a","state":"raised","severity":"info","title":"t","text":"x","ts":"%s"}' % (
        b"2026-11-21T12:00:00.000Z"
    )
    alarm = decode(Alarm, old)
    assert (alarm.since, alarm.cause, alarm.flapping, alarm.advice, alarm.data) == (
        *(None, None, False, ""),
        {},
    )
    assert encode(alarm) == old
    with pytest.raises(MessageError, match="since"):
        decode(Alarm, old[:-1] + b',"since":"noon"}')
    with pytest.raises(MessageError, match="no reading"):
        encode(Alarm("a", "raised", "info", "t", "x", TS, data={"power": float("nan")}))


@pytest.mark.parametrize("ts", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_beyond_the_calendar_is_no_time(ts):
    with pytest.raises(MessageError, match="no year of ours"):
        decode(Status, f'{{"state":"online","since":"{ts}"}}'.encode())
