"""The codec against every capture, every strange value, and every kind of damage."""

import contextlib
import copy
import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from collector_pvs6 import codec, reply, tables
from collector_pvs6.__main__ import decode
from hypothesis import given
from hypothesis import strategies as st
from sunmesh.errors import FrameError
from sunmesh.vocabulary import POSITIVE, VOCABULARY, Kind

CAPTURES = json.loads((Path(__file__).parent / "captures" / "pvs6.json").read_text())
BY_ID = {record["id"]: record for record in CAPTURES}
SEED, DUSK = BY_ID["dl_cgi-seed-2025-09-12"], BY_ID["dl_cgi-dusk-2024-04-16"]
ALL = BY_ID["vars-all-2025-09-30"]
named = pytest.mark.parametrize("record", CAPTURES, ids=lambda record: record["id"])


@named
def test_a_capture_says_what_it_is(record):
    assert {"model", "firmware", "source", "note", "request", "status", "expect"} <= record.keys()
    assert ("body" in record) != ("text" in record)
    assert record["origin"] in ("real", "real-anonymised", "doc")


@named
def test_each_capture_decodes_to_what_is_expected(record):
    expect = record["expect"]
    if "error" in expect:
        with pytest.raises(FrameError) as caught:
            decode(record)
        assert caught.value.kind == expect["error"]
        return
    devices = decode(record)["devices"]
    assert bool(devices) == bool(expect)
    for serial, wanted in expect.items():
        found = devices[serial]
        assert found["ts"] == wanted.get("ts", found["ts"])
        assert found["quality"] == wanted.get("quality", found["quality"])
        for name, value in wanted["values"].items():
            if isinstance(value, float | int):
                assert found["values"][name] == pytest.approx(value, rel=1e-5, abs=1e-4), name
            else:
                assert found["values"][name] == value, name


@named
def test_names_signs_and_kinds_are_the_vocabulary_s(record):
    if "error" in record["expect"]:
        return
    for found in decode(record)["devices"].values():
        assert set(found["quality"]) <= set(found["values"])
        for name, value in found["values"].items():
            row = VOCABULARY[name]
            if value is not None and row.kind in (Kind.GAUGE, Kind.COUNTER):
                assert isinstance(value, float), name
                assert row.sign != POSITIVE or value >= 0, name


def test_what_is_decoded_holds_no_secret():
    login = decode(BY_ID["auth-login"])
    assert login == {"devices": {}}
    told = json.dumps(decode(BY_ID["vars-name-list"]))
    assert "00:22:F2" not in told


def changed(record, **by_serial):
    body = copy.deepcopy(record["body"])
    for device in body["devices"]:
        device.update(by_serial.get(device["SERIAL"], {}))
    return body


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    ["nan", "NaN", "-nan", "inf", "-Infinity", "1e999", "", " ", "N/A", "1_000", "0x10", "1,5",
     "--1", None, True, [], {}, float("nan"), float("inf"), 10**400],
)  # fmt: skip
def test_what_is_no_number_is_none(raw):
    assert codec.number(raw) is None


@pytest.mark.parametrize(
    ("raw", "value"),
    [("0.125", 0.125), (" -3.0282 ", -3.0282), ("60", 60.0), ("+1.5e-3", 0.0015), (".5", 0.5),
     ("7.", 7.0), (3, 3.0), (59.99, 59.99)],
)  # fmt: skip
def test_numbers_may_be_spelt_out(raw, value):
    assert codec.number(raw) == value


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none()))
def test_a_number_is_finite_or_none(raw):
    value = codec.number(raw)
    assert value is None or math.isfinite(value)


# -- what a PVS says and does not mean -------------------------------------------------------------


def test_error_at_dusk_is_no_fault_and_has_no_power():
    inverter = codec.read(DUSK["body"]).devices["E00202040011392"]
    assert not inverter.is_fresh
    assert {name for name, value in inverter.values.items() if value is not None} == {
        "pv_energy_total_kwh"
    }
    assert "faults" not in inverter.values


def test_an_error_device_without_any_measurement():
    body = changed(SEED)
    for key in [key for key in body["devices"][3] if key[0].islower()] + ["DATATIME"]:
        del body["devices"][3][key]
    inverter = codec.read(body).devices["E00123456789"]
    assert inverter.ts is None
    assert not inverter.is_fresh
    assert set(inverter.values.values()) == {None}
    assert inverter.quality == {}


def test_the_threshold_of_old_is_a_parameter():
    body = SEED["body"]
    assert codec.read(body).devices["E00123456789"].is_fresh
    soon = codec.read(body, stale_after=timedelta(minutes=5))
    assert not soon.devices["E00123456789"].is_fresh


def test_an_old_meter_leaves_the_house_unknown():
    body = changed(SEED, PVS6M12345678c={"DATATIME": "2025,09,12,20,00,00"})
    snapshot = codec.read(body)
    assert snapshot.devices["PVS6M12345678c"].values["meter_role"] == "grid"
    values = snapshot.gateway.values
    assert (values["pv_power_w"], values["grid_power_w"], values["load_power_w"]) == (
        294.8,
        None,
        None,
    )


def test_without_a_production_meter_the_inverters_are_the_sum():
    body = copy.deepcopy(BY_ID["dl_cgi-2025-07-20"]["body"])
    del body["devices"][1]
    gateway = codec.read(body).gateway
    assert gateway.values["pv_power_w"] == pytest.approx(279.7 + 279.8 + 30.0 + 281.2)
    assert gateway.values["load_power_w"] is None, "the panels give less than the house exports"
    assert gateway.quality == {}
    body["devices"][2]["DATATIME"] = "2025,07,20,12,00,00"
    partial = codec.read(body).gateway
    assert partial.values["pv_power_w"] == pytest.approx(279.8 + 30.0 + 281.2)
    assert partial.quality["pv_power_w"] == "suspect", "a smaller total is marked"


def test_without_meters_and_in_the_dark_the_time_is_the_gateway_s_clock():
    body = copy.deepcopy(DUSK["body"])
    del body["devices"][1:3]
    gateway = codec.read(body).gateway
    assert gateway.values["pv_power_w"] is None
    assert gateway.values["pv_energy_total_kwh"] == pytest.approx(1328.2679 + 1391.1325)
    assert gateway.ts == datetime(2024, 4, 16, 23, 46, 11, tzinfo=UTC)


def old_meter(**values):
    """A consumption meter of firmware that does not say what it measures."""
    meter = {k: v for k, v in SEED["body"]["devices"][2].items() if "subtype" not in k} | values
    return codec.read({"devices": [meter]}).devices["PVS6M12345678c"].values["meter_role"]


def test_what_an_old_meter_measures_is_seen_by_what_flows_back():
    assert old_meter() == "grid"
    forward = {"neg_ltea_3phsum_kwh": "2.91", "p_3phsum_kw": "1.3"}
    assert old_meter(**forward) == "consumption"
    assert old_meter(**forward | {"p_3phsum_kw": "-1.3"}) == "grid"
    assert old_meter(**forward | {"net_ltea_3phsum_kwh": "-5"}) == "grid"


def test_what_a_meter_measured_before_is_remembered():
    meter = {k: v for k, v in SEED["body"]["devices"][2].items() if "subtype" not in k}
    meter |= {"neg_ltea_3phsum_kwh": "0", "p_3phsum_kw": "1.3"}
    found = codec.read({"devices": [meter]}, roles={"PVS6M12345678c": "grid"})
    assert found.devices["PVS6M12345678c"].values["grid_power_w"] == 1300.0
    said = codec.read(DUSK["body"], roles={"PVS6M20440321c": "grid"})
    assert said.devices["PVS6M20440321c"].values["meter_role"] == "consumption"


def test_a_meter_that_is_not_used_is_no_device():
    body = changed(DUSK, PVS6M20440321c={"subtype": "NOT_USED"})
    assert "PVS6M20440321c" not in codec.read(body).devices


def test_a_pvs5_counts_no_import():
    body = changed(SEED)
    del body["devices"][2]["pos_ltea_3phsum_kwh"]
    values = codec.read(body).devices["PVS6M12345678c"].values
    assert values["grid_import_energy_kwh"] == pytest.approx(13906.91 + 19044.29)


def test_the_local_api_tells_a_meter_by_its_counter():
    body = dict(ALL["body"])
    assert codec.read(body).devices["PVS6M123456c"].values["meter_role"] == "grid"
    body["/sys/devices/meter/1/netLtea3phsumKwh"] = "41983.1"
    body["/sys/devices/meter/1/p3phsumKw"] = "0.13"
    body["/sys/devices/meter/1/negLtea3phsumKwh"] = "0.0"
    assert codec.read(body).devices["PVS6M123456c"].values["load_power_w"] == 130.0


def test_two_devices_of_one_number_do_not_merge():
    snapshot = codec.read(ALL["body"])
    assert snapshot.repeated == ("E00123456789",)
    energies = [
        each.values["pv_energy_total_kwh"]
        for serial, each in snapshot.devices.items()
        if serial.startswith("E00123456789#")
    ]
    assert len(set(energies)) == 3


def test_the_noise_of_a_meter_at_night_is_zero_and_a_reversed_one_unknown():
    noise = changed(SEED, PVS6M12345678p={"p_3phsum_kw": "-0.004"})
    assert codec.read(noise).devices["PVS6M12345678p"].values["pv_power_w"] == 0.0
    reversed_ = changed(SEED, PVS6M12345678p={"p_3phsum_kw": "-2.4"})
    assert codec.read(reversed_).devices["PVS6M12345678p"].values["pv_power_w"] is None


@pytest.mark.parametrize(
    ("key", "raw", "name"),
    [
        ("freq_hz", "0", "grid_frequency_hz"),
        ("freq_hz", "600", "grid_frequency_hz"),
        ("t_htsnk_degc", "6553.5", "heat_sink_temperature_c"),
        ("v_mppt1_v", "-1", "pv_voltage_v"),
        ("ltea_3phsum_kwh", "nan", "pv_energy_total_kwh"),
        ("p_3phsum_kw", "1e30", "pv_power_w"),
    ],
)
def test_what_cannot_be_is_no_reading(key, raw, name):
    body = changed(SEED, E00123456789={key: raw})
    assert codec.read(body).devices["E00123456789"].values[name] is None


@pytest.mark.parametrize(
    "raw", ["2025,13,12,21,12,42", "2025,02,30,0,0,0", "2025-09-12", "", None, 5, "9" * 40]
)
def test_a_time_that_is_none(raw):
    inverter = codec.read(changed(SEED, E00123456789={"DATATIME": raw})).devices["E00123456789"]
    assert inverter.ts is None


@pytest.mark.parametrize("raw", ["1759247902", 1759247902, "1759247902000", 1759247902.0])
def test_the_live_time_in_seconds_or_milliseconds(raw):
    body = {"/sys/livedata/time": raw, "/sys/livedata/pv_p": "1"}
    assert codec.read(body).clock == datetime(2025, 9, 30, 15, 58, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "percent"), [("0x01", 10), ("0x0b", 100), ("0xffff", 100), ("x", None), (None, None)]
)
def test_the_wear_of_the_flash(raw, percent):
    body = {"/sys/info/serialnum": "ZT1", "/sys/pvs/flashwear_type_b": raw}
    assert codec.read(body).gateway.values.get("flash_wear_percent") == percent


@pytest.mark.parametrize(
    ("model", "build", "protocol"),
    [("PVS6", 61839, "dl_cgi"), ("PVS6", 61840, "localapi"), ("PVS5", 5407, "dl_cgi"),
     ("PV Supervisor PVS5", 5412, "localapi"), ("PVS6", None, None)],
)  # fmt: skip
def test_the_build_tells_the_protocol(model, build, protocol):
    assert codec.protocol_of(model, build) == protocol


@pytest.mark.parametrize(
    ("build", "firmware", "number"),
    [("61846", "x", 61846), (61846, None, 61846), (None, "2025.11, Build 5412", 5412),
     ("", "2025.09.04.61845", 61845), (None, "", None), (None, None, None), ("x", "2025", None)],
)  # fmt: skip
def test_where_the_build_stands(build, firmware, number):
    assert codec.build_of(build, firmware) == number


def test_kinds_that_are_not_read_are_named():
    body = changed(SEED)
    body["devices"] += [{"DEVICE_TYPE": "HUB+", "SERIAL": "SY1", "STATE": "error"}, {}]
    snapshot = codec.read(body)
    assert snapshot.unread == ("HUB+",)
    assert len(snapshot.devices) == 4


# -- what is no answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"status": 403, "text": '{ "status":403, "error" : "Unauthorized" }'}, "refused"),
        ({"status": 401, "body": {}}, "refused"),
        ({"status": 200, "body": {"status": 403, "error": "Unauthorized"}}, "refused"),
        ({"status": 200, "body": {"result": "error", "msg": "Could not connect"}}, "refused"),
        ({"status": 500, "text": ""}, "http"),
        ({"status": 502, "text": "<html>502 Bad Gateway</html>"}, "http"),
        ({"status": 404, "body": {"devices": []}}, "http"),
        ({"status": 200, "text": ""}, "empty"),
        ({"status": 200, "body": ""}, "empty"),
        ({"status": 200, "text": "<html>proxy</html>"}, "json"),
        ({"status": 200, "text": '{"devices":[{"SER'}, "json"),
        ({"status": 200, "body": [1]}, "json"),
        ({"status": 200, "body": None}, "json"),
        ({"status": 200, "text": "[" * 100_000}, "json"),
        ({"status": 200, "body": {"devices": "none"}}, "shape"),
        ({"status": 200, "body": {"devices": [5]}}, "shape"),
        ({"status": 200, "body": {"hello": "world"}}, "shape"),
        ({"status": 200, "body": {"supervisor": {"MODEL": "PVS6"}}}, "shape"),
        ({"status": "200", "body": {}}, "shape"),
        ({"status": 200}, "shape"),
    ],
)
def test_each_bad_answer_has_its_kind(request_, kind):
    with pytest.raises(FrameError) as caught:
        decode(request_)
    assert caught.value.kind == kind


def test_400_is_an_empty_result():
    assert decode({"status": 400, "text": '{"error":"no match"}'}) == {"devices": {}}


def test_a_cut_answer_is_never_read():
    text = json.dumps(DUSK["body"])
    for at in range(len(text)):
        with pytest.raises(FrameError):
            reply.parse(200, text[:at])


def test_ten_thousand_flipped_bits_bring_no_impossible_value():
    """HTTP leaves checksums to TCP and TLS: what is flipped may be JSON still, never nonsense."""
    source = random.Random(6)
    texts = [json.dumps(r["body"]).encode() for r in (SEED, BY_ID["vars-livedata-obj-ess"])]
    for _ in range(10_000):
        data = bytearray(source.choice(texts))
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        try:
            snapshot = codec.read(reply.parse(200, bytes(data)))
        except FrameError:
            continue
        for device in snapshot.devices.values():
            for name, value in device.values.items():
                if isinstance(value, float):
                    assert math.isfinite(value)
                    assert VOCABULARY[name].sign != POSITIVE or value >= 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=20,
)
keys = st.sampled_from(
    ["devices", "supervisor", "values", "sn", "/sys/info/serialnum", "/sys/devices/inverter/0/sn",
     "/sys/livedata/time", "notification", "params", "session", "/sys/devices/1/meter/data"]
)  # fmt: skip


@given(st.dictionaries(keys, json_values, max_size=4))
def test_any_json_is_read_or_refused(body):
    with contextlib.suppress(FrameError):
        codec.read(body)


def test_the_tables_name_only_what_the_vocabulary_has():
    rows = [*tables.INVERTER, *tables.SUPERVISOR, *tables.LIVE, *tables.STORAGE]
    rows += [*tables.TRANSFER_SWITCH, *(row for rows in tables.METER.values() for row in rows)]
    words = [*tables.STORAGE_WORDS, *tables.TRANSFER_SWITCH_WORDS]
    assert {row.name for row in [*rows, *words]} <= VOCABULARY.keys()
