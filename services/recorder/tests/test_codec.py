"""Topics and payloads in, items out; what is no message is refused with a reason."""

import json

import pytest
from recorder.codec import AlarmHeard, DocumentHeard, StatusHeard, Telemetry, read
from sunmesh.errors import MessageError

SAMPLE = {"v": 1, "ts": "2026-11-21T12:00:00.123Z", "seq": 1, "values": {"pv_power_w": 5}}


def test_a_sample_is_read_with_its_own_time() -> None:
    item = read("sunmesh/home/inverter/telemetry", json.dumps(SAMPLE).encode(), "home")
    assert item == Telemetry("inverter", 1795262400123, {"pv_power_w": 5}, {})


def test_status_info_settings_and_alarm_are_read() -> None:
    ts = "2026-11-21T12:00:00Z"
    status = read(
        "sunmesh/home/a/status", json.dumps({"state": "online", "since": ts}).encode(), "home"
    )
    assert isinstance(status, StatusHeard)
    assert (status.ms, status.status.state) == (1795262400000, "online")
    for kind, body in (
        ("info", {"ts": ts, "family": "axpert"}),
        ("settings", {"ts": ts, "values": {"float_voltage_v": 54.0}}),
    ):
        item = read(f"sunmesh/home/a/{kind}", json.dumps(body).encode(), "home")
        assert isinstance(item, DocumentHeard)
        assert (item.kind, json.loads(item.document)) == (kind, body)
    body = {"id": "1", "state": "raised", "severity": "info", "title": "t", "text": "x", "ts": ts}
    alarm = read("sunmesh/home/alarms/a/too_hot", json.dumps(body).encode(), "home")
    assert isinstance(alarm, AlarmHeard)
    assert (alarm.device, alarm.code, alarm.alarm.state) == ("a", "too_hot", "raised")


def test_an_empty_payload_clears_a_topic_and_is_nothing_to_store() -> None:
    assert read("sunmesh/home/inverter/telemetry", b"", "home") is None


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("sunmesh/home/a/telemetry", b"hello", "malformed"),
        ("sunmesh/home/a/telemetry", b'{"v":1,"ts":"', "truncated"),
        ("sunmesh/home/a/telemetry", b"\xff\xfe\x00", "malformed"),
        ("sunmesh/home/a/telemetry", b"[1,2]", "object"),
        ("sunmesh/home/a/telemetry", b" " * 70_000, "70000 bytes"),
        ("sunmesh/home/a/telemetry", json.dumps(SAMPLE | {"v": 2}).encode(), "version 2"),
        (
            "sunmesh/home/a/telemetry",
            json.dumps(SAMPLE | {"values": {"x": float("nan")}}).encode(),
            "malformed",
        ),
        (
            "sunmesh/home/a/telemetry",
            b'{"v":1,"ts":"2026-11-21T12:00:00Z","values":{"x":1e999}}',
            "range",
        ),
        ("sunmesh/home/a/telemetry", json.dumps(SAMPLE | {"ts": "noon"}).encode(), "ts"),
        (
            "sunmesh/home/a/telemetry",
            json.dumps(SAMPLE | {"ts": "2026-11-21T12:00:00"}).encode(),
            "time zone",
        ),
        (
            "sunmesh/home/a/telemetry",
            json.dumps(SAMPLE | {"ts": "9999-01-01T00:00:00Z"}).encode(),
            "no time",
        ),
        ("sunmesh/home/a/status", b'{"state":"asleep","since":"2026-11-21T12:00:00Z"}', "Invalid"),
        ("sunmesh/away/a/telemetry", json.dumps(SAMPLE).encode(), "another site"),
        ("sunmesh/home/A B/telemetry", json.dumps(SAMPLE).encode(), "name"),
        ("sunmesh/home/services/a/health", b"{}", "none that is stored"),
        ("sunmesh/home/a/command", b"{}", "name"),
        ("sunmesh/home/decisions/r", b"[]", "object"),
        ("sunmesh/home/decisions/r", b'{"ts":"noon"}', "ts"),
        ("sunmesh/home/alarms/a/b/ack", b"{}", "id"),
        ("elsewhere", b"{}", "none that is stored"),
        ("sunmesh/home/alarms/a/" + "x" * 65, b"{}", "code"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(
    topic: str, payload: bytes, reason: str
) -> None:
    with pytest.raises(MessageError, match=reason):
        read(topic, payload, "home")
